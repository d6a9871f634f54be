//! Refresh tokens: derived from the server's secret, never stored.

use std::fmt;

use auth_core::{Error, ErrorKind, FamilyId, Result};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// What a refresh token begins with, so that scanners of source code and logs know one.
pub const REFRESH_PREFIX: &str = "gpr_";

/// The version of the form.
const VERSION: u8 = 1;

/// Version, family, generation.
const HEAD: usize = 1 + 16 + 4;
const TAG: usize = 32;
const LENGTH: usize = HEAD + TAG;

/// The characters of a token after its prefix.
const TEXT: usize = LENGTH.div_ceil(3) * 4 - (3 - LENGTH % 3) % 3;

/// The fewest bytes of a server's secret.
pub const MIN_SECRET_BYTES: usize = 32;

/// One of the server's secrets.
struct Secret {
    name: String,
    bytes: Zeroizing<Vec<u8>>,
}

/// The server's secrets, which refresh tokens are derived from: the first makes those of new families, the others go on for
/// families that they were begun with.
///
/// A token is [`REFRESH_PREFIX`] and, in base64url, a version, the family's id, the generation, and an HMAC-SHA-256 of
/// all that under a key of the family: HKDF-SHA-256 (RFC 5869) of the secret, salted with the id. Whoever reads the store
/// can make none, and whatever is not authentic is refused without asking the store.
pub struct RefreshSecrets(Vec<Secret>);

impl RefreshSecrets {
    /// Takes secrets by name, the present one first.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if there is none, one is shorter than [`MIN_SECRET_BYTES`], or names
    /// are empty, too long or the same.
    pub fn new(secrets: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        let wrong = |message: &'static str| Error::new(ErrorKind::Misconfigured, message);
        let mut taken: Vec<Secret> = Vec::new();
        for (name, bytes) in secrets {
            let bytes = Zeroizing::new(bytes);
            if bytes.len() < MIN_SECRET_BYTES {
                return Err(wrong("a secret of refresh tokens has at least 32 bytes").with("name", name));
            }
            if name.is_empty() || name.len() > auth_core::Family::MAX_SECRET_NAME_BYTES {
                return Err(wrong("the name of a secret has 1 to 64 bytes"));
            }
            if taken.iter().any(|other| other.name == name) {
                return Err(wrong("two secrets of refresh tokens have one name").with("name", name));
            }
            taken.push(Secret { name, bytes });
        }
        if taken.is_empty() {
            return Err(wrong("refresh tokens need a secret"));
        }
        Ok(Self(taken))
    }

    /// The name of the secret of new families.
    pub(super) fn present(&self) -> &str {
        self.0.first().map_or("", |secret| &secret.name)
    }

    /// Makes a token; nothing if the secret is no longer known.
    pub(super) fn token(
        &self,
        secret: &str,
        realm: &str,
        family: FamilyId,
        generation: u32,
    ) -> Option<Zeroizing<String>> {
        let secret = self.0.iter().find(|known| known.name == secret)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.push(VERSION);
        bytes.extend_from_slice(family.as_bytes());
        bytes.extend_from_slice(&generation.to_be_bytes());
        let tag = hmac::sign(&secret.key(realm, family)?, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        let mut text = Zeroizing::new(String::with_capacity(REFRESH_PREFIX.len() + TEXT));
        text.push_str(REFRESH_PREFIX);
        URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text);
        Some(text)
    }

    /// Reads a token of this realm; nothing unless it is authentic.
    pub(super) fn read(&self, realm: &str, token: &str) -> Option<Shown<'_>> {
        let text = token.strip_prefix(REFRESH_PREFIX).filter(|text| text.len() == TEXT)?;
        let mut bytes = Zeroizing::new([0; LENGTH]);
        // Strict: no padding, no other alphabet, no loose bits.
        if URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()? != LENGTH {
            return None;
        }
        let (head, tag) = bytes.split_first_chunk::<HEAD>()?;
        let ([version], rest) = head.split_first_chunk::<1>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let generation = u32::from_be_bytes(*rest.first_chunk::<4>()?);
        let family = FamilyId::new(*id);
        if *version != VERSION {
            return None;
        }
        // Compared in constant time.
        let secret = self.0.iter().find(|secret| {
            secret.key(realm, family).is_some_and(|key| hmac::verify(&key, head, tag).is_ok())
        })?;
        Some(Shown { family, generation, secret: &secret.name })
    }

    /// Derives a key for something else from the present secret.
    pub(super) fn derived(&self, purpose: &[u8], realm: &str) -> Zeroizing<[u8; 32]> {
        let bytes: &[u8] = self.0.first().map_or(&[], |secret| &secret.bytes);
        let mut key = Zeroizing::new([0; 32]);
        let pseudo = Salt::new(HKDF_SHA256, purpose).extract(bytes);
        // 32 bytes are never too many.
        if let Ok(out) = pseudo.expand(&[realm.as_bytes()], Key32) {
            let _filled = out.fill(&mut *key);
        }
        key
    }
}

impl Secret {
    /// The key of a family.
    fn key(&self, realm: &str, family: FamilyId) -> Option<hmac::Key> {
        let pseudo = Salt::new(HKDF_SHA256, family.as_bytes()).extract(&self.bytes);
        let mut key = Zeroizing::new([0; 32]);
        let info: [&[u8]; 2] = [b"gatepost refresh token 1\0", realm.as_bytes()];
        pseudo.expand(&info, Key32).ok()?.fill(&mut *key).ok()?;
        Some(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }
}

/// A length, as HKDF wants it.
struct Key32;

impl KeyType for Key32 {
    fn len(&self) -> usize {
        32
    }
}

impl fmt::Debug for RefreshSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|secret| &secret.name)).finish()
    }
}

/// An authentic token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    pub(super) family: FamilyId,
    pub(super) generation: u32,
    /// The secret that it was made with.
    pub(super) secret: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(names: &[&str]) -> RefreshSecrets {
        let each = names.iter().map(|name| ((*name).to_owned(), name.as_bytes().repeat(40)));
        RefreshSecrets::new(each).unwrap()
    }

    const FAMILY: FamilyId = FamilyId::new([7; 16]);

    #[test]
    fn a_token_is_read_as_it_was_made_and_no_other_is() {
        let secrets = secrets(&["b", "a"]);
        for (secret, generation) in [("b", 1), ("a", 0x0102_0304), ("b", u32::MAX)] {
            let token = secrets.token(secret, "default", FAMILY, generation).unwrap();
            assert!(token.starts_with("gpr_") && token.len() == 4 + TEXT, "{}", token.len());
            let shown = secrets.read("default", &token).unwrap();
            assert_eq!(shown, Shown { family: FAMILY, generation, secret });
            assert_eq!(secrets.read("other", &token), None);
            for at in 0..token.len() {
                let mut bytes = token.as_bytes().to_vec();
                for other in [b'A', b'b', b'-', b'=', b'+'] {
                    let was = std::mem::replace(&mut bytes[at], other);
                    if was != other {
                        assert_eq!(
                            secrets.read("default", std::str::from_utf8(&bytes).unwrap()),
                            None,
                            "{at}"
                        );
                    }
                    bytes[at] = was;
                }
                assert_eq!(secrets.read("default", &token[..at]), None);
            }
            for near in [format!("{}=", *token), format!(" {}", *token), token.to_uppercase()] {
                assert_eq!(secrets.read("default", &near), None, "{near}");
            }
        }
    }

    #[test]
    fn families_generations_realms_and_secrets_have_tokens_of_their_own() {
        let known = secrets(&["a", "b"]);
        let one = known.token("a", "default", FAMILY, 1).unwrap();
        assert_eq!(known.token("a", "default", FAMILY, 1).unwrap(), one, "made again, it is the same");
        for other in [
            known.token("b", "default", FAMILY, 1).unwrap(),
            known.token("a", "other", FAMILY, 1).unwrap(),
            known.token("a", "default", FamilyId::new([8; 16]), 1).unwrap(),
            known.token("a", "default", FAMILY, 2).unwrap(),
        ] {
            assert_ne!(other, one);
        }
        assert_eq!(secrets(&["b"]).read("default", &one), None, "its secret is no longer known");
        assert!(known.token("c", "default", FAMILY, 1).is_none());
    }

    #[test]
    fn secrets_that_are_weak_or_mixed_up_are_refused() {
        let taken = |each: &[(&str, usize)]| {
            RefreshSecrets::new(each.iter().map(|(name, length)| ((*name).to_owned(), vec![1; *length])))
                .is_ok()
        };
        assert!(taken(&[("a", 32), ("b", 64)]));
        let (longest, longer) = ("n".repeat(64), "n".repeat(65));
        assert!(taken(&[(&longest, 32)]));
        for wrong in [&[][..], &[("a", 31)], &[("", 32)], &[("a", 32), ("a", 33)], &[(&longer, 32)]] {
            assert!(!taken(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_else_is_derived_is_another_key_for_each_purpose_realm_and_secret() {
        let both = secrets(&["a", "b"]);
        let keys = [
            both.derived(b"one", "default"),
            both.derived(b"two", "default"),
            both.derived(b"one", "other"),
            secrets(&["b", "a"]).derived(b"one", "default"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| **other != **key) && **key != [0; 32]);
        }
        assert_eq!(*both.derived(b"one", "default"), *keys[0], "derived again, it is the same");
    }

    #[test]
    fn nothing_shows_a_secret() {
        assert_eq!(format!("{:?}", secrets(&["a", "b"])), r#"{"a", "b"}"#);
    }
}
