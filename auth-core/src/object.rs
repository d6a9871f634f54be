//! Ids that keep their type, and the objects that rights are about.

use std::fmt;
use std::sync::Arc;

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
    /// A UUID (RFC 9562), as its 128 bits.
    Uuid(u128),
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
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Uuid(bits) => {
                let hex = format!("{bits:032x}");
                let cut = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
                write!(f, "{}-{}-{}-{}-{}", cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32))
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

/// An object that rights are about: a domain such as `doc`, and an id of one or more parts. Cheap to clone.
///
/// ```
/// use auth_core::{Id, ObjectRef};
/// let page = ObjectRef::new("page", [Id::from("wiki"), Id::from(42)])?;
/// assert_eq!(page.to_string(), "page:wiki,42");
/// assert_ne!(ObjectRef::new("doc", [Id::from(1)])?, ObjectRef::new("doc", [Id::from("1")])?);
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    domain: Arc<str>,
    id: Arc<[Id]>,
}

impl ObjectRef {
    /// Names an object.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the domain's name is not acceptable, or there is no part,
    /// or a text part is empty, longer than 255 bytes or has control characters.
    pub fn new(domain: &str, id: impl IntoIterator<Item = Id>) -> Result<Self> {
        check_name("domain", domain)?;
        let id: Arc<[Id]> = id.into_iter().collect();
        if id.is_empty() {
            check_name("object", "")?;
        }
        for part in id.iter() {
            if let Id::Text(text) = part {
                check_name("object", text)?;
            }
        }
        Ok(Self { domain: domain.into(), id })
    }

    /// Returns the domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the parts of the id.
    #[must_use]
    pub fn id(&self) -> &[Id] {
        &self.id
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.domain)?;
        for (n, part) in self.id.iter().enumerate() {
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
        let id = Id::Uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    }

    #[test]
    fn impossible_objects_are_refused() {
        assert!(ObjectRef::new("", [Id::from(1)]).is_err());
        assert!(ObjectRef::new("doc", []).is_err());
        assert!(ObjectRef::new("doc", [Id::from("")]).is_err());
        assert!(ObjectRef::new("doc", [Id::from("a\0b")]).is_err());
    }
}
