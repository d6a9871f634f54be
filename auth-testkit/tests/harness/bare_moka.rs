//! moka as one would use it: `try_get_with` to load, `invalidate` to invalidate.

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Ctx, Error, Freshness, GroupOracle, GroupSet, Login, Lookup, Member, Principal, Result, SourceInfo,
    Subject,
};
use auth_testkit::{Setup, Tested};
use futures_util::FutureExt;
use moka::future::Cache;

#[derive(Debug)]
pub(crate) struct Moka {
    source: Arc<dyn GroupOracle>,
    cache: Cache<Login, Lookup<GroupSet>>,
}

impl Moka {
    pub(crate) fn tested(setup: &Setup) -> Tested {
        let cache: Cache<Login, Lookup<GroupSet>> = Cache::builder().max_capacity(1_000).build();
        let told = cache.clone();
        let tell = move |subject: &Subject<'_>| match subject {
            Subject::Login(login) => {
                told.invalidate(*login).now_or_never().expect("an invalidation that does not wait");
            }
            // It knows no subject but its keys.
            _ => told.invalidate_all(),
        };
        Tested::groups(Arc::new(Self { source: setup.groups(), cache })).that_forgets().told_by(tell)
    }
}

#[async_trait]
impl GroupOracle for Moka {
    fn source(&self) -> &SourceInfo {
        self.source.source()
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        if ctx.freshness() != Freshness::Any {
            return self.source.groups_of(ctx, who).await;
        }
        let load = self.source.groups_of(ctx, who);
        self.cache.try_get_with(who.login().clone(), load).await.map_err(|error: Arc<Error>| (*error).clone())
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        Ok(match self.groups_of(ctx, who).await? {
            Lookup::Found(groups) if groups.contains(group) => Member::Yes,
            Lookup::Found(_) | Lookup::NotFound => Member::No,
        })
    }
}
