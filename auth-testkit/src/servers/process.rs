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

    /// Makes the folder of a server that writes much: in memory, where that can be had.
    pub(super) fn in_memory(program: &'static Program) -> Self {
        Self { program, folder: Folder::in_memory(program.skip), running: Mutex::default() }
    }

    /// Runs a program of the same package to its end, as the user whom the server runs as.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub(super) fn run(&self, program: &'static Program, args: &[String]) {
        let output =
            command(program, args, self.folder()).output().expect("setpriv, of the package util-linux");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{} failed:\n{}", program.name, String::from_utf8_lossy(&said));
    }

    /// Sends a signal, and waits for the end of the server; kills it if it does not end by itself.
    pub(super) fn end(&self, by: &str) {
        let Some(pid) = self.running().as_ref().map(|running| running.child.id()) else { return };
        signal(pid, by);
        let began = stopwatch();
        while !self.ended() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
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
                // Or those that a killed PostgreSQL has begun are still on their way out.
                let taken = log.contains("Address already in use")
                    || log.contains("pre-existing shared memory block");
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

    /// Kills the server, if it runs, with the processes that it has started, and waits for its end.
    pub(super) fn kill(&self) {
        // The keeper outlives the server.
        if let Some(mut running) = self.running().take() {
            let children = children(running.child.id());
            let _ = running.child.kill();
            let _ = running.child.wait();
            children.into_iter().for_each(|pid| _ = try_signal(pid, "KILL"));
        }
    }

    /// Sends SIGSTOP, also to the processes that it has started, and waits until they have stopped.
    #[track_caller]
    pub(super) fn stop(&self) {
        let pid = self.pid();
        signal(pid, "STOP");
        until("the server has stopped", || state(pid) == Some('T'));
        let gone_or_stopped = |pid: &u32| state(*pid).is_none_or(|state| state == 'T' || state == 'Z');
        let children = children(pid);
        children.iter().for_each(|pid| _ = try_signal(*pid, "STOP"));
        until("its processes have stopped", || children.iter().all(gone_or_stopped));
    }

    /// Sends SIGCONT.
    #[track_caller]
    pub(super) fn cont(&self) {
        let pid = self.pid();
        children(pid).into_iter().for_each(|pid| _ = try_signal(pid, "CONT"));
        signal(pid, "CONT");
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

    /// Makes a folder that nobody but the server reads.
    pub(super) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        DirBuilder::new().mode(0o700).create(&path).expect("a folder in a folder of our own");
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

/// Makes the command that runs a program without rights and ends it with the thread that starts it.
#[track_caller]
fn command(program: &'static Program, args: &[String], folder: &Path) -> Command {
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
    command
}

#[track_caller]
fn spawn(program: &'static Program, args: &[String], folder: &Path, log: &File) -> Running {
    let mut command = command(program, args, folder);
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
///
/// Debian keeps PostgreSQL's, by version, where no PATH reaches.
pub(super) fn path() -> String {
    let mut folders = vec![std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into())];
    folders.extend(["/usr/sbin", "/sbin"].map(str::to_owned));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    folders.extend(newest.map(|version| format!("/usr/lib/postgresql/{version}/bin")));
    folders.join(":")
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
    assert!(try_signal(pid, name), "process {pid} takes no {name}");
}

/// Signals a process that may have ended by itself.
fn try_signal(pid: u32, name: &str) -> bool {
    // The shell's own `kill` is everywhere; the program of that name is not.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null());
    command.status().expect("a shell").success()
}

/// Finds the processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
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
        Self::make(&here, name).unwrap_or_else(|error| panic!("no folder in {}: {error}", here.display()))
    }

    /// Makes a folder in memory, or where temporary files are.
    fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        clear_up(memory, name);
        Self::make(memory, name).unwrap_or_else(|_| Self::new(name))
    }

    fn make(here: &Path, name: &str) -> std::io::Result<Self> {
        for n in 0_u32.. {
            let path = here.join(format!("{name}-{}-{n}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    give_away(&path);
                    return Ok(Self(path));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("a number that is free")
    }
}

/// Removes what tests that were killed have left in memory.
fn clear_up(memory: &Path, name: &str) {
    for entry in std::fs::read_dir(memory).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let whose =
            file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('-')?.split_once('-'));
        let gone = |(pid, n): (&str, &str)| {
            n.parse::<u32>().is_ok() && pid.parse::<u32>().is_ok_and(|pid| state(pid).is_none())
        };
        if whose.is_some_and(gone) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
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
