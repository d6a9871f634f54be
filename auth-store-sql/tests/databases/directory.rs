//! Writes in the managed schema: what each reports, and that it is all or nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::{connect, ctx, is, load};
use crate::on::{ALL, Database, On, tests};
use auth_core::{
    Access, AccountSource, AccountState, Change, Directory, ErrorKind, GroupOracle, Id, Lock, LoginRule,
    Lookup, Member, NewUser, ObjectPerms, ObjectRef, Principal, StateChange, StoredHash, UserEntry,
};
use auth_store_sql::SqlStore;
use auth_testkit::{World, hash, login, principal_at, realm, realm_with};

async fn managed(on: &On) -> (Database, Arc<SqlStore>, Arc<dyn Directory>) {
    let database = on.empty();
    let store = connect(database.config()).await.unwrap();
    let directory = store.directory().unwrap();
    (database, store, directory)
}

async fn world(on: &On) -> (Database, Arc<SqlStore>, Arc<dyn Directory>) {
    let (database, store, directory) = managed(on).await;
    load(&*directory).await;
    (database, store, directory)
}

fn new(text: &str, groups: &[&str]) -> NewUser {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    NewUser { login: login(text), hash: Some(hash("$2b$04$x")), groups }
}

fn doc(id: i64) -> ObjectRef {
    ObjectRef::new("doc", [Id::from(id)]).unwrap()
}

async fn entry(directory: &dyn Directory, text: &str) -> UserEntry {
    directory.user(&ctx(), &login(text)).await.unwrap().found().unwrap()
}

async fn person(directory: &dyn Directory, text: &str) -> Principal {
    entry(directory, text).await.principal
}

async fn in_group(store: &SqlStore, who: &Principal, group: &str) -> Member {
    store.is_member(&ctx(), who, group).await.unwrap()
}

async fn access(store: &SqlStore, who: &Principal, object: &ObjectRef, mode: &str) -> Access {
    store.access(&ctx(), who, object, Some(mode)).await.unwrap()
}

async fn a_user_is_added_once_and_in_normal_form(on: On) {
    let (database, store, directory) = managed(&on).await;
    assert_eq!(directory.add_user(&ctx(), &new("Calvin", &["staff", "admin"])).await.unwrap(), Change::Done);
    let again = NewUser { hash: Some(hash("other")), ..new("CALVIN", &["ghosts"]) };
    assert_eq!(directory.add_user(&ctx(), &again).await.unwrap(), Change::Unchanged);
    let calvin = entry(&*directory, "calvin").await;
    assert_eq!(calvin.principal.shown(), "calvin");
    assert_eq!((calvin.state, calvin.password), (AccountState::default(), Some(None)));
    let account = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(account.hash(), Some(&hash("$2b$04$x")));
    assert_eq!(in_group(&store, &calvin.principal, "admin").await, Member::Yes);
    assert_eq!(directory.groups(&ctx()).await.unwrap(), ["admin", "staff"], "nothing of the second");
    assert_eq!(database.count("gatepost_user").await, 1);
}

async fn a_user_is_added_with_all_their_groups_or_not_at_all(on: On) {
    let (database, _store, directory) = managed(&on).await;
    is(ErrorKind::Invalid, directory.add_user(&ctx(), &new("calvin", &["staff", ""])).await);
    is(ErrorKind::Invalid, directory.add_user(&ctx(), &new("calvin", &["sta\nff"])).await);
    let trigger = on.choose(
        "CREATE TRIGGER no_ghosts BEFORE INSERT ON gatepost_membership \
         WHEN NEW.group_id = (SELECT id FROM gatepost_group WHERE name = 'ghosts') \
         BEGIN SELECT RAISE(ABORT, 'no ghosts'); END",
        "CREATE FUNCTION no_ghosts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.group_id = (SELECT id FROM gatepost_group WHERE name = 'ghosts') \
         THEN RAISE 'no ghosts'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER no_ghosts BEFORE INSERT ON gatepost_membership \
         FOR EACH ROW EXECUTE FUNCTION no_ghosts()",
        "CREATE TRIGGER no_ghosts BEFORE INSERT ON gatepost_membership FOR EACH ROW \
         IF NEW.group_id = (SELECT id FROM gatepost_group WHERE name = 'ghosts') \
         THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no ghosts'; END IF",
    );
    database.run(trigger).await;
    is(ErrorKind::Misconfigured, directory.add_user(&ctx(), &new("calvin", &["staff", "ghosts"])).await);
    for table in ["gatepost_user", "gatepost_group", "gatepost_membership"] {
        assert_eq!(database.count(table).await, 0, "{table}");
    }
    assert_eq!(directory.add_user(&ctx(), &new("calvin", &["staff"])).await.unwrap(), Change::Done);
    is(ErrorKind::Misconfigured, directory.join(&ctx(), &login("calvin"), "ghosts").await);
    assert_eq!(directory.groups(&ctx()).await.unwrap(), ["staff"]);
}

async fn an_id_is_never_used_again(on: On) {
    let (_database, store, directory) = managed(&on).await;
    directory.add_user(&ctx(), &new("calvin", &["staff"])).await.unwrap();
    let old = person(&*directory, "calvin").await;
    directory.delete_user(&ctx(), &login("calvin")).await.unwrap();
    directory.add_user(&ctx(), &new("calvin", &["staff"])).await.unwrap();
    assert_ne!(person(&*directory, "calvin").await.id(), old.id());
    assert_eq!(store.groups_of(&ctx(), &old).await.unwrap(), Lookup::NotFound);
}

async fn users_are_listed_in_pages_in_the_order_of_their_logins(on: On) {
    let (_database, _store, directory) = world(&on).await;
    let mut logins: Vec<&str> = World::users().iter().map(|user| user.login).collect();
    logins.sort_unstable();
    for limit in [1, 2, 3, 11, 12, u32::MAX] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = directory.users(&ctx(), &realm(), after.as_deref(), limit).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
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
    assert!(directory.users(&ctx(), &realm(), None, 0).await.unwrap().is_empty());
}

async fn a_realm_lists_those_whom_it_can_ask_for(on: On) {
    let (_database, _store, directory) = managed(&on).await;
    let exact = realm_with("exact", LoginRule::Exact);
    for text in ["Calvin", "a b", "calvin", "susie"] {
        let login = auth_core::Login::parse(&exact, text).unwrap();
        let user = NewUser { login, hash: None, groups: Vec::new() };
        assert_eq!(directory.add_user(&ctx(), &user).await.unwrap(), Change::Done);
    }
    let listed = async |realm: &auth_core::RealmId, limit: u32| -> Vec<String> {
        let page = directory.users(&ctx(), realm, None, limit).await.unwrap();
        page.iter().map(|entry| entry.principal.shown().to_owned()).collect()
    };
    assert_eq!(listed(&exact, 9).await, ["Calvin", "a b", "calvin", "susie"]);
    assert_eq!(listed(&realm(), 9).await, ["calvin", "susie"]);
    assert_eq!(listed(&realm(), 2).await, ["calvin", "susie"], "a page is filled");
}

async fn more_users_than_one_read_fetches_are_listed(on: On) {
    let (database, _store, directory) = managed(&on).await;
    database
        .run(&format!(
            "{}INSERT INTO gatepost_user (login, created_at) \
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
                 SELECT concat('user', i), 0 FROM n",
            on.choose("", "", "SET max_recursive_iterations = 3000;")
        ))
        .await;
    assert_eq!(directory.users(&ctx(), &realm(), None, u32::MAX).await.unwrap().len(), 2_500);
    assert_eq!(directory.users(&ctx(), &realm(), None, 1_500).await.unwrap().len(), 1_500);
}

async fn a_hash_is_set_with_its_scheme(on: On) {
    let (_database, store, directory) = managed(&on).await;
    let (calvin, with) = (login("calvin"), StoredHash::new("abc".to_owned(), Some("sha1-hex")));
    assert_eq!(directory.set_hash(&ctx(), &calvin, &with).await.unwrap(), Change::NotFound);
    directory.add_user(&ctx(), &NewUser { hash: None, ..new("calvin", &[]) }).await.unwrap();
    assert_eq!(entry(&*directory, "calvin").await.password, None);
    assert_eq!(directory.set_hash(&ctx(), &calvin, &with).await.unwrap(), Change::Done);
    assert_eq!(directory.set_hash(&ctx(), &calvin, &with).await.unwrap(), Change::Unchanged);
    assert_eq!(entry(&*directory, "calvin").await.password, Some(Some("sha1-hex".to_owned())));
    assert_eq!(directory.set_hash(&ctx(), &calvin, &hash("abc")).await.unwrap(), Change::Done);
    let account = store.account(&ctx(), &calvin).await.unwrap().found().unwrap();
    assert_eq!(account.hash(), Some(&hash("abc")), "the scheme went with the old hash");
    for bad in ["", "a\0b", &"x".repeat(4_097)] {
        is(ErrorKind::Invalid, directory.set_hash(&ctx(), &calvin, &hash(bad)).await);
    }
}

async fn a_state_is_changed_field_by_field(on: On) {
    let (_database, _store, directory) = managed(&on).await;
    let calvin = login("calvin");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let set = async |change: StateChange| directory.set_state(&ctx(), &calvin, &change).await.unwrap();
    let none = StateChange::default();
    assert_eq!(set(StateChange { disabled: Some(true), ..none.clone() }).await, Change::NotFound);
    directory.add_user(&ctx(), &new("calvin", &[])).await.unwrap();
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
        assert_eq!(entry(&*directory, "calvin").await.state, expected, "{change:?}");
    }
    let half = at + Duration::from_millis(500);
    let both = StateChange { lock: Some(Lock::Until(half)), expires_at: Some(Some(half)), ..none };
    assert_eq!(set(both.clone()).await, Change::Done);
    assert_eq!(set(both).await, Change::Unchanged, "what is kept is whole seconds");
    let state = entry(&*directory, "calvin").await.state;
    assert_eq!(state.lock, Lock::Until(at + Duration::from_secs(1)), "a lock does not end early");
    assert_eq!(state.expires_at, Some(at), "an account does not end late");
}

async fn a_deleted_user_leaves_no_membership_and_no_right(on: On) {
    let (database, store, directory) = world(&on).await;
    let calvin = person(&*directory, "calvin").await;
    assert_eq!(access(&store, &calvin, &doc(1), "read").await, Access::Allow);
    let left = (database.count("gatepost_membership").await, database.count("gatepost_right").await);
    assert_eq!(directory.delete_user(&ctx(), &login("calvin")).await.unwrap(), Change::Done);
    assert_eq!(directory.delete_user(&ctx(), &login("calvin")).await.unwrap(), Change::NotFound);
    assert_eq!(directory.user(&ctx(), &login("calvin")).await.unwrap(), Lookup::NotFound);
    assert_eq!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::NotFound);
    assert_eq!(store.groups_of(&ctx(), &calvin).await.unwrap(), Lookup::NotFound);
    assert_eq!(access(&store, &calvin, &doc(1), "read").await, Access::Deny);
    let now = (database.count("gatepost_membership").await, database.count("gatepost_right").await);
    assert_eq!(now, (left.0 - 2, left.1 - 2));
    let susie = person(&*directory, "susie").await;
    assert_eq!(in_group(&store, &susie, "staff").await, Member::Yes);
    assert_eq!(access(&store, &susie, &doc(1), "read").await, Access::Allow);
}

async fn a_group_is_made_by_its_first_member(on: On) {
    let (_database, store, directory) = world(&on).await;
    let (susie, nobody) = (login("susie"), login("nobody"));
    assert_eq!(directory.join(&ctx(), &nobody, "club").await.unwrap(), Change::NotFound);
    assert!(!directory.groups(&ctx()).await.unwrap().contains(&"club".to_owned()));
    assert_eq!(directory.join(&ctx(), &susie, "club").await.unwrap(), Change::Done);
    assert_eq!(directory.join(&ctx(), &susie, "club").await.unwrap(), Change::Unchanged);
    assert_eq!(directory.join(&ctx(), &susie, "CLUB").await.unwrap(), Change::Done, "groups keep their case");
    let who = person(&*directory, "susie").await;
    assert_eq!(in_group(&store, &who, "club").await, Member::Yes);
    assert_eq!(directory.leave(&ctx(), &susie, "club").await.unwrap(), Change::Done);
    assert_eq!(directory.leave(&ctx(), &susie, "club").await.unwrap(), Change::Unchanged);
    assert_eq!(directory.leave(&ctx(), &susie, "ghosts").await.unwrap(), Change::Unchanged);
    assert_eq!(directory.leave(&ctx(), &nobody, "club").await.unwrap(), Change::NotFound);
    assert_eq!(in_group(&store, &who, "club").await, Member::No);
    assert_eq!(in_group(&store, &who, "staff").await, Member::Yes);
    is(ErrorKind::Invalid, directory.join(&ctx(), &susie, "").await);
    assert_eq!(directory.groups(&ctx()).await.unwrap(), ["CLUB", "admin", "caf\u{e9}", "club", "staff"]);
}

async fn the_first_object_declares_its_domain(on: On) {
    let (database, store, directory) = managed(&on).await;
    directory.add_user(&ctx(), &new("calvin", &[])).await.unwrap();
    let (calvin, who) = (login("calvin"), person(&*directory, "calvin").await);
    is(ErrorKind::Invalid, store.access(&ctx(), &who, &doc(1), None).await);
    is(ErrorKind::Invalid, directory.grant(&ctx(), &calvin, &doc(1), "read").await);
    is(ErrorKind::Invalid, directory.revoke(&ctx(), &calvin, &doc(1), "read").await);
    is(ErrorKind::Invalid, directory.delete_object(&ctx(), &doc(1)).await);
    assert!(directory.domains(&ctx()).await.unwrap().is_empty());
    assert_eq!(directory.add_object(&ctx(), &doc(1)).await.unwrap(), Change::Done);
    assert_eq!(directory.add_object(&ctx(), &doc(1)).await.unwrap(), Change::Unchanged);
    assert_eq!(directory.domains(&ctx()).await.unwrap(), ["doc"]);
    assert_eq!(access(&store, &who, &doc(1), "read").await, Access::Deny);
    assert_eq!(access(&store, &who, &doc(2), "read").await, Access::NotFound);
    assert_eq!(directory.delete_object(&ctx(), &doc(2)).await.unwrap(), Change::NotFound);
    assert_eq!(directory.delete_object(&ctx(), &doc(1)).await.unwrap(), Change::Done);
    assert_eq!(access(&store, &who, &doc(1), "read").await, Access::NotFound);
    assert_eq!(directory.domains(&ctx()).await.unwrap(), ["doc"], "a domain stays declared");
    assert_eq!(database.count("gatepost_object").await, 0);
}

async fn a_right_is_granted_and_revoked_mode_by_mode(on: On) {
    let (database, store, directory) = world(&on).await;
    let (susie, who) = (login("susie"), person(&*directory, "susie").await);
    let grant =
        async |object: &ObjectRef, mode: &str| directory.grant(&ctx(), &susie, object, mode).await.unwrap();
    let revoke =
        async |object: &ObjectRef, mode: &str| directory.revoke(&ctx(), &susie, object, mode).await.unwrap();
    assert_eq!(grant(&doc(2), "write").await, Change::Done);
    assert_eq!(grant(&doc(2), "write").await, Change::Unchanged);
    assert_eq!(access(&store, &who, &doc(2), "write").await, Access::Allow);
    assert_eq!(access(&store, &who, &doc(2), "read").await, Access::Deny);
    assert_eq!(store.access(&ctx(), &who, &doc(2), None).await.unwrap(), Access::Allow);
    assert_eq!(revoke(&doc(2), "read").await, Change::Unchanged);
    assert_eq!(revoke(&doc(2), "write").await, Change::Done);
    assert_eq!(store.access(&ctx(), &who, &doc(2), None).await.unwrap(), Access::Deny);
    assert_eq!(
        (grant(&doc(3), "read").await, revoke(&doc(3), "read").await),
        (Change::NotFound, Change::NotFound)
    );
    let nobody = login("nobody");
    assert_eq!(directory.grant(&ctx(), &nobody, &doc(1), "read").await.unwrap(), Change::NotFound);
    assert_eq!(directory.revoke(&ctx(), &nobody, &doc(1), "read").await.unwrap(), Change::NotFound);
    is(ErrorKind::Invalid, directory.grant(&ctx(), &susie, &doc(1), "").await);
    grant(&doc(2), "write").await;
    let rights = database.count("gatepost_right").await;
    assert_eq!(directory.delete_object(&ctx(), &doc(2)).await.unwrap(), Change::Done);
    assert_eq!(database.count("gatepost_right").await, rights - 1, "rights go with their object");
}

async fn objects_have_text_ids_of_any_number_of_parts(on: On) {
    let (_database, store, directory) = world(&on).await;
    let (susie, who) = (login("susie"), person(&*directory, "susie").await);
    let object = |parts: &[Id]| ObjectRef::new("doc", parts.iter().cloned()).unwrap();
    let two = object(&[Id::from("a"), Id::from("b")]);
    directory.add_object(&ctx(), &two).await.unwrap();
    directory.grant(&ctx(), &susie, &two, "read").await.unwrap();
    assert_eq!(access(&store, &who, &two, "read").await, Access::Allow);
    for other in
        [object(&[Id::from("a,b")]), object(&[Id::from("a\\,b")]), object(&[Id::from("b"), Id::from("a")])]
    {
        assert_eq!(access(&store, &who, &other, "read").await, Access::NotFound, "{other}");
    }
    assert_eq!(access(&store, &who, &object(&[Id::from("1")]), "read").await, Access::Allow, "by its digits");
}

async fn a_strange_principal_has_nothing_in_the_managed_schema(on: On) {
    let (_database, store, directory) = world(&on).await;
    let stranger = principal_at("staff", "calvin", person(&*directory, "calvin").await.id().clone());
    assert_eq!(store.groups_of(&ctx(), &stranger).await.unwrap(), Lookup::NotFound);
    assert_eq!(access(&store, &stranger, &doc(1), "read").await, Access::Deny);
    assert_eq!(directory.source().name().as_ref(), "app");
    assert!(directory.source().capabilities().replaces_hash);
}

tests! {
    ALL => {
        a_user_is_added_once_and_in_normal_form,
        a_user_is_added_with_all_their_groups_or_not_at_all,
        an_id_is_never_used_again,
        users_are_listed_in_pages_in_the_order_of_their_logins,
        a_realm_lists_those_whom_it_can_ask_for,
        more_users_than_one_read_fetches_are_listed,
        a_hash_is_set_with_its_scheme,
        a_state_is_changed_field_by_field,
        a_deleted_user_leaves_no_membership_and_no_right,
        a_group_is_made_by_its_first_member,
        the_first_object_declares_its_domain,
        a_right_is_granted_and_revoked_mode_by_mode,
        objects_have_text_ids_of_any_number_of_parts,
        a_strange_principal_has_nothing_in_the_managed_schema,
    }
}
