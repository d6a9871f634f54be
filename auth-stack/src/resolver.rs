//! A mapping query, limited and counted like any other question to its source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{Clock, Ctx, Error, ErrorKind, Health, Lookup, Principal, Resolver, Result, Step};
use futures_util::future::{Either, select};

/// What [`Watched`](auth_core::Watched) is for the questions, for the port [`Resolver`].
#[derive(Debug)]
pub(crate) struct WatchedResolver {
    pub(crate) source: Arc<str>,
    pub(crate) limit: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) inner: Arc<dyn Resolver>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Resolver for WatchedResolver {
    async fn resolve(&self, ctx: &Ctx, foreign: &Principal) -> Result<Lookup<Principal>> {
        let began = self.clock.now();
        let limit = began + self.limit;
        let until = ctx.deadline().map_or(limit, |deadline| deadline.min(limit));
        let answer = match select(self.inner.resolve(ctx, foreign), self.clock.sleep_until(until)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        };
        let answer = answer.map_err(|error| error.at(Arc::clone(&self.source)));
        let took = self.clock.now().since(began);
        // A caller in a hurry is not the store's fault.
        let fault =
            answer.as_ref().err().filter(|error| until == limit || error.kind() != ErrorKind::Timeout);
        self.health.note(fault, took, &*self.clock);
        ctx.note(|| {
            let step = match &answer {
                Ok(Lookup::Found(_)) => Step::new("source", "linked"),
                Ok(Lookup::NotFound) => Step::new("source", "not linked"),
                Err(error) => Step::new("source", error),
            };
            step.at(&self.source).took(took)
        });
        answer
    }

    fn peek_resolve(&self, ctx: &Ctx, foreign: &Principal) -> Option<Lookup<Principal>> {
        self.inner.peek_resolve(ctx, foreign)
    }
}
