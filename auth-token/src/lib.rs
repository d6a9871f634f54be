#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod access;
mod fsa;
mod jose;
mod jwt;
mod ring;

pub use access::{AccessFormat, Ends, Grant, Refusal, Valid};
pub use fsa::{FsaAlgorithm, FsaConfig, FsaFormat};
pub use jose::{
    Algorithm, Claims, Jwk, JwkSet, KeyType, MAX_NUMERIC_DATE, Policy, Purpose, Short, Signer, Verifier,
};
pub use jwt::{JwtConfig, JwtFormat, Profile};
pub use ring::{KeyRing, KeyState, RingConfig, RingEntry, Rotation};
