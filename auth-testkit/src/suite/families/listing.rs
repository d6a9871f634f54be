//! Which sessions are listed, and which are deleted.

use auth_core::{Device, EndReason, Ends, Families, Family, Issued, Lookup, Millis, Revoked};

use super::{FamilyBench, HOUR, START, ctx, end, is_revoked, lookup, renew, revoke, sessions, shown};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    sessions_are_those_that_live_the_newest_first,
    sessions_are_no_more_than_asked_for,
    what_may_go_is_deleted_in_batches_and_nothing_else,
}

async fn sessions_are_those_that_live_the_newest_first(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut expected = Vec::new();
    for n in [3, 1, 4, 0, 2] {
        let family = Family {
            created_at: START + n,
            device: Device { name: Some(n.to_string()), ..Device::default() },
            ..bench.family(&realm, "calvin")
        };
        told("begin", store.begin(&ctx(), &family).await);
        expected.push(family);
    }
    expected.sort_by_key(|family| std::cmp::Reverse(family.created_at));
    let idle = Family { created_at: START + 9, idle_end: START + 50, ..bench.family(&realm, "calvin") };
    let over = Family { created_at: START + 9, absolute_end: START + 50, ..bench.family(&realm, "calvin") };
    let gone = Family { created_at: START + 9, ..bench.family(&realm, "calvin") };
    for family in [&idle, &over, &gone] {
        told("begin", store.begin(&ctx(), family).await);
    }
    bench.begin(&realm, "susie").await;
    end(store, &realm, &Ends::Family(gone.id), START + 10, EndReason::Logout).await;
    assert_eq!(sessions(store, &realm, "calvin", START + 49, 100).await.len(), 7);
    for handle in [&bench.store, &bench.other] {
        assert_eq!(sessions(&**handle, &realm, "calvin", START + 50, 100).await, expected);
    }
    assert!(sessions(store, &realm, "calvin", Millis::MAX, 100).await.is_empty());
    // A renewal makes nothing newer.
    let last = expected.last().expect("some").id;
    assert!(renew(store, &realm, last, 1, START + 20).await);
    let listed = sessions(store, &realm, "calvin", START + 50, 100).await;
    assert_eq!(listed.iter().map(|family| family.id).collect::<Vec<_>>().last(), Some(&last));
    assert_eq!(listed.last().map(|family| family.generation), Some(2), "as it is now");
}

async fn sessions_are_no_more_than_asked_for(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for n in 0..12 {
        let family = Family { created_at: START + n, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        // The newest are dead, and count for nothing.
        if n >= 10 {
            end(store, &realm, &Ends::Family(family.id), START + n, EndReason::Logout).await;
        }
    }
    for (most, count) in [(0, 0), (1, 1), (3, 3), (10, 10), (11, 10), (u32::MAX, 10)] {
        let listed = sessions(store, &realm, "calvin", START + 20, most).await;
        assert_eq!(listed.len(), count, "{most}");
        let times: Vec<_> = listed.iter().map(|family| family.created_at - START).collect();
        assert_eq!(times, (0..10).rev().take(count).collect::<Vec<_>>());
    }
}

async fn what_may_go_is_deleted_in_batches_and_nothing_else(store: &dyn Families, bench: &FamilyBench) {
    // Before what the other cases have begun, so that it is these that go.
    let now = START - 100 * HOUR;
    while told("clean", store.clean(&ctx(), now, 1_000).await) > 0 {}
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for n in 0..25 {
        let realm = bench.realm();
        let (created_at, idle_end) = (now - HOUR, now - 50);
        let old =
            Family { created_at, idle_end, absolute_end: now - n % 3, ..bench.family(&realm, "calvin") };
        let young = Family { created_at, idle_end, absolute_end: now + 1, ..bench.family(&realm, "calvin") };
        for family in [&old, &young] {
            told("begin", store.begin(&ctx(), family).await);
        }
        // Who has ended is kept as long as who has not.
        if n % 2 == 0 {
            end(store, &realm, &Ends::Person("calvin"), now - HOUR, EndReason::Logout).await;
        }
        if n % 5 == 0 {
            end(store, &realm, &Ends::Realm, now - HOUR, EndReason::Logout).await;
        }
        gone.push(old);
        kept.push(shown(store, &realm, young.id).await);
    }
    let realm = bench.realm();
    let (ended, needed) = (bench.mark(), bench.mark());
    revoke(store, &realm, &Revoked::Token(ended), now - HOUR, now).await;
    revoke(store, &realm, &Revoked::Token(needed), now - HOUR, now + 1).await;
    assert_eq!(told("clean", store.clean(&ctx(), now, 0).await), 0);
    let some = told("clean", store.clean(&ctx(), now, 10).await);
    assert!((1..=20).contains(&some), "ten of each at most: {some}");
    let mut left = 0;
    for family in &gone {
        left += u32::from(lookup(store, &family.realm, family.id).await != Lookup::NotFound);
    }
    assert!(left >= 15, "ten at most: {left} are left");
    let mut rounds = 0;
    while told("clean", bench.other.clean(&ctx(), now, 10).await) > 0 {
        rounds += 1;
        assert!(rounds < 100, "it has no end");
    }
    for family in &gone {
        assert_eq!(lookup(store, &family.realm, family.id).await, Lookup::NotFound);
        assert!(
            sessions(store, &family.realm, "calvin", now - 60, 10)
                .await
                .iter()
                .all(|live| live.id != family.id)
        );
    }
    for family in &kept {
        assert_eq!(&shown(store, &family.realm, family.id).await, family);
    }
    let token = |mark| Issued { mark, ..bench.token("calvin", None) };
    assert!(is_revoked(store, &realm, &token(needed), now).await);
    assert!(!is_revoked(store, &realm, &token(ended), now).await);
    // An id that is gone may be had again.
    let again = gone.first().expect("some");
    told("begin", store.begin(&ctx(), again).await);
    assert_eq!(&shown(store, &again.realm, again.id).await, again);
    while told("clean", store.clean(&ctx(), now, 1_000).await) > 0 {}
}
