//! The model of bounded staleness: random histories on a clock that only the run moves.
//!
//! The source changes, fails and recovers; it takes its time to answer, and reads its value at any moment of
//! it; readers ask, time passes, some changes are invalidated. Whatever a reader is told at a time *t* has to
//! be what the source would have said at some moment in `[t - B, t]`, or since the reader asked. *B* is how long
//! answers live, in some histories less than the source may take; for an answer that is flagged as stale,
//! longer by what the cache states. After an invalidation, it has to be
//! something that the source said since.
//!
//! Look at the [`Report`]: the oldest answer should come close to the bound. Otherwise little was proved.
//!
//! ```
//! use auth_testkit::{Tested, staleness::Staleness};
//!
//! let report = Staleness::new(1).with_histories(100).run(|setup| Tested::groups(setup.groups()));
//! assert_eq!(report.expect("a bare store tells no old news").hits, 0);
//! ```

use std::fmt;
use std::time::Duration;

use crate::race::Violation;
use crate::trial::{Dice, Setup, Stage, Tested, mix};

mod history;

use history::History;

/// How many histories are run, and with what.
#[derive(Debug, Clone)]
pub struct Staleness {
    seed: u64,
    histories: u64,
    back_off: Duration,
}

/// What a run of histories did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Histories that were run.
    pub histories: u64,
    /// Events in all of them.
    pub events: u64,
    /// Changes at the source.
    pub changes: u64,
    /// Invalidations.
    pub invalidations: u64,
    /// Answers that readers got.
    pub answers: u64,
    /// Answers from memory, at once.
    pub hits: u64,
    /// Hits that made the cache ask the source in the background.
    pub refreshed: u64,
    /// Questions that the source answered.
    pub loads: u64,
    /// Questions that the source failed.
    pub failures: u64,
    /// Answers that were flagged as stale.
    pub stale: u64,
    /// Readers that got an error.
    pub errors: u64,
    /// How long answers live: the bound.
    pub bound: Duration,
    /// For how long the oldest answer had not been true any more when it was served, stale ones left out.
    pub oldest: Duration,
    /// The same of those that were flagged as stale.
    pub oldest_stale: Duration,
}

impl Report {
    /// Returns how close the oldest answer came to the bound, in percent.
    #[must_use]
    pub fn closeness(&self) -> u128 {
        (self.oldest.as_nanos() * 100).checked_div(self.bound.as_nanos()).unwrap_or_default()
    }

    /// Adds another run, of another cache or with another seed.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.events += other.events;
        self.changes += other.changes;
        self.invalidations += other.invalidations;
        self.answers += other.answers;
        self.hits += other.hits;
        self.refreshed += other.refreshed;
        self.loads += other.loads;
        self.failures += other.failures;
        self.stale += other.stale;
        self.errors += other.errors;
        self.bound = self.bound.max(other.bound);
        self.oldest = self.oldest.max(other.oldest);
        self.oldest_stale = self.oldest_stale.max(other.oldest_stale);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} histories, {} events, {} changes, {} invalidations; {} loads, {} failures; {} answers, {} of \
             them hits, {} refreshed, {} stale; {} errors; oldest {:?} of {:?} ({} %), oldest stale {:?}",
            self.histories,
            self.events,
            self.changes,
            self.invalidations,
            self.loads,
            self.failures,
            self.answers,
            self.hits,
            self.refreshed,
            self.stale,
            self.errors,
            self.oldest,
            self.bound,
            self.closeness(),
            self.oldest_stale,
        )
    }
}

impl Staleness {
    /// The longest that the source takes for an answer. A cache must not give up a load sooner.
    pub const SLOWEST: Duration = Duration::from_millis(2_500);

    /// Starts from a seed: the same seed makes the same choices.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, histories: 10_000, back_off: Duration::from_secs(6) }
    }

    /// Sets how many histories are run. 10,000 by default.
    #[must_use]
    pub const fn with_histories(mut self, histories: u64) -> Self {
        self.histories = histories;
        self
    }

    /// Sets for how long after a failure of the source a reader may be told an error without a question to the
    /// source. 6 seconds by default; answers live for 10. A reader may be told so, too, as long as the source
    /// has answered nothing since: a cache may try a failing source with one question at a time.
    #[must_use]
    pub const fn with_back_off(mut self, back_off: Duration) -> Self {
        self.back_off = back_off;
        self
    }

    /// Runs histories, each over a cache of its own that `build` makes.
    ///
    /// # Errors
    /// The first answer that is not allowed, with its history.
    ///
    /// # Panics
    /// If no runtime can be made.
    pub fn run(&self, build: impl Fn(&Setup) -> Tested) -> Result<Report, Box<Violation>> {
        let stage = Stage::new();
        let mut report = Report::default();
        for number in 0..self.histories {
            let seed = mix(self.seed.wrapping_add(mix(number)));
            match self.play(&stage, seed, &build) {
                Ok(one) => report.add(&one),
                Err(mut found) => {
                    found.after = number + 1;
                    return Err(found);
                }
            }
        }
        Ok(report)
    }

    /// Runs one history again: the one of a [`Violation`]'s seed.
    ///
    /// # Errors
    /// What is wrong with it.
    ///
    /// # Panics
    /// If no runtime can be made.
    pub fn replay(&self, seed: u64, build: impl Fn(&Setup) -> Tested) -> Result<Report, Box<Violation>> {
        self.play(&Stage::new(), seed, &build)
    }

    fn play(
        &self,
        stage: &Stage,
        seed: u64,
        build: &dyn Fn(&Setup) -> Tested,
    ) -> Result<Report, Box<Violation>> {
        let runtime = stage.runtime();
        let _inside = runtime.enter();
        let mut setup = stage.setup(seed);
        // In some, the source may take longer than its answers live.
        if seed.is_multiple_of(4) {
            setup.ttl = Self::SLOWEST / 2;
        }
        let tested = build(&setup);
        let mut history = History::new(setup, tested, self.back_off, Dice::new(seed));
        match runtime.block_on(history.play()) {
            Ok(()) => Ok(history.report),
            Err((rule, what)) => {
                let trace = history.trace();
                Err(Box::new(Violation { rule, what, seed, after: 1, steps: Vec::new(), trace }))
            }
        }
    }
}
