//! The one core of every wrapper: look on the shelf, else load once for everybody who asks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use auth_core::{
    BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Freshness, Moment, Result, SourceInfo, Step,
};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::flight::{Failure, Flights, Landed, Seat, Waiting};
use crate::gate::{Berth, Gate, Pass};
use crate::settings::{Settings, nanos};
use crate::shared::{Found, Look, Looked, Share, loaded};
use crate::shelf::{Before, Hit, Loaded, Missed, Shelf};
use crate::stats::{CacheStats, Ended, Report};
use crate::{Answer, Ask, Key};

mod many;

/// Who has no more time than this gets a timer of their own beside that of the shared cache.
const HURRY: Duration = Duration::from_secs(1);

/// Puts questions to the source, all in one; their answers are in the same order.
pub(crate) type Load = Box<dyn Fn(Ctx, Vec<Key>) -> BoxFuture<Vec<Result<Answer>>> + Send + Sync>;

pub(crate) struct Loader {
    source: SourceInfo,
    kind: &'static str,
    pub(crate) load: Load,
    pub(crate) shelf: Shelf,
    pub(crate) gate: Arc<Gate>,
    pub(crate) share: Option<Share>,
    load_timeout: Duration,
    // A std mutex: nothing awaits while it is held. What loads bring is kept under it too, so that an older
    // answer can't replace a newer one, and whoever finds no flight finds what the flight has brought.
    flights: Mutex<Flights>,
}

impl Loader {
    pub(crate) fn new(
        source: SourceInfo,
        kind: &'static str,
        load: Load,
        fence: Arc<Fence>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
    ) -> Arc<Self> {
        let share = settings.shared.as_ref();
        Arc::new(Self {
            share: share
                .map(|cache| Share::new(Arc::clone(cache), source.clone(), Arc::clone(&settings.lifetimes))),
            source,
            kind,
            load,
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
        let shared = self.share.as_ref().map(Share::stats);
        Report { source: Arc::clone(self.source.name()), kind: self.kind, stats, shared }
    }

    /// Answers from memory, without waiting and without allocating, but for the one hit in the life of an
    /// entry that starts its refresh. A miss is not counted: it comes again through [`answer`](Self::answer).
    pub(crate) fn peek(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>) -> Option<Answer> {
        self.peek_at(ctx, ask, Answer::clone)
    }

    /// Reads something off an answer from memory, as [`peek`](Self::peek) does with the answer itself.
    #[inline]
    pub(crate) fn peek_at<R>(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        read: impl Fn(&Answer) -> R,
    ) -> Option<R> {
        let hit = self.shelf.read(ctx, ask, read).ok()?;
        Some(self.serve(ctx, ask, hit))
    }

    /// Answers from memory, or from a load that is under way, or begins one. Where that fails for a time, an
    /// older answer may stand in.
    pub(crate) async fn answer(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>) -> Result<Answer> {
        self.find_or_load(ctx, ask).await.or_else(|failure| self.stand_in(ctx, ask, failure))
    }

    async fn find_or_load(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
    ) -> std::result::Result<Answer, Failure> {
        let mut looked = None;
        // Who wants it fresh does not look; what is loaded then is kept there in place of what is.
        if let Some(share) = self.share.as_ref().filter(|_| ctx.freshness() != Freshness::Fresh) {
            if let Ok(hit) = self.shelf.find(ctx, ask) {
                return Ok(self.serve(ctx, ask, hit));
            }
            let since = self.shelf.clock.now();
            looked = Some(match self.look(share, ctx, ask, since).await {
                Look::Hit(found) => return Ok(found.answer),
                Look::Miss(marks) => Looked { since, marks: Some(marks) },
                Look::Off => Looked { since, marks: None },
            });
        }
        let (waiting, asked) = match self.find_or_board(ctx, ask, None, looked)? {
            Boarded::Found(answer) => return Ok(answer),
            Boarded::Flight(waiting, asked) => (waiting, asked),
        };
        match self.land(ctx, waiting).await {
            Ok((answer, at)) if !self.is_outdated(&answer, at, asked) => return Ok(answer),
            Ok(_) | Err(Failure::Overdue(_)) => {}
            Err(failure) => return Err(failure),
        }
        // It joined a load that took longer than its answer lives, or than any may: once more, and now one that has
        // begun since it asked.
        match self.find_or_board(ctx, ask, Some(asked), None)? {
            Boarded::Found(answer) => Ok(answer),
            Boarded::Flight(waiting, _) => Ok(self.land(ctx, waiting).await?.0),
        }
    }

    /// Looks in the shared cache, for an answer that this process keeps too.
    async fn look(&self, share: &Share, ctx: &Ctx, ask: &Ask<'_>, asked: Moment) -> Look {
        // Read before the shared cache is asked: an invalidation after this keeps the answer off the shelf.
        let before = self.shelf.keeps().then(|| self.shelf.before(ask));
        let looking = share.look(ctx.freshness(), asked, ask);
        let look = self.in_time(ctx, asked, looking).await.unwrap_or(Look::Off);
        if let Look::Hit(found) = &look {
            self.keep_found(ctx, ask, found, before, asked);
        }
        look
    }

    /// Looks for answers in the shared cache, in one round trip for all of a lane.
    async fn look_many(&self, share: &Share, ctx: &Ctx, asks: &[Ask<'_>]) -> Vec<Look> {
        let asked = self.shelf.clock.now();
        let before: Vec<Before> = asks.iter().map(|ask| self.shelf.before(ask)).collect();
        let looking = share.look_many(ctx.freshness(), asked, asks);
        let Some(looks) = self.in_time(ctx, asked, looking).await else {
            return asks.iter().map(|_| Look::Off).collect();
        };
        for ((look, ask), before) in looks.iter().zip(asks).zip(before) {
            if let Look::Hit(found) = look {
                self.keep_found(ctx, ask, found, Some(before), asked);
            }
        }
        looks
    }

    /// Looks in the shared cache, if that may answer this question, for as long as its asker waits.
    async fn in_time<T>(
        &self,
        ctx: &Ctx,
        asked: Moment,
        looking: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let left = ctx.deadline().map(|deadline| deadline.since(asked));
        if ctx.freshness() == Freshness::Fresh
            || left.is_some_and(|left| left.is_zero())
            || Handle::try_current().is_err()
        {
            return None;
        }
        // A tier keeps to a limit of its own, far below this: only who is in a hurry needs a timer beside it.
        match left {
            Some(left) if left < HURRY => self.by_deadline(ctx, looking).await.ok(),
            _ => Some(looking.await),
        }
    }

    /// Keeps an answer of the shared cache here, too, if anything is kept, and counts it.
    fn keep_found(&self, ctx: &Ctx, ask: &Ask<'_>, found: &Found, before: Option<Before>, asked: Moment) {
        if let Some(before) = before
            && self.shelf.keeps()
            && let Some(at) = loaded(asked, found.age)
        {
            let _flights = self.flights();
            self.shelf.keep_found(ask.to_key(), found, before, at, asked);
        }
        self.note_hit(ctx, found.answer.is_negative(), nanos(found.age));
        ctx.note(|| {
            let kind = self.share.as_ref().map_or("shared", |share| share.cache.kind());
            Step::new("cache", format_args!("{}: found in {kind}", self.kind)).at(self.source.name())
        });
    }

    #[inline]
    fn serve<R>(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>, hit: Hit<R>) -> R {
        self.note_hit(ctx, hit.negative, hit.age);
        if hit.due {
            self.refresh(ctx, ask);
        }
        hit.answer
    }

    /// Looks on the shelf, else joins a load or begins one. With `since`, this is the second time: the question
    /// is counted already, and joins only what has begun since then.
    fn find_or_board(
        self: &Arc<Self>,
        ctx: &Ctx,
        ask: &Ask<'_>,
        since: Option<Moment>,
        looked: Option<Looked>,
    ) -> std::result::Result<Boarded, Failure> {
        let again = since.is_some();
        let missed = match self.shelf.find(ctx, ask) {
            Ok(hit) if again => return Ok(Boarded::Found(hit.answer)),
            Ok(hit) => return Ok(Boarded::Found(self.serve(ctx, ask, hit))),
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
            let answer = if again { hit.answer } else { self.serve(ctx, ask, hit) };
            return Ok(Boarded::Found(answer));
        }
        let seen = looked.as_ref().map(Looked::seen);
        if let Some(waiting) = flights.join(&key, before, seen, now, |began| joins(ctx, now, since, began)) {
            drop(flights);
            note_miss();
            if !again {
                self.note_joined(ctx);
            }
            return Ok(Boarded::Flight(waiting, now));
        }
        let berth = match self.board(now) {
            Ok(berth) => berth,
            Err(failure) => {
                drop(flights);
                note_miss();
                self.note_refused(ctx, &failure, 1);
                return Err(failure);
            }
        };
        let (flight, waiting) = flights.open(key, before, now, looked);
        drop(flights);
        // Whether it ends, panics or is dropped with the runtime: the seat takes the flight off the list.
        let seat = Seat::new(Arc::clone(self), vec![flight], berth);

        note_miss();
        runtime.spawn(seat.fly(ctx.clone()));
        Ok(Boarded::Flight(waiting, now))
    }

    /// Returns the runtime for a load, if the asker has time left.
    fn runtime(&self, ctx: &Ctx, now: Moment) -> std::result::Result<Handle, Failure> {
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.late());
        }
        let outside = "a cache was asked outside of a tokio runtime";
        Handle::try_current().map_err(|_| Failure::Ours(self.fault(ErrorKind::Internal, outside)))
    }

    /// Takes a place among the questions, if the source is not left alone.
    fn board(&self, now: Moment) -> std::result::Result<Berth, Failure> {
        if let Some(error) = self.gate.refusal(now) {
            return Err(Failure::Source(error));
        }
        self.gate.board().ok_or_else(|| self.overloaded())
    }

    /// Lets a question through to the source, or returns the failure after which it is left alone.
    pub(crate) fn admit(&self) -> std::result::Result<Pass, Failure> {
        self.gate.admit(self.shelf.clock.now(), self.load_timeout).map_err(Failure::Source)
    }

    /// Reports whether an answer that was asked for before this moment is older than it may get in memory.
    fn is_outdated(&self, answer: &Answer, at: Moment, asked: Moment) -> bool {
        at < asked && self.shelf.outlives(answer, at)
    }

    /// Loads what is in use again before it ends, if the source has time for that. Nobody waits, nor for a
    /// lock: the next hit comes by.
    #[cold]
    fn refresh(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>) {
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
        if flights.join(&key, before, None, now, |_| true).is_some() {
            return;
        }
        let (flight, _nobody_waits) = flights.open(key, before, now, None);
        drop(flights);
        let seat = Seat::new(Arc::clone(self), vec![flight], berth);

        self.shelf.counters.refresh();
        ctx.note(|| Step::new("cache", format_args!("{}: refreshing", self.kind)).at(self.source.name()));
        runtime.spawn(async move {
            let _refreshing = refreshing;
            // Not the asker's context: the asker has the answer, and may have shown what it recorded.
            seat.fly_with(Ctx::new(), turn, pass).await;
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
            return Err(self.late().into());
        }
        let note = |failure: &Failure| self.note_refused(ctx, failure, 1);
        let _berth = self.board(now).inspect_err(note)?;
        let asked = async {
            let turn = match self.gate.try_turn() {
                Some(turn) => turn,
                None => self.turn().await.inspect_err(note)?,
            };
            let pass = self.admit().inspect_err(note)?;
            let (answer, _) = self.ask_source(ctx, turn, pass, load, judge_one).await;
            answer.and_then(|answer| answer)
        };
        self.by_deadline(ctx, asked).await?
    }

    /// Waits for a flight, for as long as the asker may.
    async fn land(&self, ctx: &Ctx, waiting: Waiting) -> Landed {
        let Waiting { mut landing, until } = waiting;
        let landed = async move {
            match landing.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone().unwrap_or_else(|| Err(self.dropped())),
                Err(_) => Err(self.dropped()),
            }
        };
        let Some(until) = until else { return self.by_deadline(ctx, landed).await? };
        let landed = async move {
            match select(pin!(landed), self.shelf.clock.sleep_until(until)).await {
                Either::Left((landed, _)) => landed,
                Either::Right(((), _)) => Err(self.overdue()),
            }
        };
        self.by_deadline(ctx, landed).await?
    }

    async fn by_deadline<T>(
        &self,
        ctx: &Ctx,
        work: impl Future<Output = T> + Send,
    ) -> std::result::Result<T, Failure> {
        let Some(deadline) = ctx.deadline() else { return Ok(work.await) };
        match select(pin!(work), self.shelf.clock.sleep_until(deadline)).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right(((), _)) => Err(self.late()),
        }
    }

    /// Answers with what is past its lifetime, if the failure is a passing one of the source and the settings
    /// allow it.
    fn stand_in(&self, ctx: &Ctx, ask: &Ask<'_>, failure: Failure) -> Result<Answer> {
        let failure = match failure {
            Failure::Source(failure) if failure.kind().is_temporary() => failure,
            other => return Err(other.into()),
        };
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
    pub(crate) async fn turn(&self) -> std::result::Result<OwnedSemaphorePermit, Failure> {
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

    /// Notes that questions are not put to the source: it is left alone, or too many wait.
    pub(crate) fn note_refused(&self, ctx: &Ctx, failure: &Failure, questions: usize) {
        match failure {
            Failure::Source(_) => self.note_backed_off(ctx, questions),
            Failure::Ours(_) | Failure::Overdue(_) => self.note_overloaded(ctx, questions),
        }
    }

    /// Notes that questions get the last error of a source that is left alone.
    fn note_backed_off(&self, ctx: &Ctx, questions: usize) {
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
    fn note_overloaded(&self, ctx: &Ctx, questions: usize) {
        self.shelf.counters.overloaded(u64::try_from(questions).unwrap_or(u64::MAX));
        ctx.note(|| {
            let outcome = format_args!("{}: refused, since too many questions wait", self.kind);
            Step::new("cache", outcome).at(self.source.name())
        });
    }

    fn fault(&self, kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message).at(Arc::clone(self.source.name()))
    }

    fn late(&self) -> Failure {
        Failure::Ours(self.fault(ErrorKind::Timeout, "no answer before the deadline"))
    }

    fn overloaded(&self) -> Failure {
        Failure::Ours(self.fault(ErrorKind::Overloaded, "too many questions wait for this source"))
    }

    pub(crate) fn miscounted(&self) -> Error {
        self.fault(ErrorKind::Internal, "the source answered another number of questions")
    }

    fn overdue(&self) -> Failure {
        Failure::Overdue(self.fault(ErrorKind::Unavailable, "a load that was joined goes on for too long"))
    }

    fn dropped(&self) -> Failure {
        Failure::Ours(self.fault(ErrorKind::Unavailable, "the load ended without an answer"))
    }
}

enum Boarded {
    Found(Answer),
    /// And when it boarded.
    Flight(Waiting, Moment),
}

/// Reports whether a question may join a load that began then.
fn joins(ctx: &Ctx, now: Moment, since: Option<Moment>, began: Moment) -> bool {
    since.map_or_else(|| ctx.freshness().accepts(now.since(began)), |since| began >= since)
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
