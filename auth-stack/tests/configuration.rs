//! What can be configured, by whom, and how every mistake is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::path::Path;

use auth_cache::Bound;
use auth_core::{ErrorKind, Result};
use auth_stack::{Builder, Config, Opening, Provides, Stack};
use serde::Deserialize;

/// A builder that keeps to a folder of its own.
fn builder(folder: &Path, text: &str) -> Builder {
    Stack::builder().data(folder.join("data")).config(text)
}

fn config(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let builder = Stack::builder().config(text);
    environment
        .iter()
        .fold(builder, |builder, (name, value)| builder.var(name, value))
        .load()
        .map(|(_, it)| it)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether they are read matters")]
struct Settings {
    address: String,
    retries: Option<u32>,
    secret: Option<String>,
}

/// A kind with settings, which provides people only.
async fn register(mut opening: Opening<'_>) -> Result<Provides> {
    let _settings: Settings = opening.settings()?;
    let store = auth_testkit::MemoryStore::named(opening.info.name());
    Ok(Provides::accounts(std::sync::Arc::new(store)))
}

/// A kind without settings, which provides everything.
async fn memory(mut opening: Opening<'_>) -> Result<Provides> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let Nothing {} = opening.settings()?;
    Ok(Provides::all_of(std::sync::Arc::new(auth_testkit::MemoryStore::named(opening.info.name()))))
}

async fn build(text: &str, environment: &[(&str, &str)]) -> Result<Stack> {
    let folder = tempfile::tempdir().unwrap();
    let builder =
        builder(folder.path(), text).register_source("register", register).register_source("memory", memory);
    environment.iter().fold(builder, |builder, (name, value)| builder.var(name, value)).build().await
}

async fn check_refused(text: &str, environment: &[(&str, &str)], message: &str) {
    let error = build(text, environment).await.unwrap_err();
    assert_eq!(error.message(), message, "of {text}");
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn nothing_configured_at_all_is_a_working_stack() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep/er");
    let stack = Stack::builder().var("GATEPOST_DATA", data.to_str().unwrap()).build().await.unwrap();
    assert!(stack.is_embedded());
    assert_eq!(stack.data(), data);
    let realm = stack.realm("default").unwrap();
    let verdict = realm.attempt(&auth_core::Ctx::new(), "calvin", b"hobbes".to_vec()).await.unwrap();
    assert_eq!(verdict, auth_core::Verdict::Rejected(auth_core::Reject::UnknownUser));
    assert!(stack.directory("default").is_some());
    assert_eq!(stack.config().cache.kind, "ttl");
}

#[cfg(unix)]
#[tokio::test]
async fn the_data_folder_and_the_database_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = folder.path().join("data");
    builder(folder.path(), "").build().await.unwrap();
    assert_eq!((mode(&data), mode(&data.join("gatepost.db"))), (0o700, 0o600));
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o770)).unwrap();
    let error = builder(folder.path(), "").build().await.unwrap_err();
    assert_eq!(error.message(), "others may write to the data folder; make its mode 0700");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Stack::builder().data(folder.path().join("file")).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_configured_source_leaves_the_data_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stack = builder(folder.path(), "[source.a]\nkind = \"memory\"\n").register_source("memory", memory);
    assert!(!stack.build().await.unwrap().is_embedded());
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn odd_names_of_the_data_folder_are_just_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["what?mode=ro", "50%41", "a b#c", "zo\u{e9}"] {
        let data = folder.path().join(name);
        Stack::builder().data(&data).build().await.unwrap();
        assert!(data.join("gatepost.db").exists(), "{name}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_a_long_name_over_a_short_one() {
    let file = "[cache]\nkind = \"none\"\nsize = 3\nprefix = \"file.\"\nttl = \"1s\"\n";
    let short = [
        ("CACHE", "lru"),
        ("CACHE_SIZE", "4"),
        ("CACHE_PREFIX", "env."),
        ("CACHE_TTL", "2s"),
        ("CACHE_URL", "redis://h"),
    ];
    let read = config(file, &short).unwrap().cache;
    assert_eq!((read.kind.as_str(), read.bound(), read.prefix.as_str()), ("lru", Bound::Entries(4), "env."));
    assert_eq!(read.url.as_deref(), Some("redis://h"));
    assert_eq!(read.ttl.0.all.map(|all| all.0.as_secs()), Some(2));
    let mut long = short.to_vec();
    long.extend([("GATEPOST__CACHE__KIND", "ttl"), ("GATEPOST__CACHE__SIZE", "5")]);
    let read = config(file, &long).unwrap().cache;
    assert_eq!((read.kind.as_str(), read.bound(), read.prefix.as_str()), ("ttl", Bound::Entries(5), "env."));
    // An empty name is one that is not set; an empty prefix is one that was meant.
    let read = config(file, &[("CACHE", ""), ("CACHE_SIZE", ""), ("CACHE_TTL", ""), ("CACHE_PREFIX", "")])
        .unwrap()
        .cache;
    assert_eq!((read.kind.as_str(), read.bound(), read.prefix.as_str()), ("none", Bound::Entries(3), ""));
}

#[test]
fn what_looks_like_a_number_is_a_text_where_a_text_is_wanted() {
    for text in ["123", "true", "1.5", "inf", "2026-01-01", "[1]", "{ a = 1 }", "1 # one", "0x10", "1_000"] {
        assert_eq!(config("", &[("CACHE_PREFIX", text)]).unwrap().cache.prefix, text);
        assert_eq!(config("", &[("GATEPOST__CACHE__PREFIX", text)]).unwrap().cache.prefix, text);
    }
    assert_eq!(config("", &[("GATEPOST__CACHE__PREFIX", "\"a\"")]).unwrap().cache.prefix, "a");
    assert_eq!(config("", &[("CACHE_PREFIX", "\"a\"")]).unwrap().cache.prefix, "\"a\"");
}

#[test]
fn a_value_of_several_lines_sets_no_other_key() {
    for text in [
        "1\nother = 2",
        "\"a\"\n[server]\nrealm = \"x\"",
        "1\n[source.x]\nkind = \"sql\"",
        "a\nb",
        "1\r\nb = 1",
    ] {
        let (loaded, read) = Stack::builder().var("GATEPOST__CACHE__PREFIX", text).load().unwrap();
        assert_eq!((read.cache.prefix.as_str(), loaded.table.len()), (text, 1));
        assert_eq!(read.server.realm, "default");
    }
}

#[tokio::test]
async fn a_settings_text_from_the_environment_may_look_like_a_number() {
    let text = "[source.a]\nkind = \"register\"\naddress = \"x\"\n";
    let set = [
        ("GATEPOST__SOURCE__A__ADDRESS", "123"),
        ("GATEPOST__SOURCE__A__SECRET", "456"),
        ("GATEPOST__SOURCE__A__RETRIES", "7"),
    ];
    let stack = build(text, &set).await.unwrap();
    assert!(!stack.show().contains("456"), "{}", stack.show());
    check_refused(
        text,
        &[("GATEPOST__SOURCE__A__RETRIES", "many")],
        "environment GATEPOST__SOURCE__A__RETRIES: source.a.retries: invalid type: string, expected a whole number from 0",
    )
    .await;
}

#[test]
fn names_of_the_environment_find_keys_with_small_letters_and_hyphens() {
    let file = "[source.My-App]\nkind = \"sql\"\nurl = \"sqlite:a\"\n";
    let read = config(file, &[("GATEPOST__SOURCE__MY_APP__URL", "sqlite:b")]).unwrap();
    assert_eq!((read.source.len(), read.source["My-App"]["url"].as_str()), (1, Some("sqlite:b")));
}

#[test]
fn a_part_of_a_name_may_not_be_empty() {
    for name in ["GATEPOST__", "GATEPOST__CACHE__", "GATEPOST____KIND"] {
        let error = config("", &[(name, "x")]).unwrap_err();
        assert_eq!(error.message(), format!("environment {name}: a part of the name is empty"));
    }
}

#[test]
fn a_database_url_is_the_url_of_the_only_source() {
    let url = |text: &str, set: &[(&str, &str)]| {
        let read = config(text, set).unwrap();
        read.source
            .get("local")
            .or(read.source.get("a"))
            .and_then(|a| a.get("url"))
            .and_then(|url| url.as_str().map(str::to_owned))
    };
    let set = [("DATABASE_URL", "sqlite:env.db")];
    assert_eq!(url("", &set).as_deref(), Some("sqlite:env.db"));
    assert_eq!(url("[source.a]\nkind = \"sql\"\n", &set).as_deref(), Some("sqlite:env.db"));
    assert_eq!(
        url("[source.a]\nkind = \"sql\"\nurl = \"sqlite:file.db\"\n", &set).as_deref(),
        Some("sqlite:env.db")
    );
    let long = [set[0], ("GATEPOST__SOURCE__A__URL", "sqlite:long.db")];
    assert_eq!(url("[source.a]\nkind = \"sql\"\n", &long).as_deref(), Some("sqlite:long.db"));
    assert_eq!(url("[source.a]\nkind = \"file\"\n", &set), None);
    assert_eq!(url("[source.a]\nkind = \"sql\"\n[source.b]\nkind = \"sql\"\n", &set), None);
    // Whatever it looks like, it is a text.
    assert_eq!(url("", &[("DATABASE_URL", "123")]).as_deref(), Some("123"));
}

#[tokio::test]
async fn unknown_keys_are_refused_at_every_level() {
    for (text, message) in [
        ("cach = 1\n", "gatepost.toml:1: cach: unknown key `cach`; did you mean `cache`?"),
        ("[cache]\nsizes = 3\n", "gatepost.toml:2: cache.sizes: unknown key `sizes`; did you mean `size`?"),
        (
            "[cache.ttl]\nalow = \"3s\"\n",
            "gatepost.toml:2: cache.ttl.alow: unknown key `alow`; did you mean `allow`?",
        ),
        (
            "[cache]\ncache = 3\n",
            "gatepost.toml:2: cache.cache: unknown key `cache`; known: `kind`, `url`, `prefix`, `size`, `ttl`, `stale_if_error`, `refresh_ahead`, `local`, `local_ttl`, `bus`, `seal`, `timeout`, `connect_timeout`, `tls`",
        ),
        (
            "[password]\nminlength = 3\n",
            "gatepost.toml:2: password.minlength: unknown key `minlength`; did you mean `min_length`?",
        ),
        (
            "[password]\nargon2 = { pases = 3 }\n",
            "gatepost.toml:2: password.argon2.pases: unknown key `pases`; did you mean `passes`?",
        ),
        (
            "password.limits.round = 3\n",
            "gatepost.toml:1: password.limits.round: unknown key `round`; did you mean `rounds`?",
        ),
        (
            "[server]\nlisten = \"127.0.0.1:1\"\nlimits = \"1s\"\n",
            "gatepost.toml:3: server.limits: unknown key `limits`; did you mean `limit`?",
        ),
        (
            "[realm.\"a.b\"]\n\"pass word\" = []\n",
            "gatepost.toml:2: realm.\"a.b\".\"pass word\": unknown key `pass word`; did you mean `password`?",
        ),
        (
            "[realm.a]\n'x`y' = 1\n",
            "gatepost.toml:2: realm.a.\"x`y\": unknown key `x`y`; known: `login`, `password`, `groups`, `objects`, `link`",
        ),
        (
            "[source.a]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\nmanged = true\n",
            "gatepost.toml:4: source.a.manged: unknown key `manged`; did you mean `managed`?",
        ),
        (
            "[source.a]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n\n[source.a.query]\nacount = \"x\"\n",
            "gatepost.toml:6: source.a.query.acount: unknown key `acount`; did you mean `account`?",
        ),
        (
            "[source.a]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\npool = { max_conections = 3 }\n",
            "gatepost.toml:4: source.a.pool.max_conections: unknown key `max_conections`; did you mean `max_connections`?",
        ),
        (
            "[source.a]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n[source.a.object.doc]\nexists = \"a\"\naccess = \"b\"\nanny = \"c\"\n",
            "gatepost.toml:7: source.a.object.doc.anny: unknown key `anny`; did you mean `any`?",
        ),
        (
            "[source.a]\nkind = \"file\"\npaht = \"x\"\n",
            "gatepost.toml:3: source.a.paht: unknown key `paht`; did you mean `path`?",
        ),
        (
            "[source.a]\nkind = \"register\"\naddress = \"x\"\nretrys = 3\n",
            "gatepost.toml:4: source.a.retrys: unknown key `retrys`; did you mean `retries`?",
        ),
        (
            "[source.a]\nkind = \"memory\"\non = { eror = \"stop\" }\n",
            "gatepost.toml:3: source.a.on.eror: unknown key `eror`; did you mean `error`?",
        ),
        (
            "[source.a]\nkind = \"memory\"\nxyz = 1\n",
            "gatepost.toml:3: source.a.xyz: unknown key `xyz`; known: `timeout`, `role`, `on`, `loads`, `queue`, `backoff`",
        ),
    ] {
        check_refused(text, &[], message).await;
    }
    check_refused(
        "",
        &[("GATEPOST__REALM__DEFAULT__PASSWRD", "[]")],
        "environment GATEPOST__REALM__DEFAULT__PASSWRD: realm.default.passwrd: unknown key `passwrd`; did you mean `password`?",
    )
    .await;
}

#[tokio::test]
async fn wrong_values_are_refused_where_they_stand() {
    for (text, message) in [
        ("[cache\n", "gatepost.toml:1: unclosed table, expected `]`"),
        (
            "[cache]\nttl = \"60 sec\"\n",
            "gatepost.toml:2: cache.ttl: `60 sec` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        ),
        (
            "[cache]\nttl = -1\n",
            "gatepost.toml:2: cache.ttl: `-1` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        ),
        (
            "[cache]\nttl = true\n",
            "gatepost.toml:2: cache.ttl: invalid type: boolean `true`, expected a time such as \"60s\", or a table of times",
        ),
        (
            "[cache.ttl]\nallow = \"1s\"\ndeny = \"soon\"\n",
            "gatepost.toml:3: cache.ttl.deny: `soon` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        ),
        (
            "[cache]\nsize = \"big\"\n",
            "gatepost.toml:2: cache.size: `big` is not a size: use a number of entries, or KiB, MiB, GiB or TiB, as in \"64MiB\"; for no bound: kind = \"dict\"",
        ),
        (
            "[cache]\nsize = -1\n",
            "gatepost.toml:2: cache.size: `-1` is not a size: use a number of entries, or KiB, MiB, GiB or TiB, as in \"64MiB\"; for no bound: kind = \"dict\"",
        ),
        (
            "[cache]\nsize = \"64MB\"\n",
            "gatepost.toml:2: cache.size: `64MB` is not a size: use a number of entries, or KiB, MiB, GiB or TiB, as in \"64MiB\"; for no bound: kind = \"dict\"",
        ),
        (
            "[cache]\nsize = 1.5\n",
            "gatepost.toml:2: cache.size: invalid type: floating point `1.5`, expected a number of entries, or bytes such as \"64MiB\"",
        ),
        ("[cache]\nsize = 0\n", "gatepost.toml:2: cache.size: a size of 0 is no cache: say kind = \"none\""),
        (
            "[cache]\nsize = \"0KiB\"\n",
            "gatepost.toml:2: cache.size: a size of 0 is no cache: say kind = \"none\"",
        ),
        ("[cache]\nsize = \"63KiB\"\n", "gatepost.toml:2: cache.size: 63KiB is not between 64KiB and 1TiB"),
        (
            "[cache]\nsize = \"1025GiB\"\n",
            "gatepost.toml:2: cache.size: 1025GiB is not between 64KiB and 1TiB",
        ),
        (
            "[cache]\nkind = \"dict\"\nsize = 1000\n",
            "gatepost.toml:3: cache.size: dict is unbounded and takes no size",
        ),
        (
            "[cache]\nstale_if_error = \"61m\"\n",
            "gatepost.toml:2: cache.stale_if_error: an answer may be stale for an hour at most: so long a dismissed user may be let in",
        ),
        (
            "[cache]\nstale_iferror = \"1m\"\n",
            "gatepost.toml:2: cache.stale_iferror: unknown key `stale_iferror`; did you mean `stale_if_error`?",
        ),
        (
            "[cache]\nrefresh_ahead = -1\n",
            "gatepost.toml:2: cache.refresh_ahead: -1 is not between 0 and 100",
        ),
        (
            "[cache]\nrefresh_ahead = 100.5\n",
            "gatepost.toml:2: cache.refresh_ahead: 100.5 is not between 0 and 100",
        ),
        (
            "[cache]\nrefresh_ahead = nan\n",
            "gatepost.toml:2: cache.refresh_ahead: NaN is not between 0 and 100",
        ),
        (
            "[cache]\nrefresh_ahead = true\n",
            "gatepost.toml:2: cache.refresh_ahead: invalid type: boolean `true`, expected a number such as 1 or 0.5; 0 for off",
        ),
        (
            "[source.a]\nkind = \"memory\"\nloads = 0\n",
            "gatepost.toml:3: source.a.loads: 0 is not between 1 and 4096",
        ),
        (
            "[source.a]\nkind = \"memory\"\nqueue = 1048577\n",
            "gatepost.toml:3: source.a.queue: 1048577 is not between 0 and 1048576",
        ),
        (
            "[source.a]\nkind = \"memory\"\nlaods = 5\n",
            "gatepost.toml:3: source.a.laods: unknown key `laods`; did you mean `loads`?",
        ),
        (
            "[source.a]\nkind = \"memory\"\nbackoff = { afterr = 5 }\n",
            "gatepost.toml:3: source.a.backoff.afterr: unknown key `afterr`; did you mean `after`?",
        ),
        (
            "[source.a]\nkind = \"memory\"\nbackoff = 3\n",
            "gatepost.toml:3: source.a.backoff: invalid type: integer `3`, expected a table such as { after = 3 }",
        ),
        (
            "[source.a]\nkind = \"memory\"\n[source.a.backoff]\nfirst = \"1s\"\nmost = \"999ms\"\n",
            "gatepost.toml:4: source.a.backoff.first: the first time is longer than the longest, `most`",
        ),
        (
            "[source.a]\nkind = \"memory\"\nbackoff.most = \"6m\"\n",
            "gatepost.toml:3: source.a.backoff.most: a source is left alone for five minutes at most, or it is not seen to be back",
        ),
        (
            "[source.a]\nkind = \"memory\"\nbackoff.first = \"0s\"\n",
            "gatepost.toml:3: source.a.backoff.first: leave the source alone for some time, or never: after = 0",
        ),
        (
            "[source.a]\nkind = \"memory\"\nbackoff.after = 1001\n",
            "gatepost.toml:3: source.a.backoff.after: a thousand failures at most; 0 never leaves the source alone",
        ),
        ("[cache]\nsize = 16777217\n", "gatepost.toml:2: cache.size: 16777217 is not between 1 and 16777216"),
        (
            "[cache]\nurl = \"redis://h\"\n",
            "gatepost.toml:2: cache.url: the cache `ttl` is in this process and takes no url",
        ),
        ("[password]\nqueue = 0\n", "gatepost.toml:2: password.queue: 0 is not between 1 and 65536"),
        ("[password]\nqueue = 65537\n", "gatepost.toml:2: password.queue: 65537 is not between 1 and 65536"),
        ("[password]\nthreads = 257\n", "gatepost.toml:2: password.threads: 257 is not between 0 and 256"),
        (
            "[password]\nmemo = 16777217\n",
            "gatepost.toml:2: password.memo: 16777217 is not between 0 and 16777216",
        ),
        (
            "[password]\nmin_length = 1025\n",
            "gatepost.toml:2: password.min_length: 1025 is not between 0 and 1024",
        ),
        (
            "[password]\naccept_weak = [\"apr_md5_crypt\",\n  \"md5_crpyt\"]\n",
            "gatepost.toml:3: password.accept_weak.1: there is no scheme `md5_crpyt`; did you mean `md5_crypt`?",
        ),
        (
            "[password]\naccept_weak = 3\n",
            "gatepost.toml:2: password.accept_weak: expected true, false or a list of scheme names",
        ),
        (
            "[password]\npreferred = \"bcrpyt\"\n",
            "gatepost.toml:2: password.preferred: unknown value `bcrpyt`; did you mean `bcrypt`?",
        ),
        (
            "[password]\npreferred = \"bcrypt\"\nbcrypt_cost = 3\n",
            "gatepost.toml:1: password: the cost of bcrypt is 4 to 31",
        ),
        (
            "[password]\npatterns = [\n  \"[0-9]\",\n  \"[a-\",\n]\n",
            "gatepost.toml:4: password.patterns.1: `[a-` is no regular expression: unclosed character class",
        ),
        ("[server]\nlimit = 0\n", "gatepost.toml:2: server.limit: a request needs some time"),
        ("[server]\nlisten = \"nowhere\"\n", "gatepost.toml:2: server.listen: invalid socket address syntax"),
        (
            "[server.hosts]\n\"a.example\" = \"staff\"\n",
            "gatepost.toml:2: server.hosts.\"a.example\": there is no realm `staff`; known: `default`",
        ),
        (
            "[server]\nrealm = \"defualt\"\n",
            "gatepost.toml:2: server.realm: there is no realm `defualt`; did you mean `default`?",
        ),
        ("[realm.\"\"]\npassword = [\"a\"]\n", "gatepost.toml:1: realm.\"\": the name of a realm is empty"),
        (
            "[realm.\"a\\u0007\"]\npassword = [\"a\"]\n",
            "gatepost.toml:1: realm.\"a\\u{7}\": the name of a realm has control characters",
        ),
        (
            "[realm.default]\nlogin = \"case-maped\"\n",
            "gatepost.toml:2: realm.default.login: unknown value `case-maped`; did you mean `case-mapped`?",
        ),
        ("[source.a]\nkind = 3\n", "gatepost.toml:2: source.a.kind: a kind is a word"),
        (
            "[source.a]\npath = \"x\"\n",
            "gatepost.toml:1: source.a: a source needs a kind, such as kind = \"sql\"",
        ),
        ("source = 3\n", "gatepost.toml:1: source: invalid type: integer `3`, expected a map"),
        (
            "[source.a]\nkind = \"memory\"\ntimeout = \"0s\"\n",
            "gatepost.toml:3: source.a.timeout: a question needs some time",
        ),
        (
            "[source.a]\nkind = \"memory\"\ntimeout = \"0s5\"\n",
            "gatepost.toml:3: source.a.timeout: `0s5` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d",
        ),
        (
            "[source.a]\nkind = \"memory\"\nrole = \"denny\"\n",
            "gatepost.toml:3: source.a.role: unknown value `denny`; did you mean `deny`?",
        ),
        (
            "[source.a]\nkind = \"memory\"\non.bad_password = \"go\"\n",
            "gatepost.toml:3: source.a.on.bad_password: unknown value `go`; known: `stop`, `continue`",
        ),
        ("[source.\"\"]\nkind = \"memory\"\n", "gatepost.toml:1: source.\"\": the name of a source is empty"),
        ("[source.a]\nkind = \"sql\"\n", "gatepost.toml:1: source.a: the key `url` is missing"),
        ("[source.a]\nkind = \"register\"\n", "gatepost.toml:1: source.a: the key `address` is missing"),
        (
            "[source.a]\nkind = \"memory\"\nrole = \"deny\"\n",
            "gatepost.toml: realm.default.password: a chain needs a source that decides",
        ),
    ] {
        check_refused(text, &[], message).await;
    }
}

#[tokio::test]
async fn unknown_kinds_are_refused_by_name() {
    for (kind, message) in [
        ("tll", "there is no cache `tll`; did you mean `ttl`?"),
        ("reddis", "there is no cache `reddis`; did you mean `redis`?"),
        ("memcache", "there is no cache `memcache`; did you mean `memcached`?"),
    ] {
        check_refused("", &[("CACHE", kind)], &format!("environment CACHE: cache.kind: {message}")).await;
        let file = format!("[cache]\nkind = \"{kind}\"\n");
        check_refused(&file, &[], &format!("gatepost.toml:2: cache.kind: {message}")).await;
    }
    for (kind, message) in [
        ("sqll", "there is no source `sqll`; did you mean `sql`?"),
        ("ldapp", "there is no source `ldapp`; did you mean `ldap`?"),
        ("rediss", "there is no source `rediss`; did you mean `redis`?"),
    ] {
        let file = format!("[source.a]\nkind = \"{kind}\"\n");
        check_refused(&file, &[], &format!("gatepost.toml:2: source.a.kind: {message}")).await;
    }
    check_refused(
        "",
        &[("LDAP_URL", "ldap://h")],
        "environment LDAP_URL: source.staff: the key `base` is missing",
    )
    .await;
}

#[tokio::test]
async fn names_that_nothing_provides_are_refused() {
    let sources = "[source.app]\nkind = \"memory\"\n[source.people]\nkind = \"register\"\naddress = \"x\"\n\
                   [source.office]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n";
    // Eight lines above.
    for (text, message) in [
        ("[realm.a]\n", "gatepost.toml:9: realm.a: a realm needs sources: password = [\"...\"]"),
        (
            "[realm.a]\npassword = [\"ap\"]\n",
            "gatepost.toml:10: realm.a.password.0: there is no source `ap`; did you mean `app`?",
        ),
        (
            "[realm.a]\npassword = [\n\"app\",\n\"ofice\"]\n",
            "gatepost.toml:12: realm.a.password.1: there is no source `ofice`; did you mean `office`?",
        ),
        (
            "[realm.a]\npassword = [\"app\", \"app\"]\n",
            "gatepost.toml:10: realm.a.password.1: the source `app` is named twice",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\ngroups = [\"app\", \"xyz\"]\n",
            "gatepost.toml:11: realm.a.groups.1: there is no source `xyz`; known: `app`, `office`, `people`",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\ngroups = [\"app\", \"app\"]\n",
            "gatepost.toml:11: realm.a.groups.1: the source `app` is named twice",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\ngroups = [\"people\"]\n",
            "gatepost.toml:11: realm.a.groups.0: the source `people` knows no groups",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\nobjects = { doc = \"ap\" }\n",
            "gatepost.toml:11: realm.a.objects.doc: there is no source `ap`; did you mean `app`?",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\nobjects.doc = \"people\"\n",
            "gatepost.toml:11: realm.a.objects.doc: the source `people` knows no rights",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\nlink = { ap = \"login\" }\n",
            "gatepost.toml:11: realm.a.link.ap: there is no source `ap`; did you mean `app`?",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\nlink = { app = \"logn\" }\n",
            "gatepost.toml:11: realm.a.link.app: unknown value `logn`; did you mean `login`?",
        ),
        (
            "[realm.a]\npassword = [\"app\"]\nlink = { app = \"login\" }\n",
            "gatepost.toml:11: realm.a.link.app: this realm asks `app` for no groups and no rights",
        ),
        (
            "[realm.a]\npassword = [\"people\"]\ngroups = [\"app\"]\nlink = { app = \"query\" }\n",
            "gatepost.toml:12: realm.a.link.app: this source has no mapping query",
        ),
        (
            "",
            "gatepost.toml:1: source: there are several sources: say in [realm.default] which of them, and in which order",
        ),
    ] {
        check_refused(&format!("{sources}{text}"), &[], message).await;
    }
    let domains = "[source.a]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\nquery.account = \"SELECT 'x' AS login, 1 AS id, NULL AS hash WHERE :login = 'x'\"\n\
                   [source.a.object.doc]\nexists = \"SELECT :object\"\naccess = \"SELECT :id, :mode\"\n\
                   [realm.default]\npassword = [\"a\"]\n";
    build(&format!("{domains}objects = {{ doc = \"a\" }}\n"), &[]).await.unwrap();
    for domain in ["dok", "*"] {
        let error =
            build(&format!("{domains}objects = {{ \"{domain}\" = \"a\" }}\n"), &[]).await.unwrap_err();
        assert!(error.message().starts_with("gatepost.toml:10: realm.default.objects."), "{error}");
        assert!(error.message().contains(&format!("there is no domain `{domain}`; ")), "{error}");
    }
}

#[tokio::test]
async fn objects_of_a_file_are_those_that_it_declares() {
    let folder = tempfile::tempdir().unwrap();
    let (people, office) = (folder.path().join("htpasswd"), folder.path().join("office.toml"));
    std::fs::write(&people, "calvin:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n").unwrap();
    std::fs::write(&office, "[user.calvin]\n[object.doc.42]\nread = [\"calvin\"]\n").unwrap();
    let text = |path: &Path, domain: &str| {
        format!(
            "[source.a]\nkind = \"file\"\npath = '{}'\n[realm.default]\npassword = [\"a\"]\nobjects.{domain} = \"a\"\n",
            path.display()
        )
    };
    let place = "gatepost.toml:6: realm.default.objects";
    check_refused(&text(&people, "doc"), &[], &format!("{place}.doc: the source `a` knows no rights")).await;
    let unknown = format!("{place}.dok: there is no domain `dok`; did you mean `doc`?");
    check_refused(&text(&office, "dok"), &[], &unknown).await;
    build(&text(&office, "doc"), &[]).await.unwrap();
    build(&text(&office, "\"*\""), &[]).await.unwrap();
    // Without a realm: whatever the file declares, now or later.
    let stack = build(&format!("[source.a]\nkind = \"file\"\npath = '{}'\n", office.display()), &[]).await;
    assert_eq!(stack.unwrap().realm("default").unwrap().domains().collect::<Vec<_>>(), ["*"]);
    let stack = build(&format!("[source.a]\nkind = \"file\"\npath = '{}'\n", people.display()), &[]).await;
    assert_eq!(stack.unwrap().realm("default").unwrap().domains().count(), 0);
}

#[tokio::test]
async fn a_source_that_does_not_open_is_told_with_its_place() {
    async fn away(opening: Opening<'_>) -> Result<Provides> {
        let error = auth_core::Error::new(ErrorKind::Unavailable, "nobody is there");
        Err(error.at(std::sync::Arc::clone(opening.info.name())).because(std::fmt::Error))
    }
    let build = async |builder: Builder| builder.register_source("away", away).build().await.unwrap_err();
    let error = build(Stack::builder().config("\n[source.app]\nkind = \"away\"\n")).await;
    assert_eq!(
        error.to_string(),
        "unavailable: gatepost.toml:2: source.app: nobody is there (source app)",
        "a temporary error stays one"
    );
    assert!(std::error::Error::source(&error).is_some(), "so does its cause");
    let error = build(Stack::builder().var("GATEPOST__SOURCE__APP__KIND", "away")).await;
    assert_eq!(error.message(), "environment GATEPOST__SOURCE__APP__KIND: source.app: nobody is there");
    let file = "[source.a]\nkind = \"file\"\npath = \"/no/users\"\n";
    check_refused(file, &[], "gatepost.toml:1: source.a: there is no such file").await;
}

#[tokio::test]
async fn a_hook_has_the_last_word_about_a_new_password() {
    let folder = tempfile::tempdir().unwrap();
    let hook = |login: &auth_core::Login, password: &auth_core::Password| {
        let own = password.as_bytes().starts_with(login.as_str().as_bytes());
        if own { Err("it begins with the login".to_owned()) } else { Ok(()) }
    };
    let stack = builder(folder.path(), "").quality_hook(std::sync::Arc::new(hook)).build().await.unwrap();
    let login = auth_core::Login::parse(stack.realm("default").unwrap().id(), "calvin").unwrap();
    let check = |password: &str| {
        let password = auth_core::Password::new(password.as_bytes().to_vec()).unwrap();
        stack.check_quality(&login, &password).map_err(|error| error.message().to_owned())
    };
    assert_eq!(check("transmogrifier"), Ok(()));
    let refused = |why: &str| Err(format!("the password is {why}"));
    assert_eq!(check("calvin the bold"), refused("not good enough: it begins with the login"));
    assert_eq!(check("calvin"), refused("too short: at least 8 characters"), "the rules come first");
}

#[cfg(unix)]
#[test]
fn a_configuration_that_anybody_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatepost.toml");
    std::fs::write(&path, "").unwrap();
    let load = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Stack::builder().config_file(&path).load().map(drop)
    };
    let error = load(0o646).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(
        error.message().ends_with("anybody may write this file; take that right away (chmod o-w)"),
        "{error}"
    );
    load(0o664).unwrap();
}

#[tokio::test]
async fn without_a_cache_nothing_can_stand_in_and_what_is_for_nothing_is_told() {
    let text =
        "[source.a]\nkind = \"memory\"\n[source.b]\nkind = \"memory\"\n[realm.default]\npassword = [\"a\"]\n";
    check_refused(
        &format!("[cache]\nstale_if_error = \"1m\"\n{text}"),
        &[("CACHE", "none")],
        "gatepost.toml:2: cache.stale_if_error: without a cache nothing can stand in for a source: choose a kind, or take this out",
    )
    .await;
    let warnings = async |cache: &str, kind: &str| {
        let stack = build(&format!("[cache]\n{cache}\n{text}"), &[("CACHE", kind)]).await.unwrap();
        stack.warnings().join("; ")
    };
    let unused = "no realm uses the source `b` of kind `memory`";
    assert_eq!(warnings("stale_if_error = \"0s\"", "none").await, unused);
    assert_eq!(warnings("size = 5", "ttl").await, unused);
    let told = warnings("size = 5\nrefresh_ahead = 2", "none").await;
    assert!(
        told.starts_with("cache.size is for nothing") && told.contains("cache.refresh_ahead is"),
        "{told}"
    );
    assert!(warnings("", "dict").await.contains("grows without bound"));
    assert!(warnings("stale_if_error = \"1m\"", "lru").await.contains("answers live up to 60s longer"));
}

#[tokio::test]
async fn the_settings_of_the_cache_are_shown_as_they_are() {
    let text = "[cache]\nstale_if_error = \"90s\"\nrefresh_ahead = 2\n[source.a]\nkind = \"memory\"\n\
                backoff = { after = 5, most = \"1500ms\" }\n";
    let shown = build(text, &[("CACHE_SIZE", "64MiB")]).await.unwrap().show_json();
    assert_eq!(shown["cache"]["size"], "64MiB");
    assert_eq!(shown["cache"]["stale_if_error"], "90s");
    assert_eq!(shown["cache"]["refresh_ahead"], 2);
    let backoff = serde_json::json!({ "after": 5, "first": "500ms", "most": "1500ms" });
    assert_eq!(shown["source"]["a"]["backoff"], backoff);
    assert_eq!(
        (&shown["source"]["a"]["loads"], &shown["source"]["a"]["queue"]),
        (&64.into(), &16_384.into())
    );
    // What is shown says the same again; the unbounded kind has no size to show.
    for (set, size) in [(&[][..], Some(262_144)), (&[("CACHE", "dict")], None), (&[("CACHE", "none")], None)]
    {
        let stack = build("[source.a]\nkind = \"memory\"\n", set).await.unwrap();
        let (shown, again) = (stack.show_json(), build(&stack.show(), &[]).await.unwrap());
        assert_eq!(shown["cache"].get("size").and_then(serde_json::Value::as_u64), size);
        assert_eq!(again.show_json(), shown);
        assert_eq!(shown["cache"].get("ttl").is_some(), stack.config().cache.kind != "none");
    }
    // The lifetimes in force: what was set one by one, the defaults, and what caps them.
    let text = "[cache.ttl]\nall = \"20s\"\naccount = \"5s\"\n[source.a]\nkind = \"memory\"\n";
    let shown = build(text, &[]).await.unwrap().show_json();
    let ttls = serde_json::json!({
        "account": "5s", "accepted": "20s", "groups": "20s", "allow": "20s", "deny": "20s", "unknown": "15s",
        "not_found": "0s", "token": "20s",
    });
    assert_eq!(shown["cache"]["ttl"], ttls);
    // Both say how much; the environment wins.
    let stack = build("[cache]\nsize = 5\n[source.a]\nkind = \"memory\"\n", &[("CACHE_SIZE", "64KiB")]).await;
    assert_eq!(stack.unwrap().caches()[0].1.stats.bound, Some(Bound::Bytes(65_536 + 8_192)));
    check_refused(
        "[source.a]\nkind = \"memory\"\n",
        &[("CACHE", "dict"), ("CACHE_SIZE", "5")],
        "environment CACHE_SIZE: cache.size: dict is unbounded and takes no size",
    )
    .await;
}

#[tokio::test]
async fn settings_that_no_one_uses_are_refused() {
    let text = "[source.a]\nkind = \"memory\"\n[source.b]\nkind = \"memory\"\n";
    let realm = "[realm.default]\npassword = [\"a\"]\ngroups = [\"b\"]\n";
    check_refused(
        &format!("{text}role = \"deny\"\n{realm}"),
        &[],
        "gatepost.toml:5: source.b.role: no realm asks this source for passwords, which is what this is about",
    )
    .await;
    check_refused(
        &format!("{text}on.error = \"stop\"\n{realm}"),
        &[],
        "gatepost.toml:5: source.b.on: no realm asks this source for passwords, which is what this is about",
    )
    .await;
    build(&format!("{text}{realm}"), &[]).await.unwrap();
}

#[tokio::test]
async fn a_kind_has_one_meaning() {
    for builder in [
        Stack::builder().register_source("sql", memory),
        Stack::builder().register_source("x", memory).register_source("x", register),
        Stack::builder().register_cache("lru", std::sync::Arc::new(|_| unreachable!())),
        Stack::builder().register_cache("none", std::sync::Arc::new(|_| unreachable!())),
    ] {
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.message().ends_with("is registered twice, or built in"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.toml");
    let error = Stack::builder().config_file(&path).load().unwrap_err();
    assert_eq!(
        error.message(),
        format!("can't read {}: No such file or directory (os error 2)", path.display())
    );
    let named = Stack::builder().var("GATEPOST_CONFIG", path.to_str().unwrap()).load().unwrap_err();
    assert_eq!(named.message(), error.message());
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Stack::builder().config_file(&path).load().unwrap_err();
    assert_eq!(error.message(), format!("can't read {}: it is larger than 1 MiB", path.display()));
    std::fs::write(&path, "\n[cache]\nkind = \"lru\"\n").unwrap();
    let (_, read) = Stack::builder().config_file(&path).var("GATEPOST_CONFIG", "elsewhere").load().unwrap();
    assert_eq!(read.cache.kind, "lru");
}

#[test]
fn one_lifetime_sets_three_and_caps_the_rest() {
    let ttls = |text: &str, set: &[(&str, &str)]| {
        let ttls = config(text, set).unwrap().cache.ttl.0.over(auth_cache::Ttls::default());
        [
            ttls.account,
            ttls.accepted,
            ttls.groups,
            ttls.allow,
            ttls.deny,
            ttls.unknown,
            ttls.not_found,
            ttls.token,
        ]
        .map(|ttl| ttl.as_secs())
    };
    assert_eq!(ttls("", &[]), [60, 60, 60, 30, 30, 15, 0, 300]);
    assert_eq!(ttls("", &[("CACHE_TTL", "20s")]), [20, 20, 20, 20, 20, 15, 0, 20]);
    assert_eq!(ttls("", &[("CACHE_TTL", "10m")]), [600, 600, 600, 30, 30, 15, 0, 300]);
    let each = "[cache.ttl]\naccount = \"5s\"\nallow = \"7s\"\nnot_found = \"50s\"\n";
    assert_eq!(ttls(each, &[]), [5, 60, 60, 7, 30, 15, 50, 300]);
    assert_eq!(ttls(each, &[("CACHE_TTL", "20s")]), [20, 20, 20, 7, 20, 15, 20, 20]);
    assert_eq!(ttls(each, &[("GATEPOST__CACHE__TTL", "20s")]), [20, 20, 20, 7, 20, 15, 20, 20]);
    assert_eq!(ttls(each, &[("GATEPOST__CACHE__TTL__ALLOW", "9s")]), [5, 60, 60, 9, 30, 15, 50, 300]);
    assert_eq!(ttls("[cache.ttl]\nall = \"20s\"\naccount = \"5s\"\n", &[]), [5, 20, 20, 20, 20, 15, 0, 20]);
    assert_eq!(ttls("", &[("CACHE_TTL", "0")]), [0; 8]);
}

#[tokio::test]
async fn the_only_realm_is_the_one_that_is_meant() {
    let realm = |names: &[&str]| {
        let realms = names.iter().map(|name| format!("[realm.{name}]\npassword = [\"a\"]\n"));
        format!("[source.a]\nkind = \"memory\"\n{}", realms.collect::<String>())
    };
    for (names, meant) in
        [(&["staff"][..], "staff"), (&["default", "staff"], "default"), (&["a", "b"], "default")]
    {
        let stack = build(&realm(names), &[]).await.unwrap();
        assert_eq!(stack.config().server.realm, meant);
        assert_eq!(stack.realms().map(|realm| realm.id().name()).collect::<Vec<_>>(), names);
    }
}
