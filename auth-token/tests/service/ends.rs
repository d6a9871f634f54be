//! Ends and revocations: what they void and when, whom they are told of, and how long they are remembered.

use auth_core::{AccountState, EndReason};
use auth_testkit::FamilyFault as Fault;
use auth_token::{Bearing, TokenSettings};

use crate::rig::{HOUR, MS, Make, Others, Rig, SECOND, tokens};

#[tokio::test]
async fn what_is_remembered_is_void_once_the_store_was_told_and_not_before() {
    let rig = Rig::new();
    let (refresh, access) = (rig.log_in().await, rig.log_in().await);
    let reused = rig.log_in().await;
    tokens(rig.renew(&reused.refresh_token).await);
    let single = rig.issue(HOUR).await;
    rig.pass(SECOND * 30);
    let mut before = rig.fence.invalidations();
    let mut voided = |what: &str| {
        let at = rig.others.void.lock().unwrap().pop();
        assert_eq!(at, Some(before), "{what}");
        before += 1;
        assert_eq!(rig.fence.invalidations(), before, "{what}");
    };
    rig.service.logout(&rig.ctx, &Bearing::Refresh(&refresh.refresh_token)).await.unwrap();
    voided("logout by a refresh token");
    rig.service.logout(&rig.ctx, &Bearing::Access(&access.access_token)).await.unwrap();
    voided("logout by an access token");
    rig.service.logout(&rig.ctx, &Bearing::Access(&single)).await.unwrap();
    voided("logout by a token without a session");
    assert_eq!(rig.checked(&single).await, "revoked");
    rig.renew(&reused.refresh_token).await.unwrap();
    voided("reuse");
    rig.service.revoke(&rig.ctx, &refresh.access_token).await.unwrap();
    voided("revocation");
    let own = rig.log_in().await;
    let who = rig.state(&own.access_token).await.principal;
    assert!(rig.service.end_session(&rig.ctx, &who, own.family).await.unwrap());
    voided("end of one's own session");
    let ended = rig.record(own.family).await.unwrap().ended;
    assert_eq!(ended, Some((rig.millis(), EndReason::Logout)));
    rig.service.end_person(&rig.ctx, &rig.login("calvin"), EndReason::Revoked).await.unwrap();
    voided("end of a person");
    rig.service.end_realm(&rig.ctx, EndReason::Revoked).await.unwrap();
    voided("end of a realm");
    rig.families.set(Fault::After("end"));
    rig.service.end_realm(&rig.ctx, EndReason::Revoked).await.unwrap_err();
    voided("end of a realm whose answer is lost");
}

#[tokio::test]
async fn the_end_of_a_person_and_of_a_realm_is_told_and_that_of_a_session_if_it_lived() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.heard.take();
    for ended in [true, false] {
        assert_eq!(rig.service.end_family(&rig.ctx, first.family, EndReason::Revoked).await.unwrap(), ended);
    }
    assert_eq!(rig.heard.last().family, Some(first.family));
    assert_eq!(rig.heard.take(), ["ended calvin"]);
    rig.service.end_person(&rig.ctx, &rig.login("susie"), EndReason::Revoked).await.unwrap();
    rig.service.end_realm(&rig.ctx, EndReason::Revoked).await.unwrap();
    assert_eq!(rig.heard.take(), ["ended susie", "ended -"]);
}

#[tokio::test]
async fn a_session_that_the_store_does_not_know_is_revoked_all_the_same() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let empty = Make { others: Others::new(), ..Make::beside(&rig) }.rig();
    assert_eq!(empty.checked(&first.access_token).await, "valid");
    assert!(!empty.service.end_family(&empty.ctx, first.family, EndReason::Revoked).await.unwrap());
    assert_eq!(empty.checked(&first.access_token).await, "revoked");
}

#[tokio::test]
async fn no_more_sessions_are_listed_and_deleted_at_once_than_is_said() {
    let limits = |settings: &mut TokenSettings| {
        (settings.listed, settings.idle, settings.absolute) = (2, HOUR, HOUR);
    };
    let rig = Make::new().set(limits).rig();
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.insert(0, rig.log_in().await.family);
        rig.pass(MS);
    }
    assert_eq!(rig.live().await, begun[..2], "the newest");
    rig.pass(HOUR);
    for gone in [2, 1, 0] {
        assert_eq!(rig.service.clean(&rig.ctx, 2).await.unwrap(), gone);
    }
}

#[tokio::test]
async fn who_shows_what_is_not_good_logs_nobody_out_everywhere() {
    let limits = |settings: &mut TokenSettings| settings.idle = HOUR;
    let rig = Make::new().set(limits).rig();
    let first = rig.log_in().await;
    let second = tokens(rig.renew(&first.refresh_token).await);
    let all = async |by| rig.service.logout_all(&rig.ctx, &by).await.unwrap();
    assert_eq!(all(Bearing::Refresh(&first.refresh_token)).await, None, "it was replaced");
    rig.people.set_state("calvin", AccountState { disabled: true, ..AccountState::default() });
    assert_eq!(all(Bearing::Refresh(&second.refresh_token)).await, None);
    assert_eq!(all(Bearing::Access(&second.access_token)).await, None);
    rig.people.set_state("calvin", AccountState::default());
    rig.pass(SECOND * 631);
    assert_eq!(all(Bearing::Access(&second.access_token)).await, None, "it has expired");
    rig.pass(HOUR - SECOND * 631);
    assert_eq!(all(Bearing::Refresh(&second.refresh_token)).await, None, "it was not used for too long");
    let third = rig.log_in().await;
    assert_eq!(all(Bearing::Refresh(&third.refresh_token)).await, Some(2));
}

#[tokio::test]
async fn what_is_revoked_is_remembered_as_long_as_any_clock_may_take_it() {
    let rig = Make::new().set(|settings| settings.longest = HOUR).rig();
    let leeway = rig.service.settings().leeway;
    let (single, of_person) = (rig.issue(HOUR).await, rig.issue(HOUR).await);
    assert!(rig.service.revoke(&rig.ctx, &single).await.unwrap());
    let clean = async || while rig.service.clean(&rig.ctx, 10).await.unwrap() > 0 {};
    rig.pass(HOUR + leeway - MS);
    clean().await;
    assert_eq!((rig.checked(&single).await, rig.checked(&of_person).await), ("revoked", "valid"));
    rig.pass(MS);
    let (single, of_person) = (rig.issue(HOUR).await, rig.issue(HOUR).await);
    rig.service.end_person(&rig.ctx, &rig.login("calvin"), EndReason::Revoked).await.unwrap();
    rig.pass(HOUR + leeway - MS);
    clean().await;
    for token in [&single, &of_person] {
        assert_eq!(rig.checked(token).await, "revoked");
    }
}

#[tokio::test]
async fn a_session_of_another_login_is_not_theirs_also_if_they_had_it() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.people.rename("calvin", "stupendous");
    let realm = rig.service.realm();
    let who = realm.principal(&rig.ctx, &rig.login("stupendous")).await.unwrap().found().unwrap();
    assert!(!rig.service.end_session(&rig.ctx, &who, first.family).await.unwrap());
    assert!(rig.service.sessions_of(&rig.ctx, &who).await.unwrap().is_empty());
}
