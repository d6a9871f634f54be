//! What `bench/tokens` runs: checks of access tokens through a stack composed as applications do it, by their parts and
//! beside jsonwebtoken.
//!
//! ```text
//! tokens keys FOLDER                        makes the keys that the others use
//! tokens time FOLDER                        nanoseconds, of each algorithm in a line
//! tokens count FOLDER ALGORITHM WHAT N      does one of them so often, for whoever counts instructions
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use auth_core::{Ctx, Login, Member, Principal, Realm};
use auth_stack::Stack;
use auth_token::{
    AccessFormat, Algorithm, Checked, Ends, FsaConfig, FsaFormat, Jwk, JwtConfig, JwtFormat, KeyRing,
    Profile, Short, TokenService,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatepost_bench::{group, login, now, open};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Whose tokens are checked, one after the other.
const PEOPLE: usize = 64;

const LIFE: Duration = Duration::from_secs(3600);
const ISSUER: &str = "https://auth.example.test";
const SECRET: &str = "the-quick-brown-fox-secret-2099!";
const FSA: &str = "fsa";

/// What is timed, in the order of the columns.
const WHAT: [&str; 6] = ["cached", "group", "hash", "verify", "jsonwebtoken", "check"];

/// How long each of them is timed before it is the next one's turn, and how often.
const TURN: Duration = Duration::from_millis(4);
const ROUNDS: usize = 61;

type Work<'a> = Box<dyn FnMut() + 'a>;

fn algorithms() -> impl Iterator<Item = &'static str> {
    [FSA].into_iter().chain(Algorithm::ALL.iter().map(|algorithm| algorithm.name()))
}

fn file(folder: &Path, algorithm: &str) -> PathBuf {
    folder.join(format!("{algorithm}.json"))
}

fn make_keys(folder: &Path) {
    for algorithm in Algorithm::ALL {
        let key = Jwk::generate(algorithm.key_type(), Some(algorithm)).expect("a key");
        std::fs::write(file(folder, algorithm.name()), key.to_json().as_bytes()).expect("room for a key");
    }
}

/// The claims that jsonwebtoken reads; it checks `exp`, `nbf`, `aud` and `iss`.
#[derive(Deserialize)]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    jti: String,
}

/// One algorithm, and its people's tokens.
struct World {
    algorithm: &'static str,
    service: Arc<TokenService>,
    /// The same, and nothing is remembered.
    forgetful: Arc<TokenService>,
    format: Box<dyn AccessFormat>,
    realm: Arc<Realm>,
    people: Vec<(Principal, String, String)>,
    key: Option<Value>,
}

async fn stack(algorithm: &str, key: Option<&str>, cache: &str) -> Stack {
    let format = match key {
        Some(key) => format!(
            "format = \"jwt\"\nissuer = \"{ISSUER}\"\nkeys = {{ algorithm = \"{algorithm}\", key = '''{key}''' }}\n"
        ),
        None => format!("format = \"fsa\"\nfsa = {{ secret = \"{SECRET}\" }}\n"),
    };
    let config = format!(
        "cache.ttl = \"8h\"\n[source.flat]\nkind = \"flat\"\n[token]\nstore = \"memory\"\naccess_ttl = \"1h\"\n{format}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let builder = Stack::builder().data(folder.path()).config(&config).var("CACHE", cache);
    builder.register_source("flat", open).with_tokens().build().await.expect("a stack")
}

impl World {
    async fn new(folder: &Path, algorithm: &'static str) -> Self {
        let key = match algorithm {
            FSA => None,
            _ => Some(std::fs::read_to_string(file(folder, algorithm)).expect("a key made by `tokens keys`")),
        };
        let remembers = stack(algorithm, key.as_deref(), "ttl").await;
        let forgets = stack(algorithm, key.as_deref(), "none").await;
        let service = |stack: &Stack| Arc::clone(stack.tokens("default").expect("tokens of the realm"));
        let (service, forgetful) = (service(&remembers), service(&forgets));
        let realm = Arc::clone(remembers.realm("default").expect("the only realm"));
        let ctx = Ctx::new();
        let mut people = Vec::new();
        for n in 0..PEOPLE {
            let login = Login::parse(realm.id(), &login(n)).expect("a possible login");
            let found = realm.principal(&ctx, &login).await.expect("an answer");
            let who = gatepost_bench::person(realm.id(), &gatepost_bench::Flat::default(), n);
            assert!(found.found().is_some(), "the people of the store");
            realm.groups(&ctx, &who).await.expect("groups");
            let issued = service.issue(&ctx, &login, None, Some(LIFE)).await.expect("an answer");
            let (token, _) = issued.expect("a token");
            for service in [&service, &forgetful] {
                let checked = service.check(&ctx, &token).await.expect("an answer");
                assert!(matches!(checked, Checked::Valid(_)), "{algorithm}: {checked:?}");
            }
            people.push((who, group(n), token));
        }
        let format: Box<dyn AccessFormat> = match &key {
            None => {
                Box::new(FsaFormat::new(FsaConfig::new("default", SECRET)).expect("a possible configuration"))
            }
            Some(key) => {
                let ring =
                    KeyRing::fixed(Jwk::parse(key, Short::Refused).expect("a key"), None).expect("a ring");
                let config = JwtConfig {
                    issuer: Some(ISSUER.to_owned()),
                    audience: Some("default".to_owned()),
                    ..JwtConfig::new(Profile::Native)
                };
                Box::new(JwtFormat::new(config, Arc::new(ring), SystemTime::now()).expect("a format"))
            }
        };
        let key = key.map(|key| serde_json::from_str(&key).expect("JSON"));
        Self { algorithm, service, forgetful, format, realm, people, key }
    }

    /// Returns what does one of them to the next person's token.
    fn work<'a>(&'a self, runtime: &'a Runtime, what: &str) -> Option<Work<'a>> {
        let mut at = 0;
        let mut next = move || {
            at = (at + 1) % PEOPLE;
            black_box(&self.people[at])
        };
        let ctx = Ctx::new();
        Some(match what {
            "loop" => Box::new(move || assert!(!next().2.is_empty())),
            "cached" => Box::new(move || {
                assert!(matches!(now(self.service.check(&ctx, &next().2)), Ok(Checked::Valid(_))));
            }),
            "group" => Box::new(move || {
                let (who, group, _) = next();
                assert!(matches!(now(self.realm.is_member(&ctx, who, group)), Ok(Member::Yes)));
            }),
            "hash" => Box::new(move || {
                black_box(blake3::keyed_hash(&[7; 32], next().2.as_bytes()));
            }),
            "verify" => {
                let wall = SystemTime::now();
                Box::new(move || assert!(self.format.verify(&next().2, wall, Ends::Checked).is_ok()))
            }
            "jsonwebtoken" => {
                let key = self.key.as_ref()?;
                let algorithm: jsonwebtoken::Algorithm = self.algorithm.parse().ok()?;
                let decoding = match key["k"].as_str() {
                    Some(k) => {
                        jsonwebtoken::DecodingKey::from_secret(&URL_SAFE_NO_PAD.decode(k).expect("base64"))
                    }
                    None => {
                        let key = serde_json::from_value(key.clone()).expect("a key");
                        jsonwebtoken::DecodingKey::from_jwk(&key).expect("a key")
                    }
                };
                let mut validation = jsonwebtoken::Validation::new(algorithm);
                validation.validate_nbf = true;
                validation.set_audience(&["default"]);
                validation.set_issuer(&[ISSUER]);
                Box::new(move || {
                    let read = jsonwebtoken::decode::<Claims>(&next().2, &decoding, &validation);
                    black_box(read.expect("a good token"));
                })
            }
            "check" => Box::new(move || {
                let checked = runtime.block_on(self.forgetful.check(&ctx, &next().2));
                assert!(matches!(checked, Ok(Checked::Valid(_))));
            }),
            _ => return None,
        })
    }
}

/// Times all in turns, so that what else the machine does hits all alike, and returns the median of each in nanoseconds.
fn times(all: &mut [Option<Work<'_>>]) -> Vec<Option<f64>> {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (work, rounds) in all.iter_mut().zip(&mut rounds) {
            let Some(work) = work else { continue };
            // What the one before has left in the processor's caches is not this one's.
            (0..PEOPLE).for_each(|_| work());
            let (began, mut count) = (Instant::now(), 0_u32);
            while began.elapsed() < TURN {
                (0..PEOPLE).for_each(|_| work());
                count += 64;
            }
            rounds.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(count));
        }
    }
    let median = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied()
    };
    rounds.into_iter().map(median).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = |folder: &str, algorithm| runtime.block_on(World::new(Path::new(folder), algorithm));
    match *words {
        ["keys", folder] => make_keys(Path::new(folder)),
        ["time", folder] => {
            for algorithm in algorithms() {
                let world = world(folder, algorithm);
                let mut all: Vec<_> = WHAT.iter().map(|what| world.work(&runtime, what)).collect();
                print!("{algorithm} {}", world.people[0].2.len());
                times(&mut all)
                    .iter()
                    .for_each(|time| print!(" {}", time.map_or("-".to_owned(), |time| format!("{time:.0}"))));
                println!();
            }
        }
        ["count", folder, algorithm, what, count] => {
            let algorithm = algorithms().find(|name| *name == algorithm).expect("an algorithm");
            let world = world(folder, algorithm);
            let mut work = world.work(&runtime, what).expect("something that is counted");
            (0..count.parse().expect("a number")).for_each(|_| work());
        }
        _ => panic!("usage: tokens keys FOLDER | time FOLDER | count FOLDER ALGORITHM WHAT N"),
    }
}
