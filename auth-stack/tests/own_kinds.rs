//! What authors bring: a kind of cache of their own, and a source that only decides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use auth_cache::{Ask, Bound, Entry, Key, Table, TableFactory, Usage};
use auth_core::{
    Account, Ctx, Error, ErrorKind, Fingerprint, Id, Login, Lookup, Member, Password, PasswordSource,
    Principal, Reject, Result, SourceInfo, Verdict,
};
use auth_stack::{Passwords, Provides};
use common::{Slow, builder, caches, told, who};

/// A table of somebody else's: it keeps what fits, and takes nothing more once it is full.
#[derive(Debug)]
struct Plain {
    bound: Bound,
    // One entry for each hash: of two questions that share one, the later stays. A table may lose entries.
    kept: Mutex<HashMap<u64, (Key, Entry)>>,
    refused: AtomicU64,
}

impl Plain {
    fn factory() -> TableFactory {
        Arc::new(|bound| Arc::new(Self { bound, kept: Mutex::default(), refused: AtomicU64::new(0) }))
    }
}

impl Table for Plain {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        match self.kept.lock().unwrap().get(&ask.hash64()) {
            Some((key, entry)) if key.ask() == *ask => see(entry),
            _ => {}
        }
    }

    fn put(&self, key: Key, entry: Entry) {
        let mut kept = self.kept.lock().unwrap();
        kept.remove(&key.ask().hash64());
        let bytes = |kept: &HashMap<u64, (Key, Entry)>| {
            kept.values().map(|(key, entry)| entry.bytes(&key.ask())).sum::<usize>()
        };
        let fits = match self.bound {
            Bound::Entries(most) => kept.len() < most,
            Bound::Bytes(most) => bytes(&kept) + entry.bytes(&key.ask()) <= most,
        };
        if fits {
            kept.insert(key.ask().hash64(), (key, entry));
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        let mut kept = self.kept.lock().unwrap();
        if kept.get(&ask.hash64()).is_some_and(|(key, _)| key.ask() == *ask) {
            kept.remove(&ask.hash64());
        }
    }

    fn usage(&self) -> Usage {
        let kept = self.kept.lock().unwrap();
        let bytes: usize = kept.values().map(|(key, entry)| entry.bytes(&key.ask())).sum();
        let mut usage = Usage::default();
        usage.entries = kept.len() as u64;
        usage.bytes = bytes as u64;
        usage.evictions = self.refused.load(Ordering::Relaxed);
        usage
    }

    fn bound(&self) -> Option<Bound> {
        Some(self.bound)
    }

    fn clear(&self) {
        self.kept.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_kind_of_cache_of_ones_own_answers_from_memory_within_its_bound() {
    for (size, bound) in [("16", Bound::Entries(16 + 2)), ("64KiB", Bound::Bytes((64 + 8) << 10))] {
        let app = Slow::new("app");
        let stack = builder(&[("app", app.provides())], "")
            .register_cache("plain", Plain::factory())
            .var("CACHE", "plain")
            .var("CACHE_SIZE", size)
            .build()
            .await
            .unwrap();
        let (realm, calvin) = (stack.realm("default").unwrap(), who(&stack, "calvin").await);
        for _ in 0..3 {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "app");
            assert_eq!(realm.is_member(&Ctx::new(), &calvin, "staff").await.unwrap(), Member::Yes);
        }
        assert_eq!(app.asked(), 2, "the account and the groups, once each");
        for n in 0..500 {
            assert_eq!(told(&stack, &format!("stranger-{n}"), "x").await, "unknown_user");
        }
        // A full table of strangers drives nobody out who is known.
        let asked = app.asked();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "app");
        assert_eq!(app.asked(), asked);
        let caches = stack.caches();
        let stats = caches.iter().find(|(_, report)| report.kind == "accounts").unwrap().1.stats;
        assert_eq!(stats.bound, Some(bound));
        assert!(stats.evictions > 0 && stats.entries > 1, "{stats:?}");
        match bound {
            Bound::Entries(most) => assert!(stats.entries <= most as u64, "{stats:?}"),
            Bound::Bytes(most) => assert!(stats.bytes <= most as u64, "{stats:?}"),
        }
        // What is voided is asked for again.
        stack.expire(&auth_core::Subject::All);
        assert_eq!(told(&stack, "calvin", "hobbes").await, "app");
        assert_eq!(app.asked(), asked + 1);
    }
}

/// Somebody else's service: it says yes or no, and shows neither hashes nor accounts.
#[derive(Debug)]
struct Service {
    info: SourceInfo,
    password: Mutex<&'static [u8]>,
    asked: AtomicU64,
}

#[async_trait]
impl PasswordSource for Service {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, _: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(who) = Principal::found(&self.info, login, "Calvin", Id::from(1)) else {
            return Ok(Verdict::Rejected(Reject::UnknownUser));
        };
        Ok(match password.as_bytes() == *self.password.lock().unwrap() {
            true => Verdict::Accepted(who),
            false => Verdict::Rejected(Reject::BadPassword),
        })
    }

    async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
        Err(Error::new(ErrorKind::Unsupported, "this service shows nobody"))
    }
}

async fn deciding(cache: &str, once: bool) -> (Arc<Service>, auth_stack::Stack) {
    let info = SourceInfo::new("service", Fingerprint::default());
    let password = Mutex::new(&b"hobbes"[..]);
    let service = Arc::new(Service { info, password, asked: AtomicU64::new(0) });
    let source = Arc::clone(&service) as Arc<dyn PasswordSource>;
    let provides = if once {
        Provides { passwords: Some(Passwords::DecidesOnce(source)), ..Provides::default() }
    } else {
        Provides::decisions(source)
    };
    let stack = builder(&[("service", provides)], "").var("CACHE", cache).build().await.unwrap();
    (service, stack)
}

const ASKED: [(&str, &str, &str); 4] = [
    ("calvin", "hobbes", "service"),
    ("calvin", "wrong", "bad_password"),
    ("nobody", "hobbes", "unknown_user"),
    ("Calvin", "hobbes", "service"),
];

#[tokio::test]
async fn a_source_whose_passwords_are_good_once_is_asked_at_each_login_whatever_the_cache() {
    for cache in caches() {
        let (service, stack) = deciding(cache, true).await;
        for round in 1..=3 {
            let jobs = stack.hashing().jobs;
            for (login, password, verdict) in ASKED {
                assert_eq!(told(&stack, login, password).await, verdict, "{cache} {round}");
            }
            assert_eq!(service.asked.load(Ordering::Relaxed), 4 * round, "{cache}");
            assert_eq!(stack.hashing().jobs - jobs, 2, "{cache}: one for each rejection, none for a yes");
        }
        // What it decides anew counts at once: nothing of it was remembered.
        *service.password.lock().unwrap() = b"stripes";
        assert_eq!(told(&stack, "calvin", "hobbes").await, "bad_password", "{cache}");
        assert_eq!(told(&stack, "calvin", "stripes").await, "service", "{cache}");
        assert!(stack.memos().is_empty(), "{cache}");
        let calvin = Login::parse(stack.realm("default").unwrap().id(), "calvin").unwrap();
        let error = stack.realm("default").unwrap().principal(&Ctx::new(), &calvin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn what_a_source_accepts_that_only_decides_is_remembered_and_what_it_refuses_is_not() {
    for cache in caches() {
        let (service, stack) = deciding(cache, false).await;
        let remembers = cache != "none";
        let mut asked = 0;
        for round in 1..=3 {
            for (login, password, verdict) in ASKED {
                assert_eq!(told(&stack, login, password).await, verdict, "{cache} {round}");
            }
            asked += match (remembers, round) {
                (true, 1) => 3,
                (true, _) => 2,
                (false, _) => 4,
            };
            assert_eq!(service.asked.load(Ordering::Relaxed), asked, "{cache} {round}");
        }
        *service.password.lock().unwrap() = b"stripes";
        assert_eq!(told(&stack, "calvin", "stripes").await, "service", "{cache}: a new one works at once");
        let calvin = who_login(&stack);
        stack.expire(&auth_core::Subject::Login(&calvin));
        assert_eq!(told(&stack, "calvin", "hobbes").await, "bad_password", "{cache}");
        assert_eq!(stack.memos().len(), 1, "{cache}");
    }
}

fn who_login(stack: &auth_stack::Stack) -> Login {
    Login::parse(stack.realm("default").unwrap().id(), "calvin").unwrap()
}
