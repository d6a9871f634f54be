//! The fence: one bump voids every answer about a subject, and every load begun before it.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;

use crate::{Id, Login, ObjectRef, Principal, RealmId};

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

/// The generations that a question depends on, read before its source is asked.
///
/// Generations only grow, so their sum is the same again only if none of them has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

/// The state of the ids before an account was loaded; see [`Fence::with_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdWatch(u64);

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
    // Counts invalidations by id: an account's id is not known before it is loaded.
    ids: AtomicU64,
    // Keyed per process: logins are chosen by strangers.
    hasher: RandomState,
}

#[derive(Hash)]
enum Key<'a> {
    Login(&'a str, &'a str),
    Id(&'a str, &'a str, Spelled<'a>),
    Object(&'a str, SpelledObject<'a>),
    Groups(&'a str),
    Realm(&'a str),
}

/// An id by its text alone: who invalidates the object 42 means it, whether its id was taken for a number or
/// for a text. Here that costs a spurious miss; keys of answers tell the two apart.
struct Spelled<'a>(&'a Id);

impl Hash for Spelled<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            Id::Text(text) => text.as_bytes().hash(state),
            other => {
                let mut spelled = Spelling { bytes: [0; 40], length: 0 };
                let _ = write!(spelled, "{other}");
                spelled.as_bytes().hash(state);
            }
        }
    }
}

/// An object by the text of its id.
struct SpelledObject<'a>(&'a ObjectRef);

impl Hash for SpelledObject<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.domain().hash(state);
        self.0.id().len().hash(state);
        for part in self.0.id() {
            Spelled(part).hash(state);
        }
    }
}

/// The text of a number or a UUID, without an allocation. 40 bytes hold either.
struct Spelling {
    bytes: [u8; 40],
    length: usize,
}

impl Spelling {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl std::fmt::Write for Spelling {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Fence {
    /// Makes a fence.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            hasher: RandomState::default(),
        }
    }

    /// Voids everything that is remembered about a subject, and every load about it that is under way.
    pub fn invalidate(&self, subject: &Subject<'_>) {
        match *subject {
            Subject::Login(login) => self.bump(&Key::Login(login.realm().name(), login.as_str())),
            Subject::Id { realm, source, id } => {
                // First the count, then the id: see `with_id`.
                self.ids.fetch_add(1, Ordering::SeqCst);
                self.bump(&Key::Id(realm.name(), source, Spelled(id)));
            }
            Subject::Object { realm, object } => self.bump(&Key::Object(realm.name(), SpelledObject(object))),
            Subject::Groups(realm) => self.bump(&Key::Groups(realm.name())),
            Subject::Realm(realm) => self.bump(&Key::Realm(realm.name())),
            Subject::All => {
                self.all.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Returns the stamp of a question about a login.
    #[must_use]
    pub fn login(&self, login: &Login) -> Stamp {
        let realm = login.realm().name();
        Stamp(self.base(realm).wrapping_add(self.read(&Key::Login(realm, login.as_str()))))
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
    pub fn plus_id(&self, stamp: Stamp, who: &Principal) -> Stamp {
        let id = self.read(&Key::Id(who.realm().name(), who.source(), Spelled(who.id())));
        Stamp(stamp.0.wrapping_add(id))
    }

    /// Returns the stamp of a question about a person's groups.
    #[must_use]
    pub fn groups(&self, who: &Principal) -> Stamp {
        let Stamp(person) = self.plus_id(self.login(who.login()), who);
        Stamp(person.wrapping_add(self.read(&Key::Groups(who.realm().name()))))
    }

    /// Returns the stamp of a question about a person's right on an object.
    #[must_use]
    pub fn access(&self, who: &Principal, object: &ObjectRef) -> Stamp {
        let Stamp(groups) = self.groups(who);
        Stamp(groups.wrapping_add(self.read(&Key::Object(who.realm().name(), SpelledObject(object)))))
    }

    fn base(&self, realm: &str) -> u64 {
        self.all.load(Ordering::SeqCst).wrapping_add(self.read(&Key::Realm(realm)))
    }

    fn stripe(&self, key: &Key<'_>) -> Option<&AtomicU64> {
        let mask = (STRIPES - 1) as u64;
        usize::try_from(self.hasher.hash_one(key) & mask).ok().and_then(|at| self.stripes.get(at))
    }

    fn read(&self, key: &Key<'_>) -> u64 {
        self.stripe(key).map_or(0, |stripe| stripe.load(Ordering::SeqCst))
    }

    fn bump(&self, key: &Key<'_>) {
        if let Some(stripe) = self.stripe(key) {
            stripe.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fence")
    }
}
