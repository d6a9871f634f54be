//! Settings.

use std::path::PathBuf;

use auth_core::{Error, ErrorKind, Result};
use serde::Deserialize;

/// The settings of a [`FileStore`](crate::FileStore).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileConfig {
    /// The file with the users.
    pub path: PathBuf,
    /// What is in it. By default TOML if its name ends in `.toml`, else htpasswd.
    #[serde(default)]
    pub format: Option<Format>,
    /// An htgroup file beside an htpasswd file, one in the style of `/etc/group` beside a passwd or shadow file. A TOML
    /// file has its own groups.
    #[serde(default)]
    pub groups: Option<PathBuf>,
    /// The shadow file beside a passwd file.
    #[serde(default)]
    pub shadow: Option<PathBuf>,
    /// The scheme of the hashes that name none, such as `plaintext`.
    #[serde(default)]
    pub scheme: Option<String>,
    /// Refuses larger files. By default 16 MiB.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
}

/// What is in a user file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// `login:hash` lines, as Apache and nginx read them.
    Htpasswd,
    /// Users with their states and groups, and rights on objects.
    Toml,
    /// `login:x:uid:gid:…` lines, in the style of `/etc/passwd`; mostly with a shadow file.
    Passwd,
    /// `login:hash:…` lines with the days of a password and an account, in the style of `/etc/shadow`.
    Shadow,
}

const fn default_max_bytes() -> u64 {
    16 << 20
}

impl FileConfig {
    /// Takes a path, and the defaults for the rest.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            groups: None,
            shadow: None,
            scheme: None,
            max_bytes: default_max_bytes(),
        }
    }

    /// Adds an htgroup file.
    #[must_use]
    pub fn with_groups(mut self, path: impl Into<PathBuf>) -> Self {
        self.groups = Some(path.into());
        self
    }

    /// Adds a shadow file.
    #[must_use]
    pub fn with_shadow(mut self, path: impl Into<PathBuf>) -> Self {
        self.shadow = Some(path.into());
        self
    }

    /// Says what is in the file, whatever its name.
    #[must_use]
    pub const fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Names the scheme of the hashes that name none.
    #[must_use]
    pub fn with_scheme(mut self, scheme: &str) -> Self {
        self.scheme = Some(scheme.to_owned());
        self
    }

    /// Returns what is in the file.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if a TOML file has an htgroup file beside it, or anything but a passwd
    /// file a shadow file.
    pub(crate) fn checked_format(&self) -> Result<Format> {
        let is_toml = || self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
        let format = self.format.unwrap_or_else(|| if is_toml() { Format::Toml } else { Format::Htpasswd });
        if format == Format::Toml && self.groups.is_some() {
            let message = "a TOML user file has its groups inside; `groups` goes with the other formats";
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        if format != Format::Passwd && self.shadow.is_some() {
            let message = "`shadow` goes with `format = \"passwd\"`";
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        Ok(format)
    }
}
