//! What the source was asked, and what it said when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth_core::{Clock, Error, ErrorKind, Moment, Result};
use tokio::sync::oneshot;

use crate::ManualClock;

/// What the run makes of a question.
#[derive(Debug)]
pub(crate) enum Reply {
    /// These versions, one a subject.
    Say(Vec<u32>),
    Fail(ErrorKind),
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Said,
    Failed,
    /// Whoever asked has given up.
    Left,
}

/// A question that the source was asked.
#[derive(Debug)]
pub(crate) struct Load {
    /// What it is about: one subject, or some at once.
    pub(crate) subjects: Vec<usize>,
    /// The step in which it was asked, and when: its age counts from here.
    pub(crate) asked: u64,
    pub(crate) at: Moment,
    /// What the source's value was, once it was read.
    pub(crate) read: Option<Vec<u32>>,
    pub(crate) state: State,
    /// The step in which it ended.
    pub(crate) ended: u64,
    reply: Option<oneshot::Sender<Reply>>,
}

impl Load {
    /// Returns the version that it said of a subject.
    pub(crate) fn said_of(&self, subject: usize) -> Option<u32> {
        if self.state != State::Said {
            return None;
        }
        let place = self.subjects.iter().position(|of| *of == subject)?;
        self.read.as_ref()?.get(place).copied()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The step under way.
    pub(crate) step: u64,
    pub(crate) loads: Vec<Load>,
}

#[derive(Debug)]
pub(crate) struct Board {
    clock: Arc<ManualClock>,
    log: Mutex<Log>,
}

impl Board {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, log: Mutex::default() }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question and waits for what the run makes of it.
    pub(crate) async fn ask(&self, subjects: Vec<usize>) -> Result<Vec<u32>> {
        let (reply, replied) = oneshot::channel();
        self.enter(subjects, None, Some(reply));
        match replied.await {
            Ok(Reply::Say(versions)) => Ok(versions),
            Ok(Reply::Fail(kind)) => Err(Error::new(kind, "as the run has it").at("held")),
            // Past the panic hook: a run of panics would fill the terminal.
            Ok(Reply::Panic) => std::panic::resume_unwind(Box::new("as the run has it")),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the run is over").at("held")),
        }
    }

    /// Enters an answer that the run itself has read and put.
    pub(crate) fn enter_put(&self, subject: usize, version: u32) {
        self.enter(vec![subject], Some(vec![version]), None);
    }

    fn enter(&self, subjects: Vec<usize>, read: Option<Vec<u32>>, reply: Option<oneshot::Sender<Reply>>) {
        let at = self.clock.now();
        let mut log = self.log();
        let asked = log.step;
        let state = if read.is_some() { State::Said } else { State::Pending };
        log.loads.push(Load { subjects, asked, at, read, state, ended: asked, reply });
    }

    /// Returns the questions that wait, oldest first.
    pub(crate) fn pending(&self) -> Vec<usize> {
        let log = self.log();
        let pending = log.loads.iter().enumerate().filter(|(_, load)| load.state == State::Pending);
        pending.map(|(place, _)| place).collect()
    }

    /// Marks the questions whose askers have given up; returns how many.
    pub(crate) fn notice_left(&self) -> usize {
        let mut log = self.log();
        let step = log.step;
        let left = log.loads.iter_mut().filter(|load| {
            load.state == State::Pending && load.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
        });
        left.map(|load| {
            load.state = State::Left;
            load.ended = step;
        })
        .count()
    }

    /// Ends a question with what it has read, or with a failure. Reports whether somebody took it.
    pub(crate) fn end(&self, place: usize, failure: Option<Reply>) -> bool {
        let mut log = self.log();
        let step = log.step;
        let Some(load) = log.loads.get_mut(place) else { return false };
        let Some(sender) = load.reply.take() else { return false };
        load.ended = step;
        let reply = failure.unwrap_or_else(|| Reply::Say(load.read.clone().unwrap_or_default()));
        load.state = if matches!(reply, Reply::Say(_)) { State::Said } else { State::Failed };
        let taken = sender.send(reply).is_ok();
        if !taken {
            load.state = State::Left;
        }
        taken
    }
}
