//! What a store has open: the database and its queries, opened anew when another file stands in its place.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use auth_core::{Clock, Error, ErrorKind, Moment, Result};
use futures_util::lock::Mutex;

use crate::config::SqlConfig;
use crate::db::{Db, Place, Tables};
use crate::managed::{Claim, Plan};
use crate::schema::Schema;

/// How long a file that can't be used, or that was only just opened, is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A database and the queries that were prepared and checked on it. A question takes it once and keeps it:
/// where its columns are is known of this database only.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) db: Db,
    pub(crate) schema: Schema,
    /// Which managed store it is.
    identity: Option<Vec<u8>>,
}

impl State {
    async fn open(config: &SqlConfig, tables: Tables, claim: Claim) -> Result<Self> {
        let db = Db::open(config, tables, claim)?;
        if tables == Tables::Managed {
            db.migrate(Plan::Directory, claim).await?;
        }
        let mut conn = db.read().await?;
        let schema = match tables {
            Tables::Managed => Schema::managed(db.dialect(), &mut conn).await?,
            Tables::Yours => Schema::yours(db.dialect(), &mut conn, &config.query, &config.object).await?,
        };
        drop(conn);
        let identity = match tables {
            Tables::Managed => Some(db.identity().await?),
            Tables::Yours => None,
        };
        db.ready();
        Ok(Self { db, schema, identity })
    }
}

/// The state, and how it is made again.
#[derive(Debug)]
pub(crate) struct Opened {
    config: SqlConfig,
    tables: Tables,
    clock: Arc<dyn Clock>,
    // A std lock: nothing awaits while it is held.
    state: RwLock<Arc<State>>,
    /// Held by the one question that opens anew.
    last: Mutex<Option<Attempt>>,
}

/// What came of opening anew.
#[derive(Debug)]
struct Attempt {
    at: Moment,
    failed: Option<Error>,
}

impl Opened {
    /// Opens for the first time.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn new(
        config: SqlConfig,
        tables: Tables,
        claim: Claim,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let state = RwLock::new(Arc::new(State::open(&config, tables, claim).await?));
        Ok(Self { config, tables, clock, state, last: Mutex::new(None) })
    }

    /// Returns the state as it is, for what only configuration decides.
    pub(crate) fn peek(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the state to ask a question of. If another file stands in the place of the one that is open,
    /// it is opened first, and its queries prepared and checked as at start.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the file is gone or is being opened; otherwise what is
    /// wrong with the file.
    pub(crate) async fn current(&self) -> Result<Arc<State>> {
        let state = self.peek();
        match state.db.place()? {
            Place::Same => Ok(state),
            Place::Replaced => self.open_anew().await,
        }
    }

    async fn open_anew(&self) -> Result<Arc<State>> {
        let Some(mut last) = self.last.try_lock() else {
            return Err(unavailable("the database file was replaced and is being opened"));
        };
        // Another question may have done it meanwhile.
        let old = self.peek();
        if old.db.place()? == Place::Same {
            return Ok(old);
        }
        let now = self.clock.now();
        if let Some(last) = last.as_ref().filter(|last| now.since(last.at) < PAUSE) {
            let again = || unavailable("the database file was replaced again; it is opened within a second");
            return Err(last.failed.clone().unwrap_or_else(again));
        }
        // If this question is dropped on the way, it has failed.
        let attempt = last
            .insert(Attempt { at: now, failed: Some(unavailable("opening the database was broken off")) });
        match self.replace(&old).await {
            Ok(state) => {
                let state = Arc::new(state);
                *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&state);
                attempt.failed = None;
                Ok(state)
            }
            Err(error) => {
                attempt.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn replace(&self, old: &State) -> Result<State> {
        // The old connections end before the new ones begin: both would use the same files beside theirs.
        old.db.close().await?;
        // Only what was ours before: an empty file in its place is an outage, and not a store without people,
        // and so is a store that somebody has made there since.
        let new = State::open(&self.config, self.tables, Claim::Ours).await?;
        if new.identity != old.identity {
            let error =
                unavailable("another store stands in the place of the one that was open; restart to use it");
            return Err(error);
        }
        Ok(new)
    }
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}
