//! Commands and replies: the same whether they are run here or by the running server.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A command that needs a stack.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    CheckPassword {
        realm: Option<String>,
        login: String,
        password: Secret,
        explain: bool,
    },
    CheckGroup {
        realm: Option<String>,
        login: String,
        group: String,
        explain: bool,
    },
    CheckObject {
        realm: Option<String>,
        login: String,
        domain: String,
        id: String,
        mode: Option<String>,
        explain: bool,
    },
    CheckToken {
        realm: Option<String>,
        token: Secret,
        explain: bool,
        fresh: bool,
    },
    TokenIssue {
        realm: Option<String>,
        login: String,
        scopes: Vec<String>,
        life: Option<std::time::Duration>,
    },
    TokenRevoke {
        realm: Option<String>,
        ends: Ends,
    },
    TokenList {
        realm: Option<String>,
        login: String,
    },
    Keys {
        rotate: Option<Rotate>,
    },
    UserAdd {
        realm: Option<String>,
        login: String,
        groups: Vec<String>,
        credential: Credential,
    },
    UserList {
        realm: Option<String>,
    },
    UserShow {
        realm: Option<String>,
        login: String,
    },
    UserPasswd {
        realm: Option<String>,
        login: String,
        password: Secret,
    },
    UserLock {
        realm: Option<String>,
        login: String,
        locked: bool,
    },
    UserDelete {
        realm: Option<String>,
        login: String,
    },
    UserImport {
        realm: Option<String>,
        format: ImportFormat,
        file: Secret,
        groups: Option<Secret>,
        shadow: Option<Secret>,
    },
    GroupAdd {
        realm: Option<String>,
        login: String,
        group: String,
    },
    GroupRemove {
        realm: Option<String>,
        login: String,
        group: String,
    },
    GroupList {
        realm: Option<String>,
        login: Option<String>,
    },
    ObjectAdd {
        realm: Option<String>,
        domain: String,
        id: String,
    },
    ObjectDelete {
        realm: Option<String>,
        domain: String,
        id: String,
    },
    ObjectGrant {
        realm: Option<String>,
        login: String,
        domain: String,
        id: String,
        mode: String,
    },
    ObjectRevoke {
        realm: Option<String>,
        login: String,
        domain: String,
        id: String,
        mode: String,
    },
    CacheStats,
    CacheVoid {
        user: Option<String>,
        group: Option<String>,
        object: Option<String>,
        realm: Option<String>,
        all: bool,
        forget: bool,
    },
    Sources {
        probe: bool,
    },
    Reload,
}

/// What is revoked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ends {
    Token(Secret),
    Session(String),
    Login(String),
    All,
}

/// How a key follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rotate {
    Planned,
    AtOnce,
    Compromised,
}

/// What is in a file that is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ImportFormat {
    Htpasswd,
    Passwd,
    Shadow,
    Toml,
}

impl Command {
    /// Reports whether the command is about a running server or its memory: any other has nothing in it.
    pub(crate) const fn needs_server(&self) -> bool {
        matches!(self, Self::CacheStats | Self::CacheVoid { .. } | Self::Reload)
    }

    /// Reports what a stack that is made for this command needs of tokens.
    pub(crate) const fn tokens(&self) -> Tokens {
        match self {
            Self::CheckToken { .. }
            | Self::TokenIssue { .. }
            | Self::TokenRevoke { .. }
            | Self::TokenList { .. }
            | Self::Keys { .. } => Tokens::Needed,
            // Sessions end with the password, and with the person.
            Self::UserPasswd { .. } | Self::UserDelete { .. } => Tokens::IfKept,
            _ => Tokens::None,
        }
    }

    /// Reports whether the command changes something: in a store, or in a server's memory.
    pub(crate) const fn changes(&self) -> bool {
        match self {
            Self::CheckPassword { .. }
            | Self::CheckGroup { .. }
            | Self::CheckObject { .. }
            | Self::CheckToken { .. }
            | Self::TokenIssue { .. }
            | Self::TokenList { .. }
            | Self::Keys { rotate: None }
            | Self::UserList { .. }
            | Self::UserShow { .. }
            | Self::GroupList { .. }
            | Self::CacheStats
            | Self::Sources { .. }
            | Self::Reload => false,
            Self::UserAdd { .. }
            | Self::TokenRevoke { .. }
            | Self::Keys { rotate: Some(_) }
            | Self::UserPasswd { .. }
            | Self::UserLock { .. }
            | Self::UserDelete { .. }
            | Self::UserImport { .. }
            | Self::GroupAdd { .. }
            | Self::GroupRemove { .. }
            | Self::ObjectAdd { .. }
            | Self::ObjectDelete { .. }
            | Self::ObjectGrant { .. }
            | Self::ObjectRevoke { .. }
            | Self::CacheVoid { .. } => true,
        }
    }
}

/// What a command needs of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    None,
    /// Where sessions are kept, there they are ended.
    IfKept,
    Needed,
}

/// How a new user proves who they are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Credential {
    Password(Secret),
    Hash { hash: Secret, scheme: Option<String> },
}

/// Bytes that are not to be shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Zeroizing<Vec<u8>>);

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Zeroizing::new(STANDARD.encode(&*self.0)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD.decode(&*text).map(Self::new).map_err(serde::de::Error::custom)
    }
}

/// What came of a command.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The exit status: 0 yes or done, 1 no, 2 wrong use, 3 could not find out.
    pub(crate) exit: u8,
    /// One JSON object, or one a row for lists.
    pub(crate) rows: Vec<Value>,
}

impl Reply {
    pub(crate) fn one(exit: u8, row: Value) -> Self {
        Self { exit, rows: vec![row] }
    }

    pub(crate) fn list(rows: Vec<Value>) -> Self {
        Self { exit: 0, rows }
    }

    /// The reply to a command that failed: 2 if the input was at fault, else 3.
    pub(crate) fn failed(error: &auth_core::Error) -> Self {
        let exit = if error.kind() == auth_core::ErrorKind::Invalid { 2 } else { 3 };
        let mut row = json!({ "error": error.kind().as_str(), "message": told(error) });
        if let (Some(source), Some(row)) = (error.origin(), row.as_object_mut()) {
            row.insert("source".into(), source.into());
        }
        Self::one(exit, row)
    }
}

/// An error with its causes, for an operator: `no connection (source app): connection refused`.
///
/// What lies underneath is a driver's or the system's text. Values that a query was given are not in it; what
/// may be in it is a url with a password, so of urls only the scheme is left.
pub(crate) fn told(error: &auth_core::Error) -> String {
    /// Causes can be as long as the query that they quote.
    const LONGEST: usize = 500;
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let why = error.to_string();
        // A wrapper often says what it wraps.
        if !text.contains(&why) {
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let words: Vec<String> = why.split_whitespace().map(without_url).collect();
            let why = words.join(" ");
            text.push_str(": ");
            text.extend(why.chars().take(LONGEST));
            if why.chars().nth(LONGEST).is_some() {
                text.push_str(" ...");
            }
        }
        cause = error.source();
    }
    text
}

fn without_url(word: &str) -> String {
    match word.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://***"),
        None => word.to_owned(),
    }
}
