//! One Redis.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::certs::Certs;
use super::process::{ATTEMPTS, Program, Server, Taken, free_ports};
use super::until;
use super::wire::{Reply, Wire};

const SERVER: Program = Program { name: "redis-server", package: "redis-server", skip: "redis" };
const SENTINEL: Program = Program { name: "redis-sentinel", package: "redis-sentinel", skip: "redis" };

/// As whom a test looks at a server, whatever users the test has made.
const WATCHER: [&str; 2] = ["testkit", "testkit-looks-in"];

/// What a [`Redis`] is like. By default: one database's worth of nothing, open to everybody on this machine.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// The password of the user `default`.
    pub password: Option<String>,
    /// More users, as the ACL file words them: `app on >secret ~auth:* &auth:* +@all`. One that begins with `default`
    /// says what that user may.
    pub users: Vec<String>,
    /// Only TLS, but on the socket.
    pub tls: Option<RedisTls>,
    /// The most memory in bytes; what comes then is refused.
    pub max_memory: Option<u64>,
    /// How many databases there are; 16 if nothing is said.
    pub databases: Option<u32>,
    /// More lines of the configuration.
    pub more: Vec<String>,
}

/// With which certificates a [`Redis`] speaks TLS.
#[derive(Debug, Clone)]
pub struct RedisTls {
    /// All there are.
    pub certs: Arc<Certs>,
    /// Whether clients must show one.
    pub clients: ClientCerts,
    /// Whether the server shows the one that names another host.
    pub wrong_name: bool,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCerts {
    /// Nobody asks for it.
    Unasked,
    /// If they have one, it must be good.
    Optional,
    /// Without one nobody is served.
    Required,
}

/// What a server has when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Nothing.
    Empty,
    /// What it has written into its folder: in Redis, the snapshot of the last `SAVE`.
    FromFiles,
}

/// What it does.
#[derive(Debug, Clone)]
pub(super) enum Role {
    Alone,
    Node,
    /// Watches the master on this port.
    Sentinel(u16),
}

/// A Redis of its own.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    options: RedisOptions,
    role: Role,
    port: u16,
    bus: u16,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(options: &RedisOptions) -> Self {
        Self::start_as(&Role::Alone, options)
    }

    #[track_caller]
    pub(super) fn start_as(role: &Role, options: &RedisOptions) -> Self {
        for _ in 0..ATTEMPTS {
            let program = if matches!(role, Role::Sentinel(_)) { &SENTINEL } else { &SERVER };
            let [port, bus] = free_ports();
            let redis = Self {
                server: Server::new(program),
                options: options.clone(),
                role: role.clone(),
                port,
                bus,
            };
            redis.configure();
            if redis.launch().is_ok() {
                return redis;
            }
        }
        panic!("redis found no free port {ATTEMPTS} times");
    }

    fn configure(&self) {
        let (port, folder) = (self.port, self.server.folder().display());
        let mut lines = vec!["bind 127.0.0.1".to_owned(), format!("dir {folder}"), "daemonize no".to_owned()];
        let mut say = |line: String| lines.push(line);
        if let Role::Sentinel(master) = self.role {
            say(format!("port {port}"));
            say(format!("sentinel monitor {} 127.0.0.1 {master} 2", super::RedisSentinel::NAME));
            say(format!("sentinel down-after-milliseconds {} 500", super::RedisSentinel::NAME));
            say(format!("sentinel failover-timeout {} 3000", super::RedisSentinel::NAME));
        } else {
            say(format!("unixsocket {}", self.socket().display()));
            say("unixsocketperm 777".to_owned());
            // A snapshot is made when the test says so, and read at a start.
            say("save \"\"".to_owned());
            say("appendonly no".to_owned());
            say("repl-diskless-sync-delay 0".to_owned());
            say(format!("user {} on >{} ~* &* +@all", WATCHER[0], WATCHER[1]));
        }
        if let Some(tls) = &self.options.tls {
            let shown = if tls.wrong_name { tls.certs.wrong_name() } else { tls.certs.server() };
            let copy = |name: &str, from: PathBuf| {
                self.server.write(name, std::fs::read(from).expect("a certificate or its key"))
            };
            say("port 0".to_owned());
            say(format!("tls-port {port}"));
            say(format!("tls-cert-file {}", copy("server.crt", shown.certificate).display()));
            say(format!("tls-key-file {}", copy("server.key", shown.key).display()));
            say(format!("tls-ca-cert-file {}", copy("ca.crt", tls.certs.ca()).display()));
            let clients = match tls.clients {
                ClientCerts::Unasked => "no",
                ClientCerts::Optional => "optional",
                ClientCerts::Required => "yes",
            };
            say(format!("tls-auth-clients {clients}"));
            say("tls-replication yes".to_owned());
            say("tls-cluster yes".to_owned());
        } else if !matches!(self.role, Role::Sentinel(_)) {
            say(format!("port {port}"));
        }
        if let Role::Node = self.role {
            say("cluster-enabled yes".to_owned());
            say(format!("cluster-port {}", self.bus));
            say("cluster-node-timeout 2000".to_owned());
            say("cluster-require-full-coverage no".to_owned());
        }
        self.options.password.iter().for_each(|password| say(format!("requirepass {password}")));
        self.options.users.iter().for_each(|user| say(format!("user {user}")));
        self.options.max_memory.iter().for_each(|bytes| say(format!("maxmemory {bytes}")));
        self.options.databases.iter().for_each(|count| say(format!("databases {count}")));
        self.options.more.iter().for_each(|line| say(line.clone()));
        self.server.write("redis.conf", lines.join("\n") + "\n");
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let file = self.server.folder().join("redis.conf");
        self.server.launch(&[file.display().to_string()], |pid| {
            // Not somebody else who has the port by now.
            let is_it = |info: &Reply| {
                matches!(info, Reply::Bulk(text)
                    if String::from_utf8_lossy(text).lines().any(|line| line == format!("process_id:{pid}")))
            };
            self.try_command(&["INFO", "server"]).is_ok_and(|info| is_it(&info))
                && self.try_command(&["PING"]).is_ok_and(|pong| pong == Reply::Simple("PONG".into()))
        })
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(super) const fn bus(&self) -> u16 {
        self.bus
    }

    /// Returns the path of the unix socket. Sentinels have none.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.server.folder().join("redis.sock")
    }

    /// Returns the process.
    ///
    /// # Panics
    /// If it has been killed.
    #[track_caller]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Returns the URL, with the password of the user `default`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "rediss" } else { "redis" };
        let password = self.options.password.as_ref().map_or_else(String::new, |text| format!(":{text}@"));
        format!("{scheme}://{password}127.0.0.1:{}", self.port)
    }

    /// Returns what the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks the server, on a connection of its own, as somebody who may do everything.
    ///
    /// # Panics
    /// If it does not answer within five seconds.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> Reply {
        match self.try_command(command) {
            Ok(reply) => reply,
            Err(error) => panic!("redis does not answer: {error}\n{}", self.log()),
        }
    }

    /// Asks a database of this number, else as [`command`](Self::command) does.
    ///
    /// # Panics
    /// If the server does not answer within five seconds.
    #[track_caller]
    pub fn command_in<A: AsRef<[u8]>>(&self, database: u32, command: &[A]) -> Reply {
        let asked = self.wire().and_then(|mut wire| {
            wire.redis(&["SELECT", &database.to_string()])?;
            wire.redis(command)
        });
        match asked {
            Ok(reply) => reply,
            Err(error) => panic!("redis does not answer: {error}\n{}", self.log()),
        }
    }

    /// Asks a server that may be unable to answer.
    ///
    /// # Errors
    /// If it does not answer within five seconds. What the server refuses is a [`Reply::Error`].
    pub fn try_command<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Reply> {
        self.wire()?.redis(command)
    }

    fn wire(&self) -> io::Result<Wire> {
        if let Role::Sentinel(_) = self.role {
            return Wire::tcp(self.port);
        }
        // Plain, also where the port speaks TLS.
        let mut wire = Wire::unix(&self.socket())?;
        match wire.redis(&["AUTH", WATCHER[0], WATCHER[1]])? {
            Reply::Simple(_) => Ok(wire),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it with SIGSTOP: it keeps its connections and answers nothing.
    ///
    /// # Panics
    /// If it has been killed.
    #[track_caller]
    pub fn stop_signal(&self) {
        self.server.stop();
    }

    /// Lets it go on with SIGCONT.
    ///
    /// # Panics
    /// If it has been killed.
    #[track_caller]
    pub fn cont_signal(&self) {
        self.server.cont();
    }

    /// Kills it if it runs, and starts it on the same port.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart(&self, with: Restart) {
        self.kill();
        if with == Restart::Empty {
            self.server.clear();
            self.configure();
        }
        until("the port is free again", || self.launch().is_ok());
    }
}
