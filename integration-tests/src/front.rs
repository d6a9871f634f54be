//! A real nginx in front of `gatepost`.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, NOBODY, PATIENCE, stopwatch};
use crate::{Gatepost, Response, Server, basic, get};

/// Reports whether `SKIP` names a server that can't be had; says so if it does.
#[must_use]
pub fn skipped(server: &str) -> bool {
    let skip = std::env::var("SKIP").unwrap_or_default();
    let named = skip.split([' ', ',']).any(|name| name == server);
    if named {
        // Past the test runner, which keeps what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED on demand: what needs {server}");
    }
    named
}

/// An nginx that runs without rights, in a folder of its own. Dropping it stops it.
///
/// It has one site for every demand; behind each is an application that answers
/// `Remote-User|Remote-Groups`, as it heard them; at `/all` it adds `|Remote-Realm|Remote-Name|Remote-Email`.
#[derive(Debug)]
pub struct Nginx {
    child: Option<Child>,
    folder: TempDir,
    sites: Vec<SocketAddr>,
}

/// The place in the snippet where the application goes.
const APPLICATION: &str = "# proxy_pass http://127.0.0.1:8080;";
/// The place where demands go.
const ENDPOINT: &str = "/auth/nginx;";

impl Nginx {
    /// Starts nginx with what `gatepost print nginx` prints, once for every demand: a query such as
    /// `?group=staff`, or nothing.
    ///
    /// Of the snippet, only the line that asks for it is changed, to name the application.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(gatepost: &Gatepost, server: &Server, demands: &[&str]) -> Self {
        let snippet = snippet(gatepost, server);
        let named = |text: &str, part: &str| assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        named(&snippet, APPLICATION);
        named(&snippet, ENDPOINT);
        Self::with_sites(demands.len(), |folder, n| {
            let demand = demands.get(n).copied().unwrap_or_default();
            snippet
                .replace(APPLICATION, &format!("proxy_pass http://unix:{folder}/app.sock;"))
                .replace(ENDPOINT, &format!("/auth/nginx{demand};"))
        })
    }

    /// Starts nginx with what `gatepost print nginx` prints and nothing else, in front of a folder of
    /// files: `hello` is one.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn verbatim(gatepost: &Gatepost, server: &Server) -> Self {
        let snippet = snippet(gatepost, server);
        Self::with_sites(1, |_, _| snippet.clone())
    }

    fn with_sites(count: usize, site: impl Fn(&str, usize) -> String) -> Self {
        // A port found free may be taken before nginx has it.
        for _ in 0..3 {
            if let Some(started) = Self::try_start(count, &site) {
                return started;
            }
        }
        panic!("nginx found no free port three times");
    }

    fn try_start(count: usize, site: &impl Fn(&str, usize) -> String) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a temporary folder");
        let path = folder.path().display().to_string();
        let sites = free_ports(count);
        let mut config = format!(
            "daemon off; worker_processes 2; pid {path}/pid; error_log {path}/error.log info;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log {path}/access.log;\n\
             client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
             uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; default_type text/plain;\n\
             server {{ listen unix:{path}/app.sock; location / {{\n\
             return 200 \"$http_remote_user|$http_remote_groups\"; }}\n\
             location = /all {{ return 200 \"$http_remote_user|$http_remote_groups|$http_remote_realm|\
             $http_remote_name|$http_remote_email\"; }} }}\n"
        );
        for (n, address) in sites.iter().enumerate() {
            config += &format!("server {{ listen {address}; root {path}/files;\n{}\n}}\n", site(&path, n));
        }
        config += "}\n";
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a file in a temporary folder");
        std::fs::create_dir(folder.path().join("files")).expect("a folder");
        std::fs::write(folder.path().join("files/hello"), "hello\n").expect("a file");
        let root = process::is_root();
        if root {
            std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may do that");
        }
        let output = File::create(folder.path().join("output.log")).expect("a file");
        let mut command = process::bound("nginx", root);
        command.args(["-p", &path, "-c"]).arg(&file);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        let mut started = Self { child: Some(command.spawn().expect("setpriv starts")), folder, sites };
        started.ready().then_some(started)
    }

    /// Waits until every site is open; not, if nginx ended because a port was taken.
    fn ready(&mut self) -> bool {
        let began = stopwatch();
        loop {
            if self.sites.iter().all(|site| TcpStream::connect(site).is_ok()) {
                return true;
            }
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                let logged = self.logged();
                assert!(logged.contains("Address already in use"), "nginx did not start: {logged}");
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "nginx does not open its ports: {}", self.logged());
            // There is nothing to wait on but the port itself.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks a site for a page, with a password.
    ///
    /// # Panics
    /// If no response comes back.
    #[track_caller]
    #[must_use]
    pub fn login(&self, site: usize, login: &str, password: &str) -> Response {
        self.get(site, "/hello", &[("Authorization", &basic(login, password.as_bytes()))])
    }

    /// Asks a site for a path.
    ///
    /// # Panics
    /// If there is no such site, or no response comes back.
    #[track_caller]
    #[must_use]
    pub fn get(&self, site: usize, path: &str, headers: &[(&str, &str)]) -> Response {
        get(*self.sites.get(site).expect("a site for every demand"), path, headers)
    }

    /// Returns everything that nginx has written.
    #[must_use]
    pub fn logged(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        ["output.log", "error.log", "access.log"].map(read).concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            process::terminate(&child);
            let _ = process::wait(child, Duration::from_secs(5));
        }
    }
}

/// What an operator is told to put into nginx.conf, for this server.
fn snippet(gatepost: &Gatepost, server: &Server) -> String {
    let address = server.address().to_string();
    gatepost.run_in(&["print", "nginx"], &[("GATEPOST__SERVER__LISTEN", &address)]).expect(0).stdout
}

fn free_ports(count: usize) -> Vec<SocketAddr> {
    let open = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    // All at once, so that they differ.
    let listeners: Vec<_> = (0..count).map(open).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}
