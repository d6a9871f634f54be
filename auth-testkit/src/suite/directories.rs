//! Cases for stores that are written to through a [`Directory`]: what each change reports, and what shows of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{
    Access, AccountSource, AccountState, Change, Ctx, Directory, ErrorKind, GroupOracle, Id, Lock, Login,
    LoginRule, Lookup, Member, NewUser, ObjectPerms, ObjectRef, Principal, RealmId, Result, StateChange,
    StoredHash, UserEntry,
};

use super::{cases, told};
use crate::{World, hash, login, object, principal_at, realm, realm_with};

/// A store that is written to through its directory. Each case takes one that is empty.
pub struct Managed {
    /// Shows accounts.
    pub accounts: Arc<dyn AccountSource>,
    /// Shows groups.
    pub groups: Arc<dyn GroupOracle>,
    /// Shows rights.
    pub objects: Arc<dyn ObjectPerms>,
    /// Writes all of them.
    pub directory: Arc<dyn Directory>,
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Managed").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Managed {
    /// Takes a store and its directory.
    pub fn new<S>(store: &Arc<S>, directory: Arc<dyn Directory>) -> Self
    where
        S: AccountSource + GroupOracle + ObjectPerms + 'static,
    {
        let (accounts, groups, objects) = (Arc::clone(store), Arc::clone(store), Arc::clone(store));
        Self { accounts, groups, objects, directory }
    }

    async fn add(&self, user: &NewUser) -> Change {
        told("add a user", self.directory.add_user(&Ctx::new(), user).await)
    }

    async fn find(&self, text: &str) -> UserEntry {
        let found = told("show a user", self.directory.user(&Ctx::new(), &login(text)).await);
        found.found().unwrap_or_else(|| panic!("{text} is there"))
    }

    async fn person(&self, text: &str) -> Principal {
        self.find(text).await.principal
    }

    async fn hash_of(&self, text: &str) -> Option<StoredHash> {
        let found = told("show an account", self.accounts.account(&Ctx::new(), &login(text)).await);
        found.found().unwrap_or_else(|| panic!("{text} has an account")).hash().cloned()
    }

    async fn is_in(&self, who: &Principal, group: &str) -> Member {
        told("ask for a group", self.groups.is_member(&Ctx::new(), who, group).await)
    }

    async fn groups_of(&self, who: &Principal) -> Lookup<auth_core::GroupSet> {
        told("ask for all groups", self.groups.groups_of(&Ctx::new(), who).await)
    }

    async fn access(&self, who: &Principal, object: &ObjectRef, mode: Option<&str>) -> Access {
        told("ask for a right", self.objects.access(&Ctx::new(), who, object, mode).await)
    }

    async fn all_groups(&self) -> Vec<String> {
        told("list the groups", self.directory.groups(&Ctx::new()).await)
    }

    async fn join(&self, text: &str, group: &str) -> Change {
        told("join", self.directory.join(&Ctx::new(), &login(text), group).await)
    }

    async fn leave(&self, text: &str, group: &str) -> Change {
        told("leave", self.directory.leave(&Ctx::new(), &login(text), group).await)
    }

    async fn grant(&self, text: &str, object: &ObjectRef, mode: &str) -> Change {
        told("grant", self.directory.grant(&Ctx::new(), &login(text), object, mode).await)
    }

    async fn revoke(&self, text: &str, object: &ObjectRef, mode: &str) -> Change {
        told("revoke", self.directory.revoke(&Ctx::new(), &login(text), object, mode).await)
    }

    async fn add_object(&self, object: &ObjectRef) -> Change {
        told("add an object", self.directory.add_object(&Ctx::new(), object).await)
    }

    async fn delete_object(&self, object: &ObjectRef) -> Change {
        told("delete an object", self.directory.delete_object(&Ctx::new(), object).await)
    }
}

/// Writes the [`World`] through a directory.
///
/// # Panics
/// If it refuses any of it.
pub async fn load(directory: &dyn Directory) {
    let ctx = Ctx::new();
    for user in World::users() {
        let login = user.login_in(&realm());
        let groups = user.groups.iter().map(|group| (*group).to_owned()).collect();
        let new = NewUser { login: login.clone(), hash: user.stored_hash(), groups };
        told("add a user", directory.add_user(&ctx, &new).await);
        let state = user.state();
        let change = StateChange {
            disabled: Some(state.disabled),
            lock: Some(state.lock),
            expires_at: Some(state.expires_at),
            must_change: Some(state.must_change),
        };
        told("set a state", directory.set_state(&ctx, &login, &change).await);
    }
    for object in World::objects() {
        told("add an object", directory.add_object(&ctx, &object.object()).await);
        for (login, mode) in object.rights {
            let login = World::user(login).login_in(&realm());
            told("grant", directory.grant(&ctx, &login, &object.object(), mode).await);
        }
    }
}

/// Runs every case, each on an empty store that `make` makes.
///
/// # Panics
/// Where the store breaks the contract.
pub async fn run_all_directory(make: impl AsyncFn() -> Managed) {
    for case in directory_cases() {
        case.run(&make().await, &()).await;
    }
}

cases! {
    /// Lists the cases for a [`Directory`].
    pub directory_cases, Managed, ():
    a_user_is_added_once_and_in_normal_form,
    a_user_with_an_impossible_group_is_not_added_at_all,
    an_id_is_never_used_again,
    users_are_listed_in_pages_in_the_order_of_their_logins,
    a_realm_lists_those_whom_it_can_ask_for,
    a_hash_is_set_with_its_scheme,
    a_state_is_changed_field_by_field,
    a_deleted_user_leaves_no_membership_and_no_right,
    a_group_is_made_by_its_first_member,
    the_first_object_declares_its_domain,
    rights_are_granted_and_revoked_one_by_one,
    objects_have_text_ids_of_any_number_of_parts,
    a_strange_principal_has_nothing,
    of_two_who_add_one_login_one_does,
}

fn new(text: &str, groups: &[&str]) -> NewUser {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    NewUser { login: login(text), hash: Some(hash("$2b$04$x")), groups }
}

fn doc(id: i64) -> ObjectRef {
    object("doc", id)
}

#[track_caller]
fn invalid<T: fmt::Debug>(answer: Result<T>) {
    match answer {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}"),
        Ok(done) => panic!("{done:?} where the input is not acceptable"),
    }
}

async fn a_user_is_added_once_and_in_normal_form(store: &Managed, _: &()) {
    assert_eq!(store.add(&new("Calvin", &["staff", "admin"])).await, Change::Done);
    let again = NewUser { hash: Some(hash("other")), ..new("CALVIN", &["ghosts"]) };
    assert_eq!(store.add(&again).await, Change::Unchanged);
    let calvin = store.find("calvin").await;
    assert_eq!(calvin.principal.shown(), "calvin");
    assert_eq!((calvin.state, calvin.password), (AccountState::default(), Some(None)));
    assert_eq!(store.hash_of("calvin").await, Some(hash("$2b$04$x")));
    assert_eq!(store.is_in(&calvin.principal, "admin").await, Member::Yes);
    assert_eq!(store.all_groups().await, ["admin", "staff"], "nothing of the second");
    assert_eq!(store.add(&NewUser { hash: None, ..new("dad", &[]) }).await, Change::Done);
    let dad = store.find("dad").await;
    assert_eq!(dad.password, None);
    assert_eq!(
        store.groups_of(&dad.principal).await,
        Lookup::Found(std::iter::empty::<&str>().collect::<auth_core::GroupSet>())
    );
}

async fn a_user_with_an_impossible_group_is_not_added_at_all(store: &Managed, _: &()) {
    for bad in ["", "sta\nff", &"x".repeat(256)] {
        invalid(store.directory.add_user(&Ctx::new(), &new("calvin", &["staff", bad])).await);
    }
    for bad in ["", "a\0b", &"x".repeat(4_097)] {
        let user = NewUser { hash: Some(hash(bad)), ..new("calvin", &["staff"]) };
        invalid(store.directory.add_user(&Ctx::new(), &user).await);
    }
    assert_eq!(told("show", store.directory.user(&Ctx::new(), &login("calvin")).await), Lookup::NotFound);
    assert!(store.all_groups().await.is_empty());
}

async fn an_id_is_never_used_again(store: &Managed, _: &()) {
    store.add(&new("calvin", &["staff"])).await;
    let old = store.person("calvin").await;
    told("delete", store.directory.delete_user(&Ctx::new(), &login("calvin")).await);
    store.add(&new("calvin", &["staff"])).await;
    assert_ne!(store.person("calvin").await.id(), old.id());
    assert_eq!(store.groups_of(&old).await, Lookup::NotFound);
}

async fn users_are_listed_in_pages_in_the_order_of_their_logins(store: &Managed, _: &()) {
    load(&*store.directory).await;
    let mut logins: Vec<&str> = World::users().iter().map(|user| user.login).collect();
    logins.sort_unstable();
    for limit in [1, 2, 3, 11, 12, u32::MAX] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.directory.users(&Ctx::new(), &realm(), after.as_deref(), limit).await;
            let page = told("list", page);
            assert!(page.len() <= usize::try_from(limit).expect("64 bits"));
            let Some(last) = page.last() else { break };
            after = Some(last.principal.login().as_str().to_owned());
            seen.extend(page);
        }
        let found: Vec<&str> = seen.iter().map(|entry| entry.principal.login().as_str()).collect();
        assert_eq!(found, logins);
        for entry in seen {
            let user = World::user(entry.principal.login().as_str());
            assert_eq!((entry.state, entry.password.is_some()), (user.state(), user.hash.is_some()));
        }
    }
    assert!(told("list", store.directory.users(&Ctx::new(), &realm(), None, 0).await).is_empty());
}

async fn a_realm_lists_those_whom_it_can_ask_for(store: &Managed, _: &()) {
    let exact = realm_with("exact", LoginRule::Exact);
    for text in ["Calvin", "a b", "calvin", "susie"] {
        let login = Login::parse(&exact, text).expect("a possible login");
        assert_eq!(store.add(&NewUser { login, hash: None, groups: Vec::new() }).await, Change::Done);
    }
    let listed = async |realm: &RealmId, limit: u32| -> Vec<String> {
        let page = told("list", store.directory.users(&Ctx::new(), realm, None, limit).await);
        page.iter().map(|entry| entry.principal.shown().to_owned()).collect()
    };
    assert_eq!(listed(&exact, 9).await, ["Calvin", "a b", "calvin", "susie"]);
    assert_eq!(listed(&realm(), 9).await, ["calvin", "susie"]);
    assert_eq!(listed(&realm(), 2).await, ["calvin", "susie"], "a page is filled");
}

async fn a_hash_is_set_with_its_scheme(store: &Managed, _: &()) {
    let ctx = Ctx::new();
    let (calvin, with) = (login("calvin"), StoredHash::new("abc".to_owned(), Some("sha1-hex")));
    let set = async |hash: &StoredHash| store.directory.set_hash(&ctx, &calvin, hash).await;
    assert_eq!(told("set", set(&with).await), Change::NotFound);
    store.add(&NewUser { hash: None, ..new("calvin", &[]) }).await;
    assert_eq!(store.find("calvin").await.password, None);
    assert_eq!(told("set", set(&with).await), Change::Done);
    assert_eq!(told("set", set(&with).await), Change::Unchanged);
    assert_eq!(store.find("calvin").await.password, Some(Some("sha1-hex".to_owned())));
    assert_eq!(told("set", set(&hash("abc")).await), Change::Done);
    assert_eq!(store.hash_of("calvin").await, Some(hash("abc")), "the scheme went with the old hash");
    for bad in ["", "a\0b", &"x".repeat(4_097)] {
        invalid(set(&hash(bad)).await);
    }
    assert_eq!(store.hash_of("calvin").await, Some(hash("abc")));
}

async fn a_state_is_changed_field_by_field(store: &Managed, _: &()) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let set = async |change: StateChange| {
        told("set a state", store.directory.set_state(&Ctx::new(), &login("calvin"), &change).await)
    };
    let none = StateChange::default();
    assert_eq!(set(StateChange { disabled: Some(true), ..none.clone() }).await, Change::NotFound);
    store.add(&new("calvin", &[])).await;
    assert_eq!(set(none.clone()).await, Change::Unchanged);
    assert_eq!(set(StateChange { disabled: Some(false), ..none.clone() }).await, Change::Unchanged);
    let mut expected = AccountState::default();
    for (change, apply) in [
        (
            StateChange { disabled: Some(true), ..none.clone() },
            (|s, _| s.disabled = true) as fn(&mut AccountState, SystemTime),
        ),
        (StateChange { lock: Some(Lock::Until(at)), ..none.clone() }, |s, at| s.lock = Lock::Until(at)),
        (StateChange { must_change: Some(true), ..none.clone() }, |s, _| s.must_change = true),
        (StateChange { expires_at: Some(Some(at)), ..none.clone() }, |s, at| s.expires_at = Some(at)),
        (StateChange { lock: Some(Lock::Locked), ..none.clone() }, |s, _| s.lock = Lock::Locked),
        (StateChange { disabled: Some(false), ..none.clone() }, |s, _| s.disabled = false),
        (StateChange { lock: Some(Lock::Open), ..none.clone() }, |s, _| s.lock = Lock::Open),
        (StateChange { expires_at: Some(None), ..none.clone() }, |s, _| s.expires_at = None),
        (StateChange { must_change: Some(false), ..none.clone() }, |s, _| s.must_change = false),
    ] {
        apply(&mut expected, at);
        assert_eq!(set(change.clone()).await, Change::Done, "{change:?}");
        assert_eq!(set(change.clone()).await, Change::Unchanged, "{change:?}");
        assert_eq!(store.find("calvin").await.state, expected, "{change:?}");
    }
    let half = at + Duration::from_millis(500);
    let both = StateChange { lock: Some(Lock::Until(half)), expires_at: Some(Some(half)), ..none };
    assert_eq!(set(both.clone()).await, Change::Done);
    assert_eq!(set(both).await, Change::Unchanged, "what is kept is whole seconds");
    let state = store.find("calvin").await.state;
    assert_eq!(state.lock, Lock::Until(at + Duration::from_secs(1)), "a lock does not end early");
    assert_eq!(state.expires_at, Some(at), "an account does not end late");
}

async fn a_deleted_user_leaves_no_membership_and_no_right(store: &Managed, _: &()) {
    load(&*store.directory).await;
    let (ctx, calvin) = (Ctx::new(), store.person("calvin").await);
    assert_eq!(store.access(&calvin, &doc(1), Some("read")).await, Access::Allow);
    let delete = async || told("delete", store.directory.delete_user(&ctx, &login("calvin")).await);
    assert_eq!(delete().await, Change::Done);
    assert_eq!(delete().await, Change::NotFound);
    assert_eq!(told("show", store.directory.user(&ctx, &login("calvin")).await), Lookup::NotFound);
    assert_eq!(told("show", store.accounts.account(&ctx, &login("calvin")).await), Lookup::NotFound);
    assert_eq!(store.groups_of(&calvin).await, Lookup::NotFound);
    assert_eq!(store.access(&calvin, &doc(1), Some("read")).await, Access::Deny);
    let susie = store.person("susie").await;
    assert_eq!(store.is_in(&susie, "staff").await, Member::Yes);
    assert_eq!(store.access(&susie, &doc(1), Some("read")).await, Access::Allow);
}

async fn a_group_is_made_by_its_first_member(store: &Managed, _: &()) {
    load(&*store.directory).await;
    assert_eq!(store.join("nobody", "club").await, Change::NotFound);
    assert!(!store.all_groups().await.contains(&"club".to_owned()));
    assert_eq!(store.join("susie", "club").await, Change::Done);
    assert_eq!(store.join("susie", "club").await, Change::Unchanged);
    assert_eq!(store.join("susie", "CLUB").await, Change::Done, "groups keep their case");
    let who = store.person("susie").await;
    assert_eq!(store.is_in(&who, "club").await, Member::Yes);
    assert_eq!(store.leave("susie", "club").await, Change::Done);
    assert_eq!(store.leave("susie", "club").await, Change::Unchanged);
    assert_eq!(store.leave("susie", "ghosts").await, Change::Unchanged);
    assert_eq!(store.leave("nobody", "club").await, Change::NotFound);
    assert_eq!(store.is_in(&who, "club").await, Member::No);
    assert_eq!(store.is_in(&who, "staff").await, Member::Yes);
    invalid(store.directory.join(&Ctx::new(), &login("susie"), "").await);
    assert_eq!(store.all_groups().await, ["CLUB", "admin", "caf\u{e9}", "club", "staff"]);
}

async fn the_first_object_declares_its_domain(store: &Managed, _: &()) {
    let ctx = Ctx::new();
    store.add(&new("calvin", &[])).await;
    let (calvin, who) = (login("calvin"), store.person("calvin").await);
    invalid(store.objects.access(&ctx, &who, &doc(1), None).await);
    invalid(store.directory.grant(&ctx, &calvin, &doc(1), "read").await);
    invalid(store.directory.revoke(&ctx, &calvin, &doc(1), "read").await);
    invalid(store.directory.delete_object(&ctx, &doc(1)).await);
    let domains = async || told("list the domains", store.directory.domains(&ctx).await);
    assert!(domains().await.is_empty());
    assert_eq!(store.add_object(&doc(1)).await, Change::Done);
    assert_eq!(store.add_object(&doc(1)).await, Change::Unchanged);
    assert_eq!(domains().await, ["doc"]);
    assert_eq!(store.access(&who, &doc(1), Some("read")).await, Access::Deny);
    assert_eq!(store.access(&who, &doc(2), Some("read")).await, Access::NotFound);
    assert_eq!(store.delete_object(&doc(2)).await, Change::NotFound);
    assert_eq!(store.delete_object(&doc(1)).await, Change::Done);
    assert_eq!(store.access(&who, &doc(1), Some("read")).await, Access::NotFound);
    assert_eq!(domains().await, ["doc"], "a domain stays declared");
}

async fn rights_are_granted_and_revoked_one_by_one(store: &Managed, _: &()) {
    load(&*store.directory).await;
    let who = store.person("susie").await;
    assert_eq!(store.grant("susie", &doc(2), "write").await, Change::Done);
    assert_eq!(store.grant("susie", &doc(2), "write").await, Change::Unchanged);
    assert_eq!(store.access(&who, &doc(2), Some("write")).await, Access::Allow);
    assert_eq!(store.access(&who, &doc(2), Some("read")).await, Access::Deny);
    assert_eq!(store.access(&who, &doc(2), None).await, Access::Allow);
    assert_eq!(store.grant("susie", &doc(2), "to read").await, Change::Done);
    assert_eq!(store.revoke("susie", &doc(2), "read").await, Change::Unchanged);
    assert_eq!(store.revoke("susie", &doc(2), "write").await, Change::Done);
    assert_eq!(store.access(&who, &doc(2), Some("write")).await, Access::Deny);
    assert_eq!(store.access(&who, &doc(2), Some("to read")).await, Access::Allow);
    assert_eq!(store.revoke("susie", &doc(2), "to read").await, Change::Done);
    assert_eq!(store.access(&who, &doc(2), None).await, Access::Deny);
    assert_eq!(store.grant("susie", &doc(3), "read").await, Change::NotFound);
    assert_eq!(store.revoke("susie", &doc(3), "read").await, Change::NotFound);
    assert_eq!(store.grant("nobody", &doc(1), "read").await, Change::NotFound);
    assert_eq!(store.revoke("nobody", &doc(1), "read").await, Change::NotFound);
    invalid(store.directory.grant(&Ctx::new(), &login("susie"), &doc(1), "").await);
    store.grant("susie", &doc(2), "write").await;
    assert_eq!(store.delete_object(&doc(2)).await, Change::Done);
    assert_eq!(store.add_object(&doc(2)).await, Change::Done);
    assert_eq!(store.access(&who, &doc(2), None).await, Access::Deny, "rights go with their object");
}

async fn objects_have_text_ids_of_any_number_of_parts(store: &Managed, _: &()) {
    load(&*store.directory).await;
    let who = store.person("susie").await;
    let object = |parts: &[Id]| ObjectRef::new("doc", parts.iter().cloned()).expect("a possible object");
    let two = object(&[Id::from("a"), Id::from("b")]);
    store.add_object(&two).await;
    store.grant("susie", &two, "read").await;
    assert_eq!(store.access(&who, &two, Some("read")).await, Access::Allow);
    for other in
        [object(&[Id::from("a,b")]), object(&[Id::from("a\\,b")]), object(&[Id::from("b"), Id::from("a")])]
    {
        assert_eq!(store.access(&who, &other, Some("read")).await, Access::NotFound, "{other}");
    }
    let by_digits = object(&[Id::from("1")]);
    assert_eq!(store.access(&who, &by_digits, Some("read")).await, Access::Allow, "by its digits");
}

async fn a_strange_principal_has_nothing(store: &Managed, _: &()) {
    load(&*store.directory).await;
    let calvin = store.person("calvin").await;
    let stranger = principal_at("another source", "calvin", calvin.id().clone());
    assert_eq!(store.groups_of(&stranger).await, Lookup::NotFound);
    assert_eq!(store.access(&stranger, &doc(1), Some("read")).await, Access::Deny);
    assert_eq!(store.directory.source().name(), store.accounts.source().name());
    assert!(store.directory.source().capabilities().replaces_hash);
}

async fn of_two_who_add_one_login_one_does(store: &Managed, _: &()) {
    for n in 0..20 {
        let text = format!("user{n}");
        let (one, other) = (new(&text, &["one"]), new(&text, &["other"]));
        let (one, other) = futures_util::future::join(store.add(&one), store.add(&other)).await;
        assert!(
            matches!((one, other), (Change::Done, Change::Unchanged) | (Change::Unchanged, Change::Done)),
            "{one:?} {other:?}"
        );
        let who = store.person(&text).await;
        let all = (store.is_in(&who, "one").await, store.is_in(&who, "other").await);
        assert!(matches!(all, (Member::Yes, Member::No) | (Member::No, Member::Yes)), "{all:?}");
    }
}
