//! What is proposed for real servers works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use auth_core::{Ctx, ErrorKind, GroupOracle as _, PasswordSource as _, Verdict};
use auth_store_ldap::{ProbeAccount, ProbeOptions, probe};
use auth_testkit::servers::{Ds389, Ds389Options, Slapd, skipped};
use auth_testkit::{login, password};
use common::{opened, options, world};

/// Opens a store with the proposal, as it stands in its TOML.
async fn works(config: &str, secret: &str, who: (&str, &str), group: &str) {
    let source = config.split_once("[source.staff]\nkind = \"ldap\"\n").unwrap().1;
    let source = source.replace("{ file = \"/run/credentials/gatepost/ldap\" }", &format!("'{secret}'"));
    let store = opened(&source).await;
    let verdict = store.verify(&Ctx::new(), &login(who.0), &password(who.1)).await.unwrap();
    let Verdict::Accepted(person) = verdict else { panic!("{verdict:?} with {source}") };
    let groups = store.groups_of(&Ctx::new(), &person).await.unwrap().found().unwrap();
    assert!(groups.contains(group), "{groups:?} with {source}");
}

fn account(dn: &str, secret: &str) -> ProbeOptions {
    let mut options = ProbeOptions::default();
    options.account = Some(ProbeAccount { dn: dn.to_owned(), password: secret.to_owned() });
    options
}

#[tokio::test]
async fn what_is_proposed_for_openldap_works() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let reader = account(&format!("cn=reader,ou=services,{}", Slapd::BASE), "reader-secret");
    let found = probe(&slapd.url(), &reader).await.unwrap();
    assert_eq!((found.product.as_str(), found.preset), ("OpenLDAP", "openldap"));
    assert_eq!((found.login_attr.as_str(), found.id_attr.as_str()), ("uid", "entryUUID"));
    assert_eq!(found.user_filter, "(&(objectClass=inetOrgPerson)(uid={login}))");
    assert_eq!(found.group_strategy, Some("recursive"));
    assert!(found.ppolicy && found.paged && !found.starttls && !found.reasons.is_empty(), "{found:?}");
    // People are in two places, with the same logins.
    assert_eq!(found.base.as_deref(), Some(Slapd::BASE));
    let narrower = found.config.replacen("base = \"dc=example", "base = \"ou=people,dc=example", 1);
    works(&narrower, "reader-secret", ("calvin", "hobbes"), "staff").await;
    // Strangers see nothing there, which is said.
    let blind = probe(&slapd.url(), &ProbeOptions::default()).await.unwrap();
    assert!(!blind.doubts.is_empty() && blind.config.contains("# NOT SURE: "), "{blind:?}");
    let wrong = probe(&slapd.url(), &account(Slapd::ROOT, "wrong")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Misconfigured);
    assert!(!format!("{wrong:?}{reader:?}").contains("reader-secret"));
    slapd.kill();
    assert_eq!(probe(&slapd.url(), &reader).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_is_proposed_for_389_ds_works() {
    if skipped("ds389") {
        return;
    }
    let ds = Ds389::start(&Ds389Options::default());
    ds.must("ldapadd", &["-f", Ds389::EXAMPLE], "");
    let found = probe(&ds.url(), &account(Ds389::ROOT, Ds389::PASSWORD)).await.unwrap();
    assert_eq!((found.preset, found.id_attr.as_str()), ("389ds", "nsUniqueId"));
    assert!(found.product.contains("389"), "{found:?}");
    works(&found.config, Ds389::PASSWORD, ("scarter", "sprain"), "Accounting Managers").await;
}

#[tokio::test]
async fn no_password_goes_to_another_machine_in_clear() {
    let error = probe("ldap://ldap.example", &account("cn=x", "hunter2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
