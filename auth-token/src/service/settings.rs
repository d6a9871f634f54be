//! What a token service allows.

use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};

/// What follows if a refresh token that was replaced comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnReuse {
    /// Its session ends.
    #[default]
    End,
    /// All sessions of the person end.
    EndAll,
    /// It is refused and told; nothing ends. For a time of watching, not for good.
    Warn,
}

/// What a token service allows.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct TokenSettings {
    /// How long an access token is good.
    pub access_ttl: Duration,
    /// By which part of that it may be shorter, so that not all are renewed at once: 0 to 0.5.
    pub jitter: f64,
    /// By how much clocks may differ where an access token is checked.
    pub leeway: Duration,
    /// The longest life of an access token that is issued without a session, or accepted. What is revoked by login or
    /// realm is remembered for as long.
    pub longest: Duration,
    /// How long a session may be unused.
    pub idle: Duration,
    /// How long a session may last.
    pub absolute: Duration,
    /// Both, for sessions that are not to be remembered.
    pub short: Duration,
    /// How long after a renewal the token before is answered with the same successor, for who has not got it. Zero:
    /// a second renewal with it ends the session, also where two windows raced.
    pub grace: Duration,
    /// How often that is done at most.
    pub retries: u32,
    /// What follows if a token comes back that was replaced.
    pub on_reuse: OnReuse,
    /// The scopes that may be asked for; all are granted to who asks for none.
    pub scopes: Vec<String>,
    /// How many sessions are listed at most.
    pub listed: u32,
    /// For how many sessions this process remembers what never changes of them.
    pub remembered: usize,
}

impl Default for TokenSettings {
    /// 10 minutes less up to 5 %, 30 s of leeway, 30 days at the longest; sessions of 14 days unused and 30 days in all, 12
    /// hours if not remembered; 30 s and 10 times for lost answers.
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        Self {
            access_ttl: Duration::from_secs(600),
            jitter: 0.05,
            leeway: Duration::from_secs(30),
            longest: hours(30 * 24),
            idle: hours(14 * 24),
            absolute: hours(30 * 24),
            short: hours(12),
            grace: Duration::from_secs(30),
            retries: 10,
            on_reuse: OnReuse::End,
            scopes: Vec::new(),
            listed: 1_000,
            remembered: 65_536,
        }
    }
}

impl TokenSettings {
    /// The longest grace.
    pub const MAX_GRACE: Duration = Duration::from_secs(300);
    /// The longest of any time.
    const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) naming the setting.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &'static str, message: &'static str| {
            Err(Error::new(ErrorKind::Misconfigured, message).with("setting", key))
        };
        let second = Duration::from_secs(1);
        for (key, time) in [
            ("access_ttl", self.access_ttl),
            ("longest", self.longest),
            ("idle", self.idle),
            ("absolute", self.absolute),
            ("short", self.short),
        ] {
            if time < second || time > Self::MAX {
                return wrong(key, "must be from a second to a hundred years");
            }
        }
        if self.longest < self.access_ttl {
            return wrong("longest", "must not be shorter than access_ttl");
        }
        if self.idle > self.absolute {
            return wrong("idle", "must not be longer than absolute");
        }
        if !(0.0..=0.5).contains(&self.jitter) {
            return wrong("jitter", "must be from 0 to 0.5");
        }
        if self.leeway > Self::MAX_GRACE {
            return wrong("leeway", "must be at most 5 minutes");
        }
        if self.grace > Self::MAX_GRACE {
            return wrong("grace", "must be at most 5 minutes");
        }
        let scope = |scope: &String| {
            is_scope(scope) && self.scopes.iter().filter(|other| *other == scope).count() == 1
        };
        if !self.scopes.iter().all(scope) || self.scopes.join(" ").len() > auth_core::Family::MAX_SCOPE_BYTES
        {
            return wrong(
                "scopes",
                "must be printable ASCII without blanks, quotes or backslashes, each once, 1,024 bytes in all",
            );
        }
        Ok(())
    }

    /// The scopes that are granted where these are asked for; nothing if one may not be.
    pub(super) fn granted(&self, asked: Option<&str>) -> Option<Vec<String>> {
        asked.map_or_else(|| Some(self.scopes.clone()), |asked| narrowed(&self.scopes, asked))
    }
}

/// Reports whether this is a scope-token (RFC 6749, section 3.3).
fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Those of `held` that are asked for, in the order of `held`; nothing if another one is.
pub(super) fn narrowed(held: &[String], asked: &str) -> Option<Vec<String>> {
    let asked: Vec<&str> = asked.split(' ').filter(|scope| !scope.is_empty()).collect();
    let known = asked.iter().all(|scope| held.iter().any(|held| held == scope));
    known.then(|| held.iter().filter(|held| asked.contains(&held.as_str())).cloned().collect())
}
