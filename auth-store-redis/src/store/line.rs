//! Where the questions to a store go out: each by itself, or where many are being asked together with others.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lost;
use crate::fault;
use crate::queue::{Departure, Queue};
use crate::servers::Servers;

/// The most questions in one request.
const BATCH: usize = 128;

/// So many requests at once go by themselves: few enough that waiting for others would cost more than it saves.
const ALONE: usize = 4;

/// What the store is asked through.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) servers: Servers,
    pub(super) timeout: Duration,
    /// The key of the mark.
    key: String,
    /// Which store it is, once that is known.
    mark: OnceLock<Vec<u8>>,
    waiting: Arc<Queue<Waiting>>,
}

/// What a server answered, and in which life.
type Answered<T> = Result<(T, u64)>;

/// A question that shares a request with others.
struct Waiting {
    question: Cmd,
    answer: oneshot::Sender<Answered<Value>>,
}

impl Line {
    pub(super) fn new(servers: Servers, timeout: Duration, key: String) -> Self {
        Self { servers, timeout, key, mark: OnceLock::new(), waiting: Arc::default() }
    }

    /// Says which store it is from now on.
    pub(super) fn set_mark(&self, mark: Vec<u8>) {
        let _first = self.mark.set(mark);
    }

    pub(super) fn mark(&self) -> &[u8] {
        self.mark.get().map_or(&[], Vec::as_slice)
    }

    /// Sends commands, whatever the server has.
    pub(super) async fn send(&self, request: &Pipeline) -> Answered<Vec<Value>> {
        let until = Instant::now() + self.timeout;
        let link = self.servers.link(0, until).await?;
        self.servers.call(&link, request, until).await
    }

    /// Begins a request about the store, with so many questions to follow: first of all, which store it is.
    pub(super) fn about(&self, questions: usize) -> Pipeline {
        let mut request = Pipeline::with_capacity(questions + 1);
        request.cmd("GET").arg(&self.key);
        request
    }

    /// Asks the store: if another one is there by now, or none, that is no answer.
    pub(super) async fn ask(&self, request: &Pipeline) -> Answered<std::vec::IntoIter<Value>> {
        let (values, life) = self.send(request).await?;
        Ok((self.told(values)?, life))
    }

    /// Reads what was answered after which store it is.
    fn told(&self, values: Vec<Value>) -> Result<std::vec::IntoIter<Value>> {
        let mut values = values.into_iter();
        match fault::checked(values.next().ok_or_else(fault::unreadable)?)? {
            Value::BulkString(mark) if mark == self.mark() => Ok(values),
            Value::BulkString(_) | Value::Nil => Err(lost()),
            _ => Err(fault::unreadable()),
        }
    }

    /// Asks the store one question: by itself, or where many are being asked together with others. One request for
    /// many costs a server, and us, a fraction of as many requests.
    pub(super) async fn ask_one(self: &Arc<Self>, question: Cmd) -> Answered<Value> {
        let until = Instant::now() + self.timeout;
        let link = self.servers.link(0, until).await?;
        let place = link.enter()?;
        if place.before < ALONE {
            let mut request = self.about(1);
            request.add_command(question);
            let (values, life) = self.servers.send(&link, &request, until).await?;
            return Ok((self.told(values)?.next().ok_or_else(fault::unreadable)?, life));
        }
        let (answer, answered) = oneshot::channel();
        if self.waiting.join(Waiting { question, answer }) {
            // A task of its own, so that nobody depends on whether another goes on waiting.
            tokio::spawn(Arc::clone(self).ask_together(Departure::new(Arc::clone(&self.waiting))));
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the runtime has ended")),
            Err(_) => Err(fault::timeout()),
        }
    }

    /// Asks for all who wait, who have a place each.
    async fn ask_together(self: Arc<Self>, departure: Departure<Waiting>) {
        // Whoever else is about to ask joins in.
        tokio::task::yield_now().await;
        let mut all = departure.go().into_iter().peekable();
        let mut requests = Vec::with_capacity(1);
        while all.peek().is_some() {
            let mut request = self.about(BATCH);
            let add = |waiting: Waiting| {
                request.add_command(waiting.question);
                waiting.answer
            };
            let answers: Vec<_> = all.by_ref().take(BATCH).map(add).collect();
            requests.push(self.answer(request, answers));
        }
        futures_util::future::join_all(requests).await;
    }

    async fn answer(&self, request: Pipeline, answers: Vec<oneshot::Sender<Answered<Value>>>) {
        let until = Instant::now() + self.timeout;
        let asked = async {
            let link = self.servers.link(0, until).await?;
            let (values, life) = self.servers.send(&link, &request, until).await?;
            Ok::<_, Error>((self.told(values)?, life))
        };
        // Who does not wait any more is told in vain.
        match asked.await {
            Ok((values, life)) => answers.into_iter().zip(values).for_each(|(answer, value)| {
                drop(answer.send(Ok((value, life))));
            }),
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
    }
}
