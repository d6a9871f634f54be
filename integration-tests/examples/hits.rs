//! Answers one question many times from memory, through a stack composed as applications do it: the program
//! whose instructions, allocations and system calls `bench/count` counts.
//!
//! ```console
//! $ cargo run --profile count -p integration-tests --example hits -- list
//! $ cargo run --profile count -p integration-tests --example hits -- group-yes 1000
//! ```
//!
//! It prints how many allocations the hits have made. Everything that is not a hit happens before the word
//! `begin` and after the word `end` on the standard error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how it says what is wrong, and figures are what it is for"
)]

#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;

use std::hint::black_box;
use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use auth_core::{
    Access, Account, Ctx, Id, Login, Lookup, Member, ObjectRef, Password, Principal, Realm, Verdict,
};
use auth_http::FrontConfig;
use auth_stack::{Opening, Provides, Stack};
use auth_testkit::{MemoryStore, hash, password};
use auth_token::{Checked, TokenService};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tower::ServiceExt as _;

/// People, each with five groups of twenty and one document. Fewer where they log in: hashing takes long.
const PEOPLE: usize = 64;
const PEOPLE_WHO_LOG_IN: usize = 8;
const PASSWORD: &str = "hobbes";
/// Of that password. What it cost to verify matters to no hit, so it costs little.
const BCRYPT: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";

/// Nothing that is remembered ends, or is asked for ahead of its end, while this runs.
const CONFIG: &str = "
cache.ttl = { all = \"8h\", allow = \"8h\", deny = \"8h\" }
password.upgrade = false

[source.app]
kind = \"in-memory\"

[token]
store = \"memory\"
access_ttl = \"8h\"
issuer = \"https://auth.example.test\"
# Of no use elsewhere.
keys = { algorithm = \"HS256\", key = '{\"kty\":\"oct\",\"kid\":\"1\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}' }
";

/// What is asked.
const SCENARIOS: [&str; 10] = [
    "nothing",
    "group-yes",
    "group-no",
    "rights-allow",
    "rights-deny",
    "account",
    "verdict",
    "token",
    "forward",
    "bare-handler",
];

/// One person and what is asked about them.
struct Asked {
    login: Login,
    who: Principal,
    group: String,
    document: ObjectRef,
    token: String,
}

struct World {
    stack: Arc<Stack>,
    realm: Arc<Realm>,
    tokens: Arc<TokenService>,
    people: Vec<Asked>,
    password: Password,
}

fn name(n: usize) -> String {
    format!("user{n:02}@example.org")
}

fn group(n: usize) -> String {
    format!("group{:02}", n % 20)
}

fn document(n: usize) -> ObjectRef {
    ObjectRef::new("doc", [Id::from(i64::try_from(n).unwrap() + 1)]).unwrap()
}

fn store() -> MemoryStore {
    let store = MemoryStore::empty("app");
    for n in 0..PEOPLE {
        store.add_user(&name(n), Id::from(i64::try_from(n).unwrap() + 1), Some(hash(BCRYPT)));
        (0..5).for_each(|more| store.join(&name(n), &group(n + 3 * more)));
        store.add_object(&document(n));
        store.grant(&name(n), &document(n), "read");
    }
    store
}

async fn open(_opening: Opening<'_>) -> auth_core::Result<Provides> {
    Ok(Provides::all_of(Arc::new(store())))
}

impl World {
    /// Composes the stack, and asks everything once.
    async fn new(passwords: bool) -> Self {
        let stack = Stack::builder()
            .data(std::env::temp_dir().join("gatepost-hits-make-no-data-folder"))
            .config(CONFIG)
            .var("CACHE", "ttl")
            .register_source("in-memory", open)
            .with_tokens()
            .build()
            .await
            .unwrap();
        let tokens = Arc::clone(stack.tokens("default").unwrap());
        let realm = Arc::clone(stack.realm("default").unwrap());
        let (ctx, password) = (Ctx::new(), password(PASSWORD));
        let mut people = Vec::new();
        for n in 0..if passwords { PEOPLE_WHO_LOG_IN } else { PEOPLE } {
            let (login, document) = (Login::parse(realm.id(), &name(n)).unwrap(), document(n));
            let Lookup::Found(who) = realm.principal(&ctx, &login).await.unwrap() else {
                panic!("the store knows everybody")
            };
            if passwords {
                let verdict = realm.login(&ctx, &login, &password).await.unwrap();
                assert!(matches!(verdict, Verdict::Accepted(_)), "everybody knows their password");
            }
            realm.groups(&ctx, &who).await.unwrap();
            realm.access(&ctx, &who, &document, Some("read")).await.unwrap();
            realm.access(&ctx, &who, &document, Some("burn")).await.unwrap();
            let (token, _) = tokens.issue(&ctx, &login, None, None).await.unwrap().unwrap();
            assert!(matches!(tokens.check(&ctx, &token).await.unwrap(), Checked::Valid(_)), "a good token");
            people.push(Asked { login, who, group: group(n + 6), document, token });
        }
        Self { stack: Arc::new(stack), realm, tokens, people, password }
    }

    /// Asks a question about one person after the other, and returns how often memory answered as it should.
    fn each(&self, count: usize, mut ask: impl FnMut(&Asked) -> bool) -> usize {
        (0..count).filter(|n| ask(black_box(&self.people[n % self.people.len()]))).count()
    }

    fn run(&self, scenario: &str, count: usize) -> usize {
        let (realm, ctx) = (&self.realm, &Ctx::new());
        match scenario {
            "nothing" => self.each(count, |asked| !asked.group.is_empty()),
            "group-yes" => self.each(count, |asked| {
                matches!(now(realm.is_member(ctx, &asked.who, &asked.group)), Ok(Member::Yes))
            }),
            "group-no" => self.each(count, |asked| {
                matches!(now(realm.is_member(ctx, &asked.who, black_box("group99"))), Ok(Member::No))
            }),
            "rights-allow" => self.each(count, |asked| {
                matches!(now(realm.access(ctx, &asked.who, &asked.document, Some("read"))), Ok(Access::Allow))
            }),
            "rights-deny" => self.each(count, |asked| {
                matches!(now(realm.access(ctx, &asked.who, &asked.document, Some("burn"))), Ok(Access::Deny))
            }),
            "account" => self.each(count, |asked| {
                let found: Result<Lookup<Account>, _> = now(realm.account(ctx, &asked.login));
                matches!(found, Ok(Lookup::Found(_)))
            }),
            "verdict" => self.each(count, |asked| {
                matches!(now(realm.login(ctx, &asked.login, &self.password)), Ok(Verdict::Accepted(_)))
            }),
            "token" => self.each(count, |asked| {
                matches!(now(self.tokens.check(ctx, &asked.token)), Ok(Checked::Valid(_)))
            }),
            "forward" => {
                let realms = Arc::new(Realms(Arc::clone(realm)));
                let config = FrontConfig::new("default");
                self.http(count, &auth_http::router(realms, config, Arc::clone(self.stack.clock())))
            }
            "bare-handler" => {
                let bare = any(|| async { [("remote-user", "user00"), ("remote-groups", "group00")] });
                self.http(count, &Router::new().route("/auth/forward", bare))
            }
            other => panic!("there is no scenario {other}: one of {SCENARIOS:?}"),
        }
    }

    /// Sends requests through a router in this process; making them is part of what is counted.
    fn http(&self, count: usize, router: &Router) -> usize {
        let basic = |asked: &Asked| {
            let pair = STANDARD.encode(format!("{}:{PASSWORD}", asked.login.as_str()));
            HeaderValue::try_from(format!("Basic {pair}")).unwrap()
        };
        let headers: Vec<HeaderValue> = self.people.iter().map(basic).collect();
        let mut next = 0;
        self.each(count, |_| {
            let header = headers[next % headers.len()].clone();
            next += 1;
            let request = Request::get("/auth/forward").header(header::AUTHORIZATION, header);
            let answer = now(router.clone().oneshot(request.body(Body::empty()).unwrap()));
            answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
    }
}

#[derive(Debug)]
struct Realms(Arc<Realm>);

impl auth_http::Realms for Realms {
    fn realm(&self, name: &str) -> Option<Arc<Realm>> {
        (name == self.0.id().name()).then(|| Arc::clone(&self.0))
    }
}

/// Takes the answer of a future that does not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("an answer from memory does not wait"),
    }
}

/// Marks a place in the trace of system calls.
fn mark(word: &str) {
    std::io::stderr().write_all(word.as_bytes()).unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (scenario, count) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => return SCENARIOS.iter().for_each(|name| println!("{name}")),
        [scenario, count] => (scenario, count.parse().expect("a number of hits")),
        _ => panic!("usage: hits SCENARIO COUNT, or hits list"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new(matches!(scenario, "verdict" | "forward")));
    // The first answers may make room for what stays.
    world.run(scenario, 2 * PEOPLE);

    mark("begin\n");
    let before = counting_allocator::allocations();
    let answered = world.run(scenario, count);
    let allocated = counting_allocator::allocations() - before;
    mark("end\n");
    assert_eq!(answered, count, "{scenario}: memory did not answer");
    println!("{allocated}");
}
