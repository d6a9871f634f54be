//! One keyed hash for the names that questions are made of, so that each is hashed once: when it is made.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use crate::{Id, text};

/// The key. A static, and the only one: equal names that were made apart must hash alike, in every fence and
/// table of the process, and a key that is passed in could be passed in wrong. It comes from the operating
/// system's randomness, since strangers choose logins: who knew it could choose names that all meet in one
/// place. It is SipHash and not a faster hash for the same reason; it costs nothing on the path of a hit.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Hashes a part of a question.
pub(crate) fn keyed(part: &impl Hash) -> u64 {
    KEY.hash_one(part)
}

/// Joins two hashes, in this order, that [`keyed`] made: nobody can choose them, so this need not be keyed.
pub(crate) const fn join(one: u64, other: u64) -> u64 {
    let joined = (one.rotate_left(26) ^ other).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    joined ^ (joined >> 32)
}

/// Compares two texts, of which most are one.
#[inline]
pub(crate) fn same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || text::same(one.as_bytes(), other.as_bytes())
}

/// An id by its text alone: who invalidates the object 42 means it, whether its id was taken for a number or
/// for a text. In the fence that costs a spurious miss; keys of answers tell the two apart.
pub(crate) struct Spelled<'a>(pub(crate) &'a Id);

impl Hash for Spelled<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.spelling().as_bytes().hash(state);
    }
}

/// What [`Spelled`] leaves out.
pub(crate) const fn type_of(id: &Id) -> u64 {
    match id {
        Id::Int(_) => 1,
        Id::Text(_) => 2,
        Id::Uuid(_) => 3,
    }
}

/// The text of an id, without an allocation: as `Display` writes it, whatever its type.
///
/// ```
/// use auth_core::Id;
/// assert_eq!(Id::from(42).spelling().as_bytes(), Id::from("42").spelling().as_bytes());
/// ```
#[derive(Debug, Clone)]
pub struct Spelling<'a>(Spelt<'a>);

#[derive(Debug, Clone)]
enum Spelt<'a> {
    Text(&'a str),
    // 40 bytes hold a number as well as a UUID.
    Other { bytes: [u8; 40], length: usize },
}

impl<'a> Spelling<'a> {
    pub(crate) fn of(id: &'a Id) -> Self {
        if let Id::Text(text) = id {
            return Self(Spelt::Text(text));
        }
        let mut spelling = Self(Spelt::Other { bytes: [0; 40], length: 0 });
        let _ = write!(spelling, "{id}");
        spelling
    }

    /// Returns the bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Spelt::Text(text) => text.as_bytes(),
            Spelt::Other { bytes, length } => bytes.get(..*length).unwrap_or_default(),
        }
    }
}

impl std::fmt::Write for Spelling<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let Spelt::Other { bytes, length } = &mut self.0 else { return Err(std::fmt::Error) };
        let end = *length + text.len();
        bytes.get_mut(*length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        *length = end;
        Ok(())
    }
}
