//! The behaviour suite, over every format, under every rule for logins.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use auth_core::{Id, LoginRule, RealmId};
use auth_store_file::{FileConfig, FileStore, Format};
use auth_testkit::suite::{self, Bench};
use auth_testkit::{ByTable, ManualClock, Standing, World, info, realm_with};

/// The world as a TOML file; `ids` as it has them.
fn world_toml() -> String {
    let mut text = String::new();
    for user in World::users() {
        writeln!(text, "[user.\"{}\"]\nid = {}\ngroups = {:?}", user.login, user.id, user.groups).unwrap();
        if let Some(hash) = user.hash {
            writeln!(text, "hash = \"{hash}\"").unwrap();
        }
        let standing = match user.standing {
            Standing::Open => "",
            Standing::EndsLater => "expires_at = 2037-01-01T00:00:00Z\n",
            Standing::Disabled => "disabled = true\n",
            Standing::Locked => "locked = true\n",
            Standing::Expired => "expires_at = 2001-01-01T00:00:00Z\n",
            Standing::MustChange => "must_change = true\n",
            other => panic!("write {other:?} down here"),
        };
        text.push_str(standing);
    }
    for object in World::objects() {
        writeln!(text, "[object.{}.{}]", object.domain, object.id).unwrap();
        for mode in ["read", "write"] {
            let who = object.rights.iter().filter(|(_, what)| *what == mode);
            let who: Vec<_> = who.map(|(login, _)| login).collect();
            if !who.is_empty() {
                writeln!(text, "{mode} = {who:?}").unwrap();
            }
        }
    }
    text
}

/// The world as htpasswd and htgroup files: what these can hold of it.
fn world_htfiles() -> (String, String) {
    let (mut users, mut groups) = (String::from("# users\n"), String::from("# groups\n"));
    for user in World::users().iter().filter(|user| user.standing == Standing::Open) {
        writeln!(users, "{}:{}", user.login, user.hash.unwrap_or_default()).unwrap();
        for group in user.groups {
            writeln!(groups, "{group}: {}", user.login).unwrap();
        }
    }
    (users, groups)
}

fn realms() -> impl Iterator<Item = RealmId> {
    LoginRule::NAMES.into_iter().map(|(name, rule)| realm_with(name, rule))
}

async fn connect(config: FileConfig) -> Arc<FileStore> {
    Arc::new(FileStore::connect(info("file"), config).await.unwrap())
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_toml_file_behaves_as_a_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = connect(FileConfig::new(write(folder.path(), "users.toml", &world_toml()))).await;
    for realm in realms() {
        suite::run_all_account(&*store, &realm).await;
        suite::run_all_groups(&*store, &realm).await;
        suite::run_all_objects(&*store, &realm).await;
        suite::run_all_password(&ByTable::new(Arc::clone(&store), ManualClock::new()), &realm).await;
    }
    assert!(store.fault().is_none());
}

#[tokio::test]
async fn htpasswd_and_htgroup_files_behave_as_a_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let (users, groups) = world_htfiles();
    let users = write(folder.path(), "htpasswd", &users);
    let store = connect(FileConfig::new(users).with_groups(write(folder.path(), "htgroup", &groups))).await;
    for realm in realms() {
        let bench = Bench::new(&realm)
            .holding(|user| user.standing == Standing::Open)
            .with_ids(|user| Id::text(user.login));
        suite::run_all_account(&*store, &bench).await;
        suite::run_all_groups(&*store, &bench).await;
        suite::run_all_password(&ByTable::new(Arc::clone(&store), ManualClock::new()), &bench).await;
    }
    assert!(store.fault().is_none());
}

/// The world as passwd, shadow and group files. Calvin's first group is `admin`; the others are listed.
fn world_unix() -> (String, String, String) {
    let (mut passwd, mut shadow) = (String::new(), String::from("# days since 1970\n"));
    for user in World::users() {
        let (login, gid) = (user.login, if user.login == "calvin" { 1 } else { 0 });
        writeln!(passwd, "{login}:x:{}:{gid}:{login},,,:/home:/bin/sh", user.id).unwrap();
        let hash = user.hash.unwrap_or("*");
        let line = match user.standing {
            Standing::Open => format!("{hash}:19000:0::7:::"),
            Standing::EndsLater => format!("{hash}:19000:0::7::24472:"),
            // The nearest thing: a locked password.
            Standing::Disabled | Standing::Locked => format!("!{hash}:19000:0::7:::"),
            Standing::Expired => format!("{hash}:10000:0::7::11323:"),
            Standing::MustChange => format!("{hash}:0:0::7:::"),
            other => panic!("write {other:?} down here"),
        };
        writeln!(shadow, "{login}:{line}").unwrap();
    }
    let mut group = String::new();
    for (n, name) in World::groups().iter().enumerate() {
        let gid = if *name == "admin" { 1 } else { n + 10 };
        let listed =
            |user: &&auth_testkit::User| user.groups.contains(name) && (gid, user.login) != (1, "calvin");
        let members: Vec<_> = World::users().iter().filter(listed).map(|user| user.login).collect();
        writeln!(group, "{name}:x:{gid}:{}", members.join(",")).unwrap();
    }
    (passwd, shadow, group)
}

#[tokio::test]
async fn passwd_shadow_and_group_files_behave_as_a_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let (passwd, shadow, group) = world_unix();
    let shadow = write(folder.path(), "shadow", &shadow);
    let group = write(folder.path(), "group", &group);
    let config = FileConfig::new(write(folder.path(), "passwd", &passwd))
        .with_format(Format::Passwd)
        .with_shadow(&shadow)
        .with_groups(&group);
    // Nobody is switched off in such a file: moe is locked, which the world knows nothing of.
    let holds = |user: &auth_testkit::User| user.standing != Standing::Disabled;
    let both = connect(config).await;
    let alone = connect(FileConfig::new(&shadow).with_format(Format::Shadow)).await;
    for realm in realms() {
        let bench = Bench::new(&realm).holding(holds);
        suite::run_all_account(&*both, &bench).await;
        suite::run_all_groups(&*both, &bench).await;
        suite::run_all_password(&ByTable::new(Arc::clone(&both), ManualClock::new()), &bench).await;
        let bench = bench.with_ids(|user| Id::text(user.login));
        suite::run_all_account(&*alone, &bench).await;
        suite::run_all_password(&ByTable::new(Arc::clone(&alone), ManualClock::new()), &bench).await;
    }
    assert!(both.fault().is_none() && alone.fault().is_none());
}
