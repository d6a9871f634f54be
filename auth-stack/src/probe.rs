//! Sources as operators see them, and the probe that keeps that picture true while nobody asks anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_cache::Gate;
use auth_core::{
    Clock, Ctx, Error, ErrorKind, Families, FamilyId, Fingerprint, Health, HealthReport, Id, Login,
    LoginRule, Moment, ObjectRef, Principal, RealmId, Result, SourceInfo,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, Shared, join, join_all, select};

use crate::source::{Passwords, Provides};

/// How old the last look may be, and how long is waited for the next.
const RECENT: Duration = Duration::from_secs(1);

/// How long a store of sessions may take to answer.
const SESSIONS_LIMIT: Duration = Duration::from_secs(5);

/// A source as the stack holds it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) kind: String,
    pub(crate) fingerprint: Fingerprint,
    /// What stood in the files of certificates and keys that it names.
    pub(crate) files: [u8; 32],
    pub(crate) provides: Provides,
    pub(crate) health: Arc<Health>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) used: bool,
    pub(crate) limit: Duration,
    /// Whether it was left alone when it was last looked at.
    pub(crate) was_left_alone: AtomicBool,
}

impl Source {
    /// Says so in the log where a source begins to be left alone or is asked again, as often as somebody looks.
    fn left_alone(&self, name: &str, now: Moment) -> Option<Duration> {
        let left_alone = self.gate.left_alone(now);
        let was = self.was_left_alone.swap(left_alone.is_some(), Ordering::Relaxed);
        match (was, left_alone.is_some()) {
            (false, true) => {
                tracing::warn!(source = name, "the caches leave this source alone, since it fails")
            }
            (true, false) => tracing::info!(source = name, "the caches ask this source again"),
            _ => {}
        }
        left_alone
    }
}

/// A source as operators see it.
#[derive(Debug, Clone)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What it has answered so far.
    pub health: HealthReport,
    /// What is wrong with it although it answers.
    pub fault: Option<Error>,
    /// Whether a realm uses it.
    pub used: bool,
    /// How much longer its caches leave it alone, since it has failed; zero while one question tries it.
    pub left_alone: Option<Duration>,
}

impl SourceReport {
    /// Reports whether the source is fit: it answered last time, and nothing is wrong with it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.fault.is_none() && self.health.up != Some(false)
    }
}

/// The sources of a stack, and the look at them that is under way.
pub(crate) struct Prober {
    sources: Arc<BTreeMap<String, Source>>,
    sessions: Option<Sessions>,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

/// A store of sessions, and what it last answered: nothing yet, or that it answers, or why not.
#[derive(Clone)]
struct Sessions {
    families: Arc<dyn Families>,
    answer: Arc<Mutex<Option<Result<()>>>>,
}

impl Sessions {
    fn answer(&self) -> MutexGuard<'_, Option<Result<()>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what it has answered, and says so in the log where that is another answer than before.
    fn answered(&self, now: Result<()>) {
        let mut last = self.answer();
        match (&*last, &now) {
            // Too busy for a probe, and it answers others.
            (Some(Ok(())), Err(error)) if error.kind() == ErrorKind::Overloaded => return,
            (Some(Err(before)), Err(error)) if before.kind() == error.kind() => {}
            (_, Err(error)) => tracing::error!(%error, "the store of sessions does not answer"),
            (Some(Err(_)), Ok(())) => tracing::info!("the store of sessions answers again"),
            (None | Some(Ok(())), Ok(())) => {}
        }
        *last = Some(now);
    }
}

#[derive(Default)]
struct Last {
    began: Option<Moment>,
    running: Option<Shared<BoxFuture<'static, ()>>>,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Prober {
    pub(crate) fn new(
        sources: BTreeMap<String, Source>,
        families: Option<Arc<dyn Families>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sessions = families.map(|families| Sessions { families, answer: Arc::default() });
        Self { sources: Arc::new(sources), sessions, clock, last: Mutex::default() }
    }

    /// Returns what the store of sessions last answered; nothing without one.
    pub(crate) fn sessions(&self) -> Option<Result<()>> {
        let not_yet = || Err(Error::new(ErrorKind::Unavailable, "it has not answered yet"));
        Some(self.sessions.as_ref()?.answer().clone().unwrap_or_else(not_yet))
    }

    pub(crate) fn source(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }

    pub(crate) fn reports(&self) -> Vec<SourceReport> {
        let now = self.clock.now();
        self.sources
            .iter()
            .map(|(name, source)| SourceReport {
                name: name.clone(),
                kind: source.kind.clone(),
                health: source.health.report(),
                fault: source.provides.fault.as_ref().and_then(|fault| fault()),
                used: source.used,
                left_alone: source.left_alone(name, now),
            })
            .collect()
    }

    /// Asks every source, and reports with what came of it.
    pub(crate) async fn probe(&self) -> Vec<SourceReport> {
        let (faults, ()) =
            join(probe(&self.sources, &*self.clock), probe_sessions(self.sessions.as_ref(), &*self.clock))
                .await;
        let reports = self.reports().into_iter().zip(faults);
        reports.map(|(report, fault)| SourceReport { fault: report.fault.or(fault), ..report }).collect()
    }

    /// Has every source asked unless that was begun less than a second ago, and reports. Whoever comes
    /// meanwhile waits for the same look, and nobody for more than a second: what takes longer, within the
    /// limit of its source, is in the next report.
    pub(crate) async fn look(&self) -> Vec<SourceReport> {
        let now = self.clock.now();
        let running = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let under_way = last.running.clone().filter(|running| running.peek().is_none());
            if under_way.is_some() || last.began.is_some_and(|began| now.since(began) < RECENT) {
                under_way
            } else {
                let (sources, clock) = (Arc::clone(&self.sources), Arc::clone(&self.clock));
                let sessions = self.sessions.clone();
                // Detached: who stops waiting does not stop the look.
                let look = tokio::spawn(async move {
                    join(probe(&sources, &*clock), probe_sessions(sessions.as_ref(), &*clock)).await;
                });
                let running = look.map(drop).boxed().shared();
                *last = Last { began: Some(now), running: Some(running.clone()) };
                Some(running)
            }
        };
        if let Some(running) = running {
            let _ = select(running, self.clock.sleep_until(now + RECENT)).await;
        }
        self.reports()
    }
}

/// Asks every source, at the same time, and notes what came of it.
async fn probe(sources: &BTreeMap<String, Source>, clock: &dyn Clock) -> Vec<Option<Error>> {
    let asked = sources.iter().map(|(name, source)| async move {
        let until = clock.now() + source.limit;
        let question = std::pin::pin!(ask(name, source, until));
        let answer = match select(question, clock.sleep_until(until)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        };
        let fault = answer.err().map(|error| error.at(name.as_str()));
        source.health.probed(fault.as_ref(), clock);
        fault
    });
    join_all(asked).await
}

/// Asks a store of sessions about one that nobody has, and notes what came of it.
async fn probe_sessions(sessions: Option<&Sessions>, clock: &dyn Clock) {
    let Some(sessions) = sessions else { return };
    let until = clock.now() + SESSIONS_LIMIT;
    let ctx = Ctx::new().with_deadline(until);
    let question = sessions.families.family(&ctx, "gatepost-probe", FamilyId::new([0; 16]));
    let answer = match select(question, clock.sleep_until(until)).await {
        Either::Left((answer, _)) => answer.map(drop),
        Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
    };
    sessions.answered(answer);
}

/// Asks a source about somebody whom nobody knows.
async fn ask(name: &str, source: &Source, deadline: Moment) -> Result<()> {
    /// Nobody is called so; if somebody is, the answer is an answer.
    const NOBODY: &str = "gatepost-probe";
    let Provides { passwords, groups, objects, domains, look, .. } = &source.provides;
    if let Some(look) = look {
        look.look().await?;
    }
    let login = Login::parse(&RealmId::new("probe", LoginRule::Exact)?, NOBODY)?;
    let ctx = Ctx::new().with_deadline(deadline);
    // "Any right", or any list, is a question that a source need not answer.
    let or_unsupported = |answer: Result<()>| match answer {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        answer => answer,
    };
    match passwords {
        Some(Passwords::Shows(store)) => store.account(&ctx, &login).await.map(drop)?,
        Some(Passwords::Decides(store) | Passwords::DecidesOnce(store)) => {
            or_unsupported(store.account(&ctx, &login).await.map(drop))?
        }
        None => {}
    }
    let info = SourceInfo::new(name, Fingerprint::default());
    let Some(nobody) = Principal::found(&info, &login, NOBODY, Id::from(NOBODY)) else { return Ok(()) };
    if let Some(groups) = groups {
        or_unsupported(groups.groups_of(&ctx, &nobody).await.map(drop))?;
    }
    if let Some(objects) = objects {
        for domain in domains.iter().filter(|domain| *domain != "*") {
            let object = ObjectRef::new(domain, [Id::from(NOBODY)])?;
            or_unsupported(objects.access(&ctx, &nobody, &object, None).await.map(drop))?;
        }
    }
    Ok(())
}
