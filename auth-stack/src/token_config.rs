//! `[token]`: what can be configured about tokens, with its defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use auth_store_sql::TlsConfig;
use auth_token::{OnReuse, TokenSettings};
use serde::Deserialize;

use crate::config::{Factor, Span};
use crate::secret::shown_url;

/// `[token]`
///
/// `Debug` shows no secret.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSection {
    /// Whether a server has a token service.
    pub enabled: bool,
    /// What access tokens look like.
    pub format: TokenFormat,
    /// How claims are named, and what login, renewal and logout look like over HTTP.
    pub profile: TokenProfile,
    /// Where sessions and revocations are kept: the url of a database or a Redis, or `memory`. A file in the data folder
    /// unless set.
    pub store: Option<String>,
    /// TLS to that place, with the names of PEM files.
    pub tls: TlsConfig,
    /// Who makes the tokens: the claim `iss`.
    pub issuer: Option<String>,
    /// For whom: the claim `aud`. The realm's name unless set.
    pub audience: Option<String>,
    /// How long an access token is good. Ten minutes unless set; an hour in the format of FlaskSimpleAuth, as there.
    pub access_ttl: Option<Span>,
    /// By which part of that it may be shorter.
    pub jitter: Factor,
    /// By how much clocks may differ.
    pub leeway: Option<Span>,
    /// The longest life of an access token. 30 days unless set; that of those that are issued in the format of FlaskSimpleAuth,
    /// whose tokens do not say when they were issued.
    pub longest: Option<Span>,
    /// What may be asked for.
    pub scopes: Vec<String>,
    /// Whether access tokens say the groups of the person.
    pub groups: bool,
    /// Sessions.
    pub refresh: RefreshSection,
    /// The keys of JWTs.
    pub keys: TokenKeys,
    /// FlaskSimpleAuth's tokens.
    pub fsa: FsaSection,
    /// Over HTTP.
    pub http: TokenHttp,
}

impl Default for TokenSection {
    fn default() -> Self {
        let TokenSettings { jitter, .. } = TokenSettings::default();
        Self {
            enabled: true,
            format: TokenFormat::Jwt,
            profile: TokenProfile::Native,
            store: None,
            tls: TlsConfig::default(),
            issuer: None,
            audience: None,
            access_ttl: None,
            jitter: Factor(jitter),
            leeway: None,
            longest: None,
            scopes: Vec::new(),
            groups: false,
            refresh: RefreshSection::default(),
            keys: TokenKeys::default(),
            fsa: FsaSection::default(),
            http: TokenHttp::default(),
        }
    }
}

impl fmt::Debug for TokenSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSection")
            .field("enabled", &self.enabled)
            .field("format", &self.format)
            .field("profile", &self.profile)
            .field("store", &self.store.as_deref().map(shown_url))
            .field("tls", &self.tls)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("refresh", &self.refresh)
            .field("keys", &self.keys)
            .field("fsa", &self.fsa)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl TokenSection {
    /// How long an access token is good, and the longest that one is.
    pub(crate) fn lives(&self) -> (Duration, Duration) {
        let defaults = TokenSettings::default();
        let (ttl, longest) = match self.format {
            TokenFormat::Jwt => (defaults.access_ttl, None),
            TokenFormat::Fsa => (FSA_TTL, Some(FSA_TTL)),
        };
        let ttl = self.access_ttl.map_or(ttl, |set| set.0);
        let longest = longest.map_or(defaults.longest, |_| ttl);
        (ttl, self.longest.map_or(longest, |set| set.0))
    }
}

/// How long a token of FlaskSimpleAuth is good there.
const FSA_TTL: Duration = Duration::from_secs(3_600);

/// `token.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormat {
    /// JSON web tokens (RFC 7519).
    Jwt,
    /// FlaskSimpleAuth's own.
    Fsa,
}

/// `token.profile`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenProfile {
    /// Ours: RFC 9068, 6749 and 6750.
    Native,
    /// As flask-ampho.
    Ampho,
    /// As twopi-flask-utils.
    Twopi,
}

/// `token.refresh.on_reuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReuseName {
    /// The session ends.
    End,
    /// All sessions of the person end.
    EndAll,
    /// It is told.
    Warn,
}

impl From<ReuseName> for OnReuse {
    fn from(name: ReuseName) -> Self {
        match name {
            ReuseName::End => Self::End,
            ReuseName::EndAll => Self::EndAll,
            ReuseName::Warn => Self::Warn,
        }
    }
}

/// `[token.refresh]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshSection {
    /// How long a session may be unused.
    pub idle: Span,
    /// How long it may last.
    pub absolute: Span,
    /// Both, if it is not to be remembered.
    pub short: Span,
    /// How long after a renewal the same token is answered again.
    pub grace: Span,
    /// How often.
    pub retries: u32,
    /// What follows if a token comes back that was replaced.
    pub on_reuse: ReuseName,
}

impl Default for RefreshSection {
    fn default() -> Self {
        let TokenSettings { idle, absolute, short, grace, retries, .. } = TokenSettings::default();
        Self {
            idle: Span(idle),
            absolute: Span(absolute),
            short: Span(short),
            grace: Span(grace),
            retries,
            on_reuse: ReuseName::End,
        }
    }
}

/// `[token.keys]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenKeys {
    /// What new keys are for.
    pub algorithm: Option<String>,
    /// The folder of the key files; `keys` in the data folder unless set.
    pub folder: Option<PathBuf>,
    /// One private JWK as text, instead of a folder.
    pub key: Option<String>,
    /// How many bits a new RSA key has.
    pub bits: u32,
    /// After how long a key is followed by another.
    pub every: Span,
    /// For how long a key is published before it signs.
    pub publish: Span,
}

impl Default for TokenKeys {
    fn default() -> Self {
        let days = |days: u64| Span(Duration::from_secs(days * 24 * 3600));
        Self { algorithm: None, folder: None, key: None, bits: 2048, every: days(90), publish: days(1) }
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeys")
            .field("algorithm", &self.algorithm)
            .field("folder", &self.folder)
            .field("key", &self.key.as_ref().map(|_| "given"))
            .finish_non_exhaustive()
    }
}

/// `[token.fsa]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FsaSection {
    /// The realm that stands in the tokens; the realm's name unless set.
    pub realm: Option<String>,
    /// What they are signed with.
    pub secret: Option<String>,
    /// How: a name of Python's hashlib, or one of ours that begins with `hmac-`.
    pub algorithm: String,
    /// To how many bytes the signature is cut.
    pub length: usize,
    /// For how long after its end a token is still taken.
    pub grace: Span,
}

impl Default for FsaSection {
    fn default() -> Self {
        Self {
            realm: None,
            secret: None,
            algorithm: "blake2s".to_owned(),
            length: 16,
            grace: Span(Duration::ZERO),
        }
    }
}

impl fmt::Debug for FsaSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsaSection")
            .field("realm", &self.realm)
            .field("algorithm", &self.algorithm)
            .field("length", &self.length)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// `[token.http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenHttp {
    /// What the paths begin with.
    pub prefix: String,
    /// Whether refresh tokens travel in a cookie.
    pub cookie: bool,
}

impl Default for TokenHttp {
    fn default() -> Self {
        Self { prefix: "/api/security".to_owned(), cookie: false }
    }
}
