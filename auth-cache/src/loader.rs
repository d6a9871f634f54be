//! The one core of every wrapper: look on the shelf, else load once for everybody who asks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Result, SourceInfo, Step};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::flight::{Flights, Landing, Seat};
use crate::gate::{Gate, Pass};
use crate::settings::Settings;
use crate::shelf::{Before, Hit, Loaded, Missed, Shelf};
use crate::stats::{CacheStats, Ended, Report};
use crate::{Answer, Ask, Key};

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
            flights: Mutex::default(),
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
        make: impl FnOnce() -> L + Send,
    ) -> Result<Answer>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let failure = match self.find_or_board(ctx, ask, make)? {
            Boarded::Found(answer) => return Ok(answer),
            Boarded::Flight(landing) => match self.land(ctx, landing).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            },
            Boarded::Refused(failure) => failure,
        };
        self.stand_in(ctx, ask, failure)
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

    fn find_or_board<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        make: impl FnOnce() -> L,
    ) -> Result<Boarded>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let missed = match self.shelf.find(ctx, ask) {
            Ok(hit) => return Ok(Boarded::Found(self.serve(ctx, ask, hit, make))),
            Err(missed) => missed,
        };
        let now = self.shelf.clock.now();
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            self.note_miss(ctx, missed);
            return Err(self.late());
        }
        let runtime = Handle::try_current()
            .map_err(|_| self.fault(ErrorKind::Internal, "a cache was asked outside of a tokio runtime"))?;
        let key = ask.to_key();

        let mut flights = self.flights();
        // Read under the lock: what is looked for next is what these generations allow.
        let before = self.shelf.before(ask);
        // A flight may have landed since; it was put on the shelf under this lock.
        if let Ok(hit) = self.shelf.find(ctx, ask) {
            drop(flights);
            return Ok(Boarded::Found(self.serve(ctx, ask, hit, make)));
        }
        let place = (key, before);
        if let Some(landing) = flights.join(&place, |began| ctx.freshness().accepts(now.since(began))) {
            drop(flights);
            self.note_miss(ctx, missed);
            self.shelf.counters.coalesced();
            ctx.note(|| {
                Step::new("cache", format_args!("{}: joined a load", self.kind)).at(self.source.name())
            });
            return Ok(Boarded::Flight(landing));
        }
        if let Some(refusal) = self.gate.refusal(now) {
            drop(flights);
            self.note_miss(ctx, missed);
            self.note_backed_off(ctx, 1);
            return Ok(Boarded::Refused(refusal));
        }
        let Some(berth) = self.gate.board() else {
            drop(flights);
            self.note_miss(ctx, missed);
            return Ok(Boarded::Refused(self.overloaded()));
        };
        let (flight, landing) = flights.open(place, now);
        drop(flights);
        // Whether it ends, panics or is dropped with the runtime: the seat takes the flight off the list.
        let seat = Seat::new(Arc::clone(self), flight, berth);

        self.note_miss(ctx, missed);
        let (asker, load) = (ctx.clone(), make());
        runtime.spawn(async move { seat.fly(asker, load).await });
        Ok(Boarded::Flight(landing))
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
        let Ok(mut flights) = self.flights.try_lock() else { return };
        let now = self.shelf.clock.now();
        // What hangs on the gate is let go before the lock is: in the other order than it was taken.
        let Some((turn, refreshing)) = self.gate.try_refresh() else { return };
        let (Some(berth), Ok(pass)) = (self.gate.board(), self.gate.admit(now)) else { return };
        let Some(before) = self.shelf.claim_refresh(ctx, ask) else { return };
        let place = (ask.to_key(), before);
        if flights.join(&place, |_| true).is_some() {
            return;
        }
        let (flight, _nobody_waits) = flights.open(place, now);
        drop(flights);
        let seat = Seat::new(Arc::clone(self), flight, berth);

        self.shelf.counters.refresh();
        ctx.note(|| Step::new("cache", format_args!("{}: refreshing", self.kind)).at(self.source.name()));
        let load = make();
        runtime.spawn(async move {
            let _refreshing = refreshing;
            // Not the asker's context: the asker has the answer, and may have shown what it recorded.
            seat.fly_with(Ctx::new(), turn, pass, load).await;
        });
    }

    /// Puts a question to the source that is not shared, and keeps what it brings, also if the caller
    /// leaves. The answers belong to the questions in their order.
    pub(crate) async fn answer_many<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        load: L,
    ) -> Vec<Result<Answer>>
    where
        L: FnOnce(Ctx, Vec<Key>) -> F + Send + 'static,
        F: Future<Output = Vec<Result<Answer>>> + Send + 'static,
    {
        let all = |error: Error| asks.iter().map(|_| Err(error.clone())).collect();
        let failed = match self.load_many(ctx, asks, load).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(failure)) => all(failure),
            Err(late) => return all(late),
        };
        let answers = failed.into_iter().zip(asks);
        answers.map(|(answer, ask)| answer.or_else(|failure| self.stand_in(ctx, ask, failure))).collect()
    }

    /// The outer error is the asker's own deadline.
    async fn load_many<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        load: L,
    ) -> Result<Result<Vec<Result<Answer>>>>
    where
        L: FnOnce(Ctx, Vec<Key>) -> F + Send + 'static,
        F: Future<Output = Vec<Result<Answer>>> + Send + 'static,
    {
        for _ in asks {
            self.note_miss(ctx, Missed::Nothing);
        }
        let now = self.shelf.clock.now();
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.late());
        }
        let runtime = Handle::try_current()
            .map_err(|_| self.fault(ErrorKind::Internal, "a cache was asked outside of a tokio runtime"))?;
        if let Some(refusal) = self.gate.refusal(now) {
            self.note_backed_off(ctx, asks.len());
            return Ok(Err(refusal));
        }
        let Some(berth) = self.gate.board() else { return Ok(Err(self.overloaded())) };
        let places: Vec<(Key, Before)> =
            asks.iter().map(|ask| (ask.to_key(), self.shelf.before(ask))).collect();
        let (this, asker) = (Arc::clone(self), ctx.clone());
        let task = runtime.spawn(async move {
            let _berth = berth;
            let turn = this.turn().await?;
            let pass = this.gate.admit(this.shelf.clock.now()).inspect_err(|_| {
                this.note_backed_off(&asker, places.len());
            })?;
            let questions = places.iter().map(|(key, _)| key.clone()).collect();
            let load = |ctx| load(ctx, questions);
            let (answers, loaded) =
                this.ask_source(&asker, turn, pass, load, |answers: &Vec<_>| judge_many(answers)).await;
            let answers = answers?;
            if answers.len() != places.len() {
                return Err(
                    this.fault(ErrorKind::Internal, "the source answered another number of questions")
                );
            }
            let _kept_alone = this.flights();
            for ((key, before), answer) in places.into_iter().zip(&answers) {
                if let Ok(answer) = answer {
                    this.shelf.keep(key, answer, before, loaded);
                }
            }
            Ok(answers)
        });
        let task = task.map(|ended| ended.unwrap_or_else(|_| Err(self.dropped())));
        self.by_deadline(ctx, task).await
    }

    /// Waits for a flight. The outer error is the asker's own deadline.
    async fn land(&self, ctx: &Ctx, mut landing: watch::Receiver<Landing>) -> Result<Result<Answer>> {
        let landed = async move {
            match landing.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone().unwrap_or_else(|| Err(self.dropped())),
                Err(_) => Err(self.dropped()),
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
        let Some((answer, age)) = self.shelf.find_stale(ctx, ask) else { return Err(failure) };
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

    fn fault(&self, kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message).at(Arc::clone(self.source.name()))
    }

    fn late(&self) -> Error {
        self.fault(ErrorKind::Timeout, "no answer before the deadline")
    }

    fn overloaded(&self) -> Error {
        self.fault(ErrorKind::Overloaded, "too many questions wait for this source")
    }

    fn dropped(&self) -> Error {
        self.fault(ErrorKind::Unavailable, "the load was given up with its runtime")
    }
}

enum Boarded {
    Found(Answer),
    Flight(watch::Receiver<Landing>),
    Refused(Error),
}

/// What an answer says about its source.
pub(crate) struct Judged<'a> {
    /// Whether it counts as a failed load.
    pub(crate) failed: bool,
    /// The error that says that something is wrong with the source.
    pub(crate) fault: Option<&'a Error>,
}

pub(crate) fn judge_one(answer: &Result<Answer>) -> Judged<'_> {
    Judged { failed: answer.is_err(), fault: answer.as_ref().err() }
}

/// One answer among many shows that the source is there.
fn judge_many(answers: &[Result<Answer>]) -> Judged<'_> {
    let passing = |answer: &Result<Answer>| answer.as_ref().is_err_and(|error| error.kind().is_temporary());
    let fault = if answers.iter().all(passing) { answers.last() } else { None };
    Judged {
        failed: answers.iter().any(Result::is_err),
        fault: fault.and_then(|answer| answer.as_ref().err()),
    }
}
