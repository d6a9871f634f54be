//! A directory behind the server: from what `gatepost ldap probe` proposes to logins over HTTP, and through an outage.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use auth_testkit::servers::{Slapd, SlapdOptions};
use integration_tests::{Gatepost, skipped, until};
use serde_json::json;

const PEOPLE: &str = "\
dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: uid=calvin,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: calvin
cn: Calvin
sn: Calvin
userPassword: transmogrifier

dn: cn=staff,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: staff
member: uid=calvin,ou=people,dc=example,dc=com
";

const RIGHT: &str = "transmogrifier";

#[test]
fn what_is_proposed_for_a_directory_lets_its_people_in() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&SlapdOptions::default());
    slapd.add(PEOPLE);
    let gatepost = Gatepost::new();
    let args = ["ldap", "probe", &slapd.url(), "--bind-dn", Slapd::ROOT];
    let row = gatepost.json(&args, Slapd::PASSWORD.as_bytes(), 0);
    assert_eq!(row["preset"], "openldap", "{row}");
    assert_eq!(row["base"], "ou=people,dc=example,dc=com", "{row}");
    assert!(!row["reasons"].as_array().unwrap().is_empty(), "{row}");
    let said = gatepost.run_with(&args, Slapd::PASSWORD.as_bytes()).expect(0).stdout;
    assert!(said.starts_with("# OpenLDAP\n") && !said.contains(Slapd::PASSWORD), "{said}");
    // The password in a file, as the proposal has it.
    let secret = gatepost.write("secret", Slapd::PASSWORD);
    let source = said.replace("/run/credentials/gatepost/ldap", &secret.display().to_string());

    let config = format!(
        "{source}\n[realm.default]\npassword = [\"staff\"]\ngroups = [\"staff\"]\n[cache]\nkind = \"none\"\n"
    );
    let gatepost = Gatepost::with_config(&config);
    gatepost.must(&["config", "check", "--probe"], b"");
    let checked = gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 0);
    assert_eq!(checked["decision"], json!("accepted"), "{checked}");
    gatepost.must(&["check", "group", "calvin", "staff"], b"");
    let other = gatepost.json(&["check", "group", "calvin", "others"], b"", 1);
    assert_eq!(other["decision"], json!("not_member"), "{other}");

    let server = gatepost.serve();
    let login = |password: &str| server.login("/auth/nginx?group=staff", "calvin", password).status;
    assert_eq!((login(RIGHT), login("wrong")), (200, 401));
    slapd.kill();
    // What nginx understands; it is "could not find out".
    assert_eq!(login(RIGHT), 500, "{}", server.logged());
    assert_eq!(server.get("/readyz").status, 503);
    slapd.restart();
    until(|| login(RIGHT) == 200, "people log in again, without a restart");
    assert!(
        !server.logged().contains(RIGHT) && !server.logged().contains(Slapd::PASSWORD),
        "{}",
        server.logged()
    );
}

#[test]
fn what_can_not_be_looked_at_is_said() {
    let gatepost = Gatepost::new();
    for url in ["http://x", "ldap://ldap.example"] {
        let done = gatepost.run(&["ldap", "probe", url]).expect(2);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{url}");
    }
    let row = gatepost.json(&["ldap", "probe", "ldap://127.0.0.1:1"], b"", 3);
    assert_eq!(row["error"], "unavailable", "{row}");
}
