//! What the fuzz target and the bench of this crate call. No part of its interface: may change at any time.

use auth_core::{Result, SourceInfo, Subject, SubjectBuf, TierTime, WireName};
use std::time::Duration;

use super::codec;
use super::keys::{CacheKeys, Names, Of};
use super::seal::{Head, SealKind, Sealer};
use crate::{Answer, Ask};

/// Names, a seal and the written form, as a shared cache uses them.
#[derive(Debug)]
pub struct Lab {
    names: Names,
    sealer: Sealer,
}

impl Lab {
    /// Sets all up.
    ///
    /// # Errors
    /// As setting up a seal does.
    pub fn new(kind: SealKind, keys: &CacheKeys) -> Result<Self> {
        Ok(Self { names: Names::new(keys), sealer: Sealer::new(kind, keys)? })
    }

    /// Names an entry.
    #[must_use]
    pub fn entry(&self, source: &SourceInfo, ask: &Ask<'_>) -> WireName {
        self.names.entry(source, ask)
    }

    /// Names the generation of a subject.
    #[must_use]
    pub fn generation(&self, subject: &Subject<'_>) -> WireName {
        self.names.generation(&match *subject {
            Subject::Login(login) => Of::Login(login),
            Subject::Id { realm, source, id } => Of::Id { realm, source, id },
            Subject::Object { realm, object } => Of::Object { realm, object },
            Subject::Groups(realm) => Of::Groups(realm),
            // A realm has none of its own.
            Subject::Realm(_) | Subject::All => Of::All,
        })
    }

    /// Seals an entry.
    ///
    /// # Errors
    /// As sealing does.
    pub fn seal(&self, name: &WireName, plain: &[u8]) -> Result<Vec<u8>> {
        let (loaded, life) = (TierTime::from_millis(1), Duration::from_secs(60));
        self.sealer.seal(name, &Head { stamp: [7; 16], loaded, life }, plain)
    }

    /// Opens an entry.
    pub fn open<'a>(&self, name: &WireName, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
        let head = self.sealer.head(bytes);
        let opened = self.sealer.open(name, bytes);
        assert!(head.is_ok() || opened.is_err(), "what is opened has a head");
        opened.ok()
    }

    /// Seals a message.
    ///
    /// # Errors
    /// As sealing does.
    pub fn seal_message(&self, plain: &[u8]) -> Result<Vec<u8>> {
        self.sealer.seal_message(plain)
    }

    /// Opens a message.
    pub fn open_message<'a>(&self, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
        self.sealer.open_message(bytes).ok()
    }

    /// Writes an answer.
    ///
    /// # Errors
    /// As writing does.
    pub fn encode(&self, answer: &Answer) -> Result<impl AsRef<[u8]> + use<>> {
        codec::encode(answer)
    }

    /// Reads an answer.
    #[must_use]
    pub fn decode(&self, ask: &Ask<'_>, source: &SourceInfo, bytes: &[u8]) -> Option<Answer> {
        codec::decode(ask, source, bytes).ok()
    }

    /// Writes a subject.
    ///
    /// # Errors
    /// As writing does.
    pub fn encode_subject(&self, subject: &SubjectBuf) -> Result<Vec<u8>> {
        codec::encode_subject(subject)
    }

    /// Reads a subject.
    #[must_use]
    pub fn decode_subject(&self, bytes: &[u8]) -> Option<SubjectBuf> {
        codec::decode_subject(bytes).ok()
    }
}
