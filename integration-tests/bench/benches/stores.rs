//! Questions to a server through us, beside the bare driver that asks the same server the same: who has a login, and
//! logins at a directory.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use auth_core::{
    Account, AccountSource, Change, Ctx, Fingerprint, Login, Lookup, NewUser, Password, PasswordSource,
    Realm, SourceInfo, StoredHash, Verdict,
};
use auth_stack::{Stack, SystemClock};
use auth_store_ldap::{LdapConfig, LdapStore, PoolConfig, Preset};
use auth_store_redis::{RedisStore, RedisStoreConfig};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::servers::{
    Ds389, Ds389Options, MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions, Slapd,
    SlapdOptions,
};
use gatepost_bench::rivals::{PEOPLE, Race, Rival};
use gatepost_bench::{exit, login, now};
use ldap3::{Ldap, LdapConnAsync, Scope, SearchEntry, SearchOptions};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

const THREADS: usize = 2;
const TASKS: [usize; 2] = [1, 16];
const ROUNDS: usize = 16;
const LOOK_UPS: Race = Race { what: "accounts", tasks: &TASKS, rounds: ROUNDS };
const LOGINS: Race = Race { what: "logins", tasks: &TASKS, rounds: ROUNDS };

/// How much of what the bare driver gets done is to be done through us, at the most tasks.
const BAR: f64 = 0.9;

const STACK: &str = "Gatepost, a stack without a cache";
const STORE: &str = "Gatepost, the store alone";
const CACHED: &str = "Gatepost, a stack that remembers";

/// Nobody verifies it here: it only has to come along.
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";
const PASSWORD: &str = "hobbes, the tiger";

/// The settings of a source that is called `app`, and what is behind it without us.
struct Place {
    title: &'static str,
    source: String,
    alone: Arc<dyn AccountSource>,
    bare: Rival,
}

fn texts() -> Arc<Vec<String>> {
    Arc::new((0..PEOPLE).map(login).collect())
}

fn info() -> SourceInfo {
    SourceInfo::new("app", Fingerprint::default())
}

async fn compose(source: &str, cache: &str) -> Stack {
    let config = format!("cache.ttl = \"8h\"\n[source.app]\n{source}");
    let builder = Stack::builder().data(std::env::temp_dir().join("gatepost-bench-makes-no-data-folder"));
    builder.config(&config).var("CACHE", cache).build().await.expect("a stack")
}

/// The realm of a stack, and everybody's login in it.
#[derive(Clone)]
struct Asked {
    realm: Arc<Realm>,
    logins: Arc<Vec<Login>>,
}

impl Asked {
    fn of(stack: &Stack) -> Self {
        let realm = Arc::clone(stack.realm("default").expect("the only realm"));
        let parsed = |n| Login::parse(realm.id(), &login(n)).expect("a possible login");
        let logins = Arc::new((0..PEOPLE).map(parsed).collect());
        Self { realm, logins }
    }
}

fn is(found: &Lookup<Account>, login: &Login) -> bool {
    matches!(found, Lookup::Found(account) if account.principal().shown() == login.as_str())
}

fn through_stack(stack: &Stack) -> Rival {
    let (asked, ctx) = (Asked::of(stack), Ctx::new());
    Rival::new(STACK, move |n| {
        let (asked, ctx) = (asked.clone(), ctx.clone());
        async move {
            let login = &asked.logins[n];
            asked.realm.account(&ctx, login).await.is_ok_and(|found| is(&found, login))
        }
    })
}

fn from_memory(stack: &Stack) -> Rival {
    let (asked, ctx) = (Asked::of(stack), Ctx::new());
    Rival::new(CACHED, move |n| {
        let login = &asked.logins[n];
        // What is not in memory would wait.
        let right = now(asked.realm.account(&ctx, login)).is_ok_and(|found| is(&found, login));
        async move { right }
    })
}

fn through_store(store: &Arc<dyn AccountSource>, asked: &Asked) -> Rival {
    let (store, logins, ctx) = (Arc::clone(store), Arc::clone(&asked.logins), Ctx::new());
    Rival::new(STORE, move |n| {
        let (store, logins, ctx) = (Arc::clone(&store), Arc::clone(&logins), ctx.clone());
        async move { store.account(&ctx, &logins[n]).await.is_ok_and(|found| is(&found, &logins[n])) }
    })
}

/// Asks who has a login.
fn look_ups(runtime: &Runtime, place: Place) -> Vec<bool> {
    let Place { title, source, alone, bare } = place;
    let name = bare.name().to_owned();
    let (stacks, mut rivals) = runtime.block_on(async {
        let stacks = [compose(&source, "none").await, compose(&source, "ttl").await];
        let [plain, caching] = &stacks;
        let asked = Asked::of(caching);
        for login in &*asked.logins {
            asked.realm.account(&Ctx::new(), login).await.expect("an account");
        }
        let rivals =
            vec![bare, through_store(&alone, &Asked::of(plain)), through_stack(plain), from_memory(caching)];
        (stacks, rivals)
    });
    LOOK_UPS.run(runtime, &mut rivals);
    drop(stacks);
    let beside = [STORE, STACK, CACHED].map(|ours| (ours, name.as_str()));
    LOOK_UPS.print(title, &rivals, &beside);
    let bars = [STORE, STACK].map(|ours| (ours, name.as_str(), BAR));
    LOOK_UPS.judge(title, &rivals, &bars)
}

/// The query, for us and for the bare drivers: only the parameter is written differently.
macro_rules! account_by {
    ($parameter:literal) => {
        concat!(
            "SELECT login, uid AS id, pwhash AS hash, closed AS disabled FROM account WHERE login = ",
            $parameter
        )
    };
}

fn sql_source(url: &str) -> String {
    format!("kind = \"sql\"\nurl = \"{url}\"\n[source.app.query]\naccount = \"{}\"\n", account_by!(":login"))
}

async fn sql_store(url: &str) -> Arc<dyn AccountSource> {
    let mut config = SqlConfig::new(url);
    config.query.account = Some(account_by!(":login").to_owned());
    let store = SqlStore::connect(info(), config, Arc::new(SystemClock::new())).await;
    Arc::new(store.expect("a store"))
}

/// The tables of an application.
fn tables() -> [String; 2] {
    let rows: Vec<String> = (0..PEOPLE).map(|n| format!("({n}, '{}', '{HASH}', 0)", login(n))).collect();
    [
        "CREATE TABLE account (uid BIGINT PRIMARY KEY, login VARCHAR(255) UNIQUE NOT NULL, \
         pwhash VARCHAR(255), closed BIGINT NOT NULL)"
            .to_owned(),
        format!("INSERT INTO account VALUES {}", rows.join(", ")),
    ]
}

/// As many connections as ours, none of them asked whether it lives.
macro_rules! bare_pool {
    ($pool:ident, $options:expr) => {{
        let most = auth_store_sql::PoolConfig::default().max_connections;
        let options = $options.disable_statement_logging();
        let pool = $pool::new().max_connections(most).min_connections(most).test_before_acquire(false);
        pool.connect_with(options).await.expect("a database")
    }};
}

macro_rules! bare_sql {
    ($pool:expr, $sql:expr) => {{
        let (pool, logins) = ($pool.clone(), texts());
        Rival::new("sqlx", move |n| {
            let (pool, logins) = (pool.clone(), Arc::clone(&logins));
            async move {
                let asked = sqlx::query_as($sql).bind(logins[n].as_str()).fetch_optional(&pool).await;
                let row: Option<(String, i64, Option<String>, i64)> = asked.expect("an answer");
                row.is_some_and(|(login, _, hash, closed)| {
                    login == logins[n] && hash.as_deref() == Some(HASH) && closed == 0
                })
            }
        })
    }};
}

macro_rules! fill {
    ($pool:expr) => {
        for statement in tables() {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&$pool).await.expect("tables");
        }
    };
}

fn sqlite(runtime: &Runtime) -> Vec<bool> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app.db");
    let url = format!("sqlite:{}", file.display());
    let place = runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let pool = bare_pool!(SqlitePoolOptions, options);
        fill!(pool);
        Place {
            title: "SQLite, a file",
            source: sql_source(&url),
            alone: sql_store(&url).await,
            bare: bare_sql!(pool, account_by!("?")),
        }
    });
    look_ups(runtime, place)
}

fn postgres(runtime: &Runtime) -> Vec<bool> {
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    let url = postgres.url("app");
    let place = runtime.block_on(async {
        let options: PgConnectOptions = url.parse().expect("an address");
        let pool = bare_pool!(PgPoolOptions, options.ssl_mode(PgSslMode::Disable));
        fill!(pool);
        Place {
            title: "PostgreSQL",
            source: sql_source(&url),
            alone: sql_store(&url).await,
            bare: bare_sql!(pool, account_by!("$1")),
        }
    });
    look_ups(runtime, place)
}

fn mariadb(runtime: &Runtime) -> Vec<bool> {
    let mariadb = MariaDb::start(&MariaDbOptions::default());
    mariadb.create("app");
    let url = mariadb.url("app");
    let place = runtime.block_on(async {
        let options: MySqlConnectOptions = url.parse().expect("an address");
        let pool = bare_pool!(MySqlPoolOptions, options.ssl_mode(MySqlSslMode::Disabled));
        fill!(pool);
        Place {
            title: "MariaDB",
            source: sql_source(&url),
            alone: sql_store(&url).await,
            bare: bare_sql!(pool, account_by!("?")),
        }
    });
    look_ups(runtime, place)
}

/// What is kept of a person in Redis.
const FIELDS: [&str; 11] = [
    "login",
    "id",
    "hash",
    "scheme",
    "disabled",
    "locked",
    "locked_until",
    "not_before",
    "expires_at",
    "password_expires_at",
    "must_change",
];

fn redis(runtime: &Runtime) -> Vec<bool> {
    let redis = Redis::start(&RedisOptions::default());
    let url = redis.url();
    let place = runtime.block_on(async {
        let store = RedisStore::connect(info(), &RedisStoreConfig::new(&url, "gatepost.")).await;
        let store = Arc::new(store.expect("a store"));
        let directory = store.directory().expect("a server that permits changes");
        for n in 0..PEOPLE {
            let login = Login::parse(&gatepost_bench::realm(), &login(n)).expect("a possible login");
            let hash = Some(StoredHash::new(HASH.to_owned(), None));
            let added = directory.add_user(&Ctx::new(), &NewUser { login, hash, groups: Vec::new() }).await;
            assert!(matches!(added, Ok(Change::Done)), "{added:?}");
        }
        let client = redis::Client::open(url.as_str()).expect("an address");
        let connection = client.get_multiplexed_async_connection().await.expect("a server");
        let logins = texts();
        let bare = Rival::new("redis-rs", move |n| {
            let (mut connection, logins) = (connection.clone(), Arc::clone(&logins));
            async move {
                let key = format!("{{gatepost.}}user:{}", logins[n]);
                let asked = redis::cmd("HMGET").arg(key).arg(&FIELDS).query_async(&mut connection).await;
                let values: Vec<Option<String>> = asked.expect("an answer");
                values.first().is_some_and(|login| login.as_deref() == Some(&logins[n]))
            }
        });
        let source = format!("kind = \"redis\"\nurl = \"{url}\"\n");
        Place { title: "Redis", source, alone: store, bare }
    });
    look_ups(runtime, place)
}

/// A directory: where it is, and how it names things.
struct Directory {
    title: &'static str,
    url: String,
    preset: Preset,
    root: &'static str,
    root_password: &'static str,
    /// What we ask of somebody's entry.
    attributes: &'static [&'static str],
}

const PEOPLE_ARE: &str = "ou=people,dc=example,dc=com";

fn dn(login: &str) -> String {
    format!("uid={login},{PEOPLE_ARE}")
}

fn entries() -> String {
    let person = |n| {
        let login = login(n);
        format!(
            "dn: {}\nobjectClass: inetOrgPerson\nuid: {login}\ncn: {login}\nsn: {login}\nuserPassword: {PASSWORD}\n\n",
            dn(&login)
        )
    };
    let people: String = (0..PEOPLE).map(person).collect();
    format!("dn: {PEOPLE_ARE}\nobjectClass: organizationalUnit\nou: people\n\n{people}")
}

impl Directory {
    fn source(&self) -> String {
        format!(
            "kind = \"ldap\"\npreset = \"{}\"\nurl = \"{}\"\nbase = \"{PEOPLE_ARE}\"\nbind_dn = \"{}\"\n\
             bind_password = \"{}\"\n",
            self.preset.as_str(),
            self.url,
            self.root,
            self.root_password
        )
    }

    async fn store(&self) -> Arc<LdapStore> {
        let mut config = LdapConfig::new(&self.url, PEOPLE_ARE);
        config.preset = self.preset;
        config.bind_dn = Some(self.root.to_owned());
        config.bind_password = Some(self.root_password.to_owned());
        let store = LdapStore::connect(info(), config, Arc::new(SystemClock::new())).await;
        Arc::new(store.expect("a store"))
    }
}

/// What one would write with ldap3: a few connections that search, each for many at once, and some that try passwords,
/// one at a time; as many as ours.
struct Bare {
    searching: Vec<Ldap>,
    next: AtomicUsize,
    binding: Mutex<Vec<Ldap>>,
    turns: Semaphore,
    attributes: &'static [&'static str],
}

impl Bare {
    async fn new(directory: &Directory) -> Arc<Self> {
        let connect = async || {
            let (driver, ldap) = LdapConnAsync::new(&directory.url).await.expect("a server");
            tokio::spawn(driver.drive());
            ldap
        };
        let pool = PoolConfig::default();
        let (mut searching, mut binding) = (Vec::new(), Vec::new());
        for _ in 0..pool.service_connections {
            let mut ldap = connect().await;
            let bound = ldap.simple_bind(directory.root, directory.root_password).await;
            bound.expect("an answer").success().expect("the right password");
            searching.push(ldap);
        }
        for _ in 0..pool.bind_connections {
            binding.push(connect().await);
        }
        Arc::new(Self {
            searching,
            next: AtomicUsize::new(0),
            turns: Semaphore::new(binding.len()),
            binding: Mutex::new(binding),
            attributes: directory.attributes,
        })
    }

    /// Returns the name of the only entry that has a login.
    async fn find(&self, login: &str) -> Option<String> {
        let mut ldap =
            self.searching[self.next.fetch_add(1, Ordering::Relaxed) % self.searching.len()].clone();
        ldap.with_search_options(SearchOptions::new().sizelimit(2).timelimit(4));
        let filter = format!("(uid={})", ldap3::ldap_escape(login));
        let asked = ldap.search(PEOPLE_ARE, Scope::Subtree, &filter, self.attributes).await;
        let (mut entries, _) = asked.expect("an answer").success().expect("a search that is permitted");
        let entry = SearchEntry::construct(entries.pop()?);
        let has_id = entry.attrs.keys().any(|name| name.eq_ignore_ascii_case(self.attributes[1]));
        let right = entries.is_empty() && has_id && entry.attrs.get("uid").is_some_and(|uid| uid == &[login]);
        right.then_some(entry.dn)
    }

    async fn login(&self, login: &str) -> bool {
        let Some(dn) = self.find(login).await else { return false };
        let _turn = self.turns.acquire().await.expect("it is open");
        let taken = self.binding.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut ldap = taken.expect("one for each turn");
        let bound = ldap.simple_bind(&dn, PASSWORD).await.expect("an answer").success().is_ok();
        self.binding.lock().unwrap_or_else(PoisonError::into_inner).push(ldap);
        bound
    }
}

fn ldapwhoami(url: &str) -> Rival {
    let (url, logins): (Arc<str>, _) = (url.into(), texts());
    Rival::new(WHOAMI, move |n| {
        let (url, logins) = (Arc::clone(&url), Arc::clone(&logins));
        let run = move || {
            let mut command = Command::new("ldapwhoami");
            command.args(["-x", "-H", &url, "-D", &dn(&logins[n]), "-w", PASSWORD]).env("LDAPNOINIT", "1");
            command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        async move { tokio::task::spawn_blocking(run).await.is_ok_and(|right| right) }
    })
}

const WHOAMI: &str = "ldapwhoami, a process for each";
const SEARCH_AND_BIND: &str = "ldap3, search and bind, kept connections";

fn logins(runtime: &Runtime, directory: &Directory, bare: &Arc<Bare>, store: &Arc<LdapStore>) {
    let password = Arc::new(Password::new(PASSWORD.as_bytes().to_vec()).expect("a possible password"));
    let accepted = |verdict: auth_core::Result<Verdict>| matches!(verdict, Ok(Verdict::Accepted(_)));
    let (stacks, mut rivals) = runtime.block_on(async {
        let source = directory.source();
        let stacks = [compose(&source, "none").await, compose(&source, "ttl").await];
        let [plain, caching] = &stacks;
        let (asked, remembered, ctx) = (Asked::of(plain), Asked::of(caching), Ctx::new());
        for login in &*remembered.logins {
            assert!(accepted(remembered.realm.login(&ctx, login, &password).await), "{login:?}");
        }
        let (bare, texts) = (Arc::clone(bare), texts());
        let (store, words, everybody) = (Arc::clone(store), Arc::clone(&password), asked.clone());
        let secret = Arc::clone(&password);
        let rivals = vec![
            ldapwhoami(&directory.url),
            Rival::new(SEARCH_AND_BIND, move |n| {
                let (bare, texts) = (Arc::clone(&bare), Arc::clone(&texts));
                async move { bare.login(&texts[n]).await }
            }),
            Rival::new(STORE, move |n| {
                let (store, logins) = (Arc::clone(&store), Arc::clone(&everybody.logins));
                let password = Arc::clone(&words);
                async move { accepted(store.verify(&Ctx::new(), &logins[n], &password).await) }
            }),
            Rival::new(STACK, move |n| {
                let (asked, password) = (asked.clone(), Arc::clone(&secret));
                async move { accepted(asked.realm.login(&Ctx::new(), &asked.logins[n], &password).await) }
            }),
            Rival::new(CACHED, move |n| {
                let right = accepted(now(remembered.realm.login(&ctx, &remembered.logins[n], &password)));
                async move { right }
            }),
        ];
        (stacks, rivals)
    });
    LOGINS.run(runtime, &mut rivals);
    drop(stacks);
    let beside = [WHOAMI, STORE, STACK, CACHED].map(|other| (other, SEARCH_AND_BIND));
    LOGINS.print(&format!("{}: logins", directory.title), &rivals, &beside);
}

fn directory(runtime: &Runtime, directory: &Directory) -> Vec<bool> {
    let (bare, store) = runtime.block_on(async { (Bare::new(directory).await, directory.store().await) });
    let (found, texts) = (Arc::clone(&bare), texts());
    let place = Place {
        title: directory.title,
        source: directory.source(),
        alone: Arc::clone(&store) as _,
        bare: Rival::new("ldap3, search", move |n| {
            let (found, texts) = (Arc::clone(&found), Arc::clone(&texts));
            async move { found.find(&texts[n]).await.is_some() }
        }),
    };
    let held = look_ups(runtime, place);
    logins(runtime, directory, &bare, &store);
    held
}

fn openldap(runtime: &Runtime) -> Vec<bool> {
    let slapd = Slapd::start(&SlapdOptions::default());
    let top = "objectClass: dcObject\nobjectClass: organization\ndc: example\no: Example";
    slapd.add(&format!("dn: {}\n{top}\n\n{}", Slapd::BASE, entries()));
    let place = Directory {
        title: "OpenLDAP",
        url: slapd.url(),
        preset: Preset::OpenLdap,
        root: Slapd::ROOT,
        root_password: Slapd::PASSWORD,
        attributes: &[
            "uid",
            "entryUUID",
            "pwdAccountLockedTime",
            "pwdReset",
            "pwdStartTime",
            "pwdEndTime",
            "shadowExpire",
        ],
    };
    directory(runtime, &place)
}

fn ds389(runtime: &Runtime) -> Vec<bool> {
    let ds = Ds389::start(&Ds389Options::default());
    let top = "objectClass: top\nobjectClass: domain\ndc: example";
    ds.add(&format!("dn: {}\n{top}\n\n{}", Ds389::BASE, entries()));
    let place = Directory {
        title: "389-DS",
        url: ds.url(),
        preset: Preset::Ds389,
        root: Ds389::ROOT,
        root_password: Ds389::PASSWORD,
        attributes: &[
            "uid",
            "nsUniqueId",
            "nsAccountLock",
            "accountUnlockTime",
            "passwordExpirationTime",
            "shadowExpire",
        ],
    };
    directory(runtime, &place)
}

fn main() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let all: [(&str, fn(&Runtime) -> Vec<bool>); 6] = [
        ("sqlite", sqlite),
        ("postgres", postgres),
        ("mariadb", mariadb),
        ("redis", redis),
        ("openldap", openldap),
        ("389ds", ds389),
    ];
    // Cargo hands over a `--bench` of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut held = Vec::new();
    for (name, bench) in all {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            held.extend(bench(&runtime));
        }
    }
    exit(&held)
}
