//! What is on the servers of a shared cache, looked at from outside: for how long, and in what words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{CacheKeys, SealKind, Settings, SharedCache, TokenMemory, Ttls};
use auth_core::{
    Access, ByteTier, Clock, Ctx, Directory as _, Fence, Id, Login, Member, NewUser, ObjectRef, Password,
    Reached, Subject, TokenCache, TokenId, TokenState, Verdict,
};
use auth_stack::SystemClock;
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, skipped};
use auth_testkit::suite::Bench;
use auth_testkit::{World, info, object, realm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use common::{PATIENCE, Store, config, reached, ready, until};

/// The lives in seconds: a tenth apart at least, since an entry may be ended a tenth early.
const LIVES: [(&str, u64); 6] =
    [("account", 777), ("unknown", 500), ("groups", 666), ("allow", 444), ("deny", 333), ("not_found", 222)];

fn lives(url: &str) -> String {
    let each: String = LIVES.iter().map(|(kind, life)| format!("{kind} = \"{life}s\"\n")).collect();
    format!(
        "[secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n\
         [cache]\nurl = \"{url}\"\nprefix = \"acme.\"\ntimeout = \"{PATIENCE:?}\"\nconnect_timeout = \"{PATIENCE:?}\"\n\
         [cache.ttl]\n{each}"
    )
}

/// What a server keeps under a name.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kept {
    bytes: usize,
    /// Nothing for what never ends.
    left: Option<Duration>,
}

impl Kept {
    /// A generation is eight random bytes and nothing else.
    const fn is_generation(&self) -> bool {
        self.bytes == 8
    }
}

fn on_redis(redis: &Redis) -> BTreeMap<String, Kept> {
    let names = redis.command(&["KEYS", "*"]);
    let names = names.items().iter().map(|name| name.text());
    let kept = |name: String| {
        let left = u64::try_from(redis.command(&["PTTL", &name]).int()).ok().map(Duration::from_millis);
        let bytes = usize::try_from(redis.command(&["STRLEN", &name]).int()).unwrap();
        (name, Kept { bytes, left })
    };
    names.map(kept).collect()
}

fn on_memcached(memcached: &Memcached) -> BTreeMap<String, Kept> {
    // The listing takes a connection of its own: what is asked behind it is not answered.
    let mut wire = TcpStream::connect(("127.0.0.1", memcached.port())).unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    wire.write_all(b"lru_crawler metadump all\r\n").unwrap();
    let mut listed = String::new();
    let mut wire = BufReader::new(wire);
    while !listed.ends_with("END\r\n") {
        assert!(wire.read_line(&mut listed).unwrap() > 0, "{listed}");
    }
    let names = listed.lines().filter_map(|line| line.strip_prefix("key=")?.split(' ').next());
    let kept = |name: &str| {
        // `HD t776 s93`: seconds, and the length of the value.
        let told = memcached.command(format!("mg {name} t s"));
        let of = |flag: char| told.split_whitespace().find_map(|word| word.strip_prefix(flag));
        let left = of('t').unwrap().parse().ok().map(Duration::from_secs);
        (name.to_owned(), Kept { bytes: of('s').unwrap().parse().unwrap(), left })
    };
    names.map(kept).collect()
}

/// How long what entries depend on is kept at most: twice the longest life and a minute, and where it is renewed only
/// when it gets short, a quarter more.
fn kept_at_most(longest: Duration) -> Duration {
    (longest * 2 + Duration::from_secs(60)) * 5 / 4 + Duration::from_secs(5)
}

/// Asks one question of each kind, and looks what each has brought to the server.
async fn check_lives(kind: &str, url: &str, look: &(dyn Fn() -> BTreeMap<String, Kept> + Sync)) {
    let folder = tempfile::tempdir().unwrap();
    let text = config(Store::Memory, "kind = \"memory\"\n", false, &folder) + &lives(url);
    let stack = ready(&text, kind).await;
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let login = |text| Login::parse(realm.id(), text).unwrap();
    let mut before = look();
    assert_eq!(before, BTreeMap::new());
    let longest = Duration::from_secs(777);
    for (what, life) in LIVES {
        let susie = World::user("susie").login_in(realm.id());
        let who = || Bench::new(realm.id()).issued_by("app").principal(&info("app"), World::user("calvin"));
        match what {
            "account" => assert!(realm.account(&ctx, &susie).await.unwrap().found().is_some()),
            "unknown" => assert!(realm.account(&ctx, &login("nobody")).await.unwrap().found().is_none()),
            "groups" => assert_eq!(realm.groups(&ctx, &who()).await.unwrap().len(), 2),
            _ => {
                let (object, mode, access) = match what {
                    "allow" => (object("doc", 1), "read", Access::Allow),
                    "deny" => (object("doc", 1), "fly", Access::Deny),
                    _ => (object("doc", 3), "read", Access::NotFound),
                };
                assert_eq!(realm.access(&ctx, &who(), &object, Some(mode)).await.unwrap(), access);
            }
        }
        let mut after = BTreeMap::new();
        let fresh = |after: &BTreeMap<String, Kept>| -> Vec<Kept> {
            let fresh = after.iter().filter(|(name, _)| !before.contains_key(*name));
            fresh.map(|(_, kept)| *kept).filter(|kept| !kept.is_generation()).collect()
        };
        until("it is kept", || {
            after = look();
            !fresh(&after).is_empty()
        })
        .await;
        let fresh = fresh(&after);
        assert_eq!(fresh.len(), 1, "{what}: {fresh:?}");
        let (left, life) = (fresh[0].left.unwrap(), Duration::from_secs(life));
        // Jitter takes a tenth at most; the test some seconds.
        assert!(
            left <= life && left + Duration::from_secs(10) >= life * 9 / 10,
            "{what}: {left:?} of {life:?}"
        );
        // A listing of memcached may leave out what is moved meanwhile.
        before.extend(after);
    }
    let kept = before;
    assert_eq!(kept.values().filter(|kept| !kept.is_generation()).count(), LIVES.len());
    assert!(kept.values().filter(|kept| kept.is_generation()).count() >= 5, "{kept:?}");
    for (name, kept) in kept {
        let left = kept.left.unwrap_or_else(|| panic!("{name} never ends"));
        assert!(name.starts_with("acme."), "{name}");
        // What entries depend on outlives them all, and ends too.
        let most = kept_at_most(longest);
        assert!(!kept.is_generation() || (left > longest && left <= most), "{name}: {left:?}");
    }
}

// FlaskSimpleAuth 36 keeps everything in Redis for 600 s, whatever is configured, and in memcached for ever.

#[tokio::test]
async fn each_kind_of_answer_lives_in_redis_for_as_long_as_is_configured_for_it() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    check_lives("redis", &redis.url(), &|| on_redis(&redis)).await;
}

#[tokio::test]
async fn each_kind_of_answer_lives_in_memcached_for_as_long_as_is_configured_for_it() {
    if skipped("memcached") {
        return;
    }
    let memcached = Memcached::start(&MemcachedOptions::default());
    check_lives("memcached", &memcached.url(), &|| on_memcached(&memcached)).await;
}

#[tokio::test]
async fn a_life_of_more_than_thirty_days_is_no_date_to_memcached() {
    if skipped("memcached") {
        return;
    }
    let memcached = Memcached::start(&MemcachedOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let text = config(Store::Memory, "kind = \"memory\"\n", false, &folder)
        + &lives(&memcached.url()).replace("account = \"777s\"", "account = \"40d\"");
    let stack = ready(&text, "memcached").await;
    let realm = stack.realm("default").unwrap();
    let calvin = World::user("calvin").login_in(realm.id());
    realm.account(&Ctx::new(), &calvin).await.unwrap();
    until("it is kept", || on_memcached(&memcached).values().any(|kept| !kept.is_generation())).await;
    let day = Duration::from_secs(24 * 3600);
    for (name, kept) in on_memcached(&memcached) {
        let left = kept.left.unwrap();
        let (least, most) = if kept.is_generation() {
            (day * 80, kept_at_most(day * 40))
        } else {
            (day * 36 - day / 2, day * 40)
        };
        assert!(left > least && left <= most, "{name}: {left:?}");
    }
}

/// A cache of tokens that shares them over a Redis, for 111 s.
async fn tokens_over(redis: &Redis) -> (TokenMemory, Arc<Fence>, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut config = RedisConfig::new(redis.url(), "acme.");
    config.timeout = PATIENCE;
    let tier = Arc::new(RedisTier::new(&config).unwrap());
    reached(|| tier.probe()).await;
    let keys = CacheKeys::new("acme.", [("a".to_owned(), vec![7; 32])]).unwrap();
    let shared = SharedCache::new(tier, &keys, SealKind::default(), Arc::clone(&clock)).unwrap();
    let ttls = Ttls { token: Duration::from_secs(111), ..Ttls::default() };
    let settings = Settings::default().with_ttls(ttls).with_shared(Arc::new(shared));
    let fence = Arc::new(Fence::new());
    let memory = TokenMemory::new("default", Arc::clone(&fence), Arc::clone(&clock), &settings);
    (memory, fence, clock)
}

#[tokio::test]
async fn a_token_lives_in_redis_for_as_long_as_is_configured_and_never_past_its_own_end() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let (memory, fence, clock) = tokens_over(&redis).await;
    let principal = Bench::new(&realm()).principal(&info("tokens"), World::user("calvin"));
    let ctx = Ctx::new();
    let mut seen = 0;
    // When the token ends, what its caller says, and the least of them and of what is configured.
    for (n, ends, said, life) in [(1, 600, 600, 111), (2, 600, 77, 77), (3, 44, 600, 44)] {
        let seconds = Duration::from_secs;
        let (id, expires_at) = (TokenId::new([n; 32]), clock.wall() + seconds(ends));
        let state = Arc::new(TokenState {
            principal: principal.clone(),
            scopes: ["read"].into_iter().collect(),
            expires_at,
            claims: None,
        });
        memory.get(&ctx, &id).await.unwrap();
        let watch = fence.watch(clock.now());
        memory.put(&ctx, &id, &state, seconds(said), watch).await.unwrap();
        let kept = on_redis(&redis);
        assert!(kept.iter().all(|(name, kept)| name.starts_with("acme.") && kept.left.is_some()), "{kept:?}");
        let entries: Vec<_> = kept.values().filter(|kept| !kept.is_generation()).collect();
        seen += 1;
        assert_eq!(entries.len(), seen, "{kept:?}");
        let is_it = |kept: &&Kept| {
            let left = kept.left.unwrap();
            left <= seconds(life) && left + seconds(10) >= seconds(life)
        };
        assert_eq!(entries.into_iter().filter(|kept| is_it(kept)).count(), 1, "{life} s: {kept:?}");
    }
}

/// A secret in the forms in which it could be found: as it is, in hex, and in base64 wherever it begins.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex];
    for skipped in 0..3 {
        let padded = [vec![b' '; skipped], secret.as_bytes().to_vec()].concat();
        let text = STANDARD_NO_PAD.encode(padded);
        // Without what depends on what stands beside it.
        let whole = text[(skipped * 8).div_ceil(6)..(skipped + secret.len()) * 8 / 6].to_owned();
        forms.push(whole.replace('+', "-").replace('/', "_"));
        forms.push(whole);
    }
    forms
}

fn check_silent(what: &str, told: &[u8], secrets: &[&str]) {
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        let found = told.windows(form.len()).any(|part| part == form.as_bytes());
        assert!(!found, "{form} is in {what}: {}", String::from_utf8_lossy(told));
    }
}

#[tokio::test]
async fn nothing_that_is_kept_or_sent_names_anybody_and_nobody_elses_keys_are_touched() {
    if skipped("redis") {
        return;
    }
    for kind in ["redis", "tiered"] {
        let more = vec!["rdbcompression no".to_owned()];
        let redis = Redis::start(&RedisOptions { more, ..RedisOptions::default() });
        redis.command(&["SET", "other.app", "theirs"]);
        redis.command(&["SET", "acm", "theirs too"]);
        let mut monitor = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        monitor.write_all(b"MONITOR\r\n").unwrap();
        let mut sent = BufReader::new(monitor.try_clone().unwrap());
        let mut line = String::new();
        sent.read_line(&mut line).unwrap();
        assert_eq!(line, "+OK\r\n");
        let sent = std::thread::spawn(move || {
            let mut all = Vec::new();
            sent.read_to_end(&mut all).map(|_| all)
        });

        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("app.db").display());
        let text = format!(
            "[source.app]\nkind = \"sql\"\nurl = \"{url}\"\n[realm.default]\npassword = [\"app\"]\n\
             groups = [\"app\"]\nobjects = {{ \"*\" = \"app\" }}\n{}",
            lives(&redis.url())
        );
        let (login, nobody, group) = ("canary-login-4711", "canary-nobody-4712", "canary-group-4713");
        let (domain, id, mode) = ("canary-domain-4714", "canary-object-4715", "canary-mode-4716");
        let password = "canary-password-4717";
        let (first, second) = (ready(&text, kind).await, ready(&text, kind).await);
        let (ctx, realm) = (Ctx::new(), Arc::clone(first.realm("default").unwrap()));
        let calvin = Login::parse(realm.id(), login).unwrap();
        let clear = Password::new(password.as_bytes().to_vec()).unwrap();
        let hash = first.hasher().make(&ctx, &clear).await.unwrap();
        let hash_text = hash.as_str().to_owned();
        let user = NewUser { login: calvin.clone(), hash: Some(hash), groups: vec![group.to_owned()] };
        let directory = first.directory("default").unwrap();
        directory.add_user(&ctx, &user).await.unwrap();
        let object = ObjectRef::new(domain, [Id::text(id)]).unwrap();
        directory.add_object(&ctx, &object).await.unwrap();
        directory.grant(&ctx, &calvin, &object, mode).await.unwrap();
        for subject in
            [Subject::Login(&calvin), Subject::Object { realm: realm.id(), object: &object }, Subject::All]
        {
            for stack in [&first, &second] {
                let realm = stack.realm("default").unwrap();
                let attempt = |login: &'static str, password: &str| {
                    realm.attempt(&ctx, login, password.as_bytes().to_vec())
                };
                assert!(matches!(attempt(login, password).await.unwrap(), Verdict::Accepted(_)));
                assert!(matches!(attempt(login, nobody).await.unwrap(), Verdict::Rejected(_)));
                assert!(matches!(attempt(nobody, password).await.unwrap(), Verdict::Rejected(_)));
                let who = realm.principal(&ctx, &calvin).await.unwrap().found().unwrap();
                assert_eq!(realm.is_member(&ctx, &who, group).await.unwrap(), Member::Yes);
                let access = realm.access(&ctx, &who, &object, Some(mode)).await.unwrap();
                assert_eq!(access, Access::Allow);
            }
            first.flush(&subject);
            assert_eq!(first.settle().await, Reached::Everything);
        }
        let realm = second.realm("default").unwrap();
        assert!(realm.account(&ctx, &calvin).await.unwrap().found().is_some());
        until("it is kept", || on_redis(&redis).values().any(|kept| !kept.is_generation())).await;

        // A token of that person, too.
        let (token, scope) = ("canary-token-4718-of-32-bytes-now", "canary-scope-4719");
        let (memory, fence, clock) = tokens_over(&redis).await;
        let token_id = TokenId::new(*token.as_bytes().first_chunk().unwrap());
        let state = Arc::new(TokenState {
            principal: second
                .realm("default")
                .unwrap()
                .principal(&ctx, &calvin)
                .await
                .unwrap()
                .found()
                .unwrap(),
            scopes: [scope].into_iter().collect(),
            expires_at: clock.wall() + Duration::from_secs(600),
            claims: None,
        });
        let before = on_redis(&redis).len();
        memory.get(&ctx, &token_id).await.unwrap();
        let watch = fence.watch(clock.now());
        memory.put(&ctx, &token_id, &state, Duration::from_secs(600), watch).await.unwrap();
        assert!(on_redis(&redis).len() > before, "the token is kept");

        let token = &token[..32];
        let secrets = [login, nobody, group, domain, id, mode, password, &hash_text, token, scope];
        for name in on_redis(&redis).into_keys().filter(|name| name.starts_with("acme.")) {
            check_silent("a name", name.as_bytes(), &secrets);
            check_silent("an entry", redis.command(&["GET", &name]).bytes().unwrap(), &secrets);
            check_silent("a dump", redis.command(&["DUMP", &name]).bytes().unwrap(), &secrets);
        }
        monitor.shutdown(std::net::Shutdown::Both).unwrap();
        let sent = sent.join().unwrap().unwrap();
        let commands = String::from_utf8_lossy(&sent);
        assert!(
            commands.contains("acme.") && (kind != "tiered" || commands.contains("\"PUBLISH\"")),
            "{commands}"
        );
        check_silent("what was sent", &sent, &secrets);
        // What this test has asked itself came over the socket, as a user of its own.
        for line in commands.lines().filter(|line| !line.contains(" unix:")).map(str::to_uppercase) {
            let whole = ["KEYS", "SCAN", "FLUSHALL", "FLUSHDB"].map(|word| format!("\"{word}\""));
            assert!(!whole.iter().any(|word| line.contains(word)), "{line}");
        }
        for (name, value) in [("other.app", "theirs"), ("acm", "theirs too")] {
            assert_eq!(redis.command(&["GET", name]).text(), value);
            assert_eq!(redis.command(&["PTTL", name]).int(), -1);
        }
    }
}
