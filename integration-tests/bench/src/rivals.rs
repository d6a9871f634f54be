//! Those who ask a server, timed in turns: so many tasks at once, each one question after the other.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auth_core::BoxFuture;
use tokio::runtime::Runtime;

use crate::bar;

/// How many people are asked about.
pub const PEOPLE: usize = 1_000;

/// How long one of them is timed before it is the next one's turn.
const TURN: Duration = Duration::from_millis(100);

/// One task: asks until it is told to stop, and counts.
type Task = Box<dyn Fn(Arc<Stop>, usize) -> BoxFuture<u64>>;

#[derive(Debug, Default)]
struct Stop(AtomicBool);

/// One of those that are compared: what it got done a second, by how many asked at once, in each round.
pub struct Rival {
    name: String,
    task: Task,
    rounds: Vec<Vec<f64>>,
}

impl fmt::Debug for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rival").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Rival {
    /// Makes one of what answers about a person's number, true if rightly.
    pub fn new<F, Fut>(name: impl Into<String>, ask: F) -> Self
    where
        F: Fn(usize) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let name = name.into();
        let said = name.clone();
        let task = move |stop: Arc<Stop>, from: usize| -> BoxFuture<u64> {
            let (ask, name) = (ask.clone(), said.clone());
            Box::pin(async move {
                let (mut n, mut count) = (from, 0);
                while !stop.0.load(Ordering::Relaxed) {
                    // A prime, so that nobody asks after the same people as another does.
                    n = (n + 617) % PEOPLE;
                    assert!(ask(n).await, "{name}: not every answer was right");
                    count += 1;
                }
                count
            })
        };
        Self { name, task: Box::new(task), rounds: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it got done a second in one turn.
    fn turn(&self, runtime: &Runtime, tasks: usize) -> f64 {
        let stop = Arc::new(Stop::default());
        let began = Instant::now();
        let all: Vec<_> = (0..tasks).map(|n| runtime.spawn((self.task)(Arc::clone(&stop), n * 31))).collect();
        std::thread::sleep(TURN);
        stop.0.store(true, Ordering::Relaxed);
        let count: u64 =
            all.into_iter().map(|task| runtime.block_on(task).expect("every answer is right")).sum();
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let figure = count as f64 / began.elapsed().as_secs_f64();
        figure
    }
}

/// How rivals are compared.
#[derive(Debug, Clone, Copy)]
pub struct Race {
    /// What is counted.
    pub what: &'static str,
    /// How many ask at once.
    pub tasks: &'static [usize],
    /// How many turns each of them has.
    pub rounds: usize,
}

impl Race {
    /// Lets all take turns, so that what else the machine does hits all alike.
    pub fn run(&self, runtime: &Runtime, rivals: &mut [Rival]) {
        rivals.iter_mut().for_each(|rival| rival.rounds = vec![Vec::new(); self.tasks.len()]);
        for (at, tasks) in self.tasks.iter().enumerate() {
            // The first round is for the processor's caches and the servers.
            for round in 0..=self.rounds {
                for rival in &mut *rivals {
                    let figure = rival.turn(runtime, *tasks);
                    if round > 0 {
                        rival.rounds[at].push(figure);
                    }
                }
            }
        }
    }

    /// Prints a row for each, beside the one that it is compared with.
    pub fn print(&self, title: &str, rivals: &[Rival], beside: &[(&str, &str)]) {
        println!("\n{title}");
        println!(
            "{} a second, median of {} rounds; in brackets: of the bare client's\n",
            self.what, self.rounds
        );
        print!("{:44}", "");
        self.tasks.iter().for_each(|tasks| print!("{:>18}", format!("{tasks} at once")));
        println!();
        for rival in rivals {
            let bare =
                beside.iter().find(|(ours, _)| *ours == rival.name).map(|(_, bare)| find(rivals, bare));
            print!("{:44}", rival.name);
            for at in 0..self.tasks.len() {
                let share = bare.map_or_else(String::new, |bare| format!("({:.2})", ratio(rival, bare, at)));
                print!("{:>11.0} {share:>6}", median(rival.rounds[at].clone()));
            }
            println!();
        }
    }

    /// Tells whether the bars are held where most ask at once.
    #[must_use]
    pub fn judge(&self, server: &str, rivals: &[Rival], bars: &[(&str, &str, f64)]) -> Vec<bool> {
        let last = self.tasks.len() - 1;
        let one = |(ours, bare, least): &(&str, &str, f64)| {
            let share = ratio(find(rivals, ours), find(rivals, bare), last);
            let what = format_args!(
                "{server}, {ours}: {share:.2} of its bare client's, the bar is at least {least}"
            );
            bar(what, share >= *least)
        };
        println!();
        bars.iter().map(one).collect()
    }
}

fn find<'a>(rivals: &'a [Rival], name: &str) -> &'a Rival {
    rivals.iter().find(|rival| rival.name == name).expect("a row of this name")
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of the rounds' ratios.
fn ratio(of: &Rival, to: &Rival, at: usize) -> f64 {
    median(of.rounds[at].iter().zip(&to.rounds[at]).map(|(of, to)| of / to).collect())
}
