//! Strangers' names in any number evict nobody.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{Bound, Cached, Reports, Settings, TableFactory, Ttls, kinds};
use auth_core::{
    Access, Account, AccountSource, AccountState, Ctx, Fingerprint, GroupOracle, GroupSet, Id, Login,
    LoginRule, Lookup, ObjectPerms, ObjectRef, Principal, RealmId, Result, SourceInfo, StoredHash,
};

use crate::helpers::{ALL, Bed, What, doc};

const USERS: u64 = 1_000;
const THREADS: u64 = 2;
/// How often each user is asked for, by all threads together.
const EACH: u64 = 20;

/// Knows every login that begins with `user`, a group of all, and one object.
#[derive(Debug)]
struct Staff(SourceInfo);

fn is_known(login: &Login) -> bool {
    login.as_str().starts_with("user")
}

#[async_trait]
impl GroupOracle for Staff {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn groups_of(&self, _: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let groups = || std::iter::once("staff").collect();
        Ok(if is_known(who.login()) { Lookup::Found(groups()) } else { Lookup::NotFound })
    }
}

#[async_trait]
impl ObjectPerms for Staff {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn access(&self, _: &Ctx, _: &Principal, object: &ObjectRef, _: Option<&str>) -> Result<Access> {
        Ok(if *object == doc() { Access::Allow } else { Access::NotFound })
    }
}

#[async_trait]
impl AccountSource for Staff {
    fn source(&self) -> &SourceInfo {
        &self.0
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        if !is_known(login) {
            return Ok(Lookup::NotFound);
        }
        let who = Principal::found(&self.0, login, login.as_str(), Id::from(login.as_str())).unwrap();
        Ok(Lookup::Found(Account::new(who, AccountState::default(), None)))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

/// The three wrappers over the staff, asked about people by login.
struct Desk {
    realm: RealmId,
    info: SourceInfo,
    accounts: Arc<Cached<dyn AccountSource>>,
    groups: Arc<Cached<dyn GroupOracle>>,
    access: Arc<Cached<dyn ObjectPerms>>,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let bed = Bed::with(settings);
        let info = SourceInfo::new("staff", Fingerprint::default());
        let staff = Arc::new(Staff(info.clone()));
        let realm = RealmId::new("r", LoginRule::Exact).unwrap();
        let (accounts, groups, access) = (bed.accounts(&staff), bed.groups(&staff), bed.access(&staff));
        Self { realm, info, accounts, groups, access }
    }

    fn person(&self, text: &str) -> Principal {
        let login = Login::parse(&self.realm, text).unwrap();
        Principal::found(&self.info, &login, text, Id::from(text)).unwrap()
    }

    /// What somebody asks about: who is no user asks about what is not there.
    fn object(who: &Principal) -> ObjectRef {
        if is_known(who.login()) { doc() } else { ObjectRef::new("doc", [who.id().clone()]).unwrap() }
    }

    fn has(&self, what: What, who: &Principal) -> bool {
        let ctx = Ctx::new();
        match what {
            What::Account => self.accounts.peek_account(&ctx, who.login()).is_some(),
            What::Groups => self.groups.peek_groups(&ctx, who).is_some(),
            What::Access => self.access.peek_access(&ctx, who, &Self::object(who), None).is_some(),
        }
    }

    /// Asks, and tells whether the source knows this person.
    async fn ask(&self, what: What, who: &Principal) -> bool {
        let ctx = Ctx::new();
        match what {
            What::Account => self.accounts.account(&ctx, who.login()).await.unwrap().found().is_some(),
            What::Groups => self.groups.groups_of(&ctx, who).await.unwrap().found().is_some(),
            What::Access => {
                self.access.access(&ctx, who, &Self::object(who), None).await.unwrap() == Access::Allow
            }
        }
    }

    /// Asks for users in turn, with strangers in between, and returns how many hits the users had.
    async fn serve(&self, what: What, users: &[Principal], strangers: u64, seed: u64) -> u64 {
        let rounds = EACH * USERS / THREADS;
        let (mut hits, mut dice) = (0, seed);
        for user in users.iter().cycle().take(usize::try_from(rounds).unwrap()) {
            for _ in 0..strangers / rounds {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let stranger = self.person(&format!("{dice:x}"));
                assert!(!self.ask(what, &stranger).await);
            }
            if self.has(what, user) {
                hits += 1;
            } else {
                assert!(self.ask(what, user).await);
            }
        }
        hits
    }

    /// Returns the hit ratio of known users among so many strangers.
    fn hit_ratio(&self, what: What, strangers: u64) -> f64 {
        let users: Vec<_> = (0..USERS).map(|n| self.person(&format!("user{n}"))).collect();
        let hits: u64 = std::thread::scope(|threads| {
            let askers: Vec<_> = (1..=THREADS)
                .map(|seed| {
                    let users = &users;
                    // A runtime for each thread: none waits for the other.
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let work =
                        move || runtime.block_on(self.serve(what, users, strangers / THREADS, seed << 32));
                    threads.spawn(work)
                })
                .collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).sum()
        });
        let stats = match what {
            What::Account => self.accounts.report().stats,
            What::Groups => self.groups.report().stats,
            What::Access => self.access.report().stats,
        };
        let within = match stats.bound {
            Some(Bound::Entries(most)) => stats.entries <= u64::try_from(most).unwrap(),
            Some(Bound::Bytes(most)) => stats.bytes <= u64::try_from(most).unwrap(),
            None => false,
        };
        assert!(within && stats.misses >= strangers, "{stats:?}");
        let share = |n: u64| f64::from(u32::try_from(n).unwrap());
        share(hits) / share(EACH * USERS)
    }
}

fn check(table: &str, what: What, bound: Bound, strangers: u64) {
    let table: TableFactory = kinds().iter().find(|kind| kind.name == table).unwrap().factory().unwrap();
    // By default, what is not there is not kept at all.
    let ttls = Ttls { not_found: Duration::from_secs(15), ..Ttls::default() };
    let settings = || Settings::new(Arc::clone(&table)).with_bound(bound).with_ttls(ttls);
    let calm = Desk::new(settings()).hit_ratio(what, 0);
    let flooded = Desk::new(settings()).hit_ratio(what, strangers);
    // The first question for each is a miss.
    assert!(calm >= 0.9, "{what:?} {bound:?}: {calm}");
    assert!(calm - flooded < 0.01, "{what:?} {bound:?}: {calm} and {flooded}");
}

#[test]
fn a_million_unknown_names_cost_known_users_less_than_one_hit_in_a_hundred() {
    check("ttl", What::Account, Bound::Entries(1_500), 1_000_000);
}

#[test]
fn nor_do_they_where_groups_are_asked_for_or_objects_that_are_not_there() {
    for what in [What::Groups, What::Access] {
        check("ttl", what, Bound::Entries(1_500), 200_000);
    }
}

#[test]
fn nor_do_they_where_the_table_is_that_of_lfu() {
    for what in ALL {
        check("lfu", what, Bound::Entries(1_500), 60_000);
    }
}

#[test]
fn nor_do_they_where_the_bound_is_one_of_bytes() {
    check("ttl", What::Account, Bound::Bytes(1_500 * 500), 100_000);
}
