//! The fence: what an invalidation voids, what it leaves alone, and no order of events that it misses.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use auth_core::{Fence, Id, Login, LoginRule, Moment, ObjectRef, Principal, RealmId, Stamp, Subject};
use auth_testkit::{info, login, object, principal_at, realm, realm_with};
use proptest::prelude::*;

/// The stamps of every question about a person and an object.
fn stamps(fence: &Fence, who: &Principal, object: &ObjectRef) -> [Stamp; 4] {
    let login = fence.login(who.login());
    [login, fence.plus_id(login, who), fence.groups(who), fence.access(who, object)]
}

/// The people, objects and realms of one trial.
struct Cast {
    home: RealmId,
    elsewhere: RealmId,
    calvin: Login,
    susie: Login,
    // Calvin's login, in the other realm.
    there: Login,
    one: Id,
    one_as_text: Id,
    two: Id,
    doc: ObjectRef,
    other_doc: ObjectRef,
    page: ObjectRef,
}

impl Cast {
    fn new(trial: usize) -> Self {
        let home = realm_with(&format!("home{trial}"), LoginRule::CaseMapped);
        let elsewhere = realm_with(&format!("elsewhere{trial}"), LoginRule::CaseMapped);
        Self {
            calvin: Login::parse(&home, "calvin").unwrap(),
            susie: Login::parse(&home, "susie").unwrap(),
            there: Login::parse(&elsewhere, "calvin").unwrap(),
            one: Id::from(1),
            one_as_text: Id::text("1"),
            two: Id::from(2),
            doc: object("doc", 1),
            other_doc: object("doc", 2),
            page: object("page", 1),
            home,
            elsewhere,
        }
    }

    fn person(&self, source: &str, login: &str, id: i64) -> Principal {
        let login = Login::parse(&self.home, login).unwrap();
        Principal::found(&info(source), &login, login.as_str(), Id::from(id)).unwrap()
    }
}

/// What an invalidation moves: of login, account, groups, rights.
///
/// Stripes are chosen by a key of the process and the names, and two subjects may meet on one, about once in
/// 16,000 times: what must move is certain, what must stay stays in two trials of three.
#[track_caller]
fn check(subject: impl Fn(&Cast) -> Subject<'_>, moved: [bool; 4]) {
    let mut stayed = [0; 4];
    for trial in 0..3 {
        let (fence, cast) = (Fence::new(), Cast::new(trial));
        let who = cast.person("app", "calvin", 1);
        let before = stamps(&fence, &who, &cast.doc);
        assert_eq!(stamps(&fence, &who, &cast.doc), before, "reading moves nothing");
        fence.invalidate(&subject(&cast));
        let after = stamps(&fence, &who, &cast.doc);
        for (kind, stayed) in stayed.iter_mut().enumerate() {
            *stayed += usize::from(before[kind] == after[kind]);
        }
    }
    for (stayed, moved) in stayed.into_iter().zip(moved) {
        assert!(
            if moved { stayed == 0 } else { stayed >= 2 },
            "{:?} moves {moved:?}",
            subject(&Cast::new(0))
        );
    }
}

/// Checks that a subject shares no answer with calvin of `app`.
#[track_caller]
fn check_apart(subject: impl Fn(&Cast) -> Subject<'_>) {
    check(subject, [false; 4]);
}

#[test]
fn an_invalidation_voids_every_kind_of_answer_about_its_subject() {
    check(|cast| Subject::Login(&cast.calvin), [true; 4]);
    let id = [false, true, true, true];
    check(|cast| Subject::Id { realm: &cast.home, source: "app", id: &cast.one }, id);
    // However the id is typed: who names it means it.
    check(|cast| Subject::Id { realm: &cast.home, source: "app", id: &cast.one_as_text }, id);
    check(|cast| Subject::Groups(&cast.home), [false, false, true, true]);
    check(|cast| Subject::Object { realm: &cast.home, object: &cast.doc }, [false, false, false, true]);
    check(|cast| Subject::Realm(&cast.home), [true; 4]);
    check(|_| Subject::All, [true; 4]);
}

#[test]
fn an_invalidation_leaves_its_neighbors_alone() {
    check_apart(|cast| Subject::Login(&cast.susie));
    check_apart(|cast| Subject::Login(&cast.there));
    check_apart(|cast| Subject::Id { realm: &cast.home, source: "app", id: &cast.two });
    check_apart(|cast| Subject::Id { realm: &cast.home, source: "staff", id: &cast.one });
    check_apart(|cast| Subject::Id { realm: &cast.elsewhere, source: "app", id: &cast.one });
    check_apart(|cast| Subject::Object { realm: &cast.home, object: &cast.other_doc });
    check_apart(|cast| Subject::Object { realm: &cast.home, object: &cast.page });
    check_apart(|cast| Subject::Object { realm: &cast.elsewhere, object: &cast.doc });
    check_apart(|cast| Subject::Groups(&cast.elsewhere));
    check_apart(|cast| Subject::Realm(&cast.elsewhere));
}

#[test]
fn fewer_than_one_in_a_thousand_others_lose_their_answers() {
    let few = |trial: usize| {
        let (fence, cast) = (Fence::new(), Cast::new(trial));
        let others: Vec<_> = (2..5_002).map(|id| cast.person("app", &format!("user{id}"), id)).collect();
        let all = || others.iter().map(|who| stamps(&fence, who, &cast.doc)).collect::<Vec<_>>();
        let before = all();
        fence.invalidate(&Subject::Login(&cast.calvin));
        let lost = before.iter().zip(all()).filter(|(before, after)| **before != *after).count();
        lost * 1_000 < others.len()
    };
    // A subject that meets the realm's own stripe costs everybody a miss, once in 20,000 trials.
    assert!((0..3).filter(|trial| few(*trial)).count() >= 2);
}

fn names() -> impl Strategy<Value = String> {
    "[a-z0-9.-]{1,12}"
}

fn ids() -> impl Strategy<Value = Id> {
    prop_oneof![
        any::<i64>().prop_map(Id::from),
        names().prop_map(|name| Id::text(&name)),
        any::<u128>().prop_map(Id::uuid)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_about_a_subject_outlives_its_invalidation(
        (realm_name, login_name, source, domain) in (names(), names(), names(), names()),
        (id, part) in (ids(), ids()),
        noise in prop::collection::vec(names(), 0..40),
    ) {
        let realm = RealmId::new(&realm_name, LoginRule::Exact).unwrap();
        let login = Login::parse(&realm, &login_name).unwrap();
        let who = Principal::found(&info(&source), &login, &login_name, id.clone()).unwrap();
        let object = ObjectRef::new(&domain, [part]).unwrap();
        let fence = Fence::new();
        let subjects = [
            (Subject::Login(&login), 0),
            (Subject::Id { realm: &realm, source: &source, id: &id }, 1),
            (Subject::Groups(&realm), 2),
            (Subject::Object { realm: &realm, object: &object }, 3),
            (Subject::Realm(&realm), 0),
            (Subject::All, 0),
        ];
        // Stamps that were kept at any time before must all be void, whatever else happened.
        let mut kept = Vec::new();
        for (subject, first_moved) in subjects {
            kept.push(stamps(&fence, &who, &object));
            for name in &noise {
                fence.invalidate(&Subject::Login(&Login::parse(&realm, name).unwrap()));
            }
            kept.push(stamps(&fence, &who, &object));
            fence.invalidate(&subject);
            let after = stamps(&fence, &who, &object);
            for old in &kept {
                for kind in first_moved..4 {
                    prop_assert_ne!(old[kind], after[kind], "{:?}", subject);
                }
            }
        }
    }
}

/// Loading an account and changing it, in the smallest steps, as a model of `with_id` and `invalidate`.
mod model {
    /// A step of either side.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(super) enum Step {
        // The loader: watch the count of ids, ask the source, read the id's generation, check the count.
        Watch,
        Load,
        ReadId,
        Check,
        // The writer: commit to the source, count an invalidation by id, bump the id's generation.
        Commit,
        BumpCount,
        BumpId,
    }
    use Step::{BumpCount, BumpId, Check, Commit, Load, ReadId, Watch};

    pub(super) const LOADER: [Step; 4] = [Watch, Load, ReadId, Check];
    pub(super) const WRITER: [Step; 3] = [Commit, BumpCount, BumpId];

    #[derive(Default)]
    struct State {
        source: u64,
        count: u64,
        id: u64,
        watched: u64,
        loaded: u64,
        stamp: u64,
        kept: bool,
    }

    /// Reports whether a stale answer would be served after the writer has returned.
    pub(super) fn serves_stale(order: &[Step]) -> bool {
        let mut state = State::default();
        for step in order {
            match step {
                Watch => state.watched = state.count,
                Load => state.loaded = state.source,
                ReadId => state.stamp = state.id,
                Check => state.kept = state.count == state.watched,
                Commit => state.source += 1,
                BumpCount => state.count += 1,
                BumpId => state.id += 1,
            }
        }
        state.kept && state.stamp == state.id && state.loaded != state.source
    }

    /// Every way to interleave two sequences.
    pub(super) fn interleavings<T: Copy>(one: &[T], other: &[T]) -> Vec<Vec<T>> {
        let begin = |first: T, rest: Vec<Vec<T>>| {
            rest.into_iter().map(move |order| std::iter::once(first).chain(order).collect())
        };
        match (one.split_first(), other.split_first()) {
            (None, _) => vec![other.to_vec()],
            (_, None) => vec![one.to_vec()],
            (Some((a, ones)), Some((b, others))) => {
                let mut orders: Vec<Vec<T>> = begin(*a, interleavings(ones, other)).collect();
                orders.extend(begin(*b, interleavings(one, others)));
                orders
            }
        }
    }
}

#[test]
fn no_order_of_steps_lets_a_load_outlive_an_invalidation_by_id() {
    use model::{LOADER, WRITER, interleavings, serves_stale};
    let orders = interleavings(&LOADER, &WRITER);
    assert_eq!(orders.len(), 35);
    for order in &orders {
        assert!(!serves_stale(order), "{order:?}");
    }
    // Two writers, the second of which may overtake the first.
    for order in interleavings(&WRITER, &WRITER).iter().flat_map(|writes| interleavings(&LOADER, writes)) {
        assert!(!serves_stale(&order), "{order:?}");
    }
}

#[test]
fn every_step_of_the_order_is_needed() {
    use model::Step::{BumpCount, BumpId, Check, Commit, Load, ReadId, Watch};
    use model::{LOADER, WRITER, interleavings, serves_stale};
    let stale =
        |loader: &[_], writer: &[_]| interleavings(loader, writer).iter().any(|order| serves_stale(order));
    assert!(!stale(&LOADER, &WRITER));
    assert!(stale(&LOADER, &[Commit, BumpId, BumpCount]), "the id before the count");
    assert!(stale(&LOADER, &[BumpCount, BumpId, Commit]), "invalidate before commit");
    assert!(stale(&LOADER, &[Commit, BumpId]), "no count");
    assert!(stale(&[Watch, Load, Check, ReadId], &WRITER), "the check before the id");
    assert!(stale(&[Load, Watch, ReadId, Check], &WRITER), "the watch after the load");
}

/// A step as the API allows it: `with_id` reads and checks, `invalidate` counts and bumps.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Stamp,
    Load,
    WithId,
    Commit,
    Invalidate,
}

/// Plays calls on a real fence; reports whether a stale answer would be served, and whether one was kept.
fn play(order: &[Call]) -> (bool, bool) {
    let (fence, who) = (Fence::new(), principal_at("app", "calvin", Id::from(1)));
    let begin = || (fence.login(who.login()), fence.watch_ids());
    let (mut source, mut loaded, mut begun, mut kept) = (0, 0, begin(), None);
    for call in order {
        match call {
            Call::Stamp => begun = begin(),
            Call::Load => loaded = source,
            Call::WithId => kept = fence.with_id(begun.0, begun.1, &who),
            Call::Commit => source += 1,
            Call::Invalidate => {
                fence.invalidate(&Subject::Id { realm: who.realm(), source: who.source(), id: who.id() });
            }
        }
    }
    let current = fence.plus_id(fence.login(who.login()), &who);
    (kept == Some(current) && loaded != source, kept == Some(current))
}

#[test]
fn the_fence_does_as_its_model_in_every_order_of_calls() {
    use Call::{Commit, Invalidate, Load, Stamp, WithId};
    let orders = model::interleavings(&[Stamp, Load, WithId], &[Commit, Invalidate]);
    assert_eq!(orders.len(), 10);
    for order in orders {
        assert!(!play(&order).0, "{order:?}");
    }
    assert_eq!(play(&[Stamp, Load, WithId]), (false, true), "an undisturbed load is kept");
    assert_eq!(play(&[Commit, Invalidate, Stamp, Load, WithId]), (false, true), "a later load is kept");
    assert_eq!(play(&[Stamp, Load, Commit, WithId]), (true, true), "a change that nobody tells is not seen");
}

#[test]
fn an_invalidation_of_another_id_voids_a_load_that_is_under_way_and_no_kept_answer() {
    let (fence, who) = (Fence::new(), principal_at("app", "calvin", Id::from(1)));
    let (stamp, watch) = (fence.login(who.login()), fence.watch_ids());
    let kept = fence.with_id(stamp, watch, &who);
    assert_eq!(kept, Some(fence.plus_id(stamp, &who)));
    let home = realm();
    // An id whose stripe is not that of calvin's: some of these, at least.
    let others = (2..5).map(Id::from).filter(|id| {
        fence.invalidate(&Subject::Id { realm: &home, source: "app", id });
        kept == Some(fence.plus_id(fence.login(who.login()), &who))
    });
    assert!(others.count() >= 1);
    assert_eq!(fence.with_id(stamp, watch, &who), None, "which id it was is not known");
}

/// Hammers a fence: one thread changes a value and invalidates, one loads and keeps, one reads what is kept.
/// Returns how many kept answers were current.
fn hammer(changes: u64, invalidate: impl Fn(&Fence, &Principal) + Sync) -> u64 {
    let (fence, who) = (Fence::new(), principal_at("app", "calvin", Id::from(1)));
    let (source, told, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let kept: Mutex<Option<(Stamp, u64)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=changes {
                source.store(version, Ordering::SeqCst);
                invalidate(&fence, &who);
                told.store(version, Ordering::SeqCst);
                std::thread::yield_now();
            }
            over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut last = false;
            while !last {
                // Once more after the last change, so that something is kept in the end.
                last = over.load(Ordering::SeqCst);
                let (stamp, watch) = (fence.login(who.login()), fence.watch_ids());
                let value = source.load(Ordering::SeqCst);
                if let Some(stamp) = fence.with_id(stamp, watch, &who) {
                    *kept.lock().unwrap() = Some((stamp, value));
                }
            }
        });
        let mut current = 0;
        loop {
            let last = over.load(Ordering::SeqCst);
            let least = told.load(Ordering::SeqCst);
            let entry = *kept.lock().unwrap();
            let stamp = fence.plus_id(fence.login(who.login()), &who);
            if let Some((_, value)) = entry.filter(|(kept, _)| *kept == stamp) {
                assert!(value >= least, "version {value} is served after {least} was told");
                current += 1;
                if last && value == changes {
                    return current;
                }
            }
        }
    })
}

#[test]
fn threads_find_no_stale_answer_after_an_invalidation() {
    let by_id = |fence: &Fence, who: &Principal| {
        fence.invalidate(&Subject::Id { realm: who.realm(), source: who.source(), id: who.id() });
    };
    assert!(hammer(5_000, by_id) >= 1);
    assert!(hammer(5_000, |fence, who| fence.invalidate(&Subject::Login(who.login()))) >= 1);
    assert!(hammer(5_000, |fence, who| fence.invalidate(&Subject::Realm(who.realm()))) >= 1);
    assert!(hammer(5_000, |fence, _| fence.invalidate(&Subject::All)) >= 1);
}

#[test]
fn subjects_are_told_apart_by_their_parts_and_not_by_their_text() {
    // ("a", "bc") and ("ab", "c") are two subjects.
    let (one, other) = (realm_with("a", LoginRule::Exact), realm_with("ab", LoginRule::Exact));
    let apart = (0..3).filter(|trial| {
        let fence = Fence::new();
        let login = Login::parse(&one, &format!("bc{trial}")).unwrap();
        let id = Id::text(&format!("cd{trial}"));
        let who = Principal::found(&info("b"), &login, login.as_str(), id).unwrap();
        let before = stamps(&fence, &who, &object("doc", 1));
        fence.invalidate(&Subject::Login(&Login::parse(&other, &format!("c{trial}")).unwrap()));
        let id = Id::text(&format!("d{trial}"));
        fence.invalidate(&Subject::Id { realm: &one, source: "bc", id: &id });
        stamps(&fence, &who, &object("doc", 1)) == before
    });
    assert!(apart.count() >= 2);
}

#[test]
fn an_object_is_voided_however_its_id_is_typed() {
    let realm = realm();
    let who = auth_testkit::principal("calvin");
    for (asked, named) in [
        (Id::Int(42), Id::text("42")),
        (Id::text("42"), Id::Int(42)),
        (Id::Int(i64::MIN), Id::text("-9223372036854775808")),
        (Id::uuid(7), Id::text("00000000-0000-0000-0000-000000000007")),
    ] {
        let fence = Fence::new();
        let asked = ObjectRef::new("doc", [asked]).unwrap();
        let named = ObjectRef::new("doc", [named]).unwrap();
        let before = fence.access(&who, &asked);
        fence.invalidate(&Subject::Object { realm: &realm, object: &named });
        assert_ne!(fence.access(&who, &asked), before, "{asked} by {named}");
    }
}

#[test]
fn a_watch_sees_an_invalidation_of_any_kind() {
    let (home, calvin, id, doc) = (realm(), login("calvin"), Id::from(1), object("doc", 1));
    let fence = Fence::new();
    for (so_far, subject) in (0..).zip([
        Subject::Login(&calvin),
        Subject::Id { realm: &home, source: "app", id: &id },
        Subject::Object { realm: &home, object: &doc },
        Subject::Groups(&home),
        Subject::Realm(&home),
        Subject::All,
    ]) {
        assert_eq!(fence.invalidations(), so_far);
        let watch = fence.watch(Moment::ZERO);
        assert!(fence.still(watch), "nothing was invalidated");
        fence.invalidate(&subject);
        assert!(!fence.still(watch), "{subject:?}");
    }
}

#[test]
fn threads_keep_nothing_that_was_found_out_before_an_invalidation() {
    // As `hammer`, but whose value it is shows only when it is there.
    let (fence, who) = (Fence::new(), principal_at("app", "calvin", Id::from(1)));
    let (source, told, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=5_000 {
                source.store(version, Ordering::SeqCst);
                fence.invalidate(&Subject::Login(who.login()));
                told.store(version, Ordering::SeqCst);
                std::thread::yield_now();
            }
            over.store(true, Ordering::SeqCst);
        });
        let mut kept = 0;
        loop {
            let last = over.load(Ordering::SeqCst);
            let watch = fence.watch(Moment::ZERO);
            let value = source.load(Ordering::SeqCst);
            let stamp = fence.login(who.login());
            if fence.still(watch) {
                let least = told.load(Ordering::SeqCst);
                if fence.login(who.login()) == stamp {
                    assert!(value >= least, "version {value} would be served after {least} was told");
                    kept += 1;
                }
            }
            if last {
                break;
            }
        }
        assert!(kept >= 1);
    });
}
