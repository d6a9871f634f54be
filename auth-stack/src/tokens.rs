//! The token services of a stack: from configuration to one for each realm.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{Reports, TokenMemory};
use auth_core::{Audit, Clock, Ctx, Error, ErrorKind, Families, Fence, Realm, Result, TokenCache};
use auth_password::Guard;
use auth_store_redis::RedisFamilies;
use auth_store_sql::{SqlConfig, SqlFamilies, TlsMode};
use auth_token::{
    AccessFormat, Algorithm, FsaAlgorithm, FsaConfig, FsaFormat, GroupClaims, Jwk, JwtConfig, JwtFormat,
    KeyRing, MemoryFamilies, NoTokenCache, Parts, Profile, RefreshSecrets, RingConfig, Short, Throttle,
    TokenService, TokenSettings,
};
use zeroize::Zeroizing;

use crate::audit::LogAudit;
use crate::config::Config;
use crate::heir::Heir;
use crate::load::Loaded;
use crate::secret::shown_url;
use crate::shared::{kept_secret, redis};
use crate::token_config::{TokenFormat, TokenProfile};

/// The file in the data folder that sessions are kept in, if nothing else is configured.
const STORE_FILE: &str = "tokens.db";

/// The file in the data folder that keeps the secret of refresh tokens, if none is configured.
const SECRET_FILE: &str = "refresh.key";

/// The folder in the data folder for the keys of JWTs.
const KEYS_FOLDER: &str = "keys";

/// How many sessions, and as many revocations, are kept in memory at most.
const MEMORY: usize = 1 << 18;

/// How long a Redis that keeps sessions is waited for: nothing stands behind it, as behind a cache.
const REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// What else keys of JWTs are kept for after their last use, beside the life of a token.
const KEPT_LONGER: Duration = Duration::from_secs(3600);

/// The name under which a secret is noted in sessions: what it is made of tells nothing about it.
const SECRET_NAME: &str = "gatepost 2026-11 the name of a secret of refresh tokens";

/// Reports whether sessions are kept in a data folder.
pub(crate) fn are_kept_in(data: &Path) -> bool {
    data.join(STORE_FILE).exists()
}

/// The token services of a stack.
pub(crate) struct Tokens {
    pub(crate) services: BTreeMap<String, Arc<TokenService>>,
    pub(crate) families: Arc<dyn Families>,
    /// The url of the store, if it was configured. It may hold a password.
    place: Option<Zeroizing<String>>,
    pub(crate) ring: Option<Arc<KeyRing>>,
    pub(crate) memories: BTreeMap<String, Arc<TokenMemory>>,
}

/// What token services are made with.
pub(crate) struct Making<'a> {
    pub(crate) config: &'a Config,
    pub(crate) loaded: &'a Loaded,
    pub(crate) data: &'a Path,
    pub(crate) realms: &'a BTreeMap<String, Arc<Realm>>,
    pub(crate) fence: &'a Arc<Fence>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) cache: Option<&'a auth_cache::Settings>,
    pub(crate) guard: Option<&'a Arc<Guard>>,
    pub(crate) audit: &'a Arc<LogAudit>,
    pub(crate) heir: Option<&'a Heir<'a>>,
    /// Whether what is shared with other processes should be said to be theirs too.
    pub(crate) shares: bool,
    /// Whether a store of sessions may be one that can't be reached yet.
    pub(crate) goes_without: bool,
}

impl Making<'_> {
    /// Makes the services of all realms.
    pub(crate) async fn make(&self, warnings: &mut Vec<String>) -> Result<Tokens> {
        let section = &self.config.token;
        let origins = &self.loaded.origins;
        if section.audience.is_some() && self.realms.len() > 1 {
            let message = "realms that share an audience would take each other's tokens: leave it out, then it is the realm's name";
            return Err(origins.wrong(&["token", "audience"], message));
        }
        if section.fsa.realm.is_some() && self.realms.len() > 1 {
            let message = "realms that share a name would take each other's tokens: leave it out, then it is the realm's own";
            return Err(origins.wrong(&["token", "fsa", "realm"], message));
        }
        if section.format == TokenFormat::Fsa && section.profile != TokenProfile::Native {
            return Err(origins.wrong(&["token", "profile"], "this profile is of JWTs: leave `format` out"));
        }
        let settings = self.settings();
        settings.check().map_err(|error| origins.placed(error, &["token"]))?;
        let (families, place) = match self.kept_store() {
            Some(old) => (Arc::clone(&old.families), old.place.clone()),
            None => self.store(warnings).await?,
        };
        // Keys stay open as long as nothing about tokens has changed.
        let old = self.heir.filter(|heir| heir.same(&["token", "data"]));
        let old = old.and_then(|heir| heir.old().tokens.as_ref());
        let ring = match (old, section.format) {
            (_, TokenFormat::Fsa) => None,
            (Some(old), TokenFormat::Jwt) => old.ring.clone(),
            (None, TokenFormat::Jwt) => Some(Arc::new(self.ring()?)),
        };
        if section.store.as_deref().is_some_and(|url| url != "memory" && !url.starts_with("sqlite")) {
            if self.config.secrets.refresh_key.is_none() {
                warnings.push(format!(
                    "no secrets.refresh_key is configured: other processes renew the sessions of this one only if they have a copy of {}",
                    self.data.join(SECRET_FILE).display()
                ));
            }
            if ring.is_some() && section.keys.folder.is_none() && section.keys.key.is_none() {
                warnings.push(format!(
                    "no token.keys.folder is configured: other processes take the tokens of this one only if they share {}",
                    self.data.join(KEYS_FOLDER).display()
                ));
            }
        }
        if section.format == TokenFormat::Fsa {
            // In the tokens realms have a simpler name, which may be that of two.
            let mut names = BTreeMap::new();
            for realm in self.realms.keys() {
                let name = self.fsa(realm, &settings)?.first_field().to_owned();
                if let Some(other) = names.insert(name, realm) {
                    let message = format!(
                        "in these tokens the realms `{other}` and `{realm}` have one name, so that they would take each other's"
                    );
                    return Err(origins.wrong(&["token", "format"], &message));
                }
            }
        }
        let secrets = Arc::new(self.secrets()?);
        let mut services = BTreeMap::new();
        let mut memories = BTreeMap::new();
        for (name, realm) in self.realms {
            let memory = self.memory(name);
            let cache: Arc<dyn TokenCache> = match &memory {
                Some(memory) => Arc::clone(memory) as _,
                None => Arc::new(NoTokenCache),
            };
            memories.extend(memory.map(|memory| (name.clone(), memory)));
            let parts = Parts {
                realm: Arc::clone(realm),
                format: self.format(name, ring.as_ref(), &settings)?,
                families: Arc::clone(&families),
                cache,
                fence: Arc::clone(self.fence),
                clock: Arc::clone(self.clock),
                secrets: Arc::clone(&secrets),
            };
            let mut service = TokenService::new(parts, settings.clone())
                .map_err(|error| origins.placed(error, &["token"]))?
                .with_audit(Arc::clone(self.audit) as Arc<dyn Audit>);
            if section.groups {
                service = service.with_claims(Arc::new(GroupClaims));
            }
            if let Some(guard) = self.guard {
                service = service.with_throttle(Arc::new(Guarding(Arc::clone(guard))));
            }
            services.insert(name.clone(), Arc::new(service));
        }
        Ok(Tokens { services, families, place, ring, memories })
    }

    fn settings(&self) -> TokenSettings {
        let section = &self.config.token;
        let leeway = section.leeway.map_or_else(
            || match section.format {
                TokenFormat::Jwt => JwtConfig::new(self.profile()).leeway,
                TokenFormat::Fsa => section.fsa.grace.0,
            },
            |leeway| leeway.0,
        );
        let (access_ttl, longest) = section.lives();
        TokenSettings {
            access_ttl,
            jitter: section.jitter.0,
            leeway,
            longest,
            idle: section.refresh.idle.0,
            absolute: section.refresh.absolute.0,
            short: section.refresh.short.0,
            grace: section.refresh.grace.0,
            retries: section.refresh.retries,
            on_reuse: section.refresh.on_reuse.into(),
            scopes: section.scopes.clone(),
            ..TokenSettings::default()
        }
    }

    const fn profile(&self) -> Profile {
        match self.config.token.profile {
            TokenProfile::Native => Profile::Native,
            TokenProfile::Ampho => Profile::Ampho,
            TokenProfile::Twopi => Profile::Twopi,
        }
    }

    /// The store of the stack before, if it is where this one's is to be, and asked in the same way.
    fn kept_store(&self) -> Option<&Tokens> {
        let heir = self.heir?;
        let old = heir.old().tokens.as_ref()?;
        let now = self.config.token.store.as_deref();
        let same = old.place.as_ref().map(|place| place.as_str()) == now
            && heir.old().config.token.tls == self.config.token.tls
            && heir.same(&["data"])
            // The prefix and the certificates of a Redis are the cache's.
            && (heir.same(&["cache"]) || now.is_none_or(|url| !url.starts_with("redis") && !url.starts_with("valkey")));
        same.then_some(old)
    }

    /// Opens where sessions are kept.
    async fn store(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(Arc<dyn Families>, Option<Zeroizing<String>>)> {
        let origins = &self.loaded.origins;
        let path = ["token", "store"];
        let url = match &self.config.token.store {
            Some(url) => url.clone(),
            None => {
                if self.shares {
                    warnings.push(
                        "token.store is not set: sessions are kept on this machine alone, though the cache is shared with others"
                            .to_owned(),
                    );
                }
                let file = self.in_data(STORE_FILE, &path)?;
                format!("sqlite:{}", file.replace('%', "%25").replace('?', "%3f"))
            }
        };
        let shown = shown_url(&url);
        let placed = |error: Error| origins.placed(error, &path);
        let scheme = url.split_once(':').map_or(url.as_str(), |(scheme, _)| scheme);
        let families: Arc<dyn Families> = match scheme {
            "memory" => {
                warnings.push(
                    "token.store is `memory`: with this process all sessions and revocations are gone"
                        .to_owned(),
                );
                Arc::new(MemoryFamilies::new(MEMORY))
            }
            "sqlite" | "postgres" | "postgresql" | "mysql" | "mariadb" => {
                let mut config = SqlConfig::new(&url);
                config.tls = self.config.token.tls.clone();
                let store = SqlFamilies::new(&config).map_err(placed)?;
                if let Err(error) = store.ready().await.map_err(placed) {
                    if !self.goes_without || !error.kind().is_temporary() {
                        return Err(error);
                    }
                    tracing::error!(
                        %error,
                        "started without the store of sessions: tokens are neither given nor taken until it can be reached"
                    );
                }
                Arc::new(store)
            }
            scheme if scheme.starts_with("redis") || scheme.starts_with("valkey") => {
                let mut config = redis(&url, &self.config.cache);
                let tls = &self.config.token.tls;
                if tls.mode.is_some_and(|mode| mode != TlsMode::VerifyFull) {
                    let message =
                        "of a Redis everything is checked, if its url begins with rediss: leave `mode` out";
                    return Err(origins.wrong(&["token", "tls", "mode"], message));
                }
                for (key, file, pem) in [
                    ("ca", &tls.ca, &mut config.tls.ca),
                    ("cert", &tls.cert, &mut config.tls.cert),
                    ("key", &tls.key, &mut config.tls.key),
                ] {
                    if let Some(file) = file {
                        *pem = Some(self.pem(key, file)?);
                    }
                }
                config.timeout = REDIS_TIMEOUT;
                Arc::new(RedisFamilies::new(&config).map_err(placed)?)
            }
            scheme if scheme.starts_with("memcached") => {
                let message = "memcached forgets when it likes: a session or a revocation may be gone at any moment; say the url of a database or a Redis";
                return Err(origins.wrong(&path, message));
            }
            _ => {
                let message = format!(
                    "`{shown}` is no store of sessions: sqlite:, postgres:, mysql:, redis: or memory"
                );
                return Err(origins.wrong(&path, &message));
            }
        };
        Ok((families, self.config.token.store.clone().map(Zeroizing::new)))
    }

    /// What is in a file of certificates or of a key.
    fn pem(&self, key: &str, file: &Path) -> Result<Vec<u8>> {
        std::fs::read(file).map_err(|error| {
            let message = format!("can't read {}: {error}", file.display());
            self.loaded.origins.wrong(&["token", "tls", key], &message)
        })
    }

    /// The keys of JWTs.
    fn ring(&self) -> Result<KeyRing> {
        let keys = &self.config.token.keys;
        let origins = &self.loaded.origins;
        let algorithm = match &keys.algorithm {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or_else(|| {
                let known = Algorithm::ALL.iter().map(|known| known.name());
                origins.unknown(&["token", "keys", "algorithm"], "algorithm", name, known)
            })?),
        };
        if let Some(text) = &keys.key {
            let path = ["token", "keys", "key"];
            let placed = |error: Error| origins.placed(error, &path);
            let key = Jwk::parse(text, Short::Refused).map_err(placed)?;
            return KeyRing::fixed(key, algorithm).map_err(placed);
        }
        let folder = match &keys.folder {
            Some(folder) => folder.clone(),
            None => self.in_data(KEYS_FOLDER, &["token", "keys", "folder"])?.into(),
        };
        let mut ring = RingConfig::new(folder);
        ring.algorithm = algorithm.unwrap_or(ring.algorithm);
        ring.bits = keys.bits;
        ring.publish = keys.publish.0;
        ring.every = (!keys.every.0.is_zero()).then_some(keys.every.0);
        let (ttl, longest) = self.config.token.lives();
        ring.keep = longest.max(ttl) + KEPT_LONGER;
        KeyRing::open(ring, self.clock.wall()).map_err(|error| origins.placed(error, &["token", "keys"]))
    }

    /// What refresh tokens are derived from: what is configured, or what is in the data folder.
    fn secrets(&self) -> Result<RefreshSecrets> {
        let path = ["secrets", "refresh_key"];
        let origins = &self.loaded.origins;
        let secrets = match &self.config.secrets.refresh_key {
            Some(given) => given.all().to_vec(),
            None => {
                let file = self.data.join(SECRET_FILE);
                let _name = self.in_data(SECRET_FILE, &path)?;
                vec![kept_secret(self.data, &file, "the secret of refresh tokens")?]
            }
        };
        let named = secrets.into_iter().map(|secret| {
            let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key(SECRET_NAME, secret.as_bytes());
            (format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h])), secret.into_bytes())
        });
        RefreshSecrets::new(named).map_err(|error| origins.placed(error, &path))
    }

    fn format(
        &self,
        realm: &str,
        ring: Option<&Arc<KeyRing>>,
        settings: &TokenSettings,
    ) -> Result<Arc<dyn AccessFormat>> {
        let section = &self.config.token;
        let origins = &self.loaded.origins;
        if let Some(ring) = ring {
            let mut config = JwtConfig::new(self.profile());
            let native = section.profile == TokenProfile::Native;
            config.issuer = section.issuer.clone().or_else(|| native.then(|| "gatepost".to_owned()));
            config.audience = section.audience.clone().or_else(|| native.then(|| realm.to_owned()));
            if !native && self.realms.len() > 1 {
                let message =
                    "tokens of this profile do not say of which realm they are: it is for one realm";
                return Err(origins.wrong(&["token", "profile"], message));
            }
            config.leeway = settings.leeway;
            let format = JwtFormat::new(config, Arc::clone(ring), self.clock.wall());
            return Ok(Arc::new(format.map_err(|error| origins.placed(error, &["token"]))?));
        }
        Ok(Arc::new(self.fsa(realm, settings)?))
    }

    fn fsa(&self, realm: &str, settings: &TokenSettings) -> Result<FsaFormat> {
        let section = &self.config.token;
        let origins = &self.loaded.origins;
        let fsa = &section.fsa;
        let Some(secret) = &fsa.secret else {
            return Err(origins.wrong(
                &["token", "fsa"],
                "these tokens need the secret of the applications that share them: token.fsa.secret",
            ));
        };
        let mut config = FsaConfig::new(fsa.realm.as_deref().unwrap_or(realm), secret.as_bytes());
        config.issuer.clone_from(&section.issuer);
        config.algorithm = FsaAlgorithm::from_name(&fsa.algorithm).ok_or_else(|| {
            let known = FsaAlgorithm::ALL.iter().map(|known| known.name());
            origins.unknown(&["token", "fsa", "algorithm"], "algorithm", &fsa.algorithm, known)
        })?;
        config.length = fsa.length;
        config.grace = settings.leeway;
        FsaFormat::new(config).map_err(|error| origins.placed(error, &["token", "fsa"]))
    }

    /// Where validated tokens are remembered: what the stack before has, if nothing about caches has changed.
    fn memory(&self, realm: &str) -> Option<Arc<TokenMemory>> {
        let settings = self.cache?;
        let kept = self.heir.filter(|heir| heir.keeps_caches() && heir.same(&["token"])).and_then(|heir| {
            let same = heir.old().realm(realm)?.id() == self.realms.get(realm)?.id();
            heir.old().tokens.as_ref()?.memories.get(realm).filter(|_| same)
        });
        let make = || {
            let (fence, clock) = (Arc::clone(self.fence), Arc::clone(self.clock));
            Arc::new(TokenMemory::new(realm, fence, clock, settings))
        };
        Some(kept.map_or_else(make, Arc::clone))
    }

    /// A place in the data folder, which there must be.
    fn in_data(&self, name: &str, path: &[&str]) -> Result<String> {
        if self.data.as_os_str().is_empty() {
            let message = "tokens need this, or a data folder to keep one in";
            return Err(self.loaded.origins.wrong(path, message));
        }
        crate::data::prepare(self.data)?;
        let place = self.data.join(name);
        let text = place.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::new(ErrorKind::Misconfigured, "the name of the data folder is not UTF-8"))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("families", &self.families)
            .field("place", &self.place.as_deref().map(|url| shown_url(url)))
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// The reports of what validated tokens are remembered in.
    pub(crate) fn reports(&self) -> impl Iterator<Item = (&String, Arc<dyn Reports>)> {
        self.memories.iter().map(|(realm, memory)| (realm, Arc::clone(memory) as Arc<dyn Reports>))
    }
}

/// Has the guard count refresh tokens that are not good.
#[derive(Debug)]
struct Guarding(Arc<Guard>);

#[async_trait]
impl Throttle for Guarding {
    async fn wrong(&self, ctx: &Ctx, shown: &[u8]) -> Result<()> {
        self.0.wrong_token(ctx, shown).await
    }
}
