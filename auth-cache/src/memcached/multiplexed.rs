//! One connection to a server, shared by all callers.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use auth_core::{Clock, Error, ErrorKind, Result, TierTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::command::Command;
use super::config::{MemcachedConfig, Server};
use super::exchange::{Exchanged, Transport};
use super::link::{Job, Shared, Status, lock, run};

/// One connection, and the task that writes what callers bring and hands out what comes back.
pub(super) struct Multiplexed {
    shared: Arc<Shared>,
    /// To the task, once there is one. Its end is that of the task.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl fmt::Debug for Multiplexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Multiplexed {
    pub(super) fn new(server: Server, config: &MemcachedConfig, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared::new(server, config, clock)), jobs: Mutex::default() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts the task, unless it runs.
    pub(super) fn start(&self) -> Result<()> {
        let mut jobs = lock(&self.jobs);
        // Not, when its runtime has ended.
        if jobs.as_ref().is_some_and(|jobs| !jobs.is_closed()) {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Internal, "memcached is asked outside of a tokio runtime"))?;
        let (send, receive) = mpsc::channel(self.shared.most_in_flight());
        self.shared.set(Status::Starting);
        runtime.spawn(run(Arc::clone(&self.shared), receive));
        *jobs = Some(send);
        Ok(())
    }

    fn send(&self, job: Job) -> Result<()> {
        // There is room for as many as may wait.
        let sent = lock(&self.jobs).as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if sent { Ok(()) } else { Err(self.shared.error(ErrorKind::Unavailable, "its task has ended")) }
    }
}

#[async_trait]
impl Transport for Multiplexed {
    async fn exchange(&self, commands: &[Command<'_>]) -> Result<Exchanged> {
        self.start()?;
        self.shared.check()?;
        let slot = self.shared.slot()?;
        let deadline = self.shared.deadline();
        let (reply, told) = oneshot::channel();
        self.send(Job::new(&self.shared, commands, deadline, slot, reply))?;
        // The task turns away what it has when a connection is lost; what came after that is seen here.
        self.shared.check()?;
        match timeout_at(deadline, told).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(_)) => Err(self.shared.error(ErrorKind::Unavailable, "its task has ended")),
            Err(_) => Err(self.shared.error(ErrorKind::Timeout, "no answer in time")),
        }
    }

    fn known_now(&self) -> Option<TierTime> {
        self.shared.now()
    }
}
