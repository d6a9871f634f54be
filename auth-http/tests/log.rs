//! What an operator reads of requests: the class of what came of them, and no secret.
//!
//! Alone in its binary: a thread without a subscriber that logs first makes tracing forget the line for all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of a test")]

#[path = "front/support.rs"]
#[allow(dead_code, reason = "this binary needs a part of it")]
mod support;

use std::sync::Arc;

use auth_core::ErrorKind;
use auth_testkit::{Log, Mode, ScriptedStore, info};

use support::{Front, basic};

#[tokio::test]
async fn each_request_is_one_line_with_its_class_and_without_its_secrets() {
    let log = Log::begin();
    let front = Front::new();
    let check = |level: &str, class: &str| {
        let text = log.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(level) && text.contains(class), "{class}: {text}");
        for secret in ["hobbes", "aG9iYmVz", "Y2Fsdmlu", "calvin", "n0t-1t"] {
            assert!(!text.contains(secret), "{text}");
        }
    };
    front.as_calvin("/auth/nginx").await.is(200);
    check("DEBUG", "allowed");
    front.get("/auth/nginx", &[("authorization", &basic("calvin", "n0t-1t"))]).await.is(401);
    check("DEBUG", "bad_password");
    front.get("/auth/nginx", &[("authorization", "Basic Y2FsdmluaG9iYmVz")]).await.is(401);
    check("DEBUG", "malformed_credentials");
    front.as_calvin("/auth/nginx?group=ghosts").await.is(403);
    check("DEBUG", "not_member");
    front.get("/auth/nginx", &[("x_forwarded_host", "a")]).await.is(403);
    check("WARN", "underscore_twin");
    front.as_calvin("/auth/nginx?realm=elsewhere").await.is(500);
    check("WARN", "no such realm (realm elsewhere)");
    front.as_calvin("/auth/nginx?groups=admin").await.is(500);
    check("WARN", "key groups");
    let broken = Arc::new(ScriptedStore::in_mode(info("staff"), Mode::Fails(ErrorKind::Unavailable)));
    front.default_of(broken, Arc::clone(&front.store), Arc::clone(&front.store));
    front.as_calvin("/auth/forward").await.is(503);
    check("WARN", "source staff");
}
