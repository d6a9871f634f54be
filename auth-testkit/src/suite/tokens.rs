//! Cases for token caches.

use std::sync::Arc;
use std::time::Duration;

use auth_core::{Ctx, GroupSet, Lookup, Reached, Subject, TokenCache, TokenId, TokenState};

use super::{Bench, TokenBench, cases, told};
use crate::{World, info};

cases! {
    /// Lists the cases for a [`TokenCache`].
    pub token_cases, dyn TokenCache, TokenBench:
    a_token_that_was_not_put_is_not_found,
    what_was_put_is_found_as_it_was,
    a_later_state_replaces_an_earlier,
    tokens_do_not_mix,
    a_state_is_forgotten_after_its_time,
    reading_does_not_prolong_a_state,
    a_state_never_outlives_its_token,
    an_expired_token_is_not_kept,
    what_is_peeked_is_what_is_found,
    what_was_validated_before_an_invalidation_is_not_kept,
    an_invalidation_of_the_person_voids_a_state,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Each case has ids of its own, so that all can run on one cache.
const fn id(case: u8, n: u8) -> TokenId {
    let mut bytes = [0x5a; 32];
    bytes[0] = case;
    bytes[31] = n;
    TokenId::new(bytes)
}

fn state(bench: &TokenBench, login: &str, lives: Duration) -> TokenState {
    let principal = Bench::new(&bench.realm).principal(&info("tokens"), World::user(login));
    let scopes: GroupSet = ["read", "write"].into_iter().collect();
    TokenState { principal, scopes, expires_at: bench.clock.wall() + lives, claims: Some("{\"a\":1}".into()) }
}

/// Puts a state that was validated just now: as callers do, after it was asked for.
async fn put(cache: &dyn TokenCache, bench: &TokenBench, id: &TokenId, state: &TokenState, ttl: Duration) {
    get(cache, id).await;
    let (state, watch) = (Arc::new(state.clone()), bench.fence.watch(bench.clock.now()));
    told("put", cache.put(&Ctx::new(), id, &state, ttl, watch).await);
}

/// Invalidates, and waits until all who share something with this process know it.
async fn invalidate(bench: &TokenBench, subject: &Subject<'_>) {
    bench.fence.invalidate(subject);
    assert_eq!(bench.fence.settle(10 * SECOND).await, Reached::Everything, "{subject:?}");
}

async fn get(cache: &dyn TokenCache, id: &TokenId) -> Lookup<Arc<TokenState>> {
    told("get", cache.get(&Ctx::new(), id).await)
}

async fn check(cache: &dyn TokenCache, bench: &TokenBench, id: &TokenId, state: &TokenState) {
    let expected = if bench.keeps { Lookup::Found(Arc::new(state.clone())) } else { Lookup::NotFound };
    assert_eq!(get(cache, id).await, expected);
}

async fn check_gone(cache: &dyn TokenCache, id: &TokenId, why: &str) {
    assert_eq!(cache.peek_token(&Ctx::new(), id).and_then(Lookup::found), None, "{why}, yet it is peeked");
    assert_eq!(get(cache, id).await, Lookup::NotFound, "{why}, yet it is found");
}

async fn a_token_that_was_not_put_is_not_found(cache: &dyn TokenCache, _bench: &TokenBench) {
    check_gone(cache, &id(1, 0), "it was never put").await;
}

async fn what_was_put_is_found_as_it_was(cache: &dyn TokenCache, bench: &TokenBench) {
    for (n, user) in (0_u8..).zip(World::users()) {
        let state = state(bench, user.login, 10 * MINUTE);
        put(cache, bench, &id(2, n), &state, MINUTE).await;
        check(cache, bench, &id(2, n), &state).await;
    }
}

async fn a_later_state_replaces_an_earlier(cache: &dyn TokenCache, bench: &TokenBench) {
    let (id, first) = (id(3, 0), state(bench, "calvin", 10 * MINUTE));
    let second = TokenState { scopes: GroupSet::empty(), ..first.clone() };
    for state in [&first, &second] {
        put(cache, bench, &id, state, MINUTE).await;
        check(cache, bench, &id, state).await;
    }
}

async fn tokens_do_not_mix(cache: &dyn TokenCache, bench: &TokenBench) {
    let states = ["calvin", "susie"].map(|login| state(bench, login, 10 * MINUTE));
    for (n, state) in (0..).zip(&states) {
        put(cache, bench, &id(4, n), state, MINUTE).await;
    }
    for (n, state) in (0..).zip(&states) {
        check(cache, bench, &id(4, n), state).await;
    }
    check_gone(cache, &id(4, 2), "it was never put").await;
}

async fn a_state_is_forgotten_after_its_time(cache: &dyn TokenCache, bench: &TokenBench) {
    let (id, state) = (id(5, 0), state(bench, "calvin", 10 * MINUTE));
    put(cache, bench, &id, &state, 2 * SECOND).await;
    check(cache, bench, &id, &state).await;
    (bench.pass)(3 * SECOND).await;
    check_gone(cache, &id, "its time is over").await;
}

async fn reading_does_not_prolong_a_state(cache: &dyn TokenCache, bench: &TokenBench) {
    let (id, state) = (id(6, 0), state(bench, "calvin", 10 * MINUTE));
    put(cache, bench, &id, &state, 3 * SECOND).await;
    for _ in 0..4 {
        get(cache, &id).await;
        (bench.pass)(SECOND).await;
    }
    check_gone(cache, &id, "its time is over").await;
}

async fn a_state_never_outlives_its_token(cache: &dyn TokenCache, bench: &TokenBench) {
    let (id, state) = (id(7, 0), state(bench, "calvin", 2 * SECOND));
    put(cache, bench, &id, &state, MINUTE).await;
    check(cache, bench, &id, &state).await;
    (bench.pass)(2 * SECOND).await;
    check_gone(cache, &id, "the token has expired").await;
}

async fn an_expired_token_is_not_kept(cache: &dyn TokenCache, bench: &TokenBench) {
    let mut state = state(bench, "calvin", Duration::ZERO);
    put(cache, bench, &id(8, 0), &state, MINUTE).await;
    check_gone(cache, &id(8, 0), "the token ends now").await;
    state.expires_at -= MINUTE;
    put(cache, bench, &id(8, 1), &state, MINUTE).await;
    check_gone(cache, &id(8, 1), "the token has expired").await;
}

async fn what_is_peeked_is_what_is_found(cache: &dyn TokenCache, bench: &TokenBench) {
    let (ctx, id) = (Ctx::new(), id(9, 0));
    let state = state(bench, "calvin", 10 * MINUTE);
    for round in 0..2 {
        let peeked = cache.peek_token(&ctx, &id);
        let found = get(cache, &id).await;
        for peeked in [peeked, cache.peek_token(&ctx, &id)].into_iter().flatten() {
            assert_eq!(peeked, found, "peek_token and get differ");
        }
        if round == 0 {
            put(cache, bench, &id, &state, MINUTE).await;
        }
    }
}

async fn what_was_validated_before_an_invalidation_is_not_kept(cache: &dyn TokenCache, bench: &TokenBench) {
    let state = state(bench, "calvin", 10 * MINUTE);
    let who = &state.principal;
    let by_id = Subject::Id { realm: who.realm(), source: who.source(), id: who.id() };
    for (n, subject) in
        (0..).zip([Subject::Login(who.login()), by_id, Subject::Realm(who.realm()), Subject::All])
    {
        let id = id(10, n);
        let watch = bench.fence.watch(bench.clock.now());
        // The token is validated here; then it is put.
        invalidate(bench, &subject).await;
        let late = Arc::new(state.clone());
        told("put", cache.put(&Ctx::new(), &id, &late, MINUTE, watch).await);
        check_gone(cache, &id, "its person was invalidated since it was validated").await;
        // Validated again, it is good.
        put(cache, bench, &id, &state, MINUTE).await;
        check(cache, bench, &id, &state).await;
    }
}

async fn an_invalidation_of_the_person_voids_a_state(cache: &dyn TokenCache, bench: &TokenBench) {
    let (id, state) = (id(11, 0), state(bench, "calvin", 10 * MINUTE));
    put(cache, bench, &id, &state, MINUTE).await;
    check(cache, bench, &id, &state).await;
    invalidate(bench, &Subject::Login(state.principal.login())).await;
    check_gone(cache, &id, "its person was invalidated").await;
}
