//! The scenarios, each named after what is expected.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use auth_core::{AccountState, EndReason, ErrorKind, FamilyId, Login};
use auth_testkit::World;
use auth_token::{Bearing, Granted, LoginAsk, RenewAsk, Rotation, TokenService};
use base64::Engine as _;

use crate::rig::{Bed, Place, REUSE, Rig, claims, id, is_grant, word};

pub(crate) type Scenario = fn(Bed) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn all() -> Vec<(&'static str, Scenario)> {
            vec![$((stringify!($name), |bed| Box::pin($name(bed)))),+]
        }
    };
}
pub(crate) use scenarios;

scenarios![
    a_login_gives_both_tokens,
    wrong_and_unknown_look_alike_and_nothing_is_given,
    a_renewal_gives_the_next_token_of_the_same_session,
    a_lost_answer_is_given_again_with_the_same_successor,
    a_token_two_generations_old_ends_the_session,
    a_successor_whose_access_token_was_seen_closes_the_grace,
    a_token_that_comes_back_after_the_grace_ends_the_session,
    a_retry_does_not_make_the_grace_longer,
    retries_are_counted_and_bounded,
    ten_at_once_get_one_successor,
    without_grace_one_of_ten_is_renewed_and_the_session_ends,
    reuse_is_seen_after_a_restart,
    a_clock_that_is_set_back_opens_no_window,
    an_unused_session_ends_and_is_no_theft,
    a_used_session_goes_on_to_its_absolute_end_and_not_beyond,
    a_session_that_is_not_to_be_remembered_is_short,
    a_refresh_token_logs_out_again_and_again,
    an_access_token_logs_out_its_session,
    an_expired_access_token_logs_out_too,
    who_logs_out_and_renews_at_once_is_logged_out,
    a_session_of_the_future_can_be_ended,
    logging_out_everywhere_ends_all_sessions_and_access_tokens,
    one_session_of_many_is_ended,
    nobody_ends_the_session_of_another,
    a_changed_password_ends_all_sessions,
    a_login_with_a_password_that_is_changed_meanwhile_begins_no_session,
    who_logs_out_everywhere_during_a_login_is_logged_in_after_it,
    who_is_disabled_is_not_renewed_and_the_session_ends,
    who_takes_over_a_login_inherits_no_session,
    what_a_token_says_is_read_anew,
    an_outage_of_the_people_consumes_nothing,
    a_scope_may_be_narrowed_and_never_widened,
    another_client_gets_nothing_and_consumes_nothing,
    a_refresh_token_is_no_access_token_nor_the_other_way_round,
    garbage_is_refused,
    what_an_operator_has_ended_is_refused,
    a_key_follows_another_without_a_restart,
    lives_of_access_tokens_are_spread,
    what_has_ended_is_kept_until_its_time_and_then_deleted,
    a_revoked_access_token_alone_is_refused,
    all_of_a_realm_is_revoked_at_once,
    an_access_token_renews_itself_while_its_session_lives,
    reuse_may_end_all_sessions_of_a_person,
    reuse_may_be_told_only,
];

async fn a_login_gives_both_tokens(bed: Bed) {
    let rig = Rig::with(bed, "scopes = ['read', 'write']\njitter = 0\n").await;
    let tokens = rig.log_in().await;
    assert_eq!((rig.seconds(tokens.expires_at), tokens.scope.as_str()), (600, "read write"));
    assert_eq!(rig.seconds(tokens.refresh_expires_at), 14 * 86_400);
    assert_eq!(rig.seconds(tokens.session_expires_at), 30 * 86_400);
    let said = claims(&tokens.access_token);
    assert_eq!((said["sub"].as_str(), said["scope"].as_str()), (Some("calvin"), Some("read write")));
    assert_eq!(said["sid"], tokens.family.to_string());
    for process in 0..2 {
        assert_eq!(rig.checked(process, &tokens.access_token).await, "valid");
        assert_eq!(rig.checked_in(process, &tokens.access_token, &rig.ctx).await, "valid");
    }
    rig.pass(631);
    assert_eq!(rig.checked_in(0, &tokens.access_token, &rig.ctx).await, "expired");
}

async fn wrong_and_unknown_look_alike_and_nothing_is_given(bed: Bed) {
    let rig = Rig::new(bed).await;
    for (login, password, reason) in [
        ("calvin", "hobbe", "bad_password"),
        ("nobody", "hobbes", "unknown_user"),
        ("calvin", "", "bad_password"),
        ("", "hobbes", "unknown_user"),
        ("dad", "hobbes", "no_password"),
        ("andy", "tuna", "must_change"),
    ] {
        let outcome = rig.service(0).login(&rig.ctx, Rig::ask(login, password)).await;
        assert_eq!(word(&outcome), reason, "{login} {password}");
    }
    assert_eq!(rig.sessions("calvin").await, []);
}

async fn a_renewal_gives_the_next_token_of_the_same_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let mut tokens = rig.log_in().await;
    let (family, began) = (tokens.family, claims(&tokens.access_token)["auth_time"].clone());
    assert!(began.is_u64());
    for (turn, generation) in [(1, 2), (0, 3), (1, 4)] {
        rig.pass(600);
        let next = rig.renew(turn, &tokens.refresh_token).await;
        assert_ne!(next.refresh_token, tokens.refresh_token);
        assert_ne!(next.access_token, tokens.access_token);
        assert_eq!((next.family, next.generation), (family, generation));
        let said = claims(&next.access_token);
        assert_eq!((&said["sid"], &said["auth_time"]), (&family.to_string().into(), &began));
        tokens = next;
    }
    assert_eq!((rig.told("login"), rig.told("renew"), rig.told(REUSE)), (1, 3, 0));
    let sessions = rig.sessions("calvin").await;
    assert_eq!((sessions.len(), sessions[0].generation), (1, 4), "one record, however often it is renewed");
}

async fn a_lost_answer_is_given_again_with_the_same_successor(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let lost = rig.renew(0, &first.refresh_token).await;
    rig.pass(5);
    let again = rig.renew(1, &first.refresh_token).await;
    assert_eq!(again.refresh_token, lost.refresh_token);
    assert_eq!(rig.checked(0, &again.access_token).await, "valid");
    assert_eq!((rig.told(REUSE), rig.told("retry_in_grace")), (0, 1));
    rig.renew(0, &again.refresh_token).await;
}

async fn a_token_two_generations_old_ends_the_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    let third = rig.renew(1, &second.refresh_token).await;
    assert_eq!(rig.refused(0, &first.refresh_token).await, "reused");
    for (process, token) in [(0, &third), (1, &third), (0, &second), (1, &first)] {
        assert_eq!(rig.refused(process, &token.refresh_token).await, "reuse");
    }
    for process in 0..2 {
        assert_eq!(rig.checked(process, &third.access_token).await, "revoked");
    }
    assert_eq!(rig.told(REUSE), 1);
}

async fn a_successor_whose_access_token_was_seen_closes_the_grace(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    // An older access token closes nothing.
    assert_eq!(rig.checked(1, &first.access_token).await, "valid");
    rig.renew(1, &first.refresh_token).await;
    assert_eq!(rig.checked(1, &second.access_token).await, "valid");
    assert_eq!(rig.refused(0, &first.refresh_token).await, "reused");
    assert_eq!(rig.refused(0, &second.refresh_token).await, "reuse");
}

async fn a_token_that_comes_back_after_the_grace_ends_the_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    rig.pass(31);
    assert_eq!(rig.refused(1, &first.refresh_token).await, "reused");
    assert_eq!(rig.refused(0, &second.refresh_token).await, "reuse");
    assert_eq!(rig.told(REUSE), 1);
    // Another login is nobody's business.
    rig.log_in().await;
}

async fn a_retry_does_not_make_the_grace_longer(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    rig.renew(0, &first.refresh_token).await;
    rig.pass(20);
    rig.renew(1, &first.refresh_token).await;
    rig.pass(20);
    assert_eq!(rig.refused(0, &first.refresh_token).await, "reused");
}

async fn retries_are_counted_and_bounded(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let next = rig.renew(0, &first.refresh_token).await;
    for turn in 0..10 {
        assert_eq!(rig.renew(turn, &first.refresh_token).await.refresh_token, next.refresh_token);
    }
    for turn in 0..50 {
        let error = rig.try_renew(turn, &first.refresh_token).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert!(error.wait().is_some_and(|wait| wait <= Duration::from_secs(30)), "{:?}", error.wait());
    }
    assert_eq!(rig.told(REUSE), 0);
    rig.renew(0, &next.refresh_token).await;
}

async fn ten_at_once_get_one_successor(bed: Bed) {
    let rig = Arc::new(Rig::new(bed).await);
    let first = rig.log_in().await;
    let tokens = at_once(&rig, 10, &first.refresh_token).await;
    let tokens: Vec<String> = tokens
        .into_iter()
        .map(|outcome| match outcome {
            Ok(Granted::Tokens(tokens)) => tokens.refresh_token.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!((rig.told("renew"), rig.told("retry_in_grace"), rig.told(REUSE)), (1, 9, 0));
    assert_eq!(rig.sessions("calvin").await[0].generation, 2);
}

async fn at_once(rig: &Arc<Rig>, many: usize, token: &str) -> Vec<auth_core::Result<Granted>> {
    let renewals = (0..many).map(|turn| {
        let (rig, token) = (Arc::clone(rig), token.to_owned());
        tokio::spawn(async move { rig.try_renew(turn, &token).await })
    });
    let mut outcomes = Vec::new();
    for renewal in renewals.collect::<Vec<_>>() {
        outcomes.push(renewal.await.unwrap());
    }
    outcomes
}

async fn without_grace_one_of_ten_is_renewed_and_the_session_ends(bed: Bed) {
    let rig = Arc::new(Rig::with(bed, "[token.refresh]\ngrace = 0\n").await);
    for _ in 0..5 {
        let first = rig.log_in().await;
        let outcomes = at_once(&rig, 10, &first.refresh_token).await;
        let words: Vec<String> = outcomes.iter().map(word).collect();
        assert_eq!(words.iter().filter(|word| *word == "tokens").count(), 1, "{words:?}");
        assert!(words.iter().all(|word| ["tokens", "reused", "reuse"].contains(&word.as_str())), "{words:?}");
        assert_eq!(rig.sessions("calvin").await, [], "none is left");
    }
    assert_eq!(rig.told(REUSE), 5, "once each");
}

async fn reuse_is_seen_after_a_restart(bed: Bed) {
    if bed.place == Place::Memory {
        return;
    }
    let mut rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    rig.restart().await;
    assert_eq!(rig.checked(0, &second.access_token).await, "valid");
    rig.pass(31);
    assert_eq!(rig.refused(0, &first.refresh_token).await, "reused");
    rig.restart().await;
    assert_eq!(rig.refused(0, &second.refresh_token).await, "reuse");
    assert_eq!(rig.checked(1, &second.access_token).await, "revoked");
}

async fn a_clock_that_is_set_back_opens_no_window(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    rig.pass(100);
    let second = rig.renew(0, &first.refresh_token).await;
    let then = rig.wall();
    rig.clock.set_wall(then - Duration::from_secs(50));
    // No panic, and no age below zero that is within the grace for ever.
    assert_eq!(rig.refused(1, &first.refresh_token).await, "reused");
    assert_eq!(rig.refused(0, &second.refresh_token).await, "reuse");
    // Clocks of two processes differ a little: that is no theft.
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    rig.clock.set_wall(rig.wall() - Duration::from_secs(2));
    assert_eq!(rig.renew(1, &first.refresh_token).await.refresh_token, second.refresh_token);
    for wall in [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(4_102_444_800)] {
        rig.clock.set_wall(wall);
        let refused = rig.refused(1, &second.refresh_token).await;
        assert!(["expired", "tokens"].contains(&refused.as_str()), "{refused}");
    }
}

async fn an_unused_session_ends_and_is_no_theft(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    rig.pass(1_209_601);
    for process in 0..2 {
        assert_eq!(rig.refused(process, &first.refresh_token).await, "expired");
    }
    assert_eq!(rig.told(REUSE), 0);
    assert_eq!(rig.sessions("calvin").await, []);
}

async fn a_used_session_goes_on_to_its_absolute_end_and_not_beyond(bed: Bed) {
    let rig = Rig::with(bed, "jitter = 0\n").await;
    let mut tokens = rig.log_in().await;
    let end = tokens.session_expires_at;
    for week in 0..4 {
        rig.pass(7 * 86_400);
        tokens = rig.renew(week, &tokens.refresh_token).await;
        assert_eq!(tokens.session_expires_at, end);
    }
    assert_eq!(rig.seconds(tokens.refresh_expires_at), 2 * 86_400, "not beyond the end");
    rig.pass(2 * 86_400 - 100);
    tokens = rig.renew(0, &tokens.refresh_token).await;
    assert_eq!((rig.seconds(tokens.expires_at), rig.seconds(tokens.refresh_expires_at)), (100, 100));
    rig.pass(100);
    assert_eq!(rig.refused(1, &tokens.refresh_token).await, "expired");
    assert_eq!(rig.told(REUSE), 0);
}

async fn a_session_that_is_not_to_be_remembered_is_short(bed: Bed) {
    let rig = Rig::new(bed).await;
    let ask = LoginAsk { remember: false, ..Rig::ask("calvin", "hobbes") };
    let Granted::Tokens(tokens) = rig.service(0).login(&rig.ctx, ask).await.unwrap() else { panic!() };
    assert_eq!(rig.seconds(tokens.session_expires_at), 12 * 3_600);
    rig.pass(12 * 3_600 - 1);
    let next = rig.renew(1, &tokens.refresh_token).await;
    rig.pass(1);
    assert_eq!(rig.refused(0, &next.refresh_token).await, "expired");
}

async fn a_refresh_token_logs_out_again_and_again(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    for turn in 0..3 {
        let done =
            rig.service(turn).logout(&rig.ctx, &Bearing::Refresh(&second.refresh_token)).await.unwrap();
        assert!(done.known);
    }
    for token in [&first, &second] {
        assert_eq!(rig.refused(1, &token.refresh_token).await, "logout");
        assert_eq!(rig.checked(1, &token.access_token).await, "revoked");
    }
    // Whoever logged out has given nothing away.
    assert_eq!((rig.told(REUSE), rig.told("ended")), (0, 1));
    for unknown in ["", "gpr_", "nonsense", &second.refresh_token[..20]] {
        let done = rig.service(0).logout(&rig.ctx, &Bearing::Refresh(unknown)).await.unwrap();
        assert!(!done.known, "{unknown}");
    }
}

async fn an_access_token_logs_out_its_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let (one, other) = (rig.log_in().await, rig.log_in().await);
    let process = rig.service(1);
    // From memory in this process, which hears of its own logout at once.
    assert_eq!(rig.checked_in(1, &one.access_token, &rig.ctx).await, "valid");
    assert!(process.logout(&rig.ctx, &Bearing::Access(&one.access_token)).await.unwrap().known);
    assert_eq!(rig.checked_in(1, &one.access_token, &rig.ctx).await, "revoked");
    assert_eq!(rig.refused(0, &one.refresh_token).await, "logout");
    assert_eq!(rig.checked(0, &other.access_token).await, "valid");
    rig.renew(0, &other.refresh_token).await;
}

async fn an_expired_access_token_logs_out_too(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    rig.pass(600 + 3_600);
    assert_eq!(rig.checked(0, &tokens.access_token).await, "expired");
    assert!(rig.service(0).logout(&rig.ctx, &Bearing::Access(&tokens.access_token)).await.unwrap().known);
    assert_eq!(rig.refused(1, &tokens.refresh_token).await, "logout");
    let (head, _) = tokens.access_token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "A".repeat(86));
    assert!(!rig.service(0).logout(&rig.ctx, &Bearing::Access(&forged)).await.unwrap().known);
}

async fn who_logs_out_and_renews_at_once_is_logged_out(bed: Bed) {
    // SQLite writes each step to its disk.
    let rounds = if bed.place == Place::Sqlite { 200 } else { 1_000 };
    let rig = Arc::new(Rig::new(bed).await);
    for round in 0..rounds {
        let first = rig.log_in_at(round).await;
        let token = first.refresh_token.to_string();
        let out = tokio::spawn({
            let (rig, token) = (Arc::clone(&rig), token.clone());
            async move { rig.service(0).logout(&rig.ctx, &Bearing::Refresh(&token)).await.unwrap() }
        });
        let renewed = rig.try_renew(1, &token).await;
        assert!(out.await.unwrap().known);
        match &renewed {
            Ok(Granted::Tokens(next)) => {
                assert_eq!(rig.refused(round, &next.refresh_token).await, "logout", "round {round}");
                assert_eq!(rig.checked(round, &next.access_token).await, "revoked", "round {round}");
            }
            Ok(refused) => assert!(is_grant(refused, "logout"), "{refused:?}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(rig.sessions("calvin").await, []);
}

async fn a_session_of_the_future_can_be_ended(bed: Bed) {
    let rig = Rig::new(bed).await;
    rig.pass(1_000);
    let tokens = rig.log_in().await;
    rig.clock.set_wall(rig.wall() - Duration::from_secs(1_000));
    assert!(rig.service(1).logout(&rig.ctx, &Bearing::Refresh(&tokens.refresh_token)).await.unwrap().known);
    rig.pass(1_000);
    assert_eq!(rig.refused(0, &tokens.refresh_token).await, "logout");
}

async fn logging_out_everywhere_ends_all_sessions_and_access_tokens(bed: Bed) {
    let rig = Rig::new(bed).await;
    let devices = [rig.log_in_at(0).await, rig.log_in_at(1).await];
    let ask = Rig::ask("susie", "derkins");
    let susie = rig.service(0).login(&rig.ctx, ask).await;
    let login = rig.login_of("calvin");
    let (issued, _) = rig.service(0).issue(&rig.ctx, &login, None, None).await.unwrap().unwrap();
    let by = Bearing::Access(&devices[0].access_token);
    assert_eq!(rig.service(1).logout_all(&rig.ctx, &by).await.unwrap(), Some(2));
    for (turn, device) in devices.iter().enumerate() {
        assert_eq!(rig.checked(turn, &device.access_token).await, "revoked");
        assert_eq!(rig.refused(turn, &device.refresh_token).await, "logout_all");
        assert_eq!(
            rig.service(turn).logout_all(&rig.ctx, &Bearing::Access(&device.access_token)).await.unwrap(),
            None
        );
        let by = Bearing::Refresh(&device.refresh_token);
        assert_eq!(rig.service(turn).logout_all(&rig.ctx, &by).await.unwrap(), None);
    }
    assert_eq!(rig.checked(0, &issued).await, "revoked", "also one that has no session");
    if let Ok(Granted::Tokens(susie)) = susie {
        assert_eq!(rig.checked(0, &susie.access_token).await, "valid", "another person's");
    }
    // Whoever logs in afterwards is in, also within the same second.
    rig.clock.advance(Duration::from_millis(1));
    let again = rig.log_in().await;
    assert_eq!(rig.checked(1, &again.access_token).await, "valid");
    let by = Bearing::Refresh(&again.refresh_token);
    assert_eq!(rig.service(0).logout_all(&rig.ctx, &by).await.unwrap(), Some(1));
}

async fn one_session_of_many_is_ended(bed: Bed) {
    let rig = Rig::new(bed).await;
    let mut tokens = Vec::new();
    for turn in 0..3 {
        rig.pass(1);
        tokens.push(rig.log_in_at(turn).await);
    }
    let listed: Vec<FamilyId> = rig.sessions("calvin").await.iter().map(|family| family.id).collect();
    let newest_first: Vec<FamilyId> = tokens.iter().rev().map(|tokens| tokens.family).collect();
    assert_eq!(listed, newest_first);
    let realm = rig.service(0).realm();
    let who = realm.principal(&rig.ctx, &rig.login_of("calvin")).await.unwrap().found().unwrap();
    assert!(rig.service(1).end_session(&rig.ctx, &who, tokens[1].family).await.unwrap());
    assert_eq!(rig.refused(0, &tokens[1].refresh_token).await, "logout");
    for at in [0, 2] {
        rig.renew(0, &tokens[at].refresh_token).await;
    }
    assert_eq!(rig.sessions("calvin").await.len(), 2);
}

async fn nobody_ends_the_session_of_another(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    let realm = rig.service(0).realm();
    let susie = realm.principal(&rig.ctx, &rig.login_of("susie")).await.unwrap().found().unwrap();
    for process in 0..2 {
        assert!(!rig.service(process).end_session(&rig.ctx, &susie, tokens.family).await.unwrap());
        assert!(!rig.service(process).end_session(&rig.ctx, &susie, FamilyId::new([7; 16])).await.unwrap());
    }
    rig.renew(0, &tokens.refresh_token).await;
}

async fn a_changed_password_ends_all_sessions(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = [rig.log_in_at(0).await, rig.log_in_at(1).await];
    let login = rig.login_of("calvin");
    assert_eq!(rig.service(0).end_person(&rig.ctx, &login, EndReason::PasswordChanged).await.unwrap(), 2);
    for (turn, tokens) in tokens.iter().enumerate() {
        assert_eq!(rig.refused(turn, &tokens.refresh_token).await, "password_changed");
        assert_eq!(rig.checked(turn, &tokens.access_token).await, "revoked");
    }
}

/// Has something happen in the other process after a login has read whom it is about.
async fn while_logging_in(
    rig: &Rig,
    meanwhile: impl AsyncFnOnce(&TokenService, &Login),
) -> auth_core::Result<Granted> {
    // Nothing from memory.
    rig.change("calvin", |_| {});
    let (read, go) = rig.people.hold();
    let login = async {
        let outcome = rig.service(0).login(&rig.ctx, Rig::ask("calvin", "hobbes")).await;
        rig.people.let_go();
        outcome
    };
    let other = async {
        read.await.unwrap();
        rig.pass(1);
        meanwhile(rig.service(1), &rig.login_of("calvin")).await;
        rig.pass(1);
        go.send(()).unwrap();
    };
    tokio::join!(login, other).0
}

async fn a_login_with_a_password_that_is_changed_meanwhile_begins_no_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let before = rig.log_in().await;
    let susie = World::user("susie");
    let outcome = while_logging_in(&rig, async |service, login| {
        rig.change("calvin", |store| store.set_hash("calvin", susie.stored_hash()));
        assert_eq!(service.end_person(&rig.ctx, login, EndReason::PasswordChanged).await.unwrap(), 1);
    })
    .await;
    assert_eq!(word(&outcome), "bad_password");
    assert_eq!(rig.sessions("calvin").await, []);
    assert_eq!(rig.refused(0, &before.refresh_token).await, "password_changed");
    let ask = LoginAsk { password: susie.password.unwrap().to_vec(), ..Rig::ask("calvin", "") };
    assert_eq!(word(&rig.service(1).login(&rig.ctx, ask).await), "tokens");
}

async fn who_logs_out_everywhere_during_a_login_is_logged_in_after_it(bed: Bed) {
    let rig = Rig::new(bed).await;
    let before = rig.log_in().await;
    let outcome = while_logging_in(&rig, async |service, login| {
        assert_eq!(service.end_person(&rig.ctx, login, EndReason::LogoutAll).await.unwrap(), 1);
    })
    .await;
    let Ok(Granted::Tokens(tokens)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(rig.refused(1, &before.refresh_token).await, "logout_all");
    for process in 0..2 {
        assert_eq!(rig.checked(process, &tokens.access_token).await, "valid");
    }
    let live: Vec<FamilyId> = rig.sessions("calvin").await.iter().map(|family| family.id).collect();
    assert_eq!(live, [tokens.family]);
    rig.renew(1, &tokens.refresh_token).await;
}

async fn who_is_disabled_is_not_renewed_and_the_session_ends(bed: Bed) {
    let rig = Rig::new(bed).await;
    let (first, other) = (rig.log_in().await, rig.log_in().await);
    let disabled = AccountState { disabled: true, ..AccountState::default() };
    rig.change("calvin", |store| store.set_state("calvin", disabled));
    assert_eq!(rig.checked(0, &first.access_token).await, "disabled");
    assert_eq!(rig.refused(0, &first.refresh_token).await, "disabled");
    rig.change("calvin", |store| store.set_state("calvin", AccountState::default()));
    assert_eq!(rig.refused(1, &first.refresh_token).await, "account", "it has ended");
    rig.renew(1, &other.refresh_token).await;
    rig.change("calvin", |store| store.remove_user("calvin"));
    let last = rig.log_in_susie().await;
    assert_eq!(rig.refused(1, &other.refresh_token).await, "unknown_user");
    rig.renew(0, &last.refresh_token).await;
}

impl Rig {
    async fn log_in_susie(&self) -> auth_token::Tokens {
        let susie = World::user("susie");
        let ask = LoginAsk { password: susie.password.unwrap().to_vec(), ..Self::ask("susie", "") };
        match self.service(0).login(&self.ctx, ask).await.unwrap() {
            Granted::Tokens(tokens) => *tokens,
            other => panic!("{other:?}"),
        }
    }
}

async fn who_takes_over_a_login_inherits_no_session(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    assert_eq!(rig.checked(0, &tokens.access_token).await, "valid");
    rig.change("calvin", |store| {
        store.remove_user("calvin");
        store.add_user("calvin", id(4711), World::user("calvin").stored_hash());
    });
    let new = rig.log_in().await;
    let realm = rig.service(0).realm();
    let who = realm.principal(&rig.ctx, &rig.login_of("calvin")).await.unwrap().found().unwrap();
    for process in [1, 0] {
        assert_eq!(rig.checked_in(process, &tokens.access_token, &rig.ctx).await, "unknown_user");
        let theirs = rig.service(process).sessions_of(&rig.ctx, &who).await.unwrap();
        assert_eq!(theirs.iter().map(|family| family.id).collect::<Vec<_>>(), [new.family]);
        assert!(!rig.service(process).end_session(&rig.ctx, &who, tokens.family).await.unwrap());
    }
    for process in [1, 0] {
        let refused = rig.refused(process, &tokens.refresh_token).await;
        assert!(["unknown_user", "account"].contains(&refused.as_str()), "{refused}");
    }
    rig.renew(1, &new.refresh_token).await;
}

async fn what_a_token_says_is_read_anew(bed: Bed) {
    let rig = Rig::with(bed, "groups = true\n").await;
    let first = rig.log_in().await;
    let groups = |token: &str| claims(token)["groups"].to_string();
    assert_eq!(groups(&first.access_token), r#"["admin","staff"]"#);
    rig.change("calvin", |store| store.leave("calvin", "admin"));
    let second = rig.renew(1, &first.refresh_token).await;
    assert_eq!(groups(&second.access_token), r#"["staff"]"#);
}

async fn an_outage_of_the_people_consumes_nothing(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    rig.change("calvin", |_| rig.people.down(true));
    for process in 0..2 {
        assert_eq!(rig.refused(process, &first.refresh_token).await, "error unavailable");
        assert_eq!(rig.checked(process, &first.access_token).await, "error unavailable");
        let outcome = rig.service(process).login(&rig.ctx, Rig::ask("calvin", "hobbes")).await;
        assert_eq!(word(&outcome), "error unavailable");
    }
    // Logging out needs nobody.
    let other = rig.service(0).logout(&rig.ctx, &Bearing::Refresh("nonsense")).await.unwrap();
    assert!(!other.known);
    rig.people.down(false);
    rig.pass(60);
    let next = rig.renew(1, &first.refresh_token).await;
    assert_eq!((next.generation, rig.told(REUSE)), (2, 0));
}

async fn a_scope_may_be_narrowed_and_never_widened(bed: Bed) {
    let rig = Rig::with(bed, "scopes = ['read', 'write', 'admin']\n").await;
    let ask = LoginAsk { scope: Some("write read"), ..Rig::ask("calvin", "hobbes") };
    let Granted::Tokens(first) = rig.service(0).login(&rig.ctx, ask).await.unwrap() else { panic!() };
    assert_eq!(first.scope, "read write");
    let renew = async |process: usize, token: &str, scope| {
        rig.service(process).renew(&rig.ctx, &RenewAsk { token, scope: Some(scope), client: None }).await
    };
    for wider in ["read admin", "admin", "nonsense"] {
        assert_eq!(word(&renew(0, &first.refresh_token, wider).await), "scope");
    }
    let Granted::Tokens(second) = renew(1, &first.refresh_token, "read").await.unwrap() else { panic!() };
    assert_eq!((second.scope.as_str(), second.generation), ("read", 2));
    let third = rig.renew(0, &second.refresh_token).await;
    assert_eq!(third.scope, "read write", "what was granted is granted");
    let ask = LoginAsk { scope: Some("root"), ..Rig::ask("calvin", "hobbes") };
    assert_eq!(word(&rig.service(0).login(&rig.ctx, ask).await), "scope");
}

async fn another_client_gets_nothing_and_consumes_nothing(bed: Bed) {
    let rig = Rig::new(bed).await;
    let ask = LoginAsk { client: Some("app"), ..Rig::ask("calvin", "hobbes") };
    let Granted::Tokens(first) = rig.service(0).login(&rig.ctx, ask).await.unwrap() else { panic!() };
    let renew = async |process: usize, client| {
        let ask = RenewAsk { token: &first.refresh_token, scope: None, client };
        rig.service(process).renew(&rig.ctx, &ask).await
    };
    for other in [Some("other"), Some("APP"), None] {
        assert_eq!(word(&renew(1, other).await), "client", "{other:?}");
    }
    assert_eq!(rig.told("client_mismatch"), 3);
    assert_eq!(word(&renew(0, Some("app")).await), "tokens");
}

async fn a_refresh_token_is_no_access_token_nor_the_other_way_round(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    assert_eq!(rig.checked(0, &tokens.refresh_token).await, "malformed");
    assert_eq!(rig.refused(0, &tokens.access_token).await, "malformed");
    rig.renew(1, &tokens.refresh_token).await;
}

async fn garbage_is_refused(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    let token = tokens.refresh_token.as_str();
    let mut other = token.to_owned();
    let last = other.pop().unwrap();
    other.push(if last == 'A' { 'E' } else { 'A' });
    // Right in form, of a server with another secret.
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([1; 53]);
    let stranger = format!("gpr_{body}");
    for garbage in [
        "",
        "gpr_",
        &"a".repeat(1 << 20),
        &other,
        &stranger,
        &token[..token.len() - 1],
        &token.to_uppercase(),
        "é\0\n",
    ] {
        for process in 0..2 {
            assert_eq!(rig.refused(process, garbage).await, "malformed", "{}", garbage.len());
        }
    }
    rig.renew(1, token).await;
}

async fn what_an_operator_has_ended_is_refused(bed: Bed) {
    let rig = Rig::new(bed).await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    for (ended, process) in [(true, 0), (false, 1)] {
        let done = rig.service(process).end_family(&rig.ctx, first.family, EndReason::Revoked).await.unwrap();
        assert_eq!(done, ended);
    }
    assert_eq!(rig.refused(1, &second.refresh_token).await, "revoked");
    assert_eq!(rig.checked(1, &second.access_token).await, "revoked");
}

async fn a_key_follows_another_without_a_restart(bed: Bed) {
    let rig = Rig::new(bed).await;
    let ring = rig.stacks[0].key_ring().unwrap();
    let kids = |process: usize| -> Vec<String> {
        let set: serde_json::Value = serde_json::from_str(&rig.service(process).jwks()).unwrap();
        let mut kids: Vec<String> = set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect();
        kids.sort();
        kids
    };
    let kid = |token: &str| {
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token.split('.').next().unwrap())
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let old = rig.log_in().await;
    let first = kid(&old.access_token);
    assert_eq!(kids(1), [first.as_str()]);
    let next = ring.rotate(rig.wall(), Rotation::Planned).unwrap().kid.unwrap();
    rig.pass(5);
    let mut both = vec![first.clone(), next.clone()];
    both.sort();
    assert_eq!((kids(0), kids(1)), (both.clone(), both.clone()), "published before it is used");
    assert_eq!(kid(&rig.log_in_at(1).await.access_token), first);
    let (long, _) = rig
        .service(0)
        .issue(&rig.ctx, &rig.login_of("calvin"), None, Some(Duration::from_secs(3 * 86_400)))
        .await
        .unwrap()
        .unwrap();
    rig.pass(86_400);
    let new = rig.log_in_at(1).await;
    assert_eq!(kid(&new.access_token), next);
    for process in 0..2 {
        assert_eq!(rig.checked(process, &long).await, "valid", "what the one before has signed");
        assert_eq!(rig.checked(process, &new.access_token).await, "valid");
        assert_eq!(kids(process), both);
    }
    // As long as anything may live that it has signed.
    rig.pass(31 * 86_400);
    for process in 0..2 {
        assert_eq!(kids(process), [next.as_str()]);
        assert_ne!(rig.checked(process, &long).await, "valid");
    }
}

async fn lives_of_access_tokens_are_spread(bed: Bed) {
    let rig = Rig::new(bed).await;
    let mut lives = std::collections::BTreeSet::new();
    let mut tokens = rig.log_in().await;
    for turn in 0..100 {
        let life = rig.seconds(tokens.expires_at);
        assert!((570..=600).contains(&life), "{life}");
        lives.insert(life);
        rig.pass(31);
        tokens = rig.renew(turn, &tokens.refresh_token).await;
    }
    assert!(lives.len() >= 12, "{lives:?}");
}

async fn what_has_ended_is_kept_until_its_time_and_then_deleted(bed: Bed) {
    if bed.place == Place::Redis {
        // Records end there by themselves, on the server's own clock.
        return;
    }
    let rig = Rig::new(bed).await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(rig.log_in().await);
    }
    let used = rig.renew(0, &tokens[0].refresh_token).await;
    rig.service(0).logout(&rig.ctx, &Bearing::Refresh(&tokens[1].refresh_token)).await.unwrap();
    rig.pass(31);
    let clean = async || rig.service(1).clean(&rig.ctx, 2).await.unwrap();
    assert_eq!(clean().await, 0);
    assert_eq!(rig.refused(0, &tokens[0].refresh_token).await, "reused", "else it could not be seen");
    assert_eq!(rig.refused(0, &used.refresh_token).await, "reuse");
    rig.pass(29 * 86_400);
    while clean().await > 0 {}
    assert_eq!(rig.refused(1, &tokens[1].refresh_token).await, "logout");
    // Revocations are remembered for as long as any access token may live, which is a little longer.
    rig.pass(2 * 86_400);
    let mut gone = 0;
    loop {
        match clean().await {
            0 => break,
            some => gone += some,
        }
    }
    assert_eq!(gone, 5 + 2, "five sessions, and two that were ended before their time");
}

async fn a_revoked_access_token_alone_is_refused(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = rig.log_in().await;
    let next = rig.renew(0, &tokens.refresh_token).await;
    assert_eq!(rig.checked_in(0, &tokens.access_token, &rig.ctx).await, "valid");
    assert!(rig.service(0).revoke(&rig.ctx, &tokens.access_token).await.unwrap());
    assert_eq!(rig.checked_in(0, &tokens.access_token, &rig.ctx).await, "revoked");
    assert_eq!(rig.checked(1, &tokens.access_token).await, "revoked");
    assert_eq!(rig.checked(1, &next.access_token).await, "valid");
    rig.renew(1, &next.refresh_token).await;
    assert!(!rig.service(0).revoke(&rig.ctx, "nonsense").await.unwrap());
}

async fn all_of_a_realm_is_revoked_at_once(bed: Bed) {
    let rig = Rig::new(bed).await;
    let tokens = [rig.log_in_at(0).await, rig.log_in_at(1).await, rig.log_in_susie().await];
    assert_eq!(rig.service(1).end_realm(&rig.ctx, EndReason::Revoked).await.unwrap(), 3);
    for (turn, tokens) in tokens.iter().enumerate() {
        assert_eq!(rig.checked(turn, &tokens.access_token).await, "revoked");
        assert_eq!(rig.refused(turn, &tokens.refresh_token).await, "revoked");
    }
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(rig.checked(0, &rig.log_in().await.access_token).await, "valid");
}

async fn an_access_token_renews_itself_while_its_session_lives(bed: Bed) {
    let rig = Rig::with(bed, "profile = 'ampho'\n").await;
    let mut token = rig.log_in().await.access_token;
    for turn in 0..5 {
        rig.pass(300);
        let Granted::Tokens(next) = rig.service(turn).renew_by_access(&rig.ctx, &token).await.unwrap() else {
            panic!()
        };
        token = next.access_token;
    }
    let outcomes = futures_util::future::join_all(
        (0..4).map(|turn| rig.service(turn).renew_by_access(&rig.ctx, &token)),
    )
    .await;
    assert!(outcomes.iter().all(|outcome| word(outcome) == "tokens"), "{outcomes:?}");
    rig.service(0).logout(&rig.ctx, &Bearing::Access(&token)).await.unwrap();
    rig.change("calvin", |_| {});
    for process in 0..2 {
        assert_eq!(word(&rig.service(process).renew_by_access(&rig.ctx, &token).await), "malformed");
    }
    let late = rig.log_in().await.access_token;
    rig.pass(661);
    assert_eq!(word(&rig.service(0).renew_by_access(&rig.ctx, &late).await), "malformed");
}

async fn reuse_may_end_all_sessions_of_a_person(bed: Bed) {
    let rig = Rig::with(bed, "[token.refresh]\non_reuse = 'end_all'\n").await;
    let (first, other) = (rig.log_in().await, rig.log_in_at(1).await);
    rig.renew(0, &first.refresh_token).await;
    rig.pass(31);
    assert_eq!(rig.refused(1, &first.refresh_token).await, "reused");
    assert_eq!(rig.refused(0, &other.refresh_token).await, "reuse");
}

async fn reuse_may_be_told_only(bed: Bed) {
    let rig = Rig::with(bed, "[token.refresh]\non_reuse = 'warn'\n").await;
    let first = rig.log_in().await;
    let second = rig.renew(0, &first.refresh_token).await;
    rig.pass(31);
    assert_eq!(rig.refused(1, &first.refresh_token).await, "reused");
    assert_eq!(rig.told(REUSE), 1);
    rig.renew(0, &second.refresh_token).await;
}
