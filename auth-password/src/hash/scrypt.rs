//! scrypt: passlib's format, and the file format of the scrypt tool as FlaskSimpleAuth keeps it.

use auth_core::Result;
use hmac::{Hmac, KeyInit, Mac};
use scrypt::Params;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, effort, internal};
use crate::encoding::{ascii85, base64, setting};
use crate::policy::Limits;
use crate::scheme::Scheme;

struct Cost {
    log_n: u64,
    r: u64,
    p: u64,
}

impl Cost {
    fn new(log_n: u64, r: u64, p: u64) -> Option<Self> {
        (log_n > 0 && r > 0 && p > 0).then_some(Self { log_n, r, p })
    }

    fn effort(&self) -> u64 {
        let n = u32::try_from(self.log_n).ok().and_then(|log| 1_u64.checked_shl(log)).unwrap_or(u64::MAX);
        n.saturating_mul(self.r).saturating_mul(self.p).saturating_mul(effort::SCRYPT_BLOCK)
    }

    // Within the limits, so that the products in `Params::new` can't overflow.
    fn derive(&self, scheme: Scheme, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<()> {
        let params = || {
            let (r, p) = (u32::try_from(self.r).ok()?, u32::try_from(self.p).ok()?);
            Params::new(u8::try_from(self.log_n).ok()?, r, p).ok()
        };
        let params = params().ok_or_else(|| internal(scheme))?;
        scrypt::scrypt(password, salt, &params, out).map_err(|_| internal(scheme))
    }
}

pub(super) struct ScryptHash {
    cost: Cost,
    salt: Vec<u8>,
    digest: Zeroizing<Vec<u8>>,
}

impl ScryptHash {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let mut fields = hash.strip_prefix("$scrypt$")?.split('$');
        let mut costs = fields.next()?.split(',');
        let log_n = setting(costs.next()?, "ln")?;
        let cost = Cost::new(log_n, setting(costs.next()?, "r")?, setting(costs.next()?, "p")?)?;
        let salt = base64(fields.next()?)?;
        let digest = Zeroizing::new(base64(fields.next()?)?);
        let possible = costs.next().is_none()
            && fields.next().is_none()
            && salt.len() <= 1024
            && (16..=64).contains(&digest.len());
        possible.then_some(Self { cost, salt, digest })
    }
}

impl Stored for ScryptHash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.scrypt(scheme, self.cost.log_n, self.cost.r, self.cost.p)
    }

    fn effort(&self) -> u64 {
        self.cost.effort()
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let mut found = Zeroizing::new(vec![0; self.digest.len()]);
        self.cost.derive(Scheme::Scrypt, password, &self.salt, &mut found)?;
        Ok(found.ct_eq(&self.digest).into())
    }
}

/// A file of the scrypt tool, of which only the header is of use: it holds a MAC under a key made
/// of the password. What was encrypted is of no interest.
pub(super) struct ScryptFile {
    cost: Cost,
    salt: [u8; 32],
    signed: [u8; 64],
    mac: [u8; 32],
}

impl ScryptFile {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let bytes = ascii85(hash)?;
        let at = |from: usize, to: usize| bytes.get(from..to);
        let word = |from| Some(u64::from(u32::from_be_bytes(at(from, from + 4)?.try_into().ok()?)));
        let cost = Cost::new(u64::from(*bytes.get(7)?), word(8)?, word(12)?)?;
        let checksum = Sha256::digest(at(0, 48)?);
        let possible = at(0, 7)? == b"scrypt\0" && at(48, 64)? == checksum.get(..16)? && bytes.len() >= 128;
        possible.then(|| {
            Some(Self {
                cost,
                salt: at(16, 48)?.try_into().ok()?,
                signed: at(0, 64)?.try_into().ok()?,
                mac: at(64, 96)?.try_into().ok()?,
            })
        })?
    }
}

impl Stored for ScryptFile {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.scrypt(scheme, self.cost.log_n, self.cost.r, self.cost.p)
    }

    fn effort(&self) -> u64 {
        self.cost.effort()
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let mut keys = Zeroizing::new([0_u8; 64]);
        self.cost.derive(Scheme::FsaScrypt, password, &self.salt, &mut *keys)?;
        // The first half is the key of the cipher.
        let key = keys.get(32..).ok_or_else(|| internal(Scheme::FsaScrypt))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| internal(Scheme::FsaScrypt))?;
        mac.update(&self.signed);
        Ok(mac.verify_slice(&self.mac).is_ok().into())
    }
}
