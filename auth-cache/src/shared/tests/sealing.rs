//! What was not sealed here, under this name, exactly so, is not opened.

use super::*;
use crate::Ask;
use crate::shared::codec::{decode, encode};
use crate::shared::keys::Names;
use crate::shared::seal::{Broken, Sealer};
use auth_core::WireName;

const SEALED: [SealKind; 2] = [SealKind::Aes256GcmSiv, SealKind::XChaCha20Poly1305];
const ALL: [SealKind; 3] = [SealKind::Aes256GcmSiv, SealKind::XChaCha20Poly1305, SealKind::Off];

// Version, key id, stamp, loaded, life.
const HEAD: usize = 33;

fn sealer(kind: SealKind) -> Sealer {
    Sealer::new(kind, &keys()).unwrap()
}

fn name(byte: u8) -> WireName {
    WireName::new([byte; 16])
}

fn opened(sealer: &Sealer, name: &WireName, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
    sealer.open(name, &mut bytes.to_vec()).map(<[u8]>::to_vec)
}

#[test]
fn what_was_sealed_is_opened_with_its_head() {
    for kind in ALL {
        let sealer = sealer(kind);
        for length in [0, 1, 15, 16, 17, 60, 150, 600, 100_000] {
            let plain = vec![7; length];
            let bytes = sealer.seal(&name(1), &head(), &plain).unwrap();
            assert_eq!(sealer.head(&bytes), Ok(head()), "{kind:?} {length}");
            assert_eq!(opened(&sealer, &name(1), &bytes), Ok(plain), "{kind:?} {length}");
        }
    }
}

#[test]
fn a_head_is_kept_in_whole_milliseconds_and_never_made_longer() {
    let sealer = sealer(SealKind::default());
    for (life, kept) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_micros(1_999), Duration::from_millis(1)),
        (Duration::from_millis(u64::from(u32::MAX)), Duration::from_millis(u64::from(u32::MAX))),
        (Duration::MAX, Duration::from_millis(u64::from(u32::MAX))),
    ] {
        let loaded = TierTime::from_millis(u64::MAX);
        let bytes = sealer.seal(&name(1), &Head { life, loaded, ..head() }, b"").unwrap();
        assert_eq!(sealer.head(&bytes), Ok(Head { life: kept, loaded, ..head() }));
    }
}

#[test]
fn one_value_is_never_sealed_alike_twice() {
    for kind in SEALED {
        let seal = || sealer(kind).seal(&name(1), &head(), b"plain").unwrap();
        let (one, other) = (seal(), seal());
        assert_ne!(one[HEAD..], other[HEAD..], "{kind:?}");
        let say = || sealer(kind).seal_message(b"plain").unwrap();
        assert_ne!(say(), say(), "{kind:?}");
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn every_bit_of_an_entry_counts(plain in prop::collection::vec(any::<u8>(), 0..80), kind in 0..2_usize) {
        let sealer = sealer(SEALED[kind]);
        let bytes = sealer.seal(&name(1), &head(), &plain).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let broken = match at {
                    0 => Broken::Version,
                    1..5 => Broken::UnknownKey,
                    _ => Broken::Forged,
                };
                prop_assert_eq!(opened(&sealer, &name(1), &other), Err(broken), "byte {} bit {}", at, bit);
            }
        }
    }

    #[test]
    fn no_part_of_an_entry_is_one(plain in prop::collection::vec(any::<u8>(), 0..80), kind in 0..2_usize) {
        let sealer = sealer(SEALED[kind]);
        let bytes = sealer.seal(&name(1), &head(), &plain).unwrap();
        for length in 0..bytes.len() {
            let part = &bytes[..length];
            let broken = if length < bytes.len() - plain.len() { Broken::Truncated } else { Broken::Forged };
            prop_assert_eq!(opened(&sealer, &name(1), part), Err(broken), "{}", length);
            prop_assert!(opened(&sealer, &name(1), &bytes[length + 1..]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert_eq!(opened(&sealer, &name(1), &longer), Err(Broken::Forged));
    }

    #[test]
    fn junk_is_never_opened(bytes in prop::collection::vec(any::<u8>(), 0..300), like in 0..3_usize) {
        for kind in SEALED {
            let sealer = sealer(kind);
            let mut bytes = bytes.clone();
            // With a beginning that is right.
            let real = [sealer.seal(&name(1), &head(), b"").unwrap(), sealer.seal_message(b"").unwrap()];
            if let Some(real) = real.get(like) {
                let known = real.len().min(bytes.len()).min(5);
                bytes[..known].copy_from_slice(&real[..known]);
            }
            prop_assert!(opened(&sealer, &name(1), &bytes).is_err());
            prop_assert!(sealer.open_message(&mut bytes.clone()).is_err());
            let _ = sealer.head(&bytes);
        }
    }

    #[test]
    fn a_sealed_answer_is_read_as_it_was((key, source, answer) in any_answer(), kind in 0..3_usize) {
        let (sealer, names) = (sealer(ALL[kind]), Names::new(&keys()));
        let name = names.entry(&source, &key.ask());
        let mut bytes = sealer.seal(&name, &head(), &encode(&answer).unwrap()).unwrap();
        let plain = sealer.open(&name, &mut bytes).unwrap();
        prop_assert_eq!(decode(&key.ask(), &source, plain), Ok(answer));
    }
}

#[test]
fn two_entries_that_change_places_are_forged() {
    for kind in SEALED {
        let sealer = sealer(kind);
        let (one, other) = (
            sealer.seal(&name(1), &head(), b"calvin").unwrap(),
            sealer.seal(&name(2), &head(), b"susie").unwrap(),
        );
        assert_eq!(opened(&sealer, &name(1), &other), Err(Broken::Forged), "{kind:?}");
        assert_eq!(opened(&sealer, &name(2), &one), Err(Broken::Forged), "{kind:?}");
        assert_eq!(opened(&sealer, &name(1), &one), Ok(b"calvin".to_vec()), "{kind:?}");
    }
}

#[test]
fn the_head_of_another_value_of_the_same_name_is_forged() {
    for kind in SEALED {
        let sealer = sealer(kind);
        let old = sealer.seal(&name(1), &head(), b"old").unwrap();
        let newer = Head {
            stamp: [10; 16],
            loaded: TierTime::from_millis(head().loaded.as_millis() + 1),
            life: head().life * 2,
        };
        let new = sealer.seal(&name(1), &newer, b"new").unwrap();
        // Stamp, time and life of the new one, alone and together, before what was sealed with the old one, and back.
        for part in [5..21, 21..29, 29..33, 5..33] {
            for (mut to, from) in [(old.clone(), &new), (new.clone(), &old)] {
                to[part.clone()].copy_from_slice(&from[part.clone()]);
                assert!(sealer.head(&to).is_ok());
                assert_eq!(opened(&sealer, &name(1), &to), Err(Broken::Forged), "{kind:?} {part:?}");
            }
        }
    }
}

#[test]
fn what_was_sealed_in_another_way_is_not_opened() {
    for kind in ALL {
        for other in ALL.into_iter().filter(|other| *other != kind) {
            let bytes = sealer(kind).seal(&name(1), &head(), &[0; 64]).unwrap();
            let message = sealer(kind).seal_message(&[0; 64]).unwrap();
            let broken = if kind == SealKind::Off || other == SealKind::Off {
                Broken::Version
            } else {
                Broken::Forged
            };
            assert_eq!(opened(&sealer(other), &name(1), &bytes), Err(broken), "{kind:?} as {other:?}");
            assert_eq!(
                sealer(other).open_message(&mut message.clone()),
                Err(broken),
                "{kind:?} as {other:?}"
            );
        }
        let sealer = sealer(kind);
        let mut bytes = sealer.seal(&name(1), &head(), &[0; 64]).unwrap();
        for version in (0..=255).filter(|version| *version != bytes[0]).collect::<Vec<u8>>() {
            bytes[0] = version;
            assert_eq!(sealer.head(&bytes), Err(Broken::Version));
            assert_eq!(opened(&sealer, &name(1), &bytes), Err(Broken::Version));
        }
    }
}

#[test]
fn an_entry_is_no_message_and_a_message_no_entry() {
    for kind in ALL {
        let sealer = sealer(kind);
        let mut entry = sealer.seal(&name(1), &head(), &[0; 64]).unwrap();
        let mut message = sealer.seal_message(&[0; 128]).unwrap();
        assert_eq!(sealer.open_message(&mut entry.clone()), Err(Broken::Version), "{kind:?}");
        assert_eq!(opened(&sealer, &name(1), &message), Err(Broken::Version), "{kind:?}");
        if kind != SealKind::Off {
            // Nor with the first byte of the other.
            std::mem::swap(&mut entry[0], &mut message[0]);
            assert_eq!(sealer.open_message(&mut entry), Err(Broken::Forged), "{kind:?}");
            assert_eq!(opened(&sealer, &name(1), &message), Err(Broken::Forged), "{kind:?}");
        }
    }
}

#[test]
fn every_bit_and_every_part_of_a_message_counts() {
    for kind in SEALED {
        let sealer = sealer(kind);
        let message = sealer.seal_message(b"news").unwrap();
        assert_eq!(sealer.open_message(&mut message.clone()), Ok(&b"news"[..]));
        for at in 0..message.len() {
            assert!(sealer.open_message(&mut message[..at].to_vec()).is_err());
            for bit in 0..8 {
                let mut other = message.clone();
                other[at] ^= 1 << bit;
                assert!(sealer.open_message(&mut other).is_err(), "{kind:?} {at} {bit}");
            }
        }
    }
}

#[test]
fn whoever_has_another_secret_or_another_prefix_opens_nothing() {
    for kind in SEALED {
        let bytes = sealer(kind).seal(&name(1), &head(), b"plain").unwrap();
        let message = sealer(kind).seal_message(b"plain").unwrap();
        let with = |keys: &CacheKeys| {
            let sealer = Sealer::new(kind, keys).unwrap();
            (opened(&sealer, &name(1), &bytes), sealer.open_message(&mut message.clone()).map(<[u8]>::to_vec))
        };
        let both = |broken| (Err(broken), Err(broken));
        assert_eq!(with(&ring("gatepost.", &[("a", 2)])), both(Broken::UnknownKey), "another secret");
        assert_eq!(with(&ring("gatepost.", &[("b", 1)])), both(Broken::UnknownKey), "another id");
        assert_eq!(with(&ring("gatepost.x", &[("a", 1)])), both(Broken::Forged), "another prefix");
        // Another secret that happens to have the same id in values.
        let other = Sealer::new(kind, &ring("gatepost.", &[("b", 2)])).unwrap();
        let mut stolen = other.seal(&name(1), &head(), b"plain").unwrap();
        stolen[1..5].copy_from_slice(&bytes[1..5]);
        assert_eq!(opened(&sealer(kind), &name(1), &stolen), Err(Broken::Forged));
    }
}

#[test]
fn a_secret_is_changed_without_losing_what_was_sealed() {
    for kind in ALL {
        let of = |keys: &[(&str, u8)]| Sealer::new(kind, &ring("gatepost.", keys)).unwrap();
        let (old, new) = (of(&[("old", 1)]), of(&[("new", 2)]));
        let (both, turned) = (of(&[("old", 1), ("new", 2)]), of(&[("new", 2), ("old", 1)]));
        let seal = |sealer: &Sealer| {
            (sealer.seal(&name(1), &head(), b"plain").unwrap(), sealer.seal_message(b"news").unwrap())
        };
        let check = |by: &Sealer, (entry, message): &(Vec<u8>, Vec<u8>), readable: bool| {
            let (plain, news) = if readable {
                (Ok(b"plain".to_vec()), Ok(b"news".to_vec()))
            } else {
                (Err(Broken::UnknownKey), Err(Broken::UnknownKey))
            };
            assert_eq!(opened(by, &name(1), entry), plain, "{kind:?}");
            assert_eq!(by.head(entry).is_ok(), readable);
            assert_eq!(by.open_message(&mut message.clone()).map(<[u8]>::to_vec), news, "{kind:?}");
        };
        let (from_both, from_turned) = (seal(&both), seal(&turned));
        for by in [&old, &both, &turned] {
            check(by, &from_both, true);
        }
        for by in [&new, &both, &turned] {
            check(by, &from_turned, true);
        }
        check(&new, &from_both, false);
        check(&old, &from_turned, false);
    }
}

#[test]
fn a_megabyte_of_junk_is_broken() {
    for kind in ALL {
        let sealer = sealer(kind);
        let real = sealer.seal(&name(1), &head(), b"").unwrap();
        for byte in [0, 1, 0x7f, 0xff] {
            let mut junk = vec![byte; 1 << 20];
            assert!(
                opened(&sealer, &name(1), &junk).is_err() && sealer.open_message(&mut junk.clone()).is_err()
            );
            junk[..5].copy_from_slice(&real[..5]);
            if kind != SealKind::Off {
                assert_eq!(opened(&sealer, &name(1), &junk), Err(Broken::Forged), "{kind:?} {byte}");
            }
        }
    }
}

#[test]
fn nothing_can_be_read_of_what_was_sealed_or_named() {
    let (names, canary) = (Names::new(&keys()), who(CANARY, Id::text(CANARY)));
    let contains =
        |bytes: &[u8]| bytes.windows(6).any(|part| CANARY.as_bytes().windows(6).any(|w| w == part));
    let groups: GroupSet = [CANARY].into_iter().collect();
    let hash = StoredHash::new(CANARY.into(), Some(CANARY));
    let account = Account::new(canary.clone(), AccountState::default(), Some(hash));
    let object = ObjectRef::new(CANARY, [Id::text(CANARY)]).unwrap();
    let asked: [(Ask<'_>, Answer); 3] = [
        (Ask::Account(canary.login()), Answer::Account(Lookup::Found(account))),
        (Ask::Groups(&canary), Answer::Groups(Lookup::Found(groups))),
        (Ask::Access(&canary, &object, Some(CANARY)), Answer::Access(Access::Allow)),
    ];
    for (ask, answer) in &asked {
        let name = names.entry(&source(CANARY), ask);
        let plain = encode(answer).unwrap();
        assert!(contains(&plain) || matches!(answer, Answer::Access(_)), "the search finds it where it is");
        for kind in SEALED {
            let sealed = sealer(kind).seal(&name, &head(), &plain).unwrap();
            assert!(!contains(&sealed) && !contains(name.as_bytes()), "{kind:?} {ask:?}");
            assert!(!contains(&sealer(kind).seal_message(&plain).unwrap()), "{kind:?}");
        }
    }
    assert_eq!(
        format!("{:?} {:?}", sealer(SealKind::default()), sealer(SealKind::Off)),
        "Sealer Sealer(off)"
    );
}

#[test]
fn both_seals_are_the_standard_ones() {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    let ring = keys();
    let key = ring.iter().next().unwrap();
    let sealer = sealer(SealKind::XChaCha20Poly1305);
    let bytes = sealer.seal(&name(1), &head(), b"plain").unwrap();
    let (start, rest) = bytes.split_at(HEAD);
    let (nonce, sealed) = rest.split_first_chunk::<24>().unwrap();
    let aad = [start, name(1).as_bytes()].concat();
    let other = XChaCha20Poly1305::new((&*key.entries).into());
    let payload = Payload { msg: sealed, aad: &aad };
    assert_eq!(other.decrypt(&XNonce::from(*nonce), payload).unwrap(), b"plain");
    // And of its 40 bytes beside the plain ones nothing is missing.
    assert_eq!(bytes.len(), HEAD + 24 + 5 + 16);
    let siv = Sealer::new(SealKind::Aes256GcmSiv, &ring).unwrap().seal(&name(1), &head(), b"plain").unwrap();
    assert_eq!(siv.len(), HEAD + 12 + 5 + 16);
}

#[test]
fn every_kind_has_its_name_in_configuration() {
    let names: Vec<&str> = SealKind::NAMES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["aes-256-gcm-siv", "xchacha20-poly1305", "off"]);
    for kind in ALL {
        assert_eq!(SealKind::NAMES.iter().filter(|(_, named)| *named == kind).count(), 1);
    }
}
