//! What the race harness and the staleness model share: a source whose answers are held and tell which version
//! they are, readers that are polled by hand, and the cache under test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{AccountSource, Fence, GroupOracle, ObjectPerms, RealmId, Subject, TokenCache};

use crate::ManualClock;

mod board;
mod cast;
mod dice;
mod readers;
mod source;

pub(crate) use board::{Board, Load, Reply, State};
pub use cast::Scope;
pub(crate) use cast::{Cast, Kind, SUBJECTS, Said};
pub(crate) use dice::{Dice, mix};
pub(crate) use readers::{Ended, Readers, Wish, peek, settle};
use source::HeldSource;

/// What all schedules and histories of a run share: a fence is large, and its generations only grow.
#[derive(Debug)]
pub(crate) struct Stage {
    fence: Arc<Fence>,
    cast: Arc<Cast>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let fence = Arc::new(Fence::new());
        let cast = Arc::new(Cast::new(&fence));
        Self { fence, cast }
    }

    pub(crate) fn setup(&self, seed: u64) -> Setup {
        let clock = ManualClock::new();
        let board = Arc::new(Board::new(Arc::clone(&clock)));
        let (cast, fence) = (Arc::clone(&self.cast), Arc::clone(&self.fence));
        Setup { board, cast, fence, clock, ttl: Setup::TTL, seed }
    }

    /// A runtime of its own for each run: what one leaves behind is gone before the next.
    #[allow(clippy::unused_self, reason = "made where the rest is made")]
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers")
    }
}

/// What a cache under test is made of: the source that it wraps, its fence and its clock.
///
/// One is made for each schedule or history. The source's answers change and are held back; the clock stands
/// still until the run moves it. Answers of every kind must live for [`ttl`](Self::ttl); a cache may end them
/// sooner by its jitter, by a tenth at most.
#[derive(Debug)]
pub struct Setup {
    pub(crate) board: Arc<Board>,
    pub(crate) cast: Arc<Cast>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ttl: Duration,
    pub(crate) seed: u64,
}

impl Setup {
    /// How long answers live in every run.
    pub(crate) const TTL: Duration = Duration::from_secs(10);

    /// Returns the source as one of accounts.
    #[must_use]
    pub fn accounts(&self) -> Arc<dyn AccountSource> {
        self.source(Kind::Accounts)
    }

    /// Returns the source as one of groups.
    #[must_use]
    pub fn groups(&self) -> Arc<dyn GroupOracle> {
        self.source(Kind::Groups)
    }

    /// Returns the source as one of rights on objects.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectPerms> {
        self.source(Kind::Objects)
    }

    /// Returns the fence that invalidations are told to.
    #[must_use]
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// Returns the realm that every question is about.
    #[must_use]
    pub fn realm(&self) -> &RealmId {
        &self.cast.realm
    }

    /// Returns how long each kind of answer must live.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the number of this schedule or history: dice for a factory that varies sizes and the like.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    fn source(&self, kind: Kind) -> Arc<HeldSource> {
        Arc::new(HeldSource::new(kind, Arc::clone(&self.board), Arc::clone(&self.cast)))
    }
}

/// Tells a cache that has no fence what is invalidated.
pub(crate) type Told = Arc<dyn Fn(&Subject<'_>) + Send + Sync>;

/// A cache under test, or a store, by the questions that it answers.
#[derive(Clone)]
pub struct Tested {
    pub(crate) what: What,
    pub(crate) forgets: bool,
    pub(crate) stale: Duration,
    pub(crate) told: Option<Told>,
    pub(crate) turns: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Accounts(Arc<dyn AccountSource>),
    Groups(Arc<dyn GroupOracle>),
    Objects(Arc<dyn ObjectPerms>),
    Tokens(Arc<dyn TokenCache>),
}

impl Tested {
    /// Tests what answers questions for accounts.
    #[must_use]
    pub fn accounts(cache: Arc<dyn AccountSource>) -> Self {
        Self::new(What::Accounts(cache))
    }

    /// Tests what answers questions for groups.
    #[must_use]
    pub fn groups(cache: Arc<dyn GroupOracle>) -> Self {
        Self::new(What::Groups(cache))
    }

    /// Tests what answers questions for rights on objects.
    #[must_use]
    pub fn objects(cache: Arc<dyn ObjectPerms>) -> Self {
        Self::new(What::Objects(cache))
    }

    /// Tests what remembers tokens. A reader that finds nothing validates the token at the source and puts
    /// what it says.
    #[must_use]
    pub fn tokens(cache: Arc<dyn TokenCache>) -> Self {
        Self::new(What::Tokens(cache))
    }

    /// States that it may forget at any time, since it is small or keeps nothing at all: entries are not
    /// expected to be found again.
    #[must_use]
    pub const fn that_forgets(mut self) -> Self {
        self.forgets = true;
        self
    }

    /// States for how long after its life an answer may stand in for a source that fails. Such an answer must
    /// be flagged as stale in the question's `Record`.
    #[must_use]
    pub const fn with_stale_if_error(mut self, cap: Duration) -> Self {
        self.stale = cap;
        self
    }

    /// Tells the cache of each invalidation, after the fence: for a cache that does not look at the fence.
    #[must_use]
    pub fn told_by(mut self, tell: impl Fn(&Subject<'_>) + Send + Sync + 'static) -> Self {
        self.told = Some(Arc::new(tell));
        self
    }

    /// States that its own tasks may take so many turns of the runtime in a row, in which no reader gets on: it is
    /// given that many before time passes.
    #[must_use]
    pub const fn that_takes_turns(mut self, turns: u32) -> Self {
        self.turns = turns;
        self
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self.what {
            What::Accounts(_) => Kind::Accounts,
            What::Groups(_) => Kind::Groups,
            What::Objects(_) => Kind::Objects,
            What::Tokens(_) => Kind::Tokens,
        }
    }

    const fn new(what: What) -> Self {
        Self { what, forgets: false, stale: Duration::ZERO, told: None, turns: 0 }
    }
}

impl fmt::Debug for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tested")
            .field("what", &self.what)
            .field("forgets", &self.forgets)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}
