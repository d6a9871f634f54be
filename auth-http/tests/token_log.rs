//! What an operator reads of requests for tokens: the class of what came of them, and no secret.
//!
//! Alone in its binary: a thread without a subscriber that logs first makes tracing forget the line for all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of a test")]

#[path = "tokens/rig.rs"]
#[allow(dead_code, reason = "this binary needs a part of it")]
mod rig;

use auth_core::ErrorKind;
use auth_testkit::Log;
use axum::http::Method;
use serde_json::json;

use rig::{Fault, Plan, Rig, bearer};

#[tokio::test]
async fn each_request_is_one_line_with_its_class_and_without_its_secrets() {
    let log = Log::begin();
    let rig = Rig::new();
    let one = rig.login().await;
    let (access, refresh) = (one.access(), one.refresh());
    let check = |level: &str, class: &str| {
        let text = log.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(level) && text.contains(class), "{class}: {text}");
        let signature = access.rsplit('.').next().unwrap();
        for secret in ["calvin", "hobbes", "n0t-1t", "gpr_", "eyJ", signature, &refresh[10..30]] {
            assert!(!text.contains(secret), "{text}");
        }
    };
    check("DEBUG", "granted");
    let wrong = json!({ "login": "calvin", "password": "n0t-1t" });
    rig.post("/api/security/login", wrong, &[]).await.is(401);
    check("DEBUG", "bad_password");
    rig.form("/api/security/login", "login=calvin&password=n0t-1t&password=n0t-1t").await.is(400);
    check("DEBUG", "invalid_request");
    rig.renew(&refresh[..40]).await.is(400);
    check("DEBUG", "malformed");
    let authorization = bearer(&access[..access.len() - 1]);
    rig.bare(Method::GET, "/api/security/sessions", &[("authorization", &authorization)]).await.is(401);
    check("DEBUG", "refused");
    rig.bare(Method::GET, "/api/security/sessions", &[("authorization", &bearer(&access))]).await.is(200);
    check("DEBUG", "granted");
    rig.families.set(Fault::Fails(ErrorKind::Unavailable));
    rig.renew(&refresh).await.is(503);
    check("WARN", "cut the store off");
    let cookies = Rig::of(Plan::with_cookies());
    rig.families.set(Fault::None);
    rig.post("/api/security/logout", json!({ "refresh_token": refresh }), &[]).await.is(200);
    check("DEBUG", "granted");
    let cookie = format!("__Host-rt={refresh}");
    cookies.bare(Method::POST, "/api/security/renew", &[("cookie", &cookie)]).await.is(403);
    check("DEBUG", "no_csrf_defence");
}
