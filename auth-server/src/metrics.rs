//! The Prometheus text of a stack. Labels are names from configuration, never users.

use std::fmt::Write as _;

use auth_cache::{AgeHistogram, Bound, CarrierStats, HearingStats, SharedStats};
use auth_password::GuardStats;
use auth_password::HashedStats;
use auth_stack::{SourceReport, Stack};

use crate::figures::{self, Cache, Figure, Lanes};

/// Renders every metric in the Prometheus text format, version 0.0.4.
pub(crate) fn render(stack: &Stack, sources: &[SourceReport]) -> String {
    let mut page = Page::default();
    page.family("gatepost_logins_total", "counter", "Logins by how they ended.");
    for (realm, outcome, count) in stack.logins() {
        page.sample("gatepost_logins_total", &[("realm", &realm), ("outcome", outcome)], count);
    }
    let sessions = stack.sessions();
    if !sessions.is_empty() {
        page.family("gatepost_sessions_total", "counter", "What has happened to sessions.");
        for (realm, change, count) in sessions {
            page.sample("gatepost_sessions_total", &[("realm", &realm), ("change", change)], count);
        }
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
    if let Some(answer) = stack.sessions_answer() {
        let up = u64::from(answer.is_ok());
        page.single("gatepost_sessions_store_up", "gauge", "Whether the store of sessions answers.", up);
    }
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
    let feeds: Vec<_> =
        sources.iter().filter_map(|source| Some((source, stack.feed(&source.name)?))).collect();
    if !feeds.is_empty() {
        page.family("gatepost_source_feed_up", "gauge", "Whether changes in a source are heard.");
        for (source, feed) in &feeds {
            page.sample("gatepost_source_feed_up", &[("source", &source.name)], u64::from(feed.hears));
        }
        page.family("gatepost_source_changes_total", "counter", "Changes that a source has told of.");
        for (source, feed) in &feeds {
            page.sample("gatepost_source_changes_total", &[("source", &source.name)], feed.changes);
        }
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
    if let Some(guard) = stack.guard() {
        page.guard(&guard);
    }
    let memos = stack.memos();
    let memos: Vec<_> =
        memos.iter().map(|memo| ([("realm", &*memo.realm), ("source", &*memo.source)], memo.stats)).collect();
    page.memos(&memos);
    let reports = stack.caches();
    let caches: Vec<_> = reports
        .iter()
        .map(|(realm, report)| {
            let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
            (labels, Cache::of(stack, report))
        })
        .collect();
    page.caches(&caches);
    if let Some(shared) = stack.shared() {
        let caches: Vec<_> = reports
            .iter()
            .filter_map(|(realm, report)| {
                let labels = [("realm", &**realm), ("source", &*report.source), ("cache", report.kind)];
                Some((labels, report.shared?))
            })
            .collect();
        let lanes = shared.cache.map(|kind| (kind, Lanes::of(&shared.lanes)));
        page.shared(&caches, lanes, shared.bus.zip(shared.hearing), shared.carried);
    }
    page.0
}

/// Writes how often the configuration was read anew: with what came of it.
pub(crate) fn reloads((done, failed): (u64, u64)) -> String {
    let mut page = Page::default();
    page.family("gatepost_reloads_total", "counter", "Times the configuration was read anew.");
    for (outcome, count) in [("done", done), ("failed", failed)] {
        page.sample("gatepost_reloads_total", &[("outcome", outcome)], count);
    }
    page.0
}

#[derive(Default)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    fn guard(&mut self, guard: &GuardStats) {
        self.family(
            "gatepost_guard_attempts_total",
            "counter",
            "Attempts that the guard has counted or held up.",
        );
        let counts = [
            ("wrong", guard.wrong),
            ("delayed", guard.delayed),
            ("refused", guard.refused),
            ("counted_here_alone", guard.alone),
        ];
        for (what, count) in counts {
            self.sample("gatepost_guard_attempts_total", &[("what", what)], count);
        }
        self.single(
            "gatepost_guard_entries",
            "gauge",
            "Logins and networks that are counted.",
            guard.entries,
        );
    }

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

    /// Writes the figures of these, each family once.
    fn figures<T, const N: usize>(&mut self, figures: &[Figure<T>], of: &[([(&str, &str); N], T)]) {
        for figure in figures {
            self.family(figure.name, figure.kind(), figure.help);
            for (labels, one) in of {
                self.sample(figure.name, labels, figure.sample(one));
            }
        }
    }

    pub(crate) fn memos(&mut self, memos: &[([(&str, &str); 2], HashedStats)]) {
        self.figures(figures::MEMO, memos);
        self.figures(figures::HASHED, memos);
    }

    pub(crate) fn caches(&mut self, caches: &[([(&str, &str); 3], Cache)]) {
        self.figures(figures::CACHE, caches);
        let name = "gatepost_cache_bound_entries";
        self.family(name, "gauge", "The most entries, the eighth for nobody and nothing included.");
        for (labels, cache) in caches {
            if let Some(Bound::Entries(most)) = cache.stats.bound {
                self.sample(name, labels, most);
            }
        }
        let name = "gatepost_cache_bound_bytes";
        self.family(name, "gauge", "The most bytes, the eighth for nobody and nothing included.");
        for (labels, cache) in caches {
            if let Some(Bound::Bytes(most)) = cache.stats.bound {
                self.sample(name, labels, most);
            }
        }
        let name = "gatepost_cache_age_at_hit_seconds";
        self.family(
            name,
            "histogram",
            "How old the answers of hits were; the sum is estimated from the buckets.",
        );
        for (labels, cache) in caches {
            self.histogram(name, labels, &cache.stats.ages);
        }
    }

    /// Writes what is shared with other processes.
    pub(crate) fn shared(
        &mut self,
        caches: &[([(&str, &str); 3], SharedStats)],
        lanes: Option<(&str, Lanes)>,
        bus: Option<(&str, HearingStats)>,
        carried: CarrierStats,
    ) {
        if let Some((kind, lanes)) = lanes {
            self.figures(figures::SHARED, caches);
            self.figures(figures::LANES, &[([("kind", kind)], lanes)]);
        }
        if let Some((kind, hearing)) = bus {
            self.figures(figures::HEARING, &[([("kind", kind)], hearing)]);
        }
        self.figures(figures::CARRIED, &[([], carried)]);
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
