//! A remembered password is recalled without an allocation, and a wrong one is missed without one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;
mod rig;

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, AccountState, Clock, Ctx, Fence, Id, Login, Lookup, PasswordSource, Principal,
    Result, SourceInfo, StoredHash, Verdict,
};
use auth_password::{Hashed, Hasher, HasherConfig, MemoConfig, Policy};
use auth_testkit::{ManualClock, info, login, password, principal_at};

use rig::{CHEAP, calvin, fresh};

/// A source that knows its one account by heart.
#[derive(Debug)]
struct One {
    info: SourceInfo,
    account: Account,
}

#[async_trait]
impl AccountSource for One {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
        Ok(Lookup::Found(self.account.clone()))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }

    fn peek_account(&self, _: &Ctx, _: &Login) -> Option<Lookup<Account>> {
        Some(Lookup::Found(self.account.clone()))
    }
}

#[tokio::test]
async fn a_password_is_recalled_or_missed_without_an_allocation() {
    for length in [6, 1_024] {
        let (right, wrong) = ("x".repeat(length), "y".repeat(length));
        let clock: Arc<dyn Clock> = ManualClock::new();
        let policy = Policy { preferred: CHEAP, ..Policy::default() };
        let config = HasherConfig { threads: 1, queue: 8 };
        let hasher = Arc::new(Hasher::new(config, policy, Arc::clone(&clock)).unwrap());
        let who = principal_at("app", "calvin", Id::from(1));
        let account = Account::new(who, AccountState::default(), Some(fresh(&right)));
        let inner = Arc::new(One { info: info("app"), account });
        let fence = Arc::new(Fence::new());
        let hashed = Hashed::new(inner, hasher, MemoConfig::default(), fence, clock).unwrap();
        let (ctx, one, nobody) = (Ctx::new(), login("calvin"), login("nobody"));
        let (right, wrong) = (password(&right), password(&wrong));
        assert_eq!(hashed.verify(&ctx, &one, &right).await.unwrap(), calvin());

        let check = |login: &Login, text, verdict: Option<Verdict>| {
            let before = counting_allocator::allocations();
            let peeked = hashed.peek_verify(&ctx, login, text);
            let allocated = counting_allocator::allocations() - before;
            assert_eq!((peeked, allocated), (verdict, 0), "{length} bytes");
        };
        check(&one, &right, Some(calvin()));
        check(&one, &wrong, None);
        check(&nobody, &right, None);
        let before = counting_allocator::allocations();
        drop(Box::new(1_u64));
        std::hint::black_box(Box::new(2_u64));
        assert!(counting_allocator::allocations() > before, "the counter counts");
    }
}
