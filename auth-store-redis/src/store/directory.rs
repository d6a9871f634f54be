//! Writes of users, groups and rights.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Account, Change, Ctx, Directory, Error, ErrorKind, Lock, Login, Lookup, NewUser, ObjectRef, RealmId,
    Result, SourceInfo, StateChange, StoredHash, UserEntry, check_name,
};

use super::keys::object_name;
use super::{MAX_FIELD, RedisStore, fresh, read, scripts, undeclared};
use crate::fault;

/// How many names are read at once for a list.
const PAGE: usize = 1_000;

/// What a script says, where a domain has nothing to do with it.
fn changed(code: i64) -> Result<Change> {
    match code {
        scripts::DONE => Ok(Change::Done),
        scripts::UNCHANGED => Ok(Change::Unchanged),
        scripts::NOT_FOUND => Ok(Change::NotFound),
        _ => Err(fault::unreadable()),
    }
}

fn changed_in(domain: &str, code: i64) -> Result<Change> {
    if code == scripts::UNDECLARED { Err(undeclared(domain)) } else { changed(code) }
}

impl RedisStore {
    async fn try_add_user(&self, user: &NewUser) -> Result<Change> {
        for group in &user.groups {
            check_name("group", group)?;
        }
        user.hash.as_ref().map_or(Ok(()), check_hash)?;
        let (id, login) = (fresh()?, user.login.as_str());
        let keys = [self.keys.user(login), self.keys.users(), self.keys.groups(), self.keys.groups_of(&id)];
        let hash = user.hash.as_ref().map(StoredHash::as_str).unwrap_or_default();
        let scheme = user.hash.as_ref().and_then(StoredHash::scheme).unwrap_or_default();
        let mut values = vec![login.as_bytes(), id.as_bytes(), hash.as_bytes(), scheme.as_bytes()];
        values.extend(user.groups.iter().map(String::as_bytes));
        changed(self.change(&self.scripts.add_user, &keys, &values).await?)
    }

    /// Returns some names of a list, in order, after one.
    async fn page(&self, list: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let question =
            redis::cmd("ZRANGEBYLEX").arg(list).arg(from).arg("+").arg("LIMIT").arg(0).arg(limit).take();
        read::names(self.ask_one(question).await?)
    }

    async fn names(&self, list: &str) -> Result<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let some = self.page(list, all.last().map(String::as_str), PAGE).await?;
            let more = some.len() == PAGE;
            all.extend(some);
            if !more {
                return Ok(all);
            }
        }
    }

    async fn try_users(&self, realm: &RealmId, after: Option<&str>, limit: u32) -> Result<Vec<UserEntry>> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut entries: Vec<UserEntry> = Vec::new();
        let mut after = after.filter(|after| !after.is_empty()).map(str::to_owned);
        loop {
            let size = wanted.saturating_sub(entries.len()).min(PAGE);
            if size == 0 {
                return Ok(entries);
            }
            let names = self.page(&self.keys.users(), after.as_deref(), size).await?;
            let more = names.len() == size;
            after = names.last().cloned();
            // Another realm's rule may have let in what this one can't ask for.
            let logins: Vec<Login> = names
                .iter()
                .filter_map(|name| Login::parse(realm, name).ok().filter(|login| login.as_str() == name))
                .collect();
            let mut questions = self.line.about(logins.len());
            for login in &logins {
                questions.add_command(self.account_question(login.as_str()));
            }
            for (login, reply) in logins.iter().zip(self.ask(questions).await?) {
                // Who was deleted meanwhile is not there.
                if let Lookup::Found(account) = read::account(&self.source, login, reply)? {
                    entries.push(entry(&account));
                }
            }
            if !more {
                return Ok(entries);
            }
        }
    }

    async fn try_set_hash(&self, login: &Login, hash: &StoredHash) -> Result<Change> {
        check_hash(hash)?;
        let values = [hash.as_str(), hash.scheme().unwrap_or_default()].map(str::as_bytes);
        let keys = [self.keys.user(login.as_str())];
        changed(self.change(&self.scripts.set_hash, &keys, &values).await?)
    }

    async fn try_set_state(&self, login: &Login, change: &StateChange) -> Result<Change> {
        let flag = |on: bool| if on { "1".to_owned() } else { String::new() };
        let mut fields: Vec<(&str, String)> = Vec::new();
        fields.extend(change.disabled.map(|on| ("disabled", flag(on))));
        if let Some(lock) = change.lock {
            // A lock is rounded up, so that it never ends early; an account's end is rounded down.
            let until = match lock {
                Lock::Until(time) => round_up(time).to_string(),
                Lock::Open | Lock::Locked => String::new(),
            };
            fields.extend([("locked", flag(lock == Lock::Locked)), ("locked_until", until)]);
        }
        let ends = |end: Option<SystemTime>| end.map(|end| to_unix(end).to_string()).unwrap_or_default();
        fields.extend(change.expires_at.map(|end| ("expires_at", ends(end))));
        fields.extend(change.must_change.map(|on| ("must_change", flag(on))));
        let values: Vec<&[u8]> =
            fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        let keys = [self.keys.user(login.as_str())];
        changed(self.change(&self.scripts.set_state, &keys, &values).await?)
    }

    async fn try_delete_user(&self, login: &Login) -> Result<Change> {
        let keys = [self.keys.user(login.as_str()), self.keys.users()];
        changed(self.change(&self.scripts.delete_user, &keys, &[login.as_str().as_bytes()]).await?)
    }

    async fn try_join(&self, login: &Login, group: &str) -> Result<Change> {
        check_name("group", group)?;
        let keys = [self.keys.user(login.as_str()), self.keys.groups()];
        changed(self.change(&self.scripts.join, &keys, &[group.as_bytes()]).await?)
    }

    async fn try_leave(&self, login: &Login, group: &str) -> Result<Change> {
        let keys = [self.keys.user(login.as_str())];
        changed(self.change(&self.scripts.leave, &keys, &[group.as_bytes()]).await?)
    }

    async fn try_add_object(&self, object: &ObjectRef) -> Result<Change> {
        let keys = [self.keys.object(&object_name(object)), self.keys.domains()];
        changed(self.change(&self.scripts.add_object, &keys, &[object.domain().as_bytes()]).await?)
    }

    async fn try_delete_object(&self, object: &ObjectRef) -> Result<Change> {
        let name = object_name(object);
        let keys = [self.keys.object(&name), self.keys.domains()];
        let values = [object.domain().as_bytes(), name.as_bytes()];
        changed_in(object.domain(), self.change(&self.scripts.delete_object, &keys, &values).await?)
    }

    async fn try_right(&self, login: &Login, object: &ObjectRef, mode: &str, what: Right) -> Result<Change> {
        check_name("mode", mode)?;
        let name = object_name(object);
        let keys = [self.keys.user(login.as_str()), self.keys.object(&name), self.keys.domains()];
        let what = match what {
            Right::Grant => "1",
            Right::Revoke => "0",
        };
        let values = [object.domain(), &name, mode, what].map(str::as_bytes);
        changed_in(object.domain(), self.change(&self.scripts.right, &keys, &values).await?)
    }
}

#[derive(Clone, Copy)]
enum Right {
    Grant,
    Revoke,
}

fn entry(account: &Account) -> UserEntry {
    UserEntry {
        principal: account.principal().clone(),
        state: account.state().clone(),
        password: account.hash().map(|hash| hash.scheme().map(str::to_owned)),
    }
}

fn to_unix(time: SystemTime) -> i64 {
    let clamp = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => clamp(since.as_secs()),
        Err(before) => {
            let before = before.duration();
            -clamp(before.as_secs()) - i64::from(before.subsec_nanos() > 0)
        }
    }
}

fn round_up(time: SystemTime) -> i64 {
    time.checked_add(Duration::from_nanos(999_999_999)).map_or(i64::MAX, to_unix)
}

/// Checks a hash that is to be stored.
pub(super) fn check_hash(hash: &StoredHash) -> Result<()> {
    let fault = if hash.as_str().is_empty() {
        "the hash is empty"
    } else if hash.as_str().len() > MAX_FIELD {
        "the hash is longer than 4,096 bytes"
    } else if hash.as_str().contains('\0') {
        "the hash has a NUL"
    } else {
        return hash.scheme().map_or(Ok(()), |scheme| check_name("scheme", scheme));
    };
    Err(Error::new(ErrorKind::Invalid, fault))
}

#[async_trait]
impl Directory for RedisStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn add_user(&self, _ctx: &Ctx, user: &NewUser) -> Result<Change> {
        self.try_add_user(user).await.map_err(|error| self.at(error))
    }

    async fn users(
        &self,
        _ctx: &Ctx,
        realm: &RealmId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<UserEntry>> {
        self.try_users(realm, after, limit).await.map_err(|error| self.at(error))
    }

    async fn user(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<UserEntry>> {
        let found = self.find_account(login).await.map_err(|error| self.at(error))?;
        Ok(found.map(|account| entry(&account)))
    }

    async fn set_hash(&self, _ctx: &Ctx, login: &Login, hash: &StoredHash) -> Result<Change> {
        self.try_set_hash(login, hash).await.map_err(|error| self.at(error))
    }

    async fn set_state(&self, _ctx: &Ctx, login: &Login, change: &StateChange) -> Result<Change> {
        self.try_set_state(login, change).await.map_err(|error| self.at(error))
    }

    async fn delete_user(&self, _ctx: &Ctx, login: &Login) -> Result<Change> {
        self.try_delete_user(login).await.map_err(|error| self.at(error))
    }

    async fn join(&self, _ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        self.try_join(login, group).await.map_err(|error| self.at(error))
    }

    async fn leave(&self, _ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        self.try_leave(login, group).await.map_err(|error| self.at(error))
    }

    async fn groups(&self, _ctx: &Ctx) -> Result<Vec<String>> {
        self.names(&self.keys.groups()).await.map_err(|error| self.at(error))
    }

    async fn domains(&self, _ctx: &Ctx) -> Result<Vec<String>> {
        self.names(&self.keys.domains()).await.map_err(|error| self.at(error))
    }

    async fn add_object(&self, _ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        self.try_add_object(object).await.map_err(|error| self.at(error))
    }

    async fn delete_object(&self, _ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        self.try_delete_object(object).await.map_err(|error| self.at(error))
    }

    async fn grant(&self, _ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        self.try_right(login, object, mode, Right::Grant).await.map_err(|error| self.at(error))
    }

    async fn revoke(&self, _ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        self.try_right(login, object, mode, Right::Revoke).await.map_err(|error| self.at(error))
    }
}
