//! What is revoked, and for how long.

use std::sync::Arc;

use auth_core::{End, EndReason, Ends, Families, Issued, Millis, Revoked};
use futures_util::future::join_all;

use super::{FamilyBench, HOUR, START, ctx, is_revoked, revoke};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    a_token_is_revoked_by_its_mark_or_its_family_whenever_it_was_issued,
    a_token_is_revoked_by_its_login_or_realm_if_it_was_issued_before,
    a_revocation_counts_until_its_end,
    the_later_moment_and_the_later_end_are_kept,
    of_many_revocations_at_once_the_latest_is_kept,
}

async fn a_token_is_revoked_by_its_mark_or_its_family_whenever_it_was_issued(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    let (realm, id) = (bench.realm(), bench.id());
    for at in [None, Some(0), Some(START), Some(START + HOUR)] {
        let token = bench.token("calvin", at);
        let of_family = Issued { family: Some(id), ..bench.token("calvin", at) };
        assert!(!is_revoked(store, &realm, &token, START).await);
        revoke(store, &realm, &Revoked::Token(token.mark), START, START + HOUR).await;
        assert!(is_revoked(&*bench.other, &realm, &token, START).await, "{at:?}");
        assert!(is_revoked(store, &realm, &Issued { login: "susie", ..token }, START).await);
        let other = bench.id();
        assert!(
            !is_revoked(store, &realm, &Issued { family: Some(other), ..bench.token("calvin", at) }, START)
                .await
        );
        if at.is_none() {
            assert!(!is_revoked(store, &realm, &of_family, START).await);
            revoke(store, &realm, &Revoked::Family(id), START, START + HOUR).await;
        }
        assert!(is_revoked(&*bench.other, &realm, &of_family, START).await, "{at:?}");
        assert!(!is_revoked(store, &realm, &bench.token("calvin", at), START).await);
    }
}

async fn a_token_is_revoked_by_its_login_or_realm_if_it_was_issued_before(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    for what in [Revoked::Person("calvin"), Revoked::Realm] {
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START + HOUR).await;
        for (at, revoked) in [
            (None, true),
            (Some(0), true),
            (Some(START - 1), true),
            (Some(START), true),
            (Some(START + 1), false),
            (Some(Millis::MAX), false),
        ] {
            let token = bench.token("calvin", at);
            assert_eq!(
                is_revoked(&*bench.other, &realm, &token, START + 2).await,
                revoked,
                "{what:?} {at:?}"
            );
            let hers = bench.token("susie", at);
            let revoked = revoked && what == Revoked::Realm;
            assert_eq!(is_revoked(store, &realm, &hers, START + 2).await, revoked, "{what:?} {at:?}");
        }
    }
}

/// What can be revoked, with a token that falls under it and nothing else.
fn all_kinds(bench: &FamilyBench) -> [(Revoked<'static>, Issued<'static>); 4] {
    let id = bench.id();
    let token = bench.token("calvin", Some(START - 1));
    let of_family = Issued { family: Some(id), ..bench.token("susie", Some(START - 1)) };
    [
        (Revoked::Token(token.mark), token),
        (Revoked::Family(id), of_family),
        (Revoked::Person("moe"), bench.token("moe", Some(START - 1))),
        (Revoked::Realm, bench.token("zo\u{e9}", Some(START - 1))),
    ]
}

async fn a_revocation_counts_until_its_end(store: &dyn Families, bench: &FamilyBench) {
    for (what, token) in all_kinds(bench) {
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START + 50).await;
        for (now, revoked) in
            [(0, true), (START, true), (START + 49, true), (START + 50, false), (Millis::MAX, false)]
        {
            assert_eq!(is_revoked(store, &realm, &token, now).await, revoked, "{what:?} {now}");
        }
        // Nothing to remember.
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START).await;
        assert!(!is_revoked(store, &realm, &token, START).await);
    }
}

async fn the_later_moment_and_the_later_end_are_kept(store: &dyn Families, bench: &FamilyBench) {
    for (what, _) in all_kinds(bench) {
        let token = |at| match what {
            Revoked::Token(mark) => Issued { mark, ..bench.token("calvin", at) },
            Revoked::Family(id) => Issued { family: Some(id), ..bench.token("calvin", at) },
            _ => bench.token("moe", at),
        };
        // Each of both may come first, and stand in either.
        for turns in [
            [(START, START + 90), (START + 10, START + 50)],
            [(START + 10, START + 50), (START, START + 90)],
            [(START + 10, START + 90), (START, START + 50)],
            [(START, START + 50), (START + 10, START + 90)],
        ] {
            let realm = bench.realm();
            for (n, (at, until)) in turns.into_iter().enumerate() {
                revoke(&**bench.either(n), &realm, &what, at, until).await;
            }
            let now = START + 89;
            assert!(is_revoked(store, &realm, &token(Some(START + 10)), now).await, "{what:?} {turns:?}");
            assert!(!is_revoked(store, &realm, &token(Some(START)), START + 90).await);
            let whenever = matches!(what, Revoked::Token(_) | Revoked::Family(_));
            assert_eq!(is_revoked(store, &realm, &token(Some(START + 11)), now).await, whenever);
            // An end does as much.
            if what == Revoked::Realm {
                let ends = End { at: START + 5, reason: EndReason::Revoked, until: START + 200 };
                told("end", store.end(&ctx(), &realm, &Ends::Realm, &ends).await);
                assert!(is_revoked(store, &realm, &token(Some(START + 10)), START + 199).await);
                assert!(!is_revoked(store, &realm, &token(Some(START + 11)), START + 199).await);
            }
        }
    }
}

async fn of_many_revocations_at_once_the_latest_is_kept(store: &dyn Families, bench: &FamilyBench) {
    for _ in 0..5 {
        let realm = bench.realm();
        let revoking = (0..16_usize).map(|n| {
            let (store, realm) = (Arc::clone(bench.either(n)), realm.clone());
            async move {
                let (what, n) = (Revoked::Person("calvin"), n as u64);
                revoke(&*store, &realm, &what, START + n, START + HOUR + (n * 7) % 16).await;
            }
        });
        join_all(revoking).await;
        let token = bench.token("calvin", Some(START + 15));
        assert!(is_revoked(store, &realm, &token, START + HOUR + 14).await);
        assert!(!is_revoked(store, &realm, &token, START + HOUR + 15).await);
    }
}
