//! The Prometheus text of a stack. Labels are names from configuration, never users.

use std::fmt::Write as _;

use auth_cache::{Bound, CacheStats};
use auth_stack::{MemoReport, SourceReport, Stack};

/// Renders every metric in the Prometheus text format, version 0.0.4.
pub(crate) fn render(stack: &Stack, sources: &[SourceReport]) -> String {
    let mut page = Page::default();
    page.family("gatepost_logins_total", "counter", "Logins by how they ended.");
    for (realm, outcome, count) in stack.logins() {
        page.sample("gatepost_logins_total", &[("realm", &realm), ("outcome", outcome)], count);
    }
    let hashing = stack.hashing();
    page.single("gatepost_hash_jobs_total", "counter", "Password hashes computed.", hashing.jobs);
    page.single(
        "gatepost_hash_pads_total",
        "counter",
        "Hash jobs spent so that all rejections cost the same.",
        hashing.pads,
    );
    page.single(
        "gatepost_hash_refused_total",
        "counter",
        "Hash jobs refused because the queue was full.",
        hashing.refused,
    );
    page.single(
        "gatepost_hash_skipped_total",
        "counter",
        "Hash jobs dropped unworked because nobody waited any longer.",
        hashing.skipped,
    );
    page.single("gatepost_hash_queued", "gauge", "Hash jobs waiting.", hashing.queued);
    page.family("gatepost_source_up", "gauge", "Whether a source is fit.");
    for source in sources {
        page.sample("gatepost_source_up", &[("source", &source.name)], u64::from(source.is_up()));
    }
    page.family("gatepost_source_questions_total", "counter", "Questions that reached a source.");
    for source in sources {
        page.sample("gatepost_source_questions_total", &[("source", &source.name)], source.health.questions);
    }
    page.family("gatepost_source_errors_total", "counter", "Questions that a source failed to answer.");
    for source in sources {
        page.sample("gatepost_source_errors_total", &[("source", &source.name)], source.health.errors);
    }
    page.family("gatepost_source_seconds_total", "counter", "Time that questions to a source took.");
    for source in sources {
        page.seconds("gatepost_source_seconds_total", &[("source", &source.name)], source.health.time);
    }
    let memos = stack.memos();
    for (name, kind, help, value) in MEMO {
        page.family(name, kind, help);
        for memo in &memos {
            page.sample(name, &[("realm", &*memo.realm), ("source", &*memo.source)], value(memo));
        }
    }
    let caches = stack.caches();
    for (name, kind, help, value) in CACHE {
        page.family(name, kind, help);
        for (realm, report) in &caches {
            let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
            page.sample(name, &labels, value(&report.stats));
        }
    }
    page.family("gatepost_cache_load_seconds_total", "counter", "Time that loads took.");
    for (realm, report) in &caches {
        let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
        page.seconds("gatepost_cache_load_seconds_total", &labels, report.stats.load_time);
    }
    page.family("gatepost_cache_age_at_hit_max_seconds", "gauge", "The oldest answer served so far.");
    for (realm, report) in &caches {
        let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
        page.seconds("gatepost_cache_age_at_hit_max_seconds", &labels, report.stats.ages.max());
    }
    page.0
}

type Value<T> = fn(&T) -> u64;

const MEMO: [(&str, &str, &str, Value<MemoReport>); 4] = [
    ("gatepost_memo_hits_total", "counter", "Passwords known to be right from memory.", |memo| {
        memo.stats.memo_hits
    }),
    ("gatepost_memo_entries", "gauge", "Passwords remembered to be right.", |memo| {
        u64::try_from(memo.stats.memo_entries).unwrap_or(u64::MAX)
    }),
    (
        "gatepost_hash_upgrades_total",
        "counter",
        "Stored hashes replaced by better ones at a login.",
        |memo| memo.stats.upgrades,
    ),
    (
        "gatepost_hash_upgrade_failures_total",
        "counter",
        "Stored hashes that could not be replaced by better ones; the login succeeded.",
        |memo| memo.stats.upgrade_failures,
    ),
];

const CACHE: [(&str, &str, &str, Value<CacheStats>); 11] = [
    (
        "gatepost_cache_hits_total",
        "counter",
        "Answers from the cache; a login whose hash has still to be verified looks twice.",
        |stats| stats.hits,
    ),
    (
        "gatepost_cache_negative_hits_total",
        "counter",
        "Answers from the cache that said no such thing.",
        |stats| stats.negative_hits,
    ),
    ("gatepost_cache_misses_total", "counter", "Questions that the cache could not answer.", |stats| {
        stats.misses
    }),
    ("gatepost_cache_coalesced_total", "counter", "Questions that waited for another one's load.", |stats| {
        stats.coalesced
    }),
    ("gatepost_cache_loads_total", "counter", "Loads from the source.", |stats| stats.loads),
    ("gatepost_cache_load_errors_total", "counter", "Loads that failed.", |stats| stats.load_errors),
    ("gatepost_cache_voided_total", "counter", "Entries found void after an invalidation.", |stats| {
        stats.voided
    }),
    ("gatepost_cache_expired_total", "counter", "Entries found past their life.", |stats| stats.expired),
    ("gatepost_cache_evictions_total", "counter", "Entries that made room for others.", |stats| {
        stats.evictions
    }),
    ("gatepost_cache_entries", "gauge", "Entries.", |stats| stats.entries),
    ("gatepost_cache_capacity", "gauge", "The most entries.", |stats| match stats.bound {
        Some(Bound::Entries(most)) => u64::try_from(most).unwrap_or(u64::MAX),
        _ => 0,
    }),
];

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            self.0.push(if n == 0 { '{' } else { ',' });
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn seconds(&mut self, name: &str, labels: &[(&str, &str)], time: std::time::Duration) {
        self.sample(name, labels, format_args!("{:.6}", time.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("x", &[("a", "q\"\\\n"), ("b", "c")], 1);
        assert_eq!(page.0, "x{a=\"q\\\"\\\\\\n\",b=\"c\"} 1\n");
    }
}
