//! Questions that go with the next request that several share.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Those who wait for the next request. Whoever puts them there bounds how many they are.
pub(crate) struct Queue<T>(Mutex<Vec<T>>);

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Queue<T> {
    /// Puts a question to those that wait. Tells whether it is the first.
    pub(crate) fn join(&self, waiting: T) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(waiting);
        all.len() == 1
    }

    /// Takes all that wait.
    fn depart(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that takes those who wait along. One that is dropped before it began, with its runtime, leaves nobody
/// behind: the next one to ask begins another.
pub(crate) struct Departure<T>(Option<Arc<Queue<T>>>);

impl<T> Departure<T> {
    pub(crate) const fn new(queue: Arc<Queue<T>>) -> Self {
        Self(Some(queue))
    }

    /// Takes all that wait.
    pub(crate) fn go(mut self) -> Vec<T> {
        self.0.take().map(|queue| queue.depart()).unwrap_or_default()
    }
}

impl<T> Drop for Departure<T> {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            drop(queue.depart());
        }
    }
}
