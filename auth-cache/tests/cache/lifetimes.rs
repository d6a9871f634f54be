//! How long answers live, how many are kept, what is counted.

use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Bound, Cached, Reports, Settings, Ttls};
use auth_core::{
    Access, AccountSource, CacheUse, Clock, Ctx, Freshness, GroupOracle, Id, LoginRule, Lookup, Member,
    ObjectPerms, Record,
};
use auth_testkit::{CountingSource, MemoryStore, login, object, principal, principal_at, realm_with};

use crate::helpers::{Bed, seconds, tables};

type Counted = CountingSource<MemoryStore>;

struct Place {
    bed: Bed,
    store: Arc<MemoryStore>,
    source: Arc<Counted>,
    accounts: Arc<Cached<dyn AccountSource>>,
    groups: Arc<Cached<dyn GroupOracle>>,
    access: Arc<Cached<dyn ObjectPerms>>,
}

impl Place {
    fn new(settings: Settings) -> Self {
        let bed = Bed::with(settings);
        let store = Arc::new(MemoryStore::new());
        let source = Arc::new(CountingSource::new(Arc::clone(&store)));
        let (accounts, groups, access) = (bed.accounts(&source), bed.groups(&source), bed.access(&source));
        Self { bed, store, source, accounts, groups, access }
    }

    /// Asks for an account and tells how many questions that cost.
    async fn account(&self, text: &str) -> (bool, u64) {
        let before = self.source.counts().account;
        let found = self.accounts.account(&Ctx::new(), &login(text)).await.unwrap();
        (found.found().is_some(), self.source.counts().account - before)
    }

    async fn groups(&self, text: &str) -> u64 {
        let before = self.source.counts().groups_of;
        self.groups.groups_of(&Ctx::new(), &principal(text)).await.unwrap();
        self.source.counts().groups_of - before
    }

    async fn access(&self, id: i64) -> (Access, u64) {
        let before = self.source.counts().access;
        let (who, object) = (principal("calvin"), object("doc", id));
        let access = self.access.access(&Ctx::new(), &who, &object, Some("read")).await.unwrap();
        (access, self.source.counts().access - before)
    }
}

fn each_kind(settings: impl Fn(Settings) -> Settings) -> Vec<Place> {
    tables().into_iter().map(|(_, table)| Place::new(settings(Settings::new(table)))).collect()
}

#[tokio::test]
async fn each_kind_of_answer_has_its_own_lifetime() {
    for place in each_kind(|settings| settings) {
        // Ten percent are left to jitter.
        let pass = |n| place.bed.clock.advance(seconds(n));
        assert_eq!((place.account("calvin").await, place.groups("calvin").await), ((true, 1), 1));
        assert_eq!((place.access(1).await, place.access(2).await), ((Access::Allow, 1), (Access::Deny, 1)));
        assert_eq!(place.account("nobody").await, (false, 1));
        assert_eq!(place.access(3).await, (Access::NotFound, 1));

        pass(13);
        assert_eq!(place.account("nobody").await, (false, 0));
        assert_eq!(place.access(3).await, (Access::NotFound, 1), "not kept by default");
        pass(2);
        assert_eq!(place.account("nobody").await, (false, 1), "unknown: 15 s");
        pass(11);
        assert_eq!((place.access(1).await, place.access(2).await), ((Access::Allow, 0), (Access::Deny, 0)));
        pass(4);
        assert_eq!((place.access(1).await.1, place.access(2).await.1), (1, 1), "allow and deny: 30 s");
        pass(23);
        assert_eq!((place.account("calvin").await, place.groups("calvin").await), ((true, 0), 0));
        pass(7);
        assert_eq!((place.account("calvin").await, place.groups("calvin").await), ((true, 1), 1), "60 s");
    }
}

#[tokio::test]
async fn reading_does_not_renew() {
    for place in each_kind(|settings| settings) {
        place.account("calvin").await;
        for _ in 0..53 {
            place.bed.clock.advance(seconds(1));
            assert_eq!(place.account("calvin").await, (true, 0));
        }
        place.bed.clock.advance(seconds(7));
        assert_eq!(place.account("calvin").await, (true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_when_the_source_was_asked() {
    use crate::helpers::{ALL, Scene, old, soon};
    for what in ALL {
        let bed = Bed::new();
        let scene = Scene::new(&bed);
        let asked = scene.spawn(what, Ctx::new());
        let question = soon(scene.store.next_question()).await;
        bed.clock.advance(seconds(4));
        question.answer(old(what));
        soon(asked).await.unwrap().unwrap();
        let young = |age| Ctx::new().with_freshness(Freshness::MaxAge(seconds(age)));
        assert_eq!(scene.peek(what, &young(3)), None, "{what:?}");
        assert_eq!(scene.peek(what, &young(4)).as_deref(), Some("old"), "{what:?}");
        assert_eq!(scene.peek(what, &Ctx::new().with_freshness(Freshness::Fresh)), None, "{what:?}");
    }
}

#[tokio::test]
async fn a_lowered_lifetime_acts_at_once_on_what_is_kept() {
    for place in each_kind(|settings| settings) {
        place.account("calvin").await;
        place.groups("calvin").await;
        place.bed.clock.advance(seconds(10));
        let lifetimes = &place.bed.settings.lifetimes;
        lifetimes.set(Ttls { groups: seconds(5), ..Ttls::default() });
        assert_eq!(lifetimes.get().groups, seconds(5));
        assert_eq!((place.account("calvin").await, place.groups("calvin").await), ((true, 0), 1));
        lifetimes.set(Ttls::default().with_ttl(Duration::ZERO));
        assert_eq!((place.account("calvin").await, place.groups("calvin").await), ((true, 1), 1));
    }
}

#[tokio::test]
async fn lowered_lifetimes_end_what_is_kept_of_allow_deny_nobody_and_nothing() {
    let before = Ttls { not_found: seconds(60), ..Ttls::default().with_ttl(seconds(60)) };
    let before = Ttls { unknown: seconds(60), ..before };
    let five = seconds(5);
    for (lowered, asked) in [
        (before, [0, 0, 0, 0, 0]),
        (Ttls { allow: five, ..before }, [1, 0, 0, 0, 0]),
        (Ttls { deny: five, ..before }, [0, 1, 0, 0, 0]),
        (Ttls { not_found: five, ..before }, [0, 0, 1, 0, 0]),
        // Nobody's account, and nobody's groups.
        (Ttls { unknown: five, ..before }, [0, 0, 0, 1, 1]),
    ] {
        for place in each_kind(|settings| settings.with_ttls(before)) {
            let nobody = principal_at("memory", "nobody", Id::from(404));
            let ask = async || {
                let groups = place.source.counts().groups_of;
                place.groups.groups_of(&Ctx::new(), &nobody).await.unwrap();
                let groups = place.source.counts().groups_of - groups;
                let rights = [place.access(1).await, place.access(2).await, place.access(3).await];
                let account = place.account("nobody").await;
                assert_eq!(rights.map(|(access, _)| access), [Access::Allow, Access::Deny, Access::NotFound]);
                [rights[0].1, rights[1].1, rights[2].1, account.1, groups]
            };
            assert_eq!(ask().await, [1; 5]);
            place.bed.clock.advance(seconds(10));
            place.bed.settings.lifetimes.set(lowered);
            assert_eq!(ask().await, asked, "{lowered:?}");
        }
    }
}

#[tokio::test]
async fn the_time_of_day_changes_nothing() {
    let place = Place::new(Settings::default());
    place.account("calvin").await;
    let now = place.bed.clock.wall();
    for wall in [now + seconds(3600), now - seconds(3600)] {
        place.bed.clock.set_wall(wall);
        assert_eq!(place.account("calvin").await, (true, 0));
    }
    place.bed.clock.advance(seconds(60));
    assert_eq!(place.account("calvin").await, (true, 1));
}

#[tokio::test]
async fn with_a_lifetime_of_zero_each_question_reaches_the_source() {
    let none = Ttls { not_found: Duration::ZERO, ..Ttls::default() }.with_ttl(Duration::ZERO);
    for place in each_kind(|settings| settings.with_ttls(none)) {
        for _ in 0..3 {
            assert_eq!(place.account("calvin").await, (true, 1));
            assert_eq!(place.account("nobody").await, (false, 1));
            assert_eq!(place.groups("calvin").await, 1);
            assert_eq!(place.access(1).await, (Access::Allow, 1));
        }
        assert_eq!(place.accounts.report().stats.entries, 0);
    }
}

#[tokio::test]
async fn a_newer_no_ends_an_older_yes_and_a_newer_yes_an_older_no() {
    let fresh = Ctx::new().with_freshness(Freshness::Fresh);
    for unknown in [seconds(0), seconds(15)] {
        for place in each_kind(|settings| settings.with_ttls(Ttls { unknown, ..Ttls::default() })) {
            assert_eq!(place.account("calvin").await, (true, 1));
            place.store.remove_user("calvin");
            place.accounts.account(&fresh, &login("calvin")).await.unwrap();
            assert!(!place.account("calvin").await.0, "{unknown:?}");
            place.store.add_user("calvin", Id::from(1), None);
            place.accounts.account(&fresh, &login("calvin")).await.unwrap();
            assert_eq!(place.account("calvin").await, (true, 0), "{unknown:?}");
            assert_eq!(place.accounts.report().stats.entries, 1);
        }
    }
}

#[tokio::test]
async fn a_flood_of_unknown_names_evicts_nobody() {
    for place in each_kind(|settings| settings.with_size(800)) {
        if place.accounts.report().stats.bound.is_none() {
            // `dict` keeps everything.
            continue;
        }
        for n in 0..500 {
            place.store.add_user(&format!("user{n}"), Id::from(n + 100), None);
            assert_eq!(place.account(&format!("user{n}")).await, (true, 1));
        }
        for n in 0..5_000 {
            assert_eq!(place.account(&format!("stranger{n}")).await, (false, 1));
        }
        for n in 0..500 {
            assert_eq!(place.account(&format!("user{n}")).await, (true, 0), "user{n}");
        }
        let stats = place.accounts.report().stats;
        assert!(stats.entries <= 900 && stats.bound == Some(Bound::Entries(900)), "{stats:?}");
        assert!(stats.evictions >= 4_900, "{stats:?}");
    }
}

#[tokio::test]
async fn room_for_none_or_one_is_enough_to_be_right() {
    for size in [0, 1] {
        for place in each_kind(|settings| settings.with_size(size)) {
            if place.accounts.report().stats.bound.is_none() {
                // `dict` keeps everything.
                continue;
            }
            let asked = 1 - u64::try_from(size).unwrap();
            assert_eq!(place.account("calvin").await, (true, 1));
            assert_eq!(place.account("calvin").await, (true, asked));
            assert_eq!(place.account("nobody").await, (false, 1));
            assert_eq!(place.account("nobody").await, (false, asked));
            assert_eq!(place.account("susie").await, (true, 1));
            // `lfu` may have kept him rather than her, since he was asked for more often.
            let (known, asked) = place.account("calvin").await;
            assert!(known && (asked == 1 || size == 1), "{asked} questions");
            assert!(place.accounts.report().stats.entries <= 2 * u64::try_from(size).unwrap());
        }
    }
}

#[tokio::test]
async fn two_realms_share_nothing() {
    for place in each_kind(|settings| settings) {
        let (ctx, cached) = (Ctx::new(), &place.accounts);
        let logins = ["a", "b"].map(|realm| {
            auth_core::Login::parse(&realm_with(realm, LoginRule::CaseMapped), "calvin").unwrap()
        });
        for login in &logins {
            assert!(cached.peek_account(&ctx, login).is_none());
            let Lookup::Found(account) = cached.account(&ctx, login).await.unwrap() else { panic!("calvin") };
            assert_eq!(account.principal().login(), login);
        }
        for login in &logins {
            let account = cached.peek_account(&ctx, login).and_then(Lookup::found).unwrap();
            assert_eq!(account.principal().login(), login);
        }
        assert_eq!(place.source.counts().account, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn loads_of_two_realms_never_join_though_login_source_and_id_are_the_same() {
    use crate::helpers::{Scene, What, doc, new, old, soon};
    for (_, table) in tables() {
        for what in crate::helpers::ALL {
            let scene = Scene::new(&Bed::with(Settings::new(Arc::clone(&table))));
            let ask = |realm: &str| {
                let login =
                    auth_core::Login::parse(&realm_with(realm, LoginRule::CaseMapped), "calvin").unwrap();
                let info = auth_testkit::info("app");
                let who = auth_core::Principal::found(&info, &login, "calvin", Id::from(1)).unwrap();
                let (scene, ctx) = (scene.clone(), Ctx::new());
                tokio::spawn(async move {
                    match what {
                        What::Account => scene.account(&ctx, &login).await.unwrap(),
                        What::Groups => format!("{:?}", scene.groups.groups_of(&ctx, &who).await.unwrap()),
                        What::Access => {
                            format!(
                                "{:?}",
                                scene.access.access(&ctx, &who, &doc(), Some("read")).await.unwrap()
                            )
                        }
                    }
                })
            };
            let first = ask("default");
            let one = soon(scene.store.next_question()).await;
            let second = ask("elsewhere");
            let other = soon(scene.store.next_question()).await;
            assert_eq!((scene.store.asked(), scene.report(what).coalesced), (2, 0), "{what:?}");
            one.answer(old(what));
            other.answer(new(what));
            assert_ne!(soon(first).await.unwrap(), soon(second).await.unwrap(), "{what:?}");
        }
    }
}

#[tokio::test]
async fn explain_tells_the_age_of_every_kind_of_hit() {
    for place in each_kind(|settings| settings) {
        let record = Arc::new(Record::explaining());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let (who, doc) = (principal("calvin"), object("doc", 1));
        for _ in 0..2 {
            for name in ["calvin", "nobody"] {
                place.accounts.account(&ctx, &login(name)).await.unwrap();
            }
            place.groups.groups_of(&ctx, &who).await.unwrap();
            place.access.access(&ctx, &who, &doc, None).await.unwrap();
            place.bed.clock.advance(seconds(7));
        }
        assert!(place.access.peek_access(&ctx, &who, &doc, None).is_some());
        let ages: Vec<_> = record.steps().iter().map(|step| step.age).collect();
        let (none, seven) = (None, Some(seconds(7)));
        assert_eq!(ages, [none, none, none, none, seven, seven, seven, seven, Some(seconds(14))]);
    }
}

#[tokio::test]
async fn ids_of_another_type_or_another_source_are_other_people() {
    for place in each_kind(|settings| settings) {
        let people = [
            principal_at("memory", "calvin", Id::from(1)),
            principal_at("memory", "calvin", Id::from("1")),
            principal_at("staff", "calvin", Id::from(1)),
        ];
        let mut answers = Vec::new();
        for _ in 0..2 {
            for who in &people {
                answers.push(place.groups.groups_of(&Ctx::new(), who).await.unwrap().found().is_some());
            }
        }
        assert_eq!(answers, [true, false, false, true, false, false]);
        assert_eq!(place.source.counts().groups_of, 3);
        let (who, one) = (principal("calvin"), object("doc", 1));
        let text = auth_core::ObjectRef::new("doc", [Id::from("1")]).unwrap();
        for _ in 0..2 {
            let ask =
                async |object, mode| place.access.access(&Ctx::new(), &who, object, mode).await.unwrap();
            assert_eq!(ask(&one, Some("read")).await, Access::Allow);
            assert_eq!(ask(&one, Some("own")).await, Access::Deny);
            assert_eq!(ask(&one, None).await, Access::Allow);
            assert_eq!(ask(&text, Some("read")).await, Access::NotFound);
        }
    }
}

#[tokio::test]
async fn one_list_answers_for_every_group() {
    for place in each_kind(|settings| settings) {
        for (group, member) in [("staff", Member::Yes), ("admin", Member::Yes), ("ghosts", Member::No)] {
            let answer = place.groups.is_member(&Ctx::new(), &principal("calvin"), group).await.unwrap();
            assert_eq!(answer, member, "{group}");
        }
        let counts = place.source.counts();
        assert_eq!((counts.groups_of, counts.is_member), (1, 0));
    }
}

#[tokio::test]
async fn what_happened_is_counted_and_told() {
    for place in each_kind(|settings| settings.with_size(800)) {
        let ask = async |text: &str| {
            let record = Arc::new(Record::explaining());
            let ctx = Ctx::new().with_record(Arc::clone(&record));
            place.accounts.account(&ctx, &login(text)).await.unwrap();
            let [step] = &record.steps()[..] else { panic!("one step") };
            assert_eq!((step.part, step.source.as_deref()), ("cache", Some("memory")));
            (record.cache(), step.outcome.clone(), step.age)
        };
        let miss = |outcome: &str| (CacheUse::Miss, outcome.to_owned(), None);
        let hit = |age| (CacheUse::Hit, "accounts: hit".to_owned(), Some(seconds(age)));
        assert_eq!(ask("calvin").await, miss("accounts: miss"));
        assert_eq!(ask("nobody").await, miss("accounts: miss"));
        place.bed.clock.advance(seconds(3));
        assert_eq!(ask("calvin").await, hit(3));
        assert_eq!(ask("nobody").await, hit(3));
        place.bed.clock.advance(seconds(60));
        assert_eq!(ask("calvin").await, miss("accounts: expired"));
        place.bed.fence.invalidate(&auth_core::Subject::Login(&login("calvin")));
        assert_eq!(ask("calvin").await, miss("accounts: invalidated"));
        assert!(place.accounts.peek_account(&Ctx::new(), &login("calvin")).is_some());

        let report = place.accounts.report();
        assert_eq!((&*report.source, report.kind), ("memory", "accounts"));
        assert_eq!((place.groups.report().kind, place.access.report().kind), ("groups", "access"));
        let stats = report.stats;
        assert_eq!((stats.hits, stats.negative_hits, stats.misses, stats.coalesced), (3, 1, 4, 0));
        assert_eq!((stats.loads, stats.load_errors, stats.expired, stats.voided), (4, 0, 1, 1));
        assert_eq!((stats.entries, stats.evictions), (2, 0));
        assert!(stats.bound.is_none_or(|bound| bound == Bound::Entries(900)), "{stats:?}");
        assert_eq!((stats.ages.max(), stats.load_time), (seconds(3), Duration::ZERO));
    }
}
