//! The one core of every wrapper: look on the shelf, else load once for everybody who asks.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Moment, Result, SourceInfo, Step};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::settings::Settings;
use crate::shelf::{Before, Found, Shelf};
use crate::stats::{Report, count};
use crate::{Answer, Ask, Key};

#[derive(Debug)]
pub(crate) struct Loader {
    source: SourceInfo,
    kind: &'static str,
    shelf: Shelf,
    turns: Arc<Semaphore>,
    load_timeout: Duration,
    most: usize,
    // A std mutex: nothing awaits while it is held. What loads bring is kept under it too, so that an older
    // answer can't replace a newer one, and whoever finds no flight finds what the flight has brought.
    flights: Mutex<Flights>,
}

/// A load that others may share: of this question, begun under these generations.
type FlightKey = (Key, Before);

type Landing = Option<Result<Answer>>;

#[derive(Debug, Default)]
struct Flights {
    open: HashMap<FlightKey, Flight, foldhash::quality::RandomState>,
    under_way: usize,
    next: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    began: Moment,
    landing: Arc<watch::Sender<Landing>>,
}

impl Loader {
    pub(crate) fn new(
        source: SourceInfo,
        kind: &'static str,
        fence: Arc<Fence>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
    ) -> Arc<Self> {
        let loads = settings.loads.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            source,
            kind,
            shelf: Shelf::new(fence, clock, settings),
            turns: Arc::new(Semaphore::new(loads)),
            load_timeout: settings.load_timeout,
            most: loads.saturating_add(settings.queue),
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
        Report { source: Arc::clone(self.source.name()), kind: self.kind, stats: self.shelf.stats() }
    }

    /// Answers from memory, without waiting and without allocating. A miss is not counted: it comes again
    /// through [`answer`](Self::answer).
    pub(crate) fn peek(&self, ctx: &Ctx, ask: &Ask<'_>) -> Option<Answer> {
        match self.shelf.find(ctx, ask) {
            Found::Good(answer, age) => {
                self.note_hit(ctx, &answer, age);
                Some(answer)
            }
            _ => None,
        }
    }

    /// Answers from memory, or from a load that is under way, or begins one. `load` is called only then.
    pub(crate) async fn answer<L, F>(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>, load: L) -> Result<Answer>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let landing = match self.find_or_board(ctx, ask, load)? {
            Boarded::Found(answer) => return Ok(answer),
            Boarded::Flight(landing) => landing,
        };
        self.land(ctx, landing).await
    }

    fn find_or_board<L, F>(self: &Arc<Self>, ctx: &Ctx, ask: &Ask<'_>, load: L) -> Result<Boarded>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let found = match self.shelf.find(ctx, ask) {
            Found::Good(answer, age) => {
                self.note_hit(ctx, &answer, age);
                return Ok(Boarded::Found(answer));
            }
            other => other,
        };
        let now = self.shelf.clock.now();
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            self.note_miss(ctx, &found);
            return Err(self.late());
        }
        let runtime = Handle::try_current()
            .map_err(|_| self.fault(ErrorKind::Internal, "a cache was asked outside of a tokio runtime"))?;
        let key = ask.to_key();

        let mut flights = self.flights();
        // Read under the lock: what is looked for next is what these generations allow.
        let before = self.shelf.before(ask);
        // A flight may have landed since; it was put on the shelf under this lock.
        if let Found::Good(answer, age) = self.shelf.find(ctx, ask) {
            drop(flights);
            self.note_hit(ctx, &answer, age);
            return Ok(Boarded::Found(answer));
        }
        let place = (key, before);
        if let Some(flight) = flights.open.get(&place)
            && ctx.freshness().accepts(now.since(flight.began))
        {
            let landing = flight.landing.subscribe();
            drop(flights);
            self.note_miss(ctx, &found);
            count(&self.shelf.counters.coalesced);
            ctx.note(|| {
                Step::new("cache", format_args!("{}: joined a load", self.kind)).at(self.source.name())
            });
            return Ok(Boarded::Flight(landing));
        }
        if flights.under_way >= self.most {
            drop(flights);
            self.note_miss(ctx, &found);
            return Err(self.overloaded());
        }
        flights.under_way += 1;
        flights.next += 1;
        let number = flights.next;
        let (landing, landed) = watch::channel(None);
        let landing = Arc::new(landing);
        // Whether it ends, panics or is dropped with the runtime: the seat takes the flight off the list.
        let seat =
            Seat { loader: Arc::clone(self), place: place.clone(), number, landing: Arc::clone(&landing) };
        // It takes the place of an older one that this question could not join; who waits for that still
        // gets its answer, who comes later joins this.
        flights.open.insert(place, Flight { number, began: now, landing });
        drop(flights);

        self.note_miss(ctx, &found);
        let ctx = ctx.clone();
        runtime.spawn(async move { seat.fly(ctx, load).await });
        Ok(Boarded::Flight(landed))
    }

    /// Puts a question to the source that is not shared, and keeps what it brings, also if the caller
    /// leaves. The answers belong to the questions in their order.
    pub(crate) async fn answer_many<L, F>(
        self: &Arc<Self>,
        ctx: &Ctx,
        keys: Vec<Key>,
        load: L,
    ) -> Result<Vec<Result<Answer>>>
    where
        L: FnOnce(Ctx, Vec<Key>) -> F + Send + 'static,
        F: Future<Output = Vec<Result<Answer>>> + Send + 'static,
    {
        let now = self.shelf.clock.now();
        if ctx.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.late());
        }
        let runtime = Handle::try_current()
            .map_err(|_| self.fault(ErrorKind::Internal, "a cache was asked outside of a tokio runtime"))?;
        {
            let mut flights = self.flights();
            if flights.under_way >= self.most {
                return Err(self.overloaded());
            }
            flights.under_way += 1;
        }
        for _ in &keys {
            self.note_miss(ctx, &Found::Nothing);
        }
        let turn = Turn(Arc::clone(self));
        let (this, asker) = (Arc::clone(self), ctx.clone());
        let befores: Vec<Before> = keys.iter().map(|key| self.shelf.before(&key.ask())).collect();
        let task = runtime.spawn(async move {
            let _turn = turn;
            let permit = this.permit().await?;
            let failed = |answers: &Vec<Result<Answer>>| answers.iter().any(Result::is_err);
            let questions = keys.clone();
            let load = |ctx| load(ctx, questions);
            let (answers, loaded) = this.ask_source(&asker, permit, load, failed).await;
            let answers = answers?;
            if answers.len() != keys.len() {
                return Err(
                    this.fault(ErrorKind::Internal, "the source answered another number of questions")
                );
            }
            let _kept_alone = this.flights();
            for ((key, before), answer) in keys.into_iter().zip(befores).zip(&answers) {
                if let Ok(answer) = answer {
                    this.shelf.keep(key, answer, before, loaded);
                }
            }
            Ok(answers)
        });
        let task = task.map(|ended| ended.unwrap_or_else(|_| Err(self.dropped())));
        self.by_deadline(ctx, task).await
    }

    /// Waits for a flight, until the caller's own deadline.
    async fn land(&self, ctx: &Ctx, mut landing: watch::Receiver<Landing>) -> Result<Answer> {
        let landed = async move {
            match landing.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone().unwrap_or_else(|| Err(self.dropped())),
                Err(_) => Err(self.dropped()),
            }
        };
        self.by_deadline(ctx, landed).await
    }

    async fn by_deadline<T>(&self, ctx: &Ctx, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Some(deadline) = ctx.deadline() else { return work.await };
        match select(pin!(work), self.shelf.clock.sleep_until(deadline)).await {
            Either::Left((done, _)) => done,
            Either::Right(((), _)) => Err(self.late()),
        }
    }

    /// Waits for a turn at the source, for as long as a load may take.
    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let until = self.shelf.clock.now() + self.load_timeout;
        match select(pin!(Arc::clone(&self.turns).acquire_owned()), self.shelf.clock.sleep_until(until)).await
        {
            Either::Left((Ok(permit), _)) => Ok(permit),
            Either::Left((Err(_), _)) | Either::Right(((), _)) => Err(self.overloaded()),
        }
    }

    /// Puts the question, guarded against panics and bounded in time. Returns when it was put, too.
    async fn ask_source<T, L, F>(
        &self,
        asker: &Ctx,
        permit: OwnedSemaphorePermit,
        load: L,
        failed: impl FnOnce(&T) -> bool + Send,
    ) -> (Result<T>, Moment)
    where
        T: Send,
        L: FnOnce(Ctx) -> F + Send,
        F: Future<Output = T> + Send,
    {
        // Read before the source is asked: age counts from here.
        let began = self.shelf.clock.now();
        let deadline = began + self.load_timeout;
        let ctx = asker.detached(deadline).with_freshness(asker.freshness());
        let guarded = AssertUnwindSafe(async move { load(ctx).await }).catch_unwind();
        let answer = match select(pin!(guarded), self.shelf.clock.sleep_until(deadline)).await {
            Either::Left((Ok(answer), _)) => Ok(answer),
            // What a panic says may hold anything: it goes to the panic hook, not to the askers.
            Either::Left((Err(_), _)) => Err(self.fault(ErrorKind::Internal, "the source panicked")),
            Either::Right(((), _)) => {
                Err(self.fault(ErrorKind::Timeout, "the source did not answer within the limit of a load"))
            }
        };
        drop(permit);
        let took = self.shelf.clock.now().since(began);
        self.shelf.counters.load(took, answer.as_ref().map_or(true, failed));
        (answer, began)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_hit(&self, ctx: &Ctx, answer: &Answer, age: Duration) {
        self.shelf.counters.hit(answer.is_negative(), age);
        ctx.note_cache(CacheUse::Hit);
        ctx.note(|| Step::new("cache", format_args!("{}: hit", self.kind)).at(self.source.name()).aged(age));
    }

    fn note_miss(&self, ctx: &Ctx, found: &Found) {
        self.shelf.counters.miss(found);
        ctx.note_cache(CacheUse::Miss);
        ctx.note(|| {
            Step::new("cache", format_args!("{}: {}", self.kind, found.as_str())).at(self.source.name())
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
}

/// A place among the loads under way.
struct Turn(Arc<Loader>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut flights = self.0.flights();
        flights.under_way = flights.under_way.saturating_sub(1);
    }
}

/// The duty to fly one flight; however it ends, the flight is off the list then.
struct Seat {
    loader: Arc<Loader>,
    place: FlightKey,
    number: u64,
    landing: Arc<watch::Sender<Landing>>,
}

impl Seat {
    async fn fly<L, F>(self, ctx: Ctx, load: L)
    where
        L: FnOnce(Ctx, Key) -> F + Send,
        F: Future<Output = Result<Answer>> + Send,
    {
        let loader = Arc::clone(&self.loader);
        let permit = match Arc::clone(&loader.turns).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match loader.permit().await {
                // Everybody has left while this waited for its turn: spare the source the question.
                Ok(_) if self.is_deserted() => return,
                Ok(permit) => permit,
                Err(error) => return self.land(Err(error), None),
            },
        };
        let question = self.place.0.clone();
        let load = |ctx| load(ctx, question);
        let (answer, began) = loader.ask_source(&ctx, permit, load, Result::is_err).await;
        self.land(answer.and_then(|answer| answer), Some(began));
    }

    /// Keeps the answer, takes the flight off the list in the same step, and tells everybody who waits.
    fn land(self, answer: Result<Answer>, began: Option<Moment>) {
        let mut flights = self.loader.flights();
        if let (Ok(answer), Some(began)) = (&answer, began) {
            let (key, before) = self.place.clone();
            self.loader.shelf.keep(key, answer, before, began);
        }
        self.take_off(&mut flights);
        drop(flights);
        self.landing.send_replace(Some(answer));
    }

    /// Reports whether nobody waits; then nobody can join any more either.
    fn is_deserted(&self) -> bool {
        let mut flights = self.loader.flights();
        let deserted = self.landing.receiver_count() == 0;
        if deserted {
            self.take_off(&mut flights);
        }
        deserted
    }

    fn take_off(&self, flights: &mut Flights) {
        // A newer flight may have taken the place.
        if flights.open.get(&self.place).is_some_and(|flight| flight.number == self.number) {
            flights.open.remove(&self.place);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.loader.flights();
        self.take_off(&mut flights);
        flights.under_way = flights.under_way.saturating_sub(1);
    }
}
