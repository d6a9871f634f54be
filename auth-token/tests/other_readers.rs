//! Another implementation reads what we write, and we read what it writes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_token::{
    AccessFormat, Algorithm, Ends, Grant, Jwk, JwkSet, JwtConfig, JwtFormat, KeyRing, KeyType, Policy,
    Profile, Short, Verifier,
};
use jsonwebtoken as other;
use serde_json::{Map, Value, json};

const END: u64 = 4_102_444_799;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn theirs(algorithm: Algorithm) -> Option<other::Algorithm> {
    algorithm.name().parse().ok()
}

#[test]
fn what_we_sign_it_verifies_with_the_key_that_we_publish() {
    let mut read = 0;
    for algorithm in Algorithm::ALL {
        // It knows neither ES512 nor the name Ed25519.
        let Some(name) = theirs(algorithm) else { continue };
        let key = Jwk::generate(algorithm.key_type(), Some(algorithm)).unwrap();
        let ring = Arc::new(KeyRing::fixed(key.clone(), None).unwrap());
        let format = JwtFormat::new(JwtConfig::new(Profile::Native), ring, now()).unwrap();
        let grant = Grant {
            login: "susié",
            scopes: &["read".to_owned()],
            issued_at: now(),
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(END),
            family: Some(([1; 16], 2)),
            client: None,
            auth_time: None,
            extra: Map::new(),
        };
        let token = format.issue(&grant).unwrap();
        let decoding = if algorithm.key_type() == KeyType::Oct {
            let key: Value = serde_json::from_str(&key.to_json()).unwrap();
            use base64::Engine as _;
            let secret =
                base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
            other::DecodingKey::from_secret(&secret)
        } else {
            let set: other::jwk::JwkSet = serde_json::from_str(&format.jwks(now())).unwrap();
            other::DecodingKey::from_jwk(set.find(key.kid().unwrap()).unwrap()).unwrap()
        };
        let claims = other::decode::<Value>(&token, &decoding, &other::Validation::new(name)).unwrap();
        assert_eq!(claims.claims["sub"], "susié", "{algorithm}");
        assert_eq!((claims.header.kid.as_deref(), claims.header.typ.as_deref()), (key.kid(), Some("at+jwt")));
        read += 1;
    }
    assert_eq!(read, 12);
}

#[test]
fn what_it_signs_we_verify_with_its_keys_in_pem() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../integration-tests/data/fsa_tokens.json")).unwrap();
    let mut keys =
        vec![(None, "the-quick-brown-fox-secret-2099!".to_owned(), vec!["HS256", "HS384", "HS512"])];
    let mut seen = std::collections::BTreeSet::new();
    for vector in vectors["vectors"].as_array().unwrap() {
        let config = &vector["config"];
        let (Some(public), Some(private)) = (config["secret"].as_str(), config["sign"].as_str()) else {
            continue;
        };
        if seen.insert(private.to_owned()) {
            let names = match Jwk::from_pem(private).unwrap().key_type() {
                KeyType::Rsa => vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
                kind => vec![kind.algorithm().name()],
            };
            keys.push((Some(private.to_owned()), public.to_owned(), names));
        }
    }
    assert!(keys.len() >= 3, "RSA and EC besides the secret");
    for (private, public, names) in keys {
        let jwk = match &private {
            None => Jwk::from_secret(public.as_bytes(), Algorithm::Hs256, Short::From32).unwrap(),
            Some(private) => {
                let (ours, theirs) = (Jwk::from_pem(private).unwrap(), Jwk::from_pem(&public).unwrap());
                assert_eq!(ours.thumbprint(), theirs.thumbprint(), "halves of one key");
                assert!(ours.is_private() && !theirs.is_private());
                theirs
            }
        };
        for name in names {
            let algorithm = Algorithm::from_name(name).unwrap();
            let encoding = match &private {
                None => other::EncodingKey::from_secret(public.as_bytes()),
                Some(pem) if jwk.key_type() == KeyType::Rsa => {
                    other::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
                }
                Some(pem) if jwk.key_type() == KeyType::Ed25519 => {
                    other::EncodingKey::from_ed_pem(pem.as_bytes()).unwrap()
                }
                Some(pem) => other::EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            };
            let header = other::Header::new(theirs(algorithm).unwrap());
            let token = other::encode(&header, &json!({"sub": "calvin", "exp": END}), &encoding).unwrap();
            let key = match &private {
                None => Jwk::from_secret(public.as_bytes(), algorithm, Short::From32).unwrap(),
                Some(_) => jwk.clone(),
            };
            let policy = Policy { algorithms: Some(vec![algorithm]), ..Policy::default() };
            let verifier = Verifier::new(&JwkSet::new(vec![key]).unwrap(), policy);
            let claims = verifier.verify(&token, now(), Ends::Checked).unwrap();
            assert_eq!(claims.text, format!("{{\"exp\":{END},\"sub\":\"calvin\"}}"), "{name}");
        }
    }
}
