//! One schedule: which steps are possible, what they do, and what is checked after each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Clock, Ctx, ErrorKind, Freshness, Moment, Record};

use super::rules::{Facts, Heard};
use super::{Report, Rule, Scope, Step};
use crate::trial::{
    Dice, Ended, Kind, Readers, Reply, SUBJECTS, Said, Setup, State, Tested, Wish, peek, settle,
};

/// What was seen that may not be.
pub(super) type Broken = (Rule, String);

pub(super) struct Schedule {
    setup: Setup,
    tested: Tested,
    readers: Readers,
    back_off: Duration,
    // Of each subject, at the source.
    versions: [u32; SUBJECTS],
    invalidated: Vec<(u64, Scope)>,
    // When the source last failed, or was given up.
    trouble: Option<Moment>,
    // When it first answered since.
    mended: Option<Moment>,
    now: u64,
    pub(super) done: Vec<Step>,
    pub(super) report: Report,
    lines: Vec<Line>,
}

/// A line of the trace, not written out yet.
enum Line {
    Step(u64, Step),
    Asked(usize, Vec<usize>),
    Ended(usize, Vec<Said>),
    Told { reader: usize, began: u64, subject: usize, told: Result<Said, ErrorKind>, stale: bool },
    Peeked(usize, Option<Said>),
    Closing,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(number, step) => write!(f, "{number}. {step}"),
            Self::Asked(question, of) => write!(f, "      question {question} at the source, of {of:?}"),
            Self::Ended(question, said) => {
                let said: Vec<String> = said.iter().map(ToString::to_string).collect();
                write!(f, "      question {question} says {}", said.join(", "))
            }
            Self::Told { reader, began, subject, told, stale } => {
                write!(f, "      reader {reader}, of step {began}, gets for subject {subject}: ")?;
                match told {
                    Ok(said) => write!(f, "{said}")?,
                    Err(kind) => write!(f, "the error {kind}")?,
                }
                f.write_str(if *stale { " (stale)" } else { "" })
            }
            Self::Peeked(subject, Some(said)) => write!(f, "      memory has for subject {subject}: {said}"),
            Self::Peeked(subject, None) => write!(f, "      memory has nothing for subject {subject}"),
            Self::Closing => {
                f.write_str("at the end: each waiting question gets a version of its own, the newest is answered first, all is read")
            }
        }
    }
}

impl Schedule {
    pub(super) fn new(setup: Setup, tested: Tested, back_off: Duration) -> Self {
        Self {
            setup,
            tested,
            readers: Readers::default(),
            back_off,
            versions: [0; SUBJECTS],
            invalidated: Vec::new(),
            trouble: None,
            mended: None,
            now: 0,
            done: Vec::new(),
            report: Report::default(),
            lines: Vec::new(),
        }
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.lines.iter().map(ToString::to_string).collect()
    }

    /// Throws a step that makes sense now.
    pub(super) fn choose(&self, dice: &mut Dice, moves_time: bool) -> Step {
        let kind = self.tested.kind();
        let waiting = self.readers.waiting().len();
        let pending = self.setup.board.pending();
        let question = dice.index(pending.len());
        let is_read = {
            let log = self.setup.board.log();
            let load = pending.get(question).and_then(|place| log.loads.get(*place));
            load.is_none_or(|load| load.read.is_some())
        };
        let asked = !pending.is_empty();
        // The first subject is the one that most happens to.
        let subject = if dice.chance(55) { 0 } else { dice.index(SUBJECTS) };
        let when = |possible: bool, weight: u64| if possible { weight } else { 0 };
        let (rights, tokens) = (kind == Kind::Objects, kind == Kind::Tokens);
        let choices = [
            (24, Step::Read(subject)),
            (8, Step::Fresh(subject)),
            (3, Step::MaxAge(subject, thousands(dice.below(9)))),
            (when(rights, 5), Step::Many),
            (5, Step::Peek(subject)),
            (when(!is_read, 9), Step::Look(question)),
            (when(asked, 22), Step::Answer(question)),
            (when(asked, 3), Step::Fail(question, failure(dice))),
            (when(asked, 1), Step::Panic(question)),
            (5, Step::Change(subject)),
            (15, Step::Invalidate(scope(kind, dice))),
            (when(tokens, 9), Step::Put(subject)),
            (when(waiting > 0, 3), Step::Leave(dice.index(waiting))),
            (when(moves_time, 3), Step::Pass(thousands(dice.between(0, 4)))),
            (when(moves_time, 6), Step::Refresh(subject, tens(dice.between(70, 99)))),
            (when(moves_time, 2), Step::Expire),
        ];
        let mut at = dice.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, step) in choices {
            if at < weight {
                return step;
            }
            at -= weight;
        }
        Step::Read(subject)
    }

    /// Takes a step if it is possible, lets everything go on, and checks what came of it.
    pub(super) async fn take(&mut self, step: Step) -> Result<bool, Broken> {
        self.now += 1;
        // No two steps happen at the same moment.
        self.setup.clock.advance(Duration::from_millis(1));
        self.setup.board.log().step = self.now;
        self.lines.push(Line::Step(self.now, step));
        let asked = self.setup.board.log().loads.len();
        let must_hit = match step {
            Step::Read(subject) => self.facts(|facts| facts.must_hit(subject, self.now, self.at())),
            _ => false,
        };
        self.done.push(step);
        let begun = match self.act(step).await? {
            Act::Impossible => {
                self.lines.pop();
                self.done.pop();
                return Ok(false);
            }
            Act::Done => None,
            Act::Begun(reader) => Some(reader),
        };
        let ended = self.go_on(asked).await?;
        if let Some(reader) = begun {
            self.count(step, reader, &ended, asked, must_hit);
        }
        Ok(true)
    }

    /// Lets the source answer everything, reads everything once more, and looks for readers left behind.
    pub(super) async fn close(&mut self) -> Result<(), Broken> {
        self.lines.push(Line::Closing);
        // Each question gets an answer of its own: who is told an older one shows.
        for place in self.setup.board.pending() {
            if self.look(place) {
                self.change(|_| true);
            }
        }
        self.drain().await?;
        for subject in 0..SUBJECTS {
            let asked = self.next_step();
            self.readers.begin(&self.tested, &self.setup, Wish::One(subject, Freshness::Any), self.now);
            self.go_on(asked).await?;
        }
        self.drain().await?;
        match self.readers.waiting().as_slice() {
            [] => Ok(()),
            left => Err((Rule::Ends, format!("readers {left:?} wait, and the source has no question"))),
        }
    }

    async fn drain(&mut self) -> Result<(), Broken> {
        // A cache that asks anew each time it gets an answer would never end.
        for _ in 0..200 {
            // The newest first: what is older comes late.
            let Some(place) = self.setup.board.pending().last().copied() else { return Ok(()) };
            let asked = self.next_step();
            self.answer(place);
            self.go_on(asked).await?;
        }
        Err((Rule::Ends, "the cache asks on and on".into()))
    }

    fn next_step(&mut self) -> usize {
        self.now += 1;
        self.setup.clock.advance(Duration::from_millis(1));
        let mut log = self.setup.board.log();
        log.step = self.now;
        log.loads.len()
    }

    async fn act(&mut self, step: Step) -> Result<Act, Broken> {
        let impossible = Ok(Act::Impossible);
        match step {
            Step::Read(subject) => return Ok(self.begin(subject, Freshness::Any)),
            Step::Fresh(subject) => return Ok(self.begin(subject, Freshness::Fresh)),
            Step::MaxAge(subject, age) => {
                let age = Duration::from_millis(age.into());
                return Ok(self.begin(subject, Freshness::MaxAge(age)));
            }
            Step::Many if self.tested.kind() != Kind::Objects => return impossible,
            Step::Many => {
                self.readers.begin(&self.tested, &self.setup, Wish::Many, self.now);
            }
            Step::Peek(subject) => self.peek(subject)?,
            Step::Look(question) => {
                let Some(place) = self.waiting_question(question) else { return impossible };
                if !self.look(place) {
                    return impossible;
                }
            }
            Step::Answer(question) => {
                let Some(place) = self.waiting_question(question) else { return impossible };
                self.answer(place);
            }
            Step::Fail(question, kind) => {
                let Some(place) = self.waiting_question(question) else { return impossible };
                self.fail(place, Reply::Fail(kind));
            }
            Step::Panic(question) => {
                let Some(place) = self.waiting_question(question) else { return impossible };
                self.fail(place, Reply::Panic);
            }
            Step::Change(subject) => self.change(|of| of == subject),
            Step::Invalidate(scope) => self.invalidate(scope),
            Step::Put(subject) => return Ok(self.put(subject).await),
            Step::Leave(reader) => {
                let Some(reader) = self.readers.waiting().get(reader).copied() else { return impossible };
                self.readers.leave(reader);
            }
            Step::Pass(millis) => self.setup.clock.advance(Duration::from_millis(millis.into())),
            Step::Refresh(subject, part) => {
                let kept = self.facts(|facts| facts.newest(subject, self.now).map(|load| load.at));
                let Some(kept) = kept else { return impossible };
                let then = kept + self.setup.ttl * u32::from(part) / 1000;
                self.setup.clock.advance(then.since(self.at()));
                return Ok(self.begin(subject, Freshness::Any));
            }
            Step::Expire => self.setup.clock.advance(self.setup.ttl),
        }
        Ok(Act::Done)
    }

    fn begin(&mut self, subject: usize, freshness: Freshness) -> Act {
        Act::Begun(self.readers.begin(&self.tested, &self.setup, Wish::One(subject, freshness), self.now))
    }

    fn waiting_question(&self, question: usize) -> Option<usize> {
        self.setup.board.pending().get(question).copied()
    }

    /// Reads the source's value for a question. Reports whether it had not been read before.
    fn look(&mut self, place: usize) -> bool {
        let mut log = self.setup.board.log();
        let Some(load) = log.loads.get_mut(place).filter(|load| load.read.is_none()) else { return false };
        let versions = load.subjects.iter().filter_map(|subject| self.versions.get(*subject));
        load.read = Some(versions.copied().collect());
        true
    }

    fn answer(&mut self, place: usize) {
        self.look(place);
        let kind = self.tested.kind();
        let mut said = Vec::new();
        let (mut voided, mut overtaken, mut late) = (false, false, false);
        self.facts(|facts| {
            let Some(load) = facts.loads.get(place) else { return };
            said = load.read.iter().flatten().map(|version| kind.said(*version)).collect();
            for subject in &load.subjects {
                voided |= facts.is_void_since(*subject, false, load.asked);
                overtaken |= facts.newest(*subject, u64::MAX).is_some_and(|other| other.asked > load.asked);
                late |= !self.readers.wait_for(*subject);
            }
        });
        self.lines.push(Line::Ended(place, said));
        if self.setup.board.end(place, None) {
            let now = self.at();
            self.mended.get_or_insert(now);
            self.report.voided += u64::from(voided);
            self.report.overtaken += u64::from(overtaken);
            self.report.late += u64::from(late);
        }
    }

    fn fail(&mut self, place: usize, failure: Reply) {
        self.setup.board.end(place, Some(failure));
        self.suffer();
    }

    fn suffer(&mut self) {
        (self.trouble, self.mended) = (Some(self.at()), None);
    }

    fn change(&mut self, what: impl Fn(usize) -> bool) {
        for (subject, version) in self.versions.iter_mut().enumerate() {
            *version += u32::from(what(subject));
        }
    }

    fn invalidate(&mut self, scope: Scope) {
        let (kind, cast) = (self.tested.kind(), Arc::clone(&self.setup.cast));
        self.change(|subject| cast.covers(kind, scope, subject, false));
        cast.name(scope, |subject| {
            self.setup.fence.invalidate(subject);
            if let Some(told) = &self.tested.told {
                told(subject);
            }
        });
        self.invalidated.push((self.now, scope));
    }

    fn peek(&mut self, subject: usize) -> Result<(), Broken> {
        let record = Arc::new(Record::new());
        let said = peek(&self.tested, &self.setup.cast, subject, Arc::clone(&record));
        self.lines.push(Line::Peeked(subject, said));
        let Some(said) = said else { return Ok(()) };
        let (began, at) = (self.now, self.at());
        let stale = record.cache() == auth_core::CacheUse::Stale;
        self.facts(|facts| {
            facts.check(&Heard { subject, said, began, at, told: at, freshness: Freshness::Any, stale })
        })
    }

    async fn put(&mut self, subject: usize) -> Act {
        let crate::trial::What::Tokens(cache) = &self.tested.what else { return Act::Impossible };
        let watch = self.setup.fence.watch(self.setup.clock.now());
        let version = self.versions.get(subject).copied().unwrap_or_default();
        let state = self.setup.cast.state(subject, version, &self.setup.clock);
        let id = self.setup.cast.token(subject);
        if cache.put(&Ctx::new(), &id, &state, self.setup.ttl, watch).await.is_ok() {
            self.setup.board.enter_put(subject, version);
        }
        Act::Done
    }

    /// Lets everything go on, and checks every reader that has ended. `asked`: how many questions there were
    /// before the step.
    async fn go_on(&mut self, asked: usize) -> Result<Vec<Ended>, Broken> {
        let ended = settle(&mut self.readers, self.tested.turns).await;
        if self.setup.board.notice_left() > 0 {
            self.suffer();
        }
        {
            let log = self.setup.board.log();
            let new =
                log.loads.iter().enumerate().skip(asked).filter(|(_, load)| load.state == State::Pending);
            self.lines.extend(new.map(|(place, load)| Line::Asked(place, load.subjects.clone())));
        }
        for reader in &ended {
            for (subject, told) in &reader.told {
                let (subject, told) = (*subject, told.as_ref().map_err(auth_core::Error::kind).copied());
                self.lines.push(Line::Told {
                    reader: reader.reader,
                    began: reader.began,
                    subject,
                    told,
                    stale: reader.stale,
                });
                self.hear(reader, subject, told)?;
            }
        }
        Ok(ended)
    }

    fn hear(&mut self, reader: &Ended, subject: usize, told: Result<Said, ErrorKind>) -> Result<(), Broken> {
        let said = match told {
            Ok(said) => said,
            Err(kind) => {
                self.report.errors += 1;
                // It may have been refused when it asked, and told when the rest of its question was answered.
                let failing = self.mended.is_none_or(|when| when >= reader.at);
                let lately = self.trouble.is_some_and(|when| failing || when + self.back_off >= reader.at);
                let what = || format!("{kind}, to the reader of step {}", reader.began);
                return if lately { Ok(()) } else { Err((Rule::Errors, what())) };
            }
        };
        self.report.answers += 1;
        self.report.stale += u64::from(reader.stale);
        let freshness = match reader.wish {
            Wish::One(_, freshness) => freshness,
            Wish::Many => Freshness::Any,
        };
        let (began, at, told, stale) = (reader.began, reader.at, self.at(), reader.stale);
        self.report.after_invalidation +=
            u64::from(self.facts(|facts| facts.last_invalidation(subject, false, began).is_some()));
        self.facts(|facts| facts.check(&Heard { subject, said, began, at, told, freshness, stale }))
    }

    fn count(&mut self, step: Step, reader: usize, ended: &[Ended], asked: usize, must_hit: bool) {
        let (Step::Read(subject)
        | Step::Fresh(subject)
        | Step::MaxAge(subject, _)
        | Step::Refresh(subject, _)) = step
        else {
            return;
        };
        let hit = ended
            .iter()
            .any(|ended| ended.reader == reader && ended.told.iter().all(|(_, told)| told.is_ok()));
        let asks = {
            let log = self.setup.board.log();
            log.loads.iter().skip(asked).any(|load| load.subjects.contains(&subject))
        };
        let waits = self.readers.waiting().contains(&reader);
        self.report.hits += u64::from(hit);
        self.report.refreshed += u64::from(hit && asks);
        self.report.joined += u64::from(waits && !asks);
        self.report.hits_expected += u64::from(must_hit);
        self.report.hits_missed += u64::from(must_hit && !hit);
    }

    fn at(&self) -> Moment {
        self.setup.clock.now()
    }

    fn facts<T>(&self, look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let log = self.setup.board.log();
        look(&Facts {
            kind: self.tested.kind(),
            cast: &self.setup.cast,
            loads: &log.loads,
            invalidated: &self.invalidated,
            ttl: self.setup.ttl,
            stale: self.tested.stale,
            forgets: self.tested.forgets,
        })
    }
}

/// What taking a step came to.
enum Act {
    Impossible,
    Done,
    Begun(usize),
}

fn thousands(number: u64) -> u16 {
    u16::try_from(number * 1000 + 500).unwrap_or(u16::MAX)
}

fn tens(number: u64) -> u16 {
    u16::try_from(number * 10).unwrap_or(u16::MAX)
}

fn failure(dice: &mut Dice) -> ErrorKind {
    if dice.chance(70) { ErrorKind::Unavailable } else { ErrorKind::Corrupt }
}

fn scope(kind: Kind, dice: &mut Dice) -> Scope {
    let person = if dice.chance(60) { 0 } else { dice.index(SUBJECTS) };
    match dice.below(100) {
        0..45 => Scope::Login(person),
        45..58 => Scope::Id(person),
        58..68 if kind == Kind::Objects => Scope::Object(dice.index(2)),
        68..76 if matches!(kind, Kind::Objects | Kind::Groups) => Scope::Groups,
        76..80 => Scope::Realm,
        80..84 => Scope::All,
        84..92 => Scope::StrangersId,
        92..100 => Scope::Stranger,
        _ => Scope::Login(dice.index(SUBJECTS)),
    }
}
