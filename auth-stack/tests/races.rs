//! A change made through the stack is in the next answer, also when a slow load was under way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;

use auth_core::{Access, Ctx, Directory, Login, Member, Realm, StateChange};
use auth_stack::Stack;
use auth_testkit::{World, object};
use common::{Slow, builder, caches, told, who};

async fn stack(cache: &str) -> (Arc<Slow>, Arc<Stack>, Arc<Realm>, Login) {
    let slow = Slow::new("app");
    let stack = builder(&[("app", slow.provides())], "").var("CACHE", cache).build().await.unwrap();
    let realm = Arc::clone(stack.realm("default").unwrap());
    let calvin = Login::parse(realm.id(), "calvin").unwrap();
    (slow, Arc::new(stack), realm, calvin)
}

fn ask(stack: &Arc<Stack>, password: &'static str) -> tokio::task::JoinHandle<String> {
    let stack = Arc::clone(stack);
    tokio::spawn(async move { told(&stack, "calvin", password).await })
}

#[tokio::test]
async fn a_password_changed_during_a_slow_load_is_in_the_next_answer() {
    for cache in caches() {
        let (slow, stack, _, calvin) = stack(cache).await;
        slow.hold();
        let under_way = ask(&stack, "hobbes");
        slow.has_read(1).await;
        // The load has read the old hash and is on its way back with it.
        let new = World::user("susie").stored_hash().unwrap();
        stack.directory("default").unwrap().set_hash(&Ctx::new(), &calvin, &new).await.unwrap();
        slow.release();
        assert_eq!(under_way.await.unwrap(), "app", "who asked before the change may get the old answer");
        for _ in 0..2 {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "bad_password", "{cache}");
            assert_eq!(told(&stack, "calvin", "derkins").await, "app", "{cache}");
        }
    }
}

#[tokio::test]
async fn who_asks_after_a_change_does_not_join_a_load_from_before_it() {
    for cache in caches() {
        let (slow, stack, _, calvin) = stack(cache).await;
        slow.hold();
        let before = ask(&stack, "hobbes");
        slow.has_read(1).await;
        let new = World::user("susie").stored_hash().unwrap();
        stack.directory("default").unwrap().set_hash(&Ctx::new(), &calvin, &new).await.unwrap();
        let after = ask(&stack, "hobbes");
        // A load of its own: a second answer is read.
        slow.has_read(1).await;
        slow.release();
        assert_eq!(
            (before.await.unwrap(), after.await.unwrap()),
            ("app".to_owned(), "bad_password".to_owned()),
            "{cache}"
        );
    }
}

#[tokio::test]
async fn an_account_disabled_or_deleted_is_out_at_once_whatever_is_remembered() {
    for cache in caches() {
        let (_, stack, _, calvin) = stack(cache).await;
        let directory = stack.directory("default").unwrap();
        for _ in 0..2 {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "app", "{cache}");
        }
        let off = StateChange { disabled: Some(true), ..StateChange::default() };
        directory.set_state(&Ctx::new(), &calvin, &off).await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "disabled", "{cache}");
        directory.delete_user(&Ctx::new(), &calvin).await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "unknown_user", "{cache}");
    }
}

#[tokio::test]
async fn a_group_left_during_a_slow_load_is_in_the_next_answer() {
    for cache in caches() {
        let (slow, stack, realm, calvin) = stack(cache).await;
        let person = who(&stack, "calvin").await;
        slow.hold();
        let under_way = {
            let (realm, person) = (Arc::clone(&realm), person.clone());
            tokio::spawn(async move { realm.is_member(&Ctx::new(), &person, "staff").await.unwrap() })
        };
        slow.has_read(1).await;
        stack.directory("default").unwrap().leave(&Ctx::new(), &calvin, "staff").await.unwrap();
        slow.release();
        assert_eq!(under_way.await.unwrap(), Member::Yes);
        for _ in 0..2 {
            let member = realm.is_member(&Ctx::new(), &person, "staff").await.unwrap();
            assert_eq!(member, Member::No, "{cache}");
            assert_eq!(
                realm.groups(&Ctx::new(), &person).await.unwrap().iter().collect::<Vec<_>>(),
                ["admin"]
            );
        }
    }
}

#[tokio::test]
async fn a_right_revoked_during_a_slow_load_is_in_the_next_answer() {
    for cache in caches() {
        let (slow, stack, realm, calvin) = stack(cache).await;
        let (person, doc) = (who(&stack, "calvin").await, object("doc", 1));
        slow.hold();
        let under_way = {
            let (realm, person, doc) = (Arc::clone(&realm), person.clone(), doc.clone());
            tokio::spawn(
                async move { realm.access(&Ctx::new(), &person, &doc, Some("write")).await.unwrap() },
            )
        };
        slow.has_read(1).await;
        stack.directory("default").unwrap().revoke(&Ctx::new(), &calvin, &doc, "write").await.unwrap();
        slow.release();
        assert_eq!(under_way.await.unwrap(), Access::Allow);
        for _ in 0..2 {
            let access = realm.access(&Ctx::new(), &person, &doc, Some("write")).await.unwrap();
            assert_eq!(access, Access::Deny, "{cache}");
            let many =
                realm.access_many(&Ctx::new(), &person, std::slice::from_ref(&doc), Some("write")).await;
            assert_eq!(many.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [Access::Deny], "{cache}");
        }
        stack.directory("default").unwrap().delete_object(&Ctx::new(), &doc).await.unwrap();
        let access = realm.access(&Ctx::new(), &person, &doc, Some("read")).await.unwrap();
        assert_eq!(access, Access::NotFound, "{cache}");
    }
}

#[tokio::test]
async fn a_user_added_is_known_at_once_though_unknown_was_remembered() {
    for cache in caches() {
        let (_, stack, realm, _) = stack(cache).await;
        for _ in 0..2 {
            assert_eq!(told(&stack, "nobody", "hobbes").await, "unknown_user", "{cache}");
        }
        let login = Login::parse(realm.id(), "nobody").unwrap();
        let user =
            auth_core::NewUser { login, hash: World::user("calvin").stored_hash(), groups: Vec::new() };
        stack.directory("default").unwrap().add_user(&Ctx::new(), &user).await.unwrap();
        assert_eq!(told(&stack, "nobody", "hobbes").await, "app", "{cache}");
    }
}

#[tokio::test]
async fn a_change_reaches_every_realm_that_the_source_serves() {
    let slow = Slow::new("app");
    let realms = "[realm.default]\npassword = [\"app\"]\n[realm.same]\npassword = [\"app\"]\n\
                  [realm.other]\npassword = [\"app\"]\nlogin = \"exact\"\n";
    let stack = builder(&[("app", slow.provides())], realms).var("CACHE", "ttl").build().await.unwrap();
    let attempt = |realm: &'static str| {
        let realm = Arc::clone(stack.realm(realm).unwrap());
        async move { realm.attempt(&Ctx::new(), "calvin", b"hobbes".to_vec()).await.unwrap() }
    };
    for realm in ["default", "same", "other"] {
        assert!(matches!(attempt(realm).await, auth_core::Verdict::Accepted(_)));
    }
    let calvin = Login::parse(stack.realm("default").unwrap().id(), "calvin").unwrap();
    stack.directory("default").unwrap().delete_user(&Ctx::new(), &calvin).await.unwrap();
    for realm in ["default", "same", "other"] {
        let gone = auth_core::Verdict::Rejected(auth_core::Reject::UnknownUser);
        assert_eq!(attempt(realm).await, gone, "{realm}");
    }
}
