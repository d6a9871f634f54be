//! The managed schema: its migrations, and the queries that answer from it.
//!
//! The queries are written as a user would write theirs, and run through the same code.

use auth_core::{Error, ErrorKind, Id};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::scan::Dialect;

/// The table in which the directory's migrations are noted; sqlx's own name may be taken by the application's.
pub(crate) const MIGRATIONS: &str = "gatepost_migration";

/// Which tables. Each kind has its own migrations and notes them by itself, so that they may be in one database, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Users, groups and rights.
    Directory,
    /// Sessions and revocations.
    Sessions,
}

impl Plan {
    /// Returns the table in which its migrations are noted.
    pub(crate) const fn noted(self) -> &'static str {
        match self {
            Self::Directory => MIGRATIONS,
            Self::Sessions => "gatepost_session_migration",
        }
    }
}

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

/// Migrations in their order: the number, what it is about, and the SQL.
type Migrations = &'static [(i64, &'static str, &'static str)];

/// The migrations of a database. Each has its own folder, since each has its own SQL.
macro_rules! migrations {
    ($folder:literal) => {
        &[
            (
                1,
                "users, groups, rights",
                include_str!(concat!("../migrations/", $folder, "/0001_users_groups_rights.sql")),
            ),
            (2, "identity", include_str!(concat!("../migrations/", $folder, "/0002_identity.sql"))),
        ]
    };
}

const SQLITE: Migrations = migrations!("sqlite");
const POSTGRES: Migrations = migrations!("postgres");
const MYSQL: Migrations = migrations!("mysql");

/// The migrations of sessions.
macro_rules! session_migrations {
    ($folder:literal) => {
        &[(
            1,
            "families, revocations",
            include_str!(concat!("../migrations/", $folder, "/sessions/0001_families.sql")),
        )]
    };
}

const SQLITE_SESSIONS: Migrations = session_migrations!("sqlite");
const POSTGRES_SESSIONS: Migrations = session_migrations!("postgres");
const MYSQL_SESSIONS: Migrations = session_migrations!("mysql");

/// Returns which store this is.
pub(crate) const IDENTITY: &str = "SELECT id FROM gatepost_store";

/// Refuses to put our tables among somebody else's unasked.
pub(crate) fn strangers(table: String) -> Error {
    Error::new(
        ErrorKind::Misconfigured,
        "the database has tables that are not Gatepost's: give queries for them, or say \
         `managed = true` to add Gatepost's beside them",
    )
    .with("table", table)
}

/// Returns the migrations for a database. `collation` is that of texts that are compared byte for byte, where its name
/// differs between versions; the migrations call it `EXACT_COLLATION`.
pub(crate) fn migrator(plan: Plan, dialect: Dialect, collation: &str) -> Migrator {
    let migrations = match (plan, dialect) {
        (Plan::Directory, Dialect::Sqlite) => SQLITE,
        (Plan::Directory, Dialect::Postgres) => POSTGRES,
        (Plan::Directory, Dialect::MySql) => MYSQL,
        (Plan::Sessions, Dialect::Sqlite) => SQLITE_SESSIONS,
        (Plan::Sessions, Dialect::Postgres) => POSTGRES_SESSIONS,
        (Plan::Sessions, Dialect::MySql) => MYSQL_SESSIONS,
    };
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        let sql = AssertSqlSafe(sql.replace("EXACT_COLLATION", collation)).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(migrations.iter().map(migration).collect());
    migrator.dangerous_set_table_name(plan.noted());
    // Who migrates has its own lock, whose wait is bounded.
    migrator.set_locking(false);
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

pub(crate) const EXISTS_MANY: &str = "SELECT o.name AS id FROM gatepost_object o \
     JOIN gatepost_domain d ON d.id = o.domain_id WHERE d.name = :domain AND o.name IN (:objects)";

pub(crate) const ACCESS_MANY: &str = "SELECT o.name AS id FROM gatepost_right r \
     JOIN gatepost_object o ON o.id = r.object_id JOIN gatepost_domain d ON d.id = o.domain_id \
     WHERE d.name = :domain AND o.name IN (:objects) AND r.user_id = :id AND r.mode = :mode";

pub(crate) const ANY_MANY: &str = "SELECT DISTINCT o.name AS id FROM gatepost_right r \
     JOIN gatepost_object o ON o.id = r.object_id JOIN gatepost_domain d ON d.id = o.domain_id \
     WHERE d.name = :domain AND o.name IN (:objects) AND r.user_id = :id";

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
        let all = [(2, [SQLITE, POSTGRES, MYSQL]), (1, [SQLITE_SESSIONS, POSTGRES_SESSIONS, MYSQL_SESSIONS])];
        for (newest, databases) in all {
            for migrations in databases {
                let versions: Vec<i64> = migrations.iter().map(|(version, ..)| *version).collect();
                assert_eq!(versions, (1..=newest).collect::<Vec<_>>());
            }
        }
    }
}
