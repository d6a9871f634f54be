//! A password that does not fit what memory has of an account: the source is asked once more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

mod rig;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, AccountState, CacheUse, Clock, Ctx, Error, ErrorKind, Fence, Freshness, Id, Lock,
    Login, LoginRule, Lookup, PasswordSource, Principal, Record, Reject, Result, SourceInfo, StoredHash,
    Subject, Verdict,
};
use auth_password::{AcceptWeak, Hashed, Hasher, HasherConfig, MemoConfig, Policy};
use auth_testkit::{ManualClock, MemoryStore, login, password, realm_with};
use tokio::sync::Semaphore;

use rig::{BAD, CHEAP, HEX_MD5_OF_HOBBES, SECRET, calvin, fresh};

const RECHECK: Duration = Duration::from_secs(15);

/// A store behind a memory that forgets nothing by itself.
#[derive(Debug)]
struct Remembering {
    store: MemoryStore,
    memory: Mutex<HashMap<Login, Lookup<Account>>>,
    asked: AtomicU64,
    fails: AtomicBool,
    // A question takes a permit.
    permits: Semaphore,
    // Each question finds another hash.
    restless: AtomicBool,
    // With what the questions came.
    heard: Mutex<Vec<Ctx>>,
    // Nothing is in memory any more, and what was there stands in where the source fails.
    ended: AtomicBool,
    // What somebody else brings into memory right after it was looked at.
    lands: Mutex<Option<Lookup<Account>>>,
}

#[async_trait]
impl AccountSource for Remembering {
    fn source(&self) -> &SourceInfo {
        self.store.source()
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let known = self.peek_account(ctx, login);
        if let (Some(known), Freshness::Any) = (known, ctx.freshness()) {
            return Ok(known);
        }
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.permits.add_permits(1);
        self.heard.lock().unwrap().push(ctx.clone());
        if self.fails.load(Ordering::SeqCst) {
            let old = self.memory.lock().unwrap().get(login).cloned();
            if let Some(old) = old.filter(|_| self.ended.load(Ordering::SeqCst)) {
                ctx.note_cache(CacheUse::Stale);
                return Ok(old);
            }
            return Err(Error::new(ErrorKind::Unavailable, "as the test says"));
        }
        if self.restless.load(Ordering::SeqCst) {
            self.store.set_hash("calvin", Some(fresh(&format!("password {asked}"))));
        }
        let found = self.store.account(ctx, login).await?;
        self.memory.lock().unwrap().insert(login.clone(), found.clone());
        Ok(found)
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Err(Error::new(ErrorKind::Unsupported, "read only"))
    }

    fn peek_account(&self, _: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        let mut memory = self.memory.lock().unwrap();
        match self.lands.lock().unwrap().take() {
            Some(landed) => memory.insert(login.clone(), landed),
            None => memory.get(login).cloned(),
        }
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    fence: Arc<Fence>,
    hasher: Arc<Hasher>,
    cache: Arc<Remembering>,
    hashed: Arc<Hashed<Remembering>>,
}

fn rig_with(recheck: Option<Duration>) -> Rig {
    let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
    let policy = Policy { preferred: CHEAP, accept_weak: AcceptWeak::All, ..Policy::default() };
    let dynamic: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let hasher = Hasher::new(HasherConfig { threads: 2, queue: 64 }, policy, Arc::clone(&dynamic)).unwrap();
    let (hasher, store) = (Arc::new(hasher), MemoryStore::empty("app"));
    store.add_user("calvin", Id::from(1), Some(fresh("hobbes")));
    let cache = Arc::new(Remembering {
        store,
        memory: Mutex::default(),
        asked: AtomicU64::new(0),
        fails: AtomicBool::new(false),
        permits: Semaphore::new(1),
        restless: AtomicBool::new(false),
        heard: Mutex::default(),
        ended: AtomicBool::new(false),
        lands: Mutex::default(),
    });
    let (memo, inner) = (MemoConfig::default(), Arc::clone(&cache));
    let hashed = Hashed::new(inner, Arc::clone(&hasher), memo, Arc::clone(&fence), dynamic).unwrap();
    let hashed = match recheck {
        Some(recheck) => hashed.with_recheck(recheck),
        None => hashed,
    };
    Rig { clock, fence, hasher, cache, hashed: Arc::new(hashed) }
}

/// With the account in memory, and nobody who doubted it.
async fn rig() -> Rig {
    let rig = rig_with(None);
    rig.remember(&login("calvin")).await;
    rig
}

impl Rig {
    async fn remember(&self, login: &Login) {
        let ctx = Ctx::new().with_freshness(Freshness::Fresh);
        self.cache.account(&ctx, login).await.unwrap();
        self.cache.asked.store(0, Ordering::SeqCst);
    }

    async fn verify(&self, text: &str) -> Result<Verdict> {
        self.hashed.verify(&Ctx::new(), &login("calvin"), &password(text)).await
    }

    fn asked(&self) -> u64 {
        self.cache.asked.load(Ordering::SeqCst)
    }

    /// Holds back the answers of the source.
    fn hold(&self) {
        self.cache.permits.try_acquire().unwrap().forget();
    }

    fn release(&self) {
        self.cache.permits.add_permits(1);
    }

    /// Changes the password behind everybody's back.
    fn change(&self, text: &str) {
        self.cache.store.set_hash("calvin", Some(fresh(text)));
    }

    fn set(&self, text: &str, scheme: &str) {
        self.cache.store.set_hash("calvin", Some(StoredHash::new(text.to_owned(), Some(scheme))));
    }

    /// Starts attempts, and waits until all have had their hash job and stand where they wait for the source.
    async fn start(&self, texts: &[&'static str]) -> Vec<tokio::task::JoinHandle<Result<Verdict>>> {
        let before = self.hasher.stats().jobs;
        let started = texts.iter().map(|text| {
            let (hashed, text) = (Arc::clone(&self.hashed), *text);
            tokio::spawn(async move { hashed.verify(&Ctx::new(), &login("calvin"), &password(text)).await })
        });
        let started: Vec<_> = started.collect();
        while self.hasher.stats().jobs < before + texts.len() as u64 {
            tokio::task::yield_now().await;
        }
        // The worker counts a job before it answers: wait for both of its threads to be idle.
        for text in ["idle", "idle as well"] {
            self.hasher.verify(&Ctx::new(), &login("nobody"), &fresh("x"), &password(text)).await.unwrap();
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        started
    }

    /// What an attempt came to, and its hash jobs.
    async fn cost(&self, text: &str) -> (Verdict, u32) {
        let record = Arc::new(Record::new());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        (self.hashed.verify(&ctx, &login("calvin"), &password(text)).await.unwrap(), record.hash_jobs())
    }
}

#[tokio::test]
async fn a_password_changed_at_the_source_only_works_at_once_and_the_old_one_dies_with_it() {
    let rig = rig().await;
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    rig.change("stripes");
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin(), "nobody has doubted it yet");
    assert_eq!(rig.asked(), 0);
    assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
    assert_eq!(rig.verify("hobbes").await.unwrap(), BAD);
    let peeked = |text| rig.hashed.peek_verify(&Ctx::new(), &login("calvin"), &password(text));
    assert_eq!((peeked("stripes"), peeked("hobbes")), (Some(calvin()), None));
    assert_eq!((rig.asked(), rig.hashed.stats().rechecks), (1, 1));
}

#[tokio::test]
async fn ten_thousand_guesses_at_a_login_ask_its_source_once_more() {
    let rig = rig_with(None);
    rig.set(HEX_MD5_OF_HOBBES, "hex_md5");
    rig.remember(&login("calvin")).await;
    for n in 0..10_000 {
        assert_eq!(rig.verify(&format!("guess {n}")).await.unwrap(), BAD);
        if n == 5_000 {
            rig.clock.advance(RECHECK - Duration::from_nanos(1));
        }
    }
    assert_eq!((rig.asked(), rig.hasher.stats().jobs), (1, 10_000));
    rig.clock.advance(Duration::from_nanos(1));
    for _ in 0..10 {
        assert_eq!(rig.verify("guess").await.unwrap(), BAD);
    }
    assert_eq!(rig.asked(), 2, "again after a while, and again once");
}

#[tokio::test]
async fn each_login_is_doubted_by_itself() {
    let rig = rig().await;
    rig.cache.store.add_user("susie", Id::from(2), Some(fresh("binkie")));
    let elsewhere = realm_with("elsewhere", LoginRule::Exact);
    let logins = [login("calvin"), login("susie"), Login::parse(&elsewhere, "calvin").unwrap()];
    for each in &logins {
        rig.remember(each).await;
    }
    for (n, each) in logins.iter().enumerate() {
        for _ in 0..3 {
            assert_eq!(rig.hashed.verify(&Ctx::new(), each, &password("else")).await.unwrap(), BAD);
        }
        assert_eq!(rig.asked(), n as u64 + 1, "{each:?}");
    }
}

#[tokio::test]
async fn a_source_that_fails_when_asked_again_is_an_error_and_may_be_asked_again() {
    let rig = rig().await;
    rig.change("stripes");
    rig.cache.fails.store(true, Ordering::SeqCst);
    for n in 1..=3 {
        let error = rig.verify("stripes").await.unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Unavailable, Some("app")));
        assert_eq!(rig.asked(), n);
    }
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin(), "a right one is not doubted");
    rig.cache.fails.store(false, Ordering::SeqCst);
    assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
    assert_eq!(rig.verify("hobbes").await.unwrap(), BAD);
    assert_eq!(rig.asked(), 4);
}

#[tokio::test]
async fn nobody_is_asked_about_again_if_that_is_switched_off() {
    let rig = rig_with(Some(Duration::ZERO));
    rig.remember(&login("calvin")).await;
    rig.change("stripes");
    assert_eq!(rig.verify("stripes").await.unwrap(), BAD);
    assert_eq!((rig.asked(), rig.hashed.stats().rechecks), (0, 0));
}

#[tokio::test]
async fn an_account_that_was_just_asked_for_is_not_asked_for_twice() {
    let rig = rig_with(None);
    assert_eq!(rig.verify("else").await.unwrap(), BAD);
    assert_eq!(rig.asked(), 1, "not in memory");
    rig.clock.advance(RECHECK);
    for n in 2..5 {
        let ctx = Ctx::new().with_freshness(Freshness::Fresh);
        assert_eq!(rig.hashed.verify(&ctx, &login("calvin"), &password("else")).await.unwrap(), BAD);
        assert_eq!((rig.asked(), rig.hashed.stats().rechecks), (n, 0), "asked for afresh");
    }
}

#[tokio::test]
async fn a_first_password_a_removed_one_and_a_deleted_account_are_seen_at_once() {
    let rig = rig_with(None);
    rig.cache.store.set_hash("calvin", None);
    rig.remember(&login("calvin")).await;
    assert_eq!(rig.cost("hobbes").await, (Verdict::Rejected(Reject::NoPassword), 0));
    rig.clock.advance(RECHECK);
    rig.change("hobbes");
    assert_eq!(rig.cost("else").await, (BAD, 1));
    rig.cache.store.set_hash("calvin", None);
    rig.clock.advance(RECHECK);
    assert_eq!(rig.cost("else").await, (Verdict::Rejected(Reject::NoPassword), 1));
    assert_eq!(rig.asked(), 3);
    for known in [None, Some(fresh("hobbes"))] {
        let jobs = u32::from(known.is_some());
        rig.cache.store.remove_user("calvin");
        rig.cache.store.add_user("calvin", Id::from(1), known);
        rig.remember(&login("calvin")).await;
        rig.cache.store.remove_user("calvin");
        rig.clock.advance(RECHECK);
        assert_eq!(rig.cost("else").await, (Verdict::Rejected(Reject::UnknownUser), jobs));
    }
}

#[tokio::test]
async fn what_no_password_decides_is_not_doubted() {
    let rig = rig_with(None);
    rig.remember(&login("nobody")).await;
    let unknown = rig.hashed.verify(&Ctx::new(), &login("nobody"), &password("hobbes")).await;
    assert_eq!(unknown.unwrap(), Verdict::Rejected(Reject::UnknownUser));
    rig.cache.store.set_state("calvin", AccountState { lock: Lock::Locked, ..AccountState::default() });
    rig.remember(&login("calvin")).await;
    rig.cache.store.set_state("calvin", AccountState::default());
    assert_eq!(rig.verify("hobbes").await.unwrap(), Verdict::Rejected(Reject::Locked));
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn a_rejection_costs_one_job_or_two_if_the_source_has_another_hash_by_now() {
    let rig = rig().await;
    assert_eq!(rig.cost("else").await, (BAD, 1), "doubted");
    assert_eq!(rig.cost("else").await, (BAD, 1), "not doubted");
    rig.clock.advance(RECHECK);
    rig.change("stripes");
    assert_eq!(rig.cost("else").await, (BAD, 2), "changed meanwhile");
    assert_eq!(rig.cost("else").await, (BAD, 1));
    rig.clock.advance(RECHECK);
    rig.cache.store.set_state("calvin", AccountState { lock: Lock::Locked, ..AccountState::default() });
    assert_eq!(rig.cost("else").await, (BAD, 1), "the same hash of another state");
    rig.clock.advance(RECHECK);
    rig.change("spots");
    assert_eq!(rig.cost("spots").await, (Verdict::Rejected(Reject::Locked), 2));
}

#[tokio::test]
async fn what_the_source_says_when_asked_again_is_not_doubted() {
    let rig = rig().await;
    rig.cache.restless.store(true, Ordering::SeqCst);
    assert_eq!(rig.cost("else").await, (BAD, 2));
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_new_secret_of_one_time_codes_works_at_once_and_wrong_codes_ask_once() {
    let rig = rig_with(None);
    rig.clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_111_111_109));
    rig.set("JBSWY3DPEHPK3PXP", "totp");
    rig.remember(&login("calvin")).await;
    rig.set(SECRET, "totp");
    assert_eq!(rig.verify("081804").await.unwrap(), calvin());
    for code in ["081804", "000000"] {
        assert_eq!(rig.cost(code).await, (BAD, 1), "used, and wrong");
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn who_doubts_at_the_same_time_shares_one_question() {
    let rig = rig().await;
    rig.change("stripes");
    rig.hold();
    let attempts = rig.start(&["stripes", "stripes", "hobbes2", "stripes", "stripes"]).await;
    assert_eq!(rig.asked(), 1);
    rig.release();
    for (n, attempt) in attempts.into_iter().enumerate() {
        let verdict = if n == 2 { BAD } else { calvin() };
        assert_eq!(attempt.await.unwrap().unwrap(), verdict, "{n}");
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn who_leaves_takes_the_question_from_nobody() {
    let rig = rig().await;
    rig.change("stripes");
    rig.hold();
    let mut attempts = rig.start(&["stripes"]).await;
    let first = attempts.remove(0);
    let others = rig.start(&["stripes", "stripes"]).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    rig.release();
    for attempt in others {
        assert_eq!(attempt.await.unwrap().unwrap(), calvin());
    }
    assert_eq!(rig.asked(), 1);
    // When all have left, the next may not ask at once: else leaving would make the source work.
    rig.clock.advance(RECHECK);
    rig.hold();
    for attempt in rig.start(&["else", "other"]).await {
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
    }
    assert_eq!(rig.verify("else").await.unwrap(), BAD);
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn who_comes_too_late_to_ask_sees_what_somebody_else_has_brought() {
    let rig = rig().await;
    assert_eq!(rig.verify("else").await.unwrap(), BAD);
    rig.change("stripes");
    assert_eq!(rig.verify("stripes").await.unwrap(), BAD, "asked about a moment ago");
    // While its hash is worked on, a load of somebody else's lands.
    let landed = rig.cache.store.account(&Ctx::new(), &login("calvin")).await.unwrap();
    *rig.cache.lands.lock().unwrap() = Some(landed);
    assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
    assert_eq!(rig.hashed.stats().rechecks, 1);
}

#[tokio::test]
async fn a_question_from_before_an_invalidation_is_not_joined_after_it() {
    let rig = rig().await;
    let calvins = login("calvin");
    let realm = calvins.realm().clone();
    let one = Id::from(1);
    for subject in [Subject::Login(&calvins), Subject::Id { realm: &realm, source: "app", id: &one }] {
        rig.change("hobbes");
        rig.remember(&calvins).await;
        rig.hold();
        let mut early = rig.start(&["else"]).await;
        rig.change("stripes");
        rig.fence.invalidate(&subject);
        let found = rig.cache.store.account(&Ctx::new(), &calvins).await.unwrap();
        rig.cache.memory.lock().unwrap().insert(calvins.clone(), found);
        assert_eq!(rig.verify("hobbes").await.unwrap(), BAD, "decided without waiting");
        assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
        rig.release();
        assert_eq!(early.remove(0).await.unwrap().unwrap(), BAD);
        assert_eq!(rig.asked(), 1);
        rig.clock.advance(RECHECK);
    }
}

#[tokio::test]
async fn an_invalidation_while_the_source_is_asked_again_voids_what_is_learned() {
    let rig = rig().await;
    rig.change("stripes");
    rig.hold();
    let mut attempts = rig.start(&["stripes"]).await;
    rig.fence.invalidate(&Subject::Login(&login("calvin")));
    rig.release();
    assert_eq!(attempts.remove(0).await.unwrap().unwrap(), calvin());
    assert_eq!(rig.hashed.peek_verify(&Ctx::new(), &login("calvin"), &password("stripes")), None);
    assert_eq!(rig.cost("stripes").await, (calvin(), 1));
}

#[tokio::test]
async fn an_old_account_that_stands_in_for_a_source_that_fails_lets_in_and_refuses_nobody() {
    let rig = rig().await;
    rig.cache.fails.store(true, Ordering::SeqCst);
    rig.cache.ended.store(true, Ordering::SeqCst);
    // Whether or not somebody keeps a record, and also where another source was stood in for before.
    let (record, noted) = (Arc::new(Record::new()), Arc::new(Record::new()));
    let another = Ctx::new().with_record(noted);
    another.note_cache(CacheUse::Stale);
    for ctx in [Ctx::new(), Ctx::new().with_record(record), another] {
        let verify = async |text| rig.hashed.verify(&ctx, &login("calvin"), &password(text)).await;
        assert_eq!(verify("hobbes").await.unwrap(), calvin());
        let error = verify("else").await.unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Unavailable, Some("app")));
    }
    // A lock and a removed password may have been taken back as well.
    rig.cache.fails.store(false, Ordering::SeqCst);
    rig.cache.store.set_state("calvin", AccountState { lock: Lock::Locked, ..AccountState::default() });
    rig.remember(&login("calvin")).await;
    rig.cache.fails.store(true, Ordering::SeqCst);
    assert_eq!(rig.verify("hobbes").await.unwrap_err().kind(), ErrorKind::Unavailable);
    // What the source says itself is no old answer, although one of another source is on record.
    rig.cache.fails.store(false, Ordering::SeqCst);
    let noted = Arc::new(Record::new());
    let ctx = Ctx::new().with_record(noted);
    ctx.note_cache(CacheUse::Stale);
    let verdict = rig.hashed.verify(&ctx, &login("calvin"), &password("else")).await;
    assert_eq!(verdict.unwrap(), BAD);
}

#[tokio::test]
async fn who_shares_a_question_keeps_a_deadline_of_their_own() {
    let rig = rig().await;
    rig.change("stripes");
    rig.hold();
    let record = Arc::new(Record::explaining());
    let deadline = rig.clock.now() + Duration::from_secs(1);
    let hurried = {
        let (hashed, ctx) = (Arc::clone(&rig.hashed), Ctx::new().with_deadline(deadline));
        let ctx = ctx.with_record(Arc::clone(&record));
        tokio::spawn(async move { hashed.verify(&ctx, &login("calvin"), &password("stripes")).await })
    };
    while rig.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let mut patient = rig.start(&["stripes"]).await;
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(hurried.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(record.cache(), CacheUse::Miss);
    rig.release();
    assert_eq!(patient.remove(0).await.unwrap().unwrap(), calvin());
    assert_eq!(rig.asked(), 1, "one question for both");
    let heard = rig.cache.heard.lock().unwrap().pop().unwrap();
    assert!(heard.record().is_none() && heard.deadline().unwrap() > deadline + RECHECK, "{heard:?}");
}

#[tokio::test]
async fn a_question_that_all_found_too_slow_may_be_put_again() {
    let rig = rig().await;
    rig.change("stripes");
    rig.hold();
    let deadline = rig.clock.now() + Duration::from_secs(1);
    let hurried = {
        let (hashed, ctx) = (Arc::clone(&rig.hashed), Ctx::new().with_deadline(deadline));
        tokio::spawn(async move { hashed.verify(&ctx, &login("calvin"), &password("stripes")).await })
    };
    while rig.asked() == 0 {
        tokio::task::yield_now().await;
    }
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(hurried.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    rig.release();
    assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
    assert_eq!(rig.asked(), 2);
}
