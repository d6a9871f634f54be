//! What the auth URL demands: groups and rights. A mistake in it never opens the door.

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Capabilities, Ctx, DomainRouter, Error, ErrorKind, GroupOracle, GroupSet, GroupUnion, LoginRule, Lookup,
    Member, ObjectPerms, ObjectRef, Principal, Result, SourceInfo,
};
use auth_testkit::{MemoryStore, World, info, object};

use crate::support::{BOTH, Front, basic};

async fn check(front: &Front, login: &str, query: &str, status: u16) {
    let password = World::user(login).password.unwrap();
    for endpoint in BOTH {
        let answer =
            front.get(&format!("{endpoint}?{query}"), &[("authorization", &basic(login, password))]).await;
        assert_eq!(answer.status, status, "{endpoint}?{query} as {login}");
        answer.is(status);
    }
}

#[tokio::test]
async fn any_of_the_groups_will_do() {
    let front = Front::new();
    for (login, query, status) in [
        ("calvin", "group=admin", 200),
        ("susie", "group=admin", 403),
        ("susie", "group=staff", 200),
        ("susie", "group=admin&group=staff", 200),
        ("max", "group=staff&group=admin", 200),
        ("tommy", "group=staff&group=admin", 403),
        ("calvin", "group=ghosts", 403),
        ("calvin", "group=adm", 403),
        ("calvin", "group=Admin", 403),
        ("calvin", "group=admin%2Cstaff", 403),
        ("zo\u{e9}", "group=caf%C3%A9", 200),
        ("zo\u{e9}", "group=cafe", 403),
    ] {
        check(&front, login, query, status).await;
    }
}

/// Knows members but can't list, as an LDAP compare can't.
#[derive(Debug)]
struct Compares(SourceInfo);

#[async_trait]
impl GroupOracle for Compares {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn groups_of(&self, _: &Ctx, _: &Principal) -> Result<Lookup<GroupSet>> {
        Err(Error::new(ErrorKind::Unsupported, "can't list"))
    }
    async fn is_member(&self, _: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        let groups = World::user(who.login().as_str()).groups;
        Ok(if groups.contains(&group) { Member::Yes } else { Member::No })
    }
}

#[tokio::test]
async fn where_groups_can_not_be_listed_the_demanded_ones_are_asked_for() {
    let front = Front::new();
    let cannot = Capabilities { lists_groups: false, ..Capabilities::default() };
    let oracle = Arc::new(Compares(info("memory").with_capabilities(cannot)));
    let realm = front.realm("default", LoginRule::CaseMapped).with_groups(GroupUnion::new(vec![oracle]));
    front.table.set("default", realm);
    for (login, query, status) in [
        ("calvin", "group=admin", 200),
        ("susie", "group=admin", 403),
        ("susie", "group=admin&group=staff", 200),
    ] {
        check(&front, login, query, status).await;
    }
    let calvin = basic("calvin", World::user("calvin").password.unwrap());
    let answer = front.get("/auth/nginx?group=staff&group=ghosts", &[("authorization", &calvin)]).await;
    answer.has("remote-groups", "staff");
    let answer = front.get("/auth/nginx", &[("authorization", &calvin)]).await;
    answer.is(200);
    answer.has("remote-groups", "");
}

#[tokio::test]
async fn a_right_on_an_object_can_be_demanded() {
    let front = Front::new();
    for (login, query, status) in [
        ("calvin", "domain=doc&id=1&mode=write", 200),
        ("susie", "domain=doc&id=1&mode=write", 403),
        ("susie", "domain=doc&id=1&mode=read", 200),
        ("susie", "domain=doc&id=1", 200),
        ("tommy", "domain=doc&id=1", 403),
        ("calvin", "domain=doc&id=2&mode=read", 403),
        ("calvin", "domain=doc&id=3&mode=read", 403),
        ("calvin", "domain=doc&id=01&mode=read", 403),
        ("calvin", "domain=doc&id=&mode=read", 403),
        ("calvin", "domain=doc&id=%00&mode=read", 403),
        ("calvin", "domain=doc&id=1&id=2&mode=read", 403),
        ("calvin", "domain=doc&id=1&mode=read&group=ghosts", 403),
        ("susie", "domain=doc&id=1&mode=read&group=admin", 403),
        ("max", "domain=doc&id=1&mode=read&group=admin", 403),
        ("calvin", "domain=doc&id=1&mode=read&group=admin", 200),
    ] {
        check(&front, login, query, status).await;
    }
}

#[tokio::test]
async fn an_id_keeps_its_type_and_its_colons() {
    let front = Front::new();
    let page = ObjectRef::new("doc", ["wiki:a/b".into(), 42.into()]).unwrap();
    front.store.add_object(&page);
    front.store.grant("susie", &page, "read");
    let texts = ObjectRef::new("doc", ["wiki:a/b".into(), "42".into()]).unwrap();
    front.store.add_object(&texts);
    check(&front, "susie", "domain=doc&id=wiki:a/b&id=42&mode=read", 200).await;
    check(&front, "susie", "domain=doc&id=wiki%3Aa%2Fb&id=42", 200).await;
    check(&front, "susie", "domain=doc&id=42&id=wiki:a/b", 403).await;
    check(&front, "susie", "domain=doc&id=wiki:a/b,42", 403).await;
}

#[tokio::test]
async fn all_that_are_forbidden_are_told_the_same() {
    let front = Front::new();
    let first = front.as_calvin("/auth/forward?group=ghosts").await;
    first.is(403);
    for query in ["domain=doc&id=2", "domain=doc&id=3", "domain=doc&id=1&mode=delete"] {
        assert_eq!(front.as_calvin(&format!("/auth/forward?{query}")).await, first);
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_before_any_demand() {
    let front = Front::new();
    let wrong = basic("calvin", "wrong");
    for query in ["group=ghosts", "domain=doc&id=3"] {
        front.get(&format!("/auth/forward?{query}"), &[("authorization", &wrong)]).await.is(401);
        front.get(&format!("/auth/forward?{query}"), &[]).await.is(401);
    }
}

#[tokio::test]
async fn a_mistake_of_the_operator_fails_for_everybody() {
    let front = Front::new();
    for query in [
        "groups=admin",
        "group",
        "group=",
        "group=%",
        "group=admin&x=y",
        "realm=",
        "realm=other",
        "realm=default&realm=default",
        "domain=planet&id=1",
        "domain=*&id=1",
        "domain=doc",
        "id=1",
        "mode=read",
        "domain=doc&id=1&mode=",
    ] {
        check(&front, "calvin", query, 500).await;
        for endpoint in BOTH {
            front.get(&format!("{endpoint}?{query}"), &[]).await.is(500);
        }
    }
}

#[tokio::test]
async fn a_store_may_declare_its_domains_itself() {
    let front = Front::new();
    let store: Arc<dyn ObjectPerms> = Arc::<MemoryStore>::clone(&front.store);
    let realm = front.realm("default", LoginRule::CaseMapped);
    front.table.set("default", realm.with_objects(DomainRouter::new([("*".into(), store)])));
    front.store.add_object(&object("planet", 9));
    front.store.grant("calvin", &object("planet", 9), "visit");
    check(&front, "calvin", "domain=planet&id=9&mode=visit", 200).await;
    check(&front, "susie", "domain=planet&id=9&mode=visit", 403).await;
    check(&front, "calvin", "domain=moon&id=9", 500).await;
}
