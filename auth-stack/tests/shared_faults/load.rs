//! Two processes over one source, many clients, and changes that go on all the time.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use auth_core::{Access, Ctx, Password, Reached, Reject, Result, Subject, Verdict};
use auth_stack::{Provides, Stack};
use auth_testkit::servers::{stopwatch, until};
use auth_testkit::{object, password};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::builder;
use crate::truth::{Asked, Front, SOURCE_TAKES, Told, Truth, login_of};

/// How many may ask a source at once.
pub(crate) const LOADS: usize = 16;

/// Half of all questions and changes are about so many people.
const HOT: usize = 100;

/// Panics of any task.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// One test at a time, since each loads the machine. Also counts panics.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    PANICS.store(0, Ordering::SeqCst);
    guard
}

/// The runtime of a test.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A process: a stack with a fence, caches, a bus and tasks of its own.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stack: Stack,
    pub(crate) front: Arc<Front>,
    asked: Asked,
}

impl Process {
    async fn start(cache: &str, truth: &Arc<Truth>, asked: Asked) -> Self {
        let front = Front::new(truth);
        let text = format!(
            "loads = {LOADS}\n[secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n\
             [cache]\nttl = \"5s\"\n{cache}\n"
        );
        let stack = builder(&[("app", Provides::all_of(Arc::clone(&front)))], &text).build().await.unwrap();
        Self { stack, front, asked }
    }

    /// Questions that the shared cache has answered.
    fn hits(&self) -> u64 {
        self.stack.caches().iter().filter_map(|(_, report)| report.shared).map(|shared| shared.hits).sum()
    }

    /// Reports whether it hears if it has to, and everything shared is trusted.
    fn is_well(&self) -> bool {
        let shared = self.stack.shared().unwrap();
        let hears = shared.hearing.is_none_or(|hearing| !hearing.deaf);
        hears && shared.lanes.iter().all(|lane| lane.left_alone.is_none() && lane.behind == 0)
    }
}

/// What became of a question.
#[derive(Debug, Clone, Copy)]
struct Took {
    phase: u8,
    time: Duration,
}

/// Which part of a test it is.
const WARMING: u8 = 0;
const BEFORE: u8 = 1;
const STRUCK: u8 = 2;
const DURING: u8 = 3;
const AFTER: u8 = 4;

/// Two processes over one truth, with a shared cache of one kind.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) kind: &'static str,
    pub(crate) truth: Arc<Truth>,
    pub(crate) processes: [Process; 2],
    password: Password,
    stop: AtomicBool,
    phase: AtomicU8,
    errors: AtomicUsize,
    first_error: Mutex<Option<String>>,
    changes: AtomicUsize,
}

/// How much goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// How long each waits between two questions, at most.
    pub(crate) think: Duration,
    pub(crate) changes_a_second: u32,
}

impl Load {
    /// 64 clients and 50 changes a second.
    pub(crate) const FULL: Self =
        Self { clients: 64, think: Duration::from_millis(20), changes_a_second: 50 };
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn person(&mut self, people: usize) -> usize {
        let among = if self.below(2) == 0 { HOT } else { people };
        self.below(among)
    }
}

impl Pair {
    /// Starts two processes. `cache` has the url of each; both share the prefix.
    pub(crate) async fn start(kind: &'static str, people: usize, cache: [String; 2]) -> Arc<Self> {
        let local = kind == "tiered";
        let truth = Truth::new(people, local);
        let [first, second] = cache;
        let text = |more: &str| format!("kind = \"{kind}\"\nprefix = \"{kind}.\"\n{more}");
        let changer = Process::start(&text(&first), &truth, Asked::Changer).await;
        let other = Process::start(&text(&second), &truth, Asked::Other).await;
        let password = password("hobbes");
        truth.set_hash(changer.stack.hasher().make(&Ctx::new(), &password).await.unwrap());
        Arc::new(Self {
            kind,
            truth,
            processes: [changer, other],
            password,
            stop: AtomicBool::new(false),
            phase: AtomicU8::new(WARMING),
            errors: AtomicUsize::new(0),
            first_error: Mutex::default(),
            changes: AtomicUsize::new(0),
        })
    }

    pub(crate) const fn changer(&self) -> &Process {
        &self.processes[0]
    }

    pub(crate) const fn other(&self) -> &Process {
        &self.processes[1]
    }

    pub(crate) fn is_well(&self) -> bool {
        self.processes.iter().all(Process::is_well)
    }

    /// Asks a process for somebody's groups, which say how often they were changed.
    pub(crate) async fn groups(&self, process: &Process, who: usize) -> Result<Told> {
        let realm = process.stack.realm("default").unwrap();
        let groups = realm.groups(&Ctx::new(), self.truth.principal(who)).await?;
        Ok(Told::Groups(groups.iter().next().unwrap().parse().unwrap()))
    }

    async fn ask(&self, process: &Process, who: usize, what: usize) -> Result<Told> {
        let realm = process.stack.realm("default").unwrap();
        let ctx = Ctx::new();
        match what {
            0 | 1 => match realm.login(&ctx, &login_of(who), &self.password).await? {
                Verdict::Accepted(_) => Ok(Told::Enabled(true)),
                Verdict::Rejected(Reject::Disabled) => Ok(Told::Enabled(false)),
                odd => panic!("{odd:?}"),
            },
            2..=4 => self.groups(process, who).await,
            _ => {
                let object = object("doc", i64::try_from(who % 50).unwrap());
                let access = realm.access(&ctx, self.truth.principal(who), &object, Some("read")).await?;
                Ok(Told::Allowed(access == Access::Allow))
            }
        }
    }

    /// Asks, looks at the answer, and tells how long it took.
    async fn question(&self, process: &Process, who: usize, what: usize) -> Took {
        let phase = self.phase.load(Ordering::SeqCst);
        let asked = stopwatch();
        let told = self.ask(process, who, what).await;
        let time = asked.elapsed();
        match told {
            Ok(told) => drop(self.truth.judge(process.asked, who, told, asked, || process.is_well())),
            Err(error) => {
                self.errors.fetch_add(1, Ordering::SeqCst);
                self.first_error.lock().unwrap().get_or_insert_with(|| error.to_string());
            }
        }
        Took { phase, time }
    }

    async fn client(self: Arc<Self>, number: usize, think: Duration) -> Vec<Took> {
        let mut dice = Dice(u64::try_from(number).unwrap());
        let process = &self.processes[number % 2];
        let mut took = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let (who, what) = (dice.person(self.truth.people()), dice.below(8));
            took.push(self.question(process, who, what).await);
            let pause = dice.below(usize::try_from(think.as_micros()).unwrap() + 1);
            tokio::time::sleep(Duration::from_micros(u64::try_from(pause).unwrap())).await;
        }
        took
    }

    /// Changes people through the first process.
    async fn changes(self: Arc<Self>, a_second: u32, voided: mpsc::UnboundedSender<(usize, usize)>) {
        let mut dice = Dice(1 << 40);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second);
        while !self.stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            let who = dice.person(self.truth.people());
            let version = self.truth.change(who);
            self.changes.fetch_add(1, Ordering::SeqCst);
            if dice.below(10) == 0 {
                // Nobody says so: then the lifetime is the bound.
                continue;
            }
            self.changer().stack.expire(&Subject::Login(&login_of(who)));
            self.truth.voided(who, version);
            voided.send((who, version)).unwrap();
            let _: Took = self.question(self.changer(), who, 2).await;
        }
    }

    /// Notes when what was voided is known everywhere, and looks at once whether it is.
    async fn follow(self: Arc<Self>, mut voided: mpsc::UnboundedReceiver<(usize, usize)>) {
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() {
                let Some(first) = voided.recv().await else { return };
                waiting.push(first);
            }
            waiting.extend(std::iter::from_fn(|| voided.try_recv().ok()));
            if self.changer().stack.settle().await != Reached::Everything {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            waiting.iter().for_each(|(who, version)| self.truth.is_everywhere(*who, *version));
            // After an outage there are many.
            let at = waiting.len().saturating_sub(32);
            for (who, _) in waiting.drain(..).skip(at) {
                let pair = Arc::clone(&self);
                drop(tokio::spawn(async move {
                    for what in [2, 0, 5] {
                        let _: Took = pair.question(pair.other(), who, what).await;
                    }
                }));
            }
        }
    }

    /// What the source takes on this machine while all this goes on: how late whoever waits for it is woken.
    async fn yardstick(self: Arc<Self>) -> Vec<Took> {
        let mut took = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let (phase, began) = (self.phase.load(Ordering::SeqCst), stopwatch());
            tokio::time::sleep(SOURCE_TAKES).await;
            took.push(Took { phase, time: began.elapsed() });
        }
        took
    }

    fn go(self: &Arc<Self>, load: Load) -> Vec<JoinHandle<Vec<Took>>> {
        let (send, voided) = mpsc::unbounded_channel();
        drop(tokio::spawn(Arc::clone(self).changes(load.changes_a_second, send)));
        drop(tokio::spawn(Arc::clone(self).follow(voided)));
        (0..load.clients).map(|number| tokio::spawn(Arc::clone(self).client(number, load.think))).collect()
    }
}

/// What came of a test, of one pair.
#[derive(Debug)]
#[expect(dead_code, reason = "what is wrong is shown with all of it")]
struct Outcome {
    kind: &'static str,
    answers: usize,
    before: Figures,
    struck: Figures,
    during: Figures,
    after: Figures,
    recovery: Duration,
    /// How many asked the source of one process at once, at most.
    at_once: usize,
}

/// The times of questions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Figures {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let Some(max) = times.last().copied() else { return Self::default() };
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Self { count: times.len(), p50: at(50), p99: at(99), max }
    }

    fn took(took: &[Took], phases: &[u8]) -> Self {
        Self::of(took.iter().filter(|took| phases.contains(&took.phase)).map(|took| took.time).collect())
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:.1}/{:.1}/{:.1}", ms(self.p50), ms(self.p99), ms(self.max))
    }
}

/// A test under way: pairs under load, in the hands of a thread that makes things fail.
#[derive(Debug)]
pub(crate) struct Scene {
    what: &'static str,
    runtime: Runtime,
    pub(crate) pairs: Vec<Arc<Pair>>,
    clients: Vec<Vec<JoinHandle<Vec<Took>>>>,
    yardstick: JoinHandle<Vec<Took>>,
    /// Whether something stalls, not only begins anew.
    stalls: bool,
    load: Load,
    began: Instant,
    struck: Option<Instant>,
    most_tasks: usize,
}

impl Scene {
    /// Starts pairs and their load, and waits until all is well.
    pub(crate) fn start(
        what: &'static str,
        load: Load,
        people: usize,
        pairs: &[(&'static str, [String; 2])],
    ) -> Self {
        let runtime = runtime();
        let pairs: Vec<Arc<Pair>> = pairs
            .iter()
            .map(|(kind, cache)| runtime.block_on(Pair::start(kind, people, cache.clone())))
            .collect();
        until("both processes are well", || pairs.iter().all(|pair| pair.is_well()));
        let inside = runtime.enter();
        let clients = pairs.iter().map(|pair| pair.go(load)).collect();
        let yardstick = tokio::spawn(Arc::clone(&pairs[0]).yardstick());
        drop(inside);
        let mut scene = Self {
            what,
            runtime,
            pairs,
            clients,
            yardstick,
            stalls: false,
            load,
            began: stopwatch(),
            struck: None,
            most_tasks: 0,
        };
        scene.goes_on(Duration::from_secs(1));
        scene.phase(BEFORE);
        scene.goes_on(Duration::from_secs(1));
        scene
    }

    /// Lets the load go on for so long.
    pub(crate) fn goes_on(&mut self, time: Duration) {
        self.goes_on_until(stopwatch() + time);
    }

    fn goes_on_until(&mut self, end: Instant) {
        loop {
            self.most_tasks = self.most_tasks.max(self.runtime.metrics().num_alive_tasks());
            let left = end.saturating_duration_since(stopwatch());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    fn phase(&self, phase: u8) {
        self.pairs.iter().for_each(|pair| pair.phase.store(phase, Ordering::SeqCst));
    }

    /// From now on something fails, for some of the processes; `total` if nothing of the shared cache and the bus
    /// comes through to them.
    pub(crate) fn strike(&mut self, processes: &[Asked], total: bool, fault: impl FnOnce()) {
        self.phase(STRUCK);
        self.stalls = !processes.is_empty();
        fault();
        for pair in &self.pairs {
            processes.iter().for_each(|asked| pair.truth.fails(*asked, total));
        }
        self.struck = Some(stopwatch());
    }

    /// Lets the load go on for so long after the fault has struck.
    pub(crate) fn suffers(&mut self, time: Duration) {
        let struck = self.struck.expect("a fault");
        self.goes_on_until((struck + Duration::from_millis(500)).min(struck + time));
        self.phase(DURING);
        self.goes_on_until(struck + time);
    }

    /// Ends the fault, waits until the shared cache answers again in all processes, and tells what came of it all.
    pub(crate) fn heal(mut self, heal: impl FnOnce()) {
        // First, since nothing is blind any more from here on.
        self.pairs.iter().for_each(|pair| pair.truth.heals());
        heal();
        let healed = stopwatch();
        self.phase(AFTER);
        let hits: Vec<Vec<u64>> =
            self.pairs.iter().map(|pair| pair.processes.iter().map(Process::hits).collect()).collect();
        let mut recovered: Vec<Option<Duration>> = vec![None; self.pairs.len()];
        until("the shared cache answers again", || {
            for (n, pair) in self.pairs.iter().enumerate() {
                let mut hit =
                    pair.processes.iter().zip(&hits[n]).map(|(process, before)| process.hits() > *before);
                if recovered[n].is_none() && hit.all(|hit| hit) && pair.is_well() {
                    recovered[n] = Some(healed.elapsed());
                }
            }
            recovered.iter().all(Option::is_some)
        });
        // Long enough for what was kept meanwhile to be told, and ten seconds in all.
        let least = self.began + Duration::from_secs(10);
        self.goes_on_until(least.max(healed + Duration::from_secs(2)));
        self.end(&recovered);
    }

    fn end(mut self, recovered: &[Option<Duration>]) {
        self.pairs.iter().for_each(|pair| pair.stop.store(true, Ordering::SeqCst));
        let mut outcomes = Vec::new();
        let yardstick = self.runtime.block_on(self.yardstick).unwrap();
        let source = Figures::took(&yardstick, &[STRUCK, DURING]);
        for ((pair, clients), recovered) in self.pairs.iter().zip(self.clients.drain(..)).zip(recovered) {
            let mut took = Vec::new();
            for client in clients {
                took.extend(self.runtime.block_on(client).unwrap());
            }
            let at_once = pair.processes.iter().map(|process| process.front.most()).max().unwrap();
            let outcome = Outcome {
                kind: pair.kind,
                answers: took.len(),
                before: Figures::took(&took, &[BEFORE]),
                struck: Figures::took(&took, &[STRUCK, DURING]),
                during: Figures::took(&took, &[DURING]),
                after: Figures::took(&took, &[AFTER]),
                recovery: recovered.unwrap_or_default(),
                at_once,
            };
            let (wrong, errors) =
                (pair.truth.wrong.load(Ordering::SeqCst), pair.errors.load(Ordering::SeqCst));
            let panics = PANICS.load(Ordering::SeqCst);
            println!(
                "{}, {}: {} answers, {} changes, {wrong} wrong, {errors} errors, {panics} panics; p50/p99/max ms before {}, \
                 struck {}, from 0.5 s on {}, after {}; recovery {} ms; the source itself {source}, {at_once} at once; {} tasks",
                self.what,
                pair.kind,
                outcome.answers,
                pair.changes.load(Ordering::SeqCst),
                outcome.before,
                outcome.struck,
                outcome.during,
                outcome.after,
                outcome.recovery.as_millis(),
                self.most_tasks,
            );
            outcomes.push(outcome);
        }
        for pair in &self.pairs {
            let error = pair.first_error.lock().unwrap().clone();
            assert_eq!(
                pair.truth.wrong.load(Ordering::SeqCst),
                0,
                "{}:\n{}",
                pair.kind,
                pair.truth.examples()
            );
            assert_eq!(error, None, "{}", pair.kind);
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{}", self.what);
        for outcome in &outcomes {
            outcome.holds(&self.load, self.pairs.len(), self.most_tasks);
            if self.stalls {
                outcome.is_quick(source);
            }
        }
    }
}

impl Outcome {
    /// Holds what is true of every fault.
    fn holds(&self, load: &Load, pairs: usize, most_tasks: usize) {
        assert!(self.at_once <= LOADS, "{self:?}");
        // It is tried at least every 2 s; a server takes some seconds to be part of a cluster again.
        assert!(self.recovery < Duration::from_secs(10), "{self:?}");
        // A client waits for one load, which has a task; so have the 3 questions about each of 32 changes, and what
        // each process does by itself.
        let most = pairs * (2 * load.clients + 2 * 32 + 2 * LOADS + 50);
        assert!(most_tasks < most, "{most_tasks} tasks, {most} are allowed; {self:?}");
    }

    /// Holds how long questions take while the shared cache is stalled. `source` is what the source itself takes
    /// meanwhile, as measured: on a busy machine more than it should.
    fn is_quick(&self, source: Figures) {
        // 50 ms is the limit of a question to a shared cache. A question waits about three times for its turn on the
        // processor: for the cache, for a place at the source, and for the answer. 20 ms more are slack.
        let most = Duration::from_millis(50 + 20) + source.p99 * 3;
        assert!(self.struck.p99 < most, "{most:?}, {source}; {self:?}");
        // While it is left alone, it costs next to nothing.
        let most = source.p50 * 3 + Duration::from_millis(10);
        assert!(self.during.p50 < most, "{most:?}, {source}; {self:?}");
    }
}
