//! The people, groups and objects that every suite expects.

use std::time::{Duration, SystemTime};

use auth_core::{AccountState, Id, Lock, Login, ObjectRef, Password, RealmId, StoredHash};

/// The people, groups and objects that every suite expects. A store's test loads it in its own way.
///
/// Nobody is called `nobody`, no group `ghosts`, no domain `planet`, and there is no `doc` 3.
///
/// ```
/// use auth_testkit::World;
/// let calvin = World::user("calvin");
/// assert_eq!((calvin.id, calvin.groups), (1, &["admin", "staff"][..]));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct World;

/// A person of the [`World`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct User {
    /// The login, in every rule's normal form.
    pub login: &'static str,
    /// The id, for stores that take one.
    pub id: i64,
    /// The password in clear; a test user's secret is none.
    pub password: Option<&'static [u8]>,
    /// A cheap real hash of it.
    pub hash: Option<&'static str>,
    /// Every group, sorted.
    pub groups: &'static [&'static str],
    /// How the account stands.
    pub standing: Standing,
}

/// How an account of the [`World`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// May log in.
    Open,
    /// May log in; ends in 2037.
    EndsLater,
    /// Switched off.
    Disabled,
    /// Locked until unlocked.
    Locked,
    /// Ended in 2001.
    Expired,
    /// Must change the password first.
    MustChange,
}

/// An object of the [`World`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Object {
    /// The domain.
    pub domain: &'static str,
    /// The id.
    pub id: i64,
    /// Who may do what: login and mode.
    pub rights: &'static [(&'static str, &'static str)],
}

/// 1,024 bytes: the longest password there is.
#[allow(clippy::indexing_slicing, reason = "checked when compiled")]
const LONG: [u8; 1024] = {
    let digits = *b"0123456789abcdef";
    let mut long = [0; 1024];
    let mut at = 0;
    while at < long.len() {
        long[at] = digits[at % digits.len()];
        at += 1;
    }
    long
};

// bcrypt at cost 4, and PBKDF2 in Django's form where bcrypt would read 72 bytes only.
const USERS: &[User] = &[
    User {
        login: "calvin",
        id: 1,
        password: Some(b"hobbes"),
        hash: Some("$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6"),
        groups: &["admin", "staff"],
        standing: Standing::Open,
    },
    User {
        login: "susie",
        id: 2,
        password: Some(b"derkins"),
        hash: Some("$2b$04$s5eiWR5dhFcGD1pTmg8M7OVcjxyyAZ6Q5sNtlcquGRREruyi.8lHi"),
        groups: &["staff"],
        standing: Standing::Open,
    },
    User {
        login: "moe",
        id: 3,
        password: Some(b"lunch money"),
        hash: Some("$2b$04$.g8dVeuWH7RlbmT1WEVId.LHqk3LhLB/NXazpunkZRS1TcUpOjwBS"),
        groups: &["staff"],
        standing: Standing::Disabled,
    },
    User {
        login: "rosalyn",
        id: 4,
        password: Some(b"no more dessert"),
        hash: Some("$2b$04$gOJSrxHMXSAz.OG2LKQ.4O4kJNx12eI6sR6ykcymKcOKUjd/UEWyS"),
        groups: &[],
        standing: Standing::Locked,
    },
    User {
        login: "wormwood",
        id: 5,
        password: Some(b"sit down"),
        hash: Some("$2b$04$sAvfuJ0cAuZCQXeQQQaBqOddOdrVm/rvWwTUFxAwC3VA5tTPMZbh2"),
        groups: &[],
        standing: Standing::Expired,
    },
    User {
        login: "andy",
        id: 6,
        password: Some(b"tuna"),
        hash: Some("$2b$04$FzX8f/BVNypkM75Dn1NUIePHakxczdnmVWU0/264xvjNJg6PqVjWa"),
        groups: &[],
        standing: Standing::MustChange,
    },
    User { login: "dad", id: 7, password: None, hash: None, groups: &["staff"], standing: Standing::Open },
    User {
        login: "zo\u{e9}",
        id: 8,
        password: Some("p\u{e4}ssw\u{f6}rd \u{1f42f}".as_bytes()),
        hash: Some("$2b$04$nPuVfeEPCx1/qJ4MlGoRUO8RNqUJwhx7SKsHQ28NJqvGEbN1Fqfee"),
        groups: &["caf\u{e9}"],
        standing: Standing::Open,
    },
    User {
        login: "tommy",
        id: 9,
        password: Some(b"x"),
        hash: Some("$2b$04$QLNeWuuOLQN/JY9EBWu0Buuy5/Tfdb7OgWCaRMpiKiettGcKFtFEO"),
        groups: &[],
        standing: Standing::Open,
    },
    User {
        login: "mom",
        id: 10,
        password: Some(&LONG),
        hash: Some("pbkdf2_sha256$1000$yukonhosalt0$41CIWiSyJ/uB7HyOUPOlwwn1v9qXns1LsngSeQ72INI="),
        groups: &[],
        standing: Standing::Open,
    },
    User {
        login: "max",
        id: 11,
        password: Some(b"uncle"),
        hash: Some("$2b$04$BoiJ5qr2aWQW7mrarvPQfOYpw/rZPgr01STS6d0nGVDu7I5ggsmZa"),
        groups: &["admin"],
        standing: Standing::EndsLater,
    },
];

const OBJECTS: &[Object] = &[
    Object { domain: "doc", id: 1, rights: &[("calvin", "read"), ("calvin", "write"), ("susie", "read")] },
    Object { domain: "doc", id: 2, rights: &[] },
];

impl World {
    /// Lists everybody.
    #[must_use]
    pub const fn users() -> &'static [User] {
        USERS
    }

    /// Returns one person.
    ///
    /// # Panics
    /// If there is none of this login.
    #[must_use]
    pub fn user(login: &str) -> &'static User {
        let user = USERS.iter().find(|user| user.login == login);
        user.unwrap_or_else(|| panic!("the world has no user {login}"))
    }

    /// Lists the names of all groups, sorted.
    #[must_use]
    pub fn groups() -> Vec<&'static str> {
        let mut groups: Vec<_> = USERS.iter().flat_map(|user| user.groups).copied().collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Lists every object.
    #[must_use]
    pub const fn objects() -> &'static [Object] {
        OBJECTS
    }
}

impl User {
    /// Returns the login in a realm.
    ///
    /// # Panics
    /// Never: every rule takes these logins.
    #[must_use]
    pub fn login_in(&self, realm: &RealmId) -> Login {
        Login::parse(realm, self.login).expect("a login of the world is possible in every realm")
    }

    /// Returns the password.
    ///
    /// # Panics
    /// If the person has none.
    #[must_use]
    pub fn password(&self) -> Password {
        let bytes = self.password.unwrap_or_else(|| panic!("{} has no password", self.login));
        Password::new(bytes.to_vec()).expect("a password of the world is possible")
    }

    /// Returns the hash as a store shows it.
    #[must_use]
    pub fn stored_hash(&self) -> Option<StoredHash> {
        self.hash.map(|text| StoredHash::new(text.to_owned(), None))
    }

    /// Returns the state of the account.
    #[must_use]
    pub fn state(&self) -> AccountState {
        let open = AccountState::default();
        match self.standing {
            Standing::Open => open,
            Standing::Disabled => AccountState { disabled: true, ..open },
            Standing::Locked => AccountState { lock: Lock::Locked, ..open },
            Standing::EndsLater | Standing::Expired => {
                AccountState { expires_at: self.standing.ends(), ..open }
            }
            Standing::MustChange => AccountState { must_change: true, ..open },
        }
    }
}

impl Standing {
    /// Returns when the account ends, if it does.
    #[must_use]
    pub fn ends(self) -> Option<SystemTime> {
        let since_1970 = match self {
            Self::Expired => 978_307_200,
            Self::EndsLater => 2_114_380_800,
            _ => return None,
        };
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970))
    }
}

impl Object {
    /// Names the object as a question does.
    ///
    /// # Panics
    /// Never: these names are possible.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        ObjectRef::new(self.domain, [Id::from(self.id)]).expect("an object of the world is possible")
    }

    /// Reports whether a login has a right; with no mode, any right.
    #[must_use]
    pub fn allows(&self, login: &str, mode: Option<&str>) -> bool {
        self.rights.iter().any(|(who, what)| *who == login && mode.is_none_or(|mode| mode == *what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_is_what_its_users_rely_on() {
        for (n, user) in World::users().iter().enumerate() {
            assert_eq!(usize::try_from(user.id).unwrap(), n + 1);
            assert_eq!(user.password.is_some(), user.hash.is_some());
            assert!(user.groups.is_sorted());
        }
        assert_eq!(World::groups(), ["admin", "caf\u{e9}", "staff"]);
        assert_eq!(World::user("mom").password().as_bytes().len(), 1024);
        let [one, two] = World::objects() else { panic!("two objects") };
        assert!(one.allows("calvin", Some("write")) && one.allows("susie", None));
        assert!(!one.allows("susie", Some("write")) && !two.allows("calvin", None));
    }
}
