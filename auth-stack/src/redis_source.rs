//! The kind `redis`: people, groups and rights in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::Result;
use auth_store_redis::{Absent, Network, RedisStore, RedisStoreConfig};
use serde::Deserialize;

use crate::config::{CacheTls, Span};
use crate::secret::shown_url;
use crate::source::{Look, Opening, Provides};

/// The settings of such a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisSettings {
    url: String,
    #[serde(default = "prefix")]
    prefix: String,
    #[serde(default = "limit")]
    timeout: Span,
    #[serde(default = "limit")]
    connect_timeout: Span,
    #[serde(default = "in_flight")]
    in_flight: usize,
    #[serde(default)]
    tls: CacheTls,
    #[serde(default)]
    plaintext: bool,
    #[serde(default = "create")]
    create: bool,
}

fn prefix() -> String {
    "gatepost.".to_owned()
}

const fn limit() -> Span {
    Span(Duration::from_secs(1))
}

const fn in_flight() -> usize {
    4096
}

const fn create() -> bool {
    true
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("url", &shown_url(&self.url))
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Look for RedisStore {
    async fn look(&self) -> Result<()> {
        Self::look(self).await
    }
}

pub(crate) async fn open(mut opening: Opening<'_>) -> Result<Provides> {
    let settings: RedisSettings = opening.settings()?;
    let mut config = RedisStoreConfig::new(settings.url, settings.prefix);
    config.redis.timeout = settings.timeout.0;
    config.redis.connect_timeout = settings.connect_timeout.0;
    config.redis.in_flight = settings.in_flight;
    let CacheTls { ca, cert, key } = settings.tls;
    let bytes = |text: Option<String>| text.map(String::into_bytes);
    (config.redis.tls.ca, config.redis.tls.cert, config.redis.tls.key) = (bytes(ca), bytes(cert), bytes(key));
    config.network = if settings.plaintext { Network::Plain } else { Network::Tls };
    config.absent = if settings.create { Absent::Made } else { Absent::Refused };
    let store = Arc::new(RedisStore::connect(opening.info, &config).await?);
    let mut provides = Provides::all_of(Arc::clone(&store));
    provides.directory = store.directory();
    provides.look = Some(store);
    Ok(provides)
}
