//! Making tokens.

use auth_core::{Error, ErrorKind, Result};

use super::key::SigningKey;
use super::{Algorithm, Jwk, Purpose, base64};

/// Makes tokens with one key and one algorithm.
#[derive(Debug)]
pub struct Signer {
    algorithm: Algorithm,
    key: SigningKey,
    /// The header as it begins every token, with the dot behind it.
    header: String,
}

impl Signer {
    /// Makes a signer. The header has `alg`, `kid` where the key has one, and `typ` where it is given.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the key may not sign, or not with this algorithm.
    pub fn new(key: &Jwk, algorithm: Option<Algorithm>, typ: Option<&str>) -> Result<Self> {
        key.allows(Purpose::Sign)?;
        let algorithm = algorithm.or_else(|| key.algorithm()).unwrap_or_else(|| key.key_type().algorithm());
        let signing = key.signing(algorithm).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the key is for another algorithm").with("algorithm", algorithm)
        })?;
        let header = header(algorithm, key.kid(), typ);
        Ok(Self { algorithm, key: signing, header })
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The header as it stands in tokens.
    pub(crate) fn header(&self) -> &str {
        self.header.strip_suffix('.').unwrap_or(&self.header)
    }

    /// Signs claims, which are given as the text of a JSON object.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if the library can't sign.
    pub fn sign(&self, claims: &str) -> Result<String> {
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        token.push_str(&base64(claims.as_bytes()));
        let signature = self.key.sign(token.as_bytes());
        let signature =
            signature.ok_or_else(|| Error::new(ErrorKind::Internal, "a token could not be signed"))?;
        token.push('.');
        token.push_str(&base64(&signature));
        Ok(token)
    }
}

fn header(algorithm: Algorithm, kid: Option<&str>, typ: Option<&str>) -> String {
    let mut header = format!("{{\"alg\":\"{algorithm}\"");
    for (name, value) in [("kid", kid), ("typ", typ)] {
        if let Some(value) = value {
            header.push_str(&format!(",\"{name}\":{}", serde_json::Value::from(value)));
        }
    }
    header.push('}');
    let mut encoded = base64(header.as_bytes());
    encoded.push('.');
    encoded
}
