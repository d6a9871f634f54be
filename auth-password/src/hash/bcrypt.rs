//! bcrypt, and bcrypt over SHA-256 as passlib and Django have it.

use auth_core::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, effort, internal, random};
use crate::encoding::{bcrypt64, number, setting, to_bcrypt64, to_hex, to_padded64};
use crate::policy::{Limits, MAX_BCRYPT_COST, Preferred};
use crate::scheme::{Scheme, without_crypt};

/// How many bytes of a password count.
pub(crate) const MAX_BCRYPT_BYTES: usize = 72;

pub(super) struct BcryptHash {
    cost: u32,
    salt: [u8; 16],
    digest: Zeroizing<[u8; 23]>,
    input: Input,
}

/// What is made of the password before bcrypt gets it.
enum Input {
    Itself,
    HexOfSha256,
    Base64OfSha256,
    // Keyed with the salt as it is spelled.
    Base64OfHmac(String),
}

impl BcryptHash {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        match scheme {
            Scheme::BcryptSha256 => Self::read_passlib(hash.strip_prefix("$bcrypt-sha256$")?),
            Scheme::DjangoBcryptSha256 => {
                Self::read_plain(hash.strip_prefix("bcrypt_sha256$")?, Input::HexOfSha256)
            }
            _ => Self::read_plain(without_crypt(hash), Input::Itself),
        }
    }

    // `$2b$12$` and 53 digits of salt and digest. `2x` marks the output of a faulty implementation
    // that no backend reproduces, so it is unreadable.
    fn read_plain(hash: &str, input: Input) -> Option<Self> {
        let (ident, rest) = hash.strip_prefix('$')?.split_once('$')?;
        let (cost, rest) = rest.split_once('$')?;
        let two_digits = cost.len() == 2 && cost.bytes().all(|digit| digit.is_ascii_digit());
        (is_ident(ident) && two_digits && rest.len() == 53)
            .then(|| Self::new(cost.parse().ok()?, rest.get(..22)?, rest.get(22..)?, input))?
    }

    // `v=2,t=2b,r=12$salt$digest`, or `2b,12$salt$digest` of the first version.
    fn read_passlib(rest: &str) -> Option<Self> {
        let mut fields = rest.split('$');
        let (costs, salt, digest) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let (ident, cost, input) = match costs.strip_prefix("v=2,t=") {
            Some(costs) => {
                let (ident, cost) = costs.split_once(',')?;
                (ident, setting(cost, "r")?, Input::Base64OfHmac(salt.to_owned()))
            }
            None => {
                let (ident, cost) = costs.split_once(',')?;
                (ident, number(cost)?, Input::Base64OfSha256)
            }
        };
        is_ident(ident).then(|| Self::new(u32::try_from(cost).ok()?, salt, digest, input))?
    }

    fn new(cost: u32, salt: &str, digest: &str, input: Input) -> Option<Self> {
        let (salt, digest) = (bcrypt64(salt)?, Zeroizing::new(bcrypt64(digest)?));
        (4..=MAX_BCRYPT_COST).contains(&cost).then_some(Self { cost, salt, digest, input })
    }
}

fn is_ident(ident: &str) -> bool {
    matches!(ident, "2a" | "2b" | "2y")
}

impl Stored for BcryptHash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.bcrypt(scheme, self.cost)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let found = match &self.input {
            Input::Itself => digest(self.cost, self.salt, password),
            Input::HexOfSha256 => digest(self.cost, self.salt, to_hex(&Sha256::digest(password)).as_bytes()),
            Input::Base64OfSha256 => {
                digest(self.cost, self.salt, to_padded64(&Sha256::digest(password)).as_bytes())
            }
            Input::Base64OfHmac(salt) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(salt.as_bytes())
                    .map_err(|_| internal(Scheme::BcryptSha256))?;
                mac.update(password);
                digest(self.cost, self.salt, to_padded64(&mac.finalize().into_bytes()).as_bytes())
            }
        };
        // The last of the 24 bytes is never stored.
        Ok(found.get(..23).is_some_and(|found| found.ct_eq(self.digest.as_slice()).into()).into())
    }

    fn effort(&self) -> u64 {
        1_u64.checked_shl(self.cost).unwrap_or(u64::MAX).saturating_mul(effort::BCRYPT_ROUND)
    }

    fn reads_all_of(&self, password: &[u8]) -> bool {
        // With as many bytes as count it may be a longer one that was cut.
        !matches!(self.input, Input::Itself) || password.len() < MAX_BCRYPT_BYTES
    }

    fn is_as_good_as(&self, preferred: &Preferred) -> bool {
        let Preferred::Bcrypt { cost } = *preferred else { return false };
        matches!(self.input, Input::Itself) && self.cost >= cost
    }
}

/// Runs bcrypt over the first 72 bytes of the input with its final NUL.
fn digest(cost: u32, salt: [u8; 16], input: &[u8]) -> Zeroizing<[u8; 24]> {
    let bytes = input.iter().copied().chain([0]).take(MAX_BCRYPT_BYTES);
    let mut key = Zeroizing::new(Vec::with_capacity(MAX_BCRYPT_BYTES));
    key.extend(bytes);
    Zeroizing::new(bcrypt::bcrypt(cost, salt, &key))
}

/// Makes a new hash. The cost was checked.
pub(crate) fn make_bcrypt(cost: u32, password: &[u8]) -> Result<String> {
    if password.len() > MAX_BCRYPT_BYTES {
        return Err(Error::new(ErrorKind::Invalid, "bcrypt takes passwords of at most 72 bytes"));
    }
    let salt = random()?;
    let digest = digest(cost, salt, password);
    digest.get(..23).map(|digest| text(cost, &salt, digest)).ok_or_else(|| internal(Scheme::Bcrypt))
}

/// Makes a hash of no password, which costs as much to verify as a real one.
pub(crate) fn dummy_bcrypt(cost: u32) -> Result<String> {
    Ok(text(cost, &random::<16>()?, &random::<23>()?))
}

fn text(cost: u32, salt: &[u8], digest: &[u8]) -> String {
    format!("$2b${cost:02}${}{}", to_bcrypt64(salt), to_bcrypt64(digest))
}
