//! What a table keeps: an answer, the stamp it was asked under, and when.

use auth_core::{Access, Account, GroupSet, Lookup, Moment, Stamp, TokenState};

/// An answer to any question. Cheap to clone, without allocating.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Ask::Account`](crate::Ask::Account).
    Account(Lookup<Account>),
    /// To [`Ask::Groups`](crate::Ask::Groups).
    Groups(Lookup<GroupSet>),
    /// To [`Ask::Access`](crate::Ask::Access).
    Access(Access),
    /// To [`Ask::Token`](crate::Ask::Token).
    Token(TokenState),
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
    /// When it ends whatever the settings say: a token's own end.
    /// [`Entry::NO_END`] where there is none.
    pub until: Moment,
    /// How much the configured lifetime is shortened: 255 is ten percent.
    pub jitter: u8,
}

impl Entry {
    /// The end of an entry that has none of its own.
    pub const NO_END: Moment = Moment::from_nanos(u64::MAX);
}
