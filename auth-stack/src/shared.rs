//! The shared cache and the bus: from configuration to what the wrappers are given.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{
    Build, CacheKeys, Carrier, CarrierStats, Hearing, HearingStats, LaneReport, MemcachedConfig,
    MemcachedTier, NoTable, SealKind, Settings, SharedCache, TableFactory,
};
use auth_core::{Bus, ByteTier, Clock, Ear, Error, ErrorKind, Fence, Listening, Outward, Reached, Result};
use auth_password::Guard;
use auth_store_redis::{RedisBus, RedisConfig, RedisCounters, RedisTier};
use auth_store_sql::{PostgresBus, SqlConfig};

use crate::config::{CacheConfig, CacheTls, Config, Span};
use crate::data;
use crate::load::Loaded;
use crate::origins::Origins;
use crate::secret::shown_url;

/// Where a shared cache is looked for if nobody says where it is.
const REDIS: &str = "redis://127.0.0.1:6379/0";
const MEMCACHED: &str = "memcached://127.0.0.1:11211";

/// How long a process keeps what others may have voided unheard, if nobody says how long.
const UNHEARD: Duration = Duration::from_secs(10);

/// The file in the data folder that keeps the key of the shared cache, if none is configured.
const KEY_FILE: &str = "cache.key";

/// The shortest secret to make keys of, in bytes.
const SHORTEST: usize = 32;

/// A shared cache by what speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Redis,
    Memcached,
}

/// What is configured beyond this process.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) tier: Option<(Speaks, String)>,
    pub(crate) bus: Option<String>,
    /// How long this process keeps an answer at most.
    pub(crate) local_ttl: Option<Duration>,
    /// Whether it keeps any.
    pub(crate) local: bool,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The urls may hold passwords.
        let Self { tier, bus, local_ttl, local } = self;
        f.debug_struct("Plan")
            .field("tier", &tier.as_ref().map(|(speaks, url)| (speaks, shown_url(url))))
            .field("bus", &bus.as_deref().map(shown_url))
            .field("local_ttl", local_ttl)
            .field("local", local)
            .finish()
    }
}

/// What a stack shares with other processes.
#[derive(Debug)]
pub(crate) struct Beyond {
    pub(crate) plan: Plan,
    pub(crate) shared: Option<Arc<SharedCache>>,
    pub(crate) hearing: Option<Arc<Hearing>>,
    pub(crate) carrier: Arc<Carrier>,
    bus: Option<&'static str>,
    _listening: Option<Listening>,
}

/// What a stack shares with other processes, as it is now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SharedReport {
    /// The kind of the shared cache, if there is one.
    pub cache: Option<&'static str>,
    /// Its lanes: what is on one server.
    pub lanes: Vec<LaneReport>,
    /// The kind of the bus, if there is one.
    pub bus: Option<&'static str>,
    /// What came over the bus.
    pub hearing: Option<HearingStats>,
    /// What was carried, and what waits.
    pub carried: CarrierStats,
}

impl Beyond {
    pub(crate) fn report(&self) -> SharedReport {
        SharedReport {
            cache: self.shared.as_ref().map(|shared| shared.kind()),
            lanes: self.shared.as_ref().map(|shared| shared.lanes()).unwrap_or_default(),
            bus: self.bus,
            hearing: self.hearing.as_ref().map(|hearing| hearing.stats()),
            carried: self.carrier.stats(),
        }
    }
}

/// Reads what is configured beyond this process, and makes the tables' factory of the kinds that are shared.
pub(crate) fn plan(
    build: Option<Build>,
    config: &CacheConfig,
    loaded: &Loaded,
    warnings: &mut Vec<String>,
) -> Result<(Plan, Option<TableFactory>)> {
    let origins = &loaded.origins;
    let is_set = |key: &str| loaded.table.get("cache").is_some_and(|cache| cache.get(key).is_some());
    let kind = config.kind.as_str();
    let mut plan = Plan { tier: None, bus: None, local_ttl: None, local: true };
    let factory: Option<TableFactory> = match build {
        Some(Build::Shared) => {
            plan.local = false;
            for key in ["size", "refresh_ahead", "local", "local_ttl"] {
                if is_set(key) {
                    let why = format!(
                        "cache.{key} is for nothing: with the kind `{kind}` this process keeps no answer"
                    );
                    warnings.push(why);
                }
            }
            if !config.stale_if_error.0.is_zero() {
                let message =
                    format!("`{kind}` keeps nothing past its life: choose tiered, or take this out");
                return Err(origins.wrong(&["cache", "stale_if_error"], &message));
            }
            Some(Arc::new(|_| Arc::new(NoTable)))
        }
        Some(Build::Tiered) => {
            let local = config.local.as_deref().unwrap_or("ttl");
            let known = auth_cache::kinds().iter().filter(|kind| kind.factory().is_some());
            let found = known.clone().find(|known| known.name == local).and_then(auth_cache::Kind::factory);
            let names = known.map(|kind| kind.name);
            Some(found.ok_or_else(|| origins.unknown(&["cache", "local"], "kind of table", local, names))?)
        }
        _ => {
            for key in ["local", "seal", "timeout", "connect_timeout", "tls"] {
                let speaks = config.bus.as_deref().is_some_and(|bus| bus != "none");
                if is_set(key) && (key == "local" || !speaks) {
                    warnings.push(format!(
                        "cache.{key} is for nothing: the kind `{kind}` is in this process alone"
                    ));
                }
            }
            None
        }
    };
    if let Some(build @ (Build::Shared | Build::Tiered)) = build {
        let url = config
            .url
            .clone()
            .unwrap_or_else(|| if kind == "memcached" { MEMCACHED.to_owned() } else { REDIS.to_owned() });
        plan.tier = Some((speaks(build, kind, &url, origins)?, url));
        if config.prefix.is_empty() {
            let message = "a shared cache needs a prefix, so that nobody else's keys are taken for ours";
            return Err(origins.wrong(&["cache", "prefix"], message));
        }
    }
    // Also who keeps nothing and hears nothing tells the others: they may keep what is void.
    plan.bus = match (config.bus.as_deref(), &plan.tier) {
        (Some("none"), _) => None,
        (Some(url), _) => Some(url.to_owned()),
        (None, Some((Speaks::Redis, url))) => Some(url.clone()),
        (None, _) => None,
    };
    if let Some(bus) = &plan.bus
        && !is_redis(bus)
        && !is_postgres(bus)
    {
        let message =
            format!("`{}` is no bus: say the url of a Redis or a PostgreSQL, or none", shown_url(bus));
        return Err(origins.wrong(&["cache", "bus"], &message));
    }
    if !plan.local {
        return Ok((plan, factory));
    }
    let unheard = plan.tier.is_some() && plan.bus.is_none();
    plan.local_ttl = match config.local_ttl {
        Some(Span(most)) => Some(most),
        None if unheard => Some(UNHEARD),
        None => None,
    };
    if plan.local_ttl.is_some() && !config.stale_if_error.0.is_zero() {
        warnings.push(
            "cache.stale_if_error is for little: what this process keeps ends with cache.local_ttl, and then stands in \
             for nobody"
                .to_owned(),
        );
    }
    if unheard && let Some(most) = plan.local_ttl {
        warnings.push(format!(
            "there is no bus: what another process invalidates, this one may answer from memory for another {most:?} \
             (cache.local_ttl)"
        ));
    }
    Ok((plan, factory))
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

fn is_redis(url: &str) -> bool {
    ["redis", "rediss"].iter().any(|scheme| url.starts_with(scheme) && url.contains("://"))
}

fn speaks(build: Build, kind: &str, url: &str, origins: &Origins) -> Result<Speaks> {
    let found = match url {
        url if is_redis(url) => Some(Speaks::Redis),
        url if url.starts_with("memcached") && url.contains("://") => Some(Speaks::Memcached),
        _ => None,
    };
    let fits = match (build, kind) {
        (Build::Tiered, _) => found,
        (_, "memcached") => found.filter(|found| *found == Speaks::Memcached),
        _ => found.filter(|found| *found == Speaks::Redis),
    };
    fits.ok_or_else(|| {
        let wanted = match (build, kind) {
            (Build::Tiered, _) => {
                "redis://, rediss://, redis+unix://, redis-sentinel://, redis-cluster:// or memcached://"
            }
            (_, "memcached") => "memcached://",
            _ => "redis://, rediss://, redis+unix://, redis-sentinel:// or redis-cluster://",
        };
        let message = format!("the kind `{kind}` takes a url that begins with {wanted}");
        origins.wrong(&["cache", "url"], &message)
    })
}

/// What a plan is made with.
pub(crate) struct Making<'a> {
    pub(crate) config: &'a Config,
    pub(crate) loaded: &'a Loaded,
    /// The data folder; empty if there is none.
    pub(crate) folder: &'a Path,
    pub(crate) fence: &'a Arc<Fence>,
    pub(crate) clock: &'a Arc<dyn Clock>,
}

impl Plan {
    /// Reports whether there is a shared cache.
    pub(crate) const fn is_shared(&self) -> bool {
        self.tier.is_some()
    }

    /// Makes what is planned, and gives it to the settings of every wrapper and to the fence. Nothing is connected
    /// yet: a shared cache that is down is no reason not to start.
    pub(crate) fn make(
        &self,
        making: &Making<'_>,
        settings: &mut Settings,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Beyond>> {
        settings.local_ttl = self.local_ttl;
        match (&self.tier, &self.bus) {
            (None, None) => Ok(None),
            _ => make(self, making, settings, warnings).map(Some),
        }
    }
}

fn make(
    plan: &Plan,
    making: &Making<'_>,
    settings: &mut Settings,
    warnings: &mut Vec<String>,
) -> Result<Beyond> {
    let Making { config, loaded, folder, fence, clock } = *making;
    let (origins, cache) = (&loaded.origins, &config.cache);
    let keys = keys(config, origins, folder, warnings)?;
    let seal = cache.seal.0;
    if seal == SealKind::Off {
        warnings.push(
            "cache.seal is off: whoever can read the shared cache reads stored hashes, and whoever can write to it decides \
             who may do what"
                .to_owned(),
        );
    }
    let placed = |error: Error, key| origins.placed(error, &["cache", key]);
    let shared = match &plan.tier {
        None => None,
        Some((speaks, url)) => {
            let tier: Arc<dyn ByteTier> = match speaks {
                Speaks::Redis => {
                    let redis = redis(url, cache);
                    Arc::new(RedisTier::new(&redis).map_err(|error| placed(error, "url"))?)
                }
                Speaks::Memcached => {
                    let mut memcached = MemcachedConfig::new(url, &cache.prefix);
                    memcached.timeout = cache.timeout.0;
                    memcached.connect_timeout = cache.connect_timeout.0;
                    let tier = MemcachedTier::new(memcached, Arc::clone(clock));
                    Arc::new(tier.map_err(|error| placed(error, "url"))?)
                }
            };
            Some(Arc::new(SharedCache::new(tier, &keys, seal, Arc::clone(clock))?))
        }
    };
    let (mut hearing, mut listening, mut bus, mut name) = (None, None, None, None);
    if let Some(url) = &plan.bus {
        let key = if cache.bus.is_some() { "bus" } else { "url" };
        let made = bus_at(url, cache).map_err(|error| placed(error, key))?;
        let ear = Arc::new(Hearing::new(Arc::clone(fence), &keys, seal)?);
        name = Some(made.kind());
        if plan.local {
            listening = Some(made.listen(Arc::new(Telling(Arc::clone(&ear))))?);
            settings.hearing = Some(Arc::clone(&ear));
            hearing = Some(Arc::clone(&ear));
        }
        bus = Some((made, ear));
    }
    settings.shared.clone_from(&shared);
    let lifetimes = Arc::clone(&settings.lifetimes);
    // Other processes may let old answers stand in as this one does.
    let stale = config.cache.stale_if_error.0;
    let carrier =
        Carrier::start(shared.clone(), bus, Arc::clone(clock), move || lifetimes.longest() + stale)?;
    let carrier = Arc::new(carrier);
    fence.carry_on(Arc::clone(&carrier) as Arc<dyn Outward>);
    Ok(Beyond { plan: plan.clone(), shared, hearing, carrier, bus: name, _listening: listening })
}

fn bus_at(url: &str, cache: &CacheConfig) -> Result<Arc<dyn Bus>> {
    if !is_postgres(url) {
        return Ok(Arc::new(RedisBus::new(&redis(url, cache))?));
    }
    let CacheTls { ca, cert, key } = &cache.tls;
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    let bus = PostgresBus::new(&SqlConfig::new(url), &cache.prefix)?;
    Ok(Arc::new(bus.with_tls(bytes(ca), bytes(cert).zip(bytes(key)))))
}

/// A Redis with the prefix, limits and certificates of the cache.
pub(crate) fn redis(url: &str, cache: &CacheConfig) -> RedisConfig {
    let mut redis = RedisConfig::new(url, &cache.prefix);
    redis.timeout = cache.timeout.0;
    redis.connect_timeout = cache.connect_timeout.0;
    if url.starts_with("rediss") {
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        (redis.tls.ca, redis.tls.cert, redis.tls.key) =
            (bytes(&cache.tls.ca), bytes(&cache.tls.cert), bytes(&cache.tls.key));
    }
    redis
}

/// Has a guard count together with those of other processes, where there is a Redis to count in.
pub(crate) fn together(
    guard: Guard,
    plan: Option<&Plan>,
    config: &Config,
    origins: &Origins,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Result<Guard> {
    let cached =
        plan.and_then(|plan| plan.tier.as_ref()).filter(|(speaks, _)| matches!(speaks, Speaks::Redis));
    let url = match (config.guard.url.as_deref(), cached) {
        (Some("none"), _) | (None, None) => return Ok(guard),
        (Some(url), _) if is_redis(url) => url,
        (Some(url), _) => {
            let message = format!("`{}` counts nothing: say the url of a Redis, or none", shown_url(url));
            return Err(origins.wrong(&["guard", "url"], &message));
        }
        (None, Some((_, url))) => url,
    };
    let counters = RedisCounters::new(&redis(url, &config.cache));
    let counters = counters.map_err(|error| origins.placed(error, &["guard", "url"]))?;
    // Who shares a cache has been told what there is to warn of.
    let told = plan.is_some_and(|plan| plan.tier.is_some() || plan.bus.is_some());
    let mut unsaid = Vec::new();
    let secrets = secrets(config, origins, folder, if told { &mut unsaid } else { warnings })?;
    let secret = secrets.first().map_or("", String::as_str);
    Ok(guard.with_shared(Arc::new(counters), secret.as_bytes()))
}

/// The keys that are configured; else the one in the data folder, which is made if need be.
fn keys(config: &Config, origins: &Origins, folder: &Path, warnings: &mut Vec<String>) -> Result<CacheKeys> {
    let secrets = secrets(config, origins, folder, warnings)?;
    // Who has the same secret calls it the same.
    let named = secrets.into_iter().map(|secret| {
        let id = blake3::derive_key("gatepost 2026-11 the name of a cache key", secret.as_bytes());
        let [a, b, c, d, ..] = id;
        (format!("{:08x}", u32::from_be_bytes([a, b, c, d])), secret.into_bytes())
    });
    let keys = CacheKeys::new(&config.cache.prefix, named);
    keys.map_err(|error| origins.placed(error, &["secrets", "cache_key"]))
}

fn secrets(
    config: &Config,
    origins: &Origins,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>> {
    let secrets = match &config.secrets.cache_key {
        Some(given) => given.all().to_vec(),
        None => {
            let file = folder.join(KEY_FILE);
            warnings.push(format!(
                "no secrets.cache_key is configured: other processes share with this one only if they have a copy of {}",
                file.display()
            ));
            vec![kept_secret(folder, &file, "the key of the shared cache")?]
        }
    };
    if let Some(at) = secrets.iter().position(|secret| secret.len() < SHORTEST) {
        let message =
            format!("a key has {SHORTEST} characters at least; make one with `openssl rand -hex 32`");
        return Err(origins.wrong(&["secrets", "cache_key", &at.to_string()], &message));
    }
    Ok(secrets)
}

/// A secret in the data folder, which is made if need be: 64 hexadecimal digits.
pub(crate) fn kept_secret(folder: &Path, file: &Path, what: &'static str) -> Result<String> {
    let wrong = |why: &'static str, error: &dyn fmt::Display| {
        Error::new(ErrorKind::Misconfigured, format!("{why} {what}"))
            .with("file", file.display())
            .with("cause", error)
    };
    if folder.as_os_str().is_empty() {
        let message = "is needed: configure it, or a data folder to keep one in";
        return Err(Error::new(ErrorKind::Misconfigured, format!("{what} {message}")));
    }
    data::prepare(folder)?;
    let unreadable = |error: std::io::Error| wrong("can't read", &error);
    // What is there needs no room on the disk, nor the right to write.
    let found = match std::fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = fresh_secret()?;
            if put_first(file, &secret).map_err(|error| wrong("can't make", &error))? == Put::Ours {
                return Ok(secret);
            }
            std::fs::File::open(file).map_err(unreadable)?
        }
        found => found.map_err(unreadable)?,
    };
    if data::anybody_may_write(&found) {
        return Err(wrong("can't trust", &data::ANYBODY));
    }
    let mut text = String::new();
    found.take(4096).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text.trim_end().to_owned())
}

fn fresh_secret() -> Result<String> {
    let mut bytes = [0; SHORTEST];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, "there is no randomness").with("cause", error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whose secret is in a file.
#[derive(PartialEq, Eq)]
enum Put {
    Ours,
    Others,
}

/// Puts a secret in a file, unless another process is first.
fn put_first(file: &Path, secret: &str) -> std::io::Result<Put> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    // Under another name first: nobody finds half of one.
    let name = fresh_secret().map_err(std::io::Error::other)?;
    let fresh = file.with_extension(format!("{}.new", name.get(..16).unwrap_or_default()));
    let made = options.open(&fresh).and_then(|mut made| {
        made.write_all(secret.as_bytes())?;
        made.sync_all()?;
        // Fails where there is one, which is then the one to use.
        std::fs::hard_link(&fresh, file)
    });
    let _ = std::fs::remove_file(&fresh);
    match made {
        Ok(()) => Ok(Put::Ours),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && file.exists() => Ok(Put::Others),
        Err(error) => Err(error),
    }
}

/// Hears, and tells the log when it can and can't.
#[derive(Debug)]
struct Telling(Arc<Hearing>);

impl Ear for Telling {
    fn heard(&self, message: &[u8]) {
        self.0.heard(message);
    }

    fn lost(&self) {
        let was_deaf = self.0.is_deaf();
        self.0.lost();
        if !was_deaf {
            tracing::warn!("the bus is lost: this process keeps no answers until it hears again");
        }
    }

    fn back(&self) {
        self.0.back();
        tracing::info!("this process hears of invalidations, and keeps answers");
    }
}

/// Says in the log how far an invalidation got, if that is not everywhere.
pub(crate) fn tell(reached: Reached) -> Reached {
    if let Reached::Partial { shared, bus } = reached {
        tracing::warn!(shared, bus, "an invalidation is not everywhere yet, and is tried again");
    }
    reached
}
