//! Random histories over two processes: no answer is older than its bound, and an invalidation in one is one in both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth_cache::{Backoff, Limits, Settings, TableFactory, Ttls};
use auth_core::Clock;
use auth_testkit::staleness::{Report, Staleness};
use auth_testkit::{MemoryBus, MemoryTier, Setup, Tested};

use crate::nodes::{Node, Turns, no_table, ttl_table};

/// Where the dice start.
const SEEDS: [u64; 2] = [3, 77];

/// Histories of each of the two tests, shared out among questions and seeds.
const HISTORIES: u64 = 5_000;

const QUESTIONS: [&str; 4] = ["accounts", "groups", "rights", "tokens"];

fn settings(table: &TableFactory, setup: &Setup) -> Settings {
    let ttl = setup.ttl();
    let ttls = Ttls {
        account: ttl,
        accepted: ttl,
        groups: ttl,
        allow: ttl,
        deny: ttl,
        unknown: ttl,
        not_found: ttl,
        token: ttl,
    };
    // The model knows of one process that leaves a source alone after failures, not of two.
    let limits = Limits { backoff: Backoff::OFF, ..Limits::default() };
    Settings::new(Arc::clone(table))
        .with_size(1_024)
        .with_ttls(ttls)
        .with_seed(setup.seed())
        .with_limits(limits)
}

/// Two processes over one tier that takes its time, asked in turns; invalidated in turns, too.
fn build(setup: &Setup, table: &TableFactory, bus: bool, question: &str) -> Tested {
    let clock: Arc<dyn Clock> = setup.clock();
    let tier = Arc::new(MemoryTier::new(Arc::clone(&clock), 1 + usize::try_from(setup.seed() % 3).unwrap()));
    tier.take_turns(setup.seed() % 3);
    let bus = bus.then(MemoryBus::new);
    let settings = settings(table, setup);
    let nodes: Vec<_> =
        (0..2).map(|_| Arc::new(Node::new(&tier, bus.as_ref(), Arc::clone(&clock), &settings))).collect();
    let (each, time) = (nodes.clone().into_iter(), Arc::clone(&clock));
    let tested = match question {
        "accounts" => Tested::accounts(Arc::new(Turns::new(
            each.map(|node| (Arc::clone(&node), node.accounts(setup.accounts(), Arc::clone(&time))))
                .collect(),
            clock,
        ))),
        "groups" => Tested::groups(Arc::new(Turns::new(
            each.map(|node| (Arc::clone(&node), node.groups(setup.groups(), Arc::clone(&time)))).collect(),
            clock,
        ))),
        "rights" => Tested::objects(Arc::new(Turns::new(
            each.map(|node| (Arc::clone(&node), node.rights(setup.objects(), Arc::clone(&time)))).collect(),
            clock,
        ))),
        _ => Tested::tokens(Arc::new(Turns::new(
            each.map(|node| (Arc::clone(&node), node.tokens(Arc::clone(&time)))).collect(),
            clock,
        ))),
    };
    let turn = AtomicUsize::new(0);
    // To void on each lane and to tell the other takes so many.
    tested
        .that_takes_turns(24)
        .told_by(move |subject| nodes[turn.fetch_add(1, Ordering::Relaxed) % 2].fence.invalidate(subject))
}

fn check(table: &TableFactory, bus: bool, what: &str) {
    let mut histories = 0;
    for question in QUESTIONS {
        let mut all = Report::default();
        for seed in SEEDS {
            let each = HISTORIES.div_ceil((QUESTIONS.len() * SEEDS.len()) as u64);
            let model = Staleness::new(seed).with_histories(each);
            let report = model
                .run(|setup| build(setup, table, bus, question))
                .unwrap_or_else(|broken| panic!("{what} of {question}, seed {seed}: {broken}"));
            all.add(&report);
        }
        // Far from the bound, or without hits, little would be proved.
        assert!(all.closeness() > 85, "{what} of {question}: {all}");
        assert!(all.answers > all.loads + all.loads / 5, "{what} of {question}: {all}");
        histories += all.histories;
    }
    assert!(histories >= HISTORIES);
}

#[test]
fn two_processes_that_keep_nothing_themselves_tell_no_old_news() {
    check(&no_table(), false, "shared");
}

#[test]
fn two_processes_that_keep_what_they_share_tell_no_old_news() {
    check(&ttl_table(), true, "tiered");
}
