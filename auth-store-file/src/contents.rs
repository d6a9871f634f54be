//! What the files say, indexed for questions.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::OnceLock;

use auth_core::{AccountState, GroupSet, Id, LoginRule, ObjectRef, StoredHash};

/// A place in a file that can't be read. Never holds what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Broken {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

/// One user of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) login: String,
    pub(crate) id: Id,
    pub(crate) hash: Option<StoredHash>,
    pub(crate) state: AccountState,
    pub(crate) groups: GroupSet,
}

/// Who may do what with one object: a record's number and a mode.
pub(crate) type Rights = Vec<(usize, String)>;

/// The objects of a domain, by the parts of their ids.
pub(crate) type Domain = HashMap<Vec<String>, Rights>;

/// Everything that the files say.
#[derive(Default)]
pub(crate) struct Contents {
    records: Vec<Record>,
    by_id: HashMap<Id, usize>,
    /// Groups with logins as an htgroup file has them.
    memberships: Vec<(String, Vec<String>)>,
    /// Absent where the format has no objects.
    domains: Option<BTreeMap<String, Domain>>,
    indexes: [OnceLock<Index>; 3],
}

/// The file's logins in one rule's normal form.
#[derive(Default)]
struct Index {
    logins: HashMap<String, Slot>,
    groups: HashMap<String, GroupSet>,
}

enum Slot {
    One(usize),
    Several,
}

/// What a file has under a name.
pub(crate) enum Found<T> {
    One(T),
    Several,
    None,
}

impl Contents {
    pub(crate) fn new(records: Vec<Record>) -> Self {
        // Of two htpasswd lines for one login the first; nobody gets in by either.
        let mut by_id = HashMap::with_capacity(records.len());
        for (n, record) in records.iter().enumerate() {
            by_id.entry(record.id.clone()).or_insert(n);
        }
        Self { records, by_id, ..Self::default() }
    }

    pub(crate) fn with_memberships(mut self, memberships: Vec<(String, Vec<String>)>) -> Self {
        self.memberships = memberships;
        self
    }

    pub(crate) fn with_domains(mut self, domains: BTreeMap<String, Domain>) -> Self {
        self.domains = Some(domains);
        self
    }

    /// The user of a login in normal form.
    pub(crate) fn account(&self, rule: LoginRule, login: &str) -> Found<&Record> {
        match self.index(rule).logins.get(login) {
            Some(Slot::One(n)) => self.records.get(*n).map_or(Found::None, Found::One),
            Some(Slot::Several) => Found::Several,
            None => Found::None,
        }
    }

    /// All groups of the user of an id.
    pub(crate) fn groups(&self, rule: LoginRule, id: &Id) -> Found<GroupSet> {
        let Some(record) = self.by_id.get(id).and_then(|n| self.records.get(*n)) else { return Found::None };
        let Some(login) = rule.normalize(&record.login) else { return Found::None };
        let index = self.index(rule);
        match index.logins.get(&login) {
            Some(Slot::One(_)) => {}
            Some(Slot::Several) => return Found::Several,
            None => return Found::None,
        }
        Found::One(match index.groups.get(&login) {
            Some(groups) => groups.union(&record.groups),
            None => record.groups.clone(),
        })
    }

    /// Every user, in the order of the file.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Groups with logins as a group file has them.
    pub(crate) fn memberships(&self) -> &[(String, Vec<String>)] {
        &self.memberships
    }

    /// The declared domains, where the format has any.
    pub(crate) const fn domains(&self) -> Option<&BTreeMap<String, Domain>> {
        self.domains.as_ref()
    }

    /// The number of the user of an id, as rights have it.
    pub(crate) fn number(&self, id: &Id) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    fn index(&self, rule: LoginRule) -> &Index {
        let [mapped, preserved, exact] = &self.indexes;
        let index = match rule {
            LoginRule::CaseMapped => mapped,
            LoginRule::CasePreserved => preserved,
            LoginRule::Exact => exact,
        };
        index.get_or_init(|| Index::new(self, rule))
    }

    /// Makes the index of a rule now, so that no question has to.
    pub(crate) fn prepare(&self, rule: LoginRule) {
        self.index(rule);
    }

    /// Makes every index that `other` has.
    pub(crate) fn prepare_as(&self, other: &Self) {
        for ((_, rule), made) in LoginRule::NAMES.into_iter().zip(&other.indexes) {
            if made.get().is_some() {
                self.prepare(rule);
            }
        }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("users", &self.records.len()).finish_non_exhaustive()
    }
}

impl Index {
    fn new(contents: &Contents, rule: LoginRule) -> Self {
        let mut index = Self::default();
        for (n, record) in contents.records.iter().enumerate() {
            // A login that the rule refuses can't be asked for in its realms.
            let Some(login) = rule.normalize(&record.login) else { continue };
            match index.logins.entry(login) {
                Entry::Vacant(free) => _ = free.insert(Slot::One(n)),
                Entry::Occupied(mut taken) => _ = taken.insert(Slot::Several),
            }
        }
        let mut groups: HashMap<String, Vec<&str>> = HashMap::new();
        for (group, logins) in &contents.memberships {
            for login in logins.iter().filter_map(|login| rule.normalize(login)) {
                groups.entry(login).or_default().push(group);
            }
        }
        index.groups = groups.into_iter().map(|(login, all)| (login, all.into_iter().collect())).collect();
        index
    }
}

/// The parts of an object's id as a file writes them.
pub(crate) fn parts(object: &ObjectRef) -> Vec<String> {
    object.id().iter().map(ToString::to_string).collect()
}
