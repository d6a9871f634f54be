//! Many rights at once: one question for all that is not known.

use std::sync::Arc;

use auth_cache::{Reports, Settings, Ttls};
use auth_core::{Access, Ctx, ErrorKind, Freshness, ObjectPerms, ObjectRef, Result, Subject};
use auth_testkit::{
    Answer, CountingSource, MemoryStore, MiscountingStore, Mode, ScriptedStore, info, object, principal,
};

use crate::helpers::{Bed, calvin, seconds, soon, until};

fn docs(ids: &[i64]) -> Vec<ObjectRef> {
    ids.iter().map(|id| object("doc", *id)).collect()
}

fn kinds(answers: &[Result<Access>]) -> Vec<std::result::Result<Access, ErrorKind>> {
    answers.iter().map(|answer| answer.clone().map_err(|error| error.kind())).collect()
}

#[tokio::test]
async fn only_what_is_not_known_is_asked_and_all_in_one_question() {
    let bed = Bed::new();
    let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
    let (cached, ctx, who) = (bed.access(&source), Ctx::new(), principal("calvin"));
    cached.access(&ctx, &who, &object("doc", 2), Some("read")).await.unwrap();
    let objects = [docs(&[3, 2, 1, 1]), vec![object("planet", 1)]].concat();
    for round in 1..=2 {
        let answers = cached.access_many(&ctx, &who, &objects, Some("read")).await;
        let expected = [
            Ok(Access::NotFound),
            Ok(Access::Deny),
            Ok(Access::Allow),
            Ok(Access::Allow),
            Err(ErrorKind::Invalid),
        ];
        assert_eq!(kinds(&answers), expected, "round {round}");
        assert_eq!(source.counts().access_many, round, "neither errors nor 'no such object' are kept");
    }
    let answers = cached.access_many(&ctx, &who, &docs(&[1, 2]), Some("read")).await;
    assert_eq!(kinds(&answers), [Ok(Access::Allow), Ok(Access::Deny)]);
    assert!(cached.access_many(&ctx, &who, &[], None).await.is_empty());
    let counts = source.counts();
    assert_eq!((counts.access, counts.access_many), (1, 2));
    let fresh = ctx.clone().with_freshness(Freshness::Fresh);
    cached.access_many(&fresh, &who, &docs(&[1, 2]), Some("read")).await;
    assert_eq!(source.counts().access_many, 3);
}

#[tokio::test(start_paused = true)]
async fn batches_share_loads_with_each_other_and_with_single_questions() {
    let bed = Bed::new();
    let store = Arc::new(ScriptedStore::new(info("app")));
    let source = Arc::new(CountingSource::new(Arc::clone(&store)));
    let cached = bed.access(&source);
    let many = |ids: &'static [i64]| {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { cached.access_many(&Ctx::new(), &calvin(), &docs(ids), None).await })
    };
    let one = |id: i64| {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { cached.access(&Ctx::new(), &calvin(), &object("doc", id), None).await })
    };
    let stats = || cached.report().stats;
    let batches: Vec<_> = (0..50).map(|_| many(&[1])).collect();
    until(|| stats().coalesced == 49).await;
    let single = one(1);
    until(|| stats().coalesced == 50).await;
    let first = soon(store.next_question()).await;
    // Of what nobody is loading, one question.
    let other = one(2);
    let second = soon(store.next_question()).await;
    let mixed = many(&[3, 2, 1, 4, 3]);
    let third = soon(store.next_question()).await;
    first.answer(Ok(Access::Allow));
    second.answer(Ok(Access::Deny));
    third.answer(Ok(Access::Allow));
    soon(store.next_question()).await.answer(Ok(Access::Deny));
    for batch in batches {
        assert_eq!(kinds(&soon(batch).await.unwrap()), [Ok(Access::Allow)]);
    }
    assert_eq!(soon(single).await.unwrap().unwrap(), Access::Allow);
    assert_eq!(soon(other).await.unwrap().unwrap(), Access::Deny);
    let expected = [Access::Allow, Access::Deny, Access::Allow, Access::Deny, Access::Allow].map(Ok);
    assert_eq!(kinds(&soon(mixed).await.unwrap()), expected);
    let counts = source.counts();
    // One of many is put as one.
    assert_eq!((counts.access_many, counts.access), (1, 2));
    let stats = stats();
    assert_eq!((stats.loads, stats.misses, stats.coalesced, stats.under_way), (3, 57, 52, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_joins_is_told_nothing_older_than_an_answer_from_memory_may_be() {
    let bed = Bed::with(Settings::default().with_ttls(Ttls::default().with_ttl(seconds(1))));
    let store = Arc::new(ScriptedStore::new(info("app")));
    let cached = bed.access(&store);
    let many = |ids: &'static [i64]| {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { cached.access_many(&Ctx::new(), &calvin(), &docs(ids), None).await })
    };
    let first = many(&[1]);
    let question = soon(store.next_question()).await;
    bed.clock.advance(seconds(2));
    let joined = many(&[1, 2]);
    soon(store.next_question()).await.answer(Ok(Access::Allow));
    question.answer(Ok(Access::Allow));
    assert_eq!(kinds(&soon(first).await.unwrap()), [Ok(Access::Allow)]);
    soon(store.next_question()).await.answer(Ok(Access::Deny));
    assert_eq!(kinds(&soon(joined).await.unwrap()), [Ok(Access::Deny), Ok(Access::Allow)]);
    assert_eq!(store.asked(), 3);
}

#[tokio::test]
async fn each_of_many_questions_is_counted_once_and_for_what_it_was() {
    let bed = Bed::new();
    let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
    let (cached, ctx, who) = (bed.access(&source), Ctx::new(), principal("calvin"));
    let ask = |ids: &'static [i64]| {
        let (cached, ctx, who) = (Arc::clone(&cached), ctx.clone(), who.clone());
        async move { cached.access_many(&ctx, &who, &docs(ids), Some("read")).await }
    };
    let counts = || {
        let stats = cached.report().stats;
        (stats.hits, stats.misses, stats.voided, stats.expired)
    };
    ask(&[1]).await;
    assert_eq!(counts(), (0, 1, 0, 0));
    ask(&[1, 2]).await;
    assert_eq!(counts(), (1, 2, 0, 0));
    ask(&[1, 2]).await;
    assert_eq!(counts(), (3, 2, 0, 0));
    bed.fence.invalidate(&Subject::Object { realm: who.realm(), object: &object("doc", 1) });
    ask(&[1, 2]).await;
    assert_eq!(counts(), (4, 3, 1, 0));
    bed.clock.advance(seconds(60));
    ask(&[1, 2]).await;
    assert_eq!(counts(), (4, 5, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn answers_voided_on_their_way_are_not_kept() {
    let bed = Bed::new();
    let store = Arc::new(ScriptedStore::new(info("app")));
    let (cached, ctx, who) = (bed.access(&store), Ctx::new(), calvin());
    let asked = tokio::spawn({
        let (cached, ctx, who) = (Arc::clone(&cached), ctx.clone(), who.clone());
        async move { cached.access_many(&ctx, &who, &docs(&[1, 2]), None).await }
    });
    let question = soon(store.next_question()).await;
    bed.fence.invalidate(&Subject::Object { realm: who.realm(), object: &object("doc", 1) });
    question.answer(Ok(Access::Allow));
    soon(store.next_question()).await.answer(Ok(Access::Allow));
    assert_eq!(kinds(&soon(asked).await.unwrap()), [Ok(Access::Allow); 2]);
    assert_eq!(cached.peek_access(&ctx, &who, &object("doc", 1), None), None);
    assert_eq!(cached.peek_access(&ctx, &who, &object("doc", 2), None), Some(Access::Allow));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_answered_though_the_source_hangs_or_panics() {
    let bed = Bed::new();
    let store = Arc::new(ScriptedStore::new(info("app")));
    let cached = bed.access(&store);
    let many = |ids: &'static [i64], ctx: Ctx| {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { cached.access_many(&ctx, &calvin(), &docs(ids), None).await })
    };
    let first = many(&[1], Ctx::new());
    soon(store.next_question()).await.answer(Ok(Access::Allow));
    soon(first).await.unwrap();

    let panics = many(&[1, 2], Ctx::new());
    soon(store.next_question()).await.answer(Ok(Answer::Replaced(true)));
    assert_eq!(kinds(&soon(panics).await.unwrap()), [Ok(Access::Allow), Err(ErrorKind::Internal)]);

    store.set_mode(Mode::Hangs);
    use auth_core::Clock;
    let hasty = many(&[2, 1], Ctx::new().with_deadline(bed.clock.now() + seconds(1)));
    bed.advance(2, seconds(1)).await;
    assert_eq!(kinds(&soon(hasty).await.unwrap()), [Err(ErrorKind::Timeout), Ok(Access::Allow)]);
    let patient = many(&[2, 1], Ctx::new());
    bed.advance(2, seconds(5)).await;
    assert_eq!(kinds(&soon(patient).await.unwrap()), [Err(ErrorKind::Timeout), Ok(Access::Allow)]);
    until(|| bed.clock.sleepers() == 0).await;
}

#[tokio::test]
async fn a_source_that_answers_too_few_questions_answers_none() {
    let cached = Bed::new().access(&Arc::new(MiscountingStore::new(info("app"), 1)));
    let answers = cached.access_many(&Ctx::new(), &calvin(), &docs(&[1, 2]), None).await;
    assert_eq!(kinds(&answers), [Err(ErrorKind::Internal), Err(ErrorKind::Internal)]);
    assert_eq!(cached.peek_access(&Ctx::new(), &calvin(), &object("doc", 1), None), None);
}
