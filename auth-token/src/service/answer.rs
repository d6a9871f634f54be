//! What the service is asked, and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{Device, EndReason, FamilyId, Reject, TokenState};
use zeroize::Zeroizing;

use crate::Refusal;

/// A login.
#[allow(clippy::exhaustive_structs, reason = "a front end fills it in")]
pub struct LoginAsk<'a> {
    /// As it was typed.
    pub login: &'a str,
    /// As it was typed.
    pub password: Vec<u8>,
    /// What for, parted by blanks; all that is configured if it is not said.
    pub scope: Option<&'a str>,
    /// Which client asks.
    pub client: Option<&'a str>,
    /// Where.
    pub device: Device,
    /// Whether the session may last as long as is configured; otherwise it is a short one.
    pub remember: bool,
}

impl fmt::Debug for LoginAsk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginAsk")
            .field("login", &self.login)
            .field("scope", &self.scope)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A renewal by a refresh token.
#[derive(Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "a front end fills it in")]
pub struct RenewAsk<'a> {
    /// The refresh token.
    pub token: &'a str,
    /// Less than what the session was granted for, if it is said.
    pub scope: Option<&'a str>,
    /// Which client asks.
    pub client: Option<&'a str>,
}

impl fmt::Debug for RenewAsk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewAsk")
            .field("scope", &self.scope)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// By what somebody shows which session is theirs.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Bearing<'a> {
    /// A refresh token.
    Refresh(&'a str),
    /// An access token.
    Access(&'a str),
}

impl fmt::Debug for Bearing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refresh(_) => "Refresh(..)",
            Self::Access(_) => "Access(..)",
        })
    }
}

/// What a login or a renewal gives.
#[non_exhaustive]
pub struct Tokens {
    /// The access token.
    pub access_token: String,
    /// Whose it is.
    pub login: String,
    /// The session.
    pub family: FamilyId,
    /// Which of its refresh tokens this is.
    pub generation: u32,
    /// What the access token is good for, parted by blanks.
    pub scope: String,
    /// When the access token was issued.
    pub issued_at: SystemTime,
    /// From when on it is good.
    pub starts_at: SystemTime,
    /// From when on it is not.
    pub expires_at: SystemTime,
    /// By how much whoever checks it here lets clocks differ.
    pub leeway: Duration,
    /// The refresh token.
    pub refresh_token: Zeroizing<String>,
    /// From when on that is no longer good, unless it is used before.
    pub refresh_expires_at: SystemTime,
    /// From when on the session is over, however it is used.
    pub session_expires_at: SystemTime,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("login", &self.login)
            .field("family", &self.family)
            .field("generation", &self.generation)
            .field("scope", &self.scope)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The answer to a login or a renewal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Granted {
    /// Yes.
    Tokens(Box<Tokens>),
    /// No, and nothing was consumed that was good.
    Refused(Refused),
}

/// Why there are no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The login was rejected. For the log: outside, all of them look alike.
    Credentials(Reject),
    /// More is asked for than there is, or was granted (RFC 6749: `invalid_scope`).
    Scope,
    /// The refresh token is not good (RFC 6749: `invalid_grant`).
    Grant(GrantRefusal),
}

impl Refused {
    /// Returns the name of the class, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials(reject) => reject.as_str(),
            Self::Scope => "scope",
            Self::Grant(refusal) => refusal.as_str(),
        }
    }
}

/// Why a refresh token is not good. For the log: outside, all of them look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantRefusal {
    /// Not one of ours.
    Malformed,
    /// One of ours, of a session that is not known, or no longer.
    Unknown,
    /// The session was not used for too long, or has lasted as long as it may.
    Expired,
    /// The session was ended.
    Ended(EndReason),
    /// It was replaced, and comes back.
    Reused,
    /// It was given to another client.
    Client,
    /// The account may not log in.
    Account(Reject),
    /// It is newer than any that was made.
    Forged,
}

impl GrantRefusal {
    /// Returns the name of the class.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Ended(reason) => reason.as_str(),
            Self::Reused => "reused",
            Self::Client => "client",
            Self::Account(reject) => reject.as_str(),
            Self::Forged => "forged",
        }
    }
}

/// The answer to a logout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedOut {
    /// Whether what was shown is authentic. If not, there is no session to end: outside, both are done.
    pub known: bool,
}

/// What a check of an access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checked {
    /// It is good.
    Valid(Arc<TokenState>),
    /// It is not.
    Invalid(Invalid),
}

/// Why an access token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// By what it is itself.
    Refused(Refusal),
    /// It lives longer than any that is issued here: what was revoked could not be remembered for as long.
    TooLong,
    /// It, its session, its login or the realm was revoked.
    Revoked,
    /// The account may not log in.
    Account(Reject),
}

impl Invalid {
    /// Returns the name of the class.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            Self::TooLong => "lives_too_long",
            Self::Revoked => "revoked",
            Self::Account(reject) => reject.as_str(),
        }
    }
}
