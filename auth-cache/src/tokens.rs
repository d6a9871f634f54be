//! `TokenMemory`: the states of validated tokens, in this process.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{CacheUse, Clock, Ctx, Fence, Lookup, Result, Step, TokenCache, TokenId, TokenState, Watch};

use crate::settings::Settings;
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
}

impl TokenMemory {
    /// Makes a memory for the tokens of a realm, which names it in reports.
    #[must_use]
    pub fn new(realm: &str, fence: Arc<Fence>, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        Self { name: realm.into(), shelf: Shelf::new(fence, clock, settings), puts: Mutex::default() }
    }

    fn find(&self, ctx: &Ctx, id: &TokenId) -> std::result::Result<Arc<TokenState>, Missed> {
        let hit = self.shelf.find(ctx, &Ask::Token(id))?;
        // A table of somebody else's that mixes up its keys must not turn into an answer.
        let Answer::Token(state) = hit.answer else { return Err(Missed::Nothing) };
        self.shelf.counters.hit(false, hit.age);
        ctx.note_cache(CacheUse::Hit);
        ctx.note(|| Step::new("cache", "hit").at(&self.name).aged(Duration::from_nanos(hit.age)));
        Ok(state)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TokenCache for TokenMemory {
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<TokenState>> {
        let missed = match self.find(ctx, id) {
            Ok(state) => return Ok(Lookup::Found((*state).clone())),
            Err(missed) => missed,
        };
        self.shelf.counters.miss(missed);
        ctx.note_cache(CacheUse::Miss);
        ctx.note(|| Step::new("cache", missed.as_str()).at(&self.name));
        Ok(Lookup::NotFound)
    }

    async fn put(
        &self,
        _ctx: &Ctx,
        id: &TokenId,
        state: &TokenState,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        // The monotonic time first: what passes in between only shortens.
        let now = self.shelf.clock.now();
        let left = state.expires_at.duration_since(self.shelf.clock.wall()).unwrap_or_default();
        // Age counts from when the validation began, like that of any answer from when its source was asked.
        let began = watch.began();
        let most = (now + left).since(began).min(ttl);
        let fence = self.shelf.fence();
        let _alone = self.puts.lock().unwrap_or_else(PoisonError::into_inner);
        // The stamp first, then the watch: an invalidation in between voids the one or is seen by the other.
        let stamp = fence.plus_id(fence.login(state.principal.login()), &state.principal);
        if fence.still(watch) {
            self.shelf.keep_for(Key::Token(*id), Answer::Token(Arc::new(state.clone())), stamp, began, most);
        } else {
            self.shelf.counters.voided();
            self.shelf.end_older(&Ask::Token(id), began);
        }
        Ok(())
    }

    fn peek_token(&self, ctx: &Ctx, id: &TokenId) -> Option<Lookup<TokenState>> {
        self.find(ctx, id).ok().map(|state| Lookup::Found((*state).clone()))
    }
}

impl Reports for TokenMemory {
    fn report(&self) -> Report {
        Report { source: Arc::clone(&self.name), kind: "tokens", stats: self.shelf.stats() }
    }
}

impl fmt::Debug for TokenMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenMemory").field("report", &self.report()).finish_non_exhaustive()
    }
}
