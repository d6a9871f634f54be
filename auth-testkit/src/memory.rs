//! A complete store in memory that a test can change.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, AccountState, Capabilities, Ctx, Error, ErrorKind, GroupOracle, GroupSet,
    Id, Login, Lookup, ObjectPerms, ObjectRef, Principal, Result, SourceInfo, StoredHash,
};

use crate::{World, info};

/// A complete store in memory, loaded with the [`World`], that a test can change.
///
/// It never waits and never fails. Its `peek_*` stay silent, as a store's do.
#[derive(Debug)]
pub struct MemoryStore {
    info: SourceInfo,
    data: Mutex<Data>,
}

#[derive(Debug, Default)]
struct Data {
    users: Vec<Record>,
    domains: BTreeSet<String>,
    objects: Vec<Rights>,
}

#[derive(Debug)]
struct Record {
    login: String,
    id: Id,
    hash: Option<StoredHash>,
    state: AccountState,
    groups: BTreeSet<String>,
}

#[derive(Debug)]
struct Rights {
    object: ObjectRef,
    modes: Vec<(Id, String)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Makes the store `memory`, loaded with the [`World`].
    #[must_use]
    pub fn new() -> Self {
        Self::named("memory")
    }

    /// Makes a store of another name, loaded with the [`World`].
    #[must_use]
    pub fn named(name: &str) -> Self {
        let store = Self::empty(name);
        for user in World::users() {
            store.add_user(user.login, Id::from(user.id), user.stored_hash());
            store.set_state(user.login, user.state());
            for group in user.groups {
                store.join(user.login, group);
            }
        }
        for object in World::objects() {
            store.add_object(&object.object());
            for (login, mode) in object.rights {
                store.grant(login, &object.object(), mode);
            }
        }
        store
    }

    /// Makes a store without people and objects.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        let can = Capabilities { replaces_hash: true, ..Capabilities::default() };
        Self { info: info(name).with_capabilities(can), data: Mutex::default() }
    }

    /// Adds a person. A second record of one login makes the login ambiguous, as in a store without
    /// a unique key.
    pub fn add_user(&self, login: &str, id: Id, hash: Option<StoredHash>) {
        self.data().users.push(Record {
            login: login.to_owned(),
            id,
            hash,
            state: AccountState::default(),
            groups: BTreeSet::new(),
        });
    }

    /// Removes every record of a login.
    pub fn remove_user(&self, login: &str) {
        self.data().users.retain(|user| user.login != login);
    }

    /// Gives a person another login; the id stays.
    ///
    /// # Panics
    /// If there is no such login.
    pub fn rename(&self, login: &str, to: &str) {
        self.change(login, |user| user.login = to.to_owned());
    }

    /// Sets or removes a stored hash.
    ///
    /// # Panics
    /// If there is no such login.
    pub fn set_hash(&self, login: &str, hash: Option<StoredHash>) {
        self.change(login, |user| user.hash = hash);
    }

    /// Sets the state of an account.
    ///
    /// # Panics
    /// If there is no such login.
    pub fn set_state(&self, login: &str, state: AccountState) {
        self.change(login, |user| user.state = state);
    }

    /// Puts a person in a group.
    ///
    /// # Panics
    /// If there is no such login.
    pub fn join(&self, login: &str, group: &str) {
        self.change(login, |user| user.groups.insert(group.to_owned()));
    }

    /// Takes a person out of a group.
    ///
    /// # Panics
    /// If there is no such login.
    pub fn leave(&self, login: &str, group: &str) {
        self.change(login, |user| user.groups.remove(group));
    }

    /// Adds an object, without rights, and declares its domain.
    pub fn add_object(&self, object: &ObjectRef) {
        let mut data = self.data();
        data.domains.insert(object.domain().to_owned());
        data.objects.push(Rights { object: object.clone(), modes: Vec::new() });
    }

    /// Removes an object with all rights on it. Its domain stays.
    pub fn remove_object(&self, object: &ObjectRef) {
        self.data().objects.retain(|rights| rights.object != *object);
    }

    /// Grants a right.
    ///
    /// # Panics
    /// If there is no such login or object.
    pub fn grant(&self, login: &str, object: &ObjectRef, mode: &str) {
        self.change_rights(login, object, |modes, id| modes.push((id, mode.to_owned())));
    }

    /// Revokes a right.
    ///
    /// # Panics
    /// If there is no such login or object.
    pub fn revoke(&self, login: &str, object: &ObjectRef, mode: &str) {
        self.change_rights(login, object, |modes, id| {
            modes.retain(|(who, what)| !(*who == id && what == mode))
        });
    }

    fn change<T>(&self, login: &str, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut data = self.data();
        let user = data.users.iter_mut().find(|user| user.login == login);
        change(user.unwrap_or_else(|| panic!("the store has no user {login}")))
    }

    fn change_rights(
        &self,
        login: &str,
        object: &ObjectRef,
        change: impl FnOnce(&mut Vec<(Id, String)>, Id),
    ) {
        let id = self.change(login, |user| user.id.clone());
        let mut data = self.data();
        let rights = data.objects.iter_mut().find(|rights| rights.object == *object);
        change(&mut rights.unwrap_or_else(|| panic!("the store has no object {object}")).modes, id);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id means somebody only together with the source that issued it.
    fn issued(&self, who: &Principal) -> bool {
        who.source() == self.info.name()
    }
}

#[async_trait]
impl AccountSource for MemoryStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let data = self.data();
        let mut found = data.users.iter().filter(|user| login.is(&user.login));
        let Some(user) = found.next() else { return Ok(Lookup::NotFound) };
        if found.next().is_some() {
            let two = "two records answer to one login";
            return Err(Error::new(ErrorKind::Ambiguous, two).at(self.info.name().as_ref()));
        }
        let (id, state, hash) = (user.id.clone(), user.state.clone(), user.hash.clone());
        Ok(Account::found(&self.info, login, &user.login, id, state, hash))
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        let issued = self.issued(who);
        let mut data = self.data();
        let mut same = data.users.iter_mut().filter(|user| issued && user.id == *who.id());
        Ok(same.next().is_some_and(|user| {
            let still = user.hash.as_ref() == Some(old);
            if still {
                user.hash = Some(new.clone());
            }
            still
        }))
    }
}

#[async_trait]
impl GroupOracle for MemoryStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let issued = self.issued(who);
        let data = self.data();
        let user = data.users.iter().find(|user| issued && user.id == *who.id());
        Ok(match user {
            Some(user) => Lookup::Found(user.groups.iter().map(String::as_str).collect()),
            None => Lookup::NotFound,
        })
    }
}

#[async_trait]
impl ObjectPerms for MemoryStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let issued = self.issued(who);
        let data = self.data();
        if !data.domains.contains(object.domain()) {
            let error = Error::new(ErrorKind::Invalid, "no such domain").with("domain", object.domain());
            return Err(error.at(self.info.name().as_ref()));
        }
        let Some(rights) = data.objects.iter().find(|rights| rights.object == *object) else {
            return Ok(Access::NotFound);
        };
        let mut modes = rights.modes.iter().filter(|(id, _)| issued && id == who.id());
        let allowed = modes.any(|(_, what)| mode.is_none_or(|mode| mode == what));
        Ok(if allowed { Access::Allow } else { Access::Deny })
    }
}
