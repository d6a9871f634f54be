//! Cases for what keeps families of refresh tokens, and revocations.

mod begin;
mod ends;
mod listing;
mod names;
mod renewal;
mod retry;
mod revocations;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use auth_core::{
    Ctx, Device, End, EndReason, Ends, ErrorKind, Families, Family, FamilyId, Issued, Lookup, Millis,
    Renewal, Result, Retry, Revoked, TokenMark,
};

use super::{Case, told};

/// What the suite of families needs: two handles on one empty store, as two processes have them.
pub struct FamilyBench {
    store: Arc<dyn Families>,
    other: Arc<dyn Families>,
    rounds: u32,
    next: AtomicU64,
}

impl fmt::Debug for FamilyBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FamilyBench").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

impl FamilyBench {
    /// Takes a store, and what another process would have opened. Races go a thousand rounds.
    #[must_use]
    pub fn new(store: Arc<dyn Families>, other: Arc<dyn Families>) -> Self {
        Self { store, other, rounds: 1_000, next: AtomicU64::new(1) }
    }

    /// Takes a store with no other process beside it.
    #[must_use]
    pub fn alone<S: Families + 'static>(store: &Arc<S>) -> Self {
        Self::new(Arc::<S>::clone(store), Arc::<S>::clone(store))
    }

    /// Says how many rounds races go.
    #[must_use]
    pub const fn with_rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn Families> {
        &self.store
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A realm that nobody else uses.
    fn realm(&self) -> String {
        format!("realm{}", self.number())
    }

    /// One of both handles.
    fn either(&self, n: usize) -> &Arc<dyn Families> {
        if n.is_multiple_of(2) { &self.store } else { &self.other }
    }

    /// Makes an id that nobody has.
    #[must_use]
    pub fn id(&self) -> FamilyId {
        let spread = u128::from(self.number()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        FamilyId::new(spread.to_be_bytes())
    }

    /// Makes a family of this login, which was begun at [`START`].
    #[must_use]
    pub fn family(&self, realm: &str, login: &str) -> Family {
        Family {
            id: self.id(),
            realm: realm.into(),
            login: login.to_owned(),
            person: format!("app:{login}").chars().take(60).collect(),
            client: None,
            scope: String::new(),
            device: Device::default(),
            secret: "first".to_owned(),
            generation: 1,
            rotated_at: START,
            retries: 0,
            confirmed: false,
            created_at: START,
            last_used_at: START,
            idle: HOUR,
            idle_end: START + HOUR,
            absolute_end: START + 10 * HOUR,
            ended: None,
        }
    }

    /// Begins a family.
    async fn begin(&self, realm: &str, login: &str) -> Family {
        let family = self.family(realm, login);
        told("begin", self.store.begin(&Ctx::new(), &family).await);
        family
    }

    /// Begins a family and renews it once: its generation is 2, made at [`START`] + 1000.
    async fn renewed(&self, realm: &str) -> Family {
        let family = self.begin(realm, "calvin").await;
        assert!(renew(&*self.store, realm, family.id, 1, START + SECOND).await);
        shown(&*self.other, realm, family.id).await
    }

    /// A token that nobody has revoked.
    fn token<'a>(&self, login: &'a str, at: Option<Millis>) -> Issued<'a> {
        Issued { mark: self.mark(), family: None, login, at }
    }

    fn mark(&self) -> TokenMark {
        let mut mark = [0xa5; 32];
        let spread = self.number().wrapping_mul(0xd134_2543_de82_ef95).to_be_bytes();
        mark.iter_mut().zip(spread).for_each(|(to, from)| *to = from);
        TokenMark::new(mark)
    }
}

/// When the families of the suite begin.
pub const START: Millis = 1_750_000_000_000;

const SECOND: Millis = 1_000;
/// How long a family of the suite may lie unused.
pub const HOUR: Millis = 3_600 * SECOND;

/// Makes a renewal of this generation, just after [`START`].
#[must_use]
pub const fn renewal(from: u32) -> Renewal {
    Renewal { from, at: START + 1, idle_end: START + HOUR }
}

/// Runs every case for [`Families`].
///
/// # Panics
/// Where they break the contract.
pub async fn run_all_families(bench: &FamilyBench) {
    for case in family_cases() {
        case.run(&*bench.store, bench).await;
    }
}

/// Lists the cases for [`Families`].
#[must_use]
pub fn family_cases() -> Vec<Case<dyn Families, FamilyBench>> {
    let lists = [
        begin::cases(),
        renewal::cases(),
        retry::cases(),
        ends::cases(),
        revocations::cases(),
        names::cases(),
        listing::cases(),
    ];
    lists.into_iter().flatten().collect()
}

fn ctx() -> Ctx {
    Ctx::new()
}

async fn lookup(store: &dyn Families, realm: &str, id: FamilyId) -> Lookup<Family> {
    told("family", store.family(&ctx(), realm, id).await)
}

async fn shown(store: &dyn Families, realm: &str, id: FamilyId) -> Family {
    match lookup(store, realm, id).await {
        Lookup::Found(family) => family,
        Lookup::NotFound => panic!("the family {id} of {realm:?} is not there"),
    }
}

async fn renew(store: &dyn Families, realm: &str, id: FamilyId, from: u32, at: Millis) -> bool {
    let renewal = Renewal { from, at, idle_end: at.saturating_add(HOUR) };
    told("renew", store.renew(&ctx(), realm, id, &renewal).await)
}

async fn retry(store: &dyn Families, realm: &str, id: FamilyId, from: u32, at: Millis) -> bool {
    let retry = Retry { from, at, grace: 30 * SECOND, most: 10 };
    told("retry", store.retry(&ctx(), realm, id, &retry).await)
}

async fn end(store: &dyn Families, realm: &str, what: &Ends<'_>, at: Millis, reason: EndReason) -> u64 {
    told("end", store.end(&ctx(), realm, what, &End { at, reason, until: at + HOUR }).await)
}

async fn revoke(store: &dyn Families, realm: &str, what: &Revoked<'_>, at: Millis, until: Millis) {
    told("revoke", store.revoke(&ctx(), realm, what, at, until).await);
}

async fn is_revoked(store: &dyn Families, realm: &str, token: &Issued<'_>, now: Millis) -> bool {
    told("is_revoked", store.is_revoked(&ctx(), realm, token, now).await)
}

async fn sessions(store: &dyn Families, realm: &str, login: &str, now: Millis, most: u32) -> Vec<Family> {
    told("sessions", store.sessions(&ctx(), realm, login, now, most).await)
}

#[track_caller]
fn invalid<T: fmt::Debug>(answer: Result<T>) {
    let error = answer.expect_err("this must be refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}
