//! Cases for what counts attempts at logging in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth_core::{
    Allowance, Attempt, Begun, BoxFuture, Count, Counters, REMEMBERED_ATTEMPTS, Settled, WireName,
};

use super::{cases, told};
use crate::ManualClock;

/// What the suite of counters needs: a way to let time pass, and keys that nobody has counted under.
pub struct CounterBench {
    pass: Box<dyn Fn(Duration) -> BoxFuture<()> + Send + Sync>,
    next: AtomicU64,
}

impl fmt::Debug for CounterBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterBench").field("next", &self.next).finish_non_exhaustive()
    }
}

impl CounterBench {
    /// Lets time pass by moving the clock that the counters were made with.
    #[must_use]
    pub fn manual(clock: &Arc<ManualClock>) -> Self {
        let clock = Arc::clone(clock);
        Self::new(move |by| {
            clock.advance(by);
            Box::pin(std::future::ready(()))
        })
    }

    /// Lets time pass by `pass`: for a server whose time is its own. The suite lets some seconds pass.
    #[must_use]
    pub fn new(pass: impl Fn(Duration) -> BoxFuture<()> + Send + Sync + 'static) -> Self {
        Self { pass: Box::new(pass), next: AtomicU64::new(1) }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a key that nobody has counted under.
    pub fn count(&self, free: u32, drain: Duration, most: Duration) -> Count {
        // The first byte decides where it is, so each key is elsewhere.
        let spread = self.number().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let mut key = [0; 16];
        key.iter_mut().zip(spread.into_iter().chain(spread)).for_each(|(to, from)| *to = from);
        Count { key: WireName::new(key), allowance: Allowance { free, drain, most } }
    }

    /// Makes an attempt with a password of its own.
    pub fn attempt(&self) -> Attempt {
        let tag = self.number().to_be_bytes();
        self.attempt_with(tag)
    }

    fn attempt_with(&self, tag: [u8; 8]) -> Attempt {
        Attempt { id: self.number().wrapping_mul(0xd134_2543_de82_ef95).to_be_bytes(), tag }
    }
}

/// Runs every case for [`Counters`].
///
/// # Panics
/// Where they break the contract.
pub async fn run_all_counters(counters: &(dyn Counters + 'static), bench: &CounterBench) {
    for case in counter_cases() {
        case.run(counters, bench).await;
    }
}

cases! {
    /// Lists the cases for [`Counters`].
    pub counter_cases, dyn Counters, CounterBench:
    attempts_up_to_what_is_free_and_one_above_may_be_made,
    pauses_grow_and_pass,
    the_same_password_again_is_free,
    the_same_password_again_waits_during_a_pause,
    so_many_passwords_are_remembered_and_no_more,
    an_attempt_told_twice_counts_once,
    whoever_began_a_pause_is_let_in_again,
    an_attempt_is_taken_back_once,
    what_is_taken_back_takes_its_pause_along_and_no_other,
    what_is_taken_back_takes_its_password_along,
    what_was_not_counted_can_not_be_taken_back,
    what_is_cleared_is_forgotten,
    a_key_drains,
    each_key_is_counted_by_itself_and_answered_in_order,
    of_many_at_once_no_more_are_let_in_than_may,
}

const HOUR: Duration = Duration::from_secs(3600);

async fn begin(counters: &dyn Counters, attempt: &Attempt, count: &Count) -> Begun {
    let begun = told("begin", counters.begin(attempt, std::slice::from_ref(count)).await);
    assert_eq!(begun.len(), 1, "one answer to each question");
    begun.into_iter().next().unwrap_or(Begun::Go)
}

async fn undo(counters: &dyn Counters, attempt: &Attempt, count: &Count) {
    told("settle", counters.settle(attempt, &[(*count, Settled::Undone)]).await);
}

/// A new password, which may be tried.
async fn goes(counters: &dyn Counters, bench: &CounterBench, count: &Count) -> Attempt {
    let attempt = bench.attempt();
    assert_eq!(begin(counters, &attempt, count).await, Begun::Go);
    attempt
}

/// A new password, which may not be tried yet. Returns for how long.
async fn waits(counters: &dyn Counters, bench: &CounterBench, count: &Count) -> Duration {
    match begin(counters, &bench.attempt(), count).await {
        Begun::Wait(left) => left,
        Begun::Go => panic!("an attempt may be made during a pause, or there is none"),
    }
}

async fn attempts_up_to_what_is_free_and_one_above_may_be_made(
    counters: &dyn Counters,
    bench: &CounterBench,
) {
    for free in [0, 1, 5] {
        let count = bench.count(free, HOUR, HOUR);
        for _ in 0..=free {
            goes(counters, bench, &count).await;
        }
        for _ in 0..3 {
            let left = waits(counters, bench, &count).await;
            assert!(left > Duration::ZERO && left <= Duration::from_secs(1), "{left:?}");
        }
    }
}

async fn pauses_grow_and_pass(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(1, HOUR, HOUR);
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    (bench.pass)(waits(counters, bench, &count).await).await;
    goes(counters, bench, &count).await;
    let left = waits(counters, bench, &count).await;
    assert!(left > Duration::from_secs(1) && left <= Duration::from_secs(3), "{left:?}");
    // Those who wait make it no longer.
    assert!(waits(counters, bench, &count).await <= left);
    let short = bench.count(0, HOUR, Duration::from_millis(200));
    for _ in 0..4 {
        goes(counters, bench, &short).await;
        let left = waits(counters, bench, &short).await;
        assert!(left <= Duration::from_millis(200), "the longest pause: {left:?}");
        (bench.pass)(left).await;
    }
}

async fn the_same_password_again_is_free(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(2, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    for _ in 0..10 {
        assert_eq!(begin(counters, &bench.attempt_with(first.tag), &count).await, Begun::Go);
    }
    goes(counters, bench, &count).await;
    assert_eq!(begin(counters, &bench.attempt_with(first.tag), &count).await, Begun::Go);
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn the_same_password_again_waits_during_a_pause(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(0, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    assert!(matches!(begin(counters, &bench.attempt_with(first.tag), &count).await, Begun::Wait(_)));
}

async fn so_many_passwords_are_remembered_and_no_more(counters: &dyn Counters, bench: &CounterBench) {
    let all = u32::try_from(REMEMBERED_ATTEMPTS).expect("few") + 1;
    let count = bench.count(all, HOUR, HOUR);
    let mut made = Vec::new();
    for _ in 0..all {
        made.push(goes(counters, bench, &count).await);
    }
    for known in made.iter().skip(1) {
        assert_eq!(begin(counters, &bench.attempt_with(known.tag), &count).await, Begun::Go);
    }
    // None of them has filled it: one may still be made without a pause. The first is forgotten, and so counts.
    let forgotten = made.first().expect("some were made");
    assert_eq!(begin(counters, &bench.attempt_with(forgotten.tag), &count).await, Begun::Go);
    waits(counters, bench, &count).await;
}

async fn an_attempt_told_twice_counts_once(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(2, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    for _ in 0..5 {
        assert_eq!(begin(counters, &first, &count).await, Begun::Go);
    }
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn whoever_began_a_pause_is_let_in_again(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(1, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    let second = goes(counters, bench, &count).await;
    for _ in 0..3 {
        assert_eq!(begin(counters, &second, &count).await, Begun::Go, "its first answer was lost");
        assert!(matches!(begin(counters, &first, &count).await, Begun::Wait(_)), "the pause is another's");
    }
    let left = waits(counters, bench, &count).await;
    assert!(left <= Duration::from_secs(1), "it was counted once: {left:?}");
}

async fn an_attempt_is_taken_back_once(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(1, HOUR, HOUR);
    for _ in 0..10 {
        let right = goes(counters, bench, &count).await;
        undo(counters, &right, &count).await;
    }
    let count = bench.count(2, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    for _ in 0..3 {
        undo(counters, &first, &count).await;
    }
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn what_is_taken_back_takes_its_pause_along_and_no_other(
    counters: &dyn Counters,
    bench: &CounterBench,
) {
    let count = bench.count(1, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    let second = goes(counters, bench, &count).await;
    undo(counters, &first, &count).await;
    waits(counters, bench, &count).await;
    undo(counters, &second, &count).await;
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn what_is_taken_back_takes_its_password_along(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(1, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    undo(counters, &first, &count).await;
    assert_eq!(begin(counters, &bench.attempt_with(first.tag), &count).await, Begun::Go);
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn what_was_not_counted_can_not_be_taken_back(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(1, HOUR, HOUR);
    undo(counters, &bench.attempt(), &count).await;
    let first = goes(counters, bench, &count).await;
    // One that was free, and one that had to wait.
    let again = bench.attempt_with(first.tag);
    assert_eq!(begin(counters, &again, &count).await, Begun::Go);
    undo(counters, &again, &count).await;
    goes(counters, bench, &count).await;
    let late = bench.attempt();
    assert!(matches!(begin(counters, &late, &count).await, Begun::Wait(_)));
    undo(counters, &late, &count).await;
    waits(counters, bench, &count).await;
}

async fn what_is_cleared_is_forgotten(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(0, HOUR, HOUR);
    let first = goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
    for _ in 0..2 {
        told("settle", counters.settle(&first, &[(count, Settled::Cleared)]).await);
    }
    // The password too: it counts again, and begins a pause.
    assert_eq!(begin(counters, &bench.attempt_with(first.tag), &count).await, Begun::Go);
    waits(counters, bench, &count).await;
}

async fn a_key_drains(counters: &dyn Counters, bench: &CounterBench) {
    let (drain, most) = (Duration::from_millis(400), Duration::from_millis(100));
    let count = bench.count(2, drain, most);
    for _ in 0..3 {
        goes(counters, bench, &count).await;
    }
    (bench.pass)(drain * 4).await;
    // Were it as full as it was, the first would begin a pause.
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    // It drains by one in each such time, and not once more with each look.
    let count = bench.count(4, Duration::from_secs(2), most);
    for _ in 0..4 {
        goes(counters, bench, &count).await;
    }
    (bench.pass)(Duration::from_millis(2_100)).await;
    goes(counters, bench, &count).await;
    goes(counters, bench, &count).await;
    waits(counters, bench, &count).await;
}

async fn each_key_is_counted_by_itself_and_answered_in_order(counters: &dyn Counters, bench: &CounterBench) {
    let all: Vec<_> = (0..12).map(|n| bench.count(if n % 3 == 0 { 0 } else { 5 }, HOUR, HOUR)).collect();
    let begun = told("begin", counters.begin(&bench.attempt(), &all).await);
    assert_eq!(begun, vec![Begun::Go; all.len()]);
    let begun = told("begin", counters.begin(&bench.attempt(), &all).await);
    assert_eq!(begun.len(), all.len());
    for (count, begun) in all.iter().zip(begun) {
        assert_eq!(matches!(begun, Begun::Wait(_)), count.allowance.free == 0, "{count:?}");
    }
    assert!(told("begin", counters.begin(&bench.attempt(), &[]).await).is_empty());
    let ends: Vec<_> = all.iter().map(|count| (*count, Settled::Cleared)).collect();
    told("settle", counters.settle(&bench.attempt(), &ends).await);
    let begun = told("begin", counters.begin(&bench.attempt(), &all).await);
    assert_eq!(begun, vec![Begun::Go; all.len()]);
}

async fn of_many_at_once_no_more_are_let_in_than_may(counters: &dyn Counters, bench: &CounterBench) {
    let count = bench.count(5, HOUR, HOUR);
    let attempts: Vec<_> = (0..60).map(|_| bench.attempt()).collect();
    let begun = attempts.iter().map(|attempt| begin(counters, attempt, &count));
    let begun = futures_util::future::join_all(begun).await;
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::Go).count(), 6, "five are free, and one above");
}
