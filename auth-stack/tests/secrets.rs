//! A secret that is configured is in no output: not shown, not in `Debug`, not in an error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::sync::Arc;

use auth_core::Result;
use auth_stack::{Opening, Provides, Stack};

/// What must never be seen. As a number where texts are not possible.
const CANARY: &str = "tyger-tyger";
const NUMBER: &str = "8675309";

async fn anything(mut opening: Opening<'_>) -> Result<Provides> {
    let shown = format!("{opening:?}");
    assert!(!shown.contains(CANARY) && !shown.contains(NUMBER), "{shown}");
    let _all: toml::Table = opening.settings()?;
    Ok(Provides::accounts(Arc::new(auth_testkit::MemoryStore::named(opening.info.name()))))
}

/// A kind that wants a whole number everywhere.
async fn picky(mut opening: Opening<'_>) -> Result<Provides> {
    let _numbers: std::collections::BTreeMap<String, u32> = opening.settings()?;
    Ok(Provides::default())
}

fn check_clean(what: &str, text: &str) {
    assert!(!text.contains(CANARY) && !text.contains(NUMBER), "{what} shows a secret: {text}");
}

#[tokio::test]
async fn no_shape_of_a_secret_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, CANARY).unwrap();
    let file = file.display();
    for line in [
        format!("plain = {{ file = '{file}' }}"),
        "plain = { env = \"CANARY\" }".to_owned(),
        "url = { env = \"CANARY\" }".to_owned(),
        "url = { env = \"CANARY_URL\" }".to_owned(),
        "plain = { env = \"CANARY_URL\" }".to_owned(),
        format!("list = [\"a\", {{ file = '{file}' }}]"),
        format!("list = [[{{ file = '{file}' }}], {{ x = {{ file = '{file}' }} }}]"),
        format!("deep.down.here = {{ file = '{file}' }}"),
        format!("[source.a.deep]\nhere = {{ file = '{file}' }}"),
        format!("[[source.a.deep]]\nhere = {{ file = '{file}' }}"),
        format!("password = \"{CANARY}\""),
        format!("password = {NUMBER}"),
        format!("Bind_Password = \"{CANARY}\""),
        format!("password = [\"{CANARY}\"]"),
        format!("password = {{ one = \"{CANARY}\", two = {NUMBER} }}"),
        format!("client-secret = \"{CANARY}\""),
        format!("api_key = \"{CANARY}\""),
        format!("key = \"{CANARY}\""),
        format!("[source.a.secrets]\nfirst = \"{CANARY}\""),
        format!("url = \"pg://calvin:{CANARY}@host/db\""),
        format!("url = \"pg://calvin:a@b{CANARY}@host/db\""),
        format!("url = \"pg://calvin:a/{CANARY}@host/db\""),
        format!("url = \"pg://calvin:a?{CANARY}@host/db\""),
        format!("url = \"pg://host/db?password={CANARY}\""),
        format!("url = \"pg:calvin:{CANARY}@host\""),
        format!("url = \"{CANARY}\""),
        format!("urls = [\"pg://calvin:{CANARY}@host/db\"]"),
        format!("servers = [\"pg://calvin:{CANARY}@host/db\"]"),
        format!("replica_uri = \"{CANARY}\""),
        format!("dsn = \"host=db password={CANARY}\""),
    ] {
        let text = format!("[source.a]\nkind = \"anything\"\n{line}\n");
        let builder = || {
            Stack::builder()
                .data(folder.path())
                .config(&text)
                .var("CANARY", CANARY)
                .var("CANARY_URL", &format!("pg://calvin:{CANARY}@host/db"))
                .register_source("anything", anything)
        };
        let (loaded, config) = builder().load().unwrap();
        // Else the test shows nothing.
        let raw = toml::to_string(&loaded.table).unwrap();
        assert!(raw.contains(CANARY) || raw.contains(NUMBER), "{raw}");
        check_clean("masked", &loaded.masked());
        check_clean("loaded", &format!("{loaded:?} {loaded:#?}"));
        check_clean("config", &format!("{config:?}"));
        check_clean("builder", &format!("{:?}", builder()));
        let stack = builder().build().await.unwrap();
        check_clean("show", &stack.show());
        check_clean("show_json", &stack.show_json().to_string());
        check_clean("stack", &format!("{stack:?}"));
    }
}

#[tokio::test]
async fn no_error_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("pg://calvin:{CANARY}@host/db");
    for (text, name, value) in [
        ("[source.a]\nkind = \"picky\"\nplain = { env = \"CANARY\" }\n", "CANARY", CANARY),
        ("[source.a]\nkind = \"picky\"\nplain = { env = \"CANARY\" }\n", "CANARY", url.as_str()),
        ("[source.a]\nkind = \"picky\"\nrole = { env = \"CANARY\" }\n", "CANARY", CANARY),
        ("[source.a]\nkind = \"picky\"\ntimeout = { env = \"CANARY\" }\n", "CANARY", CANARY),
        ("[source.a]\nkind = \"picky\"\n", "GATEPOST__SOURCE__A__PASSWORD", CANARY),
        ("[source.a]\nkind = \"picky\"\n", "GATEPOST__SOURCE__A__OTHER", CANARY),
        ("[source.a]\nkind = \"sql\"\nurl = { env = \"CANARY\" }\n", "CANARY", CANARY),
        ("[source.a]\nkind = \"sql\"\nurl = { env = \"CANARY\" }\n", "CANARY", url.as_str()),
        ("", "DATABASE_URL", CANARY),
        ("", "DATABASE_URL", url.as_str()),
        ("", "LDAP_URL", url.as_str()),
        ("", "CACHE_URL", url.as_str()),
        ("", "CACHE", url.as_str()),
        ("", "GATEPOST__SOURCE__A__KIND", url.as_str()),
        ("", "CACHE_SIZE", url.as_str()),
        ("", "CACHE_TTL", url.as_str()),
        ("", "GATEPOST__SERVER__LISTEN", url.as_str()),
        ("", "GATEPOST__SERVER__TRUSTED_PROXIES", url.as_str()),
    ] {
        let builder = Stack::builder().data(folder.path()).config(text).var(name, value);
        let error = builder.register_source("picky", picky).build().await.unwrap_err();
        check_clean("the error", &format!("{error} {error:?} {}", error.message()));
        assert!(!error.message().is_empty());
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let no = folder.path().join("no").display().to_string();
    let text =
        |reference: &str| format!("[source.a]\nkind = \"anything\"\n\nplain = [1, {{ {reference} }}]\n");
    for (reference, message) in [
        ("env = \"NOT\"".to_owned(), "environment NOT is not set".to_owned()),
        ("env = \"EMPTY\"".to_owned(), "environment EMPTY is empty".to_owned()),
        (format!("file = '{no}'"), format!("can't read {no}: No such file or directory (os error 2)")),
        ("file = '/dev/zero'".to_owned(), "can't read /dev/zero: it is larger than 64 KiB".to_owned()),
    ] {
        let error = Stack::builder().config(&text(&reference)).var("EMPTY", "").load().unwrap_err();
        assert_eq!(error.message(), format!("gatepost.toml:4: source.a.plain.1: {message}"));
    }
    let error = Stack::builder().var("GATEPOST__SOURCE__A__URL", "{ env = \"NOT\" }").load().unwrap_err();
    assert_eq!(
        error.message(),
        "environment GATEPOST__SOURCE__A__URL: source.a.url: environment NOT is not set"
    );
}

#[test]
fn what_is_no_secret_is_shown() {
    let text = "[cache]\nkind = \"lru\"\n[cache.ttl]\ntoken = \"5m\"\n[source.file]\nkind = \"file\"\npath = \"people\"\n\
                on.bad_password = \"continue\"\n[realm.default]\npassword = [\"file\"]\nlink = { file = \"login\" }\n";
    let (loaded, _) = Stack::builder().config(text).load().unwrap();
    assert_eq!(toml::from_str::<toml::Table>(text).unwrap(), loaded.masked_table());
}
