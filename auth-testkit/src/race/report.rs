//! What a run did, and what went wrong.

use std::collections::BTreeMap;
use std::fmt;

use super::Step;

/// What a run of schedules did. Look at it: a run in which nothing happened proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Schedules that were run.
    pub schedules: u64,
    /// Different ones among them.
    pub distinct: u64,
    /// Steps in all of them.
    pub steps: u64,
    /// Steps by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Answers that readers got.
    pub answers: u64,
    /// Answers from memory, at once.
    pub hits: u64,
    /// Readers that joined a question which was under way.
    pub joined: u64,
    /// Questions that were under way while what they are about was invalidated, and were answered after.
    pub voided: u64,
    /// Hits that made the cache ask the source in the background.
    pub refreshed: u64,
    /// Answers for which nobody waited any more.
    pub late: u64,
    /// Questions that were answered after a newer one about the same subject.
    pub overtaken: u64,
    /// Readers that asked after an invalidation of what they ask about.
    pub after_invalidation: u64,
    /// Answers that were flagged as stale.
    pub stale: u64,
    /// Readers that got an error.
    pub errors: u64,
    /// Reads that had to be hits, since nothing had voided the entry, though something else was invalidated.
    pub hits_expected: u64,
    /// Those that were none.
    pub hits_missed: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules, {} distinct, {} steps; {} answers, {} of them hits, {} joined, {} stale; \
             {} refreshed, {} voided in flight, {} overtaken, {} late; {} reads after an invalidation; \
             {} errors; {} of {} expected hits missed",
            self.schedules,
            self.distinct,
            self.steps,
            self.answers,
            self.hits,
            self.joined,
            self.stale,
            self.refreshed,
            self.voided,
            self.overtaken,
            self.late,
            self.after_invalidation,
            self.errors,
            self.hits_missed,
            self.hits_expected,
        )
    }
}

impl Report {
    /// Adds another run, of another cache or with another seed.
    pub fn add(&mut self, other: &Self) {
        for (kind, steps) in &other.by_kind {
            *self.by_kind.entry(kind).or_default() += steps;
        }
        self.schedules += other.schedules;
        self.distinct += other.distinct;
        self.steps += other.steps;
        self.answers += other.answers;
        self.hits += other.hits;
        self.joined += other.joined;
        self.voided += other.voided;
        self.refreshed += other.refreshed;
        self.late += other.late;
        self.overtaken += other.overtaken;
        self.after_invalidation += other.after_invalidation;
        self.stale += other.stale;
        self.errors += other.errors;
        self.hits_expected += other.hits_expected;
        self.hits_missed += other.hits_missed;
    }
}

/// A promise of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Nothing that was asked of the source before an acknowledged invalidation is served to a reader that
    /// began after it.
    Invalidated,
    /// What is newer is not lost to what is older.
    Newer,
    /// What comes from memory is not older than its life.
    TooOld,
    /// A reader that wants a fresh answer, or one of some age, gets one.
    Fresh,
    /// Nothing is served that the source did not say.
    NeverSaid,
    /// A reader gets an error only if the source has failed just now.
    Errors,
    /// Every reader ends once the source has answered everything.
    Ends,
    /// An invalidation voids nobody else's entries.
    Forgotten,
    /// An answer is flagged as stale only where that is allowed.
    Stale,
    /// As many different schedules are run as were asked for.
    Few,
}

impl Rule {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invalidated => "an invalidated answer was served",
            Self::Newer => "a newer answer was lost to an older",
            Self::TooOld => "an answer outlived its life",
            Self::Fresh => "an answer is older than its reader accepts",
            Self::NeverSaid => "an answer that the source never gave",
            Self::Errors => "an error though the source has not failed of late",
            Self::Ends => "a reader was left without an answer",
            Self::Forgotten => "an invalidation voided somebody else's entries",
            Self::Stale => "an answer was flagged as stale where that is not allowed",
            Self::Few => "there are fewer different schedules than were asked for",
        }
    }
}

/// A broken promise: which, in which schedule, and how it came to that.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Violation {
    /// The promise.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
    /// The number of the schedule or history, for `replay`.
    pub seed: u64,
    /// How many were run until it showed, this one included.
    pub after: u64,
    /// The steps, made as few as they can be. None for a history.
    pub steps: Vec<Step>,
    /// What happened, step by step.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.rule.as_str(), self.what)?;
        writeln!(f, "seed {:#x}, found after {} runs:", self.seed, self.after)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}
