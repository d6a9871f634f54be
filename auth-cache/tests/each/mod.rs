//! Every kind of cache in front of every kind of question, as the harness of the test kit runs them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{Cached, Settings, TableFactory, TokenMemory, Ttls, kinds};
use auth_core::{Ctx, Lookup, Result, TokenCache, TokenId, TokenState, Watch};
use auth_testkit::{Setup, Tested};

mod list;

use list::List;

/// Every kind of table by its name, that of somebody else last: the others are built in.
pub(crate) fn tables() -> Vec<(&'static str, TableFactory)> {
    let built_in = kinds().iter().filter_map(|kind| Some((kind.name, kind.factory()?)));
    built_in.chain([("somebody else's", List::factory())]).collect()
}

/// What a question is asked through: a cache with these settings, or the bare store.
pub(crate) type Wrap = fn(&Setup, Option<&Settings>) -> Tested;

pub(crate) const QUESTIONS: [(&str, Wrap); 4] =
    [("accounts", accounts), ("groups", groups), ("rights", rights), ("tokens", tokens)];

fn accounts(setup: &Setup, settings: Option<&Settings>) -> Tested {
    Tested::accounts(match settings {
        Some(settings) => Arc::new(Cached::new(setup.accounts(), setup.fence(), setup.clock(), settings)),
        None => setup.accounts(),
    })
}

fn groups(setup: &Setup, settings: Option<&Settings>) -> Tested {
    Tested::groups(match settings {
        Some(settings) => Arc::new(Cached::new(setup.groups(), setup.fence(), setup.clock(), settings)),
        None => setup.groups(),
    })
}

fn rights(setup: &Setup, settings: Option<&Settings>) -> Tested {
    Tested::objects(match settings {
        Some(settings) => Arc::new(Cached::new(setup.objects(), setup.fence(), setup.clock(), settings)),
        None => setup.objects(),
    })
}

fn tokens(setup: &Setup, settings: Option<&Settings>) -> Tested {
    Tested::tokens(match settings {
        Some(settings) => {
            Arc::new(TokenMemory::new(setup.realm().name(), setup.fence(), setup.clock(), settings))
        }
        None => Arc::new(NoTokens),
    })
}

/// A token cache that keeps nothing.
#[derive(Debug)]
struct NoTokens;

#[async_trait]
impl TokenCache for NoTokens {
    async fn get(&self, _ctx: &Ctx, _id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        Ok(Lookup::NotFound)
    }

    async fn put(&self, _: &Ctx, _: &TokenId, _: &Arc<TokenState>, _: Duration, _: Watch) -> Result<()> {
        Ok(())
    }
}

/// Picks one, by a digit of the run's number.
pub(crate) fn pick<T: Copy>(setup: &Setup, digit: u32, from: &[T]) -> T {
    let shifted = setup.seed() >> (8 * digit);
    from[usize::try_from(shifted % from.len() as u64).unwrap()]
}

/// How many entries tables keep in a run, and whether that is so few that they forget.
pub(crate) const SIZES: [(usize, bool); 6] =
    [(0, true), (1, true), (2, true), (1_024, false), (1_024, false), (1_024, false)];

/// Varies what an operator may set. Reports whether the tables are so small that they forget.
pub(crate) fn settings(table: &TableFactory, setup: &Setup, sizes: &[(usize, bool)]) -> (Settings, bool) {
    let (size, forgets) = pick(setup, 0, sizes);
    let ttl = setup.ttl();
    let ttls = Ttls {
        account: ttl,
        accepted: ttl,
        groups: ttl,
        allow: ttl,
        deny: ttl,
        unknown: ttl,
        not_found: ttl,
        token: ttl,
    };
    let settings = Settings::new(Arc::clone(table))
        .with_size(size)
        .with_ttls(ttls)
        .with_refresh_ahead(pick(setup, 1, &[0.0, 1.0, 100.0, 2_000.0]))
        .with_seed(setup.seed());
    (settings, forgets)
}
