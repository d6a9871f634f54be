//! What a server does for its tokens by itself: has keys follow each other, and deletes records that are no longer needed.

use std::sync::Arc;
use std::time::Duration;

use auth_stack::Stack;
use auth_token::Rotation;

use crate::command::told;
use crate::current::Current;
use crate::ops::context;

/// How often.
const EVERY: Duration = Duration::from_secs(600);
/// How many records are deleted at once: others use the store meanwhile.
const BATCH: u32 = 1_000;
/// How many batches before the others have their turn; what is left is for the next time.
const BATCHES: usize = 1_000;

/// Goes on until it is dropped.
pub(crate) async fn run(current: Arc<Current>) {
    loop {
        let stack = current.stack();
        rotate(&stack).await;
        clean(&stack).await;
        let clock = Arc::clone(stack.clock());
        drop(stack);
        clock.sleep_until(clock.now() + EVERY).await;
    }
}

/// Has another key follow if it is time.
async fn rotate(stack: &Arc<Stack>) {
    let Some(ring) = stack.key_ring().map(Arc::clone) else { return };
    let now = stack.clock().wall();
    // It reads and writes files, and an RSA key takes its time.
    let done =
        tokio::task::spawn_blocking(move || ring.due(now).then(|| ring.rotate(now, Rotation::Planned))).await;
    match done {
        Ok(Some(Ok(entry))) => {
            let kid = entry.kid.as_deref().unwrap_or_default();
            tracing::info!(target: "gatepost::audit", kid, algorithm = entry.algorithm.name(), "key_rotated");
        }
        Ok(Some(Err(error))) => tracing::error!(error = told(&error), "no key could be made to follow"),
        Ok(None) | Err(_) => {}
    }
}

/// Deletes what is no longer needed, for all realms of the store.
async fn clean(stack: &Stack) {
    let Some(service) = stack.realms().find_map(|realm| stack.tokens(realm.id().name())) else { return };
    let mut gone = 0;
    for _ in 0..BATCHES {
        match service.clean(&context(stack), BATCH).await {
            Ok(0) => break,
            Ok(some) => gone += some,
            Err(error) => {
                tracing::warn!(
                    error = told(&error),
                    "ended sessions could not be deleted, and are tried again"
                );
                return;
            }
        }
    }
    if gone > 0 {
        tracing::info!(gone, "ended sessions and revocations were deleted");
    }
}
