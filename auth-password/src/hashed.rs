//! Makes a store that shows hashes into a source that decides.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Freshness, Login, Lookup,
    Password, PasswordSource, Principal, Reject, Result, SourceInfo, Step, StoredHash, Subject, Verdict,
};
use futures_util::future::{Either, select};

use crate::hash::Outcome;
use crate::hasher::Hasher;
use crate::memo::{Key, Memo, MemoConfig};
use crate::verify::can_make;

// An upgrade gets half of what is left, so that the answer still arrives in time.
const UPGRADE_NEEDS: Duration = Duration::from_millis(500);
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);

/// What a [`Hashed`] has done beside asking the pool. Counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HashedStats {
    /// Passwords that were taken for right from memory.
    pub memo_hits: u64,
    /// Passwords that are remembered now.
    pub memo_entries: usize,
    /// Hashes that were replaced by better ones.
    pub upgrades: u64,
    /// Hashes that should have been replaced and could not; the login succeeded.
    pub upgrade_failures: u64,
}

#[derive(Default)]
struct Counts {
    memo_hits: AtomicU64,
    upgrades: AtomicU64,
    upgrade_failures: AtomicU64,
}

/// Decides by the stored hashes that a store shows.
///
/// - An unknown login, and an account without a password, cost no hash job here: the realm spends one
///   at the end of an attempt that has had none.
/// - A right password is remembered for a short while, in this process, under a keyed hash of realm,
///   login, source, stored hash and password. Wrong ones and one-time codes never are. A changed hash,
///   an invalidation and the end of the lifetime each void it; the account's state is looked at each time.
/// - After a right password, a hash that is not as good as the preferred one is replaced by compare
///   and swap, where the store can. That this fails never fails the login.
/// - A one-time code is accepted once.
///
/// Put it outside of `Cached`, so that the account it looks at may come from a cache.
pub struct Hashed<S: ?Sized = dyn AccountSource> {
    hasher: Arc<Hasher>,
    memo: Memo,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    counts: Counts,
    inner: Arc<S>,
}

impl<S: AccountSource + ?Sized> Hashed<S> {
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
        Ok(Self { hasher, memo: Memo::new(memo)?, fence, clock, counts: Counts::default(), inner })
    }

    /// Returns what it has done.
    #[must_use]
    pub fn stats(&self) -> HashedStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HashedStats {
            memo_hits: read(&self.counts.memo_hits),
            memo_entries: self.memo.len(),
            upgrades: read(&self.counts.upgrades),
            upgrade_failures: read(&self.counts.upgrade_failures),
        }
    }

    fn key(&self, login: &Login, hash: &StoredHash, password: &Password) -> Key {
        self.memo.key(login, self.inner.source().name(), hash, password)
    }

    fn recall(&self, ctx: &Ctx, who: &Principal, key: &Key) -> Option<Duration> {
        let stamp = self.fence.plus_id(self.fence.login(who.login()), who);
        let age = self.memo.recall(key, self.clock.now(), stamp)?;
        if !ctx.freshness().accepts(age) {
            return None;
        }
        self.counts.memo_hits.fetch_add(1, Ordering::Relaxed);
        ctx.note(|| Step::new("memo", "hit").at(self.inner.source().name()).aged(age));
        Some(age)
    }

    // What the verdict is if the password is right.
    fn admit(&self, account: &Account) -> Verdict {
        match account.state().refusal(self.clock.wall()) {
            Some(reject) => Verdict::Rejected(reject),
            None => Verdict::Accepted(account.principal().clone()),
        }
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
        let rejected = |reject| Ok(Verdict::Rejected(reject));
        // Both before the account is asked for: an invalidation from here on voids what we learn.
        let (stamp, watch) = (self.fence.login(login), self.fence.watch_ids());
        let Lookup::Found(account) = self.inner.account(ctx, login).await? else {
            return rejected(Reject::UnknownUser);
        };
        let Some(hash) = account.hash().filter(|hash| !is_switched_off(hash)) else {
            return rejected(Reject::NoPassword);
        };
        let who = account.principal();
        let key = self.key(login, hash, password);
        let verdict = self.admit(&account);
        // Only a yes, as in a peek: a refusal from memory would not cost what a wrong password does.
        if matches!(verdict, Verdict::Accepted(_)) && self.recall(ctx, who, &key).is_some() {
            return Ok(verdict);
        }
        let verified = self.clock.now();
        let stamp = self.fence.with_id(stamp, watch, who);
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
        let verdict = self.admit(&account);
        if step.is_some() || matches!(verdict, Verdict::Rejected(_)) {
            return Ok(verdict);
        }
        let writes = self.inner.source().capabilities().replaces_hash;
        let replaced = upgrade
            && writes
            && can_make(&self.hasher.policy().preferred, password)
            && self.upgrade(ctx, who, hash, password).await;
        if !replaced && let Some(stamp) = stamp {
            self.memo.remember(key, verified, stamp);
        }
        Ok(verdict)
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
        if !self.memo.is_on() || matches!(ctx.freshness(), Freshness::Fresh) {
            return None;
        }
        let account = self.inner.peek_account(ctx, login)?.found()?;
        let verdict = self.admit(&account);
        if matches!(verdict, Verdict::Rejected(_)) {
            return None;
        }
        self.recall(ctx, account.principal(), &self.key(login, account.hash()?, password))?;
        ctx.note_cache(CacheUse::Hit);
        Some(verdict)
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

impl<S: AccountSource + ?Sized> fmt::Debug for Hashed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashed")
            .field("stats", &self.stats())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
