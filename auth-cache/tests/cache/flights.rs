//! One load for everybody who asks at the same time, and nobody suffers from another's end.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Limits, Settings, Ttls};
use auth_core::{Access, Clock, Ctx, ErrorKind, Freshness, GroupOracle, ObjectPerms, Result};
use auth_testkit::{Answer, CountingSource, MemoryStore, Mode, object, principal};
use tokio::task::JoinHandle;

use crate::helpers::{ALL, Bed, Scene, What, calvin, new, old, one_of_many, seconds, soon, until};

fn kind(answer: &Result<String>) -> ErrorKind {
    answer.as_ref().unwrap_err().kind()
}

/// Two askers of one question, the second joined to the first one's load.
async fn two(scene: &Scene, what: What) -> (JoinHandle<Result<String>>, JoinHandle<Result<String>>) {
    let joined = scene.report(what).coalesced;
    let first = scene.spawn(what, Ctx::new());
    until(|| scene.report(what).misses > 0).await;
    let second = scene.spawn(what, Ctx::new());
    until(|| scene.report(what).coalesced > joined).await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_askers_make_one_question() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let askers: Vec<_> = (0..1000).map(|_| scene.spawn(what, Ctx::new())).collect();
        until(|| scene.report(what).misses == 1000).await;
        soon(scene.store.next_question()).await.answer(old(what));
        for asker in askers {
            assert_eq!(soon(asker).await.unwrap().unwrap(), "old");
        }
        let stats = scene.report(what);
        assert_eq!((scene.store.asked(), stats.loads, stats.coalesced), (1, 1, 999));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn askers_on_many_threads_make_one_question_each_time() {
    let bed = Bed::new();
    let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
    let cached = bed.groups(&source);
    for round in 1..=200 {
        bed.fence.invalidate(&auth_core::Subject::All);
        let askers: Vec<_> = (0..20)
            .map(|_| {
                let cached = Arc::clone(&cached);
                tokio::spawn(async move { cached.groups_of(&Ctx::new(), &principal("calvin")).await })
            })
            .collect();
        for asker in askers {
            asker.await.unwrap().unwrap().found().unwrap();
        }
        assert_eq!(source.counts().groups_of, round);
    }
}

#[tokio::test(start_paused = true)]
async fn an_asker_who_leaves_harms_nobody() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let (first, second) = two(&scene, what).await;
        let question = soon(scene.store.next_question()).await;
        first.abort();
        assert!(soon(first).await.unwrap_err().is_cancelled());
        assert!(!question.is_abandoned());
        question.answer(old(what));
        assert_eq!(soon(second).await.unwrap().unwrap(), "old");
        assert_eq!(scene.store.asked(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_everybody_has_left_still_serves_who_comes_next() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let only = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        only.abort();
        soon(only).await.unwrap_err();
        question.answer(old(what));
        until(|| scene.report(what).entries == 1).await;
        assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("old"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_source_is_told_to_all_and_the_next_question_is_put_again() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let (first, second) = two(&scene, what).await;
        // The script panics over an answer to another sort of question.
        soon(scene.store.next_question()).await.answer(Ok(Answer::Replaced(true)));
        for asker in [first, second] {
            let answer = soon(asker).await.unwrap();
            assert_eq!(kind(&answer), ErrorKind::Internal);
            assert_eq!(answer.unwrap_err().to_string(), "internal: the source panicked (source app)");
        }
        let again = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(again).await.unwrap().unwrap(), "new");
        assert_eq!((scene.store.asked(), scene.report(what).load_errors), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_to_all_once_and_never_kept() {
    for what in ALL {
        for error in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Ambiguous, ErrorKind::Corrupt] {
            let scene = Scene::new(&Bed::new());
            let (first, second) = two(&scene, what).await;
            soon(scene.store.next_question()).await.fail(error);
            for asker in [first, second] {
                assert_eq!(kind(&soon(asker).await.unwrap()), error);
            }
            assert_eq!((scene.store.asked(), scene.report(what).entries), (1, 0));
            assert_eq!(scene.peek(what, &Ctx::new()), None);
            let again = scene.spawn(what, Ctx::new());
            soon(scene.store.next_question()).await.answer(old(what));
            assert_eq!(soon(again).await.unwrap().unwrap(), "old");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_leaves_what_is_kept_as_it_is() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let asked = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(old(what));
        soon(asked).await.unwrap().unwrap();
        let fresh = scene.spawn(what, Ctx::new().with_freshness(Freshness::Fresh));
        soon(scene.store.next_question()).await.fail(ErrorKind::Unavailable);
        assert_eq!(kind(&soon(fresh).await.unwrap()), ErrorKind::Unavailable);
        assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("old"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up_after_the_limit_of_a_load() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let (first, second) = two(&scene, what).await;
        let mut question = soon(scene.store.next_question()).await;
        bed.advance(1, seconds(5)).await;
        soon(question.abandoned()).await;
        for asker in [first, second] {
            assert_eq!(kind(&soon(asker).await.unwrap()), ErrorKind::Timeout);
        }
        let again = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(old(what));
        assert_eq!(soon(again).await.unwrap().unwrap(), "old");
        // The limit is a limit: nothing sleeps on.
        until(|| bed.clock.sleepers() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_asker_keeps_their_own_deadline() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let patient = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        let hasty = scene.spawn(what, Ctx::new().with_deadline(bed.clock.now() + seconds(1)));
        bed.advance(2, seconds(1)).await;
        assert_eq!(kind(&soon(hasty).await.unwrap()), ErrorKind::Timeout);
        assert!(!patient.is_finished());
        question.answer(old(what));
        assert_eq!(soon(patient).await.unwrap().unwrap(), "old");
        // Who is late already asks nobody, but takes what is there.
        let late = Ctx::new().with_deadline(bed.clock.now());
        assert_eq!(scene.ask(what, &late).await.unwrap(), "old");
        bed.fence.invalidate(&auth_core::Subject::All);
        assert_eq!(kind(&scene.ask(what, &late).await), ErrorKind::Timeout);
        assert_eq!(scene.store.asked(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_question_neither_reads_nor_joins_and_others_have_its_answer() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let any = scene.spawn(what, Ctx::new());
        let first = soon(scene.store.next_question()).await;
        let fresh = scene.spawn(what, Ctx::new().with_freshness(Freshness::Fresh));
        let second = soon(scene.store.next_question()).await;
        first.answer(old(what));
        assert_eq!(soon(any).await.unwrap().unwrap(), "old");
        assert!(!fresh.is_finished());
        bed.clock.advance(seconds(1));
        // Who asks for an answer of this moment joins neither.
        let now = scene.spawn(what, Ctx::new().with_freshness(Freshness::MaxAge(seconds(0))));
        let third = soon(scene.store.next_question()).await;
        second.answer(new(what));
        assert_eq!(soon(fresh).await.unwrap().unwrap(), "new");
        third.answer(new(what));
        assert_eq!(soon(now).await.unwrap().unwrap(), "new");
        assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("new"));
        assert_eq!(scene.store.asked(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_is_joined_only_if_it_is_young_enough() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let first = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(seconds(2));
        let joins = scene.spawn(what, Ctx::new().with_freshness(Freshness::MaxAge(seconds(2))));
        until(|| scene.report(what).coalesced == 1).await;
        let asks = scene.spawn(what, Ctx::new().with_freshness(Freshness::MaxAge(seconds(1))));
        let own = soon(scene.store.next_question()).await;
        question.answer(old(what));
        own.answer(new(what));
        assert_eq!(soon(first).await.unwrap().unwrap(), "old");
        assert_eq!(soon(joins).await.unwrap().unwrap(), "old");
        assert_eq!(soon(asks).await.unwrap().unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_flight_that_fails_leaves_the_newer_one_open() {
    for what in ALL {
        let scene = Scene::new(&Bed::new());
        let any = scene.spawn(what, Ctx::new());
        let first = soon(scene.store.next_question()).await;
        let fresh = scene.spawn(what, Ctx::new().with_freshness(Freshness::Fresh));
        let second = soon(scene.store.next_question()).await;
        first.fail(ErrorKind::Unavailable);
        assert_eq!(kind(&soon(any).await.unwrap()), ErrorKind::Unavailable);
        let joins = scene.spawn(what, Ctx::new());
        until(|| scene.report(what).coalesced == 1).await;
        second.answer(new(what));
        for asker in [fresh, joins] {
            assert_eq!(soon(asker).await.unwrap().unwrap(), "new");
        }
        assert_eq!(scene.store.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_an_answer_that_is_not_kept_is_neither_kept_nor_joined_after_it() {
    // "No such object" is not kept by default.
    let bed = Bed::new();
    let scene = Scene::new(&bed);
    let any = scene.spawn(What::Access, Ctx::new());
    let first = soon(scene.store.next_question()).await;
    bed.clock.advance(seconds(1));
    let fresh = scene.spawn(What::Access, Ctx::new().with_freshness(Freshness::Fresh));
    soon(scene.store.next_question()).await.answer(Ok(Access::NotFound));
    assert_eq!(soon(fresh).await.unwrap().unwrap(), "nothing");
    let later = scene.spawn(What::Access, Ctx::new());
    let third = soon(scene.store.next_question()).await;
    first.answer(old(What::Access));
    assert_eq!(soon(any).await.unwrap().unwrap(), "old");
    assert_eq!(scene.peek(What::Access, &Ctx::new()), None);
    third.answer(new(What::Access));
    assert_eq!(soon(later).await.unwrap().unwrap(), "new");
    assert_eq!(scene.peek(What::Access, &Ctx::new()).as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_told_nothing_older_than_an_answer_from_memory_may_be() {
    for what in ALL {
        let bed = Bed::with(Settings::default().with_ttls(Ttls::default().with_ttl(seconds(1))));
        let scene = Scene::new(&bed);
        let first = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(seconds(2));
        let joined: Vec<_> = (0..10).map(|_| scene.spawn(what, Ctx::new())).collect();
        until(|| scene.report(what).coalesced == 10).await;
        question.answer(old(what));
        assert_eq!(soon(first).await.unwrap().unwrap(), "old", "who asked first is told what was so then");
        // All the others once more, with one question.
        soon(scene.store.next_question()).await.answer(new(what));
        for asker in joined {
            assert_eq!(soon(asker).await.unwrap().unwrap(), "new");
        }
        let stats = scene.report(what);
        assert_eq!((scene.store.asked(), stats.misses, stats.coalesced, stats.hits), (2, 11, 10, 0));
    }
}

#[test]
fn a_load_whose_runtime_stands_still_is_given_up_and_asked_for_anew() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (idle, busy) = (runtime(), runtime());
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        // One poll: the load is begun, and nobody drives it.
        idle.block_on(async {
            let ctx = Ctx::new();
            assert!(futures_util::FutureExt::now_or_never(scene.ask(what, &ctx)).is_none());
        });
        busy.block_on(async {
            let joined = scene.spawn(what, Ctx::new());
            until(|| scene.report(what).coalesced == 1).await;
            // A quarter longer than a load may wait and take.
            bed.advance(1, Duration::from_millis(12_501)).await;
            soon(scene.store.next_question()).await.answer(new(what));
            assert_eq!(soon(joined).await.unwrap().unwrap(), "new");
            assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("new"));
            assert_eq!(scene.report(what).under_way, 0);
        });
        bed.clock.advance(seconds(100));
        // It goes on after all, and keeps nothing.
        idle.block_on(async {
            soon(scene.store.next_question()).await.answer(old(what));
            until(|| scene.report(what).loads == 2).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(scene.peek(what, &Ctx::new()), None);
    }
}

#[test]
fn of_many_questions_those_whose_load_stands_still_are_asked_anew() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (idle, busy) = (runtime(), runtime());
    let bed = Bed::new();
    let scene = Scene::new(&bed);
    let docs = [object("doc", 1), object("doc", 2)];
    idle.block_on(async {
        let (ctx, who) = (Ctx::new(), calvin());
        let one = scene.access.access(&ctx, &who, &docs[0], None);
        assert!(futures_util::FutureExt::now_or_never(one).is_none());
    });
    busy.block_on(async {
        let asked = tokio::spawn({
            let (scene, docs) = (scene.clone(), docs.clone());
            async move { scene.access.access_many(&Ctx::new(), &calvin(), &docs, None).await }
        });
        // The second is nobody's yet.
        soon(scene.store.next_question()).await.answer(Ok(Access::Deny));
        until(|| scene.report(What::Access).loads == 1).await;
        bed.advance(1, Duration::from_millis(12_501)).await;
        soon(scene.store.next_question()).await.answer(Ok(Access::Allow));
        let told: Vec<_> = soon(asked).await.unwrap().into_iter().map(std::result::Result::unwrap).collect();
        assert_eq!(told, [Access::Allow, Access::Deny]);
    });
}

#[tokio::test(start_paused = true)]
async fn no_more_loads_run_at_once_than_are_allowed() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 3, ..Limits::default() }));
    let scene = Scene::new(&bed);
    let askers: Vec<_> = (0..50).map(|n| one_of_many(&scene, n)).collect();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(soon(scene.store.next_question()).await);
    }
    until(|| scene.report(What::Account).misses == 50).await;
    for _ in 0..50 {
        assert!(scene.store.try_question().is_none());
        held.remove(0).answer(Ok(Answer::NotFound));
        if scene.store.asked() < 50 {
            held.push(soon(scene.store.next_question()).await);
        }
    }
    for asker in askers {
        assert_eq!(soon(asker).await.unwrap().unwrap(), "nobody");
    }
    assert_eq!(scene.store.asked(), 50);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_turn_is_told_that_the_source_is_overloaded() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 1, ..Limits::default() }));
    let scene = Scene::new(&bed);
    scene.store.set_mode(Mode::Hangs);
    let first = one_of_many(&scene, 1);
    bed.advance(1, seconds(1)).await;
    let second = one_of_many(&scene, 2);
    bed.advance(2, seconds(1)).await;
    let third = one_of_many(&scene, 3);
    // At 5 s the first is given up and the second has its turn, at 7 s the third has waited for 5 s.
    bed.advance(3, seconds(3)).await;
    assert_eq!(kind(&soon(first).await.unwrap()), ErrorKind::Timeout);
    until(|| scene.store.asked() == 2).await;
    bed.advance(2, seconds(2)).await;
    assert_eq!(kind(&soon(third).await.unwrap()), ErrorKind::Overloaded);
    assert_eq!(scene.report(What::Account).overloaded, 1);
    assert!(!second.is_finished());
    bed.clock.advance(seconds(3));
    assert_eq!(kind(&soon(second).await.unwrap()), ErrorKind::Timeout);
    assert_eq!(scene.store.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 1, queue: 1, ..Limits::default() }));
    let scene = Scene::new(&bed);
    let (first, second) = (one_of_many(&scene, 1), one_of_many(&scene, 2));
    until(|| scene.report(What::Account).misses == 2).await;
    assert_eq!(kind(&soon(one_of_many(&scene, 3)).await.unwrap()), ErrorKind::Overloaded);
    assert_eq!((scene.report(What::Account).overloaded, scene.report(What::Account).backed_off), (1, 0));
    // Who joins a load takes no place.
    let joined = one_of_many(&scene, 1);
    until(|| scene.report(What::Account).coalesced == 1).await;
    for _ in 0..2 {
        soon(scene.store.next_question()).await.answer(Ok(Answer::NotFound));
    }
    for asker in [first, second, joined] {
        assert_eq!(soon(asker).await.unwrap().unwrap(), "nobody");
    }
    // And the places are free again.
    let again = one_of_many(&scene, 3);
    soon(scene.store.next_question()).await.answer(Ok(Answer::NotFound));
    assert_eq!(soon(again).await.unwrap().unwrap(), "nobody");
}

#[tokio::test(start_paused = true)]
async fn a_source_is_spared_a_question_that_nobody_waits_for_any_more() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 1, ..Limits::default() }));
    let scene = Scene::new(&bed);
    let first = one_of_many(&scene, 1);
    let question = soon(scene.store.next_question()).await;
    let second = one_of_many(&scene, 2);
    bed.advance(2, seconds(0)).await;
    second.abort();
    soon(second).await.unwrap_err();
    question.answer(Ok(Answer::NotFound));
    soon(first).await.unwrap().unwrap();
    until(|| bed.clock.sleepers() == 0).await;
    assert_eq!(scene.store.asked(), 1);
    // It left nothing behind that a later asker could wait for.
    let again = one_of_many(&scene, 2);
    soon(scene.store.next_question()).await.answer(Ok(Answer::NotFound));
    assert_eq!(soon(again).await.unwrap().unwrap(), "nobody");
}

#[test]
fn outside_of_a_runtime_a_miss_is_an_error_and_a_hit_is_not() {
    let bed = Bed::new();
    let cached = bed.groups(&Arc::new(MemoryStore::named("app")));
    let ctx = Ctx::new();
    let who = calvin();
    let answer = futures_util::FutureExt::now_or_never(cached.groups_of(&ctx, &who)).unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Internal);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(cached.groups_of(&ctx, &who)).unwrap();
    assert!(futures_util::FutureExt::now_or_never(cached.groups_of(&ctx, &who)).unwrap().is_ok());
}
