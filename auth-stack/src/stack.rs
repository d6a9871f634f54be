//! The composed stack: realms over sources, with every wrapper in its one place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth_cache::{Fenced, Report, Reports};
use auth_core::{Clock, Fence, Login, Owners, Password, Realm, Result, Subject};
use auth_password::{Hashed, HashedStats, Hasher, HasherStats, Quality};
use toml::{Table, Value};

use crate::audit::LogAudit;
use crate::builder::Builder;
use crate::config::Config;
use crate::load::Loaded;
use crate::origins::Origins;
use crate::probe::{Prober, SourceReport};

/// A cache of the stack.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) realm: Arc<str>,
    pub(crate) reports: Arc<dyn Reports>,
}

/// Stores, caches and realms, composed. Cheap to share behind an `Arc`; nothing about it changes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> auth_core::Result<()> {
/// # let folder = tempfile::tempdir().map_err(|e| auth_core::Error::new(auth_core::ErrorKind::Internal, e.to_string()))?;
/// use auth_stack::Stack;
/// let stack = Stack::builder().data(folder.path()).build().await?;
/// let realm = stack.realm("default").ok_or_else(|| auth_core::Error::new(auth_core::ErrorKind::Invalid, "no realm"))?;
/// let verdict = realm.attempt(&auth_core::Ctx::new(), "calvin", b"hobbes".to_vec()).await?;
/// assert_eq!(verdict, auth_core::Verdict::Rejected(auth_core::Reject::UnknownUser));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Stack {
    pub(crate) realms: BTreeMap<String, Arc<Realm>>,
    pub(crate) prober: Prober,
    pub(crate) caches: Vec<Cache>,
    pub(crate) hashed: Vec<Memo>,
    pub(crate) directories: BTreeMap<String, Arc<Fenced>>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) owners: Arc<dyn Owners>,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) quality: Quality,
    pub(crate) audit: Arc<LogAudit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) loaded: Loaded,
    pub(crate) data: PathBuf,
    pub(crate) embedded: bool,
}

/// Passwords that a source's part in a realm remembers and hashes that it replaces.
#[derive(Debug)]
pub(crate) struct Memo {
    pub(crate) realm: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) hashed: Arc<Hashed>,
}

/// What was done about the stored hashes of one source in one realm.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoReport {
    /// The realm.
    pub realm: Arc<str>,
    /// The source.
    pub source: Arc<str>,
    /// What was done.
    pub stats: HashedStats,
}

impl Stack {
    /// Composes what the environment says: `GATEPOST_CONFIG` names the file, and the other names of the
    /// environment stand over it. Nothing configured at all is an embedded store and a cache.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the place; temporary kinds if a source can't be
    /// reached.
    pub async fn from_env() -> Result<Self> {
        Self::builder().env().build().await
    }

    /// Begins to compose a stack in code.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Returns a realm, ready to be asked.
    #[must_use]
    pub fn realm(&self, name: &str) -> Option<&Arc<Realm>> {
        self.realms.get(name)
    }

    /// Goes through the realms.
    pub fn realms(&self) -> impl Iterator<Item = &Arc<Realm>> {
        self.realms.values()
    }

    /// Returns where a realm's users are written: its first source that can write. Every write through it
    /// is followed by the invalidation of what the caches know about it.
    #[must_use]
    pub fn directory(&self, realm: &str) -> Option<&Arc<Fenced>> {
        self.directories.get(realm)
    }

    /// Returns the hashing pool.
    #[must_use]
    pub fn hasher(&self) -> &Arc<Hasher> {
        &self.hasher
    }

    /// Checks a new password against the quality rules.
    ///
    /// # Errors
    /// [`Invalid`](auth_core::ErrorKind::Invalid) with the rule that it breaks.
    pub fn check_quality(&self, login: &Login, password: &Password) -> Result<()> {
        self.quality.check(login, password)
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reports whether no source was configured, so that the stack has made its own, in the data folder.
    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// Returns where the parts of the configuration came from, to name the place in errors.
    #[must_use]
    pub const fn origins(&self) -> &Origins {
        &self.loaded.origins
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Shows the composed configuration as TOML: what was set, the defaults that matter beside it, and every
    /// secret masked.
    #[must_use]
    pub fn show(&self) -> String {
        toml::to_string_pretty(&self.shown()).unwrap_or_default()
    }

    /// The same as JSON.
    #[must_use]
    pub fn show_json(&self) -> serde_json::Value {
        serde_json::to_value(self.shown()).unwrap_or_default()
    }

    fn shown(&self) -> Table {
        let mut table = self.loaded.masked_table();
        let Config { cache, realm, server, .. } = &self.config;
        let mut add = |section: &str, values: Table| {
            let place = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(place) = place {
                for (key, value) in values {
                    place.entry(key).or_insert(value);
                }
            }
        };
        let text = |text: &str| Value::String(text.to_owned());
        let list = |names: &[String]| Value::Array(names.iter().map(|name| text(name)).collect());
        let size = i64::try_from(cache.size).unwrap_or(i64::MAX);
        let pairs = [("kind", text(&cache.kind)), ("size", Value::Integer(size))];
        add("cache", pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        let pairs = [("listen", text(&server.listen.to_string())), ("realm", text(&server.realm))];
        add("server", pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        let realms = realm.iter().map(|(name, realm)| {
            let objects = realm.objects.iter().map(|(domain, source)| (domain.clone(), text(source)));
            let settings = [
                ("password", list(&realm.password)),
                ("groups", list(&realm.groups)),
                ("objects", Value::Table(objects.collect())),
            ];
            let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value));
            (name.clone(), Value::Table(settings.collect()))
        });
        // Realms that were configured are shown as they were.
        add("realm", realms.collect());
        table
    }

    /// Returns how the logins ended so far.
    #[must_use]
    pub fn logins(&self) -> Vec<(String, &'static str, u64)> {
        self.audit.counts()
    }

    /// Returns what the hashing pool has done.
    #[must_use]
    pub fn hashing(&self) -> HasherStats {
        self.hasher.stats()
    }

    /// Reports on every source: what the last questions and probes have told.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceReport> {
        self.prober.reports()
    }

    /// Reports on every source as it is now: asks as [`probe`](Self::probe) does, unless that was begun less
    /// than a second ago. Whoever comes meanwhile waits for the same look, and nobody for longer than a
    /// second; a source that takes longer is in the next report as it turns out to be. So a source is seen to
    /// be back, or gone, although nobody logs in. Needs the tokio runtime.
    pub async fn sources_now(&self) -> Vec<SourceReport> {
        self.prober.look().await
    }

    /// Reports on every cache: its realm, and what it has done.
    #[must_use]
    pub fn caches(&self) -> Vec<(Arc<str>, Report)> {
        self.caches.iter().map(|cache| (Arc::clone(&cache.realm), cache.reports.report())).collect()
    }

    /// Reports on remembered passwords and replaced hashes, for each source that shows hashes in each realm.
    #[must_use]
    pub fn memos(&self) -> Vec<MemoReport> {
        let report = |memo: &Memo| MemoReport {
            realm: Arc::clone(&memo.realm),
            source: Arc::clone(&memo.source),
            stats: memo.hashed.stats(),
        };
        self.hashed.iter().map(report).collect()
    }

    /// Makes what is remembered about a subject be asked for again.
    ///
    /// Which source a login was found in stays known, so that an outage right after it opens no door.
    pub fn expire(&self, subject: &Subject<'_>) {
        self.fence.invalidate(subject);
    }

    /// Forgets everything about a subject, also which source a login was found in.
    pub fn flush(&self, subject: &Subject<'_>) {
        match *subject {
            Subject::Login(login) => self.owners.forget(login),
            Subject::Realm(realm) => self.owners.forget_realm(realm.name()),
            Subject::All => self.realms.keys().for_each(|realm| self.owners.forget_realm(realm)),
            _ => {}
        }
        self.fence.invalidate(subject);
    }

    /// Asks every source, at the same time, a question that it must be able to answer, and reports. What
    /// came of it is in [`SourceReport::fault`] as well: one unreadable record turns no source down, but is
    /// no good answer either.
    pub async fn probe(&self) -> Vec<SourceReport> {
        self.prober.probe().await
    }
}
