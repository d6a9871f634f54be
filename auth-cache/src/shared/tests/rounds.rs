//! What was written is read as it was; anything else is not read.

use super::*;
use crate::shared::codec::{Undecodable, VERSION, decode, decode_subject, encode, encode_subject};
use auth_core::ErrorKind;

/// Decodes under every kind of question, and whatever comes out is written as it was read.
pub(crate) fn read_as_anything(bytes: &[u8]) -> usize {
    let source = source("app");
    let keys: Vec<Key> = examples().into_iter().map(|(_, key, _)| key).collect();
    let answers = keys.iter().filter_map(|key| decode(&key.ask(), &source, bytes).ok());
    let answers: Vec<Answer> = answers.inspect(|answer| assert!(encode(answer).is_ok())).collect();
    answers.len() + usize::from(decode_subject(bytes).is_ok())
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn every_answer_is_read_as_it_was_written((key, source, answer) in any_answer()) {
        let bytes = encode(&answer).unwrap();
        prop_assert_eq!(decode(&key.ask(), &source, &bytes), Ok(answer));
    }

    #[test]
    fn every_subject_is_read_as_it_was_written(subject in any_subject()) {
        let bytes = encode_subject(&subject).unwrap();
        prop_assert_eq!(decode_subject(&bytes), Ok(subject));
    }

    #[test]
    fn a_shorter_or_longer_answer_is_none((key, source, answer) in any_answer(), more in any::<u8>()) {
        let mut bytes = encode(&answer).unwrap().to_vec();
        for length in 0..bytes.len() {
            prop_assert!(decode(&key.ask(), &source, &bytes[..length]).is_err());
        }
        bytes.push(more);
        prop_assert_eq!(decode(&key.ask(), &source, &bytes), Err(Undecodable::Malformed));
    }

    #[test]
    fn junk_is_no_answer_and_harms_nobody(mut bytes in prop::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
        if let (Some(first), true) = (bytes.first_mut(), version) {
            *first = 1;
        }
        read_as_anything(&bytes);
    }

    #[test]
    fn a_changed_answer_is_read_in_full_or_not_at_all(
        (key, source, answer) in any_answer(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = encode(&answer).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = decode(&key.ask(), &source, &bytes) {
            prop_assert_eq!(decode(&key.ask(), &source, &encode(&other).unwrap()), Ok(other));
        }
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let source = source("app");
    let all = examples();
    for (name, _, answer) in &all {
        let bytes = encode(answer).unwrap();
        for (other, key, _) in &all {
            let kind = |name: &str| name.split('-').next().map(str::to_owned);
            let decoded = decode(&key.ask(), &source, &bytes);
            if kind(name) == kind(other) {
                assert_eq!(decoded.as_ref(), Ok(answer), "{name} as {other}");
            } else {
                assert_eq!(decoded, Err(Undecodable::Foreign), "{name} as {other}");
            }
        }
    }
}

#[test]
fn an_account_of_somebody_else_is_none() {
    let (_, _, answer) = examples().swap_remove(1);
    let bytes = encode(&answer).unwrap();
    let foreign = |login: &Login, source: &SourceInfo| {
        assert_eq!(
            decode(&Key::Account(login.clone()).ask(), source, &bytes),
            Err(Undecodable::Foreign),
            "{login:?} {source:?}"
        );
    };
    foreign(&login("susie"), &source("app"));
    foreign(&login("calvin"), &source("staff"));
    foreign(&Login::parse(&realm("other"), "calvin").unwrap(), &source("app"));
    let exact = RealmId::new("default", LoginRule::Exact).unwrap();
    foreign(&Login::parse(&exact, "calvin").unwrap(), &source("app"));
}

#[test]
fn another_version_is_not_read() {
    for (name, key, answer) in examples() {
        let mut bytes = encode(&answer).unwrap().to_vec();
        for version in (0..=255).filter(|version| *version != VERSION) {
            bytes[0] = version;
            assert_eq!(decode(&key.ask(), &source("app"), &bytes), Err(Undecodable::Version), "{name}");
        }
    }
    assert_eq!(decode_subject(&[VERSION + 1, 5]), Err(Undecodable::Version));
}

#[test]
fn what_is_too_long_is_neither_written_nor_read() {
    let groups = |length: usize| Answer::Groups(Lookup::Found([&*"x".repeat(length)].into_iter().collect()));
    // Version, kind, found, count of names, and five bytes of a length.
    let most = (1 << 20) - 8;
    let bytes = encode(&groups(most)).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    let asked = Key::Groups(who("calvin", Id::from(1)));
    assert_eq!(decode(&asked.ask(), &source("app"), &bytes), Ok(groups(most)));
    assert_eq!(encode(&groups(most + 1)).unwrap_err().kind(), ErrorKind::Invalid);
    // The same with one byte more, as it would be written.
    let length = u32::try_from(most + 1).unwrap().to_le_bytes();
    let longer = [&[VERSION, 3, 1, 252][..], &length, &vec![b'x'; most + 1]].concat();
    assert_eq!(longer[..4], bytes[..4], "it is written alike");
    assert_eq!(decode(&asked.ask(), &source("app"), &longer), Err(Undecodable::Malformed));
    // As many groups as fit, each of which costs bincode's limit more than it is long.
    let many: Vec<String> = (0..150_000).map(|n| format!("{n:05x}")).collect();
    let many = Answer::Groups(Lookup::Found(many.iter().map(String::as_str).collect()));
    let bytes = encode(&many).unwrap();
    assert_eq!(decode(&asked.ask(), &source("app"), &bytes), Ok(many));
}

#[test]
fn a_length_that_lies_makes_no_room_and_no_answer() {
    let asked = Key::Groups(who("calvin", Id::from(1)));
    // Groups, whose count is given in 2, 4 and 8 bytes, and of which there are none or few.
    for count in [
        &[251, 0xff, 0xff][..],
        &[252, 0xff, 0xff, 0xff, 0x7f],
        &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        for rest in [&[][..], &[1, b'a', 1, b'b'], &[0; 64]] {
            let bytes = [&[VERSION, 3], count, rest].concat();
            assert_eq!(decode(&asked.ask(), &source("app"), &bytes), Err(Undecodable::Malformed));
        }
    }
}

#[test]
fn names_that_are_not_in_order_or_there_twice_are_no_answer() {
    let asked = Key::Groups(who("calvin", Id::from(1)));
    let read = |names: &[u8]| decode(&asked.ask(), &source("app"), &[&[VERSION, 3, 2], names].concat());
    assert!(read(&[1, b'a', 1, b'b']).is_ok());
    for names in [[1, b'b', 1, b'a'], [1, b'a', 1, b'a'], [1, b'a', 1, 0xff]] {
        assert_eq!(read(&names), Err(Undecodable::Malformed), "{names:?}");
    }
}

#[test]
fn a_megabyte_of_junk_is_no_answer() {
    for byte in [0, 1, 3, 0xfb, 0xff] {
        let mut bytes = vec![byte; 1 << 20];
        bytes[0] = VERSION;
        for kind in 0..8 {
            bytes[1] = kind;
            assert_eq!(read_as_anything(&bytes), 0, "{byte} {kind}");
        }
    }
}

#[test]
fn a_time_is_kept_to_the_nanosecond_also_before_1970() {
    let epoch = SystemTime::UNIX_EPOCH;
    let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
    for time in
        [epoch, epoch + nano, epoch - nano, epoch - second, epoch - second - nano, epoch - second + nano]
    {
        let principal = who("calvin", Id::from(1));
        let state = TokenState { principal, scopes: GroupSet::empty(), expires_at: time, claims: None };
        let answer = Answer::Token(Arc::new(state));
        let key = Key::Token(TokenId::new([0; 32]));
        assert_eq!(decode(&key.ask(), &source("app"), &encode(&answer).unwrap()), Ok(answer), "{time:?}");
    }
}
