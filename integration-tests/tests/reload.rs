//! A configuration that is read anew while the server serves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use integration_tests::{Gatepost, Server, basic, get, until};
use serde_json::json;

/// calvin with the password hobbes.
const CALVIN: &str = "calvin:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n";
/// susie with the same.
const SUSIE: &str = "susie:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n";

const ONE: &str = "
[source.one]
kind = 'file'
path = 'FOLDER/one.htpasswd'
[cache]
ttl = '1h'
";

const BOTH: &str = "
[source.one]
kind = 'file'
path = 'FOLDER/one.htpasswd'
[source.two]
kind = 'file'
path = 'FOLDER/two.htpasswd'
[realm.default]
password = ['one', 'two']
[cache]
ttl = '1h'
";

fn installed() -> (Gatepost, Server) {
    let gatepost = Gatepost::with_config(ONE);
    gatepost.write("one.htpasswd", CALVIN);
    gatepost.write("two.htpasswd", SUSIE);
    let server = gatepost.serve();
    // Who begins to hear of changes in a source forgets what was asked before.
    let heard = || {
        let rows = gatepost.run(&["sources", "--json"]).expect(0).rows();
        rows.iter().all(|row| row["changes"]["state"] == "heard")
    };
    until(heard, "changes are heard");
    (gatepost, server)
}

/// Writes the configuration anew.
fn configure(gatepost: &Gatepost, text: &str) {
    std::fs::write(gatepost.config().unwrap(), gatepost.placed(text)).unwrap();
}

#[track_caller]
fn lets_in(server: &Server, login: &str, status: u16) {
    assert_eq!(server.login("/auth/nginx", login, "hobbes").status, status, "{login}");
}

fn answer_of(gatepost: &Gatepost, login: &str) -> String {
    gatepost.json(&["check", "password", login], b"hobbes", 0)["cache"].as_str().unwrap().to_owned()
}

#[test]
fn a_reload_brings_what_was_added_and_keeps_what_is_remembered_of_the_rest() {
    let (gatepost, server) = installed();
    lets_in(&server, "calvin", 200);
    lets_in(&server, "susie", 401);
    configure(&gatepost, BOTH);
    lets_in(&server, "susie", 401);
    let row = gatepost.json(&["reload"], b"", 0);
    assert_eq!((&row["reloaded"], &row["opened"]), (&json!(true), &json!(["two"])));
    lets_in(&server, "susie", 200);
    assert_eq!(answer_of(&gatepost, "calvin"), "hit", "one.htpasswd is as it was");
    configure(&gatepost, ONE);
    gatepost.must(&["reload"], b"");
    lets_in(&server, "susie", 401);
    assert_eq!(answer_of(&gatepost, "calvin"), "hit");
}

#[test]
fn a_hangup_reloads_and_a_broken_configuration_changes_nothing_and_is_told() {
    let (gatepost, server) = installed();
    configure(&gatepost, BOTH);
    server.hang_up();
    until(|| server.login("/auth/nginx", "susie", "hobbes").status == 200, "susie is let in");
    let broken = [
        ("[source.one\n", 2, "gatepost.toml:1"),
        ("[source.one]\nkind = 'fil'\n", 2, "did you mean `file`"),
        ("[source.one]\nkind = 'file'\npath = 'FOLDER/gone.htpasswd'\n", 2, "gone.htpasswd"),
        ("[source.one]\nkind = 'file'\npath = 'FOLDER/one.htpasswd'\n[server]\nrealm = 'wiki'\n", 2, "wiki"),
    ];
    for (text, exit, says) in broken {
        configure(&gatepost, text);
        let done = gatepost.run(&["reload"]).expect(exit);
        assert!(done.stderr.contains(says), "{text}: {}", done.stderr);
        lets_in(&server, "calvin", 200);
        lets_in(&server, "susie", 200);
    }
    assert!(server.logged().contains("the configuration before stays in force"));
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("gatepost_reloads_total{outcome=\"done\"} 1\n"), "{metrics}");
    // What can't be read at all the command line has told by itself.
    assert!(metrics.contains("gatepost_reloads_total{outcome=\"failed\"} 3\n"), "{metrics}");
}

#[test]
fn what_was_remembered_of_a_source_that_was_changed_is_left_behind() {
    let (gatepost, server) = installed();
    lets_in(&server, "calvin", 200);
    assert_eq!(answer_of(&gatepost, "calvin"), "hit");
    configure(&gatepost, &ONE.replace("one.htpasswd", "two.htpasswd"));
    let row = gatepost.json(&["reload"], b"", 0);
    assert_eq!(row["opened"], json!(["one"]));
    lets_in(&server, "calvin", 401);
    lets_in(&server, "susie", 200);
}

#[test]
fn reloads_under_load_fail_nobody() {
    let (gatepost, server) = installed();
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = server.address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let header = basic("calvin", b"hobbes");
                    let status = get(address, "/auth/forward", &[("Authorization", &header)]).status;
                    assert_eq!(status, 200);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for n in 0..10 {
            configure(&gatepost, if n % 2 == 0 { BOTH } else { ONE });
            gatepost.must(&["reload"], b"");
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(asked.load(Ordering::SeqCst) > 20);
}

#[test]
fn what_only_a_restart_can_change_is_said() {
    let (gatepost, server) = installed();
    let row = {
        configure(&gatepost, &format!("{ONE}\n[server]\nlimit = '3s'\n"));
        gatepost.json(&["reload"], b"", 0)
    };
    assert_eq!(row["opened"], json!(["one"]), "its time limit hangs on the server's");
    lets_in(&server, "calvin", 200);
    drop(server);
    let done = gatepost.run(&["reload"]).expect(3);
    assert!(done.stderr.contains("no server runs"), "{}", done.stderr);
}
