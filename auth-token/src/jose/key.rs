//! Keys that are parsed once and kept ready.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey, RsaKeyPair, RsaSignatureEncoding};

/// A key that verifies with one algorithm.
pub(crate) enum VerifyingKey {
    Secret(Box<hmac::Key>),
    Public(Box<ParsedPublicKey>),
}

impl VerifyingKey {
    /// Reports whether the signature holds. Of a secret's, in a time that tells nothing.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey(..)")
    }
}

/// A key that signs with one algorithm.
pub(crate) enum SigningKey {
    Secret(Box<hmac::Key>),
    Ed25519(Box<Ed25519KeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>, &'static RsaSignatureEncoding),
}

impl SigningKey {
    /// Signs; `None` if the library can't, which has no cause that a caller could mend.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.try_sign(message).ok()?.as_ref().to_vec()),
            Self::Ecdsa(key) => Some(key.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}
