//! The Prometheus text of a stack. Labels are names from configuration, never users.

use std::fmt::Write as _;

use auth_cache::{AgeHistogram, Bound, CacheStats};
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
    page.family(
        "gatepost_source_backing_off",
        "gauge",
        "Whether the caches leave a source alone since it has failed.",
    );
    for source in sources {
        let left_alone = u64::from(source.left_alone.is_some());
        page.sample("gatepost_source_backing_off", &[("source", &source.name)], left_alone);
    }
    page.single(
        "gatepost_invalidations_total",
        "counter",
        "Subjects about which everything remembered was voided.",
        stack.invalidations(),
    );
    let (owners, most) = stack.owners();
    page.single("gatepost_owners_entries", "gauge", "Logins whose source is remembered.", owners);
    page.single(
        "gatepost_owners_bound_entries",
        "gauge",
        "The most logins whose source is remembered.",
        most,
    );
    let memos = stack.memos();
    for (name, kind, help, value) in MEMO {
        page.family(name, kind, help);
        for memo in &memos {
            page.sample(name, &[("realm", &*memo.realm), ("source", &*memo.source)], value(memo));
        }
    }
    let reports = stack.caches();
    let caches: Vec<_> = reports
        .iter()
        .map(|(realm, report)| {
            let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
            (labels, &report.stats)
        })
        .collect();
    for (name, kind, help, value) in CACHE {
        page.family(name, kind, help);
        for (labels, stats) in &caches {
            page.sample(name, labels, value(stats));
        }
    }
    page.family(
        "gatepost_cache_bound_entries",
        "gauge",
        "The most entries, the eighth for nobody and nothing included.",
    );
    for (labels, stats) in &caches {
        if let Some(Bound::Entries(most)) = stats.bound {
            page.sample("gatepost_cache_bound_entries", labels, most);
        }
    }
    page.family(
        "gatepost_cache_bound_bytes",
        "gauge",
        "The most bytes, the eighth for nobody and nothing included.",
    );
    for (labels, stats) in &caches {
        if let Some(Bound::Bytes(most)) = stats.bound {
            page.sample("gatepost_cache_bound_bytes", labels, most);
        }
    }
    page.family(
        "gatepost_cache_lifetime_seconds",
        "gauge",
        "The longest that an answer lives: no hit is older.",
    );
    for ((_, report), (labels, _)) in reports.iter().zip(&caches) {
        page.seconds("gatepost_cache_lifetime_seconds", labels, stack.lifetime(report));
    }
    page.family(
        "gatepost_cache_stale_limit_seconds",
        "gauge",
        "The longest that an answer may stand in for a source that fails, from when it was asked; 0 for not at all.",
    );
    for ((_, report), (labels, _)) in reports.iter().zip(&caches) {
        page.seconds("gatepost_cache_stale_limit_seconds", labels, stack.stale_limit(report));
    }
    page.family("gatepost_cache_load_seconds_total", "counter", "Time that loads took.");
    for (labels, stats) in &caches {
        page.seconds("gatepost_cache_load_seconds_total", labels, stats.load_time);
    }
    page.family(
        "gatepost_cache_age_at_hit_seconds",
        "histogram",
        "How old the answers of hits were; the sum is estimated from the buckets.",
    );
    for (labels, stats) in &caches {
        page.histogram("gatepost_cache_age_at_hit_seconds", labels, &stats.ages);
    }
    page.family("gatepost_cache_age_at_hit_max_seconds", "gauge", "The oldest answer served so far.");
    for (labels, stats) in &caches {
        page.seconds("gatepost_cache_age_at_hit_max_seconds", labels, stats.ages.max());
    }
    page.family(
        "gatepost_cache_stale_age_max_seconds",
        "gauge",
        "The oldest answer that stood in for a source that had failed.",
    );
    for (labels, stats) in &caches {
        page.seconds("gatepost_cache_stale_age_max_seconds", labels, stats.max_stale_age);
    }
    page.0
}

type Value<T> = fn(&T) -> u64;

const MEMO: [(&str, &str, &str, Value<MemoReport>); 8] = [
    ("gatepost_memo_hits_total", "counter", "Passwords known to be right from memory.", |memo| {
        memo.stats.memo_hits
    }),
    ("gatepost_memo_entries", "gauge", "Passwords remembered to be right.", |memo| {
        u64::try_from(memo.stats.memo_entries).unwrap_or(u64::MAX)
    }),
    ("gatepost_memo_misses_total", "counter", "Passwords verified since they were not remembered.", |memo| {
        memo.stats.memo_misses
    }),
    ("gatepost_memo_evictions_total", "counter", "Remembered passwords that made room for others.", |memo| {
        memo.stats.memo_evictions
    }),
    ("gatepost_memo_bound_entries", "gauge", "The most passwords that are remembered.", |memo| {
        u64::try_from(memo.stats.memo_bound).unwrap_or(u64::MAX)
    }),
    (
        "gatepost_password_rechecks_total",
        "counter",
        "Questions to a source again since a password did not fit what was remembered.",
        |memo| memo.stats.rechecks,
    ),
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

const CACHE: [(&str, &str, &str, Value<CacheStats>); 17] = [
    (
        "gatepost_cache_hits_total",
        "counter",
        "Answers from the cache; a login whose hash has still to be verified looks twice.",
        |stats| stats.hits,
    ),
    (
        "gatepost_cache_negative_hits_total",
        "counter",
        "Those of the hits that said that there is nobody or nothing.",
        |stats| stats.negative_hits,
    ),
    (
        "gatepost_cache_misses_total",
        "counter",
        "Questions that the cache could not answer (stale ones among them).",
        |stats| stats.misses,
    ),
    ("gatepost_cache_coalesced_total", "counter", "Questions that waited for another one's load.", |stats| {
        stats.coalesced
    }),
    ("gatepost_cache_loads_total", "counter", "Loads from the source.", |stats| stats.loads),
    ("gatepost_cache_load_errors_total", "counter", "Loads that failed.", |stats| stats.load_errors),
    (
        "gatepost_cache_voided_total",
        "counter",
        "Entries found, and loads come back, void after an invalidation.",
        |stats| stats.voided,
    ),
    ("gatepost_cache_expired_total", "counter", "Entries found past their life.", |stats| stats.expired),
    ("gatepost_cache_evictions_total", "counter", "Entries that made room for others.", |stats| {
        stats.evictions
    }),
    ("gatepost_cache_entries", "gauge", "Entries.", |stats| stats.entries),
    ("gatepost_cache_bytes", "gauge", "Bytes of the entries, estimated.", |stats| stats.bytes),
    ("gatepost_cache_loads_under_way", "gauge", "Loads that are under way.", |stats| stats.under_way),
    (
        "gatepost_cache_stale_total",
        "counter",
        "Answers past their life that stood in for a source that had failed.",
        |stats| stats.stale,
    ),
    (
        "gatepost_cache_backed_off_total",
        "counter",
        "Questions not put to a source that is left alone since it has failed.",
        |stats| stats.backed_off,
    ),
    (
        "gatepost_cache_overloaded_total",
        "counter",
        "Questions refused since too many waited for the source.",
        |stats| stats.overloaded,
    ),
    ("gatepost_cache_refreshes_total", "counter", "Loads of what is in use before it ends.", |stats| {
        stats.refreshes
    }),
    ("gatepost_cache_load_timeouts_total", "counter", "Loads that took too long.", |stats| stats.timeouts),
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

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], ages: &AgeHistogram) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (le, count) in ages.buckets() {
            below += count;
            let le = le.map_or_else(|| "+Inf".to_owned(), |le| le.as_secs_f64().to_string());
            let labels: Vec<_> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            self.sample(&bucket, &labels, below);
        }
        self.seconds(&format!("{name}_sum"), labels, ages.sum());
        self.sample(&format!("{name}_count"), labels, below);
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
