//! What is accepted, up to which cost, and what new hashes look like.

use std::collections::BTreeSet;

use auth_core::{Error, ErrorKind, Result};

use crate::scheme::{Scheme, Strength};

/// Which [weak](Strength::Weak) schemes may still open a door.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AcceptWeak {
    /// None of them.
    #[default]
    None,
    /// These.
    Only(BTreeSet<Scheme>),
    /// All of them.
    All,
}

/// The most that verifying one stored hash may cost. A hash over a bound is refused before any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct Limits {
    /// Memory of one argon2 or scrypt hash, in KiB.
    pub memory_kib: u64,
    /// Memory times passes of argon2, in KiB.
    pub argon2_work_kib: u64,
    /// Cost of bcrypt: two to this power.
    pub bcrypt_cost: u32,
    /// N times r times p of scrypt.
    pub scrypt_work: u64,
    /// Rounds of PBKDF2.
    pub pbkdf2_rounds: u64,
    /// Rounds of SHA-crypt, SHA1-crypt and phpass.
    pub crypt_rounds: u64,
}

impl Default for Limits {
    /// Bounds of a few seconds and 256 MiB: far over what anybody uses, far under what stops a machine.
    fn default() -> Self {
        Self {
            memory_kib: 256 * 1024,
            argon2_work_kib: 4 * 1024 * 1024,
            bcrypt_cost: 16,
            scrypt_work: 1 << 23,
            pbkdf2_rounds: 5_000_000,
            // A round also hashes the password, of up to 1,024 bytes, twice.
            crypt_rounds: 1_000_000,
        }
    }
}

/// The largest cost of bcrypt, whatever the limits.
pub(crate) const MAX_BCRYPT_COST: u32 = 31;

/// What new hashes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preferred {
    /// Argon2id.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// bcrypt `$2b$`. Passwords over 72 bytes are refused, since the rest would not count.
    Bcrypt {
        /// Two to this power.
        cost: u32,
    },
}

impl Default for Preferred {
    /// OWASP's first choice: argon2id with 19 MiB and two passes.
    fn default() -> Self {
        Self::Argon2id { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Preferred {
    /// Returns the default parameters of a scheme in which new hashes are made.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for any scheme but argon2 and bcrypt: others are only read.
    pub fn of_scheme(scheme: Scheme) -> Result<Self> {
        match scheme {
            Scheme::Argon2 => Ok(Self::default()),
            Scheme::Bcrypt => Ok(Self::Bcrypt { cost: 12 }),
            _ => Err(Error::new(ErrorKind::Invalid, "new hashes are made with argon2 or bcrypt only")
                .with("scheme", scheme)),
        }
    }

    /// Returns the scheme of what is made.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Argon2id { .. } => Scheme::Argon2,
            Self::Bcrypt { .. } => Scheme::Bcrypt,
        }
    }
}

/// What is accepted, up to which cost, and what new hashes look like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct Policy {
    /// Which weak schemes may still open a door.
    pub accept_weak: AcceptWeak,
    /// The most that verifying may cost.
    pub limits: Limits,
    /// What new hashes look like.
    pub preferred: Preferred,
    /// Whether a hash that is not as good as the preferred one is replaced after a right password.
    pub upgrade: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept_weak: AcceptWeak::default(),
            limits: Limits::default(),
            preferred: Preferred::default(),
            upgrade: true,
        }
    }
}

impl Policy {
    /// Makes the policy of a tool: every scheme is read.
    #[must_use]
    pub fn accept_all() -> Self {
        Self { accept_weak: AcceptWeak::All, ..Self::default() }
    }

    /// Checks that the preferred parameters are possible and within the limits.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if they are not.
    pub fn check(&self) -> Result<()> {
        let fault = |message| Err(Error::new(ErrorKind::Misconfigured, message));
        match self.preferred {
            Preferred::Argon2id { memory_kib, passes, lanes } => {
                let memory = u64::from(memory_kib);
                if lanes == 0 || passes == 0 || memory < u64::from(lanes) * 8 {
                    return fault("argon2 needs a pass, a lane, and 8 KiB of memory a lane");
                }
                self.limits.argon2(memory, u64::from(passes))
            }
            Preferred::Bcrypt { cost } if !(4..=MAX_BCRYPT_COST).contains(&cost) => {
                fault("the cost of bcrypt is 4 to 31")
            }
            Preferred::Bcrypt { cost } => self.limits.bcrypt(Scheme::Bcrypt, cost),
        }
    }

    /// Checks that a scheme may open a door.
    pub(crate) fn accepts(&self, scheme: Scheme) -> Result<()> {
        let accepted = match (scheme.strength(), &self.accept_weak) {
            (Strength::Strong, _) | (_, AcceptWeak::All) => true,
            (Strength::Weak, AcceptWeak::Only(schemes)) => schemes.contains(&scheme),
            (Strength::Weak, AcceptWeak::None) => false,
        };
        if accepted {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Misconfigured,
            "this hash scheme is not accepted; add it to password.accept_weak",
        )
        .with("scheme", scheme))
    }
}

impl Limits {
    pub(crate) fn argon2(&self, memory_kib: u64, passes: u64) -> Result<()> {
        within(Scheme::Argon2, "memory_kib", memory_kib, self.memory_kib)?;
        within(Scheme::Argon2, "argon2_work_kib", memory_kib.saturating_mul(passes), self.argon2_work_kib)
    }

    pub(crate) fn bcrypt(&self, scheme: Scheme, cost: u32) -> Result<()> {
        within(scheme, "bcrypt_cost", u64::from(cost), u64::from(self.bcrypt_cost))
    }

    pub(crate) fn scrypt(&self, scheme: Scheme, log_n: u64, r: u64, p: u64) -> Result<()> {
        let n = u32::try_from(log_n).ok().and_then(|log| 1_u64.checked_shl(log)).unwrap_or(u64::MAX);
        let bytes = r.saturating_mul(128).saturating_mul(n.max(p));
        within(scheme, "memory_kib", bytes.div_ceil(1024), self.memory_kib)?;
        within(scheme, "scrypt_work", n.saturating_mul(r).saturating_mul(p), self.scrypt_work)
    }

    pub(crate) fn pbkdf2(&self, scheme: Scheme, rounds: u64) -> Result<()> {
        within(scheme, "pbkdf2_rounds", rounds, self.pbkdf2_rounds)
    }

    pub(crate) fn crypt(&self, scheme: Scheme, rounds: u64) -> Result<()> {
        within(scheme, "crypt_rounds", rounds, self.crypt_rounds)
    }
}

fn within(scheme: Scheme, setting: &'static str, value: u64, limit: u64) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Misconfigured, "a stored hash costs more than is allowed")
        .with("scheme", scheme)
        .with("setting", format_args!("password.limits.{setting}"))
        .with("value", value)
        .with("limit", limit))
}
