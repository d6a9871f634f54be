//! A disk without room under the sessions: nothing is lost that was promised, nothing is promised that is not kept, and
//! what was promised before is still good.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{Gatepost, Response, Server, generation, get, no_alarm, post};
use serde_json::{Value, json};

/// hobbes
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";

/// How many clients there are before the disk is full.
const CLIENTS: usize = 8;
/// How much may be written until it is.
const ROOM: u64 = 200_000;
/// More answers than have room there: a client that gets so many has not met a full disk.
const ENOUGH: usize = 2_000;

/// A server that remembers no access token, so that each check reads what is on the disk.
const CONFIG: &str = "[password]\nupgrade = false\nargon2 = { memory_kib = 64, passes = 1 }\n\
                      [cache]\nkind = 'none'\n[token]\nrefresh = { grace = '300s', retries = 1000 }\n";

fn installed() -> Gatepost {
    let gatepost = Gatepost::with_config(CONFIG);
    gatepost.must(&["user", "add", "calvin", "--hash", HASH], b"");
    gatepost
}

fn login(server: &Server) -> Response {
    let body = json!({ "login": "calvin", "password": "hobbes" });
    post(server.address(), "/api/security/login", &[], &body).unwrap()
}

fn renew(server: &Server, last: &Value) -> Response {
    let body = json!({ "refresh_token": last["refresh_token"] });
    post(server.address(), "/api/security/renew", &[], &body).unwrap()
}

#[track_caller]
fn given(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

/// Says that nobody can tell, and nothing else.
#[track_caller]
fn is_an_outage(response: &Response) {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!((response.status, body["error"].as_str()), (503, Some("temporarily_unavailable")), "{body}");
    assert!(response.header("set-cookie").is_none(), "{response:?}");
}

/// An access token that was given before is good, whatever the disk does.
#[track_caller]
fn checks(server: &Server, answer: &Value) {
    let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    let front = get(server.address(), "/auth/forward", &[("Authorization", &bearer)]);
    assert_eq!((front.status, front.header("remote-user")), (200, Some("calvin")), "{}", front.body);
}

/// The client has its next token, of the very next generation: nothing was consumed that it does not know of.
#[track_caller]
fn goes_on(server: &Server, last: &mut Value) {
    let next = given(&renew(server, last));
    assert_eq!((generation(&next), &next["sid"]), (generation(last) + 1, &last["sid"]));
    *last = next;
    checks(server, last);
}

/// Has clients log in and renew until nothing can be written any more; returns what each has.
fn fill(gatepost: &Gatepost, server: &Server) -> Vec<Value> {
    let mut clients: Vec<Value> = (0..CLIENTS).map(|_| given(&login(server))).collect();
    // The longest of the server's files: the others are never full before it.
    let longest =
        std::fs::read_dir(gatepost.data()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    server.disk_is_full_at(longest.max().map(|longest| longest + ROOM));
    std::thread::scope(|scope| {
        let busy = |last: &mut Value| {
            for _ in 0..ENOUGH {
                let renewed = renew(server, last);
                if renewed.status != 200 {
                    return is_an_outage(&renewed);
                }
                let next = given(&renewed);
                assert_eq!(generation(&next), generation(last) + 1);
                *last = next;
            }
            panic!("there was room for {ENOUGH} renewals");
        };
        clients.iter_mut().for_each(|last| drop(scope.spawn(move || busy(last))));
    });
    let more = (0..ENOUGH).map_while(|_| Some(login(server)).filter(|answer| answer.status == 200));
    clients.extend(more.map(|answer| given(&answer)));
    clients
}

/// Nothing can be written: that is told, and nothing else happens.
fn is_full(server: &Server, clients: &[Value]) {
    for last in clients {
        is_an_outage(&renew(server, last));
        checks(server, last);
    }
    // A right password is no guess, however often nobody can take it.
    for _ in 0..30 {
        is_an_outage(&login(server));
    }
    let first = &clients[0];
    let bearer = format!("Bearer {}", first["access_token"].as_str().unwrap());
    let body = json!({ "refresh_token": first["refresh_token"] });
    for path in ["/api/security/logout", "/api/security/logout-all"] {
        is_an_outage(&post(server.address(), path, &[], &body).unwrap());
        is_an_outage(&post(server.address(), path, &[("Authorization", &bearer)], &json!({})).unwrap());
    }
    checks(server, first);
    let listed = get(server.address(), "/api/security/sessions", &[("Authorization", &bearer)]);
    let listed: Value = serde_json::from_str(&listed.body).unwrap();
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(clients.len()), "{listed}");
    assert_eq!(server.get("/livez").status, 200);
}

/// Everybody goes on from where they were, and there is nobody else.
fn is_well(gatepost: &Gatepost, server: &Server, clients: &mut [Value]) {
    clients.iter_mut().for_each(|last| goes_on(server, last));
    let sessions = gatepost.run(&["--json", "token", "list", "--login", "calvin"]).expect(0).rows();
    assert_eq!(sessions.len(), clients.len());
    no_alarm(server);
}

#[test]
fn a_full_disk_is_an_outage_and_everybody_goes_on_when_there_is_room_again() {
    let gatepost = installed();
    let server = gatepost.serve_on_a_small_disk();
    let mut clients = fill(&gatepost, &server);
    is_full(&server, &clients);
    server.disk_is_full_at(None);
    is_well(&gatepost, &server, &mut clients);
}

#[test]
fn a_server_that_ends_on_a_full_disk_has_everybody_go_on_when_it_is_started_with_room() {
    for killed in [false, true] {
        let gatepost = installed();
        let server = gatepost.serve_on_a_small_disk();
        let mut clients = fill(&gatepost, &server);
        is_full(&server, &clients);
        if killed {
            server.kill()
        } else {
            drop(server)
        }
        let server = gatepost.serve();
        is_well(&gatepost, &server, &mut clients);
    }
}

#[test]
fn a_disk_that_takes_nothing_at_all_not_even_the_log_is_an_outage() {
    let gatepost = installed();
    let server = gatepost.serve_on_a_small_disk();
    let mut clients = vec![given(&login(&server))];
    server.disk_is_full_at(Some(0));
    is_full(&server, &clients);
    // What it needs is there: a configuration can be read anew.
    gatepost.must(&["reload"], b"");
    is_full(&server, &clients);
    server.disk_is_full_at(None);
    is_well(&gatepost, &server, &mut clients);
}

#[test]
fn a_server_starts_on_a_full_disk_and_goes_on_when_there_is_room() {
    let gatepost =
        Gatepost::with_config(&format!("{CONFIG}[source.people]\nkind = 'file'\npath = 'FOLDER/people'\n"));
    gatepost.write("people", &format!("calvin:{HASH}\n"));
    for killed in [false, true] {
        let server = gatepost.serve();
        let mut last = given(&login(&server));
        if killed {
            server.kill()
        } else {
            drop(server)
        }
        let server = gatepost.serve_on_a_full_disk();
        assert_eq!(server.login("/auth/nginx", "calvin", "hobbes").status, 200);
        is_an_outage(&renew(&server, &last));
        is_an_outage(&login(&server));
        server.disk_is_full_at(None);
        goes_on(&server, &mut last);
        no_alarm(&server);
    }
}
