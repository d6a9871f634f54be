//! Passwords and stored hashes: types that print nothing and clear themselves.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// The longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// What a person typed to prove who they are.
///
/// Raw bytes, since stored hashes were made of raw bytes. Never empty (an empty password
/// is an anonymous bind to many directories), never with NUL (several hashes stop there),
/// at most 1,024 bytes. Prints nothing and is wiped when dropped.
///
/// ```
/// use auth_core::Password;
/// let password = Password::new(b"hobbes".to_vec())?;
/// assert_eq!(format!("{password:?}"), "Password(..)");
/// assert!(Password::new(Vec::new()).is_err());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<Vec<u8>>>);

impl Password {
    /// Takes the bytes of a password.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it is empty, has a NUL, or is longer than 1,024 bytes;
    /// the bytes are wiped then too.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let bytes = Zeroizing::new(bytes);
        let fault = if bytes.is_empty() {
            "the password is empty"
        } else if bytes.len() > MAX_PASSWORD_BYTES {
            "the password is longer than 1,024 bytes"
        } else if bytes.contains(&0) {
            "the password has a NUL"
        } else {
            return Ok(Self(Arc::new(bytes)));
        };
        Err(Error::new(ErrorKind::Invalid, fault))
    }

    /// Returns the bytes, for a hash function or a bind.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What a store keeps of a password, with the scheme where a column of its own names it.
///
/// Prints nothing of the hash, compares in constant time, is wiped when dropped. Cheap to clone.
#[derive(Clone)]
pub struct StoredHash {
    text: Arc<Zeroizing<String>>,
    scheme: Option<Arc<str>>,
}

impl StoredHash {
    /// Takes a stored hash. `scheme` is needed only where the hash does not name its own.
    #[must_use]
    pub fn new(text: String, scheme: Option<&str>) -> Self {
        Self { text: Arc::new(Zeroizing::new(text)), scheme: scheme.map(Arc::from) }
    }

    /// Returns the text as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the scheme that the store names beside the hash.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }
}

impl PartialEq for StoredHash {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme && bool::from(self.text.as_bytes().ct_eq(other.text.as_bytes()))
    }
}

impl Eq for StoredHash {}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Some(scheme) => write!(f, "StoredHash({scheme}, ..)"),
            None => f.write_str("StoredHash(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_passwords_are_refused() {
        for bytes in [Vec::new(), vec![b'x'; 1025], b"a\0b".to_vec()] {
            assert_eq!(Password::new(bytes).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert_eq!(Password::new(vec![b'x'; 1024]).unwrap().as_bytes().len(), 1024);
        assert!(Password::new(b" ".to_vec()).is_ok());
    }

    #[test]
    fn nothing_of_a_hash_is_printed() {
        let hash = StoredHash::new("$2b$04$secret".into(), Some("bcrypt"));
        assert_eq!(format!("{hash:?}"), "StoredHash(bcrypt, ..)");
        assert_ne!(hash, StoredHash::new("$2b$04$secret".into(), None));
    }
}
