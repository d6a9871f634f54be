//! What OpenLDAP really answers: each trap is a test, named after what is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::fmt::Write as _;
use std::sync::LazyLock;

use auth_core::{
    AccountSource as _, Ctx, ErrorKind, GroupOracle as _, Login, LoginRule, Lookup, Password,
    PasswordSource as _, Reject, Result, StoredHash, Verdict,
};
use auth_store_ldap::LdapStore;
use auth_testkit::servers::{Slapd, SlapdOptions, skipped};
use auth_testkit::{login, password, realm_with};
use common::{hashes, open, opened, options, settings, world};

/// One server for all that need nothing special.
static SLAPD: LazyLock<Slapd> = LazyLock::new(|| {
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let hashes = [
        // Of `secret`, each made with the server's own tool.
        ("ssha", made("{SSHA}", "pw-sha2")),
        ("ssha512", made("{SSHA512}", "pw-sha2")),
        ("pbkdf2", made("{PBKDF2-SHA256}", "pw-pbkdf2")),
        ("argon2", made("{ARGON2}", "argon2")),
        ("unparseable", "{FOO}abc".to_owned()),
    ];
    for (uid, hash) in hashes {
        slapd.add(&person(uid, uid, "people", &[&format!("userPassword: {hash}")]));
    }
    slapd.add(&person("nopass", "nopass", "people", &[]));
    slapd.add(&person("two", "two", "people", &["userPassword: secret"]));
    slapd.add(&person("two-again", "two", "people", &["userPassword: secret"]));
    slapd.add(&person(
        "timed",
        "timed",
        "people",
        &["userPassword: secret", "pwdAccountLockedTime: 000001010000Z"],
    ));
    slapd
});

fn slapd() -> Option<&'static Slapd> {
    (!skipped("slapd")).then(|| &*SLAPD)
}

fn made(scheme: &str, module: &str) -> String {
    let mut command = std::process::Command::new("slappasswd");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["-h", scheme, "-s", "secret"]);
    command.args(["-o", "module-path=/usr/lib/ldap", "-o", &format!("module-load={module}")]);
    let output = command.output().expect("slappasswd, of the package slapd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn person(rdn: &str, uid: &str, unit: &str, more: &[&str]) -> String {
    let mut ldif = format!(
        "dn: cn={rdn},ou={unit},{}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {rdn}\nsn: x\n",
        Slapd::BASE
    );
    more.iter().for_each(|line| {
        let _ = writeln!(ldif, "{line}");
    });
    ldif
}

async fn ask(store: &LdapStore, who: &Login, secret: &str) -> Result<Verdict> {
    store.verify(&Ctx::new(), who, &password(secret)).await
}

fn exact(text: &str) -> Login {
    Login::parse(&realm_with("exact", LoginRule::Exact), text).unwrap()
}

#[track_caller]
fn rejected(verdict: &Result<Verdict>, expected: Reject) {
    assert!(
        matches!(verdict, Ok(Verdict::Rejected(reject)) if *reject == expected),
        "{verdict:?}, not {expected}"
    );
}

#[tokio::test]
async fn right_password_in_every_format() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    for uid in ["ssha", "ssha512", "pbkdf2", "argon2"] {
        assert!(matches!(ask(&store, &login(uid), "secret").await, Ok(Verdict::Accepted(_))), "{uid}");
        rejected(&ask(&store, &login(uid), "wrong").await, Reject::BadPassword);
    }
}

#[tokio::test]
async fn wrong_password_unknown_name_entry_without_password_and_unparseable_hash_are_all_49() {
    let Some(slapd) = slapd() else { return };
    // Only a search beforehand can tell the unknown.
    let store = opened(&settings(&slapd.url(), "")).await;
    for (uid, expected) in [
        ("ssha", Reject::BadPassword),
        ("nobody", Reject::UnknownUser),
        ("nopass", Reject::BadPassword),
        ("unparseable", Reject::BadPassword),
    ] {
        rejected(&ask(&store, &login(uid), "other").await, expected);
    }
    // A name made of the login can't, and says so.
    let template = format!("mode = 'bind-template'\nuser_dn = 'cn={{login}},ou=people,{}'", Slapd::BASE);
    let blind = opened(&settings(&slapd.url(), &template)).await;
    assert!(!auth_core::PasswordSource::source(&blind).capabilities().tells_unknown);
    rejected(&ask(&blind, &login("nobody"), "other").await, Reject::BadPassword);
}

#[tokio::test]
async fn other_spellings_of_a_name_are_the_same_user_to_a_bind() {
    let Some(slapd) = slapd() else { return };
    let template = format!("mode = 'bind-template'\nuser_dn = 'uid={{login}},ou=people,{}'", Slapd::BASE);
    let store = opened(&settings(&slapd.url(), &template)).await;
    for spelling in ["CALVIN", "Calvin", "calvin ", " calvin"] {
        rejected(&ask(&store, &exact(spelling), "hobbes").await, Reject::UnknownUser);
    }
    assert!(matches!(ask(&store, &exact("calvin"), "hobbes").await, Ok(Verdict::Accepted(_))));
    // As the realm takes both for one login, both are the one person.
    let Ok(Verdict::Accepted(one)) = ask(&store, &login("CALVIN"), "hobbes").await else { panic!("one") };
    let Ok(Verdict::Accepted(other)) = ask(&store, &login("calvin"), "hobbes").await else { panic!("other") };
    assert_eq!(one, other);
}

#[tokio::test]
async fn all_five_spellings_find_the_entry_and_none_is_the_login() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    let folded = ["SSHA", "ssha ", " ssha", "\u{17f}sha", "ss\u{ff48}a"];
    for spelling in folded {
        // The server does take them for one.
        let filter = format!("(uid={spelling})");
        assert!(
            slapd.must("ldapsearch", &["-LLL", "-b", Slapd::BASE, &filter, "dn"], "").contains("cn=ssha,"),
            "{spelling:?}"
        );
        let who = exact(spelling);
        rejected(&ask(&store, &who, "secret").await, Reject::UnknownUser);
        let account = auth_core::PasswordSource::account(&store, &Ctx::new(), &who).await.unwrap();
        assert_eq!(account, Lookup::NotFound, "{spelling:?}");
    }
    for other in ["ssh\u{e1}", "ssha\u{200b}", "ss\u{ad}ha"] {
        rejected(&ask(&store, &exact(other), "secret").await, Reject::UnknownUser);
    }
}

#[tokio::test]
async fn locked_by_ppolicy_is_told_by_the_control_only() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    rejected(&ask(&store, &login("timed"), "secret").await, Reject::Locked);
    // The server tells it whatever the password.
    rejected(&ask(&store, &login("timed"), "wrong").await, Reject::Locked);
}

#[tokio::test]
async fn not_a_name_is_a_wrong_template() {
    let Some(slapd) = slapd() else { return };
    let more = format!("mode = 'bind-template'\nuser_dn = 'sn;x={{login}},ou=people,{}'", Slapd::BASE);
    let error = open(&settings(&slapd.url(), &more)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    let more = format!("mode = 'bind-template'\nuser_dn = 'uidd={{login}},ou=people,{}'", Slapd::BASE);
    let error = open(&settings(&slapd.url(), &more)).await.unwrap_err();
    assert!(error.message().contains("`uidd`"), "{error}");
    // Found out by a bind where nothing was compared: the server's own code.
    let alone = format!(
        "url = '{}'\nbase = 'ou=people,{}'\nmode = 'bind-template'\ncheck = 'later'\nuser_dn = 'uidd={{login}},dc=x'",
        slapd.url(),
        Slapd::BASE
    );
    let error = ask(&opened(&alone).await, &login("calvin"), "hobbes").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn empty_password_never_reaches_the_wire() {
    if skipped("slapd") {
        return;
    }
    // A server that takes it for an anonymous login, and says yes.
    let mut lenient = options();
    lenient.global.push("allow bind_anon_cred bind_anon_dn".to_owned());
    let slapd = Slapd::start(&lenient);
    slapd.add(&world());
    let said = std::process::Command::new("ldapwhoami")
        .args([
            "-x",
            "-H",
            &slapd.ldapi_url(),
            "-D",
            &format!("uid=calvin,ou=people,{}", Slapd::BASE),
            "-w",
            "",
        ])
        .output()
        .unwrap();
    assert!(said.status.success(), "the server is not the lenient one that this test needs");
    assert!(Password::new(Vec::new()).is_err());
    let empty = settings(&slapd.url(), "").replace("reader-secret", "");
    let error = open(&empty).await.unwrap_err();
    assert!(error.message().contains("empty"), "{error}");
    // An entry without a name of its own is never bound to either.
    let store = opened(&settings(&slapd.url(), "")).await;
    rejected(&ask(&store, &login("calvin"), "wrong").await, Reject::BadPassword);
    let binds = slapd.log().lines().filter(|line| line.contains("BIND dn=\"\"")).count();
    assert_eq!(binds, 0, "somebody logged in as nobody: {}", slapd.log());
}

#[tokio::test]
async fn a_star_in_a_login_is_a_star() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    assert!(
        slapd.must("ldapsearch", &["-LLL", "-b", Slapd::BASE, "(uid=ssh*)", "dn"], "").contains("cn=ssha,")
    );
    for text in ["ssh*", "*", "ssha)(uid=*", "ssha)(|(uid=*", "s\\73ha", "ssha)", "(ssha"] {
        rejected(&ask(&store, &exact(text), "secret").await, Reject::UnknownUser);
    }
}

#[tokio::test]
async fn in_chain_on_a_server_that_is_not_active_directory_is_refused() {
    let Some(slapd) = slapd() else { return };
    // It would answer with nobody, and no error.
    for strategy in ["in-chain", "tokenGroups"] {
        let more = format!("group_base = 'ou=groups,{}'\ngroup_strategy = '{strategy}'", Slapd::BASE);
        let error = open(&settings(&slapd.url(), &more)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        let error = open(&settings(&slapd.url(), &format!("preset = 'ad'\n{more}"))).await.unwrap_err();
        assert!(error.message().contains("not Active Directory"), "{error}");
    }
}

#[tokio::test]
async fn a_filter_on_an_attribute_that_does_not_exist_is_refused() {
    let Some(slapd) = slapd() else { return };
    for (more, near) in [
        ("user_filter = '(uidd={login})'", "did you mean `uid`?"),
        ("login_attr = 'uuid'", "did you mean `uid`?"),
        ("id_attr = 'entryUID'", "did you mean `entryUUID`?"),
        ("user_filter = '(&(uid={login})(memberOff=x))'", "did you mean `memberOf`?"),
        ("group_base = 'dc=example,dc=com'\ngroup_filter = '(membr={dn})'", "did you mean `member`?"),
        ("group_base = 'dc=example,dc=com'\ngroup_name_attr = 'cm'", "did you mean"),
    ] {
        let error = open(&settings(&slapd.url(), more)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{more}: {error}");
        assert!(error.message().contains(near), "{more}: {error}");
    }
}

#[tokio::test]
async fn a_missing_base_is_misconfigured() {
    let Some(slapd) = slapd() else { return };
    let missing = settings(&slapd.url(), "").replace("ou=people", "ou=peeple");
    let error = open(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("dc=example,dc=com"), "{error}");
    let groups = format!("group_base = 'ou=teams,{}'", Slapd::BASE);
    let error = open(&settings(&slapd.url(), &groups)).await.unwrap_err();
    assert!(error.message().contains("`group_base`"), "{error}");
    // Looked at later, it is no "unknown" either.
    let later = opened(&(missing + "check = 'later'\n")).await;
    let error = ask(&later, &login("calvin"), "hobbes").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn member_of_without_its_overlay_is_misconfigured() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&SlapdOptions::default());
    let base = Slapd::BASE;
    slapd.add(&format!("dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: E\n"));
    let text = format!(
        "url = '{}'\nbase = '{base}'\ngroup_base = '{base}'\ngroup_strategy = 'memberOf'",
        slapd.url()
    );
    let error = open(&text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("`memberOf`"), "{error}");
}

#[tokio::test]
async fn two_entries_for_one_login_are_ambiguous() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    let error = ask(&store, &login("two"), "secret").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
}

#[tokio::test]
async fn several_stored_passwords_are_ambiguous() {
    if skipped("slapd") {
        return;
    }
    // With a policy, this server allows one only.
    let mut free = options();
    free.database.retain(|line| !line.contains("ppolicy"));
    let slapd = Slapd::start(&free);
    slapd.add(&world());
    slapd.add(&person("several", "several", "hashes", &["userPassword: {SSHA}a", "userPassword: {SSHA}b"]));
    let store = opened(&hashes(&slapd.url(), "")).await;
    let error = auth_core::AccountSource::account(&store, &Ctx::new(), &login("several")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    assert!(!format!("{error:?}").contains("SSHA"), "{error:?}");
    let hash = StoredHash::new("{SSHA}a".into(), None);
    let Lookup::Found(account) =
        auth_core::AccountSource::account(&store, &Ctx::new(), &login("calvin")).await.unwrap()
    else {
        panic!("calvin is there")
    };
    let error = store.replace_hash(&Ctx::new(), account.principal(), &hash, &hash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn the_servers_own_limit_is_no_unknown_user() {
    if skipped("slapd") {
        return;
    }
    let mut strict = options();
    strict.database.push("limits dn.exact=\"cn=reader,ou=services,dc=example,dc=com\" size=1".to_owned());
    let slapd = Slapd::start(&strict);
    slapd.add(&world());
    for n in 0..3 {
        slapd.add(&person(&format!("same{n}"), "same", "people", &["userPassword: secret"]));
    }
    let store = opened(&settings(&slapd.url(), "")).await;
    // One entry and the code 4: the first of several is not the one.
    let error = ask(&store, &login("same"), "secret").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Ambiguous), "{error}");
    assert!(matches!(ask(&store, &login("calvin"), "hobbes").await, Ok(Verdict::Accepted(_))));
}

#[tokio::test]
async fn a_referral_is_never_followed_and_never_a_yes_or_a_no() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    slapd.add(&format!(
        "dn: ou=elsewhere,ou=people,{0}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n\
         ref: ldap://127.0.0.1:{port}/ou=people,{0}\n",
        Slapd::BASE
    ));
    let store = opened(&settings(&slapd.url(), "")).await;
    // Who is not found here may be there.
    let error = ask(&store, &login("nobody"), "secret").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    let lax = opened(&settings(&slapd.url(), "referrals = 'ignore'")).await;
    rejected(&ask(&lax, &login("nobody"), "secret").await, Reject::UnknownUser);
    assert!(matches!(ask(&lax, &login("calvin"), "hobbes").await, Ok(Verdict::Accepted(_))));
    // The code 10, to a search and to a bind.
    let base = settings(&slapd.url(), "check = 'later'")
        .replace("base = 'ou=people", "base = 'ou=elsewhere,ou=people");
    let error = ask(&opened(&base).await, &login("calvin"), "hobbes").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    let template =
        format!("mode = 'bind-template'\nuser_dn = 'uid={{login}},ou=elsewhere,ou=people,{}'", Slapd::BASE);
    let error = ask(&opened(&settings(&slapd.url(), &template)).await, &login("calvin"), "hobbes").await;
    // This server hides that it would refer, behind 49.
    assert!(!matches!(error, Ok(Verdict::Accepted(_))), "{error:?}");
    assert!(elsewhere.accept().is_err(), "somebody followed the referral");
}

#[tokio::test]
async fn groups_in_a_circle_end_and_those_too_deep_are_an_error() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let base = Slapd::BASE;
    slapd.add(&format!("dn: ou=deep,{base}\nobjectClass: organizationalUnit\nou: deep\n"));
    let group = |n: usize, member: &str| {
        format!("dn: cn=g{n},ou=deep,{base}\nobjectClass: groupOfNames\ncn: g{n}\nmember: {member}\n")
    };
    slapd.add(&group(0, &format!("uid=calvin,ou=people,{base}")));
    for n in 1..8 {
        slapd.add(&group(n, &format!("cn=g{},ou=deep,{base}", n - 1)));
    }
    // The last is in the first.
    slapd.modify(&format!(
        "dn: cn=g0,ou=deep,{base}\nchangetype: modify\nadd: member\nmember: cn=g7, OU=Deep, {base}\n"
    ));
    let of = async |depth: u32, page: u32| {
        let more =
            format!("group_base = 'ou=deep,{base}'\ngroup_depth = {depth}\npool = {{ page = {page} }}");
        let store = opened(&settings(&slapd.url(), &more)).await;
        let Ok(Verdict::Accepted(who)) = ask(&store, &login("calvin"), "hobbes").await else {
            panic!("calvin")
        };
        store.groups_of(&Ctx::new(), &who).await.map(|groups| groups.found().unwrap())
    };
    for page in [1, 500] {
        let groups = of(8, page).await.unwrap();
        assert_eq!(groups.iter().collect::<Vec<_>>(), ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"]);
    }
    assert_eq!(of(3, 500).await.unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_person_who_was_renamed_keeps_their_groups_and_their_login_brings_none() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let base = Slapd::BASE;
    let more = format!("group_base = 'ou=groups,{base}'\ngroup_strategy = 'memberOf'");
    let store = opened(&settings(&slapd.url(), &more)).await;
    let Ok(Verdict::Accepted(calvin)) = ask(&store, &login("calvin"), "hobbes").await else {
        panic!("calvin")
    };
    slapd.modify(&format!(
        "dn: uid=calvin,ou=people,{base}\nchangetype: modrdn\nnewrdn: uid=spiff\ndeleteoldrdn: 1\n"
    ));
    slapd.add(&person("calvin", "calvin", "people", &["userPassword: hobbes"]));
    let groups = store.groups_of(&Ctx::new(), &calvin).await.unwrap().found().unwrap();
    assert!(groups.contains("admin"), "{groups:?}");
    let Ok(Verdict::Accepted(namesake)) = ask(&store, &login("calvin"), "hobbes").await else {
        panic!("namesake")
    };
    assert_ne!(namesake, calvin);
    assert_eq!(store.groups_of(&Ctx::new(), &namesake).await.unwrap().found().unwrap().len(), 0);
}

#[tokio::test]
async fn groups_that_list_logins_are_those_of_the_login_that_the_entry_has_now() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let base = Slapd::BASE;
    slapd.add(&format!("dn: ou=posix,{base}\nobjectClass: organizationalUnit\nou: posix\n"));
    for (number, (name, member)) in
        (0..).zip([("admin", "calvin"), ("space", "spiff"), ("more", "stupendous")])
    {
        slapd.add(&format!(
            "dn: cn={name},ou=posix,{base}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {number}\nmemberUid: {member}\n"
        ));
    }
    for strategy in ["direct", "recursive"] {
        let more = format!(
            "group_base = 'ou=posix,{base}'\ngroup_strategy = '{strategy}'\ngroup_filter = '(memberUid={{login}})'"
        );
        let store = opened(&settings(&slapd.url(), &more)).await;
        let groups = async |who: &_| {
            let groups = store.groups_of(&Ctx::new(), who).await?;
            Ok(groups.found().map(|groups| groups.iter().map(str::to_owned).collect::<Vec<_>>()))
        };
        let known = async |result: Result<Option<Vec<String>>>, expected: Option<&[&str]>| {
            let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(result.unwrap(), expected, "{strategy}");
        };
        let Ok(Verdict::Accepted(calvin)) = ask(&store, &login("calvin"), "hobbes").await else {
            panic!("calvin")
        };
        known(groups(&calvin).await, Some(&["admin"])).await;
        let change = |lines: &str| slapd.modify(lines);
        change(&format!(
            "dn: uid=calvin,ou=people,{base}\nchangetype: modrdn\nnewrdn: uid=spiff\ndeleteoldrdn: 1\n"
        ));
        slapd.add(&person("namesake", "calvin", "people", &["userPassword: hobbes"]));
        let Ok(Verdict::Accepted(namesake)) = ask(&store, &login("calvin"), "hobbes").await else {
            panic!("namesake")
        };
        known(groups(&calvin).await, Some(&["space"])).await;
        known(groups(&namesake).await, Some(&["admin"])).await;
        // Of several logins, which one is listed is not to be known; that of the principal is, as long as it is there.
        let Ok(Verdict::Accepted(spiff)) = ask(&store, &login("spiff"), "hobbes").await else {
            panic!("spiff")
        };
        let spiffs = format!("dn: uid=spiff,ou=people,{base}\nchangetype: modify\n");
        change(&format!("{spiffs}add: uid\nuid: stupendous\n"));
        known(groups(&spiff).await, Some(&["space"])).await;
        let error = groups(&calvin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        // Groups that list entries do not need to know it.
        let by_entry = format!("group_base = 'ou=groups,{base}'\ngroup_strategy = '{strategy}'");
        let by_entry = opened(&settings(&slapd.url(), &by_entry)).await;
        let groups_by_entry = by_entry.groups_of(&Ctx::new(), &calvin).await.unwrap().found().unwrap();
        assert!(groups_by_entry.contains("admin"), "{groups_by_entry:?}");
        // The namesake is gone, and somebody else has the login.
        change(&format!("dn: cn=namesake,ou=people,{base}\nchangetype: delete\n"));
        change(&format!("{spiffs}replace: uid\nuid: spiff\n"));
        change(&format!(
            "dn: uid=spiff,ou=people,{base}\nchangetype: modrdn\nnewrdn: uid=calvin\ndeleteoldrdn: 1\n"
        ));
        known(groups(&namesake).await, None).await;
        known(groups(&calvin).await, Some(&["admin"])).await;
    }
}

#[tokio::test]
async fn ppolicy_locks_after_failures_and_tells_of_expiry_and_grace() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    let base = Slapd::BASE;
    let policy = |lines: &str| {
        slapd.modify(&format!("dn: cn=default,ou=policies,{base}\nchangetype: modify\n{lines}"));
    };
    policy("replace: pwdLockout\npwdLockout: TRUE\n-\nadd: pwdMaxFailure\npwdMaxFailure: 3\n");
    let store = opened(&settings(&slapd.url(), "")).await;
    for _ in 0..3 {
        rejected(&ask(&store, &login("susie"), "wrong").await, Reject::BadPassword);
    }
    rejected(&ask(&store, &login("susie"), "derkins").await, Reject::Locked);
    assert!(matches!(ask(&store, &login("calvin"), "hobbes").await, Ok(Verdict::Accepted(_))));
    // Of long ago, and one login is left.
    policy("add: pwdMaxAge\npwdMaxAge: 60\n-\nadd: pwdGraceAuthNLimit\npwdGraceAuthNLimit: 1\n");
    slapd.modify(&format!(
        "dn: uid=tommy,ou=people,{base}\nchangetype: modify\nreplace: pwdChangedTime\npwdChangedTime: 20200101000000Z\n"
    ));
    assert!(matches!(ask(&store, &login("tommy"), "x").await, Ok(Verdict::Accepted(_))));
    rejected(&ask(&store, &login("tommy"), "x").await, Reject::PasswordExpired);
    rejected(&ask(&store, &login("andy"), "tuna").await, Reject::MustChange);
}

#[tokio::test]
async fn a_password_that_is_no_text_is_wrong_and_nothing_is_sent() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    let odd = Password::new(b"\xff\xfe".to_vec()).unwrap();
    rejected(&store.verify(&Ctx::new(), &login("calvin"), &odd).await, Reject::BadPassword);
    rejected(&store.verify(&Ctx::new(), &login("nobody"), &odd).await, Reject::UnknownUser);
}
