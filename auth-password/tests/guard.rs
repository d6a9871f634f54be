//! The guard against guessing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, Attempt, Begun, Clock, Count, Counters, Ctx, Error, ErrorKind, Id, Login, Lookup, Password,
    PasswordSource, Reject, Result, Settled, SourceInfo, Verdict,
};
use auth_password::{Guard, GuardConfig, Guarded, LocalCounters};
use auth_testkit::{ManualClock, info, login, password, principal_at};

const HOME: &str = "192.0.2.7";
const ELSEWHERE: &str = "198.51.100.9";

/// Accepts `hobbes`, and what it is told to fail or refuse with.
#[derive(Debug)]
struct Store {
    info: SourceInfo,
    asked: AtomicU64,
    says: Mutex<Says>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Truth,
    Fails,
    /// One source has refused the password, and another one failed.
    RefusesAndFails,
    Disabled,
    Hangs,
}

#[async_trait]
impl PasswordSource for Store {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let fails = || Error::new(ErrorKind::Unavailable, "down");
        let says = *self.says.lock().unwrap();
        match says {
            Says::Truth if password.as_bytes() == b"hobbes" => {
                return Ok(Verdict::Accepted(principal_at("app", login.as_str(), Id::from(1))));
            }
            Says::Truth => return Ok(Verdict::Rejected(Reject::BadPassword)),
            Says::Fails => return Err(fails()),
            Says::RefusesAndFails => {
                ctx.note_no();
                return Err(fails());
            }
            Says::Disabled => return Ok(Verdict::Rejected(Reject::Disabled)),
            Says::Hangs => {}
        }
        std::future::pending().await
    }

    async fn account(&self, _ctx: &Ctx, _login: &Login) -> Result<Lookup<Account>> {
        Ok(Lookup::NotFound)
    }

    /// Recalls `hobbes`.
    fn peek_verify(&self, _ctx: &Ctx, login: &Login, password: &Password) -> Option<Verdict> {
        (password.as_bytes() == b"hobbes")
            .then(|| Verdict::Accepted(principal_at("app", login.as_str(), Id::from(1))))
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    guard: Arc<Guard>,
    guarded: Guarded<Store>,
}

impl Rig {
    /// Three wrong passwords are free for a login from a network, six from a network, nine for a login.
    fn new() -> Self {
        Self::waiting_for(Duration::ZERO)
    }

    fn waiting_for(patience: Duration) -> Self {
        let clock = ManualClock::new();
        let guard = Guard::new(small(patience), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self::over(clock, guard)
    }

    fn over(clock: Arc<ManualClock>, guard: Guard) -> Self {
        let (asked, says) = (AtomicU64::new(0), Mutex::new(Says::Truth));
        let store = Arc::new(Store { info: info("app"), asked, says });
        let guard = Arc::new(guard);
        let guarded = Guarded::new(Arc::clone(&store), Arc::clone(&guard));
        Self { clock, store, guard, guarded }
    }

    fn says(&self, says: Says) {
        *self.store.says.lock().unwrap() = says;
    }

    async fn try_from(&self, client: &str, who: &str, text: &str) -> Result<Verdict> {
        self.guarded.verify(&from(client), &login(who), &password(text)).await
    }

    async fn wrong(&self, client: &str, who: &str, texts: std::ops::Range<u32>) {
        for text in texts {
            let verdict = self.try_from(client, who, &format!("guess {text}")).await.unwrap();
            assert_eq!(verdict, Verdict::Rejected(Reject::BadPassword), "{who} from {client}, guess {text}");
        }
    }

    /// Asserts that an attempt is told to come back after so many seconds, and that the store is not asked.
    async fn waits(&self, client: &str, who: &str, text: &str, seconds: u64) {
        let asked = self.store.asked.load(Ordering::SeqCst);
        let error = self.try_from(client, who, text).await.unwrap_err();
        assert_eq!((error.kind(), error.wait()), (ErrorKind::Throttled, Some(Duration::from_secs(seconds))));
        assert_eq!(self.store.asked.load(Ordering::SeqCst), asked, "the store was asked");
    }

    async fn right(&self, client: &str, who: &str) {
        assert!(matches!(self.try_from(client, who, "hobbes").await, Ok(Verdict::Accepted(_))));
    }
}

fn small(patience: Duration) -> GuardConfig {
    let mut config = GuardConfig { patience, ..GuardConfig::default() };
    (config.pair.free, config.network.free, config.login.free) = (3, 6, 9);
    config
}

fn from(client: &str) -> Ctx {
    Ctx::new().with_client(client.parse::<IpAddr>().unwrap())
}

#[tokio::test]
async fn guesses_above_the_free_ones_wait_longer_and_longer_before_the_store_is_asked() {
    let rig = Rig::new();
    rig.wrong(HOME, "calvin", 0..4).await;
    for (guess, pause) in (4..).zip([1, 3, 5, 10, 20, 40]) {
        rig.waits(HOME, "calvin", "next", pause).await;
        rig.waits(HOME, "calvin", "hobbes", pause).await;
        rig.clock.advance(Duration::from_secs(pause));
        rig.wrong(HOME, "calvin", guess..guess + 1).await;
    }
    assert_eq!(rig.guard.stats().refused, 12);
}

#[tokio::test]
async fn the_right_password_after_the_pause_lets_in_and_clears_the_count() {
    let rig = Rig::new();
    rig.wrong(HOME, "calvin", 0..4).await;
    rig.clock.advance(Duration::from_secs(1));
    rig.right(HOME, "calvin").await;
    rig.wrong(HOME, "calvin", 10..13).await;
}

#[tokio::test]
async fn the_same_wrong_password_again_is_free() {
    let rig = Rig::new();
    for _ in 0..1_000 {
        rig.wrong(HOME, "calvin", 0..1).await;
    }
    rig.wrong(HOME, "calvin", 1..3).await;
    assert_eq!(rig.guard.stats().wrong, 1_002);
    rig.wrong(HOME, "calvin", 3..4).await;
    rig.waits(HOME, "calvin", "guess 0", 1).await;
}

#[tokio::test]
async fn an_outage_counts_for_nothing_but_what_a_source_has_refused_does() {
    let rig = Rig::new();
    rig.says(Says::Fails);
    for n in 0..100 {
        let error = rig.try_from(HOME, "calvin", &format!("outage {n}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    rig.says(Says::Truth);
    rig.wrong(HOME, "calvin", 0..3).await;
    rig.says(Says::RefusesAndFails);
    assert_eq!(rig.try_from(HOME, "calvin", "x").await.unwrap_err().kind(), ErrorKind::Unavailable);
    rig.waits(HOME, "calvin", "y", 1).await;
}

#[tokio::test]
async fn what_a_source_says_of_an_account_whatever_the_password_is_counted() {
    let rig = Rig::new();
    rig.says(Says::Disabled);
    for n in 0..4 {
        rig.try_from(HOME, "calvin", &format!("disabled {n}")).await.unwrap();
    }
    rig.waits(HOME, "calvin", "x", 1).await;
}

#[tokio::test]
async fn an_attempt_that_nobody_has_answered_is_not_counted() {
    let rig = Rig::new();
    rig.says(Says::Hangs);
    for n in 0..100 {
        let text = format!("hangs {n}");
        let asking = rig.try_from(HOME, "calvin", &text);
        assert!(futures_util::FutureExt::now_or_never(asking).is_none());
    }
    rig.says(Says::Truth);
    rig.wrong(HOME, "calvin", 0..4).await;
    rig.waits(HOME, "calvin", "x", 1).await;
}

#[tokio::test]
async fn who_has_come_from_a_network_before_does_not_wait_for_what_others_do_there() {
    let rig = Rig::new();
    rig.right(HOME, "calvin").await;
    for n in 0..7 {
        rig.wrong(HOME, &format!("user{n}"), n..n + 1).await;
    }
    rig.waits(HOME, "moe", "x", 1).await;
    rig.right(HOME, "calvin").await;
    let peek = rig.guarded.peek_verify(&from(HOME), &login("calvin"), &password("hobbes"));
    assert!(peek.is_some(), "from memory too");
    rig.wrong(HOME, "calvin", 20..24).await;
    rig.waits(HOME, "calvin", "x", 1).await;
}

#[tokio::test]
async fn a_network_that_tries_many_logins_waits_and_others_do_not() {
    let rig = Rig::new();
    for n in 0..7 {
        rig.wrong(HOME, &format!("user{n}"), n..n + 1).await;
    }
    rig.waits(HOME, "moe", "x", 1).await;
    rig.right(ELSEWHERE, "moe").await;
    rig.clock.advance(Duration::from_secs(1));
    rig.right(HOME, "moe").await;
    rig.waits_not(HOME).await;
}

impl Rig {
    /// A right password takes back what it had filled, and no more.
    async fn waits_not(&self, client: &str) {
        self.clock.advance(Duration::from_secs(3));
        self.right(client, "susie").await;
    }
}

#[tokio::test]
async fn a_login_that_is_guessed_from_many_networks_waits_but_not_where_it_has_come_from() {
    let rig = Rig::new();
    rig.right(HOME, "calvin").await;
    for n in 0..10 {
        rig.wrong(&format!("203.0.113.{n}"), "calvin", n..n + 1).await;
    }
    rig.waits("203.0.113.99", "calvin", "hobbes", 1).await;
    rig.right(HOME, "calvin").await;
    rig.clock.advance(Duration::from_secs(1));
    rig.right("203.0.113.99", "calvin").await;
}

#[tokio::test]
async fn the_64_of_an_ipv6_address_is_one_network_and_a_mapped_address_is_ipv4() {
    let rig = Rig::new();
    for n in 0..4 {
        rig.wrong(&format!("2001:db8::{n}"), "calvin", n..n + 1).await;
    }
    rig.waits("2001:db8::ffff:1", "calvin", "x", 1).await;
    rig.wrong("2001:db8:0:1::1", "calvin", 9..10).await;
    rig.wrong(HOME, "susie", 0..4).await;
    rig.waits(&format!("::ffff:{HOME}"), "susie", "x", 1).await;
}

#[tokio::test]
async fn who_asks_without_an_address_is_not_counted_and_a_proxy_that_names_nobody_only_by_login() {
    let rig = Rig::new();
    for n in 0..100 {
        let verdict = rig.guarded.verify(&Ctx::new(), &login("calvin"), &password(&format!("x{n}"))).await;
        assert_eq!(verdict.unwrap(), Verdict::Rejected(Reject::BadPassword));
    }
    for n in 0..30 {
        rig.wrong("127.0.0.1", &format!("user{n}"), n..n + 1).await;
    }
    rig.wrong("127.0.0.1", "calvin", 0..10).await;
    rig.waits("127.0.0.1", "calvin", "x", 1).await;
    rig.right("127.0.0.1", "susie").await;
}

#[tokio::test]
async fn what_was_wrong_is_forgiven_with_time() {
    let rig = Rig::new();
    rig.wrong(HOME, "calvin", 0..3).await;
    rig.clock.advance(Duration::from_secs(3 * 120));
    rig.wrong(HOME, "calvin", 10..13).await;
    rig.clock.advance(Duration::from_secs(120));
    rig.wrong(HOME, "calvin", 20..22).await;
    rig.waits(HOME, "calvin", "x", 1).await;
}

#[tokio::test]
async fn a_short_pause_is_waited_for_and_the_answer_is_then_the_stores() {
    let rig = Arc::new(Rig::waiting_for(Duration::from_secs(3)));
    rig.wrong(HOME, "calvin", 0..4).await;
    let waiting = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.try_from(HOME, "calvin", "hobbes").await }
    });
    while rig.guard.stats().delayed == 0 {
        tokio::task::yield_now().await;
    }
    rig.clock.advance(Duration::from_secs(1));
    assert!(matches!(waiting.await.unwrap(), Ok(Verdict::Accepted(_))));
    assert_eq!(rig.guard.stats().refused, 0);
}

#[tokio::test]
async fn who_would_wait_past_the_deadline_is_told_at_once() {
    let rig = Rig::waiting_for(Duration::from_secs(3));
    rig.wrong(HOME, "calvin", 0..4).await;
    let ctx = from(HOME).with_deadline(rig.clock.now() + Duration::from_millis(500));
    let error = rig.guarded.verify(&ctx, &login("calvin"), &password("hobbes")).await.unwrap_err();
    assert_eq!((error.kind(), error.wait()), (ErrorKind::Throttled, Some(Duration::from_secs(1))));
}

#[tokio::test]
async fn memory_lets_nobody_in_who_has_to_wait() {
    let rig = Rig::new();
    let peek = |client| rig.guarded.peek_verify(&from(client), &login("calvin"), &password("hobbes"));
    assert!(peek(HOME).is_some());
    rig.wrong(HOME, "calvin", 0..4).await;
    assert!(peek(HOME).is_none(), "memory would tell which guess is right");
    assert!(peek(ELSEWHERE).is_some());
    rig.clock.advance(Duration::from_secs(2));
    assert!(peek(HOME).is_some());
}

#[tokio::test]
async fn a_thousand_guesses_at_once_get_no_more_than_the_free_ones_through() {
    let rig = Rig::new();
    let tries = (0..1_000).map(|n| rig.guarded_owned(n));
    let through = futures_util::future::join_all(tries).await.into_iter().filter(Result::is_ok).count();
    assert_eq!((through, rig.store.asked.load(Ordering::SeqCst)), (4, 4));
}

impl Rig {
    async fn guarded_owned(&self, n: usize) -> Result<Verdict> {
        self.try_from(HOME, "calvin", &format!("guess {n}")).await
    }
}

#[tokio::test]
async fn a_flood_of_names_evicts_nobody_who_has_to_wait() {
    let clock = ManualClock::new();
    let config = GuardConfig { entries: 1_024, ..small(Duration::ZERO) };
    let rig = Rig::over(Arc::clone(&clock), Guard::new(config, clock).unwrap());
    rig.wrong(HOME, "calvin", 0..4).await;
    for n in 0..20_000_u32 {
        let client = IpAddr::from([10, 1, u8::try_from(n >> 8).unwrap(), u8::try_from(n & 255).unwrap()]);
        let _ = rig.try_from(&client.to_string(), &format!("u{n}"), "x").await;
    }
    assert!(rig.guard.stats().entries <= 1_024);
    rig.waits(HOME, "calvin", "hobbes", 1).await;
}

/// Counters that several guards share, which can be made to fail.
#[derive(Debug)]
struct Flaky {
    inner: LocalCounters,
    fails: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Counters for Flaky {
    async fn begin(&self, attempt: &Attempt, counts: &[Count]) -> Result<Vec<Begun>> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        self.inner.begin(attempt, counts).await
    }

    async fn settle(&self, attempt: &Attempt, ends: &[(Count, Settled)]) -> Result<()> {
        self.inner.settle(attempt, ends).await
    }
}

#[tokio::test]
async fn two_processes_count_together_and_alone_where_they_can_not() {
    let clock = ManualClock::new();
    let time = || Arc::clone(&clock) as Arc<dyn Clock>;
    let flaky = Arc::new(Flaky { inner: LocalCounters::new(1_024, time()), fails: false.into() });
    let process = || {
        let guard = Guard::new(small(Duration::ZERO), time()).unwrap();
        let shared = Arc::clone(&flaky) as Arc<dyn Counters>;
        Rig::over(Arc::clone(&clock), guard.with_shared(shared, b"the secret of both"))
    };
    let (one, other) = (process(), process());
    one.wrong(HOME, "calvin", 0..2).await;
    other.wrong(HOME, "calvin", 2..4).await;
    one.waits(HOME, "calvin", "x", 1).await;
    let peek = || other.guarded.peek_verify(&from(HOME), &login("calvin"), &password("hobbes"));
    other.waits(HOME, "calvin", "hobbes", 1).await;
    assert!(peek().is_none(), "memory would tell what the others do not");
    clock.advance(Duration::from_secs(1));
    assert!(peek().is_some());
    other.right(HOME, "calvin").await;
    one.wrong(HOME, "calvin", 10..12).await;

    flaky.fails.store(true, Ordering::SeqCst);
    other.wrong(HOME, "susie", 0..4).await;
    other.waits(HOME, "susie", "x", 1).await;
    one.right(HOME, "susie").await;
    assert!(other.guard.stats().alone >= 4);
}
