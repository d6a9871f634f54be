//! Who and what is asked about, what a version of the source says, and what an invalidation covers.

use std::fmt;

use auth_core::{
    Access, Account, AccountState, Fence, GroupSet, Id, Login, LoginRule, Lookup, ObjectRef, Principal,
    RealmId, SourceInfo, Stamp, Subject, TokenId, TokenState,
};

use crate::{ManualClock, hash, info};
use auth_core::Clock as _;
use std::sync::Arc;
use std::time::Duration;

/// How many things are asked about in each run. The first and the last are the same person's where the
/// question has another part: an object, a token.
pub(crate) const SUBJECTS: usize = 3;

/// The kind of question that a run asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Accounts,
    Groups,
    Objects,
    Tokens,
}

/// What an answer says, without the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// This version of the subject.
    Version(u32),
    /// It is not there.
    NotFound,
    /// A right, which can't tell its version.
    Access(Access),
    /// Something that no source says of this subject.
    Garbage,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::NotFound => f.write_str("not found"),
            Self::Access(access) => f.write_str(access.as_str()),
            Self::Garbage => f.write_str("what nobody said"),
        }
    }
}

impl Kind {
    /// Returns what the source says in this version. Neighbors differ.
    pub(crate) const fn said(self, version: u32) -> Said {
        match (self, version % 4) {
            (Self::Accounts | Self::Groups, 3) => Said::NotFound,
            (Self::Objects, _) => Said::Access(match version % 3 {
                0 => Access::Allow,
                1 => Access::Deny,
                _ => Access::NotFound,
            }),
            _ => Said::Version(version),
        }
    }
}

/// What an invalidation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// A person, by login.
    Login(usize),
    /// A person, by id.
    Id(usize),
    /// An object.
    Object(usize),
    /// The groups of the realm.
    Groups,
    /// The realm.
    Realm,
    /// Everything.
    All,
    /// Somebody whom nothing is asked about, by login.
    Stranger,
    /// Somebody whom nothing is asked about, by id.
    StrangersId,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(person) => write!(f, "person {person}, by login"),
            Self::Id(person) => write!(f, "person {person}, by id"),
            Self::Object(object) => write!(f, "object {object}"),
            Self::Groups => f.write_str("the realm's groups"),
            Self::Realm => f.write_str("the realm"),
            Self::All => f.write_str("everything"),
            Self::Stranger => f.write_str("a stranger, by login"),
            Self::StrangersId => f.write_str("a stranger, by id"),
        }
    }
}

/// The names of a run.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) realm: RealmId,
    pub(crate) info: SourceInfo,
    people: Vec<Principal>,
    objects: Vec<ObjectRef>,
    stranger: Principal,
}

const EVERY: [Scope; 13] = [
    Scope::Login(0),
    Scope::Login(1),
    Scope::Login(2),
    Scope::Id(0),
    Scope::Id(1),
    Scope::Id(2),
    Scope::Object(0),
    Scope::Object(1),
    Scope::Groups,
    Scope::Realm,
    Scope::All,
    Scope::Stranger,
    Scope::StrangersId,
];

impl Cast {
    /// Finds names that do not meet on one stripe of this fence: two that do cost each other a miss, which is
    /// allowed, and would look like a cache that forgets.
    pub(crate) fn new(fence: &Fence) -> Self {
        let mut cast = (0..64).map(Self::named);
        cast.find(|cast| cast.is_apart_on(fence)).expect("names apart on the fence")
    }

    fn named(round: i64) -> Self {
        let realm = RealmId::new("race", LoginRule::Exact).expect("a possible realm");
        let info = info("held");
        let person = |n: i64| {
            let text = format!("person-{round}-{n}");
            let login = Login::parse(&realm, &text).expect("a possible login");
            Principal::found(&info, &login, &text, Id::from(round * 10 + n)).expect("a login is its own")
        };
        let (people, stranger) = ((0..3).map(person).collect(), person(9));
        let object = |n: i64| ObjectRef::new("doc", [Id::from(round * 10 + n)]).expect("a possible object");
        Self { people, objects: (0..2).map(object).collect(), stranger, info: info.clone(), realm }
    }

    fn is_apart_on(&self, fence: &Fence) -> bool {
        let stamps = |kind| (0..SUBJECTS).map(move |subject| self.stamp(fence, kind, subject));
        EVERY.iter().all(|scope| {
            [Kind::Accounts, Kind::Groups, Kind::Objects, Kind::Tokens].into_iter().all(|kind| {
                let before: Vec<Stamp> = stamps(kind).collect();
                self.name(*scope, |subject| fence.invalidate(subject));
                let same = before.into_iter().zip(stamps(kind)).map(|(before, after)| before == after);
                same.enumerate().all(|(subject, same)| same != self.covers(kind, *scope, subject, false))
            })
        })
    }

    fn stamp(&self, fence: &Fence, kind: Kind, subject: usize) -> Stamp {
        let who = self.person(kind, subject);
        match kind {
            Kind::Accounts | Kind::Tokens => fence.plus_id(fence.login(who.login()), who),
            Kind::Groups => fence.groups(who),
            Kind::Objects => fence.access(who, self.object(subject)),
        }
    }

    /// Reports whether an invalidation voids what is known of a subject. `absent`: that it is not there.
    #[allow(clippy::unused_self, reason = "what is covered is a property of the cast")]
    pub(crate) const fn covers(&self, kind: Kind, scope: Scope, subject: usize, absent: bool) -> bool {
        let whose = Self::whose(kind, subject);
        match scope {
            Scope::Login(person) => person == whose,
            // Nobody's account has nobody's id.
            Scope::Id(person) => person == whose && !(absent && matches!(kind, Kind::Accounts)),
            Scope::Object(object) => matches!(kind, Kind::Objects) && object == Self::which(subject),
            Scope::Groups => matches!(kind, Kind::Groups | Kind::Objects),
            Scope::Realm | Scope::All => true,
            Scope::Stranger | Scope::StrangersId => false,
        }
    }

    /// Calls with the name of what a scope is about.
    pub(crate) fn name(&self, scope: Scope, tell: impl FnOnce(&Subject<'_>)) {
        let realm = &self.realm;
        let person = |n: usize| self.people.get(n).unwrap_or(&self.stranger);
        let by_id = |who: &Principal, tell: &mut dyn FnMut(&Subject<'_>)| {
            tell(&Subject::Id { realm, source: who.source(), id: who.id() });
        };
        let mut tell = Some(tell);
        let mut tell = |subject: &Subject<'_>| {
            if let Some(tell) = tell.take() {
                tell(subject);
            }
        };
        match scope {
            Scope::Login(n) => tell(&Subject::Login(person(n).login())),
            Scope::Id(n) => by_id(person(n), &mut tell),
            Scope::Object(n) => match self.objects.get(n) {
                Some(object) => tell(&Subject::Object { realm, object }),
                None => tell(&Subject::Login(self.stranger.login())),
            },
            Scope::Groups => tell(&Subject::Groups(realm)),
            Scope::Realm => tell(&Subject::Realm(realm)),
            Scope::All => tell(&Subject::All),
            Scope::Stranger => tell(&Subject::Login(self.stranger.login())),
            Scope::StrangersId => by_id(&self.stranger, &mut tell),
        }
    }

    const fn whose(kind: Kind, subject: usize) -> usize {
        match kind {
            Kind::Objects | Kind::Tokens if subject == 2 => 0,
            _ => subject,
        }
    }

    const fn which(subject: usize) -> usize {
        if subject == 0 { 0 } else { 1 }
    }

    pub(crate) fn person(&self, kind: Kind, subject: usize) -> &Principal {
        self.people.get(Self::whose(kind, subject)).unwrap_or(&self.stranger)
    }

    pub(crate) fn object(&self, subject: usize) -> &ObjectRef {
        self.objects.get(Self::which(subject)).expect("two objects")
    }

    #[allow(clippy::unused_self, reason = "it belongs to the cast")]
    pub(crate) fn token(&self, subject: usize) -> TokenId {
        TokenId::new([u8::try_from(subject).unwrap_or(u8::MAX); 32])
    }

    /// Returns which subject a question with this login is about.
    pub(crate) fn subject_of(&self, login: &Login) -> Option<usize> {
        self.people.iter().position(|who| who.login() == login)
    }

    /// Returns which subject a question about this person and object is about.
    pub(crate) fn right_of(&self, who: &Principal, object: &ObjectRef) -> Option<usize> {
        (0..SUBJECTS)
            .find(|subject| self.person(Kind::Objects, *subject) == who && self.object(*subject) == object)
    }

    pub(crate) fn account(&self, subject: usize, version: u32) -> Lookup<Account> {
        match Kind::Accounts.said(version) {
            Said::Version(version) => {
                let who = self.person(Kind::Accounts, subject).clone();
                let hash = hash(&format!("$v${version}"));
                Lookup::Found(Account::new(who, AccountState::default(), Some(hash)))
            }
            _ => Lookup::NotFound,
        }
    }

    pub(crate) fn read_account(&self, subject: usize, answer: &Lookup<Account>) -> Said {
        let Lookup::Found(account) = answer else { return Said::NotFound };
        let version = account.hash().and_then(|hash| hash.as_str().strip_prefix("$v$")?.parse().ok());
        match version {
            Some(version) if account.principal() == self.person(Kind::Accounts, subject) => {
                Said::Version(version)
            }
            _ => Said::Garbage,
        }
    }

    #[allow(clippy::unused_self, reason = "it belongs to the cast")]
    pub(crate) fn groups(&self, subject: usize, version: u32) -> Lookup<GroupSet> {
        match Kind::Groups.said(version) {
            Said::Version(version) => Lookup::Found(marks(subject, version)),
            _ => Lookup::NotFound,
        }
    }

    #[allow(clippy::unused_self, reason = "it belongs to the cast")]
    pub(crate) fn read_groups(&self, subject: usize, answer: &Lookup<GroupSet>) -> Said {
        match answer {
            Lookup::Found(groups) => read_marks(subject, groups),
            Lookup::NotFound => Said::NotFound,
        }
    }

    pub(crate) fn state(&self, subject: usize, version: u32, clock: &ManualClock) -> Arc<TokenState> {
        let principal = self.person(Kind::Tokens, subject).clone();
        // Longer than any run: what ends first is the cache's lifetime.
        let expires_at = clock.wall() + Duration::from_secs(1_000_000);
        Arc::new(TokenState { principal, scopes: marks(subject, version), expires_at, claims: None })
    }

    pub(crate) fn read_state(&self, subject: usize, state: &TokenState) -> Said {
        if state.principal == *self.person(Kind::Tokens, subject) {
            read_marks(subject, &state.scopes)
        } else {
            Said::Garbage
        }
    }
}

fn marks(subject: usize, version: u32) -> GroupSet {
    [format!("of {subject}"), format!("v {version}")].iter().map(String::as_str).collect()
}

fn read_marks(subject: usize, marks: &GroupSet) -> Said {
    let mut marks = marks.iter();
    let (Some(of), Some(version), None) = (marks.next(), marks.next(), marks.next()) else {
        return Said::Garbage;
    };
    let mine = of.strip_prefix("of ").and_then(|of| of.parse().ok()) == Some(subject);
    match version.strip_prefix("v ").and_then(|version| version.parse().ok()) {
        Some(version) if mine => Said::Version(version),
        _ => Said::Garbage,
    }
}
