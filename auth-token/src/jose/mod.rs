//! JSON web tokens, signatures and keys under a policy that leaves nothing open.
//!
//! The primitives and the parsing of keys are AWS-LC's; what may be said in which form is decided here.

mod alg;
mod json;
mod jwk;
mod key;
mod pem;
mod set;
mod sign;
mod verify;
#[cfg(test)]
mod wycheproof;

pub use alg::{Algorithm, KeyType};
pub use jwk::{Jwk, Purpose, Short};
pub use set::JwkSet;
pub use sign::Signer;
pub use verify::{Claims, MAX_NUMERIC_DATE, Policy, Verifier};

pub(crate) use json::{Node, Object};
pub(crate) use verify::Dates;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Decodes base64url: no padding, no other characters, no bits left over.
pub(crate) fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Encodes as base64url without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
