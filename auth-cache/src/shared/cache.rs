//! `SharedCache`: what the processes of a stack share, looked at through the fence, the seal and the breakers.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_core::{ByteTier, Clock, Moment, Result, SubjectBuf, TierAsk, TierRead, WireName};

use super::keys::{CacheKeys, Names, Of};
use super::seal::{SealKind, Sealer};
use crate::gate::{Backoff, Gate, Limits, Pass};

/// How a shared cache is left alone after failures. Its answers take a millisecond, and a source stands behind it: so
/// it is tried again soon, and one question pays for that.
const BACKOFF: Backoff =
    Backoff { after: 3, first: Duration::from_millis(250), most: Duration::from_secs(2) };

/// How long a question to a shared cache is waited for before the next may try it, if nothing is heard of it.
const PROBE: Duration = Duration::from_secs(5);

/// A cache that several processes share, as one stack uses it: the tier's bytes, sealed under the stack's keys, with
/// a breaker for each lane.
///
/// Make one for each stack, and give it to every wrapper by [`Settings::with_shared`](crate::Settings::with_shared).
pub struct SharedCache {
    pub(crate) tier: Arc<dyn ByteTier>,
    pub(crate) names: Names,
    pub(crate) sealer: Sealer,
    pub(crate) clock: Arc<dyn Clock>,
    lanes: Box<[Lane]>,
}

/// What is known of one lane.
#[derive(Debug)]
struct Lane {
    gate: Arc<Gate>,
    // How many names are on their way to be voided: mirrors the map, so that a question takes no lock in the rule.
    behind: AtomicUsize,
    // What this process knows to be void and the lane may not yet.
    voiding: Mutex<HashMap<WireName, u32>>,
}

/// The state of a lane, for the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneReport {
    /// How much longer it is left alone after failures; zero while one question tries it, and nothing if it is well.
    pub left_alone: Option<Duration>,
    /// Names that are void and which it does not know to be yet.
    pub behind: usize,
}

impl SharedCache {
    /// Puts a tier behind a seal.
    ///
    /// # Errors
    /// [`Internal`](auth_core::ErrorKind::Internal) if the keys do not suit the seal.
    pub fn new(
        tier: Arc<dyn ByteTier>,
        keys: &CacheKeys,
        seal: SealKind,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let lane = |_| Lane {
            // Places are the tier's to bound.
            gate: Arc::new(Gate::new(Limits { loads: 1, queue: 0, backoff: BACKOFF })),
            behind: AtomicUsize::new(0),
            voiding: Mutex::default(),
        };
        let lanes = (0..tier.lanes().max(1)).map(lane).collect();
        Ok(Self { names: Names::new(keys), sealer: Sealer::new(seal, keys)?, tier, clock, lanes })
    }

    /// Returns the kind of the tier, as it is configured.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.tier.kind()
    }

    /// Returns the state of each lane.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneReport> {
        let now = self.clock.now();
        let report = |lane: &Lane| LaneReport {
            left_alone: lane.gate.left_alone(now),
            behind: lane.behind.load(Ordering::SeqCst),
        };
        self.lanes.iter().map(report).collect()
    }

    /// Asks every server something that it must be able to answer.
    ///
    /// # Errors
    /// That of the first which does not.
    pub async fn probe(&self) -> Result<()> {
        self.tier.probe().await
    }

    pub(crate) const fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// Lets a question through to a lane, unless the lane is left alone or does not know yet that one of these is
    /// void.
    pub(crate) fn admit(&self, now: Moment, lane: usize, generations: &[WireName]) -> Option<Pass> {
        let state = self.lanes.get(lane)?;
        if state.behind.load(Ordering::SeqCst) > 0 {
            let voiding = state.voiding();
            if generations.iter().any(|name| voiding.contains_key(name)) {
                return None;
            }
        }
        state.gate.admit(now, PROBE).ok()
    }

    /// Reads entries that were admitted, and tells the breakers what came of it.
    pub(crate) async fn read(
        &self,
        asks: &[TierAsk<'_>],
        passes: impl IntoIterator<Item = Pass> + Send,
    ) -> Vec<Result<TierRead>> {
        let reads = self.tier.read(asks).await;
        for (read, pass) in reads.iter().zip(passes) {
            match read {
                Ok(_) => pass.answered(),
                Err(error) => pass.ended(self.clock.now(), Some(error)),
            }
        }
        reads
    }

    /// Reports whether a lane is left alone after failures.
    pub(crate) fn is_left_alone(&self, lane: usize, now: Moment) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.gate.refusal(now).is_some())
    }

    /// Trusts nothing any more on any lane that depends on one of these, until [`end_voiding`](Self::end_voiding).
    pub(crate) fn begin_voiding(&self, names: &[WireName]) {
        for lane in &self.lanes {
            let mut voiding = lane.voiding();
            for name in names {
                *voiding.entry(*name).or_default() += 1;
            }
            lane.behind.store(voiding.len(), Ordering::SeqCst);
        }
    }

    /// Trusts a lane again, which knows now that these are void, or on which whatever depended on them has ended.
    pub(crate) fn end_voiding(&self, lane: usize, names: &[WireName]) {
        let Some(lane) = self.lanes.get(lane) else { return };
        let mut voiding = lane.voiding();
        for name in names {
            if let Some(count) = voiding.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    voiding.remove(name);
                }
            }
        }
        lane.behind.store(voiding.len(), Ordering::SeqCst);
    }

    /// Names all generations that an invalidation voids, under every key that a process of this stack may use.
    pub(crate) fn voided_by(&self, subject: &SubjectBuf) -> Vec<WireName> {
        let of: Vec<Of<'_>> = match subject {
            SubjectBuf::Login(login) => vec![Of::Login(login), Of::Told],
            SubjectBuf::Id { realm, source, id } => {
                // An account's id is not known before it is read, so accounts depend on all ids of their realm.
                vec![Of::Id { realm, source, id }, Of::Ids(realm), Of::Told]
            }
            SubjectBuf::Object { realm, object } => vec![Of::Object { realm, object }],
            SubjectBuf::Groups(realm) => vec![Of::Groups(realm)],
            SubjectBuf::Realm(realm) => vec![Of::Ids(realm), Of::Groups(realm), Of::Told],
            SubjectBuf::All => vec![Of::All, Of::Told],
        };
        of.iter().flat_map(|of| self.names.generation_under_all_keys(of)).collect()
    }
}

impl Lane {
    fn voiding(&self) -> MutexGuard<'_, HashMap<WireName, u32>> {
        self.voiding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCache")
            .field("tier", &self.tier)
            .field("lanes", &self.lanes())
            .finish_non_exhaustive()
    }
}
