//! The cases that every store, cache, chain and stack runs.
//!
//! Each case is a named function over a `&dyn` trait and a [`Bench`], and panics where the source
//! breaks the trait's contract. Run a whole list in one test with `run_all_*`, or take the list
//! (`password_cases()`, …) to a test runner that shows every case by name.
//!
//! Cases choose by the source's [`Capabilities`](auth_core::Capabilities) and by what the bench says
//! the source holds. Nothing else is left out.

mod accounts;
mod counters;
mod directories;
mod families;
mod groups;
mod objects;
mod passwords;
mod tokens;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{
    AccountSource, BoxFuture, Clock, Fence, GroupOracle, Id, Login, ObjectPerms, PasswordSource, Principal,
    RealmId, Result, SourceInfo, TokenCache,
};

use crate::{ManualClock, Standing, User, World, info};

pub use accounts::account_cases;
pub use counters::{CounterBench, counter_cases, run_all_counters};
pub use directories::{Managed, directory_cases, load, run_all_directory};
pub use families::{FamilyBench, HOUR, START, family_cases, renewal, run_all_families};
pub use groups::group_cases;
pub use objects::object_cases;
pub use passwords::password_cases;
pub use tokens::token_cases;

/// What a suite needs to know of the source under test: the realm, which people of the
/// [`World`] it holds, and under which ids.
#[derive(Debug, Clone)]
pub struct Bench {
    realm: RealmId,
    holds: fn(&User) -> bool,
    ids: fn(&User) -> Id,
    issuer: Option<Arc<str>>,
}

impl Bench {
    /// Expects the whole world, under the world's own ids.
    #[must_use]
    pub fn new(realm: &RealmId) -> Self {
        Self { realm: realm.clone(), holds: |_| true, ids: |user| Id::from(user.id), issuer: None }
    }

    /// Expects only some people: for a store that can't hold a disabled account, say.
    ///
    /// Calvin, susie and zoé must be among them.
    #[must_use]
    pub const fn holding(mut self, holds: fn(&User) -> bool) -> Self {
        self.holds = holds;
        self
    }

    /// Expects ids of the store's own making. Must give one for anybody, also for who is not there.
    #[must_use]
    pub const fn with_ids(mut self, ids: fn(&User) -> Id) -> Self {
        self.ids = ids;
        self
    }

    /// Expects principals that the source of this name has issued: for a union or a linked oracle, which
    /// is asked about the people of another source.
    #[must_use]
    pub fn issued_by(mut self, source: &str) -> Self {
        self.issuer = Some(source.into());
        self
    }

    /// Returns the realm.
    #[must_use]
    pub const fn realm(&self) -> &RealmId {
        &self.realm
    }

    /// Lists the people that the source holds.
    pub fn users(&self) -> impl Iterator<Item = &'static User> {
        World::users().iter().filter(|user| (self.holds)(user))
    }

    /// Returns somebody as `source` issues them, or the source that [`issued_by`](Self::issued_by) names.
    ///
    /// # Panics
    /// Never: a login is its own.
    #[must_use]
    pub fn principal(&self, source: &SourceInfo, user: &User) -> Principal {
        self.with_id_of(source, user, user)
    }

    /// Somebody of this login whose id the source has never issued.
    fn namesake(&self, source: &SourceInfo, user: &User) -> Principal {
        self.with_id_of(source, user, &NOBODY)
    }

    fn with_id_of(&self, source: &SourceInfo, user: &User, other: &User) -> Principal {
        let issuer = self.issuer.as_ref().map(|name| info(name));
        let (source, login) = (issuer.as_ref().unwrap_or(source), user.login_in(&self.realm));
        Principal::found(source, &login, login.as_str(), (self.ids)(other)).expect("a login is its own")
    }

    fn login(&self, text: &str) -> Login {
        Login::parse(&self.realm, text).unwrap_or_else(|_| panic!("{text:?} is a possible login"))
    }
}

impl From<&Self> for Bench {
    fn from(bench: &Self) -> Self {
        bench.clone()
    }
}

impl From<&RealmId> for Bench {
    fn from(realm: &RealmId) -> Self {
        Self::new(realm)
    }
}

/// What the token suite needs: a realm, the fence that the cache heeds, and a way to let time pass.
pub struct TokenBench {
    realm: RealmId,
    clock: Arc<dyn Clock>,
    fence: Arc<Fence>,
    pass: Box<dyn Fn(Duration) -> BoxFuture<()> + Send + Sync>,
    keeps: bool,
}

impl TokenBench {
    /// Lets time pass by moving the clock that the cache was made with.
    #[must_use]
    pub fn manual(realm: &RealmId, clock: &Arc<ManualClock>, fence: &Arc<Fence>) -> Self {
        let moved = Arc::clone(clock);
        let dynamic: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Self::new(realm, dynamic, Arc::clone(fence), move |by| {
            moved.advance(by);
            Box::pin(std::future::ready(()))
        })
    }

    /// Lets time pass by `pass`: for a server whose time is its own. The suite lets a few seconds pass.
    #[must_use]
    pub fn new(
        realm: &RealmId,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
        pass: impl Fn(Duration) -> BoxFuture<()> + Send + Sync + 'static,
    ) -> Self {
        Self { realm: realm.clone(), clock, fence, pass: Box::new(pass), keeps: true }
    }

    /// Expects a cache that keeps nothing (`kind = "none"`).
    #[must_use]
    pub fn keeping_nothing(mut self) -> Self {
        self.keeps = false;
        self
    }
}

impl std::fmt::Debug for TokenBench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenBench")
            .field("realm", &self.realm)
            .field("keeps", &self.keeps)
            .finish_non_exhaustive()
    }
}

/// A case under way.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A named case over a source `S`.
pub struct Case<S: ?Sized, B = Bench> {
    name: &'static str,
    run: for<'a> fn(&'a S, &'a B) -> Running<'a>,
}

impl<S: ?Sized, B> Case<S, B> {
    /// Returns the name: what the source must do.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case; it panics where the source breaks the contract.
    #[must_use]
    pub fn run<'a>(&self, source: &'a S, bench: &'a B) -> Running<'a> {
        (self.run)(source, bench)
    }
}

impl<S: ?Sized, B> std::fmt::Debug for Case<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// Writes the list of a module's cases once: name and function can't differ.
macro_rules! cases {
    ($(#[$doc:meta])* $vis:vis $list:ident, $port:ty, $bench:ty: $($case:ident),+ $(,)?) => {
        $(#[$doc])*
        #[must_use]
        $vis fn $list() -> Vec<$crate::suite::Case<$port, $bench>> {
            vec![$($crate::suite::Case {
                name: stringify!($case),
                run: |source, bench| Box::pin($case(source, bench)),
            }),+]
        }
    };
}
use cases;

/// Runs every case for a [`PasswordSource`] whose store holds the [`World`].
///
/// # Panics
/// Where the source breaks the contract.
pub async fn run_all_password(source: &(dyn PasswordSource + 'static), bench: impl Into<Bench> + Send) {
    let bench = bench.into();
    for case in password_cases() {
        case.run(source, &bench).await;
    }
}

/// Runs every case for an [`AccountSource`] that holds the [`World`].
///
/// # Panics
/// Where the source breaks the contract.
pub async fn run_all_account(source: &(dyn AccountSource + 'static), bench: impl Into<Bench> + Send) {
    let bench = bench.into();
    for case in account_cases() {
        case.run(source, &bench).await;
    }
}

/// Runs every case for a [`GroupOracle`] that holds the [`World`].
///
/// # Panics
/// Where the oracle breaks the contract.
pub async fn run_all_groups(source: &(dyn GroupOracle + 'static), bench: impl Into<Bench> + Send) {
    let bench = bench.into();
    for case in group_cases() {
        case.run(source, &bench).await;
    }
}

/// Runs every case for an [`ObjectPerms`] that holds the [`World`].
///
/// # Panics
/// Where the store breaks the contract.
pub async fn run_all_objects(source: &(dyn ObjectPerms + 'static), bench: impl Into<Bench> + Send) {
    let bench = bench.into();
    for case in object_cases() {
        case.run(source, &bench).await;
    }
}

/// Runs every case for an empty [`TokenCache`].
///
/// # Panics
/// Where the cache breaks the contract.
pub async fn run_all_tokens(cache: &(dyn TokenCache + 'static), bench: &TokenBench) {
    for case in token_cases() {
        case.run(cache, bench).await;
    }
}

/// Somebody who is nowhere.
const NOBODY: User = User {
    login: "nobody",
    id: 987_654_321,
    password: Some(b"hobbes"),
    hash: None,
    groups: &[],
    standing: Standing::Open,
};

/// Texts that a careless store takes for somebody: patterns, filters, statements, other spellings.
const LOOK_ALIKES: [&str; 26] = [
    "calvi%",
    "calvi_",
    "%",
    "_alvin",
    "c*lvin",
    "*",
    "calvi?",
    "calvi.",
    "calvin%00",
    "calvin\\",
    "calvin'",
    "calvin\"",
    "calvin--",
    "calvin;",
    "calvin)(uid=*",
    "calvin)(|(uid=*",
    "'OR'1'='1",
    "'/**/OR/**/1=1--",
    "\"OR\"\"=\"",
    "calvin:",
    "calvin,susie",
    "calvin@default",
    "calvin/susie",
    "../calvin",
    "${calvin}",
    "c\u{e1}lvin",
];

/// Look-alikes with blanks, which the exact rule lets through.
const BLANK_LOOK_ALIKES: [&str; 5] = ["calvin ", " calvin", "' OR 1=1 --", "calvin\u{a0}", "calvin susie"];

impl Bench {
    /// Every look-alike that this realm takes for a login.
    fn look_alikes(&self) -> impl Iterator<Item = Login> {
        let all = LOOK_ALIKES.into_iter().chain(BLANK_LOOK_ALIKES);
        all.filter_map(|text| Login::parse(&self.realm, text).ok())
            .filter(|login| World::users().iter().all(|user| user.login != login.as_str()))
    }

    /// Every spelling that the realm's rule maps to somebody's login.
    fn spellings(&self) -> impl Iterator<Item = (&'static str, &'static User)> {
        let all = [
            ("calvin", "calvin"),
            ("CALVIN", "calvin"),
            ("Calvin", "calvin"),
            ("\u{ff43}alvin", "calvin"),
            ("ZO\u{c9}", "zo\u{e9}"),
            ("zoe\u{301}", "zo\u{e9}"),
        ];
        all.into_iter()
            .filter(|(text, login)| self.realm.rule().normalize(text).as_deref() == Some(*login))
            .map(|(text, login)| (text, World::user(login)))
    }
}

/// Texts with characters of every Unicode plane, the odd ones among them.
fn every_plane() -> impl Iterator<Item = String> {
    let odd = "\u{df}\u{130}\u{131}\u{17f}\u{3c2}\u{5d0}\u{627}\u{e01}\u{200b}\u{200d}\u{202e}\u{2028}\u{feff}\u{fb01}\u{ff21}\u{fffd}";
    let planes = (0..17_u32).flat_map(|plane| {
        [0x41_u32, 0x1234, 0xabcd, 0xfffd]
            .into_iter()
            .filter_map(move |at| char::from_u32((plane << 16) | at))
    });
    odd.chars().chain(planes).flat_map(|c| [format!("{c}"), format!("calvin{c}"), format!("{c}calvin")])
}

/// Unwraps what must not fail.
#[track_caller]
fn told<T>(question: &str, answer: Result<T>) -> T {
    answer.unwrap_or_else(|error| panic!("{question}: could not find out: {error:?}"))
}
