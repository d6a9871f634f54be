//! Importing users from files.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use auth_core::{AccountState, Change, Error, ErrorKind, Lock, Login, NewUser, Result, StateChange};
use auth_stack::Stack;
use auth_store_file::{FileTexts, Format, read_users};
use serde_json::json;

use crate::cli::ImportVerb;
use crate::command::{Command, ImportFormat, Reply, Secret};
use crate::input;
use crate::ops::{context, directory, ready_hash};

/// The most bytes of all files of one import: what fits into a command.
const MAX_FILES: usize = 16 * 1024 * 1024;

/// Makes the command, with what is in the files.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) for a file that can't be read.
pub(crate) fn command(verb: &ImportVerb) -> Result<Command> {
    let (format, file, groups, shadow, realm) = match verb {
        ImportVerb::Htpasswd { file, groups, realm } => (ImportFormat::Htpasswd, file, groups, &None, realm),
        ImportVerb::Passwd { file, shadow, groups, realm } => {
            (ImportFormat::Passwd, file, groups, shadow, realm)
        }
        ImportVerb::Shadow { file, groups, realm } => (ImportFormat::Shadow, file, groups, &None, realm),
        ImportVerb::Toml { file, realm } => (ImportFormat::Toml, file, &None, &None, realm),
    };
    let read =
        |path: &Option<std::path::PathBuf>| path.as_deref().map(|path: &Path| input::file(path)).transpose();
    let (file, groups, shadow) = (input::file(file)?, read(groups)?, read(shadow)?);
    let all = [Some(&file), groups.as_ref(), shadow.as_ref()];
    if all.into_iter().flatten().map(|file| file.0.len()).sum::<usize>() > MAX_FILES {
        return Err(Error::new(ErrorKind::Invalid, "the files have more than 16 MiB together"));
    }
    Ok(Command::UserImport { realm: realm.realm.clone(), format, file, groups, shadow })
}

/// Somebody to add, and in what state.
struct Newcomer {
    user: NewUser,
    state: AccountState,
}

/// Adds those who are not there yet. Every line is checked before the first is written.
///
/// # Errors
/// Any kind: who was added before stays.
pub(crate) async fn run(
    stack: &Stack,
    name: &str,
    format: ImportFormat,
    file: &Secret,
    groups: Option<&Secret>,
    shadow: Option<&Secret>,
) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let mut texts = FileTexts::new(text(file)?);
    texts.groups = groups.map(text).transpose()?;
    texts.shadow = shadow.map(text).transpose()?;
    let format = match format {
        ImportFormat::Htpasswd => Format::Htpasswd,
        ImportFormat::Passwd => Format::Passwd,
        ImportFormat::Shadow => Format::Shadow,
        ImportFormat::Toml => Format::Toml,
    };
    let found =
        read_users(format, texts).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    let (mut newcomers, mut seen, mut warnings) = (Vec::new(), HashSet::new(), Warnings::default());
    for user in found {
        let wrong = |message: String| Error::new(ErrorKind::Invalid, message).with("login", &user.login);
        let about = |error: Error| wrong(error.message().to_owned());
        let login = Login::parse(realm.id(), &user.login).map_err(about)?;
        if !seen.insert(login.clone()) {
            return Err(wrong("two users of the file have this login".to_owned()));
        }
        let hash = match (&user.hash, format) {
            (Some(hash), _) => {
                let (hash, warning) =
                    ready_hash(stack, hash.as_str().to_owned(), hash.scheme()).map_err(about)?;
                if let Some(warning) = warning {
                    warnings.add(warning, &login);
                }
                Some(hash)
            }
            (None, Format::Toml) => None,
            (None, Format::Htpasswd) => return Err(wrong("this user has no hash".to_owned())),
            // What runs services, mostly.
            (None, _) => {
                warnings.add("who has no password is left out".to_owned(), &login);
                continue;
            }
        };
        if user.state.not_before.is_some() {
            return Err(wrong("an account that begins later can't be imported: `not_before`".to_owned()));
        }
        if user.state.password_expires_at.is_some() {
            warnings.add("when a password ends is not imported".to_owned(), &login);
        }
        let user_state = user.state.clone();
        newcomers.push(Newcomer { user: NewUser { login, hash, groups: user.groups }, state: user_state });
    }
    let (mut added, mut present) = (0_u64, Vec::new());
    for newcomer in &newcomers {
        match add(stack, &**directory, newcomer).await.map_err(|error| error.with("added before", added))? {
            Change::Done => added += 1,
            Change::Unchanged | Change::NotFound => present.push(newcomer.user.login.as_str()),
        }
    }
    let row = json!({ "realm": name, "added": added, "exists": present, "warnings": warnings.lines() });
    Ok(Reply::one(u8::from(added == 0 && !present.is_empty()), row))
}

/// Adds one. Who is not simply open has a password last, so that nobody gets in who may not.
async fn add(
    stack: &Stack,
    directory: &dyn auth_core::Directory,
    Newcomer { user, state }: &Newcomer,
) -> Result<Change> {
    let ctx = context(stack);
    let change = StateChange {
        disabled: Some(state.disabled).filter(|disabled| *disabled),
        lock: Some(state.lock).filter(|lock| *lock != Lock::Open),
        expires_at: state.expires_at.map(Some),
        must_change: Some(state.must_change).filter(|must| *must),
    };
    let open = change.disabled.is_none()
        && change.lock.is_none()
        && change.expires_at.is_none()
        && change.must_change.is_none();
    if open {
        return directory.add_user(&ctx, user).await;
    }
    let added = directory.add_user(&ctx, &NewUser { hash: None, ..user.clone() }).await?;
    if added == Change::Done {
        directory.set_state(&ctx, &user.login, &change).await?;
        if let Some(hash) = &user.hash {
            directory.set_hash(&ctx, &user.login, hash).await?;
        }
    }
    Ok(added)
}

fn text(file: &Secret) -> Result<&str> {
    std::str::from_utf8(&file.0).map_err(|_| Error::new(ErrorKind::Invalid, "the password file is not UTF-8"))
}

/// A warning often goes for most of a file: how many it is about, and who is the first of them.
#[derive(Default)]
struct Warnings(BTreeMap<String, (u64, String)>);

impl Warnings {
    fn add(&mut self, warning: String, login: &Login) {
        let (users, _) = self.0.entry(warning).or_insert_with(|| (0, login.as_str().to_owned()));
        *users += 1;
    }

    fn lines(&self) -> Vec<String> {
        let line = |(warning, (users, first)): (&String, &(u64, String))| match users {
            1 => format!("{warning} (user {first})"),
            _ => format!("{warning} ({users} users, the first is {first})"),
        };
        self.0.iter().map(line).collect()
    }
}
