//! The keyring of a shared cache, and the names of what is kept there.

use std::fmt;

use auth_core::{Error, ErrorKind, Id, Login, LoginRule, ObjectRef, Principal, RealmId, Result};
use auth_core::{SourceInfo, WireName};
use blake3::Hasher;
use zeroize::{Zeroize, Zeroizing};

use crate::Ask;

/// The most keys of a ring.
const MAX_KEYS: usize = 8;
/// The longest id of a key.
const MAX_ID_BYTES: usize = 32;
/// The shortest secret.
const MIN_SECRET_BYTES: usize = 32;

// What each key is derived for. None is ever changed: another use takes another text.
const FOR_NAMES: &str = "gatepost shared cache 2026-11-22 names of entries and generations";
const FOR_ENTRIES: &str = "gatepost shared cache 2026-11-22 sealing of entries";
const FOR_MESSAGES: &str = "gatepost shared cache 2026-11-22 sealing of messages";
const FOR_KEY_ID: &str = "gatepost shared cache 2026-11-22 ids of keys";

/// 32 bytes that are wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// The keys of a shared cache under one prefix. Prints no secret, and is wiped when dropped.
///
/// The first key names and seals; every key opens. So a secret is changed without losing what is kept: give all
/// processes the new one as second key, then make it the first, then take the old one away.
///
/// All that is used is derived from a secret and the prefix together: who shares a secret under another prefix can
/// neither find nor open anything.
///
/// ```
/// use auth_cache::CacheKeys;
/// let keys = CacheKeys::new("gatepost.", [("2026".to_owned(), vec![7; 32])])?;
/// assert_eq!(format!("{keys:?}"), r#"CacheKeys(["2026"])"#);
/// assert!(CacheKeys::new("gatepost.", [("2026".to_owned(), b"short".to_vec())]).is_err());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct CacheKeys(Vec<CacheKey>);

/// What is derived from one secret.
#[derive(Clone)]
pub(crate) struct CacheKey {
    id: String,
    /// What names it in a value.
    pub(crate) wire_id: [u8; 4],
    names: Secret,
    /// What seals entries.
    pub(crate) entries: Secret,
    /// What seals messages.
    pub(crate) messages: Secret,
}

impl CacheKeys {
    /// Takes a prefix, and keys as pairs of an id and a secret; the secrets are wiped.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the prefix is empty, if there is no key or more than eight, if an
    /// id is not 1 to 32 letters, digits, `-` and `_` or is there twice, or if a secret is shorter than 32 bytes.
    pub fn new(prefix: &str, keys: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        // First of all, so that each is wiped whatever becomes of it.
        let keys = keys.into_iter().map(|(id, secret)| (id, Zeroizing::new(secret)));
        let keys: Vec<(String, Zeroizing<Vec<u8>>)> = keys.collect();
        if prefix.is_empty() {
            return Err(misconfigured("the prefix of a shared cache is empty"));
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(misconfigured("a shared cache takes 1 to 8 keys"));
        }
        let mut ring: Vec<CacheKey> = Vec::with_capacity(keys.len());
        for (n, (id, secret)) in keys.into_iter().enumerate() {
            // Named by its place: what stands where an id should be may be the secret.
            let at = |fault: Error| fault.with("key", n + 1);
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(is_name) {
                return Err(at(misconfigured("the id of a cache key is not 1 to 32 of A-Z a-z 0-9 - _")));
            }
            if secret.len() < MIN_SECRET_BYTES {
                return Err(at(misconfigured("the secret of a cache key is shorter than 32 bytes")));
            }
            let key = CacheKey::derive(prefix, id, &secret);
            if ring.iter().any(|other| other.id == key.id) {
                return Err(at(misconfigured("two cache keys have one id")));
            }
            if ring.iter().any(|other| other.wire_id == key.wire_id) {
                return Err(at(misconfigured("two cache keys look alike in values: rename one")));
            }
            ring.push(key);
        }
        Ok(Self(ring))
    }

    /// Goes through the keys; the first seals.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CacheKey> {
        self.0.iter()
    }
}

impl fmt::Debug for CacheKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.iter().map(|key| key.id.as_str()).collect();
        write!(f, "CacheKeys({ids:?})")
    }
}

impl CacheKey {
    fn derive(prefix: &str, id: String, secret: &[u8]) -> Self {
        let derived = |context: &str, about: &[u8]| -> Secret {
            let mut hasher = Hasher::new_derive_key(context);
            hasher.update(&length_of(secret)).update(secret).update(about);
            let key = Zeroizing::new(*hasher.finalize().as_bytes());
            hasher.zeroize();
            key
        };
        // Of the secret too: a process that has another secret under this id does not know this key.
        let [a, b, c, d, ..] = *derived(FOR_KEY_ID, id.as_bytes());
        Self {
            id,
            wire_id: [a, b, c, d],
            names: derived(FOR_NAMES, prefix.as_bytes()),
            entries: derived(FOR_ENTRIES, prefix.as_bytes()),
            messages: derived(FOR_MESSAGES, prefix.as_bytes()),
        }
    }
}

fn misconfigured(fault: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, fault)
}

/// What a generation is of. Realms are told apart by their names alone, ids and objects by how they are spelled:
/// an invalidation knows no more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// Everything.
    All,
    /// Whatever was ever invalidated, of any kind.
    Told,
    /// The accounts and the tokens of a realm: whose id it is that was invalidated shows only in them.
    Ids(&'a RealmId),
    /// The groups of a realm.
    Groups(&'a RealmId),
    /// A person, by login.
    Login(&'a Login),
    /// A person, by the id that a source gave them.
    Id {
        /// The realm.
        realm: &'a RealmId,
        /// The source that issued the id.
        source: &'a str,
        /// The id.
        id: &'a Id,
    },
    /// An object.
    Object {
        /// The realm.
        realm: &'a RealmId,
        /// The object.
        object: &'a ObjectRef,
    },
}

/// Names entries and generations, so that nobody can read from a name what it is of, nor make one.
///
/// A name is 16 bytes of a BLAKE3 keyed hash of everything that can change the answer, each part with its length:
/// what differs in any part has another name. An entry's name differs too where the realm's rule or the source's
/// configuration does.
#[derive(Clone)]
pub(crate) struct Names {
    first: Secret,
    others: Vec<Secret>,
}

// What a name is of, after the version of all this.
const SCHEMA: u8 = 1;
const ACCOUNT: u8 = 1;
const GROUPS: u8 = 2;
const ACCESS: u8 = 3;
const TOKEN: u8 = 4;
const OF_ALL: u8 = 64;
const OF_TOLD: u8 = 65;
const OF_IDS: u8 = 67;
const OF_GROUPS: u8 = 68;
const OF_LOGIN: u8 = 69;
const OF_ID: u8 = 70;
const OF_OBJECT: u8 = 71;

// What kind of id follows.
const OTHER: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const UUID: u8 = 3;

impl Names {
    /// Makes names under a ring.
    pub(crate) fn new(keys: &CacheKeys) -> Self {
        let mut names = keys.iter().map(|key| key.names.clone());
        // A ring is never empty.
        let first = names.next().unwrap_or_default();
        Self { first, others: names.collect() }
    }

    /// Names what a source answers to a question, under the first key.
    pub(crate) fn entry(&self, source: &SourceInfo, ask: &Ask<'_>) -> WireName {
        let mut parts = Parts::new(&self.first);
        match *ask {
            Ask::Account(login) => {
                parts.place(ACCOUNT, login.realm(), source);
                parts.text(login.as_str().as_bytes());
            }
            Ask::Groups(who) => {
                parts.place(GROUPS, who.realm(), source);
                parts.who(who, source);
            }
            Ask::Access(who, object, mode) => {
                parts.place(ACCESS, who.realm(), source);
                parts.who(who, source);
                parts.text(object.domain().as_bytes());
                parts.count(object.id().len());
                for part in object.id() {
                    parts.typed(part);
                }
                parts.option(mode);
            }
            Ask::Token(id) => {
                parts.bytes(&[SCHEMA, TOKEN]);
                parts.source(source);
                parts.bytes(id.as_bytes());
            }
        }
        parts.name()
    }

    /// Names a generation, under the first key.
    pub(crate) fn generation(&self, of: &Of<'_>) -> WireName {
        generation(&self.first, of)
    }

    /// Names a generation under each key, the first one first: all that entries may depend on while keys are changed.
    pub(crate) fn generation_under_all_keys(&self, of: &Of<'_>) -> impl Iterator<Item = WireName> {
        std::iter::once(&self.first).chain(&self.others).map(move |key| generation(key, of))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

fn generation(key: &Secret, of: &Of<'_>) -> WireName {
    let mut parts = Parts::new(key);
    let mut begin = |kind: u8, realm: Option<&RealmId>| {
        parts.bytes(&[SCHEMA, kind]);
        if let Some(realm) = realm {
            parts.text(realm.name().as_bytes());
        }
    };
    match *of {
        Of::All => begin(OF_ALL, None),
        Of::Told => begin(OF_TOLD, None),
        Of::Ids(realm) => begin(OF_IDS, Some(realm)),
        Of::Groups(realm) => begin(OF_GROUPS, Some(realm)),
        Of::Login(login) => {
            begin(OF_LOGIN, Some(login.realm()));
            parts.text(login.as_str().as_bytes());
        }
        Of::Id { realm, source, id } => {
            begin(OF_ID, Some(realm));
            parts.text(source.as_bytes());
            parts.text(id.spelling().as_bytes());
        }
        Of::Object { realm, object } => {
            begin(OF_OBJECT, Some(realm));
            parts.text(object.domain().as_bytes());
            parts.count(object.id().len());
            for part in object.id() {
                parts.text(part.spelling().as_bytes());
            }
        }
    }
    parts.name()
}

/// The parts of a name on their way into the hash. They are gathered first: BLAKE3 takes 60 to 125 ns for what is
/// there at once, and half as much again for what comes in pieces.
struct Parts<'k> {
    key: &'k Secret,
    gathered: [u8; 192],
    length: usize,
    // For what is longer.
    hasher: Option<Box<Hasher>>,
}

impl<'k> Parts<'k> {
    fn new(key: &'k Secret) -> Self {
        Self { key, gathered: [0; 192], length: 0, hasher: None }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.gathered.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        } else {
            let hasher = self.hasher.get_or_insert_with(|| Box::new(Hasher::new_keyed(self.key)));
            hasher.update(self.gathered.get(..self.length).unwrap_or_default()).update(bytes);
            self.length = 0;
        }
    }

    /// A number: one byte, or 255 and eight more. No number begins another.
    fn count(&mut self, count: usize) {
        match u8::try_from(count) {
            Ok(short) if short < 255 => self.bytes(&[short]),
            _ => {
                self.bytes(&[255]);
                self.bytes(&u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.bytes(text);
    }

    fn option(&mut self, text: Option<&str>) {
        match text {
            None => self.bytes(&[0]),
            Some(text) => {
                self.bytes(&[1]);
                self.text(text.as_bytes());
            }
        }
    }

    fn place(&mut self, kind: u8, realm: &RealmId, source: &SourceInfo) {
        let rule = match realm.rule() {
            LoginRule::CaseMapped => 1,
            LoginRule::CasePreserved => 2,
            LoginRule::Exact => 3,
        };
        self.bytes(&[SCHEMA, kind, rule]);
        self.text(realm.name().as_bytes());
        self.source(source);
    }

    fn source(&mut self, source: &SourceInfo) {
        self.text(source.name().as_bytes());
        self.bytes(source.fingerprint().as_bytes());
    }

    fn who(&mut self, who: &Principal, source: &SourceInfo) {
        let login = who.login().as_str();
        self.text(login.as_bytes());
        // Most are spelled as they are compared, and asked about where their id is from.
        self.option((who.shown() != login).then_some(who.shown()));
        self.typed(who.id());
        self.option((who.source() != source.name()).then_some(who.source()));
    }

    fn typed(&mut self, id: &Id) {
        match id {
            // Without the zeros at its end, so that most names fit into one block of the hash: 64 bytes.
            Id::Int(number) => {
                let bytes = number.to_le_bytes();
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                self.bytes(&[NUMBER]);
                self.text(bytes.get(..used).unwrap_or_default());
            }
            Id::Text(text) => {
                self.bytes(&[TEXT]);
                self.text(text.as_bytes());
            }
            Id::Uuid(bytes) => {
                self.bytes(&[UUID]);
                self.bytes(bytes);
            }
            // No other kind is known.
            other => {
                self.bytes(&[OTHER]);
                self.text(other.spelling().as_bytes());
            }
        }
    }

    fn name(self) -> WireName {
        let rest = self.gathered.get(..self.length).unwrap_or_default();
        let hash = match self.hasher {
            None => blake3::keyed_hash(self.key, rest),
            Some(mut hasher) => hasher.update(rest).finalize(),
        };
        WireName::new(*hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))
    }
}

fn length_of(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes()
}
