//! A change made on the command line is in the server's next answer, also where it had cached the old one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{Gatepost, Nginx, Server, skipped};
use serde_json::Value;

const RIGHT: &str = "transmogrifier";
const NEW: &str = "time machine, boxed";

/// A server whose caches live so long that only an invalidation can be the reason for a new answer.
fn installed() -> (Gatepost, Server) {
    let gatepost = Gatepost::new().var("CACHE_TTL", "1h");
    // Nobody but us: the first start's administrator is another test's affair.
    let server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin", "--group", "staff"], RIGHT.as_bytes());
    (gatepost, server)
}

/// Asks twice, so that the second answer comes from memory; both must be the same.
#[track_caller]
fn cached(server: &Server, path: &str, password: &str, status: u16) {
    for _ in 0..2 {
        assert_eq!(server.login(path, "calvin", password).status, status, "{path}");
    }
}

/// Asks once.
#[track_caller]
fn next(server: &Server, path: &str, password: &str, status: u16) {
    assert_eq!(server.login(path, "calvin", password).status, status, "{path}: the next answer");
}

fn hits(gatepost: &Gatepost) -> u64 {
    let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
    let all = "accounts, groups, rights, tokens, remembered passwords, owners, and what voids them";
    assert_eq!(rows.len(), 7, "{all}");
    rows.iter().filter_map(|row| row["hits"].as_u64()).sum()
}

#[test]
fn a_changed_password_counts_at_once() {
    let (gatepost, server) = installed();
    cached(&server, "/auth/nginx", RIGHT, 200);
    assert!(hits(&gatepost) > 0, "the answer came from memory");
    gatepost.must(&["user", "passwd", "calvin"], NEW.as_bytes());
    next(&server, "/auth/nginx", RIGHT, 401);
    next(&server, "/auth/nginx", NEW, 200);
}

#[test]
fn a_lock_counts_at_once_and_so_does_its_end() {
    let (gatepost, server) = installed();
    cached(&server, "/auth/nginx", RIGHT, 200);
    gatepost.must(&["user", "lock", "calvin"], b"");
    next(&server, "/auth/nginx", RIGHT, 401);
    let row = gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 1);
    assert_eq!(row["reason"], "locked");
    gatepost.must(&["user", "unlock", "calvin"], b"");
    next(&server, "/auth/nginx", RIGHT, 200);
}

#[test]
fn a_group_counts_at_once_behind_nginx() {
    if skipped("nginx") {
        return;
    }
    let (gatepost, server) = installed();
    let nginx = Nginx::start(&gatepost, &server, &["?group=staff", ""]);
    for _ in 0..2 {
        let response = nginx.login(0, "calvin", RIGHT);
        assert_eq!((response.status, response.body.as_str()), (200, "calvin|staff"));
    }
    gatepost.must(&["group", "remove", "calvin", "staff"], b"");
    assert_eq!(nginx.login(0, "calvin", RIGHT).status, 403);
    assert_eq!(nginx.login(1, "calvin", RIGHT).body, "calvin|");
    gatepost.must(&["group", "add", "calvin", "staff"], b"");
    assert_eq!(nginx.login(0, "calvin", RIGHT).body, "calvin|staff");
}

#[test]
fn a_right_counts_at_once() {
    let (gatepost, server) = installed();
    gatepost.must(&["object", "add", "doc", "1"], b"");
    let read = "/auth/nginx?domain=doc&id=1&mode=read";
    cached(&server, read, RIGHT, 403);
    gatepost.must(&["object", "grant", "calvin", "doc", "1", "read"], b"");
    cached(&server, read, RIGHT, 200);
    gatepost.must(&["object", "revoke", "calvin", "doc", "1", "read"], b"");
    next(&server, read, RIGHT, 403);
    gatepost.must(&["object", "grant", "calvin", "doc", "1", "read"], b"");
    cached(&server, read, RIGHT, 200);
    gatepost.must(&["object", "delete", "doc", "1"], b"");
    next(&server, read, RIGHT, 403);
    let row = gatepost.json(&["check", "object", "calvin", "doc", "1", "read"], b"", 1);
    assert_eq!(row["decision"], "not_found");
}

#[test]
fn a_deleted_user_is_gone_at_once_and_a_namesake_inherits_nothing() {
    let (gatepost, server) = installed();
    gatepost.must(&["object", "add", "doc", "1"], b"");
    gatepost.must(&["object", "grant", "calvin", "doc", "1", "read"], b"");
    let read = "/auth/nginx?domain=doc&id=1&mode=read";
    cached(&server, "/auth/nginx?group=staff", RIGHT, 200);
    cached(&server, read, RIGHT, 200);
    gatepost.must(&["user", "delete", "calvin"], b"");
    next(&server, "/auth/nginx", RIGHT, 401);
    let row = gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 1);
    assert_eq!(row["reason"], "unknown_user");
    gatepost.must(&["user", "add", "calvin"], NEW.as_bytes());
    next(&server, "/auth/nginx", RIGHT, 401);
    next(&server, "/auth/nginx", NEW, 200);
    next(&server, "/auth/nginx?group=staff", NEW, 403);
    next(&server, read, NEW, 403);
}

#[test]
fn a_new_user_counts_at_once_although_the_login_was_known_to_be_nobodys() {
    let (gatepost, server) = installed();
    for _ in 0..2 {
        assert_eq!(server.login("/auth/nginx", "susie", NEW).status, 401);
    }
    let row = gatepost.json(&["check", "password", "susie"], NEW.as_bytes(), 1);
    assert_eq!((&row["reason"], &row["cache"]), (&Value::from("unknown_user"), &Value::from("hit")));
    gatepost.must(&["user", "add", "susie"], NEW.as_bytes());
    assert_eq!(server.login("/auth/nginx", "susie", NEW).status, 200);
}

#[test]
fn an_imported_user_counts_at_once() {
    let (gatepost, server) = installed();
    assert_eq!(server.login("/auth/nginx", "hobbes", "hobbes").status, 401);
    let hash = "$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";
    let file = gatepost.write("htpasswd", &format!("hobbes:{hash}\n"));
    let row = gatepost.json(&["user", "import", "htpasswd", file.to_str().unwrap()], b"", 0);
    assert_eq!(row["added"], 1);
    assert_eq!(server.login("/auth/nginx", "hobbes", "hobbes").status, 200);
}

#[test]
fn expire_and_flush_make_the_next_answer_a_miss() {
    let (gatepost, server) = installed();
    let ask = || gatepost.json(&["check", "group", "calvin", "staff"], b"", 0)["cache"].clone();
    for about in [
        &["cache", "expire", "--user", "calvin"][..],
        &["cache", "flush", "--user", "calvin"],
        &["cache", "expire", "--group", "staff"],
        &["cache", "flush", "--realm", "default"],
        &["cache", "flush", "--all"],
    ] {
        let _ = ask();
        assert_eq!(ask(), "hit", "before {about:?}");
        gatepost.must(about, b"");
        assert_eq!(ask(), "miss", "after {about:?}");
    }
    gatepost.must(&["object", "add", "doc", "1"], b"");
    let ask = || gatepost.json(&["check", "object", "calvin", "doc", "1", "read"], b"", 1)["cache"].clone();
    let _ = ask();
    assert_eq!(ask(), "hit");
    gatepost.must(&["cache", "flush", "--object", "doc:1"], b"");
    assert_eq!(ask(), "miss");
    drop(server);
}

#[test]
fn the_second_question_is_a_hit_and_the_counters_say_so() {
    let (gatepost, server) = installed();
    let ask = || gatepost.json(&["check", "password", "calvin"], RIGHT.as_bytes(), 0);
    let counters = |kind: &str| {
        let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
        let row = rows.into_iter().find(|row| row["cache"] == kind).unwrap();
        ["hits", "misses", "loads", "entries"].map(|name| row[name].as_u64().unwrap())
    };
    assert_eq!(ask()["cache"], "miss");
    let [_, misses, loads, entries] = counters("accounts");
    assert!(misses > 0 && loads > 0 && entries == 1, "{misses} {loads} {entries}");
    let [hits, ..] = counters("accounts");
    assert_eq!(ask()["cache"], "hit");
    let [more_hits, same_misses, same_loads, _] = counters("accounts");
    assert!(more_hits > hits, "{more_hits} after {hits}");
    assert_eq!((same_misses, same_loads), (misses, loads));
    // Prometheus tells the same.
    let metrics = server.get("/metrics").body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("gatepost_cache_hits_total{") && line.contains("cache=\"accounts\""));
    assert_eq!(line.unwrap().rsplit(' ').next().unwrap(), more_hits.to_string());
}

#[test]
fn a_change_counts_at_once_whatever_the_kind_of_cache() {
    for kind in auth_cache::kinds().iter().filter(|kind| kind.factory().is_some()) {
        let gatepost = Gatepost::new().var("CACHE", kind.name).var("CACHE_TTL", "1h");
        let server = gatepost.serve();
        let logged = server.logged();
        assert_eq!(
            logged.matches("grows without bound").count(),
            usize::from(kind.name == "dict"),
            "{logged}"
        );
        gatepost.must(&["user", "add", "calvin", "--group", "staff"], RIGHT.as_bytes());
        let staff = "/auth/nginx?group=staff";
        cached(&server, staff, RIGHT, 200);
        assert!(hits(&gatepost) > 0, "{}: the answer came from memory", kind.name);
        gatepost.must(&["group", "remove", "calvin", "staff"], b"");
        next(&server, staff, RIGHT, 403);
        cached(&server, "/auth/nginx", RIGHT, 200);
        gatepost.must(&["user", "lock", "calvin"], b"");
        next(&server, "/auth/nginx", RIGHT, 401);
        gatepost.must(&["user", "unlock", "calvin"], b"");
        cached(&server, "/auth/nginx", RIGHT, 200);
        gatepost.must(&["user", "passwd", "calvin"], NEW.as_bytes());
        next(&server, "/auth/nginx", RIGHT, 401);
        next(&server, "/auth/nginx", NEW, 200);
        let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
        assert!(rows.iter().any(|row| row["kind"] == kind.name), "{rows:?}");
        assert!(rows.last().unwrap()["invalidations"].as_u64().unwrap() >= 5, "{rows:?}");
        assert_eq!(rows[0]["bound"].is_null(), kind.name == "dict", "{rows:?}");
    }
}

#[test]
fn a_cache_is_bounded_in_bytes_if_that_is_what_is_said() {
    let gatepost = Gatepost::new().var("CACHE_SIZE", "1MiB");
    let server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin", "--group", "staff"], RIGHT.as_bytes());
    cached(&server, "/auth/nginx?group=staff", RIGHT, 200);
    let rows = gatepost.run(&["cache", "stats", "--json"]).expect(0).rows();
    let accounts = &rows[0];
    assert_eq!(accounts["bound"]["bytes"], (1 << 20) + (1 << 17), "{accounts}");
    let bytes = accounts["bytes"].as_u64().unwrap();
    assert!((100..2_000).contains(&bytes), "of one account: {accounts}");
    let words = gatepost.run(&["cache", "stats"]).expect(0).stdout;
    assert!(words.contains("bound 1179648 bytes"), "{words}");
    assert!(words.starts_with("local: cache accounts, realm default, kind ttl, hits "), "{words}");
    let metrics = server.get("/metrics").body;
    let line = "gatepost_cache_bound_bytes{realm=\"default\",source=\"local\",cache=\"accounts\"} 1179648";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let shown = gatepost.json(&["config", "show"], b"", 0);
    assert_eq!(shown["cache"]["size"], "1MiB");
    let refused = gatepost.run_in(&["config", "check"], &[("CACHE_SIZE", "1MB")]).expect(2).stderr;
    assert!(refused.contains("environment CACHE_SIZE: cache.size: `1MB` is not a size"), "{refused}");
}

#[test]
fn with_no_cache_every_question_is_asked() {
    let gatepost = Gatepost::new().var("CACHE", "none");
    let _server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin", "--group", "staff"], RIGHT.as_bytes());
    for _ in 0..2 {
        let row = gatepost.json(&["check", "group", "calvin", "staff"], b"", 0);
        assert_eq!((&row["decision"], &row["cache"]), (&Value::from("member"), &Value::from("off")));
    }
    let words = gatepost.run(&["cache", "stats"]).expect(0).stdout;
    assert_eq!(words.lines().next(), Some("no cache (kind none)"), "{words}");
}
