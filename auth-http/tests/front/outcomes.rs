//! The status by outcome: no outage is an answer, no rejection tells why.

use std::sync::Arc;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Verdict};
use auth_testkit::{Mode, Question, ScriptedStore, World, info, principal_at};
use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use futures_util::future::{join, join_all};

use crate::support::{Answer, BOTH, Failing, Front, basic, from_peer, request, soon};

const KINDS: [(ErrorKind, u16); 9] = [
    (ErrorKind::Unavailable, 503),
    (ErrorKind::Timeout, 503),
    (ErrorKind::Overloaded, 503),
    (ErrorKind::Ambiguous, 500),
    (ErrorKind::Corrupt, 500),
    (ErrorKind::Misconfigured, 500),
    (ErrorKind::Unsupported, 500),
    (ErrorKind::Invalid, 500),
    (ErrorKind::Internal, 500),
];

/// What each endpoint says about a failure that `/auth/forward` answers with `forward`.
fn check_failure(endpoint: &str, forward: u16, answer: &Answer) {
    answer.is(if endpoint == "/auth/nginx" { 500 } else { forward });
}

#[tokio::test]
async fn everybody_who_may_log_in_passes() {
    let front = Front::new();
    for endpoint in BOTH {
        for login in ["calvin", "susie", "zo\u{e9}", "tommy", "mom", "max"] {
            let password = World::user(login).password.unwrap();
            front.get(endpoint, &[("authorization", &basic(login, password))]).await.is(200);
        }
    }
}

#[tokio::test]
async fn every_rejection_is_the_same_byte_for_byte_and_costs_one_hash_job() {
    let front = Front::new();
    let tries: [(&str, &[u8]); 14] = [
        ("nobody", b"hobbes"),
        ("calvin", b"wrong"),
        ("calvin", b"Hobbes"),
        ("calvin", b""),
        ("calvin", b"hobbes\0"),
        ("calvin", &[b'x'; 1025]),
        ("calvin\r\nRemote-User: root", b"hobbes"),
        ("", b"hobbes"),
        ("dad", b"anything"),
        ("moe", b"lunch money"),
        ("rosalyn", b"no more dessert"),
        ("wormwood", b"sit down"),
        ("andy", b"tuna"),
        ("zo\u{e9}", b"\xff\xfe"),
    ];
    for endpoint in BOTH {
        let first = front.get(endpoint, &[]).await;
        first.is(401);
        first.has("www-authenticate", "Basic realm=\"default\", charset=\"UTF-8\"");
        for (login, password) in tries {
            let before = front.pads.count();
            let answer = front.get(endpoint, &[("authorization", &basic(login, password))]).await;
            assert_eq!(answer, first, "{login:?}");
            assert_eq!(front.pads.count(), before + 1, "{login:?}");
        }
    }
}

#[tokio::test]
async fn credentials_that_can_not_be_read_are_nobody() {
    let front = Front::new();
    let good = basic("calvin", "hobbes");
    let long = basic("calvin", [b'x'; 8 * 1024]);
    let token = good.strip_prefix("Basic ").unwrap();
    for endpoint in BOTH {
        let first = front.get(endpoint, &[]).await;
        first.is(401);
        for value in ["", "Basic", "Basic !", "Bearer x", "Negotiate", "Basic Y2Fsdmlu", "Basic /zpo", &long]
        {
            assert_eq!(front.get(endpoint, &[("authorization", value)]).await, first, "{value}");
        }
        let twice = [("authorization", good.as_str()), ("Authorization", good.as_str())];
        assert_eq!(front.get(endpoint, &twice).await, first);
        assert_eq!(front.get(endpoint, &[("proxy-authorization", &good)]).await, first);
        let lower = format!("basic {token}");
        front.get(endpoint, &[("authorization", &lower)]).await.is(200);
    }
    assert_eq!(front.pads.count(), 0);
}

#[tokio::test]
async fn a_failure_of_the_password_source_is_an_outage_and_never_an_answer() {
    for endpoint in BOTH {
        for (kind, forward) in KINDS {
            let front = Front::new();
            let broken = Arc::new(ScriptedStore::in_mode(info("memory"), Mode::Fails(kind)));
            front.default_of(broken, Arc::clone(&front.store), Arc::clone(&front.store));
            let answer = front.as_calvin(endpoint).await;
            check_failure(endpoint, forward, &answer);
            if forward == 503 && endpoint == "/auth/forward" {
                answer.has("retry-after", "1");
            }
        }
    }
}

#[tokio::test]
async fn a_failure_of_the_group_oracle_is_an_outage_and_never_an_empty_list() {
    for endpoint in BOTH {
        for (kind, forward) in KINDS {
            let front = Front::new();
            let broken = Arc::new(ScriptedStore::in_mode(info("memory"), Mode::Fails(kind)));
            front.default_of(front.passwords(), broken, Arc::clone(&front.store));
            check_failure(endpoint, forward, &front.as_calvin(endpoint).await);
            let demanding = format!("{endpoint}?group=ghosts");
            check_failure(endpoint, forward, &front.as_calvin(&demanding).await);
        }
    }
}

#[tokio::test]
async fn a_failure_of_the_rights_store_is_an_outage_and_never_a_no() {
    for endpoint in BOTH {
        for (kind, forward) in KINDS {
            let front = Front::new();
            let broken = Arc::new(ScriptedStore::in_mode(info("memory"), Mode::Fails(kind)));
            front.default_of(front.passwords(), Arc::clone(&front.store), broken);
            front.as_calvin(endpoint).await.is(200);
            let demanding = format!("{endpoint}?domain=doc&id=1&mode=read");
            check_failure(endpoint, forward, &front.as_calvin(&demanding).await);
        }
    }
}

#[tokio::test]
async fn a_failure_tells_nothing_of_itself_but_how_long_to_wait() {
    let front = Front::new();
    let error = Error::new(ErrorKind::Overloaded, "the secret inside")
        .with("table", "account")
        .retry_after(Duration::from_millis(2_500));
    let failing = Arc::new(Failing(info("secret-source"), error));
    front.default_of(failing, Arc::clone(&front.store), Arc::clone(&front.store));
    let answer = front.as_calvin("/auth/forward").await;
    answer.is(503);
    answer.has("retry-after", "3");
    assert_eq!(answer.body, "try again later\n");
    assert!(!format!("{answer:?}").contains("secret"));
    let answer = front.as_calvin("/auth/nginx").await;
    answer.is(500);
    assert_eq!(answer.body, "internal error\n");
}

#[tokio::test]
async fn a_source_that_never_answers_ends_at_the_limit() {
    let config = auth_http::FrontConfig::new("default").with_limit(Duration::from_secs(3));
    let front = Front::with(config);
    let hanging = Arc::new(ScriptedStore::in_mode(info("memory"), Mode::Hangs));
    front.default_of(hanging, Arc::clone(&front.store), Arc::clone(&front.store));
    for (endpoint, status) in [("/auth/forward", 503), ("/auth/nginx", 500)] {
        let mut asked = std::pin::pin!(front.as_calvin(endpoint));
        front.clock.advance(Duration::from_millis(1));
        assert!(futures_util::poll!(&mut asked).is_pending());
        front.clock.advance(Duration::from_millis(2_999));
        assert!(futures_util::poll!(&mut asked).is_pending());
        front.clock.advance(Duration::from_millis(1));
        soon(asked).await.is(status);
    }
}

#[tokio::test]
async fn one_limit_holds_for_all_questions_of_a_request_together() {
    let front = Front::with(auth_http::FrontConfig::new("default").with_limit(Duration::from_secs(3)));
    let held = Arc::new(ScriptedStore::new(info("memory")));
    front.default_of(Arc::clone(&held), Arc::clone(&held), Arc::clone(&front.store));
    let script = async {
        let ask = held.next_question().await;
        front.clock.advance(Duration::from_secs(2));
        let Question::Verify(login) = ask.question() else { panic!("{ask:?}") };
        let who = principal_at("memory", login.as_str(), 1.into());
        ask.answer(Ok(Verdict::Accepted(who)));
        let mut ask = held.next_question().await;
        assert!(matches!(ask.question(), Question::Groups(_)));
        front.clock.advance(Duration::from_secs(1));
        ask.abandoned().await;
    };
    let (answer, ()) = soon(join(front.as_calvin("/auth/forward"), script)).await;
    answer.is(503);
}

#[tokio::test]
async fn every_method_is_answered_alike_and_no_body_is_read() {
    let front = Front::new();
    let good = basic("calvin", "hobbes");
    for endpoint in BOTH {
        let passed = front.as_calvin(endpoint).await;
        let refused = front.get(endpoint, &[]).await;
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = front.send(request(method.clone(), endpoint, &[("authorization", &good)])).await;
            assert_eq!(answer, passed, "{method}");
            assert_eq!(front.send(request(method.clone(), endpoint, &[])).await, refused, "{method}");
        }
        let answer = front.send(request(Method::HEAD, endpoint, &[("authorization", &good)])).await;
        assert_eq!((answer.status, &answer.headers), (passed.status, &passed.headers));
        front.send(request(Method::HEAD, endpoint, &[])).await.is(401);

        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::post(endpoint).header("authorization", &good);
        let answer = front.send(request.body(Body::from_stream(endless)).unwrap()).await;
        assert_eq!(answer, passed);
    }
}

#[tokio::test]
async fn concurrent_requests_get_their_own_answers() {
    let front = Front::new();
    let held = Arc::new(ScriptedStore::new(info("memory")));
    let store = Arc::clone(&front.store);
    front.default_of(Arc::clone(&held), Arc::clone(&store), store);
    let logins = ["calvin", "susie", "max", "tommy", "nobody", "moe"];
    let headers: Vec<String> = (0..60).map(|n| basic(logins[n % logins.len()], "x")).collect();
    let asked = join_all(
        headers
            .iter()
            .map(|header| async { front.get("/auth/forward", &[("authorization", header.as_str())]).await }),
    );
    let script = async {
        let mut asks = Vec::new();
        for _ in 0..60 {
            asks.push(held.next_question().await);
        }
        // The last first, so that order can't be what matches answers with requests.
        for ask in asks.into_iter().rev() {
            let Question::Verify(login) = ask.question() else { panic!("{ask:?}") };
            match login.as_str() {
                "nobody" => ask.answer(Ok(Verdict::Rejected(auth_core::Reject::UnknownUser))),
                "moe" => ask.fail(ErrorKind::Unavailable),
                name => {
                    let who = principal_at("memory", name, World::user(name).id.into());
                    ask.answer(Ok(Verdict::Accepted(who)));
                }
            }
        }
    };
    let (answers, ()) = soon(join(asked, script)).await;
    for (n, answer) in answers.iter().enumerate() {
        match logins[n % logins.len()] {
            "nobody" => answer.is(401),
            "moe" => answer.is(503),
            name => {
                answer.is(200);
                answer.has("remote-user", name);
                answer.has("remote-groups", &World::user(name).groups.join(","));
            }
        }
    }
}

#[tokio::test]
async fn a_real_server_answers_a_real_client() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let front = Front::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = front.app.clone().into_make_service_with_connect_info::<std::net::SocketAddr>();
    let server = tokio::spawn(axum::serve(listener, service).into_future());
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let good = basic("calvin", "hobbes");
    let text = format!(
        "HEAD /auth/nginx HTTP/1.1\r\nHost: a\r\nAuthorization: {good}\r\n\r\n\
         GET /auth/nginx HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    server.abort();
    let (first, second) = answers.split_once("\r\n\r\n").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    for line in ["remote-user: calvin", "remote-groups: admin,staff", "remote-name: ", "remote-email: "] {
        assert!(first.split("\r\n").any(|found| found == line), "{line:?} in {first}");
    }
    assert!(second.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answers}");
}

#[tokio::test]
async fn only_the_two_routes_are_there() {
    let front = Front::new();
    for uri in ["/auth", "/auth/", "/auth/nginx/", "/auth/forward/x", "/AUTH/nginx"] {
        let request = from_peer(request(Method::GET, uri, &[]), "127.0.0.1:1");
        assert_eq!(front.send(request).await.status, 404, "{uri}");
    }
}
