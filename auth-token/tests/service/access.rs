//! The check of access tokens: what is asked, what is kept, and what is refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auth_core::{Clock as _, ErrorKind, Families as _, Family, Login};
use auth_token::{ClaimsFor, LoginAsk, Profile, Refusal, TokenSettings, claims_of};
use serde_json::json;

use crate::rig::{HOUR, Kept, MS, Make, Meddle, Others, Rig, SECOND, Says, ask, claims, tokens};

#[tokio::test]
async fn a_token_that_lives_too_long_is_refused_to_the_second() {
    let longest = |settings: &mut TokenSettings| settings.longest = HOUR;
    let maker = Rig::new();
    let rig = Make::beside(&maker).set(longest).rig();
    let leeway = rig.service.settings().leeway;
    let just = maker.issue(HOUR + leeway).await;
    let over = maker.issue(HOUR + leeway + SECOND).await;
    assert_eq!((rig.checked(&just).await, rig.checked(&over).await), ("valid", "lives_too_long"));
    // Made by a clock that is ahead: counted from now.
    let now = rig.clock.wall();
    rig.clock.set_wall(now + SECOND * 20);
    let ahead = maker.issue(HOUR + leeway).await;
    rig.clock.set_wall(now);
    assert_eq!(rig.checked(&ahead).await, "lives_too_long");
    rig.clock.set_wall(now + SECOND * 20);
    assert_eq!(rig.checked(&ahead).await, "valid");
}

#[tokio::test]
async fn where_no_key_is_at_hand_nobody_knows_whether_a_token_is_good() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    for (refusal, told) in [(Refusal::Unavailable, "nobody knows"), (Refusal::Signature, "signature")] {
        *rig.refusal.lock().unwrap() = Some(refusal);
        assert_eq!(rig.checked(&first.access_token).await, told);
    }
}

#[tokio::test]
async fn what_is_kept_of_a_good_token_is_found_again_by_who_has_the_secret() {
    let kept = Arc::new(Kept::default());
    let scopes = |settings: &mut TokenSettings| settings.scopes = vec!["read".to_owned()];
    let rig = Make { cache: Some(Arc::clone(&kept)), ..Make::new() }.set(scopes).rig();
    let first = rig.log_in().await;
    let (head, _) = first.access_token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "A".repeat(86));
    assert_eq!(rig.checked(&forged).await, "signature");
    assert_eq!(kept.gets.load(Ordering::SeqCst), 0, "what is forged costs no round trip");
    rig.pass(SECOND * 100);
    let state = rig.state(&first.access_token).await;
    assert!(state.scopes.contains("read"));
    let leeway = rig.service.settings().leeway;
    assert_eq!(state.expires_at, first.expires_at + leeway);
    let put = kept.entries.lock().unwrap().values().next().unwrap().clone();
    assert_eq!((put.state, put.ttl), (Arc::new(state), SECOND * 500 + leeway));
    assert!(rig.fence.still(put.watch));
    let asked = rig.families.asked("is_revoked");
    assert_eq!(rig.checked(&first.access_token).await, "valid");
    assert_eq!(rig.families.asked("is_revoked"), asked, "it was found in the cache");
    // The same token under another secret has another name.
    let beside = Make { cache: Some(Arc::clone(&kept)), secrets: vec!["b", "a"], ..Make::beside(&rig) }.rig();
    assert_eq!(beside.checked(&first.access_token).await, "valid");
    assert_eq!(kept.entries.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_void_while_a_token_is_looked_at_is_not_kept() {
    let kept = Arc::new(Kept::default());
    let rig = Make { cache: Some(Arc::clone(&kept)), ..Make::new() }.rig();
    let first = rig.log_in().await;
    rig.others.meddle(Meddle::Voids);
    assert_eq!(rig.checked(&first.access_token).await, "valid");
    let put = kept.entries.lock().unwrap().values().next().unwrap().clone();
    assert!(!rig.fence.still(put.watch));
}

#[tokio::test]
async fn a_token_that_names_the_session_of_somebody_else_is_refused() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let other = Others::new();
    let susie = LoginAsk { login: "susie", password: b"derkins".to_vec(), ..ask() };
    let susie = tokens(rig.service.login(&rig.ctx, susie).await);
    let family = Family { id: first.family, ..rig.record(susie.family).await.unwrap() };
    other.begin(&rig.ctx, &family).await.unwrap();
    let beside = Make { others: other, ..Make::beside(&rig) }.rig();
    assert_eq!(beside.checked(&first.access_token).await, "unknown_user");
}

#[tokio::test]
async fn that_a_token_is_in_use_is_noted_while_it_matters() {
    let rig = Rig::new();
    let noted = async |token: &str| {
        let before = rig.families.asked("confirm");
        assert_eq!(rig.checked(token).await, "valid");
        rig.families.asked("confirm") > before
    };
    let first = rig.log_in().await;
    assert!(!noted(&first.access_token).await, "there is none before that of the login");
    let second = tokens(rig.renew(&first.refresh_token).await);
    assert!(!noted(&first.access_token).await);
    assert!(noted(&second.access_token).await);
    // Clocks of processes differ: a second longer than the grace.
    rig.pass(SECOND * 31 - MS);
    assert!(noted(&second.access_token).await);
    rig.pass(MS);
    assert!(!noted(&second.access_token).await);
}

#[tokio::test]
async fn the_session_of_a_token_is_read_in_each_of_its_forms() {
    for profile in [Profile::Native, Profile::Ampho, Profile::Twopi] {
        let rig = Make { profile, ..Make::new() }.rig();
        let first = rig.log_in().await;
        let state = rig.state(&first.access_token).await;
        assert_eq!(rig.service.family_of(&state), Some(first.family), "{profile:?}");
        assert_eq!(rig.service.family_of(&rig.state(&rig.issue(HOUR).await).await), None);
    }
}

#[tokio::test]
async fn a_token_without_a_session_says_what_the_application_says_and_is_for_who_may_log_in() {
    let says = Arc::new(Says::default());
    *says.0.lock().unwrap() = Some(claims_of(&json!({ "team": "blue" })).unwrap());
    let hook = Arc::clone(&says) as Arc<dyn ClaimsFor>;
    let scopes = |settings: &mut TokenSettings| settings.scopes = vec!["read".to_owned()];
    let rig = Make::new().set(scopes).changed(|service| service.with_claims(hook)).rig();
    let state = rig.state(&rig.issue(HOUR).await).await;
    assert_eq!((&claims(&state)["team"], &claims(&state)["scope"]), (&json!("blue"), &json!("read")));
    let issue = async |login: &Login, scope, life| rig.service.issue(&rig.ctx, login, scope, life).await;
    for (scope, life) in [(Some("root"), None), (None, Some(Duration::ZERO)), (None, Some(HOUR * 24 * 31))] {
        let error = issue(&rig.login("calvin"), scope, life).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let (token, ends) = issue(&rig.login("calvin"), None, None).await.unwrap().unwrap();
    assert_eq!(ends, rig.clock.wall() + rig.service.settings().access_ttl);
    assert_eq!(rig.state(&token).await.expires_at, ends + rig.service.settings().leeway);
    let refused = issue(&rig.login("nobody"), None, None).await.unwrap();
    assert_eq!(refused.unwrap_err().as_str(), "unknown_user");
}
