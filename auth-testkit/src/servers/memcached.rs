//! One memcached.

use std::io;

use super::process::{ATTEMPTS, Program, Server, Taken, free_ports};
use super::until;
use super::wire::Wire;

const MEMCACHED: Program = Program { name: "memcached", package: "memcached", skip: "memcached" };

/// What a [`Memcached`] is like.
#[derive(Debug, Clone, Default)]
pub struct MemcachedOptions {
    /// The largest item, in bytes; 1 MiB if nothing is said.
    pub item_size: Option<u64>,
    /// The memory for items, in MiB; 64 if nothing is said.
    pub memory: Option<u32>,
    /// More arguments. No secrets: everybody can read them.
    pub more: Vec<String>,
}

/// A memcached of its own.
#[derive(Debug)]
pub struct Memcached {
    server: Server,
    options: MemcachedOptions,
    port: u16,
}

impl Memcached {
    /// Starts one.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(options: &MemcachedOptions) -> Self {
        for _ in 0..ATTEMPTS {
            let [port] = free_ports();
            let memcached = Self { server: Server::new(&MEMCACHED), options: options.clone(), port };
            if memcached.launch().is_ok() {
                return memcached;
            }
        }
        panic!("memcached found no free port {ATTEMPTS} times");
    }

    #[track_caller]
    fn launch(&self) -> Result<(), Taken> {
        let mut args = vec![format!("--port={}", self.port)];
        args.extend(["--udp-port=0", "--listen=127.0.0.1"].map(String::from));
        args.extend(self.options.item_size.map(|bytes| format!("--max-item-size={bytes}")));
        args.extend(self.options.memory.map(|size| format!("--memory-limit={size}")));
        args.extend(self.options.more.iter().cloned());
        self.server.launch(&args, |pid| {
            // Not somebody else who has the port by now.
            self.try_command("stats").is_ok_and(|stats| stats.contains(&format!("STAT pid {pid}\r\n")))
        })
    }

    /// Returns the port of the loopback interface, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
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

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("memcached://127.0.0.1:{}", self.port)
    }

    /// Returns what the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks the server on a connection of its own: one or more commands but `mn`, with CR LF between them. Returns the answer
    /// as it came, with CR LF; what is no UTF-8 is replaced.
    ///
    /// # Panics
    /// If it does not answer within five seconds.
    #[track_caller]
    pub fn command(&self, command: impl AsRef<[u8]>) -> String {
        match self.try_command(command) {
            Ok(answer) => answer,
            Err(error) => panic!("memcached does not answer: {error}\n{}", self.log()),
        }
    }

    /// Asks a server that may be unable to answer.
    ///
    /// # Errors
    /// If it does not answer within five seconds.
    pub fn try_command(&self, command: impl AsRef<[u8]>) -> io::Result<String> {
        let answer = Wire::tcp(self.port)?.memcached(command.as_ref())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
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

    /// Kills it if it runs, and starts it on the same port, empty.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        until("the port is free again", || self.launch().is_ok());
    }
}
