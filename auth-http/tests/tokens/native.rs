//! Login and renewal, as native clients see them.

use axum::http::Method;
use serde_json::{Value, json};

use super::rig::{Rig, bearer, request};

const LOGIN: &str = "/api/security/login";
const RENEW: &str = "/api/security/renew";

#[tokio::test]
async fn a_login_gives_both_tokens_and_says_how_long_they_are_good() {
    let rig = Rig::new();
    let start = 1_767_225_600;
    let answer = rig.login().await;
    let json = answer.json();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["expires_in"], 600);
    assert_eq!(json["expires_at"], start + 600);
    assert_eq!(json["starts_at"], start);
    assert_eq!(json["leeway"], 30);
    assert_eq!(json["refresh_expires_in"], 14 * 86_400);
    assert_eq!(json["session_expires_in"], 30 * 86_400);
    assert_eq!(json["scope"], "read write");
    assert_eq!(answer.text("sid").len(), 32);
    assert!(answer.refresh().starts_with("gpr_") && answer.access().split('.').count() == 3);
    assert_eq!(json.as_object().unwrap().len(), 11, "nothing else is told: {json}");
    assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn json_and_forms_say_the_same() {
    let rig = Rig::new();
    let form = rig.form(LOGIN, "login=calvin&password=hobbes&scope=read&device=my+phone&remember=off").await;
    form.is(200);
    assert_eq!(form.text("scope"), "read");
    assert_eq!(form.json()["session_expires_in"], 12 * 3_600);
    let body = json!({ "login": "calvin", "password": "hobbes", "scope": "read", "device": "my phone", "remember": false });
    let json = rig.post(LOGIN, body, &[]).await;
    json.is(200);
    assert_eq!(json.json()["session_expires_in"], 12 * 3_600);
    let zoe = "login=zo%C3%A9&password=p%C3%A4ssw%C3%B6rd+%F0%9F%90%AF";
    rig.form(LOGIN, zoe).await.is(200);
    let renewed = rig.form(RENEW, &format!("refresh_token={}", json.refresh())).await;
    renewed.is(200);
}

#[tokio::test]
async fn all_refused_logins_are_one_answer() {
    let rig = Rig::new();
    let login = async |login: &str, password: &str| {
        rig.post(LOGIN, json!({ "login": login, "password": password }), &[]).await
    };
    let first = login("calvin", "wrong").await;
    first.refuses(401, "invalid_grant");
    assert_eq!(first.header("www-authenticate"), "Bearer realm=\"default\"");
    for (name, password) in [
        ("nobody", "hobbes"),
        ("moe", "lunch money"),
        ("rosalyn", "no more dessert"),
        ("wormwood", "sit down"),
        ("andy", "tuna"),
        ("dad", "x"),
        ("a\0b", "x"),
        (" ", "x"),
        ("calvin", "hobbes "),
        ("\u{202e}", "x"),
    ] {
        assert_eq!(login(name, password).await, first, "{name}");
    }
    let long = "x".repeat(2_000);
    assert_eq!(login(&long, "x").await, first);
    assert_eq!(login("calvin", &long).await, first);
}

#[tokio::test]
async fn no_password_never_gives_a_token() {
    let rig = Rig::new();
    for body in [
        json!({}),
        json!({ "login": "calvin" }),
        json!({ "password": "hobbes" }),
        json!({ "login": "", "password": "hobbes" }),
        json!({ "login": "calvin", "password": "" }),
        json!({ "login": "calvin", "password": null }),
        json!({ "login": "calvin", "password": ["hobbes"] }),
        json!({ "login": "calvin", "password": { "password": "hobbes" } }),
        json!({ "login": "calvin", "password": 7 }),
        json!({ "login": "calvin", "password": true }),
        json!({ "login": ["calvin"], "password": "hobbes" }),
        json!({ "login": null, "password": "hobbes" }),
        json!({ "login": 1, "password": "hobbes" }),
        json!({ "username": "calvin", "password": "hobbes" }),
        json!({ "login": "calvin", "password": "hobbes", "scope": ["read"] }),
        json!({ "login": "calvin", "password": "hobbes", "remember": "yes" }),
        json!({ "login": "calvin", "password": "hobbes", "client_id": null }),
        json!([{ "login": "calvin", "password": "hobbes" }]),
        Value::Null,
    ] {
        rig.post(LOGIN, body, &[]).await.refuses(400, "invalid_request");
    }
    for body in [
        "",
        "login=calvin",
        "login=calvin&password=",
        "login=calvin&password",
        "login&password=hobbes",
        "%",
        "login=calvin&password=%zz",
    ] {
        rig.form(LOGIN, body).await.refuses(400, "invalid_request");
    }
}

#[tokio::test]
async fn what_is_said_twice_is_refused() {
    let rig = Rig::new();
    let twice = r#"{"login":"calvin","password":"hobbes","login":"susie"}"#;
    let headers = [("content-type", "application/json")];
    rig.send(request(Method::POST, LOGIN, &headers, twice)).await.refuses(400, "invalid_request");
    rig.form(LOGIN, "login=calvin&password=hobbes&password=hobbes").await.refuses(400, "invalid_request");
}

#[tokio::test]
async fn a_query_carries_no_credentials() {
    let rig = Rig::new();
    let query = "/api/security/login?login=calvin&password=hobbes";
    rig.form(query, "").await.refuses(400, "invalid_request");
    rig.form(query, "login=calvin&password=wrong").await.refuses(401, "invalid_grant");
    let refresh = rig.login().await.refresh();
    rig.form(&format!("{RENEW}?refresh_token={refresh}"), "").await.refuses(400, "invalid_request");
    rig.renew(&refresh).await.is(200);
    let access = rig.login().await.access();
    let path = format!("/api/security/sessions?access_token={access}&token={access}");
    rig.bare(Method::GET, &path, &[]).await.refuses(401, "unauthorized");
}

#[tokio::test]
async fn each_renewal_gives_the_next_token_of_the_same_session() {
    let rig = Rig::new();
    let mut last = rig.login().await;
    for _ in 0..3 {
        rig.pass(600);
        let next = rig.renew(&last.refresh()).await;
        next.is(200);
        assert_ne!(next.refresh(), last.refresh());
        assert_ne!(next.access(), last.access());
        assert_eq!(next.text("sid"), last.text("sid"));
        last = next;
    }
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_a_stolen_token_ends_the_session() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    let second = rig.renew(&first).await.refresh();
    rig.pass(5);
    assert_eq!(rig.renew(&first).await.refresh(), second);
    rig.pass(26);
    rig.heard.take();
    rig.renew(&first).await.refuses(400, "invalid_grant");
    assert!(rig.heard.take().contains(&"refresh_reuse_detected".to_owned()));
    rig.renew(&second).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_only_until_its_token_is_seen_in_use() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    let second = rig.renew(&first).await;
    let authorization = bearer(&second.access());
    rig.bare(Method::GET, "/api/security/sessions", &[("authorization", &authorization)]).await.is(200);
    rig.renew(&first).await.refuses(400, "invalid_grant");
    rig.renew(&second.refresh()).await.refuses(400, "invalid_grant");
    let first = rig.login().await.refresh();
    let second = rig.renew(&first).await.refresh();
    let third = rig.renew(&second).await.refresh();
    rig.renew(&first).await.refuses(400, "invalid_grant");
    rig.renew(&third).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_a_few_times_and_for_a_while() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    let second = rig.renew(&first).await.refresh();
    for _ in 0..10 {
        rig.pass(1);
        assert_eq!(rig.renew(&first).await.refresh(), second);
    }
    for _ in 0..3 {
        let answer = rig.renew(&first).await;
        answer.refuses(429, "slow_down");
        assert_eq!(answer.header("retry-after"), "20");
    }
    rig.renew(&second).await.is(200);
    let first = rig.login().await.refresh();
    rig.renew(&first).await.is(200);
    rig.pass(20);
    rig.renew(&first).await.is(200);
    rig.pass(20);
    rig.renew(&first).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_session_ends_unused_and_at_its_absolute_end() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    rig.pass(1_209_601);
    rig.heard.take();
    rig.renew(&first).await.refuses(400, "invalid_grant");
    assert_eq!(rig.heard.take(), Vec::<String>::new(), "no alarm");
    let mut last = rig.login().await;
    for day in 1..30 {
        rig.pass(86_400);
        last = rig.renew(&last.refresh()).await;
        let left = (30 - day) * 86_400;
        assert_eq!(last.json()["refresh_expires_in"], left.min(1_209_600));
        assert_eq!(last.json()["session_expires_in"], left);
    }
    rig.pass(86_400);
    rig.renew(&last.refresh()).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused_alike() {
    let rig = Rig::new();
    let good = rig.login().await;
    let refresh = good.refresh();
    let mut forged = refresh.clone().into_bytes();
    let last = forged.len() - 3;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let other = Rig::new().login().await.refresh();
    let first = rig.renew("x").await;
    first.refuses(400, "invalid_grant");
    for token in [
        &forged,
        &other,
        &refresh[..refresh.len() - 1],
        &refresh.to_ascii_uppercase(),
        &format!("{refresh}="),
        &format!(" {refresh}"),
        &good.access(),
        &"A".repeat(8_000),
        "gpr_",
        "\0",
        "\u{e9}",
    ] {
        assert_eq!(rig.renew(token).await, first, "{token}");
    }
    rig.post(RENEW, json!({}), &[]).await.refuses(400, "invalid_request");
    rig.renew("").await.refuses(400, "invalid_request");
    rig.post(RENEW, json!({ "refresh_token": [refresh.clone()] }), &[]).await.refuses(400, "invalid_request");
    rig.renew(&"A".repeat(1 << 20)).await.refuses(413, "invalid_request");
    rig.renew(&refresh).await.is(200);
}

#[tokio::test]
async fn a_refresh_token_opens_nothing_by_itself() {
    let rig = Rig::new();
    let refresh = rig.login().await.refresh();
    let answer =
        rig.bare(Method::GET, "/api/security/sessions", &[("authorization", &bearer(&refresh))]).await;
    answer.refuses(401, "invalid_token");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"default\", error=\"invalid_token\"");
}

#[tokio::test]
async fn scopes_can_be_narrowed_and_never_widened() {
    let rig = Rig::new();
    let login = async |scope: &str| {
        rig.post(LOGIN, json!({ "login": "calvin", "password": "hobbes", "scope": scope }), &[]).await
    };
    let renew = async |token: &str, scope: &str| {
        rig.post(RENEW, json!({ "refresh_token": token, "scope": scope }), &[]).await
    };
    for scope in ["admin", "read admin", "read\n", "\u{e9}", "\"", "\\", &"read ".repeat(300)] {
        login(scope).await.refuses(400, "invalid_scope");
    }
    assert_eq!(login("").await.text("scope"), "read write");
    let first = login("read").await;
    assert_eq!(first.text("scope"), "read");
    renew(&first.refresh(), "read write").await.refuses(400, "invalid_scope");
    let all = login("read write").await;
    let narrow = renew(&all.refresh(), "write").await;
    assert_eq!(narrow.text("scope"), "write");
    assert_eq!(rig.renew(&narrow.refresh()).await.text("scope"), "read write", "the grant stays as it was");
}

#[tokio::test]
async fn a_token_is_renewed_by_its_client_alone() {
    let rig = Rig::new();
    let body = json!({ "login": "calvin", "password": "hobbes", "client_id": "app-1" });
    let first = rig.post(LOGIN, body, &[]).await.refresh();
    let renew = async |client: Value| {
        rig.post(RENEW, json!({ "refresh_token": first, "client_id": client }), &[]).await
    };
    rig.heard.take();
    renew("app-2".into()).await.refuses(400, "invalid_grant");
    assert_eq!(rig.heard.take(), ["client_mismatch"]);
    rig.renew(&first).await.refuses(400, "invalid_grant");
    for impossible in ["caf\u{e9}", "a\nb", &"x".repeat(256)] {
        renew(impossible.into()).await.refuses(400, "invalid_request");
    }
    renew("app-1".into()).await.is(200);
}

#[tokio::test]
async fn a_disabled_account_renews_nothing() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    rig.store.set_state("calvin", auth_core::AccountState { disabled: true, ..Default::default() });
    rig.renew(&first).await.refuses(400, "invalid_grant");
    rig.store.set_state("calvin", auth_core::AccountState::default());
    rig.renew(&first).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn the_published_keys_may_be_kept_for_a_while_and_all_else_may_not() {
    let rig = Rig::new();
    for method in [Method::GET, Method::HEAD] {
        let answer = rig.bare(method.clone(), "/.well-known/jwks.json", &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.headers.contains_key("pragma"));
        if method == Method::GET {
            let key = &answer.json()["keys"][0];
            assert_eq!(key["kty"], "OKP");
            assert!(key["kid"].is_string() && key.get("d").is_none(), "{key}");
        } else {
            assert!(answer.body.is_empty());
        }
    }
    rig.bare(Method::POST, "/.well-known/jwks.json", &[]).await.refuses(405, "invalid_request");
}

#[tokio::test]
async fn each_route_says_which_methods_it_has() {
    let rig = Rig::new();
    let sid = format!("/api/security/sessions/{}", "0".repeat(32));
    for (path, methods) in [
        (LOGIN, "POST, OPTIONS"),
        (RENEW, "POST, OPTIONS"),
        ("/api/security/logout", "POST, OPTIONS"),
        ("/api/security/logout-all", "POST, OPTIONS"),
        ("/api/security/sessions", "GET, HEAD, OPTIONS"),
        (&sid, "DELETE, OPTIONS"),
        ("/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "SMUGGLE"] {
            let method: Method = method.parse().unwrap();
            let answer = rig.bare(method.clone(), path, &[]).await;
            if method == Method::OPTIONS {
                assert_eq!((answer.status, answer.header("allow")), (204, methods));
                assert!(
                    answer.body.is_empty() && !answer.headers.contains_key("access-control-allow-origin")
                );
            } else if methods.split(", ").any(|each| each == method.as_str()) {
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                assert_eq!((answer.status, answer.header("allow")), (405, methods), "{method} {path}");
                assert_eq!(answer.header("cache-control"), "no-store");
            }
        }
    }
}
