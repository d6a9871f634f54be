//! Which realm a request is sent to, and who may say so.

use auth_core::LoginRule;
use auth_http::FrontConfig;
use axum::http::Method;

use crate::support::{Answer, BOTH, Front, basic, from_peer, request};

fn config() -> FrontConfig {
    FrontConfig::new("default")
        .with_host("wiki.example.com", "wiki")
        .unwrap()
        .with_host("[2001:db8::1]", "six")
        .unwrap()
        .with_host("lost.example.com", "gone")
        .unwrap()
        .with_trusted_proxy("127.0.0.1")
        .unwrap()
        .with_trusted_proxy("10.1.0.0/16")
        .unwrap()
}

fn with(config: FrontConfig) -> Front {
    let front = Front::with(config);
    for name in ["wiki", "six"] {
        front.table.set(name, front.realm(name, LoginRule::CaseMapped));
    }
    front
}

const TRUSTED: &str = "127.0.0.1:4000";
const STRANGER: &str = "192.0.2.7:4000";

async fn ask(front: &Front, uri: &str, peer: Option<&str>, headers: &[(&str, &str)]) -> Answer {
    let good = basic("calvin", "hobbes");
    let headers: Vec<_> = [("authorization", good.as_str())].iter().chain(headers).copied().collect();
    let request = request(Method::GET, uri, &headers);
    front
        .send(match peer {
            Some(peer) => from_peer(request, peer),
            None => request,
        })
        .await
}

async fn check(front: &Front, uri: &str, peer: Option<&str>, headers: &[(&str, &str)], realm: &str) {
    let answer = ask(front, uri, peer, headers).await;
    answer.is(200);
    answer.has("remote-realm", realm);
}

async fn refused(front: &Front, peer: Option<&str>, headers: &[(&str, &str)]) {
    for (endpoint, status) in [("/auth/nginx", 403), ("/auth/forward", 400)] {
        let answer = ask(front, endpoint, peer, headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        answer.is(status);
    }
}

#[tokio::test]
async fn the_host_chooses_the_realm() {
    let front = with(config());
    for endpoint in BOTH {
        for (host, realm) in [
            ("wiki.example.com", "wiki"),
            ("WIKI.example.com.:8443", "wiki"),
            ("[2001:db8:0::1]:443", "six"),
            ("example.com", "default"),
            ("x.wiki.example.com", "default"),
        ] {
            check(&front, endpoint, Some(STRANGER), &[("host", host)], realm).await;
        }
        check(&front, endpoint, None, &[], "default").await;
    }
    // HTTP/2 names the host in the target.
    check(&front, "https://wiki.example.com/auth/forward", None, &[], "wiki").await;
}

#[tokio::test]
async fn the_query_outranks_the_host() {
    let front = with(config());
    let wiki = [("host", "wiki.example.com")];
    check(&front, "/auth/forward?realm=six", Some(TRUSTED), &wiki, "six").await;
    check(&front, "/auth/forward?realm=default", Some(TRUSTED), &wiki, "default").await;
    ask(&front, "/auth/forward?realm=gone", Some(TRUSTED), &wiki).await.is(500);
    let challenge = front.get("/auth/forward?realm=wiki", &[]).await;
    challenge.is(401);
    challenge.has("www-authenticate", "Basic realm=\"wiki\", charset=\"UTF-8\"");
}

#[tokio::test]
async fn a_realm_that_is_not_there_fails_and_no_other_stands_in() {
    let front = with(config());
    for endpoint in BOTH {
        ask(&front, endpoint, None, &[("host", "lost.example.com")]).await.is(500);
        ask(&with(FrontConfig::new("nowhere")), endpoint, None, &[]).await.is(500);
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_may_name_another_host() {
    let front = with(config());
    let forwarded = [("host", "internal"), ("x-forwarded-host", "wiki.example.com")];
    for endpoint in BOTH {
        for trusted in [TRUSTED, "10.1.255.1:1", "[::ffff:10.1.2.3]:1", "[::ffff:127.0.0.1]:1"] {
            check(&front, endpoint, Some(trusted), &forwarded, "wiki").await;
        }
        for stranger in [STRANGER, "10.2.0.1:1", "127.0.0.2:1", "[::1]:1", "[::ffff:10.2.0.1]:1"] {
            check(&front, endpoint, Some(stranger), &forwarded, "default").await;
        }
        check(&front, endpoint, None, &forwarded, "default").await;
        // Without a forwarded host a trusted proxy's own is read.
        check(&front, endpoint, Some(TRUSTED), &[("host", "wiki.example.com")], "wiki").await;
    }
}

#[tokio::test]
async fn a_unix_socket_is_trusted_only_if_the_settings_say_so() {
    let front = with(config().with_trusted_unix_peers());
    let forwarded = [("x-forwarded-host", "wiki.example.com")];
    check(&front, "/auth/forward", None, &forwarded, "wiki").await;
    check(&front, "/auth/forward", Some(STRANGER), &forwarded, "default").await;
}

#[tokio::test]
async fn two_hosts_or_a_twin_in_disguise_are_refused_whoever_sent_them() {
    let front = with(config());
    for peer in [None, Some(STRANGER), Some(TRUSTED)] {
        for headers in [
            &[("x-forwarded-host", "wiki.example.com"), ("x-forwarded-host", "wiki.example.com")][..],
            &[("X-Forwarded-Host", "wiki.example.com"), ("x-forwarded-host", "")],
            &[("x_forwarded_host", "wiki.example.com")],
            &[("X_Forwarded_Host", "wiki.example.com"), ("x-forwarded-host", "wiki.example.com")],
            &[("host", "wiki.example.com"), ("host", "example.com")],
        ] {
            refused(&front, peer, headers).await;
            refused(&Front::new(), peer, headers).await;
        }
    }
}

#[tokio::test]
async fn a_host_that_can_not_be_read_is_refused_where_it_would_choose() {
    let front = with(config());
    for host in ["", "a, wiki.example.com", "wiki.example.com,", "a b", "a/b", "caf\u{e9}", "a:b", "user@a"] {
        refused(&front, Some(TRUSTED), &[("x-forwarded-host", host)]).await;
        refused(&front, Some(STRANGER), &[("host", host)]).await;
        check(&front, "/auth/forward", Some(STRANGER), &[("x-forwarded-host", host)], "default").await;
        check(&front, "/auth/forward?realm=six", Some(TRUSTED), &[("host", host)], "six").await;
    }
}

#[tokio::test]
async fn a_reload_takes_effect_with_the_next_request() {
    let front = with(FrontConfig::new("later"));
    ask(&front, "/auth/forward", None, &[]).await.is(500);
    front.table.set("later", front.realm("later", LoginRule::CaseMapped));
    check(&front, "/auth/forward", None, &[], "later").await;
}

#[tokio::test]
async fn a_name_of_a_realm_is_quoted_and_escaped() {
    let front = with(FrontConfig::new("caf\u{e9}"));
    front.table.set("caf\u{e9}", front.realm("the \"caf\u{e9}\", 100%", LoginRule::CaseMapped));
    let challenge = front.get("/auth/nginx", &[]).await;
    challenge.is(401);
    challenge.has("www-authenticate", "Basic realm=\"the \\\"caf%C3%A9\\\", 100%\", charset=\"UTF-8\"");
    check(&front, "/auth/nginx", None, &[], "the \"caf%C3%A9\"%2C 100%25").await;
}
