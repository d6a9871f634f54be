//! A connection that comes back by itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result, TierAsk, TierRead, WireName};
use redis::{Pipeline, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::dial::{Dialer, Master, Place, Push};
use crate::fault;
use crate::queue::Queue;

/// How long to pause after the first attempt that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause. A connection that held for so long is a good one: after it the first attempt is at once again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a connection is looked after, also one that nobody uses.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The pauses between attempts.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Option<Duration>);

impl Pauses {
    /// Returns the next one: none before the first attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0.unwrap_or_default();
        self.0 = Some(pause.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE));
        pause
    }

    /// Begins anew if what was reached has lasted.
    pub(crate) fn lasted(&mut self, since: Instant) {
        if since.elapsed() >= LONGEST_PAUSE {
            self.0 = None;
        }
    }
}

/// A connection to one server, made again whenever it is lost. A handle: clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.0.place).finish_non_exhaustive()
    }
}

struct Shared {
    dialer: Arc<Dialer>,
    place: Place,
    /// A std lock: nothing awaits while it is held.
    state: RwLock<State>,
    /// Moves with the state.
    moves: watch::Sender<()>,
    in_flight: AtomicUsize,
    kept: AtomicBool,
    keeper: Mutex<Option<AbortHandle>>,
    /// What goes with the next request that several share. Bounded by what may be in flight.
    waiting: Arc<Queue<Waiting>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            keeper.abort();
        }
    }
}

enum State {
    /// Nobody has tried yet.
    New,
    Down(Error),
    Up(Arc<Live>),
}

/// A question that shares a request with others.
pub(crate) struct Waiting {
    pub(crate) entry: WireName,
    pub(crate) generations: Box<[WireName]>,
    pub(crate) answer: oneshot::Sender<Result<TierRead>>,
}

impl Waiting {
    pub(crate) fn ask(&self) -> TierAsk<'_> {
        TierAsk { entry: self.entry, generations: &self.generations }
    }
}

/// A connection that stands.
struct Live {
    master: Master,
    /// Called where it is to be given up.
    gone: Arc<Notify>,
    /// Calls in a row that got no answer.
    unanswered: AtomicU32,
    /// Since when.
    silent: Mutex<Option<Instant>>,
}

impl Live {
    fn answered(&self) {
        if self.unanswered.load(Ordering::Relaxed) != 0 {
            self.unanswered.store(0, Ordering::Relaxed);
            *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// A server that answers nothing for three limits is given up. Many calls at once that were too slow are one
    /// sign, not many.
    fn silent(&self, limit: Duration) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let mut since = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if since.get_or_insert_with(Instant::now).elapsed() >= limit.saturating_mul(2) {
            self.gone.notify_one();
        }
    }
}

impl Link {
    pub(crate) fn new(dialer: Arc<Dialer>, place: Place) -> Self {
        Self(Arc::new(Shared {
            dialer,
            place,
            state: RwLock::new(State::New),
            moves: watch::Sender::new(()),
            in_flight: AtomicUsize::new(0),
            kept: AtomicBool::new(false),
            keeper: Mutex::new(None),
            waiting: Arc::default(),
        }))
    }

    /// Tells whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends commands and returns what each is answered with, and in which life of the server.
    pub(crate) async fn call(&self, pipeline: &Pipeline, until: Instant) -> Result<(Vec<Value>, u64)> {
        let _place = self.enter()?;
        self.send(pipeline, until).await
    }

    /// Does as [`call`](Self::call) for those who have a place each.
    pub(crate) async fn send(&self, pipeline: &Pipeline, until: Instant) -> Result<(Vec<Value>, u64)> {
        let live = match self.0.live() {
            Ok(live) => live,
            Err(why) => self.wait(why, until).await?,
        };
        let mut connection = live.master.wire.connection.clone();
        let sent = connection.send_packed_commands(pipeline, 0, pipeline.len());
        match tokio::time::timeout_at(until, sent).await {
            Ok(Ok(values)) => {
                live.answered();
                if values.iter().any(fault::is_lost) {
                    live.gone.notify_one();
                }
                if values.len() == pipeline.len() {
                    Ok((values, live.master.incarnation))
                } else {
                    Err(fault::unreadable())
                }
            }
            Ok(Err(error)) => {
                live.gone.notify_one();
                Err(fault::of(&error))
            }
            Err(_) => {
                live.silent(self.0.dialer.timeout);
                Err(fault::timeout())
            }
        }
    }

    /// Tells why there is no connection, if that is known.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.live() {
            Err(Some(why)) => Err(why),
            Ok(_) | Err(None) => Ok(()),
        }
    }

    /// Takes one of the places for requests on their way.
    pub(crate) fn enter(&self) -> Result<InFlight<'_>> {
        let before = self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        let entered = InFlight { count: &self.0.in_flight, before };
        if before >= self.0.dialer.in_flight {
            return Err(Error::new(ErrorKind::Overloaded, "too many requests are on their way"));
        }
        Ok(entered)
    }

    /// Returns those who wait for the next request that several share.
    pub(crate) fn waiting(&self) -> &Arc<Queue<Waiting>> {
        &self.0.waiting
    }

    /// Waits for the first attempt, and for no other.
    async fn wait(&self, why: Option<Error>, until: Instant) -> Result<Arc<Live>> {
        let mut moves = self.0.moves.subscribe();
        self.keep()?;
        if let Some(why) = why {
            return Err(why);
        }
        loop {
            match self.0.live() {
                Ok(live) => return Ok(live),
                Err(Some(why)) => return Err(why),
                Err(None) => {}
            }
            if !matches!(tokio::time::timeout_at(until, moves.changed()).await, Ok(Ok(()))) {
                return Err(fault::timeout());
            }
        }
    }

    /// Sees to it that somebody keeps the connection up.
    fn keep(&self) -> Result<()> {
        if self.0.kept.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let guard = Kept(Arc::downgrade(&self.0));
        let runtime = Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Internal, "Redis is asked outside of a tokio runtime"))?;
        let keeper = runtime.spawn(keep(guard)).abort_handle();
        *self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        Ok(())
    }
}

impl Shared {
    /// Returns the connection, or why there is none.
    fn live(&self) -> std::result::Result<Arc<Live>, Option<Error>> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Up(live) => Ok(Arc::clone(live)),
            State::Down(why) => Err(Some(why.clone())),
            State::New => Err(None),
        }
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.moves.send_replace(());
    }
}

/// A request on its way.
pub(crate) struct InFlight<'a> {
    count: &'a AtomicUsize,
    /// How many were on their way before it.
    pub(crate) before: usize,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that nobody keeps the connection up any more, however that came: its runtime may have ended.
struct Kept(Weak<Shared>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.set(State::New);
            shared.kept.store(false, Ordering::Release);
        }
    }
}

/// Connects, looks after the connection, and connects again, for as long as anybody has the link.
async fn keep(kept: Kept) {
    let weak = &kept.0;
    let mut pauses = Pauses::default();
    loop {
        tokio::time::sleep(pauses.next()).await;
        let Some(shared) = weak.upgrade() else { return };
        let gone = Arc::new(Notify::new());
        let heard = Arc::clone(&gone);
        let push: Push = Arc::new(move |info| {
            if info.kind == PushKind::Disconnection {
                heard.notify_one();
            }
        });
        let found = shared.dialer.find(&shared.place, &push).await;
        let why = match found {
            Err(error) => error,
            Ok(master) => {
                let since = Instant::now();
                let live = Live {
                    master,
                    gone: Arc::clone(&gone),
                    unanswered: AtomicU32::new(0),
                    silent: Mutex::new(None),
                };
                shared.set(State::Up(Arc::new(live)));
                drop(shared);
                let why = look_after(weak, &gone).await;
                pauses.lasted(since);
                why
            }
        };
        tracing::debug!(error = ?why, "no connection to Redis");
        match weak.upgrade() {
            Some(shared) => shared.set(State::Down(why)),
            None => return,
        }
    }
}

/// Returns why a connection is to be given up, once it is.
async fn look_after(weak: &Weak<Shared>, gone: &Notify) -> Error {
    tokio::select! {
        () = gone.notified() => Error::new(ErrorKind::Unavailable, "the connection is lost"),
        why = look(weak) => why,
    }
}

/// Looks every now and then whether the server is still the one that is wanted, and returns why it is not.
async fn look(weak: &Weak<Shared>) -> Error {
    let lost = || Error::new(ErrorKind::Unavailable, "the connection is lost");
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = weak.upgrade() else { return lost() };
        let Ok(live) = shared.live() else { return lost() };
        let mut ask = Pipeline::with_capacity(1);
        ask.add_command(shared.place.question());
        let until = Instant::now() + shared.dialer.connect_timeout;
        let answer = match Link(Arc::clone(&shared)).call(&ask, until).await {
            Ok((mut values, _)) => values.pop().ok_or_else(fault::unreadable),
            // So busy that it needs no looking after.
            Err(error) if error.kind() == ErrorKind::Overloaded => continue,
            Err(error) => Err(error),
        };
        if let Err(why) = answer.and_then(|answer| shared.place.accepts(answer)) {
            return why;
        }
        if shared.dialer.has_moved(&shared.place, &live.master.address).await {
            return Error::new(ErrorKind::Unavailable, "the sentinels say that another is the master");
        }
    }
}
