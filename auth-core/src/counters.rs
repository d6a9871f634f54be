//! The port that counts attempts at logging in, in this process or for several.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Result, WireName};

/// How many wrong attempts a key stands, and what comes after them.
///
/// A key is a leaky bucket: each attempt fills it by one, and it drains by one in each `drain`. Up to `free` an
/// attempt waits for nothing. One above that may be made, and the next only after a pause, which grows with what is
/// above `free` by the steps of [`pause`](Self::pause).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many wrong attempts are free.
    pub free: u32,
    /// In which time one is forgiven.
    pub drain: Duration,
    /// The longest pause.
    pub most: Duration,
}

/// The pauses in milliseconds after the first, second, … attempt above those that are free.
const STEPS: [u64; 10] = [1_000, 3_000, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 600_000];

impl Allowance {
    /// Returns the pause after an attempt that filled the key to `level`: 1, 3, 5, 10 s and so on doubled, up to the
    /// longest. Zero up to what is free.
    #[must_use]
    pub fn pause(&self, level: u32) -> Duration {
        let Some(above) = level.checked_sub(self.free).and_then(|above| above.checked_sub(1)) else {
            return Duration::ZERO;
        };
        let at = usize::try_from(above).unwrap_or(usize::MAX).min(STEPS.len() - 1);
        Duration::from_millis(STEPS.get(at).copied().unwrap_or(u64::MAX)).min(self.most)
    }

    /// Returns the pauses for the levels above `free`, in order; the last one is for all that follow.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> {
        STEPS.into_iter().map(|step| Duration::from_millis(step).min(self.most))
    }
}

/// One attempt at logging in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Random: what is told twice of one attempt counts once.
    pub id: [u8; 8],
    /// A keyed hash of the login and the password: the same wrong password again is free.
    pub tag: [u8; 8],
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(..)")
    }
}

/// A key that an attempt is counted under.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// The keyed hash of what is counted: a network, a login, or both.
    pub key: WireName,
    /// What it stands.
    pub allowance: Allowance,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It may, and is counted, unless it is known.
    Go,
    /// Not before so long has passed. It is not counted.
    Wait(Duration),
}

/// What becomes of the count of an attempt that was let in, and was not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It counts no longer.
    Undone,
    /// Nothing counts any longer.
    Cleared,
}

/// How many attempts are remembered by their tag for each key: those that were counted last.
pub const REMEMBERED_ATTEMPTS: usize = 16;

/// Counts attempts.
///
/// # Contract
/// For each key, in one atomic step, on the clock of whoever keeps the counts:
/// - [`begin`](Self::begin): during a pause the answer is [`Wait`](Begun::Wait). Otherwise an attempt whose tag is
///   among the last [`REMEMBERED_ATTEMPTS`] is let in and changes nothing. Otherwise it is let in, fills the key by
///   one, its tag is remembered, and a pause begins if the key is above what is free.
/// - During a pause the attempt that began it, told again, is let in: its first answer was lost.
/// - [`settle`](Self::settle) with [`Undone`](Settled::Undone) takes back what this very attempt has filled, its tag, and
///   the pause that it began, if it did; told twice it does so once. [`Cleared`](Settled::Cleared) forgets the key.
/// - Forgetting a key is allowed (bounded memory), beginning with those that are least full.
#[async_trait]
pub trait Counters: fmt::Debug + Send + Sync {
    /// Asks under each key whether an attempt may be made; the answers are in their order.
    ///
    /// # Errors
    /// Any kind: it is not known, and may have been counted.
    async fn begin(&self, attempt: &Attempt, counts: &[Count]) -> Result<Vec<Begun>>;

    /// Says what became of an attempt.
    ///
    /// # Errors
    /// Any kind: it is not known whether that is noted.
    async fn settle(&self, attempt: &Attempt, ends: &[(Count, Settled)]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_what_is_above_the_free_attempts_up_to_the_longest() {
        let allowance = Allowance { free: 2, drain: Duration::from_secs(60), most: Duration::from_secs(30) };
        let seconds = |level| allowance.pause(level).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8].map(seconds), [0, 0, 0, 1, 3, 5, 10, 20, 30]);
        assert_eq!(seconds(u32::MAX), 30);
        assert_eq!(allowance.pauses().map(|pause| pause.as_secs()).max(), Some(30));
    }
}
