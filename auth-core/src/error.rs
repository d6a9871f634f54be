//! The one error of the workspace: a kind to act on, and text for the log.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The result of every question and every write.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store could not be reached. Temporary: retry later, answer 503.
    Unavailable,
    /// The store did not answer within its limit. Temporary.
    Timeout,
    /// A bounded queue or pool is full. Temporary.
    Overloaded,
    /// There were too many wrong passwords: nobody was asked. Temporary: answer 429, with the time after which to come
    /// back.
    Throttled,
    /// Two records answer to one name. Nobody is let in until an operator mends it.
    Ambiguous,
    /// A stored hash, row or file can't be read.
    Corrupt,
    /// Configuration and reality disagree: a missing table, a scheme that is not accepted.
    Misconfigured,
    /// This source can't answer that question.
    Unsupported,
    /// The caller's input is not acceptable: a bad name, an undeclared domain.
    Invalid,
    /// A defect: of ours, or of a store.
    Internal,
}

impl ErrorKind {
    /// Reports whether asking again later may help.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Overloaded | Self::Throttled)
    }

    /// Names the kind in the form used by JSON answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Corrupt => "corrupt",
            Self::Misconfigured => "misconfigured",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// "Could not find out": never a yes, never a no.
///
/// One word wide and cheap to clone, since one failure may be told to many waiters.
/// There is no conversion from an error to any answer. `Display` is one line without
/// the cause; walk [`source`](StdError::source) for the chain. Context never holds a
/// password, a hash or a token.
///
/// ```
/// use auth_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Unavailable, "no connection").at("app").with("table", "account");
/// assert!(error.kind().is_temporary());
/// assert_eq!(error.to_string(), "unavailable: no connection (source app, table account)");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Repr>);

#[derive(Clone)]
struct Repr {
    kind: ErrorKind,
    message: Cow<'static, str>,
    origin: Option<Arc<str>>,
    context: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of a kind with a message for the log.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Repr {
            kind,
            message: message.into(),
            origin: None,
            context: Vec::new(),
            retry_after: None,
            cause: None,
        }))
    }

    /// Names the source that failed, unless one is named already.
    #[must_use]
    pub fn at(mut self, source: impl Into<Arc<str>>) -> Self {
        let repr = Arc::make_mut(&mut self.0);
        if repr.origin.is_none() {
            repr.origin = Some(source.into());
        }
        self
    }

    /// Puts in front of the message where its reason is to be found: a file and a line.
    #[must_use]
    pub fn placed(mut self, place: impl fmt::Display) -> Self {
        let repr = Arc::make_mut(&mut self.0);
        repr.message = format!("{place}{}", repr.message).into();
        self
    }

    /// Adds a piece of context. Never pass a secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        Arc::make_mut(&mut self.0).context.push((key, value.to_string()));
        self
    }

    /// Keeps what went wrong underneath.
    #[must_use]
    pub fn because(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).cause = Some(Arc::new(cause));
        self
    }

    /// Says after how long asking again makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(wait);
        self
    }

    /// Returns what the caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message without context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the name of the source that failed.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.0.origin.as_deref()
    }

    /// Returns after how long asking again makes sense.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        let origin = self.0.origin.iter().map(|name| ("source", name.as_ref()));
        let context = self.0.context.iter().map(|(key, value)| (*key, value.as_str()));
        for (n, (key, value)) in origin.chain(context).enumerate() {
            f.write_str(if n == 0 { " (" } else { ", " })?;
            write!(f, "{key} {value}")?;
        }
        if self.0.origin.is_some() || !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_and_keeps_its_first_origin() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
        let error = Error::new(ErrorKind::Corrupt, "bad row").at("app").at("outer");
        assert_eq!(error.origin(), Some("app"));
        assert!(!error.kind().is_temporary());
    }

    #[test]
    fn a_place_stands_in_front_and_nothing_else_changes() {
        let error = Error::new(ErrorKind::Timeout, "no answer").at("app").with("table", "account");
        let error = error.placed("gatepost.toml:3: source.app: ");
        assert_eq!(
            error.to_string(),
            "timeout: gatepost.toml:3: source.app: no answer (source app, table account)"
        );
        assert!(error.kind().is_temporary());
    }

    #[test]
    fn debug_tells_the_chain_of_causes() {
        let inner = Error::new(ErrorKind::Timeout, "no answer");
        let outer = Error::new(ErrorKind::Unavailable, "could not ask").because(inner);
        assert_eq!(format!("{outer:?}"), "unavailable: could not ask: timeout: no answer");
    }
}
