//! The dialects of flask-ampho and of twopi-flask-utils.

use auth_token::Profile;
use axum::http::Method;
use serde_json::{Value, json};

use super::rig::{Plan, Rig, bearer, request};

const START: u64 = 1_767_225_600;

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

#[tokio::test]
async fn ampho_gives_a_token_that_renews_itself() {
    let rig = Rig::of(Plan::new(Profile::Ampho));
    let form = rig.form("/api/security/1/login", "login=calvin&password=hobbes").await;
    form.is(200);
    let token = form.text("token");
    let expected =
        json!({ "token": token, "ttl": 600, "leeway": 30, "starts": START, "expires": START + 600 });
    assert_eq!(form.json(), expected);
    assert_eq!(claims(&token)["login"], "calvin");
    let json =
        rig.post("/api/security/1/login", json!({ "login": "calvin", "password": "hobbes" }), &[]).await;
    json.is(200);
    rig.pass(300);
    let next = rig.bare(Method::POST, "/api/security/1/renew", &[("authorization", &bearer(&token))]).await;
    next.is(200);
    assert_ne!(next.text("token"), token);
    assert_eq!(next.json()["expires"], START + 900);
    assert_eq!(next.json().as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn ampho_refuses_with_a_message() {
    let rig = Rig::of(Plan::new(Profile::Ampho));
    let login = "/api/security/1/login";
    let check = |answer: &super::rig::Answer, status: u16| {
        answer.is(status);
        let json = answer.json();
        assert!(json["message"].is_string() && json.as_object().unwrap().len() == 1, "{json}");
    };
    check(&rig.form(login, "").await, 400);
    check(&rig.form(login, "login=calvin").await, 400);
    check(&rig.form(&format!("{login}?login=calvin&password=hobbes"), "").await, 400);
    check(&rig.post(login, json!({ "login": ["calvin"], "password": "hobbes" }), &[]).await, 400);
    let wrong = rig.form(login, "login=calvin&password=x").await;
    check(&wrong, 401);
    assert_eq!(rig.form(login, "login=nobody&password=x").await, wrong);
    check(&rig.bare(Method::GET, login, &[]).await, 405);
    check(&rig.send(request(Method::POST, login, &[("content-type", "text/plain")], "x")).await, 415);
    let renew = "/api/security/1/renew";
    check(&rig.bare(Method::POST, renew, &[]).await, 401);
    check(&rig.bare(Method::POST, renew, &[("authorization", "BearerX x")]).await, 401);
    check(&rig.bare(Method::POST, renew, &[("authorization", "Bearer")]).await, 400);
    let forged = rig.bare(Method::POST, renew, &[("authorization", "Bearer a.b.c")]).await;
    check(&forged, 401);
    assert_eq!(forged.header("www-authenticate"), "Bearer realm=\"default\", error=\"invalid_token\"");
    rig.people.set(true);
    check(&rig.form(login, "login=calvin&password=hobbes").await, 503);
}

#[tokio::test]
async fn ampho_renews_nothing_for_ever() {
    let rig = Rig::of(Plan::new(Profile::Ampho));
    let renew = async |token: &str| {
        rig.bare(Method::POST, "/api/security/1/renew", &[("authorization", &bearer(token))]).await
    };
    let first = rig.form("/api/security/1/login", "login=calvin&password=hobbes").await.text("token");
    rig.pass(700);
    renew(&first).await.is(401);
    let mut last = rig.form("/api/security/1/login", "login=calvin&password=hobbes").await.text("token");
    for _ in 0..3 {
        rig.pass(590);
        last = renew(&last).await.text("token");
    }
    rig.store.set_state("calvin", auth_core::AccountState { disabled: true, ..Default::default() });
    rig.pass(300);
    renew(&last).await.is(401);
}

#[tokio::test]
async fn ampho_has_its_two_routes_and_no_other() {
    let rig = Rig::of(Plan::new(Profile::Ampho));
    for path in ["login", "renew", "logout", "sessions", "1/logout", "1/sessions"] {
        let answer = rig.bare(Method::POST, &format!("/api/security/{path}"), &[]).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn twopi_gives_a_token_and_a_refresh_token() {
    let rig = Rig::of(Plan::new(Profile::Twopi));
    let form = rig.form("/api/security/login", "username=calvin&password=hobbes").await;
    form.is(200);
    let expected = json!({ "token": form.text("token"), "refreshToken": form.text("refreshToken") });
    assert_eq!(form.json(), expected);
    let says = claims(&form.text("token"));
    assert_eq!(says["user_id"], "calvin");
    assert_eq!(says["scopes"], json!(["read", "write"]));
    assert_eq!(says["rfid"].as_str().unwrap().len(), 32);
    let json =
        rig.post("/api/security/login", json!({ "username": "calvin", "password": "hobbes" }), &[]).await;
    json.is(200);
    let next = rig.form("/api/security/renew", &format!("refreshToken={}", form.text("refreshToken"))).await;
    next.is(200);
    assert_ne!(next.text("token"), form.text("token"));
    assert_ne!(next.text("refreshToken"), form.text("refreshToken"), "it rotates");
    assert_eq!(claims(&next.text("token"))["rfid"], says["rfid"]);
}

#[tokio::test]
async fn twopi_refuses_with_the_two_texts_of_the_original() {
    let rig = Rig::of(Plan::new(Profile::Twopi));
    let check = |answer: &super::rig::Answer, status: u16, text: &str| {
        answer.is(status);
        assert_eq!(answer.json(), json!({ "_errors": [text] }));
    };
    let invalid = "The provided token was invalid.";
    let needed = "A valid token is required to access this resource";
    let renew = "/api/security/renew";
    check(&rig.form(renew, "").await, 401, needed);
    check(&rig.form(renew, "refreshToken=x").await, 401, invalid);
    let one = rig.form("/api/security/login", "username=calvin&password=hobbes").await;
    check(&rig.form(renew, &format!("refreshToken={}", one.text("token"))).await, 401, invalid);
    let logout = "/api/security/logout";
    check(&rig.bare(Method::POST, logout, &[]).await, 401, needed);
    check(&rig.bare(Method::POST, &format!("{logout}?token={}", one.text("token")), &[]).await, 401, needed);
    check(&rig.bare(Method::POST, logout, &[("authorization", "Bearer a.b.c")]).await, 401, invalid);
    let wrong = rig.form("/api/security/login", "username=calvin&password=x").await;
    check(&wrong, 401, "the login or the password is wrong");
    assert_eq!(rig.form("/api/security/login", "username=nobody&password=x").await, wrong);
    rig.form("/api/security/login", "login=calvin&password=hobbes").await.is(400);
    rig.form("/api/security/login", "username=calvin&password=").await.is(400);
}

#[tokio::test]
async fn twopi_logs_out_with_a_token_that_has_expired_and_as_often_as_asked() {
    let rig = Rig::of(Plan::new(Profile::Twopi));
    let one = rig.form("/api/security/login", "username=calvin&password=hobbes").await;
    rig.pass(7_200);
    for _ in 0..2 {
        let authorization = bearer(&one.text("token"));
        let answer =
            rig.bare(Method::POST, "/api/security/logout", &[("authorization", &authorization)]).await;
        answer.is(200);
        assert_eq!(answer.json(), json!({ "status": "success" }));
    }
    rig.form("/api/security/renew", &format!("refreshToken={}", one.text("refreshToken"))).await.is(401);
}
