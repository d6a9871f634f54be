//! Many questions at once: one load for all that nobody is loading.

use std::collections::HashMap;
use std::sync::Arc;

use auth_core::{Ctx, Moment, Result};

use super::{Loader, joins};
use crate::flight::{Failure, Landed, Seat, Waiting};
use crate::shelf::{Before, Hit, Missed};
use crate::{Answer, Ask, Key};

/// Where one of them waits.
type Place = std::result::Result<Waiting, Failure>;

impl Loader {
    /// Answers many questions: what it can from memory, and for the rest joins the loads that are under way and
    /// puts one question for what nobody is loading. The answers belong to the questions in their order.
    pub(crate) async fn answer_many(self: &Arc<Self>, ctx: &Ctx, asks: &[Ask<'_>]) -> Vec<Result<Answer>> {
        let hits: std::result::Result<Vec<Hit>, Missed> =
            asks.iter().map(|ask| self.shelf.find(ctx, ask)).collect();
        if let Ok(hits) = hits {
            return asks.iter().zip(hits).map(|(ask, hit)| Ok(self.serve(ctx, ask, hit))).collect();
        }
        let asked = self.shelf.clock.now();
        let mut landed = self.load_many(ctx, asks, None).await;
        // What was remembered has aged while the rest was asked for, or was invalidated: it is looked up again,
        // rather than handed out as it was before the wait. And what somebody else had asked for may be too
        // old by now. If any of it is gone, all of it is asked for, so that no more has to wait.
        let hits: Vec<Option<std::result::Result<Hit, Missed>>> = asks
            .iter()
            .zip(&landed)
            .map(|(ask, landed)| landed.is_none().then(|| self.shelf.find(ctx, ask)))
            .collect();
        let outdated = landed.iter().flatten().any(|landed| match landed {
            Ok((answer, at)) => self.is_outdated(answer, *at, asked),
            Err(failure) => matches!(failure, Failure::Overdue(_)),
        });
        if outdated || hits.iter().flatten().any(std::result::Result::is_err) {
            let mut again = Vec::new();
            for (place, (ask, (landed, hit))) in asks.iter().zip(landed.iter().zip(&hits)).enumerate() {
                match (landed, hit) {
                    (Some(Ok((_, at))), _) if *at < asked => {}
                    (Some(Err(Failure::Overdue(_))), _) => {}
                    (Some(_), _) => continue,
                    // The others are counted.
                    (None, Some(Err(missed))) => self.note_miss(ctx, *missed),
                    (None, _) => self.note_miss(ctx, Missed::Nothing),
                }
                again.push((place, *ask));
            }
            let (places, again): (Vec<usize>, Vec<Ask<'_>>) = again.into_iter().unzip();
            for (place, newer) in places.into_iter().zip(self.load_many(ctx, &again, Some(asked)).await) {
                if let Some(landed) = landed.get_mut(place) {
                    *landed = newer;
                }
            }
        }
        let each = asks.iter().zip(landed.into_iter().zip(hits));
        each.map(|(ask, (landed, hit))| match (landed, hit) {
            (Some(Ok((answer, _))), _) => Ok(answer),
            (Some(Err(failure)), _) => self.stand_in(ctx, ask, failure),
            (None, Some(Ok(hit))) => Ok(self.serve(ctx, ask, hit)),
            (None, _) => Err(self.miscounted()),
        })
        .collect()
    }

    /// Joins loads, or begins one for all that nobody is loading, and waits for them. Says nothing of what is on
    /// the shelf. With `since`, that is not looked at, this is the second time, and only what has begun since
    /// then is joined.
    async fn load_many(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        since: Option<Moment>,
    ) -> Vec<Option<Landed>> {
        let mut landed = Vec::with_capacity(asks.len());
        for boarded in self.board_many(ctx, asks, since) {
            landed.push(match boarded {
                None => None,
                Some(Ok(waiting)) => Some(self.land(ctx, waiting).await),
                Some(Err(failure)) => Some(Err(failure)),
            });
        }
        landed
    }

    fn board_many(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        since: Option<Moment>,
    ) -> Vec<Option<Place>> {
        let now = self.shelf.clock.now();
        let runtime = self.runtime(ctx, now);
        let mut boarded = Vec::with_capacity(asks.len());
        let mut misses = Vec::new();
        // Those that nobody is loading, each once, and the place that all of them take.
        let mut ours: HashMap<Key, Waiting> = HashMap::new();
        let (mut opened, mut berth) = (Vec::new(), None);
        let (mut joined, mut refused) = (0, 0);

        let mut flights = self.flights();
        let mut look = |ask| {
            let before = self.shelf.before(ask);
            if since.is_none() {
                misses.push(self.shelf.find(ctx, ask).err()?);
            }
            Some(before)
        };
        // All is looked up before a flight is opened: should a table panic, none is left that nobody flies.
        let looked: Vec<Option<Before>> = asks.iter().map(&mut look).collect();
        for (ask, before) in asks.iter().zip(looked) {
            let Some(before) = before else {
                boarded.push(None);
                continue;
            };
            let key = ask.to_key();
            let mut board = || {
                if let Err(failure) = &runtime {
                    return Err(failure.clone());
                }
                if let Some(waiting) = ours.get(&key) {
                    return Ok(waiting.clone());
                }
                if let Some(waiting) = flights.join(&key, before, now, |began| joins(ctx, now, since, began))
                {
                    joined += 1;
                    return Ok(waiting);
                }
                if let Err(failure) = berth.get_or_insert_with(|| self.board(now)) {
                    refused += 1;
                    return Err(failure.clone());
                }
                let (flight, waiting) = flights.open(key.clone(), before, now);
                opened.push(flight);
                ours.insert(key.clone(), waiting.clone());
                Ok(waiting)
            };
            boarded.push(Some(board()));
        }
        drop(flights);
        // Who waits is counted by what is held.
        drop(ours);

        for missed in misses {
            self.note_miss(ctx, missed);
        }
        if since.is_none() {
            (0..joined).for_each(|_| self.note_joined(ctx));
        }
        match (berth, runtime) {
            (Some(Ok(berth)), Ok(runtime)) => {
                let seat = Seat::new(Arc::clone(self), opened, berth);
                runtime.spawn(seat.fly(ctx.clone()));
            }
            (Some(Err(failure)), _) => self.note_refused(ctx, &failure, refused),
            _ => {}
        }
        boarded
    }
}
