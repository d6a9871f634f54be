//! A wrapper that counts what is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Ctx, GroupOracle, GroupSet, Login, Lookup, Member, ObjectPerms,
    ObjectRef, Password, PasswordSource, Principal, Result, SourceInfo, StoredHash, TokenCache, TokenId,
    TokenState, Verdict, Watch,
};

/// Counts the calls of each method and passes them on.
///
/// Implements every trait that what it wraps does. A call counts when it is first polled.
#[derive(Debug)]
pub struct CountingSource<S: ?Sized> {
    cells: Cells,
    inner: Arc<S>,
}

#[derive(Debug, Default)]
struct Cells {
    verify: AtomicU64,
    account: AtomicU64,
    replace_hash: AtomicU64,
    groups_of: AtomicU64,
    is_member: AtomicU64,
    access: AtomicU64,
    access_many: AtomicU64,
    get: AtomicU64,
    put: AtomicU64,
    peek: AtomicU64,
}

/// How often each method was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of `verify`.
    pub verify: u64,
    /// Calls of `account`.
    pub account: u64,
    /// Calls of `replace_hash`.
    pub replace_hash: u64,
    /// Calls of `groups_of`.
    pub groups_of: u64,
    /// Calls of `is_member`.
    pub is_member: u64,
    /// Calls of `access`.
    pub access: u64,
    /// Calls of `access_many`.
    pub access_many: u64,
    /// Calls of `get`.
    pub get: u64,
    /// Calls of `put`.
    pub put: u64,
    /// Calls of any `peek_*`.
    pub peek: u64,
}

impl Counts {
    /// Returns the number of calls that may wait: all but the `peek_*`.
    #[must_use]
    pub const fn asked(&self) -> u64 {
        self.verify
            + self.account
            + self.replace_hash
            + self.groups_of
            + self.is_member
            + self.access
            + self.access_many
            + self.get
            + self.put
    }
}

impl<S: ?Sized> CountingSource<S> {
    /// Wraps a source.
    #[must_use]
    pub fn new(inner: Arc<S>) -> Self {
        Self { cells: Cells::default(), inner }
    }

    /// Returns what is wrapped.
    #[must_use]
    pub const fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |cell: &AtomicU64| cell.load(Ordering::SeqCst);
        let cells = &self.cells;
        Counts {
            verify: read(&cells.verify),
            account: read(&cells.account),
            replace_hash: read(&cells.replace_hash),
            groups_of: read(&cells.groups_of),
            is_member: read(&cells.is_member),
            access: read(&cells.access),
            access_many: read(&cells.access_many),
            get: read(&cells.get),
            put: read(&cells.put),
            peek: read(&cells.peek),
        }
    }

    /// Returns the number of calls so far that may wait: all but the `peek_*`.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.counts().asked()
    }
}

fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::SeqCst);
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: PasswordSource + ?Sized> PasswordSource for CountingSource<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        count(&self.cells.verify);
        self.inner.verify(ctx, login, password).await
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        count(&self.cells.account);
        self.inner.account(ctx, login).await
    }

    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        count(&self.cells.peek);
        self.inner.peek_verify(ctx, login, password)
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        count(&self.cells.peek);
        self.inner.peek_account(ctx, login)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AccountSource + ?Sized> AccountSource for CountingSource<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        count(&self.cells.account);
        self.inner.account(ctx, login).await
    }

    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        count(&self.cells.replace_hash);
        self.inner.replace_hash(ctx, who, old, new).await
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        count(&self.cells.peek);
        self.inner.peek_account(ctx, login)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: GroupOracle + ?Sized> GroupOracle for CountingSource<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        count(&self.cells.groups_of);
        self.inner.groups_of(ctx, who).await
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        count(&self.cells.is_member);
        self.inner.is_member(ctx, who, group).await
    }

    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        count(&self.cells.peek);
        self.inner.peek_groups(ctx, who)
    }

    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        count(&self.cells.peek);
        self.inner.peek_member(ctx, who, group)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectPerms + ?Sized> ObjectPerms for CountingSource<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        count(&self.cells.access);
        self.inner.access(ctx, who, object, mode).await
    }

    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        count(&self.cells.access_many);
        self.inner.access_many(ctx, who, objects, mode).await
    }

    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        count(&self.cells.peek);
        self.inner.peek_access(ctx, who, object, mode)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: TokenCache + ?Sized> TokenCache for CountingSource<S> {
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        count(&self.cells.get);
        self.inner.get(ctx, id).await
    }

    async fn put(
        &self,
        ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        count(&self.cells.put);
        self.inner.put(ctx, id, state, ttl, watch).await
    }

    fn peek_token(&self, ctx: &Ctx, id: &TokenId) -> Option<Lookup<Arc<TokenState>>> {
        count(&self.cells.peek);
        self.inner.peek_token(ctx, id)
    }
}
