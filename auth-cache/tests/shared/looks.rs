//! What one process has stored another finds: the same answers, for no longer, and nothing that is void or not ours.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{CacheKeys, Cached, Reports, SealKind, Settings, SharedStats, Ttls};
use auth_core::{
    Access, AccountSource, Clock, Ctx, ErrorKind, Freshness, GroupOracle, ObjectPerms, Reached, Subject,
    TokenCache,
};
use auth_testkit::suite::{self, TokenBench};
use auth_testkit::{
    CountingSource, ManualClock, MemoryBus, MemoryStore, MemoryTier, Mode, ScriptedStore, hash, login,
    object, principal, realm,
};

use crate::nodes::{Node, keys, no_table, ttl_table};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Two processes before one store that counts.
struct Pair {
    clock: Arc<ManualClock>,
    tier: Arc<MemoryTier>,
    store: Arc<MemoryStore>,
    counted: Arc<CountingSource<MemoryStore>>,
    a: Node,
    b: Node,
}

impl Pair {
    fn new() -> Self {
        Self::with(&Settings::new(no_table()), 1)
    }

    fn with(settings: &Settings, lanes: usize) -> Self {
        let clock = ManualClock::new();
        clock.advance(seconds(3600));
        let time = || Arc::clone(&clock) as Arc<dyn Clock>;
        let tier = Arc::new(MemoryTier::new(time(), lanes));
        let store = Arc::new(MemoryStore::new());
        let counted = Arc::new(CountingSource::new(Arc::clone(&store)));
        let node = || Node::new(&tier, None, time(), settings);
        let (a, b) = (node(), node());
        Self { tier, store, counted, a, b, clock }
    }

    fn time(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    fn accounts(&self, node: &Node) -> Cached<dyn AccountSource> {
        node.accounts(Arc::clone(&self.counted) as Arc<_>, self.time())
    }

    fn groups(&self, node: &Node) -> Cached<dyn GroupOracle> {
        node.groups(Arc::clone(&self.counted) as Arc<_>, self.time())
    }

    fn rights(&self, node: &Node) -> Cached<dyn ObjectPerms> {
        node.rights(Arc::clone(&self.counted) as Arc<_>, self.time())
    }
}

fn shared(cache: &impl Reports) -> SharedStats {
    cache.report().shared.unwrap()
}

/// Waits for what another task does. No time passes for that.
async fn until(mut so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nothing happens any more");
}

#[tokio::test]
async fn whatever_is_kept_where_the_answers_are_those_of_the_store() {
    for lanes in [1, 3] {
        for (table, bus) in [(no_table(), None), (ttl_table(), Some(MemoryBus::new()))] {
            for ttls in [Ttls::default(), Ttls::default().with_ttl(Duration::ZERO)] {
                let clock = ManualClock::new();
                let time = || Arc::clone(&clock) as Arc<dyn Clock>;
                let tier = Arc::new(MemoryTier::new(time(), lanes));
                let settings = Settings::new(Arc::clone(&table)).with_ttls(ttls);
                let store = Arc::new(MemoryStore::new());
                // The first fills what the second finds.
                for _ in 0..2 {
                    let node = Node::new(&tier, bus.as_ref(), time(), &settings);
                    let store = || Arc::clone(&store);
                    suite::run_all_account(&node.accounts(store(), time()), &realm()).await;
                    suite::run_all_groups(&node.groups(store(), time()), &realm()).await;
                    suite::run_all_objects(&node.rights(store(), time()), &realm()).await;
                    let bench = TokenBench::manual(&realm(), &clock, &node.fence);
                    let bench = if ttls.token.is_zero() { bench.keeping_nothing() } else { bench };
                    suite::run_all_tokens(&node.tokens(time()), &bench).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_one_process_has_loaded_the_other_does_not_ask_for() {
    let pair = Pair::new();
    let (ctx, calvin, who, doc) = (Ctx::new(), login("calvin"), principal("calvin"), object("doc", 1));
    pair.store.add_object(&doc);
    pair.store.grant("calvin", &doc, "read");
    for node in [&pair.a, &pair.b] {
        let account = pair.accounts(node).account(&ctx, &calvin).await.unwrap().found().unwrap();
        assert_eq!(account.principal().login(), &calvin);
        assert!(account.hash().is_some());
        assert!(pair.groups(node).groups_of(&ctx, &who).await.unwrap().found().is_some());
        assert_eq!(pair.rights(node).access(&ctx, &who, &doc, Some("read")).await.unwrap(), Access::Allow);
        assert!(pair.accounts(node).account(&ctx, &login("nobody")).await.unwrap().found().is_none());
        let entries = pair.tier.entries().len();
        until(|| pair.tier.entries().len() == 4 || entries == 4).await;
    }
    assert_eq!(pair.counted.asked(), 4, "each once");
}

#[tokio::test]
async fn a_page_of_rights_is_one_round_trip() {
    let pair = Pair::new();
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    let page: Vec<_> = (0..100).map(|id| object("doc", id)).collect();
    for object in page.iter().take(50) {
        pair.store.add_object(object);
        pair.store.grant("calvin", object, "read");
    }
    let expected: Vec<_> =
        (0..100).map(|id| if id < 50 { Access::Allow } else { Access::NotFound }).collect();
    let mut settings = pair.a.settings.clone();
    settings.lifetimes.set(Ttls { not_found: seconds(15), ..Ttls::default() });
    settings.refresh_ahead = 0.0;
    let a = pair.rights(&pair.a);
    let answers = a.access_many(&ctx, &who, &page, Some("read")).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    until(|| shared(&a).stored == 100).await;
    let (_, before) = pair.tier.reads();
    let b = pair.rights(&pair.b);
    let answers = b.access_many(&ctx, &who, &page, Some("read")).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    let (_, after) = pair.tier.reads();
    assert_eq!((after - before, shared(&b).hits), (1, 100));
}

#[tokio::test]
async fn an_answer_lives_no_longer_in_the_second_process_than_in_the_first() {
    for (table, bus) in [(no_table(), None), (ttl_table(), Some(MemoryBus::new()))] {
        let clock = ManualClock::new();
        clock.advance(seconds(3600));
        let time = || Arc::clone(&clock) as Arc<dyn Clock>;
        let tier = Arc::new(MemoryTier::new(time(), 1));
        let settings = Settings::new(table).with_seed(1).with_refresh_ahead(0.0);
        let store = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
        let counted = || Arc::clone(&store);
        let node = || Node::new(&tier, bus.as_ref(), time(), &settings);
        let (a, b) = (node(), node());
        let (first, second) = (a.groups(counted(), time()), b.groups(counted(), time()));
        let (ctx, who) = (Ctx::new(), principal("calvin"));
        first.groups_of(&ctx, &who).await.unwrap();
        until(|| shared(&first).stored == 1).await;
        clock.advance(seconds(53));
        second.groups_of(&ctx, &who).await.unwrap();
        assert_eq!(store.asked(), 1);
        assert_eq!(second.report().stats.ages.max(), seconds(53));
        // Jitter takes a tenth at most; the clock of the server is the processes' here.
        clock.advance(seconds(7));
        assert_eq!(second.peek_groups(&ctx, &who), None);
        second.groups_of(&ctx, &who).await.unwrap();
        assert_eq!(store.asked(), 2);
    }
}

#[tokio::test]
async fn a_shorter_lifetime_holds_at_once_for_what_is_shared_already() {
    let pair = Pair::new();
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    let (a, b) = (pair.groups(&pair.a), pair.groups(&pair.b));
    a.groups_of(&ctx, &who).await.unwrap();
    until(|| shared(&a).stored == 1).await;
    pair.clock.advance(seconds(20));
    pair.b.settings.lifetimes.set(Ttls::default().with_ttl(seconds(20)));
    b.groups_of(&ctx, &who).await.unwrap();
    assert_eq!((shared(&b).hits, shared(&b).expired, pair.counted.asked()), (0, 1, 2));
}

#[tokio::test]
async fn who_wants_it_fresher_than_it_is_gets_it_from_the_source() {
    let pair = Pair::new();
    let who = principal("calvin");
    let (a, b) = (pair.groups(&pair.a), pair.groups(&pair.b));
    a.groups_of(&Ctx::new(), &who).await.unwrap();
    until(|| shared(&a).stored == 1).await;
    pair.clock.advance(seconds(20));
    for (freshness, asked) in [
        (Freshness::Any, 1),
        (Freshness::MaxAge(seconds(20)), 1),
        (Freshness::MaxAge(seconds(19)), 2),
        (Freshness::Fresh, 3),
    ] {
        b.groups_of(&Ctx::new().with_freshness(freshness), &who).await.unwrap();
        assert_eq!(pair.counted.asked(), asked, "{freshness:?}");
    }
}

#[tokio::test]
async fn the_source_may_be_down_for_what_is_shared() {
    let pair = Pair::new();
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    let a = pair.groups(&pair.a);
    a.groups_of(&ctx, &who).await.unwrap();
    until(|| shared(&a).stored == 1).await;
    let info = GroupOracle::source(&*pair.store).clone();
    let down = ScriptedStore::in_mode(info, Mode::Fails(ErrorKind::Unavailable));
    let b = pair.b.groups(Arc::new(down), pair.time());
    for _ in 0..10 {
        assert_eq!(b.groups_of(&ctx, &principal("susie")).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(b.groups_of(&ctx, &who).await.unwrap().found().is_some());
    }
}

/// Lets one process fill, something happen, and the other ask: it must ask the source.
async fn check_missed(
    what: &str,
    lanes: usize,
    happen: impl Fn(&Pair),
    counted: impl Fn(SharedStats) -> u64,
) {
    let pair = Pair::with(&Settings::new(no_table()), lanes);
    let (ctx, calvin, susie) = (Ctx::new(), login("calvin"), login("susie"));
    let (a, b) = (pair.accounts(&pair.a), pair.accounts(&pair.b));
    for login in [&calvin, &susie] {
        a.account(&ctx, login).await.unwrap();
    }
    until(|| shared(&a).stored == 2).await;
    happen(&pair);
    for login in [&calvin, &susie] {
        let account = b.account(&ctx, login).await.unwrap().found().unwrap();
        assert_eq!(account.principal().login(), login, "{what}");
    }
    assert_eq!((pair.counted.asked(), shared(&b).hits), (4, 0), "{what}");
    assert!(counted(shared(&b)) >= 2, "{what}: {:?}", shared(&b));
}

#[tokio::test]
async fn what_is_void_changed_cut_off_swapped_or_of_another_life_is_never_an_answer() {
    for lanes in [1, 3] {
        check_missed("generations are lost", lanes, |pair| pair.tier.lose_generations(), |s| s.voided).await;
        check_missed("all is lost", lanes, |pair| pair.tier.lose_everything(), |s| s.misses).await;
        check_missed("another life", lanes, |pair| pair.tier.reincarnate(), |s| s.voided).await;
        let cut = |pair: &Pair| pair.tier.tamper(|bytes| bytes.truncate(bytes.len() / 2));
        check_missed("cut off", lanes, cut, |s| s.forged).await;
        check_missed("empty", lanes, |pair| pair.tier.tamper(Vec::clear), |s| s.forged).await;
        let flip = |pair: &Pair| pair.tier.tamper(|bytes| *bytes.last_mut().unwrap() ^= 1);
        check_missed("changed", lanes, flip, |s| s.forged).await;
        let version = |pair: &Pair| pair.tier.tamper(|bytes| bytes[0] = 0x7f);
        check_missed("another version", lanes, version, |s| s.foreign).await;
        let junk = |pair: &Pair| pair.tier.tamper(|bytes| *bytes = vec![1; 1 << 20]);
        check_missed("a megabyte of junk", lanes, junk, |s| s.foreign + s.forged + s.voided).await;
        check_missed("an hour later there", lanes, |pair| pair.tier.shift(seconds(3600)), |s| s.misses).await;
    }
    let swap = |pair: &Pair| {
        let entries = pair.tier.entries();
        let swapped: Vec<_> =
            [(entries[0].0, entries[1].1.clone()), (entries[1].0, entries[0].1.clone())].into();
        pair.tier.replay(&swapped);
    };
    check_missed("swapped", 1, swap, |s| s.forged + s.voided).await;
}

#[tokio::test]
async fn an_entry_from_before_an_invalidation_is_void_when_it_comes_back() {
    let pair = Pair::new();
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    let (a, b) = (pair.accounts(&pair.a), pair.accounts(&pair.b));
    a.account(&ctx, &calvin).await.unwrap();
    until(|| shared(&a).stored == 1).await;
    let old = pair.tier.entries();
    pair.store.set_hash("calvin", Some(hash("plain:new")));
    assert_eq!(pair.a.invalidate(&Subject::Login(&calvin)).await, Reached::Everything);
    pair.tier.replay(&old);
    let account = b.account(&ctx, &calvin).await.unwrap().found().unwrap();
    assert_eq!((account.hash(), shared(&b).voided), (Some(&hash("plain:new")), 1));
}

#[tokio::test]
async fn others_under_another_key_prefix_or_seal_share_nothing() {
    let secret = b"a secret of at least thirty-two bytes".to_vec();
    let make = |prefix: &str, secret: Vec<u8>| CacheKeys::new(prefix, [("one".to_owned(), secret)]).unwrap();
    let others = [
        (make("test.", b"another secret of thirty-two bytes..".to_vec()), SealKind::default()),
        (make("other.", secret.clone()), SealKind::default()),
        (make("test.", secret), SealKind::Off),
    ];
    for (other, seal) in others {
        let pair = Pair::new();
        let (ctx, calvin) = (Ctx::new(), login("calvin"));
        let a = pair.accounts(&pair.a);
        a.account(&ctx, &calvin).await.unwrap();
        until(|| shared(&a).stored == 1).await;
        let settings = Settings::new(no_table());
        let stranger = Node::with(&pair.tier, None, pair.time(), &settings, &other, seal);
        let stranger = pair.accounts(&stranger);
        stranger.account(&ctx, &calvin).await.unwrap();
        assert_eq!((shared(&stranger).hits, pair.counted.asked()), (0, 2));
    }
}

#[tokio::test]
async fn a_cache_that_fails_is_a_miss_and_is_left_alone_until_it_is_back() {
    let pair = Pair::new();
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    let a = pair.groups(&pair.a);
    pair.tier.fail(true);
    for _ in 0..100 {
        assert!(a.groups_of(&ctx, &who).await.unwrap().found().is_some());
    }
    let stats = shared(&a);
    assert_eq!((stats.errors, stats.skipped >= 97, pair.counted.asked()), (3, true, 100));
    assert!(pair.a.shared.lanes()[0].left_alone.is_some());
    // One question tries it after a while, and finds it as it was.
    pair.clock.advance(Duration::from_millis(250));
    for _ in 0..10 {
        a.groups_of(&ctx, &who).await.unwrap();
    }
    assert_eq!(shared(&a).errors, 4);
    pair.tier.fail(false);
    pair.clock.advance(seconds(2));
    for _ in 0..10 {
        a.groups_of(&ctx, &who).await.unwrap();
        let stored = shared(&a).stored;
        until(|| shared(&a).stored > 0 || stored > 0).await;
    }
    assert_eq!((shared(&a).hits, pair.counted.asked()), (9, 111));
    assert!(pair.a.shared.lanes()[0].left_alone.is_none());
}

#[tokio::test]
async fn a_cache_that_takes_no_writes_still_answers() {
    let pair = Pair::new();
    let (ctx, calvin, susie) = (Ctx::new(), principal("calvin"), principal("susie"));
    let a = pair.groups(&pair.a);
    a.groups_of(&ctx, &calvin).await.unwrap();
    until(|| shared(&a).stored == 1).await;
    pair.tier.refuse_writes(true);
    for _ in 0..10 {
        a.groups_of(&ctx, &susie).await.unwrap();
        a.groups_of(&ctx, &calvin).await.unwrap();
    }
    until(|| shared(&a).store_errors == 10).await;
    assert_eq!((shared(&a).hits, pair.counted.asked()), (10, 11));
}

#[tokio::test]
async fn a_token_found_in_the_other_process_ends_with_its_person() {
    for (table, bus) in [(no_table(), None), (ttl_table(), Some(MemoryBus::new()))] {
        let clock = ManualClock::new();
        clock.advance(seconds(3600));
        let time = || Arc::clone(&clock) as Arc<dyn Clock>;
        let tier = Arc::new(MemoryTier::new(time(), 1));
        let settings = Settings::new(table);
        let node = || Node::new(&tier, bus.as_ref(), time(), &settings);
        let (a, b) = (node(), node());
        let (first, second) = (a.tokens(time()), b.tokens(time()));
        let (ctx, id) = (Ctx::new(), auth_core::TokenId::new([7; 32]));
        let state = Arc::new(auth_core::TokenState {
            principal: principal("calvin"),
            scopes: auth_core::GroupSet::empty(),
            expires_at: clock.wall() + seconds(3600),
            claims: None,
        });
        let validate = async |node: &Node, tokens: &auth_cache::TokenMemory| {
            assert!(tokens.get(&ctx, &id).await.unwrap().found().is_none());
            let watch = node.fence.watch(clock.now());
            tokens.put(&ctx, &id, &state, seconds(600), watch).await.unwrap();
        };
        validate(&a, &first).await;
        assert_eq!(second.get(&ctx, &id).await.unwrap().found(), Some(Arc::clone(&state)));
        assert_eq!(a.invalidate(&Subject::Login(state.principal.login())).await, Reached::Everything);
        validate(&b, &second).await;
        assert_eq!(first.get(&ctx, &id).await.unwrap().found(), Some(Arc::clone(&state)));
        // One that was being validated meanwhile is not kept: whose it is was not known.
        let other = auth_core::TokenId::new([8; 32]);
        assert!(first.get(&ctx, &other).await.unwrap().found().is_none());
        let watch = a.fence.watch(clock.now());
        assert_eq!(b.invalidate(&Subject::Login(&login("somebody"))).await, Reached::Everything);
        first.put(&ctx, &other, &state, seconds(600), watch).await.unwrap();
        assert!(second.get(&ctx, &other).await.unwrap().found().is_none());
        // It ends with the time that it was given, also where it was found.
        clock.advance(seconds(301));
        assert!(first.get(&ctx, &id).await.unwrap().found().is_none());
    }
}

#[tokio::test]
async fn nothing_that_is_kept_shows_whom_or_what_it_is_about() {
    let pair = Pair::new();
    let (ctx, calvin, who) = (Ctx::new(), login("calvin"), principal("calvin"));
    let secret_room = object("canary-domain", 1);
    pair.store.add_object(&secret_room);
    pair.store.grant("calvin", &secret_room, "canary-mode");
    pair.store.join("calvin", "canary-group");
    pair.store.set_hash("calvin", Some(hash("plain:canary-password")));
    let (accounts, groups, rights) = (pair.accounts(&pair.a), pair.groups(&pair.a), pair.rights(&pair.a));
    accounts.account(&ctx, &calvin).await.unwrap();
    groups.groups_of(&ctx, &who).await.unwrap();
    rights.access(&ctx, &who, &secret_room, Some("canary-mode")).await.unwrap();
    until(|| pair.tier.entries().len() == 3).await;
    for (name, bytes) in pair.tier.entries() {
        let text = format!("{name:?} {}", String::from_utf8_lossy(&bytes));
        for canary in ["calvin", "canary", "app"] {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
    }
    assert!(!format!("{:?} {:?}", keys(), pair.a.shared).contains("secret of at least"));
}
