//! A source that has failed several times in a row is left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Backoff, Limits, Reports, Settings};
use auth_core::{
    Capabilities, Clock, Ctx, Error, ErrorKind, Freshness, GroupOracle, Member, ObjectPerms, Record, Result,
};
use auth_testkit::{Answer, Mode, ScriptedStore, info, login, object};
use tokio::task::JoinHandle;

use crate::helpers::{ALL, Bed, Scene, What, calvin, old, one_of_many, seconds, soon, until};

const MS: Duration = Duration::from_millis(1);
const PASSING: [ErrorKind; 3] = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded];

async fn errors(askers: impl IntoIterator<Item = JoinHandle<Result<String>>>) -> Vec<Error> {
    let mut errors = Vec::new();
    for asker in askers {
        errors.push(soon(asker).await.unwrap().unwrap_err());
    }
    errors
}

fn strangers(scene: &Scene, from: u32, many: u32) -> Vec<JoinHandle<Result<String>>> {
    (from..from + many).map(|n| one_of_many(scene, n)).collect()
}

/// Lets the source fail until it is left alone.
async fn let_it_fail(scene: &Scene) {
    scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
    for n in 0..3 {
        errors([one_of_many(scene, n)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_askers_of_a_failing_source_share_one_error_and_no_storm_follows() {
    for what in ALL {
        for kind in PASSING {
            let bed = Bed::new();
            let scene = Scene::new(&bed);
            let askers: Vec<_> = (0..1000).map(|_| scene.spawn(what, Ctx::new())).collect();
            until(|| scene.report(what).misses == 1000).await;
            soon(scene.store.next_question()).await.fail(kind);
            for error in errors(askers).await {
                assert_eq!((error.kind(), error.message()), (kind, "as scripted"));
            }
            assert_eq!((scene.store.asked(), scene.report(what).under_way), (1, 0));

            scene.store.set_mode(Mode::Fails(kind));
            for error in errors(strangers(&scene, 0, 1000)).await {
                assert_eq!((error.kind(), error.message()), (kind, "as scripted"));
            }
            assert_eq!(scene.store.asked(), 3, "three failures in a row, then none");
            // Then one question each time the source is tried.
            for (asked, pause) in [(4, 500), (5, 1000), (6, 2000), (7, 4000), (8, 5000), (9, 5000)] {
                bed.clock.advance(pause * MS);
                errors(strangers(&scene, 1000 * pause, 20)).await;
                assert_eq!(scene.store.asked(), asked, "{what:?} {kind}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_when_a_source_fails_does_not_ask_it() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 4, ..Limits::default() }));
    let scene = Scene::new(&bed);
    let askers = strangers(&scene, 0, 1000);
    until(|| scene.report(What::Account).misses == 1000).await;
    scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
    for _ in 0..4 {
        soon(scene.store.next_question()).await.fail(ErrorKind::Unavailable);
    }
    errors(askers).await;
    // The first that failed gave its turn to another before the third had failed.
    assert!(scene.store.asked() <= 6, "{}", scene.store.asked());
    let stats = scene.report(What::Account);
    assert_eq!((stats.backed_off, stats.under_way, stats.entries), (1000 - scene.store.asked(), 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_it_at_once() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let_it_fail(&scene).await;
        assert!(bed.settings.gate.left_alone(bed.clock.now()).is_some());
        bed.clock.advance(500 * MS);
        scene.store.set_mode(Mode::Held);
        let tries = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        // Others of the same question wait with it, of other questions they do not.
        let joins = scene.spawn(what, Ctx::new());
        until(|| scene.report(what).coalesced == 1).await;
        assert_eq!(errors([one_of_many(&scene, 9)]).await[0].kind(), ErrorKind::Unavailable);
        question.answer(old(what));
        for asker in [tries, joins] {
            assert_eq!(soon(asker).await.unwrap().unwrap(), "old");
        }
        assert_eq!(bed.settings.gate.left_alone(bed.clock.now()), None);
        let asks = one_of_many(&scene, 9);
        soon(scene.store.next_question()).await.answer(Ok(Answer::NotFound));
        assert_eq!(soon(asks).await.unwrap().unwrap(), "nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_about_one_question_leave_no_source_alone() {
    for kind in [
        ErrorKind::Ambiguous,
        ErrorKind::Corrupt,
        ErrorKind::Misconfigured,
        ErrorKind::Unsupported,
        ErrorKind::Invalid,
        ErrorKind::Internal,
    ] {
        let scene = Scene::new(&Bed::new());
        scene.store.set_mode(Mode::Fails(kind));
        for n in 1..=20 {
            assert_eq!(errors([scene.spawn(What::Account, Ctx::new())]).await[0].kind(), kind);
            assert_eq!(scene.store.asked(), n);
        }
        assert_eq!(scene.report(What::Account).backed_off, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_left_alone_too() {
    let bed = Bed::new();
    let scene = Scene::new(&bed);
    scene.store.set_mode(Mode::Hangs);
    for _ in 0..3 {
        let asker = scene.spawn(What::Groups, Ctx::new());
        bed.advance(1, seconds(5)).await;
        errors([asker]).await;
    }
    assert_eq!(scene.report(What::Groups).timeouts, 3);
    let error = errors([scene.spawn(What::Groups, Ctx::new())]).await.remove(0);
    assert_eq!((error.kind(), scene.store.asked()), (ErrorKind::Timeout, 3));
    assert!(error.wait().is_some_and(|wait| wait > Duration::ZERO && wait <= 500 * MS));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_still_answered_and_no_error_touches_it() {
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let asked = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(old(what));
        soon(asked).await.unwrap().unwrap();
        let_it_fail(&scene).await;
        let fresh = Ctx::new().with_freshness(Freshness::Fresh);
        for _ in 0..10 {
            assert_eq!(scene.ask(what, &Ctx::new()).await.unwrap(), "old");
            assert_eq!(scene.ask(what, &fresh).await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let stats = scene.report(what);
        assert_eq!((scene.store.asked(), stats.backed_off, stats.entries), (4, 10, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn all_caches_of_a_source_share_its_gate_and_other_sources_have_their_own() {
    let bed = Bed::new();
    let scene = Scene::new(&bed);
    let_it_fail(&scene).await;
    for what in ALL {
        assert_eq!(scene.ask(what, &Ctx::new()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(scene.report(what).backed_off, 1);
    }
    let docs = [object("doc", 1), object("doc", 2)];
    let many = scene.access.access_many(&Ctx::new(), &calvin(), &docs, None).await;
    assert!(many.iter().all(Result::is_err));
    assert_eq!((scene.store.asked(), scene.report(What::Access).backed_off), (3, 3));

    let other = Scene::new(&Bed::with(bed.settings.for_source()));
    let asked = other.spawn(What::Account, Ctx::new());
    soon(other.store.next_question()).await.answer(old(What::Account));
    assert_eq!(soon(asked).await.unwrap().unwrap(), "old");
}

#[tokio::test(start_paused = true)]
async fn loads_at_once_are_counted_for_a_source_as_a_whole() {
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 2, ..Limits::default() }));
    let scene = Scene::new(&bed);
    let askers = ALL.map(|what| scene.spawn(what, Ctx::new()));
    until(|| ALL.iter().all(|what| scene.report(*what).misses == 1)).await;
    let (one, two) = (soon(scene.store.next_question()).await, soon(scene.store.next_question()).await);
    assert!(scene.store.try_question().is_none());
    one.fail(ErrorKind::Corrupt);
    soon(scene.store.next_question()).await.fail(ErrorKind::Corrupt);
    two.fail(ErrorKind::Corrupt);
    errors(askers).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_to_explain_and_can_be_switched_off() {
    let scene = Scene::new(&Bed::new());
    let_it_fail(&scene).await;
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    scene.account(&ctx, &login("calvin")).await.unwrap_err();
    let outcomes: Vec<_> = record.steps().into_iter().map(|step| step.outcome).collect();
    let [miss, alone] = &outcomes[..] else { panic!("{outcomes:?}") };
    let told = alone.strip_prefix("accounts: the source has failed and is left alone for another ").unwrap();
    let left: u64 = told.strip_suffix(" ms").unwrap().parse().unwrap();
    assert!(miss == "accounts: miss" && left > 300 && left <= 500, "{outcomes:?}");

    let off = Limits { backoff: Backoff::OFF, ..Limits::default() };
    let scene = Scene::new(&Bed::with(Settings::default().with_limits(off)));
    let_it_fail(&scene).await;
    errors(strangers(&scene, 10, 1000)).await;
    assert_eq!(scene.store.asked(), 1003);
}

#[tokio::test(start_paused = true)]
async fn an_oracle_that_cant_list_is_asked_like_any_other_source() {
    let cannot = Capabilities { lists_groups: false, ..Capabilities::default() };
    let limits = Limits { loads: 1, queue: 0, ..Limits::default() };
    let bed = Bed::with(Settings::default().with_limits(limits));
    let store = Arc::new(ScriptedStore::new(info("app").with_capabilities(cannot)));
    let cached = bed.groups(&store);
    let ask = || {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { cached.is_member(&Ctx::new(), &calvin(), "staff").await })
    };
    let kind = |answer: Result<Member>| answer.unwrap_err().kind();
    // One at once, bounded in time.
    let hangs = ask();
    let mut question = soon(store.next_question()).await;
    assert_eq!(kind(soon(ask()).await.unwrap()), ErrorKind::Overloaded);
    bed.advance(1, seconds(5)).await;
    assert_eq!(kind(soon(hangs).await.unwrap()), ErrorKind::Timeout);
    soon(question.abandoned()).await;
    // Guarded against panics: the script panics over an answer to another sort of question.
    let panics = ask();
    soon(store.next_question()).await.answer(Ok(Answer::Replaced(true)));
    assert_eq!(kind(soon(panics).await.unwrap()), ErrorKind::Internal);
    // Left alone after failures.
    store.set_mode(Mode::Fails(ErrorKind::Unavailable));
    for _ in 0..10 {
        assert_eq!(kind(soon(ask()).await.unwrap()), ErrorKind::Unavailable);
    }
    let stats = cached.report().stats;
    assert_eq!((store.asked(), stats.loads, stats.misses), (4, 4, 13));
    assert_eq!((stats.overloaded, stats.timeouts, stats.backed_off, stats.entries), (1, 1, 8, 0));
}

#[tokio::test(start_paused = true)]
async fn an_oracle_that_cant_list_and_fails_is_spared_those_who_wait_for_a_turn() {
    let cannot = Capabilities { lists_groups: false, ..Capabilities::default() };
    let backoff = Backoff { after: 1, ..Backoff::default() };
    let bed = Bed::with(Settings::default().with_limits(Limits { loads: 1, backoff, ..Limits::default() }));
    let store = Arc::new(ScriptedStore::new(info("app").with_capabilities(cannot)));
    let cached = bed.groups(&store);
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.is_member(&Ctx::new(), &calvin(), "staff").await })
        })
        .collect();
    until(|| cached.report().stats.misses == 4).await;
    soon(store.next_question()).await.fail(ErrorKind::Unavailable);
    for asker in askers {
        assert_eq!(soon(asker).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!((store.asked(), cached.report().stats.backed_off), (1, 3));
}
