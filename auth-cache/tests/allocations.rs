//! An answer from memory costs no allocation, and a bound in bytes is one of real bytes.

#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;

use std::sync::Arc;

use auth_cache::{Answer, Bound, Cached, Entry, Key, Settings, TokenMemory, kinds};
use auth_core::{
    Access, Account, AccountSource, AccountState, Clock, Ctx, Fence, GroupOracle, GroupSet, Id, Lookup,
    ObjectPerms, TokenCache, TokenId, TokenState,
};
use auth_testkit::{ManualClock, MemoryStore, hash, login, object, principal, principal_at};

fn allocations<T>(mut run: impl FnMut() -> T) -> u64 {
    let before = counting_allocator::allocations();
    for _ in 0..1000 {
        std::hint::black_box(run());
    }
    counting_allocator::allocations() - before
}

#[tokio::test]
async fn a_hit_through_a_trait_object_allocates_nothing() {
    assert!(allocations(|| vec![1_u8]) >= 1000, "the counter counts");
    for kind in kinds() {
        let Some(table) = kind.factory() else { continue };
        let settings = Settings::new(table);
        let (store, fence) = (Arc::new(MemoryStore::new()), Arc::new(Fence::new()));
        let clock: Arc<dyn Clock> = ManualClock::new();
        let accounts: Arc<dyn AccountSource> = Arc::new(Cached::<dyn AccountSource>::new(
            Arc::<MemoryStore>::clone(&store),
            Arc::clone(&fence),
            Arc::clone(&clock),
            &settings,
        ));
        let groups: Arc<dyn GroupOracle> = Arc::new(Cached::<dyn GroupOracle>::new(
            Arc::<MemoryStore>::clone(&store),
            Arc::clone(&fence),
            Arc::clone(&clock),
            &settings,
        ));
        let access: Arc<dyn ObjectPerms> = Arc::new(Cached::<dyn ObjectPerms>::new(
            store,
            Arc::clone(&fence),
            Arc::clone(&clock),
            &settings,
        ));
        let watch = fence.watch(clock.now());
        let tokens: Arc<dyn TokenCache> =
            Arc::new(TokenMemory::new("default", fence, Arc::clone(&clock), &settings));

        let (ctx, name, nobody, who, doc) =
            (Ctx::new(), login("calvin"), login("nobody"), principal("calvin"), object("doc", 1));
        let token = TokenId::new([7; 32]);
        let state = Arc::new(TokenState {
            principal: who.clone(),
            scopes: GroupSet::empty(),
            expires_at: clock.wall() + std::time::Duration::from_secs(60),
            claims: None,
        });
        accounts.account(&ctx, &name).await.unwrap();
        accounts.account(&ctx, &nobody).await.unwrap();
        groups.groups_of(&ctx, &who).await.unwrap();
        access.access(&ctx, &who, &doc, Some("read")).await.unwrap();
        tokens.put(&ctx, &token, &state, std::time::Duration::from_secs(60), watch).await.unwrap();

        // moka does its upkeep while it is read, in at most one of ten.
        let most = if kind.name == "lfu" { 100 } else { 0 };
        assert!(matches!(accounts.peek_account(&ctx, &name), Some(Lookup::Found(_))));
        assert_eq!(accounts.peek_account(&ctx, &nobody), Some(Lookup::NotFound));
        assert!(matches!(groups.peek_groups(&ctx, &who), Some(Lookup::Found(_))));
        assert_eq!(access.peek_access(&ctx, &who, &doc, Some("read")), Some(Access::Allow));
        assert_eq!(tokens.peek_token(&ctx, &token), Some(Lookup::Found(state)));

        assert!(allocations(|| accounts.peek_account(&ctx, &name)) <= most, "{}", kind.name);
        assert!(allocations(|| accounts.peek_account(&ctx, &nobody)) <= most, "{}", kind.name);
        assert!(allocations(|| groups.peek_groups(&ctx, &who)) <= most, "{}", kind.name);
        assert!(allocations(|| access.peek_access(&ctx, &who, &doc, Some("read"))) <= most, "{}", kind.name);
        assert!(allocations(|| tokens.peek_token(&ctx, &token)) <= most, "{}", kind.name);
        // A miss is no reason to allocate either.
        assert!(allocations(|| access.peek_access(&ctx, &who, &doc, None)) <= most, "{}", kind.name);
    }
}

/// Makes the nth entry: an account with a hash, five groups, a right, a token, nobody.
fn entry(n: u32, fence: &Fence, clock: &ManualClock) -> (Key, Entry) {
    let who = principal_at("app", &format!("user-{n}"), Id::from(i64::from(n)));
    let groups = || (0..5).map(|group| Arc::from(format!("group-{group}-of-{n}"))).collect::<GroupSet>();
    let (key, answer) = match n % 5 {
        0 => {
            let hash = hash(&"$2b$04$".repeat(8));
            let account = Account::new(who.clone(), AccountState::default(), Some(hash));
            (Key::Account(who.login().clone()), Answer::Account(Lookup::Found(account)))
        }
        1 => (Key::Groups(who.clone()), Answer::Groups(Lookup::Found(groups()))),
        2 => {
            let mode = Some("read".into());
            (Key::Access(who.clone(), object("doc", i64::from(n)), mode), Answer::Access(Access::Allow))
        }
        3 => {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_le_bytes());
            id[4..8].copy_from_slice(&n.to_le_bytes());
            let state = Arc::new(TokenState {
                principal: who.clone(),
                scopes: groups(),
                expires_at: clock.wall(),
                claims: None,
            });
            (Key::Token(TokenId::new(id)), Answer::Token(state))
        }
        _ => (Key::Account(who.login().clone()), Answer::Account(Lookup::NotFound)),
    };
    (key, Entry::new(answer, fence.login(who.login()), clock.now()))
}

#[test]
fn what_a_table_really_takes_is_near_its_bound_in_bytes() {
    const BOUND: u32 = 512 << 10;
    let (fence, clock) = (Fence::new(), ManualClock::new());
    for kind in kinds().iter().filter(|kind| kind.bounded) {
        let Some(factory) = kind.factory() else { continue };
        for what in 0..5 {
            let before = counting_allocator::live_bytes();
            let table = factory(Bound::Bytes(usize::try_from(BOUND).unwrap()));
            let mut most = 0;
            // Several times what fits.
            for n in 0..BOUND / 64 {
                let (key, entry) = entry(5 * n + what, &fence, &clock);
                table.put(key, entry);
                most = most.max(counting_allocator::live_bytes() - before);
            }
            // Empty places are not counted, nor what allocations are rounded up to; moka has books of its own.
            let factor = if kind.name == "lfu" { 3.0 } else { 1.75 };
            let real = f64::from(i32::try_from(most).unwrap()) / f64::from(BOUND);
            assert!(real > 0.5 && real < factor, "{} {what}: {real} times the bound", kind.name);
            assert!(table.usage().bytes > u64::from(BOUND / 10 * 9), "{} {what}: it is full", kind.name);
        }
    }
}
