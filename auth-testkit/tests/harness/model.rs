//! A small cache of groups that is right, and can be made wrong in one way each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, GroupOracle, GroupSet, Lookup, Member, Moment,
    Principal, Result, SourceInfo, Stamp,
};
use auth_testkit::{ManualClock, Setup, Tested};
use tokio::sync::watch;

/// What the cache does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It reads the stamp that it keeps when the source has answered.
    StampAfterLoad,
    /// Who asks after an invalidation joins a load from before it.
    FlightsNotKeyedByStamp,
    /// An entry's age counts from when it was last read.
    ReadsRenew,
    /// What comes last is kept, though it was asked first.
    OlderLoadOverwrites,
    /// An entry that was invalidated stands in for a source that fails.
    StaleAfterInvalidation,
    /// An error is remembered like an answer.
    ErrorsAreKept,
    /// It takes an error for "not found".
    ErrorsAreAnswers,
    /// Who asks first carries the load, and takes it along when leaving.
    LeadersCarryLoads,
    /// Everything of everybody goes with each invalidation.
    VoidsEverybody,
    /// Nobody looks at how fresh an answer is wanted.
    IgnoresFreshness,
    /// Answers live for twice their time.
    LivesTwice,
    /// Who joins a load takes its answer, however long that took.
    JoinersTakeAnyAge,
}

type Answer = Result<Lookup<GroupSet>>;
type Landing = watch::Receiver<Option<(Answer, Moment)>>;

#[derive(Debug)]
pub(crate) struct Model {
    fault: Fault,
    source: Arc<dyn GroupOracle>,
    fence: Arc<Fence>,
    clock: Arc<ManualClock>,
    ttl: Duration,
    stale: Duration,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<Principal, Entry>,
    flights: HashMap<(Principal, Option<Stamp>), Flight>,
    next: u64,
    swept: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    answer: Answer,
    stamp: Stamp,
    loaded: Moment,
    number: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    began: Moment,
    land: Arc<watch::Sender<Option<(Answer, Moment)>>>,
}

impl Model {
    pub(crate) fn tested(setup: &Setup, fault: Fault) -> Tested {
        Tested::groups(Arc::new(Self::new(setup, fault, Duration::ZERO)))
    }

    pub(crate) fn with_stale(setup: &Setup, fault: Fault, stale: Duration) -> Tested {
        Tested::groups(Arc::new(Self::new(setup, fault, stale))).with_stale_if_error(stale)
    }

    fn new(setup: &Setup, fault: Fault, stale: Duration) -> Self {
        Self {
            fault,
            source: setup.groups(),
            fence: setup.fence(),
            clock: setup.clock(),
            ttl: setup.ttl() * if fault == Fault::LivesTwice { 2 } else { 1 },
            stale,
            shelf: Arc::default(),
        }
    }

    fn find(&self, ctx: &Ctx, who: &Principal) -> Option<Answer> {
        let mut shelf = self.shelf.lock().unwrap();
        let told = self.fence.invalidations();
        if self.fault == Fault::VoidsEverybody && shelf.swept != told {
            shelf.swept = told;
            shelf.entries.clear();
        }
        let now = self.clock.now();
        let entry = shelf.entries.get_mut(who)?;
        if entry.stamp != self.fence.groups(who) || now.since(entry.loaded) >= self.ttl {
            return None;
        }
        if self.fault != Fault::IgnoresFreshness && !ctx.freshness().accepts(now.since(entry.loaded)) {
            return None;
        }
        if self.fault == Fault::ReadsRenew {
            entry.loaded = now;
        }
        Some(entry.answer.clone())
    }

    fn board(&self, ctx: &Ctx, who: &Principal, since: Option<Moment>) -> (Landing, Option<BoxFuture<()>>) {
        let stamp = self.fence.groups(who);
        let place = (who.clone(), (self.fault != Fault::FlightsNotKeyedByStamp).then_some(stamp));
        let mut shelf = self.shelf.lock().unwrap();
        let began = self.clock.now();
        if let Some(flight) = shelf.flights.get(&place)
            && since.map_or_else(
                || ctx.freshness().accepts(began.since(flight.began)),
                |since| flight.began >= since,
            )
        {
            return (flight.land.subscribe(), None);
        }
        shelf.next += 1;
        let number = shelf.next;
        let (land, landing) = watch::channel(None);
        let land = Arc::new(land);
        shelf.flights.insert(place.clone(), Flight { number, began, land: Arc::clone(&land) });
        drop(shelf);
        let (source, fence, home) = (Arc::clone(&self.source), self.fence(), Arc::clone(&self.shelf));
        let (who, fault) = (who.clone(), self.fault);
        let load = async move {
            let loading = tokio::spawn({
                let who = who.clone();
                async move { source.groups_of(&Ctx::new(), &who).await }
            });
            let mut answer = loading.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "panic")));
            if fault == Fault::ErrorsAreAnswers && answer.is_err() {
                answer = Ok(Lookup::NotFound);
            }
            let stamp = if fault == Fault::StampAfterLoad { fence.groups(&who) } else { stamp };
            let mut shelf = home.lock().unwrap();
            if shelf.flights.get(&place).is_some_and(|flight| flight.number == number) {
                shelf.flights.remove(&place);
            }
            let newer = shelf.entries.get(&who).is_some_and(|entry| {
                entry.number > number
                    && entry.stamp == fence.groups(&who)
                    && fault != Fault::OlderLoadOverwrites
            });
            let keeps = answer.is_ok() || fault == Fault::ErrorsAreKept;
            if keeps && !newer && stamp == fence.groups(&who) {
                let entry = Entry { answer: answer.clone(), stamp, loaded: began, number };
                shelf.entries.insert(who, entry);
            }
            drop(shelf);
            land.send_replace(Some((answer, began)));
        };
        if fault == Fault::LeadersCarryLoads {
            return (landing, Some(Box::pin(load)));
        }
        tokio::spawn(load);
        (landing, None)
    }

    async fn land(&self, (mut landing, carried): (Landing, Option<BoxFuture<()>>)) -> (Answer, Moment) {
        if let Some(load) = carried {
            load.await;
        }
        match landing.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap(),
            Err(_) => (Err(Error::new(ErrorKind::Unavailable, "the load was given up")), self.clock.now()),
        }
    }

    fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    fn stand_in(&self, ctx: &Ctx, who: &Principal, error: Error) -> Answer {
        let shelf = self.shelf.lock().unwrap();
        let now = self.clock.now();
        let entry = shelf.entries.get(who).filter(|entry| {
            let current = entry.stamp == self.fence.groups(who);
            let lives = now.since(entry.loaded) <= self.ttl + self.stale;
            lives && (current || self.fault == Fault::StaleAfterInvalidation)
        });
        match entry {
            Some(entry)
                if !self.stale.is_zero()
                    && error.kind().is_temporary()
                    && ctx.freshness().accepts(now.since(entry.loaded)) =>
            {
                ctx.note_cache(CacheUse::Stale);
                entry.answer.clone()
            }
            _ => Err(error),
        }
    }
}

#[async_trait]
impl GroupOracle for Model {
    fn source(&self) -> &SourceInfo {
        self.source.source()
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Answer {
        if let Some(answer) = self.find(ctx, who) {
            return answer;
        }
        let asked = self.clock.now();
        let (mut answer, began) = self.land(self.board(ctx, who, None)).await;
        let outdated = began < asked && self.clock.now().since(began) > self.ttl;
        if outdated && answer.is_ok() && self.fault != Fault::JoinersTakeAnyAge {
            (answer, _) = self.land(self.board(ctx, who, Some(asked))).await;
        }
        answer.or_else(|error| self.stand_in(ctx, who, error))
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        Ok(match self.groups_of(ctx, who).await? {
            Lookup::Found(groups) if groups.contains(group) => Member::Yes,
            Lookup::Found(_) | Lookup::NotFound => Member::No,
        })
    }

    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        self.find(ctx, who)?.ok()
    }
}
