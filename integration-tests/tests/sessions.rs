//! Login, renewal and logout over HTTP, with the real program; its profiles; and two servers that share sessions.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::time::Duration;

use auth_testkit::servers::{Postgres, PostgresOptions, Redis, RedisOptions};
use integration_tests::{Gatepost, Nginx, Server, exchange, get, skipped, stopwatch, until};
use serde_json::{Value, json};

/// hobbes
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";
/// What a wrong password costs is not what is shown here.
const CHEAP: &str = "[password]\nupgrade = false\nargon2 = { memory_kib = 64, passes = 1 }\n";

/// Sends a request, perhaps with an access token, and returns status and body.
#[track_caller]
fn send(server: &Server, method: &str, path: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let bearer = bearer.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = exchange(server.address(), request.as_bytes()).unwrap();
    if path.starts_with("/api") {
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
    }
    (response.status, serde_json::from_str(&response.body).unwrap_or_else(|_| json!(response.body)))
}

#[track_caller]
fn done(server: &Server, method: &str, path: &str, bearer: Option<&str>, body: &Value) -> Value {
    let (status, answer) = send(server, method, path, bearer, body);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

#[track_caller]
fn logged_in(server: &Server) -> Value {
    done(server, "POST", "/api/security/login", None, &json!({ "login": "calvin", "password": "hobbes" }))
}

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("{name} in {answer}")).to_owned()
}

/// What forward-auth says to an access token.
#[track_caller]
fn front(server: &Server, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let response = get(server.address(), "/auth/forward", &[("Authorization", &bearer)]);
    if response.status == 200 {
        assert_eq!(response.header("remote-user"), Some("calvin"));
    }
    response.status
}

fn with_calvin(config: &str) -> Gatepost {
    let gatepost = Gatepost::with_config(&format!("{CHEAP}{config}"));
    gatepost.must(&["user", "add", "calvin", "--group", "staff", "--hash", HASH], b"");
    gatepost
}

#[test]
fn a_session_begins_goes_on_and_ends_over_http() {
    let gatepost = with_calvin("");
    let server = gatepost.serve();
    let wrong = ["calvin", "nobody"].map(|login| {
        let body = json!({ "login": login, "password": "stripes" });
        send(&server, "POST", "/api/security/login", None, &body)
    });
    assert_eq!((wrong[0].0, &wrong[0]), (401, &wrong[1]));

    let first = logged_in(&server);
    let renew =
        |token: &str| send(&server, "POST", "/api/security/renew", None, &json!({ "refresh_token": token }));
    let (status, second) = renew(&text(&first, "refresh_token"));
    assert_eq!((status, &second["sid"]), (200, &first["sid"]));
    let (access, refresh) = (text(&second, "access_token"), text(&second, "refresh_token"));
    assert_eq!(front(&server, &access), 200);
    let published = done(&server, "GET", "/.well-known/jwks.json", None, &Value::Null);
    assert!(published["keys"][0]["kid"].is_string() && published["keys"][0]["d"].is_null(), "{published}");
    if !skipped("nginx") {
        let nginx = Nginx::start(&gatepost, &server, &["", "?group=admin"]);
        let bearer = format!("Bearer {access}");
        let headers = [("Authorization", bearer.as_str())];
        assert_eq!(nginx.get(0, "/hello", &headers).body, "calvin|staff");
        assert_eq!(nginx.get(1, "/hello", &headers).status, 403);
        assert_eq!(nginx.get(0, "/hello", &[("Authorization", "Bearer nonsense")]).status, 401);
    }

    // Another session, which the first one ends.
    let other = logged_in(&server);
    let sessions = done(&server, "GET", "/api/security/sessions", Some(&access), &Value::Null);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "{sessions}");
    let delete = |sid: &str| {
        let path = format!("/api/security/sessions/{sid}");
        send(&server, "DELETE", &path, Some(&access), &Value::Null).0
    };
    assert_eq!((delete(&text(&other, "sid")), delete(&"0".repeat(32))), (200, 404));
    assert_eq!(front(&server, &text(&other, "access_token")), 401);
    assert_eq!(renew(&text(&other, "refresh_token")).0, 400);

    // Once, and as often as one likes.
    for _ in 0..2 {
        let answer =
            done(&server, "POST", "/api/security/logout", None, &json!({ "refresh_token": refresh }));
        assert_eq!(answer["status"], "success");
    }
    let (status, answer) = renew(&refresh);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert_eq!(front(&server, &access), 401);

    let two = [logged_in(&server), logged_in(&server)].map(|tokens| text(&tokens, "access_token"));
    let answer = done(&server, "POST", "/api/security/logout-all", Some(&two[0]), &Value::Null);
    assert_eq!((&answer["status"], &answer["ended"]), (&json!("success"), &json!(2)));
    assert_eq!(two.map(|token| front(&server, &token)), [401, 401]);
}

#[test]
fn a_client_of_flask_ampho_logs_in_and_renews_with_what_it_has_configured() {
    let key = Gatepost::new().run(&["key", "new", "--kty", "oct"]).expect(0).stdout;
    let gatepost = Gatepost::with_config(&format!("{CHEAP}[token]\nprofile = 'ampho'\n"))
        .var("AMPHO_SECURITY_KEY", key.trim_end())
        .var("AMPHO_SECURITY_REST_PREFIX", "/api/guard");
    gatepost.must(&["user", "add", "calvin", "--hash", HASH], b"");
    let server = gatepost.serve();
    let body = |password: &str| json!({ "login": "calvin", "password": password });
    let first = done(&server, "POST", "/api/guard/1/login", None, &body("hobbes"));
    let names: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["expires", "leeway", "starts", "token", "ttl"], "{first}");
    let second = done(&server, "POST", "/api/guard/1/renew", Some(&text(&first, "token")), &Value::Null);
    assert_eq!(front(&server, &text(&second, "token")), 200);
    let (status, refused) = send(&server, "POST", "/api/guard/1/login", None, &body("stripes"));
    assert!(status == 401 && refused["message"].is_string(), "{refused}");
    // Its key is a secret, which any library has for the same token.
    let keys = gatepost.write("key.jwk", &key).display().to_string();
    let token = text(&second, "token");
    let verify = ["token", "verify", &token, "--type", "jwt", "--jwks", &keys, "--alg", "HS256"];
    assert_eq!(gatepost.json(&verify, b"", 0)["claims"]["login"], "calvin");
}

#[test]
fn a_client_of_twopi_flask_utils_logs_in_renews_and_logs_out() {
    let gatepost = with_calvin("[token]\nprofile = 'twopi'\n[token.http]\nprefix = '/api'\n");
    let server = gatepost.serve();
    let first =
        done(&server, "POST", "/api/login", None, &json!({ "username": "calvin", "password": "hobbes" }));
    assert_eq!(front(&server, &text(&first, "token")), 200);
    let renew = |answer: &Value| {
        let body = json!({ "refreshToken": text(answer, "refreshToken") });
        send(&server, "POST", "/api/renew", None, &body)
    };
    let (status, second) = renew(&first);
    assert_eq!(status, 200, "{second}");
    let answer = done(&server, "POST", "/api/logout", Some(&text(&second, "token")), &Value::Null);
    assert_eq!(answer, json!({ "status": "success" }));
    let (status, refused) = renew(&second);
    assert!(status >= 400 && refused["_errors"].is_array(), "{status}: {refused}");
}

#[test]
fn a_token_that_is_revoked_through_one_server_is_refused_by_the_other_within_a_second() {
    if skipped("postgres") || skipped("redis") {
        return;
    }
    let (postgres, bus) =
        (Postgres::start(&PostgresOptions::default()), Redis::start(&RedisOptions::default()));
    postgres.create("app");
    let key = Gatepost::new().json(&["key", "new"], b"", 0);
    let config = format!(
        "[source.app]\nkind = 'sql'\nurl = '{url}'\n[cache]\nbus = '{}'\nttl = {{ all = '1h' }}\n\
         [token]\nstore = '{url}'\n[token.keys]\nkey = '{key}'\n\
         [secrets]\ncache_key = '{secret}'\nrefresh_key = '{secret}'\n",
        bus.url(),
        url = postgres.url("app"),
        secret = "0123456789abcdef0123456789abcdef",
    );
    let one = with_calvin(&config);
    let two = Gatepost::with_config(&format!("{CHEAP}{config}"));
    let (first, second) = (one.serve(), two.serve());
    let hears = |server: &Server| server.logged().contains("hears of invalidations");
    until(|| hears(&first) && hears(&second), "both hear of each other");
    for _ in 0..5 {
        let tokens = logged_in(&first);
        let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
        // The other renews what the one began, and has the token in memory.
        let body = json!({ "refresh_token": refresh });
        done(&second, "POST", "/api/security/renew", None, &body);
        for _ in 0..2 {
            assert_eq!((front(&first, &access), front(&second, &access)), (200, 200));
        }
        let row = two.json(&["check", "token", &access], b"", 0);
        assert_eq!(row["cache"], "hit", "{row}");
        let began = stopwatch();
        done(&first, "POST", "/api/security/logout", Some(&access), &Value::Null);
        assert_eq!(front(&first, &access), 401, "at once where it was revoked");
        until(|| front(&second, &access) == 401, "the other refuses it");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        let body = json!({ "refresh_token": refresh });
        assert_eq!(send(&second, "POST", "/api/security/renew", None, &body).0, 400);
    }
}

#[test]
fn a_server_starts_without_its_store_of_sessions_and_takes_it_when_it_is_there() {
    if skipped("postgres") {
        return;
    }
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    let gatepost = Gatepost::with_config(&format!(
        "{CHEAP}[source.people]\nkind = 'file'\npath = 'FOLDER/people.htpasswd'\ngroups = 'FOLDER/people.htgroup'\n\
         [token]\nstore = '{}'\n",
        postgres.url("app")
    ));
    gatepost.write("people.htpasswd", &format!("calvin:{HASH}\n"));
    gatepost.write("people.htgroup", "staff: calvin\n");
    postgres.kill();
    let server = gatepost.serve();
    let log_in = || {
        let body = json!({ "login": "calvin", "password": "hobbes" });
        send(&server, "POST", "/api/security/login", None, &body)
    };
    for _ in 0..3 {
        let (status, answer) = log_in();
        assert_eq!((status, &answer["error"]), (503, &json!("temporarily_unavailable")), "{answer}");
    }
    let login = |path| server.login(path, "calvin", "hobbes").status;
    assert_eq!(login("/auth/nginx?group=staff"), 200, "a group is none of its business");
    assert_eq!(login("/auth/nginx?group=ghosts"), 403);
    assert_eq!(gatepost.json(&["check", "group", "calvin", "staff"], b"", 0)["decision"], "member");
    let ready = || {
        let ready = server.get("/readyz");
        (ready.status, serde_json::from_str::<Value>(&ready.body).unwrap())
    };
    let of =
        |sessions: bool| json!({ "ready": sessions, "sessions": sessions, "sources": { "people": true } });
    assert_eq!(ready(), (503, of(false)));
    let told = |words: &str| server.logged().matches(words).count();
    assert_eq!(told("started without the store of sessions"), 1);
    let rows = || gatepost.run(&["sources", "--json"]).expect(0).rows();
    let [people, sessions] = &rows()[..] else { panic!("{:?}", rows()) };
    assert_eq!((&people["state"], &sessions["store"]), (&json!("up"), &json!("sessions")));
    assert!(sessions["state"] == "down" && sessions["last_error"].is_string(), "{sessions}");
    assert_eq!(told("the store of sessions does not answer"), 1, "once, however often it is looked");
    assert!(server.get("/metrics").body.contains("\ngatepost_sessions_store_up 0\n"));
    assert_eq!(gatepost.run(&["config", "check", "--probe"]).exit, 3);
    // What serves is not given up for what can't be reached, and what can't be reached stays what it was.
    gatepost.must(&["reload"], b"");
    assert_eq!(log_in().0, 503);
    assert_eq!(ready(), (503, of(false)));

    postgres.restart();
    until(|| ready() == (200, of(true)), "the store answers");
    assert_eq!(rows().len(), 1, "{:?}", rows());
    assert_eq!(told("the store of sessions answers again"), 1);
    assert!(server.get("/metrics").body.contains("\ngatepost_sessions_store_up 1\n"));
    let tokens = logged_in(&server);
    assert_eq!(front(&server, &text(&tokens, "access_token")), 200);
    let body = json!({ "refresh_token": text(&tokens, "refresh_token") });
    done(&server, "POST", "/api/security/renew", None, &body);
    assert_eq!(told("the database of sessions is open"), 1);
    drop(server);

    // One that is there, and is not the right one, is a mistake, and no outage.
    let wrong = |status, words| {
        let done = gatepost.run(&["serve"]).expect(status);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    };
    let newer =
        "INSERT INTO gatepost_session_migration VALUES (99, 'more', CURRENT_TIMESTAMP, TRUE, '\\x00', 1)";
    let _ = postgres.sql("app", newer);
    wrong(2, "newer version");
    let text = std::fs::read_to_string(gatepost.config().unwrap()).unwrap();
    let _ = gatepost.write("gatepost.toml", &text.replace("/app", "/elsewhere"));
    wrong(2, "elsewhere");
    let _ = gatepost.write("gatepost.toml", &text.replace("store = 'postgres", "store = 'memcached"));
    wrong(2, "memcached forgets");
}
