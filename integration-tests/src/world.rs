//! The people of auth-testkit's world, in every kind of store there is.

use std::fmt::Write as _;
use std::path::Path;

use auth_core::{Ctx, Directory, Id, NewUser, StateChange};
use auth_testkit::{Standing, User, World, realm};

/// Writes the world as a TOML file of the source kind `file`.
///
/// # Panics
/// If the world has a standing that this does not know.
#[must_use]
pub fn world_toml() -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("memory");
    for user in World::users() {
        line(format_args!("[user.\"{}\"]\nid = {}\ngroups = {:?}", user.login, user.id, user.groups));
        if let Some(hash) = user.hash {
            line(format_args!("hash = \"{hash}\""));
        }
        match user.standing {
            Standing::Open => {}
            Standing::EndsLater => line(format_args!("expires_at = 2037-01-01T00:00:00Z")),
            Standing::Disabled => line(format_args!("disabled = true")),
            Standing::Locked => line(format_args!("locked = true")),
            Standing::Expired => line(format_args!("expires_at = 2001-01-01T00:00:00Z")),
            Standing::MustChange => line(format_args!("must_change = true")),
            other => panic!("write {other:?} down here"),
        }
    }
    for object in World::objects() {
        line(format_args!("[object.{}.{}]", object.domain, object.id));
        for mode in ["read", "write"] {
            let may = |(login, what): &(&'static str, &str)| (*what == mode).then_some(*login);
            let who: Vec<_> = object.rights.iter().filter_map(may).collect();
            if !who.is_empty() {
                line(format_args!("{mode} = {who:?}"));
            }
        }
    }
    text
}

/// Writes the world as an htpasswd and an htgroup file: those who are simply there.
#[must_use]
pub fn world_htfiles() -> (String, String) {
    let open = || World::users().iter().filter(|user| user.standing == Standing::Open);
    let users = open().map(|user| format!("{}:{}\n", user.login, user.hash.unwrap_or_default())).collect();
    let member = |(group, login): (&&str, &str)| format!("{group}: {login}\n");
    let groups = open().flat_map(|user| user.groups.iter().map(|group| (group, user.login))).map(member);
    (users, groups.collect())
}

/// Writes the world as files in the style of `/etc`: passwd, shadow and group. Calvin's first group is `admin`. Nobody
/// is switched off there: moe is locked.
#[must_use]
pub fn world_unix_files() -> (String, String, String) {
    let (mut passwd, mut shadow, mut group) = (String::new(), String::new(), String::new());
    let line = |text: &mut String, words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("memory");
    };
    for user in World::users() {
        let (login, gid) = (user.login, if user.login == "calvin" { 1 } else { 0 });
        line(&mut passwd, format_args!("{login}:x:{}:{gid}:{login}:/home:/bin/sh", user.id));
        let (locked, changed, ends) = match user.standing {
            Standing::EndsLater => ("", 19_000, "24472"),
            Standing::Disabled | Standing::Locked => ("!", 19_000, ""),
            Standing::Expired => ("", 10_000, "11323"),
            Standing::MustChange => ("", 0, ""),
            _ => ("", 19_000, ""),
        };
        let hash = user.hash.unwrap_or("*");
        line(&mut shadow, format_args!("{login}:{locked}{hash}:{changed}:0::7::{ends}:"));
    }
    for (n, name) in World::groups().iter().enumerate() {
        let gid = if *name == "admin" { 1 } else { n + 10 };
        let listed = |user: &&User| user.groups.contains(name) && (*name, user.login) != ("admin", "calvin");
        let members: Vec<_> = World::users().iter().filter(listed).map(|user| user.login).collect();
        line(&mut group, format_args!("{name}:x:{gid}:{}", members.join(",")));
    }
    (passwd, shadow, group)
}

/// Writes the world into the managed schema.
///
/// # Panics
/// If it can't be written.
pub async fn load_world(directory: &dyn Directory) {
    let ctx = Ctx::new();
    for user in World::users() {
        let login = user.login_in(&realm());
        let groups = user.groups.iter().map(|group| (*group).to_owned()).collect();
        let new = NewUser { login: login.clone(), hash: user.stored_hash(), groups };
        directory.add_user(&ctx, &new).await.expect("a new user");
        let state = user.state();
        let change = StateChange {
            disabled: Some(state.disabled),
            lock: Some(state.lock),
            expires_at: Some(state.expires_at),
            must_change: Some(state.must_change),
        };
        directory.set_state(&ctx, &login, &change).await.expect("a state");
    }
    for object in World::objects() {
        directory.add_object(&ctx, &object.object()).await.expect("a new object");
        for (login, mode) in object.rights {
            let login = World::user(login).login_in(&realm());
            directory.grant(&ctx, &login, &object.object(), mode).await.expect("a right");
        }
    }
}

/// Returns the id under which [`world_commands`] writes somebody.
#[must_use]
pub fn world_text_id(user: &User) -> Id {
    Id::text(&format!("k-{}", user.id))
}

/// Writes people of the world, with some of their groups, as the commands of an application that keeps them in Redis,
/// under ids of its own; and all objects.
#[must_use]
pub fn world_commands(prefix: &str, holds: fn(&User) -> bool, groups: &[&str]) -> Vec<Vec<String>> {
    let key = |rest: &str| format!("{{{prefix}}}{rest}");
    let mut commands = Vec::new();
    let mut run = |command: &[&str]| commands.push(command.iter().map(|word| (*word).to_owned()).collect());
    for user in World::users().iter().filter(|user| holds(user)) {
        let id = world_text_id(user).to_string();
        let mut fields = vec!["login", user.login, "id", &id];
        fields.extend(user.hash.iter().flat_map(|hash| ["hash", *hash]));
        fields.extend(match user.standing {
            Standing::Disabled => ["disabled", "1"].as_slice(),
            Standing::Locked => &["locked", "1"],
            Standing::Expired => &["expires_at", "978307200"],
            Standing::EndsLater => &["expires_at", "2114380800"],
            Standing::MustChange => &["must_change", "1"],
            _ => &[],
        });
        run(&[&["HSET", &key(&format!("user:{}", user.login))], fields.as_slice()].concat());
        run(&["ZADD", &key("users"), "0", user.login]);
        run(&["SADD", &key(&format!("groups:{id}")), ""]);
        for group in user.groups.iter().filter(|group| groups.contains(group)) {
            run(&["SADD", &key(&format!("groups:{id}")), group]);
            run(&["ZADD", &key("groups"), "0", group]);
        }
    }
    for object in World::objects() {
        run(&["ZADD", &key("domains"), "0", object.domain]);
        let name = format!("{}:{}", object.domain, object.id);
        run(&["HSET", &key(&format!("object:{name}")), "", "1"]);
        for user in World::users() {
            let modes = object.rights.iter().filter(|(who, _)| *who == user.login).map(|(_, mode)| *mode);
            let modes: Vec<&str> = modes.collect();
            if !modes.is_empty() {
                let id = world_text_id(user).to_string();
                run(&["HSET", &key(&format!("object:{name}")), &id, &modes.join("\n")]);
                run(&["SADD", &key(&format!("rights:{id}")), &name]);
            }
        }
    }
    commands
}

/// Writes the world into tables of somebody else's.
///
/// # Panics
/// If they can't be made.
pub fn world_tables(path: &Path) {
    crate::database(path, &world_sql());
}

/// Writes the statements that make those tables. PostgreSQL and SQLite take them as they are; what a column of
/// MariaDB compares otherwise than byte by byte must be told there.
#[must_use]
pub fn world_sql() -> String {
    let mut sql = String::from(
        "CREATE TABLE person (no BIGINT PRIMARY KEY, name VARCHAR(255) UNIQUE, secret VARCHAR(255), off INT, jail INT, ends BIGINT, renew INT);
         CREATE TABLE member (no BIGINT, team VARCHAR(255));
         CREATE TABLE doc (no BIGINT PRIMARY KEY);
         CREATE TABLE doc_acl (doc BIGINT, no BIGINT, mode VARCHAR(255));",
    );
    for user in World::users() {
        let flag = |standing| i32::from(user.standing == standing);
        let (off, jail, renew) =
            (flag(Standing::Disabled), flag(Standing::Locked), flag(Standing::MustChange));
        let ends = match user.standing {
            Standing::Expired => "978307200",
            Standing::EndsLater => "2114380800",
            _ => "NULL",
        };
        let hash = user.hash.map_or("NULL".to_owned(), |hash| format!("'{hash}'"));
        let (no, name) = (user.id, user.login);
        sql +=
            &format!("INSERT INTO person VALUES ({no}, '{name}', {hash}, {off}, {jail}, {ends}, {renew});");
        for team in user.groups {
            sql += &format!("INSERT INTO member VALUES ({no}, '{team}');");
        }
    }
    for object in World::objects() {
        let doc = object.id;
        sql += &format!("INSERT INTO doc VALUES ({doc});");
        for (login, mode) in object.rights {
            let no = World::user(login).id;
            sql += &format!("INSERT INTO doc_acl VALUES ({doc}, {no}, '{mode}');");
        }
    }
    sql
}

/// The settings of a source over [`world_tables`], but for its kind and URL.
pub const WORLD_QUERIES: &str = r#"
query.account = "SELECT no AS id, name AS login, secret AS hash, off AS disabled, jail AS locked, ends AS expires_at, renew AS must_change FROM person WHERE name = :login"
query.groups  = "SELECT team AS name FROM member WHERE no = :id"
query.replace_hash = "UPDATE person SET secret = :new WHERE no = :id AND secret = :old"
object.doc.id     = "int"
object.doc.exists = "SELECT 1 FROM doc WHERE no = :object"
object.doc.access = "SELECT 1 FROM doc_acl WHERE doc = :object AND no = :id AND mode = :mode"
object.doc.any    = "SELECT 1 FROM doc_acl WHERE doc = :object AND no = :id"
"#;
