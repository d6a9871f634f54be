//! The fence: one bump voids every answer about a subject, and every load begun before it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::principal::spelled;
use crate::{Id, Login, Moment, ObjectRef, Principal, RealmId};

// 65,536 stripes of 8 bytes: 512 KiB a stack. Two subjects on one stripe cost a spurious miss, no more.
const STRIPES: usize = 1 << 16;

/// What an invalidation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Everything about the person of this login: account, memo, groups, rights, tokens.
    Login(&'a Login),
    /// Everything about the person that `source` knows by this id.
    Id {
        /// The realm.
        realm: &'a RealmId,
        /// The source that issued the id.
        source: &'a str,
        /// The id.
        id: &'a Id,
    },
    /// Every right on this object.
    Object {
        /// The realm.
        realm: &'a RealmId,
        /// The object.
        object: &'a ObjectRef,
    },
    /// Every group set and every right of a realm: a group changed, its members are not named.
    Groups(&'a RealmId),
    /// Everything of a realm.
    Realm(&'a RealmId),
    /// Everything.
    All,
}

/// What an invalidation is about, owned: to be told to others, or later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectBuf {
    /// [`Subject::Login`]
    Login(Login),
    /// [`Subject::Id`]
    Id {
        /// The realm.
        realm: RealmId,
        /// The source that issued the id.
        source: Arc<str>,
        /// The id.
        id: Id,
    },
    /// [`Subject::Object`]
    Object {
        /// The realm.
        realm: RealmId,
        /// The object.
        object: ObjectRef,
    },
    /// [`Subject::Groups`]
    Groups(RealmId),
    /// [`Subject::Realm`]
    Realm(RealmId),
    /// [`Subject::All`]
    All,
}

impl SubjectBuf {
    /// Returns the realm of the subject as a whole: what voids at least as much, in fewer words.
    #[must_use]
    pub fn widened(&self) -> Self {
        match self {
            Self::Login(login) => Self::Realm(login.realm().clone()),
            Self::Id { realm, .. }
            | Self::Object { realm, .. }
            | Self::Groups(realm)
            | Self::Realm(realm) => Self::Realm(realm.clone()),
            Self::All => Self::All,
        }
    }

    /// Borrows it.
    #[must_use]
    pub fn as_subject(&self) -> Subject<'_> {
        match self {
            Self::Login(login) => Subject::Login(login),
            Self::Id { realm, source, id } => Subject::Id { realm, source, id },
            Self::Object { realm, object } => Subject::Object { realm, object },
            Self::Groups(realm) => Subject::Groups(realm),
            Self::Realm(realm) => Subject::Realm(realm),
            Self::All => Subject::All,
        }
    }
}

impl From<&Subject<'_>> for SubjectBuf {
    fn from(subject: &Subject<'_>) -> Self {
        match *subject {
            Subject::Login(login) => Self::Login(login.clone()),
            Subject::Id { realm, source, id } => {
                Self::Id { realm: realm.clone(), source: source.into(), id: id.clone() }
            }
            Subject::Object { realm, object } => {
                Self::Object { realm: realm.clone(), object: object.clone() }
            }
            Subject::Groups(realm) => Self::Groups(realm.clone()),
            Subject::Realm(realm) => Self::Realm(realm.clone()),
            Subject::All => Self::All,
        }
    }
}

/// How far invalidations have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "what was not reached may still answer from what is void"]
pub enum Reached {
    /// Everything there is: this process, and where one is configured the shared cache and the bus.
    #[default]
    Everything,
    /// This process, and not all of the rest yet. That is tried again for as long as it matters: what is void here
    /// may be answered elsewhere until then, or until it is past its lifetime.
    Partial {
        /// Whether the shared cache has all of it.
        shared: bool,
        /// Whether the bus has told the other processes that listen.
        bus: bool,
    },
}

/// Carries invalidations beyond this process: to shared caches and to other processes.
#[async_trait]
pub trait Outward: fmt::Debug + Send + Sync {
    /// Takes an invalidation to carry on, before it takes effect in this process. Does not wait: from its return on
    /// this process trusts nothing shared that the subject may have voided, until that is carried.
    fn tell(&self, subject: &Subject<'_>);

    /// Waits until everything that was told before is carried, for so long at most.
    async fn settle(&self, limit: Duration) -> Reached;
}

/// The generations that a question depends on, read before its source is asked.
///
/// Generations only grow, so their sum is the same again only if none of them has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

/// The state of the ids before an account was loaded; see [`Fence::with_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdWatch(u64);

/// How much had been invalidated when something began, and when that was; see [`Fence::watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watch {
    told: u64,
    began: Moment,
}

impl Watch {
    /// Returns when it began.
    #[must_use]
    pub const fn began(self) -> Moment {
        self.began
    }
}

/// One per stack, handed to every wrapper that remembers.
///
/// Read the stamp of a question, ask the source, keep the answer with the stamp. An entry whose
/// stamp is not the question's current stamp is a miss. [`invalidate`](Self::invalidate) is O(1) and
/// covers every kind of answer about the subject at once; no load begun before it can bring the old
/// value back, since its stamp is already void. Commit to the source first, then invalidate.
///
/// ```
/// use auth_core::{Fence, Login, LoginRule, RealmId, Subject};
/// let realm = RealmId::new("default", LoginRule::CaseMapped)?;
/// let (calvin, susie) = (Login::parse(&realm, "calvin")?, Login::parse(&realm, "susie")?);
/// let fence = Fence::new();
/// let (before, other) = (fence.login(&calvin), fence.login(&susie));
/// fence.invalidate(&Subject::Login(&calvin));
/// assert_ne!(fence.login(&calvin), before);
/// assert_eq!(fence.login(&susie), other);
/// # Ok::<(), auth_core::Error>(())
/// ```
pub struct Fence {
    stripes: Box<[AtomicU64]>,
    all: AtomicU64,
    // Counts invalidations of any kind that have begun.
    told: AtomicU64,
    // Counts those that are through.
    done: AtomicU64,
    // Counts those by id: an account's id is not known before it is loaded.
    ids: AtomicU64,
    outward: OnceLock<Arc<dyn Outward>>,
}

/// What the stripes of one kind of subject are chosen by. The hashes of names are keyed and made with them, so
/// that reading a stamp hashes nothing; an odd factor for each kind leads one hash to unrelated stripes.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Kind {
    Login = 0x9e37_79b9_7f4a_7c15,
    Id = 0xd6e8_feb8_6659_fd93,
    Object = 0xa076_1d64_78bd_642f,
    Groups = 0xe703_7ed1_a0b4_28db,
    Realm = 0x8ebc_6af0_9c88_c6e3,
}

impl Fence {
    /// Makes a fence.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
            told: AtomicU64::new(0),
            done: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            outward: OnceLock::new(),
        }
    }

    /// Carries invalidations on from now on. Only the first to be set does.
    pub fn carry_on(&self, outward: Arc<dyn Outward>) {
        drop(self.outward.set(outward));
    }

    /// Voids everything that is remembered about a subject, and every load about it that is under way: in this
    /// process at once, and beyond it as soon as that is carried; see [`settle`](Self::settle).
    pub fn invalidate(&self, subject: &Subject<'_>) {
        // First, or somebody may take from a shared cache what is void there a moment later, under the new stamp.
        if let Some(outward) = self.outward.get() {
            outward.tell(subject);
        }
        self.invalidate_here(subject);
    }

    /// Waits until all that was invalidated before is carried beyond this process, for so long at most.
    pub async fn settle(&self, limit: Duration) -> Reached {
        match self.outward.get() {
            Some(outward) => outward.settle(limit).await,
            None => Reached::Everything,
        }
    }

    /// Voids in this process alone: what another process tells, or what cannot be relied on any more.
    pub fn invalidate_here(&self, subject: &Subject<'_>) {
        // First the counts, then the generation: see `still` and `with_id`.
        self.told.fetch_add(1, Ordering::SeqCst);
        match *subject {
            Subject::Login(login) => self.bump(Kind::Login, login.hash64()),
            Subject::Id { realm, source, id } => {
                self.ids.fetch_add(1, Ordering::SeqCst);
                self.bump(Kind::Id, spelled(realm, source, id));
            }
            Subject::Object { realm, object } => self.bump(Kind::Object, in_realm(realm, object)),
            Subject::Groups(realm) => self.bump(Kind::Groups, realm.hash64()),
            Subject::Realm(realm) => self.bump(Kind::Realm, realm.hash64()),
            Subject::All => {
                self.all.fetch_add(1, Ordering::SeqCst);
            }
        }
        // Last: see `settled`.
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns a count that moves with each invalidation, after the generations that it moves.
    ///
    /// So a stamp that was compared and found current after this was read stays current for as long as
    /// this stays what it was, and need not be compared again.
    #[must_use]
    #[inline]
    pub fn settled(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Returns how many invalidations there have been.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    /// Begins to watch for invalidations of any kind at this moment, before something is found out whose
    /// subject is not known yet: whose token it is.
    #[must_use]
    pub fn watch(&self, began: Moment) -> Watch {
        Watch { told: self.invalidations(), began }
    }

    /// Reports whether nothing at all was invalidated since `watch` began.
    ///
    /// Read the stamp to keep first and ask this then: an invalidation counts before it bumps, so one that is
    /// not seen here has not bumped yet either, and will void the stamp.
    #[must_use]
    pub fn still(&self, watch: Watch) -> bool {
        self.invalidations() == watch.told
    }

    /// Returns the stamp of a question about a login.
    #[must_use]
    #[inline]
    pub fn login(&self, login: &Login) -> Stamp {
        let realm = self.read(Kind::Realm, login.realm().hash64());
        let all = self.all.load(Ordering::SeqCst);
        Stamp(all.wrapping_add(realm).wrapping_add(self.read(Kind::Login, login.hash64())))
    }

    /// Begins to watch for invalidations by id, before an account is loaded.
    #[must_use]
    pub fn watch_ids(&self) -> IdWatch {
        IdWatch(self.ids.load(Ordering::SeqCst))
    }

    /// Adds the id that a load found to the stamp of its login; nothing if an id was invalidated since
    /// `watch` began, since it may have been this one: do not keep the answer then.
    #[must_use]
    pub fn with_id(&self, stamp: Stamp, watch: IdWatch, who: &Principal) -> Option<Stamp> {
        let full = self.plus_id(stamp, who);
        (self.ids.load(Ordering::SeqCst) == watch.0).then_some(full)
    }

    /// Adds a known id to the stamp of its login, to compare with a stamp that was kept.
    #[must_use]
    #[inline]
    pub fn plus_id(&self, stamp: Stamp, who: &Principal) -> Stamp {
        Stamp(stamp.0.wrapping_add(self.read(Kind::Id, who.spelled())))
    }

    /// Returns the stamp of a question about a person's groups.
    #[must_use]
    #[inline]
    pub fn groups(&self, who: &Principal) -> Stamp {
        let Stamp(person) = self.plus_id(self.login(who.login()), who);
        Stamp(person.wrapping_add(self.read(Kind::Groups, who.realm().hash64())))
    }

    /// Returns the stamp of a question about a person's right on an object.
    #[must_use]
    #[inline]
    pub fn access(&self, who: &Principal, object: &ObjectRef) -> Stamp {
        let Stamp(groups) = self.groups(who);
        Stamp(groups.wrapping_add(self.read(Kind::Object, in_realm(who.realm(), object))))
    }

    #[inline]
    fn stripe(&self, kind: Kind, hash: u64) -> Option<&AtomicU64> {
        // The upper bits are the ones that every bit of the hash has reached.
        let at = hash.wrapping_mul(kind as u64) >> (u64::BITS - STRIPES.ilog2());
        usize::try_from(at).ok().and_then(|at| self.stripes.get(at))
    }

    // Sequentially consistent throughout: a count and a generation are two places, whose order matters. Loads
    // cost the same as weaker ones on x86, and a plain load-acquire on ARM.
    #[inline]
    fn read(&self, kind: Kind, hash: u64) -> u64 {
        self.stripe(kind, hash).map_or(0, |stripe| stripe.load(Ordering::SeqCst))
    }

    fn bump(&self, kind: Kind, hash: u64) {
        if let Some(stripe) = self.stripe(kind, hash) {
            stripe.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The hash of an object in a realm: realms may share a store, and do not share its objects' generations.
fn in_realm(realm: &RealmId, object: &ObjectRef) -> u64 {
    realm.hash64().rotate_left(32) ^ object.spelled()
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fence")
    }
}
