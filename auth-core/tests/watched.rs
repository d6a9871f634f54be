//! Time limits of stores, and what their health says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says what is wrong")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Access, AccountSource, Clock, Ctx, Error, ErrorKind, GroupOracle, Health, HealthReport, Id, Lookup,
    ObjectPerms, ObjectRef, PasswordSource, Principal, Record, Result, SourceInfo, Watched,
};
use auth_testkit::{
    ManualClock, MemoryStore, Mode, ScriptedStore, hash, info, login, object, password, principal_at,
};
use common::{KINDS, Says, Tell, now, while_time_passes};

const LIMIT: Duration = Duration::from_secs(5);

/// A store that is watched.
struct Rig<S> {
    clock: Arc<ManualClock>,
    health: Arc<Health>,
    store: Arc<S>,
    watched: Watched<S>,
}

fn rig<S: Send + Sync>(store: S) -> Rig<S> {
    let (clock, health, store) = (ManualClock::new(), Arc::<Health>::default(), Arc::new(store));
    let timing = Arc::<ManualClock>::clone(&clock);
    let watched = Watched::new(Arc::clone(&store), LIMIT, timing, Arc::clone(&health));
    Rig { clock, health, store, watched }
}

fn scripted(mode: Mode) -> Rig<ScriptedStore> {
    rig(ScriptedStore::in_mode(info("app"), mode))
}

impl Rig<ScriptedStore> {
    /// Asks for groups while time passes; returns the kind of failure and how long it took.
    fn groups(&self, ctx: &Ctx) -> (Option<ErrorKind>, Duration) {
        let who = calvin();
        let (answer, took) = while_time_passes(&self.clock, self.watched.groups_of(ctx, &who));
        (answer.err().map(|error| error.kind()), took)
    }

    fn fails(&self, kind: ErrorKind) -> HealthReport {
        self.store.set_mode(Mode::Fails(kind));
        assert_eq!(self.groups(&Ctx::new()).0, Some(kind));
        self.health.report()
    }

    /// An answer, and be it of the wrong person.
    fn answers(&self) -> HealthReport {
        self.store.set_mode(Mode::SomebodyElse);
        assert_eq!(self.groups(&Ctx::new()).0, None);
        self.health.report()
    }
}

fn calvin() -> Principal {
    principal_at("app", "calvin", Id::from(1))
}

fn kind<T>(answer: Result<T>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

/// The failures after which a source is down. After the others it is as up as it was before.
const RED: [ErrorKind; 4] =
    [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Misconfigured, ErrorKind::Internal];

#[test]
fn a_source_that_says_nothing_is_given_up_after_its_limit() {
    let rig = scripted(Mode::Hangs);
    assert_eq!(rig.groups(&Ctx::new()), (Some(ErrorKind::Timeout), LIMIT));
    let report = rig.health.report();
    assert_eq!((report.up, report.questions, report.errors, report.time), (Some(false), 1, 1, LIMIT));
    let (_, error) = report.last_error.unwrap();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Timeout, Some("app")));
}

#[test]
fn every_question_is_limited_and_counted() {
    let rig = scripted(Mode::Hangs);
    let (ctx, login, who) = (Ctx::new(), login("calvin"), calvin());
    let (secret, old, new) = (password("hobbes"), hash("old"), hash("new"));
    let (doc, objects) = (object("doc", 1), [object("doc", 1), object("doc", 2)]);
    let (watched, clock) = (&rig.watched, &rig.clock);
    let late = (Some(ErrorKind::Timeout), LIMIT);
    let check = |(kind, took): (Option<ErrorKind>, Duration), questions: u64| {
        assert_eq!((kind, took), late);
        let report = rig.health.report();
        assert_eq!((report.questions, report.errors), (questions, questions));
    };
    fn timed<T>(clock: &ManualClock, ask: impl Future<Output = Result<T>>) -> (Option<ErrorKind>, Duration) {
        let (answer, took) = while_time_passes(clock, ask);
        (kind(answer), took)
    }
    check(timed(clock, watched.verify(&ctx, &login, &secret)), 1);
    check(timed(clock, PasswordSource::account(watched, &ctx, &login)), 2);
    check(timed(clock, AccountSource::account(watched, &ctx, &login)), 3);
    check(timed(clock, watched.replace_hash(&ctx, &who, &old, &new)), 4);
    check(timed(clock, watched.groups_of(&ctx, &who)), 5);
    check(timed(clock, watched.is_member(&ctx, &who, "admin")), 6);
    check(timed(clock, watched.access(&ctx, &who, &doc, None)), 7);
    let (answers, took) = while_time_passes(clock, watched.access_many(&ctx, &who, &objects, None));
    assert_eq!(answers.len(), 2);
    for answer in answers {
        check((kind(answer), took), 8);
    }
}

#[test]
fn a_probe_turns_a_source_red_and_green_and_is_no_question() {
    let rig = scripted(Mode::Hangs);
    let check = |error: Option<ErrorKind>, up: Option<bool>| {
        let error = error.map(|kind| Error::new(kind, "text"));
        rig.health.probed(error.as_ref(), &*rig.clock);
        let report = rig.health.report();
        assert_eq!((report.up, report.questions, report.errors), (up, 0, 0));
    };
    check(Some(ErrorKind::Invalid), None);
    check(None, Some(true));
    check(Some(ErrorKind::Unavailable), Some(false));
    check(Some(ErrorKind::Corrupt), Some(false));
    check(None, Some(true));
}

#[test]
fn a_caller_in_a_hurry_turns_no_source_red() {
    let rig = scripted(Mode::Hangs);
    let hurried = || Ctx::new().with_deadline(rig.clock.now() + Duration::from_secs(2));
    assert_eq!(rig.groups(&hurried()), (Some(ErrorKind::Timeout), Duration::from_secs(2)));
    let report = rig.health.report();
    assert_eq!((report.up, report.errors, report.last_error.is_none()), (None, 0, true));
    assert_eq!((report.questions, report.time), (1, Duration::from_secs(2)), "it was asked all the same");
    // A store that sees the hurry and gives up by itself is not to blame either.
    rig.store.set_mode(Mode::Fails(ErrorKind::Timeout));
    assert_eq!(rig.groups(&hurried()), (Some(ErrorKind::Timeout), Duration::ZERO));
    assert_eq!(rig.health.report().up, None);
    // Any other failure is its own.
    rig.store.set_mode(Mode::Fails(ErrorKind::Unavailable));
    assert_eq!(rig.groups(&hurried()).0, Some(ErrorKind::Unavailable));
    assert_eq!(rig.health.report().up, Some(false));
}

#[test]
fn a_caller_with_more_time_than_the_limit_is_not_in_a_hurry() {
    let rig = scripted(Mode::Hangs);
    let patient = Ctx::new().with_deadline(rig.clock.now() + 2 * LIMIT);
    assert_eq!(rig.groups(&patient), (Some(ErrorKind::Timeout), LIMIT));
    assert_eq!(rig.health.report().up, Some(false));
}

#[test]
fn only_failures_of_the_source_itself_turn_it_red() {
    for kind in KINDS {
        let rig = scripted(Mode::Held);
        assert_eq!(rig.health.report().up, None, "nobody has asked yet");
        let red = RED.contains(&kind);
        let report = rig.fails(kind);
        assert_eq!(report.up, red.then_some(false), "{kind} first");
        // What the asker did wrong is no error of the source.
        let blamed = kind != ErrorKind::Invalid;
        assert_eq!((report.questions, report.errors), (1, u64::from(blamed)));
        assert_eq!(report.last_error.map(|(_, error)| error.kind()), blamed.then_some(kind));
        assert_eq!(rig.answers().up, Some(true));
        assert_eq!(rig.fails(kind).up, Some(!red), "{kind} while up");
        assert_eq!(rig.fails(ErrorKind::Unavailable).up, Some(false));
        assert_eq!(rig.fails(kind).up, Some(false), "{kind} while down");
    }
}

#[test]
fn a_source_is_up_or_down_since_the_first_answer_that_says_so() {
    let rig = scripted(Mode::Held);
    let start = rig.clock.wall();
    let at = |seconds| Some(start + Duration::from_secs(seconds));
    let then = |report: HealthReport| {
        rig.clock.advance(Duration::from_secs(10));
        (report.up, report.since)
    };
    assert_eq!(then(rig.health.report()), (None, None));
    assert_eq!(then(rig.answers()), (Some(true), at(10)));
    assert_eq!(then(rig.answers()), (Some(true), at(10)));
    assert_eq!(then(rig.fails(ErrorKind::Corrupt)), (Some(true), at(10)));
    assert_eq!(then(rig.fails(ErrorKind::Unavailable)), (Some(false), at(40)));
    assert_eq!(then(rig.fails(ErrorKind::Timeout)), (Some(false), at(40)));
    let report = rig.answers();
    let (when, error) = report.last_error.clone().unwrap();
    assert_eq!((Some(when), error.kind()), (at(50), ErrorKind::Timeout), "the last error stays on record");
    assert_eq!((report.questions, report.errors), (6, 3));
    assert_eq!(then(report), (Some(true), at(60)));
}

/// Rights of which every one fails in its own way.
#[derive(Debug)]
struct Batch(SourceInfo, Vec<Option<ErrorKind>>);

#[async_trait]
impl ObjectPerms for Batch {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn access(&self, _: &Ctx, _: &Principal, object: &ObjectRef, _: Option<&str>) -> Result<Access> {
        let at = self.1.iter().enumerate().find(|(at, _)| object.to_string() == format!("doc:{at}"));
        match at {
            Some((_, Some(kind))) => Err(Error::new(*kind, "as told")),
            _ => Ok(Access::Allow),
        }
    }
}

#[test]
fn a_failure_in_a_batch_is_a_failure_of_the_source() {
    let check = |fates: &[Option<ErrorKind>], up: Option<bool>, last: Option<ErrorKind>| {
        let rig = rig(Batch(info("app"), fates.to_vec()));
        let objects: Vec<_> = (0..).map(|id| object("doc", id)).take(fates.len()).collect();
        let answers = now(rig.watched.access_many(&Ctx::new(), &calvin(), &objects, None));
        let origins = answers.iter().filter_map(|answer| answer.as_ref().err()).map(Error::origin);
        assert!(origins.into_iter().all(|origin| origin == Some("app")), "{fates:?}");
        assert_eq!(answers.into_iter().map(kind).collect::<Vec<_>>(), fates);
        let report = rig.health.report();
        assert_eq!((report.up, report.questions), (up, 1), "{fates:?}");
        assert_eq!(report.last_error.map(|(_, error)| error.kind()), last, "{fates:?}");
    };
    use ErrorKind::{Corrupt, Invalid, Unavailable};
    check(&[None, None], Some(true), None);
    check(&[None, Some(Unavailable)], Some(false), Some(Unavailable));
    check(&[Some(Invalid), Some(Unavailable)], Some(false), Some(Unavailable));
    check(&[None, Some(Corrupt)], None, Some(Corrupt));
    check(&[], Some(true), None);
}

#[test]
fn an_error_names_the_source_unless_it_names_one_already() {
    let rig = scripted(Mode::Hangs);
    let who = calvin();
    let ctx = Ctx::new();
    let (answer, _) = while_time_passes(&rig.clock, rig.watched.groups_of(&ctx, &who));
    assert_eq!(answer.unwrap_err().origin(), Some("app"));
}

#[test]
fn what_memory_answers_is_no_question_to_the_store() {
    let rig = rig(Says::new("app", Tell::Accepts).remembering(true, true));
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    assert!(rig.watched.peek_verify(&ctx, &calvin, &password("hobbes")).is_some());
    assert!(rig.watched.peek_account(&ctx, &calvin).is_some());
    assert_eq!(rig.health.report().questions, 0);
}

#[test]
fn each_question_is_a_step_of_the_explanation() {
    let rig = rig(MemoryStore::named("app"));
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    let found = now(AccountSource::account(&rig.watched, &ctx, &login("calvin"))).unwrap();
    assert!(matches!(found, Lookup::Found(_)));
    now(rig.watched.access(&ctx, &calvin(), &object("planet", 1), None)).unwrap_err();
    let steps = record.steps();
    let outcomes: Vec<_> = steps.iter().map(|step| (step.part, step.outcome.as_str())).collect();
    let invalid = "invalid: no such domain (source app, domain planet)";
    assert_eq!(outcomes, [("source", "found"), ("source", invalid)]);
    assert!(steps.iter().all(|step| step.source.as_deref() == Some("app") && step.took.is_some()));
}

#[test]
fn an_answer_about_somebody_else_is_a_failure_of_the_source_and_no_answer() {
    let rig = scripted(Mode::SomebodyElse);
    let (answer, _) =
        while_time_passes(&rig.clock, AccountSource::account(&rig.watched, &Ctx::new(), &login("calvin")));
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Internal, Some("app")));
    let (verdict, _) =
        while_time_passes(&rig.clock, rig.watched.verify(&Ctx::new(), &login("calvin"), &password("hobbes")));
    assert_eq!(verdict.unwrap_err().kind(), ErrorKind::Internal);
    let report = rig.health.report();
    assert_eq!((report.up, report.errors), (Some(false), 2));
    // Nor is a person whom another source has issued.
    let rig = self::rig(Borrowed(info("app"), MemoryStore::named("other")));
    let (answer, _) = while_time_passes(&rig.clock, rig.watched.account(&Ctx::new(), &login("calvin")));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Internal);
    let (answer, _) = while_time_passes(&rig.clock, rig.watched.account(&Ctx::new(), &login("nobody")));
    assert_eq!(answer.unwrap(), Lookup::NotFound);
}

/// A store that shows another's people as they are.
#[derive(Debug)]
struct Borrowed(SourceInfo, MemoryStore);

#[async_trait]
impl AccountSource for Borrowed {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn account(&self, ctx: &Ctx, login: &auth_core::Login) -> Result<Lookup<auth_core::Account>> {
        self.1.account(ctx, login).await
    }
    async fn replace_hash(
        &self,
        _: &Ctx,
        _: &Principal,
        _: &auth_core::StoredHash,
        _: &auth_core::StoredHash,
    ) -> Result<bool> {
        Ok(false)
    }
}
