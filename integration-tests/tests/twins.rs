//! Two sources, one of which fails: whose login was seen in it is not let in by a twin in the other, also after a restart.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use auth_testkit::servers::{Postgres, PostgresOptions};
use integration_tests::{Gatepost, Server, skipped, until};

/// hobbes
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";
/// stripes: the twin's, and the operator's at the door.
const OTHER: &str = "$2y$04$l6bgMBPtXbyhGfGQoRP9zuqGs3b4ybb7fmw8dCEy1NElvsvYVKhb.";

#[track_caller]
fn answers(server: &Server, login: &str, password: &str, status: u16) {
    assert_eq!(server.login("/auth/forward", login, password).status, status, "{login} with {password}");
}

#[test]
fn while_a_source_is_down_local_people_log_in_and_twins_of_its_people_do_not_also_after_a_restart() {
    if skipped("postgres") {
        return;
    }
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    let config = format!(
        "[source.staff]\nkind = 'sql'\nurl = '{}'\ntimeout = '1s'\nbackoff = {{ after = 0 }}\n\
         [source.local]\nkind = 'file'\npath = 'FOLDER/local.htpasswd'\n\
         [source.banned]\nkind = 'file'\npath = 'FOLDER/banned.htpasswd'\nrole = 'deny'\n\
         [realm.default]\npassword = ['staff', 'local', 'banned']\n\
         [cache]\nkind = 'none'\n",
        postgres.url("app")
    );
    let gatepost = Gatepost::with_config(&config);
    gatepost.write("local.htpasswd", &format!("calvin:{OTHER}\nadmin:{OTHER}\nmoe:{OTHER}\n"));
    gatepost.write("banned.htpasswd", &format!("moe:{OTHER}\n"));
    gatepost.must(&["user", "add", "calvin", "--hash", HASH], b"");
    gatepost.must(&["user", "add", "susie", "--hash", HASH], b"");

    let server = gatepost.serve();
    answers(&server, "calvin", "hobbes", 200);
    answers(&server, "calvin", "stripes", 401);
    answers(&server, "admin", "stripes", 200);
    answers(&server, "moe", "stripes", 401);
    postgres.kill();
    for _ in 0..3 {
        answers(&server, "admin", "stripes", 200);
        // The twin has this password. Who calvin is, nobody can tell now: neither a yes nor a no.
        answers(&server, "calvin", "stripes", 503);
        answers(&server, "calvin", "hobbes", 503);
        answers(&server, "susie", "hobbes", 503);
        answers(&server, "moe", "stripes", 401);
    }
    // A server that was killed has told what it knew: the one that comes after it knows it too, and starts although the
    // source is still down.
    server.kill();
    let server = gatepost.serve();
    answers(&server, "admin", "stripes", 200);
    answers(&server, "calvin", "stripes", 503);
    answers(&server, "calvin", "hobbes", 503);
    gatepost.must(&["reload"], b"");
    answers(&server, "calvin", "stripes", 503);
    // What is being written into the file is not asked for yet.
    gatepost.write("gatepost.toml", "[source.staff]\nkind = 'half wri");
    postgres.restart();
    until(|| server.login("/auth/forward", "calvin", "hobbes").status == 200, "calvin is let in again");
    answers(&server, "susie", "hobbes", 200);
    answers(&server, "calvin", "stripes", 401);
    assert!(server.logged().contains("a source is there"), "{}", server.logged());
}

#[test]
fn a_server_none_of_whose_sources_can_be_reached_does_not_start() {
    let gatepost =
        Gatepost::with_config("[source.staff]\nkind = 'sql'\nurl = 'postgres://127.0.0.1:1/app'\n");
    let done = gatepost.run(&["serve"]).expect(3);
    assert!(done.stderr.contains("source.staff") && done.stderr.contains("unavailable"), "{}", done.stderr);
}
