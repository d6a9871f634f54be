//! The suite that every store runs, on OpenLDAP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::LazyLock;

use auth_core::LoginRule;
use auth_testkit::servers::{Slapd, skipped};
use auth_testkit::suite::{self, Bench};
use auth_testkit::{Standing, User, realm, realm_with};
use common::{id, opened, options, settings, world};

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
