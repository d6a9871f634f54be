//! Validated tokens in memory.

use std::sync::Arc;

use auth_cache::{Reports, Settings, TokenMemory, Ttls};
use auth_core::{
    Clock, Ctx, Freshness, GroupSet, Id, Lookup, Record, Subject, TokenCache, TokenId, TokenState,
};

use crate::helpers::{Bed, calvin, seconds, tables};

const ID: TokenId = TokenId::new([7; 32]);

fn state(bed: &Bed, lives: u64) -> Arc<TokenState> {
    Arc::new(TokenState {
        principal: calvin(),
        scopes: GroupSet::empty(),
        expires_at: bed.clock.wall() + seconds(lives),
        claims: None,
    })
}

async fn memory(bed: &Bed, lives: u64) -> TokenMemory {
    let memory = TokenMemory::new("default", Arc::clone(&bed.fence), bed.clock(), &bed.settings);
    memory
        .put(&Ctx::new(), &ID, &state(bed, lives), seconds(3600), bed.fence.watch(bed.clock.now()))
        .await
        .unwrap();
    assert!(is_kept(&memory));
    memory
}

fn is_kept(memory: &TokenMemory) -> bool {
    memory.peek_token(&Ctx::new(), &ID).is_some()
}

#[tokio::test]
async fn a_state_lives_for_the_lifetime_of_tokens() {
    let bed = Bed::new();
    let memory = memory(&bed, 3600).await;
    bed.clock.advance(seconds(269));
    assert!(is_kept(&memory));
    bed.clock.advance(seconds(31));
    assert!(!is_kept(&memory));
}

/// One for each kind of table.
fn beds() -> impl Iterator<Item = (&'static str, Bed)> {
    tables().into_iter().map(|(name, table)| (name, Bed::with(Settings::new(table))))
}

#[tokio::test]
async fn a_wall_clock_set_back_revives_no_token() {
    for (name, bed) in beds() {
        let memory = memory(&bed, 10).await;
        bed.clock.advance(seconds(9));
        assert!(is_kept(&memory), "{name}");
        bed.clock.set_wall(bed.clock.wall() - seconds(3600));
        assert!(is_kept(&memory), "{name}");
        bed.clock.advance(seconds(1));
        assert!(!is_kept(&memory), "{name}: by the monotonic clock it has ended");
    }
}

#[tokio::test]
async fn a_wall_clock_set_forward_ends_a_token() {
    for (name, bed) in beds() {
        let memory = memory(&bed, 10).await;
        bed.clock.set_wall(bed.clock.wall() + seconds(9));
        assert!(is_kept(&memory), "{name}");
        bed.clock.set_wall(bed.clock.wall() + seconds(1));
        assert!(!is_kept(&memory), "{name}: by the time of day it has ended");
    }
}

#[tokio::test]
async fn an_invalidation_of_the_person_voids_the_state() {
    let who = calvin();
    let id = Id::from(1);
    for subject in [
        Subject::Login(who.login()),
        Subject::Id { realm: who.realm(), source: "app", id: &id },
        Subject::Realm(who.realm()),
        Subject::All,
    ] {
        let bed = Bed::new();
        let memory = memory(&bed, 3600).await;
        bed.fence.invalidate(&subject);
        assert_eq!(memory.get(&Ctx::new(), &ID).await.unwrap(), Lookup::NotFound, "{subject:?}");
        assert_eq!(memory.report().stats.voided, 1);
    }
}

#[tokio::test]
async fn a_lowered_lifetime_and_a_fresh_question_are_heeded() {
    for (name, bed) in beds() {
        let memory = memory(&bed, 3600).await;
        assert!(memory.peek_token(&Ctx::new().with_freshness(Freshness::Fresh), &ID).is_none());
        bed.clock.advance(seconds(10));
        let record = Arc::new(Record::explaining());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        assert!(memory.peek_token(&ctx, &ID).is_some(), "{name}");
        assert_eq!(record.steps()[0].age, Some(seconds(10)), "{name}");
        bed.settings.lifetimes.set(Ttls { token: seconds(5), ..Ttls::default() });
        assert!(!is_kept(&memory), "{name}");
    }
    let bed = Bed::new();
    let memory = memory(&bed, 3600).await;
    assert_eq!((memory.report().kind, &*memory.report().source), ("tokens", "default"));
}
