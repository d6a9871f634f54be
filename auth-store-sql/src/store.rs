//! The store: the questions, asked of whatever schema there is.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Capabilities, Clock, Ctx, Directory, Error, ErrorKind, GroupOracle,
    GroupSet, Id, Login, Lookup, Member, ObjectPerms, ObjectRef, Principal, Result, SourceInfo, StoredHash,
};

use crate::account::corrupt;
use crate::config::SqlConfig;
use crate::db::{Conn, Db, Tables, Tx, check_limits};
use crate::directory::ManagedDirectory;
use crate::managed::Claim;
use crate::schema::{BoundId, ObjectQueries, Objects, PARTS, Schema};
use crate::statement::{Args, Statement, Value};
use crate::value::to_unix;

/// A store that keeps people, groups and rights in an SQL database: in your tables or in its own.
///
/// It implements [`AccountSource`], [`GroupOracle`] and [`ObjectPerms`]; with its own tables also
/// [`Directory`], see [`directory`](Self::directory). A question that no query was given for is
/// [`Unsupported`](ErrorKind::Unsupported).
///
/// Dropping a question is allowed at any time. The database may go on with it; its connection is free for
/// others when it is done. A write that is dropped is undone as a whole, unless it was being committed.
///
/// Waiting for a connection and for locks is bounded by the settings. How long one query may run is not:
/// put the store into a wrapper that limits the time of a question.
pub struct SqlStore {
    pub(crate) source: SourceInfo,
    pub(crate) db: Db,
    pub(crate) schema: Schema,
    tables: Tables,
    clock: Arc<dyn Clock>,
}

impl SqlStore {
    /// Connects to the database and prepares every query.
    ///
    /// `info` says how the source is called; what it can do is added here.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if settings, queries and database do not fit, naming the
    /// query; otherwise any kind.
    pub async fn connect(info: SourceInfo, config: SqlConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let name = Arc::clone(info.name());
        Self::open(info, &config, clock).await.map_err(|error| error.at(name))
    }

    async fn open(info: SourceInfo, config: &SqlConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        check_limits(config)?;
        let (tables, claim) = match (config.managed, config.has_queries()) {
            (Some(true), false) => (Tables::Managed, Claim::Any),
            (None, false) => (Tables::Managed, Claim::IfEmpty),
            (None | Some(false), true) => (Tables::Yours, Claim::Any),
            (Some(true), true) => {
                return Err(misconfigured("`managed = true` and queries of your own exclude each other"));
            }
            (Some(false), false) => {
                return Err(misconfigured("`managed = false` needs queries: there is nothing to ask"));
            }
        };
        let db = Db::open(config, tables)?;
        if tables == Tables::Managed {
            db.migrate(claim).await?;
        }
        let mut conn = db.read().await?;
        let schema = match tables {
            Tables::Managed => Schema::managed(db.dialect(), &mut conn).await?,
            Tables::Yours => Schema::yours(db.dialect(), &mut conn, &config.query, &config.object).await?,
        };
        drop(conn);
        let source = info.with_capabilities(Capabilities {
            tells_unknown: schema.account.is_some(),
            lists_groups: schema.groups.is_some(),
            replaces_hash: schema.replace_hash.is_some(),
        });
        Ok(Self { source, db, schema, tables, clock })
    }

    /// Returns the writes of users, groups and rights; nothing if the tables are yours.
    #[must_use]
    pub fn directory(self: &Arc<Self>) -> Option<Arc<dyn Directory>> {
        match self.tables {
            Tables::Managed => Some(Arc::new(ManagedDirectory::new(Arc::clone(self)))),
            Tables::Yours => None,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        to_unix(self.clock.wall())
    }

    /// Names this source in an error.
    pub(crate) fn at(&self, error: Error) -> Error {
        error.at(Arc::clone(self.source.name()))
    }

    async fn account_by(&self, conn: &mut Conn, login: &Login) -> Result<Lookup<Account>> {
        let Some((statement, columns)) = &self.schema.account else {
            return Err(unsupported("no query `account`"));
        };
        let args: Args<'_> = &[("login", Value::Text(login.as_str())), ("now", Value::Int(self.now()))];
        let mut answer = Lookup::NotFound;
        conn.each(statement, args, |row| {
            if let Lookup::Found(account) = columns.account(&self.source, login, statement, row)? {
                if let Lookup::Found(_) = answer {
                    return Err(statement.error(ErrorKind::Ambiguous, "two rows have this login"));
                }
                answer = Lookup::Found(account);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(answer)
    }

    /// Returns the person as this source knows them, since an id means something only to the source that
    /// issued it.
    async fn own(&self, conn: &mut Conn, who: &Principal) -> Result<Option<Principal>> {
        if who.source() == self.source.name() {
            return Ok(Some(who.clone()));
        }
        let Some(statement) = &self.schema.link else { return Ok(None) };
        let id = PersonId::new(who.id());
        let args: Args<'_> = &[
            ("login", Value::Text(who.login().as_str())),
            ("id", id.value()),
            ("source", Value::Text(who.source())),
            ("now", Value::Int(self.now())),
        ];
        let mut linked: Option<Login> = None;
        conn.each(statement, args, |mut row| {
            let text = row.take(0).name().map_err(|found| corrupt(statement, "login", found))?;
            let login = Login::parse(who.realm(), &text)
                .map_err(|_| statement.error(ErrorKind::Corrupt, "this is not a possible login"))?;
            if linked.as_ref().is_some_and(|linked| *linked != login) {
                return Err(statement.error(ErrorKind::Ambiguous, "one person is linked to two logins"));
            }
            linked = Some(login);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        let Some(login) = linked else { return Ok(None) };
        Ok(self.account_by(conn, &login).await?.found().map(|account| account.principal().clone()))
    }

    pub(crate) async fn resolve_own(&self, who: &Principal) -> Result<Option<Principal>> {
        let mut conn = self.db.read().await?;
        self.own(&mut conn, who).await
    }

    async fn groups(&self, who: &Principal) -> Result<Lookup<GroupSet>> {
        let Some(statement) = &self.schema.groups else {
            return Err(unsupported("no query `groups`"));
        };
        let mut conn = self.db.read().await?;
        let Some(who) = self.own(&mut conn, who).await? else { return Ok(Lookup::NotFound) };
        let id = PersonId::new(who.id());
        let mut names: Vec<Arc<str>> = Vec::new();
        conn.each(statement, &person(&who, &id, self.now()), |mut row| {
            let name = row.take(0).name().map_err(|found| corrupt(statement, "name", found))?;
            names.push(name.into());
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        // Nobody's groups and the groups of nobody look alike in SQL.
        if names.is_empty() && self.schema.account.is_some() && !self.knows(&mut conn, &who).await? {
            return Ok(Lookup::NotFound);
        }
        Ok(Lookup::Found(names.into_iter().collect()))
    }

    async fn knows(&self, conn: &mut Conn, who: &Principal) -> Result<bool> {
        Ok(match self.account_by(conn, who.login()).await? {
            Lookup::Found(account) => account.principal().id() == who.id(),
            Lookup::NotFound => false,
        })
    }

    async fn member(&self, who: &Principal, group: &str) -> Result<Member> {
        let Some(query) = &self.schema.is_member else {
            return Ok(match self.groups(who).await? {
                Lookup::Found(groups) if groups.contains(group) => Member::Yes,
                Lookup::Found(_) | Lookup::NotFound => Member::No,
            });
        };
        let mut conn = self.db.read().await?;
        let Some(who) = self.own(&mut conn, who).await? else { return Ok(Member::No) };
        let id = PersonId::new(who.id());
        let [login, id, now] = person(&who, &id, self.now());
        let args: Args<'_> = &[login, id, now, ("group", Value::Text(group))];
        let mut answer = Member::No;
        conn.each(&query.statement, args, |mut row| {
            let yes = match query.name {
                Some(at) => row.take(at).text().map(|name| name.as_deref() == Some(group)),
                None => row.take(0).yes(),
            };
            if yes.map_err(|found| corrupt(&query.statement, "name", found))? {
                answer = Member::Yes;
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(answer)
    }

    async fn rights(
        &self,
        conn: &mut Conn,
        who: Option<&Principal>,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let queries = self.queries(conn, object.domain()).await?;
        let statement = match (mode, &queries.any) {
            (None, Some(any)) => any,
            (None, None) if queries.access.uses("mode") => {
                let missing = format!("no query `any` for the domain {}", object.domain());
                return Err(Error::new(ErrorKind::Unsupported, missing));
            }
            (None, None) | (Some(_), _) => &queries.access,
        };
        let Some(id) = queries.bind(object)? else { return Ok(Access::NotFound) };
        let mut args = vec![("domain", Value::Text(object.domain())), ("now", Value::Int(self.now()))];
        args.extend(id.args());
        if !yes(conn, &queries.exists, &args).await? {
            return Ok(Access::NotFound);
        }
        let Some(who) = who else { return Ok(Access::Deny) };
        let person_id = PersonId::new(who.id());
        args.extend([
            ("login", Value::Text(who.shown())),
            ("id", person_id.value()),
            ("mode", Value::from(mode)),
        ]);
        Ok(if yes(conn, statement, &args).await? { Access::Allow } else { Access::Deny })
    }

    async fn queries(&self, conn: &mut Conn, domain: &str) -> Result<&ObjectQueries> {
        let queries = match &self.schema.objects {
            Objects::Declared(domains) => domains.get(domain),
            Objects::Table { domain: statement, queries } => {
                yes(conn, statement, &[("domain", Value::Text(domain))]).await?.then_some(queries.as_ref())
            }
        };
        queries.ok_or_else(|| undeclared(domain))
    }

    async fn replace(&self, who: &Principal, old: &StoredHash, new: &StoredHash) -> Result<bool> {
        let Some(statement) = &self.schema.replace_hash else {
            return Err(unsupported("no query `replace_hash`"));
        };
        if who.source() != self.source.name() {
            return Err(Error::new(ErrorKind::Invalid, "this person is another source's"));
        }
        let id = PersonId::new(who.id());
        let [login, id, now] = person(who, &id, self.now());
        let args: Args<'_> = &[
            login,
            id,
            now,
            ("old", Value::Text(old.as_str())),
            ("new", Value::Text(new.as_str())),
            ("scheme", Value::from(new.scheme())),
        ];
        let mut tx: Tx = self.db.write().await?;
        match tx.execute(statement, args).await? {
            0 => Ok(false),
            1 => tx.commit().await.map(|()| true),
            // Dropping the transaction undoes it.
            _ => Err(statement.error(ErrorKind::Ambiguous, "more than one row has this id and hash")),
        }
    }
}

/// A person's id as it is bound: with its own type.
enum PersonId<'a> {
    Int(i64),
    Text(&'a str),
    Spelled(String),
}

impl<'a> PersonId<'a> {
    fn new(id: &'a Id) -> Self {
        match id {
            Id::Int(number) => Self::Int(*number),
            Id::Text(text) => Self::Text(text),
            other => Self::Spelled(other.to_string()),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(text),
            Self::Spelled(text) => Value::Text(text),
        }
    }
}

fn person<'a>(who: &'a Principal, id: &'a PersonId<'_>, now: i64) -> [(&'static str, Value<'a>); 3] {
    // As this store spells it, so that it fits other tables, whatever they are compared by.
    [("login", Value::Text(who.shown())), ("id", id.value()), ("now", Value::Int(now))]
}

impl BoundId {
    /// Returns the parts with their parameters' names; the first is `:object` too.
    fn args(&self) -> Vec<(&'static str, Value<'_>)> {
        let parts: Vec<Value<'_>> = match self {
            Self::Int(numbers) => numbers.iter().map(|number| Value::Int(*number)).collect(),
            Self::Text(texts) => texts.iter().map(|text| Value::Text(text)).collect(),
        };
        let whole = parts.first().map(|first| ("object", *first));
        whole.into_iter().chain(PARTS.into_iter().zip(parts)).collect()
    }
}

async fn yes(conn: &mut Conn, statement: &Statement, args: Args<'_>) -> Result<bool> {
    let mut answer = false;
    conn.each(statement, args, |mut row| {
        answer = row.take(0).yes().map_err(|found| corrupt(statement, "1", found))?;
        Ok(if answer { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    Ok(answer)
}

pub(crate) fn undeclared(domain: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the domain {domain} is not declared"))
}

fn misconfigured(message: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

fn unsupported(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

#[async_trait]
impl AccountSource for SqlStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let answer = async {
            if self.schema.account.is_none() {
                return Err(unsupported("no query `account`"));
            }
            let mut conn = self.db.read().await?;
            self.account_by(&mut conn, login).await
        };
        answer.await.map_err(|error| self.at(error))
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.replace(who, old, new).await.map_err(|error| self.at(error))
    }
}

#[async_trait]
impl GroupOracle for SqlStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.groups(who).await.map_err(|error| self.at(error))
    }

    async fn is_member(&self, _ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        self.member(who, group).await.map_err(|error| self.at(error))
    }
}

#[async_trait]
impl ObjectPerms for SqlStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let one = self.access_many(ctx, who, std::slice::from_ref(object), mode).await.pop();
        one.unwrap_or_else(|| Err(self.at(Error::new(ErrorKind::Internal, "a question without an answer"))))
    }

    async fn access_many(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        // One connection for all, so that many objects do not wait for each other's.
        let ready = async {
            let mut conn = self.db.read().await?;
            let own = self.own(&mut conn, who).await?;
            Ok((conn, own))
        };
        let (mut conn, own) = match ready.await {
            Ok(ready) => ready,
            Err(error) => return vec![Err(self.at(error)); objects.len()],
        };
        let mut answers = Vec::with_capacity(objects.len());
        for object in objects {
            let answer = self.rights(&mut conn, own.as_ref(), object, mode).await;
            answers.push(answer.map_err(|error| self.at(error)));
        }
        answers
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("source", self.source.name())
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}
