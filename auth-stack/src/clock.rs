//! The one place that reads the system's clock.

use std::time::{Duration, Instant, SystemTime};

use auth_core::{BoxFuture, Clock, Moment};

/// The system's clock, waiting on tokio's timer.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts a clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::ZERO + self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, when: Moment) -> BoxFuture<()> {
        let when = self.origin.checked_add(Duration::from_nanos(when.as_nanos()));
        Box::pin(async move {
            match when {
                Some(when) => tokio::time::sleep_until(when.into()).await,
                None => std::future::pending().await,
            }
        })
    }
}
