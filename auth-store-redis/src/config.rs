//! What is configured, checked before anything is connected to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

/// The most hosts that a URL may list.
const MAX_HOSTS: usize = 32;

/// The longest prefix, in bytes.
pub(crate) const MAX_PREFIX: usize = 64;

/// The port of a server that names none.
const PORT: u16 = 6379;

/// The port of a sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// Where the server is, and how it is spoken to.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The address; the README lists its forms. May hold a password.
    pub url: String,
    /// What every key and the channel begin with: one tenant's name. Never empty.
    pub prefix: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long it may take to connect.
    pub connect_timeout: Duration,
    /// How many requests may be on their way at once.
    pub in_flight: usize,
    /// Whom TLS trusts, and who we are.
    pub tls: TlsConfig,
}

/// Certificates, as PEM.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whom to trust; by default whom the system trusts.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, with those that lead to it.
    pub cert: Option<Vec<u8>>,
    /// The key of our certificate. Secret.
    pub key: Option<Vec<u8>>,
}

impl RedisConfig {
    /// Takes an address and a prefix. The rest has its defaults: 50 ms for a call, 200 ms to connect, 4,096 requests
    /// at once.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(200),
            in_flight: 4096,
            tls: TlsConfig::default(),
        }
    }

    /// Checks everything that can be checked without a connection.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), which never tells the password.
    pub fn check(&self) -> Result<()> {
        self.parse().map(drop)
    }

    pub(crate) fn parse(&self) -> Result<Target> {
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX {
            return Err(wrong(format!("the prefix has 1 to {MAX_PREFIX} characters")));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@#+=-".contains(&byte);
        if !self.prefix.bytes().all(plain) {
            return Err(wrong("the prefix has letters, digits and ._:/@#+=- only"));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() || self.in_flight == 0 {
            return Err(wrong("timeout, connect_timeout and in_flight are more than 0"));
        }
        let target = Target::parse(&self.url)?;
        let tls = &self.tls;
        if !target.tls && (tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some()) {
            return Err(wrong("certificates are given, but the address is not one of TLS (rediss...)"));
        }
        if tls.cert.is_some() != tls.key.is_some() {
            return Err(wrong("a certificate needs its key, and a key its certificate"));
        }
        Ok(target)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &masked(&self.url))
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("in_flight", &self.in_flight)
            .field("tls", &self.tls)
            .finish()
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = |pem: &Option<Vec<u8>>| if pem.is_some() { "given" } else { "none" };
        f.debug_struct("TlsConfig")
            .field("ca", &given(&self.ca))
            .field("cert", &given(&self.cert))
            .field("key", &given(&self.key))
            .finish()
    }
}

/// Hides who logs in and with what. An `@` in a password hides more, never less.
fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://***@{hosts}"),
        (Some(_), None) => url.to_owned(),
        (None, _) => "***".to_owned(),
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    One(Address),
    /// The sentinels, and the name of what they watch.
    Sentinels(Vec<Address>, String),
    /// Some nodes of a cluster.
    Cluster(Vec<Address>),
}

/// An address, taken apart.
pub(crate) struct Target {
    pub(crate) shape: Shape,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
}

impl Target {
    fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("the address is no URL, as redis://host:6379/0 is one"));
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        // What comes before the path, which may have an `@` itself.
        let (front, path) = rest.split_once('/').map_or((rest, ""), |(front, path)| (front, path));
        let (login, hosts) = front.rsplit_once('@').map_or(("", front), |(login, hosts)| (login, hosts));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (decoded(login)?, String::new()),
        };
        let user = Some(user).filter(|user| !user.is_empty());
        let password = Some(password).filter(|password| !password.is_empty());
        if user.is_some() && password.is_none() {
            return Err(wrong(
                "the address has a user without a password; it is user:password@ or :password@",
            ));
        }
        let (shape, db) = match scheme {
            "redis" | "rediss" => {
                if query.is_some() {
                    return Err(wrong("the address has no ?, but what follows it"));
                }
                (Shape::One(only(addresses(hosts, PORT)?)?), path)
            }
            "redis+unix" => {
                if !hosts.is_empty() || path.is_empty() {
                    return Err(wrong("a unix socket is redis+unix:///path?db=0"));
                }
                let db = match query.map(|query| query.split_once('=')) {
                    None => "",
                    Some(Some(("db", db))) => db,
                    Some(_) => return Err(wrong("the only thing that a unix socket takes after ? is db=")),
                };
                (Shape::One(Address::Unix(format!("/{}", decoded(path)?).into())), db)
            }
            "redis-sentinel" | "rediss-sentinel" => {
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() || query.is_some() {
                    return Err(wrong("sentinels are redis-sentinel://host:26379,host:26379/name/0"));
                }
                (Shape::Sentinels(addresses(hosts, SENTINEL_PORT)?, decoded(name)?), db)
            }
            "redis-cluster" | "rediss-cluster" => {
                if !matches!(path, "" | "0") || query.is_some() {
                    return Err(wrong("a cluster has the database 0 only"));
                }
                (Shape::Cluster(addresses(hosts, PORT)?), "")
            }
            _ => {
                return Err(wrong(
                    "the address begins with redis://, rediss://, redis+unix://, redis-sentinel://, \
                     rediss-sentinel://, redis-cluster:// or rediss-cluster://",
                ));
            }
        };
        let db = match db {
            "" => 0,
            db => match db.parse::<u16>() {
                Ok(db) => i64::from(db),
                Err(_) => return Err(wrong("the database is a number")),
            },
        };
        Ok(Self { shape, tls: scheme.starts_with("rediss"), user, password, db })
    }
}

fn only(addresses: Vec<Address>) -> Result<Address> {
    match <[Address; 1]>::try_from(addresses) {
        Ok([address]) => Ok(address),
        Err(_) => {
            Err(wrong("several hosts are for redis-cluster:// and redis-sentinel://; redis:// takes one"))
        }
    }
}

fn addresses(hosts: &str, port: u16) -> Result<Vec<Address>> {
    if hosts.split(',').count() > MAX_HOSTS {
        return Err(wrong(format!("the address lists more than {MAX_HOSTS} hosts")));
    }
    hosts.split(',').map(|host| address(host, port)).collect()
}

fn address(text: &str, port: u16) -> Result<Address> {
    // The host itself is not told: where a password is written wrongly, part of it stands there.
    let fault = || wrong("a host is name:port, 192.0.2.1:port or [2001:db8::1]:port");
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').ok_or_else(fault)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?,
        None if rest.is_empty() => port,
        None => return Err(fault()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(fault());
    }
    Ok(Address::Tcp(host.to_owned(), port))
}

fn decoded(text: &str) -> Result<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(wrong("what is percent-encoded in the address is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.into(), port)
    }

    #[test]
    fn an_address_is_taken_apart() {
        let plain = target("redis://calvin:ho%40bb%2Fes@[::1]:7000/3");
        assert_eq!(plain.shape, Shape::One(tcp("::1", 7000)));
        assert_eq!(
            (plain.user.as_deref(), plain.password.as_deref(), plain.db),
            (Some("calvin"), Some("ho@bb/es"), 3)
        );
        let tls = target("rediss://:secret@cache.example");
        assert!(tls.tls && tls.user.is_none());
        assert_eq!(tls.shape, Shape::One(tcp("cache.example", 6379)));
        let unix = target("redis+unix:///run/redis%20a.sock?db=2");
        assert_eq!((unix.shape, unix.db), (Shape::One(Address::Unix("/run/redis a.sock".into())), 2));
        let sentinels = target("rediss-sentinel://u:p@a,b:26380/main/1");
        let both = vec![tcp("a", 26379), tcp("b", 26380)];
        assert_eq!((sentinels.shape, sentinels.db), (Shape::Sentinels(both, "main".into()), 1));
        assert!(sentinels.tls);
        assert_eq!(target("redis-cluster://a:1,b:2/0").shape, Shape::Cluster(vec![tcp("a", 1), tcp("b", 2)]));
    }

    #[test]
    fn what_is_wrong_is_refused_without_telling_the_password() {
        let many = format!("redis-cluster://{}", vec!["a"; MAX_HOSTS + 1].join(","));
        for url in [
            "localhost",
            "http://u:hunter2@localhost",
            "redis://u:hunter2@a,b",
            "redis://u:hunter2@a:0",
            "redis://u:hunter2@a:70000",
            "redis://u:hunter2@a/x",
            "redis://u:hunter2@a/0?db=1",
            "redis://u@a",
            "redis://u:hunter2/x@a",
            "redis://u:%ffhunter2@a",
            "redis://[::1",
            "redis+unix://host/path",
            "redis+unix:///path?hunter2=1",
            "redis-cluster://u:hunter2@a/1",
            "redis-sentinel://u:hunter2@a",
            &many,
        ] {
            let error = RedisConfig::new(url, "gp:").check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for scheme in ["redis+unix://", "rediss-sentinel://", "redis-cluster://"] {
            assert!(Target::parse("valkey://a").err().is_some_and(|error| error.message().contains(scheme)));
        }
    }

    #[test]
    fn a_prefix_can_be_no_pattern_and_no_hash_tag() {
        for prefix in ["", "a*", "a{b}", "a b", "ä", &"a".repeat(MAX_PREFIX + 1)] {
            assert!(RedisConfig::new("redis://a", prefix).check().is_err(), "{prefix}");
        }
        assert!(RedisConfig::new("redis://a", "gatepost:prod/1:").check().is_ok());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut config = RedisConfig::new("rediss://calvin:hunter2@a/0", "gp:");
        config.tls.key = Some(b"hunter2".to_vec());
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2") && !text.contains("calvin") && text.contains("***@a/0"), "{text}");
        assert_eq!(masked("u:hunter2@a"), "***");
    }
}
