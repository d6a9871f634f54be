//! Wherever the keys are: one server, or the nodes of a cluster.

use std::sync::Arc;

use auth_core::{ErrorKind, Result};
use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::config::Shape;
use crate::dial::{Dialer, Place};
use crate::link::Link;
use crate::nodes::Nodes;
use crate::{RedisConfig, fault};

/// The servers. Nothing is connected to before it is asked.
#[derive(Debug)]
pub(crate) enum Servers {
    One(Link),
    Cluster(Nodes),
}

impl Servers {
    /// Takes what is configured, and the slots that the lanes of a cluster have.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), which never tells the password.
    pub(crate) fn new(config: &RedisConfig, slots: Vec<u16>) -> Result<Self> {
        let (dialer, shape) = Dialer::new(config)?;
        let dialer = Arc::new(dialer);
        Ok(match shape {
            Shape::Cluster(seeds) => Self::Cluster(Nodes::new(dialer, seeds, slots)),
            shape => Self::One(Link::new(dialer, Place::of(shape))),
        })
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Returns the link of a lane.
    pub(crate) async fn link(&self, lane: usize, until: Instant) -> Result<Link> {
        match self {
            Self::One(link) => Ok(link.clone()),
            Self::Cluster(nodes) => {
                nodes.ready(until).await?;
                nodes.link(lane)
            }
        }
    }

    /// Sends commands of lanes that one server has.
    pub(crate) async fn call(
        &self,
        link: &Link,
        pipeline: &Pipeline,
        until: Instant,
    ) -> Result<(Vec<Value>, u64)> {
        let _place = link.enter()?;
        self.send(link, pipeline, until).await
    }

    /// Does as [`call`](Self::call) for those who have a place each.
    pub(crate) async fn send(
        &self,
        link: &Link,
        pipeline: &Pipeline,
        until: Instant,
    ) -> Result<(Vec<Value>, u64)> {
        let called = link.send(pipeline, until).await;
        if let Self::Cluster(nodes) = self {
            let moved = match &called {
                Ok((values, _)) => values.iter().any(fault::is_moved),
                Err(error) => error.kind() == ErrorKind::Unavailable,
            };
            if moved {
                nodes.stale();
            }
        }
        called
    }
}
