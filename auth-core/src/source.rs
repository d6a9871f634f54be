//! What a store says of itself.

use std::sync::Arc;

/// A digest of a source's configuration: with another configuration come other cache entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Takes 16 bytes of a cryptographic hash of the source's configuration, secrets included.
    #[must_use]
    pub const fn new(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What a source can do beyond its trait's plain answers. Tests choose their cases by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It can tell an unknown login from a wrong password.
    pub tells_unknown: bool,
    /// It can list all groups of a person.
    pub lists_groups: bool,
    /// It can replace a stored hash.
    pub replaces_hash: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { tells_unknown: true, lists_groups: true, replaces_hash: false }
    }
}

/// A source's name, configuration fingerprint and capabilities.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    name: Arc<str>,
    fingerprint: Fingerprint,
    capabilities: Capabilities,
}

impl SourceInfo {
    /// Describes a source by its name in configuration.
    pub fn new(name: impl Into<Arc<str>>, fingerprint: Fingerprint) -> Self {
        Self { name: name.into(), fingerprint, capabilities: Capabilities::default() }
    }

    /// States what the source can do.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the configuration's fingerprint.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns what the source can do.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}
