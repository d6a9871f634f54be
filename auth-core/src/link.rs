//! Whom an oracle may be asked about: its own people, and those that a link leads to.

use std::sync::Arc;

use async_trait::async_trait;

use crate::hash::same;
use crate::{
    Access, AccountSource, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Lookup, Member, ObjectPerms,
    ObjectRef, PasswordSource, Principal, Resolver, Result, SourceInfo, Step,
};

/// How an oracle treats people of other sources.
#[derive(Debug, Clone, Default)]
pub enum Link {
    /// It is not asked about them: they are in none of its groups and have none of its rights.
    #[default]
    None,
    /// Their own record in the oracle's source is looked up first.
    Through(Arc<dyn Resolver>),
}

/// Asks an oracle only about principals of its own source, or about what its [`Link`] resolves others to.
///
/// Ids belong to the source that issued them: two sources may use one id for two people. Put it outside
/// the cache, so that entries are keyed by the source's own principals.
#[derive(Debug)]
pub struct Linked<O: ?Sized> {
    link: Link,
    // The source's, so that a question from memory need not ask for it.
    own: Arc<str>,
    inner: Arc<O>,
}

impl<O: GroupOracle + ?Sized> Linked<O> {
    /// Wraps an oracle of groups.
    pub fn groups(inner: Arc<O>, link: Link) -> Self {
        Self { link, own: Arc::clone(inner.source().name()), inner }
    }
}

impl<O: ObjectPerms + ?Sized> Linked<O> {
    /// Wraps an oracle of rights.
    pub fn objects(inner: Arc<O>, link: Link) -> Self {
        Self { link, own: Arc::clone(inner.source().name()), inner }
    }
}

impl<O: ?Sized + Send + Sync> Linked<O> {
    /// The oracle's own principal of somebody from elsewhere, without waiting; `None` if that needs a question.
    #[cold]
    fn peek_linked(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<Principal>> {
        match &self.link {
            Link::None => Some(Lookup::NotFound),
            Link::Through(resolver) => {
                let resolved = resolver.peek_resolve(ctx, who)?;
                is_own(&resolved, &self.own, who).then_some(resolved)
            }
        }
    }

    async fn own(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<Principal>> {
        let own = &self.own;
        if same(who.source(), own) {
            return Ok(Lookup::Found(who.clone()));
        }
        let resolved = match &self.link {
            Link::None => Lookup::NotFound,
            Link::Through(resolver) => resolver.resolve(ctx, who).await?,
        };
        if !is_own(&resolved, own, who) {
            let error = Error::new(ErrorKind::Internal, "a link led to a person of another source or realm");
            return Err(error.at(Arc::clone(own)));
        }
        ctx.note(|| {
            let outcome = match (&resolved, &self.link) {
                (Lookup::Found(found), _) => format!("{} is {} here", who.source(), found.id()),
                (Lookup::NotFound, Link::None) => format!("not asked about people of {}", who.source()),
                (Lookup::NotFound, Link::Through(_)) => {
                    format!("does not know this person of {}", who.source())
                }
            };
            Step::new("link", outcome).at(own)
        });
        Ok(resolved)
    }
}

/// Ids belong to their source: an oracle is never asked about anybody else's, wherever a link leads.
fn is_own(resolved: &Lookup<Principal>, own: &Arc<str>, who: &Principal) -> bool {
    match resolved {
        Lookup::Found(found) => same(found.source(), own) && found.realm() == who.realm(),
        Lookup::NotFound => true,
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: GroupOracle + ?Sized> GroupOracle for Linked<O> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        match self.own(ctx, who).await? {
            Lookup::Found(own) => self.inner.groups_of(ctx, &own).await,
            Lookup::NotFound => Ok(Lookup::NotFound),
        }
    }
    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        match self.own(ctx, who).await? {
            Lookup::Found(own) => self.inner.is_member(ctx, &own, group).await,
            Lookup::NotFound => Ok(Member::No),
        }
    }
    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        if same(who.source(), &self.own) {
            return self.inner.peek_groups(ctx, who);
        }
        match self.peek_linked(ctx, who)? {
            Lookup::Found(own) => self.inner.peek_groups(ctx, &own),
            Lookup::NotFound => Some(Lookup::NotFound),
        }
    }
    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        if same(who.source(), &self.own) {
            return self.inner.peek_member(ctx, who, group);
        }
        match self.peek_linked(ctx, who)? {
            Lookup::Found(own) => self.inner.peek_member(ctx, &own, group),
            Lookup::NotFound => Some(Member::No),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: ObjectPerms + ?Sized> ObjectPerms for Linked<O> {
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
        match self.own(ctx, who).await? {
            Lookup::Found(own) => self.inner.access(ctx, &own, object, mode).await,
            Lookup::NotFound => Ok(Access::Deny),
        }
    }
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        match self.own(ctx, who).await {
            Ok(Lookup::Found(own)) => self.inner.access_many(ctx, &own, objects, mode).await,
            Ok(Lookup::NotFound) => objects.iter().map(|_| Ok(Access::Deny)).collect(),
            Err(error) => objects.iter().map(|_| Err(error.clone())).collect(),
        }
    }
    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        if same(who.source(), &self.own) {
            return self.inner.peek_access(ctx, who, object, mode);
        }
        match self.peek_linked(ctx, who)? {
            Lookup::Found(own) => self.inner.peek_access(ctx, &own, object, mode),
            Lookup::NotFound => Some(Access::Deny),
        }
    }
}

/// The link `login`: the person who has the same login in the oracle's source.
///
/// To be chosen only where one login means one person in both sources.
#[derive(Debug)]
pub struct ByLogin(Accounts);

#[derive(Debug)]
enum Accounts {
    Shown(Arc<dyn AccountSource>),
    Decided(Arc<dyn PasswordSource>),
}

impl ByLogin {
    /// Resolves through the accounts of the oracle's source, cached like any other question.
    #[must_use]
    pub fn new(accounts: Arc<dyn AccountSource>) -> Self {
        Self(Accounts::Shown(accounts))
    }

    /// The same where that source decides about passwords by itself.
    #[must_use]
    pub fn of_decider(source: Arc<dyn PasswordSource>) -> Self {
        Self(Accounts::Decided(source))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Resolver for ByLogin {
    fn source(&self) -> &SourceInfo {
        match &self.0 {
            Accounts::Shown(accounts) => accounts.source(),
            Accounts::Decided(source) => source.source(),
        }
    }
    async fn resolve(&self, ctx: &Ctx, foreign: &Principal) -> Result<Lookup<Principal>> {
        let account = match &self.0 {
            Accounts::Shown(accounts) => accounts.account(ctx, foreign.login()).await?,
            Accounts::Decided(source) => source.account(ctx, foreign.login()).await?,
        };
        Ok(account.map(|account| account.principal().clone()))
    }
    fn peek_resolve(&self, ctx: &Ctx, foreign: &Principal) -> Option<Lookup<Principal>> {
        let account = match &self.0 {
            Accounts::Shown(accounts) => accounts.peek_account(ctx, foreign.login())?,
            Accounts::Decided(source) => source.peek_account(ctx, foreign.login())?,
        };
        Some(account.map(|account| account.principal().clone()))
    }
}
