//! The front page names a test for each promise. Each of them exists, and runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../README.md");

/// How many tests the front page names, each time that it does.
const NAMED: usize = 176;

/// Returns where a name on the front page is to be found: `file: name`, by default in `tests/cache`.
fn file(root: &Path, place: &str) -> PathBuf {
    if place.contains('/') { root.join(place) } else { root.join("tests/cache").join(format!("{place}.rs")) }
}

/// Reports whether a file has a test of this name that always runs: the function, marked as a test and as nothing
/// that would leave it out or have it fail.
fn has_test(text: &str, name: &str) -> bool {
    let mut marks: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            marks.push(line);
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if function.and_then(|line| line.strip_prefix(name)).is_some_and(|rest| rest.starts_with('(')) {
            let is_test = |mark: &&str| mark.starts_with("#[test]") || mark.starts_with("#[tokio::test");
            let is_left_out =
                |mark: &&str| ["ignore", "should_panic", "cfg"].iter().any(|word| mark.contains(word));
            return marks.iter().any(is_test) && !marks.iter().any(is_left_out);
        }
        marks.clear();
    }
    false
}

/// Returns each test that the table names, with its file.
fn named(root: &Path) -> Vec<(PathBuf, &'static str)> {
    let (_, table) = README.split_once("## What it promises").expect("the table of promises");
    let (table, _) = table.split_once("\n## ").expect("something after it");
    let mut named = Vec::new();
    for row in table.lines().filter(|line| line.starts_with('|')).skip(2) {
        let tests = row.rsplit('|').nth(1).unwrap();
        let promise = row.split('|').nth(1).unwrap().trim();
        let mut place = None;
        let before = named.len();
        for quoted in tests.split('`').skip(1).step_by(2) {
            let name = match quoted.split_once(": ") {
                Some((file, name)) => {
                    place = Some(file);
                    name
                }
                None => quoted,
            };
            named.push((file(root, place.expect("the first names its file")), name));
        }
        let heading = promise.starts_with("**") && promise.ends_with("**") && tests.trim().is_empty();
        assert!(named.len() > before || heading, "no test shows: {promise}");
    }
    named
}

#[test]
fn every_test_that_the_front_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named(root);
    assert_eq!(named.len(), NAMED, "a name came or went: renew the number");
    for (file, name) in named {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(has_test(&text, name), "{} has no test {name}", file.display());
    }
}

#[test]
fn a_name_that_is_no_test_is_found_out() {
    for text in [
        "#[test]\nfn so() {}",
        "#[tokio::test]\n#[allow(dead_code)]\nasync fn so() {}",
        "#[test]\n#[ignore]\nfn other() {}\n#[test]\nfn so() {}",
    ] {
        assert!(has_test(text, "so"), "{text}");
    }
    for text in [
        "fn so() {}",
        "#[test]\nfn so_not() {}",
        "// #[test]\n// fn so() {}",
        "#[test]\n\nfn so() {}",
        "#[test]\n#[ignore]\nfn so() {}",
        "#[ignore = \"slow\"]\n#[tokio::test]\nasync fn so() {}",
        "#[test]\n#[should_panic]\nfn so() {}",
        "#[cfg(windows)]\n#[test]\nfn so() {}",
        "#[test]\n#[cfg_attr(unix, ignore)]\nfn so() {}",
    ] {
        assert!(!has_test(text, "so"), "{text}");
    }
}
