//! New hashes, and what new passwords must look like.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

use std::sync::Arc;

use auth_core::{ErrorKind, Password};
use auth_password::{Limits, Outcome, Policy, Preferred, Quality, Salts, Scheme, make, verify};
use auth_testkit::{login, password};
use regex::Regex;

const ARGON2: Preferred = Preferred::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
const BCRYPT: Preferred = Preferred::Bcrypt { cost: 4 };

fn policy(preferred: Preferred) -> Policy {
    Policy { preferred, ..Policy::default() }
}

fn outcome(policy: &Policy, hash: &str, password: &[u8]) -> Outcome {
    verify(policy, hash, None, password, &Salts::default()).unwrap()
}

#[test]
fn a_new_hash_verifies_and_needs_no_upgrade() {
    for preferred in [ARGON2, BCRYPT, Preferred::Argon2id { memory_kib: 256, passes: 3, lanes: 4 }] {
        let made = make(&preferred, &password("hobbes")).unwrap();
        let again = make(&preferred, &password("hobbes")).unwrap();
        assert_ne!(made, again, "salts differ");
        let policy = policy(preferred);
        assert_eq!(outcome(&policy, made.as_str(), b"hobbes"), Outcome::Match { upgrade: false, step: None });
        assert_eq!(outcome(&policy, made.as_str(), b"Hobbes"), Outcome::Mismatch);
    }
    let text = make(&Preferred::default(), &password("hobbes")).unwrap();
    assert!(text.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
}

#[test]
fn a_hash_that_is_less_than_preferred_is_to_be_upgraded() {
    let check = |made: Preferred, preferred: Preferred, upgrade: bool| {
        let hash = make(&made, &password("hobbes")).unwrap();
        let expected = Outcome::Match { upgrade, step: None };
        assert_eq!(outcome(&policy(preferred), hash.as_str(), b"hobbes"), expected, "{made:?}");
        let never = Policy { upgrade: false, ..policy(preferred) };
        assert_eq!(outcome(&never, hash.as_str(), b"hobbes"), Outcome::Match { upgrade: false, step: None });
    };
    let argon2 = |memory_kib, passes| Preferred::Argon2id { memory_kib, passes, lanes: 1 };
    check(argon2(64, 1), argon2(64, 2), true);
    check(argon2(64, 1), argon2(65, 1), true);
    check(argon2(65, 2), argon2(64, 1), false);
    check(BCRYPT, Preferred::Bcrypt { cost: 5 }, true);
    check(Preferred::Bcrypt { cost: 5 }, BCRYPT, false);
    check(BCRYPT, ARGON2, true);
    check(ARGON2, BCRYPT, true);
    // More than enough work, but not the variant.
    let argon2i =
        "$argon2i$v=19$m=1024,t=2,p=2$Voqxdo7xPoewdo5RKgWgVA$HBq/btbwpy8Jbb0hNNu6jjvSIF5f6BbKksk4/qdy90w";
    assert_eq!(outcome(&policy(ARGON2), argon2i, b"hobbes"), Outcome::Match { upgrade: true, step: None });
}

#[test]
fn bcrypt_takes_no_new_password_that_it_would_cut() {
    let long = |bytes| Password::new(vec![b'x'; bytes]).unwrap();
    let made = make(&BCRYPT, &long(72)).unwrap();
    assert_eq!(outcome(&policy(BCRYPT), made.as_str(), &[b'x'; 71]), Outcome::Mismatch);
    // An old hash does not know what came after.
    let cut = Outcome::Match { upgrade: false, step: None };
    assert_eq!(outcome(&policy(BCRYPT), made.as_str(), &[b'x'; 73]), cut);
    assert_eq!(make(&BCRYPT, &long(73)).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(make(&ARGON2, &long(1024)).is_ok());
}

#[test]
fn new_hashes_are_made_in_two_schemes_only() {
    for scheme in Scheme::ALL {
        match Preferred::of_scheme(*scheme) {
            Ok(preferred) => assert_eq!(preferred.scheme(), *scheme),
            Err(error) => {
                assert!(!matches!(scheme, Scheme::Argon2 | Scheme::Bcrypt));
                assert_eq!(error.kind(), ErrorKind::Invalid);
            }
        }
    }
}

#[test]
fn impossible_parameters_are_refused() {
    let argon2 = |memory_kib, passes, lanes| Preferred::Argon2id { memory_kib, passes, lanes };
    let impossible = [
        argon2(0, 1, 1),
        argon2(15, 1, 2),
        argon2(64, 0, 1),
        argon2(64, 1, 0),
        argon2(u32::MAX, u32::MAX, u32::MAX),
        argon2(512 * 1024, 1, 1),
        Preferred::Bcrypt { cost: 3 },
        Preferred::Bcrypt { cost: 17 },
        Preferred::Bcrypt { cost: 32 },
    ];
    for preferred in impossible {
        let error = make(&preferred, &password("hobbes")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{preferred:?}");
    }
    let wide = Limits { bcrypt_cost: 20, ..Limits::default() };
    assert!(Policy { limits: wide, ..policy(Preferred::Bcrypt { cost: 17 }) }.check().is_ok());
}

#[track_caller]
fn check_quality(quality: &Quality, text: &str, refusal: Option<&str>) {
    let result = quality.check(&login("calvin"), &password(text));
    match (result, refusal) {
        (Ok(()), None) => {}
        (Err(error), Some(part)) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains(text), "{error}");
        }
        (result, refusal) => panic!("{text}: {result:?}, not {refusal:?}"),
    }
}

#[test]
fn quality_is_told_by_the_first_rule_that_fails() {
    let quality = Quality {
        min_length: 6,
        patterns: vec![Regex::new("[0-9]").unwrap(), Regex::new("[A-Z]").unwrap()],
        hook: Some(Arc::new(|login, password| {
            let text = String::from_utf8_lossy(password.as_bytes()).into_owned();
            if text.contains(login.as_str()) { Err("it has the login in it".to_owned()) } else { Ok(()) }
        })),
    };
    check_quality(&quality, "calv1", Some("at least 6 characters"));
    check_quality(&quality, "calvin", Some("[0-9]"));
    check_quality(&quality, "calvin1", Some("[A-Z]"));
    check_quality(&quality, "calvin1A", Some("it has the login in it"));
    check_quality(&quality, "hobbes1A", None);
}

#[test]
fn length_is_counted_in_characters() {
    let quality = Quality { min_length: 4, ..Quality::default() };
    check_quality(&quality, "\u{e9}\u{e9}\u{e9}", Some("4 characters"));
    check_quality(&quality, "\u{e9}\u{e9}\u{e9}\u{e9}", None);
    check_quality(&Quality::default(), "seven77", Some("8 characters"));
}

#[test]
fn a_hook_that_quotes_the_password_is_not_quoted() {
    let hook: auth_password::QualityHook =
        Arc::new(|_, password| Err(format!("{} is bad", String::from_utf8_lossy(password.as_bytes()))));
    let quality = Quality { hook: Some(hook), ..Quality::default() };
    check_quality(&quality, "canary-7f3a", Some("not good enough"));
}
