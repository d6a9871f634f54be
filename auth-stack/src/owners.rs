//! Which source a login was last found in, also after a restart.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use auth_cache::OwnerTable;
use auth_core::{Clock, Login, Moment, Owners, RealmId};

/// How many logins are remembered.
const MOST: usize = 262_144;

/// The journal, in the data folder.
const JOURNAL: &str = "owners";

/// What is seen again so soon is not written again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// How long after a failure it is tried again to write it.
const RETRY: Duration = Duration::from_secs(1);

/// How large the journal grows before it is written anew.
const LARGEST: u64 = 64 << 20;

/// Remembers owners in this process, and in a file of the data folder for the next one.
///
/// Each line of the journal is a time of day, a realm, a source and a login; a source `-` takes back what was said. It is
/// written by one process at a time, and a line is written before the login is answered: a process that is killed has
/// told all that it knew. (A power cut may take the last lines: what they said is learned again.)
#[derive(Debug)]
pub(crate) struct KeptOwners {
    table: OwnerTable,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held.
    journal: Mutex<Journal>,
}

#[derive(Debug, Default)]
struct Journal {
    /// Where it is, once that is known.
    folder: Option<PathBuf>,
    realms: Vec<RealmId>,
    /// Lines of realms that this process has not.
    others: Vec<String>,
    open: Option<Open>,
    /// When it was last tried to open it.
    tried: Moment,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    /// Held as long as this process writes.
    _lock: File,
}

impl KeptOwners {
    /// Remembers in this process alone.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: OwnerTable::new(MOST, Arc::clone(&clock)), clock, journal: Mutex::default() }
    }

    /// Reads the journal of a folder for these realms, and goes on to write it, as soon as no other process does.
    ///
    /// # Errors
    /// What is wrong with the file: nothing is kept then, until it can be.
    pub(crate) fn keep_in<'a>(
        &self,
        folder: &Path,
        realms: impl Iterator<Item = &'a RealmId>,
    ) -> io::Result<()> {
        let mut journal = self.journal();
        journal.realms = realms.cloned().collect();
        journal.folder = Some(folder.to_owned());
        if journal.open.is_some() {
            // What was said of realms that were not there before.
            let others = std::mem::take(&mut journal.others);
            journal.others = self.read_lines(others.into_iter(), &journal.realms);
            return Ok(());
        }
        self.open(&mut journal)
    }

    /// Takes the journal over, if no other process writes it: what that one has written is read after it has ended.
    fn open(&self, journal: &mut Journal) -> io::Result<()> {
        let Some(folder) = &journal.folder else { return Ok(()) };
        journal.tried = self.clock.now();
        let path = folder.join(JOURNAL);
        let lock = private().create(true).truncate(false).write(true).open(folder.join("owners.lock"))?;
        let free = match lock.try_lock() {
            Ok(()) => true,
            Err(std::fs::TryLockError::WouldBlock) => false,
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        };
        journal.others = self.read_lines(lines(read_from(&path)?), &journal.realms);
        if free {
            let (file, size) = self.write_anew(&path, &journal.others)?;
            journal.open = Some(Open { path, file, size, _lock: lock });
        } else {
            tracing::warn!("another process writes which source a login was found in: this one tries again");
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) const fn bound() -> usize {
        MOST
    }

    /// Reads lines, and returns those of other realms that have not ended.
    fn read_lines(&self, lines: impl Iterator<Item = String>, realms: &[RealmId]) -> Vec<String> {
        let (now, mut others) = (self.clock.wall(), Vec::new());
        for line in lines {
            let mut parts = line.splitn(4, '\t');
            let (Some(time), Some(realm), Some(source), Some(login)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let Ok(time) = time.parse() else { continue };
            // What is dated later than now was written before the time of day was set back: it is as old as can be told.
            let age = SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(time))
                .and_then(|seen| now.duration_since(seen).ok())
                .unwrap_or_default();
            if age >= OwnerTable::LIFE {
                continue;
            }
            let Some(realm) = realms.iter().find(|known| known.name() == realm) else {
                if others.len() < MOST {
                    others.push(line);
                }
                continue;
            };
            let Ok(login) = Login::parse(realm, login) else { continue };
            if source != "-" {
                self.table.restore(login, source.into(), age);
            } else if self.table.seen(&login).is_some_and(|(_, known)| age <= known) {
                self.table.forget(&login);
            }
        }
        others
    }

    /// Writes what is known into a new file in the place of the old one.
    fn write_anew(&self, path: &Path, others: &[String]) -> io::Result<(File, u64)> {
        let fresh = path.with_extension("new");
        let file = private().create(true).truncate(true).write(true).open(&fresh)?;
        let mut out = io::BufWriter::new(&file);
        let (now, mut size, mut wrong) = (self.clock.wall(), 0, Ok(()));
        let mut write = |line: &str| {
            size += line.len() as u64;
            if wrong.is_ok() {
                wrong = out.write_all(line.as_bytes());
            }
        };
        others.iter().for_each(|line| write(&format!("{line}\n")));
        self.table
            .each(|login, source, age| write(&line(now.checked_sub(age).unwrap_or(now), login, source)));
        wrong?;
        out.flush()?;
        drop(out);
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        Ok((private().append(true).open(path)?, size))
    }

    fn write(&self, login: &Login, source: &str) {
        let mut journal = self.journal();
        let journal = &mut *journal;
        if journal.open.is_none() {
            let now = self.clock.now();
            if journal.folder.is_none() || now.since(journal.tried) < RETRY {
                return;
            }
            // What is known by now is written with the rest.
            if let Err(error) = self.open(journal) {
                tracing::warn!(%error, "which source a login was found in is not kept over a restart");
            }
            return;
        }
        let Some(open) = &mut journal.open else { return };
        let line = line(self.clock.wall(), login, source);
        open.size += line.len() as u64;
        let done = match open.file.write_all(line.as_bytes()) {
            Ok(()) if open.size < LARGEST => Ok(()),
            Ok(()) => self.write_anew(&open.path, &journal.others).map(|(file, size)| {
                // What does not fit into half of it would be written anew at each line.
                (open.file, open.size) = (file, size.min(LARGEST / 2));
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "which source a login was found in is not kept over a restart for now");
            (journal.open, journal.tried) = (None, self.clock.now());
        }
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file to read it; nothing if there is none.
fn read_from(path: &Path) -> io::Result<Option<File>> {
    match private().read(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Goes through the lines of a file that are whole.
fn lines(file: Option<File>) -> impl Iterator<Item = String> {
    let mut reader = file.map(BufReader::new);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        reader.as_mut()?.read_until(b'\n', &mut line).ok()?;
        // One without its end was cut.
        line.pop_if(|last| *last == b'\n')?;
        Some(String::from_utf8(line).unwrap_or_default())
    })
}

/// Neither a login nor the name of a realm or source has a tab or a line feed.
fn line(seen: SystemTime, login: &Login, source: &str) -> String {
    let seen = seen.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{seen}\t{}\t{source}\t{}\n", login.realm().name(), login.as_str())
}

/// Opens files that are the owner's alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

#[deny(clippy::missing_trait_methods)]
impl Owners for KeptOwners {
    fn owner(&self, login: &Login) -> Option<Arc<str>> {
        self.table.owner(login)
    }

    fn remember(&self, login: &Login, source: &Arc<str>) {
        if self.table.seen(login).is_some_and(|(known, age)| known == *source && age < AGAIN) {
            return;
        }
        self.table.remember(login, source);
        self.write(login, source);
    }

    fn forget(&self, login: &Login) {
        if self.table.seen(login).is_some() {
            self.table.forget(login);
            self.write(login, "-");
        }
    }

    fn forget_realm(&self, realm: &str) {
        let mut gone = Vec::new();
        self.table.each(|login, _, _| {
            if login.realm().name() == realm {
                gone.push(login.clone());
            }
        });
        for login in &gone {
            self.forget(login);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::LoginRule;
    use auth_testkit::ManualClock;

    fn realm() -> RealmId {
        RealmId::new("default", LoginRule::CaseMapped).unwrap()
    }

    fn login(text: &str) -> Login {
        Login::parse(&realm(), text).unwrap()
    }

    fn open(folder: &Path, clock: &Arc<ManualClock>) -> KeptOwners {
        let owners = KeptOwners::new(Arc::clone(clock) as Arc<dyn Clock>);
        owners.keep_in(folder, [&realm()].into_iter()).unwrap();
        owners
    }

    #[test]
    fn what_was_remembered_and_forgotten_is_so_after_a_restart() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let owners = open(folder.path(), &clock);
        for (who, source) in [("calvin", "app"), ("susie", "staff"), ("moe", "app"), ("calvin", "staff")] {
            owners.remember(&login(who), &source.into());
        }
        owners.forget(&login("moe"));
        // Killed: nothing is told to it any more.
        drop(owners);
        let owners = open(folder.path(), &clock);
        let of = |who| owners.owner(&login(who));
        assert_eq!(
            (of("calvin").as_deref(), of("susie").as_deref(), of("moe")),
            (Some("staff"), Some("staff"), None)
        );
        owners.forget_realm("default");
        drop(owners);
        assert_eq!(open(folder.path(), &clock).len(), 0);
    }

    #[test]
    fn an_owner_lives_for_a_day_whatever_restarts_between_and_use_renews_it() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let owners = open(folder.path(), &clock);
        owners.remember(&login("calvin"), &"app".into());
        owners.remember(&login("susie"), &"app".into());
        clock.advance(Duration::from_secs(20 * 3600));
        owners.remember(&login("susie"), &"app".into());
        drop(owners);
        let owners = open(folder.path(), &clock);
        assert!(owners.owner(&login("calvin")).is_some());
        clock.advance(Duration::from_secs(4 * 3600));
        assert_eq!(owners.owner(&login("calvin")), None);
        drop(owners);
        let owners = open(folder.path(), &clock);
        assert_eq!((owners.owner(&login("calvin")), owners.len()), (None, 1));
        assert!(owners.owner(&login("susie")).is_some());
    }

    #[test]
    fn somebody_who_logs_in_often_is_not_written_each_time() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let owners = open(folder.path(), &clock);
        for _ in 0..1_000 {
            owners.remember(&login("calvin"), &"app".into());
            clock.advance(Duration::from_secs(6));
        }
        let text = std::fs::read_to_string(folder.path().join(JOURNAL)).unwrap();
        assert_eq!(text.lines().count(), 2, "a thousand times in 100 minutes");
    }

    #[test]
    fn a_second_process_reads_and_writes_only_when_the_first_has_ended() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let first = open(folder.path(), &clock);
        first.remember(&login("calvin"), &"app".into());
        let second = open(folder.path(), &clock);
        assert_eq!(second.owner(&login("calvin")).as_deref(), Some("app"));
        second.remember(&login("susie"), &"staff".into());
        first.remember(&login("moe"), &"app".into());
        drop(first);
        clock.advance(RETRY);
        second.remember(&login("hobbes"), &"staff".into());
        drop(second);
        let owners = open(folder.path(), &clock);
        let of = |who| owners.owner(&login(who));
        assert_eq!((of("moe").as_deref(), of("susie").as_deref()), (Some("app"), Some("staff")));
        assert_eq!((of("hobbes").as_deref(), owners.len()), (Some("staff"), 4));
    }

    #[test]
    fn nonsense_and_a_cut_line_are_passed_over_and_other_realms_keep_theirs() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let owners = open(folder.path(), &clock);
        owners.remember(&login("calvin"), &"app".into());
        drop(owners);
        let mut file = OpenOptions::new().append(true).open(folder.path().join(JOURNAL)).unwrap();
        let now = clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let odd = format!("\n1\t2\nx\tdefault\tapp\tmoe\n{now}\tother\tapp\tmoe\n{now}\tdefault\tapp\tmo");
        file.write_all(b"\xff\xfe\n").unwrap();
        file.write_all(odd.as_bytes()).unwrap();
        let owners = open(folder.path(), &clock);
        assert_eq!((owners.owner(&login("calvin")).as_deref(), owners.len()), (Some("app"), 1));
        drop(owners);
        let owners = open(folder.path(), &clock);
        let other = RealmId::new("other", LoginRule::CaseMapped).unwrap();
        owners.keep_in(folder.path(), [&realm(), &other].into_iter()).unwrap();
        assert_eq!(owners.owner(&Login::parse(&other, "moe").unwrap()).as_deref(), Some("app"));
    }

    #[cfg(unix)]
    #[test]
    fn the_journal_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &ManualClock::new()).remember(&login("calvin"), &"app".into());
        let mode = std::fs::metadata(folder.path().join(JOURNAL)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
