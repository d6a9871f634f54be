//! The composed stack: realms over sources, with every wrapper in its one place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Fenced, Report, Reports};
use auth_core::{
    Clock, Ctx, Error, ErrorKind, Fence, Health, HealthReport, Id, Login, LoginRule, ObjectRef, Owners,
    Password, Realm, Result, Subject,
};
use auth_password::{Hasher, HasherStats, Quality};
use futures_util::future::{Either, join_all, select};
use toml::{Table, Value};

use crate::audit::LogAudit;
use crate::builder::Builder;
use crate::config::Config;
use crate::load::Loaded;
use crate::origins::Origins;
use crate::source::{Passwords, Provides};

/// A source as the stack holds it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) kind: String,
    pub(crate) provides: Provides,
    pub(crate) health: Arc<Health>,
    pub(crate) used: bool,
    pub(crate) limit: Duration,
}

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
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) caches: Vec<Cache>,
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

/// A source as operators see it.
#[derive(Debug, Clone)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What it has answered so far.
    pub health: HealthReport,
    /// What is wrong with it although it answers.
    pub fault: Option<Error>,
    /// Whether a realm uses it.
    pub used: bool,
}

impl SourceReport {
    /// Reports whether the source is fit: it answered last time, and nothing is wrong with it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.fault.is_none() && self.health.up != Some(false)
    }
}

impl Stack {
    /// Composes what the environment says: `GATEPOST_CONFIG` names the file, and the other names of the
    /// environment stand over it. Nothing configured at all is an embedded store and a cache.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place; temporary kinds if a source can't be
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
    /// [`Invalid`](ErrorKind::Invalid) with the rule that it breaks.
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

    /// Reports on every source.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceReport> {
        self.sources
            .iter()
            .map(|(name, source)| SourceReport {
                name: name.clone(),
                kind: source.kind.clone(),
                health: source.health.report(),
                fault: source.provides.fault.as_ref().and_then(|fault| fault()),
                used: source.used,
            })
            .collect()
    }

    /// Reports on every cache: its realm, and what it has done.
    #[must_use]
    pub fn caches(&self) -> Vec<(Arc<str>, Report)> {
        self.caches.iter().map(|cache| (Arc::clone(&cache.realm), cache.reports.report())).collect()
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
        let asked = join_all(self.sources.iter().map(|(name, source)| async move {
            let began = self.clock.now();
            let question = std::pin::pin!(self.probe_source(name, source));
            let answer = match select(question, self.clock.sleep_until(began + source.limit)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
            };
            let fault = answer.err().map(|error| error.at(name.as_str()));
            source.health.note(fault.as_ref(), self.clock.now().since(began), &*self.clock);
            fault
        }));
        let faults = asked.await;
        let reports = self.sources().into_iter().zip(faults);
        reports.map(|(report, fault)| SourceReport { fault: report.fault.or(fault), ..report }).collect()
    }

    async fn probe_source(&self, name: &str, source: &Source) -> Result<()> {
        /// Nobody is called so; if somebody is, the answer is an answer.
        const NOBODY: &str = "gatepost-probe";
        let realm = auth_core::RealmId::new("probe", LoginRule::Exact)?;
        let login = Login::parse(&realm, NOBODY)?;
        let ctx = Ctx::new().with_deadline(self.clock.now() + source.limit);
        // "Any right", or any list, is a question that a source need not answer.
        let or_unsupported = |answer: Result<()>| match answer {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            answer => answer,
        };
        match &source.provides.passwords {
            Some(Passwords::Shows(store)) => store.account(&ctx, &login).await.map(drop)?,
            Some(Passwords::Decides(store)) => {
                or_unsupported(store.account(&ctx, &login).await.map(drop))?;
            }
            None => {}
        }
        let info = auth_core::SourceInfo::new(name, auth_core::Fingerprint::default());
        let Some(nobody) = auth_core::Principal::found(&info, &login, NOBODY, Id::from(NOBODY)) else {
            return Ok(());
        };
        if let Some(groups) = &source.provides.groups {
            or_unsupported(groups.groups_of(&ctx, &nobody).await.map(drop))?;
        }
        if let Some(objects) = &source.provides.objects {
            for domain in source.provides.domains.iter().filter(|domain| *domain != "*") {
                let object = ObjectRef::new(domain, [Id::from(NOBODY)])?;
                or_unsupported(objects.access(&ctx, &nobody, &object, None).await.map(drop))?;
            }
        }
        Ok(())
    }
}
