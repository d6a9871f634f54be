//! The one bounded pool of a stack.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Clock, Ctx, Error, ErrorKind, HashCheck, Login, Password, Principal, Result, Step, StoredHash,
};
use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use crate::codes::UsedCodes;
use crate::hash::totp::STEP_SECONDS;
use crate::hash::{Outcome, Ready, Salts, Workspace, ready};
use crate::policy::Policy;
use crate::pool::{Full, Pool};
use crate::verify::{can_make, make_dummy, make_in, named_scheme};

/// How large the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "settings are filled in over the default")]
pub struct HasherConfig {
    /// How many threads hash.
    pub threads: usize,
    /// How many jobs may wait. One more is refused.
    pub queue: usize,
}

impl Default for HasherConfig {
    /// A thread for each core, and a queue that such a pool empties in about two seconds.
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { threads, queue: threads.saturating_mul(64) }
    }
}

/// What the pool has done. Counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HasherStats {
    /// Jobs that were worked on, pads included.
    pub jobs: u64,
    /// Jobs that no account asked for.
    pub pads: u64,
    /// Jobs on a cheap hash that also did the work of a preferred one. Part of those jobs, not jobs of their
    /// own.
    pub dummies: u64,
    /// Jobs that were refused since the queue was full.
    pub refused: u64,
    /// Jobs that were dropped unworked, since nobody waited any longer.
    pub skipped: u64,
    /// Jobs that wait now.
    pub queued: usize,
    /// Threads.
    pub threads: usize,
}

#[derive(Default)]
struct Counts {
    jobs: AtomicU64,
    pads: AtomicU64,
    dummies: AtomicU64,
    refused: AtomicU64,
    skipped: AtomicU64,
}

/// Verifies and makes hashes on threads of its own, as many at a time as there are threads.
///
/// One per stack: memory and processors are bounded by it. A full queue is
/// [`Overloaded`](ErrorKind::Overloaded) at once; nobody waits longer than their deadline, and a job
/// whose caller has left is dropped unworked. The threads end when the last handle is dropped.
pub struct Hasher {
    pool: Pool,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    // Read like any hash; no password fits it.
    dummy: Arc<Ready>,
    counts: Arc<Counts>,
    pub(crate) codes: Arc<UsedCodes>,
}

impl Hasher {
    /// Starts the threads.
    ///
    /// # Errors
    /// - [`Misconfigured`](ErrorKind::Misconfigured) if the policy is not possible, or there is no thread
    ///   or no queue.
    /// - [`Unavailable`](ErrorKind::Unavailable) if the system gives no threads or no random numbers.
    pub fn new(config: HasherConfig, policy: Policy, clock: Arc<dyn Clock>) -> Result<Self> {
        policy.check()?;
        if config.threads == 0 || config.queue == 0 {
            return Err(Error::new(ErrorKind::Misconfigured, "hashing needs a thread and a queue"));
        }
        let dummy = Arc::new(ready(&policy, make_dummy(&policy.preferred)?.as_str(), None)?);
        Ok(Self {
            pool: Pool::start(config.threads, config.queue)?,
            policy: Arc::new(policy),
            clock,
            dummy,
            counts: Arc::default(),
            codes: Arc::default(),
        })
    }

    /// Knows the one-time codes that were used with another hasher, and tells it of those that are used with this: for one
    /// that takes another's place.
    #[must_use]
    pub fn with_codes_of(mut self, other: &Self) -> Self {
        self.codes = Arc::clone(&other.codes);
        self
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns what the pool has done.
    #[must_use]
    pub fn stats(&self) -> HasherStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HasherStats {
            jobs: read(&self.counts.jobs),
            pads: read(&self.counts.pads),
            dummies: read(&self.counts.dummies),
            refused: read(&self.counts.refused),
            skipped: read(&self.counts.skipped),
            queued: self.pool.queued(),
            threads: self.pool.threads(),
        }
    }

    /// Verifies a password against a stored hash, and notes the job in `ctx`.
    ///
    /// A hash that costs less than half of a preferred one is worked on together with a preferred one, in the
    /// same job, whether the password is right or not: a pad costs the same, and what is rejected later costs
    /// the same too.
    ///
    /// Does not remember one-time codes: [`Hashed`](crate::Hashed) does.
    ///
    /// # Errors
    /// As [`verify`](crate::verify()), and:
    /// - [`Misconfigured`](ErrorKind::Misconfigured) if the scheme beside the hash is not known.
    /// - [`Overloaded`](ErrorKind::Overloaded) if the queue is full.
    /// - [`Timeout`](ErrorKind::Timeout) if the deadline of `ctx` passes.
    /// - [`Internal`](ErrorKind::Internal) if the job panicked.
    pub async fn verify(
        &self,
        ctx: &Ctx,
        login: &Login,
        hash: &StoredHash,
        password: &Password,
    ) -> Result<Outcome> {
        self.verify_as(ctx, login.as_str(), login, hash, password).await
    }

    /// Verifies as [`verify`](Self::verify), with the login as the store spells it.
    pub(crate) async fn verify_as(
        &self,
        ctx: &Ctx,
        shown: &str,
        login: &Login,
        hash: &StoredHash,
        password: &Password,
    ) -> Result<Outcome> {
        // Reading takes microseconds, so an unreadable or monstrous hash never gets into the queue.
        let ready = ready(&self.policy, hash.as_str(), named_scheme(hash)?)?;
        let scheme = ready.scheme();
        let (policy, dummy, password) = (Arc::clone(&self.policy), Arc::clone(&self.dummy), password.clone());
        let (shown, realm, unix_time) = (shown.to_owned(), login.realm().clone(), self.unix_time());
        let counts = Arc::clone(&self.counts);
        let job = move |work: &mut Workspace| {
            let salts = Salts { login: &shown, realm: realm.name(), unix_time };
            let outcome = ready.verify(&policy, password.as_bytes(), &salts, work)?;
            // An unknown login costs a pad; no rejection must be told from it by a stopwatch. Also after a right
            // password: the account may be locked, the code used.
            if ready.is_cheap_beside(&dummy) {
                counts.dummies.fetch_add(1, Ordering::Relaxed);
                dummy.verify(&policy, password.as_bytes(), &salts, work)?;
            }
            Ok(outcome)
        };
        let (outcome, took) = self.run(ctx, Attempt::Counted, job).await?;
        ctx.note(|| {
            let said = if matches!(outcome, Outcome::Mismatch) { "mismatch" } else { "match" };
            Step::new("hash", format_args!("{scheme}: {said}")).took(took)
        });
        Ok(outcome)
    }

    /// Makes a new hash with the preferred parameters. Not noted in `ctx` as a job of the attempt, but
    /// counted in [`stats`](Self::stats).
    ///
    /// # Errors
    /// As [`make`](crate::make) and [`verify`](Self::verify).
    pub async fn make(&self, ctx: &Ctx, password: &Password) -> Result<StoredHash> {
        if !can_make(&self.policy.preferred, password) {
            return Err(Error::new(ErrorKind::Invalid, "bcrypt takes passwords of at most 72 bytes"));
        }
        let (policy, password) = (Arc::clone(&self.policy), password.clone());
        let job = move |work: &mut Workspace| make_in(&policy.preferred, &password, work);
        let (made, took) = self.run(ctx, Attempt::NotCounted, job).await?;
        ctx.note(|| Step::new("hash", format_args!("{}: made", self.policy.preferred.scheme())).took(took));
        Ok(made)
    }

    /// Marks a one-time code as used; reports whether it was unused.
    pub(crate) fn use_code(&self, who: &Principal, step: u64) -> Result<bool> {
        self.codes.take(who, step, self.unix_time() / STEP_SECONDS)
    }

    fn unix_time(&self) -> u64 {
        self.clock.wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    async fn run<T: Send + 'static>(
        &self,
        ctx: &Ctx,
        attempt: Attempt,
        job: impl FnOnce(&mut Workspace) -> Result<T> + Send + 'static,
    ) -> Result<(T, Duration)> {
        let deadline = ctx.deadline();
        let late = || Error::new(ErrorKind::Timeout, "the deadline passed before the password was hashed");
        if deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
            return Err(late());
        }
        let (reply, answer) = oneshot::channel();
        let (clock, counts) = (Arc::clone(&self.clock), Arc::clone(&self.counts));
        let task = move |work: &mut Workspace| {
            let began = clock.now();
            if reply.is_closed() || deadline.is_some_and(|deadline| deadline <= began) {
                counts.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            counts.jobs.fetch_add(1, Ordering::Relaxed);
            // The workspace is thrown away after a panic, so nothing half done is seen.
            let done = catch_unwind(AssertUnwindSafe(|| job(work))).unwrap_or_else(|_| {
                *work = Workspace::default();
                Err(Error::new(ErrorKind::Internal, "a hash job panicked"))
            });
            // Nobody to tell if the caller has left meanwhile.
            let _ = reply.send(done.map(|done| (done, clock.now().since(began))));
        };
        if let Err(Full) = self.pool.submit(Box::new(task)) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Overloaded, "too many passwords wait to be hashed")
                .retry_after(Duration::from_secs(1)));
        }
        if matches!(attempt, Attempt::Counted) {
            ctx.note_hash_job();
        }
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => match select(answer, self.clock.sleep_until(deadline)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => return Err(late()),
            },
        };
        // A job is dropped without an answer only when it was too late for it.
        answer.unwrap_or_else(|_| Err(late()))
    }
}

/// Whether a job is part of what an attempt costs, or extra work after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Counted,
    NotCounted,
}

#[async_trait]
impl HashCheck for Hasher {
    async fn pad(&self, ctx: &Ctx, password: &Password) -> Result<()> {
        let (dummy, policy, password) = (Arc::clone(&self.dummy), Arc::clone(&self.policy), password.clone());
        let counts = Arc::clone(&self.counts);
        let job = move |work: &mut Workspace| {
            counts.pads.fetch_add(1, Ordering::Relaxed);
            dummy.verify(&policy, password.as_bytes(), &Salts::default(), work)
        };
        let (_, took) = self.run(ctx, Attempt::Counted, job).await?;
        ctx.note(|| Step::new("hash", "pad").took(took));
        Ok(())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("policy", &self.policy)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use auth_core::Record;
    use auth_testkit::{ManualClock, hash, login, password};

    use super::*;
    use crate::policy::{AcceptWeak, Preferred};
    use crate::scheme::Scheme;

    const QUEUE: usize = 2;

    fn hasher(clock: &Arc<ManualClock>) -> Arc<Hasher> {
        let preferred = Preferred::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
        let policy = Policy { preferred, accept_weak: AcceptWeak::All, ..Policy::default() };
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Arc::new(Hasher::new(HasherConfig { threads: 1, queue: QUEUE }, policy, clock).unwrap())
    }

    /// Keeps the one thread busy until it is told to go on.
    struct Plug {
        go_on: mpsc::Sender<()>,
        done: tokio::task::JoinHandle<Result<((), Duration)>>,
    }

    impl Plug {
        async fn new(hasher: &Arc<Hasher>) -> Self {
            let (go_on, wait) = mpsc::channel();
            let (started, has_started) = oneshot::channel();
            let hasher = Arc::clone(hasher);
            let done = tokio::spawn(async move {
                let job = move |_: &mut Workspace| {
                    let _ = started.send(());
                    wait.recv().unwrap();
                    Ok(())
                };
                hasher.run(&Ctx::new(), Attempt::NotCounted, job).await
            });
            has_started.await.unwrap();
            Self { go_on, done }
        }

        async fn pull(self) {
            self.go_on.send(()).unwrap();
            self.done.await.unwrap().unwrap();
        }
    }

    fn queue_one(hasher: &Arc<Hasher>, ctx: &Ctx) -> tokio::task::JoinHandle<Result<()>> {
        let (hasher, ctx) = (Arc::clone(hasher), ctx.clone());
        tokio::spawn(async move { hasher.pad(&ctx, &password("hobbes")).await })
    }

    async fn until_queued(hasher: &Hasher, jobs: usize) {
        while hasher.stats().queued != jobs {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_overloaded_at_once_and_drains() {
        let hasher = hasher(&ManualClock::new());
        let plug = Plug::new(&hasher).await;
        let waiting: Vec<_> = (0..QUEUE).map(|_| queue_one(&hasher, &Ctx::new())).collect();
        until_queued(&hasher, QUEUE).await;
        let record = Arc::new(Record::new());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let error = hasher.pad(&ctx, &password("hobbes")).await.unwrap_err();
        assert_eq!((error.kind(), error.wait()), (ErrorKind::Overloaded, Some(Duration::from_secs(1))));
        assert_eq!(record.hash_jobs(), 0);
        plug.pull().await;
        for job in waiting {
            job.await.unwrap().unwrap();
        }
        let stats = hasher.stats();
        assert_eq!((stats.jobs, stats.pads, stats.refused, stats.queued), (3, 2, 1, 0));
        assert_eq!((stats.skipped, stats.threads), (0, 1));
    }

    #[tokio::test]
    async fn a_panicking_job_is_an_error_and_the_thread_lives_on() {
        let hasher = hasher(&ManualClock::new());
        let error = hasher
            .run(&Ctx::new(), Attempt::Counted, |_| -> Result<()> { panic!("as the test wants") })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        hasher.pad(&Ctx::new(), &password("hobbes")).await.unwrap();
        assert_eq!(hasher.stats().jobs, 2);
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_left_is_not_worked_on() {
        let hasher = hasher(&ManualClock::new());
        let plug = Plug::new(&hasher).await;
        let job = queue_one(&hasher, &Ctx::new());
        until_queued(&hasher, 1).await;
        job.abort();
        assert!(job.await.unwrap_err().is_cancelled());
        plug.pull().await;
        hasher.pad(&Ctx::new(), &password("hobbes")).await.unwrap();
        let stats = hasher.stats();
        assert_eq!((stats.jobs, stats.pads, stats.skipped), (2, 1, 1));
    }

    #[tokio::test]
    async fn nobody_waits_beyond_their_deadline() {
        let clock = ManualClock::new();
        let hasher = hasher(&clock);
        let plug = Plug::new(&hasher).await;
        let ctx = Ctx::new().with_deadline(clock.now() + Duration::from_secs(1));
        let job = queue_one(&hasher, &ctx);
        until_queued(&hasher, 1).await;
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(1));
        assert_eq!(job.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        // Too late already: not even queued.
        let error = hasher.pad(&ctx, &password("hobbes")).await.unwrap_err();
        assert_eq!((error.kind(), hasher.stats().queued), (ErrorKind::Timeout, 1));
        plug.pull().await;
        hasher.pad(&Ctx::new(), &password("hobbes")).await.unwrap();
        let stats = hasher.stats();
        assert_eq!((stats.jobs, stats.pads, stats.skipped), (2, 1, 1));
    }

    #[tokio::test]
    async fn the_threads_end_with_the_hasher() {
        // Sends when the thread that it is in ends.
        struct LastWord(mpsc::Sender<()>);
        impl Drop for LastWord {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        thread_local! {
            static LAST_WORD: std::cell::RefCell<Option<LastWord>> = const { std::cell::RefCell::new(None) };
        }
        let hasher = hasher(&ManualClock::new());
        let (sender, ended) = mpsc::channel();
        let job = move |_: &mut Workspace| {
            LAST_WORD.set(Some(LastWord(sender)));
            Ok(())
        };
        hasher.run(&Ctx::new(), Attempt::NotCounted, job).await.unwrap();
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(hasher);
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(()));
    }

    #[tokio::test]
    async fn every_job_is_noted_and_timed() {
        let hasher = hasher(&ManualClock::new());
        let record = Arc::new(Record::explaining());
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        let (calvin, right) = (login("calvin"), password("hobbes"));
        let made = hasher.make(&ctx, &right).await.unwrap();
        assert_eq!(record.hash_jobs(), 0, "what is made is not a job of the attempt");
        let outcome = hasher.verify(&ctx, &calvin, &made, &right).await.unwrap();
        assert_eq!(outcome, Outcome::Match { upgrade: false, step: None });
        let outcome = hasher.verify(&ctx, &calvin, &made, &password("else")).await.unwrap();
        assert_eq!(outcome, Outcome::Mismatch);
        hasher.pad(&ctx, &right).await.unwrap();
        assert_eq!(record.hash_jobs(), 3);
        let steps: Vec<_> = record.steps().iter().map(|step| step.outcome.clone()).collect();
        assert_eq!(steps, ["argon2: made", "argon2: match", "argon2: mismatch", "pad"]);
        assert!(record.steps().iter().all(|step| step.took.is_some()));
        let stats = hasher.stats();
        assert_eq!((stats.jobs, stats.pads), (4, 1));
    }

    #[tokio::test]
    async fn a_password_for_a_cheap_hash_is_no_faster_than_a_pad_right_or_wrong() {
        let hasher = hasher(&ManualClock::new());
        // Only the dummy is argon2 here, so its memory shows that it was worked on.
        let worked = async || {
            let look = |work: &mut Workspace| Ok(std::mem::take(work).has_memory());
            hasher.run(&Ctx::new(), Attempt::NotCounted, look).await.unwrap().0
        };
        let check = async |text: &str, scheme: Option<&str>, typed: &str, padded: bool| {
            let stored = StoredHash::new(text.to_owned(), scheme);
            hasher.verify(&Ctx::new(), &login("calvin"), &stored, &password(typed)).await.unwrap();
            assert_eq!(worked().await, padded, "{text} {typed}");
        };
        check("hobbes", Some("plaintext"), "else", true).await;
        check("hobbes", Some("plaintext"), "hobbes", true).await;
        check("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", Some("totp"), "else", true).await;
        let bcrypt = "$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";
        check(bcrypt, None, "else", false).await;
        check(bcrypt, None, "hobbes", false).await;
        let stats = hasher.stats();
        assert_eq!((stats.pads, stats.dummies), (0, 3));
    }

    #[test]
    fn a_hash_is_cheap_by_what_its_parameters_cost() {
        let b64 = "rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
        let bcrypt = "tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";
        let dots = |count| ".".repeat(count);
        let policy = Policy::accept_all();
        let read = |hash: &str, scheme| ready(&policy, hash, scheme).unwrap();
        let check = |hash: &str, scheme: Option<Scheme>, beside_argon2: bool, beside_bcrypt: bool| {
            for (preferred, cheap) in
                [(Preferred::default(), beside_argon2), (Preferred::Bcrypt { cost: 12 }, beside_bcrypt)]
            {
                let dummy = read(make_dummy(&preferred).unwrap().as_str(), None);
                assert_eq!(read(hash, scheme).is_cheap_beside(&dummy), cheap, "{hash} beside {preferred:?}");
            }
        };
        check("hobbes", Some(Scheme::Plaintext), true, true);
        check("GEZDGNBVGY3TQOJQ", Some(Scheme::Totp), true, true);
        check("0eb55bec7f0e6d1c831bfbef77ac054a", Some(Scheme::HexMd5), true, true);
        check(&format!("$apr1$salt${}", dots(22)), None, true, true);
        check(&format!("$2b$04${bcrypt}"), None, true, true);
        check(&format!("$2b$07${bcrypt}"), None, true, true);
        check(&format!("$2b$10${bcrypt}"), None, false, true);
        check(&format!("$2b$11${bcrypt}"), None, false, false);
        check(&format!("$2b$12${bcrypt}"), None, false, false);
        check(&format!("$argon2id$v=19$m=8,t=1,p=1${b64}"), None, true, true);
        check(&format!("$argon2i$v=19$m=9000,t=2,p=1${b64}"), None, true, true);
        check(&format!("$argon2id$v=19$m=19456,t=1,p=1${b64}"), None, false, true);
        check(&format!("$argon2id$v=19$m=19456,t=2,p=1${b64}"), None, false, true);
        check(&format!("$argon2id$v=19$m=65536,t=4,p=4${b64}"), None, false, false);
        check(&format!("$pbkdf2-sha256$1${b64}"), None, true, true);
        check(&format!("$pbkdf2-sha256$29000${b64}"), None, true, true);
        check(&format!("$pbkdf2-sha256$600000${b64}"), None, false, false);
        check(&format!("$pbkdf2$1$AAAA${}", "A".repeat(27)), None, true, true);
        check(&format!("$pbkdf2-sha512$210000$AAAA${}", "A".repeat(86)), None, false, false);
        check(&format!("$scram$1000$AAAA$sha-1={}", "A".repeat(27)), None, true, true);
        check(&format!("$scrypt$ln=4,r=8,p=1${b64}"), None, true, true);
        check(&format!("$scrypt$ln=17,r=8,p=1${b64}"), None, false, false);
        check(&format!("$5$rounds=1000$salt${}", dots(43)), None, true, true);
        check(&format!("$6$salt${}", dots(86)), None, true, true);
        check(&format!("$6$rounds=656000$salt${}", dots(86)), None, false, false);
        check(&format!("$sha1$1$salt${}", dots(28)), None, true, true);
        check(&format!("$sha1$480000$salt${}", dots(28)), None, false, true);
        check(&format!("$P$512345678{}", dots(22)), None, true, true);
    }

    #[tokio::test]
    async fn an_unreadable_or_monstrous_hash_is_no_job() {
        let hasher = hasher(&ManualClock::new());
        let check = async |hash: StoredHash, kind: ErrorKind| {
            let error = hasher.verify(&Ctx::new(), &login("calvin"), &hash, &password("hobbes")).await;
            assert_eq!(error.unwrap_err().kind(), kind);
        };
        check(hash("canary"), ErrorKind::Corrupt).await;
        check(StoredHash::new("canary".into(), Some("rot13")), ErrorKind::Misconfigured).await;
        let monster = "$2b$31$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";
        check(hash(monster), ErrorKind::Misconfigured).await;
        assert_eq!(hasher.stats().jobs, 0);
    }

    #[test]
    fn a_pad_costs_what_a_verification_costs() {
        let argon2 = Preferred::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
        let cases = [(argon2, "$argon2id$v=19$m=64,t=1,p=1$"), (Preferred::Bcrypt { cost: 4 }, "$2b$04$")];
        for (preferred, parameters) in cases {
            let policy = Policy { preferred, ..Policy::default() };
            let made = make_in(&preferred, &password("hobbes"), &mut Workspace::default()).unwrap();
            let dummy = make_dummy(&preferred).unwrap();
            assert!(made.as_str().starts_with(parameters) && dummy.as_str().starts_with(parameters));
            assert_eq!(made.as_str().len(), dummy.as_str().len());
            assert!(ready(&policy, dummy.as_str(), None).is_ok());
        }
    }

    #[test]
    fn a_pool_without_threads_queue_or_possible_policy_does_not_start() {
        let clock: Arc<dyn Clock> = ManualClock::new();
        let check = |threads, queue, policy| {
            let error = Hasher::new(HasherConfig { threads, queue }, policy, Arc::clone(&clock)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
        };
        check(0, 1, Policy::default());
        check(1, 0, Policy::default());
        check(1, 1, Policy { preferred: Preferred::Bcrypt { cost: 3 }, ..Policy::default() });
        let config = HasherConfig::default();
        assert!(config.threads > 0 && config.queue > 0);
    }
}
