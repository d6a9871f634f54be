//! Counts in the memory of this process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Allowance, Attempt, Begun, Clock, Count, Counters, Moment, REMEMBERED_ATTEMPTS, Result, Settled, WireName,
};
use lru::LruCache;

/// Attempts at different keys seldom wait for one another.
const SHARDS: usize = 16;

/// How many of the least recently counted keys are looked at for the one that is least full.
const CANDIDATES: usize = 8;

/// One key: a leaky bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// When it will be empty.
    empty: Moment,
    /// When the pause is over.
    until: Moment,
    /// Who began the pause.
    began: Option<[u8; 8]>,
    /// The attempts that were counted last, and their tags.
    attempts: VecDeque<([u8; 8], [u8; 8])>,
}

impl Bucket {
    fn begin(&mut self, attempt: &Attempt, allowance: &Allowance, now: Moment) -> Begun {
        if now < self.until && self.began != Some(attempt.id) {
            return Begun::Wait(self.until.since(now));
        }
        if self.attempts.iter().any(|(_, tag)| *tag == attempt.tag) {
            return Begun::Go;
        }
        self.empty = self.empty.max(now) + allowance.drain;
        self.attempts.push_back((attempt.id, attempt.tag));
        if self.attempts.len() > REMEMBERED_ATTEMPTS {
            self.attempts.pop_front();
        }
        let pause = allowance.pause(self.level(allowance, now));
        if !pause.is_zero() {
            self.until = now + pause;
            self.began = Some(attempt.id);
        }
        Begun::Go
    }

    fn undo(&mut self, attempt: &Attempt, allowance: &Allowance) {
        let Some(at) = self.attempts.iter().position(|(id, _)| *id == attempt.id) else { return };
        self.attempts.remove(at);
        let left = self.empty.as_nanos().saturating_sub(nanos(allowance.drain));
        self.empty = Moment::from_nanos(left);
        if self.began == Some(attempt.id) {
            self.until = Moment::ZERO;
            self.began = None;
        }
    }

    /// How full it is, in attempts.
    fn level(&self, allowance: &Allowance, now: Moment) -> u32 {
        let left = nanos(self.empty.since(now));
        u32::try_from(left.div_ceil(nanos(allowance.drain).max(1))).unwrap_or(u32::MAX)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

type Shard = LruCache<WireName, Bucket>;

/// [`Counters`] in the memory of this process, for so many keys: those that were not counted for longest go, the least
/// full of them first.
pub struct LocalCounters {
    // Std mutexes: nothing awaits while one is held.
    shards: [Mutex<Shard>; SHARDS],
    each: usize,
    /// When the last of all pauses is over, in nanoseconds.
    busy: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl LocalCounters {
    /// Makes counters for about so many keys.
    #[must_use]
    pub fn new(entries: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            // Without the bound of its own, which would take the room for all at once.
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
            each: entries.div_ceil(SHARDS).max(1),
            busy: AtomicU64::new(0),
            clock,
        }
    }

    /// Returns how many keys are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Reports whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports whether there is no pause at all.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        // Later than now by a tick at most, which matters to nobody.
        self.busy.load(Ordering::Relaxed) <= self.clock.coarse().as_nanos()
    }

    /// Reports whether there is a pause at a key.
    pub(super) fn pauses(&self, key: &WireName) -> bool {
        let now = self.clock.now();
        self.shard(key).peek(key).is_some_and(|bucket| now < bucket.until)
    }

    /// Lets an attempt in under each key, or counts it under none.
    pub(super) fn begin_all(&self, attempt: &Attempt, counts: &[Count]) -> Begun {
        for (at, count) in counts.iter().enumerate() {
            if let wait @ Begun::Wait(_) = self.begin_one(attempt, count) {
                for count in counts.iter().take(at) {
                    self.settle_one(attempt, count, Settled::Undone);
                }
                return wait;
            }
        }
        Begun::Go
    }

    /// Notes a pause that other processes know of, so that this one's memory knows it too. Counts nothing.
    pub(super) fn pause(&self, count: &Count, wait: Duration) {
        let now = self.clock.now();
        let mut shard = self.shard(&count.key);
        if !shard.contains(&count.key) {
            if shard.len() >= self.each {
                make_room(&mut shard, now);
            }
            shard.put(count.key, Bucket::default());
        }
        if let Some(bucket) = shard.get_mut(&count.key) {
            bucket.until = bucket.until.max(now + wait.min(count.allowance.most));
            bucket.began = None;
            self.busy.fetch_max(bucket.until.as_nanos(), Ordering::Relaxed);
        }
    }

    pub(super) fn settle_all(&self, attempt: &Attempt, ends: &[(Count, Settled)]) {
        for (count, end) in ends {
            self.settle_one(attempt, count, *end);
        }
    }

    fn begin_one(&self, attempt: &Attempt, count: &Count) -> Begun {
        let now = self.clock.now();
        let mut shard = self.shard(&count.key);
        if !shard.contains(&count.key) {
            if shard.len() >= self.each {
                make_room(&mut shard, now);
            }
            shard.put(count.key, Bucket::default());
        }
        let Some(bucket) = shard.get_mut(&count.key) else { return Begun::Go };
        let begun = bucket.begin(attempt, &count.allowance, now);
        self.busy.fetch_max(bucket.until.as_nanos(), Ordering::Relaxed);
        begun
    }

    fn settle_one(&self, attempt: &Attempt, count: &Count, end: Settled) {
        let mut shard = self.shard(&count.key);
        match end {
            Settled::Cleared => drop(shard.pop(&count.key)),
            Settled::Undone => {
                let Some(bucket) = shard.peek_mut(&count.key) else { return };
                bucket.undo(attempt, &count.allowance);
                if bucket.attempts.is_empty() && bucket.empty <= self.clock.now() {
                    shard.pop(&count.key);
                }
            }
        }
    }

    fn shard(&self, key: &WireName) -> MutexGuard<'_, Shard> {
        let [.., last] = key.as_bytes();
        // There are sixteen.
        let shard = self.shards.get(usize::from(last % 16)).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the least full go of the keys that were not counted for longest: a flood of names that nobody has does not
/// evict what is guessed at.
fn make_room(shard: &mut Shard, now: Moment) {
    let seen: Vec<(WireName, Bucket)> = (0..CANDIDATES).map_while(|_| shard.pop_lru()).collect();
    let fullness = |bucket: &Bucket| (bucket.until.max(now), bucket.attempts.len(), bucket.empty);
    let gone = seen.iter().min_by_key(|(_, bucket)| fullness(bucket)).map(|(key, _)| *key);
    for (key, bucket) in seen {
        if Some(key) != gone {
            shard.put(key, bucket);
        }
    }
}

impl fmt::Debug for LocalCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCounters").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Counters for LocalCounters {
    async fn begin(&self, attempt: &Attempt, counts: &[Count]) -> Result<Vec<Begun>> {
        Ok(counts.iter().map(|count| self.begin_one(attempt, count)).collect())
    }

    async fn settle(&self, attempt: &Attempt, ends: &[(Count, Settled)]) -> Result<()> {
        self.settle_all(attempt, ends);
        Ok(())
    }
}
