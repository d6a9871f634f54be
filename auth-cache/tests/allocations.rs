//! An answer from memory costs no allocation.

#![allow(unsafe_code, reason = "a global allocator is unsafe by its trait; this one counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use auth_cache::{Cached, Settings, TokenMemory, kinds};
use auth_core::{
    Access, AccountSource, Clock, Ctx, Fence, GroupOracle, GroupSet, Lookup, ObjectPerms, TokenCache,
    TokenId, TokenState,
};
use auth_testkit::{ManualClock, MemoryStore, login, object, principal};

struct Counting;

thread_local! {
    // Per thread, so that the test harness's other threads do not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    // A thread that is ending may have none any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `ptr` came from `System` with this layout; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations<T>(mut run: impl FnMut() -> T) -> u64 {
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        std::hint::black_box(run());
    }
    ALLOCATIONS.get() - before
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
        let state = TokenState {
            principal: who.clone(),
            scopes: GroupSet::empty(),
            expires_at: clock.wall() + std::time::Duration::from_secs(60),
        };
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
