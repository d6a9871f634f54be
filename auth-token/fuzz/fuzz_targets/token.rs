//! Whatever somebody sends as a token or as a key: nothing that we have not signed is valid, and nothing that we have
//! signed is read as anything else. Tells the longest time that an input has taken.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use auth_token::{
    AccessFormat, Algorithm, Ends, FsaConfig, FsaFormat, Jwk, JwkSet, JwtConfig, JwtFormat, KeyRing, KeyType,
    Profile, Short, Signer,
};
use libfuzzer_sys::fuzz_target;

struct World {
    formats: Vec<Box<dyn AccessFormat>>,
    /// Signs what the first three formats verify.
    signer: Signer,
    now: SystemTime,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let secret = Jwk::from_secret(&[7; 32], Algorithm::Hs256, Short::Refused).unwrap();
    let signer = Signer::new(&secret, None, Some("at+jwt")).unwrap();
    let mut formats: Vec<Box<dyn AccessFormat>> = Vec::new();
    let mut add = |profile, key: Jwk| {
        let ring = Arc::new(KeyRing::fixed(key, None).unwrap());
        formats.push(Box::new(JwtFormat::new(JwtConfig::new(profile), ring, now).unwrap()));
    };
    for profile in [Profile::Native, Profile::Ampho, Profile::Twopi] {
        add(profile, secret.clone());
    }
    for kind in [KeyType::Rsa, KeyType::P256, KeyType::Ed25519] {
        add(Profile::Native, Jwk::generate(kind, None).unwrap());
    }
    formats.push(Box::new(FsaFormat::new(FsaConfig::new("acme", "that nobody has signed with")).unwrap()));
    World { formats, signer, now }
});

/// The longest time of one verification, in nanoseconds.
static LONGEST: AtomicU64 = AtomicU64::new(0);

/// Times a verification. What seems long is timed again: the system may have done something else meanwhile.
fn time(format: &dyn AccessFormat, token: &str) {
    let once = || {
        let began = Instant::now();
        let _ = format.verify(token, WORLD.now, Ends::Checked);
        u64::try_from(began.elapsed().as_nanos()).unwrap()
    };
    let longest = LONGEST.load(Ordering::Relaxed);
    let mut took = once();
    for _ in 0..9 {
        if took <= longest {
            return;
        }
        took = took.min(once());
    }
    LONGEST.fetch_max(took, Ordering::Relaxed);
    eprintln!("longest verification: {took} ns, of {} bytes", token.len());
}

fn verify(token: &str) -> Vec<usize> {
    let mut valid = Vec::new();
    for (at, format) in WORLD.formats.iter().enumerate() {
        let said = format.verify(token, WORLD.now, Ends::Checked);
        time(format.as_ref(), token);
        if let Ok(said) = said {
            assert!(!said.login.is_empty());
            if let Some(text) = &said.claims {
                let claims: serde_json::Value = serde_json::from_str(text).unwrap();
                assert!(claims.is_object() && claims["exp"].is_number());
            }
            valid.push(at);
        }
    }
    valid
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    assert!(verify(&text).is_empty(), "nobody has signed this");
    // As a payload that we have signed; and as what is in the middle of one that is otherwise right.
    verify(&WORLD.signer.sign(&text).unwrap());
    let near =
        format!("{{\"sub\":\"c\",\"login\":\"c\",\"user_id\":\"c\",\"iat\":1,\"exp\":4102444799{text}}}");
    verify(&WORLD.signer.sign(&near).unwrap());
    // As a key, as a set, as PEM: what is read writes what is read again as the same.
    for short in [Short::Refused, Short::Accepted] {
        if let Ok(key) = Jwk::parse(&text, short) {
            let again = Jwk::parse(&key.to_json(), short).unwrap();
            assert_eq!((again.thumbprint(), again.kid()), (key.thumbprint(), key.kid()));
        }
        let _ = JwkSet::own(&text, short);
    }
    let _ = Jwk::from_pem(&text);
    if let Ok(set) = JwkSet::published(&text) {
        assert!(set.keys().iter().all(|key| !key.is_private()));
        assert!(JwkSet::published(&set.to_public_json()).is_ok());
    }
});
