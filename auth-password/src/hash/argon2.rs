//! Argon2 in the PHC format.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use auth_core::{Error, ErrorKind, Result};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, effort, internal, random};
use crate::encoding::{base64, setting, to_base64};
use crate::policy::{Limits, Preferred};
use crate::scheme::Scheme;

const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

// 64 MiB: what a worker keeps between jobs; a larger hash gives its memory back.
const KEPT_BLOCKS: usize = 64 * 1024;

pub(super) struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    memory_kib: u64,
    passes: u64,
    lanes: u64,
    salt: Vec<u8>,
    digest: Zeroizing<Vec<u8>>,
}

impl Argon2Hash {
    pub(super) fn read(hash: &str) -> Option<Self> {
        let mut fields = hash.strip_prefix('$')?.split('$');
        let algorithm = match fields.next()? {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            "argon2d" => Algorithm::Argon2d,
            _ => return None,
        };
        let mut field = fields.next()?;
        let version = match field.strip_prefix("v=") {
            Some("19") => Version::V0x13,
            Some("16") | None => Version::V0x10,
            Some(_) => return None,
        };
        if field.starts_with("v=") {
            field = fields.next()?;
        }
        let mut costs = field.split(',');
        let memory_kib = setting(costs.next()?, "m")?;
        let passes = setting(costs.next()?, "t")?;
        let lanes = setting(costs.next()?, "p")?;
        let salt = base64(fields.next()?)?;
        let digest = Zeroizing::new(base64(fields.next()?)?);
        let possible = costs.next().is_none()
            && fields.next().is_none()
            && passes > 0
            && lanes > 0
            && memory_kib >= lanes.saturating_mul(8)
            && (8..=64).contains(&salt.len())
            // Less is a hash that was cut, by a column that is too narrow.
            && (16..=64).contains(&digest.len());
        possible.then_some(Self { algorithm, version, memory_kib, passes, lanes, salt, digest })
    }

    fn argon2(&self) -> Option<Argon2<'static>> {
        let [memory, passes, lanes] =
            [self.memory_kib, self.passes, self.lanes].map(|cost| u32::try_from(cost).ok());
        let params = Params::new(memory?, passes?, lanes?, None).ok()?;
        Some(Argon2::new(self.algorithm, self.version, params))
    }
}

impl Stored for Argon2Hash {
    fn within(&self, _scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.argon2(self.memory_kib, self.passes)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, work: &mut Workspace) -> Result<Compared> {
        let argon2 = self.argon2().ok_or_else(|| internal(Scheme::Argon2))?;
        let mut found = Zeroizing::new(vec![0; self.digest.len()]);
        fill(&argon2, password, &self.salt, &mut found, work)?;
        Ok(found.ct_eq(&self.digest).into())
    }

    fn effort(&self) -> u64 {
        // Lanes are worked on one after the other.
        self.memory_kib.saturating_mul(self.passes).saturating_mul(effort::ARGON2_KIB)
    }

    fn is_as_good_as(&self, preferred: &Preferred) -> bool {
        let Preferred::Argon2id { memory_kib, passes, .. } = *preferred else { return false };
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && self.memory_kib >= u64::from(memory_kib)
            && self.passes >= u64::from(passes)
    }
}

/// Runs argon2 in the worker's own memory: fresh memory costs a third of the time in page faults.
fn fill(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    work: &mut Workspace,
) -> Result<()> {
    let needed = argon2.params().block_count();
    let missing = needed.saturating_sub(work.blocks.len());
    if work.blocks.try_reserve_exact(missing).is_err() {
        return Err(Error::new(ErrorKind::Overloaded, "no memory for a hash"));
    }
    work.blocks.resize(needed.max(work.blocks.len()), Block::new());
    let Some(blocks) = work.blocks.get_mut(..needed) else { return Err(internal(Scheme::Argon2)) };
    let done = argon2.hash_password_into_with_memory(password, salt, out, &mut *blocks);
    // The first blocks are a fast hash of the password.
    blocks.fill(Block::new());
    if work.blocks.len() > KEPT_BLOCKS {
        work.blocks = Vec::new();
    }
    done.map_err(|error| internal(Scheme::Argon2).with("cause", error))
}

/// Makes a new hash. The parameters were checked.
pub(crate) fn make_argon2id(
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    password: &[u8],
    work: &mut Workspace,
) -> Result<String> {
    let params = Params::new(memory_kib, passes, lanes, None).map_err(|_| internal(Scheme::Argon2))?;
    let salt = random::<SALT_BYTES>()?;
    let mut digest = Zeroizing::new([0; DIGEST_BYTES]);
    fill(&Argon2::new(Algorithm::Argon2id, Version::V0x13, params), password, &salt, &mut *digest, work)?;
    Ok(text(memory_kib, passes, lanes, &salt, &*digest))
}

/// Makes a hash of no password, which costs as much to verify as a real one.
pub(crate) fn dummy_argon2id(memory_kib: u32, passes: u32, lanes: u32) -> Result<String> {
    Ok(text(memory_kib, passes, lanes, &random::<SALT_BYTES>()?, &random::<DIGEST_BYTES>()?))
}

fn text(memory_kib: u32, passes: u32, lanes: u32, salt: &[u8], digest: &[u8]) -> String {
    let (salt, digest) = (to_base64(salt), to_base64(digest));
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_wiped_and_bounded() {
        let mut work = Workspace::default();
        let mut kept = |memory_kib| {
            make_argon2id(memory_kib, 1, 1, b"hobbes", &mut work).unwrap();
            assert!(work.blocks.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
            work.blocks.len()
        };
        assert_eq!(kept(64), 64);
        assert_eq!(kept(8), 64);
        assert_eq!(kept(128), 128);
        assert_eq!(kept(65 * 1024), 0);
        assert_eq!(kept(8), 8);
    }

    #[test]
    fn what_was_in_the_memory_before_does_not_matter() {
        let mut work = Workspace::default();
        for memory_kib in [64, 8, 256, 16] {
            let made = make_argon2id(memory_kib, 2, 1, b"hobbes", &mut work).unwrap();
            let stored = Argon2Hash::read(&made).unwrap();
            let fresh = stored.compare(b"hobbes", &Salts::default(), &mut Workspace::default());
            assert_eq!(fresh.unwrap(), Compared::Same);
        }
    }
}
