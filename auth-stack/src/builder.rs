//! From a configuration to a [`Stack`]: the fixed order of wrappers is written here and nowhere else.
//!
//! Realm > chain > per source: hashed (with the memo) > cached > watched > store; for groups and rights:
//! realm > union or router > linked > cached > watched > store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Build, Cached, Fenced, OwnerTable, Reports, Settings, TableFactory, Ttls};
use auth_core::{
    AccountSource, Audit, ByLogin, ChainEntry, Clock, DomainRouter, Error, ErrorKind, Fence, Fingerprint,
    GroupOracle, GroupUnion, Health, Link, Linked, Next, ObjectPerms, Owners, PasswordChain, PasswordSource,
    Realm, RealmId, Result, Role, SourceInfo, Watched, check_name,
};
use auth_password::{Hashed, Hasher, HasherConfig, Limits, MemoConfig, Policy, Preferred, Quality, Scheme};
use toml::{Table, Value};

use crate::audit::LogAudit;
use crate::clock::SystemClock;
use crate::config::{
    AcceptWeak, Config, LinkKind, NextName, PasswordConfig, PreferredScheme, RealmConfig, RoleName,
    SourceCommon,
};
use crate::data;
use crate::load::Loaded;
use crate::source::{self, Opening, Passwords, Provides, SourceKind};
use crate::stack::{Cache, Source, Stack};

/// The name of the source and of the realm that are there without any configuration.
const EMBEDDED: &str = "local";
const DEFAULT_REALM: &str = "default";

/// The logins whose source is remembered.
const OWNERS: usize = 262_144;

/// Composes a [`Stack`]: from a file, from text, from the environment, with kinds of your own.
pub struct Builder {
    file: Option<PathBuf>,
    text: Option<String>,
    environment: BTreeMap<String, String>,
    data: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    sources: BTreeMap<String, Arc<dyn SourceKind>>,
    caches: BTreeMap<String, TableFactory>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Builder").field("file", &self.file).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            file: None,
            text: None,
            environment: BTreeMap::new(),
            data: None,
            clock: Arc::new(SystemClock::new()),
            sources: source::built_in().into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect(),
            caches: BTreeMap::new(),
        }
    }

    /// Reads the process's environment.
    #[must_use]
    pub fn env(mut self) -> Self {
        self.environment.extend(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        self
    }

    /// Sets one name of the environment, over what was read.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Reads this file, and not the one that `GATEPOST_CONFIG` names.
    #[must_use]
    pub fn config_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Takes this text for the file's.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Sets the data folder.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes `kind = "name"` known for sources.
    #[must_use]
    pub fn register_source(mut self, name: &str, kind: impl SourceKind + 'static) -> Self {
        self.sources.insert(name.to_owned(), Arc::new(kind));
        self
    }

    /// Makes `kind = "name"` known for the cache: a table of entries for a number of them.
    #[must_use]
    pub fn register_cache(mut self, name: &str, table: TableFactory) -> Self {
        self.caches.insert(name.to_owned(), table);
        self
    }

    /// Reads and checks the configuration, without opening anything.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place.
    pub fn load(&self) -> Result<(Loaded, Config)> {
        let named =
            self.environment.get("GATEPOST_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let file = match (&self.text, self.file.clone().or(named)) {
            (Some(text), _) => Some((PathBuf::from("gatepost.toml"), text.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Error::new(ErrorKind::Misconfigured, format!("can't read {}: {error}", path.display()))
                })?;
                Some((path, text))
            }
            (None, None) => None,
        };
        let loaded = Loaded::read(file, &self.environment)?;
        let config = loaded.config()?;
        Ok((loaded, config))
    }

    /// Finds the data folder, without making it.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place.
    pub fn data_folder(&self) -> Result<PathBuf> {
        self.folder(&self.load()?.1)
    }

    fn folder(&self, config: &Config) -> Result<PathBuf> {
        data::folder(self.data.as_deref().or(config.data.as_deref()), &self.environment)
    }

    /// Composes the stack for a server: makes the data folder, and tells whether the embedded store is new.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_for_server(self) -> Result<(Stack, bool)> {
        let (_, config) = self.load()?;
        let folder = self.folder(&config)?;
        data::prepare(&folder)?;
        let new = config.source.is_empty() && !embedded(&folder).exists();
        Ok((self.build().await?, new))
    }

    /// Composes the stack: opens every source, and checks that everything named is provided.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place; temporary kinds if a source can't be
    /// reached.
    pub async fn build(self) -> Result<Stack> {
        let (mut loaded, mut config) = self.load()?;
        let data = self.folder(&config)?;
        if config.source.is_empty() {
            data::prepare(&data)?;
            embed(&mut loaded, &data);
            config = loaded.config()?;
        }

        let clock = Arc::clone(&self.clock);
        let policy = policy(&config.password, &loaded)?;
        let hasher_config =
            HasherConfig { threads: threads(config.password.threads), queue: config.password.queue };
        let mut assembly = Assembly {
            cache: self.cache(&config, &loaded)?,
            memo: config.password.memo,
            hasher: Arc::new(Hasher::new(hasher_config, policy, Arc::clone(&clock))?),
            fence: Arc::new(Fence::new()),
            owners: Arc::new(OwnerTable::new(OWNERS, Arc::clone(&clock))),
            audit: Arc::new(LogAudit::default()),
            clock,
            sources: BTreeMap::new(),
            commons: BTreeMap::new(),
            caches: Vec::new(),
            loaded: &loaded,
        };
        for (name, table) in &config.source {
            self.open(&mut assembly, name, table, &data).await?;
        }
        if config.realm.is_empty() {
            config.realm.insert(DEFAULT_REALM.to_owned(), assembly.default_realm()?);
        }
        let mut realms = BTreeMap::new();
        for (name, realm) in &config.realm {
            let id = RealmId::new(name, realm.login.0)?;
            realms.insert(name.clone(), Arc::new(assembly.realm(id, realm, config.server.limit.0)?));
        }
        let directories = assembly.directories(&config.realm)?;
        for (path, realm) in std::iter::once((vec!["server", "realm"], &config.server.realm))
            .chain(config.server.hosts.iter().map(|(host, realm)| (vec!["server", "hosts", host], realm)))
        {
            // The default of the setting matters only where there is such a realm.
            let unset = path == ["server", "realm"] && realm == DEFAULT_REALM;
            if !realms.contains_key(realm) && !unset {
                return Err(loaded.origins.unknown(&path, "realm", realm, realms.keys().map(String::as_str)));
            }
        }
        let Assembly { hasher, fence, owners, audit, clock, sources, caches, .. } = assembly;
        for (name, source) in sources.iter().filter(|(_, source)| !source.used) {
            tracing::warn!(source = %name, kind = %source.kind, "no realm uses this source");
        }
        let quality = quality(&config.password, &loaded)?;
        Ok(Stack {
            realms,
            sources,
            caches,
            directories,
            fence,
            owners,
            hasher,
            quality,
            audit,
            clock,
            config,
            loaded,
            data,
        })
    }

    /// The settings of the cache, or nothing for the kind `none`.
    fn cache(&self, config: &Config, loaded: &Loaded) -> Result<Option<Settings>> {
        let kind = config.cache.kind.as_str();
        let path = ["cache", "kind"];
        let built_in = auth_cache::kinds();
        let factory = if let Some(factory) = self.caches.get(kind) {
            Arc::clone(factory)
        } else {
            match built_in.iter().find(|known| known.name == kind).map(|known| known.build) {
                Some(Build::Table(make)) => Arc::new(make),
                Some(Build::Off) => return Ok(None),
                _ => {
                    let ready = |known: &&auth_cache::Kind| !matches!(known.build, Build::NotYet);
                    let known = built_in.iter().filter(ready).map(|known| known.name);
                    let known = known.chain(self.caches.keys().map(String::as_str));
                    let reserved: Vec<&str> = built_in.iter().map(|known| known.name).collect();
                    return Err(source::unknown_kind(
                        &loaded.origins,
                        &path,
                        "cache",
                        kind,
                        known,
                        &reserved,
                    ));
                }
            }
        };
        if config.cache.url.is_some() {
            let message = format!("the cache `{kind}` is in this process and takes no url");
            return Err(loaded.origins.wrong(&["cache", "url"], &message));
        }
        let ttl = &config.cache.ttl;
        let mut ttls = ttl.all.map_or_else(Ttls::default, |all| Ttls::default().with_ttl(all));
        let each = &ttl.each;
        for (place, set) in [
            (&mut ttls.account, each.account),
            (&mut ttls.accepted, each.accepted),
            (&mut ttls.groups, each.groups),
            (&mut ttls.allow, each.allow),
            (&mut ttls.deny, each.deny),
            (&mut ttls.unknown, each.unknown),
            (&mut ttls.not_found, each.not_found),
            (&mut ttls.token, each.token),
        ] {
            if let Some(span) = set {
                *place = span.0;
            }
        }
        Ok(Some(Settings::new(factory).with_size(config.cache.size).with_ttls(ttls)))
    }

    async fn open(
        &self,
        assembly: &mut Assembly<'_>,
        name: &str,
        table: &Table,
        data: &std::path::Path,
    ) -> Result<()> {
        let origins = &assembly.loaded.origins;
        let path = ["source", name];
        check_name("source", name).map_err(|error| origins.wrong(&path, error.message()))?;
        let mut settings = table.clone();
        let kind = match settings.remove("kind") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(origins.wrong(&["source", name, "kind"], "a kind is a word")),
            None => return Err(origins.wrong(&path, "a source needs a kind, such as kind = \"sql\"")),
        };
        let Some(opener) = self.sources.get(&kind) else {
            let known = self.sources.keys().map(String::as_str);
            let path = ["source", name, "kind"];
            return Err(source::unknown_kind(origins, &path, "source", &kind, known, &source::NOT_BUILT_IN));
        };
        let common: Table = SourceCommon::KEYS
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), settings.remove(*key)?)))
            .collect();
        let common: SourceCommon = origins.typed(common, &path)?;
        let info = SourceInfo::new(name, fingerprint(&kind, &settings));
        let clock = Arc::clone(&assembly.clock);
        let opening = Opening { info, settings, clock, data, origins };
        let provides = opener.open(opening).await.map_err(|error| error.at(name))?;
        let health = Arc::default();
        assembly.commons.insert(name.to_owned(), common);
        assembly.sources.insert(name.to_owned(), Source { kind, provides, health, used: false });
        Ok(())
    }
}

/// What is being put together.
struct Assembly<'a> {
    cache: Option<Settings>,
    memo: usize,
    hasher: Arc<Hasher>,
    fence: Arc<Fence>,
    owners: Arc<OwnerTable>,
    audit: Arc<LogAudit>,
    clock: Arc<dyn Clock>,
    sources: BTreeMap<String, Source>,
    commons: BTreeMap<String, SourceCommon>,
    caches: Vec<Cache>,
    loaded: &'a Loaded,
}

impl Assembly<'_> {
    /// The realm that is there if none is configured: everything that the only source provides.
    fn default_realm(&self) -> Result<RealmConfig> {
        let mut sources = self.sources.iter();
        let (Some((name, source)), None) = (sources.next(), sources.next()) else {
            let message =
                "there are several sources: say in [realm.default] which of them, and in which order";
            return Err(self.loaded.origins.wrong(&["source"], message));
        };
        let provides = &source.provides;
        Ok(RealmConfig {
            password: vec![name.clone()],
            groups: provides.groups.iter().map(|_| name.clone()).collect(),
            objects: provides.domains.iter().map(|domain| (domain.clone(), name.clone())).collect(),
            ..RealmConfig::default()
        })
    }

    fn realm(&mut self, id: RealmId, config: &RealmConfig, limit: Duration) -> Result<Realm> {
        let name = id.name().to_owned();
        let realm = ["realm", name.as_str()];
        let origins = &self.loaded.origins;
        if config.password.is_empty() {
            return Err(origins.wrong(&realm, "a realm needs sources: password = [\"...\"]"));
        }
        for source in config.link.keys() {
            self.known(&["realm", &name, "link", source], source)?;
        }
        // One set of accounts a source: the password chain and the links share their cache.
        let mut accounts: BTreeMap<String, Arc<dyn AccountSource>> = BTreeMap::new();
        let mut chain = Vec::new();
        for source in &config.password {
            let path = ["realm", &name, "password"];
            let provides = self.provides(&path, source)?;
            let common = self.common(source);
            let passwords: Arc<dyn PasswordSource> = match provides.passwords {
                Some(Passwords::Shows(store)) => {
                    let shown = self.accounts(&id, source, store, &mut accounts);
                    let memo = MemoConfig { ttl: self.accepted(), entries: self.memo };
                    let (hasher, fence, clock) =
                        (Arc::clone(&self.hasher), Arc::clone(&self.fence), Arc::clone(&self.clock));
                    Arc::new(Hashed::new(shown, hasher, memo, fence, clock)?)
                }
                Some(Passwords::Decides(store)) => self.watched(source, store),
                None => {
                    return Err(origins.wrong(&path, &format!("the source `{source}` knows no passwords")));
                }
            };
            let next = |next| if next == NextName::Stop { Next::Stop } else { Next::Continue };
            let role = if common.role == RoleName::Deny { Role::Deny } else { Role::Decide };
            chain.push(
                ChainEntry::new(passwords)
                    .with_role(role)
                    .on_bad_password(next(common.on.bad_password))
                    .on_error(next(common.on.error)),
            );
        }
        let owners = Arc::clone(&self.owners) as Arc<dyn Owners>;
        let chain = PasswordChain::new(chain, owners)
            .map_err(|error| origins.wrong(&["realm", &name, "password"], &error.to_string()))?;

        let mut groups: Vec<Arc<dyn GroupOracle>> = Vec::new();
        for source in &config.groups {
            let path = ["realm", &name, "groups"];
            let provides = self.provides(&path, source)?;
            let Some(store) = provides.groups.clone() else {
                return Err(origins.wrong(&path, &format!("the source `{source}` knows no groups")));
            };
            let link = self.link(&id, config, source, &provides, &mut accounts)?;
            let watched = self.watched(source, store) as Arc<dyn GroupOracle>;
            let oracle = match self.settings(source) {
                Some(settings) => {
                    let cached = Arc::new(Cached::new(
                        watched,
                        Arc::clone(&self.fence),
                        Arc::clone(&self.clock),
                        &settings,
                    ));
                    self.keep(&id, Arc::clone(&cached) as Arc<dyn Reports>);
                    cached as Arc<dyn GroupOracle>
                }
                None => watched,
            };
            groups.push(Arc::new(Linked::new(oracle, link)));
        }

        let mut routes: Vec<(Arc<str>, Arc<dyn ObjectPerms>)> = Vec::new();
        let mut stores: BTreeMap<&str, Arc<dyn ObjectPerms>> = BTreeMap::new();
        for (domain, source) in &config.objects {
            let path = ["realm", &name, "objects", domain];
            let provides = self.provides(&path, source)?;
            let Some(store) = provides.objects.clone() else {
                return Err(origins.wrong(&path, &format!("the source `{source}` knows no rights")));
            };
            if !provides.domains.iter().any(|known| known == domain || known == "*") {
                let known = provides.domains.iter().map(String::as_str);
                return Err(origins.unknown(&path, "domain", domain, known));
            }
            let routed = match stores.get(source.as_str()) {
                Some(known) => Arc::clone(known),
                None => {
                    let link = self.link(&id, config, source, &provides, &mut accounts)?;
                    let watched = self.watched(source, store) as Arc<dyn ObjectPerms>;
                    let perms = match self.settings(source) {
                        Some(settings) => {
                            let cached = Arc::new(Cached::new(
                                watched,
                                Arc::clone(&self.fence),
                                Arc::clone(&self.clock),
                                &settings,
                            ));
                            self.keep(&id, Arc::clone(&cached) as Arc<dyn Reports>);
                            cached as Arc<dyn ObjectPerms>
                        }
                        None => watched,
                    };
                    let linked: Arc<dyn ObjectPerms> = Arc::new(Linked::new(perms, link));
                    stores.insert(source, Arc::clone(&linked));
                    linked
                }
            };
            routes.push((domain.as_str().into(), routed));
        }
        let hashing = Arc::clone(&self.hasher) as Arc<dyn auth_core::HashCheck>;
        Ok(Realm::new(id, Arc::new(chain), hashing, Arc::clone(&self.clock))
            .with_groups(GroupUnion::new(groups))
            .with_objects(DomainRouter::new(routes))
            .with_audit(Arc::clone(&self.audit) as Arc<dyn Audit>)
            .with_limit(limit))
    }

    /// Where each realm's users are written: in its first source that can write.
    fn directories(&self, realms: &BTreeMap<String, RealmConfig>) -> Result<BTreeMap<String, Arc<Fenced>>> {
        let mut ids = Vec::new();
        for (name, realm) in realms {
            ids.push((RealmId::new(name, realm.login.0)?, realm));
        }
        let mut directories = BTreeMap::new();
        for (id, realm) in &ids {
            let writer =
                |source: &&String| self.sources.get(*source)?.provides.directory.as_ref().map(Arc::clone);
            let Some((source, inner)) = realm.password.iter().find_map(|name| Some((name, writer(&name)?)))
            else {
                continue;
            };
            // A write is seen by every realm that this source serves.
            let served = ids.iter().filter(|(_, other)| uses(other, source)).map(|(id, _)| id.clone());
            let owners = Arc::clone(&self.owners) as Arc<dyn Owners>;
            let fenced = Fenced::new(inner, Arc::clone(&self.fence), owners, served);
            directories.insert(id.name().to_owned(), Arc::new(fenced));
        }
        Ok(directories)
    }

    /// The accounts of a source in a realm, wrapped; made once.
    fn accounts(
        &mut self,
        realm: &RealmId,
        source: &str,
        store: Arc<dyn AccountSource>,
        made: &mut BTreeMap<String, Arc<dyn AccountSource>>,
    ) -> Arc<dyn AccountSource> {
        if let Some(accounts) = made.get(source) {
            return Arc::clone(accounts);
        }
        let watched = self.watched(source, store) as Arc<dyn AccountSource>;
        let accounts = match self.settings(source) {
            Some(settings) => {
                let cached = Arc::new(Cached::new(
                    watched,
                    Arc::clone(&self.fence),
                    Arc::clone(&self.clock),
                    &settings,
                ));
                self.keep(realm, Arc::clone(&cached) as Arc<dyn Reports>);
                cached as Arc<dyn AccountSource>
            }
            None => watched,
        };
        made.insert(source.to_owned(), Arc::clone(&accounts));
        accounts
    }

    fn link(
        &mut self,
        realm: &RealmId,
        config: &RealmConfig,
        source: &str,
        provides: &Provides,
        made: &mut BTreeMap<String, Arc<dyn AccountSource>>,
    ) -> Result<Link> {
        let path = ["realm", realm.name(), "link", source];
        match config.link.get(source).copied().unwrap_or_default() {
            LinkKind::None => Ok(Link::None),
            LinkKind::Login => match &provides.passwords {
                Some(Passwords::Shows(store)) => {
                    let accounts = self.accounts(realm, source, Arc::clone(store), made);
                    Ok(Link::Through(Arc::new(ByLogin::new(accounts))))
                }
                _ => Err(self.loaded.origins.wrong(&path, "this source can't look up a login")),
            },
            LinkKind::Query => match &provides.resolver {
                Some(resolver) => Ok(Link::Through(Arc::clone(resolver))),
                None => Err(self.loaded.origins.wrong(&path, "this source has no mapping query")),
            },
        }
    }

    fn watched<S: ?Sized + Send + Sync>(&self, source: &str, store: Arc<S>) -> Arc<Watched<S>> {
        let health = self.sources.get(source).map(|source| Arc::clone(&source.health));
        let health = health.unwrap_or_else(|| Arc::new(Health::default()));
        Arc::new(Watched::new(store, self.common(source).timeout.0, Arc::clone(&self.clock), health))
    }

    fn keep(&mut self, realm: &RealmId, reports: Arc<dyn Reports>) {
        self.caches.push(Cache { realm: realm.name().into(), reports });
    }

    /// The cache's settings for one source: a load gets a moment longer than the source, whose own limit
    /// is the one that is counted.
    fn settings(&self, source: &str) -> Option<Settings> {
        let limit = self.common(source).timeout.0 + Duration::from_secs(1);
        self.cache.clone().map(|settings| settings.with_load_timeout(limit))
    }

    /// How long a verified password is remembered: not at all without a cache.
    fn accepted(&self) -> Duration {
        self.cache.as_ref().map_or(Duration::ZERO, |settings| settings.lifetimes.get().accepted)
    }

    fn common(&self, source: &str) -> SourceCommon {
        self.commons.get(source).cloned().unwrap_or_default()
    }

    fn known(&self, path: &[&str], source: &str) -> Result<()> {
        if self.sources.contains_key(source) {
            return Ok(());
        }
        Err(self.loaded.origins.unknown(path, "source", source, self.sources.keys().map(String::as_str)))
    }

    fn provides(&mut self, path: &[&str], source: &str) -> Result<Provides> {
        self.known(path, source)?;
        let source = self.sources.get_mut(source);
        Ok(source.map_or_else(Provides::default, |source| {
            source.used = true;
            source.provides.clone()
        }))
    }
}

fn uses(realm: &RealmConfig, source: &String) -> bool {
    realm.password.contains(source)
        || realm.groups.contains(source)
        || realm.objects.values().any(|name| name == source)
}

/// The database of the embedded store.
fn embedded(data: &std::path::Path) -> PathBuf {
    data.join("gatepost.db")
}

/// Adds the source that is there without any configuration.
fn embed(loaded: &mut Loaded, data: &std::path::Path) {
    let url = format!("sqlite:{}", embedded(data).display());
    let local: Table =
        [("kind".to_owned(), Value::from("sql")), ("url".to_owned(), Value::from(url))].into_iter().collect();
    let sources: Table = [(EMBEDDED.to_owned(), Value::Table(local))].into_iter().collect();
    loaded.table.insert("source".to_owned(), Value::Table(sources));
}

fn fingerprint(kind: &str, settings: &Table) -> Fingerprint {
    let mut hash = blake3::Hasher::new();
    hash.update(kind.as_bytes());
    hash.update(&[0]);
    hash.update(toml::to_string(settings).unwrap_or_default().as_bytes());
    let mut digest = [0; 16];
    hash.finalize_xof().fill(&mut digest);
    Fingerprint::new(digest)
}

fn threads(configured: usize) -> usize {
    if configured > 0 {
        configured
    } else {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

fn policy(config: &PasswordConfig, loaded: &Loaded) -> Result<Policy> {
    let accept_weak = match &config.accept_weak {
        AcceptWeak::All(true) => auth_password::AcceptWeak::All,
        AcceptWeak::All(false) => auth_password::AcceptWeak::None,
        AcceptWeak::Some(names) => {
            let mut schemes = std::collections::BTreeSet::new();
            for name in names {
                schemes.insert(Scheme::from_name(name).ok_or_else(|| {
                    let known = Scheme::NAMES.iter().copied();
                    loaded.origins.unknown(&["password", "accept_weak"], "scheme", name, known)
                })?);
            }
            auth_password::AcceptWeak::Only(schemes)
        }
    };
    let preferred = match config.preferred {
        PreferredScheme::Argon2id => Preferred::Argon2id {
            memory_kib: config.argon2.memory_kib,
            passes: config.argon2.passes,
            lanes: config.argon2.lanes,
        },
        PreferredScheme::Bcrypt => Preferred::Bcrypt { cost: config.bcrypt_cost },
    };
    let mut limits = Limits::default();
    if let Some(memory) = config.limits.memory_kib {
        limits.memory_kib = memory.into();
    }
    if let Some(cost) = config.limits.bcrypt_cost {
        limits.bcrypt_cost = cost;
    }
    if let Some(rounds) = config.limits.rounds {
        limits.pbkdf2_rounds = rounds.into();
        limits.crypt_rounds = rounds.into();
    }
    let policy = Policy { accept_weak, limits, preferred, upgrade: config.upgrade };
    policy.check().map_err(|error| loaded.origins.wrong(&["password"], error.message()))?;
    Ok(policy)
}

fn quality(config: &PasswordConfig, loaded: &Loaded) -> Result<Quality> {
    let mut patterns = Vec::new();
    for pattern in &config.patterns {
        patterns.push(regex::Regex::new(pattern).map_err(|error| {
            loaded
                .origins
                .wrong(&["password", "patterns"], &format!("`{pattern}` is no regular expression: {error}"))
        })?);
    }
    Ok(Quality { min_length: config.min_length, patterns, hook: None })
}
