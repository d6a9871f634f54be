//! Tokens where a web server asks whether a request may pass.

use std::sync::Arc;

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rig::{Answer, Fault, Rig, bearer, request, send};

const BOTH: [&str; 2] = ["/auth/nginx", "/auth/forward"];

async fn ask(rig: &Arc<Rig>, path: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    send(&rig.forward(), request(Method::GET, path, &headers, "")).await
}

fn challenges(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect()
}

const BASIC: &str = "Basic realm=\"default\", charset=\"UTF-8\"";

#[tokio::test]
async fn a_token_passes_with_the_same_headers_as_a_password() {
    let rig = Arc::new(Rig::new());
    let token = bearer(&rig.login().await.access());
    let basic = format!("Basic {}", STANDARD.encode("calvin:hobbes"));
    for path in BOTH {
        let by_token = ask(&rig, path, Some(&token)).await;
        assert_eq!(by_token.status, 200, "{by_token:?}");
        assert_eq!(by_token.header("remote-user"), "calvin");
        assert_eq!(by_token.header("remote-groups"), "admin,staff");
        assert_eq!(by_token, ask(&rig, path, Some(&basic)).await);
        assert_eq!(ask(&rig, &format!("{path}?group=admin"), Some(&token)).await.status, 200);
        assert_eq!(ask(&rig, &format!("{path}?group=ghosts"), Some(&token)).await.status, 403);
    }
    assert!(rig.cache.hits() > 0, "asked of memory first");
}

#[tokio::test]
async fn whoever_may_not_pass_is_told_of_both_ways() {
    let rig = Arc::new(Rig::new());
    let refresh = bearer(&rig.login().await.refresh());
    let wrong = format!("Basic {}", STANDARD.encode("calvin:x"));
    for path in BOTH {
        for nothing in [None, Some("Digest x"), Some("Basic !"), Some(&*wrong)] {
            let answer = ask(&rig, path, nothing).await;
            assert_eq!(answer.status, 401);
            assert_eq!(challenges(&answer), [BASIC, "Bearer realm=\"default\""], "{nothing:?}");
        }
        for bad in ["Bearer garbage", &*refresh] {
            let answer = ask(&rig, path, Some(bad)).await;
            assert_eq!(answer.status, 401);
            assert_eq!(challenges(&answer), [BASIC, "Bearer realm=\"default\", error=\"invalid_token\""]);
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("remote-")));
        }
        let answer = ask(&rig, path, Some("Bearer a b")).await;
        assert_eq!(answer.status, 401, "nginx understands no 400");
        assert_eq!(challenges(&answer), [BASIC, "Bearer realm=\"default\", error=\"invalid_request\""]);
    }
}

#[tokio::test]
async fn an_outage_is_no_refusal_of_a_token() {
    let rig = Arc::new(Rig::new());
    let token = bearer(&rig.login().await.access());
    rig.families.set(Fault::Fails(auth_core::ErrorKind::Unavailable));
    assert_eq!(ask(&rig, "/auth/nginx", Some(&token)).await.status, 500);
    assert_eq!(ask(&rig, "/auth/forward", Some(&token)).await.status, 503);
}
