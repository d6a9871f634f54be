//! Invalidations reach the shared cache and the other processes, or say how far they got, and get there later.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Reports, Settings};
use auth_core::{Clock, Ctx, Fence, GroupOracle, Outward as _, Reached, Subject};
use auth_testkit::{
    CountingSource, ManualClock, MemoryBus, MemoryStore, MemoryTier, login, principal, realm,
};

use crate::nodes::{Node, no_table, ttl_table};

const SECOND: Duration = Duration::from_secs(1);

struct Bed {
    clock: Arc<ManualClock>,
    tier: Arc<MemoryTier>,
    bus: Arc<MemoryBus>,
    store: Arc<CountingSource<MemoryStore>>,
}

impl Bed {
    fn new() -> Self {
        let clock = ManualClock::new();
        clock.advance(3600 * SECOND);
        let tier = Arc::new(MemoryTier::new(Arc::clone(&clock) as Arc<dyn Clock>, 2));
        let store = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
        Self { clock, tier, bus: MemoryBus::new(), store }
    }

    fn time(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    fn store(&self) -> Arc<CountingSource<MemoryStore>> {
        Arc::clone(&self.store)
    }

    fn tiered(&self) -> Node {
        Node::new(
            &self.tier,
            Some(&self.bus),
            self.time(),
            &Settings::new(ttl_table()).with_refresh_ahead(0.0),
        )
    }

    fn bare(&self) -> Node {
        Node::new(&self.tier, None, self.time(), &Settings::new(no_table()))
    }
}

/// Lets other tasks go on.
async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_invalidation_reaches_the_memory_of_the_other_process() {
    let bed = Bed::new();
    let (a, b) = (bed.tiered(), bed.tiered());
    let groups = b.groups(bed.store(), bed.time());
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    groups.groups_of(&ctx, &who).await.unwrap();
    assert!(groups.peek_groups(&ctx, &who).is_some());
    assert_eq!(a.invalidate(&Subject::Login(&login("susie"))).await, Reached::Everything);
    assert!(groups.peek_groups(&ctx, &who).is_some(), "about somebody else");
    assert_eq!(a.invalidate(&Subject::Login(who.login())).await, Reached::Everything);
    assert!(groups.peek_groups(&ctx, &who).is_none());
    assert_eq!(b.hearing.unwrap().stats().heard, 2);
    assert_eq!(a.hearing.unwrap().stats().heard, 0, "its own it does not need to hear");
}

#[tokio::test]
async fn every_subject_voids_what_is_shared_about_it_and_nothing_of_another_realm() {
    let realm = realm();
    let (calvin, who) = (login("calvin"), principal("calvin"));
    let elsewhere = auth_testkit::realm_with("elsewhere", auth_core::LoginRule::CaseMapped);
    let id = Subject::Id { realm: &realm, source: "memory", id: who.id() };
    for (subject, voids) in [
        (Subject::Login(&calvin), true),
        (id, true),
        (Subject::Groups(&realm), true),
        (Subject::Realm(&realm), true),
        (Subject::All, true),
        (Subject::Realm(&elsewhere), false),
        (Subject::Groups(&elsewhere), false),
    ] {
        let bed = Bed::new();
        let (a, b) = (bed.bare(), bed.bare());
        let (first, second) = (a.groups(bed.store(), bed.time()), b.groups(bed.store(), bed.time()));
        first.groups_of(&Ctx::new(), &who).await.unwrap();
        turns().await;
        assert_eq!(a.invalidate(&subject).await, Reached::Everything);
        second.groups_of(&Ctx::new(), &who).await.unwrap();
        assert_eq!(bed.store.asked(), if voids { 2 } else { 1 }, "{subject:?}");
    }
}

#[tokio::test]
async fn what_the_shared_cache_does_not_know_of_is_said_and_carried_later() {
    let bed = Bed::new();
    let (a, b) = (bed.bare(), bed.bare());
    let (first, second) = (a.groups(bed.store(), bed.time()), b.groups(bed.store(), bed.time()));
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    first.groups_of(&ctx, &who).await.unwrap();
    turns().await;
    bed.tier.fail(true);
    let reached = a.invalidate(&Subject::Login(who.login())).await;
    assert_eq!(reached, Reached::Partial { shared: false, bus: true });
    bed.tier.fail(false);
    // Here nothing of that person is trusted any more; of others all is.
    first.groups_of(&ctx, &who).await.unwrap();
    assert_eq!(bed.store.asked(), 2);
    let skipped = first.report().shared.unwrap().skipped;
    first.groups_of(&ctx, &principal("susie")).await.unwrap();
    assert_eq!((skipped, first.report().shared.unwrap().skipped), (1, 1));
    // The other still finds it: that is what was said.
    second.groups_of(&ctx, &who).await.unwrap();
    assert_eq!(bed.store.asked(), 3);
    bed.clock.advance(SECOND);
    turns().await;
    assert_eq!(a.fence.settle(SECOND).await, Reached::Everything);
    second.groups_of(&ctx, &who).await.unwrap();
    assert_eq!((bed.store.asked(), a.carrier.stats().waiting), (4, 0));
}

#[tokio::test]
async fn what_never_got_there_is_given_up_when_all_that_it_voided_has_ended() {
    let bed = Bed::new();
    let a = bed.bare();
    bed.tier.fail(true);
    a.fence.invalidate(&Subject::Login(&login("calvin")));
    turns().await;
    assert_eq!(a.carrier.stats().waiting, 1);
    for _ in 0..301 {
        bed.clock.advance(SECOND);
        turns().await;
    }
    let stats = a.carrier.stats();
    assert_eq!((stats.waiting, stats.given_up), (0, 1));
    assert_eq!(a.shared.lanes().iter().map(|lane| lane.behind).sum::<usize>(), 0);
}

#[tokio::test]
async fn what_is_late_is_not_tried_again_with_each_that_is_new() {
    let bed = Bed::new();
    let a = bed.bare();
    bed.tier.fail(true);
    for n in 0..100 {
        a.fence.invalidate(&Subject::Login(&login(&format!("user{n}"))));
        turns().await;
    }
    // Two names each, on two lanes: the person's, and that of all that was told.
    assert_eq!(bed.tier.voids(), 400);
    bed.tier.fail(false);
    // Once one gets through, so do the others, at once.
    a.fence.invalidate(&Subject::Login(&login("somebody")));
    turns().await;
    assert_eq!(a.fence.settle(SECOND).await, Reached::Everything);
    assert_eq!(a.carrier.stats().waiting, 0);
}

#[tokio::test]
async fn more_than_can_wait_is_everything() {
    let bed = Bed::new();
    let a = bed.bare();
    bed.tier.fail(true);
    for round in 0..3 {
        for n in 0..3_000 {
            a.fence.invalidate(&Subject::Login(&login(&format!("user{round}x{n}"))));
        }
        turns().await;
    }
    assert!(a.carrier.stats().waiting <= 4_096, "{:?}", a.carrier.stats());
    bed.tier.fail(false);
    bed.clock.advance(SECOND);
    turns().await;
    assert_eq!(a.fence.settle(SECOND).await, Reached::Everything);
    assert_eq!(a.shared.lanes().iter().map(|lane| lane.behind).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_deaf_process_keeps_nothing_itself_until_it_hears_again() {
    let bed = Bed::new();
    let (a, b) = (bed.tiered(), bed.tiered());
    let groups = b.groups(bed.store(), bed.time());
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    groups.groups_of(&ctx, &who).await.unwrap();
    turns().await;
    bed.bus.cut();
    let reached = a.invalidate(&Subject::Login(&login("susie"))).await;
    assert_eq!(reached, Reached::Partial { shared: true, bus: false });
    bed.bus.notice();
    assert!(groups.peek_groups(&ctx, &who).is_none(), "what it had is not to be relied on");
    for _ in 0..3 {
        groups.groups_of(&ctx, &who).await.unwrap();
        assert!(groups.peek_groups(&ctx, &who).is_none());
    }
    assert_eq!(bed.store.asked(), 1, "the shared cache has it");
    bed.bus.heal();
    bed.clock.advance(SECOND);
    turns().await;
    assert_eq!(a.fence.settle(SECOND).await, Reached::Everything);
    groups.groups_of(&ctx, &who).await.unwrap();
    assert!(groups.peek_groups(&ctx, &who).is_some());
    assert_eq!(b.hearing.unwrap().stats().losses, 1);
}

#[tokio::test]
async fn without_anything_to_carry_to_an_invalidation_is_everywhere_at_once() {
    let fence = Fence::new();
    fence.invalidate(&Subject::All);
    assert_eq!(fence.settle(Duration::ZERO).await, Reached::Everything);
    let bed = Bed::new();
    assert_eq!(bed.bare().carrier.settle(Duration::ZERO).await, Reached::Everything);
}
