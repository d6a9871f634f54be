//! Commands on a stack in memory, and what becomes of their replies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Bound, CarrierStats, HearingStats, SharedStats};
use auth_core::{Clock, Error, ErrorKind};
use auth_password::HashedStats;
use auth_stack::Stack;
use auth_testkit::ManualClock;
use auth_testkit::servers::{Redis, RedisOptions, skipped};
use serde_json::{Value, json};

use crate::command::{Command, Credential, Reply, Secret};
use crate::{admin, figures, metrics, ops, output, serve};

const MANAGED: &str = "[password]\nargon2 = { memory_kib = 64, passes = 1 }\naccept_weak = [\"apr_md5_crypt\"]\n\
                       [source.local]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n";
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6"; // hobbes

async fn stack(text: &str) -> Arc<Stack> {
    Arc::new(Stack::builder().data("/nowhere").config(text).build().await.unwrap())
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn s(text: &str) -> String {
    text.to_owned()
}

/// Runs a command and checks its exit status and the fields that are given.
async fn check(stack: &Stack, command: Command, exit: u8, fields: Value) -> Value {
    let shown = format!("{command:?}");
    let reply = ops::run(stack, command).await;
    assert_eq!(reply.exit, exit, "{shown}: {:?}", reply.rows);
    let row = reply.rows.into_iter().next().unwrap_or_default();
    for (key, value) in fields.as_object().unwrap() {
        assert_eq!(row.get(key), Some(value), "{shown}: {key} of {row}");
    }
    row
}

fn check_password(login: &str, password: &str) -> Command {
    Command::CheckPassword {
        realm: Some(s("default")),
        login: s(login),
        password: secret(password),
        explain: false,
    }
}

fn check_group(login: &str, group: &str) -> Command {
    Command::CheckGroup { realm: Some(s("default")), login: s(login), group: s(group), explain: false }
}

fn check_object(login: &str, domain: &str, id: &str, mode: Option<&str>) -> Command {
    let mode = mode.map(str::to_owned);
    Command::CheckObject {
        realm: Some(s("default")),
        login: s(login),
        domain: s(domain),
        id: s(id),
        mode,
        explain: false,
    }
}

fn add(login: &str, groups: &[&str], credential: Credential) -> Command {
    let groups = groups.iter().map(|group| s(group)).collect();
    Command::UserAdd { realm: Some(s("default")), login: s(login), groups, credential }
}

fn ready(hash: &str, scheme: Option<&str>) -> Credential {
    Credential::Hash { hash: secret(hash), scheme: scheme.map(str::to_owned) }
}

#[tokio::test]
async fn users_come_change_and_go() {
    let stack = stack(MANAGED).await;
    let (realm, calvin) = (|| Some(s("default")), || s("calvin"));
    let added = json!({ "realm": "default", "login": "calvin", "groups": ["staff"], "changed": true });
    check(&stack, add("Calvin", &["staff"], ready(HASH, None)), 0, added).await;
    check(&stack, add("calvin", &[], ready(HASH, None)), 1, json!({ "reason": "exists" })).await;
    let accepted = json!({
        "decision": "accepted", "realm": "default", "login": "calvin", "id": 1, "source": "local", "cache": "miss",
    });
    check(&stack, check_password("calvin", "hobbes"), 0, accepted).await;
    let row = check(
        &stack,
        check_password("calvin", "wrong"),
        1,
        json!({ "decision": "rejected", "reason": "bad_password" }),
    )
    .await;
    assert!(row["elapsed_us"].is_u64() && row.get("steps").is_none());
    check(
        &stack,
        check_password("nobody", "x"),
        1,
        json!({ "decision": "rejected", "reason": "unknown_user" }),
    )
    .await;
    check(&stack, check_password("no body\u{7}", "x"), 1, json!({ "reason": "unknown_user" })).await;

    let passwd =
        |password: &str| Command::UserPasswd { realm: realm(), login: calvin(), password: secret(password) };
    check(&stack, passwd("short"), 2, json!({ "error": "invalid" })).await;
    check(&stack, passwd(""), 2, json!({ "error": "invalid" })).await;
    check(&stack, passwd("transmogrifier"), 0, json!({ "changed": true })).await;
    let known = json!({ "reason": "bad_password", "login": "calvin", "id": 1, "source": "local" });
    check(&stack, check_password("CALVIN", "hobbes"), 1, known).await;
    let row = check(&stack, check_password("nobody", "x"), 1, json!({ "login": "nobody" })).await;
    assert!(row.get("id").is_none() && row.get("source").is_none(), "{row}");
    check(&stack, check_password("calvin", "hobbes"), 1, json!({ "reason": "bad_password" })).await;
    check(&stack, check_password("calvin", "transmogrifier"), 0, json!({})).await;

    let lock = |locked| Command::UserLock { realm: realm(), login: calvin(), locked };
    check(&stack, lock(true), 0, json!({ "locked": true, "changed": true })).await;
    check(&stack, lock(true), 0, json!({ "changed": false })).await;
    check(&stack, check_password("calvin", "transmogrifier"), 1, json!({ "reason": "locked" })).await;
    check(&stack, lock(false), 0, json!({ "locked": false, "changed": true })).await;
    let shown = json!({ "login": "calvin", "groups": ["staff"], "locked": false, "disabled": false, "has_password": true });
    check(&stack, Command::UserShow { realm: realm(), login: calvin() }, 0, shown).await;
    let row = check(&stack, Command::UserList { realm: realm() }, 0, json!({ "login": "calvin" })).await;
    assert!(!row.to_string().contains("argon2id$"), "{row}");

    let delete = || Command::UserDelete { realm: realm(), login: calvin() };
    check(&stack, delete(), 0, json!({ "changed": true })).await;
    check(&stack, delete(), 1, json!({ "reason": "unknown_user" })).await;
    check(
        &stack,
        Command::UserShow { realm: realm(), login: calvin() },
        1,
        json!({ "reason": "unknown_user" }),
    )
    .await;
    check(&stack, passwd("transmogrifier"), 1, json!({ "reason": "unknown_user" })).await;
    check(&stack, lock(true), 1, json!({ "reason": "unknown_user" })).await;
}

#[tokio::test]
async fn wrong_use_is_told_from_a_no() {
    let stack = stack(MANAGED).await;
    let invalid = || json!({ "error": "invalid" });
    for command in [
        add("bad login", &[], ready(HASH, None)),
        add("calvin", &[""], ready(HASH, None)),
        add("calvin", &["a\u{7}b"], ready(HASH, None)),
        add("calvin", &[], ready("no hash", None)),
        add("calvin", &[], ready(HASH, Some("rot13"))),
        add("calvin", &[], Credential::Password(secret(""))),
        add("calvin", &[], Credential::Password(secret("seven77"))),
        add("calvin", &[], Credential::Hash { hash: Secret::new(vec![0xff]), scheme: None }),
        Command::UserList { realm: Some(s("nowhere")) },
        Command::CheckPassword {
            realm: Some(s("nowhere")),
            login: s("a"),
            password: secret("b"),
            explain: true,
        },
        check_object("calvin", "planet", "1", None),
        check_object("calvin", "", "1", None),
        Command::GroupAdd { realm: Some(s("default")), login: s("calvin"), group: s("") },
        Command::ObjectGrant {
            realm: Some(s("default")),
            login: s("calvin"),
            domain: s("doc"),
            id: s("1"),
            mode: s(""),
        },
        Command::UserImport { realm: Some(s("default")), file: secret("calvin\n") },
        Command::UserImport { realm: Some(s("default")), file: Secret::new(vec![0xff]) },
        Command::CacheVoid {
            user: None,
            group: None,
            object: Some(s("doc")),
            realm: None,
            all: false,
            forget: true,
        },
        Command::CacheVoid {
            user: None,
            group: None,
            object: None,
            realm: Some(s("nowhere")),
            all: false,
            forget: true,
        },
    ] {
        check(&stack, command, 2, invalid()).await;
    }
    check(&stack, Command::UserList { realm: Some(s("default")) }, 0, json!({})).await;
    assert_eq!(
        ops::run(&stack, Command::UserList { realm: Some(s("default")) }).await.rows,
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn groups_and_rights_are_given_and_taken() {
    let stack = stack(MANAGED).await;
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    let group = |add: bool, login: &str| {
        let (realm, login, group) = (Some(s("default")), s(login), s("staff"));
        if add {
            Command::GroupAdd { realm, login, group }
        } else {
            Command::GroupRemove { realm, login, group }
        }
    };
    let not = json!({ "decision": "not_member", "source": "local", "id": 1 });
    check(&stack, check_group("calvin", "staff"), 1, not.clone()).await;
    check(
        &stack,
        check_group("nobody", "staff"),
        1,
        json!({ "decision": "not_member", "reason": "unknown_user" }),
    )
    .await;
    check(&stack, group(true, "nobody"), 1, json!({ "reason": "unknown_user" })).await;
    check(&stack, group(true, "calvin"), 0, json!({ "changed": true })).await;
    check(&stack, group(true, "calvin"), 0, json!({ "changed": false })).await;
    check(&stack, check_group("CALVIN", "staff"), 0, json!({ "decision": "member" })).await;
    let list = |login: Option<&str>| Command::GroupList {
        realm: Some(s("default")),
        login: login.map(str::to_owned),
    };
    check(&stack, list(None), 0, json!({ "group": "staff" })).await;
    check(&stack, list(Some("calvin")), 0, json!({ "group": "staff" })).await;
    check(&stack, list(Some("nobody")), 1, json!({ "reason": "unknown_user" })).await;
    check(&stack, group(false, "calvin"), 0, json!({ "changed": true })).await;
    check(&stack, check_group("calvin", "staff"), 1, not).await;

    let object = |add: bool| {
        let (realm, domain, id) = (Some(s("default")), s("doc"), s("42"));
        if add {
            Command::ObjectAdd { realm, domain, id }
        } else {
            Command::ObjectDelete { realm, domain, id }
        }
    };
    let right = |grant: bool| {
        let (realm, login, domain, id, mode) =
            (Some(s("default")), s("calvin"), s("doc"), s("42"), s("read"));
        if grant {
            Command::ObjectGrant { realm, login, domain, id, mode }
        } else {
            Command::ObjectRevoke { realm, login, domain, id, mode }
        }
    };
    check(&stack, object(true), 0, json!({ "domain": "doc", "object": "42", "changed": true })).await;
    let check_doc = |mode| check_object("calvin", "doc", "42", mode);
    check(&stack, check_doc(Some("read")), 1, json!({ "decision": "deny", "mode": "read" })).await;
    check(&stack, check_object("calvin", "doc", "43", None), 1, json!({ "decision": "not_found" })).await;
    check(
        &stack,
        check_object("nobody", "doc", "42", None),
        1,
        json!({ "decision": "deny", "reason": "unknown_user" }),
    )
    .await;
    check(&stack, right(true), 0, json!({ "changed": true })).await;
    check(&stack, check_doc(Some("read")), 0, json!({ "decision": "allow", "object": "42" })).await;
    check(&stack, check_doc(None), 0, json!({ "decision": "allow", "mode": null })).await;
    check(&stack, right(false), 0, json!({ "changed": true })).await;
    check(&stack, check_doc(Some("read")), 1, json!({ "decision": "deny" })).await;
    check(&stack, object(false), 0, json!({ "changed": true })).await;
    check(&stack, check_doc(Some("read")), 1, json!({ "decision": "not_found" })).await;
    check(&stack, right(true), 1, json!({ "reason": "not_found" })).await;
}

#[tokio::test]
async fn an_import_adds_who_is_not_there_and_warns_of_hashes_that_are_not_accepted() {
    let stack = stack(MANAGED).await;
    let file = format!(
        "calvin:{HASH}\nsusie:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.\nmoe:{{SHA}}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n"
    );
    let import = |text: &str| Command::UserImport { realm: Some(s("default")), file: secret(text) };
    let row = check(&stack, import(&file), 0, json!({ "added": 3, "exists": [] })).await;
    let warnings = row["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().ends_with(" (user moe)"), "{row}");
    check(&stack, check_password("calvin", "hobbes"), 0, json!({})).await;
    check(&stack, check_password("moe", "x"), 3, json!({ "error": "misconfigured" })).await;
    let again = json!({ "added": 0, "exists": ["calvin", "susie", "moe"] });
    check(&stack, import(&file), 1, again).await;
    // One warning for all whom it is about.
    let weak = "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=";
    let many: String = (0..100).map(|n| format!("user-{n}:{weak}\n")).collect();
    let row = check(&stack, import(&many), 0, json!({ "added": 100 })).await;
    let warnings = row["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{row}");
    assert!(warnings[0].as_str().unwrap().ends_with(" (100 users, the first is user-0)"), "{row}");
    // Nothing of a file with a bad line.
    let bad = format!("hobbes:{HASH}\nbad login:{HASH}\n");
    check(&stack, import(&bad), 2, json!({ "error": "invalid" })).await;
    check(&stack, check_password("hobbes", "hobbes"), 1, json!({ "reason": "unknown_user" })).await;
}

#[tokio::test]
async fn caches_and_sources_report_and_forget() {
    let stack = stack(MANAGED).await;
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    let fresh = ops::run(&stack, Command::Sources { probe: false }).await;
    assert_eq!(
        (fresh.exit, &fresh.rows[0]["source"], &fresh.rows[0]["kind"]),
        (0, &json!("local"), &json!("sql"))
    );
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
    let stats = ops::run(&stack, Command::CacheStats).await;
    let caches: Vec<_> = stats.rows.iter().map(|row| (&row["cache"], &row["kind"])).collect();
    let each = [
        ("accounts", "ttl"),
        ("groups", "ttl"),
        ("access", "ttl"),
        ("memo", "memo"),
        ("owners", "owners"),
        ("fence", "fence"),
    ];
    assert_eq!(caches.len(), each.len());
    assert!(caches.iter().zip(each).all(|((cache, kind), (c, k))| **cache == c && **kind == k), "{caches:?}");
    let (fence, caches) = stats.rows.split_last().unwrap();
    assert!(fence["invalidations"].as_u64().unwrap() > 0, "of the user who was added: {fence}");
    let (owners, caches) = caches.split_last().unwrap();
    assert_eq!((&owners["entries"], &owners["bound"]), (&json!(1), &json!({ "entries": 262_144 })));
    assert!(caches.iter().all(|row| row["source"] == "local" && row["hits"].is_u64()));
    let (memo, caches) = caches.split_last().unwrap();
    assert_eq!((&memo["bound"], &memo["rechecks"]), (&json!({ "entries": 16_384 }), &json!(0)));
    for row in caches {
        for key in [
            "negative_hits",
            "stale",
            "misses",
            "coalesced",
            "backed_off",
            "overloaded",
            "loads",
            "refreshes",
            "load_errors",
            "timeouts",
            "under_way",
            "load_us",
            "voided",
            "expired",
            "evictions",
            "entries",
            "bytes",
            "age_p50_ms",
            "age_p99_ms",
            "max_age_ms",
            "lifetime_ms",
            "max_stale_age_ms",
            "stale_limit_ms",
        ] {
            assert!(row[key].is_u64(), "{key} of {row}");
        }
        assert_eq!(row["bound"], json!({ "entries": 262_144 + 32_768 }));
    }
    // How old the hits were: as many as there were, and no empty end.
    let groups = &caches[1];
    let ages = groups["ages"].as_array().unwrap();
    let counted: u64 = ages.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!((counted, &groups["hits"]), (1, &json!(1)), "{groups}");
    assert_eq!(ages.last().unwrap()["count"], 1);
    assert!(ages.iter().enumerate().all(|(n, bucket)| bucket["le_ms"] == 1 << n), "{groups}");
    assert_eq!(caches[2]["ages"], json!([]));
    assert!(groups["bytes"].as_u64().unwrap() > 0);
    let line = output::in_words(groups);
    assert!(line.contains("bound 294912 entries") && !line.contains("le_ms"), "{line}");
    let void = |user: Option<&str>, realm: Option<&str>, all, forget| Command::CacheVoid {
        user: user.map(str::to_owned),
        group: None,
        object: None,
        realm: realm.map(str::to_owned),
        all,
        forget,
    };
    for (command, fields) in [
        (void(Some("Calvin"), None, false, false), json!({ "expired": ["user"], "realm": "default" })),
        (void(None, Some("default"), false, true), json!({ "flushed": ["realm"], "realm": "default" })),
        (void(None, None, true, true), json!({ "flushed": ["all"] })),
    ] {
        check(&stack, command, 0, fields).await;
        check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
        check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
    }
    check(&stack, Command::Sources { probe: true }, 0, json!({ "state": "up", "used": true })).await;
}

#[tokio::test]
async fn an_outage_is_neither_a_yes_nor_a_no_and_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "calvin:$nobody$can$read$this\n").unwrap();
    let stack = stack(&format!("[source.office]\nkind = \"file\"\npath = '{}'\n", users.display())).await;
    let explain = Command::CheckPassword {
        realm: Some(s("default")),
        login: s("calvin"),
        password: secret("hobbes"),
        explain: true,
    };
    let row = check(&stack, explain, 3, json!({ "error": "corrupt", "source": "office" })).await;
    assert!(row["steps"].as_array().unwrap().len() > 1 && !row.to_string().contains("hobbes"), "{row}");
    // What can't be written is wrong use, not an outage.
    let refused = json!({ "error": "invalid" });
    check(&stack, add("susie", &[], ready(HASH, None)), 2, refused.clone()).await;
    check(&stack, Command::UserList { realm: Some(s("default")) }, 2, refused).await;
}

#[test]
fn errors_have_their_exit_status() {
    for (kind, exit) in [
        (ErrorKind::Invalid, 2),
        (ErrorKind::Unavailable, 3),
        (ErrorKind::Timeout, 3),
        (ErrorKind::Overloaded, 3),
        (ErrorKind::Ambiguous, 3),
        (ErrorKind::Corrupt, 3),
        (ErrorKind::Misconfigured, 3),
        (ErrorKind::Unsupported, 3),
        (ErrorKind::Internal, 3),
    ] {
        let reply = Reply::failed(&Error::new(kind, "text").at("app"));
        let row = json!({ "error": kind.as_str(), "message": format!("{kind}: text (source app)"), "source": "app" });
        assert_eq!((reply.exit, reply.rows), (exit, vec![row]));
    }
    // Before there is a stack, what is configured is the caller's to mend.
    assert_eq!(crate::refused(&Error::new(ErrorKind::Misconfigured, "x")).exit, 2);
    assert_eq!(crate::refused(&Error::new(ErrorKind::Unavailable, "x")).exit, 3);
}

#[test]
fn causes_are_told_and_no_url_and_no_control_character_of_them() {
    let check = |cause: &str, told: &str| {
        let error = Error::new(ErrorKind::Misconfigured, "the database refuses the query").at("app");
        let error = error.because(std::io::Error::other(cause.to_owned()));
        let reply = Reply::failed(&error);
        let text = format!("misconfigured: the database refuses the query (source app){told}");
        assert_eq!(reply.rows[0]["message"], text);
    };
    check("no such column: pwhsh", ": no such column: pwhsh");
    check("the database refuses the query", "");
    check("a\u{1b}[2J\r\nb", ": a [2J b");
    check("at pg://calvin:canary@host/db?password=canary it ends", ": at pg://*** it ends");
    check(&"x".repeat(9_999), &format!(": {} ...", "x".repeat(500)));
    let inner = Error::new(ErrorKind::Unavailable, "b").because(std::io::Error::other("c"));
    let row = &Reply::failed(&Error::new(ErrorKind::Unavailable, "a").because(inner)).rows[0];
    assert_eq!(row["message"], "unavailable: a: unavailable: b: c");
}

#[tokio::test]
async fn who_names_no_realm_means_the_only_one_or_the_one_that_is_set() {
    let source = "[password]\nargon2 = { memory_kib = 64, passes = 1 }\n[source.local]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n";
    let realm = |name: &str| format!("[realm.{name}]\npassword = [\"local\"]\ngroups = [\"local\"]\n");
    let add = || Command::UserAdd {
        realm: None,
        login: s("calvin"),
        groups: vec![s("staff")],
        credential: ready(HASH, None),
    };
    let ask = || Command::CheckGroup { realm: None, login: s("calvin"), group: s("staff"), explain: false };
    let flush = || Command::CacheVoid {
        user: Some(s("calvin")),
        group: None,
        object: None,
        realm: None,
        all: false,
        forget: true,
    };
    let only = format!("{source}{}", realm("people"));
    let set = format!("{source}{}{}[server]\nrealm = \"people\"\n", realm("people"), realm("others"));
    for text in [only, set] {
        let stack = stack(&text).await;
        check(&stack, add(), 0, json!({ "realm": "people" })).await;
        check(&stack, ask(), 0, json!({ "realm": "people", "decision": "member" })).await;
        check(&stack, flush(), 0, json!({ "realm": "people" })).await;
        serve::front(&stack).unwrap();
    }
    let stack = stack(&format!("{source}{}{}", realm("people"), realm("others"))).await;
    check(&stack, ask(), 2, json!({ "error": "invalid" })).await;
    let error = serve::front(&stack).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let message = "server.realm: no realm is called `default`: say which one is meant where none is named; known: \
                   others, people";
    assert!(error.message().ends_with(message), "{error}");
}

#[tokio::test]
async fn a_data_folder_whose_name_is_too_long_for_a_socket_is_refused_with_the_length_that_it_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let named = |length: usize| {
        let room = length - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("x".repeat(room));
        std::fs::create_dir(&path).unwrap();
        path
    };
    let fits = named(96);
    let held = admin::listen(&fits).unwrap();
    assert!(admin::connect(&fits).await.unwrap().is_some());
    drop(held);
    let message =
        "the name of the data folder has 97 bytes; for the admin socket in it there may be 96 at most";
    let long = named(97);
    let error = admin::listen(&long).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Misconfigured, message));
    assert!(admin::connect(&long).await.unwrap().is_none(), "where no server can listen, none does");
}

#[test]
fn commands_cross_the_socket_whole_and_show_no_secret() {
    let hash = "$2b$04$canarycanarycanarycanu";
    for command in [
        check_password("calvin", "canary"),
        add("calvin", &["a"], Credential::Password(secret("canary"))),
        add("calvin", &[], ready(hash, Some("bcrypt"))),
        Command::UserPasswd { realm: Some(s("r")), login: s("l"), password: secret("canary\0\u{ff}") },
        Command::UserImport { realm: Some(s("r")), file: secret("calvin:canary") },
        Command::CacheStats,
    ] {
        let shown = format!("{command:?}");
        assert!(!shown.contains("canary"), "{shown}");
        let text = serde_json::to_string(&command).unwrap();
        assert!(!text.contains("canary"), "as base64: {text}");
        let back: Command = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
    let bytes: Secret =
        serde_json::from_str(&serde_json::to_string(&secret("\0\u{ff}canary")).unwrap()).unwrap();
    assert_eq!(bytes.bytes(), "\0\u{ff}canary".as_bytes());
    assert!(serde_json::from_str::<Secret>("\"%\"").is_err());
    assert!(serde_json::from_str::<Command>("\"Nonsense\"").is_err());
}

#[test]
fn only_questions_may_be_asked_beside_a_running_server() {
    assert!(!check_password("a", "b").changes() && !Command::Sources { probe: true }.changes());
    assert!(add("a", &[], ready(HASH, None)).changes());
    assert!(Command::UserImport { realm: Some(s("r")), file: secret("") }.changes());
    assert!(Command::CacheStats.needs_server() && !Command::Sources { probe: true }.needs_server());
}

#[test]
fn nothing_that_is_printed_steers_the_terminal() {
    let evil = "a\u{1b}[2J\u{9b}1m\r\n\u{202e}b";
    for row in [
        json!({ "decision": evil, "x": evil, "list": [evil, evil], "deep": { "x": evil }, evil: "x" }),
        json!({ "login": evil, "realm": evil }),
        json!([evil]),
        json!(evil),
    ] {
        let line = output::in_words(&row);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.contains("a\u{fffd}[2J"), "{line:?}");
    }
    let line = output::in_words(
        &json!({ "decision": "accepted", "login": "calvin", "id": 1, "none": null, "steps": [1] }),
    );
    assert_eq!(line, "accepted: id 1, login calvin");
}

/// Reads a page as Prometheus does, and returns its families and their kinds.
fn check_page(page: &str) -> BTreeMap<&str, &str> {
    let mut kinds = BTreeMap::new();
    let (mut family, mut kind) = ("", "");
    let mut samples = BTreeSet::new();
    // Of each histogram, by its labels without `le`: the bound and the value of its last bucket, and its count.
    let mut histograms: BTreeMap<(&str, String), (f64, f64, Option<f64>)> = BTreeMap::new();
    for line in page.lines() {
        let mut words = line.split(' ');
        match words.next().unwrap() {
            "#" => {
                let (what, name) = (words.next().unwrap(), words.next().unwrap());
                match what {
                    "HELP" => {
                        family = name;
                        assert!(words.next().is_some(), "{line}");
                    }
                    "TYPE" => {
                        assert_eq!(name, family);
                        kind = words.next().unwrap();
                        assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                        assert!(words.next().is_none(), "{line}");
                        assert!(kinds.insert(name, kind).is_none(), "{name} twice");
                        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                    }
                    other => panic!("{other}"),
                }
            }
            _ => {
                let (labelled, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(labelled), "{labelled} twice");
                let value = value.parse::<f64>().unwrap();
                assert!(value >= 0.0 && value.is_finite(), "{line}");
                let (name, labels) = match labelled.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                    None => (labelled, ""),
                };
                if kind != "histogram" {
                    assert_eq!(name, family, "{line}");
                    continue;
                }
                let (labels, le) = match labels.split_once(",le=") {
                    Some((labels, le)) => (labels, Some(le.trim_matches('"').parse::<f64>().unwrap())),
                    None => (labels, None),
                };
                let seen = histograms.entry((family, labels.to_owned())).or_insert((-1.0, 0.0, None));
                match (name.strip_prefix(family).unwrap(), le) {
                    ("_bucket", Some(le)) => {
                        assert!(le > seen.0 && value >= seen.1, "buckets grow: {line}");
                        *seen = (le, value, None);
                    }
                    ("_sum", None) => {}
                    ("_count", None) => seen.2 = Some(value),
                    other => panic!("{other:?} in {line}"),
                }
            }
        }
    }
    for ((name, labels), (last, below, count)) in &histograms {
        assert!(last.is_infinite(), "{name} of {labels} has no bucket for all");
        assert_eq!(Some(*below), *count, "{name} of {labels}");
        assert!(samples.contains(format!("{name}_sum{{{labels}}}").as_str()), "{name} of {labels}");
    }
    assert_eq!(histograms.len(), 3, "of accounts, groups and rights");
    kinds
}

#[tokio::test]
async fn the_metrics_are_well_formed() {
    let stack = stack(MANAGED).await;
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_password("calvin", "hobbes"), 0, json!({})).await;
    check(&stack, check_password("secretive", "x"), 1, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
    let page = metrics::render(&stack, &stack.sources_now().await);
    let kinds = check_page(&page);
    assert!(page.ends_with('\n') && kinds.len() > 15);
    for sample in [
        "gatepost_logins_total{realm=\"default\",outcome=\"accepted\"} 1",
        "gatepost_logins_total{realm=\"default\",outcome=\"unknown_user\"} 1",
        "gatepost_source_up{source=\"local\"} 1",
        "gatepost_hash_pads_total 1",
        "gatepost_hash_skipped_total 0",
        "gatepost_memo_hits_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_memo_entries{realm=\"default\",source=\"local\"} 0",
        "gatepost_hash_upgrades_total{realm=\"default\",source=\"local\"} 1",
        "gatepost_hash_upgrade_failures_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_password_rechecks_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_source_backing_off{source=\"local\"} 0",
        "gatepost_cache_bound_entries{realm=\"default\",source=\"local\",cache=\"groups\"} 294912",
        "gatepost_cache_age_at_hit_seconds_count{realm=\"default\",source=\"local\",cache=\"groups\"} 1",
        "gatepost_cache_age_at_hit_seconds_count{realm=\"default\",source=\"local\",cache=\"access\"} 0",
        "gatepost_cache_stale_total{realm=\"default\",source=\"local\",cache=\"accounts\"} 0",
        "gatepost_cache_overloaded_total{realm=\"default\",source=\"local\",cache=\"accounts\"} 0",
        "gatepost_cache_lifetime_seconds{realm=\"default\",source=\"local\",cache=\"accounts\"} 60.000000",
        "gatepost_cache_lifetime_seconds{realm=\"default\",source=\"local\",cache=\"access\"} 30.000000",
        "gatepost_cache_stale_limit_seconds{realm=\"default\",source=\"local\",cache=\"groups\"} 0.000000",
        "gatepost_memo_misses_total{realm=\"default\",source=\"local\"} 1",
        "gatepost_memo_evictions_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_memo_bound_entries{realm=\"default\",source=\"local\"} 16384",
        "gatepost_owners_entries 1",
        "gatepost_owners_bound_entries 262144",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is not in {page}");
    }
    // Labels are names from configuration, never people.
    assert!(!page.contains("calvin") && !page.contains("secretive"));
}

/// The fields of statistics as their `Debug` shows them, but those that are no number.
fn numbers(stats: &impl std::fmt::Debug) -> Vec<(String, u64)> {
    let text = format!("{stats:#?}");
    // Deeper lines begin with more blanks.
    let fields =
        text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(',')?.split_once(": "));
    let fields = fields.filter(|(name, _)| !name.starts_with(' '));
    fields.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

#[tokio::test]
async fn every_figure_of_a_cache_is_told_under_its_own_names() {
    let clock = ManualClock::new();
    let builder = Stack::builder().data("/nowhere").config(MANAGED);
    let stack = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().await.unwrap();
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    // Ages of which the half, nearly all and the greatest are three.
    for (later, hits) in [(1, 150), (100, 50), (4_000, 1)] {
        clock.advance(Duration::from_millis(later));
        for _ in 0..hits {
            check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
        }
    }
    let (_, report) = stack.caches().into_iter().find(|(_, report)| report.kind == "groups").unwrap();
    let mut stats = report.stats;
    stats.hits = 1_001;
    stats.negative_hits = 1_002;
    stats.stale = 1_003;
    stats.misses = 1_004;
    stats.coalesced = 1_005;
    stats.backed_off = 1_006;
    stats.overloaded = 1_007;
    stats.loads = 1_008;
    stats.refreshes = 1_009;
    stats.load_errors = 1_010;
    stats.under_way = 1_011;
    stats.timeouts = 1_012;
    stats.voided = 1_013;
    stats.expired = 1_014;
    stats.evictions = 1_015;
    stats.entries = 1_016;
    stats.bytes = 1_017;
    stats.bound = Some(Bound::Entries(1_018));
    stats.load_time = Duration::from_micros(2_001);
    stats.max_stale_age = Duration::from_millis(2_002);
    let (lifetime, stale_limit) = (Duration::from_millis(2_003), Duration::from_millis(2_004));
    let cache = |stats| figures::Cache { stats, lifetime, stale_limit };
    let row = ops::cache_row("r", "s", "groups", "ttl", &cache(stats));
    let mut page = metrics::Page::default();
    page.caches(&[([("realm", "r"), ("source", "s"), ("cache", "groups")], cache(stats))]);
    let mut told = 0;
    let mut tell = |key: &str, value: u64, name: &str, sample: &str| {
        assert_eq!(row[key], value, "{key} of {row}");
        let line = format!("gatepost_cache_{name}{{realm=\"r\",source=\"s\",cache=\"groups\"}} {sample}");
        assert!(page.0.lines().any(|known| known == line), "{line} is not in {}", page.0);
        told += 1;
    };
    let numbers_of_cache = numbers(&stats);
    assert_eq!(numbers_of_cache.len(), 17, "{stats:?}");
    for (field, value) in &numbers_of_cache {
        assert!(*value > 1_000, "{field} has no value of its own");
        let name = match field.as_str() {
            "entries" | "bytes" => field.clone(),
            "under_way" => s("loads_under_way"),
            "timeouts" => s("load_timeouts_total"),
            other => format!("{other}_total"),
        };
        tell(field, *value, &name, &value.to_string());
    }
    tell("load_us", 2_001, "load_seconds_total", "0.002001");
    tell("max_stale_age_ms", 2_002, "stale_age_max_seconds", "2.002000");
    tell("lifetime_ms", 2_003, "lifetime_seconds", "2.003000");
    tell("stale_limit_ms", 2_004, "stale_limit_seconds", "2.004000");
    tell("max_age_ms", 4_101, "age_at_hit_max_seconds", "4.101000");
    assert_eq!(told, figures::CACHE.len());
    assert_eq!((&row["age_p50_ms"], &row["age_p99_ms"]), (&json!(1), &json!(128)));
    assert_eq!(
        (&row["bound"], &row["cache"], &row["kind"]),
        (&json!({ "entries": 1_018 }), &json!("groups"), &json!("ttl"))
    );
    assert_eq!((&row["realm"], &row["source"]), (&json!("r"), &json!("s")));
    let labels = "{realm=\"r\",source=\"s\",cache=\"groups\"";
    for line in [
        format!("gatepost_cache_bound_entries{labels}}} 1018"),
        format!("gatepost_cache_age_at_hit_seconds_bucket{labels},le=\"0.001\"}} 150"),
        format!("gatepost_cache_age_at_hit_seconds_count{labels}}} 201"),
    ] {
        assert!(page.0.lines().any(|known| known == line), "{line} is not in {}", page.0);
    }
    stats.bound = Some(Bound::Bytes(1_019));
    let mut page = metrics::Page::default();
    page.caches(&[([("realm", "r"), ("source", "s"), ("cache", "groups")], cache(stats))]);
    assert!(page.0.contains(&format!("\ngatepost_cache_bound_bytes{labels}}} 1019\n")), "{}", page.0);
    assert!(!page.0.contains(&format!("gatepost_cache_bound_entries{labels}")), "{}", page.0);
}

#[test]
fn every_figure_of_remembered_passwords_is_told_under_its_own_names() {
    let mut stats = HashedStats::default();
    stats.memo_hits = 1_001;
    stats.memo_misses = 1_002;
    stats.memo_evictions = 1_003;
    stats.memo_entries = 1_004;
    stats.memo_bound = 1_005;
    stats.rechecks = 1_006;
    stats.upgrades = 1_007;
    stats.upgrade_failures = 1_008;
    assert_eq!(numbers(&stats).len(), 8, "{stats:?}");
    assert!(numbers(&stats).iter().all(|(_, value)| *value > 1_000), "{stats:?}");
    let row = ops::memo_row("r", "s", &stats);
    let told = json!({
        "realm": "r", "source": "s", "cache": "memo", "kind": "memo", "hits": 1_001, "misses": 1_002,
        "evictions": 1_003, "entries": 1_004, "bound": { "entries": 1_005 }, "rechecks": 1_006,
    });
    assert_eq!(row, told);
    let mut page = metrics::Page::default();
    page.memos(&[([("realm", "r"), ("source", "s")], stats)]);
    let mut samples: Vec<&str> = page.0.lines().filter(|line| !line.starts_with('#')).collect();
    samples.sort_unstable();
    let named = [
        ("gatepost_hash_upgrade_failures_total", 1_008),
        ("gatepost_hash_upgrades_total", 1_007),
        ("gatepost_memo_bound_entries", 1_005),
        ("gatepost_memo_entries", 1_004),
        ("gatepost_memo_evictions_total", 1_003),
        ("gatepost_memo_hits_total", 1_001),
        ("gatepost_memo_misses_total", 1_002),
        ("gatepost_password_rechecks_total", 1_006),
    ];
    let named = named.map(|(name, value)| format!("{name}{{realm=\"r\",source=\"s\"}} {value}"));
    assert_eq!(samples, named);
}

#[test]
fn every_figure_of_what_is_shared_is_told_under_its_own_names() {
    let mut shared = SharedStats::default();
    shared.hits = 1_001;
    shared.misses = 1_002;
    shared.voided = 1_003;
    shared.expired = 1_004;
    shared.forged = 1_005;
    shared.foreign = 1_006;
    shared.errors = 1_007;
    shared.skipped = 1_008;
    shared.stored = 1_009;
    shared.outdated = 1_010;
    shared.too_large = 1_011;
    shared.store_errors = 1_012;
    let mut hearing = HearingStats::default();
    hearing.deaf = true;
    hearing.heard = 1_013;
    hearing.losses = 1_014;
    hearing.unread = 1_015;
    let mut carried = CarrierStats::default();
    carried.told = 1_016;
    carried.waiting = 1_017;
    carried.failures = 1_018;
    carried.given_up = 1_019;
    let lanes = figures::Lanes { up: 1_020, left_alone: 1_021, behind: 1_022 };

    let mut page = metrics::Page::default();
    let labels = [("realm", "r"), ("source", "s"), ("cache", "groups")];
    page.shared(&[(labels, shared)], Some(("redis", lanes)), Some(("redis", hearing)), carried);
    let mut samples: BTreeSet<String> =
        page.0.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();

    let row = ops::with_shared(json!({ "cache": "groups" }), Some(&shared));
    let numbers_of_shared = numbers(&shared);
    assert_eq!(numbers_of_shared.len(), 12, "{shared:?}");
    for (field, value) in &numbers_of_shared {
        assert!(*value > 1_000, "{field} has no value of its own");
        assert_eq!(row[format!("shared_{field}")], *value, "{field} of {row}");
        let sample = format!(
            "gatepost_shared_cache_{field}_total{{realm=\"r\",source=\"s\",cache=\"groups\"}} {value}"
        );
        assert!(samples.remove(&sample), "{sample} is not in {}", page.0);
    }
    assert_eq!(row.as_object().unwrap().len(), 13, "{row}");
    assert_eq!(ops::with_shared(json!({ "hits": 1 }), None), json!({ "hits": 1 }));

    assert_eq!((numbers(&hearing).len(), numbers(&carried).len(), numbers(&lanes).len()), (3, 4, 3));
    let lanes_row =
        json!({ "cache": "shared", "kind": "redis", "up": 1_020, "left_alone": 1_021, "behind": 1_022 });
    let carried_row = json!({ "told": 1_016, "waiting": 1_017, "failures": 1_018, "given_up": 1_019 });
    let heard_row = json!({ "deaf": true, "heard": 1_013, "losses": 1_014, "unread": 1_015 });
    let named = |kind: &str, parts: &[&Value]| -> Value {
        let mut row = json!({ "cache": "bus", "kind": kind });
        for part in parts {
            row.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        row
    };
    assert_eq!(
        ops::shared_rows(Some(("redis", lanes)), Some(("redis", hearing)), &carried),
        [lanes_row, named("redis", &[&heard_row, &carried_row])]
    );
    assert_eq!(ops::shared_rows(None, None, &carried), [named("none", &[&carried_row])]);
    for (name, value) in [
        ("gatepost_shared_cache_lanes_up{kind=\"redis\"}", 1_020),
        ("gatepost_shared_cache_lanes_left_alone{kind=\"redis\"}", 1_021),
        ("gatepost_shared_cache_lanes_behind{kind=\"redis\"}", 1_022),
        ("gatepost_bus_deaf{kind=\"redis\"}", 1),
        ("gatepost_bus_heard_total{kind=\"redis\"}", 1_013),
        ("gatepost_bus_losses_total{kind=\"redis\"}", 1_014),
        ("gatepost_bus_unread_total{kind=\"redis\"}", 1_015),
        ("gatepost_invalidations_carried_total", 1_016),
        ("gatepost_invalidations_waiting", 1_017),
        ("gatepost_invalidations_failed_attempts_total", 1_018),
        ("gatepost_invalidations_given_up_total", 1_019),
    ] {
        assert!(samples.remove(&format!("{name} {value}")), "{name} {value} is not in {}", page.0);
    }
    assert_eq!(samples, BTreeSet::new(), "what else is told");
}

#[tokio::test]
async fn a_shared_cache_is_reported_probed_and_told_to_be_down() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let text = format!(
        "{MANAGED}[cache]\nkind = \"tiered\"\nurl = \"{}\"\ntimeout = \"2s\"\nconnect_timeout = \"2s\"\n\
         [secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n",
        redis.url()
    );
    let stack = stack(&text).await;
    let probe = || ops::run(&stack, Command::Sources { probe: true });
    let reply = probe().await;
    let shared = reply.rows.last().unwrap();
    assert_eq!(reply.exit, 0, "{:?}", reply.rows);
    assert_eq!(
        *shared,
        json!({ "cache": "shared", "kind": "redis", "state": "up", "last_error": Value::Null })
    );
    let beside = ops::run(&stack, Command::Sources { probe: false }).await;
    assert_eq!(beside.rows.len() + 1, reply.rows.len(), "only who probes asks it");

    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    let row = |name: &'static str| {
        let stack = Arc::clone(&stack);
        async move {
            let mut stats = ops::run(&stack, Command::CacheStats).await.rows;
            stats.retain(|row| row["cache"] == name);
            assert_eq!(stats.len(), 1, "{name}");
            stats.remove(0)
        }
    };
    let groups = row("groups").await;
    assert_eq!((&groups["shared_misses"], &groups["shared_hits"]), (&json!(1), &json!(0)), "{groups}");
    assert!(row("fence").await.get("shared_hits").is_none());
    let lanes = json!({ "cache": "shared", "kind": "redis", "up": 1, "left_alone": 0, "behind": 0 });
    assert_eq!(row("shared").await, lanes);
    let bus = row("bus").await;
    assert_eq!(
        (&bus["kind"], &bus["heard"], &bus["waiting"]),
        (&json!("redis"), &json!(0), &json!(0)),
        "{bus}"
    );
    assert!(bus["told"].as_u64().unwrap() > 0, "of the user who was added: {bus}");
    let page = metrics::render(&stack, &stack.sources_now().await);
    check_page(&page);
    for sample in [
        "gatepost_shared_cache_misses_total{realm=\"default\",source=\"local\",cache=\"groups\"} 1",
        "gatepost_shared_cache_lanes_up{kind=\"redis\"} 1",
        "gatepost_bus_heard_total{kind=\"redis\"} 0",
        "gatepost_invalidations_given_up_total 0",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is not in {page}");
    }
    assert!(!page.contains("calvin"));

    redis.kill();
    let reply = probe().await;
    let shared = reply.rows.last().unwrap();
    assert_eq!((reply.exit, &shared["state"]), (3, &json!("down")), "{:?}", reply.rows);
    assert!(shared["last_error"].as_str().unwrap().contains("unavailable"), "{shared}");
    assert_eq!(reply.rows[0]["state"], "up", "the source is");
}

#[tokio::test]
async fn a_front_that_cannot_be_is_refused_with_its_place() {
    for (server, message) in [
        (
            "trusted_proxies = [\"10.0.0.0/8\",\n\"x\"]",
            "gatepost.toml:9: server.trusted_proxies.1: this is neither an address nor a network",
        ),
        ("hosts = { \"a b\" = \"default\" }", "gatepost.toml:8: server.hosts.\"a b\": "),
    ] {
        let stack = stack(&format!("{MANAGED}[server]\n{server}\n")).await;
        let error = serve::front(&stack).unwrap_err();
        assert!(error.message().starts_with(message), "{error}");
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn one_server_runs_on_a_folder_and_its_socket_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    assert!(admin::connect(data).await.unwrap().is_none());
    let (listener, held) = admin::listen(data).unwrap();
    assert_eq!((mode(&admin::socket(data)), mode(&data.join("server.lock"))), (0o600, 0o600));
    assert!(!data.join(".adm").exists());
    assert!(admin::connect(data).await.unwrap().is_some());
    let error = admin::listen(data).unwrap_err();
    assert_eq!(error.message(), "a server already runs on this data folder");
    assert!(admin::connect(data).await.unwrap().is_some(), "the refused one has harmed nothing");
    drop((listener, held));
    assert!(!admin::socket(data).exists());
    // One that was killed leaves its socket: nobody answers, and the next takes over.
    drop(tokio::net::UnixListener::bind(admin::socket(data)).unwrap());
    std::fs::create_dir(data.join(".adm")).unwrap();
    assert!(admin::connect(data).await.unwrap().is_none());
    let _held = admin::listen(data).unwrap();
    assert!(admin::connect(data).await.unwrap().is_some());
}

#[tokio::test]
async fn no_password_is_sent_to_a_socket_that_others_could_have_made() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _held = admin::listen(folder.path()).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = admin::connect(folder.path()).await.unwrap_err();
    assert_eq!(error.message(), "others may write to the data folder; make its mode 0700");
}

#[tokio::test]
async fn a_command_gets_through_the_socket_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack(MANAGED).await;
    let (listener, held) = admin::listen(folder.path()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let served = tokio::spawn(crate::net::unix(listener, admin::router(Arc::clone(&stack)), stopped));
    let ask = async |command: Command| {
        let stream = admin::connect(folder.path()).await.unwrap().unwrap();
        admin::ask(stream, &command).await.unwrap()
    };
    assert_eq!(ask(add("calvin", &["staff"], ready(HASH, None))).await.exit, 0);
    assert_eq!(ask(check_password("calvin", "hobbes")).await.exit, 0);
    let there = ask(check_group("calvin", "ghosts")).await;
    assert_eq!((there.exit, &there.rows[0]["decision"]), (1, &json!("not_member")));
    stop.send(true).unwrap();
    served.await.unwrap();
    drop(held);
    assert!(admin::connect(folder.path()).await.unwrap().is_none());
}
