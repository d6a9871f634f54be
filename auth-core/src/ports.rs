//! Ports: what the parts need of each other beside the questions.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::{
    AccountState, CacheUse, Ctx, EndReason, FamilyId, Lock, Login, Lookup, ObjectRef, Password, Principal,
    RealmId, Result, SourceInfo, StoredHash, Verdict,
};

/// Spends hash jobs that no account asks for, so that all rejections cost the same.
#[async_trait]
pub trait HashCheck: fmt::Debug + Send + Sync {
    /// Does the work of one verification with the preferred parameters, through the same bounded queue,
    /// and notes it in `ctx`.
    ///
    /// # Errors
    /// [`Overloaded`](crate::ErrorKind::Overloaded) if the queue is full.
    async fn pad(&self, ctx: &Ctx, password: &Password) -> Result<()>;
}

/// Finds a source's own record of a person whom another source knows: a realm's `link`.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Returns the name, fingerprint and capabilities of the source whose people it resolves to.
    fn source(&self) -> &SourceInfo;

    /// Resolves a principal of another source to one of this source.
    ///
    /// # Errors
    /// Any kind: it could not find out.
    async fn resolve(&self, ctx: &Ctx, foreign: &Principal) -> Result<Lookup<Principal>>;

    /// Answers [`resolve`](Self::resolve) from memory, without waiting; `None` if it can't.
    fn peek_resolve(&self, ctx: &Ctx, foreign: &Principal) -> Option<Lookup<Principal>> {
        let _ = (ctx, foreign);
        None
    }
}

/// Remembers which source a login was found in.
///
/// # Contract
/// - Entries outlive every cache lifetime: an outage must not let a twin account in a later source win.
/// - Forgetting is allowed at any time (bounded memory); it costs a question, never a wrong answer.
pub trait Owners: fmt::Debug + Send + Sync {
    /// Returns the source that the login was last found in.
    fn owner(&self, login: &Login) -> Option<Arc<str>>;
    /// Remembers the source that the login was found in.
    fn remember(&self, login: &Login, source: &Arc<str>);
    /// Forgets the login.
    fn forget(&self, login: &Login);
    /// Forgets every login of a realm.
    fn forget_realm(&self, realm: &str);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOwners;

impl Owners for NoOwners {
    fn owner(&self, _login: &Login) -> Option<Arc<str>> {
        None
    }
    fn remember(&self, _login: &Login, _source: &Arc<str>) {}
    fn forget(&self, _login: &Login) {}
    fn forget_realm(&self, _realm: &str) {}
}

/// One login, decided. Never holds a secret.
#[derive(Debug)]
pub struct LoginEvent<'a> {
    /// The realm.
    pub realm: &'a RealmId,
    /// The login in normal form; where that can't be, as it was typed, at most 255 bytes of it, control
    /// characters replaced.
    pub login: &'a str,
    /// What came of it.
    pub outcome: &'a Result<Verdict>,
    /// How long it took.
    pub took: Duration,
    /// Whether the answer came from memory alone.
    pub remembered: bool,
    /// How caches took part: [`Stale`](CacheUse::Stale) where an answer past its life stood in for a source that
    /// had failed.
    pub cache: CacheUse,
}

/// What has happened to a family of refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionChange {
    /// A login has begun it.
    Begun,
    /// It was renewed.
    Renewed,
    /// The newest token was given again to who had lost it.
    Retried,
    /// A token came back that had been replaced: somebody has a copy. The family has ended, unless that is set
    /// to be told only.
    ReuseDetected,
    /// Another client than it was given to has shown a token of it.
    ClientMismatch,
    /// A token was shown that is authentic and newer than any that was made: the store was set back, or the server's
    /// secret is known to somebody.
    Forged,
    /// It has ended before its time.
    Ended(EndReason),
}

impl SessionChange {
    /// Returns the name under which it is logged and counted.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "login",
            Self::Renewed => "renew",
            Self::Retried => "retry_in_grace",
            Self::ReuseDetected => "refresh_reuse_detected",
            Self::ClientMismatch => "client_mismatch",
            Self::Forged => "forged_generation",
            Self::Ended(_) => "ended",
        }
    }
}

/// Something has happened to a family of refresh tokens, or to all of a login or realm. Never holds a token.
#[derive(Debug)]
pub struct SessionEvent<'a> {
    /// The realm.
    pub realm: &'a str,
    /// Whose: the login in normal form; none if it is about the whole realm.
    pub login: Option<&'a str>,
    /// Which family; none if it is about all of them.
    pub family: Option<FamilyId>,
    /// What.
    pub change: SessionChange,
    /// To which client it was given.
    pub client: Option<&'a str>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// How old the token was that was shown, since it was replaced or made, if it is known.
    pub age: Option<Duration>,
}

/// Hears of every login and of what happens to sessions: for the audit log and the metrics.
pub trait Audit: fmt::Debug + Send + Sync {
    /// Hears of one login. Must not wait.
    fn login(&self, event: &LoginEvent<'_>);

    /// Hears of a session. Must not wait.
    fn session(&self, event: &SessionEvent<'_>);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn login(&self, _event: &LoginEvent<'_>) {}
    fn session(&self, _event: &SessionEvent<'_>) {}
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It changed something.
    Done,
    /// Everything was so already.
    Unchanged,
    /// The person or the object is not there.
    NotFound,
}

/// A person to add.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The login; kept in normal form.
    pub login: Login,
    /// The stored hash, if there is a password.
    pub hash: Option<StoredHash>,
    /// Groups to put the person in; made if need be.
    pub groups: Vec<String>,
}

/// A change of an account's state. What is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct StateChange {
    /// Switches the account off or on.
    pub disabled: Option<bool>,
    /// Locks or unlocks it.
    pub lock: Option<Lock>,
    /// Sets or removes its end.
    pub expires_at: Option<Option<SystemTime>>,
    /// Demands a new password, or no longer.
    pub must_change: Option<bool>,
}

/// A person as a directory lists them. Never holds the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// Who it is.
    pub principal: Principal,
    /// The state of the account.
    pub state: AccountState,
    /// Whether there is a stored hash, and the scheme a column names.
    pub password: Option<Option<String>>,
}

/// Writes users, groups and rights.
///
/// # Contract
/// - Each call is one transaction: all of it or nothing.
/// - A write has reached the store when it returns; invalidating caches comes after, and is the caller's.
/// - Logins are stored in normal form; one login has one record.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync {
    /// Returns the source's name, fingerprint and capabilities.
    fn source(&self) -> &SourceInfo;

    /// Adds a person; `Unchanged` if the login is taken.
    ///
    /// # Errors
    /// Any kind: nothing was written, or it is not known.
    async fn add_user(&self, ctx: &Ctx, user: &NewUser) -> Result<Change>;

    /// Lists people in the order of their logins, after `after`, at most `limit`.
    ///
    /// # Errors
    /// Any kind.
    async fn users(
        &self,
        ctx: &Ctx,
        realm: &RealmId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<UserEntry>>;

    /// Shows one person.
    ///
    /// # Errors
    /// Any kind.
    async fn user(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<UserEntry>>;

    /// Sets a person's stored hash.
    ///
    /// # Errors
    /// Any kind.
    async fn set_hash(&self, ctx: &Ctx, login: &Login, hash: &StoredHash) -> Result<Change>;

    /// Changes the state of an account.
    ///
    /// # Errors
    /// Any kind.
    async fn set_state(&self, ctx: &Ctx, login: &Login, change: &StateChange) -> Result<Change>;

    /// Deletes a person with their memberships and rights.
    ///
    /// # Errors
    /// Any kind.
    async fn delete_user(&self, ctx: &Ctx, login: &Login) -> Result<Change>;

    /// Puts a person in a group, which is made if need be.
    ///
    /// # Errors
    /// Any kind.
    async fn join(&self, ctx: &Ctx, login: &Login, group: &str) -> Result<Change>;

    /// Takes a person out of a group.
    ///
    /// # Errors
    /// Any kind.
    async fn leave(&self, ctx: &Ctx, login: &Login, group: &str) -> Result<Change>;

    /// Lists the names of all groups.
    ///
    /// # Errors
    /// Any kind.
    async fn groups(&self, ctx: &Ctx) -> Result<Vec<String>>;

    /// Lists the names of all declared domains.
    ///
    /// # Errors
    /// Any kind.
    async fn domains(&self, ctx: &Ctx) -> Result<Vec<String>>;

    /// Adds an object and declares its domain; `Unchanged` if it is there.
    ///
    /// # Errors
    /// Any kind.
    async fn add_object(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Change>;

    /// Deletes an object with all rights on it.
    ///
    /// # Errors
    /// Any kind.
    async fn delete_object(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Change>;

    /// Grants a right on an object.
    ///
    /// # Errors
    /// Any kind.
    async fn grant(&self, ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change>;

    /// Revokes a right on an object.
    ///
    /// # Errors
    /// Any kind.
    async fn revoke(&self, ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change>;
}
