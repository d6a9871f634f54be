//! The guard against guessing: counts wrong passwords before a source is asked, and makes guessers wait.

mod local;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, Allowance, Attempt, Begun, Clock, Count, Counters, Ctx, Error, ErrorKind, Login, Lookup, Moment,
    Password, PasswordSource, Record, Reject, Result, Settled, SourceInfo, Step, Verdict, WireName,
};
use lru::LruCache;
use zeroize::Zeroizing;

pub use local::LocalCounters;

use crate::hash::random;

/// How long a login is remembered to have come from a network.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many attempts wait at once for their pause to end; more of them are told to come back.
const WAITING: usize = 1_024;

/// What the guard allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct GuardConfig {
    /// Wrong passwords for one login from one network.
    pub pair: Allowance,
    /// Wrong passwords from one network, whatever the login.
    pub network: Allowance,
    /// Wrong passwords for one login from networks that it has not come from before. Keep its pauses short: they are
    /// the owner's too.
    pub login: Allowance,
    /// The longest pause that an attempt waits for; it is told to come back after a longer one.
    pub patience: Duration,
    /// For how many logins and networks each is counted in this process.
    pub entries: usize,
}

impl Default for GuardConfig {
    /// 10 for a login from a network, of which one is forgiven in two minutes; 100 from a network, one in ten seconds;
    /// 100 for a login from elsewhere, one in half a minute. Pauses of 1, 3, 5, 10 s and so on up to five minutes, a
    /// minute, and three seconds.
    fn default() -> Self {
        let allow = |free, drain, most| Allowance {
            free,
            drain: Duration::from_secs(drain),
            most: Duration::from_secs(most),
        };
        Self {
            pair: allow(10, 120, 300),
            network: allow(100, 10, 60),
            login: allow(100, 30, 3),
            patience: Duration::from_secs(3),
            entries: 65_536,
        }
    }
}

/// What the guard has done. Counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GuardStats {
    /// Attempts that had to wait for a pause to end.
    pub delayed: u64,
    /// Attempts that were told to come back later.
    pub refused: u64,
    /// Wrong passwords.
    pub wrong: u64,
    /// Attempts that were counted in this process alone, since the counters that are shared with others failed.
    pub alone: u64,
    /// Logins and networks that are counted now.
    pub entries: usize,
}

#[derive(Debug, Default)]
struct Totals {
    delayed: AtomicU64,
    refused: AtomicU64,
    wrong: AtomicU64,
    alone: AtomicU64,
}

/// The guard of a stack: its counts, for all its realms.
///
/// - Asked before the source is. What is free reaches the source: where that one locks accounts by itself after so many
///   wrong passwords, let less be free than that.
/// - Counts what turned out to be wrong, once an attempt however many sources were asked; an outage counts for nothing,
///   unless some source has said that the password is wrong. The same wrong password again is free: a phone that has
///   the old one harms nobody.
/// - Three counts: of the login and the network, of the network (an IPv4 address, or the /64 of an IPv6 address), and
///   of the login. The latter two leave a login alone in a network that it has come from before. No account is ever locked: each is a pause, after
///   which one more attempt may be made.
/// - A pause of up to [`patience`](GuardConfig::patience) is waited for; a longer one is the error
///   [`Throttled`](ErrorKind::Throttled) with the time after which to come back.
/// - While somebody must wait, right passwords are not recalled from memory for them either: memory would tell guessers
///   what the source does not.
/// - Who asks without an address (the command line, code that gives none) is not counted. An address of this machine
///   stands for a proxy that did not say for whom it asks: then only the login is counted.
///
/// The counts are kept in this process, and in [`Counters`] that several processes share if there are any. These
/// failing is no reason to refuse: then each process counts alone.
pub struct Guard {
    config: GuardConfig,
    key: Zeroizing<[u8; 32]>,
    ids: RandomState,
    next: AtomicU64,
    here: LocalCounters,
    shared: Option<Arc<dyn Counters>>,
    // Which logins have come from which networks. A std mutex: nothing awaits while it is held.
    known: Mutex<LruCache<WireName, Moment>>,
    waiting: AtomicUsize,
    totals: Totals,
    clock: Arc<dyn Clock>,
}

impl Guard {
    /// Makes a guard that counts in this process.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there are no random numbers.
    pub fn new(config: GuardConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self {
            key: Zeroizing::new(random()?),
            ids: RandomState::new(),
            next: AtomicU64::new(0),
            here: LocalCounters::new(config.entries, Arc::clone(&clock)),
            shared: None,
            known: Mutex::new(LruCache::unbounded()),
            waiting: AtomicUsize::new(0),
            totals: Totals::default(),
            clock,
            config,
        })
    }

    /// Counts in these too, under names that are hashed with `secret`: the same in each process that shares them.
    #[must_use]
    pub fn with_shared(mut self, counters: Arc<dyn Counters>, secret: &[u8]) -> Self {
        self.key =
            Zeroizing::new(blake3::derive_key("gatepost 2026-11 the names of what a guard counts", secret));
        self.shared = Some(counters);
        self
    }

    /// Returns what it has done.
    #[must_use]
    pub fn stats(&self) -> GuardStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        GuardStats {
            delayed: read(&self.totals.delayed),
            refused: read(&self.totals.refused),
            wrong: read(&self.totals.wrong),
            alone: read(&self.totals.alone),
            entries: self.here.len(),
        }
    }

    fn name(&self, what: &str, login: &Login, network: Option<&[u8]>) -> WireName {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        part(what.as_bytes());
        part(login.realm().name().as_bytes());
        part(login.as_str().as_bytes());
        part(network.unwrap_or_default());
        short(&hasher.finalize())
    }

    /// The name of a network, which all realms share.
    fn network(&self, network: &[u8]) -> WireName {
        short(&blake3::Hasher::new_keyed(&self.key).update(b"network").update(network).finalize())
    }

    fn attempt(&self, login: &Login, password: &Password) -> Attempt {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"tag").update(self.name("tag", login, None).as_bytes()).update(password.as_bytes());
        let tag = hasher.finalize();
        let id = self.ids.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        Attempt { id: id.to_le_bytes(), tag: *tag.as_bytes().first_chunk().unwrap_or(&[0; 8]) }
    }

    fn counts(&self, login: &Login, client: IpAddr) -> Counts {
        let everywhere = Count { key: self.name("login", login, None), allowance: self.config.login };
        let Some(network) = network_of(client) else {
            return Counts { all: vec![everywhere], pair: None };
        };
        let pair = self.name("pair", login, Some(&network));
        let mut all = vec![Count { key: pair, allowance: self.config.pair }];
        // Who has come from there before does not wait for what others do, there or elsewhere.
        if !self.knows(&pair) {
            all.push(Count { key: self.network(&network), allowance: self.config.network });
            all.push(everywhere);
        }
        Counts { all, pair: Some(pair) }
    }

    fn knows(&self, pair: &WireName) -> bool {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(pair).is_some_and(|since| now.since(*since) < KNOWN_FOR)
    }

    fn learn(&self, pair: WireName) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(pair, self.clock.now());
        if known.len() > self.config.entries {
            known.pop_lru();
        }
    }

    /// Asks whether an attempt may be made: here first, which costs nothing.
    async fn begin(&self, attempt: &Attempt, counts: &[Count]) -> Begun {
        if let wait @ Begun::Wait(_) = self.here.begin_all(attempt, counts) {
            return wait;
        }
        let Some(shared) = &self.shared else { return Begun::Go };
        let answers = match shared.begin(attempt, counts).await {
            Ok(answers) => answers,
            Err(error) => {
                self.totals.alone.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(kind = error.kind().as_str(), "counted here alone");
                return Begun::Go;
            }
        };
        let waits = counts.iter().zip(&answers).filter_map(|(count, answer)| match answer {
            Begun::Wait(wait) => Some((*count, *wait)),
            Begun::Go => None,
        });
        let waits: Vec<(Count, Duration)> = waits.collect();
        let Some(longest) = waits.iter().map(|(_, wait)| *wait).max() else { return Begun::Go };
        // It is not made: what has let it in does not count it.
        let undone: Vec<_> = counts.iter().map(|count| (*count, Settled::Undone)).collect();
        self.settle(attempt, &undone).await;
        // Or memory here would tell the right password to who has to wait for it.
        for (count, wait) in &waits {
            self.here.pause(count, *wait);
        }
        Begun::Wait(longest)
    }

    async fn settle(&self, attempt: &Attempt, ends: &[(Count, Settled)]) {
        self.here.settle_all(attempt, ends);
        if let Some(shared) = &self.shared
            && let Err(error) = shared.settle(attempt, ends).await
        {
            // It counts there until it is forgiven.
            tracing::debug!(kind = error.kind().as_str(), "an attempt is still counted elsewhere");
        }
    }

    /// Waits until an attempt may be made.
    async fn admit(&self, ctx: &Ctx, attempt: &Attempt, counts: &[Count]) -> Result<()> {
        let began = self.clock.now();
        let patience = match ctx.deadline() {
            Some(deadline) => deadline.since(began).min(self.config.patience),
            None => self.config.patience,
        };
        let mut seat: Option<Seat<'_>> = None;
        loop {
            let Begun::Wait(wait) = self.begin(attempt, counts).await else { return Ok(()) };
            let now = self.clock.now();
            let fits = now.since(began) + wait <= patience;
            if fits && seat.is_none() {
                seat = Seat::take(&self.waiting);
                self.totals.delayed.fetch_add(u64::from(seat.is_some()), Ordering::Relaxed);
            }
            if !fits || seat.is_none() {
                self.totals.refused.fetch_add(1, Ordering::Relaxed);
                ctx.note(|| Step::new("guard", format_args!("too many wrong passwords: wait {wait:?}")));
                return Err(Error::new(ErrorKind::Throttled, "too many wrong passwords").retry_after(wait));
            }
            ctx.note(|| Step::new("guard", format_args!("made to wait {wait:?}")));
            self.clock.sleep_until(now + wait).await;
        }
    }

    /// Counts a token that is no good against the network that it came from, apart from passwords. The same one again is
    /// free. A right one is never made to wait: do not ask about it.
    ///
    /// # Errors
    /// [`Throttled`](ErrorKind::Throttled), with the time to wait, if too much was wrong there.
    pub async fn wrong_token(&self, ctx: &Ctx, shown: &[u8]) -> Result<()> {
        let Some(network) = ctx.client().and_then(network_of) else { return Ok(()) };
        let tag = blake3::Hasher::new_keyed(&self.key).update(b"token").update(shown).finalize();
        let id = self.ids.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        let tag = *tag.as_bytes().first_chunk().unwrap_or(&[0; 8]);
        let attempt = Attempt { id: id.to_le_bytes(), tag };
        // Apart from passwords: many who show old tokens make nobody wait who logs in.
        let key =
            blake3::Hasher::new_keyed(&self.key).update(b"tokens of a network").update(&network).finalize();
        let count = Count { key: short(&key), allowance: self.config.network };
        match self.begin(&attempt, &[count]).await {
            Begun::Go => {
                self.totals.wrong.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Begun::Wait(wait) => {
                self.totals.refused.fetch_add(1, Ordering::Relaxed);
                ctx.note(|| Step::new("guard", format_args!("too many wrong tokens: wait {wait:?}")));
                Err(Error::new(ErrorKind::Throttled, "too many wrong tokens").retry_after(wait))
            }
        }
    }

    /// Reports whether somebody has to wait who asks about this login from there, as far as this process knows.
    fn has_to_wait(&self, login: &Login, client: IpAddr) -> bool {
        !self.here.is_quiet()
            && self.counts(login, client).all.iter().any(|count| self.here.pauses(&count.key))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("config", &self.config)
            .field("shared", &self.shared)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What an attempt is counted under.
struct Counts {
    all: Vec<Count>,
    pair: Option<WireName>,
}

/// A seat among those who wait, given back when it is dropped.
struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let taken = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(taken)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn short(hash: &blake3::Hash) -> WireName {
    WireName::new(*hash.as_bytes().first_chunk().unwrap_or(&[0; 16]))
}

/// The network of an address; nothing for an address of this machine, which is some proxy's.
fn network_of(client: IpAddr) -> Option<Vec<u8>> {
    match client.to_canonical() {
        client if client.is_loopback() || client.is_unspecified() => None,
        IpAddr::V4(address) => Some(address.octets().to_vec()),
        IpAddr::V6(address) => Some(address.octets().iter().take(8).copied().collect()),
    }
}

/// Takes an attempt back in this process, if it is dropped before there is an answer, and nobody has said no.
struct Unanswered<'a> {
    guard: &'a Guard,
    attempt: &'a Attempt,
    counts: &'a [Count],
    record: &'a Record,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.record.heard_no() {
            let undone: Vec<_> = self.counts.iter().map(|count| (*count, Settled::Undone)).collect();
            self.guard.here.settle_all(self.attempt, &undone);
        }
    }
}

/// A source that a [`Guard`] stands before. Put it outside of the chain of a realm: an attempt counts once.
pub struct Guarded<S: ?Sized = dyn PasswordSource> {
    guard: Arc<Guard>,
    inner: Arc<S>,
}

impl<S: ?Sized> Guarded<S> {
    /// Puts the guard before a source.
    #[must_use]
    pub const fn new(inner: Arc<S>, guard: Arc<Guard>) -> Self {
        Self { guard, inner }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: PasswordSource + ?Sized> PasswordSource for Guarded<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let Some(client) = ctx.client() else { return self.inner.verify(ctx, login, password).await };
        let guard = &*self.guard;
        let attempt = guard.attempt(login, password);
        let Counts { all, pair } = guard.counts(login, client);
        guard.admit(ctx, &attempt, &all).await?;
        let record = ctx.record().map_or_else(|| Arc::new(Record::new()), Arc::clone);
        let ctx = ctx.clone().with_record(Arc::clone(&record));
        // Who leaves half way, or whose time is over, has heard nothing: that counts only if some source has said no.
        let unanswered = Unanswered { guard, attempt: &attempt, counts: &all, record: &record };
        let outcome = self.inner.verify(&ctx, login, password).await;
        std::mem::forget(unanswered);
        let end = match &outcome {
            Ok(Verdict::Accepted(_)) => {
                if let Some(pair) = pair {
                    guard.learn(pair);
                }
                |count: &Count, pair| if Some(count.key) == pair { Settled::Cleared } else { Settled::Undone }
            }
            Ok(Verdict::Rejected(Reject::UnknownUser | Reject::BadPassword | Reject::NoPassword)) => {
                guard.totals.wrong.fetch_add(1, Ordering::Relaxed);
                return outcome;
            }
            // What a source has said stands, though another one has failed.
            Err(_) if record.heard_no() => {
                guard.totals.wrong.fetch_add(1, Ordering::Relaxed);
                return outcome;
            }
            // Some sources say so whatever the password was.
            Ok(Verdict::Rejected(_)) => return outcome,
            // Nobody could tell.
            Err(_) => |_: &Count, _| Settled::Undone,
        };
        let ends: Vec<_> = all.iter().map(|count| (*count, end(count, pair))).collect();
        guard.settle(&attempt, &ends).await;
        outcome
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.inner.account(ctx, login).await
    }

    fn peek_verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        if ctx.client().is_some_and(|client| self.guard.has_to_wait(login, client)) {
            return None;
        }
        self.inner.peek_verify(ctx, login, password)
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}

impl<S: PasswordSource + ?Sized> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("guard", &self.guard).field("inner", &self.inner).finish()
    }
}
