//! The tools do what a test relies on.

use std::sync::Arc;

use auth_core::{
    Access, AccountSource, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Id, Lookup, Member, ObjectPerms,
    PasswordSource, Verdict,
};
use auth_testkit::{
    Answer, CountingSource, MemoryStore, Mode, Question, ScriptedStore, hash, info, login, object, password,
    principal,
};
use futures_util::{FutureExt, join};

fn kind<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorKind {
    answer.err().map_or(ErrorKind::Internal, |error| error.kind())
}

#[tokio::test]
async fn a_held_question_waits_for_its_answer() {
    let store = ScriptedStore::new(info("app"));
    let (ctx, who) = (Ctx::new(), principal("calvin"));
    let (login, password) = (login("calvin"), password("hobbes"));
    let verdict = Verdict::Accepted(who.clone());

    let (answer, ()) = join!(store.verify(&ctx, &login, &password), async {
        let ask = store.next_question().await;
        assert_eq!(*ask.question(), Question::Verify(login.clone()));
        ask.answer(Ok(verdict.clone()));
    });
    assert_eq!(answer.unwrap(), verdict);

    let staff: GroupSet = ["staff"].into_iter().collect();
    let (answer, ()) = join!(store.groups_of(&ctx, &who), async {
        store.next_question().await.answer(Ok(staff.clone()));
    });
    assert_eq!(answer.unwrap(), Lookup::Found(staff.clone()));

    let (answer, ()) = join!(store.is_member(&ctx, &who, "staff"), async {
        store.next_question().await.answer(Ok(staff.clone()));
    });
    assert_eq!(answer.unwrap(), Member::Yes);

    let object = object("doc", 1);
    let (answer, ()) = join!(store.access(&ctx, &who, &object, Some("read")), async {
        let ask = store.next_question().await;
        assert_eq!(*ask.question(), Question::Access(who.clone(), object.clone(), Some("read".into())));
        ask.answer(Ok(Access::Deny));
    });
    assert_eq!(answer.unwrap(), Access::Deny);

    let (answer, ()) = join!(AccountSource::account(&store, &ctx, &login), async {
        store.next_question().await.answer(Ok(Answer::NotFound));
    });
    assert_eq!(answer.unwrap(), Lookup::NotFound);

    let (answer, ()) = join!(AccountSource::account(&store, &ctx, &login), async {
        store.next_question().await.fail(ErrorKind::Timeout);
    });
    assert_eq!(kind(answer), ErrorKind::Timeout);
    assert_eq!(store.asked(), 6);
}

#[tokio::test]
async fn an_asker_who_leaves_is_seen_and_a_dropped_question_is_an_error() {
    let store = ScriptedStore::new(info("app"));
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    assert!(store.try_question().is_none());
    let mut asked = AccountSource::account(&store, &ctx, &calvin);
    assert!((&mut asked).now_or_never().is_none());
    let mut ask = store.next_question().await;
    assert!(!ask.is_abandoned());
    drop(asked);
    ask.abandoned().await;
    assert!(ask.is_abandoned());

    let (answer, ()) = join!(AccountSource::account(&store, &ctx, &calvin), async {
        drop(store.next_question().await);
    });
    assert_eq!(kind(answer), ErrorKind::Internal);
}

#[tokio::test]
async fn a_script_has_canned_moods() {
    let store = ScriptedStore::in_mode(info("app"), Mode::Hangs);
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    assert!(AccountSource::account(&store, &ctx, &calvin).now_or_never().is_none());
    store.set_mode(Mode::Fails(ErrorKind::Overloaded));
    assert_eq!(kind(AccountSource::account(&store, &ctx, &calvin).await), ErrorKind::Overloaded);
    store.set_mode(Mode::SomebodyElse);
    let other = AccountSource::account(&store, &ctx, &calvin).await.unwrap().found().unwrap();
    assert_ne!(*other.principal().login(), calvin);
    store.set_mode(Mode::Corrupt);
    let unreadable = AccountSource::account(&store, &ctx, &calvin).await.unwrap().found().unwrap();
    assert!(unreadable.hash().is_some());
    assert_eq!(kind(store.groups_of(&ctx, &principal("calvin")).await), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_store_in_memory_follows_every_change() {
    let store = MemoryStore::new();
    let (ctx, who, doc) = (Ctx::new(), principal("calvin"), object("doc", 1));
    let access = async || store.access(&ctx, &who, &doc, Some("write")).await.unwrap();
    let groups = async || store.groups_of(&ctx, &who).await.unwrap().found().unwrap();
    let shown = async |text| store.account(&ctx, &login(text)).await.unwrap();

    assert_eq!(access().await, Access::Allow);
    store.revoke("calvin", &doc, "write");
    assert_eq!(access().await, Access::Deny);
    store.remove_object(&doc);
    assert_eq!(access().await, Access::NotFound);
    store.leave("calvin", "staff");
    assert_eq!(groups().await.iter().collect::<Vec<_>>(), ["admin"]);
    store.set_hash("calvin", Some(hash("new")));
    assert_eq!(shown("calvin").await.found().unwrap().hash(), Some(&hash("new")));
    store.rename("calvin", "kelvin");
    assert_eq!(shown("calvin").await, Lookup::NotFound);
    assert_eq!(shown("kelvin").await.found().unwrap().principal().id(), who.id());
    store.add_user("Kelvin", Id::from(99), None);
    assert_eq!(kind(store.account(&ctx, &login("kelvin")).await), ErrorKind::Ambiguous);
    store.remove_user("kelvin");
    assert_eq!(store.groups_of(&ctx, &who).await.unwrap(), Lookup::NotFound);
}

#[tokio::test]
async fn calls_are_counted_by_method() {
    let store = CountingSource::new(Arc::new(MemoryStore::new()));
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    store.account(&ctx, &calvin).await.unwrap();
    store.account(&ctx, &calvin).await.unwrap();
    assert!(store.peek_account(&ctx, &calvin).is_none());
    store.groups_of(&ctx, &principal("calvin")).await.unwrap();
    let counts = store.counts();
    assert_eq!((counts.account, counts.groups_of, counts.peek, store.asked()), (2, 1, 1, 3));
}
