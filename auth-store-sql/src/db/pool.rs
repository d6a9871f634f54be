//! Connections to a server, and how they are asked.
//!
//! sqlx's own pool hides why there is no connection behind the end of its patience, asks each connection whether it
//! lives whenever it is given back, and leaves a question that nobody waits for any more in possession of its slot for
//! as long as the server likes. This one says why, notes which connections a loss makes doubtful, and bounds everything.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::count_row;
use crate::SqlConfig;
use crate::error::{Trouble, classify, classify_connect, trouble};
use crate::statement::{Described, Kind, Statement, Value};
use crate::value::Row;

/// How much longer than the server may work on a statement its answer may take.
const GRACE: Duration = Duration::from_millis(500);

/// How long a connection may lie unused: what stands in between may have forgotten it without a word.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection may lie unused and still be taken for one that lives, where much depends on it.
const SURE: Duration = Duration::from_secs(1);

/// How long a connection lives: the name may stand for another server by now.
const LIFE: Duration = Duration::from_secs(1_800);

/// A driver for servers.
pub(crate) trait Driver: fmt::Debug + Send + Sync + 'static {
    /// What it speaks through.
    type Connection: Connection + 'static;

    /// Connects, and sets up the session.
    fn connect(&self) -> BoxFuture<'_, sqlx::Result<Self::Connection>>;

    /// Prepares a statement and describes its columns.
    fn columns<'c>(
        connection: &'c mut Self::Connection,
        statement: &'c Statement,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Described>>>;

    /// Asks a statement for its rows.
    fn fetch<'c>(
        connection: &'c mut Self::Connection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxStream<'c, sqlx::Result<Row>>>;

    /// Runs a statement and returns how many rows it changed.
    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxFuture<'c, sqlx::Result<u64>>>;

    /// Runs a command that has no values and no answer.
    fn run<'c>(connection: &'c mut Self::Connection, sql: &'static str) -> BoxFuture<'c, sqlx::Result<()>>;
}

/// How many connections there are, and how long anything may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: u32,
    wait: Duration,
    answer: Duration,
}

impl Limits {
    pub(crate) fn new(config: &SqlConfig, connections: u32) -> Self {
        Self {
            connections,
            wait: Duration::from_millis(config.pool.acquire_timeout_ms),
            answer: Duration::from_millis(config.statement_timeout_ms) + GRACE,
        }
    }
}

/// Connections to one server.
pub(crate) struct Pool<D: Driver>(Arc<Inner<D>>);

struct Inner<D: Driver> {
    driver: D,
    limits: Limits,
    slots: Arc<Semaphore>,
    // A std lock: nothing awaits while it is held.
    shelf: Mutex<Shelf<D::Connection>>,
}

struct Shelf<C> {
    idle: Vec<Link<C>>,
    /// Counts the losses. What was connected before the last one is not used again.
    era: u64,
    /// What was wrong when the server was asked last, if it was not there.
    trouble: Option<Error>,
}

struct Link<C> {
    connection: C,
    era: u64,
    made: Instant,
    used: Instant,
}

impl<D: Driver> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Driver> fmt::Debug for Pool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl<D: Driver> Pool<D> {
    pub(crate) fn new(driver: D, limits: Limits) -> Self {
        let slots = usize::try_from(limits.connections).unwrap_or(1);
        Self(Arc::new(Inner {
            driver,
            limits,
            slots: Arc::new(Semaphore::new(slots)),
            shelf: Mutex::new(Shelf { idle: Vec::new(), era: 0, trouble: None }),
        }))
    }

    pub(crate) fn driver(&self) -> &D {
        &self.0.driver
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<D::Connection>> {
        self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded) if all are in use for too long; otherwise why there is none.
    pub(crate) async fn take(&self) -> Result<Leased<D>> {
        let deadline = Instant::now() + self.0.limits.wait;
        let slot = match timeout_at(deadline, Arc::clone(&self.0.slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(Error::new(ErrorKind::Unavailable, "the connections are closed")),
            Err(_) => return Err(self.full()),
        };
        let link = match self.idle() {
            Some(link) => link,
            None => self.connect(deadline).await?,
        };
        Ok(Leased {
            link: Some(link),
            debt: Debt::Nothing,
            asking: false,
            pool: self.clone(),
            slot: Some(slot),
        })
    }

    /// Takes a connection for what must not be sent twice: one that lay unused is asked first whether it lives.
    ///
    /// # Errors
    /// Like [`take`](Self::take).
    pub(crate) async fn take_sure(&self) -> Result<Leased<D>> {
        let mut leased = self.take().await?;
        if leased.link.as_ref().is_some_and(|link| link.used.elapsed() > SURE) && !leased.lives().await {
            leased.renew().await?;
        }
        Ok(leased)
    }

    /// Says why no connection became free in time.
    fn full(&self) -> Error {
        match self.shelf().trouble.clone() {
            Some(last) => {
                Error::new(ErrorKind::Unavailable, "no free connection; the last one failed").because(last)
            }
            None => Error::new(ErrorKind::Overloaded, "no free connection"),
        }
    }

    fn idle(&self) -> Option<Link<D::Connection>> {
        let (mut stale, mut found) = (Vec::new(), None);
        let mut shelf = self.shelf();
        while let Some(link) = shelf.idle.pop() {
            if link.used.elapsed() < IDLE && link.made.elapsed() < LIFE {
                found = Some(link);
                break;
            }
            stale.push(link);
        }
        drop(shelf);
        stale.into_iter().for_each(bid_farewell);
        found
    }

    async fn connect(&self, deadline: Instant) -> Result<Link<D::Connection>> {
        let era = self.shelf().era;
        let error = match timeout_at(deadline, self.0.driver.connect()).await {
            Ok(Ok(connection)) => {
                self.shelf().trouble = None;
                let now = Instant::now();
                return Ok(Link { connection, era, made: now, used: now });
            }
            Ok(Err(error)) => classify_connect(error),
            Err(_) => Error::new(ErrorKind::Unavailable, "the server does not answer"),
        };
        self.shelf().trouble = (error.kind() == ErrorKind::Unavailable).then(|| error.clone());
        Err(error)
    }

    fn put(&self, mut link: Link<D::Connection>) {
        link.used = Instant::now();
        let mut shelf = self.shelf();
        if link.era == shelf.era && !self.0.slots.is_closed() {
            shelf.idle.push(link);
        }
    }

    /// Notes that a connection of this era was lost, and with it, for all that is known, the others.
    fn lose(&self, era: u64, error: Error) {
        let mut shelf = self.shelf();
        if shelf.era == era {
            shelf.trouble = Some(error);
            shelf.era += 1;
            shelf.idle.clear();
        }
    }

    pub(crate) fn close(&self) {
        self.0.slots.close();
        self.shelf().idle.clear();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.slots.is_closed()
    }
}

impl<D: Driver> Pool<D> {
    /// Runs a statement that is committed by itself, and returns how many rows it changed.
    ///
    /// # Errors
    /// Any kind. Where the connection was lost, it is not known whether it was done.
    pub(crate) async fn change(&self, statement: &Statement, values: &[Value<'_>]) -> Result<u64> {
        self.take_sure().await?.change(statement, values).await.map_err(|failed| failed.error)
    }

    /// Runs an INSERT by itself; of what is there already, nothing is changed.
    ///
    /// # Errors
    /// Like [`change`](Self::change).
    pub(crate) async fn add(&self, statement: &Statement, values: &[Value<'_>]) -> Result<u64> {
        match self.take_sure().await?.change(statement, values).await {
            Err(Failed { trouble: Some(Trouble::Duplicate), .. }) => Ok(0),
            changed => changed.map_err(|failed| failed.error),
        }
    }
}

/// Tells the server that a connection ends, if there is anybody to tell it.
fn bid_farewell<C: Connection + 'static>(link: Link<C>) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(timeout(GRACE, link.connection.close()));
    }
}

/// What is still to be done on a connection before others may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debt {
    Nothing,
    /// What is left of an answer that nobody wants is to be read.
    Rest,
    /// A transaction is open.
    Rollback,
}

/// A connection that is in use.
pub(crate) struct Leased<D: Driver> {
    link: Option<Link<D::Connection>>,
    debt: Debt,
    /// A question is under way. If its asker is dropped now, nobody knows what the server sends next.
    asking: bool,
    pool: Pool<D>,
    /// Freed when the debt is paid.
    slot: Option<OwnedSemaphorePermit>,
}

/// How an answer ended.
enum Done {
    Whole,
    /// What was left of it was not wanted.
    Part,
}

/// Why there is no answer.
enum Failure {
    /// The driver said so.
    Driver(sqlx::Error),
    /// We did.
    Ours(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// An error, and whether asking once more may help.
struct Failed {
    error: Error,
    trouble: Option<Trouble>,
}

impl<D: Driver> Leased<D> {
    /// Prepares a statement and describes its columns.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the database refuses it; otherwise any kind.
    pub(crate) async fn columns(&mut self, statement: &Statement) -> Result<Vec<Described>> {
        let asked = {
            let (connection, limit) = self.begin().map_err(|failed| failed.error)?;
            timeout(limit, D::columns(connection, statement)).await
        };
        let columns = self
            .end(asked.map(|columns| columns.map(|columns| (columns, Done::Whole)).map_err(Failure::Driver)));
        match columns {
            // Prepared without all types, it must not be found again by who has the values.
            Ok(columns) if statement.parameters().iter().any(|parameter| parameter.kind == Kind::Any) => {
                self.renew().await?;
                Ok(columns)
            }
            Ok(columns) => Ok(columns),
            Err(failed) => {
                self.link = None;
                Err(failed.error)
            }
        }
    }

    /// Asks a statement and hands over each row. If the connection turns out to be lost before the first one, it is
    /// asked once more on a fresh one.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn each<F>(
        &mut self,
        statement: &Statement,
        values: &[Value<'_>],
        mut each: F,
    ) -> Result<()>
    where
        F: FnMut(Row) -> Result<ControlFlow<()>> + Send,
    {
        let (mut seen, mut first) = (0, true);
        loop {
            let asked = {
                let (connection, limit) = self.begin().map_err(|failed| failed.error)?;
                timeout(limit, rows::<D, F>(connection, statement, values, &mut seen, &mut each)).await
            };
            let Err(failed) = self.end(asked.map(|done| done.map(|done| ((), done)))) else { return Ok(()) };
            let again = first && seen == 0 && self.debt != Debt::Rollback;
            match failed.trouble {
                Some(Trouble::Lost) if again => self.renew().await?,
                Some(Trouble::Conflict) if again => {}
                Some(Trouble::ReadOnly) if self.debt != Debt::Rollback => {
                    let message = "the query writes, and it may only read";
                    return Err(Error::new(ErrorKind::Misconfigured, message).because(failed.error));
                }
                _ => return Err(failed.error),
            }
            first = false;
        }
    }

    /// Reports whether the connection lives.
    async fn lives(&mut self) -> bool {
        let asked = match self.begin() {
            Ok((connection, limit)) => timeout(limit, connection.ping()).await,
            Err(_) => return false,
        };
        self.end(asked.map(|asked| asked.map(|()| ((), Done::Whole)).map_err(Failure::Driver))).is_ok()
    }

    /// Runs a statement that is committed by itself. It is sent again only if the server has said that it has undone it:
    /// what was done over a connection that was lost, nobody knows.
    async fn change(
        &mut self,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> std::result::Result<u64, Failed> {
        let patience = Instant::now() + self.pool.0.limits.answer;
        loop {
            match self.execute(statement, values).await {
                Err(Failed { trouble: Some(Trouble::Conflict), .. }) if Instant::now() < patience => {}
                Err(failed) => {
                    if failed.trouble == Some(Trouble::ReadOnly) {
                        // It was made a replica: what has its name by now is looked up again.
                        self.lose(&failed.error);
                    }
                    return Err(failed);
                }
                changed => return changed,
            }
        }
    }

    /// Begins a transaction, on a fresh connection if this one turns out to be lost.
    async fn transact(&mut self) -> Result<()> {
        match self.run("BEGIN").await {
            Err(Failed { trouble: Some(Trouble::Lost), .. }) => {
                self.renew().await?;
                self.run("BEGIN").await.map_err(|failed| failed.error)?;
            }
            begun => begun.map_err(|failed| failed.error)?,
        }
        self.debt = Debt::Rollback;
        Ok(())
    }

    /// Runs a statement and returns how many rows it changed.
    async fn execute(
        &mut self,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> std::result::Result<u64, Failed> {
        let asked = {
            let (connection, limit) = self.begin()?;
            timeout(limit, changed::<D>(connection, statement, values)).await
        };
        self.end(asked.map(|changed| changed.map(|changed| (changed, Done::Whole)).map_err(Failure::Driver)))
    }

    async fn run(&mut self, sql: &'static str) -> std::result::Result<(), Failed> {
        let asked = {
            let (connection, limit) = self.begin()?;
            timeout(limit, D::run(connection, sql)).await
        };
        self.end(asked.map(|done| done.map(|()| ((), Done::Whole)).map_err(Failure::Driver)))
    }

    /// Takes another connection into the same slot.
    async fn renew(&mut self) -> Result<()> {
        self.link = None;
        self.debt = Debt::Nothing;
        let link = match self.pool.idle() {
            Some(link) => link,
            None => self.pool.connect(Instant::now() + self.pool.0.limits.wait).await?,
        };
        self.link = Some(link);
        Ok(())
    }

    /// Gives the connection to whoever asks, and how long that may take.
    fn begin(&mut self) -> std::result::Result<(&mut D::Connection, Duration), Failed> {
        match &mut self.link {
            Some(link) => {
                self.asking = true;
                Ok((&mut link.connection, self.pool.0.limits.answer))
            }
            None => {
                let error = Error::new(ErrorKind::Unavailable, "the connection is lost");
                Err(Failed { error, trouble: None })
            }
        }
    }

    /// Takes in how it went.
    fn end<T>(
        &mut self,
        asked: std::result::Result<std::result::Result<(T, Done), Failure>, Elapsed>,
    ) -> std::result::Result<T, Failed> {
        self.asking = false;
        if self.debt == Debt::Nothing {
            self.debt = Debt::Rest;
        }
        let failed = match asked {
            Ok(Ok((answer, done))) => {
                if let (Done::Whole, Debt::Rest) = (done, self.debt) {
                    self.debt = Debt::Nothing;
                }
                return Ok(answer);
            }
            Ok(Err(Failure::Ours(error))) => return Err(Failed { error, trouble: None }),
            Ok(Err(Failure::Driver(error))) => {
                let trouble = trouble(&error);
                Failed { error: classify(error), trouble }
            }
            Err(_) => Failed {
                error: Error::new(ErrorKind::Unavailable, "the server does not answer"),
                trouble: Some(Trouble::Silent),
            },
        };
        match failed.trouble {
            Some(Trouble::Lost | Trouble::Silent) => self.lose(&failed.error),
            // The server was made a replica: what has its name by now is looked up again.
            Some(Trouble::ReadOnly) if self.debt == Debt::Rollback => self.lose(&failed.error),
            _ => {}
        }
        Err(failed)
    }

    fn lose(&mut self, error: &Error) {
        if let Some(link) = self.link.take() {
            self.pool.lose(link.era, error.clone());
        }
    }
}

impl<D: Driver> Drop for Leased<D> {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        let next = if self.asking { Next::Closed } else { Next::Others(self.debt) };
        if let Next::Others(Debt::Nothing) = next {
            self.pool.put(link);
            return;
        }
        // The slot stays taken until the server is done with what nobody waits for any more: it has not more to do
        // than there are slots.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let slot = self.slot.take();
            runtime.spawn(settle(self.pool.clone(), link, next, slot));
        }
    }
}

/// What becomes of a connection that is not used any more.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Others get it, once this is paid.
    Others(Debt),
    /// Nobody: half a question is on it. It is closed when the server is done, since until then it works for us.
    Closed,
}

/// Pays what is owed on a connection, and gives it back; or closes it.
async fn settle<D: Driver>(
    pool: Pool<D>,
    mut link: Link<D::Connection>,
    next: Next,
    _slot: Option<OwnedSemaphorePermit>,
) {
    let settled = timeout(pool.0.limits.answer, async {
        link.connection.ping().await?;
        match next {
            Next::Others(Debt::Rollback) => D::run(&mut link.connection, "ROLLBACK").await,
            Next::Others(Debt::Nothing | Debt::Rest) | Next::Closed => Ok(()),
        }
    })
    .await;
    if let (Ok(Ok(())), Next::Others(_)) = (settled, next) {
        pool.put(link);
    }
}

async fn rows<D: Driver, F>(
    connection: &mut D::Connection,
    statement: &Statement,
    values: &[Value<'_>],
    seen: &mut usize,
    each: &mut F,
) -> std::result::Result<Done, Failure>
where
    F: FnMut(Row) -> Result<ControlFlow<()>> + Send,
{
    let mut rows = D::fetch(connection, statement.sql(), values)?;
    while let Some(row) = rows.next().await {
        let row = row?;
        count_row(seen)?;
        if each(row)?.is_break() {
            return Ok(Done::Part);
        }
    }
    Ok(Done::Whole)
}

async fn changed<D: Driver>(
    connection: &mut D::Connection,
    statement: &Statement,
    values: &[Value<'_>],
) -> sqlx::Result<u64> {
    D::execute(connection, statement.sql(), values)?.await
}

/// A transaction that writes; dropping it undoes everything.
pub(crate) struct Transaction<D: Driver>(Leased<D>);

impl<D: Driver> Transaction<D> {
    /// Begins one.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn begin(pool: &Pool<D>) -> Result<Self> {
        let mut leased = pool.take().await?;
        leased.transact().await?;
        Ok(Self(leased))
    }

    /// Asks a statement and hands over each row.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn each<F>(&mut self, statement: &Statement, values: &[Value<'_>], each: F) -> Result<()>
    where
        F: FnMut(Row) -> Result<ControlFlow<()>> + Send,
    {
        self.0.each(statement, values, each).await
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn execute(&mut self, statement: &Statement, values: &[Value<'_>]) -> Result<u64> {
        self.0.execute(statement, values).await.map_err(|failed| failed.error)
    }

    /// Runs an INSERT; of what is there already, nothing is changed.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn insert(&mut self, statement: &Statement, values: &[Value<'_>]) -> Result<u64> {
        match self.0.execute(statement, values).await {
            Err(Failed { trouble: Some(Trouble::Duplicate), .. }) => Ok(0),
            changed => changed.map_err(|failed| failed.error),
        }
    }

    /// Waits until nobody else changes the managed tables. It ends with the transaction.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn alone(&mut self) -> Result<()> {
        self.0.run("SELECT id FROM gatepost_store FOR UPDATE").await.map_err(|failed| failed.error)
    }

    /// Makes everything that was done stay.
    ///
    /// # Errors
    /// Any kind; it is not known then whether it stays.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.0.run("COMMIT").await.map_err(|failed| failed.error)?;
        self.0.debt = Debt::Nothing;
        Ok(())
    }
}
