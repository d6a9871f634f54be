//! A directory with the world in it, and short words for the tests.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use auth_core::{Clock, Id, Moment, Result};
use auth_store_ldap::{LdapConfig, LdapStore};
use auth_testkit::servers::{Slapd, SlapdOptions};
use auth_testkit::{Standing, User, World, info};
use base64::Engine as _;

/// The clock of the tests: that of tokio, and the date of the world.
#[derive(Debug)]
pub(crate) struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::ZERO
    }
    fn wall(&self) -> SystemTime {
        // In 2026: after what has ended in the world, and before what ends later.
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_780_000_000)
    }
    fn sleep_until(&self, _when: Moment) -> auth_core::BoxFuture<()> {
        Box::pin(std::future::pending())
    }
}

/// Opens a store with these settings.
pub(crate) async fn open(settings: &str) -> Result<LdapStore> {
    let config: LdapConfig = toml::from_str(settings).unwrap_or_else(|error| panic!("{settings}: {error}"));
    LdapStore::connect(info("ldap"), config, Arc::new(TestClock)).await
}

/// Opens a store that must fit.
pub(crate) async fn opened(settings: &str) -> LdapStore {
    open(settings).await.unwrap_or_else(|error| panic!("{settings}: {error:?}"))
}

/// Settings of a server: people under `ou=people`, read by the account `reader`.
pub(crate) fn settings(url: &str, more: &str) -> String {
    format!(
        "url = '{url}'\nbase = 'ou=people,{0}'\nbind_dn = 'cn=reader,ou=services,{0}'\nbind_password = 'reader-secret'\n{more}\n",
        Slapd::BASE
    )
}

/// Settings of the branch whose passwords are the world's hashes, which the account `hashes` may read.
pub(crate) fn hashes(url: &str, more: &str) -> String {
    format!(
        "url = '{url}'\nmode = 'fetch-hash'\nbase = 'ou=hashes,{0}'\nbind_dn = 'cn=hashes,ou=services,{0}'\n\
         bind_password = 'hashes-secret'\n{more}\n",
        Slapd::BASE
    )
}

/// A line of LDIF, whatever the value.
pub(crate) fn line(name: &str, value: &[u8]) -> String {
    format!("{name}:: {}\n", base64::engine::general_purpose::STANDARD.encode(value))
}

/// The id that somebody's entry has: a UUID.
pub(crate) fn id(user: &User) -> Id {
    Id::uuid(0xdead_beef_0000_4000_8000_0000_0000_0000 + u128::from(user.id.unsigned_abs()))
}

/// The id that somebody's entry with a hash has.
pub(crate) fn hashed_id(user: &User) -> Id {
    Id::uuid(0xcafe_beef_0000_4000_8000_0000_0000_0000 + u128::from(user.id.unsigned_abs()))
}

/// What slapd is to have for the world: a policy that demands new passwords, and groups in people's entries.
pub(crate) fn options() -> SlapdOptions {
    SlapdOptions {
        modules: ["memberof", "ppolicy", "pw-sha2", "pw-pbkdf2", "argon2"].map(str::to_owned).to_vec(),
        database: [
            "overlay memberof",
            "memberof-group-oc groupOfNames",
            "memberof-refint TRUE",
            "overlay ppolicy",
            &format!("ppolicy_default cn=default,ou=policies,{}", Slapd::BASE),
            "ppolicy_use_lockout",
            &format!("access to attrs=userPassword by dn.exact=\"cn=hashes,ou=services,{}\" read by anonymous auth by * none", Slapd::BASE),
            &format!("access to * by dn.exact=\"cn=reader,ou=services,{0}\" read by dn.exact=\"cn=hashes,ou=services,{0}\" read by self read by * none", Slapd::BASE),
        ]
        .map(str::to_owned)
        .to_vec(),
        ..SlapdOptions::default()
    }
}

/// The world's people in two branches: `ou=people`, whose passwords slapd itself checks, and `ou=hashes`, with the
/// world's own hashes; its groups, some of them by groups within groups.
pub(crate) fn world() -> String {
    let base = Slapd::BASE;
    let mut ldif =
        format!("dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n");
    for unit in ["people", "hashes", "groups", "nested", "services", "policies"] {
        let _ = write!(ldif, "dn: ou={unit},{base}\nobjectClass: organizationalUnit\nou: {unit}\n\n");
    }
    let _ = write!(
        ldif,
        "dn: cn=default,ou=policies,{base}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: default\n\
         pwdAttribute: userPassword\npwdMustChange: TRUE\npwdLockout: TRUE\n\n"
    );
    for account in ["reader", "hashes"] {
        let _ = write!(
            ldif,
            "dn: cn={account},ou=services,{base}\nobjectClass: organizationalRole\n\
             objectClass: simpleSecurityObject\ncn: {account}\nuserPassword: {account}-secret\n\n"
        );
    }
    for user in World::users() {
        person(&mut ldif, user, "people", user.password);
        person(&mut ldif, user, "hashes", user.hash.map(str::as_bytes));
    }
    // Nested: calvin is staff since all admins are.
    for (unit, nested) in [("groups", false), ("nested", true)] {
        for group in World::groups() {
            let _ = write!(
                ldif,
                "{}objectClass: groupOfNames\n{}",
                dn(&format!("cn={group},ou={unit},{base}")),
                line("cn", group.as_bytes())
            );
            let members = World::users().iter().filter(|user| user.groups.contains(&group));
            for user in members {
                if nested && group == "staff" && user.login == "calvin" {
                    continue;
                }
                ldif += &line("member", format!("uid={},ou=people,{base}", user.login).as_bytes());
            }
            if nested && group == "staff" {
                ldif += &line("member", format!("cn=admin,ou=nested,{base}").as_bytes());
            }
            ldif.push('\n');
        }
    }
    ldif
}

fn dn(text: &str) -> String {
    line("dn", text.as_bytes())
}

fn person(ldif: &mut String, user: &User, unit: &str, password: Option<&[u8]>) {
    let name = format!("uid={},ou={unit},{}", user.login, Slapd::BASE);
    *ldif += &dn(&name);
    *ldif += "objectClass: inetOrgPerson\nobjectClass: shadowAccount\n";
    for name in ["uid", "cn", "sn"] {
        *ldif += &line(name, user.login.as_bytes());
    }
    let _ = writeln!(ldif, "entryUUID: {}", if unit == "people" { id(user) } else { hashed_id(user) });
    if let Some(password) = password {
        *ldif += &line("userPassword", password);
    }
    match user.standing {
        Standing::Locked => *ldif += "pwdAccountLockedTime: 000001010000Z\n",
        Standing::MustChange => *ldif += "pwdReset: TRUE\n",
        _ => {}
    }
    if let Some(ends) = user.standing.ends() {
        let days = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
        let _ = writeln!(ldif, "shadowExpire: {days}");
    }
    ldif.push('\n');
}
