//! Starts the servers that shared caches are tested with, runs a command with variables that say where they are, and
//! stops them. `integration-tests/servers native COMMAND…` is the way to call it.

use std::process::{Command, ExitCode};

use integration_tests::SharedServers;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("servers: which command?");
        return ExitCode::from(2);
    };
    let servers = SharedServers::start();
    let ended = Command::new(&program).args(arguments).envs(servers.variables()).status();
    drop(servers);
    match ended {
        // By a signal: as a shell tells it.
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128)),
        Err(error) => {
            eprintln!("servers: can't run {}: {error}", program.display());
            ExitCode::from(127)
        }
    }
}
