//! What the model of bounded staleness lets through and what it catches.

use std::time::Duration;

use auth_testkit::Setup;
use auth_testkit::race::{Rule, Violation};
use auth_testkit::staleness::Staleness;

use crate::model::{Fault, Model};

const SEED: u64 = 11;
const STALE: Duration = Duration::from_secs(5);

fn caught(fault: Fault) -> Box<Violation> {
    let build = |setup: &Setup| Model::with_stale(setup, fault, STALE);
    let model = Staleness::new(SEED).with_histories(1_000);
    let broken =
        model.run(build).map_or_else(|broken| broken, |report| panic!("nothing was caught: {report}"));
    assert_eq!(model.replay(broken.seed, build).unwrap_err().trace, broken.trace);
    broken
}

#[test]
fn a_cache_that_keeps_its_promises_stays_within_its_bound_and_comes_close_to_it() {
    let model = Staleness::new(SEED);
    let plain =
        model.run(|setup| Model::tested(setup, Fault::None)).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{plain}");
    assert_eq!((plain.histories, plain.stale), (10_000, 0));
    assert!(plain.closeness() > 95 && plain.hits > 10_000 && plain.errors > 1_000, "{plain}");
    let stale = model.run(|setup| Model::with_stale(setup, Fault::None, STALE));
    let stale = stale.unwrap_or_else(|broken| panic!("{broken}"));
    println!("{stale}");
    assert!(stale.stale > 1_000 && stale.errors < plain.errors, "{stale}");
    assert!(stale.oldest_stale > plain.bound + STALE * 8 / 10, "{stale}");
}

#[test]
fn a_cache_in_which_reads_renew_is_caught() {
    assert_eq!(caught(Fault::ReadsRenew).rule, Rule::TooOld);
}

#[test]
fn a_cache_whose_answers_live_twice_as_long_is_caught_by_its_history() {
    assert_eq!(caught(Fault::LivesTwice).rule, Rule::TooOld);
}

#[test]
fn invalidated_answers_are_caught_in_histories_too() {
    for fault in [Fault::StampAfterLoad, Fault::FlightsNotKeyedByStamp, Fault::StaleAfterInvalidation] {
        assert_eq!(caught(fault).rule, Rule::Invalidated, "{fault:?}");
    }
}

#[test]
fn errors_that_are_kept_or_turn_into_answers_are_caught_in_histories_too() {
    assert_eq!(caught(Fault::ErrorsAreKept).rule, Rule::Errors);
    assert!(matches!(
        caught(Fault::ErrorsAreAnswers).rule,
        Rule::NeverSaid | Rule::TooOld | Rule::Invalidated
    ));
}

#[test]
fn a_joiner_who_is_told_what_is_too_old_is_caught_by_its_history() {
    assert_eq!(caught(Fault::JoinersTakeAnyAge).rule, Rule::TooOld);
}

#[test]
fn a_cache_that_ignores_how_fresh_an_answer_is_wanted_is_caught_by_its_history() {
    assert_eq!(caught(Fault::IgnoresFreshness).rule, Rule::Fresh);
}
