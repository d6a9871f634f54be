//! Changes that a store tells of, and what its realms remember.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;

use std::sync::{Arc, Mutex};

use auth_core::{
    Access, ChangeEar, ChangeFeed, Changed, Ctx, Id, Listening, Member, ObjectRef, Principal, Result,
};
use auth_stack::{Provides, Stack};
use auth_testkit::object;
use common::{Slow, builder, told, who};

/// A feed that the test speaks through.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<Arc<dyn ChangeEar>>>);

impl Told {
    fn say(&self, what: &Changed) {
        self.each(|ear| ear.changed(std::slice::from_ref(what)));
    }

    fn each(&self, say: impl Fn(&dyn ChangeEar)) {
        self.0.lock().unwrap().iter().for_each(|ear| say(&**ear));
    }
}

#[derive(Debug)]
struct Feed(Arc<Told>);

impl ChangeFeed for Feed {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn follow(&self, ear: Arc<dyn ChangeEar>) -> Result<Listening> {
        ear.back();
        self.0.0.lock().unwrap().push(ear);
        Ok(Listening::new(()))
    }
}

/// A stack whose source tells of changes; nothing in its caches ends by itself.
async fn stack() -> (Arc<Slow>, Arc<Told>, Stack) {
    let (slow, told) = (Slow::new("app"), Arc::new(Told::default()));
    let provides = Provides { feed: Some(Arc::new(Feed(Arc::clone(&told)))), ..slow.provides() };
    let text = "[cache]\nttl = { all = '1h', not_found = '1h', deny = '1h', allow = '1h', unknown = '1h' }\n";
    let stack = builder(&[("app", provides)], text).build().await.unwrap();
    (slow, told, stack)
}

async fn is_staff(stack: &Stack, who: &Principal) -> Member {
    stack.realm("default").unwrap().is_member(&Ctx::new(), who, "night watch").await.unwrap()
}

async fn may(stack: &Stack, who: &Principal, what: &ObjectRef) -> Access {
    stack.realm("default").unwrap().access(&Ctx::new(), who, what, Some("read")).await.unwrap()
}

#[tokio::test]
async fn what_a_store_tells_of_somebody_is_asked_for_anew_and_of_others_is_not() {
    let (slow, feed, stack) = stack().await;
    let (calvin, susie) = (who(&stack, "calvin").await, who(&stack, "susie").await);
    for (by_id, member) in [(false, Member::Yes), (true, Member::No)] {
        is_staff(&stack, &calvin).await;
        is_staff(&stack, &susie).await;
        if member == Member::Yes {
            slow.store.join("calvin", "night watch");
        } else {
            slow.store.leave("calvin", "night watch");
        }
        assert_ne!(is_staff(&stack, &calvin).await, member, "nothing was told yet");
        let asked = slow.asked();
        feed.say(&if by_id { Changed::Id(calvin.id().clone()) } else { Changed::Login("CALVIN".into()) });
        assert_eq!(is_staff(&stack, &calvin).await, member);
        is_staff(&stack, &susie).await;
        assert_eq!(slow.asked(), asked + 1, "susie was not asked for");
    }
}

#[tokio::test]
async fn a_new_password_an_object_and_groups_are_told_of() {
    let (slow, feed, stack) = stack().await;
    assert_eq!(told(&stack, "nobody yet", "x").await, "unknown_user");
    let (calvin, doc) = (who(&stack, "calvin").await, object("doc", 77));
    assert_eq!(may(&stack, &calvin, &doc).await, Access::NotFound);
    slow.store.add_object(&doc);
    slow.store.grant("calvin", &doc, "read");
    assert_eq!(may(&stack, &calvin, &doc).await, Access::NotFound);
    feed.say(&Changed::Object { domain: "doc".into(), id: vec![Id::from("77")] });
    assert_eq!(may(&stack, &calvin, &doc).await, Access::Allow);
    is_staff(&stack, &calvin).await;
    slow.store.join("calvin", "night watch");
    feed.say(&Changed::Groups);
    assert_eq!(is_staff(&stack, &calvin).await, Member::Yes);
    slow.store.leave("calvin", "night watch");
    feed.say(&Changed::All);
    assert_eq!(is_staff(&stack, &calvin).await, Member::No);
}

#[tokio::test]
async fn what_was_missed_while_nobody_heard_is_asked_for_anew_when_somebody_hears_again() {
    let (slow, feed, stack) = stack().await;
    let calvin = who(&stack, "calvin").await;
    is_staff(&stack, &calvin).await;
    feed.each(|ear| ear.lost());
    feed.each(|ear| ear.lost());
    let report = stack.feed("app").unwrap();
    assert_eq!((report.kind, report.hears, report.losses), ("told", false, 1));
    slow.store.join("calvin", "night watch");
    assert_eq!(is_staff(&stack, &calvin).await, Member::No, "lifetimes are the bound now");
    feed.each(|ear| ear.back());
    assert_eq!(is_staff(&stack, &calvin).await, Member::Yes);
    assert!(stack.feed("app").unwrap().hears);
    assert!(stack.feed("nothing").is_none());
}
