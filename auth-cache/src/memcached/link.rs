//! The task behind a connection: it connects, writes, reads, and begins again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{Clock, Error, ErrorKind, Moment, Result, TierTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::command::{Answer, Command, Expected, Said, said, server_error};
use super::config::{MemcachedConfig, Place, Server};
use super::exchange::Exchanged;
use super::ticks::Ticks;

/// How often a server is asked for its clock. Not a whole number of seconds, so that it is asked at another part of
/// its second each time.
const ASK_CLOCK: Duration = Duration::from_millis(1730);
/// The first pause before it is tried again to connect, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A connection that lasted for so long is followed by another at once.
const LASTING: Duration = Duration::from_secs(1);
/// How many jobs are taken at once.
const AT_ONCE: usize = 256;
/// How much room there is to read into, at least.
const READ: usize = 64 * 1024;

/// Locks, whoever has panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a connection stands.
#[derive(Debug, Clone)]
pub(super) enum Status {
    /// Nothing is known yet: who asks waits for the first attempt.
    Starting,
    /// It stands, to this life of the server. The number is another for each connection.
    Up { connection: u64, incarnation: u64 },
    /// There is none.
    Down(Error),
}

/// What callers and the task share.
pub(super) struct Shared {
    server: Server,
    prefix: String,
    timeout: Duration,
    connect_timeout: Duration,
    most_in_flight: usize,
    clock: Arc<dyn Clock>,
    status: Mutex<Status>,
    clocks: Mutex<Clocks>,
    in_flight: Arc<AtomicUsize>,
    opaque: AtomicU64,
}

/// The server's clock, in which of its lives.
#[derive(Debug, Default)]
struct Clocks {
    incarnation: Option<u64>,
    ticks: Ticks,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = lock(&self.status);
        f.debug_struct("Link")
            .field("server", &self.server.name)
            .field("status", &*status)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(server: Server, config: &MemcachedConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            server,
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            most_in_flight: config.in_flight,
            clock,
            status: Mutex::new(Status::Starting),
            clocks: Mutex::default(),
            in_flight: Arc::default(),
            opaque: AtomicU64::new(0),
        }
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) const fn most_in_flight(&self) -> usize {
        self.most_in_flight
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(super) fn set(&self, status: Status) {
        *lock(&self.status) = status;
    }

    /// Fails where it is known that there is no connection.
    pub(super) fn check(&self) -> Result<()> {
        match &*lock(&self.status) {
            Status::Down(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes one of the places of those who may wait.
    pub(super) fn slot(&self) -> Result<Slot> {
        let slot = Slot(Arc::clone(&self.in_flight));
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.most_in_flight {
            return Err(self.error(ErrorKind::Overloaded, "too many calls wait for it"));
        }
        Ok(slot)
    }

    pub(super) fn error(&self, kind: ErrorKind, text: &'static str) -> Error {
        Error::new(kind, format!("memcached: {text}")).with("server", &self.server.name)
    }

    /// Returns a time that the server's clock has reached, if it is known.
    pub(super) fn now(&self) -> Option<TierTime> {
        lock(&self.clocks).ticks.now(self.clock.now())
    }

    fn learn(&self, stats: &Stats, heard: Moment) -> Option<u64> {
        let (incarnation, time) = stats.incarnation()?;
        let mut clocks = lock(&self.clocks);
        if clocks.incarnation != Some(incarnation) {
            *clocks = Clocks { incarnation: Some(incarnation), ticks: Ticks::default() };
        }
        clocks.ticks.observe(time, stats.asked, heard);
        Some(incarnation)
    }
}

/// A place among those who wait, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Reply = oneshot::Sender<Result<Exchanged>>;

/// What a caller wants.
pub(super) struct Job {
    bytes: Vec<u8>,
    waiting: Waiting,
}

/// A call whose answer is not complete.
struct Waiting {
    /// The opaque of its first command.
    first: u64,
    expected: Vec<Expected>,
    /// Those so far.
    answers: Vec<Answer>,
    deadline: Instant,
    now: TierTime,
    /// What it is told, or what it is that we ask ourselves.
    end: Ending,
}

enum Ending {
    Told(Reply, Slot),
    Ours(Stats),
}

/// What a server tells of itself.
#[derive(Debug)]
struct Stats {
    asked: Moment,
    pid: Option<u64>,
    uptime: Option<u64>,
    time: Option<u64>,
}

impl Stats {
    fn read(&mut self, text: &str) {
        let Some((name, value)) = text.split_once(' ') else { return };
        let place = match name {
            "pid" => &mut self.pid,
            "uptime" => &mut self.uptime,
            "time" => &mut self.time,
            _ => return,
        };
        *place = value.parse().ok();
    }

    /// Returns which life this is, and its clock.
    fn incarnation(&self) -> Option<(u64, u64)> {
        let (pid, time) = (self.pid?, self.time?);
        // Both are read of one clock at once, so their difference stays.
        let began = time.checked_sub(self.uptime?)?;
        Some((super::mix(super::mix(began) ^ pid), time))
    }
}

impl Job {
    pub(super) fn new(
        shared: &Shared,
        commands: &[Command<'_>],
        deadline: Instant,
        slot: Slot,
        reply: Reply,
    ) -> Self {
        let count = u64::try_from(commands.len()).unwrap_or(u64::MAX);
        let first = shared.opaque.fetch_add(count, Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(64 * (commands.len() + 1));
        for (opaque, command) in (first..).zip(commands) {
            command.write(&shared.prefix, opaque, &mut bytes);
        }
        bytes.extend_from_slice(b"mn\r\n");
        let expected = commands.iter().map(Command::expected).collect();
        let waiting = Waiting {
            first,
            expected,
            answers: Vec::with_capacity(commands.len()),
            deadline,
            now: TierTime::from_millis(0),
            end: Ending::Told(reply, slot),
        };
        Self { bytes, waiting }
    }

    fn is_given_up(&self, now: Instant) -> bool {
        self.waiting.deadline <= now
            || matches!(&self.waiting.end, Ending::Told(reply, _) if reply.is_closed())
    }

    fn fail(self, error: &Error) {
        self.waiting.fail(error);
    }
}

impl Waiting {
    /// Our own question: what the server tells of itself.
    fn stats(asked: Moment, deadline: Instant) -> Self {
        Self {
            first: 0,
            expected: Vec::new(),
            answers: Vec::new(),
            deadline,
            now: TierTime::from_millis(0),
            end: Ending::Ours(Stats { asked, pid: None, uptime: None, time: None }),
        }
    }

    fn fail(self, error: &Error) {
        if let Ending::Told(reply, _) = self.end {
            // Who has given up is not there any more.
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Takes the answer to the command of this opaque; what was skipped had to be silent.
    fn take(&mut self, opaque: u64, answer: impl FnOnce(Expected) -> Option<Answer>) -> Option<()> {
        let at = usize::try_from(opaque.checked_sub(self.first)?).ok()?;
        let silent = self.expected.get(self.answers.len()..at)?;
        if !silent.iter().all(|expected| expected.may_be_silent()) {
            return None;
        }
        let answer = answer(*self.expected.get(at)?)?;
        self.answers.resize(at, Answer::Nothing);
        self.answers.push(answer);
        Some(())
    }

    /// Takes an error that names no command: that of the next one that can't be silent.
    fn take_error(&mut self, answer: Answer) -> Option<()> {
        let rest = self.expected.get(self.answers.len()..)?;
        let at = self.answers.len() + rest.iter().position(|expected| !expected.may_be_silent())?;
        self.answers.resize(at, Answer::Nothing);
        self.answers.push(answer);
        Some(())
    }

    /// Takes the end of the answers.
    fn complete(&mut self) -> Option<()> {
        let silent = self.expected.get(self.answers.len()..)?;
        if !silent.iter().all(|expected| expected.may_be_silent()) {
            return None;
        }
        self.answers.resize(self.expected.len(), Answer::Nothing);
        Some(())
    }
}

/// Why a connection has ended.
enum End {
    /// Nobody needs it any more.
    Unneeded,
    Failed(Error),
}

/// Keeps a connection to a server for as long as somebody may bring a job.
pub(super) async fn run(shared: Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    let mut pause = Duration::ZERO;
    for number in 0_u64.. {
        let began = Instant::now();
        let Some(connected) = failing(&shared, &mut jobs, connect(&shared)).await else { return };
        let end = match connected {
            Ok(Stream::Tcp(stream)) => Connection::new(&shared, number).serve(stream, &mut jobs).await,
            Ok(Stream::Unix(stream)) => Connection::new(&shared, number).serve(stream, &mut jobs).await,
            Err(error) => End::Failed(error),
        };
        let End::Failed(error) = end else { return };
        shared.set(Status::Down(error.clone()));
        while let Ok(job) = jobs.try_recv() {
            job.fail(&error);
        }
        pause = if began.elapsed() >= LASTING + pause {
            Duration::ZERO
        } else {
            (pause * 2).clamp(PAUSES.0, PAUSES.1)
        };
        if failing(&shared, &mut jobs, tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Waits for something, and meanwhile fails every job where there is no connection. `None` when nobody can bring one
/// any more.
async fn failing<F: Future>(shared: &Shared, jobs: &mut mpsc::Receiver<Job>, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let Status::Down(error) = shared.status() else { return Some(future.await) };
    loop {
        tokio::select! {
            biased;
            output = &mut future => return Some(output),
            job = jobs.recv() => job?.fail(&error),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn connect(shared: &Shared) -> Result<Stream> {
    let connecting = async {
        io::Result::Ok(match &shared.server.place {
            Place::Tcp((host, port)) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Place::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        })
    };
    match timeout(shared.connect_timeout, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(shared.error(ErrorKind::Unavailable, "no connection").because(error)),
        Err(_) => Err(shared.error(ErrorKind::Unavailable, "no connection in time")),
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    number: u64,
    incarnation: Option<u64>,
    /// In the order in which they were written.
    waiting: VecDeque<Waiting>,
    /// What is to be written.
    out: Vec<u8>,
    /// What was read and not understood yet.
    inbox: Vec<u8>,
    ask_clock: Instant,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, number: u64) -> Self {
        Self {
            shared,
            number,
            incarnation: None,
            waiting: VecDeque::new(),
            out: Vec::new(),
            inbox: Vec::with_capacity(READ),
            ask_clock: Instant::now(),
        }
    }

    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite, jobs: &mut mpsc::Receiver<Job>) -> End {
        let end = self.exchange(stream, jobs).await;
        if let End::Failed(error) = &end {
            // First this, so that nobody brings more.
            self.shared.set(Status::Down(error.clone()));
            let late = self.shared.error(ErrorKind::Timeout, "no answer in time");
            let now = Instant::now();
            for waiting in self.waiting.drain(..) {
                let error = if waiting.deadline <= now { &late } else { error };
                waiting.fail(error);
            }
        }
        end
    }

    async fn exchange(&mut self, stream: impl AsyncRead + AsyncWrite, jobs: &mut mpsc::Receiver<Job>) -> End {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut written = 0;
        let mut taken = Vec::with_capacity(AT_ONCE);
        self.ask_stats(self.shared.connect_timeout);
        let mut alarm_at = self.due();
        let mut alarm = std::pin::pin!(sleep_until(alarm_at));
        loop {
            if self.due() < alarm_at {
                alarm_at = self.due();
                alarm.as_mut().reset(alarm_at);
            }
            if written == self.out.len() {
                self.out.clear();
                written = 0;
            }
            self.inbox.reserve(READ);
            let known = self.incarnation.is_some();
            tokio::select! {
                // First what ends the waiting of others.
                biased;
                read = from.read_buf(&mut self.inbox) => match read {
                    Ok(0) => return self.lost("the server has closed the connection", None),
                    Ok(_) => if let Err(error) = self.hear() {
                        return End::Failed(error.with("server", &self.shared.server.name));
                    },
                    Err(error) => return self.lost("the connection is broken", Some(error)),
                },
                wrote = to.write(self.out.get(written..).unwrap_or_default()), if written < self.out.len() => {
                    match wrote {
                        Ok(count) => written += count,
                        Err(error) => return self.lost("the connection is broken", Some(error)),
                    }
                }
                count = jobs.recv_many(&mut taken, AT_ONCE), if known && self.out.is_empty() => {
                    if count == 0 {
                        return End::Unneeded;
                    }
                    self.send(&mut taken);
                }
                () = &mut alarm => {
                    let now = Instant::now();
                    if self.waiting.front().is_some_and(|waiting| waiting.deadline <= now) {
                        return self.lost("the server does not answer in time", None);
                    }
                    if known && self.ask_clock <= now {
                        self.ask_stats(self.shared.timeout);
                    }
                    alarm_at = self.due();
                    alarm.as_mut().reset(alarm_at);
                }
            }
        }
    }

    fn lost(&self, text: &'static str, cause: Option<io::Error>) -> End {
        let error = self.shared.error(ErrorKind::Unavailable, text);
        End::Failed(match cause {
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    /// When there is something to do if nothing comes.
    fn due(&self) -> Instant {
        self.waiting.front().map_or(self.ask_clock, |waiting| waiting.deadline.min(self.ask_clock))
    }

    fn ask_stats(&mut self, limit: Duration) {
        let now = Instant::now();
        self.ask_clock = now + ASK_CLOCK.max(limit);
        self.out.extend_from_slice(b"stats\r\nmn\r\n");
        self.waiting.push_back(Waiting::stats(self.shared.clock.now(), now + limit));
    }

    fn send(&mut self, jobs: &mut Vec<Job>) {
        let now = Instant::now();
        let server_now = self.shared.now().unwrap_or(TierTime::from_millis(0));
        for mut job in jobs.drain(..) {
            if !job.is_given_up(now) {
                self.out.append(&mut job.bytes);
                job.waiting.now = server_now;
                self.waiting.push_back(job.waiting);
            }
        }
    }

    /// Understands what was read, as far as it is complete.
    fn hear(&mut self) -> Result<()> {
        let mut understood = 0;
        while let Some(rest) = self.inbox.get(understood..).filter(|rest| !rest.is_empty()) {
            let Some((piece, length)) = said(rest)? else { break };
            let slice = |range: std::ops::Range<usize>| rest.get(range).unwrap_or_default();
            let text = |range| std::str::from_utf8(slice(range)).unwrap_or_default();
            let odd = || Error::new(ErrorKind::Corrupt, "memcached: an answer to another question");
            let waiting = self.waiting.front_mut().ok_or_else(odd)?;
            let fits = match piece {
                Said::Value { bytes, left, opaque } => waiting.take(opaque, |expected| {
                    (expected == Expected::Value)
                        .then(|| Answer::Value { bytes: slice(bytes).to_vec(), left })
                }),
                Said::Done { left, opaque } => waiting.take(opaque, |expected| match expected {
                    Expected::Left => Some(Answer::Left(left)),
                    Expected::Touched | Expected::Done => Some(Answer::Done),
                    Expected::Value => None,
                }),
                Said::NotDone { opaque } => {
                    waiting.take(opaque, |expected| (expected == Expected::Done).then_some(Answer::NotDone))
                }
                Said::Error(range) => waiting.take_error(server_error(text(range))),
                Said::Stat(range) => match &mut waiting.end {
                    Ending::Ours(stats) => {
                        stats.read(text(range));
                        Some(())
                    }
                    Ending::Told(..) => None,
                },
                Said::StatsEnd => matches!(waiting.end, Ending::Ours(_)).then_some(()),
                Said::End => {
                    let complete = waiting.complete();
                    complete.ok_or_else(odd)?;
                    if let Some(waiting) = self.waiting.pop_front() {
                        self.end(waiting)?;
                    }
                    Some(())
                }
            };
            fits.ok_or_else(odd)?;
            understood += length;
        }
        self.inbox.drain(..understood);
        Ok(())
    }

    fn end(&mut self, waiting: Waiting) -> Result<()> {
        match waiting.end {
            Ending::Told(reply, _slot) => {
                let incarnation = self.incarnation.unwrap_or_default();
                // Who has given up is not there any more.
                let _ = reply.send(Ok(Exchanged { answers: waiting.answers, now: waiting.now, incarnation }));
            }
            Ending::Ours(stats) => {
                let odd = |text| Error::new(ErrorKind::Corrupt, text);
                let learned = self.shared.learn(&stats, self.shared.clock.now());
                let incarnation =
                    learned.ok_or_else(|| odd("memcached does not tell its process and clock"))?;
                if self.incarnation.is_some_and(|known| known != incarnation) {
                    return Err(odd("memcached is another behind the same connection"));
                }
                self.incarnation = Some(incarnation);
                self.shared.set(Status::Up { connection: self.number, incarnation });
            }
        }
        Ok(())
    }
}
