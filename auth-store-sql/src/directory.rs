//! Writes of users, groups and rights in the managed schema. Each is one transaction.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Account, AccountState, Change, Ctx, Directory, Error, ErrorKind, Id, Lock, Login, Lookup, NewUser,
    ObjectRef, Principal, RealmId, Result, SourceInfo, StateChange, StoredHash, UserEntry, check_name,
};

use crate::account::{Columns, corrupt};
use crate::db::Tx;
use crate::error::is_conflict;
use crate::managed;
use crate::scan::Dialect;
use crate::state::State;
use crate::statement::{Args, Kind, Known, Statement, Value};
use crate::store::{SqlStore, undeclared};
use crate::value::{Cell, Unreadable, to_unix};

/// How many people are read at once for a list.
const PAGE: u32 = 1_000;

/// The longest hash that is stored, in bytes: longer ones are not verified either. It is said once more where
/// they are verified, since a store depends on no crate that hashes.
const MAX_HASH_BYTES: usize = 4_096;

/// The longest id of an object that a server's index takes: PostgreSQL counts bytes, MariaDB signs.
const MAX_OBJECT_BYTES: usize = 2_600;
const MAX_OBJECT_CHARS: usize = 700;

const PARAMETERS: Known<'_> = &[
    ("after", Kind::Text),
    ("disabled", Kind::Int),
    ("domain", Kind::Text),
    ("domain_id", Kind::Int),
    ("expires_at", Kind::Int),
    ("group", Kind::Text),
    ("hash", Kind::Text),
    ("id", Kind::Int),
    ("limit", Kind::Int),
    ("locked", Kind::Int),
    ("locked_until", Kind::Int),
    ("login", Kind::Text),
    ("mode", Kind::Text),
    ("must_change", Kind::Int),
    ("now", Kind::Int),
    ("object", Kind::Text),
    ("object_id", Kind::Int),
    ("scheme", Kind::Text),
];

/// The managed schema's directory.
pub(crate) struct ManagedDirectory(Arc<SqlStore>);

impl fmt::Debug for ManagedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManagedDirectory").field(&self.0).finish()
    }
}

impl ManagedDirectory {
    pub(crate) const fn new(store: Arc<SqlStore>) -> Self {
        Self(store)
    }

    fn statement(&self, name: &str, text: &str) -> Result<Statement> {
        Statement::compile(self.0.dialect, name, text, PARAMETERS)
    }

    /// Runs a statement. An INSERT of what is there already changes nothing.
    async fn execute(&self, tx: &mut Tx, name: &str, text: &str, args: Args<'_>) -> Result<u64> {
        if text.starts_with("INSERT") {
            let text = format!("{text}{}", tx.unless_there());
            return tx.insert(&self.statement(name, &text)?, args).await;
        }
        tx.execute(&self.statement(name, text)?, args).await
    }

    /// Returns the first column of the first row as an id.
    async fn id(&self, tx: &mut Tx, name: &str, text: &str, args: Args<'_>) -> Result<Option<i64>> {
        let statement = self.statement(name, text)?;
        match tx.rows(&statement, args).await?.first_mut().map(|row| row.take(0)) {
            None => Ok(None),
            Some(Cell::Int(id)) => Ok(Some(id)),
            Some(_) => Err(corrupt(&statement, "id", Unreadable("no whole number"))),
        }
    }

    /// Returns the names that a query lists.
    async fn names(&self, name: &str, text: &str) -> Result<Vec<String>> {
        let statement = self.statement(name, text)?;
        let mut names = Vec::new();
        let state = self.0.opened.current().await?;
        let mut conn = state.db.read().await?;
        conn.each(&statement, &[], |mut row| {
            names.push(row.take(0).name().map_err(|found| corrupt(&statement, "name", found))?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(names)
    }

    async fn write(&self) -> Result<(Arc<State>, Tx)> {
        let state = self.0.opened.current().await?;
        let tx = state.db.write_alone().await?;
        Ok((state, tx))
    }

    fn account_query(state: &State) -> Result<&(Statement, Columns)> {
        let query = state.schema.account.as_ref();
        query.ok_or_else(|| Error::new(ErrorKind::Internal, "the managed schema has no accounts"))
    }

    async fn find(&self, state: &State, tx: &mut Tx, login: &Login) -> Result<Option<(i64, Account)>> {
        let (statement, columns) = Self::account_query(state)?;
        for row in tx.rows(statement, &[("login", Value::Text(login.as_str()))]).await? {
            if let Lookup::Found(account) = columns.account(&self.0.source, login, statement, row)? {
                let Id::Int(id) = *account.principal().id() else {
                    return Err(corrupt(statement, "id", Unreadable("no whole number")));
                };
                return Ok(Some((id, account)));
            }
        }
        Ok(None)
    }

    /// Finds an object of a declared domain.
    async fn object(&self, tx: &mut Tx, object: &ObjectRef) -> Result<Option<i64>> {
        let domain = [("domain", Value::Text(object.domain()))];
        let Some(domain) =
            self.id(tx, "domain", "SELECT id FROM gatepost_domain WHERE name = :domain", &domain).await?
        else {
            return Err(undeclared(object.domain()));
        };
        let name = managed::object_name(object.id());
        let args = [("domain_id", Value::Int(domain)), ("object", Value::Text(&name))];
        let text = "SELECT id FROM gatepost_object WHERE domain_id = :domain_id AND name = :object";
        self.id(tx, "object", text, &args).await
    }

    async fn put_in_group(&self, tx: &mut Tx, user: i64, group: &str) -> Result<bool> {
        let args = [("id", Value::Int(user)), ("group", Value::Text(group))];
        let make = "INSERT INTO gatepost_group (name) VALUES (:group)";
        self.execute(tx, "add_group", make, &args).await?;
        let join = "INSERT INTO gatepost_membership (user_id, group_id) \
                    SELECT :id, id FROM gatepost_group WHERE name = :group";
        Ok(self.execute(tx, "join", join, &args).await? > 0)
    }

    async fn try_add_user(&self, user: &NewUser) -> Result<Change> {
        for group in &user.groups {
            check_name("group", group)?;
        }
        user.hash.as_ref().map_or(Ok(()), check_hash)?;
        let (state, mut tx) = self.write().await?;
        let args = [
            ("login", Value::Text(user.login.as_str())),
            ("hash", Value::from(user.hash.as_ref().map(StoredHash::as_str))),
            ("scheme", Value::from(user.hash.as_ref().and_then(StoredHash::scheme))),
            ("now", Value::Int(self.0.now())),
        ];
        let insert = "INSERT INTO gatepost_user (login, hash, scheme, created_at) \
                      VALUES (:login, :hash, :scheme, :now)";
        if self.execute(&mut tx, "add_user", insert, &args).await? == 0 {
            return Ok(Change::Unchanged);
        }
        let Some((id, _)) = self.find(&state, &mut tx, &user.login).await? else {
            return Err(Error::new(ErrorKind::Internal, "a user that was added is not there"));
        };
        for group in &user.groups {
            self.put_in_group(&mut tx, id, group).await?;
        }
        tx.commit().await?;
        Ok(Change::Done)
    }

    async fn try_users(&self, realm: &RealmId, after: Option<&str>, limit: u32) -> Result<Vec<UserEntry>> {
        // Its columns are those of the account query, in their order.
        let statement = self.statement("users", managed::USERS)?;
        let state = self.0.opened.current().await?;
        let (_, columns) = Self::account_query(&state)?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut entries: Vec<UserEntry> = Vec::new();
        let mut after = after.unwrap_or_default().to_owned();
        let mut conn = state.db.read().await?;
        loop {
            let left = wanted.saturating_sub(entries.len());
            let page = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
            if page == 0 {
                return Ok(entries);
            }
            let (mut seen, mut last) = (0, String::new());
            let args = [("after", Value::Text(&after)), ("limit", Value::Int(page.into()))];
            conn.each(&statement, &args, |row| {
                seen += 1;
                last = columns.login(&statement, &row)?;
                // Another realm's rule may have let in what this one can't ask for.
                if let Some(login) = Login::parse(realm, &last).ok().filter(|login| login.as_str() == last)
                    && let Lookup::Found(account) =
                        columns.account(&self.0.source, &login, &statement, row)?
                {
                    entries.push(entry(&account));
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            if seen < page {
                return Ok(entries);
            }
            after = last;
        }
    }

    async fn try_user(&self, login: &Login) -> Result<Lookup<UserEntry>> {
        let state = self.0.opened.current().await?;
        let (statement, columns) = Self::account_query(&state)?;
        let mut found = Lookup::NotFound;
        let mut conn = state.db.read().await?;
        conn.each(statement, &[("login", Value::Text(login.as_str()))], |row| {
            found = columns.account(&self.0.source, login, statement, row)?;
            Ok(ControlFlow::Break(()))
        })
        .await?;
        Ok(found.map(|account| entry(&account)))
    }

    async fn try_set_hash(&self, login: &Login, hash: &StoredHash) -> Result<Change> {
        check_hash(hash)?;
        let (state, mut tx) = self.write().await?;
        let Some((id, account)) = self.find(&state, &mut tx, login).await? else {
            return Ok(Change::NotFound);
        };
        if account.hash() == Some(hash) {
            return Ok(Change::Unchanged);
        }
        let args = [
            ("id", Value::Int(id)),
            ("hash", Value::Text(hash.as_str())),
            ("scheme", Value::from(hash.scheme())),
        ];
        let update = "UPDATE gatepost_user SET hash = :hash, scheme = :scheme WHERE id = :id";
        self.execute(&mut tx, "set_hash", update, &args).await?;
        tx.commit().await?;
        Ok(Change::Done)
    }

    async fn try_set_state(&self, login: &Login, change: &StateChange) -> Result<Change> {
        let (state, mut tx) = self.write().await?;
        let Some((id, account)) = self.find(&state, &mut tx, login).await? else {
            return Ok(Change::NotFound);
        };
        let old = Columned::of(account.state());
        let new = old.changed(change);
        if old == new {
            return Ok(Change::Unchanged);
        }
        let args = [
            ("id", Value::Int(id)),
            ("disabled", Value::Int(new.disabled.into())),
            ("locked", Value::Int(new.locked.into())),
            ("locked_until", Value::from(new.locked_until)),
            ("expires_at", Value::from(new.expires_at)),
            ("must_change", Value::Int(new.must_change.into())),
        ];
        let update = "UPDATE gatepost_user SET disabled = (:disabled <> 0), locked = (:locked <> 0), \
                      locked_until = :locked_until, expires_at = :expires_at, \
                      must_change = (:must_change <> 0) WHERE id = :id";
        self.execute(&mut tx, "set_state", update, &args).await?;
        tx.commit().await?;
        Ok(Change::Done)
    }

    async fn try_delete_user(&self, login: &Login) -> Result<Change> {
        let (state, mut tx) = self.write().await?;
        let Some((id, _)) = self.find(&state, &mut tx, login).await? else { return Ok(Change::NotFound) };
        // Memberships and rights go with it, by their foreign keys.
        let delete = "DELETE FROM gatepost_user WHERE id = :id";
        self.execute(&mut tx, "delete_user", delete, &[("id", Value::Int(id))]).await?;
        tx.commit().await?;
        Ok(Change::Done)
    }

    async fn try_join(&self, login: &Login, group: &str) -> Result<Change> {
        check_name("group", group)?;
        let (state, mut tx) = self.write().await?;
        let Some((id, _)) = self.find(&state, &mut tx, login).await? else { return Ok(Change::NotFound) };
        if !self.put_in_group(&mut tx, id, group).await? {
            return Ok(Change::Unchanged);
        }
        tx.commit().await?;
        Ok(Change::Done)
    }

    async fn try_leave(&self, login: &Login, group: &str) -> Result<Change> {
        let (state, mut tx) = self.write().await?;
        let Some((id, _)) = self.find(&state, &mut tx, login).await? else { return Ok(Change::NotFound) };
        let args = [("id", Value::Int(id)), ("group", Value::Text(group))];
        let delete = "DELETE FROM gatepost_membership WHERE user_id = :id \
                      AND group_id = (SELECT id FROM gatepost_group WHERE name = :group)";
        self.change(tx, "leave", delete, &args).await
    }

    async fn try_add_object(&self, object: &ObjectRef) -> Result<Change> {
        let name = managed::object_name(object.id());
        if self.0.dialect != Dialect::Sqlite
            && (name.len() > MAX_OBJECT_BYTES || name.chars().count() > MAX_OBJECT_CHARS)
        {
            return Err(Error::new(ErrorKind::Invalid, "the object's id is too long for this database"));
        }
        let (_, mut tx) = self.write().await?;
        let args = [("domain", Value::Text(object.domain())), ("object", Value::Text(&name))];
        let declare = "INSERT INTO gatepost_domain (name) VALUES (:domain)";
        self.execute(&mut tx, "add_domain", declare, &args).await?;
        let insert = "INSERT INTO gatepost_object (domain_id, name) \
                      SELECT id, :object FROM gatepost_domain WHERE name = :domain";
        self.change(tx, "add_object", insert, &args).await
    }

    async fn try_delete_object(&self, object: &ObjectRef) -> Result<Change> {
        let (_, mut tx) = self.write().await?;
        let Some(id) = self.object(&mut tx, object).await? else { return Ok(Change::NotFound) };
        let delete = "DELETE FROM gatepost_object WHERE id = :id";
        self.change(tx, "delete_object", delete, &[("id", Value::Int(id))]).await
    }

    async fn try_right(&self, login: &Login, object: &ObjectRef, mode: &str, what: Right) -> Result<Change> {
        check_name("mode", mode)?;
        let (state, mut tx) = self.write().await?;
        let object = self.object(&mut tx, object).await?;
        let user = self.find(&state, &mut tx, login).await?;
        let (Some(object), Some((user, _))) = (object, user) else { return Ok(Change::NotFound) };
        let args = [("id", Value::Int(user)), ("object_id", Value::Int(object)), ("mode", Value::Text(mode))];
        let (name, text) = match what {
            Right::Grant => (
                "grant",
                "INSERT INTO gatepost_right (object_id, user_id, mode) VALUES (:object_id, :id, :mode)",
            ),
            Right::Revoke => (
                "revoke",
                "DELETE FROM gatepost_right WHERE object_id = :object_id AND user_id = :id AND mode = :mode",
            ),
        };
        self.change(tx, name, text, &args).await
    }

    /// Runs the last statement of a transaction: what it does is what the whole did.
    async fn change(&self, mut tx: Tx, name: &str, text: &str, args: Args<'_>) -> Result<Change> {
        if self.execute(&mut tx, name, text, args).await? == 0 {
            return Ok(Change::Unchanged);
        }
        tx.commit().await?;
        Ok(Change::Done)
    }

    fn at<T>(&self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.0.at(error))
    }
}

#[derive(Clone, Copy)]
enum Right {
    Grant,
    Revoke,
}

/// The state of an account as its columns keep it, in whole seconds.
#[derive(Clone, PartialEq, Eq)]
struct Columned {
    disabled: bool,
    locked: bool,
    locked_until: Option<i64>,
    expires_at: Option<i64>,
    must_change: bool,
}

impl Columned {
    fn of(state: &AccountState) -> Self {
        let (locked, locked_until) = columned(state.lock);
        Self {
            disabled: state.disabled,
            locked,
            locked_until,
            expires_at: state.expires_at.map(to_unix),
            must_change: state.must_change,
        }
    }

    fn changed(&self, change: &StateChange) -> Self {
        let (locked, locked_until) = change.lock.map_or((self.locked, self.locked_until), columned);
        Self {
            disabled: change.disabled.unwrap_or(self.disabled),
            locked,
            locked_until,
            expires_at: change.expires_at.map_or(self.expires_at, |end| end.map(to_unix)),
            must_change: change.must_change.unwrap_or(self.must_change),
        }
    }
}

/// A lock is rounded up, so that it never ends early; an account's end is rounded down.
fn columned(lock: Lock) -> (bool, Option<i64>) {
    match lock {
        Lock::Open => (false, None),
        Lock::Locked => (true, None),
        Lock::Until(time) => (false, Some(round_up(time))),
    }
}

fn round_up(time: SystemTime) -> i64 {
    time.checked_add(Duration::from_nanos(999_999_999)).map_or(i64::MAX, to_unix)
}

fn entry(account: &Account) -> UserEntry {
    let principal: &Principal = account.principal();
    UserEntry {
        principal: principal.clone(),
        state: account.state().clone(),
        password: account.hash().map(|hash| hash.scheme().map(str::to_owned)),
    }
}

fn check_hash(hash: &StoredHash) -> Result<()> {
    let fault = if hash.as_str().is_empty() {
        "the hash is empty"
    } else if hash.as_str().len() > MAX_HASH_BYTES {
        "the hash is longer than 4,096 bytes"
    } else if hash.as_str().contains('\0') {
        "the hash has a NUL"
    } else {
        return hash.scheme().map_or(Ok(()), |scheme| check_name("scheme", scheme));
    };
    Err(Error::new(ErrorKind::Invalid, fault))
}

/// Does a write once more if somebody else changed the same at the same time.
macro_rules! twice {
    ($self:ident, $write:expr) => {{
        let mut answer = $write.await;
        if answer.as_ref().is_err_and(is_conflict) {
            answer = $write.await;
        }
        $self.at(answer)
    }};
}

#[async_trait]
impl Directory for ManagedDirectory {
    fn source(&self) -> &SourceInfo {
        &self.0.source
    }

    async fn add_user(&self, _ctx: &Ctx, user: &NewUser) -> Result<Change> {
        twice!(self, self.try_add_user(user))
    }

    async fn users(
        &self,
        _ctx: &Ctx,
        realm: &RealmId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<UserEntry>> {
        self.at(self.try_users(realm, after, limit).await)
    }

    async fn user(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<UserEntry>> {
        self.at(self.try_user(login).await)
    }

    async fn set_hash(&self, _ctx: &Ctx, login: &Login, hash: &StoredHash) -> Result<Change> {
        twice!(self, self.try_set_hash(login, hash))
    }

    async fn set_state(&self, _ctx: &Ctx, login: &Login, change: &StateChange) -> Result<Change> {
        twice!(self, self.try_set_state(login, change))
    }

    async fn delete_user(&self, _ctx: &Ctx, login: &Login) -> Result<Change> {
        twice!(self, self.try_delete_user(login))
    }

    async fn join(&self, _ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        twice!(self, self.try_join(login, group))
    }

    async fn leave(&self, _ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        twice!(self, self.try_leave(login, group))
    }

    async fn groups(&self, _ctx: &Ctx) -> Result<Vec<String>> {
        self.at(self.names("groups", "SELECT name FROM gatepost_group ORDER BY name").await)
    }

    async fn domains(&self, _ctx: &Ctx) -> Result<Vec<String>> {
        self.at(self.names("domains", "SELECT name FROM gatepost_domain ORDER BY name").await)
    }

    async fn add_object(&self, _ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        twice!(self, self.try_add_object(object))
    }

    async fn delete_object(&self, _ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        twice!(self, self.try_delete_object(object))
    }

    async fn grant(&self, _ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        twice!(self, self.try_right(login, object, mode, Right::Grant))
    }

    async fn revoke(&self, _ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        twice!(self, self.try_right(login, object, mode, Right::Revoke))
    }
}
