//! From configuration to the settings of the parts, each within its bounds.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use auth_cache::Bound;
use auth_core::{Error, Result};
use auth_password::{HasherConfig, Limits, Policy, Preferred, Quality, Scheme};

use crate::config::{
    AcceptWeak, BackoffConfig, CacheConfig, Config, Factor, PasswordConfig, PreferredScheme, Size,
    SourceCommon, Span,
};
use crate::origins::Origins;

/// The most entries of one table; what more costs is for several tables to be multiplied with.
const MOST_ENTRIES: usize = 1 << 24;
/// The bytes of one table: less keeps too little to be a cache, more is a slip of the pen.
const BYTES: RangeInclusive<usize> = 64 << 10..=1 << 40;
/// The longest that answers may stand in for a source that fails: so long may somebody be let in who was
/// dismissed meanwhile. Whoever mends a longer outage wants to decide that anew.
const LONGEST_STALE: Duration = Duration::from_secs(3600);
/// How long a shared cache may be waited for: a store stands behind it, which is to be asked while there is time.
const SHARED_LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);
/// The most times of a load that a refresh may be early; half of an answer's life is the limit in any case.
const EARLIEST_REFRESH: f64 = 100.0;
/// The longest that a source may be left alone: so long it is not seen to be back.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest password, in bytes: no rule may ask for more.
const LONGEST_PASSWORD: usize = 1024;

/// The longest that an attempt may be made to wait.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// Checks that every size is within its bounds.
///
/// # Errors
/// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), naming the place and the bounds.
pub(crate) fn check(config: &Config, origins: &Origins) -> Result<()> {
    let within = |path: &[&str], value, bounds| within(origins, path, value, bounds);
    cache(&config.cache, origins)?;
    let password = &config.password;
    within(&["password", "threads"], password.threads, 0..=256)?;
    within(&["password", "queue"], password.queue, 1..=65_536)?;
    within(&["password", "memo"], password.memo, 0..=MOST_ENTRIES)?;
    within(&["password", "min_length"], password.min_length, 0..=LONGEST_PASSWORD)?;
    within(&["password", "patterns"], password.patterns.len(), 0..=64)?;
    let guard = &config.guard;
    let frees =
        [("free", guard.free), ("network_free", guard.network_free), ("login_free", guard.login_free)];
    for (key, free) in frees {
        within(&["guard", key], usize::try_from(free).unwrap_or(usize::MAX), 0..=1_000_000)?;
    }
    within(&["guard", "entries"], guard.entries, 16..=MOST_ENTRIES)?;
    if guard.patience.0 > LONGEST_PATIENCE {
        let message = "who waits holds a connection: ten seconds at most";
        return Err(origins.wrong(&["guard", "patience"], message));
    }
    if config.server.limit.0 < Duration::from_millis(1) {
        return Err(origins.wrong(&["server", "limit"], "a request needs some time"));
    }
    Ok(())
}

fn within(origins: &Origins, path: &[&str], value: usize, bounds: RangeInclusive<usize>) -> Result<()> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(origins.wrong(path, &format!("{value} is not between {least} and {most}")))
}

fn cache(config: &CacheConfig, origins: &Origins) -> Result<()> {
    let path = ["cache", "size"];
    match config.bound() {
        Bound::Entries(0) | Bound::Bytes(0) => {
            return Err(origins.wrong(&path, "a size of 0 is no cache: say kind = \"none\""));
        }
        Bound::Entries(entries) => within(origins, &path, entries, 1..=MOST_ENTRIES)?,
        Bound::Bytes(bytes) if BYTES.contains(&bytes) => {}
        Bound::Bytes(_) => {
            let (least, most) = (Size(Bound::Bytes(*BYTES.start())), Size(Bound::Bytes(*BYTES.end())));
            let size = Size(config.bound());
            return Err(origins.wrong(&path, &format!("{size} is not between {least} and {most}")));
        }
    }
    if config.stale_if_error.0 > LONGEST_STALE {
        let message = "an answer may be stale for an hour at most: so long a dismissed user may be let in";
        return Err(origins.wrong(&["cache", "stale_if_error"], message));
    }
    for (key, Span(limit)) in [("timeout", config.timeout), ("connect_timeout", config.connect_timeout)] {
        if !SHARED_LIMIT.contains(&limit) {
            let (least, most) = (Span(*SHARED_LIMIT.start()), Span(*SHARED_LIMIT.end()));
            let message = format!("{} is not between {least} and {most}", Span(limit));
            return Err(origins.wrong(&["cache", key], &message));
        }
    }
    if config.local_ttl.is_some_and(|Span(most)| most.is_zero()) {
        let message = "to keep nothing in the process, choose the kind redis or memcached instead of tiered";
        return Err(origins.wrong(&["cache", "local_ttl"], message));
    }
    let Factor(ahead) = config.refresh_ahead;
    if !(0.0..=EARLIEST_REFRESH).contains(&ahead) {
        let message = format!("{ahead} is not between 0 and {EARLIEST_REFRESH}");
        return Err(origins.wrong(&["cache", "refresh_ahead"], &message));
    }
    Ok(())
}

/// Checks what a source says about how it is asked.
pub(crate) fn check_source(name: &str, common: &SourceCommon, origins: &Origins) -> Result<()> {
    if common.timeout.0.is_zero() {
        return Err(origins.wrong(&["source", name, "timeout"], "a question needs some time"));
    }
    within(origins, &["source", name, "loads"], common.loads, 1..=4096)?;
    within(origins, &["source", name, "queue"], common.queue, 0..=1 << 20)?;
    let BackoffConfig { after, first: Span(first), most: Span(most) } = common.backoff;
    let wrong = |key, message| Err(origins.wrong(&["source", name, "backoff", key], message));
    if after > 1000 {
        return wrong("after", "a thousand failures at most; 0 never leaves the source alone");
    }
    if most > LONGEST_PAUSE {
        return wrong(
            "most",
            "a source is left alone for five minutes at most, or it is not seen to be back",
        );
    }
    if first > most {
        return wrong("first", "the first time is longer than the longest, `most`");
    }
    if after > 0 && first < Duration::from_millis(1) {
        return wrong("first", "leave the source alone for some time, or never: after = 0");
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
