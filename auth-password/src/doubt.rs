//! Who may be asked about again, and the questions that are under way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{Account, BoxFuture, Error, ErrorKind, IdWatch, Login, Lookup, Moment, Result, Stamp};
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, WeakShared, pending, select};
use lru::LruCache;

// Logins of different people seldom wait for one another.
const SHARDS: usize = 16;

// For 14,336 logins it is known when they were asked about, in about 100 bytes each beside the name. Each has cost a
// hash job, so more seldom come together within one time of rest.
const EACH: usize = 896;

/// The generations of a login, read before its account is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) stamp: Stamp,
    pub(crate) watch: IdWatch,
}

type Asking = BoxFuture<Result<Lookup<Account>>>;

/// A question to the source, asked by the first who doubts and shared by who else doubts meanwhile. It goes on
/// as long as one of them waits.
pub(crate) struct Question {
    login: Login,
    asked: Moment,
    before: Before,
    answer: Shared<Asking>,
}

struct Asked {
    at: Moment,
    before: Before,
    // Weak: when everybody has left, the question ends.
    under_way: Option<WeakShared<Asking>>,
}

// In the order in which they were asked about, since nothing else is a use.
type Shard = LruCache<Login, Asked, foldhash::fast::RandomState>;

/// Allows one question for each login in a while, and forgets rather than grow: what is forgotten allows one
/// question more.
pub(crate) struct Doubts {
    every: Duration,
    // Std mutexes: nothing awaits while one is held.
    shards: [Mutex<Shard>; SHARDS],
}

impl Doubts {
    /// Allows one question in each `every`; none at all if that is zero.
    pub(crate) fn new(every: Duration) -> Self {
        // Without the bound of its own, which would take the room for all at once.
        let shard = || Mutex::new(LruCache::unbounded_with_hasher(Default::default()));
        Self { every, shards: std::array::from_fn(|_| shard()) }
    }

    /// Returns the question that may be put now, or that is under way; nothing if there was one lately.
    pub(crate) fn question(
        &self,
        login: &Login,
        now: Moment,
        before: Before,
        ask: impl FnOnce() -> Asking,
    ) -> Option<Question> {
        if self.every.is_zero() {
            return None;
        }
        let mut shard = self.shard(login)?;
        if let Some(asked) = shard.peek(login).filter(|asked| self.rests(asked, now)) {
            // One from before an invalidation must not be joined after it.
            let under_way = asked.under_way.as_ref().filter(|_| asked.before == before);
            let answer = under_way.and_then(WeakShared::upgrade)?;
            return Some(Question { login: login.clone(), asked: asked.at, before, answer });
        }
        if shard.len() >= EACH {
            shard.pop_lru();
        }
        let answer = ask().shared();
        shard.put(login.clone(), Asked { at: now, before, under_way: answer.downgrade() });
        Some(Question { login: login.clone(), asked: now, before, answer })
    }

    /// Waits for the answer, and no longer than `patience`. After an error the question may be put again.
    pub(crate) async fn answer(
        &self,
        question: Question,
        patience: Option<BoxFuture<()>>,
    ) -> Result<(Lookup<Account>, Before)> {
        let Question { login, asked, before, answer } = question;
        let patience = patience.unwrap_or_else(|| Box::pin(pending()));
        let answer = match select(answer, patience).await {
            Either::Left((answer, _)) => Some(answer),
            // With what the other side holds: whoever still waits keeps the question.
            Either::Right(_) => None,
        };
        if let Some(mut shard) = self.shard(&login)
            && let Some(entry) = shard.peek_mut(&login).filter(|entry| entry.at == asked)
        {
            match &answer {
                // Kept no longer than needed: an account shows a hash.
                Some(Ok(_)) => entry.under_way = None,
                // Others go on waiting for it.
                None if entry.under_way.as_ref().is_some_and(|asking| asking.upgrade().is_some()) => {}
                Some(Err(_)) | None => drop(shard.pop(&login)),
            }
        }
        let late = || Err(Error::new(ErrorKind::Timeout, "no answer before the deadline"));
        answer.unwrap_or_else(late).map(|found| (found, before))
    }

    fn rests(&self, asked: &Asked, now: Moment) -> bool {
        now.since(asked.at) < self.every
    }

    fn shard(&self, login: &Login) -> Option<MutexGuard<'_, Shard>> {
        let [.., last] = login.hash64().to_le_bytes();
        let shard = self.shards.get(usize::from(last) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use auth_core::{Fence, LoginRule, RealmId};

    use super::*;

    const EVERY: Duration = Duration::from_secs(15);

    fn ask() -> Asking {
        Box::pin(std::future::pending())
    }

    #[test]
    fn the_logins_that_were_asked_about_take_bounded_room() {
        let (realm, fence) = (RealmId::new("r", LoginRule::Exact).unwrap(), Fence::new());
        let doubts = Doubts::new(EVERY);
        let kept = || doubts.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        let put = |n: usize, now: Moment| {
            let login = Login::parse(&realm, &format!("u{n}")).unwrap();
            let before = Before { stamp: fence.login(&login), watch: fence.watch_ids() };
            doubts.question(&login, now, before, ask).is_some()
        };
        for n in 0..10 * SHARDS * EACH {
            assert!(put(n, Moment::ZERO), "each is another login");
            assert!(kept() <= SHARDS * EACH);
        }
        // The last are still known, and their questions have ended with their only askers.
        for n in 10 * SHARDS * EACH - SHARDS * EACH / 2..10 * SHARDS * EACH {
            assert!(!put(n, Moment::ZERO), "{n}");
        }
        // Those that were asked about first make room.
        let later = Moment::ZERO + EVERY;
        assert!(put(0, later));
        for n in 1..SHARDS * EACH / 2 {
            put(n, later);
        }
        assert!(!put(0, later), "not forgotten");
    }
}
