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

use auth_cache::TableFactory;
use auth_testkit::Setup;
use auth_testkit::race::{Race, Report};

use each::{QUESTIONS, SIZES, Wrap, pick, settings, tables};

/// Where the dice start. All schedules of a kind and a question are one run, so that each is counted once.
const SEED: u64 = 1;

/// Distinct schedules of each kind and question. Only those of tokens have puts from outside, so they are more.
const SCHEDULES: u64 = 2_500;
const OF_TOKENS: u64 = 5_000;

/// Runs the schedules of a kind, none for the bare store.
fn check(kind: &str, table: Option<&TableFactory>, question: &str, wrap: Wrap) -> Report {
    let build = |setup: &Setup| {
        // In a fifth, no table is so small that it forgets: then more is expected.
        let sizes =
            if pick(setup, 4, &[true, false, false, false, false]) { &SIZES[5..] } else { &SIZES[..] };
        let Some(table) = table else { return wrap(setup, None).that_forgets() };
        let (settings, forgets) = settings(table, setup, sizes);
        // A token is validated by who asks: nothing stands in for that.
        let stale = if question == "tokens" { 0 } else { pick(setup, 2, &[0, 5]) };
        let stale = Duration::from_secs(stale);
        // In half of them, loads outlast the life of an answer.
        let limit = Duration::from_secs(pick(setup, 3, &[5, 60]));
        let settings = settings.with_stale_if_error(stale).with_load_timeout(limit);
        let tested = wrap(setup, Some(&settings)).with_stale_if_error(stale);
        if forgets { tested.that_forgets() } else { tested }
    };
    let schedules = if question == "tokens" { OF_TOKENS } else { SCHEDULES };
    let race = Race::new(SEED).with_schedules(schedules);
    let report = race.run(build).unwrap_or_else(|broken| panic!("{kind} of {question}: {broken}"));
    assert_eq!(report.distinct, schedules, "{report}");
    report
}

/// A run in which nothing happens proves nothing: all that can happen to a question does so, and often.
fn look(kind: &str, question: &str, report: &Report) {
    // Nobody joins, refreshes or stands in for the validation of a token, and who leaves takes it along.
    let tokens = question == "tokens";
    let puts = report.by_kind.get("put").copied().unwrap_or_default();
    for (what, count, least, of_tokens) in [
        ("hits", report.hits, 1_500, 4_000),
        ("hits expected", report.hits_expected, 80, 250),
        ("voided in flight", report.voided, 1_000, 3_000),
        ("overtaken", report.overtaken, 600, 4_000),
        ("joined", report.joined, 2_000, 0),
        ("late", report.late, 250, 0),
        ("refreshed", report.refreshed, 60, 0),
        ("stale", report.stale, 20, 0),
        ("puts", puts, 0, 4_000),
    ] {
        let least = if tokens { of_tokens } else { least };
        let enough = if least == 0 { count == 0 } else { count >= least };
        assert!(enough, "{kind} of {question}: {what}: {count}, and {least} are due");
    }
}

#[test]
fn no_kind_serves_what_was_invalidated_nor_loses_what_is_newer() {
    for (kind, table) in tables() {
        let mut distinct = 0;
        for (question, wrap) in QUESTIONS {
            let report = check(kind, Some(&table), question, wrap);
            distinct += report.distinct;
            look(kind, question, &report);
        }
        assert!(distinct >= 10_000, "{kind}: {distinct}");
    }
}

#[test]
fn no_cache_at_all_wins_every_race() {
    let mut distinct = 0;
    for (question, wrap) in QUESTIONS {
        let report = check("none", None, question, wrap);
        assert_eq!(report.hits, 0, "{report}");
        distinct += report.distinct;
    }
    assert!(distinct >= 10_000, "{distinct}");
}
