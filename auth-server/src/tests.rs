//! Commands on a stack in memory, and what becomes of their replies.

mod figures;
mod sockets;

use std::sync::Arc;

use auth_core::{Error, ErrorKind};
use auth_stack::Stack;
use serde_json::{Value, json};

use crate::command::{Command, Credential, ImportFormat, Reply, Secret};
use crate::{ops, output, serve};

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
        import(secret("calvin\n")),
        import(Secret::new(vec![0xff])),
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

/// Imports an htpasswd file.
fn import(file: Secret) -> Command {
    let format = ImportFormat::Htpasswd;
    Command::UserImport { realm: Some(s("default")), format, file, groups: None, shadow: None }
}

#[tokio::test]
async fn an_import_of_unix_files_brings_groups_and_states_and_leaves_services_out() {
    let stack = stack(MANAGED).await;
    let passwd = "root:x:0:0::/root:/bin/sh\ndaemon:*:1:1::/:/bin/false\ncalvin:x:1000:100\nsusie:x:1001:100\n\
                  moe:x:1002:100\nandy:x:1003:100\nrosalyn:x:1004:100\n";
    let shadow = format!(
        "root:!:19000::::::\ncalvin:{HASH}:19000:0::7:::\nsusie:{HASH}:0:0::7:::\nmoe:!{HASH}:19000:0::7:::\n\
         andy:{HASH}:19000:0::7::11323:\nrosalyn:{HASH}:20000:0:99999:7:::\n"
    );
    let groups = "staff:x:100:\nadmin:x:7:calvin,nobody\n";
    let from = |format, file: &str, groups: Option<&str>, shadow: Option<&str>| Command::UserImport {
        realm: Some(s("default")),
        format,
        file: secret(file),
        groups: groups.map(secret),
        shadow: shadow.map(secret),
    };
    let import = || from(ImportFormat::Passwd, passwd, Some(groups), Some(&shadow));
    let row = check(&stack, import(), 0, json!({ "added": 5, "exists": [] })).await;
    let warnings: Vec<_> =
        row["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(
        warnings.contains(&"who has no password is left out (2 users, the first is root)"),
        "{warnings:?}"
    );
    assert!(warnings.contains(&"when a password ends is not imported (user rosalyn)"), "{warnings:?}");
    check(&stack, check_password("calvin", "hobbes"), 0, json!({})).await;
    for (login, reason) in [("susie", "must_change"), ("moe", "locked"), ("andy", "account_expired")] {
        check(&stack, check_password(login, "hobbes"), 1, json!({ "reason": reason })).await;
    }
    check(&stack, check_password("root", "hobbes"), 1, json!({ "reason": "unknown_user" })).await;
    let group = |login: &str, group: &str| Command::CheckGroup {
        realm: Some(s("default")),
        login: s(login),
        group: s(group),
        explain: false,
    };
    for (login, name, exit) in
        [("calvin", "admin", 0), ("calvin", "staff", 0), ("susie", "staff", 0), ("susie", "admin", 1)]
    {
        check(&stack, group(login, name), exit, json!({})).await;
    }
    check(
        &stack,
        import(),
        1,
        json!({ "added": 0, "exists": ["calvin", "susie", "moe", "andy", "rosalyn"] }),
    )
    .await;
    // A shadow file alone, and a TOML file, in which nobody needs a password.
    let alone = from(ImportFormat::Shadow, &format!("hobbes:{HASH}\nmail:*\n"), None, None);
    check(&stack, alone, 0, json!({ "added": 1 })).await;
    let toml = format!("[user.mom]\ngroups = [\"club\"]\n[user.dad]\nhash = \"{HASH}\"\ndisabled = true\n");
    check(&stack, from(ImportFormat::Toml, &toml, None, None), 0, json!({ "added": 2, "warnings": [] }))
        .await;
    check(&stack, check_password("dad", "hobbes"), 1, json!({ "reason": "disabled" })).await;
    check(&stack, group("mom", "club"), 0, json!({})).await;
    // Nothing of a file in which something is wrong.
    for (format, file, shadow) in [
        (ImportFormat::Shadow, format!("wormwood:{HASH}\nWORMWOOD:{HASH}\n"), None),
        (ImportFormat::Shadow, format!("wormwood:{HASH}:soon\n"), None),
        (ImportFormat::Shadow, format!("wormwood:{HASH}\n"), Some("")),
        (ImportFormat::Passwd, format!("wormwood:{HASH}\n"), None),
        (
            ImportFormat::Toml,
            format!("[user.wormwood]\nhash = \"{HASH}\"\nnot_before = 2030-01-01T00:00:00Z\n"),
            None,
        ),
        (ImportFormat::Toml, format!("[user.wormwood]\nhash = \"{HASH}\"\nnickname = 1\n"), None),
    ] {
        check(&stack, from(format, &file, None, shadow), 2, json!({ "error": "invalid" })).await;
        check(&stack, check_password("wormwood", "hobbes"), 1, json!({ "reason": "unknown_user" })).await;
    }
}

#[tokio::test]
async fn an_import_adds_who_is_not_there_and_warns_of_hashes_that_are_not_accepted() {
    let stack = stack(MANAGED).await;
    let file = format!(
        "calvin:{HASH}\nsusie:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.\nmoe:{{SHA}}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n"
    );
    let import = |text: &str| import(secret(text));
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

#[test]
fn commands_cross_the_socket_whole_and_show_no_secret() {
    let hash = "$2b$04$canarycanarycanarycanu";
    for command in [
        check_password("calvin", "canary"),
        add("calvin", &["a"], Credential::Password(secret("canary"))),
        add("calvin", &[], ready(hash, Some("bcrypt"))),
        Command::UserPasswd { realm: Some(s("r")), login: s("l"), password: secret("canary\0\u{ff}") },
        import(secret("calvin:canary")),
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
    assert!(import(secret("")).changes());
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
