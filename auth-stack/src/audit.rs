//! Every login in the log, by class and never with a secret, and counted for the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use auth_core::{Audit, LoginEvent, Verdict};

/// Writes each login as an event of the target `gatepost::audit` and counts it. `cache` says `stale` where an
/// answer past its life stood in for a source that had failed.
#[derive(Debug, Default)]
pub struct LogAudit {
    counts: Mutex<BTreeMap<(String, &'static str), u64>>,
}

impl LogAudit {
    /// Returns how many logins ended how: by realm, and `accepted`, the reason of the rejection, or the kind
    /// of the error.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, &'static str, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((realm, outcome), count)| (realm.clone(), *outcome, *count)).collect()
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
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry((realm.to_owned(), outcome)).or_default() += 1;
        }
        let micros = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        match event.outcome {
            Ok(Verdict::Accepted(who)) => tracing::info!(
                target: "gatepost::audit", realm, login = event.login, outcome,
                source = &**who.source(), remembered = event.remembered,
                cache = event.cache.as_str(), micros,
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
