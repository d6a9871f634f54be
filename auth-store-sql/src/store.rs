//! The store: the questions, asked of whatever schema there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Capabilities, ChangeFeed, Clock, Ctx, Directory, Error, ErrorKind,
    GroupOracle, GroupSet, Id, Login, Lookup, Member, ObjectPerms, ObjectRef, Principal, Result, SourceInfo,
    StoredHash,
};

use crate::account::corrupt;
use crate::config::SqlConfig;
use crate::db::{Conn, Tables, Tx, check_limits};
use crate::directory::ManagedDirectory;
use crate::error::is_conflict;
use crate::managed::Claim;
use crate::notify::{PostgresFeed, Push};
use crate::scan::Dialect;
use crate::schema::{BoundId, Exists, Listing, MOST_LISTED, Many, OBJECTS, ObjectQueries, Objects, PARTS};
use crate::state::{Opened, State};
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
/// If the database file is replaced, the next question opens it anew and checks every query on it again. A server
/// that was away is asked again by the next question.
///
/// Waiting for a connection and for locks is bounded by the settings, and how long a server may work on a query. How
/// long SQLite may is not: put the store into a wrapper that limits the time of a question.
pub struct SqlStore {
    pub(crate) source: SourceInfo,
    pub(crate) opened: Opened,
    pub(crate) dialect: Dialect,
    tables: Tables,
    clock: Arc<dyn Clock>,
    push: Option<Arc<Push>>,
    feed: Option<Arc<dyn ChangeFeed>>,
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
        Self::open(info, config, clock).await.map_err(|error| error.at(name))
    }

    async fn open(info: SourceInfo, config: SqlConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        check_limits(&config)?;
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
        let push = Push::of(&config, tables == Tables::Managed)?.map(Arc::new);
        let told = config.clone();
        let opened = Opened::new(config, tables, claim, Arc::clone(&clock)).await?;
        let feed = followed(push.as_deref(), &told).await?;
        let State { db, schema, .. } = &*opened.peek();
        let dialect = db.dialect();
        let source = info.with_capabilities(Capabilities {
            tells_unknown: schema.account.is_some(),
            lists_groups: schema.groups.is_some(),
            replaces_hash: schema.replace_hash.is_some(),
        });
        Ok(Self { source, opened, dialect, tables, clock, push, feed })
    }

    /// Returns the triggers by which the database can tell of changes; nothing for one that can't.
    #[must_use]
    pub const fn push(&self) -> Option<&Arc<Push>> {
        self.push.as_ref()
    }

    /// Returns what the database tells of changes; nothing if its triggers are not installed.
    #[must_use]
    pub fn feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.feed.clone()
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

    /// Reports whether this source has issued the person's id. Ids of others mean nothing here; whom they
    /// stand for, only [`resolve`](auth_core::Resolver::resolve) says.
    pub(crate) fn issued(&self, who: &Principal) -> bool {
        who.source() == self.source.name()
    }

    /// Reports whether the database can have such a text at all: PostgreSQL takes a NUL for a fault of whoever asks.
    fn may_hold(&self, text: &str) -> bool {
        self.dialect == Dialect::Sqlite || !text.contains('\0')
    }

    /// Reports whether the person can be one of those in the database.
    fn may_know(&self, state: &State, who: &Principal) -> bool {
        self.issued(who) && state.schema.may_be(who.id())
    }

    pub(crate) async fn account_by(
        &self,
        state: &State,
        conn: &mut Conn,
        login: &Login,
    ) -> Result<Lookup<Account>> {
        let Some((statement, columns)) = &state.schema.account else {
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

    async fn groups(&self, who: &Principal) -> Result<Lookup<GroupSet>> {
        let state = self.opened.current().await?;
        let Some(statement) = &state.schema.groups else {
            return Err(unsupported("no query `groups`"));
        };
        if !self.may_know(&state, who) {
            return Ok(Lookup::NotFound);
        }
        let mut conn = state.db.read().await?;
        let id = PersonId::new(who.id());
        let mut names: Vec<Arc<str>> = Vec::new();
        conn.each(statement, &person(who, &id, self.now()), |mut row| {
            let name = row.take(0).name().map_err(|found| corrupt(statement, "name", found))?;
            names.push(name.into());
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        // Nobody's groups and the groups of nobody look alike in SQL.
        if names.is_empty() && state.schema.account.is_some() && !self.knows(&state, &mut conn, who).await? {
            return Ok(Lookup::NotFound);
        }
        Ok(Lookup::Found(names.into_iter().collect()))
    }

    async fn knows(&self, state: &State, conn: &mut Conn, who: &Principal) -> Result<bool> {
        Ok(match self.account_by(state, conn, who.login()).await? {
            Lookup::Found(account) => account.principal().id() == who.id(),
            Lookup::NotFound => false,
        })
    }

    async fn member(&self, who: &Principal, group: &str) -> Result<Member> {
        let state = self.opened.current().await?;
        let Some(query) = &state.schema.is_member else {
            return Ok(match self.groups(who).await? {
                Lookup::Found(groups) if groups.contains(group) => Member::Yes,
                Lookup::Found(_) | Lookup::NotFound => Member::No,
            });
        };
        if !self.may_know(&state, who) || !self.may_hold(group) {
            return Ok(Member::No);
        }
        let mut conn = state.db.read().await?;
        let id = PersonId::new(who.id());
        let [login, id, now] = person(who, &id, self.now());
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
        state: &State,
        conn: &mut Conn,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let queries = queries(state, conn, object.domain()).await?;
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
        if !is_there(conn, &queries.exists, &id, &args).await? {
            return Ok(Access::NotFound);
        }
        if !self.may_know(state, who) || !mode.is_none_or(|mode| self.may_hold(mode)) {
            return Ok(Access::Deny);
        }
        let person_id = PersonId::new(who.id());
        args.extend([
            ("login", Value::Text(who.shown())),
            ("id", person_id.value()),
            ("mode", Value::from(mode)),
        ]);
        Ok(if yes(conn, statement, &args).await? { Access::Allow } else { Access::Deny })
    }

    async fn replace(&self, who: &Principal, old: &StoredHash, new: &StoredHash) -> Result<bool> {
        let state = self.opened.current().await?;
        let Some(statement) = &state.schema.replace_hash else {
            return Err(unsupported("no query `replace_hash`"));
        };
        if !self.issued(who) {
            return Err(Error::new(ErrorKind::Invalid, "this person is another source's"));
        }
        if !state.schema.may_be(who.id()) {
            return Ok(false);
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
        let mut tx: Tx = state.db.write().await?;
        match tx.execute(statement, args).await? {
            0 => Ok(false),
            1 => tx.commit().await.map(|()| true),
            // Dropping the transaction undoes it.
            _ => Err(statement.error(ErrorKind::Ambiguous, "more than one row has this id and hash")),
        }
    }
}

/// A person's id as it is bound: with its own type.
pub(crate) enum PersonId<'a> {
    Int(i64),
    Text(&'a str),
    Uuid([u8; 16]),
    Spelled(String),
}

impl<'a> PersonId<'a> {
    pub(crate) fn new(id: &'a Id) -> Self {
        match id {
            Id::Int(number) => Self::Int(*number),
            Id::Text(text) => Self::Text(text),
            Id::Uuid(bytes) => Self::Uuid(*bytes),
            other => Self::Spelled(other.to_string()),
        }
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Int(number) => Value::Key(*number),
            Self::Text(text) => Value::Text(text),
            Self::Uuid(bytes) => Value::Uuid(*bytes),
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
        let parts: Vec<Value<'_>> = self.values().collect();
        let whole = parts.first().map(|first| ("object", *first));
        whole.into_iter().chain(PARTS.into_iter().zip(parts)).collect()
    }
}

async fn queries<'a>(state: &'a State, conn: &mut Conn, domain: &str) -> Result<&'a ObjectQueries> {
    let queries = match &state.schema.objects {
        Objects::Declared(domains) => domains.get(domain),
        Objects::Table { domain: statement, queries } => {
            yes(conn, statement, &[("domain", Value::Text(domain))]).await?.then_some(queries.as_ref())
        }
    };
    queries.ok_or_else(|| undeclared(domain))
}

async fn is_there(conn: &mut Conn, exists: &Exists, id: &BoundId, args: Args<'_>) -> Result<bool> {
    let statement = &exists.statement;
    let mut there = false;
    conn.each(statement, args, |mut row| {
        // An id says which object is there and not whether: an id of 0 is one, too.
        there = exists.ids.iter().any(|(column, _)| *column == 0)
            || row.take(0).yes().map_err(|found| corrupt(statement, "1", found))?;
        for (column, part) in &exists.ids {
            let found = row.take(*column).text().map_err(|found| corrupt(statement, "id", found))?;
            there = there && found.is_some_and(|found| id.is(*part, &found));
        }
        Ok(if there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    Ok(there)
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

/// Follows the triggers that are installed. That they are not is told where configuration asks for them.
async fn followed(push: Option<&Push>, config: &SqlConfig) -> Result<Option<Arc<dyn ChangeFeed>>> {
    let Some(push) = push else { return Ok(None) };
    match push.missing().await? {
        None => Ok(Some(Arc::new(PostgresFeed::new(config)?))),
        Some(table) => {
            if config.push.is_some() {
                tracing::warn!(
                    table,
                    "changes are not told of: a table has not the triggers that configuration asks for; run `gatepost sql \
                     install-triggers`"
                );
            }
            Ok(None)
        }
    }
}

#[async_trait]
impl AccountSource for SqlStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let answer = async {
            let state = self.opened.current().await?;
            if state.schema.account.is_none() {
                return Err(unsupported("no query `account`"));
            }
            let mut conn = state.db.read().await?;
            self.account_by(&state, &mut conn, login).await
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
        let mut replaced = self.replace(who, old, new).await;
        if replaced.as_ref().is_err_and(is_conflict) {
            replaced = self.replace(who, old, new).await;
        }
        replaced.map_err(|error| self.at(error))
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
            let state = self.opened.current().await?;
            let conn = state.db.read().await?;
            Ok((state, conn))
        };
        let (state, mut conn) = match ready.await {
            Ok(ready) => ready,
            Err(error) => return vec![Err(self.at(error)); objects.len()],
        };
        let mut answers: Vec<Option<Result<Access>>> = vec![None; objects.len()];
        for (queries, places) in by_domain(&state, objects) {
            let many = queries.many.as_ref().filter(|_| places.len() > 1);
            for places in places.chunks(MOST_LISTED) {
                let asked = Asked { store: self, state: &state, queries, who, objects, mode };
                if let Some(many) = many {
                    asked.many(many, &mut conn, places, &mut answers).await;
                }
            }
        }
        for (object, answer) in objects.iter().zip(&mut answers) {
            if answer.is_none() {
                *answer = Some(self.rights(&state, &mut conn, who, object, mode).await);
            }
        }
        let unanswered = || Error::new(ErrorKind::Internal, "a question without an answer");
        let answer = |answer: Option<Result<Access>>| answer.unwrap_or_else(|| Err(unanswered()));
        answers.into_iter().map(|given| answer(given).map_err(|error| self.at(error))).collect()
    }
}

/// Sorts the places of objects by their domains' queries.
fn by_domain<'a>(state: &'a State, objects: &[ObjectRef]) -> Vec<(&'a ObjectQueries, Vec<usize>)> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, object) in objects.iter().enumerate() {
        places.entry(object.domain()).or_default().push(at);
    }
    let queries = |domain: &str| match &state.schema.objects {
        Objects::Declared(domains) => domains.get(domain),
        Objects::Table { queries, .. } => Some(queries.as_ref()),
    };
    places.into_iter().filter_map(|(domain, places)| Some((queries(domain)?, places))).collect()
}

/// A question about many objects of one domain.
struct Asked<'a> {
    store: &'a SqlStore,
    state: &'a State,
    queries: &'a ObjectQueries,
    who: &'a Principal,
    objects: &'a [ObjectRef],
    mode: Option<&'a str>,
}

impl Asked<'_> {
    /// Answers for the objects at these places, all of one domain; what it leaves open is asked one by one.
    async fn many(
        &self,
        many: &Many,
        conn: &mut Conn,
        places: &[usize],
        answers: &mut [Option<Result<Access>>],
    ) {
        let access = match (self.mode, &many.any) {
            (None, Some(any)) => any,
            // Whether there is any right at all is another query's answer.
            (None, None) if self.queries.any.is_some() || many.access.uses("mode") => return,
            (None, None) | (Some(_), _) => &many.access,
        };
        let mut asked: BTreeMap<String, (BoundId, Vec<usize>)> = BTreeMap::new();
        let mut domain = None;
        for &place in places {
            let Some(object) = self.objects.get(place) else { continue };
            domain = Some(object.domain());
            match self.queries.bind(object) {
                // One by one it says what is wrong.
                Err(_) => {}
                Ok(None) => set(answers, place, Ok(Access::NotFound)),
                Ok(Some(id)) => {
                    if let Some(name) = id.only() {
                        asked.entry(name).or_insert_with(|| (id, Vec::new())).1.push(place);
                    }
                }
            }
        }
        let Some(domain) = domain else { return };
        let answered = self.ask(many, access, conn, domain, &asked).await;
        for (name, (_, places)) in &asked {
            let answer = match &answered {
                Err(error) => Err(error.clone()),
                Ok((_, allowed)) if allowed.contains(name) => Ok(Access::Allow),
                Ok((there, _)) if there.contains(name) => Ok(Access::Deny),
                Ok(_) => Ok(Access::NotFound),
            };
            places.iter().for_each(|place| set(answers, *place, answer.clone()));
        }
    }

    /// Finds which of these objects are there, and for which of them the person has the right.
    async fn ask(
        &self,
        many: &Many,
        access: &Listing,
        conn: &mut Conn,
        domain: &str,
        asked: &BTreeMap<String, (BoundId, Vec<usize>)>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let mut args = vec![("domain", Value::Text(domain)), ("now", Value::Int(self.store.now()))];
        let ids = asked.values().map(|(id, _)| id);
        let there = listed(conn, &many.exists, &args, ids, asked).await?;
        if there.is_empty() {
            // Nothing is there in a domain that nobody has declared.
            queries(self.state, conn, domain).await?;
        }
        let mode = self.mode.is_none_or(|mode| self.store.may_hold(mode));
        if there.is_empty() || !mode || !self.store.may_know(self.state, self.who) {
            return Ok((there, BTreeSet::new()));
        }
        let person_id = PersonId::new(self.who.id());
        args.extend([
            ("login", Value::Text(self.who.shown())),
            ("id", person_id.value()),
            ("mode", Value::from(self.mode)),
        ]);
        let ids = asked.iter().filter(|(name, _)| there.contains(*name)).map(|(_, (id, _))| id);
        let mut allowed = listed(conn, access, &args, ids, asked).await?;
        allowed.retain(|name| there.contains(name));
        Ok((there, allowed))
    }
}

fn set(answers: &mut [Option<Result<Access>>], place: usize, answer: Result<Access>) {
    if let Some(open) = answers.get_mut(place) {
        *open = Some(answer);
    }
}

/// Asks for which ids of a list something is so. What comes back is compared: it is one that was asked for, or nothing.
async fn listed<'a>(
    conn: &mut Conn,
    listing: &Listing,
    args: Args<'a>,
    ids: impl Iterator<Item = &'a BoundId>,
    asked: &BTreeMap<String, (BoundId, Vec<usize>)>,
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut args = args.to_vec();
    let fixed = args.len();
    args.extend(ids.flat_map(BoundId::values).map(|value| (OBJECTS, value)));
    let Some(last) = args.get(fixed..).and_then(<[_]>::last).copied() else { return Ok(found) };
    let Some((length, statement)) = listing.for_ids(args.len() - fixed) else {
        return Err(Error::new(ErrorKind::Internal, "more objects than one statement takes"));
    };
    args.resize(fixed + length, last);
    conn.each(statement, &args, |mut row| {
        let id = row.take(listing.id).text().map_err(|found| corrupt(statement, "id", found))?;
        found.extend(id.filter(|id| asked.contains_key(id)));
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(found)
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("source", self.source.name())
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}
