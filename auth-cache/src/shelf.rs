//! The tables of one cache, and the rule for what on them is still good.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Clock, Ctx, Fence, Freshness, IdWatch, Lookup, Moment, Stamp};

use crate::dice::{Dice, chance};
use crate::settings::{Lifetimes, Settings, nanos};
use crate::shared::{Found, Hearing};
use crate::stats::{CacheStats, Counters};
use crate::table::{Bound, NoTable, Table, TtlTable};
use crate::{Answer, Ask, Entry, Key};

/// An answer from memory, or what was read off it.
pub(crate) struct Hit<R = Answer> {
    pub(crate) answer: R,
    pub(crate) negative: bool,
    /// In nanoseconds, at least what it is.
    pub(crate) age: u64,
    /// Whether it should be loaded again, before it ends.
    pub(crate) due: bool,
}

/// Why there is no answer from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// No entry, or none that this question accepts.
    Nothing,
    /// One that an invalidation has voided.
    Void,
    /// One past its lifetime.
    Expired,
}

impl Missed {
    /// Names it for `explain`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
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

/// When a load was put to the source and how long that took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) at: Moment,
    pub(crate) took: Duration,
}

/// A table, the default one by its type: a hit on it then needs no virtual calls.
#[derive(Debug)]
enum Kept {
    Ttl(Arc<TtlTable>),
    /// Nothing is kept here.
    None(Arc<NoTable>),
    Other(Arc<dyn Table>),
}

impl Kept {
    fn of(table: Arc<dyn Table>) -> Self {
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(&table) as Arc<_>;
        match any.downcast().map(Self::Ttl).or_else(|any| any.downcast().map(Self::None)) {
            Ok(known) => known,
            Err(_) => Self::Other(table),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::None(_))
    }

    /// Reports whether there is an entry of a question of which this is true.
    fn sees(&self, ask: &Ask<'_>, is: impl Fn(&Entry) -> bool) -> bool {
        let mut seen = false;
        self.see(ask, &mut |entry| seen = is(entry));
        seen
    }
}

impl Deref for Kept {
    type Target = dyn Table;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Ttl(table) => &**table,
            Self::None(table) => &**table,
            Self::Other(table) => &**table,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shelf {
    positive: Kept,
    // Apart, so that a flood of names that nobody has evicts nobody.
    negative: Kept,
    fence: Arc<Fence>,
    pub(crate) clock: Arc<dyn Clock>,
    lifetimes: Arc<Lifetimes>,
    stale_if_error: u64,
    refresh_ahead: f64,
    pub(crate) counters: Counters,
    dice: Dice,
    // While it is deaf nothing is kept; what was kept is void then.
    hearing: Option<Arc<Hearing>>,
    // In milliseconds: how long an entry is kept here at most.
    local_most: u32,
}

impl Shelf {
    pub(crate) fn new(fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        Self {
            positive: Kept::of((settings.factory)(settings.bound)),
            negative: Kept::of((settings.factory)(settings.negative_bound())),
            fence,
            clock,
            lifetimes: Arc::clone(&settings.lifetimes),
            stale_if_error: nanos(settings.stale_if_error),
            // `max` also makes a zero of what is no number.
            refresh_ahead: settings.refresh_ahead.max(0.0),
            counters: Counters::default(),
            dice: Dice::seeded(settings.seed),
            hearing: settings.hearing.clone(),
            local_most: settings.local_ttl.map_or(Entry::NO_END, end_ms),
        }
    }

    /// Reports whether anything is kept here: there are tables, and nothing that voids them can be missed.
    pub(crate) fn keeps(&self) -> bool {
        !self.positive.is_none() && !self.hearing.as_ref().is_some_and(|hearing| hearing.is_deaf())
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
    pub(crate) fn find(&self, ctx: &Ctx, ask: &Ask<'_>) -> Result<Hit, Missed> {
        self.read(ctx, ask, Answer::clone)
    }

    /// Looks for an entry that is still good for this question, and reads off it what is wanted.
    #[inline(always)]
    pub(crate) fn read<R>(
        &self,
        ctx: &Ctx,
        ask: &Ask<'_>,
        read: impl Fn(&Answer) -> R,
    ) -> Result<Hit<R>, Missed> {
        // The usual case by itself, with nothing in its way: the default table by its type, and an entry of which
        // a check is known that still holds. What fails here is looked up once more.
        if let Kept::Ttl(table) = &self.positive
            && ctx.freshness() == Freshness::Any
        {
            let counts = self.counts();
            let mut known = None;
            table.show(ask, |entry| {
                let age = self.age(entry);
                if entry.checked.is_good(counts, age) {
                    known = Some((read(&entry.answer), age));
                }
            });
            if let Some((answer, age)) = known {
                return Ok(Hit { answer, negative: false, age, due: false });
            }
        }
        self.read_any(ctx.freshness(), ask, read)
    }

    #[inline(never)]
    fn read_any<R>(
        &self,
        freshness: Freshness,
        ask: &Ask<'_>,
        read: impl Fn(&Answer) -> R,
    ) -> Result<Hit<R>, Missed> {
        if freshness == Freshness::Fresh {
            return Err(Missed::Nothing);
        }
        let mut found = None;
        for table in [&self.positive, &self.negative] {
            table.see(ask, &mut |entry| {
                found = Some(self.judge(freshness, ask, entry).map(|(age, due)| {
                    let (answer, negative) = (read(&entry.answer), entry.answer.is_negative());
                    Hit { answer, negative, age, due }
                }));
            });
            if let Some(found) = found.take() {
                return found;
            }
        }
        Err(Missed::Nothing)
    }

    /// Tells the age of an entry in nanoseconds, and whether it should be loaded again before it ends, if it is
    /// still good.
    fn judge(&self, freshness: Freshness, ask: &Ask<'_>, entry: &Entry) -> Result<(u64, bool), Missed> {
        // Read before the stamp is compared and the lifetime looked up: what changes later moves it.
        let counts = self.counts();
        let age = self.age(entry);
        if freshness == Freshness::Any && entry.checked.is_good(counts, age) {
            return Ok((age, false));
        }
        self.judge_anew(freshness, ask, entry, counts, age)
    }

    /// Judges an entry of which no check is known that still holds, and notes for how long this one does.
    fn judge_anew(
        &self,
        freshness: Freshness,
        ask: &Ask<'_>,
        entry: &Entry,
        counts: u64,
        age: u64,
    ) -> Result<(u64, bool), Missed> {
        if self.current(ask, &entry.answer) != Some(entry.stamp) {
            return Err(Missed::Void);
        }
        let life = self.lifetimes.nanos_of_entry(entry);
        if age >= life || age >= end_nanos(entry) {
            return Err(Missed::Expired);
        }
        let due = life - (life >> 16) * u64::from(entry.ahead);
        if age < due {
            entry.checked.note(counts, due.min(end_nanos(entry)));
        }
        if !freshness.accepts(Duration::from_nanos(age)) {
            return Err(Missed::Nothing);
        }
        Ok((age, age >= due))
    }

    /// The age of an entry in nanoseconds: at least what it is, since the coarse time is never before the true one.
    #[inline]
    fn age(&self, entry: &Entry) -> u64 {
        self.clock.coarse().as_nanos().saturating_sub(entry.loaded.as_nanos())
    }

    /// A count that moves with every invalidation and every change of the lifetimes: the sum of two that only
    /// grow.
    #[inline]
    fn counts(&self) -> u64 {
        self.fence.settled().wrapping_add(self.lifetimes.changes())
    }

    /// Looks for an answer past its lifetime that may stand in for a source that has failed, and its age. The
    /// error is the age of one that is too old for that, if there is one.
    pub(crate) fn find_stale(&self, ctx: &Ctx, ask: &Ask<'_>) -> Result<(Answer, u64), Option<u64>> {
        let freshness = ctx.freshness();
        if self.stale_if_error == 0 || freshness == Freshness::Fresh {
            return Err(None);
        }
        // "Nobody" never stands in: a chain would take the failure of one source for leave to ask the next.
        let entry = self.positive.get(ask).ok_or(None)?;
        if matches!(entry.answer, Answer::Token(_)) || self.current(ask, &entry.answer) != Some(entry.stamp) {
            return Err(None);
        }
        let age = self.clock.now().as_nanos().saturating_sub(entry.loaded.as_nanos());
        let most = self.lifetimes.nanos_of_entry(&entry).saturating_add(self.stale_if_error);
        let good = age < most && age < end_nanos(&entry) && freshness.accepts(Duration::from_nanos(age));
        if good { Ok((entry.answer, age)) } else { Err(Some(age)) }
    }

    /// Reports whether an answer to a question that was put then is older by now than it may get in memory.
    pub(crate) fn outlives(&self, answer: &Answer, at: Moment) -> bool {
        self.clock.now().since(at) > self.lifetimes.of(answer)
    }

    /// Keeps what a load brought, unless an invalidation has voided it or something newer is kept. Returns how long
    /// it lives, here and wherever else it is kept; nothing if it is not to be kept anywhere.
    ///
    /// Loads must not do this at the same time: see the lock in `loader`.
    pub(crate) fn keep(&self, key: Key, answer: &Answer, before: Before, loaded: Loaded) -> Option<Duration> {
        self.keep_as(key, answer, before, (loaded.at, loaded.at), |answer, stamp| {
            self.entry(answer, stamp, loaded, Entry::NO_END)
        })
    }

    /// Keeps what the shared cache has told, as [`keep`](Self::keep) does with what a load brought, and for no longer
    /// than the shared cache does.
    pub(crate) fn keep_found(&self, key: Key, found: &Found, before: Before, at: Moment, asked: Moment) {
        self.keep_as(key, &found.answer, before, (at, asked), |answer, stamp| {
            let (ttl, life) = (self.lifetimes.nanos_of(&answer), nanos(found.life));
            let mut entry = Entry::new(answer, stamp, at);
            // Shortened as the entry of who has loaded it, if it lives as long there; else it has an end of its own.
            let parts = ttl.saturating_sub(life).div_ceil((ttl / 2550).max(1));
            match u8::try_from(parts) {
                Ok(jitter) => entry.jitter = jitter,
                Err(_) => entry.end_ms = end_ms(found.life),
            }
            entry
        });
    }

    /// Keeps an answer that was asked for at one moment, and was known not to be void at the other.
    fn keep_as(
        &self,
        key: Key,
        answer: &Answer,
        before: Before,
        (at, sound): (Moment, Moment),
        entry: impl FnOnce(Answer, Stamp) -> Entry,
    ) -> Option<Duration> {
        let ask = key.ask();
        let stamp = match (answer, before.stamp, before.ids) {
            (Answer::Account(Lookup::Found(account)), Some(stamp), Some(ids)) => {
                self.fence.with_id(stamp, ids, account.principal())
            }
            (_, stamp, _) => stamp,
        };
        let Some(stamp) = stamp.filter(|stamp| Some(*stamp) == self.current(&ask, answer)) else {
            self.counters.voided();
            self.end_older(&ask, at);
            return None;
        };
        if self.has_newer(&ask, at) {
            return None;
        }
        // An answer that is not kept still ends what was kept before: it is newer.
        let (home, other) = if answer.is_negative() {
            (&self.negative, &self.positive)
        } else {
            (&self.positive, &self.negative)
        };
        if other.sees(&ask, |_| true) {
            other.remove(&ask);
        }
        if self.lifetimes.of(answer).is_zero() {
            home.remove(&ask);
            return None;
        }
        let mut entry = entry(answer.clone(), stamp);
        let life = Duration::from_nanos(self.lifetimes.nanos_of_entry(&entry));
        if self.keeps() {
            entry.end_ms = entry.end_ms.min(self.local_most.saturating_add(end_ms(sound.since(at))));
            home.put(key, entry);
        }
        Some(life)
    }

    /// Ends what was asked for before a moment at which something was that can't be kept: that is newer.
    pub(crate) fn end_older(&self, ask: &Ask<'_>, at: Moment) {
        for table in [&self.positive, &self.negative] {
            if table.sees(ask, |entry| entry.loaded < at) {
                table.remove(ask);
            }
        }
    }

    /// Reports whether an answer is kept that is good by the fence and was asked for later.
    fn has_newer(&self, ask: &Ask<'_>, at: Moment) -> bool {
        let newer =
            |entry: &Entry| entry.loaded > at && Some(entry.stamp) == self.current(ask, &entry.answer);
        self.positive.sees(ask, newer) || self.negative.sees(ask, newer)
    }

    /// Keeps an answer that needed no load, for so long at most after it was asked for, unless something newer is
    /// kept.
    ///
    /// Like [`keep`](Self::keep), not to be done at the same time.
    pub(crate) fn keep_for(&self, key: Key, answer: Answer, stamp: Stamp, at: Moment, most: Duration) {
        if self.has_newer(&key.ask(), at) {
            return;
        }
        let end_ms = end_ms(most).min(self.local_most);
        if end_ms == 0 || self.lifetimes.of(&answer).is_zero() {
            self.positive.remove(&key.ask());
        } else if self.keeps() {
            let loaded = Loaded { at, took: Duration::ZERO };
            self.positive.put(key, self.entry(answer, stamp, loaded, end_ms));
        }
    }

    /// Marks an entry, so that no other hit starts a refresh of it, and reads what must be read before the
    /// source is asked. Nothing if it is not due any more.
    ///
    /// Like [`keep`](Self::keep) under the lock in `loader`: what it puts back must not replace a newer one.
    pub(crate) fn claim_refresh(&self, ctx: &Ctx, ask: &Ask<'_>) -> Option<Before> {
        let before = self.before(ask);
        for table in [&self.positive, &self.negative] {
            let mut due = None;
            table.see(ask, &mut |entry| {
                if self.judge(ctx.freshness(), ask, entry).is_ok_and(|(_, due)| due) {
                    due = Some(entry.clone());
                }
            });
            if let Some(entry) = due {
                table.put(ask.to_key(), Entry { ahead: 0, ..entry });
                return Some(before);
            }
        }
        None
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let (positive, negative) = (self.positive.usage(), self.negative.usage());
        let bound = match (self.positive.bound(), self.negative.bound()) {
            (Some(Bound::Entries(one)), Some(Bound::Entries(other))) => {
                Some(Bound::Entries(one.saturating_add(other)))
            }
            (Some(Bound::Bytes(one)), Some(Bound::Bytes(other))) => {
                Some(Bound::Bytes(one.saturating_add(other)))
            }
            _ => None,
        };
        CacheStats {
            evictions: positive.evictions.saturating_add(negative.evictions),
            entries: positive.entries.saturating_add(negative.entries),
            bytes: positive.bytes.saturating_add(negative.bytes),
            bound,
            ..self.counters.snapshot()
        }
    }

    fn entry(&self, answer: Answer, stamp: Stamp, loaded: Loaded, end_ms: u32) -> Entry {
        let throw = self.dice.throw();
        let [jitter, ..] = throw.to_le_bytes();
        let mut entry = Entry { end_ms, jitter, ..Entry::new(answer, stamp, loaded.at) };
        let life = self.lifetimes.nanos_of_entry(&entry);
        entry.ahead = ahead(self.refresh_ahead, throw, life, loaded.took);
        entry
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

/// The field of an end: one further off than it can say is taken for the furthest that it can.
fn end_ms(most: Duration) -> u32 {
    u32::try_from(most.as_millis()).unwrap_or(u32::MAX).min(Entry::NO_END - 1)
}

/// At which age an entry ends whatever the settings say.
fn end_nanos(entry: &Entry) -> u64 {
    match entry.end_ms {
        Entry::NO_END => u64::MAX,
        end_ms => u64::from(end_ms) * 1_000_000,
    }
}

/// Draws how much of its life, in parts of 65,536, is the time in which a hit starts a refresh: at least the
/// time that the load took, longer by chance, so that what was loaded together is not refreshed together,
/// and at most half of the life. After XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic
/// Cache Stampede Prevention, VLDB 2015), but drawn once, so that a hit draws nothing.
fn ahead(loads: f64, throw: u64, life: u64, took: Duration) -> u16 {
    const HALF: u16 = 1 << 15;
    let exponential = -(1.0 - chance(throw)).ln();
    let early = took.as_secs_f64() * (1.0 + exponential) * loads;
    let early = Duration::try_from_secs_f64(early).map_or(u64::MAX, nanos);
    if early == 0 || life == 0 {
        return 0;
    }
    // Rounded up: a part of a long life is longer than many a load.
    let parts = (u128::from(early) << 16).div_ceil(u128::from(life));
    u16::try_from(parts).unwrap_or(HALF).min(HALF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_due_for_at_least_the_time_of_a_load_and_at_most_half_of_the_life() {
        let (life, took) = (60_000_000_000, Duration::from_millis(20));
        let (least, mut sum) = (22, 0_u64);
        for throw in 0..10_000_u64 {
            let throw = throw.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let parts = ahead(1.0, throw, life, took);
            assert!(parts >= least, "{parts}");
            sum += u64::from(parts);
            assert_eq!(ahead(0.0, throw, life, took), 0);
            assert_eq!(ahead(1.0, throw, life, Duration::ZERO), 0);
            assert_eq!(ahead(1.0, throw, 0, took), 0);
            assert_eq!(ahead(1.0, throw, life, Duration::from_secs(60)), 1 << 15);
            assert_eq!(ahead(f64::INFINITY, throw, life, took), 1 << 15);
        }
        // The mean of an exponential time is one: twice the load on average.
        assert!((42..=46).contains(&(sum / 10_000)), "{sum}");
    }
}
