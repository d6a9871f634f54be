//! Outages of stores through the whole stack, under load: a server that is slowed, stalled, cut off, stopped or
//! killed gives no answer that is not the truth, only errors that pass, and none that takes longer than its source may.
//! Whom another source knows is served all the time, nobody is taken for a twin elsewhere, and when the server is back
//! so is the stack.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test says what is wrong, and figures are printed"
)]

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth_core::{Access, Ctx, ErrorKind, Login, Member, Principal, Reject, Result, Verdict};
use auth_stack::Stack;
use auth_testkit::servers::{
    MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions, Restart, Slapd, skipped,
    stopwatch,
};
use auth_testkit::{Proxy, World, object};
use integration_tests::{WORLD_QUERIES, slapd_options, slapd_world, world_commands, world_sql};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use common::compose;

const CLIENTS: usize = 32;
/// How long the source may take for a question.
const LIMIT: Duration = Duration::from_secs(1);
/// What a question may take beyond that on a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);
/// How soon all must be as before, once the server is back.
const BACK: Duration = Duration::from_secs(5);
/// How long each fault lasts: longer than the source's limit, and long enough for its caches to leave it alone.
const FAULT: Duration = Duration::from_millis(1_500);
/// How long it lasts where nobody has felt it by then.
const LONGEST_FAULT: Duration = Duration::from_secs(10);

/// A server that faults can be planted in.
enum Victim {
    Postgres(Postgres),
    MariaDb(MariaDb),
    Slapd(Slapd),
    Redis(Redis),
}

macro_rules! whichever {
    ($self:ident, $server:ident => $what:expr) => {
        match $self {
            Self::Postgres($server) => $what,
            Self::MariaDb($server) => $what,
            Self::Slapd($server) => $what,
            Self::Redis($server) => $what,
        }
    };
}

impl Victim {
    fn port(&self) -> u16 {
        match self {
            Self::Redis(redis) => redis.url().rsplit(':').next().unwrap().trim_matches('/').parse().unwrap(),
            Self::Postgres(server) => server.port(),
            Self::MariaDb(server) => server.port(),
            Self::Slapd(server) => server.port(),
        }
    }

    /// The settings of a source over it, as reached by itself.
    fn source(&self) -> String {
        match self {
            Self::Postgres(server) => {
                format!("kind = 'sql'\nurl = '{}'\n{WORLD_QUERIES}", server.url("world"))
            }
            Self::MariaDb(server) => {
                format!("kind = 'sql'\nurl = '{}'\n{WORLD_QUERIES}", server.url("world"))
            }
            Self::Slapd(server) => format!(
                "kind = 'ldap'\nurl = '{}'\nbase = 'ou=people,{2}'\nbind_dn = 'cn=reader,ou=services,{2}'\n\
                 bind_password = 'reader-secret'\ngroup_base = 'ou=people-groups,{2}'\ngroup_strategy = '{1}'\n",
                server.url(),
                "recursive",
                Slapd::BASE
            ),
            Self::Redis(server) => format!("kind = 'redis'\nurl = '{}'\nprefix = 'world.'\n", server.url()),
        }
    }

    const fn has_objects(&self) -> bool {
        !matches!(self, Self::Slapd(_))
    }

    fn stop(&self) {
        whichever!(self, server => server.stop_signal());
    }

    fn cont(&self) {
        whichever!(self, server => server.cont_signal());
    }

    fn kill(&self) {
        whichever!(self, server => server.kill());
    }

    fn restart(&self) {
        match self {
            Self::Redis(redis) => redis.restart(Restart::FromFiles),
            Self::Postgres(server) => server.restart(),
            Self::MariaDb(server) => server.restart(),
            Self::Slapd(server) => server.restart(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Slow,
    Stalled,
    CutOff,
    Stopped,
    Killed,
}

impl Fault {
    /// Plants it, or mends it.
    async fn set(self, rig: &Arc<(Victim, Proxy)>, on: bool) {
        let rig = Arc::clone(rig);
        // Servers are started on a thread that may wait, while the clients go on.
        let set = move || match (self, on) {
            (Self::Slow, true) => rig.1.delay(Duration::from_millis(150)),
            (Self::Stalled, true) => rig.1.stall(),
            (Self::CutOff, true) => rig.1.cut(),
            (Self::Slow | Self::Stalled | Self::CutOff, false) => rig.1.heal(),
            (Self::Stopped, true) => rig.0.stop(),
            (Self::Stopped, false) => rig.0.cont(),
            (Self::Killed, true) => rig.0.kill(),
            (Self::Killed, false) => rig.0.restart(),
        };
        spawn_blocking(set).await.unwrap();
    }
}

/// A question, and who asks it about whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Login(&'static str, &'static str),
    Groups(&'static str),
    Member(&'static str, &'static str),
    Access(&'static str, i64, &'static str),
}

use Ask::{Access as May, Groups, Login as Try, Member as In};

/// Asked of the server, whoever asks.
const ASKED: [Ask; 12] = [
    Try("calvin", "hobbes"),
    Try("susie", "derkins"),
    Try("tommy", "x"),
    Try("calvin", "wrong"),
    // What calvin's twin in the last source has.
    Try("calvin", "derkins"),
    Try("susie", "hobbes"),
    Try("nobody", "hobbes"),
    Groups("calvin"),
    Groups("susie"),
    Groups("tommy"),
    In("calvin", "admin"),
    In("susie", "admin"),
];

const RIGHTS: [Ask; 4] =
    [May("calvin", 1, "write"), May("susie", 1, "write"), May("susie", 1, "read"), May("calvin", 3, "read")];

/// Never asked of the server.
const ELSEWHERE: [Ask; 5] =
    [Try("desk", "uncle"), Try("desk", "wrong"), Groups("desk"), Try("later", "x"), Groups("later")];

/// What is so, in words.
fn truth(ask: Ask) -> String {
    match ask {
        Try("desk", "uncle") | Try("later", "x") => "accepted".to_owned(),
        Try("desk", _) => Reject::BadPassword.to_string(),
        Try("nobody", _) => Reject::UnknownUser.to_string(),
        Try(login, password) if World::user(login).password == Some(password.as_bytes()) => {
            "accepted".to_owned()
        }
        Try(..) => Reject::BadPassword.to_string(),
        Groups("desk") => format!("{:?}", ["admin"]),
        Groups("later") => format!("{:?}", [""; 0]),
        Groups(login) => format!("{:?}", World::user(login).groups),
        In(login, group) => {
            format!("{:?}", if World::user(login).groups.contains(&group) { Member::Yes } else { Member::No })
        }
        May(_, 3, _) => format!("{:?}", Access::NotFound),
        May(login, _, mode) => {
            let allowed = World::objects()[0].allows(login, Some(mode));
            format!("{:?}", if allowed { Access::Allow } else { Access::Deny })
        }
    }
}

/// A stack, and the people in it as it knew them at first.
struct Asked {
    stack: Stack,
    people: BTreeMap<&'static str, Principal>,
}

impl Asked {
    async fn open(config: &str, cache: &str) -> Self {
        let stack = compose(config, cache).await.unwrap();
        let realm = stack.realm("default").unwrap();
        let mut people = BTreeMap::new();
        for login in ["calvin", "susie", "tommy", "desk", "later"] {
            let parsed = Login::parse(realm.id(), login).unwrap();
            let who = realm.principal(&Ctx::new(), &parsed).await.unwrap().found().unwrap();
            people.insert(login, who);
        }
        Self { stack, people }
    }

    async fn ask(&self, ask: Ask) -> Result<String> {
        let (ctx, realm) = (Ctx::new(), self.stack.realm("default").unwrap());
        Ok(match ask {
            Try(login, password) => match realm.attempt(&ctx, login, password.as_bytes().to_vec()).await? {
                Verdict::Accepted(who) => {
                    assert_eq!(who.login().as_str(), login);
                    "accepted".to_owned()
                }
                Verdict::Rejected(reject) => reject.to_string(),
            },
            Groups(login) => {
                let groups = realm.groups(&ctx, &self.people[login]).await?;
                format!("{:?}", groups.iter().collect::<Vec<_>>())
            }
            In(login, group) => {
                format!("{:?}", realm.is_member(&ctx, &self.people[login], group).await?)
            }
            May(login, id, mode) => {
                let object = object("doc", id);
                format!("{:?}", realm.access(&ctx, &self.people[login], &object, Some(mode)).await?)
            }
        })
    }
}

/// What came of all questions.
#[derive(Debug, Default)]
struct Seen {
    right: u64,
    elsewhere: u64,
    errors: BTreeMap<&'static str, u64>,
    slowest: Duration,
    slowest_elsewhere: Duration,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, ask: Ask, answer: &Result<String>, took: Duration) {
        let elsewhere = ELSEWHERE.contains(&ask);
        match answer {
            Ok(answer) if *answer == truth(ask) => self.right += 1,
            Ok(answer) => self.wrong.push(format!("{ask:?}: {answer}, not {}", truth(ask))),
            Err(error) if error.kind().is_temporary() && !elsewhere => {
                *self.errors.entry(error.kind().as_str()).or_default() += 1;
            }
            Err(error) => self.wrong.push(format!("{ask:?}: {error:?}")),
        }
        self.slowest = self.slowest.max(took);
        if elsewhere {
            self.elsewhere += 1;
            self.slowest_elsewhere = self.slowest_elsewhere.max(took);
        }
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Asks one thing after the other until it is told to stop.
async fn client(
    n: usize,
    asked: Arc<[Asked; 2]>,
    seen: Arc<[Mutex<Seen>; 2]>,
    stop: Arc<AtomicBool>,
    questions: Vec<Ask>,
) {
    let mut at = n;
    while !stop.load(Ordering::Relaxed) {
        let (stack, ask) = (at % 2, questions[(at / 2) % questions.len()]);
        let began = stopwatch();
        let answer = asked[stack].ask(ask).await;
        seen[stack].lock().unwrap().note(ask, &answer, began.elapsed());
        at += 7;
        // A person at a keyboard is slower yet; and the machine has other tests to run.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// Waits until every question is answered by both stacks, one after the other without an error between; returns how
/// long that took.
async fn back(asked: &[Asked; 2], questions: &[Ask], after: &str) -> Duration {
    let began = stopwatch();
    'anew: loop {
        for stack in asked {
            for ask in questions {
                if let Err(error) = stack.ask(*ask).await {
                    assert!(began.elapsed() < BACK, "{after}: not back: {error:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue 'anew;
                }
            }
        }
        let took = began.elapsed();
        assert!(took < BACK, "{after}: {took:?}");
        return took;
    }
}

fn config(victim: &Victim, proxy: &Proxy, folder: &TempDir) -> String {
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let hash = |login: &str| World::user(login).hash.unwrap();
    let desk = file("desk.toml", &format!("[user.desk]\nhash = '{}'\ngroups = ['admin']\n", hash("max")));
    let twin = format!(
        "[user.calvin]\nhash = '{}'\ngroups = ['root']\n[user.susie]\nhash = '{}'\n[user.later]\nhash = '{}'\n",
        hash("susie"),
        hash("calvin"),
        hash("tommy")
    );
    let twin = file("twin.toml", &twin);
    let source =
        victim.source().replace(&format!(":{}", victim.port()), &format!(":{}", proxy.address().port()));
    let objects = if victim.has_objects() { "objects = { doc = 'main' }\n" } else { "" };
    let limit = LIMIT.as_secs();
    format!(
        "[source.desk]\nkind = 'file'\npath = '{desk}'\n\
         [source.main]\ntimeout = '{limit}s'\n{source}\n\
         [source.twin]\nkind = 'file'\npath = '{twin}'\n\
         [cache.ttl]\nall = '200ms'\n\
         [realm.default]\npassword = ['desk', 'main', 'twin']\ngroups = ['desk', 'main', 'twin']\n{objects}"
    )
}

/// Plants one fault after the other, and lets the server be between them.
async fn outages(victim: Victim) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, victim.port())));
    let config = config(&victim, &proxy, &folder);
    let open = async |cache: &str| {
        let data = folder.path().join(cache);
        Asked::open(&format!("data = '{}'\n{config}", data.display()), cache).await
    };
    let asked = Arc::new([open("none").await, open("ttl").await]);
    let mut questions = ASKED.to_vec();
    if victim.has_objects() {
        questions.extend(RIGHTS);
    }
    // So that it is known whose everybody is; and that all is as it should be without a fault.
    for stack in asked.iter() {
        for ask in questions.iter().chain(&ELSEWHERE) {
            assert_eq!(stack.ask(*ask).await.unwrap(), truth(*ask), "{ask:?}");
        }
    }

    let seen = Arc::new([Mutex::new(Seen::default()), Mutex::new(Seen::default())]);
    let stop = Arc::new(AtomicBool::new(false));
    let all: Vec<Ask> = questions.iter().copied().chain(ELSEWHERE).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            tokio::spawn(client(n, Arc::clone(&asked), Arc::clone(&seen), Arc::clone(&stop), all.clone()))
        })
        .collect();

    let faults: [(Fault, bool); 5] = [
        (Fault::Slow, false),
        (Fault::Stalled, true),
        (Fault::CutOff, true),
        (Fault::Stopped, true),
        (Fault::Killed, true),
    ];
    let rig = Arc::new((victim, proxy));
    let mut told = Vec::new();
    for (fault, fails) in faults {
        let name = format!("{fault:?}");
        let failed = || seen.iter().map(|seen| seen.lock().unwrap().failed()).collect::<Vec<_>>();
        let before = failed();
        fault.set(&rig, true).await;
        tokio::time::sleep(FAULT).await;
        // What is remembered may carry everybody through so short a time.
        let felt = || failed().iter().zip(&before).all(|(now, before)| now > before);
        let began = stopwatch();
        while fails && !felt() && began.elapsed() < LONGEST_FAULT {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fault.set(&rig, false).await;
        let took = back(&asked, &questions, &name).await;
        let after = failed();
        if fails {
            assert!(after[0] > before[0] && after[1] > before[1], "{name}: nobody has felt it");
        }
        told.push(format!(
            "{name}: {}+{} errors, back in {took:?}",
            after[0] - before[0],
            after[1] - before[1]
        ));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    for (seen, cache) in seen.iter().zip(["none", "ttl"]) {
        let seen = seen.lock().unwrap();
        println!("{cache}: {seen:?}");
        assert!(seen.wrong.is_empty(), "{} wrong: {:?}", seen.wrong.len(), seen.wrong.first());
        assert!(seen.right > 500 && seen.elsewhere > 100, "{seen:?}");
        assert!(seen.slowest < LIMIT + SLACK, "{:?}", seen.slowest);
        assert!(
            seen.slowest_elsewhere < LIMIT,
            "who is not of the server waits for it: {:?}",
            seen.slowest_elsewhere
        );
        for kind in seen.errors.keys() {
            assert_ne!(*kind, ErrorKind::Throttled.as_str(), "nobody has guessed");
        }
    }
    println!("{}", told.join("\n"));
}

#[tokio::test]
async fn postgres() {
    if skipped("postgres") {
        return;
    }
    let server = Postgres::start(&PostgresOptions::default());
    server.create("world");
    server.sql("world", &format!("SET ROLE {}; {}", Postgres::USER, world_sql()));
    outages(Victim::Postgres(server)).await;
}

#[tokio::test]
async fn mariadb() {
    if skipped("mariadb") {
        return;
    }
    let server = MariaDb::start(&MariaDbOptions::default());
    server.create("world");
    let sql = world_sql().replace("mode VARCHAR(255)", "mode VARCHAR(255) COLLATE utf8mb4_nopad_bin");
    server.sql("world", &sql);
    outages(Victim::MariaDb(server)).await;
}

#[tokio::test]
async fn openldap() {
    if skipped("slapd") {
        return;
    }
    let server = Slapd::start(&slapd_options());
    server.add(&slapd_world());
    outages(Victim::Slapd(server)).await;
}

#[tokio::test]
async fn redis() {
    if skipped("redis") {
        return;
    }
    let server = Redis::start(&RedisOptions::default());
    for command in world_commands("world.", |_| true, &World::groups()) {
        server.command(&command);
    }
    // The store's name too, which is made by who opens it first.
    let config = format!("[source.main]\nkind = 'redis'\nurl = '{}'\nprefix = 'world.'\n", server.url());
    drop(compose(&config, "none").await.unwrap());
    server.command(&["SAVE"]);
    outages(Victim::Redis(server)).await;
}
