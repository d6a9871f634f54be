//! Changes that push themselves into the caches: what a store tells, its realms forget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use auth_core::{ChangeEar, Changed, Fence, Listening, Login, ObjectRef, RealmId, Result, Subject};

use crate::probe::Source;

/// What a source has told of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedReport {
    /// How the source tells.
    pub kind: &'static str,
    /// Whether changes are heard now. Where they are not, lifetimes are the bound.
    pub hears: bool,
    /// How many changes it has told of.
    pub changes: u64,
    /// How often it could not be heard any longer.
    pub losses: u64,
}

/// Hears what was changed in one source, and voids what the realms that it serves remember of it.
#[derive(Debug)]
pub(crate) struct Follower {
    source: Arc<str>,
    kind: &'static str,
    realms: Vec<RealmId>,
    fence: Arc<Fence>,
    hears: AtomicBool,
    /// Whether it has ever heard.
    began: AtomicBool,
    /// Whether nobody asks yet: the stack is still to take another's place.
    unasked: AtomicBool,
    changes: AtomicU64,
    losses: AtomicU64,
}

impl Follower {
    pub(crate) fn report(&self) -> FeedReport {
        FeedReport {
            kind: self.kind,
            hears: self.hears.load(Ordering::SeqCst),
            changes: self.changes.load(Ordering::Relaxed),
            losses: self.losses.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn is_asked(&self) {
        self.unasked.store(false, Ordering::SeqCst);
    }

    fn void(&self, realm: &RealmId, what: &Changed) {
        match what {
            // What is no login may be one beside something: the table has more in that column.
            Changed::Login(login) => match Login::parse(realm, login) {
                Ok(login) => self.fence.invalidate(&Subject::Login(&login)),
                Err(_) => self.fence.invalidate(&Subject::Realm(realm)),
            },
            Changed::Id(id) => self.fence.invalidate(&Subject::Id { realm, source: &self.source, id }),
            Changed::Object { domain, id } => {
                // Else it is an id that no question can have.
                if let Ok(object) = ObjectRef::new(domain, id.iter().cloned()) {
                    self.fence.invalidate(&Subject::Object { realm, object: &object });
                }
            }
            Changed::Groups => self.fence.invalidate(&Subject::Groups(realm)),
            _ => self.fence.invalidate(&Subject::Realm(realm)),
        }
    }
}

impl ChangeEar for Follower {
    fn changed(&self, what: &[Changed]) {
        self.changes.fetch_add(what.len() as u64, Ordering::Relaxed);
        for realm in &self.realms {
            what.iter().for_each(|changed| self.void(realm, changed));
        }
    }

    fn lost(&self) {
        if self.hears.swap(false, Ordering::SeqCst) {
            self.losses.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                source = &*self.source,
                "changes in this source are not heard any more: until they are, answers are as old as their lifetimes allow"
            );
        }
    }

    fn back(&self) {
        // Whoever takes another's place has asked nothing. First of all a process has nothing to void but what it has asked since it began; what others share, those
        // that have heard meanwhile have voided.
        let first = !self.began.swap(true, Ordering::SeqCst);
        let realms = if self.unasked.load(Ordering::SeqCst) { &[][..] } else { &self.realms };
        for realm in realms {
            let subject = Subject::Realm(realm);
            if first { self.fence.invalidate_here(&subject) } else { self.fence.invalidate(&subject) }
        }
        self.hears.store(true, Ordering::SeqCst);
        tracing::info!(source = &*self.source, "changes in this source are heard");
    }
}

/// A follower, which hears for as long as this is there.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) follower: Arc<Follower>,
    _listening: Listening,
}

/// Those who follow the sources of a stack, by source.
pub(crate) type Feeds = BTreeMap<String, Arc<Following>>;

/// Begins to follow every source that tells of changes and that a realm uses. Who follows one already, for the same
/// realms, goes on: nothing is missed in between.
///
/// # Errors
/// [`Internal`](auth_core::ErrorKind::Internal) outside of a runtime.
pub(crate) fn follow(
    sources: &BTreeMap<String, Source>,
    fence: &Arc<Fence>,
    serves: impl Fn(&str) -> Vec<RealmId>,
    follows: impl Fn(&str) -> Option<Arc<Following>>,
    unasked: bool,
) -> Result<Feeds> {
    let mut feeds = Feeds::new();
    for (name, source) in sources {
        let (Some(feed), realms) = (&source.provides.feed, serves(name)) else { continue };
        if realms.is_empty() {
            continue;
        }
        let following = match follows(name).filter(|old| old.follower.realms == realms) {
            Some(old) => old,
            None => {
                let follower = Arc::new(Follower {
                    source: name.as_str().into(),
                    kind: feed.kind(),
                    realms,
                    fence: Arc::clone(fence),
                    hears: AtomicBool::new(false),
                    began: AtomicBool::new(false),
                    unasked: AtomicBool::new(unasked),
                    changes: AtomicU64::new(0),
                    losses: AtomicU64::new(0),
                });
                let listening = feed.follow(Arc::clone(&follower) as Arc<dyn ChangeEar>)?;
                Arc::new(Following { follower, _listening: listening })
            }
        };
        feeds.insert(name.clone(), following);
    }
    Ok(feeds)
}
