//! The program `gatepost`, with a data folder of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, PATIENCE, stopwatch};
use crate::{Response, get};

/// How long a server may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// An installation of `gatepost`: a folder, a configuration, an environment.
#[derive(Debug)]
pub struct Gatepost {
    folder: TempDir,
    config: Option<PathBuf>,
    vars: Vec<(String, String)>,
}

impl Default for Gatepost {
    fn default() -> Self {
        Self::new()
    }
}

impl Gatepost {
    /// Makes one with no configuration at all.
    ///
    /// # Panics
    /// If there can be no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gatepost-").tempdir().expect("a temporary folder");
        Self { folder, config: None, vars: Vec::new() }
    }

    /// Makes one with a configuration; `FOLDER` in it becomes the path of its folder.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn with_config(text: &str) -> Self {
        let mut made = Self::new();
        made.config = Some(made.write("gatepost.toml", &made.placed(text)));
        made
    }

    /// Replaces `FOLDER` in a text by the path of this folder.
    #[must_use]
    pub fn placed(&self, text: &str) -> String {
        text.replace("FOLDER", &self.folder.path().display().to_string())
    }

    /// Sets one name of the environment.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.into(), value.into()));
        self
    }

    /// Returns the path of a file in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Writes a file in the folder.
    ///
    /// # Panics
    /// If it can't be written.
    #[expect(clippy::must_use_candidate, reason = "most callers know the path")]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file in a temporary folder");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        self.at_home(process::bound(process::gatepost(), false), args)
    }

    /// Gives a command the folder, the configuration and the environment.
    fn at_home(&self, mut command: Command, args: &[&str]) -> Command {
        command.env("GATEPOST_DATA", self.data()).env("GATEPOST__SERVER__LISTEN", "127.0.0.1:0");
        if let Some(config) = &self.config {
            command.env("GATEPOST_CONFIG", config);
        }
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.args(args).current_dir(self.folder.path());
        command
    }

    /// Runs a command with nothing on standard input.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, b"")
    }

    /// Runs a command with these bytes on standard input.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(args, command, input)
    }

    /// Runs a command in an environment with these names besides.
    #[must_use]
    pub fn run_in(&self, args: &[&str], vars: &[(&str, &str)]) -> Done {
        let mut command = self.command(args);
        command.envs(vars.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(args, command, b"")
    }

    /// Runs a command in an environment without this name.
    #[must_use]
    pub fn run_without(&self, args: &[&str], name: &str) -> Done {
        let mut command = self.command(args);
        command.env_remove(name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(args, command, b"")
    }

    /// Runs a command with `--json`, expects an exit status, and returns the only object.
    ///
    /// # Panics
    /// If the exit status is another, or there is not one object.
    #[track_caller]
    #[must_use]
    pub fn json(&self, args: &[&str], input: &[u8], exit: i32) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        self.run_with(&all, input).expect(exit).json()
    }

    /// Runs a command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn must(&self, args: &[&str], input: &[u8]) {
        let _ = self.run_with(args, input).expect(0);
    }

    /// Starts the server on a free port of the loopback interface, and waits until it answers `/livez`.
    ///
    /// It ends with the thread that starts it, at the latest.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    #[must_use]
    pub fn serve(&self) -> Server {
        self.started(self.command(&["serve"]))
    }

    /// The same, of a server whose disk can be [full](Server::disk_is_full_at).
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    #[must_use]
    pub fn serve_on_a_small_disk(&self) -> Server {
        self.limited("")
    }

    /// The same, where the disk is full from the start: nothing can be written.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    #[must_use]
    pub fn serve_on_a_full_disk(&self) -> Server {
        self.limited("ulimit -S -f 0;")
    }

    #[track_caller]
    fn limited(&self, limit: &str) -> Server {
        // A signal that is ignored stays so: a write beyond the limit fails then, and kills nobody.
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" \"$@\"");
        let mut shell = process::bound("sh", false);
        shell.args(["-c", &script]).arg(process::gatepost());
        self.started(self.at_home(shell, &["serve"]))
    }

    #[track_caller]
    fn started(&self, mut command: Command) -> Server {
        let began = stopwatch();
        let log = self.path("server.log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("setpriv starts");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let (tell, told) = mpsc::channel();
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("gatepost serves http://") {
                    let _ = tell.send(address.parse());
                }
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let address = match told.recv_timeout(PATIENCE) {
            Ok(address) => address.expect("the server tells its address"),
            Err(_) => {
                process::terminate(&child);
                let status = process::wait(child, GRACE);
                panic!("no server ({status:?}): {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
        };
        let mut server =
            Server { child: Some(child), reader: Some(reader), said, address, log, ready: Duration::ZERO };
        assert_eq!(server.get("/livez").status, 200, "the server is alive");
        server.ready = began.elapsed();
        server
    }
}

/// Feeds a command and collects what it says.
fn finish(args: &[&str], mut command: Command, input: &[u8]) -> Done {
    let mut child = command.spawn().expect("setpriv starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A command that needs no input may have closed it already.
    let _ = stdin.write_all(input);
    drop(stdin);
    let out = gather(child.stdout.take());
    let err = gather(child.stderr.take());
    let status = process::wait(child, PATIENCE).unwrap_or_else(|| panic!("gatepost {args:?} did not end"));
    let text = |reader: JoinHandle<Vec<u8>>| {
        String::from_utf8(reader.join().expect("a reader")).expect("output is UTF-8")
    };
    Done {
        what: format!("gatepost {}", args.join(" ")),
        exit: status.code().unwrap_or(-1),
        stdout: text(out),
        stderr: text(err),
    }
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("the output is a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// What came of a command.
#[derive(Debug)]
pub struct Done {
    what: String,
    /// The exit status; -1 if a signal ended it.
    pub exit: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Done {
    /// Expects an exit status.
    ///
    /// # Panics
    /// If it was another.
    #[track_caller]
    #[must_use]
    pub fn expect(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "{}\n{}{}", self.what, self.stdout, self.stderr);
        self
    }

    /// Returns the only JSON object that was printed.
    ///
    /// # Panics
    /// If there is none, or more.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "{}: one JSON object in {:?}", self.what, self.stdout);
        rows.into_iter().next().expect("one row")
    }

    /// Returns the JSON objects that were printed, one a line.
    ///
    /// # Panics
    /// If a line is none.
    #[track_caller]
    #[must_use]
    pub fn rows(&self) -> Vec<Value> {
        let row = |line| {
            let row: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.what));
            assert!(row.is_object(), "{}: an object a line, not {line}", self.what);
            row
        };
        self.stdout.lines().map(row).collect()
    }
}

/// A running server. Dropping it stops it, and checks that it stops well.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    reader: Option<JoinHandle<()>>,
    said: Arc<Mutex<String>>,
    address: SocketAddr,
    log: PathBuf,
    ready: Duration,
}

impl Server {
    /// Returns where it serves.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how long it took from its start to the first 200 on `/livez`.
    #[must_use]
    pub const fn ready_after(&self) -> Duration {
        self.ready
    }

    /// Sends a request without a password.
    ///
    /// # Panics
    /// If no response comes back.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        get(self.address, path, &[])
    }

    /// Sends a request with a password.
    ///
    /// # Panics
    /// If no response comes back.
    #[track_caller]
    #[must_use]
    pub fn login(&self, path: &str, login: &str, password: &str) -> Response {
        get(self.address, path, &[("Authorization", &crate::basic(login, password.as_bytes()))])
    }

    /// Returns what it has printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what it has logged so far.
    #[must_use]
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells it to stop, without waiting.
    pub fn terminate(&self) {
        if let Some(child) = &self.child {
            process::terminate(child);
        }
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        if let Some(child) = &self.child {
            process::hang_up(child);
        }
    }

    /// From now on none of its files takes a byte beyond this place, as on a full disk; `None` makes room again.
    ///
    /// # Panics
    /// If it was not started [on such a disk](Gatepost::serve_on_a_small_disk), or has ended.
    pub fn disk_is_full_at(&self, place: Option<u64>) {
        let child = self.child.as_ref().expect("a running server");
        process::limit_files(child, place);
    }

    /// Stops it, and returns how long that took.
    ///
    /// # Panics
    /// If it takes more than five seconds, or does not exit with 0.
    #[expect(clippy::must_use_candidate, reason = "most callers only want it stopped")]
    pub fn stop(mut self) -> Duration {
        self.end()
    }

    /// Ends it without a warning.
    pub fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            // It can't refuse.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn end(&mut self) -> Duration {
        let Some(child) = self.child.take() else { return Duration::ZERO };
        let began = stopwatch();
        process::terminate(&child);
        let status = process::wait(child, GRACE);
        let took = began.elapsed();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            let status = status.expect("the server stops within five seconds");
            assert_eq!(status.code(), Some(0), "the server stops well: {}", self.logged());
        }
        took
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
