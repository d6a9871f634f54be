//! An outage of a source is never a yes and never a no, through the whole stack.
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

use auth_core::{AccountSource, Clock, Ctx, ErrorKind, GroupOracle, Id, Login, Result};
use auth_stack::{Provides, Stack};
use auth_testkit::{ManualClock, MemoryStore, Mode, ScriptedStore, World, info, object, principal_at};
use common::{all, builder, caches, told};

const KINDS: [ErrorKind; 9] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Overloaded,
    ErrorKind::Ambiguous,
    ErrorKind::Corrupt,
    ErrorKind::Misconfigured,
    ErrorKind::Unsupported,
    ErrorKind::Invalid,
    ErrorKind::Internal,
];

fn broken(name: &str, mode: Mode) -> Arc<ScriptedStore> {
    Arc::new(ScriptedStore::in_mode(info(name), mode))
}

fn modes() -> Vec<Mode> {
    let mut modes: Vec<Mode> = KINDS.into_iter().map(Mode::Fails).collect();
    modes.extend([Mode::SomebodyElse, Mode::Corrupt]);
    modes
}

/// Asks for everything about calvin and checks that nobody could find out.
async fn check_no_answer(stack: &Stack, source: &str, what: &str) {
    let realm = stack.realm("default").unwrap();
    for password in ["hobbes", "derkins", "wrong", "x"] {
        let verdict = told(stack, "calvin", password).await;
        assert!(verdict.starts_with("error "), "{what}: {verdict}");
    }
    let calvin = principal_at(source, "calvin", Id::from(1));
    realm.is_member(&Ctx::new(), &calvin, "staff").await.unwrap_err();
    realm.groups(&Ctx::new(), &calvin).await.unwrap_err();
    realm.access(&Ctx::new(), &calvin, &object("doc", 1), Some("read")).await.unwrap_err();
    let many = realm.access_many(&Ctx::new(), &calvin, &[object("doc", 1), object("doc", 2)], None).await;
    assert!(many.len() == 2 && many.iter().all(Result::is_err));
}

#[tokio::test]
async fn a_failure_of_the_only_source_is_no_answer() {
    for cache in caches() {
        for mode in modes() {
            let store = broken("app", mode);
            let stack = builder(&[("app", all(&store))], "").var("CACHE", cache).build().await.unwrap();
            for _ in 0..2 {
                if mode == Mode::SomebodyElse {
                    // Its lies about groups can't be told from the truth; those about people can.
                    for password in ["hobbes", "wrong"] {
                        assert_eq!(told(&stack, "calvin", password).await, "error internal", "{cache}");
                    }
                } else {
                    check_no_answer(&stack, "app", &format!("{cache} {mode:?}")).await;
                }
            }
            if mode != Mode::Corrupt {
                let realm = stack.realm("default").unwrap();
                let login = Login::parse(realm.id(), "calvin").unwrap();
                realm.principal(&Ctx::new(), &login).await.unwrap_err();
            }
        }
    }
}

#[tokio::test]
async fn a_source_that_hangs_is_no_answer_and_is_not_waited_for() {
    for cache in caches() {
        let clock = ManualClock::new();
        let store = broken("app", Mode::Hangs);
        let stack = builder(&[("app", all(&store))], "")
            .var("CACHE", cache)
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .build()
            .await
            .unwrap();
        let stack = Arc::new(stack);
        let asking = tokio::spawn({
            let stack = Arc::clone(&stack);
            async move { check_no_answer(&stack, "app", "hangs").await }
        });
        while !asking.is_finished() {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            // Everybody who waits has been put to sleep: only time helps.
            if clock.sleepers() > 0 {
                clock.advance(Duration::from_secs(1));
            }
        }
        asking.await.unwrap();
        // Seven questions, each given up after 5 s.
        let waited = clock.now().since(auth_core::Moment::ZERO);
        assert!(waited <= Duration::from_secs(8 * 6), "{cache}: {waited:?}");
        assert_eq!(stack.sources()[0].health.up, Some(false), "{cache}");
    }
}

#[tokio::test]
async fn an_outage_outranks_a_no_of_another_source() {
    for cache in caches() {
        for mode in modes() {
            let (store, other) = (broken("app", mode), Arc::new(MemoryStore::empty("other")));
            other.add_user("moe", Id::from(3), World::user("moe").stored_hash());
            other.add_user("calvin", Id::from(1), World::user("calvin").stored_hash());
            for order in ["\"app\", \"other\"", "\"other\", \"app\""] {
                let text = format!("[realm.default]\npassword = [{order}]\ngroups = [{order}]\n");
                let sources = [("app", all(&store)), ("other", all(&other))];
                let stack = builder(&sources, &text).var("CACHE", cache).build().await.unwrap();
                for _ in 0..2 {
                    let verdict = told(&stack, "nobody", "x").await;
                    assert!(verdict.starts_with("error "), "{cache} {mode:?} {order}: {verdict}");
                }
                if mode == Mode::SomebodyElse {
                    continue;
                }
                // Groups: the other source knows no such group of calvin, the failed one might.
                let calvin = principal_at("other", "calvin", Id::from(1));
                let realm = stack.realm("default").unwrap();
                // Without a link nobody of `other` is asked about at `app`: that is a no, not an outage.
                assert_eq!(realm.is_member(&Ctx::new(), &calvin, "x").await.unwrap(), auth_core::Member::No);
                let text = format!("{text}link = {{ app = \"login\" }}\n");
                let stack = builder(&sources, &text).var("CACHE", cache).build().await.unwrap();
                let realm = stack.realm("default").unwrap();
                realm.is_member(&Ctx::new(), &calvin, "x").await.unwrap_err();
                realm.groups(&Ctx::new(), &calvin).await.unwrap_err();
            }
        }
    }
}

#[tokio::test]
async fn a_chain_that_stops_at_an_error_lets_nobody_in_behind_it() {
    for cache in caches() {
        let (store, other) =
            (broken("app", Mode::Fails(ErrorKind::Unavailable)), Arc::new(MemoryStore::named("other")));
        let sources = [("other", all(&other)), ("app", all(&store))];
        let chain = "[realm.default]\npassword = [\"app\", \"other\"]\n";
        let stops = format!("on.error = \"stop\"\n{chain}");
        let stack = builder(&sources, &stops).var("CACHE", cache).build().await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "error unavailable", "{cache}");
        let stack = builder(&sources, chain).var("CACHE", cache).build().await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "other", "{cache}");
        assert_eq!(told(&stack, "calvin", "wrong").await, "error unavailable", "{cache}");
    }
}

#[tokio::test]
async fn a_failed_list_of_people_to_refuse_lets_nobody_in() {
    for cache in caches() {
        for mode in KINDS.map(Mode::Fails) {
            let (store, app) = (broken("leavers", mode), Arc::new(MemoryStore::named("app")));
            let text = "role = \"deny\"\n[realm.default]\npassword = [\"app\", \"leavers\"]\n";
            let stack = builder(&[("app", all(&app)), ("leavers", all(&store))], text)
                .var("CACHE", cache)
                .build()
                .await
                .unwrap();
            for password in ["hobbes", "wrong"] {
                let verdict = told(&stack, "calvin", password).await;
                assert!(verdict.starts_with("error "), "{cache} {mode:?}: {verdict}");
            }
        }
    }
}

#[tokio::test]
async fn errors_are_not_remembered() {
    for cache in caches() {
        let scripted = broken("app", Mode::Fails(ErrorKind::Unavailable));
        let stack = builder(&[("app", all(&scripted))], "").var("CACHE", cache).build().await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "error unavailable");
        scripted.set_mode(Mode::Held);
        let answer = async { scripted.next_question().await.answer(Ok(auth_testkit::Answer::NotFound)) };
        let (verdict, ()) = tokio::join!(told(&stack, "calvin", "hobbes"), answer);
        assert_eq!(verdict, "unknown_user", "{cache}");
    }
}

#[tokio::test]
async fn a_full_hashing_queue_is_no_answer() {
    // One slow job at a time and one in the queue.
    let text = "[password]\nupgrade = false\nthreads = 1\nqueue = 1\nargon2 = { memory_kib = 65536, passes = 3 }\n\
                [source.app]\nkind = \"given\"\n";
    let app = Arc::new(MemoryStore::named("app"));
    let stack = Arc::new(builder(&[("app", all(&app))], "").config(text).build().await.unwrap());
    let asked: Vec<_> = (0..32)
        .map(|n| {
            let stack = Arc::clone(&stack);
            tokio::spawn(async move { told(&stack, &format!("nobody{n}"), "x").await })
        })
        .collect();
    let mut full = 0;
    for asked in asked {
        match asked.await.unwrap().as_str() {
            "unknown_user" => {}
            "error overloaded" => full += 1,
            other => panic!("{other}"),
        }
    }
    assert!(full > 0 && stack.hashing().refused == full);
}

#[tokio::test]
async fn a_probe_tells_what_a_source_cannot_answer() {
    for (mode, up) in
        [(Mode::Fails(ErrorKind::Unavailable), Some(false)), (Mode::Fails(ErrorKind::Corrupt), None)]
    {
        let (store, fine) = (broken("app", mode), Arc::new(MemoryStore::named("fine")));
        let text = "[realm.default]\npassword = [\"app\", \"fine\"]\n";
        let stack = builder(&[("app", all(&store)), ("fine", all(&fine))], text).build().await.unwrap();
        let reports = stack.probe().await;
        assert_eq!(reports.iter().map(auth_stack::SourceReport::is_up).collect::<Vec<_>>(), [false, true]);
        assert_eq!(reports[0].health.up, up);
        assert!(reports[0].fault.is_some());
    }
}

#[tokio::test]
async fn sources_of_one_sort_are_asked_for_that_only() {
    let store = Arc::new(MemoryStore::named("app"));
    let people = Provides::accounts(Arc::clone(&store) as Arc<dyn AccountSource>);
    let groups = Provides::default()
        .with_groups(broken("teams", Mode::Fails(ErrorKind::Unavailable)) as Arc<dyn GroupOracle>);
    let text = "[realm.default]\npassword = [\"app\"]\ngroups = [\"teams\"]\nlink = { teams = \"login\" }\n";
    let error =
        builder(&[("app", people.clone()), ("teams", groups.clone())], text).build().await.unwrap_err();
    assert!(
        error.message().ends_with("realm.default.link.teams: this source can't look up a login"),
        "{error}"
    );
    let text = "[realm.default]\npassword = [\"app\"]\ngroups = [\"teams\"]\n";
    let stack = builder(&[("app", people), ("teams", groups)], text).build().await.unwrap();
    // The outage of the groups is not one of the passwords.
    assert_eq!(told(&stack, "calvin", "hobbes").await, "app");
    let teams = principal_at("teams", "calvin", Id::from(1));
    stack.realm("default").unwrap().groups(&Ctx::new(), &teams).await.unwrap_err();
}

#[tokio::test]
async fn a_source_is_seen_to_be_gone_and_back_though_nobody_logs_in() {
    let clock = ManualClock::new();
    let store = broken("app", Mode::Fails(ErrorKind::Unavailable));
    let stack = builder(&[("app", all(&store))], "").clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let stack = stack.build().await.unwrap();
    let up = async || stack.sources_now().await[0].is_up();
    assert!(!up().await);
    let asked = store.asked();
    // Whoever comes within the second is told the same, and costs nothing.
    store.set_mode(Mode::SomebodyElse);
    assert!(!up().await);
    assert_eq!(store.asked(), asked);
    store.set_mode(Mode::Fails(ErrorKind::Corrupt));
    clock.advance(Duration::from_secs(1));
    assert!(!up().await, "one unreadable record is no sign of life");
    // Answers, if only about nobody.
    let calm = Arc::new(MemoryStore::named("app"));
    let stack = builder(&[("app", all(&calm))], "").build().await.unwrap();
    let report = &stack.sources_now().await[0];
    assert_eq!((report.health.up, report.health.questions), (Some(true), 0));
}

#[tokio::test]
async fn many_who_ask_for_health_share_one_look_and_wait_a_second_at_most() {
    let clock = ManualClock::new();
    let store = broken("app", Mode::Hangs);
    let stack = builder(&[("app", all(&store))], "").clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let stack = Arc::new(stack.build().await.unwrap());
    let ask = || {
        let stack = Arc::clone(&stack);
        tokio::spawn(async move { stack.sources_now().await[0].health.up })
    };
    let asking: Vec<_> = (0..20).map(|_| ask()).collect();
    // Twenty who wait, and the limit of the source.
    while clock.sleepers() < 21 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(1));
    for asked in asking {
        assert_eq!(asked.await.unwrap(), None, "not known yet");
    }
    assert_eq!(store.asked(), 1);
    // The look goes on to the limit of the source, and its end is told to the next.
    let next = ask();
    while clock.sleepers() < 2 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(4));
    next.await.unwrap();
    while stack.sources()[0].health.up.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!((stack.sources()[0].health.up, store.asked()), (Some(false), 1));
}

#[tokio::test]
async fn a_broken_user_file_is_seen_though_answers_come_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("users"), folder.path().join("away"));
    std::fs::write(&path, "calvin:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n").unwrap();
    let clock = ManualClock::new();
    let stack = Stack::builder()
        .config(&format!("{}[source.office]\nkind = \"file\"\npath = '{}'\n", common::CHEAP, path.display()))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .await
        .unwrap();
    let up = async || {
        clock.advance(Duration::from_secs(1));
        stack.sources_now().await[0].is_up()
    };
    assert_eq!(told(&stack, "calvin", "hobbes").await, "office");
    assert!(up().await);
    std::fs::rename(&path, &away).unwrap();
    assert_eq!(told(&stack, "calvin", "hobbes").await, "office", "from the cache");
    assert!(!up().await);
    std::fs::rename(&away, &path).unwrap();
    assert!(up().await, "without a question");
}

#[tokio::test]
async fn a_source_with_more_patience_than_its_realm_turns_red_all_the_same() {
    for cache in caches() {
        for timeout in ["10s", "1h"] {
            let clock = ManualClock::new();
            let store = broken("app", Mode::Hangs);
            let stack = builder(&[("app", all(&store))], "")
                .var("GATEPOST__SOURCE__APP__TIMEOUT", timeout)
                .var("CACHE", cache)
                .clock(Arc::clone(&clock) as Arc<dyn Clock>);
            let stack = Arc::new(stack.build().await.unwrap());
            let asking = tokio::spawn({
                let stack = Arc::clone(&stack);
                async move { told(&stack, "calvin", "hobbes").await }
            });
            while !asking.is_finished() {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                if clock.sleepers() > 0 {
                    clock.advance(Duration::from_millis(500));
                }
            }
            assert_eq!(asking.await.unwrap(), "error timeout");
            assert_eq!(stack.sources()[0].health.up, Some(false), "{cache} {timeout}");
        }
    }
}
