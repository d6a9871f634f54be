//! How long answers live, how many are kept, and how a source may be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth_core::{Access, Lookup};

use crate::gate::{Gate, Limits};
use crate::shared::{Hearing, SharedCache};
use crate::table::{Bound, TableFactory, TtlTable};
use crate::{Answer, Entry};

/// How long each kind of answer lives, from the moment its source was asked. Zero: it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttls {
    /// Accounts.
    pub account: Duration,
    /// Accepted passwords, where a memo keeps them.
    pub accepted: Duration,
    /// Group sets.
    pub groups: Duration,
    /// Rights that are there: how long a withdrawn one may live on.
    pub allow: Duration,
    /// Rights that are not: how long a new one may be refused.
    pub deny: Duration,
    /// Nobody has this login; no groups are known of this person.
    pub unknown: Duration,
    /// There is no such object.
    pub not_found: Duration,
    /// Validated tokens; never past the token's own end.
    pub token: Duration,
}

impl Default for Ttls {
    fn default() -> Self {
        Self {
            account: Duration::from_secs(60),
            accepted: Duration::from_secs(60),
            groups: Duration::from_secs(60),
            allow: Duration::from_secs(30),
            deny: Duration::from_secs(30),
            unknown: Duration::from_secs(15),
            not_found: Duration::ZERO,
            token: Duration::from_secs(300),
        }
    }
}

impl Ttls {
    /// Sets one lifetime for all, as `CACHE_TTL` does: accounts, accepted passwords and groups live that
    /// long, and nothing lives longer.
    ///
    /// ```
    /// use auth_cache::Ttls;
    /// use std::time::Duration;
    /// let ttls = Ttls::default().with_ttl(Duration::from_secs(20));
    /// assert_eq!((ttls.account, ttls.allow), (Duration::from_secs(20), Duration::from_secs(20)));
    /// assert_eq!((ttls.unknown, ttls.not_found), (Duration::from_secs(15), Duration::ZERO));
    /// ```
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self {
            account: ttl,
            accepted: ttl,
            groups: ttl,
            allow: self.allow.min(ttl),
            deny: self.deny.min(ttl),
            unknown: self.unknown.min(ttl),
            not_found: self.not_found.min(ttl),
            token: self.token.min(ttl),
        }
    }
}

/// The lifetimes in force, which may be changed while they are used.
///
/// Entries keep when they were loaded, not when they end: a lifetime lowered here acts at once on
/// everything that is kept already.
#[derive(Debug)]
pub struct Lifetimes {
    account: AtomicU64,
    accepted: AtomicU64,
    groups: AtomicU64,
    allow: AtomicU64,
    deny: AtomicU64,
    unknown: AtomicU64,
    not_found: AtomicU64,
    token: AtomicU64,
    changes: AtomicU64,
}

impl Lifetimes {
    /// Puts lifetimes into force.
    #[must_use]
    pub fn new(ttls: Ttls) -> Self {
        Self {
            account: AtomicU64::new(nanos(ttls.account)),
            accepted: AtomicU64::new(nanos(ttls.accepted)),
            groups: AtomicU64::new(nanos(ttls.groups)),
            allow: AtomicU64::new(nanos(ttls.allow)),
            deny: AtomicU64::new(nanos(ttls.deny)),
            unknown: AtomicU64::new(nanos(ttls.unknown)),
            not_found: AtomicU64::new(nanos(ttls.not_found)),
            token: AtomicU64::new(nanos(ttls.token)),
            changes: AtomicU64::new(0),
        }
    }

    /// Replaces the lifetimes.
    pub fn set(&self, ttls: Ttls) {
        let Self { account, accepted, groups, allow, deny, unknown, not_found, token, changes } = self;
        for (place, ttl) in [
            (account, ttls.account),
            (accepted, ttls.accepted),
            (groups, ttls.groups),
            (allow, ttls.allow),
            (deny, ttls.deny),
            (unknown, ttls.unknown),
            (not_found, ttls.not_found),
            (token, ttls.token),
        ] {
            place.store(nanos(ttl), Ordering::Relaxed);
        }
        // Last, so that whoever reads this count has the lifetimes that it counts.
        changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how often they were replaced.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        // In one order with the fence's count: readers add the two, and a sum that two of them share must not
        // let one trust what the other found before an invalidation.
        self.changes.load(Ordering::SeqCst)
    }

    /// Returns the lifetimes in force.
    #[must_use]
    pub fn get(&self) -> Ttls {
        let read = |place: &AtomicU64| Duration::from_nanos(place.load(Ordering::Relaxed));
        Ttls {
            account: read(&self.account),
            accepted: read(&self.accepted),
            groups: read(&self.groups),
            allow: read(&self.allow),
            deny: read(&self.deny),
            unknown: read(&self.unknown),
            not_found: read(&self.not_found),
            token: read(&self.token),
        }
    }

    /// Returns the longest that an answer of any kind lives.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let Ttls { account, accepted, groups, allow, deny, unknown, not_found, token } = self.get();
        let all = [account, accepted, groups, allow, deny, unknown, not_found, token];
        all.into_iter().max().unwrap_or_default()
    }

    /// Returns how long an answer of this kind lives.
    #[must_use]
    pub fn of(&self, answer: &Answer) -> Duration {
        Duration::from_nanos(self.nanos_of(answer))
    }

    // Every hit asks for these: in nanoseconds, since taking a `Duration` apart costs divisions.
    pub(crate) fn nanos_of(&self, answer: &Answer) -> u64 {
        let place = match answer {
            Answer::Account(Lookup::Found(_)) => &self.account,
            Answer::Groups(Lookup::Found(_)) => &self.groups,
            Answer::Account(Lookup::NotFound) | Answer::Groups(Lookup::NotFound) => &self.unknown,
            Answer::Access(Access::Allow) => &self.allow,
            Answer::Access(Access::Deny) => &self.deny,
            Answer::Access(Access::NotFound) => &self.not_found,
            Answer::Token(_) => &self.token,
        };
        place.load(Ordering::Relaxed)
    }

    /// Returns how long this entry lives: never longer than the lifetime of its kind, shorter by up to ten
    /// percent, so that what was loaded together is not reloaded together.
    pub(crate) fn nanos_of_entry(&self, entry: &Entry) -> u64 {
        let ttl = self.nanos_of(&entry.answer);
        // 255 parts of 2,550 are the tenth: no more than `ttl`, and no overflow.
        ttl - (ttl / 2550) * u64::from(entry.jitter)
    }
}

pub(crate) fn nanos(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX)
}

/// How a wrapper caches.
///
/// Clones share their [`Lifetimes`] and their [`Gate`]. Give every wrapper of a source a clone of one; for
/// another source, [`for_source`](Self::for_source) makes settings with a gate of its own.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Makes the tables; see [`kinds`](crate::kinds).
    pub factory: TableFactory,
    /// How much is kept, beside an eighth as much for answers that there is nobody and nothing.
    pub bound: Bound,
    /// How long answers live.
    pub lifetimes: Arc<Lifetimes>,
    /// How long one question to the source may take, and how long it may wait for its turn.
    pub load_timeout: Duration,
    /// How long past its lifetime an answer may stand in for a source that fails. Zero: not at all.
    pub stale_if_error: Duration,
    /// How early what is in use is loaded again, in measured times of a load. Zero: not before its end.
    pub refresh_ahead: f64,
    /// How many questions the source is asked at once, and how long it is left alone after failures.
    pub gate: Arc<Gate>,
    /// Where chance comes from: jitter, and when a refresh is due. The same seed gives the same again;
    /// without one, each cache has its own.
    pub seed: Option<u64>,
    /// What is shared with other processes, behind the tables of this one.
    pub shared: Option<Arc<SharedCache>>,
    /// What other processes tell of invalidations. While that is deaf, nothing is kept in the tables.
    pub hearing: Option<Arc<Hearing>>,
    /// How long the tables of this process keep an answer at most, from when its source was asked, where others may
    /// have invalidated it unheard. Nothing: as long as it lives.
    pub local_ttl: Option<Duration>,
}

impl Settings {
    /// How many entries are kept by default.
    pub const SIZE: usize = 262_144;

    /// Starts from the defaults with a kind of table.
    #[must_use]
    pub fn new(factory: TableFactory) -> Self {
        Self {
            factory,
            bound: Bound::Entries(Self::SIZE),
            lifetimes: Arc::new(Lifetimes::new(Ttls::default())),
            load_timeout: Duration::from_secs(5),
            stale_if_error: Duration::ZERO,
            refresh_ahead: 1.0,
            gate: Arc::default(),
            seed: None,
            shared: None,
            hearing: None,
            local_ttl: None,
        }
    }

    /// Returns these settings for another source: the same lifetimes and limits, a gate of its own.
    #[must_use]
    pub fn for_source(&self) -> Self {
        self.clone().with_limits(self.gate.limits())
    }

    /// Sets how many entries are kept. Zero keeps none.
    #[must_use]
    pub fn with_size(self, entries: usize) -> Self {
        self.with_bound(Bound::Entries(entries))
    }

    /// Sets how much is kept. Zero keeps nothing.
    #[must_use]
    pub fn with_bound(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// Sets how long answers live; no longer shared with earlier clones.
    #[must_use]
    pub fn with_ttls(mut self, ttls: Ttls) -> Self {
        self.lifetimes = Arc::new(Lifetimes::new(ttls));
        self
    }

    /// Sets how long one question to the source may take.
    #[must_use]
    pub fn with_load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// Sets how long past its lifetime an answer may stand in for a source that fails. It never does for a
    /// subject that was invalidated since, for a token, or for "nobody" and "nothing".
    #[must_use]
    pub fn with_stale_if_error(mut self, longer: Duration) -> Self {
        self.stale_if_error = longer;
        self
    }

    /// Sets how early what is in use is loaded again, in measured times of a load. What is no number or
    /// less than zero is zero: not before its end.
    #[must_use]
    pub fn with_refresh_ahead(mut self, loads: f64) -> Self {
        self.refresh_ahead = loads;
        self
    }

    /// Sets the gate, to be shared by everything that asks one source.
    #[must_use]
    pub fn with_gate(mut self, gate: Arc<Gate>) -> Self {
        self.gate = gate;
        self
    }

    /// Sets how the source may be asked, with a gate of its own, which earlier clones do not share.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.with_gate(Arc::new(Gate::new(limits)))
    }

    /// Sets where chance comes from.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets what is shared with other processes: asked where the tables have nothing, before the source.
    #[must_use]
    pub fn with_shared(mut self, shared: Arc<SharedCache>) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Sets what other processes tell of invalidations: the tables are used only while it hears.
    #[must_use]
    pub fn with_hearing(mut self, hearing: Arc<Hearing>) -> Self {
        self.hearing = Some(hearing);
        self
    }

    /// Sets how long the tables of this process keep an answer at most. What is shared lives on.
    #[must_use]
    pub fn with_local_ttl(mut self, most: Duration) -> Self {
        self.local_ttl = Some(most);
        self
    }

    /// Returns how much is kept of answers that there is nobody or nothing.
    pub(crate) fn negative_bound(&self) -> Bound {
        let eighth = |size: usize| if size == 0 { 0 } else { (size / 8).max(1) };
        match self.bound {
            Bound::Entries(entries) => Bound::Entries(eighth(entries)),
            Bound::Bytes(bytes) => Bound::Bytes(eighth(bytes)),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(Arc::new(|bound| Arc::new(TtlTable::new(bound))))
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("bound", &self.bound)
            .field("lifetimes", &self.lifetimes.get())
            .field("load_timeout", &self.load_timeout)
            .field("stale_if_error", &self.stale_if_error)
            .field("refresh_ahead", &self.refresh_ahead)
            .field("limits", &self.gate.limits())
            .field("shared", &self.shared)
            .field("hearing", &self.hearing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::{Fence, Login, LoginRule, Moment, RealmId};

    #[test]
    fn one_ttl_sets_three_and_caps_the_rest() {
        let second = Duration::from_secs;
        let short = Ttls::default().with_ttl(second(5));
        for ttl in
            [short.account, short.accepted, short.groups, short.allow, short.deny, short.unknown, short.token]
        {
            assert_eq!(ttl, second(5));
        }
        let long = Ttls::default().with_ttl(second(3600));
        assert_eq!((long.account, long.accepted, long.groups), (second(3600), second(3600), second(3600)));
        assert_eq!((long.allow, long.unknown, long.token), (second(30), second(15), second(300)));
        assert_eq!(long.not_found, Duration::ZERO);
    }

    #[test]
    fn jitter_only_shortens_and_by_a_tenth_at_most() {
        let realm = RealmId::new("r", LoginRule::Exact).unwrap();
        let stamp = Fence::new().login(&Login::parse(&realm, "x").unwrap());
        for ttl in [0, 1, 999, 2_550, 60_000_000_000, u64::MAX] {
            let ttl = Duration::from_nanos(ttl);
            let lifetimes = Lifetimes::new(Ttls { allow: ttl, ..Ttls::default() });
            for jitter in 0..=u8::MAX {
                let answer = Answer::Access(Access::Allow);
                let entry = Entry { jitter, ..Entry::new(answer, stamp, Moment::ZERO) };
                let life = Duration::from_nanos(lifetimes.nanos_of_entry(&entry));
                assert!(life <= ttl && life >= ttl - ttl / 10, "{ttl:?} {jitter} {life:?}");
            }
        }
    }
}
