//! What an operator reads of requests for tokens: the class of what came of them, and no secret.
//!
//! Alone in its binary: a thread without a subscriber that logs first makes tracing forget the line for all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of a test")]

#[path = "tokens/rig.rs"]
#[allow(dead_code, reason = "this binary needs a part of it")]
mod rig;

use std::io;
use std::sync::{Arc, Mutex};

use auth_core::ErrorKind;
use axum::http::Method;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use rig::{Fault, Plan, Rig, bearer};

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_request_is_one_line_with_its_class_and_without_its_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

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
    check("WARN", "no sessions");
    let cookies = Rig::of(Plan::with_cookies());
    rig.families.set(Fault::None);
    rig.post("/api/security/logout", json!({ "refresh_token": refresh }), &[]).await.is(200);
    check("DEBUG", "granted");
    let cookie = format!("__Host-rt={refresh}");
    cookies.bare(Method::POST, "/api/security/renew", &[("cookie", &cookie)]).await.is(403);
    check("DEBUG", "no_csrf_defence");
}
