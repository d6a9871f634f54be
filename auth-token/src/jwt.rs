//! Access tokens as JWT.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use auth_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::access::{AccessFormat, Ends, Grant, Refusal, Valid};
use crate::jose::{Algorithm, Dates, JwkSet, MAX_NUMERIC_DATE, Node, Object, Policy, Signer, Verifier};
use crate::ring::{KeyRing, RingKeys};

/// A set without keys.
pub(crate) const NO_KEYS: &str = "{\"keys\":[]}";

/// Names of claims that an application may not give: those that any profile uses, and those that mean something to
/// every verifier.
const RESERVED: [&str; 17] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "gen",
    "client_id",
    "scope",
    "scopes",
    "auth_time",
    "cnf",
    "login",
    "rfid",
    "user_id",
];

/// How claims are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As RFC 9068: `iss sub aud exp iat nbf jti sid gen client_id scope auth_time`.
    Native,
    /// As flask-ampho: `login nbf exp`, and of ours `jti sid gen scope`. The header has no `typ`.
    Ampho,
    /// As twopi-flask-utils: `rfid user_id scopes exp iat`, and of ours `jti gen`.
    Twopi,
}

/// How access tokens are made and verified.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// Who makes them.
    pub issuer: Option<String>,
    /// For whom.
    pub audience: Option<String>,
    /// What kind of token they are: `typ`. Not checked where it is `None`, nor in the profiles of others.
    pub typ: Option<String>,
    /// How much clocks may differ.
    pub leeway: Duration,
    /// The longest token.
    pub max_bytes: usize,
    /// How claims are named.
    pub profile: Profile,
}

impl JwtConfig {
    /// The settings of a profile: `at+jwt` and 30 s of leeway; of flask-ampho no `typ` and 60 s; of twopi-flask-utils
    /// `JWT` and none.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let (typ, leeway) = match profile {
            Profile::Native => (Some("at+jwt"), 30),
            Profile::Ampho => (None, 60),
            Profile::Twopi => (Some("JWT"), 0),
        };
        Self {
            issuer: None,
            audience: None,
            typ: typ.map(str::to_owned),
            leeway: Duration::from_secs(leeway),
            max_bytes: 8192,
            profile,
        }
    }

    fn policy(&self, algorithms: Vec<Algorithm>) -> Policy {
        let required: &[&str] = match self.profile {
            Profile::Native => &["sub", "iat"],
            Profile::Ampho => &["login"],
            Profile::Twopi => &["user_id"],
        };
        Policy {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            types: self.typ.clone().filter(|_| self.profile == Profile::Native).map(|typ| vec![typ]),
            leeway: self.leeway,
            required: required.iter().map(|name| (*name).to_owned()).collect(),
            max_bytes: self.max_bytes,
            algorithms: Some(algorithms),
        }
    }
}

/// Access tokens as JWT, signed with the keys of a ring.
#[derive(Debug)]
pub struct JwtFormat {
    config: JwtConfig,
    ring: Arc<KeyRing>,
    built: RwLock<Built>,
}

/// The keys of the ring, ready for use.
#[derive(Debug)]
struct Built {
    version: u64,
    keys: Arc<RingKeys>,
    verifier: Verifier,
    /// One for each key of the ring.
    signers: Vec<Signer>,
}

impl JwtFormat {
    /// Makes the format.
    ///
    /// # Errors
    /// As [`Signer::new`], for any key of the ring.
    pub fn new(config: JwtConfig, ring: Arc<KeyRing>, now: SystemTime) -> Result<Self> {
        let built = Built::new(&config, &ring, now)?;
        Ok(Self { config, ring, built: RwLock::new(built) })
    }

    /// Returns the keys.
    #[must_use]
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &JwtConfig {
        &self.config
    }

    /// Takes over what has changed in the ring. If that fails the keys stay as they are: they were good a moment ago.
    fn keep_up(&self, now: SystemTime) {
        let version = self.ring.version(now);
        if self.built.read().unwrap_or_else(PoisonError::into_inner).version == version {
            return;
        }
        if let Ok(built) = Built::new(&self.config, &self.ring, now) {
            let mut held = self.built.write().unwrap_or_else(PoisonError::into_inner);
            if held.version < built.version {
                *held = built;
            }
        }
    }

    fn verify_once(&self, token: &str, now: SystemTime, ends: Ends) -> std::result::Result<Valid, Refusal> {
        self.keep_up(now);
        let built = self.built.read().unwrap_or_else(PoisonError::into_inner);
        let profile = self.config.profile;
        let read = |claims: &Object<'_>, dates: Dates, key: usize| {
            // What is no longer in the ring is not believed, whoever still has it in memory.
            if !built.keys.keys.get(key).is_some_and(|key| key.lives(now)) {
                return Err(Refusal::UnknownKey);
            }
            said(profile, claims, dates)
        };
        let (mut valid, text) = built.verifier.read(token, now, ends, read)?;
        valid.claims = Some(Arc::from(text));
        Ok(valid)
    }
}

impl Built {
    fn new(config: &JwtConfig, ring: &KeyRing, now: SystemTime) -> Result<Self> {
        // Before the keys, so that a change between the two is seen next time.
        let version = ring.version(now);
        let keys = ring.keys();
        let mut algorithms: Vec<Algorithm> = keys.keys.iter().map(|key| key.algorithm).collect();
        algorithms.dedup();
        let set = JwkSet::new(keys.keys.iter().map(|key| key.jwk.clone()).collect())?;
        let typ = config.typ.as_deref();
        let signers = keys.keys.iter().map(|key| Signer::new(&key.jwk, Some(key.algorithm), typ));
        let signers = signers.collect::<Result<Vec<_>>>()?;
        let mut verifier = Verifier::new(&set, config.policy(algorithms));
        signers.iter().for_each(|signer| verifier.know(signer.header()));
        Ok(Self { version, keys, verifier, signers })
    }
}

impl AccessFormat for JwtFormat {
    fn issue(&self, grant: &Grant<'_>) -> Result<String> {
        let claims = claims(&self.config, grant)?;
        let text = Value::Object(claims).to_string();
        self.keep_up(grant.issued_at);
        let built = self.built.read().unwrap_or_else(PoisonError::into_inner);
        let current = built.keys.current(grant.issued_at).and_then(|at| built.signers.get(at));
        let signer =
            current.ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no key to sign with"))?;
        let token = signer.sign(&text)?;
        if token.len() > self.config.max_bytes {
            return Err(invalid("with these claims the token is longer than any verifier takes"));
        }
        Ok(token)
    }

    fn verify(&self, token: &str, now: SystemTime, ends: Ends) -> std::result::Result<Valid, Refusal> {
        match self.verify_once(token, now, ends) {
            Err(Refusal::UnknownKey) => {
                self.ring.missed(now);
                if self.built.read().unwrap_or_else(PoisonError::into_inner).version == self.ring.version(now)
                {
                    return Err(Refusal::UnknownKey);
                }
                self.verify_once(token, now, ends)
            }
            other => other,
        }
    }

    fn jwks(&self, now: SystemTime) -> String {
        self.ring.jwks(now)
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// What a token says, as the profile names it.
fn said(profile: Profile, claims: &Object<'_>, dates: Dates) -> std::result::Result<Valid, Refusal> {
    let text = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.text().map(Some).ok_or(Refusal::ClaimType),
    };
    let (login, family) = match profile {
        Profile::Native => ("sub", "sid"),
        Profile::Ampho => ("login", "sid"),
        Profile::Twopi => ("user_id", "rfid"),
    };
    let login = text(login)?.ok_or(Refusal::MissingClaim)?;
    if login.is_empty() {
        return Err(Refusal::ClaimType);
    }
    let scopes = match (text("scope")?, claims.get("scopes")) {
        (Some(scope), _) => scope.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
        (None, Some(Node::List(list))) => {
            let scopes = list.iter().map(|one| one.text().map(str::to_owned).ok_or(Refusal::ClaimType));
            scopes.collect::<std::result::Result<_, _>>()?
        }
        (None, Some(_)) => return Err(Refusal::ClaimType),
        (None, None) => Vec::new(),
    };
    let generation = match claims.get("gen") {
        None => None,
        Some(Node::Whole(number)) => Some(u32::try_from(*number).map_err(|_| Refusal::ClaimType)?),
        Some(_) => return Err(Refusal::ClaimType),
    };
    let id = text("jti")?;
    let made = dates.iat.or(dates.nbf);
    let by_id = id.and_then(uuid_ms).filter(|ms| made.is_some_and(|made| made.as_secs() == ms / 1000));
    let issued_ms = by_id.or_else(|| dates.iat.and_then(|iat| u64::try_from(iat.as_millis()).ok()));
    Ok(Valid {
        login: login.to_owned(),
        scopes,
        issued_ms,
        expires_at: SystemTime::UNIX_EPOCH + dates.exp,
        id: id.map(str::to_owned),
        family: text(family)?.and_then(family_of),
        generation,
        claims: None,
    })
}

/// What is said in a token.
fn claims(config: &JwtConfig, grant: &Grant<'_>) -> Result<Map<String, Value>> {
    if grant.login.is_empty() {
        return Err(invalid("a token needs a login"));
    }
    if grant.scopes.iter().any(|scope| scope.is_empty() || scope.contains(' ')) {
        return Err(invalid("a scope is not empty and has no space"));
    }
    if let Some(name) = grant.extra.keys().find(|name| RESERVED.contains(&name.as_str())) {
        return Err(invalid("a claim that the format uses itself can't be given").with("claim", name));
    }
    let (iat, exp) = (seconds(grant.issued_at)?, seconds(grant.expires_at)?);
    if exp <= iat {
        return Err(invalid("a token ends at least a second after it is made"));
    }
    let mut claims = grant.extra.clone();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("exp", exp.into());
    put("jti", uuid_v7(grant.issued_at)?.into());
    if let Some(issuer) = &config.issuer {
        put("iss", issuer.as_str().into());
    }
    if let Some(audience) = &config.audience {
        put("aud", audience.as_str().into());
    }
    let (login, family) = match config.profile {
        Profile::Native => {
            put("iat", iat.into());
            put("nbf", iat.into());
            ("sub", "sid")
        }
        Profile::Ampho => {
            put("nbf", iat.into());
            ("login", "sid")
        }
        Profile::Twopi => {
            put("iat", iat.into());
            ("user_id", "rfid")
        }
    };
    put(login, grant.login.into());
    if let Some((id, generation)) = grant.family {
        put(family, hex(&id).into());
        put("gen", generation.into());
    }
    if config.profile == Profile::Twopi {
        put("scopes", grant.scopes.into());
    } else if !grant.scopes.is_empty() {
        put("scope", grant.scopes.join(" ").into());
    }
    if config.profile == Profile::Native {
        if let Some(client) = grant.client {
            put("client_id", client.into());
        }
        if let Some(time) = grant.auth_time {
            put("auth_time", seconds(time)?.into());
        }
    }
    Ok(claims)
}

fn seconds(time: SystemTime) -> Result<u64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).ok();
    since.filter(|since| *since <= MAX_NUMERIC_DATE).ok_or_else(|| invalid("a time is from 1970 to 9999"))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// 32 hexadecimal digits.
fn family_of(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// A UUID version 7: milliseconds since 1970, and 74 random bits.
fn uuid_v7(now: SystemTime) -> Result<String> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the system has no random bits").because(error)
    })?;
    let ms = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let [a, b, rest @ ..] = random;
    let mut bits = (ms & 0xffff_ffff_ffff) << 80 | u128::from(u16::from_be_bytes([a, b]) & 0xfff) << 64;
    bits |= 7 << 76 | u128::from(u64::from_be_bytes(rest)) & 0x3fff_ffff_ffff_ffff | 2 << 62;
    let mut text = hex(&bits.to_be_bytes());
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Ok(text)
}

/// The milliseconds of a UUID version 7.
fn uuid_ms(text: &str) -> Option<u64> {
    let hyphens = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let formed = text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if hyphens(at) { byte == b'-' } else { byte.is_ascii_hexdigit() });
    if !formed {
        return None;
    }
    let bits = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
    let right = bits >> 76 & 15 == 7 && bits >> 62 & 3 == 2;
    right.then_some(bits >> 80).and_then(|ms| u64::try_from(ms).ok())
}
