//! The command line is a contract: exit statuses and JSON fields, with a server and without.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::path::Path;

use integration_tests::{Gatepost, WORLD_QUERIES, world_tables};
use serde_json::{Value, json};

const RIGHT: &str = "transmogrifier";

/// Runs a command; the object that it prints must have these fields, with these values.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "a `json!` in place reads best")]
fn check(gatepost: &Gatepost, line: &str, input: &str, exit: i32, fields: Value) -> Value {
    let args: Vec<_> = line.split(' ').collect();
    let row = gatepost.json(&args, input.as_bytes(), exit);
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(row.get(name), Some(value), "{line}: {name} in {row}");
    }
    row
}

/// Runs a command that must be refused as wrong use, and returns the complaint.
#[track_caller]
fn refused(gatepost: &Gatepost, args: &[&str], words: &[&str]) {
    let done = gatepost.run(args).expect(2);
    assert_eq!(done.stdout, "", "what is wrong is said on standard error");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} in {}", done.stderr);
    }
}

/// Everything that a user, a group and an object go through, in one order.
fn a_life(gatepost: &Gatepost) {
    let check = |line: &str, input: &str, exit, fields| check(gatepost, line, input, exit, fields);
    let list = |line: &str| {
        let mut args: Vec<_> = line.split(' ').collect();
        args.push("--json");
        gatepost.run(&args).expect(0).rows()
    };

    check("user add calvin", "short", 2, json!({"error": "invalid"}));
    check("user add calvin", "", 2, json!({"error": "invalid"}));
    check(
        "user add calvin --group staff --group admin",
        RIGHT,
        0,
        json!({"login": "calvin", "realm": "default", "groups": ["staff", "admin"], "changed": true}),
    );
    check("user add Calvin", RIGHT, 1, json!({"login": "calvin", "reason": "exists"}));
    check("user add susie --hash nonsense", "", 2, json!({"error": "invalid"}));
    check("user add susie --hash hobbes --scheme nope", "", 2, json!({"error": "invalid"}));
    check("user add susie --scheme plaintext --hash hobbes", "", 0, json!({"changed": true}));
    let shown = check("user show calvin", "", 0, json!({"login": "calvin", "groups": ["admin", "staff"]}));
    assert_eq!((&shown["locked"], &shown["has_password"]), (&json!(false), &json!(true)));
    check("user show nobody", "", 1, json!({"reason": "unknown_user"}));
    let logins: Vec<_> = list("user list").into_iter().map(|row| row["login"].clone()).collect();
    assert!(logins.contains(&json!("calvin")) && logins.contains(&json!("susie")), "{logins:?}");

    let id = &shown["id"];
    let found = check(
        "check password CALVIN",
        RIGHT,
        0,
        json!({"decision": "accepted", "login": "calvin", "id": id, "source": "local", "realm": "default"}),
    );
    assert!(
        found["elapsed_us"].is_u64() && found["cache"].is_string() && found.get("reason").is_none(),
        "{found}"
    );
    assert!(found.get("steps").is_none(), "steps are for --explain");
    check("check password calvin", "wrong", 1, json!({"decision": "rejected", "reason": "bad_password"}));
    check("check password calvin", "", 1, json!({"decision": "rejected", "reason": "bad_password"}));
    check("check password nobody", RIGHT, 1, json!({"decision": "rejected", "reason": "unknown_user"}));
    check("check password \u{200b}", RIGHT, 1, json!({"decision": "rejected", "reason": "unknown_user"}));
    // One line end is not part of the password; two are.
    check("check password calvin", &format!("{RIGHT}\n"), 0, json!({"decision": "accepted"}));
    check("check password calvin", &format!("{RIGHT}\r\n"), 0, json!({"decision": "accepted"}));
    check("check password calvin", &format!("{RIGHT}\n\n"), 1, json!({"decision": "rejected"}));
    check("check password calvin", &format!("{RIGHT} "), 1, json!({"decision": "rejected"}));
    check("check password calvin --realm other", RIGHT, 2, json!({"error": "invalid"}));

    let member = json!({"decision": "member", "login": "calvin", "group": "staff", "source": "local"});
    check("check group calvin staff", "", 0, member);
    check("check group calvin ghosts", "", 1, json!({"decision": "not_member"}));
    check("check group nobody staff", "", 1, json!({"decision": "not_member", "reason": "unknown_user"}));
    check("group add susie staff", "", 0, json!({"login": "susie", "group": "staff", "changed": true}));
    check("group add susie staff", "", 0, json!({"changed": false}));
    check("group add nobody staff", "", 1, json!({"reason": "unknown_user"}));
    check("group remove susie ghosts", "", 0, json!({"changed": false}));
    check("group remove susie staff", "", 0, json!({"changed": true}));
    let groups = |line: &str| list(line).into_iter().map(|row| row["group"].clone()).collect::<Value>();
    assert_eq!(groups("group list calvin"), json!(["admin", "staff"]));
    assert_eq!(groups("group list susie"), json!([]));
    check("group list nobody", "", 1, json!({"reason": "unknown_user"}));

    // A domain is declared by its first object.
    check("check object calvin doc 1", "", 2, json!({"error": "invalid"}));
    check("object grant calvin doc 1 read", "", 2, json!({"error": "invalid"}));
    check("object add doc 1", "", 0, json!({"domain": "doc", "object": "1", "changed": true}));
    check("object add doc 1", "", 0, json!({"changed": false}));
    check(
        "object grant calvin doc 1 read",
        "",
        0,
        json!({"login": "calvin", "mode": "read", "changed": true}),
    );
    check("object grant nobody doc 1 read", "", 1, json!({}));
    check("object grant calvin doc 9 read", "", 1, json!({}));
    let allowed =
        json!({"decision": "allow", "login": "calvin", "domain": "doc", "object": "1", "mode": "read"});
    check("check object calvin doc 1 read", "", 0, allowed);
    check("check object calvin doc 1", "", 0, json!({"decision": "allow", "mode": null}));
    check("check object calvin doc 1 write", "", 1, json!({"decision": "deny"}));
    check("check object susie doc 1 read", "", 1, json!({"decision": "deny"}));
    check("check object calvin doc 9 read", "", 1, json!({"decision": "not_found"}));
    check("check object nobody doc 1 read", "", 1, json!({"decision": "deny", "reason": "unknown_user"}));
    check("check object calvin planet 1", "", 2, json!({"error": "invalid"}));
    check("object revoke calvin doc 1 read", "", 0, json!({"changed": true}));
    check("object revoke calvin doc 1 read", "", 0, json!({"changed": false}));
    check("object delete doc 9", "", 1, json!({"reason": "not_found"}));
    check("object delete doc 1", "", 0, json!({"changed": true}));

    check("user lock calvin", "", 0, json!({"locked": true, "changed": true}));
    check("check password calvin", RIGHT, 1, json!({"decision": "rejected", "reason": "locked"}));
    check("check password calvin", "wrong", 1, json!({"reason": "bad_password"}));
    check("user unlock calvin", "", 0, json!({"locked": false, "changed": true}));
    check("user lock nobody", "", 1, json!({"reason": "unknown_user"}));
    check("user passwd calvin", "another secret", 0, json!({"login": "calvin", "changed": true}));
    check("user passwd nobody", "another secret", 1, json!({"reason": "unknown_user"}));
    check("user passwd calvin", "short", 2, json!({"error": "invalid"}));
    check("check password calvin", "another secret", 0, json!({"decision": "accepted"}));
    check("user delete calvin", "", 0, json!({"changed": true}));
    check("user delete calvin", "", 1, json!({"reason": "unknown_user"}));
    check("check group calvin staff", "", 1, json!({"reason": "unknown_user"}));

    check("sources", "", 0, json!({"source": "local", "kind": "sql", "used": true}));
}

#[test]
fn a_life_without_a_server() {
    a_life(&Gatepost::new());
}

#[test]
fn caches_are_those_of_a_running_server() {
    let gatepost = Gatepost::new();
    for line in ["cache flush --all", "cache expire --user susie", "cache stats", "cache stats --local"] {
        let row = check(&gatepost, line, "", 3, json!({"error": "unavailable"}));
        let told = format!("unavailable: no server runs on {}", gatepost.data().display());
        assert_eq!(row["message"], told, "{line}");
    }
    assert!(!gatepost.data().exists(), "nothing was made");
    let _server = gatepost.serve();
    let check = |line: &str, exit, fields| check(&gatepost, line, "", exit, fields);
    check("cache flush --all", 0, json!({"flushed": ["all"]}));
    check("cache expire --user susie --realm default", 0, json!({"expired": ["user"]}));
    check("cache flush --user susie --realm other", 2, json!({"error": "invalid"}));
    // What is refused has done nothing, not a part of it.
    gatepost.must(&["user", "add", "susie"], RIGHT.as_bytes());
    check("check group susie staff", 1, json!({"cache": "miss"}));
    check("cache flush --all --realm other", 2, json!({"error": "invalid"}));
    check("check group susie staff", 1, json!({"cache": "hit"}));
    check("cache flush --object doc", 2, json!({"error": "invalid"}));
    check("cache flush --all --local", 2, json!({"error": "invalid"}));
    check("cache stats --local", 2, json!({"error": "invalid"}));
    let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
    let kinds: Vec<_> = rows.iter().map(|row| row["cache"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["accounts", "groups", "access", "tokens", "memo", "owners", "fence"]);
}

#[test]
fn a_realm_of_any_name_is_the_one_that_is_meant_if_it_is_the_only_one() {
    let gatepost = Gatepost::with_config(
        "[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/app.db\"\n[realm.people]\npassword = [\"app\"]\ngroups = [\"app\"]\n",
    );
    for served in [false, true] {
        let server = served.then(|| gatepost.serve());
        let login = if served { "susie" } else { "calvin" };
        gatepost.must(&["user", "add", login, "--group", "staff"], RIGHT.as_bytes());
        let meant = json!({"decision": "member", "realm": "people"});
        check(&gatepost, &format!("check group {login} staff"), "", 0, meant.clone());
        check(&gatepost, &format!("check group {login} staff --realm people"), "", 0, meant);
        check(
            &gatepost,
            &format!("check group {login} staff --realm default"),
            "",
            2,
            json!({"error": "invalid"}),
        );
        if let Some(server) = server {
            let response = server.login("/auth/nginx", login, RIGHT);
            assert_eq!((response.status, response.header("remote-realm")), (200, Some("people")));
            check(&gatepost, "cache flush --user susie", "", 0, json!({"realm": "people"}));
        }
    }
    let several =
        Gatepost::with_config("[realm.a]\npassword = [\"local\"]\n[realm.b]\npassword = [\"local\"]\n");
    refused(&several, &["serve"], &["server.realm: no realm is called `default`", "known: a, b"]);
    refused(&several, &["config", "check"], &["server.realm"]);
}

#[test]
fn a_data_folder_with_too_long_a_name_is_none_for_a_server() {
    let gatepost = Gatepost::new();
    let long = gatepost.path(&"x".repeat(100));
    let vars = [("GATEPOST_DATA", long.to_str().unwrap())];
    let done = gatepost.run_in(&["serve"], &vars).expect(2);
    assert!(done.stderr.contains("for the admin socket in it there may be 96 at most"), "{}", done.stderr);
    // Where no server can listen, none does: the rest goes on without.
    for (args, exit) in [(["user", "list"], 0), (["cache", "stats"], 3)] {
        assert_eq!(gatepost.run_in(&args, &vars).exit, exit, "{args:?}");
    }
}

#[test]
fn checking_a_configuration_tells_what_may_not_be_meant() {
    let gatepost = Gatepost::new();
    let vars = [("CACHE", "dict"), ("GATEPOST__CACHE__STALE_IF_ERROR", "1m")];
    let told = gatepost.run_in(&["config", "check"], &vars).expect(0);
    for warning in
        ["gatepost: warning: the cache `dict` grows without bound", "answers live up to 60s longer"]
    {
        assert!(told.stderr.contains(warning), "{}", told.stderr);
    }
    assert_eq!(told.stdout.trim(), "ok");
    let told = gatepost.run_in(&["config", "check", "--json"], &vars).expect(0);
    assert_eq!(told.rows()[0]["warnings"].as_array().unwrap().len(), 2);
    let told = gatepost.run_in(&["config", "check", "--probe"], &vars).expect(0);
    assert!(told.stderr.contains("grows without bound"), "{}", told.stderr);
    assert_eq!(gatepost.run(&["config", "check"]).expect(0).stderr, "");
}

#[test]
fn a_configuration_or_a_secret_that_anybody_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let gatepost = Gatepost::with_config("[source.app]\nkind = \"sql\"\nurl = { file = \"FOLDER/url\" }\n");
    gatepost.write("url", "sqlite::memory:\n");
    gatepost.must(&["config", "check"], b"");
    for name in ["url", "gatepost.toml"] {
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(gatepost.path(name), mode).unwrap();
        };
        set(0o646);
        refused(&gatepost, &["config", "check"], &[name, "anybody may write this file"]);
        refused(&gatepost, &["serve"], &[name, "anybody may write this file"]);
        set(0o644);
    }
}

#[test]
fn a_life_through_the_running_server() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    a_life(&gatepost);
    // It was the server that did it, not the command: the server's counters moved.
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("gatepost_logins_total{realm=\"default\",outcome=\"accepted\"}"), "{metrics}");
}

#[test]
fn local_composes_a_stack_of_its_own_beside_a_running_server() {
    let gatepost = Gatepost::new();
    let _server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    check(&gatepost, "check group calvin staff", "", 1, json!({"cache": "miss"}));
    check(&gatepost, "check group calvin staff", "", 1, json!({"cache": "hit"}));
    check(&gatepost, "check group calvin staff --local", "", 1, json!({"cache": "miss"}));
    check(&gatepost, "check group calvin staff", "", 1, json!({"cache": "hit"}));
}

#[test]
fn whoever_asks_for_json_gets_json() {
    let gatepost = Gatepost::new();
    let row = check(&gatepost, "print nginx", "", 0, json!({}));
    assert!(row["snippet"].as_str().unwrap().contains("auth_request"));
    check(&gatepost, "nonsense", "", 2, json!({"error": "invalid"}));
    check(&gatepost, "cache expire", "", 2, json!({"error": "invalid"}));
    check(&gatepost, "config check --bogus", "", 2, json!({"error": "invalid"}));
    // Too long to be read whole is no password, whatever its beginning is.
    let endless = "0".repeat(64 * 1024 + 1);
    check(&gatepost, "hash --scheme plaintext --verify 0", &endless, 2, json!({"error": "invalid"}));
}

#[test]
fn a_hash_is_made_and_verified_outside_any_configuration() {
    // Not even a configuration that can't be matters.
    let gatepost = Gatepost::with_config("nonsense = 1\n");
    for (scheme, start) in [(None, "$argon2id$"), (Some("argon2"), "$argon2id$"), (Some("bcrypt"), "$2b$")] {
        let mut args = vec!["hash"];
        args.extend(scheme.iter().flat_map(|name| ["--scheme", *name]));
        let hash = gatepost.json(&args, RIGHT.as_bytes(), 0)["hash"].as_str().unwrap().to_owned();
        assert!(hash.starts_with(start), "{hash}");
        let verify =
            |password: &str, exit| gatepost.json(&["hash", "--verify", &hash], password.as_bytes(), exit);
        assert_eq!(verify(RIGHT, 0)["decision"], "match");
        assert_eq!(verify("wrong", 1)["decision"], "mismatch");
        let plain = gatepost.run_with(&args, RIGHT.as_bytes()).expect(0);
        assert!(plain.stdout.starts_with(start) && plain.stdout.lines().count() == 1, "{}", plain.stdout);
    }
    for (args, error) in [
        (&["hash", "--scheme", "nope"][..], "invalid"),
        (&["hash", "--verify", "x", "--scheme", "nope"], "invalid"),
        (&["hash", "--verify", ""], "corrupt"),
        (&["hash", "--verify", "no such form"], "corrupt"),
        (&["hash", "--verify", "$2b$04$short"], "corrupt"),
    ] {
        assert_eq!(gatepost.json(args, RIGHT.as_bytes(), 2)["error"], error, "{args:?}");
    }
    // Costs more than the bound: refused before any work.
    let bomb =
        "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
    assert!(gatepost.json(&["hash", "--verify", bomb], b"x", 2)["error"].is_string());
}

#[test]
fn wrong_use_is_2_and_does_nothing() {
    let gatepost = Gatepost::new();
    for line in [
        "",
        "frobnicate",
        "check",
        "check group calvin",
        "check password",
        "check object calvin doc",
        "cache flush",
        "user add",
        "user add calvin --scheme plaintext",
        "config",
        "print apache",
        "serve now",
    ] {
        let args: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        assert_eq!(gatepost.run(&args).exit, 2, "gatepost {line}");
    }
    assert!(!gatepost.data().exists(), "nothing was made");
}

/// Checks a configuration that must be refused.
#[track_caller]
fn misconfigured(config: &str, words: &[&str]) {
    let gatepost = Gatepost::with_config(config);
    refused(&gatepost, &["config", "check"], words);
    refused(&gatepost, &["serve"], words);
    refused(&gatepost, &["check", "group", "calvin", "staff"], words);
    let row = gatepost.json(&["config", "check"], b"", 2);
    assert_eq!(row["error"], "misconfigured");
    assert!(row["message"].as_str().unwrap().contains(words[0]), "{row}");
}

#[test]
fn a_wrong_configuration_names_the_place_and_the_nearest_right_word() {
    misconfigured("[cach]\nkind = \"lru\"\n", &["gatepost.toml:1", "cach", "did you mean `cache`"]);
    misconfigured("[source.app]\nkind = \"sqll\"\n", &["gatepost.toml:2", "`sqll`", "did you mean `sql`"]);
    misconfigured(
        "[source.app]\nkind = \"file\"\npth = \"x\"\n",
        &["gatepost.toml:3", "source.app.pth", "did you mean `path`"],
    );
    misconfigured(
        "\n[realm.default]\npassword = [\"locl\"]\n",
        &["gatepost.toml:3", "realm.default.password", "did you mean `local`"],
    );
    misconfigured("[cache]\nkind = \"lur\"\n", &["gatepost.toml:2", "did you mean `lru`"]);
    misconfigured("[cache]\nttl = \"5 parsecs\"\n", &["gatepost.toml:2", "5 parsecs"]);
    misconfigured("[password]\naccept_weak = [\"apr_md5_cript\"]\n", &["gatepost.toml:2", "apr_md5_crypt"]);
    misconfigured(
        "[server]\nrealm = \"othr\"\n[realm.other]\npassword = [\"local\"]\n",
        &["gatepost.toml:2", "did you mean `other`"],
    );
    misconfigured("x = \n", &["gatepost.toml:1"]);
    misconfigured("[source.staff]\nkind = \"redis\"\n", &["gatepost.toml:1", "the key `url` is missing"]);
    // A shared cache has a url of its kind.
    for (kind, url) in [("redis", "memcached://h"), ("memcached", "redis://h"), ("tiered", "http://h")] {
        misconfigured(
            &format!("[cache]\nkind = \"{kind}\"\nurl = \"{url}\"\n"),
            &["gatepost.toml:3", "cache.url", &format!("the kind `{kind}` takes a url that begins with")],
        );
    }
}

#[test]
fn a_wrong_environment_is_refused_by_name() {
    let check = |name: &str, value: &str, words: &[&str]| {
        let gatepost = Gatepost::new().var(name, value);
        refused(&gatepost, &["config", "check"], words);
        refused(&gatepost, &["serve"], words);
    };
    check("CACHE", "reddis", &["environment CACHE", "did you mean `redis`"]);
    check("CACHE", "lrru", &["environment CACHE", "did you mean `lru`"]);
    check("CACHE_TTL", "5x", &["environment CACHE_TTL", "5x"]);
    check("CACHE_SIZE", "many", &["CACHE_SIZE"]);
    check("GATEPOST__CACH__KIND", "lru", &["environment GATEPOST__CACH__KIND", "did you mean `cache`"]);
    check("GATEPOST_CONFIG", "/nowhere/gatepost.toml", &["/nowhere/gatepost.toml"]);
    check("DATABASE_URL", "oracle:people", &["sqlite:"]);
}

#[test]
fn a_source_that_can_not_be_opened_stops_the_start() {
    let check = |config: &str, words: &[&str]| {
        let gatepost = Gatepost::with_config(config);
        gatepost.write("garbage.db", &"Z".repeat(8192));
        gatepost.write("people.toml", "[user.calvin]\nhsh = \"x\"\n");
        for verb in [&["serve"][..], &["config", "check"], &["sources"]] {
            let done = gatepost.run(verb);
            assert!(done.exit == 2 || done.exit == 3, "{verb:?}: {done:?}");
            for word in words {
                assert!(done.stderr.contains(word), "{word:?} in {}", done.stderr);
            }
        }
    };
    check(
        "[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/absent.db\"\nquery.account = \"SELECT 1 AS id\"\n",
        &["app"],
    );
    check("[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/garbage.db\"\n", &["app"]);
    check("[source.app]\nkind = \"file\"\npath = \"FOLDER/absent\"\n", &["app", "absent"]);
    check(
        "[source.app]\nkind = \"file\"\npath = \"FOLDER/people.toml\"\n",
        &["app", "people.toml", "line 2"],
    );
}

#[test]
fn a_query_that_the_database_refuses_is_a_wrong_configuration() {
    let config = format!("[source.app]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/app.db\"\n{WORLD_QUERIES}");
    let good = Gatepost::with_config(&config);
    world_tables(&good.path("app.db"));
    good.must(&["config", "check", "--probe"], b"");
    let bad = Gatepost::with_config(&config.replace("FROM person", "FROM persons"));
    world_tables(&bad.path("app.db"));
    let words = ["gatepost.toml:1: source.app: ", "query account", "no such table: persons"];
    refused(&bad, &["config", "check"], &words);
    let row = bad.json(&["config", "check"], b"", 2);
    assert!(row["message"].as_str().unwrap().contains("no such table: persons"), "{row}");
}

#[test]
fn the_composed_configuration_is_shown_and_can_be_read_again() {
    let gatepost = Gatepost::new().var("CACHE", "lru").var("GATEPOST__PASSWORD__MIN_LENGTH", "12");
    let shown = gatepost.run(&["config", "show"]).expect(0).stdout;
    let table: toml::Table = toml::from_str(&shown).unwrap();
    assert_eq!(table["cache"]["kind"].as_str(), Some("lru"));
    assert_eq!(table["password"]["min_length"].as_integer(), Some(12));
    let row = gatepost.json(&["config", "show"], b"", 0);
    assert_eq!(row["cache"]["kind"], "lru");
    check(&gatepost, "config check", "", 0, json!({"decision": "ok"}));
    check(&gatepost, "config check --probe", "", 0, json!({"source": "local", "state": "up"}));
    check(&gatepost, "user add calvin", "elevenchars", 2, json!({"error": "invalid"}));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let gatepost = Gatepost::with_config("[cache]\nkind = \"none\"\n");
    let kind = |args: &[&str], vars: &[(&str, &str)]| {
        let mut all = vec!["config", "show", "--json"];
        all.extend(args);
        gatepost.run_in(&all, vars).expect(0).json()["cache"]["kind"].clone()
    };
    let other = gatepost.write("other.toml", "[cache]\nkind = \"lru\"\n");
    let flag = ["--config", other.to_str().unwrap()];
    assert_eq!(kind(&[], &[]), "none");
    assert_eq!(kind(&[], &[("CACHE", "ttl")]), "ttl");
    assert_eq!(kind(&flag, &[]), "lru");
    assert_eq!(kind(&flag, &[("CACHE", "ttl")]), "ttl");
}

#[test]
fn a_source_that_can_not_be_written_to_says_so() {
    let gatepost = Gatepost::with_config("[source.people]\nkind = \"file\"\npath = \"FOLDER/htpasswd\"\n");
    gatepost.write("htpasswd", "calvin:$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe\n");
    check(&gatepost, "check password calvin", "hobbes", 0, json!({"source": "people"}));
    check(&gatepost, "user add susie", RIGHT, 2, json!({"error": "invalid"}));
}

#[test]
fn the_data_folder_and_what_is_in_it_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&gatepost.data()), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(gatepost.data()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 2, "a database and a socket");
    server.stop();
    assert!(!gatepost.data().join("admin.sock").exists(), "the socket goes with the server");
}

#[test]
fn explain_tells_every_step() {
    let gatepost = Gatepost::new();
    let _server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin", "--group", "staff"], RIGHT.as_bytes());
    let steps = |line: &str, input: &str, exit| {
        let row = check(&gatepost, line, input, exit, json!({}));
        let steps = row["steps"].as_array().unwrap().clone();
        let parts: Vec<_> = steps.iter().map(|step| step["part"].as_str().unwrap().to_owned()).collect();
        assert!(steps.iter().all(|step| step["outcome"].is_string()), "{row}");
        (row["hash_jobs"].as_u64().unwrap(), parts)
    };
    let has = |parts: &[String], part: &str| {
        assert!(parts.iter().any(|known| known == part), "{part} in {parts:?}")
    };
    let (jobs, parts) = steps("check password calvin --explain", "wrong", 1);
    assert_eq!(jobs, 1);
    ["login", "cache", "source", "hash"].iter().for_each(|part| has(&parts, part));
    let (jobs, parts) = steps("check password nobody --explain", "wrong", 1);
    assert_eq!(jobs, 1, "an unknown login costs the same");
    has(&parts, "login");
    let (_, parts) = steps("check group calvin staff --explain", "", 0);
    has(&parts, "source");
    // For people, a line a step.
    let words = gatepost.run_with(&["check", "password", "calvin", "--explain"], b"wrong").expect(1).stdout;
    assert!(
        words.starts_with("rejected: ") && words.contains("\n  login: calvin in realm default"),
        "{words}"
    );
}
