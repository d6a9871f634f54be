//! Readers, polled by hand: only when they were woken, in the order in which they began.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use auth_core::{
    BoxFuture, CacheUse, Clock, Ctx, Error, ErrorKind, Freshness, Lookup, Moment, Record, Result, TokenCache,
};

use super::{Board, Cast, Said, Setup, Tested, What};
use crate::ManualClock;

/// What a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// One subject, as fresh as this.
    One(usize, Freshness),
    /// Several rights of one person, in one question.
    Many,
}

/// What a reader is told about each subject.
pub(crate) type Told = Vec<(usize, Result<Said>)>;

pub(crate) struct Reader {
    pub(crate) wish: Wish,
    /// The step in which it began, and when.
    pub(crate) began: u64,
    pub(crate) at: Moment,
    record: Arc<Record>,
    woken: Arc<Woken>,
    waker: Waker,
    // Gone once it has ended or was dropped.
    asking: Option<BoxFuture<Told>>,
}

/// A reader that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reader: usize,
    pub(crate) wish: Wish,
    pub(crate) began: u64,
    pub(crate) at: Moment,
    pub(crate) stale: bool,
    pub(crate) told: Told,
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
pub(crate) struct Readers {
    readers: Vec<Reader>,
}

impl Readers {
    /// Begins a reader, which is polled when the run settles. Returns its number.
    pub(crate) fn begin(&mut self, tested: &Tested, setup: &Setup, wish: Wish, step: u64) -> usize {
        let record = Arc::new(Record::new());
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let at = setup.clock.now();
        let asking = Some(asking(tested, setup, wish, Arc::clone(&record)));
        self.readers.push(Reader { wish, began: step, at, record, woken, waker, asking });
        self.readers.len() - 1
    }

    /// Returns those that wait.
    pub(crate) fn waiting(&self) -> Vec<usize> {
        let waiting = self.readers.iter().enumerate().filter(|(_, reader)| reader.asking.is_some());
        waiting.map(|(number, _)| number).collect()
    }

    /// Reports whether somebody waits for this subject.
    pub(crate) fn wait_for(&self, subject: usize) -> bool {
        self.readers.iter().any(|reader| {
            reader.asking.is_some()
                && match reader.wish {
                    Wish::One(of, _) => of == subject,
                    Wish::Many => subject != 1,
                }
        })
    }

    /// Drops a reader that waits.
    pub(crate) fn leave(&mut self, number: usize) -> bool {
        self.readers.get_mut(number).and_then(|reader| reader.asking.take()).is_some()
    }

    fn poll_woken(&mut self, ended: &mut Vec<Ended>) -> bool {
        let mut any = false;
        for (number, reader) in self.readers.iter_mut().enumerate() {
            let Some(asking) = &mut reader.asking else { continue };
            if !reader.woken.0.swap(false, Ordering::SeqCst) {
                continue;
            }
            any = true;
            let mut cx = Context::from_waker(&reader.waker);
            // A source that panics may take its askers along where nothing stands between.
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(asking).poll(&mut cx)));
            let told = match polled {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(told)) => told,
                Err(_) => vec![(subject_of(reader.wish), Err(Error::new(ErrorKind::Internal, "a panic")))],
            };
            reader.asking = None;
            ended.push(Ended {
                reader: number,
                wish: reader.wish,
                began: reader.began,
                at: reader.at,
                stale: reader.record.cache() == CacheUse::Stale,
                told,
            });
        }
        any
    }
}

const fn subject_of(wish: Wish) -> usize {
    match wish {
        Wish::One(subject, _) => subject,
        Wish::Many => 0,
    }
}

/// Lets everything go on that can: readers that were woken, and the tasks of the runtime.
pub(crate) async fn settle(readers: &mut Readers, turns: u32) -> Vec<Ended> {
    let mut ended = Vec::new();
    let mut quiet = 0;
    while quiet < 2 + turns {
        quiet = if readers.poll_woken(&mut ended) { 0 } else { quiet + 1 };
        // One yield runs every task that is ready, and what these make ready.
        tokio::task::yield_now().await;
    }
    ended
}

fn asking(tested: &Tested, setup: &Setup, wish: Wish, record: Arc<Record>) -> BoxFuture<Told> {
    let cast = Arc::clone(&setup.cast);
    let (subject, freshness) = match wish {
        Wish::One(subject, freshness) => (subject, freshness),
        Wish::Many => (0, Freshness::Any),
    };
    let ctx = Ctx::new().with_freshness(freshness).with_record(record);
    let kind = tested.kind();
    match tested.what.clone() {
        What::Accounts(cache) => Box::pin(async move {
            let answer = cache.account(&ctx, cast.person(kind, subject).login()).await;
            vec![(subject, answer.map(|answer| cast.read_account(subject, &answer)))]
        }),
        What::Groups(cache) => Box::pin(async move {
            let answer = cache.groups_of(&ctx, cast.person(kind, subject)).await;
            vec![(subject, answer.map(|answer| cast.read_groups(subject, &answer)))]
        }),
        What::Objects(cache) => Box::pin(async move {
            let who = cast.person(kind, subject);
            if wish != Wish::Many {
                let answer = cache.access(&ctx, who, cast.object(subject), Some("read")).await;
                return vec![(subject, answer.map(Said::Access))];
            }
            let objects = [cast.object(0).clone(), cast.object(2).clone()];
            let answers = cache.access_many(&ctx, who, &objects, Some("read")).await;
            if answers.len() != objects.len() {
                return vec![(0, Ok(Said::Garbage))];
            }
            [0, 2].into_iter().zip(answers).map(|(of, answer)| (of, answer.map(Said::Access))).collect()
        }),
        What::Tokens(cache) => {
            let asker = Asker {
                cache,
                cast,
                board: Arc::clone(&setup.board),
                fence: Arc::clone(&setup.fence),
                clock: Arc::clone(&setup.clock),
                ttl: setup.ttl,
            };
            Box::pin(async move { vec![(subject, asker.state_of(&ctx, subject).await)] })
        }
    }
}

/// Who asks a token cache: looks, and if nothing is there validates the token and puts it.
struct Asker {
    cache: Arc<dyn TokenCache>,
    cast: Arc<Cast>,
    board: Arc<Board>,
    fence: Arc<auth_core::Fence>,
    clock: Arc<ManualClock>,
    ttl: Duration,
}

impl Asker {
    async fn state_of(&self, ctx: &Ctx, subject: usize) -> Result<Said> {
        let id = self.cast.token(subject);
        if ctx.freshness() != Freshness::Fresh
            && let Ok(Lookup::Found(state)) = self.cache.get(ctx, &id).await
        {
            return Ok(self.cast.read_state(subject, &state));
        }
        let watch = self.fence.watch(self.clock.now());
        let versions = self.board.ask(vec![subject]).await?;
        let version = versions.first().copied().unwrap_or_default();
        let state = self.cast.state(subject, version, &self.clock);
        let _ = self.cache.put(ctx, &id, &state, self.ttl, watch).await;
        Ok(self.cast.read_state(subject, &state))
    }
}

/// Asks from memory, for what is there at once.
pub(crate) fn peek(tested: &Tested, cast: &Cast, subject: usize, record: Arc<Record>) -> Option<Said> {
    let ctx = Ctx::new().with_record(record);
    let who = cast.person(tested.kind(), subject);
    match &tested.what {
        What::Accounts(cache) => {
            cache.peek_account(&ctx, who.login()).map(|answer| cast.read_account(subject, &answer))
        }
        What::Groups(cache) => cache.peek_groups(&ctx, who).map(|answer| cast.read_groups(subject, &answer)),
        What::Objects(cache) => {
            cache.peek_access(&ctx, who, cast.object(subject), Some("read")).map(Said::Access)
        }
        What::Tokens(cache) => cache
            .peek_token(&ctx, &cast.token(subject))
            .and_then(Lookup::found)
            .map(|state| cast.read_state(subject, &state)),
    }
}
