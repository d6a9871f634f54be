//! Time as a parameter.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// A boxed future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A point on a [`Clock`]'s monotonic axis, in nanoseconds since the clock was made.
///
/// ```
/// use auth_core::Moment;
/// use std::time::Duration;
/// let later = Moment::ZERO + Duration::from_secs(2);
/// assert_eq!(later.since(Moment::ZERO), Duration::from_secs(2));
/// assert_eq!(Moment::ZERO.since(later), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment at which the clock was made.
    pub const ZERO: Self = Self(0);

    /// Makes a moment from nanoseconds since the clock was made.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the clock was made.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time that has passed since `earlier`, or zero.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Gives the time and waits for it.
///
/// # Contract
/// - [`now`](Self::now) never goes back and does not follow changes of the wall clock.
/// - [`coarse`](Self::coarse) is never earlier than [`now`](Self::now), and later by at most the clock's tick:
///   an age measured with it is never too young. It is for ages on paths that are walked often.
/// - [`wall`](Self::wall) is for facts that people date: when an account expires.
/// - [`coarse_wall`](Self::coarse_wall) is never earlier than [`wall`](Self::wall), and later by at most the clock's
///   tick: what ends by it never ends too late.
/// - Every crate takes the clock it is given; none reads the system's.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the monotonic time.
    fn now(&self) -> Moment;
    /// Returns a monotonic time that is cheap to read. A clock that has none returns [`now`](Self::now).
    fn coarse(&self) -> Moment {
        self.now()
    }
    /// Returns the time of day.
    fn wall(&self) -> SystemTime;
    /// Returns a time of day that is cheap to read. A clock that has none returns [`wall`](Self::wall).
    fn coarse_wall(&self) -> SystemTime {
        self.wall()
    }
    /// Completes at or after `when`.
    fn sleep_until(&self, when: Moment) -> BoxFuture<()>;
}
