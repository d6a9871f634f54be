//! The hashes that the original packages made, and what is to come of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The vectors, as they are.
const FILE: &str = include_str!("../data/passwords.json");

/// What a hash and a password come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "verifying has no other outcome")]
pub enum Expected {
    /// They belong together.
    Right,
    /// They do not.
    Wrong,
    /// The hash can't be read.
    Unreadable,
}

/// A hash, a password, and what they come to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Vector {
    /// The name of the scheme.
    pub scheme: String,
    /// The stored hash; for one-time codes the secret.
    pub hash: String,
    /// The password, or the one-time code.
    pub password: String,
    /// The login, if the hash is salted with it.
    pub login: Option<String>,
    /// The realm, if the hash is salted with it.
    pub realm: Option<String>,
    /// The time in seconds since 1970, for one-time codes.
    pub now: Option<u64>,
    /// What they come to.
    pub expected: Expected,
}

/// Reads every vector.
///
/// # Panics
/// If the file is not what it was.
#[must_use]
pub fn all_vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(FILE).expect("a file of JSON");
    let list = file.get("vectors").and_then(Value::as_array).expect("a list of vectors");
    list.iter().map(read).collect()
}

fn read(entry: &Value) -> Vector {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let any = |one: &str, other: &str| text(one).or_else(|| text(other)).expect("a vector is whole");
    let now = entry.get("unix_time").and_then(Value::as_u64);
    Vector {
        scheme: text("scheme").expect("a scheme"),
        hash: any("hash", "secret_base32"),
        password: any("password", "code"),
        login: text("user"),
        realm: text("realm"),
        now,
        expected: match entry.get("verify") {
            Some(Value::Bool(true)) => Expected::Right,
            Some(Value::Bool(false)) => Expected::Wrong,
            Some(Value::String(text)) if text == "exception" => Expected::Unreadable,
            None if now.is_some() => Expected::Right,
            other => panic!("a verdict of {other:?}"),
        },
    }
}

/// Does something with every item, a few at a time; each may start programs and wait for them.
///
/// # Panics
/// If one of them does.
pub fn in_parallel<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let queue: Mutex<VecDeque<T>> = Mutex::new(items.into_iter().collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(item) = next() {
                    work(item);
                }
            });
        }
    });
}
