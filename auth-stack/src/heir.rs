//! What a stack takes over from the one that it replaces: everything that its configuration has not changed.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use auth_core::{Fingerprint, RealmId};
use toml::Table;

use crate::probe::Source;
use crate::stack::Stack;

/// Wrappers that remember something, by realm, source and type, for the stack that comes after.
pub(crate) type Kept = BTreeMap<(String, String, &'static str), Arc<dyn Any + Send + Sync>>;

/// The stack before, and the configuration now.
pub(crate) struct Heir<'a> {
    old: &'a Stack,
    now: &'a Table,
}

impl<'a> Heir<'a> {
    pub(crate) const fn new(old: &'a Stack, now: &'a Table) -> Self {
        Self { old, now }
    }

    pub(crate) const fn old(&self) -> &'a Stack {
        self.old
    }

    /// Reports whether sections say what they said.
    pub(crate) fn same(&self, sections: &[&str]) -> bool {
        sections.iter().all(|section| self.old.loaded.table.get(*section) == self.now.get(*section))
    }

    /// Reports whether what was cached under the configuration before is kept as it would be now.
    pub(crate) fn keeps_caches(&self) -> bool {
        self.same(&["cache", "secrets"])
    }

    /// The source as it is open, if nothing that is said about it has changed, nor the file that it is.
    pub(crate) fn source(&self, name: &str, fingerprint: Fingerprint) -> Option<&'a Source> {
        let said = |table: &'a Table| table.get("source")?.get(name);
        let same = said(&self.old.loaded.table).is_some_and(|old| said(self.now) == Some(old));
        let limit = self.same(&["server"]) || self.old.config.server.limit == self.limit();
        let open = self.old.prober.source(name).filter(|_| !self.old.down.contains(name))?;
        (same && limit && open.fingerprint == fingerprint).then_some(open)
    }

    fn limit(&self) -> crate::Span {
        let server = self.now.get("server").and_then(|server| server.get("limit"));
        server
            .cloned()
            .and_then(|limit| limit.try_into().ok())
            .unwrap_or_else(|| crate::ServerConfig::default().limit)
    }

    /// Reports whether a source is the very one that the stack before has open.
    pub(crate) fn is_kept(&self, name: &str, source: &Source) -> bool {
        self.old.prober.source(name).is_some_and(|open| Arc::ptr_eq(&open.health, &source.health))
    }

    /// The wrapper of this type that remembers something about a source, if the realm is as it was.
    pub(crate) fn wrapper<T: Send + Sync + 'static>(&self, realm: &RealmId, source: &str) -> Option<Arc<T>> {
        self.old.realm(realm.name()).filter(|old| old.id() == realm)?;
        let key = (realm.name().to_owned(), source.to_owned(), std::any::type_name::<T>());
        Arc::clone(self.old.kept.get(&key)?).downcast().ok()
    }
}
