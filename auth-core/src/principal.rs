//! Who somebody is, and in what state their account is.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::{Id, Login, Lookup, RealmId, Reject, SourceInfo, StoredHash};

/// A person that a source knows: one `Arc` wide.
///
/// An id belongs to the source that issued it. Two sources may use one id, and one login,
/// for two people; a principal is equal to another only if realm, source, id and login are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<Inner>);

#[derive(PartialEq, Eq, Hash)]
struct Inner {
    login: Login,
    id: Id,
    source: Arc<str>,
    // As the store spells it, where that is not the normal form.
    shown: Option<Box<str>>,
}

impl Principal {
    /// Makes the principal that `source` found under `login`, or nothing if what it found is somebody else.
    ///
    /// `found` is the login as the store returned it. This is the one way to make a principal,
    /// so no store can forget to look at what it found.
    #[must_use]
    pub fn found(source: &SourceInfo, login: &Login, found: &str, id: Id) -> Option<Self> {
        login.is(found).then(|| {
            Self(Arc::new(Inner {
                login: login.clone(),
                id,
                source: Arc::clone(source.name()),
                shown: (*found != *login.as_str()).then(|| found.into()),
            }))
        })
    }

    /// Returns the realm.
    #[must_use]
    pub fn realm(&self) -> &RealmId {
        self.0.login.realm()
    }

    /// Returns the login in normal form.
    #[must_use]
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
    pub fn source(&self) -> &Arc<str> {
        &self.0.source
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
}
