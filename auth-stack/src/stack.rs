//! The composed stack: realms over sources, with every wrapper in its one place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::time::Duration;

use auth_cache::{Bound, Carrier, Fenced, Lifetimes, Report, Reports, Settings, Ttls};
use auth_core::{Clock, Fence, Login, Owners as _, Password, Reached, Realm, Result, Subject};
use auth_password::{Confirmed, Guard, GuardStats, Hashed, HashedStats, Hasher, HasherStats, Quality};
use auth_store_sql::Push;
use auth_token::{KeyRing, TokenService};
use toml::{Table, Value};

use crate::audit::LogAudit;
use crate::builder::Builder;
use crate::config::{Config, Size, SourceCommon, Span};
use crate::feeds::{FeedReport, Feeds};
use crate::heir::Kept;
use crate::load::Loaded;
use crate::origins::Origins;
use crate::owners::KeptOwners;
use crate::probe::{Prober, SourceReport};
use crate::secret::shown_url;
use crate::shared::{Beyond, Plan, SharedReport, tell};
use crate::tokens::Tokens;

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
    pub(crate) feeds: Feeds,
    pub(crate) fence: Arc<Fence>,
    /// What is shared with other processes.
    pub(crate) beyond: Option<Arc<Beyond>>,
    pub(crate) owners: Arc<KeptOwners>,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) guard: Option<Arc<Guard>>,
    /// Nothing where no tokens were asked for.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) quality: Quality,
    pub(crate) audit: Arc<LogAudit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) commons: BTreeMap<String, SourceCommon>,
    /// Whether the cache's tables have a bound.
    pub(crate) bounded: bool,
    /// How long answers live; nothing without a cache.
    pub(crate) lifetimes: Option<Arc<Lifetimes>>,
    /// What works as configured, and may not be what was meant.
    pub(crate) warnings: Vec<String>,
    /// The settings of the caches, with what they share.
    pub(crate) settings: Option<Settings>,
    /// The sources that could not be reached.
    pub(crate) down: BTreeSet<String>,
    /// What remembers something, for the stack that comes after.
    pub(crate) kept: Kept,
    pub(crate) loaded: Loaded,
    pub(crate) data: PathBuf,
    pub(crate) embedded: bool,
}

/// Passwords that a source's part in a realm remembers and hashes that it replaces.
#[derive(Debug)]
pub(crate) struct Memo {
    pub(crate) realm: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) by: Remembering,
}

/// Who remembers them.
#[derive(Debug)]
pub(crate) enum Remembering {
    Hashed(Arc<Hashed>),
    Confirmed(Arc<Confirmed>),
}

impl Remembering {
    fn stats(&self) -> HashedStats {
        match self {
            Self::Hashed(hashed) => hashed.stats(),
            Self::Confirmed(confirmed) => confirmed.stats(),
        }
    }
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

    /// Returns the token service of a realm; nothing unless it was [asked for](Builder::with_tokens), and configured.
    #[must_use]
    pub fn tokens(&self, realm: &str) -> Option<&Arc<TokenService>> {
        self.tokens.as_ref()?.services.get(realm)
    }

    /// Returns the keys that access tokens are signed with; nothing where they are not JWTs.
    #[must_use]
    pub fn key_ring(&self) -> Option<&Arc<KeyRing>> {
        self.tokens.as_ref()?.ring.as_ref()
    }

    /// Returns what has happened to sessions how often: by realm, and by the name of the change.
    #[must_use]
    pub fn sessions(&self) -> Vec<(String, &'static str, u64)> {
        self.audit.session_counts()
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

    /// Returns what works as it is configured, and may not be what was meant: a cache without a bound, a source
    /// that nobody asks. They were logged as well.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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
        let Config { cache, realm, server, .. } = &self.config;
        let text = |text: &str| Value::String(text.to_owned());
        let list = |names: &[String]| Value::Array(names.iter().map(|name| text(name)).collect());
        let whole = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let mut caches = vec![("kind", text(&cache.kind))];
        if self.lifetimes.is_some() {
            caches.push(("stale_if_error", text(&cache.stale_if_error.to_string())));
            caches.push(("refresh_ahead", Value::Float(cache.refresh_ahead.0)));
        }
        if self.bounded && self.lifetimes.is_some() {
            caches.push(match cache.bound() {
                Bound::Entries(entries) => ("size", whole(entries)),
                bound => ("size", text(&Size(bound).to_string())),
            });
        }
        if let Some(beyond) = &self.beyond {
            caches.extend(self.beyond_shown(beyond, text));
        }
        let sources = self.commons.iter().map(|(name, common)| {
            let backoff = [
                ("after", Value::Integer(common.backoff.after.into())),
                ("first", text(&common.backoff.first.to_string())),
                ("most", text(&common.backoff.most.to_string())),
            ];
            let settings = [
                ("timeout", text(&common.timeout.to_string())),
                ("loads", whole(common.loads)),
                ("queue", whole(common.queue)),
                ("backoff", Value::Table(table(backoff))),
            ];
            (name.as_str(), Value::Table(table(settings)))
        });
        let server = [("listen", text(&server.listen.to_string())), ("realm", text(&server.realm))];
        let mut shown = self.loaded.masked_table();
        // Realms that were configured are shown as they were.
        let configured = shown.contains_key("realm");
        let sections = [("cache", table(caches)), ("source", table(sources)), ("server", table(server))];
        fill(&mut shown, table(sections.map(|(name, section)| (name, Value::Table(section)))));
        // In force, whatever they were made of: one for all, caps and defaults.
        if let (Some(lifetimes), Some(Value::Table(cache))) = (&self.lifetimes, shown.get_mut("cache")) {
            cache.insert("ttl".to_owned(), Value::Table(ttls(lifetimes.get())));
        }
        if !configured {
            let realms = realm.iter().map(|(name, realm)| {
                let objects = realm.objects.iter().map(|(domain, source)| (domain.as_str(), text(source)));
                let settings = [
                    ("password", list(&realm.password)),
                    ("groups", list(&realm.groups)),
                    ("objects", Value::Table(table(objects))),
                ];
                (name.as_str(), Value::Table(table(settings)))
            });
            shown.insert("realm".to_owned(), Value::Table(table(realms)));
        }
        shown
    }

    /// What is in force of what is shared.
    fn beyond_shown(&self, beyond: &Beyond, text: impl Fn(&str) -> Value) -> Vec<(&'static str, Value)> {
        let cache = &self.config.cache;
        let mut shown = vec![
            ("prefix", text(&cache.prefix)),
            ("seal", text(&cache.seal.to_string())),
            ("timeout", text(&cache.timeout.to_string())),
            ("connect_timeout", text(&cache.connect_timeout.to_string())),
        ];
        let Plan { tier, bus, local_ttl, local } = &beyond.plan;
        if let Some((_, url)) = tier {
            shown.push(("url", text(&shown_url(url))));
        }
        shown.push(("bus", text(&bus.as_deref().map_or_else(|| "none".to_owned(), shown_url))));
        if *local {
            if tier.is_some() {
                shown.push(("local", text(cache.local.as_deref().unwrap_or("ttl"))));
            }
            shown.extend(local_ttl.map(|most| ("local_ttl", text(&Span(most).to_string()))));
        }
        shown
    }

    /// Returns how the logins ended so far.
    #[must_use]
    pub fn logins(&self) -> Vec<(String, &'static str, u64)> {
        self.audit.counts()
    }

    /// Returns what the guard against guessing has done; nothing where there is none.
    #[must_use]
    pub fn guard(&self) -> Option<GuardStats> {
        self.guard.as_ref().map(|guard| guard.stats())
    }

    /// Returns what the hashing pool has done.
    #[must_use]
    pub fn hashing(&self) -> HasherStats {
        self.hasher.stats()
    }

    /// Reports on a source that tells of changes in it; nothing for one that does not.
    #[must_use]
    pub fn feed(&self, source: &str) -> Option<FeedReport> {
        self.feeds.get(source).map(|following| following.follower.report())
    }

    /// Returns the triggers by which a source's database can be made to tell of changes; nothing for one that can't.
    #[must_use]
    pub fn push(&self, source: &str) -> Option<&Arc<Push>> {
        self.prober.source(source)?.provides.push.as_ref()
    }

    /// Goes through the sources that could not be reached when this stack was composed [for a
    /// server](Builder::build_for_server). Every question to them fails until another stack takes this one's place.
    pub fn down(&self) -> impl Iterator<Item = &str> {
        self.down.iter().map(String::as_str)
    }

    /// Waits until every source that tells of changes is heard, for so long at most. To be called, once, before a stack
    /// that was built [`after`](Builder::after) another takes that one's place.
    pub async fn begin(&self, limit: Duration) {
        const PAUSE: Duration = Duration::from_millis(5);
        let until = self.clock.now() + limit;
        while self.feeds.values().any(|following| !following.follower.report().hears)
            && self.clock.now() < until
        {
            self.clock.sleep_until(self.clock.now() + PAUSE).await;
        }
        self.feeds.values().for_each(|following| following.follower.is_asked());
    }

    /// Reports whether a source is the very one that another stack has: open since then, and not opened anew.
    #[must_use]
    pub fn keeps(&self, other: &Self, source: &str) -> bool {
        match (self.prober.source(source), other.prober.source(source)) {
            (Some(here), Some(there)) => Arc::ptr_eq(&here.health, &there.health),
            _ => false,
        }
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

    /// Returns what the store of sessions answered when it was [last](Self::sources_now) asked: an error says why it did
    /// not, or that it has not answered yet. Nothing without a store.
    #[must_use]
    pub fn sessions_answer(&self) -> Option<Result<()>> {
        self.prober.sessions()
    }

    /// Reports on every cache: its realm, and what it has done.
    #[must_use]
    pub fn caches(&self) -> Vec<(Arc<str>, Report)> {
        self.caches.iter().map(|cache| (Arc::clone(&cache.realm), cache.reports.report())).collect()
    }

    /// Returns the longest that an answer lives in the cache of a [`Report`], from when its source was asked:
    /// no hit may be older.
    #[must_use]
    pub fn lifetime(&self, report: &Report) -> Duration {
        let Ttls { account, groups, allow, deny, unknown, not_found, token, .. } = match &self.lifetimes {
            Some(lifetimes) => lifetimes.get(),
            None => return Duration::ZERO,
        };
        match report.kind {
            "accounts" => account.max(unknown),
            "groups" => groups.max(unknown),
            "access" => allow.max(deny).max(not_found),
            _ => token,
        }
    }

    /// Returns the longest that an answer of this cache may stand in for a source that fails, from when the source
    /// was asked. Zero where none may. That there is nobody or nothing never does, however long it lives.
    #[must_use]
    pub fn stale_limit(&self, report: &Report) -> Duration {
        let Span(longer) = self.config.cache.stale_if_error;
        let ttls = self.lifetimes.as_ref().map(|lifetimes| lifetimes.get()).filter(|_| !longer.is_zero());
        let life = ttls.map_or(Duration::ZERO, |ttls| match report.kind {
            "accounts" => ttls.account,
            "groups" => ttls.groups,
            "access" => ttls.allow.max(ttls.deny),
            _ => Duration::ZERO,
        });
        // What is not kept can't stand in.
        if life.is_zero() { life } else { life + longer }
    }

    /// Returns for how many logins it is remembered which source knew them, and the most.
    #[must_use]
    pub fn owners(&self) -> (usize, usize) {
        (self.owners.len(), KeptOwners::bound())
    }

    /// Reports on remembered passwords and replaced hashes, for each source that shows hashes in each realm.
    #[must_use]
    pub fn memos(&self) -> Vec<MemoReport> {
        let report = |memo: &Memo| MemoReport {
            realm: Arc::clone(&memo.realm),
            source: Arc::clone(&memo.source),
            stats: memo.by.stats(),
        };
        self.hashed.iter().map(report).collect()
    }

    /// Returns how many invalidations there were: of the writes through the stack, and those on demand.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.fence.invalidations()
    }

    /// Reports on what is shared with other processes, if anything is.
    #[must_use]
    pub fn shared(&self) -> Option<SharedReport> {
        self.beyond.as_ref().map(|beyond| beyond.report())
    }

    /// Asks the shared cache something that it must be able to answer, if there is one.
    ///
    /// # Errors
    /// That of the first server which does not.
    pub async fn probe_shared(&self) -> Result<()> {
        match self.beyond.as_ref().and_then(|beyond| beyond.shared.as_ref()) {
            Some(shared) => shared.probe().await,
            None => Ok(()),
        }
    }

    /// Waits until all that was invalidated before is known beyond this process, too: by the shared cache, and by the
    /// processes that listen. Waits for half a second at most; what is not carried by then is tried again, for as
    /// long as any answer may live.
    pub async fn settle(&self) -> Reached {
        tell(self.fence.settle(Carrier::PATIENCE).await)
    }

    /// Makes what is remembered about a subject be asked for again: here at once, elsewhere once it is carried there;
    /// see [`settle`](Self::settle). Nothing of it stands in for a source that
    /// fails, `stale_if_error` or not: who demands this knows of a change.
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

/// The lifetimes as they are configured.
fn ttls(ttls: Ttls) -> Table {
    let Ttls { account, accepted, groups, allow, deny, unknown, not_found, token } = ttls;
    let each = [
        ("account", account),
        ("accepted", accepted),
        ("groups", groups),
        ("allow", allow),
        ("deny", deny),
        ("unknown", unknown),
        ("not_found", not_found),
        ("token", token),
    ];
    table(each.map(|(name, ttl)| (name, Value::String(Span(ttl).to_string()))))
}

fn table<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Table {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Puts defaults beside what was set, at every level.
fn fill(place: &mut Table, defaults: Table) {
    for (key, value) in defaults {
        match (place.get_mut(&key), value) {
            (None, value) => {
                place.insert(key, value);
            }
            (Some(Value::Table(place)), Value::Table(defaults)) => fill(place, defaults),
            (Some(_), _) => {}
        }
    }
}
