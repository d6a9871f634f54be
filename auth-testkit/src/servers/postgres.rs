//! One PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{ATTEMPTS, Program, Server, Taken, free_ports, path};
use super::{DatabaseTls, until};

const POSTGRES: Program = Program { name: "postgres", package: "postgresql", skip: "postgres" };
const INITDB: Program = Program { name: "initdb", package: "postgresql", skip: "postgres" };

/// As whom a test looks at a server: its superuser, on the socket only.
const WATCHER: &str = "testkit";

/// What a [`Postgres`] is like.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// The server speaks TLS too.
    pub tls: Option<DatabaseTls>,
    /// More settings: `max_connections=10`. No secrets: everybody can read them.
    pub more: Vec<String>,
}

/// A PostgreSQL of its own, with a user [`USER`](Self::USER) who owns what [`create`](Self::create) makes.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    options: PostgresOptions,
    port: u16,
}

impl Postgres {
    /// The user whom applications log in as.
    pub const USER: &str = "app";
    /// Their password.
    pub const PASSWORD: &str = "tiger";

    /// Starts one.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(options: &PostgresOptions) -> Self {
        let [port] = free_ports();
        let mut postgres = Self { server: Server::in_memory(&POSTGRES), options: options.clone(), port };
        postgres.make();
        for _ in 0..ATTEMPTS {
            if postgres.launch().is_ok() {
                let user = format!("CREATE ROLE {} LOGIN PASSWORD '{}'", Self::USER, Self::PASSWORD);
                postgres.sql("postgres", &user);
                return postgres;
            }
            [postgres.port] = free_ports();
        }
        panic!("postgres found no free port {ATTEMPTS} times");
    }

    fn data(&self) -> PathBuf {
        self.server.folder().join("data")
    }

    #[track_caller]
    fn make(&self) {
        let data = self.data().display().to_string();
        let args = ["-D", &data, "-U", WATCHER, "--locale=C.UTF-8", "-E", "UTF8", "--no-sync", "-A", "trust"];
        self.server.run(&INITDB, &args.map(str::to_owned));
        let rules = format!(
            "local all {WATCHER} trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        self.server.write("hba", rules);
        if let Some(tls) = &self.options.tls {
            let shown = if tls.wrong_name { tls.certs.wrong_name() } else { tls.certs.server() };
            for (name, from) in [("crt", shown.certificate), ("key", shown.key), ("ca", tls.certs.ca())] {
                self.server.write(name, std::fs::read(from).expect("a certificate or its key"));
            }
        }
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let folder = self.server.folder().display();
        let mut args = vec!["-D".to_owned(), self.data().display().to_string()];
        let mut set = |setting: String| args.extend(["-c".to_owned(), setting]);
        set(format!("port={}", self.port));
        set("listen_addresses=127.0.0.1".to_owned());
        set(format!("unix_socket_directories={folder}"));
        set(format!("hba_file={folder}/hba"));
        // What is written may be lost with the machine, and nothing is left in its shared memory.
        for setting in ["fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=100"] {
            set(setting.to_owned());
        }
        set("dynamic_shared_memory_type=mmap".to_owned());
        if self.options.tls.is_some() {
            set("ssl=on".to_owned());
            set(format!("ssl_cert_file={folder}/crt"));
            set(format!("ssl_key_file={folder}/key"));
            set(format!("ssl_ca_file={folder}/ca"));
        }
        self.options.more.iter().for_each(|setting| set(setting.clone()));
        self.server.launch(&args, |pid| {
            // Not somebody else who has the port by now; and it takes connections.
            let noted = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            noted.lines().next() == Some(pid.to_string().as_str())
                && self.try_sql("postgres", "SELECT 1").is_ok()
        })
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.server.folder()
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

    /// Returns the URL of a database, with user and password.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{database}", Self::USER, Self::PASSWORD, self.port)
    }

    /// Returns what the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Makes an empty database that the user owns.
    ///
    /// # Panics
    /// If there is one of that name, or the server does not answer.
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {database} OWNER {}", Self::USER));
    }

    /// Runs statements as the superuser, on a connection of their own. Returns the rows, a line each, with `|` between
    /// the columns.
    ///
    /// # Panics
    /// If one fails.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements)
            .unwrap_or_else(|error| panic!("postgres: {error}\n{}", self.server.log()))
    }

    /// Runs statements that may fail.
    ///
    /// # Errors
    /// What psql says.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", WATCHER, "-d", database, "-c", statements]);
        command.args(["-p", &self.port.to_string(), "-h"]).arg(self.server.folder());
        command.env("PATH", path()).env("PGCONNECT_TIMEOUT", "5");
        let output = command.output().expect("psql, of the package postgresql-client");
        let text = |said: Vec<u8>| String::from_utf8_lossy(&said).trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it with SIGSTOP, with all that serve a connection: it keeps them and answers nothing.
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

    /// Kills it if it runs, and starts it on the same port, with what was committed.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        until("the port is free again", || self.launch().is_ok());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // One that is stopped takes no other signal, and one that is killed leaves a segment of shared memory behind.
        self.server.end("QUIT");
        let noted = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(segment) = noted.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["-m", segment]).output();
        }
    }
}
