//! What is remembered of a source that decides by itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, Clock, Ctx, Error, ErrorKind, Fence, Freshness, Id, Login, Lookup, Password, PasswordSource,
    Reject, Result, SourceInfo, Subject, Verdict,
};
use auth_password::{Confirmed, MemoConfig};
use auth_testkit::{ManualClock, info, login, password, principal_at};

const TTL: Duration = Duration::from_secs(60);

/// Accepts one password of everybody, and counts its questions.
#[derive(Debug)]
struct Directory {
    info: SourceInfo,
    right: std::sync::Mutex<Option<&'static str>>,
    asked: AtomicU64,
    /// Is voided while a password is verified.
    fence: Arc<Fence>,
    voids: std::sync::Mutex<Option<Login>>,
}

#[async_trait]
impl PasswordSource for Directory {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, _ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(login) = self.voids.lock().unwrap().take() {
            self.fence.invalidate(&Subject::Login(&login));
        }
        let Some(right) = *self.right.lock().unwrap() else {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        };
        Ok(match password.as_bytes() == right.as_bytes() {
            true => Verdict::Accepted(principal_at("staff", login.as_str(), Id::from(1))),
            false => Verdict::Rejected(Reject::BadPassword),
        })
    }

    async fn account(&self, _ctx: &Ctx, _login: &Login) -> Result<Lookup<Account>> {
        Err(Error::new(ErrorKind::Unsupported, "shows nobody"))
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    fence: Arc<Fence>,
    directory: Arc<Directory>,
    confirmed: Confirmed<Directory>,
}

impl Rig {
    fn new() -> Self {
        let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
        let directory = Arc::new(Directory {
            info: info("staff"),
            right: std::sync::Mutex::new(Some("hobbes")),
            asked: AtomicU64::new(0),
            fence: Arc::clone(&fence),
            voids: std::sync::Mutex::new(None),
        });
        let memo = MemoConfig { ttl: TTL, entries: 64 };
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let confirmed = Confirmed::new(Arc::clone(&directory), memo, Arc::clone(&fence), time).unwrap();
        Self { clock, fence, directory, confirmed }
    }

    /// Asks, and tells the verdict and how often the source was asked for it.
    async fn ask(&self, ctx: &Ctx, text: &str) -> (Result<Verdict>, u64) {
        let before = self.directory.asked.load(Ordering::SeqCst);
        let verdict = self.confirmed.verify(ctx, &login("calvin"), &password(text)).await;
        (verdict, self.directory.asked.load(Ordering::SeqCst) - before)
    }

    async fn is_accepted(&self, text: &str) -> u64 {
        let (verdict, asked) = self.ask(&Ctx::new(), text).await;
        assert!(matches!(verdict, Ok(Verdict::Accepted(_))), "{verdict:?}");
        asked
    }
}

#[tokio::test]
async fn an_accepted_password_is_remembered_for_its_lifetime_and_not_longer() {
    let rig = Rig::new();
    assert_eq!(rig.is_accepted("hobbes").await, 1);
    rig.clock.advance(TTL / 2);
    assert_eq!(rig.is_accepted("hobbes").await, 0);
    let peeked = rig.confirmed.peek_verify(&Ctx::new(), &login("calvin"), &password("hobbes"));
    assert!(matches!(peeked, Some(Verdict::Accepted(who)) if who.login() == &login("calvin")));
    rig.clock.advance(TTL / 2);
    assert_eq!(rig.is_accepted("hobbes").await, 1);
}

#[tokio::test]
async fn what_is_refused_or_fails_is_asked_about_each_time() {
    let rig = Rig::new();
    rig.is_accepted("hobbes").await;
    for _ in 0..3 {
        let (verdict, asked) = rig.ask(&Ctx::new(), "susie").await;
        assert_eq!((verdict.unwrap(), asked), (Verdict::Rejected(Reject::BadPassword), 1));
        assert!(rig.confirmed.peek_verify(&Ctx::new(), &login("calvin"), &password("susie")).is_none());
        assert!(rig.confirmed.peek_verify(&Ctx::new(), &login("moe"), &password("hobbes")).is_none());
    }
    *rig.directory.right.lock().unwrap() = None;
    let (verdict, asked) = rig.ask(&Ctx::new(), "susie").await;
    assert_eq!((verdict.unwrap_err().kind(), asked), (ErrorKind::Unavailable, 1));
    assert_eq!(rig.is_accepted("hobbes").await, 0, "an outage voids nothing");
}

#[tokio::test]
async fn who_asks_for_a_fresh_answer_gets_the_sources() {
    let rig = Rig::new();
    rig.is_accepted("hobbes").await;
    *rig.directory.right.lock().unwrap() = Some("tiger");
    let fresh = Ctx::new().with_freshness(Freshness::Fresh);
    assert_eq!(rig.ask(&fresh, "hobbes").await.0.unwrap(), Verdict::Rejected(Reject::BadPassword));
    assert!(rig.confirmed.peek_verify(&fresh, &login("calvin"), &password("hobbes")).is_none());
    rig.clock.advance(Duration::from_secs(2));
    let young = Ctx::new().with_freshness(Freshness::MaxAge(Duration::from_secs(1)));
    assert_eq!(rig.ask(&young, "hobbes").await.0.unwrap(), Verdict::Rejected(Reject::BadPassword));
}

#[tokio::test]
async fn an_invalidation_voids_what_was_accepted_also_while_it_is_verified() {
    let rig = Rig::new();
    let calvin = login("calvin");
    rig.is_accepted("hobbes").await;
    rig.fence.invalidate(&Subject::Login(&calvin));
    assert_eq!(rig.is_accepted("hobbes").await, 1, "by login");
    rig.fence.invalidate(&Subject::Id { realm: calvin.realm(), source: "staff", id: &Id::from(1) });
    *rig.directory.voids.lock().unwrap() = Some(calvin);
    assert_eq!(rig.is_accepted("hobbes").await, 1, "by id");
    assert_eq!(rig.is_accepted("hobbes").await, 1, "while it was verified");
    assert_eq!(rig.is_accepted("hobbes").await, 0);
}
