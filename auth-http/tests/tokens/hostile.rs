//! Requests that no honest client sends.

use std::sync::{Arc, LazyLock};

use auth_core::Clock;
use auth_http::{FrontConfig, TokenRoutes, TokenServices, token_router};
use auth_testkit::ManualClock;
use auth_token::{Profile, TokenService};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request};
use proptest::prelude::*;
use serde_json::json;

use super::rig::{Plan, Rig, bearer, request, send};

const LOGIN: &str = "/api/security/login";
const GOOD: &str = r#"{"login":"calvin","password":"hobbes"}"#;

#[tokio::test]
async fn a_body_of_another_kind_is_not_read() {
    let rig = Rig::new();
    for kind in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/xml",
        "text/json",
        "\u{e9}",
        "",
    ] {
        let answer = rig.send(request(Method::POST, LOGIN, &[("content-type", kind)], GOOD)).await;
        answer.refuses(415, "invalid_request");
    }
    rig.send(request(Method::POST, LOGIN, &[], GOOD)).await.refuses(415, "invalid_request");
    let twice = [("content-type", "application/json"), ("content-type", "application/json")];
    rig.send(request(Method::POST, LOGIN, &twice, GOOD)).await.refuses(415, "invalid_request");
    let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    rig.send(request(Method::POST, LOGIN, &packed, GOOD)).await.refuses(415, "invalid_request");
    let parameters = [("content-type", "Application/JSON;charset=UTF-8;x=y")];
    rig.send(request(Method::POST, LOGIN, &parameters, GOOD)).await.is(200);
}

#[tokio::test]
async fn a_body_is_bounded_whatever_it_says_of_its_length() {
    let rig = Rig::new();
    let padded = |len: usize| format!("{GOOD}{}", " ".repeat(len - GOOD.len()));
    let json = [("content-type", "application/json")];
    rig.send(request(Method::POST, LOGIN, &json, padded(16 * 1024))).await.is(200);
    rig.send(request(Method::POST, LOGIN, &json, padded(16 * 1024 + 1)))
        .await
        .refuses(413, "invalid_request");
    let said = [("content-type", "application/json"), ("content-length", "999999999999")];
    rig.send(request(Method::POST, LOGIN, &said, GOOD)).await.refuses(413, "invalid_request");
    let deep = format!(r#"{{"a":{}"#, "[".repeat(16_000));
    rig.send(request(Method::POST, LOGIN, &json, deep)).await.refuses(400, "invalid_request");
    let wide: String = (0..1_500).map(|n| format!("\"{n}\":1,")).collect();
    rig.send(request(Method::POST, LOGIN, &json, format!("{{{wide}{}", &GOOD[1..]))).await.is(200);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_but_as_a_password() {
    let rig = Rig::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let raw = |body: &'static [u8]| request(Method::POST, LOGIN, &form, body);
    rig.send(raw(b"login=\xff&password=hobbes")).await.refuses(400, "invalid_request");
    rig.send(raw(b"login=%ff&password=hobbes")).await.refuses(400, "invalid_request");
    rig.send(raw(b"login=calvin&password=%ff%00")).await.refuses(401, "invalid_grant");
    rig.send(raw(b"login=calvin&password=hobbes&%ff=1")).await.refuses(400, "invalid_request");
    let json = [("content-type", "application/json")];
    let bytes: &[u8] = b"{\"login\":\"calvin\",\"password\":\"\xff\"}";
    rig.send(request(Method::POST, LOGIN, &json, bytes)).await.refuses(400, "invalid_request");
}

#[tokio::test]
async fn many_cookies_and_long_headers_are_borne() {
    let rig = Rig::of(Plan::with_cookies());
    let here =
        [("host", "a.example"), ("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
    let answer = rig.send(request(Method::POST, LOGIN, &here, GOOD)).await;
    let token = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let many: String = (0..2_000).map(|n| format!("c{n}={n}; ")).collect();
    let cookie = format!("{many}{token}");
    let agent = "x".repeat(60_000);
    let all = [&here[..], &[("cookie", &*cookie), ("user-agent", &*agent)]].concat();
    rig.bare(Method::POST, "/api/security/renew", &all).await.is(200);
    let long = format!("__Host-rt={}", "A".repeat(60_000));
    let all = [&here[..], &[("cookie", &*long)]].concat();
    rig.bare(Method::POST, "/api/security/renew", &all).await.refuses(400, "invalid_grant");
}

#[tokio::test]
async fn a_host_that_is_named_twice_is_refused() {
    let rig = Rig::new();
    for headers in [
        [("host", "a.example"), ("host", "a.example")],
        [("x-forwarded-host", "a.example"), ("x-forwarded-host", "b.example")],
        [("host", "a.example"), ("x_forwarded_host", "b.example")],
    ] {
        rig.bare(Method::GET, "/.well-known/jwks.json", &headers).await.refuses(400, "invalid_request");
        rig.post(LOGIN, json!({}), &headers).await.refuses(400, "invalid_request");
    }
}

/// Two realms by their hosts.
#[derive(Debug)]
struct Two(Arc<TokenService>, Arc<TokenService>);

impl TokenServices for Two {
    fn service(&self, realm: &str) -> Option<Arc<TokenService>> {
        match realm {
            "default" => Some(Arc::clone(&self.0)),
            "wiki" => Some(Arc::clone(&self.1)),
            _ => None,
        }
    }
}

#[tokio::test]
async fn the_host_chooses_the_realm_and_a_token_of_one_is_nothing_in_another() {
    let (one, two) = (Rig::new(), Rig::of(Plan { realm: "wiki", ..Plan::new(Profile::Native) }));
    let front = FrontConfig::new("default").with_host("wiki.example", "wiki").unwrap();
    let front = front.with_host("none.example", "none").unwrap();
    let services = Arc::new(Two(Arc::clone(&one.service), Arc::clone(&two.service)));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&one.clock);
    let app = token_router(services, TokenRoutes::new(front), clock);
    let json = |host: &'static str| [("content-type", "application/json"), ("host", host)];
    let token = send(&app, request(Method::POST, LOGIN, &json("wiki.example"), GOOD)).await;
    token.is(200);
    let renew = |host: &'static str| {
        let body = json!({ "refresh_token": token.refresh() }).to_string();
        request(Method::POST, "/api/security/renew", &json(host), body)
    };
    send(&app, renew("other.example")).await.refuses(400, "invalid_grant");
    send(&app, renew("none.example")).await.refuses(404, "not_found");
    send(&app, renew("a b")).await.refuses(400, "invalid_request");
    // Who is no trusted proxy names no host.
    let mut forwarded = renew("other.example");
    forwarded.headers_mut().insert("x-forwarded-host", HeaderValue::from_static("wiki.example"));
    send(&app, forwarded).await.refuses(400, "invalid_grant");
    send(&app, renew("wiki.example")).await.is(200);
    let keys = async |host: &'static str| {
        send(&app, request(Method::GET, "/.well-known/jwks.json", &json(host), "")).await.json()
    };
    assert_ne!(keys("wiki.example").await, keys("other.example").await);
    let bad = send(&app, request(Method::GET, "/.well-known/jwks.json", &json("none.example"), "")).await;
    bad.refuses(404, "not_found");
}

#[tokio::test]
async fn the_name_of_a_realm_ends_no_header() {
    let rig = Rig::of(Plan { realm: "a\"b\\c, error=\"x\" caf\u{e9}", ..Plan::new(Profile::Native) });
    let answer = rig.bare(Method::GET, "/api/security/sessions", &[]).await;
    answer.refuses(401, "unauthorized");
    let value = r#"Bearer realm="a\"b\\c, error=\"x\" caf%C3%A9""#;
    assert_eq!(answer.header("www-authenticate"), value);
}

static RIGS: LazyLock<Vec<Rig>> = LazyLock::new(|| {
    let plans = [
        Plan::new(Profile::Native),
        Plan::with_cookies(),
        Plan::new(Profile::Ampho),
        Plan::new(Profile::Twopi),
        Plan {
            front: FrontConfig::new("default").with_host("a.example", "default").unwrap(),
            ..Plan::new(Profile::Native)
        },
    ];
    plans.into_iter().map(Rig::of).collect()
});

const PATHS: [&str; 10] = [
    "/api/security/login",
    "/api/security/renew",
    "/api/security/logout",
    "/api/security/logout-all",
    "/api/security/sessions",
    "/api/security/sessions/x",
    "/api/security/1/login",
    "/api/security/1/renew",
    "/.well-known/jwks.json",
    "/elsewhere",
];

const HEADERS: [&str; 12] = [
    "authorization",
    "content-type",
    "content-length",
    "content-encoding",
    "cookie",
    "host",
    "origin",
    "sec-fetch-site",
    "x-requested-with",
    "x-forwarded-host",
    "x-forwarded-for",
    "user-agent",
];

/// Bytes, and pieces of what is understood.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "Bearer ",
        "Basic ",
        "application/json",
        "application/x-www-form-urlencoded",
        "; charset=utf-8",
        "same-origin",
        "__Host-rt=",
        "gpr_",
        "login=calvin",
        "&password=hobbes",
        "&scope=read",
        "refresh_token=",
        "refreshToken=",
        "{\"login\":\"calvin\"",
        ",\"password\":\"hobbes\"}",
        "{\"refresh_token\":\"gpr_\"}",
        "\"",
        "}",
        "a.example",
        "https://",
        ":443",
        "eyJhbGciOiJFZERTQSJ9.",
        "%",
        "%00",
        "&",
        "=",
        ";",
        ",",
        "x",
    ]);
    let piece = prop_oneof![
        3 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_an_error_of_ours_or_a_panic(
        rig in 0_usize..5,
        path in prop::sample::select(PATHS.to_vec()),
        method in prop::sample::select(vec!["POST", "POST", "POST", "GET", "DELETE", "OPTIONS", "HEAD", "X"]),
        media in prop::sample::select(vec!["", "application/json", "application/x-www-form-urlencoded"]),
        headers in prop::collection::vec((prop::sample::select(HEADERS.to_vec()), pieces()), 0..4),
        query in "[a-z=&%]{0,12}",
        body in pieces(),
    ) {
        let mut request = Request::builder().method(method).uri(format!("{path}?{query}")).body(Body::from(body)).unwrap();
        if !media.is_empty() {
            request.headers_mut().insert("content-type", HeaderValue::from_static(media));
        }
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(RIGS[rig].send(request));
        prop_assert!(answer.status < 500, "{:?}", answer);
        prop_assert!(answer.status != 401 || answer.headers.contains_key("www-authenticate"));
        let unknown_path = answer.status == 404 && answer.body.is_empty();
        prop_assert!(unknown_path || answer.headers.contains_key("cache-control"), "{:?}", answer);
        if !answer.body.is_empty() {
            prop_assert!(answer.json().is_object());
        }
    }
}

#[tokio::test]
async fn no_answer_holds_what_was_sent() {
    let rig = Rig::new();
    let marked = "Zz9Marked";
    for body in [
        format!(r#"{{"login":"{marked}","password":"{marked}"}}"#),
        format!(r#"{{"login":"{marked}","login":"{marked}"}}"#),
        format!(r#"{{"{marked}":"#),
        format!(r#"{{"login":"calvin","password":"x","scope":"{marked}"}}"#),
    ] {
        let json = [("content-type", "application/json")];
        let answer = rig.send(request(Method::POST, LOGIN, &json, body)).await;
        assert!(!format!("{answer:?}").contains(marked), "{answer:?}");
    }
    let headers = [("authorization", &*bearer(marked)), ("host", marked)];
    let answer = rig.bare(Method::GET, "/api/security/sessions", &headers).await;
    assert!(!format!("{answer:?}").contains(marked), "{answer:?}");
}
