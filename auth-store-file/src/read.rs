//! Reads texts of files once, for whoever writes their users into another store.

use auth_core::{AccountState, Error, ErrorKind, Result, StoredHash};

use crate::contents::{Broken, Contents};
use crate::unix::Passwd;
use crate::{Format, htfiles, unix, users_toml};

/// The text of a user file, and of those that may stand beside it.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct FileTexts<'a> {
    /// The user file.
    pub users: &'a str,
    /// The group file: with any format but TOML.
    pub groups: Option<&'a str>,
    /// The shadow file: with a passwd file.
    pub shadow: Option<&'a str>,
}

impl<'a> FileTexts<'a> {
    /// Takes the text of a user file.
    #[must_use]
    pub fn new(users: &'a str) -> Self {
        Self { users, ..Self::default() }
    }
}

impl std::fmt::Debug for FileTexts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileTexts(..)")
    }
}

/// One user of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileUser {
    /// The login as it is written.
    pub login: String,
    /// The stored hash, if there is a password.
    pub hash: Option<StoredHash>,
    /// The state of the account.
    pub state: AccountState,
    /// All groups.
    pub groups: Vec<String>,
}

/// Reads the users of a file, in its order. Two lines for one login are two users.
///
/// ```
/// use auth_store_file::{FileTexts, Format, read_users};
/// let users = read_users(Format::Shadow, FileTexts::new("calvin:$6$...:0::::::\n"))?;
/// assert!(users[0].login == "calvin" && users[0].state.must_change);
/// # Ok::<(), auth_core::Error>(())
/// ```
///
/// # Errors
/// - [`Corrupt`](ErrorKind::Corrupt), naming file and line but not what is written there.
/// - [`Misconfigured`](ErrorKind::Misconfigured) for a file that does not go with the format.
pub fn read_users(format: Format, texts: FileTexts<'_>) -> Result<Vec<FileUser>> {
    if (format == Format::Toml && texts.groups.is_some())
        || (format != Format::Passwd && texts.shadow.is_some())
    {
        let message = "a file is given that does not go with the format";
        return Err(Error::new(ErrorKind::Misconfigured, message));
    }
    let contents = contents(format, texts)?;
    let users = contents.records().iter().map(|record| {
        let has = |(_, logins): &&(String, Vec<String>)| logins.contains(&record.login);
        let mut groups: Vec<String> = record.groups.iter().map(str::to_owned).collect();
        groups.extend(contents.memberships().iter().filter(has).map(|(group, _)| group.clone()));
        groups.sort_unstable();
        groups.dedup();
        let (login, hash, state) = (record.login.clone(), record.hash.clone(), record.state.clone());
        FileUser { login, hash, state, groups }
    });
    Ok(users.collect())
}

fn contents(format: Format, texts: FileTexts<'_>) -> Result<Contents> {
    let (users, groups) = (texts.users, texts.groups);
    let of_users = |broken| corrupt("users", broken);
    Ok(match format {
        Format::Toml => users_toml::read(users, None).map_err(of_users)?,
        Format::Htpasswd => {
            let groups =
                groups.map(htfiles::groups).transpose().map_err(|broken| corrupt("groups", broken))?;
            let users = htfiles::users(users, None).map_err(of_users)?;
            Contents::new(users).with_memberships(groups.unwrap_or_default())
        }
        Format::Passwd | Format::Shadow => {
            let groups = groups.map(unix::groups).transpose().map_err(|broken| corrupt("groups", broken))?;
            let mut groups = groups.unwrap_or_default();
            let records = if format == Format::Shadow {
                unix::shadow(users, None).map_err(of_users)?
            } else {
                let hidden = texts.shadow.map(|text| unix::shadow(text, None));
                let hidden = hidden.transpose().map_err(|broken| corrupt("shadow", broken))?;
                let users = Passwd::read(users, None, hidden.as_deref()).map_err(of_users)?;
                users.complete(&mut groups);
                users.into_records()
            };
            let memberships = groups.into_iter().map(|(name, _, members)| (name, members)).collect();
            Contents::new(records).with_memberships(memberships)
        }
    })
}

fn corrupt(file: &'static str, broken: Broken) -> Error {
    Error::new(ErrorKind::Corrupt, broken.what).with("file", file).with("line", broken.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_with_what_stands_beside() {
        let texts = FileTexts {
            users: "calvin:x:1:100\nsusie:x:2:200\n",
            groups: Some("staff:x:100:susie\nadmin:x:200:calvin,susie\n"),
            shadow: Some("susie:!$6$s::::::20000:\ncalvin:$6$c\n"),
        };
        let users = read_users(Format::Passwd, texts).unwrap();
        let groups: Vec<_> = users.iter().map(|user| user.groups.join(" ")).collect();
        assert_eq!(groups, ["admin staff", "admin staff"]);
        assert!(users[1].state.lock == auth_core::Lock::Locked && users[1].state.expires_at.is_some());
        let toml = "[user.calvin]\ngroups = [\"b\", \"a\"]\n";
        assert_eq!(read_users(Format::Toml, FileTexts::new(toml)).unwrap()[0].groups, ["a", "b"]);
        let both = FileTexts { users: "calvin:x\n", groups: Some("staff: calvin moe\n"), shadow: None };
        assert_eq!(read_users(Format::Htpasswd, both).unwrap()[0].groups, ["staff"]);
        for (format, texts) in [(Format::Toml, both), (Format::Shadow, texts), (Format::Htpasswd, texts)] {
            assert_eq!(read_users(format, texts).unwrap_err().kind(), ErrorKind::Misconfigured);
        }
        let broken = FileTexts { groups: Some("staff:x:100:\ns3cret"), ..texts };
        let error = read_users(Format::Passwd, broken).unwrap_err();
        assert!(
            error.to_string().contains("groups, line 2") && !error.to_string().contains("s3cret"),
            "{error}"
        );
    }
}
