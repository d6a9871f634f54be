//! A thousand askers of one question, and what may happen to the one whose load they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{Ask, Bound, Entry, Key, Limits, Reports, Settings, Table, Usage};
use auth_core::{
    Access, Clock, Ctx, ErrorKind, GroupOracle, GroupSet, Id, Lookup, ObjectPerms, ObjectRef, Principal,
    Result, SourceInfo,
};
use auth_testkit::{Answer, info, object, principal_at};

use crate::helpers::{ALL, Bed, Scene, What, calvin, new, old, seconds, soon, until};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Who began the load leaves.
    Leaves,
    /// Who began the load can't wait.
    Hurries,
    /// The source panics.
    Panics,
    /// The source fails.
    Fails,
    /// The source answers nobody.
    Hangs,
    /// The source drops the question.
    Drops,
    /// Everybody leaves.
    AllLeave,
}

const FAULTS: [Fault; 7] =
    [Fault::Leaves, Fault::Hurries, Fault::Panics, Fault::Fails, Fault::Hangs, Fault::Drops, Fault::AllLeave];

async fn check(what: What, fault: Fault) {
    let bed = Bed::new();
    let scene = Scene::new(&bed);
    let hurry = Ctx::new().with_deadline(bed.clock.now() + seconds(1));
    let leader = scene.spawn(what, if fault == Fault::Hurries { hurry } else { Ctx::new() });
    let question = soon(scene.store.next_question()).await;
    let others: Vec<_> = (0..999).map(|_| scene.spawn(what, Ctx::new())).collect();
    until(|| scene.report(what).misses == 1000).await;

    let mut askers = Vec::new();
    let expected = match fault {
        Fault::Leaves => {
            leader.abort();
            soon(leader).await.unwrap_err();
            question.answer(old(what));
            Ok("old".to_owned())
        }
        Fault::Hurries => {
            bed.advance(2, seconds(1)).await;
            assert_eq!(soon(leader).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
            question.answer(old(what));
            Ok("old".to_owned())
        }
        Fault::Panics => {
            askers.push(leader);
            // The script panics over an answer to another sort of question.
            question.answer(Ok(Answer::Replaced(true)));
            Err(ErrorKind::Internal)
        }
        Fault::Fails => {
            askers.push(leader);
            question.fail(ErrorKind::Unavailable);
            Err(ErrorKind::Unavailable)
        }
        Fault::Hangs => {
            askers.push(leader);
            bed.advance(1, seconds(5)).await;
            Err(ErrorKind::Timeout)
        }
        Fault::Drops => {
            askers.push(leader);
            drop(question);
            Err(ErrorKind::Internal)
        }
        Fault::AllLeave => {
            for asker in others.iter().chain([&leader]) {
                asker.abort();
            }
            until(|| others.iter().all(tokio::task::JoinHandle::is_finished)).await;
            question.answer(old(what));
            until(|| scene.report(what).entries == 1).await;
            assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("old"));
            assert_eq!((scene.store.asked(), scene.report(what).under_way), (1, 0));
            return;
        }
    };
    for asker in askers.into_iter().chain(others) {
        let answer = soon(asker).await.unwrap().map_err(|error| error.kind());
        assert_eq!(answer, expected, "{what:?} {fault:?}");
    }
    let stats = scene.report(what);
    assert_eq!((scene.store.asked(), stats.loads, stats.coalesced), (1, 1, 999), "{what:?} {fault:?}");
    assert_eq!((stats.under_way, stats.load_errors), (0, u64::from(expected.is_err())));
    until(|| bed.clock.sleepers() == 0).await;
    if expected.is_err() {
        // Nothing is left over: the next question is put again.
        assert_eq!((scene.peek(what, &Ctx::new()), stats.entries), (None, 0));
        let again = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(again).await.unwrap().unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_a_load_a_thousand_askers_are_answered_and_nothing_is_left_over() {
    for what in ALL {
        for fault in FAULTS {
            check(what, fault).await;
        }
    }
}

#[test]
fn who_waits_for_a_load_of_a_runtime_that_ends_is_told_and_may_ask_again() {
    for what in ALL {
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (ends, stays) = (build(), build());
        let scene = Scene::new(&Bed::new());
        let ask = |scene: &Scene| {
            let scene = scene.clone();
            async move { scene.ask(what, &Ctx::new()).await }
        };
        let first = ends.spawn(ask(&scene));
        let question = stays.block_on(scene.store.next_question());
        let second = stays.spawn(ask(&scene));
        while scene.report(what).coalesced == 0 {
            std::thread::yield_now();
        }
        drop(ends);
        assert!(question.is_abandoned() && stays.block_on(first).unwrap_err().is_cancelled());
        let told = stays.block_on(second).unwrap().unwrap_err();
        assert_eq!((told.kind(), scene.report(what).under_way), (ErrorKind::Unavailable, 0));
        let again = stays.spawn(ask(&scene));
        stays.block_on(scene.store.next_question()).answer(new(what));
        assert_eq!(stays.block_on(again).unwrap().unwrap(), "new");
    }
}

/// Somebody else's table, with a fault: it panics over the first entry that it is to keep.
#[derive(Debug)]
struct Brittle {
    inner: Arc<dyn Table>,
    breaks: Arc<AtomicBool>,
    // When this is looked at; else when something is put.
    at: Option<ObjectRef>,
}

impl Brittle {
    fn settings(at: Option<ObjectRef>) -> Settings {
        let (sound, breaks) = (Settings::default().factory, Arc::new(AtomicBool::new(true)));
        Settings::new(Arc::new(move |bound| {
            Arc::new(Self { inner: sound(bound), breaks: Arc::clone(&breaks), at: at.clone() })
        }))
    }
}

impl Table for Brittle {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        if matches!((ask, &self.at), (Ask::Access(_, object, _), Some(at)) if *object == at) {
            assert!(!self.breaks.swap(false, Ordering::SeqCst), "a table that breaks");
        }
        self.inner.see(ask, see);
    }

    fn put(&self, key: Key, entry: Entry) {
        assert!(self.at.is_some() || !self.breaks.swap(false, Ordering::SeqCst), "a table that breaks");
        self.inner.put(key, entry);
    }

    fn remove(&self, ask: &Ask<'_>) {
        self.inner.remove(ask);
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn bound(&self) -> Option<Bound> {
        self.inner.bound()
    }

    fn clear(&self) {
        self.inner.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_panics_once_strands_nobody_and_ends_no_refreshing() {
    let told = |kind| kind == ErrorKind::Unavailable;
    for what in ALL {
        let bed = Bed::with(Brittle::settings(None));
        let scene = Scene::new(&bed);
        let askers = [scene.spawn(what, Ctx::new()), scene.spawn(what, Ctx::new())];
        soon(scene.store.next_question()).await.answer(old(what));
        for asker in askers {
            assert!(told(soon(asker).await.unwrap().unwrap_err().kind()), "{what:?}");
        }
        assert_eq!(scene.report(what).under_way, 0);

        let asked = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(Duration::from_millis(100));
        question.answer(old(what));
        assert_eq!(soon(asked).await.unwrap().unwrap(), "old");
        while scene.report(what).refreshes == 0 {
            bed.clock.advance(Duration::from_millis(10));
            assert!(scene.peek(what, &Ctx::new()).is_some(), "{what:?}: it ended before it was refreshed");
        }
        soon(scene.store.next_question()).await.answer(new(what));
        until(|| scene.peek(what, &Ctx::new()).as_deref() == Some("new")).await;
    }

    // Nor those whose answers come after the one over which it panics.
    let scene = Scene::new(&Bed::with(Brittle::settings(None)));
    let docs = [object("doc", 1), object("doc", 2)];
    let asked = tokio::spawn({
        let scene = scene.clone();
        async move { scene.access.access_many(&Ctx::new(), &calvin(), &docs, None).await }
    });
    for _ in 0..2 {
        soon(scene.store.next_question()).await.answer(Ok(Access::Allow));
    }
    for answer in soon(asked).await.unwrap() {
        assert!(told(answer.unwrap_err().kind()));
    }
    assert_eq!(scene.report(What::Access).under_way, 0);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_panics_when_it_is_looked_at_leaves_no_load_that_nobody_makes() {
    let docs = [object("doc", 1), object("doc", 2)];
    let scene = Scene::new(&Bed::with(Brittle::settings(Some(docs[1].clone()))));
    let asked = || {
        let (scene, docs) = (scene.clone(), docs.clone());
        tokio::spawn(async move { scene.access.access_many(&Ctx::new(), &calvin(), &docs, None).await })
    };
    assert!(soon(asked()).await.unwrap_err().is_panic());
    assert_eq!(scene.report(What::Access).under_way, 0);
    let again = asked();
    for _ in 0..2 {
        soon(scene.store.next_question()).await.answer(Ok(Access::Allow));
    }
    assert!(soon(again).await.unwrap().into_iter().all(|answer| answer.unwrap() == Access::Allow));
}

/// A source that counts how many ask it at once.
#[derive(Debug)]
struct Crowded {
    info: SourceInfo,
    now: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

#[async_trait]
impl GroupOracle for Crowded {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, _who: &Principal) -> Result<Lookup<GroupSet>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(Lookup::Found(GroupSet::empty()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_start_asks_the_source_no_more_at_once_than_is_allowed() {
    const PEOPLE: usize = 100_000;
    let limits = Limits { loads: 16, queue: PEOPLE, ..Limits::default() };
    let bed = Bed::with(Settings::default().with_limits(limits));
    let zero = || AtomicUsize::new(0);
    let source = Arc::new(Crowded { info: info("app"), now: zero(), most: zero(), asked: zero() });
    let cached = bed.groups(&source);
    let one = principal_at("app", "calvin", Id::from(0));
    let source_info = info("app");
    let askers: Vec<_> = (0..i64::try_from(PEOPLE).unwrap())
        .map(|n| {
            let who = Principal::found(&source_info, one.login(), "calvin", Id::from(n)).unwrap();
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.groups_of(&Ctx::new(), &who).await })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap().unwrap();
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), PEOPLE);
    let most = source.most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most}");
    assert_eq!(cached.report().stats.under_way, 0);
}
