//! The figures of a cache, of a memo and of what is shared with other processes, each with its name in `/metrics` and its key in `gatepost cache stats`.

use std::time::Duration;

use auth_cache::{CacheStats, CarrierStats, HearingStats, LaneReport, Report, SharedStats};
use auth_password::HashedStats;
use auth_stack::Stack;
use serde_json::{Map, Value};

/// One figure of whatever has such figures.
pub(crate) struct Figure<T> {
    /// What `gatepost cache stats` calls it; durations end with their unit.
    pub(crate) key: &'static str,
    /// What `/metrics` calls it: a counter if this ends with `_total`, else a gauge.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    read: Read<T>,
}

enum Read<T> {
    Count(fn(&T) -> u64),
    /// Told as true or false, and in `/metrics` as 1 or 0.
    Flag(fn(&T) -> bool),
    /// Told in microseconds, and in `/metrics` in seconds.
    Micros(fn(&T) -> Duration),
    /// Told in milliseconds, and in `/metrics` in seconds.
    Millis(fn(&T) -> Duration),
}

impl<T> Figure<T> {
    pub(crate) fn kind(&self) -> &'static str {
        if self.name.ends_with("_total") { "counter" } else { "gauge" }
    }

    /// Returns the value for `/metrics`.
    pub(crate) fn sample(&self, of: &T) -> String {
        match self.read {
            Read::Count(read) => read(of).to_string(),
            Read::Flag(read) => u8::from(read(of)).to_string(),
            Read::Micros(read) | Read::Millis(read) => format!("{:.6}", read(of).as_secs_f64()),
        }
    }

    fn told(&self, of: &T) -> Value {
        match self.read {
            Read::Count(read) => read(of).into(),
            Read::Flag(read) => read(of).into(),
            Read::Micros(read) => micros(read(of)).into(),
            Read::Millis(read) => millis(read(of)).into(),
        }
    }
}

/// Returns all figures of one, by their keys.
pub(crate) fn told<T>(figures: &[Figure<T>], of: &T) -> Map<String, Value> {
    figures.iter().map(|figure| (figure.key.to_owned(), figure.told(of))).collect()
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What a cache has done, with what it may.
pub(crate) struct Cache {
    pub(crate) stats: CacheStats,
    pub(crate) lifetime: Duration,
    pub(crate) stale_limit: Duration,
}

impl Cache {
    pub(crate) fn of(stack: &Stack, report: &Report) -> Self {
        Self { stats: report.stats, lifetime: stack.lifetime(report), stale_limit: stack.stale_limit(report) }
    }
}

const fn count<T>(
    key: &'static str,
    name: &'static str,
    help: &'static str,
    read: fn(&T) -> u64,
) -> Figure<T> {
    Figure { key, name, help, read: Read::Count(read) }
}

const fn millis_of<T>(
    key: &'static str,
    name: &'static str,
    help: &'static str,
    read: fn(&T) -> Duration,
) -> Figure<T> {
    Figure { key, name, help, read: Read::Millis(read) }
}

/// Those of a cache. How much it keeps at most and how old its answers were are shown beside them: they are more
/// than a figure.
pub(crate) const CACHE: &[Figure<Cache>] = &[
    count(
        "hits",
        "gatepost_cache_hits_total",
        "Answers from the cache; a login whose hash has still to be verified looks twice.",
        |cache| cache.stats.hits,
    ),
    count(
        "negative_hits",
        "gatepost_cache_negative_hits_total",
        "Those of the hits that said that there is nobody or nothing.",
        |cache| cache.stats.negative_hits,
    ),
    count(
        "misses",
        "gatepost_cache_misses_total",
        "Questions that the cache could not answer (stale ones among them).",
        |cache| cache.stats.misses,
    ),
    count(
        "coalesced",
        "gatepost_cache_coalesced_total",
        "Questions that waited for another one's load.",
        |cache| cache.stats.coalesced,
    ),
    count("loads", "gatepost_cache_loads_total", "Loads from the source.", |cache| cache.stats.loads),
    count("load_errors", "gatepost_cache_load_errors_total", "Loads that failed.", |cache| {
        cache.stats.load_errors
    }),
    count("timeouts", "gatepost_cache_load_timeouts_total", "Loads that took too long.", |cache| {
        cache.stats.timeouts
    }),
    count("under_way", "gatepost_cache_loads_under_way", "Loads that are under way.", |cache| {
        cache.stats.under_way
    }),
    Figure {
        key: "load_us",
        name: "gatepost_cache_load_seconds_total",
        help: "Time that loads took.",
        read: Read::Micros(|cache| cache.stats.load_time),
    },
    count(
        "refreshes",
        "gatepost_cache_refreshes_total",
        "Loads of what is in use before it ends.",
        |cache| cache.stats.refreshes,
    ),
    count(
        "voided",
        "gatepost_cache_voided_total",
        "Entries found, and loads come back, void after an invalidation.",
        |cache| cache.stats.voided,
    ),
    count("expired", "gatepost_cache_expired_total", "Entries found past their life.", |cache| {
        cache.stats.expired
    }),
    count("evictions", "gatepost_cache_evictions_total", "Entries that made room for others.", |cache| {
        cache.stats.evictions
    }),
    count("entries", "gatepost_cache_entries", "Entries.", |cache| cache.stats.entries),
    count("bytes", "gatepost_cache_bytes", "Bytes of the entries, estimated.", |cache| cache.stats.bytes),
    count(
        "stale",
        "gatepost_cache_stale_total",
        "Answers past their life that stood in for a source that had failed.",
        |cache| cache.stats.stale,
    ),
    count(
        "backed_off",
        "gatepost_cache_backed_off_total",
        "Questions not put to a source that is left alone since it has failed.",
        |cache| cache.stats.backed_off,
    ),
    count(
        "overloaded",
        "gatepost_cache_overloaded_total",
        "Questions refused since too many waited for the source.",
        |cache| cache.stats.overloaded,
    ),
    millis_of(
        "max_age_ms",
        "gatepost_cache_age_at_hit_max_seconds",
        "The oldest answer served so far.",
        |cache| cache.stats.ages.max(),
    ),
    millis_of(
        "lifetime_ms",
        "gatepost_cache_lifetime_seconds",
        "The longest that an answer lives: no hit is older.",
        |cache| cache.lifetime,
    ),
    millis_of(
        "max_stale_age_ms",
        "gatepost_cache_stale_age_max_seconds",
        "The oldest answer that stood in for a source that had failed.",
        |cache| cache.stats.max_stale_age,
    ),
    millis_of(
        "stale_limit_ms",
        "gatepost_cache_stale_limit_seconds",
        "The oldest that an answer may get that stands in for a source that fails; 0 if none does. Nobody and nothing never do.",
        |cache| cache.stale_limit,
    ),
];

/// Those of the passwords that are remembered to be right, but for how many there may be.
pub(crate) const MEMO: &[Figure<HashedStats>] = &[
    count("hits", "gatepost_memo_hits_total", "Passwords known to be right from memory.", |memo| {
        memo.memo_hits
    }),
    count(
        "misses",
        "gatepost_memo_misses_total",
        "Passwords verified since they were not remembered.",
        |memo| memo.memo_misses,
    ),
    count(
        "rechecks",
        "gatepost_password_rechecks_total",
        "Questions to a source again since a password did not fit what was remembered.",
        |memo| memo.rechecks,
    ),
    count(
        "evictions",
        "gatepost_memo_evictions_total",
        "Remembered passwords that made room for others.",
        |memo| memo.memo_evictions,
    ),
    count("entries", "gatepost_memo_entries", "Passwords remembered to be right.", |memo| {
        u64::try_from(memo.memo_entries).unwrap_or(u64::MAX)
    }),
];

/// What else `/metrics` alone tells of passwords and hashes.
pub(crate) const HASHED: &[Figure<HashedStats>] = &[
    count("bound", "gatepost_memo_bound_entries", "The most passwords that are remembered.", |memo| {
        u64::try_from(memo.memo_bound).unwrap_or(u64::MAX)
    }),
    count(
        "upgrades",
        "gatepost_hash_upgrades_total",
        "Stored hashes replaced by better ones at a login.",
        |memo| memo.upgrades,
    ),
    count(
        "upgrade_failures",
        "gatepost_hash_upgrade_failures_total",
        "Stored hashes that could not be replaced by better ones; the login succeeded.",
        |memo| memo.upgrade_failures,
    ),
];

/// Those of a cache's part of the shared cache.
pub(crate) const SHARED: &[Figure<SharedStats>] = &[
    count(
        "shared_hits",
        "gatepost_shared_cache_hits_total",
        "Answers from the shared cache; they are among the hits of the whole.",
        |shared| shared.hits,
    ),
    count(
        "shared_misses",
        "gatepost_shared_cache_misses_total",
        "Questions that the shared cache had no entry for.",
        |shared| shared.misses,
    ),
    count(
        "shared_voided",
        "gatepost_shared_cache_voided_total",
        "Entries of the shared cache found void after an invalidation.",
        |shared| shared.voided,
    ),
    count(
        "shared_expired",
        "gatepost_shared_cache_expired_total",
        "Entries of the shared cache found past their life.",
        |shared| shared.expired,
    ),
    count(
        "shared_forged",
        "gatepost_shared_cache_forged_total",
        "Entries of the shared cache that were not authentic: changed, cut off, or of something else.",
        |shared| shared.forged,
    ),
    count(
        "shared_foreign",
        "gatepost_shared_cache_foreign_total",
        "Entries of the shared cache sealed under a key, or in a format, that this process does not know.",
        |shared| shared.foreign,
    ),
    count(
        "shared_errors",
        "gatepost_shared_cache_errors_total",
        "Questions to the shared cache that failed: no connection, too slow, refused.",
        |shared| shared.errors,
    ),
    count(
        "shared_skipped",
        "gatepost_shared_cache_skipped_total",
        "Questions not put to the shared cache since it is left alone after failures, or does not know yet what is void.",
        |shared| shared.skipped,
    ),
    count(
        "shared_stored",
        "gatepost_shared_cache_stored_total",
        "Answers stored in the shared cache.",
        |shared| shared.stored,
    ),
    count(
        "shared_outdated",
        "gatepost_shared_cache_outdated_total",
        "Answers not stored in the shared cache since an invalidation was faster.",
        |shared| shared.outdated,
    ),
    count(
        "shared_too_large",
        "gatepost_shared_cache_too_large_total",
        "Answers not stored in the shared cache since they are larger than it keeps.",
        |shared| shared.too_large,
    ),
    count(
        "shared_store_errors",
        "gatepost_shared_cache_store_errors_total",
        "Answers that could not be stored in the shared cache.",
        |shared| shared.store_errors,
    ),
];

/// How the lanes of a shared cache are: what is on one server, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes {
    pub(crate) up: u64,
    pub(crate) left_alone: u64,
    pub(crate) behind: u64,
}

impl Lanes {
    pub(crate) fn of(lanes: &[LaneReport]) -> Self {
        let count = |which: fn(&LaneReport) -> bool| {
            u64::try_from(lanes.iter().filter(|lane| which(lane)).count()).unwrap_or(u64::MAX)
        };
        Self {
            up: count(|lane| lane.left_alone.is_none()),
            left_alone: count(|lane| lane.left_alone.is_some()),
            behind: count(|lane| lane.behind > 0),
        }
    }
}

/// Those of the lanes of a shared cache.
pub(crate) const LANES: &[Figure<Lanes>] = &[
    count("up", "gatepost_shared_cache_lanes_up", "Lanes of the shared cache that are asked.", |lanes| {
        lanes.up
    }),
    count(
        "left_alone",
        "gatepost_shared_cache_lanes_left_alone",
        "Lanes of the shared cache that are left alone since they have failed.",
        |lanes| lanes.left_alone,
    ),
    count(
        "behind",
        "gatepost_shared_cache_lanes_behind",
        "Lanes of the shared cache that do not know yet of something that is void: what depends on it is not asked there.",
        |lanes| lanes.behind,
    ),
];

/// Those of what came over the bus.
pub(crate) const HEARING: &[Figure<HearingStats>] = &[
    Figure {
        key: "deaf",
        name: "gatepost_bus_deaf",
        help: "Whether invalidations of other processes may be missed now: meanwhile this process keeps no answers.",
        read: Read::Flag(|hearing| hearing.deaf),
    },
    count("heard", "gatepost_bus_heard_total", "Invalidations that other processes told of.", |hearing| {
        hearing.heard
    }),
    count("losses", "gatepost_bus_losses_total", "How often the bus was lost.", |hearing| hearing.losses),
    count(
        "unread",
        "gatepost_bus_unread_total",
        "Messages on the bus that could not be read; those under an unknown key void everything.",
        |hearing| hearing.unread,
    ),
];

/// Those of the invalidations that are carried to the shared cache and to other processes.
pub(crate) const CARRIED: &[Figure<CarrierStats>] = &[
    count(
        "told",
        "gatepost_invalidations_carried_total",
        "Invalidations to be carried beyond this process.",
        |carried| carried.told,
    ),
    count(
        "waiting",
        "gatepost_invalidations_waiting",
        "Invalidations that are not known everywhere beyond this process yet.",
        |carried| carried.waiting,
    ),
    count(
        "failures",
        "gatepost_invalidations_failed_attempts_total",
        "Attempts to carry invalidations that have failed, each of a part of the shared cache or of the bus.",
        |carried| carried.failures,
    ),
    count(
        "given_up",
        "gatepost_invalidations_given_up_total",
        "Invalidations that never got everywhere before all that they had voided was past its life.",
        |carried| carried.given_up,
    ),
];
