//! Whatever somebody sends: no panic, a bounded time, bounded memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a panic is how a test says what is wrong, and a stopwatch needs a clock"
)]

#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use auth_token::{
    AccessFormat, Algorithm, Ends, FsaConfig, FsaFormat, Grant, Jwk, JwkSet, JwtConfig, JwtFormat, KeyRing,
    KeyType, Profile, Refusal, Short, Signer,
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
/// The longest token.
const CAP: usize = 8192;
/// What a token may take of memory, all in all, for each byte that a token may have.
const TIMES: usize = 40;

fn at(unix: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
}

/// The most memory that a token has taken, all in all.
static MOST: AtomicUsize = AtomicUsize::new(0);

struct World {
    formats: Vec<Box<dyn AccessFormat>>,
    tokens: Vec<String>,
    /// Signs what the first format verifies.
    signer: Signer,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let secret = Jwk::from_secret(&[7; 32], Algorithm::Hs256, Short::Refused).unwrap();
    let signer = Signer::new(&secret, None, Some("at+jwt")).unwrap();
    let mut keys = vec![secret];
    keys.extend(
        [KeyType::Rsa, KeyType::P256, KeyType::P521, KeyType::Ed25519]
            .map(|kind| Jwk::generate(kind, None).unwrap()),
    );
    let mut formats: Vec<Box<dyn AccessFormat>> = Vec::new();
    for key in keys {
        let ring = Arc::new(KeyRing::fixed(key, None).unwrap());
        formats.push(Box::new(JwtFormat::new(JwtConfig::new(Profile::Native), ring, at(NOW)).unwrap()));
    }
    formats
        .push(Box::new(FsaFormat::new(FsaConfig::new("acme", "the-quick-brown-fox-secret-2099!")).unwrap()));
    let grant = Grant {
        login: "calvin",
        scopes: &[],
        issued_at: at(NOW),
        expires_at: at(NOW + 600),
        family: None,
        client: None,
        auth_time: None,
        extra: serde_json::Map::new(),
    };
    let tokens = formats.iter().map(|format| format.issue(&grant).unwrap()).collect();
    World { formats, tokens, signer }
});

/// Verifies it everywhere: it may take memory only within the bound. Tells where it was valid.
fn verify(token: &str) -> Vec<usize> {
    let valid = WORLD.formats.iter().enumerate().filter(|(_, format)| {
        let before = counting_allocator::taken_bytes();
        let valid = format.verify(token, at(NOW), Ends::Checked);
        let taken = counting_allocator::taken_bytes() - before;
        MOST.fetch_max(taken, Ordering::Relaxed);
        assert!(taken <= TIMES * CAP, "{taken} bytes for {} of token", token.len());
        if token.len() > CAP {
            assert_eq!((valid.as_ref().err(), taken), (Some(&Refusal::TooLarge), 0));
        }
        valid.is_ok()
    });
    valid.map(|(at, _)| at).collect()
}

/// Payloads that make the most work of the bytes that a token may have.
fn hard_payloads() -> Vec<(&'static str, String)> {
    let room = CAP / 4 * 3 - 200;
    let fill = |begin: &str, one: &dyn Fn(usize) -> String, end: &str| {
        let mut text = begin.to_owned();
        for n in 0.. {
            let next = one(n);
            if text.len() + next.len() + end.len() > room {
                break;
            }
            text.push_str(&next);
        }
        text + end
    };
    let begin = "{\"sub\":\"calvin\",\"iat\":1,\"exp\":4102444799";
    let in_list = |one: &str| fill(&format!("{begin},\"a\":["), &|_| format!("{one},"), "0]}");
    vec![
        ("many names", fill(begin, &|n| format!(",\"{n:x}\":0"), "}")),
        (
            "many names in objects",
            fill(&format!("{begin},\"a\":["), &|n| format!("{{\"{n:x}\":{{}},\"z\":0}},"), "0]}"),
        ),
        ("numbers", in_list("1")),
        ("long numbers", in_list("1.234567890123456789012345678901234567890e-300")),
        ("lists", in_list("[]")),
        ("objects", in_list("{}")),
        ("texts", in_list("\"\"")),
        ("escapes", fill(&format!("{begin},\"a\":\""), &|_| "\\u0061".to_owned(), "\"}")),
        ("escaped texts", in_list("\"\\n\"")),
        ("escaped names", fill(begin, &|n| format!(",\"\\u{:04x}\":0", n + 256), "}")),
        (
            "deep",
            fill(
                &format!("{begin},\"a\":"),
                &|n| if n < 20 { "[".to_owned() } else { "\u{20}".to_owned() },
                "",
            ) + &"]".repeat(20)
                + "}",
        ),
    ]
}

#[test]
fn what_is_signed_and_hard_to_read_stays_within_its_bounds() {
    // The promise is 1 ms, of a program that is built for use; this one is not.
    let most = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 1 });
    for (name, payload) in hard_payloads() {
        let token = WORLD.signer.sign(&payload).unwrap();
        assert!((CAP - 400..=CAP).contains(&token.len()), "{name}: {}", token.len());
        let valid = verify(&token);
        assert!(valid == [0], "{name}: {valid:?}");
        let best = (0..20).map(|_| {
            let began = Instant::now();
            let _ = WORLD.formats[0].verify(&token, at(NOW), Ends::Checked);
            began.elapsed()
        });
        let best = best.min().unwrap();
        println!("{name}: {best:?}, at most {} bytes so far", MOST.load(Ordering::Relaxed));
        assert!(best < most, "{name}: {best:?}");
    }
}

#[test]
fn a_header_that_is_hard_to_read_stays_within_its_bounds() {
    use base64::Engine as _;
    for (name, payload) in hard_payloads() {
        let header = payload.replacen('{', "{\"alg\":\"HS256\",\"typ\":\"at+jwt\",", 1);
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        let token = format!("{header}.e30.e30");
        assert!((CAP - 400..=CAP).contains(&token.len()), "{name}");
        assert!(verify(&token).is_empty());
    }
}

#[test]
fn a_token_that_is_too_long_is_refused_before_anything_is_read() {
    let token = &WORLD.tokens[0];
    for more in [CAP, 1_000_000] {
        assert!(verify(&format!("{token}{}", "A".repeat(more))).is_empty());
    }
    assert_eq!(verify(token), [0]);
}

#[test]
fn a_check_takes_little_memory() {
    LazyLock::force(&WORLD);
    let allocations = |format: usize| {
        let before = counting_allocator::allocations();
        let valid = WORLD.formats[format].verify(&WORLD.tokens[format], at(NOW), Ends::Checked);
        let after = counting_allocator::allocations();
        assert!(valid.is_ok());
        after - before
    };
    // The login.
    assert_eq!(allocations(5), 1);
    // Payload, signature, the list of claims, login, jti, and the text that is handed on.
    assert!(allocations(0) <= 9, "{}", allocations(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn anything_at_all_is_refused(token in any::<Vec<u8>>()) {
        let token = String::from_utf8_lossy(&token);
        prop_assert!(verify(&token).is_empty());
        let _ = Jwk::parse(&token, Short::Accepted);
        let _ = Jwk::from_pem(&token);
        let _ = JwkSet::published(&token);
    }

    #[test]
    fn anything_of_the_right_shape_is_refused(
        token in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}"
    ) {
        prop_assert!(verify(&token).is_empty());
    }

    #[test]
    fn a_changed_token_is_refused(
        which in 0..6_usize, at_byte in any::<proptest::sample::Index>(), with in "[ -~]{0,3}", cut in 0..3_usize,
    ) {
        let token = &WORLD.tokens[which];
        let begin = at_byte.index(token.len());
        let end = (begin + cut).min(token.len());
        let changed = format!("{}{with}{}", &token[..begin], &token[end..]);
        if changed != *token {
            prop_assert!(verify(&changed).is_empty(), "{} for {}", changed, token);
        } else {
            prop_assert_eq!(verify(&changed), [which]);
        }
    }

    #[test]
    fn anything_that_we_have_signed_is_read_or_refused(payload in ".{0,200}", name in "[a-z]{1,9}", value in ".{0,40}") {
        verify(&WORLD.signer.sign(&payload).unwrap());
        let near = format!("{{\"sub\":\"calvin\",\"iat\":1,\"exp\":4102444799,\"{name}\":{value}}}");
        verify(&WORLD.signer.sign(&near).unwrap());
        let text = serde_json::json!({"sub": value, "iat": 1, "exp": 4_102_444_799_u64, "x": {name: payload}}).to_string();
        prop_assert_eq!(verify(&WORLD.signer.sign(&text).unwrap()).len(), usize::from(!value.is_empty()));
    }
}
