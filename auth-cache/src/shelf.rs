//! The tables of one cache, and the rule for what on them is still good.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth_core::{Clock, Ctx, Fence, IdWatch, Lookup, Moment, Stamp};
use foldhash::fast::RandomState;

use crate::settings::{Lifetimes, Settings};
use crate::stats::{CacheStats, Counters, count};
use crate::table::{Bound, Table};
use crate::{Answer, Ask, Entry, Key};

/// What looking for an entry came to.
pub(crate) enum Found {
    /// A good one of this age.
    Good(Answer, Duration),
    /// None, or none that this question accepts.
    Nothing,
    /// One that an invalidation has voided.
    Void,
    /// One past its lifetime.
    Expired,
}

impl Found {
    /// Names it for `explain`.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Good(..) => "hit",
            Self::Nothing => "miss",
            Self::Void => "invalidated",
            Self::Expired => "expired",
        }
    }
}

/// The generations of a question, read before its source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Before {
    // Absent for questions that are never put to a source.
    stamp: Option<Stamp>,
    // An account's id is not known before it is loaded, so invalidations by id are watched.
    ids: Option<IdWatch>,
}

#[derive(Debug)]
pub(crate) struct Shelf {
    positive: Arc<dyn Table>,
    // Apart, so that a flood of names that nobody has evicts nobody.
    negative: Arc<dyn Table>,
    fence: Arc<Fence>,
    pub(crate) clock: Arc<dyn Clock>,
    lifetimes: Arc<Lifetimes>,
    pub(crate) counters: Counters,
    dice: RandomState,
    throws: AtomicU64,
}

impl Shelf {
    pub(crate) fn new(fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        Self {
            positive: (settings.factory)(Bound::Entries(settings.size)),
            negative: (settings.factory)(Bound::Entries(settings.negative_size())),
            fence,
            clock,
            lifetimes: Arc::clone(&settings.lifetimes),
            counters: Counters::default(),
            dice: RandomState::default(),
            throws: AtomicU64::new(0),
        }
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Reads what must be read before the source is asked.
    pub(crate) fn before(&self, ask: &Ask<'_>) -> Before {
        // The watch first: an invalidation by id in between is then seen by it.
        let ids = matches!(ask, Ask::Account(_)).then(|| self.fence.watch_ids());
        Before { stamp: self.stamp(ask), ids }
    }

    /// Looks for an entry that is still good for this question.
    pub(crate) fn find(&self, ctx: &Ctx, ask: &Ask<'_>) -> Found {
        let freshness = ctx.freshness();
        if !freshness.accepts(Duration::ZERO) {
            return Found::Nothing;
        }
        let Some(entry) = self.positive.get(ask).or_else(|| self.negative.get(ask)) else {
            return Found::Nothing;
        };
        if self.current(ask, &entry.answer) != Some(entry.stamp) {
            return Found::Void;
        }
        let now = self.clock.now();
        let age = now.since(entry.loaded);
        let ended = entry.end_ms != Entry::NO_END && age >= Duration::from_millis(u64::from(entry.end_ms));
        if ended || age >= self.lifetimes.of_entry(&entry) {
            return Found::Expired;
        }
        if let Answer::Token(state) = &entry.answer
            && self.clock.wall() >= state.expires_at
        {
            return Found::Expired;
        }
        if !freshness.accepts(age) {
            return Found::Nothing;
        }
        Found::Good(entry.answer, age)
    }

    /// Keeps what a load brought, unless an invalidation has voided it or something newer is kept.
    ///
    /// Loads must not do this at the same time: see the lock in `loader`.
    pub(crate) fn keep(&self, key: Key, answer: &Answer, before: Before, loaded: Moment) {
        let ask = key.ask();
        let stamp = match (answer, before.stamp, before.ids) {
            (Answer::Account(Lookup::Found(account)), Some(stamp), Some(ids)) => {
                self.fence.with_id(stamp, ids, account.principal())
            }
            (_, stamp, _) => stamp,
        };
        let Some(stamp) = stamp.filter(|stamp| Some(*stamp) == self.current(&ask, answer)) else {
            count(&self.counters.voided);
            return;
        };
        let newer =
            |entry: &Entry| entry.loaded > loaded && Some(entry.stamp) == self.current(&ask, &entry.answer);
        if self.positive.get(&ask).is_some_and(|entry| newer(&entry))
            || self.negative.get(&ask).is_some_and(|entry| newer(&entry))
        {
            return;
        }
        // An answer that is not kept still ends what was kept before: it is newer.
        let (home, other) = if answer.is_negative() {
            (&self.negative, &self.positive)
        } else {
            (&self.positive, &self.negative)
        };
        other.remove(&ask);
        if self.lifetimes.of(answer).is_zero() {
            home.remove(&ask);
        } else {
            let entry = self.entry(answer.clone(), stamp, loaded, Entry::NO_END);
            home.put(key, entry);
        }
    }

    /// Keeps an answer that needed no load, in place of the one before, until its own end.
    pub(crate) fn keep_until(&self, key: Key, answer: Answer, stamp: Stamp, until: Moment) {
        let now = self.clock.now();
        if now >= until || self.lifetimes.of(&answer).is_zero() {
            self.positive.remove(&key.ask());
        } else {
            // An end further off than the field can say is taken for the furthest that it can.
            let end_ms =
                u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX).min(Entry::NO_END - 1);
            let entry = self.entry(answer, stamp, now, end_ms);
            self.positive.put(key, entry);
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let (positive, negative) = (self.positive.usage(), self.negative.usage());
        let most = |table: &dyn Table| match table.bound() {
            Some(Bound::Entries(most)) => u64::try_from(most).unwrap_or(u64::MAX),
            Some(Bound::Bytes(_)) | None => 0,
        };
        CacheStats {
            evictions: positive.evictions.saturating_add(negative.evictions),
            entries: positive.entries.saturating_add(negative.entries),
            capacity: most(&*self.positive).saturating_add(most(&*self.negative)),
            ..self.counters.snapshot()
        }
    }

    fn entry(&self, answer: Answer, stamp: Stamp, loaded: Moment, end_ms: u32) -> Entry {
        let [jitter, ..] = self.dice.hash_one(self.throws.fetch_add(1, Ordering::Relaxed)).to_le_bytes();
        Entry { answer, stamp, loaded, end_ms, ahead: 0, jitter }
    }

    fn stamp(&self, ask: &Ask<'_>) -> Option<Stamp> {
        match ask {
            Ask::Account(login) => Some(self.fence.login(login)),
            Ask::Groups(who) => Some(self.fence.groups(who)),
            Ask::Access(who, object, _) => Some(self.fence.access(who, object)),
            // Whose token it is shows only in its state.
            Ask::Token(_) => None,
        }
    }

    /// Returns the stamp that an entry with this answer must have.
    fn current(&self, ask: &Ask<'_>, answer: &Answer) -> Option<Stamp> {
        let whose = match answer {
            Answer::Account(Lookup::Found(account)) => account.principal(),
            Answer::Token(state) => &state.principal,
            _ => return self.stamp(ask),
        };
        let login = match ask {
            Ask::Account(login) => login,
            _ => whose.login(),
        };
        Some(self.fence.plus_id(self.fence.login(login), whose))
    }
}
