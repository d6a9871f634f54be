//! One pass of a fast hash, or none.

use auth_core::Result;
use md4::Md4;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Compared, Salts, Stored, Workspace};
use crate::encoding::{ascii85, base64, hex};
use crate::scheme::{Scheme, strip_brace};

#[derive(Clone, Copy)]
enum Kind {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    // MD4 of UTF-16.
    Nt,
    // SHA-1 of SHA-1.
    Mysql,
    // SHA-1 of UTF-16 and salt.
    Mssql,
    // MD5 of password and login.
    Postgres,
    // MD5 of login, realm and password.
    Ha1,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Salt {
    None,
    Appended,
}

pub(super) struct FastDigest {
    kind: Kind,
    salt: Vec<u8>,
    digest: Zeroizing<Vec<u8>>,
}

impl FastDigest {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        let ldap = |prefix, kind, salt| Self::new(kind, base64(strip_brace(hash, prefix)?)?, salt);
        let bare = |prefix, kind| Self::new(kind, hex(hash.strip_prefix(prefix)?)?, Salt::None);
        match scheme {
            Scheme::LdapMd5 => ldap("{MD5}", Kind::Md5, Salt::None),
            Scheme::LdapSaltedMd5 => ldap("{SMD5}", Kind::Md5, Salt::Appended),
            Scheme::LdapSha1 => ldap("{SHA}", Kind::Sha1, Salt::None),
            Scheme::LdapSaltedSha1 => ldap("{SSHA}", Kind::Sha1, Salt::Appended),
            Scheme::LdapSaltedSha256 => ldap("{SSHA256}", Kind::Sha256, Salt::Appended),
            Scheme::LdapSaltedSha512 => ldap("{SSHA512}", Kind::Sha512, Salt::Appended),
            Scheme::HexMd5 => bare("", Kind::Md5),
            Scheme::HexSha1 => bare("", Kind::Sha1),
            Scheme::HexSha256 => bare("", Kind::Sha256),
            Scheme::HexSha512 => bare("", Kind::Sha512),
            Scheme::Nthash => bare("", Kind::Nt),
            Scheme::Mysql41 => bare("*", Kind::Mysql),
            Scheme::PostgresMd5 => bare("md5", Kind::Postgres),
            Scheme::DigestHa1 => bare("", Kind::Ha1),
            Scheme::Mssql2005 => {
                let bytes = hex(hash.strip_prefix("0x0100")?)?;
                let (salt, digest) = bytes.split_at_checked(4)?;
                (digest.len() == 20).then(|| Self {
                    kind: Kind::Mssql,
                    salt: salt.to_vec(),
                    digest: Zeroizing::new(digest.to_vec()),
                })
            }
            _ => None,
        }
    }

    fn new(kind: Kind, mut bytes: Vec<u8>, salt: Salt) -> Option<Self> {
        let digest_bytes = match kind {
            Kind::Md5 | Kind::Nt | Kind::Postgres | Kind::Ha1 => 16,
            Kind::Sha1 | Kind::Mysql | Kind::Mssql => 20,
            Kind::Sha256 => 32,
            Kind::Sha512 => 64,
        };
        if bytes.len() < digest_bytes {
            return None;
        }
        let rest = bytes.split_off(digest_bytes);
        (rest.is_empty() == (salt == Salt::None) && rest.len() <= 64).then(|| Self {
            kind,
            salt: rest,
            digest: Zeroizing::new(bytes),
        })
    }
}

impl Stored for FastDigest {
    fn compare(&self, password: &[u8], salts: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        let found = match self.kind {
            Kind::Md5 => over::<Md5>(&[password, &self.salt]),
            Kind::Sha1 => over::<Sha1>(&[password, &self.salt]),
            Kind::Sha256 => over::<Sha256>(&[password, &self.salt]),
            Kind::Sha512 => over::<Sha512>(&[password, &self.salt]),
            Kind::Mysql => over::<Sha1>(&[&over::<Sha1>(&[password])]),
            Kind::Postgres => over::<Md5>(&[password, salts.login.as_bytes()]),
            Kind::Ha1 => {
                let (login, realm) = (salts.login.as_bytes(), salts.realm.as_bytes());
                over::<Md5>(&[login, b":", realm, b":", password])
            }
            Kind::Nt | Kind::Mssql => {
                // What is not text can't have been hashed as text.
                let Some(utf16) = utf16(password) else { return Ok(Compared::Different) };
                match self.kind {
                    Kind::Nt => over::<Md4>(&[&utf16]),
                    _ => over::<Sha1>(&[&utf16, &self.salt]),
                }
            }
        };
        Ok(found.ct_eq(&self.digest).into())
    }
}

fn over<D: Digest>(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    Zeroizing::new(digest.finalize().to_vec())
}

fn utf16(password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(password).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    Some(bytes)
}

/// The password itself, clear or in a reversible coat.
pub(super) struct Clear(Zeroizing<Vec<u8>>);

impl Clear {
    pub(super) fn read(scheme: Scheme, hash: &str) -> Option<Self> {
        let bytes = match scheme {
            Scheme::FsaA85 => ascii85(hash)?,
            Scheme::FsaB64 => Zeroizing::new(base64(hash)?),
            // Some other scheme's hash under this name is not a password.
            Scheme::LdapPlaintext if hash.starts_with('{') && hash.contains('}') => return None,
            _ => Zeroizing::new(hash.as_bytes().to_vec()),
        };
        (!bytes.is_empty()).then_some(Self(bytes))
    }
}

impl Stored for Clear {
    fn compare(&self, password: &[u8], _: &Salts<'_>, _: &mut Workspace) -> Result<Compared> {
        // Compared as hashes (in constant time), so that not even the length shows.
        Ok((blake3::hash(password) == blake3::hash(&self.0)).into())
    }
}
