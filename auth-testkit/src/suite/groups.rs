//! Cases for group oracles.

use auth_core::{Ctx, ErrorKind, GroupOracle, GroupSet, Lookup, Member, Principal};

use super::{Bench, NOBODY, cases, told};
use crate::{User, World};

cases! {
    /// Lists the cases for a [`GroupOracle`].
    pub group_cases, dyn GroupOracle, Bench:
    the_groups_of_a_person_are_all_there_and_sorted,
    a_person_is_in_their_groups_and_in_no_other,
    an_unknown_person_is_in_no_group,
    an_id_counts_and_not_a_login,
    an_unknown_group_has_no_members,
    look_alikes_of_a_group_have_no_members,
    an_oracle_that_can_not_list_says_so,
    what_is_peeked_is_the_list_that_is_answered,
}

fn lists(source: &dyn GroupOracle) -> bool {
    source.source().capabilities().lists_groups
}

async fn ask(source: &dyn GroupOracle, who: &Principal) -> Lookup<GroupSet> {
    told(&format!("groups of {who:?}"), source.groups_of(&Ctx::new(), who).await)
}

async fn check(source: &dyn GroupOracle, who: &Principal, group: &str, expected: Member) {
    let answer = told(&format!("{who:?} in {group:?}"), source.is_member(&Ctx::new(), who, group).await);
    assert_eq!(answer, expected, "{who:?} in {group:?}");
}

/// In no group at all: either not known to the oracle, or known with an empty list.
async fn check_in_none(source: &dyn GroupOracle, who: &Principal) {
    if lists(source)
        && let Lookup::Found(groups) = ask(source, who).await
    {
        assert!(groups.is_empty(), "{who:?} is in {:?}", groups.iter().collect::<Vec<_>>());
    }
    for group in World::groups() {
        check(source, who, group, Member::No).await;
    }
}

async fn the_groups_of_a_person_are_all_there_and_sorted(source: &dyn GroupOracle, bench: &Bench) {
    if !lists(source) {
        return;
    }
    for user in bench.users() {
        let groups = ask(source, &bench.principal(source.source(), user)).await;
        let groups = groups.found().unwrap_or_else(GroupSet::empty);
        assert_eq!(groups.iter().collect::<Vec<_>>(), user.groups, "{}", user.login);
    }
}

async fn a_person_is_in_their_groups_and_in_no_other(source: &dyn GroupOracle, bench: &Bench) {
    for user in bench.users() {
        let who = bench.principal(source.source(), user);
        for group in World::groups() {
            let expected = if user.groups.contains(&group) { Member::Yes } else { Member::No };
            check(source, &who, group, expected).await;
        }
    }
}

async fn an_unknown_person_is_in_no_group(source: &dyn GroupOracle, bench: &Bench) {
    check_in_none(source, &bench.principal(source.source(), &NOBODY)).await;
}

/// A name that was given to somebody new must not bring the old groups along.
async fn an_id_counts_and_not_a_login(source: &dyn GroupOracle, bench: &Bench) {
    let namesake = bench.namesake(source.source(), World::user("calvin"));
    check_in_none(source, &namesake).await;
}

async fn an_unknown_group_has_no_members(source: &dyn GroupOracle, bench: &Bench) {
    for user in bench.users() {
        check(source, &bench.principal(source.source(), user), "ghosts", Member::No).await;
    }
}

async fn look_alikes_of_a_group_have_no_members(source: &dyn GroupOracle, bench: &Bench) {
    let who = bench.principal(source.source(), World::user("calvin"));
    let look_alikes = [
        "STAFF",
        "staff ",
        " staff",
        "sta%",
        "st_ff",
        "*",
        "staf",
        "stafff",
        "' OR 1=1 --",
        "staff,admin",
        "st\u{e1}ff",
        "\u{1f42f}",
        "admin\u{200b}",
    ];
    for group in look_alikes {
        check(source, &who, group, Member::No).await;
    }
}

async fn an_oracle_that_can_not_list_says_so(source: &dyn GroupOracle, bench: &Bench) {
    if lists(source) {
        return;
    }
    let who = bench.principal(source.source(), World::user("calvin"));
    let error = source.groups_of(&Ctx::new(), &who).await.expect_err("an oracle that can't list says so");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

async fn what_is_peeked_is_the_list_that_is_answered(source: &dyn GroupOracle, bench: &Bench) {
    let ctx = Ctx::new();
    let check = async |user: &User| {
        let who = bench.principal(source.source(), user);
        let before = source.peek_groups(&ctx, &who);
        let answer = ask(source, &who).await;
        for peeked in [before, source.peek_groups(&ctx, &who)].into_iter().flatten() {
            assert_eq!(peeked, answer, "{who:?}: peek_groups and groups_of differ");
        }
    };
    if lists(source) {
        for user in bench.users().chain([&NOBODY]) {
            check(user).await;
        }
    }
}
