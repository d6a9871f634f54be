//! 389 Directory Server: the suite, and the people of the directory that its package has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use auth_core::{Ctx, GroupOracle as _, Id, PasswordSource as _, Reject, Verdict};
use auth_testkit::servers::{Ds389, Ds389Options, skipped, until};
use auth_testkit::suite::{self, Bench};
use auth_testkit::{Standing, User, World, login, password, realm};
use common::{line, opened};

static DS: LazyLock<Ds389> = LazyLock::new(|| {
    let ds = Ds389::start(&Ds389Options::default());
    ds.must("ldapadd", &["-f", Ds389::EXAMPLE], "");
    ds.add(&world());
    // Some groups come before their members there.
    let task = "cn=all,cn=memberOf task,cn=tasks,cn=config";
    ds.add(&format!(
        "dn: {task}\nobjectClass: extensibleObject\ncn: all\nbasedn: {}\nfilter: (uid=*)\n",
        Ds389::BASE
    ));
    until("memberOf is there", || {
        ds.must("ldapsearch", &["-b", Ds389::BASE, "(uid=hmiller)", "memberOf"], "").contains("memberOf:")
    });
    ds
});

/// The ids that the server has given to the world's people.
static IDS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let said = DS.must(
        "ldapsearch",
        &["-LLL", "-o", "ldif-wrap=no", "-b", WORLD, "(uid=*)", "employeeNumber", "nsUniqueId"],
        "",
    );
    let field = |entry: &str, name: &str| {
        entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    said.split("\n\n")
        .filter_map(|entry| Some((field(entry, "employeeNumber")?, field(entry, "nsUniqueId")?)))
        .collect()
});

const WORLD: &str = "ou=world,dc=example,dc=com";

fn ds() -> Option<&'static Ds389> {
    (!skipped("ds389")).then(|| &*DS)
}

fn world() -> String {
    let mut ldif = format!("dn: {WORLD}\nobjectClass: organizationalUnit\nou: world\n\n");
    let _ = write!(
        ldif,
        "dn: cn=reader,{WORLD}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: reader-secret\n\n"
    );
    for user in World::users() {
        ldif += &line("dn", format!("uid={},{WORLD}", user.login).as_bytes());
        ldif += "objectClass: inetOrgPerson\nobjectClass: shadowAccount\n";
        for name in ["uid", "cn", "sn"] {
            ldif += &line(name, user.login.as_bytes());
        }
        let _ = writeln!(ldif, "employeeNumber: {}", user.id);
        user.password.iter().for_each(|password| ldif += &line("userPassword", password));
        match user.standing {
            Standing::Disabled => ldif += "nsAccountLock: true\n",
            Standing::Expired => ldif += "shadowExpire: 11323\n",
            Standing::EndsLater => ldif += "shadowExpire: 24473\n",
            _ => {}
        }
        ldif.push('\n');
    }
    for group in World::groups() {
        ldif += &line("dn", format!("cn={group},{WORLD}").as_bytes());
        ldif += "objectClass: groupOfUniqueNames\n";
        ldif += &line("cn", group.as_bytes());
        for user in World::users().iter().filter(|user| user.groups.contains(&group)) {
            ldif += &line("uniqueMember", format!("uid={}, {WORLD}", user.login).as_bytes());
        }
        ldif.push('\n');
    }
    ldif
}

fn settings(ds: &Ds389, more: &str) -> String {
    format!(
        "url = '{}'\npreset = '389ds'\nbase = '{WORLD}'\nbind_dn = 'cn=reader,{WORLD}'\n\
         bind_password = 'reader-secret'\ngroup_base = '{WORLD}'\n{more}\n",
        ds.url()
    )
}

fn id(user: &User) -> Id {
    Id::text(IDS.get(&user.id.to_string()).map_or("none", String::as_str))
}

/// It tells whatever the password that somebody is switched off or locked, does not tell that somebody has no password,
/// and who must change theirs is known to its policy alone.
fn bound(user: &User) -> bool {
    matches!(user.standing, Standing::Open | Standing::EndsLater | Standing::Expired)
        && user.password.is_some()
}

#[tokio::test]
async fn search_and_bind() {
    let Some(ds) = ds() else { return };
    let store = opened(&settings(ds, "")).await;
    suite::run_all_password(&store, Bench::new(&realm()).with_ids(id).holding(bound)).await;
}

#[tokio::test]
async fn somebody_who_is_switched_off_is_disabled() {
    let Some(ds) = ds() else { return };
    let store = opened(&settings(ds, "")).await;
    let moe = World::user("moe");
    let verdict = store.verify(&Ctx::new(), &login("moe"), &moe.password()).await.unwrap();
    assert_eq!(verdict, Verdict::Rejected(Reject::Disabled));
}

#[tokio::test]
async fn somebody_who_guesses_too_often_is_locked() {
    if skipped("ds389") {
        return;
    }
    let policy = ["passwordLockout: on", "passwordMaxFailure: 2", "passwordUnlock: off"];
    let ds = Ds389::start(&Ds389Options { config: policy.map(str::to_owned).to_vec() });
    ds.must("ldapadd", &["-f", Ds389::EXAMPLE], "");
    ds.add(&world());
    let store = opened(&settings(&ds, "")).await;
    let ask = async |word: &str| store.verify(&Ctx::new(), &login("susie"), &password(word)).await.unwrap();
    assert_eq!(ask("wrong").await, Verdict::Rejected(Reject::BadPassword));
    ask("wrong").await;
    assert_eq!(ask("wrong").await, Verdict::Rejected(Reject::Locked));
    assert_eq!(ask("derkins").await, Verdict::Rejected(Reject::Locked));
}

#[tokio::test]
async fn groups_by_member_of_and_level_by_level() {
    let Some(ds) = ds() else { return };
    for strategy in ["memberOf", "recursive", "direct"] {
        let store = opened(&settings(ds, &format!("group_strategy = '{strategy}'"))).await;
        suite::run_all_groups(&store, Bench::new(&realm()).with_ids(id)).await;
    }
}

/// The people of the package's directory with their passwords, and the groups with their members.
fn example() -> (BTreeMap<String, String>, BTreeMap<String, BTreeSet<String>>) {
    let text = std::fs::read_to_string(Ds389::EXAMPLE).unwrap().replace("\n ", "");
    let (mut people, mut groups) = (BTreeMap::new(), BTreeMap::new());
    for entry in text.split("\n\n") {
        let values = |name: &str| {
            let line = |line: &str| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            entry.lines().filter_map(line).collect::<Vec<_>>()
        };
        if let ([uid, ..], [password, ..]) = (values("uid").as_slice(), values("userpassword").as_slice()) {
            people.insert(uid.to_lowercase(), password.clone());
        }
        let members = values("uniquemember");
        if let ([cn, ..], false) = (values("cn").as_slice(), members.is_empty()) {
            let uid = |dn: &String| dn.split(',').next().unwrap().trim_start_matches("uid=").to_lowercase();
            groups.insert(cn.clone(), members.iter().map(uid).collect());
        }
    }
    (people, groups)
}

#[tokio::test]
async fn everybody_of_the_packages_directory_logs_in_and_is_in_their_groups() {
    let Some(ds) = ds() else { return };
    let (people, groups) = example();
    assert_eq!((people.len(), groups.len()), (150, 5), "the directory is not the one that this test knows");
    for strategy in ["memberOf", "recursive"] {
        let store = opened(&format!(
            "url = '{}'\npreset = '389ds'\nbase = 'ou=People, dc=example,dc=com'\nbind_dn = 'cn=reader,{WORLD}'\n\
             bind_password = 'reader-secret'\ngroup_base = 'dc=example, dc=com'\ngroup_strategy = '{strategy}'",
            ds.url()
        ))
        .await;
        for (uid, secret) in &people {
            let verdict = store.verify(&Ctx::new(), &login(uid), &password(secret)).await.unwrap();
            let Verdict::Accepted(who) = verdict else { panic!("{uid}: {verdict:?}") };
            let wrong = store.verify(&Ctx::new(), &login(uid), &password("wrong")).await.unwrap();
            assert_eq!(wrong, Verdict::Rejected(Reject::BadPassword), "{uid}");
            let found = store.groups_of(&Ctx::new(), &who).await.unwrap().found().unwrap();
            let expected: BTreeSet<&str> = groups
                .iter()
                .filter(|(_, members)| members.contains(uid))
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected, "{uid} by {strategy}");
        }
    }
}
