//! Stored hashes: read first, bounded next, worked on last.

mod argon2;
mod bcrypt;
mod crypt;
mod digest;
mod effort;
mod pbkdf2;
mod scrypt;
pub(crate) mod totp;

use auth_core::{Error, ErrorKind, Result};

use crate::policy::{Limits, Policy, Preferred};
use crate::scheme::{Scheme, identify};

pub(crate) use argon2::{dummy_argon2id, make_argon2id};
pub(crate) use bcrypt::{MAX_BCRYPT_BYTES, dummy_bcrypt, make_bcrypt};

// The longest known format (GRUB's) has 280 bytes.
const MAX_HASH_BYTES: usize = 4096;

/// What goes into a few schemes beside the password: the login and the realm that salt them, and the time of
/// one-time codes.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "the caller makes it")]
pub struct Salts<'a> {
    /// The login as the store spells it, for `postgres_md5` and `digest_ha1`.
    pub login: &'a str,
    /// The realm, for `digest_ha1`.
    pub realm: &'a str,
    /// Seconds since 1970, for `totp`.
    pub unix_time: u64,
}

/// What comes of a verification. "Could not read the hash" is an error, not an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "right or wrong")]
pub enum Outcome {
    /// The password is right.
    Match {
        /// The policy would have the hash replaced by a better one, and what was typed is the whole password
        /// as far as the hash can tell.
        upgrade: bool,
        /// The time step of a one-time code, which must not be accepted again.
        step: Option<u64>,
    },
    /// The password is wrong.
    Mismatch,
}

/// Memory that a worker keeps between jobs. Wiped after each.
#[derive(Default)]
pub(crate) struct Workspace {
    blocks: Vec<::argon2::Block>,
}

#[cfg(test)]
impl Workspace {
    pub(crate) fn has_memory(&self) -> bool {
        !self.blocks.is_empty()
    }
}

/// What comes of comparing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compared {
    Same,
    Different,
    Step(u64),
}

impl From<bool> for Compared {
    fn from(same: bool) -> Self {
        if same { Self::Same } else { Self::Different }
    }
}

impl From<subtle::Choice> for Compared {
    fn from(same: subtle::Choice) -> Self {
        bool::from(same).into()
    }
}

/// A stored hash that was read.
trait Stored: Send + Sync {
    /// Checks the cost against the limits. Called before [`compare`](Self::compare), which relies on it.
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        let _ = (scheme, limits);
        Ok(())
    }

    /// Does the work.
    fn compare(&self, password: &[u8], salts: &Salts<'_>, work: &mut Workspace) -> Result<Compared>;

    /// Estimates from the parameters how many nanoseconds comparing takes.
    fn effort(&self) -> u64 {
        // Microseconds at most: nothing beside what is made to be costly.
        0
    }

    /// Reports whether no other password than this one could be hashed to the same.
    fn reads_all_of(&self, password: &[u8]) -> bool {
        let _ = password;
        true
    }

    /// Reports whether the hash is as good as a new one.
    fn is_as_good_as(&self, preferred: &Preferred) -> bool {
        let _ = preferred;
        false
    }
}

/// A stored hash that was read, is accepted, and is within the limits: ready for work.
pub(crate) struct Ready {
    scheme: Scheme,
    stored: Box<dyn Stored>,
}

impl Ready {
    pub(crate) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Reports whether comparing takes less than half as long as with the other hash, by what the parameters
    /// let expect.
    pub(crate) fn is_cheap_beside(&self, other: &Self) -> bool {
        self.stored.effort().saturating_mul(2) < other.stored.effort()
    }

    pub(crate) fn verify(
        &self,
        policy: &Policy,
        password: &[u8],
        salts: &Salts<'_>,
        work: &mut Workspace,
    ) -> Result<Outcome> {
        Ok(match self.stored.compare(password, salts, work)? {
            Compared::Different => Outcome::Mismatch,
            Compared::Step(step) => Outcome::Match { upgrade: false, step: Some(step) },
            Compared::Same => {
                // A hash that reads only a part of the password is also right for a mistyped rest. A new hash
                // of that would refuse the real password, so the old one stays.
                let upgrade = policy.upgrade
                    && self.stored.reads_all_of(password)
                    && !self.stored.is_as_good_as(&policy.preferred);
                Outcome::Match { upgrade, step: None }
            }
        })
    }
}

/// Reads a stored hash and checks it against the policy, without work.
pub(crate) fn ready(policy: &Policy, hash: &str, scheme: Option<Scheme>) -> Result<Ready> {
    let corrupt = |message| Error::new(ErrorKind::Corrupt, message);
    let Some(scheme) = scheme.or_else(|| identify(hash)) else {
        return Err(corrupt("the stored hash names no known scheme"));
    };
    let fits = !hash.is_empty() && hash.len() <= MAX_HASH_BYTES;
    let Some(stored) = fits.then(|| read(scheme, hash)).flatten() else {
        return Err(corrupt("the stored hash can't be read").with("scheme", scheme));
    };
    policy.accepts(scheme)?;
    stored.within(scheme, &policy.limits)?;
    Ok(Ready { scheme, stored })
}

fn read(scheme: Scheme, hash: &str) -> Option<Box<dyn Stored>> {
    fn some(stored: Option<impl Stored + 'static>) -> Option<Box<dyn Stored>> {
        stored.map(|stored| Box::new(stored) as Box<dyn Stored>)
    }
    match scheme {
        Scheme::Argon2 | Scheme::FsaArgon2 => some(argon2::Argon2Hash::read(hash)),
        Scheme::Bcrypt | Scheme::FsaBcrypt | Scheme::BcryptSha256 | Scheme::DjangoBcryptSha256 => {
            some(bcrypt::BcryptHash::read(scheme, hash))
        }
        Scheme::Pbkdf2Sha1
        | Scheme::Pbkdf2Sha256
        | Scheme::Pbkdf2Sha512
        | Scheme::LdapPbkdf2Sha256
        | Scheme::DjangoPbkdf2Sha256
        | Scheme::GrubPbkdf2Sha512
        | Scheme::Scram => some(pbkdf2::Pbkdf2Hash::read(scheme, hash)),
        Scheme::Scrypt => some(scrypt::ScryptHash::read(hash)),
        Scheme::FsaScrypt => some(scrypt::ScryptFile::read(hash)),
        Scheme::Sha256Crypt | Scheme::Sha512Crypt => some(crypt::ShaCryptHash::read(scheme, hash)),
        Scheme::Md5Crypt | Scheme::AprMd5Crypt => some(crypt::Md5CryptHash::read(scheme, hash)),
        Scheme::Sha1Crypt => some(crypt::Sha1CryptHash::read(hash)),
        Scheme::Phpass => some(crypt::PhpassHash::read(hash)),
        Scheme::DesCrypt => some(crypt::DesCryptHash::read(hash)),
        Scheme::Plaintext
        | Scheme::LdapPlaintext
        | Scheme::FsaPlaintext
        | Scheme::FsaA85
        | Scheme::FsaB64 => some(digest::Clear::read(scheme, hash)),
        Scheme::Totp => some(totp::TotpSecret::read(hash)),
        Scheme::LdapSha1
        | Scheme::LdapSaltedSha1
        | Scheme::LdapMd5
        | Scheme::LdapSaltedMd5
        | Scheme::LdapSaltedSha256
        | Scheme::LdapSaltedSha512
        | Scheme::HexMd5
        | Scheme::HexSha1
        | Scheme::HexSha256
        | Scheme::HexSha512
        | Scheme::PostgresMd5
        | Scheme::Mssql2005
        | Scheme::DigestHa1
        | Scheme::Nthash
        | Scheme::Mysql41 => some(digest::FastDigest::read(scheme, hash)),
    }
}

/// What a defect of a primitive looks like from outside: its input was checked before.
fn internal(scheme: Scheme) -> Error {
    Error::new(ErrorKind::Internal, "a hash function refused checked input").with("scheme", scheme)
}

/// Fills a salt.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Unavailable, "no random numbers").because(error))?;
    Ok(bytes)
}
