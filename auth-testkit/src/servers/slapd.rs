//! One OpenLDAP.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::certs::{CertPair, Certs};
use super::process::{ATTEMPTS, Program, Server, Taken, free_ports};
use super::until;

const SLAPD: Program = Program { name: "slapd", package: "slapd", skip: "slapd" };

/// Modules beyond those of the package `slapd` are in `slapd-contrib`.
const MODULES: &str = "/usr/lib/ldap";

/// What a [`Slapd`] is like. By default: an empty tree under [`Slapd::BASE`], its schema, and what everybody may read.
#[derive(Debug, Clone, Default)]
pub struct SlapdOptions {
    /// With which certificate it speaks TLS, by `ldaps://` and StartTLS.
    pub tls: Option<SlapdTls>,
    /// More modules to load: `memberof`, `ppolicy`, `pw-sha2`, `argon2`.
    pub modules: Vec<String>,
    /// More lines of the configuration before the database.
    pub global: Vec<String>,
    /// More lines of the database: overlays, limits, and who may do what (everybody may read if none says that).
    pub database: Vec<String>,
    /// More lines at the end: another database.
    pub more: Vec<String>,
}

/// With which certificate a [`Slapd`] speaks TLS.
#[derive(Debug, Clone)]
pub struct SlapdTls {
    /// Whom it trusts.
    pub certs: Arc<Certs>,
    /// What it shows.
    pub shown: CertPair,
}

/// An OpenLDAP of its own. It logs every request, with its filter.
#[derive(Debug)]
pub struct Slapd {
    server: Server,
    options: Mutex<SlapdOptions>,
    port: u16,
    tls_port: u16,
}

impl Slapd {
    /// The name under which everything is.
    pub const BASE: &'static str = "dc=example,dc=com";
    /// Who may do everything.
    pub const ROOT: &'static str = "cn=root,dc=example,dc=com";
    /// The password of who may do everything.
    pub const PASSWORD: &'static str = "root-of-all";

    /// Starts one.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(options: &SlapdOptions) -> Self {
        for _ in 0..ATTEMPTS {
            let [port, tls_port] = free_ports();
            let slapd = Self {
                server: Server::in_memory(&SLAPD),
                options: Mutex::new(options.clone()),
                port,
                tls_port,
            };
            slapd.server.make_folder("db");
            slapd.configure();
            if slapd.launch().is_ok() {
                return slapd;
            }
        }
        panic!("slapd found no free port {ATTEMPTS} times");
    }

    fn options(&self) -> SlapdOptions {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn configure(&self) {
        let (options, folder) = (self.options(), self.server.folder().display());
        let mut lines: Vec<String> = Vec::new();
        let mut say = |line: String| lines.push(line);
        for schema in ["core", "cosine", "nis", "inetorgperson", "dyngroup"] {
            say(format!("include /etc/ldap/schema/{schema}.schema"));
        }
        say(format!("modulepath {MODULES}"));
        say("moduleload back_mdb".to_owned());
        options.modules.iter().for_each(|module| say(format!("moduleload {module}")));
        say(format!("pidfile {folder}/slapd.pid"));
        say(format!("argsfile {folder}/slapd.args"));
        if let Some(tls) = &options.tls {
            let copy = |name: &str, from: &Path| {
                self.server.write(name, std::fs::read(from).expect("a certificate or its key"))
            };
            say(format!("TLSCACertificateFile {}", copy("ca.crt", &tls.certs.ca()).display()));
            say(format!("TLSCertificateFile {}", copy("server.crt", &tls.shown.certificate).display()));
            say(format!("TLSCertificateKeyFile {}", copy("server.key", &tls.shown.key).display()));
            say("TLSVerifyClient try".to_owned());
        }
        options.global.iter().for_each(|line| say(line.clone()));
        say("database mdb".to_owned());
        say("maxsize 67108864".to_owned());
        say(format!("suffix {}", Self::BASE));
        say(format!("rootdn {}", Self::ROOT));
        say(format!("rootpw {}", Self::PASSWORD));
        say(format!("directory {folder}/db"));
        say("dbnosync".to_owned());
        say("index objectClass,uid,cn,mail,member,uniqueMember,memberUid,entryUUID eq".to_owned());
        options.database.iter().for_each(|line| say(line.clone()));
        if !options.database.iter().any(|line| line.starts_with("access")) {
            say("access to attrs=userPassword by anonymous auth by * none".to_owned());
            say("access to * by * read".to_owned());
        }
        options.more.iter().for_each(|line| say(line.clone()));
        self.server.write("slapd.conf", lines.join("\n") + "\n");
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let file = self.server.folder().join("slapd.conf").display().to_string();
        let mut urls = format!("ldap://127.0.0.1:{} {}", self.port, self.ldapi_url());
        if self.options().tls.is_some() {
            urls += &format!(" ldaps://127.0.0.1:{}", self.tls_port);
        }
        let args = ["-f", &file, "-h", &urls, "-d", "stats"].map(str::to_owned);
        // By the socket in its own folder, so it is nobody else.
        self.server.launch(&args, |_| self.tool("ldapwhoami", &[], "").is_ok())
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port that speaks TLS.
    #[must_use]
    pub const fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Returns `ldap://...`, by the name that its certificate has.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// Returns `ldaps://...`, by the name that its certificate has.
    #[must_use]
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// Returns `ldapi://...`.
    #[must_use]
    pub fn ldapi_url(&self) -> String {
        let path = self.server.folder().join("ldapi");
        format!("ldapi://{}", path.display().to_string().replace('/', "%2F"))
    }

    /// Returns the folder that has its certificate's authority and the like.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.server.folder().to_owned()
    }

    /// Adds entries, as who may do everything; operational attributes may be among them.
    ///
    /// # Panics
    /// If the server does not take them.
    #[track_caller]
    pub fn add(&self, ldif: &str) {
        self.must("ldapadd", &["-e", "relax"], ldif);
    }

    /// Changes entries, as who may do everything.
    ///
    /// # Panics
    /// If the server does not take it.
    #[track_caller]
    pub fn modify(&self, ldif: &str) {
        self.must("ldapmodify", &["-e", "relax"], ldif);
    }

    /// Runs a tool of `ldap-utils` as who may do everything. Returns what it says.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn must(&self, tool: &'static str, args: &[&str], input: &str) -> String {
        match self.tool(tool, args, input) {
            Ok(said) => said,
            Err(said) => panic!("{tool}: {said}\n{}", self.log()),
        }
    }

    fn tool(&self, tool: &'static str, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(tool);
        command.args(["-x", "-H", &self.ldapi_url(), "-D", Self::ROOT, "-w", Self::PASSWORD]).args(args);
        run(command, input)
    }

    /// Returns what the server has logged: every request.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
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

    /// Kills it if it runs, and starts it on the same ports with what it has stored.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        until("the port is free again", || self.launch().is_ok());
    }

    /// As [`restart`](Self::restart), and as other options say from now on.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart_as(&self, options: &SlapdOptions) {
        self.kill();
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options.clone();
        self.configure();
        until("the port is free again", || self.launch().is_ok());
    }
}

/// Runs a program to its end. Returns what it has said.
pub(super) fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.env("LDAPNOINIT", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{error}: install the package ldap-utils"))?;
    let mut pipe = child.stdin.take().ok_or("no input")?;
    let input = input.to_owned();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(pipe.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let _ = writer.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}
