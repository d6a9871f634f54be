//! How sessions behave: each scenario on every store that keeps them, with two processes on one store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;
mod scenarios;
mod storm;

use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use auth_testkit::servers::{
    MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions, skipped,
};
use libtest_mimic::{Arguments, Trial};

use rig::Place;

/// The servers, each started when a scenario first needs it, for all of them.
pub(crate) struct Servers {
    pub(crate) postgres: LazyLock<Postgres>,
    pub(crate) mariadb: LazyLock<MariaDb>,
    pub(crate) redis: LazyLock<Redis>,
}

fn main() -> ExitCode {
    let servers = Arc::new(Servers {
        postgres: LazyLock::new(|| Postgres::start(&PostgresOptions::default())),
        mariadb: LazyLock::new(|| MariaDb::start(&MariaDbOptions::default())),
        redis: LazyLock::new(|| Redis::start(&RedisOptions::default())),
    });
    let mut trials = Vec::new();
    for place in Place::ALL {
        if place.server().is_some_and(skipped) {
            continue;
        }
        for (name, scenario) in scenarios::all().into_iter().chain(storm::all()) {
            let servers = Arc::clone(&servers);
            trials.push(Trial::test(format!("{name}::{}", place.name()), move || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.unwrap().block_on(scenario(rig::Bed::new(place, &servers)));
                Ok(())
            }));
        }
    }
    let mut arguments = Arguments::from_args();
    // One after the other: what two hundred clients ask of a disk at once is no other scenario's limit.
    arguments.test_threads.get_or_insert(1);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The servers stop by their own pid, also where a test has failed.
    drop(servers);
    conclusion.exit_code()
}
