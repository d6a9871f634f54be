//! Many questions at once: one load for all that nobody is loading.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use auth_core::{Ctx, Moment, Result};

use super::{Boarded, Loader, joins};
use crate::flight::{Landed, Seat};
use crate::shelf::{Before, Hit, Missed};
use crate::{Answer, Ask, Key};

impl Loader {
    /// Answers many questions: what it can from memory, and for the rest joins the loads that are under way and
    /// puts one question for what nobody is loading. `make` makes the load of one, for a refresh. The answers
    /// belong to the questions in their order.
    pub(crate) async fn answer_many<L, F, M, G>(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        make: impl Fn() -> L + Send + Sync,
        load: M,
    ) -> Vec<Result<Answer>>
    where
        L: FnOnce(Ctx, Key) -> F + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
        M: FnOnce(Ctx, Vec<Key>) -> G + Clone + Send + 'static,
        G: Future<Output = Vec<Result<Answer>>> + Send + 'static,
    {
        let hits: std::result::Result<Vec<Hit>, Missed> =
            asks.iter().map(|ask| self.shelf.find(ctx, ask)).collect();
        if let Ok(hits) = hits {
            let pairs = asks.iter().zip(hits);
            return pairs.map(|(ask, hit)| Ok(self.serve(ctx, ask, hit, &make))).collect();
        }
        let asked = self.shelf.clock.now();
        let boarded = self.board_many(ctx, asks, load.clone(), None);
        let mut landed = self.land_many(ctx, boarded).await;
        // What was remembered has aged while the rest was asked for, or was invalidated: it is looked up again,
        // rather than handed out as it was before the wait. And what somebody else had asked for may be too
        // old by now. If any of it is gone, all of it is asked for, so that no more has to wait.
        let hits: std::result::Result<Vec<Option<Hit>>, Missed> = asks
            .iter()
            .zip(&landed)
            .map(|(ask, landed)| landed.is_none().then(|| self.shelf.find(ctx, ask)).transpose())
            .collect();
        let outdated = landed.iter().flatten().flatten().any(|landed| self.is_outdated(landed, asked));
        match hits {
            Ok(hits) if !outdated => {
                let each = asks.iter().zip(landed).zip(hits);
                return each
                    .map(|((ask, landed), hit)| match (landed, hit) {
                        (Some(landed), _) => self.settle(ctx, ask, landed?),
                        (None, Some(hit)) => Ok(self.serve(ctx, ask, hit, &make)),
                        (None, None) => Err(self.miscounted()),
                    })
                    .collect();
            }
            _ => {}
        }
        let older = |landed: &Option<Result<Landed>>| match landed {
            None => true,
            Some(Ok(Landed::Brought(Ok(_), at))) => *at < asked,
            Some(_) => false,
        };
        let places: Vec<usize> =
            landed.iter().enumerate().filter(|(_, landed)| older(landed)).map(|(place, _)| place).collect();
        for place in &places {
            // The others are counted.
            if let (Some(ask), Some(None)) = (asks.get(*place), landed.get(*place)) {
                self.note_miss(ctx, self.shelf.find(ctx, ask).err().unwrap_or(Missed::Nothing));
            }
        }
        let again: Vec<Ask<'_>> = places.iter().filter_map(|place| asks.get(*place).copied()).collect();
        let boarded = self.board_many(ctx, &again, load, Some(asked));
        for (place, newer) in places.into_iter().zip(self.land_many(ctx, boarded).await) {
            if let Some(landed) = landed.get_mut(place) {
                *landed = newer;
            }
        }
        let each = asks.iter().zip(landed);
        each.map(|(ask, landed)| self.settle(ctx, ask, landed.unwrap_or_else(|| Err(self.miscounted()))?))
            .collect()
    }

    /// Joins loads, or begins one for all that nobody is loading. Without `since`, what is on the shelf is left
    /// out; with it, nothing is, this is the second time, and only what has begun since then is joined.
    fn board_many<M, G>(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        load: M,
        since: Option<Moment>,
    ) -> Vec<Option<Result<Boarded>>>
    where
        M: FnOnce(Ctx, Vec<Key>) -> G + Send + 'static,
        G: Future<Output = Vec<Result<Answer>>> + Send + 'static,
    {
        let again = since.is_some();
        let now = self.shelf.clock.now();
        let runtime = self.runtime(ctx, now);
        let mut boarded = Vec::with_capacity(asks.len());
        let mut misses = Vec::new();
        // Those that nobody is loading, in their order, each once: the generations, and where they stand.
        let mut ours: Vec<(Key, Before, Vec<usize>)> = Vec::new();
        let mut known: HashMap<Key, usize> = HashMap::new();

        let mut flights = self.flights();
        for ask in asks {
            let before = self.shelf.before(ask);
            if !again {
                match self.shelf.find(ctx, ask) {
                    Ok(_) => {
                        boarded.push(None);
                        continue;
                    }
                    Err(missed) => misses.push(missed),
                }
            }
            if let Err(error) = &runtime {
                boarded.push(Some(Err(error.clone())));
                continue;
            }
            let key = ask.to_key();
            let joined = flights.join(&key, before, now, |began| joins(ctx, now, since, began));
            if joined.is_none() {
                let place = *known.entry(key.clone()).or_insert(ours.len());
                match ours.get_mut(place) {
                    Some((_, _, places)) => places.push(boarded.len()),
                    None => ours.push((key, before, vec![boarded.len()])),
                }
            }
            boarded.push(joined.map(|waiting| Ok(Boarded::Flight(waiting, now))));
        }
        let joined = boarded.iter().filter(|one| matches!(one, Some(Ok(_)))).count();
        let mut refused = None;
        let mut seat = None;
        if !ours.is_empty() {
            match self.board(now) {
                Ok(berth) => {
                    let mut opened = Vec::with_capacity(ours.len());
                    for (key, before, places) in ours {
                        let (flight, waiting) = flights.open(key, before, now);
                        opened.push(flight);
                        for place in places {
                            if let Some(one) = boarded.get_mut(place) {
                                *one = Some(Ok(Boarded::Flight(waiting.clone(), now)));
                            }
                        }
                    }
                    seat = Some((opened, berth));
                }
                Err(why) => refused = Some((why, ours)),
            }
        }
        drop(flights);

        for missed in misses {
            self.note_miss(ctx, missed);
        }
        if !again {
            (0..joined).for_each(|_| self.note_joined(ctx));
        }
        if let Some((why, ours)) = refused {
            let places: Vec<usize> = ours.into_iter().flat_map(|(_, _, places)| places).collect();
            let told = self.note_refused(ctx, why, places.len());
            for place in places {
                if let Some(one) = boarded.get_mut(place) {
                    *one = Some(told.clone().map(Boarded::LeftAlone));
                }
            }
        }
        if let (Some((opened, berth)), Ok(runtime)) = (seat, runtime) {
            let seat = Seat::new(Arc::clone(self), opened, berth);
            let asker = ctx.clone();
            runtime.spawn(async move { seat.fly(asker, load).await });
        }
        boarded
    }

    /// Waits for all. Nothing is said of what is to be found on the shelf.
    async fn land_many(
        &self,
        ctx: &Ctx,
        boarded: Vec<Option<Result<Boarded>>>,
    ) -> Vec<Option<Result<Landed>>> {
        let mut landed = Vec::with_capacity(boarded.len());
        for one in boarded {
            landed.push(match one {
                None | Some(Ok(Boarded::Found(_))) => None,
                Some(Ok(Boarded::Flight(waiting, _))) => Some(self.land(ctx, waiting).await),
                Some(Ok(Boarded::LeftAlone(failure))) => Some(Ok(Landed::LeftAlone(failure))),
                Some(Err(error)) => Some(Err(error)),
            });
        }
        landed
    }
}
