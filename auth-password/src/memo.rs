//! Right passwords, remembered for a short while under a keyed hash.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auth_core::{Login, Moment, Password, Result, Stamp, StoredHash};
use lru::LruCache;
use zeroize::{Zeroize as _, Zeroizing, optimization_barrier};

use crate::hash::random;

// Logins of different people seldom wait for one another.
const SHARDS: usize = 16;

// Holds what is hashed of all but the longest logins, hashes and passwords.
const USUAL_BYTES: usize = 320;

/// How long and how many right passwords are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct MemoConfig {
    /// How long after its verification a password is taken for right, as long as this memo is there: lifetimes
    /// of a cache that are lowered later do not change it. Zero remembers nothing.
    pub ttl: Duration,
    /// For how many logins one is remembered, rounded up to the next multiple of 16. Zero remembers nothing.
    pub entries: usize,
}

impl Default for MemoConfig {
    /// A minute, and 16,384 people.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60), entries: 16_384 }
    }
}

/// A keyed hash of everything that a verification depends on. Compared whole, in constant time.
pub(crate) type Key = blake3::Hash;

/// The password that was last right for a login, with what else is to be remembered of it.
#[derive(Clone, Copy)]
pub(crate) struct Remembered<W = ()> {
    pub(crate) key: Key,
    pub(crate) verified: Moment,
    pub(crate) stamp: Stamp,
    pub(crate) who: W,
}

// By the hash of the login, which is keyed, so that what is remembered can be looked for before anything else is
// done. Two logins of one hash would take turns, no more: whose password it is says the key.
type Shard<W> = LruCache<u64, Remembered<W>, foldhash::fast::RandomState>;

pub(crate) struct Memo<W = ()> {
    // Of this process and source only: entries mean nothing elsewhere, and a dump of them can't be searched by
    // guessing.
    key: Zeroizing<[u8; 32]>,
    ttl: Duration,
    // Empty: remembers nothing. Std mutexes: nothing awaits while one is held.
    shards: Vec<Mutex<Shard<W>>>,
    evictions: AtomicU64,
}

impl<W: Clone> Memo<W> {
    /// Makes the memo of a source.
    pub(crate) fn new(config: MemoConfig, source: &str) -> Result<Self> {
        Ok(Self::keyed(config, &Zeroizing::new(random()?), source))
    }

    fn keyed(config: MemoConfig, random: &[u8; 32], source: &str) -> Self {
        // The name of the source goes into the key of all hashes, so that it need not be hashed each time.
        let key = Zeroizing::new(blake3::keyed_hash(random, source.as_bytes()).into());
        let each = NonZeroUsize::new(config.entries.div_ceil(SHARDS)).filter(|_| !config.ttl.is_zero());
        let shards = each.map_or_else(Vec::new, |each| {
            (0..SHARDS).map(|_| Mutex::new(LruCache::with_hasher(each, Default::default()))).collect()
        });
        Self { key, ttl: config.ttl, shards, evictions: AtomicU64::new(0) }
    }

    /// Hashes everything that the verification of a password depends on.
    pub(crate) fn key(&self, login: &Login, hash: &StoredHash, password: &Password) -> Key {
        let mut usual = [0; USUAL_BYTES];
        let mut end = 0;
        let mut fits = true;
        spell(login, hash, password, &mut |bytes| {
            let at = end..end + bytes.len();
            end = at.end;
            match usual.get_mut(at) {
                Some(place) => place.copy_from_slice(bytes),
                None => fits = false,
            }
        });
        let key = match usual.get(..end).filter(|_| fits) {
            Some(all) => blake3::keyed_hash(&self.key, all),
            None => self.key_in_parts(login, hash, password),
        };
        // A password and a stored hash were in there. Wiped at once: byte by byte costs more than the hash.
        usual.fill(0);
        optimization_barrier(&usual);
        key
    }

    /// Gives the same hash as [`key`](Self::key), of parts of any length.
    fn key_in_parts(&self, login: &Login, hash: &StoredHash, password: &Password) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        spell(login, hash, password, &mut |bytes| {
            hasher.update(bytes);
        });
        let key = hasher.finalize();
        hasher.zeroize();
        key
    }

    /// Tells which password was last right for a login, and how long ago, if that still counts.
    pub(crate) fn find(&self, login: &Login, now: Moment) -> Option<(Remembered<W>, Duration)> {
        let slot = login.hash64();
        let mut shard = self.shard(slot)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(&slot)?.clone();
        let age = now.since(entry.verified);
        if age < self.ttl {
            return Some((entry, age));
        }
        shard.pop(&slot);
        None
    }

    /// Remembers a right password.
    pub(crate) fn remember(&self, login: &Login, entry: Remembered<W>) {
        let slot = login.hash64();
        if let Some(shard) = self.shard(slot) {
            let gone = shard.lock().unwrap_or_else(PoisonError::into_inner).push(slot, entry);
            if gone.is_some_and(|(other, _)| other != slot) {
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns how many had to go for others.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Returns for how many logins one is remembered at most.
    pub(crate) fn bound(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).cap().get()).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, slot: u64) -> Option<&Mutex<Shard<W>>> {
        let [.., last] = slot.to_le_bytes();
        self.shards.get(usize::from(last) % SHARDS)
    }
}

/// Spells everything that the verification of a password depends on, so that no two verifications are spelled
/// the same: each part has its length before it.
fn spell(login: &Login, hash: &StoredHash, password: &Password, write: &mut impl FnMut(&[u8])) {
    let mut part = |bytes: &[u8]| {
        match u8::try_from(bytes.len()) {
            Ok(length) if length < u8::MAX => write(&[length]),
            _ => {
                write(&[u8::MAX]);
                write(&(bytes.len() as u64).to_le_bytes());
            }
        }
        write(bytes);
    };
    part(login.realm().name().as_bytes());
    part(login.as_str().as_bytes());
    part(hash.as_str().as_bytes());
    part(hash.scheme().map_or(b"", |_| b"+"));
    part(hash.scheme().unwrap_or_default().as_bytes());
    part(password.as_bytes());
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
        let key = |realm, name, source, hash: &str, scheme, password: &str| {
            let memo = <Memo>::keyed(MemoConfig::default(), &[7; 32], source);
            let stored = StoredHash::new(hash.to_owned(), scheme);
            let password = Password::new(password.as_bytes().to_vec()).unwrap();
            memo.key(&login(realm, name), &stored, &password)
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
        let stored = StoredHash::new("h".into(), None);
        let password = Password::new(b"p".to_vec()).unwrap();
        let process = || <Memo>::new(MemoConfig::default(), "s").unwrap();
        let in_process = |memo: &Memo| memo.key(&login("r", "ab"), &stored, &password);
        assert_ne!(in_process(&process()), in_process(&process()));
    }

    #[test]
    fn parts_of_any_length_are_hashed_alike_in_one_go_and_one_by_one() {
        let memo = <Memo>::new(MemoConfig::default(), "s").unwrap();
        let mut seen = std::collections::HashSet::new();
        for (hash, password) in
            [(1, 1), (97, 8), (253, 1), (254, 1), (255, 1), (256, 1), (280, 20), (300, 300), (5_000, 1_024)]
        {
            for scheme in [None, Some("argon2")] {
                let stored = StoredHash::new("h".repeat(hash), scheme);
                let password = Password::new(vec![b'p'; password]).unwrap();
                let key = memo.key(&login("r", "calvin"), &stored, &password);
                assert_eq!(key, memo.key_in_parts(&login("r", "calvin"), &stored, &password));
                assert!(seen.insert(*key.as_bytes()));
            }
        }
    }

    #[test]
    fn the_memo_is_bounded() {
        let memo = <Memo>::new(MemoConfig { entries: 64, ..MemoConfig::default() }, "s").unwrap();
        let stamp = Fence::new().login(&login("r", "calvin"));
        for n in 0..10_000_u32 {
            let key = blake3::hash(&n.to_le_bytes());
            memo.remember(
                &login("r", &format!("u{n}")),
                Remembered { key, verified: Moment::ZERO, stamp, who: () },
            );
        }
        assert_eq!((memo.len(), memo.bound(), memo.evictions()), (64, 64, 10_000 - 64));
        // The same login again makes nobody go.
        memo.remember(
            &login("r", "u9999"),
            Remembered { key: blake3::hash(b"x"), verified: Moment::ZERO, stamp, who: () },
        );
        assert_eq!(memo.evictions(), 10_000 - 64);
        let none = <Memo>::new(MemoConfig { entries: 0, ..MemoConfig::default() }, "s").unwrap();
        assert_eq!(none.bound(), 0);
    }

    #[test]
    fn one_password_of_each_login_is_remembered() {
        let memo = <Memo>::new(MemoConfig::default(), "s").unwrap();
        let (calvin, stamp) = (login("r", "calvin"), Fence::new().login(&login("r", "calvin")));
        let keys = [blake3::hash(b"old"), blake3::hash(b"new")];
        for key in keys {
            memo.remember(&calvin, Remembered { key, verified: Moment::ZERO, stamp, who: () });
        }
        assert_eq!((memo.len(), memo.find(&calvin, Moment::ZERO).unwrap().0.key), (1, keys[1]));
        assert!(memo.find(&login("r2", "calvin"), Moment::ZERO).is_none());
    }
}
