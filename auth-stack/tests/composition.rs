//! What a composed stack answers, and what that costs: the wrappers stand where they must.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;

use auth_core::{Access, Ctx, Id, Login, Member, Record, Reject, Subject, Verdict};
use auth_stack::{Provides, Stack};
use auth_testkit::{CountingSource, MemoryStore, Mode, ScriptedStore, World, hash, info, object};
use common::{all, attempt, builder, caches, remembering, told, who};

fn counted(name: &str) -> (Arc<CountingSource<MemoryStore>>, Provides) {
    let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::named(name))));
    let provides = all(&source);
    (source, provides)
}

/// A store with one person, whose password is that of somebody of the world.
fn one(name: &str, login: &str, id: i64, like: &str) -> Arc<MemoryStore> {
    let store = MemoryStore::empty(name);
    store.add_user(login, Id::from(id), World::user(like).stored_hash());
    Arc::new(store)
}

/// Everything that can be asked about the world, asked twice.
async fn answers(stack: &Stack) -> Vec<String> {
    let mut answers = Vec::new();
    let realm = stack.realm("default").unwrap();
    for _ in 0..2 {
        for user in World::users() {
            if let Some(password) = user.password {
                let verdict = realm.attempt(&Ctx::new(), user.login, password.to_vec()).await;
                answers.push(format!("{verdict:?}"));
            }
            answers.push(told(stack, user.login, "wrong").await);
            let person = who(stack, user.login).await;
            answers.push(format!("{:?}", realm.groups(&Ctx::new(), &person).await));
            for group in ["admin", "staff", "ghosts"] {
                answers.push(format!("{:?}", realm.is_member(&Ctx::new(), &person, group).await));
            }
            for id in 1..=3 {
                for mode in [None, Some("read"), Some("write")] {
                    answers.push(format!(
                        "{:?}",
                        realm.access(&Ctx::new(), &person, &object("doc", id), mode).await
                    ));
                }
            }
            answers
                .push(format!("{:?}", realm.access(&Ctx::new(), &person, &object("planet", 1), None).await));
        }
        answers.push(told(stack, "nobody", "wrong").await);
    }
    answers
}

#[tokio::test]
async fn every_cache_gives_the_same_answers() {
    let mut first: Option<Vec<String>> = None;
    for cache in caches() {
        let (_, provides) = counted("app");
        let stack = builder(&[("app", provides)], "").var("CACHE", cache).build().await.unwrap();
        let answers = answers(&stack).await;
        assert!(answers.len() > 200 && answers.iter().any(|answer| answer.contains("Accepted")));
        match &first {
            None => first = Some(answers),
            Some(first) => assert_eq!(*first, answers, "{cache}"),
        }
    }
}

#[tokio::test]
async fn a_source_sees_one_load_with_a_cache_and_each_question_without() {
    for cache in caches() {
        let loads = if cache == "none" { 5 } else { 1 };
        let (source, provides) = counted("app");
        let stack = builder(&[("app", provides)], "").var("CACHE", cache).build().await.unwrap();
        let realm = stack.realm("default").unwrap();
        let person = who(&stack, "calvin").await;
        let before = source.counts();
        for _ in 0..5 {
            assert_eq!(told(&stack, "susie", "derkins").await, "app");
            assert_eq!(realm.is_member(&Ctx::new(), &person, "staff").await.unwrap(), Member::Yes);
            let access = realm.access(&Ctx::new(), &person, &object("doc", 1), Some("read")).await.unwrap();
            assert_eq!(access, Access::Allow);
        }
        let now = source.counts();
        assert_eq!(now.account - before.account, loads, "{cache}");
        assert_eq!(now.groups_of + now.is_member, loads, "{cache}");
        assert_eq!(now.access + now.access_many, loads, "{cache}");
    }
}

/// Does something and returns how many hash jobs it was, and how many of them pads.
async fn jobs<T>(stack: &Stack, work: impl Future<Output = T>) -> (u64, T) {
    let before = stack.hashing().jobs;
    let done = work.await;
    (stack.hashing().jobs - before, done)
}

#[tokio::test]
async fn every_rejection_costs_one_hash_job() {
    for cache in caches() {
        for chain in [1, 2] {
            let (_, provides) = counted("app");
            let second = one("second", "hobbes", 1, "calvin");
            let mut sources = vec![("app", provides)];
            let mut text = "[realm.default]\npassword = [\"app\"]\n".to_owned();
            if chain == 2 {
                sources.push(("second", all(&second)));
                text = "[realm.default]\npassword = [\"second\", \"app\"]\n".to_owned();
            }
            let stack = builder(&sources, &text).var("CACHE", cache).build().await.unwrap();
            for (login, password, reason) in [
                ("nobody", "x", Reject::UnknownUser),
                ("nobody", "x", Reject::UnknownUser),
                ("bad\u{7}login", "x", Reject::UnknownUser),
                ("moe", "lunch money", Reject::Disabled),
                ("moe", "wrong", Reject::BadPassword),
                ("rosalyn", "no more dessert", Reject::Locked),
                ("wormwood", "sit down", Reject::AccountExpired),
                ("andy", "tuna", Reject::MustChange),
                ("dad", "x", Reject::NoPassword),
                ("dad", "x", Reject::NoPassword),
                ("susie", "wrong", Reject::BadPassword),
                ("susie", "wrong", Reject::BadPassword),
                ("susie", "", Reject::BadPassword),
            ] {
                let (cost, verdict) = jobs(&stack, attempt(&stack, login, password)).await;
                assert_eq!(verdict.unwrap(), Verdict::Rejected(reason), "{cache} {chain} {login}");
                assert_eq!(cost, 1, "{cache} {chain} {login} {reason}");
            }
            // Also once a right password is remembered.
            assert_eq!(told(&stack, "susie", "derkins").await, "app");
            let (cost, verdict) = jobs(&stack, told(&stack, "susie", "wrong")).await;
            assert_eq!((cost, verdict.as_str()), (1, "bad_password"), "{cache} {chain}");
            let (cost, verdict) = jobs(&stack, told(&stack, "susie", "derkins")).await;
            assert_eq!((cost, verdict.as_str()), (u64::from(cache == "none"), "app"), "{cache} {chain}");
        }
    }
}

#[tokio::test]
async fn a_chain_that_goes_on_after_a_wrong_password_costs_one_job_a_source() {
    let (first, second) = (one("a", "calvin", 1, "calvin"), one("b", "calvin", 1, "susie"));
    let text = "on.bad_password = \"continue\"\n[realm.default]\npassword = [\"b\", \"a\"]\n";
    let stack = builder(&[("a", all(&first)), ("b", all(&second))], text).build().await.unwrap();
    let (cost, verdict) = jobs(&stack, told(&stack, "calvin", "wrong")).await;
    assert_eq!((cost, verdict.as_str()), (2, "bad_password"));
    assert_eq!(told(&stack, "calvin", "hobbes").await, "a");
    // The default stops: what stands later in the list is not reached.
    let text = "[realm.default]\npassword = [\"b\", \"a\"]\n";
    let stack = builder(&[("a", all(&first)), ("b", all(&second))], text).build().await.unwrap();
    let (cost, verdict) = jobs(&stack, told(&stack, "calvin", "hobbes")).await;
    assert_eq!((cost, verdict.as_str()), (1, "bad_password"));
}

#[tokio::test]
async fn one_login_and_one_id_of_two_sources_are_two_people() {
    for cache in caches() {
        // Calvin of `a` is an administrator with rights on doc 1; id and login of `b` are the same.
        let (first, second) = (Arc::new(MemoryStore::named("a")), one("b", "calvin", 1, "susie"));
        second.add_user("hobbes", Id::from(2), World::user("max").stored_hash());
        let sources = [("a", all(&first)), ("b", all(&second))];
        let realm =
            "[realm.default]\npassword = [\"b\", \"a\"]\ngroups = [\"a\"]\nobjects = { doc = \"a\" }\n";
        let check = async |link: &str, login: &str, password: &str, member: Member, access: Access| {
            let text = format!("{realm}{link}");
            let stack = builder(&sources, &text).var("CACHE", cache).build().await.unwrap();
            let realm = stack.realm("default").unwrap();
            for _ in 0..2 {
                let Verdict::Accepted(who) = attempt(&stack, login, password).await.unwrap() else {
                    panic!("{login} is not accepted")
                };
                let found = realm.is_member(&Ctx::new(), &who, "admin").await.unwrap();
                let groups = realm.groups(&Ctx::new(), &who).await.unwrap();
                assert_eq!(
                    (found, groups.contains("admin")),
                    (member, member == Member::Yes),
                    "{cache} {link} {login}"
                );
                let found = realm.access(&Ctx::new(), &who, &object("doc", 1), Some("write")).await.unwrap();
                assert_eq!(found, access, "{cache} {link} {login}");
            }
        };
        // By default a source is not asked about another's people.
        check("", "calvin", "derkins", Member::No, Access::Deny).await;
        check("link = { a = \"none\" }\n", "calvin", "derkins", Member::No, Access::Deny).await;
        // By login: who is called the same is the same.
        check("link = { a = \"login\" }\n", "calvin", "derkins", Member::Yes, Access::Allow).await;
        check("link = { a = \"login\" }\n", "hobbes", "uncle", Member::No, Access::Deny).await;
        // A source's own people need no link; max is id 11 there.
        check("", "max", "uncle", Member::Yes, Access::Deny).await;
    }
}

#[tokio::test]
async fn the_owner_of_a_login_is_asked_first_and_its_outage_lets_no_twin_in() {
    for cache in caches() {
        let app =
            Arc::new(ScriptedStore::in_mode(info("app"), Mode::Fails(auth_core::ErrorKind::Unavailable)));
        let twin = one("twin", "calvin", 7, "susie");
        let text = "[cache.ttl]\nall = \"0s\"\n[realm.default]\npassword = [\"app\", \"twin\"]\n";
        let sources = [("app", all(&app)), ("twin", all(&twin))];
        let stack = builder(&sources, text).var("CACHE", cache).build().await.unwrap();
        // Nobody knows yet whose login this is: the chain goes on, but the twin does not become the owner.
        assert_eq!(told(&stack, "calvin", "derkins").await, "twin");
        app.set_mode(Mode::Held);
        let answer = async {
            let calvin = World::user("calvin").login_in(&auth_testkit::realm());
            let account = auth_core::Account::found(
                &info("app"),
                &calvin,
                "calvin",
                Id::from(1),
                auth_core::AccountState::default(),
                World::user("calvin").stored_hash(),
            );
            app.next_question().await.answer(Ok(account));
        };
        let (verdict, ()) = tokio::join!(told(&stack, "calvin", "hobbes"), answer);
        assert_eq!(verdict, "app");
        // Now it is known.
        app.set_mode(Mode::Fails(auth_core::ErrorKind::Unavailable));
        assert_eq!(told(&stack, "calvin", "derkins").await, "error unavailable", "{cache}");
        let login = Login::parse(stack.realm("default").unwrap().id(), "calvin").unwrap();
        // Expiring makes things be asked again; whose login it is stays known.
        stack.expire(&Subject::Login(&login));
        assert_eq!(told(&stack, "calvin", "derkins").await, "error unavailable", "{cache}");
        stack.flush(&Subject::Login(&login));
        assert_eq!(told(&stack, "calvin", "derkins").await, "twin", "{cache}");
    }
}

#[tokio::test]
async fn who_is_found_in_a_later_source_costs_no_question_to_the_first_again() {
    let (first, provides) = counted("a");
    let second = one("b", "hobbes", 1, "calvin");
    let text = "[realm.default]\npassword = [\"a\", \"b\"]\n";
    let stack =
        builder(&[("a", provides), ("b", all(&second))], text).var("CACHE", "none").build().await.unwrap();
    assert_eq!(told(&stack, "hobbes", "hobbes").await, "b");
    let before = first.asked();
    assert_eq!(told(&stack, "hobbes", "hobbes").await, "b");
    assert_eq!(first.asked(), before);
}

#[tokio::test]
async fn expire_and_flush_make_sources_be_asked_again() {
    for (cache, forget) in remembering().flat_map(|cache| [(cache, false), (cache, true)]) {
        let (source, provides) = counted("app");
        let stack = builder(&[("app", provides)], "").var("CACHE", cache).build().await.unwrap();
        let realm = stack.realm("default").unwrap();
        let person = who(&stack, "calvin").await;
        let (login, doc) = (person.login().clone(), object("doc", 1));
        let ask = async || {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "app");
            realm.groups(&Ctx::new(), &person).await.unwrap();
            realm.access(&Ctx::new(), &person, &doc, None).await.unwrap();
            let counts = source.counts();
            [counts.account, counts.groups_of, counts.access]
        };
        let mut before = ask().await;
        assert_eq!(ask().await, before);
        for (subject, asked) in [
            (Subject::Login(&login), [1, 1, 1]),
            (Subject::Object { realm: realm.id(), object: &doc }, [0, 0, 1]),
            (Subject::Groups(realm.id()), [0, 1, 1]),
            (Subject::Realm(realm.id()), [1, 1, 1]),
            (Subject::All, [1, 1, 1]),
        ] {
            if forget {
                stack.flush(&subject)
            } else {
                stack.expire(&subject)
            }
            let now = ask().await;
            let more: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
            assert_eq!(more, asked, "{cache} {subject:?}");
            before = now;
        }
    }
}

#[tokio::test]
async fn whoever_a_deny_source_knows_is_refused_wherever_it_stands() {
    for cache in caches() {
        let (_, provides) = counted("app");
        let leavers = one("leavers", "susie", 55, "calvin");
        let text = "role = \"deny\"\n[realm.default]\npassword = [\"app\", \"leavers\"]\n";
        let stack = builder(&[("app", provides), ("leavers", all(&leavers))], text)
            .var("CACHE", cache)
            .build()
            .await
            .unwrap();
        for _ in 0..2 {
            let (cost, verdict) = jobs(&stack, told(&stack, "susie", "derkins")).await;
            assert_eq!((cost, verdict.as_str()), (1, "disabled"), "{cache}");
            // Not even with the password on the list.
            assert_eq!(told(&stack, "susie", "hobbes").await, "disabled", "{cache}");
            assert_eq!(told(&stack, "calvin", "hobbes").await, "app", "{cache}");
        }
    }
}

#[tokio::test]
async fn users_are_not_written_to_a_list_of_people_to_refuse() {
    let (leavers, app) = (common::Slow::new("leavers"), common::Slow::new("app"));
    let sources = [("app", app.provides()), ("leavers", leavers.provides())];
    let text = "role = \"deny\"\n[realm.default]\npassword = [\"leavers\", \"app\"]\n";
    let stack = builder(&sources, text).build().await.unwrap();
    assert_eq!(&**auth_core::Directory::source(&**stack.directory("default").unwrap()).name(), "app");
}

#[tokio::test]
async fn an_old_hash_is_upgraded_once_and_the_next_login_works() {
    for cache in caches() {
        let (source, provides) = counted("app");
        let text = "[password]\nargon2 = { memory_kib = 64, passes = 1 }\n[source.app]\nkind = \"given\"\n";
        let stack = builder(&[("app", provides)], "").config(text).var("CACHE", cache).build().await.unwrap();
        assert_eq!(told(&stack, "calvin", "wrong").await, "bad_password");
        assert_eq!(source.counts().replace_hash, 0);
        for _ in 0..3 {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "app", "{cache}");
            assert_eq!(told(&stack, "calvin", "wrong").await, "bad_password", "{cache}");
        }
        assert_eq!(source.counts().replace_hash, 1, "{cache}");
        let login = World::user("calvin").login_in(&auth_testkit::realm());
        let account =
            auth_core::AccountSource::account(&**source.inner(), &Ctx::new(), &login).await.unwrap();
        let account = account.found().unwrap();
        assert!(account.hash().unwrap().as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
    }
}

#[tokio::test]
async fn realms_are_apart_though_logins_and_sources_are_the_same() {
    for cache in caches() {
        let (a, b) = (one("a", "calvin", 1, "calvin"), one("b", "calvin", 1, "susie"));
        a.join("calvin", "tigers");
        let text = "[realm.one]\npassword = [\"a\"]\ngroups = [\"a\"]\n[realm.two]\npassword = [\"b\"]\ngroups = [\"b\"]\n";
        let stack =
            builder(&[("a", all(&a)), ("b", all(&b))], text).var("CACHE", cache).build().await.unwrap();
        let (one, two) = (stack.realm("one").unwrap(), stack.realm("two").unwrap());
        for _ in 0..2 {
            let log_in = async |realm: &auth_core::Realm, password: &str| {
                realm.attempt(&Ctx::new(), "calvin", password.as_bytes().to_vec()).await.unwrap()
            };
            let Verdict::Accepted(first) = log_in(one, "hobbes").await else { panic!("calvin of one") };
            let Verdict::Accepted(second) = log_in(two, "derkins").await else { panic!("calvin of two") };
            assert_eq!(log_in(one, "derkins").await, Verdict::Rejected(Reject::BadPassword), "{cache}");
            assert_eq!(log_in(two, "hobbes").await, Verdict::Rejected(Reject::BadPassword), "{cache}");
            assert_eq!(one.is_member(&Ctx::new(), &first, "tigers").await.unwrap(), Member::Yes);
            assert_eq!(two.is_member(&Ctx::new(), &second, "tigers").await.unwrap(), Member::No);
            // A person of one realm is nobody in the other.
            let error = two.is_member(&Ctx::new(), &first, "tigers").await.unwrap_err();
            assert_eq!(error.kind(), auth_core::ErrorKind::Invalid);
        }
    }
}

#[tokio::test]
async fn realms_with_different_rules_share_a_source_and_no_entry() {
    for cache in caches() {
        let store = Arc::new(MemoryStore::empty("app"));
        store.add_user("Calvin", Id::from(1), World::user("calvin").stored_hash());
        let text =
            "[realm.default]\npassword = [\"app\"]\n[realm.exact]\npassword = [\"app\"]\nlogin = \"exact\"\n";
        let stack = builder(&[("app", all(&store))], text).var("CACHE", cache).build().await.unwrap();
        let exact = stack.realm("exact").unwrap();
        for _ in 0..2 {
            for login in ["calvin", "Calvin", "CALVIN"] {
                assert_eq!(told(&stack, login, "hobbes").await, "app", "{cache} {login}");
                let verdict = exact.attempt(&Ctx::new(), login, b"hobbes".to_vec()).await.unwrap();
                let accepted = matches!(verdict, Verdict::Accepted(_));
                assert_eq!(accepted, login == "Calvin", "{cache} {login}");
            }
        }
    }
}

#[tokio::test]
async fn reports_name_every_source_and_cache_once() {
    let (_, provides) = counted("app");
    let spare = one("spare", "calvin", 1, "calvin");
    let text = "[realm.default]\npassword = [\"app\"]\ngroups = [\"app\"]\nobjects = { \"*\" = \"app\", doc = \"app\" }\n";
    let stack = builder(&[("app", provides), ("spare", all(&spare))], text).build().await.unwrap();
    let sources: Vec<_> =
        stack.sources().into_iter().map(|source| (source.name, source.used, source.health.up)).collect();
    assert_eq!(sources, [("app".to_owned(), true, None), ("spare".to_owned(), false, None)]);
    let mut caches: Vec<_> =
        stack.caches().into_iter().map(|(_, report)| (report.source.to_string(), report.kind)).collect();
    caches.sort();
    let app = || "app".to_owned();
    assert_eq!(caches, [(app(), "access"), (app(), "accounts"), (app(), "groups")]);
    assert!(stack.probe().await.iter().all(|report| report.is_up() && report.health.up == Some(true)));
    // With no cache there is none to report.
    let (_, provides) = counted("app");
    let stack = builder(&[("app", provides)], "").var("CACHE", "none").build().await.unwrap();
    assert!(stack.caches().is_empty());
}

#[tokio::test]
async fn an_unreadable_hash_is_an_error_and_stays_one() {
    for cache in caches() {
        let store = Arc::new(MemoryStore::empty("app"));
        store.add_user("calvin", Id::from(1), Some(hash("$nobody$can$read$this")));
        store.add_user("moe", Id::from(2), Some(hash("{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=")));
        let stack = builder(&[("app", all(&store))], "").var("CACHE", cache).build().await.unwrap();
        for _ in 0..2 {
            assert_eq!(told(&stack, "calvin", "hobbes").await, "error corrupt");
            // Weak, and not accepted.
            assert_eq!(told(&stack, "moe", "123456").await, "error misconfigured");
        }
    }
}

#[tokio::test]
async fn explanations_name_every_step_and_no_secret() {
    let (_, provides) = counted("app");
    let stack = builder(&[("app", provides)], "").build().await.unwrap();
    let record = Arc::new(Record::explaining());
    let ctx = Ctx::new().with_record(Arc::clone(&record));
    let realm = stack.realm("default").unwrap();
    realm.attempt(&ctx, "calvin", b"hobbes-the-tiger".to_vec()).await.unwrap();
    let steps = format!("{:?}", record.steps());
    assert!(steps.contains("mismatch") && steps.contains("app"), "{steps}");
    assert!(!steps.contains("hobbes-the-tiger") && !steps.contains("$2b$"), "{steps}");
}
