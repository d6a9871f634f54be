//! The other side of `peers`: a cached question about a group through the facade, in nanoseconds.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a figure is what it is for")]

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, AccountState, Ctx, Id, Login, Lookup, Member, Principal, Result, SourceInfo,
    StoredHash,
};
use auth_stack::{Opening, Provides, Stack};
use gatepost_bench::{CHUNK, Flat, group, login, now, people, zipf};

/// Nobody logs in here.
#[derive(Debug)]
struct Nobody(SourceInfo);

#[async_trait]
impl AccountSource for Nobody {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        Ok(Account::found(&self.0, login, login.as_str(), Id::from(0), AccountState::default(), None))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

/// Opens the source that the people of the benches are of.
async fn open(opening: Opening<'_>) -> Result<Provides> {
    Ok(Provides::accounts(Arc::new(Nobody(opening.info))).with_groups(Arc::new(Flat::default())))
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let build = Stack::builder()
        .data(std::env::temp_dir().join("gatepost-bench-makes-no-data-folder"))
        .config("cache.ttl = \"8h\"\n[source.flat]\nkind = \"flat\"\n")
        .register_source("flat", open)
        .build();
    let stack = runtime.block_on(build).expect("a stack");
    let realm = stack.realm("default").expect("the only realm");
    let (people, ctx) = (people(count), Ctx::new());
    let groups: Vec<String> = (0..count).map(group).collect();
    runtime.block_on(async {
        for who in &people {
            realm.groups(&ctx, who).await.expect("the groups of everybody");
        }
    });
    assert!(login(0) == people[0].login().as_str(), "the people of the store");
    // As on the other side: who and what is asked about is taken in hand before the time is.
    let mut times = Vec::new();
    for asked in zipf(count, 1000 * CHUNK, 1).chunks(CHUNK) {
        let pairs: Vec<(Principal, String)> =
            asked.iter().map(|n| (people[*n].clone(), groups[*n].clone())).collect();
        let began = Instant::now();
        let ask = |(who, group): &&(Principal, String)| {
            matches!(now(realm.is_member(&ctx, who, group)), Ok(Member::Yes))
        };
        let right = pairs.iter().filter(ask).count();
        times.push(began.elapsed());
        assert_eq!(right, CHUNK, "not every hit was one");
    }
    times.sort();
    println!("{:.1}", times[times.len() / 2].as_secs_f64() * 1e9 / CHUNK as f64);
}
