//! A renewal goes one generation on, once.

use std::sync::Arc;

use auth_core::{EndReason, Ends, Families, Family, Millis, Renewal};

use super::{FamilyBench, HOUR, SECOND, START, ctx, end, renew, retry, shown};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    a_renewal_goes_one_generation_on,
    only_the_generation_that_is_good_is_renewed,
    nothing_is_renewed_when_its_end_has_come,
    nothing_unknown_is_renewed,
    of_many_renewals_at_once_one_is_done,
    every_renewal_that_is_done_counts_one,
    nothing_lives_after_a_renewal_and_an_end_at_once,
    the_last_generation_is_not_renewed,
}

async fn a_renewal_goes_one_generation_on(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut expected = bench.begin(&realm, "calvin").await;
    let (id, other) = (expected.id, bench.begin(&realm, "calvin").await);
    for n in 1..6 {
        told("confirm", store.confirm(&ctx(), &realm, id, n).await);
        let at = START + u64::from(n) * SECOND;
        // It may end sooner than it would have, and later than it must.
        let idle_end = if n % 2 == 0 { at + 2 * SECOND } else { START + 100 * HOUR };
        let handle = if n % 2 == 0 { &bench.store } else { &bench.other };
        assert!(told("renew", handle.renew(&ctx(), &realm, id, &Renewal { from: n, at, idle_end }).await));
        expected = Family { generation: n + 1, rotated_at: at, last_used_at: at, idle_end, ..expected };
        assert_eq!(shown(store, &realm, id).await, expected, "neither confirmed nor retried");
        assert!(retry(store, &realm, id, n, at + 1).await);
    }
    assert_eq!(shown(store, &realm, other.id).await, other, "nobody else's");
}

async fn only_the_generation_that_is_good_is_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for from in [0, 1, 3, u32::MAX] {
        assert!(!renew(store, &realm, family.id, from, START + 2 * SECOND).await, "{from}");
    }
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(renew(store, &realm, family.id, 2, START + 2 * SECOND).await);
}

async fn nothing_is_renewed_when_its_end_has_come(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (idle_end, absolute_end) in [(START + 50, START + 90), (START + 90, START + 50)] {
        let family = Family { idle_end, absolute_end, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        for late in [START + 50, START + 51, START + HOUR, Millis::MAX] {
            assert!(!renew(store, &realm, family.id, 1, late).await, "{late}");
        }
        assert_eq!(shown(store, &realm, family.id).await, family);
        assert!(renew(store, &realm, family.id, 1, START + 49).await);
    }
    let family = bench.begin(&realm, "calvin").await;
    end(store, &realm, &Ends::Family(family.id), START + 1, EndReason::Logout).await;
    let ended = shown(store, &realm, family.id).await;
    assert!(!renew(store, &realm, family.id, 1, START + 2).await);
    assert!(!renew(store, &realm, family.id, 1, START).await, "also by a clock that is behind");
    assert_eq!(shown(store, &realm, family.id).await, ended);
}

async fn nothing_unknown_is_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    assert!(!renew(store, &realm, bench.id(), 1, START).await);
    assert!(!renew(store, &bench.realm(), family.id, 1, START).await);
    assert!(!retry(store, &realm, bench.id(), 1, START).await);
    told("confirm", store.confirm(&ctx(), &realm, bench.id(), 1).await);
    told("confirm", store.confirm(&ctx(), &bench.realm(), family.id, 1).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn of_many_renewals_at_once_one_is_done(_store: &dyn Families, bench: &FamilyBench) {
    let realm: Arc<str> = bench.realm().into();
    let id = bench.begin(&realm, "calvin").await.id;
    for from in 1..=20 {
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
                tokio::spawn(async move { renew(&*store, &realm, id, from, START + 1).await })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += u32::from(task.await.expect("a renewal"));
        }
        assert_eq!(done, 1, "of generation {from}");
        assert_eq!(shown(&*bench.store, &realm, id).await.generation, from + 1);
    }
}

async fn every_renewal_that_is_done_counts_one(store: &dyn Families, bench: &FamilyBench) {
    let realm: Arc<str> = bench.realm().into();
    let id = bench.begin(&realm, "calvin").await.id;
    // Each goes on from what it sees.
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
            tokio::spawn(async move {
                let mut done = 0;
                for _ in 0..20 {
                    let from = shown(&*store, &realm, id).await.generation;
                    done += u32::from(renew(&*store, &realm, id, from, START + 1).await);
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("renewals");
    }
    assert!(done >= 20, "{done}");
    assert_eq!(shown(store, &realm, id).await.generation, done + 1);
}

async fn nothing_lives_after_a_renewal_and_an_end_at_once(store: &dyn Families, bench: &FamilyBench) {
    for round in 0..bench.rounds {
        let realm = if round % 64 == 0 { bench.realm() } else { format!("race{}", round / 64) };
        let login = format!("calvin{round}");
        let family = bench.begin(&realm, &login).await;
        let what = match round % 8 {
            0 => Ends::Realm,
            1..4 => Ends::Person(&login),
            _ => Ends::Family(family.id),
        };
        let (one, two) = (&*bench.store, &*bench.other);
        // Who is asked first differs.
        let renewing = async { renew(one, &realm, family.id, 1, START + 1).await };
        let ending = async { end(two, &realm, &what, START + 1, EndReason::Logout).await };
        let (renewed, ended) = if round % 2 == 0 {
            tokio::join!(renewing, ending)
        } else {
            let (ended, renewed) = tokio::join!(ending, renewing);
            (renewed, ended)
        };
        assert_eq!(ended, 1, "round {round}, {what:?}");
        let now = shown(store, &realm, family.id).await;
        assert!(!now.is_live(START + 1), "round {round}: {now:?}");
        assert_eq!(now.ended, Some((START + 1, EndReason::Logout)));
        assert_eq!(now.generation, 1 + u32::from(renewed));
        assert!(!renew(two, &realm, family.id, now.generation, START + 2).await);
        assert!(!retry(one, &realm, family.id, 1, START + 2).await);
    }
}

async fn the_last_generation_is_not_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = Family { generation: u32::MAX - 1, ..bench.family(&realm, "calvin") };
    told("begin", store.begin(&ctx(), &family).await);
    assert!(renew(store, &realm, family.id, u32::MAX - 1, START + 1).await);
    let last = shown(store, &realm, family.id).await;
    assert_eq!(last.generation, u32::MAX);
    assert!(!renew(store, &realm, family.id, u32::MAX, START + 2).await);
    assert!(!retry(store, &realm, family.id, u32::MAX, START + 2).await);
    assert_eq!(shown(store, &realm, family.id).await, last);
    assert!(retry(store, &realm, family.id, u32::MAX - 1, START + 2).await);
    told("confirm", store.confirm(&ctx(), &realm, family.id, u32::MAX).await);
    assert!(shown(store, &realm, family.id).await.confirmed);
}
