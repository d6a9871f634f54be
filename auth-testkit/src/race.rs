//! The race harness: seeded schedules of readers, loads, puts, refreshes and invalidations.
//!
//! Everything runs in one thread. The run decides when the source reads its value, when it answers, who asks
//! and who leaves, when time passes and what is invalidated; after each step everything that can go on does so,
//! and what readers were told is compared with what the source has said. Each value of the source has a
//! version, so that an answer tells how old it is.
//!
//! What is checked is [`Rule`]; what a schedule may consist of is [`Step`]. A cache that keeps its promises runs
//! through; otherwise the [`Violation`] says which promise broke, by how few steps, and how to run it again.
//!
//! ```
//! use auth_testkit::{Tested, race::Race};
//!
//! // A bare store keeps no promise wrongly: it keeps nothing.
//! let report = Race::new(1).with_schedules(200).run(|setup| Tested::groups(setup.groups()).that_forgets());
//! let report = report.expect("a bare store wins every race");
//! assert_eq!((report.distinct, report.hits), (200, 0));
//! ```

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::trial::{Dice, Setup, Stage, Tested, mix};

mod report;
mod rules;
mod schedule;
mod step;

pub use report::{Report, Rule, Violation};
use schedule::{Broken, Schedule};
pub use step::{Scope, Step};

/// How many schedules are run, and with what.
#[derive(Debug, Clone)]
pub struct Race {
    seed: u64,
    schedules: u64,
    back_off: Duration,
    moves_time: bool,
}

impl Race {
    /// Starts from a seed: the same seed makes the same choices.
    ///
    /// A cache that throws its own dice (for jitter, for a hash) may still take another way from there.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, schedules: 10_000, back_off: Duration::from_secs(6), moves_time: true }
    }

    /// Sets how many distinct schedules are run. 10,000 by default.
    #[must_use]
    pub const fn with_schedules(mut self, distinct: u64) -> Self {
        self.schedules = distinct;
        self
    }

    /// Sets for how long after a failure of the source a reader may be told an error without a question to the
    /// source. 6 seconds by default; answers live for 10. A reader may be told so, too, as long as the source
    /// has answered nothing since: a cache may try a failing source with one question at a time.
    #[must_use]
    pub const fn with_back_off(mut self, back_off: Duration) -> Self {
        self.back_off = back_off;
        self
    }

    /// Lets no time pass but a millisecond a step: for caches that do not use the run's clock.
    #[must_use]
    pub const fn standing_still(mut self) -> Self {
        self.moves_time = false;
        self
    }

    /// Runs schedules, each over a cache of its own that `build` makes.
    ///
    /// # Errors
    /// The first broken promise, with its schedule made as short as can be. [`Rule::Few`] if it can't find as many
    /// distinct schedules as it is to run.
    ///
    /// # Panics
    /// If no runtime can be made.
    pub fn run(&self, build: impl Fn(&Setup) -> Tested) -> Result<Report, Box<Violation>> {
        let stage = Stage::new();
        let (mut report, mut seen) = (Report::default(), HashSet::new());
        // The last of the distinct ones may be slow to come where there are few.
        let most = self.schedules.saturating_mul(2).saturating_add(100);
        for number in 0..most {
            if report.distinct >= self.schedules {
                break;
            }
            let seed = mix(self.seed.wrapping_add(mix(number)));
            let played = self.play(&stage, seed, &Script::Thrown, &build);
            report.schedules += 1;
            if let Some(broken) = played.broken {
                let found = violation(broken, seed, report.schedules, played.steps, played.trace);
                return Err(Box::new(self.shorten(&stage, found, &build)));
            }
            report.steps += played.steps.len() as u64;
            for step in &played.steps {
                *report.by_kind.entry(step.name()).or_default() += 1;
            }
            let mut hasher = DefaultHasher::new();
            played.steps.hash(&mut hasher);
            report.distinct += u64::from(seen.insert(hasher.finish()));
            report.add(&played.report);
        }
        if report.distinct < self.schedules {
            let what = format!("{} of {}", report.distinct, self.schedules);
            return Err(Box::new(violation((Rule::Few, what), self.seed, report.schedules, vec![], vec![])));
        }
        // Two names on one stripe of a fence cost a miss: a few are allowed.
        if report.hits_missed > 5 && report.hits_missed * 100 > report.hits_expected {
            let what = format!("{} of {} hits were missed", report.hits_missed, report.hits_expected);
            let found = violation((Rule::Forgotten, what), self.seed, report.schedules, vec![], vec![]);
            return Err(Box::new(found));
        }
        Ok(report)
    }

    /// Runs one schedule again: the one of a [`Violation`]'s seed.
    ///
    /// # Errors
    /// The promise that it breaks.
    ///
    /// # Panics
    /// If no runtime can be made.
    pub fn replay(&self, seed: u64, build: impl Fn(&Setup) -> Tested) -> Result<Report, Box<Violation>> {
        self.once(seed, &Script::Thrown, &build)
    }

    /// Runs these steps, leaving out those that are not possible when their turn comes. The seed is what the
    /// cache's [`Setup`] tells.
    ///
    /// # Errors
    /// The promise that they break.
    ///
    /// # Panics
    /// If no runtime can be made.
    pub fn rerun(
        &self,
        seed: u64,
        steps: &[Step],
        build: impl Fn(&Setup) -> Tested,
    ) -> Result<Report, Box<Violation>> {
        self.once(seed, &Script::Given(steps), &build)
    }

    fn once(&self, seed: u64, script: &Script<'_>, build: &Build<'_>) -> Result<Report, Box<Violation>> {
        let played = self.play(&Stage::new(), seed, script, build);
        match played.broken {
            Some(broken) => Err(Box::new(violation(broken, seed, 1, played.steps, played.trace))),
            None => Ok(played.report),
        }
    }

    /// Leaves out what can be left out.
    fn shorten(&self, stage: &Stage, mut found: Violation, build: &Build<'_>) -> Violation {
        for _ in 0..3 {
            let before = found.steps.len();
            for place in (0..before).rev() {
                // Those that became impossible without another are gone with it.
                if place >= found.steps.len() {
                    continue;
                }
                let mut fewer = found.steps.clone();
                fewer.remove(place);
                let played = self.play(stage, found.seed, &Script::Given(&fewer), build);
                if let Some(broken) = played.broken.filter(|(rule, _)| *rule == found.rule) {
                    found = violation(broken, found.seed, found.after, played.steps, played.trace);
                }
            }
            if found.steps.len() == before {
                break;
            }
        }
        found
    }

    fn play(&self, stage: &Stage, seed: u64, script: &Script<'_>, build: &Build<'_>) -> Played {
        let runtime = stage.runtime();
        let _inside = runtime.enter();
        let setup = stage.setup(seed);
        let tested = build(&setup);
        let mut schedule = Schedule::new(setup, tested, self.back_off);
        let played = runtime.block_on(async {
            match script {
                Script::Thrown => {
                    let mut dice = Dice::new(seed);
                    // Steps that are not possible after all are not counted.
                    for _ in 0..dice.between(10, 25) {
                        let step = schedule.choose(&mut dice, self.moves_time);
                        schedule.take(step).await?;
                    }
                }
                Script::Given(steps) => {
                    for step in *steps {
                        schedule.take(*step).await?;
                    }
                }
            }
            schedule.close().await
        });
        let trace = if played.is_err() { schedule.trace() } else { Vec::new() };
        Played { steps: schedule.done, report: schedule.report, broken: played.err(), trace }
    }
}

type Build<'a> = dyn Fn(&Setup) -> Tested + 'a;

enum Script<'a> {
    Thrown,
    Given(&'a [Step]),
}

struct Played {
    steps: Vec<Step>,
    report: Report,
    broken: Option<Broken>,
    trace: Vec<String>,
}

fn violation(broken: Broken, seed: u64, after: u64, steps: Vec<Step>, trace: Vec<String>) -> Violation {
    let (rule, what) = broken;
    Violation { rule, what, seed, after, steps, trace }
}
