//! One hash, in the caller's thread.

use auth_core::{Error, ErrorKind, Password, Result, StoredHash};

use crate::hash::{
    MAX_BCRYPT_BYTES, Outcome, Salts, Workspace, dummy_argon2id, dummy_bcrypt, make_argon2id, make_bcrypt,
    ready,
};
use crate::policy::{Policy, Preferred};
use crate::scheme::Scheme;

/// Verifies a password against a stored hash. `scheme` is needed only where the hash does not name its own.
///
/// Blocks for as long as the hash takes; a server goes through a [`Hasher`](crate::Hasher).
/// The first 72 bytes of a password count for bcrypt, the first eight for DES crypt.
///
/// # Errors
/// - [`Corrupt`](ErrorKind::Corrupt) if the hash can't be read, or is not of `scheme`.
/// - [`Misconfigured`](ErrorKind::Misconfigured) if the scheme is not accepted or the hash costs too much;
///   no work is done then.
/// - [`Overloaded`](ErrorKind::Overloaded) if there is no memory for it.
pub fn verify(
    policy: &Policy,
    hash: &str,
    scheme: Option<Scheme>,
    password: &[u8],
    salts: &Salts<'_>,
) -> Result<Outcome> {
    ready(policy, hash, scheme)?.verify(policy, password, salts, &mut Workspace::default())
}

/// Checks that a stored hash could be verified, without verifying; tells its scheme.
///
/// ```
/// use auth_password::{Policy, Scheme, check_stored};
/// let policy = Policy::default();
/// let monster = "$argon2id$v=19$m=4194304,t=9,p=1$rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
/// assert!(check_stored(&policy, monster, None).is_err());
/// assert_eq!(check_stored(&policy, &monster.replace("4194304", "1024"), None)?, Scheme::Argon2);
/// # Ok::<(), auth_core::Error>(())
/// ```
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) and [`Misconfigured`](ErrorKind::Misconfigured), as [`verify`].
pub fn check_stored(policy: &Policy, hash: &str, scheme: Option<Scheme>) -> Result<Scheme> {
    Ok(ready(policy, hash, scheme)?.scheme())
}

/// Makes a new hash.
///
/// # Errors
/// - [`Invalid`](ErrorKind::Invalid) if bcrypt is preferred and the password is longer than 72 bytes.
/// - [`Misconfigured`](ErrorKind::Misconfigured) if the parameters are impossible or over the default limits.
/// - [`Overloaded`](ErrorKind::Overloaded) if there is no memory for it.
/// - [`Unavailable`](ErrorKind::Unavailable) if there are no random numbers.
pub fn make(preferred: &Preferred, password: &Password) -> Result<StoredHash> {
    Policy { preferred: *preferred, ..Policy::default() }.check()?;
    make_in(preferred, password, &mut Workspace::default())
}

/// Makes a new hash in a worker's memory. The parameters were checked.
pub(crate) fn make_in(
    preferred: &Preferred,
    password: &Password,
    work: &mut Workspace,
) -> Result<StoredHash> {
    let text = match *preferred {
        Preferred::Argon2id { memory_kib, passes, lanes } => {
            make_argon2id(memory_kib, passes, lanes, password.as_bytes(), work)?
        }
        Preferred::Bcrypt { cost } => make_bcrypt(cost, password.as_bytes())?,
    };
    Ok(StoredHash::new(text, None))
}

/// Makes a hash of no password that costs as much to verify as a new one.
pub(crate) fn make_dummy(preferred: &Preferred) -> Result<StoredHash> {
    let text = match *preferred {
        Preferred::Argon2id { memory_kib, passes, lanes } => dummy_argon2id(memory_kib, passes, lanes)?,
        Preferred::Bcrypt { cost } => dummy_bcrypt(cost)?,
    };
    Ok(StoredHash::new(text, None))
}

/// Reports whether a new hash can be made of the password.
pub(crate) fn can_make(preferred: &Preferred, password: &Password) -> bool {
    !matches!(preferred, Preferred::Bcrypt { .. }) || password.as_bytes().len() <= MAX_BCRYPT_BYTES
}

/// Reads the scheme that a store names beside a hash.
pub(crate) fn named_scheme(hash: &StoredHash) -> Result<Option<Scheme>> {
    match hash.scheme() {
        None => Ok(None),
        // The name is not told: with two columns mixed up it would be the hash.
        Some(name) => Scheme::from_name(name).map(Some).ok_or_else(|| {
            Error::new(ErrorKind::Misconfigured, "the scheme beside the stored hash is not one that is known")
        }),
    }
}
