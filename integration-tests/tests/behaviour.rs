//! The suite of auth-testkit over every store: bare, and through the composed stack with every cache, alone
//! and behind another source in a chain. All give the same answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{Access, AccountSource, Ctx, GroupOracle, ObjectPerms, Result, Verdict};
use auth_stack::{Opening, Provides, Stack};
use auth_store_file::{FileConfig, FileStore};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::suite;
use auth_testkit::{ByTable, CountingSource, ManualClock, MemoryStore, World, info, object, require_all};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use common::{Ran, STORES, Store, bench, block_on, compose, config, fill, run_suite};

/// The kinds of cache that are built in.
fn caches() -> impl Iterator<Item = &'static str> {
    let in_process =
        |kind: &&auth_cache::Kind| matches!(kind.build, auth_cache::Build::Off | auth_cache::Build::Table(_));
    auth_cache::kinds().iter().filter(in_process).map(|kind| kind.name)
}

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
    let bench = bench(store);
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
            ran.at_least(if store == Store::HtFiles { 34 } else { 44 }).done()
        }
        Way::Alone(cache) | Way::Chained(cache) => {
            let chained = matches!(way, Way::Chained(_));
            let config = config(store, &source, chained, &folder);
            let Some(stack) = opened(compose(&config, cache).await, require_all())? else {
                return left_out(store, way);
            };
            assert_eq!(stack.config().cache.kind, cache, "the environment chooses the cache");
            let ran = run_suite(&stack, store).await;
            let (hits, entries): (u64, u64) =
                stack.caches().iter().fold((0, 0), |(hits, entries), (_, report)| {
                    (hits + report.stats.hits, entries + report.stats.entries)
                });
            assert_eq!(hits > 0 && entries > 0, cache != "none", "{cache}: {hits} hits, {entries} entries");
            ran.done()
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
