//! `Hearing`: what other processes tell of invalidations, and whether it can be relied on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use auth_core::{Ear, Error, ErrorKind, Fence, Result, Subject, SubjectBuf};

use super::codec;
use super::keys::CacheKeys;
use super::seal::{Broken, SealKind, Sealer};

/// Hears of invalidations in other processes, and voids here what they void there.
///
/// While it is deaf, wrappers that were given it by [`Settings::with_hearing`](crate::Settings::with_hearing) keep
/// nothing in this process, and what they had is void: a process that may miss an invalidation must not answer from
/// memory. It is deaf until the bus says otherwise.
pub struct Hearing {
    fence: Arc<Fence>,
    sealer: Sealer,
    me: [u8; Self::ME],
    deaf: AtomicBool,
    heard: AtomicU64,
    losses: AtomicU64,
    unread: AtomicU64,
}

/// What came over the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HearingStats {
    /// Whether messages may be missed now.
    pub deaf: bool,
    /// Invalidations that other processes told of.
    pub heard: u64,
    /// How often the link was lost.
    pub losses: u64,
    /// Messages that could not be read. Those under an unknown key void everything, the others nothing.
    pub unread: u64,
}

impl Hearing {
    /// How many bytes name a process.
    const ME: usize = 16;

    /// Makes an ear of a fence, for messages sealed under these keys.
    ///
    /// # Errors
    /// [`Internal`](auth_core::ErrorKind::Internal) if the keys do not suit the seal, or there is no randomness.
    pub fn new(fence: Arc<Fence>, keys: &CacheKeys, seal: SealKind) -> Result<Self> {
        let mut me = [0; Self::ME];
        getrandom::fill(&mut me).map_err(|error| {
            Error::new(ErrorKind::Internal, "there is no randomness").with("cause", error)
        })?;
        Ok(Self {
            fence,
            sealer: Sealer::new(seal, keys)?,
            me,
            deaf: AtomicBool::new(true),
            heard: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        })
    }

    /// Reports whether invalidations may be missed now.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    /// Returns what came over the bus so far.
    #[must_use]
    pub fn stats(&self) -> HearingStats {
        HearingStats {
            deaf: self.is_deaf(),
            heard: self.heard.load(Ordering::Relaxed),
            losses: self.losses.load(Ordering::Relaxed),
            unread: self.unread.load(Ordering::Relaxed),
        }
    }

    /// Makes the message that tells others of these.
    pub(crate) fn tell(&self, subjects: &[SubjectBuf]) -> Result<Vec<u8>> {
        let mut plain = self.me.to_vec();
        for subject in subjects {
            let one = codec::encode_subject(subject)?;
            // A subject is some texts of 255 bytes; the codec bounds it.
            plain.extend_from_slice(&u32::try_from(one.len()).unwrap_or(u32::MAX).to_le_bytes());
            plain.extend_from_slice(&one);
        }
        self.sealer.seal_message(&plain)
    }

    fn void(&self, subject: &Subject<'_>) {
        self.fence.invalidate_here(subject);
    }
}

impl Ear for Hearing {
    fn heard(&self, message: &[u8]) {
        let mut bytes = message.to_vec();
        let plain = match self.sealer.open_message(&mut bytes) {
            Ok(plain) => plain,
            Err(broken) => {
                self.unread.fetch_add(1, Ordering::Relaxed);
                // Somebody with the next key or a newer format has something to tell; who has none of ours has not.
                if matches!(broken, Broken::UnknownKey | Broken::Version) {
                    self.void(&Subject::All);
                }
                return;
            }
        };
        let Some((me, mut rest)) = plain.split_first_chunk::<{ Self::ME }>() else {
            return self.void(&Subject::All);
        };
        if *me == self.me {
            return;
        }
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((one, after)) = after.split_at_checked(length) else { break };
            rest = after;
            match codec::decode_subject(one) {
                Ok(subject) => {
                    self.heard.fetch_add(1, Ordering::Relaxed);
                    self.void(&subject.as_subject());
                }
                // It is authentic: a newer version of us means something that we do not know.
                Err(_) => {
                    self.unread.fetch_add(1, Ordering::Relaxed);
                    self.void(&Subject::All);
                }
            }
        }
    }

    fn lost(&self) {
        // First deaf, then void: what is kept in between is void with the rest.
        if !self.deaf.swap(true, Ordering::SeqCst) {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        self.void(&Subject::All);
    }

    fn back(&self) {
        // First void, then no longer deaf: loads that began while it was deaf are void.
        self.void(&Subject::All);
        self.deaf.store(false, Ordering::SeqCst);
    }
}

impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
