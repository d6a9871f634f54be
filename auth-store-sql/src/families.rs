//! Sessions and revocations, in tables of their own.

use std::fmt;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use auth_core::{
    Ctx, Device, End, EndReason, Ends, Error, ErrorKind, Families, Family, FamilyId, Issued, Lookup,
    MAX_LOGIN_BYTES, Millis, Renewal, Result, Retry, Revocations, Revoked, TokenMark,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::account::corrupt;
use crate::config::SqlConfig;
use crate::db::{Db, Place, check_limits, unless_there};
use crate::error::is_conflict;
use crate::managed::{Claim, Plan};
use crate::scan::Dialect;
use crate::statement::{Args, Kind, Known, Statement, Value};
use crate::value::{Read, Row, Unreadable};

/// How many rows are deleted at once: few enough that nobody waits for them.
const BATCH: u32 = 500;

/// The most sessions that are listed.
const MAX_LISTED: u32 = 10_000;

/// How often an end that has lost against another transaction is done anew.
const TRIES: u32 = 5;

/// Sessions and revocations in an SQL database: in SQLite, PostgreSQL, MariaDB or MySQL, in tables of their own.
///
/// The tables may stand in the managed database, beside an application's, or alone; they are made when it is opened.
///
/// Each call is one statement, or one transaction, and the database decides. A statement is never sent a second time
/// unless the database has said that it has undone the first. Where a connection is lost before the answer, that is an
/// error: nobody knows what was done.
///
/// What is reported as done has reached the disk, if the database's own settings say so; SQLite's are set
/// (`synchronous = FULL`).
///
/// Waiting for a connection and for locks is bounded by the settings, and how long a server may work on a statement.
///
/// A database that can't be reached is opened by the first call that reaches it; those before fail, and nobody need try
/// again but who asks.
///
/// If a SQLite file is deleted or replaced, every call is [`Unavailable`](ErrorKind::Unavailable) until the store is
/// opened anew: what was revoked may be live again in an older copy, and that is for whoever put it there to decide.
pub struct SqlFamilies {
    db: Db,
    ask: Statements,
    /// Whether the tables are there, and up to date.
    opened: AtomicBool,
    /// Held by who makes them.
    opening: Mutex<Option<Failure>>,
}

/// Why the database could not be opened.
struct Failure {
    at: Instant,
    error: Error,
}

impl fmt::Debug for SqlFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlFamilies").field("dialect", &self.db.dialect()).finish_non_exhaustive()
    }
}

/// All that is ever asked.
struct Statements {
    begin: Statement,
    family: Statement,
    renew: Statement,
    retry: Statement,
    confirm: Statement,
    end_family: Statement,
    end_person: Statement,
    end_realm: Statement,
    sessions: Statement,
    revoke: Statement,
    is_revoked: Statement,
    clean_families: Statement,
    clean_revocations: Statement,
}

const PARAMETERS: Known<'_> = &[
    ("realm", Kind::Text),
    ("id", Kind::Text),
    ("login", Kind::Text),
    ("person", Kind::Text),
    ("client", Kind::Text),
    ("scope", Kind::Text),
    ("device", Kind::Text),
    ("address", Kind::Text),
    ("agent", Kind::Text),
    ("secret", Kind::Text),
    ("generation", Kind::Int),
    ("next", Kind::Int),
    ("rotated_at", Kind::Int),
    ("retries", Kind::Int),
    ("confirmed", Kind::Int),
    ("created_at", Kind::Int),
    ("last_used_at", Kind::Int),
    ("idle", Kind::Int),
    ("idle_end", Kind::Int),
    ("absolute_end", Kind::Int),
    ("ended_at", Kind::Int),
    ("end_reason", Kind::Text),
    ("at", Kind::Int),
    ("after", Kind::Int),
    ("before", Kind::Int),
    ("most", Kind::Int),
    ("now", Kind::Int),
    ("kind", Kind::Text),
    ("name", Kind::Text),
    ("keep_until", Kind::Int),
    ("mark", Kind::Text),
    ("family", Kind::Text),
    ("issued", Kind::Int),
];

/// The columns of a family in the order in which [`family`] reads them.
macro_rules! columns {
    () => {
        "realm, id, login, person, client, scope, device, address, agent, secret, generation, rotated_at, retries, \
         confirmed, created_at, last_used_at, idle, idle_end, absolute_end, ended_at, end_reason"
    };
}

const BEGIN: &str = concat!(
    "INSERT INTO gatepost_family (",
    columns!(),
    ") VALUES (:realm, :id, :login, :person, :client, :scope, :device, :address, :agent, :secret, :generation, \
     :rotated_at, :retries, :confirmed, :created_at, :last_used_at, :idle, :idle_end, :absolute_end, :ended_at, \
     :end_reason)"
);

const FAMILY: &str =
    concat!("SELECT ", columns!(), " FROM gatepost_family WHERE realm = :realm AND id = :id");

const SESSIONS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM gatepost_family WHERE realm = :realm AND login = :login AND ended_at IS NULL AND idle_end > :now \
     AND absolute_end > :now ORDER BY created_at DESC, id DESC LIMIT :most"
);

const RENEW: &str = "UPDATE gatepost_family SET generation = :next, rotated_at = :at, last_used_at = :at, \
     idle_end = :idle_end, retries = 0, confirmed = 0 WHERE realm = :realm AND id = :id \
     AND generation = :generation AND ended_at IS NULL AND idle_end > :at AND absolute_end > :at";

const RETRY: &str = "UPDATE gatepost_family SET retries = retries + 1 WHERE realm = :realm AND id = :id \
     AND generation = :next AND confirmed = 0 AND retries < :most AND rotated_at > :after AND rotated_at < :before \
     AND ended_at IS NULL AND idle_end > :at AND absolute_end > :at";

const CONFIRM: &str = "UPDATE gatepost_family SET confirmed = 1 WHERE realm = :realm AND id = :id \
     AND generation = :generation AND confirmed = 0 AND ended_at IS NULL";

macro_rules! end {
    ($what:literal) => {
        concat!(
            "UPDATE gatepost_family SET ended_at = :at, end_reason = :end_reason WHERE realm = :realm AND ",
            $what,
            "ended_at IS NULL"
        )
    };
}

const IS_REVOKED: &str = "SELECT 1 FROM gatepost_revocation WHERE realm = :realm AND kind = 'token' \
     AND name = :mark AND keep_until > :now \
     UNION ALL SELECT 1 FROM gatepost_revocation WHERE realm = :realm AND kind = 'family' \
     AND name = :family AND keep_until > :now \
     UNION ALL SELECT 1 FROM gatepost_revocation WHERE realm = :realm AND kind = 'person' \
     AND name = :login AND keep_until > :now AND revoked_at >= :issued \
     UNION ALL SELECT 1 FROM gatepost_revocation WHERE realm = :realm AND kind = 'realm' \
     AND name = '' AND keep_until > :now AND revoked_at >= :issued";

macro_rules! revoke {
    ($rest:literal) => {
        concat!(
            "INSERT INTO gatepost_revocation (realm, kind, name, revoked_at, keep_until) \
             VALUES (:realm, :kind, :name, :at, :keep_until) ",
            $rest
        )
    };
}

impl Statements {
    fn new(dialect: Dialect) -> Result<Self> {
        let statement = |name: &str, text: &str| Statement::compile(dialect, name, text, PARAMETERS);
        let revoke = match dialect {
            Dialect::Sqlite => revoke!(
                "ON CONFLICT (realm, kind, name) DO UPDATE SET revoked_at = max(revoked_at, excluded.revoked_at), \
                 keep_until = max(keep_until, excluded.keep_until)"
            ),
            Dialect::Postgres => revoke!(
                "ON CONFLICT (realm, kind, name) DO UPDATE SET \
                 revoked_at = greatest(gatepost_revocation.revoked_at, excluded.revoked_at), \
                 keep_until = greatest(gatepost_revocation.keep_until, excluded.keep_until)"
            ),
            Dialect::MySql => revoke!(
                "ON DUPLICATE KEY UPDATE revoked_at = GREATEST(revoked_at, VALUES(revoked_at)), \
                 keep_until = GREATEST(keep_until, VALUES(keep_until))"
            ),
        };
        let clean = |table: &str, key: &str, end: &str| match dialect {
            Dialect::MySql => format!("DELETE FROM {table} WHERE {end} <= :now ORDER BY {end} LIMIT :most"),
            Dialect::Sqlite | Dialect::Postgres => {
                // Two that clean at once take others.
                let skip = if dialect == Dialect::Postgres { " FOR UPDATE SKIP LOCKED" } else { "" };
                format!(
                    "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {end} <= :now \
                     ORDER BY {end} LIMIT :most{skip})"
                )
            }
        };
        Ok(Self {
            begin: statement("begin", &format!("{BEGIN}{}", unless_there(dialect)))?,
            family: statement("family", FAMILY)?,
            renew: statement("renew", RENEW)?,
            retry: statement("retry", RETRY)?,
            confirm: statement("confirm", CONFIRM)?,
            end_family: statement("end", end!("id = :id AND "))?,
            end_person: statement("end", end!("login = :login AND "))?,
            end_realm: statement("end", end!(""))?,
            sessions: statement("sessions", SESSIONS)?,
            revoke: statement("revoke", revoke)?,
            is_revoked: statement("is_revoked", IS_REVOKED)?,
            clean_families: statement("clean", &clean("gatepost_family", "realm, id", "absolute_end"))?,
            clean_revocations: statement(
                "clean",
                &clean("gatepost_revocation", "realm, kind, name", "keep_until"),
            )?,
        })
    }
}

impl SqlFamilies {
    /// Opens the database, and makes the tables or brings them up to date.
    ///
    /// The settings are those of a [`SqlStore`](crate::SqlStore), without queries: where the database is, TLS, and the
    /// limits. All of `pool.max_connections` write.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if settings and database do not fit, or a newer version has migrated
    /// the tables; otherwise any kind.
    pub async fn open(config: &SqlConfig) -> Result<Self> {
        let store = Self::new(config)?;
        store.ready().await?;
        Ok(store)
    }

    /// The same of a database that need not be reached yet: it is opened when it is asked first, or by
    /// [`ready`](Self::ready). The file of a SQLite database is made if need be.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the settings can't be.
    pub fn new(config: &SqlConfig) -> Result<Self> {
        check_limits(config)?;
        if config.has_queries() || config.managed.is_some() || config.push.is_some() {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "sessions have tables of their own: `managed`, queries, objects and `push` say nothing here",
            ));
        }
        let db = Db::open_for_writing(config)?;
        let ask = Statements::new(db.dialect())?;
        Ok(Self { db, ask, opened: AtomicBool::new(false), opening: Mutex::default() })
    }

    /// Opens the database if it is not open yet. Who comes meanwhile waits for the same try, and shares its failure.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn ready(&self) -> Result<()> {
        if self.opened.load(Ordering::Acquire) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut last = self.opening.lock().await;
        if self.opened.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(failure) = last.as_ref().filter(|failure| failure.at > asked) {
            return Err(failure.error.clone());
        }
        if let Err(error) = self.db.migrate(Plan::Sessions, Claim::Any).await {
            *last = Some(Failure { at: Instant::now(), error: error.clone() });
            return Err(error);
        }
        self.db.ready();
        self.opened.store(true, Ordering::Release);
        if last.take().is_some() {
            tracing::info!("the database of sessions is open, which could not be reached before");
        }
        Ok(())
    }

    /// Returns the database, if it is open and still the one that it was.
    async fn db(&self) -> Result<&Db> {
        self.ready().await?;
        match self.db.place()? {
            Place::Same => Ok(&self.db),
            Place::Replaced => Err(Error::new(
                ErrorKind::Unavailable,
                "the database file was replaced: sessions that have ended may live in the new one; start again if that \
                 is meant",
            )),
        }
    }

    /// Runs a statement by itself that changes one row or none.
    async fn change(&self, statement: &Statement, args: Args<'_>) -> Result<bool> {
        match self.db().await?.change(statement, args).await? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(statement.error(ErrorKind::Corrupt, "one session has several rows")),
        }
    }

    async fn families(&self, statement: &Statement, args: Args<'_>) -> Result<Vec<Family>> {
        let mut families = Vec::new();
        let mut conn = self.db().await?.read().await?;
        conn.each(statement, args, |mut row| {
            families.push(family(&mut row).map_err(|(column, found)| corrupt(statement, column, found))?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(families)
    }

    async fn try_end(&self, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        let (statement, revoked) = match what {
            Ends::Family(family) => (&self.ask.end_family, Revoked::Family(*family)),
            Ends::Person(login) => (&self.ask.end_person, Revoked::Person(login)),
            Ends::Realm => (&self.ask.end_realm, Revoked::Realm),
            _ => return Err(unsupported()),
        };
        let entry = Entry::new(&revoked)?;
        let name = entry.name.as_str();
        let mut tx = self.db().await?.write().await?;
        let args: Args<'_> = &[
            ("realm", Value::Text(realm)),
            ("id", Value::Text(name)),
            ("login", Value::Text(name)),
            ("at", time(end.at)),
            ("end_reason", Value::Text(end.reason.as_str())),
        ];
        let ended = tx.execute(statement, args).await?;
        tx.execute(&self.ask.revoke, &entry.args(realm, end.at, end.until)).await?;
        tx.commit().await?;
        if matches!(what, Ends::Family(_)) {
            return Ok(ended);
        }
        // Where each statement sees what was committed when it began, one that was begun meanwhile is not found above, and
        // who began it may have asked before the revocation was there. Now it is: whoever asks from here on is told.
        Ok(ended + self.db().await?.change(statement, args).await?)
    }

    /// Deletes in batches, each by itself, until so many are gone or none is left.
    async fn delete(&self, statement: &Statement, now: Millis, most: u32) -> Result<u64> {
        let mut gone = 0;
        loop {
            let left = u64::from(most).saturating_sub(gone).min(BATCH.into());
            if left == 0 {
                return Ok(gone);
            }
            let args: Args<'_> = &[("now", time(now)), ("most", number(left))];
            let some = self.db().await?.change(statement, args).await?;
            gone += some;
            if some < left {
                return Ok(gone);
            }
        }
    }
}

/// A revocation as it is stored.
struct Entry {
    kind: &'static str,
    name: String,
}

impl Entry {
    fn new(what: &Revoked<'_>) -> Result<Self> {
        let name = match what {
            Revoked::Token(mark) => hex(mark),
            Revoked::Family(id) => id.to_string(),
            Revoked::Person(login) => {
                check("login", login)?;
                (*login).to_owned()
            }
            Revoked::Realm => String::new(),
            _ => return Err(unsupported()),
        };
        Ok(Self { kind: what.as_str(), name })
    }

    fn args<'a>(&'a self, realm: &'a str, at: Millis, until: Millis) -> [(&'static str, Value<'a>); 5] {
        [
            ("realm", Value::Text(realm)),
            ("kind", Value::Text(self.kind)),
            ("name", Value::Text(&self.name)),
            ("at", time(at)),
            ("keep_until", time(until)),
        ]
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "this version of the store does not know what is meant")
}

fn hex(mark: &TokenMark) -> String {
    mark.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a name that no column can hold.
fn check(what: &'static str, name: &str) -> Result<()> {
    if can_be(name) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("no session has such a {what}")))
}

/// Reports whether a realm or a login can be so.
fn can_be(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_LOGIN_BYTES && !name.contains('\0')
}

/// A moment as it is bound. What is later than all that is stored is as late as that.
fn time(at: Millis) -> Value<'static> {
    number(at.min(Family::MAX_TIME))
}

fn number(number: impl Into<u64>) -> Value<'static> {
    Value::Int(i64::try_from(number.into()).unwrap_or(i64::MAX))
}

/// Reads a row of the columns of a family.
fn family(row: &mut Row) -> std::result::Result<Family, (&'static str, Unreadable)> {
    let mut columns = Columns { row, next: 0 };
    let realm = columns.must("realm")?.into();
    let id = columns.parsed("id")?;
    let (login, person) = (columns.must("login")?, columns.must("person")?);
    let client = columns.text("client")?;
    let scope = columns.must("scope")?;
    let device =
        Device { name: columns.text("device")?, address: columns.address()?, agent: columns.text("agent")? };
    let family = Family {
        realm,
        id,
        login,
        person,
        client,
        scope,
        device,
        secret: columns.must("secret")?,
        generation: columns.count("generation")?,
        rotated_at: columns.time("rotated_at")?,
        retries: columns.count("retries")?,
        confirmed: columns.count("confirmed")? != 0,
        created_at: columns.time("created_at")?,
        last_used_at: columns.time("last_used_at")?,
        idle: columns.time("idle")?,
        idle_end: columns.time("idle_end")?,
        absolute_end: columns.time("absolute_end")?,
        ended: None,
    };
    let ended_at = columns.number("ended_at")?;
    let reason = columns.text("end_reason")?;
    let ended = match (ended_at, reason) {
        (None, None) => None,
        (Some(at), Some(reason)) => {
            let reason =
                EndReason::named(&reason).ok_or(("end_reason", Unreadable("no reason that is known")))?;
            Some((at, reason))
        }
        _ => return Err(("end_reason", Unreadable("half of an end"))),
    };
    Ok(Family { ended, ..family })
}

/// The columns of a row, one after the other.
struct Columns<'a> {
    row: &'a mut Row,
    next: usize,
}

type Column<T> = std::result::Result<T, (&'static str, Unreadable)>;

impl Columns<'_> {
    fn read<T>(&mut self, column: &'static str, read: impl FnOnce(&mut Row, usize) -> Read<T>) -> Column<T> {
        let at = self.next;
        self.next += 1;
        read(self.row, at).map_err(|found| (column, found))
    }

    fn text(&mut self, column: &'static str) -> Column<Option<String>> {
        self.read(column, |row, at| row.take(at).text())
    }

    fn must(&mut self, column: &'static str) -> Column<String> {
        self.text(column)?.ok_or((column, Unreadable("NULL")))
    }

    fn parsed(&mut self, column: &'static str) -> Column<FamilyId> {
        self.must(column)?.parse().map_err(|_| (column, Unreadable("no id")))
    }

    fn address(&mut self) -> Column<Option<IpAddr>> {
        let parse = |text: String| text.parse().map_err(|_| ("address", Unreadable("no address")));
        self.text("address")?.map(parse).transpose()
    }

    fn number(&mut self, column: &'static str) -> Column<Option<u64>> {
        let below = Unreadable("a number below 0");
        let number = self.read(column, |row, at| row.take(at).whole())?;
        number.map(|number| u64::try_from(number).map_err(|_| (column, below))).transpose()
    }

    fn time(&mut self, column: &'static str) -> Column<Millis> {
        self.number(column)?.ok_or((column, Unreadable("NULL")))
    }

    fn count(&mut self, column: &'static str) -> Column<u32> {
        u32::try_from(self.time(column)?).map_err(|_| (column, Unreadable("a number out of range")))
    }
}

#[async_trait]
impl Revocations for SqlFamilies {
    async fn revoke(
        &self,
        _ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()> {
        check("realm", realm)?;
        let entry = Entry::new(what)?;
        self.db().await?.change(&self.ask.revoke, &entry.args(realm, at, until)).await.map(drop)
    }

    async fn is_revoked(&self, _ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool> {
        check("realm", realm)?;
        check("login", token.login)?;
        let (mark, family) = (hex(&token.mark), token.family.map(|id| id.to_string()));
        let args: Args<'_> = &[
            ("realm", Value::Text(realm)),
            ("mark", Value::Text(&mark)),
            ("family", Value::Text(family.as_deref().unwrap_or_default())),
            ("login", Value::Text(token.login)),
            // Nobody knows when: before everything.
            ("issued", time(token.at.unwrap_or(0))),
            ("now", time(now)),
        ];
        let mut revoked = false;
        let mut conn = self.db().await?.read().await?;
        conn.each(&self.ask.is_revoked, args, |_| {
            revoked = true;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(revoked)
    }
}

#[async_trait]
impl Families for SqlFamilies {
    async fn begin(&self, _ctx: &Ctx, family: &Family) -> Result<()> {
        family.check()?;
        let (id, address) = (family.id.to_string(), family.device.address.map(|address| address.to_string()));
        let args: Args<'_> = &[
            ("realm", Value::Text(&family.realm)),
            ("id", Value::Text(&id)),
            ("login", Value::Text(&family.login)),
            ("person", Value::Text(&family.person)),
            ("client", Value::from(family.client.as_deref())),
            ("scope", Value::Text(&family.scope)),
            ("device", Value::from(family.device.name.as_deref())),
            ("address", Value::from(address.as_deref())),
            ("agent", Value::from(family.device.agent.as_deref())),
            ("secret", Value::Text(&family.secret)),
            ("generation", number(family.generation)),
            ("rotated_at", time(family.rotated_at)),
            ("retries", number(family.retries)),
            ("confirmed", number(u8::from(family.confirmed))),
            ("created_at", time(family.created_at)),
            ("last_used_at", time(family.last_used_at)),
            ("idle", time(family.idle)),
            ("idle_end", time(family.idle_end)),
            ("absolute_end", time(family.absolute_end)),
            ("ended_at", family.ended.map_or(Value::NoInt, |(at, _)| time(at))),
            ("end_reason", Value::from(family.ended.map(|(_, reason)| reason.as_str()))),
        ];
        match self.db().await?.add(&self.ask.begin, args).await? {
            0 => Err(Error::new(ErrorKind::Invalid, "a session of this id is there already")),
            _ => Ok(()),
        }
    }

    async fn family(&self, _ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>> {
        if !can_be(realm) {
            return Ok(Lookup::NotFound);
        }
        let id = id.to_string();
        let args: Args<'_> = &[("realm", Value::Text(realm)), ("id", Value::Text(&id))];
        Ok(self.families(&self.ask.family, args).await?.pop().map_or(Lookup::NotFound, Lookup::Found))
    }

    async fn renew(&self, _ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool> {
        // After the last generation there is no next one.
        let (Some(next), true) = (renewal.from.checked_add(1), can_be(realm)) else { return Ok(false) };
        let id = id.to_string();
        let args: Args<'_> = &[
            ("realm", Value::Text(realm)),
            ("id", Value::Text(&id)),
            ("generation", number(renewal.from)),
            ("next", number(next)),
            ("at", time(renewal.at)),
            ("idle_end", time(renewal.idle_end)),
        ];
        self.change(&self.ask.renew, args).await
    }

    async fn retry(&self, _ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool> {
        let (Some(next), true) = (retry.from.checked_add(1), can_be(realm)) else { return Ok(false) };
        let (id, at) = (id.to_string(), retry.at.min(Family::MAX_TIME));
        let before = Value::Int(i64::try_from(at.saturating_add(retry.grace)).unwrap_or(i64::MAX));
        let after = match at.checked_sub(retry.grace) {
            Some(after) => number(after),
            // Before all that is stored.
            None => Value::Int(-1),
        };
        let args: Args<'_> = &[
            ("realm", Value::Text(realm)),
            ("id", Value::Text(&id)),
            ("next", number(next)),
            ("most", number(retry.most)),
            ("at", number(at)),
            ("after", after),
            ("before", before),
        ];
        self.change(&self.ask.retry, args).await
    }

    async fn confirm(&self, _ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()> {
        if !can_be(realm) {
            return Ok(());
        }
        let id = id.to_string();
        let args: Args<'_> =
            &[("realm", Value::Text(realm)), ("id", Value::Text(&id)), ("generation", number(generation))];
        self.change(&self.ask.confirm, args).await.map(drop)
    }

    async fn end(&self, _ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        check("realm", realm)?;
        for _ in 1..TRIES {
            match self.try_end(realm, what, end).await {
                // The database has undone it all.
                Err(error) if is_conflict(&error) => {}
                ended => return ended,
            }
        }
        self.try_end(realm, what, end).await
    }

    async fn sessions(
        &self,
        _ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>> {
        if !can_be(realm) || !can_be(login) || most == 0 {
            return Ok(Vec::new());
        }
        let args: Args<'_> = &[
            ("realm", Value::Text(realm)),
            ("login", Value::Text(login)),
            ("now", time(now)),
            ("most", number(most.min(MAX_LISTED))),
        ];
        self.families(&self.ask.sessions, args).await
    }

    async fn clean(&self, _ctx: &Ctx, now: Millis, most: u32) -> Result<u64> {
        let families = self.delete(&self.ask.clean_families, now, most).await?;
        Ok(families + self.delete(&self.ask.clean_revocations, now, most).await?)
    }
}
