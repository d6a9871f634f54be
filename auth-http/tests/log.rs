//! What an operator reads of requests: the class of what came of them, and no secret.
//!
//! Alone in its binary: a thread without a subscriber that logs first makes tracing forget the line for all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of a test")]

#[path = "front/support.rs"]
#[allow(dead_code, reason = "this binary needs a part of it")]
mod support;

use std::io;
use std::sync::{Arc, Mutex};

use auth_core::ErrorKind;
use auth_testkit::{Mode, ScriptedStore, info};
use tracing_subscriber::fmt::MakeWriter;

use support::{Front, basic};

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
