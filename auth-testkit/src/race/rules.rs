//! What a reader may be told.

use std::time::Duration;

use auth_core::{Freshness, Moment};

use super::Rule;
use crate::trial::{Cast, Kind, Load, Said, Scope};

/// Everything that the rules look at.
pub(super) struct Facts<'a> {
    pub(super) kind: Kind,
    pub(super) cast: &'a Cast,
    pub(super) loads: &'a [Load],
    /// The steps in which something was invalidated, in order.
    pub(super) invalidated: &'a [(u64, Scope)],
    pub(super) ttl: Duration,
    pub(super) stale: Duration,
    pub(super) forgets: bool,
}

/// An answer, and whom it was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) subject: usize,
    pub(super) said: Said,
    pub(super) began: u64,
    pub(super) at: Moment,
    /// When it was told.
    pub(super) told: Moment,
    pub(super) freshness: Freshness,
    pub(super) stale: bool,
}

impl Facts<'_> {
    /// Checks an answer against everything that the source has said.
    ///
    /// An answer does not always tell its load: rights have three values, and so has "not found" many
    /// versions. It is right if one load explains it.
    pub(super) fn check(&self, heard: &Heard) -> Result<(), (Rule, String)> {
        let Heard { subject, said, began, at, stale, .. } = *heard;
        if stale && self.stale.is_zero() {
            return Err((Rule::Stale, format!("subject {subject}: {said}")));
        }
        let broken = |rule| Err((rule, format!("subject {subject}: {said}, to the reader of step {began}")));
        let mut loads: Vec<&Load> =
            self.loads.iter().filter(|load| self.said(load, subject) == Some(said)).collect();
        if loads.is_empty() {
            return broken(Rule::NeverSaid);
        }
        let absent = said == Said::NotFound;
        let since = self.last_invalidation(subject, absent, began);
        loads.retain(|load| since.is_none_or(|step| load.asked >= step));
        if loads.is_empty() {
            return broken(Rule::Invalidated);
        }
        loads.retain(|load| match heard.freshness {
            Freshness::Any => true,
            Freshness::MaxAge(limit) => at.since(load.at) <= limit,
            Freshness::Fresh => load.asked >= began,
        });
        if loads.is_empty() {
            return broken(Rule::Fresh);
        }
        let life = if stale { self.ttl + self.stale } else { self.ttl };
        // Its own question, or one put since it asked, may take as long as it will.
        loads.retain(|load| load.asked >= began || heard.told.since(load.at) <= life);
        if loads.is_empty() {
            return broken(Rule::TooOld);
        }
        if let Some(newest) = self.newest(subject, began)
            && self.lives(newest, at)
        {
            loads.retain(|load| load.asked >= newest.asked || (self.forgets && load.ended > newest.ended));
        }
        if loads.is_empty() { broken(Rule::Newer) } else { Ok(()) }
    }

    /// Reports whether a plain reader of this subject has to find an entry, though something else was
    /// invalidated since it was kept.
    pub(super) fn must_hit(&self, subject: usize, now: u64, at: Moment) -> bool {
        let Some(newest) = self.newest(subject, now) else { return false };
        let absent = self.said(newest, subject) == Some(Said::NotFound);
        !self.forgets
            && self.lives(newest, at)
            && !self.is_disturbed(newest)
            && self.invalidated.last().is_some_and(|(step, _)| *step > newest.ended)
            && self.last_invalidation(subject, absent, now).is_none_or(|step| step < newest.asked)
            // What came later may be kept in its place, and be void since.
            && !self.loads.iter().any(|load| {
                load.subjects.contains(&subject) && load.ended > newest.ended && load.asked != newest.asked
            })
    }

    /// Reports whether this subject was invalidated since this step.
    pub(super) fn is_void_since(&self, subject: usize, absent: bool, step: u64) -> bool {
        self.last_invalidation(subject, absent, u64::MAX).is_some_and(|at| at > step)
    }

    /// Returns the newest load that had answered before this step.
    pub(super) fn newest(&self, subject: usize, before: u64) -> Option<&Load> {
        let ended = self.loads.iter().filter(|load| load.said_of(subject).is_some() && load.ended < before);
        ended.max_by_key(|load| load.asked)
    }

    /// Returns the step of the last invalidation before a step.
    pub(super) fn last_invalidation(&self, subject: usize, absent: bool, before: u64) -> Option<u64> {
        let mut latest_first = self.invalidated.iter().rev();
        latest_first
            .find(|(step, scope)| *step < before && self.cast.covers(self.kind, *scope, subject, absent))
            .map(|(step, _)| *step)
    }

    fn said(&self, load: &Load, subject: usize) -> Option<Said> {
        load.said_of(subject).map(|version| self.kind.said(version))
    }

    /// Well within its life, whatever jitter takes of that.
    fn lives(&self, load: &Load, at: Moment) -> bool {
        at.since(load.at) < self.ttl * 8 / 10
    }

    /// Something was invalidated while it was under way, whatever it was: a cache that does not know yet whom
    /// an answer is about does not keep it.
    fn is_disturbed(&self, load: &Load) -> bool {
        self.invalidated.iter().any(|(step, _)| (load.asked..=load.ended).contains(step))
    }
}
