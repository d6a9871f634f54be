//! What an attempt costs, in jobs and in units of a preferred hash's work, never by a clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

mod rig;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{AccountState, Clock, Ctx, Lock, Record, Reject, Verdict};
use auth_password::{MemoConfig, Preferred, make};
use auth_testkit::password;

use rig::*;

const REFUSALS: [Reject; 4] = [Reject::Disabled, Reject::Locked, Reject::NotNow, Reject::AccountExpired];

fn refused(rig: &Rig, why: &Reject) -> AccountState {
    let (now, hour) = (rig.clock.wall(), Duration::from_secs(3_600));
    let state = AccountState::default();
    match why {
        Reject::Disabled => AccountState { disabled: true, ..state },
        Reject::Locked => AccountState { lock: Lock::Locked, ..state },
        Reject::NotNow => AccountState { not_before: Some(now + hour), ..state },
        _ => AccountState { expires_at: Some(now - hour), ..state },
    }
}

/// What an attempt has cost: jobs by its record, jobs by the pool, and units of a preferred hash's work.
async fn cost(rig: &Rig, text: &str, verdict: &Verdict) -> (u32, u64, u64) {
    let record = Arc::new(Record::new());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    let before = rig.hasher.stats();
    assert_eq!(rig.verify_in(&ctx, text).await.unwrap(), *verdict, "{text}");
    let after = rig.hasher.stats();
    assert_eq!(after.pads, before.pads);
    (record.hash_jobs(), after.jobs - before.jobs, after.dummies - before.dummies)
}

#[tokio::test]
async fn a_refused_account_costs_the_same_whether_the_password_is_right() {
    let rig = rig_with(MemoConfig::default(), Preferred::Bcrypt { cost: 6 });
    let cheap = [
        (HEX_MD5_OF_HOBBES.to_owned(), Some("hex_md5")),
        ("hobbes".to_owned(), Some("plaintext")),
        (cheap_argon2("hobbes"), None),
        (make(&Preferred::Bcrypt { cost: 4 }, &password("hobbes")).unwrap().as_str().to_owned(), None),
    ];
    let preferred = make(&Preferred::Bcrypt { cost: 6 }, &password("hobbes")).unwrap();
    for why in &REFUSALS {
        for (text, scheme) in &cheap {
            rig.set(text, *scheme);
            rig.store.memory.set_state("calvin", refused(&rig, why));
            assert_eq!(cost(&rig, "hobbes", &Verdict::Rejected(*why)).await, (1, 1, 1), "{text}");
            assert_eq!(cost(&rig, "else", &BAD).await, (1, 1, 1), "{text}");
        }
        rig.set(preferred.as_str(), None);
        assert_eq!(cost(&rig, "hobbes", &Verdict::Rejected(*why)).await, (1, 1, 0));
        assert_eq!(cost(&rig, "else", &BAD).await, (1, 1, 0));
        // Also if the right one is remembered from when the account was good.
        rig.store.memory.set_state("calvin", AccountState::default());
        assert_eq!(rig.verify("hobbes").await.unwrap(), calvin());
        assert!(rig.peek(&Ctx::new(), "hobbes").is_some());
        rig.store.memory.set_state("calvin", refused(&rig, why));
        assert_eq!(cost(&rig, "hobbes", &Verdict::Rejected(*why)).await, (1, 1, 0));
    }
}

// Of a strong scheme, but made with the least that it allows.
fn cheap_argon2(text: &str) -> String {
    let least = Preferred::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
    make(&least, &password(text)).unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_used_code_costs_what_a_wrong_one_does() {
    let rig = rig();
    rig.set(SECRET, Some("totp"));
    rig.clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_111_111_109));
    assert_eq!(cost(&rig, "081804", &calvin()).await, (1, 1, 1));
    assert_eq!(cost(&rig, "081804", &BAD).await, (1, 1, 1), "used");
    assert_eq!(cost(&rig, "000000", &BAD).await, (1, 1, 1), "wrong");
    rig.store.memory.set_state("calvin", refused(&rig, &Reject::Locked));
    assert_eq!(cost(&rig, "050471", &BAD_FOR_NOW).await, (1, 1, 1), "right and locked");
}

const BAD_FOR_NOW: Verdict = Verdict::Rejected(Reject::Locked);

#[tokio::test]
async fn a_wrong_password_for_a_hash_that_is_strong_by_name_only_costs_what_an_unknown_login_does() {
    let rig = rig_with(MemoConfig::default(), Preferred::Bcrypt { cost: 6 });
    for text in [
        cheap_argon2("hobbes"),
        "$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe".to_owned(),
        "$pbkdf2-sha256$1$rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc".to_owned(),
        format!("$scram$1$AAAA$sha-1={}", "A".repeat(27)),
    ] {
        rig.set(&text, None);
        assert_eq!(cost(&rig, "else", &BAD).await, (1, 1, 1), "{text}");
    }
}
