//! What an operator reads when keys can't be read any more: one line when that begins, one when it ends, and no key.
//!
//! Alone in its binary: a thread without a subscriber that logs first makes tracing forget the line for all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use auth_testkit::Log;
use auth_token::{Algorithm, KeyRing, RingConfig, Rotation};
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

fn at(unix: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
}

/// What is secret in the files of a folder.
fn secrets(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let keys = files.filter(|path| path.extension().is_some_and(|kind| kind == "jwk"));
    let secret = |path| {
        let key: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        key.get("k").unwrap().as_str().unwrap().to_owned()
    };
    keys.map(secret).collect()
}

#[test]
fn keys_that_can_t_be_read_are_told_once_and_once_when_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let config = RingConfig { algorithm: Algorithm::Hs256, ..RingConfig::new(&keys) };
    let ring = KeyRing::open(config.clone(), at(NOW)).unwrap();
    let there = KeyRing::open(config, at(NOW)).unwrap();
    let mut secret = secrets(&keys);
    let log = Log::begin();
    let mut now = NOW;
    // Looks often, and returns the one line that was logged, if any.
    let mut looks = |secrets: &[String]| {
        for _ in 0..5 {
            now += 10;
            assert!(!ring.entries(at(now)).is_empty(), "the keys known before go on");
        }
        let text = log.take();
        assert!(text.lines().count() <= 1, "{text}");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
        text
    };
    let check = |line: String, words: [&str; 2]| {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    };
    assert_eq!(looks(&secret), "");

    let away = folder.path().join("away");
    fs::rename(&keys, &away).unwrap();
    check(looks(&secret), ["WARN", "No such file"]);
    assert_eq!(looks(&secret), "");
    fs::rename(&away, &keys).unwrap();
    check(looks(&secret), ["INFO", "can be read again"]);
    assert_eq!(looks(&secret), "");

    // Another trouble is told, too.
    let index = keys.join("ring.json");
    let right = fs::read_to_string(&index).unwrap();
    let key = secret.first().unwrap();
    fs::write(&index, format!("{{\"format\": \"{key}\"}}")).unwrap();
    check(looks(&secret), ["WARN", "the index of keys can't be read"]);
    fs::write(&index, &right).unwrap();
    let next = there.rotate(at(NOW), Rotation::AtOnce).unwrap().kid.unwrap();
    secret = secrets(&keys);
    let path = keys.join(format!("{next}.jwk"));
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("HS256", "RS256")).unwrap();
    check(looks(&secret), ["WARN", "a key can't be used"]);
    assert_eq!(looks(&secret), "");
    fs::write(&path, &whole).unwrap();
    check(looks(&secret), ["INFO", "can be read again"]);
    assert_eq!(looks(&secret), "");
    assert_eq!(ring.entries(at(NOW + 1000)).len(), 2);
}
