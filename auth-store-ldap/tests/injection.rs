//! Whatever somebody types, the server is asked nothing but the configured filter: read from the server's own log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::LazyLock;

use auth_core::{
    Ctx, GroupOracle as _, Id, Login, LoginRule, Lookup, PasswordSource as _, Principal, RealmId, Verdict,
};
use auth_store_ldap::LdapStore;
use auth_testkit::servers::{Ds389, Ds389Options, Slapd, skipped};
use auth_testkit::{World, info, password, realm_with};
use common::{opened, options, settings, world};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

static SLAPD: LazyLock<Slapd> = LazyLock::new(|| {
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    slapd
});

/// Texts that a careless program takes for syntax of filters or names.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("*".to_owned()),
        Just(")".to_owned()),
        Just("(".to_owned()),
        Just("calvin".to_owned()),
        Just(")(uid=*".to_owned()),
        Just("*)(objectClass=*".to_owned()),
        Just("))(|(uid=*".to_owned()),
        Just("\\".to_owned()),
        Just("\\2a".to_owned()),
        Just("\\00".to_owned()),
        Just(",dc=example,dc=com".to_owned()),
        Just("+cn=x".to_owned()),
        Just("\"".to_owned()),
        Just("#".to_owned()),
        Just("{login}".to_owned()),
        Just("{dn}".to_owned()),
        Just(":dn:=x".to_owned()),
        Just("=".to_owned()),
        Just("&|!<>;~".to_owned()),
        "[ -~]{1,6}",
        "\\PC{1,4}",
    ];
    prop::collection::vec(pieces, 1..6).prop_map(|pieces| pieces.concat())
}

fn exact() -> RealmId {
    realm_with("exact", LoginRule::Exact)
}

/// Hides the values that came from outside: what stands between `uid=` or `entryUUID=` and the parenthesis that ends
/// it. In what a server logs, no parenthesis in a value is left as it is.
fn shape(filter: &str) -> String {
    let mut shape = String::new();
    let mut rest = filter;
    while let Some((before, after)) = rest.split_once('=') {
        shape += before;
        shape.push('=');
        let end = after.find([')', '(']).unwrap_or(after.len());
        rest = &after[end..];
    }
    shape + rest
}

/// Asks everything that takes a text from outside. Nobody but whom the text names is found.
async fn ask_all(store: &LdapStore, text: &str) {
    let Ok(login) = Login::parse(&exact(), text) else { return };
    let known = World::users().iter().any(|user| user.login == text);
    for secret in [text, "hobbes", "*"] {
        let secret = auth_core::Password::new(secret.as_bytes().to_vec());
        let Ok(secret) = secret else { continue };
        let verdict = store.verify(&Ctx::new(), &login, &secret).await;
        assert!(known || !matches!(verdict, Ok(Verdict::Accepted(_))), "{text:?}: {verdict:?}");
    }
    let account = store.account(&Ctx::new(), &login).await;
    assert!(known || !matches!(account, Ok(Lookup::Found(_))), "{text:?}: {account:?}");
    let whoever = Principal::found(&info("ldap"), &login, text, Id::text(text)).unwrap();
    let groups = store.groups_of(&Ctx::new(), &whoever).await;
    assert!(matches!(groups, Ok(Lookup::NotFound)), "{text:?}: {groups:?}");
    let calvin = Login::parse(&exact(), "calvin").unwrap();
    let id = common::id(World::user("calvin"));
    let calvin = Principal::found(&info("ldap"), &calvin, "calvin", id).unwrap();
    let member = store.is_member(&Ctx::new(), &calvin, text).await.unwrap();
    assert_eq!(member == auth_core::Member::Yes, ["admin", "staff"].contains(&text), "{text:?}");
}

fn run(runtime: &tokio::runtime::Runtime, stores: &[LdapStore]) {
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&hostile(), |text| {
            for store in stores {
                runtime.block_on(ask_all(store, &text));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn openldap_is_asked_nothing_but_the_configured_filters() {
    if skipped("slapd") {
        return;
    }
    let slapd = &*SLAPD;
    let groups = format!("group_base = 'ou=groups,{}'", Slapd::BASE);
    let filters =
        "user_filter = '(&(objectClass=inetOrgPerson)(|(uid={login})(cn={login}))(!(uid=nobody{login}x)))'";
    let member_of = "group_strategy = 'memberOf'";
    let template = format!("mode = 'bind-template'\nuser_dn = 'uid={{login}},ou=people,{}'", Slapd::BASE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stores = runtime.block_on(async {
        [
            opened(&settings(&slapd.url(), &format!("{groups}\n{member_of}\n{filters}\ncheck = 'later'")))
                .await,
            opened(&settings(&slapd.url(), &format!("{groups}\ncheck = 'later'"))).await,
            opened(&settings(&slapd.url(), &format!("{groups}\n{template}\ncheck = 'later'"))).await,
        ]
    });
    let before = slapd.log().len();
    run(&runtime, &stores);
    let log = slapd.log().split_off(before);
    let asked: std::collections::BTreeSet<String> = log
        .lines()
        .filter_map(|line| {
            line.split_once(" SRCH base=")?.1.split_once("filter=\"")?.1.strip_suffix('"').map(shape)
        })
        .collect();
    let allowed: std::collections::BTreeSet<&str> = [
        "(objectClass=)",
        "(uid=)",
        "(entryUUID=)",
        "(&(objectClass=)(|(uid=)(cn=))(!(uid=)))",
        "(|(member=)(uniqueMember=))",
        "(|(|(member=)(uniqueMember=))(|(member=)(uniqueMember=)))",
    ]
    .into();
    let other: Vec<&String> = asked.iter().filter(|filter| !allowed.contains(filter.as_str())).collect();
    assert!(other.is_empty(), "other filters than the configured ones: {other:?}");
    assert!(asked.contains("(uid=)") && asked.len() >= 5, "{asked:?}");
    // Names that passwords were tried on are people's own, and right under the one branch.
    let bound = log.lines().filter_map(|line| line.split_once(" BIND dn=\"")?.1.split_once("\" method="));
    for (dn, _) in bound {
        let base = format!(",{}", Slapd::BASE);
        let rest = dn.strip_suffix(&base).unwrap_or_else(|| panic!("{dn}"));
        let (first, unit) = rest.rsplit_once(',').unwrap_or_else(|| panic!("{dn}"));
        assert!(unit == "ou=people" || rest == "cn=reader,ou=services", "{dn}");
        assert!(!first.replace("\\,", "").contains(','), "{dn}");
    }
}

#[test]
fn ds389_is_asked_nothing_but_the_configured_filters() {
    if skipped("ds389") {
        return;
    }
    let ds = Ds389::start(&Ds389Options::default());
    ds.must("ldapadd", &["-f", Ds389::EXAMPLE], "");
    let text = format!(
        "url = '{}'\npreset = '389ds'\nbase = '{}'\nbind_dn = '{}'\nbind_password = '{}'\ncheck = 'later'",
        ds.url(),
        Ds389::BASE,
        Ds389::ROOT,
        Ds389::PASSWORD
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(opened(&text));
    let before = ds.access_log().len();
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&hostile(), |text| {
            let Ok(login) = Login::parse(&exact(), &text) else { return Ok(()) };
            let verdict = runtime.block_on(store.verify(&Ctx::new(), &login, &password("sprain")));
            assert!(!matches!(verdict, Ok(Verdict::Accepted(_))), "{text:?}: {verdict:?}");
            Ok(())
        })
        .unwrap();
    let log = ds.access_log().split_off(before);
    let asked: std::collections::BTreeSet<String> = log
        .lines()
        .filter_map(|line| {
            line.split_once(" filter=\"")?.1.rsplit_once("\" attrs=").map(|(filter, _)| shape(filter))
        })
        .collect();
    let allowed = ["(objectClass=)", "(uid=)"].map(str::to_owned).into();
    assert!(asked.is_subset(&allowed), "{asked:?}");
    assert!(asked.contains("(uid=)"), "{asked:?}");
}
