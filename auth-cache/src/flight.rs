//! Loads that others may join.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use auth_core::{Ctx, Moment, Result};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::gate::{Berth, Pass};
use crate::loader::{Loader, judge_one};
use crate::shelf::{Before, Loaded};
use crate::{Answer, Key};

/// Of this question, begun under these generations: nobody who asks after an invalidation joins.
pub(crate) type FlightKey = (Key, Before);

pub(crate) type Landing = Option<Result<Answer>>;

/// The loads under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    open: HashMap<FlightKey, Open, foldhash::quality::RandomState>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    number: u64,
    began: Moment,
    landing: Arc<watch::Sender<Landing>>,
}

/// One of them, as its pilot knows it.
#[derive(Debug)]
pub(crate) struct Flight {
    place: FlightKey,
    number: u64,
    landing: Arc<watch::Sender<Landing>>,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns where a load of this question will land, if one is under way that began when it may have.
    pub(crate) fn join(
        &self,
        place: &FlightKey,
        accepts: impl FnOnce(Moment) -> bool,
    ) -> Option<watch::Receiver<Landing>> {
        let open = self.open.get(place)?;
        accepts(open.began).then(|| open.landing.subscribe())
    }

    /// Opens a flight. It takes the place of an older one that a question could not join; who waits for that
    /// still gets its answer, who comes later joins this.
    pub(crate) fn open(&mut self, place: FlightKey, began: Moment) -> (Flight, watch::Receiver<Landing>) {
        self.next += 1;
        let number = self.next;
        let (landing, landed) = watch::channel(None);
        let landing = Arc::new(landing);
        self.open.insert(place.clone(), Open { number, began, landing: Arc::clone(&landing) });
        (Flight { place, number, landing }, landed)
    }

    fn close(&mut self, flight: &Flight) {
        // A newer flight may have taken the place.
        if self.open.get(&flight.place).is_some_and(|open| open.number == flight.number) {
            self.open.remove(&flight.place);
        }
    }
}

/// The duty to fly one flight; however it ends, the flight is off the list then.
pub(crate) struct Seat {
    loader: Arc<Loader>,
    flight: Flight,
    _berth: Berth,
}

impl Seat {
    pub(crate) const fn new(loader: Arc<Loader>, flight: Flight, berth: Berth) -> Self {
        Self { loader, flight, _berth: berth }
    }

    /// Waits for a turn, asks the source, and tells everybody who waits.
    pub(crate) async fn fly<L, F>(self, asker: Ctx, load: L)
    where
        L: FnOnce(Ctx, Key) -> F + Send,
        F: Future<Output = Result<Answer>> + Send,
    {
        let turn = match self.loader.gate.try_turn() {
            Some(turn) => turn,
            None => match self.loader.turn().await {
                // Everybody has left while this waited for its turn: spare the source the question.
                Ok(_) if self.is_deserted() => return,
                Ok(turn) => turn,
                Err(error) => return self.land(Err(error), None),
            },
        };
        // The source may have failed while this waited.
        match self.loader.gate.admit(self.loader.shelf.clock.now()) {
            Ok(pass) => self.fly_with(asker, turn, pass, load).await,
            Err(error) => {
                self.loader.note_backed_off(&asker, self.flight.landing.receiver_count());
                self.land(Err(error), None);
            }
        }
    }

    /// Asks the source, and tells everybody who waits.
    pub(crate) async fn fly_with<L, F>(self, asker: Ctx, turn: OwnedSemaphorePermit, pass: Pass, load: L)
    where
        L: FnOnce(Ctx, Key) -> F + Send,
        F: Future<Output = Result<Answer>> + Send,
    {
        let question = self.flight.place.0.clone();
        let load = |ctx| load(ctx, question);
        let (answer, loaded) = self.loader.ask_source(&asker, turn, pass, load, judge_one).await;
        self.land(answer.and_then(|answer| answer), Some(loaded));
    }

    /// Keeps the answer, takes the flight off the list in the same step, and tells everybody who waits.
    fn land(self, answer: Result<Answer>, loaded: Option<Loaded>) {
        let mut flights = self.loader.flights();
        if let (Ok(answer), Some(loaded)) = (&answer, loaded) {
            let (key, before) = self.flight.place.clone();
            self.loader.shelf.keep(key, answer, before, loaded);
        }
        flights.close(&self.flight);
        drop(flights);
        self.flight.landing.send_replace(Some(answer));
    }

    /// Reports whether nobody waits; then nobody can join any more either.
    fn is_deserted(&self) -> bool {
        let mut flights = self.loader.flights();
        let deserted = self.flight.landing.receiver_count() == 0;
        if deserted {
            flights.close(&self.flight);
        }
        deserted
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.loader.flights().close(&self.flight);
    }
}
