//! Replies on the terminal: JSON for programs, lines for people.

use std::io::Write as _;

use serde_json::Value;

use crate::command::Reply;

/// Prints a reply. A closed pipe is the reader's choice, not an error.
pub(crate) fn print(reply: &Reply, json: bool) {
    for row in &reply.rows {
        if json {
            line(&row.to_string());
        } else if let Some(error) = row.get("error") {
            let message = row.get("message").filter(|message| message.as_str() != Some(""));
            note(&format!("gatepost: {}", shown(message.unwrap_or(error))));
            steps(row);
        } else {
            line(&in_words(row));
            steps(row);
        }
        let many = row.get("warnings").and_then(Value::as_array).into_iter().flatten();
        for warning in row.get("warning").into_iter().chain(many) {
            note(&format!("gatepost: warning: {}", shown(warning)));
        }
    }
}

/// Prints one line to standard output.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What a line begins with, whichever is there.
const HEADS: [&str; 5] = ["decision", "login", "group", "source", "cache"];

/// A key and its value; points and lengths of time as people read them.
fn pair(key: &str, value: &Value) -> String {
    match (key, value.as_u64()) {
        ("since", Some(seconds)) => format!("since {}", time(seconds)),
        ("last_error_at", Some(seconds)) => format!("last error at {}", time(seconds)),
        ("left_alone_ms", Some(millis)) => format!("left alone for {millis} ms"),
        _ => format!("{} {}", shown(&Value::from(key)), shown(value)),
    }
}

/// Seconds since 1970 as a time of day in UTC: `2026-07-14 09:26:53Z`.
fn time(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Years begin in March here, so that the leap day is the last, and 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The decision or the name first, the rest as `key value`.
pub(crate) fn in_words(row: &Value) -> String {
    let Some(row) = row.as_object() else { return shown(row) };
    let is = |key: &str, text: &str| row.get(key).is_some_and(|value| value == text);
    if is("cache", "none") && is("kind", "none") {
        return "no cache (kind none)".to_owned();
    }
    let head = HEADS.iter().find_map(|key| Some((*key, row.get(*key)?)));
    let mut words = head.map(|(_, value)| shown(value)).unwrap_or_default();
    // What tells one cache from another comes before what it did.
    let stats = row.contains_key("cache") && row.contains_key("kind");
    let first: &[&str] = if stats { &["cache", "realm", "kind", "hits"] } else { &[] };
    let of_first = first.iter().filter_map(|key| row.get_key_value(*key));
    let others = row.iter().filter(|(key, _)| !first.contains(&key.as_str()));
    // The memo, the owners and the fence are each of their own kind.
    let twice = stats && row.get("cache") == row.get("kind");
    let rest: Vec<String> = of_first
        .chain(others)
        .filter(|(key, value)| {
            head.is_none_or(|(first, _)| first != key.as_str())
                && !value.is_null()
                && !matches!(key.as_str(), "steps" | "warning" | "warnings" | "ages")
                && (!twice || key.as_str() != "kind")
        })
        .map(|(key, value)| pair(key, value))
        .collect();
    if !rest.is_empty() {
        if words.is_empty() {
            words = rest.join(", ");
        } else {
            words = format!("{words}: {}", rest.join(", "));
        }
    }
    words
}

fn steps(row: &Value) {
    for step in row.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| step.get(key).map(shown);
        let source = text("source").map_or_else(String::new, |source| format!(" {source}"));
        let took = text("took_us").map_or_else(String::new, |took| format!(" ({took} us)"));
        let age = text("age_ms").map_or_else(String::new, |age| format!(" ({age} ms old)"));
        let part = text("part").unwrap_or_default();
        line(&format!("  {part}{source}: {}{took}{age}", text("outcome").unwrap_or_default()));
    }
}

/// A value for a person's eyes. Nothing that a store or a caller wrote gets to steer the terminal.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => match (fields.iter().next(), fields.len()) {
            (Some((key, value)), 1) => format!("{} {}", shown(value), shown(&Value::from(key.as_str()))),
            _ => shown(&Value::String(value.to_string())),
        },
        other => other.to_string(),
    }
}

/// Control characters, and those that turn the direction of a line.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_709_164_800, "2024-02-29 00:00:00Z"),
            (1_767_225_599, "2025-12-31 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(unix), text);
        }
        let row = json!({
            "source": "app", "state": "down", "since": 951_782_400, "left_alone_ms": 371, "last_error": "unavailable",
        });
        let words =
            "app: last_error unavailable, left alone for 371 ms, since 2000-02-29 00:00:00Z, state down";
        assert_eq!(in_words(&row), words);
    }

    #[test]
    fn statistics_begin_with_what_they_are_of() {
        let row = json!({
            "realm": "default", "source": "app", "cache": "groups", "kind": "ttl", "hits": 3, "bytes": 7,
        });
        assert_eq!(in_words(&row), "app: cache groups, realm default, kind ttl, hits 3, bytes 7");
        let row = json!({ "cache": "fence", "kind": "fence", "invalidations": 5 });
        assert_eq!(in_words(&row), "fence: invalidations 5");
        assert_eq!(in_words(&json!({ "cache": "none", "kind": "none" })), "no cache (kind none)");
        let row = json!({ "decision": "accepted", "cache": "hit", "login": "calvin" });
        assert_eq!(in_words(&row), "accepted: cache hit, login calvin");
    }
}
