//! Cases for stores of rights.

use auth_core::{Access, Ctx, ErrorKind, Id, ObjectPerms, ObjectRef, Principal};

use super::{Bench, NOBODY, cases, told};
use crate::{World, object};

cases! {
    /// Lists the cases for an [`ObjectPerms`].
    pub object_cases, dyn ObjectPerms, Bench:
    a_right_is_allowed_and_what_is_not_there_is_denied,
    without_a_mode_any_right_will_do,
    an_object_that_is_not_there_is_not_found,
    an_undeclared_domain_is_invalid,
    an_unknown_person_has_no_rights,
    an_id_counts_and_not_a_login,
    an_unknown_mode_is_denied,
    strange_ids_are_no_objects,
    many_questions_are_answered_as_one_by_one,
    what_is_peeked_is_what_is_allowed,
}

const MODES: [Option<&str>; 4] = [Some("read"), Some("write"), Some("delete"), None];

async fn ask(source: &dyn ObjectPerms, who: &Principal, object: &ObjectRef, mode: Option<&str>) -> Access {
    let question = format!("{who:?} on {object:?} for {mode:?}");
    told(&question, source.access(&Ctx::new(), who, object, mode).await)
}

async fn check(
    source: &dyn ObjectPerms,
    who: &Principal,
    object: &ObjectRef,
    mode: Option<&str>,
    expected: Access,
) {
    assert_eq!(ask(source, who, object, mode).await, expected, "{who:?} on {object:?} for {mode:?}");
}

async fn a_right_is_allowed_and_what_is_not_there_is_denied(source: &dyn ObjectPerms, bench: &Bench) {
    for user in bench.users() {
        let who = bench.principal(source.source(), user);
        for object in World::objects() {
            for mode in ["read", "write"] {
                let allowed = object.allows(user.login, Some(mode));
                let expected = if allowed { Access::Allow } else { Access::Deny };
                check(source, &who, &object.object(), Some(mode), expected).await;
            }
        }
    }
}

async fn without_a_mode_any_right_will_do(source: &dyn ObjectPerms, bench: &Bench) {
    for user in bench.users() {
        let who = bench.principal(source.source(), user);
        for object in World::objects() {
            let expected = if object.allows(user.login, None) { Access::Allow } else { Access::Deny };
            check(source, &who, &object.object(), None, expected).await;
        }
    }
}

async fn an_object_that_is_not_there_is_not_found(source: &dyn ObjectPerms, bench: &Bench) {
    for login in ["calvin", "susie"] {
        let who = bench.principal(source.source(), World::user(login));
        for id in [3, 0, -1, 10, 11, i64::MAX, i64::MIN] {
            for mode in MODES {
                check(source, &who, &object("doc", id), mode, Access::NotFound).await;
            }
        }
    }
}

async fn an_undeclared_domain_is_invalid(source: &dyn ObjectPerms, bench: &Bench) {
    let who = bench.principal(source.source(), World::user("calvin"));
    for domain in ["planet", "doc ", "DOC", "d%", "do", "docs", "'"] {
        for mode in MODES {
            let answer = source.access(&Ctx::new(), &who, &object(domain, 1), mode).await;
            match answer {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{domain:?}: {error:?}"),
                Ok(access) => panic!("the domain {domain:?} is not declared, but the answer is {access:?}"),
            }
        }
    }
}

async fn an_unknown_person_has_no_rights(source: &dyn ObjectPerms, bench: &Bench) {
    check_without_rights(source, &bench.principal(source.source(), &NOBODY)).await;
}

async fn an_id_counts_and_not_a_login(source: &dyn ObjectPerms, bench: &Bench) {
    check_without_rights(source, &bench.namesake(source.source(), World::user("calvin"))).await;
}

async fn check_without_rights(source: &dyn ObjectPerms, who: &Principal) {
    for mode in MODES {
        check(source, who, &object("doc", 1), mode, Access::Deny).await;
        check(source, who, &object("doc", 2), mode, Access::Deny).await;
        check(source, who, &object("doc", 3), mode, Access::NotFound).await;
    }
}

async fn an_unknown_mode_is_denied(source: &dyn ObjectPerms, bench: &Bench) {
    let who = bench.principal(source.source(), World::user("calvin"));
    for mode in ["delete", "READ", "read ", "rea%", "*", "", "read,write", "' OR 1=1 --", "\u{1f42f}"] {
        check(source, &who, &object("doc", 1), Some(mode), Access::Deny).await;
    }
}

/// Not found, or refused as an id that this domain can't have; never a right.
async fn strange_ids_are_no_objects(source: &dyn ObjectPerms, bench: &Bench) {
    let who = bench.principal(source.source(), World::user("calvin"));
    let texts = ["1 OR 1=1", "%", "_", "*", "1 ", " 1", "01", "1.0", "+1", "1,1", "\u{661}", "\u{1f42f}"];
    let strange = texts.into_iter().map(|text| vec![Id::text(text)]);
    let strange = strange.chain([vec![Id::uuid(1)], vec![Id::from(1), Id::from(1)], vec![Id::from(1); 20]]);
    for id in strange {
        let object = ObjectRef::new("doc", id).expect("a possible object");
        match source.access(&Ctx::new(), &who, &object, None).await {
            Ok(access) => assert_eq!(access, Access::NotFound, "{object:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{object:?}: {error:?}"),
        }
    }
}

async fn many_questions_are_answered_as_one_by_one(source: &dyn ObjectPerms, bench: &Bench) {
    let mut objects: Vec<_> = [2, 1, 3, 1].map(|id| object("doc", id)).to_vec();
    objects.insert(2, object("planet", 1));
    for login in ["calvin", "susie"] {
        let who = bench.principal(source.source(), World::user(login));
        for mode in MODES {
            let many = source.access_many(&Ctx::new(), &who, &objects, mode).await;
            assert_eq!(many.len(), objects.len(), "one answer to each question");
            for (object, answer) in objects.iter().zip(many) {
                let one = source.access(&Ctx::new(), &who, object, mode).await;
                let kind = |error: auth_core::Error| error.kind();
                assert_eq!(answer.map_err(kind), one.map_err(kind), "{who:?} on {object:?} for {mode:?}");
            }
            assert!(source.access_many(&Ctx::new(), &who, &[], mode).await.is_empty());
        }
    }
}

async fn what_is_peeked_is_what_is_allowed(source: &dyn ObjectPerms, bench: &Bench) {
    let ctx = Ctx::new();
    for user in [World::user("calvin"), World::user("susie"), &NOBODY] {
        let who = bench.principal(source.source(), user);
        for (id, mode) in [1, 2, 3].into_iter().flat_map(|id| MODES.map(|mode| (id, mode))) {
            let object = object("doc", id);
            let before = source.peek_access(&ctx, &who, &object, mode);
            let answer = ask(source, &who, &object, mode).await;
            for peeked in [before, source.peek_access(&ctx, &who, &object, mode)].into_iter().flatten() {
                assert_eq!(peeked, answer, "{who:?} on {object:?}: peek_access and access differ");
            }
        }
    }
}
