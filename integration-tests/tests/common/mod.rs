//! The stores that the suite runs over, and a composed stack asked as a store would be.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Access, Account, Capabilities, Ctx, Fingerprint, GroupOracle, GroupSet, Id, Login, Lookup, Member,
    ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Realm, Result, SourceInfo, Verdict,
};
use auth_stack::{Opening, Provides, Stack, SystemClock};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::servers::stopwatch;
use auth_testkit::suite::{self, Bench, Case};
use auth_testkit::{ManualClock, MemoryStore, Standing, World, info, object, realm};
use futures_util::FutureExt as _;
use integration_tests::{WORLD_QUERIES, load_world, world_htfiles, world_tables, world_toml};
use libtest_mimic::Failed;
use tempfile::TempDir;

/// The stores, and what each holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Store {
    Memory,
    Managed,
    Tables,
    HtFiles,
    Toml,
}

pub(crate) const STORES: [(&str, Store); 5] = [
    ("memory", Store::Memory),
    ("sqlite_managed", Store::Managed),
    ("sqlite_tables", Store::Tables),
    ("htfiles", Store::HtFiles),
    ("toml", Store::Toml),
];

/// Runs cases, and collects what they say.
#[derive(Default)]
pub(crate) struct Ran {
    count: usize,
    expected: usize,
    failures: Vec<String>,
}

impl Ran {
    pub(crate) async fn all<S: Sync + ?Sized>(&mut self, cases: Vec<Case<S>>, source: &S, bench: &Bench) {
        for case in cases {
            self.count += 1;
            if let Err(panic) = AssertUnwindSafe(case.run(source, bench)).catch_unwind().await {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                self.failures.push(format!("{}: {words}", case.name()));
            }
        }
    }

    /// At least so many cases must run: a list that became empty shows nothing.
    pub(crate) const fn at_least(mut self, expected: usize) -> Self {
        self.expected = expected;
        self
    }

    pub(crate) fn done(self) -> std::result::Result<(), Failed> {
        assert!(self.count >= self.expected.max(1), "{} cases, not {}", self.count, self.expected);
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures.join("\n").into()) }
    }
}

/// What the suite expects of a store.
pub(crate) fn bench(store: Store) -> Bench {
    let bench = Bench::new(&realm());
    if store == Store::HtFiles {
        return bench.holding(|user| user.standing == Standing::Open).with_ids(|user| Id::text(user.login));
    }
    bench
}

/// Runs the suite through the realm `default` of a stack over a store that is called `app`.
pub(crate) async fn run_suite(stack: &Stack, store: Store) -> Ran {
    // The realm asks in the names of its sources.
    let (facade, bench) = (Facade::new(stack), bench(store).issued_by("app"));
    let mut ran = Ran::default().at_least(if store == Store::HtFiles { 24 } else { 34 });
    ran.all(suite::password_cases(), &facade, &bench).await;
    ran.all(suite::group_cases(), &facade, &bench).await;
    if store != Store::HtFiles {
        ran.all(suite::object_cases(), &facade, &bench).await;
    }
    ran
}

/// Everything that may be asked about everybody, and what a stack says, in words.
pub(crate) async fn answers(stack: &Stack, has_objects: bool) -> Vec<String> {
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let mut told = Vec::new();
    let mut tell =
        |question: String, answer: &dyn std::fmt::Debug| told.push(format!("{question}: {answer:?}"));
    let logins = World::users().iter().map(|user| user.login).chain(["nobody", "calvi%", "CALVIN"]);
    for login in logins {
        let parsed = Login::parse(realm.id(), login).unwrap();
        let account = realm.account(&ctx, &parsed).await.unwrap();
        tell(format!("{login}'s account"), &account);
        let Some(who) = realm.principal(&ctx, &parsed).await.unwrap().found() else { continue };
        tell(format!("{login}'s groups"), &realm.groups(&ctx, &who).await.unwrap());
        for group in ["admin", "staff", "ghosts"] {
            let member = realm.is_member(&ctx, &who, group).await.unwrap();
            tell(format!("{login} in {group}"), &member);
        }
        if !has_objects {
            continue;
        }
        let objects: Vec<_> = World::objects().iter().map(|object| object.object()).collect();
        for object in objects.iter().chain([&object("doc", 3)]) {
            for mode in [Some("read"), Some("write"), Some("fly"), None] {
                let access = realm.access(&ctx, &who, object, mode).await.unwrap();
                tell(format!("{login} {mode:?} {object:?}"), &access);
            }
        }
    }
    told
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Puts the world where the store keeps it; returns the settings of a source over it.
pub(crate) async fn fill(store: Store, folder: &TempDir) -> String {
    let path = |name: &str| folder.path().join(name);
    match store {
        Store::Memory => "kind = \"memory\"\n".to_owned(),
        Store::Managed => {
            let url = format!("sqlite:{}", path("managed.db").display());
            let store =
                SqlStore::connect(info("app"), SqlConfig::new(&url), ManualClock::new()).await.unwrap();
            load_world(&*Arc::new(store).directory().unwrap()).await;
            format!("kind = \"sql\"\nurl = \"{url}\"\n")
        }
        Store::Tables => {
            let file = path("tables.db");
            let made = file.clone();
            // It has a runtime of its own.
            std::thread::spawn(move || world_tables(&made)).join().unwrap();
            format!("kind = \"sql\"\nurl = \"sqlite:{}\"\n{WORLD_QUERIES}", file.display())
        }
        Store::HtFiles => {
            let (users, groups) = world_htfiles();
            std::fs::write(path("htpasswd"), users).unwrap();
            std::fs::write(path("htgroup"), groups).unwrap();
            let (users, groups) = (path("htpasswd"), path("htgroup"));
            format!("kind = \"file\"\npath = \"{}\"\ngroups = \"{}\"\n", users.display(), groups.display())
        }
        Store::Toml => {
            std::fs::write(path("users.toml"), world_toml()).unwrap();
            format!("kind = \"file\"\npath = \"{}\"\n", path("users.toml").display())
        }
    }
}

/// A realm over the source, alone or behind another source, which knows somebody else.
pub(crate) fn config(store: Store, source: &str, chained: bool, folder: &TempDir) -> String {
    let objects = if store == Store::HtFiles { "" } else { "objects = { doc = \"app\" }\n" };
    let mut text = format!("[source.app]\n{source}\n");
    let sources = if chained {
        let file = folder.path().join("first.toml");
        std::fs::write(&file, "[user.first]\ngroups = [\"first\"]\n").unwrap();
        text += &format!("[source.first]\nkind = \"file\"\npath = \"{}\"\n", file.display());
        "\"first\", \"app\""
    } else {
        "\"app\""
    };
    text + &format!("[realm.default]\npassword = [{sources}]\ngroups = [{sources}]\n{objects}")
}

/// Composes a stack; the cache's kind comes from the environment, and from nowhere else.
pub(crate) async fn compose(config: &str, cache: &str) -> Result<Stack> {
    // Rejections cost a hash job of the preferred kind: a cheap one. The world keeps its hashes.
    let config = format!("{config}\n[password]\npreferred = \"bcrypt\"\nbcrypt_cost = 4\nupgrade = false\n");
    let builder = Stack::builder().register_source("memory", open_memory).config(&config);
    builder.var("CACHE", cache).clock(Arc::new(SystemClock::new())).build().await
}

pub(crate) async fn open_memory(opening: Opening<'_>) -> Result<Provides> {
    Ok(Provides::all_of(Arc::new(MemoryStore::named(opening.info.name()))))
}

/// A realm, asked as a source would be.
#[derive(Debug)]
pub(crate) struct Facade {
    realm: Arc<Realm>,
    info: SourceInfo,
}

impl Facade {
    pub(crate) fn new(stack: &Stack) -> Self {
        let realm = Arc::clone(stack.realm("default").unwrap());
        Self { realm, info: SourceInfo::new("facade", Fingerprint::default()) }
    }

    /// Over sources one of which can't tell an unknown login from a wrong password.
    pub(crate) fn telling(mut self, tells_unknown: bool) -> Self {
        self.info = self.info.with_capabilities(Capabilities { tells_unknown, ..Capabilities::default() });
        self
    }
}

#[async_trait]
impl PasswordSource for Facade {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let verdict = self.realm.login(ctx, login, password).await?;
        let typed = self.realm.attempt(ctx, login.as_str(), password.as_bytes().to_vec()).await?;
        assert_eq!(verdict, typed, "{login:?}: what is typed and what is parsed");
        Ok(verdict)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.realm.account(ctx, login).await
    }
}

#[async_trait]
impl GroupOracle for Facade {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.realm.groups(ctx, who).await.map(Lookup::Found)
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        self.realm.is_member(ctx, who, group).await
    }
}

#[async_trait]
impl ObjectPerms for Facade {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        self.realm.access(ctx, who, object, mode).await
    }

    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        self.realm.access_many(ctx, who, objects, mode).await
    }
}

/// Long enough for a busy machine, and the longest that a shared cache may be waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A stack that is connected to what it shares, and hears where it must.
pub(crate) async fn ready(config: &str, kind: &str) -> Stack {
    let stack = compose(config, kind).await.unwrap();
    reached(|| stack.probe_shared()).await;
    until("it hears", || stack.shared().unwrap().hearing.is_none_or(|hearing| !hearing.deaf)).await;
    stack
}

/// Asks until there is an answer: connections are made on the way.
pub(crate) async fn reached<F: Future<Output = Result<()>>>(ask: impl Fn() -> F) {
    let began = stopwatch();
    while let Err(error) = ask().await {
        assert!(began.elapsed() < PATIENCE, "{error:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for what other tasks do.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = stopwatch();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
