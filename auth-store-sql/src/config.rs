//! Settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::notify::PushConfig;

/// The settings of a [`SqlStore`](crate::SqlStore).
///
/// `Debug` shows no password of the url.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SqlConfig {
    /// Where the database is: `sqlite:path`, `sqlite://path`, `sqlite::memory:`, `postgres://user:password@host/db`,
    /// `mariadb://user:password@host/db` (`postgresql:` and `mysql:` are the same).
    pub url: String,
    /// Whether the tables are the store's own. By default they are if there is no query and no object.
    #[serde(default)]
    pub managed: Option<bool>,
    /// The queries for your own tables.
    #[serde(default)]
    pub query: QueryConfig,
    /// The queries for objects, by domain.
    #[serde(default)]
    pub object: BTreeMap<String, ObjectConfig>,
    /// The limits of the connection pool.
    #[serde(default)]
    pub pool: PoolConfig,
    /// How long a statement waits for a lock of another connection or process, in milliseconds.
    #[serde(default = "busy_timeout_ms")]
    pub busy_timeout_ms: u64,
    /// How long the server works on one statement, in milliseconds. SQLite has no such limit.
    #[serde(default = "statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// How the connection to a server is secured.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Whom or what a change is about, by table: for triggers that tell of changes. PostgreSQL only.
    #[serde(default)]
    pub push: Option<BTreeMap<String, PushConfig>>,
}

/// How the connection to a server is secured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// What is checked. By default everything if the server is on another machine or any key here is set, and
    /// no TLS on a loopback address.
    pub mode: Option<TlsMode>,
    /// A PEM file with the authorities to trust besides Mozilla's list.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate that is shown to the server.
    pub cert: Option<PathBuf>,
    /// A PEM file with its key.
    pub key: Option<PathBuf>,
}

/// What of a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TlsMode {
    /// That an authority that is trusted has signed it, and that it names the host.
    VerifyFull,
    /// That an authority that is trusted has signed it: any of its servers may answer.
    VerifyCa,
    /// Nothing: whoever is in between may answer.
    Require,
    /// No TLS: whoever is in between reads all hashes.
    Off,
}

/// The queries about people.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QueryConfig {
    /// Shows an account.
    pub account: Option<String>,
    /// Lists the groups of a person.
    pub groups: Option<String>,
    /// Tells whether a person is in one group, for tables that can't list.
    pub is_member: Option<String>,
    /// Replaces a stored hash if it is still the old one.
    pub replace_hash: Option<String>,
    /// Finds this store's login for somebody whom another source knows.
    pub link: Option<String>,
}

/// The queries about the objects of one domain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ObjectConfig {
    /// Tells whether the object is there.
    pub exists: String,
    /// Tells whether a person has a right.
    pub access: String,
    /// Tells whether a person has any right at all. Needed for that question only, and only if `access`
    /// has `:mode`.
    #[serde(default)]
    pub any: Option<String>,
    /// Lists which of many objects are there. With `access_many` it asks about many objects at once.
    #[serde(default)]
    pub exists_many: Option<String>,
    /// Lists for which of many objects a person has a right.
    #[serde(default)]
    pub access_many: Option<String>,
    /// The type of the object's id.
    #[serde(default)]
    pub id: ObjectIds,
}

/// The types of the parts of an object's id: one for all, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ObjectIds {
    /// All parts have this type.
    All(ObjectId),
    /// The parts have these types, in their order.
    Each(Vec<ObjectId>),
}

impl From<ObjectId> for ObjectIds {
    fn from(kind: ObjectId) -> Self {
        Self::All(kind)
    }
}

impl Default for ObjectIds {
    fn default() -> Self {
        Self::All(ObjectId::default())
    }
}

/// The type of an object's id in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ObjectId {
    /// Text; a number is asked for by its digits.
    #[default]
    Text,
    /// Whole numbers; a text that is none names no object.
    Int,
    /// UUIDs; a text that is none in its usual spelling names no object.
    Uuid,
}

/// The limits of the connection pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PoolConfig {
    /// How many connections read at once. One more writes.
    pub max_connections: u32,
    /// How long a question waits for a connection, also a new one, in milliseconds.
    pub acquire_timeout_ms: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { max_connections: 4, acquire_timeout_ms: 1_000 }
    }
}

const fn busy_timeout_ms() -> u64 {
    1_000
}

const fn statement_timeout_ms() -> u64 {
    4_500
}

impl SqlConfig {
    /// Makes the settings of a managed database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            managed: None,
            query: QueryConfig::default(),
            object: BTreeMap::new(),
            pool: PoolConfig::default(),
            busy_timeout_ms: busy_timeout_ms(),
            statement_timeout_ms: statement_timeout_ms(),
            tls: TlsConfig::default(),
            push: None,
        }
    }

    /// Reports whether there is a query or an object.
    pub(crate) fn has_queries(&self) -> bool {
        let QueryConfig { account, groups, is_member, replace_hash, link } = &self.query;
        [account, groups, is_member, replace_hash, link].iter().any(|query| query.is_some())
            || !self.object.is_empty()
    }
}

impl fmt::Debug for SqlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, managed, query, object, pool, busy_timeout_ms, statement_timeout_ms, tls, push } =
            self;
        f.debug_struct("SqlConfig")
            .field("url", &masked(url))
            .field("managed", managed)
            .field("query", query)
            .field("object", object)
            .field("pool", pool)
            .field("busy_timeout_ms", busy_timeout_ms)
            .field("statement_timeout_ms", statement_timeout_ms)
            .field("tls", tls)
            .field("push", push)
            .finish()
    }
}

/// Shows a url of SQLite, which has no password, and of any other only the scheme: what of a badly
/// written url is the password can't be told.
fn masked(url: &str) -> String {
    match url.split_once(':') {
        Some(("sqlite", _)) => url.to_owned(),
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_lowercase()) => format!("{scheme}:***"),
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        for url in [
            "postgres://calvin:hobbes@db/app",
            "postgres://calvin:hob@bes/x@db/app?a=b",
            "mysql:calvin:hobbes",
            "calvin:hobbes@db",
            "hobbes",
            "postgres://db/app?password=hobbes",
        ] {
            let shown = format!("{:?}", SqlConfig::new(url));
            assert!(!shown.contains("hobbes") && !shown.contains("bes/x"), "{shown}");
        }
        assert!(format!("{:?}", SqlConfig::new("sqlite:a.db")).contains("sqlite:a.db"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        for text in [
            "url = 'sqlite:a'\nmanged = true",
            "url = 'sqlite:a'\n[query]\nacount = 'x'",
            "url = 'sqlite:a'\n[object.doc]\nexists = 'a'\naccess = 'b'\nmode = 'c'",
            "url = 'sqlite:a'\n[object.doc]\nexists = 'a'\naccess = 'b'\nid = 'guid'",
            "url = 'postgres://db/app'\n[tls]\nmode = 'prefer'",
            "url = 'postgres://db/app'\n[tls]\nverify = false",
            "url = 'sqlite:a'\n[pool]\nmax = 3",
            "managed = true",
        ] {
            assert!(toml::from_str::<SqlConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config: SqlConfig = toml::from_str("url = 'sqlite:a'\n[pool]\nmax_connections = 8").unwrap();
        assert_eq!((config.pool.max_connections, config.pool.acquire_timeout_ms), (8, 1_000));
        assert_eq!((config.busy_timeout_ms, config.managed, config.has_queries()), (1_000, None, false));
        assert_eq!((config.statement_timeout_ms, config.tls.mode), (4_500, None));
        let config: SqlConfig =
            toml::from_str("url = 'a'\n[object.doc]\nexists = ''\naccess = ''\nid = ['text', 'int', 'uuid']")
                .unwrap();
        let each = ObjectIds::Each(vec![ObjectId::Text, ObjectId::Int, ObjectId::Uuid]);
        assert_eq!(config.object["doc"].id, each);
    }
}
