//! Renewals: what they cost, what they keep, and what others do meanwhile.

use std::sync::Arc;
use std::time::Duration;

use auth_core::{AccountState, Ctx, End, EndReason, Ends, ErrorKind, Families as _, Family};
use auth_token::{ClaimsFor, LoginAsk, OnReuse, RenewAsk, TokenSettings, claims_of};
use serde_json::json;

use crate::rig::{HOUR, Kept, MS, Make, Meddle, Others, Rig, SECOND, Says, Told, ask, claims, class, tokens};

fn disabled() -> AccountState {
    AccountState { disabled: true, ..AccountState::default() }
}

#[tokio::test]
async fn a_renewal_of_a_session_that_this_process_knows_is_one_statement() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let beside = Make::beside(&rig).rig();
    let second = tokens(rig.renew(&first.refresh_token).await);
    let third = tokens(beside.renew(&second.refresh_token).await);
    tokens(beside.renew(&third.refresh_token).await);
    for (rig, read, renewed) in [(&rig, 0, 1), (&beside, 1, 2)] {
        assert_eq!((rig.families.asked("family"), rig.families.asked("renew")), (read, renewed));
    }
}

#[tokio::test]
async fn a_session_that_is_over_costs_the_sources_nothing() {
    let says = Arc::new(Says::default());
    *says.0.lock().unwrap() = Some(claims_of(&json!({})).unwrap());
    let limits = |settings: &mut TokenSettings| (settings.idle, settings.absolute) = (HOUR, HOUR);
    let hook = Arc::clone(&says) as Arc<dyn ClaimsFor>;
    let rig = Make::new().set(limits).changed(|service| service.with_claims(hook)).rig();
    rig.pass(MS * 500);
    let first = rig.log_in().await;
    *says.0.lock().unwrap() = None;
    // An access token lives for a whole second at least.
    rig.pass(HOUR - MS * 501);
    assert_eq!(class(rig.renew(&first.refresh_token).await), "timeout");
    for _ in 0..3 {
        rig.pass(MS);
        assert_eq!(class(rig.renew(&first.refresh_token).await), "expired");
        rig.pass(MS * 499);
    }
}

#[tokio::test]
async fn a_session_that_renews_by_its_access_token_ends_in_time() {
    let limits = |settings: &mut TokenSettings| {
        (settings.idle, settings.absolute, settings.access_ttl) = (SECOND * 60, SECOND * 100, SECOND * 600);
    };
    let rig = Make::new().set(limits).rig();
    rig.pass(MS * 500);
    let first = rig.log_in().await;
    rig.pass(SECOND * 59);
    let second = tokens(rig.renew_by(&first.access_token).await);
    let record = rig.record(first.family).await.unwrap();
    assert_eq!(record.idle_end, record.absolute_end, "not beyond");
    assert_eq!(second.refresh_expires_at, second.session_expires_at);
    rig.pass(SECOND * 41 - MS * 501);
    let third = tokens(rig.renew_by(&second.access_token).await);
    rig.pass(MS);
    assert_eq!(class(rig.renew_by(&third.access_token).await), "expired");
    // Not used for too long, while the access token is good.
    let first = rig.log_in().await;
    rig.pass(SECOND * 60);
    assert_eq!(rig.checked(&first.access_token).await, "valid");
    assert_eq!(class(rig.renew_by(&first.access_token).await), "expired");
}

#[tokio::test]
async fn no_renewal_moves_the_end_of_a_session() {
    let limits = |settings: &mut TokenSettings| (settings.idle, settings.absolute) = (HOUR, HOUR * 2);
    let rig = Make::new().set(limits).rig();
    let first = rig.log_in().await;
    rig.pass(HOUR - MS);
    let second = tokens(rig.renew(&first.refresh_token).await);
    assert_eq!(second.refresh_expires_at + MS, second.session_expires_at);
    rig.pass(HOUR - SECOND);
    let third = tokens(rig.renew(&second.refresh_token).await);
    assert_eq!(third.refresh_expires_at, first.session_expires_at);
    let record = rig.record(first.family).await.unwrap();
    assert_eq!((record.idle_end, record.absolute_end), (record.created_at + 7_200_000, record.idle_end));
}

#[tokio::test]
async fn a_session_of_who_is_disabled_ends_and_voids_what_is_remembered() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let before = rig.fence.invalidations();
    rig.people.set_state("calvin", disabled());
    assert_eq!(class(rig.renew(&first.refresh_token).await), "disabled");
    assert_eq!(rig.fence.invalidations(), before + 1);
    assert_eq!(rig.heard.take(), ["login calvin", "ended calvin"]);
}

#[tokio::test]
async fn a_session_of_who_is_disabled_ends_by_a_renewal_with_an_access_token_too() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.people.set_state("calvin", disabled());
    // Nothing is remembered: the check itself finds it.
    assert_eq!(class(rig.renew_by(&first.access_token).await), "disabled");
    assert_eq!(rig.heard.take(), ["login calvin", "ended calvin"]);
    rig.people.set_state("calvin", AccountState::default());
    assert_eq!(class(rig.renew(&first.refresh_token).await), "account");
}

#[tokio::test]
async fn what_is_told_of_a_session_names_it_its_client_its_address_and_the_age_of_the_token() {
    let rig = Rig::new();
    let ctx = Ctx::new().with_client([192, 0, 2, 7].into());
    let app = LoginAsk { client: Some("app"), ..ask() };
    let first = tokens(rig.service.login(&ctx, app).await);
    let told = |age| Told {
        family: Some(first.family),
        client: Some("app".to_owned()),
        address: Some([192, 0, 2, 7].into()),
        age,
    };
    assert_eq!(rig.heard.last(), told(None));
    let renew = async || {
        let ask = RenewAsk { token: &first.refresh_token, scope: None, client: Some("app") };
        class(rig.service.renew(&ctx, &ask).await)
    };
    assert_eq!(renew().await, "tokens");
    assert_eq!(rig.heard.last(), told(None));
    rig.pass(SECOND * 12);
    assert_eq!(renew().await, "tokens");
    assert_eq!(rig.heard.last(), told(Some(SECOND * 12)));
    rig.pass(SECOND * 40);
    assert_eq!(renew().await, "reused");
    assert_eq!(rig.heard.last(), told(Some(SECOND * 52)));
    let all = ["login calvin", "renew calvin", "retry_in_grace calvin", "refresh_reuse_detected calvin"];
    assert_eq!(rig.heard.take(), all);
}

#[tokio::test]
async fn a_token_that_is_given_again_lasts_as_long_as_it_did() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let lost = tokens(rig.renew(&first.refresh_token).await);
    // To the last millisecond of the grace.
    rig.pass(SECOND * 30 - MS);
    let again = tokens(rig.renew(&first.refresh_token).await);
    assert_eq!(again.refresh_token, lost.refresh_token);
    assert_eq!(again.refresh_expires_at, lost.refresh_expires_at);
    rig.pass(MS);
    let before = rig.fence.invalidations();
    assert_eq!(class(rig.renew(&first.refresh_token).await), "reused");
    assert_eq!(rig.fence.invalidations(), before + 1, "its access tokens are void");
}

#[tokio::test]
async fn who_asks_too_often_waits_until_the_grace_is_over() {
    let rig = Make::new().set(|settings| settings.retries = 1).rig();
    let first = rig.log_in().await;
    for _ in 0..2 {
        tokens(rig.renew(&first.refresh_token).await);
    }
    let mut passed = Duration::ZERO;
    for (at, wait) in [(SECOND * 12, SECOND * 18), (SECOND * 29 + MS * 500, SECOND)] {
        rig.pass(at - passed);
        passed = at;
        let error = rig.renew(&first.refresh_token).await.unwrap_err();
        assert_eq!((error.kind(), error.wait()), (ErrorKind::Throttled, Some(wait)));
    }
}

#[tokio::test]
async fn what_others_do_between_two_questions_is_seen() {
    for (meddle, granted) in [(Meddle::Confirms, "reused"), (Meddle::Exhausts, "throttled")] {
        let rig = Rig::new();
        let first = rig.log_in().await;
        tokens(rig.renew(&first.refresh_token).await);
        rig.others.meddle(meddle);
        assert_eq!(class(rig.renew(&first.refresh_token).await), granted);
    }
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.others.meddle(Meddle::Renews);
    let second = tokens(rig.renew(&first.refresh_token).await);
    assert_eq!(second.generation, 2, "the same successor as the other has got");
    rig.others.meddle(Meddle::Renews);
    let fourth = tokens(rig.renew_by(&second.access_token).await);
    assert_eq!(fourth.generation, 4, "one after that of the other");
    assert_eq!(rig.heard.take(), ["login calvin", "retry_in_grace calvin", "renew calvin"]);
}

#[tokio::test]
async fn a_store_that_is_set_back_again_and_again_takes_nobody_for_a_thief() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.others.meddle(Meddle::SetsBack);
    for outcome in [rig.renew(&first.refresh_token).await, rig.renew_by(&first.access_token).await] {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.wait()), (ErrorKind::Overloaded, Some(SECOND)));
    }
    rig.others.meddle(Meddle::Voids);
    assert_eq!(tokens(rig.renew(&first.refresh_token).await).generation, 2);
}

#[tokio::test]
async fn a_session_that_has_reached_the_last_number_ends_by_itself() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let last = Others::new();
    let family = Family { generation: u32::MAX - 1, ..rig.record(first.family).await.unwrap() };
    last.begin(&rig.ctx, &family).await.unwrap();
    let beside = Make { others: last, ..Make::beside(&rig) }.rig();
    let max = tokens(beside.renew_by(&first.access_token).await);
    assert_eq!(max.generation, u32::MAX);
    assert_eq!(claims(&beside.state(&max.access_token).await)["gen"], u32::MAX);
    assert_eq!(class(beside.renew(&max.refresh_token).await), "expired");
    assert_eq!(class(beside.renew_by(&max.access_token).await), "expired");
    assert_eq!(beside.heard.take(), ["renew calvin"]);
}

#[tokio::test]
async fn a_token_by_another_secret_than_that_of_its_session_is_of_no_session() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let moved = Others::new();
    let family = Family { secret: "b".to_owned(), ..rig.record(first.family).await.unwrap() };
    moved.begin(&rig.ctx, &family).await.unwrap();
    let beside = Make { others: moved, secrets: vec!["b", "a"], ..Make::beside(&rig) }.rig();
    assert_eq!(class(beside.renew(&first.refresh_token).await), "unknown");
}

#[tokio::test]
async fn a_client_that_did_not_log_in_gets_nothing_of_a_session_without_one() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let ask = RenewAsk { token: &first.refresh_token, scope: None, client: Some("app") };
    assert_eq!(class(rig.service.renew(&rig.ctx, &ask).await), "client");
    assert_eq!(class(rig.renew(&first.refresh_token).await), "tokens");
}

#[tokio::test]
async fn who_renews_by_an_access_token_is_looked_at_anew_whatever_is_remembered() {
    let kept = Arc::new(Kept::default());
    let scopes = |settings: &mut TokenSettings| settings.scopes = vec!["read".to_owned(), "write".to_owned()];
    let rig = Make { cache: Some(Arc::clone(&kept)), ..Make::new() }.set(scopes).rig();
    let first = rig.log_in().await;
    assert_eq!(rig.checked(&first.access_token).await, "valid");
    rig.people.set_state("calvin", disabled());
    assert_eq!(rig.checked(&first.access_token).await, "valid", "from memory");
    assert_eq!(class(rig.renew_by(&first.access_token).await), "disabled");
    assert_eq!(rig.heard.take(), ["login calvin", "ended calvin"]);
    rig.people.set_state("calvin", AccountState::default());
    assert_eq!(class(rig.renew_by(&first.access_token).await), "account", "the session has ended");
    let first = rig.log_in().await;
    assert_eq!(rig.checked(&first.access_token).await, "valid");
    // A scope that is no longer configured is no longer granted.
    let fewer = Make::beside(&rig).set(|settings| settings.scopes = vec!["write".to_owned()]).rig();
    let second = tokens(fewer.renew_by(&first.access_token).await);
    assert_eq!((second.scope.as_str(), second.generation), ("write", 2));
    assert_eq!(claims(&fewer.state(&second.access_token).await)["gen"], 2);
    assert_eq!(fewer.heard.take(), ["renew calvin"]);
    let end = End { at: rig.millis(), reason: EndReason::Revoked, until: rig.millis() + 1 };
    rig.others.end(&rig.ctx, "default", &Ends::Family(first.family), &end).await.unwrap();
    assert_eq!(class(rig.renew_by(&first.access_token).await), "revoked");
}

#[tokio::test]
async fn a_reuse_that_ends_all_or_nothing_is_told_once() {
    for (on_reuse, told, live) in [(OnReuse::EndAll, 1, 0), (OnReuse::End, 1, 1), (OnReuse::Warn, 2, 2)] {
        let rig = Make::new().set(|settings| settings.on_reuse = on_reuse).rig();
        let (first, _other) = (rig.log_in().await, rig.log_in().await);
        tokens(rig.renew(&first.refresh_token).await);
        rig.pass(SECOND * 30);
        rig.heard.take();
        assert_eq!(class(rig.renew(&first.refresh_token).await), "reused");
        let again = class(rig.renew(&first.refresh_token).await);
        assert_eq!(again, if on_reuse == OnReuse::Warn { "reused" } else { "reuse" });
        assert_eq!(rig.heard.take(), vec!["refresh_reuse_detected calvin"; told], "{on_reuse:?}");
        assert_eq!(rig.live().await.len(), live);
    }
    // By whoever ended it, where two see it at the same time.
    let rig = Rig::new();
    let first = rig.log_in().await;
    tokens(rig.renew(&first.refresh_token).await);
    rig.pass(SECOND * 30);
    rig.others.meddle(Meddle::Ends);
    assert_eq!(class(rig.renew(&first.refresh_token).await), "reused");
    assert_eq!(rig.heard.take(), ["login calvin", "renew calvin"]);
}
