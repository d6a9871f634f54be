//! What it costs to check and to make a token, beside another implementation on the same primitives:
//! `cargo bench -p auth-token --bench tokens`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use auth_token::{
    AccessFormat, Algorithm, Ends, FsaAlgorithm, FsaConfig, FsaFormat, Grant, Jwk, JwtConfig, JwtFormat,
    KeyRing, KeyType, Profile,
};
use base64::Engine as _;
use jsonwebtoken as other;
use serde::Deserialize;

/// The best of many short rounds, in nanoseconds a call: the others are what else the machine does.
fn best<T>(calls: u32, mut call: impl FnMut() -> T) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..calls).for_each(|_| drop(black_box(call())));
        began.elapsed()
    };
    (0..60).map(round).fold(Duration::MAX, Duration::min).as_secs_f64() * 1e9 / f64::from(calls)
}

/// The claims of our tokens, for the other: it checks `exp`, `nbf`, `aud` and `iss`.
#[derive(Deserialize)]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    sid: String,
    scope: String,
}

fn main() {
    // The other has no clock but the system's.
    let now = SystemTime::now();
    let scopes = ["read".to_owned(), "write".to_owned()];
    let grant = Grant {
        login: "calvin",
        scopes: &scopes,
        issued_at: now,
        expires_at: now + Duration::from_secs(3600),
        family: Some(([7; 16], 3)),
        client: None,
        auth_time: Some(now),
        extra: serde_json::Map::new(),
    };
    println!("{:<10} {:>10} {:>14} {:>8} {:>12}", "ns", "check", "jsonwebtoken", "ratio", "make");
    for algorithm in Algorithm::ALL {
        let key = Jwk::generate(algorithm.key_type(), Some(algorithm)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&key.to_json()).unwrap();
        let ring = Arc::new(KeyRing::fixed(key, None).unwrap());
        let config = JwtConfig {
            issuer: Some("https://auth.example.test".to_owned()),
            audience: Some("api".to_owned()),
            ..JwtConfig::new(Profile::Native)
        };
        let format = JwtFormat::new(config, ring, now).unwrap();
        let token = format.issue(&grant).unwrap();
        let calls = if algorithm.key_type() == KeyType::Oct { 2000 } else { 50 };
        let check = best(calls, || format.verify(black_box(&token), now, Ends::Checked).unwrap());
        let peer = algorithm.name().parse::<other::Algorithm>().ok().map(|name| {
            let decoding = match json["k"].as_str() {
                Some(k) => other::DecodingKey::from_secret(
                    &base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(k).unwrap(),
                ),
                None => other::DecodingKey::from_jwk(&serde_json::from_value(json.clone()).unwrap()).unwrap(),
            };
            let mut validation = other::Validation::new(name);
            validation.validate_nbf = true;
            validation.set_audience(&["api"]);
            validation.set_issuer(&["https://auth.example.test"]);
            best(calls, || other::decode::<Claims>(black_box(&token), &decoding, &validation).unwrap())
        });
        let calls = if algorithm.key_type() == KeyType::Rsa { 1 } else { calls };
        let make = best(calls, || format.issue(black_box(&grant)).unwrap());
        let (beside, ratio) = match peer {
            Some(peer) => (format!("{peer:.0}"), format!("{:.2}", check / peer)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("{:<10} {check:>10.0} {beside:>14} {ratio:>8} {make:>12.0}", algorithm.name());
    }
    let grant = Grant { scopes: &[], family: None, auth_time: None, ..grant };
    for algorithm in FsaAlgorithm::ALL {
        let config = FsaConfig { algorithm, ..FsaConfig::new("acme", "the-quick-brown-fox-secret-2099!") };
        let format = FsaFormat::new(config).unwrap();
        let token = format.issue(&grant).unwrap();
        let check = best(2000, || format.verify(black_box(&token), now, Ends::Checked).unwrap());
        let make = best(2000, || format.issue(black_box(&grant)).unwrap());
        let name = format!("fsa {algorithm}");
        println!("{name:<15} {check:>5.0} {:>14} {:>8} {make:>12.0}", "-", "-");
    }
}
