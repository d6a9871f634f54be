//! The people of auth-testkit's world, in every kind of store there is.

use std::fmt::Write as _;
use std::path::Path;

use auth_core::{Ctx, Directory, NewUser, StateChange};
use auth_testkit::{Standing, World, realm};

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

/// Writes the world into tables of somebody else's.
///
/// # Panics
/// If they can't be made.
pub fn world_tables(path: &Path) {
    let mut sql = String::from(
        "CREATE TABLE person (no INTEGER PRIMARY KEY, name TEXT UNIQUE, secret TEXT, off INT, jail INT, ends INT, renew INT);
         CREATE TABLE member (no INT, team TEXT);
         CREATE TABLE doc (no INTEGER PRIMARY KEY);
         CREATE TABLE doc_acl (doc INT, no INT, mode TEXT);",
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
    crate::database(path, &sql);
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
