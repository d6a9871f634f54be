//! What the race harness lets through and what it catches.

use auth_testkit::race::{Race, Rule, Violation};
use auth_testkit::{Setup, Tested};

use crate::bare_moka::Moka;
use crate::model::{Fault, Model};

const SEED: u64 = 7;

fn caught(race: &Race, build: impl Fn(&Setup) -> Tested) -> Box<Violation> {
    race.run(build).map_or_else(|broken| broken, |report| panic!("nothing was caught: {report}"))
}

fn check(fault: Fault, rules: &[Rule]) {
    let build = |setup: &Setup| Model::tested(setup, fault);
    let race = Race::new(SEED).with_schedules(1_000);
    let broken = caught(&race, build);
    assert!(rules.contains(&broken.rule), "{fault:?}: {broken}");
    assert!(broken.after <= 1_000);
}

#[test]
fn a_cache_that_keeps_its_promises_wins_ten_thousand_races() {
    let report =
        Race::new(SEED).run(|setup| Model::tested(setup, Fault::None)).unwrap_or_else(|e| panic!("{e}"));
    println!("{report}");
    assert_eq!(report.distinct, 10_000);
    for (what, count) in [
        ("hits", report.hits),
        ("joined", report.joined),
        ("voided in flight", report.voided),
        ("overtaken", report.overtaken),
        ("late", report.late),
        ("errors", report.errors),
        ("after an invalidation", report.after_invalidation),
        ("hits expected", report.hits_expected),
    ] {
        assert!(count >= 1_000, "{what}: {count}");
    }
}

#[test]
fn a_stamp_read_after_the_load_is_caught() {
    check(Fault::StampAfterLoad, &[Rule::Invalidated]);
}

#[test]
fn a_load_from_before_an_invalidation_that_is_joined_after_it_is_caught() {
    check(Fault::FlightsNotKeyedByStamp, &[Rule::Invalidated]);
}

#[test]
fn an_older_load_that_overwrites_a_newer_is_caught() {
    check(Fault::OlderLoadOverwrites, &[Rule::Newer]);
}

#[test]
fn an_invalidated_answer_that_stands_in_for_a_failing_source_is_caught() {
    let stale = std::time::Duration::from_secs(5);
    let race = Race::new(SEED).with_schedules(1_000);
    let broken = caught(&race, |setup| Model::with_stale(setup, Fault::StaleAfterInvalidation, stale));
    assert_eq!(broken.rule, Rule::Invalidated, "{broken}");
    let right = Race::new(SEED).run(|setup| Model::with_stale(setup, Fault::None, stale));
    let report = right.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(report.stale >= 100, "{report}");
}

#[test]
fn a_stale_answer_where_none_is_allowed_is_caught() {
    let stale = std::time::Duration::from_secs(5);
    let build = |setup: &Setup| {
        Model::with_stale(setup, Fault::None, stale).with_stale_if_error(std::time::Duration::ZERO)
    };
    assert_eq!(caught(&Race::new(SEED).with_schedules(1_000), build).rule, Rule::Stale);
}

#[test]
fn an_error_that_is_kept_is_caught() {
    check(Fault::ErrorsAreKept, &[Rule::Errors]);
}

#[test]
fn an_error_that_turns_into_an_answer_is_caught() {
    check(Fault::ErrorsAreAnswers, &[Rule::NeverSaid]);
}

#[test]
fn a_reader_whose_load_was_taken_along_is_caught() {
    check(Fault::LeadersCarryLoads, &[Rule::Ends]);
}

#[test]
fn a_cache_that_voids_everybody_is_caught() {
    // Few enough that no race shows the entry's loss by itself.
    let race = Race::new(SEED).with_schedules(500);
    let broken = caught(&race, |setup| Model::tested(setup, Fault::VoidsEverybody));
    assert_eq!(broken.rule, Rule::Forgotten, "{broken}");
}

#[test]
fn a_cache_that_ignores_how_fresh_an_answer_is_wanted_is_caught() {
    check(Fault::IgnoresFreshness, &[Rule::Fresh]);
}

#[test]
fn a_cache_whose_answers_live_twice_as_long_is_caught() {
    check(Fault::LivesTwice, &[Rule::TooOld]);
}

#[test]
fn a_joiner_who_is_told_what_is_too_old_is_caught() {
    check(Fault::JoinersTakeAnyAge, &[Rule::TooOld]);
}

#[test]
fn bare_moka_loses() {
    let broken = caught(&Race::new(SEED).with_schedules(1_000).standing_still(), Moka::tested);
    println!("{broken}");
    assert_eq!(broken.rule, Rule::Invalidated, "{broken}");
}

#[test]
fn a_violation_can_be_run_again_and_is_short() {
    let build = |setup: &Setup| Model::tested(setup, Fault::StampAfterLoad);
    let race = Race::new(SEED).with_schedules(1_000);
    let broken = caught(&race, build);
    // A reader asks, an invalidation, the answer; what is read at the end shows it.
    assert!(broken.steps.len() <= 4, "{broken}");
    assert_eq!(race.replay(broken.seed, build).unwrap_err().rule, broken.rule);
    let again = race.rerun(broken.seed, &broken.steps, build).unwrap_err();
    assert_eq!((again.rule, &again.trace), (broken.rule, &broken.trace));
    assert!(race.rerun(broken.seed, &broken.steps, |setup| Model::tested(setup, Fault::None)).is_ok());
    assert!(race.rerun(broken.seed, &[], build).is_ok());
}

#[test]
fn the_same_seed_makes_the_same_races() {
    let run = |seed| {
        let race = Race::new(seed).with_schedules(300);
        race.run(|setup| Model::tested(setup, Fault::None)).unwrap_or_else(|broken| panic!("{broken}"))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
