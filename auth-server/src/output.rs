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
        if let Some(warning) = row.get("warning") {
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

/// The decision or the name first, the rest as `key value`.
pub(crate) fn in_words(row: &Value) -> String {
    let Some(row) = row.as_object() else { return shown(row) };
    let head = ["decision", "login", "group", "source"].iter().find_map(|key| Some((*key, row.get(*key)?)));
    let mut words = head.map(|(_, value)| shown(value)).unwrap_or_default();
    let rest: Vec<String> = row
        .iter()
        .filter(|(key, value)| {
            head.is_none_or(|(first, _)| first != key.as_str())
                && !value.is_null()
                && !matches!(key.as_str(), "steps" | "warning" | "ages")
        })
        .map(|(key, value)| format!("{} {}", shown(&Value::from(key.as_str())), shown(value)))
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
