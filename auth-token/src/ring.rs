//! The keys that tokens are signed with, one after the other.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use auth_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::jose::{Algorithm, Jwk, JwkSet, KeyType, Purpose, Short};

/// The file that says which keys there are, and when each is used.
const INDEX: &str = "ring.json";
/// Locked by who changes the folder.
const LOCK: &str = "ring.lock";
/// How long a change waits for another.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The longest file that is read.
const MAX_FILE: u64 = 64 * 1024;
/// How often the folder is looked at if a token names a key that is not known.
const EAGER: u64 = 250;

/// How a ring of keys is kept.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// The folder, which is made if it is not there.
    pub folder: PathBuf,
    /// What new keys are for.
    pub algorithm: Algorithm,
    /// How many bits a new RSA key has.
    pub bits: u32,
    /// For how long a key is published before it signs, so that everybody has fetched it by then.
    pub publish: Duration,
    /// For how long a key is kept after it has signed for the last time: the life of a token, leeway, and an hour.
    pub keep: Duration,
    /// After how long a key shall be followed by another; never by itself if `None`.
    pub every: Option<Duration>,
    /// How often the folder is looked at.
    pub look: Duration,
}

impl RingConfig {
    /// EdDSA, a new key every 90 days, published a day before, kept for an hour and a half.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            algorithm: Algorithm::EdDsa,
            bits: 2048,
            publish: Duration::from_secs(24 * 3600),
            keep: Duration::from_secs(90 * 60),
            every: Some(Duration::from_secs(90 * 24 * 3600)),
            look: Duration::from_secs(2),
        }
    }
}

/// How a key follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The next key is published first, and signs when everybody had time to fetch it. If one waits already, that is it.
    Planned,
    /// The next key signs at once. Who has not fetched it refuses its tokens until then.
    AtOnce,
    /// As [`AtOnce`](Self::AtOnce), and no other key is believed any more: one of them is in wrong hands.
    Compromised,
}

/// Where in its life a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not yet used.
    Next,
    /// Tokens are signed with it.
    Current,
    /// It verifies what it has signed.
    Previous,
}

impl KeyState {
    /// Names the state in the form used by JSON answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

/// A key of a ring, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingEntry {
    /// Its name.
    pub kid: Option<String>,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Where in its life it is.
    pub state: KeyState,
    /// From when on it signs.
    pub activates: SystemTime,
    /// From when on it is not there any more; `None` while no other follows it.
    pub retires: Option<SystemTime>,
}

/// Keys that follow each other: the next, the current, those before.
///
/// Kept in a folder that several processes may share: each key is a file of its own (`KID.jwk`, mode 0600), and
/// `ring.json` says which there are and when each is used. A change is written beside and put in place in one step, so
/// that a process that is killed leaves the keys as they were before or as they are after. Who reads looks at `ring.json`
/// every two seconds at most, and at once if a token names a key that is not known.
pub struct KeyRing {
    config: Option<RingConfig>,
    keys: RwLock<Arc<RingKeys>>,
    /// Grows with each change of `keys`.
    version: AtomicU64,
    /// When the folder is looked at next, in milliseconds since 1970.
    look_at: AtomicU64,
    /// Held by who looks.
    looking: Mutex<Looked>,
}

/// What came of the last look.
#[derive(Debug, Default)]
struct Looked {
    seen: Seen,
    /// Why the keys could not be read anew.
    trouble: Option<String>,
}

/// What the index was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The keys at some time.
#[derive(Debug)]
pub(crate) struct RingKeys {
    pub(crate) keys: Vec<RingKey>,
}

#[derive(Debug)]
pub(crate) struct RingKey {
    pub(crate) jwk: Jwk,
    pub(crate) algorithm: Algorithm,
    pub(crate) activates: SystemTime,
    pub(crate) retires: Option<SystemTime>,
}

impl RingKey {
    /// Reports whether what it has signed is believed.
    pub(crate) fn lives(&self, now: SystemTime) -> bool {
        self.retires.is_none_or(|retires| now < retires)
    }
}

impl RingKeys {
    /// The position of the key that signs.
    pub(crate) fn current(&self, now: SystemTime) -> Option<usize> {
        let live = self.keys.iter().enumerate().filter(|(_, key)| key.lives(now));
        // A clock that was put back shall not leave us without a key: then the oldest signs.
        let begun = live.clone().filter(|(_, key)| key.activates <= now).max_by_key(|(_, key)| key.activates);
        begun.or_else(|| live.min_by_key(|(_, key)| key.activates)).map(|(at, _)| at)
    }
}

/// What stands in the index.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    keys: Vec<Row>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kid: String,
    algorithm: String,
    created: u64,
    activates: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires: Option<u64>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("config", &self.config).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Opens the ring in a folder. If there is none, it is made, with a key that signs at once.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if others may read the folder or a key;
    /// [`Corrupt`](ErrorKind::Corrupt) if something in it can't be read; [`Unavailable`](ErrorKind::Unavailable) if the
    /// file system fails.
    pub fn open(config: RingConfig, now: SystemTime) -> Result<Self> {
        let folder = &config.folder;
        if !folder.is_dir() {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(folder);
            made.map_err(|error| unavailable("can't make the folder of keys", folder, error))?;
        }
        private(folder, "others may read the folder of keys: its mode must be 0700")?;
        if !folder.join(INDEX).exists() {
            let _lock = locked(folder)?;
            // Another process may have been first.
            if !folder.join(INDEX).exists() {
                let key = make(&config)?;
                let row = write_key(folder, &key, config.algorithm, now, now)?;
                write_index(folder, vec![row])?;
            }
        }
        let (keys, seen) = load(folder)?;
        let look_at = AtomicU64::new(millis(now + config.look));
        Ok(Self {
            config: Some(config),
            keys: RwLock::new(Arc::new(keys)),
            version: AtomicU64::new(1),
            look_at,
            looking: Mutex::new(Looked { seen, trouble: None }),
        })
    }

    /// Makes a ring of one key that never changes.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it can't sign, or not with this algorithm.
    pub fn fixed(key: Jwk, algorithm: Option<Algorithm>) -> Result<Self> {
        key.allows(Purpose::Sign)?;
        let algorithm = algorithm.or_else(|| key.algorithm()).unwrap_or_else(|| key.key_type().algorithm());
        if key.verifying(algorithm).is_none() {
            let wrong = Error::new(ErrorKind::Invalid, "the key is for another algorithm");
            return Err(wrong.with("algorithm", algorithm));
        }
        let activates = SystemTime::UNIX_EPOCH;
        let keys = RingKeys { keys: vec![RingKey { jwk: key, algorithm, activates, retires: None }] };
        Ok(Self {
            config: None,
            keys: RwLock::new(Arc::new(keys)),
            version: AtomicU64::new(1),
            look_at: AtomicU64::new(u64::MAX),
            looking: Mutex::new(Looked::default()),
        })
    }

    /// Reports whether it is time for another key.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> bool {
        self.look_if_due(now);
        let Some((config, every)) = self.config.as_ref().and_then(|config| Some((config, config.every?)))
        else {
            return false;
        };
        let keys = self.keys();
        let waits = keys.keys.iter().any(|key| key.activates > now);
        let current = keys.current(now).and_then(|at| keys.keys.get(at));
        !waits && current.is_some_and(|key| now + config.publish >= key.activates + every)
    }

    /// Has another key follow, and returns it. This writes files, may wait for another process for five seconds, and may
    /// take a second to make an RSA key: not for a thread that answers questions.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if the key comes from configuration;
    /// [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the folder can't be written:
    /// nothing has changed then.
    pub fn rotate(&self, now: SystemTime, how: Rotation) -> Result<RingEntry> {
        let Some(config) = &self.config else {
            let message = "the key stands in the configuration: it is changed there";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let folder = &config.folder;
        let lock = locked(folder)?;
        let mut rows = read_index(folder)?.keys;
        let unix = secs(now);
        let live = |row: &Row| row.retires.is_none_or(|retires| unix < retires);
        let waiting = rows.iter().find(|row| live(row) && row.activates > unix).cloned();
        let next = match (how, waiting) {
            (Rotation::Planned, Some(waiting)) => waiting,
            _ => {
                let key = make(config)?;
                let activates = if how == Rotation::Planned { now + config.publish } else { now };
                let row = write_key(folder, &key, config.algorithm, now, activates)?;
                match how {
                    Rotation::Compromised => rows.clear(),
                    // What has waited never will sign: nobody need know it.
                    Rotation::AtOnce => rows.retain(|row| live(row) && row.activates <= unix),
                    Rotation::Planned => rows.retain(live),
                }
                for row in rows.iter_mut().filter(|row| row.retires.is_none()) {
                    row.retires = Some(secs(activates + config.keep));
                }
                rows.push(row.clone());
                write_index(folder, rows.clone())?;
                row
            }
        };
        sweep(folder, &rows);
        drop(lock);
        self.refresh(now)?;
        let entry = self.entries(now).into_iter().find(|entry| entry.kid.as_deref() == Some(&next.kid));
        entry.ok_or_else(|| Error::new(ErrorKind::Internal, "the new key is not there"))
    }

    /// Returns the keys that are believed, those that sign last first.
    #[must_use]
    pub fn entries(&self, now: SystemTime) -> Vec<RingEntry> {
        self.look_if_due(now);
        let keys = self.keys();
        let current = keys.current(now);
        let mut entries: Vec<RingEntry> = keys
            .keys
            .iter()
            .enumerate()
            // The newest stands last: of two that begin at the same time it is the one that signs.
            .rev()
            .filter(|(_, key)| key.lives(now))
            .map(|(at, key)| RingEntry {
                kid: key.jwk.kid().map(str::to_owned),
                algorithm: key.algorithm,
                state: match current {
                    Some(current) if current == at => KeyState::Current,
                    _ if key.activates > now => KeyState::Next,
                    _ => KeyState::Previous,
                },
                activates: key.activates,
                retires: key.retires,
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.activates));
        entries
    }

    /// Returns the public halves of the keys that are believed, as a JWK set. Secrets are not in it.
    #[must_use]
    pub fn jwks(&self, now: SystemTime) -> String {
        self.look_if_due(now);
        let keys = self.keys();
        let live = keys.keys.iter().filter(|key| key.lives(now)).map(|key| key.jwk.clone());
        JwkSet::new(live.collect())
            .map_or_else(|_| crate::jwt::NO_KEYS.to_owned(), |set| set.to_public_json())
    }

    /// Looks at the folder now.
    ///
    /// # Errors
    /// As [`open`](Self::open). The keys stay as they were then.
    pub fn refresh(&self, now: SystemTime) -> Result<()> {
        let mut looked = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(now, &mut looked)
    }

    /// Which keys these are: another number after each change. One atomic load, unless it is time to look.
    pub(crate) fn version(&self, now: SystemTime) -> u64 {
        self.look_if_due(now);
        self.version.load(Ordering::Acquire)
    }

    /// A token has named a key that is not known: another process may have made it just now.
    pub(crate) fn missed(&self, now: SystemTime) {
        let (now_ms, next) = (millis(now), self.look_at.load(Ordering::Relaxed));
        let Some(config) = &self.config else { return };
        let looked = next.saturating_sub(length(config.look));
        if now_ms >= looked.saturating_add(EAGER) {
            self.look_by_the_way(now);
        }
    }

    pub(crate) fn keys(&self) -> Arc<RingKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn look_if_due(&self, now: SystemTime) {
        let next = self.look_at.load(Ordering::Relaxed);
        if next == u64::MAX {
            return;
        }
        let now_ms = millis(now);
        let ahead = self.config.as_ref().map_or(0, |config| length(config.look)).saturating_mul(2);
        // A clock that was put back must not keep us from looking.
        if now_ms >= next || now_ms.saturating_add(ahead) < next {
            self.look_by_the_way(now);
        }
    }

    /// Looks, unless somebody else does. A failure leaves the keys as they are, until the next look.
    fn look_by_the_way(&self, now: SystemTime) {
        if let Ok(mut looked) = self.looking.try_lock() {
            let _ = self.look(now, &mut looked);
        }
    }

    /// Looks, and logs when what comes of it is not what came of it before.
    fn look(&self, now: SystemTime, looked: &mut Looked) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        self.look_at.store(millis(now + config.look), Ordering::Relaxed);
        let done = self.read_anew(&config.folder, &mut looked.seen);
        let trouble = done.as_ref().err().map(ToString::to_string);
        if trouble != looked.trouble {
            match &trouble {
                Some(trouble) => {
                    tracing::warn!(
                        trouble,
                        "the keys of tokens can't be read: those known before are used on"
                    );
                }
                None => {
                    tracing::info!(folder = %config.folder.display(), "the keys of tokens can be read again")
                }
            }
            looked.trouble = trouble;
        }
        done
    }

    fn read_anew(&self, folder: &Path, seen: &mut Seen) -> Result<()> {
        if seen_now(folder)? == *seen {
            return Ok(());
        }
        let (keys, now_seen) = load(folder)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        *seen = now_seen;
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn make(config: &RingConfig) -> Result<Jwk> {
    match config.algorithm.key_type() {
        KeyType::Rsa => Jwk::generate_rsa(config.bits, Some(config.algorithm)),
        kind => Jwk::generate(kind, Some(config.algorithm)),
    }
}

fn unavailable(message: &'static str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, message).with("file", path.display()).with("cause", error)
}

fn corrupt(message: &'static str, path: &Path) -> Error {
    Error::new(ErrorKind::Corrupt, message).with("file", path.display())
}

fn private(path: &Path, message: &'static str) -> Result<()> {
    let found = fs::metadata(path).map_err(|error| unavailable("can't look at it", path, error))?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::Misconfigured, message).with("file", path.display()));
    }
    Ok(())
}

/// Waits until nobody else changes the folder. The lock ends with the file, also if the process is killed.
fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| unavailable("can't lock the folder of keys", &path, error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => {
                return Err(unavailable("can't lock the folder of keys", &path, error));
            }
        }
    }
    let message = "another process is changing the folder of keys";
    Err(Error::new(ErrorKind::Timeout, message).with("file", path.display()))
}

fn key_path(folder: &Path, kid: &str) -> PathBuf {
    folder.join(format!("{kid}.jwk"))
}

/// Reports whether a name may be that of a file.
fn is_plain(kid: &str) -> bool {
    (1..=128).contains(&kid.len())
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn write_key(
    folder: &Path,
    key: &Jwk,
    algorithm: Algorithm,
    created: SystemTime,
    activates: SystemTime,
) -> Result<Row> {
    let kid = key.kid().filter(|kid| is_plain(kid)).map(str::to_owned);
    let kid = kid.ok_or_else(|| Error::new(ErrorKind::Internal, "a new key has no name"))?;
    put(&key_path(folder, &kid), key.to_json().as_bytes())?;
    let algorithm = algorithm.name().to_owned();
    Ok(Row { kid, algorithm, created: secs(created), activates: secs(activates), retires: None })
}

fn write_index(folder: &Path, keys: Vec<Row>) -> Result<()> {
    let text = serde_json::to_string_pretty(&Index { format: 1, keys });
    let text = text.map_err(|error| {
        Error::new(ErrorKind::Internal, "the index of keys could not be written").because(error)
    })?;
    put(&folder.join(INDEX), text.as_bytes())
}

/// Writes a file so that there is the old one or the new one, and nothing in between, whenever we are killed.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| unavailable("can't write a file of keys", path, error);
    let beside = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(failed)
}

/// Removes keys that no row names any more. What can't be removed now is next time.
fn sweep(folder: &Path, rows: &[Row]) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for path in files.flatten().map(|file| file.path()) {
        let is_key = path.extension().is_some_and(|kind| kind == "jwk" || kind == "new");
        let listed = rows.iter().any(|row| path == key_path(folder, &row.kid));
        if is_key && !listed {
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let failed = |error| unavailable("can't read a file of keys", path, error);
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > MAX_FILE => return Err(corrupt("a file of keys is too long", path)),
        Ok(_) => {}
    }
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let text = String::from_utf8(bytes).map_err(|_| corrupt("a file of keys is no text", path))?;
    Ok(Some(Zeroizing::new(text)))
}

fn read_index(folder: &Path) -> Result<Index> {
    let path = folder.join(INDEX);
    let text = read(&path)?.ok_or_else(|| corrupt("the index of keys is gone", &path))?;
    // What serde says may hold what stands in the file: it is no part of what is shown.
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| corrupt("the index of keys can't be read", &path).because(error))?;
    if index.format != 1 || !index.keys.iter().all(|row| is_plain(&row.kid)) {
        return Err(corrupt("the index of keys is of another version, or names no key", &path));
    }
    Ok(index)
}

fn seen_now(folder: &Path) -> Result<Seen> {
    let path = folder.join(INDEX);
    let found =
        fs::metadata(&path).map_err(|error| unavailable("can't look at the index of keys", &path, error))?;
    Ok(Seen { inode: found.ino(), length: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
}

/// Reads the folder. Between the index and the keys another process may have changed both: then once more.
fn load(folder: &Path) -> Result<(RingKeys, Seen)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let seen = seen_now(folder)?;
        let index = read_index(folder)?;
        let mut keys = Vec::with_capacity(index.keys.len());
        let mut gone = None;
        for row in index.keys {
            let path = key_path(folder, &row.kid);
            let Some(text) = read(&path)? else {
                gone = Some(path);
                break;
            };
            private(&path, "others may read a key: its mode must be 0600")?;
            keys.push(
                ring_key(&row, &text)
                    .map_err(|error| corrupt("a key can't be used", &path).with("cause", error.message()))?,
            );
        }
        match gone {
            None if keys.is_empty() => return Err(corrupt("the index names no keys", folder)),
            None => return Ok((RingKeys { keys }, seen)),
            Some(_) if tries < 3 => {}
            Some(path) => return Err(corrupt("a key that the index names is gone", &path)),
        }
    }
}

fn ring_key(row: &Row, text: &str) -> Result<RingKey> {
    let invalid = |message: &'static str| Error::new(ErrorKind::Invalid, message);
    let jwk = Jwk::parse(text, Short::Refused)?;
    jwk.allows(Purpose::Sign)?;
    let algorithm =
        Algorithm::from_name(&row.algorithm).filter(|algorithm| jwk.verifying(*algorithm).is_some());
    let algorithm = algorithm.ok_or_else(|| invalid("the key is for another algorithm"))?;
    if jwk.kid() != Some(&row.kid) {
        return Err(invalid("the key has another name"));
    }
    let time = |unix: u64| {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix));
        time.ok_or_else(|| invalid("a time can't be"))
    };
    let retires = row.retires.map(time).transpose()?;
    Ok(RingKey { jwk, algorithm, activates: time(row.activates)?, retires })
}

fn secs(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn millis(time: SystemTime) -> u64 {
    length(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn length(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}
