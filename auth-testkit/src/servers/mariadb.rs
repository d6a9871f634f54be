//! One MariaDB.

use std::path::PathBuf;
use std::process::Command;

use super::process::{ATTEMPTS, Program, Server, Taken, free_ports, path};
use super::{DatabaseTls, until};

const MARIADB: Program = Program { name: "mariadbd", package: "mariadb-server", skip: "mariadb" };
const INSTALL: Program = Program { name: "mariadb-install-db", package: "mariadb-server", skip: "mariadb" };

/// What the files are like; those who make them and those who use them must agree.
const FILES: [&str; 3] =
    ["--innodb-log-file-size=8M", "--innodb-data-file-path=ibdata1:4M:autoextend", "--aria-log-file-size=8M"];

/// What is written may be lost with the machine; and a collation that folds, as most have it.
const SETTINGS: [&str; 12] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=off",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=32M",
    "--aria-pagecache-buffer-size=8M",
    "--key-buffer-size=1M",
    "--sync-frm=0",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_ci",
];

/// What a [`MariaDb`] is like.
#[derive(Debug, Clone, Default)]
pub struct MariaDbOptions {
    /// The server speaks TLS too.
    pub tls: Option<DatabaseTls>,
    /// More arguments: `--max-connections=10`. No secrets: everybody can read them.
    pub more: Vec<String>,
}

/// A MariaDB of its own, with a user [`USER`](Self::USER) who may do all in what [`create`](Self::create) makes.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
    options: MariaDbOptions,
    port: u16,
}

impl MariaDb {
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
    pub fn start(options: &MariaDbOptions) -> Self {
        let [port] = free_ports();
        let mut mariadb = Self { server: Server::in_memory(&MARIADB), options: options.clone(), port };
        mariadb.make();
        for _ in 0..ATTEMPTS {
            if mariadb.launch().is_ok() {
                mariadb.sql(
                    "mysql",
                    &format!("CREATE USER {}@'%' IDENTIFIED BY '{}'", Self::USER, Self::PASSWORD),
                );
                return mariadb;
            }
            [mariadb.port] = free_ports();
        }
        panic!("mariadbd found no free port {ATTEMPTS} times");
    }

    fn file(&self, name: &str) -> String {
        self.server.folder().join(name).display().to_string()
    }

    #[track_caller]
    fn make(&self) {
        let mut args = vec!["--no-defaults".to_owned(), format!("--datadir={}", self.file("data"))];
        args.push(format!("--tmpdir={}", self.server.folder().display()));
        args.extend(["--skip-test-db", "--auth-root-authentication-method=normal"].map(str::to_owned));
        args.extend(FILES.map(str::to_owned));
        self.server.run(&INSTALL, &args);
        if let Some(tls) = &self.options.tls {
            let shown = if tls.wrong_name { tls.certs.wrong_name() } else { tls.certs.server() };
            for (name, from) in [("crt", shown.certificate), ("key", shown.key), ("ca", tls.certs.ca())] {
                self.server.write(name, std::fs::read(from).expect("a certificate or its key"));
            }
        }
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let mut args = vec!["--no-defaults".to_owned(), format!("--datadir={}", self.file("data"))];
        args.push(format!("--socket={}", self.socket().display()));
        args.push(format!("--pid-file={}", self.file("pid")));
        args.push(format!("--tmpdir={}", self.server.folder().display()));
        args.push(format!("--port={}", self.port));
        args.extend(FILES.into_iter().chain(SETTINGS).map(str::to_owned));
        if self.options.tls.is_some() {
            for (option, name) in [("ssl-cert", "crt"), ("ssl-key", "key"), ("ssl-ca", "ca")] {
                args.push(format!("--{option}={}", self.file(name)));
            }
        }
        args.extend(self.options.more.iter().cloned());
        self.server.launch(&args, |pid| {
            // Not somebody else who has the port by now; and it takes connections.
            std::fs::read_to_string(self.file("pid")).is_ok_and(|noted| noted.trim() == pid.to_string())
                && self.try_sql("mysql", "SELECT 1").is_ok()
        })
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path of the unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.server.folder().join("socket")
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
        format!("mariadb://{}:{}@127.0.0.1:{}/{database}", Self::USER, Self::PASSWORD, self.port)
    }

    /// Returns what the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Makes an empty database in which the user may do all.
    ///
    /// # Panics
    /// If there is one of that name, or the server does not answer.
    #[track_caller]
    pub fn create(&self, database: &str) {
        let user = Self::USER;
        self.sql("mysql", &format!("CREATE DATABASE {database}; GRANT ALL ON {database}.* TO {user}@'%'"));
    }

    /// Runs statements as the superuser, on a connection of their own. Returns the rows, a line each, with a tabulator
    /// between the columns.
    ///
    /// # Panics
    /// If one fails.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements)
            .unwrap_or_else(|error| panic!("mariadb: {error}\n{}", self.server.log()))
    }

    /// Runs statements that may fail.
    ///
    /// # Errors
    /// What the program mariadb says.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-N", "-B", "-u", "root", "--connect-timeout=5", "-D", database]);
        command.arg("-S").arg(self.socket()).args(["-e", statements]).env("PATH", path());
        let output = command.output().expect("mariadb, of the package mariadb-client");
        let text = |said: Vec<u8>| String::from_utf8_lossy(&said).trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
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
