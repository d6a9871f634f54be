//! Unions of group oracles, links between sources, and the routing of domains.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is how a test says what is wrong")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, AccountSource, ByLogin, Capabilities, Ctx, DomainRouter, Error, ErrorKind, GroupOracle, GroupSet,
    GroupUnion, Id, Link, Linked, Lookup, Member, ObjectPerms, ObjectRef, Principal, Resolver, Result,
    SourceInfo,
};
use auth_testkit::{
    CountingSource, MemoryStore, MiscountingStore, Mode, ScriptedStore, info, object, principal_at,
};
use common::{KINDS, now};

/// What an oracle says of everybody.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tell {
    In(&'static [&'static str]),
    NotFound,
    Fails(ErrorKind),
}

/// An oracle that says one thing, by a question or from memory.
#[derive(Debug)]
struct Knows {
    info: SourceInfo,
    tell: Tell,
    remembers: bool,
}

impl Knows {
    fn lookup(&self) -> Result<Lookup<GroupSet>> {
        match self.tell {
            Tell::In(groups) => Ok(Lookup::Found(groups.iter().copied().collect())),
            Tell::NotFound => Ok(Lookup::NotFound),
            Tell::Fails(kind) => Err(Error::new(kind, "as told").at(Arc::clone(self.info.name()))),
        }
    }
}

#[async_trait]
impl GroupOracle for Knows {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn groups_of(&self, _ctx: &Ctx, _who: &Principal) -> Result<Lookup<GroupSet>> {
        self.lookup()
    }
    fn peek_groups(&self, _ctx: &Ctx, _who: &Principal) -> Option<Lookup<GroupSet>> {
        if self.remembers { self.lookup().ok() } else { None }
    }
}

fn union(tells: &[(Tell, bool)]) -> GroupUnion {
    let knows = |(tell, remembers): &(Tell, bool)| -> Arc<dyn GroupOracle> {
        Arc::new(Knows { info: info("oracle"), tell: *tell, remembers: *remembers })
    };
    GroupUnion::new(tells.iter().map(knows).collect())
}

fn asked(tells: &[Tell]) -> GroupUnion {
    union(&tells.iter().map(|tell| (*tell, false)).collect::<Vec<_>>())
}

fn calvin() -> Principal {
    principal_at("app", "calvin", Id::from(1))
}

const YES: Tell = Tell::In(&["admin", "staff"]);
const NO: Tell = Tell::In(&["guests"]);
const DOWN: Tell = Tell::Fails(ErrorKind::Unavailable);

/// Checks whether the person is in `admin`.
#[track_caller]
fn check_member(tells: &[Tell], expected: std::result::Result<Member, ErrorKind>) {
    let answer = now(asked(tells).is_member(&Ctx::new(), &calvin(), "admin"));
    assert_eq!(answer.map_err(|error| error.kind()), expected, "{tells:?}");
}

/// Checks the whole list.
#[track_caller]
fn check_groups(tells: &[Tell], expected: std::result::Result<Lookup<&[&str]>, ErrorKind>) {
    let answer = now(asked(tells).groups_of(&Ctx::new(), &calvin()));
    let expected = expected.map(|groups| groups.map(|names| names.iter().copied().collect::<GroupSet>()));
    assert_eq!(answer.map_err(|error| error.kind()), expected, "{tells:?}");
}

#[test]
fn one_yes_is_a_yes_and_a_failure_without_a_yes_is_an_error() {
    let table = [
        (YES, YES, Ok(Member::Yes)),
        (YES, NO, Ok(Member::Yes)),
        (YES, Tell::NotFound, Ok(Member::Yes)),
        (YES, DOWN, Ok(Member::Yes)),
        (NO, NO, Ok(Member::No)),
        (NO, Tell::NotFound, Ok(Member::No)),
        (NO, DOWN, Err(ErrorKind::Unavailable)),
        (Tell::NotFound, Tell::NotFound, Ok(Member::No)),
        (Tell::NotFound, DOWN, Err(ErrorKind::Unavailable)),
        (DOWN, DOWN, Err(ErrorKind::Unavailable)),
    ];
    for (one, other, expected) in table {
        check_member(&[one, other], expected);
        check_member(&[other, one], expected);
    }
    for kind in KINDS {
        check_member(&[Tell::Fails(kind), NO, YES], Ok(Member::Yes));
        check_member(&[NO, Tell::Fails(kind), NO], Err(kind));
    }
}

#[test]
fn a_list_with_a_hole_is_no_list() {
    for kind in KINDS {
        check_groups(&[YES, Tell::Fails(kind)], Err(kind));
        check_groups(&[Tell::Fails(kind), YES], Err(kind));
        check_groups(&[Tell::NotFound, Tell::Fails(kind)], Err(kind));
    }
}

#[test]
fn the_groups_of_all_oracles_are_joined() {
    check_groups(&[YES, NO], Ok(Lookup::Found(&["admin", "guests", "staff"])));
    check_groups(&[YES, YES], Ok(Lookup::Found(&["admin", "staff"])));
    check_groups(&[Tell::NotFound, NO, Tell::NotFound], Ok(Lookup::Found(&["guests"])));
    check_groups(&[Tell::In(&[]), Tell::NotFound], Ok(Lookup::Found(&[])));
}

#[test]
fn a_person_whom_no_oracle_knows_is_in_no_group() {
    check_groups(&[Tell::NotFound, Tell::NotFound], Ok(Lookup::NotFound));
    check_member(&[Tell::NotFound, Tell::NotFound], Ok(Member::No));
    check_groups(&[], Ok(Lookup::NotFound));
    check_member(&[], Ok(Member::No));
}

#[test]
fn a_union_lists_only_if_each_oracle_can() {
    let can_not =
        info("oracle").with_capabilities(Capabilities { lists_groups: false, ..Capabilities::default() });
    let one: Arc<dyn GroupOracle> = Arc::new(Knows { info: can_not, tell: NO, remembers: false });
    assert!(!GroupUnion::new(vec![one]).source().capabilities().lists_groups);
    assert!(asked(&[YES, NO]).source().capabilities().lists_groups);
}

#[test]
fn memory_says_what_a_question_would() {
    let tells = [YES, NO, Tell::NotFound, DOWN];
    let some = tells.iter().flat_map(|tell| [(*tell, true), (*tell, false)]).collect::<Vec<_>>();
    let (ctx, who) = (Ctx::new(), calvin());
    let mut answered = 0;
    for one in &some {
        for other in &some {
            let both = union(&[*one, *other]);
            if let Some(groups) = both.peek_groups(&ctx, &who) {
                assert_eq!(now(both.groups_of(&ctx, &who)).unwrap(), groups, "{one:?} {other:?}");
                answered += 1;
            }
            if let Some(member) = both.peek_member(&ctx, &who, "admin") {
                assert_eq!(now(both.is_member(&ctx, &who, "admin")).unwrap(), member, "{one:?} {other:?}");
            }
        }
    }
    assert_eq!(answered, 9, "three remembered answers, twice");
    let half = |tell| union(&[(tell, true), (NO, false)]).peek_member(&ctx, &who, "admin");
    assert_eq!(half(YES), Some(Member::Yes), "a remembered yes needs nobody else");
    assert_eq!(half(NO), None, "a remembered no does");
}

/// The store `app` with counted questions, linked in some way.
fn linked(link: Link) -> (Arc<CountingSource<MemoryStore>>, Linked<CountingSource<MemoryStore>>) {
    let counted = Arc::new(CountingSource::new(Arc::new(MemoryStore::named("app"))));
    (Arc::clone(&counted), Linked::groups(counted, link))
}

fn by_login(accounts: impl AccountSource + 'static) -> Link {
    Link::Through(Arc::new(ByLogin::new(Arc::new(accounts))))
}

/// Asks a linked oracle everything: groups, membership in `admin`, the right to write doc 1, by one and by many.
fn everything(
    oracle: &(impl GroupOracle + ObjectPerms),
    who: &Principal,
) -> [std::result::Result<String, ErrorKind>; 4] {
    let (ctx, doc) = (Ctx::new(), object("doc", 1));
    let many = now(oracle.access_many(&ctx, who, &[doc.clone(), doc.clone()], Some("write")));
    let [one, two] = <[_; 2]>::try_from(many).unwrap();
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
    let kind = |error: Error| error.kind();
    [
        now(oracle.groups_of(&ctx, who)).map_err(kind).map(|groups| match groups {
            Lookup::Found(groups) => groups.iter().collect::<Vec<_>>().join(","),
            Lookup::NotFound => "not_found".to_owned(),
        }),
        now(oracle.is_member(&ctx, who, "admin")).map_err(kind).map(|member| member.as_str().to_owned()),
        now(oracle.access(&ctx, who, &doc, Some("write")))
            .map_err(kind)
            .map(|access| access.as_str().to_owned()),
        one.map_err(kind).map(|access| access.as_str().to_owned()),
    ]
}

#[track_caller]
fn check_everything(oracle: &(impl GroupOracle + ObjectPerms), who: &Principal, expected: [&str; 4]) {
    assert_eq!(everything(oracle, who), expected.map(|text| Ok(text.to_owned())));
}

const CALVIN_IN_APP: [&str; 4] = ["admin,staff", "member", "allow", "allow"];
const NOBODY: [&str; 4] = ["not_found", "not_member", "deny", "deny"];

#[test]
fn an_oracle_without_a_link_is_asked_about_its_own_people_only() {
    let (counted, linked) = linked(Link::None);
    check_everything(&linked, &calvin(), CALVIN_IN_APP);
    assert_eq!(counted.asked(), 4);
    // The same login and the same id, but of another source.
    let stranger = principal_at("staff", "calvin", Id::from(1));
    check_everything(&linked, &stranger, NOBODY);
    let (ctx, doc) = (Ctx::new(), object("doc", 1));
    assert_eq!(linked.peek_groups(&ctx, &stranger), Some(Lookup::NotFound));
    assert_eq!(linked.peek_access(&ctx, &stranger, &doc, None), Some(Access::Deny));
    assert_eq!((counted.asked(), counted.counts().peek), (4, 0), "nobody was asked about the stranger");
}

#[test]
fn a_link_by_login_asks_about_the_oracles_own_record_of_a_person() {
    let (_, linked) = linked(by_login(MemoryStore::named("app")));
    // Id 2 is susie's in `app`: only the login may lead to a record.
    check_everything(&linked, &principal_at("staff", "calvin", Id::from(2)), CALVIN_IN_APP);
    check_everything(&linked, &principal_at("staff", "nobody", Id::from(1)), NOBODY);
}

#[test]
fn a_link_that_can_not_find_out_is_an_error() {
    for kind in KINDS {
        let (counted, linked) = linked(by_login(ScriptedStore::in_mode(info("app"), Mode::Fails(kind))));
        let stranger = principal_at("staff", "calvin", Id::from(1));
        assert_eq!(everything(&linked, &stranger), [(); 4].map(|()| Err(kind)));
        assert_eq!(linked.peek_groups(&Ctx::new(), &stranger), None);
        assert_eq!(counted.asked(), 0);
    }
}

#[test]
fn a_link_that_leads_to_another_source_is_an_error_and_nobody_is_asked() {
    let (counted, linked) = linked(by_login(MemoryStore::named("elsewhere")));
    let stranger = principal_at("staff", "calvin", Id::from(1));
    assert_eq!(everything(&linked, &stranger), [(); 4].map(|()| Err(ErrorKind::Internal)));
    assert_eq!(counted.asked(), 0);
}

/// A resolver that knows one person by heart.
#[derive(Debug)]
struct Leads(Principal, SourceInfo);

#[async_trait]
impl Resolver for Leads {
    fn source(&self) -> &SourceInfo {
        &self.1
    }
    async fn resolve(&self, _ctx: &Ctx, _foreign: &Principal) -> Result<Lookup<Principal>> {
        Ok(Lookup::Found(self.0.clone()))
    }
    fn peek_resolve(&self, _ctx: &Ctx, _foreign: &Principal) -> Option<Lookup<Principal>> {
        Some(Lookup::Found(self.0.clone()))
    }
}

#[test]
fn what_a_link_remembers_is_held_to_the_same_rule() {
    let ctx = Ctx::new();
    let stranger = principal_at("staff", "calvin", Id::from(1));
    let peek = |leads_to: &str| {
        let link =
            Link::Through(Arc::new(Leads(principal_at(leads_to, "calvin", Id::from(1)), info(leads_to))));
        let oracle = Knows { info: info("app"), tell: YES, remembers: true };
        Linked::groups(Arc::new(oracle), link).peek_groups(&ctx, &stranger)
    };
    assert!(matches!(peek("app"), Some(Lookup::Found(_))));
    assert_eq!(peek("elsewhere"), None);
}

fn router(stores: &[(&str, &Arc<CountingSource<MemoryStore>>)]) -> DomainRouter {
    DomainRouter::new(stores.iter().map(|(domain, store)| -> (Arc<str>, Arc<dyn ObjectPerms>) {
        (Arc::from(*domain), Arc::<CountingSource<MemoryStore>>::clone(store))
    }))
}

fn store(objects: &[ObjectRef]) -> Arc<CountingSource<MemoryStore>> {
    let store = MemoryStore::named("app");
    for object in objects {
        store.add_object(object);
        store.grant("calvin", object, "read");
    }
    Arc::new(CountingSource::new(Arc::new(store)))
}

#[test]
fn a_domain_that_nobody_declared_is_an_error_and_no_refusal() {
    let app = store(&[]);
    let router = router(&[("doc", &app)]);
    let (ctx, who) = (Ctx::new(), calvin());
    assert_eq!(router.domains().collect::<Vec<_>>(), ["doc"]);
    let error = now(router.access(&ctx, &who, &object("planet", 1), None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(router.peek_access(&ctx, &who, &object("planet", 1), None), None);
    let many = now(router.access_many(&ctx, &who, &[object("planet", 1), object("doc", 1)], Some("read")));
    assert_eq!(kinds(many), [Err(ErrorKind::Invalid), Ok(Access::Allow)]);
}

#[test]
fn a_domain_that_only_a_store_knows_is_asked_of_it() {
    let (app, wiki) = (store(&[]), store(&[object("page", 1)]));
    let router = router(&[("doc", &app), ("*", &wiki)]);
    let access = |object| now(router.access(&Ctx::new(), &calvin(), &object, Some("read")));
    assert_eq!(access(object("page", 1)).unwrap(), Access::Allow);
    assert_eq!(access(object("doc", 1)).unwrap(), Access::Allow);
    assert_eq!((app.counts().access, wiki.counts().access), (1, 1));
    assert_eq!(access(object("planet", 1)).unwrap_err().kind(), ErrorKind::Invalid);
}

fn kinds(answers: Vec<Result<Access>>) -> Vec<std::result::Result<Access, ErrorKind>> {
    answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect()
}

#[test]
fn many_questions_are_answered_in_order_with_one_call_a_store() {
    let (app, wiki) = (store(&[object("note", 1)]), store(&[object("page", 1)]));
    let router = router(&[("doc", &app), ("note", &app), ("page", &wiki)]);
    let objects = [("page", 1), ("doc", 2), ("note", 1), ("page", 9), ("moon", 1), ("doc", 1)];
    let objects = objects.map(|(domain, id)| object(domain, id));
    let answers = kinds(now(router.access_many(&Ctx::new(), &calvin(), &objects, Some("read"))));
    let expected = [
        Ok(Access::Allow),
        Ok(Access::Deny),
        Ok(Access::Allow),
        Ok(Access::NotFound),
        Err(ErrorKind::Invalid),
        Ok(Access::Allow),
    ];
    assert_eq!(answers, expected);
    assert_eq!((app.counts().access_many, wiki.counts().access_many), (1, 1));
    assert!(now(router.access_many(&Ctx::new(), &calvin(), &[], None)).is_empty());
}

#[test]
fn what_a_store_leaves_out_is_an_error_and_what_it_adds_is_dropped() {
    let three = [1, 2, 3].map(|id| object("doc", id));
    let ask = |items| {
        let store: Arc<dyn ObjectPerms> = Arc::new(MiscountingStore::new(info("app"), items));
        let router = DomainRouter::new([(Arc::from("doc"), store)]);
        kinds(now(router.access_many(&Ctx::new(), &calvin(), &three, None)))
    };
    let (yes, hole) = (Ok(Access::Allow), Err(ErrorKind::Internal));
    assert_eq!(ask(0), [hole, hole, hole]);
    assert_eq!(ask(2), [yes, yes, hole]);
    assert_eq!(ask(3), [yes, yes, yes]);
    assert_eq!(ask(9), [yes, yes, yes]);
}

#[test]
fn each_of_many_domains_leads_to_its_store() {
    for count in [1, 8, 9, 40] {
        let names: Vec<String> = (0..count).map(|n| format!("domain{n}")).collect();
        let stores: Vec<_> = names.iter().map(|name| store(&[object(name, 1)])).collect();
        let stores: Vec<_> = names.iter().map(String::as_str).zip(&stores).rev().collect();
        let (ctx, who, rest) = (Ctx::new(), calvin(), store(&[object("planet", 1)]));
        let declared = router(&stores);
        let open = router(&[stores.as_slice(), &[("*", &rest)]].concat());
        for name in &names {
            for router in [&declared, &open] {
                assert_eq!(now(router.access(&ctx, &who, &object(name, 1), None)).unwrap(), Access::Allow);
            }
        }
        assert!(declared.domains().is_sorted() && declared.domains().count() == count);
        let planet = object("planet", 1);
        assert_eq!(now(declared.access(&ctx, &who, &planet, None)).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(now(open.access(&ctx, &who, &planet, None)).unwrap(), Access::Allow);
    }
}
