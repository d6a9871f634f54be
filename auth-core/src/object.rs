//! Ids that keep their type, and the objects that rights are about.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::slice;
use std::sync::Arc;

use crate::hash::{Spelled, Spelling, join, keyed, type_of};
use crate::{Result, check_name};

/// An id as a store issued it: of a person, or a part of an object's.
///
/// The integer 1 and the text "1" are different ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Id {
    /// A whole number.
    Int(i64),
    /// A text.
    Text(Arc<str>),
    /// A UUID (RFC 9562), as its 16 bytes in the order in which they are written.
    Uuid([u8; 16]),
}

impl Id {
    /// Takes an id that somebody wrote: a whole number in its only spelling is one, anything else is a text.
    ///
    /// ```
    /// use auth_core::Id;
    /// assert_eq!(Id::parse("-42"), Id::Int(-42));
    /// assert_eq!(Id::parse("042"), Id::text("042"));
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        number.map_or_else(|| Self::text(text), Self::Int)
    }

    /// Makes a text id.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Makes a UUID of its 128 bits.
    #[must_use]
    pub const fn uuid(bits: u128) -> Self {
        Self::Uuid(bits.to_be_bytes())
    }

    /// Spells it, without an allocation: ids of one spelling are one to an invalidation.
    #[must_use]
    pub fn spelling(&self) -> Spelling<'_> {
        Spelling::of(self)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Uuid(bytes) => {
                for (n, byte) in bytes.iter().enumerate() {
                    if matches!(n, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// An object that rights are about: a domain such as `doc`, and an id of one or more parts: one `Arc` wide.
///
/// ```
/// use auth_core::{Id, ObjectRef};
/// let page = ObjectRef::new("page", [Id::from("wiki"), Id::from(42)])?;
/// assert_eq!(page.to_string(), "page:wiki,42");
/// assert_ne!(ObjectRef::new("doc", [Id::from(1)])?, ObjectRef::new("doc", [Id::from("1")])?);
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct ObjectRef(Arc<Inner>);

struct Inner {
    // Of every part with its type, and of the parts by their text alone.
    hash: u64,
    spelled: u64,
    domain: Box<str>,
    id: Parts,
}

/// The parts of an id. Most have one, which needs no allocation of its own.
#[derive(PartialEq, Eq)]
enum Parts {
    One(Id),
    Many(Box<[Id]>),
}

impl Parts {
    fn as_slice(&self) -> &[Id] {
        match self {
            Self::One(id) => slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl ObjectRef {
    /// Names an object.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the domain's name is not acceptable, or there is no part,
    /// or a text part is empty, longer than 255 bytes or has control characters.
    pub fn new(domain: &str, id: impl IntoIterator<Item = Id>) -> Result<Self> {
        check_name("domain", domain)?;
        let mut parts = id.into_iter();
        // No part at all is refused as an empty one is.
        let first = parts.next().unwrap_or_else(|| Id::text(""));
        let id = match parts.next() {
            None => Parts::One(first),
            Some(second) => Parts::Many([first, second].into_iter().chain(parts).collect()),
        };
        for part in id.as_slice() {
            if let Id::Text(text) = part {
                check_name("object", text)?;
            }
        }
        let spelled = keyed(&SpelledObject(domain, id.as_slice()));
        let hash = id.as_slice().iter().map(type_of).fold(spelled, join);
        Ok(Self(Arc::new(Inner { hash, spelled, domain: domain.into(), id })))
    }

    /// Returns the domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    /// Returns the parts of the id.
    #[must_use]
    pub fn id(&self) -> &[Id] {
        self.0.id.as_slice()
    }

    /// Returns a hash of the domain and the typed id, keyed per process: never stored or shown outside of it.
    #[must_use]
    #[inline]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }

    /// The hash by the text of the id, for the fence.
    #[inline]
    pub(crate) fn spelled(&self) -> u64 {
        self.0.spelled
    }
}

impl PartialEq for ObjectRef {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.is_in_full(other)
    }
}

impl ObjectRef {
    fn is_in_full(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash && self.0.id == other.0.id && self.0.domain == other.0.domain
    }
}

impl Eq for ObjectRef {}

impl Hash for ObjectRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// An object by the text of its id.
struct SpelledObject<'a>(&'a str, &'a [Id]);

impl Hash for SpelledObject<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.len().hash(state);
        for part in self.1 {
            Spelled(part).hash(state);
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.domain())?;
        for (n, part) in self.id().iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectRef({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_rfc_9562_writes_it() {
        let id = Id::uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    }

    #[test]
    fn impossible_objects_are_refused() {
        assert!(ObjectRef::new("", [Id::from(1)]).is_err());
        assert!(ObjectRef::new("doc", []).is_err());
        assert!(ObjectRef::new("doc", [Id::from("")]).is_err());
        assert!(ObjectRef::new("doc", [Id::from("a\0b")]).is_err());
    }

    #[test]
    fn equal_objects_made_apart_are_equal_and_hash_alike() {
        for id in [vec![Id::from(42)], vec![Id::from("wiki"), Id::from(42), Id::uuid(7)]] {
            let make = || ObjectRef::new("page", id.clone()).unwrap();
            let (one, other) = (make(), make());
            assert_eq!((&one, one.hash64(), one.spelled()), (&other, other.hash64(), other.spelled()));
            assert_eq!(one.id(), id);
        }
    }

    #[test]
    fn the_type_of_an_id_counts_in_one_hash_and_not_in_the_other() {
        let (int, text) = (ObjectRef::new("doc", [Id::from(42)]), ObjectRef::new("doc", [Id::from("42")]));
        let (int, text) = (int.unwrap(), text.unwrap());
        assert_ne!((&int, int.hash64()), (&text, text.hash64()));
        assert_ne!(int.hash64(), text.hash64());
        assert_eq!(int.spelled(), text.spelled());
        let parts = |parts: &[&str]| ObjectRef::new("doc", parts.iter().map(|part| Id::text(part))).unwrap();
        assert_ne!(parts(&["ab", "c"]).spelled(), parts(&["a", "bc"]).spelled());
        assert_ne!(parts(&["a", "b"]).spelled(), parts(&["a", "b", "b"]).spelled());
    }

    #[test]
    fn objects_of_one_hash_are_told_apart_in_full() {
        let object = |domain: &str, id: Id| {
            ObjectRef(Arc::new(Inner { hash: 7, spelled: 7, domain: domain.into(), id: Parts::One(id) }))
        };
        assert_eq!(object("doc", Id::from(1)), object("doc", Id::from(1)));
        assert_ne!(object("doc", Id::from(1)), object("page", Id::from(1)));
        assert_ne!(object("doc", Id::from(1)), object("doc", Id::from(2)));
        assert_ne!(object("doc", Id::from(1)), object("doc", Id::from("1")));
    }
}
