//! Chance, cheap and repeatable from a seed. Nothing secret hangs on it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::{FixedState, RandomState};

#[derive(Debug)]
pub(crate) struct Dice {
    hasher: FixedState,
    throws: AtomicU64,
}

impl Dice {
    /// Makes dice that throw the same again from the same seed; without one, from a random seed.
    pub(crate) fn seeded(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::default().hash_one(0_u64));
        Self { hasher: FixedState::with_seed(seed), throws: AtomicU64::new(0) }
    }

    pub(crate) fn throw(&self) -> u64 {
        self.hasher.hash_one(self.throws.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns a number from 0 up to, but not including, 1.
    pub(crate) fn chance(&self) -> f64 {
        chance(self.throw())
    }
}

/// Makes a number from 0 up to, but not including, 1, of the upper half of a throw.
pub(crate) fn chance(throw: u64) -> f64 {
    let upper = u32::try_from(throw >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_and_chances_are_spread_evenly() {
        let (one, two) = (Dice::seeded(Some(7)), Dice::seeded(Some(7)));
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let chance = one.chance();
            assert!((0.0..1.0).contains(&chance) && chance.to_bits() == two.chance().to_bits());
            let tenth = (0..10_u32).find(|tenth| chance * 10.0 < f64::from(*tenth) + 1.0).unwrap();
            tenths[tenth as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }
}
