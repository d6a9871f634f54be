//! The service over a store of sessions that fails: nothing is consumed, nothing is let in, nothing is lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod access;
mod ends;
mod logins;
mod renewals;
mod rig;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, Clock, Ctx, EndReason, Error, ErrorKind, Families as _, Family, Login, Lookup, Password,
    PasswordSource, Result, SourceInfo, Verdict,
};
use auth_testkit::FamilyFault as Fault;
use auth_testkit::{ByTable, MemoryStore};
use auth_token::{Bearing, Checked, ClaimsFor, Granted, Invalid, RenewAsk, TokenSettings, claims_of};
use serde_json::{Map, Value, json};

use rig::{Few, HOUR, MS, Make, Others, Rig, SECOND, Says, class, tokens};

#[tokio::test]
async fn a_renewal_that_fails_in_the_store_consumes_nothing() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.families.set(Fault::Before("renew"));
    assert_eq!(class(rig.renew(&first.refresh_token).await), "unavailable");
    assert_eq!(rig.record(first.family).await.unwrap().generation, 1);
    rig.clock.advance(Duration::from_secs(3_600));
    assert_eq!(tokens(rig.renew(&first.refresh_token).await).generation, 2);
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_in_the_store_is_given_again() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    rig.families.set(Fault::After("renew"));
    assert_eq!(class(rig.renew(&first.refresh_token).await), "unavailable");
    assert_eq!(rig.record(first.family).await.unwrap().generation, 2);
    for fault in [Fault::Before("family"), Fault::Before("retry"), Fault::After("retry")] {
        rig.families.set(fault);
        assert_eq!(class(rig.renew(&first.refresh_token).await), "unavailable", "{fault:?}");
    }
    let second = tokens(rig.renew(&first.refresh_token).await);
    assert_eq!(tokens(rig.renew(&second.refresh_token).await).generation, 3);
    assert!(!rig.heard.0.lock().unwrap().iter().any(|told| told.starts_with("refresh_reuse")));
}

#[tokio::test]
async fn a_login_that_can_not_be_kept_gives_nothing() {
    let rig = Rig::new();
    for fault in [Fault::Before("begin"), Fault::After("begin")] {
        rig.families.set(fault);
        assert_eq!(class(rig.try_log_in().await), "unavailable");
    }
    assert!(rig.heard.take().is_empty(), "nobody has a session");
}

#[tokio::test]
async fn an_end_that_fails_is_no_end() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    for by in [Bearing::Refresh(&first.refresh_token), Bearing::Access(&first.access_token)] {
        rig.families.set(Fault::Before("end"));
        let error = rig.service.logout(&rig.ctx, &by).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(rig.record(first.family).await.unwrap().ended.is_none());
    }
    // A reuse that could not be punished is an outage, and is found again.
    rig.renew(&first.refresh_token).await.unwrap();
    rig.clock.advance(Duration::from_secs(31));
    rig.families.set(Fault::Before("end"));
    assert_eq!(class(rig.renew(&first.refresh_token).await), "unavailable");
    assert_eq!(class(rig.renew(&first.refresh_token).await), "reused");
    let reused = rig.heard.0.lock().unwrap().iter().filter(|told| told.starts_with("refresh_reuse")).count();
    assert_eq!(reused, 1);
}

#[tokio::test]
async fn where_nobody_knows_what_was_revoked_no_token_is_good() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let check = || rig.service.check(&rig.ctx, &first.access_token);
    for fault in [Fault::Before("is_revoked"), Fault::After("is_revoked")] {
        rig.families.set(fault);
        assert_eq!(check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(matches!(check().await, Ok(Checked::Valid(_))));
    // That it was seen in use need not be noted.
    let second = tokens(rig.renew(&first.refresh_token).await);
    rig.families.set(Fault::Before("confirm"));
    assert!(matches!(rig.service.check(&rig.ctx, &second.access_token).await, Ok(Checked::Valid(_))));
    assert!(!rig.record(first.family).await.unwrap().confirmed);
    assert!(matches!(rig.service.check(&rig.ctx, &second.access_token).await, Ok(Checked::Valid(_))));
    assert!(rig.record(first.family).await.unwrap().confirmed);
}

#[tokio::test]
async fn a_token_that_is_newer_than_the_store_is_refused_told_and_ends_nothing() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let second = tokens(rig.renew(&first.refresh_token).await);
    let third = tokens(rig.renew(&second.refresh_token).await);
    // The store was set back to what it was after the login.
    let before = Family { generation: 1, ..rig.record(first.family).await.unwrap() };
    let set_back = Others::new();
    set_back.begin(&rig.ctx, &before).await.unwrap();
    let clock = Arc::clone(&rig.clock);
    let later = Make { clock, key: rig.key.clone(), others: set_back, ..Make::new() }.rig();
    assert_eq!(class(later.renew(&third.refresh_token).await), "forged");
    assert_eq!(*later.heard.0.lock().unwrap(), ["forged_generation calvin"]);
    assert!(later.record(first.family).await.unwrap().ended.is_none());
    assert_eq!(class(later.renew(&first.refresh_token).await), "tokens");
    assert!(matches!(later.service.check(&later.ctx, &third.access_token).await, Ok(Checked::Valid(_))));
}

#[tokio::test]
async fn what_the_application_says_stands_in_the_token_and_its_failure_consumes_nothing() {
    let says = Arc::new(Says::default());
    let rig = Make::new()
        .changed({
            let says = Arc::clone(&says) as Arc<dyn ClaimsFor>;
            |service| service.with_claims(says)
        })
        .rig();
    assert_eq!(class(rig.try_log_in().await), "timeout");
    assert!(rig.live().await.is_empty() && rig.heard.take().is_empty());
    *says.0.lock().unwrap() = Some(claims_of(&json!({ "team": "blue" })).unwrap());
    let first = rig.log_in().await;
    let Ok(Checked::Valid(state)) = rig.service.check(&rig.ctx, &first.access_token).await else { panic!() };
    let claims: Value = serde_json::from_str(state.claims.as_deref().unwrap()).unwrap();
    assert_eq!((&claims["team"], &claims["sub"]), (&json!("blue"), &json!("calvin")));
    *says.0.lock().unwrap() = None;
    assert_eq!(class(rig.renew(&first.refresh_token).await), "timeout");
    for own in ["sub", "exp", "sid", "scope", "iss", "gen"] {
        *says.0.lock().unwrap() = Some(Map::from_iter([(own.to_owned(), json!("root"))]));
        assert_eq!(class(rig.renew(&first.refresh_token).await), "invalid", "{own}");
    }
    assert_eq!(rig.record(first.family).await.unwrap().generation, 1);
    *says.0.lock().unwrap() = Some(Map::new());
    assert_eq!(class(rig.renew(&first.refresh_token).await), "tokens");
    assert!(claims_of(&1).is_err());
}

#[tokio::test]
async fn who_shows_wrong_tokens_is_made_to_wait_and_a_right_one_is_not() {
    let rig = Make::new().changed(|service| service.with_throttle(Arc::new(Few(AtomicU32::new(2))))).rig();
    let first = rig.log_in().await;
    assert_eq!(class(rig.renew("nonsense").await), "malformed");
    assert_eq!(class(rig.renew(&"é".repeat(1_000)).await), "malformed");
    assert_eq!(class(rig.renew("nonsense").await), "throttled");
    assert_eq!(class(rig.renew(&first.refresh_token).await), "tokens");
}

#[tokio::test]
async fn another_secret_takes_the_place_of_the_first_while_sessions_go_on() {
    let old = Rig::new();
    let first = old.log_in().await;
    let follow = |secrets: &[&'static str]| Make { secrets: secrets.to_vec(), ..Make::beside(&old) }.rig();
    let both = follow(&["b", "a"]);
    let second = tokens(both.renew(&first.refresh_token).await);
    let new = both.log_in().await;
    assert_eq!(both.record(new.family).await.unwrap().secret, "b");
    let only = follow(&["b"]);
    assert_eq!(class(only.renew(&second.refresh_token).await), "malformed");
    assert_eq!(class(only.renew(&new.refresh_token).await), "tokens");
}

#[tokio::test]
async fn a_token_that_lives_longer_than_revocations_are_remembered_is_refused() {
    let rig = Rig::new();
    let login = Login::parse(rig.service.realm().id(), "calvin").unwrap();
    let longest = rig.service.settings().longest;
    let (token, _) = rig.service.issue(&rig.ctx, &login, None, Some(longest)).await.unwrap().unwrap();
    assert!(matches!(rig.service.check(&rig.ctx, &token).await, Ok(Checked::Valid(_))));
    let error =
        rig.service.issue(&rig.ctx, &login, None, Some(longest + Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    rig.clock.set_wall(rig.clock.wall() - Duration::from_secs(61));
    let checked = rig.service.check(&rig.ctx, &token).await.unwrap();
    assert!(matches!(checked, Checked::Invalid(Invalid::TooLong | Invalid::Refused(_))), "{checked:?}");
    // What is revoked by login is remembered until the last of them has ended.
    rig.clock.set_wall(rig.clock.wall() + Duration::from_secs(61));
    rig.service.end_person(&rig.ctx, &login, EndReason::Revoked).await.unwrap();
    rig.clock.advance(longest - Duration::from_secs(1));
    while rig.service.clean(&rig.ctx, 100).await.unwrap() > 0 {}
    assert_eq!(rig.service.check(&rig.ctx, &token).await.unwrap(), Checked::Invalid(Invalid::Revoked));
}

/// Decides about passwords, and can't tell who has a login.
#[derive(Debug)]
struct Mute(ByTable<MemoryStore>);

#[async_trait]
impl PasswordSource for Mute {
    fn source(&self) -> &SourceInfo {
        self.0.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.0.verify(ctx, login, password).await
    }

    async fn account(&self, _ctx: &Ctx, _login: &Login) -> Result<Lookup<Account>> {
        Err(Error::new(ErrorKind::Unsupported, "this source shows nobody"))
    }
}

#[tokio::test]
async fn where_no_source_can_tell_who_has_a_login_its_sessions_are_good() {
    let make = Make::new();
    let time = Arc::clone(&make.clock) as Arc<dyn Clock>;
    let people = Mute(ByTable::new(Arc::clone(&make.people), time));
    let rig = Make { source: Some(Arc::new(people)), ..make }.rig();
    let first = rig.log_in().await;
    let second = tokens(rig.renew(&first.refresh_token).await);
    let Ok(Checked::Valid(state)) = rig.service.check(&rig.ctx, &second.access_token).await else { panic!() };
    // As whom they have logged in, so that the source's groups and rights are theirs.
    assert_eq!((&**state.principal.source(), state.principal.id()), ("app", &auth_core::Id::Int(1)));
    // Without a session it is whoever it was issued to.
    let single = Make::beside(&rig).rig().issue(HOUR).await;
    let state = rig.state(&single).await;
    assert_eq!((&**state.principal.source(), state.principal.login().as_str()), ("token", "calvin"));
}

#[tokio::test]
async fn what_ends_voids_what_is_remembered_also_where_the_answer_is_lost() {
    let rig = Rig::new();
    let first = rig.log_in().await;
    let login = Login::parse(rig.service.realm().id(), "calvin").unwrap();
    let voided = || rig.fence.invalidations();
    let before = voided();
    rig.families.set(Fault::After("end"));
    rig.service.logout(&rig.ctx, &Bearing::Refresh(&first.refresh_token)).await.unwrap_err();
    assert_eq!(voided(), before + 1);
    rig.families.set(Fault::After("end"));
    rig.service.end_person(&rig.ctx, &login, EndReason::Revoked).await.unwrap_err();
    assert_eq!(voided(), before + 2);
    rig.families.set(Fault::After("revoke"));
    rig.service.revoke(&rig.ctx, &first.access_token).await.unwrap_err();
    assert_eq!(voided(), before + 3);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |change: fn(&mut TokenSettings)| {
        let mut settings = TokenSettings::default();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    let good = |change: fn(&mut TokenSettings)| {
        let mut settings = TokenSettings::default();
        change(&mut settings);
        settings.check().unwrap();
    };
    good(|_| ());
    good(|settings| (settings.access_ttl, settings.short) = (SECOND, SECOND));
    good(|settings| (settings.idle, settings.absolute) = (HOUR * 24 * 36_500, HOUR * 24 * 36_500));
    good(|settings| settings.access_ttl = settings.longest);
    good(|settings| (settings.jitter, settings.idle) = (0.5, settings.absolute));
    good(|settings| (settings.leeway, settings.grace) = (SECOND * 300, SECOND * 300));
    good(|settings| settings.scopes = vec!["s".repeat(1_024)]);
    good(|settings| settings.scopes = vec!["!#[]~".to_owned()]);
    let wrong = Make::new().set(|settings| settings.idle = Duration::ZERO).try_rig();
    assert_eq!(wrong.err().map(|error| error.kind()), Some(ErrorKind::Misconfigured));
    for (told, name) in [
        (refused(|settings| settings.access_ttl = SECOND - MS), "access_ttl"),
        (refused(|settings| settings.absolute = HOUR * 24 * 36_500 + MS), "absolute"),
        (refused(|settings| settings.scopes = vec!["s".repeat(1_025)]), "scopes"),
        (refused(|settings| settings.scopes = vec!["s".repeat(512), "t".repeat(512)]), "scopes"),
        (refused(|settings| settings.scopes = vec!["a\\".to_owned()]), "scopes"),
        (refused(|settings| settings.scopes = vec!["a\u{7f}".to_owned()]), "scopes"),
        (refused(|settings| settings.scopes = vec![String::new()]), "scopes"),
        (refused(|settings| settings.access_ttl = Duration::ZERO), "access_ttl"),
        (refused(|settings| settings.longest = Duration::from_secs(1)), "longest"),
        (refused(|settings| settings.idle = settings.absolute * 2), "idle"),
        (refused(|settings| settings.jitter = 0.6), "jitter"),
        (refused(|settings| settings.jitter = f64::NAN), "jitter"),
        (refused(|settings| settings.grace = Duration::from_secs(301)), "grace"),
        (refused(|settings| settings.leeway = Duration::from_secs(301)), "leeway"),
        (refused(|settings| settings.scopes = vec!["a b".to_owned()]), "scopes"),
        (refused(|settings| settings.scopes = vec!["a".to_owned(), "a".to_owned()]), "scopes"),
        (refused(|settings| settings.scopes = vec!["\"".to_owned()]), "scopes"),
    ] {
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn nothing_shows_a_token() {
    let rig = Rig::new();
    let granted = rig.try_log_in().await.unwrap();
    let shown = format!("{granted:?}");
    let Granted::Tokens(tokens) = granted else { panic!() };
    for secret in [tokens.access_token.as_str(), tokens.refresh_token.as_str()] {
        assert!(!shown.contains(secret));
        let asks = format!(
            "{:?} {:?}",
            Bearing::Refresh(secret),
            RenewAsk { token: secret, scope: None, client: None }
        );
        assert!(!asks.contains(secret), "{asks}");
    }
    assert!(!format!("{:?}", rig.service).contains("aaaa"));
}
