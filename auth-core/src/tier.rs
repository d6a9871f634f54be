//! Ports of what several processes share: the bytes of a cache, and news of what is void.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::Result;

/// Names an entry or a generation in a shared cache: a keyed hash, from which nothing can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WireName([u8; 16]);

impl WireName {
    /// Takes the bytes of a keyed hash.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The state of a subject in a shared cache: random, so that a lost one never comes back by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation([u8; 8]);

impl Generation {
    /// Takes eight bytes: random ones, or those that a server has kept.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// A point on the clock of the server that keeps an entry, in milliseconds. Those of two lanes can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierTime(u64);

impl TierTime {
    /// Takes milliseconds of the server's clock.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// What is read of a shared cache: an entry, and the generations that it depends on.
#[derive(Debug, Clone, Copy)]
pub struct TierAsk<'a> {
    /// The entry.
    pub entry: WireName,
    /// The generations, on the entry's lane.
    pub generations: &'a [WireName],
}

/// What a shared cache has, all read at one moment of the server's clock or after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRead {
    /// The bytes of the entry, if it is there.
    pub entry: Option<Vec<u8>>,
    /// The generations, in the order of the question. `None` for one that is not there.
    pub generations: Vec<Option<Generation>>,
    /// The server's clock before any of this was read.
    pub now: TierTime,
    /// How long the server keeps the entry, where it says so by itself.
    pub left: Option<Duration>,
    /// Which life of the server this is. It changes when the server was restarted or another has taken its place, since
    /// what it holds may then be older than what it held.
    pub incarnation: u64,
}

/// An entry to keep.
#[derive(Debug, Clone, Copy)]
pub struct TierWrite<'a> {
    /// Its name.
    pub entry: WireName,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When it ends, by the clock of its lane: however late this write arrives, it is not kept for longer.
    pub until: TierTime,
    /// The generations that it was loaded under.
    pub generations: &'a [(WireName, Generation)],
    /// How long the generations are kept at least, from now on.
    pub keep_generations: Duration,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Stored,
    /// A generation has moved since, so it was not kept. Only where the server can tell in the same step.
    Outdated,
    /// It is larger than the server keeps, and was not sent.
    TooLarge,
}

/// The bytes of a cache that several processes share.
///
/// # Contract
/// - Lossy: an entry or a generation may go at any time. A generation that is gone is never what it was again.
/// - Entries are spread over lanes: what shares a lane is on one server and is read in one round trip. All that an
///   entry depends on is kept on its lane, so a subject's generation is there once a lane, and
///   [`void`](Self::void) is called for each.
/// - Every key expires by the server's own clock and begins with the configured prefix. None is ever listed, and
///   nothing is flushed.
/// - A call ends within the tier's own limit, also while the server stalls. An error says that nothing is known: not
///   that an entry is not there. Dropping a call harms no other.
/// - Nothing waits in an unbounded queue.
#[async_trait]
pub trait ByteTier: fmt::Debug + Send + Sync {
    /// Returns the kind, as it is configured.
    fn kind(&self) -> &'static str;

    /// Returns how many lanes there are; at least one. Stays what it is.
    fn lanes(&self) -> usize;

    /// Returns the lane of an entry, less than [`lanes`](Self::lanes).
    fn lane(&self, entry: &WireName) -> usize;

    /// Reads entries with their generations; the answers are in the order of the questions. Those of one lane are
    /// read in one round trip.
    async fn read(&self, asks: &[TierAsk<'_>]) -> Vec<Result<TierRead>>;

    /// Makes generations that are not there on a lane, each a new random value, and returns what is there now, in
    /// the order of the names. Each is kept for so long at least.
    ///
    /// # Errors
    /// Any kind: it is not known what is there.
    async fn make(&self, lane: usize, names: &[WireName], keep: Duration) -> Result<Vec<Generation>>;

    /// Keeps entries, in the order of which it tells what came of them.
    async fn write(&self, writes: &[TierWrite<'_>]) -> Vec<Result<Written>>;

    /// Removes generations from a lane, so that every entry there that depends on one of them is void.
    ///
    /// # Errors
    /// Any kind: it is not known whether they are removed.
    async fn void(&self, lane: usize, names: &[WireName]) -> Result<()>;

    /// Asks every server something that it must be able to answer.
    ///
    /// # Errors
    /// That of the first which does not.
    async fn probe(&self) -> Result<()>;
}

/// Hears what goes over a [`Bus`]. Called by the bus's own task, and must not wait.
pub trait Ear: fmt::Debug + Send + Sync {
    /// Hears a message, also those of its own process.
    fn heard(&self, message: &[u8]);
    /// From now on messages may be missed. Also called where that was known already.
    fn lost(&self);
    /// From now on no message is missed; what was sent before may have been.
    fn back(&self);
}

/// Carries news between processes, to everybody who listens now. Nothing is kept for those who do not.
///
/// # Contract
/// - A listener is deaf until its first [`back`](Ear::back).
/// - A listener that may have missed something learns it: by [`lost`](Ear::lost), at most two seconds after the link
///   stopped carrying, also where it stalls without closing.
/// - Messages of one sender come in order.
#[async_trait]
pub trait Bus: fmt::Debug + Send + Sync {
    /// Returns the kind, as it is configured.
    fn kind(&self) -> &'static str;

    /// Returns how many bytes a message may have.
    fn largest(&self) -> usize {
        usize::MAX
    }

    /// Begins to listen, on the tokio runtime that this is called on, until the guard is dropped.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) outside of a runtime.
    fn listen(&self, ear: std::sync::Arc<dyn Ear>) -> Result<Listening>;

    /// Sends a message. Returns once the server has it.
    ///
    /// # Errors
    /// Any kind: it is not known whether anybody hears it.
    async fn publish(&self, message: &[u8]) -> Result<()>;
}

/// Listens for as long as it lives.
pub struct Listening(#[expect(dead_code, reason = "it is kept for its end")] Box<dyn Send + Sync>);

impl Listening {
    /// Takes what ends the listening when it is dropped.
    #[must_use]
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}
