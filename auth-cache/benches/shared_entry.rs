//! What it costs to name, write, seal, open and read an entry of a shared cache:
//! `cargo bench -p auth-cache --features _lab --bench shared_entry`
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use auth_cache::{Answer, Ask, CacheKeys, Lab, SealKind};
use auth_core::{
    Access, Account, AccountState, Fingerprint, GroupSet, Id, Login, LoginRule, Lookup, ObjectRef, Principal,
    RealmId, SourceInfo, StoredHash, Subject,
};

/// The best of many short rounds, in nanoseconds a call: the others are what else the machine does.
fn best<T>(mut call: impl FnMut() -> T) -> f64 {
    const CALLS: u32 = 2_000;
    let round = |_| {
        let began = Instant::now();
        (0..CALLS).for_each(|_| drop(black_box(call())));
        began.elapsed()
    };
    (0..300).map(round).fold(Duration::MAX, Duration::min).as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let realm = RealmId::new("default", LoginRule::CaseMapped).unwrap();
    let source = SourceInfo::new("app", Fingerprint::new([7; 16]));
    let login = Login::parse(&realm, "calvin").unwrap();
    let who = Principal::found(&source, &login, "calvin", Id::from(4_711)).unwrap();
    let object = ObjectRef::new("doc", [Id::from(123_456)]).unwrap();
    let eight = ["admin", "dev", "everybody", "ops", "staff", "wiki-editors", "wiki-readers", "www"];
    let groups: GroupSet = eight.into_iter().collect();
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$mZ8lCqzS8m4bV0uE2wq5w0p3mCkQp0cYx0mVhVYv1yM";
    let account =
        Account::new(who.clone(), AccountState::default(), Some(StoredHash::new(hash.to_owned(), None)));
    let entries = [
        ("right", Ask::Access(&who, &object, Some("read")), Answer::Access(Access::Allow)),
        ("8 groups", Ask::Groups(&who), Answer::Groups(Lookup::Found(groups))),
        ("account", Ask::Account(&login), Answer::Account(Lookup::Found(account))),
    ];
    let keys = CacheKeys::new("gatepost.", [("a".to_owned(), vec![7; 32])]).unwrap();

    let lab = Lab::new(SealKind::Off, &keys).unwrap();
    println!("names, ns");
    for (what, ask, _) in &entries {
        println!("  {what:<22}{:6.0}", best(|| lab.entry(&source, ask)));
    }
    let generations = [
        ("generation all", Subject::All),
        ("generation groups", Subject::Groups(&realm)),
        ("generation login", Subject::Login(&login)),
        ("generation id", Subject::Id { realm: &realm, source: "app", id: who.id() }),
        ("generation object", Subject::Object { realm: &realm, object: &object }),
    ];
    for (what, subject) in &generations {
        println!("  {what:<22}{:6.0}", best(|| lab.generation(subject)));
    }

    println!(
        "entries, ns{:>17}{:>7}{:>7}{:>7}{:>8}{:>7}{:>7}",
        "bytes", "encode", "seal", "open", "decode", "store", "fetch"
    );
    for (kind, seal) in SealKind::NAMES {
        let lab = Lab::new(seal, &keys).unwrap();
        for (what, ask, answer) in &entries {
            let name = lab.entry(&source, ask);
            let plain = lab.encode(answer).unwrap().as_ref().to_vec();
            let sealed = lab.seal(&name, &plain).unwrap();
            let mut buffer = sealed.clone();
            let encode = best(|| lab.encode(answer).unwrap());
            let sealing = best(|| lab.seal(&name, &plain).unwrap());
            let opening = best(|| {
                buffer.copy_from_slice(&sealed);
                lab.open(&name, &mut buffer).unwrap().len()
            });
            let decode = best(|| lab.decode(ask, &source, &plain).unwrap());
            let size = sealed.len();
            let (store, fetch) = (encode + sealing, opening + decode);
            let what = format!("{kind} {what}");
            println!(
                "  {what:<28}{size:>4}{encode:>7.0}{sealing:>7.0}{opening:>7.0}{decode:>8.0}{store:>7.0}{fetch:>7.0}"
            );
        }
    }
}
