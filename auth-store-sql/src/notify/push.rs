//! The triggers of one store: whether they are there, and putting them there.

use std::fmt;

use auth_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _, Row as _};
use tokio::time::timeout;

use super::triggers::{Pushed, arguments, check, install, managed, remove};
use crate::SqlConfig;
use crate::db::postgres::options;
use crate::error::classify;

/// How long installing may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The triggers by which a PostgreSQL database tells what was changed in a store's tables.
pub struct Push {
    options: PgConnectOptions,
    tables: Pushed,
}

impl fmt::Debug for Push {
    // The options show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Push {
    /// Finds what there is to be told of: what configuration says, or the managed tables; nothing for tables of somebody
    /// else of which it says nothing, or in a database that is no PostgreSQL.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for what can't be told.
    pub(crate) fn of(config: &SqlConfig, is_managed: bool) -> Result<Option<Self>> {
        let is_postgres = config.url.starts_with("postgres");
        let tables = match (&config.push, is_managed) {
            (Some(_), _) if !is_postgres => {
                let message = "`push`: only PostgreSQL tells what was changed in it";
                return Err(Error::new(ErrorKind::Misconfigured, message));
            }
            (Some(_), true) => {
                let message = "`push`: what is told of the managed tables is known, leave this out";
                return Err(Error::new(ErrorKind::Misconfigured, message));
            }
            (Some(tables), false) => tables.clone(),
            (None, true) if is_postgres => managed(),
            (None, _) => return Ok(None),
        };
        check(&tables)?;
        Ok(Some(Self { options: options(config)?, tables }))
    }

    /// Returns the statements that install the triggers, or take them away, for who runs them by hand: in one
    /// transaction, as the owner of the tables.
    #[must_use]
    pub fn statements(&self, removes: bool) -> Vec<String> {
        if removes { remove(&self.tables) } else { install(&self.tables) }
    }

    /// Installs the triggers in one transaction, in the place of those that are there; or takes them away.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if a table or a right is missing; otherwise any kind. Nothing was
    /// changed then.
    pub async fn install(&self, removes: bool) -> Result<()> {
        let statements = self.statements(removes);
        self.with_connection(async |connection| {
            let mut tx = connection.begin().await.map_err(classify)?;
            for statement in statements {
                tx.execute(AssertSqlSafe(statement)).await.map_err(classify)?;
            }
            tx.commit().await.map_err(classify)
        })
        .await
    }

    /// Finds a table that has not the triggers that it should have.
    ///
    /// # Errors
    /// Any kind: it could not be found out.
    pub async fn missing(&self) -> Result<Option<String>> {
        const TRIGGERS: &str = "SELECT tgname::text, tgargs FROM pg_catalog.pg_trigger WHERE NOT tgisinternal \
             AND tgenabled = 'A' AND tgname LIKE 'gatepost\\_push\\_%' AND tgrelid = to_regclass($1)";
        self.with_connection(async |connection| {
            for (table, push) in &self.tables {
                let query = sqlx::query(TRIGGERS).bind(super::triggers::quoted(table));
                let rows = query.fetch_all(&mut *connection).await.map_err(classify)?;
                let mut found = Vec::new();
                for row in rows {
                    let row: (String, Vec<u8>) =
                        (row.try_get(0).map_err(classify)?, row.try_get(1).map_err(classify)?);
                    found.push(row);
                }
                let there = |(name, arguments): (&str, Vec<String>)| {
                    // Each argument ends with a NUL.
                    let wanted: String = arguments.iter().flat_map(|argument| [argument, "\0"]).collect();
                    found.iter().any(|(known, has)| known == name && *has == wanted.as_bytes())
                };
                if !arguments(push).all(there) {
                    return Ok(Some(table.clone()));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn with_connection<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>) -> Result<T> {
        let done = timeout(PATIENCE, async {
            let mut connection = self.options.connect().await.map_err(classify)?;
            let done = work(&mut connection).await;
            connection.close().await.ok();
            done
        });
        match done.await {
            Ok(done) => done,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the database took too long")),
        }
    }
}
