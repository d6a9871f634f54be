//! Access tokens, sessions and keys on the command line, with a server and without one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{Gatepost, Server};
use serde_json::Value;

const CONFIG: &str = "[token]\nscopes = ['read', 'write']\n";

fn with_calvin(config: &str) -> Gatepost {
    let gatepost = Gatepost::with_config(config);
    gatepost.must(&["user", "add", "calvin", "--group", "staff"], b"hobbes-and-susie");
    gatepost
}

/// Runs a command, and returns its exit status and its first row.
fn told(gatepost: &Gatepost, args: &[&str]) -> (i32, Value) {
    let mut all = vec!["--json"];
    all.extend(args);
    let done = gatepost.run(&all);
    let row = done.stdout.lines().next().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    (done.exit, row)
}

#[track_caller]
fn issue(gatepost: &Gatepost, args: &[&str]) -> String {
    let mut all = vec!["token", "issue", "--login", "calvin"];
    all.extend(args);
    let (status, row) = told(gatepost, &all);
    assert_eq!(status, 0, "{row}");
    row["token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn check(gatepost: &Gatepost, token: &str, decision: &str, reason: Option<&str>) -> Value {
    let (status, row) = told(gatepost, &["check", "token", token]);
    assert_eq!(row["decision"], decision, "{row}");
    assert_eq!(status, i32::from(decision != "valid"));
    assert_eq!(row.get("reason").and_then(Value::as_str), reason, "{row}");
    row
}

/// The same whether a server does it or the command itself.
fn lives(gatepost: &Gatepost, server: Option<&Server>) {
    let token = issue(gatepost, &["--scope", "read", "--ttl", "1h"]);
    let row = check(gatepost, &token, "valid", None);
    assert_eq!((row["login"].as_str(), row["scopes"].to_string().as_str()), (Some("calvin"), "[\"read\"]"));
    let left = row["expires"].as_u64().unwrap() - now();
    assert!((3_590..=3_600).contains(&left), "{left}");
    let again = check(gatepost, &token, "valid", None);
    if server.is_some() {
        assert_eq!(again["cache"], "hit");
    }
    let (status, row) = told(gatepost, &["check", "token", &token, "--fresh", "--explain"]);
    assert!(status == 0 && row["cache"] == "miss" && !row["steps"].as_array().unwrap().is_empty(), "{row}");

    // One token, then all of the login.
    let other = issue(gatepost, &[]);
    let (status, row) = told(gatepost, &["token", "revoke", &token]);
    assert_eq!((status, &row["revoked"]), (0, &true.into()));
    check(gatepost, &token, "invalid", Some("revoked"));
    check(gatepost, &other, "valid", None);
    assert_eq!(told(gatepost, &["token", "revoke", "--login", "calvin"]).0, 0);
    check(gatepost, &other, "invalid", Some("revoked"));
    let third = issue(gatepost, &[]);
    check(gatepost, &third, "valid", None);
    // A new password ends what was begun with the old one.
    gatepost.must(&["user", "passwd", "calvin"], b"another-password-2");
    check(gatepost, &third, "invalid", Some("revoked"));
    let fourth = issue(gatepost, &[]);
    assert_eq!(told(gatepost, &["token", "revoke", "--all"]).0, 0);
    check(gatepost, &fourth, "invalid", Some("revoked"));

    let fifth = issue(gatepost, &[]);
    gatepost.must(&["user", "lock", "calvin"], b"");
    check(gatepost, &fifth, "invalid", Some("locked"));
    let (status, row) = told(gatepost, &["token", "issue", "--login", "calvin"]);
    assert_eq!((status, row["reason"].as_str()), (1, Some("locked")));
    gatepost.must(&["user", "unlock", "calvin"], b"");
    check(gatepost, &fifth, "valid", None);
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn tokens_are_issued_checked_and_revoked_by_a_server() {
    let gatepost = with_calvin(CONFIG);
    let server = gatepost.serve();
    lives(&gatepost, Some(&server));
}

#[test]
fn tokens_are_issued_checked_and_revoked_without_a_server() {
    let gatepost = with_calvin(CONFIG);
    lives(&gatepost, None);
}

#[test]
fn what_a_command_issues_a_server_takes_and_knows_of_what_was_revoked() {
    let gatepost = with_calvin(CONFIG);
    let (kept, gone) = (issue(&gatepost, &[]), issue(&gatepost, &[]));
    assert_eq!(told(&gatepost, &["token", "revoke", &gone]).0, 0);
    let server = gatepost.serve();
    check(&gatepost, &kept, "valid", None);
    check(&gatepost, &gone, "invalid", Some("revoked"));
    // Also after a restart.
    assert_eq!(told(&gatepost, &["token", "revoke", &kept]).0, 0);
    drop(server);
    let _server = gatepost.serve();
    check(&gatepost, &kept, "invalid", Some("revoked"));
}

#[test]
fn what_can_not_be_is_wrong_use_and_what_is_unknown_is_no() {
    let gatepost = with_calvin(CONFIG);
    for (args, status) in [
        (&["token", "issue", "--login", "calvin", "--scope", "root"][..], 2),
        (&["token", "issue", "--login", "calvin", "--ttl", "31d"], 2),
        (&["token", "issue", "--login", "calvin", "--ttl", "soon"], 2),
        (&["token", "issue", "--login", "nobody"], 1),
        (&["token", "issue"], 2),
        (&["token", "revoke"], 2),
        (&["token", "revoke", "x", "--all"], 2),
        (&["token", "revoke", "nonsense"], 1),
        (&["token", "revoke", "--session", "nonsense"], 2),
        (&["token", "revoke", "--session", "00000000000000000000000000000000"], 0),
        (&["token", "list", "--login", "calvin"], 0),
        (&["check", "token", "nonsense"], 1),
        (&["check", "token", ""], 1),
        (&["key", "rotate", "--alg", "ES256"], 2),
    ] {
        let (got, row) = told(&gatepost, args);
        assert_eq!(got, status, "{args:?}: {row}");
    }
    let off = with_calvin("[token]\nenabled = false\n");
    assert_eq!(told(&off, &["check", "token", "x"]).0, 2);
}

#[test]
fn a_token_is_read_from_standard_input_and_never_shown() {
    let gatepost = with_calvin(CONFIG);
    let token = issue(&gatepost, &[]);
    let done = gatepost.run_with(&["check", "token", "-", "--explain"], format!("{token}\r\n").as_bytes());
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for text in [&done.stdout, &done.stderr] {
        assert!(!text.contains(&token) && !text.contains(token.rsplit('.').next().unwrap()), "{text}");
    }
}

#[test]
fn the_configured_keys_follow_each_other() {
    let gatepost = with_calvin(CONFIG);
    let token = issue(&gatepost, &[]);
    let states = || -> Vec<String> {
        let rows = gatepost.run(&["--json", "key", "list"]).expect(0).rows();
        rows.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(), ["current"]);
    let server = gatepost.serve();
    gatepost.must(&["key", "rotate"], b"");
    assert_eq!(states().len(), 2);
    gatepost.must(&["key", "rotate", "--at-once"], b"");
    check(&gatepost, &token, "valid", None);
    let new = issue(&gatepost, &[]);
    gatepost.must(&["key", "rotate", "--compromised"], b"");
    let (_, row) = told(&gatepost, &["check", "token", &new, "--fresh"]);
    assert_eq!(row["decision"], "invalid", "{row}");
    drop(server);
    assert_eq!(states(), ["current"]);
}
