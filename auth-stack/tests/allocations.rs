//! An answer from memory, through the composed realm, allocates nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;
#[path = "../../auth-testkit/counting_allocator.rs"]
mod counting_allocator;

use std::sync::Arc;

use auth_core::{Access, Ctx, Member};
use auth_testkit::{MemoryStore, object};
use common::{all, builder, remembering, who};

/// Polls a future, which must not wait, and counts what that allocates.
fn count<T>(future: impl Future<Output = T>) -> (u64, T) {
    let mut future = std::pin::pin!(future);
    let before = counting_allocator::allocations();
    let polled = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    let allocated = counting_allocator::allocations() - before;
    let std::task::Poll::Ready(answer) = polled else { panic!("an answer from memory does not wait") };
    (allocated, answer)
}

#[tokio::test]
async fn a_remembered_group_and_a_remembered_right_allocate_nothing() {
    for cache in remembering() {
        let (app, other) = (Arc::new(MemoryStore::named("app")), Arc::new(MemoryStore::empty("other")));
        let text = "[realm.default]\npassword = [\"app\", \"other\"]\ngroups = [\"other\", \"app\"]\nobjects = { \"*\" = \"app\" }\n";
        let stack = builder(&[("app", all(&app)), ("other", all(&other))], text)
            .var("CACHE", cache)
            .build()
            .await
            .unwrap();
        let realm = stack.realm("default").unwrap();
        let (calvin, doc, ctx) = (who(&stack, "calvin").await, object("doc", 1), Ctx::new());
        // Once to remember it.
        assert_eq!(realm.is_member(&ctx, &calvin, "staff").await.unwrap(), Member::Yes);
        assert_eq!(realm.access(&ctx, &calvin, &doc, Some("read")).await.unwrap(), Access::Allow);
        assert_eq!(realm.access(&ctx, &calvin, &doc, Some("burn")).await.unwrap(), Access::Deny);
        let (allocated, member) = count(realm.is_member(&ctx, &calvin, "staff"));
        assert_eq!((allocated, member.unwrap()), (0, Member::Yes), "{cache}");
        let (allocated, member) = count(realm.is_member(&ctx, &calvin, "ghosts"));
        assert_eq!((allocated, member.unwrap()), (0, Member::No), "{cache}");
        let (allocated, access) = count(realm.access(&ctx, &calvin, &doc, Some("read")));
        assert_eq!((allocated, access.unwrap()), (0, Access::Allow), "{cache}");
        let (allocated, access) = count(realm.access(&ctx, &calvin, &doc, Some("burn")));
        assert_eq!((allocated, access.unwrap()), (0, Access::Deny), "{cache}");
    }
}

#[tokio::test]
async fn the_allocator_counts() {
    let (allocated, _) = count(async { Box::new(1) });
    assert_eq!(allocated, 1);
}
