//! Active Directory as far as it can be had without one: its schema, its words and its result codes, said by slapd.
//! What only the real one does, following groups in one search, is not here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use auth_core::{Ctx, ErrorKind, GroupOracle as _, Id, Lookup, PasswordSource as _, Reject, Result, Verdict};
use auth_store_ldap::{LdapStore, ProbeAccount, ProbeOptions, probe};
use auth_testkit::servers::{Slapd, SlapdOptions, skipped};
use auth_testkit::{login, password};
use common::{line, opened};

const BASE: &str = Slapd::BASE;

/// Where those are whom the server refuses whatever the password.
const REFUSERS: &str = "ou=refused,dc=example,dc=com";

/// Its names for things, with rules to compare them by, which slapd's own copy of that schema has not.
fn schema() -> Vec<String> {
    let (text, bytes) = (
        "EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15",
        "EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40",
    );
    let attributes = [
        ("supportedCapabilities", text),
        ("defaultNamingContext", text),
        ("sAMAccountName", text),
        ("objectCategory", text),
        ("userAccountControl", text),
        ("accountExpires", text),
        ("objectGUID", bytes),
        ("objectSid", bytes),
        ("tokenGroups", bytes),
    ];
    let numbered = |n: usize| format!("1.3.6.1.4.1.4203.666.99.{n}");
    let attribute = |(n, (name, rule))| format!("attributetype ( {} NAME '{name}' {rule} )", numbered(n));
    let class = |(n, name)| {
        format!("objectclass ( {} NAME '{name}' SUP top STRUCTURAL MUST cn MAY userPassword )", numbered(n))
    };
    let attributes = (0..).zip(attributes).map(attribute);
    attributes.chain((100..).zip(["user", "group"]).map(class)).collect()
}

static SLAPD: LazyLock<(tempfile::TempDir, Slapd)> = LazyLock::new(|| {
    // What Active Directory says of itself.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let root = folder.path().join("root.ldif");
    std::fs::write(
        &root,
        format!("dn:\nsupportedCapabilities: 1.2.840.113556.1.4.800\ndefaultNamingContext: {BASE}\n"),
    )
    .unwrap();
    let mut database = vec!["overlay retcode".to_owned(), format!("retcode-parent \"{REFUSERS}\"")];
    for (name, code, words) in REFUSED {
        let text = match words {
            "" => String::new(),
            words => format!(
                " \"text=80090308: LdapErr: DSID-0C09042F, comment: AcceptSecurityContext error, data {words}, v3839\""
            ),
        };
        database.push(format!("retcode-item \"cn={name}\" {code} op=bind{text}"));
    }
    let mut options = SlapdOptions {
        modules: vec!["retcode".to_owned()],
        global: schema().into_iter().chain([format!("rootDSE {}", root.display())]).collect(),
        ..SlapdOptions::default()
    };
    let slapd = Slapd::start(&options);
    slapd.add(&people());
    // What it answers to logins of some. With that, nobody can be added among them.
    options.database = database;
    slapd.restart_as(&options);
    (folder, slapd)
});

fn slapd() -> Option<&'static Slapd> {
    (!skipped("slapd")).then(|| &SLAPD.1)
}

/// Everybody whom the server refuses: login, code and words.
const REFUSED: [(&str, u32, &str); 19] = [
    ("ad525", 49, "525"),
    ("ad52e", 49, "52e"),
    ("ad530", 49, "530"),
    ("ad531", 49, "531"),
    ("ad532", 49, "532"),
    ("ad533", 49, "533"),
    ("ad701", 49, "701"),
    ("ad773", 49, "773"),
    ("ad775", 49, "775"),
    ("code48", 48, ""),
    ("code50", 50, ""),
    ("code53", 53, ""),
    ("code19", 19, ""),
    ("code34", 34, ""),
    ("code51", 51, ""),
    ("code52", 52, ""),
    ("code80", 80, ""),
    ("code2", 2, ""),
    ("gone", 32, ""),
];

fn sid(last: u8) -> [u8; 12] {
    [1, 1, 0, 0, 0, 0, 0, 5, last, b'*', b'(', b')']
}

fn people() -> String {
    let mut ldif =
        format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: E\n\n");
    let _ = write!(ldif, "dn: {REFUSERS}\nobjectClass: organizationalUnit\nou: refused\n\n");
    let mut person = |name: &str, parent: &str, n: u8, more: &str| {
        let _ = write!(
            ldif,
            "dn: cn={name},{parent}\nobjectClass: user\nobjectClass: extensibleObject\ncn: {name}\n\
             sAMAccountName: {name}\nobjectCategory: person\n{}{more}\n",
            line("objectGUID", &[n; 16]),
        );
    };
    let groups = line("tokenGroups", &sid(1)) + &line("tokenGroups", &sid(2));
    let open = "userPassword: hobbes\nuserAccountControl: 512\naccountExpires: 9223372036854775807\n";
    person("Calvin", BASE, 1, &format!("{open}{groups}"));
    person("off", BASE, 2, "userPassword: hobbes\nuserAccountControl: 514\n");
    person(
        "ended",
        BASE,
        3,
        "userPassword: hobbes\nuserAccountControl: 512\naccountExpires: 116444736010000000\n",
    );
    for (n, (name, ..)) in (10..).zip(REFUSED) {
        person(
            name,
            REFUSERS,
            n,
            "userPassword: hobbes
",
        );
    }
    for (name, last) in [("Staff", 1), ("All", 2), ("Others", 3)] {
        let _ = write!(
            ldif,
            "dn: cn={name},{BASE}\nobjectClass: group\nobjectClass: extensibleObject\ncn: {name}\n{}\n",
            line("objectSid", &sid(last)),
        );
    }
    ldif
}

async fn store(slapd: &Slapd) -> LdapStore {
    opened(&format!(
        "url = '{}'\npreset = 'ad'\nbase = '{BASE}'\ngroup_base = '{BASE}'\nbind_dn = '{}'\nbind_password = '{}'\n",
        slapd.url(),
        Slapd::ROOT,
        Slapd::PASSWORD
    ))
    .await
}

async fn ask(store: &LdapStore, who: &str, secret: &str) -> Result<Verdict> {
    store.verify(&Ctx::new(), &login(who), &password(secret)).await
}

#[tokio::test]
async fn people_log_in_with_their_guid_and_the_groups_of_their_token() {
    let Some(slapd) = slapd() else { return };
    let store = store(slapd).await;
    let Ok(Verdict::Accepted(calvin)) = ask(&store, "calvin", "hobbes").await else { panic!("calvin") };
    assert_eq!(
        (calvin.shown(), calvin.id()),
        ("Calvin", &Id::uuid(0x0101_0101_0101_0101_0101_0101_0101_0101))
    );
    let groups = store.groups_of(&Ctx::new(), &calvin).await.unwrap().found().unwrap();
    assert_eq!(groups.iter().collect::<Vec<_>>(), ["All", "Staff"]);
    assert_eq!(ask(&store, "calvin", "wrong").await.unwrap(), Verdict::Rejected(Reject::BadPassword));
    assert_eq!(ask(&store, "nobody", "wrong").await.unwrap(), Verdict::Rejected(Reject::UnknownUser));
    let Lookup::Found(off) = store.account(&Ctx::new(), &login("off")).await.unwrap() else { panic!("off") };
    assert!(off.state().disabled);
}

#[tokio::test]
async fn the_state_of_an_account_is_told_after_the_right_password_only() {
    let Some(slapd) = slapd() else { return };
    let store = store(slapd).await;
    for (who, expected) in [("off", Reject::Disabled), ("ended", Reject::AccountExpired)] {
        assert_eq!(ask(&store, who, "hobbes").await.unwrap(), Verdict::Rejected(expected));
        assert_eq!(ask(&store, who, "wrong").await.unwrap(), Verdict::Rejected(Reject::BadPassword));
    }
}

#[tokio::test]
async fn every_sub_code_is_its_reason() {
    let Some(slapd) = slapd() else { return };
    let store = store(slapd).await;
    for (who, expected) in [
        ("ad525", Reject::UnknownUser),
        ("ad52e", Reject::BadPassword),
        ("ad530", Reject::NotNow),
        ("ad531", Reject::NotNow),
        ("ad532", Reject::PasswordExpired),
        ("ad533", Reject::Disabled),
        ("ad701", Reject::AccountExpired),
        ("ad773", Reject::MustChange),
        ("ad775", Reject::Locked),
    ] {
        assert_eq!(ask(&store, who, "hobbes").await.unwrap(), Verdict::Rejected(expected), "{who}");
    }
}

#[tokio::test]
async fn every_code_of_a_bind_is_its_kind() {
    let Some(slapd) = slapd() else { return };
    let store = store(slapd).await;
    for (who, expected) in [
        ("code48", ErrorKind::Misconfigured),
        ("code50", ErrorKind::Misconfigured),
        ("code53", ErrorKind::Misconfigured),
        ("code34", ErrorKind::Misconfigured),
        ("code51", ErrorKind::Unavailable),
        ("code52", ErrorKind::Unavailable),
        ("code80", ErrorKind::Unavailable),
        ("code2", ErrorKind::Internal),
    ] {
        let error = ask(&store, who, "hobbes").await.expect_err(who);
        assert_eq!(error.kind(), expected, "{who}: {error:?}");
    }
    assert_eq!(ask(&store, "code19", "hobbes").await.unwrap(), Verdict::Rejected(Reject::Locked));
    // Found and then not there: searched for once more, then unknown.
    let before = slapd.log().len();
    assert_eq!(ask(&store, "gone", "hobbes").await.unwrap(), Verdict::Rejected(Reject::UnknownUser));
    let log = slapd.log().split_off(before);
    assert_eq!(log.matches("(sAMAccountName=gone)").count(), 2, "{log}");
}

#[tokio::test]
async fn it_is_known_by_what_it_says_of_itself() {
    let Some(slapd) = slapd() else { return };
    let mut options = ProbeOptions::default();
    options.account = Some(ProbeAccount { dn: Slapd::ROOT.to_owned(), password: Slapd::PASSWORD.to_owned() });
    let found = probe(&slapd.url(), &options).await.unwrap();
    assert_eq!(
        (found.preset, found.id_attr.as_str(), found.group_strategy),
        ("ad", "objectGUID", Some("tokenGroups"))
    );
    // Another preset is refused.
    let text = format!("url = '{}'\nbase = '{BASE}'", slapd.url());
    let error = common::open(&text).await.unwrap_err();
    assert!(error.message().contains("is Active Directory"), "{error}");
}
