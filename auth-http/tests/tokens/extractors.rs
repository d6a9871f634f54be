//! What applications take tokens with.

use std::sync::Arc;

use auth_core::Clock;
use auth_http::{
    Authenticated, BearerRejection, Claims, FrontConfig, OneService, ScopeDemand, Scoped, require_scopes,
    token_layer,
};
use auth_testkit::ManualClock;
use axum::Router;
use axum::http::Method;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::rig::{Answer, Fault, Rig, bearer, request, send};

struct Writing;
impl ScopeDemand for Writing {
    const SCOPES: &'static [&'static str] = &["read", "write"];
}

#[derive(Deserialize)]
struct Mine {
    sub: String,
    scope: String,
}

#[derive(Deserialize)]
struct Others {
    #[expect(dead_code, reason = "no token says it")]
    team: String,
}

async fn who(who: Authenticated) -> String {
    let session = who.session().unwrap();
    let scopes: Vec<_> = who.scopes().iter().collect();
    assert!(who.has_scope("read") && !who.has_scope("admin"));
    assert_eq!(who.state().principal, *who.principal());
    format!("{} {} {session}", who.principal().shown(), scopes.join("+"))
}

async fn perhaps(who: Option<Authenticated>) -> String {
    who.map_or_else(|| "nobody".to_owned(), |who| who.principal().shown().to_owned())
}

async fn caught(who: Result<Authenticated, BearerRejection>) -> String {
    who.map_or_else(|no| format!("{} {} {no}", no.status().as_u16(), no.reason()), |_| "yes".to_owned())
}

fn app(rig: &Rig) -> Router {
    let services = Arc::new(OneService::new(Arc::clone(&rig.service)));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&rig.clock);
    let guarded = Router::new()
        .route("/guarded", get(|| async { "in" }))
        .route(
            "/both",
            get(|who: Scoped<Writing>, Claims(mine): Claims<Mine>| async move {
                assert_eq!(who.into_inner().principal().shown(), mine.sub);
                mine.scope
            }),
        )
        .route_layer(require_scopes(["read", "write"]));
    Router::new()
        .route("/who", get(who))
        .route("/perhaps", get(perhaps))
        .route("/caught", get(caught))
        .route("/writing", get(|who: Scoped<Writing>| async move { who.principal().shown().to_owned() }))
        .route(
            "/perhaps-writing",
            get(|who: Option<Scoped<Writing>>| async move { format!("{}", who.is_some()) }),
        )
        .route(
            "/claims",
            get(|Claims(mine): Claims<Mine>| async move { format!("{} {}", mine.sub, mine.scope) }),
        )
        .route("/others", get(|_: Claims<Others>| async { "never" }))
        .route(
            "/perhaps-claims",
            get(|mine: Option<Claims<Mine>>| async move { format!("{}", mine.is_some()) }),
        )
        .merge(guarded)
        .layer(token_layer(services, FrontConfig::new("default"), clock))
        .route("/unlayered", get(who))
}

async fn ask(app: &Router, path: &str, token: Option<&str>) -> Answer {
    let value = token.map(bearer);
    let headers: Vec<_> = value.iter().map(|value| ("authorization", value.as_str())).collect();
    send(app, request(Method::GET, path, &headers, "")).await
}

#[track_caller]
fn says(answer: &Answer, text: &str) {
    assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (200, text), "{answer:?}");
}

#[tokio::test]
async fn a_handler_learns_who_shows_a_token_and_what_it_says() {
    let rig = Rig::new();
    let app = app(&rig);
    let login = rig.login().await;
    let token = login.access();
    says(&ask(&app, "/who", Some(&token)).await, &format!("calvin read+write {}", login.text("sid")));
    says(&ask(&app, "/perhaps", Some(&token)).await, "calvin");
    says(&ask(&app, "/claims", Some(&token)).await, "calvin read write");
    says(&ask(&app, "/writing", Some(&token)).await, "calvin");
    says(&ask(&app, "/both", Some(&token)).await, "read write");
    says(&ask(&app, "/guarded", Some(&token)).await, "in");
    says(&ask(&app, "/caught", Some(&token)).await, "yes");
}

#[tokio::test]
async fn who_shows_no_token_is_asked_for_one_or_let_pass() {
    let rig = Rig::new();
    let app = app(&rig);
    for path in ["/who", "/writing", "/claims", "/both", "/guarded", "/others"] {
        let answer = ask(&app, path, None).await;
        answer.refuses(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"default\"");
    }
    says(&ask(&app, "/perhaps", None).await, "nobody");
    says(&ask(&app, "/perhaps-writing", None).await, "false");
    says(&ask(&app, "/perhaps-claims", None).await, "false");
    says(&ask(&app, "/caught", None).await, "401 no_token an access token is needed");
    let basic = send(&app, request(Method::GET, "/perhaps", &[("authorization", "Basic eDp5")], "")).await;
    says(&basic, "nobody");
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_also_where_none_is_needed() {
    let rig = Rig::new();
    let app = app(&rig);
    let login = rig.login().await;
    for bad in ["garbage", "a.b.c", &login.refresh()] {
        for path in
            ["/who", "/perhaps", "/writing", "/perhaps-writing", "/claims", "/perhaps-claims", "/guarded"]
        {
            let answer = ask(&app, path, Some(bad)).await;
            answer.refuses(401, "invalid_token");
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer realm=\"default\", error=\"invalid_token\""
            );
        }
    }
    for header in ["Bearer", "Bearer a b", "Bearer \"a\""] {
        let answer = send(&app, request(Method::GET, "/perhaps", &[("authorization", header)], "")).await;
        answer.refuses(400, "invalid_request");
    }
    says(
        &ask(&app, "/who", Some(&login.access())).await,
        &format!("calvin read+write {}", login.text("sid")),
    );
    rig.pass(631);
    ask(&app, "/who", Some(&login.access())).await.refuses(401, "invalid_token");
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let rig = Rig::new();
    let app = app(&rig);
    let body = json!({ "login": "calvin", "password": "hobbes", "scope": "read" });
    let token = rig.post("/api/security/login", body, &[]).await.access();
    for path in ["/writing", "/perhaps-writing", "/guarded", "/both"] {
        for _ in 0..2 {
            let answer = ask(&app, path, Some(&token)).await;
            answer.refuses(403, "insufficient_scope");
            let challenge = "Bearer realm=\"default\", error=\"insufficient_scope\", scope=\"read write\"";
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
    }
    says(&ask(&app, "/perhaps", Some(&token)).await, "calvin");
}

#[tokio::test]
async fn claims_of_another_type_are_an_invalid_token() {
    let rig = Rig::new();
    let app = app(&rig);
    let token = rig.login().await.access();
    let answer = ask(&app, "/others", Some(&token)).await;
    answer.refuses(401, "invalid_token");
}

#[tokio::test]
async fn a_token_that_was_seen_is_answered_from_memory() {
    let rig = Rig::new();
    let app = app(&rig);
    let token = rig.login().await.access();
    says(&ask(&app, "/perhaps", Some(&token)).await, "calvin");
    assert_eq!(rig.cache.hits(), 0);
    rig.families.set(Fault::Fails(auth_core::ErrorKind::Unavailable));
    rig.people.set(true);
    for path in ["/perhaps", "/guarded", "/both"] {
        assert_eq!(ask(&app, path, Some(&token)).await.status, 200);
    }
    assert!(rig.cache.hits() >= 3);
}

#[tokio::test]
async fn a_request_is_checked_once_however_many_ask() {
    let rig = Rig::new();
    rig.cache.forget();
    let app = app(&rig);
    let token = rig.login().await.access();
    let before = rig.families.asked("is_revoked");
    for asked in 1..3 {
        says(&ask(&app, "/both", Some(&token)).await, "read write");
        assert_eq!((rig.families.asked("is_revoked"), rig.cache.hits()), (before + asked, 0));
    }
}

#[tokio::test]
async fn an_outage_is_no_refusal() {
    let rig = Rig::new();
    let app = app(&rig);
    let token = rig.login().await.access();
    rig.families.set(Fault::Fails(auth_core::ErrorKind::Unavailable));
    for path in ["/who", "/perhaps", "/guarded", "/perhaps-claims"] {
        ask(&app, path, Some(&token)).await.refuses(503, "temporarily_unavailable");
    }
    ask(&app, "/unlayered", Some(&token)).await.refuses(500, "server_error");
}

#[tokio::test]
async fn what_one_realm_has_checked_is_not_believed_in_another() {
    let (outer, inner) = (Rig::new(), Rig::new());
    let layer = |rig: &Rig| {
        let services = Arc::new(OneService::new(Arc::clone(&rig.service)));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&rig.clock);
        token_layer(services, FrontConfig::new("default"), clock)
    };
    let app = Router::new()
        .route("/who", get(who))
        .layer(layer(&inner))
        .layer(require_scopes(["read"]))
        .layer(layer(&outer));
    let token = outer.login().await.access();
    for _ in 0..2 {
        ask(&app, "/who", Some(&token)).await.refuses(401, "invalid_token");
    }
}

#[tokio::test]
async fn what_was_checked_is_not_believed_of_another_token() {
    let rig = Rig::new();
    let forge = |mut request: axum::extract::Request| async {
        request.headers_mut().insert("authorization", "Bearer garbage".parse().unwrap());
        request
    };
    let services = Arc::new(OneService::new(Arc::clone(&rig.service)));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&rig.clock);
    let app = Router::new()
        .route("/who", get(who))
        .layer(axum::middleware::map_request(forge))
        .layer(require_scopes(["read"]))
        .layer(token_layer(services, FrontConfig::new("default"), clock));
    ask(&app, "/who", Some(&rig.login().await.access())).await.refuses(401, "invalid_token");
}
