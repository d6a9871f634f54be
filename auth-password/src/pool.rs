//! Threads of our own with a short queue: hashing must neither block a runtime nor pile up memory.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use auth_core::{Error, ErrorKind, Result};

use crate::hash::Workspace;

pub(crate) type Job = Box<dyn FnOnce(&mut Workspace) + Send>;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    // A std mutex: nothing awaits while it is held.
    queue: Mutex<Queue>,
    arrived: Condvar,
    capacity: usize,
}

struct Queue {
    jobs: VecDeque<Job>,
    open: bool,
}

impl Pool {
    pub(crate) fn start(threads: usize, capacity: usize) -> Result<Self> {
        let queue = Queue { jobs: VecDeque::with_capacity(capacity), open: true };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), arrived: Condvar::new(), capacity });
        // Made first, so that a failure below ends the threads that did start.
        let pool = Self { shared: Arc::clone(&shared), threads };
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || shared.work()).map_err(
                |error| Error::new(ErrorKind::Unavailable, "no thread for hashing").because(error),
            )?;
        }
        Ok(pool)
    }

    pub(crate) const fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    pub(crate) fn submit(&self, job: Job) -> std::result::Result<(), Full> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= self.shared.capacity {
            return Err(Full);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let abandoned = {
            let mut queue = self.shared.lock();
            queue.open = false;
            std::mem::take(&mut queue.jobs)
        };
        // Outside the lock: dropping a job wakes its caller.
        drop(abandoned);
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Jobs catch their own panics.
    fn work(&self) {
        let mut workspace = Workspace::default();
        while let Some(job) = self.next() {
            job(&mut workspace);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if !queue.open {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
