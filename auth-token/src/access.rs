//! The seam between what a token looks like and who uses it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use auth_core::Result;
use serde_json::{Map, Value};

/// What a token says once it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    /// Whom it names: `sub`, or the user of an `fsa` token. Never empty, and as signed: no login rule was applied.
    pub login: String,
    /// What it may be used for: of `scope` (separated by spaces) or `scopes` (an array).
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since 1970: of `jti` if that is a UUID version 7 that agrees with `iat` to
    /// the second, else `iat`.
    pub issued_ms: Option<u64>,
    /// When it ends. Leeway or grace is not in it: a token may be taken for that much longer.
    pub expires_at: SystemTime,
    /// Its own name: `jti`.
    pub id: Option<String>,
    /// The family of logins that it comes from: `sid`, where that is 32 hexadecimal digits.
    pub family: Option<[u8; 16]>,
    /// Which generation of its family it was made with: `gen`.
    pub generation: Option<u32>,
    /// The whole of what was signed, as JSON text; `None` for `fsa`, which says nothing else.
    pub claims: Option<Arc<str>>,
}

/// What goes into a token.
#[derive(Debug, Clone)]
pub struct Grant<'a> {
    /// Whom it names.
    pub login: &'a str,
    /// What it may be used for.
    pub scopes: &'a [String],
    /// When it is made.
    pub issued_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
    /// The family of logins that it comes from, and its generation.
    pub family: Option<([u8; 16], u32)>,
    /// The application that it was given to.
    pub client: Option<&'a str>,
    /// When the person last proved who they are.
    pub auth_time: Option<SystemTime>,
    /// What the application adds. A name that the format uses itself is refused.
    pub extra: Map<String, Value>,
}

/// Whether a token that has ended is read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It is refused.
    Checked,
    /// It is read: for a logout, where a signature that holds is enough.
    Ignored,
}

/// Why a token is refused.
///
/// For the audit log and for operators: to a client all of them are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what a token looks like.
    Malformed,
    /// It is longer than any token may be. Nothing of it was read.
    TooLarge,
    /// Its algorithm is none that its key may be used with.
    Alg,
    /// Its key can't be used.
    Key,
    /// It names a key that is not there, or none where there are several.
    UnknownKey,
    /// It demands an extension that is not understood.
    Crit,
    /// Its signature does not hold.
    Signature,
    /// It is a token of another kind.
    Typ,
    /// It lacks something that must be there.
    MissingClaim,
    /// Something in it is not of the kind or in the range that it must be.
    ClaimType,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It was made by somebody else.
    Issuer,
    /// It was made for somebody else.
    Audience,
    /// It is of another realm.
    Realm,
    /// There is no key to check it with at the moment.
    Unavailable,
}

impl Refusal {
    /// Names the reason in the form used by JSON answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Alg => "alg",
            Self::Key => "key",
            Self::UnknownKey => "unknown_key",
            Self::Crit => "crit",
            Self::Signature => "signature",
            Self::Typ => "typ",
            Self::MissingClaim => "missing_claim",
            Self::ClaimType => "claim_type",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Realm => "realm",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What access tokens look like: how they are made, and how they are verified.
///
/// # Contract
/// - What [`issue`](Self::issue) makes, [`verify`](Self::verify) accepts until it ends, in every process that has the
///   same configuration and keys.
/// - `verify` asks nobody and waits for nothing. It never panics, and what it allocates is bounded by the longest
///   token that it accepts.
/// - Nothing secret is in a [`Refusal`] or an error.
pub trait AccessFormat: fmt::Debug + Send + Sync {
    /// Makes a token.
    ///
    /// # Errors
    /// [`Invalid`](auth_core::ErrorKind::Invalid) if the grant can't be said in this format;
    /// [`Corrupt`](auth_core::ErrorKind::Corrupt) or [`Unavailable`](auth_core::ErrorKind::Unavailable) if there is no
    /// key to sign with.
    fn issue(&self, grant: &Grant<'_>) -> Result<String>;

    /// Verifies a token.
    ///
    /// # Errors
    /// Why it is refused.
    fn verify(&self, token: &str, now: SystemTime, ends: Ends) -> std::result::Result<Valid, Refusal>;

    /// Returns the public keys as a JWK set: `{"keys":[]}` where others can't verify.
    fn jwks(&self, now: SystemTime) -> String;
}
