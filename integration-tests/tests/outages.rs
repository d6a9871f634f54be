//! An outage of a source, through the whole stack: never a yes, never a no, and over as soon as it is over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{
    Gatepost, Nginx, WORLD_QUERIES, break_file, restore_file, skipped, until, world_tables, world_toml,
};
use serde_json::Value;

const RIGHT: &str = "hobbes";

/// People in tables of somebody else's; nothing is remembered.
fn over_tables() -> Gatepost {
    let config = format!("[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/app.db\"\n{WORLD_QUERIES}");
    let gatepost = Gatepost::with_config(&config).var("CACHE", "none");
    world_tables(&gatepost.path("app.db"));
    gatepost
}

/// What a command says that could not find out.
#[track_caller]
fn could_not_find_out(gatepost: &Gatepost, args: &[&str], input: &str) {
    let row = gatepost.json(args, input.as_bytes(), 3);
    assert!(row["error"].is_string(), "{row}");
    assert_eq!(row["decision"], Value::Null, "an outage decides nothing: {row}");
    assert_eq!(row["source"], "app", "{row}");
}

#[test]
fn a_broken_database_is_no_answer_and_a_mended_one_is_one_again() {
    let gatepost = over_tables();
    let server = gatepost.serve();
    let nginx = (!skipped("nginx")).then(|| Nginx::start(&gatepost, &server, &[""]));
    let check = |right: (u16, u16), wrong: (u16, u16), ready: u16, when: &str| {
        for (password, (plain, forward)) in [(RIGHT, right), ("wrong", wrong)] {
            assert_eq!(server.login("/auth/nginx", "calvin", password).status, plain, "{when}");
            let response = server.login("/auth/forward", "calvin", password);
            assert_eq!(response.status, forward, "{when}");
            assert_eq!(response.header("retry-after").is_some(), forward == 503, "{when}");
            if let Some(nginx) = &nginx {
                let response = nginx.login(0, "calvin", password);
                assert_eq!(response.status, plain, "{when}, behind nginx");
                assert!(!response.body.contains('|') || plain == 200, "the application was not reached");
            }
        }
        assert_eq!(server.get("/readyz").status, ready, "{when}");
        assert_eq!(server.get("/livez").status, 200, "alive, {when}");
    };
    let state = || {
        let row = gatepost.json(&["sources"], b"", 0);
        (row["state"].as_str().unwrap().to_owned(), row["last_error"].is_string())
    };

    check((200, 200), (401, 401), 200, "before");
    assert_eq!(state(), ("up".to_owned(), false));

    let contents = break_file(&gatepost.path("app.db"));
    // Not a temporary failure: somebody must mend the file. Trying again would not help.
    check((500, 500), (500, 500), 503, "while it is broken");
    assert_eq!(state(), ("down".to_owned(), true));
    let down = gatepost.run(&["sources"]).expect(0).stdout;
    assert!(down.contains("down"), "{down}");
    could_not_find_out(&gatepost, &["check", "password", "calvin"], RIGHT);
    could_not_find_out(&gatepost, &["check", "password", "calvin"], "wrong");
    could_not_find_out(&gatepost, &["check", "password", "nobody"], RIGHT);
    could_not_find_out(&gatepost, &["check", "group", "calvin", "staff"], "");
    could_not_find_out(&gatepost, &["check", "object", "calvin", "doc", "1", "read"], "");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("gatepost_source_up{source=\"app\"} 0"), "{metrics}");

    restore_file(&gatepost.path("app.db"), &contents);
    check((200, 200), (401, 401), 200, "after");
    assert_eq!(state().0, "up");
    assert_eq!(gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 0)["decision"], "accepted");
    assert!(server.get("/metrics").body.contains("gatepost_source_up{source=\"app\"} 1"));
}

#[test]
fn a_source_is_seen_to_be_gone_and_back_though_nobody_logs_in() {
    let gatepost = over_tables();
    let server = gatepost.serve();
    let ready = |status| until(|| server.get("/readyz").status == status, "nobody but the balancer asks");
    ready(200);
    let contents = break_file(&gatepost.path("app.db"));
    ready(503);
    restore_file(&gatepost.path("app.db"), &contents);
    ready(200);
    assert_eq!(gatepost.json(&["sources"], b"", 0)["state"], "up");
    assert!(server.get("/metrics").body.contains("gatepost_source_questions_total{source=\"app\"} 0"));
}

#[test]
fn a_broken_first_source_opens_no_door_to_the_second() {
    let config = format!(
        "[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/app.db\"\n{WORLD_QUERIES}\n\
         [source.twin]\nkind = \"file\"\npath = \"FOLDER/twin.toml\"\n\
         [password]\naccept_weak = true\n\
         [realm.default]\npassword = [\"app\", \"twin\"]\ngroups = [\"app\"]\n"
    );
    let gatepost = Gatepost::with_config(&config).var("CACHE", "none");
    world_tables(&gatepost.path("app.db"));
    // Somebody else of the same login, and one who is only here.
    gatepost.write(
        "twin.toml",
        "[user.calvin]\nhash = \"klein\"\nscheme = \"plaintext\"\n\
         [user.stupendous]\nhash = \"man of might\"\nscheme = \"plaintext\"\n",
    );
    let server = gatepost.serve();
    let ask = |login, password| server.login("/auth/nginx", login, password).status;
    assert_eq!(ask("calvin", RIGHT), 200);
    assert_eq!(ask("calvin", "klein"), 401, "the first source decides about its own");
    assert_eq!(ask("stupendous", "man of might"), 200);
    let contents = break_file(&gatepost.path("app.db"));
    assert_eq!(ask("calvin", "klein"), 500, "calvin is the first source's, whatever state it is in");
    assert_eq!(ask("calvin", RIGHT), 500);
    assert_eq!(ask("susie", "derkins"), 500, "the second source does not know her, the first can't tell");
    restore_file(&gatepost.path("app.db"), &contents);
    assert_eq!(ask("calvin", "klein"), 401);
    assert_eq!(ask("calvin", RIGHT), 200);
}

#[test]
fn an_answer_from_memory_outlives_an_outage_only_as_an_answer() {
    let config = format!("[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/app.db\"\n{WORLD_QUERIES}");
    let gatepost = Gatepost::with_config(&config).var("CACHE_TTL", "1h");
    world_tables(&gatepost.path("app.db"));
    let server = gatepost.serve();
    let ask = |login, password| server.login("/auth/nginx", login, password).status;
    // Twice: the first login makes a better hash, which is not the one that was remembered.
    assert_eq!((ask("calvin", RIGHT), ask("calvin", RIGHT)), (200, 200));
    let contents = break_file(&gatepost.path("app.db"));
    assert_eq!(ask("calvin", RIGHT), 200, "remembered, and not older than configured");
    assert_eq!(ask("susie", "derkins"), 500, "not remembered");
    // Forgotten on demand: from now on nobody can tell.
    gatepost.must(&["cache", "flush", "--all"], b"");
    assert_eq!(ask("calvin", RIGHT), 500);
    restore_file(&gatepost.path("app.db"), &contents);
    assert_eq!((ask("calvin", RIGHT), ask("susie", "derkins")), (200, 200), "no error was remembered");
}

#[test]
fn a_broken_file_keeps_its_contents_and_turns_red() {
    let gatepost = Gatepost::with_config("[source.people]\nkind = \"file\"\npath = \"FOLDER/people.toml\"\n");
    let file = gatepost.write("people.toml", &world_toml());
    let server = gatepost.serve();
    assert_eq!(server.login("/auth/nginx", "calvin", RIGHT).status, 200);
    let contents = break_file(&file);
    // Somebody who was not asked for before, so that the file is looked at.
    assert_eq!(server.login("/auth/nginx", "susie", "derkins").status, 200);
    assert_eq!(server.get("/readyz").status, 503);
    let row = gatepost.json(&["sources"], b"", 0);
    assert_eq!(row["state"], "down");
    assert!(row["last_error"].as_str().unwrap().contains("people.toml"), "{row}");
    restore_file(&file, &contents);
    assert_eq!(server.login("/auth/nginx", "z\u{f6}e", "x").status, 401);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn an_unreadable_stored_hash_is_a_failure_and_not_a_wrong_password() {
    let gatepost = Gatepost::with_config("[source.app]\nkind = \"file\"\npath = \"FOLDER/people.toml\"\n");
    gatepost.write("people.toml", "[user.calvin]\nhash = \"$2b$04$not-a-hash\"\n");
    let server = gatepost.serve();
    assert_eq!(server.login("/auth/nginx", "calvin", RIGHT).status, 500);
    let row = gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 3);
    assert_eq!((&row["error"], &row["decision"]), (&Value::from("corrupt"), &Value::Null));
    // A weak scheme that nobody accepts is the same: nobody said that the password is wrong.
    gatepost.write("people.toml", "[user.calvin]\nhash = \"hobbes\"\nscheme = \"plaintext\"\n");
    gatepost.must(&["cache", "flush", "--all"], b"");
    assert_eq!(server.login("/auth/nginx", "calvin", RIGHT).status, 500);
    assert_eq!(gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 3)["decision"], Value::Null);
}

#[test]
fn no_command_makes_an_empty_store_under_a_running_server() {
    let gatepost = Gatepost::new();
    gatepost.must(&["user", "add", "calvin"], b"hobbes the tiger");
    let server = gatepost.serve();
    let login = || server.login("/auth/forward", "calvin", "hobbes the tiger").status;
    assert_eq!(login(), 200);
    let (here, away) = (gatepost.data().join("gatepost.db"), gatepost.data().join("away.db"));
    std::fs::rename(&here, &away).unwrap();
    gatepost.must(&["cache", "flush", "--all"], b"");
    for args in [
        &["config", "show"][..],
        &["config", "check"],
        &["check", "group", "calvin", "staff", "--local"],
        &["check", "group", "calvin", "staff"],
        &["user", "show", "calvin"],
    ] {
        let row = gatepost.json(args, b"", 3);
        assert_eq!(row["decision"], Value::Null, "{row}");
        assert!(!here.exists(), "{args:?} has made a store");
    }
    assert_eq!(login(), 503);
    assert_eq!(server.get("/readyz").status, 503);
    std::fs::rename(&away, &here).unwrap();
    until(|| login() == 200, "the store answers again");
}
