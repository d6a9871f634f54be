//! Every vector through `gatepost hash --verify`: one test a scheme.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;

use integration_tests::{Expected, Gatepost, Vector, all_vectors};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut schemes: BTreeMap<String, Vec<Vector>> = BTreeMap::new();
    for vector in all_vectors() {
        schemes.entry(vector.scheme.clone()).or_default().push(vector);
    }
    let (count, vectors) = (schemes.len(), schemes.values().map(Vec::len).sum::<usize>());
    let mut trials = vec![Trial::test("all_the_vectors_are_there", move || {
        assert_eq!((count, vectors), (43, 185));
        Ok(())
    })];
    for (scheme, vectors) in schemes {
        let name = format!("hash_verify::{scheme} ({} vectors)", vectors.len());
        trials.push(Trial::test(name, move || {
            vectors.iter().for_each(check);
            Ok(())
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Verifies a vector with its scheme, and without where the hash names it.
fn check(vector: &Vector) {
    verify(vector, true, &vector.password, vector.expected);
    if auth_password::identify(&vector.hash).is_some_and(|named| named.name() == vector.scheme) {
        verify(vector, false, &vector.password, vector.expected);
    }
    if vector.now.is_some() {
        let wrong = if vector.password == "000000" { "000001" } else { "000000" };
        verify(vector, true, wrong, Expected::Wrong);
    }
}

fn verify(vector: &Vector, named: bool, password: &str, expected: Expected) {
    let now = vector.now.map(|now| now.to_string());
    let mut args = vec!["hash", "--verify", &vector.hash];
    if named {
        args.extend(["--scheme", &vector.scheme]);
    }
    for (option, value) in [("--login", &vector.login), ("--realm", &vector.realm), ("--now", &now)] {
        if let Some(value) = value {
            args.extend([option, value]);
        }
    }
    let (exit, key, word) = match expected {
        Expected::Right => (0, "decision", "match"),
        Expected::Wrong => (1, "decision", "mismatch"),
        Expected::Unreadable => (2, "error", "corrupt"),
    };
    let row = Gatepost::new().json(&args, password.as_bytes(), exit);
    assert_eq!(row[key], word, "{row}");
}
