//! A source that fails is left alone, old answers stand in for it where that is configured, and what is in
//! use is asked for before it ends: through the whole stack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Bound, CacheStats, Report};
use auth_core::{Access, CacheUse, Clock, Ctx, Directory, Member, Record, StateChange, Subject};
use auth_stack::Stack;
use auth_testkit::{ManualClock, object};
use common::{Slow, all, builder, remembering, who};
use futures_util::FutureExt as _;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    app: Arc<Slow>,
    clock: Arc<ManualClock>,
    stack: Stack,
}

/// A stack over one source, with these keys of `[cache]` and of the source.
async fn bench(cache: &str, section: &str, source: &str) -> Bench {
    let (app, clock) = (Slow::new("app"), ManualClock::new());
    let text = format!("{source}\n[cache]\n{section}\n");
    let stack = builder(&[("app", app.provides())], &text)
        .var("CACHE", cache)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .await
        .unwrap();
    Bench { app, clock, stack }
}

impl Bench {
    /// What becomes of calvin, and how caches took part.
    async fn login(&self) -> (String, CacheUse) {
        self.login_of("calvin", "hobbes").await
    }

    async fn login_of(&self, login: &str, password: &str) -> (String, CacheUse) {
        let record = Arc::new(Record::new());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let realm = self.stack.realm("default").unwrap();
        let verdict = match realm.attempt(&ctx, login, password.as_bytes().to_vec()).await {
            Ok(auth_core::Verdict::Accepted(_)) => "accepted".to_owned(),
            Ok(auth_core::Verdict::Rejected(reason)) => reason.as_str().to_owned(),
            Err(error) => format!("error {}", error.kind()),
        };
        (verdict, record.cache())
    }

    fn stats(&self, kind: &str) -> CacheStats {
        self.stack.caches().into_iter().find(|(_, report)| report.kind == kind).unwrap().1.stats
    }
}

fn answer(verdict: &str, used: CacheUse) -> (String, CacheUse) {
    (verdict.to_owned(), used)
}

#[tokio::test]
async fn during_an_outage_known_users_log_in_with_flagged_old_answers_until_the_bound() {
    for cache in remembering() {
        let bench = bench(cache, "stale_if_error = \"60s\"", "").await;
        assert_eq!(bench.login().await, answer("accepted", CacheUse::Miss));
        let calvin = who(&bench.stack, "calvin").await;
        let realm = bench.stack.realm("default").unwrap();
        let (ctx, doc) = (Ctx::new(), object("doc", 1));
        assert_eq!(realm.is_member(&ctx, &calvin, "staff").await.unwrap(), Member::Yes);
        assert_eq!(realm.access(&ctx, &calvin, &doc, Some("read")).await.unwrap(), Access::Allow);
        bench.app.set_down(true);
        assert_eq!(bench.login().await, answer("accepted", CacheUse::Hit), "{cache}");
        // Past the minute that an account lives, within the minute that it may stand in.
        bench.clock.advance(MINUTE + SECOND);
        assert_eq!(bench.login().await, answer("accepted", CacheUse::Stale), "{cache}");
        assert_eq!(realm.is_member(&ctx, &calvin, "staff").await.unwrap(), Member::Yes);
        assert_eq!(realm.access(&ctx, &calvin, &doc, Some("read")).await.unwrap(), Access::Allow);
        // An old account refuses nobody: the password may have been changed. Whoever was never seen is not known.
        let wrong = bench.login_of("calvin", "wrong").await;
        assert_eq!(wrong, answer("error unavailable", CacheUse::Stale), "{cache}");
        assert_eq!(bench.login_of("susie", "derkins").await.0, "error unavailable", "{cache}");
        let stats = bench.stats("accounts");
        assert!(stats.stale >= 1 && stats.max_stale_age >= MINUTE, "{cache}: {stats:?}");
        assert!(stats.ages.max() <= MINUTE, "no hit is one of them: {stats:?}");
        assert_eq!((bench.stats("groups").stale, bench.stats("access").stale), (1, 1), "{cache}");
        bench.clock.advance(MINUTE);
        assert_eq!(bench.login().await.0, "error unavailable", "{cache}: past the bound");
        realm.is_member(&ctx, &calvin, "staff").await.unwrap_err();
    }
}

#[tokio::test]
async fn what_may_stand_in_is_told_by_the_life_of_what_was_known_and_not_of_nobody_or_nothing() {
    let ttls = "ttl = { account = \"60s\", groups = \"0s\", allow = \"30s\", deny = \"40s\", unknown = \"2m\", not_found = \"3m\" }";
    for (longer, limits) in [("5m", [360, 0, 340]), ("0s", [0, 0, 0])] {
        let bench = bench("ttl", &format!("{ttls}\nstale_if_error = \"{longer}\""), "").await;
        let reports = bench.stack.caches();
        let told = |told: fn(&Stack, &Report) -> Duration| {
            ["accounts", "groups", "access"].map(|kind| {
                let (_, report) = reports.iter().find(|(_, report)| report.kind == kind).unwrap();
                told(&bench.stack, report).as_secs()
            })
        };
        assert_eq!(told(Stack::stale_limit), limits, "{longer}");
        // No hit is older, one that says "nothing" neither.
        assert_eq!(told(Stack::lifetime), [120, 120, 180], "{longer}");
    }
}

#[tokio::test]
async fn a_password_changed_at_the_source_works_at_once_however_long_strangers_are_remembered() {
    for cache in remembering() {
        for (unknown, later) in [("0s", 15), ("2s", 2), ("15s", 15)] {
            let bench = bench(cache, &format!("ttl.unknown = \"{unknown}\""), "").await;
            assert_eq!(bench.login().await.0, "accepted");
            for round in 0..2 {
                let like = if round == 0 { "susie" } else { "max" };
                bench.app.store.set_hash("calvin", auth_testkit::World::user(like).stored_hash());
                let (new, old) = if round == 0 { ("derkins", "hobbes") } else { ("uncle", "derkins") };
                let asked = bench.app.asked();
                assert_eq!(bench.login_of("calvin", new).await.0, "accepted", "{cache} {unknown}");
                assert_eq!(bench.login_of("calvin", old).await.0, "bad_password", "{cache} {unknown}");
                assert_eq!(bench.app.asked() - asked, 1, "{cache} {unknown}: once");
                bench.clock.advance(SECOND * later);
            }
        }
    }
}

#[tokio::test]
async fn whoever_was_invalidated_does_not_log_in_with_an_old_answer() {
    for cache in remembering() {
        for flush in [false, true] {
            let bench = bench(cache, "stale_if_error = \"60s\"", "").await;
            assert_eq!(bench.login().await.0, "accepted");
            assert_eq!(bench.login_of("susie", "derkins").await.0, "accepted");
            bench.app.set_down(true);
            let calvin =
                auth_core::Login::parse(bench.stack.realm("default").unwrap().id(), "calvin").unwrap();
            let subject = Subject::Login(&calvin);
            if flush {
                bench.stack.flush(&subject);
            } else {
                bench.stack.expire(&subject);
            }
            bench.clock.advance(MINUTE + SECOND);
            assert_eq!(bench.login().await.0, "error unavailable", "{cache}");
            assert_eq!(
                bench.login_of("susie", "derkins").await,
                answer("accepted", CacheUse::Stale),
                "{cache}"
            );
        }
    }
}

#[tokio::test]
async fn whoever_was_disabled_through_the_stack_is_not_let_in_by_an_old_answer() {
    for cache in remembering() {
        let bench = bench(cache, "stale_if_error = \"60s\"", "").await;
        assert_eq!(bench.login().await.0, "accepted");
        let calvin = who(&bench.stack, "calvin").await;
        let change = StateChange { disabled: Some(true), ..StateChange::default() };
        let directory = bench.stack.directory("default").unwrap();
        directory.set_state(&Ctx::new(), calvin.login(), &change).await.unwrap();
        bench.app.set_down(true);
        assert_eq!(bench.login().await.0, "error unavailable", "{cache}");
    }
}

#[tokio::test]
async fn unless_it_is_configured_no_old_answer_stands_in() {
    for cache in remembering() {
        let bench = bench(cache, "", "").await;
        assert_eq!(bench.login().await.0, "accepted");
        bench.app.set_down(true);
        bench.clock.advance(MINUTE + SECOND);
        assert_eq!(bench.login().await.0, "error unavailable", "{cache}");
        assert_eq!(bench.stats("accounts").stale, 0);
    }
}

#[tokio::test]
async fn a_dead_source_costs_few_questions_and_is_found_to_be_back() {
    for cache in remembering() {
        let bench = bench(cache, "", "backoff = { after = 2, first = \"1s\", most = \"4s\" }").await;
        assert_eq!(bench.login().await.0, "accepted");
        bench.clock.advance(MINUTE);
        bench.app.set_down(true);
        let before = bench.app.asked();
        // A minute, four logins a second.
        for _ in 0..240 {
            assert_eq!(bench.login().await.0, "error unavailable", "{cache}");
            bench.clock.advance(SECOND / 4);
        }
        // Two, one after each of 1 and 2 seconds, and one every 3 to 4 seconds from then on.
        let asked = bench.app.asked() - before;
        assert!((15..=25).contains(&asked), "{cache}: {asked}");
        assert!(bench.stats("accounts").backed_off >= 200, "{cache}");
        let left = bench.stack.sources()[0].left_alone.unwrap();
        assert!(left <= 4 * SECOND, "{cache}: {left:?}");
        bench.app.set_down(false);
        bench.clock.advance(4 * SECOND);
        assert_eq!(bench.login().await, answer("accepted", CacheUse::Miss), "{cache}: without a restart");
        assert_eq!(bench.stack.sources()[0].left_alone, None);
    }
}

#[tokio::test]
async fn what_fails_for_one_realm_and_one_kind_of_answer_is_left_alone_for_all() {
    let (app, other, clock) = (Slow::new("app"), Slow::new("other"), ManualClock::new());
    let realm = |name: &str| {
        format!("[realm.{name}]\npassword = [\"app\"]\ngroups = [\"app\"]\nobjects = {{ doc = \"app\" }}\n")
    };
    let text =
        format!("backoff.after = 1\n{}{}", realm("a"), realm("b")) + "[realm.c]\npassword = [\"other\"]\n";
    // The keys of the last source are those of `app`.
    let stack = builder(&[("other", all(&other)), ("app", app.provides())], &text)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .await
        .unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| Arc::clone(stack.realm(name).unwrap()));
    let calvin = async |realm: &auth_core::Realm| {
        let login = auth_core::Login::parse(realm.id(), "calvin").unwrap();
        realm.principal(&Ctx::new(), &login).await.unwrap().found().unwrap()
    };
    let (in_a, in_b) = (calvin(&a).await, calvin(&b).await);
    clock.advance(MINUTE);
    app.set_down(true);
    let before = app.asked();
    a.groups(&Ctx::new(), &in_a).await.unwrap_err();
    assert_eq!(app.asked() - before, 1);
    let attempt =
        async |realm: &auth_core::Realm| realm.attempt(&Ctx::new(), "calvin", b"hobbes".to_vec()).await;
    attempt(&a).await.unwrap_err();
    attempt(&b).await.unwrap_err();
    b.access(&Ctx::new(), &in_b, &object("doc", 1), None).await.unwrap_err();
    b.access_many(&Ctx::new(), &in_b, &[object("doc", 1)], None).await.pop().unwrap().unwrap_err();
    assert_eq!(app.asked() - before, 1, "one source, one gate");
    attempt(&c).await.unwrap();
    let left_alone: Vec<_> = stack.sources().iter().map(|source| source.left_alone.is_some()).collect();
    assert_eq!(left_alone, [true, false], "app, other");
}

#[tokio::test]
async fn switched_off_a_source_is_never_left_alone() {
    for cache in remembering() {
        let bench = bench(cache, "", "backoff.after = 0").await;
        bench.app.set_down(true);
        for asked in 1..20 {
            assert_eq!(bench.login().await.0, "error unavailable");
            assert_eq!(bench.app.asked(), asked, "{cache}");
        }
    }
}

#[tokio::test]
async fn without_a_cache_every_question_reaches_the_source() {
    let bench = bench("none", "", "backoff.after = 1").await;
    assert_eq!(bench.login().await, answer("accepted", CacheUse::Off));
    bench.app.set_down(true);
    let before = bench.app.asked();
    for _ in 0..10 {
        assert_eq!(bench.login().await, answer("error unavailable", CacheUse::Off));
    }
    assert_eq!(bench.app.asked() - before, 10);
    assert_eq!(bench.stack.sources()[0].left_alone, None);
}

#[tokio::test]
async fn what_is_in_use_is_asked_for_before_it_ends_and_nobody_waits() {
    for cache in remembering() {
        for (ahead, refreshed) in [("refresh_ahead = 60", true), ("refresh_ahead = 0", false)] {
            let Bench { app, clock, stack } = bench(cache, ahead, "").await;
            let calvin = auth_testkit::principal_at("app", "calvin", auth_core::Id::from(1));
            let ask = || {
                let (realm, calvin) = (Arc::clone(stack.realm("default").unwrap()), calvin.clone());
                async move { realm.is_member(&Ctx::new(), &calvin, "staff").await.unwrap() }
            };
            let refreshes = || {
                let caches = stack.caches();
                caches.iter().find(|(_, report)| report.kind == "groups").unwrap().1.stats.refreshes
            };
            // A load of a second, by which the time of the refresh is chosen.
            app.hold();
            let asking = tokio::spawn(ask());
            app.has_read(1).await;
            clock.advance(SECOND);
            app.release();
            assert_eq!(asking.await.unwrap(), Member::Yes);
            // Not before the half of its life, which is 54 to 60 s, however early it is to be.
            clock.advance(25 * SECOND);
            assert_eq!(ask().await, Member::Yes);
            assert_eq!(app.asked(), 1, "{cache}");
            // From here on nobody waits for the source: it is held.
            app.hold();
            clock.advance(5 * SECOND);
            for _ in 0..3 {
                assert_eq!(ask().now_or_never(), Some(Member::Yes), "{cache}");
            }
            let refreshes = refreshes();
            if refreshes > 0 {
                app.has_read(1).await;
            }
            app.release();
            assert_eq!((refreshes, app.asked()), if refreshed { (1, 2) } else { (0, 1) }, "{cache}");
        }
    }
}

#[tokio::test]
async fn a_flood_of_names_stays_within_the_bytes_that_were_configured() {
    for kind in auth_cache::kinds().iter().filter(|kind| kind.factory().is_some()) {
        let bounded = kind.name != "dict";
        let Bench { stack, .. } = bench(kind.name, if bounded { "size = \"64KiB\"" } else { "" }, "").await;
        let realm = stack.realm("default").unwrap();
        for n in 0..2_000 {
            let login = auth_core::Login::parse(realm.id(), &format!("stranger-{n}")).unwrap();
            assert!(realm.principal(&Ctx::new(), &login).await.unwrap().found().is_none());
        }
        let stats = stack.caches()[0].1.stats;
        if bounded {
            assert_eq!(stats.bound, Some(Bound::Bytes((64 << 10) + (8 << 10))), "{}", kind.name);
            assert!(stats.bytes > 0 && stats.bytes <= 8 << 10, "strangers have an eighth: {stats:?}");
            assert!(stats.evictions > 0, "{}: {stats:?}", kind.name);
        } else {
            assert_eq!((stats.bound, stats.entries, stats.evictions), (None, 2_000, 0));
        }
    }
}
