//! What the benches share: people, a store that knows them, who is asked about, and how hits are timed.
#![forbid(unsafe_code)]

pub mod rivals;

use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auth_cache::{Cached, Settings, TableFactory, Ttls, kinds};
use auth_core::{
    Access, Account, AccountSource, AccountState, Ctx, Fence, Fingerprint, GroupOracle, GroupSet, Id, Login,
    LoginRule, Lookup, ObjectPerms, ObjectRef, Principal, RealmId, Result, SourceInfo, StoredHash,
};
use auth_stack::{Opening, Provides, SystemClock};

/// How long everything is remembered: longer than a bench takes.
pub const LONG: Duration = Duration::from_secs(8 * 3600);

/// Hits that are timed together.
pub const CHUNK: usize = 1024;

/// How long one contender is timed before it is the next one's turn: long enough to have its entries in the
/// processor's caches again.
const TURN: Duration = Duration::from_millis(100);

/// The login of a person: 24 bytes.
#[must_use]
pub fn login(n: usize) -> String {
    format!("user{n:08}@example.org")
}

/// The groups of a person: five of 200.
#[must_use]
pub fn groups(n: usize) -> [String; 5] {
    [0, 1, 2, 3, 4].map(|more| format!("group-{:03}", (n * 7 + more * 31) % 200))
}

/// One of the groups of a person.
#[must_use]
pub fn group(n: usize) -> String {
    let [.., last] = groups(n);
    last
}

/// A store in memory that needs no memory: who somebody is tells everything about them.
#[derive(Debug)]
pub struct Flat(SourceInfo);

impl Default for Flat {
    fn default() -> Self {
        Self(SourceInfo::new("flat", Fingerprint::default()))
    }
}

#[async_trait]
impl GroupOracle for Flat {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let Id::Int(n) = who.id() else { return Ok(Lookup::NotFound) };
        let names = groups(usize::try_from(*n).unwrap_or_default());
        Ok(Lookup::Found(names.iter().map(String::as_str).collect()))
    }
}

#[async_trait]
impl ObjectPerms for Flat {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn access(
        &self,
        _ctx: &Ctx,
        _who: &Principal,
        _object: &ObjectRef,
        _mode: Option<&str>,
    ) -> Result<Access> {
        Ok(Access::Allow)
    }
}

/// Nobody logs in here.
#[derive(Debug)]
struct Nobody(SourceInfo);

#[async_trait]
impl AccountSource for Nobody {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        Ok(Account::found(&self.0, login, login.as_str(), Id::from(0), AccountState::default(), None))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

/// Opens the source that the people of the benches are of.
///
/// # Errors
/// None.
pub async fn open(opening: Opening<'_>) -> Result<Provides> {
    Ok(Provides::accounts(Arc::new(Nobody(opening.info))).with_groups(Arc::new(Flat::default())))
}

/// The realm that everybody is in.
///
/// # Panics
/// Never: the name is possible.
#[must_use]
pub fn realm() -> RealmId {
    RealmId::new("default", LoginRule::CaseMapped).expect("a possible name")
}

/// One person, as a source finds them.
///
/// # Panics
/// Never: the login is possible.
#[must_use]
pub fn person(realm: &RealmId, source: &Flat, n: usize) -> Principal {
    let text = login(n);
    let login = Login::parse(realm, &text).expect("a possible login");
    let id = Id::from(i64::try_from(n).expect("a small number"));
    Principal::found(&source.0, &login, &text, id).expect("who was asked for")
}

/// So many people.
#[must_use]
pub fn people(count: usize) -> Vec<Principal> {
    let (realm, source) = (realm(), Flat::default());
    (0..count).map(|n| person(&realm, &source, n)).collect()
}

/// The document of a person.
///
/// # Panics
/// Never: the name is possible.
#[must_use]
pub fn document(n: usize) -> ObjectRef {
    ObjectRef::new("doc", [Id::from(i64::try_from(n).expect("a small number"))]).expect("a possible name")
}

/// Every kind of cache that keeps something in this process.
#[must_use]
pub fn local_kinds() -> Vec<(&'static str, TableFactory)> {
    kinds().iter().filter_map(|kind| Some((kind.name, kind.factory()?))).collect()
}

/// The settings of a cache of one kind with room for so many answers.
///
/// # Panics
/// If there is no such kind.
#[must_use]
pub fn settings(kind: &str, size: usize) -> Settings {
    let (_, factory) = local_kinds().into_iter().find(|(name, _)| *name == kind).expect("a kind of cache");
    let all = Ttls { allow: LONG, deny: LONG, unknown: LONG, token: LONG, ..Ttls::default().with_ttl(LONG) };
    Settings::new(factory).with_size(size).with_ttls(all)
}

/// Wraps the store in a cache for groups, with the clock that a stack has.
#[must_use]
pub fn cached_groups(kind: &str, size: usize) -> Arc<dyn GroupOracle> {
    let store: Arc<dyn GroupOracle> = Arc::new(Flat::default());
    let (fence, clock) = (Arc::new(Fence::new()), Arc::new(SystemClock::new()));
    Arc::new(Cached::<dyn GroupOracle>::new(store, fence, clock, &settings(kind, size)))
}

/// The same for rights.
#[must_use]
pub fn cached_rights(kind: &str, size: usize) -> Arc<dyn ObjectPerms> {
    let store: Arc<dyn ObjectPerms> = Arc::new(Flat::default());
    let (fence, clock) = (Arc::new(Fence::new()), Arc::new(SystemClock::new()));
    Arc::new(Cached::<dyn ObjectPerms>::new(store, fence, clock, &settings(kind, size)))
}

/// Numbers that look random and are the same each time (xorshift64*).
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        #[allow(clippy::cast_precision_loss, reason = "53 bits are what it holds")]
        let number = bits as f64;
        number / 9_007_199_254_740_992.0
    }
}

/// Who is asked about: people by Zipf's law with exponent 0.99, the frequent ones scattered over the numbers.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn zipf(people: usize, hits: usize, seed: u64) -> Vec<usize> {
    let mut sum = 0.0;
    let ends: Vec<f64> = (1..=people)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // The first few are alike for seeds that are.
    for _ in 0..8 {
        numbers.next();
    }
    let mut one = || {
        let at = numbers.next() * sum;
        let rank = ends.partition_point(|end| *end < at).min(people - 1);
        // A prime, so that each rank is somebody else.
        rank.wrapping_mul(2_654_435_761) % people
    };
    (0..hits).map(|_| one()).collect()
}

/// Takes the answer of a future that does not wait.
///
/// # Panics
/// If it waits.
#[inline]
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a hit waited"),
    }
}

/// What is timed: asks about the people of these numbers, and counts the right answers.
type Work<'a> = Box<dyn Fn(usize, &[usize]) -> usize + Sync + 'a>;

/// One of those that are compared.
pub struct Contender<'a> {
    name: String,
    work: Work<'a>,
    // Nanoseconds a hit, of each chunk so far.
    chunks: Vec<f64>,
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Contender<'a> {
    /// Makes one from what answers about a person's number, true if rightly.
    pub fn new(name: impl Into<String>, ask: impl Fn(usize) -> bool + Sync + 'a) -> Self {
        let work = move |_, asked: &[usize]| asked.iter().filter(|n| ask(**n)).count();
        Self { name: name.into(), work: Box::new(work), chunks: Vec::new() }
    }

    /// Forgets its times.
    pub fn again(&mut self) {
        self.chunks.clear();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The median of its chunks, in nanoseconds a hit.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut chunks = self.chunks.clone();
        chunks.sort_by(f64::total_cmp);
        chunks.get(chunks.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Times it for one turn, on as many threads as there are streams.
    fn turn(&mut self, streams: &[Vec<usize>], round: usize) {
        let barrier = Barrier::new(streams.len());
        let work = &self.work;
        let timed = |thread: usize, stream: &[usize]| {
            let mut chunks = Vec::new();
            let all = stream.len() / CHUNK;
            // Each round goes on where the last one was, roughly.
            let mut at = round * 37;
            barrier.wait();
            let began = Instant::now();
            while began.elapsed() < TURN || chunks.len() < 4 {
                let from = (at % all) * CHUNK;
                let asked = &stream[from..from + CHUNK];
                let start = Instant::now();
                let right = work(thread, black_box(asked));
                chunks.push(start.elapsed());
                assert_eq!(right, asked.len(), "{}: not every hit was one", self.name);
                at += 1;
            }
            // What the contender before has left in the processor's caches is not this one's.
            chunks.split_off(chunks.len() / 4)
        };
        let timed = &timed;
        let chunks: Vec<Vec<Duration>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                streams.iter().enumerate().map(|(n, stream)| scope.spawn(move || timed(n, stream))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a contender that answers")).collect()
        });
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        self.chunks.extend(chunks.iter().flatten().map(|time| time.as_secs_f64() * 1e9 / CHUNK as f64));
    }
}

/// Times all contenders in turns, so that what else the machine does hits all alike, and returns their medians.
pub fn compare(contenders: &mut [Contender<'_>], people: usize, threads: usize, rounds: usize) -> Vec<f64> {
    let streams: Vec<Vec<usize>> = (1..=threads).map(|n| zipf(people, 512 * CHUNK, n as u64)).collect();
    contenders.iter_mut().for_each(Contender::again);
    for round in 0..rounds {
        for contender in &mut *contenders {
            contender.turn(&streams, round);
        }
    }
    contenders.iter().map(Contender::median).collect()
}

/// Prints whether a bar is held, and returns it.
#[must_use]
pub fn bar(what: impl std::fmt::Display, held: bool) -> bool {
    println!("{what}: {}", if held { "held" } else { "NOT HELD" });
    held
}

/// Returns how a bench with these bars ends: with a failure, unless all are held.
#[must_use]
pub fn exit(bars: &[bool]) -> ExitCode {
    if bars.iter().all(|held| *held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
