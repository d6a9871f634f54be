//! The seal of what is kept in a shared cache, and of what goes over the bus.

use std::fmt;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result, TierTime, WireName};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use zeroize::{Zeroize, Zeroizing};

use super::keys::{CacheKeys, Secret};

/// How values of a shared cache are sealed. It comes from configuration alone: no value says how it is to be opened,
/// and one that was sealed in another way is not authentic.
// Both AEADs take a random nonce for each value without a bound that anybody reaches: XChaCha20-Poly1305 since its
// nonce has 192 bits; AES-256-GCM-SIV (RFC 8452) since each nonce leads to keys of its own, and one that comes twice
// only tells whether two values are equal. Plain AES-GCM is no choice: its 96 random bits must not come twice at all,
// so a key would be worn out after 2^32 values.
//
// Nanoseconds to seal and open values of 60, 150 and 600 bytes, without the randomness (300 ns a value):
//
//   AES-256-GCM-SIV of AWS-LC           189 + 201     232 + 234     339 + 324
//   AES-256-GCM-SIV of RustCrypto       693 + 700     704 + 703     849 + 849
//   XChaCha20-Poly1305 as below         416 + 376     441 + 397     467 + 423    (of 64, 124 and 192 bytes)
//   XChaCha20-Poly1305 of RustCrypto  1,871 + 1,882  1,999 + 2,011 2,329 + 2,340
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SealKind {
    /// AES-256-GCM-SIV. The default, and the fastest where the processor has AES.
    #[default]
    Aes256GcmSiv,
    /// XChaCha20-Poly1305.
    XChaCha20Poly1305,
    /// No seal: who can write to the cache can let in whom they like, and who can read it reads everything.
    Off,
}

impl SealKind {
    /// Every kind with its name in configuration.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("aes-256-gcm-siv", Self::Aes256GcmSiv),
        ("xchacha20-poly1305", Self::XChaCha20Poly1305),
        ("off", Self::Off),
    ];
}

/// Why a value is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// It is shorter than the shortest.
    Truncated,
    /// Its layout is another one.
    Version,
    /// It was sealed with a key that is not known here.
    UnknownKey,
    /// It is not what was sealed under this name.
    Forged,
}

/// What must be known of an entry before it is opened. It is sealed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of the generations that it depends on.
    pub(crate) stamp: [u8; 16],
    /// The server's clock before its source was asked.
    pub(crate) loaded: TierTime,
    /// How long it is good, in whole milliseconds; what is longer than 49 days counts as so much.
    pub(crate) life: Duration,
}

// The first byte, of an entry and of a message. Sealed and open ones differ, so that neither is taken for the other;
// what was sealed in one way or the other does not.
const SEALED_ENTRY: u8 = 0x01;
const OPEN_ENTRY: u8 = 0x02;
const SEALED_MESSAGE: u8 = 0x11;
const OPEN_MESSAGE: u8 = 0x12;

// Version, key, stamp, loaded, life.
const HEAD: usize = 1 + KEY_ID + 16 + 8 + 4;
const KEY_ID: usize = 4;
const NAME: usize = 16;
const TAG: usize = 16;

/// Seals with the first key, and opens with each.
pub(crate) struct Sealer {
    off: bool,
    keys: Vec<SealKey>,
}

/// A key with all that is set up once.
struct SealKey {
    id: [u8; KEY_ID],
    entries: Cipher,
    messages: Cipher,
}

impl Sealer {
    /// Sets up every key.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if the keys are of the wrong size, which they never are.
    pub(crate) fn new(kind: SealKind, keys: &CacheKeys) -> Result<Self> {
        let keys = keys.iter().map(|key| {
            let (entries, messages) = (Cipher::new(kind, &key.entries)?, Cipher::new(kind, &key.messages)?);
            Ok(SealKey { id: key.wire_id, entries, messages })
        });
        Ok(Self { off: kind == SealKind::Off, keys: keys.collect::<Result<_>>()? })
    }

    /// Seals the plain bytes of an entry under its name.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if the system has no randomness.
    pub(crate) fn seal(&self, name: &WireName, head: &Head, plain: &[u8]) -> Result<Vec<u8>> {
        let key = self.first()?;
        let mut start = [0; HEAD];
        let life = u32::try_from(head.life.as_millis()).unwrap_or(u32::MAX);
        write_all(
            &mut start,
            &[
                &[self.version(SEALED_ENTRY, OPEN_ENTRY)],
                &key.id,
                &head.stamp,
                &head.loaded.as_millis().to_le_bytes(),
                &life.to_le_bytes(),
            ],
        );
        key.entries.seal(&start, &bound(&start, name), plain)
    }

    /// Reads what stands before the sealed part. It is not to be trusted before that was opened.
    ///
    /// # Errors
    /// All but [`Broken::Forged`], which costs more to find out.
    pub(crate) fn head(&self, bytes: &[u8]) -> std::result::Result<Head, Broken> {
        let (start, _) = self.split(bytes)?;
        let (stamp, rest) = start
            .split_at_checked(1 + KEY_ID)
            .and_then(|(_, rest)| rest.split_first_chunk::<16>())
            .ok_or(Broken::Truncated)?;
        let (loaded, life) = rest.split_first_chunk::<8>().ok_or(Broken::Truncated)?;
        let life = life.first_chunk::<4>().ok_or(Broken::Truncated)?;
        Ok(Head {
            stamp: *stamp,
            loaded: TierTime::from_millis(u64::from_le_bytes(*loaded)),
            life: Duration::from_millis(u64::from(u32::from_le_bytes(*life))),
        })
    }

    /// Opens an entry in place: what is returned is what was sealed under this name, with the head that stands before
    /// it.
    ///
    /// # Errors
    /// Any: it is as if the entry were not there.
    pub(crate) fn open<'a>(
        &self,
        name: &WireName,
        bytes: &'a mut [u8],
    ) -> std::result::Result<&'a [u8], Broken> {
        let (start, key) = self.split(bytes)?;
        let bound = bound(start, name);
        key.entries.open(&bound, bytes.get_mut(HEAD..).ok_or(Broken::Truncated)?)
    }

    /// Seals a message for the bus.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if the system has no randomness.
    pub(crate) fn seal_message(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let key = self.first()?;
        let mut start = [0; 1 + KEY_ID];
        write_all(&mut start, &[&[self.version(SEALED_MESSAGE, OPEN_MESSAGE)], &key.id]);
        key.messages.seal(&start, &start, plain)
    }

    /// Opens a message from the bus in place. One that was sent before can be sent again by whoever sees it.
    ///
    /// # Errors
    /// Any: nobody who has a key has sent this.
    pub(crate) fn open_message<'a>(&self, bytes: &'a mut [u8]) -> std::result::Result<&'a [u8], Broken> {
        let key = self.key_of(self.version(SEALED_MESSAGE, OPEN_MESSAGE), bytes)?;
        let (start, rest) = bytes.split_first_chunk_mut::<{ 1 + KEY_ID }>().ok_or(Broken::Truncated)?;
        key.messages.open(start, rest)
    }

    const fn version(&self, sealed: u8, open: u8) -> u8 {
        if self.off { open } else { sealed }
    }

    fn first(&self) -> Result<&SealKey> {
        self.keys.first().ok_or_else(|| Error::new(ErrorKind::Internal, "there is no key to seal with"))
    }

    fn key_of(&self, version: u8, bytes: &[u8]) -> std::result::Result<&SealKey, Broken> {
        let (first, rest) = bytes.split_first().ok_or(Broken::Truncated)?;
        if *first != version {
            return Err(Broken::Version);
        }
        let id = rest.first_chunk::<KEY_ID>().ok_or(Broken::Truncated)?;
        self.keys.iter().find(|key| key.id == *id).ok_or(Broken::UnknownKey)
    }

    fn split<'a>(&self, bytes: &'a [u8]) -> std::result::Result<(&'a [u8; HEAD], &SealKey), Broken> {
        let key = self.key_of(self.version(SEALED_ENTRY, OPEN_ENTRY), bytes)?;
        let (start, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Broken::Truncated)?;
        if rest.len() < key.entries.overhead() {
            return Err(Broken::Truncated);
        }
        Ok((start, key))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.off { "Sealer(off)" } else { "Sealer" })
    }
}

/// What is authenticated with an entry, beside its key, which was derived from the prefix.
fn bound(start: &[u8; HEAD], name: &WireName) -> [u8; HEAD + NAME] {
    let mut bound = [0; HEAD + NAME];
    write_all(&mut bound, &[start, name.as_bytes()]);
    bound
}

/// Writes parts one after the other.
fn write_all(mut to: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        if let Some((place, rest)) = std::mem::take(&mut to).split_at_mut_checked(part.len()) {
            place.copy_from_slice(part);
            to = rest;
        }
    }
}

/// One key of one algorithm. Of the keys of AWS-LC, AWS-LC itself wipes what it has set up.
enum Cipher {
    GcmSiv(Box<LessSafeKey>),
    XChaCha(Secret),
    Off,
}

impl Cipher {
    fn new(kind: SealKind, key: &Secret) -> Result<Self> {
        Ok(match kind {
            SealKind::Aes256GcmSiv => {
                let key = UnboundKey::new(&AES_256_GCM_SIV, key.as_slice()).map_err(failed)?;
                Self::GcmSiv(Box::new(LessSafeKey::new(key)))
            }
            SealKind::XChaCha20Poly1305 => Self::XChaCha(key.clone()),
            SealKind::Off => Self::Off,
        })
    }

    /// How many bytes are added.
    const fn overhead(&self) -> usize {
        match self {
            Self::GcmSiv(_) => 12 + TAG,
            Self::XChaCha(_) => 24 + TAG,
            Self::Off => 0,
        }
    }

    /// Returns `start`, a nonce, and the sealed bytes with their tag.
    fn seal(&self, start: &[u8], bound: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(start.len() + self.overhead() + plain.len());
        sealed.extend_from_slice(start);
        match self {
            Self::GcmSiv(key) => {
                let nonce: [u8; 12] = random()?;
                sealed.extend_from_slice(&nonce);
                seal_with(key, nonce, bound, plain, &mut sealed)?;
            }
            Self::XChaCha(key) => {
                let nonce: [u8; 24] = random()?;
                sealed.extend_from_slice(&nonce);
                let (key, nonce) = narrow(key, &nonce).map_err(failed)?;
                seal_with(&key, nonce, bound, plain, &mut sealed)?;
            }
            Self::Off => sealed.extend_from_slice(plain),
        }
        Ok(sealed)
    }

    /// Opens a nonce and sealed bytes with their tag.
    fn open<'a>(&self, bound: &[u8], bytes: &'a mut [u8]) -> std::result::Result<&'a [u8], Broken> {
        if bytes.len() < self.overhead() {
            return Err(Broken::Truncated);
        }
        let opened = match self {
            Self::GcmSiv(key) => {
                let (nonce, sealed) = bytes.split_first_chunk_mut::<12>().ok_or(Broken::Truncated)?;
                key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), sealed)
            }
            Self::XChaCha(key) => {
                let (nonce, sealed) = bytes.split_first_chunk_mut::<24>().ok_or(Broken::Truncated)?;
                narrow(key, nonce).and_then(|(key, nonce)| {
                    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), sealed)
                })
            }
            Self::Off => Ok(bytes),
        };
        opened.map(|plain| &*plain).map_err(|Unspecified| Broken::Forged)
    }
}

/// Seals onto the end of a vector that has the room already, so that no plain bytes are left behind elsewhere.
fn seal_with(
    key: &LessSafeKey,
    nonce: [u8; 12],
    bound: &[u8],
    plain: &[u8],
    onto: &mut Vec<u8>,
) -> Result<()> {
    let at = onto.len();
    onto.extend_from_slice(plain);
    let body = onto.get_mut(at..).unwrap_or_default();
    let sealed = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), body);
    match sealed {
        Ok(tag) => onto.extend_from_slice(tag.as_ref()),
        Err(unspecified) => {
            onto.zeroize();
            return Err(failed(unspecified));
        }
    }
    Ok(())
}

/// Makes of XChaCha20-Poly1305 what AWS-LC has, ChaCha20-Poly1305, as draft-irtf-cfrg-xchacha section 2.3 does: a key
/// of its own for the first 16 bytes of the nonce, and a nonce of the other eight.
fn narrow(key: &Secret, nonce: &[u8; 24]) -> std::result::Result<(LessSafeKey, [u8; 12]), Unspecified> {
    let (first, rest) = nonce.split_first_chunk::<16>().ok_or(Unspecified)?;
    let derived = chacha20::hchacha::<chacha20::R20>((&**key).into(), first.into());
    let derived = Zeroizing::new(<[u8; 32]>::from(derived));
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, derived.as_slice())?);
    let mut narrow = [0; 12];
    write_all(&mut narrow, &[&[0; 4], rest]);
    Ok((key, narrow))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, "the system has no randomness").because(error))?;
    Ok(bytes)
}

fn failed(_: Unspecified) -> Error {
    Error::new(ErrorKind::Internal, "a value could not be sealed")
}
