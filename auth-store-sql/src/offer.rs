//! Which questions a store has queries for, and whom of other sources it knows.

use std::ops::ControlFlow;

use async_trait::async_trait;
use auth_core::{Ctx, ErrorKind, Login, Lookup, Principal, Resolver, Result, SourceInfo};

use crate::account::corrupt;
use crate::scan::Dialect;
use crate::schema::Objects;
use crate::statement::{Args, Value};
use crate::store::{PersonId, SqlStore};

impl SqlStore {
    /// Reports whether the store can show accounts.
    #[must_use]
    pub fn has_accounts(&self) -> bool {
        self.opened.peek().schema.account.is_some()
    }

    /// Reports whether the store knows groups.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        let schema = &self.opened.peek().schema;
        schema.groups.is_some() || schema.is_member.is_some()
    }

    /// Reports whether the store maps people of other sources to its own.
    #[must_use]
    pub fn has_link(&self) -> bool {
        self.opened.peek().schema.link.is_some()
    }

    /// Returns the domains of objects; `*` if a table of the store declares them.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        match &self.opened.peek().schema.objects {
            Objects::Declared(domains) => domains.keys().cloned().collect(),
            Objects::Table { .. } => vec!["*".to_owned()],
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Resolver for SqlStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn resolve(&self, _ctx: &Ctx, foreign: &Principal) -> Result<Lookup<Principal>> {
        self.linked(foreign).await.map_err(|error| self.at(error))
    }

    fn peek_resolve(&self, _ctx: &Ctx, _foreign: &Principal) -> Option<Lookup<Principal>> {
        None
    }
}

impl SqlStore {
    /// Maps a person of another source by the query `link`.
    async fn linked(&self, who: &Principal) -> Result<Lookup<Principal>> {
        if self.issued(who) {
            return Ok(Lookup::Found(who.clone()));
        }
        let state = self.opened.current().await?;
        let Some(statement) = &state.schema.link else { return Ok(Lookup::NotFound) };
        let id = match self.dialect {
            Dialect::Postgres => PersonId::Spelled(who.id().to_string()),
            Dialect::Sqlite | Dialect::MySql => PersonId::new(who.id()),
        };
        let args: Args<'_> = &[
            // The normal form: how the other source spells it means nothing here.
            ("login", Value::Text(who.login().as_str())),
            ("id", id.value()),
            ("source", Value::Text(who.source())),
            ("now", Value::Int(self.now())),
        ];
        let mut linked: Option<Login> = None;
        let mut conn = state.db.read().await?;
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
        let Some(login) = linked else { return Ok(Lookup::NotFound) };
        let account = self.account_by(&state, &mut conn, &login).await?;
        Ok(account.map(|account| account.principal().clone()))
    }
}
