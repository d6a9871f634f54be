//! Right passwords, remembered for a short while under a keyed hash.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auth_core::{Login, Moment, Password, Result, Stamp, StoredHash};
use lru::LruCache;
use zeroize::Zeroizing;

use crate::hash::random;

// Logins of different people seldom wait for one another.
const SHARDS: usize = 16;

/// How long and how many right passwords are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct MemoConfig {
    /// How long after its verification a password is taken for right. Zero remembers nothing.
    pub ttl: Duration,
    /// How many are remembered, rounded up to the next multiple of 16. Zero remembers nothing.
    pub entries: usize,
}

impl Default for MemoConfig {
    /// A minute, and 16,384 people.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60), entries: 16_384 }
    }
}

/// A keyed hash of everything that a verification depends on.
pub(crate) type Key = [u8; 32];

#[derive(Clone, Copy)]
struct Entry {
    verified: Moment,
    stamp: Stamp,
}

type Shard = LruCache<Key, Entry, foldhash::fast::RandomState>;

pub(crate) struct Memo {
    // Of this process only: entries mean nothing elsewhere, and a dump of them can't be searched by guessing.
    key: Zeroizing<[u8; 32]>,
    ttl: Duration,
    // Empty: remembers nothing. Std mutexes: nothing awaits while one is held.
    shards: Vec<Mutex<Shard>>,
}

impl Memo {
    pub(crate) fn new(config: MemoConfig) -> Result<Self> {
        let each = NonZeroUsize::new(config.entries.div_ceil(SHARDS)).filter(|_| !config.ttl.is_zero());
        let shards = each.map_or_else(Vec::new, |each| {
            (0..SHARDS).map(|_| Mutex::new(LruCache::with_hasher(each, Default::default()))).collect()
        });
        Ok(Self { key: Zeroizing::new(random()?), ttl: config.ttl, shards })
    }

    /// Reports whether anything is ever remembered.
    pub(crate) fn is_on(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Hashes everything that the verification of a password depends on.
    pub(crate) fn key(&self, login: &Login, source: &str, hash: &StoredHash, password: &Password) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // With its length before each part, no two lists of parts give one text.
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        part(login.realm().name().as_bytes());
        part(login.as_str().as_bytes());
        part(source.as_bytes());
        part(hash.as_str().as_bytes());
        part(&[u8::from(hash.scheme().is_some())]);
        part(hash.scheme().unwrap_or_default().as_bytes());
        part(password.as_bytes());
        hasher.finalize().into()
    }

    /// Tells how long ago the password was verified, if that still counts.
    pub(crate) fn recall(&self, key: &Key, now: Moment, stamp: Stamp) -> Option<Duration> {
        let mut shard = self.shard(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = *shard.get(key)?;
        let age = now.since(entry.verified);
        if age < self.ttl && entry.stamp == stamp {
            return Some(age);
        }
        shard.pop(key);
        None
    }

    /// Remembers a right password.
    pub(crate) fn remember(&self, key: Key, verified: Moment, stamp: Stamp) {
        if let Some(shard) = self.shard(&key) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).put(key, Entry { verified, stamp });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        let [first, ..] = *key;
        self.shards.get(usize::from(first) % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use auth_core::{Fence, LoginRule, RealmId};

    use super::*;

    fn login(realm: &str, text: &str) -> Login {
        Login::parse(&RealmId::new(realm, LoginRule::Exact).unwrap(), text).unwrap()
    }

    #[test]
    fn every_part_of_a_verification_is_in_its_key() {
        let memo = Memo::new(MemoConfig::default()).unwrap();
        let key = |realm, name, source, hash: &str, scheme, password: &str| {
            let stored = StoredHash::new(hash.to_owned(), scheme);
            let password = Password::new(password.as_bytes().to_vec()).unwrap();
            memo.key(&login(realm, name), source, &stored, &password)
        };
        let keys = [
            key("r", "ab", "s", "h", None, "p"),
            key("ra", "b", "s", "h", None, "p"),
            key("r", "a", "bs", "h", None, "p"),
            key("r", "ab", "sh", "h", None, "p"),
            key("r", "ab", "s", "hp", None, "p"),
            key("r", "ab", "s", "h", Some(""), "p"),
            key("r", "ab", "s", "h", Some("p"), "p"),
            key("r", "ab", "s", "h", None, "pp"),
        ];
        for (n, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(n + 1).all(|other| one != other), "{n}");
        }
        assert_eq!(keys[0], key("r", "ab", "s", "h", None, "p"));
        let other_process = Memo::new(MemoConfig::default()).unwrap();
        let stored = StoredHash::new("h".into(), None);
        let password = Password::new(b"p".to_vec()).unwrap();
        assert_ne!(keys[0], other_process.key(&login("r", "ab"), "s", &stored, &password));
    }

    #[test]
    fn the_memo_is_bounded() {
        let memo = Memo::new(MemoConfig { entries: 64, ..MemoConfig::default() }).unwrap();
        let stamp = Fence::new().login(&login("r", "calvin"));
        for n in 0..10_000_u32 {
            memo.remember(*blake3::hash(&n.to_le_bytes()).as_bytes(), Moment::ZERO, stamp);
        }
        assert_eq!(memo.len(), 64);
    }
}
