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

use auth_cache::{Settings, TableFactory};
use auth_testkit::Setup;
use auth_testkit::staleness::{Report, Staleness};

use each::{QUESTIONS, SIZES, Wrap, settings, tables};

/// Where the dice start.
const SEEDS: [u64; 3] = [1, 2, 42];

/// Histories of each test: of the default kind, and of all others together, shared out among questions and seeds.
const HISTORIES: u64 = 10_000;

/// A kind and its tables, none for the bare store.
type Kind<'a> = (&'static str, Option<&'a TableFactory>);

fn check((kind, table): Kind<'_>, wrap: Wrap, question: &str, histories: u64, terms: Terms) -> Report {
    let (stale, change) = terms;
    let mut all = Report::default();
    for seed in SEEDS {
        let build = |setup: &Setup| {
            let Some(table) = table else { return wrap(setup, None) };
            let (settings, _) = settings(table, setup, &SIZES);
            let settings = change(settings).with_stale_if_error(stale);
            // Nothing stands in for the validation of a token.
            let stale = if question == "tokens" { Duration::ZERO } else { stale };
            wrap(setup, Some(&settings)).with_stale_if_error(stale)
        };
        let model = Staleness::new(seed).with_histories(histories.div_ceil(SEEDS.len() as u64));
        let report =
            model.run(build).unwrap_or_else(|broken| panic!("{kind} of {question}, seed {seed}: {broken}"));
        all.add(&report);
    }
    all
}

/// For how long an old answer may stand in, and what else is set.
type Terms = (Duration, fn(Settings) -> Settings);

/// Runs the histories of a test; `look` is shown what those of each question did, for each kind.
fn check_all(terms: Terms, look: impl Fn(&str, &Report)) {
    let tables = tables();
    let others = HISTORIES.div_ceil((tables.len() - 1) as u64);
    let (mut of_ttl, mut of_others) = (0, 0);
    for (kind, table) in &tables {
        let is_default = *kind == "ttl";
        let each = if is_default { HISTORIES } else { others }.div_ceil(QUESTIONS.len() as u64);
        for (question, wrap) in QUESTIONS {
            let report = check((kind, Some(table)), wrap, question, each, terms);
            // Far from the bound, little would be proved.
            assert!(report.closeness() > 90, "{kind} of {question}: {report}");
            assert!(report.hits > 1_000 && report.errors > 1_000, "{kind} of {question}: {report}");
            look(question, &report);
            *(if is_default { &mut of_ttl } else { &mut of_others }) += report.histories;
        }
    }
    assert!(of_ttl >= HISTORIES && of_others >= HISTORIES, "{of_ttl} and {of_others}");
}

#[test]
fn no_answer_is_older_than_its_bound() {
    check_all((Duration::ZERO, |settings| settings.with_refresh_ahead(0.0)), |_, report| {
        assert_eq!((report.stale, report.refreshed), (0, 0), "{report}");
    });
}

#[test]
fn no_answer_is_older_than_its_bound_with_refresh_ahead() {
    check_all((Duration::ZERO, |settings| settings.with_refresh_ahead(1.0)), |question, report| {
        assert_eq!(report.stale, 0, "{question}: {report}");
        // Who asks about a token validates it: nothing refreshes that.
        let enough = if question == "tokens" { report.refreshed == 0 } else { report.refreshed > 50 };
        assert!(enough, "{question}: {report}");
    });
}

#[test]
fn stale_answers_are_flagged_and_no_older_than_their_cap() {
    let cap = Duration::from_secs(5);
    check_all((cap, |settings| settings), move |question, report| {
        if question == "tokens" {
            assert_eq!(report.stale, 0, "{report}");
        } else {
            assert!(report.stale > 50, "{question}: {report}");
            assert!(report.oldest_stale > report.bound + cap * 8 / 10, "{question}: {report}");
        }
    });
}

#[test]
fn no_cache_at_all_tells_nothing_old() {
    for (question, wrap) in QUESTIONS {
        let report = check(("none", None), wrap, question, 500, (Duration::ZERO, |settings| settings));
        assert_eq!(report.hits, 0, "{report}");
        assert!(report.oldest <= Staleness::SLOWEST, "{report}");
    }
}
