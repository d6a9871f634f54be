//! One connection to one server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, Value};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::config::{Address, Shape, Target};
use crate::{RedisConfig, fault};

/// Hears what a server says by itself, and that the connection has ended. Must not wait.
pub(crate) type Push = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Connects to servers.
pub(crate) struct Dialer {
    login: RedisConnectionInfo,
    tls: Option<TlsConnector>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) in_flight: usize,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("tls", &self.tls.is_some())
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// Where the one server that we want is to be found.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Here.
    At(Address),
    /// Where the sentinels say that it is.
    Watched(Vec<Address>, String),
    /// Anywhere in a cluster.
    Any(Vec<Address>),
}

impl Place {
    /// Where the one server is; in a cluster any node.
    pub(crate) fn of(shape: Shape) -> Self {
        match shape {
            Shape::One(address) => Self::At(address),
            Shape::Sentinels(sentinels, name) => Self::Watched(sentinels, name),
            Shape::Cluster(nodes) => Self::Any(nodes),
        }
    }

    /// Returns what a server is asked to learn whether it is one that is wanted here.
    pub(crate) fn question(&self) -> Cmd {
        match self {
            Self::Any(_) => redis::cmd("CLUSTER").arg("INFO").take(),
            _ => redis::cmd("INFO").arg("replication").take(),
        }
    }

    /// Reads the answer: a master, or in a cluster any node of one that is whole, as far as it knows. A node that was
    /// cut off from the others knows that after a while.
    pub(crate) fn accepts(&self, answer: Value) -> Result<()> {
        let answer = text(answer)?;
        let (name, wanted, fault) = match self {
            Self::Any(_) => ("cluster_state", "ok", "the cluster is down"),
            _ => ("role", "master", "the server is a replica"),
        };
        match field(&answer, name) {
            Some(found) if found == wanted => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Unavailable, fault)),
            None => Err(fault::unreadable()),
        }
    }
}

/// A connection. Ends when it is dropped, also for those who still wait for an answer.
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

/// A connection to the server that is wanted, and which life of it.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) wire: Wire,
    pub(crate) address: Address,
    pub(crate) incarnation: u64,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Dialer {
    pub(crate) fn new(config: &RedisConfig) -> Result<(Self, Shape)> {
        let target = config.parse()?;
        let tls = target.tls.then(|| connector(config)).transpose()?;
        let Target { shape, user, password, db, .. } = target;
        // RESP3: such a connection tells at once that it has ended, also while nothing is asked.
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(db);
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        let RedisConfig { timeout, connect_timeout, in_flight, .. } = *config;
        Ok((Self { login, tls, timeout, connect_timeout, in_flight }, shape))
    }

    /// Connects to the master that is at a place, or wherever it is now.
    pub(crate) async fn find(&self, place: &Place, push: &Push) -> Result<Master> {
        match place {
            Place::At(address) => self.master(place, address, push).await,
            Place::Watched(sentinels, name) => {
                let mut why = None;
                for sentinel in sentinels {
                    let found = match self.ask_sentinel(sentinel, name).await {
                        Ok(address) => self.master(place, &address, push).await,
                        Err(error) => Err(error.with("sentinel", sentinel)),
                    };
                    match found {
                        Ok(master) => return Ok(master),
                        Err(error) => why = Some(graver(why, error)),
                    }
                }
                Err(why.unwrap_or_else(fault::unreadable))
            }
            Place::Any(nodes) => {
                let mut why = None;
                for node in nodes {
                    match self.master(place, node, push).await {
                        Ok(master) => return Ok(master),
                        Err(error) => why = Some(graver(why, error)),
                    }
                }
                Err(why.unwrap_or_else(fault::unreadable))
            }
        }
    }

    /// Tells whether the sentinels say by now that the master is elsewhere. The first that answers is believed, as it
    /// is when the master is looked for.
    pub(crate) async fn has_moved(&self, place: &Place, from: &Address) -> bool {
        let Place::Watched(sentinels, name) = place else { return false };
        for sentinel in sentinels {
            if let Ok(address) = self.ask_sentinel(sentinel, name).await {
                return address != *from;
            }
        }
        false
    }

    async fn master(&self, place: &Place, address: &Address, push: &Push) -> Result<Master> {
        let greeting = async {
            let mut wire = self.open(address, &self.login, Some(push)).await?;
            let mut ask = Pipeline::with_capacity(3);
            ask.cmd("INFO").arg("server").cmd("INFO").arg("replication").add_command(place.question());
            let replies = wire.connection.send_packed_commands(&ask, 0, 3).await;
            let replies = replies.map_err(|error| fault::of(&error))?;
            let [server, replication, answer] =
                <[Value; 3]>::try_from(replies).map_err(|_| fault::unreadable())?;
            place.accepts(answer)?;
            let (server, replication) = (text(server)?, text(replication)?);
            let run = field(&server, "run_id").ok_or_else(fault::unreadable)?;
            // New each time that it becomes master: one that was demoted meanwhile has taken over what another held.
            let history = field(&replication, "master_replid").ok_or_else(fault::unreadable)?;
            Ok(Master { wire, address: address.clone(), incarnation: hash(&format!("{run} {history}")) })
        };
        self.limited(greeting).await.map_err(|error| error.with("server", address))
    }

    /// Connects to a server of whatever role, and asks it something.
    pub(crate) async fn ask(&self, address: &Address, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let asking = async {
            let mut wire = self.open(address, &self.login, None).await?;
            let replies = wire.connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
            replies.map_err(|error| fault::of(&error))
        };
        self.limited(asking).await.map_err(|error| error.with("server", address))
    }

    async fn ask_sentinel(&self, sentinel: &Address, name: &str) -> Result<Address> {
        let asking = async {
            // Most sentinels have no password, and refuse one. Those that have one have that of the servers.
            let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
            let mut reply = self.ask_where(sentinel, &nobody, name).await?;
            if matches!(&reply, Value::ServerError(error) if error.code() == "NOAUTH") {
                let login = self.login.clone().set_db(0).set_protocol(ProtocolVersion::RESP2);
                reply = self.ask_where(sentinel, &login, name).await?;
            }
            match fault::checked(reply)? {
                Value::Array(parts) => match parts.as_slice() {
                    [Value::BulkString(host), Value::BulkString(port)] => {
                        let host = String::from_utf8(host.clone()).map_err(|_| fault::unreadable())?;
                        let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                        Ok(Address::Tcp(host, port.ok_or_else(fault::unreadable)?))
                    }
                    _ => Err(fault::unreadable()),
                },
                Value::Nil => {
                    Err(Error::new(ErrorKind::Misconfigured, "the sentinel knows no master of that name"))
                }
                _ => Err(fault::unreadable()),
            }
        };
        self.limited(asking).await
    }

    async fn ask_where(&self, sentinel: &Address, login: &RedisConnectionInfo, name: &str) -> Result<Value> {
        let mut wire = self.open(sentinel, login, None).await?;
        let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).take();
        wire.connection.send_packed_command(&ask).await.map_err(|error| fault::of(&error))
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.connect_timeout, work).await.unwrap_or_else(|_| Err(fault::timeout()))
    }

    async fn open(
        &self,
        address: &Address,
        login: &RedisConnectionInfo,
        push: Option<&Push>,
    ) -> Result<Wire> {
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "there is no connection").because(error)
        };
        let stream: Box<dyn Stream> = match address {
            Address::Unix(path) => Box::new(UnixStream::connect(PathBuf::from(path)).await.map_err(refused)?),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                match &self.tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let name = ServerName::try_from(host.clone()).map_err(|error| {
                            Error::new(ErrorKind::Misconfigured, "no certificate has such a host")
                                .because(error)
                        })?;
                        Box::new(tls.connect(name, stream).await.map_err(refused)?)
                    }
                }
            }
        };
        // The limit of a call is ours. What waits for the driver is bounded by what may be in flight.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.in_flight.min(512));
        if let Some(push) = push {
            let push = Arc::clone(push);
            config = config.set_push_sender(move |info| {
                push(info);
                Ok::<(), redis::aio::SendError>(())
            });
        }
        let opened = MultiplexedConnection::new_with_config(login, stream, config).await;
        let (connection, driver) = opened.map_err(|error| fault::of(&error))?;
        Ok(Wire { connection, driver: tokio::spawn(driver).abort_handle() })
    }
}

/// Of two failures the one that an operator must know of.
pub(crate) fn graver(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if before.kind() == ErrorKind::Misconfigured => before,
        _ => error,
    }
}

/// Takes the text out of a reply.
pub(crate) fn text(value: Value) -> Result<String> {
    match fault::checked(value)? {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| fault::unreadable()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Ok(text),
        _ => Err(fault::unreadable()),
    }
}

/// Finds a field of the reply to INFO.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Makes a number of a server's random name; the same in every process (FNV-1a).
fn hash(run: &str) -> u64 {
    run.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn connector(config: &RedisConfig) -> Result<TlsConnector> {
    let wrong = |text: &'static str| Error::new(ErrorKind::Misconfigured, text);
    let mut roots = RootCertStore::empty();
    match &config.tls.ca {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|error| wrong("the CA is none").because(error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(wrong("there is no CA to trust: neither a configured one nor any of the system"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "TLS can't be set up").because(error))?
        .with_root_certificates(roots);
    let client = match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            // The cause is not told: it may show what it could not read.
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| wrong("the key is no PEM of a private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| wrong("the certificate and the key do not fit together"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(client)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::new(ErrorKind::Misconfigured, "a certificate is no PEM")),
    }
}
