//! The tier over Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    ByteTier, Error, ErrorKind, Generation, Result, TierAsk, TierRead, TierTime, TierWrite, WireName, Written,
};
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::key::{CLUSTER_LANES, Keys, lane_slot, random};
use crate::link::{Link, Waiting};
use crate::queue::Departure;
use crate::script::Script;
use crate::servers::Servers;
use crate::{RedisConfig, fault};

/// The most questions in one request.
const BATCH: usize = 128;

/// The most bytes of entries in one request of several.
const BATCH_BYTES: usize = 1 << 20;

/// So many requests at once go by themselves: few enough that waiting for others would cost more than it saves.
const ALONE: usize = 4;

/// The largest entry. All calls share a connection, so that a larger one would hold the others up.
const MAX_ENTRY: usize = 1 << 20;

/// The longest that anything is kept: ten years. Beyond what a server can count, it would refuse.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The last moment that is told to a server, in milliseconds.
const LAST: u64 = 1 << 52;

/// A cache that several processes share, in Redis or Valkey.
///
/// Connects when it is first asked, on the tokio runtime that it is asked on, and from then on keeps the connection up
/// by itself. While there is none, calls fail at once.
#[derive(Debug)]
pub struct RedisTier(Arc<Core>);

#[derive(Debug)]
struct Core {
    servers: Servers,
    keys: Keys,
    timeout: Duration,
    make: Script,
    write: Script,
}

/// What goes to one server in one request: the numbers of the questions.
struct Group {
    link: Link,
    numbers: Vec<usize>,
    bytes: usize,
}

impl RedisTier {
    /// Takes what is configured. Does not connect.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), which never tells the password.
    pub fn new(config: &RedisConfig) -> Result<Self> {
        let servers = Servers::new(config, (0..CLUSTER_LANES).map(lane_slot).collect())?;
        let lanes = if servers.is_cluster() { CLUSTER_LANES } else { 1 };
        Ok(Self(Arc::new(Core {
            servers,
            keys: Keys::new(&config.prefix, lanes),
            timeout: config.timeout,
            make: Script::make(),
            write: Script::write(),
        })))
    }
}

impl Core {
    fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sorts questions by server into requests of a bounded size. Those whose server is not known fail.
    async fn spread<T>(
        &self,
        what: impl Iterator<Item = (usize, usize)>,
        answers: &mut Vec<Result<T>>,
        until: Instant,
    ) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (number, (lane, bytes)) in what.enumerate() {
            // Most are answered with what is put here in the end.
            answers.push(Err(fault::unreadable()));
            let link = match self.servers.link(lane, until).await {
                Ok(link) => link,
                Err(error) => {
                    put(answers, number, Err(error));
                    continue;
                }
            };
            let fits = |group: &&mut Group| {
                let small = group.numbers.len() < BATCH && group.bytes.saturating_add(bytes) <= BATCH_BYTES;
                group.link.is(&link) && small
            };
            match groups.iter_mut().rev().find(fits) {
                Some(group) => {
                    group.numbers.push(number);
                    group.bytes = group.bytes.saturating_add(bytes);
                }
                None => groups.push(Group { link, numbers: vec![number], bytes }),
            }
        }
        groups
    }

    /// Reads one entry: by itself, or where many are being read together with others. One request for many costs a
    /// server, and us, a fraction of as many requests.
    async fn read_one(self: &Arc<Self>, ask: &TierAsk<'_>) -> Result<TierRead> {
        let until = self.until();
        let link = self.servers.link(self.keys.lane(&ask.entry), until).await?;
        let place = link.enter()?;
        if place.before < ALONE {
            let mut read = self.read_some(&link, &[*ask], until).await?;
            return read.pop().unwrap_or_else(|| Err(fault::unreadable()));
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { entry: ask.entry, generations: ask.generations.into(), answer };
        if link.waiting().join(waiting) {
            // A task of its own, so that nobody depends on whether another goes on waiting.
            let departure = Departure::new(Arc::clone(link.waiting()));
            tokio::spawn(Arc::clone(self).read_together(link.clone(), departure));
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the runtime has ended")),
            Err(_) => Err(fault::timeout()),
        }
    }

    async fn read_together(self: Arc<Self>, link: Link, departure: Departure<Waiting>) {
        // Whoever else is about to ask joins in.
        tokio::task::yield_now().await;
        let all = departure.go();
        let until = self.until();
        let mut batches = Vec::with_capacity(1);
        let mut all = all.into_iter().peekable();
        while all.peek().is_some() {
            batches.push(all.by_ref().take(BATCH).collect::<Vec<_>>());
        }
        let reads = batches.into_iter().map(|batch| async {
            let asks: Vec<_> = batch.iter().map(Waiting::ask).collect();
            let read = self.read_some(&link, &asks, until).await;
            drop(asks);
            match read {
                // Who does not wait any more is told in vain.
                Ok(reads) => {
                    batch.into_iter().zip(reads).for_each(|(waiting, read)| drop(waiting.answer.send(read)))
                }
                Err(error) => {
                    batch.into_iter().for_each(|waiting| drop(waiting.answer.send(Err(error.clone()))))
                }
            }
        });
        join_all(reads).await;
    }

    /// Reads from one server in one request, for those who have a place each.
    async fn read_some(
        &self,
        link: &Link,
        asks: &[TierAsk<'_>],
        until: Instant,
    ) -> Result<Vec<Result<TierRead>>> {
        // What is in one slot is read by one command.
        let together = self.keys.lanes() == 1;
        let names: usize = asks.iter().map(|ask| ask.generations.len() + 1).sum();
        let mut request = Pipeline::with_capacity(if together { 2 } else { asks.len() + 1 });
        request.cmd("TIME");
        let mut get = Cmd::with_capacity(names + 1, 96 * (names + 1));
        get.arg("MGET");
        for ask in asks {
            let lane = self.keys.lane(&ask.entry);
            get.arg(self.keys.key(lane, &ask.entry));
            for generation in ask.generations {
                get.arg(self.keys.key(lane, generation));
            }
            if !together {
                request.add_command(get);
                get = redis::cmd("MGET");
            }
        }
        if together {
            request.add_command(get);
        }
        let (values, incarnation) = self.servers.send(link, &request, until).await?;
        let mut replies = values.into_iter();
        let now = time(replies.next().ok_or_else(fault::unreadable)?)?;
        if together {
            let Value::Array(values) = fault::checked(replies.next().ok_or_else(fault::unreadable)?)? else {
                return Err(fault::unreadable());
            };
            if values.len() != names {
                return Err(fault::unreadable());
            }
            let mut values = values.into_iter();
            return Ok(asks.iter().map(|ask| read(&mut values, ask, now, incarnation)).collect());
        }
        let each = asks.iter().zip(replies).map(|(ask, reply)| match fault::checked(reply)? {
            Value::Array(values) => read(&mut values.into_iter(), ask, now, incarnation),
            _ => Err(fault::unreadable()),
        });
        Ok(each.collect())
    }

    /// Writes to one server in one request; in two if it does not know the script yet.
    async fn write_some(
        &self,
        group: &Group,
        writes: &[TierWrite<'_>],
        until: Instant,
    ) -> Result<Vec<Result<Written>>> {
        let command = |script: &str, by: &str, write: &TierWrite<'_>| {
            let lane = self.keys.lane(&write.entry);
            let mut run = Cmd::with_capacity(write.generations.len() * 2 + 8, write.bytes.len() + 512);
            run.arg(by).arg(script).arg(write.generations.len() + 1).arg(self.keys.key(lane, &write.entry));
            for (name, _) in write.generations {
                run.arg(self.keys.key(lane, name));
            }
            run.arg(write.bytes).arg(write.until.as_millis().min(LAST)).arg(millis(write.keep_generations));
            for (_, generation) in write.generations {
                run.arg(generation.as_bytes());
            }
            run
        };
        let writes: Vec<_> = group.numbers.iter().filter_map(|number| writes.get(*number)).collect();
        let mut request = Pipeline::with_capacity(writes.len());
        for write in &writes {
            request.add_command(command(&self.write.hash, "EVALSHA", write));
        }
        let (mut values, _) = self.servers.call(&group.link, &request, until).await?;
        if values.iter().any(fault::is_unknown_script) {
            let mut again = Pipeline::new();
            for (write, value) in writes.iter().zip(&values) {
                if fault::is_unknown_script(value) {
                    again.add_command(command(self.write.text, "EVAL", write));
                }
            }
            let mut later = self.servers.call(&group.link, &again, until).await?.0.into_iter();
            for value in values.iter_mut().filter(|value| fault::is_unknown_script(value)) {
                *value = later.next().ok_or_else(fault::unreadable)?;
            }
        }
        let written = |value| match fault::checked(value)? {
            Value::Int(1) => Ok(Written::Stored),
            Value::Int(0) => Ok(Written::Outdated),
            _ => Err(fault::unreadable()),
        };
        Ok(values.into_iter().map(written).collect())
    }

    /// Asks a server everything that a tier needs of it, of a name that nobody has. Leaves nothing behind.
    async fn try_out(&self, lane: usize, link: &Link, until: Instant) -> Result<()> {
        let key = self.keys.key(lane, &WireName::new(random()?));
        let other = self.keys.key(lane, &WireName::new(random()?));
        let mut request = Pipeline::new();
        request.cmd("TIME");
        request.cmd("MGET").arg(&key).arg(&other);
        request.cmd("UNLINK").arg(&key);
        // The generation is not there, so nothing is written.
        request
            .cmd("EVAL")
            .arg(self.write.text)
            .arg(2)
            .arg(&key)
            .arg(&other)
            .arg("")
            .arg(0)
            .arg(1)
            .arg("none");
        let (values, _) = self.servers.call(link, &request, until).await?;
        values.into_iter().try_for_each(|value| fault::checked(value).map(drop))
    }
}

#[async_trait]
impl ByteTier for RedisTier {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn lanes(&self) -> usize {
        self.0.keys.lanes()
    }

    fn lane(&self, entry: &WireName) -> usize {
        self.0.keys.lane(entry)
    }

    async fn read(&self, asks: &[TierAsk<'_>]) -> Vec<Result<TierRead>> {
        if let [ask] = asks {
            // What most calls are.
            return vec![self.0.read_one(ask).await];
        }
        let until = self.0.until();
        let mut answers = Vec::with_capacity(asks.len());
        let lanes = asks.iter().map(|ask| (self.0.keys.lane(&ask.entry), 0));
        let groups = self.0.spread(lanes, &mut answers, until).await;
        let reads = groups.iter().map(|group| {
            let some: Vec<_> = group.numbers.iter().filter_map(|number| asks.get(*number).copied()).collect();
            async move {
                let _place = group.link.enter()?;
                self.0.read_some(&group.link, &some, until).await
            }
        });
        let reads = join_all(reads).await;
        gather(&groups, reads, &mut answers);
        answers
    }

    async fn make(&self, lane: usize, names: &[WireName], keep: Duration) -> Result<Vec<Generation>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let until = self.0.until();
        let mut fresh = Vec::with_capacity(names.len());
        for _ in names {
            fresh.push(random::<8>()?);
        }
        let command = |script: &str, by: &str| {
            let mut run = redis::cmd(by);
            run.arg(script).arg(names.len());
            for name in names {
                run.arg(self.0.keys.key(lane, name));
            }
            run.arg(millis(keep));
            for value in &fresh {
                run.arg(value);
            }
            let mut request = Pipeline::with_capacity(1);
            request.add_command(run);
            request
        };
        let link = self.0.servers.link(lane, until).await?;
        let (mut values, _) =
            self.0.servers.call(&link, &command(&self.0.make.hash, "EVALSHA"), until).await?;
        if values.first().is_some_and(fault::is_unknown_script) {
            (values, _) = self.0.servers.call(&link, &command(self.0.make.text, "EVAL"), until).await?;
        }
        let made = fault::checked(values.into_iter().next().ok_or_else(fault::unreadable)?)?;
        match made {
            Value::Array(made) if made.len() == names.len() => {
                made.into_iter().map(|value| generation(&value).ok_or_else(fault::unreadable)).collect()
            }
            _ => Err(fault::unreadable()),
        }
    }

    async fn write(&self, writes: &[TierWrite<'_>]) -> Vec<Result<Written>> {
        let until = self.0.until();
        let mut answers = Vec::with_capacity(writes.len());
        let lanes = writes.iter().map(|write| (self.0.keys.lane(&write.entry), write.bytes.len()));
        let mut groups = self.0.spread(lanes, &mut answers, until).await;
        for (number, write) in writes.iter().enumerate() {
            if write.bytes.len() > MAX_ENTRY {
                put(&mut answers, number, Ok(Written::TooLarge));
                for group in &mut groups {
                    group.numbers.retain(|other| *other != number);
                }
            }
        }
        groups.retain(|group| !group.numbers.is_empty());
        let written = join_all(groups.iter().map(|group| self.0.write_some(group, writes, until))).await;
        gather(&groups, written, &mut answers);
        answers
    }

    async fn void(&self, lane: usize, names: &[WireName]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let until = self.0.until();
        let mut request = Pipeline::new();
        for some in names.chunks(BATCH) {
            let mut remove = redis::cmd("UNLINK");
            for name in some {
                remove.arg(self.0.keys.key(lane, name));
            }
            request.add_command(remove);
        }
        let link = self.0.servers.link(lane, until).await?;
        let (values, _) = self.0.servers.call(&link, &request, until).await?;
        values.into_iter().try_for_each(|value| fault::checked(value).map(drop))
    }

    async fn probe(&self) -> Result<()> {
        let until = self.0.until();
        let mut servers: Vec<(usize, Link)> = Vec::new();
        for lane in 0..self.lanes() {
            let link = self.0.servers.link(lane, until).await?;
            if !servers.iter().any(|(_, other)| other.is(&link)) {
                servers.push((lane, link));
            }
        }
        let asked = servers.iter().map(|(lane, link)| self.0.try_out(*lane, link, until));
        join_all(asked).await.into_iter().collect()
    }
}

/// Puts the answers of requests where their questions stand.
fn gather<T>(groups: &[Group], results: Vec<Result<Vec<Result<T>>>>, answers: &mut [Result<T>]) {
    for (group, result) in groups.iter().zip(results) {
        match result {
            Ok(some) => {
                for (number, answer) in group.numbers.iter().zip(some) {
                    put(answers, *number, answer);
                }
            }
            Err(error) => {
                for number in &group.numbers {
                    put(answers, *number, Err(error.clone()));
                }
            }
        }
    }
}

fn put<T>(answers: &mut [Result<T>], number: usize, answer: Result<T>) {
    if let Some(place) = answers.get_mut(number) {
        *place = answer;
    }
}

/// Reads the reply to TIME.
fn time(value: Value) -> Result<TierTime> {
    let Value::Array(parts) = fault::checked(value)? else { return Err(fault::unreadable()) };
    let [Value::BulkString(seconds), Value::BulkString(micros)] = parts.as_slice() else {
        return Err(fault::unreadable());
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    match (number(seconds), number(micros)) {
        (Some(seconds), Some(micros)) => {
            Ok(TierTime::from_millis(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
        }
        _ => Err(fault::unreadable()),
    }
}

/// Takes an answer out of the reply to MGET.
fn read(
    values: &mut impl Iterator<Item = Value>,
    ask: &TierAsk<'_>,
    now: TierTime,
    incarnation: u64,
) -> Result<TierRead> {
    let entry = match values.next().ok_or_else(fault::unreadable)? {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    };
    let generations: Vec<_> =
        values.by_ref().take(ask.generations.len()).map(|value| generation(&value)).collect();
    if generations.len() != ask.generations.len() {
        return Err(fault::unreadable());
    }
    Ok(TierRead { entry, generations, now, left: None, incarnation })
}

/// What is no generation is not there.
fn generation(value: &Value) -> Option<Generation> {
    match value {
        Value::BulkString(bytes) => <[u8; 8]>::try_from(bytes.as_slice()).ok().map(Generation::new),
        _ => None,
    }
}

fn millis(keep: Duration) -> u64 {
    u64::try_from(keep.min(LONGEST).as_millis()).unwrap_or(LAST).max(1)
}
