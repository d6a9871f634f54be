//! An outage of a source, through the whole stack: never a yes, never a no, and over as soon as it is over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{
    Gatepost, Nginx, Server, WORLD_QUERIES, break_file, restore_file, skipped, stopwatch, until,
    world_tables, world_toml,
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

/// A server with an embedded store and two people, who have logged in.
fn embedded(vars: &[(&str, &str)]) -> (Gatepost, Server) {
    let gatepost = vars.iter().fold(Gatepost::new(), |made, (name, value)| made.var(name, value));
    let server = gatepost.serve();
    for login in ["calvin", "susie"] {
        gatepost.must(&["user", "add", login, "--group", "staff"], TIGER.as_bytes());
        assert_eq!(server.login("/auth/nginx?group=staff", login, TIGER).status, 200);
    }
    (gatepost, server)
}

/// Takes the embedded store away while it lives, and puts it back when dropped.
struct Away(std::path::PathBuf, std::path::PathBuf);

impl Away {
    fn new(gatepost: &Gatepost) -> Self {
        let away = Self(gatepost.data().join("gatepost.db"), gatepost.data().join("away.db"));
        std::fs::rename(&away.0, &away.1).unwrap();
        away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        std::fs::rename(&self.1, &self.0).unwrap();
    }
}

const TIGER: &str = "hobbes the tiger";

fn counted(server: &Server, sample: &str) -> u64 {
    let page = server.get("/metrics").body;
    let line = page.lines().find_map(|line| line.strip_prefix(sample)).unwrap_or_else(|| panic!("{page}"));
    line.trim().parse().unwrap()
}

#[test]
fn during_an_outage_old_answers_let_known_users_in_and_nobody_who_was_invalidated() {
    let (gatepost, server) = embedded(&[("CACHE_TTL", "200ms"), ("GATEPOST__CACHE__STALE_IF_ERROR", "1m")]);
    assert!(server.logged().contains("answers live up to"), "{}", server.logged());
    let check =
        |login: &str, exit| gatepost.json(&["check", "password", login, "--explain"], TIGER.as_bytes(), exit);
    let away = Away::new(&gatepost);
    gatepost.must(&["cache", "expire", "--user", "susie"], b"");
    until(|| check("calvin", 0)["cache"] == "stale", "an old answer stands in");
    let row = check("calvin", 0);
    assert_eq!((&row["decision"], &row["cache"]), (&Value::from("accepted"), &Value::from("stale")));
    let steps = row["steps"].as_array().unwrap();
    let stale = steps.iter().find(|step| step["outcome"].as_str().unwrap().contains("stale")).unwrap();
    // A life is up to a tenth shorter than configured, and the clock that ends it a little ahead.
    assert!(stale["age_ms"].as_u64().unwrap() >= 100, "{row}");
    assert_eq!(server.login("/auth/forward?group=staff", "calvin", TIGER).status, 200);
    assert!(server.logged().contains("cache=\"stale\""), "the audit log tells: {}", server.logged());
    // The password may have been changed meanwhile: an old answer refuses nobody.
    let wrong = gatepost.json(&["check", "password", "calvin"], b"not-his-password", 3);
    assert_eq!((&wrong["decision"], &wrong["cache"]), (&Value::Null, &Value::from("stale")));
    // Of susie nothing is known any more: an outage is no answer.
    assert_eq!(check("susie", 3)["decision"], Value::Null);
    assert_eq!(server.login("/auth/forward", "susie", TIGER).status, 503);
    assert_eq!(server.get("/readyz").status, 503, "old answers hide no outage");
    let accounts = "gatepost_cache_stale_total{realm=\"default\",source=\"local\",cache=\"accounts\"} ";
    assert!(counted(&server, accounts) > 0);
    let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
    assert!(rows[0]["stale"].as_u64().unwrap() > 0 && rows[0]["max_stale_age_ms"].as_u64().unwrap() >= 100);
    let number = |key: &str| rows[0][key].as_u64().unwrap();
    assert_eq!((number("lifetime_ms"), number("stale_limit_ms")), (200, 60_200));
    assert!(number("max_age_ms") <= number("lifetime_ms"), "no hit is older than it may be: {}", rows[0]);
    assert!(number("max_stale_age_ms") <= number("stale_limit_ms"), "{}", rows[0]);
    drop(away);
    until(|| server.login("/auth/forward", "susie", TIGER).status == 200, "the source is asked again");
    until(|| check("calvin", 0)["cache"] != "stale", "and so it is about him");
}

#[test]
fn unless_it_is_configured_an_outage_is_no_answer_once_the_old_one_has_ended() {
    let (gatepost, server) = embedded(&[("CACHE_TTL", "200ms")]);
    let _away = Away::new(&gatepost);
    until(|| server.login("/auth/forward", "calvin", TIGER).status == 503, "the old answer has ended");
    let row = gatepost.json(&["check", "password", "calvin"], TIGER.as_bytes(), 3);
    assert_eq!((&row["decision"], &row["source"]), (&Value::Null, &Value::from("local")));
}

#[test]
fn a_dead_source_costs_few_questions_and_answers_again_without_a_restart() {
    let (gatepost, server) = embedded(&[]);
    let questions = || counted(&server, "gatepost_source_questions_total{source=\"local\"} ");
    let backing_off = || counted(&server, "gatepost_source_backing_off{source=\"local\"} ");
    let left_alone = || gatepost.json(&["sources"], b"", 0)["left_alone_ms"].clone();
    assert_eq!((backing_off(), left_alone()), (0, Value::Null));
    gatepost.must(&["cache", "flush", "--all"], b"");
    let before = questions();
    let away = Away::new(&gatepost);
    let began = stopwatch();
    for _ in 0..200 {
        let response = server.login("/auth/forward", "calvin", TIGER);
        assert_eq!(response.status, 503);
        assert!(response.header("retry-after").is_some());
    }
    // Three, and then one after each pause, the shortest of which is 375 ms.
    let asked = questions() - before;
    let most = 4 + began.elapsed().as_millis() / 375;
    assert!((3..=most).contains(&asked.into()), "{asked} questions, not {most} at most");
    until(
        || {
            assert_eq!(server.login("/auth/forward", "calvin", TIGER).status, 503);
            backing_off() == 1 && left_alone().as_u64().is_some_and(|left| left <= 5_000)
        },
        "the source is left alone",
    );
    let row = gatepost.json(&["check", "password", "calvin", "--explain"], TIGER.as_bytes(), 3);
    let steps = row["steps"].to_string();
    assert!(steps.contains("left alone for another") || steps.contains("tries it now"), "{row}");
    drop(away);
    until(|| server.login("/auth/forward", "calvin", TIGER).status == 200, "the source answers again");
    assert_eq!((backing_off(), left_alone()), (0, Value::Null));
    let told = ["leave this source alone", "ask this source again"].map(|words| server.logged().find(words));
    assert!(told[0].is_some() && told[0] < told[1], "{}", server.logged());
}
