//! The people of auth-testkit's world in directories: OpenLDAP and 389-DS.

use std::fmt::Write as _;
use std::time::SystemTime;

use auth_core::Id;
use auth_testkit::servers::{Ds389, Slapd, SlapdOptions};
use auth_testkit::{Standing, User, World};
use base64::Engine as _;

/// A branch of the OpenLDAP that [`slapd_world`] fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// Everybody, with passwords that the server checks.
    People,
    /// Everybody, with the world's own hashes, which an account may read.
    Hashes,
    /// Those who are simply there and have a password: the others are in another source.
    Staff,
}

impl Branch {
    const ALL: [Self; 3] = [Self::People, Self::Hashes, Self::Staff];

    /// Returns the name of the entry that people are under; their groups are under it with `-groups`.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Hashes => "hashes",
            Self::Staff => "staff",
        }
    }

    /// Returns the id of somebody's entry.
    #[must_use]
    pub fn id(self, user: &User) -> Id {
        let branch: u128 = match self {
            Self::People => 0xdead_beef,
            Self::Hashes => 0xcafe_beef,
            Self::Staff => 0xfeed_beef,
        };
        let id = (branch << 96) | 0x4000_8000_0000_0000_0000 | u128::from(user.id.unsigned_abs());
        Id::uuid(id)
    }

    fn holds(self, user: &User) -> bool {
        self != Self::Staff || simply_there(user)
    }
}

/// Somebody who may log in, for ever, by a password.
#[must_use]
pub fn simply_there(user: &User) -> bool {
    user.standing == Standing::Open && user.password.is_some()
}

/// What a slapd is to have for the world: a policy that demands new passwords, and groups in people's entries.
#[must_use]
pub fn slapd_options() -> SlapdOptions {
    let base = Slapd::BASE;
    let hashes = format!("dn.exact=\"cn=hashes,ou=services,{base}\"");
    SlapdOptions {
        modules: ["memberof", "ppolicy"].map(str::to_owned).to_vec(),
        database: vec![
            "overlay memberof".to_owned(),
            "memberof-group-oc groupOfNames".to_owned(),
            "memberof-refint TRUE".to_owned(),
            "overlay ppolicy".to_owned(),
            format!("ppolicy_default cn=default,ou=policies,{base}"),
            "ppolicy_use_lockout".to_owned(),
            format!("access to attrs=userPassword by {hashes} read by anonymous auth by * none"),
            format!(
                "access to * by dn.exact=\"cn=reader,ou=services,{base}\" read by {hashes} read by self read by * none"
            ),
        ],
        ..SlapdOptions::default()
    }
}

/// Writes the world as LDIF: the [branches](Branch), each with its groups, and `ou=nested` with the groups of
/// `ou=people` once more, where all who are admins are staff by it.
#[must_use]
pub fn slapd_world() -> String {
    let base = Slapd::BASE;
    let mut ldif =
        format!("dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n");
    let mut units = ["nested", "services", "policies"].map(str::to_owned).to_vec();
    units.extend(Branch::ALL.into_iter().flat_map(|branch| {
        let unit = branch.unit();
        [unit.to_owned(), format!("{unit}-groups")]
    }));
    for unit in units {
        let _ = write!(ldif, "dn: ou={unit},{base}\nobjectClass: organizationalUnit\nou: {unit}\n\n");
    }
    let _ = write!(
        ldif,
        "dn: cn=default,ou=policies,{base}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: default\n\
         pwdAttribute: userPassword\npwdMustChange: TRUE\npwdLockout: TRUE\n\n"
    );
    for account in ["reader", "hashes"] {
        ldif += &service(account, &format!("ou=services,{base}"));
    }
    for branch in Branch::ALL {
        let unit = branch.unit();
        for user in World::users().iter().filter(|user| branch.holds(user)) {
            ldif += &person(user, &format!("ou={unit},{base}"));
            let Id::Uuid(id) = branch.id(user) else { unreachable!("it is made so") };
            ldif += &format!("entryUUID: {}\n", Id::Uuid(id));
            let password =
                if branch == Branch::Hashes { user.hash.map(str::as_bytes) } else { user.password };
            password.iter().for_each(|password| ldif += &line("userPassword", password));
            match user.standing {
                Standing::Locked => ldif += "pwdAccountLockedTime: 000001010000Z\n",
                Standing::MustChange => ldif += "pwdReset: TRUE\n",
                _ => {}
            }
            ldif.push('\n');
        }
        let holds = |user: &User| branch.holds(user);
        ldif += &groups(
            &format!("ou={unit}-groups,{base}"),
            &format!("ou={unit},{base}"),
            "member",
            holds,
            false,
        );
    }
    let people = format!("ou=people,{base}");
    ldif + &groups(&format!("ou=nested,{base}"), &people, "member", |_| true, true)
}

/// The name that [`ds389_world`] is under.
pub const DS389_WORLD: &str = "ou=world,dc=example,dc=com";

/// The name of the people in it who are simply there.
pub const DS389_STAFF: &str = "ou=staff,dc=example,dc=com";

/// Writes the world as LDIF for a 389-DS, below its suffix, which is made too: in two branches, of which the second
/// has those who are simply there.
#[must_use]
pub fn ds389_world() -> String {
    let base = Ds389::BASE;
    let mut ldif = format!(
        "dn: {base}\nobjectClass: domain\ndc: example\naci: (targetattr != \"userPassword\")(version 3.0; \
         acl \"readers\"; allow (read, search, compare) userdn = \"ldap:///anyone\";)\n\n"
    );
    for (branch, unit, all) in [(DS389_WORLD, "world", true), (DS389_STAFF, "staff", false)] {
        let _ = write!(ldif, "dn: {branch}\nobjectClass: organizationalUnit\nou: {unit}\n\n");
        ldif += &service("reader", branch);
        let holds = |user: &User| all || simply_there(user);
        for user in World::users().iter().filter(|user| holds(user)) {
            ldif += &person(user, branch);
            ldif += &format!("employeeNumber: {}\n", user.id);
            user.password.iter().for_each(|password| ldif += &line("userPassword", password));
            if user.standing == Standing::Disabled {
                ldif += "nsAccountLock: true\n";
            }
            ldif.push('\n');
        }
        ldif += &groups(branch, branch, "uniqueMember", holds, false);
    }
    ldif
}

fn service(account: &str, branch: &str) -> String {
    format!(
        "dn: cn={account},{branch}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
         cn: {account}\nuserPassword: {account}-secret\n\n"
    )
}

/// Somebody's entry, to be gone on with.
fn person(user: &User, branch: &str) -> String {
    let mut ldif = line("dn", format!("uid={},{branch}", user.login).as_bytes());
    ldif += "objectClass: inetOrgPerson\nobjectClass: shadowAccount\n";
    for name in ["uid", "cn", "sn"] {
        ldif += &line(name, user.login.as_bytes());
    }
    if let Some(ends) = user.standing.ends() {
        let days = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        let _ = writeln!(ldif, "shadowExpire: {days}");
    }
    ldif
}

/// The groups under `branch` of people under `people`. Nested: calvin is staff since all admins are.
fn groups(
    branch: &str,
    people: &str,
    attribute: &str,
    holds: impl Fn(&User) -> bool,
    nested: bool,
) -> String {
    let mut ldif = String::new();
    for group in World::groups() {
        ldif += &line("dn", format!("cn={group},{branch}").as_bytes());
        let class = if attribute == "member" { "groupOfNames" } else { "groupOfUniqueNames" };
        let _ = writeln!(ldif, "objectClass: {class}");
        ldif += &line("cn", group.as_bytes());
        for user in World::users().iter().filter(|user| holds(user) && user.groups.contains(&group)) {
            if !(nested && group == "staff" && user.login == "calvin") {
                ldif += &line(attribute, format!("uid={},{people}", user.login).as_bytes());
            }
        }
        if nested && group == "staff" {
            ldif += &line(attribute, format!("cn=admin,{branch}").as_bytes());
        }
        ldif.push('\n');
    }
    ldif
}

/// A line of LDIF, whatever the value.
fn line(name: &str, value: &[u8]) -> String {
    format!("{name}:: {}\n", base64::engine::general_purpose::STANDARD.encode(value))
}
