//! Refresh tokens in a cookie, and what keeps other sites from using it.

use axum::http::Method;
use serde_json::{Value, json};

use super::rig::{Answer, Plan, Rig, bearer};

const HERE: [(&str, &str); 2] = [("host", "app.example.com"), ("sec-fetch-site", "same-origin")];
const LOGIN: &str = "/api/security/login";
const RENEW: &str = "/api/security/renew";
const LOGOUT: &str = "/api/security/logout";

fn rig() -> Rig {
    Rig::of(Plan::with_cookies())
}

async fn login(rig: &Rig) -> Answer {
    let answer = rig.post(LOGIN, json!({ "login": "calvin", "password": "hobbes" }), &HERE).await;
    answer.is(200);
    answer
}

/// The token in the cookie that an answer sets.
#[track_caller]
fn kept(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    cookie.split(';').next().unwrap().strip_prefix("__Host-rt=").unwrap().to_owned()
}

async fn post(rig: &Rig, path: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
    let cookie = format!("theme=dark; __Host-rt={token}");
    let mut all = vec![("cookie", &*cookie)];
    all.extend_from_slice(headers);
    rig.bare(Method::POST, path, &all).await
}

#[tokio::test]
async fn the_refresh_token_is_in_a_cookie_that_no_script_and_no_other_host_can_read() {
    let rig = rig();
    let answer = login(&rig).await;
    let cookie = answer.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-rt=gpr_"));
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=1209600");
    assert!(!answer.has("refresh_token") && !String::from_utf8_lossy(&answer.body).contains("gpr_"));
    assert_eq!(answer.json()["refresh_expires_in"], 1_209_600);
    let next = post(&rig, RENEW, &kept(&answer), &HERE).await;
    next.is(200);
    assert_ne!(kept(&next), kept(&answer));
    assert!(!next.has("refresh_token") && next.has("access_token"));
}

#[tokio::test]
async fn a_cookie_lives_no_longer_than_its_session() {
    let rig = rig();
    let mut last = login(&rig).await;
    for _ in 0..2 {
        rig.pass(10 * 86_400);
        last = post(&rig, RENEW, &kept(&last), &HERE).await;
    }
    assert!(last.header("set-cookie").ends_with("; Max-Age=864000"), "{last:?}");
}

#[tokio::test]
async fn what_another_site_makes_a_browser_send_is_refused_and_consumes_nothing() {
    let rig = rig();
    let token = kept(&login(&rig).await);
    let foreign: [&[(&str, &str)]; 8] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("x-requested-with", "x")],
        &[("origin", "https://app.example.com")],
        &[("origin", "https://evil.example"), ("x-requested-with", "x")],
        &[("origin", "null"), ("x-requested-with", "x")],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
    ];
    for headers in foreign {
        let headers = [&[("host", "app.example.com")], headers].concat();
        for path in [RENEW, LOGOUT, "/api/security/logout-all"] {
            post(&rig, path, &token, &headers).await.refuses(403, "access_denied");
        }
        let body = json!({ "login": "calvin", "password": "hobbes" });
        rig.post(LOGIN, body, &headers).await.refuses(403, "access_denied");
    }
    let next = post(&rig, RENEW, &token, &[("host", "app.example.com"), ("x-requested-with", "fetch")]).await;
    next.is(200);
    assert_eq!(rig.heard.take(), ["login", "renew"], "only the login and this");
}

#[tokio::test]
async fn who_loses_a_race_does_not_touch_the_cookie_of_who_wins() {
    let rig = Rig::of(Plan { grace: 0, ..Plan::with_cookies() });
    let token = kept(&login(&rig).await);
    post(&rig, RENEW, &token, &HERE).await.is(200);
    post(&rig, RENEW, &token, &HERE).await.refuses(400, "invalid_grant");
    for garbage in ["garbage", "gpr_", "\u{e9}"] {
        post(&rig, RENEW, garbage, &HERE).await.refuses(400, "invalid_grant");
    }
}

#[tokio::test]
async fn an_outage_does_not_touch_the_cookie() {
    let rig = rig();
    let token = kept(&login(&rig).await);
    rig.people.set(true);
    for path in [RENEW, LOGIN] {
        let headers = [&HERE[..], &[("content-type", "application/json")]].concat();
        let body: &[u8] = if path == LOGIN { br#"{"login":"calvin","password":"hobbes"}"# } else { b"" };
        let cookie = format!("__Host-rt={token}");
        let all = [&headers[..], &[("cookie", &*cookie)]].concat();
        rig.send(super::rig::request(Method::POST, path, &all, body))
            .await
            .refuses(503, "temporarily_unavailable");
    }
    rig.people.set(false);
    post(&rig, RENEW, &token, &HERE).await.is(200);
}

#[tokio::test]
async fn a_logout_takes_the_cookie_back_with_its_own_attributes() {
    let rig = rig();
    let clears = "__Host-rt=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0";
    let token = kept(&login(&rig).await);
    for _ in 0..2 {
        let answer = post(&rig, LOGOUT, &token, &HERE).await;
        answer.is(200);
        assert_eq!(answer.header("set-cookie"), clears);
    }
    post(&rig, RENEW, &token, &HERE).await.refuses(400, "invalid_grant");
    let without = rig.bare(Method::POST, LOGOUT, &HERE).await;
    without.is(200);
    assert_eq!(without.header("set-cookie"), clears);
    let token = kept(&login(&rig).await);
    let all = post(&rig, "/api/security/logout-all", &token, &HERE).await;
    assert_eq!(all.json(), json!({ "status": "success", "ended": 1 }));
    assert_eq!(all.header("set-cookie"), clears);
}

#[tokio::test]
async fn the_cookie_goes_with_the_own_session_alone() {
    let rig = rig();
    let (one, two) = (login(&rig).await, login(&rig).await);
    let end = async |sid: &str| {
        let path = format!("/api/security/sessions/{sid}");
        rig.bare(Method::DELETE, &path, &[("authorization", &bearer(&one.access()))]).await
    };
    let other = end(&two.text("sid")).await;
    other.is(200);
    assert!(!other.headers.contains_key("set-cookie"));
    assert!(end(&one.text("sid")).await.header("set-cookie").ends_with("Max-Age=0"));
}

#[tokio::test]
async fn the_token_is_taken_from_one_cookie_and_from_nothing_else() {
    let rig = rig();
    let token = kept(&login(&rig).await);
    let twice = format!("__Host-rt={token}; __Host-rt={token}");
    let all = [&HERE[..], &[("cookie", &*twice)]].concat();
    rig.bare(Method::POST, RENEW, &all).await.refuses(400, "invalid_request");
    let one = format!("__Host-rt={token}");
    let lines = [&HERE[..], &[("cookie", &*one), ("cookie", &*one)]].concat();
    rig.bare(Method::POST, RENEW, &lines).await.refuses(400, "invalid_request");
    rig.post(RENEW, json!({ "refresh_token": token }), &HERE).await.refuses(400, "invalid_request");
    let both = [&HERE[..], &[("cookie", &*one)]].concat();
    for path in [RENEW, LOGOUT] {
        rig.post(path, json!({ "refresh_token": token }), &both).await.refuses(400, "invalid_request");
    }
    rig.bare(Method::POST, RENEW, &HERE).await.refuses(400, "invalid_request");
    let unlike = format!("rt={token}; __host-rt={token}; __Secure-rt={token}");
    let all = [&HERE[..], &[("cookie", &*unlike)]].concat();
    rig.bare(Method::POST, RENEW, &all).await.refuses(400, "invalid_request");
    post(&rig, RENEW, &token, &HERE).await.is(200);
}

#[tokio::test]
async fn a_cookie_is_no_access_token_and_without_cookie_mode_it_is_nothing() {
    let with = rig();
    let token = kept(&login(&with).await);
    let cookie = format!("__Host-rt={token}");
    let answer = with.bare(Method::GET, "/api/security/sessions", &[("cookie", &cookie)]).await;
    answer.refuses(401, "unauthorized");
    let without = Rig::new();
    let token = without.login().await.refresh();
    let cookie = format!("__Host-rt={token}");
    let all = [&HERE[..], &[("cookie", &*cookie)]].concat();
    without.bare(Method::POST, RENEW, &all).await.refuses(400, "invalid_request");
    let body: Value = json!({ "refresh_token": token });
    without.post(RENEW, body, &[("sec-fetch-site", "cross-site")]).await.is(200);
}
