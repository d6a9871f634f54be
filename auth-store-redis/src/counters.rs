//! The counters of the guard over Redis.

use std::time::Duration;

use async_trait::async_trait;
use auth_core::{Attempt, Begun, Count, Counters, REMEMBERED_ATTEMPTS, Result, Settled};
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::key::{CLUSTER_LANES, Keys, MAX_MARK, lane_slot};
use crate::link::Link;
use crate::script::Script;
use crate::servers::Servers;
use crate::{RedisConfig, fault};

/// What the keys begin with after the prefix, so that they are apart from those of the cache.
const MARK: &str = "n:";

/// How long a key is kept beyond the time in which it drains: so long a login may take to be settled.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest that a key is kept.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

// A key has a version, how full it was at a moment, when that was, when its pause ends, which attempt began that, and the
// attempts that were counted last, each with its tag. Everything that a server does in between is forgotten with it.
macro_rules! script {
    ($($line:literal)+) => {
        concat!(
            "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) ",
            "local none=string.rep('\\0',8) ",
            "local level,since,till,by,seen=0,now,0,none,'' ",
            "local v=redis.call('GET',KEYS[1]) ",
            "if v then ",
            "if #v<29 or string.sub(v,1,1)~='1' or (#v-29)%16~=0 then return -1 end ",
            "level,since,till=struct.unpack('>I4I8I8',v,2) by=string.sub(v,22,29) seen=string.sub(v,30) end ",
            "local id,tag,free,drain=ARGV[1],ARGV[2],tonumber(ARGV[3]),tonumber(ARGV[4]) ",
            // A clock that was set back makes nothing last longer than it may.
            "if since>now then since=now end ",
            "local most=0 for i=7,#ARGV do most=math.max(most,tonumber(ARGV[i])) end ",
            "if till>now+most then till=now+most end ",
            "local gone=math.floor((now-since)/drain) level=math.max(0,level-gone) since=since+gone*drain ",
            "if level==0 then since=now end ",
            "local function keep() ",
            "local life=math.min(math.max(level*drain,till-now)+tonumber(ARGV[5]),tonumber(ARGV[6])) ",
            "redis.call('SET',KEYS[1],'1'..struct.pack('>I4I8I8',level,since,till)..by..seen,'PX',string.format('%.0f',life)) ",
            "end ",
            $($line, "\n"),+
        )
    };
}

/// Says for how many milliseconds an attempt must wait; 0 for one that may be made.
const BEGIN: &str = script!(
    "if till>now then if by==id then return 0 end return till-now end"
    "for i=1,#seen,16 do if string.sub(seen,i+8,i+15)==tag then return 0 end end"
    "level=math.min(level+1,1000000)"
    "seen=string.sub(seen..id..tag,-256)"
    "till=0 by=none"
    "if level>free then till=now+tonumber(ARGV[6+math.min(level-free,#ARGV-6)]) by=id end"
    "keep()"
    "return 0"
);

/// Takes an attempt back.
const UNDO: &str = script!(
    "for i=1,#seen,16 do"
    "if string.sub(seen,i,i+7)==id then"
    "seen=string.sub(seen,1,i-1)..string.sub(seen,i+16)"
    "level=math.max(0,level-1)"
    "if by==id then till=0 by=none end"
    "if level==0 and seen=='' and till<=now then redis.call('DEL',KEYS[1]) else keep() end"
    "return 0"
    "end"
    "end"
    "return 0"
);

const _: () = assert!(MARK.len() <= MAX_MARK, "a key has room for it");

// What the script cuts off: sixteen attempts of sixteen bytes.
const _: () = assert!(REMEMBERED_ATTEMPTS * 16 == 256, "the script remembers as many as there should be");

/// Attempts at logging in, counted in Redis or Valkey for all processes.
///
/// Each call is one script for each key, on the clock of the server. A call that is made again since its answer was lost
/// counts nothing twice. Nothing is kept for longer than it takes to drain, and a minute.
///
/// Connects when it is first asked. While there is no connection, calls fail at once.
#[derive(Debug)]
pub struct RedisCounters {
    servers: Servers,
    keys: Keys,
    timeout: Duration,
    begin: Script,
    undo: Script,
}

/// What goes to one server: the numbers of the questions.
struct Group {
    link: Link,
    numbers: Vec<usize>,
}

impl RedisCounters {
    /// Takes what is configured. Does not connect.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), which never tells the password.
    pub fn new(config: &RedisConfig) -> Result<Self> {
        let servers = Servers::new(config, (0..CLUSTER_LANES).map(lane_slot).collect())?;
        let lanes = if servers.is_cluster() { CLUSTER_LANES } else { 1 };
        Ok(Self {
            servers,
            keys: Keys::new(&format!("{}{MARK}", config.prefix), lanes),
            timeout: config.timeout,
            begin: Script::new(BEGIN),
            undo: Script::new(UNDO),
        })
    }

    /// Makes the command that runs a script about a key.
    fn command(&self, by: &str, script: &str, attempt: &Attempt, count: &Count) -> Cmd {
        let mut run = Cmd::with_capacity(20, 512);
        run.arg(by).arg(script).arg(1).arg(self.keys.key(self.keys.lane(&count.key), &count.key));
        run.arg(&attempt.id).arg(&attempt.tag);
        let allowance = count.allowance;
        run.arg(allowance.free).arg(millis(allowance.drain).max(1)).arg(millis(MARGIN)).arg(millis(LONGEST));
        for pause in allowance.pauses() {
            run.arg(millis(pause));
        }
        run
    }

    /// Sorts questions by server.
    async fn spread(&self, counts: impl Iterator<Item = &Count>, until: Instant) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        for (number, count) in counts.enumerate() {
            let link = self.servers.link(self.keys.lane(&count.key), until).await?;
            match groups.iter_mut().find(|group| group.link.is(&link)) {
                Some(group) => group.numbers.push(number),
                None => groups.push(Group { link, numbers: vec![number] }),
            }
        }
        Ok(groups)
    }

    /// Asks one server. A script that it does not know is sent to it.
    async fn ask(
        &self,
        link: &Link,
        asks: &[Ask<'_>],
        attempt: &Attempt,
        until: Instant,
    ) -> Result<Vec<i64>> {
        let mut request = Pipeline::with_capacity(asks.len());
        for ask in asks {
            request.add_command(match ask {
                Ask::Run(script, count) => self.command("EVALSHA", &script.hash, attempt, count),
                Ask::Clear(count) => self.clear(count),
            });
        }
        let (mut values, _) = self.servers.call(link, &request, until).await?;
        if values.iter().any(fault::is_unknown_script) {
            let mut again = Pipeline::with_capacity(asks.len());
            for (ask, value) in asks.iter().zip(&values) {
                if let (Ask::Run(script, count), true) = (ask, fault::is_unknown_script(value)) {
                    again.add_command(self.command("EVAL", script.text, attempt, count));
                }
            }
            let mut later = self.servers.call(link, &again, until).await?.0.into_iter();
            for value in values.iter_mut().filter(|value| fault::is_unknown_script(value)) {
                *value = later.next().ok_or_else(fault::unreadable)?;
            }
        }
        let told = values.into_iter().map(|value| match fault::checked(value)? {
            Value::Int(told) if told >= 0 => Ok(told),
            _ => Err(fault::unreadable()),
        });
        told.collect()
    }

    fn clear(&self, count: &Count) -> Cmd {
        redis::cmd("UNLINK").arg(self.keys.key(self.keys.lane(&count.key), &count.key)).take()
    }

    /// Asks about all keys, each where it is; the answers are in their order.
    async fn ask_all(&self, attempt: &Attempt, asks: &[Ask<'_>]) -> Result<Vec<i64>> {
        let until = Instant::now() + self.timeout;
        let groups = self.spread(asks.iter().map(Ask::count), until).await?;
        let told = join_all(groups.iter().map(|group| async move {
            let some: Vec<_> = group.numbers.iter().filter_map(|number| asks.get(*number).copied()).collect();
            self.ask(&group.link, &some, attempt, until).await
        }))
        .await;
        let mut answers = vec![None; asks.len()];
        for (group, told) in groups.iter().zip(told) {
            for (number, told) in group.numbers.iter().zip(told?) {
                if let Some(answer) = answers.get_mut(*number) {
                    *answer = Some(told);
                }
            }
        }
        answers.into_iter().map(|answer| answer.ok_or_else(fault::unreadable)).collect()
    }
}

#[derive(Clone, Copy)]
enum Ask<'a> {
    Run(&'a Script, &'a Count),
    Clear(&'a Count),
}

impl<'a> Ask<'a> {
    const fn count(&self) -> &'a Count {
        match self {
            Self::Run(_, count) | Self::Clear(count) => count,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.min(LONGEST).as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Counters for RedisCounters {
    async fn begin(&self, attempt: &Attempt, counts: &[Count]) -> Result<Vec<Begun>> {
        let asks: Vec<_> = counts.iter().map(|count| Ask::Run(&self.begin, count)).collect();
        let told = self.ask_all(attempt, &asks).await?;
        let begun = |told: i64| match u64::try_from(told) {
            Ok(0) | Err(_) => Begun::Go,
            Ok(left) => Begun::Wait(Duration::from_millis(left)),
        };
        Ok(told.into_iter().map(begun).collect())
    }

    async fn settle(&self, attempt: &Attempt, ends: &[(Count, Settled)]) -> Result<()> {
        let asks: Vec<_> = ends
            .iter()
            .map(|(count, end)| match end {
                Settled::Undone => Ask::Run(&self.undo, count),
                Settled::Cleared => Ask::Clear(count),
            })
            .collect();
        self.ask_all(attempt, &asks).await.map(drop)
    }
}
