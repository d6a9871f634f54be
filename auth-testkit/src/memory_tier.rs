//! `MemoryTier` and `MemoryBus`: what processes share, in one process and on a clock that the test moves.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Bus, ByteTier, Clock, Ear, Error, ErrorKind, Generation, Listening, Moment, Result, TierAsk, TierRead,
    TierTime, TierWrite, WireName, Written,
};

/// A shared cache in this process, which keeps to the contract of [`ByteTier`], and fails when it is told to.
///
/// Its server's clock is the test's, shifted by what [`shift`](Self::shift) says. Calls take several turns of the
/// runtime each, so that others come between.
pub struct MemoryTier {
    clock: Arc<dyn Clock>,
    lanes: Vec<Mutex<Server>>,
    turns: AtomicU64,
    fails: AtomicBool,
    keeps_nothing: AtomicBool,
    reads: AtomicU64,
    round_trips: AtomicU64,
    voids: AtomicU64,
}

#[derive(Debug, Default)]
struct Server {
    entries: HashMap<WireName, (Vec<u8>, u64)>,
    generations: HashMap<WireName, (Generation, u64)>,
    made: u64,
    incarnation: u64,
    shift: u64,
}

impl Server {
    fn expire(&mut self, now: u64) {
        self.entries.retain(|_, (_, until)| *until > now);
        self.generations.retain(|_, (_, until)| *until > now);
    }
}

impl MemoryTier {
    /// Where the server's clock begins: far from the processes' own.
    const EPOCH: u64 = 1_700_000_000_000;

    /// Makes an empty one with so many lanes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, lanes: usize) -> Self {
        Self {
            clock,
            lanes: (0..lanes.max(1)).map(|_| Mutex::default()).collect(),
            turns: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            keeps_nothing: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
            voids: AtomicU64::new(0),
        }
    }

    /// Fails every call from now on, or none.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Takes no writes from now on, as a server whose memory is full, or all.
    pub fn refuse_writes(&self, refuses: bool) {
        self.keeps_nothing.store(refuses, Ordering::SeqCst);
    }

    /// Lets each call take so many turns of the runtime, which others may use.
    pub fn take_turns(&self, turns: u64) {
        self.turns.store(turns, Ordering::SeqCst);
    }

    /// Sets the servers' clocks forward.
    pub fn shift(&self, by: Duration) {
        for lane in &self.lanes {
            server(lane).shift += u64::try_from(by.as_millis()).unwrap();
        }
    }

    /// Begins another life of the servers, with all that they held.
    pub fn reincarnate(&self) {
        self.lanes.iter().for_each(|lane| server(lane).incarnation += 1);
    }

    /// Loses everything.
    pub fn lose_everything(&self) {
        for lane in &self.lanes {
            let mut server = server(lane);
            server.entries.clear();
            server.generations.clear();
        }
    }

    /// Loses the generations, and keeps the entries.
    pub fn lose_generations(&self) {
        self.lanes.iter().for_each(|lane| server(lane).generations.clear());
    }

    /// Changes the bytes of every entry.
    pub fn tamper(&self, change: impl Fn(&mut Vec<u8>)) {
        for lane in &self.lanes {
            server(lane).entries.values_mut().for_each(|(bytes, _)| change(bytes));
        }
    }

    /// Returns all entries.
    #[must_use]
    pub fn entries(&self) -> Vec<(WireName, Vec<u8>)> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            all.extend(server(lane).entries.iter().map(|(name, (bytes, _))| (*name, bytes.clone())));
        }
        all
    }

    /// Puts entries back as they were, under the ends that entries have now.
    pub fn replay(&self, entries: &[(WireName, Vec<u8>)]) {
        for (name, bytes) in entries {
            let mut server = self.server(self.lane(name));
            let until = server.entries.get(name).map_or(u64::MAX, |(_, until)| *until);
            server.entries.insert(*name, (bytes.clone(), until));
        }
    }

    /// Returns how many entries were read, and in how many calls.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        (self.reads.load(Ordering::SeqCst), self.round_trips.load(Ordering::SeqCst))
    }

    /// Returns how many generations it was asked to void, those included that failed.
    #[must_use]
    pub fn voids(&self) -> u64 {
        self.voids.load(Ordering::SeqCst)
    }

    fn server(&self, lane: usize) -> MutexGuard<'_, Server> {
        server(self.lanes.get(lane).expect("a lane of this tier"))
    }

    fn now(&self, server: &Server) -> u64 {
        let millis = self.clock.now().since(Moment::ZERO).as_millis();
        Self::EPOCH + u64::try_from(millis).unwrap() + server.shift
    }

    async fn turn(&self) -> Result<()> {
        for _ in 0..self.turns.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        match self.fails.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the shared cache fails")),
            false => Ok(()),
        }
    }
}

fn server(lane: &Mutex<Server>) -> MutexGuard<'_, Server> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl ByteTier for MemoryTier {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn lane(&self, entry: &WireName) -> usize {
        usize::from(*entry.as_bytes().first().unwrap()) % self.lanes.len()
    }

    async fn read(&self, asks: &[TierAsk<'_>]) -> Vec<Result<TierRead>> {
        self.round_trips.fetch_add(1, Ordering::SeqCst);
        let turn = self.turn().await;
        let read = |ask: &TierAsk<'_>| {
            turn.clone()?;
            self.reads.fetch_add(1, Ordering::SeqCst);
            let mut server = self.server(self.lane(&ask.entry));
            let now = self.now(&server);
            server.expire(now);
            let generation = |name| server.generations.get(name).map(|(generation, _)| *generation);
            Ok(TierRead {
                entry: server.entries.get(&ask.entry).map(|(bytes, _)| bytes.clone()),
                generations: ask.generations.iter().map(generation).collect(),
                now: TierTime::from_millis(now),
                left: None,
                incarnation: server.incarnation,
            })
        };
        let reads = asks.iter().map(read).collect();
        // The answers are on their way.
        let _ = self.turn().await;
        reads
    }

    async fn make(&self, lane: usize, names: &[WireName], keep: Duration) -> Result<Vec<Generation>> {
        self.turn().await?;
        let made = {
            let mut server = self.server(lane);
            let now = self.now(&server);
            server.expire(now);
            let mut make = |name: &WireName| {
                server.made += 1;
                let new = Generation::new((server.made << 8 | u64::try_from(lane).unwrap()).to_le_bytes());
                server.generations.entry(*name).or_insert((new, now + millis(keep))).0
            };
            names.iter().map(&mut make).collect()
        };
        self.turn().await?;
        Ok(made)
    }

    async fn write(&self, writes: &[TierWrite<'_>]) -> Vec<Result<Written>> {
        let turn = self.turn().await;
        let write = |write: &TierWrite<'_>| {
            turn.clone()?;
            if self.keeps_nothing.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Overloaded, "the memory is full"));
            }
            let mut server = self.server(self.lane(&write.entry));
            let now = self.now(&server);
            server.expire(now);
            for (name, expected) in write.generations {
                if server.generations.get(name).is_none_or(|(generation, _)| generation != expected) {
                    return Ok(Written::Outdated);
                }
            }
            for (name, _) in write.generations {
                if let Some((_, until)) = server.generations.get_mut(name) {
                    *until = (*until).max(now + millis(write.keep_generations));
                }
            }
            server.entries.insert(write.entry, (write.bytes.to_vec(), write.until.as_millis()));
            Ok(Written::Stored)
        };
        writes.iter().map(write).collect()
    }

    async fn void(&self, lane: usize, names: &[WireName]) -> Result<()> {
        self.voids.fetch_add(u64::try_from(names.len()).unwrap(), Ordering::SeqCst);
        self.turn().await?;
        {
            let mut server = self.server(lane);
            for name in names {
                server.generations.remove(name);
            }
        }
        self.turn().await
    }

    async fn probe(&self) -> Result<()> {
        self.turn().await
    }
}

impl fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

/// A bus in this process. It tells at once, unless it is cut; then nobody hears of that until
/// [`notice`](Self::notice) says so.
#[derive(Debug, Default)]
pub struct MemoryBus {
    ears: Mutex<Vec<Weak<dyn Ear>>>,
    cut: AtomicBool,
    sent: AtomicU64,
}

impl MemoryBus {
    /// Makes one that nobody listens to.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Carries nothing from now on, and fails who publishes.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Tells everybody who listens that the link is lost.
    pub fn notice(&self) {
        self.each(|ear| ear.lost());
    }

    /// Carries again, and tells everybody who listens.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.each(|ear| ear.back());
    }

    /// Returns how many messages were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    fn each(&self, tell: impl Fn(&dyn Ear)) {
        let ears: Vec<_> = self.ears.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        ears.iter().for_each(|ear| tell(ear.as_ref()));
    }
}

#[async_trait]
impl Bus for MemoryBus {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn listen(&self, ear: Arc<dyn Ear>) -> Result<Listening> {
        self.ears.lock().unwrap().push(Arc::downgrade(&ear));
        if !self.cut.load(Ordering::SeqCst) {
            ear.back();
        }
        Ok(Listening::new(ear))
    }

    async fn publish(&self, message: &[u8]) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the bus is cut"));
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
        self.each(|ear| ear.heard(message));
        Ok(())
    }
}
