//! What goes wrong with a server that keeps people, and how that looks: nothing is lost, nothing done twice, and no
//! failure reads as an answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth_core::{
    Access, AccountSource, Change, Ctx, Directory, ErrorKind, GroupOracle, Id, LoginRule, Lookup, NewUser,
    ObjectPerms, ObjectRef,
};
use auth_store_redis::{RedisStore, RedisStoreConfig};
use auth_testkit::servers::{
    Certs, ClientCerts, Redis, RedisOptions, RedisSentinel, RedisTls, Restart, skipped, stopwatch,
};
use auth_testkit::{Proxy, Way, hash, info, login, object, realm, realm_with};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const PREFIX: &str = "app.";

fn config(url: &str, timeout: u64) -> RedisStoreConfig {
    let mut config = RedisStoreConfig::new(url, PREFIX);
    config.redis.timeout = Duration::from_millis(timeout);
    config.redis.connect_timeout = Duration::from_secs(2);
    config
}

async fn connect(url: &str, timeout: u64) -> Arc<RedisStore> {
    Arc::new(RedisStore::connect(info("app"), &config(url, timeout)).await.unwrap())
}

fn plain() -> Redis {
    Redis::start(&RedisOptions::default())
}

/// Keeps everything that it has said it has.
fn durable() -> Redis {
    let more = vec!["appendonly yes".to_owned(), "appendfsync always".to_owned()];
    Redis::start(&RedisOptions { more, ..RedisOptions::default() })
}

fn new(text: &str, groups: &[&str]) -> NewUser {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    NewUser { login: login(text), hash: Some(hash("$2b$04$x")), groups }
}

async fn kind(store: &RedisStore) -> ErrorKind {
    store.account(&Ctx::new(), &login("calvin")).await.expect_err("the server is ill").kind()
}

/// Asks until there is an answer. Until then there must be none.
async fn recovered(store: &RedisStore) -> Duration {
    rig::until("the store answers again", async || match store.account(&Ctx::new(), &login("calvin")).await {
        Ok(found) => {
            assert!(matches!(found, Lookup::Found(_)), "calvin was there all the time");
            true
        }
        Err(error) => {
            assert!(error.kind().is_temporary(), "{error:?}");
            false
        }
    })
    .await
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The reply comes after the limit, when it was sent again already.
    Late,
    /// The reply is gone, and the connection with it.
    Connection,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_reply_is_lost_is_not_done_twice_and_its_first_answer_is_told() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let store = connect(&format!("redis://{}", proxy.address()), 400).await;
    let (ctx, page) = (Ctx::new(), ObjectRef::new("page", [Id::from("a"), Id::from("b")]).unwrap());
    let runs = || {
        let stats = redis.command(&["INFO", "commandstats"]).text();
        let calls = |line: &str| line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap();
        stats.lines().filter(|line| line.starts_with("cmdstat_eval")).map(calls).sum::<u64>()
    };
    for loss in [Loss::Late, Loss::Connection] {
        let text = format!("user{loss:?}").to_lowercase();
        let (text, user) = (text.as_str(), new(text.as_str(), &["staff"]));
        let doc = object("doc", if matches!(loss, Loss::Late) { 1 } else { 2 });
        type Step<'a> =
            (&'a str, Box<dyn Fn() -> futures_util::future::BoxFuture<'a, auth_core::Result<Change>> + 'a>);
        let (store, ctx, page) = (&store, &ctx, &page);
        let who = login(text);
        let who = &who;
        let (user, doc) = (&user, &doc);
        let disabled = auth_core::StateChange { disabled: Some(true), ..Default::default() };
        let disabled = &disabled;
        let fresh = hash("$2b$04$fresh");
        let fresh = &fresh;
        let steps: Vec<Step<'_>> = vec![
            ("add_user", Box::new(move || store.add_user(ctx, user))),
            ("set_hash", Box::new(move || store.set_hash(ctx, who, fresh))),
            ("set_state", Box::new(move || store.set_state(ctx, who, disabled))),
            ("join", Box::new(move || store.join(ctx, who, "club"))),
            ("leave", Box::new(move || store.leave(ctx, who, "club"))),
            ("add_object", Box::new(move || store.add_object(ctx, doc))),
            ("add another", Box::new(move || store.add_object(ctx, page))),
            ("grant", Box::new(move || store.grant(ctx, who, doc, "read"))),
            ("revoke", Box::new(move || store.revoke(ctx, who, doc, "read"))),
            ("delete_object", Box::new(move || store.delete_object(ctx, page))),
            ("delete_user", Box::new(move || store.delete_user(ctx, who))),
        ];
        for (name, step) in steps {
            let before = runs();
            proxy.hold(Way::ToClient);
            let seen = async {
                let times = if matches!(loss, Loss::Late) { 2 } else { 1 };
                rig::until("the script has run", async || runs() >= before + times).await;
                if let Loss::Connection = loss {
                    proxy.reset();
                }
                proxy.heal();
            };
            let (done, ()) = futures_util::future::join(step(), seen).await;
            assert_eq!(done.unwrap(), Change::Done, "{name} after {loss:?}");
            assert!(runs() >= before + 2, "{name} was sent again");
        }
    }
    assert_eq!(redis.command(&["ZCARD", "{app.}users"]).int(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_replaced_once_though_the_reply_was_lost() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let store = connect(&format!("redis://{}", proxy.address()), 400).await;
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &[])).await.unwrap();
    let account = store.account(&ctx, &login("calvin")).await.unwrap().found().unwrap();
    let (old, next) = (account.hash().unwrap().clone(), hash("$2b$04$y"));
    proxy.hold(Way::ToClient);
    let replaced = store.replace_hash(&ctx, account.principal(), &old, &next);
    let stored = || redis.command(&["HGET", "{app.}user:calvin", "hash"]).text();
    let meanwhile = async {
        rig::until("it is replaced", async || stored() == "$2b$04$y").await;
        // Somebody sets another one, which what is sent again must not undo.
        redis.command(&["HSET", "{app.}user:calvin", "hash", "$2b$04$x"]);
        proxy.reset();
        proxy.heal();
    };
    let (replaced, ()) = futures_util::future::join(replaced, meanwhile).await;
    assert!(replaced.unwrap(), "the first answer");
    assert_eq!(stored(), "$2b$04$x", "done once");
    // After that many losses it says that it does not know.
    proxy.hold(Way::ToClient);
    let error = store.join(&ctx, &login("calvin"), "club").await.unwrap_err();
    assert!(error.kind().is_temporary(), "{error:?}");
    proxy.heal();
    rig::until("it answers again", async || store.groups(&ctx).await.is_ok_and(|all| all == ["club"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_as_done_is_there_after_a_kill() {
    if skipped("redis") {
        return;
    }
    let redis = durable();
    let store = connect(&redis.url(), 1_000).await;
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &["staff"])).await.unwrap();
    let who = store.account(&ctx, &login("calvin")).await.unwrap().found().unwrap().principal().clone();
    for round in 0..3 {
        // Writes go on while it dies.
        let done = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                for n in 0..10_000 {
                    let text = format!("user{round}-{n}");
                    match store.add_user(&Ctx::new(), &new(&text, &["staff"])).await {
                        Ok(Change::Done) => done.lock().unwrap().push(text),
                        Ok(other) => panic!("{text} is new: {other:?}"),
                        Err(error) => {
                            assert!(error.kind().is_temporary(), "{error:?}");
                            return;
                        }
                    }
                }
            })
        };
        rig::until("some are written", async || done.lock().unwrap().len() > 20).await;
        redis.kill();
        writer.await.unwrap();
        assert_eq!(kind(&store).await, ErrorKind::Unavailable);
        redis.restart(Restart::FromFiles);
        recovered(&store).await;
        let done = std::mem::take(&mut *done.lock().unwrap());
        for text in done {
            let found = store.user(&ctx, &login(&text)).await.unwrap();
            assert!(matches!(found, Lookup::Found(_)), "{text} was told as added");
        }
        assert!(store.groups_of(&ctx, &who).await.unwrap().found().unwrap().contains("staff"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_came_back_empty_is_no_answer() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), 500).await;
    store.add_user(&Ctx::new(), &new("calvin", &[])).await.unwrap();
    redis.restart(Restart::Empty);
    let began = stopwatch();
    while began.elapsed() < Duration::from_millis(1_500) {
        let kind = kind(&store).await;
        assert!(kind.is_temporary(), "{kind:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_slow_server_costs_the_limit_and_comes_back() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let store = connect(&format!("redis://{}", proxy.address()), 200).await;
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &[])).await.unwrap();
    redis.stop_signal();
    for _ in 0..5 {
        let began = stopwatch();
        assert!(kind(&store).await.is_temporary());
        assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    }
    let began = stopwatch();
    let error = store.add_user(&ctx, &new("susie", &[])).await.unwrap_err();
    assert!(error.kind().is_temporary(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "three limits: {:?}", began.elapsed());
    redis.cont_signal();
    recovered(&store).await;
    // What it was sent meanwhile was done once or not at all.
    let found = store.user(&ctx, &login("susie")).await.unwrap();
    let again = store.add_user(&ctx, &new("susie", &[])).await.unwrap();
    assert_eq!(again == Change::Unchanged, matches!(found, Lookup::Found(_)), "{found:?} {again:?}");
    proxy.delay(Duration::from_millis(300));
    assert!(kind(&store).await.is_temporary());
    proxy.heal();
    recovered(&store).await;
    proxy.cut();
    rig::until("the loss is known", async || kind(&store).await == ErrorKind::Unavailable).await;
    let began = stopwatch();
    assert_eq!(kind(&store).await, ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_millis(200), "at once: {:?}", began.elapsed());
    proxy.heal();
    recovered(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_a_full_server_and_one_that_can_not_save_take_no_change() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let store = connect(&redis.url(), 1_000).await;
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &[])).await.unwrap();
    let add = async || store.add_user(&ctx, &new("susie", &["staff"])).await.expect_err("it can't write");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(add().await.kind(), ErrorKind::Unavailable);
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(add().await.kind(), ErrorKind::Overloaded);
    assert!(store.account(&ctx, &login("calvin")).await.is_ok(), "reading goes on");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    // Of a master that is not there.
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = add().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("replica"), "{error:?}");
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    recovered(&store).await;
    assert_eq!(store.user(&ctx, &login("susie")).await.unwrap(), Lookup::NotFound, "nothing of it");
    assert!(store.groups(&ctx).await.unwrap().is_empty());
    assert_eq!(store.add_user(&ctx, &new("susie", &["staff"])).await.unwrap(), Change::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_the_configuration_and_is_never_shown() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions { password: Some("tiger".into()), ..RedisOptions::default() });
    let wrong = format!("redis://:hunter2@127.0.0.1:{}", redis.port());
    let error = RedisStore::connect(info("app"), &config(&wrong, 500)).await.unwrap_err();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Misconfigured, Some("app")));
    assert!(!format!("{error:?} {:?}", config(&wrong, 500)).contains("hunter2"), "{error:?}");
    let store = connect(&redis.url(), 500).await;
    store.add_user(&Ctx::new(), &new("calvin", &[])).await.unwrap();
    assert!(!format!("{store:?}").contains("tiger"));
    redis.command(&["CONFIG", "SET", "requirepass", "lion"]);
    redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    rig::until("the password is refused", async || kind(&store).await == ErrorKind::Misconfigured).await;
    redis.command(&["CONFIG", "SET", "requirepass", "tiger"]);
    rig::until("it answers", async || store.account(&Ctx::new(), &login("calvin")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_spoken_to_over_tls() {
    if skipped("redis") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Unasked, wrong_name: false };
    let redis = Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() });
    let mut trusting = config(&redis.url(), 1_000);
    trusting.redis.tls.ca = Some(std::fs::read(certs.ca()).unwrap());
    let store = RedisStore::connect(info("app"), &trusting).await.unwrap();
    assert_eq!(store.add_user(&Ctx::new(), &new("calvin", &[])).await.unwrap(), Change::Done);
    assert!(RedisStore::connect(info("app"), &config(&redis.url(), 1_000)).await.is_err(), "not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_follows_the_sentinels_to_the_next_master() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let store = connect(&set.url(), 1_000).await;
    let ctx = Ctx::new();
    store.add_user(&ctx, &new("calvin", &["staff"])).await.unwrap();
    rig::until("the replica has it", async || {
        set.replica().command(&["EXISTS", "{app.}user:calvin"]).int() == 1
    })
    .await;
    set.master().kill();
    recovered(&store).await;
    rig::until("it is written to", async || store.join(&ctx, &login("calvin"), "club").await.is_ok()).await;
    assert_eq!(store.groups(&ctx).await.unwrap(), ["club", "staff"]);
}

/// Hears every command that a server runs.
struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
    stream: TcpStream,
}

impl Monitor {
    fn start(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        assert_eq!(first.trim_end(), "+OK");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { lines, stream }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// Reads a line of MONITOR: whether a script ran it, and the words.
fn words(line: &str) -> (bool, Vec<String>) {
    let (front, mut rest) = line.split_once("] ").unwrap();
    let mut words = Vec::new();
    while let Some(text) = rest.trim_start().strip_prefix('"') {
        let mut end = None;
        let mut escaped = false;
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end.expect("a closed word");
        words.push(text[..end].to_owned());
        rest = &text[end + 1..];
    }
    (front.ends_with("lua"), words)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_group_id_mode_or_hash_makes_the_server_run_anything_else() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    redis.command(&["SET", "canary", "alive"]);
    redis.command(&["SET", "{other.}user:calvin", "alive"]);
    let store = connect(&redis.url(), 5_000).await;
    let exact = realm_with("exact", LoginRule::Exact);
    // So that every script is known.
    auth_testkit::suite::load(&*store).await;
    let monitor = Monitor::start(redis.port());
    let mut runner = TestRunner::deterministic();
    let fragment = proptest::prop_oneof![
        "\\PC{1,12}",
        proptest::sample::select(vec![
            "' OR 1=1",
            "*",
            "?",
            "[a-z]",
            "{other.}",
            "}",
            "\\",
            "\"",
            "\\r\\nFLUSHALL\\r\\n",
            "$8 FLUSHALL",
            "]] redis.call('FLUSHALL') --",
            "'..redis.call('FLUSHALL')..'",
            "%s%n",
            "0 KEYS *",
            "(a",
            "[a",
            "+",
            "-",
            "user:calvin",
            ",",
            ":",
            "\u{202e}",
        ])
        .prop_map(str::to_owned),
    ];
    let text = proptest::collection::vec(fragment, 1..4).prop_map(|parts| parts.concat());
    let mut sample = || text.new_tree(&mut runner).unwrap().current();
    let ctx = Ctx::new();
    let mut tried = 0;
    while tried < 150 {
        let Ok(who) = auth_core::Login::parse(&exact, &sample()) else { continue };
        let (group, mode, domain) = (sample(), sample(), sample());
        let Ok(object) = ObjectRef::new(&domain, [Id::text(&sample()), Id::text(&sample())]) else {
            continue;
        };
        tried += 1;
        let any = hash(&format!("{}\r\nFLUSHALL\r\n*1\r\n$8\r\nFLUSHALL\r\n", sample()));
        let user = NewUser { login: who.clone(), hash: Some(any.clone()), groups: vec![group.clone()] };
        let added = store.add_user(&ctx, &user).await.unwrap();
        let account = store.account(&ctx, &who).await.unwrap().found().expect("who was added is there");
        let person = account.principal().clone();
        if added == Change::Done {
            assert_eq!(account.hash(), Some(&any));
        }
        let groups = store.groups_of(&ctx, &person).await.unwrap().found().unwrap();
        assert!(added == Change::Unchanged || (groups.len() == 1 && groups.contains(&group)), "{groups:?}");
        store.add_object(&ctx, &object).await.unwrap();
        store.grant(&ctx, &who, &object, &mode).await.unwrap();
        assert_eq!(store.access(&ctx, &person, &object, Some(&mode)).await.unwrap(), Access::Allow);
        let other = format!("{mode}x");
        assert_ne!(store.access(&ctx, &person, &object, Some(&other)).await.unwrap(), Access::NotFound);
        store.users(&ctx, &exact, Some(who.as_str()), 3).await.unwrap();
        store.revoke(&ctx, &who, &object, &mode).await.unwrap();
        store.leave(&ctx, &who, &group).await.unwrap();
        if tried % 3 == 0 {
            store.delete_object(&ctx, &object).await.unwrap();
            store.delete_user(&ctx, &who).await.unwrap();
        }
    }
    store.users(&ctx, &realm(), None, 5).await.unwrap();
    let end = || monitor.lines.lock().unwrap().iter().any(|line| line.contains("the end"));
    redis.command(&["ECHO", "the end"]);
    rig::until("all is heard", async || end()).await;
    let lines = std::mem::take(&mut *monitor.lines.lock().unwrap());
    assert!(lines.len() > 3_000, "{}", lines.len());
    let ours =
        ["get", "hmget", "smembers", "zscore", "zrangebylex", "evalsha", "eval", "info", "echo", "auth"];
    let in_scripts = [
        "get",
        "set",
        "type",
        "exists",
        "hset",
        "hget",
        "hmget",
        "hdel",
        "hkeys",
        "hexists",
        "sadd",
        "srem",
        "smembers",
        "sismember",
        "zadd",
        "zrem",
        "zscore",
        "del",
    ];
    let mut scripts = std::collections::BTreeSet::new();
    for line in &lines {
        let (in_script, words) = words(line);
        let name = words[0].to_lowercase();
        let known: &[&str] = if in_script { &in_scripts } else { &ours };
        assert!(known.contains(&name.as_str()), "{line}");
        match name.as_str() {
            "info" | "echo" | "auth" => {}
            "evalsha" | "eval" => {
                scripts.insert(words[1].clone());
                let keys: usize = words[2].parse().unwrap();
                assert!(words[3..3 + keys].iter().all(|key| key.starts_with("{app.}")), "{line}");
            }
            _ => assert!(words[1].starts_with("{app.}"), "{line}"),
        }
    }
    assert!(scripts.len() <= 20, "only the crate's own scripts: {}", scripts.len());
    assert_eq!(redis.command(&["GET", "canary"]).text(), "alive");
    assert_eq!(redis.command(&["GET", "{other.}user:calvin"]).text(), "alive");
    let strangers = redis.command(&["KEYS", "*"]);
    let strangers = strangers.items().iter().map(auth_testkit::servers::Reply::text);
    assert_eq!(strangers.filter(|key| !key.starts_with("{app.}")).count(), 2, "nothing beside the store");
}
