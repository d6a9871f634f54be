#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod access;
mod fsa;
mod jose;
mod jwt;
mod memory;
mod ring;
mod service;

pub use access::{AccessFormat, Ends, Grant, Refusal, Valid};
pub use fsa::{FsaAlgorithm, FsaConfig, FsaFormat};
pub use jose::{
    Algorithm, Claims, Jwk, JwkSet, KeyType, MAX_NUMERIC_DATE, Policy, Purpose, Short, Signer, Verifier,
};
pub use jwt::{JwtConfig, JwtFormat, Profile};
pub use memory::MemoryFamilies;
pub use ring::{KeyRing, KeyState, RingConfig, RingEntry, Rotation};
pub use service::{
    Bearing, Checked, ClaimsFor, GrantRefusal, Granted, GroupClaims, Invalid, LoggedOut, LoginAsk,
    MIN_SECRET_BYTES, NoClaims, NoThrottle, NoTokenCache, OnReuse, Parts, REFRESH_PREFIX, RefreshSecrets,
    Refused, RenewAsk, Session, Throttle, TokenService, TokenSettings, Tokens, claims_of,
};
