//! Reads a file as it was at one moment, and tells whether it is still that one.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use auth_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    system: System,
}

#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct System {
    device: u64,
    inode: u64,
    mode: u32,
    changed: (i64, i64),
}

#[cfg(not(unix))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct System;

impl System {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn of(_metadata: &Metadata) -> Self {
        Self
    }

    #[cfg(unix)]
    const fn is_open_to_all(self) -> bool {
        self.mode & 0o002 != 0
    }

    #[cfg(not(unix))]
    const fn is_open_to_all(self) -> bool {
        false
    }

    /// When the file or its metadata changed last: what nobody can set, unlike the time of modification.
    #[cfg(unix)]
    fn changed(self) -> Option<SystemTime> {
        let (seconds, nanos) = self.changed;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    #[cfg(not(unix))]
    const fn changed(self) -> Option<SystemTime> {
        None
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok(), system: System::of(metadata) }
    }

    /// Reports whether there is nothing in the file.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reports whether the file's last change is so old that a later one has another time.
    ///
    /// File systems count time in ticks: two changes within one tick leave the same stamp, so what was
    /// read just after a change is not to be trusted as the last word.
    fn is_settled(&self) -> bool {
        let Some(changed) = self.system.changed().or(self.modified) else { return true };
        // The system's own time is meant here: it is compared with a file system's, whatever a test's clock says.
        let distance = changed.elapsed().unwrap_or_else(|ahead| ahead.duration());
        distance >= tick(changed)
    }
}

/// How long a file system may show one time, judged by a time it has shown: those that count in whole
/// seconds (or two) are told by the missing fraction.
fn tick(shown: SystemTime) -> Duration {
    let whole = shown.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() == 0);
    Duration::from_millis(if whole { 2_000 } else { 100 })
}

/// A file's content, and its state when that was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) stamp: Stamp,
    /// Whether an equal stamp means an equal content; see [`Stamp::is_settled`].
    pub(crate) settled: bool,
}

/// Looks at a file without opening it.
pub(crate) fn look(path: &Path) -> Result<Stamp> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    // Before it is opened: opening a pipe waits for a writer.
    if !metadata.is_file() {
        return Err(refused(path, "this is not a regular file"));
    }
    Ok(Stamp::of(&metadata))
}

/// Reads a file. If it changes meanwhile it is read once more.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if it is not there, may not be read, is too large, is not a
/// regular file, or anybody may write it; otherwise [`Unavailable`](ErrorKind::Unavailable).
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Snapshot> {
    for _ in 0..2 {
        if let Some(snapshot) = read_once(path, max_bytes)? {
            return Ok(snapshot);
        }
    }
    let message = "the file changes while it is read";
    Err(Error::new(ErrorKind::Unavailable, message).with("file", path.display()))
}

fn read_once(path: &Path, max_bytes: u64) -> Result<Option<Snapshot>> {
    let before = look(path)?;
    let settled = before.is_settled();
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    // Who may write the file decides who may log in.
    if before.system.is_open_to_all() {
        return Err(refused(path, "anybody may write this file; take that right away (chmod o-w)"));
    }
    let room = usize::try_from(before.len.min(max_bytes)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    let limit = max_bytes.saturating_add(1);
    file.by_ref().take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    let read = file.metadata().map_err(|error| unreadable(path, error))?;
    // The file that was read is the one that was looked at, and still the one at this path.
    if Stamp::of(&read) != before || look(path)? != before {
        return Ok(None);
    }
    if u64::try_from(bytes.len()).is_ok_and(|len| len > max_bytes) {
        return Err(refused(path, "the file is larger than `max_bytes`").with("max_bytes", max_bytes));
    }
    Ok(Some(Snapshot { bytes, stamp: before, settled }))
}

fn refused(path: &Path, message: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, message).with("file", path.display())
}

fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let (kind, message) = match cause.kind() {
        Io::NotFound => (ErrorKind::Misconfigured, "there is no such file"),
        Io::PermissionDenied => (ErrorKind::Misconfigured, "this file may not be read"),
        _ => (ErrorKind::Unavailable, "the file can't be read"),
    };
    Error::new(kind, message).with("file", path.display()).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_shows_whole_seconds_gets_more_time() {
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(tick(second), Duration::from_secs(2));
        assert_eq!(tick(second + Duration::from_nanos(1)), Duration::from_millis(100));
    }
}
