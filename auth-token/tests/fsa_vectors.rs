//! Every vector of FlaskSimpleAuth's tokens, with the verdict of FlaskSimpleAuth 18.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::time::{Duration, SystemTime};

use auth_token::{
    AccessFormat, Algorithm, Ends, FsaAlgorithm, FsaConfig, FsaFormat, Jwk, JwkSet, Policy, Refusal, Short,
    Verifier,
};
use serde_json::Value;

const VECTORS: &str = include_str!("../../integration-tests/data/fsa_tokens.json");

/// What is refused here though FlaskSimpleAuth takes it: the README lists why.
const STRICTER: [&str; 2] = ["fsa-unicode-digits-limit", "fsa-len0"];

/// The vectors were made in 2026.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

fn grace(config: &Value) -> Duration {
    Duration::from_secs_f64(config["grace_minutes"].as_f64().unwrap() * 60.0)
}

fn fsa(config: &Value) -> auth_core::Result<FsaFormat> {
    FsaFormat::new(FsaConfig {
        issuer: text(config, "issuer").map(str::to_owned),
        algorithm: FsaAlgorithm::from_name(text(config, "algo").unwrap()).unwrap(),
        length: usize::try_from(config["length"].as_u64().unwrap()).unwrap(),
        grace: grace(config),
        ..FsaConfig::new(text(config, "realm").unwrap(), text(config, "secret").unwrap())
    })
}

/// `None` for `none`, which no verifier can be made for.
fn jwt(config: &Value) -> Option<Verifier> {
    let algorithm = Algorithm::from_name(text(config, "algo").unwrap())?;
    let secret = text(config, "secret").unwrap();
    let key = if secret.starts_with("-----BEGIN ") {
        Jwk::from_pem(secret).unwrap()
    } else {
        Jwk::from_secret(secret.as_bytes(), algorithm, Short::Accepted).unwrap()
    };
    let policy = Policy {
        issuer: text(config, "issuer").map(str::to_owned),
        audience: text(config, "realm").map(str::to_owned),
        leeway: grace(config),
        required: vec!["sub".to_owned()],
        algorithms: Some(vec![algorithm]),
        ..Policy::default()
    };
    Some(Verifier::new(&JwkSet::new(vec![key]).unwrap(), policy))
}

#[test]
fn every_vector_has_the_verdict_of_flask_simple_auth() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 50);
    let mut stricter = 0;
    for vector in vectors {
        let (name, config, token) =
            (text(vector, "name").unwrap(), &vector["config"], text(vector, "token").unwrap());
        let expected = &vector["v18"];
        let said = match text(config, "type").unwrap() {
            "jwt" => jwt(config).ok_or(Refusal::Alg).and_then(|jwt| {
                let claims = jwt.verify(token, now(), Ends::Checked)?;
                let said: Value = serde_json::from_str(&claims.text).unwrap();
                Ok((said["sub"].as_str().unwrap().to_owned(), claims.expires_at))
            }),
            _ => match fsa(config) {
                Ok(fsa) => {
                    fsa.verify(token, now(), Ends::Checked).map(|valid| (valid.login, valid.expires_at))
                }
                Err(_) => Err(Refusal::Signature),
            },
        };
        if STRICTER.contains(&name) {
            assert!(said.is_err() && expected["ok"] == true, "{name}: {said:?}");
            stricter += 1;
            continue;
        }
        match said {
            Ok((login, end)) => {
                assert_eq!(expected["ok"], true, "{name} is accepted");
                assert_eq!(text(expected, "user"), Some(login.as_str()), "{name}");
                let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                assert_eq!(expected["exp"].as_u64(), Some(end), "{name}");
            }
            Err(why) => assert_eq!(expected["ok"], false, "{name} is refused: {why}"),
        }
    }
    assert_eq!(stricter, STRICTER.len());
}

#[test]
fn the_reasons_come_in_the_order_of_flask_simple_auth() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let Ok(fsa) = (if vector["config"]["type"] == "fsa" { fsa(&vector["config"]) } else { continue })
        else {
            continue;
        };
        let Err(why) = fsa.verify(text(vector, "token").unwrap(), now(), Ends::Checked) else { continue };
        let message = vector["v18"]["message"].as_str().unwrap_or_default();
        let class = [
            ("invalid fsa token", Refusal::Malformed),
            ("unexpected realm", Refusal::Realm),
            ("unexpected limit", Refusal::ClaimType),
            ("unexpected timestamp", Refusal::Malformed),
            ("invalid fsa auth token signature", Refusal::Signature),
            ("expired", Refusal::Expired),
        ];
        if let Some((_, class)) = class.iter().find(|(begin, _)| message.starts_with(begin)) {
            assert_eq!(why, *class, "{vector}");
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}
