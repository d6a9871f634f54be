//! The hashes of Unix crypt, and phpass, which descends from them.

use auth_core::Result;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, effort, internal};
use crate::encoding::{crypt64_digit, is_crypt64, number, setting, to_crypt64};
use crate::policy::Limits;
use crate::scheme::{Scheme, without_crypt};

/// `$5$` and `$6$`.
pub(super) struct ShaCryptHash {
    text: Zeroizing<String>,
    rounds: u64,
    round_effort: u64,
}

impl ShaCryptHash {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        let (ident, digest_digits, round_effort) = match scheme {
            Scheme::Sha256Crypt => ("$5$", 43, effort::SHA256_CRYPT_ROUND),
            _ => ("$6$", 86, effort::SHA512_CRYPT_ROUND),
        };
        let text = without_crypt(hash);
        let mut fields = text.strip_prefix(ident)?.split('$');
        let mut field = fields.next()?;
        let mut rounds = 5_000;
        if field.starts_with("rounds=") {
            rounds = setting(field, "rounds")?;
            field = fields.next()?;
        }
        let (salt, digest) = (field, fields.next()?);
        let possible = fields.next().is_none()
            // Every implementation raises fewer rounds to this before it writes the hash.
            && rounds >= 1_000
            && (1..=16).contains(&salt.len())
            && is_crypt64(salt)
            && digest.len() == digest_digits
            && is_crypt64(digest);
        possible.then(|| Self { text: Zeroizing::new(text.to_owned()), rounds, round_effort })
    }
}

impl Stored for ShaCryptHash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.crypt(scheme, self.rounds)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        use sha_crypt::password_hash::Error as Fault;
        match ShaCrypt::default().verify_password(password, self.text.as_str()) {
            Ok(()) => Ok(Compared::Same),
            Err(Fault::PasswordInvalid) => Ok(Compared::Different),
            Err(_) => Err(internal(Scheme::Sha512Crypt)),
        }
    }

    fn effort(&self) -> u64 {
        self.rounds.saturating_mul(self.round_effort)
    }
}

/// `$1$` and `$apr1$`.
pub(super) struct Md5CryptHash {
    magic: &'static str,
    salt: String,
    digest: Zeroizing<String>,
}

impl Md5CryptHash {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        let magic = if matches!(scheme, Scheme::AprMd5Crypt) { "$apr1$" } else { "$1$" };
        let (salt, digest) = without_crypt(hash).strip_prefix(magic)?.split_once('$')?;
        (salt.len() <= 8 && digest.len() == 22 && is_crypt64(digest)).then(|| Self {
            magic,
            salt: salt.to_owned(),
            digest: Zeroizing::new(digest.to_owned()),
        })
    }

    fn digest(&self, password: &[u8]) -> [u8; 16] {
        let salt = self.salt.as_bytes();
        let inner: [u8; 16] =
            Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
        let mut first =
            Md5::new().chain_update(password).chain_update(self.magic.as_bytes()).chain_update(salt);
        for piece in password.chunks(inner.len()) {
            first.update(inner.get(..piece.len()).unwrap_or(&inner));
        }
        let mut length = password.len();
        while length > 0 {
            first.update(if length & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
            length >>= 1;
        }
        let mut digest: [u8; 16] = first.finalize().into();
        for round in 0..1_000 {
            let mut next = Md5::new();
            let odd = round & 1 == 1;
            next.update(if odd { password } else { &digest });
            if round % 3 != 0 {
                next.update(salt);
            }
            if round % 7 != 0 {
                next.update(password);
            }
            next.update(if odd { &digest } else { password });
            digest = next.finalize().into();
        }
        digest
    }
}

impl Stored for Md5CryptHash {
    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        const ORDER: [usize; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];
        let digest = self.digest(password);
        let found = Zeroizing::new(to_crypt64(ORDER.iter().filter_map(|at| digest.get(*at).copied())));
        Ok(found.as_bytes().ct_eq(self.digest.as_bytes()).into())
    }
}

/// `$sha1$`.
pub(super) struct Sha1CryptHash {
    rounds: u64,
    salt: String,
    digest: Zeroizing<String>,
}

impl Sha1CryptHash {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let mut fields = without_crypt(hash).strip_prefix("$sha1$")?.split('$');
        let (rounds, salt, digest) = (number(fields.next()?)?, fields.next()?, fields.next()?);
        let possible = fields.next().is_none()
            && rounds > 0
            && salt.len() <= 64
            && digest.len() == 28
            && is_crypt64(digest);
        possible.then(|| Self { rounds, salt: salt.to_owned(), digest: Zeroizing::new(digest.to_owned()) })
    }
}

impl Stored for Sha1CryptHash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.crypt(scheme, self.rounds)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let keyed = Hmac::<Sha1>::new_from_slice(password).map_err(|_| internal(Scheme::Sha1Crypt))?;
        let first = format!("{}$sha1${}", self.salt, self.rounds);
        let mut digest: [u8; 20] =
            keyed.clone().chain_update(first.as_bytes()).finalize().into_bytes().into();
        for _ in 1..self.rounds {
            digest = keyed.clone().chain_update(digest).finalize().into_bytes().into();
        }
        // Groups of three with the first byte last, and the first byte again at the end.
        const ORDER: [usize; 21] = [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12, 17, 16, 15, 0, 19, 18];
        let found = Zeroizing::new(to_crypt64(ORDER.iter().filter_map(|at| digest.get(*at).copied())));
        Ok(found.as_bytes().ct_eq(self.digest.as_bytes()).into())
    }

    fn effort(&self) -> u64 {
        self.rounds.saturating_mul(effort::SHA1_CRYPT_ROUND)
    }
}

/// `$P$` and `$H$`.
pub(super) struct PhpassHash {
    log_rounds: u32,
    salt: String,
    digest: Zeroizing<String>,
}

impl PhpassHash {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let rest = hash.strip_prefix("$P$").or_else(|| hash.strip_prefix("$H$"))?;
        let log_rounds = u32::try_from(crypt64_digit(*rest.as_bytes().first()?)?).ok()?;
        let (salt, digest) = (rest.get(1..9)?, rest.get(9..)?);
        let possible = (7..=30).contains(&log_rounds) && digest.len() == 22 && is_crypt64(digest);
        possible.then(|| Self {
            log_rounds,
            salt: salt.to_owned(),
            digest: Zeroizing::new(digest.to_owned()),
        })
    }
}

impl Stored for PhpassHash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.crypt(scheme, 1 << self.log_rounds)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let first = Md5::new().chain_update(self.salt.as_bytes()).chain_update(password);
        let mut digest: [u8; 16] = first.finalize().into();
        for _ in 0..1_u32 << self.log_rounds {
            digest = Md5::new().chain_update(digest).chain_update(password).finalize().into();
        }
        let found = Zeroizing::new(to_crypt64(digest));
        Ok(found.as_bytes().ct_eq(self.digest.as_bytes()).into())
    }

    fn effort(&self) -> u64 {
        1_u64.checked_shl(self.log_rounds).unwrap_or(u64::MAX).saturating_mul(effort::PHPASS_ROUND)
    }
}

/// Two digits of salt and eleven of digest.
pub(super) struct DesCryptHash {
    text: Zeroizing<String>,
}

impl DesCryptHash {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let text = without_crypt(hash);
        (text.len() == 13 && is_crypt64(text)).then(|| Self { text: Zeroizing::new(text.to_owned()) })
    }
}

impl Stored for DesCryptHash {
    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        // pwhash is of 2020, but crypt's salted DES is in no other crate (RustCrypto's `des` has no
        // salt), and its code is constant tables and integer arithmetic. It sees 13 checked digits.
        Ok(pwhash::unix_crypt::verify(password, &self.text).into())
    }

    fn reads_all_of(&self, password: &[u8]) -> bool {
        // Eight bytes count, of each seven bits. With eight it may be a longer one that was cut.
        password.len() < 8 && password.is_ascii()
    }
}
