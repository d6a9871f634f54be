//! Remembers which passwords a source has accepted that decides by itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, CacheUse, Clock, Ctx, Fence, Freshness, Login, Lookup, Password, PasswordSource, Principal,
    Result, SourceInfo, Step, StoredHash, Verdict,
};

use crate::hashed::HashedStats;
use crate::memo::{Memo, MemoConfig, Remembered};

/// Remembers for a short while which passwords a source has accepted that shows no hashes: a directory that is asked by
/// a bind.
///
/// Only what was accepted, in this process, under a keyed hash of realm, login, source and password: the last password
/// of each login. An invalidation and the end of the lifetime void it; use does not extend it. Until then an account
/// that is locked or gets another password at the source is let in with the old one, so keep the lifetime short. What
/// is refused is asked for each time.
///
/// Not for sources whose passwords are good once.
pub struct Confirmed<S: ?Sized = dyn PasswordSource> {
    memo: Memo<Principal>,
    /// Stands for the stored hash that there is none of.
    basis: StoredHash,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    hits: AtomicU64,
    misses: AtomicU64,
    inner: Arc<S>,
}

impl<S: PasswordSource + ?Sized> Confirmed<S> {
    /// Wraps a source.
    ///
    /// # Errors
    /// [`Unavailable`](auth_core::ErrorKind::Unavailable) if there are no random numbers.
    pub fn new(inner: Arc<S>, memo: MemoConfig, fence: Arc<Fence>, clock: Arc<dyn Clock>) -> Result<Self> {
        let memo = Memo::new(memo, inner.source().name())?;
        let basis = StoredHash::new(String::new(), None);
        Ok(Self { memo, basis, fence, clock, hits: AtomicU64::new(0), misses: AtomicU64::new(0), inner })
    }

    /// Returns what it has done. It replaces no hashes.
    #[must_use]
    pub fn stats(&self) -> HashedStats {
        HashedStats {
            memo_hits: self.hits.load(Ordering::Relaxed),
            memo_misses: self.misses.load(Ordering::Relaxed),
            memo_evictions: self.memo.evictions(),
            memo_entries: self.memo.len(),
            memo_bound: self.memo.bound(),
            ..HashedStats::default()
        }
    }

    /// Tells whose password this is, if it was accepted lately and nothing has voided that.
    fn recall(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<(Principal, Duration)> {
        let (known, age) = self.memo.find(login, self.clock.coarse())?;
        let stamp = self.fence.plus_id(self.fence.login(login), &known.who);
        let good = ctx.freshness().accepts(age)
            && stamp == known.stamp
            && self.memo.key(login, &self.basis, password) == known.key;
        good.then_some((known.who, age))
    }

    fn accept(&self, ctx: &Ctx, (who, age): (Principal, Duration)) -> Verdict {
        self.hits.fetch_add(1, Ordering::Relaxed);
        ctx.note(|| Step::new("memo", "hit").at(self.inner.source().name()).aged(age));
        ctx.note_cache(CacheUse::Hit);
        Verdict::Accepted(who)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: PasswordSource + ?Sized> PasswordSource for Confirmed<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        if let Some(known) = self.recall(ctx, login, password) {
            return Ok(self.accept(ctx, known));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        // Before the source is asked: an invalidation from here on voids what it says. The watch first, as an
        // invalidation by id in between is then seen by it.
        let watch = self.fence.watch_ids();
        let stamp = self.fence.login(login);
        let verified = self.clock.now();
        let verdict = self.inner.verify(ctx, login, password).await?;
        if let Verdict::Accepted(who) = &verdict
            && who.login() == login
            && let Some(stamp) = self.fence.with_id(stamp, watch, who)
        {
            let key = self.memo.key(login, &self.basis, password);
            self.memo.remember(login, Remembered { key, verified, stamp, who: who.clone() });
        }
        Ok(verdict)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.inner.account(ctx, login).await
    }

    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        if matches!(ctx.freshness(), Freshness::Fresh) {
            return None;
        }
        let known = self.recall(ctx, login, password)?;
        Some(self.accept(ctx, known))
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

impl<S: PasswordSource + ?Sized> fmt::Debug for Confirmed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmed")
            .field("stats", &self.stats())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
