//! The store: the files' contents, and when to read them again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Capabilities, ChangeEar, ChangeFeed, Ctx, Error, ErrorKind, GroupOracle,
    GroupSet, Listening, Login, LoginRule, Lookup, ObjectPerms, ObjectRef, Principal, Result, SourceInfo,
    StoredHash,
};
use tokio::sync::Semaphore;

use crate::contents::{Broken, Contents, Found, parts};
use crate::disk::{self, Snapshot, Stamp};
use crate::unix::Passwd;
use crate::{FileConfig, Format, htfiles, unix, users_toml, watch};

/// More questions than this wait for the file system without a thread.
const LOOKING: usize = 4;

/// Users, groups and rights in files: htpasswd with htgroup, passwd with shadow and group, or one TOML file.
///
/// Each question first looks whether the files are still those that were read. If not, they are read
/// again; if that fails, the old contents go on answering and [`fault`](Self::fault) says so.
pub struct FileStore {
    info: SourceInfo,
    files: Arc<Files>,
    looking: Arc<Semaphore>,
}

/// The files and what was read of them. Touched only by threads that may wait.
pub(crate) struct Files {
    source: Arc<str>,
    config: FileConfig,
    format: Format,
    state: Mutex<State>,
    /// Held while reading: whoever comes meanwhile takes what is read, and does not read too.
    reading: Mutex<()>,
}

struct State {
    loaded: Loaded,
    fault: Option<Fault>,
}

#[derive(Clone)]
struct Loaded {
    stamps: Stamps,
    settled: bool,
    contents: Arc<Contents>,
}

/// Why the last reading failed, and of which files.
struct Fault {
    error: Error,
    stamps: Option<Stamps>,
}

/// Something of each file: the user file, and those that may stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Each<T> {
    users: T,
    groups: Option<T>,
    shadow: Option<T>,
}

/// The states of the files.
type Stamps = Each<Stamp>;

impl FileStore {
    /// Reads the files. They must be there, readable and free of faults.
    ///
    /// # Errors
    /// - [`Misconfigured`](ErrorKind::Misconfigured) if a file is not there, may not be read, is too large, or
    ///   may be written by anybody.
    /// - [`Corrupt`](ErrorKind::Corrupt) if a line can't be read; names file and line.
    /// - [`Unavailable`](ErrorKind::Unavailable) if the file system fails.
    pub async fn connect(info: SourceInfo, config: FileConfig) -> Result<Self> {
        let can = Capabilities { replaces_hash: false, ..Capabilities::default() };
        let info = info.with_capabilities(can);
        let source = Arc::clone(info.name());
        let format = config.checked_format().map_err(|error| error.at(Arc::clone(&source)))?;
        let opening = move || Files::open(source, config, format);
        let files = tokio::task::spawn_blocking(opening).await.map_err(|_| stopped(&info))??;
        Ok(Self { info, files: Arc::new(files), looking: Arc::new(Semaphore::new(LOOKING)) })
    }

    /// Returns why the files can't be read now, if so; the contents of before are answering then.
    ///
    /// This is what the last question found; [`refresh`](Self::refresh) looks anew.
    #[must_use]
    pub fn fault(&self) -> Option<Error> {
        self.files.state().fault.as_ref().map(|fault| fault.error.clone())
    }

    /// Looks whether the files have changed, and reads them again if so.
    ///
    /// # Errors
    /// The [`fault`](Self::fault), if there is one.
    pub async fn refresh(&self) -> Result<()> {
        self.contents(None).await?;
        self.fault().map_or(Ok(()), Err)
    }

    /// Lists the domains that the file declares; only a TOML file has any.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        let contents = Arc::clone(&self.files.state().loaded.contents);
        contents.domains().map(|domains| domains.keys().cloned().collect()).unwrap_or_default()
    }

    async fn contents(&self, rule: Option<LoginRule>) -> Result<Arc<Contents>> {
        // The permit goes with the job: a hanging file system holds a few threads, not all of them.
        let permit = Arc::clone(&self.looking).acquire_owned().await.map_err(|_| stopped(&self.info))?;
        let files = Arc::clone(&self.files);
        let look = move || {
            let contents = files.current();
            if let Some(rule) = rule {
                contents.prepare(rule);
            }
            drop(permit);
            contents
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| stopped(&self.info))
    }

    fn ambiguous(&self) -> Error {
        let message = "two users of the file have this login";
        Error::new(ErrorKind::Ambiguous, message)
            .at(Arc::clone(self.info.name()))
            .with("file", self.files.config.path.display())
    }

    /// An id means somebody only together with the source that issued it.
    fn issued(&self, who: &Principal) -> bool {
        who.source() == self.info.name()
    }
}

fn stopped(info: &SourceInfo) -> Error {
    Error::new(ErrorKind::Internal, "a job that reads the file did not end").at(Arc::clone(info.name()))
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, path) = (self.info.name(), &self.files.config.path);
        f.debug_struct("FileStore").field("name", name).field("path", path).finish_non_exhaustive()
    }
}

impl Files {
    fn open(source: Arc<str>, config: FileConfig, format: Format) -> Result<Self> {
        let loaded = load(&config, format, None).map_err(|fault| fault.error.at(Arc::clone(&source)))?;
        let state = Mutex::new(State { loaded, fault: None });
        Ok(Self { source, config, format, state, reading: Mutex::new(()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contents as the files are now, or those of before if they can't be read.
    pub(crate) fn current(&self) -> Arc<Contents> {
        if let Some(contents) = self.known() {
            return contents;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have read them while we waited.
        if let Some(contents) = self.known() {
            return contents;
        }
        let before = self.state().loaded.clone();
        let result = load(&self.config, self.format, Some(&before.stamps));
        if let Ok(loaded) = &result {
            loaded.contents.prepare_as(&before.contents);
        }
        let mut state = self.state();
        match result {
            Ok(loaded) => *state = State { loaded, fault: None },
            Err(fault) => {
                let error = fault.error.at(Arc::clone(&self.source));
                state.fault = Some(Fault { error, stamps: fault.stamps });
            }
        }
        Arc::clone(&state.loaded.contents)
    }

    /// The contents, if a look at the files shows that there is nothing new to read.
    fn known(&self) -> Option<Arc<Contents>> {
        let now = look(&self.config).ok()?;
        let mut state = self.state();
        if state.loaded.settled && state.loaded.stamps == now {
            state.fault = None;
        } else if state.fault.as_ref().and_then(|fault| fault.stamps) != Some(now) {
            return None;
        }
        Some(Arc::clone(&state.loaded.contents))
    }
}

fn look(config: &FileConfig) -> Result<Stamps> {
    let beside = |path: &Option<PathBuf>| path.as_deref().map(disk::look).transpose();
    Ok(Each {
        users: disk::look(&config.path)?,
        groups: beside(&config.groups)?,
        shadow: beside(&config.shadow)?,
    })
}

fn load(
    config: &FileConfig,
    format: Format,
    before: Option<&Stamps>,
) -> std::result::Result<Loaded, Box<Fault>> {
    // What the system says may pass by itself, so the files are read again at the next question.
    let files = read(config, before).map_err(|error| Box::new(Fault { error, stamps: None }))?;
    let stamp = |file: &Option<Snapshot>| file.as_ref().map(|file| file.stamp);
    let stamps =
        Each { users: files.users.stamp, groups: stamp(&files.groups), shadow: stamp(&files.shadow) };
    let beside = [&files.groups, &files.shadow];
    let settled = files.users.settled && beside.into_iter().flatten().all(|file| file.settled);
    match parse(config, format, &files) {
        Ok(contents) => Ok(Loaded { stamps, settled, contents: Arc::new(contents) }),
        // What is written there stays as it is until the file changes.
        Err(error) => Err(Box::new(Fault { error, stamps: settled.then_some(stamps) })),
    }
}

fn read(config: &FileConfig, before: Option<&Stamps>) -> Result<Each<Snapshot>> {
    let read = |path: &Path, before: Option<&Stamp>| {
        let snapshot = disk::read(path, config.max_bytes)?;
        // Who rewrites a file in place empties it first. Nobody's users all leave at once.
        if snapshot.bytes.is_empty() && before.is_some_and(|before| !before.is_empty()) {
            return Err(broken(path, Broken::new(1, "the file was emptied")));
        }
        Ok(snapshot)
    };
    let beside = |path: &Option<PathBuf>, before: Option<&Stamp>| {
        path.as_deref().map(|path| read(path, before)).transpose()
    };
    Ok(Each {
        users: read(&config.path, before.map(|before| &before.users))?,
        groups: beside(&config.groups, before.and_then(|before| before.groups.as_ref()))?,
        shadow: beside(&config.shadow, before.and_then(|before| before.shadow.as_ref()))?,
    })
}

fn parse(config: &FileConfig, format: Format, files: &Each<Snapshot>) -> Result<Contents> {
    let scheme = config.scheme.as_deref();
    let hidden = match (&config.shadow, &files.shadow) {
        (Some(path), Some(shadow)) => Some(parse_file(path, shadow, |text| unix::shadow(text, scheme))?),
        _ => None,
    };
    let group_file = config.groups.as_deref().zip(files.groups.as_ref());
    let users = &files.users;
    Ok(match format {
        Format::Toml => parse_file(&config.path, users, |text| users_toml::read(text, scheme))?,
        Format::Htpasswd => {
            let users = parse_file(&config.path, users, |text| htfiles::users(text, scheme))?;
            let groups = group_file.map(|(path, file)| parse_file(path, file, htfiles::groups));
            Contents::new(users).with_memberships(groups.transpose()?.unwrap_or_default())
        }
        Format::Shadow => {
            let users = parse_file(&config.path, users, |text| unix::shadow(text, scheme))?;
            let groups = group_file.map(|(path, file)| parse_file(path, file, unix::groups)).transpose()?;
            Contents::new(users).with_memberships(memberships(groups.unwrap_or_default()))
        }
        Format::Passwd => {
            let users =
                parse_file(&config.path, users, |text| Passwd::read(text, scheme, hidden.as_deref()))?;
            let groups = group_file.map(|(path, file)| parse_file(path, file, unix::groups)).transpose()?;
            let mut groups = groups.unwrap_or_default();
            users.complete(&mut groups);
            Contents::new(users.into_records()).with_memberships(memberships(groups))
        }
    })
}

fn memberships(groups: Vec<unix::Group>) -> Vec<(String, Vec<String>)> {
    groups.into_iter().map(|(name, _, members)| (name, members)).collect()
}

fn parse_file<T>(
    path: &Path,
    snapshot: &Snapshot,
    read: impl FnOnce(&str) -> std::result::Result<T, Broken>,
) -> Result<T> {
    let text = std::str::from_utf8(&snapshot.bytes).map_err(|error| {
        let good = snapshot.bytes.iter().take(error.valid_up_to());
        Broken::new(1 + good.filter(|byte| **byte == b'\n').count(), "this line is not UTF-8")
    });
    text.and_then(read).map_err(|fault| broken(path, fault))
}

fn broken(path: &Path, fault: Broken) -> Error {
    Error::new(ErrorKind::Corrupt, fault.what).with("file", path.display()).with("line", fault.line)
}

#[async_trait]
impl AccountSource for FileStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let rule = login.realm().rule();
        let contents = self.contents(Some(rule)).await?;
        match contents.account(rule, login.as_str()) {
            Found::One(record) => {
                let (id, state, hash) = (record.id.clone(), record.state.clone(), record.hash.clone());
                Ok(Account::found(&self.info, login, &record.login, id, state, hash))
            }
            Found::Several => Err(self.ambiguous()),
            Found::None => Ok(Lookup::NotFound),
        }
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        _who: &Principal,
        _old: &StoredHash,
        _new: &StoredHash,
    ) -> Result<bool> {
        let message = "user files are written by hand; Gatepost only reads them";
        Err(Error::new(ErrorKind::Unsupported, message).at(Arc::clone(self.info.name())))
    }
}

#[async_trait]
impl GroupOracle for FileStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let rule = who.realm().rule();
        let contents = self.contents(Some(rule)).await?;
        if !self.issued(who) {
            return Ok(Lookup::NotFound);
        }
        match contents.groups(rule, who.id()) {
            Found::One(groups) => Ok(Lookup::Found(groups)),
            Found::Several => Err(self.ambiguous()),
            Found::None => Ok(Lookup::NotFound),
        }
    }
}

#[async_trait]
impl ObjectPerms for FileStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let contents = self.contents(None).await?;
        self.access_in(&contents, who, object, mode)
    }

    // One look at the file for all: no answer is older than the others.
    async fn access_many(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        match self.contents(None).await {
            Ok(contents) => {
                objects.iter().map(|object| self.access_in(&contents, who, object, mode)).collect()
            }
            Err(error) => objects.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

impl ChangeFeed for FileStore {
    fn kind(&self) -> &'static str {
        "watch"
    }

    fn follow(&self, ear: Arc<dyn ChangeEar>) -> Result<Listening> {
        watch::follow(Arc::clone(&self.files), ear).map_err(|error| error.at(Arc::clone(self.info.name())))
    }
}

impl FileStore {
    fn access_in(
        &self,
        contents: &Contents,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let fault = |kind, message| {
            Err(Error::new(kind, message).at(Arc::clone(self.info.name())).with("domain", object.domain()))
        };
        let Some(domains) = contents.domains() else {
            return fault(ErrorKind::Unsupported, "only a TOML file has objects");
        };
        let Some(domain) = domains.get(object.domain()) else {
            return fault(ErrorKind::Invalid, "the file declares no such domain");
        };
        let Some(rights) = domain.get(&parts(object)) else { return Ok(Access::NotFound) };
        let number = contents.number(who.id()).filter(|_| self.issued(who));
        let right =
            |(user, what): &(usize, String)| number == Some(*user) && mode.is_none_or(|mode| mode == what);
        Ok(if rights.iter().any(right) { Access::Allow } else { Access::Deny })
    }
}
