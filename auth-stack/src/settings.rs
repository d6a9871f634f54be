//! From configuration to the settings of the parts, each within its bounds.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use auth_core::{Error, Result};
use auth_password::{HasherConfig, Limits, Policy, Preferred, Quality, Scheme};

use crate::config::{AcceptWeak, Config, PasswordConfig, PreferredScheme};
use crate::origins::Origins;

/// The most entries of one table; what more costs is for several tables to be multiplied with.
const MOST_ENTRIES: usize = 1 << 24;
/// The longest password, in bytes: no rule may ask for more.
const LONGEST_PASSWORD: usize = 1024;

/// Checks that every size is within its bounds.
///
/// # Errors
/// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the place and the bounds.
pub(crate) fn check(config: &Config, origins: &Origins) -> Result<()> {
    let within = |path: &[&str], value: usize, bounds: RangeInclusive<usize>| {
        if bounds.contains(&value) {
            return Ok(());
        }
        let (least, most) = (bounds.start(), bounds.end());
        Err(origins.wrong(path, &format!("{value} is not between {least} and {most}")))
    };
    if config.cache.size == 0 {
        return Err(origins.wrong(&["cache", "size"], "0 entries are no cache: say kind = \"none\""));
    }
    within(&["cache", "size"], config.cache.size, 1..=MOST_ENTRIES)?;
    let password = &config.password;
    within(&["password", "threads"], password.threads, 0..=256)?;
    within(&["password", "queue"], password.queue, 1..=65_536)?;
    within(&["password", "memo"], password.memo, 0..=MOST_ENTRIES)?;
    within(&["password", "min_length"], password.min_length, 0..=LONGEST_PASSWORD)?;
    within(&["password", "patterns"], password.patterns.len(), 0..=64)?;
    if config.server.limit.0 < Duration::from_millis(1) {
        return Err(origins.wrong(&["server", "limit"], "a request needs some time"));
    }
    Ok(())
}

pub(crate) fn hasher(config: &PasswordConfig) -> HasherConfig {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HasherConfig { threads: if config.threads > 0 { config.threads } else { cores() }, queue: config.queue }
}

pub(crate) fn policy(config: &PasswordConfig, origins: &Origins) -> Result<Policy> {
    let accept_weak = match &config.accept_weak {
        AcceptWeak::All(true) => auth_password::AcceptWeak::All,
        AcceptWeak::All(false) => auth_password::AcceptWeak::None,
        AcceptWeak::Some(names) => {
            let mut schemes = BTreeSet::new();
            for (at, name) in names.iter().enumerate() {
                schemes.insert(Scheme::from_name(name).ok_or_else(|| {
                    let known = Scheme::NAMES.iter().copied();
                    let path = ["password", "accept_weak", &at.to_string()];
                    origins.unknown(&path, "scheme", name, known)
                })?);
            }
            auth_password::AcceptWeak::Only(schemes)
        }
    };
    let preferred = match config.preferred {
        PreferredScheme::Argon2id => Preferred::Argon2id {
            memory_kib: config.argon2.memory_kib,
            passes: config.argon2.passes,
            lanes: config.argon2.lanes,
        },
        PreferredScheme::Bcrypt => Preferred::Bcrypt { cost: config.bcrypt_cost },
    };
    let mut limits = Limits::default();
    if let Some(memory) = config.limits.memory_kib {
        limits.memory_kib = memory.into();
    }
    if let Some(cost) = config.limits.bcrypt_cost {
        limits.bcrypt_cost = cost;
    }
    if let Some(rounds) = config.limits.rounds {
        limits.pbkdf2_rounds = rounds.into();
        limits.crypt_rounds = rounds.into();
    }
    let policy = Policy { accept_weak, limits, preferred, upgrade: config.upgrade };
    policy.check().map_err(|error| origins.wrong(&["password"], &said(&error)))?;
    Ok(policy)
}

pub(crate) fn quality(config: &PasswordConfig, origins: &Origins) -> Result<Quality> {
    let mut patterns = Vec::new();
    for (at, pattern) in config.patterns.iter().enumerate() {
        patterns.push(regex::Regex::new(pattern).map_err(|error| {
            // The error draws a picture of several lines; the last one says what is wrong.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{pattern}` is no regular expression: {why}");
            origins.wrong(&["password", "patterns", &at.to_string()], &message)
        })?);
    }
    Ok(Quality { min_length: config.min_length, patterns, hook: None })
}

/// An error without the name of its kind, to stand in another one.
pub(crate) fn said(error: &Error) -> String {
    let text = error.to_string();
    text.strip_prefix(error.kind().as_str())
        .and_then(|text| text.strip_prefix(": "))
        .map_or_else(|| text.clone(), str::to_owned)
}
