//! `Carrier`: brings invalidations to the shared cache and to other processes, and keeps at it.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Bus, Clock, Error, ErrorKind, Moment, Outward, Reached, Result, Subject, SubjectBuf, WireName,
};
use futures_util::future::{join_all, select};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::cache::SharedCache;
use super::hearing::Hearing;

/// How many invalidations wait at most. When there are more, everything is void instead of each.
const MOST: usize = 4_096;

/// How many are told in one message.
const MESSAGE: usize = 64;

/// The pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Carries invalidations beyond this process: first to the shared cache, then over the bus, so that nobody who
/// hears of one finds there what it has voided.
///
/// What fails is tried again for as long as an answer may live: after that whatever was void has ended. Until then
/// this process trusts nothing in the shared cache that may be void.
pub struct Carrier {
    inner: Arc<Inner>,
    wake: Arc<Notify>,
}

struct Inner {
    shared: Option<Arc<SharedCache>>,
    bus: Option<(Arc<dyn Bus>, Arc<Hearing>)>,
    clock: Arc<dyn Clock>,
    longest: Box<dyn Fn() -> Duration + Send + Sync>,
    // A std mutex: nothing awaits while it is held.
    waiting: Mutex<Waiting>,
    progress: watch::Sender<Progress>,
    failures: AtomicU64,
    given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    told: u64,
    // Not tried yet. What is told again before it was sent is sent once.
    fresh: HashMap<SubjectBuf, Parcel>,
    // Tried, and not everywhere.
    late: Vec<Parcel>,
}

/// One invalidation on its way.
#[derive(Debug)]
struct Parcel {
    subject: SubjectBuf,
    /// The first time that it was told, counted.
    number: u64,
    /// The last time.
    at: Moment,
    names: Vec<WireName>,
    /// The lanes that do not know of it yet.
    lanes: Vec<usize>,
    news: News,
}

/// What the bus has of an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Due,
    /// It was told while the shared cache did not know of it: who heard it may have found there what is void.
    Early,
    Told,
}

/// So far all that was told is carried, or was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    shared: u64,
    bus: u64,
    tried: u64,
}

/// What a [`Carrier`] has carried, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CarrierStats {
    /// Invalidations that were told.
    pub told: u64,
    /// Those that are not everywhere yet.
    pub waiting: u64,
    /// Attempts that have failed, each of a lane or of the bus.
    pub failures: u64,
    /// Invalidations that never got everywhere before all that they had voided was past its lifetime.
    pub given_up: u64,
}

impl Carrier {
    /// How long whoever has voided something waits for that to be known everywhere, before it is said that it is not.
    pub const PATIENCE: Duration = Duration::from_millis(500);

    /// Begins to carry, on the tokio runtime that this is called on. `longest` tells how long an answer may live.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) outside of a runtime.
    pub fn start(
        shared: Option<Arc<SharedCache>>,
        bus: Option<(Arc<dyn Bus>, Arc<Hearing>)>,
        clock: Arc<dyn Clock>,
        longest: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<Self> {
        let runtime = Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Internal, "invalidations are carried on a tokio runtime"))?;
        let (progress, _) = watch::channel(Progress { shared: 0, bus: 0, tried: 0 });
        let inner = Arc::new(Inner {
            shared,
            bus,
            clock,
            longest: Box::new(longest),
            waiting: Mutex::default(),
            progress,
            failures: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        });
        let wake = Arc::new(Notify::new());
        runtime.spawn(run(Arc::downgrade(&inner), Arc::clone(&wake)));
        Ok(Self { inner, wake })
    }

    /// Returns what was carried and what waits.
    #[must_use]
    pub fn stats(&self) -> CarrierStats {
        let (inner, waiting) = (&self.inner, self.inner.waiting());
        CarrierStats {
            told: waiting.told,
            waiting: u64::try_from(waiting.fresh.len() + waiting.late.len()).unwrap_or(u64::MAX),
            failures: inner.failures.load(Ordering::Relaxed),
            given_up: inner.given_up.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // The task holds no more than a weak hand on it, and looks for it when it wakes.
        self.wake.notify_one();
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Outward for Carrier {
    fn tell(&self, subject: &Subject<'_>) {
        self.inner.tell(subject);
        self.wake.notify_one();
    }

    async fn settle(&self, limit: Duration) -> Reached {
        let inner = &self.inner;
        let told = inner.waiting().told;
        let mut progress = inner.progress.subscribe();
        let tried = |so_far: &Progress| so_far.tried >= told || (so_far.shared >= told && so_far.bus >= told);
        {
            let tried = progress.wait_for(tried);
            select(pin!(tried), inner.clock.sleep_until(inner.clock.now() + limit)).await;
        }
        let Progress { shared, bus, .. } = *inner.progress.borrow();
        match (shared >= told, bus >= told) {
            (true, true) => Reached::Everything,
            (shared, bus) => Reached::Partial { shared, bus },
        }
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, subject: &Subject<'_>) {
        let subject = SubjectBuf::from(subject);
        let mut waiting = self.waiting();
        waiting.told += 1;
        let (number, at) = (waiting.told, self.clock.now());
        if let Some(same) = waiting.fresh.get_mut(&subject) {
            same.at = at;
            return;
        }
        if waiting.fresh.len() >= MOST {
            // Everything is void from the first of them on.
            let first = waiting.fresh.values().map(|parcel| parcel.number).min().unwrap_or(number);
            let all = self.parcel(SubjectBuf::All, first, at);
            let before = mem::take(&mut waiting.fresh);
            before.values().for_each(|parcel| self.trust_again(parcel));
            waiting.fresh.insert(SubjectBuf::All, all);
            return;
        }
        let parcel = self.parcel(subject.clone(), number, at);
        waiting.fresh.insert(subject, parcel);
    }

    /// Trusts nothing shared that this has voided, from now on.
    fn parcel(&self, subject: SubjectBuf, number: u64, at: Moment) -> Parcel {
        let names = self.shared.as_ref().map(|shared| shared.voided_by(&subject)).unwrap_or_default();
        let lanes = self.shared.as_ref().map_or(0, |shared| shared.lane_count());
        if let Some(shared) = &self.shared {
            shared.begin_voiding(&names);
        }
        let news = if self.bus.is_some() { News::Due } else { News::Told };
        Parcel { subject, number, at, names, lanes: (0..lanes).collect(), news }
    }

    /// Trusts the lanes again that did not know of this.
    fn trust_again(&self, parcel: &Parcel) {
        if let Some(shared) = &self.shared {
            parcel.lanes.iter().for_each(|lane| shared.end_voiding(*lane, &parcel.names));
        }
    }

    /// Takes what is to be carried now, with what is late or without, and how many were told so far.
    fn take(&self, late: bool) -> (Vec<Parcel>, u64) {
        let mut waiting = self.waiting();
        let mut parcels = if late { mem::take(&mut waiting.late) } else { Vec::new() };
        parcels.extend(mem::take(&mut waiting.fresh).into_values());
        (parcels, waiting.told)
    }

    /// Tries to carry what is new, and what is late too if that is due.
    async fn carry(&self, late: bool) -> Carried {
        let (mut parcels, tried) = self.take(late);
        if parcels.is_empty() {
            let waits = !self.waiting().late.is_empty();
            return Carried { through: false, waits };
        }
        self.void(&mut parcels).await;
        self.publish(&mut parcels).await;

        // What was void has ended by now, wherever it was kept.
        let (now, longest) = (self.clock.now(), (self.longest)());
        parcels.retain(|parcel| {
            let done = parcel.lanes.is_empty() && parcel.news == News::Told;
            let ended = !done && now.since(parcel.at) > longest;
            if ended {
                self.trust_again(parcel);
                self.given_up.fetch_add(1, Ordering::Relaxed);
            }
            !done && !ended
        });
        let through = parcels.is_empty();
        let mut waiting = self.waiting();
        parcels.append(&mut waiting.late);
        if parcels.len() > MOST {
            let first = parcels.iter().map(|parcel| parcel.number).min().unwrap_or_default();
            let at = parcels.iter().map(|parcel| parcel.at).max().unwrap_or(now);
            let all = self.parcel(SubjectBuf::All, first, at);
            parcels.iter().for_each(|parcel| self.trust_again(parcel));
            parcels = vec![all];
        }
        waiting.late = parcels;
        let waits = !waiting.late.is_empty();
        let told = waiting.told;
        let first = |left: &dyn Fn(&Parcel) -> bool| {
            let all = waiting.late.iter().chain(waiting.fresh.values());
            all.filter(|parcel| left(parcel)).map(|parcel| parcel.number - 1).min().unwrap_or(told)
        };
        let shared = first(&|parcel| !parcel.lanes.is_empty());
        let bus = first(&|parcel| parcel.news != News::Told);
        drop(waiting);
        self.progress.send_modify(|so_far| {
            *so_far = Progress { shared, bus, tried: so_far.tried.max(tried) };
        });
        Carried { through, waits }
    }

    async fn void(&self, parcels: &mut [Parcel]) {
        let Some(shared) = &self.shared else { return };
        let tier = &shared.tier;
        let lanes = 0..shared.lane_count();
        let each = lanes.map(|lane| {
            let concerned = parcels.iter().filter(|parcel| parcel.lanes.contains(&lane));
            let mut names: Vec<WireName> =
                concerned.flat_map(|parcel| parcel.names.iter().copied()).collect();
            names.sort_unstable();
            names.dedup();
            async move {
                // Nothing to say is said.
                names.is_empty() || tier.void(lane, &names).await.is_ok()
            }
        });
        let done = join_all(each).await;
        for (lane, done) in done.into_iter().enumerate() {
            if !done {
                self.failures.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            for parcel in parcels.iter_mut() {
                if parcel.lanes.contains(&lane) {
                    parcel.lanes.retain(|left| *left != lane);
                    shared.end_voiding(lane, &parcel.names);
                }
            }
        }
    }

    /// Tells the others. What the shared cache does not know of yet is told too, and again once it does.
    async fn publish(&self, parcels: &mut [Parcel]) {
        let Some((bus, hearing)) = &self.bus else { return };
        let mut due: Vec<&mut Parcel> = parcels
            .iter_mut()
            .filter(|parcel| match parcel.news {
                News::Due => true,
                News::Early => parcel.lanes.is_empty(),
                News::Told => false,
            })
            .collect();
        for due in due.chunks_mut(MESSAGE) {
            let subjects: Vec<SubjectBuf> = due.iter().map(|parcel| parcel.subject.clone()).collect();
            let mut told = true;
            for message in messages(hearing, &subjects, bus.largest()) {
                told &= match message {
                    Ok(message) => bus.publish(&message).await.is_ok(),
                    Err(_) => false,
                };
            }
            if !told {
                self.failures.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            for parcel in due.iter_mut() {
                parcel.news = if parcel.lanes.is_empty() { News::Told } else { News::Early };
            }
        }
    }
}

/// Writes subjects into as many messages as a bus needs that takes no longer ones. What does not fit into one alone is told
/// as its whole realm.
fn messages(hearing: &Hearing, subjects: &[SubjectBuf], largest: usize) -> Vec<Result<Vec<u8>>> {
    let fits = |message: &Result<Vec<u8>>| message.as_ref().is_ok_and(|message| message.len() <= largest);
    let whole = hearing.tell(subjects);
    match subjects {
        _ if fits(&whole) || whole.is_err() => vec![whole],
        [] => Vec::new(),
        [one] => vec![hearing.tell(&[one.widened()])],
        many => {
            let (first, rest) = many.split_at(many.len() / 2);
            let mut all = messages(hearing, first, largest);
            all.extend(messages(hearing, rest, largest));
            all
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy)]
struct Carried {
    /// Whether something was tried, and all of it is everywhere.
    through: bool,
    /// Whether anything is late.
    waits: bool,
}

async fn run(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    // When what is late is tried again: not with each that is new, or an outage would cost more the longer it is.
    let mut due: Option<Moment> = None;
    loop {
        let Some(carrier) = inner.upgrade() else { return };
        let clock = Arc::clone(&carrier.clock);
        let late = due.is_some_and(|due| due <= clock.now());
        let Carried { through, waits } = carrier.carry(late).await;
        drop(carrier);
        due = match (waits, due) {
            (false, _) => {
                pause = FIRST_PAUSE;
                None
            }
            // A new one got through: the rest will, too.
            (true, Some(_)) if through && !late => Some(clock.now()),
            (true, Some(due)) if !late => Some(due),
            (true, before) => {
                if before.is_some() {
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
                Some(clock.now() + pause)
            }
        };
        let woken = pin!(wake.notified());
        match due {
            None => woken.await,
            Some(due) => drop(select(woken, clock.sleep_until(due)).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheKeys, SealKind};
    use auth_core::{Ear as _, Fence, Login, LoginRule, ObjectRef, RealmId};

    #[test]
    fn what_is_too_much_for_one_message_goes_in_several_and_what_is_too_long_as_its_realm() {
        let keys = CacheKeys::new("gatepost.", [("a".to_owned(), vec![7; 32])]).unwrap();
        let process = || {
            let fence = Arc::new(Fence::new());
            (Hearing::new(Arc::clone(&fence), &keys, SealKind::default()).unwrap(), fence)
        };
        let ((here, _), (there, fence)) = (process(), process());
        let realm = RealmId::new("default", LoginRule::Exact).unwrap();
        let login = |n: usize| Login::parse(&realm, &format!("{n}{}", "x".repeat(100))).unwrap();
        let mut subjects: Vec<SubjectBuf> = (0..64).map(|n| SubjectBuf::Login(login(n))).collect();
        let other = RealmId::new("other", LoginRule::Exact).unwrap();
        let long = ObjectRef::new("doc", ["y".repeat(240).as_str().into()]).unwrap();
        subjects.push(SubjectBuf::Object { realm: other.clone(), object: long });
        let stamps: Vec<_> = (0..64).map(|n| fence.login(&login(n))).collect();
        let elsewhere = Login::parse(&other, "moe").unwrap();
        let stamp = fence.login(&elsewhere);
        assert_eq!(messages(&here, &subjects, usize::MAX).len(), 1);
        let largest = here.tell(&[SubjectBuf::Login(login(63))]).unwrap().len() + 16;
        for message in messages(&here, &subjects, largest) {
            let message = message.unwrap();
            assert!(message.len() <= largest, "{}", message.len());
            there.heard(&message);
        }
        assert!(stamps.iter().enumerate().all(|(n, stamp)| fence.login(&login(n)) != *stamp));
        assert_ne!(fence.login(&elsewhere), stamp, "its realm as a whole");
    }
}
