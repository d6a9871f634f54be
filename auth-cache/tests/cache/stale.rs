//! What is past its lifetime may stand in for a source that fails, if that is asked for.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Limits, Settings, Ttls};
use auth_core::{
    Access, CacheUse, Clock, Ctx, ErrorKind, Freshness, ObjectPerms, ObjectRef, Record, Result, Subject,
};
use auth_testkit::{Answer, Mode, login, object};

use crate::helpers::{
    ALL, Bed, Scene, What, calvin, each_subject, new, old, one_of_many, seconds, soon, until,
};

const LIFE: Duration = Duration::from_secs(10);
const LONGER: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    let ttls = Ttls { not_found: LIFE, ..Ttls::default() }.with_ttl(LIFE);
    Settings::default().with_ttls(ttls).with_stale_if_error(LONGER)
}

async fn loaded(bed: &Bed, what: What) -> Scene {
    let scene = Scene::new(bed);
    let asked = scene.spawn(what, Ctx::new());
    soon(scene.store.next_question()).await.answer(old(what));
    soon(asked).await.unwrap().unwrap();
    scene
}

/// Asks, and the source fails with this kind.
async fn failing(scene: &Scene, what: What, kind: ErrorKind) -> Result<String> {
    scene.store.set_mode(Mode::Fails(kind));
    scene.ask(what, &Ctx::new()).await
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_stands_in_only_if_asked_for_and_only_for_so_long() {
    for what in ALL {
        let bed = Bed::with(settings().with_stale_if_error(Duration::ZERO));
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE);
        assert_eq!(
            failing(&scene, what, ErrorKind::Unavailable).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );

        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE);
        assert_eq!(scene.peek(what, &Ctx::new()), None, "the source is asked first");
        // Ten percent of the lifetime may be taken off by jitter.
        bed.clock.advance(LONGER - LIFE / 10 - Duration::from_millis(1));
        assert_eq!(failing(&scene, what, ErrorKind::Unavailable).await.unwrap(), "old");
        bed.clock.advance(LIFE / 10 + Duration::from_millis(1));
        assert_eq!(
            failing(&scene, what, ErrorKind::Unavailable).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_failures_that_pass_are_stood_in_for() {
    for what in ALL {
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded] {
            let bed = Bed::with(settings());
            let scene = loaded(&bed, what).await;
            bed.clock.advance(LIFE);
            assert_eq!(failing(&scene, what, kind).await.unwrap(), "old", "{kind}");
        }
        for kind in [ErrorKind::Ambiguous, ErrorKind::Corrupt, ErrorKind::Misconfigured, ErrorKind::Internal]
        {
            let bed = Bed::with(settings());
            let scene = loaded(&bed, what).await;
            bed.clock.advance(LIFE);
            assert_eq!(failing(&scene, what, kind).await.unwrap_err().kind(), kind);
        }
        // The source is well, only slow: who can't wait gets no older answer for that.
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE);
        let hasty = scene.spawn(what, Ctx::new().with_deadline(bed.clock.now() + seconds(1)));
        bed.advance(2, seconds(1)).await;
        assert_eq!(soon(hasty).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn what_we_refuse_ourselves_is_no_reason_for_an_old_answer() {
    for (what, queue) in ALL.into_iter().flat_map(|what| [(what, 0), (what, 1)]) {
        let limits = Limits { loads: 1, queue, ..Limits::default() };
        let bed = Bed::with(settings().with_limits(limits));
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE);
        // The source is well, and busy with another question: there is no room, or no turn in time.
        let busy = one_of_many(&scene, 1);
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(seconds(1));
        let record = Arc::new(Record::explaining());
        let asked = scene.spawn(what, Ctx::new().with_record(Arc::clone(&record)));
        if queue == 1 {
            bed.advance(2, seconds(3)).await;
            question.answer(Ok(Answer::NotFound));
            soon(busy).await.unwrap().unwrap();
            // The next one takes the turn before it is over.
            let own = soon(scene.store.next_question()).await;
            own.fail(ErrorKind::Unavailable);
            assert_eq!(soon(asked).await.unwrap().unwrap(), "old", "that is the source's own failure");
            continue;
        }
        assert_eq!(soon(asked).await.unwrap().unwrap_err().kind(), ErrorKind::Overloaded);
        assert!(record.steps().iter().any(|step| step.outcome.ends_with("too many questions wait")));
        assert_eq!((scene.report(what).overloaded, scene.report(what).stale), (1, 0));
        question.answer(Ok(Answer::NotFound));
        soon(busy).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_turn_gets_no_old_answer_for_that() {
    for what in ALL {
        let bed = Bed::with(settings().with_limits(Limits { loads: 1, ..Limits::default() }));
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE);
        scene.store.set_mode(Mode::Hangs);
        let first = one_of_many(&scene, 1);
        bed.advance(1, seconds(1)).await;
        let second = one_of_many(&scene, 2);
        bed.advance(2, seconds(1)).await;
        let asked = scene.spawn(what, Ctx::new());
        // The first is given up at 5 s and the second has the turn; at 7 s this one has waited for 5 s.
        bed.advance(3, seconds(3)).await;
        soon(first).await.unwrap().unwrap_err();
        until(|| scene.store.asked() == 3).await;
        bed.advance(2, seconds(2)).await;
        assert_eq!(soon(asked).await.unwrap().unwrap_err().kind(), ErrorKind::Overloaded, "{what:?}");
        assert_eq!((scene.report(what).overloaded, scene.report(what).stale), (1, 0));
        second.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn explain_says_that_an_old_answer_is_too_old() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE + LONGER);
        let record = Arc::new(Record::explaining());
        scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
        scene.ask(what, &Ctx::new().with_record(Arc::clone(&record))).await.unwrap_err();
        let last = record.steps().pop().unwrap();
        assert!(last.outcome.ends_with("too old to stand in"), "{}", last.outcome);
        assert_eq!(last.age, Some(LIFE + LONGER));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stands_in_for_a_subject_that_was_invalidated() {
    for what in ALL {
        let mut nth = 0;
        let mut subjects = 0;
        each_subject(what, |_| subjects += 1);
        while nth < subjects {
            for late in [false, true] {
                let bed = Bed::with(settings());
                let scene = loaded(&bed, what).await;
                bed.clock.advance(LIFE);
                let invalidate = || {
                    let mut n = 0;
                    each_subject(what, |subject| {
                        if n == nth {
                            bed.fence.invalidate(subject);
                        }
                        n += 1;
                    });
                };
                if !late {
                    invalidate();
                }
                let asked = scene.spawn(what, Ctx::new());
                let question = soon(scene.store.next_question()).await;
                if late {
                    // While the source is asked.
                    invalidate();
                }
                question.fail(ErrorKind::Unavailable);
                let answer = soon(asked).await.unwrap();
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable, "{what:?} {nth} {late}");
            }
            nth += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_asker_decides_alone_whether_an_old_answer_will_do() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(seconds(20));
        let any = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        let aged = |age| Ctx::new().with_freshness(Freshness::MaxAge(seconds(age)));
        let (young, ripe) = (scene.spawn(what, aged(19)), scene.spawn(what, aged(20)));
        until(|| scene.report(what).coalesced == 2).await;
        question.fail(ErrorKind::Unavailable);
        assert_eq!(soon(any).await.unwrap().unwrap(), "old");
        assert_eq!(soon(ripe).await.unwrap().unwrap(), "old");
        assert_eq!(soon(young).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
        let fresh = Ctx::new().with_freshness(Freshness::Fresh);
        assert_eq!(scene.ask(what, &fresh).await.unwrap_err().kind(), ErrorKind::Unavailable);
        // It is not renewed by that, and the next answer of the source ends it.
        scene.store.set_mode(Mode::Held);
        let asked = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(asked).await.unwrap().unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_and_nothing_never_stand_in() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = Scene::new(&bed);
        let asked = scene.spawn(what, Ctx::new());
        let nothing = if what == What::Access { Access::NotFound.into() } else { Answer::NotFound };
        soon(scene.store.next_question()).await.answer(Ok(nothing));
        soon(asked).await.unwrap().unwrap();
        assert!(scene.peek(what, &Ctx::new()).is_some());
        bed.clock.advance(LIFE);
        let answer = failing(&scene, what, ErrorKind::Unavailable).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable, "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_counted_and_told_and_goes_on_while_the_source_is_left_alone() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(seconds(12));
        for n in 1..=10 {
            let record = Arc::new(Record::explaining());
            let ctx = Ctx::new().with_record(Arc::clone(&record));
            scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
            assert_eq!(scene.ask(what, &ctx).await.unwrap(), "old");
            assert_eq!(record.cache(), CacheUse::Stale);
            let last = record.steps().pop().unwrap();
            assert!(last.outcome.ends_with("stale, since the source is unavailable"), "{}", last.outcome);
            assert_eq!((last.source.as_deref(), last.age), (Some("app"), Some(seconds(12))));
            assert_eq!(scene.store.asked(), 1 + n.min(3));
        }
        let stats = scene.report(what);
        assert_eq!((stats.stale, stats.misses, stats.backed_off, stats.hits), (10, 11, 7, 0));
        assert_eq!((stats.max_stale_age, stats.ages.max()), (seconds(12), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_many_rights_stands_in_for_itself() {
    let bed = Bed::with(settings());
    let scene = Scene::new(&bed);
    let docs: Vec<ObjectRef> = (1..=3).map(|id| object("doc", id)).collect();
    let ask = |docs: &[ObjectRef]| {
        let (access, docs) = (Arc::clone(&scene.access), docs.to_vec());
        tokio::spawn(async move { access.access_many(&Ctx::new(), &calvin(), &docs, Some("read")).await })
    };
    let first = ask(&docs[..2]);
    for _ in 0..2 {
        soon(scene.store.next_question()).await.answer(Ok(Access::Allow));
    }
    soon(first).await.unwrap();
    bed.clock.advance(LIFE);
    bed.fence.invalidate(&Subject::Object { realm: calvin().realm(), object: &docs[1] });

    // The source fails for two and answers for the third.
    let mixed = ask(&docs);
    for _ in 0..2 {
        soon(scene.store.next_question()).await.fail(ErrorKind::Unavailable);
    }
    soon(scene.store.next_question()).await.answer(Ok(Access::Deny));
    let kinds = |answers: Vec<Result<Access>>| -> Vec<_> {
        answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect()
    };
    let expected = [Ok(Access::Allow), Err(ErrorKind::Unavailable), Ok(Access::Deny)];
    assert_eq!(kinds(soon(mixed).await.unwrap()), expected);
    // And for all.
    scene.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
    for _ in 0..5 {
        assert_eq!(kinds(soon(ask(&docs)).await.unwrap()), expected);
    }
    assert_eq!(scene.report(What::Access).stale, 6);
    assert!(login("calvin") == *calvin().login());
}
