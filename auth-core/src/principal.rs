//! Who somebody is, and in what state their account is.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use crate::hash::{Spelled, join, keyed, same, type_of};
use crate::{Id, Login, Lookup, RealmId, Reject, SourceInfo, StoredHash};

/// A person that a source knows: one `Arc` wide.
///
/// An id belongs to the source that issued it. Two sources may use one id, and one login,
/// for two people; a principal is equal to another only if realm, source, id and login are.
#[derive(Clone)]
pub struct Principal(Arc<Inner>);

struct Inner {
    // Of realm, login, source and typed id, and of the id with its source and realm by its text alone.
    hash: u64,
    spelled: u64,
    login: Login,
    id: Id,
    source: Arc<str>,
    // As the store spells it, where that is not the normal form.
    shown: Option<Box<str>>,
}

impl Inner {
    /// Compares every part in full.
    fn agrees(&self, other: &Self) -> bool {
        self.login == other.login
            && self.id == other.id
            && same(&self.source, &other.source)
            && self.shown == other.shown
    }
}

impl Principal {
    /// Makes the principal that `source` found under `login`, or nothing if what it found is somebody else.
    ///
    /// `found` is the login as the store returned it. This is the one way to make a principal,
    /// so no store can forget to look at what it found.
    #[must_use]
    pub fn found(source: &SourceInfo, login: &Login, found: &str, id: Id) -> Option<Self> {
        login.is(found).then(|| {
            let spelled = spelled(login.realm(), source.name(), &id);
            Self(Arc::new(Inner {
                hash: join(join(login.hash64(), spelled), type_of(&id)),
                spelled,
                login: login.clone(),
                id,
                source: Arc::clone(source.name()),
                shown: (*found != *login.as_str()).then(|| found.into()),
            }))
        })
    }

    /// Reports whether this is a clone of the other: equal, and known to be without looking at either.
    #[must_use]
    #[inline]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the realm.
    #[must_use]
    #[inline]
    pub fn realm(&self) -> &RealmId {
        self.0.login.realm()
    }

    /// Returns the login in normal form.
    #[must_use]
    #[inline]
    pub fn login(&self) -> &Login {
        &self.0.login
    }

    /// Returns the login as the store spells it.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.0.shown.as_deref().unwrap_or(self.0.login.as_str())
    }

    /// Returns the id, which survives a rename.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.0.id
    }

    /// Returns the name of the source that issued the id.
    #[must_use]
    #[inline]
    pub fn source(&self) -> &Arc<str> {
        &self.0.source
    }

    /// Returns a hash of realm, login, source and typed id, keyed per process: never stored or shown outside
    /// of it.
    #[must_use]
    #[inline]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }

    /// The hash of the id with its source and realm, by its text, for the fence.
    #[inline]
    pub(crate) fn spelled(&self) -> u64 {
        self.0.spelled
    }
}

/// Hashes an id by its text, with the source that issued it.
pub(crate) fn spelled(realm: &RealmId, source: &str, id: &Id) -> u64 {
    keyed(&(realm.hash64(), source, Spelled(id)))
}

impl PartialEq for Principal {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.agrees(&other.0))
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({}@{}, {}:{})", self.shown(), self.realm().name(), self.source(), self.id())
    }
}

/// Whether an account is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lock {
    /// It is not.
    #[default]
    Open,
    /// Until somebody unlocks it.
    Locked,
    /// Until a time of day.
    Until(SystemTime),
}

/// What a source says about an account beside its password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Switched off by an administrator.
    pub disabled: bool,
    /// Locked, for good or for a while.
    pub lock: Lock,
    /// Not valid before this time.
    pub not_before: Option<SystemTime>,
    /// Not valid from this time on.
    pub expires_at: Option<SystemTime>,
    /// The password is not valid from this time on.
    pub password_expires_at: Option<SystemTime>,
    /// The password must be changed before the next login.
    pub must_change: bool,
}

impl AccountState {
    /// Tells why the account may not log in now, if so. To be told only after a right password.
    #[must_use]
    pub fn refusal(&self, now: SystemTime) -> Option<Reject> {
        let past = |time: Option<SystemTime>| time.is_some_and(|time| time <= now);
        if self.disabled {
            return Some(Reject::Disabled);
        }
        match self.lock {
            Lock::Locked => return Some(Reject::Locked),
            Lock::Until(time) if now < time => return Some(Reject::Locked),
            Lock::Open | Lock::Until(_) => {}
        }
        if past(self.expires_at) {
            Some(Reject::AccountExpired)
        } else if self.not_before.is_some_and(|time| now < time) {
            Some(Reject::NotNow)
        } else if past(self.password_expires_at) {
            Some(Reject::PasswordExpired)
        } else if self.must_change {
            Some(Reject::MustChange)
        } else {
            None
        }
    }
}

/// An account as a store shows it: who, in what state, with which stored hash. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(Arc<AccountInner>);

#[derive(Debug, PartialEq, Eq)]
struct AccountInner {
    principal: Principal,
    state: AccountState,
    hash: Option<StoredHash>,
}

impl Account {
    /// Makes an account. `hash` is absent where there is no password, or none that may be seen.
    #[must_use]
    pub fn new(principal: Principal, state: AccountState, hash: Option<StoredHash>) -> Self {
        Self(Arc::new(AccountInner { principal, state, hash }))
    }

    /// Makes the answer of a store: the account, or `NotFound` if what was found is somebody else.
    #[must_use]
    pub fn found(
        source: &SourceInfo,
        login: &Login,
        found: &str,
        id: Id,
        state: AccountState,
        hash: Option<StoredHash>,
    ) -> Lookup<Self> {
        match Principal::found(source, login, found, id) {
            Some(principal) => Lookup::Found(Self::new(principal, state, hash)),
            None => Lookup::NotFound,
        }
    }

    /// Returns who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Returns the state of the account.
    #[must_use]
    pub fn state(&self) -> &AccountState {
        &self.0.state
    }

    /// Returns the stored hash.
    #[must_use]
    pub fn hash(&self) -> Option<&StoredHash> {
        self.0.hash.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fingerprint, LoginRule};
    use std::time::Duration;

    #[test]
    fn the_state_of_an_account_is_told_in_one_order() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let (past, future) = (now - Duration::from_secs(1), now + Duration::from_secs(1));
        let open = AccountState::default();
        let check = |state: AccountState, refusal: Option<Reject>| assert_eq!(state.refusal(now), refusal);
        check(open.clone(), None);
        check(AccountState { disabled: true, lock: Lock::Locked, ..open.clone() }, Some(Reject::Disabled));
        check(AccountState { lock: Lock::Locked, ..open.clone() }, Some(Reject::Locked));
        check(AccountState { lock: Lock::Until(future), ..open.clone() }, Some(Reject::Locked));
        check(AccountState { lock: Lock::Until(past), ..open.clone() }, None);
        check(AccountState { expires_at: Some(now), ..open.clone() }, Some(Reject::AccountExpired));
        check(AccountState { expires_at: Some(future), ..open.clone() }, None);
        check(AccountState { not_before: Some(future), ..open.clone() }, Some(Reject::NotNow));
        check(
            AccountState { password_expires_at: Some(past), ..open.clone() },
            Some(Reject::PasswordExpired),
        );
        check(AccountState { must_change: true, ..open }, Some(Reject::MustChange));
    }

    fn person(source: &str, login: &Login, shown: &str, id: Id) -> Principal {
        Principal::found(&SourceInfo::new(source, Fingerprint::default()), login, shown, id).unwrap()
    }

    fn calvin() -> Login {
        Login::parse(&RealmId::new("default", LoginRule::CaseMapped).unwrap(), "calvin").unwrap()
    }

    #[test]
    fn equal_people_made_apart_are_equal_and_hash_alike() {
        let make = || person("app", &calvin(), "calvin", Id::from(42));
        let (one, other) = (make(), make());
        assert_eq!((&one, one.hash64(), one.spelled()), (&other, other.hash64(), other.spelled()));
        let text = person("app", &calvin(), "calvin", Id::from("42"));
        assert_ne!(one.hash64(), text.hash64());
        assert_eq!(one.spelled(), text.spelled());
        let elsewhere = person("staff", &calvin(), "calvin", Id::from(42));
        assert_ne!((one.hash64(), one.spelled()), (elsewhere.hash64(), elsewhere.spelled()));
        let renamed = Login::parse(one.realm(), "susie").unwrap();
        let renamed = person("app", &renamed, "susie", Id::from(42));
        assert_ne!(one.hash64(), renamed.hash64());
        assert_eq!(one.spelled(), renamed.spelled());
    }

    #[test]
    fn people_of_one_hash_are_told_apart_in_full() {
        let make = |source: &str, login: &Login, shown: &str, id: Id| {
            let mut who = person(source, login, shown, id);
            Arc::get_mut(&mut who.0).unwrap().hash = 7;
            who
        };
        let (calvin, susie) = (calvin(), Login::parse(calvin().realm(), "susie").unwrap());
        let one = make("app", &calvin, "calvin", Id::from(1));
        assert_eq!(one, make("app", &calvin, "calvin", Id::from(1)));
        assert_ne!(one, make("staff", &calvin, "calvin", Id::from(1)));
        assert_ne!(one, make("app", &susie, "susie", Id::from(1)));
        assert_ne!(one, make("app", &calvin, "calvin", Id::from(2)));
        assert_ne!(one, make("app", &calvin, "calvin", Id::from("1")));
        assert_ne!(one, make("app", &calvin, "Calvin", Id::from(1)), "as the store spells it");
    }

    #[test]
    fn a_person_takes_112_bytes_at_most_beside_their_texts() {
        assert!(size_of::<Inner>() <= 112, "{}", size_of::<Inner>());
        assert_eq!(size_of::<Principal>(), size_of::<usize>());
    }
}
