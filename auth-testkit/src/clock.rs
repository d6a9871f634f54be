//! A clock that only the test moves.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use auth_core::{BoxFuture, Clock, Moment};

/// 2026-01-01T00:00:00Z, in seconds since 1970.
const START: u64 = 1_767_225_600;

/// A clock that stands still until the test moves it.
///
/// The monotonic time starts at zero, the time of day at 2026-01-01T00:00:00Z. Sleepers are woken in the
/// order of their times, and among equals in the order in which they went to sleep: a test that moves the
/// clock does the same each time it runs.
///
/// ```
/// use auth_core::{Clock, Moment};
/// use auth_testkit::ManualClock;
/// use std::time::Duration;
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now().since(Moment::ZERO), Duration::from_secs(2));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    // Shared with the sleepers, who may outlive the clock.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Moment,
    wall: SystemTime,
    sleeps: BTreeMap<(Moment, u64), Option<Waker>>,
    next: u64,
}

#[derive(Debug)]
struct Sleep {
    state: Arc<Mutex<State>>,
    key: (Moment, u64),
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManualClock {
    /// Makes a clock at its start.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(START);
        let state = State { now: Moment::ZERO, wall, sleeps: BTreeMap::new(), next: 0 };
        Arc::new(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Moves both times forward and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut state = lock(&self.state);
        state.wall += by;
        state.now = state.now + by;
        let now = state.now;
        let due: Vec<Waker> =
            state.sleeps.range_mut(..=(now, u64::MAX)).filter_map(|(_, waker)| waker.take()).collect();
        drop(state);
        // Whoever is woken may look at the clock at once.
        due.into_iter().for_each(Waker::wake);
    }

    /// Sets the time of day, as an operator or NTP would. The monotonic time stays.
    pub fn set_wall(&self, wall: SystemTime) {
        lock(&self.state).wall = wall;
    }

    /// Returns how many sleeps are under way: what a test waits for before it moves the clock.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        lock(&self.state).sleeps.len()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        lock(&self.state).now
    }

    fn wall(&self) -> SystemTime {
        lock(&self.state).wall
    }

    fn sleep_until(&self, when: Moment) -> BoxFuture<()> {
        let mut state = lock(&self.state);
        let key = (when, state.next);
        state.next += 1;
        state.sleeps.insert(key, None);
        Box::pin(Sleep { state: Arc::clone(&self.state), key })
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        let old = state.sleeps.insert(self.key, Some(cx.waker().clone()));
        // A waker may be all that keeps a task, and the task may hold a sleep: never dropped under the lock.
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let old = lock(&self.state).sleeps.remove(&self.key);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn a_sleep_ends_when_the_clock_is_moved_past_it_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep_until(Moment::ZERO + Duration::from_secs(10));
        assert!(poll!(&mut sleep).is_pending());
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_secs(9));
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut sleep).is_ready());
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
        assert!(poll!(clock.sleep_until(Moment::ZERO)).is_ready());
    }

    #[test]
    fn the_time_of_day_moves_along_and_can_be_set() {
        let clock = ManualClock::new();
        let start = clock.wall();
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.wall(), start + Duration::from_millis(1_500));
        clock.set_wall(start - Duration::from_secs(60));
        assert_eq!(clock.wall(), start - Duration::from_secs(60));
        assert_eq!(clock.now().since(Moment::ZERO), Duration::from_millis(1_500));
    }
}
