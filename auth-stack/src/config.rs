//! What can be configured, with its defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use auth_cache::{Backoff, Bound, Limits, SealKind, Settings, Ttls};
use auth_core::{Allowance, LoginRule};
use auth_password::GuardConfig;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::secret::shown_url;
use crate::token_config::TokenSection;

/// The whole configuration. Unknown keys are refused everywhere.
///
/// `Debug` shows no settings of a source, since they may hold secrets.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder for the embedded store, the keys and the admin socket.
    pub data: Option<PathBuf>,
    /// The sources by name; the keys of each depend on its `kind`.
    pub source: BTreeMap<String, toml::Table>,
    /// The cache in front of every source.
    pub cache: CacheConfig,
    /// Secrets of the stack itself.
    pub secrets: SecretsConfig,
    /// The realms by name.
    pub realm: BTreeMap<String, RealmConfig>,
    /// Password hashes and rules.
    pub password: PasswordConfig,
    /// The guard against guessing.
    pub guard: GuardSection,
    /// Access tokens and sessions.
    pub token: TokenSection,
    /// The server.
    pub server: ServerConfig,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, source, cache, secrets, realm, password, guard, token, server } = self;
        f.debug_struct("Config")
            .field("data", data)
            .field("source", &source.keys().collect::<Vec<_>>())
            .field("cache", cache)
            .field("secrets", secrets)
            .field("realm", realm)
            .field("password", password)
            .field("guard", guard)
            .field("token", token)
            .field("server", server)
            .finish()
    }
}

/// `[cache]`
///
/// `Debug` shows no password of the url.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The kind: `ttl` unless set.
    pub kind: String,
    /// Where a shared cache is.
    pub url: Option<String>,
    /// What every key in a shared cache begins with.
    pub prefix: String,
    /// How much is kept of each source and kind of answer, if it was said; see [`bound`](Self::bound).
    pub size: Option<Size>,
    /// Lifetimes: one for all, or one for each kind of answer.
    pub ttl: TtlConfig,
    /// How long past its lifetime an answer may stand in for a source that fails: up to an hour, and not at
    /// all unless set.
    pub stale_if_error: Span,
    /// How early what is in use is loaded again before it ends, as a multiple of the time that a load takes;
    /// 0 waits for the end.
    pub refresh_ahead: Factor,
    /// Of a tiered cache: the kind of table in this process. `ttl` unless set.
    pub local: Option<String>,
    /// How long this process keeps an answer at most. Without a bus 10 s unless set, with one as long as it lives.
    pub local_ttl: Option<Span>,
    /// How processes hear of each other's invalidations: the url of a Redis, or `none`. Of a tiered cache over Redis
    /// that same Redis unless set.
    pub bus: Option<String>,
    /// How shared entries are sealed: `aes-256-gcm-siv` unless set, `xchacha20-poly1305`, or `off`.
    pub seal: Seal,
    /// How long a question to a shared cache may take.
    pub timeout: Span,
    /// How long it may take to connect to one.
    pub connect_timeout: Span,
    /// Certificates for a shared cache and the bus.
    pub tls: CacheTls,
}

impl CacheConfig {
    /// Returns how much is kept of each source and kind of answer: 262,144 entries unless set.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.size.map_or(Bound::Entries(Settings::SIZE), |Size(bound)| bound)
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            kind: "ttl".into(),
            url: None,
            prefix: "gatepost.".into(),
            size: None,
            ttl: TtlConfig::default(),
            stale_if_error: Span(Duration::ZERO),
            refresh_ahead: Factor(1.0),
            local: None,
            local_ttl: None,
            bus: None,
            seal: Seal::default(),
            timeout: Span(Duration::from_millis(50)),
            connect_timeout: Span(Duration::from_millis(200)),
            tls: CacheTls::default(),
        }
    }
}

impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, url, prefix, size, ttl, stale_if_error, refresh_ahead, .. } = self;
        let Self { local, local_ttl, bus, seal, timeout, connect_timeout, tls, .. } = self;
        f.debug_struct("CacheConfig")
            .field("kind", kind)
            .field("url", &url.as_deref().map(shown_url))
            .field("prefix", prefix)
            .field("size", size)
            .field("ttl", ttl)
            .field("stale_if_error", stale_if_error)
            .field("refresh_ahead", refresh_ahead)
            .field("local", local)
            .field("local_ttl", local_ttl)
            .field("bus", &bus.as_deref().map(shown_url))
            .field("seal", seal)
            .field("timeout", timeout)
            .field("connect_timeout", connect_timeout)
            .field("tls", tls)
            .finish()
    }
}

/// `[cache.tls]`: PEM texts, mostly as `{ file = "..." }`.
///
/// `Debug` shows none of it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheTls {
    /// Whom to trust; by default whom the system trusts.
    pub ca: Option<String>,
    /// Our certificate.
    pub cert: Option<String>,
    /// Its key.
    pub key: Option<String>,
}

impl fmt::Debug for CacheTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = |text: &Option<String>| text.as_ref().map(|_| "(given)");
        let Self { ca, cert, key } = self;
        f.debug_struct("CacheTls")
            .field("ca", &given(ca))
            .field("cert", &given(cert))
            .field("key", &given(key))
            .finish()
    }
}

/// A [`SealKind`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seal(pub SealKind);

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = SealKind::NAMES.iter().find(|(known, _)| *known == name);
        let known = SealKind::NAMES.map(|(name, _)| name);
        found.map(|(_, kind)| Self(*kind)).ok_or_else(|| unknown_variant(&name, &known))
    }
}

impl fmt::Display for Seal {
    /// Writes it as it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SealKind::NAMES.iter().find(|(_, kind)| *kind == self.0).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// `[secrets]`
///
/// `Debug` shows none of them.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// What shared entries are named and sealed with: one, or several of which the first is used and the others are
    /// known, while one takes the place of the other.
    pub cache_key: Option<CacheKeyConfig>,
    /// What refresh tokens are derived from: one, or several of which the first is used and the others are known until
    /// the last session ends that was begun with them.
    pub refresh_key: Option<CacheKeyConfig>,
}

impl fmt::Debug for SecretsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsConfig")
            .field("cache_key", &self.cache_key)
            .field("refresh_key", &self.refresh_key)
            .finish()
    }
}

/// `secrets.cache_key` and `secrets.refresh_key`
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a secret or a list of secrets")]
pub enum CacheKeyConfig {
    /// One.
    One(String),
    /// The first is used, the others are known.
    Many(Vec<String>),
}

impl fmt::Debug for CacheKeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKeyConfig({} given)", self.all().len())
    }
}

impl CacheKeyConfig {
    /// Returns them all, the one that is used first.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

/// `cache.ttl`: a single lifetime, which is `all`, or a table of them.
#[derive(Debug, Clone, Default)]
pub struct TtlConfig(pub EachTtl);

/// `[cache.ttl]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EachTtl {
    /// Of accounts, verified passwords and groups, unless they are set one by one; caps the rest.
    pub all: Option<Span>,
    /// Of an account.
    pub account: Option<Span>,
    /// Of a verified password.
    pub accepted: Option<Span>,
    /// Of a set of groups.
    pub groups: Option<Span>,
    /// Of a right that is there.
    pub allow: Option<Span>,
    /// Of a right that is not.
    pub deny: Option<Span>,
    /// Of "nobody has this login".
    pub unknown: Option<Span>,
    /// Of "there is no such object".
    pub not_found: Option<Span>,
    /// Of a validated token.
    pub token: Option<Span>,
}

impl EachTtl {
    /// Puts what is set in place of the defaults.
    #[must_use]
    pub fn over(&self, defaults: Ttls) -> Ttls {
        let Self { all, account, accepted, groups, allow, deny, unknown, not_found, token } = self;
        let first = all.map_or(defaults, |Span(all)| defaults.with_ttl(all));
        // What was set one by one stands, but nothing of the rest outlives `all`.
        let set = |span: &Option<Span>, other| span.map_or(other, |Span(ttl)| ttl);
        let most = all.map_or(Duration::MAX, |Span(all)| all);
        Ttls {
            account: set(account, first.account),
            accepted: set(accepted, first.accepted),
            groups: set(groups, first.groups),
            allow: set(allow, first.allow).min(most),
            deny: set(deny, first.deny).min(most),
            unknown: set(unknown, first.unknown).min(most),
            not_found: set(not_found, first.not_found).min(most),
            token: set(token, first.token).min(most),
        }
    }
}

impl<'de> Deserialize<'de> for TtlConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = TtlConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"60s\", or a table of times")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<TtlConfig, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TtlConfig, E> {
                let all = Some(Span::read(text)?);
                Ok(TtlConfig(EachTtl { all, ..EachTtl::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TtlConfig, A::Error> {
                EachTtl::deserialize(MapAccessDeserializer::new(map)).map(TtlConfig)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// `[realm.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RealmConfig {
    /// How logins are compared: `case-mapped`, `case-preserved` or `exact`.
    pub login: Rule,
    /// The sources that decide about passwords, in order.
    pub password: Vec<String>,
    /// The sources whose groups are joined.
    pub groups: Vec<String>,
    /// The source of each domain of objects; `*` for all that a managed source declares.
    pub objects: BTreeMap<String, String>,
    /// How a source is asked about people of other sources: `none`, `login` or `query`.
    pub link: BTreeMap<String, LinkKind>,
}

/// How a source is asked about people of other sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// Not at all.
    #[default]
    None,
    /// By their login.
    Login,
    /// By the source's own mapping query.
    Query,
}

/// A [`LoginRule`] by its name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rule(pub LoginRule);

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = LoginRule::NAMES.map(|(name, _)| name);
        LoginRule::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, rule)| Self(*rule))
            .ok_or_else(|| unknown_variant(&name, &known))
    }
}

/// The settings of a source that are the same for every kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct SourceCommon {
    /// The longest that one question may take.
    pub timeout: Span,
    /// What the source is for in a chain of passwords.
    pub role: RoleName,
    /// What a chain does after this source's answers.
    pub on: OnConfig,
    /// How many questions its caches put to it at once, 1 to 4,096.
    pub loads: usize,
    /// How many more of them wait for their turn before the next is refused, up to 1,048,576.
    pub queue: usize,
    /// How long its caches leave it alone after failures.
    pub backoff: BackoffConfig,
}

impl Default for SourceCommon {
    fn default() -> Self {
        let Limits { loads, queue, .. } = Limits::default();
        Self {
            timeout: Span(Duration::from_secs(5)),
            role: RoleName::Decide,
            on: OnConfig::default(),
            loads,
            queue,
            backoff: BackoffConfig::default(),
        }
    }
}

impl SourceCommon {
    /// The keys of a source that every kind has, besides `kind`.
    pub const KEYS: [&'static str; 6] = ["timeout", "role", "on", "loads", "queue", "backoff"];

    /// Returns how the source may be asked by its caches.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        let BackoffConfig { after, first: Span(first), most: Span(most) } = self.backoff;
        Limits { loads: self.loads, queue: self.queue, backoff: Backoff { after, first, most } }
    }
}

/// `backoff`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table such as { after = 3 }")]
pub struct BackoffConfig {
    /// After so many failures in a row, up to 1,000; 0 never leaves the source alone.
    pub after: u32,
    /// How long at first; each failure after that doubles it.
    pub first: Span,
    /// How long at most, up to five minutes.
    pub most: Span,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        let Backoff { after, first, most } = Backoff::default();
        Self { after, first: Span(first), most: Span(most) }
    }
}

/// `role`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// It knows people who may log in.
    #[default]
    Decide,
    /// It knows people who may not.
    Deny,
}

/// `on`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnConfig {
    /// After a wrong or missing password.
    pub bad_password: NextName,
    /// After an error.
    pub error: NextName,
}

impl Default for OnConfig {
    fn default() -> Self {
        Self { bad_password: NextName::Stop, error: NextName::Continue }
    }
}

/// What a chain does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NextName {
    /// Asks nobody else.
    Stop,
    /// Asks the next source.
    Continue,
}

/// `[password]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordConfig {
    /// Weak schemes that may still verify: `true` for all, or their names.
    pub accept_weak: AcceptWeak,
    /// The scheme of new hashes: `argon2id` or `bcrypt`.
    pub preferred: PreferredScheme,
    /// Parameters of new argon2id hashes.
    pub argon2: Argon2Config,
    /// The cost of new bcrypt hashes.
    pub bcrypt_cost: u32,
    /// Whether a login with an old hash makes a new one, where the source can write.
    pub upgrade: bool,
    /// The least number of characters of a new password.
    pub min_length: usize,
    /// Regular expressions that a new password must match.
    pub patterns: Vec<String>,
    /// Hashing threads; as many as cores if 0.
    pub threads: usize,
    /// Hash jobs that may wait.
    pub queue: usize,
    /// Verified passwords that are remembered of each realm and source, for `cache.ttl.accepted`; 0 for none. Beside
    /// `cache.size`, which does not bound them.
    pub memo: usize,
    /// Bounds on the cost of stored hashes.
    pub limits: LimitsConfig,
}

impl Default for PasswordConfig {
    fn default() -> Self {
        Self {
            accept_weak: AcceptWeak::All(false),
            preferred: PreferredScheme::Argon2id,
            argon2: Argon2Config::default(),
            bcrypt_cost: 12,
            upgrade: true,
            min_length: 8,
            patterns: Vec::new(),
            threads: 0,
            queue: 256,
            memo: 16_384,
            limits: LimitsConfig::default(),
        }
    }
}

/// `password.accept_weak`
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a list of scheme names")]
pub enum AcceptWeak {
    /// All weak schemes, or none.
    All(bool),
    /// These.
    Some(Vec<String>),
}

/// `password.preferred`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreferredScheme {
    /// Argon2id (RFC 9106).
    Argon2id,
    /// bcrypt.
    Bcrypt,
}

/// `[password.argon2]`: OWASP's parameters unless set.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Argon2Config {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Argon2Config {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// `[password.limits]`: what is not set keeps its default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The most memory that one verification may take, in KiB.
    pub memory_kib: Option<u32>,
    /// The highest bcrypt cost.
    pub bcrypt_cost: Option<u32>,
    /// The most rounds of PBKDF2 and of the crypt schemes.
    pub rounds: Option<u32>,
}

/// `[guard]`
///
/// `Debug` shows no password of the url.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSection {
    /// Whether wrong passwords are counted.
    pub enabled: bool,
    /// How many wrong passwords for one login from one network are free.
    pub free: u32,
    /// How many from one network are, whatever the login.
    pub network_free: u32,
    /// How many for one login are, from networks that it has not come from before.
    pub login_free: u32,
    /// The longest pause that is waited for; after a longer one the answer is to come back later.
    pub patience: Span,
    /// For how many logins and networks wrong passwords are counted in this process.
    pub entries: usize,
    /// The Redis in which processes count together, or `none`. That of a shared cache unless set.
    pub url: Option<String>,
}

impl Default for GuardSection {
    fn default() -> Self {
        let GuardConfig { pair, network, login, patience, entries } = GuardConfig::default();
        Self {
            enabled: true,
            free: pair.free,
            network_free: network.free,
            login_free: login.free,
            patience: Span(patience),
            entries,
            url: None,
        }
    }
}

impl fmt::Debug for GuardSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enabled, free, network_free, login_free, patience, entries, url } = self;
        f.debug_struct("GuardSection")
            .field("enabled", enabled)
            .field("free", free)
            .field("network_free", network_free)
            .field("login_free", login_free)
            .field("patience", patience)
            .field("entries", entries)
            .field("url", &url.as_deref().map(shown_url))
            .finish()
    }
}

impl GuardSection {
    /// Returns what the guard allows.
    #[must_use]
    pub fn allows(&self) -> GuardConfig {
        let defaults = GuardConfig::default();
        let with = |allowance: Allowance, free| Allowance { free, ..allowance };
        GuardConfig {
            pair: with(defaults.pair, self.free),
            network: with(defaults.network, self.network_free),
            login: with(defaults.login, self.login_free),
            patience: self.patience.0,
            entries: self.entries,
        }
    }
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where HTTP is served.
    pub listen: std::net::SocketAddr,
    /// The realm of hosts that `hosts` does not name: `default`, or the only one.
    pub realm: String,
    /// The realm of each host name.
    pub hosts: BTreeMap<String, String>,
    /// Peers whose forwarded headers are believed: addresses or networks.
    pub trusted_proxies: Vec<String>,
    /// The longest that one request may take.
    pub limit: Span,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 8730)),
            realm: "default".into(),
            hosts: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            limit: Span(Duration::from_secs(10)),
        }
    }
}

/// A length of time: `500ms`, `60s`, `5m`, `24h`, `7d`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span(pub Duration);

impl Span {
    /// The longest that may be set: more is a slip of the pen.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

    /// Reads one as it is configured; nothing for what is none, or longer than a year.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let span = match unit {
            "ms" => Duration::from_millis(number),
            "" | "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        (span <= Self::LONGEST).then_some(Self(span))
    }
}

impl fmt::Display for Span {
    /// Writes it as it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

impl Span {
    fn read<E: serde::de::Error>(text: &str) -> Result<Self, E> {
        Self::parse(text).ok_or_else(|| {
            E::custom(format!("`{text}` is not a time: use ms, s, m, h or d, as in \"60s\", up to 366d"))
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;
        impl Visitor<'_> for Time {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"60s\"")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Span, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                Span::read(text)
            }
        }
        deserializer.deserialize_any(Time)
    }
}

/// `cache.size`: a number of entries, or bytes: `64KiB`, `64MiB`, `1GiB`, `1TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub Bound);

impl Size {
    const UNITS: [(&'static str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: usize = number.parse().ok()?;
        if unit.is_empty() {
            return Some(Self(Bound::Entries(number)));
        }
        let (_, bits) = Self::UNITS.into_iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(1_usize.checked_shl(bits)?).map(|bytes| Self(Bound::Bytes(bytes)))
    }
}

impl fmt::Display for Size {
    /// Writes it as it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            Bound::Entries(entries) => (entries, ""),
            Bound::Bytes(bytes) => {
                let whole = |(_, bits): &&(&str, u32)| bytes.trailing_zeros() >= *bits;
                match Self::UNITS.iter().rev().find(whole) {
                    Some((unit, bits)) => (bytes >> bits, *unit),
                    None => (bytes, " bytes"),
                }
            }
        };
        write!(f, "{number}{unit}")
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Much;
        impl Visitor<'_> for Much {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of entries, or bytes such as \"64MiB\"")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Size, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| {
                    E::custom(format!(
                        "`{text}` is not a size: use a number of entries, or KiB, MiB, GiB or TiB, as in \"64MiB\"; for no bound: kind = \"dict\""
                    ))
                })
            }
        }
        deserializer.deserialize_any(Much)
    }
}

/// A multiple: a whole number or a fraction from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor(pub f64);

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Multiple;
        impl Visitor<'_> for Multiple {
            type Value = Factor;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 1 or 0.5; 0 for off")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Factor, E> {
                let small = i32::try_from(number);
                small
                    .map(|number| Factor(number.into()))
                    .map_err(|_| E::custom(format!("{number} is far more than any time of a load")))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Factor, E> {
                Ok(Factor(number))
            }
        }
        deserializer.deserialize_any(Multiple)
    }
}

/// The error of a name that is not in a list, in the form that serde's own has.
fn unknown_variant<E: serde::de::Error>(name: &str, known: &[&str]) -> E {
    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    E::custom(format!("unknown variant `{name}`, expected one of {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_entries_or_bytes_and_are_shown_as_they_are_set() {
        let check = |text: &str, bound: Option<Bound>| {
            let size = Size::parse(text);
            assert_eq!(size, bound.map(Size), "{text}");
            if let Some(size) = size {
                assert_eq!(Size::parse(&size.to_string()), Some(size), "{text}");
            }
        };
        check("1000", Some(Bound::Entries(1000)));
        check("0", Some(Bound::Entries(0)));
        check("64KiB", Some(Bound::Bytes(65_536)));
        check("64MiB", Some(Bound::Bytes(67_108_864)));
        check("1536MiB", Some(Bound::Bytes(1_610_612_736)));
        check("1GiB", Some(Bound::Bytes(1_073_741_824)));
        check("1TiB", Some(Bound::Bytes(1_099_511_627_776)));
        for wrong in
            ["", "-1", "64MB", "64mib", "64M", "64 MiB", "1.5GiB", "MiB", "64B", "99999999999TiB", "64MiBs"]
        {
            check(wrong, None);
        }
        assert_eq!(Size(Bound::Bytes(65_536)).to_string(), "64KiB");
        assert_eq!(Size(Bound::Bytes(67_108_864)).to_string(), "64MiB");
    }

    #[test]
    fn times_have_units() {
        let check = |text: &str, millis: Option<u64>| {
            let span = Span::parse(text);
            assert_eq!(span, millis.map(|ms| Span(Duration::from_millis(ms))), "{text}");
            if let Some(span) = span {
                assert_eq!(Span::parse(&span.to_string()), Some(span), "{text}");
            }
        };
        check("500ms", Some(500));
        check("60", Some(60_000));
        check("60s", Some(60_000));
        check("5m", Some(300_000));
        check("24h", Some(86_400_000));
        check("1d", Some(86_400_000));
        for wrong in
            ["", "s", "-1s", "1.5s", "1 s", "60sec", "367d", "99999999999999999999s", "99999999999999999h"]
        {
            check(wrong, None);
        }
    }
}
