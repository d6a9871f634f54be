//! Every vector of tokens, keys, sets and thumbprints, with its verdict and its class.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::time::{Duration, SystemTime};

use auth_token::{Algorithm, Ends, Jwk, JwkSet, Policy, Purpose, Refusal, Short, Verifier};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../integration-tests/data/jwt_jwk.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn group(name: &str) -> Vec<Value> {
    vectors()[name].as_array().unwrap().clone()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// The key as a verifier has it: public halves, but for secrets.
fn key_of(key: &Value) -> Value {
    let mut key = key.clone();
    if key["kty"] != "oct" {
        for name in ["d", "p", "q", "dp", "dq", "qi"] {
            key.as_object_mut().unwrap().remove(name);
        }
    }
    key
}

fn verifier(all: &Value, vector: &Value) -> Verifier {
    let asked = &all["verifiers"][vector["verifier"].as_str().unwrap()];
    let profile = &all["profiles"][vector["profile"].as_str().unwrap()];
    let keys: Vec<Value> = texts(&asked["keys"]).iter().map(|name| key_of(&all["keys"][name])).collect();
    let short =
        if asked["keys"] == json!(["twopi-example-secret"]) { Short::Accepted } else { Short::From32 };
    let set = JwkSet::own(&json!({ "keys": keys }).to_string(), short).unwrap();
    let policy = Policy {
        issuer: profile["iss"].as_str().map(str::to_owned),
        audience: profile["aud"].as_str().map(str::to_owned),
        types: profile["typ_required"].is_array().then(|| texts(&profile["typ_required"])),
        leeway: Duration::from_secs(profile["leeway"].as_u64().unwrap()),
        required: texts(&profile["require"]),
        max_bytes: profile["max_token_bytes"].as_u64().map_or(8192, |max| usize::try_from(max).unwrap()),
        algorithms: Some(
            texts(&asked["algs"]).iter().filter_map(|name| Algorithm::from_name(name)).collect(),
        ),
    };
    Verifier::new(&set, policy)
}

fn token_of(vector: &Value) -> String {
    if let Some(token) = vector["token"].as_str() {
        return token.to_owned();
    }
    let made = &vector["token_gen"];
    let text = |name: &str| made[name].as_str().unwrap();
    let count = usize::try_from(made["count"].as_u64().unwrap()).unwrap();
    format!("{}{}{}", text("prefix"), text("repeat").repeat(count), text("suffix"))
}

fn time(vector: &Value) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(vector["now"].as_u64().unwrap())
}

#[test]
fn every_token_vector_has_its_verdict_and_its_class() {
    let all = vectors();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for vector in group("jwt") {
        let id = vector["id"].as_str().unwrap();
        let verifier = verifier(&all, &vector);
        let token = token_of(&vector);
        let signed_only = vector["profile"] == "sig-only";
        let said = if signed_only {
            verifier.verify_signature(&token).map(|payload| String::from_utf8(payload).unwrap())
        } else {
            verifier.verify(&token, time(&vector), Ends::Checked).map(|claims| claims.text)
        };
        count += 1;
        // Encryption is out of scope: such tokens are refused, whatever would be in them.
        let jwe = vector["group"] == "jwe";
        let verdict = if jwe { "reject" } else { vector["verdict"].as_str().unwrap() };
        match (&said, verdict) {
            (Ok(text), "accept") => {
                if let Some(payload) = vector["payload_utf8"].as_str() {
                    assert_eq!(text, payload, "{id}");
                }
                if vector["claims"].is_object() {
                    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), vector["claims"], "{id}");
                }
            }
            (Err(why), "reject") => {
                let class = vector["error"].as_str().filter(|_| !jwe);
                if class.is_some_and(|class| class != why.as_str()) {
                    wrong.push(format!("{id}: {why} instead of {}", vector["error"]));
                }
            }
            (_, "either") => {}
            (said, verdict) => wrong.push(format!("{id}: {said:?} instead of {verdict}")),
        }
    }
    assert!(count >= 200, "{count}");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_key_vector_has_its_verdict() {
    let mut wrong = Vec::new();
    for vector in group("jwk") {
        let id = vector["id"].as_str().unwrap();
        let purpose = match vector["purpose"].as_str().unwrap() {
            "import" => Purpose::Import,
            "verify" => Purpose::Verify,
            "sign" => Purpose::Sign,
            other => panic!("{other}"),
        };
        let key = Jwk::parse(&vector["jwk"].to_string(), Short::Refused)
            .and_then(|key| key.allows(purpose).map(|()| key));
        match (key, vector["verdict"].as_str().unwrap()) {
            (Ok(key), "accept") => {
                let print = vector["thumbprint_s256"].as_str().unwrap();
                assert_eq!(key.thumbprint(), print, "{id}");
                assert_eq!(key.is_private(), vector["has_private"] == true, "{id}");
                let public = key.public().map(|key| serde_json::from_str(&key.to_json()).unwrap());
                assert_eq!(public.unwrap_or(Value::Null), vector["public"], "{id}");
                // It reads what it writes.
                let again = Jwk::parse(&key.to_json(), Short::Refused).unwrap();
                assert_eq!(again.to_json(), key.to_json(), "{id}");
            }
            (Err(_), "reject") | (_, "either") => {}
            (key, verdict) => wrong.push(format!("{id}: {key:?} instead of {verdict}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_text_and_thumbprint_has_its_verdict() {
    for vector in group("jwk_text") {
        let key = Jwk::parse(vector["text"].as_str().unwrap(), Short::Refused);
        match vector["verdict"].as_str().unwrap() {
            "accept" => {
                assert_eq!(
                    key.unwrap().thumbprint(),
                    vector["thumbprint_s256"].as_str().unwrap(),
                    "{vector}"
                );
            }
            "reject" => assert!(key.is_err(), "{vector}"),
            _ => {}
        }
    }
    for vector in group("thumbprints") {
        let key = Jwk::parse(&vector["jwk"].to_string(), Short::Refused).unwrap();
        assert_eq!(key.thumbprint(), vector["sha256"].as_str().unwrap(), "{vector}");
    }
}

#[test]
fn every_set_vector_has_its_verdict() {
    for vector in group("jwks") {
        let set = JwkSet::published(&vector["jwks"].to_string());
        match vector["verdict"].as_str().unwrap() {
            "accept" => {
                let set = set.unwrap();
                let kids: Vec<_> = set.keys().iter().filter_map(Jwk::kid).collect();
                assert_eq!(json!(kids), vector["usable_kids"], "{vector}");
            }
            "reject" => assert!(set.is_err(), "{vector}"),
            _ => {}
        }
    }
}

#[test]
fn a_key_that_can_not_be_used_is_told_from_one_that_is_not_there() {
    let weak = json!({"kty": "oct", "kid": "weak", "alg": "HS256", "k": "52I9yfgjzLgMdbXiKNHSKQ"});
    let set = JwkSet::own(&weak.to_string(), Short::From32).unwrap();
    assert_eq!((set.keys().len(), set.unfit().count()), (0, 1));
    let verifier = Verifier::new(&set, Policy::default());
    let token = |kid: &str| {
        let strong = Jwk::from_secret(&[7; 32], Algorithm::Hs256, Short::Refused).unwrap().with_kid(kid);
        auth_token::Signer::new(&strong, None, None).unwrap().sign("{\"exp\":4102444799}").unwrap()
    };
    let now = SystemTime::UNIX_EPOCH;
    assert_eq!(verifier.verify(&token("weak"), now, Ends::Checked), Err(Refusal::Key));
    assert_eq!(verifier.verify(&token("other"), now, Ends::Checked), Err(Refusal::UnknownKey));
}

#[test]
fn which_of_several_keys_it_is_must_be_said() {
    let key = |byte: u8| Jwk::from_secret(&[byte; 32], Algorithm::Hs256, Short::Refused).unwrap();
    let token =
        |key: &Jwk| auth_token::Signer::new(key, None, None).unwrap().sign("{\"exp\":4102444799}").unwrap();
    let check = |keys: Vec<Jwk>, token: &str| {
        let verifier = Verifier::new(&JwkSet::new(keys).unwrap(), Policy::default());
        verifier.verify(token, SystemTime::UNIX_EPOCH, Ends::Checked).map(|claims| claims.kid)
    };
    let (one, two) = (key(1).with_kid("one"), key(2).with_kid("two"));
    // Without a name there is only one that it can be; a key without a name is nobody's by name.
    assert_eq!(check(vec![one.clone()], &token(&key(1))), Ok(Some("one".to_owned())));
    assert_eq!(check(vec![key(1)], &token(&key(1))), Ok(None));
    assert_eq!(check(vec![key(1)], &token(&one)), Err(Refusal::UnknownKey));
    assert_eq!(check(vec![one.clone(), two.clone()], &token(&key(1))), Err(Refusal::UnknownKey));
    assert_eq!(check(vec![one.clone(), key(1)], &token(&key(1))), Err(Refusal::UnknownKey));
    assert_eq!(check(vec![one.clone(), two.clone()], &token(&two)), Ok(Some("two".to_owned())));
    assert_eq!(check(vec![one.clone(), two], &token(&key(2).with_kid("one"))), Err(Refusal::Signature));
    assert_eq!(check(Vec::new(), &token(&one)), Err(Refusal::UnknownKey));
    assert!(JwkSet::new(vec![one.clone(), one]).is_err());
}

#[test]
fn keys_are_refused_for_what_no_vector_has() {
    let all = vectors();
    let key = |name: &str| all["keys"][name].clone();
    let read = |key: &Value| Jwk::parse(&key.to_string(), Short::Refused);
    let with = |name: &str, changes: &[(&str, Value)]| {
        let mut key = key(name);
        for (member, value) in changes {
            match value {
                Value::Null => drop(key.as_object_mut().unwrap().remove(*member)),
                value => key[*member] = value.clone(),
            }
        }
        key
    };
    let refused = |key: &Value| assert!(read(key).is_err(), "{key}");
    let b64 = |bytes: &[u8]| {
        use base64::Engine as _;
        json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    };
    let gone = Value::Null;

    for k in ["", "AA", "AAAA=", "AB", " AAAA"] {
        refused(&with("hs256-a", &[("k", json!(k))]));
    }
    refused(&with("hs256-a", &[("k", b64(&[7; 31]))]));
    refused(&with("hs256-a", &[("alg", json!("HS512"))]));
    refused(&with("hs256-a", &[("alg", gone.clone()), ("k", b64(&[7; 31]))]));
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let missing = with("rs256-a", &[(name, gone.clone())]);
        refused(&missing);
    }
    for e in [&[0][..], &[2], &[1, 0, 0], &[0, 1, 0, 1], &[1, 0, 0, 0, 0, 1]] {
        refused(&with("rs256-a", &[("e", b64(e))]));
    }
    refused(&with("rs256-a", &[("oth", json!([]))]));
    // d alone may be, and does not sign.
    let bare: Vec<_> = ["p", "q", "dp", "dq", "qi"].map(|name| (name, gone.clone())).into();
    let bare = read(&with("rs256-a", &bare)).unwrap();
    assert!(bare.is_private() && bare.allows(Purpose::Sign).is_err() && bare.allows(Purpose::Verify).is_ok());
    assert_eq!(read(&serde_json::from_str(&bare.to_json()).unwrap()).unwrap().to_json(), bare.to_json());
    assert!(!bare.public().unwrap().to_json().contains("\"d\""));
    for (name, other) in [("es256-a", "attacker-ec"), ("ed25519-a", "attacker-ed")] {
        refused(&with(name, &[("d", key(other)["d"].clone())]));
        refused(&with(name, &[("x", gone.clone())]));
    }
    refused(&with("es256-a", &[("d", b64(&[0; 32]))]));
    refused(&with("es256-a", &[("d", b64(&[0xff; 32]))]));
    refused(&with("es256-a", &[("crv", json!("secp256k1"))]));
    refused(&with("ed25519-a", &[("crv", json!("X25519"))]));
    // With points of small order as a key anything has a signature; with and without the sign.
    for (first, last) in [(0, 0), (1, 0), (1, 0x80), (0, 0x80)] {
        let mut point = [0; 32];
        (point[0], point[31]) = (first, last);
        refused(&json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&point)}));
    }
    for (name, value) in [
        ("use", json!(1)),
        ("key_ops", json!("sign")),
        ("key_ops", json!(["sign", "sign"])),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("HS256")),
        ("alg", json!("RSA-OAEP")),
        ("k", json!("AAAA")),
    ] {
        refused(&with("es256-a", &[(name, value)]));
    }
    let only = |ops: Value| read(&with("es256-a", &[("key_ops", ops)])).unwrap();
    let both = only(json!(["sign", "verify"]));
    assert!(both.allows(Purpose::Sign).is_ok() && both.allows(Purpose::Verify).is_ok());
    assert!(only(json!(["verify"])).allows(Purpose::Sign).is_err());
    assert!(both.public().unwrap().to_json().contains("\"key_ops\":[\"verify\"]"));
    // For encryption: kept, and of no use here.
    let wrap = read(&key("rfc7520-5.6")).unwrap();
    assert!(wrap.allows(Purpose::Import).is_ok() && wrap.allows(Purpose::Verify).is_err());
}
