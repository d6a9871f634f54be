//! Answers: enums, never bools. An error is not an answer.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::{GroupSet, Principal};

/// What a source says to a login and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right and the account may log in.
    Accepted(Principal),
    /// The login is refused.
    Rejected(Reject),
}

/// Why a login is refused. To the outside all look and cost the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reject {
    /// Nobody has this login.
    UnknownUser,
    /// The password is wrong.
    BadPassword,
    /// The account has no password.
    NoPassword,
    /// The account is switched off.
    Disabled,
    /// The account is locked.
    Locked,
    /// The account has expired.
    AccountExpired,
    /// The password has expired.
    PasswordExpired,
    /// The password must be changed first.
    MustChange,
    /// The account may not log in at this time.
    NotNow,
}

impl Reject {
    /// Names the reason in the form used by JSON answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::BadPassword => "bad_password",
            Self::NoPassword => "no_password",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::AccountExpired => "account_expired",
            Self::PasswordExpired => "password_expired",
            Self::MustChange => "must_change",
            Self::NotNow => "not_now",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a store says about a right on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The right is there.
    Allow,
    /// The object is there, the right is not.
    Deny,
    /// There is no such object.
    NotFound,
}

impl Access {
    /// Names the answer in the form used by JSON answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NotFound => "not_found",
        }
    }
}

/// Whether somebody is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// They are.
    Yes,
    /// They are not.
    No,
}

impl Member {
    /// Looks a group up among all groups of a person.
    #[must_use]
    #[inline]
    pub fn of(groups: &Lookup<GroupSet>, group: &str) -> Self {
        match groups {
            Lookup::Found(groups) if groups.contains(group) => Self::Yes,
            Lookup::Found(_) | Lookup::NotFound => Self::No,
        }
    }

    /// Names the answer in the form used by JSON answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "member",
            Self::No => "not_member",
        }
    }
}

/// What a store found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// The store knows that it is not.
    NotFound,
}

impl<T> Lookup<T> {
    /// Turns what was found into something else.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Found(found) => Lookup::Found(turn(found)),
            Self::NotFound => Lookup::NotFound,
        }
    }

    /// Returns what was found.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::NotFound => None,
        }
    }
}

/// The key of a token in a [`TokenCache`](crate::TokenCache): a keyed hash, never the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Takes a keyed hash of realm, audience and token.
    #[must_use]
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId(..)")
    }
}

/// What is known of a token that was validated. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenState {
    /// Whose token it is.
    pub principal: Principal,
    /// What it was issued for.
    pub scopes: GroupSet,
    /// From when on it is no longer good, whatever a cache's lifetime says.
    pub expires_at: SystemTime,
    /// What else it says: the verified claims as the text of a JSON object, if it has any.
    pub claims: Option<Arc<str>>,
}
