//! Every kind of cache and every kind of question, in seeded schedules of readers, loads, puts, refreshes and
//! invalidations: nothing invalidated is served, nothing newer is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

mod each;

use std::time::Duration;

use auth_cache::{Build, Kind, kinds};
use auth_testkit::Setup;
use auth_testkit::race::{Race, Report};

use each::{QUESTIONS, SIZES, pick, settings};

/// Where the dice start. In the first run, no table is so small that it forgets: then more is expected.
const SEEDS: [u64; 5] = [1, 2, 3, 7, 42];

/// Schedules of each seed and question, so that each kind runs more than 10,000 distinct ones.
const SCHEDULES: u64 = 520;

fn check(kind: &Kind) -> Report {
    let mut all = Report::default();
    for (seed, (question, wrap)) in SEEDS.into_iter().flat_map(|seed| QUESTIONS.map(|of| (seed, of))) {
        let sizes = if seed == SEEDS[0] { &SIZES[5..] } else { &SIZES[..] };
        let build = |setup: &Setup| {
            let Some((settings, forgets)) = settings(kind, setup, sizes) else {
                return wrap(setup, None).that_forgets();
            };
            // A token is validated by who asks: nothing stands in for that.
            let stale = if question == "tokens" { 0 } else { pick(setup, 2, &[0, 5]) };
            let stale = Duration::from_secs(stale);
            // In half of them, loads outlast the life of an answer.
            let limit = Duration::from_secs(pick(setup, 3, &[5, 60]));
            let settings = settings.with_stale_if_error(stale).with_load_timeout(limit);
            let tested = wrap(setup, Some(&settings)).with_stale_if_error(stale);
            if forgets { tested.that_forgets() } else { tested }
        };
        let race = Race::new(seed).with_schedules(SCHEDULES);
        let report = race
            .run(build)
            .unwrap_or_else(|broken| panic!("{} of {question}, seed {seed}: {broken}", kind.name));
        all.add(&report);
    }
    assert!(all.distinct >= 10_000, "{all}");
    all
}

#[test]
fn no_kind_serves_what_was_invalidated_nor_loses_what_is_newer() {
    for kind in kinds().iter().filter(|kind| kind.factory().is_some()) {
        let report = check(kind);
        // A run in which nothing happens proves nothing.
        for (what, count) in [
            ("hits", report.hits),
            ("joined", report.joined),
            ("voided in flight", report.voided),
            ("overtaken", report.overtaken),
            ("late", report.late),
            ("refreshed", report.refreshed),
            ("stale", report.stale),
            ("hits expected", report.hits_expected),
        ] {
            assert!(count >= 50, "{}: {what}: {count}", kind.name);
        }
    }
}

#[test]
fn no_cache_at_all_wins_every_race() {
    let none = kinds().iter().find(|kind| matches!(kind.build, Build::Off)).expect("the kind none");
    let report = check(none);
    assert_eq!(report.hits, 0, "{report}");
}
