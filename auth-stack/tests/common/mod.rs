//! Stacks over stores that a test holds in its hand.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Change, Ctx, Directory, Error, ErrorKind, GroupOracle, GroupSet, Login,
    Lookup, NewUser, ObjectPerms, ObjectRef, Principal, RealmId, Result, SourceInfo, StateChange, StoredHash,
    UserEntry, Verdict,
};
use auth_stack::{Builder, Opening, Provides, SourceKind, Stack};
use auth_testkit::MemoryStore;
use tokio::sync::{Semaphore, watch};

/// Cheap hashes, and none replaced.
pub(crate) const CHEAP: &str = "[password]\nupgrade = false\nargon2 = { memory_kib = 64, passes = 1 }\n";

/// The kinds of cache that are built in, which must all give the same answers.
pub(crate) fn caches() -> impl Iterator<Item = &'static str> {
    let in_process =
        |kind: &&auth_cache::Kind| matches!(kind.build, auth_cache::Build::Off | auth_cache::Build::Table(_));
    auth_cache::kinds().iter().filter(in_process).map(|kind| kind.name)
}

/// Those that remember.
pub(crate) fn remembering() -> impl Iterator<Item = &'static str> {
    caches().filter(|cache| *cache != "none")
}

/// The kind `given`: its sources are those that the test has made, by name.
#[derive(Default)]
pub(crate) struct Given(BTreeMap<String, Provides>);

#[async_trait]
impl SourceKind for Given {
    async fn open(&self, opening: Opening<'_>) -> Result<Provides> {
        assert!(opening.settings.is_empty());
        Ok(self.0[&**opening.info.name()].clone())
    }
}

/// Begins a stack of the given sources; `text` follows their sections.
pub(crate) fn builder(sources: &[(&str, Provides)], text: &str) -> Builder {
    let sections: String =
        sources.iter().map(|(name, _)| format!("[source.{name}]\nkind = \"given\"\n")).collect();
    let given = sources.iter().map(|(name, provides)| ((*name).to_owned(), provides.clone())).collect();
    Stack::builder()
        .data(std::env::temp_dir().join("gatepost-tests-make-no-data-folder"))
        .config(&format!("{CHEAP}{sections}{text}"))
        .register_source("given", Given(given))
}

/// Provides everything that a store in memory knows, and writes to it.
pub(crate) fn all<S: AccountSource + GroupOracle + ObjectPerms + 'static>(store: &Arc<S>) -> Provides {
    Provides::all_of(Arc::clone(store))
}

/// What becomes of somebody who gives a login and a password in the realm `default`.
pub(crate) async fn attempt(stack: &Stack, login: &str, password: &str) -> Result<Verdict> {
    let realm = stack.realm("default").unwrap();
    realm.attempt(&Ctx::new(), login, password.as_bytes().to_vec()).await
}

/// The same in a word: the source that accepts, the reason of a rejection, or the kind of an error.
pub(crate) async fn told(stack: &Stack, login: &str, password: &str) -> String {
    match attempt(stack, login, password).await {
        Ok(Verdict::Accepted(who)) => who.source().to_string(),
        Ok(Verdict::Rejected(reason)) => reason.as_str().to_owned(),
        Err(error) => format!("error {}", error.kind()),
    }
}

/// Who has a login in the realm `default`.
pub(crate) async fn who(stack: &Stack, login: &str) -> Principal {
    let realm = stack.realm("default").unwrap();
    let login = Login::parse(realm.id(), login).unwrap();
    realm.principal(&Ctx::new(), &login).await.unwrap().found().unwrap()
}

/// A store in memory that can be written to, whose answers can be held after they were read, and that can
/// fail.
#[derive(Debug)]
pub(crate) struct Slow {
    pub(crate) store: MemoryStore,
    held: watch::Sender<bool>,
    read: Semaphore,
    asked: AtomicU64,
    down: AtomicBool,
}

impl Slow {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::named(name),
            held: watch::Sender::new(false),
            read: Semaphore::new(0),
            asked: AtomicU64::new(0),
            down: AtomicBool::new(false),
        })
    }

    pub(crate) fn provides(self: &Arc<Self>) -> Provides {
        Provides::all_of(Arc::clone(self)).with_directory(Arc::clone(self) as Arc<dyn Directory>)
    }

    /// From now on answers wait on their way.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Waits until so many answers were read and wait.
    pub(crate) async fn has_read(&self, answers: u32) {
        self.read.acquire_many(answers).await.unwrap().forget();
    }

    /// Lets the answers go on.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// From now on it fails, or answers again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// How many questions it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    async fn way<T>(&self, answer: Result<T>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "no connection"));
        }
        let mut held = self.held.subscribe();
        if *held.borrow() {
            self.read.add_permits(1);
            held.wait_for(|held| !held).await.unwrap();
        }
        answer
    }
}

#[async_trait]
impl AccountSource for Slow {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.store)
    }
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.way(self.store.account(ctx, login).await).await
    }
    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.store.replace_hash(ctx, who, old, new).await
    }
}

#[async_trait]
impl GroupOracle for Slow {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.store)
    }
    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.way(self.store.groups_of(ctx, who).await).await
    }
}

#[async_trait]
impl ObjectPerms for Slow {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.store)
    }
    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        self.way(self.store.access(ctx, who, object, mode).await).await
    }
}

fn no<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "not in this test"))
}

#[async_trait]
impl Directory for Slow {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.store)
    }
    async fn add_user(&self, _: &Ctx, user: &NewUser) -> Result<Change> {
        self.store.add_user(user.login.as_str(), auth_core::Id::from(99), user.hash.clone());
        Ok(Change::Done)
    }
    async fn users(&self, _: &Ctx, _: &RealmId, _: Option<&str>, _: u32) -> Result<Vec<UserEntry>> {
        no()
    }
    async fn user(&self, _: &Ctx, _: &Login) -> Result<Lookup<UserEntry>> {
        no()
    }
    async fn set_hash(&self, _: &Ctx, login: &Login, hash: &StoredHash) -> Result<Change> {
        self.store.set_hash(login.as_str(), Some(hash.clone()));
        Ok(Change::Done)
    }
    async fn set_state(&self, _: &Ctx, login: &Login, change: &StateChange) -> Result<Change> {
        let disabled = change.disabled.unwrap_or_default();
        self.store.set_state(login.as_str(), auth_core::AccountState { disabled, ..Default::default() });
        Ok(Change::Done)
    }
    async fn delete_user(&self, _: &Ctx, login: &Login) -> Result<Change> {
        self.store.remove_user(login.as_str());
        Ok(Change::Done)
    }
    async fn join(&self, _: &Ctx, login: &Login, group: &str) -> Result<Change> {
        self.store.join(login.as_str(), group);
        Ok(Change::Done)
    }
    async fn leave(&self, _: &Ctx, login: &Login, group: &str) -> Result<Change> {
        self.store.leave(login.as_str(), group);
        Ok(Change::Done)
    }
    async fn groups(&self, _: &Ctx) -> Result<Vec<String>> {
        no()
    }
    async fn domains(&self, _: &Ctx) -> Result<Vec<String>> {
        no()
    }
    async fn add_object(&self, _: &Ctx, object: &ObjectRef) -> Result<Change> {
        self.store.add_object(object);
        Ok(Change::Done)
    }
    async fn delete_object(&self, _: &Ctx, object: &ObjectRef) -> Result<Change> {
        self.store.remove_object(object);
        Ok(Change::Done)
    }
    async fn grant(&self, _: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        self.store.grant(login.as_str(), object, mode);
        Ok(Change::Done)
    }
    async fn revoke(&self, _: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        self.store.revoke(login.as_str(), object, mode);
        Ok(Change::Done)
    }
}
