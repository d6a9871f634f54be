//! Logout, and the list of sessions.

use axum::http::Method;
use serde_json::json;

use super::rig::{Answer, Rig, bearer, request};

const LOGOUT: &str = "/api/security/logout";
const LOGOUT_ALL: &str = "/api/security/logout-all";
const SESSIONS: &str = "/api/security/sessions";

async fn list(rig: &Rig, access: &str) -> Answer {
    rig.bare(Method::GET, SESSIONS, &[("authorization", &bearer(access))]).await
}

#[tokio::test]
async fn a_logout_ends_the_session_of_either_token_however_often_it_is_said() {
    let rig = Rig::new();
    let one = rig.login().await;
    for _ in 0..2 {
        let answer = rig.post(LOGOUT, json!({ "refresh_token": one.refresh() }), &[]).await;
        answer.is(200);
        assert_eq!(answer.json(), json!({ "status": "success" }));
    }
    rig.renew(&one.refresh()).await.refuses(400, "invalid_grant");
    let two = rig.login().await;
    for _ in 0..2 {
        rig.bare(Method::POST, LOGOUT, &[("authorization", &bearer(&two.access()))]).await.is(200);
    }
    rig.heard.take();
    rig.renew(&two.refresh()).await.refuses(400, "invalid_grant");
    assert_eq!(rig.heard.take(), Vec::<String>::new(), "what has logged out is no thief");
}

#[tokio::test]
async fn a_logout_works_with_an_access_token_that_has_expired() {
    let rig = Rig::new();
    let one = rig.login().await;
    rig.pass(600 + 3_600);
    list(&rig, &one.access()).await.refuses(401, "invalid_token");
    rig.bare(Method::POST, LOGOUT, &[("authorization", &bearer(&one.access()))]).await.is(200);
    rig.renew(&one.refresh()).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_logout_with_something_unknown_is_done_and_one_with_nothing_is_not_understood() {
    let rig = Rig::new();
    let one = rig.login().await;
    rig.post(LOGOUT, json!({ "refresh_token": "gpr_garbage" }), &[]).await.is(200);
    rig.bare(Method::POST, LOGOUT, &[("authorization", "Bearer garbage")]).await.is(200);
    rig.bare(Method::POST, LOGOUT, &[]).await.refuses(400, "invalid_request");
    rig.bare(Method::POST, LOGOUT, &[("authorization", "Basic eDp5")]).await.refuses(400, "invalid_request");
    rig.bare(Method::POST, LOGOUT, &[("authorization", "Bearer a b")]).await.refuses(400, "invalid_request");
    let body = json!({ "refresh_token": one.refresh() });
    rig.post(LOGOUT, body, &[("authorization", "Bearer a b")]).await.refuses(400, "invalid_request");
    rig.renew(&one.refresh()).await.is(200);
}

#[tokio::test]
async fn a_logout_tells_a_token_by_what_it_is_and_not_by_where_it_stands() {
    let rig = Rig::new();
    let (one, two) = (rig.login().await, rig.login().await);
    rig.bare(Method::POST, LOGOUT, &[("authorization", &bearer(&one.refresh()))]).await.is(200);
    rig.post(LOGOUT, json!({ "refresh_token": two.access() }), &[]).await.is(200);
    for each in [one, two] {
        rig.renew(&each.refresh()).await.refuses(400, "invalid_grant");
    }
}

#[tokio::test]
async fn a_logout_with_two_tokens_ends_the_sessions_of_both() {
    let rig = Rig::new();
    let (one, two) = (rig.login().await, rig.login().await);
    let body = json!({ "refresh_token": one.refresh() });
    rig.post(LOGOUT, body, &[("authorization", &bearer(&two.access()))]).await.is(200);
    for each in [one, two] {
        rig.renew(&each.refresh()).await.refuses(400, "invalid_grant");
    }
}

#[tokio::test]
async fn a_logout_everywhere_ends_all_sessions_of_one_person_and_their_access_tokens() {
    let rig = Rig::new();
    let (one, two, three) = (rig.login().await, rig.login().await, rig.login().await);
    let body = json!({ "login": "susie", "password": "derkins" });
    let susie = rig.post("/api/security/login", body, &[]).await;
    rig.pass(1);
    let answer = rig.bare(Method::POST, LOGOUT_ALL, &[("authorization", &bearer(&one.access()))]).await;
    answer.is(200);
    assert_eq!(answer.json(), json!({ "status": "success", "ended": 3 }));
    for each in [&one, &two, &three] {
        rig.renew(&each.refresh()).await.refuses(400, "invalid_grant");
        list(&rig, &each.access()).await.refuses(401, "invalid_token");
    }
    rig.renew(&susie.refresh()).await.is(200);
    // In the same millisecond nobody knows which was first.
    let login = json!({ "login": "calvin", "password": "hobbes" });
    let answer = rig.post("/api/security/login", login, &[]).await;
    answer.refuses(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    rig.pass(1);
    let four = rig.login().await;
    rig.post(LOGOUT_ALL, json!({ "refresh_token": four.refresh() }), &[]).await.is(200);
    rig.renew(&four.refresh()).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_logout_everywhere_needs_a_token_that_is_good() {
    let rig = Rig::new();
    let one = rig.login().await;
    let answer = rig.bare(Method::POST, LOGOUT_ALL, &[]).await;
    answer.refuses(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"default\"");
    rig.bare(Method::POST, LOGOUT_ALL, &[("authorization", "Bearer garbage")])
        .await
        .refuses(401, "invalid_token");
    rig.post(LOGOUT_ALL, json!({ "refresh_token": "gpr_garbage" }), &[]).await.refuses(401, "invalid_token");
    rig.renew(&one.refresh()).await.is(200);
    rig.pass(600 + 31);
    let expired = [("authorization", &*bearer(&one.access()))];
    rig.bare(Method::POST, LOGOUT_ALL, &expired).await.refuses(401, "invalid_token");
}

#[tokio::test]
async fn sessions_are_listed_with_where_they_were_begun() {
    let rig = Rig::new();
    let body = json!({ "login": "calvin", "password": "hobbes", "device": "my \"phone\"", "client_id": "app", "scope": "read" });
    let agent = ("user-agent", "Mozilla/5.0 \u{e9}\tx");
    let first = rig.post("/api/security/login", body, &[agent]).await;
    rig.pass(60);
    let second = rig.login().await;
    let answer = list(&rig, &second.access()).await;
    answer.is(200);
    let sessions = answer.json()["sessions"].clone();
    let start = 1_767_225_600_u64;
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    assert_eq!(sessions[0]["sid"], second.text("sid"));
    assert_eq!(sessions[0]["current"], true);
    let expected = json!({
        "sid": first.text("sid"),
        "current": false,
        "client_id": "app",
        "scope": "read",
        "device": { "name": "my \"phone\"", "address": "192.0.2.7", "agent": "Mozilla/5.0 \u{e9}\u{fffd}x" },
        "created_at": start,
        "last_used_at": start,
        "refresh_expires_at": start + 14 * 86_400,
        "session_expires_at": start + 30 * 86_400,
    });
    assert_eq!(sessions[1], expected);
    for token in [first.refresh(), second.refresh(), first.access(), second.access()] {
        assert!(!String::from_utf8_lossy(&answer.body).contains(&token));
    }
}

#[tokio::test]
async fn the_name_of_a_device_is_short_and_plain() {
    let rig = Rig::new();
    for device in ["a\nb", "\u{1b}[2J", "\u{85}", &"x".repeat(256)] {
        let body = json!({ "login": "calvin", "password": "hobbes", "device": device });
        rig.post("/api/security/login", body, &[]).await.refuses(400, "invalid_request");
    }
}

#[tokio::test]
async fn one_session_is_ended_and_the_others_live() {
    let rig = Rig::new();
    let (one, two) = (rig.login().await, rig.login().await);
    let end = async |sid: &str, access: &str| {
        rig.bare(Method::DELETE, &format!("{SESSIONS}/{sid}"), &[("authorization", &bearer(access))]).await
    };
    end(&one.text("sid"), &two.access()).await.is(200);
    rig.renew(&one.refresh()).await.refuses(400, "invalid_grant");
    rig.renew(&two.refresh()).await.is(200);
    for unknown in ["x", "", &"0".repeat(32), &one.text("sid").to_uppercase(), "%00", "..%2f"] {
        let answer = end(unknown, &two.access()).await;
        assert_eq!(answer.status, 404, "{unknown}");
    }
    end(&two.text("sid"), "garbage").await.refuses(401, "invalid_token");
}

#[tokio::test]
async fn nobody_ends_the_session_of_somebody_else() {
    let rig = Rig::new();
    let calvin = rig.login().await;
    let body = json!({ "login": "susie", "password": "derkins" });
    let susie = rig.post("/api/security/login", body, &[]).await;
    let path = format!("{SESSIONS}/{}", calvin.text("sid"));
    let theft = rig.bare(Method::DELETE, &path, &[("authorization", &bearer(&susie.access()))]).await;
    theft.refuses(404, "not_found");
    let unknown = format!("{SESSIONS}/{}", "0".repeat(32));
    let missing = rig.bare(Method::DELETE, &unknown, &[("authorization", &bearer(&susie.access()))]).await;
    assert_eq!(theft, missing, "which sessions there are is not told");
    rig.renew(&calvin.refresh()).await.is(200);
    let listed = list(&rig, &susie.access()).await.json()["sessions"].as_array().unwrap().len();
    assert_eq!(listed, 1);
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_refused_as_rfc_6750_says() {
    let rig = Rig::new();
    let access = rig.login().await.access();
    let answer = rig.bare(Method::GET, SESSIONS, &[("authorization", "Bearer a b")]).await;
    answer.refuses(400, "invalid_request");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"default\", error=\"invalid_request\"");
    let twice = [("authorization", &*bearer(&access)), ("authorization", &*bearer(&access))];
    rig.bare(Method::GET, SESSIONS, &twice).await.refuses(400, "invalid_request");
    let proof = rig.send(request(Method::GET, SESSIONS, &[("authorization", "DPoP x")], "")).await;
    proof.refuses(401, "invalid_dpop_proof");
    let long = bearer(&"A".repeat(9_000));
    rig.bare(Method::GET, SESSIONS, &[("authorization", &long)]).await.refuses(401, "invalid_token");
}
