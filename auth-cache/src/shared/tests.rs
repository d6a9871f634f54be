//! Names, seals and the written form of answers, alone and together.

mod golden;
mod names;
mod rounds;
mod sealing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{
    Access, Account, AccountState, Fingerprint, GroupSet, Id, Lock, Login, LoginRule, Lookup, ObjectRef,
    Principal, RealmId, SourceInfo, StoredHash, SubjectBuf, TierTime, TokenId, TokenState,
};
use proptest::prelude::*;

use super::seal::Head;
use super::{CacheKeys, SealKind};
use crate::{Answer, Key};

/// Stands in what must not be read: a login, a group, a hash, a right.
pub(super) const CANARY: &str = "canary-7f3a";

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_local_rejects: 10_000_000,
        ..ProptestConfig::default()
    }
}

fn ring(prefix: &str, keys: &[(&str, u8)]) -> CacheKeys {
    let keys = keys.iter().map(|(id, secret)| ((*id).to_owned(), vec![*secret; 32]));
    CacheKeys::new(prefix, keys).unwrap()
}

fn keys() -> CacheKeys {
    ring("gatepost.", &[("a", 1)])
}

fn head() -> Head {
    Head { stamp: [9; 16], loaded: TierTime::from_millis(1_790_000_000_123), life: Duration::from_secs(60) }
}

fn source(name: &str) -> SourceInfo {
    SourceInfo::new(name, Fingerprint::new([3; 16]))
}

fn realm(name: &str) -> RealmId {
    RealmId::new(name, LoginRule::CaseMapped).unwrap()
}

fn login(text: &str) -> Login {
    Login::parse(&realm("default"), text).unwrap()
}

fn who(text: &str, id: Id) -> Principal {
    let login = login(text);
    Principal::found(&source("app"), &login, text, id).unwrap()
}

fn after(seconds: u64, nanos: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

const ARGON2: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$mZ8lCqzS8m4bV0uE2wq5w0p3mCkQp0cYx0mVhVYv1yM";

/// One of each kind, with every field used somewhere.
fn examples() -> Vec<(&'static str, Key, Answer)> {
    let calvin = who("Calvin", Id::from(42));
    let wiki = ObjectRef::new("page", [Id::from("wiki"), Id::from(7), Id::uuid(0x0123 << 96)]).unwrap();
    let state = AccountState {
        disabled: true,
        lock: Lock::Until(after(1_800_000_000, 5)),
        not_before: Some(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)),
        expires_at: Some(after(2_000_000_000, 999_999_999)),
        password_expires_at: Some(SystemTime::UNIX_EPOCH - Duration::from_secs(86_400)),
        must_change: true,
    };
    let account = |state, hash| Answer::Account(Lookup::Found(Account::new(calvin.clone(), state, hash)));
    let locked = AccountState { lock: Lock::Locked, ..AccountState::default() };
    let asked = || Key::Account(login("calvin"));
    let groups = |names: &[&str]| Answer::Groups(Lookup::Found(names.iter().copied().collect()));
    let right = || Key::Access(calvin.clone(), wiki.clone(), Some("read".into()));
    let token = |id: Id, login: &Login, shown: &str| {
        let principal = Principal::found(&source("staff"), login, shown, id).unwrap();
        let scopes = ["mail", "read"].into_iter().collect();
        Answer::Token(Arc::new(TokenState {
            principal,
            scopes,
            expires_at: after(1_790_000_000, 500_000_000),
            claims: Some("{\"sub\":\"calvin\"}".into()),
        }))
    };
    let exact = |rule| Login::parse(&RealmId::new("tokens", rule).unwrap(), "susie").unwrap();
    let token_key = || Key::Token(TokenId::new([5; 32]));
    vec![
        ("account-none", asked(), Answer::Account(Lookup::NotFound)),
        (
            "account-open",
            asked(),
            account(AccountState::default(), Some(StoredHash::new(ARGON2.into(), None))),
        ),
        ("account-locked", asked(), account(locked, Some(StoredHash::new("secret".into(), Some("plain"))))),
        ("account-full", asked(), account(state, None)),
        ("groups-unknown", Key::Groups(calvin.clone()), Answer::Groups(Lookup::NotFound)),
        ("groups-none", Key::Groups(calvin.clone()), groups(&[])),
        ("groups-three", Key::Groups(calvin.clone()), groups(&["staff", "admin", "\u{e9}quipe"])),
        ("access-allow", right(), Answer::Access(Access::Allow)),
        ("access-deny", right(), Answer::Access(Access::Deny)),
        ("access-not-found", right(), Answer::Access(Access::NotFound)),
        ("token-int", token_key(), token(Id::from(-1), &login("susie"), "Susie")),
        ("token-text", token_key(), token(Id::from("1"), &exact(LoginRule::CasePreserved), "susie")),
        ("token-uuid", token_key(), token(Id::uuid(1 << 127), &exact(LoginRule::Exact), "susie")),
    ]
}

/// Every kind of invalidation.
fn subjects() -> Vec<(&'static str, SubjectBuf)> {
    let realm = || realm("default");
    let object = ObjectRef::new("doc", [Id::from(1), Id::from("1"), Id::uuid(1)]).unwrap();
    vec![
        ("subject-login", SubjectBuf::Login(login("calvin"))),
        ("subject-id", SubjectBuf::Id { realm: realm(), source: "app".into(), id: Id::from(42) }),
        ("subject-object", SubjectBuf::Object { realm: realm(), object }),
        ("subject-groups", SubjectBuf::Groups(realm())),
        ("subject-realm", SubjectBuf::Realm(RealmId::new("exact", LoginRule::Exact).unwrap())),
        ("subject-all", SubjectBuf::All),
    ]
}

fn any_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        any::<i64>().prop_map(Id::from),
        any::<String>().prop_map(|text| Id::text(&text)),
        any::<[u8; 16]>().prop_map(Id::Uuid),
    ]
}

fn any_realm() -> impl Strategy<Value = RealmId> {
    let name = prop_oneof!["[a-c]{1,3}", any::<String>()];
    (name, 0..3_usize).prop_filter_map("a possible realm", |(name, rule)| {
        RealmId::new(&name, LoginRule::NAMES[rule].1).ok()
    })
}

fn any_login() -> impl Strategy<Value = Login> {
    (any_realm(), prop_oneof!["[a-cA-C]{1,3}", any::<String>()])
        .prop_filter_map("a possible login", |(realm, text)| Login::parse(&realm, &text).ok())
}

/// Names of sources are not checked, so any text is one.
fn any_source() -> impl Strategy<Value = SourceInfo> {
    (prop_oneof!["[ab]{1,2}", any::<String>()], any::<[u8; 16]>())
        .prop_map(|(name, digest)| SourceInfo::new(name, Fingerprint::new(digest)))
}

fn any_who() -> impl Strategy<Value = (SourceInfo, Principal)> {
    (any_source(), any_login(), any_id(), any::<bool>()).prop_map(|(source, login, id, upper)| {
        let upper = upper.then(|| login.as_str().to_uppercase());
        let shown = upper.filter(|upper| login.is(upper)).unwrap_or_else(|| login.as_str().to_owned());
        let who = Principal::found(&source, &login, &shown, id).unwrap();
        (source, who)
    })
}

fn any_object() -> impl Strategy<Value = ObjectRef> {
    let parts = prop::collection::vec(any_id(), 1..4);
    ("[a-z]{1,8}", parts)
        .prop_filter_map("a possible object", |(domain, id)| ObjectRef::new(&domain, id).ok())
}

fn any_groups() -> impl Strategy<Value = GroupSet> {
    prop::collection::vec(prop_oneof!["[a-c]{0,3}", any::<String>()], 0..20)
        .prop_map(|names| names.iter().map(String::as_str).collect())
}

/// Some that are far away, many before 1970, all that the system can tell.
fn any_time() -> impl Strategy<Value = SystemTime> {
    (any::<bool>(), prop_oneof![0..4_000_000_000_u64, any::<u64>()], 0..1_000_000_000_u32).prop_filter_map(
        "a possible time",
        |(before, seconds, nanos)| {
            let (epoch, from) = (SystemTime::UNIX_EPOCH, Duration::new(seconds, nanos));
            if before { epoch.checked_sub(from) } else { epoch.checked_add(from) }
        },
    )
}

fn any_state() -> impl Strategy<Value = AccountState> {
    let lock = prop_oneof![Just(Lock::Open), Just(Lock::Locked), any_time().prop_map(Lock::Until)];
    let time = || prop::option::of(any_time());
    (any::<bool>(), lock, time(), time(), time(), any::<bool>()).prop_map(
        |(disabled, lock, not_before, expires_at, password_expires_at, must_change)| AccountState {
            disabled,
            lock,
            not_before,
            expires_at,
            password_expires_at,
            must_change,
        },
    )
}

fn any_hash() -> impl Strategy<Value = Option<StoredHash>> {
    let hash = (any::<String>(), prop::option::of(any::<String>()));
    prop::option::of(hash.prop_map(|(text, scheme)| StoredHash::new(text, scheme.as_deref())))
}

/// A question, the source that is asked, and an answer to it.
fn any_answer() -> impl Strategy<Value = (Key, SourceInfo, Answer)> {
    let account = (any_who(), any_state(), any_hash(), any::<bool>()).prop_map(
        |((source, who), state, hash, found)| {
            let key = Key::Account(who.login().clone());
            let answer = if found { Lookup::Found(Account::new(who, state, hash)) } else { Lookup::NotFound };
            (key, source, Answer::Account(answer))
        },
    );
    let groups = (any_who(), any_groups(), any::<bool>()).prop_map(|((source, who), groups, found)| {
        let answer = if found { Lookup::Found(groups) } else { Lookup::NotFound };
        (Key::Groups(who), source, Answer::Groups(answer))
    });
    let access = prop_oneof![Just(Access::Allow), Just(Access::Deny), Just(Access::NotFound)];
    let access = (any_who(), any_object(), prop::option::of(any::<String>()), access).prop_map(
        |((source, who), object, mode, access)| {
            (Key::Access(who, object, mode.map(Into::into)), source, Answer::Access(access))
        },
    );
    let token = (any_who(), any_source(), any_groups(), any_time(), any::<[u8; 32]>()).prop_map(
        |((_, principal), source, scopes, expires_at, id)| {
            let state = TokenState { principal, scopes, expires_at, claims: None };
            (Key::Token(TokenId::new(id)), source, Answer::Token(Arc::new(state)))
        },
    );
    prop_oneof![account, groups, access, token]
}

fn any_subject() -> impl Strategy<Value = SubjectBuf> {
    prop_oneof![
        any_login().prop_map(SubjectBuf::Login),
        (any_realm(), any::<String>(), any_id()).prop_map(|(realm, source, id)| SubjectBuf::Id {
            realm,
            source: source.into(),
            id
        }),
        (any_realm(), any_object()).prop_map(|(realm, object)| SubjectBuf::Object { realm, object }),
        any_realm().prop_map(SubjectBuf::Groups),
        any_realm().prop_map(SubjectBuf::Realm),
        Just(SubjectBuf::All),
    ]
}
