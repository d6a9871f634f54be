//! The pool of connections of the crate `memcache`.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use auth_core::{Clock, Error, ErrorKind, Result, TierTime, WireName};
use memcache::exp::{self, AsyncMemcache, Delete, Get, Memcache, Meta, Op, OpResult, Set};
use tokio::time::timeout_at;

use super::command::{Answer, Command, Expiry, Key, server_error};
use super::config::{MemcachedConfig, Place, Server};
use super::exchange::{Exchanged, Transport};
use super::link::{Shared, Status, lock};
use super::multiplexed::Multiplexed;

/// Connections at most: more callers than these take turns.
const CONNECTIONS: usize = 16;

/// A pool of connections, each for one call at a time. The crate speaks of items only, so a connection of our own
/// beside it watches which life of the server this is, and its clock.
pub(super) struct Pooled {
    watch: Multiplexed,
    /// For one connection of the watch: another one may have found another life of the server.
    client: Mutex<Option<(u64, AsyncMemcache)>>,
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watch.fmt(f)
    }
}

impl Pooled {
    pub(super) fn new(server: Server, config: &MemcachedConfig, clock: Arc<dyn Clock>) -> Self {
        Self { watch: Multiplexed::new(server, config, clock), client: Mutex::default() }
    }

    fn shared(&self) -> &Shared {
        self.watch.shared()
    }

    /// Returns the connection of the watch, and the life of the server that it is to.
    async fn life(&self) -> Result<(u64, u64)> {
        for _ in 0..2 {
            match self.shared().status() {
                Status::Up { connection, incarnation } => return Ok((connection, incarnation)),
                Status::Down(error) => return Err(error),
                // The first call waits until the watch stands.
                Status::Starting => drop(self.watch.exchange(&[]).await?),
            }
        }
        Err(self.shared().error(ErrorKind::Unavailable, "no connection"))
    }

    async fn client(&self, connection: u64) -> Result<AsyncMemcache> {
        if let Some((of, client)) = &*lock(&self.client)
            && *of == connection
        {
            return Ok(client.clone());
        }
        let Place::Tcp((host, port)) = &self.shared().server().place else {
            return Err(self
                .shared()
                .error(ErrorKind::Misconfigured, "the transport `memcache` has no unix sockets"));
        };
        let limits = self.shared();
        // Names are looked up here; connections are made when they are needed.
        let client = Memcache::builder()
            .timeout(limits.timeout())
            .connect_timeout(limits.timeout())
            .max_idle(CONNECTIONS)
            .max_connections(CONNECTIONS)
            .connect_async([(host.clone(), *port)].map(|(host, port)| format!("{host}:{port}")))
            .await
            .map_err(|error| self.failed(&error))?;
        *lock(&self.client) = Some((connection, client.clone()));
        Ok(client)
    }

    async fn ask(&self, commands: &[Command<'_>]) -> Result<Exchanged> {
        let (connection, incarnation) = self.life().await?;
        let client = self.client(connection).await?;
        let now = self.shared().now().unwrap_or(TierTime::from_millis(0));
        let mut answers = Vec::with_capacity(commands.len());
        if commands.is_empty() {
            client.meta().noop().await.map_err(|error| self.failed(&error))?;
        } else {
            let operations = commands.iter().map(|command| self.operation(command));
            let results = client.meta().run_batch(operations).await.map_err(|error| self.failed(&error))?;
            let mut failed = false;
            for (command, result) in commands.iter().zip(results) {
                answers.push(match result {
                    Ok(result) => self.answer(command, result)?,
                    // The crate gives up its connection there, and says the same of everything that comes after it.
                    Err(error) => match root(&error) {
                        exp::Error::Server(text) if !failed => {
                            failed = true;
                            server_error(text)
                        }
                        error if failed => Answer::Failed(self.failed(error)),
                        error => return Err(self.failed(error)),
                    },
                });
            }
        }
        // Else it may have been another life of the server that has answered.
        match self.shared().status() {
            Status::Up { connection: still, .. } if still == connection => {
                Ok(Exchanged { answers, now, incarnation })
            }
            _ => Err(self.shared().error(ErrorKind::Unavailable, "the connection was lost meanwhile")),
        }
    }

    fn operation(&self, command: &Command<'_>) -> Op {
        let key = |name: &WireName| format!("{}{}", self.shared().prefix(), Key::of(*name).text());
        match command {
            Command::Get(name) => Get::new(key(name)).meta(Meta::NONE.ttl()).into(),
            Command::Left(name) => Get::new(key(name)).without_value().meta(Meta::NONE.ttl()).into(),
            Command::Touch(name, Expiry(until)) => {
                Get::new(key(name)).without_value().touch_raw(*until).into()
            }
            Command::Set { name, bytes, until, add } => {
                let set = Set::new(key(name), bytes).ttl_raw(until.0);
                if *add { set.add().into() } else { set.into() }
            }
            Command::Delete(name) => Delete::new(key(name)).into(),
        }
    }

    fn answer(&self, command: &Command<'_>, result: OpResult) -> Result<Answer> {
        let odd = || self.shared().error(ErrorKind::Corrupt, "an answer to another question");
        Ok(match (command, result) {
            (Command::Set { .. } | Command::Delete(_), OpResult::Mutation(mutation)) => {
                if mutation.applied() { Answer::Done } else { Answer::NotDone }
            }
            (_, OpResult::Get(got)) if !got.hit() => Answer::Nothing,
            (command, OpResult::Get(got)) => {
                let left = got.item.ttl.and_then(|left| u64::try_from(left).ok());
                match command {
                    Command::Get(_) => Answer::Value { bytes: got.value.ok_or_else(odd)?, left },
                    Command::Left(_) => Answer::Left(left),
                    _ => Answer::Done,
                }
            }
            _ => return Err(odd()),
        })
    }

    /// Gives an error of the crate its kind. What it says itself has the names of keys in it.
    fn failed(&self, error: &exp::Error) -> Error {
        let (kind, text) = match root(error) {
            exp::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                (ErrorKind::Timeout, "no connection in time")
            }
            exp::Error::Io(_) => (ErrorKind::Unavailable, "no connection"),
            exp::Error::Timeout { .. } => (ErrorKind::Timeout, "no answer in time"),
            exp::Error::Server(_) => (ErrorKind::Unavailable, "the server has failed"),
            exp::Error::Protocol(_) => (ErrorKind::Corrupt, "an answer that is none"),
            exp::Error::Rejected(_) => (ErrorKind::Misconfigured, "the server takes no meta commands"),
            _ => (ErrorKind::Internal, "a command that can't be"),
        };
        self.shared().error(kind, text)
    }
}

/// What has failed, whatever is not known of what came of it.
fn root(error: &exp::Error) -> &exp::Error {
    match error {
        exp::Error::Ambiguous { source, .. } => root(source),
        other => other,
    }
}

#[async_trait]
impl Transport for Pooled {
    async fn exchange(&self, commands: &[Command<'_>]) -> Result<Exchanged> {
        self.watch.start()?;
        self.shared().check()?;
        let _slot = self.shared().slot()?;
        match timeout_at(self.shared().deadline(), self.ask(commands)).await {
            Ok(exchanged) => exchanged,
            Err(_) => Err(self.shared().error(ErrorKind::Timeout, "no answer in time")),
        }
    }

    fn known_now(&self) -> Option<TierTime> {
        self.shared().now()
    }
}
