//! The suite of auth-testkit over every kind of store on real servers, and over chains of them, each as a
//! configuration composes it, with a cache and without. Then everything that may be asked, of both: the answers
//! are the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock, OnceLock};

use auth_core::{Access, Ctx, Error, Id, Login, Password, Principal};
use auth_stack::Stack;
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::servers::{
    Ds389, Ds389Options, MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions, Slapd,
    skipped,
};
use auth_testkit::suite::{self, Bench, Case};
use auth_testkit::{ManualClock, Standing, User, World, info, object, realm};
use integration_tests::{
    Branch, DS389_STAFF, DS389_WORLD, WORLD_QUERIES, database, ds389_world, load_world, simply_there,
    slapd_options, slapd_world, world_commands, world_htfiles, world_sql, world_text_id, world_toml,
    world_unix_files,
};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use common::{Facade, Ran, answers, block_on, compose};

/// The servers, each started when a case first needs it, for all cases.
struct Servers {
    postgres: LazyLock<Postgres>,
    mariadb: LazyLock<MariaDb>,
    slapd: LazyLock<Slapd>,
    ds389: LazyLock<Ds389>,
    redis: LazyLock<Redis>,
}

impl Servers {
    fn new() -> Self {
        Self {
            postgres: LazyLock::new(|| Postgres::start(&PostgresOptions::default())),
            mariadb: LazyLock::new(|| MariaDb::start(&MariaDbOptions::default())),
            slapd: LazyLock::new(|| {
                let slapd = Slapd::start(&slapd_options());
                slapd.add(&slapd_world());
                slapd
            }),
            ds389: LazyLock::new(|| {
                let ds = Ds389::start(&Ds389Options::default());
                ds.add(&ds389_world());
                ds
            }),
            redis: LazyLock::new(|| Redis::start(&RedisOptions::default())),
        }
    }
}

/// What is asked in one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Passwords,
    Groups,
    Objects,
    /// Everything, of a stack with a cache and of one without.
    Answers,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Passwords => "passwords",
            Self::Groups => "groups",
            Self::Objects => "objects",
            Self::Answers => "answers",
        }
    }
}

use Part::{Answers, Groups, Objects, Passwords};

const ALL: &[Part] = &[Passwords, Groups, Objects, Answers];
const NO_OBJECTS: &[Part] = &[Passwords, Groups, Answers];

/// How people of one source are known to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Login,
    Query,
}

impl Link {
    const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Query => "query",
        }
    }

    /// The cases that a link answers otherwise than a store: by login, an id does not count; and whom no link leads
    /// to, that source is not asked about, not even whether an object is there.
    const fn leaves_out(self, part: Part) -> &'static [&'static str] {
        match (self, part) {
            (_, Objects) => &["an_unknown_person_has_no_rights", "an_id_counts_and_not_a_login"],
            (Self::Login, Groups) => &["an_id_counts_and_not_a_login"],
            _ => &[],
        }
    }
}

/// What a store holds of the world, and how a realm over it is configured.
struct Filled {
    config: String,
    /// The source that the people are of.
    issuer: &'static str,
    ids: fn(&User) -> Id,
    /// Whose passwords it can decide about as the world expects.
    decides: fn(&User) -> bool,
    /// Whose groups and rights it holds.
    holds: fn(&User) -> bool,
    tells_unknown: bool,
    /// How rights and groups are linked to people of another source.
    link: Option<Link>,
    folder: TempDir,
}

impl Filled {
    /// A realm over one source.
    fn of(source: &str, parts: &[Part], folder: TempDir) -> Self {
        let mut realm = "[realm.default]\npassword = [\"app\"]\n".to_owned();
        if parts.contains(&Groups) {
            realm += "groups = [\"app\"]\n";
        }
        if parts.contains(&Objects) {
            realm += "objects = { doc = \"app\" }\n";
        }
        Self {
            config: format!("[source.app]\n{source}\n{realm}"),
            issuer: "app",
            ids: |user| Id::from(user.id),
            decides: |_| true,
            holds: |_| true,
            tells_unknown: true,
            link: None,
            folder,
        }
    }

    const fn with_ids(mut self, ids: fn(&User) -> Id) -> Self {
        self.ids = ids;
        self
    }

    const fn deciding(mut self, decides: fn(&User) -> bool) -> Self {
        self.decides = decides;
        self
    }

    const fn holding(mut self, holds: fn(&User) -> bool) -> Self {
        self.holds = holds;
        self
    }

    fn bench(&self, holds: fn(&User) -> bool) -> Bench {
        Bench::new(&realm()).with_ids(self.ids).holding(holds).issued_by(self.issuer)
    }
}

type Fill = fn(&Servers, &'static [Part], TempDir) -> Filled;

/// A store in one of its modes; the servers that it needs, and what can be asked.
type Kept = (&'static str, &'static [&'static str], &'static [Part], Fill);

const KEPT: &[Kept] = &[
    ("sqlite::managed", &[], ALL, |servers, parts, folder| managed(Engine::Sqlite, servers, parts, folder)),
    ("sqlite::yours", &[], ALL, |servers, parts, folder| yours(Engine::Sqlite, servers, parts, folder)),
    ("postgres::managed", &["postgres"], ALL, |servers, parts, folder| {
        managed(Engine::Postgres, servers, parts, folder)
    }),
    ("postgres::yours", &["postgres"], ALL, |servers, parts, folder| {
        yours(Engine::Postgres, servers, parts, folder)
    }),
    ("mariadb::managed", &["mariadb"], ALL, |servers, parts, folder| {
        managed(Engine::MariaDb, servers, parts, folder)
    }),
    ("mariadb::yours", &["mariadb"], ALL, |servers, parts, folder| {
        yours(Engine::MariaDb, servers, parts, folder)
    }),
    ("openldap::search_bind_member_of", &["slapd"], NO_OBJECTS, |servers, parts, folder| {
        let source = people(&servers.slapd, "people-groups", "memberOf", "");
        Filled::of(&source, parts, folder).with_ids(|user| Branch::People.id(user)).deciding(bound)
    }),
    ("openldap::search_bind_recursive", &["slapd"], NO_OBJECTS, |servers, parts, folder| {
        let source = people(&servers.slapd, "nested", "recursive", "");
        // Max is an admin, and is staff here as all admins are.
        let all_but_max = |user: &User| user.login != "max";
        let filled = Filled::of(&source, parts, folder).with_ids(|user| Branch::People.id(user));
        filled.deciding(bound).holding(all_but_max)
    }),
    ("openldap::fetch_hash", &["slapd"], NO_OBJECTS, |servers, parts, folder| {
        let source = format!("mode = 'fetch-hash'\n{}", directory(&servers.slapd, "hashes", "memberOf"));
        let holds = |user: &User| user.standing != Standing::Disabled;
        Filled::of(&source, parts, folder).with_ids(|user| Branch::Hashes.id(user)).deciding(holds)
    }),
    ("openldap::bind_template_member_of", &["slapd"], NO_OBJECTS, |servers, parts, folder| {
        template(&people(&servers.slapd, "people-groups", "memberOf", TEMPLATE), parts, folder)
    }),
    ("openldap::bind_template_recursive", &["slapd"], NO_OBJECTS, |servers, parts, folder| {
        let source = people(&servers.slapd, "nested", "recursive", TEMPLATE);
        template(&source, parts, folder).holding(|user| user.login != "max")
    }),
    // Without an account of our own: people's passwords are all that there is.
    ("openldap::bind_template_alone", &["slapd"], &[Passwords], |servers, parts, folder| {
        let url = servers.slapd.url();
        let source = format!("kind = 'ldap'\nurl = '{url}'\nbase = 'ou=people,{}'\n{TEMPLATE}", Slapd::BASE);
        template(&source, parts, folder)
    }),
    ("ds389::search_bind_member_of", &["ds389"], NO_OBJECTS, |servers, parts, folder| {
        ds389_people("memberOf", servers, parts, folder)
    }),
    ("ds389::search_bind_recursive", &["ds389"], NO_OBJECTS, |servers, parts, folder| {
        ds389_people("recursive", servers, parts, folder)
    }),
    ("redis::managed", &["redis"], ALL, |servers, parts, folder| {
        let source = redis(servers, "world.", |_| true, &World::groups());
        Filled::of(&source, parts, folder).with_ids(world_text_id)
    }),
    ("file::htpasswd_htgroup", &[], NO_OBJECTS, |_, parts, folder| {
        let (users, groups) = world_htfiles();
        let (users, groups) = (write(&folder, "htpasswd", &users), write(&folder, "htgroup", &groups));
        let open = |user: &User| user.standing == Standing::Open;
        let source = format!("kind = 'file'\npath = '{users}'\ngroups = '{groups}'");
        let filled = Filled::of(&source, parts, folder).with_ids(|user| Id::text(user.login));
        filled.deciding(open).holding(open)
    }),
    ("file::toml", &[], ALL, |_, parts, folder| {
        let source = format!("kind = 'file'\npath = '{}'", write(&folder, "users.toml", &world_toml()));
        Filled::of(&source, parts, folder)
    }),
    ("file::passwd_shadow", &[], NO_OBJECTS, |_, parts, folder| {
        let (passwd, shadow, group) = world_unix_files();
        let source = format!(
            "kind = 'file'\nformat = 'passwd'\npath = '{}'\nshadow = '{}'\ngroups = '{}'",
            write(&folder, "passwd", &passwd),
            write(&folder, "shadow", &shadow),
            write(&folder, "group", &group)
        );
        Filled::of(&source, parts, folder).deciding(|user| user.standing != Standing::Disabled)
    }),
    ("chain::file_openldap_sqlite_by_login", &["slapd"], ALL, |servers, _, folder| {
        let ids = |user: &User| Branch::Staff.id(user);
        chain(&slapd_staff(servers), ids, Engine::Sqlite, Link::Login, servers, folder)
    }),
    ("chain::file_openldap_postgres_by_query", &["slapd", "postgres"], ALL, |servers, _, folder| {
        let ids = |user: &User| Branch::Staff.id(user);
        chain(&slapd_staff(servers), ids, Engine::Postgres, Link::Query, servers, folder)
    }),
    ("chain::file_ds389_mariadb_by_login", &["ds389", "mariadb"], ALL, |servers, _, folder| {
        STAFF_IDS.get_or_init(|| server_ids(&servers.ds389, DS389_STAFF));
        let ids = |user: &User| of_server(&STAFF_IDS, user);
        chain(&ds389_staff(servers), ids, Engine::MariaDb, Link::Login, servers, folder)
    }),
    ("chain::file_redis_mariadb_by_query", &["redis", "mariadb"], ALL, |servers, _, folder| {
        let staff = redis(servers, "staff.", simply_there, &["caf\u{e9}", "staff"]);
        chain(&staff, world_text_id, Engine::MariaDb, Link::Query, servers, folder)
    }),
];

fn main() -> ExitCode {
    let servers = Arc::new(Servers::new());
    // Asked of each once: it is said each time.
    let mut left_out = vec!["postgres", "mariadb", "slapd", "ds389", "redis"];
    left_out.retain(|server| skipped(server));
    let mut trials = Vec::new();
    for (name, needs, parts, fill) in KEPT {
        if needs.iter().any(|server| left_out.contains(server)) {
            continue;
        }
        // Filled when it is first asked, for all trials.
        let filled = Arc::new(OnceLock::new());
        for cache in ["none", "ttl"] {
            for part in parts.iter().filter(|part| (**part != Answers) || cache == "ttl") {
                let (servers, filled) = (Arc::clone(&servers), Arc::clone(&filled));
                let trial = format!("{name}::{cache}::{}", part.name());
                trials.push(Trial::test(trial, move || {
                    let fill = || fill(&servers, parts, tempfile::tempdir().unwrap());
                    let filled = filled.get_or_init(fill);
                    block_on(run(filled, *part, cache, parts))
                }));
            }
        }
    }
    let mut arguments = Arguments::from_args();
    // They wait for servers as much as they work.
    arguments.test_threads.get_or_insert(4);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the process ends, for nobody else ends them gently.
    drop(servers);
    conclusion.exit_code()
}

async fn run(filled: &Filled, part: Part, cache: &str, parts: &[Part]) -> Result<(), Failed> {
    let stack = composed(filled, cache).await;
    let facade = Facade::new(&stack).telling(filled.tells_unknown);
    let left_out = filled.link.map_or(&[][..], |link| link.leaves_out(part));
    let mut ran = Ran::default().at_least(8 - left_out.len());
    match part {
        Passwords => ran.all(suite::password_cases(), &facade, &filled.bench(filled.decides)).await,
        Groups => {
            ran.all(but(suite::group_cases(), left_out), &facade, &filled.bench(filled.holds)).await;
        }
        Objects => {
            ran.all(but(suite::object_cases(), left_out), &facade, &filled.bench(filled.holds)).await;
            if let Some(link) = filled.link {
                strangers(&stack, link).await;
            }
        }
        Answers => return same(filled, &stack, parts.contains(&Objects)).await,
    }
    let hits: u64 = stack.caches().iter().map(|(_, report)| report.stats.hits).sum();
    // A source that only decides about passwords shows no accounts to be remembered.
    let remembers = cache != "none" && parts != [Passwords];
    assert_eq!(hits > 0, remembers, "{hits} hits: {:?}", stack.caches());
    ran.done()
}

/// Whom no link leads anywhere has no right, also under the login of somebody who has one.
async fn strangers(stack: &Stack, link: Link) {
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let logins = if link == Link::Login { &["nobody"][..] } else { &["nobody", "calvin"] };
    for login in logins {
        let parsed = Login::parse(realm.id(), login).unwrap();
        let who = Principal::found(&info("staff"), &parsed, login, Id::text("somebody else's")).unwrap();
        for (id, mode) in [1, 2, 3].into_iter().flat_map(|id| [(id, Some("read")), (id, None)]) {
            let answer = realm.access(&ctx, &who, &object("doc", id), mode).await.unwrap();
            assert_eq!(answer, Access::Deny, "{login} {mode:?} {id}");
        }
    }
}

async fn composed(filled: &Filled, cache: &str) -> Stack {
    let data = tempfile::tempdir_in(&filled.folder).unwrap().keep();
    let config = format!("data = '{}'\n{}", data.display(), filled.config);
    compose(&config, cache).await.unwrap_or_else(|error| panic!("{error:?}\n{config}"))
}

fn but<S: ?Sized>(mut cases: Vec<Case<S>>, left_out: &[&str]) -> Vec<Case<S>> {
    let before = cases.len();
    cases.retain(|case| !left_out.contains(&case.name()));
    assert_eq!(cases.len(), before - left_out.len(), "the cases are still called {left_out:?}");
    cases
}

/// A stack with a cache answers as one without, also when it answers from memory.
async fn same(filled: &Filled, cached: &Stack, objects: bool) -> Result<(), Failed> {
    let uncached = composed(filled, "none").await;
    let expected = everything(&uncached, objects).await;
    assert!(expected.len() > if objects { 150 } else { 100 }, "{} answers", expected.len());
    for when in ["cold", "warm"] {
        let found = everything(cached, objects).await;
        assert_eq!(found.len(), expected.len(), "{when}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{when}");
        }
    }
    let hits: u64 = cached.caches().iter().map(|(_, report)| report.stats.hits).sum();
    assert!(hits > 50, "{hits} hits");
    Ok(())
}

/// Everybody with every password of the world, then whatever else may be asked.
async fn everything(stack: &Stack, objects: bool) -> Vec<String> {
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let mut told = Vec::new();
    for login in World::users().iter().map(|user| user.login).chain(["nobody", "desk"]) {
        let login = Login::parse(realm.id(), login).unwrap();
        for user in World::users().iter().filter(|user| user.password.is_some()) {
            let verdict =
                realm.login(&ctx, &login, &user.password()).await.map_err(|error: Error| error.kind());
            told.push(format!("{}'s password for {}: {verdict:?}", user.login, login.as_str()));
        }
        let wrong = Password::new(b"this is nobody's password".to_vec()).unwrap();
        told.push(format!("{}: {:?}", login.as_str(), realm.login(&ctx, &login, &wrong).await.unwrap()));
    }
    told.extend(answers(stack, objects).await);
    told
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
    MariaDb,
}

/// Makes a database with these tables; returns its URL.
fn with_tables(engine: Engine, servers: &Servers, name: &str, sql: &str, folder: &TempDir) -> String {
    match engine {
        Engine::Sqlite => {
            let path = folder.path().join("app.db");
            database(&path, sql);
            format!("sqlite:{}", path.display())
        }
        Engine::Postgres => {
            servers.postgres.create(name);
            servers.postgres.sql(name, &format!("SET ROLE {}; {sql}", Postgres::USER));
            servers.postgres.url(name)
        }
        Engine::MariaDb => {
            servers.mariadb.create(name);
            // What does not come back to be compared, the column must compare.
            let sql = sql.replace("mode VARCHAR(255)", "mode VARCHAR(255) COLLATE utf8mb4_nopad_bin");
            servers.mariadb.sql(name, &sql);
            servers.mariadb.url(name)
        }
    }
}

fn managed(engine: Engine, servers: &Servers, parts: &[Part], folder: TempDir) -> Filled {
    let url = match engine {
        Engine::Sqlite => format!("sqlite:{}", folder.path().join("app.db").display()),
        _ => with_tables(engine, servers, "managed", "SELECT 1", &folder),
    };
    block_on(async {
        let store = SqlStore::connect(info("app"), SqlConfig::new(&url), ManualClock::new()).await.unwrap();
        load_world(&*Arc::new(store).directory().unwrap()).await;
    });
    Filled::of(&format!("kind = 'sql'\nurl = '{url}'"), parts, folder)
}

fn yours(engine: Engine, servers: &Servers, parts: &[Part], folder: TempDir) -> Filled {
    let url = with_tables(engine, servers, "yours", &world_sql(), &folder);
    Filled::of(&format!("kind = 'sql'\nurl = '{url}'\n{WORLD_QUERIES}"), parts, folder)
}

/// OpenLDAP has no way to switch somebody off, tells of a lock whatever the password, and does not tell that
/// somebody has none.
fn bound(user: &User) -> bool {
    !matches!(user.standing, Standing::Disabled | Standing::Locked) && user.password.is_some()
}

const TEMPLATE: &str = "mode = 'bind-template'\nuser_dn = 'uid={login},ou=people,dc=example,dc=com'\n";

/// The source over a branch, with its own groups.
fn directory(slapd: &Slapd, unit: &str, strategy: &str) -> String {
    let (url, base) = (slapd.url(), Slapd::BASE);
    let account = if unit == "hashes" { "hashes" } else { "reader" };
    format!(
        "kind = 'ldap'\nurl = '{url}'\nbase = 'ou={unit},{base}'\nbind_dn = 'cn={account},ou=services,{base}'\n\
         bind_password = '{account}-secret'\ngroup_base = 'ou={unit}-groups,{base}'\ngroup_strategy = '{strategy}'\n"
    )
}

fn people(slapd: &Slapd, groups: &str, strategy: &str, more: &str) -> String {
    let groups = format!("ou={groups},");
    directory(slapd, "people", strategy).replace("ou=people-groups,", &groups) + more
}

fn template(source: &str, parts: &[Part], folder: TempDir) -> Filled {
    let filled = Filled::of(source, parts, folder).with_ids(|user| Branch::People.id(user)).deciding(bound);
    Filled { tells_unknown: false, ..filled }
}

/// The ids that a 389-DS has given to the people of a branch, by the world's numbers.
fn server_ids(ds: &Ds389, branch: &str) -> BTreeMap<String, String> {
    let wanted = ["-LLL", "-o", "ldif-wrap=no", "-b", branch, "(uid=*)", "employeeNumber", "nsUniqueId"];
    let said = ds.must("ldapsearch", &wanted, "");
    let field = |entry: &str, name: &str| {
        entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let ids = said
        .split("\n\n")
        .filter_map(|entry| Some((field(entry, "employeeNumber")?, field(entry, "nsUniqueId")?)));
    ids.collect()
}

static WORLD_IDS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
static STAFF_IDS: OnceLock<BTreeMap<String, String>> = OnceLock::new();

fn of_server(ids: &OnceLock<BTreeMap<String, String>>, user: &User) -> Id {
    Id::text(ids.get().unwrap().get(&user.id.to_string()).map_or("none", String::as_str))
}

fn ds389(ds: &Ds389, branch: &str, strategy: &str) -> String {
    format!(
        "kind = 'ldap'\nurl = '{}'\npreset = '389ds'\nbase = '{branch}'\nbind_dn = 'cn=reader,{branch}'\n\
         bind_password = 'reader-secret'\ngroup_base = '{branch}'\ngroup_strategy = '{strategy}'\n",
        ds.url()
    )
}

fn ds389_people(strategy: &str, servers: &Servers, parts: &[Part], folder: TempDir) -> Filled {
    WORLD_IDS.get_or_init(|| server_ids(&servers.ds389, DS389_WORLD));
    // It tells whatever the password that somebody is switched off, does not tell that somebody has no password, and
    // locks by its policy alone, which also knows who must change theirs.
    let decides = |user: &User| {
        matches!(user.standing, Standing::Open | Standing::EndsLater | Standing::Expired)
            && user.password.is_some()
    };
    let source = ds389(&servers.ds389, DS389_WORLD, strategy);
    Filled::of(&source, parts, folder).with_ids(|user| of_server(&WORLD_IDS, user)).deciding(decides)
}

/// Writes people into Redis; returns the settings of a source over it.
fn redis(servers: &Servers, prefix: &str, holds: fn(&User) -> bool, groups: &[&str]) -> String {
    for command in world_commands(prefix, holds, groups) {
        servers.redis.command(&command);
    }
    format!("kind = 'redis'\nurl = '{}'\nprefix = '{prefix}'\n", servers.redis.url())
}

/// Everybody's groups but the admins.
fn slapd_staff(servers: &Servers) -> String {
    directory(&servers.slapd, "staff", "direct") + "group_filter = '(&(member={dn})(!(cn=admin)))'\n"
}

fn ds389_staff(servers: &Servers) -> String {
    ds389(&servers.ds389, DS389_STAFF, "direct") + "group_filter = '(&(uniqueMember={dn})(!(cn=admin)))'\n"
}

/// The way in when all else is down, then those who are simply there, then a database with all others. The database has
/// the rights of all, that the first are admins, and twins of them, who have another password: nobody must be taken for
/// their twin.
fn chain(
    staff: &str,
    ids: fn(&User) -> Id,
    engine: Engine,
    link: Link,
    servers: &Servers,
    folder: TempDir,
) -> Filled {
    let twins: Vec<_> = World::users().iter().filter(|user| simply_there(user)).collect();
    let numbers = twins.iter().map(|user| user.id.to_string()).collect::<Vec<_>>().join(", ");
    let other = World::user("max").hash.unwrap();
    let mut sql = world_sql();
    sql += &format!("UPDATE person SET secret = '{other}' WHERE no IN ({numbers});");
    sql += &format!("DELETE FROM member WHERE no IN ({numbers}) AND team <> 'admin';");
    sql += "CREATE TABLE link (source VARCHAR(255), id VARCHAR(255), login VARCHAR(255));";
    for user in &twins {
        sql += &format!("INSERT INTO link VALUES ('staff', '{}', '{}');", ids(user), user.login);
    }
    let url = with_tables(engine, servers, &format!("chain_{}", link.name()), &sql, &folder);
    let desk = write(&folder, "desk.toml", "[user.desk]\ngroups = [\"admin\"]\n");
    let query = "query.link = \"SELECT login FROM link WHERE source = :source AND id = :id\"";
    let (query, link_name) = (if link == Link::Query { query } else { "" }, link.name());
    let config = format!(
        "[source.desk]\nkind = 'file'\npath = '{desk}'\n\
         [source.staff]\n{staff}\n\
         [source.app]\nkind = 'sql'\nurl = '{url}'\n{WORLD_QUERIES}{query}\n\
         [realm.default]\npassword = ['desk', 'staff', 'app']\ngroups = ['desk', 'staff', 'app']\n\
         objects = {{ doc = 'app' }}\nlink = {{ app = '{link_name}' }}\n"
    );
    let filled = Filled::of("", &[], folder).with_ids(ids).holding(simply_there);
    Filled { config, issuer: "staff", link: Some(link), ..filled }
}
