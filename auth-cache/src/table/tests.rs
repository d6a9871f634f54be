//! Tests over all kinds, and of what each kind promises.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::Answer;

use auth_core::{
    Access, Fence, Fingerprint, GroupSet, Id, Login, LoginRule, Lookup, Moment, Principal, RealmId,
    SourceInfo, Stamp, TokenId,
};
use proptest::prelude::*;

static STAMP: LazyLock<Stamp> = LazyLock::new(|| Fence::new().login(&login("x")));

fn login(text: &str) -> Login {
    Login::parse(&RealmId::new("r", LoginRule::Exact).unwrap(), text).unwrap()
}

fn who(text: &str) -> Principal {
    let source = SourceInfo::new("app", Fingerprint::default());
    Principal::found(&source, &login(text), text, Id::from(1)).unwrap()
}

/// The key of a token, spread as real ones are.
pub(super) fn token(n: u32) -> Key {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Key::Token(TokenId::new(bytes))
}

pub(super) fn entry(nanos: u64) -> Entry {
    Entry::new(Answer::Access(Access::Allow), *STAMP, Moment::from_nanos(nanos))
}

/// An entry of so many bytes more.
fn large(bytes: usize) -> Entry {
    let name = "g".repeat(bytes);
    let groups: GroupSet = [name.as_str()].into_iter().collect();
    Entry { answer: Answer::Groups(Lookup::Found(groups)), ..entry(0) }
}

fn each(check: impl Fn(&'static Kind, TableFactory)) {
    for kind in kinds() {
        if let Some(factory) = kind.factory() {
            check(kind, factory);
        }
    }
}

fn has(table: &dyn Table, n: u32) -> bool {
    table.get(&token(n).ask()).is_some()
}

fn within(table: &dyn Table) -> bool {
    let usage = table.usage();
    let bound = |most: usize| u64::try_from(most).unwrap();
    match table.bound() {
        Some(Bound::Entries(most)) => usage.entries <= bound(most),
        Some(Bound::Bytes(most)) => usage.bytes <= bound(most),
        None => true,
    }
}

#[test]
fn all_names_are_known_once_and_built_in_kinds_make_tables() {
    let names: Vec<_> = kinds().iter().map(|kind| kind.name).collect();
    let known = "none ttl lru lfu fifo rr mru dict redis memcached tiered";
    assert_eq!(names, known.split(' ').collect::<Vec<_>>());
    let built: Vec<_> =
        kinds().iter().filter(|kind| kind.factory().is_some()).map(|kind| kind.name).collect();
    assert_eq!(built, "ttl lru lfu fifo rr mru dict".split(' ').collect::<Vec<_>>());
    each(|kind, factory| {
        for bound in [Bound::Entries(100), Bound::Entries(100_000), Bound::Bytes(1 << 20)] {
            assert_eq!(factory(bound).bound(), kind.bounded.then_some(bound), "{}", kind.name);
        }
        assert_eq!(kind.bounded, kind.name != "dict");
    });
}

#[test]
fn a_table_returns_what_was_last_put() {
    each(|kind, factory| {
        for bound in [Bound::Entries(100), Bound::Entries(10_000), Bound::Bytes(1 << 20)] {
            let (table, name) = (factory(bound), kind.name);
            let (one, two) = (token(1), token(2));
            assert!(table.usage() == Usage::default() && table.get(&one.ask()).is_none(), "{name}");
            table.put(one.clone(), entry(1));
            table.put(two.clone(), entry(2));
            table.put(one.clone(), entry(3));
            assert_eq!(table.get(&one.ask()).unwrap().loaded.as_nanos(), 3, "{name}");
            let bytes = u64::try_from(entry(1).bytes(&one.ask()) + entry(1).bytes(&two.ask())).unwrap();
            assert_eq!(table.usage(), Usage { entries: 2, bytes, evictions: 0 }, "{name}");
            table.remove(&one.ask());
            table.remove(&token(9).ask());
            assert!(table.get(&one.ask()).is_none(), "{name}");
            assert!(table.get(&two.ask()).is_some(), "{name}");
            assert_eq!(table.usage(), Usage { entries: 1, bytes: bytes / 2, evictions: 0 }, "{name}");
            table.clear();
            assert!(table.usage() == Usage::default() && table.get(&two.ask()).is_none(), "{name}");
            table.put(one.clone(), entry(4));
            assert_eq!(table.get(&one.ask()).unwrap().loaded.as_nanos(), 4, "{name}");
        }
    });
}

#[test]
fn a_table_keeps_to_a_number_of_entries_and_counts_what_had_to_go() {
    each(|kind, factory| {
        for most in [0, 1, 2, 3, 31, 100, 1000, 1024, 5000] {
            let (table, name) = (factory(Bound::Entries(most)), kind.name);
            let puts = u32::try_from(3 * most + 10).unwrap();
            for n in 0..puts {
                table.put(token(n), entry(u64::from(n)));
                // TinyLFU judges what is new a little later.
                assert!(name == "lfu" || n % 7 != 0 || within(&*table), "{name} {most}");
                assert!(name == "lfu" || most == 0 || has(&*table, n), "{name} {most}: the newest is kept");
            }
            let usage = table.usage();
            let kept = u64::try_from((0..puts).filter(|n| has(&*table, *n)).count()).unwrap();
            assert_eq!(kept, usage.entries, "{name} {most}");
            let most = u64::try_from(most).unwrap();
            if kind.bounded || most == 0 {
                assert_eq!(usage.entries, most, "{name}: all of the bound is used");
                assert_eq!(
                    usage.evictions,
                    if most == 0 { 0 } else { u64::from(puts) - most },
                    "{name} {most}"
                );
            } else {
                assert_eq!((usage.entries, usage.evictions), (u64::from(puts), 0), "{name}");
            }
        }
    });
}

#[test]
fn a_table_keeps_to_a_number_of_bytes() {
    each(|kind, factory| {
        let one = entry(0).bytes(&token(0).ask());
        for most in [0, 1, one - 1, one, 3 * one + 1, 1000 * one, 10_000 * one] {
            let (table, name) = (factory(Bound::Bytes(most)), kind.name);
            let puts = u32::try_from(2 * most / one + 10).unwrap();
            for n in 0..puts {
                table.put(token(n), if n % 3 == 0 { large(300) } else { entry(0) });
                assert!(name == "lfu" || within(&*table), "{name} {most}");
            }
            let usage = table.usage();
            assert!(within(&*table), "{name} {most}");
            let cost = |n: &u32| table.get(&token(*n).ask()).map_or(0, |entry| entry.bytes(&token(*n).ask()));
            assert_eq!(
                u64::try_from((0..puts).map(|n| cost(&n)).sum::<usize>()).unwrap(),
                usage.bytes,
                "{name}"
            );
            if kind.bounded || most == 0 {
                let least = u64::try_from(if most < 3 * one { 0 } else { most / 2 }).unwrap();
                assert!(usage.bytes >= least, "{name} {most}: {usage:?}");
                assert!(usage.evictions > 0 || most <= one, "{name} {most}: {usage:?}");
            }
        }
    });
}

#[test]
fn an_entry_too_large_for_the_bound_is_not_kept_and_drives_nobody_out() {
    each(|kind, factory| {
        let name = kind.name;
        if !kind.bounded {
            return;
        }
        let table = factory(Bound::Bytes(2000));
        table.put(token(1), entry(0));
        table.put(token(2), entry(0));
        table.put(token(3), large(2000));
        assert!(!has(&*table, 3) && has(&*table, 1) && has(&*table, 2), "{name}");
        assert_eq!((table.usage().entries, table.usage().evictions), (2, 0), "{name}");
        // What it should have replaced is not the last that was put any more.
        table.put(token(1), large(2000));
        assert!(!has(&*table, 1) && has(&*table, 2), "{name}");
        assert_eq!((table.usage().entries, table.usage().evictions), (1, 0), "{name}");
        table.put(token(2), large(500));
        assert!(has(&*table, 2) && within(&*table), "{name}");
        assert!(table.usage().bytes > 500, "{name}");
    });
}

#[test]
fn the_kind_of_a_question_is_part_of_its_key() {
    each(|kind, factory| {
        let table = factory(Bound::Entries(100));
        let calvin = who("calvin");
        table.put(Ask::Account(calvin.login()).to_key(), entry(1));
        assert!(table.get(&Ask::Groups(&calvin)).is_none(), "{}", kind.name);
    });
}

#[test]
fn questions_with_one_hash_are_told_apart() {
    each(|kind, factory| {
        let table = factory(Bound::Entries(100));
        let twin = |n: u8| {
            let mut bytes = [7; 32];
            bytes[31] = n;
            Key::Token(TokenId::new(bytes))
        };
        assert_eq!(twin(0).ask().hash64(), twin(1).ask().hash64());
        for n in 0..200 {
            table.put(twin(n), entry(u64::from(n)));
        }
        for n in 0..200 {
            let got = table.get(&twin(n).ask()).map(|entry| entry.loaded.as_nanos());
            assert!(got.is_none_or(|got| got == u64::from(n)), "{}", kind.name);
        }
        assert!(within(&*table) && table.usage().entries >= 99, "{}", kind.name);
    });
}

#[test]
fn every_kind_of_question_finds_its_answer_again() {
    each(|kind, factory| {
        let table = factory(Bound::Entries(2000));
        let object = auth_core::ObjectRef::new("doc", [Id::from(7)]).unwrap();
        let people: Vec<_> = (0..100).map(|n| who(&format!("u{n}"))).collect();
        let asks = |who| {
            [
                Ask::Account(Principal::login(who)),
                Ask::Groups(who),
                Ask::Access(who, &object, None),
                Ask::Access(who, &object, Some("read")),
                Ask::Access(who, &object, Some("write")),
            ]
        };
        let all = || people.iter().flat_map(asks);
        for (n, ask) in (0..).zip(all()) {
            table.put(ask.to_key(), entry(n));
        }
        let again: Vec<_> = (0..100).map(|n| who(&format!("u{n}"))).collect();
        for (n, ask) in (0..).zip(again.iter().flat_map(asks)) {
            assert_eq!(table.get(&ask).unwrap().loaded.as_nanos(), n, "{} {ask:?}", kind.name);
        }
        for ask in again.iter().flat_map(asks) {
            table.remove(&ask);
        }
        assert_eq!(table.usage(), Usage::default(), "{}", kind.name);
    });
}

#[test]
fn lru_lets_the_least_recently_used_go() {
    let table = LruTable::new(Bound::Entries(2));
    table.put(token(1), entry(0));
    table.put(token(2), entry(0));
    assert!(has(&table, 1));
    table.put(token(3), entry(0));
    assert!(!has(&table, 2) && has(&table, 1) && has(&table, 3));
}

#[test]
fn fifo_lets_the_oldest_go_whatever_is_read() {
    let table = OrderTable::new(Bound::Entries(3), Order::First);
    for n in 1..=3 {
        table.put(token(n), entry(0));
    }
    assert!(has(&table, 1) && has(&table, 1));
    table.put(token(4), entry(0));
    assert!(!has(&table, 1) && has(&table, 2));
    // Putting renews.
    table.put(token(2), entry(0));
    table.put(token(5), entry(0));
    assert!(!has(&table, 3) && has(&table, 2) && has(&table, 4) && has(&table, 5));
}

#[test]
fn mru_lets_the_most_recently_used_go() {
    let table = OrderTable::new(Bound::Entries(3), Order::Last);
    for n in 1..=3 {
        table.put(token(n), entry(0));
    }
    table.put(token(4), entry(0));
    assert!(!has(&table, 3));
    assert!(has(&table, 2) && has(&table, 4) && has(&table, 1));
    table.put(token(5), entry(0));
    assert!(!has(&table, 1) && has(&table, 2) && has(&table, 4) && has(&table, 5));
}

#[test]
fn rr_lets_any_go_and_with_one_seed_the_same() {
    let kept = |seed| {
        let table = OrderTable::with_seed(Bound::Entries(100), Order::Random, seed);
        for n in 0..1000 {
            table.put(token(n), entry(0));
        }
        assert_eq!(table.usage().entries, 100);
        (0..1000).filter(|n| has(&table, *n)).collect::<Vec<_>>()
    };
    assert_eq!(kept(1), kept(1));
    assert_ne!(kept(1), kept(2));
    // A survivor of 1,000 puts is one in e^9; of 300 puts one in twenty.
    let mean = kept(3).iter().map(|n| 999 - n).sum::<u32>() / 100;
    assert!((60..160).contains(&mean), "the mean age is that of an even choice: {mean}");
}

#[test]
fn dict_lets_nobody_go() {
    let table = OrderTable::new(Bound::Entries(1), Order::Nobody);
    for n in 0..10_000 {
        table.put(token(n), entry(0));
    }
    assert!((0..10_000).all(|n| has(&table, n)));
    assert_eq!((table.usage().entries, table.usage().evictions, table.bound()), (10_000, 0, None));
}

#[test]
fn lfu_keeps_what_is_used_often() {
    let table = LfuTable::new(Bound::Entries(1000));
    for n in 0..500 {
        table.put(token(n), entry(0));
    }
    for _ in 0..5 {
        assert!((0..500).all(|n| has(&table, n)));
    }
    for n in 1_000..51_000 {
        table.put(token(n), entry(0));
    }
    let kept = (0..500).filter(|n| has(&table, *n)).count();
    assert!(kept >= 495, "{kept} of 500");
}

#[test]
fn ttl_keeps_what_is_used_through_a_scan() {
    let table = TtlTable::new(Bound::Entries(1000));
    for n in 0..500 {
        table.put(token(n), entry(0));
        assert!(has(&table, n));
    }
    for n in 1_000..51_000 {
        table.put(token(n), entry(0));
    }
    let kept = (0..500).filter(|n| has(&table, *n)).count();
    // When the table is first full, all that wait were used, and one of them has to go.
    assert!(kept >= 499, "{kept} of 500");
}

#[test]
fn ttl_keeps_the_people_at_work_through_a_million_strangers() {
    let table = TtlTable::new(Bound::Entries(10_000));
    let mut hits = 0;
    for n in 0..1000 {
        table.put(token(n), entry(0));
    }
    // A stranger is one of two billion; between a thousand of them one of the thousand people comes.
    for round in 0..1_000_000_u32 {
        table.put(token(1000 + round), entry(0));
        let n = round.wrapping_mul(2_654_435_761) % 1000;
        if has(&table, n) {
            hits += 1;
        } else {
            table.put(token(n), entry(0));
        }
    }
    assert!(hits > 999_000, "{hits} of a million");
    assert!(within(&table));
}

#[test]
fn ttl_takes_back_at_once_what_it_let_go_too_soon() {
    let table = TtlTable::new(Bound::Entries(100));
    for n in 0..200 {
        table.put(token(n), entry(0));
    }
    assert!(!has(&table, 50));
    table.put(token(50), entry(0));
    for n in 1000..1100 {
        table.put(token(n), entry(0));
    }
    assert!(has(&table, 50), "what came back is not in the short queue");
    assert!(!has(&table, 199));
}

#[test]
fn a_large_bound_takes_no_memory_before_it_is_used() {
    // A billion entries would not fit; making the tables must not try.
    each(|_, factory| {
        let table = factory(Bound::Entries(1_000_000_000));
        table.put(token(1), entry(0));
        assert_eq!(table.usage().entries, 1);
    });
}

#[test]
fn threads_leave_the_count_exact_and_the_bound_kept() {
    each(|kind, factory| {
        for bound in [Bound::Entries(500), Bound::Entries(3000), Bound::Bytes(100_000), Bound::Bytes(500_000)]
        {
            let (table, name) = (factory(bound), kind.name);
            std::thread::scope(|scope| {
                for thread in 0..4_u32 {
                    let table = &table;
                    scope.spawn(move || {
                        let mut dice = thread + 1;
                        for step in 0..8_000_u32 {
                            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                            let n = dice >> 19;
                            match dice % 7 {
                                0 => table.remove(&token(n).ask()),
                                1..=3 => drop(table.get(&token(n).ask())),
                                4 => table.put(token(n), large(usize::try_from(n % 900).unwrap())),
                                _ => table.put(token(n), entry(u64::from(n))),
                            }
                            if step % 1024 == 0 && name != "lfu" {
                                assert!(nearly_within(&**table), "{name} {bound:?}: {:?}", table.usage());
                            }
                            if step == 4_000 && thread == 0 {
                                table.clear();
                            }
                        }
                    });
                }
            });
            assert!(within(&*table), "{name} {bound:?}: {:?}", table.usage());
            let (mut entries, mut bytes) = (0, 0);
            for n in 0..1 << 13 {
                if let Some(entry) = table.get(&token(n).ask()) {
                    let answer =
                        matches!(entry.answer, Answer::Groups(_)) || entry.loaded.as_nanos() == u64::from(n);
                    assert!(answer, "{name}: an answer to another question");
                    entries += 1;
                    bytes += u64::try_from(entry.bytes(&token(n).ask())).unwrap();
                }
            }
            let usage = table.usage();
            assert_eq!((usage.entries, usage.bytes), (entries, bytes), "{name} {bound:?}");
            table.clear();
            assert_eq!((table.usage().entries, table.usage().bytes), (0, 0), "{name} {bound:?}");
        }
    });
}

/// Within the bound, or over it by what four threads are about to put: it is counted before it is kept.
fn nearly_within(table: &dyn Table) -> bool {
    let (usage, threads) = (table.usage(), 4);
    let wide = |most: usize| u64::try_from(most).unwrap();
    match table.bound() {
        Some(Bound::Entries(most)) => usage.entries <= wide(most) + threads,
        Some(Bound::Bytes(most)) => usage.bytes <= wide(most) + threads * 1200,
        None => true,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, usize),
    Get(u32),
    Remove(u32),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..40_u32, 0..400_usize).prop_map(|(n, size)| Step::Put(n, size)),
        6 => (0..40_u32).prop_map(Step::Get),
        2 => (0..40_u32).prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 1..200)
}

fn bounds() -> impl Strategy<Value = Bound> {
    prop_oneof![(0..50_usize).prop_map(Bound::Entries), (0..8000_usize).prop_map(Bound::Bytes)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_table_may_forget_but_is_never_wrong(bound in bounds(), steps in steps()) {
        for kind in kinds() {
            let Some(factory) = kind.factory() else { continue };
            let (table, mut model) = (factory(bound), HashMap::new());
            for (at, step) in (0_u64..).zip(&steps) {
                match *step {
                    Step::Put(n, size) => {
                        table.put(token(n), Entry { loaded: Moment::from_nanos(at), ..large(size) });
                        model.insert(n, at);
                    }
                    Step::Get(n) => {
                        let got = table.get(&token(n).ask()).map(|entry| entry.loaded.as_nanos());
                        prop_assert!(got.is_none() || got == model.get(&n).copied(), "{} {n}", kind.name);
                    }
                    Step::Remove(n) => {
                        table.remove(&token(n).ask());
                        model.remove(&n);
                    }
                    Step::Clear => {
                        table.clear();
                        model.clear();
                    }
                }
                prop_assert!(within(&*table), "{} {:?}", kind.name, table.usage());
            }
            let kept: Vec<_> = (0..40).filter_map(|n| Some((n, table.get(&token(n).ask())?))).collect();
            let bytes: usize = kept.iter().map(|(n, entry)| entry.bytes(&token(*n).ask())).sum();
            let usage = table.usage();
            prop_assert_eq!((usage.entries, usage.bytes), (kept.len() as u64, bytes as u64), "{}", kind.name);
            for (n, entry) in kept {
                prop_assert_eq!(Some(entry.loaded.as_nanos()), model.get(&n).copied(), "{}", kind.name);
            }
            let nothing = matches!(bound, Bound::Entries(0) | Bound::Bytes(0));
            prop_assert!(kind.bounded || nothing || usage.entries == model.len() as u64);
        }
    }
}
