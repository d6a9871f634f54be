//! The suite of auth-testkit over every store: bare, and through the composed stack with every cache, alone
//! and behind another source in a chain. All give the same answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Ctx, Fingerprint, GroupOracle, GroupSet, Id, Login, Lookup, Member,
    ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Realm, Result, SourceInfo, Verdict,
};
use auth_stack::{Opening, Provides, Stack, SystemClock};
use auth_store_file::{FileConfig, FileStore};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::suite::{self, Bench, Case};
use auth_testkit::{
    ByTable, CountingSource, ManualClock, MemoryStore, Standing, World, info, object, realm, require_all,
};
use futures_util::FutureExt as _;
use integration_tests::{WORLD_QUERIES, load_world, world_htfiles, world_tables, world_toml};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

/// The kinds of cache that are built in.
fn caches() -> impl Iterator<Item = &'static str> {
    let in_process =
        |kind: &&auth_cache::Kind| matches!(kind.build, auth_cache::Build::Off | auth_cache::Build::Table(_));
    auth_cache::kinds().iter().filter(in_process).map(|kind| kind.name)
}

/// The stores, and what each holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Store {
    Memory,
    Managed,
    Tables,
    HtFiles,
    Toml,
}

const STORES: [(&str, Store); 5] = [
    ("memory", Store::Memory),
    ("sqlite_managed", Store::Managed),
    ("sqlite_tables", Store::Tables),
    ("htfiles", Store::HtFiles),
    ("toml", Store::Toml),
];

/// How a store is reached.
#[derive(Debug, Clone, Copy)]
enum Way {
    Bare,
    Alone(&'static str),
    Chained(&'static str),
}

fn main() -> ExitCode {
    let mut trials = vec![
        Trial::test("a_stack_that_cannot_be_opened_fails_where_all_are_required", || {
            let nothing = || Err(auth_core::Error::new(auth_core::ErrorKind::Unavailable, "no server"));
            assert!(opened::<()>(nothing(), true).is_err());
            assert!(opened::<()>(nothing(), false).unwrap().is_none());
            Ok(())
        }),
        Trial::test("stack_from_nothing_that_is_there", || {
            let wrong =
                block_on(compose("[source.app]\nkind = \"sql\"\nurl = \"sqlite:/nowhere/app.db\"", "ttl"));
            assert!(opened(wrong, true).is_err(), "a database that is not there must fail");
            Ok(())
        }),
    ];
    for (name, store) in STORES {
        let alone = caches().map(|cache| (format!("alone_{cache}"), Way::Alone(cache)));
        let chained = caches().map(|cache| (format!("chained_{cache}"), Way::Chained(cache)));
        for (how, way) in [("bare".to_owned(), Way::Bare)].into_iter().chain(alone).chain(chained) {
            trials.push(Trial::test(format!("{name}::{how}"), move || block_on(run(store, way))));
        }
    }
    // A list that became short shows little.
    assert!(caches().count() >= 8 && caches().any(|cache| cache == "none"));
    for cache in caches() {
        let loads = if cache == "none" { 3 } else { 1 };
        let name = format!("a_counting_source_sees_{loads}_of_3_questions_with_{cache}");
        trials.push(Trial::test(name, move || {
            block_on(count(cache, loads));
            Ok(())
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What was opened; nothing if it can't be had and need not be.
fn opened<T>(stack: Result<T>, required: bool) -> std::result::Result<Option<T>, Failed> {
    match stack {
        Ok(stack) => Ok(Some(stack)),
        Err(error) if required => Err(format!("can't be opened, and REQUIRE_ALL is set: {error:?}").into()),
        Err(_) => Ok(None),
    }
}

/// Says that nothing was shown.
#[expect(clippy::unnecessary_wraps, reason = "it is the end of a test")]
fn left_out(store: Store, way: Way) -> std::result::Result<(), Failed> {
    eprintln!("LEFT OUT, for it can't be opened: {store:?}, {way:?}");
    Ok(())
}

async fn run(store: Store, way: Way) -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir().unwrap();
    let source = fill(store, &folder).await;
    let mut bench = Bench::new(&realm());
    if store == Store::HtFiles {
        bench = bench.holding(|user| user.standing == Standing::Open).with_ids(|user| Id::text(user.login));
    }
    match way {
        Way::Bare => {
            let Some(bare) = opened(bare(store, &folder, &source).await, require_all())? else {
                return left_out(store, way);
            };
            let passwords = ByTable::new(Arc::clone(&bare.accounts), ManualClock::new());
            let mut ran = Ran::default();
            ran.all(suite::account_cases(), &*bare.accounts, &bench).await;
            ran.all(suite::password_cases(), &passwords, &bench).await;
            ran.all(suite::group_cases(), &*bare.groups, &bench).await;
            if let Some(objects) = &bare.objects {
                ran.all(suite::object_cases(), &**objects, &bench).await;
            }
            ran.done(if store == Store::HtFiles { 34 } else { 44 })
        }
        Way::Alone(cache) | Way::Chained(cache) => {
            let chained = matches!(way, Way::Chained(_));
            let config = config(store, &source, chained, &folder);
            let Some(stack) = opened(compose(&config, cache).await, require_all())? else {
                return left_out(store, way);
            };
            assert_eq!(stack.config().cache.kind, cache, "the environment chooses the cache");
            let facade = Facade::new(&stack);
            // The realm asks in the names of its sources.
            let bench = bench.issued_by("app");
            let mut ran = Ran::default();
            ran.all(suite::password_cases(), &facade, &bench).await;
            ran.all(suite::group_cases(), &facade, &bench).await;
            if store != Store::HtFiles {
                ran.all(suite::object_cases(), &facade, &bench).await;
            }
            let (hits, entries): (u64, u64) =
                stack.caches().iter().fold((0, 0), |(hits, entries), (_, report)| {
                    (hits + report.stats.hits, entries + report.stats.entries)
                });
            assert_eq!(hits > 0 && entries > 0, cache != "none", "{cache}: {hits} hits, {entries} entries");
            ran.done(if store == Store::HtFiles { 24 } else { 34 })
        }
    }
}

/// Runs cases, and collects what they say.
#[derive(Default)]
struct Ran {
    count: usize,
    failures: Vec<String>,
}

impl Ran {
    async fn all<S: Sync + ?Sized>(&mut self, cases: Vec<Case<S>>, source: &S, bench: &Bench) {
        for case in cases {
            self.count += 1;
            if let Err(panic) = AssertUnwindSafe(case.run(source, bench)).catch_unwind().await {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                self.failures.push(format!("{}: {words}", case.name()));
            }
        }
    }

    /// At least so many cases must have run: a list that became empty shows nothing.
    fn done(self, at_least: usize) -> std::result::Result<(), Failed> {
        assert!(self.count >= at_least, "{} cases, not {at_least}", self.count);
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures.join("\n").into()) }
    }
}

/// Puts the world where the store keeps it; returns the settings of a source over it.
async fn fill(store: Store, folder: &TempDir) -> String {
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

/// A store without anything around it.
struct BareStore {
    accounts: Arc<dyn AccountSource>,
    groups: Arc<dyn GroupOracle>,
    objects: Option<Arc<dyn ObjectPerms>>,
}

impl BareStore {
    fn new<S: AccountSource + GroupOracle + ObjectPerms + 'static>(store: S) -> Self {
        let store = Arc::new(store);
        let objects = Arc::clone(&store) as Arc<dyn ObjectPerms>;
        Self { accounts: Arc::clone(&store) as _, groups: store, objects: Some(objects) }
    }
}

async fn bare(store: Store, folder: &TempDir, source: &str) -> Result<BareStore> {
    let path = |name: &str| folder.path().join(name);
    Ok(match store {
        Store::Memory => BareStore::new(MemoryStore::named("app")),
        Store::Managed | Store::Tables => {
            let mut settings: toml::Table = toml::from_str(source).unwrap();
            settings.remove("kind");
            let config: SqlConfig = settings.try_into().unwrap();
            BareStore::new(SqlStore::connect(info("app"), config, ManualClock::new()).await?)
        }
        Store::HtFiles => {
            let config = FileConfig::new(path("htpasswd")).with_groups(path("htgroup"));
            let store = FileStore::connect(info("app"), config).await?;
            BareStore { objects: None, ..BareStore::new(store) }
        }
        Store::Toml => {
            BareStore::new(FileStore::connect(info("app"), FileConfig::new(path("users.toml"))).await?)
        }
    })
}

/// A realm over the source, alone or behind another source, which knows somebody else.
fn config(store: Store, source: &str, chained: bool, folder: &TempDir) -> String {
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
async fn compose(config: &str, cache: &str) -> Result<Stack> {
    // Rejections cost a hash job of the preferred kind: a cheap one. The world keeps its hashes.
    let config = format!("{config}\n[password]\npreferred = \"bcrypt\"\nbcrypt_cost = 4\nupgrade = false\n");
    let builder = Stack::builder().register_source("memory", open_memory).config(&config);
    builder.var("CACHE", cache).clock(Arc::new(SystemClock::new())).build().await
}

async fn open_memory(opening: Opening<'_>) -> Result<Provides> {
    Ok(Provides::all_of(Arc::new(MemoryStore::named(opening.info.name()))))
}

/// A realm, asked as a source would be.
#[derive(Debug)]
struct Facade {
    realm: Arc<Realm>,
    info: SourceInfo,
}

impl Facade {
    fn new(stack: &Stack) -> Self {
        let realm = Arc::clone(stack.realm("default").unwrap());
        Self { realm, info: SourceInfo::new("facade", Fingerprint::default()) }
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

/// Asks each question three times; the source must see so many of them.
async fn count(cache: &str, loads: u64) {
    let counted = Arc::new(CountingSource::new(Arc::new(MemoryStore::named("counted"))));
    let kind = Handed(Arc::clone(&counted));
    let config = "[source.counted]\nkind = \"counted\"\n[realm.default]\npassword = [\"counted\"]\n\
                  groups = [\"counted\"]\nobjects = { doc = \"counted\" }\n[password]\nupgrade = false\n";
    let stack = Stack::builder().register_source("counted", kind).config(config).var("CACHE", cache);
    let stack = stack.build().await.unwrap();
    let realm = stack.realm("default").unwrap();
    let (ctx, calvin) = (Ctx::new(), World::user("calvin"));
    let who = realm.principal(&ctx, &calvin.login_in(realm.id())).await.unwrap().found().unwrap();
    let before = counted.counts();
    for _ in 0..3 {
        let verdict = realm.attempt(&ctx, "calvin", b"hobbes".to_vec()).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted(who.clone()));
        assert_eq!(realm.groups(&ctx, &who).await.unwrap().len(), 2);
        assert_eq!(realm.access(&ctx, &who, &object("doc", 1), Some("read")).await.unwrap(), Access::Allow);
        let nobody = realm.attempt(&ctx, "nobody", b"hobbes".to_vec()).await.unwrap();
        assert_eq!(nobody, Verdict::Rejected(auth_core::Reject::UnknownUser));
    }
    let after = counted.counts();
    // Calvin's account was loaded before; nobody's absence was not.
    let accounts = if cache == "none" { 2 * loads } else { loads };
    assert_eq!(after.account - before.account, accounts, "accounts");
    assert_eq!(after.groups_of - before.groups_of, loads, "groups");
    assert_eq!(after.access - before.access, loads, "rights");
}

/// A kind of source that hands out one that was made before.
struct Handed(Arc<CountingSource<MemoryStore>>);

#[async_trait]
impl auth_stack::SourceKind for Handed {
    async fn open(&self, _: Opening<'_>) -> Result<Provides> {
        Ok(Provides::all_of(Arc::clone(&self.0)))
    }
}
