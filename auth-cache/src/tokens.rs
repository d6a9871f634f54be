//! `TokenMemory`: the states of validated tokens, in this process and in what it shares with others.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    CacheUse, Clock, Ctx, Fence, Fingerprint, Freshness, Lookup, Moment, Result, SourceInfo, Step,
    TokenCache, TokenId, TokenState, Watch,
};
use lru::LruCache;

use crate::settings::{Settings, nanos};
use crate::shared::{Looked, Marks, Share, loaded};
use crate::shelf::{Missed, Shelf};
use crate::stats::{Report, Reports};
use crate::{Answer, Ask, Key};

/// Remembers the states of validated tokens in this process.
///
/// A state lives for the shortest of: the configured lifetime of tokens, what [`put`](TokenCache::put) says,
/// and the time to the token's own end, which is looked at by the time of day and by the monotonic
/// clock, so that a wall clock set back revives nothing. An invalidation of the token's person voids it.
///
/// A state that was validated before an invalidation is not kept, whoever that was about: whose token it is
/// shows only once it is validated.
pub struct TokenMemory {
    name: Arc<str>,
    shelf: Shelf,
    // A std mutex: nothing awaits while it is held. An older state must not replace a newer one.
    puts: Mutex<()>,
    shared: Option<Shared>,
}

/// What is shared with other processes.
struct Shared {
    share: Share,
    // What was read there when a token was asked for, and when, until its state is put.
    asked: Mutex<LruCache<TokenId, (Moment, Marks)>>,
}

impl Shared {
    /// How many validations may be under way and still be shared.
    const ASKED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);

    fn asked(&self) -> MutexGuard<'_, LruCache<TokenId, (Moment, Marks)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenMemory {
    /// Makes a memory for the tokens of a realm, which names it in reports.
    #[must_use]
    pub fn new(realm: &str, fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        let shared = settings.shared.as_ref().map(|cache| Shared {
            share: Share::new(
                Arc::clone(cache),
                SourceInfo::new(realm, Fingerprint::default()),
                Arc::clone(&settings.lifetimes),
            ),
            asked: Mutex::new(LruCache::new(Shared::ASKED)),
        });
        let shelf = Shelf::new(fence, clock, settings);
        Self { name: realm.into(), shelf, puts: Mutex::default(), shared }
    }

    /// Looks in the shared cache, for a state that this process keeps too.
    async fn look(&self, shared: &Shared, ctx: &Ctx, id: &TokenId) -> Option<Arc<TokenState>> {
        let fence = self.shelf.fence();
        let (asked, watch) = (self.shelf.clock.now(), fence.watch(self.shelf.clock.now()));
        let late = ctx.deadline().is_some_and(|deadline| deadline <= asked);
        if ctx.freshness() == Freshness::Fresh || late {
            return None;
        }
        let (found, marks) = shared.share.look_token(ctx.freshness(), id).await;
        if let Some(marks) = marks {
            // What is not there is made before the token is validated.
            let looked = Looked { since: asked, marks: Some(marks) };
            let marks = shared.share.prepare(vec![(Key::Token(*id), Some(looked))]).await.pop();
            if let Some(marks) = marks.flatten() {
                shared.asked().put(*id, (asked, marks));
            }
        }
        let found = found?;
        let Answer::Token(state) = found.answer else { return None };
        if self.shelf.clock.wall() >= state.expires_at {
            return None;
        }
        if let Some(at) = loaded(asked, found.age) {
            self.keep(id, &state, watch, at, found.life);
        }
        self.shelf.counters.hit(false, nanos(found.age));
        ctx.note_cache(CacheUse::Hit);
        ctx.note(|| {
            let step = Step::new("cache", format_args!("found in {}", shared.share.cache.kind()));
            step.at(&self.name).aged(found.age)
        });
        Some(state)
    }

    /// Keeps a state in this process, unless something was invalidated since it was asked for.
    fn keep(&self, id: &TokenId, state: &Arc<TokenState>, watch: Watch, at: Moment, most: Duration) -> bool {
        let fence = self.shelf.fence();
        let _alone = self.puts.lock().unwrap_or_else(PoisonError::into_inner);
        // The stamp first, then the watch: an invalidation in between voids the one or is seen by the other.
        let stamp = fence.plus_id(fence.login(state.principal.login()), &state.principal);
        let still = fence.still(watch);
        if still {
            self.shelf.keep_for(Key::Token(*id), Answer::Token(Arc::clone(state)), stamp, at, most);
        } else {
            self.shelf.counters.voided();
            self.shelf.end_older(&Ask::Token(id), at);
        }
        still
    }

    fn find(&self, ctx: &Ctx, id: &TokenId) -> std::result::Result<Arc<TokenState>, Missed> {
        let hit = self.shelf.find(ctx, &Ask::Token(id))?;
        // A table of somebody else's that mixes up its keys must not turn into an answer.
        let Answer::Token(state) = hit.answer else { return Err(Missed::Nothing) };
        // Only tokens look at the time of day, each time: that may have been set forward.
        if self.shelf.clock.coarse_wall() >= state.expires_at {
            return Err(Missed::Expired);
        }
        self.shelf.counters.hit(false, hit.age);
        ctx.note_cache(CacheUse::Hit);
        ctx.note(|| Step::new("cache", "hit").at(&self.name).aged(Duration::from_nanos(hit.age)));
        Ok(state)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TokenCache for TokenMemory {
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        let missed = match self.find(ctx, id) {
            Ok(state) => return Ok(Lookup::Found(state)),
            Err(missed) => missed,
        };
        if let Some(shared) = &self.shared
            && let Some(state) = self.look(shared, ctx, id).await
        {
            return Ok(Lookup::Found(state));
        }
        self.shelf.counters.miss(missed);
        ctx.note_cache(CacheUse::Miss);
        ctx.note(|| Step::new("cache", missed.as_str()).at(&self.name));
        Ok(Lookup::NotFound)
    }

    async fn put(
        &self,
        _ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        // The monotonic time first: what passes in between only shortens.
        let now = self.shelf.clock.now();
        let left = state.expires_at.duration_since(self.shelf.clock.wall()).unwrap_or_default();
        // Age counts from when the validation began, like that of any answer from when its source was asked.
        let began = watch.began();
        let most = (now + left).since(began).min(ttl);
        let still = self.keep(id, state, watch, began, most);
        if let Some(shared) = &self.shared {
            // Read before the validation began, so that its life, counted from there, ends no later than this.
            // What somebody else has read since then says nothing about this validation.
            let marks = shared.asked().pop(id).filter(|(asked, _)| *asked <= began);
            if let (true, Some((_, marks))) = (still, marks) {
                shared.share.keep_token(&marks, state, most).await;
            }
        }
        Ok(())
    }

    fn peek_token(&self, ctx: &Ctx, id: &TokenId) -> Option<Lookup<Arc<TokenState>>> {
        self.find(ctx, id).ok().map(Lookup::Found)
    }
}

impl Reports for TokenMemory {
    fn report(&self) -> Report {
        let shared = self.shared.as_ref().map(|shared| shared.share.stats());
        Report { source: Arc::clone(&self.name), kind: "tokens", stats: self.shelf.stats(), shared }
    }
}

impl fmt::Debug for TokenMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenMemory").field("report", &self.report()).finish_non_exhaustive()
    }
}
