//! The token of FlaskSimpleAuth, bit for bit, and a keyed form beside it.

use std::fmt;
use std::time::{Duration, SystemTime};

use auth_core::{Error, ErrorKind, Result};
use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::access::{AccessFormat, Ends, Grant, Refusal, Valid};

/// The longest token.
const MAX_BYTES: usize = 8192;
/// The fewest bytes that a signature may be cut to.
const MIN_LENGTH: usize = 8;
/// The longest digest there is.
const MAX_DIGEST: usize = 64;
/// Secrets below this are called short.
const SHORT_SECRET: usize = 16;
/// The last second that fourteen digits can say.
const LAST: u64 = crate::jose::MAX_NUMERIC_DATE;
const DAY: u64 = 86_400;

/// What an `fsa` token is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FsaAlgorithm {
    /// MD5 of the payload and the secret.
    Md5,
    /// SHA-1 of the payload and the secret.
    Sha1,
    /// SHA-224 of the payload and the secret.
    Sha224,
    /// SHA-256 of the payload and the secret.
    Sha256,
    /// SHA-384 of the payload and the secret.
    Sha384,
    /// SHA-512 of the payload and the secret.
    Sha512,
    /// SHA3-224 of the payload and the secret.
    Sha3_224,
    /// SHA3-256 of the payload and the secret.
    Sha3_256,
    /// SHA3-384 of the payload and the secret.
    Sha3_384,
    /// SHA3-512 of the payload and the secret.
    Sha3_512,
    /// BLAKE2s of the payload and the secret: the default of FlaskSimpleAuth.
    Blake2s,
    /// BLAKE2b of the payload and the secret.
    Blake2b,
    /// HMAC of the payload with SHA-256 under the secret. FlaskSimpleAuth does not know it.
    HmacSha256,
    /// HMAC of the payload with SHA-384 under the secret. FlaskSimpleAuth does not know it.
    HmacSha384,
    /// HMAC of the payload with SHA-512 under the secret. FlaskSimpleAuth does not know it.
    HmacSha512,
}

impl FsaAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 15] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
        Self::Blake2s,
        Self::Blake2b,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
    ];

    /// Finds an algorithm by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Returns the name: Python's where Python has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sha3_224 => "sha3_224",
            Self::Sha3_256 => "sha3_256",
            Self::Sha3_384 => "sha3_384",
            Self::Sha3_512 => "sha3_512",
            Self::Blake2s => "blake2s",
            Self::Blake2b => "blake2b",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl fmt::Display for FsaAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How `fsa` tokens are made.
#[derive(Clone)]
pub struct FsaConfig {
    /// Where they hold. What stands in tokens is its simple form: ASCII letters and digits, with single hyphens for
    /// everything between them.
    pub realm: String,
    /// Who makes them, if that is to stand in them.
    pub issuer: Option<String>,
    /// What they are signed with; text is taken as UTF-8.
    pub secret: Zeroizing<Vec<u8>>,
    /// How.
    pub algorithm: FsaAlgorithm,
    /// To how many bytes the signature is cut: 8 or more. More than there are keeps all.
    pub length: usize,
    /// For how long after its end a token is still taken.
    pub grace: Duration,
}

impl FsaConfig {
    /// What FlaskSimpleAuth does when nothing else is said: BLAKE2s, 16 bytes, no grace.
    #[must_use]
    pub fn new(realm: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        Self {
            realm: realm.into(),
            issuer: None,
            secret: Zeroizing::new(secret.into()),
            algorithm: FsaAlgorithm::Blake2s,
            length: 16,
            grace: Duration::ZERO,
        }
    }
}

impl fmt::Debug for FsaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsaConfig")
            .field("realm", &self.realm)
            .field("issuer", &self.issuer)
            .field("algorithm", &self.algorithm)
            .field("length", &self.length)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// The tokens of FlaskSimpleAuth: `realm[/issuer]:user:limit:signature`.
///
/// The signature is that of FlaskSimpleAuth, a hash over the payload and then the secret, or under one of the `hmac-`
/// names a real MAC. It says who and until when, and nothing else: scopes and further claims are refused when a token is
/// made, and what family it is of does not stand in it.
///
/// ```
/// use auth_token::{AccessFormat, Ends, FsaConfig, FsaFormat};
/// use std::time::{Duration, SystemTime};
/// let fsa = FsaFormat::new(FsaConfig::new("acme", "the-quick-brown-fox-secret-2099!"))?;
/// let token = "acme:calvin:20991231235959:b13fe2d843ff0ccd67ade67499e5a808";
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
/// assert_eq!(fsa.verify(token, now, Ends::Checked).unwrap().login, "calvin");
/// # Ok::<(), auth_core::Error>(())
/// ```
pub struct FsaFormat {
    config: FsaConfig,
    /// The first field of every token.
    first: String,
    mac: Option<hmac::Key>,
}

impl fmt::Debug for FsaFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl FsaFormat {
    /// Makes the format.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the secret or the realm is empty, if the issuer has a colon, or if
    /// signatures would be cut to less than 8 bytes.
    pub fn new(config: FsaConfig) -> Result<Self> {
        let wrong = |message: &'static str| Err(Error::new(ErrorKind::Misconfigured, message));
        let mut first = simplified(&config.realm);
        if first.is_empty() {
            return wrong("the realm of fsa tokens has no letter and no digit");
        }
        if let Some(issuer) = &config.issuer {
            if issuer.is_empty() || issuer.contains(':') {
                return wrong("the issuer of fsa tokens is empty or has a colon");
            }
            first.push('/');
            first.push_str(issuer);
        }
        if config.secret.is_empty() {
            return wrong("the secret of fsa tokens is empty");
        }
        if config.length < MIN_LENGTH {
            return wrong("signatures of fsa tokens have at least 8 bytes");
        }
        let mac = match config.algorithm {
            FsaAlgorithm::HmacSha256 => Some(hmac::HMAC_SHA256),
            FsaAlgorithm::HmacSha384 => Some(hmac::HMAC_SHA384),
            FsaAlgorithm::HmacSha512 => Some(hmac::HMAC_SHA512),
            _ => None,
        };
        let mac = mac.map(|algorithm| hmac::Key::new(algorithm, &config.secret));
        Ok(Self { config, first, mac })
    }

    /// Reports whether the secret has less than 16 bytes, which deserves a warning.
    #[must_use]
    pub fn has_short_secret(&self) -> bool {
        self.config.secret.len() < SHORT_SECRET
    }

    /// Returns the simple form of the realm, with the issuer: what every token begins with.
    #[must_use]
    pub fn first_field(&self) -> &str {
        &self.first
    }

    /// The signature of a payload, of which the colon that ends it is given too.
    fn sign(&self, payload: &str, hex: &mut [u8; 2 * MAX_DIGEST]) -> usize {
        let mut digest = [0; MAX_DIGEST];
        let length = self.digest(payload, &mut digest).min(self.config.length);
        for (digits, byte) in hex.chunks_exact_mut(2).zip(digest.iter().take(length)) {
            if let [high, low] = digits {
                (*high, *low) = (digit(byte >> 4), digit(byte & 15));
            }
        }
        2 * length
    }

    fn digest(&self, payload: &str, digest: &mut [u8; MAX_DIGEST]) -> usize {
        fn hashed<H: sha2::Digest>(payload: &str, secret: &[u8], digest: &mut [u8; MAX_DIGEST]) -> usize {
            keep(&H::new().chain_update(payload).chain_update(secret).finalize(), digest)
        }
        fn keep(from: &[u8], digest: &mut [u8; MAX_DIGEST]) -> usize {
            digest.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            from.len()
        }
        if let Some(key) = &self.mac {
            let payload = payload.strip_suffix(':').unwrap_or(payload);
            return keep(hmac::sign(key, payload.as_bytes()).as_ref(), digest);
        }
        let secret = &self.config.secret;
        match self.config.algorithm {
            FsaAlgorithm::Md5 => hashed::<md5::Md5>(payload, secret, digest),
            FsaAlgorithm::Sha1 => hashed::<sha1::Sha1>(payload, secret, digest),
            FsaAlgorithm::Sha224 => hashed::<sha2::Sha224>(payload, secret, digest),
            FsaAlgorithm::Sha384 => hashed::<sha2::Sha384>(payload, secret, digest),
            FsaAlgorithm::Sha512 => hashed::<sha2::Sha512>(payload, secret, digest),
            FsaAlgorithm::Sha3_224 => hashed::<sha3::Sha3_224>(payload, secret, digest),
            FsaAlgorithm::Sha3_256 => hashed::<sha3::Sha3_256>(payload, secret, digest),
            FsaAlgorithm::Sha3_384 => hashed::<sha3::Sha3_384>(payload, secret, digest),
            FsaAlgorithm::Sha3_512 => hashed::<sha3::Sha3_512>(payload, secret, digest),
            FsaAlgorithm::Blake2s => hashed::<blake2::Blake2s256>(payload, secret, digest),
            FsaAlgorithm::Blake2b => hashed::<blake2::Blake2b512>(payload, secret, digest),
            FsaAlgorithm::Sha256
            | FsaAlgorithm::HmacSha256
            | FsaAlgorithm::HmacSha384
            | FsaAlgorithm::HmacSha512 => hashed::<sha2::Sha256>(payload, secret, digest),
        }
    }
}

impl AccessFormat for FsaFormat {
    fn issue(&self, grant: &Grant<'_>) -> Result<String> {
        let wrong = |message: &'static str| Err(Error::new(ErrorKind::Invalid, message));
        if grant.login.is_empty() || grant.login.contains(':') {
            return wrong("a login that is empty or has a colon can't stand in an fsa token");
        }
        if !grant.scopes.is_empty() || !grant.extra.is_empty() {
            return wrong("an fsa token says nothing but a login: no scopes and no claims");
        }
        let limit = grant.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if limit > LAST {
            return wrong("an fsa token ends before the year 10000");
        }
        let mut token = format!("{}:{}:{}:", self.first, grant.login, limit_of(limit));
        let mut hex = [0; 2 * MAX_DIGEST];
        let length = self.sign(&token, &mut hex);
        token.extend(hex.iter().take(length).map(|digit| char::from(*digit)));
        if token.len() > MAX_BYTES {
            return wrong("the login is too long for a token");
        }
        Ok(token)
    }

    fn verify(&self, token: &str, now: SystemTime, ends: Ends) -> std::result::Result<Valid, Refusal> {
        if token.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        // The order of FlaskSimpleAuth: the form, the realm, the signature, the time.
        let mut fields = token.split(':');
        let (Some(first), Some(user), Some(limit), Some(signature), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(Refusal::Malformed);
        };
        let limit = time_of(limit)?;
        if first != self.first {
            return Err(Refusal::Realm);
        }
        let payload = token.strip_suffix(signature).ok_or(Refusal::Malformed)?;
        let mut hex = [0; 2 * MAX_DIGEST];
        let length = self.sign(payload, &mut hex);
        let right = hex.get(..length).is_some_and(|right| right.ct_eq(signature.as_bytes()).into());
        if !right {
            return Err(Refusal::Signature);
        }
        if user.is_empty() {
            return Err(Refusal::ClaimType);
        }
        let end = limit.checked_add(self.config.grace);
        if ends == Ends::Checked && end.is_some_and(|end| now > end) {
            return Err(Refusal::Expired);
        }
        Ok(Valid {
            login: user.to_owned(),
            scopes: Vec::new(),
            issued_ms: None,
            expires_at: limit,
            id: None,
            family: None,
            generation: None,
            claims: None,
        })
    }

    fn jwks(&self, _: SystemTime) -> String {
        crate::jwt::NO_KEYS.to_owned()
    }
}

const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// The form of a realm that stands in tokens.
fn simplified(realm: &str) -> String {
    let words = realm.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Fourteen digits of a time in UTC.
fn limit_of(unix: u64) -> String {
    let (days, second) = (unix / DAY, unix % DAY);
    // Years begin in March here, so that the leap day is the last, and 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// The time that fourteen digits say. Those of ASCII: other scripts have digits too.
fn time_of(limit: &str) -> std::result::Result<SystemTime, Refusal> {
    let digits: &[u8; 14] = limit.as_bytes().try_into().map_err(|_| Refusal::Malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed);
    }
    let number = |from: usize, count: usize| {
        digits.iter().skip(from).take(count).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(4, 2), number(6, 2));
    let (hour, minute, second) = (number(8, 2), number(10, 2), number(12, 2));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    let there = year >= 1
        && (1..=12).contains(&month)
        && (1..=days).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !there {
        return Err(Refusal::ClaimType);
    }
    // Days since the first of March of the year 0, as above.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    let epoch = 719_468 * DAY;
    match seconds.checked_sub(epoch) {
        Some(after) => Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(after)),
        None => {
            SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(epoch - seconds)).ok_or(Refusal::ClaimType)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(unix: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
    }

    #[test]
    fn times_are_written_and_read_as_the_calendar_has_them() {
        for (unix, limit) in [
            (0, "19700101000000"),
            (951_782_399, "20000228235959"),
            (951_782_400, "20000229000000"),
            (951_868_800, "20000301000000"),
            (4_102_444_799, "20991231235959"),
            (4_107_542_400, "21000301000000"),
            (LAST, "99991231235959"),
        ] {
            assert_eq!(limit_of(unix), limit);
            assert_eq!(time_of(limit), Ok(at(unix)));
        }
        assert_eq!(
            time_of("00010101000000"),
            Ok(SystemTime::UNIX_EPOCH - Duration::from_secs(62_135_596_800))
        );
        for limit in
            ["20230229000000", "21000229000000", "20231301000000", "20230001000000", "20230431000000"]
        {
            assert_eq!(time_of(limit), Err(Refusal::ClaimType), "{limit}");
        }
        for limit in
            ["00000101000000", "20230101240000", "20230101006000", "20230101000060", "20230100000000"]
        {
            assert_eq!(time_of(limit), Err(Refusal::ClaimType), "{limit}");
        }
        for limit in ["", "2023010100000", "202301010000000", "2023010100000a", "+2023010100000", "٢٠٩٩١٢٣"]
        {
            assert_eq!(time_of(limit), Err(Refusal::Malformed), "{limit}");
        }
    }

    #[test]
    fn a_realm_is_simplified_and_keeps_its_case() {
        for (realm, simple) in
            [("acme", "acme"), ("  My App__v2!! ", "My-App-v2"), ("a--b", "a-b"), ("é", "")]
        {
            assert_eq!(simplified(realm), simple);
        }
        assert!(FsaFormat::new(FsaConfig::new("é", "secret")).is_err());
    }

    #[test]
    fn what_can_not_be_said_is_refused_when_a_token_is_made() {
        let fsa = FsaFormat::new(FsaConfig::new("acme", "secret")).unwrap();
        assert!(fsa.has_short_secret());
        let scopes = ["read".to_owned()];
        let grant = Grant {
            login: "calvin",
            scopes: &[],
            issued_at: at(0),
            expires_at: at(1_800_000_000),
            family: None,
            client: None,
            auth_time: None,
            extra: serde_json::Map::new(),
        };
        assert!(fsa.issue(&grant).is_ok());
        assert!(fsa.issue(&Grant { login: "cal:vin", ..grant.clone() }).is_err());
        assert!(fsa.issue(&Grant { login: "", ..grant.clone() }).is_err());
        assert!(fsa.issue(&Grant { scopes: &scopes, ..grant.clone() }).is_err());
        assert!(fsa.issue(&Grant { expires_at: at(LAST + 1), ..grant.clone() }).is_err());
        let extra = serde_json::Map::from_iter([("a".to_owned(), 1.into())]);
        assert!(fsa.issue(&Grant { extra, ..grant }).is_err());
    }

    #[test]
    fn signatures_below_8_bytes_are_refused_and_the_keyed_form_is_another() {
        for length in [0, 7] {
            assert!(FsaFormat::new(FsaConfig { length, ..FsaConfig::new("acme", "s") }).is_err());
        }
        assert!(FsaFormat::new(FsaConfig::new("acme", "")).is_err());
        let mut tokens = std::collections::HashSet::new();
        for algorithm in FsaAlgorithm::ALL {
            assert_eq!(FsaAlgorithm::from_name(algorithm.name()), Some(algorithm));
            let fsa = FsaFormat::new(FsaConfig { algorithm, length: 99, ..FsaConfig::new("acme", "secret") })
                .unwrap();
            let mut hex = [0; 128];
            let length = fsa.sign("acme:calvin:20991231235959:", &mut hex);
            assert!(tokens.insert(hex[..length.min(16)].to_vec()), "{algorithm}");
        }
        // printf %s acme:calvin:20991231235959 | openssl dgst -sha256 -hmac secret
        let mac = FsaConfig { algorithm: FsaAlgorithm::HmacSha256, ..FsaConfig::new("acme", "secret") };
        let mut hex = [0; 128];
        let length = FsaFormat::new(mac).unwrap().sign("acme:calvin:20991231235959:", &mut hex);
        assert_eq!(std::str::from_utf8(&hex[..length]), Ok("231cb833fe13154537329246ad70ac83"));
    }

    #[test]
    fn nobody_is_refused_though_the_signature_holds() {
        let fsa = FsaFormat::new(FsaConfig::new("acme", "secret")).unwrap();
        let signed = |payload: &str| {
            let mut hex = [0; 128];
            let length = fsa.sign(payload, &mut hex);
            format!("{payload}{}", std::str::from_utf8(&hex[..length]).unwrap())
        };
        let read = |payload| fsa.verify(&signed(payload), at(0), Ends::Checked).map(|valid| valid.login);
        assert_eq!(read("acme:calvin:20991231235959:"), Ok("calvin".to_owned()));
        assert_eq!(read("acme::20991231235959:"), Err(Refusal::ClaimType));
        assert_eq!(read("acme:cal:vin:20991231235959:"), Err(Refusal::Malformed));
        assert_eq!(read("acme:calvin:٢٠٩٩١٢٣١٢٣٥٩٥٩:"), Err(Refusal::Malformed));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_and_nothing_else(
            login in "[^:]{1,40}", end in 0..LAST, algorithm in 0..FsaAlgorithm::ALL.len(), length in 8..70_usize,
            issuer in proptest::option::of("[a-z/]{1,8}"), at_byte in any::<proptest::sample::Index>(), to in any::<char>(),
        ) {
            let algorithm = FsaAlgorithm::ALL[algorithm];
            let config = FsaConfig { algorithm, length, issuer, ..FsaConfig::new("acme", "secret") };
            let fsa = FsaFormat::new(config).unwrap();
            let grant = Grant {
                login: &login, scopes: &[], issued_at: at(0), expires_at: at(end), family: None, client: None,
                auth_time: None, extra: serde_json::Map::new(),
            };
            let token = fsa.issue(&grant).unwrap();
            let valid = fsa.verify(&token, at(end), Ends::Checked).unwrap();
            prop_assert_eq!((valid.login.as_str(), valid.expires_at), (login.as_str(), at(end)));
            prop_assert_eq!(fsa.verify(&token, at(end + 1), Ends::Checked), Err(Refusal::Expired));
            prop_assert!(fsa.verify(&token, at(end + 1), Ends::Ignored).is_ok());
            let mut chars: Vec<char> = token.chars().collect();
            let at_char = at_byte.index(chars.len());
            if chars[at_char] != to {
                chars[at_char] = to;
                let changed: String = chars.into_iter().collect();
                prop_assert!(fsa.verify(&changed, at(0), Ends::Checked).is_err());
            }
        }

        #[test]
        fn anything_is_read_without_a_panic(token in ".{0,80}") {
            let fsa = FsaFormat::new(FsaConfig::new("acme", "secret")).unwrap();
            prop_assert!(fsa.verify(&token, at(0), Ends::Ignored).is_err());
        }
    }
}
