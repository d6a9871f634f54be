//! From a configuration to a [`Stack`]. The order of wrappers is in `assembly.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Bound, Build, Gate, Settings, TableFactory, Ttls};
use auth_core::{Clock, Error, ErrorKind, Fingerprint, Realm, RealmId, Result, SourceInfo, check_name};
use auth_password::{Guard, Hasher, Quality, QualityHook};
use futures_util::future::{Either, select};
use toml::{Table, Value};

use crate::assembly::Assembly;
use crate::clock::SystemClock;
use crate::config::{Config, SourceCommon};
use crate::data;
use crate::down::Down;
use crate::heir::{Heir, Kept};
use crate::load::Loaded;
use crate::owners::KeptOwners;
use crate::probe::{Prober, Source};
use crate::settings;
use crate::shared::{self, Making, Plan};
use crate::source::{self, Opening, Provides, SourceKind};
use crate::stack::{Cache, Stack};
use crate::tokens::{self, Tokens};

/// The name of the source and of the realm that are there without any configuration.
const EMBEDDED: &str = "local";
const DEFAULT_REALM: &str = "default";

/// The largest configuration file that is read.
const MOST_CONFIG: u64 = 1 << 20;

/// How long one source may take to open.
const OPENING: Duration = Duration::from_secs(30);

/// Composes a [`Stack`]: from a file, from text, from the environment, with kinds of your own.
pub struct Builder {
    file: Option<PathBuf>,
    text: Option<String>,
    environment: BTreeMap<String, String>,
    data: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    sources: BTreeMap<String, Arc<dyn SourceKind>>,
    caches: BTreeMap<String, TableFactory>,
    quality: Option<QualityHook>,
    makes_store: bool,
    /// Whether it is for a server: that does without sources that can't be reached, as long as there is one that can.
    goes_without: bool,
    tokens: Wanted,
    old: Option<Arc<Stack>>,
    /// Whether the configuration is that of the stack before, whatever stands in the file now.
    again: bool,
    // The first name that was registered and can't be.
    taken: Option<String>,
    // Names of the environment whose values are not UTF-8.
    unreadable: Vec<String>,
}

/// Whether token services are made.
#[derive(Clone, Copy)]
enum Wanted {
    None,
    IfKept,
    Always,
}

impl Wanted {
    fn is(self, config: &Config, data: &Path) -> bool {
        config.token.enabled
            && match self {
                Self::None => false,
                Self::IfKept => config.token.store.is_some() || tokens::are_kept_in(data),
                Self::Always => true,
            }
    }
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
            quality: None,
            makes_store: true,
            goes_without: false,
            tokens: Wanted::None,
            old: None,
            again: false,
            taken: None,
            unreadable: Vec::new(),
        }
    }

    /// Opens the embedded store only if it is there, for a process beside a server that has it open: where
    /// the file is gone, an empty one in its place would turn the outage into a "no".
    #[must_use]
    pub const fn without_making_a_store(mut self) -> Self {
        self.makes_store = false;
        self
    }

    /// Reads the process's environment.
    #[must_use]
    pub fn env(mut self) -> Self {
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => {
                    self.environment.insert(name, value);
                }
                Err(_) => self.unreadable.push(name),
            }
        }
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

    /// Sets the data folder, over `GATEPOST_DATA` and the file.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Takes the place of another stack: keeps its clock, and whatever of it the configuration has not changed. Open
    /// sources stay open, and caches whose source, realm and settings are the same keep what they know. What has
    /// changed begins anew. Call [`begin`](Stack::begin) when it takes over.
    #[must_use]
    pub fn after(mut self, old: &Arc<Stack>) -> Self {
        self.clock = Arc::clone(old.clock());
        self.old = Some(Arc::clone(old));
        self
    }

    /// The same, with the very configuration of that stack: to open what [could not be reached](Stack::down) then.
    #[must_use]
    pub fn again(self, old: &Arc<Stack>) -> Self {
        Self { again: true, ..self.after(old) }
    }

    /// Makes the token services of the realms too, unless the configuration says `token.enabled = false`: opens where
    /// sessions are kept, and makes keys that are needed and not there in the data folder.
    #[must_use]
    pub const fn with_tokens(mut self) -> Self {
        self.tokens = Wanted::Always;
        self
    }

    /// The same, but only if sessions may have been begun: where they would be kept in the data folder and none were, none are
    /// made.
    #[must_use]
    pub const fn with_tokens_if_kept(mut self) -> Self {
        self.tokens = Wanted::IfKept;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes `kind = "name"` known for sources. A name that is known already fails [`build`](Self::build):
    /// nobody shall read `kind = "sql"` and get something else.
    #[must_use]
    pub fn register_source(mut self, name: &str, kind: impl SourceKind + 'static) -> Self {
        if self.sources.insert(name.to_owned(), Arc::new(kind)).is_some() {
            self.taken.get_or_insert_with(|| name.to_owned());
        }
        self
    }

    /// Makes `kind = "name"` known for the cache: `table` makes a table of a given bound, in entries or bytes.
    /// It is called several times for each realm, source and kind of answer, and once more to ask a table
    /// whether it keeps to its bound. A name that is known already fails [`build`](Self::build).
    #[must_use]
    pub fn register_cache(mut self, name: &str, table: TableFactory) -> Self {
        let built_in = auth_cache::kinds().iter().any(|known| known.name == name);
        if self.caches.insert(name.to_owned(), table).is_some() || built_in {
            self.taken.get_or_insert_with(|| name.to_owned());
        }
        self
    }

    /// Judges new passwords, after the rules of the configuration: the reason that it gives refuses one.
    #[must_use]
    pub fn quality_hook(mut self, hook: QualityHook) -> Self {
        self.quality = Some(hook);
        self
    }

    /// Reads and checks the configuration, without opening anything.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place.
    pub fn load(&self) -> Result<(Loaded, Config)> {
        if let Some(old) = self.old.as_ref().filter(|_| self.again) {
            return Ok((old.loaded.clone(), old.loaded.config()?));
        }
        let wrong = |message| Error::new(ErrorKind::Misconfigured, message);
        if let Some(name) = &self.taken {
            return Err(wrong(format!("the kind `{name}` is registered twice, or built in")));
        }
        let ours = |name: &&String| {
            name.starts_with("GATEPOST_") || name.starts_with("CACHE") || name.ends_with("_URL")
        };
        if let Some(name) = self.unreadable.iter().find(ours) {
            return Err(wrong(format!("environment {name}: the value is not UTF-8")));
        }
        let named =
            self.environment.get("GATEPOST_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let file = match (&self.text, self.file.clone().or(named)) {
            (Some(text), _) => Some((PathBuf::from("gatepost.toml"), text.clone())),
            (None, Some(path)) => {
                let text = read(&path)?;
                Some((path, text))
            }
            (None, None) => None,
        };
        let loaded = Loaded::read(file, &self.environment)?;
        let config = loaded.config()?;
        settings::check(&config, &loaded.origins)?;
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

    /// Composes the stack for a server, whose admin socket needs the data folder: makes it. A source that can't be
    /// reached now does not keep it from starting, if another one can be: every question to it is answered with that
    /// error, until the stack is [built anew](Self::after). See [`Stack::down`]. Nor does a store of sessions, which is
    /// put to use as soon as it can be reached.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_for_server(mut self) -> Result<Stack> {
        self.goes_without = true;
        self.tokens = Wanted::Always;
        let (loaded, config) = self.load()?;
        data::prepare(&self.folder(&config)?)?;
        self.compose(loaded, config).await
    }

    /// Composes the stack: opens every source, and checks that everything named is provided. Without any
    /// source configured it makes the embedded one, in the data folder; otherwise it makes none. Where there is one, it
    /// keeps there which source a login was found in, if a realm has several.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place; temporary kinds if a source can't be
    /// reached.
    pub async fn build(self) -> Result<Stack> {
        let (loaded, config) = self.load()?;
        self.compose(loaded, config).await
    }

    async fn compose(self, mut loaded: Loaded, mut config: Config) -> Result<Stack> {
        let embedded = config.source.is_empty();
        let data = match self.folder(&config) {
            // Nothing is kept there unless the embedded source is.
            Err(_) if !embedded => PathBuf::new(),
            data => data?,
        };
        if embedded {
            if !self.makes_store && !self::embedded(&data).exists() {
                let message = "the embedded store is gone, though a server runs on it";
                return Err(Error::new(ErrorKind::Unavailable, message).with("folder", data.display()));
            }
            data::prepare(&data)?;
            embed(&mut loaded, &data)?;
            config = loaded.config()?;
        }
        let heir = self.old.as_ref().map(|old| Heir::new(old, &loaded.table));
        if self.old.as_ref().is_some_and(|old| old.data != data) {
            let message = "a running server can't move to another data folder: restart it";
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        let origins = &loaded.origins;
        let policy = settings::policy(&config.password, origins)?;
        let quality = Quality { hook: self.quality.clone(), ..settings::quality(&config.password, origins)? };
        let mut warnings = Vec::new();
        let (mut cache, plan) = self.cache(&config, &loaded, &mut warnings)?.unzip();
        // What is shared, and the fence that it hangs on, stay as long as nothing about caches has changed.
        let kept = heir.as_ref().filter(|heir| heir.keeps_caches()).map(Heir::old);
        if let Some(old) = kept {
            cache.clone_from(&old.settings);
        }
        let ids = config.realm.iter().map(|(name, realm)| {
            RealmId::new(name, realm.login.0)
                .map_err(|error| origins.wrong(&["realm", name], error.message()))
        });
        ids.collect::<Result<Vec<_>>>()?;

        let lifetimes = cache.as_ref().map(|settings| Arc::clone(&settings.lifetimes));
        let bounded = cache.as_ref().is_none_or(|settings| is_bounded(&settings.factory));
        let clock = Arc::clone(&self.clock);
        let fence = kept.map_or_else(Arc::default, |old| Arc::clone(&old.fence));
        let beyond = match (&plan, &mut cache) {
            _ if kept.is_some() => kept.and_then(|old| old.beyond.clone()),
            (Some(plan), Some(cache)) => {
                let making =
                    Making { config: &config, loaded: &loaded, folder: &data, fence: &fence, clock: &clock };
                plan.make(&making, cache, &mut warnings)?.map(Arc::new)
            }
            _ => None,
        };
        let hasher = match heir.as_ref().map(|heir| (heir.same(&["password"]), &heir.old().hasher)) {
            Some((true, old)) => Arc::clone(old),
            before => {
                let hasher = Hasher::new(settings::hasher(&config.password), policy, Arc::clone(&clock))?;
                Arc::new(match before {
                    Some((_, old)) => hasher.with_codes_of(old),
                    None => hasher,
                })
            }
        };
        let guard = match heir.as_ref().filter(|heir| heir.same(&["guard", "cache", "secrets"])) {
            Some(heir) => heir.old().guard.clone(),
            None if config.guard.enabled => {
                let guard = Guard::new(config.guard.allows(), Arc::clone(&clock))?;
                Some(Arc::new(shared::together(
                    guard,
                    plan.as_ref(),
                    &config,
                    origins,
                    &data,
                    &mut warnings,
                )?))
            }
            None => None,
        };
        let (owners, audit) = match &self.old {
            Some(old) => (Arc::clone(&old.owners), Arc::clone(&old.audit)),
            None => (Arc::new(KeptOwners::new(Arc::clone(&clock))), Arc::default()),
        };
        let whole_heir = self.old.as_ref().map(|old| Heir::new(old, &loaded.table));
        let settings = cache.clone();
        let mut assembly = Assembly {
            cache,
            memo: config.password.memo,
            limit: config.server.limit.0,
            hasher,
            guard: guard.clone(),
            fence,
            owners,
            audit,
            replaces: self.old.is_some(),
            heir: heir.filter(|heir| heir.keeps_caches()),
            kept: Kept::new(),
            clock,
            sources: BTreeMap::new(),
            commons: BTreeMap::new(),
            caches: Vec::new(),
            hashed: Vec::new(),
            loaded: &loaded,
        };
        let (mut down, mut first) = (BTreeSet::new(), None);
        for (name, table) in &config.source {
            if let Some(error) = self.open(&mut assembly, name, table, &data).await? {
                tracing::error!(source = name, %error, "started without this source: it is tried again");
                down.insert(name.clone());
                first.get_or_insert(error);
            }
        }
        if let Some(error) = first.filter(|_| down.len() == config.source.len()) {
            return Err(error);
        }
        if config.realm.is_empty() {
            config.realm.insert(DEFAULT_REALM.to_owned(), assembly.default_realm()?);
        }
        let mut realms = BTreeMap::new();
        for (name, realm) in &config.realm {
            let id = RealmId::new(name, realm.login.0)?;
            realms.insert(name.clone(), Arc::new(assembly.realm(id, realm)?));
        }
        // Where there is a data folder: a server has one, and whoever composes a stack in code may.
        if data.is_dir()
            && config.realm.values().any(|realm| realm.password.len() > 1)
            && let Err(why) = keep_owners(&assembly.owners, &data, &realms)
        {
            warnings.push(format!(
                "after a restart it is not known which source a login was found in, until it is found again: {why}"
            ));
        }
        let tokens = if self.tokens.is(&config, &data) {
            let making = tokens::Making {
                config: &config,
                loaded: &loaded,
                data: &data,
                realms: &realms,
                fence: &assembly.fence,
                clock: &assembly.clock,
                cache: assembly.cache.as_ref(),
                guard: guard.as_ref(),
                audit: &assembly.audit,
                heir: whole_heir.as_ref(),
                shares: beyond.is_some(),
                // What serves already is not given up for what can't be reached.
                goes_without: self.goes_without && self.old.is_none(),
            };
            Some(making.make(&mut warnings).await?)
        } else {
            None
        };
        for (realm, reports) in tokens.iter().flat_map(Tokens::reports) {
            assembly.caches.push(Cache { realm: realm.as_str().into(), reports });
        }
        let directories = assembly.directories(&config.realm)?;
        let feeds = assembly.feeds(&config.realm)?;
        warnings.extend(assembly.check_unused(&config.realm)?);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let set = loaded.table.get("server").is_some_and(|server| server.get("realm").is_some());
        // Who has one realm means that one.
        if let (false, [only], false) =
            (set, realms.keys().collect::<Vec<_>>().as_slice(), realms.contains_key(&config.server.realm))
        {
            config.server.realm = (*only).clone();
        }
        // The default of the setting matters only where there is such a realm.
        let named = set.then(|| (vec!["server", "realm"], &config.server.realm));
        let hosts =
            config.server.hosts.iter().map(|(host, realm)| (vec!["server", "hosts", host.as_str()], realm));
        for (path, realm) in named.into_iter().chain(hosts) {
            if !realms.contains_key(realm) {
                return Err(loaded.origins.unknown(&path, "realm", realm, realms.keys().map(String::as_str)));
            }
        }
        let Assembly { hasher, fence, owners, audit, clock, sources, commons, caches, hashed, kept, .. } =
            assembly;
        let families = tokens.as_ref().map(|tokens| Arc::clone(&tokens.families));
        let prober = Prober::new(sources, families, Arc::clone(&clock));
        Ok(Stack {
            realms,
            prober,
            caches,
            hashed,
            directories,
            feeds,
            fence,
            beyond,
            owners,
            hasher,
            guard,
            tokens,
            quality,
            audit,
            clock,
            config,
            commons,
            bounded,
            lifetimes,
            warnings,
            settings,
            kept,
            down,
            loaded,
            data,
            embedded,
        })
    }

    /// The settings of the cache, or nothing for the kind `none`.
    fn cache(
        &self,
        config: &Config,
        loaded: &Loaded,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Settings, Plan)>> {
        let kind = config.cache.kind.as_str();
        let path = ["cache", "kind"];
        let built_in = auth_cache::kinds();
        let build = built_in.iter().find(|known| known.name == kind).map(|known| known.build);
        if matches!(build, Some(Build::Off)) {
            without_cache(config, loaded, warnings)?;
            return Ok(None);
        }
        let (plan, shared) = shared::plan(build, &config.cache, loaded, warnings)?;
        let factory = if let Some(factory) = self.caches.get(kind) {
            Arc::clone(factory)
        } else {
            match (shared, build) {
                (Some(factory), _) => factory,
                (None, Some(Build::Table(make))) => Arc::new(make),
                (None, _) => {
                    let known = built_in.iter().map(|known| known.name);
                    let known = known.chain(self.caches.keys().map(String::as_str));
                    return Err(source::unknown_kind(&loaded.origins, &path, "cache", kind, known));
                }
            }
        };
        if config.cache.url.is_some() && !plan.is_shared() {
            let message = format!("the cache `{kind}` is in this process and takes no url");
            return Err(loaded.origins.wrong(&["cache", "url"], &message));
        }
        if !is_bounded(&factory) {
            if config.cache.size.is_some() {
                let message = format!("{kind} is unbounded and takes no size");
                return Err(loaded.origins.wrong(&["cache", "size"], &message));
            }
            warnings
                .push(format!("the cache `{kind}` grows without bound: whoever can ask can fill the memory"));
        }
        let stale = config.cache.stale_if_error.0;
        if !stale.is_zero() {
            warnings.push(format!(
                "while a source fails, answers live up to {stale:?} longer: a change there counts that much later"
            ));
        }
        let ttls = config.cache.ttl.0.over(Ttls::default());
        let settings = Settings::new(factory).with_bound(config.cache.bound()).with_ttls(ttls);
        let settings = settings.with_stale_if_error(stale).with_refresh_ahead(config.cache.refresh_ahead.0);
        Ok(Some((settings, plan)))
    }

    /// Opens a source. Returns why it could not be reached, where that is no reason not to start.
    async fn open(
        &self,
        assembly: &mut Assembly<'_>,
        name: &str,
        table: &Table,
        data: &Path,
    ) -> Result<Option<Error>> {
        let origins = &assembly.loaded.origins;
        let path = ["source", name];
        check_name("source", name).map_err(|error| origins.wrong(&path, error.message()))?;
        let mut own = table.clone();
        let kind = match own.remove("kind") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(origins.wrong(&["source", name, "kind"], "a kind is a word")),
            None => return Err(origins.wrong(&path, "a source needs a kind, such as kind = \"sql\"")),
        };
        let Some(opener) = self.sources.get(&kind) else {
            let known = self.sources.keys().map(String::as_str);
            let path = ["source", name, "kind"];
            return Err(source::unknown_kind(origins, &path, "source", &kind, known));
        };
        let common: Table = SourceCommon::KEYS
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), own.remove(*key)?)))
            .collect();
        let common: SourceCommon = origins.typed(common, &path)?;
        let fingerprint = fingerprint(&kind, &own);
        let info = SourceInfo::new(name, fingerprint);
        let clock = Arc::clone(&assembly.clock);
        settings::check_source(name, &common, origins)?;
        let files = files_of(&own);
        let kept = self.old.as_ref().and_then(|old| {
            Heir::new(old, &assembly.loaded.table)
                .source(name, fingerprint)
                .filter(|open| open.files == files)
        });
        let open = match kept {
            Some(open) if tells_as_before(open).await => {
                Some((open.provides.clone(), Arc::clone(&open.health), Arc::clone(&open.gate)))
            }
            _ => None,
        };
        let mut failed = None;
        let (provides, health, gate) = match open {
            Some(open) => open,
            None => {
                let opening = Opening { info: info.clone(), settings: own, clock, data, origins };
                let provides = match self.provide(&**opener, opening).await {
                    Ok(provides) => provides,
                    Err(error) => {
                        let error = origins.placed(error, &path).at(name);
                        // What serves already is not given up for what can't be reached.
                        let served = self.old.as_ref().is_some_and(|old| !old.down.contains(name));
                        if !error.kind().is_temporary() || !self.goes_without || served {
                            return Err(error);
                        }
                        failed = Some(error.clone());
                        Down::provides(info, error)
                    }
                };
                (provides, Arc::default(), Arc::new(Gate::new(common.limits())))
            }
        };
        let limit = assembly.limit_of(&common);
        assembly.commons.insert(name.to_owned(), common);
        let was_left_alone = false.into();
        let source =
            Source { kind, fingerprint, files, provides, health, gate, used: false, limit, was_left_alone };
        assembly.sources.insert(name.to_owned(), source);
        Ok(failed)
    }

    /// Opens a source, within its time.
    async fn provide(&self, opener: &dyn SourceKind, opening: Opening<'_>) -> Result<Provides> {
        let limit = self.clock.sleep_until(self.clock.now() + OPENING);
        match select(opener.open(opening), limit).await {
            Either::Left((opened, _)) => opened,
            Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "the source did not open in time")),
        }
    }
}

/// What stands in the files of certificates and keys that a source's settings name: they are renewed under their names.
fn files_of(settings: &Table) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let tls = settings.get("tls").and_then(Value::as_table);
    for file in tls.into_iter().flat_map(Table::values).filter_map(Value::as_str) {
        // What is no file is a text, which is compared as such.
        let read = std::fs::File::open(file).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MOST_CONFIG).read_to_end(&mut bytes).map(|_| bytes)
        });
        hash.update(&read.unwrap_or_default()).update(&[0]);
    }
    *hash.finalize().as_bytes()
}

/// Reports whether an open source tells of changes as it did when it was opened: triggers may have been installed since, or
/// taken away. Where that can't be found out now, it is taken to.
async fn tells_as_before(open: &Source) -> bool {
    let Some(push) = &open.provides.push else { return true };
    push.missing().await.map_or(true, |missing| missing.is_none() == open.provides.feed.is_some())
}

/// Refuses what only a cache can do, and warns of what stands there for nothing: whoever swaps the kind for a while
/// need not take it out.
fn without_cache(config: &Config, loaded: &Loaded, warnings: &mut Vec<String>) -> Result<()> {
    if !config.cache.stale_if_error.0.is_zero() {
        let message = "without a cache nothing can stand in for a source: choose a kind, or take this out";
        return Err(loaded.origins.wrong(&["cache", "stale_if_error"], message));
    }
    for key in ["size", "refresh_ahead"] {
        if loaded.table.get("cache").is_some_and(|cache| cache.get(key).is_some()) {
            warnings.push(format!("cache.{key} is for nothing: the kind `none` keeps nothing"));
        }
    }
    Ok(())
}

/// Asks a table, in which nothing is kept, whether it has a bound.
fn is_bounded(factory: &TableFactory) -> bool {
    factory(Bound::Entries(1)).bound().is_some()
}

/// Keeps in the data folder which source a login was found in.
fn keep_owners(owners: &KeptOwners, data: &Path, realms: &BTreeMap<String, Arc<Realm>>) -> Result<()> {
    data::check(data)?;
    let kept = owners.keep_in(data, realms.values().map(|realm| realm.id()));
    kept.map_err(|error| Error::new(ErrorKind::Misconfigured, error.to_string()))
}

/// The database of the embedded store.
fn embedded(data: &Path) -> PathBuf {
    data.join("gatepost.db")
}

/// Adds the source that is there without any configuration.
fn embed(loaded: &mut Loaded, data: &Path) -> Result<()> {
    let file = embedded(data);
    let Some(path) = file.to_str() else {
        return Err(Error::new(ErrorKind::Misconfigured, "the name of the data folder is not UTF-8"));
    };
    // In a url these would be read as something else.
    let url = format!("sqlite:{}", path.replace('%', "%25").replace('?', "%3f"));
    let local: Table =
        [("kind".to_owned(), Value::from("sql")), ("url".to_owned(), Value::from(url))].into_iter().collect();
    let sources: Table = [(EMBEDDED.to_owned(), Value::Table(local))].into_iter().collect();
    loaded.table.insert("source".to_owned(), Value::Table(sources));
    Ok(())
}

/// Reads a configuration file.
fn read(path: &Path) -> Result<String> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Misconfigured, format!("can't read {}: {why}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    if data::anybody_may_write(&file) {
        return Err(wrong(&data::ANYBODY));
    }
    let mut text = String::new();
    file.take(MOST_CONFIG + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MOST_CONFIG) {
        return Err(wrong(&"it is larger than 1 MiB"));
    }
    Ok(text)
}

/// What tells one source's people from another's, also between processes: its kind and its settings, and where these
/// name a file, which one that is.
fn fingerprint(kind: &str, settings: &Table) -> Fingerprint {
    let mut hash = blake3::Hasher::new();
    hash.update(kind.as_bytes());
    hash.update(&[0]);
    hash.update(toml::to_string(settings).unwrap_or_default().as_bytes());
    let text = |key| settings.get(key).and_then(Value::as_str);
    let database = text("url").and_then(|url| url.strip_prefix("sqlite:"));
    for file in [database, text("path")].into_iter().flatten() {
        // Without what follows the name in a url.
        let file = file.split('?').next().unwrap_or_default();
        hash.update(data::place_of(Path::new(file)).as_bytes());
    }
    let mut digest = [0; 16];
    hash.finalize_xof().fill(&mut digest);
    Fingerprint::new(digest)
}
