//! The questions: four traits, and the one for stores that show hashes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Access, Account, Ctx, GroupSet, Login, Lookup, Member, ObjectRef, Password, Principal, Result,
    SourceInfo, StoredHash, TokenId, TokenState, Verdict, Watch,
};

/// Decides whether a password is right.
///
/// # Contract
/// - `Rejected(UnknownUser)` means that the source knows that nobody has this login. A source that
///   can't tell unknown from wrong says so in its [capabilities](crate::Capabilities).
/// - Disabled, locked and expired are told only after a right password.
/// - An unreadable hash, two matching records or a failure is an error, never a rejection.
/// - A principal is the one that was found under this login; see [`Principal::found`].
/// - Dropping a future is allowed at any time and leaves the source usable.
///
/// A store that shows hashes implements [`AccountSource`] instead and is wrapped, so that hashing
/// happens in one place, in one bounded pool.
#[async_trait]
pub trait PasswordSource: fmt::Debug + Send + Sync {
    /// Returns the source's name, fingerprint and capabilities.
    fn source(&self) -> &SourceInfo;

    /// Decides.
    ///
    /// # Errors
    /// Any kind: the source could not find out.
    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict>;

    /// Tells who that is, without a password.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the source can't tell; otherwise any kind.
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>>;

    /// Answers [`verify`](Self::verify) from memory, without waiting; `None` if it can't.
    ///
    /// The default is the safe one: a wrapper that must see each question can't be bypassed by a cache
    /// under it.
    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        let _ = (ctx, login, password);
        None
    }

    /// Answers [`account`](Self::account) from memory, without waiting; `None` if it can't.
    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        let _ = (ctx, login);
        None
    }
}

/// Shows accounts: who, in what state, with which stored hash.
///
/// # Contract
/// - `NotFound` means that the source knows that nobody has this login.
/// - Two matching records are [`Ambiguous`](crate::ErrorKind::Ambiguous), never the first of them.
/// - What is found is compared with what was asked for; see [`Account::found`].
#[async_trait]
pub trait AccountSource: fmt::Debug + Send + Sync {
    /// Returns the source's name, fingerprint and capabilities.
    fn source(&self) -> &SourceInfo;

    /// Shows the account of a login.
    ///
    /// # Errors
    /// Any kind: the source could not find out.
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>>;

    /// Replaces a stored hash if it is still `old`, in one atomic step. Returns whether it did.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the source can't write; otherwise any kind.
    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool>;

    /// Answers [`account`](Self::account) from memory, without waiting; `None` if it can't.
    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        let _ = (ctx, login);
        None
    }
}

/// Knows who is in which group.
///
/// # Contract
/// - The answer is complete: all groups, nested ones included. A failure is an error, never a shorter list.
/// - `NotFound` means that the oracle does not know this person; they are in none of its groups.
/// - A group that does not exist has no members.
/// - An oracle is asked only about principals of its own source; see the realm's `link`.
#[async_trait]
pub trait GroupOracle: fmt::Debug + Send + Sync {
    /// Returns the source's name, fingerprint and capabilities.
    fn source(&self) -> &SourceInfo;

    /// Returns all groups of a person.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the oracle can't list; otherwise any kind.
    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>>;

    /// Reports whether a person is in a group. For oracles that can't list; the default asks
    /// [`groups_of`](Self::groups_of).
    ///
    /// # Errors
    /// Any kind: the oracle could not find out.
    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        Ok(Member::of(&self.groups_of(ctx, who).await?, group))
    }

    /// Answers [`groups_of`](Self::groups_of) from memory, without waiting; `None` if it can't.
    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        let _ = (ctx, who);
        None
    }

    /// Answers [`is_member`](Self::is_member) from memory, without waiting; `None` if it can't. The default
    /// looks into [`peek_groups`](Self::peek_groups).
    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        Some(Member::of(&self.peek_groups(ctx, who)?, group))
    }
}

/// Knows who may do what with which object.
///
/// # Contract
/// - `NotFound` means that there is no such object, `Deny` that there is and the right is not.
/// - A mode of `None` asks for any right at all.
/// - A domain that the store does not know is [`Invalid`](crate::ErrorKind::Invalid), never a `Deny`.
#[async_trait]
pub trait ObjectPerms: fmt::Debug + Send + Sync {
    /// Returns the source's name, fingerprint and capabilities.
    fn source(&self) -> &SourceInfo;

    /// Tells whether a person has a right on an object.
    ///
    /// # Errors
    /// Any kind: the store could not find out.
    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access>;

    /// Answers many questions at once, in their order; in one round trip where the store can.
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let mut answers = Vec::with_capacity(objects.len());
        for object in objects {
            answers.push(self.access(ctx, who, object, mode).await);
        }
        answers
    }

    /// Answers [`access`](Self::access) from memory, without waiting; `None` if it can't.
    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        let _ = (ctx, who, object, mode);
        None
    }
}

/// Remembers the state of tokens that were validated.
///
/// # Contract
/// - Lossy: an entry may go at any time, and a failure is a miss.
/// - An entry never outlives its [`expires_at`](TokenState::expires_at).
/// - Only good tokens are put; a forged token leaves nothing behind.
/// - An invalidation that covers a token's person voids its state, as it does everything about them.
/// - What was validated before an [invalidation](crate::Fence::invalidate) is not kept, even if it is put after
///   it: whoever puts has begun to [watch](crate::Fence::watch) the stack's fence before the token was validated.
/// - It does not revoke: a revoked token is void by what is kept for good, not by what is forgotten here.
#[async_trait]
pub trait TokenCache: fmt::Debug + Send + Sync {
    /// Returns the state of a token.
    ///
    /// # Errors
    /// Any kind; the caller then validates the token itself.
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>>;

    /// Remembers the state of a token for at most `ttl` from when its validation began, which is when `watch`
    /// did: nothing is remembered if there was an invalidation since, since it may have been about this person,
    /// and nothing takes the place of a state whose validation began later.
    ///
    /// # Errors
    /// Any kind; nothing is remembered then.
    async fn put(
        &self,
        ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()>;

    /// Answers [`get`](Self::get) from memory, without waiting; `None` if it can't.
    fn peek_token(&self, ctx: &Ctx, id: &TokenId) -> Option<Lookup<Arc<TokenState>>> {
        let _ = (ctx, id);
        None
    }
}
