//! Nothing that differs has one name, and no name tells what it is of.

use std::collections::HashMap;

use super::*;
use crate::shared::keys::{Names, Of};
use auth_core::{ErrorKind, WireName};

fn names() -> Names {
    Names::new(&keys())
}

/// Everything that an entry's name is of, as text in which nothing can run into another.
fn in_full(source: &SourceInfo, key: &Key) -> String {
    let realm = |realm: &RealmId| format!("{:?} {:?}", realm.name(), realm.rule());
    let who = |who: &Principal| {
        let (login, shown, source) = (who.login().as_str(), who.shown(), who.source());
        format!("{} {login:?} {shown:?} {:?} {source:?}", realm(who.realm()), who.id())
    };
    let asked = match key {
        Key::Account(login) => format!("account {} {:?}", realm(login.realm()), login.as_str()),
        Key::Groups(person) => format!("groups {}", who(person)),
        Key::Access(person, object, mode) => {
            format!("access {} {:?} {:?} {mode:?}", who(person), object.domain(), object.id())
        }
        Key::Token(id) => format!("token {:?}", id.as_bytes()),
    };
    format!("{:?} {:?} {asked}", source.name(), source.fingerprint())
}

fn of_in_full(of: &Of<'_>) -> String {
    match of {
        Of::All | Of::Told => format!("{of:?}"),
        Of::Ids(realm) => format!("ids {:?}", realm.name()),
        Of::Groups(realm) => format!("groups {:?}", realm.name()),
        Of::Login(login) => format!("login {:?} {:?}", login.realm().name(), login.as_str()),
        Of::Id { realm, source, id } => format!("id {:?} {source:?} {:?}", realm.name(), id.to_string()),
        Of::Object { realm, object } => {
            let parts: Vec<String> = object.id().iter().map(Id::to_string).collect();
            format!("object {:?} {:?} {parts:?}", realm.name(), object.domain())
        }
    }
}

/// Few letters, so that parts meet, run into and begin one another.
fn few() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a1]{0,3}", 1 => "[a1\\x00]{0,2}", 1 => any::<String>()]
}

fn few_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        (0..12_i64).prop_map(Id::from),
        few().prop_map(|text| Id::text(&text)),
        (0..2_u128).prop_map(Id::uuid)
    ]
}

fn few_asks() -> impl Strategy<Value = (SourceInfo, Key)> {
    let place = (few(), 0..2_u8, few(), 0..3_usize, few(), few(), any::<bool>());
    let rest = (few_id(), few(), prop::collection::vec(few_id(), 1..3), prop::option::of(few()), 0..4_u8);
    (place, rest).prop_filter_map("possible names", |(place, (id, domain, parts, mode, kind))| {
        let (source, digest, realm, rule, login, issuer, upper) = place;
        let source = SourceInfo::new(source, Fingerprint::new([digest; 16]));
        let issuer =
            if issuer.is_empty() { source.clone() } else { SourceInfo::new(issuer, Fingerprint::default()) };
        let realm = RealmId::new(&realm, LoginRule::NAMES[rule].1).ok()?;
        let login = Login::parse(&realm, &login).ok()?;
        let shown = if upper { login.as_str().to_uppercase() } else { login.as_str().to_owned() };
        let who = Principal::found(&issuer, &login, &shown, id)?;
        let key = match kind {
            0 => Key::Account(login),
            1 => Key::Groups(who),
            2 => Key::Access(who, ObjectRef::new(&domain, parts).ok()?, mode.map(Into::into)),
            _ => Key::Token(TokenId::new([digest; 32])),
        };
        Some((source, key))
    })
}

fn check<K: std::fmt::Debug>(seen: &mut HashMap<WireName, String>, name: WireName, full: &str, of: &K) {
    let before = seen.entry(name).or_insert_with(|| full.to_owned());
    assert_eq!(*before, full, "one name for two: {of:?}");
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn two_questions_have_one_name_only_if_they_are_one(asks in prop::collection::vec(few_asks(), 60)) {
        let (names, mut by_name, mut by_text) = (names(), HashMap::new(), HashMap::new());
        for (source, key) in &asks {
            let (name, full) = (names.entry(source, &key.ask()), in_full(source, key));
            check(&mut by_name, name, &full, key);
            prop_assert_eq!(*by_text.entry(full).or_insert(name), name);
        }
    }

    #[test]
    fn names_of_any_length_of_text_are_names(one in any_answer(), other in any_answer(), long in 0..2_000_usize) {
        let names = names();
        let ((one, at, _), (other, at_other, _)) = (one, other);
        let same = in_full(&at, &one) == in_full(&at_other, &other);
        prop_assert_eq!(names.entry(&at, &one.ask()) == names.entry(&at_other, &other.ask()), same);
        let of = |length: usize| names.entry(&SourceInfo::new("x".repeat(length), at.fingerprint()), &one.ask());
        prop_assert_ne!(of(long), of(long + 1));
    }

    #[test]
    fn a_generation_is_named_by_how_its_parts_are_spelled(asks in prop::collection::vec(few_asks(), 60)) {
        let (names, mut by_name, mut by_text) = (names(), HashMap::new(), HashMap::new());
        for (source, key) in &asks {
            let (login, who, object) = match key {
                Key::Account(login) => (login, None, None),
                Key::Groups(who) => (who.login(), Some(who), None),
                Key::Access(who, object, _) => (who.login(), Some(who), Some(object)),
                Key::Token(_) => continue,
            };
            let realm = login.realm();
            let mut all = vec![Of::All, Of::Told, Of::Ids(realm), Of::Groups(realm), Of::Login(login)];
            all.extend(who.map(|who| Of::Id { realm, source: source.name(), id: who.id() }));
            all.extend(object.map(|object| Of::Object { realm, object }));
            for of in &all {
                let (name, full) = (names.generation(of), of_in_full(of));
                check(&mut by_name, name, &full, of);
                prop_assert_eq!(*by_text.entry(full).or_insert(name), name);
                check(&mut by_name, names.entry(source, &key.ask()), &in_full(source, key), key);
            }
        }
    }
}

#[test]
fn an_invalidation_reaches_an_id_whatever_its_type_and_a_realm_whatever_its_rule() {
    let names = names();
    let (mapped, exact) = (realm("default"), RealmId::new("default", LoginRule::Exact).unwrap());
    let id = |realm, id: &Id| names.generation(&Of::Id { realm, source: "app", id });
    assert_eq!(id(&mapped, &Id::from(42)), id(&exact, &Id::from("42")));
    assert_ne!(id(&mapped, &Id::from(42)), id(&mapped, &Id::from("042")));
    let uuid = Id::uuid(1);
    assert_eq!(id(&mapped, &uuid), id(&mapped, &Id::text(&uuid.to_string())));
    let object = |part: Id| {
        names.generation(&Of::Object { realm: &mapped, object: &ObjectRef::new("doc", [part]).unwrap() })
    };
    assert_eq!(object(Id::from(7)), object(Id::from("7")));
    assert_eq!(names.generation(&Of::Groups(&mapped)), names.generation(&Of::Groups(&exact)));
}

/// Goes through names of one question and of what differs from it in one part.
fn each_but_for_one_part(see: &mut dyn FnMut(WireName, &str)) {
    let names = names();
    let ids = |bits: u128| {
        [Id::from(1), Id::from(256), Id::from(-1), Id::from("1"), Id::from("\u{1}"), Id::uuid(bits)]
    };
    let who = |issuer: &str, realm: &RealmId, shown: &str, id: Id| {
        let login = Login::parse(realm, shown).unwrap();
        Principal::found(&source(issuer), &login, shown, id).unwrap()
    };
    let (mapped, exact) = (realm("default"), RealmId::new("default", LoginRule::Exact).unwrap());
    let mut people = vec![
        who("staff", &mapped, "calvin", Id::from(1)),
        who("app", &mapped, "Calvin", Id::from(1)),
        who("app", &mapped, "susie", Id::from(1)),
        who("app", &realm("other"), "calvin", Id::from(1)),
        who("app", &exact, "calvin", Id::from(1)),
    ];
    people.extend(ids(1).map(|id| who("app", &mapped, "calvin", id)));
    let object = |domain: &str, id: &[Id]| ObjectRef::new(domain, id.iter().cloned()).unwrap();
    let mut objects = vec![object("page", &[Id::from(1)]), object("doc", &[Id::from(1), Id::from(1)])];
    objects.extend(ids(2).into_iter().filter(|id| *id != Id::from("\u{1}")).map(|id| object("doc", &[id])));
    let (calvin, doc) = (&people[5], &objects[2]);
    let mut keys: Vec<Key> = people.iter().map(|who| Key::Groups(who.clone())).collect();
    keys.extend(people.iter().map(|who| Key::Access(who.clone(), doc.clone(), None)));
    keys.extend(
        objects.iter().filter(|object| *object != doc).map(|o| Key::Access(calvin.clone(), o.clone(), None)),
    );
    keys.extend(["", "r", "rw"].map(|mode| Key::Access(calvin.clone(), doc.clone(), Some(mode.into()))));
    let logins = [people[0].login(), people[2].login(), people[3].login(), people[4].login()];
    keys.extend(logins.map(|login| Key::Account(login.clone())));
    keys.extend([0, 1].map(|byte| Key::Token(TokenId::new([byte; 32]))));
    let sources = [source("app"), source("staff"), SourceInfo::new("app", Fingerprint::new([4; 16]))];
    for (source, key) in sources.iter().flat_map(|source| keys.iter().map(move |key| (source, key))) {
        see(names.entry(source, &key.ask()), &in_full(source, key));
    }
}

#[test]
fn what_differs_in_one_part_has_another_name() {
    let (mut seen, mut count) = (HashMap::new(), 0);
    each_but_for_one_part(&mut |name, full| {
        count += 1;
        check(&mut seen, name, full, &"");
    });
    assert_eq!(seen.len(), count, "every one is there once");
    assert!(count > 100, "{count}");
}

#[test]
fn every_part_of_a_long_name_counts() {
    let (names, source, calvin) = (names(), source("app"), who("calvin", Id::from(1)));
    let name = |parts: &[String], mode: &str| {
        let object = ObjectRef::new("doc", parts.iter().map(|part| Id::text(part))).unwrap();
        let entry =
            names.entry(&source, &Key::Access(calvin.clone(), object.clone(), Some(mode.into())).ask());
        [entry, names.generation(&Of::Object { realm: calvin.realm(), object: &object })]
    };
    // Around what is gathered before it is hashed, once and several times.
    for length in (1..255).step_by(7).chain(120..200) {
        let parts = vec!["x".repeat(length); 4];
        let [entry, generation] = name(&parts, "read");
        for at in 0..parts.len() {
            let mut other = parts.clone();
            other[at].replace_range(length - 1.., "y");
            let [other_entry, other_generation] = name(&other, "read");
            assert_ne!(entry, other_entry, "part {at} of {length}");
            assert_ne!(generation, other_generation, "part {at} of {length}");
        }
        assert_ne!(entry, name(&parts, "write")[0], "what follows {length}");
    }
}

/// While processes of two versions run, an invalidation by one reaches what the other keeps only if both make one name
/// of it. Who must change that says so where it is released: entries of the one are stale to the other until they end.
#[test]
fn names_stay_what_they_were() {
    let mut all = String::new();
    each_but_for_one_part(&mut |name, _| all += &format!("{name:?}\n"));
    let (calvin, names) = (who("calvin", Id::from(1)), names());
    let (realm, id, object) = (calvin.realm(), calvin.id(), &ObjectRef::new("doc", [Id::from(7)]).unwrap());
    for of in [
        Of::All,
        Of::Told,
        Of::Ids(realm),
        Of::Groups(realm),
        Of::Login(calvin.login()),
        Of::Id { realm, source: "app", id },
        Of::Object { realm, object },
    ] {
        all += &format!("{:?}\n", names.generation(&of));
    }
    let digest = blake3::hash(all.as_bytes()).to_hex();
    assert_eq!(&digest[..16], "d02089ee0e6c99c3", "names are not what they were");
}

#[test]
fn an_absent_mode_is_no_empty_one_and_a_number_is_no_text() {
    let (names, source, calvin) = (names(), source("app"), who("calvin", Id::from(1)));
    let object = |part: Id| ObjectRef::new("doc", [part]).unwrap();
    let key = |part: Id, mode: Option<&str>| {
        names.entry(&source, &Key::Access(calvin.clone(), object(part), mode.map(Into::into)).ask())
    };
    assert_ne!(key(Id::from(1), None), key(Id::from(1), Some("")));
    assert_ne!(key(Id::from(1), None), key(Id::from("1"), None));
    let groups = |who: Principal| names.entry(&source, &Key::Groups(who).ask());
    assert_ne!(groups(calvin.clone()), groups(who("calvin", Id::from("1"))));
}

#[test]
fn every_key_and_every_prefix_has_names_of_its_own() {
    let of = |prefix, keys| {
        let names = Names::new(&ring(prefix, keys));
        let entry = names.entry(&source("app"), &Key::Account(login("calvin")).ask());
        [entry, names.generation(&Of::All)]
    };
    let [entry, all] = of("a.", &[("k", 1)]);
    assert_eq!([entry, all], of("a.", &[("k", 1), ("l", 2)]), "only the first key names");
    assert_eq!([entry, all], of("a.", &[("renamed", 1)]), "whatever its id");
    for [other, other_all] in [of("b.", &[("k", 1)]), of("a.", &[("k", 2)])] {
        assert_ne!(entry, other);
        assert_ne!(all, other_all);
    }
}

#[test]
fn an_invalidation_names_what_was_named_under_any_key() {
    let rings = [ring("a.", &[("k", 1)]), ring("a.", &[("l", 2)]), ring("a.", &[("m", 3)])];
    let all = Names::new(&ring("a.", &[("l", 2), ("k", 1), ("m", 3)]));
    let login = login("calvin");
    let of = Of::Login(&login);
    let under: Vec<WireName> = all.generation_under_all_keys(&of).collect();
    assert_eq!(under.len(), 3);
    assert_eq!(under[0], all.generation(&of));
    for ring in &rings {
        assert!(under.contains(&Names::new(ring).generation(&of)));
    }
}

#[test]
fn a_ring_that_is_not_in_order_is_refused_without_a_word_of_its_secrets() {
    let refused = |prefix: &str, keys: Vec<(String, Vec<u8>)>| {
        let error = CacheKeys::new(prefix, keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    };
    let secret = || CANARY.repeat(4).into_bytes();
    let key = |id: &str| (id.to_owned(), secret());
    refused("", vec![key("a")]);
    refused("p", vec![]);
    refused("p", (0..9).map(|n| key(&n.to_string())).collect());
    refused("p", vec![key("a"), key("b"), key("a")]);
    refused("p", vec![key("a"), ("a".into(), CANARY.repeat(5).into())]);
    refused("p", vec![key("")]);
    refused("p", vec![key(&"a".repeat(33))]);
    for id in ["a b", "a.", "\u{e9}", "a\0", &CANARY.repeat(4), &format!("{CANARY}/")] {
        refused("p", vec![key(id)]);
    }
    refused("p", vec![("a".into(), CANARY.into())]);
    refused("p", vec![key("a"), ("b".into(), secret()[..31].to_vec())]);
    let most = (0..8).map(|n| (format!("A-z_{n}"), secret()[..32].to_vec()));
    let ring = CacheKeys::new("p", most).unwrap();
    let shown = format!("{ring:?} {:?}", Names::new(&ring));
    assert!(shown.contains("A-z_7") && !shown.contains(CANARY), "{shown}");
    for key in ring.iter() {
        assert!(!shown.contains(&format!("{:?}", key.entries)));
    }
}
