//! A program that ends with its handle.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File};
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::{PATIENCE, stopwatch, until};

/// The user without rights, by Debian's number.
const NOBODY: u32 = 65_534;

/// How often a server is started on other ports when one that was free is taken before the server has it.
pub(super) const ATTEMPTS: usize = 5;

/// A program, and where to have it from.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Debian's package.
    pub(super) package: &'static str,
    /// What `SKIP` calls it.
    pub(super) skip: &'static str,
}

/// A port was taken by somebody else.
#[derive(Debug)]
pub(super) struct Taken;

/// A server with a folder of its own. Dropping it ends the one and removes the other.
#[derive(Debug)]
pub(super) struct Server {
    program: &'static Program,
    folder: Folder,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    // The system ends the server with the thread that has started it, which may be that of a short test. So it has
    // one of its own, which lasts until this is dropped, or the whole process has ended.
    _keeper: mpsc::Sender<()>,
}

impl Server {
    /// Makes the folder of a server.
    pub(super) fn new(program: &'static Program) -> Self {
        Self { program, folder: Folder::new(program.skip), running: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program and waits until it answers; `answers` is told its process.
    ///
    /// # Panics
    /// If it does not, for any other reason than that a port is taken.
    #[track_caller]
    pub(super) fn launch(&self, args: &[String], answers: impl Fn(u32) -> bool) -> Result<(), Taken> {
        self.kill();
        let log = File::create(self.folder().join("log")).expect("a file in a folder of our own");
        let running = spawn(self.program, args, self.folder(), &log);
        let pid = running.child.id();
        *self.running() = Some(running);
        let began = stopwatch();
        while !answers(pid) {
            if self.ended() {
                *self.running() = None;
                let log = self.log();
                let taken = log.contains("Address already in use");
                assert!(taken, "{} ended while it was started:\n{log}", self.program.name);
                return Err(Taken);
            }
            assert!(began.elapsed() < PATIENCE, "{} does not answer:\n{}", self.program.name, self.log());
            // There is nothing to wait on but the answer itself.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.running().as_mut().is_none_or(|running| !matches!(running.child.try_wait(), Ok(None)))
    }

    /// Returns what the server has said.
    pub(super) fn log(&self) -> String {
        std::fs::read(self.folder().join("log"))
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    #[track_caller]
    pub(super) fn pid(&self) -> u32 {
        self.running().as_ref().expect("a server that runs").child.id()
    }

    /// Kills the server, if it runs, and waits for its end.
    pub(super) fn kill(&self) {
        // The keeper outlives the server.
        if let Some(mut running) = self.running().take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// Sends SIGSTOP, and waits until the server has stopped.
    #[track_caller]
    pub(super) fn stop(&self) {
        let pid = self.pid();
        signal(pid, "STOP");
        until("the server has stopped", || state(pid) == Some('T'));
    }

    /// Sends SIGCONT.
    #[track_caller]
    pub(super) fn cont(&self) {
        signal(self.pid(), "CONT");
    }

    /// Writes a file that nobody but the server reads.
    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        let file = File::create(&path).expect("a file in a folder of our own");
        file.set_permissions(PermissionsExt::from_mode(0o600)).expect("the owner may do that");
        std::fs::write(&path, contents).expect("a file in a folder of our own");
        give_away(&path);
        path
    }

    /// Removes every file of the folder.
    pub(super) fn clear(&self) {
        for entry in std::fs::read_dir(self.folder()).expect("a folder of our own").flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &'static Program, args: &[String], folder: &Path, log: &File) -> Running {
    let path = path();
    assert!(
        path.split(':').any(|folder| Path::new(folder).join(program.name).is_file()),
        "there is no program {}: install the package {} (Debian's name), or leave its tests out by SKIP={}",
        program.name,
        program.package,
        program.skip
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--no-new-privs"]);
    if is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program.name).args(args).env_clear().env("PATH", path).current_dir(folder);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log.try_clone().expect("a file"));
    let (tell, told) = mpsc::channel();
    let (keeper, end) = mpsc::channel::<()>();
    std::thread::Builder::new()
        .name(format!("keeper of {}", program.name))
        .spawn(move || {
            let _ = tell.send(command.spawn());
            let _ = end.recv();
        })
        .expect("a thread");
    let child = told.recv().expect("a keeper does not panic").expect("setpriv, of the package util-linux");
    Running { child, _keeper: keeper }
}

/// The PATH, with the folders where servers live.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into()))
}

/// Reports whether this is root, who would not be stopped by any permission.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Makes the user without rights the owner of what root has made for a server.
fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may do that");
    }
}

#[track_caller]
fn signal(pid: u32, name: &str) {
    // The shell's own `kill` is everywhere; the program of that name is not.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("a shell");
    assert!(status.success(), "process {pid} takes no {name}");
}

/// The state of a process as the kernel tells it: `T` for one that is stopped.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A folder that is removed with it.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let here = std::env::temp_dir();
        for n in 0_u32.. {
            let path = here.join(format!("{name}-{}-{n}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    give_away(&path);
                    return Self(path);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("no folder {}: {error}", path.display()),
            }
        }
        unreachable!("a number that is free")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Finds ports of the loopback interface that are free now, all different.
///
/// Below those that the system gives to connections: while a server is down, no connection takes its port, and who
/// tries to reach it is never connected to itself.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    const FROM: u64 = 10_240;
    const TO: u64 = 32_768;
    // Random, so that tests that run at the same time seldom want the same one.
    let random = || FROM + RandomState::new().hash_one(()) % (TO - FROM);
    let free = || {
        let port = u16::try_from(random()).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (listener, port))
    };
    // All held until the last is found, so that they differ.
    let held: [_; COUNT] =
        std::array::from_fn(|_| std::iter::repeat_with(free).find_map(|found| found).expect("no end"));
    held.map(|(_, port)| port)
}
