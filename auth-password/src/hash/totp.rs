//! Time-based one-time codes (RFC 6238): SHA-1, six digits, half a minute, one step either side.

use auth_core::Result;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, internal};
use crate::encoding::base32;
use crate::scheme::Scheme;

/// How long a step is, in seconds.
pub(crate) const STEP_SECONDS: u64 = 30;
/// How many steps a code may be off, for clocks that are not quite right.
pub(crate) const WINDOW: u64 = 1;

pub(super) struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let secret = base32(hash)?;
        (!secret.is_empty() && secret.len() <= 256).then_some(Self(secret))
    }

    fn code(&self, step: u64) -> Result<String> {
        let mac = Hmac::<Sha1>::new_from_slice(&self.0).map_err(|_| internal(Scheme::Totp))?;
        let digest = mac.chain_update(step.to_be_bytes()).finalize().into_bytes();
        let at = usize::from(digest.last().copied().unwrap_or_default() & 0xf);
        let word = digest.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let number = word.ok_or_else(|| internal(Scheme::Totp))? & 0x7fff_ffff;
        Ok(format!("{:06}", number % 1_000_000))
    }
}

impl Stored for TotpSecret {
    fn compare(&self, password: &[u8], salts: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let now = salts.unix_time / STEP_SECONDS;
        let mut matched = None;
        for step in now.saturating_sub(WINDOW)..=now.saturating_add(WINDOW) {
            if bool::from(self.code(step)?.as_bytes().ct_eq(password)) {
                matched = Some(step);
            }
        }
        Ok(matched.map_or(Compared::Different, Compared::Step))
    }
}
