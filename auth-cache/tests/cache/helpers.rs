//! One bed for every test: a clock that the test moves, a fence, settings, and a source.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Cached, Reports, Settings, TableFactory, kinds};
use auth_core::{
    Access, Account, AccountSource, AccountState, Clock, Ctx, Error, Fence, GroupOracle, GroupSet, Id, Login,
    Lookup, ObjectPerms, ObjectRef, Principal, Result, Subject,
};
use auth_testkit::{Answer, ManualClock, ScriptedStore, hash, info, login, object, principal_at};

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Every kind of table that is built in.
pub(crate) fn tables() -> Vec<(&'static str, TableFactory)> {
    kinds().iter().filter_map(|kind| Some((kind.name, kind.factory()?))).collect()
}

/// Waits for what must come without the clock being moved. The runtime's own time is paused, so that a test
/// in which nothing happens any more fails at once.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(seconds(60), what).await.expect("nothing happens any more")
}

pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    soon(async {
        // Sleeping, not yielding: only then does a paused runtime see that nothing happens any more.
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A clock, a fence, and settings.
pub(crate) struct Bed {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) settings: Settings,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default().with_size(1000))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self { clock: ManualClock::new(), fence: Arc::new(Fence::new()), settings }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<ManualClock>::clone(&self.clock)
    }

    pub(crate) fn accounts<S: AccountSource + 'static>(
        &self,
        source: &Arc<S>,
    ) -> Arc<Cached<dyn AccountSource>> {
        let source: Arc<dyn AccountSource> = Arc::<S>::clone(source);
        Arc::new(Cached::new(source, Arc::clone(&self.fence), self.clock(), &self.settings))
    }

    pub(crate) fn groups<S: GroupOracle + 'static>(&self, source: &Arc<S>) -> Arc<Cached<dyn GroupOracle>> {
        let source: Arc<dyn GroupOracle> = Arc::<S>::clone(source);
        Arc::new(Cached::new(source, Arc::clone(&self.fence), self.clock(), &self.settings))
    }

    pub(crate) fn access<S: ObjectPerms + 'static>(&self, source: &Arc<S>) -> Arc<Cached<dyn ObjectPerms>> {
        let source: Arc<dyn ObjectPerms> = Arc::<S>::clone(source);
        Arc::new(Cached::new(source, Arc::clone(&self.fence), self.clock(), &self.settings))
    }

    /// Moves the clock once so many sleeps are under way.
    pub(crate) async fn advance(&self, sleepers: usize, by: Duration) {
        until(|| self.clock.sleepers() >= sleepers).await;
        self.clock.advance(by);
    }
}

/// A kind of question; each has an old answer and a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Account,
    Groups,
    Access,
}

pub(crate) const ALL: [What; 3] = [What::Account, What::Groups, What::Access];

pub(crate) fn calvin() -> Principal {
    principal_at("app", "calvin", Id::from(1))
}

pub(crate) fn doc() -> ObjectRef {
    object("doc", 1)
}

/// The three wrappers over one scripted store, asked about calvin.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) store: Arc<ScriptedStore>,
    pub(crate) accounts: Arc<Cached<dyn AccountSource>>,
    pub(crate) groups: Arc<Cached<dyn GroupOracle>>,
    pub(crate) access: Arc<Cached<dyn ObjectPerms>>,
}

impl Scene {
    pub(crate) fn new(bed: &Bed) -> Self {
        let store = Arc::new(ScriptedStore::new(info("app")));
        Self { accounts: bed.accounts(&store), groups: bed.groups(&store), access: bed.access(&store), store }
    }

    /// Asks; the answer is `old` or `new`.
    pub(crate) async fn ask(&self, what: What, ctx: &Ctx) -> Result<String> {
        match what {
            What::Account => self.account(ctx, &login("calvin")).await,
            What::Groups => self.groups.groups_of(ctx, &calvin()).await.map(group_text),
            What::Access => self.access.access(ctx, &calvin(), &doc(), Some("read")).await.map(access_text),
        }
    }

    pub(crate) async fn account(&self, ctx: &Ctx, login: &Login) -> Result<String> {
        self.accounts.account(ctx, login).await.map(account_text)
    }

    pub(crate) fn peek(&self, what: What, ctx: &Ctx) -> Option<String> {
        match what {
            What::Account => self.accounts.peek_account(ctx, &login("calvin")).map(account_text),
            What::Groups => self.groups.peek_groups(ctx, &calvin()).map(group_text),
            What::Access => self.access.peek_access(ctx, &calvin(), &doc(), Some("read")).map(access_text),
        }
    }

    /// Asks in a task of its own.
    pub(crate) fn spawn(&self, what: What, ctx: Ctx) -> tokio::task::JoinHandle<Result<String>> {
        let scene = self.clone();
        tokio::spawn(async move { scene.ask(what, &ctx).await })
    }

    pub(crate) fn report(&self, what: What) -> auth_cache::CacheStats {
        match what {
            What::Account => self.accounts.report().stats,
            What::Groups => self.groups.report().stats,
            What::Access => self.access.report().stats,
        }
    }
}

fn account_text(found: Lookup<Account>) -> String {
    match found {
        Lookup::Found(account) => account.hash().unwrap().as_str().to_owned(),
        Lookup::NotFound => "nobody".to_owned(),
    }
}

fn group_text(found: Lookup<GroupSet>) -> String {
    match found {
        Lookup::Found(groups) => groups.iter().collect::<Vec<_>>().join(","),
        Lookup::NotFound => "nobody".to_owned(),
    }
}

fn access_text(access: Access) -> String {
    match access {
        Access::Allow => "old".to_owned(),
        Access::Deny => "new".to_owned(),
        Access::NotFound => "nothing".to_owned(),
    }
}

fn answer(what: What, text: &'static str) -> std::result::Result<Answer, Error> {
    Ok(match what {
        What::Account => Account::new(calvin(), AccountState::default(), Some(hash(text))).into(),
        What::Groups => std::iter::once(text).collect::<GroupSet>().into(),
        What::Access if text == "old" => Access::Allow.into(),
        What::Access => Access::Deny.into(),
    })
}

pub(crate) fn old(what: What) -> Result<Answer> {
    answer(what, "old")
}

pub(crate) fn new(what: What) -> Result<Answer> {
    answer(what, "new")
}

/// Asks for the account of one of many.
pub(crate) fn one_of_many(scene: &Scene, n: u32) -> tokio::task::JoinHandle<Result<String>> {
    let scene = scene.clone();
    tokio::spawn(async move { scene.account(&Ctx::new(), &login(&format!("u{n}"))).await })
}

/// Every way to void the answer to this question.
pub(crate) fn each_subject(what: What, mut run: impl FnMut(&Subject<'_>)) {
    let (who, object) = (calvin(), doc());
    let mut subjects = vec![
        Subject::Login(who.login()),
        Subject::Id { realm: who.realm(), source: who.source(), id: who.id() },
        Subject::Realm(who.realm()),
        Subject::All,
    ];
    if what != What::Account {
        subjects.push(Subject::Groups(who.realm()));
    }
    if what == What::Access {
        subjects.push(Subject::Object { realm: who.realm(), object: &object });
    }
    for subject in &subjects {
        run(subject);
    }
}
