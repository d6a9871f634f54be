//! What is known of a server's clock.

use std::collections::VecDeque;

use auth_core::{Moment, TierTime};

/// How many observations are kept. The clocks drift apart by less than a millisecond in their time.
const KEPT: usize = 16;

/// The clock of a server, which tells whole seconds only, by our own.
///
/// A second was told between two moments of ours: at the later of them the server's clock stood there or later. So
/// each observation gives a time that the server has surely reached, and the latest of them is nearest.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// The server's milliseconds less ours: never more than it really is.
    offsets: VecDeque<i64>,
    contradicted: bool,
}

impl Ticks {
    /// Learns that the server told this second when it was asked between two moments.
    pub(super) fn observe(&mut self, seconds: u64, asked: Moment, heard: Moment) {
        let told = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let least = told.saturating_sub(millis(heard)).saturating_sub(1);
        // A second more than it may be, since a busy server looks at its clock late.
        let most = told.saturating_add(2000).saturating_sub(millis(asked));
        // Once is what a server says that has just been woken: the next time it knows how late it is.
        let contradicted = self.offset().is_some_and(|known| known > most);
        if contradicted && self.contradicted {
            self.offsets.clear();
        }
        self.contradicted = contradicted && !self.offsets.is_empty();
        if self.offsets.len() >= KEPT {
            self.offsets.pop_front();
        }
        self.offsets.push_back(least);
    }

    fn offset(&self) -> Option<i64> {
        self.offsets.iter().copied().max()
    }

    /// Returns a time that the server's clock has reached by now, if anything is known of it.
    pub(super) fn now(&self, ours: Moment) -> Option<TierTime> {
        let now = self.offset()?.saturating_add(millis(ours));
        Some(TierTime::from_millis(u64::try_from(now).unwrap_or_default()))
    }
}

fn millis(moment: Moment) -> i64 {
    i64::try_from(moment.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    /// A server whose clock stood at `ahead` milliseconds when ours was at zero.
    fn observe(ticks: &mut Ticks, ahead: u64, when: u64) {
        ticks.observe((ahead + when) / 1000, at(when), at(when + 1));
    }

    #[test]
    fn it_is_never_ahead_and_soon_hardly_behind() {
        const AHEAD: u64 = 1_700_000_000_437;
        let mut ticks = Ticks::default();
        assert_eq!(ticks.now(at(5)), None);
        for n in 0..100 {
            let when = n * 1730;
            observe(&mut ticks, AHEAD, when);
            let real = AHEAD + when + 1;
            let told = ticks.now(at(when + 1)).expect("something").as_millis();
            let behind = real.checked_sub(told).expect("never ahead");
            assert!(behind <= if n < 8 { 1002 } else { 150 }, "{n}: {behind}");
        }
    }

    #[test]
    fn a_server_that_was_asleep_is_not_believed_at_once() {
        let mut ticks = Ticks::default();
        observe(&mut ticks, 100_000, 0);
        let before = ticks.now(at(60_000));
        ticks.observe(101, at(60_000), at(60_001));
        assert_eq!(ticks.now(at(60_000)), before, "it has not looked at its clock yet");
        observe(&mut ticks, 100_000, 62_000);
        assert!(ticks.now(at(60_000)) >= before);
        // But a clock that goes slower than ours is, before long.
        ticks.observe(101, at(64_000), at(64_001));
        ticks.observe(103, at(66_000), at(66_001));
        assert!(ticks.now(at(66_000)).is_some_and(|now| now.as_millis() < 104_000), "{ticks:?}");
    }
}
