//! Doubles that answer at once, for tests of the rules by which answers are combined.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, AccountState, Audit, Capabilities, Ctx, Error, ErrorKind, HashCheck, Id, Login, LoginEvent,
    LoginRule, Lookup, Owners, Password, PasswordSource, Principal, Reject, Result, SourceInfo, Verdict,
};
use auth_testkit::{ManualClock, info, realm_with};

pub(crate) const KINDS: [ErrorKind; 9] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Overloaded,
    ErrorKind::Ambiguous,
    ErrorKind::Corrupt,
    ErrorKind::Misconfigured,
    ErrorKind::Unsupported,
    ErrorKind::Invalid,
    ErrorKind::Internal,
];

/// The refusals that a source tells only after a right password.
pub(crate) const FINAL: [Reject; 6] = [
    Reject::Disabled,
    Reject::Locked,
    Reject::AccountExpired,
    Reject::PasswordExpired,
    Reject::MustChange,
    Reject::NotNow,
];

/// What a [`Says`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Accepts,
    Rejects(Reject),
    Fails(ErrorKind),
    Hangs,
    /// Shows and accepts a person of another login.
    SomebodyElse,
    /// Shows and accepts a person of the same login in another realm.
    OtherRealm,
}

/// Which sources were asked, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A password source that says one thing, whoever asks.
#[derive(Debug)]
pub(crate) struct Says {
    info: SourceInfo,
    tell: Mutex<Tell>,
    log: Log,
    remembers_verdict: bool,
    remembers_account: bool,
    // Spent at each verdict but "unknown".
    jobs: Option<Arc<AtomicU32>>,
}

impl Says {
    pub(crate) fn new(name: &str, tell: Tell) -> Self {
        Self {
            info: info(name),
            tell: Mutex::new(tell),
            log: Log::default(),
            remembers_verdict: false,
            remembers_account: false,
            jobs: None,
        }
    }

    pub(crate) fn logged(mut self, log: &Log) -> Self {
        self.log = Arc::clone(log);
        self
    }

    /// Answers peeks, of verdicts and of accounts, with what it says now.
    pub(crate) fn remembering(mut self, verdict: bool, account: bool) -> Self {
        (self.remembers_verdict, self.remembers_account) = (verdict, account);
        self
    }

    pub(crate) fn hashing(mut self, jobs: &Arc<AtomicU32>) -> Self {
        self.jobs = Some(Arc::clone(jobs));
        self
    }

    /// Can't tell an unknown login from a wrong password.
    pub(crate) fn vague(mut self) -> Self {
        let vague = Capabilities { tells_unknown: false, ..self.info.capabilities() };
        self.info = self.info.with_capabilities(vague);
        self
    }

    pub(crate) fn set(&self, tell: Tell) {
        *self.tell.lock().unwrap() = tell;
    }

    pub(crate) fn asked(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(crate) fn person(&self, login: &Login) -> Principal {
        Principal::found(&self.info, login, login.as_str(), Id::from(1)).unwrap()
    }

    fn shown(&self, login: &Login, tell: Tell) -> Principal {
        match tell {
            Tell::SomebodyElse => self.person(&Login::parse(login.realm(), "moe").unwrap()),
            Tell::OtherRealm => {
                let elsewhere = realm_with("elsewhere", LoginRule::CaseMapped);
                self.person(&Login::parse(&elsewhere, login.as_str()).unwrap())
            }
            _ => self.person(login),
        }
    }

    fn tell(&self) -> Tell {
        *self.tell.lock().unwrap()
    }

    fn verdict(&self, login: &Login, tell: Tell) -> Option<Verdict> {
        match tell {
            Tell::Fails(_) | Tell::Hangs => None,
            Tell::Rejects(reason) => Some(Verdict::Rejected(reason)),
            _ => Some(Verdict::Accepted(self.shown(login, tell))),
        }
    }

    fn lookup(&self, login: &Login, tell: Tell) -> Option<Lookup<Account>> {
        match tell {
            Tell::Fails(_) | Tell::Hangs => None,
            Tell::Rejects(Reject::UnknownUser) => Some(Lookup::NotFound),
            _ => {
                let who = self.shown(login, tell);
                Some(Lookup::Found(Account::new(who, AccountState::default(), None)))
            }
        }
    }

    async fn or_fault<T>(&self, answer: Option<T>, tell: Tell) -> Result<T> {
        match (answer, tell) {
            (Some(answer), _) => Ok(answer),
            (None, Tell::Fails(kind)) => Err(Error::new(kind, "as told").at(Arc::clone(self.info.name()))),
            (None, _) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl PasswordSource for Says {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, _password: &Password) -> Result<Verdict> {
        self.log.lock().unwrap().push(self.info.name().to_string());
        let tell = self.tell();
        let verdict = self.or_fault(self.verdict(login, tell), tell).await?;
        if let Some(jobs) = &self.jobs
            && verdict != Verdict::Rejected(Reject::UnknownUser)
        {
            jobs.fetch_add(1, Ordering::SeqCst);
            ctx.note_hash_job();
        }
        Ok(verdict)
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.log.lock().unwrap().push(self.info.name().to_string());
        let tell = self.tell();
        self.or_fault(self.lookup(login, tell), tell).await
    }

    fn peek_verify(&self, _ctx: &Ctx, login: &Login, _password: &Password) -> Option<Verdict> {
        if self.remembers_verdict { self.verdict(login, self.tell()) } else { None }
    }

    fn peek_account(&self, _ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        if self.remembers_account { self.lookup(login, self.tell()) } else { None }
    }
}

/// Owners in a map.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<HashMap<Login, Arc<str>>>);

impl Owners for Book {
    fn owner(&self, login: &Login) -> Option<Arc<str>> {
        self.0.lock().unwrap().get(login).cloned()
    }
    fn remember(&self, login: &Login, source: &Arc<str>) {
        self.0.lock().unwrap().insert(login.clone(), Arc::clone(source));
    }
    fn forget(&self, login: &Login) {
        self.0.lock().unwrap().remove(login);
    }
    fn forget_realm(&self, realm: &str) {
        self.0.lock().unwrap().retain(|login, _| login.realm().name() != realm);
    }
}

/// A hashing pool that only counts.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) done: Arc<AtomicU32>,
    pub(crate) full: Mutex<bool>,
}

#[async_trait]
impl HashCheck for Jobs {
    async fn pad(&self, ctx: &Ctx, _password: &Password) -> Result<()> {
        if *self.full.lock().unwrap() {
            return Err(Error::new(ErrorKind::Overloaded, "the queue is full"));
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        ctx.note_hash_job();
        Ok(())
    }
}

/// An audit log: login, outcome, remembered.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<(String, String, bool)>>);

impl Heard {
    pub(crate) fn take(&self) -> Vec<(String, String, bool)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Audit for Heard {
    fn login(&self, event: &LoginEvent<'_>) {
        let outcome = match event.outcome {
            Ok(Verdict::Accepted(_)) => "accepted".to_owned(),
            Ok(Verdict::Rejected(reason)) => reason.to_string(),
            Err(error) => error.kind().to_string(),
        };
        self.0.lock().unwrap().push((event.login.to_owned(), outcome, event.remembered));
    }

    fn session(&self, _event: &auth_core::SessionEvent<'_>) {}
}

/// Returns the answer of a question that does not wait.
#[track_caller]
pub(crate) fn now<T>(question: impl Future<Output = T>) -> T {
    match pin!(question).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the question waits"),
    }
}

/// Returns the answer of a question while time passes, second by second, and how long it took.
#[track_caller]
pub(crate) fn while_time_passes<T>(clock: &ManualClock, question: impl Future<Output = T>) -> (T, Duration) {
    let mut question = pin!(question);
    for seconds in 0..60 {
        if let Poll::Ready(answer) = question.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (answer, Duration::from_secs(seconds));
        }
        clock.advance(Duration::from_secs(1));
    }
    panic!("no answer in a minute")
}
