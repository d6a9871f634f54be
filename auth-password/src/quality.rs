//! What a new password must look like.

use std::fmt;
use std::sync::Arc;

use auth_core::{Error, ErrorKind, Login, Password, Result};
use regex::Regex;
use zeroize::Zeroizing;

/// Judges a new password; an error is the reason to refuse it.
pub type QualityHook = Arc<dyn Fn(&Login, &Password) -> std::result::Result<(), String> + Send + Sync>;

/// What a new password must look like. The first failure counts: length, then each pattern, then the hook.
///
/// ```
/// use auth_core::{Login, LoginRule, Password, RealmId};
/// use auth_password::Quality;
/// let login = Login::parse(&RealmId::new("default", LoginRule::CaseMapped)?, "calvin")?;
/// let quality = Quality::default();
/// assert!(quality.check(&login, &Password::new(b"hobbes".to_vec())?).is_err());
/// assert!(quality.check(&login, &Password::new(b"hobbes the tiger".to_vec())?).is_ok());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct Quality {
    /// The fewest characters.
    pub min_length: usize,
    /// Each must be found somewhere in the password.
    pub patterns: Vec<Regex>,
    /// Has the last word.
    pub hook: Option<QualityHook>,
}

impl Default for Quality {
    fn default() -> Self {
        Self { min_length: 8, patterns: Vec::new(), hook: None }
    }
}

impl Quality {
    /// Checks a new password of a login.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) with the reason, which never holds the password.
    pub fn check(&self, login: &Login, password: &Password) -> Result<()> {
        let refuse = |reason: String| Err(Error::new(ErrorKind::Invalid, reason));
        // Bytes that are no text count as one character each, near enough.
        let text = Zeroizing::new(String::from_utf8_lossy(password.as_bytes()).into_owned());
        if text.chars().count() < self.min_length {
            return refuse(format!("the password is too short: at least {} characters", self.min_length));
        }
        if let Some(pattern) = self.patterns.iter().find(|pattern| !pattern.is_match(&text)) {
            return refuse(format!("the password must match {pattern}"));
        }
        match self.hook.as_ref().map_or(Ok(()), |hook| hook(login, password)) {
            Ok(()) => Ok(()),
            // A hook may quote what it was given.
            Err(reason) if reason.is_empty() || reason.contains(text.as_str()) => {
                refuse("the password is not good enough".to_owned())
            }
            Err(reason) => refuse(format!("the password is not good enough: {reason}")),
        }
    }
}

impl fmt::Debug for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quality")
            .field("min_length", &self.min_length)
            .field("patterns", &self.patterns)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}
