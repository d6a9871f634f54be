//! Strangers' names in any number evict nobody.

use std::sync::Arc;

use async_trait::async_trait;
use auth_cache::{Bound, Reports, Settings};
use auth_core::{
    Account, AccountSource, AccountState, Ctx, Fingerprint, Id, Login, LoginRule, Lookup, Principal, RealmId,
    Result, SourceInfo, StoredHash,
};

use crate::helpers::Bed;

const USERS: u64 = 1_000;

/// Knows every login that begins with `user`.
#[derive(Debug)]
struct Staff(SourceInfo);

#[async_trait]
impl AccountSource for Staff {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let Some(id) = login.as_str().strip_prefix("user") else { return Ok(Lookup::NotFound) };
        let who =
            Principal::found(&self.0, login, login.as_str(), Id::from(id.parse::<i64>().unwrap())).unwrap();
        Ok(Lookup::Found(Account::new(who, AccountState::default(), None)))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

const THREADS: u64 = 2;
/// How often each user is asked for, by all threads together.
const EACH: u64 = 20;

fn login(text: &str) -> Login {
    Login::parse(&RealmId::new("r", LoginRule::Exact).unwrap(), text).unwrap()
}

/// Asks for users in turn, with strangers in between, and returns how many hits the users had.
async fn ask(cached: &dyn AccountSource, users: &[Login], strangers: u64, seed: u64) -> u64 {
    let (ctx, rounds) = (Ctx::new(), EACH * USERS / THREADS);
    let (mut hits, mut dice) = (0, seed);
    for user in users.iter().cycle().take(usize::try_from(rounds).unwrap()) {
        for _ in 0..strangers / rounds {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let stranger = login(&format!("{dice:x}"));
            assert_eq!(cached.account(&ctx, &stranger).await.unwrap(), Lookup::NotFound);
        }
        if cached.peek_account(&ctx, user).is_some() {
            hits += 1;
        } else {
            assert!(cached.account(&ctx, user).await.unwrap().found().is_some());
        }
    }
    hits
}

/// Returns the hit ratio of known users among so many strangers.
fn hit_ratio(bound: Bound, strangers: u64) -> f64 {
    let bed = Bed::with(Settings::default().with_bound(bound));
    let cached = bed.accounts(&Arc::new(Staff(SourceInfo::new("staff", Fingerprint::default()))));
    let users: Vec<_> = (0..USERS).map(|n| login(&format!("user{n}"))).collect();
    let hits: u64 = std::thread::scope(|threads| {
        let askers: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let (cached, users) = (&*cached, &users);
                // A runtime for each thread: none waits for the other.
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let work = move || runtime.block_on(ask(cached, users, strangers / THREADS, seed << 32));
                threads.spawn(work)
            })
            .collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).sum()
    });
    let stats = cached.report().stats;
    let within = match stats.bound {
        Some(Bound::Entries(most)) => stats.entries <= u64::try_from(most).unwrap(),
        Some(Bound::Bytes(most)) => stats.bytes <= u64::try_from(most).unwrap(),
        None => false,
    };
    assert!(within && stats.misses >= strangers, "{stats:?}");
    let share = |n: u64| f64::from(u32::try_from(n).unwrap());
    share(hits) / share(EACH * USERS)
}

fn check(bound: Bound, strangers: u64) {
    let (calm, flooded) = (hit_ratio(bound, 0), hit_ratio(bound, strangers));
    // The first question for each is a miss.
    assert!(calm >= 0.9, "{bound:?}: {calm}");
    assert!(calm - flooded < 0.01, "{bound:?}: {calm} and {flooded}");
}

#[test]
fn a_million_unknown_names_cost_known_users_less_than_one_hit_in_a_hundred() {
    check(Bound::Entries(1_500), 1_000_000);
}

#[test]
fn nor_do_they_where_the_bound_is_one_of_bytes() {
    check(Bound::Bytes(1_500 * 500), 100_000);
}
