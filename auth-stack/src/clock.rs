//! The one place that reads the system's clock.

use std::time::{Duration, Instant, SystemTime};

use auth_core::{BoxFuture, Clock, Moment};

/// The system's clock, waiting on tokio's timer.
///
/// On Linux [`coarse`](Clock::coarse) and [`coarse_wall`](Clock::coarse_wall) are the time of the kernel's last tick
/// plus a margin that covers the time since, read from memory without a system call. So an age measured with the one is
/// too great by up to that margin, 10 ms at least and mostly 32 ms: an answer in a cache ends that much early, and never
/// late, and so does a token by the other. Neither is a variable that a thread of ours keeps up to date: while such a thread did not run, nothing would age.
/// Elsewhere they are [`now`](Clock::now) and [`wall`](Clock::wall).
#[derive(Debug)]
pub struct SystemClock {
    monotonic: Monotonic,
    // Read after the other: what sleeps until a moment by this one wakes at or after it by the other.
    origin: Instant,
}

/// How late it is on a clock that has just been made: longer than any answer may live. What another process has asked
/// before this one was started has a moment on this clock, too.
const BEFORE: Duration = Duration::from_secs(400 * 24 * 3600);

impl SystemClock {
    /// Starts a clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
    pub fn new() -> Self {
        let monotonic = Monotonic::new();
        Self { monotonic, origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Clock for SystemClock {
    fn now(&self) -> Moment {
        self.monotonic.now()
    }

    fn coarse(&self) -> Moment {
        self.monotonic.coarse()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn coarse_wall(&self) -> SystemTime {
        self.monotonic.wall()
    }

    fn sleep_until(&self, when: Moment) -> BoxFuture<()> {
        let when = self.origin.checked_add(Duration::from_nanos(when.as_nanos()).saturating_sub(BEFORE));
        Box::pin(async move {
            match when {
                Some(when) => tokio::time::sleep_until(when.into()).await,
                None => std::future::pending().await,
            }
        })
    }
}

#[cfg(target_os = "linux")]
use linux::Monotonic;

#[cfg(target_os = "linux")]
mod linux {
    use std::time::{Duration, SystemTime};

    use auth_core::Moment;
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    use super::BEFORE;

    /// How many ticks the kernel's coarse time may lag. One is the rule. A guest whose timekeeping processor
    /// its host has put aside lags for longer, until another of its processors takes over after five.
    const TICKS: u64 = 8;
    const LEAST_MARGIN: u64 = 10_000_000;
    const BEFORE_NANOS: u64 = BEFORE.as_secs() * 1_000_000_000;

    /// Nanoseconds since long before it was made, by the same clock that `Instant` reads.
    #[derive(Debug)]
    pub(super) struct Monotonic {
        origin: u64,
        margin: u64,
    }

    impl Monotonic {
        pub(super) fn new() -> Self {
            let margin =
                nanos(&clock_getres(ClockId::MonotonicCoarse)).saturating_mul(TICKS).max(LEAST_MARGIN);
            // Before the machine was started, mostly: what is subtracted from it wraps around as well.
            Self { origin: nanos(&clock_gettime(ClockId::Monotonic)).wrapping_sub(BEFORE_NANOS), margin }
        }

        pub(super) fn now(&self) -> Moment {
            Moment::from_nanos(nanos(&clock_gettime(ClockId::Monotonic)).wrapping_sub(self.origin))
        }

        pub(super) fn coarse(&self) -> Moment {
            let tick = nanos(&clock_gettime(ClockId::MonotonicCoarse));
            // The margin is more than the tick is old, so this is no less than the origin.
            Moment::from_nanos(tick.wrapping_add(self.margin).wrapping_sub(self.origin))
        }

        pub(super) fn wall(&self) -> SystemTime {
            // A clock that is before 1970 reads as one that is centuries ahead: by it everything has ended.
            let tick = nanos(&clock_gettime(ClockId::RealtimeCoarse));
            SystemTime::UNIX_EPOCH + Duration::from_nanos(tick.saturating_add(self.margin))
        }

        #[cfg(test)]
        pub(super) const fn margin(&self) -> u64 {
            self.margin
        }
    }

    // Neither part is negative, unless it is before 1970, and the sum fits until the year 2554.
    fn nanos(time: &Timespec) -> u64 {
        let (seconds, rest) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
        seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)
    }
}

#[cfg(not(target_os = "linux"))]
use elsewhere::Monotonic;

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::time::{Instant, SystemTime};

    use auth_core::Moment;

    /// Nanoseconds since long before it was made.
    #[derive(Debug)]
    pub(super) struct Monotonic(Instant);

    impl Monotonic {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
        pub(super) fn new() -> Self {
            Self(Instant::now())
        }

        pub(super) fn now(&self) -> Moment {
            Moment::ZERO + super::BEFORE + self.0.elapsed()
        }

        pub(super) fn coarse(&self) -> Moment {
            self.now()
        }

        #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
        pub(super) fn wall(&self) -> SystemTime {
            SystemTime::now()
        }

        #[cfg(test)]
        pub(super) const fn margin(&self) -> u64 {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_time_is_never_early_and_hardly_late() {
        let clock = SystemClock::new();
        let margin = Duration::from_nanos(clock.monotonic.margin());
        for _ in 0..200_000 {
            let before = clock.now();
            let coarse = clock.coarse();
            assert!(coarse >= before, "{coarse:?} is earlier than {before:?}");
            // The tick that it counts from has passed.
            let after = clock.now();
            assert!(coarse.since(after) <= margin, "{coarse:?} is much later than {after:?}");
        }
        for _ in 0..200_000 {
            let before = clock.wall();
            let coarse = clock.coarse_wall();
            assert!(coarse >= before, "{coarse:?} is earlier than {before:?}");
            let late = coarse.duration_since(clock.wall()).unwrap_or_default();
            assert!(late <= margin, "{coarse:?} is much later, by {late:?}");
        }
    }

    #[tokio::test]
    async fn what_was_before_the_clock_was_made_has_a_moment_and_sleeping_ends_when_it_is_time() {
        let clock = SystemClock::new();
        let year = Duration::from_secs(366 * 24 * 3600);
        for now in [clock.now(), clock.coarse()] {
            assert!(now.since(Moment::ZERO) > year && now.since(Moment::ZERO) < year + year, "{now:?}");
        }
        clock.sleep_until(Moment::ZERO).await;
        let when = clock.now() + Duration::from_millis(20);
        clock.sleep_until(when).await;
        let late = clock.now().since(when);
        assert!(clock.now() >= when && late < Duration::from_secs(10), "{late:?}");
    }

    #[test]
    fn neither_time_goes_back() {
        let clock = SystemClock::new();
        let (mut now, mut coarse) = (clock.now(), clock.coarse());
        for _ in 0..200_000 {
            let later = (clock.now(), clock.coarse());
            assert!(later.0 >= now && later.1 >= coarse);
            (now, coarse) = later;
        }
    }
}
