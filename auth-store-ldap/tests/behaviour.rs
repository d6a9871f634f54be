//! The suite that every store runs, on OpenLDAP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::LazyLock;

use auth_core::LoginRule;
use auth_testkit::servers::{Slapd, skipped};
use auth_testkit::suite::{self, Bench};
use auth_testkit::{Standing, User, realm, realm_with};
use common::{hashed_id, hashes, id, opened, options, settings, world};

static SLAPD: LazyLock<Slapd> = LazyLock::new(|| {
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    slapd
});

fn slapd() -> Option<&'static Slapd> {
    (!skipped("slapd")).then(|| &*SLAPD)
}

/// OpenLDAP has no way to switch somebody off, tells of a lock whatever the password, and does not tell that somebody
/// has none.
fn bound(user: &User) -> bool {
    !matches!(user.standing, Standing::Disabled | Standing::Locked) && user.password.is_some()
}

#[tokio::test]
async fn search_and_bind() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    let bench = Bench::new(&realm()).with_ids(id).holding(bound);
    suite::run_all_password(&store, &bench).await;
}

#[tokio::test]
async fn search_and_bind_under_every_rule_for_logins() {
    let Some(slapd) = slapd() else { return };
    let store = opened(&settings(&slapd.url(), "")).await;
    for (name, rule) in LoginRule::NAMES {
        let bench = Bench::new(&realm_with(name, rule)).with_ids(id).holding(bound);
        suite::run_all_password(&store, &bench).await;
    }
}

#[tokio::test]
async fn groups_by_member_of() {
    let Some(slapd) = slapd() else { return };
    let more = format!("group_base = 'ou=groups,{}'\ngroup_strategy = 'memberOf'", Slapd::BASE);
    let store = opened(&settings(&slapd.url(), &more)).await;
    suite::run_all_groups(&store, Bench::new(&realm()).with_ids(id)).await;
}

#[tokio::test]
async fn groups_level_by_level() {
    let Some(slapd) = slapd() else { return };
    let more = format!("group_base = 'ou=nested,{}'\ngroup_strategy = 'recursive'", Slapd::BASE);
    let store = opened(&settings(&slapd.url(), &more)).await;
    // Max is an admin, and would be staff here as all admins are.
    let bench = Bench::new(&realm()).with_ids(id).holding(|user| user.login != "max");
    suite::run_all_groups(&store, &bench).await;
}

#[tokio::test]
async fn direct_groups() {
    let Some(slapd) = slapd() else { return };
    let more = format!("group_base = 'ou=groups,{}'\ngroup_strategy = 'direct'", Slapd::BASE);
    let store = opened(&settings(&slapd.url(), &more)).await;
    suite::run_all_groups(&store, Bench::new(&realm()).with_ids(id)).await;
}

#[tokio::test]
async fn stored_hashes() {
    let Some(slapd) = slapd() else { return };
    for more in ["", "group_base = 'ou=groups,dc=example,dc=com'"] {
        let store = opened(&hashes(&slapd.url(), more)).await;
        // The ids there are those that the server has given.
        let bench =
            Bench::new(&realm()).with_ids(hashed_id).holding(|user| user.standing != Standing::Disabled);
        suite::run_all_account(&store, &bench).await;
    }
}

#[tokio::test]
async fn names_made_of_the_login() {
    let Some(slapd) = slapd() else { return };
    let template = format!("mode = 'bind-template'\nuser_dn = 'uid={{login}},ou=people,{}'", Slapd::BASE);
    for (name, rule) in LoginRule::NAMES {
        let store = opened(&settings(&slapd.url(), &template)).await;
        let bench = Bench::new(&realm_with(name, rule)).with_ids(id).holding(bound);
        suite::run_all_password(&store, &bench).await;
    }
    // Without an account of our own, nobody can be looked up, and passwords are decided all the same.
    let alone = format!("url = '{}'\nbase = 'ou=people,{}'\n{template}", slapd.url(), Slapd::BASE);
    let store = opened(&alone).await;
    suite::run_all_password(&store, Bench::new(&realm()).with_ids(id).holding(bound)).await;
}

#[tokio::test]
async fn passwords_compared_by_the_server() {
    let Some(slapd) = slapd() else { return };
    let store =
        opened(&hashes(&slapd.url(), "").replace("ou=hashes", "ou=people").replace("fetch-hash", "compare"))
            .await;
    // The server knows nothing of the state of an account here, but what its entry says.
    let bench = Bench::new(&realm()).with_ids(id).holding(|user| user.standing != Standing::Disabled);
    suite::run_all_password(&store, &bench).await;
}
