//! Every kind of cache and every kind of question, in random histories: no answer is older than its bound.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

mod each;

use std::time::Duration;

use auth_cache::{Build, Kind, Settings, kinds};
use auth_testkit::Setup;
use auth_testkit::staleness::{Report, Staleness};

use each::{QUESTIONS, SIZES, settings};

/// Where the dice start.
const SEEDS: [u64; 3] = [1, 2, 42];

/// Histories of each test, shared out among kinds, questions and seeds.
const HISTORIES: u64 = 10_000;

fn check(kind: &Kind, histories: u64, stale: Duration, change: fn(Settings) -> Settings) -> Report {
    let mut all = Report::default();
    for (seed, (question, wrap)) in SEEDS.into_iter().flat_map(|seed| QUESTIONS.map(|of| (seed, of))) {
        let build = |setup: &Setup| match settings(kind, setup, &SIZES) {
            None => wrap(setup, None),
            Some((settings, _)) => {
                let settings = change(settings).with_stale_if_error(stale);
                // Nothing stands in for the validation of a token.
                let stale = if question == "tokens" { Duration::ZERO } else { stale };
                wrap(setup, Some(&settings)).with_stale_if_error(stale)
            }
        };
        let model = Staleness::new(seed).with_histories(histories);
        let report = model
            .run(build)
            .unwrap_or_else(|broken| panic!("{} of {question}, seed {seed}: {broken}", kind.name));
        all.add(&report);
    }
    all
}

fn check_all(stale: Duration, change: fn(Settings) -> Settings) -> Report {
    let mut all = Report::default();
    let built: Vec<&Kind> = kinds().iter().filter(|kind| kind.factory().is_some()).collect();
    let each = HISTORIES.div_ceil((built.len() * QUESTIONS.len() * SEEDS.len()) as u64);
    for kind in built {
        let report = check(kind, each, stale, change);
        // Far from the bound, little would be proved.
        assert!(report.closeness() > 90, "{}: {report}", kind.name);
        assert!(report.hits > 1_000 && report.errors > 100, "{}: {report}", kind.name);
        all.add(&report);
    }
    assert!(all.histories >= HISTORIES, "{all}");
    all
}

#[test]
fn no_answer_is_older_than_its_bound() {
    let report = check_all(Duration::ZERO, |settings| settings.with_refresh_ahead(0.0));
    assert_eq!((report.stale, report.refreshed), (0, 0), "{report}");
}

#[test]
fn no_answer_is_older_than_its_bound_with_refresh_ahead() {
    let report = check_all(Duration::ZERO, |settings| settings.with_refresh_ahead(1.0));
    assert_eq!(report.stale, 0, "{report}");
    assert!(report.refreshed > 100, "{report}");
}

#[test]
fn stale_answers_are_flagged_and_no_older_than_their_cap() {
    let cap = Duration::from_secs(5);
    let report = check_all(cap, |settings| settings);
    assert!(report.stale > 100, "{report}");
    assert!(report.oldest_stale > report.bound + cap * 8 / 10, "{report}");
}

#[test]
fn no_cache_at_all_tells_nothing_old() {
    let none = kinds().iter().find(|kind| matches!(kind.build, Build::Off)).expect("the kind none");
    let report = check(none, 167, Duration::ZERO, |settings| settings);
    assert_eq!(report.hits, 0, "{report}");
    assert!(report.oldest <= Staleness::SLOWEST, "{report}");
}
