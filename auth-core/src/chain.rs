//! Several sources of one trait as one: in order for passwords, by union for groups, by domain for rights.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::text::same;
use crate::{
    Access, Account, Capabilities, Ctx, Error, ErrorKind, Fingerprint, GroupOracle, GroupSet, Login, Lookup,
    Member, ObjectPerms, ObjectRef, Owners, Password, PasswordSource, Principal, Reject, Result, SourceInfo,
    Step, Verdict,
};

/// What a source is for in a [`PasswordChain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It knows people who may log in.
    #[default]
    Decide,
    /// It knows people who may not. It is asked before the others; whoever it knows is refused, and its
    /// failure stops the chain.
    Deny,
}

/// What a chain does where the table lets the operator choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask nobody else.
    Stop,
    /// Remember it and ask the next source.
    Continue,
}

/// One source of a [`PasswordChain`] and its settings.
#[derive(Debug, Clone)]
pub struct ChainEntry {
    source: Arc<dyn PasswordSource>,
    role: Role,
    on_bad_password: Next,
    on_error: Next,
}

impl ChainEntry {
    /// Puts a source in a chain with the default table: a wrong password stops, an error goes on.
    #[must_use]
    pub fn new(source: Arc<dyn PasswordSource>) -> Self {
        Self { source, role: Role::Decide, on_bad_password: Next::Stop, on_error: Next::Continue }
    }

    /// Sets what the source is for.
    #[must_use]
    pub const fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Sets what a wrong or missing password does. With `Continue` one attempt may cost a hash job a source.
    #[must_use]
    pub const fn on_bad_password(mut self, next: Next) -> Self {
        self.on_bad_password = next;
        self
    }

    /// Sets what an error does.
    #[must_use]
    pub const fn on_error(mut self, next: Next) -> Self {
        self.on_error = next;
        self
    }
}

/// Password sources in order.
///
/// | the source says | the chain |
/// | --- | --- |
/// | accepted | accepts |
/// | disabled, locked, expired, must change, not now | rejects |
/// | unknown user | goes on |
/// | bad password, no password | stops with a soft no, or goes on |
/// | error | remembers it and goes on, or stops with it |
/// | a deny source: unknown / known / error | goes on / rejects / stops with the error |
/// | the end | a remembered error outranks a soft no, which outranks unknown |
///
/// It remembers in which source a login was found. That source is asked first, and if it fails the chain
/// stops with the error: an outage can't let a twin account in a later source win. A source that was found
/// while another one failed does not become the owner, nor one that says "bad password" but can't tell that
/// from "unknown".
///
/// A chain may be a source of another chain. Give each its own [`Owners`]: entries are by login alone. An
/// inner chain's error can hide that a later source of it knows the login; where twins are possible, let the
/// outer chain stop at it.
#[derive(Debug)]
pub struct PasswordChain {
    info: SourceInfo,
    deny: Vec<ChainEntry>,
    decide: Vec<ChainEntry>,
    owners: Arc<dyn Owners>,
}

/// What one source's answer means for the chain.
enum Told<T> {
    /// The login is known here and this is the answer, whatever else was heard.
    Final(T),
    /// The login is known here; a "no" that an error elsewhere outranks.
    Soft(T),
    /// Nobody here has this login.
    Unknown,
}

impl PasswordChain {
    /// Makes a chain.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if no source decides, or one is named twice.
    pub fn new(entries: Vec<ChainEntry>, owners: Arc<dyn Owners>) -> Result<Self> {
        let (deny, decide): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.role == Role::Deny);
        if decide.is_empty() {
            return Err(Error::new(ErrorKind::Misconfigured, "a chain needs a source that decides"));
        }
        let mut names: Vec<_> =
            deny.iter().chain(&decide).map(|entry| Arc::clone(entry.source.source().name())).collect();
        names.sort_unstable();
        if let Some(twice) =
            names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first())?)
        {
            return Err(
                Error::new(ErrorKind::Misconfigured, "a chain names a source twice").at(Arc::clone(twice))
            );
        }
        // A chain can tell "unknown" only if each of its sources can.
        let tells_unknown = decide.iter().all(|entry| entry.source.source().capabilities().tells_unknown);
        let capabilities = Capabilities { tells_unknown, ..Capabilities::default() };
        let info = SourceInfo::new("chain", Fingerprint::default()).with_capabilities(capabilities);
        Ok(Self { info, deny, decide, owners })
    }

    fn owner(&self, login: &Login) -> Option<&ChainEntry> {
        let owner = self.owners.owner(login)?;
        self.decide.iter().find(|entry| *entry.source.source().name() == owner)
    }

    /// Whether a deny source knows the login.
    async fn denied(&self, ctx: &Ctx, login: &Login) -> Result<bool> {
        for entry in &self.deny {
            if let Lookup::Found(_) = entry.source.account(ctx, login).await? {
                ctx.note(|| Step::new("chain", "on a deny list").at(entry.source.source().name()));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn peek_denied(&self, ctx: &Ctx, login: &Login) -> Option<bool> {
        for entry in &self.deny {
            if let Lookup::Found(_) = entry.source.peek_account(ctx, login)? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Asks the owner and then the others, in order, until the table says stop.
    async fn walk<T, Q>(&self, ctx: &Ctx, login: &Login, question: &Q) -> Result<Option<T>>
    where
        T: Send,
        Q: Question<T>,
    {
        let owner = self.owner(login);
        let mut failed: Option<Error> = None;
        let mut soft: Option<T> = None;
        if let Some(entry) = owner {
            ctx.note(|| Step::new("chain", "known owner").at(entry.source.source().name()));
            match question.ask(ctx, &entry.source, login).await? {
                Told::Final(answer) => return Ok(Some(answer)),
                Told::Soft(no) if entry.on_bad_password == Next::Stop => {
                    note_stop(ctx, entry);
                    return Ok(Some(no));
                }
                Told::Soft(no) => soft = Some(no),
                Told::Unknown => self.owners.forget(login),
            }
        }
        for entry in &self.decide {
            if owner.is_some_and(|owner| std::ptr::eq(owner, entry)) {
                continue;
            }
            match question.ask(ctx, &entry.source, login).await {
                Ok(Told::Final(answer)) => {
                    self.found(login, entry, failed.is_none());
                    return Ok(Some(answer));
                }
                Ok(Told::Soft(no)) => {
                    soft.get_or_insert(no);
                    if entry.on_bad_password == Next::Stop {
                        note_stop(ctx, entry);
                        // A source that can't tell unknown from wrong says this of everybody.
                        let known = entry.source.source().capabilities().tells_unknown;
                        self.found(login, entry, known && failed.is_none());
                        break;
                    }
                }
                Ok(Told::Unknown) => {}
                Err(error) if entry.on_error == Next::Stop => return Err(error),
                Err(error) => failed = Some(failed.unwrap_or(error)),
            }
        }
        match failed {
            Some(error) => {
                ctx.note(|| Step::new("chain", "an error outranks every soft no"));
                Err(error)
            }
            None => Ok(soft),
        }
    }

    fn found(&self, login: &Login, entry: &ChainEntry, sure: bool) {
        // While an earlier source fails, this may be a twin: not the owner.
        if sure {
            self.owners.remember(login, entry.source.source().name());
        }
    }
}

fn note_stop(ctx: &Ctx, entry: &ChainEntry) {
    ctx.note(|| {
        Step::new("chain", "a wrong password here asks nobody else").at(entry.source.source().name())
    });
}

/// A question that a chain puts to one source after the other.
#[async_trait]
trait Question<T>: Send + Sync {
    async fn ask(&self, ctx: &Ctx, source: &Arc<dyn PasswordSource>, login: &Login) -> Result<Told<T>>;
}

struct Verify<'a>(&'a Password);

#[async_trait]
impl Question<Verdict> for Verify<'_> {
    async fn ask(&self, ctx: &Ctx, source: &Arc<dyn PasswordSource>, login: &Login) -> Result<Told<Verdict>> {
        let verdict = source.verify(ctx, login, self.0).await?;
        Ok(match verdict {
            Verdict::Rejected(Reject::UnknownUser) => Told::Unknown,
            Verdict::Rejected(Reject::BadPassword | Reject::NoPassword) => {
                ctx.note_no();
                Told::Soft(verdict)
            }
            // The rest: the password was right, so this is the person.
            Verdict::Accepted(_) | Verdict::Rejected(_) => Told::Final(verdict),
        })
    }
}

struct Who;

#[async_trait]
impl Question<Account> for Who {
    async fn ask(&self, ctx: &Ctx, source: &Arc<dyn PasswordSource>, login: &Login) -> Result<Told<Account>> {
        Ok(match source.account(ctx, login).await? {
            Lookup::Found(account) => Told::Final(account),
            Lookup::NotFound => Told::Unknown,
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PasswordSource for PasswordChain {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        if self.denied(ctx, login).await? {
            return Ok(Verdict::Rejected(Reject::Disabled));
        }
        let verdict = self.walk(ctx, login, &Verify(password)).await?;
        Ok(verdict.unwrap_or(Verdict::Rejected(Reject::UnknownUser)))
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        if self.denied(ctx, login).await? {
            return Ok(Lookup::NotFound);
        }
        Ok(self.walk(ctx, login, &Who).await?.map_or(Lookup::NotFound, Lookup::Found))
    }

    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        if self.peek_denied(ctx, login)? {
            return None;
        }
        // Only a yes: whether a "no" stands is for the table, which the walk knows.
        let peek = |entry: &ChainEntry| {
            let verdict = entry.source.peek_verify(ctx, login, password)?;
            matches!(verdict, Verdict::Accepted(_)).then_some(verdict)
        };
        if let Some(owner) = self.owner(login) {
            return peek(owner);
        }
        for entry in &self.decide {
            if let Some(verdict) = peek(entry) {
                return Some(verdict);
            }
            // The next source may speak only if this one is known not to know the login.
            let Some(Lookup::NotFound) = entry.source.peek_account(ctx, login) else { return None };
        }
        None
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        if self.peek_denied(ctx, login)? {
            return Some(Lookup::NotFound);
        }
        if let Some(owner) = self.owner(login) {
            return match owner.source.peek_account(ctx, login)? {
                Lookup::NotFound => None,
                found => Some(found),
            };
        }
        for entry in &self.decide {
            if let found @ Lookup::Found(_) = entry.source.peek_account(ctx, login)? {
                return Some(found);
            }
        }
        Some(Lookup::NotFound)
    }
}

/// Group oracles by union, in Kleene's logic: one yes is a yes; without a yes, one failure is an error.
#[derive(Debug)]
pub struct GroupUnion {
    info: SourceInfo,
    oracles: Vec<Arc<dyn GroupOracle>>,
}

impl GroupUnion {
    /// Joins oracles. Without any, nobody is in any group.
    #[must_use]
    pub fn new(oracles: Vec<Arc<dyn GroupOracle>>) -> Self {
        let lists_groups = oracles.iter().all(|oracle| oracle.source().capabilities().lists_groups);
        let capabilities = Capabilities { lists_groups, ..Capabilities::default() };
        let info = SourceInfo::new("groups", Fingerprint::default()).with_capabilities(capabilities);
        Self { info, oracles }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl GroupOracle for GroupUnion {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let mut all = Lookup::NotFound;
        // A list with a part missing is not an answer, so the first failure ends it.
        for oracle in &self.oracles {
            if let Lookup::Found(groups) = oracle.groups_of(ctx, who).await? {
                all = Lookup::Found(join(all, &groups));
            }
        }
        Ok(all)
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        let mut failed = None;
        for oracle in &self.oracles {
            match oracle.is_member(ctx, who, group).await {
                Ok(Member::Yes) => return Ok(Member::Yes),
                Ok(Member::No) => {}
                Err(error) => failed = Some(failed.unwrap_or(error)),
            }
        }
        failed.map_or(Ok(Member::No), Err)
    }

    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        let mut all = Lookup::NotFound;
        for oracle in &self.oracles {
            if let Lookup::Found(groups) = oracle.peek_groups(ctx, who)? {
                all = Lookup::Found(join(all, &groups));
            }
        }
        Some(all)
    }

    /// Joins no sets.
    #[inline]
    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        let mut all_known = true;
        for oracle in &self.oracles {
            match oracle.peek_member(ctx, who, group) {
                Some(Member::Yes) => return Some(Member::Yes),
                Some(Member::No) => {}
                None => all_known = false,
            }
        }
        all_known.then_some(Member::No)
    }
}

fn join(all: Lookup<GroupSet>, more: &GroupSet) -> GroupSet {
    match all {
        Lookup::Found(groups) => groups.union(more),
        Lookup::NotFound => more.clone(),
    }
}

/// Rights by domain: each domain has one store.
#[derive(Debug)]
pub struct DomainRouter {
    info: SourceInfo,
    // Sorted by domain.
    stores: Vec<(Arc<str>, Arc<dyn ObjectPerms>)>,
    // The store of domains that are not declared: kept by the store, not by configuration.
    others: Option<Arc<dyn ObjectPerms>>,
}

/// How many domains are looked at one by one, which costs less than a search where there are few.
const FEW_DOMAINS: usize = 8;

impl DomainRouter {
    /// Routes each domain to its store.
    pub fn new(stores: impl IntoIterator<Item = (Arc<str>, Arc<dyn ObjectPerms>)>) -> Self {
        let info = SourceInfo::new("objects", Fingerprint::default());
        let stores: BTreeMap<_, _> = stores.into_iter().collect();
        let others = stores.get("*").map(Arc::clone);
        Self { info, stores: stores.into_iter().collect(), others }
    }

    /// Goes through the declared domains.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.stores.iter().map(|(domain, _)| &**domain)
    }

    fn store(&self, object: &ObjectRef) -> Result<&Arc<dyn ObjectPerms>> {
        self.peek_store(object)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "no such domain").with("domain", object.domain()))
    }

    #[inline]
    fn peek_store(&self, object: &ObjectRef) -> Option<&Arc<dyn ObjectPerms>> {
        self.of_domain(object.domain()).or(self.others.as_ref())
    }

    #[inline(always)]
    fn of_domain(&self, name: &str) -> Option<&Arc<dyn ObjectPerms>> {
        let found = if self.stores.len() <= FEW_DOMAINS {
            self.stores.iter().find(|(domain, _)| same(domain.as_bytes(), name.as_bytes()))
        } else {
            let at = self.stores.binary_search_by(|(domain, _)| (**domain).cmp(name));
            at.ok().and_then(|at| self.stores.get(at))
        };
        found.map(|(_, store)| store)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectPerms for DomainRouter {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        self.store(object)?.access(ctx, who, object, mode).await
    }

    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        // One question a store, however the objects are mixed.
        let mut by_store: Vec<(&Arc<dyn ObjectPerms>, Vec<usize>, Vec<ObjectRef>)> = Vec::new();
        let mut answers: Vec<Result<Access>> = Vec::with_capacity(objects.len());
        for (at, object) in objects.iter().enumerate() {
            match self.store(object) {
                Err(error) => answers.push(Err(error)),
                Ok(store) => {
                    answers.push(Err(Error::new(ErrorKind::Internal, "the store left out an object")));
                    match by_store.iter_mut().find(|(known, ..)| Arc::ptr_eq(known, store)) {
                        Some((_, places, batch)) => {
                            places.push(at);
                            batch.push(object.clone());
                        }
                        None => by_store.push((store, vec![at], vec![object.clone()])),
                    }
                }
            }
        }
        for (store, places, batch) in by_store {
            for (at, answer) in places.into_iter().zip(store.access_many(ctx, who, &batch, mode).await) {
                if let Some(place) = answers.get_mut(at) {
                    *place = answer;
                }
            }
        }
        answers
    }

    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        self.peek_store(object)?.peek_access(ctx, who, object, mode)
    }
}
