//! A clock that only the test moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use auth_core::{BoxFuture, Clock, Moment};
use tokio::sync::watch;

/// 2026-01-01T00:00:00Z, in seconds since 1970.
const START: u64 = 1_767_225_600;

/// A clock that stands still until the test moves it.
///
/// The monotonic time starts at zero, the time of day at 2026-01-01T00:00:00Z.
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
    now: watch::Sender<Moment>,
    wall: Mutex<SystemTime>,
}

impl ManualClock {
    /// Makes a clock at its start.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(START);
        Arc::new(Self { now: watch::Sender::new(Moment::ZERO), wall: Mutex::new(wall) })
    }

    /// Moves both times forward and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        // The time of day first: whoever wakes sees both moved.
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner) += by;
        self.now.send_modify(|now| *now = *now + by);
    }

    /// Sets the time of day, as an operator or NTP would. The monotonic time stays.
    pub fn set_wall(&self, wall: SystemTime) {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner) = wall;
    }

    /// Returns how many sleeps are under way: what a test waits for before it moves the clock.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.now.receiver_count()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.now.borrow()
    }

    fn wall(&self) -> SystemTime {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep_until(&self, when: Moment) -> BoxFuture<()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= when).await.is_err() {
                // The clock is gone, so its time never comes.
                std::future::pending::<()>().await;
            }
        })
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
