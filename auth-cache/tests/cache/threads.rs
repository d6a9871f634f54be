//! Real threads read while another invalidates: whoever asks after an invalidation reads nothing from before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use auth_cache::{Cached, Reports, Settings};
use auth_core::{
    Access, Account, AccountSource, AccountState, Ctx, GroupOracle, GroupSet, Login, Lookup, ObjectPerms,
    ObjectRef, Principal, Result, SourceInfo, StoredHash, Subject,
};
use auth_testkit::{hash, info, login};

use crate::helpers::{ALL, Bed, What, calvin, doc, tables};

/// A source whose every answer tells how often it was changed; rights tell whether that is even.
#[derive(Debug)]
struct Versions {
    info: SourceInfo,
    version: AtomicU64,
}

impl Versions {
    fn read(&self) -> u64 {
        let read = self.version.load(Ordering::SeqCst);
        // The answer is on its way while the source changes.
        std::thread::yield_now();
        read
    }
}

#[async_trait]
impl AccountSource for Versions {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
        let version = hash(&self.read().to_string());
        Ok(Lookup::Found(Account::new(calvin(), AccountState::default(), Some(version))))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl GroupOracle for Versions {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _: &Ctx, _: &Principal) -> Result<Lookup<GroupSet>> {
        Ok(Lookup::Found(std::iter::once(self.read().to_string().as_str()).collect()))
    }
}

#[async_trait]
impl ObjectPerms for Versions {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        Ok(right(self.read()))
    }
}

const fn right(version: u64) -> Access {
    if version.is_multiple_of(2) { Access::Allow } else { Access::Deny }
}

struct Scene {
    source: Arc<Versions>,
    accounts: Arc<Cached<dyn AccountSource>>,
    groups: Arc<Cached<dyn GroupOracle>>,
    access: Arc<Cached<dyn ObjectPerms>>,
    // The last version whose invalidation is through.
    announced: AtomicU64,
    over: AtomicBool,
}

/// What a reader saw: answers from memory, and answers while something was invalidated.
#[derive(Debug, Default)]
struct Seen {
    hits: AtomicU64,
    overlaps: AtomicU64,
}

impl Scene {
    /// Asks, and reports whether memory had it, and whether the answer is one of these versions'.
    async fn ask(&self, what: What, ctx: &Ctx, least: u64) -> (bool, bool) {
        let who = calvin();
        let is_new = |version: &str| {
            (least..=self.source.version.load(Ordering::SeqCst)).contains(&version.parse().unwrap())
        };
        match what {
            What::Account => {
                let name = login("calvin");
                let kept = self.accounts.peek_account(ctx, &name);
                let hit = kept.is_some();
                let found = match kept {
                    Some(kept) => kept,
                    None => self.accounts.account(ctx, &name).await.unwrap(),
                };
                (hit, is_new(found.found().unwrap().hash().unwrap().as_str()))
            }
            What::Groups => {
                let kept = self.groups.peek_groups(ctx, &who);
                let hit = kept.is_some();
                let found = match kept {
                    Some(kept) => kept,
                    None => self.groups.groups_of(ctx, &who).await.unwrap(),
                };
                (hit, is_new(found.found().unwrap().iter().next().unwrap()))
            }
            What::Access => {
                let kept = self.access.peek_access(ctx, &who, &doc(), None);
                let hit = kept.is_some();
                let told = match kept {
                    Some(kept) => kept,
                    None => self.access.access(ctx, &who, &doc(), None).await.unwrap(),
                };
                let now = self.source.version.load(Ordering::SeqCst);
                (hit, (least..=now).any(|version| right(version) == told))
            }
        }
    }

    async fn read(&self, what: What, seen: &Seen) {
        let ctx = Ctx::new();
        while !self.over.load(Ordering::SeqCst) {
            let least = self.announced.load(Ordering::SeqCst);
            let (hit, is_new) = self.ask(what, &ctx, least).await;
            assert!(is_new, "{what:?}: an answer from before version {least}, which was announced");
            let moved = self.announced.load(Ordering::SeqCst) != least;
            seen.hits.fetch_add(u64::from(hit), Ordering::SeqCst);
            seen.overlaps.fetch_add(u64::from(moved), Ordering::SeqCst);
        }
    }
}

#[test]
fn no_thread_reads_what_was_loaded_before_an_invalidation_that_it_knows_of() {
    /// Of each reader: answers from memory, and answers while an invalidation went on.
    const ENOUGH: u64 = 25;
    for (name, table) in tables() {
        let bed = Bed::with(Settings::new(table));
        let source = Arc::new(Versions { info: info("app"), version: AtomicU64::new(0) });
        let scene = Scene {
            accounts: bed.accounts(&source),
            groups: bed.groups(&source),
            access: bed.access(&source),
            source,
            announced: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let seen = ALL.map(|_| Seen::default());
        let is_enough = || {
            seen.iter().all(|seen| {
                seen.hits.load(Ordering::SeqCst) >= ENOUGH && seen.overlaps.load(Ordering::SeqCst) >= ENOUGH
            })
        };
        std::thread::scope(|threads| {
            let readers: Vec<_> = ALL
                .into_iter()
                .zip(&seen)
                .map(|(what, seen)| {
                    let scene = &scene;
                    threads.spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                        runtime.block_on(scene.read(what, seen));
                    })
                })
                .collect();
            let who = calvin();
            for n in 1..=1_000_000 {
                scene.source.version.store(n, Ordering::SeqCst);
                bed.fence.invalidate(&match n % 3 {
                    0 => Subject::Login(who.login()),
                    1 => Subject::Id { realm: who.realm(), source: "app", id: who.id() },
                    _ => Subject::Realm(who.realm()),
                });
                scene.announced.store(n, Ordering::SeqCst);
                // Others have their turn, so that answers are kept for a while.
                for _ in 0..n % 4 {
                    std::thread::yield_now();
                }
                if is_enough() || readers.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                    break;
                }
            }
            scene.over.store(true, Ordering::SeqCst);
        });
        assert!(is_enough(), "{name}: {seen:?}");
        let voided = scene.accounts.report().stats.voided
            + scene.groups.report().stats.voided
            + scene.access.report().stats.voided;
        assert!(voided > 0, "{name}: no load was under way when something was invalidated");
    }
}
