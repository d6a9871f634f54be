//! From a file and the environment to a [`Config`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use auth_core::Result;
use toml::{Table, Value};

use crate::config::Config;
use crate::origins::{Origins, Setting, line_of, misconfigured};
use crate::secret;

/// The short names of the environment, and the keys they set. All are texts but the size.
const SHORT: [(&str, &[&str]); 10] = [
    ("CACHE", &["cache", "kind"]),
    ("CACHE_URL", &["cache", "url"]),
    ("CACHE_PREFIX", &["cache", "prefix"]),
    ("CACHE_TTL", &["cache", "ttl"]),
    ("CACHE_SIZE", &["cache", "size"]),
    ("GATEPOST_DATA", &["data"]),
    // As flask-ampho has them.
    ("AMPHO_SECURITY_KEY", &["token", "keys", "key"]),
    ("AMPHO_SECURITY_REST_PREFIX", &["token", "http", "prefix"]),
    ("AMPHO_SECURITY_TOKEN_ALG", &["token", "keys", "algorithm"]),
    ("AMPHO_SECURITY_TOKEN_TTL", &["token", "access_ttl"]),
];

/// The prefix of environment names that set any key.
const LONG: &str = "GATEPOST__";

/// A configuration as read: the merged table and where its parts came from.
///
/// `Debug` shows it masked.
#[derive(Clone, Default)]
pub struct Loaded {
    /// The merged table, secrets resolved.
    pub table: Table,
    /// Where each key came from.
    pub origins: Origins,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("table", &self.masked_table()).field("origins", &self.origins).finish()
    }
}

impl Loaded {
    /// Merges a file's text (with its name) and an environment; the environment wins, and of the
    /// environment a name that sets any key wins over a short one.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the place.
    pub fn read(file: Option<(PathBuf, String)>, environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut loaded = Self::default();
        if let Some((path, text)) = file {
            loaded.table = toml::from_str(&text).map_err(|error| {
                let line =
                    error.span().map_or_else(String::new, |span| format!(":{}", line_of(&text, span.start)));
                misconfigured(format!("{}{line}: {}", path.display(), error.message()))
            })?;
            loaded.origins.file = Some((path, text.into()));
        }
        for (name, key) in SHORT {
            // An empty name is one that is not set; an empty prefix is one that was meant.
            let given = |value: &&String| !value.is_empty() || name == "CACHE_PREFIX";
            if let Some(text) = environment.get(name).filter(given) {
                let value = if name == "CACHE_SIZE" { read(text) } else { Value::String(text.clone()) };
                loaded.set(key, name, text, value);
            }
        }
        for (name, text) in environment {
            if let Some(rest) = name.strip_prefix(LONG) {
                let key: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
                if key.iter().any(String::is_empty) {
                    return Err(misconfigured(format!("environment {name}: a part of the name is empty")));
                }
                let key: Vec<&str> = key.iter().map(String::as_str).collect();
                loaded.set(&key, name, text, read(text));
            }
        }
        loaded.everyday(environment);
        let found = secret::resolve(&mut loaded.table, environment).map_err(|(path, message)| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            loaded.origins.wrong(&path, &message)
        })?;
        loaded.origins.secret = found;
        Ok(loaded)
    }

    /// `DATABASE_URL` and `LDAP_URL`: the source if none is configured; the url of the only one, if it is of
    /// that kind.
    fn everyday(&mut self, environment: &BTreeMap<String, String>) {
        let sources = match self.table.get("source") {
            None => Some(Table::new()),
            Some(Value::Table(sources)) => Some(sources.clone()),
            Some(_) => None,
        };
        let Some(sources) = sources else { return };
        for (name, kind, source) in [("DATABASE_URL", "sql", "local"), ("LDAP_URL", "ldap", "staff")] {
            let Some(url) = environment.get(name).filter(|url| !url.is_empty()) else { continue };
            let value = || Value::String(url.clone());
            let mut known = sources.iter();
            match (known.next(), known.next()) {
                (None, _) => {
                    self.set(&["source", source, "kind"], name, kind, Value::String(kind.to_owned()));
                    self.set(&["source", source, "url"], name, url, value());
                }
                (Some((only, settings)), None) if is_kind(settings, kind) => {
                    let key = ["source", only, "url"];
                    // A name that sets any key has won already.
                    let path: Vec<String> = key.iter().map(ToString::to_string).collect();
                    if !self.origins.environment.contains_key(&path) {
                        self.set(&key, name, url, value());
                    }
                }
                _ => {}
            }
        }
    }

    fn set(&mut self, key: &[&str], name: &str, text: &str, value: Value) {
        let Some((last, outer)) = key.split_last() else { return };
        let mut table = &mut self.table;
        let mut path = Vec::new();
        for part in outer {
            let part = known(table, part);
            let entry = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            path.push(part);
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        let last = known(table, last);
        path.push(last.clone());
        // One lifetime over a table of them: it sets three and caps the rest.
        match table.get_mut(&last) {
            Some(Value::Table(each)) if key == ["cache", "ttl"] && !value.is_table() => {
                for set in ["account", "accepted", "groups"] {
                    each.remove(set);
                }
                each.insert("all".to_owned(), value);
                path.push("all".to_owned());
            }
            _ => {
                table.insert(last, value);
            }
        }
        self.origins.environment.insert(path, Setting { name: name.to_owned(), text: text.to_owned() });
    }

    /// Checks and types the whole configuration.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the place and the nearest right word.
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
        secret::mask(&mut table, &self.origins.secret);
        table
    }
}

/// A word is a text; what reads as a number, a truth, a time, a list, a table or a quoted text of TOML is that.
fn read(text: &str) -> Value {
    let value = match toml::from_str::<Table>(&format!("value = {text}")) {
        // Alone: a text of several lines must not set another key.
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The key of a table that a name of the environment means: names have neither small letters nor hyphens.
fn known(table: &Table, part: &str) -> String {
    let same = |key: &&String| key.to_lowercase().replace('-', "_") == part.replace('-', "_");
    if table.contains_key(part) {
        return part.to_owned();
    }
    let mut found = table.keys().filter(same);
    match (found.next(), found.next()) {
        (Some(key), None) => key.clone(),
        _ => part.to_owned(),
    }
}

fn is_kind(settings: &Value, kind: &str) -> bool {
    settings.get("kind").and_then(Value::as_str) == Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_cache::Bound;
    use auth_core::ErrorKind;

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
        assert_eq!((config.cache.bound(), config.cache.kind.as_str()), (Bound::Entries(7), "lru"));
        let config = load("[cache]\nsize = 3\n", &[("CACHE_SIZE", "64MiB")]).unwrap();
        assert_eq!(config.cache.bound(), Bound::Bytes(64 << 20));
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
        assert_eq!(config.cache.ttl.0.all.map(|ttl| ttl.0.as_secs()), Some(5));
        let config = load("[cache.ttl]\nallow = \"5s\"\n", &[]).unwrap();
        assert_eq!(config.cache.ttl.0.allow.map(|ttl| ttl.0.as_secs()), Some(5));
        let config = load("[cache.ttl]\nallow = \"5s\"\n", &[("CACHE_TTL", "9")]).unwrap();
        assert_eq!(config.cache.ttl.0.all.map(|ttl| ttl.0.as_secs()), Some(9));
    }
}
