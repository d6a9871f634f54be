//! Realms and logins are their own, to the byte.

use auth_core::{EndReason, Ends, Families, Family, Issued, Revoked};

use super::{FamilyBench, HOUR, START, ctx, end, is_revoked, renew, revoke, sessions, shown};
use crate::suite::{cases, told};

/// Texts that a careless store takes for somebody else, or for a command.
const LOGINS: [&str; 30] = [
    "calvin",
    "Calvin",
    "calvin ",
    " calvin",
    "calvi%",
    "calvi_",
    "%",
    "_",
    "*",
    "?",
    "calvin'",
    "calvin\"",
    "calvin`",
    "calvin\\",
    "' OR '1'='1",
    "'; DROP TABLE gatepost_family; --",
    "x') ON CONFLICT DO NOTHING; --",
    "calvin:",
    ":calvin",
    "calvin:susie",
    "{calvin}",
    "}{",
    "calvin}",
    "$1",
    ":login",
    "zo\u{e9}",
    "zoe\u{301}",
    "stra\u{df}e",
    "strasse",
    "\u{1f42f}",
];

cases! {
    /// Lists them.
    pub(super) cases, dyn Families, FamilyBench:
    realms_know_nothing_of_each_other,
    names_do_not_run_into_each_other,
    logins_are_compared_byte_for_byte,
}

async fn realms_know_nothing_of_each_other(store: &dyn Families, bench: &FamilyBench) {
    let (one, two) = (bench.realm(), bench.realm());
    let first = bench.begin(&one, "calvin").await;
    // The same id is another family elsewhere.
    let second = Family { realm: two.as_str().into(), scope: "other".to_owned(), ..first.clone() };
    told("begin", store.begin(&ctx(), &second).await);
    assert!(renew(store, &one, first.id, 1, START + 1).await);
    told("confirm", store.confirm(&ctx(), &one, first.id, 2).await);
    assert_eq!(shown(store, &two, first.id).await, second);
    assert_eq!(sessions(store, &two, "calvin", START, 10).await, std::slice::from_ref(&second));
    for what in [Ends::Family(first.id), Ends::Person("calvin"), Ends::Realm] {
        end(store, &one, &what, START + 1, EndReason::Logout).await;
    }
    assert_eq!(shown(store, &two, first.id).await, second);
    let token = Issued { family: Some(first.id), ..bench.token("calvin", Some(START)) };
    assert!(is_revoked(store, &one, &token, START + 2).await);
    assert!(!is_revoked(store, &two, &token, START + 2).await);
    revoke(store, &one, &Revoked::Token(token.mark), START + 1, START + HOUR).await;
    assert!(!is_revoked(store, &two, &token, START + 2).await);
    assert!(renew(store, &two, first.id, 1, START + 2).await);
}

async fn names_do_not_run_into_each_other(store: &dyn Families, bench: &FamilyBench) {
    let n = bench.number();
    // Realm and login read alike if they are put side by side, with anything between.
    let pairs = [
        (format!("{n}a"), "bc"),
        (format!("{n}ab"), "c"),
        (format!("{n}a:b"), "c"),
        (format!("{n}a"), "b:c"),
        (format!("{n}a:p:b"), "c"),
        (format!("{n}a%3Ab"), "c"),
        (format!("{n}a{{b"), "}c"),
        (format!("{n}a{{b}}"), "c"),
        (format!("{n}a'b"), "c"),
        (format!("{n}A"), "bc"),
        (format!("{n}a "), "bc"),
        (format!("{n}\u{e9}"), "bc"),
        (format!("{n}e\u{301}"), "bc"),
    ];
    let mut all = Vec::new();
    for (realm, login) in &pairs {
        all.push(bench.begin(realm, login).await);
    }
    for (which, family) in all.iter().enumerate() {
        assert_eq!(
            sessions(store, &family.realm, &family.login, START, 10).await,
            std::slice::from_ref(family)
        );
        assert_eq!(
            end(store, &family.realm, &Ends::Person(&family.login), START, EndReason::Logout).await,
            1
        );
        for (n, other) in all.iter().enumerate() {
            let token = bench.token(&other.login, Some(START));
            assert_eq!(shown(store, &other.realm, other.id).await.ended.is_some(), n <= which, "{other:?}");
            assert_eq!(is_revoked(store, &other.realm, &token, START).await, n <= which, "{other:?}");
        }
    }
}

async fn logins_are_compared_byte_for_byte(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let longest = "\u{e9}".repeat(127) + "x";
    let logins: Vec<&str> = LOGINS.into_iter().chain([longest.as_str()]).collect();
    let mut all = Vec::new();
    for login in &logins {
        all.push(bench.begin(&realm, login).await);
    }
    for family in &all {
        assert_eq!(sessions(store, &realm, &family.login, START, 100).await, std::slice::from_ref(family));
    }
    for (which, login) in logins.iter().enumerate() {
        assert_eq!(
            end(store, &realm, &Ends::Person(login), START + 1, EndReason::Account).await,
            1,
            "{login:?}"
        );
        for (n, family) in all.iter().enumerate() {
            let live = sessions(&*bench.other, &realm, &family.login, START + 1, 100).await;
            assert_eq!(live.is_empty(), n <= which, "{login:?} {:?}", family.login);
            let token = bench.token(&family.login, None);
            assert_eq!(is_revoked(store, &realm, &token, START + 1).await, n <= which, "{:?}", family.login);
        }
    }
}
