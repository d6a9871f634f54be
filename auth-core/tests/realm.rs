//! The facade: what a login costs, what an outage does, who hears of it, and what memory answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use Reject::{BadPassword, NoPassword, UnknownUser};
use Tell::{Accepts, Fails, Hangs, OtherRealm, Rejects, SomebodyElse};
use async_trait::async_trait;
use auth_core::{
    Access, ChainEntry, Clock, Ctx, DomainRouter, Error, ErrorKind, GroupOracle, GroupSet, GroupUnion,
    Health, Id, Link, Linked, Login, LoginRule, Lookup, Member, Next, NoOwners, ObjectPerms, ObjectRef,
    Password, PasswordChain, PasswordSource, Principal, Realm, Record, Reject, Result, Role, SourceInfo,
    Verdict, Watched,
};
use auth_testkit::{
    CountingSource, ManualClock, MemoryStore, MiscountingStore, Mode, ScriptedStore, info, login, object,
    password, principal_at, realm, realm_with,
};
use common::{Book, FINAL, Heard, Jobs, KINDS, Says, Tell, now, while_time_passes};

/// A realm with everything that a test looks at.
struct Rig {
    realm: Realm,
    clock: Arc<ManualClock>,
    jobs: Arc<Jobs>,
    heard: Arc<Heard>,
}

/// A realm over a password source, with a limit of ten seconds.
fn rig(passwords: impl FnOnce(&Arc<AtomicU32>) -> Arc<dyn PasswordSource>) -> Rig {
    let (clock, jobs, heard) = (ManualClock::new(), Arc::<Jobs>::default(), Arc::<Heard>::default());
    let passwords = passwords(&jobs.done);
    let (hashing, timing) = (Arc::<Jobs>::clone(&jobs), Arc::<ManualClock>::clone(&clock));
    let realm = Realm::new(realm(), passwords, hashing, timing).with_audit(Arc::<Heard>::clone(&heard));
    Rig { realm, clock, jobs, heard }
}

fn chain(sources: Vec<Arc<dyn PasswordSource>>) -> Arc<dyn PasswordSource> {
    let entries = sources.into_iter().map(ChainEntry::new).collect();
    Arc::new(PasswordChain::new(entries, Arc::new(NoOwners)).unwrap())
}

impl Rig {
    fn jobs(&self) -> u32 {
        self.jobs.done.load(Ordering::SeqCst)
    }

    fn login(&self) -> std::result::Result<Verdict, ErrorKind> {
        let (ctx, calvin, hobbes) = (Ctx::new(), login("calvin"), hobbes());
        let (verdict, _) = while_time_passes(&self.clock, self.realm.login(&ctx, &calvin, &hobbes));
        verdict.map_err(|error| error.kind())
    }
}

fn hobbes() -> Password {
    password("hobbes")
}

/// Checks what a login says, what it costs in hash jobs, and that the record says so too.
#[track_caller]
fn check_cost(rig: &Rig, expected: Option<Reject>, jobs: u32) {
    let record = Arc::new(Record::new());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    let before = rig.jobs();
    let verdict = now(rig.realm.login(&ctx, &login("calvin"), &hobbes())).unwrap();
    match (expected, &verdict) {
        (Some(expected), Verdict::Rejected(reason)) => assert_eq!(*reason, expected),
        (None, Verdict::Accepted(_)) => {}
        _ => panic!("{verdict:?} instead of {expected:?}"),
    }
    assert_eq!((rig.jobs() - before, record.hash_jobs()), (jobs, jobs), "{expected:?}");
    // Without a record of the caller's the cost is the same.
    let before = rig.jobs();
    now(rig.realm.login(&Ctx::new(), &login("calvin"), &hobbes())).unwrap();
    assert_eq!(rig.jobs() - before, jobs, "{expected:?}, unrecorded");
}

fn all_refusals() -> impl Iterator<Item = Reject> {
    [UnknownUser, BadPassword, NoPassword].into_iter().chain(FINAL)
}

#[test]
fn every_refusal_costs_one_hash_job_wherever_it_comes_from() {
    for reason in all_refusals() {
        for (verdict, account) in [(false, false), (false, true), (true, false), (true, true)] {
            // A source that hashes, one that decides by itself (a bind), and each behind an empty source.
            check_cost(
                &rig(|jobs| {
                    Arc::new(Says::new("a", Rejects(reason)).hashing(jobs).remembering(verdict, account))
                }),
                Some(reason),
                1,
            );
            check_cost(
                &rig(|_| Arc::new(Says::new("a", Rejects(reason)).remembering(verdict, account))),
                Some(reason),
                1,
            );
            let second = |jobs: &Arc<AtomicU32>| {
                let empty = Says::new("a", Rejects(UnknownUser)).hashing(jobs).remembering(verdict, account);
                let other = Says::new("b", Rejects(reason)).hashing(jobs).remembering(verdict, account);
                chain(vec![Arc::new(empty), Arc::new(other)])
            };
            check_cost(&rig(second), Some(reason), 1);
        }
    }
}

#[test]
fn a_record_that_is_used_again_saves_no_hash_job() {
    let rig = rig(|_| Arc::new(Says::new("a", Rejects(UnknownUser))));
    let ctx = Ctx::new().with_record(Arc::default());
    for attempt in 1..=3 {
        now(rig.realm.login(&ctx, &login("calvin"), &hobbes())).unwrap();
        assert_eq!(rig.jobs(), attempt);
    }
}

#[test]
fn a_denied_person_costs_one_hash_job() {
    let denied = |jobs: &Arc<AtomicU32>| -> Arc<dyn PasswordSource> {
        let deny = ChainEntry::new(Arc::new(Says::new("banned", Accepts))).with_role(Role::Deny);
        let decide = ChainEntry::new(Arc::new(Says::new("a", Accepts).hashing(jobs)));
        Arc::new(PasswordChain::new(vec![deny, decide], Arc::new(NoOwners)).unwrap())
    };
    check_cost(&rig(denied), Some(Reject::Disabled), 1);
}

#[test]
fn a_login_costs_one_hash_job_and_none_from_memory() {
    check_cost(&rig(|jobs| Arc::new(Says::new("a", Accepts).hashing(jobs))), None, 1);
    check_cost(&rig(|jobs| Arc::new(Says::new("a", Accepts).hashing(jobs).remembering(true, true))), None, 0);
    let second = |verdict| {
        move |jobs: &Arc<AtomicU32>| {
            let empty = Says::new("a", Rejects(UnknownUser)).hashing(jobs).remembering(verdict, true);
            chain(vec![
                Arc::new(empty),
                Arc::new(Says::new("b", Accepts).hashing(jobs).remembering(verdict, true)),
            ])
        }
    };
    check_cost(&rig(second(false)), None, 1);
    check_cost(&rig(second(true)), None, 0);
}

/// Checks what somebody typed, what it costs, and what the audit log hears of it.
#[track_caller]
fn check_attempt(rig: &Rig, typed: &str, secret: &[u8], expected: Reject, heard: &str) {
    let before = rig.jobs();
    let verdict = now(rig.realm.attempt(&Ctx::new(), typed, secret.to_vec()));
    assert_eq!(verdict.unwrap(), Verdict::Rejected(expected), "{typed:?}");
    assert_eq!(rig.jobs() - before, 1, "{typed:?}");
    assert_eq!(rig.heard.take(), [(heard.to_owned(), expected.to_string(), false)]);
}

#[test]
fn impossible_input_is_refused_like_any_other_and_nobody_is_asked() {
    let source = Arc::new(CountingSource::new(Arc::new(Says::new("a", Accepts))));
    let rig = rig(|_| Arc::<CountingSource<Says>>::clone(&source));
    let emoji = "\u{1f42f}".repeat(70);
    for (typed, heard) in [
        ("", ""),
        ("cal vin", "cal vin"),
        ("cal\0vin\r\nroot accepted\u{1b}[2J", "cal\u{fffd}vin\u{fffd}\u{fffd}root accepted\u{fffd}[2J"),
        (&"a".repeat(300), &"a".repeat(63)),
        (&emoji, &"\u{1f42f}".repeat(63)),
    ] {
        check_attempt(&rig, typed, b"hobbes", UnknownUser, heard);
        check_attempt(&rig, typed, b"", UnknownUser, heard);
        assert!(heard.len() <= 255, "a line of the audit log is bounded");
    }
    for secret in [Vec::new(), b"hob\0bes".to_vec(), vec![b'x'; 1025]] {
        check_attempt(&rig, "Calvin", &secret, BadPassword, "Calvin");
    }
    assert_eq!(source.asked(), 0);
}

#[test]
fn what_is_typed_is_brought_to_normal_form() {
    let rig = rig(|_| Arc::new(Says::new("a", Accepts)));
    let verdict = now(rig.realm.attempt(&Ctx::new(), "CALVIN", b"hobbes".to_vec())).unwrap();
    let Verdict::Accepted(who) = verdict else { panic!("the password is right") };
    assert_eq!(who.login(), &login("calvin"));
    assert_eq!(rig.heard.take(), [("calvin".to_owned(), "accepted".to_owned(), false)]);
}

#[test]
fn a_full_hashing_queue_is_an_error_and_no_cheaper_refusal() {
    for reason in all_refusals() {
        let rig = rig(|_| Arc::new(Says::new("a", Rejects(reason))));
        *rig.jobs.full.lock().unwrap() = true;
        assert_eq!(rig.login(), Err(ErrorKind::Overloaded));
        let attempt = now(rig.realm.attempt(&Ctx::new(), "cal vin", b"hobbes".to_vec()));
        assert_eq!(attempt.unwrap_err().kind(), ErrorKind::Overloaded);
    }
}

#[test]
fn the_audit_log_hears_of_each_login_once() {
    let hear = |tell, remembered| {
        let rig = rig(|_| Arc::new(Says::new("a", tell).remembering(remembered, remembered)));
        let _outcome = rig.login();
        rig.heard.take()
    };
    let heard = |outcome: &str, remembered| [("calvin".to_owned(), outcome.to_owned(), remembered)];
    assert_eq!(hear(Accepts, false), heard("accepted", false));
    assert_eq!(hear(Accepts, true), heard("accepted", true));
    for reason in all_refusals() {
        assert_eq!(hear(Rejects(reason), false), heard(reason.as_str(), false));
        assert_eq!(hear(Rejects(reason), true), heard(reason.as_str(), false));
    }
    for kind in KINDS {
        assert_eq!(hear(Fails(kind), false), heard(kind.as_str(), false));
    }
    assert_eq!(hear(Hangs, false), heard("timeout", false));
    assert_eq!(hear(SomebodyElse, false), heard("internal", false));
    assert_eq!(hear(SomebodyElse, true), heard("internal", true));
}

#[test]
fn a_login_of_another_realm_is_an_invalid_question() {
    let source = Arc::new(CountingSource::new(Arc::new(Says::new("a", Accepts).remembering(true, true))));
    let rig = rig(|_| Arc::<CountingSource<Says>>::clone(&source));
    let elsewhere = realm_with("elsewhere", LoginRule::CaseMapped);
    let calvin = Login::parse(&elsewhere, "calvin").unwrap();
    let ctx = Ctx::new();
    assert_eq!(now(rig.realm.login(&ctx, &calvin, &hobbes())).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(now(rig.realm.principal(&ctx, &calvin)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(now(rig.realm.account(&ctx, &calvin)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(source.counts().asked() + source.counts().peek, 0);
}

#[test]
fn a_person_of_another_realm_is_an_invalid_question_even_if_both_share_a_store() {
    let store = Arc::new(CountingSource::new(Arc::new(MemoryStore::named("app"))));
    let rig = with_rights(rig(|_| Arc::new(Says::new("app", Accepts))), &store);
    let elsewhere = realm_with("elsewhere", LoginRule::CaseMapped);
    let calvin = Login::parse(&elsewhere, "calvin").unwrap();
    let who = Principal::found(&info("app"), &calvin, "calvin", Id::from(1)).unwrap();
    assert_eq!(rights(&rig, &who), [(); 4].map(|()| Err(ErrorKind::Invalid)));
    assert_eq!(store.asked(), 0);
    let own = principal_at("app", "calvin", Id::from(1));
    assert_eq!(
        rights(&rig, &own),
        ["admin,staff", "member", "allow", "allow"].map(|text| Ok(text.to_owned()))
    );
}

/// Gives the realm an oracle and a store of rights, and room for more.
fn with_rights<S: GroupOracle + ObjectPerms + 'static>(rig: Rig, store: &Arc<S>) -> Rig {
    with_two(rig, vec![Arc::<S>::clone(store)], Arc::<S>::clone(store))
}

fn with_two(rig: Rig, oracles: Vec<Arc<dyn GroupOracle>>, objects: Arc<dyn ObjectPerms>) -> Rig {
    let realm = rig
        .realm
        .with_groups(GroupUnion::new(oracles))
        .with_objects(DomainRouter::new([(Arc::from("doc"), objects)]));
    Rig { realm, ..rig }
}

/// Asks a realm everything about a person's groups and rights, while time passes.
fn rights(rig: &Rig, who: &Principal) -> [std::result::Result<String, ErrorKind>; 4] {
    fn told<T>(answer: Result<T>, text: impl FnOnce(T) -> String) -> std::result::Result<String, ErrorKind> {
        answer.map(text).map_err(|error| error.kind())
    }
    let (ctx, doc, realm) = (Ctx::new(), object("doc", 1), &rig.realm);
    let access = |access: Access| access.as_str().to_owned();
    let list = |groups: GroupSet| groups.iter().collect::<Vec<_>>().join(",");
    let objects = [doc.clone()];
    let many = while_time_passes(&rig.clock, realm.access_many(&ctx, who, &objects, Some("write"))).0;
    let [one] = <[_; 1]>::try_from(many).unwrap();
    [
        told(while_time_passes(&rig.clock, realm.groups(&ctx, who)).0, list),
        told(while_time_passes(&rig.clock, realm.is_member(&ctx, who, "admin")).0, |member| {
            member.as_str().into()
        }),
        told(while_time_passes(&rig.clock, realm.access(&ctx, who, &doc, Some("write"))).0, access),
        told(one, access),
    ]
}

/// Every way in which a source can fail to answer.
fn faults() -> impl Iterator<Item = Tell> {
    KINDS.map(Fails).into_iter().chain([Hangs, SomebodyElse, OtherRealm])
}

/// Asks a realm of two sources for a login and for a person.
fn both_ways(
    first: Tell,
    second: Tell,
    on_error: Next,
    watched: bool,
) -> [std::result::Result<String, ErrorKind>; 2] {
    let rig = rig(|_| Arc::new(Says::new("unused", Accepts)));
    let watch = |name: &str, tell| -> Arc<dyn PasswordSource> {
        let says = Arc::new(Says::new(name, tell));
        if !watched {
            return says;
        }
        let clock = Arc::<ManualClock>::clone(&rig.clock);
        Arc::new(Watched::new(says, Duration::from_secs(3), clock, Arc::new(Health::default())))
    };
    let entries = vec![
        ChainEntry::new(watch("a", first)).on_error(on_error),
        ChainEntry::new(watch("b", second)).on_error(on_error),
    ];
    let chain = PasswordChain::new(entries, Arc::new(Book::default())).unwrap();
    let clock = Arc::<ManualClock>::clone(&rig.clock);
    let realm = Realm::new(realm(), Arc::new(chain), Arc::<Jobs>::clone(&rig.jobs), clock);
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    let (verdict, _) = while_time_passes(&rig.clock, realm.login(&ctx, &calvin, &hobbes()));
    let (lookup, _) = while_time_passes(&rig.clock, realm.principal(&ctx, &calvin));
    let verdict = verdict.map(|verdict| match verdict {
        Verdict::Accepted(who) => format!("accepted by {}", who.source()),
        Verdict::Rejected(reason) => reason.to_string(),
    });
    let lookup = lookup.map(|lookup| match lookup {
        Lookup::Found(who) => format!("found at {}", who.source()),
        Lookup::NotFound => "not found".to_owned(),
    });
    [verdict, lookup].map(|answer| answer.map_err(|error| error.kind()))
}

/// The kind of error that a fault becomes.
fn kind_of(fault: Tell) -> ErrorKind {
    match fault {
        Fails(kind) => kind,
        Hangs => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

#[test]
fn an_outage_of_the_first_source_is_an_error_unless_the_second_is_sure() {
    for fault in faults() {
        let error = Err(kind_of(fault));
        for second in [Accepts, Rejects(BadPassword), Rejects(UnknownUser)] {
            assert_eq!(
                both_ways(fault, second, Next::Stop, true),
                [error.clone(), error.clone()],
                "{fault:?}"
            );
        }
        for watched in [false, true] {
            // What is not watched takes the whole question along when it hangs, or answers about somebody else.
            let goes_on = matches!(fault, Fails(_)) || watched;
            let [verdict, person] = both_ways(fault, Accepts, Next::Continue, watched);
            let sure = |text: &str| if goes_on { Ok(text.to_owned()) } else { error.clone() };
            assert_eq!((verdict, person), (sure("accepted by b"), sure("found at b")), "{fault:?}");
            let [verdict, person] = both_ways(fault, Rejects(BadPassword), Next::Continue, watched);
            assert_eq!((verdict, person), (error.clone(), sure("found at b")), "{fault:?}");
            let unknown = both_ways(fault, Rejects(UnknownUser), Next::Continue, watched);
            assert_eq!(unknown, [error.clone(), error.clone()], "{fault:?}");
        }
    }
}

#[test]
fn an_outage_of_the_second_source_changes_no_final_answer_of_the_first() {
    for fault in faults() {
        for (watched, on_error) in
            [(false, Next::Stop), (false, Next::Continue), (true, Next::Stop), (true, Next::Continue)]
        {
            let ask = |first| both_ways(first, fault, on_error, watched);
            let ok = |texts: [&str; 2]| texts.map(|text| Ok(text.to_owned()));
            assert_eq!(ask(Accepts), ok(["accepted by a", "found at a"]), "{fault:?}");
            assert_eq!(ask(Rejects(BadPassword)), ok(["bad_password", "found at a"]), "{fault:?}");
            let error = Err(kind_of(fault));
            assert_eq!(ask(Rejects(UnknownUser)), [error.clone(), error], "{fault:?}");
        }
    }
}

#[test]
fn an_outage_of_an_oracle_is_never_a_no() {
    let calvin = principal_at("app", "calvin", Id::from(1));
    for mode in KINDS.map(Mode::Fails).into_iter().chain([Mode::Hangs]) {
        let kind = if let Mode::Fails(kind) = mode { kind } else { ErrorKind::Timeout };
        for at in [0, 1] {
            let faulty = || Arc::new(ScriptedStore::in_mode(info("faulty"), mode));
            let sound: Arc<dyn GroupOracle> = Arc::new(MemoryStore::named("app"));
            let mut oracles: Vec<Arc<dyn GroupOracle>> = vec![sound];
            oracles.insert(at, faulty());
            let rig = with_two(rig(|_| Arc::new(Says::new("app", Accepts))), oracles, faulty());
            let [groups, member, access, many] = rights(&rig, &calvin);
            assert_eq!([groups, access, many], [(); 3].map(|()| Err(kind)), "{mode:?} at {at}");
            // A yes stands if it is heard at all; an oracle that hangs before it is a timeout.
            let heard = at == 1 || mode != Mode::Hangs;
            assert_eq!(member, if heard { Ok("member".to_owned()) } else { Err(kind) }, "{mode:?} at {at}");
            let ctx = Ctx::new();
            let (ghosts, _) = while_time_passes(&rig.clock, rig.realm.is_member(&ctx, &calvin, "ghosts"));
            assert_eq!(ghosts.unwrap_err().kind(), kind, "{mode:?} at {at}");
        }
    }
}

#[test]
fn a_store_that_leaves_out_an_object_is_an_error_for_that_object() {
    let one = Arc::new(MiscountingStore::new(info("app"), 1));
    let rig = with_two(rig(|_| Arc::new(Says::new("app", Accepts))), Vec::new(), one);
    let calvin = principal_at("app", "calvin", Id::from(1));
    let objects = [object("doc", 1), object("doc", 2)];
    let answers = now(rig.realm.access_many(&Ctx::new(), &calvin, &objects, None));
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Ok(Access::Allow), Err(ErrorKind::Internal)]);
}

#[test]
fn a_source_that_ignores_its_deadline_holds_the_realm_no_longer_than_its_limit() {
    let rig = rig(|_| Arc::new(Says::new("a", Hangs)));
    let hanging = Arc::new(ScriptedStore::in_mode(info("app"), Mode::Hangs));
    let rig = with_two(rig, vec![Arc::<ScriptedStore>::clone(&hanging)], hanging);
    let (calvin, who) = (login("calvin"), principal_at("app", "calvin", Id::from(1)));
    let objects = [object("doc", 1), object("doc", 2)];
    // The realm's own limit, then the caller's deadline if that is earlier; never a later one.
    for (asked, given) in [(None, 10), (Some(4), 4), (Some(30), 10)] {
        let ctx = || match asked {
            Some(seconds) => Ctx::new().with_deadline(rig.clock.now() + Duration::from_secs(seconds)),
            None => Ctx::new(),
        };
        let check = |answer: Option<Error>, took: Duration| {
            assert_eq!(answer.map(|error| error.kind()), Some(ErrorKind::Timeout), "{asked:?}");
            assert_eq!(took, Duration::from_secs(given), "{asked:?}");
        };
        let (limit, realm, clock) = (ctx(), &rig.realm, &rig.clock);
        let (answer, took) = while_time_passes(clock, realm.login(&limit, &calvin, &hobbes()));
        check(answer.err(), took);
        let limit = ctx();
        let (answer, took) = while_time_passes(clock, realm.account(&limit, &calvin));
        check(answer.err(), took);
        let limit = ctx();
        let (answer, took) = while_time_passes(clock, realm.groups(&limit, &who));
        check(answer.err(), took);
        let limit = ctx();
        let (answer, took) = while_time_passes(clock, realm.is_member(&limit, &who, "admin"));
        check(answer.err(), took);
        let limit = ctx();
        let (answer, took) = while_time_passes(clock, realm.access(&limit, &who, &objects[0], None));
        check(answer.err(), took);
        let limit = ctx();
        let (answers, took) = while_time_passes(clock, realm.access_many(&limit, &who, &objects, None));
        assert_eq!(answers.len(), 2);
        answers.into_iter().for_each(|answer| check(answer.err(), took));
    }
}

#[test]
fn a_realm_has_the_limit_that_it_is_given() {
    let clock = ManualClock::new();
    let timing = Arc::<ManualClock>::clone(&clock);
    let realm = Realm::new(realm(), Arc::new(Says::new("a", Hangs)), Arc::new(Jobs::default()), timing)
        .with_limit(Duration::from_secs(2));
    let (_, took) = while_time_passes(&clock, realm.login(&Ctx::new(), &login("calvin"), &hobbes()));
    assert_eq!(took, Duration::from_secs(2));
}

/// An oracle and a store of rights that answers from memory only; a question is a failure of the test.
#[derive(Debug)]
struct FromMemory(SourceInfo);

#[async_trait]
impl GroupOracle for FromMemory {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn groups_of(&self, _: &Ctx, _: &Principal) -> Result<Lookup<GroupSet>> {
        panic!("memory knows the groups")
    }
    fn peek_groups(&self, _: &Ctx, _: &Principal) -> Option<Lookup<GroupSet>> {
        Some(Lookup::Found(["staff"].into_iter().collect()))
    }
}

#[async_trait]
impl ObjectPerms for FromMemory {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        panic!("memory knows the rights")
    }
    fn peek_access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Option<Access> {
        Some(Access::Allow)
    }
}

#[test]
fn memory_is_asked_first_and_what_it_knows_is_no_question() {
    let counted = Arc::new(CountingSource::new(Arc::new(Says::new("app", Accepts).remembering(true, true))));
    let memory = Arc::new(CountingSource::new(Arc::new(Linked::groups(
        Arc::new(FromMemory(info("app"))),
        Link::None,
    ))));
    let rig = with_rights(rig(|_| Arc::<CountingSource<Says>>::clone(&counted)), &memory);
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    let Ok(Verdict::Accepted(who)) = rig.login() else { panic!("memory accepts") };
    assert_eq!(now(rig.realm.principal(&ctx, &calvin)).unwrap(), Lookup::Found(who.clone()));
    assert_eq!(now(rig.realm.groups(&ctx, &who)).unwrap().iter().collect::<Vec<_>>(), ["staff"]);
    assert_eq!(now(rig.realm.is_member(&ctx, &who, "staff")).unwrap(), Member::Yes);
    assert_eq!(now(rig.realm.is_member(&ctx, &who, "admin")).unwrap(), Member::No);
    assert_eq!(now(rig.realm.access(&ctx, &who, &object("doc", 1), None)).unwrap(), Access::Allow);
    assert_eq!((counted.asked(), memory.asked()), (0, 0));
    assert_eq!((counted.counts().peek, memory.counts().peek), (2, 4));
}

#[test]
fn somebody_else_in_memory_is_an_error_too() {
    for tell in [SomebodyElse, OtherRealm] {
        let rig = rig(|_| Arc::new(Says::new("a", tell).remembering(true, true)));
        assert_eq!(rig.login(), Err(ErrorKind::Internal));
        let person = now(rig.realm.principal(&Ctx::new(), &login("calvin")));
        assert_eq!(person.unwrap_err().kind(), ErrorKind::Internal);
    }
}
