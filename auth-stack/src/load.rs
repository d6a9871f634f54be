//! From a file and the environment to a [`Config`], with errors that name the place and the nearest right word.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::config::Config;
use crate::nearest::did_you_mean;

/// The short names of the environment, and the keys they set.
const SHORT: [(&str, &[&str]); 5] = [
    ("CACHE", &["cache", "kind"]),
    ("CACHE_URL", &["cache", "url"]),
    ("CACHE_PREFIX", &["cache", "prefix"]),
    ("CACHE_TTL", &["cache", "ttl"]),
    ("CACHE_SIZE", &["cache", "size"]),
];

/// The prefix of environment names that set any key.
const LONG: &str = "GATEPOST__";

/// Where a configuration came from: to say so in errors, and to mask what was a secret.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    file: Option<(PathBuf, Arc<str>)>,
    environment: BTreeMap<Vec<String>, String>,
    secret: Vec<Vec<String>>,
}

/// A configuration as read: the merged table and where its parts came from.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The merged table, secrets resolved.
    pub table: Table,
    /// Where each key came from.
    pub origins: Origins,
}

impl Loaded {
    /// Merges a file's text (with its name) and an environment; the environment wins.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place.
    pub fn read(file: Option<(PathBuf, String)>, environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut loaded = Self::default();
        if let Some((path, text)) = file {
            loaded.table = toml::from_str(&text).map_err(|error| {
                let place = error.span().map_or_else(String::new, |span| line_of(&text, span.start));
                misconfigured(format!("{}{place}: {}", path.display(), error.message()))
            })?;
            loaded.origins.file = Some((path, text.into()));
        }
        for (name, key) in SHORT {
            if let Some(value) =
                environment.get(name).filter(|value| !value.is_empty() || name == "CACHE_PREFIX")
            {
                loaded.set(key.iter().map(ToString::to_string).collect(), name, value);
            }
        }
        for (name, value) in environment {
            if let Some(rest) = name.strip_prefix(LONG) {
                let key: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
                if key.iter().any(String::is_empty) {
                    return Err(misconfigured(format!("environment {name}: a part of the name is empty")));
                }
                loaded.set(key, name, value);
            }
        }
        loaded.database(environment)?;
        let mut found = Vec::new();
        resolve_secrets(&mut loaded.table, &mut Vec::new(), environment, &loaded.origins, &mut found)?;
        loaded.origins.secret = found;
        Ok(loaded)
    }

    /// `DATABASE_URL` and `LDAP_URL`: the everyday case, where no source is configured.
    fn database(&mut self, environment: &BTreeMap<String, String>) -> Result<()> {
        let given = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if self.table.contains_key("source") {
            return Ok(());
        }
        if let Some(url) = given("DATABASE_URL") {
            for (key, value) in [("kind", "sql"), ("url", url.as_str())] {
                self.set(["source", "local", key].map(str::to_owned).to_vec(), "DATABASE_URL", value);
            }
        }
        if let Some(url) = given("LDAP_URL") {
            for (key, value) in [("kind", "ldap"), ("url", url.as_str())] {
                self.set(["source", "staff", key].map(str::to_owned).to_vec(), "LDAP_URL", value);
            }
        }
        Ok(())
    }

    fn set(&mut self, key: Vec<String>, name: &str, text: &str) {
        // A word is a string; what reads as a TOML number, boolean, list or table is that.
        let value = match toml::from_str::<Table>(&format!("value = {text}")) {
            Ok(mut table) if table.len() == 1 => table.remove("value"),
            _ => None,
        };
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        let mut table = &mut self.table;
        let mut parts = key.iter();
        let Some(last) = parts.next_back() else { return };
        for part in parts {
            let entry = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert(last.clone(), value);
        self.origins.environment.insert(key, name.to_owned());
    }

    /// Checks and types the whole configuration.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place and the nearest right word.
    pub fn config(&self) -> Result<Config> {
        self.origins.typed(self.table.clone(), &[])
    }

    /// The merged configuration as TOML, with everything masked that is, or may hold, a secret.
    #[must_use]
    pub fn masked(&self) -> String {
        toml::to_string_pretty(&self.masked_table()).unwrap_or_default()
    }

    /// The same as a table.
    #[must_use]
    pub fn masked_table(&self) -> Table {
        let mut table = self.table.clone();
        mask(&mut table, &mut Vec::new(), &self.origins.secret);
        table
    }
}

impl Origins {
    /// Types a part of the configuration; `at` is where it stands.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the place and the nearest right word.
    pub fn typed<T: DeserializeOwned>(&self, table: Table, at: &[&str]) -> Result<T> {
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let mut path: Vec<String> = at.iter().map(ToString::to_string).collect();
            path.extend(error.path().iter().filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                _ => None,
            }));
            self.describe(path, error.inner().message())
        })
    }

    /// Makes an error about a key, naming where the key was set.
    #[must_use]
    pub fn wrong(&self, path: &[&str], message: &str) -> Error {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        misconfigured(format!("{}{}: {message}", self.place(&path), path.join(".")))
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

    /// Turns serde's message into ours.
    fn describe(&self, mut path: Vec<String>, message: &str) -> Error {
        let quoted =
            |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let first_line = message.lines().next().unwrap_or_default();
        for (begin, what) in [("unknown field", "key"), ("unknown variant", "value")] {
            if let Some(rest) = first_line.strip_prefix(begin) {
                let mut words = quoted(rest).into_iter();
                let name = words.next().unwrap_or_default();
                let known: Vec<String> = words.collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                if what == "key" && path.last() != Some(&name) {
                    path.push(name.clone());
                }
                let hint = did_you_mean(&name, &known);
                let place = self.place(&path);
                return misconfigured(format!("{place}{}: unknown {what} `{name}`{hint}", path.join(".")));
            }
        }
        misconfigured(format!("{}{}: {first_line}", self.place(&path), path.join(".")))
    }

    /// `environment NAME: ` or `file:line: `, whichever set the key or what is nearest around it.
    fn place(&self, path: &[String]) -> String {
        let from_environment = self
            .environment
            .iter()
            .find(|(key, _)| path.starts_with(key) || key.starts_with(path) && !path.is_empty())
            .map(|(_, name)| format!("environment {name}: "));
        from_environment.or_else(|| self.line(path)).unwrap_or_default()
    }

    fn line(&self, path: &[String]) -> Option<String> {
        let (file, text) = self.file.as_ref()?;
        let document = toml::de::DeTable::parse(text).ok()?;
        let mut table = document.get_ref();
        let mut at = 0;
        for part in path {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == part.as_str()) else {
                break;
            };
            at = key.span().start;
            match value.get_ref() {
                toml::de::DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        Some(format!("{}{}: ", file.display(), line_of(text, at)))
    }

    /// Whether a key holds a resolved secret.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }
}

fn line_of(text: &str, at: usize) -> String {
    let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    format!(":{line}")
}

fn misconfigured(message: String) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// Replaces `{ env = "NAME" }` and `{ file = "PATH" }` by what they lead to.
fn resolve_secrets(
    table: &mut Table,
    path: &mut Vec<String>,
    environment: &BTreeMap<String, String>,
    origins: &Origins,
    found: &mut Vec<Vec<String>>,
) -> Result<()> {
    for (key, value) in table.iter_mut() {
        path.push(key.clone());
        if let Value::Table(inner) = value {
            match secret(inner, environment) {
                None => resolve_secrets(inner, path, environment, origins, found)?,
                Some(Ok(text)) => {
                    *value = Value::String(text);
                    found.push(path.clone());
                }
                Some(Err(message)) => {
                    let path: Vec<&str> = path.iter().map(String::as_str).collect();
                    return Err(origins.wrong(&path, &message));
                }
            }
        }
        path.pop();
    }
    Ok(())
}

fn secret(
    table: &Table,
    environment: &BTreeMap<String, String>,
) -> Option<std::result::Result<String, String>> {
    /// A secret is short; a wrong path may lead to a disk.
    const MOST: u64 = 64 * 1024;
    let mut entries = table.iter();
    let (Some((key, Value::String(place))), None) = (entries.next(), entries.next()) else { return None };
    match key.as_str() {
        "env" => {
            Some(environment.get(place).cloned().ok_or_else(|| format!("environment {place} is not set")))
        }
        "file" => Some(
            std::fs::metadata(place)
                .and_then(|found| {
                    if found.len() > MOST {
                        return Err(std::io::Error::other("it is larger than 64 KiB"));
                    }
                    std::fs::read_to_string(place)
                })
                .map(|text| {
                    text.strip_suffix('\n').map_or(text.clone(), |cut| cut.trim_end_matches('\r').to_owned())
                })
                .map_err(|error| format!("can't read {place}: {error}")),
        ),
        _ => None,
    }
}

/// Masks resolved secrets, passwords in URLs, and keys that are called like secrets.
fn mask(table: &mut Table, path: &mut Vec<String>, secrets: &[Vec<String>]) {
    for (key, value) in table.iter_mut() {
        path.push(key.clone());
        mask_value(value, path, secrets);
        path.pop();
    }
}

fn mask_value(value: &mut Value, path: &mut Vec<String>, secrets: &[Vec<String>]) {
    const SOUNDS_SECRET: [&str; 6] = ["password", "secret", "passwd", "token", "private_key", "cache_key"];
    match value {
        Value::Table(inner) => mask(inner, path, secrets),
        Value::Array(list) => list.iter_mut().for_each(|item| mask_value(item, path, secrets)),
        Value::String(text) => {
            let named =
                path.len() > 1 && path.last().is_some_and(|key| SOUNDS_SECRET.contains(&key.as_str()));
            // `password = ["app"]` of a realm names sources.
            let names_sources = path.first().is_some_and(|first| first == "realm");
            if secrets.contains(path) || named && !names_sources {
                *text = mask_url(text).unwrap_or_else(|| "***".to_owned());
            } else if let Some(masked) = mask_url(text) {
                *text = masked;
            }
        }
        _ => {}
    }
}

/// Masks the password and the query of a URL; nothing if the text is no URL.
fn mask_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let mut masked = format!("{scheme}://");
    match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            let _ = write!(masked, "{user}:***@{host}");
        }
        None => masked.push_str(place),
    }
    if query.is_some() {
        masked.push_str("?***");
    }
    Some(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Config> {
        Loaded::read(Some(("gatepost.toml".into(), text.to_owned())), &environment(pairs))?.config()
    }

    fn check_refused(text: &str, pairs: &[(&str, &str)], message: &str) {
        let error = load(text, pairs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(error.message(), message);
    }

    #[test]
    fn an_unknown_key_names_the_line_and_the_nearest_word() {
        check_refused(
            "[cache]\nkind = \"ttl\"\nsizes = 3\n",
            &[],
            "gatepost.toml:3: cache.sizes: unknown key `sizes`; did you mean `size`?",
        );
        check_refused("cach = 1\n", &[], "gatepost.toml:1: cach: unknown key `cach`; did you mean `cache`?");
        check_refused(
            "[realm.default]\n\npasword = [\"a\"]\n",
            &[],
            "gatepost.toml:3: realm.default.pasword: unknown key `pasword`; did you mean `password`?",
        );
    }

    #[test]
    fn a_wrong_value_names_the_line() {
        check_refused(
            "[realm.default]\nlogin = \"case-maped\"\n",
            &[],
            "gatepost.toml:2: realm.default.login: unknown value `case-maped`; did you mean `case-mapped`?",
        );
        check_refused(
            "[cache]\nttl = \"60 sec\"\n",
            &[],
            "gatepost.toml:2: cache.ttl: `60 sec` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        );
        check_refused("[cache\n", &[], "gatepost.toml:1: unclosed table, expected `]`");
    }

    #[test]
    fn the_environment_wins_and_is_named_in_errors() {
        let config = load("[cache]\nsize = 3\n", &[("CACHE_SIZE", "7"), ("CACHE", "lru")]).unwrap();
        assert_eq!((config.cache.size, config.cache.kind.as_str()), (7, "lru"));
        let config = load("", &[("CACHE", "lru"), ("GATEPOST__CACHE__KIND", "none")]).unwrap();
        assert_eq!(config.cache.kind, "none");
        let config = load("", &[("GATEPOST__SERVER__LISTEN", "127.0.0.1:1")]).unwrap();
        assert_eq!(config.server.listen.port(), 1);
        check_refused(
            "",
            &[("CACHE_TTL", "soon")],
            "environment CACHE_TTL: cache.ttl: `soon` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        );
        check_refused(
            "",
            &[("GATEPOST__CACHE__SIZZE", "1")],
            "environment GATEPOST__CACHE__SIZZE: cache.sizzle: unknown key `sizzle`; did you mean `size`?"
                .replace("sizzle", "sizze")
                .as_str(),
        );
    }

    #[test]
    fn a_database_url_makes_the_everyday_source() {
        let config = load("", &[("DATABASE_URL", "sqlite:x.db")]).unwrap();
        assert_eq!(config.source["local"]["url"].as_str(), Some("sqlite:x.db"));
        let config = load("[source.a]\nkind = \"sql\"\n", &[("DATABASE_URL", "sqlite:x.db")]).unwrap();
        assert_eq!(config.source.len(), 1);
    }

    #[test]
    fn secrets_are_resolved_and_masked() {
        let text = "[source.app]\nkind = \"sql\"\nurl = { env = \"DB\" }\nother = \"pg://joe:hush@host/db?password=hush\"\n";
        let pairs = environment(&[("DB", "pg://calvin:hush@host/db")]);
        let loaded = Loaded::read(Some(("g.toml".into(), text.to_owned())), &pairs).unwrap();
        assert_eq!(loaded.table["source"]["app"]["url"].as_str(), Some("pg://calvin:hush@host/db"));
        let masked = loaded.masked();
        assert!(
            masked.contains("pg://calvin:***@host/db") && masked.contains("pg://joe:***@host/db?***"),
            "{masked}"
        );
        assert!(!masked.contains("hush"), "{masked}");
        let error = Loaded::read(Some(("g.toml".into(), text.to_owned())), &environment(&[])).unwrap_err();
        assert_eq!(error.message(), "g.toml:3: source.app.url: environment DB is not set");
    }

    #[test]
    fn lifetimes_are_one_or_many() {
        let config = load("[cache]\nttl = \"5s\"\n", &[]).unwrap();
        assert_eq!(config.cache.ttl.all.map(|ttl| ttl.as_secs()), Some(5));
        let config = load("[cache.ttl]\nallow = \"5s\"\n", &[]).unwrap();
        assert_eq!(config.cache.ttl.each.allow.map(|ttl| ttl.0.as_secs()), Some(5));
        let config = load("[cache.ttl]\nallow = \"5s\"\n", &[("CACHE_TTL", "9")]).unwrap();
        assert_eq!(config.cache.ttl.all.map(|ttl| ttl.as_secs()), Some(9));
    }
}
