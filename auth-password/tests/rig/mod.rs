//! A store that fails on demand, its wrapper, and the clock of both.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, Clock, Ctx, Error, ErrorKind, Fence, Id, Login, Lookup, PasswordSource,
    Principal, Reject, Result, SourceInfo, StoredHash, Verdict,
};
use auth_password::{AcceptWeak, Hashed, Hasher, HasherConfig, MemoConfig, Policy, Preferred, make};
use auth_testkit::{ManualClock, MemoryStore, login, password, principal_at};

pub(crate) const CHEAP: Preferred = Preferred::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
pub(crate) const HEX_MD5_OF_HOBBES: &str = "0eb55bec7f0e6d1c831bfbef77ac054a";

/// A store that also answers from memory, and whose writes can be made to fail.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) memory: MemoryStore,
    pub(crate) peeks: AtomicBool,
    /// How often memory was asked for an account.
    pub(crate) peeked: AtomicU64,
    pub(crate) fails_to_write: AtomicBool,
    pub(crate) lost_race: AtomicBool,
    pub(crate) hangs: AtomicBool,
}

#[async_trait]
impl AccountSource for Store {
    fn source(&self) -> &SourceInfo {
        self.memory.source()
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.memory.account(ctx, login).await
    }

    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        if self.fails_to_write.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "read only"));
        }
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.lost_race.load(Ordering::SeqCst) {
            self.memory.set_hash("calvin", Some(fresh("changed meanwhile")));
        }
        self.memory.replace_hash(ctx, who, old, new).await
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.peeked.fetch_add(1, Ordering::SeqCst);
        let peeks = self.peeks.load(Ordering::SeqCst);
        peeks.then(|| futures_util::FutureExt::now_or_never(self.account(ctx, login))?.ok())?
    }
}

pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) store: Arc<Store>,
    pub(crate) hashed: Arc<Hashed<Store>>,
}

pub(crate) fn fresh(text: &str) -> StoredHash {
    make(&CHEAP, &password(text)).unwrap()
}

pub(crate) fn rig() -> Rig {
    rig_with(MemoConfig::default(), CHEAP)
}

pub(crate) fn rig_with(memo: MemoConfig, preferred: Preferred) -> Rig {
    let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
    let policy = Policy { preferred, accept_weak: AcceptWeak::All, ..Policy::default() };
    let dynamic: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let config = HasherConfig { threads: 2, queue: 64 };
    let hasher = Arc::new(Hasher::new(config, policy, Arc::clone(&dynamic)).unwrap());
    let store = Arc::new(Store {
        memory: MemoryStore::empty("app"),
        peeks: AtomicBool::new(true),
        peeked: AtomicU64::new(0),
        fails_to_write: AtomicBool::new(false),
        lost_race: AtomicBool::new(false),
        hangs: AtomicBool::new(false),
    });
    store.memory.add_user("calvin", Id::from(1), Some(fresh("hobbes")));
    let hashed =
        Hashed::new(Arc::clone(&store), Arc::clone(&hasher), memo, Arc::clone(&fence), dynamic).unwrap();
    Rig { clock, fence, hasher, store, hashed: Arc::new(hashed) }
}

impl Rig {
    pub(crate) async fn verify(&self, text: &str) -> Result<Verdict> {
        self.verify_in(&Ctx::new(), text).await
    }

    pub(crate) async fn verify_in(&self, ctx: &Ctx, text: &str) -> Result<Verdict> {
        self.hashed.verify(ctx, &login("calvin"), &password(text)).await
    }

    pub(crate) fn peek(&self, ctx: &Ctx, text: &str) -> Option<Verdict> {
        self.hashed.peek_verify(ctx, &login("calvin"), &password(text))
    }

    pub(crate) fn jobs(&self) -> u64 {
        self.hasher.stats().jobs
    }

    pub(crate) fn set(&self, text: &str, scheme: Option<&str>) {
        self.store.memory.set_hash("calvin", Some(StoredHash::new(text.to_owned(), scheme)));
    }

    pub(crate) async fn stored(&self) -> StoredHash {
        let found = self.store.account(&Ctx::new(), &login("calvin")).await.unwrap();
        found.found().unwrap().hash().unwrap().clone()
    }
}

pub(crate) fn calvin() -> Verdict {
    Verdict::Accepted(principal_at("app", "calvin", Id::from(1)))
}

pub(crate) const BAD: Verdict = Verdict::Rejected(Reject::BadPassword);
