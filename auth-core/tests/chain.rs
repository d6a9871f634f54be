//! The password chain against its table: row by row, then exhaustively against a second implementation.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;

use Reject::{BadPassword, Disabled, NoPassword, UnknownUser};
use Tell::{Accepts, Fails, Rejects};
use auth_core::{
    ChainEntry, Ctx, ErrorKind, GroupOracle, GroupUnion, Id, Link, Linked, Lookup, Member, Next, NoOwners,
    Owners, PasswordChain, PasswordSource, Reject, Result, Role, StoredHash, Verdict,
};
use auth_testkit::{ByTable, ManualClock, MemoryStore, login, password, principal_at};
use common::{Book, FINAL, KINDS, Log, Says, Tell, now};
use proptest::prelude::*;

const DOWN: Tell = Fails(ErrorKind::Unavailable);

/// A source of a chain with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    tell: Tell,
    role: Role,
    bad: Next,
    error: Next,
}

const fn says(tell: Tell) -> Cell {
    Cell { tell, role: Role::Decide, bad: Next::Stop, error: Next::Continue }
}

impl Cell {
    const fn bad_goes_on(self) -> Self {
        Self { bad: Next::Continue, ..self }
    }
    const fn error_stops(self) -> Self {
        Self { error: Next::Stop, ..self }
    }
    const fn denies(self) -> Self {
        Self { role: Role::Deny, ..self }
    }
    fn entry(self, source: Arc<dyn PasswordSource>) -> ChainEntry {
        ChainEntry::new(source).with_role(self.role).on_bad_password(self.bad).on_error(self.error)
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What came of a question: an outcome as text, who was asked in order, and who owns the login then.
#[derive(Debug, PartialEq)]
struct Seen {
    outcome: String,
    asked: Vec<String>,
    owner: Option<String>,
}

fn shown(outcome: &Result<Verdict>) -> String {
    match outcome {
        Ok(Verdict::Accepted(who)) => format!("accepted by {}", who.source()),
        Ok(Verdict::Rejected(reason)) => reason.to_string(),
        Err(error) => format!("{} at {}", error.kind(), error.origin().unwrap_or("nobody")),
    }
}

fn entries(cells: &[Cell], log: &Log) -> Vec<ChainEntry> {
    let entry = |(name, cell): (&&str, &Cell)| cell.entry(Arc::new(Says::new(name, cell.tell).logged(log)));
    NAMES.iter().zip(cells).map(entry).collect()
}

fn owned(owner: Option<&str>) -> Arc<Book> {
    let book = Arc::new(Book::default());
    if let Some(owner) = owner {
        book.remember(&login("calvin"), &owner.into());
    }
    book
}

fn verify(cells: &[Cell], owner: Option<&str>) -> Seen {
    let (log, book) = (Log::default(), owned(owner));
    let chain = PasswordChain::new(entries(cells, &log), Arc::<Book>::clone(&book)).unwrap();
    let outcome = now(chain.verify(&Ctx::new(), &login("calvin"), &password("hobbes")));
    seen(shown(&outcome), &log, &book)
}

fn account(cells: &[Cell], owner: Option<&str>) -> Seen {
    let (log, book) = (Log::default(), owned(owner));
    let chain = PasswordChain::new(entries(cells, &log), Arc::<Book>::clone(&book)).unwrap();
    let outcome = match now(chain.account(&Ctx::new(), &login("calvin"))) {
        Ok(Lookup::Found(account)) => format!("found at {}", account.principal().source()),
        Ok(Lookup::NotFound) => "not found".to_owned(),
        Err(error) => format!("{} at {}", error.kind(), error.origin().unwrap_or("nobody")),
    };
    seen(outcome, &log, &book)
}

fn seen(outcome: String, log: &Log, book: &Book) -> Seen {
    let owner = book.owner(&login("calvin")).map(|name| name.to_string());
    Seen { outcome, asked: log.lock().unwrap().clone(), owner }
}

/// Checks a chain that knows no owner yet: what it says, and who was asked.
#[track_caller]
fn check(cells: &[Cell], outcome: &str, asked: &[&str]) {
    let seen = verify(cells, None);
    assert_eq!((seen.outcome.as_str(), &*seen.asked), (outcome, &*owned_names(asked)), "{cells:?}");
}

/// Checks a chain that knows an owner: what it says, who was asked, and who owns the login then.
#[track_caller]
fn check_owned(owner: Option<&str>, cells: &[Cell], outcome: &str, asked: &[&str], then: Option<&str>) {
    let (outcome, asked) = (outcome.to_owned(), owned_names(asked));
    let expected = Seen { outcome, asked, owner: then.map(str::to_owned) };
    assert_eq!(verify(cells, owner), expected, "{cells:?}");
}

fn owned_names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_first_source_that_accepts_is_believed_and_nobody_else_is_asked() {
    check(&[says(Accepts), says(Accepts)], "accepted by a", &["a"]);
    check(&[says(Rejects(UnknownUser)), says(Accepts)], "accepted by b", &["a", "b"]);
}

#[test]
fn a_refusal_after_a_right_password_stops_whatever_the_settings() {
    for reason in FINAL {
        let settings = says(Rejects(reason)).bad_goes_on().error_stops();
        check(&[settings, says(Accepts)], reason.as_str(), &["a"]);
        check(&[says(Rejects(reason)), says(Accepts)], reason.as_str(), &["a"]);
        check(&[says(DOWN), says(Rejects(reason)), says(Accepts)], reason.as_str(), &["a", "b"]);
    }
}

#[test]
fn an_unknown_user_is_asked_for_everywhere() {
    let unknown = says(Rejects(UnknownUser));
    check(&[unknown, unknown, unknown], "unknown_user", &["a", "b", "c"]);
    check(&[unknown.bad_goes_on().error_stops(), says(Accepts)], "accepted by b", &["a", "b"]);
}

#[test]
fn a_wrong_or_missing_password_stops() {
    for reason in [BadPassword, NoPassword] {
        check(&[says(Rejects(reason)), says(Accepts)], reason.as_str(), &["a"]);
    }
}

#[test]
fn a_wrong_or_missing_password_goes_on_where_that_is_set() {
    for reason in [BadPassword, NoPassword] {
        let no = says(Rejects(reason)).bad_goes_on();
        check(&[no, says(Accepts)], "accepted by b", &["a", "b"]);
        check(&[no, says(Rejects(UnknownUser))], reason.as_str(), &["a", "b"]);
        check(&[no, says(Rejects(Disabled))], "disabled", &["a", "b"]);
    }
    let (bad, none) = (says(Rejects(BadPassword)), says(Rejects(NoPassword)));
    check(&[bad.bad_goes_on(), none], "bad_password", &["a", "b"]);
    check(&[none.bad_goes_on(), bad], "no_password", &["a", "b"]);
}

#[test]
fn an_error_is_remembered_and_the_next_source_is_asked() {
    for kind in KINDS {
        let failed = format!("{kind} at a");
        check(&[says(Fails(kind)), says(Accepts)], "accepted by b", &["a", "b"]);
        check(&[says(Fails(kind)), says(Rejects(UnknownUser))], &failed, &["a", "b"]);
        check(&[says(Fails(kind)), says(Rejects(BadPassword)), says(Accepts)], &failed, &["a", "b"]);
        check(&[says(Fails(kind)).error_stops(), says(Accepts)], &failed, &["a"]);
    }
}

#[test]
fn at_the_end_an_error_outranks_a_soft_no_and_a_soft_no_outranks_unknown() {
    let (unknown, bad) = (says(Rejects(UnknownUser)), says(Rejects(BadPassword)).bad_goes_on());
    check(&[bad, says(DOWN), unknown], "unavailable at b", &["a", "b", "c"]);
    check(&[bad, unknown, says(DOWN)], "unavailable at c", &["a", "b", "c"]);
    check(&[unknown, bad, unknown], "bad_password", &["a", "b", "c"]);
    check(&[says(Fails(ErrorKind::Timeout)), says(DOWN), unknown], "timeout at a", &["a", "b", "c"]);
}

#[test]
fn whoever_a_deny_source_knows_is_refused() {
    let deny = |tell| says(tell).denies();
    // It is asked before those that decide, wherever it stands.
    check(&[says(Accepts), deny(Rejects(UnknownUser))], "accepted by a", &["b", "a"]);
    check(&[says(Accepts), deny(Accepts)], "disabled", &["b"]);
    for reason in [BadPassword, NoPassword].into_iter().chain(FINAL) {
        check(&[says(Accepts), deny(Rejects(reason)).bad_goes_on()], "disabled", &["b"]);
    }
}

#[test]
fn a_deny_source_that_fails_stops_the_chain_whatever_its_settings() {
    for kind in KINDS {
        check(&[says(Accepts), says(Fails(kind)).denies()], &format!("{kind} at b"), &["b"]);
    }
    let unknown = says(Rejects(UnknownUser)).denies();
    check(&[says(Accepts), unknown, says(DOWN).denies()], "unavailable at c", &["b", "c"]);
}

#[test]
fn a_denied_person_has_no_account() {
    assert_eq!(account(&[says(Accepts), says(Accepts).denies()], None).outcome, "not found");
    assert_eq!(account(&[says(Accepts), says(DOWN).denies()], None).outcome, "unavailable at b");
    assert_eq!(account(&[says(Accepts), says(Rejects(UnknownUser)).denies()], None).outcome, "found at a");
}

#[test]
fn a_chain_that_makes_no_sense_is_not_built() {
    let kind = |cells: &[(&str, Cell)]| {
        let entries = cells.iter().map(|(name, cell)| cell.entry(Arc::new(Says::new(name, cell.tell))));
        PasswordChain::new(entries.collect(), Arc::new(NoOwners)).unwrap_err().kind()
    };
    assert_eq!(kind(&[]), ErrorKind::Misconfigured);
    assert_eq!(kind(&[("a", says(Accepts).denies())]), ErrorKind::Misconfigured);
    assert_eq!(kind(&[("a", says(Accepts)), ("a", says(Accepts))]), ErrorKind::Misconfigured);
    assert_eq!(kind(&[("a", says(Accepts)), ("a", says(Accepts).denies())]), ErrorKind::Misconfigured);
}

#[test]
fn the_owner_is_asked_first() {
    check_owned(Some("b"), &[says(Accepts), says(Accepts)], "accepted by b", &["b"], Some("b"));
    for reason in FINAL.into_iter().chain([BadPassword, NoPassword]) {
        let no = [says(Accepts), says(Rejects(reason))];
        check_owned(Some("b"), &no, reason.as_str(), &["b"], Some("b"));
    }
}

#[test]
fn an_outage_of_the_owner_lets_no_twin_in() {
    for kind in KINDS {
        let twin = [says(Fails(kind)), says(Accepts)];
        check_owned(Some("a"), &twin, &format!("{kind} at a"), &["a"], Some("a"));
        assert_eq!(account(&twin, Some("a")).outcome, format!("{kind} at a"));
    }
}

#[test]
fn an_owner_that_no_longer_knows_the_login_is_forgotten() {
    let (unknown, moved) = (says(Rejects(UnknownUser)), [says(Accepts), says(Rejects(UnknownUser))]);
    check_owned(Some("b"), &moved, "accepted by a", &["b", "a"], Some("a"));
    check_owned(Some("b"), &[unknown, unknown], "unknown_user", &["b", "a"], None);
    check_owned(Some("b"), &[says(DOWN), unknown], "unavailable at a", &["b", "a"], None);
}

#[test]
fn an_owner_that_goes_on_after_a_wrong_password_stays_until_somebody_else_is_sure() {
    let (unknown, bad) = (says(Rejects(UnknownUser)), says(Rejects(BadPassword)).bad_goes_on());
    check_owned(Some("b"), &[unknown, bad], "bad_password", &["b", "a"], Some("b"));
    check_owned(Some("b"), &[says(Accepts), bad], "accepted by a", &["b", "a"], Some("a"));
}

#[test]
fn a_source_becomes_the_owner_when_it_knows_the_login_and_nobody_before_it_failed() {
    let unknown = says(Rejects(UnknownUser));
    for tell in [Accepts, Rejects(BadPassword), Rejects(NoPassword), Rejects(Disabled)] {
        let seen = |cells: &[Cell]| verify(cells, None).owner;
        assert_eq!(seen(&[unknown, says(tell)]).as_deref(), Some("b"), "{tell:?}");
        assert_eq!(seen(&[says(DOWN), says(tell)]), None, "{tell:?}");
        assert_eq!(seen(&[says(DOWN), unknown, says(tell)]), None, "{tell:?}");
    }
    assert_eq!(verify(&[unknown, unknown], None).owner, None);
    assert_eq!(account(&[unknown, says(Rejects(Disabled))], None).owner.as_deref(), Some("b"));
    assert_eq!(account(&[says(DOWN), says(Accepts)], None).owner, None);
}

#[test]
fn an_owner_that_is_not_in_the_chain_is_passed_over() {
    check_owned(Some("z"), &[says(Accepts)], "accepted by a", &["a"], Some("a"));
    // A deny source owns nobody.
    let denied = [says(Accepts), says(Rejects(UnknownUser)).denies()];
    check_owned(Some("b"), &denied, "accepted by a", &["b", "a"], Some("a"));
}

#[test]
fn a_source_that_can_not_tell_unknown_from_wrong_owns_nobody_by_a_wrong_password() {
    let vague = Arc::new(Says::new("b", Rejects(BadPassword)).vague());
    let first = Arc::new(Says::new("a", Rejects(UnknownUser)));
    let both =
        || vec![ChainEntry::new(Arc::<Says>::clone(&first)), ChainEntry::new(Arc::<Says>::clone(&vague))];
    let book = Arc::new(Book::default());
    let chain = PasswordChain::new(both(), Arc::<Book>::clone(&book)).unwrap();
    assert!(!chain.source().capabilities().tells_unknown);
    let ask = || now(chain.verify(&Ctx::new(), &login("calvin"), &password("hobbes")));
    assert_eq!(ask().unwrap(), Verdict::Rejected(BadPassword));
    assert_eq!(book.owner(&login("calvin")), None);
    // So somebody who is added to the first source later can log in.
    first.set(Accepts);
    assert!(matches!(ask().unwrap(), Verdict::Accepted(_)));
}

/// The table, written as data: where the chain stops, and what it says of those asked so far.
mod reference {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Class {
        Final,
        Soft,
        Unknown,
        Error,
    }

    fn class(cell: &Cell, by_account: bool) -> Class {
        match cell.tell {
            Fails(_) => Class::Error,
            Rejects(UnknownUser) => Class::Unknown,
            Rejects(BadPassword | NoPassword) if !by_account => Class::Soft,
            _ => Class::Final,
        }
    }

    pub(super) fn answer(cells: &[Cell], owner: Option<&str>, by_account: bool) -> Seen {
        let class = |at: usize| class(&cells[at], by_account);
        let name = |at: usize| NAMES[at].to_owned();
        let all = || 0..cells.len();
        let told = |at: usize| match (cells[at].tell, by_account) {
            (Fails(kind), _) => format!("{kind} at {}", NAMES[at]),
            (Rejects(UnknownUser), true) => "not found".to_owned(),
            (_, true) => format!("found at {}", NAMES[at]),
            (Rejects(reason), false) => reason.to_string(),
            (_, false) => format!("accepted by {}", NAMES[at]),
        };

        let denying: Vec<usize> = all().filter(|at| cells[*at].role == Role::Deny).collect();
        let owner_at = all().find(|at| cells[*at].role == Role::Decide && Some(NAMES[*at]) == owner);
        let mut deciding: Vec<usize> = all().filter(|at| cells[*at].role == Role::Decide).collect();
        deciding.sort_by_key(|at| Some(*at) != owner_at);

        // A deny source that does not say "unknown" ends it.
        if let Some(end) = denying.iter().position(|at| class(*at) != Class::Unknown) {
            let outcome = match class(denying[end]) {
                Class::Error => told(denying[end]),
                _ if by_account => "not found".to_owned(),
                _ => "disabled".to_owned(),
            };
            let asked = denying[..=end].iter().map(|at| name(*at)).collect();
            return Seen { outcome, asked, owner: owner.map(str::to_owned) };
        }

        let stops = |at: &usize| match class(*at) {
            Class::Final => true,
            Class::Unknown => false,
            Class::Soft => cells[*at].bad == Next::Stop,
            Class::Error => cells[*at].error == Next::Stop || Some(*at) == owner_at,
        };
        let end = deciding.iter().position(stops);
        let heard = &deciding[..end.map_or(deciding.len(), |end| end + 1)];
        let last = end.map(|end| deciding[end]);
        let first_of = |what: Class| heard.iter().copied().find(|at| class(*at) == what);
        let outcome = match last.map(class) {
            Some(Class::Final | Class::Error) => told(last.unwrap()),
            _ => first_of(Class::Error)
                .or(first_of(Class::Soft))
                .map_or(if by_account { "not found" } else { "unknown_user" }.to_owned(), told),
        };
        let sure = first_of(Class::Error).is_none();
        let next_owner = match (last, owner_at) {
            (Some(last), _) if sure && matches!(class(last), Class::Final | Class::Soft) => Some(name(last)),
            (_, Some(owner)) if class(owner) == Class::Unknown => None,
            _ => owner.map(str::to_owned),
        };
        Seen { outcome, asked: denying.iter().chain(heard).map(|at| name(*at)).collect(), owner: next_owner }
    }

    /// The table's own answer may not be what the chain says: this shows that the comparison can fail.
    #[test]
    fn the_reference_tells_rows_apart() {
        let (bad, twin) = (says(Rejects(BadPassword)), says(Accepts));
        assert_eq!(answer(&[bad, twin], None, false).outcome, "bad_password");
        assert_eq!(answer(&[bad.bad_goes_on(), twin], None, false).outcome, "accepted by b");
        assert_eq!(answer(&[says(DOWN), twin], Some("a"), false).outcome, "unavailable at a");
        assert_eq!(answer(&[says(DOWN), twin], None, false).outcome, "accepted by b");
    }
}

/// Every cell that a chain can tell apart, settings that must not matter included.
fn cells() -> Vec<Cell> {
    let tells = [Accepts, Rejects(UnknownUser), Rejects(BadPassword), Rejects(NoPassword), DOWN];
    let mut cells = Vec::new();
    for tell in tells.into_iter().chain(FINAL.map(Rejects)) {
        for bad in [Next::Stop, Next::Continue] {
            for error in [Next::Stop, Next::Continue] {
                cells.push(Cell { tell, role: Role::Decide, bad, error });
            }
        }
    }
    cells.extend([Accepts, Rejects(UnknownUser), Rejects(BadPassword), DOWN].map(|tell| says(tell).denies()));
    cells
}

#[test]
fn every_chain_of_three_sources_follows_the_table() {
    let cells = cells();
    let mut chains = 0;
    for first in &cells {
        for second in &cells {
            for third in &cells {
                let chain = [*first, *second, *third];
                if chain.iter().all(|cell| cell.role == Role::Deny) {
                    continue;
                }
                for owner in [None, Some("a"), Some("b"), Some("c")] {
                    let expected = reference::answer(&chain, owner, false);
                    assert_eq!(verify(&chain, owner), expected, "{chain:?} {owner:?}");
                }
                chains += 1;
            }
        }
    }
    assert_eq!(chains, cells.len().pow(3) - 64);
}

#[test]
fn every_chain_of_three_sources_shows_accounts_by_the_table() {
    let tells = [Accepts, Rejects(UnknownUser), Rejects(BadPassword), DOWN];
    let mut cells: Vec<Cell> = tells.iter().map(|tell| says(*tell)).collect();
    cells.extend(tells.iter().map(|tell| says(*tell).error_stops()));
    cells.extend(tells.iter().map(|tell| says(*tell).denies()));
    for chain in cells.iter().flat_map(|a| cells.iter().flat_map(move |b| cells_of(*a, *b))) {
        for owner in [None, Some("a"), Some("b"), Some("c"), Some("z")] {
            assert_eq!(account(&chain, owner), reference::answer(&chain, owner, true), "{chain:?} {owner:?}");
        }
    }

    fn cells_of(a: Cell, b: Cell) -> impl Iterator<Item = [Cell; 3]> {
        let tells = [Accepts, Rejects(UnknownUser), DOWN];
        tells.into_iter().map(move |tell| [a, b, says(tell)])
    }
}

#[test]
fn two_people_of_one_login_and_one_id_never_mix() {
    let clock = ManualClock::new();
    let store = |name: &str, secret: &str, group: &str| {
        let store = MemoryStore::empty(name);
        store.add_user("calvin", Id::from(1), Some(StoredHash::new(secret.to_owned(), Some("plaintext"))));
        store.join("calvin", group);
        Arc::new(store)
    };
    let (app, staff) = (store("app", "hobbes", "tigers"), store("staff", "spaceman", "spiffs"));
    let decides = |store: &Arc<MemoryStore>| -> Arc<dyn PasswordSource> {
        Arc::new(ByTable::new(Arc::clone(store), Arc::<ManualClock>::clone(&clock)))
    };
    let entries = vec![
        ChainEntry::new(decides(&app)).on_bad_password(Next::Continue),
        ChainEntry::new(decides(&staff)),
    ];
    let chain = PasswordChain::new(entries, Arc::new(NoOwners)).unwrap();
    let ctx = Ctx::new();
    for (secret, source, own, other) in
        [("hobbes", "app", "tigers", "spiffs"), ("spaceman", "staff", "spiffs", "tigers")]
    {
        let verdict = now(chain.verify(&ctx, &login("calvin"), &password(secret))).unwrap();
        let Verdict::Accepted(who) = verdict else { panic!("{secret} is right") };
        assert_eq!((&**who.source(), who.id()), (source, &Id::from(1)));
        let oracles = [&app, &staff]
            .map(|store| -> Arc<dyn GroupOracle> { Arc::new(Linked::groups(Arc::clone(store), Link::None)) });
        let groups = GroupUnion::new(oracles.to_vec());
        assert_eq!(now(groups.is_member(&ctx, &who, own)).unwrap(), Member::Yes);
        assert_eq!(now(groups.is_member(&ctx, &who, other)).unwrap(), Member::No);
    }
    assert_ne!(principal_at("app", "calvin", Id::from(1)), principal_at("staff", "calvin", Id::from(1)));
}

/// Asks a chain of the cells, a chain whose only source is that chain, and one around that.
fn nested(cells: &[Cell], depth: usize) -> (String, Vec<String>) {
    let log = Log::default();
    let mut chain = PasswordChain::new(entries(cells, &log), Arc::new(Book::default())).unwrap();
    for _ in 0..depth {
        chain =
            PasswordChain::new(vec![ChainEntry::new(Arc::new(chain))], Arc::new(Book::default())).unwrap();
    }
    let outcome = now(chain.verify(&Ctx::new(), &login("calvin"), &password("hobbes")));
    let asked = log.lock().unwrap().clone();
    (shown(&outcome), asked)
}

#[test]
fn a_chain_in_a_chain_gives_the_answers_of_the_inner_one() {
    let cells = cells();
    for first in &cells {
        for second in &cells {
            let chain = [*first, *second];
            if chain.iter().all(|cell| cell.role == Role::Deny) {
                continue;
            }
            let flat = nested(&chain, 0);
            assert_eq!(nested(&chain, 1), flat, "{chain:?}");
            assert_eq!(nested(&chain, 2), flat, "{chain:?}");
        }
    }
}

#[test]
fn a_chain_as_the_first_source_answers_like_its_sources_in_a_row_while_all_are_up() {
    let tells = [Accepts, Rejects(UnknownUser), Rejects(BadPassword), Rejects(NoPassword), Rejects(Disabled)];
    for (first, second, third) in tells
        .iter()
        .flat_map(|a| tells.iter().map(move |b| (a, b)))
        .flat_map(|(a, b)| tells.iter().map(move |c| (says(*a), says(*b), says(*c))))
    {
        let log = Log::default();
        let inner = PasswordChain::new(entries(&[first, second], &log), Arc::new(Book::default())).unwrap();
        let last: Arc<dyn PasswordSource> = Arc::new(Says::new("c", third.tell).logged(&log));
        let entries = vec![ChainEntry::new(Arc::new(inner)), ChainEntry::new(last)];
        let outer = PasswordChain::new(entries, Arc::new(Book::default())).unwrap();
        let outcome = now(outer.verify(&Ctx::new(), &login("calvin"), &password("hobbes")));
        let flat = verify(&[first, second, third], None);
        assert_eq!((shown(&outcome), log.lock().unwrap().clone()), (flat.outcome, flat.asked));
    }
}

/// A source of which the chain may remember the verdict, the account, both or nothing.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    cell: Cell,
    verdict: bool,
    account: bool,
}

fn remembered() -> impl Strategy<Value = Remembered> {
    let tells = prop::sample::select(vec![
        Accepts,
        Rejects(UnknownUser),
        Rejects(UnknownUser),
        Rejects(BadPassword),
        Rejects(NoPassword),
        Rejects(Disabled),
        DOWN,
    ]);
    let deny = prop::bool::weighted(0.15);
    (tells, deny, any::<[bool; 4]>()).prop_map(|(tell, deny, [bad, error, verdict, account])| {
        let next = |goes_on| if goes_on { Next::Continue } else { Next::Stop };
        let role = if deny { Role::Deny } else { Role::Decide };
        Remembered { cell: Cell { tell, role, bad: next(bad), error: next(error) }, verdict, account }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_chain_says_from_memory_is_what_its_sources_say(
        sources in prop::collection::vec(remembered(), 1..=3),
        owner in prop::option::of(0_usize..3),
    ) {
        prop_assume!(sources.iter().any(|source| source.cell.role == Role::Decide));
        let owner = owner.map(|at| NAMES[at]);
        let entry = |(name, source): (&&str, &Remembered)| {
            let says = Says::new(name, source.cell.tell).remembering(source.verdict, source.account);
            source.cell.entry(Arc::new(says))
        };
        let entries = NAMES.iter().zip(&sources).map(entry).collect();
        let chain = PasswordChain::new(entries, owned(owner)).unwrap();
        let (ctx, calvin, hobbes) = (Ctx::new(), login("calvin"), password("hobbes"));
        if let Some(verdict) = chain.peek_verify(&ctx, &calvin, &hobbes) {
            prop_assert!(matches!(verdict, Verdict::Accepted(_)), "a refusal needs the whole table");
            prop_assert_eq!(Some(verdict), now(chain.verify(&ctx, &calvin, &hobbes)).ok());
        }
        // The verdict may have named an owner, as it would between two questions.
        if let Some(account) = chain.peek_account(&ctx, &calvin) {
            prop_assert_eq!(Some(account), now(chain.account(&ctx, &calvin)).ok());
        }
    }
}

#[test]
fn a_chain_answers_from_memory_when_its_sources_do() {
    let peek = |sources: &[(Cell, bool, bool)], owner| {
        let entry = |(name, (cell, verdict, account)): (&&str, &(Cell, bool, bool))| {
            cell.entry(Arc::new(Says::new(name, cell.tell).remembering(*verdict, *account)))
        };
        let chain = PasswordChain::new(NAMES.iter().zip(sources).map(entry).collect(), owned(owner)).unwrap();
        let verdict = chain.peek_verify(&Ctx::new(), &login("calvin"), &password("hobbes"));
        let source = |verdict| match verdict {
            Verdict::Accepted(who) => who.source().to_string(),
            Verdict::Rejected(reason) => reason.to_string(),
        };
        verdict.map(source)
    };
    let (yes, unknown, deny) =
        (says(Accepts), says(Rejects(UnknownUser)), says(Rejects(UnknownUser)).denies());
    assert_eq!(peek(&[(yes, true, false)], None).as_deref(), Some("a"));
    assert_eq!(peek(&[(unknown, false, true), (yes, true, false)], None).as_deref(), Some("b"));
    assert_eq!(peek(&[(unknown, false, false), (yes, true, false)], None), None);
    // With the owner known, the others need not be.
    assert_eq!(peek(&[(unknown, false, false), (yes, true, false)], Some("b")).as_deref(), Some("b"));
    assert_eq!(peek(&[(yes, true, true), (yes, false, false)], Some("b")), None);
    // A deny list that memory does not know must be asked.
    assert_eq!(peek(&[(yes, true, true), (deny, false, false)], None), None);
    assert_eq!(peek(&[(yes, true, true), (deny, false, true)], None).as_deref(), Some("a"));
    assert_eq!(peek(&[(yes, true, true), (says(Accepts).denies(), true, true)], None), None);
    assert_eq!(peek(&[(says(Rejects(BadPassword)), true, true)], None), None);
}
