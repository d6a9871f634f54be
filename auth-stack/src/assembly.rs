//! What is being put together: the fixed order of wrappers is written here and nowhere else.
//!
//! Realm > guard > chain > per source: hashed or confirmed (with the memo) > cached > watched > store; for groups and rights:
//! realm > union or router > linked > cached > watched > store.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Cached, Fenced, Reports, Settings};
use auth_core::{
    AccountSource, Audit, ByLogin, ChainEntry, Clock, DomainRouter, Fence, GroupOracle, GroupUnion, Health,
    Link, Linked, Next, ObjectPerms, Owners, PasswordChain, PasswordSource, Realm, RealmId, Result, Role,
    Watched,
};
use auth_password::{Confirmed, Guard, Guarded, Hashed, Hasher, MemoConfig};

use crate::audit::LogAudit;
use crate::config::{LinkKind, NextName, RealmConfig, RoleName, SourceCommon};
use crate::feeds::{self, Feeds};
use crate::heir::{Heir, Kept};
use crate::load::Loaded;
use crate::owners::KeptOwners;
use crate::probe::Source;
use crate::settings::said;
use crate::source::{Passwords, Provides};
use crate::stack::{Cache, Memo, Remembering};

/// What is being put together.
pub(crate) struct Assembly<'a> {
    pub(crate) cache: Option<Settings>,
    pub(crate) memo: usize,
    /// The longest that one question to a realm may take.
    pub(crate) limit: Duration,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) owners: Arc<KeptOwners>,
    pub(crate) audit: Arc<LogAudit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) commons: BTreeMap<String, SourceCommon>,
    pub(crate) caches: Vec<Cache>,
    pub(crate) hashed: Vec<Memo>,
    /// Whether this is to take the place of a stack that serves.
    pub(crate) replaces: bool,
    pub(crate) heir: Option<Heir<'a>>,
    pub(crate) kept: Kept,
    pub(crate) loaded: &'a Loaded,
}

/// The accounts of a realm's sources: what asks for passwords and what links by login share their cache.
#[derive(Default)]
struct Accounts {
    shown: BTreeMap<String, Arc<dyn AccountSource>>,
    decided: BTreeMap<String, Arc<dyn PasswordSource>>,
}

impl Assembly<'_> {
    /// The realm that is there if none is configured: everything that the only source provides.
    pub(crate) fn default_realm(&self) -> Result<RealmConfig> {
        let mut sources = self.sources.iter();
        let (Some((name, source)), None) = (sources.next(), sources.next()) else {
            let message =
                "there are several sources: say in [realm.default] which of them, and in which order";
            return Err(self.loaded.origins.wrong(&["source"], message));
        };
        let provides = &source.provides;
        // A source that keeps a list is asked for what will be on it too.
        let lists = provides.domains.iter().any(|domain| domain == "*");
        let domains = provides.domains.iter().filter(|domain| !lists || *domain == "*");
        Ok(RealmConfig {
            password: vec![name.clone()],
            groups: provides.groups.iter().map(|_| name.clone()).collect(),
            objects: domains.map(|domain| (domain.clone(), name.clone())).collect(),
            ..RealmConfig::default()
        })
    }

    pub(crate) fn realm(&mut self, id: RealmId, config: &RealmConfig) -> Result<Realm> {
        let name = id.name().to_owned();
        let realm = ["realm", name.as_str()];
        let origins = &self.loaded.origins;
        if config.password.is_empty() {
            return Err(origins.wrong(&realm, "a realm needs sources: password = [\"...\"]"));
        }
        for (key, list) in [("password", &config.password), ("groups", &config.groups)] {
            for (at, source) in list.iter().enumerate() {
                let path = ["realm", &name, key, &at.to_string()];
                self.known(&path, source)?;
                if list.iter().take(at).any(|before| before == source) {
                    return Err(origins.wrong(&path, &format!("the source `{source}` is named twice")));
                }
            }
        }
        for (source, kind) in &config.link {
            let path = ["realm", &name, "link", source];
            self.known(&path, source)?;
            let asked = config.groups.contains(source) || config.objects.values().any(|used| used == source);
            if !asked && *kind != LinkKind::None {
                let message = format!("this realm asks `{source}` for no groups and no rights");
                return Err(origins.wrong(&path, &message));
            }
        }
        // One set of accounts a source: the password chain and the links share their cache.
        let mut accounts = Accounts::default();
        let mut chain = Vec::new();
        for (at, source) in config.password.iter().enumerate() {
            let path = ["realm", &name, "password", &at.to_string()];
            let provides = self.provides(&path, source)?;
            let common = self.common(source);
            let passwords: Arc<dyn PasswordSource> = match provides.passwords {
                Some(Passwords::Shows(store)) => {
                    let shown = self.accounts(&id, source, store, &mut accounts);
                    let memo = MemoConfig { ttl: self.accepted(), entries: self.memo };
                    let (hasher, fence, clock) =
                        (Arc::clone(&self.hasher), Arc::clone(&self.fence), Arc::clone(&self.clock));
                    let recheck = self.recheck();
                    let hashed = self.inherited(&id, source, &["password"], || {
                        let hashed = Hashed::new(shown, hasher, memo, fence, clock)?;
                        Ok(Arc::new(match recheck {
                            Some(every) => hashed.with_recheck(every),
                            None => hashed,
                        }))
                    })?;
                    let (realm, source) = (id.name().into(), source.as_str().into());
                    let by = Remembering::Hashed(Arc::clone(&hashed));
                    self.hashed.push(Memo { realm, source, by });
                    hashed
                }
                Some(Passwords::Decides(store)) => {
                    let decider = self.decider(&id, source, store, &mut accounts);
                    let memo = MemoConfig { ttl: self.accepted(), entries: self.memo };
                    let (fence, clock) = (Arc::clone(&self.fence), Arc::clone(&self.clock));
                    let make = || Ok(Arc::new(Confirmed::new(decider, memo, fence, clock)?));
                    let confirmed = self.inherited(&id, source, &["password"], make)?;
                    let (realm, source) = (id.name().into(), source.as_str().into());
                    let by = Remembering::Confirmed(Arc::clone(&confirmed));
                    self.hashed.push(Memo { realm, source, by });
                    confirmed
                }
                Some(Passwords::DecidesOnce(store)) => self.decider(&id, source, store, &mut accounts),
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
            .map_err(|error| origins.wrong(&["realm", &name, "password"], &said(&error)))?;

        let mut groups: Vec<Arc<dyn GroupOracle>> = Vec::new();
        for (at, source) in config.groups.iter().enumerate() {
            let path = ["realm", &name, "groups", &at.to_string()];
            let provides = self.provides(&path, source)?;
            let Some(store) = provides.groups.clone() else {
                return Err(origins.wrong(&path, &format!("the source `{source}` knows no groups")));
            };
            let link = self.link(&id, config, source, &provides, &mut accounts)?;
            let watched = self.watched(source, store) as Arc<dyn GroupOracle>;
            // Around the cache by its own type, which saves each answer from memory a virtual call.
            groups.push(match self.cached(&id, source, &watched, Cached::new) {
                Some(cached) => Arc::new(Linked::groups(cached, link)),
                None => Arc::new(Linked::groups(watched, link)),
            });
        }

        let mut routes: Vec<(Arc<str>, Arc<dyn ObjectPerms>)> = Vec::new();
        let mut stores: BTreeMap<&str, Arc<dyn ObjectPerms>> = BTreeMap::new();
        for (domain, source) in &config.objects {
            let path = ["realm", &name, "objects", domain];
            let provides = self.provides(&path, source)?;
            let Some(store) = provides.objects.clone() else {
                return Err(origins.wrong(&path, &format!("the source `{source}` knows no rights")));
            };
            if provides.domains != ["*"] && !provides.domains.contains(domain) {
                let known = provides.domains.iter().map(String::as_str);
                return Err(origins.unknown(&path, "domain", domain, known));
            }
            let routed = match stores.get(source.as_str()) {
                Some(known) => Arc::clone(known),
                None => {
                    let link = self.link(&id, config, source, &provides, &mut accounts)?;
                    let watched = self.watched(source, store) as Arc<dyn ObjectPerms>;
                    let linked: Arc<dyn ObjectPerms> = match self.cached(&id, source, &watched, Cached::new) {
                        Some(cached) => Arc::new(Linked::objects(cached, link)),
                        None => Arc::new(Linked::objects(watched, link)),
                    };
                    stores.insert(source, Arc::clone(&linked));
                    linked
                }
            };
            routes.push((domain.as_str().into(), routed));
        }
        let hashing = Arc::clone(&self.hasher) as Arc<dyn auth_core::HashCheck>;
        let passwords: Arc<dyn PasswordSource> = match &self.guard {
            Some(guard) => Arc::new(Guarded::new(Arc::new(chain), Arc::clone(guard))),
            None => Arc::new(chain),
        };
        Ok(Realm::new(id, passwords, hashing, Arc::clone(&self.clock))
            .with_groups(GroupUnion::new(groups))
            .with_objects(DomainRouter::new(routes))
            .with_audit(Arc::clone(&self.audit) as Arc<dyn Audit>)
            .with_limit(self.limit))
    }

    /// Follows the sources that tell of changes.
    pub(crate) fn feeds(&self, realms: &BTreeMap<String, RealmConfig>) -> Result<Feeds> {
        let mut ids = Vec::new();
        for (name, realm) in realms {
            ids.push((RealmId::new(name, realm.login.0)?, realm));
        }
        let serves = |source: &str| {
            let served = ids.iter().filter(|(_, realm)| uses(realm, source));
            served.map(|(id, _)| id.clone()).collect()
        };
        let follows = |source: &str| {
            let (heir, open) = (self.heir.as_ref()?, self.sources.get(source)?);
            if !heir.is_kept(source, open) {
                return None;
            }
            heir.old().feeds.get(source).map(Arc::clone)
        };
        feeds::follow(&self.sources, &self.fence, serves, follows, self.replaces)
    }

    /// Where each realm's users are written: in its first source that can write.
    pub(crate) fn directories(
        &self,
        realms: &BTreeMap<String, RealmConfig>,
    ) -> Result<BTreeMap<String, Arc<Fenced>>> {
        let mut ids = Vec::new();
        for (name, realm) in realms {
            ids.push((RealmId::new(name, realm.login.0)?, realm));
        }
        let mut directories = BTreeMap::new();
        for (id, realm) in &ids {
            let writer = |source: &String| {
                // Whoever is added to a list of people to refuse would be refused.
                let decides = self.common(source).role == RoleName::Decide;
                let directory = self.sources.get(source)?.provides.directory.as_ref();
                directory.filter(|_| decides).map(Arc::clone)
            };
            let Some((source, inner)) = realm.password.iter().find_map(|name| Some((name, writer(name)?)))
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
        made: &mut Accounts,
    ) -> Arc<dyn AccountSource> {
        if let Some(accounts) = made.shown.get(source) {
            return Arc::clone(accounts);
        }
        let watched = self.watched(source, store) as Arc<dyn AccountSource>;
        let accounts = match self.cached(realm, source, &watched, Cached::new) {
            Some(cached) => cached,
            None => watched,
        };
        made.shown.insert(source.to_owned(), Arc::clone(&accounts));
        accounts
    }

    /// The same of a source that decides by itself.
    fn decider(
        &mut self,
        realm: &RealmId,
        source: &str,
        store: Arc<dyn PasswordSource>,
        made: &mut Accounts,
    ) -> Arc<dyn PasswordSource> {
        if let Some(decider) = made.decided.get(source) {
            return Arc::clone(decider);
        }
        let watched = self.watched(source, store) as Arc<dyn PasswordSource>;
        let decider = match self.cached(realm, source, &watched, Cached::new) {
            Some(cached) => cached,
            None => watched,
        };
        made.decided.insert(source.to_owned(), Arc::clone(&decider));
        decider
    }

    fn link(
        &mut self,
        realm: &RealmId,
        config: &RealmConfig,
        source: &str,
        provides: &Provides,
        made: &mut Accounts,
    ) -> Result<Link> {
        let path = ["realm", realm.name(), "link", source];
        match config.link.get(source).copied().unwrap_or_default() {
            LinkKind::None => Ok(Link::None),
            LinkKind::Login => match &provides.passwords {
                Some(Passwords::Shows(store)) => {
                    let accounts = self.accounts(realm, source, Arc::clone(store), made);
                    Ok(Link::Through(Arc::new(ByLogin::new(accounts))))
                }
                Some(Passwords::Decides(store) | Passwords::DecidesOnce(store)) => {
                    let decider = self.decider(realm, source, Arc::clone(store), made);
                    Ok(Link::Through(Arc::new(ByLogin::of_decider(decider))))
                }
                None => Err(self.loaded.origins.wrong(&path, "this source can't look up a login")),
            },
            LinkKind::Query => match &provides.resolver {
                Some(resolver) => Ok(Link::Through(self.watched(source, Arc::clone(resolver)))),
                None => Err(self.loaded.origins.wrong(&path, "this source has no mapping query")),
            },
        }
    }

    fn watched<S: ?Sized + Send + Sync>(&self, source: &str, store: Arc<S>) -> Arc<Watched<S>> {
        let (limit, clock) = (self.limit_of(&self.common(source)), Arc::clone(&self.clock));
        Arc::new(Watched::new(store, limit, clock, self.health(source)))
    }

    /// A wrapper that remembers something: that of the stack before, if everything about it is as it was, and these
    /// sections too.
    fn inherited<T: Send + Sync + 'static>(
        &mut self,
        realm: &RealmId,
        source: &str,
        sections: &[&str],
        make: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Arc<T>> {
        let is_kept =
            |heir: &&Heir<'_>| self.sources.get(source).is_some_and(|open| heir.is_kept(source, open));
        let heir = self.heir.as_ref().filter(|heir| heir.same(sections)).filter(is_kept);
        let old = heir.and_then(|heir| heir.wrapper::<T>(realm, source));
        let wrapper = old.map_or_else(make, Ok)?;
        let key = (realm.name().to_owned(), source.to_owned(), std::any::type_name::<T>());
        self.kept.insert(key, Arc::clone(&wrapper) as Arc<dyn Any + Send + Sync>);
        Ok(wrapper)
    }

    fn health(&self, source: &str) -> Arc<Health> {
        self.sources.get(source).map_or_else(Arc::default, |source| Arc::clone(&source.health))
    }

    /// Makes a cache in front of a store, if there is to be one, and keeps it for the reports.
    fn cached<S: ?Sized, C: Reports + 'static>(
        &mut self,
        realm: &RealmId,
        source: &str,
        store: &Arc<S>,
        wrap: impl FnOnce(Arc<S>, Arc<Fence>, Arc<dyn Clock>, &Settings) -> C,
    ) -> Option<Arc<C>> {
        let settings = self.settings(source)?;
        let store = Arc::clone(store);
        let (fence, clock) = (Arc::clone(&self.fence), Arc::clone(&self.clock));
        let cached =
            self.inherited(realm, source, &[], || Ok(Arc::new(wrap(store, fence, clock, &settings)))).ok()?;
        let reports = Arc::clone(&cached) as Arc<dyn Reports>;
        self.caches.push(Cache { realm: realm.name().into(), reports });
        Some(cached)
    }

    /// The longest that one question to a source may take: less than a question to the realm, or each that
    /// hangs would be given up by its caller first, which is not held against the source.
    pub(crate) fn limit_of(&self, common: &SourceCommon) -> Duration {
        common.timeout.0.min(self.limit / 10 * 9)
    }

    /// The cache's settings for one source: a load gets a moment longer than the source, whose own limit
    /// is the one that is counted. The gate is the source's own, for all its caches in every realm.
    fn settings(&self, source: &str) -> Option<Settings> {
        let limit = self.limit_of(&self.common(source)) + Duration::from_secs(1);
        let settings = self.cache.clone()?.with_load_timeout(limit);
        let gate = &self.sources.get(source)?.gate;
        Some(settings.with_gate(Arc::clone(gate)))
    }

    /// How long a verified password is remembered: not at all without a cache.
    fn accepted(&self) -> Duration {
        self.cache.as_ref().map_or(Duration::ZERO, |settings| settings.lifetimes.get().accepted)
    }

    /// In which time a password that does not fit makes the source be asked once more: as long as an unknown
    /// login is taken for one. Where that is not at all, its default: it says how long new people wait, not that
    /// changed passwords shall. Without a cache there is nothing to doubt.
    fn recheck(&self) -> Option<Duration> {
        let unknown = self.cache.as_ref()?.lifetimes.get().unknown;
        (!unknown.is_zero()).then_some(unknown)
    }

    /// Refuses what is said about a source's part in chains if it is in none, and tells of sources for nothing.
    pub(crate) fn check_unused(&self, realms: &BTreeMap<String, RealmConfig>) -> Result<Vec<String>> {
        let mut unused = Vec::new();
        for (name, source) in &self.sources {
            if !source.used {
                unused.push(format!("no realm uses the source `{name}` of kind `{}`", source.kind));
                continue;
            }
            if realms.values().any(|realm| realm.password.contains(name)) {
                continue;
            }
            let settings = self.loaded.table.get("source").and_then(|sources| sources.get(name));
            for key in ["role", "on"] {
                if settings.is_some_and(|settings| settings.get(key).is_some()) {
                    let message = "no realm asks this source for passwords, which is what this is about";
                    return Err(self.loaded.origins.wrong(&["source", name, key], message));
                }
            }
        }
        Ok(unused)
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

fn uses(realm: &RealmConfig, source: &str) -> bool {
    let mut named = realm.password.iter().chain(&realm.groups).chain(realm.objects.values());
    named.any(|name| name == source)
}
