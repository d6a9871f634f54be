//! Settings, and what they come to with a preset.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use auth_core::Result;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::dn::{self, Template};
use crate::fault::wrong;
use crate::filter::{Filter, Slot};

/// The rule of Active Directory that follows groups within groups.
pub(crate) const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// The settings of an [`LdapStore`](crate::LdapStore).
///
/// `Debug` shows no password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LdapConfig {
    /// Where the servers are: one url or several, of which the first that works is used.
    pub url: Urls,
    /// What kind of server it is; gives the other keys their defaults.
    #[serde(default)]
    pub preset: Preset,
    /// How passwords are checked.
    #[serde(default)]
    pub mode: Mode,
    /// Where people are.
    pub base: String,
    /// Finds a person; `{login}` stands for the login.
    #[serde(default)]
    pub user_filter: Option<String>,
    /// The attribute with the login.
    #[serde(default)]
    pub login_attr: Option<String>,
    /// The attribute with an id that survives a rename.
    #[serde(default)]
    pub id_attr: Option<String>,
    /// The attribute with the password, for the modes `fetch-hash` and `compare`.
    #[serde(default)]
    pub password_attr: Option<String>,
    /// The name that a login is bound with in the mode `bind-template`.
    #[serde(default)]
    pub user_dn: Option<String>,
    /// The name of our own account.
    #[serde(default)]
    pub bind_dn: Option<String>,
    /// The password of our own account.
    #[serde(default)]
    pub bind_password: Option<String>,
    /// Another way for our own account to log in.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How groups are found. By default what the preset says, if `group_base` is set.
    #[serde(default)]
    pub group_strategy: Option<Strategy>,
    /// Where groups are.
    #[serde(default)]
    pub group_base: Option<String>,
    /// Finds groups; `{dn}` stands for the name of a member, `{login}` for the login.
    #[serde(default)]
    pub group_filter: Option<String>,
    /// The attribute with a group's name.
    #[serde(default)]
    pub group_name_attr: Option<String>,
    /// How deep groups may be nested.
    #[serde(default = "ten")]
    pub group_depth: u32,
    /// What to do with parts of the tree that other servers have. By default what the preset says.
    #[serde(default)]
    pub referrals: Option<Referrals>,
    /// When the configuration is compared with the server.
    #[serde(default)]
    pub check: Check,
    /// Limits of connections, times and sizes.
    #[serde(default)]
    pub pool: PoolConfig,
}

const fn ten() -> u32 {
    10
}

/// One url, or several.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a url or a list of urls")]
pub enum Urls {
    /// One server.
    One(String),
    /// Several, in the order in which they are tried.
    Several(Vec<String>),
}

impl Urls {
    fn list(&self) -> Vec<&str> {
        match self {
            Self::One(url) => vec![url],
            Self::Several(urls) => urls.iter().map(String::as_str).collect(),
        }
    }
}

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// OpenLDAP, and whatever is like it.
    #[default]
    OpenLdap,
    /// Active Directory, also Samba's.
    Ad,
    /// 389 Directory Server, and what is built on it.
    #[serde(rename = "389ds")]
    Ds389,
}

impl Preset {
    /// Names it as configuration does.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenLdap => "openldap",
            Self::Ad => "ad",
            Self::Ds389 => "389ds",
        }
    }
}

/// How passwords are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum Mode {
    /// Our account finds the entry, and the password is tried on it.
    #[default]
    #[serde(rename = "search+bind")]
    SearchBind,
    /// Our account reads the stored hash.
    #[serde(rename = "fetch-hash")]
    FetchHash,
    /// The name is made of the login, and the password is tried on it.
    #[serde(rename = "bind-template")]
    BindTemplate,
    /// Our account has the server compare the password with the stored one.
    #[serde(rename = "compare")]
    Compare,
}

/// Another way for our own account to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Sasl {
    /// By what the connection says of us: the user of the process over `ldapi://`, our certificate over TLS.
    External,
}

/// How groups are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum Strategy {
    /// The entry of a person names its groups.
    #[serde(rename = "memberOf")]
    MemberOf,
    /// Active Directory counts up all groups of a person, nested ones and the primary one included.
    #[serde(rename = "tokenGroups")]
    TokenGroups,
    /// Active Directory follows nested groups in one search.
    #[serde(rename = "in-chain")]
    InChain,
    /// Groups are searched for by their members, level by level.
    #[serde(rename = "recursive")]
    Recursive,
    /// As `recursive`, without groups within groups.
    #[serde(rename = "direct")]
    Direct,
}

/// What to do with parts of the tree that other servers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Referrals {
    /// Nobody is there.
    Ignore,
    /// Nobody can be said not to exist.
    Refuse,
}

/// When the configuration is compared with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Check {
    /// At the start, which fails if no server can be reached.
    #[default]
    Start,
    /// With the first question that reaches a server.
    Later,
}

/// How the connection is protected.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whether TLS is demanded of servers on other machines.
    pub mode: TlsMode,
    /// Whether a connection to `ldap://` begins TLS before anything else.
    pub starttls: bool,
    /// Whom to trust, a file; by default whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, a file.
    pub cert: Option<PathBuf>,
    /// The key of our certificate, a file.
    pub key: Option<PathBuf>,
}

/// Whether TLS is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TlsMode {
    /// Passwords go to other machines over TLS only, and the server's certificate is checked.
    #[default]
    Verify,
    /// Passwords may go to other machines in clear.
    None,
}

/// Limits of connections, times and sizes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PoolConfig {
    /// How many connections search.
    pub service_connections: usize,
    /// How many searches are under way at once, over all of them.
    pub searches: usize,
    /// How many connections try passwords, each one at a time.
    pub bind_connections: usize,
    /// How long a question waits for its turn, in milliseconds.
    pub wait_ms: u64,
    /// How long connecting to one server may take, in milliseconds; TLS and our own login included.
    pub connect_timeout_ms: u64,
    /// How long one search or one login may take, in milliseconds.
    pub timeout_ms: u64,
    /// After how long without use a connection is not used again, in milliseconds.
    pub idle_ms: u64,
    /// How many groups one page of an answer has.
    pub page: u32,
    /// The most groups that are read for one person.
    pub max_groups: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            service_connections: 2,
            searches: 64,
            bind_connections: 8,
            wait_ms: 1_000,
            connect_timeout_ms: 2_000,
            timeout_ms: 3_000,
            idle_ms: 60_000,
            page: 500,
            max_groups: 10_000,
        }
    }
}

impl LdapConfig {
    /// Makes the settings of a server and a base; the rest has its defaults.
    pub fn new(url: impl Into<String>, base: impl Into<String>) -> Self {
        Self {
            url: Urls::One(url.into()),
            preset: Preset::default(),
            mode: Mode::default(),
            base: base.into(),
            user_filter: None,
            login_attr: None,
            id_attr: None,
            password_attr: None,
            user_dn: None,
            bind_dn: None,
            bind_password: None,
            sasl: None,
            tls: TlsConfig::default(),
            group_strategy: None,
            group_base: None,
            group_filter: None,
            group_name_attr: None,
            group_depth: ten(),
            referrals: None,
            check: Check::default(),
            pool: PoolConfig::default(),
        }
    }

    /// Checks everything that can be checked without a server.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), which never tells a password.
    pub fn validate(&self) -> Result<()> {
        Settings::of(self).map(drop)
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().into_iter().map(masked)).finish()
    }
}

impl fmt::Debug for LdapConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapConfig")
            .field("url", &self.url)
            .field("preset", &self.preset)
            .field("mode", &self.mode)
            .field("base", &self.base)
            .field("user_filter", &self.user_filter)
            .field("user_dn", &self.user_dn)
            .field("bind_dn", &self.bind_dn)
            .field("bind_password", &self.bind_password.as_ref().map(|_| "***"))
            .field("sasl", &self.sasl)
            .field("tls", &self.tls)
            .field("group_strategy", &self.group_strategy)
            .field("group_base", &self.group_base)
            .field("group_filter", &self.group_filter)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// Hides what stands before an `@`: somebody may have written a password there.
fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (Some(_), None) => url.to_owned(),
        (None, _) => "***".to_owned(),
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: Tls },
    Unix(PathBuf),
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Never,
    AtOnce,
    Started,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Place {
    pub(crate) fn parse(url: &str, starttls: bool) -> Result<Self> {
        // The url itself is not told: a password may stand in it.
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("`url` is no url, as ldaps://ldap.example.com is one"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if scheme == "ldapi" {
            let path = percent_decode_str(rest)
                .decode_utf8()
                .map_err(|_| wrong("the path of ldapi:// is no text"))?;
            if !path.starts_with('/') {
                return Err(wrong("the path of a socket is percent-encoded: ldapi://%2Frun%2Fslapd%2Fldapi"));
            }
            return Ok(Self::Unix(PathBuf::from(path.into_owned())));
        }
        let (tls, port) = match scheme {
            "ldap" if starttls => (Tls::Started, 389),
            "ldap" => (Tls::Never, 389),
            "ldaps" => (Tls::AtOnce, 636),
            _ => return Err(wrong("`url` begins with ldap://, ldaps:// or ldapi://")),
        };
        let fault = || {
            wrong(
                "the host in `url` is name, name:port, 192.0.2.1:port or [2001:db8::1]:port, and nothing follows",
            )
        };
        let (host, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(fault)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?,
            None if rest.is_empty() => port,
            None => return Err(fault()),
        };
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b)) {
            return Err(fault());
        }
        if tls != Tls::Never && host.contains(':') {
            return Err(wrong("with TLS an IPv6 address can't be checked; use the server's name"));
        }
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }

    /// Whether what is sent in clear can be read on no other machine.
    fn is_here(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// As whom we search.
#[derive(Clone)]
pub(crate) enum Identity {
    Nobody,
    Account { dn: String, password: String },
    External,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Account { .. } => "Account(..)",
            Self::External => "External",
        })
    }
}

/// How ids are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// A UUID as text.
    Uuid,
    /// The 16 bytes of Active Directory.
    Guid,
    Text,
}

/// How groups are found.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    pub(crate) strategy: Strategy,
    pub(crate) base: String,
    pub(crate) filter: Filter,
    pub(crate) name_attr: String,
    pub(crate) depth: u32,
}

/// What the settings come to.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) places: Vec<Place>,
    pub(crate) preset: Preset,
    pub(crate) mode: Mode,
    pub(crate) base: String,
    pub(crate) user_filter: Filter,
    pub(crate) login_attr: String,
    pub(crate) id_attr: String,
    pub(crate) id_kind: IdKind,
    pub(crate) password_attr: String,
    pub(crate) user_dn: Option<Template>,
    pub(crate) identity: Identity,
    pub(crate) tls: TlsConfig,
    pub(crate) groups: Option<Groups>,
    pub(crate) referrals: Referrals,
    pub(crate) check: Check,
    pub(crate) pool: PoolConfig,
}

impl Settings {
    pub(crate) fn of(config: &LdapConfig) -> Result<Self> {
        let places = places(config)?;
        let preset = config.preset;
        let or = |given: &Option<String>, [open, ad, ds]: [&str; 3]| {
            given.clone().unwrap_or_else(|| {
                match preset {
                    Preset::OpenLdap => open,
                    Preset::Ad => ad,
                    Preset::Ds389 => ds,
                }
                .to_owned()
            })
        };
        let login_attr = or(&config.login_attr, ["uid", "sAMAccountName", "uid"]);
        let id_attr = or(&config.id_attr, ["entryUUID", "objectGUID", "nsUniqueId"]);
        let password_attr = or(&config.password_attr, ["userPassword"; 3]);
        for (key, name) in
            [("login_attr", &login_attr), ("id_attr", &id_attr), ("password_attr", &password_attr)]
        {
            attribute(key, name)?;
        }
        let user_filter = match (&config.user_filter, preset) {
            (Some(text), _) => Filter::parse("user_filter", text)?,
            (None, Preset::Ad) => Filter::And(vec![
                Filter::equal("objectCategory", b"person"),
                Filter::equal("objectClass", b"user"),
                Filter::slot(&login_attr, Slot::Login),
            ]),
            (None, _) => Filter::slot(&login_attr, Slot::Login),
        };
        if !user_filter.has(Slot::Login) || user_filter.has(Slot::Dn) {
            return Err(wrong("`user_filter` needs {login}, and has no {dn}"));
        }
        let id_kind = match id_attr.to_ascii_lowercase().as_str() {
            "objectguid" => IdKind::Guid,
            "entryuuid" => IdKind::Uuid,
            _ => IdKind::Text,
        };
        if dn::rdns(&config.base).is_none() {
            return Err(wrong("`base` is no distinguished name"));
        }
        let user_dn = match (&config.user_dn, config.mode) {
            (Some(text), Mode::BindTemplate) => Some(Template::parse("user_dn", text)?),
            (None, Mode::BindTemplate) => return Err(wrong("the mode bind-template needs `user_dn`")),
            (Some(_), _) => return Err(wrong("`user_dn` is for the mode bind-template")),
            (None, _) => None,
        };
        if config.password_attr.is_some() && !matches!(config.mode, Mode::FetchHash | Mode::Compare) {
            return Err(wrong("`password_attr` is for the modes fetch-hash and compare"));
        }
        let referrals = config.referrals.unwrap_or(match preset {
            // Its domains refer to their own DNS zones in every answer.
            Preset::Ad => Referrals::Ignore,
            _ => Referrals::Refuse,
        });
        let identity = identity(config)?;
        if matches!(config.mode, Mode::FetchHash | Mode::Compare) && matches!(identity, Identity::Nobody) {
            return Err(wrong("the modes fetch-hash and compare need `bind_dn` or `sasl`"));
        }
        Ok(Self {
            places,
            preset,
            mode: config.mode,
            base: config.base.clone(),
            user_filter,
            login_attr,
            id_attr,
            id_kind,
            password_attr,
            user_dn,
            identity,
            tls: config.tls.clone(),
            groups: groups(config)?,
            referrals,
            check: config.check,
            pool: pool(&config.pool)?,
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.pool.timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.pool.connect_timeout_ms)
    }
}

fn places(config: &LdapConfig) -> Result<Vec<Place>> {
    let urls = config.url.list();
    if urls.is_empty() {
        return Err(wrong("`url` is empty"));
    }
    let places: Result<Vec<Place>> =
        urls.into_iter().map(|url| Place::parse(url, config.tls.starttls)).collect();
    let places = places?;
    let tls = &config.tls;
    let protected = |place: &Place| matches!(place, Place::Tcp { tls, .. } if *tls != Tls::Never);
    for place in &places {
        match tls.mode {
            TlsMode::None if protected(place) => {
                return Err(wrong("`tls.mode` is none, but `url` or `tls.starttls` demands TLS"));
            }
            TlsMode::Verify if !protected(place) && !place.is_here() => {
                return Err(wrong(format!(
                    "passwords would go to {place} in clear: use ldaps://, or `tls.starttls = true`, or say \
                     `tls.mode = \"none\"` if that is meant"
                )));
            }
            TlsMode::None if !place.is_here() => {
                tracing::warn!(server = %place, "passwords go to this server in clear, as `tls.mode` says");
            }
            _ => {}
        }
    }
    if tls.cert.is_some() != tls.key.is_some() {
        return Err(wrong("`tls.cert` needs `tls.key`, and the key the certificate"));
    }
    if (tls.ca.is_some() || tls.cert.is_some()) && !places.iter().any(protected) {
        return Err(wrong("certificates are given, but no server is spoken to over TLS"));
    }
    Ok(places)
}

fn identity(config: &LdapConfig) -> Result<Identity> {
    match (&config.bind_dn, &config.bind_password, config.sasl) {
        (None, None, None) => Ok(Identity::Nobody),
        (Some(dn), Some(password), None) => {
            if dn.is_empty() || password.is_empty() {
                // It would be an anonymous login that succeeds.
                return Err(wrong("`bind_dn` and `bind_password` can't be empty"));
            }
            if config.preset != Preset::Ad && dn::rdns(dn).is_none() {
                return Err(wrong("`bind_dn` is no distinguished name"));
            }
            Ok(Identity::Account { dn: dn.clone(), password: password.clone() })
        }
        (None, None, Some(Sasl::External)) => Ok(Identity::External),
        (_, _, Some(Sasl::External)) => Err(wrong("`sasl` takes the place of `bind_dn` and `bind_password`")),
        _ => Err(wrong("`bind_dn` needs `bind_password`, and the password the name")),
    }
}

fn groups(config: &LdapConfig) -> Result<Option<Groups>> {
    let preset = config.preset;
    let any = config.group_filter.is_some() || config.group_name_attr.is_some();
    let strategy = match (config.group_strategy, &config.group_base) {
        (Some(strategy), _) => strategy,
        (None, Some(_)) => match preset {
            Preset::OpenLdap => Strategy::Recursive,
            Preset::Ad => Strategy::TokenGroups,
            Preset::Ds389 => Strategy::MemberOf,
        },
        (None, None) if any => return Err(wrong("groups need `group_base`")),
        (None, None) => return Ok(None),
    };
    let Some(base) = config.group_base.clone() else { return Err(wrong("groups need `group_base`")) };
    if dn::rdns(&base).is_none() {
        return Err(wrong("`group_base` is no distinguished name"));
    }
    if preset != Preset::Ad && matches!(strategy, Strategy::TokenGroups | Strategy::InChain) {
        return Err(wrong(
            "the group strategies tokenGroups and in-chain are of Active Directory: `preset = \"ad\"`",
        ));
    }
    let searches = matches!(strategy, Strategy::Recursive | Strategy::Direct | Strategy::InChain);
    let filter = match (&config.group_filter, strategy) {
        (Some(_), _) if !searches => {
            return Err(wrong("`group_filter` is for recursive, direct and in-chain"));
        }
        (Some(text), _) => Filter::parse("group_filter", text)?,
        (None, Strategy::InChain) => Filter::And(vec![
            Filter::equal("objectClass", b"group"),
            Filter::slot(&format!("member:{IN_CHAIN}:"), Slot::Dn),
        ]),
        (None, _) if preset == Preset::Ad => {
            Filter::And(vec![Filter::equal("objectClass", b"group"), Filter::slot("member", Slot::Dn)])
        }
        (None, _) => {
            Filter::Or(vec![Filter::slot("member", Slot::Dn), Filter::slot("uniqueMember", Slot::Dn)])
        }
    };
    if searches && !filter.has(Slot::Dn) && !filter.has(Slot::Login) {
        return Err(wrong("`group_filter` needs {dn} or {login}"));
    }
    if filter.has_rule(IN_CHAIN) != (strategy == Strategy::InChain) {
        return Err(wrong(format!(
            "the rule {IN_CHAIN} in `group_filter` is for the strategy in-chain, which needs it"
        )));
    }
    let name_attr = config.group_name_attr.clone().unwrap_or_else(|| "cn".to_owned());
    attribute("group_name_attr", &name_attr)?;
    if config.group_depth == 0 || config.group_depth > 100 {
        return Err(wrong("`group_depth` is 1 to 100"));
    }
    Ok(Some(Groups { strategy, base, filter, name_attr, depth: config.group_depth }))
}

fn pool(pool: &PoolConfig) -> Result<PoolConfig> {
    let PoolConfig {
        service_connections,
        searches,
        bind_connections,
        wait_ms,
        connect_timeout_ms,
        timeout_ms,
        ..
    } = *pool;
    let (page, max_groups) = (pool.page, pool.max_groups);
    if [service_connections, searches, bind_connections, max_groups].contains(&0) {
        return Err(wrong("the numbers in `pool` are more than 0"));
    }
    if service_connections > 64 || bind_connections > 1_024 || searches > 65_536 {
        return Err(wrong(
            "`pool` has 64 service_connections, 1,024 bind_connections and 65,536 searches at most",
        ));
    }
    let hour = 3_600_000;
    if [wait_ms, connect_timeout_ms, timeout_ms, pool.idle_ms].iter().any(|ms| *ms == 0 || *ms > hour) {
        return Err(wrong("the times in `pool` are more than 0, and an hour at most"));
    }
    if !(1..=100_000).contains(&page) {
        return Err(wrong("`pool.page` is 1 to 100,000"));
    }
    Ok(pool.clone())
}

fn attribute(key: &str, name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._;".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(wrong(format!("`{key}` is the name of an attribute")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> LdapConfig {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn fault(text: &str) -> String {
        config(text).validate().expect_err(text).message().to_owned()
    }

    const LEAST: &str = "url = 'ldap://localhost'\nbase = 'dc=x'\n";

    #[test]
    fn urls_are_taken_apart() {
        let tcp = |host: &str, port, tls| Place::Tcp { host: host.into(), port, tls };
        for (url, starttls, expected) in [
            ("ldap://a", false, tcp("a", 389, Tls::Never)),
            ("ldap://a:1389/", true, tcp("a", 1389, Tls::Started)),
            ("ldaps://a.example", true, tcp("a.example", 636, Tls::AtOnce)),
            ("ldap://[::1]:7", false, tcp("::1", 7, Tls::Never)),
            ("ldapi://%2Frun%2Fldapi", true, Place::Unix("/run/ldapi".into())),
        ] {
            assert_eq!(Place::parse(url, starttls).unwrap(), expected, "{url}");
        }
        for url in [
            "a",
            "http://a",
            "ldap://",
            "ldap://a:0",
            "ldap://u:hunter2@a",
            "ldap://a/dc=x",
            "ldapi://run",
            "ldaps://[::1]",
            "ldap://a:x",
        ] {
            let error = Place::parse(url, false).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn passwords_go_nowhere_in_clear_unless_that_is_said() {
        assert!(fault("url = 'ldap://ldap.example'\nbase = 'dc=x'").contains("in clear"));
        assert!(fault("url = ['ldaps://a', 'ldap://b']\nbase = 'dc=x'").contains("in clear"));
        for said in ["tls = { mode = 'none' }", "tls = { starttls = true }"] {
            config(&format!("url = 'ldap://ldap.example'\nbase = 'dc=x'\n{said}")).validate().unwrap();
        }
        for here in ["ldap://127.0.0.1:1", "ldap://[::1]", "ldap://localhost", "ldapi://%2Fa"] {
            config(&format!("url = '{here}'\nbase = 'dc=x'")).validate().unwrap();
        }
        assert!(fault("url = 'ldaps://a'\nbase = 'dc=x'\ntls = { mode = 'none' }").contains("none"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        for text in [
            "uurl = 'x'",
            "preset = 'novell'",
            "mode = 'bind'",
            "tls = { verify = false }",
            "pool = { size = 1 }",
            "group_strategy = 'all'",
        ] {
            assert!(toml::from_str::<LdapConfig>(&format!("{LEAST}{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_together_are_refused() {
        for (text, word) in [
            ("user_filter = '(uid=calvin)'", "{login}"),
            ("user_filter = '(uid={dn})'", "{login}"),
            ("mode = 'bind-template'", "user_dn"),
            ("user_dn = 'uid={login},dc=x'", "bind-template"),
            ("bind_dn = 'cn=a'", "bind_password"),
            ("bind_dn = 'cn=a'\nbind_password = ''", "empty"),
            ("bind_dn = 'cn=a'\nbind_password = 'x'\nsasl = 'external'", "sasl"),
            ("bind_dn = 'reader'\nbind_password = 'x'", "bind_dn"),
            ("mode = 'fetch-hash'", "need"),
            ("mode = 'compare'", "need"),
            ("group_strategy = 'memberOf'", "group_base"),
            ("group_base = 'dc=x'\ngroup_strategy = 'in-chain'", "Active Directory"),
            ("group_base = 'dc=x'\ngroup_strategy = 'tokenGroups'", "Active Directory"),
            ("group_base = 'dc=x'\ngroup_filter = '(cn=a)'", "{dn}"),
            ("group_base = 'dc=x'\ngroup_filter = '(member:1.2.840.113556.1.4.1941:={dn})'", "in-chain"),
            ("group_base = 'dc=x'\ngroup_depth = 0", "group_depth"),
            ("group_base = 'groups'", "group_base"),
            ("login_attr = 'u id'", "login_attr"),
            ("password_attr = 'x'", "fetch-hash"),
            ("tls = { cert = 'a' }", "tls.key"),
            ("tls = { ca = 'a' }", "over TLS"),
            ("pool = { searches = 0 }", "pool"),
            ("pool = { wait_ms = 0 }", "pool"),
        ] {
            let fault = fault(&format!("{LEAST}{text}"));
            assert!(fault.contains(word), "{text}: {fault}");
        }
        assert!(fault("url = []\nbase = 'dc=x'").contains("empty"));
    }

    #[test]
    fn presets_give_the_rest() {
        let of = |preset: &str| {
            Settings::of(&config(&format!("{LEAST}preset = '{preset}'\ngroup_base = 'dc=x'"))).unwrap()
        };
        let (open, ad, ds) = (of("openldap"), of("ad"), of("389ds"));
        assert_eq!(
            (open.id_attr.as_str(), ad.id_attr.as_str(), ds.id_attr.as_str()),
            ("entryUUID", "objectGUID", "nsUniqueId")
        );
        assert_eq!(
            (ad.login_attr.as_str(), ad.id_kind, ad.referrals),
            ("sAMAccountName", IdKind::Guid, Referrals::Ignore)
        );
        let strategies = [&open, &ad, &ds].map(|settings| settings.groups.as_ref().unwrap().strategy);
        assert_eq!(strategies, [Strategy::Recursive, Strategy::TokenGroups, Strategy::MemberOf]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let text = "url = 'ldaps://u:hunter2@a'\nbase = 'dc=x'\nbind_dn = 'cn=a'\nbind_password = 'hunter2'";
        let config = config(text);
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        let settings = format!("{:?}", Settings::of(&self::config(&text.replace("u:hunter2@", ""))));
        assert!(!settings.contains("hunter2"), "{settings}");
    }
}
