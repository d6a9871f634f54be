//! Every login in the log, by class and never with a secret, and counted for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use auth_core::{Audit, LoginEvent, Verdict};

/// How many logins ended so, by how they ended.
type Outcomes = BTreeMap<&'static str, AtomicU64>;

/// Writes each login as an event of the target `gatepost::audit` and counts it. `cache` says `stale` where an
/// answer past its life stood in for a source that had failed.
///
/// A password that was taken for right from memory is written at the level `debug`, all else at `info` or
/// `error`: front ends send it with each request, and the login that it repeats was written.
#[derive(Debug, Default)]
pub struct LogAudit {
    // By realm. Written only when a realm has an outcome for the first time.
    counts: RwLock<BTreeMap<Box<str>, Outcomes>>,
}

impl LogAudit {
    /// Returns how many logins ended how: by realm, and `accepted`, the reason of the rejection, or the kind
    /// of the error.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, &'static str, u64)> {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        for (realm, outcomes) in counts.iter() {
            for (outcome, count) in outcomes {
                told.push((realm.to_string(), *outcome, count.load(Ordering::Relaxed)));
            }
        }
        told
    }

    fn count(&self, realm: &str, outcome: &'static str) {
        {
            let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get(realm).and_then(|outcomes| outcomes.get(outcome)) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.entry(realm.into()).or_default().entry(outcome).or_default().fetch_add(1, Ordering::Relaxed);
    }
}

impl Audit for LogAudit {
    fn login(&self, event: &LoginEvent<'_>) {
        let outcome = match event.outcome {
            Ok(Verdict::Accepted(_)) => "accepted",
            Ok(Verdict::Rejected(reason)) => reason.as_str(),
            Err(error) => error.kind().as_str(),
        };
        let realm = event.realm.name();
        self.count(realm, outcome);
        let micros = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        match event.outcome {
            Ok(Verdict::Accepted(who)) if event.remembered => tracing::debug!(
                target: "gatepost::audit", realm, login = event.login, outcome,
                source = &**who.source(), remembered = true, cache = event.cache.as_str(), micros,
            ),
            Ok(Verdict::Accepted(who)) => tracing::info!(
                target: "gatepost::audit", realm, login = event.login, outcome,
                source = &**who.source(), remembered = false, cache = event.cache.as_str(), micros,
            ),
            Ok(Verdict::Rejected(_)) => {
                tracing::info!(target: "gatepost::audit", realm, login = event.login, outcome, micros);
            }
            Err(error) => tracing::error!(
                target: "gatepost::audit", realm, login = event.login, outcome, micros, error = %error,
            ),
        }
    }
}
