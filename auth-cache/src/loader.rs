//! The one core of every wrapper: look on the shelf, else load once for everybody who asks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use auth_core::{BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Moment, Result, SourceInfo, Step};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::flight::{Flights, Landed, Seat, Waiting};
use crate::gate::{Berth, Gate, Pass};
use crate::settings::Settings;
use crate::shelf::{Hit, Loaded, Missed, Shelf};
use crate::stats::{CacheStats, Ended, Report};
use crate::{Answer, Ask, Key};

mod many;

#[derive(Debug)]
pub(crate) struct Loader {
    source: SourceInfo,
    kind: &'static str,
    pub(crate) shelf: Shelf,
    pub(crate) gate: Arc<Gate>,
    load_timeout: Duration,
    // A std mutex: nothing awaits while it is held. What loads bring is kept under it too, so that an older
    // answer can't replace a newer one, and whoever finds no flight finds what the flight has brought.
    flights: Mutex<Flights>,
}

impl Loader {
    pub(crate) fn new(
        source: SourceInfo,
        kind: &'static str,
        fence: Arc<Fence>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            kind,
            shelf: Shelf::new(fence, clock, settings),
            gate: Arc::clone(&settings.gate),
            load_timeout: settings.load_timeout,
            // A load may wait for its turn that long, and then take that long; and a quarter on top.
            flights: Mutex::new(Flights::new(settings.load_timeout.saturating_mul(5) / 2)),
        })
    }

    pub(crate) const fn source(&self) -> &SourceInfo {
        &self.source
    }

    pub(crate) fn fence(&self) -> &Fence {
        self.shelf.fence()
    }

    pub(crate) fn report(&self) -> Report {
        let under_way = u64::try_from(self.flights().len()).unwrap_or(u64::MAX);
        let stats = CacheStats { under_way, ..self.shelf.stats() };
        Report { source: Arc::clone(self.source.name()), kind: self.kind, stats }
    }

    /// Answers from memory, without waiting and without allocating, but for the one hit in the life of an
    /// entry that starts its refresh: `make` makes the load for that. A miss is not counted: it comes again
    /// through [`answer`](Self::answer).
    pub(crate) fn peek<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        make: impl FnOnce() -> L,
    ) -> Option<Answer>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        self.peek_at(ctx, ask, Answer::clone, make)
    }

    /// Reads something off an answer from memory, as [`peek`](Self::peek) does with the answer itself.
    #[inline]
    pub(crate) fn peek_at<R, L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        read: impl Fn(&Answer) -> R,
        make: impl FnOnce() -> L,
    ) -> Option<R>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let hit = self.shelf.read(ctx, ask, read).ok()?;
        Some(self.serve(ctx, ask, hit, make))
    }

    /// Answers from memory, or from a load that is under way, or begins one, which `make` makes. Where that
    /// fails for a time, an older answer may stand in.
    pub(crate) async fn answer<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        make: impl Fn() -> L + Send + Sync,
    ) -> Result<Answer>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let (waiting, asked) = match self.find_or_board(ctx, ask, &make, None)? {
            Boarded::Found(answer) => return Ok(answer),
            Boarded::Flight(waiting, asked) => (waiting, asked),
            Boarded::LeftAlone(failure) => return self.stand_in(ctx, ask, failure),
        };
        let mut landed = self.land(ctx, waiting).await?;
        if self.is_outdated(&landed, asked) {
            // It joined a load that took longer than its answer lives: once more, and now one that has begun
            // since it asked.
            landed = match self.find_or_board(ctx, ask, &make, Some(asked))? {
                Boarded::Found(answer) => return Ok(answer),
                Boarded::Flight(waiting, _) => self.land(ctx, waiting).await?,
                Boarded::LeftAlone(failure) => Landed::LeftAlone(failure),
            };
        }
        self.settle(ctx, ask, landed)
    }

    #[inline]
    fn serve<R, L, F>(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>, hit: Hit<R>, make: impl FnOnce() -> L) -> R
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        self.note_hit(ctx, hit.negative, hit.age);
        if hit.due {
            self.refresh(ctx, ask, make);
        }
        hit.answer
    }

    /// Looks on the shelf, else joins a load or begins one. With `since`, this is the second time: the question
    /// is counted already, and joins only what has begun since then.
    fn find_or_board<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        make: impl Fn() -> L,
        since: Option<Moment>,
    ) -> Result<Boarded>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let again = since.is_some();
        let missed = match self.shelf.find(ctx, ask) {
            Ok(hit) if again => return Ok(Boarded::Found(hit.answer)),
            Ok(hit) => return Ok(Boarded::Found(self.serve(ctx, ask, hit, make))),
            Err(missed) => missed,
        };
        let note_miss = || {
            if !again {
                self.note_miss(ctx, missed);
            }
        };
        let now = self.shelf.clock.now();
        let runtime = self.runtime(ctx, now).inspect_err(|_| note_miss())?;
        let key = ask.to_key();

        let mut flights = self.flights();
        // Read under the lock: what is looked for next is what these generations allow.
        let before = self.shelf.before(ask);
        // A flight may have landed since; it was put on the shelf under this lock.
        if let Ok(hit) = self.shelf.find(ctx, ask) {
            drop(flights);
            let answer = if again { hit.answer } else { self.serve(ctx, ask, hit, make) };
            return Ok(Boarded::Found(answer));
        }
        if let Some(waiting) = flights.join(&key, before, now, |began| joins(ctx, now, since, began)) {
            drop(flights);
            note_miss();
            if !again {
                self.note_joined(ctx);
            }
            return Ok(Boarded::Flight(waiting, now));
        }
        let berth = match self.board(now) {
            Ok(berth) => berth,
            Err(refused) => {
                drop(flights);
                note_miss();
                return self.note_refused(ctx, refused, 1).map(Boarded::LeftAlone);
            }
        };
        let (flight, waiting) = flights.open(key, before, now);
        drop(flights);
        // Whether it ends, panics or is dropped with the runtime: the seat takes the flight off the list.
        let seat = Seat::new(Arc::clone(self), vec![flight], berth);

        note_miss();
        let (asker, load) = (ctx.clone(), alone(make()));
        runtime.spawn(async move { seat.fly(asker, load).await });
        Ok(Boarded::Flight(waiting, now))
    }

    /// Returns the runtime for a load, if the asker has time left.
    fn runtime(&self, ctx: &Ctx, now: Moment) -> Result<Handle> {
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.late());
        }
        Handle::try_current()
            .map_err(|_| self.fault(ErrorKind::Internal, "a cache was asked outside of a tokio runtime"))
    }

    /// Takes a place among the questions, if the source is not left alone.
    fn board(&self, now: Moment) -> std::result::Result<Berth, Refused> {
        if let Some(failure) = self.gate.refusal(now) {
            return Err(Refused::LeftAlone(failure));
        }
        self.gate.board().ok_or(Refused::Full)
    }

    /// Lets a question through to the source, or returns the error that it gets.
    pub(crate) fn admit(&self) -> Result<Pass> {
        self.gate.admit(self.shelf.clock.now(), self.load_timeout)
    }

    /// Notes that questions are not put to the source. Returns the failure after which it is left alone; a full
    /// queue is an error.
    fn note_refused(&self, ctx: &Ctx, refused: Refused, questions: usize) -> Result<Error> {
        match refused {
            Refused::LeftAlone(failure) => {
                self.note_backed_off(ctx, questions);
                Ok(failure)
            }
            Refused::Full => {
                self.note_overloaded(ctx, questions);
                Err(self.overloaded())
            }
        }
    }

    /// Reports whether a load that was put before this moment has brought an answer that is older than it may
    /// get in memory.
    fn is_outdated(&self, landed: &Landed, asked: Moment) -> bool {
        match landed {
            Landed::Brought(Ok(answer), at) => *at < asked && self.shelf.outlives(answer, *at),
            _ => false,
        }
    }

    /// Makes of what came of a load what the asker is told. For what the source said an older answer may stand
    /// in, for what we refuse none does: the source may be well.
    fn settle(&self, ctx: &Ctx, ask: &Ask<'_>, landed: Landed) -> Result<Answer> {
        match landed {
            Landed::Brought(Ok(answer), _) => Ok(answer),
            Landed::Brought(Err(failure), _) | Landed::LeftAlone(failure) => self.stand_in(ctx, ask, failure),
            Landed::Refused(failure) => Err(failure),
        }
    }

    /// Loads what is in use again before it ends, if the source has time for that. Nobody waits, nor for a
    /// lock: the next hit comes by.
    #[cold]
    fn refresh<L, F>(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>, make: impl FnOnce() -> L)
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut flights = match self.flights.try_lock() {
            Ok(flights) => flights,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let now = self.shelf.clock.now();
        // What hangs on the gate is let go before the lock is: in the other order than it was taken.
        let Some((turn, refreshing)) = self.gate.try_refresh() else { return };
        let (Some(berth), Ok(pass)) = (self.gate.board(), self.admit()) else { return };
        let Some(before) = self.shelf.claim_refresh(ctx, ask) else { return };
        let key = ask.to_key();
        if flights.join(&key, before, now, |_| true).is_some() {
            return;
        }
        let (flight, _nobody_waits) = flights.open(key, before, now);
        drop(flights);
        let seat = Seat::new(Arc::clone(self), vec![flight], berth);

        self.shelf.counters.refresh();
        ctx.note(|| Step::new("cache", format_args!("{}: refreshing", self.kind)).at(self.source.name()));
        let load = alone(make());
        runtime.spawn(async move {
            let _refreshing = refreshing;
            // Not the asker's context: the asker has the answer, and may have shown what it recorded.
            seat.fly_with(Ctx::new(), turn, pass, load).await;
        });
    }

    /// Puts a question to the source that nobody shares and whose answer is not kept, as any other load: in
    /// its turn, bounded in time, guarded against panics, and not while the source is left alone.
    pub(crate) async fn pass_on<T, F>(&self, ctx: &Ctx, load: impl FnOnce(Ctx) -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.note_miss(ctx, Missed::Nothing);
        let now = self.shelf.clock.now();
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.late());
        }
        let _berth = match self.board(now) {
            Ok(berth) => berth,
            Err(refused) => return Err(self.note_refused(ctx, refused, 1)?),
        };
        let asked = async {
            let turn = match self.gate.try_turn() {
                Some(turn) => turn,
                None => self.turn().await.inspect_err(|_| self.note_overloaded(ctx, 1))?,
            };
            let pass = self.admit().inspect_err(|_| self.note_backed_off(ctx, 1))?;
            let (answer, _) = self.ask_source(ctx, turn, pass, load, judge_one).await;
            answer.and_then(|answer| answer)
        };
        self.by_deadline(ctx, asked).await?
    }

    /// Waits for a flight. The outer error is the asker's own deadline.
    async fn land(&self, ctx: &Ctx, waiting: Waiting) -> Result<Landed> {
        let Waiting { mut landing, until } = waiting;
        let landed = async move {
            match landing.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone().unwrap_or_else(|| Landed::Refused(self.dropped())),
                Err(_) => Landed::Refused(self.dropped()),
            }
        };
        let Some(until) = until else { return self.by_deadline(ctx, landed).await };
        let landed = async move {
            match select(pin!(landed), self.shelf.clock.sleep_until(until)).await {
                Either::Left((landed, _)) => landed,
                Either::Right(((), _)) => Landed::Refused(self.dropped()),
            }
        };
        self.by_deadline(ctx, landed).await
    }

    async fn by_deadline<T>(&self, ctx: &Ctx, work: impl Future<Output = T> + Send) -> Result<T> {
        let Some(deadline) = ctx.deadline() else { return Ok(work.await) };
        match select(pin!(work), self.shelf.clock.sleep_until(deadline)).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right(((), _)) => Err(self.late()),
        }
    }

    /// Answers with what is past its lifetime, if the failure is a passing one and the settings allow it.
    fn stand_in(&self, ctx: &Ctx, ask: &Ask<'_>, failure: Error) -> Result<Answer> {
        if !failure.kind().is_temporary() {
            return Err(failure);
        }
        let (answer, age) = match self.shelf.find_stale(ctx, ask) {
            Ok(stale) => stale,
            Err(too_old) => {
                if let Some(age) = too_old {
                    ctx.note(|| {
                        let outcome = format_args!("{}: the old answer is too old to stand in", self.kind);
                        Step::new("cache", outcome).at(self.source.name()).aged(Duration::from_nanos(age))
                    });
                }
                return Err(failure);
            }
        };
        self.shelf.counters.stale(age);
        ctx.note_cache(CacheUse::Stale);
        ctx.note(|| {
            let outcome = format_args!("{}: stale, since the source is {}", self.kind, failure.kind());
            Step::new("cache", outcome).at(self.source.name()).aged(Duration::from_nanos(age))
        });
        Ok(answer)
    }

    /// Waits for a turn at the source, for as long as a load may take.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let until = self.shelf.clock.now() + self.load_timeout;
        match select(pin!(self.gate.turn()), self.shelf.clock.sleep_until(until)).await {
            Either::Left((Some(turn), _)) => Ok(turn),
            Either::Left((None, _)) | Either::Right(((), _)) => Err(self.overloaded()),
        }
    }

    /// Puts the question, guarded against panics and bounded in time, and tells the gate what came of it.
    /// Returns when it was put, too.
    pub(crate) async fn ask_source<T, L, F>(
        &self,
        asker: &Ctx,
        turn: OwnedSemaphorePermit,
        pass: Pass,
        load: L,
        judge: impl FnOnce(&T) -> Judged<'_> + Send,
    ) -> (Result<T>, Loaded)
    where
        T: Send,
        L: FnOnce(Ctx) -> F + Send,
        F: Future<Output = T> + Send,
    {
        // Read before the source is asked: age counts from here.
        let at = self.shelf.clock.now();
        let deadline = at + self.load_timeout;
        let ctx = asker.detached(deadline).with_freshness(asker.freshness());
        let guarded = AssertUnwindSafe(async move { load(ctx).await }).catch_unwind();
        let answer = match select(pin!(guarded), self.shelf.clock.sleep_until(deadline)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(((), _)) => None,
        };
        drop(turn);
        let now = self.shelf.clock.now();
        let took = now.since(at);
        let (answer, ended) = match answer {
            Some(Ok(answer)) => {
                let Judged { failed, fault } = judge(&answer);
                pass.ended(now, fault);
                (Ok(answer), if failed { Ended::Failed } else { Ended::Answered })
            }
            // What a panic says may hold anything: it goes to the panic hook, not to the askers. Nor does it
            // tell whether the source is there: the pass is dropped without a word.
            Some(Err(_)) => (Err(self.fault(ErrorKind::Internal, "the source panicked")), Ended::Failed),
            None => {
                let late =
                    self.fault(ErrorKind::Timeout, "the source did not answer within the limit of a load");
                pass.ended(now, Some(&late));
                (Err(late), Ended::TimedOut)
            }
        };
        self.shelf.counters.load(took, ended);
        (answer, Loaded { at, took })
    }

    pub(crate) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn note_hit(&self, ctx: &Ctx, negative: bool, age: u64) {
        self.shelf.counters.hit(negative, age);
        if ctx.record().is_some() {
            self.tell_hit(ctx, age);
        }
    }

    #[cold]
    fn tell_hit(&self, ctx: &Ctx, age: u64) {
        ctx.note_cache(CacheUse::Hit);
        ctx.note(|| {
            let step = Step::new("cache", format_args!("{}: hit", self.kind));
            step.at(self.source.name()).aged(Duration::from_nanos(age))
        });
    }

    fn note_miss(&self, ctx: &Ctx, missed: Missed) {
        self.shelf.counters.miss(missed);
        ctx.note_cache(CacheUse::Miss);
        ctx.note(|| {
            Step::new("cache", format_args!("{}: {}", self.kind, missed.as_str())).at(self.source.name())
        });
    }

    /// Notes that questions get the last error of a source that is left alone.
    pub(crate) fn note_backed_off(&self, ctx: &Ctx, questions: usize) {
        self.shelf.counters.backed_off(u64::try_from(questions).unwrap_or(u64::MAX));
        ctx.note(|| {
            let left = self.gate.left_alone(self.shelf.clock.now()).unwrap_or_default().as_millis();
            let outcome = if left == 0 {
                format!("{}: the source has failed, and another question tries it now", self.kind)
            } else {
                format!("{}: the source has failed and is left alone for another {left} ms", self.kind)
            };
            Step::new("cache", outcome).at(self.source.name())
        });
    }

    fn note_joined(&self, ctx: &Ctx) {
        self.shelf.counters.coalesced();
        ctx.note(|| Step::new("cache", format_args!("{}: joined a load", self.kind)).at(self.source.name()));
    }

    /// Notes that questions are refused, since too many wait.
    pub(crate) fn note_overloaded(&self, ctx: &Ctx, questions: usize) {
        self.shelf.counters.overloaded(u64::try_from(questions).unwrap_or(u64::MAX));
        ctx.note(|| {
            let outcome = format_args!("{}: refused, since too many questions wait", self.kind);
            Step::new("cache", outcome).at(self.source.name())
        });
    }

    fn fault(&self, kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message).at(Arc::clone(self.source.name()))
    }

    fn late(&self) -> Error {
        self.fault(ErrorKind::Timeout, "no answer before the deadline")
    }

    fn overloaded(&self) -> Error {
        self.fault(ErrorKind::Overloaded, "too many questions wait for this source")
    }

    pub(crate) fn miscounted(&self) -> Error {
        self.fault(ErrorKind::Internal, "the source answered another number of questions")
    }

    fn dropped(&self) -> Error {
        self.fault(ErrorKind::Unavailable, "the load was given up with its runtime")
    }
}

enum Boarded {
    Found(Answer),
    /// And when it boarded.
    Flight(Waiting, Moment),
    /// The source is left alone; this is what it said last.
    LeftAlone(Error),
}

/// Why a question is not put to the source.
enum Refused {
    /// The source has failed, and is left alone.
    LeftAlone(Error),
    /// Too many wait.
    Full,
}

/// Reports whether a question may join a load that began then.
fn joins(ctx: &Ctx, now: Moment, since: Option<Moment>, began: Moment) -> bool {
    since.map_or_else(|| ctx.freshness().accepts(now.since(began)), |since| began >= since)
}

/// Makes of the load of one what loads many, to be asked for one.
fn alone<L, F>(load: L) -> impl FnOnce(Ctx, Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> + Send
where
    L: FnOnce(Ctx, Key) -> F + Send + 'static,
    F: Future<Output = Result<Answer>> + Send + 'static,
{
    |ctx, keys| {
        Box::pin(async move {
            match keys.into_iter().next() {
                Some(key) => vec![load(ctx, key).await],
                None => Vec::new(),
            }
        })
    }
}

/// What an answer says about its source.
pub(crate) struct Judged<'a> {
    /// Whether it counts as a failed load.
    pub(crate) failed: bool,
    /// The error that says that something is wrong with the source.
    pub(crate) fault: Option<&'a Error>,
}

fn judge_one<T>(answer: &Result<T>) -> Judged<'_> {
    Judged { failed: answer.is_err(), fault: answer.as_ref().err() }
}

/// One answer among many shows that the source is there.
pub(crate) fn judge_many(answers: &[Result<Answer>]) -> Judged<'_> {
    let passing = |answer: &Result<Answer>| answer.as_ref().is_err_and(|error| error.kind().is_temporary());
    let fault = if answers.iter().all(passing) { answers.last() } else { None };
    Judged {
        failed: answers.iter().any(Result::is_err),
        fault: fault.and_then(|answer| answer.as_ref().err()),
    }
}
