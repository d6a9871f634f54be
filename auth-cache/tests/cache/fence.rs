//! After an invalidation, nobody gets what was loaded before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use auth_cache::TokenMemory;
use auth_core::{
    AccountSource, Capabilities, Clock, Ctx, Freshness, GroupOracle, GroupSet, Lookup, Member, ObjectPerms,
    Principal, Result, SourceInfo, Subject, TokenCache, TokenId, TokenState,
};
use auth_testkit::{info, login, principal_at, realm};

use crate::helpers::{ALL, Bed, Scene, What, calvin, doc, each_subject, new, old, seconds, soon, until};

fn count_subjects(what: What) -> usize {
    let mut n = 0;
    each_subject(what, |_| n += 1);
    n
}

/// Invalidates the nth subject of this question.
fn invalidate(bed: &Bed, what: What, nth: usize) {
    let mut n = 0;
    each_subject(what, |subject| {
        if n == nth {
            bed.fence.invalidate(subject);
        }
        n += 1;
    });
}

#[derive(Clone, Copy, PartialEq)]
enum First {
    OldLoad,
    NewLoad,
}

/// A load starts; the store changes; the change is announced; the load ends with the old value.
async fn check_race(what: What, nth: usize, first: First) {
    let bed = Bed::new();
    let (scene, ctx) = (Scene::new(&bed), Ctx::new());
    let before = scene.spawn(what, ctx.clone());
    let late = soon(scene.store.next_question()).await;

    invalidate(&bed, what, nth);
    let after = scene.spawn(what, ctx.clone());
    // It does not join: it puts a question of its own.
    let fresh = soon(scene.store.next_question()).await;

    match first {
        First::OldLoad => {
            late.answer(old(what));
            assert_eq!(soon(before).await.unwrap().unwrap(), "old");
            assert_eq!(scene.peek(what, &ctx), None, "{what:?} {nth}: an old answer was kept");
            fresh.answer(new(what));
            assert_eq!(soon(after).await.unwrap().unwrap(), "new");
        }
        First::NewLoad => {
            fresh.answer(new(what));
            assert_eq!(soon(after).await.unwrap().unwrap(), "new");
            late.answer(old(what));
            assert_eq!(soon(before).await.unwrap().unwrap(), "old");
        }
    }
    assert_eq!(scene.peek(what, &ctx).as_deref(), Some("new"), "{what:?} {nth}");
    assert_eq!((scene.store.asked(), scene.report(what).voided), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_load_begun_before_an_invalidation_is_neither_kept_nor_joined_after_it() {
    for what in ALL {
        for nth in 0..count_subjects(what) {
            check_race(what, nth, First::OldLoad).await;
            check_race(what, nth, First::NewLoad).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_voids_what_is_kept_at_once() {
    for what in ALL {
        for nth in 0..count_subjects(what) {
            let bed = Bed::new();
            let (scene, ctx) = (Scene::new(&bed), Ctx::new());
            let asked = scene.spawn(what, ctx.clone());
            soon(scene.store.next_question()).await.answer(old(what));
            soon(asked).await.unwrap().unwrap();
            assert_eq!(scene.peek(what, &ctx).as_deref(), Some("old"));
            invalidate(&bed, what, nth);
            assert_eq!(scene.peek(what, &ctx), None, "{what:?} {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_leaves_others_alone() {
    for what in ALL {
        let bed = Bed::new();
        let (scene, ctx) = (Scene::new(&bed), Ctx::new());
        let asked = scene.spawn(what, ctx.clone());
        soon(scene.store.next_question()).await.answer(old(what));
        soon(asked).await.unwrap().unwrap();

        let other = principal_at("app", "susie", auth_core::Id::from(2));
        let elsewhere = auth_testkit::realm_with("elsewhere", auth_core::LoginRule::CaseMapped);
        let id = other.id();
        bed.fence.invalidate(&Subject::Login(other.login()));
        bed.fence.invalidate(&Subject::Id { realm: other.realm(), source: "app", id });
        bed.fence.invalidate(&Subject::Id { realm: other.realm(), source: "staff", id: calvin().id() });
        bed.fence
            .invalidate(&Subject::Object { realm: other.realm(), object: &auth_testkit::object("doc", 2) });
        bed.fence.invalidate(&Subject::Object { realm: &elsewhere, object: &doc() });
        bed.fence.invalidate(&Subject::Groups(&elsewhere));
        bed.fence.invalidate(&Subject::Realm(&elsewhere));
        assert_eq!(scene.peek(what, &ctx).as_deref(), Some("old"), "{what:?}");
    }
}

#[tokio::test]
async fn one_invalidation_voids_everything_about_that_person_and_nothing_about_another() {
    use auth_testkit::{MemoryStore, login, object, principal};
    let bed = Bed::new();
    let store = Arc::new(MemoryStore::new());
    let (accounts, groups, access) = (bed.accounts(&store), bed.groups(&store), bed.access(&store));
    let tokens = TokenMemory::new("default", Arc::clone(&bed.fence), bed.clock(), &bed.settings);
    let (ctx, doc) = (Ctx::new(), object("doc", 1));
    for (n, name) in (0_u8..).zip(["calvin", "susie"]) {
        let who = principal(name);
        accounts.account(&ctx, &login(name)).await.unwrap();
        groups.groups_of(&ctx, &who).await.unwrap();
        access.access(&ctx, &who, &doc, None).await.unwrap();
        let state = Arc::new(TokenState {
            principal: who,
            scopes: GroupSet::empty(),
            expires_at: bed.clock.wall() + seconds(60),
            claims: None,
        });
        let watch = bed.fence.watch(bed.clock.now());
        tokens.put(&ctx, &TokenId::new([n; 32]), &state, seconds(60), watch).await.unwrap();
    }
    let kept = |n: u8, name: &str| {
        let who = principal(name);
        [
            accounts.peek_account(&ctx, &login(name)).is_some(),
            groups.peek_groups(&ctx, &who).is_some(),
            access.peek_access(&ctx, &who, &doc, None).is_some(),
            tokens.peek_token(&ctx, &TokenId::new([n; 32])).is_some(),
        ]
    };
    assert_eq!((kept(0, "calvin"), kept(1, "susie")), ([true; 4], [true; 4]));
    bed.fence.invalidate(&Subject::Login(&login("calvin")));
    assert_eq!((kept(0, "calvin"), kept(1, "susie")), ([false; 4], [true; 4]));
}

#[tokio::test(start_paused = true)]
async fn an_older_load_does_not_replace_a_newer_answer() {
    for what in ALL {
        let bed = Bed::new();
        let (scene, ctx) = (Scene::new(&bed), Ctx::new());
        let before = scene.spawn(what, ctx.clone());
        let late = soon(scene.store.next_question()).await;
        // The store changes and nobody says so; somebody asks past the cache.
        bed.clock.advance(seconds(1));
        let after = scene.spawn(what, ctx.clone().with_freshness(Freshness::Fresh));
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(after).await.unwrap().unwrap(), "new");
        late.answer(old(what));
        assert_eq!(soon(before).await.unwrap().unwrap(), "old");
        assert_eq!(scene.peek(what, &ctx).as_deref(), Some("new"), "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_while_nobody_is_known_voids_that_too() {
    let bed = Bed::new();
    let (scene, ctx) = (Scene::new(&bed), Ctx::new());
    let before = scene.spawn(What::Account, ctx.clone());
    let late = soon(scene.store.next_question()).await;
    bed.fence.invalidate(&Subject::Login(&login("calvin")));
    late.answer(Ok(auth_testkit::Answer::NotFound));
    assert_eq!(soon(before).await.unwrap().unwrap(), "nobody");
    assert_eq!(scene.peek(What::Account, &ctx), None);
}

/// A source whose answer is how often it was changed.
#[derive(Debug)]
struct Versions {
    info: SourceInfo,
    version: AtomicU64,
}

#[async_trait]
impl GroupOracle for Versions {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, _who: &Principal) -> Result<Lookup<GroupSet>> {
        let read = self.version.load(Ordering::SeqCst).to_string();
        // The answer is on its way while the store changes.
        tokio::task::yield_now().await;
        Ok(Lookup::Found(std::iter::once(read.as_str()).collect()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_gets_less_than_what_was_announced_before_it_asked() {
    let bed = Bed::new();
    let source = Arc::new(Versions { info: info("app"), version: AtomicU64::new(0) });
    let cached = bed.groups(&source);
    let announced = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cached, announced) = (Arc::clone(&cached), Arc::clone(&announced));
            tokio::spawn(async move {
                let (who, ctx) = (calvin(), Ctx::new());
                for _ in 0..5_000 {
                    let least = announced.load(Ordering::SeqCst);
                    let found = match cached.peek_groups(&ctx, &who) {
                        Some(found) => found,
                        None => cached.groups_of(&ctx, &who).await.unwrap(),
                    };
                    let groups = found.found().unwrap();
                    let read: u64 = groups.iter().next().unwrap().parse().unwrap();
                    assert!(read >= least, "read {read} after {least} was announced");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writer = tokio::spawn({
        let (fence, source) = (Arc::clone(&bed.fence), Arc::clone(&source));
        async move {
            let (who, realm) = (calvin(), realm());
            for n in 1..=2_000 {
                source.version.store(n, Ordering::SeqCst);
                match n % 3 {
                    0 => fence.invalidate(&Subject::Login(who.login())),
                    1 => fence.invalidate(&Subject::Id { realm: &realm, source: "app", id: who.id() }),
                    _ => fence.invalidate(&Subject::Groups(&realm)),
                }
                announced.store(n, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_oracle_that_cant_list_is_asked_each_time() {
    let bed = Bed::new();
    let cannot = Capabilities { lists_groups: false, ..Capabilities::default() };
    let store = Arc::new(auth_testkit::ScriptedStore::new(info("app").with_capabilities(cannot)));
    let cached = bed.groups(&store);
    for n in 1..=2 {
        let record = Arc::new(auth_core::Record::explaining());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let asked = tokio::spawn({
            let (cached, ctx) = (Arc::clone(&cached), ctx);
            async move { cached.is_member(&ctx, &calvin(), "staff").await }
        });
        soon(store.next_question()).await.answer(Ok(Member::Yes));
        assert_eq!(soon(asked).await.unwrap().unwrap(), Member::Yes);
        assert_eq!(store.asked(), n);
        assert!(record.steps().iter().any(|step| step.outcome.starts_with("off")));
        assert_eq!(record.cache(), auth_core::CacheUse::Miss);
    }
    until(|| store.try_question().is_none()).await;
}
