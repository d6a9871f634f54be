//! The facade that applications and front ends use.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::chain::{DomainRouter, GroupUnion};
use crate::{
    Access, Account, Audit, CacheUse, Clock, Ctx, Error, ErrorKind, GroupOracle, GroupSet, HashCheck, Login,
    LoginEvent, Lookup, MAX_LOGIN_BYTES, Member, NoAudit, ObjectPerms, ObjectRef, Password, PasswordSource,
    Principal, RealmId, Record, Reject, Result, Step, Verdict,
};

/// A question that memory could not answer.
type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One realm, composed: who knows its passwords, its groups and its rights.
///
/// - Every question is asked of memory first, without a boxed future and without an allocation.
/// - Every question ends within the realm's limit, or the context's deadline if that is earlier.
/// - Every rejected login has cost at least one hash job, whoever was asked, and exactly one but for two cases: one
///   a source where a chain is set to go on after a wrong password, and a second where the source turns out to
///   have another hash by now than the one that was remembered.
/// - An error is never an answer.
#[derive(Debug)]
pub struct Realm {
    id: RealmId,
    passwords: Arc<dyn PasswordSource>,
    groups: GroupUnion,
    objects: DomainRouter,
    hashing: Arc<dyn HashCheck>,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn Audit>,
    limit: Duration,
}

impl Realm {
    /// Makes a realm that knows passwords. `hashing` is the stack's one hashing pool.
    #[must_use]
    pub fn new(
        id: RealmId,
        passwords: Arc<dyn PasswordSource>,
        hashing: Arc<dyn HashCheck>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            id,
            passwords,
            groups: GroupUnion::new(Vec::new()),
            objects: DomainRouter::new([]),
            hashing,
            clock,
            audit: Arc::new(NoAudit),
            limit: Duration::from_secs(10),
        }
    }

    /// Sets who knows the groups.
    #[must_use]
    pub fn with_groups(mut self, groups: GroupUnion) -> Self {
        self.groups = groups;
        self
    }

    /// Sets who knows the rights.
    #[must_use]
    pub fn with_objects(mut self, objects: DomainRouter) -> Self {
        self.objects = objects;
        self
    }

    /// Sets who hears of logins.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<dyn Audit>) -> Self {
        self.audit = audit;
        self
    }

    /// Sets the longest that one question may take; 10 s otherwise.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the realm's name and rule.
    #[must_use]
    pub const fn id(&self) -> &RealmId {
        &self.id
    }

    /// Goes through the declared domains of objects; `*` stands for those that a store declares by itself.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.objects.domains()
    }

    /// Decides about what somebody typed: the one call for front ends.
    ///
    /// An impossible login is an unknown user and an impossible password a wrong one, at the cost of one
    /// hash job like any other.
    ///
    /// # Errors
    /// Any kind: nobody could find out.
    pub async fn attempt(&self, ctx: &Ctx, login: &str, password: Vec<u8>) -> Result<Verdict> {
        let reason = match (Login::parse(&self.id, login), Password::new(password)) {
            (Ok(login), Ok(password)) => return self.login(ctx, &login, &password).await,
            (Err(_), _) => Reject::UnknownUser,
            (Ok(_), Err(_)) => Reject::BadPassword,
        };
        let began = self.clock.now();
        ctx.note(|| Step::new("login", format_args!("{reason}: the input is not possible")));
        let stand_in = Password::new(b"stand-in".to_vec())?;
        let ctx = self.bounded(ctx);
        let outcome =
            self.within(&ctx, self.hashing.pad(&ctx, &stand_in)).await.map(|()| Verdict::Rejected(reason));
        self.hear(login, &outcome, began, (false, CacheUse::Off));
        outcome
    }

    /// Decides whether a password is right.
    ///
    /// # Errors
    /// Any kind: nobody could find out. [`Invalid`](ErrorKind::Invalid) for a login of another realm.
    pub async fn login(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.own(login)?;
        let began = self.clock.now();
        ctx.note(|| Step::new("login", format_args!("{} in realm {}", login.as_str(), self.id.name())));
        // Only a yes: a "no" from memory would be told from others by the hash job that it has not cost.
        let remembered = ctx.trying(|ctx| match self.passwords.peek_verify(ctx, login, password) {
            Some(verdict @ Verdict::Accepted(_)) => Some(verdict),
            _ => None,
        });
        if let Some(verdict) = remembered {
            let outcome = Self::asked_for(login, verdict);
            self.hear(login.as_str(), &outcome, began, (true, CacheUse::Hit));
            return outcome;
        }
        let record = ctx.record().map_or_else(|| Arc::new(Record::new()), Arc::clone);
        let ctx = self.bounded(ctx).with_record(Arc::clone(&record));
        let jobs = record.hash_jobs();
        let outcome = self
            .within(&ctx, async {
                let verdict = self.passwords.verify(&ctx, login, password).await?;
                // All rejections cost the same, so that time does not tell them apart.
                if matches!(verdict, Verdict::Rejected(_)) && record.hash_jobs() == jobs {
                    self.hashing.pad(&ctx, password).await?;
                }
                Self::asked_for(login, verdict)
            })
            .await;
        self.hear(login.as_str(), &outcome, began, (false, record.cache()));
        outcome
    }

    /// Tells who has a login, without a password.
    ///
    /// # Errors
    /// Any kind: nobody could find out. [`Unsupported`](ErrorKind::Unsupported) if a source can't tell.
    pub async fn principal(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Principal>> {
        let account = self.account(ctx, login).await?;
        Ok(account.map(|account| account.principal().clone()))
    }

    /// Shows the account of a login, without a password.
    ///
    /// # Errors
    /// Any kind: nobody could find out. [`Unsupported`](ErrorKind::Unsupported) if a source can't tell.
    pub async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.own(login)?;
        ctx.note(|| Step::new("login", format_args!("{} in realm {}", login.as_str(), self.id.name())));
        let account = match ctx.trying(|ctx| self.passwords.peek_account(ctx, login)) {
            Some(account) => account,
            None => {
                let ctx = self.bounded(ctx);
                Box::pin(self.within(&ctx, self.passwords.account(&ctx, login))).await?
            }
        };
        match &account {
            Lookup::Found(found) if found.principal().login() != login => {
                Err(somebody_else(found.principal()))
            }
            _ => Ok(account),
        }
    }

    /// Returns all groups of a person. Somebody whom no oracle knows is in none.
    ///
    /// # Errors
    /// Any kind: an oracle failed, so the list would have a hole. [`Invalid`](ErrorKind::Invalid) for a person
    /// of another realm.
    pub async fn groups(&self, ctx: &Ctx, who: &Principal) -> Result<GroupSet> {
        self.own(who.login())?;
        let groups = match ctx.trying(|ctx| self.groups.peek_groups(ctx, who)) {
            Some(groups) => groups,
            None => {
                let ctx = self.bounded(ctx);
                Box::pin(self.within(&ctx, self.groups.groups_of(&ctx, who))).await?
            }
        };
        Ok(groups.found().unwrap_or_else(GroupSet::empty))
    }

    /// Reports whether all groups of a person can be listed here; else only
    /// [`is_member`](Self::is_member) is answered.
    #[must_use]
    pub fn lists_groups(&self) -> bool {
        self.groups.source().capabilities().lists_groups
    }

    /// Reports whether a person is in a group.
    ///
    /// # Errors
    /// Any kind: no oracle said yes and one failed. [`Invalid`](ErrorKind::Invalid) for a person of another
    /// realm.
    pub async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        self.own(who.login())?;
        if let Some(member) = ctx.trying(|ctx| self.groups.peek_member(ctx, who, group)) {
            return Ok(member);
        }
        self.ask_member(ctx, who, group).await
    }

    // In a box and not in line, as below, so that an answer from memory carries none of it.
    #[inline(never)]
    fn ask_member<'a>(&'a self, ctx: &'a Ctx, who: &'a Principal, group: &'a str) -> Asking<'a, Member> {
        Box::pin(async move {
            let ctx = self.bounded(ctx);
            self.within(&ctx, self.groups.is_member(&ctx, who, group)).await
        })
    }

    /// Tells whether a person has a right on an object.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a domain that nobody declared or a person of another realm;
    /// otherwise any kind.
    pub async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        self.own(who.login())?;
        if let Some(access) = ctx.trying(|ctx| self.objects.peek_access(ctx, who, object, mode)) {
            return Ok(access);
        }
        self.ask_access(ctx, who, object, mode).await
    }

    #[inline(never)]
    fn ask_access<'a>(
        &'a self,
        ctx: &'a Ctx,
        who: &'a Principal,
        object: &'a ObjectRef,
        mode: Option<&'a str>,
    ) -> Asking<'a, Access> {
        Box::pin(async move {
            let ctx = self.bounded(ctx);
            self.within(&ctx, self.objects.access(&ctx, who, object, mode)).await
        })
    }

    /// Answers many questions about objects at once, in their order.
    pub async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let ctx = self.bounded(ctx);
        let all = async {
            self.own(who.login())?;
            Ok(self.objects.access_many(&ctx, who, objects, mode).await)
        };
        match self.within(&ctx, all).await {
            Ok(answers) => answers,
            Err(error) => objects.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn bounded(&self, ctx: &Ctx) -> Ctx {
        ctx.clone().with_deadline(self.clock.now() + self.limit)
    }

    /// Ends at the deadline even if a source does not keep to it.
    async fn within<T>(&self, ctx: &Ctx, question: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Some(deadline) = ctx.deadline() else { return question.await };
        match select(std::pin::pin!(question), self.clock.sleep_until(deadline)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "no answer before the deadline")),
        }
    }

    /// Two realms may share a source, so that an id of one would mean somebody in the other.
    #[inline]
    fn own(&self, login: &Login) -> Result<()> {
        if *login.realm() == self.id {
            return Ok(());
        }
        Err(of_another_realm(login))
    }

    /// Lets nobody in under a name that they did not give.
    fn asked_for(login: &Login, verdict: Verdict) -> Result<Verdict> {
        match &verdict {
            Verdict::Accepted(who) if who.login() != login => Err(somebody_else(who)),
            Verdict::Accepted(_) | Verdict::Rejected(_) => Ok(verdict),
        }
    }

    fn hear(
        &self,
        login: &str,
        outcome: &Result<Verdict>,
        began: crate::Moment,
        (remembered, cache): (bool, CacheUse),
    ) {
        let took = self.clock.now().since(began);
        let event = |login| LoginEvent { realm: &self.id, login, outcome, took, remembered, cache };
        if login.len() <= MAX_LOGIN_BYTES && !login.chars().any(char::is_control) {
            self.audit.login(&event(login));
        } else {
            // 63 characters of 4 bytes at most: under 255.
            let shown: String =
                login.chars().take(63).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            self.audit.login(&event(&shown));
        }
    }
}

#[cold]
fn of_another_realm(login: &Login) -> Error {
    Error::new(ErrorKind::Invalid, "the login is of another realm").with("realm", login.realm().name())
}

fn somebody_else(who: &Principal) -> Error {
    Error::new(ErrorKind::Internal, "a source answered about another login than it was asked for")
        .at(Arc::clone(who.source()))
}
