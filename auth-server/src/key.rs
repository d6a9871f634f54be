//! `gatepost key`: outside any configuration.

use std::path::Path;

use auth_core::{Error, ErrorKind, Result};
use auth_token::{Algorithm, Jwk, JwkSet, KeyRing, KeyType, Purpose, RingConfig, RingEntry, Rotation, Short};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{KeyUse, KeyVerb, Kty};
use crate::command::Reply;
use crate::{input, output};

/// The longest file of keys.
const MAX_FILE: usize = 1024 * 1024;

/// Runs a command about keys.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if what was given can't be; else what the folder of keys says.
pub(crate) fn run(verb: &KeyVerb, json: bool) -> Result<Reply> {
    let done = Reply { exit: 0, rows: Vec::new() };
    match verb {
        KeyVerb::New { kty, alg, crv, bits, kid } => {
            let mut key = new(*kty, alg.as_deref(), crv.as_deref(), *bits)?;
            if let Some(kid) = kid {
                key = key.with_kid(kid.clone());
            }
            // A JWK is one JSON object already; its members stay in their order.
            output::line(&key.to_json());
        }
        KeyVerb::Public { file } => match given(file, Short::Accepted)? {
            Given::One(key) => {
                let public = key.public().ok_or_else(|| invalid("a secret has no public half"))?;
                output::line(&public.to_json());
            }
            Given::Set(set) => output::line(&set.to_public_json()),
        },
        KeyVerb::Thumbprint { file } => {
            let Given::One(key) = given(file, Short::Accepted)? else {
                return Err(invalid("a set has no thumbprint: give one key"));
            };
            let print = key.thumbprint();
            if json {
                return Ok(Reply::one(0, json!({ "thumbprint": print })));
            }
            output::line(&print);
        }
        KeyVerb::Fernet => {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(bytes.as_mut()).map_err(|error| {
                Error::new(ErrorKind::Unavailable, "the system has no random bits").because(error)
            })?;
            let key = Zeroizing::new(URL_SAFE.encode(*bytes));
            if json {
                return Ok(Reply::one(0, json!({ "key": *key })));
            }
            output::line(&key);
        }
        KeyVerb::Check { file, purpose, allow_weak_key } => {
            let short = if *allow_weak_key { Short::Accepted } else { Short::Refused };
            return check(file, *purpose, short);
        }
        KeyVerb::Rotate { .. } | KeyVerb::List => return rotate(verb),
    }
    Ok(done)
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn algorithm(name: &str) -> Result<Algorithm> {
    Algorithm::from_name(name).ok_or_else(|| invalid("there is no such algorithm").with("algorithm", name))
}

fn new(kty: Option<Kty>, alg: Option<&str>, crv: Option<&str>, bits: Option<u32>) -> Result<Jwk> {
    let algorithm = alg.map(algorithm).transpose()?;
    let kind = match (kty, crv) {
        (None, None) => algorithm.map_or(KeyType::Ed25519, Algorithm::key_type),
        (Some(Kty::Oct), None) => KeyType::Oct,
        (Some(Kty::Rsa), None) => KeyType::Rsa,
        (Some(Kty::Okp) | None, Some("Ed25519")) | (Some(Kty::Okp), None) => KeyType::Ed25519,
        (Some(Kty::Ec) | None, Some("P-256")) => KeyType::P256,
        (Some(Kty::Ec) | None, Some("P-384")) => KeyType::P384,
        (Some(Kty::Ec) | None, Some("P-521")) => KeyType::P521,
        (Some(Kty::Ec), None) => match algorithm {
            Some(algorithm) => algorithm.key_type(),
            None => KeyType::P256,
        },
        _ => {
            return Err(invalid("there is no such curve for this kind of key: P-256, P-384, P-521, Ed25519"));
        }
    };
    match (kind, bits) {
        (KeyType::Rsa, Some(bits)) => Jwk::generate_rsa(bits, algorithm),
        (_, Some(_)) => Err(invalid("only RSA has a choice of bits")),
        (kind, None) => {
            if kty == Some(Kty::Ec) && matches!(kind, KeyType::Oct | KeyType::Rsa | KeyType::Ed25519) {
                return Err(invalid("the algorithm needs a key of another kind"));
            }
            Jwk::generate(kind, algorithm)
        }
    }
}

/// What is in a file of keys.
pub(crate) enum Given {
    One(Box<Jwk>),
    Set(JwkSet),
}

fn text(file: &Path) -> Result<Zeroizing<String>> {
    let bytes = input::given(file, MAX_FILE)?;
    if bytes.len() > MAX_FILE {
        return Err(invalid("the file is longer than 1 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("the file is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// Reads a file of our own: a key, a set, or PEM.
fn given(file: &Path, short: Short) -> Result<Given> {
    let text = text(file)?;
    if is_pem(&text) {
        return Ok(Given::One(Box::new(Jwk::from_pem(&text)?)));
    }
    if looks_like_set(&text) {
        return JwkSet::own(&text, short).map(Given::Set);
    }
    Ok(Given::One(Box::new(Jwk::parse(&text, short)?)))
}

/// Reports whether the text is rather a set than a key; what can't be read is neither, and told as a key.
fn looks_like_set(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    value.get("kty").is_none() && value.get("keys").is_some()
}

/// Reads the keys that a token is to be verified with.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it is no set of keys.
pub(crate) fn set(file: &Path, short: Short) -> Result<JwkSet> {
    let text = text(file)?;
    if is_pem(&text) {
        return JwkSet::new(vec![Jwk::from_pem(&text)?]);
    }
    JwkSet::own(&text, short)
}

fn check(file: &Path, purpose: KeyUse, short: Short) -> Result<Reply> {
    let bytes = input::given(file, MAX_FILE)?;
    let purpose = match purpose {
        KeyUse::Import => Purpose::Import,
        KeyUse::Verify => Purpose::Verify,
        KeyUse::Sign => Purpose::Sign,
    };
    let checked = || {
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("the file is no text"))?;
        if bytes.len() <= MAX_FILE && looks_like_set(text) {
            let set = JwkSet::published(text)?;
            let kids: Vec<Option<&str>> = set.keys().iter().map(Jwk::kid).collect();
            return Ok(json!({ "decision": "ok", "keys": kids, "unfit": set.unfit().count() }));
        }
        let key = if is_pem(text) { Jwk::from_pem(text)? } else { Jwk::parse(text, short)? };
        key.allows(purpose)?;
        Ok(json!({
            "decision": "ok",
            "kid": key.kid(),
            "alg": key.algorithm().map(Algorithm::name),
            "private": key.is_private(),
            "thumbprint": key.thumbprint(),
        }))
    };
    Ok(match checked() {
        Ok(row) => Reply::one(0, row),
        Err(error) => Reply::one(1, json!({ "decision": "refused", "reason": reason(&error) })),
    })
}

/// Why a key was refused, in words: without the kind, which is always the same.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    text.strip_prefix("invalid: ").map_or_else(|| text.clone(), str::to_owned)
}

fn rotate(verb: &KeyVerb) -> Result<Reply> {
    let KeyVerb::Rotate { folder: Some(folder), alg, publish, keep, at_once, compromised, now } = verb else {
        return Err(Error::new(ErrorKind::Internal, "this is no rotation"));
    };
    if !folder.join("ring.json").is_file() {
        let wrong = invalid("there are no keys in this folder: a server makes them when it starts");
        return Err(wrong.with("folder", folder.display()));
    }
    let now = input::time(*now)?;
    let mut config = RingConfig::new(folder);
    (config.publish, config.keep) = (input::duration(publish)?, input::duration(keep)?);
    let mut ring = KeyRing::open(config.clone(), now)?;
    let current = ring.entries(now).into_iter().find(|entry| entry.state == auth_token::KeyState::Current);
    let wanted = alg.as_deref().map(algorithm).transpose()?;
    if let Some(algorithm) = wanted.or_else(|| current.map(|entry| entry.algorithm)) {
        config.algorithm = algorithm;
        ring = KeyRing::open(config, now)?;
    }
    let how = match (at_once, compromised) {
        (_, true) => Rotation::Compromised,
        (true, _) => Rotation::AtOnce,
        _ => Rotation::Planned,
    };
    let mut row = shown(&ring.rotate(now, how)?);
    if let Some(row) = row.as_object_mut() {
        row.insert("keys".into(), ring.entries(now).iter().map(shown).collect());
    }
    Ok(Reply::one(0, row))
}

pub(crate) fn shown(entry: &RingEntry) -> Value {
    let unix = |time: std::time::SystemTime| {
        time.duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    };
    json!({
        "kid": entry.kid,
        "alg": entry.algorithm.name(),
        "state": entry.state.as_str(),
        "activates": unix(entry.activates),
        "retires": entry.retires.map(unix),
    })
}
