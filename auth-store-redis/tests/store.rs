//! The store on real servers: what every store does, what every directory does, and what only Redis has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth_core::{
    Access, AccountSource, Change, Ctx, Directory, Error, ErrorKind, GroupOracle, Id, LoginRule, Lookup,
    NewUser, ObjectPerms, ObjectRef, Result,
};
use auth_store_redis::{Absent, RedisStore, RedisStoreConfig};
use auth_testkit::servers::{Redis, RedisCluster, RedisOptions, Restart, skipped};
use auth_testkit::suite::{self, Bench, Managed};
use auth_testkit::{
    ByTable, ManualClock, Standing, World, hash, info, login, object, principal_at, realm, realm_with,
};
use rig::refuse_listing;

const PREFIX: &str = "app.";

async fn connect(url: &str, prefix: &str) -> Result<Arc<RedisStore>> {
    let mut config = RedisStoreConfig::new(url, prefix);
    config.redis.timeout = std::time::Duration::from_secs(5);
    config.redis.connect_timeout = std::time::Duration::from_secs(5);
    RedisStore::connect(info("app"), &config).await.map(Arc::new)
}

fn plain() -> Redis {
    Redis::start(&RedisOptions::default())
}

/// Writes the world as an application does: with commands, under ids of its own.
fn write_world(mut run: impl FnMut(&[&str])) {
    let key = |rest: &str| format!("{{{PREFIX}}}{rest}");
    for user in World::users() {
        let id = format!("k-{}", user.id);
        let mut fields = vec!["login", user.login, "id", &id];
        fields.extend(user.hash.iter().flat_map(|hash| ["hash", *hash]));
        fields.extend(match user.standing {
            Standing::Disabled => ["disabled", "1"].as_slice(),
            Standing::Locked => &["locked", "true"],
            Standing::Expired => &["expires_at", "978307200", "locked", "0"],
            Standing::EndsLater => &["expires_at", "2114380800", "disabled", "false"],
            Standing::MustChange => &["must_change", "1", "nickname", "any"],
            _ => &[],
        });
        run(&[&["HSET", &key(&format!("user:{}", user.login))], fields.as_slice()].concat());
        run(&["ZADD", &key("users"), "0", user.login]);
        run(&[&["SADD", &key(&format!("groups:{id}")), ""], user.groups].concat());
        for group in user.groups {
            run(&["ZADD", &key("groups"), "0", group]);
        }
    }
    for object in World::objects() {
        run(&["ZADD", &key("domains"), "0", object.domain]);
        let name = format!("{}:{}", object.domain, object.id);
        run(&["HSET", &key(&format!("object:{name}")), "", "1"]);
        for user in World::users() {
            let modes: Vec<&str> =
                object.rights.iter().filter(|(who, _)| *who == user.login).map(|(_, mode)| *mode).collect();
            if !modes.is_empty() {
                let id = format!("k-{}", user.id);
                run(&["HSET", &key(&format!("object:{name}")), &id, &modes.join("\n")]);
                run(&["SADD", &key(&format!("rights:{id}")), &name]);
            }
        }
    }
}

async fn run_all(url: &str) {
    let store = connect(url, PREFIX).await.unwrap();
    for (name, rule) in LoginRule::NAMES {
        let bench =
            Bench::new(&realm_with(name, rule)).with_ids(|user| Id::Text(format!("k-{}", user.id).into()));
        suite::run_all_account(&*store, &bench).await;
        suite::run_all_groups(&*store, &bench).await;
        suite::run_all_objects(&*store, &bench).await;
        suite::run_all_password(&ByTable::new(Arc::clone(&store), ManualClock::new()), &bench).await;
    }
}

async fn run_directory(url: &str) {
    let count = AtomicUsize::new(0);
    suite::run_all_directory(async || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let store = connect(url, &format!("tenant{n}.")).await.unwrap();
        Managed::new(&store, store.directory().unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_one_server_does_what_every_store_does() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    write_world(|command| drop(redis.command(command)));
    run_all(&redis.url()).await;
    run_all(&format!("redis+unix://{}", redis.socket().display())).await;
    refuse_listing(&redis.command(&["INFO", "commandstats"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_on_one_server_does_what_every_directory_does() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    run_directory(&redis.url()).await;
    refuse_listing(&redis.command(&["INFO", "commandstats"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_cluster_does_what_every_store_and_directory_does() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(3);
    // The node that has the slot takes it; the others say that it is elsewhere.
    write_world(|command| {
        assert!(cluster.masters().iter().any(|node| {
            !matches!(node.command(command), auth_testkit::servers::Reply::Error(why) if why.starts_with("MOVED"))
        }));
    });
    run_all(&cluster.url()).await;
    // Stores of many prefixes are on all nodes.
    run_directory(&cluster.url()).await;
    for node in cluster.masters() {
        refuse_listing(&node.command(&["INFO", "commandstats"]));
    }
}

fn new(text: &str, groups: &[&str]) -> NewUser {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    NewUser { login: login(text), hash: Some(hash("$2b$04$x")), groups }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_leaves_no_key() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    let ctx = Ctx::new();
    let keys = || {
        let all = redis.command(&["KEYS", "*"]);
        let mut all: Vec<String> = all.items().iter().map(auth_testkit::servers::Reply::text).collect();
        all.retain(|key| !key.contains("}done:"));
        all.sort();
        all
    };
    assert_eq!(keys(), ["{app.}store"], "what was tried out is gone");
    let page = ObjectRef::new("page", [Id::from("wiki"), Id::from(42)]).unwrap();
    store.add_user(&ctx, &new("calvin", &[])).await.unwrap();
    store.add_user(&ctx, &new("susie", &[])).await.unwrap();
    store.add_object(&ctx, &page).await.unwrap();
    store.add_object(&ctx, &object("doc", 1)).await.unwrap();
    for (text, mode) in [("calvin", "read"), ("calvin", "write"), ("susie", "read")] {
        store.grant(&ctx, &login(text), &page, mode).await.unwrap();
        store.grant(&ctx, &login(text), &object("doc", 1), mode).await.unwrap();
    }
    store.delete_user(&ctx, &login("calvin")).await.unwrap();
    assert_eq!(redis.command(&["HLEN", "{app.}object:page:wiki,42"]).int(), 2, "the mark and susie");
    store.delete_object(&ctx, &page).await.unwrap();
    store.delete_user(&ctx, &login("susie")).await.unwrap();
    assert_eq!(redis.command(&["HKEYS", "{app.}object:doc:1"]).items().len(), 1, "the mark alone");
    store.delete_object(&ctx, &object("doc", 1)).await.unwrap();
    assert_eq!(keys(), ["{app.}domains", "{app.}store"]);
    // Each change's note ends by itself.
    for key in redis.command(&["KEYS", "*}done:*"]).items() {
        let left = redis.command(&["PTTL", &key.text()]).int();
        assert!((1..=600_000).contains(&left), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_users_than_one_read_fetches_are_listed() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    let fill = "for i=1,2500 do redis.call('HSET','{app.}user:user'..i,'login','user'..i,'id','k-'..i) \
                redis.call('ZADD','{app.}users',0,'user'..i) redis.call('ZADD','{app.}groups',0,'group'..i) end";
    redis.command(&["EVAL", fill, "0"]);
    let ctx = Ctx::new();
    assert_eq!(store.users(&ctx, &realm(), None, u32::MAX).await.unwrap().len(), 2_500);
    assert_eq!(store.users(&ctx, &realm(), None, 1_500).await.unwrap().len(), 1_500);
    assert_eq!(store.groups(&ctx).await.unwrap().len(), 2_500);
    redis.command(&["DEL", "{app.}user:user7"]);
    assert_eq!(store.users(&ctx, &realm(), None, u32::MAX).await.unwrap().len(), 2_499);
}

#[track_caller]
fn is<T: std::fmt::Debug>(kind: ErrorKind, answer: Result<T>) -> Error {
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.origin()), (kind, Some("app")), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_an_error_and_never_a_no() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    write_world(|command| drop(redis.command(command)));
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    let ctx = Ctx::new();
    let calvin = principal_at("app", "calvin", Id::from("k-1"));
    let account = async || store.account(&ctx, &login("calvin")).await;
    let long = "9".repeat(30);
    let huge = "x".repeat(4_097);
    for (field, value) in [
        ("disabled", "yes"),
        ("locked", "2"),
        ("must_change", "secret"),
        ("expires_at", "tomorrow"),
        ("expires_at", "1.5"),
        ("not_before", &long),
        ("locked_until", " 1"),
        ("password_expires_at", "0x10"),
        ("id", ""),
        ("id", "a\nb"),
        ("login", ""),
        ("hash", &huge),
    ] {
        let key = "{app.}user:calvin";
        let before = redis.command(&["HGET", key, field]);
        redis.command(&["HSET", key, field, value]);
        let error = is(ErrorKind::Corrupt, account().await);
        assert!(error.to_string().contains(field) && !format!("{error:?}").contains("secret"), "{error:?}");
        match before.bytes() {
            Some(bytes) => drop(redis.command(&[b"HSET", key.as_bytes(), field.as_bytes(), bytes])),
            None => drop(redis.command(&["HDEL", key, field])),
        }
        assert!(matches!(account().await.unwrap(), Lookup::Found(_)), "{field}");
    }
    redis.command(&[b"HSET".as_slice(), b"{app.}user:calvin", b"hash", b"\xff\xfe"]);
    is(ErrorKind::Corrupt, account().await);
    // A key of another kind.
    redis.command(&["DEL", "{app.}user:calvin", "{app.}groups:k-1", "{app.}object:doc:1"]);
    redis.command(&["SET", "{app.}user:calvin", "x"]);
    redis.command(&["SET", "{app.}groups:k-1", "x"]);
    redis.command(&["SET", "{app.}object:doc:1", "x"]);
    is(ErrorKind::Corrupt, account().await);
    is(ErrorKind::Corrupt, store.groups_of(&ctx, &calvin).await);
    let both = store.access_many(&ctx, &calvin, &[object("doc", 1), object("doc", 2)], None).await;
    is(ErrorKind::Corrupt, both[0].clone());
    assert_eq!(both[1].clone().unwrap(), Access::Deny, "one that can't be read is not the other");
    // And no change does half of what it should.
    let before = redis.command(&["DEBUG", "DIGEST"]);
    is(ErrorKind::Corrupt, store.add_user(&ctx, &new("calvin", &["staff"])).await);
    is(ErrorKind::Corrupt, store.join(&ctx, &login("calvin"), "club").await);
    is(ErrorKind::Corrupt, store.delete_user(&ctx, &login("calvin")).await);
    is(ErrorKind::Corrupt, store.grant(&ctx, &login("susie"), &object("doc", 1), "read").await);
    is(ErrorKind::Corrupt, store.delete_object(&ctx, &object("doc", 1)).await);
    assert_eq!(redis.command(&["DEBUG", "DIGEST"]), before);
    redis.command(&["DEL", "{app.}users", "{app.}groups"]);
    redis.command(&["SET", "{app.}groups", "x"]);
    let before = redis.command(&["DEBUG", "DIGEST"]);
    is(ErrorKind::Corrupt, store.add_user(&ctx, &new("newton", &["staff"])).await);
    is(ErrorKind::Corrupt, store.join(&ctx, &login("susie"), "club").await);
    assert_eq!(redis.command(&["DEBUG", "DIGEST"]), before);
    redis.command(&["HDEL", "{app.}object:doc:2", ""]);
    redis.command(&["HSET", "{app.}object:doc:2", "k-1", "read"]);
    is(ErrorKind::Corrupt, store.access(&ctx, &calvin, &object("doc", 2), None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_the_store_is_an_error_and_nobodys_absence() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &[])).await.unwrap();
    redis.command(&["FLUSHALL"]);
    is(ErrorKind::Unavailable, store.account(&ctx, &login("calvin")).await);
    is(ErrorKind::Unavailable, store.account(&ctx, &login("nobody")).await);
    is(ErrorKind::Unavailable, store.add_user(&ctx, &new("susie", &[])).await);
    is(ErrorKind::Unavailable, store.look().await);
    assert_eq!(redis.command(&["DBSIZE"]).int(), 0, "nothing is written into what is another store");
    // Another process has made a new one meanwhile: still not this one.
    let other = connect(&redis.url(), PREFIX).await.unwrap();
    is(ErrorKind::Unavailable, store.account(&ctx, &login("calvin")).await);
    is(ErrorKind::Unavailable, store.set_hash(&ctx, &login("calvin"), &hash("x")).await);
    assert_eq!(other.account(&ctx, &login("calvin")).await.unwrap(), Lookup::NotFound);
    // Who must not begin anew says so.
    redis.restart(Restart::Empty);
    let mut config = RedisStoreConfig::new(redis.url(), PREFIX);
    config.absent = Absent::Refused;
    is(ErrorKind::Misconfigured, RedisStore::connect(info("app"), &config).await);
    assert_eq!(redis.command(&["DBSIZE"]).int(), 0);
    redis.command(&["SET", "{app.}store", "2-of another version"]);
    is(ErrorKind::Misconfigured, connect(&redis.url(), PREFIX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_throws_keys_away_is_refused() {
    if skipped("redis") {
        return;
    }
    let evicting = |policy: &str| RedisOptions {
        max_memory: Some(100 << 20),
        more: vec![format!("maxmemory-policy {policy}")],
        ..RedisOptions::default()
    };
    let redis = Redis::start(&evicting("allkeys-lru"));
    for policy in ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"] {
        redis.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let error = is(ErrorKind::Misconfigured, connect(&redis.url(), PREFIX).await);
        assert!(error.to_string().contains("noeviction"), "{error}");
    }
    assert_eq!(redis.command(&["DBSIZE"]).int(), 0);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    // A server that is so when it comes back is not believed either, nor one that is looked at.
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    is(ErrorKind::Misconfigured, store.look().await);
    redis.command(&["SAVE"]);
    redis.restart(Restart::FromFiles);
    rig::until("the server is found unfit", async || {
        let asked = store.account(&Ctx::new(), &login("calvin")).await;
        assert!(asked.is_err());
        asked.unwrap_err().kind() == ErrorKind::Misconfigured
    })
    .await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.account(&Ctx::new(), &login("calvin")).await.unwrap(), Lookup::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_read_has_a_store_without_a_directory() {
    if skipped("redis") {
        return;
    }
    let keys = format!("~{{{PREFIX}}}*");
    let users = vec![
        format!(
            "reader on >tiger {keys} -@all +select +info +get +hmget +smembers +zscore +zrangebylex +eval +evalsha"
        ),
        format!(
            "writer on >tiger {keys} -@all +select +info +get +hmget +smembers +zscore +zrangebylex +eval +evalsha \
             +set +type +exists +hset +hget +hdel +hkeys +hexists +sadd +srem +sismember +zadd +zrem +del +pexpire"
        ),
        format!("nobody on >tiger {keys} -@all +select +info"),
    ];
    let redis = Redis::start(&RedisOptions { users, ..RedisOptions::default() });
    let url = |user: &str| format!("redis://{user}:tiger@127.0.0.1:{}", redis.port());
    // The README's lists are enough, and no more is needed.
    let writer = connect(&url("writer"), PREFIX).await.unwrap();
    let ctx = Ctx::new();
    suite::load(&*writer.directory().unwrap()).await;
    assert_eq!(writer.leave(&ctx, &login("calvin"), "staff").await.unwrap(), Change::Done);
    assert_eq!(writer.revoke(&ctx, &login("susie"), &object("doc", 1), "read").await.unwrap(), Change::Done);
    writer.delete_object(&ctx, &object("doc", 2)).await.unwrap();
    writer.delete_user(&ctx, &login("moe")).await.unwrap();
    let who = writer.account(&ctx, &login("calvin")).await.unwrap().found().unwrap();
    let (who, old) = (who.principal().clone(), who.hash().unwrap().clone());
    assert!(writer.replace_hash(&ctx, &who, &old, &hash("new")).await.unwrap());
    let reader = connect(&url("reader"), PREFIX).await.unwrap();
    assert!(reader.directory().is_none());
    assert!(!AccountSource::source(&*reader).capabilities().replaces_hash);
    let account = reader.account(&ctx, &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(account.hash(), Some(&hash("new")));
    assert!(matches!(reader.groups_of(&ctx, &who).await.unwrap(), Lookup::Found(_)));
    assert_eq!(reader.access(&ctx, &who, &object("doc", 1), None).await.unwrap(), Access::Allow);
    is(ErrorKind::Unsupported, reader.replace_hash(&ctx, &who, &hash("new"), &old).await);
    is(ErrorKind::Unsupported, reader.add_user(&ctx, &new("newton", &[])).await);
    is(ErrorKind::Misconfigured, connect(&url("nobody"), PREFIX).await);
    is(ErrorKind::Misconfigured, connect(&url("stranger"), PREFIX).await);
    assert_eq!(writer.add_user(&ctx, &new("newton", &[])).await.unwrap(), Change::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_is_spoken_to_over_tls_unless_it_is_said_otherwise() {
    for url in [
        "redis://cache.example",
        "redis://192.0.2.1",
        "redis-cluster://127.0.0.1,cache.example",
        "redis-sentinel://[2001:db8::1]/main",
    ] {
        let error = is(ErrorKind::Misconfigured, connect(url, PREFIX).await);
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_share_requests_and_get_each_their_own() {
    const PEOPLE: usize = 40;
    const ASKERS: usize = 64;
    const TIMES: usize = 50;
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), PREFIX).await.unwrap();
    let directory = store.directory().unwrap();
    let name = |n: usize| format!("person{n}");
    for n in 0..PEOPLE {
        let user = NewUser { login: login(&name(n)), hash: None, groups: vec![format!("group{n}")] };
        assert_eq!(directory.add_user(&Ctx::new(), &user).await.unwrap(), Change::Done);
    }
    redis.command(&["CONFIG", "RESETSTAT"]);
    let ask = |from: usize| {
        let store = Arc::clone(&store);
        async move {
            let ctx = Ctx::new();
            for n in (0..PEOPLE).cycle().skip(from).take(TIMES) {
                let wanted = login(&name(n));
                // Nobody depends on whether another goes on waiting.
                drop(tokio::time::timeout(std::time::Duration::ZERO, store.account(&ctx, &wanted)).await);
                let Lookup::Found(account) = store.account(&ctx, &wanted).await.unwrap() else {
                    panic!("{wanted:?} is nobody")
                };
                assert_eq!(account.principal().shown(), name(n));
                let groups = store.groups_of(&ctx, account.principal()).await.unwrap().found().unwrap();
                assert!(groups.len() == 1 && groups.contains(&format!("group{n}")), "{groups:?}");
                let nobody = login(&format!("nobody{n}"));
                assert!(matches!(store.account(&ctx, &nobody).await.unwrap(), Lookup::NotFound));
            }
        }
    };
    let askers: Vec<_> = (0..ASKERS).map(|n| tokio::spawn(ask(n))).collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let stats = redis.command(&["INFO", "commandstats"]).text();
    let calls = |name: &str| -> usize {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).unwrap();
        line.split(['=', ',']).nth(1).unwrap().parse().unwrap()
    };
    let (requests, questions) = (calls("get"), calls("hmget") + calls("smembers"));
    println!("{requests} requests for {questions} questions");
    assert!(questions >= ASKERS * TIMES * 3, "{questions}");
    assert!(requests < questions / 4, "{requests} of {questions}");

    // A store that is lost is nobody's absence, for none of them.
    redis.command(&["DEL", &format!("{{{PREFIX}}}store")]);
    let lost: Vec<_> = (0..ASKERS)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.account(&Ctx::new(), &login(&name(n))).await })
        })
        .collect();
    for asked in lost {
        assert_eq!(asked.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
