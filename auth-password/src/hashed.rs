//! Makes a store that shows hashes into a source that decides.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Freshness, Lock, Login,
    Lookup, Password, PasswordSource, Principal, Record, Reject, Result, SourceInfo, Step, StoredHash,
    Subject, Verdict,
};
use futures_util::future::{Either, select};

use crate::doubt::{Before, Doubts};
use crate::hash::Outcome;
use crate::hasher::Hasher;
use crate::memo::{Memo, MemoConfig, Remembered};
use crate::verify::can_make;

// An upgrade gets half of what is left, so that the answer still arrives in time.
const UPGRADE_NEEDS: Duration = Duration::from_millis(500);
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);

// For a question whose askers set none of their own; a load of a cache has a limit of its own below this.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

// How long an unknown login is remembered by default: what holds for news of logins holds for news of passwords.
const RECHECK: Duration = Duration::from_secs(15);

/// What a [`Hashed`] has done beside asking the pool. Counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HashedStats {
    /// Passwords that were taken for right from memory.
    pub memo_hits: u64,
    /// Passwords that had to be verified, right or wrong, since they were not remembered.
    pub memo_misses: u64,
    /// Remembered passwords that had to go for those of others.
    pub memo_evictions: u64,
    /// Passwords that are remembered now.
    pub memo_entries: usize,
    /// Passwords that are remembered at most. Zero: none is.
    pub memo_bound: usize,
    /// Questions put to the source again, since a password did not fit an account that came from memory.
    pub rechecks: u64,
    /// Hashes that were replaced by better ones.
    pub upgrades: u64,
    /// Hashes that should have been replaced and could not; the login succeeded.
    pub upgrade_failures: u64,
}

#[derive(Default)]
struct Counts {
    memo_hits: AtomicU64,
    memo_misses: AtomicU64,
    rechecks: AtomicU64,
    upgrades: AtomicU64,
    upgrade_failures: AtomicU64,
}

/// Decides by the stored hashes that a store shows.
///
/// - An unknown login, and an account without a password, cost no hash job here: the realm spends one
///   at the end of an attempt that has had none. A wrong password costs exactly one, or two if the first
///   was of a hash from memory that the source no longer has.
/// - A right password is remembered for a short while, in this process, under a keyed hash of realm,
///   login, source, stored hash and password: the last one of each login. Wrong ones and one-time codes
///   never are. A changed hash, an invalidation and the end of the lifetime each void it; use does not
///   extend it; the account's state is looked at each time.
/// - A password that does not fit an account from memory, or finds none there, is doubted: the source is
///   asked once more, and if it now shows another hash, that one decides. So a password that was changed
///   behind our back works at once, and the old one dies with it. Once for each login in
///   [a while](Self::with_recheck), so that guessers can't make the source work; who doubts meanwhile
///   shares the answer, each for as long as their own deadline allows. If that question fails, so does the
///   attempt, and it may be put again. An account that was asked for in this attempt is not doubted.
/// - An account past its life that stands in for a source that fails only lets in: what it would refuse is an
///   error, since the source may know better.
/// - After a right password, a hash that is not as good as the preferred one is replaced by compare
///   and swap, where the store can. That this fails never fails the login.
/// - A one-time code is accepted once.
///
/// Put it outside of `Cached`, so that the account it looks at may come from a cache.
pub struct Hashed<S: ?Sized = dyn AccountSource> {
    hasher: Arc<Hasher>,
    memo: Memo,
    doubts: Doubts,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    counts: Counts,
    inner: Arc<S>,
}

impl<S: AccountSource + ?Sized + 'static> Hashed<S> {
    /// Wraps a store.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there are no random numbers.
    pub fn new(
        inner: Arc<S>,
        hasher: Arc<Hasher>,
        memo: MemoConfig,
        fence: Arc<Fence>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let memo = Memo::new(memo, inner.source().name())?;
        let (doubts, counts) = (Doubts::new(RECHECK), Counts::default());
        Ok(Self { hasher, memo, doubts, fence, clock, counts, inner })
    }

    /// Sets in which time the source is asked at most once again about a login whose password did not fit
    /// an account from memory; 15 s otherwise. Zero never asks again.
    #[must_use]
    pub fn with_recheck(mut self, every: Duration) -> Self {
        self.doubts = Doubts::new(every);
        self
    }

    /// Returns what it has done.
    #[must_use]
    pub fn stats(&self) -> HashedStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HashedStats {
            memo_hits: read(&self.counts.memo_hits),
            memo_misses: read(&self.counts.memo_misses),
            memo_evictions: self.memo.evictions(),
            memo_entries: self.memo.len(),
            memo_bound: self.memo.bound(),
            rechecks: read(&self.counts.rechecks),
            upgrades: read(&self.counts.upgrades),
            upgrade_failures: read(&self.counts.upgrade_failures),
        }
    }

    /// Finds what is remembered of a login and still good for this question, whatever the password.
    fn remembered(&self, ctx: &Ctx, login: &Login) -> Option<(Remembered, Duration)> {
        self.memo.find(login, self.clock.coarse()).filter(|(_, age)| ctx.freshness().accepts(*age))
    }

    /// Reports whether what is remembered is this password for this hash, and nothing has voided it.
    fn recalls(
        &self,
        ctx: &Ctx,
        login: &Login,
        (known, age): &(Remembered, Duration),
        account: &Account,
        password: &Password,
    ) -> bool {
        let stamp = self.fence.plus_id(self.fence.login(login), account.principal());
        let is_this = |hash| self.memo.key(login, hash, password) == known.key;
        if stamp != known.stamp || !account.hash().is_some_and(is_this) {
            return false;
        }
        self.counts.memo_hits.fetch_add(1, Ordering::Relaxed);
        ctx.note(|| Step::new("memo", "hit").at(self.inner.source().name()).aged(*age));
        true
    }

    // What the verdict is if the password is right.
    fn admit(&self, account: &Account) -> Verdict {
        let state = account.state();
        let dated = matches!(state.lock, Lock::Until(_))
            || state.not_before.is_some()
            || state.expires_at.is_some()
            || state.password_expires_at.is_some();
        // Most accounts are the same at any time: reading the time of day would cost as much as the rest.
        match state.refusal(if dated { self.clock.wall() } else { SystemTime::UNIX_EPOCH }) {
            Some(reject) => Verdict::Rejected(reject),
            None => Verdict::Accepted(account.principal().clone()),
        }
    }

    // Read before an account is asked for: an invalidation from here on voids what we learn. The watch first, as
    // an invalidation by id in between is then seen by it.
    fn before(&self, login: &Login) -> Before {
        let watch = self.fence.watch_ids();
        Before { stamp: self.fence.login(login), watch }
    }

    /// Replaces a hash by a better one; reports whether it did.
    async fn upgrade(&self, ctx: &Ctx, who: &Principal, old: &StoredHash, password: &Password) -> bool {
        let now = self.clock.now();
        let limit = match ctx.deadline().map(|deadline| deadline.since(now)) {
            Some(left) if left < UPGRADE_NEEDS => {
                ctx.note(|| Step::new("hash", "upgrade put off: the deadline is near"));
                return false;
            }
            left => now + left.map_or(UPGRADE_LIMIT, |left| (left / 2).min(UPGRADE_LIMIT)),
        };
        let ctx = ctx.clone().with_deadline(limit);
        let work = async {
            let new = self.hasher.make(&ctx, password).await?;
            self.inner.replace_hash(&ctx, who, old, &new).await
        };
        let done = match select(Box::pin(work), self.clock.sleep_until(limit)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "the store took too long")),
        };
        // Either way the hash that we know is no longer the stored one.
        if done.is_ok() {
            self.fence.invalidate(&Subject::Login(who.login()));
        }
        match &done {
            Ok(true) => self.counts.upgrades.fetch_add(1, Ordering::Relaxed),
            // Somebody else has replaced it meanwhile.
            Ok(false) => 0,
            Err(_) => self.counts.upgrade_failures.fetch_add(1, Ordering::Relaxed),
        };
        ctx.note(|| {
            let step = match &done {
                Ok(true) => Step::new("hash", "upgraded"),
                Ok(false) => Step::new("hash", "upgrade not needed: the hash has changed"),
                Err(error) => Step::new("hash", format_args!("upgrade failed: {error}")),
            };
            step.at(self.inner.source().name())
        });
        done.unwrap_or(false)
    }

    async fn decide(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let before = self.before(login);
        let fresh = matches!(ctx.freshness(), Freshness::Fresh);
        let (found, used) = match self.inner.peek_account(ctx, login).filter(|_| !fresh) {
            Some(found) => (found, CacheUse::Hit),
            // A cache that is shared with other processes can't be peeked at: it may turn out to have the account.
            None => self.ask(ctx, login).await?,
        };
        let verdict = self.judge(ctx, login, password, &found, before).await?;
        match (used, &verdict) {
            (CacheUse::Stale, Verdict::Rejected(_)) => return Err(unknown_now()),
            (CacheUse::Hit, _) => {}
            _ => return Ok(verdict),
        }
        if !matches!(verdict, Verdict::Rejected(Reject::BadPassword | Reject::NoPassword)) {
            return Ok(verdict);
        }
        match self.look_again(ctx, login).await? {
            Some((newer, before)) if basis(&newer) != basis(&found) => {
                ctx.note(|| {
                    Step::new("hash", "what was remembered has changed").at(self.inner.source().name())
                });
                self.judge(ctx, login, password, &newer, before).await
            }
            _ => Ok(verdict),
        }
    }

    /// Asks for an account, and tells how caches took part: whether it is from one, or stands in, past its life, for a
    /// source that has failed.
    async fn ask(&self, ctx: &Ctx, login: &Login) -> Result<(Lookup<Account>, CacheUse)> {
        // One of its own where nobody keeps a record, or where it has another source of the chain in it already.
        let kept = ctx.record().filter(|record| record.cache() == CacheUse::Off);
        let record = kept
            .map_or_else(|| Arc::new(ctx.record().map_or_else(Record::new, |kept| kept.like())), Arc::clone);
        let found = self.inner.account(&ctx.clone().with_record(Arc::clone(&record)), login).await;
        if kept.is_none() {
            ctx.note_cache(record.cache());
            record.steps().into_iter().for_each(|step| ctx.note(|| step));
        }
        Ok((found?, record.cache()))
    }

    /// Asks about an account from memory that a password did not fit; nothing if that may not be asked now and
    /// memory has no account.
    async fn look_again(&self, ctx: &Ctx, login: &Login) -> Result<Option<(Lookup<Account>, Before)>> {
        let before = self.before(login);
        let now = self.clock.now();
        let ask = || {
            self.counts.rechecks.fetch_add(1, Ordering::Relaxed);
            ctx.note(|| Step::new("hash", "memory is doubted").at(self.inner.source().name()));
            let (inner, login) = (Arc::clone(&self.inner), login.clone());
            // Not the context of whoever comes first: that one's deadline and record are nobody else's.
            let ctx = Ctx::new().with_freshness(Freshness::Fresh).with_deadline(now + QUESTION_LIMIT);
            let asked = async move { inner.account(&ctx, &login).await };
            Box::pin(asked) as BoxFuture<_>
        };
        match self.doubts.question(login, now, before, ask) {
            Some(question) => {
                ctx.note_cache(CacheUse::Miss);
                let patience = ctx.deadline().map(|deadline| self.clock.sleep_until(deadline));
                let answer = self.doubts.answer(question, patience).await;
                ctx.note(|| {
                    let outcome = match &answer {
                        Ok((Lookup::Found(_), _)) => "asked again: found".to_owned(),
                        Ok((Lookup::NotFound, _)) => "asked again: nobody".to_owned(),
                        Err(error) => format!("asked again: {error}"),
                    };
                    Step::new("source", outcome).at(self.inner.source().name())
                });
                answer.map(Some)
            }
            // Somebody may have asked while the password was hashed.
            None => Ok(self.inner.peek_account(ctx, login).map(|found| (found, before))),
        }
    }

    /// Decides by what was found, after `before` was read.
    async fn judge(
        &self,
        ctx: &Ctx,
        login: &Login,
        password: &Password,
        found: &Lookup<Account>,
        before: Before,
    ) -> Result<Verdict> {
        let rejected = |reject| Ok(Verdict::Rejected(reject));
        let Lookup::Found(account) = found else {
            return rejected(Reject::UnknownUser);
        };
        let Some(hash) = account.hash().filter(|hash| !is_switched_off(hash)) else {
            return rejected(Reject::NoPassword);
        };
        let who = account.principal();
        let verdict = self.admit(account);
        // Only a yes, as in a peek: a refusal from memory would not cost what a wrong password does.
        if matches!(verdict, Verdict::Accepted(_))
            && let Some(known) = self.remembered(ctx, login)
            && self.recalls(ctx, login, &known, account, password)
        {
            return Ok(verdict);
        }
        self.counts.memo_misses.fetch_add(1, Ordering::Relaxed);
        let verified = self.clock.now();
        let stamp = self.fence.with_id(before.stamp, before.watch, who);
        let (upgrade, step) = match self.hasher.verify_as(ctx, who.shown(), login, hash, password).await? {
            Outcome::Mismatch => return rejected(Reject::BadPassword),
            Outcome::Match { upgrade, step } => (upgrade, step),
        };
        if let Some(step) = step
            && !self.hasher.use_code(who, step)?
        {
            ctx.note(|| Step::new("hash", "the one-time code was used before"));
            return rejected(Reject::BadPassword);
        }
        // Once more: time has passed.
        let verdict = self.admit(account);
        if step.is_some() || matches!(verdict, Verdict::Rejected(_)) {
            return Ok(verdict);
        }
        let writes = self.inner.source().capabilities().replaces_hash;
        let replaced = upgrade
            && writes
            && can_make(&self.hasher.policy().preferred, password)
            && self.upgrade(ctx, who, hash, password).await;
        if !replaced && let Some(stamp) = stamp {
            let key = self.memo.key(login, hash, password);
            self.memo.remember(login, Remembered { key, verified, stamp, who: () });
        }
        Ok(verdict)
    }
}

fn unknown_now() -> Error {
    Error::new(ErrorKind::Unavailable, "the source fails, and an answer past its life refuses nobody")
}

/// Whom a password was verified for and against what: the same again would refuse it again.
fn basis(found: &Lookup<Account>) -> Option<(&str, Option<&StoredHash>)> {
    match found {
        Lookup::Found(account) => Some((account.principal().shown(), account.hash())),
        Lookup::NotFound => None,
    }
}

/// Reports whether a hash is a mark of Unix or Django that no password is right.
fn is_switched_off(hash: &StoredHash) -> bool {
    let text = hash.as_str();
    hash.scheme().is_none() && (text.starts_with('!') || matches!(text, "*" | "*0" | "*1"))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AccountSource + ?Sized + 'static> PasswordSource for Hashed<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let named = |error: Error| error.at(Arc::clone(self.inner.source().name()));
        self.decide(ctx, login, password).await.map_err(named)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.inner.account(ctx, login).await
    }

    // Only a yes: a no from memory would be told from others by the hash job that it has not cost.
    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        // First of all, so that nobody is counted as found in a cache whose password is not remembered: the
        // account is looked for again then.
        let known = self.remembered(ctx, login)?;
        let account = self.inner.peek_account(ctx, login)?.found()?;
        let verdict = self.admit(&account);
        if matches!(verdict, Verdict::Rejected(_)) {
            return None;
        }
        if !self.recalls(ctx, login, &known, &account, password) {
            return None;
        }
        ctx.note_cache(CacheUse::Hit);
        Some(verdict)
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

impl<S: AccountSource + ?Sized + 'static> fmt::Debug for Hashed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashed")
            .field("stats", &self.stats())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
