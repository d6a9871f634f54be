//! A retry is counted, within the grace, until its generation is confirmed.

use std::sync::Arc;

use auth_core::{EndReason, Ends, Families, Family, Millis, Retry};

use super::{FamilyBench, HOUR, SECOND, START, ctx, end, renew, retry, shown};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    a_retry_is_counted_and_changes_nothing_else,
    only_the_generation_before_is_retried,
    a_retry_is_within_the_grace_to_either_side,
    retries_are_counted_up_to_the_most,
    of_many_retries_at_once_no_more_than_the_most_are_counted,
    what_is_confirmed_is_not_retried,
    only_the_generation_that_is_good_is_confirmed,
    nothing_is_retried_when_its_end_has_come,
}

async fn a_retry_is_counted_and_changes_nothing_else(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for retries in 1..=10 {
        let at = START + SECOND + u64::from(retries);
        assert!(retry(&**bench.either(retries as usize), &realm, family.id, 1, at).await);
        assert_eq!(shown(store, &realm, family.id).await, Family { retries, ..family.clone() });
    }
}

async fn only_the_generation_before_is_retried(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    assert!(renew(store, &realm, family.id, 2, START + SECOND).await);
    let family = shown(store, &realm, family.id).await;
    for from in [0, 1, 3, 4, u32::MAX] {
        assert!(!retry(store, &realm, family.id, from, START + SECOND).await, "{from}");
    }
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(!retry(store, &bench.realm(), family.id, 2, START + SECOND).await);
    assert!(retry(store, &realm, family.id, 2, START + SECOND).await);
}

async fn a_retry_is_within_the_grace_to_either_side(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    let made = START + SECOND;
    let asked = async |at: Millis, grace: Millis| {
        let retry = Retry { from: 1, at, grace, most: u32::MAX };
        told("retry", store.retry(&ctx(), &realm, family.id, &retry).await)
    };
    for (at, grace) in
        [(made, 0), (made + 30, 30), (made - 30, 30), (0, 30), (made + 31, 30), (made - 31, 30)]
    {
        assert!(!asked(at, grace).await, "{at} {grace}");
    }
    // Long before and long after, also with the longest grace: it must be live then.
    assert!(!asked(START + 20 * HOUR, Millis::MAX).await);
    for (at, grace) in
        [(made, 1), (made + 29, 30), (made - 29, 30), (0, Millis::MAX), (made + 9, Millis::MAX)]
    {
        assert!(asked(at, grace).await, "{at} {grace}");
    }
    assert_eq!(shown(store, &realm, family.id).await.retries, 5);
}

async fn retries_are_counted_up_to_the_most(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    let asked = async |most: u32| {
        let retry = Retry { from: 1, at: START + SECOND, grace: SECOND, most };
        told("retry", store.retry(&ctx(), &realm, family.id, &retry).await)
    };
    assert!(!asked(0).await);
    assert!(asked(1).await && !asked(1).await && asked(2).await && !asked(2).await && !asked(1).await);
    assert_eq!(shown(store, &realm, family.id).await.retries, 2);
    assert!(asked(u32::MAX).await);
}

async fn of_many_retries_at_once_no_more_than_the_most_are_counted(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    let realm: Arc<str> = bench.realm().into();
    for _ in 0..5 {
        let id = bench.renewed(&realm).await.id;
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
                tokio::spawn(async move { retry(&*store, &realm, id, 1, START + SECOND).await })
            })
            .collect();
        let mut counted = 0;
        for task in tasks {
            counted += u32::from(task.await.expect("a retry"));
        }
        assert_eq!(counted, 10);
        assert_eq!(shown(store, &realm, id).await.retries, 10);
    }
}

async fn what_is_confirmed_is_not_retried(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    assert!(retry(store, &realm, family.id, 1, START + SECOND).await);
    for _ in 0..2 {
        told("confirm", bench.other.confirm(&ctx(), &realm, family.id, 2).await);
        assert!(!retry(store, &realm, family.id, 1, START + SECOND).await);
        let expected = Family { retries: 1, confirmed: true, ..family.clone() };
        assert_eq!(shown(store, &realm, family.id).await, expected);
    }
    // The next generation is unconfirmed again.
    assert!(renew(store, &realm, family.id, 2, START + SECOND).await);
    assert!(retry(store, &realm, family.id, 2, START + SECOND).await);
}

async fn only_the_generation_that_is_good_is_confirmed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for generation in [0, 1, 3, u32::MAX] {
        told("confirm", store.confirm(&ctx(), &realm, family.id, generation).await);
    }
    told("confirm", store.confirm(&ctx(), &bench.realm(), family.id, 2).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn nothing_is_retried_when_its_end_has_come(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (idle_end, absolute_end) in [(START + 50, START + 90), (START + 90, START + 50)] {
        let family = Family { generation: 2, idle_end, absolute_end, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        assert!(!retry(store, &realm, family.id, 1, START + 50).await);
        assert!(!retry(store, &realm, family.id, 1, START + 51).await);
        assert!(retry(store, &realm, family.id, 1, START + 49).await);
    }
    let family = bench.renewed(&realm).await;
    end(store, &realm, &Ends::Family(family.id), START + SECOND, EndReason::Logout).await;
    assert!(!retry(store, &realm, family.id, 1, START + SECOND).await);
}
