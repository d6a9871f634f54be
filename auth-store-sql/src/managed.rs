//! The managed schema: its migrations, and the queries that answer from it.
//!
//! The queries are written as a user would write theirs, and run through the same code.

use auth_core::Id;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The table in which migrations are noted; sqlx's own name may be taken by the application's.
pub(crate) const MIGRATIONS: &str = "gatepost_migration";

/// Whether the managed tables may be put into a database that has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Configuration says so.
    Any,
    /// Nobody said so: only into one that has none.
    IfEmpty,
    /// Only if they are there already.
    Ours,
}

/// The migrations for SQLite, in order. A database has its own folder, since each has its own SQL.
const SQLITE: &[(i64, &str, &str)] = &[
    (1, "users, groups, rights", include_str!("../migrations/sqlite/0001_users_groups_rights.sql")),
    (2, "identity", include_str!("../migrations/sqlite/0002_identity.sql")),
];

/// Returns which store this is.
pub(crate) const IDENTITY: &str = "SELECT id FROM gatepost_store";

/// Returns the migrations for SQLite.
pub(crate) fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(SQLITE.iter().map(migration).collect());
    migrator.dangerous_set_table_name(MIGRATIONS);
    migrator
}

macro_rules! account {
    ($rest:literal) => {
        concat!(
            "SELECT login, id, hash, scheme, disabled, locked, locked_until, not_before, expires_at, ",
            "password_expires_at, must_change FROM gatepost_user ",
            $rest
        )
    };
}

pub(crate) const ACCOUNT: &str = account!("WHERE login = :login");

/// Returns the columns of [`ACCOUNT`] in their order.
pub(crate) const USERS: &str = account!("WHERE login > :after ORDER BY login LIMIT :limit");

pub(crate) const GROUPS: &str = "SELECT g.name FROM gatepost_group g \
     JOIN gatepost_membership m ON m.group_id = g.id WHERE m.user_id = :id";

pub(crate) const REPLACE_HASH: &str =
    "UPDATE gatepost_user SET hash = :new, scheme = :scheme WHERE id = :id AND hash = :old";

pub(crate) const DOMAIN: &str = "SELECT 1 FROM gatepost_domain WHERE name = :domain";

pub(crate) const EXISTS: &str = "SELECT 1 FROM gatepost_object o JOIN gatepost_domain d ON d.id = o.domain_id \
     WHERE d.name = :domain AND o.name = :object";

pub(crate) const ACCESS: &str = "SELECT 1 FROM gatepost_right r \
     JOIN gatepost_object o ON o.id = r.object_id JOIN gatepost_domain d ON d.id = o.domain_id \
     WHERE d.name = :domain AND o.name = :object AND r.user_id = :id AND r.mode = :mode";

pub(crate) const ANY: &str = "SELECT 1 FROM gatepost_right r \
     JOIN gatepost_object o ON o.id = r.object_id JOIN gatepost_domain d ON d.id = o.domain_id \
     WHERE d.name = :domain AND o.name = :object AND r.user_id = :id LIMIT 1";

/// Writes an object's id as one text. Two ids have one text only if their parts read alike.
pub(crate) fn object_name(id: &[Id]) -> String {
    let mut name = String::new();
    for (n, part) in id.iter().enumerate() {
        if n > 0 {
            name.push(',');
        }
        for c in part.to_string().chars() {
            if matches!(c, ',' | '\\') {
                name.push('\\');
            }
            name.push(c);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_several_parts_do_not_run_into_each_other() {
        let check = |parts: &[&str], name: &str| {
            assert_eq!(object_name(&parts.iter().map(|part| Id::from(*part)).collect::<Vec<_>>()), name);
        };
        check(&["wiki", "42"], "wiki,42");
        check(&["wiki,42"], "wiki\\,42");
        check(&["wiki\\", "42"], "wiki\\\\,42");
        check(&["wiki\\,42"], "wiki\\\\\\,42");
        assert_eq!(object_name(&[Id::from("wiki"), Id::from(42)]), "wiki,42");
    }

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let versions: Vec<i64> = SQLITE.iter().map(|(version, ..)| *version).collect();
        assert_eq!(versions, (1..=2).collect::<Vec<_>>());
    }
}
