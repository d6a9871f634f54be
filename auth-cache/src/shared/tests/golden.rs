//! The golden files: what each version of the format looks like, in hex. A file is never changed, only added.

use super::*;
use crate::shared::codec::{decode, decode_subject, encode, encode_subject};

const VERSION_1: &str = include_str!("../../../tests/data/codec-v1.txt");
const VERSION_2: &str = include_str!("../../../tests/data/codec-v2.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn golden(text: &'static str) -> Vec<(&'static str, &'static str)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap()).collect()
}

#[test]
fn version_2_is_written_byte_for_byte() {
    let answers = examples().into_iter().map(|(name, _, answer)| (name, hex(&encode(&answer).unwrap())));
    let told = subjects().into_iter().map(|(name, subject)| (name, hex(&encode_subject(&subject).unwrap())));
    let written: Vec<(&str, String)> = answers.chain(told).collect();
    let text: String = written.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
    let golden: Vec<(&str, String)> =
        golden(VERSION_2).into_iter().map(|(name, hex)| (name, hex.to_owned())).collect();
    assert_eq!(written, golden, "\n{text}");
}

#[test]
fn version_2_is_read() {
    let golden = golden(VERSION_2);
    let of = |name: &str| bytes(golden.iter().find(|(golden, _)| *golden == name).unwrap().1);
    for (name, key, answer) in examples() {
        assert_eq!(decode(&key.ask(), &source("app"), &of(name)), Ok(answer), "{name}");
    }
    for (name, subject) in subjects() {
        assert_eq!(decode_subject(&of(name)), Ok(subject), "{name}");
    }
    assert_eq!(golden.len(), examples().len() + subjects().len());
}

#[test]
fn version_1_is_a_miss() {
    let golden = golden(VERSION_1);
    let mut compared = 0;
    for (name, key, _) in examples() {
        if let Some((_, hex)) = golden.iter().find(|(golden, _)| *golden == name) {
            assert!(decode(&key.ask(), &source("app"), &bytes(hex)).is_err(), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared}");
}
