//! A tier of one or several memcached.

mod command;
mod config;
mod exchange;
mod link;
mod multiplexed;
mod pooled;
mod ticks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    ByteTier, Clock, Error, ErrorKind, Generation, Result, TierAsk, TierRead, TierTime, TierWrite, WireName,
    Written,
};
use futures_util::future::{join_all, try_join_all};

use command::{Answer, Command, Expiry};
pub use config::{MemcachedConfig, MemcachedTransport};
use config::{Place, Server};
use exchange::{Exchanged, Transport};
use multiplexed::Multiplexed;
use pooled::Pooled;

/// A quarter of the time that a generation is kept comes on top, so that it is seldom touched again.
const SLACK: u32 = 4;

/// One or several memcached that share the entries.
///
/// Each server is a lane. Which lane an entry is on depends on its name and on the names of the servers as they are
/// configured, by rendezvous hashing: who adds or removes a server moves the share of that one alone. The share of a
/// server that is lost is moved nowhere: its lane fails until it is back, since what other servers had kept meanwhile
/// would come back to life later.
///
/// Connections are made by the first call, on its tokio runtime, and heal by themselves.
///
/// What memcached can't do: a write is not compared with the generations that it was loaded under, so it is never
/// [`Outdated`](Written::Outdated); who reads compares them anyway. Its clock goes in whole seconds, so
/// [`now`](TierRead::now) is up to a second behind (less, the longer a connection stands), and never ahead; an entry
/// ends up to a second before its time.
#[derive(Debug)]
pub struct MemcachedTier {
    lanes: Vec<Lane>,
    most_bytes: usize,
}

#[derive(Debug)]
struct Lane {
    /// Of the configured name.
    seed: u64,
    transport: Box<dyn Transport>,
}

impl MemcachedTier {
    /// Makes a tier, which connects when it is first used.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for a URL, a prefix or a limit that is not possible.
    #[expect(clippy::needless_pass_by_value, reason = "what is made from it keeps its parts")]
    pub fn new(config: MemcachedConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let servers = config.check()?;
        let lane = |server: Server| {
            let seed = fnv(server.name.as_bytes());
            let transport: Box<dyn Transport> = match (config.transport, &server.place) {
                (MemcachedTransport::Multiplexed, _) => {
                    Box::new(Multiplexed::new(server, &config, Arc::clone(&clock)))
                }
                (MemcachedTransport::Memcache, Place::Tcp(_)) => {
                    Box::new(Pooled::new(server, &config, Arc::clone(&clock)))
                }
                (MemcachedTransport::Memcache, Place::Unix(_)) => {
                    let text = "memcached: the transport `memcache` has no unix sockets";
                    return Err(Error::new(ErrorKind::Misconfigured, text));
                }
            };
            Ok(Lane { seed, transport })
        };
        let lanes = servers.into_iter().map(lane).collect::<Result<_>>()?;
        Ok(Self { lanes, most_bytes: config.most_bytes })
    }

    async fn exchange(&self, lane: usize, commands: &[Command<'_>]) -> Result<Exchanged> {
        let lane = self.lanes.get(lane).ok_or_else(no_such_lane)?;
        lane.transport.exchange(commands).await
    }

    /// Shares what is asked among the lanes: for each its number and what it has of them.
    fn by_lane(&self, names: impl Iterator<Item = WireName>) -> Vec<(usize, Vec<usize>)> {
        let mut lanes = vec![Vec::new(); self.lanes.len()];
        for (at, name) in names.enumerate() {
            if let Some(lane) = lanes.get_mut(self.lane(&name)) {
                lane.push(at);
            }
        }
        lanes.into_iter().enumerate().filter(|(_, asked)| !asked.is_empty()).collect()
    }

    async fn read_lane(&self, lane: usize, asks: &[&TierAsk<'_>]) -> Result<Vec<TierRead>> {
        // What several entries depend on is read once.
        let mut places = HashMap::new();
        let mut commands = Vec::new();
        for ask in asks {
            for name in [&ask.entry].into_iter().chain(ask.generations) {
                places.entry(*name).or_insert_with(|| {
                    commands.push(Command::Get(*name));
                    commands.len() - 1
                });
            }
        }
        let found = self.exchange(lane, &commands).await?;
        let answer = |name: &WireName| places.get(name).and_then(|at| found.answers.get(*at));
        let read = |ask: &&TierAsk<'_>| {
            let generation = |name: &WireName| match answer(name) {
                Some(Answer::Value { bytes, .. }) => generation(bytes).map(Some),
                _ => Ok(None),
            };
            let (entry, left) = match answer(&ask.entry) {
                Some(Answer::Value { bytes, left }) => (Some(bytes.clone()), *left),
                _ => (None, None),
            };
            Ok(TierRead {
                entry,
                generations: ask.generations.iter().map(generation).collect::<Result<_>>()?,
                now: found.now,
                left: left.map(surely_left),
                incarnation: found.incarnation,
            })
        };
        asks.iter().map(read).collect()
    }

    async fn write_lane(&self, lane: usize, writes: &[&TierWrite<'_>]) -> Result<Vec<Result<Written>>> {
        let mut commands = Vec::with_capacity(writes.len());
        for write in writes {
            let (name, bytes, until) = (write.entry, write.bytes, Expiry::at(write.until));
            commands.push(Command::Set { name, bytes, until, add: false });
        }
        let mut keeps: Vec<(WireName, Duration)> = Vec::new();
        for write in writes {
            for (name, _) in write.generations {
                match keeps.iter_mut().find(|(known, _)| known == name) {
                    Some((_, keep)) => *keep = write.keep_generations.max(*keep),
                    None => keeps.push((*name, write.keep_generations)),
                }
            }
        }
        commands.extend(keeps.iter().map(|(name, _)| Command::Left(*name)));
        let mut done = self.exchange(lane, &commands).await?;
        let lefts = done.answers.split_off(writes.len().min(done.answers.len()));
        let short = |((name, keep), left): (&(WireName, Duration), &Answer)| match left {
            Answer::Left(left) => {
                too_short(*left, *keep).then(|| Command::Touch(*name, keep_from(done.now, *keep)))
            }
            // What is gone was voided, or lost.
            _ => None,
        };
        let touches: Vec<_> = keeps.iter().zip(&lefts).filter_map(short).collect();
        if !touches.is_empty() {
            self.exchange(lane, &touches).await?;
        }
        let written = |answer: &Answer| match answer {
            Answer::Done => Ok(Written::Stored),
            Answer::TooLarge => Ok(Written::TooLarge),
            other => Err(refused(other)),
        };
        Ok(done.answers.iter().map(written).collect())
    }
}

#[async_trait]
impl ByteTier for MemcachedTier {
    fn kind(&self) -> &'static str {
        "memcached"
    }

    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn lane(&self, entry: &WireName) -> usize {
        let highest = self.lanes.iter().enumerate().max_by_key(|(_, lane)| score(lane.seed, entry));
        highest.map_or(0, |(at, _)| at)
    }

    async fn read(&self, asks: &[TierAsk<'_>]) -> Vec<Result<TierRead>> {
        let read = async |asked: &[usize], lane| {
            let asks: Vec<_> = asked.iter().filter_map(|at| asks.get(*at)).collect();
            match self.read_lane(lane, &asks).await {
                Ok(reads) => reads.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); asked.len()],
            }
        };
        if let [ask] = asks {
            return read(&[0], self.lane(&ask.entry)).await;
        }
        let lanes = self.by_lane(asks.iter().map(|ask| ask.entry));
        let reads = join_all(lanes.iter().map(|(lane, asked)| read(asked, *lane))).await;
        in_order(lanes, reads)
    }

    async fn make(&self, lane: usize, names: &[WireName], keep: Duration) -> Result<Vec<Generation>> {
        let mut fresh = vec![[0; 8]; names.len()];
        for bytes in &mut fresh {
            getrandom::fill(bytes).map_err(|error| {
                Error::new(ErrorKind::Internal, "the system gives no random bytes").because(error)
            })?;
        }
        let transport = &self.lanes.get(lane).ok_or_else(no_such_lane)?.transport;
        // Counted from before anything is sent, and rounded up: never too short.
        let until = keep_from(transport.now().await?, keep);
        let add = |(name, bytes): (&WireName, &'_ [u8; 8])| (*name, *bytes);
        let added: Vec<_> = names.iter().zip(&fresh).map(add).collect();
        let commands = added
            .iter()
            .map(|(name, bytes)| Command::Set { name: *name, bytes, until, add: true })
            .chain(names.iter().map(|name| Command::Get(*name)))
            .collect::<Vec<_>>();
        let done = self.exchange(lane, &commands).await?;
        let (adds, gets) = done.answers.split_at(names.len().min(done.answers.len()));
        if let Some(other) = adds.iter().find(|answer| !matches!(answer, Answer::Done | Answer::NotDone)) {
            return Err(refused(other));
        }
        let mut short = Vec::new();
        let mut there = Vec::with_capacity(names.len());
        for (name, got) in names.iter().zip(gets) {
            // Pushed out already, or voided between the two.
            let Answer::Value { bytes, left } = got else { return Err(refused(got)) };
            there.push(generation(bytes)?);
            if too_short(*left, keep) {
                short.push(Command::Touch(*name, until));
            }
        }
        if !short.is_empty() {
            self.exchange(lane, &short).await?;
        }
        Ok(there)
    }

    async fn write(&self, writes: &[TierWrite<'_>]) -> Vec<Result<Written>> {
        let write = async |(lane, asked): &(usize, Vec<usize>)| {
            let asked: Vec<_> = asked.iter().filter_map(|at| writes.get(*at)).collect();
            let (fit, large): (Vec<&TierWrite<'_>>, Vec<_>) =
                asked.iter().copied().partition(|write| write.bytes.len() <= self.most_bytes);
            let mut done = match self.write_lane(*lane, &fit).await {
                _ if fit.is_empty() => Vec::new(),
                Ok(written) => written,
                Err(error) => vec![Err(error); fit.len()],
            }
            .into_iter();
            debug_assert_eq!(fit.len() + large.len(), asked.len());
            let fits = |write: &&TierWrite<'_>| write.bytes.len() <= self.most_bytes;
            let told =
                |fits| if fits { done.next().unwrap_or_else(|| Err(lost())) } else { Ok(Written::TooLarge) };
            asked.iter().map(fits).map(told).collect()
        };
        let lanes = self.by_lane(writes.iter().map(|write| write.entry));
        let written = join_all(lanes.iter().map(write)).await;
        in_order(lanes, written)
    }

    async fn void(&self, lane: usize, names: &[WireName]) -> Result<()> {
        let commands: Vec<_> = names.iter().map(|name| Command::Delete(*name)).collect();
        let done = self.exchange(lane, &commands).await?;
        match done.answers.iter().find(|answer| !matches!(answer, Answer::Done | Answer::NotDone)) {
            Some(other) => Err(refused(other)),
            None => Ok(()),
        }
    }

    async fn probe(&self) -> Result<()> {
        try_join_all(self.lanes.iter().map(|lane| lane.transport.exchange(&[]))).await.map(drop)
    }
}

/// Brings what lanes have answered into the order of the questions.
fn in_order<T>(lanes: Vec<(usize, Vec<usize>)>, answers: Vec<Vec<Result<T>>>) -> Vec<Result<T>> {
    let count = lanes.iter().map(|(_, asked)| asked.len()).sum();
    let mut ordered: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
    for ((_, asked), answers) in lanes.into_iter().zip(answers) {
        for (at, answer) in asked.into_iter().zip(answers) {
            if let Some(place) = ordered.get_mut(at) {
                *place = Some(answer);
            }
        }
    }
    ordered.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost()))).collect()
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "memcached: an answer is missing")
}

fn no_such_lane() -> Error {
    Error::new(ErrorKind::Internal, "memcached: no such lane")
}

fn refused(answer: &Answer) -> Error {
    match answer {
        Answer::Failed(error) => error.clone(),
        Answer::Nothing => {
            Error::new(ErrorKind::Overloaded, "memcached keeps nothing: its memory is too small")
        }
        _ => Error::new(ErrorKind::Corrupt, "memcached: an answer to another question"),
    }
}

fn generation(bytes: &[u8]) -> Result<Generation> {
    let odd = |_| Error::new(ErrorKind::Corrupt, "memcached: a generation that is none");
    bytes.try_into().map(Generation::new).map_err(odd)
}

/// How long an item is surely still there of which the server says so many seconds: the last of them may be almost
/// over.
fn surely_left(seconds: u64) -> Duration {
    Duration::from_secs(seconds.saturating_sub(1))
}

fn too_short(left: Option<u64>, keep: Duration) -> bool {
    // `None` is for ever; nothing of ours is.
    left.is_some_and(|left| surely_left(left) < keep)
}

/// When something ends that is kept for so long at least, from a time on that is up to a second behind.
fn keep_from(now: TierTime, keep: Duration) -> Expiry {
    let keep = keep.saturating_add(keep / SLACK).saturating_add(Duration::from_secs(3));
    let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    Expiry::at(TierTime::from_millis(now.as_millis().saturating_add(keep)))
}

/// Tells how much a server wants an entry. The same on every machine and in every version.
fn score(seed: u64, entry: &WireName) -> u64 {
    let bytes = u128::from_be_bytes(*entry.as_bytes());
    let half = |shift| u64::try_from((bytes >> shift) & u128::from(u64::MAX)).unwrap_or_default();
    mix(mix(seed ^ half(64)) ^ half(0))
}

/// The finalizer of splitmix64.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
