//! `gatepost token verify`: outside any configuration.

use std::path::Path;
use std::time::SystemTime;

use auth_core::{Error, ErrorKind, Result};
use auth_token::{
    AccessFormat as _, Algorithm, Ends, FsaAlgorithm, FsaConfig, FsaFormat, Policy, Refusal, Short, Verifier,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{TokenType, TokenVerify};
use crate::command::Reply;
use crate::{input, key};

/// The longest file of a secret.
const MAX_SECRET: usize = 64 * 1024;
/// The longest token of FlaskSimpleAuth; what is longer is told by its length alone.
const MAX_FSA: usize = 8192;

/// Names that `alg` has in encrypted tokens, and `none`: there are such, and none is ever accepted.
const NEVER: [&str; 18] = [
    "none",
    "dir",
    "RSA1_5",
    "RSA-OAEP",
    "RSA-OAEP-256",
    "A128KW",
    "A192KW",
    "A256KW",
    "A128GCMKW",
    "A192GCMKW",
    "A256GCMKW",
    "ECDH-ES",
    "ECDH-ES+A128KW",
    "ECDH-ES+A192KW",
    "ECDH-ES+A256KW",
    "PBES2-HS256+A128KW",
    "PBES2-HS384+A192KW",
    "PBES2-HS512+A256KW",
];

/// Verifies a token.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if what was given besides the token can't be.
pub(crate) fn verify(args: &TokenVerify) -> Result<Reply> {
    let now = input::time(args.now)?;
    match args.kind {
        TokenType::Fsa => fsa(args, now),
        TokenType::Jwt => jwt(args, now),
    }
}

/// The token itself; `None` if it is no text. One line feed at its end is the shell's.
fn token(args: &TokenVerify, most: usize) -> Result<Option<Zeroizing<String>>> {
    if args.token != "-" {
        return Ok(Some(Zeroizing::new(args.token.clone())));
    }
    let mut bytes = input::given(Path::new("-"), most.saturating_add(1))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}

fn refused(why: Refusal) -> Reply {
    Reply::one(1, json!({ "decision": "invalid", "error": why.as_str() }))
}

fn unix(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |before| -before),
    }
}

fn missing(option: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "an option is missing").with("option", option)
}

fn fsa(args: &TokenVerify, now: SystemTime) -> Result<Reply> {
    let file = args.secret_file.as_deref().ok_or_else(|| missing("--secret-file"))?;
    let mut secret = input::given(file, MAX_SECRET)?;
    if secret.len() > MAX_SECRET {
        return Err(Error::new(ErrorKind::Invalid, "the secret is longer than 64 KiB"));
    }
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    let algorithm = FsaAlgorithm::from_name(&args.algo).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "there is no such algorithm").with("algorithm", &args.algo)
    })?;
    let fsa = FsaFormat::new(FsaConfig {
        realm: args.realm.clone().ok_or_else(|| missing("--realm"))?,
        issuer: args.issuer.clone(),
        secret,
        algorithm,
        length: args.length,
        grace: input::window(&args.grace)?,
    })?;
    let valid = match token(args, MAX_FSA)? {
        Some(token) => fsa.verify(&token, now, Ends::Checked),
        None => Err(Refusal::Malformed),
    };
    let mut reply = match valid {
        Ok(valid) => Reply::one(
            0,
            json!({ "decision": "valid", "login": valid.login, "expires": unix(valid.expires_at) }),
        ),
        Err(why) => refused(why),
    };
    if let (true, Some(Value::Object(row))) = (fsa.has_short_secret(), reply.rows.first_mut()) {
        row.insert("warning".into(), "the secret has less than 16 bytes".into());
    }
    Ok(reply)
}

fn jwt(args: &TokenVerify, now: SystemTime) -> Result<Reply> {
    let file = args.jwks.as_deref().ok_or_else(|| missing("--jwks"))?;
    let short = if args.allow_weak_key { Short::Accepted } else { Short::From32 };
    let set = key::set(file, short)?;
    let mut algorithms = Vec::new();
    for name in &args.alg {
        match Algorithm::from_name(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None if NEVER.contains(&name.as_str()) => {}
            None => {
                let wrong = Error::new(ErrorKind::Invalid, "there is no such algorithm");
                return Err(wrong.with("algorithm", name));
            }
        }
    }
    let policy = Policy {
        issuer: args.issuer.clone(),
        audience: args.audience.clone(),
        types: (!args.typ.is_empty()).then(|| args.typ.clone()),
        leeway: input::window(&args.leeway)?,
        required: args.require.clone(),
        max_bytes: args.max_bytes,
        algorithms: (!args.alg.is_empty()).then_some(algorithms),
    };
    let Some(token) = token(args, args.max_bytes)? else { return Ok(refused(Refusal::Malformed)) };
    let verifier = Verifier::new(&set, policy);
    let mut reply = if args.signature_only {
        verifier.verify_signature(&token).map(|payload| {
            Reply::one(0, json!({ "decision": "valid", "payload": String::from_utf8_lossy(&payload) }))
        })
    } else {
        verifier.verify(&token, now, Ends::Checked).map(|claims| {
            let said: Value = serde_json::from_str(&claims.text).unwrap_or_default();
            Reply::one(
                0,
                json!({
                    "decision": "valid",
                    "login": said.get("sub"),
                    "expires": unix(claims.expires_at),
                    "alg": claims.algorithm.name(),
                    "kid": claims.kid,
                    "claims": said,
                }),
            )
        })
    }
    .unwrap_or_else(refused);
    let unfit: Vec<Value> = set
        .unfit()
        .map(|(kid, why)| {
            format!("the key {} can't be used: {}", kid.unwrap_or("without a name"), why.message()).into()
        })
        .collect();
    if let (false, Some(Value::Object(row))) = (unfit.is_empty(), reply.rows.first_mut()) {
        row.insert("warnings".into(), unfit.into());
    }
    Ok(reply)
}
