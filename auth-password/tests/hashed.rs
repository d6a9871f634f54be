//! A store that shows hashes, made to decide.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use auth_core::{
    Account, AccountSource, AccountState, CacheUse, Clock, Ctx, ErrorKind, Fence, Freshness, Id, Lock, Login,
    Lookup, Password, PasswordSource, Record, Reject, Subject, Verdict,
};
use auth_password::{Hashed, Hasher, HasherConfig, MemoConfig, Outcome, Policy, Preferred, identify, make};
use auth_testkit::suite::{Bench, run_all_password};
use auth_testkit::{ManualClock, MemoryStore, hash, login, password, principal_at, realm};

use rig::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_behaviour_suite_holds_with_and_without_a_memo() {
    for memo in [MemoConfig::default(), MemoConfig { entries: 0, ..MemoConfig::default() }] {
        let clock: Arc<dyn Clock> = ManualClock::new();
        // Preferred as the world's people have it, so that nothing is upgraded under the suite.
        let policy = Policy { preferred: Preferred::Bcrypt { cost: 4 }, ..Policy::default() };
        let hasher = Arc::new(Hasher::new(HasherConfig::default(), policy, Arc::clone(&clock)).unwrap());
        let store: Arc<dyn AccountSource> = Arc::new(MemoryStore::new());
        let hashed = Hashed::new(store, hasher, memo, Arc::default(), clock).unwrap();
        let bench = Bench::new(&realm());
        run_all_password(&hashed, &bench).await;
        assert_eq!(hashed.stats().memo_entries > 0, memo.entries > 0);
    }
}

#[tokio::test]
async fn each_path_costs_the_jobs_that_it_must() {
    let rig = rig();
    rig.store.memory.add_user("susie", Id::from(2), None);
    let check = async |name: &str, text: &str, verdict: Verdict, jobs: u32| {
        let record = Arc::new(Record::new());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let before = rig.jobs();
        assert_eq!(rig.hashed.verify(&ctx, &login(name), &password(text)).await.unwrap(), verdict);
        assert_eq!((record.hash_jobs(), rig.jobs() - before), (jobs, u64::from(jobs)), "{name} {text}");
    };
    check("nobody", "hobbes", Verdict::Rejected(Reject::UnknownUser), 0).await;
    check("susie", "hobbes", Verdict::Rejected(Reject::NoPassword), 0).await;
    check("calvin", "else", BAD, 1).await;
    check("calvin", "hobbes", calvin(), 1).await;
    check("calvin", "hobbes", calvin(), 0).await;
    check("calvin", "else", BAD, 1).await;
    assert_eq!(rig.hashed.stats().memo_hits, 1);
}

#[tokio::test]
async fn wrappers_of_different_stores_are_listed_together() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&rig.clock);
    let wrap = |inner: Arc<dyn AccountSource>| -> Arc<Hashed> {
        let (hasher, fence) = (Arc::clone(&rig.hasher), Arc::clone(&rig.fence));
        let memo = MemoConfig::default();
        Arc::new(Hashed::new(inner, hasher, memo, fence, Arc::clone(&clock)).unwrap())
    };
    let other = MemoryStore::empty("other");
    let all = [wrap(Arc::<Store>::clone(&rig.store)), wrap(Arc::new(other))];
    for _ in 0..3 {
        all[0].verify(&Ctx::new(), &login("calvin"), &password("hobbes")).await.unwrap();
    }
    let listed: Vec<_> = all.iter().map(|one| (one.source().name().to_string(), one.stats())).collect();
    assert_eq!((listed[0].0.as_str(), listed[1].0.as_str()), ("app", "other"));
    assert_eq!((listed[0].1.upgrades, listed[0].1.memo_hits, listed[0].1.upgrade_failures), (1, 1, 0));
    assert_eq!((listed[1].1.upgrades, listed[1].1.memo_hits), (0, 0));
}

#[tokio::test]
async fn the_marks_of_a_switched_off_password_let_nobody_in() {
    let rig = rig();
    for text in ["!", "!!", "!$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6", "*", "*0"] {
        rig.set(text, None);
        for typed in ["hobbes", text] {
            assert_eq!(rig.verify(typed).await.unwrap(), Verdict::Rejected(Reject::NoPassword));
        }
    }
    // Under a scheme of its own it is what the scheme makes of it.
    rig.set("!", Some("plaintext"));
    assert_eq!(rig.verify("!").await.unwrap(), calvin());
    assert_eq!(rig.jobs(), 2, "one to verify, one to upgrade");
}

#[tokio::test]
async fn an_unreadable_hash_is_an_error_that_names_the_source_and_not_the_hash() {
    let rig = rig();
    let check = async |text: &str, scheme: Option<&str>, kind: ErrorKind| {
        rig.set(text, scheme);
        let error = rig.verify("hobbes").await.unwrap_err();
        assert_eq!((error.kind(), error.origin()), (kind, Some("app")), "{text}");
        assert!(text.is_empty() || !format!("{error:?}").contains(text), "{error:?}");
        assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    };
    check("canary-51b7", None, ErrorKind::Corrupt).await;
    check("", None, ErrorKind::Corrupt).await;
    check("canary-51b7", Some("bcrypt"), ErrorKind::Corrupt).await;
    check("hobbes", Some("canary-51b7"), ErrorKind::Misconfigured).await;
    assert_eq!(rig.jobs(), 0);
}

#[tokio::test]
async fn the_login_and_the_realm_salt_the_hashes_that_ask_for_them() {
    let rig = rig();
    // MD5 of the password and `calvin`, and of `calvin:default:` and the password.
    for (text, scheme) in [
        ("md55b1e9b26a0a7b2b8f2e3d3a0e4d5c6b7", "postgres_md5"),
        ("5b1e9b26a0a7b2b8f2e3d3a0e4d5c6b7", "digest_ha1"),
    ] {
        rig.set(text, Some(scheme));
        assert_eq!(rig.verify("hobbes").await.unwrap(), BAD, "{scheme}");
    }
    for (text, scheme) in [(POSTGRES, "postgres_md5"), (HA1, "digest_ha1")] {
        rig.set(text, Some(scheme));
        assert_eq!(rig.verify("hobbes").await.unwrap(), calvin(), "{scheme}");
    }
    // As the store spells it.
    rig.store.memory.add_user("Susie", Id::from(2), Some(hash(POSTGRES_SUSIE)));
    let verdict = rig.hashed.verify(&Ctx::new(), &login("susie"), &password("hobbes")).await.unwrap();
    assert!(matches!(verdict, Verdict::Accepted(who) if who.shown() == "Susie"));
}

const POSTGRES: &str = "md5f7e214cdf7fbd4e6d53fbddc0f283ab0";
const HA1: &str = "f8e5a754f6f1ffd436d14f00bdd070da";
const POSTGRES_SUSIE: &str = "md51f7b9e4ed77ed49ad053bd0a3d8201b6";

#[tokio::test]
async fn a_hundred_thousand_wrong_passwords_leave_nothing_behind() {
    // Each costs a job of its own, and the least that there is.
    let least = Preferred::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
    let rig = rig_with(MemoConfig::default(), least);
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    for n in 0..100_000 {
        assert_eq!(rig.verify(&format!("guess {n}")).await.unwrap(), BAD);
    }
    assert_eq!((rig.hashed.stats().memo_entries, rig.jobs()), (0, 100_000));
}

#[tokio::test]
async fn an_attempt_that_memory_can_not_answer_looks_for_the_account_once() {
    let rig = rig();
    let looked = |asked: u64| {
        let before = rig.store.peeked.swap(0, Ordering::SeqCst);
        assert_eq!(before, asked);
    };
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    looked(0);
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    looked(1);
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), Some(calvin()));
    looked(1);
    rig.clock.advance(TTL);
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    looked(0);
}

#[tokio::test]
async fn a_right_password_is_remembered_for_its_lifetime_and_not_longer() {
    let rig = rig();
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    // Use does not extend it.
    for _ in 0..3 {
        rig.clock.advance(TTL / 4);
        assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
        assert_eq!(rig.peek(&Ctx::new(), "hobbes"), Some(calvin()));
    }
    assert_eq!(rig.jobs(), 1);
    rig.clock.advance(TTL / 4);
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!((rig.jobs(), rig.hashed.stats().memo_entries), (2, 1));
}

#[tokio::test]
async fn a_changed_hash_makes_the_memo_unreachable() {
    let rig = rig();
    rig.verify("hobbes").await.unwrap();
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), Some(calvin()));
    let old = rig.stored().await;
    rig.store.memory.set_hash("calvin", Some(fresh("stripes")));
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    assert_eq!(rig.verify("hobbes").await.unwrap(), BAD);
    assert_eq!(rig.verify("stripes").await.unwrap(), calvin());
    // Also the same hash under another scheme.
    rig.set(old.as_str(), Some("fsa:argon2"));
    let before = rig.jobs();
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!(rig.jobs(), before + 1);
}

#[tokio::test]
async fn an_invalidation_voids_the_memo() {
    let rig = rig();
    let (realm, app, one) = (realm(), "app", Id::from(1));
    let (me, other) = (login("calvin"), login("susie"));
    let subjects = [
        (Subject::Login(&me), true),
        (Subject::Id { realm: &realm, source: app, id: &one }, true),
        (Subject::Realm(&realm), true),
        (Subject::All, true),
        (Subject::Login(&other), false),
    ];
    for (subject, voids) in subjects {
        rig.verify("hobbes").await.unwrap();
        assert_eq!(rig.peek(&Ctx::new(), "hobbes"), Some(calvin()));
        rig.fence.invalidate(&subject);
        let before = rig.jobs();
        assert_eq!(rig.peek(&Ctx::new(), "hobbes").is_none(), voids, "{subject:?}");
        assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
        assert_eq!(rig.jobs() - before, u64::from(voids), "{subject:?}");
    }
}

#[tokio::test]
async fn an_invalidation_while_a_password_is_verified_voids_what_is_learned() {
    let store = Arc::new(auth_testkit::ScriptedStore::new(auth_testkit::info("app")));
    let rig = rig();
    let fence = Arc::new(Fence::new());
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&rig.clock);
    let hashed =
        Hashed::new(Arc::clone(&store), rig.hasher, MemoConfig::default(), Arc::clone(&fence), clock)
            .unwrap();
    let who = principal_at("app", "calvin", Id::from(1));
    let stored = fresh("hobbes");
    let account = || Account::new(who.clone(), AccountState::default(), Some(stored.clone()));
    let one = Id::from(1);
    let subjects = [Subject::Login(who.login()), Subject::Id { realm: who.realm(), source: "app", id: &one }];
    for subject in subjects {
        let (ctx, calvin, right) = (Ctx::new(), login("calvin"), password("hobbes"));
        let asked = hashed.verify(&ctx, &calvin, &right);
        let script = async {
            let question = store.next_question().await;
            fence.invalidate(&subject);
            question.answer(Ok(Lookup::Found(account())));
        };
        let (verdict, ()) = tokio::join!(asked, script);
        assert!(matches!(verdict.unwrap(), Verdict::Accepted(_)));
        // Kept perhaps, but never current.
        let record = Arc::new(Record::new());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let asked = hashed.verify(&ctx, &calvin, &right);
        let script = async { store.next_question().await.answer(Ok(Lookup::Found(account()))) };
        let (verdict, ()) = tokio::join!(asked, script);
        assert!(matches!(verdict.unwrap(), Verdict::Accepted(_)));
        assert_eq!(record.hash_jobs(), 1, "{subject:?}");
    }
}

#[tokio::test]
async fn the_freshness_of_the_question_is_honored() {
    let rig = rig();
    rig.verify("hobbes").await.unwrap();
    rig.clock.advance(Duration::from_secs(10));
    let check = async |freshness: Freshness, from_memory: bool| {
        let ctx = Ctx::new().with_freshness(freshness);
        assert_eq!(rig.peek(&ctx, "hobbes").is_some(), from_memory, "{freshness:?}");
    };
    check(Freshness::Any, true).await;
    check(Freshness::MaxAge(Duration::from_secs(10)), true).await;
    check(Freshness::MaxAge(Duration::from_secs(9)), false).await;
    check(Freshness::Fresh, false).await;
    let before = rig.jobs();
    rig.verify_in(&Ctx::new().with_freshness(Freshness::Fresh), "hobbes").await.unwrap();
    assert_eq!(rig.jobs(), before + 1);
}

#[tokio::test]
async fn the_state_of_an_account_is_looked_at_also_from_memory() {
    let rig = rig();
    rig.verify("hobbes").await.unwrap();
    rig.store.memory.set_state("calvin", AccountState { lock: Lock::Locked, ..AccountState::default() });
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None, "a peek says yes or nothing");
    assert_eq!(rig.verify("hobbes").await.unwrap(), Verdict::Rejected(Reject::Locked));
    assert_eq!(rig.verify("else").await.unwrap(), BAD);
    let ends = rig.clock.wall() + Duration::from_secs(5);
    rig.store.memory.set_state("calvin", AccountState { expires_at: Some(ends), ..AccountState::default() });
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), Some(calvin()));
    rig.clock.advance(Duration::from_secs(5));
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None);
    assert_eq!(rig.verify("hobbes").await.unwrap(), Verdict::Rejected(Reject::AccountExpired));
}

#[tokio::test]
async fn a_peek_is_silent_without_account_memo_or_hash() {
    let rig = rig();
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None, "nothing was verified");
    rig.verify("hobbes").await.unwrap();
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    assert_eq!(rig.peek(&ctx, "hobbes"), Some(calvin()));
    assert_eq!((record.cache(), record.hash_jobs()), (CacheUse::Hit, 0));
    let steps = record.steps();
    assert_eq!((steps.len(), steps[0].part, steps[0].age), (1, "memo", Some(Duration::ZERO)));
    assert_eq!(rig.peek(&Ctx::new(), "else"), None);
    assert_eq!(rig.hashed.peek_verify(&Ctx::new(), &login("nobody"), &password("hobbes")), None);
    rig.store.peeks.store(false, Ordering::SeqCst);
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None, "the account is not at hand");
    rig.store.peeks.store(true, Ordering::SeqCst);
    rig.store.memory.set_hash("calvin", None);
    assert_eq!(rig.peek(&Ctx::new(), "hobbes"), None, "there is no hash");

    let off = rig_with(MemoConfig { ttl: Duration::ZERO, ..MemoConfig::default() }, CHEAP);
    off.verify("hobbes").await.unwrap();
    off.verify("hobbes").await.unwrap();
    assert_eq!((off.peek(&Ctx::new(), "hobbes"), off.jobs()), (None, 2));
}

#[tokio::test]
async fn a_hash_that_is_less_than_preferred_is_replaced_after_a_right_password() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    assert_eq!(rig.verify("else").await.unwrap(), BAD);
    assert_eq!(rig.stored().await.as_str(), HEX_MD5_OF_HOBBES, "not after a wrong one");
    assert_eq!(rig.verify_in(&ctx, "hobbes").await.unwrap(), calvin());
    assert_eq!(record.hash_jobs(), 1, "the attempt has cost what others cost");
    assert!(record.steps().iter().any(|step| step.outcome == "upgraded"));
    assert_eq!(rig.hashed.stats().memo_entries, 0, "the old hash is of no use");
    let new = rig.stored().await;
    assert!(new.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
    assert_eq!(new.scheme(), None);
    // Verified, upgraded; then verified by the new hash; then remembered.
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!(rig.jobs(), 4);
    assert_eq!((rig.hashed.stats().upgrades, rig.hashed.stats().upgrade_failures), (1, 0));
}

#[tokio::test]
async fn an_upgrade_voids_what_is_remembered_of_the_account() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    let before = rig.fence.login(&login("calvin"));
    rig.verify("hobbes").await.unwrap();
    assert_ne!(rig.fence.login(&login("calvin")), before);
}

#[tokio::test]
async fn an_upgrade_never_overwrites_a_password_that_was_changed_meanwhile() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    rig.store.lost_race.store(true, Ordering::SeqCst);
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!((rig.hashed.stats().upgrades, rig.hashed.stats().upgrade_failures), (0, 0));
    assert_eq!(rig.verify("hobbes").await.unwrap(), BAD);
    assert_eq!(rig.verify("changed meanwhile").await.unwrap(), calvin());
}

#[tokio::test]
async fn an_upgrade_that_fails_does_not_fail_the_login() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    rig.store.fails_to_write.store(true, Ordering::SeqCst);
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
    let stats = rig.hashed.stats();
    assert_eq!((stats.upgrades, stats.upgrade_failures, stats.memo_hits), (0, 1, 1));
    assert_eq!(rig.stored().await.as_str(), HEX_MD5_OF_HOBBES);
}

#[tokio::test]
async fn an_upgrade_leaves_the_caller_time() {
    let rig = rig();
    rig.set(HEX_MD5_OF_HOBBES, Some("hex_md5"));
    let within =
        |rig: &Rig, millis| Ctx::new().with_deadline(rig.clock.now() + Duration::from_millis(millis));
    // Too short to begin.
    assert_eq!(rig.verify_in(&within(&rig, 400), "hobbes").await.unwrap(), calvin());
    assert_eq!((rig.jobs(), rig.hashed.stats().upgrade_failures), (1, 0));
    // A store that does not answer gets half of what is left.
    rig.clock.advance(TTL);
    rig.store.hangs.store(true, Ordering::SeqCst);
    let (hashed, ctx) = (Arc::clone(&rig.hashed), within(&rig, 2_000));
    let asked = tokio::spawn(async move { hashed.verify(&ctx, &login("calvin"), &password("hobbes")).await });
    while rig.jobs() < 3 || rig.clock.sleepers() < 1 {
        tokio::task::yield_now().await;
    }
    rig.clock.advance(Duration::from_millis(1_000));
    assert_eq!(asked.await.unwrap().unwrap(), calvin());
    assert_eq!(rig.hashed.stats().upgrade_failures, 1);
}

#[tokio::test]
async fn a_password_that_bcrypt_would_cut_keeps_its_hash() {
    let rig = rig_with(MemoConfig::default(), Preferred::Bcrypt { cost: 4 });
    let long = Password::new(vec![b'x'; 73]).unwrap();
    let old = make(&CHEAP, &long).unwrap();
    rig.store.memory.set_hash("calvin", Some(old.clone()));
    assert_eq!(rig.hashed.verify(&Ctx::new(), &login("calvin"), &long).await.unwrap(), calvin());
    assert_eq!(rig.stored().await, old);
    let stats = rig.hashed.stats();
    assert_eq!((stats.upgrades, stats.upgrade_failures, stats.memo_entries), (0, 0, 1));
}

/// Stores a hash of `right`, logs in with `typed`; reports whether the hash was replaced. Either way the owner
/// still gets in.
async fn is_replaced(text: &str, scheme: &str, right: &str, typed: &str) -> bool {
    let rig = rig();
    rig.set(text, Some(scheme));
    assert_eq!(rig.verify(typed).await.unwrap(), calvin(), "{scheme} {typed}");
    let replaced = rig.stored().await.as_str() != text;
    assert_eq!(rig.hashed.stats().upgrades, u64::from(replaced));
    assert_eq!(rig.verify(right).await.unwrap(), calvin(), "{scheme}: the owner, after {typed}");
    replaced
}

const DES_OF_LONG: &str = "abJnggxhB/yWI";
const DES_OF_SHORT: &str = "abTa/NZ35ayN6";
const SHA256_OF_80: &str = "d929cdeea7e6a0f46b59448d36a6fd491df8647cf292040508162ee5f6435ab8";
const SCRAM_OF_CAFE: &str = "$scram$1000$c2FsdHNhbHQ$sha-256=H...sOlC9mwNSw4Qq/bWC2Zad/yvI1wvhTVdjA0lWgM";

#[tokio::test]
async fn a_mistyped_end_that_des_crypt_does_not_read_does_not_lock_the_owner_out() {
    assert!(!is_replaced(DES_OF_LONG, "des_crypt", "password-right", "passwordTYPO").await);
    assert!(!is_replaced(DES_OF_LONG, "des_crypt", "password-right", "password-right").await);
    assert!(
        !is_replaced(DES_OF_LONG, "des_crypt", "password-right", "password").await,
        "eight may be a part"
    );
    assert!(is_replaced(DES_OF_SHORT, "des_crypt", "hobbes7", "hobbes7").await);
}

#[tokio::test]
async fn a_mistyped_end_that_bcrypt_does_not_read_does_not_lock_the_owner_out() {
    let all = |count: usize, end: &str| format!("{}{end}", "x".repeat(count));
    let of = |text: &str| {
        let cut = &text[..text.len().min(72)];
        make(&Preferred::Bcrypt { cost: 4 }, &password(cut)).unwrap().as_str().to_owned()
    };
    let right = all(72, "right");
    for scheme in ["bcrypt", "fsa:bcrypt"] {
        for typed in [all(72, "TYPO"), right.clone(), all(72, "")] {
            assert!(!is_replaced(&of(&right), scheme, &right, &typed).await, "{} bytes", typed.len());
        }
        let short = all(71, "");
        assert!(is_replaced(&of(&short), scheme, &short, &short).await);
    }
    // What hashes the password first reads all of it.
    let django = format!("bcrypt_sha256${}", of(SHA256_OF_80));
    assert!(is_replaced(&django, "django_bcrypt_sha256", &all(80, ""), &all(80, "")).await);
}

#[tokio::test]
async fn a_spelling_that_scram_takes_for_another_does_not_lock_the_owner_out() {
    assert!(!is_replaced(SCRAM_OF_CAFE, "scram", "caf\u{e9}", "cafe\u{301}").await);
}

#[tokio::test]
async fn a_one_time_code_is_accepted_once_and_never_remembered() {
    let rig = rig();
    rig.set(SECRET, Some("totp"));
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    rig.clock.set_wall(at(1_111_111_109));
    assert_eq!(rig.verify("081804").await.unwrap(), calvin());
    for _ in 0..2 {
        assert_eq!(rig.verify("081804").await.unwrap(), BAD, "replayed");
        assert_eq!(rig.peek(&Ctx::new(), "081804"), None);
    }
    let stats = rig.hashed.stats();
    assert_eq!((stats.memo_entries, stats.memo_hits, stats.upgrades), (0, 0, 0));
    assert_eq!(rig.stored().await.as_str(), SECRET);
    // Asked of the same source in another realm, it is the same code.
    let elsewhere = auth_testkit::realm_with("elsewhere", auth_core::LoginRule::Exact);
    let there = Login::parse(&elsewhere, "calvin").unwrap();
    assert_eq!(rig.hashed.verify(&Ctx::new(), &there, &password("081804")).await.unwrap(), BAD);
    assert_eq!(rig.verify("050471").await.unwrap(), calvin(), "the next code");
    assert_eq!(rig.verify("081804").await.unwrap(), BAD, "an earlier one");
}

#[tokio::test]
async fn one_of_many_simultaneous_uses_of_a_code_wins() {
    let rig = rig();
    rig.set(SECRET, Some("totp"));
    rig.clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(59));
    let uses = (0..32).map(|_| rig.verify("287082"));
    let verdicts = futures_util::future::join_all(uses).await;
    let accepted = verdicts.into_iter().filter(|verdict| matches!(verdict, Ok(Verdict::Accepted(_)))).count();
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn an_account_is_the_stores() {
    let rig = rig();
    let found = rig.hashed.account(&Ctx::new(), &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(Verdict::Accepted(found.principal().clone()), calvin());
    assert_eq!(rig.hashed.account(&Ctx::new(), &login("nobody")).await.unwrap(), Lookup::NotFound);
    assert_eq!(rig.hashed.peek_account(&Ctx::new(), &login("nobody")), Some(Lookup::NotFound));
    assert_eq!(rig.hashed.source().name().as_ref(), "app");
}

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let canaries = ["canary-1e9c", "canary-b04d", "5b1e9b26", HEX_MD5_OF_HOBBES];
    let rig = rig();
    let mut said = Vec::new();
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    for (text, scheme) in [
        ("canary-1e9c", None),
        ("canary-1e9c", Some("plaintext")),
        ("canary-1e9c", Some("bcrypt")),
        ("hobbes", Some("canary-b04d")),
        (HEX_MD5_OF_HOBBES, Some("hex_md5")),
        ("$2b$31$5b1e9b26pZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4Hisg", None),
        ("$2b$31$5b1e9b26pZPc0ytdq1dfR.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe", None),
    ] {
        rig.set(text, scheme);
        for typed in ["canary-1e9c", "canary-b04d", "hobbes"] {
            let outcome = rig.verify_in(&ctx, typed).await;
            if let Err(error) = &outcome {
                said.push(error.to_string());
            }
            said.push(format!("{outcome:?}"));
        }
        said.push(format!("{:?} {:?} {:?}", rig.hashed, rig.hasher, rig.store.memory.source()));
    }
    said.push(format!("{:?}", record.steps()));
    said.push(format!("{:?} {:?}", rig.hasher.stats(), rig.hashed.stats()));
    said.push(format!("{:?}", Outcome::Mismatch));
    assert!(said.len() > 20);
    for text in &said {
        // What the store itself prints of its own test data does not count.
        let text = text.split("inner").next().unwrap();
        assert!(canaries.iter().all(|canary| !text.contains(canary)), "{text}");
    }
    assert_eq!(identify("canary-1e9c"), None);
}
