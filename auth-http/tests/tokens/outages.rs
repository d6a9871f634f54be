//! What clients hear when nobody can find out.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{Ctx, Error, ErrorKind, Result};
use auth_token::{Profile, Throttle};
use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::StreamExt as _;
use serde_json::json;

use super::rig::{Fault, Plan, Rig, bearer, request};

#[tokio::test]
async fn an_outage_of_people_consumes_nothing() {
    let rig = Rig::new();
    let first = rig.login().await.refresh();
    rig.people.set(true);
    let answer = rig.renew(&first).await;
    answer.refuses(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), "3");
    let login = json!({ "login": "calvin", "password": "hobbes" });
    rig.post("/api/security/login", login, &[]).await.refuses(503, "temporarily_unavailable");
    rig.people.set(false);
    rig.pass(3_600);
    rig.renew(&first).await.is(200);
    assert_eq!(rig.heard.take(), ["login", "renew"]);
}

#[tokio::test]
async fn an_outage_of_sessions_is_no_refusal() {
    let rig = Rig::new();
    let one = rig.login().await;
    let access = bearer(&one.access());
    rig.families.set(Fault::FailsTo("renew"));
    rig.renew(&one.refresh()).await.refuses(503, "temporarily_unavailable");
    rig.families.set(Fault::Fails(ErrorKind::Unavailable));
    let login = json!({ "login": "calvin", "password": "hobbes" });
    rig.post("/api/security/login", login, &[]).await.refuses(503, "temporarily_unavailable");
    for path in ["/api/security/logout", "/api/security/logout-all"] {
        rig.bare(Method::POST, path, &[("authorization", &access)])
            .await
            .refuses(503, "temporarily_unavailable");
    }
    let list = rig.bare(Method::GET, "/api/security/sessions", &[("authorization", &access)]).await;
    list.refuses(503, "temporarily_unavailable");
    rig.families.set(Fault::None);
    rig.renew(&one.refresh()).await.is(200);
}

#[tokio::test]
async fn each_kind_of_failure_has_its_answer() {
    let rig = Rig::new();
    let refresh = rig.login().await.refresh();
    for (kind, status, error) in [
        (ErrorKind::Unavailable, 503, "temporarily_unavailable"),
        (ErrorKind::Timeout, 503, "temporarily_unavailable"),
        (ErrorKind::Overloaded, 503, "temporarily_unavailable"),
        (ErrorKind::Throttled, 429, "slow_down"),
        (ErrorKind::Invalid, 400, "invalid_request"),
        (ErrorKind::Internal, 500, "server_error"),
        (ErrorKind::Corrupt, 500, "server_error"),
        (ErrorKind::Misconfigured, 500, "server_error"),
    ] {
        rig.families.set(Fault::Fails(kind));
        let login = json!({ "login": "calvin", "password": "hobbes" });
        let answer = rig.post("/api/security/login", login, &[]).await;
        answer.refuses(status, error);
        assert!(!String::from_utf8_lossy(&answer.body).contains("cut the store off"), "{answer:?}");
    }
    rig.families.set(Fault::None);
    rig.renew(&refresh).await.is(200);
}

/// Waits for what needs no more than the clock as it stands; fails instead of hanging.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    for _ in 0..10_000 {
        if let Poll::Ready(value) = futures_util::poll!(&mut future) {
            return value;
        }
        tokio::task::yield_now().await;
    }
    panic!("this waits for something that does not come");
}

/// Waits until the request has set its timer, the only one there is; fails instead of hanging.
async fn until_it_sleeps(rig: &Rig) {
    for _ in 0..1_000 {
        if rig.clock.sleepers() > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nothing limits the request");
}

#[tokio::test]
async fn a_store_that_never_answers_ends_at_the_limit() {
    let rig = Arc::new(Rig::new());
    let first = rig.login().await.refresh();
    rig.families.set(Fault::Hangs);
    let waiting = rig.renew(&first);
    let passing = async {
        until_it_sleeps(&rig).await;
        rig.pass(10);
    };
    let (answer, ()) = soon(futures_util::future::join(waiting, passing)).await;
    answer.refuses(503, "temporarily_unavailable");
    rig.families.set(Fault::None);
    rig.renew(&first).await.is(200);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_at_the_limit() {
    let rig = Arc::new(Rig::new());
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"login\":"))]);
    let body = Body::from_stream(first.chain(futures_util::stream::pending()));
    let headers = [("content-type", "application/json")];
    let waiting = rig.send(request(Method::POST, "/api/security/login", &headers, body));
    let passing = async {
        until_it_sleeps(&rig).await;
        rig.pass(10);
    };
    let (answer, ()) = soon(futures_util::future::join(waiting, passing)).await;
    answer.refuses(408, "invalid_request");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_understood() {
    let rig = Rig::new();
    let parts = [Ok(Bytes::from_static(b"login=calvin&password=hobbes")), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures_util::stream::iter(parts));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = rig.send(request(Method::POST, "/api/security/login", &headers, body)).await;
    answer.refuses(400, "invalid_request");
}

/// Makes everybody wait.
#[derive(Debug)]
struct Strict;

#[async_trait]
impl Throttle for Strict {
    async fn wrong(&self, ctx: &Ctx, _shown: &[u8]) -> Result<()> {
        assert_eq!(ctx.client().unwrap().to_string(), "192.0.2.7");
        Err(Error::new(ErrorKind::Throttled, "too many").retry_after(Duration::from_secs(7)))
    }
}

#[tokio::test]
async fn guessers_are_told_when_to_come_back() {
    for profile in [Profile::Native, Profile::Twopi] {
        let rig = Rig::of(Plan { throttle: Arc::new(Strict), ..Plan::new(profile) });
        let name = if profile == Profile::Twopi { "refreshToken" } else { "refresh_token" };
        let answer = rig.post("/api/security/renew", json!({ name: "gpr_guess" }), &[]).await;
        answer.is(429);
        assert_eq!(answer.header("retry-after"), "7");
    }
}
