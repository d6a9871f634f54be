//! The innermost wrapper: a time limit for each question, and a count of what came of it.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::{Either, select};

use crate::{
    Access, Account, AccountSource, Clock, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Login, Lookup,
    Member, ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Resolver, Result, SourceInfo, Step,
    StoredHash, Verdict,
};

/// Limits how long a store may take, keeps its [`Health`], and takes no answer about somebody else.
///
/// It is one wrapper and not two, since a limit that is not counted turns no source red. Put it right
/// around the store, inside every cache: a hit is not a question to the store.
#[derive(Debug)]
pub struct Watched<S: ?Sized> {
    limit: Duration,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    inner: Arc<S>,
}

impl<S: ?Sized + Send + Sync> Watched<S> {
    /// Wraps a store. `limit` is the longest that one question may take.
    pub fn new(inner: Arc<S>, limit: Duration, clock: Arc<dyn Clock>, health: Arc<Health>) -> Self {
        Self { limit, clock, health, inner }
    }

    async fn watch<T: Told + Send>(
        &self,
        ctx: &Ctx,
        source: &SourceInfo,
        question: impl Future<Output = Result<T>> + Send + Unpin,
    ) -> Result<T> {
        self.watch_and(ctx, source, question, |_| Ok(())).await
    }

    /// Watches a question whose answer can be seen to be none to it.
    async fn watch_and<T: Told + Send>(
        &self,
        ctx: &Ctx,
        source: &SourceInfo,
        question: impl Future<Output = Result<T>> + Send + Unpin,
        check: impl Fn(&T) -> Result<()> + Send,
    ) -> Result<T> {
        let began = self.clock.now();
        let limit = began + self.limit;
        let until = ctx.deadline().map_or(limit, |deadline| deadline.min(limit));
        let answer = match select(question, self.clock.sleep_until(until)).await {
            Either::Left((answer, _)) => answer
                .and_then(|answer| check(&answer).map(|()| answer))
                .map_err(|error| error.at(Arc::clone(source.name()))),
            Either::Right(_) => {
                Err(Error::new(ErrorKind::Timeout, "no answer in time").at(Arc::clone(source.name())))
            }
        };
        let took = self.clock.now().since(began);
        // A caller in a hurry is not the store's fault.
        let hurried = until < limit && answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
        if hurried {
            self.health.count(took);
        } else {
            let fault = answer.as_ref().map_or_else(Some, Told::fault);
            self.health.note(fault, took, &*self.clock);
        }
        ctx.note(|| {
            let step = match &answer {
                Ok(answer) => Step::new("source", answer.told()),
                Err(error) => Step::new("source", error),
            };
            step.at(source.name()).took(took)
        });
        answer
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: PasswordSource + ?Sized> PasswordSource for Watched<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let source = self.inner.source();
        let check = |verdict: &Verdict| match verdict {
            Verdict::Accepted(who) => asked_for(source, login, who),
            Verdict::Rejected(_) => Ok(()),
        };
        self.watch_and(ctx, source, self.inner.verify(ctx, login, password), check).await
    }
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let source = self.inner.source();
        let check = |account: &Lookup<Account>| shown(source, login, account);
        self.watch_and(ctx, source, self.inner.account(ctx, login), check).await
    }
    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        self.inner.peek_verify(ctx, login, password)
    }
    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AccountSource + ?Sized> AccountSource for Watched<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let source = self.inner.source();
        let check = |account: &Lookup<Account>| shown(source, login, account);
        self.watch_and(ctx, source, self.inner.account(ctx, login), check).await
    }
    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.watch(ctx, self.inner.source(), self.inner.replace_hash(ctx, who, old, new)).await
    }
    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: GroupOracle + ?Sized> GroupOracle for Watched<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.watch(ctx, self.inner.source(), self.inner.groups_of(ctx, who)).await
    }
    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        self.watch(ctx, self.inner.source(), self.inner.is_member(ctx, who, group)).await
    }
    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        self.inner.peek_groups(ctx, who)
    }
    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        self.inner.peek_member(ctx, who, group)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectPerms + ?Sized> ObjectPerms for Watched<S> {
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
        self.watch(ctx, self.inner.source(), self.inner.access(ctx, who, object, mode)).await
    }
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let inner = self.inner.access_many(ctx, who, objects, mode);
        let name = self.inner.source().name();
        let all = Box::pin(async move {
            let told = |answer: Result<Access>| answer.map_err(|error| error.at(Arc::clone(name)));
            Ok(Batch(inner.await.into_iter().map(told).collect()))
        });
        match self.watch(ctx, self.inner.source(), all).await {
            Ok(Batch(answers)) => answers,
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
        self.inner.peek_access(ctx, who, object, mode)
    }
}

fn shown(source: &SourceInfo, login: &Login, account: &Lookup<Account>) -> Result<()> {
    match account {
        Lookup::Found(found) => asked_for(source, login, found.principal()),
        Lookup::NotFound => Ok(()),
    }
}

/// Checks whom a store has answered about, before anything is made of it: somebody else's hash would decide
/// about this login, and a cache would keep it.
fn asked_for(source: &SourceInfo, login: &Login, who: &Principal) -> Result<()> {
    if who.login() == login && who.source() == source.name() {
        return Ok(());
    }
    let message = "a source answered about another login than it was asked for";
    Err(Error::new(ErrorKind::Internal, message))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Resolver + ?Sized> Resolver for Watched<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn resolve(&self, ctx: &Ctx, foreign: &Principal) -> Result<Lookup<Principal>> {
        self.watch(ctx, self.inner.source(), self.inner.resolve(ctx, foreign)).await
    }
    fn peek_resolve(&self, ctx: &Ctx, foreign: &Principal) -> Option<Lookup<Principal>> {
        self.inner.peek_resolve(ctx, foreign)
    }
}

/// What an answer is called in an explanation.
trait Told {
    fn told(&self) -> &'static str;

    /// An error inside the answer, for the source's health.
    fn fault(&self) -> Option<&Error> {
        None
    }
}

struct Batch(Vec<Result<Access>>);

impl Told for Verdict {
    fn told(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Rejected(reason) => reason.as_str(),
        }
    }
}

impl<T> Told for Lookup<T> {
    fn told(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NotFound => "not_found",
        }
    }
}

impl Told for Access {
    fn told(&self) -> &'static str {
        self.as_str()
    }
}

impl Told for Member {
    fn told(&self) -> &'static str {
        self.as_str()
    }
}

impl Told for bool {
    fn told(&self) -> &'static str {
        if *self { "replaced" } else { "not replaced" }
    }
}

impl Told for Batch {
    fn told(&self) -> &'static str {
        "batch"
    }

    fn fault(&self) -> Option<&Error> {
        let faults = || self.0.iter().filter_map(|answer| answer.as_ref().err());
        faults().find(|error| blames_source(error.kind())).or_else(|| faults().next())
    }
}

/// Whether a source answers, since when, and what it has cost.
#[derive(Debug, Default)]
pub struct Health {
    questions: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    up: Option<bool>,
    since: Option<SystemTime>,
    last_error: Option<(SystemTime, Error)>,
}

/// A moment's view of a source's [`Health`].
#[derive(Debug, Clone)]
pub struct HealthReport {
    /// Whether the last question that says something about the source was answered; `None` before the first.
    pub up: Option<bool>,
    /// Since when that is so.
    pub since: Option<SystemTime>,
    /// The last error, and when it was.
    pub last_error: Option<(SystemTime, Error)>,
    /// How many questions reached the source.
    pub questions: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How long all of them took.
    pub time: Duration,
}

impl Health {
    /// Notes what came of a question.
    pub fn note(&self, error: Option<&Error>, took: Duration, clock: &dyn Clock) {
        self.count(took);
        if error.is_some_and(|error| error.kind() != ErrorKind::Invalid) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.probed(error, clock);
    }

    /// Notes what came of a probe: it turns the source red or green, but is no question of anybody's and is
    /// not counted as one.
    pub fn probed(&self, error: Option<&Error>, clock: &dyn Clock) {
        // The asker's mistake says nothing about the source.
        if error.is_some_and(|error| error.kind() == ErrorKind::Invalid) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            state.last_error = Some((clock.wall(), error.clone()));
            if !blames_source(error.kind()) {
                return;
            }
        }
        let up = Some(error.is_none());
        if state.up != up {
            state.up = up;
            state.since = Some(clock.wall());
        }
    }

    fn count(&self, took: Duration) {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the state of things.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        HealthReport {
            up: state.up,
            since: state.since,
            last_error: state.last_error.clone(),
            questions: self.questions.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

/// One bad record, one bad question or a full queue says nothing about the source.
const fn blames_source(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Misconfigured | ErrorKind::Internal => true,
        ErrorKind::Overloaded
        | ErrorKind::Throttled
        | ErrorKind::Ambiguous
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported
        | ErrorKind::Invalid => false,
    }
}
