//! What a tier of memcached is told.

use std::path::PathBuf;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};

/// The port that is meant where none is named.
const PORT: u16 = 11_211;
/// The longest prefix, in bytes: with the 22 of a name it must leave room in the 250 of a key.
const LONGEST_PREFIX: usize = 100;

/// How commands reach memcached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MemcachedTransport {
    /// One connection to each server, which all callers share.
    #[default]
    Multiplexed,
    /// The pool of the crate `memcache`.
    Memcache,
}

/// How a [`MemcachedTier`](crate::MemcachedTier) is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemcachedConfig {
    /// `memcached://host:port[,host:port…]`, or `memcached+unix:///path`. The port may be left out: 11211. Each name
    /// is that of a server in all processes: the same server under two names is two.
    pub url: String,
    /// What every key begins with: one to 100 bytes of printable ASCII without blanks.
    pub prefix: String,
    /// How long a call may take. 50 ms.
    pub timeout: Duration,
    /// How long it may take to connect, and to hear from the server after that. 200 ms.
    pub connect_timeout: Duration,
    /// How many calls may wait for one server at once; more are refused. 1024.
    pub in_flight: usize,
    /// The largest entry that is sent, in bytes: somewhat less than the server's largest item (its `-I`), which it is
    /// kept in with its key. 1 MiB less 512 bytes.
    pub most_bytes: usize,
    /// How commands go to the server.
    pub transport: MemcachedTransport,
}

/// A server by its configured name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// In every process the same: it decides which entries the server has.
    pub(super) name: String,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A host and a port.
    Tcp((String, u16)),
    Unix(PathBuf),
}

impl MemcachedConfig {
    /// Sets up a tier with what is usual for the rest.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(200),
            in_flight: 1024,
            most_bytes: (1 << 20) - 512,
            transport: MemcachedTransport::default(),
        }
    }

    /// Checks everything, and returns the servers.
    pub(super) fn check(&self) -> Result<Vec<Server>> {
        let printable = self.prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || self.prefix.is_empty() || self.prefix.len() > LONGEST_PREFIX {
            return Err(odd("the prefix must be 1 to 100 bytes of printable ASCII without blanks"));
        }
        if self.timeout.is_zero()
            || self.connect_timeout.is_zero()
            || self.in_flight == 0
            || self.most_bytes == 0
        {
            return Err(odd("no limit may be zero"));
        }
        servers(&self.url)
    }
}

fn servers(url: &str) -> Result<Vec<Server>> {
    if let Some(path) = url.strip_prefix("memcached+unix://") {
        if !path.starts_with('/') {
            return Err(odd("a unix socket is named by `memcached+unix:///path`"));
        }
        return Ok(vec![Server { name: path.to_owned(), place: Place::Unix(path.into()) }]);
    }
    let Some(list) = url.strip_prefix("memcached://") else {
        return Err(odd("the URL must begin with `memcached://` or `memcached+unix://`"));
    };
    if list.contains(['@', '/', '?', '#']) {
        // Never show it: there may be a password in it.
        return Err(odd("the URL has hosts and ports only: `memcached://host:port,host:port`"));
    }
    let servers = list.split(',').map(server).collect::<Result<Vec<_>>>()?;
    let twice = |(at, server): (usize, &Server)| servers.iter().take(at).any(|other| other == server);
    if servers.iter().enumerate().any(twice) {
        return Err(odd("the URL names a server twice"));
    }
    Ok(servers)
}

fn server(text: &str) -> Result<Server> {
    // An IPv6 address has colons of its own, and is in brackets.
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or_else(|| odd("an address lacks its `]`"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| odd("a port is no number"))?,
        None if rest.is_empty() => PORT,
        None => return Err(odd("a server is `host` or `host:port`")),
    };
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(fine) {
        return Err(odd("a server has no name, or one that can't be"));
    }
    let host = host.to_ascii_lowercase();
    Ok(Server { name: format!("{host}:{port}"), place: Place::Tcp((host, port)) })
}

fn odd(text: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, format!("memcached: {text}"))
}
