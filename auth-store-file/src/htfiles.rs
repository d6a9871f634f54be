//! htpasswd and htgroup: a line a user, a line a group.

use auth_core::{AccountState, Error, ErrorKind, GroupSet, Id, Result, StoredHash, check_name};

use crate::contents::{Broken, Record};

/// Reads htpasswd text: every login with its stored hash, in the order of the lines.
///
/// Comments (`#`) and blank lines are left out; what follows a second colon is a comment too.
///
/// ```
/// use auth_store_file::parse_htpasswd;
/// let users = parse_htpasswd("# team\ncalvin:$2y$05$...\n")?;
/// assert_eq!(users[0].0, "calvin");
/// # Ok::<(), auth_core::Error>(())
/// ```
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt), naming the line but not its content, if a line can't be read or has no hash.
pub fn parse_htpasswd(text: &str) -> Result<Vec<(String, StoredHash)>> {
    let lines = lines(text).map(|(number, line)| match user(number, line)? {
        (login, Some(hash)) => Ok((login.to_owned(), StoredHash::new(hash.to_owned(), None))),
        (_, None) => Err(Broken::new(number, "this user has no hash")),
    });
    lines
        .collect::<std::result::Result<_, _>>()
        .map_err(|broken: Broken| Error::new(ErrorKind::Corrupt, broken.what).with("line", broken.line))
}

/// Reads the users of an htpasswd file. `scheme` is for hashes that name none.
pub(crate) fn users(text: &str, scheme: Option<&str>) -> std::result::Result<Vec<Record>, Broken> {
    lines(text)
        .map(|(number, line)| {
            let (login, hash) = user(number, line)?;
            Ok(Record {
                login: login.to_owned(),
                id: Id::text(login),
                hash: hash.map(|hash| stored(hash.to_owned(), None, scheme)),
                state: AccountState::default(),
                groups: GroupSet::empty(),
            })
        })
        .collect()
}

/// Reads the groups of an htgroup file; a group may have several lines.
pub(crate) fn groups(text: &str) -> std::result::Result<Vec<(String, Vec<String>)>, Broken> {
    lines(text)
        .map(|(number, line)| {
            let Some((group, logins)) = line.split_once(':') else {
                return Err(Broken::new(number, "this line has no colon after the name of a group"));
            };
            let group = group.trim();
            check_name("group", group).map_err(|error| Broken::new(number, error.message()))?;
            Ok((group.to_owned(), logins.split_whitespace().map(str::to_owned).collect()))
        })
        .collect()
}

/// Keeps a hash with its scheme: the one beside it, or else `default` if it does not name its own.
pub(crate) fn stored(hash: String, scheme: Option<&str>, default: Option<&str>) -> StoredHash {
    let scheme = scheme.or_else(|| default.filter(|_| !names_its_scheme(&hash)));
    StoredHash::new(hash, scheme)
}

/// `$scheme$`, `{SCHEME}`, the names that have neither, and the digests of three databases.
///
/// Whatever the hasher identifies is among these: with `plaintext` as the default, what it knows and we do not
/// would be a password by its stored text.
fn names_its_scheme(hash: &str) -> bool {
    let named = |rest: &str, end: char| {
        rest.split_once(end).is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
    };
    let bare = ["pbkdf2_sha256$", "bcrypt_sha256$", "grub.pbkdf2.sha512."];
    let hex = |prefix, digits| {
        let rest: Option<&str> = hash.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.len() == digits && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    hash.strip_prefix('$').is_some_and(|rest| named(rest, '$'))
        || hash.strip_prefix('{').is_some_and(|rest| named(rest, '}'))
        || bare.iter().any(|prefix| hash.starts_with(prefix))
        // MySQL, PostgreSQL, and SQL Server.
        || hex("*", 40)
        || hex("md5", 32)
        || hex("0x0100", 48)
}

/// Numbers the lines that say something.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = (1..).zip(text.split('\n')).map(|(n, line)| (n, line.strip_suffix('\r').unwrap_or(line)));
    numbered.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

fn user(number: usize, line: &str) -> std::result::Result<(&str, Option<&str>), Broken> {
    let Some((login, rest)) = line.split_once(':') else {
        return Err(Broken::new(number, "this line has no colon after a login"));
    };
    check_name("user", login).map_err(|error| Broken::new(number, error.message()))?;
    let hash = rest.split_once(':').map_or(rest, |(hash, _comment)| hash);
    if hash.chars().any(char::is_control) {
        return Err(Broken::new(number, "this hash has control characters"));
    }
    Ok((login, (!hash.is_empty()).then_some(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, users: &[(&str, &str)]) {
        let read = parse_htpasswd(text).unwrap();
        let read: Vec<_> = read.iter().map(|(login, hash)| (login.as_str(), hash.as_str())).collect();
        assert_eq!(read, users, "{text:?}");
    }

    #[test]
    fn htpasswd_lines_are_login_and_hash() {
        check("", &[]);
        check("calvin:$apr1$x$y\nsusie:{SHA}z=\n", &[("calvin", "$apr1$x$y"), ("susie", "{SHA}z=")]);
        check("# a comment: no user\r\n\r\n  # another\r\ncalvin:x\r\n", &[("calvin", "x")]);
        check("\u{feff}calvin:x", &[("calvin", "x")]);
        check("calvin:x:Calvin of the third row", &[("calvin", "x")]);
        check("zo\u{e9}:x\nzo\u{e9}:y", &[("zo\u{e9}", "x"), ("zo\u{e9}", "y")]);
        check(" spaced :x ", &[(" spaced ", "x ")]);
    }

    #[test]
    fn a_line_that_can_not_be_read_is_named_and_not_shown() {
        let check = |text: &str, line: usize| {
            let error = parse_htpasswd(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&format!("line {line}")) && !shown.contains("s3cret"), "{shown}");
        };
        check("calvin:x\n\ns3cret", 3);
        check(":s3cret", 1);
        check("s3cret\x07:x", 1);
        check("calvin:s3cret\0", 1);
        check("calvin:", 1);
        check(&format!("{}:s3cret", "n".repeat(256)), 1);
    }

    #[test]
    fn htgroup_lines_are_group_and_logins() {
        let read = groups("# who\nstaff: calvin  susie\nadmin:calvin\nempty:\nstaff:\tmoe\n").unwrap();
        let expected = [
            ("staff", vec!["calvin", "susie"]),
            ("admin", vec!["calvin"]),
            ("empty", vec![]),
            ("staff", vec!["moe"]),
        ];
        let read: Vec<_> = read
            .iter()
            .map(|(g, m)| (g.as_str(), m.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        assert_eq!(read, expected);
        assert_eq!(groups("staff: calvin\nadmin").unwrap_err().line, 2);
        assert_eq!(groups(": calvin").unwrap_err().line, 1);
    }

    #[test]
    fn the_default_scheme_is_for_hashes_that_name_none() {
        let check = |hash: &str, scheme: Option<&str>| {
            assert_eq!(stored(hash.to_owned(), None, Some("plaintext")).scheme(), scheme, "{hash}");
        };
        for named in ["$2y$05$abc", "$apr1$a$b", "{SSHA}abc", "{PBKDF2-SHA256}1$a$b", "pbkdf2_sha256$1$a$b"] {
            check(named, None);
        }
        for (prefix, digits) in [("*", 40), ("md5", 32), ("0x0100", 48)] {
            check(&format!("{prefix}{}", "aF".repeat(digits / 2)), None);
            check(&format!("{prefix}{}", "a".repeat(digits - 1)), Some("plaintext"));
            check(&format!("{prefix}{}", "g".repeat(digits)), Some("plaintext"));
        }
        for bare in ["hobbes", "$money", "{", "$$", "{}x", "{a b}", "ho$bb$es"] {
            check(bare, Some("plaintext"));
        }
        assert_eq!(stored("x".into(), Some("hex_md5"), Some("plaintext")).scheme(), Some("hex_md5"));
    }
}
