//! Secrets: where they come from, and how they are kept out of every output.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};

/// A secret is short; a wrong path may lead to a disk.
const MOST: u64 = 64 * 1024;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Replaces each `{ env = "NAME" }` and `{ file = "PATH" }` by what it leads to. Returns where they stood.
///
/// # Errors
/// The place, and what is wrong with it.
pub(crate) fn resolve(
    table: &mut Table,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Vec<String>>, (Vec<String>, String)> {
    let mut found = Vec::new();
    walk(table, &mut Vec::new(), &mut |path, value| {
        if !may_be_secret(path) {
            return Ok(());
        }
        let Some((how, place)) = reference(value) else { return Ok(()) };
        let text = match how {
            How::Env => from_environment(place, environment),
            How::File => from_file(Path::new(place)),
        };
        *value = Value::String(text.map_err(|message| (path.to_vec(), message))?);
        found.push(path.to_vec());
        Ok(())
    })?;
    Ok(found)
}

/// Hands over every value with its path, outer ones first. The items of a list have their numbers for names.
fn walk<E>(
    table: &mut Table,
    path: &mut Vec<String>,
    each: &mut impl FnMut(&[String], &mut Value) -> Result<(), E>,
) -> Result<(), E> {
    for (key, value) in table.iter_mut() {
        path.push(key.clone());
        walk_value(value, path, each)?;
        path.pop();
    }
    Ok(())
}

fn walk_value<E>(
    value: &mut Value,
    path: &mut Vec<String>,
    each: &mut impl FnMut(&[String], &mut Value) -> Result<(), E>,
) -> Result<(), E> {
    each(path, value)?;
    match value {
        Value::Table(table) => walk(table, path, each)?,
        Value::Array(list) => {
            for (at, item) in list.iter_mut().enumerate() {
                path.push(at.to_string());
                walk_value(item, path, each)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a secret can stand here. Where names are free, `file` may be the name of a source:
/// `link = { file = "login" }`.
fn may_be_secret(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    !matches!(path.as_slice(), ["realm", ..] | ["server", "hosts", ..] | ["source"] | ["source", _])
}

enum How {
    Env,
    File,
}

fn reference(value: &Value) -> Option<(How, &str)> {
    let mut entries = value.as_table()?.iter();
    let (Some((key, Value::String(place))), None) = (entries.next(), entries.next()) else { return None };
    match key.as_str() {
        "env" => Some((How::Env, place)),
        "file" => Some((How::File, place)),
        _ => None,
    }
}

fn from_environment(name: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    match environment.get(name) {
        Some(text) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(format!("environment {name} is empty")),
        None => Err(format!("environment {name} is not set")),
    }
}

fn from_file(path: &Path) -> Result<String, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("can't read {}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    if crate::data::anybody_may_write(&file) {
        return Err(wrong(&crate::data::ANYBODY));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MOST) {
        return Err(wrong(&"it is larger than 64 KiB"));
    }
    if let Some(cut) = text.strip_suffix('\n') {
        text.truncate(cut.strip_suffix('\r').unwrap_or(cut).len());
    }
    if text.is_empty() { Err(wrong(&"it is empty")) } else { Ok(text) }
}

/// Masks resolved secrets, whatever is called like a secret, and the passwords of URLs.
pub(crate) fn mask(table: &mut Table, secrets: &[Vec<String>]) {
    let done: Result<(), std::convert::Infallible> = walk(table, &mut Vec::new(), &mut |path, value| {
        if matches!(value, Value::Table(_) | Value::Array(_)) {
            return Ok(());
        }
        let is_url = path.last().is_some_and(|key| sounds_like_url(key));
        let shown = match value.as_str() {
            Some(text) if is_url => shown_url(text),
            _ if secrets.iter().any(|secret| path.starts_with(secret)) || sounds_secret(path) => MASK.into(),
            Some(text) if text.contains("://") => shown_url(text),
            _ => return Ok(()),
        };
        *value = Value::String(shown);
        Ok(())
    });
    let Ok(()) = done;
}

/// Whether a key is called like something that is not to be shown.
pub(crate) fn sounds_secret(path: &[String]) -> bool {
    const PARTS: [&str; 7] = ["password", "passwd", "passphrase", "secret", "token", "credential", "private"];
    /// Ends of names too: `bindpw`, `bind_pass`, `db-pwd`, `api_key`.
    const ENDS: [&str; 4] = ["pass", "pwd", "pw", "key"];
    let names = match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // How long a token lives, and what is done after a wrong password.
        ["cache", "ttl", ..] | ["source", _, "on", ..] => return false,
        ["source", _, ..] => path.get(2..),
        ["cache", ..] => path.get(1..),
        ["token", "fsa" | "keys", ..] => path.get(2..),
        // Nothing else stands there.
        ["secrets", ..] => return true,
        _ => return false,
    };
    names.unwrap_or_default().iter().any(|name| {
        let name = name.to_lowercase();
        PARTS.iter().any(|part| name.contains(part)) || ENDS.iter().any(|end| name.ends_with(end))
    })
}

fn sounds_like_url(key: &str) -> bool {
    let key = key.to_lowercase();
    ["url", "uri", "dsn"].iter().any(|end| key.ends_with(end))
}

/// Shows a URL without its password and its query. Where it can't be told what of it is a password,
/// nothing but the scheme is left.
pub(crate) fn shown_url(text: &str) -> String {
    if text.starts_with("sqlite:") && !text.contains(['@', '?']) {
        return text.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else { return MASK.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    let scheme = if scheme.chars().all(plain) { scheme } else { MASK };
    let (user, place) = match rest.rsplit_once('@') {
        None => (None, rest),
        // A password with such a character in it, or an @ in the path: either way it can't be told.
        Some((user, _)) if user.contains(['/', '?', '#']) => return format!("{scheme}://{MASK}"),
        Some((user, place)) => (Some(user), place),
    };
    let user = match user.map(|user| user.split_once(':')) {
        None => String::new(),
        Some(None) => format!("{MASK}@"),
        Some(Some((name, _))) => format!("{name}:{MASK}@"),
    };
    match place.find(['?', '#']) {
        None => format!("{scheme}://{user}{place}"),
        Some(at) => format!("{scheme}://{user}{}?{MASK}", place.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_password() {
        let check = |url: &str, shown: &str| assert_eq!(shown_url(url), shown, "{url}");
        check("pg://calvin:hush@host/db", "pg://calvin:***@host/db");
        check("pg://calvin:hu@sh@host/db", "pg://calvin:***@host/db");
        check("pg://calvin:hu/sh@host/db", "pg://***");
        check("pg://calvin:hu?sh@host/db", "pg://***");
        check("pg://calvin:hu#sh@host/db", "pg://***");
        check("pg://host/db?password=hush", "pg://host/db?***");
        check("pg://host/db?password=hush&mail=a@b", "pg://***");
        check("pg://host/db#hush", "pg://host/db?***");
        check("redis://:hush@host", "redis://:***@host");
        check("https://hush@host", "https://***@host");
        check("memcached://a:hush@h1,memcached://b:hush@h2", "memcached://***");
        check("mysql:calvin:hush", "***");
        check("hush", "***");
        check("say hush://x", "***://x");
        check("sqlite:people.db", "sqlite:people.db");
        check("sqlite://people.db", "sqlite://people.db");
        check("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0");
    }

    #[test]
    fn secrets_are_looked_for_where_they_can_stand() {
        let text = "[realm.r]\nlink = { file = \"login\" }\nobjects = { env = \"app\" }\n[server.hosts]\nenv = \"r\"\n\
                    [source.file]\nfile = \"x\"\n[source.a]\nlist = [{ env = \"A\" }, \"b\"]\ndeep.er = { env = \"A\" }\n";
        let mut table: Table = toml::from_str(text).unwrap();
        let environment = [("A".to_owned(), "hush".to_owned())].into();
        let mut found = resolve(&mut table, &environment).unwrap();
        found.sort();
        assert_eq!(found, [vec!["source", "a", "deep", "er"], vec!["source", "a", "list", "0"]]);
        assert_eq!(table["source"]["a"]["list"][0].as_str(), Some("hush"));
        mask(&mut table, &found);
        let shown = toml::to_string(&table).unwrap();
        assert!(!shown.contains("hush") && shown.contains("***"), "{shown}");
    }

    #[test]
    fn names_that_end_like_a_password_or_a_key_are_secret() {
        let sounds = |name: &str| sounds_secret(&["source".into(), "staff".into(), name.to_owned()]);
        for name in [
            "pw",
            "pass",
            "pwd",
            "key",
            "bindpw",
            "bind_pw",
            "BIND-PW",
            "bind_pass",
            "dbpass",
            "apikey",
            "api_key",
        ] {
            assert!(sounds(name), "{name}");
        }
        for name in ["path", "base", "bind_dn", "keys_of", "passes", "bypass_cache"] {
            assert!(!sounds(name), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_anybody_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hush").unwrap();
        let check = |mode, fine: bool| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = format!("can't read {}: {}", path.display(), crate::data::ANYBODY);
            assert_eq!(from_file(&path), if fine { Ok("hush".to_owned()) } else { Err(refused) }, "{mode:o}");
        };
        check(0o666, false);
        check(0o602, false);
        check(0o660, true);
        check(0o600, true);
    }

    #[test]
    fn one_line_end_is_cut_from_a_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let check = |content: &[u8], expected: Result<&str, &str>| {
            std::fs::write(&path, content).unwrap();
            let expected =
                expected.map(str::to_owned).map_err(|why| format!("can't read {}: {why}", path.display()));
            assert_eq!(from_file(&path), expected);
        };
        check(b"hush", Ok("hush"));
        check(b"hush\n", Ok("hush"));
        check(b"hush\r\n", Ok("hush"));
        check(b"hush\r\r\n\n", Ok("hush\r\r\n"));
        check(b" hush ", Ok(" hush "));
        check(b"", Err("it is empty"));
        check(b"\n", Err("it is empty"));
        check(&vec![b'x'; 65_537], Err("it is larger than 64 KiB"));
        check(b"\xff", Err("stream did not contain valid UTF-8"));
        assert_eq!(
            from_file(&folder.path().join("no")).unwrap_err(),
            format!(
                "can't read {}: No such file or directory (os error 2)",
                folder.path().join("no").display()
            )
        );
    }

    #[test]
    fn an_endless_file_is_not_read_to_its_end() {
        assert_eq!(
            from_file(Path::new("/dev/zero")).unwrap_err(),
            "can't read /dev/zero: it is larger than 64 KiB"
        );
    }
}
