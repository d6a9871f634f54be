//! What is in use is loaded again before it ends, and nobody waits for that.

use std::time::Duration;

use auth_cache::{Limits, Settings, Ttls};
use auth_core::{AccountSource, Clock, Ctx, ErrorKind, Freshness, Lookup, Subject};
use auth_testkit::{Answer, Ask, login};

use crate::helpers::{ALL, Bed, Scene, What, new, old, seconds, soon, until};

const MS: Duration = Duration::from_millis(1);
/// How long a load takes here.
const LOAD: Duration = Duration::from_millis(100);
const LIFE: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    let ttls = Ttls { allow: LIFE, deny: LIFE, ..Ttls::default() }.with_ttl(LIFE);
    Settings::default().with_ttls(ttls).with_seed(7)
}

/// Loads an old answer, which takes its time.
async fn loaded(bed: &Bed, what: What) -> Scene {
    let scene = Scene::new(bed);
    let asked = scene.spawn(what, Ctx::new());
    let question = soon(scene.store.next_question()).await;
    bed.clock.advance(LOAD);
    question.answer(old(what));
    assert_eq!(soon(asked).await.unwrap().unwrap(), "old");
    scene
}

/// Hits it at each step of the clock until it ends.
fn outlive(bed: &Bed, scene: &Scene, what: What, step: Duration) {
    let since = bed.clock.now();
    while scene.peek(what, &Ctx::new()).is_some() {
        bed.clock.advance(step);
        assert!(bed.clock.now().since(since) <= LIFE, "{what:?}: it never ends");
    }
}

/// Hits it until a hit starts the refresh.
async fn refreshing(bed: &Bed, scene: &Scene, what: What) -> Ask {
    let (refreshes, since) = (scene.report(what).refreshes, bed.clock.now());
    while scene.report(what).refreshes == refreshes {
        bed.clock.advance(10 * MS);
        assert!(scene.peek(what, &Ctx::new()).is_some(), "{what:?}: it ended before it was refreshed");
        assert!(bed.clock.now().since(since) <= LIFE, "{what:?}: it is never refreshed");
    }
    soon(scene.store.next_question()).await
}

#[tokio::test(start_paused = true)]
async fn in_steady_use_nobody_waits_and_no_answer_outlives_its_lifetime() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        for n in 1..=20 {
            let question = refreshing(&bed, &scene, what).await;
            // As long as the load takes, all go on with the old answer.
            for _ in 0..10 {
                assert!(scene.peek(what, &Ctx::new()).is_some(), "{what:?} {n}");
                assert!(scene.ask(what, &Ctx::new()).await.is_ok());
                bed.clock.advance(LOAD / 10);
            }
            question.answer(new(what));
            until(|| scene.report(what).under_way == 0).await;
            assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("new"));
            assert_eq!(scene.store.asked(), n + 1);
        }
        let stats = scene.report(what);
        assert_eq!((stats.misses, stats.refreshes, stats.loads), (1, 20, 21));
        assert!(stats.ages.max() < LIFE && stats.ages.max() > LIFE / 2, "{:?}", stats.ages);
    }
}

#[tokio::test(start_paused = true)]
async fn each_entry_is_refreshed_once_also_if_that_fails() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        refreshing(&bed, &scene, what).await.fail(ErrorKind::Unavailable);
        until(|| scene.report(what).under_way == 0).await;
        outlive(&bed, &scene, what, MS);
        // The error has touched nothing: it lived its life.
        assert!(scene.report(what).ages.max() >= LIFE * 9 / 10 - 10 * MS);
        let stats = scene.report(what);
        assert_eq!((stats.refreshes, stats.load_errors, scene.store.asked()), (1, 1, 2));
        let asked = scene.spawn(what, Ctx::new());
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(asked).await.unwrap().unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_use_is_not_refreshed() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        bed.clock.advance(LIFE / 2);
        assert!(scene.peek(what, &Ctx::new()).is_some());
        bed.clock.advance(LIFE);
        assert!(scene.peek(what, &Ctx::new()).is_none());
        assert_eq!((scene.report(what).refreshes, scene.store.asked()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_begun_before_an_invalidation_is_neither_kept_nor_joined_after_it() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        let late = refreshing(&bed, &scene, what).await;
        bed.fence.invalidate(&Subject::Login(&login("calvin")));
        let after = scene.spawn(what, Ctx::new());
        let fresh = soon(scene.store.next_question()).await;
        late.answer(old(what));
        until(|| scene.report(what).under_way == 1).await;
        assert_eq!(scene.peek(what, &Ctx::new()), None, "{what:?}");
        fresh.answer(new(what));
        assert_eq!(soon(after).await.unwrap().unwrap(), "new");
        assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_does_not_replace_a_newer_answer() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        let late = refreshing(&bed, &scene, what).await;
        bed.clock.advance(MS);
        let newer = scene.spawn(what, Ctx::new().with_freshness(Freshness::Fresh));
        soon(scene.store.next_question()).await.answer(new(what));
        assert_eq!(soon(newer).await.unwrap().unwrap(), "new");
        late.answer(old(what));
        until(|| scene.report(what).loads == 3).await;
        assert_eq!(scene.peek(what, &Ctx::new()).as_deref(), Some("new"), "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_the_end_joins_the_refresh() {
    for what in ALL {
        let bed = Bed::with(settings());
        let scene = loaded(&bed, what).await;
        let question = refreshing(&bed, &scene, what).await;
        // The source is slower than it was.
        bed.clock.advance(seconds(4));
        let asked = scene.spawn(what, Ctx::new());
        until(|| scene.report(what).coalesced == 1).await;
        question.answer(new(what));
        assert_eq!(soon(asked).await.unwrap().unwrap(), "new");
        assert_eq!(scene.store.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn questions_go_before_refreshes() {
    let limits = Limits { loads: 8, ..Limits::default() };
    let bed = Bed::with(settings().with_limits(limits));
    let scene = Scene::new(&bed);
    let names: Vec<_> = (0..6).map(|n| login(&format!("u{n}"))).collect();
    for name in &names {
        let asked = tokio::spawn({
            let (scene, name) = (scene.clone(), name.clone());
            async move { scene.account(&Ctx::new(), &name).await }
        });
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(LOAD);
        question.answer(Ok(Answer::NotFound));
        soon(asked).await.unwrap().unwrap();
    }
    // Six answers that end at nearly the same time; two refreshes are a quarter of eight loads.
    let mut most = 0;
    for _ in 0..2000 {
        bed.clock.advance(10 * MS);
        let hits = names.iter().filter(|name| scene.accounts.peek_account(&Ctx::new(), name).is_some());
        if hits.count() == 0 {
            break;
        }
        most = most.max(scene.report(What::Account).refreshes);
    }
    assert_eq!(most, 2);
    until(|| scene.store.asked() == 8).await;

    // And none where every turn is taken.
    let bed = Bed::with(settings().with_limits(Limits { loads: 1, ..Limits::default() }));
    let scene = loaded(&bed, What::Groups).await;
    let busy = scene.spawn(What::Account, Ctx::new().with_freshness(Freshness::Fresh));
    let question = soon(scene.store.next_question()).await;
    bed.clock.advance(LIFE * 9 / 10 - LOAD - MS);
    assert!(scene.peek(What::Groups, &Ctx::new()).is_some());
    assert_eq!(scene.report(What::Groups).refreshes, 0);
    question.answer(old(What::Account));
    soon(busy).await.unwrap().unwrap();
    refreshing(&bed, &scene, What::Groups).await.answer(new(What::Groups));
    until(|| scene.peek(What::Groups, &Ctx::new()).as_deref() == Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_left_alone_is_not_refreshed_from() {
    let bed = Bed::with(settings());
    let scene = loaded(&bed, What::Groups).await;
    bed.clock.advance(LIFE * 9 / 10 - LOAD - MS);
    scene.store.set_mode(auth_testkit::Mode::Fails(ErrorKind::Unavailable));
    for _ in 0..3 {
        scene.account(&Ctx::new(), &login("susie")).await.unwrap_err();
    }
    while scene.peek(What::Groups, &Ctx::new()).is_some()
        && bed.settings.gate.left_alone(bed.clock.now()).is_some()
    {
        bed.clock.advance(MS);
        if bed.clock.now().since(auth_core::Moment::ZERO) > LIFE * 9 / 10 + 300 * MS {
            break;
        }
    }
    assert_eq!((scene.report(What::Groups).refreshes, scene.store.asked()), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn switched_off_or_outside_of_a_runtime_a_hit_is_only_a_hit() {
    let bed = Bed::with(settings().with_refresh_ahead(0.0));
    let scene = loaded(&bed, What::Groups).await;
    outlive(&bed, &scene, What::Groups, 10 * MS);
    assert_eq!((scene.report(What::Groups).refreshes, scene.store.asked()), (0, 1));

    let bed = Bed::with(settings());
    let scene = loaded(&bed, What::Groups).await;
    std::thread::scope(|threads| {
        threads.spawn(|| outlive(&bed, &scene, What::Groups, 10 * MS));
    });
    assert_eq!((scene.report(What::Groups).refreshes, scene.store.asked()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refreshed_like_anybody() {
    let bed = Bed::with(settings());
    let scene = Scene::new(&bed);
    let asked = scene.spawn(What::Account, Ctx::new());
    let question = soon(scene.store.next_question()).await;
    bed.clock.advance(LOAD);
    question.answer(Ok(Answer::NotFound));
    assert_eq!(soon(asked).await.unwrap().unwrap(), "nobody");
    refreshing(&bed, &scene, What::Account).await.answer(new(What::Account));
    until(|| scene.report(What::Account).under_way == 0).await;
    let found = scene.accounts.peek_account(&Ctx::new(), &login("calvin"));
    assert!(matches!(found, Some(Lookup::Found(_))));
}
