//! What one invalidation voids, of everything that is remembered about somebody, and what it costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth_cache::{
    Ask, Bound, Cached, Entry, Key, OwnerTable, Settings, Table, TokenMemory, TtlTable, Usage, kinds,
};
use auth_core::{
    Access, AccountSource, ChainEntry, Clock, Ctx, DomainRouter, Fence, GroupOracle, GroupSet, GroupUnion,
    HashCheck, Id, Link, Linked, Member, ObjectPerms, PasswordChain, Principal, Realm, RealmId, Subject,
    TokenCache, TokenId, TokenState, Verdict,
};
use auth_password::{Hashed, Hasher, HasherConfig, MemoConfig, Policy, Preferred};
use auth_testkit::{CountingSource, ManualClock, MemoryStore, object, realm};
use common::{all, builder, who};

/// The stack's order of wrappers, with a memory of tokens beside them, on one fence.
struct Facade {
    source: Arc<CountingSource<MemoryStore>>,
    hasher: Arc<Hasher>,
    fence: Arc<Fence>,
    clock: Arc<ManualClock>,
    realm: Realm,
    tokens: TokenMemory,
}

const PEOPLE: [(&str, &str); 2] = [("calvin", "hobbes"), ("susie", "derkins")];

impl Facade {
    fn new(settings: &Settings) -> Self {
        let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::named("app"))));
        let (fence, hands) = (Arc::new(Fence::new()), ManualClock::new());
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&hands);
        let preferred = Preferred::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
        let policy = Policy { preferred, upgrade: false, ..Policy::default() };
        let hasher = Arc::new(Hasher::new(HasherConfig::default(), policy, Arc::clone(&clock)).unwrap());
        let all = || (Arc::clone(&source), Arc::clone(&fence), Arc::clone(&clock));
        let (store, to, at) = all();
        let accounts = Arc::new(Cached::<dyn AccountSource>::new(store, to, at, settings));
        let (_, to, at) = all();
        let hashed =
            Arc::new(Hashed::new(accounts, Arc::clone(&hasher), MemoConfig::default(), to, at).unwrap());
        let owners = Arc::new(OwnerTable::new(100, Arc::clone(&clock)));
        let chain = Arc::new(PasswordChain::new(vec![ChainEntry::new(hashed)], owners).unwrap());
        let (store, to, at) = all();
        let groups = Arc::new(Cached::<dyn GroupOracle>::new(store, to, at, settings));
        let groups: Arc<dyn GroupOracle> = Arc::new(Linked::groups(groups, Link::None));
        let (store, to, at) = all();
        let rights = Arc::new(Cached::<dyn ObjectPerms>::new(store, to, at, settings));
        let rights: Arc<dyn ObjectPerms> = Arc::new(Linked::objects(rights, Link::None));
        let hashing = Arc::clone(&hasher) as Arc<dyn HashCheck>;
        let realm = Realm::new(realm(), chain, hashing, Arc::clone(&clock))
            .with_groups(GroupUnion::new(vec![groups]))
            .with_objects(DomainRouter::new([("doc".into(), rights)]));
        let tokens = TokenMemory::new("default", Arc::clone(&fence), clock, settings);
        Self { source, hasher, fence, clock: hands, realm, tokens }
    }

    /// Asks for everything about the nth, and returns what was not remembered: account, verified password,
    /// groups, right, token.
    async fn ask(&self, nth: usize) -> ([bool; 5], Principal) {
        let (login, password) = PEOPLE[nth];
        let (ctx, before, jobs) = (Ctx::new(), self.source.counts(), self.hasher.stats().jobs);
        let verdict = self.realm.attempt(&ctx, login, password.as_bytes().to_vec()).await.unwrap();
        let Verdict::Accepted(who) = verdict else { panic!("{login}: {verdict:?}") };
        assert_eq!(self.realm.is_member(&ctx, &who, "staff").await.unwrap(), Member::Yes);
        let access = self.realm.access(&ctx, &who, &object("doc", 1), Some("read")).await.unwrap();
        assert_ne!(access, Access::NotFound);
        let token = TokenId::new([u8::try_from(nth).unwrap(); 32]);
        let has_token = self.tokens.peek_token(&ctx, &token).is_some();
        if !has_token {
            let (scopes, life) = (GroupSet::empty(), Duration::from_secs(3600));
            let state = Arc::new(TokenState {
                principal: who.clone(),
                scopes,
                expires_at: self.clock.wall() + life,
                claims: None,
            });
            self.tokens.put(&ctx, &token, &state, life, self.fence.watch(self.clock.now())).await.unwrap();
        }
        let now = self.source.counts();
        let asked = [
            now.account - before.account == 1,
            self.hasher.stats().jobs - jobs == 1,
            now.groups_of - before.groups_of == 1,
            now.access - before.access == 1,
            !has_token,
        ];
        (asked, who)
    }
}

#[tokio::test]
async fn one_invalidation_voids_account_password_groups_rights_and_tokens_of_one_person_alone() {
    let (every, none) = ([true; 5], [false; 5]);
    for kind in kinds().iter().filter(|kind| kind.factory().is_some()) {
        let facade = Facade::new(&Settings::new(kind.factory().unwrap()));
        let (asked, calvin) = facade.ask(0).await;
        assert_eq!((asked, facade.ask(1).await.0), (every, every), "{}", kind.name);
        let by_id = Subject::Id { realm: calvin.realm(), source: "app", id: calvin.id() };
        for subject in [Subject::Login(calvin.login()), by_id] {
            assert_eq!((facade.ask(0).await.0, facade.ask(1).await.0), (none, none), "{}", kind.name);
            facade.fence.invalidate(&subject);
            assert_eq!(facade.ask(1).await.0, none, "{} {subject:?}", kind.name);
            assert_eq!(facade.ask(0).await.0, every, "{} {subject:?}", kind.name);
        }
    }
}

/// Counts every use of the tables that it makes.
#[derive(Debug)]
struct Counted(TtlTable, Arc<AtomicU64>);

impl Counted {
    fn table(&self) -> &TtlTable {
        self.1.fetch_add(1, Ordering::SeqCst);
        &self.0
    }
}

impl Table for Counted {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        self.table().see(ask, see);
    }
    fn put(&self, key: Key, entry: Entry) {
        self.table().put(key, entry);
    }
    fn remove(&self, ask: &Ask<'_>) {
        self.table().remove(ask);
    }
    fn usage(&self) -> Usage {
        self.table().usage()
    }
    fn bound(&self) -> Option<Bound> {
        self.table().bound()
    }
    fn clear(&self) {
        self.table().clear();
    }
}

#[tokio::test]
async fn an_invalidation_touches_no_table_however_much_is_remembered() {
    let mut costs = Vec::new();
    for people in [2, 2_000] {
        let store = Arc::new(MemoryStore::named("app"));
        for n in 0..people {
            store.add_user(&format!("user{n}"), Id::from(100 + n), None);
        }
        let uses = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&uses);
        let stack = builder(&[("app", all(&store))], "")
            .register_cache(
                "counted",
                Arc::new(move |bound| Arc::new(Counted(TtlTable::new(bound), Arc::clone(&counter)))),
            )
            .var("CACHE", "counted")
            .build()
            .await
            .unwrap();
        let realm = stack.realm("default").unwrap();
        let (ctx, doc, calvin) = (Ctx::new(), object("doc", 1), who(&stack, "calvin").await);
        for n in 0..people {
            let person = who(&stack, &format!("user{n}")).await;
            realm.groups(&ctx, &person).await.unwrap();
            realm.access(&ctx, &person, &doc, None).await.unwrap();
        }
        let kept: u64 = stack.caches().iter().map(|(_, report)| report.stats.entries).sum();
        assert!(kept >= 3 * people.unsigned_abs(), "{kept}");
        let elsewhere = RealmId::new("elsewhere", auth_core::LoginRule::Exact).unwrap();
        for subject in [
            Subject::Login(calvin.login()),
            Subject::Id { realm: realm.id(), source: "app", id: calvin.id() },
            Subject::Object { realm: realm.id(), object: &object("doc", 2) },
            Subject::Groups(&elsewhere),
            Subject::Realm(&elsewhere),
        ] {
            let before = uses.load(Ordering::SeqCst);
            stack.expire(&subject);
            stack.flush(&subject);
            assert_eq!(uses.load(Ordering::SeqCst), before, "{subject:?}");
        }
        // What is voided costs as much to ask for again, and what others have is there.
        let before = uses.load(Ordering::SeqCst);
        realm.groups(&ctx, &calvin).await.unwrap();
        let again = uses.load(Ordering::SeqCst) - before;
        let other = who(&stack, "user1").await;
        let before = uses.load(Ordering::SeqCst);
        realm.groups(&ctx, &other).await.unwrap();
        costs.push((again, uses.load(Ordering::SeqCst) - before));
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].1 <= 2, "{costs:?}");
}
