//! Private real servers for tests: native programs on free ports of the loopback interface.
//!
//! Each has a folder of its own, runs without rights where the test is root, answers before `start` returns, and
//! ends with its handle, also when a test panics or is killed. A start that fails shows what the server has said.
//!
//! A program that is not there fails the test, unless the environment's `SKIP` names the server: a test asks
//! [`skipped`] first.
//!
//! ```no_run
//! use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, skipped};
//! if !skipped("redis") {
//!     let redis = Redis::start(&RedisOptions { password: Some("tiger".into()), ..RedisOptions::default() });
//!     redis.command(&["SET", "key", "value", "PX", "60000"]);
//!     assert!(redis.command(&["PTTL", "key"]).int() > 0);
//! }
//! if !skipped("memcached") {
//!     let memcached = Memcached::start(&MemcachedOptions::default());
//!     assert_eq!(memcached.command("mg nothing v"), "EN\r\n");
//! }
//! ```

mod certs;
mod ds389;
mod mariadb;
mod memcached;
mod postgres;
mod process;
mod redis;
mod sets;
mod slapd;
mod wire;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use certs::{CertPair, Certs};
pub use ds389::{Ds389, Ds389Options};
pub use mariadb::{MariaDb, MariaDbOptions};
pub use memcached::{Memcached, MemcachedOptions};
pub use postgres::{Postgres, PostgresOptions};
pub(crate) use process::free_ports;
pub use redis::{ClientCerts, Redis, RedisOptions, RedisTls, Restart};
pub use sets::{RedisCluster, RedisSentinel};
pub use slapd::{Slapd, SlapdOptions, SlapdTls};
pub use wire::Reply;

/// Longer than anything here takes on a busy machine, and short enough to notice what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// With which certificates a database speaks TLS, to those who ask for it.
#[derive(Debug, Clone)]
pub struct DatabaseTls {
    /// All there are.
    pub certs: Arc<Certs>,
    /// Whether the server shows the one that names another host.
    pub wrong_name: bool,
}

/// Reports whether `SKIP` names a server that can't be had; says so if it does.
#[must_use]
pub fn skipped(server: &str) -> bool {
    let skip = std::env::var("SKIP").unwrap_or_default();
    let named = skip.split([' ', ',']).any(|name| name == server);
    if named {
        // Past the test runner, which keeps what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED on demand: what needs {server}");
    }
    named
}

/// Starts to measure time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "what real servers take is measured on the real clock")]
pub fn stopwatch() -> Instant {
    Instant::now()
}

/// Waits until something is so. Blocks its thread.
///
/// # Panics
/// If it is not so within half a minute.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = stopwatch();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        // There is nothing to wait on but the thing itself.
        std::thread::sleep(Duration::from_millis(5));
    }
}
