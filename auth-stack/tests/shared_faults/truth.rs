//! What is true at each moment, and the oracle that knows which answers are right.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, AccountState, Ctx, GroupOracle, GroupSet, Id, Login, Lookup, ObjectPerms,
    ObjectRef, Principal, Result, SourceInfo, StoredHash,
};
use auth_testkit::servers::stopwatch;
use auth_testkit::{info, login, principal_at};

/// How long answers live, by configuration.
pub(crate) const LIFE: Duration = Duration::from_secs(5);

/// How long the source takes for an answer.
pub(crate) const SOURCE_TAKES: Duration = Duration::from_millis(3);

/// How soon a process that hears must know what another has voided: the bar for its 99th percentile is 50 ms, and
/// this holds for each, on two cores that build something else meanwhile.
const HEARD: Duration = Duration::from_millis(300);

/// How soon a process must know that it does not hear.
const NOTICED: Duration = Duration::from_secs(2);

/// How late a process may be found to look, on a busy machine.
const SLACK: Duration = Duration::from_millis(100);

/// How long a shared cache may be left alone after it is back.
const LEFT_ALONE: Duration = Duration::from_secs(3);

/// How old what is answered from the source may be: whoever joins a load is told what was read before.
const LOAD: Duration = Duration::from_millis(150);

/// What is right of somebody depends on how often it was changed, and all of it is voided at once.
#[derive(Debug, Clone, Copy)]
struct Version {
    began: Instant,
    committed: Instant,
    /// When the process that has changed it had voided it.
    voided: Option<Instant>,
    /// When it was reported that this is known everywhere.
    everywhere: Option<Instant>,
}

#[derive(Debug)]
struct Person {
    principal: Principal,
    versions: Mutex<Vec<Version>>,
}

impl Person {
    fn versions(&self) -> MutexGuard<'_, Vec<Version>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Groups(usize),
    Enabled(bool),
    Allowed(bool),
}

impl Told {
    fn is_of(self, version: usize) -> bool {
        match self {
            Self::Groups(told) => told == version,
            Self::Enabled(told) => told == enabled(version),
            Self::Allowed(told) => told == allowed(version),
        }
    }
}

fn enabled(version: usize) -> bool {
    version & 2 == 0
}

fn allowed(version: usize) -> bool {
    version & 1 == 0
}

/// Who was asked: the processes differ in what they promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The process that makes all changes.
    Changer,
    /// The other one.
    Other,
}

/// A time in which the links of a process to the shared cache and the bus fail.
#[derive(Debug, Clone, Copy)]
struct Fault {
    asked: Asked,
    from: Instant,
    to: Option<Instant>,
    /// Whether nothing at all comes through.
    total: bool,
}

/// The truth about many people.
#[derive(Debug)]
pub(crate) struct Truth {
    people: Vec<Person>,
    /// Whether processes keep answers themselves.
    local: bool,
    hash: OnceLock<StoredHash>,
    faults: Mutex<Vec<Fault>>,
    pub(crate) wrong: AtomicUsize,
    examples: Mutex<Vec<String>>,
}

impl Truth {
    pub(crate) fn new(people: usize, local: bool) -> Arc<Self> {
        let now = stopwatch();
        let first = Version { began: now, committed: now, voided: None, everywhere: None };
        let person = |n: usize| Person {
            principal: principal_at("app", &format!("p{n}"), Id::from(i64::try_from(n).unwrap())),
            versions: Mutex::new(vec![first]),
        };
        Arc::new(Self {
            people: (0..people).map(person).collect(),
            local,
            hash: OnceLock::new(),
            faults: Mutex::default(),
            wrong: AtomicUsize::new(0),
            examples: Mutex::default(),
        })
    }

    pub(crate) fn set_hash(&self, hash: StoredHash) {
        self.hash.set(hash).unwrap();
    }

    pub(crate) fn people(&self) -> usize {
        self.people.len()
    }

    pub(crate) fn principal(&self, who: usize) -> &Principal {
        &self.people[who].principal
    }

    /// Changes somebody; returns the new version.
    pub(crate) fn change(&self, who: usize) -> usize {
        let mut versions = self.people[who].versions();
        let began = stopwatch();
        versions.push(Version { began, committed: began, voided: None, everywhere: None });
        let version = versions.len() - 1;
        versions[version].committed = stopwatch();
        version
    }

    pub(crate) fn voided(&self, who: usize, version: usize) {
        self.people[who].versions()[version].voided = Some(stopwatch());
    }

    pub(crate) fn is_everywhere(&self, who: usize, version: usize) {
        self.people[who].versions()[version].everywhere = Some(stopwatch());
    }

    fn version(&self, who: usize) -> usize {
        self.people[who].versions().len() - 1
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the links of a process fail; `total` if nothing comes through.
    pub(crate) fn fails(&self, asked: Asked, total: bool) {
        self.faults().push(Fault { asked, from: stopwatch(), to: None, total });
    }

    /// From now on no link fails.
    pub(crate) fn heals(&self) {
        let now = stopwatch();
        self.faults().iter_mut().for_each(|fault| fault.to = fault.to.or(Some(now)));
    }

    /// Looks whether this may be told to who has asked at `asked`, and was told now.
    ///
    /// Who can't look at the shared cache may join a load of its own that was under way when something was voided
    /// elsewhere: `looks` tells whether it can.
    pub(crate) fn judge(
        &self,
        process: Asked,
        who: usize,
        told: Told,
        asked: Instant,
        looks: impl FnOnce() -> bool,
    ) -> bool {
        let now = stopwatch();
        let right = self.is_right(process, who, told, asked, now, Duration::ZERO)
            || (process == Asked::Other
                && (self.is_left_alone(asked) || !looks())
                && self.is_right(process, who, told, asked, now, LOAD));
        if !right && self.wrong.fetch_add(1, Ordering::SeqCst) < 8 {
            let versions = self.people[who].versions().clone();
            let ago = |then: Instant| asked.saturating_duration_since(then);
            let last: Vec<_> = versions
                .iter()
                .enumerate()
                .rev()
                .take(3)
                .map(|(version, of)| (version, ago(of.committed), of.voided.map(ago), of.everywhere.map(ago)))
                .collect();
            let faults: Vec<_> =
                self.faults().iter().map(|of| (of.asked, ago(of.from), of.to.map(ago))).collect();
            let example = format!(
                "{process:?} told {told:?} of {who} in {:?}; version, committed, voided, everywhere before it was \
                 asked: {last:?}; faults: {faults:?}",
                now.duration_since(asked)
            );
            self.examples.lock().unwrap().push(example);
        }
        right
    }

    /// Reports whether a link fails, or has failed a moment ago, so that it may not be used yet.
    fn is_left_alone(&self, asked: Instant) -> bool {
        self.faults().iter().any(|fault| fault.to.is_none_or(|to| asked <= to + LEFT_ALONE))
    }

    fn is_right(
        &self,
        process: Asked,
        who: usize,
        told: Told,
        asked: Instant,
        now: Instant,
        joined: Duration,
    ) -> bool {
        let versions = self.people[who].versions();
        (0..versions.len()).rev().any(|version| {
            if !told.is_of(version) || versions[version].began > now {
                return false;
            }
            let Some(next) = versions.get(version + 1) else { return true };
            let ended = next.committed;
            let later = &versions[version + 1..];
            let fences = later.iter().filter_map(|of| Some(self.deadline(process, of)? + joined));
            let until = fences.chain([ended + LIFE + SLACK]).min().unwrap();
            let until = until.min(self.blind(process, ended, asked, now).unwrap_or(until));
            // What was true when it was asked is right in any case.
            asked <= until.max(ended)
        })
    }

    /// When a process must not tell any more what came before this.
    fn deadline(&self, process: Asked, version: &Version) -> Option<Instant> {
        match process {
            Asked::Changer => version.voided,
            // The shared cache is asked each time, or nothing of it is told.
            Asked::Other if !self.local => version.everywhere,
            Asked::Other => {
                let told = version.everywhere?;
                let near = |fault: &Fault| {
                    fault.asked == process
                        && fault.from <= told + HEARD
                        && fault.to.is_none_or(|to| told <= to + HEARD)
                };
                Some(told + if self.faults().iter().any(near) { NOTICED + SLACK } else { HEARD })
            }
        }
    }

    /// Where nothing of the shared cache and the bus reaches a process for long enough, it asks the source.
    fn blind(&self, process: Asked, ended: Instant, asked: Instant, now: Instant) -> Option<Instant> {
        let noticed = if self.local { NOTICED } else { Duration::ZERO } + SLACK;
        let blind = |fault: &Fault| {
            let since = fault.from + noticed;
            (fault.total && fault.asked == process && asked >= since && fault.to.is_none_or(|to| now <= to))
                .then(|| (ended + LOAD).max(since))
        };
        self.faults().iter().find_map(blind)
    }

    pub(crate) fn examples(&self) -> String {
        self.examples.lock().unwrap().join("\n")
    }
}

/// One process's way to the truth: slow, and it counts how many ask at once.
#[derive(Debug)]
pub(crate) struct Front {
    info: SourceInfo,
    truth: Arc<Truth>,
    asked: AtomicU64,
    at_once: AtomicUsize,
    most: AtomicUsize,
    pub(crate) slow: AtomicBool,
}

impl Front {
    pub(crate) fn new(truth: &Arc<Truth>) -> Arc<Self> {
        Arc::new(Self {
            info: info("app"),
            truth: Arc::clone(truth),
            asked: AtomicU64::new(0),
            at_once: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            slow: AtomicBool::new(true),
        })
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many have asked at once at most.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    async fn ask(&self, login: &Login) -> (usize, usize) {
        struct Inside<'a>(&'a AtomicUsize);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let who = login.as_str()[1..].parse().unwrap();
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _inside = Inside(&self.at_once);
        let early = self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let before = self.truth.version(who);
        if self.slow.load(Ordering::Relaxed) {
            tokio::time::sleep(SOURCE_TAKES).await;
        }
        (who, if early { before } else { self.truth.version(who) })
    }
}

#[async_trait]
impl AccountSource for Front {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let (who, version) = self.ask(login).await;
        let state = AccountState { disabled: !enabled(version), ..AccountState::default() };
        let id = self.truth.principal(who).id().clone();
        Ok(Account::found(&self.info, login, login.as_str(), id, state, self.truth.hash.get().cloned()))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl GroupOracle for Front {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let (_, version) = self.ask(who.login()).await;
        Ok(Lookup::Found([version.to_string().as_str()].into_iter().collect()))
    }
}

#[async_trait]
impl ObjectPerms for Front {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(&self, _: &Ctx, who: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        let (_, version) = self.ask(who.login()).await;
        Ok(if allowed(version) { Access::Allow } else { Access::Deny })
    }
}

/// The login of somebody.
pub(crate) fn login_of(who: usize) -> Login {
    login(&format!("p{who}"))
}
