//! Loads that others may join.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth_core::{Ctx, Error, Moment, Result};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::gate::{Berth, Pass};
use crate::loader::{Loader, judge_many};
use crate::shared::{Keep, Looked, Marks, Seen, Stamp};
use crate::shelf::{Before, Loaded};
use crate::{Answer, Key};

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The source said this, now or before it was left alone.
    Source(Error),
    /// It was not asked, or was given up, and may be well.
    Ours(Error),
    /// The load of somebody else was waited for and is overdue: one of one's own is due.
    Overdue(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Source(error) | Failure::Ours(error) | Failure::Overdue(error) => error,
        }
    }
}

/// What came of a load: an answer, and when the source was asked for it.
pub(crate) type Landed = std::result::Result<(Answer, Moment), Failure>;

pub(crate) type Landing = Option<Landed>;

/// The loads under way.
#[derive(Debug)]
pub(crate) struct Flights {
    lanes: HashMap<Key, Lane, foldhash::quality::RandomState>,
    next: u64,
    overdue: Duration,
}

/// Those of one question.
#[derive(Debug, Default)]
struct Lane {
    // The newest last.
    aloft: Vec<Open>,
    // When the newest that has landed was put to the source: what was put before it is neither kept nor
    // joined, also if the newer answer was not kept.
    newest: Option<Moment>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    // Nobody who asks after an invalidation joins.
    before: Before,
    began: Moment,
    put: Arc<OnceLock<Put>>,
    landing: Arc<watch::Sender<Landing>>,
}

/// When a question was put to its source, and the stamp that the shared cache had for it before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put {
    at: Moment,
    stamp: Option<Stamp>,
}

impl Open {
    /// Reports whether nothing that somebody has seen in the shared cache speaks against joining this: another process
    /// may have voided what it brings.
    fn suits(&self, seen: Option<Seen>) -> bool {
        let (Some(seen), Some(put)) = (seen, self.put.get()) else { return true };
        // Put since they look: what it brings is new to them in any case.
        put.at >= seen.since || (seen.stamp.is_some() && seen.stamp == put.stamp)
    }
}

/// One of them, as its pilot knows it.
#[derive(Debug)]
pub(crate) struct Flight {
    key: Key,
    before: Before,
    // What the shared cache had before, if it was asked.
    looked: Option<Looked>,
    put: Arc<OnceLock<Put>>,
    number: u64,
    landing: Arc<watch::Sender<Landing>>,
}

/// A place at the landing of a load.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) landing: watch::Receiver<Landing>,
    /// When somebody else's load is given up, as one whose runtime does not run.
    pub(crate) until: Option<Moment>,
}

impl Flights {
    /// Starts with none. One that is older than this is given up: its runtime does not run any more.
    pub(crate) fn new(overdue: Duration) -> Self {
        Self { lanes: HashMap::default(), next: 0, overdue }
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.aloft.len()).sum()
    }

    /// Returns where a load of this question will land, if one is under way that began when it may have.
    pub(crate) fn join(
        &self,
        key: &Key,
        before: Before,
        seen: Option<Seen>,
        now: Moment,
        accepts: impl FnOnce(Moment) -> bool,
    ) -> Option<Waiting> {
        let lane = self.lanes.get(key)?;
        let open = lane.aloft.iter().rev().find(|open| open.before == before)?;
        let joins = lane.newest.is_none_or(|newest| newest <= open.began)
            && now.since(open.began) <= self.overdue
            && open.suits(seen)
            && accepts(open.began);
        let until = Some(open.began + self.overdue);
        joins.then(|| Waiting { landing: open.landing.subscribe(), until })
    }

    /// Opens a flight. Who comes later joins this; who waits for an older one still gets its answer.
    pub(crate) fn open(
        &mut self,
        key: Key,
        before: Before,
        began: Moment,
        looked: Option<Looked>,
    ) -> (Flight, Waiting) {
        self.next += 1;
        let number = self.next;
        let (landing, landed) = watch::channel(None);
        let landing = Arc::new(landing);
        let lane = self.lanes.entry(key.clone()).or_default();
        let overdue = self.overdue;
        lane.aloft.retain(|open| began.since(open.began) <= overdue);
        let put = Arc::new(OnceLock::new());
        lane.aloft.push(Open { number, before, began, put: Arc::clone(&put), landing: Arc::clone(&landing) });
        (Flight { key, before, looked, put, number, landing }, Waiting { landing: landed, until: None })
    }

    /// Takes a flight off the list. Reports whether its answer, if it brings one, may be kept: not if it was
    /// given up, nor if a newer one has landed.
    fn close(&mut self, flight: &Flight, answered: Option<Moment>) -> bool {
        let Some(lane) = self.lanes.get_mut(&flight.key) else { return false };
        let aloft = lane.aloft.len();
        lane.aloft.retain(|open| open.number != flight.number);
        if lane.aloft.len() == aloft {
            return false;
        }
        let newest = lane.newest;
        lane.newest = newest.max(answered);
        if lane.aloft.is_empty() {
            self.lanes.remove(&flight.key);
        }
        answered >= newest
    }
}

/// The duty to fly some flights, with one question for all; however it ends, they are off the list then.
pub(crate) struct Seat {
    loader: Arc<Loader>,
    flights: Vec<Flight>,
    berth: Option<Berth>,
}

impl Seat {
    pub(crate) const fn new(loader: Arc<Loader>, flights: Vec<Flight>, berth: Berth) -> Self {
        Self { loader, flights, berth: Some(berth) }
    }

    /// Waits for a turn, asks the source, and tells everybody who waits.
    pub(crate) async fn fly(self, asker: Ctx) {
        let turn = match self.loader.gate.try_turn() {
            Some(turn) => turn,
            None => match self.loader.turn().await {
                // Everybody has left while this waited for its turn: spare the source the question.
                Ok(_) if self.is_deserted() => return,
                Ok(turn) => turn,
                Err(failure) => return self.give_up(&asker, &failure),
            },
        };
        // The source may have failed while this waited.
        match self.loader.admit() {
            Ok(pass) => self.fly_with(asker, turn, pass).await,
            Err(failure) => self.give_up(&asker, &failure),
        }
    }

    /// Asks the source, tells everybody who waits, and keeps the answers in the shared cache.
    pub(crate) async fn fly_with(mut self, asker: Ctx, turn: OwnedSemaphorePermit, pass: Pass) {
        let marked = self.mark().await;
        let questions = self.flights.iter().map(|flight| flight.key.clone()).collect();
        let load = |ctx| (self.loader.load)(ctx, questions);
        let (answers, loaded) =
            self.loader.ask_source(&asker, turn, pass, load, |answers: &Vec<_>| judge_many(answers)).await;
        match answers {
            Ok(answers) if answers.len() == self.flights.len() => {
                // With the place of the question: so many stores at once, and no more.
                let (loader, berth) = (Arc::clone(&self.loader), self.berth.take());
                let keep = self.land(answers, loaded, marked);
                if let Some(share) = &loader.share {
                    share.keep(&keep).await;
                }
                drop(berth);
            }
            Ok(_) => {
                let miscounted = self.loader.miscounted();
                self.tell(&Failure::Source(miscounted));
            }
            Err(error) => self.tell(&Failure::Source(error)),
        }
    }

    /// Tells everybody who waits that the source is not asked.
    fn give_up(self, asker: &Ctx, failure: &Failure) {
        self.loader.note_refused(asker, failure, self.waiting());
        self.tell(failure);
    }

    /// Reads what must be read in the shared cache before the source is asked.
    async fn mark(&mut self) -> Vec<Option<Marks>> {
        let Some(share) = &self.loader.share else { return Vec::new() };
        let looked = self.flights.iter_mut().map(|flight| (flight.key.clone(), flight.looked.take()));
        let marked = share.prepare(looked.collect()).await;
        // Before the source is asked: who does not see this yet looks for something that is still to come.
        let at = self.loader.shelf.clock.now();
        for (flight, marks) in self.flights.iter().zip(&marked) {
            let _ = flight.put.set(Put { at, stamp: marks.as_ref().and_then(Marks::full_stamp) });
        }
        marked
    }

    /// Keeps the answers, takes the flights off the list in the same step, and tells everybody who waits. Returns
    /// what is to be kept in the shared cache.
    fn land(mut self, answers: Vec<Result<Answer>>, loaded: Loaded, marked: Vec<Option<Marks>>) -> Vec<Keep> {
        let mut keep = Vec::new();
        let mut marked = marked.into_iter();
        let mut flights = self.loader.flights();
        // They stay with the seat until all is kept: should a table panic, the rest are taken off the list too.
        for (flight, answer) in self.flights.iter().zip(&answers) {
            let marks = marked.next().flatten();
            let may_keep = flights.close(flight, answer.as_ref().ok().map(|_| loaded.at));
            let (Ok(answer), true) = (answer, may_keep) else { continue };
            let life = self.loader.shelf.keep(flight.key.clone(), answer, flight.before, loaded);
            if let (Some(life), Some(marks)) = (life, marks) {
                keep.push(Keep { answer: answer.clone(), life, marks });
            }
        }
        drop(flights);
        for (flight, answer) in std::mem::take(&mut self.flights).into_iter().zip(answers) {
            let landed = answer.map(|answer| (answer, loaded.at)).map_err(Failure::Source);
            flight.landing.send_replace(Some(landed));
        }
        keep
    }

    /// Takes the flights off the list, and tells everybody who waits that none has brought an answer.
    fn tell(mut self, failure: &Failure) {
        let ours = std::mem::take(&mut self.flights);
        let mut flights = self.loader.flights();
        for flight in &ours {
            flights.close(flight, None);
        }
        drop(flights);
        for flight in &ours {
            flight.landing.send_replace(Some(Err(failure.clone())));
        }
    }

    /// Returns how many wait.
    fn waiting(&self) -> usize {
        self.flights.iter().map(|flight| flight.landing.receiver_count()).sum()
    }

    /// Reports whether nobody waits; then nobody can join any more either.
    fn is_deserted(&self) -> bool {
        let mut flights = self.loader.flights();
        let deserted = self.waiting() == 0;
        if deserted {
            for flight in &self.flights {
                flights.close(flight, None);
            }
        }
        deserted
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let mut flights = self.loader.flights();
        for flight in &self.flights {
            flights.close(flight, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Backoff, Cached, Limits, Settings};
    use auth_core::{Access, Clock, ErrorKind, Fence, ObjectPerms, Subject};
    use auth_testkit::{Answer, ManualClock, ScriptedStore, info, object, principal};

    const LIMIT: Duration = Duration::from_secs(5);

    /// What becomes of a load.
    #[derive(Debug, Clone, Copy)]
    enum End {
        Answered,
        Voided,
        Failed,
        Panicked,
        TookTooLong,
        AskerLeft,
        RuntimeEnded,
        // Before it had its turn:
        WaitedTooLong,
        NobodyWaited,
        LeftAlone,
        RuntimeEndedBefore,
    }

    use End::*;

    const ENDS: [End; 11] = [
        Answered,
        Voided,
        Failed,
        Panicked,
        TookTooLong,
        AskerLeft,
        RuntimeEnded,
        WaitedTooLong,
        NobodyWaited,
        LeftAlone,
        RuntimeEndedBefore,
    ];

    async fn until(so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if so() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("nothing happens any more");
    }

    /// Puts questions in one load, and lets it end like this.
    fn check(end: End, objects: &[i64]) {
        let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
        let store = Arc::new(ScriptedStore::new(info("app")));
        let backoff = Backoff { after: 1, ..Backoff::default() };
        let settings = Settings::default().with_limits(Limits { loads: 1, backoff, ..Limits::default() });
        let rights: Arc<Cached<dyn ObjectPerms>> = Arc::new(Cached::new(
            Arc::<ScriptedStore>::clone(&store),
            Arc::clone(&fence),
            Arc::<ManualClock>::clone(&clock),
            &settings,
        ));
        let lanes = || rights.loader.flights().lanes.len();
        let turn = match end {
            WaitedTooLong | NobodyWaited | LeftAlone | RuntimeEndedBefore => settings.gate.try_turn(),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let asker = tokio::spawn({
                let rights = Arc::clone(&rights);
                let objects: Vec<_> = objects.iter().map(|id| object("doc", *id)).collect();
                async move {
                    let (ctx, who) = (Ctx::new(), principal("calvin"));
                    match &objects[..] {
                        [object] => drop(rights.access(&ctx, &who, object, None).await),
                        objects => drop(rights.access_many(&ctx, &who, objects, None).await),
                    }
                }
            });
            let answer = async |answer: Result<Access>| {
                for _ in objects {
                    store.next_question().await.answer(answer.clone());
                }
            };
            let down = Error::new(ErrorKind::Unavailable, "no connection");
            // It sleeps until it must have its turn or its answer.
            until(|| clock.sleepers() == 1).await;
            assert_eq!(lanes(), objects.len(), "{end:?}: under way");
            match end {
                Answered => answer(Ok(Access::Allow)).await,
                Voided => {
                    fence.invalidate(&Subject::All);
                    answer(Ok(Access::Allow)).await;
                }
                Failed => answer(Err(down)).await,
                // The script panics over an answer to another sort of question.
                Panicked => store.next_question().await.answer(Ok(Answer::Replaced(true))),
                TookTooLong | WaitedTooLong => clock.advance(LIMIT),
                AskerLeft => {
                    asker.abort();
                    answer(Ok(Access::Allow)).await;
                }
                NobodyWaited => {
                    asker.abort();
                    until(|| asker.is_finished()).await;
                }
                LeftAlone => {
                    settings.gate.admit(clock.now(), LIMIT).unwrap().ended(clock.now(), Some(&down));
                }
                RuntimeEnded | RuntimeEndedBefore => return,
            }
            if !matches!(end, WaitedTooLong) {
                drop(turn);
            }
            until(|| asker.is_finished() && clock.sleepers() == 0).await;
            // Before the runtime drops what may still run.
            assert_eq!(lanes(), 0, "{end:?} of {}", objects.len());
        });
        drop(runtime);
        assert_eq!(lanes(), 0, "{end:?} of {}", objects.len());
    }

    #[test]
    fn however_a_load_ends_no_lane_is_left() {
        for end in ENDS {
            check(end, &[1]);
            check(end, &[1, 2]);
        }
    }

    #[test]
    fn whoever_brings_it_nothing_older_replaces_what_is_kept() {
        let clock = ManualClock::new();
        let store = Arc::new(ScriptedStore::new(info("app")));
        let rights: Cached<dyn ObjectPerms> =
            Cached::new(store, Arc::new(Fence::new()), clock, &Settings::default());
        let (who, object) = (principal("calvin"), object("doc", 1));
        let (ask, shelf) = (Ask::Access(&who, &object, None), &rights.loader.shelf);
        let keep = |access, second| {
            let loaded = Loaded { at: Moment::ZERO + Duration::from_secs(second), took: Duration::ZERO };
            shelf.keep(ask.to_key(), &crate::Answer::Access(access), shelf.before(&ask), loaded);
        };
        keep(Access::Deny, 2);
        keep(Access::Allow, 1);
        assert_eq!(rights.peek_access(&Ctx::new(), &who, &object, None), Some(Access::Deny));
        keep(Access::Allow, 3);
        assert_eq!(rights.peek_access(&Ctx::new(), &who, &object, None), Some(Access::Allow));
    }
}
