//! The kind `redis`, as configuration makes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;

use auth_core::{Access, Ctx, Directory, ErrorKind, Login, NewUser};
use auth_stack::Stack;
use auth_testkit::servers::{Redis, RedisOptions, skipped};
use auth_testkit::{World, object};
use common::{CHEAP, caches, told, who};

fn config(url: &str, more: &str) -> String {
    format!("{CHEAP}[source.people]\nkind = \"redis\"\nurl = \"{url}\"\n{more}")
}

async fn refused(text: &str) -> String {
    let error = Stack::builder().config(text).build().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn people_groups_and_rights_are_kept_in_redis_with_every_cache() {
    if skipped("redis") {
        return;
    }
    for cache in caches() {
        let redis = Redis::start(&RedisOptions { password: Some("tiger".into()), ..RedisOptions::default() });
        let text = config(&redis.url(), "timeout = \"2s\"\nconnect_timeout = \"2s\"\n");
        let stack = Stack::builder().config(&text).var("CACHE", cache).build().await.unwrap();
        let (realm, directory) = (stack.realm("default").unwrap(), stack.directory("default").unwrap());
        let ctx = Ctx::new();
        let susie = Login::parse(realm.id(), "Susie").unwrap();
        let user = NewUser {
            login: susie.clone(),
            hash: World::user("susie").stored_hash(),
            groups: vec!["staff".to_owned()],
        };
        directory.add_user(&ctx, &user).await.unwrap();
        directory.add_object(&ctx, &object("doc", 1)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(told(&stack, "SUSIE", "derkins").await, "people", "{cache}");
            assert_eq!(told(&stack, "susie", "hobbes").await, "bad_password", "{cache}");
            assert_eq!(told(&stack, "moe", "hobbes").await, "unknown_user", "{cache}");
        }
        let person = who(&stack, "susie").await;
        assert!(realm.groups(&ctx, &person).await.unwrap().contains("staff"));
        let access = async || realm.access(&ctx, &person, &object("doc", 1), Some("read")).await.unwrap();
        assert_eq!(access().await, Access::Deny, "{cache}");
        directory.grant(&ctx, &susie, &object("doc", 1), "read").await.unwrap();
        assert_eq!(access().await, Access::Allow, "{cache}");
        assert!(stack.probe().await.iter().all(auth_stack::SourceReport::is_up));
        redis.command(&["FLUSHALL"]);
        assert!(!stack.probe().await.iter().all(auth_stack::SourceReport::is_up), "{cache}");
        assert_eq!(redis.command(&["DBSIZE"]).int(), 0);
    }
}

#[tokio::test]
async fn settings_of_redis_that_are_wrong_are_refused() {
    assert!(refused(&config("redis://127.0.0.1", "prefixx = \"a\"\n")).await.contains("`prefix`"));
    assert!(refused(&config("redis://:canary@127.0.0.1", "prefix = \"a b\"\n")).await.contains("prefix"));
    assert!(refused(&config("postgres://:canary@h", "")).await.contains("redis://"));
    let plain = refused(&config("redis://:canary@cache.example", "")).await;
    assert!(plain.contains("TLS") && !plain.contains("canary"), "{plain}");
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    assert!(refused(&config(&redis.url(), "create = false\n")).await.contains("no store"));
    let error = Stack::builder().config(&config("redis://127.0.0.1:1", "")).build().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}
