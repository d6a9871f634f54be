//! What begins is kept as it was, and what can not be is refused.

use std::net::IpAddr;
use std::sync::Arc;

use auth_core::{
    Device, End, EndReason, Ends, ErrorKind, Families, Family, Lookup, Millis, Renewal, Revoked,
};
use futures_util::future::join_all;

use super::{FamilyBench, START, ctx, end, invalid, is_revoked, lookup, revoke, sessions, shown};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    what_was_begun_is_shown_as_it_was,
    nothing_unknown_is_shown,
    an_id_that_is_taken_is_refused,
    of_many_that_begin_with_one_id_one_is_taken,
    what_can_not_be_kept_is_refused,
    texts_of_the_greatest_length_are_kept,
    the_first_and_the_last_moments_are_kept,
}

async fn what_was_begun_is_shown_as_it_was(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let plain = bench.begin(&realm, "calvin").await;
    let full = Family {
        client: Some("web".to_owned()),
        scope: "read write".to_owned(),
        device: Device {
            name: Some("Zo\u{e9}'s \"phone\"".to_owned()),
            address: Some(IpAddr::from([10, 0, 0, 7])),
            agent: Some("Mozilla/5.0 (X11; \\ 'x' %s)\tend".to_owned()),
        },
        generation: 7,
        rotated_at: START + 1,
        retries: 3,
        confirmed: true,
        created_at: START - 2,
        last_used_at: START + 3,
        idle: 4,
        idle_end: START + 5,
        absolute_end: START + 6,
        ..bench.family(&realm, "calvin")
    };
    let v6 = "2001:db8::7".parse::<IpAddr>().expect("an address");
    let empty = Family {
        client: Some(String::new()),
        device: Device { name: Some(String::new()), address: Some(v6), agent: Some(String::new()) },
        ..bench.family(&realm, "susie")
    };
    let ended = EndReason::ALL
        .map(|reason| Family { ended: Some((START + 9, reason)), ..bench.family(&realm, "hobbes") });
    for family in [&full, &empty].into_iter().chain(&ended) {
        told("begin", store.begin(&ctx(), family).await);
    }
    for family in [&plain, &full, &empty].into_iter().chain(&ended) {
        for handle in [&bench.store, &bench.other] {
            assert_eq!(&shown(&**handle, &realm, family.id).await, family);
        }
    }
}

async fn nothing_unknown_is_shown(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    assert_eq!(lookup(store, &realm, bench.id()).await, Lookup::NotFound);
    assert_eq!(lookup(store, &bench.realm(), family.id).await, Lookup::NotFound);
    assert_eq!(lookup(store, "", family.id).await, Lookup::NotFound);
    assert!(sessions(store, &realm, "susie", START, 10).await.is_empty());
    assert!(sessions(store, &bench.realm(), "calvin", START, 10).await.is_empty());
}

async fn an_id_that_is_taken_is_refused(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    let thief = Family { id: family.id, generation: 5, ..bench.family(&realm, "susie") };
    invalid(store.begin(&ctx(), &thief).await);
    invalid(bench.other.begin(&ctx(), &family).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(sessions(store, &realm, "susie", START, 10).await.is_empty());
    end(store, &realm, &Ends::Family(family.id), START, EndReason::Logout).await;
    invalid(store.begin(&ctx(), &family).await);
    assert!(shown(store, &realm, family.id).await.ended.is_some());
}

async fn of_many_that_begin_with_one_id_one_is_taken(_store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for _ in 0..10 {
        let id = bench.id();
        let all: Vec<_> =
            (0..8).map(|n| Family { id, scope: n.to_string(), ..bench.family(&realm, "calvin") }).collect();
        let begun = join_all(all.iter().enumerate().map(|(n, family)| {
            let store = Arc::clone(bench.either(n));
            async move { store.begin(&ctx(), family).await }
        }))
        .await;
        let taken: Vec<_> = all.iter().zip(&begun).filter(|(_, begun)| begun.is_ok()).collect();
        assert_eq!(taken.len(), 1, "{begun:?}");
        assert!(
            begun.iter().flat_map(|begun| begun.as_ref().err()).all(|why| why.kind() == ErrorKind::Invalid)
        );
        let kept = shown(&*bench.store, &realm, id).await;
        assert_eq!(taken.first().map(|(family, _)| *family), Some(&kept));
    }
}

async fn what_can_not_be_kept_is_refused(store: &dyn Families, bench: &FamilyBench) {
    fn long(most: usize) -> String {
        "a".repeat(most + 1)
    }
    let realm = bench.realm();
    let changes: [fn(&mut Family); 14] = [
        |family| family.login = long(255),
        |family| family.login = String::new(),
        |family| family.login = "cal\0vin".to_owned(),
        |family| family.person = long(Family::MAX_PERSON_BYTES),
        |family| family.client = Some(long(Family::MAX_NAME_BYTES)),
        |family| family.scope = long(Family::MAX_SCOPE_BYTES),
        |family| family.device.name = Some(long(Family::MAX_NAME_BYTES)),
        |family| family.device.agent = Some(long(Family::MAX_AGENT_BYTES)),
        |family| family.device.agent = Some("a\0".to_owned()),
        |family| family.secret = long(Family::MAX_SECRET_NAME_BYTES),
        |family| family.absolute_end = Family::MAX_TIME + 1,
        |family| family.idle_end = Millis::MAX,
        |family| family.idle = Millis::MAX,
        |family| family.ended = Some((Millis::MAX, EndReason::Logout)),
    ];
    for change in changes {
        let mut family = bench.family(&realm, "calvin");
        change(&mut family);
        let begun = store.begin(&ctx(), &family).await;
        assert!(begun.is_err(), "{family:?}");
        invalid(begun);
        assert_eq!(lookup(store, &realm, family.id).await, Lookup::NotFound);
    }
    assert!(sessions(store, &realm, "calvin", START, 10).await.is_empty());
}

async fn texts_of_the_greatest_length_are_kept(store: &dyn Families, bench: &FamilyBench) {
    // Of one byte each, and of four.
    for unit in ["a", "\u{1f42f}"] {
        let text = |most: usize| {
            let whole = unit.repeat(most / unit.len());
            format!("{whole}{}", "b".repeat(most - whole.len()))
        };
        let realm = text(255);
        let family = Family {
            id: bench.id(),
            person: text(Family::MAX_PERSON_BYTES),
            client: Some(text(Family::MAX_NAME_BYTES)),
            scope: text(Family::MAX_SCOPE_BYTES),
            device: Device {
                name: Some(text(Family::MAX_NAME_BYTES)),
                address: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok(),
                agent: Some(text(Family::MAX_AGENT_BYTES)),
            },
            secret: text(Family::MAX_SECRET_NAME_BYTES),
            ..bench.family(&realm, &text(255))
        };
        told("begin", store.begin(&ctx(), &family).await);
        assert_eq!(shown(&*bench.other, &realm, family.id).await, family);
        assert_eq!(sessions(store, &realm, &family.login, START, 10).await, std::slice::from_ref(&family));
        // All but the last byte are the same.
        let mut near = family.login.clone();
        near.pop();
        near.push('c');
        assert!(sessions(store, &realm, &near, START, 10).await.is_empty());
        assert_eq!(end(store, &realm, &Ends::Person(&near), START + 1, EndReason::Logout).await, 0);
        let issued = bench.token(&family.login, Some(START));
        assert!(!is_revoked(store, &realm, &issued, START + 1).await);
        assert_eq!(end(store, &realm, &Ends::Person(&family.login), START + 1, EndReason::Logout).await, 1);
        assert!(is_revoked(store, &realm, &issued, START + 1).await);
    }
}

async fn the_first_and_the_last_moments_are_kept(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let first = Family {
        rotated_at: 0,
        created_at: 0,
        last_used_at: 0,
        idle: 0,
        idle_end: 1,
        absolute_end: 1,
        ended: None,
        ..bench.family(&realm, "calvin")
    };
    let last = Family {
        rotated_at: Family::MAX_TIME,
        created_at: Family::MAX_TIME,
        last_used_at: Family::MAX_TIME,
        idle: Family::MAX_TIME,
        idle_end: Family::MAX_TIME,
        absolute_end: Family::MAX_TIME,
        ..bench.family(&realm, "susie")
    };
    for family in [&first, &last] {
        told("begin", store.begin(&ctx(), family).await);
        assert_eq!(&shown(&*bench.other, &realm, family.id).await, family);
    }
    let renewal = |at| Renewal { from: 1, at, idle_end: Millis::MAX };
    assert!(!told("renew", store.renew(&ctx(), &realm, first.id, &renewal(1)).await));
    assert!(told("renew", store.renew(&ctx(), &realm, first.id, &renewal(0)).await));
    assert!(!told("renew", store.renew(&ctx(), &realm, last.id, &renewal(Family::MAX_TIME)).await));
    assert!(told("renew", store.renew(&ctx(), &realm, last.id, &renewal(Family::MAX_TIME - 1)).await));
    assert!(shown(store, &realm, last.id).await.is_live(Family::MAX_TIME - 1));
    assert_eq!(sessions(store, &realm, "susie", Family::MAX_TIME - 1, 10).await.len(), 1);
    let (what, token) = (Revoked::Person("hobbes"), bench.token("hobbes", Some(Family::MAX_TIME)));
    revoke(store, &realm, &what, 0, Millis::MAX).await;
    assert!(is_revoked(store, &realm, &bench.token("hobbes", Some(0)), Family::MAX_TIME - 1).await);
    assert!(!is_revoked(store, &realm, &token, 0).await);
    revoke(store, &realm, &what, Millis::MAX, Millis::MAX).await;
    assert!(is_revoked(store, &realm, &token, 0).await);
    let ends = End { at: 0, reason: EndReason::Logout, until: 0 };
    assert_eq!(told("end", store.end(&ctx(), &realm, &Ends::Family(last.id), &ends).await), 1);
    assert_eq!(shown(store, &realm, last.id).await.ended, Some((0, EndReason::Logout)));
}
