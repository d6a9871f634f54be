//! The servers that shared caches are tested with: those that somebody has started already, or private ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use auth_testkit::servers::{
    Certs, ClientCerts, Memcached, MemcachedOptions, Redis, RedisCluster, RedisOptions, RedisSentinel,
    RedisTls,
};
use tempfile::TempDir;

/// What the variables are called. `integration-tests/servers` sets the same.
const NAMES: [&str; 8] = [
    "GATEPOST_TEST_REDIS",
    "GATEPOST_TEST_REDIS_TLS",
    "GATEPOST_TEST_TLS_CA",
    "GATEPOST_TEST_TLS_CERT",
    "GATEPOST_TEST_TLS_KEY",
    "GATEPOST_TEST_REDIS_CLUSTER",
    "GATEPOST_TEST_REDIS_SENTINEL",
    "GATEPOST_TEST_MEMCACHED",
];

/// A Redis, one that speaks TLS alone, a cluster of three, a master with replica and three sentinels, and three
/// memcached.
#[derive(Debug)]
pub struct SharedServers {
    variables: BTreeMap<&'static str, String>,
    _held: Option<Held>,
}

/// What ends with it.
#[derive(Debug)]
#[expect(dead_code, reason = "they are kept for their end")]
struct Held {
    redis: Redis,
    tls: Redis,
    cluster: RedisCluster,
    sentinel: RedisSentinel,
    memcached: Vec<Memcached>,
    folder: TempDir,
}

impl SharedServers {
    /// Takes those that the environment names; else starts private ones.
    ///
    /// # Panics
    /// If the environment names some and not all, or one can't be started.
    #[must_use]
    pub fn take() -> Self {
        let named: BTreeMap<_, _> =
            NAMES.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
        match named.len() {
            0 => Self::start(),
            all if all == NAMES.len() => Self { variables: named, _held: None },
            _ => panic!("the environment names {:?} and not the rest of {NAMES:?}", named.keys()),
        }
    }

    /// Starts private ones.
    ///
    /// # Panics
    /// If one can't be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = Arc::new(Certs::make(folder.path()));
        let redis = Redis::start(&RedisOptions::default());
        let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Required, wrong_name: false };
        let tls = Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() });
        let cluster = RedisCluster::start(3);
        let sentinel = RedisSentinel::start();
        let memcached: Vec<_> = (0..3).map(|_| Memcached::start(&MemcachedOptions::default())).collect();
        let file = |path: PathBuf| path.display().to_string();
        let lists: Vec<_> =
            memcached.iter().map(|one| one.url().trim_start_matches("memcached://").to_owned()).collect();
        let values = [
            redis.url(),
            tls.url(),
            file(certs.ca()),
            file(certs.client().certificate),
            file(certs.client().key),
            cluster.url(),
            sentinel.url(),
            format!("memcached://{}", lists.join(",")),
        ];
        let variables = NAMES.into_iter().zip(values).collect();
        Self { variables, _held: Some(Held { redis, tls, cluster, sentinel, memcached, folder }) }
    }

    /// Returns the variables that name them.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Returns the value of one of the variables, by what follows `GATEPOST_TEST_`.
    ///
    /// # Panics
    /// If there is no such variable.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.variables.get(format!("GATEPOST_TEST_{name}").as_str());
        found.unwrap_or_else(|| panic!("there is no GATEPOST_TEST_{name}"))
    }
}
