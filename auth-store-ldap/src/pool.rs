//! The servers, and two pools that never mix: connections that search as our own account, and connections that only
//! try passwords.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::config::{Identity, Place, Settings};
use crate::fault::{self, Answer, unavailable};
use crate::wire::{self, Conn, Found, Query};

/// A connection that searches is made anew after this long, so that what the client library keeps of searches that
/// nobody waited for does not add up.
const OLDEST: Duration = Duration::from_secs(600);

/// The servers. The one that worked last is used until it fails.
#[derive(Debug)]
pub(crate) struct Servers {
    places: Vec<Place>,
    tls: Option<Arc<ClientConfig>>,
    current: AtomicUsize,
    connect_timeout: Duration,
    /// Why nothing can be asked now, as far as is known.
    down: Mutex<Option<(Instant, Error)>>,
}

impl Servers {
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if certificates can't be used.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            tls: wire::tls(&settings.places, &settings.tls)?,
            places: settings.places.clone(),
            current: AtomicUsize::new(0),
            connect_timeout: settings.connect_timeout(),
            down: Mutex::default(),
        })
    }

    fn down(&self) -> Option<(Instant, Error)> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_down(&self, down: Option<(Instant, Error)>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = down;
    }

    /// Connects to the server that worked last, or else to the next that does.
    async fn connect(&self, identity: &Identity) -> Result<Conn> {
        let first = self.current.load(Ordering::Relaxed);
        let count = self.places.len();
        let mut faults: Vec<(String, Error)> = Vec::new();
        for server in (0..count).map(|n| (first + n) % count) {
            let Some(place) = self.places.get(server) else { continue };
            let opened =
                timeout(self.connect_timeout, Conn::open(place, server, self.tls.as_ref(), identity)).await;
            match opened.unwrap_or_else(|_| Err(unavailable("connecting took too long"))) {
                Ok(conn) => {
                    if server != first {
                        self.current.store(server, Ordering::Relaxed);
                        tracing::warn!(server = %place, "another LDAP server is used, since the one before it failed");
                    }
                    self.set_down(None);
                    return Ok(conn);
                }
                Err(error) => faults.push((place.to_string(), error)),
            }
        }
        let error = told(&faults);
        self.set_down(Some((Instant::now(), error.clone())));
        Err(error)
    }

    /// Hears that a server has failed: another is tried first next time.
    fn suspect(&self, server: usize) {
        let next = (server + 1) % self.places.len().max(1);
        let _ = self.current.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Hears that a server has not answered in time.
    fn silent(&self, server: usize) -> Error {
        self.suspect(server);
        self.set_down(Some((Instant::now(), unavailable("the server did not answer in time"))));
        fault::timeout("the server did not answer in time")
    }

    /// Hears what a server has answered. Reports whether that is an answer: if not, another server is tried first next
    /// time.
    fn heard(&self, server: usize, answer: &Answer) -> bool {
        if answer.is_no_answer() {
            if let Some(place) = self.places.get(server) {
                tracing::warn!(server = %place, ldap_code = answer.code, "an LDAP server says that it can't answer now");
            }
            self.suspect(server);
            return false;
        }
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.is_some() {
            *down = None;
        }
        true
    }

    /// Returns how many other servers there are to ask when one can't answer.
    const fn others(&self) -> usize {
        self.places.len().saturating_sub(1)
    }

    /// Limits a wait for a turn: overloaded if the servers are known to answer, else what is wrong with them.
    async fn turn<'a>(&self, turns: &'a Semaphore, wait: Duration) -> Result<SemaphorePermit<'a>> {
        match timeout(wait, turns.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Internal, "a pool was closed")),
            Err(_) => Err(match self.down() {
                Some((_, error)) => error,
                None => Error::new(ErrorKind::Overloaded, "all LDAP connections are in use"),
            }),
        }
    }
}

/// Makes one error of what is wrong with each of the servers. One that may pass hides those that will not: another
/// server may come back.
fn told(faults: &[(String, Error)]) -> Error {
    let chosen = faults.iter().find(|(_, error)| error.kind().is_temporary()).or(faults.first());
    match chosen {
        None => fault::wrong("there is no server"),
        Some((place, error)) => error.clone().with("server", place),
    }
}

/// Connections that search, each for many at once.
#[derive(Debug)]
pub(crate) struct Service {
    servers: Arc<Servers>,
    identity: Identity,
    slots: Vec<tokio::sync::Mutex<Option<Held>>>,
    next: AtomicUsize,
    turns: Semaphore,
    wait: Duration,
    limit: Duration,
    idle: Duration,
}

#[derive(Debug, Clone)]
struct Held {
    conn: Arc<Conn>,
    used: Instant,
}

impl Service {
    pub(crate) fn new(servers: Arc<Servers>, settings: &Settings) -> Self {
        Self {
            servers,
            identity: settings.identity.clone(),
            slots: (0..settings.pool.service_connections).map(|_| tokio::sync::Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            turns: Semaphore::new(settings.pool.searches),
            wait: Duration::from_millis(settings.pool.wait_ms),
            limit: settings.timeout(),
            idle: Duration::from_millis(settings.pool.idle_ms),
        }
    }

    /// Searches, and asks once more on a new connection if the old one is lost, or the other servers if one says that
    /// it can't answer now: a search changes nothing.
    ///
    /// # Errors
    /// Any kind. What the server answers is for the caller to read.
    pub(crate) async fn search(&self, query: &Query<'_>) -> Result<Found> {
        let limit = self.limit;
        self.ask(|conn| async move { conn.search(query, limit).await }).await
    }

    /// Compares a value; else as [`search`](Self::search).
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn compare(&self, dn: &str, attribute: &str, value: &[u8]) -> Result<Answer> {
        self.ask(|conn| async move { conn.compare(dn, attribute, value).await }).await
    }

    async fn ask<T: AsRef<Answer>, F: Future<Output = Result<T>>>(
        &self,
        question: impl Fn(Arc<Conn>) -> F,
    ) -> Result<T> {
        let _turn = self.servers.turn(&self.turns, self.wait).await?;
        let mut again = true;
        let mut others = self.servers.others();
        loop {
            let (conn, is_new) = self.connection().await?;
            match timeout(self.limit, question(Arc::clone(&conn))).await {
                Ok(Ok(answer)) => {
                    if self.servers.heard(conn.server, answer.as_ref()) {
                        return Ok(answer);
                    }
                    // Behind one address there may be several servers, too.
                    conn.retire();
                    if others == 0 {
                        return Ok(answer);
                    }
                    others -= 1;
                }
                Ok(Err(error)) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Ok(Err(error)) => {
                    conn.retire();
                    if !again || is_new {
                        self.servers.suspect(conn.server);
                        return Err(error);
                    }
                    again = false;
                }
                Err(_) => {
                    conn.retire();
                    return Err(self.servers.silent(conn.server));
                }
            }
        }
    }

    /// Returns a connection, and whether it is new.
    async fn connection(&self) -> Result<(Arc<Conn>, bool)> {
        let began = Instant::now();
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(at) else {
            return Err(Error::new(ErrorKind::Internal, "there is no connection"));
        };
        // Whoever comes while it is being made waits for it, as long as making it may take.
        let patience = self.wait
            + self
                .servers
                .connect_timeout
                .saturating_mul(u32::try_from(self.servers.places.len()).unwrap_or(1));
        let mut held = timeout(patience, slot.lock()).await.map_err(|_| {
            let down = self.servers.down().map(|(_, error)| error);
            down.unwrap_or_else(|| unavailable("connecting took too long"))
        })?;
        if let Some(held) = held.as_mut() {
            let fresh = held.used.elapsed() < self.idle
                && held.conn.made.elapsed() < OLDEST
                && held.conn.server == self.servers.current.load(Ordering::Relaxed);
            if fresh && held.conn.is_usable() {
                held.used = Instant::now();
                return Ok((Arc::clone(&held.conn), false));
            }
        }
        *held = None;
        // Those who have waited for an attempt that failed share its failure.
        if let Some((when, error)) = self.servers.down()
            && when > began
        {
            return Err(error);
        }
        let conn = Arc::new(self.servers.connect(&self.identity).await?);
        *held = Some(Held { conn: Arc::clone(&conn), used: Instant::now() });
        Ok((conn, true))
    }
}

/// Connections that only try passwords, each one at a time. After any doubt one is not used again.
#[derive(Debug)]
pub(crate) struct Binds {
    servers: Arc<Servers>,
    idle: Mutex<Vec<(Conn, Instant)>>,
    turns: Semaphore,
    wait: Duration,
    limit: Duration,
    longest: Duration,
}

/// A connection that is somebody's, as long as this is held.
#[derive(Debug)]
pub(crate) struct Lent<'a> {
    pool: &'a Binds,
    conn: Conn,
    _turn: SemaphorePermit<'a>,
}

impl Lent<'_> {
    /// Gives it back: everything on it was answered.
    pub(crate) fn done(self) {
        if self.conn.is_usable() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((self.conn, Instant::now()));
        }
    }

    /// Searches as the person whose password was right.
    ///
    /// # Errors
    /// Any kind; the connection is not used again.
    pub(crate) async fn search(&self, query: &Query<'_>) -> Result<Found> {
        let limit = self.pool.limit;
        let found = timeout(limit, self.conn.search(query, limit)).await;
        let found = found.unwrap_or_else(|_| Err(self.pool.servers.silent(self.conn.server)))?;
        self.pool.servers.heard(self.conn.server, &found.answer);
        Ok(found)
    }
}

impl Binds {
    pub(crate) fn new(servers: Arc<Servers>, settings: &Settings) -> Self {
        Self {
            servers,
            idle: Mutex::default(),
            turns: Semaphore::new(settings.pool.bind_connections),
            wait: Duration::from_millis(settings.pool.wait_ms),
            limit: settings.timeout(),
            longest: Duration::from_millis(settings.pool.idle_ms),
        }
    }

    /// Tries a password, on another server if one says that it can't answer now.
    ///
    /// # Errors
    /// Any kind: nothing is known of the password.
    pub(crate) async fn bind(&self, dn: &str, password: &str) -> Result<(Answer, Lent<'_>)> {
        let turn = self.servers.turn(&self.turns, self.wait).await?;
        let mut kept = self.kept();
        let mut others = self.servers.others();
        let (conn, answer) = loop {
            let (conn, is_new) = match kept.take() {
                Some(conn) => (conn, false),
                None => (self.servers.connect(&Identity::Nobody).await?, true),
            };
            match timeout(self.limit, conn.bind(dn, password)).await {
                Ok(Ok(answer)) => {
                    if self.servers.heard(conn.server, &answer) || others == 0 {
                        break (conn, answer);
                    }
                    others -= 1;
                }
                // One that was kept may have been closed meanwhile; then nobody has seen the password.
                Ok(Err(error)) if !is_new && error.kind() == ErrorKind::Unavailable => {}
                Ok(Err(error)) => {
                    self.servers.suspect(conn.server);
                    return Err(error);
                }
                Err(_) => return Err(self.servers.silent(conn.server)),
            }
        };
        Ok((answer, Lent { pool: self, conn, _turn: turn }))
    }

    /// Returns one that was kept and can be used, as far as is known.
    fn kept(&self) -> Option<Conn> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.servers.current.load(Ordering::Relaxed);
        idle.retain(|(conn, since)| {
            conn.is_usable() && since.elapsed() < self.longest && conn.server == current
        });
        idle.pop().map(|(conn, _)| conn)
    }
}
