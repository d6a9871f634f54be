//! Every login and every change of a session in the log, by class and never with a secret, and counted for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use auth_core::{Audit, LoginEvent, SessionChange, SessionEvent, Verdict};

/// How often, by what has happened.
type Outcomes = BTreeMap<&'static str, AtomicU64>;

/// Counts of what has happened, by realm. Written only when something happens in a realm for the first time.
#[derive(Debug, Default)]
struct Counts(RwLock<BTreeMap<Box<str>, Outcomes>>);

impl Counts {
    fn all(&self) -> Vec<(String, &'static str, u64)> {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
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
            let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get(realm).and_then(|outcomes| outcomes.get(outcome)) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        counts.entry(realm.into()).or_default().entry(outcome).or_default().fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes each login as an event of the target `gatepost::audit` and counts it. `cache` says `stale` where an
/// answer past its life stood in for a source that had failed.
///
/// A password that was taken for right from memory is written at the level `debug`, all else at `info` or
/// `error`: front ends send it with each request, and the login that it repeats was written. So is a renewal, which
/// happens every few minutes; what may be theft is a warning.
#[derive(Debug, Default)]
pub struct LogAudit {
    logins: Counts,
    sessions: Counts,
}

impl LogAudit {
    /// Returns how many logins ended how: by realm, and `accepted`, the reason of the rejection, or the kind
    /// of the error.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, &'static str, u64)> {
        self.logins.all()
    }

    /// Returns what has happened to sessions how often, by realm and by the name of the change.
    #[must_use]
    pub fn session_counts(&self) -> Vec<(String, &'static str, u64)> {
        self.sessions.all()
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
        self.logins.count(realm, outcome);
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

    fn session(&self, event: &SessionEvent<'_>) {
        let SessionEvent { realm, login, change, client, .. } = *event;
        let what = change.as_str();
        self.sessions.count(realm, what);
        let reason = if let SessionChange::Ended(reason) = change { Some(reason.as_str()) } else { None };
        let family = event.family.map(tracing::field::display);
        let address = event.address.map(tracing::field::display);
        let age_ms = event.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        match change {
            SessionChange::Renewed => tracing::debug!(
                target: "gatepost::audit", realm, login, session = what, family, client, address, age_ms,
            ),
            SessionChange::ReuseDetected | SessionChange::Forged | SessionChange::ClientMismatch => {
                tracing::warn!(
                    target: "gatepost::audit", realm, login, session = what, family, client, address, age_ms,
                )
            }
            _ => tracing::info!(
                target: "gatepost::audit", realm, login, session = what, reason, family, client, address, age_ms,
            ),
        }
    }
}
