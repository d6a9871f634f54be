//! What is kept of a person, read strictly.

use std::time::{Duration, SystemTime};

use auth_core::{
    Account, AccountState, Error, ErrorKind, Id, Lock, Login, Lookup, Result, SourceInfo, StoredHash,
    check_name,
};
use redis::Value;

use crate::fault;

/// The longest value of a field, in bytes.
pub(crate) const MAX_FIELD: usize = 4096;

/// The fields of a person, in the order in which they are asked for and [read](account).
pub(crate) const FIELDS: [&str; 11] = [
    "login",
    "id",
    "hash",
    "scheme",
    "disabled",
    "locked",
    "locked_until",
    "not_before",
    "expires_at",
    "password_expires_at",
    "must_change",
];

/// Reads the reply to HMGET of the [fields](FIELDS): the account, or `NotFound` if there is none, or somebody else's.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) naming the field, never the value.
pub(crate) fn account(source: &SourceInfo, login: &Login, reply: Value) -> Result<Lookup<Account>> {
    let Value::Array(values) = fault::checked(reply)? else { return Err(fault::unreadable()) };
    let all: [Value; FIELDS.len()] = values.try_into().map_err(|_| fault::unreadable())?;
    if all.iter().all(|value| *value == Value::Nil) {
        return Ok(Lookup::NotFound);
    }
    let [
        found,
        id,
        hash,
        scheme,
        disabled,
        locked,
        locked_until,
        not_before,
        expires_at,
        password_expires_at,
        must_change,
    ] = all;
    let found = field("login", found)?.ok_or_else(|| corrupt("login", "it is not there"))?;
    if !login.is(&found) {
        // A stranger's: what else is there does not matter, unreadable or not.
        return Ok(Lookup::NotFound);
    }
    let id = field("id", id)?.ok_or_else(|| corrupt("id", "it is not there"))?;
    check_name("user", &id).map_err(|_| corrupt("id", "it is no name"))?;
    let lock = match (flag("locked", locked)?, time("locked_until", locked_until)?) {
        // The flag outranks the time: somebody set it by hand.
        (true, _) => Lock::Locked,
        (false, Some(until)) => Lock::Until(until),
        (false, None) => Lock::Open,
    };
    let state = AccountState {
        disabled: flag("disabled", disabled)?,
        lock,
        not_before: time("not_before", not_before)?,
        expires_at: time("expires_at", expires_at)?,
        password_expires_at: time("password_expires_at", password_expires_at)?,
        must_change: flag("must_change", must_change)?,
    };
    let scheme = field("scheme", scheme)?;
    let hash = field("hash", hash)?.map(|hash| StoredHash::new(hash, scheme.as_deref()));
    Ok(Account::found(source, login, &found, Id::text(&id), state, hash))
}

/// Reads a text; an empty one says nothing.
fn field(name: &'static str, value: Value) -> Result<Option<String>> {
    let bytes = match value {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => bytes,
        _ => return Err(fault::unreadable()),
    };
    if bytes.len() > MAX_FIELD {
        return Err(corrupt(name, "it is longer than 4,096 bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| corrupt(name, "it is no text"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn flag(name: &'static str, value: Value) -> Result<bool> {
    match field(name, value)?.as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(corrupt(name, "it is neither 0 nor 1")),
    }
}

/// Reads whole seconds since 1970.
fn time(name: &'static str, value: Value) -> Result<Option<SystemTime>> {
    let Some(text) = field(name, value)? else { return Ok(None) };
    let time = text.parse::<i64>().ok().and_then(|seconds| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    });
    time.map(Some).ok_or_else(|| corrupt(name, "it is no whole number of seconds since 1970"))
}

/// Reads names, the empty one left out.
pub(crate) fn names(reply: Value) -> Result<Vec<String>> {
    let (Value::Array(items) | Value::Set(items)) = fault::checked(reply)? else {
        return Err(fault::unreadable());
    };
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        let Value::BulkString(bytes) = item else { return Err(fault::unreadable()) };
        let name = String::from_utf8(bytes)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "a name can't be read: it is no text"))?;
        if !name.is_empty() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes the error of a field that can't be read.
fn corrupt(name: &'static str, what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a field of a user can't be read: {what}")).with("field", name)
}
