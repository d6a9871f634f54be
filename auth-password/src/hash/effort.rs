//! How long a step of each scheme takes, in nanoseconds on a common server.
//!
//! Only the ratios matter, and only roughly: they tell the hashes that are far cheaper than a new one.
//! Rather too low than too high, since too low costs time and too high shows who exists.

/// One KiB of argon2 in one pass.
pub(super) const ARGON2_KIB: u64 = 600;
/// One of the two-to-the-cost rounds of bcrypt.
pub(super) const BCRYPT_ROUND: u64 = 55_000;
/// One of N times r times p of scrypt.
pub(super) const SCRYPT_BLOCK: u64 = 250;
/// One round of PBKDF2 with SHA-1.
pub(super) const PBKDF2_SHA1_ROUND: u64 = 200;
/// One round of PBKDF2 with SHA-224 or SHA-256.
pub(super) const PBKDF2_SHA256_ROUND: u64 = 250;
/// One round of PBKDF2 with SHA-384 or SHA-512.
pub(super) const PBKDF2_SHA512_ROUND: u64 = 600;
/// One round of `$5$`.
pub(super) const SHA256_CRYPT_ROUND: u64 = 100;
/// One round of `$6$`.
pub(super) const SHA512_CRYPT_ROUND: u64 = 400;
/// One round of `$sha1$`.
pub(super) const SHA1_CRYPT_ROUND: u64 = 200;
/// One round of phpass.
pub(super) const PHPASS_ROUND: u64 = 150;
