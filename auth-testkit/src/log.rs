//! What is logged, for tests of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what this thread logs, of every level, until it is dropped.
///
/// Such a test stands alone in its binary: a thread without a subscriber that logs a line first makes tracing forget that
/// line for all.
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    _kept: DefaultGuard,
}

impl Log {
    /// Begins to keep.
    #[must_use]
    pub fn begin() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Self { lines, _kept: tracing::subscriber::set_default(subscriber) }
    }

    /// Returns what was logged since the last time, and forgets it.
    ///
    /// # Panics
    /// If that is not UTF-8.
    #[must_use]
    pub fn take(&self) -> String {
        let mut bytes = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(std::mem::take(&mut *bytes)).expect("a log is text")
    }
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
