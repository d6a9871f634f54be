//! What travels with a question: its deadline, the freshness it asks for, and what is noted on the way.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Moment;

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// As old as the configured lifetimes allow.
    #[default]
    Any,
    /// At most this old.
    MaxAge(Duration),
    /// Asked of the source after the question was put.
    Fresh,
}

impl Freshness {
    /// Reports whether an answer of this age will do.
    #[must_use]
    pub fn accepts(self, age: Duration) -> bool {
        match self {
            Self::Any => true,
            Self::MaxAge(limit) => age <= limit,
            Self::Fresh => false,
        }
    }
}

/// The context of one question. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ctx {
    deadline: Option<Moment>,
    freshness: Freshness,
    record: Option<Arc<Record>>,
    client: Option<IpAddr>,
}

impl Ctx {
    /// Makes a context without deadline or wishes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets when the caller stops waiting. An earlier deadline stays.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Moment) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Sets how old an answer may be.
    #[must_use]
    pub const fn with_freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Notes what happens to this question in `record`.
    #[must_use]
    pub fn with_record(mut self, record: Arc<Record>) -> Self {
        self.record = Some(record);
        self
    }

    /// Says from which address somebody asks, so that wrong passwords count for it.
    #[must_use]
    pub const fn with_client(mut self, client: IpAddr) -> Self {
        self.client = Some(client);
        self
    }

    /// Makes the context for work that goes on when the caller has left: the same record,
    /// the given deadline, whatever freshness.
    #[must_use]
    pub fn detached(&self, deadline: Moment) -> Self {
        Self {
            deadline: Some(deadline),
            freshness: Freshness::Any,
            record: self.record.clone(),
            client: self.client,
        }
    }

    /// Returns when the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Returns how old an answer may be.
    #[must_use]
    pub const fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Returns from which address somebody asks.
    #[must_use]
    pub const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Returns the record of this question.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.record.as_ref()
    }

    /// Asks from memory: what is noted meanwhile counts only if that gives an answer, since the question is
    /// asked again otherwise. Allocates only where somebody keeps a record.
    #[inline]
    pub fn trying<T>(&self, peek: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        match &self.record {
            None => peek(self),
            Some(record) => self.trying_with(record, peek),
        }
    }

    #[cold]
    fn trying_with<T>(&self, record: &Record, peek: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        let scratch = Arc::new(if record.steps.is_some() { Record::explaining() } else { Record::new() });
        let answer = peek(&self.clone().with_record(Arc::clone(&scratch)))?;
        self.note_cache(scratch.cache());
        if let Some(steps) = &record.steps {
            steps.lock().unwrap_or_else(PoisonError::into_inner).extend(scratch.steps());
        }
        Some(answer)
    }

    /// Notes a step for `explain`; the step is made only if somebody wants it.
    pub fn note(&self, step: impl FnOnce() -> Step) {
        if let Some(steps) = self.record.as_ref().and_then(|record| record.steps.as_ref()) {
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(step());
        }
    }

    /// Notes that a cache answered, or could not.
    pub fn note_cache(&self, used: CacheUse) {
        if let Some(record) = &self.record {
            record.cache.fetch_max(used as u8, Ordering::Relaxed);
        }
    }

    /// Notes that some source has said that the password is wrong, whatever the answer will be.
    pub fn note_no(&self) {
        if let Some(record) = &self.record {
            record.no.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that this attempt has cost a hash job.
    pub fn note_hash_job(&self) {
        if let Some(record) = &self.record {
            record.hash_jobs.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How caches took part in an answer. The later variants outrank the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CacheUse {
    /// No cache was asked.
    Off = 0,
    /// Everything came from a cache.
    Hit = 1,
    /// A source was asked.
    Miss = 2,
    /// A source failed and an older answer stood in.
    Stale = 3,
}

impl CacheUse {
    /// Names it in the form used by JSON answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// What one attempt has cost, and, if asked for, every step of it.
#[derive(Debug, Default)]
pub struct Record {
    hash_jobs: AtomicU32,
    cache: AtomicU8,
    no: AtomicBool,
    steps: Option<Mutex<Vec<Step>>>,
}

impl Record {
    /// Makes a record that counts only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a record that keeps every step.
    #[must_use]
    pub fn explaining() -> Self {
        Self { steps: Some(Mutex::default()), ..Self::default() }
    }

    /// Makes an empty record that keeps as much as this one.
    #[must_use]
    pub fn like(&self) -> Self {
        if self.steps.is_some() { Self::explaining() } else { Self::new() }
    }

    /// Returns how many hash jobs the attempt has cost.
    #[must_use]
    pub fn hash_jobs(&self) -> u32 {
        self.hash_jobs.load(Ordering::Relaxed)
    }

    /// Reports whether some source has said that the password is wrong.
    #[must_use]
    pub fn heard_no(&self) -> bool {
        self.no.load(Ordering::Relaxed)
    }

    /// Returns how caches took part.
    #[must_use]
    pub fn cache(&self) -> CacheUse {
        match self.cache.load(Ordering::Relaxed) {
            0 => CacheUse::Off,
            1 => CacheUse::Hit,
            2 => CacheUse::Miss,
            _ => CacheUse::Stale,
        }
    }

    /// Returns the steps so far, in order.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.steps
            .as_ref()
            .map(|steps| steps.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }
}

/// One step of an answer, for `explain`. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What took the step: `login`, `cache`, `source`, `hash`, `memo`, `guard`, `chain`, `link`, `realm`.
    pub part: &'static str,
    /// The source it was about.
    pub source: Option<Arc<str>>,
    /// What came of it.
    pub outcome: String,
    /// How long it took, where that was measured.
    pub took: Option<Duration>,
    /// How old the answer was, where it came from a cache.
    pub age: Option<Duration>,
}

impl Step {
    /// Makes a step.
    #[must_use]
    pub fn new(part: &'static str, outcome: impl fmt::Display) -> Self {
        Self { part, source: None, outcome: outcome.to_string(), took: None, age: None }
    }

    /// Says which source it was about.
    #[must_use]
    pub fn at(mut self, source: &Arc<str>) -> Self {
        self.source = Some(Arc::clone(source));
        self
    }

    /// Says how long it took.
    #[must_use]
    pub const fn took(mut self, time: Duration) -> Self {
        self.took = Some(time);
        self
    }

    /// Says how old the answer was.
    #[must_use]
    pub const fn aged(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}
