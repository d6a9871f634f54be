//! The algorithms that tokens are signed with.

use std::fmt;

use aws_lc_rs::signature::{
    self, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, RsaParameters, RsaSignatureEncoding,
};
use aws_lc_rs::{digest, hmac};

/// What a token is signed with.
///
/// `none` is not one of them and never will be. `EdDSA` and `Ed25519` (RFC 9864) are two names of one algorithm: what is
/// signed under one name is verified with a key that has the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS#1 1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 1.5 with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// RSA-PSS with SHA-384.
    Ps384,
    /// RSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519, under the name that everybody knows: `EdDSA`.
    EdDsa,
    /// Ed25519, under its own name.
    Ed25519,
}

/// What kind of key an algorithm needs: `kty`, and `crv` where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// A secret that both sides have: `oct`.
    Oct,
    /// `RSA`.
    Rsa,
    /// `EC` with `P-256`.
    P256,
    /// `EC` with `P-384`.
    P384,
    /// `EC` with `P-521`.
    P521,
    /// `OKP` with `Ed25519`.
    Ed25519,
}

impl KeyType {
    /// Reports whether everybody who can verify can also sign.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Oct)
    }

    /// Returns the algorithm that a key of this kind is used with when nothing else is said.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Oct => Algorithm::Hs256,
            Self::Rsa => Algorithm::Rs256,
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    pub(crate) const fn kty(self) -> &'static str {
        match self {
            Self::Oct => "oct",
            Self::Rsa => "RSA",
            Self::P256 | Self::P384 | Self::P521 => "EC",
            Self::Ed25519 => "OKP",
        }
    }

    pub(crate) const fn crv(self) -> Option<&'static str> {
        match self {
            Self::Oct | Self::Rsa => None,
            Self::P256 => Some("P-256"),
            Self::P384 => Some("P-384"),
            Self::P521 => Some("P-521"),
            Self::Ed25519 => Some("Ed25519"),
        }
    }

    /// The bytes of a coordinate, and of a private key.
    pub(crate) const fn field_bytes(self) -> usize {
        match self {
            Self::P384 => 48,
            Self::P521 => 66,
            Self::Oct | Self::Rsa | Self::P256 | Self::Ed25519 => 32,
        }
    }
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 14] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// Finds an algorithm by its name, which is compared as it is.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Returns the name that stands in `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Returns the kind of key that it needs.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyType::Oct,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyType::Rsa,
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::Es512 => KeyType::P521,
            Self::EdDsa | Self::Ed25519 => KeyType::Ed25519,
        }
    }

    /// Reports whether both are the same, whatever they are called.
    #[must_use]
    pub fn is(self, other: Self) -> bool {
        let plain = |algorithm| if algorithm == Self::Ed25519 { Self::EdDsa } else { algorithm };
        plain(self) == plain(other)
    }

    /// The bytes that a secret must have at least (RFC 7518, 3.2).
    pub(crate) const fn secret_bytes(self) -> usize {
        match self {
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 32,
        }
    }

    pub(crate) const fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    pub(crate) const fn rsa(self) -> Option<(&'static RsaParameters, &'static RsaSignatureEncoding)> {
        match self {
            Self::Rs256 => Some((&signature::RSA_PKCS1_2048_8192_SHA256, &signature::RSA_PKCS1_SHA256)),
            Self::Rs384 => Some((&signature::RSA_PKCS1_2048_8192_SHA384, &signature::RSA_PKCS1_SHA384)),
            Self::Rs512 => Some((&signature::RSA_PKCS1_2048_8192_SHA512, &signature::RSA_PKCS1_SHA512)),
            Self::Ps256 => Some((&signature::RSA_PSS_2048_8192_SHA256, &signature::RSA_PSS_SHA256)),
            Self::Ps384 => Some((&signature::RSA_PSS_2048_8192_SHA384, &signature::RSA_PSS_SHA384)),
            Self::Ps512 => Some((&signature::RSA_PSS_2048_8192_SHA512, &signature::RSA_PSS_SHA512)),
            _ => None,
        }
    }

    pub(crate) const fn ecdsa(
        self,
    ) -> Option<(&'static EcdsaVerificationAlgorithm, &'static EcdsaSigningAlgorithm)> {
        match self {
            Self::Es256 => {
                Some((&signature::ECDSA_P256_SHA256_FIXED, &signature::ECDSA_P256_SHA256_FIXED_SIGNING))
            }
            Self::Es384 => {
                Some((&signature::ECDSA_P384_SHA384_FIXED, &signature::ECDSA_P384_SHA384_FIXED_SIGNING))
            }
            Self::Es512 => {
                Some((&signature::ECDSA_P521_SHA512_FIXED, &signature::ECDSA_P521_SHA512_FIXED_SIGNING))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}
