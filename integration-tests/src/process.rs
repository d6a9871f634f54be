//! Processes that end with their test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// Longer than anything here takes on a busy machine, and short enough to notice what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Starts to measure time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "what real servers take is measured on the real clock")]
pub fn stopwatch() -> Instant {
    Instant::now()
}

/// Waits until something is so.
///
/// # Panics
/// If it is not so within a minute.
#[track_caller]
pub fn until(mut so: impl FnMut() -> bool, what: &str) {
    let began = stopwatch();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        // There is nothing to wait on but the thing itself.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes a command that is told to stop when the thread that starts it ends, and has no environment but a PATH.
pub(crate) fn bound(program: impl AsRef<OsStr>, as_nobody: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if as_nobody {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program).env_clear().env("PATH", path());
    command
}

/// The user without rights, by Debian's number.
pub(crate) const NOBODY: u32 = 65_534;

/// Reports whether this is root, who would not be stopped by any permission.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The PATH, with the folders where servers live.
pub(crate) fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into()))
}

/// Sends SIGTERM.
pub(crate) fn terminate(child: &Child) {
    send(child, Signal::TERM);
}

/// Sends SIGHUP.
pub(crate) fn hang_up(child: &Child) {
    send(child, Signal::HUP);
}

fn send(child: &Child, signal: Signal) {
    // A process that has ended can't be told to.
    let _ = kill_process(id(child), signal);
}

fn id(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id")
}

/// Limits how long the files of a process may be, which must ignore SIGXFSZ; `None` takes the limit away.
pub(crate) fn limit_files(child: &Child, bytes: Option<u64>) {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a process that runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask of signals");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask is hexadecimal");
    assert_ne!(ignored & 1 << (Signal::XFSZ.as_raw() - 1), 0, "the process would be killed");
    let limit = Rlimit { current: bytes, maximum: None };
    let _ = prlimit(Some(id(child)), Resource::Fsize, limit).expect("a limit that may be set");
}

/// Waits for a process to end, and kills it if it does not.
pub(crate) fn wait(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let pid = id(&child);
    let (tell, told) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = tell.send(child.wait());
    });
    let status = told.recv_timeout(patience).ok().and_then(Result::ok);
    if status.is_none() {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = waiter.join();
    status
}

/// The program under test: `GATEPOST_BIN`, else what cargo built beside this test.
pub(crate) fn gatepost() -> PathBuf {
    let program = match std::env::var_os("GATEPOST_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            let test = std::env::current_exe().expect("a running program has a file");
            // target/debug/deps/test-1234, and target/debug/gatepost
            let folder = test.parent().and_then(Path::parent).expect("tests lie two folders deep");
            folder.join("gatepost")
        }
    };
    assert!(
        program.is_file(),
        "there is no program {}: run `cargo build -p auth-server`, or name one in GATEPOST_BIN",
        program.display()
    );
    program
}
