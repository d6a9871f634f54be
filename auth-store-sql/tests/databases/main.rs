//! What every database must do, on each of them: SQLite, and private servers of PostgreSQL and MariaDB.
//!
//! A test is a function of the database that it runs on. Servers start with the first test that needs them and end
//! with the last; `SKIP="postgres mariadb"` leaves them out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../common/mod.rs"]
mod common;

mod behaviour;
mod directory;
mod families;
mod injection;
mod on;
mod outages;
mod refusals;
mod rows;
mod yours;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use on::{On, Servers, Test};

fn main() -> ExitCode {
    if let Ok(url) = std::env::var(families::RENEWER) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(families::renew_until_killed(&url));
    }
    let arguments = Arguments::from_args();
    let servers = Arc::new(Servers::default());
    // Asked once: it is said each time.
    let skipped: Vec<_> = on::ALL.iter().filter(|engine| engine.skipped()).collect();
    let mut trials = Vec::new();
    let modules = [
        ("behaviour", behaviour::TESTS),
        ("directory", directory::TESTS),
        ("families", families::TESTS),
        ("injection", injection::TESTS),
        ("outages", outages::TESTS),
        ("refusals", refusals::TESTS),
        ("rows", rows::TESTS),
        ("yours", yours::TESTS),
    ];
    for (module, tests) in modules {
        for (name, engines, test) in tests {
            for engine in engines.iter().filter(|engine| !skipped.contains(engine)) {
                let on = On::new(*engine, Arc::clone(&servers));
                let name = format!("{module}::{name}::{}", engine.name());
                trials.push(Trial::test(name, move || {
                    run(test, on);
                    Ok(())
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the process ends, for nobody else ends them gently.
    drop(servers);
    conclusion.exit_code()
}

fn run(test: &Test, on: On) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(on));
}
