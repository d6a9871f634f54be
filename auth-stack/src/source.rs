//! What a kind of source is, and the one list of those that are built in.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    AccountSource, ChangeFeed, Clock, Directory, Error, GroupOracle, ObjectPerms, PasswordSource, Resolver,
    Result, SourceInfo,
};
use auth_store_file::{FileConfig, FileStore};
use auth_store_ldap::{LdapConfig, LdapStore, Mode};
use auth_store_sql::{Push, SqlConfig, SqlStore};
use serde::de::DeserializeOwned;

use crate::origins::Origins;
use crate::redis_source;

/// What a kind of source is given to open one: its name and settings, the clock and the data folder.
///
/// `Debug` shows no settings, since they may hold secrets.
pub struct Opening<'a> {
    /// The source's name, configuration fingerprint and default capabilities.
    pub info: SourceInfo,
    /// The source's keys but for `kind` and those that [every kind has](crate::SourceCommon::KEYS); secrets are
    /// resolved.
    pub settings: toml::Table,
    /// The stack's clock.
    pub clock: Arc<dyn Clock>,
    /// The data folder.
    pub data: &'a Path,
    pub(crate) origins: &'a Origins,
}

impl fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.settings.keys().collect();
        f.debug_struct("Opening").field("info", &self.info).field("settings", &keys).finish_non_exhaustive()
    }
}

impl Opening<'_> {
    /// Types the settings. Give the type `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the file, the line and the nearest right word.
    pub fn settings<T: DeserializeOwned>(&mut self) -> Result<T> {
        let table = std::mem::take(&mut self.settings);
        self.origins.typed(table, &["source", self.info.name()])
    }
}

/// Who knows passwords: a store that shows hashes, or one that decides by itself.
#[derive(Debug, Clone)]
pub enum Passwords {
    /// Shows accounts with stored hashes; the stack verifies them in its hashing pool.
    Shows(Arc<dyn AccountSource>),
    /// Decides. What it accepts is remembered for as long as `cache.ttl.accepted` says.
    Decides(Arc<dyn PasswordSource>),
    /// Decides, and no password is good twice: each is asked about.
    DecidesOnce(Arc<dyn PasswordSource>),
}

/// Tells what is wrong with a source that answers all the same: a file that could not be read again.
pub type Fault = Arc<dyn Fn() -> Option<Error> + Send + Sync>;

/// Looks anew whether a source is fit, where that is more than a question about nobody tells: whether its file
/// can be read as it is now. Must be cheap: it is part of each probe.
#[async_trait]
pub trait Look: Send + Sync {
    /// Looks.
    ///
    /// # Errors
    /// What is wrong with the source.
    async fn look(&self) -> Result<()>;
}

#[async_trait]
impl Look for FileStore {
    async fn look(&self) -> Result<()> {
        self.refresh().await
    }
}

/// What an open source provides. Everything is optional; asking for what is not there is an error at start.
#[derive(Clone, Default)]
pub struct Provides {
    /// Who may log in.
    pub passwords: Option<Passwords>,
    /// Who is in which group.
    pub groups: Option<Arc<dyn GroupOracle>>,
    /// Who may do what with which object.
    pub objects: Option<Arc<dyn ObjectPerms>>,
    /// The domains of objects that it declares; `*` if it keeps a list of its own. With others beside it, `*`
    /// stands for what that list will be: a configuration may name only what is on it at the start.
    pub domains: Vec<String>,
    /// Resolves people of other sources by a mapping of its own: `link = "query"`.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Writes users, groups and rights.
    pub directory: Option<Arc<dyn Directory>>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    /// Looks anew whether something is.
    pub look: Option<Arc<dyn Look>>,
    /// Tells when somebody has changed something in it.
    pub feed: Option<Arc<dyn ChangeFeed>>,
    /// The triggers by which a database can be made to tell.
    pub push: Option<Arc<Push>>,
}

impl fmt::Debug for Provides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provides")
            .field("passwords", &self.passwords.is_some())
            .field("groups", &self.groups.is_some())
            .field("objects", &self.objects.is_some())
            .field("domains", &self.domains)
            .field("directory", &self.directory.is_some())
            .finish_non_exhaustive()
    }
}

impl Provides {
    /// Provides the accounts, groups and rights of one store.
    #[must_use]
    pub fn all_of<S: AccountSource + GroupOracle + ObjectPerms + 'static>(store: Arc<S>) -> Self {
        Self::accounts(Arc::clone(&store) as Arc<dyn AccountSource>)
            .with_groups(Arc::clone(&store) as Arc<dyn GroupOracle>)
            .with_objects(store, ["*".to_owned()])
    }

    /// Provides accounts with stored hashes.
    #[must_use]
    pub fn accounts(store: Arc<dyn AccountSource>) -> Self {
        Self { passwords: Some(Passwords::Shows(store)), ..Self::default() }
    }

    /// Provides decisions about passwords. What is accepted is remembered for `cache.ttl.accepted`; where a password is
    /// good once, say [`Passwords::DecidesOnce`].
    #[must_use]
    pub fn decisions(store: Arc<dyn PasswordSource>) -> Self {
        Self { passwords: Some(Passwords::Decides(store)), ..Self::default() }
    }

    /// Provides writes of users, groups and rights.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Provides groups.
    #[must_use]
    pub fn with_groups(mut self, groups: Arc<dyn GroupOracle>) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Provides rights on the objects of some domains.
    #[must_use]
    pub fn with_objects(
        mut self,
        objects: Arc<dyn ObjectPerms>,
        domains: impl IntoIterator<Item = String>,
    ) -> Self {
        self.objects = Some(objects);
        self.domains = domains.into_iter().collect();
        self
    }
}

/// A kind of source: opens one from its settings.
///
/// Functions of the right shape are kinds:
///
/// ```
/// use auth_stack::{Opening, Provides, SourceKind};
/// async fn open(mut opening: Opening<'_>) -> auth_core::Result<Provides> {
///     let _settings: std::collections::BTreeMap<String, String> = opening.settings()?;
///     Ok(Provides::default())
/// }
/// fn kind() -> impl SourceKind { open }
/// ```
#[async_trait]
pub trait SourceKind: Send + Sync {
    /// Opens a source. Check everything that can be checked now: what is wrong here stops the start.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured) for what an operator must mend; temporary kinds if the
    /// store can't be reached.
    async fn open(&self, opening: Opening<'_>) -> Result<Provides>;
}

#[async_trait]
impl<F> SourceKind for F
where
    F: for<'a> AsyncOpen<'a> + Send + Sync,
{
    async fn open(&self, opening: Opening<'_>) -> Result<Provides> {
        self.call(opening).await
    }
}

/// An asynchronous function from an [`Opening`] to what the source provides.
pub trait AsyncOpen<'a> {
    /// The function's future.
    type Opened: Future<Output = Result<Provides>> + Send + 'a;
    /// Calls the function.
    fn call(&self, opening: Opening<'a>) -> Self::Opened;
}

impl<'a, F, Opened> AsyncOpen<'a> for F
where
    F: Fn(Opening<'a>) -> Opened,
    Opened: Future<Output = Result<Provides>> + Send + 'a,
{
    type Opened = Opened;
    fn call(&self, opening: Opening<'a>) -> Opened {
        self(opening)
    }
}

/// The one list of the kinds that are built in. A new store adds one line here.
pub(crate) fn built_in() -> Vec<(&'static str, Arc<dyn SourceKind>)> {
    vec![
        ("sql", Arc::new(open_sql)),
        ("file", Arc::new(open_file)),
        ("ldap", Arc::new(open_ldap)),
        ("redis", Arc::new(redis_source::open)),
    ]
}

async fn open_sql(mut opening: Opening<'_>) -> Result<Provides> {
    let config: SqlConfig = opening.settings()?;
    let store = Arc::new(SqlStore::connect(opening.info, config, opening.clock).await?);
    let mut provides = Provides::default();
    if store.has_accounts() {
        provides.passwords = Some(Passwords::Shows(Arc::clone(&store) as Arc<dyn AccountSource>));
    }
    if store.has_groups() {
        provides.groups = Some(Arc::clone(&store) as Arc<dyn GroupOracle>);
    }
    provides.domains = store.domains();
    if !provides.domains.is_empty() {
        provides.objects = Some(Arc::clone(&store) as Arc<dyn ObjectPerms>);
    }
    if store.has_link() {
        provides.resolver = Some(Arc::clone(&store) as Arc<dyn Resolver>);
    }
    provides.directory = store.directory();
    provides.feed = store.feed();
    provides.push = store.push().map(Arc::clone);
    Ok(provides)
}

async fn open_file(mut opening: Opening<'_>) -> Result<Provides> {
    let config: FileConfig = opening.settings()?;
    let store = Arc::new(FileStore::connect(opening.info, config).await?);
    let mut provides = Provides::accounts(Arc::clone(&store) as Arc<dyn AccountSource>)
        .with_groups(Arc::clone(&store) as Arc<dyn GroupOracle>);
    // Only a TOML file has objects, and it may have none.
    let domains = store.domains();
    if !domains.is_empty() {
        let domains = domains.into_iter().chain(["*".to_owned()]);
        provides = provides.with_objects(Arc::clone(&store) as Arc<dyn ObjectPerms>, domains);
    }
    provides.look = Some(Arc::clone(&store) as Arc<dyn Look>);
    provides.feed = Some(Arc::clone(&store) as Arc<dyn ChangeFeed>);
    provides.fault = Some(Arc::new(move || store.fault()));
    Ok(provides)
}

async fn open_ldap(mut opening: Opening<'_>) -> Result<Provides> {
    let config: LdapConfig = opening.settings()?;
    let store = Arc::new(LdapStore::connect(opening.info, config, opening.clock).await?);
    let mut provides = match store.mode() {
        Mode::FetchHash => Provides::accounts(Arc::clone(&store) as Arc<dyn AccountSource>),
        _ => Provides::decisions(Arc::clone(&store) as Arc<dyn PasswordSource>),
    };
    if store.has_groups() {
        provides.groups = Some(store as Arc<dyn GroupOracle>);
    }
    Ok(provides)
}

/// Makes the error for a kind that nobody registered.
pub(crate) fn unknown_kind<'a>(
    origins: &Origins,
    path: &[&str],
    what: &str,
    kind: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Error {
    if kind.contains("://") {
        // It may have a password.
        return origins.wrong(path, &format!("this is a url, and no kind of {what}"));
    }
    origins.unknown(path, what, kind, known)
}
