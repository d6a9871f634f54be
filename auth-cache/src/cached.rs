//! `Cached`: the wrapper that remembers what a source has said.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, GroupOracle,
    GroupSet, Login, Lookup, Member, ObjectPerms, ObjectRef, Principal, Result, SourceInfo, Step, StoredHash,
};

use crate::fenced::{Bump, Voiding};
use crate::loader::Loader;
use crate::settings::Settings;
use crate::stats::{Report, Reports};
use crate::{Answer, Ask, Key};

/// Remembers what a source has said, and asks it once for everybody who asks at the same time.
///
/// Implements the trait of what it wraps: `Cached<dyn AccountSource>` is an [`AccountSource`], and so on.
/// Make one for each realm, source and trait: each has its own tables, and all share the stack's [`Fence`].
///
/// Put it outside of what retries, measures or limits the source, and inside of what must see each
/// question (a guard, an audit): a hit reaches nothing that it wraps.
///
/// Loads run on the tokio runtime of whoever asks, detached from them: who leaves harms nobody.
pub struct Cached<S: ?Sized> {
    inner: Arc<S>,
    loader: Arc<Loader>,
}

mod sealed {
    use auth_core::SourceInfo;

    /// What [`Cached`](super::Cached) can wrap.
    pub trait Cacheable: Send + Sync + 'static {
        /// Names it in reports.
        const KIND: &'static str;
        /// Describes the source.
        fn info(&self) -> &SourceInfo;
    }
}

use sealed::Cacheable;

impl Cacheable for dyn AccountSource {
    const KIND: &'static str = "accounts";
    fn info(&self) -> &SourceInfo {
        self.source()
    }
}

impl Cacheable for dyn GroupOracle {
    const KIND: &'static str = "groups";
    fn info(&self) -> &SourceInfo {
        self.source()
    }
}

impl Cacheable for dyn ObjectPerms {
    const KIND: &'static str = "access";
    fn info(&self) -> &SourceInfo {
        self.source()
    }
}

impl<S: Cacheable + ?Sized> Cached<S> {
    /// Wraps a source.
    #[must_use]
    pub fn new(inner: Arc<S>, fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        let loader = Loader::new(inner.info().clone(), S::KIND, fence, clock, settings);
        Self { inner, loader }
    }
}

impl Cached<dyn ObjectPerms> {
    /// Asks the source about many, and keeps what it says.
    async fn load_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let asks: Vec<Ask<'_>> = objects.iter().map(|object| Ask::Access(who, object, mode)).collect();
        let question = (Arc::clone(&self.inner), who.clone(), objects.to_vec(), mode.map(str::to_owned));
        let load = move |ctx: Ctx, _keys: Vec<Key>| async move {
            let (inner, who, objects, mode) = question;
            let answers = inner.access_many(&ctx, &who, &objects, mode.as_deref()).await;
            answers.into_iter().map(|answer| answer.map(Answer::Access)).collect()
        };
        let answers = self.loader.answer_many(ctx, &asks, load).await;
        answers.into_iter().map(|answer| answer.and_then(|answer| access(&answer))).collect()
    }
}

impl<S: Cacheable + ?Sized> Reports for Cached<S> {
    fn report(&self) -> Report {
        self.loader.report()
    }
}

impl<S: ?Sized> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("report", &self.loader.report()).finish_non_exhaustive()
    }
}

// A table of somebody else's that mixes up its keys must not turn into an answer.
fn misfit() -> Error {
    Error::new(ErrorKind::Internal, "a cache returned the answer to another kind of question")
}

fn account(answer: Answer) -> Result<Lookup<Account>> {
    match answer {
        Answer::Account(found) => Ok(found),
        _ => Err(misfit()),
    }
}

fn groups(answer: Answer) -> Result<Lookup<GroupSet>> {
    match answer {
        Answer::Groups(found) => Ok(found),
        _ => Err(misfit()),
    }
}

fn access(answer: &Answer) -> Result<Access> {
    match answer {
        Answer::Access(access) => Ok(*access),
        _ => Err(misfit()),
    }
}

// The loads. Boxed, so that a hit carries none of their code.

fn load_account(
    inner: &Arc<dyn AccountSource>,
) -> impl FnOnce(Ctx, Key) -> BoxFuture<Result<Answer>> + Send + use<> {
    let inner = Arc::clone(inner);
    |ctx, key| {
        Box::pin(async move {
            let Key::Account(login) = key else { return Err(misfit()) };
            inner.account(&ctx, &login).await.map(Answer::Account)
        })
    }
}

fn load_groups(
    inner: &Arc<dyn GroupOracle>,
) -> impl FnOnce(Ctx, Key) -> BoxFuture<Result<Answer>> + Send + use<> {
    let inner = Arc::clone(inner);
    |ctx, key| {
        Box::pin(async move {
            let Key::Groups(who) = key else { return Err(misfit()) };
            inner.groups_of(&ctx, &who).await.map(Answer::Groups)
        })
    }
}

fn load_access(
    inner: &Arc<dyn ObjectPerms>,
) -> impl FnOnce(Ctx, Key) -> BoxFuture<Result<Answer>> + Send + use<> {
    let inner = Arc::clone(inner);
    |ctx, key| {
        Box::pin(async move {
            let Key::Access(who, object, mode) = key else { return Err(misfit()) };
            inner.access(&ctx, &who, &object, mode.as_deref()).await.map(Answer::Access)
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AccountSource for Cached<dyn AccountSource> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        account(self.loader.answer(ctx, &Ask::Account(login), || load_account(&self.inner)).await?)
    }

    /// Replaces the hash, then voids everything about this person, whatever came of it: after an error
    /// nobody knows whether it was written.
    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        let _voiding =
            Voiding::new(self.loader.fence(), [Bump::login(who.login().clone()), Bump::id(who.clone())]);
        self.inner.replace_hash(ctx, who, old, new).await
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        account(self.loader.peek(ctx, &Ask::Account(login), || load_account(&self.inner))?).ok()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl GroupOracle for Cached<dyn GroupOracle> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        groups(self.loader.answer(ctx, &Ask::Groups(who), || load_groups(&self.inner)).await?)
    }

    /// Answers from the group set where the oracle lists groups. An oracle that can't is asked each time:
    /// there is nothing that could be kept for all groups at once.
    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        if !self.inner.source().capabilities().lists_groups {
            ctx.note_cache(CacheUse::Miss);
            ctx.note(|| {
                Step::new("cache", "off: this source can't list groups").at(self.loader.source().name())
            });
            return self.inner.is_member(ctx, who, group).await;
        }
        Ok(Member::of(&self.groups_of(ctx, who).await?, group))
    }

    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        groups(self.loader.peek(ctx, &Ask::Groups(who), || load_groups(&self.inner))?).ok()
    }

    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        let read = |answer: &Answer| match answer {
            Answer::Groups(groups) => Some(Member::of(groups, group)),
            _ => None,
        };
        self.loader.peek_at(ctx, &Ask::Groups(who), read, || load_groups(&self.inner))?
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectPerms for Cached<dyn ObjectPerms> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let ask = Ask::Access(who, object, mode);
        access(&self.loader.answer(ctx, &ask, || load_access(&self.inner)).await?)
    }

    /// Answers what it can from memory and asks the source once for the rest.
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let known: Vec<Option<Access>> =
            objects.iter().map(|object| self.peek_access(ctx, who, object, mode)).collect();
        let missing: Vec<ObjectRef> = objects
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(object, _)| object.clone())
            .collect();
        if missing.is_empty() {
            return known.into_iter().flatten().map(Ok).collect();
        }
        let mut loaded = self.load_access(ctx, who, &missing, mode).await.into_iter();
        // What was remembered has aged while the rest was asked for, or was invalidated. It is looked up again,
        // and asked for if any of it is gone, rather than handed out as it was before the wait.
        let remembered: Vec<ObjectRef> = objects
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_some())
            .map(|(object, _)| object.clone())
            .collect();
        let again: Option<Vec<Access>> =
            remembered.iter().map(|object| self.peek_access(ctx, who, object, mode)).collect();
        let mut again = match again {
            Some(again) => again.into_iter().map(Ok).collect(),
            None => self.load_access(ctx, who, &remembered, mode).await,
        }
        .into_iter();
        let missed = || Err(misfit());
        known
            .into_iter()
            .map(|known| if known.is_some() { again.next() } else { loaded.next() }.unwrap_or_else(missed))
            .collect()
    }

    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        let read = |answer: &Answer| match answer {
            Answer::Access(access) => Some(*access),
            _ => None,
        };
        self.loader.peek_at(ctx, &Ask::Access(who, object, mode), read, || load_access(&self.inner))?
    }
}
