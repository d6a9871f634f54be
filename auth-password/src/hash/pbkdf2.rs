//! PBKDF2 in the formats of passlib, LDAP, Django, GRUB and SCRAM.

use std::borrow::Cow;

use auth_core::Result;
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace, effort, internal};
use crate::encoding::{base64, dotted64, hex, number};
use crate::policy::Limits;
use crate::scheme::{Scheme, strip_brace};

#[derive(Clone, Copy)]
enum Prf {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Prf {
    const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    const fn round_effort(self) -> u64 {
        match self {
            Self::Sha1 => effort::PBKDF2_SHA1_ROUND,
            Self::Sha224 | Self::Sha256 => effort::PBKDF2_SHA256_ROUND,
            Self::Sha384 | Self::Sha512 => effort::PBKDF2_SHA512_ROUND,
        }
    }
}

pub(super) struct Pbkdf2Hash {
    scheme: Scheme,
    prf: Prf,
    rounds: u64,
    salt: Vec<u8>,
    digest: Zeroizing<Vec<u8>>,
}

impl Pbkdf2Hash {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        let (prf, rest) = match scheme {
            Scheme::Pbkdf2Sha1 => (Prf::Sha1, hash.strip_prefix("$pbkdf2$")?),
            Scheme::Pbkdf2Sha256 => (Prf::Sha256, hash.strip_prefix("$pbkdf2-sha256$")?),
            Scheme::Pbkdf2Sha512 => (Prf::Sha512, hash.strip_prefix("$pbkdf2-sha512$")?),
            Scheme::LdapPbkdf2Sha256 => (Prf::Sha256, strip_brace(hash, "{PBKDF2-SHA256}")?),
            Scheme::DjangoPbkdf2Sha256 => (Prf::Sha256, hash.strip_prefix("pbkdf2_sha256$")?),
            Scheme::GrubPbkdf2Sha512 => (Prf::Sha512, hash.strip_prefix("grub.pbkdf2.sha512.")?),
            Scheme::Scram => return Self::read_scram(hash.strip_prefix("$scram$")?),
            _ => return None,
        };
        let mut fields = rest.split(if matches!(scheme, Scheme::GrubPbkdf2Sha512) { '.' } else { '$' });
        let (rounds, salt, digest) = (number(fields.next()?)?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let (salt, digest) = match scheme {
            Scheme::GrubPbkdf2Sha512 => (hex(salt)?, hex(digest)?),
            Scheme::DjangoPbkdf2Sha256 => (salt.as_bytes().to_vec(), base64(digest)?),
            _ => (dotted64(salt)?, dotted64(digest)?),
        };
        Self::new(scheme, prf, rounds, salt, digest)
    }

    // `rounds$salt$sha-1=digest,sha-256=digest`: one password, so the best known digest will do.
    fn read_scram(rest: &str) -> Option<Self> {
        let mut fields = rest.split('$');
        let (rounds, salt) = (number(fields.next()?)?, dotted64(fields.next()?)?);
        let digests = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        let pairs = digests.split(',').map(|pair| pair.split_once('=')).collect::<Option<Vec<_>>>()?;
        const BY_PREFERENCE: [(&str, Prf); 5] = [
            ("sha-256", Prf::Sha256),
            ("sha-512", Prf::Sha512),
            ("sha-224", Prf::Sha224),
            ("sha-384", Prf::Sha384),
            ("sha-1", Prf::Sha1),
        ];
        let best = BY_PREFERENCE.iter().find_map(|(name, prf)| {
            pairs.iter().find(|(found, _)| found == name).map(|(_, digest)| (*prf, *digest))
        });
        let (prf, digest) = best?;
        Self::new(Scheme::Scram, prf, rounds, salt, dotted64(digest)?)
    }

    fn new(scheme: Scheme, prf: Prf, rounds: u64, salt: Vec<u8>, digest: Vec<u8>) -> Option<Self> {
        let digest = Zeroizing::new(digest);
        (rounds > 0 && salt.len() <= 1024 && digest.len() == prf.digest_bytes()).then_some(Self {
            scheme,
            prf,
            rounds,
            salt,
            digest,
        })
    }
}

impl Stored for Pbkdf2Hash {
    fn within(&self, scheme: Scheme, limits: &Limits) -> Result<()> {
        limits.pbkdf2(scheme, self.rounds)
    }

    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let (mut prepared, mut possible) = (None, true);
        if matches!(self.scheme, Scheme::Scram) {
            let text = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
            prepared = text.map(|text| Zeroizing::new(Cow::into_owned(text)));
            // What SASLprep forbids can't have been hashed. The work is done all the same: a fast no would
            // show that there is such a hash.
            possible = prepared.is_some();
        }
        let password = prepared.as_ref().map_or(password, |text| text.as_bytes());
        let rounds = u32::try_from(self.rounds).map_err(|_| internal(self.scheme))?;
        let mut found = Zeroizing::new(vec![0; self.digest.len()]);
        match self.prf {
            Prf::Sha1 => pbkdf2_hmac::<Sha1>(password, &self.salt, rounds, &mut found),
            Prf::Sha224 => pbkdf2_hmac::<Sha224>(password, &self.salt, rounds, &mut found),
            Prf::Sha256 => pbkdf2_hmac::<Sha256>(password, &self.salt, rounds, &mut found),
            Prf::Sha384 => pbkdf2_hmac::<Sha384>(password, &self.salt, rounds, &mut found),
            Prf::Sha512 => pbkdf2_hmac::<Sha512>(password, &self.salt, rounds, &mut found),
        }
        Ok((found.ct_eq(&self.digest) & subtle::Choice::from(u8::from(possible))).into())
    }

    fn effort(&self) -> u64 {
        self.rounds.saturating_mul(self.prf.round_effort())
    }

    fn reads_all_of(&self, password: &[u8]) -> bool {
        // SASLprep makes one of several spellings.
        !matches!(self.scheme, Scheme::Scram) || password.is_ascii()
    }
}
