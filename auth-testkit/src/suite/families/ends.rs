//! What has ended has ended, with what was issued under it.

use std::sync::Arc;

use auth_core::{EndReason, Ends, Families, Family, Issued};
use futures_util::future::join_all;

use super::{FamilyBench, HOUR, START, ctx, end, invalid, is_revoked, renew, retry, sessions, shown};
use crate::suite::{cases, told};

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    an_end_is_kept_as_it_was_first,
    nothing_revives_a_family,
    a_person_s_families_end_together_and_nobody_else_s,
    a_realm_s_families_end_together_and_no_other_s,
    what_begins_after_an_end_lives,
    of_many_ends_at_once_each_family_counts_for_one,
    an_end_revokes_what_was_issued_before,
    an_end_of_what_is_unknown_revokes_all_the_same,
    who_sees_an_end_sees_its_revocation,
    who_begins_beside_an_end_is_told_of_it_or_ends_with_it,
}

async fn an_end_is_kept_as_it_was_first(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (n, reason) in EndReason::ALL.into_iter().enumerate() {
        let family = bench.renewed(&realm).await;
        let what = Ends::Family(family.id);
        assert_eq!(end(store, &realm, &what, START + 7, reason).await, 1);
        let ended = Family { ended: Some((START + 7, reason)), ..family.clone() };
        assert_eq!(shown(&*bench.other, &realm, family.id).await, ended);
        let again = EndReason::ALL.get(5 - n).copied().unwrap_or(reason);
        assert_eq!(end(&*bench.other, &realm, &what, START + 3, again).await, 0);
        assert_eq!(end(store, &realm, &Ends::Person("calvin"), START + 9, again).await, 0);
        assert_eq!(end(store, &realm, &Ends::Realm, START + 9, again).await, 0);
        assert_eq!(shown(store, &realm, family.id).await, ended);
    }
}

async fn nothing_revives_a_family(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    end(store, &realm, &Ends::Person("calvin"), START + 1, EndReason::PasswordChanged).await;
    let ended = shown(store, &realm, family.id).await;
    for at in [0, START, START + 1, START + 2] {
        assert!(
            !renew(store, &realm, family.id, 1, at).await && !retry(store, &realm, family.id, 0, at).await
        );
    }
    told("confirm", store.confirm(&ctx(), &realm, family.id, 1).await);
    invalid(store.begin(&ctx(), &family).await);
    assert_eq!(end(store, &realm, &Ends::Family(family.id), START, EndReason::Revoked).await, 0);
    told("clean", store.clean(&ctx(), START + 2, 1_000).await);
    let now = shown(store, &realm, family.id).await;
    assert_eq!(Family { confirmed: false, ..now }, ended);
    assert!(sessions(store, &realm, "calvin", START + 2, 10).await.is_empty());
}

async fn a_person_s_families_end_together_and_nobody_else_s(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut hers = Vec::new();
    for _ in 0..5 {
        hers.push(bench.begin(&realm, "susie").await);
    }
    let his = bench.begin(&realm, "calvin").await;
    let first = hers.first().expect("some").id;
    end(store, &realm, &Ends::Family(first), START + 1, EndReason::Logout).await;
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 2, EndReason::LogoutAll).await, 4);
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 3, EndReason::LogoutAll).await, 0);
    for family in &hers {
        let reason = if family.id == first { EndReason::Logout } else { EndReason::LogoutAll };
        let ended = shown(&*bench.other, &realm, family.id).await.ended;
        assert_eq!(ended.map(|(_, reason)| reason), Some(reason));
        assert!(!renew(&*bench.other, &realm, family.id, 1, START + 3).await);
    }
    assert!(sessions(store, &realm, "susie", START + 3, 10).await.is_empty());
    assert_eq!(shown(store, &realm, his.id).await, his);
    assert!(renew(store, &realm, his.id, 1, START + 3).await);
}

async fn a_realm_s_families_end_together_and_no_other_s(store: &dyn Families, bench: &FamilyBench) {
    let (realm, other) = (bench.realm(), bench.realm());
    let mut all = Vec::new();
    for login in ["calvin", "susie", "calvin", "zo\u{e9}"] {
        all.push(bench.begin(&realm, login).await);
    }
    let spared = bench.begin(&other, "calvin").await;
    end(store, &realm, &Ends::Person("susie"), START + 1, EndReason::Account).await;
    assert_eq!(end(store, &realm, &Ends::Realm, START + 2, EndReason::Revoked).await, 3);
    assert_eq!(end(store, &realm, &Ends::Realm, START + 3, EndReason::Logout).await, 0);
    for family in &all {
        let expected = if family.login == "susie" {
            (START + 1, EndReason::Account)
        } else {
            (START + 2, EndReason::Revoked)
        };
        let now = shown(&*bench.other, &realm, family.id).await;
        assert_eq!(now, Family { ended: Some(expected), ..family.clone() });
        assert!(!renew(store, &realm, family.id, 1, START + 3).await);
        assert!(!retry(store, &realm, family.id, 0, START + 3).await);
        assert!(sessions(store, &realm, &family.login, START + 3, 10).await.is_empty());
        assert_eq!(end(store, &realm, &Ends::Family(family.id), START + 3, EndReason::Logout).await, 0);
        assert_eq!(end(store, &realm, &Ends::Person(&family.login), START + 3, EndReason::Logout).await, 0);
        assert_eq!(shown(store, &realm, family.id).await, now);
    }
    assert_eq!(shown(store, &other, spared.id).await, spared);
    assert!(renew(store, &other, spared.id, 1, START + 3).await);
}

async fn what_begins_after_an_end_lives(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (n, what) in [Ends::Person("calvin"), Ends::Realm, Ends::Realm, Ends::Person("calvin"), Ends::Realm]
        .into_iter()
        .enumerate()
    {
        let at = START + 10 * n as u64;
        let family = bench.begin(&realm, "calvin").await;
        assert_eq!(sessions(store, &realm, "calvin", at, 10).await.len(), 1);
        assert!(renew(store, &realm, family.id, 1, at).await);
        assert_eq!(end(&*bench.other, &realm, &what, at + 1, EndReason::Revoked).await, 1, "{n}");
        assert!(!renew(store, &realm, family.id, 2, at + 1).await);
        assert_eq!(shown(store, &realm, family.id).await.ended, Some((at + 1, EndReason::Revoked)));
    }
    // A clock that is behind makes nobody's session an old one.
    let late = Family { created_at: START - HOUR, ..bench.family(&realm, "calvin") };
    told("begin", store.begin(&ctx(), &late).await);
    assert!(renew(store, &realm, late.id, 1, START).await);
}

async fn of_many_ends_at_once_each_family_counts_for_one(store: &dyn Families, bench: &FamilyBench) {
    for what in [Ends::Person("calvin"), Ends::Realm] {
        let realm = bench.realm();
        for _ in 0..20 {
            bench.begin(&realm, "calvin").await;
        }
        let ends = (0..8).map(|n| {
            let (store, realm, what) = (Arc::clone(bench.either(n)), realm.clone(), &what);
            async move { end(&*store, &realm, what, START + 1, EndReason::LogoutAll).await }
        });
        assert_eq!(join_all(ends).await.iter().sum::<u64>(), 20, "{what:?}");
        assert!(sessions(store, &realm, "calvin", START + 2, 100).await.is_empty());
    }
}

async fn an_end_revokes_what_was_issued_before(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let (his, hers) = (bench.begin(&realm, "calvin").await, bench.begin(&realm, "susie").await);
    let of_his = Issued { family: Some(his.id), ..bench.token("calvin", Some(START + 5)) };
    let of_hers = Issued { family: Some(hers.id), ..bench.token("susie", Some(START + 5)) };
    let others = bench.token("calvin", Some(START + 5));
    let now = START + 10;
    for token in [&of_his, &of_hers, &others] {
        assert!(!is_revoked(store, &realm, token, now).await);
    }
    end(store, &realm, &Ends::Family(his.id), START + 1, EndReason::Logout).await;
    assert!(is_revoked(&*bench.other, &realm, &of_his, now).await, "of that family, whenever it was issued");
    assert!(
        !is_revoked(store, &realm, &of_hers, now).await && !is_revoked(store, &realm, &others, now).await
    );
    end(store, &realm, &Ends::Person("calvin"), START + 5, EndReason::LogoutAll).await;
    assert!(is_revoked(&*bench.other, &realm, &others, now).await);
    assert!(!is_revoked(store, &realm, &bench.token("calvin", Some(START + 6)), now).await);
    assert!(!is_revoked(store, &realm, &of_hers, now).await);
    end(store, &realm, &Ends::Realm, START + 5, EndReason::Revoked).await;
    assert!(is_revoked(&*bench.other, &realm, &of_hers, now).await);
    assert!(!is_revoked(store, &realm, &bench.token("susie", Some(START + 6)), now).await);
    assert!(is_revoked(store, &realm, &of_his, START + 5 + HOUR - 1).await);
    assert!(!is_revoked(store, &realm, &of_his, START + 5 + HOUR).await, "it has ended by then");
}

async fn an_end_of_what_is_unknown_revokes_all_the_same(store: &dyn Families, bench: &FamilyBench) {
    let (realm, id) = (bench.realm(), bench.id());
    let of_it = Issued { family: Some(id), ..bench.token("moe", Some(START)) };
    assert_eq!(end(store, &realm, &Ends::Family(id), START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &of_it, START + 2).await);
    let hers = bench.token("susie", Some(START));
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &hers, START + 2).await);
    let realm = bench.realm();
    assert_eq!(end(store, &realm, &Ends::Realm, START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &hers, START + 2).await);
    // What begins under that id afterwards was not ended.
    let realm = bench.realm();
    let family = bench.family(&realm, "calvin");
    assert_eq!(end(store, &realm, &Ends::Family(family.id), START, EndReason::Logout).await, 0);
    told("begin", store.begin(&ctx(), &family).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn who_sees_an_end_sees_its_revocation(_store: &dyn Families, bench: &FamilyBench) {
    let rounds = (bench.rounds / 20).max(1);
    for round in 0..rounds {
        let realm = bench.realm();
        let family = bench.begin(&realm, "calvin").await;
        let token = Issued { family: Some(family.id), ..bench.token("calvin", Some(START)) };
        let what = [Ends::Family(family.id), Ends::Person("calvin"), Ends::Realm];
        let what = what.get(round as usize % 3).copied().unwrap_or(Ends::Realm);
        let ending = end(&*bench.store, &realm, &what, START + 1, EndReason::Logout);
        let watching = async {
            let other = &*bench.other;
            loop {
                let ended = shown(other, &realm, family.id).await.ended.is_some();
                let revoked = is_revoked(other, &realm, &token, START + 1).await;
                assert!(revoked || !ended, "round {round}: ended, and its tokens go on");
                if ended {
                    return;
                }
            }
        };
        tokio::join!(ending, watching);
    }
}

async fn who_begins_beside_an_end_is_told_of_it_or_ends_with_it(_store: &dyn Families, bench: &FamilyBench) {
    let rounds = (bench.rounds / 10).max(1);
    for round in 0..rounds {
        let realm = bench.realm();
        bench.begin(&realm, "calvin").await;
        let token = bench.token("calvin", Some(START));
        let what = if round % 2 == 0 { Ends::Person("calvin") } else { Ends::Realm };
        let ending = end(&*bench.store, &realm, &what, START + 1, EndReason::Logout);
        let families: Vec<_> = (0..8).map(|_| bench.family(&realm, "calvin")).collect();
        let beginning = join_all(families.iter().map(|family| async {
            let other = &*bench.other;
            told("begin", other.begin(&ctx(), family).await);
            is_revoked(other, &realm, &token, START + 1).await
        }));
        let (_, revoked) = tokio::join!(ending, beginning);
        for (family, revoked) in families.iter().zip(revoked) {
            let ended = shown(&*bench.store, &realm, family.id).await.ended.is_some();
            assert!(revoked || ended, "round {round}: it lives, and who has begun it was told of no end");
        }
    }
}
