//! Whatever somebody puts into a shared cache: it is not opened, and what is read is an answer as we write it.
#![no_main]

use std::sync::LazyLock;

use auth_cache::{Ask, CacheKeys, Lab, SealKind};
use auth_core::{
    Fingerprint, Id, Login, LoginRule, ObjectRef, Principal, RealmId, SourceInfo, TokenId, WireName,
};
use libfuzzer_sys::fuzz_target;

struct World {
    labs: Vec<(SealKind, Lab)>,
    source: SourceInfo,
    who: Principal,
    object: ObjectRef,
    token: TokenId,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys =
        CacheKeys::new("gatepost.", [("a".to_owned(), vec![1; 32]), ("b".to_owned(), vec![2; 32])]).unwrap();
    let labs = SealKind::NAMES.map(|(_, kind)| (kind, Lab::new(kind, &keys).unwrap()));
    let realm = RealmId::new("default", LoginRule::CaseMapped).unwrap();
    let login = Login::parse(&realm, "calvin").unwrap();
    let source = SourceInfo::new("app", Fingerprint::new([3; 16]));
    let who = Principal::found(&source, &login, "Calvin", Id::from(42)).unwrap();
    let object = ObjectRef::new("doc", [Id::from(7)]).unwrap();
    World { labs: labs.into(), source, who, object, token: TokenId::new([5; 32]) }
});

/// What may be read of bytes is written, and read again, as the same.
fn read(lab: &Lab, world: &World, bytes: &[u8]) {
    let asks = [
        Ask::Account(world.who.login()),
        Ask::Groups(&world.who),
        Ask::Access(&world.who, &world.object, Some("read")),
        Ask::Token(&world.token),
    ];
    let mut kinds = 0;
    for ask in &asks {
        if let Some(answer) = lab.decode(ask, &world.source, bytes) {
            kinds += 1;
            let again = lab.encode(&answer).unwrap();
            assert_eq!(lab.decode(ask, &world.source, again.as_ref()), Some(answer));
        }
    }
    assert!(kinds <= 1, "an answer is to one kind of question");
    if let Some(subject) = lab.decode_subject(bytes) {
        let again = lab.encode_subject(&subject).unwrap();
        assert_eq!(lab.decode_subject(&again), Some(subject));
    }
}

fuzz_target!(|data: &[u8]| {
    let world = &*WORLD;
    let name = WireName::new([9; 16]);
    for (kind, lab) in &world.labs {
        let sealed = *kind != SealKind::Off;
        // As it comes; behind a beginning that is right; and sealed, but with one bit changed.
        let (entry, message) = (lab.seal(&name, data).unwrap(), lab.seal_message(data).unwrap());
        for start in [&[][..], &entry[..5], &entry[..33], &message[..5]] {
            let bytes = [start, data].concat();
            assert!(lab.open(&name, &mut bytes.clone()).is_none() || !sealed);
            assert!(lab.open_message(&mut bytes.clone()).is_none() || !sealed);
        }
        let chosen =
            data.iter().fold(data.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        for (bytes, is_entry) in [(entry, true), (message, false)] {
            let open = |mut bytes: Vec<u8>| {
                let opened =
                    if is_entry { lab.open(&name, &mut bytes) } else { lab.open_message(&mut bytes) };
                opened.map(<[u8]>::to_vec)
            };
            let mut changed = bytes.clone();
            let at = chosen % changed.len();
            changed[at] ^= 1 << (chosen / changed.len() % 8);
            assert!(open(changed).is_none() || !sealed);
            assert_eq!(open(bytes).as_deref(), Some(data));
        }
    }
    if let Some((_, lab)) = world.labs.first() {
        read(lab, world, data);
        // Most of what a fuzzer makes is of another version.
        read(lab, world, &[&[1], data].concat());
    }
});
