//! The gate of one source: how many may ask it at once, how many wait, and how long it is left alone after
//! it has failed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{Error, Moment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dice::Dice;

/// How long a source is left alone after it has failed several times in a row.
///
/// Failures are those of the source: it is unavailable, does not answer in time, or says that it is
/// overloaded. An answer of any other sort, also one that says that a row can't be read, shows that the
/// source is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After so many failures without an answer in between; zero never leaves it alone.
    pub after: u32,
    /// How long it is left alone at first. Then one question tries it, and each that fails doubles the time.
    pub first: Duration,
    /// How long at most. Up to a quarter of the time is taken off by chance, so that many processes do not
    /// return together.
    pub most: Duration,
}

impl Backoff {
    /// Never leaves a source alone.
    pub const OFF: Self = Self { after: 0, first: Duration::ZERO, most: Duration::ZERO };
}

impl Default for Backoff {
    fn default() -> Self {
        Self { after: 3, first: Duration::from_millis(500), most: Duration::from_secs(5) }
    }
}

/// How a source may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many questions are put to it at once; at least one.
    pub loads: usize,
    /// How many more wait for their turn before the next is refused as overloaded.
    pub queue: usize,
    /// How long it is left alone after failures.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self { loads: 64, queue: 16_384, backoff: Backoff::default() }
    }
}

/// The gate of one source, shared by everything that asks it: hand the same to the wrappers of its
/// accounts, groups and rights, in every realm. Two sources must not share one, or the failures of one keep
/// questions from the other.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    most: usize,
    refreshes: usize,
    turns: Arc<Semaphore>,
    aboard: AtomicUsize,
    refreshing: AtomicUsize,
    // Mirrors `state`, so that a miss of a healthy source takes no lock.
    healthy: AtomicBool,
    // So does this: nothing has failed since the last answer, so that the next one has nothing to say.
    faultless: AtomicBool,
    state: Mutex<State>,
    dice: Dice,
}

#[derive(Debug)]
enum State {
    /// Questions pass; so many have failed since the last answer.
    Closed { failures: u32 },
    /// The source is left alone until then; the error is what it said last.
    /// While one question tries it, until that is over or taken for lost.
    Open { error: Error, until: Moment, pause: Duration, probing: Option<Moment> },
}

impl Gate {
    /// Makes a gate.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let loads = limits.loads.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits,
            most: loads.saturating_add(limits.queue),
            refreshes: (loads / 4).max(1),
            turns: Arc::new(Semaphore::new(loads)),
            aboard: AtomicUsize::new(0),
            refreshing: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            faultless: AtomicBool::new(true),
            state: Mutex::new(State::Closed { failures: 0 }),
            dice: Dice::seeded(None),
        }
    }

    /// Returns how the source may be asked.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns how much longer the source is left alone; zero while one question tries it, and nothing if it is
    /// asked as ever.
    #[must_use]
    pub fn left_alone(&self, now: Moment) -> Option<Duration> {
        if self.healthy.load(Ordering::Acquire) {
            return None;
        }
        match &*self.state() {
            // Once the time is over, or while one question tries the source, this is zero.
            State::Open { until, .. } => Some(until.since(now)),
            State::Closed { .. } => None,
        }
    }

    /// Takes a place among the questions that are put or wait; none if all are taken.
    pub(crate) fn board(self: &Arc<Self>) -> Option<Berth> {
        let room = |aboard: usize| (aboard < self.most).then(|| aboard + 1);
        self.aboard.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Berth(Arc::clone(self)))
    }

    /// Takes a turn if there is one now.
    pub(crate) fn try_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }

    /// Waits for a turn. The gate never closes its list.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Takes a turn for a refresh, which nobody waits for: only if one is free now and most are left to
    /// questions.
    pub(crate) fn try_refresh(self: &Arc<Self>) -> Option<(OwnedSemaphorePermit, Refreshing)> {
        let room = |refreshing: usize| (refreshing < self.refreshes).then(|| refreshing + 1);
        self.refreshing.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        let refreshing = Refreshing(Arc::clone(self));
        Some((self.try_turn()?, refreshing))
    }

    /// Returns the error that a question gets while the source is left alone.
    pub(crate) fn refusal(&self, now: Moment) -> Option<Error> {
        if self.healthy.load(Ordering::Acquire) {
            return None;
        }
        match &*self.state() {
            State::Open { error, until, pause, probing } if is_shut(*probing, now, *until) => {
                Some(told(error, now, *until, *pause))
            }
            _ => None,
        }
    }

    /// Lets a question through to the source, or returns the error that it gets. Once the time is over, one
    /// question passes and tries the source. It is taken for lost if nothing is heard of it for longer than a
    /// load may take, as where its runtime does not run any more; then another may try.
    pub(crate) fn admit(self: &Arc<Self>, now: Moment, load_timeout: Duration) -> Result<Pass, Error> {
        let mut probe = None;
        if !self.healthy.load(Ordering::Acquire)
            && let State::Open { error, until, pause, probing } = &mut *self.state()
        {
            if is_shut(*probing, now, *until) {
                return Err(told(error, now, *until, *pause));
            }
            probe = Some(now + load_timeout);
            *probing = probe;
        }
        Ok(Pass { gate: Arc::clone(self), probe })
    }

    fn failed(&self, now: Moment, failure: &Error, probe: Option<Moment>) {
        let Backoff { after, first, most } = self.limits.backoff;
        if after == 0 {
            return;
        }
        let mut state = self.state();
        self.faultless.store(false, Ordering::Release);
        let pause = match &mut *state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures < after {
                    return;
                }
                first.min(most)
            }
            // What was on its way when the gate shut says nothing new.
            State::Open { probing, .. } if probe.is_none() || *probing != probe => return,
            State::Open { pause, .. } => pause.saturating_mul(2).min(most),
        };
        let until = now + pause.mul_f64(1.0 - self.dice.chance() / 4.0);
        *state = State::Open { error: failure.clone(), until, pause, probing: None };
        self.healthy.store(false, Ordering::Release);
    }

    fn answered(&self) {
        // A failure that is counted at this very moment came after this answer as well as before it. One that was
        // counted before must not outlive it, also where the source is not left alone yet.
        if self.faultless.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        *state = State::Closed { failures: 0 };
        self.healthy.store(true, Ordering::Release);
        self.faultless.store(true, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// Reports whether a source is left alone: the time is not over, or one question tries it.
fn is_shut(probing: Option<Moment>, now: Moment, until: Moment) -> bool {
    now < until || probing.is_some_and(|lost| now <= lost)
}

fn told(error: &Error, now: Moment, until: Moment, pause: Duration) -> Error {
    let left = until.since(now);
    // While one question tries the source nobody knows how long; the last time is the best guess.
    error.clone().retry_after(if left.is_zero() { pause } else { left })
}

/// A place among the questions that are put to a source or wait for that.
#[derive(Debug)]
pub(crate) struct Berth(Arc<Gate>);

impl Drop for Berth {
    fn drop(&mut self) {
        self.0.aboard.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place among the refreshes.
#[derive(Debug)]
pub(crate) struct Refreshing(Arc<Gate>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to put one question. Dropped without a word, as by a runtime that ends, it says nothing about
/// the source, and the next question may try it.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    // When it is taken for lost, if it is the one that tries the source.
    probe: Option<Moment>,
}

impl Pass {
    /// Says what came of it: nothing, or the error of the source.
    pub(crate) fn ended(mut self, now: Moment, failure: Option<&Error>) {
        let Some(error) = failure.filter(|error| error.kind().is_temporary()) else { return self.answered() };
        self.gate.failed(now, error, self.probe);
        self.probe = None;
    }

    /// Says that there was an answer.
    pub(crate) fn answered(mut self) {
        self.gate.answered();
        self.probe = None;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe.is_some()
            && let State::Open { probing, .. } = &mut *self.gate.state()
            && *probing == self.probe
        {
            *probing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::ErrorKind;

    const MS: Duration = Duration::from_millis(1);
    const LOAD: Duration = Duration::from_secs(5);

    fn at(ms: u32) -> Moment {
        Moment::ZERO + MS * ms
    }

    fn down() -> Error {
        Error::new(ErrorKind::Unavailable, "no connection")
    }

    fn gate(after: u32) -> Arc<Gate> {
        Arc::new(Gate::new(Limits { backoff: Backoff { after, ..Backoff::default() }, ..Limits::default() }))
    }

    fn fail(gate: &Arc<Gate>, ms: u32) {
        gate.admit(at(ms), LOAD).unwrap().ended(at(ms), Some(&down()));
    }

    #[test]
    fn failures_in_a_row_shut_the_gate_and_an_answer_between_them_does_not() {
        let gate = gate(3);
        for _ in 0..10 {
            fail(&gate, 0);
            fail(&gate, 0);
            gate.admit(at(0), LOAD).unwrap().ended(at(0), None);
            assert!(gate.refusal(at(0)).is_none());
        }
        (0..3).for_each(|_| fail(&gate, 0));
        let told = gate.refusal(at(0)).unwrap();
        assert_eq!((told.kind(), told.message()), (ErrorKind::Unavailable, "no connection"));
        assert!(told.wait().unwrap() <= 500 * MS && told.wait().unwrap() >= 375 * MS);
        assert!(gate.admit(at(374), LOAD).is_err());
    }

    #[test]
    fn an_error_about_one_question_shows_that_the_source_is_there() {
        for kind in [
            ErrorKind::Corrupt,
            ErrorKind::Ambiguous,
            ErrorKind::Invalid,
            ErrorKind::Misconfigured,
            ErrorKind::Internal,
            ErrorKind::Unsupported,
        ] {
            let gate = gate(1);
            for _ in 0..5 {
                gate.admit(at(0), LOAD).unwrap().ended(at(0), Some(&Error::new(kind, "this one")));
                assert!(gate.refusal(at(0)).is_none(), "{kind}");
            }
        }
    }

    #[test]
    fn one_question_tries_the_source_and_each_failure_doubles_the_time_up_to_the_most() {
        let gate = gate(1);
        fail(&gate, 0);
        let mut now = 0;
        for pause in [500, 1000, 2000, 4000, 5000, 5000] {
            let left = gate.left_alone(at(now)).unwrap();
            assert!(left <= pause * MS && left >= pause * 3 / 4 * MS, "{left:?} of {pause}");
            assert!(gate.admit(at(now + pause * 3 / 4 - 1), LOAD).is_err(), "{pause}");
            now += pause;
            let probe = gate.admit(at(now), LOAD).unwrap();
            assert_eq!(gate.left_alone(at(now)), Some(Duration::ZERO));
            for _ in 0..10 {
                assert!(gate.admit(at(now), LOAD).is_err() && gate.refusal(at(now)).is_some(), "{pause}");
            }
            assert!(gate.refusal(at(now)).unwrap().wait().unwrap() > Duration::ZERO);
            probe.ended(at(now), Some(&down()));
        }
        now += 5000;
        gate.admit(at(now), LOAD).unwrap().ended(at(now), None);
        assert!(gate.refusal(at(now)).is_none());
        assert_eq!(gate.left_alone(at(now)), None);
        // From the start again.
        fail(&gate, now);
        assert!(gate.admit(at(now + 500), LOAD).is_ok());
    }

    #[test]
    fn a_question_that_is_given_up_lets_the_next_one_try() {
        let gate = gate(1);
        fail(&gate, 0);
        drop(gate.admit(at(500), LOAD).unwrap());
        gate.admit(at(500), LOAD).unwrap().ended(at(500), None);
        assert!(gate.admit(at(500), LOAD).is_ok());
    }

    #[test]
    fn a_question_of_which_nothing_is_heard_any_more_lets_another_try() {
        let gate = gate(1);
        fail(&gate, 0);
        let lost = gate.admit(at(500), LOAD).unwrap();
        assert!(gate.admit(at(5_500), LOAD).is_err() && gate.refusal(at(5_500)).is_some());
        assert!(gate.refusal(at(5_501)).is_none());
        let other = gate.admit(at(5_501), LOAD).unwrap();
        // What becomes of it after all does not end or undo the try of the other.
        lost.ended(at(5_502), Some(&down()));
        assert!(gate.admit(at(5_502), LOAD).is_err());
        other.ended(at(5_503), None);
        assert!(gate.admit(at(5_503), LOAD).is_ok());
    }

    #[test]
    fn what_was_on_its_way_when_the_gate_shut_does_not_double_the_time() {
        let gate = gate(1);
        let passes: Vec<_> = (0..10).map(|_| gate.admit(at(0), LOAD).unwrap()).collect();
        for pass in passes {
            pass.ended(at(0), Some(&down()));
        }
        assert!(gate.admit(at(500), LOAD).is_ok());
    }

    #[test]
    fn switched_off_it_never_shuts() {
        let gate = Arc::new(Gate::new(Limits { backoff: Backoff::OFF, ..Limits::default() }));
        (0..100).for_each(|_| fail(&gate, 0));
        assert!(gate.refusal(at(0)).is_none() && gate.admit(at(0), LOAD).is_ok());
    }

    #[test]
    fn places_and_refreshes_are_bounded_and_come_back() {
        let gate = Arc::new(Gate::new(Limits { loads: 8, queue: 1, ..Limits::default() }));
        let mut berths: Vec<_> = (0..9).map(|_| gate.board().unwrap()).collect();
        assert!(gate.board().is_none());
        berths.pop();
        assert!(gate.board().is_some());
        let mut refreshes: Vec<_> = (0..2).map(|_| gate.try_refresh().unwrap()).collect();
        assert!(gate.try_refresh().is_none(), "a quarter of eight");
        refreshes.pop();
        let _turns: Vec<_> = (0..7).map(|_| gate.try_turn().unwrap()).collect();
        assert!(gate.try_refresh().is_none(), "no turn is free");
        drop((refreshes, gate.try_turn()));
        assert!(gate.try_refresh().is_some());
    }
}
