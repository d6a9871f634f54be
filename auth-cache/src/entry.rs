//! What a table keeps: an answer, the stamp it was asked under, and when.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use auth_core::{
    Access, Account, AccountState, GroupSet, Id, Login, Lookup, Moment, ObjectRef, Principal, Stamp,
    TokenState,
};

use crate::{Ask, Key};

/// An answer to any question. Cheap to clone, without allocating.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Ask::Account`].
    Account(Lookup<Account>),
    /// To [`Ask::Groups`].
    Groups(Lookup<GroupSet>),
    /// To [`Ask::Access`].
    Access(Access),
    /// To [`Ask::Token`].
    Token(Arc<TokenState>),
}

impl Answer {
    /// Reports whether the answer is that there is no such person or object. Such answers have a small
    /// table of their own, since a stranger can ask for as many names as they like.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        matches!(
            self,
            Self::Account(Lookup::NotFound) | Self::Groups(Lookup::NotFound) | Self::Access(Access::NotFound)
        )
    }
}

/// A kept answer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The answer.
    pub answer: Answer,
    /// The generations of everything it depends on, read before the source was asked.
    pub stamp: Stamp,
    /// When the source was asked. Age counts from here; reading does not renew it.
    pub loaded: Moment,
    /// When it ends whatever the settings say, as a token does: in milliseconds after `loaded`, rounded down.
    /// [`Entry::NO_END`] where there is no such end.
    pub end_ms: u32,
    /// How much of its life is the time in which a hit starts a refresh: so many parts of 65,536, at its end.
    pub ahead: u16,
    /// How much the configured lifetime is shortened: 255 is ten percent.
    pub jitter: u8,
    pub(crate) checked: Checked,
}

/// Up to which age an entry is known to be good, as long as neither the fence nor the lifetimes move: until then
/// it need not be judged anew. A hint that every reader may set.
///
/// One word, so that nobody reads half of it: the counts of fence and lifetimes that were read before it was
/// judged, without their upper bits, and the age in units of 2^24 ns (17 ms), rounded down. It is trusted for ages
/// below 2^44 ns (about 5 h), in which the counts can't come round: that takes 2^44 invalidations. By default it is
/// good for no age.
#[derive(Debug, Default)]
pub(crate) struct Checked(AtomicU64);

impl Checked {
    const AGE_BITS: u32 = 20;
    const UNIT_BITS: u32 = 24;

    /// Reports whether the entry is known to be good at an age in nanoseconds, where the counts are these.
    #[inline]
    pub(crate) fn is_good(&self, counts: u64, age: u64) -> bool {
        // Equal counts cancel out. Relaxed: the word stands for nothing but itself.
        let until = self.0.load(Ordering::Relaxed) ^ (counts << Self::AGE_BITS);
        until < 1 << Self::AGE_BITS && age >> Self::UNIT_BITS < until
    }

    /// Notes that the entry was found good after these counts were read, and at which age it is to be judged anew.
    pub(crate) fn note(&self, counts: u64, age: u64) {
        let until = (age >> Self::UNIT_BITS).min((1 << Self::AGE_BITS) - 1);
        self.0.store((counts << Self::AGE_BITS) | until, Ordering::Relaxed);
    }
}

impl Clone for Checked {
    /// Knows nothing: the copy may be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Entry {
    /// The end of an entry that has none of its own.
    pub const NO_END: u32 = u32::MAX;

    /// Makes an entry without an end of its own, without jitter, and not refreshed ahead of its end.
    #[must_use]
    pub const fn new(answer: Answer, stamp: Stamp, loaded: Moment) -> Self {
        let checked = Checked(AtomicU64::new(0));
        Self { answer, stamp, loaded, end_ms: Self::NO_END, ahead: 0, jitter: 0, checked }
    }

    /// Estimates the bytes that keeping it as the answer to a question takes, texts included, whether or not others
    /// share them.
    #[must_use]
    pub fn bytes(&self, ask: &Ask<'_>) -> usize {
        let answer = match &self.answer {
            Answer::Account(Lookup::Found(account)) => {
                let hash = account.hash().map_or(0, |hash| hash.as_str().len());
                ACCOUNT + who_bytes(account.principal()) + hash
            }
            Answer::Groups(Lookup::Found(groups)) => groups_bytes(groups),
            Answer::Token(state) => {
                let claims = state.claims.as_ref().map_or(0, |claims| ARC + claims.len());
                size_of::<TokenState>()
                    + ARC
                    + who_bytes(&state.principal)
                    + groups_bytes(&state.scopes)
                    + claims
            }
            Answer::Account(Lookup::NotFound) | Answer::Groups(Lookup::NotFound) | Answer::Access(_) => 0,
        };
        let key = match *ask {
            Ask::Account(login) => login_bytes(login),
            Ask::Groups(who) => who_bytes(who),
            Ask::Access(who, object, mode) => {
                who_bytes(who) + object_bytes(object) + mode.map_or(0, str::len)
            }
            Ask::Token(_) => 0,
        };
        SLOT + key + answer
    }
}

// Two counters before what an `Arc` owns.
const ARC: usize = 2 * size_of::<usize>();
// Key, entry, and what an engine needs to find and order them.
const SLOT: usize = size_of::<Key>() + size_of::<Entry>() + 96;
// What an account owns beside its texts.
const ACCOUNT: usize = ARC + size_of::<Principal>() + size_of::<AccountState>() + 3 * size_of::<usize>();
// What a person owns beside their texts.
const PERSON: usize = ARC + size_of::<Login>() + size_of::<Id>() + 4 * size_of::<usize>();

fn login_bytes(login: &Login) -> usize {
    ARC + login.as_str().len()
}

fn who_bytes(who: &Principal) -> usize {
    let shown = if who.shown() == who.login().as_str() { 0 } else { who.shown().len() };
    PERSON + login_bytes(who.login()) + id_bytes(who.id()) + shown
}

fn id_bytes(id: &Id) -> usize {
    match id {
        Id::Text(text) => ARC + text.len(),
        _ => 0,
    }
}

fn object_bytes(object: &ObjectRef) -> usize {
    let parts = object.id().iter().map(|part| size_of::<Id>() + id_bytes(part));
    2 * ARC + object.domain().len() + parts.sum::<usize>()
}

fn groups_bytes(groups: &GroupSet) -> usize {
    groups.heap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_holds_for_its_counts_and_its_age_and_no_longer() {
        const UNIT: u64 = 1 << 24;
        for counts in [0, 1, 77, (1 << 44) - 1, 1 << 44, u64::MAX] {
            let checked = Checked::default();
            assert!(!checked.is_good(counts, 0), "{counts}: nothing was noted");
            for due in [0, 1, UNIT - 1, UNIT, 60_000_000_000, u64::MAX] {
                checked.note(counts, due);
                let last = (due / UNIT).min((1 << 20) - 1) * UNIT;
                assert!(last <= due && !checked.is_good(counts, last), "{counts} {due}");
                assert_eq!(checked.is_good(counts, last.saturating_sub(1)), last > 0, "{counts} {due}");
                assert!(
                    !checked.is_good(counts.wrapping_add(1), 0)
                        && !checked.is_good(counts.wrapping_sub(1), 0)
                );
                assert!(!checked.clone().is_good(counts, 0), "a copy knows nothing");
            }
        }
    }
}
