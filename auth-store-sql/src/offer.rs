//! Which questions a store has queries for.

use async_trait::async_trait;
use auth_core::{Ctx, Lookup, Principal, Resolver, Result, SourceInfo};

use crate::schema::Objects;
use crate::store::SqlStore;

impl SqlStore {
    /// Reports whether the store can show accounts.
    #[must_use]
    pub const fn has_accounts(&self) -> bool {
        self.schema.account.is_some()
    }

    /// Reports whether the store knows groups.
    #[must_use]
    pub const fn has_groups(&self) -> bool {
        self.schema.groups.is_some() || self.schema.is_member.is_some()
    }

    /// Reports whether the store maps people of other sources to its own.
    #[must_use]
    pub const fn has_link(&self) -> bool {
        self.schema.link.is_some()
    }

    /// Returns the domains of objects; `*` if a table of the store declares them.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        match &self.schema.objects {
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
        self.resolve_own(foreign)
            .await
            .map(|own| own.map_or(Lookup::NotFound, Lookup::Found))
            .map_err(|e| self.at(e))
    }

    fn peek_resolve(&self, _ctx: &Ctx, _foreign: &Principal) -> Option<Lookup<Principal>> {
        None
    }
}
