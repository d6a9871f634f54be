//! Many questions at once: one load for all that nobody is loading.

use std::collections::HashMap;
use std::sync::Arc;

use auth_core::{Ctx, Freshness, Moment, Result};

use super::{Loader, joins};
use crate::flight::{Failure, Landed, Seat, Waiting};
use crate::shared::{Look, Looked, loaded};
use crate::shelf::{Before, Hit, Missed};
use crate::{Answer, Ask, Key};

/// Where one of them waits.
type Place = std::result::Result<Waiting, Failure>;

impl Loader {
    /// Answers many questions: what it can from memory or the shared cache, and for the rest joins the loads that are
    /// under way and puts one question for what nobody is loading. The answers belong to the questions in their order.
    pub(crate) async fn answer_many(self: &Arc<Self>, ctx: &Ctx, asks: &[Ask<'_>]) -> Vec<Result<Answer>> {
        let Some(share) = self.share.as_ref().filter(|_| ctx.freshness() != Freshness::Fresh) else {
            return self.find_or_load_many(ctx, asks, Vec::new()).await;
        };
        let asked = self.shelf.clock.now();
        let missing: Vec<usize> = (0_usize..)
            .zip(asks)
            .filter(|(_, ask)| self.shelf.find(ctx, ask).is_err())
            .map(|(at, _)| at)
            .collect();
        let lacking: Vec<Ask<'_>> = missing.iter().filter_map(|at| asks.get(*at).copied()).collect();
        let before: Vec<Before> = lacking.iter().map(|ask| self.shelf.before(ask)).collect();
        let looks = match lacking.is_empty() {
            true => Vec::new(),
            false => self.look_many(share, ctx, &lacking).await,
        };
        let mut found: HashMap<usize, (Answer, Option<Moment>, Before)> = HashMap::new();
        let mut looked: HashMap<usize, Looked> = HashMap::new();
        for ((at, look), before) in missing.into_iter().zip(looks).zip(before) {
            match look {
                Look::Hit(hit) => {
                    found.insert(at, (hit.answer, loaded(asked, hit.age), before));
                }
                Look::Miss(marks) => {
                    looked.insert(at, Looked { since: asked, marks: Some(marks) });
                }
                Look::Off => {
                    looked.insert(at, Looked { since: asked, marks: None });
                }
            }
        }
        let rest: Vec<usize> = (0..asks.len()).filter(|at| !found.contains_key(at)).collect();
        let lacking: Vec<Ask<'_>> = rest.iter().filter_map(|at| asks.get(*at).copied()).collect();
        let looked = rest.iter().map(|at| looked.remove(at)).collect();
        let waits = !lacking.is_empty();
        let mut rest = match waits {
            true => self.find_or_load_many(ctx, &lacking, looked).await,
            false => Vec::new(),
        }
        .into_iter();
        let mut answers = Vec::with_capacity(asks.len());
        for (at, ask) in asks.iter().enumerate() {
            answers.push(match found.remove(&at) {
                // While the rest was waited for, it may have got too old or void.
                Some((answer, asked, before))
                    if !waits
                        || (self.shelf.before(ask) == before
                            && asked.is_some_and(|asked| !self.shelf.outlives(&answer, asked))) =>
                {
                    Ok(answer)
                }
                Some(_) => self.answer(ctx, ask).await,
                None => rest.next().unwrap_or_else(|| Err(self.miscounted())),
            });
        }
        answers
    }

    /// With what was read in the shared cache for each, where there is one.
    async fn find_or_load_many(
        self: &Arc<Self>,
        ctx: &Ctx,
        asks: &[Ask<'_>],
        shared: Vec<Option<Looked>>,
    ) -> Vec<Result<Answer>> {
        let hits: std::result::Result<Vec<Hit>, Missed> =
            asks.iter().map(|ask| self.shelf.find(ctx, ask)).collect();
        if let Ok(hits) = hits {
            return asks.iter().zip(hits).map(|(ask, hit)| Ok(self.serve(ctx, ask, hit))).collect();
        }
        let asked = self.shelf.clock.now();
        let mut landed = self.load_many(ctx, asks, None, shared).await;
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
            for (place, newer) in
                places.into_iter().zip(self.load_many(ctx, &again, Some(asked), Vec::new()).await)
            {
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
        shared: Vec<Option<Looked>>,
    ) -> Vec<Option<Landed>> {
        let mut landed = Vec::with_capacity(asks.len());
        for boarded in self.board_many(ctx, asks, since, shared) {
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
        shared: Vec<Option<Looked>>,
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
        let mut shared = shared.into_iter();
        for (ask, before) in asks.iter().zip(looked) {
            let in_shared = shared.next().flatten();
            let Some(before) = before else {
                boarded.push(None);
                continue;
            };
            let key = ask.to_key();
            let board = || {
                if let Err(failure) = &runtime {
                    return Err(failure.clone());
                }
                if let Some(waiting) = ours.get(&key) {
                    return Ok(waiting.clone());
                }
                let seen = in_shared.as_ref().map(Looked::seen);
                if let Some(waiting) =
                    flights.join(&key, before, seen, now, |began| joins(ctx, now, since, began))
                {
                    joined += 1;
                    return Ok(waiting);
                }
                if let Err(failure) = berth.get_or_insert_with(|| self.board(now)) {
                    refused += 1;
                    return Err(failure.clone());
                }
                let (flight, waiting) = flights.open(key.clone(), before, now, in_shared);
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
