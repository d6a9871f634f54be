//! One 389 Directory Server.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::process::{ATTEMPTS, Program, Server, Taken, free_ports};
use super::slapd::run;
use super::until;

const NS_SLAPD: Program = Program { name: "ns-slapd", package: "389-ds-base", skip: "ds389" };

/// The templates of the package, and its example directory.
const DATA: &str = "/usr/share/dirsrv/data";

/// What [`Ds389::PASSWORD`] is stored as: the server takes no other at its first start.
const HASHED: &str = "{SSHA512}52Mr5CNW53WyCoCFlKMSIltx2cG3SBt3FxzwQwlS3bR7D2EgO0MbRs5+00AkpDmT6b2KtFYq3ttjKtadE/SLGlzuqAd+5Emk";

/// What a [`Ds389`] is like. By default: an empty tree under [`Ds389::BASE`], with groups in people's entries.
#[derive(Debug, Clone, Default)]
pub struct Ds389Options {
    /// More attributes of `cn=config`, as lines of LDIF: a password policy, say.
    pub config: Vec<String>,
}

/// A 389 Directory Server of its own, made by hand of the package's templates, since `dscreate` needs root and
/// writes into the system's folders. It speaks no TLS. Its access log has every request, with its filter.
#[derive(Debug)]
pub struct Ds389 {
    server: Server,
    port: u16,
}

impl Ds389 {
    /// The name under which everything is.
    pub const BASE: &'static str = "dc=example,dc=com";
    /// Who may do everything.
    pub const ROOT: &'static str = "cn=Directory Manager";
    /// The password of who may do everything.
    pub const PASSWORD: &'static str = "root-of-all";
    /// A directory of 150 people with known passwords, of the package: theirs, to be used where it is.
    pub const EXAMPLE: &'static str = "/usr/share/dirsrv/data/Example.ldif";

    /// Starts one.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(options: &Ds389Options) -> Self {
        for _ in 0..ATTEMPTS {
            let [port] = free_ports();
            let ds = Self { server: Server::in_memory(&NS_SLAPD), port };
            ds.configure(options);
            if ds.launch().is_ok() {
                return ds;
            }
        }
        panic!("389-DS found no free port {ATTEMPTS} times");
    }

    fn configure(&self, options: &Ds389Options) {
        let folder = self.server.folder().display().to_string();
        for name in ["conf", "conf/schema", "lock", "tmp", "ldif", "bak", "run", "inst", "logs", "db", "home"]
        {
            self.server.make_folder(name);
        }
        for (from, to) in [("/etc/dirsrv/config", "conf"), ("/etc/dirsrv/schema", "conf/schema")] {
            for entry in std::fs::read_dir(from).expect("the package 389-ds-base").flatten() {
                let name = format!("{to}/{}", entry.file_name().to_string_lossy());
                self.server.write(&name, std::fs::read(entry.path()).expect("a file of the package"));
            }
        }
        let port = self.port.to_string();
        let fill = |text: &str| {
            let mut text = text.to_owned();
            for (name, value) in [
                ("ds_suffix", Self::BASE),
                ("rootdn", Self::ROOT),
                ("ds_passwd", HASHED),
                ("ds_port", &port),
                ("ds_user", "nobody"),
                ("ds_bename", "userRoot"),
                ("db_lib", "bdb"),
                ("fqdn", "localhost"),
                ("ldapi_enabled", "on"),
                ("ldapi_autobind", "off"),
                ("ldapi", &format!("{folder}/ldapi")),
                ("config_dir", &format!("{folder}/conf")),
                ("cert_dir", &format!("{folder}/conf")),
                ("schema_dir", &format!("{folder}/conf/schema")),
                // `log` is what the server itself says.
                ("log_dir", &format!("{folder}/logs")),
                ("db_home_dir", &format!("{folder}/home")),
            ] {
                text = text.replace(&format!("%{name}%"), value);
            }
            for name in ["lock", "tmp", "ldif", "bak", "run", "inst", "db"] {
                text = text.replace(&format!("%{name}_dir%"), &format!("{folder}/{name}"));
            }
            text
        };
        let template = |name: &str| {
            let path = Path::new(DATA).join(name);
            fill(
                &std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            )
        };
        let mut entries: Vec<String> = Vec::new();
        for text in [template("template-dse.ldif"), template("template-suffix-db.ldif")] {
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            entries.extend(lines.join("\n").split("\n\n").map(|entry| entry.trim().to_owned()));
        }
        let mut ldif = String::new();
        for mut entry in entries.into_iter().filter(|entry| !entry.is_empty()) {
            if entry.starts_with("dn: cn=config\n") {
                // Every request is in the log when it is answered, and hashes cost nothing.
                entry += "\nnsslapd-listenhost: 127.0.0.1\nnsslapd-accesslog-logbuffering: off\npasswordStorageScheme: SSHA512";
                options.config.iter().for_each(|line| entry += &format!("\n{line}"));
            }
            if entry.starts_with("dn: cn=config,cn=ldbm database,") {
                // Else it takes a tenth of the machine's memory.
                entry += "\nnsslapd-cache-autosize: 0\nnsslapd-dbcachesize: 10000000";
            }
            if entry.starts_with("dn: cn=7-bit check,") {
                // It refuses logins and passwords that are not ASCII.
                entry = entry.replace("nsslapd-pluginenabled: on", "nsslapd-pluginenabled: off");
            }
            if entry.starts_with("dn: cn=MemberOf Plugin,") {
                entry = entry.replace("nsslapd-pluginenabled: off", "nsslapd-pluginenabled: on");
                entry += "\nmemberOfGroupAttr: uniqueMember\nmemberOfAutoAddOC: nsMemberOf";
            }
            let _ = write!(ldif, "{entry}\n\n");
        }
        self.server.write("conf/dse.ldif", ldif);
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let folder = self.server.folder().display().to_string();
        // The level at which it stays in the foreground and says what the log of errors says.
        let args = ["-D", &format!("{folder}/conf"), "-i", &format!("{folder}/run/pid"), "-d", "266354688"];
        self.server.launch(&args.map(str::to_owned), |_| self.tool("ldapwhoami", &[], "").is_ok())
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns `ldap://...`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// Adds entries, as who may do everything.
    ///
    /// # Panics
    /// If the server does not take them.
    #[track_caller]
    pub fn add(&self, ldif: &str) {
        self.must("ldapadd", &[], ldif);
    }

    /// Changes entries, as who may do everything.
    ///
    /// # Panics
    /// If the server does not take it.
    #[track_caller]
    pub fn modify(&self, ldif: &str) {
        self.must("ldapmodify", &[], ldif);
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
        // By the socket in its own folder, so it is nobody else.
        let path = self.server.folder().join("ldapi").display().to_string().replace('/', "%2F");
        let mut command = Command::new(tool);
        command
            .args(["-x", "-H", &format!("ldapi://{path}"), "-D", Self::ROOT, "-w", Self::PASSWORD])
            .args(args);
        run(command, input)
    }

    /// Returns what the server has said at its start and since.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Returns the log of requests.
    #[must_use]
    pub fn access_log(&self) -> String {
        let path = self.server.folder().join("logs/access");
        std::fs::read(path)
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills it if it runs, and starts it on the same port with what it has stored.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        until("the port is free again", || self.launch().is_ok());
    }
}
