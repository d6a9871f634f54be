//! The names of hash formats, and which hash names its own.

/// How much a stored hash resists somebody who has stolen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a format is one or the other; policy has two rules")]
pub enum Strength {
    /// Costly and salted, or not a password at all (one-time codes).
    Strong,
    /// Fast, unsalted, clear, or made of broken parts. Accepted only where policy names it.
    Weak,
}

macro_rules! schemes {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $strength:ident, $named:literal;)*) => {
        /// A hash format, by the name that a `scheme` column or the command line gives it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Scheme {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Scheme {
            /// Every scheme.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name of every scheme, in the order of [`ALL`](Self::ALL).
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Returns the name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Tells how much a stored hash of this scheme resists.
            #[must_use]
            pub const fn strength(self) -> Strength {
                match self { $(Self::$variant => Strength::$strength,)* }
            }

            /// Reports whether [`identify`] knows a hash of this scheme by its look.
            #[must_use]
            pub const fn names_itself(self) -> bool {
                match self { $(Self::$variant => $named,)* }
            }
        }
    };
}

schemes! {
    /// `$2a$`, `$2b$`, `$2y$`; the first 72 bytes of a password count.
    Bcrypt = "bcrypt", Strong, true;
    /// `$argon2id$`, `$argon2i$`, `$argon2d$`.
    Argon2 = "argon2", Strong, true;
    /// passlib's `$pbkdf2-sha256$`.
    Pbkdf2Sha256 = "pbkdf2_sha256", Strong, true;
    /// passlib's `$pbkdf2-sha512$`.
    Pbkdf2Sha512 = "pbkdf2_sha512", Strong, true;
    /// passlib's `$pbkdf2$`.
    Pbkdf2Sha1 = "pbkdf2_sha1", Strong, true;
    /// `$5$` of Unix.
    Sha256Crypt = "sha256_crypt", Strong, true;
    /// `$6$` of Unix.
    Sha512Crypt = "sha512_crypt", Strong, true;
    /// `$apr1$` of Apache.
    AprMd5Crypt = "apr_md5_crypt", Weak, true;
    /// `{SSHA}` of LDAP.
    LdapSaltedSha1 = "ldap_salted_sha1", Weak, true;
    /// `{SHA}` of LDAP and of Apache.
    LdapSha1 = "ldap_sha1", Weak, true;
    /// `{MD5}` of LDAP.
    LdapMd5 = "ldap_md5", Weak, true;
    /// `{SMD5}` of LDAP.
    LdapSaltedMd5 = "ldap_salted_md5", Weak, true;
    /// `{SSHA256}` of LDAP.
    LdapSaltedSha256 = "ldap_salted_sha256", Weak, true;
    /// `{SSHA512}` of LDAP.
    LdapSaltedSha512 = "ldap_salted_sha512", Weak, true;
    /// `{PBKDF2-SHA256}` of LDAP.
    LdapPbkdf2Sha256 = "ldap_pbkdf2_sha256", Strong, true;
    /// The password itself.
    Plaintext = "plaintext", Weak, false;
    /// The password itself, unless it looks like `{SCHEME}`.
    LdapPlaintext = "ldap_plaintext", Weak, false;
    /// Django's `pbkdf2_sha256$`.
    DjangoPbkdf2Sha256 = "django_pbkdf2_sha256", Strong, true;
    /// passlib's `$bcrypt-sha256$`, both versions.
    BcryptSha256 = "bcrypt_sha256", Strong, true;
    /// `$P$` and `$H$` of PHP's phpass: WordPress, phpBB.
    Phpass = "phpass", Weak, true;
    /// MD5 in hex.
    HexMd5 = "hex_md5", Weak, false;
    /// SHA-1 in hex.
    HexSha1 = "hex_sha1", Weak, false;
    /// SHA-256 in hex.
    HexSha256 = "hex_sha256", Weak, false;
    /// SHA-512 in hex.
    HexSha512 = "hex_sha512", Weak, false;
    /// `md5` of PostgreSQL, salted with the login.
    PostgresMd5 = "postgres_md5", Weak, true;
    /// `0x0100` of Microsoft SQL Server 2005.
    Mssql2005 = "mssql2005", Weak, true;
    /// `$sha1$` of NetBSD.
    Sha1Crypt = "sha1_crypt", Weak, true;
    /// `grub.pbkdf2.sha512.` of the GRUB boot loader.
    GrubPbkdf2Sha512 = "grub_pbkdf2_sha512", Strong, true;
    /// passlib's `$scram$`.
    Scram = "scram", Strong, true;
    /// HTTP digest's HA1: MD5 of login, realm and password in hex.
    DigestHa1 = "digest_ha1", Weak, false;
    /// passlib's `$scrypt$`.
    Scrypt = "scrypt", Strong, true;
    /// `$1$` of Unix.
    Md5Crypt = "md5_crypt", Weak, true;
    /// Django's `bcrypt_sha256$`.
    DjangoBcryptSha256 = "django_bcrypt_sha256", Strong, true;
    /// The NT hash of Windows and Samba.
    Nthash = "nthash", Weak, false;
    /// `*` and 40 hex digits of MySQL 4.1 and later.
    Mysql41 = "mysql41", Weak, true;
    /// DES crypt of Unix; the first eight bytes of a password count.
    DesCrypt = "des_crypt", Weak, false;
    /// FlaskSimpleAuth's ascii85 of the password.
    FsaA85 = "fsa:a85", Weak, false;
    /// FlaskSimpleAuth's base64 of the password.
    FsaB64 = "fsa:b64", Weak, false;
    /// FlaskSimpleAuth's ascii85 of a file in scrypt's format.
    FsaScrypt = "fsa:scrypt", Strong, false;
    /// FlaskSimpleAuth's bcrypt; its hashes look like [`Bcrypt`](Self::Bcrypt).
    FsaBcrypt = "fsa:bcrypt", Strong, false;
    /// FlaskSimpleAuth's argon2; its hashes look like [`Argon2`](Self::Argon2).
    FsaArgon2 = "fsa:argon2", Strong, false;
    /// FlaskSimpleAuth's clear password.
    FsaPlaintext = "fsa:plaintext", Weak, false;
    /// A base32 secret whose six-digit code of the half minute is the password (RFC 6238).
    Totp = "totp", Strong, false;
}

impl Scheme {
    /// Finds a scheme by its name.
    ///
    /// ```
    /// use auth_password::Scheme;
    /// assert_eq!(Scheme::from_name("bcrypt"), Some(Scheme::Bcrypt));
    /// assert_eq!(Scheme::from_name("rot13"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scheme| scheme.name() == name)
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const PREFIXES: &[(&str, Scheme)] = &[
    ("$2a$", Scheme::Bcrypt),
    ("$2b$", Scheme::Bcrypt),
    ("$2y$", Scheme::Bcrypt),
    ("$argon2id$", Scheme::Argon2),
    ("$argon2i$", Scheme::Argon2),
    ("$argon2d$", Scheme::Argon2),
    ("$pbkdf2-sha256$", Scheme::Pbkdf2Sha256),
    ("$pbkdf2-sha512$", Scheme::Pbkdf2Sha512),
    ("$pbkdf2$", Scheme::Pbkdf2Sha1),
    ("$5$", Scheme::Sha256Crypt),
    ("$6$", Scheme::Sha512Crypt),
    ("$apr1$", Scheme::AprMd5Crypt),
    ("$1$", Scheme::Md5Crypt),
    ("$sha1$", Scheme::Sha1Crypt),
    ("$P$", Scheme::Phpass),
    ("$H$", Scheme::Phpass),
    ("$scrypt$", Scheme::Scrypt),
    ("$scram$", Scheme::Scram),
    ("$bcrypt-sha256$", Scheme::BcryptSha256),
    ("bcrypt_sha256$", Scheme::DjangoBcryptSha256),
    ("pbkdf2_sha256$", Scheme::DjangoPbkdf2Sha256),
    ("grub.pbkdf2.sha512.", Scheme::GrubPbkdf2Sha512),
];

// RFC 2307 has these in any case.
const BRACED: &[(&str, Scheme)] = &[
    ("{SSHA}", Scheme::LdapSaltedSha1),
    ("{SHA}", Scheme::LdapSha1),
    ("{MD5}", Scheme::LdapMd5),
    ("{SMD5}", Scheme::LdapSaltedMd5),
    ("{SSHA256}", Scheme::LdapSaltedSha256),
    ("{SSHA512}", Scheme::LdapSaltedSha512),
    ("{PBKDF2-SHA256}", Scheme::LdapPbkdf2Sha256),
];

/// Tells the scheme of a hash that names its own; nothing for bare digests, clear text and
/// whatever else needs the scheme said beside it.
///
/// ```
/// use auth_password::{Scheme, identify};
/// assert_eq!(identify("{SSHA}iTs0/mFaoTOX49D/MYDfB0SSup5dyzmn"), Some(Scheme::LdapSaltedSha1));
/// assert_eq!(identify("0eb55bec7f0e6d1c831bfbef77ac054a"), None);
/// ```
#[must_use]
pub fn identify(hash: &str) -> Option<Scheme> {
    let hash = without_crypt(hash);
    let prefix = PREFIXES.iter().find(|(prefix, _)| hash.starts_with(prefix));
    let braced = || BRACED.iter().find(|(prefix, _)| strip_brace(hash, prefix).is_some());
    if let Some((_, scheme)) = prefix.or_else(braced) {
        return Some(*scheme);
    }
    let hex = |prefix, digits| {
        let rest: Option<&str> = hash.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.len() == digits && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if hex("md5", 32) {
        Some(Scheme::PostgresMd5)
    } else if hex("*", 40) {
        Some(Scheme::Mysql41)
    } else if hex("0x0100", 48) {
        Some(Scheme::Mssql2005)
    } else {
        None
    }
}

/// Removes a prefix in braces, in any case.
pub(crate) fn strip_brace<'a>(hash: &'a str, prefix: &str) -> Option<&'a str> {
    let head = hash.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| hash.get(prefix.len()..))?
}

/// Removes the `{CRYPT}` that directories put before a hash of Unix.
pub(crate) fn without_crypt(hash: &str) -> &str {
    strip_brace(hash, "{CRYPT}").unwrap_or(hash)
}
