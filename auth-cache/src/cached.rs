//! `Cached`: the wrapper that remembers what a source has said.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, BoxFuture, Clock, Ctx, Error, ErrorKind, Fence, GroupOracle, GroupSet,
    Login, Lookup, Member, ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Result, SourceInfo,
    Step, StoredHash, Verdict,
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
    pub(crate) loader: Arc<Loader>,
}

mod sealed {
    use std::sync::Arc;

    use auth_core::{BoxFuture, Ctx, Result, SourceInfo};

    use crate::{Answer, Key};

    /// What [`Cached`](super::Cached) can wrap.
    pub trait Cacheable: Send + Sync + 'static {
        /// Names it in reports.
        const KIND: &'static str;
        /// Describes the source.
        fn info(&self) -> &SourceInfo;
        /// Puts questions, all in one. Boxed, so that a hit carries none of this.
        fn load(self: Arc<Self>, ctx: Ctx, keys: Vec<Key>) -> BoxFuture<Vec<Result<Answer>>>;
    }
}

use sealed::Cacheable;

impl Cacheable for dyn AccountSource {
    const KIND: &'static str = "accounts";
    fn info(&self) -> &SourceInfo {
        self.source()
    }

    fn load(self: Arc<Self>, ctx: Ctx, keys: Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> {
        Box::pin(async move {
            let [Key::Account(login)] = keys.as_slice() else { return vec![Err(misfit())] };
            vec![self.account(&ctx, login).await.map(Answer::Account)]
        })
    }
}

/// Of a source that decides by itself, the accounts are remembered. Passwords it is asked about each time.
impl Cacheable for dyn PasswordSource {
    const KIND: &'static str = "accounts";
    fn info(&self) -> &SourceInfo {
        self.source()
    }

    fn load(self: Arc<Self>, ctx: Ctx, keys: Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> {
        Box::pin(async move {
            let [Key::Account(login)] = keys.as_slice() else { return vec![Err(misfit())] };
            vec![self.account(&ctx, login).await.map(Answer::Account)]
        })
    }
}

impl Cacheable for dyn GroupOracle {
    const KIND: &'static str = "groups";
    fn info(&self) -> &SourceInfo {
        self.source()
    }

    fn load(self: Arc<Self>, ctx: Ctx, keys: Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> {
        Box::pin(async move {
            let [Key::Groups(who)] = keys.as_slice() else { return vec![Err(misfit())] };
            vec![self.groups_of(&ctx, who).await.map(Answer::Groups)]
        })
    }
}

impl Cacheable for dyn ObjectPerms {
    const KIND: &'static str = "access";
    fn info(&self) -> &SourceInfo {
        self.source()
    }

    /// All are about the same person and mode.
    fn load(self: Arc<Self>, ctx: Ctx, keys: Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> {
        Box::pin(async move {
            let (who, mode) = match keys.as_slice() {
                [Key::Access(who, object, mode)] => {
                    return vec![self.access(&ctx, who, object, mode.as_deref()).await.map(Answer::Access)];
                }
                [Key::Access(who, _, mode), ..] => (who, mode.as_deref()),
                _ => return vec![Err(misfit())],
            };
            let object = |key: &Key| match key {
                Key::Access(_, object, _) => Some(object.clone()),
                _ => None,
            };
            let objects: Vec<ObjectRef> = keys.iter().filter_map(object).collect();
            let answers = self.access_many(&ctx, who, &objects, mode).await;
            answers.into_iter().map(|answer| answer.map(Answer::Access)).collect()
        })
    }
}

impl<S: Cacheable + ?Sized> Cached<S> {
    /// Wraps a source.
    #[must_use]
    pub fn new(inner: Arc<S>, fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        let source = Arc::clone(&inner);
        let load = Box::new(move |ctx, keys| Arc::clone(&source).load(ctx, keys));
        let loader = Loader::new(inner.info().clone(), S::KIND, load, fence, clock, settings);
        Self { inner, loader }
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

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AccountSource for Cached<dyn AccountSource> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        account(self.loader.answer(ctx, &Ask::Account(login)).await?)
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
        account(self.loader.peek(ctx, &Ask::Account(login))?).ok()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PasswordSource for Cached<dyn PasswordSource> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    /// Asks each time, in turn with the loads of this source: it is left alone after failures.
    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        ctx.note(|| Step::new("cache", "off: this source decides by itself").at(self.loader.source().name()));
        let ask = |ctx| async move { self.inner.verify(&ctx, login, password).await };
        self.loader.pass_on(ctx, ask).await
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        account(self.loader.answer(ctx, &Ask::Account(login)).await?)
    }

    /// Nothing: who remembers accepted passwords is outside of this.
    fn peek_verify(&self, _ctx: &Ctx, _login: &Login, _password: &Password) -> Option<Verdict> {
        None
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        account(self.loader.peek(ctx, &Ask::Account(login))?).ok()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl GroupOracle for Cached<dyn GroupOracle> {
    fn source(&self) -> &SourceInfo {
        self.loader.source()
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        groups(self.loader.answer(ctx, &Ask::Groups(who)).await?)
    }

    /// Answers from the group set where the oracle lists groups. An oracle that can't is asked each time:
    /// there is nothing that could be kept for all groups at once.
    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        if !self.inner.source().capabilities().lists_groups {
            ctx.note(|| {
                Step::new("cache", "off: this source can't list groups").at(self.loader.source().name())
            });
            let ask = |ctx| async move { self.inner.is_member(&ctx, who, group).await };
            return self.loader.pass_on(ctx, ask).await;
        }
        Ok(Member::of(&self.groups_of(ctx, who).await?, group))
    }

    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        groups(self.loader.peek(ctx, &Ask::Groups(who))?).ok()
    }

    fn peek_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Option<Member> {
        let read = |answer: &Answer| match answer {
            Answer::Groups(groups) => Some(Member::of(groups, group)),
            _ => None,
        };
        self.loader.peek_at(ctx, &Ask::Groups(who), read)?
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
        access(&self.loader.answer(ctx, &ask).await?)
    }

    /// Answers what it can from memory, joins the loads that are under way, and asks the source once for the
    /// rest.
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let asks: Vec<Ask<'_>> = objects.iter().map(|object| Ask::Access(who, object, mode)).collect();
        let answers = self.loader.answer_many(ctx, &asks).await;
        answers.into_iter().map(|answer| answer.and_then(|answer| access(&answer))).collect()
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
        self.loader.peek_at(ctx, &Ask::Access(who, object, mode), read)?
    }
}
