//! Tokens as the service makes and reads them, and the keys behind them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a panic is how a test says what is wrong"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::ErrorKind;
use auth_token::{
    AccessFormat, Algorithm, Ends, Grant, Jwk, JwtConfig, JwtFormat, KeyRing, KeyType, Profile, Refusal,
    Signer,
};
use serde_json::{Map, Value, json};

const NOW: u64 = 1_800_000_000;

fn at(unix: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
}

fn grant() -> Grant<'static> {
    Grant {
        login: "calvin",
        scopes: &[],
        issued_at: at(NOW) + Duration::from_millis(789),
        expires_at: at(NOW + 600),
        family: Some(([0xab; 16], 7)),
        client: Some("app"),
        auth_time: Some(at(NOW - 60)),
        extra: Map::from_iter([("theme".to_owned(), json!({"dark": true}))]),
    }
}

fn ring(kind: KeyType) -> Arc<KeyRing> {
    Arc::new(KeyRing::fixed(Jwk::generate(kind, None).unwrap(), None).unwrap())
}

fn format(profile: Profile) -> JwtFormat {
    let config = JwtConfig {
        issuer: Some("https://auth.example.test".to_owned()),
        audience: Some("api".to_owned()),
        ..JwtConfig::new(profile)
    };
    JwtFormat::new(config, ring(KeyType::Ed25519), at(NOW)).unwrap()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

#[test]
fn what_is_granted_is_what_is_read_in_each_profile() {
    let scopes = ["read".to_owned(), "write".to_owned()];
    for profile in [Profile::Native, Profile::Ampho, Profile::Twopi] {
        let format = format(profile);
        let grant = Grant { scopes: &scopes, ..grant() };
        let token = format.issue(&grant).unwrap();
        let valid = format.verify(&token, at(NOW), Ends::Checked).unwrap();
        assert_eq!((valid.login.as_str(), valid.scopes.as_slice()), ("calvin", &scopes[..]), "{profile:?}");
        assert_eq!((valid.family, valid.generation), (Some([0xab; 16]), Some(7)), "{profile:?}");
        assert_eq!(valid.expires_at, at(NOW + 600));
        assert_eq!(valid.issued_ms, Some(NOW * 1000 + 789), "of jti, to the millisecond");
        let said: Value = serde_json::from_str(valid.claims.as_deref().unwrap()).unwrap();
        assert_eq!(said["theme"], json!({"dark": true}));
        assert_eq!(said, claims(&token));
        assert_eq!(valid.id.as_deref(), said["jti"].as_str());
        assert_ne!(token, format.issue(&grant).unwrap(), "each has a name of its own");
    }
}

#[test]
fn each_profile_names_its_claims_as_those_it_is_for() {
    let names = |profile| {
        let config = JwtConfig::new(profile);
        let format = JwtFormat::new(config, ring(KeyType::Oct), at(NOW)).unwrap();
        let token = format.issue(&Grant { extra: Map::new(), ..grant() }).unwrap();
        let header = token.split('.').next().unwrap();
        let header = claims(&format!("x.{header}"));
        (header, claims(&token).as_object().unwrap().keys().cloned().collect::<Vec<_>>())
    };
    let (header, native) = names(Profile::Native);
    assert_eq!(header, json!({"alg": "HS256", "typ": "at+jwt"}));
    assert_eq!(native, ["auth_time", "client_id", "exp", "gen", "iat", "jti", "nbf", "sid", "sub"]);
    let (header, ampho) = names(Profile::Ampho);
    assert_eq!(header, json!({"alg": "HS256"}));
    assert_eq!(ampho, ["exp", "gen", "jti", "login", "nbf", "sid"]);
    let (header, twopi) = names(Profile::Twopi);
    assert_eq!(header, json!({"alg": "HS256", "typ": "JWT"}));
    assert_eq!(twopi, ["exp", "gen", "iat", "jti", "rfid", "scopes", "user_id"]);
}

#[test]
fn a_grant_that_can_not_be_said_is_refused() {
    let format = format(Profile::Native);
    let refused = |grant: &Grant<'_>| assert_eq!(format.issue(grant).unwrap_err().kind(), ErrorKind::Invalid);
    for name in
        ["sub", "exp", "iss", "aud", "scope", "scopes", "login", "user_id", "rfid", "gen", "sid", "cnf"]
    {
        refused(&Grant { extra: Map::from_iter([(name.to_owned(), json!("x"))]), ..grant() });
    }
    refused(&Grant { login: "", ..grant() });
    refused(&Grant { scopes: &["a b".to_owned()], ..grant() });
    refused(&Grant { scopes: &[String::new()], ..grant() });
    refused(&Grant { expires_at: at(NOW), ..grant() });
    refused(&Grant { expires_at: at(253_402_300_800), ..grant() });
    refused(&Grant { extra: Map::from_iter([("x".to_owned(), json!("x".repeat(7000)))]), ..grant() });
}

#[test]
fn a_token_ends_and_a_logout_reads_it_all_the_same() {
    let format = format(Profile::Native);
    let token = format.issue(&grant()).unwrap();
    let check = |now, ends| format.verify(&token, at(now), ends).map(|valid| valid.login);
    assert!(check(NOW + 629, Ends::Checked).is_ok());
    assert_eq!(check(NOW + 630, Ends::Checked), Err(Refusal::Expired));
    assert!(check(NOW + 1_000_000, Ends::Ignored).is_ok());
    assert_eq!(check(NOW - 31, Ends::Checked), Err(Refusal::NotYetValid));
    let mut forged = token.clone();
    let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
    forged.push(last);
    assert_eq!(
        format.verify(&forged, at(NOW), Ends::Ignored).map(|valid| valid.login),
        Err(Refusal::Signature)
    );
}

#[test]
fn claims_of_the_wrong_kind_are_refused() {
    let key = Jwk::generate(KeyType::Oct, None).unwrap();
    let signer = Signer::new(&key, None, Some("at+jwt")).unwrap();
    let ring = Arc::new(KeyRing::fixed(key, None).unwrap());
    let format = |profile| JwtFormat::new(JwtConfig::new(profile), Arc::clone(&ring), at(NOW)).unwrap();
    let said = |profile, claims: Value| {
        format(profile).verify(&signer.sign(&claims.to_string()).unwrap(), at(NOW), Ends::Checked)
    };
    let base = json!({"sub": "calvin", "login": "calvin", "user_id": "calvin", "iat": NOW, "exp": NOW + 60});
    let with = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        claims
    };
    for profile in [Profile::Native, Profile::Ampho, Profile::Twopi] {
        let valid = said(profile, base.clone()).unwrap();
        assert_eq!((valid.issued_ms, valid.id, valid.family), (Some(NOW * 1000), None, None));
        for (name, value) in [
            ("gen", json!(-1)),
            ("gen", json!(4_294_967_296_u64)),
            ("gen", json!("1")),
            ("scopes", json!("a")),
            ("scopes", json!([1])),
            ("scope", json!(["a"])),
            ("jti", json!(1)),
        ] {
            assert_eq!(said(profile, with(name, value)), Err(Refusal::ClaimType), "{name}");
        }
        assert_eq!(said(profile, with("scope", json!(" a  b "))).unwrap().scopes, ["a", "b"]);
        assert!(said(profile, with("scope", json!(""))).unwrap().scopes.is_empty());
    }
    for (profile, name, family) in [
        (Profile::Native, "sub", "sid"),
        (Profile::Ampho, "login", "sid"),
        (Profile::Twopi, "user_id", "rfid"),
    ] {
        assert_eq!(said(profile, with(name, json!(null))), Err(Refusal::ClaimType), "{name}");
        assert_eq!(said(profile, with(name, json!(""))), Err(Refusal::ClaimType), "{name}");
        let mut missing = base.clone();
        missing.as_object_mut().unwrap().remove(name);
        assert_eq!(said(profile, missing), Err(Refusal::MissingClaim), "{name}");
        assert_eq!(said(profile, with(family, json!(5))), Err(Refusal::ClaimType), "{family}");
        assert_eq!(said(profile, with(family, json!("s-1"))).unwrap().family, None);
        let id = said(profile, with(family, json!("000102030405060708090a0b0c0d0e0F"))).unwrap().family;
        assert_eq!(id, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
    }
    // A name that tells another time is a name, and no time.
    let id = "018f0000-0000-7000-8000-000000000000";
    let valid = said(Profile::Native, with("jti", json!(id))).unwrap();
    assert_eq!((valid.issued_ms, valid.id.as_deref()), (Some(NOW * 1000), Some(id)));
}

#[test]
fn each_algorithm_signs_and_verifies_and_no_key_is_good_for_another() {
    for algorithm in Algorithm::ALL {
        let key = Jwk::generate(algorithm.key_type(), Some(algorithm)).unwrap();
        assert_eq!(key.algorithm(), Some(algorithm));
        let ring = Arc::new(KeyRing::fixed(key.clone(), None).unwrap());
        let format = JwtFormat::new(JwtConfig::new(Profile::Native), ring, at(NOW)).unwrap();
        let token = format.issue(&grant()).unwrap();
        assert_eq!(format.verify(&token, at(NOW), Ends::Checked).unwrap().login, "calvin", "{algorithm}");
        let published: Value = serde_json::from_str(&format.jwks(at(NOW))).unwrap();
        let public = published["keys"].as_array().unwrap();
        assert_eq!(public.len(), usize::from(!algorithm.key_type().is_symmetric()), "{algorithm}");
        for other in Algorithm::ALL.into_iter().filter(|other| !other.is(algorithm)) {
            assert!(Signer::new(&key, Some(other), None).is_err(), "{algorithm} for {other}");
        }
    }
}

#[test]
fn nothing_of_a_private_key_is_printed() {
    for kind in [KeyType::Oct, KeyType::Ed25519, KeyType::P256, KeyType::Rsa] {
        let key = Jwk::generate(kind, None).unwrap();
        let json: Value = serde_json::from_str(&key.to_json()).unwrap();
        let ring = Arc::new(KeyRing::fixed(key.clone(), None).unwrap());
        let format = JwtFormat::new(JwtConfig::new(Profile::Native), Arc::clone(&ring), at(NOW)).unwrap();
        let printed = format!("{key:?} {ring:?} {format:?} {}", format.jwks(at(NOW)));
        for name in ["k", "d", "p", "q"] {
            if let Some(secret) = json[name].as_str() {
                assert!(!printed.contains(secret), "{kind:?}: {name}");
            }
        }
    }
}

#[test]
fn ed25519_has_two_names_and_keeps_the_one_that_its_key_has() {
    let key = |name| Jwk::generate(KeyType::Ed25519, Algorithm::from_name(name)).unwrap().with_kid("one");
    let key = key("Ed25519");
    let text: Value = serde_json::from_str(&key.to_json()).unwrap();
    assert_eq!(text["alg"], "Ed25519");
    let named = |name: &str| {
        let mut text = text.clone();
        text["alg"] = json!(name);
        Jwk::parse(&text.to_string(), auth_token::Short::Refused).unwrap()
    };
    let format = |name: &str| {
        let ring = Arc::new(KeyRing::fixed(named(name), None).unwrap());
        JwtFormat::new(JwtConfig::new(Profile::Native), ring, at(NOW)).unwrap()
    };
    let (old, new) = (format("EdDSA"), format("Ed25519"));
    for (by, name) in [(&old, "EdDSA"), (&new, "Ed25519")] {
        let token = by.issue(&grant()).unwrap();
        let header = claims(&format!("x.{}", token.split('.').next().unwrap()));
        assert_eq!(header["alg"], name);
        for reader in [&old, &new] {
            assert!(reader.verify(&token, at(NOW), Ends::Checked).is_ok(), "{name}");
        }
    }
}
