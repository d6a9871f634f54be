//! The ports of sessions: families of refresh tokens, and what was revoked before its end.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Ctx, Error, ErrorKind, Lookup, MAX_LOGIN_BYTES, Result};

/// A moment of the time of day: milliseconds since 1970, as every process on a store tells it.
pub type Millis = u64;

/// The id of a family of refresh tokens: what one login has begun, on one device. It is no secret; access tokens carry
/// it as `sid`.
///
/// Shown and read as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId([u8; 16]);

impl FamilyId {
    /// Takes sixteen random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FamilyId({self})")
    }
}

impl FromStr for FamilyId {
    type Err = Error;

    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for anything but 32 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Invalid, "a session's id is 32 hexadecimal digits");
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut id = [0; 16];
        if pairs.len() != id.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(id))
    }
}

/// Where a family was begun, as its owner sees it in the list of sessions. Said by the client: never believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(
    clippy::exhaustive_structs,
    reason = "a list of what is stored, filled in by whoever begins a family"
)]
pub struct Device {
    /// What the client calls itself.
    pub name: Option<String>,
    /// The address that the login came from.
    pub address: Option<IpAddr>,
    /// The header `User-Agent`.
    pub agent: Option<String>,
}

/// Why a family has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// Its owner logged out, or ended it from another session.
    Logout,
    /// Its owner logged out everywhere.
    LogoutAll,
    /// A token came back that had been replaced: somebody has a copy.
    Reuse,
    /// Its owner's password was changed.
    PasswordChanged,
    /// Its owner is disabled, locked, expired, deleted, or somebody else by now.
    Account,
    /// An operator has ended it.
    Revoked,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Logout, Self::LogoutAll, Self::Reuse, Self::PasswordChanged, Self::Account, Self::Revoked];

    /// Returns the name under which it is stored and logged.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutAll => "logout_all",
            Self::Reuse => "reuse",
            Self::PasswordChanged => "password_changed",
            Self::Account => "account",
            Self::Revoked => "revoked",
        }
    }

    /// Returns the reason of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A family of refresh tokens, as it is stored: one record however often it is renewed. No token can be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the record itself: each store writes and reads every field")]
pub struct Family {
    /// Its id.
    pub id: FamilyId,
    /// The name of the realm.
    pub realm: Arc<str>,
    /// Whose it is: the login in normal form, at most [`MAX_LOGIN_BYTES`] bytes.
    pub login: String,
    /// Who that was at the login: source and id, so that a later owner of the login inherits nothing. At most
    /// [`MAX_PERSON_BYTES`](Self::MAX_PERSON_BYTES) bytes.
    pub person: String,
    /// The client that it was given to, if it said which.
    pub client: Option<String>,
    /// What it was granted for, joined by blanks.
    pub scope: String,
    /// Where it was begun.
    pub device: Device,
    /// Which of the server's secrets its tokens are derived with.
    pub secret: String,
    /// Which token of it is good: 1 for that of the login, one more after each renewal.
    pub generation: u32,
    /// When that one was made.
    pub rotated_at: Millis,
    /// How often that one was given again to who had lost it.
    pub retries: u32,
    /// Whether that one, or an access token that came with it, has been seen in use: the one before is not taken again.
    pub confirmed: bool,
    /// When the login was.
    pub created_at: Millis,
    /// When it was used last.
    pub last_used_at: Millis,
    /// For how long it may be unused.
    pub idle: Millis,
    /// From when on it is no longer good unless it is used before.
    pub idle_end: Millis,
    /// From when on it is no longer good at all. It is kept until then.
    pub absolute_end: Millis,
    /// When it was ended before, and why.
    pub ended: Option<(Millis, EndReason)>,
}

impl Family {
    /// The longest [`person`](Self::person), in bytes.
    pub const MAX_PERSON_BYTES: usize = 512;
    /// The longest [`client`](Self::client), and name of a device, in bytes.
    pub const MAX_NAME_BYTES: usize = 255;
    /// The longest [`scope`](Self::scope), in bytes.
    pub const MAX_SCOPE_BYTES: usize = 1_024;
    /// The longest [`Device::agent`], in bytes.
    pub const MAX_AGENT_BYTES: usize = 512;
    /// The longest name of a [`secret`](Self::secret), in bytes.
    pub const MAX_SECRET_NAME_BYTES: usize = 64;

    /// The last moment that every store can keep: what a double holds without a loss.
    pub const MAX_TIME: Millis = (1 << 53) - 1;

    /// Checks that every store can keep it: what [`begin`](Families::begin) takes.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field: a text is longer than it may be, has a NUL, or is empty where it
    /// must say something; or a time is past [`MAX_TIME`](Self::MAX_TIME).
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &'static str, fault: &'static str| {
            Err(Error::new(ErrorKind::Invalid, format!("a session's {field} {fault}")))
        };
        let must = [
            ("realm", &*self.realm, MAX_LOGIN_BYTES),
            ("login", &self.login, MAX_LOGIN_BYTES),
            ("person", &self.person, Self::MAX_PERSON_BYTES),
            ("secret", &self.secret, Self::MAX_SECRET_NAME_BYTES),
        ];
        let may = [
            ("client", self.client.as_deref(), Self::MAX_NAME_BYTES),
            ("scope", Some(self.scope.as_str()), Self::MAX_SCOPE_BYTES),
            ("device", self.device.name.as_deref(), Self::MAX_NAME_BYTES),
            ("agent", self.device.agent.as_deref(), Self::MAX_AGENT_BYTES),
        ];
        if let Some((field, ..)) = must.iter().find(|(_, text, _)| text.is_empty()) {
            return wrong(field, "is empty");
        }
        for (field, text, most) in
            must.into_iter().map(|(field, text, most)| (field, Some(text), most)).chain(may)
        {
            let Some(text) = text else { continue };
            if text.len() > most {
                return wrong(field, "is too long");
            }
            if text.contains('\0') {
                return wrong(field, "has a NUL");
            }
        }
        let times = [
            self.rotated_at,
            self.created_at,
            self.last_used_at,
            self.idle,
            self.idle_end,
            self.absolute_end,
            self.ended.map_or(0, |(at, _)| at),
        ];
        if times.iter().any(|time| *time > Self::MAX_TIME) {
            return wrong("time", "is too far away");
        }
        Ok(())
    }

    /// Reports whether a token of it can be good.
    #[must_use]
    pub const fn is_live(&self, now: Millis) -> bool {
        self.ended.is_none() && now < self.idle_end && now < self.absolute_end
    }
}

/// A renewal: the next generation takes the place of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the parameters of one statement")]
pub struct Renewal {
    /// The generation that is shown.
    pub from: u32,
    /// When.
    pub at: Millis,
    /// The new [`idle_end`](Family::idle_end).
    pub idle_end: Millis,
}

/// A token of the generation before, shown again by who has not got its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the parameters of one statement")]
pub struct Retry {
    /// The generation that is shown.
    pub from: u32,
    /// When.
    pub at: Millis,
    /// How far from now the renewal may be, to either side: clocks of processes differ.
    pub grace: Millis,
    /// How often one generation is given again.
    pub most: u32,
}

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends<'a> {
    /// One family.
    Family(FamilyId),
    /// All of this login.
    Person(&'a str),
    /// All of the realm.
    Realm,
}

/// An end before the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the parameters of one statement")]
pub struct End {
    /// When.
    pub at: Millis,
    /// Why.
    pub reason: EndReason,
    /// Until when access tokens that were issued before may be good, so that the revocation must be remembered.
    pub until: Millis,
}

/// The SHA-256 of the signed part of an access token, or of its `jti`, with the realm.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenMark([u8; 32]);

impl TokenMark {
    /// Takes the hash.
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

impl fmt::Debug for TokenMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenMark(..)")
    }
}

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revoked<'a> {
    /// One access token.
    Token(TokenMark),
    /// All access tokens of a family.
    Family(FamilyId),
    /// All tokens of a login that were issued until then.
    Person(&'a str),
    /// All tokens of the realm that were issued until then.
    Realm,
}

impl Revoked<'_> {
    /// Returns the name of its class.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Family(_) => "family",
            Self::Person(_) => "person",
            Self::Realm => "realm",
        }
    }
}

/// An access token, for the question whether it is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the parameters of one question")]
pub struct Issued<'a> {
    /// Which.
    pub mark: TokenMark,
    /// Of which family, if it says so.
    pub family: Option<FamilyId>,
    /// Whose, in normal form.
    pub login: &'a str,
    /// When it was issued, if that is known.
    pub at: Option<Millis>,
}

/// Remembers what was revoked before its end, durably.
///
/// # Contract
/// - Keys are by realm: what is revoked in one says nothing about another.
/// - [`revoke`](Self::revoke) is one write, and is done when it returns: every process that asks afterwards hears of it,
///   also after a restart of the store. Revoking again keeps the later `at` and the later `until`.
/// - [`is_revoked`](Self::is_revoked): the token's own mark or its family was revoked, whenever; or its login, or the
///   realm, and it was issued at that moment or before, or nobody knows when. Entries whose `until` is not after `now`
///   do not count, and may be forgotten.
/// - It is asked of the store each time, in one round trip. A failure is an error: nobody knows.
#[async_trait]
pub trait Revocations: fmt::Debug + Send + Sync {
    /// Revokes, as of `at`. The entry is remembered until `until`.
    ///
    /// # Errors
    /// Any kind: it is not known whether it is revoked. Doing it again is harmless.
    async fn revoke(
        &self,
        ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()>;

    /// Tells whether a token is revoked.
    ///
    /// # Errors
    /// Any kind: nobody could find out, so the token must not be taken.
    async fn is_revoked(&self, ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool>;
}

/// Keeps families of refresh tokens, durably, for all processes.
///
/// # Contract
/// - Each call is decided by the store in one atomic step, on the record as it is then: what is said to be one
///   statement is one, never a read and a write. Times come from whoever asks.
/// - An end is an end: nothing revives a family.
/// - A record is kept until its [`absolute_end`](Family::absolute_end), also when it has ended: else a token that comes
///   back could not be told from one that never was.
/// - A family is only found under its realm.
/// - An error says nothing about what has happened; each call may be made again.
#[async_trait]
pub trait Families: Revocations {
    /// Enters a new family.
    ///
    /// # Errors
    /// Any kind. [`Invalid`](ErrorKind::Invalid) if its id is taken, or it [can't be kept](Family::check).
    async fn begin(&self, ctx: &Ctx, family: &Family) -> Result<()>;

    /// Shows a family, ended or not.
    ///
    /// # Errors
    /// Any kind: nobody could find out.
    async fn family(&self, ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>>;

    /// Renews: if the generation is the one that is shown and the family [is live](Family::is_live), the next one takes its
    /// place, unconfirmed and without retries, and `rotated_at`, `last_used_at` and `idle_end` are set. Returns whether it did.
    ///
    /// # Errors
    /// Any kind: it is not known whether it did.
    async fn renew(&self, ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool>;

    /// Counts a retry: if the family is live, its generation is the one after that shown, is not confirmed, was
    /// made less than `grace` from `at` (to either side), and has had less than `most` retries. Changes nothing else. Returns whether it did.
    ///
    /// # Errors
    /// Any kind: it is not known whether it did.
    async fn retry(&self, ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool>;

    /// Notes that this generation, if it still is the one that is good, was seen in use.
    ///
    /// # Errors
    /// Any kind: it is not known whether that is noted.
    async fn confirm(&self, ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()>;

    /// Ends families that have not ended, and revokes in the same atomic write the access tokens that came with them, as
    /// [`revoke`](Revocations::revoke) does. Returns how many families have ended by it; what is unknown is zero, and
    /// revoked all the same.
    ///
    /// Who begins a family and then asks whether its login was revoked is told of an end of all that is under way, or that
    /// end finds the family.
    ///
    /// # Errors
    /// Any kind: it is not known whether it did.
    async fn end(&self, ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64>;

    /// Lists the live families of a login, the newest first, at most `most`.
    ///
    /// # Errors
    /// Any kind: the list would have a hole.
    async fn sessions(
        &self,
        ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>>;

    /// Deletes records of any realm whose absolute end has come, and revocations that need not be remembered: at most `most` of
    /// each. Returns how many are gone.
    ///
    /// # Errors
    /// Any kind. What was not deleted is found again.
    async fn clean(&self, ctx: &Ctx, now: Millis, most: u32) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = FamilyId::new([0, 1, 2, 15, 16, 0x9f, 0xa0, 0xff, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "0001020f109fa0ff08090a0b0c0d0eff");
        assert_eq!(id.to_string().parse::<FamilyId>().unwrap(), id);
        for wrong in [
            "",
            "0001020F109fa0ff08090a0b0c0d0eff",
            "0001",
            &"0".repeat(31),
            &"0".repeat(33),
            &"é".repeat(16),
        ] {
            assert_eq!(wrong.parse::<FamilyId>().unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        }
    }

    #[test]
    fn a_reason_is_read_as_it_is_stored() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(EndReason::named("Logout"), None);
    }
}
