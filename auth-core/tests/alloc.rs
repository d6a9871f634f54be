//! An answer from memory allocates nothing, all the way through the facade.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;
#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountState, ByLogin, ChainEntry, Ctx, DomainRouter, GroupOracle, GroupSet, GroupUnion,
    Health, Id, Link, Linked, Login, Lookup, Member, ObjectPerms, ObjectRef, PasswordChain, PasswordSource,
    Principal, Realm, Result, SourceInfo, StoredHash, Verdict, Watched,
};
use auth_testkit::{ManualClock, info, login, object, password, principal_at, realm};
use common::{Book, Jobs, Says, Tell, now};

/// Returns an answer and the number of allocations that it took, making its future included.
fn counted<T>(ask: impl FnOnce() -> T) -> (T, u64) {
    let before = counting_allocator::allocations();
    let answer = ask();
    (answer, counting_allocator::allocations() - before)
}

/// A store of groups, rights and accounts that may know its answers by heart.
#[derive(Debug)]
struct Store {
    info: SourceInfo,
    groups: GroupSet,
    account: Account,
    remembers: bool,
}

impl Store {
    fn new(remembers: bool) -> Arc<Self> {
        let account = Account::new(calvin("app"), AccountState::default(), None);
        let groups = ["admin", "staff"].into_iter().collect();
        Arc::new(Self { info: info("app"), groups, account, remembers })
    }
}

fn calvin(source: &str) -> Principal {
    principal_at(source, "calvin", Id::from(1))
}

#[async_trait]
impl GroupOracle for Store {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn groups_of(&self, _: &Ctx, _: &Principal) -> Result<Lookup<GroupSet>> {
        Ok(Lookup::Found(self.groups.clone()))
    }
    fn peek_groups(&self, _: &Ctx, _: &Principal) -> Option<Lookup<GroupSet>> {
        self.remembers.then(|| Lookup::Found(self.groups.clone()))
    }
}

#[async_trait]
impl ObjectPerms for Store {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        Ok(Access::Allow)
    }
    fn peek_access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Option<Access> {
        self.remembers.then_some(Access::Allow)
    }
}

#[async_trait]
impl auth_core::AccountSource for Store {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
        Ok(Lookup::Found(self.account.clone()))
    }
    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
    fn peek_account(&self, _: &Ctx, _: &Login) -> Option<Lookup<Account>> {
        self.remembers.then(|| Lookup::Found(self.account.clone()))
    }
}

/// A realm as configuration composes it: a chain of an empty source and one that knows calvin, a union of one
/// linked and watched oracle, and a router to one linked and watched store.
fn composed(remembers: bool) -> Realm {
    let clock = ManualClock::new();
    let store = Store::new(remembers);
    let link = || Link::Through(Arc::new(ByLogin::new(Arc::<Store>::clone(&store))));
    let watched = || {
        let (clock, health) = (Arc::<ManualClock>::clone(&clock), Arc::new(Health::default()));
        Arc::new(Watched::new(Arc::clone(&store), std::time::Duration::from_secs(5), clock, health))
    };
    let oracle: Arc<dyn GroupOracle> = watched();
    let objects: Arc<dyn ObjectPerms> = watched();
    let says = |name: &str, tell| -> ChainEntry {
        let source: Arc<dyn PasswordSource> = Arc::new(Says::new(name, tell).remembering(false, remembers));
        ChainEntry::new(source)
    };
    let unknown = says("empty", Tell::Rejects(auth_core::Reject::UnknownUser));
    let chain =
        PasswordChain::new(vec![unknown, says("app", Tell::Accepts)], Arc::new(Book::default())).unwrap();
    let objects: Arc<dyn ObjectPerms> = Arc::new(Linked::objects(objects, link()));
    Realm::new(realm(), Arc::new(chain), Arc::new(Jobs::default()), clock)
        .with_groups(GroupUnion::new(vec![Arc::new(Linked::groups(oracle, link()))]))
        .with_objects(DomainRouter::new([(Arc::from("doc"), objects)]))
}

/// The allocations of each question: groups, member, not a member, access.
fn allocations(realm: &Realm, who: &Principal) -> [u64; 4] {
    let (ctx, doc) = (Ctx::new(), object("doc", 1));
    let ask = || {
        let (groups, list) = counted(|| now(realm.groups(&ctx, who)));
        let (member, yes) = counted(|| now(realm.is_member(&ctx, who, "admin")));
        let (stranger, no) = counted(|| now(realm.is_member(&ctx, who, "ghosts")));
        let (access, right) = counted(|| now(realm.access(&ctx, who, &doc, Some("read"))));
        assert_eq!(groups.unwrap().len(), 2);
        assert_eq!((member.unwrap(), stranger.unwrap()), (Member::Yes, Member::No));
        assert_eq!(access.unwrap(), Access::Allow);
        [list, yes, no, right]
    };
    // The first time may set up what stays.
    ask();
    ask()
}

#[test]
fn an_answer_from_memory_allocates_nothing() {
    let realm = composed(true);
    assert_eq!(allocations(&realm, &calvin("app")), [0; 4]);
}

#[test]
fn a_linked_person_costs_no_allocation_either() {
    let realm = composed(true);
    assert_eq!(allocations(&realm, &calvin("staff")), [0; 4]);
}

#[test]
fn a_login_from_memory_allocates_nothing_of_the_realms() {
    /// Accepts one person, whom it knows by heart.
    #[derive(Debug)]
    struct Knows(SourceInfo, Principal);
    #[async_trait]
    impl PasswordSource for Knows {
        fn source(&self) -> &SourceInfo {
            &self.0
        }
        async fn verify(&self, _: &Ctx, _: &Login, _: &auth_core::Password) -> Result<Verdict> {
            panic!("memory knows it")
        }
        async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
            panic!("memory knows it")
        }
        fn peek_verify(&self, _: &Ctx, _: &Login, _: &auth_core::Password) -> Option<Verdict> {
            Some(Verdict::Accepted(self.1.clone()))
        }
    }
    let entry = ChainEntry::new(Arc::new(Knows(info("app"), calvin("app"))));
    let chain = PasswordChain::new(vec![entry], Arc::new(Book::default())).unwrap();
    let realm = Realm::new(realm(), Arc::new(chain), Arc::new(Jobs::default()), ManualClock::new());
    let (ctx, login, password) = (Ctx::new(), login("calvin"), password("hobbes"));
    let (verdict, cost) = counted(|| now(realm.login(&ctx, &login, &password)));
    assert_eq!((verdict.unwrap(), cost), (Verdict::Accepted(calvin("app")), 0));
}

#[test]
fn a_question_to_the_store_does_allocate() {
    let realm = composed(false);
    for cost in allocations(&realm, &calvin("app")) {
        assert!(cost > 0, "or nothing is counted");
    }
}
