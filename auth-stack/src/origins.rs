//! Where each part of a configuration came from, and errors that name the place and the nearest right word.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::config::SourceCommon;
use crate::nearest::did_you_mean;
use crate::secret::sounds_secret;

/// Where a configuration came from: to say so in errors, and to mask what was a secret.
///
/// `Debug` shows none of it, since it may hold secrets.
#[derive(Clone, Default)]
pub struct Origins {
    pub(crate) file: Option<(PathBuf, Arc<str>)>,
    pub(crate) environment: BTreeMap<Vec<String>, Setting>,
    pub(crate) secret: Vec<Vec<String>>,
}

/// A key that the environment has set.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.environment.values().map(|set| set.name.as_str()).collect();
        f.debug_struct("Origins").field("file", &self.file()).field("environment", &names).finish()
    }
}

impl Origins {
    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// Types a part of the configuration; `at` is where it stands.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place and the nearest right word.
    pub fn typed<T: DeserializeOwned>(&self, mut table: Table, at: &[&str]) -> Result<T> {
        let at: Vec<String> = at.iter().map(ToString::to_string).collect();
        loop {
            let wrong = match serde_path_to_error::deserialize(Value::Table(table.clone())) {
                Ok(typed) => return Ok(typed),
                Err(wrong) => wrong,
            };
            let inner: Vec<String> = wrong
                .path()
                .iter()
                .filter_map(|segment| match segment {
                    serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                    serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                    _ => None,
                })
                .collect();
            let path: Vec<String> = at.iter().chain(&inner).cloned().collect();
            // `CACHE_PREFIX=123` reads as a number; where a text is wanted it is a text.
            match self.environment.get(&path) {
                Some(set) if put_text(&mut table, &inner, &set.text) => {}
                _ => return Err(self.describe(path, wrong.inner().message())),
            }
        }
    }

    /// Makes an error about a key, naming where the key was set.
    #[must_use]
    pub fn wrong(&self, path: &[&str], message: &str) -> Error {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        self.located(&path, message)
    }

    /// Makes an error about a name that is not one of those known.
    #[must_use]
    pub fn unknown<'a>(
        &self,
        path: &[&str],
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Error {
        let known: Vec<&str> = known.into_iter().collect();
        self.wrong(path, &format!("there is no {what} `{name}`{}", did_you_mean(name, &known)))
    }

    /// Puts the place of a key in front of an error that names none; its kind, context and cause stay.
    pub(crate) fn placed(&self, error: Error, path: &[&str]) -> Error {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let (place, key) = (self.place(&path), shown(&path));
        // What the settings were refused for has the place of the one key; what nobody wrote has none.
        if place.is_empty() || error.message().contains(&key) {
            return error;
        }
        error.placed(format_args!("{place}{key}: "))
    }

    /// Turns serde's message into ours.
    fn describe(&self, mut path: Vec<String>, message: &str) -> Error {
        let line = message.lines().next().unwrap_or_default();
        if let Some((name, known)) = listed(line, "unknown field ") {
            if path.last().is_none_or(|last| last != name) {
                path.push(name.to_owned());
            }
            let mut known = known;
            if let [section, _, _] = path.as_slice()
                && section == "source"
            {
                // A kind of source knows its own keys only.
                known.extend(SourceCommon::KEYS);
            }
            let hint = did_you_mean(name, &known);
            return self.located(&path, &format!("unknown key `{name}`{hint}"));
        }
        let is_secret = sounds_secret(&path) || self.secret.iter().any(|secret| path.starts_with(secret));
        if let Some((name, known)) = listed(line, "unknown variant ")
            && !is_secret
        {
            let hint = did_you_mean(name, &known);
            return self.located(&path, &format!("unknown value `{name}`{hint}"));
        }
        if let Some(name) = line.strip_prefix("missing field ") {
            return self.located(&path, &format!("the key {name} is missing"));
        }
        // What stands in a wrong place may be a secret: it is not told which text it is.
        let line = match line.split_once(", expected ") {
            Some((found, expected)) => {
                let found = match found.split_once("string \"") {
                    Some((before, _)) => format!("{before}string"),
                    None if is_secret => "this secret is not of the right type".to_owned(),
                    None => found.to_owned(),
                };
                let expected = match expected {
                    "usize" | "u64" | "u32" | "u16" => "a whole number from 0",
                    expected => expected,
                };
                format!("{found}, expected {expected}")
            }
            None if is_secret || line.contains("://") => "this is not what can stand here".to_owned(),
            None => line.to_owned(),
        };
        self.located(&path, &line)
    }

    fn located(&self, path: &[String], message: &str) -> Error {
        let place = self.place(path);
        let separator = if path.is_empty() { "" } else { ": " };
        misconfigured(format!("{place}{}{separator}{message}", shown(path)))
    }

    /// `environment NAME: ` or `file:line: `, whichever set the key, or else what is nearest around it.
    fn place(&self, path: &[String]) -> String {
        let by = |set: &Setting| format!("environment {}: ", set.name);
        let above = self.environment.iter().filter(|(key, _)| path.starts_with(key));
        if let Some((_, set)) = above.max_by_key(|(key, _)| key.len()) {
            return by(set);
        }
        let found = self.line(path);
        let below = || self.environment.iter().find(|(key, _)| !path.is_empty() && key.starts_with(path));
        match (found, &self.file) {
            (Some((line, depth)), Some((file, _))) if depth == path.len() => {
                format!("{}:{line}: ", file.display())
            }
            (found, file) => match (below(), found, file) {
                (Some((_, set)), ..) => by(set),
                (None, Some((line, 1..)), Some((file, _))) => format!("{}:{line}: ", file.display()),
                (None, _, Some((file, _))) => format!("{}: ", file.display()),
                (None, _, None) => String::new(),
            },
        }
    }

    /// The line of the file where the deepest part of a path stands that is in it, and how deep that is.
    fn line(&self, path: &[String]) -> Option<(usize, usize)> {
        let (_, text) = self.file.as_ref()?;
        let document = DeTable::parse(text).ok()?;
        let (mut at, mut depth) = (0, 0);
        let mut parts = path.iter();
        let step = |table: &DeTable<'_>, part: &String| {
            table.iter().position(|(key, _)| key.get_ref().as_ref() == part.as_str())
        };
        let mut value: Option<&DeValue<'_>> = None;
        for part in parts.by_ref() {
            let next = match value {
                None => entry(document.get_ref(), step(document.get_ref(), part)),
                Some(DeValue::Table(table)) => entry(table, step(table, part)),
                Some(DeValue::Array(list)) => part
                    .parse::<usize>()
                    .ok()
                    .and_then(|at| list.get(at))
                    .map(|item| (item.span().start, item.get_ref())),
                Some(_) => None,
            };
            let Some((start, inner)) = next else { break };
            (at, depth, value) = (start, depth + 1, Some(inner));
        }
        Some((line_of(text, at), depth))
    }
}

fn entry<'a, 'de>(table: &'a DeTable<'de>, at: Option<usize>) -> Option<(usize, &'a DeValue<'de>)> {
    let (key, value) = table.iter().nth(at?)?;
    Some((key.span().start, value.get_ref()))
}

/// The number of the line that a byte is in.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

pub(crate) fn misconfigured(message: String) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// A path as it is written in TOML.
fn shown(path: &[String]) -> String {
    let bare = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let parts: Vec<String> = path
        .iter()
        .map(|part| if bare(part) { part.clone() } else { format!("\"{}\"", part.escape_debug()) })
        .collect();
    parts.join(".")
}

/// The name, and what it could have been, in a message such as
/// ``unknown field `sizes`, expected one of `kind`, `size` ``.
fn listed<'a>(line: &'a str, begin: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = line.strip_prefix(begin)?.strip_prefix('`')?;
    // From behind: what is expected is ours, the name may hold anything.
    let (name, expected) =
        rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))?;
    Some((name, expected.split('`').skip(1).step_by(2).collect()))
}

/// Puts a text in the place of what is no text; reports whether it did.
fn put_text(table: &mut Table, path: &[String], text: &str) -> bool {
    let Some((last, outer)) = path.split_last() else { return false };
    let mut table = table;
    for part in outer {
        match table.get_mut(part) {
            Some(Value::Table(inner)) => table = inner,
            _ => return false,
        }
    }
    match table.get_mut(last) {
        Some(value) if !value.is_str() => {
            *value = Value::String(text.to_owned());
            true
        }
        _ => false,
    }
}
