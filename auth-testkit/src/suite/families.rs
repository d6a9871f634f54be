//! Cases for what keeps families of refresh tokens, and revocations.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use auth_core::{
    Ctx, Device, End, EndReason, Ends, ErrorKind, Families, Family, FamilyId, Issued, Lookup, Millis,
    Renewal, Result, Retry, Revoked, TokenMark,
};
use futures_util::future::join_all;

use super::{cases, told};

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
const HOUR: Millis = 3_600 * SECOND;

/// Texts that a careless store takes for somebody else, or for a command.
const LOGINS: [&str; 30] = [
    "calvin",
    "Calvin",
    "calvin ",
    " calvin",
    "calvi%",
    "calvi_",
    "%",
    "_",
    "*",
    "?",
    "calvin'",
    "calvin\"",
    "calvin`",
    "calvin\\",
    "' OR '1'='1",
    "'; DROP TABLE gatepost_family; --",
    "x') ON CONFLICT DO NOTHING; --",
    "calvin:",
    ":calvin",
    "calvin:susie",
    "{calvin}",
    "}{",
    "calvin}",
    "$1",
    ":login",
    "zo\u{e9}",
    "zoe\u{301}",
    "stra\u{df}e",
    "strasse",
    "\u{1f42f}",
];

/// Runs every case for [`Families`].
///
/// # Panics
/// Where they break the contract.
pub async fn run_all_families(bench: &FamilyBench) {
    for case in family_cases() {
        case.run(&*bench.store, bench).await;
    }
}

cases! {
    /// Lists the cases for [`Families`].
    family_cases, dyn Families, FamilyBench:
    what_was_begun_is_shown_as_it_was,
    nothing_unknown_is_shown,
    an_id_that_is_taken_is_refused,
    of_many_that_begin_with_one_id_one_is_taken,
    what_can_not_be_kept_is_refused,
    texts_of_the_greatest_length_are_kept,
    a_renewal_goes_one_generation_on,
    only_the_generation_that_is_good_is_renewed,
    nothing_is_renewed_when_its_end_has_come,
    nothing_unknown_is_renewed,
    of_many_renewals_at_once_one_is_done,
    every_renewal_that_is_done_counts_one,
    nothing_lives_after_a_renewal_and_an_end_at_once,
    the_last_generation_is_not_renewed,
    a_retry_is_counted_and_changes_nothing_else,
    only_the_generation_before_is_retried,
    a_retry_is_within_the_grace_to_either_side,
    retries_are_counted_up_to_the_most,
    of_many_retries_at_once_no_more_than_the_most_are_counted,
    what_is_confirmed_is_not_retried,
    only_the_generation_that_is_good_is_confirmed,
    nothing_is_retried_when_its_end_has_come,
    an_end_is_kept_as_it_was_first,
    nothing_revives_a_family,
    a_person_s_families_end_together_and_nobody_else_s,
    a_realm_s_families_end_together_and_no_other_s,
    what_begins_after_an_end_lives,
    of_many_ends_at_once_each_family_counts_for_one,
    an_end_revokes_what_was_issued_before,
    an_end_of_what_is_unknown_revokes_all_the_same,
    who_sees_an_end_sees_its_revocation,
    a_token_is_revoked_by_its_mark_or_its_family_whenever_it_was_issued,
    a_token_is_revoked_by_its_login_or_realm_if_it_was_issued_before,
    a_revocation_counts_until_its_end,
    the_later_moment_and_the_later_end_are_kept,
    of_many_revocations_at_once_the_latest_is_kept,
    realms_know_nothing_of_each_other,
    names_do_not_run_into_each_other,
    logins_are_compared_byte_for_byte,
    sessions_are_those_that_live_the_newest_first,
    sessions_are_no_more_than_asked_for,
    what_may_go_is_deleted_in_batches_and_nothing_else,
    the_first_and_the_last_moments_are_kept,
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

async fn what_was_begun_is_shown_as_it_was(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let plain = bench.begin(&realm, "calvin").await;
    let full = Family {
        client: Some("web".to_owned()),
        scope: "read write".to_owned(),
        device: Device {
            name: Some("Zo\u{e9}'s \"phone\"".to_owned()),
            address: Some(IpAddr::from([10, 0, 0, 7])),
            agent: Some("Mozilla/5.0 (X11; \\ 'x' %s)\tend".to_owned()),
        },
        generation: 7,
        rotated_at: START + 1,
        retries: 3,
        confirmed: true,
        created_at: START - 2,
        last_used_at: START + 3,
        idle: 4,
        idle_end: START + 5,
        absolute_end: START + 6,
        ..bench.family(&realm, "calvin")
    };
    let v6 = "2001:db8::7".parse::<IpAddr>().expect("an address");
    let empty = Family {
        client: Some(String::new()),
        device: Device { name: Some(String::new()), address: Some(v6), agent: Some(String::new()) },
        ..bench.family(&realm, "susie")
    };
    let ended = EndReason::ALL
        .map(|reason| Family { ended: Some((START + 9, reason)), ..bench.family(&realm, "hobbes") });
    for family in [&full, &empty].into_iter().chain(&ended) {
        told("begin", store.begin(&ctx(), family).await);
    }
    for family in [&plain, &full, &empty].into_iter().chain(&ended) {
        for handle in [&bench.store, &bench.other] {
            assert_eq!(&shown(&**handle, &realm, family.id).await, family);
        }
    }
}

async fn nothing_unknown_is_shown(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    assert_eq!(lookup(store, &realm, bench.id()).await, Lookup::NotFound);
    assert_eq!(lookup(store, &bench.realm(), family.id).await, Lookup::NotFound);
    assert_eq!(lookup(store, "", family.id).await, Lookup::NotFound);
    assert!(sessions(store, &realm, "susie", START, 10).await.is_empty());
    assert!(sessions(store, &bench.realm(), "calvin", START, 10).await.is_empty());
}

async fn an_id_that_is_taken_is_refused(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    let thief = Family { id: family.id, generation: 5, ..bench.family(&realm, "susie") };
    invalid(store.begin(&ctx(), &thief).await);
    invalid(bench.other.begin(&ctx(), &family).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(sessions(store, &realm, "susie", START, 10).await.is_empty());
    end(store, &realm, &Ends::Family(family.id), START, EndReason::Logout).await;
    invalid(store.begin(&ctx(), &family).await);
    assert!(shown(store, &realm, family.id).await.ended.is_some());
}

async fn of_many_that_begin_with_one_id_one_is_taken(_store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for _ in 0..10 {
        let id = bench.id();
        let all: Vec<_> =
            (0..8).map(|n| Family { id, scope: n.to_string(), ..bench.family(&realm, "calvin") }).collect();
        let begun = join_all(all.iter().enumerate().map(|(n, family)| {
            let store = Arc::clone(bench.either(n));
            async move { store.begin(&ctx(), family).await }
        }))
        .await;
        let taken: Vec<_> = all.iter().zip(&begun).filter(|(_, begun)| begun.is_ok()).collect();
        assert_eq!(taken.len(), 1, "{begun:?}");
        assert!(
            begun.iter().flat_map(|begun| begun.as_ref().err()).all(|why| why.kind() == ErrorKind::Invalid)
        );
        let kept = shown(&*bench.store, &realm, id).await;
        assert_eq!(taken.first().map(|(family, _)| *family), Some(&kept));
    }
}

async fn what_can_not_be_kept_is_refused(store: &dyn Families, bench: &FamilyBench) {
    fn long(most: usize) -> String {
        "a".repeat(most + 1)
    }
    let realm = bench.realm();
    let changes: [fn(&mut Family); 14] = [
        |family| family.login = long(255),
        |family| family.login = String::new(),
        |family| family.login = "cal\0vin".to_owned(),
        |family| family.person = long(Family::MAX_PERSON_BYTES),
        |family| family.client = Some(long(Family::MAX_NAME_BYTES)),
        |family| family.scope = long(Family::MAX_SCOPE_BYTES),
        |family| family.device.name = Some(long(Family::MAX_NAME_BYTES)),
        |family| family.device.agent = Some(long(Family::MAX_AGENT_BYTES)),
        |family| family.device.agent = Some("a\0".to_owned()),
        |family| family.secret = long(Family::MAX_SECRET_NAME_BYTES),
        |family| family.absolute_end = Family::MAX_TIME + 1,
        |family| family.idle_end = Millis::MAX,
        |family| family.idle = Millis::MAX,
        |family| family.ended = Some((Millis::MAX, EndReason::Logout)),
    ];
    for change in changes {
        let mut family = bench.family(&realm, "calvin");
        change(&mut family);
        let begun = store.begin(&ctx(), &family).await;
        assert!(begun.is_err(), "{family:?}");
        invalid(begun);
        assert_eq!(lookup(store, &realm, family.id).await, Lookup::NotFound);
    }
    assert!(sessions(store, &realm, "calvin", START, 10).await.is_empty());
}

async fn texts_of_the_greatest_length_are_kept(store: &dyn Families, bench: &FamilyBench) {
    // Of one byte each, and of four.
    for unit in ["a", "\u{1f42f}"] {
        let text = |most: usize| {
            let whole = unit.repeat(most / unit.len());
            format!("{whole}{}", "b".repeat(most - whole.len()))
        };
        let realm = text(255);
        let family = Family {
            id: bench.id(),
            person: text(Family::MAX_PERSON_BYTES),
            client: Some(text(Family::MAX_NAME_BYTES)),
            scope: text(Family::MAX_SCOPE_BYTES),
            device: Device {
                name: Some(text(Family::MAX_NAME_BYTES)),
                address: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok(),
                agent: Some(text(Family::MAX_AGENT_BYTES)),
            },
            secret: text(Family::MAX_SECRET_NAME_BYTES),
            ..bench.family(&realm, &text(255))
        };
        told("begin", store.begin(&ctx(), &family).await);
        assert_eq!(shown(&*bench.other, &realm, family.id).await, family);
        assert_eq!(sessions(store, &realm, &family.login, START, 10).await, std::slice::from_ref(&family));
        // All but the last byte are the same.
        let mut near = family.login.clone();
        near.pop();
        near.push('c');
        assert!(sessions(store, &realm, &near, START, 10).await.is_empty());
        assert_eq!(end(store, &realm, &Ends::Person(&near), START + 1, EndReason::Logout).await, 0);
        let issued = bench.token(&family.login, Some(START));
        assert!(!is_revoked(store, &realm, &issued, START + 1).await);
        assert_eq!(end(store, &realm, &Ends::Person(&family.login), START + 1, EndReason::Logout).await, 1);
        assert!(is_revoked(store, &realm, &issued, START + 1).await);
    }
}

async fn a_renewal_goes_one_generation_on(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut expected = bench.begin(&realm, "calvin").await;
    let (id, other) = (expected.id, bench.begin(&realm, "calvin").await);
    for n in 1..6 {
        told("confirm", store.confirm(&ctx(), &realm, id, n).await);
        let at = START + u64::from(n) * SECOND;
        // It may end sooner than it would have, and later than it must.
        let idle_end = if n % 2 == 0 { at + 2 * SECOND } else { START + 100 * HOUR };
        let handle = if n % 2 == 0 { &bench.store } else { &bench.other };
        assert!(told("renew", handle.renew(&ctx(), &realm, id, &Renewal { from: n, at, idle_end }).await));
        expected = Family { generation: n + 1, rotated_at: at, last_used_at: at, idle_end, ..expected };
        assert_eq!(shown(store, &realm, id).await, expected, "neither confirmed nor retried");
        assert!(retry(store, &realm, id, n, at + 1).await);
    }
    assert_eq!(shown(store, &realm, other.id).await, other, "nobody else's");
}

async fn only_the_generation_that_is_good_is_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for from in [0, 1, 3, u32::MAX] {
        assert!(!renew(store, &realm, family.id, from, START + 2 * SECOND).await, "{from}");
    }
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(renew(store, &realm, family.id, 2, START + 2 * SECOND).await);
}

async fn nothing_is_renewed_when_its_end_has_come(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (idle_end, absolute_end) in [(START + 50, START + 90), (START + 90, START + 50)] {
        let family = Family { idle_end, absolute_end, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        for late in [START + 50, START + 51, START + HOUR, Millis::MAX] {
            assert!(!renew(store, &realm, family.id, 1, late).await, "{late}");
        }
        assert_eq!(shown(store, &realm, family.id).await, family);
        assert!(renew(store, &realm, family.id, 1, START + 49).await);
    }
    let family = bench.begin(&realm, "calvin").await;
    end(store, &realm, &Ends::Family(family.id), START + 1, EndReason::Logout).await;
    let ended = shown(store, &realm, family.id).await;
    assert!(!renew(store, &realm, family.id, 1, START + 2).await);
    assert!(!renew(store, &realm, family.id, 1, START).await, "also by a clock that is behind");
    assert_eq!(shown(store, &realm, family.id).await, ended);
}

async fn nothing_unknown_is_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    assert!(!renew(store, &realm, bench.id(), 1, START).await);
    assert!(!renew(store, &bench.realm(), family.id, 1, START).await);
    assert!(!retry(store, &realm, bench.id(), 1, START).await);
    told("confirm", store.confirm(&ctx(), &realm, bench.id(), 1).await);
    told("confirm", store.confirm(&ctx(), &bench.realm(), family.id, 1).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn of_many_renewals_at_once_one_is_done(_store: &dyn Families, bench: &FamilyBench) {
    let realm: Arc<str> = bench.realm().into();
    let id = bench.begin(&realm, "calvin").await.id;
    for from in 1..=20 {
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
                tokio::spawn(async move { renew(&*store, &realm, id, from, START + 1).await })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += u32::from(task.await.expect("a renewal"));
        }
        assert_eq!(done, 1, "of generation {from}");
        assert_eq!(shown(&*bench.store, &realm, id).await.generation, from + 1);
    }
}

async fn every_renewal_that_is_done_counts_one(store: &dyn Families, bench: &FamilyBench) {
    let realm: Arc<str> = bench.realm().into();
    let id = bench.begin(&realm, "calvin").await.id;
    // Each goes on from what it sees.
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
            tokio::spawn(async move {
                let mut done = 0;
                for _ in 0..20 {
                    let from = shown(&*store, &realm, id).await.generation;
                    done += u32::from(renew(&*store, &realm, id, from, START + 1).await);
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("renewals");
    }
    assert!(done >= 20, "{done}");
    assert_eq!(shown(store, &realm, id).await.generation, done + 1);
}

async fn nothing_lives_after_a_renewal_and_an_end_at_once(store: &dyn Families, bench: &FamilyBench) {
    for round in 0..bench.rounds {
        let realm = if round % 64 == 0 { bench.realm() } else { format!("race{}", round / 64) };
        let login = format!("calvin{round}");
        let family = bench.begin(&realm, &login).await;
        let what = match round % 8 {
            0 => Ends::Realm,
            1..4 => Ends::Person(&login),
            _ => Ends::Family(family.id),
        };
        let (one, two) = (&*bench.store, &*bench.other);
        // Who is asked first differs.
        let renewing = async { renew(one, &realm, family.id, 1, START + 1).await };
        let ending = async { end(two, &realm, &what, START + 1, EndReason::Logout).await };
        let (renewed, ended) = if round % 2 == 0 {
            tokio::join!(renewing, ending)
        } else {
            let (ended, renewed) = tokio::join!(ending, renewing);
            (renewed, ended)
        };
        assert_eq!(ended, 1, "round {round}, {what:?}");
        let now = shown(store, &realm, family.id).await;
        assert!(!now.is_live(START + 1), "round {round}: {now:?}");
        assert_eq!(now.ended, Some((START + 1, EndReason::Logout)));
        assert_eq!(now.generation, 1 + u32::from(renewed));
        assert!(!renew(two, &realm, family.id, now.generation, START + 2).await);
        assert!(!retry(one, &realm, family.id, 1, START + 2).await);
    }
}

async fn the_last_generation_is_not_renewed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = Family { generation: u32::MAX - 1, ..bench.family(&realm, "calvin") };
    told("begin", store.begin(&ctx(), &family).await);
    assert!(renew(store, &realm, family.id, u32::MAX - 1, START + 1).await);
    let last = shown(store, &realm, family.id).await;
    assert_eq!(last.generation, u32::MAX);
    assert!(!renew(store, &realm, family.id, u32::MAX, START + 2).await);
    assert!(!retry(store, &realm, family.id, u32::MAX, START + 2).await);
    assert_eq!(shown(store, &realm, family.id).await, last);
    assert!(retry(store, &realm, family.id, u32::MAX - 1, START + 2).await);
    told("confirm", store.confirm(&ctx(), &realm, family.id, u32::MAX).await);
    assert!(shown(store, &realm, family.id).await.confirmed);
}

async fn a_retry_is_counted_and_changes_nothing_else(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for retries in 1..=10 {
        let at = START + SECOND + u64::from(retries);
        assert!(retry(&**bench.either(retries as usize), &realm, family.id, 1, at).await);
        assert_eq!(shown(store, &realm, family.id).await, Family { retries, ..family.clone() });
    }
}

async fn only_the_generation_before_is_retried(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    assert!(renew(store, &realm, family.id, 2, START + SECOND).await);
    let family = shown(store, &realm, family.id).await;
    for from in [0, 1, 3, 4, u32::MAX] {
        assert!(!retry(store, &realm, family.id, from, START + SECOND).await, "{from}");
    }
    assert_eq!(shown(store, &realm, family.id).await, family);
    assert!(!retry(store, &bench.realm(), family.id, 2, START + SECOND).await);
    assert!(retry(store, &realm, family.id, 2, START + SECOND).await);
}

async fn a_retry_is_within_the_grace_to_either_side(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    let made = START + SECOND;
    let asked = async |at: Millis, grace: Millis| {
        let retry = Retry { from: 1, at, grace, most: u32::MAX };
        told("retry", store.retry(&ctx(), &realm, family.id, &retry).await)
    };
    for (at, grace) in
        [(made, 0), (made + 30, 30), (made - 30, 30), (0, 30), (made + 31, 30), (made - 31, 30)]
    {
        assert!(!asked(at, grace).await, "{at} {grace}");
    }
    // Long before and long after, also with the longest grace: it must be live then.
    assert!(!asked(START + 20 * HOUR, Millis::MAX).await);
    for (at, grace) in
        [(made, 1), (made + 29, 30), (made - 29, 30), (0, Millis::MAX), (made + 9, Millis::MAX)]
    {
        assert!(asked(at, grace).await, "{at} {grace}");
    }
    assert_eq!(shown(store, &realm, family.id).await.retries, 5);
}

async fn retries_are_counted_up_to_the_most(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    let asked = async |most: u32| {
        let retry = Retry { from: 1, at: START + SECOND, grace: SECOND, most };
        told("retry", store.retry(&ctx(), &realm, family.id, &retry).await)
    };
    assert!(!asked(0).await);
    assert!(asked(1).await && !asked(1).await && asked(2).await && !asked(2).await && !asked(1).await);
    assert_eq!(shown(store, &realm, family.id).await.retries, 2);
    assert!(asked(u32::MAX).await);
}

async fn of_many_retries_at_once_no_more_than_the_most_are_counted(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    let realm: Arc<str> = bench.realm().into();
    for _ in 0..5 {
        let id = bench.renewed(&realm).await.id;
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (store, realm) = (Arc::clone(bench.either(n)), Arc::clone(&realm));
                tokio::spawn(async move { retry(&*store, &realm, id, 1, START + SECOND).await })
            })
            .collect();
        let mut counted = 0;
        for task in tasks {
            counted += u32::from(task.await.expect("a retry"));
        }
        assert_eq!(counted, 10);
        assert_eq!(shown(store, &realm, id).await.retries, 10);
    }
}

async fn what_is_confirmed_is_not_retried(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    assert!(retry(store, &realm, family.id, 1, START + SECOND).await);
    for _ in 0..2 {
        told("confirm", bench.other.confirm(&ctx(), &realm, family.id, 2).await);
        assert!(!retry(store, &realm, family.id, 1, START + SECOND).await);
        let expected = Family { retries: 1, confirmed: true, ..family.clone() };
        assert_eq!(shown(store, &realm, family.id).await, expected);
    }
    // The next generation is unconfirmed again.
    assert!(renew(store, &realm, family.id, 2, START + SECOND).await);
    assert!(retry(store, &realm, family.id, 2, START + SECOND).await);
}

async fn only_the_generation_that_is_good_is_confirmed(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.renewed(&realm).await;
    for generation in [0, 1, 3, u32::MAX] {
        told("confirm", store.confirm(&ctx(), &realm, family.id, generation).await);
    }
    told("confirm", store.confirm(&ctx(), &bench.realm(), family.id, 2).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn nothing_is_retried_when_its_end_has_come(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (idle_end, absolute_end) in [(START + 50, START + 90), (START + 90, START + 50)] {
        let family = Family { generation: 2, idle_end, absolute_end, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        assert!(!retry(store, &realm, family.id, 1, START + 50).await);
        assert!(!retry(store, &realm, family.id, 1, START + 51).await);
        assert!(retry(store, &realm, family.id, 1, START + 49).await);
    }
    let family = bench.renewed(&realm).await;
    end(store, &realm, &Ends::Family(family.id), START + SECOND, EndReason::Logout).await;
    assert!(!retry(store, &realm, family.id, 1, START + SECOND).await);
}

async fn an_end_is_kept_as_it_was_first(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (n, reason) in EndReason::ALL.into_iter().enumerate() {
        let family = bench.renewed(&realm).await;
        let what = Ends::Family(family.id);
        assert_eq!(end(store, &realm, &what, START + 7, reason).await, 1);
        let ended = Family { ended: Some((START + 7, reason)), ..family.clone() };
        assert_eq!(shown(&*bench.other, &realm, family.id).await, ended);
        let again = EndReason::ALL.get(5 - n).copied().unwrap_or(reason);
        assert_eq!(end(&*bench.other, &realm, &what, START + 3, again).await, 0);
        assert_eq!(end(store, &realm, &Ends::Person("calvin"), START + 9, again).await, 0);
        assert_eq!(end(store, &realm, &Ends::Realm, START + 9, again).await, 0);
        assert_eq!(shown(store, &realm, family.id).await, ended);
    }
}

async fn nothing_revives_a_family(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let family = bench.begin(&realm, "calvin").await;
    end(store, &realm, &Ends::Person("calvin"), START + 1, EndReason::PasswordChanged).await;
    let ended = shown(store, &realm, family.id).await;
    for at in [0, START, START + 1, START + 2] {
        assert!(
            !renew(store, &realm, family.id, 1, at).await && !retry(store, &realm, family.id, 0, at).await
        );
    }
    told("confirm", store.confirm(&ctx(), &realm, family.id, 1).await);
    invalid(store.begin(&ctx(), &family).await);
    assert_eq!(end(store, &realm, &Ends::Family(family.id), START, EndReason::Revoked).await, 0);
    told("clean", store.clean(&ctx(), START + 2, 1_000).await);
    let now = shown(store, &realm, family.id).await;
    assert_eq!(Family { confirmed: false, ..now }, ended);
    assert!(sessions(store, &realm, "calvin", START + 2, 10).await.is_empty());
}

async fn a_person_s_families_end_together_and_nobody_else_s(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut hers = Vec::new();
    for _ in 0..5 {
        hers.push(bench.begin(&realm, "susie").await);
    }
    let his = bench.begin(&realm, "calvin").await;
    let first = hers.first().expect("some").id;
    end(store, &realm, &Ends::Family(first), START + 1, EndReason::Logout).await;
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 2, EndReason::LogoutAll).await, 4);
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 3, EndReason::LogoutAll).await, 0);
    for family in &hers {
        let reason = if family.id == first { EndReason::Logout } else { EndReason::LogoutAll };
        let ended = shown(&*bench.other, &realm, family.id).await.ended;
        assert_eq!(ended.map(|(_, reason)| reason), Some(reason));
        assert!(!renew(&*bench.other, &realm, family.id, 1, START + 3).await);
    }
    assert!(sessions(store, &realm, "susie", START + 3, 10).await.is_empty());
    assert_eq!(shown(store, &realm, his.id).await, his);
    assert!(renew(store, &realm, his.id, 1, START + 3).await);
}

async fn a_realm_s_families_end_together_and_no_other_s(store: &dyn Families, bench: &FamilyBench) {
    let (realm, other) = (bench.realm(), bench.realm());
    let mut all = Vec::new();
    for login in ["calvin", "susie", "calvin", "zo\u{e9}"] {
        all.push(bench.begin(&realm, login).await);
    }
    let spared = bench.begin(&other, "calvin").await;
    end(store, &realm, &Ends::Person("susie"), START + 1, EndReason::Account).await;
    assert_eq!(end(store, &realm, &Ends::Realm, START + 2, EndReason::Revoked).await, 3);
    assert_eq!(end(store, &realm, &Ends::Realm, START + 3, EndReason::Logout).await, 0);
    for family in &all {
        let expected = if family.login == "susie" {
            (START + 1, EndReason::Account)
        } else {
            (START + 2, EndReason::Revoked)
        };
        let now = shown(&*bench.other, &realm, family.id).await;
        assert_eq!(now, Family { ended: Some(expected), ..family.clone() });
        assert!(!renew(store, &realm, family.id, 1, START + 3).await);
        assert!(!retry(store, &realm, family.id, 0, START + 3).await);
        assert!(sessions(store, &realm, &family.login, START + 3, 10).await.is_empty());
        assert_eq!(end(store, &realm, &Ends::Family(family.id), START + 3, EndReason::Logout).await, 0);
        assert_eq!(end(store, &realm, &Ends::Person(&family.login), START + 3, EndReason::Logout).await, 0);
        assert_eq!(shown(store, &realm, family.id).await, now);
    }
    assert_eq!(shown(store, &other, spared.id).await, spared);
    assert!(renew(store, &other, spared.id, 1, START + 3).await);
}

async fn what_begins_after_an_end_lives(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for (n, what) in [Ends::Person("calvin"), Ends::Realm, Ends::Realm, Ends::Person("calvin"), Ends::Realm]
        .into_iter()
        .enumerate()
    {
        let at = START + 10 * n as u64;
        let family = bench.begin(&realm, "calvin").await;
        assert_eq!(sessions(store, &realm, "calvin", at, 10).await.len(), 1);
        assert!(renew(store, &realm, family.id, 1, at).await);
        assert_eq!(end(&*bench.other, &realm, &what, at + 1, EndReason::Revoked).await, 1, "{n}");
        assert!(!renew(store, &realm, family.id, 2, at + 1).await);
        assert_eq!(shown(store, &realm, family.id).await.ended, Some((at + 1, EndReason::Revoked)));
    }
    // A clock that is behind makes nobody's session an old one.
    let late = Family { created_at: START - HOUR, ..bench.family(&realm, "calvin") };
    told("begin", store.begin(&ctx(), &late).await);
    assert!(renew(store, &realm, late.id, 1, START).await);
}

async fn of_many_ends_at_once_each_family_counts_for_one(store: &dyn Families, bench: &FamilyBench) {
    for what in [Ends::Person("calvin"), Ends::Realm] {
        let realm = bench.realm();
        for _ in 0..20 {
            bench.begin(&realm, "calvin").await;
        }
        let ends = (0..8).map(|n| {
            let (store, realm, what) = (Arc::clone(bench.either(n)), realm.clone(), &what);
            async move { end(&*store, &realm, what, START + 1, EndReason::LogoutAll).await }
        });
        assert_eq!(join_all(ends).await.iter().sum::<u64>(), 20, "{what:?}");
        assert!(sessions(store, &realm, "calvin", START + 2, 100).await.is_empty());
    }
}

async fn an_end_revokes_what_was_issued_before(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let (his, hers) = (bench.begin(&realm, "calvin").await, bench.begin(&realm, "susie").await);
    let of_his = Issued { family: Some(his.id), ..bench.token("calvin", Some(START + 5)) };
    let of_hers = Issued { family: Some(hers.id), ..bench.token("susie", Some(START + 5)) };
    let others = bench.token("calvin", Some(START + 5));
    let now = START + 10;
    for token in [&of_his, &of_hers, &others] {
        assert!(!is_revoked(store, &realm, token, now).await);
    }
    end(store, &realm, &Ends::Family(his.id), START + 1, EndReason::Logout).await;
    assert!(is_revoked(&*bench.other, &realm, &of_his, now).await, "of that family, whenever it was issued");
    assert!(
        !is_revoked(store, &realm, &of_hers, now).await && !is_revoked(store, &realm, &others, now).await
    );
    end(store, &realm, &Ends::Person("calvin"), START + 5, EndReason::LogoutAll).await;
    assert!(is_revoked(&*bench.other, &realm, &others, now).await);
    assert!(!is_revoked(store, &realm, &bench.token("calvin", Some(START + 6)), now).await);
    assert!(!is_revoked(store, &realm, &of_hers, now).await);
    end(store, &realm, &Ends::Realm, START + 5, EndReason::Revoked).await;
    assert!(is_revoked(&*bench.other, &realm, &of_hers, now).await);
    assert!(!is_revoked(store, &realm, &bench.token("susie", Some(START + 6)), now).await);
    assert!(is_revoked(store, &realm, &of_his, START + 5 + HOUR - 1).await);
    assert!(!is_revoked(store, &realm, &of_his, START + 5 + HOUR).await, "it has ended by then");
}

async fn an_end_of_what_is_unknown_revokes_all_the_same(store: &dyn Families, bench: &FamilyBench) {
    let (realm, id) = (bench.realm(), bench.id());
    let of_it = Issued { family: Some(id), ..bench.token("moe", Some(START)) };
    assert_eq!(end(store, &realm, &Ends::Family(id), START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &of_it, START + 2).await);
    let hers = bench.token("susie", Some(START));
    assert_eq!(end(store, &realm, &Ends::Person("susie"), START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &hers, START + 2).await);
    let realm = bench.realm();
    assert_eq!(end(store, &realm, &Ends::Realm, START + 1, EndReason::Logout).await, 0);
    assert!(is_revoked(store, &realm, &hers, START + 2).await);
    // What begins under that id afterwards was not ended.
    let realm = bench.realm();
    let family = bench.family(&realm, "calvin");
    assert_eq!(end(store, &realm, &Ends::Family(family.id), START, EndReason::Logout).await, 0);
    told("begin", store.begin(&ctx(), &family).await);
    assert_eq!(shown(store, &realm, family.id).await, family);
}

async fn who_sees_an_end_sees_its_revocation(_store: &dyn Families, bench: &FamilyBench) {
    let rounds = (bench.rounds / 20).max(1);
    for round in 0..rounds {
        let realm = bench.realm();
        let family = bench.begin(&realm, "calvin").await;
        let token = Issued { family: Some(family.id), ..bench.token("calvin", Some(START)) };
        let what = [Ends::Family(family.id), Ends::Person("calvin"), Ends::Realm];
        let what = what.get(round as usize % 3).copied().unwrap_or(Ends::Realm);
        let ending = end(&*bench.store, &realm, &what, START + 1, EndReason::Logout);
        let watching = async {
            let other = &*bench.other;
            loop {
                let ended = shown(other, &realm, family.id).await.ended.is_some();
                let revoked = is_revoked(other, &realm, &token, START + 1).await;
                assert!(revoked || !ended, "round {round}: ended, and its tokens go on");
                if ended {
                    return;
                }
            }
        };
        tokio::join!(ending, watching);
    }
}

async fn a_token_is_revoked_by_its_mark_or_its_family_whenever_it_was_issued(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    let (realm, id) = (bench.realm(), bench.id());
    for at in [None, Some(0), Some(START), Some(START + HOUR)] {
        let token = bench.token("calvin", at);
        let of_family = Issued { family: Some(id), ..bench.token("calvin", at) };
        assert!(!is_revoked(store, &realm, &token, START).await);
        revoke(store, &realm, &Revoked::Token(token.mark), START, START + HOUR).await;
        assert!(is_revoked(&*bench.other, &realm, &token, START).await, "{at:?}");
        assert!(is_revoked(store, &realm, &Issued { login: "susie", ..token }, START).await);
        let other = bench.id();
        assert!(
            !is_revoked(store, &realm, &Issued { family: Some(other), ..bench.token("calvin", at) }, START)
                .await
        );
        if at.is_none() {
            assert!(!is_revoked(store, &realm, &of_family, START).await);
            revoke(store, &realm, &Revoked::Family(id), START, START + HOUR).await;
        }
        assert!(is_revoked(&*bench.other, &realm, &of_family, START).await, "{at:?}");
        assert!(!is_revoked(store, &realm, &bench.token("calvin", at), START).await);
    }
}

async fn a_token_is_revoked_by_its_login_or_realm_if_it_was_issued_before(
    store: &dyn Families,
    bench: &FamilyBench,
) {
    for what in [Revoked::Person("calvin"), Revoked::Realm] {
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START + HOUR).await;
        for (at, revoked) in [
            (None, true),
            (Some(0), true),
            (Some(START - 1), true),
            (Some(START), true),
            (Some(START + 1), false),
            (Some(Millis::MAX), false),
        ] {
            let token = bench.token("calvin", at);
            assert_eq!(
                is_revoked(&*bench.other, &realm, &token, START + 2).await,
                revoked,
                "{what:?} {at:?}"
            );
            let hers = bench.token("susie", at);
            let revoked = revoked && what == Revoked::Realm;
            assert_eq!(is_revoked(store, &realm, &hers, START + 2).await, revoked, "{what:?} {at:?}");
        }
    }
}

/// What can be revoked, with a token that falls under it and nothing else.
fn all_kinds(bench: &FamilyBench) -> [(Revoked<'static>, Issued<'static>); 4] {
    let id = bench.id();
    let token = bench.token("calvin", Some(START - 1));
    let of_family = Issued { family: Some(id), ..bench.token("susie", Some(START - 1)) };
    [
        (Revoked::Token(token.mark), token),
        (Revoked::Family(id), of_family),
        (Revoked::Person("moe"), bench.token("moe", Some(START - 1))),
        (Revoked::Realm, bench.token("zo\u{e9}", Some(START - 1))),
    ]
}

async fn a_revocation_counts_until_its_end(store: &dyn Families, bench: &FamilyBench) {
    for (what, token) in all_kinds(bench) {
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START + 50).await;
        for (now, revoked) in
            [(0, true), (START, true), (START + 49, true), (START + 50, false), (Millis::MAX, false)]
        {
            assert_eq!(is_revoked(store, &realm, &token, now).await, revoked, "{what:?} {now}");
        }
        // Nothing to remember.
        let realm = bench.realm();
        revoke(store, &realm, &what, START, START).await;
        assert!(!is_revoked(store, &realm, &token, START).await);
    }
}

async fn the_later_moment_and_the_later_end_are_kept(store: &dyn Families, bench: &FamilyBench) {
    for (what, _) in all_kinds(bench) {
        let token = |at| match what {
            Revoked::Token(mark) => Issued { mark, ..bench.token("calvin", at) },
            Revoked::Family(id) => Issued { family: Some(id), ..bench.token("calvin", at) },
            _ => bench.token("moe", at),
        };
        // Each of both may come first, and stand in either.
        for turns in [
            [(START, START + 90), (START + 10, START + 50)],
            [(START + 10, START + 50), (START, START + 90)],
            [(START + 10, START + 90), (START, START + 50)],
            [(START, START + 50), (START + 10, START + 90)],
        ] {
            let realm = bench.realm();
            for (n, (at, until)) in turns.into_iter().enumerate() {
                revoke(&**bench.either(n), &realm, &what, at, until).await;
            }
            let now = START + 89;
            assert!(is_revoked(store, &realm, &token(Some(START + 10)), now).await, "{what:?} {turns:?}");
            assert!(!is_revoked(store, &realm, &token(Some(START)), START + 90).await);
            let whenever = matches!(what, Revoked::Token(_) | Revoked::Family(_));
            assert_eq!(is_revoked(store, &realm, &token(Some(START + 11)), now).await, whenever);
            // An end does as much.
            if what == Revoked::Realm {
                let ends = End { at: START + 5, reason: EndReason::Revoked, until: START + 200 };
                told("end", store.end(&ctx(), &realm, &Ends::Realm, &ends).await);
                assert!(is_revoked(store, &realm, &token(Some(START + 10)), START + 199).await);
                assert!(!is_revoked(store, &realm, &token(Some(START + 11)), START + 199).await);
            }
        }
    }
}

async fn of_many_revocations_at_once_the_latest_is_kept(store: &dyn Families, bench: &FamilyBench) {
    for _ in 0..5 {
        let realm = bench.realm();
        let revoking = (0..16_usize).map(|n| {
            let (store, realm) = (Arc::clone(bench.either(n)), realm.clone());
            async move {
                let (what, n) = (Revoked::Person("calvin"), n as u64);
                revoke(&*store, &realm, &what, START + n, START + HOUR + (n * 7) % 16).await;
            }
        });
        join_all(revoking).await;
        let token = bench.token("calvin", Some(START + 15));
        assert!(is_revoked(store, &realm, &token, START + HOUR + 14).await);
        assert!(!is_revoked(store, &realm, &token, START + HOUR + 15).await);
    }
}

async fn realms_know_nothing_of_each_other(store: &dyn Families, bench: &FamilyBench) {
    let (one, two) = (bench.realm(), bench.realm());
    let first = bench.begin(&one, "calvin").await;
    // The same id is another family elsewhere.
    let second = Family { realm: two.as_str().into(), scope: "other".to_owned(), ..first.clone() };
    told("begin", store.begin(&ctx(), &second).await);
    assert!(renew(store, &one, first.id, 1, START + 1).await);
    told("confirm", store.confirm(&ctx(), &one, first.id, 2).await);
    assert_eq!(shown(store, &two, first.id).await, second);
    assert_eq!(sessions(store, &two, "calvin", START, 10).await, std::slice::from_ref(&second));
    for what in [Ends::Family(first.id), Ends::Person("calvin"), Ends::Realm] {
        end(store, &one, &what, START + 1, EndReason::Logout).await;
    }
    assert_eq!(shown(store, &two, first.id).await, second);
    let token = Issued { family: Some(first.id), ..bench.token("calvin", Some(START)) };
    assert!(is_revoked(store, &one, &token, START + 2).await);
    assert!(!is_revoked(store, &two, &token, START + 2).await);
    revoke(store, &one, &Revoked::Token(token.mark), START + 1, START + HOUR).await;
    assert!(!is_revoked(store, &two, &token, START + 2).await);
    assert!(renew(store, &two, first.id, 1, START + 2).await);
}

async fn names_do_not_run_into_each_other(store: &dyn Families, bench: &FamilyBench) {
    let n = bench.number();
    // Realm and login read alike if they are put side by side, with anything between.
    let pairs = [
        (format!("{n}a"), "bc"),
        (format!("{n}ab"), "c"),
        (format!("{n}a:b"), "c"),
        (format!("{n}a"), "b:c"),
        (format!("{n}a:p:b"), "c"),
        (format!("{n}a%3Ab"), "c"),
        (format!("{n}a{{b"), "}c"),
        (format!("{n}a{{b}}"), "c"),
        (format!("{n}a'b"), "c"),
        (format!("{n}A"), "bc"),
        (format!("{n}a "), "bc"),
        (format!("{n}\u{e9}"), "bc"),
        (format!("{n}e\u{301}"), "bc"),
    ];
    let mut all = Vec::new();
    for (realm, login) in &pairs {
        all.push(bench.begin(realm, login).await);
    }
    for (which, family) in all.iter().enumerate() {
        assert_eq!(
            sessions(store, &family.realm, &family.login, START, 10).await,
            std::slice::from_ref(family)
        );
        assert_eq!(
            end(store, &family.realm, &Ends::Person(&family.login), START, EndReason::Logout).await,
            1
        );
        for (n, other) in all.iter().enumerate() {
            let token = bench.token(&other.login, Some(START));
            assert_eq!(shown(store, &other.realm, other.id).await.ended.is_some(), n <= which, "{other:?}");
            assert_eq!(is_revoked(store, &other.realm, &token, START).await, n <= which, "{other:?}");
        }
    }
}

async fn logins_are_compared_byte_for_byte(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let longest = "\u{e9}".repeat(127) + "x";
    let logins: Vec<&str> = LOGINS.into_iter().chain([longest.as_str()]).collect();
    let mut all = Vec::new();
    for login in &logins {
        all.push(bench.begin(&realm, login).await);
    }
    for family in &all {
        assert_eq!(sessions(store, &realm, &family.login, START, 100).await, std::slice::from_ref(family));
    }
    for (which, login) in logins.iter().enumerate() {
        assert_eq!(
            end(store, &realm, &Ends::Person(login), START + 1, EndReason::Account).await,
            1,
            "{login:?}"
        );
        for (n, family) in all.iter().enumerate() {
            let live = sessions(&*bench.other, &realm, &family.login, START + 1, 100).await;
            assert_eq!(live.is_empty(), n <= which, "{login:?} {:?}", family.login);
            let token = bench.token(&family.login, None);
            assert_eq!(is_revoked(store, &realm, &token, START + 1).await, n <= which, "{:?}", family.login);
        }
    }
}

async fn sessions_are_those_that_live_the_newest_first(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let mut expected = Vec::new();
    for n in [3, 1, 4, 0, 2] {
        let family = Family {
            created_at: START + n,
            device: Device { name: Some(n.to_string()), ..Device::default() },
            ..bench.family(&realm, "calvin")
        };
        told("begin", store.begin(&ctx(), &family).await);
        expected.push(family);
    }
    expected.sort_by_key(|family| std::cmp::Reverse(family.created_at));
    let idle = Family { created_at: START + 9, idle_end: START + 50, ..bench.family(&realm, "calvin") };
    let over = Family { created_at: START + 9, absolute_end: START + 50, ..bench.family(&realm, "calvin") };
    let gone = Family { created_at: START + 9, ..bench.family(&realm, "calvin") };
    for family in [&idle, &over, &gone] {
        told("begin", store.begin(&ctx(), family).await);
    }
    bench.begin(&realm, "susie").await;
    end(store, &realm, &Ends::Family(gone.id), START + 10, EndReason::Logout).await;
    assert_eq!(sessions(store, &realm, "calvin", START + 49, 100).await.len(), 7);
    for handle in [&bench.store, &bench.other] {
        assert_eq!(sessions(&**handle, &realm, "calvin", START + 50, 100).await, expected);
    }
    assert!(sessions(store, &realm, "calvin", Millis::MAX, 100).await.is_empty());
    // A renewal makes nothing newer.
    let last = expected.last().expect("some").id;
    assert!(renew(store, &realm, last, 1, START + 20).await);
    let listed = sessions(store, &realm, "calvin", START + 50, 100).await;
    assert_eq!(listed.iter().map(|family| family.id).collect::<Vec<_>>().last(), Some(&last));
    assert_eq!(listed.last().map(|family| family.generation), Some(2), "as it is now");
}

async fn sessions_are_no_more_than_asked_for(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    for n in 0..12 {
        let family = Family { created_at: START + n, ..bench.family(&realm, "calvin") };
        told("begin", store.begin(&ctx(), &family).await);
        // The newest are dead, and count for nothing.
        if n >= 10 {
            end(store, &realm, &Ends::Family(family.id), START + n, EndReason::Logout).await;
        }
    }
    for (most, count) in [(0, 0), (1, 1), (3, 3), (10, 10), (11, 10), (u32::MAX, 10)] {
        let listed = sessions(store, &realm, "calvin", START + 20, most).await;
        assert_eq!(listed.len(), count, "{most}");
        let times: Vec<_> = listed.iter().map(|family| family.created_at - START).collect();
        assert_eq!(times, (0..10).rev().take(count).collect::<Vec<_>>());
    }
}

async fn what_may_go_is_deleted_in_batches_and_nothing_else(store: &dyn Families, bench: &FamilyBench) {
    // Before what the other cases have begun, so that it is these that go.
    let now = START - 100 * HOUR;
    while told("clean", store.clean(&ctx(), now, 1_000).await) > 0 {}
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for n in 0..25 {
        let realm = bench.realm();
        let (created_at, idle_end) = (now - HOUR, now - 50);
        let old =
            Family { created_at, idle_end, absolute_end: now - n % 3, ..bench.family(&realm, "calvin") };
        let young = Family { created_at, idle_end, absolute_end: now + 1, ..bench.family(&realm, "calvin") };
        for family in [&old, &young] {
            told("begin", store.begin(&ctx(), family).await);
        }
        // Who has ended is kept as long as who has not.
        if n % 2 == 0 {
            end(store, &realm, &Ends::Person("calvin"), now - HOUR, EndReason::Logout).await;
        }
        if n % 5 == 0 {
            end(store, &realm, &Ends::Realm, now - HOUR, EndReason::Logout).await;
        }
        gone.push(old);
        kept.push(shown(store, &realm, young.id).await);
    }
    let realm = bench.realm();
    let (ended, needed) = (bench.mark(), bench.mark());
    revoke(store, &realm, &Revoked::Token(ended), now - HOUR, now).await;
    revoke(store, &realm, &Revoked::Token(needed), now - HOUR, now + 1).await;
    assert_eq!(told("clean", store.clean(&ctx(), now, 0).await), 0);
    let some = told("clean", store.clean(&ctx(), now, 10).await);
    assert!((1..=20).contains(&some), "ten of each at most: {some}");
    let mut left = 0;
    for family in &gone {
        left += u32::from(lookup(store, &family.realm, family.id).await != Lookup::NotFound);
    }
    assert!(left >= 15, "ten at most: {left} are left");
    let mut rounds = 0;
    while told("clean", bench.other.clean(&ctx(), now, 10).await) > 0 {
        rounds += 1;
        assert!(rounds < 100, "it has no end");
    }
    for family in &gone {
        assert_eq!(lookup(store, &family.realm, family.id).await, Lookup::NotFound);
        assert!(
            sessions(store, &family.realm, "calvin", now - 60, 10)
                .await
                .iter()
                .all(|live| live.id != family.id)
        );
    }
    for family in &kept {
        assert_eq!(&shown(store, &family.realm, family.id).await, family);
    }
    let token = |mark| Issued { mark, ..bench.token("calvin", None) };
    assert!(is_revoked(store, &realm, &token(needed), now).await);
    assert!(!is_revoked(store, &realm, &token(ended), now).await);
    // An id that is gone may be had again.
    let again = gone.first().expect("some");
    told("begin", store.begin(&ctx(), again).await);
    assert_eq!(&shown(store, &again.realm, again.id).await, again);
    while told("clean", store.clean(&ctx(), now, 1_000).await) > 0 {}
}

async fn the_first_and_the_last_moments_are_kept(store: &dyn Families, bench: &FamilyBench) {
    let realm = bench.realm();
    let first = Family {
        rotated_at: 0,
        created_at: 0,
        last_used_at: 0,
        idle: 0,
        idle_end: 1,
        absolute_end: 1,
        ended: None,
        ..bench.family(&realm, "calvin")
    };
    let last = Family {
        rotated_at: Family::MAX_TIME,
        created_at: Family::MAX_TIME,
        last_used_at: Family::MAX_TIME,
        idle: Family::MAX_TIME,
        idle_end: Family::MAX_TIME,
        absolute_end: Family::MAX_TIME,
        ..bench.family(&realm, "susie")
    };
    for family in [&first, &last] {
        told("begin", store.begin(&ctx(), family).await);
        assert_eq!(&shown(&*bench.other, &realm, family.id).await, family);
    }
    let renewal = |at| Renewal { from: 1, at, idle_end: Millis::MAX };
    assert!(!told("renew", store.renew(&ctx(), &realm, first.id, &renewal(1)).await));
    assert!(told("renew", store.renew(&ctx(), &realm, first.id, &renewal(0)).await));
    assert!(!told("renew", store.renew(&ctx(), &realm, last.id, &renewal(Family::MAX_TIME)).await));
    assert!(told("renew", store.renew(&ctx(), &realm, last.id, &renewal(Family::MAX_TIME - 1)).await));
    assert!(shown(store, &realm, last.id).await.is_live(Family::MAX_TIME - 1));
    assert_eq!(sessions(store, &realm, "susie", Family::MAX_TIME - 1, 10).await.len(), 1);
    let (what, token) = (Revoked::Person("hobbes"), bench.token("hobbes", Some(Family::MAX_TIME)));
    revoke(store, &realm, &what, 0, Millis::MAX).await;
    assert!(is_revoked(store, &realm, &bench.token("hobbes", Some(0)), Family::MAX_TIME - 1).await);
    assert!(!is_revoked(store, &realm, &token, 0).await);
    revoke(store, &realm, &what, Millis::MAX, Millis::MAX).await;
    assert!(is_revoked(store, &realm, &token, 0).await);
    let ends = End { at: 0, reason: EndReason::Logout, until: 0 };
    assert_eq!(told("end", store.end(&ctx(), &realm, &Ends::Family(last.id), &ends).await), 1);
    assert_eq!(shown(store, &realm, last.id).await.ended, Some((0, EndReason::Logout)));
}
