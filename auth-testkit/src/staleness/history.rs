//! One history: what happens when, and what may be said then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{CacheUse, Clock, ErrorKind, Freshness, Moment, Record};

use super::{Report, Staleness};
use crate::race::{Rule, Scope};
use crate::trial::{
    Dice, Ended, Kind, Readers, Reply, SUBJECTS, Said, Setup, State, Tested, Wish, peek, settle,
};

type Broken = (Rule, String);

pub(super) struct History {
    setup: Setup,
    tested: Tested,
    readers: Readers,
    back_off: Duration,
    dice: Dice,
    // Of each subject: since when the source has had which version.
    values: [Vec<(Moment, u32)>; SUBJECTS],
    invalidated: Vec<(Moment, Scope)>,
    // Of each question that waits: when its value is read, and when it is answered.
    plans: BTreeMap<usize, Plan>,
    known: usize,
    is_out: bool,
    trouble: Option<Moment>,
    // When it first answered since.
    mended: Option<Moment>,
    pub(super) report: Report,
    lines: Vec<(Moment, Line)>,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    look: Option<Moment>,
    end: Moment,
    panics: bool,
}

enum Line {
    Change(usize, u32),
    Invalidate(Scope),
    Out(bool),
    Asked(usize, Vec<usize>),
    Looked(usize),
    Answered(usize),
    Failed(usize),
    Reads(usize, Wish),
    Told(usize, usize, Result<Said, ErrorKind>, bool),
    Peeked(usize, Said),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(subject, version) => write!(f, "subject {subject} changes to version {version}"),
            Self::Invalidate(scope) => write!(f, "invalidated: {scope}"),
            Self::Out(true) => f.write_str("the source goes out"),
            Self::Out(false) => f.write_str("the source is back"),
            Self::Asked(question, of) => write!(f, "question {question} at the source, of {of:?}"),
            Self::Looked(question) => write!(f, "the value is read for question {question}"),
            Self::Answered(question) => write!(f, "question {question} is answered"),
            Self::Failed(question) => write!(f, "question {question} fails"),
            Self::Reads(reader, wish) => write!(f, "reader {reader} asks: {wish:?}"),
            Self::Told(reader, subject, told, stale) => {
                write!(f, "reader {reader} gets for subject {subject}: ")?;
                match told {
                    Ok(said) => write!(f, "{said}")?,
                    Err(kind) => write!(f, "the error {kind}")?,
                }
                f.write_str(if *stale { " (stale)" } else { "" })
            }
            Self::Peeked(subject, said) => write!(f, "memory has for subject {subject}: {said}"),
        }
    }
}

/// An answer, and whom it was told.
struct Heard {
    subject: usize,
    said: Said,
    at: Moment,
    freshness: Freshness,
    stale: bool,
}

impl History {
    pub(super) fn new(setup: Setup, tested: Tested, back_off: Duration, dice: Dice) -> Self {
        let report = Report { histories: 1, bound: setup.ttl, ..Report::default() };
        Self {
            setup,
            tested,
            readers: Readers::default(),
            back_off,
            dice,
            values: [const { Vec::new() }; SUBJECTS].map(|mut values: Vec<_>| {
                values.push((Moment::ZERO, 0));
                values
            }),
            invalidated: Vec::new(),
            plans: BTreeMap::new(),
            known: 0,
            is_out: false,
            trouble: None,
            mended: None,
            report,
            lines: Vec::new(),
        }
    }

    pub(super) fn trace(&self) -> Vec<String> {
        let millis = |at: Moment| at.since(Moment::ZERO).as_millis();
        self.lines.iter().map(|(at, line)| format!("{:>6} ms: {line}", millis(*at))).collect()
    }

    pub(super) async fn play(&mut self) -> Result<(), Broken> {
        for _ in 0..self.dice.between(15, 40) {
            self.report.events += 1;
            let pause = match self.dice.below(10) {
                0..4 => self.dice.between(1, 200),
                4..8 => self.dice.between(200, 3_000),
                _ => self.dice.between(3_000, 10_500),
            };
            self.pass(Duration::from_millis(pause)).await?;
            self.happen();
            self.go_on().await?;
        }
        // Everything that was asked is answered by then.
        self.is_out = false;
        self.pass(Staleness::SLOWEST * 3).await?;
        match self.readers.waiting().as_slice() {
            [] => Ok(()),
            left => Err((Rule::Ends, format!("readers {left:?} wait, and the source has no question"))),
        }
    }

    /// Lets time pass, from one planned moment to the next.
    async fn pass(&mut self, time: Duration) -> Result<(), Broken> {
        let until = self.now() + time;
        loop {
            self.go_on().await?;
            let next = self.plans.iter().map(|(place, plan)| (plan.look.unwrap_or(plan.end), *place)).min();
            match next.filter(|(when, _)| *when <= until) {
                None => break,
                Some((when, place)) => {
                    self.setup.clock.advance(when.since(self.now()));
                    self.come_to(place);
                }
            }
        }
        self.setup.clock.advance(until.since(self.now()));
        self.go_on().await
    }

    /// Reads the value for a question, or ends it.
    fn come_to(&mut self, place: usize) {
        let Some(plan) = self.plans.get_mut(&place) else { return };
        let now = self.setup.clock.now();
        if plan.look.take().is_some() {
            let mut log = self.setup.board.log();
            if let Some(load) = log.loads.get_mut(place) {
                let values = load.subjects.iter().filter_map(|subject| self.values.get(*subject)?.last());
                load.read = Some(values.map(|(_, version)| *version).collect());
            }
            self.lines.push((now, Line::Looked(place)));
            return;
        }
        let panics = plan.panics;
        self.plans.remove(&place);
        let failure = match (panics, self.is_out) {
            (true, _) => Some(Reply::Panic),
            (false, true) => Some(Reply::Fail(ErrorKind::Unavailable)),
            (false, false) => None,
        };
        let fails = failure.is_some();
        self.setup.board.end(place, failure);
        self.report.failures += u64::from(fails);
        self.report.loads += u64::from(!fails);
        if fails {
            (self.trouble, self.mended) = (Some(now), None);
        } else {
            self.mended.get_or_insert(now);
        }
        self.lines.push((now, if fails { Line::Failed(place) } else { Line::Answered(place) }));
    }

    /// Something happens.
    fn happen(&mut self) {
        let now = self.now();
        let subject = if self.dice.chance(60) { 0 } else { self.dice.index(SUBJECTS) };
        match self.dice.below(100) {
            0..66 => {
                let freshness = match self.dice.below(20) {
                    0 => Freshness::Fresh,
                    1 => Freshness::MaxAge(Duration::from_millis(self.dice.between(0, 9_000))),
                    _ => Freshness::Any,
                };
                let many = self.tested.kind() == Kind::Objects && self.dice.chance(20);
                let wish = if many { Wish::Many } else { Wish::One(subject, freshness) };
                let reader = self.readers.begin(&self.tested, &self.setup, wish, self.report.events);
                self.lines.push((now, Line::Reads(reader, wish)));
            }
            66..86 => self.change(subject),
            86..92 => {
                let scope = match self.dice.below(6) {
                    0 => Scope::Id(subject),
                    1 => Scope::Stranger,
                    2 => Scope::Realm,
                    _ => Scope::Login(subject),
                };
                let (kind, cast) = (self.tested.kind(), Arc::clone(&self.setup.cast));
                for subject in (0..SUBJECTS).filter(|subject| cast.covers(kind, scope, *subject, false)) {
                    self.change(subject);
                }
                cast.name(scope, |subject| {
                    self.setup.fence.invalidate(subject);
                    if let Some(told) = &self.tested.told {
                        told(subject);
                    }
                });
                self.invalidated.push((now, scope));
                self.report.invalidations += 1;
                self.lines.push((now, Line::Invalidate(scope)));
            }
            _ => {
                // Out for a short while only: in a long outage nothing is learned.
                self.is_out = !self.is_out && self.dice.chance(60);
                self.lines.push((now, Line::Out(self.is_out)));
            }
        }
    }

    fn change(&mut self, subject: usize) {
        let now = self.now();
        let Some(values) = self.values.get_mut(subject) else { return };
        let version = values.last().map_or(0, |(_, version)| version + 1);
        values.push((now, version));
        self.report.changes += 1;
        self.lines.push((now, Line::Change(subject, version)));
    }

    /// Lets everything go on that can now, plans what is asked, and checks what readers are told.
    async fn go_on(&mut self) -> Result<(), Broken> {
        let ended = settle(&mut self.readers, self.tested.turns).await;
        let now = self.now();
        if self.setup.board.notice_left() > 0 {
            (self.trouble, self.mended) = (Some(now), None);
        }
        let asked = self.plan();
        for reader in &ended {
            for (subject, told) in &reader.told {
                let (subject, told) = (*subject, told.as_ref().map_err(auth_core::Error::kind).copied());
                self.lines.push((now, Line::Told(reader.reader, subject, told, reader.stale)));
                self.hear(reader, subject, told)?;
            }
            let hit = reader.at == now && reader.told.iter().all(|(_, told)| told.is_ok());
            self.report.hits += u64::from(hit && reader.began == self.report.events);
            self.report.refreshed += u64::from(hit && asked);
        }
        if self.dice.chance(10) {
            self.peek()?;
        }
        Ok(())
    }

    /// Plans the questions that are new. Reports whether there were any.
    fn plan(&mut self) -> bool {
        let now = self.now();
        let log = self.setup.board.log();
        let known = self.known;
        self.known = log.loads.len();
        for (place, load) in log.loads.iter().enumerate().skip(known) {
            if load.state != State::Pending {
                continue;
            }
            let slowest = u64::try_from(Staleness::SLOWEST.as_millis()).unwrap_or_default();
            let takes = match self.dice.below(10) {
                0..4 => 1,
                4..8 => self.dice.between(1, slowest / 3),
                _ => self.dice.between(1, slowest),
            };
            // Mostly at once: that makes the oldest answers.
            let look = if self.dice.chance(60) { 0 } else { self.dice.between(0, takes) };
            let after = |millis| now + Duration::from_millis(millis);
            let plan = Plan { look: Some(after(look)), end: after(takes), panics: self.dice.chance(1) };
            self.plans.insert(place, plan);
            self.lines.push((now, Line::Asked(place, load.subjects.clone())));
        }
        self.plans.retain(|place, _| log.loads.get(*place).is_some_and(|load| load.state == State::Pending));
        self.known > known
    }

    fn peek(&mut self) -> Result<(), Broken> {
        let (subject, at) = (self.dice.index(SUBJECTS), self.now());
        let record = Arc::new(Record::new());
        let Some(said) = peek(&self.tested, &self.setup.cast, subject, Arc::clone(&record)) else {
            return Ok(());
        };
        self.lines.push((at, Line::Peeked(subject, said)));
        let stale = record.cache() == CacheUse::Stale;
        self.check(&Heard { subject, said, at, freshness: Freshness::Any, stale })
    }

    fn hear(&mut self, reader: &Ended, subject: usize, told: Result<Said, ErrorKind>) -> Result<(), Broken> {
        let said = match told {
            Ok(said) => said,
            Err(kind) => {
                self.report.errors += 1;
                // It may have been refused when it asked, and told when the rest of its question was answered.
                let failing = self.mended.is_none_or(|when| when >= reader.at);
                let lately = self.trouble.is_some_and(|when| failing || when + self.back_off >= reader.at);
                return if lately { Ok(()) } else { Err((Rule::Errors, kind.to_string())) };
            }
        };
        self.report.answers += 1;
        self.report.stale += u64::from(reader.stale);
        let freshness = match reader.wish {
            Wish::One(_, freshness) => freshness,
            Wish::Many => Freshness::Any,
        };
        self.check(&Heard { subject, said, at: reader.at, freshness, stale: reader.stale })
    }

    /// Checks an answer told now to somebody who asked at `heard.at`.
    fn check(&mut self, heard: &Heard) -> Result<(), Broken> {
        let Heard { subject, said, at, freshness, stale } = *heard;
        if stale && self.tested.stale.is_zero() {
            return Err((Rule::Stale, format!("subject {subject}: {said}")));
        }
        let now = self.now();
        let kind = self.tested.kind();
        let Some(until) = self.true_until(subject, said) else {
            return Err((Rule::NeverSaid, format!("subject {subject}: {said}")));
        };
        let outdated = now.since(until);
        let broken = |rule| Err((rule, format!("subject {subject}: {said}, outdated for {outdated:?}")));
        let absent = said == Said::NotFound;
        let covering = |scope| self.setup.cast.covers(kind, scope, subject, absent);
        let mut latest_first = self.invalidated.iter().rev();
        // What changes with an invalidation changes at its moment; a reader of that moment may have come before.
        if latest_first.any(|(when, scope)| *when < at && *when >= until && covering(*scope)) {
            return broken(Rule::Invalidated);
        }
        // A token cache knows when a state was put, not when it was asked for.
        let unseen = if kind == Kind::Tokens { Staleness::SLOWEST } else { Duration::ZERO };
        match freshness {
            Freshness::Fresh if until < at => return broken(Rule::Fresh),
            Freshness::MaxAge(age) if at.since(until) > age + unseen => return broken(Rule::Fresh),
            _ => {}
        }
        let bound = self.setup.ttl + if stale { self.tested.stale } else { Duration::ZERO };
        // Whoever asked when it was still so was told no old news, however long that took.
        if outdated > bound && until < at {
            return broken(Rule::TooOld);
        }
        let oldest = if stale { &mut self.report.oldest_stale } else { &mut self.report.oldest };
        *oldest = outdated.max(*oldest);
        Ok(())
    }

    /// Returns until when the source would have said this, at the latest: now, if it still does.
    fn true_until(&self, subject: usize, said: Said) -> Option<Moment> {
        let kind = self.tested.kind();
        let values = self.values.get(subject)?;
        let last = values.iter().rposition(|(_, version)| kind.said(*version) == said)?;
        Some(values.get(last + 1).map_or_else(|| self.now(), |(ended, _)| *ended))
    }

    fn now(&self) -> Moment {
        self.setup.clock.now()
    }
}
