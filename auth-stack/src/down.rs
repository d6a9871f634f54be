//! A source that could not be reached when the stack was composed, until it can be.

use async_trait::async_trait;
use auth_core::{
    Access, Account, Change, Ctx, Directory, Error, GroupOracle, GroupSet, Login, Lookup, Member, NewUser,
    ObjectPerms, ObjectRef, Password, PasswordSource, Principal, RealmId, Resolver, Result, SourceInfo,
    StateChange, StoredHash, UserEntry, Verdict,
};
use std::sync::Arc;

use crate::source::{Passwords, Provides};

/// Answers every question with the error that it could not be opened for: neither a yes nor a no.
#[derive(Debug)]
pub(crate) struct Down {
    info: SourceInfo,
    error: Error,
}

impl Down {
    /// Provides whatever a realm may ask of a source, since nobody knows yet what it can do.
    pub(crate) fn provides(info: SourceInfo, error: Error) -> Provides {
        let down = Arc::new(Self { info, error });
        Provides {
            passwords: Some(Passwords::DecidesOnce(Arc::clone(&down) as Arc<dyn PasswordSource>)),
            groups: Some(Arc::clone(&down) as Arc<dyn GroupOracle>),
            objects: Some(Arc::clone(&down) as Arc<dyn ObjectPerms>),
            domains: vec!["*".to_owned()],
            resolver: Some(Arc::clone(&down) as Arc<dyn Resolver>),
            directory: Some(down),
            ..Provides::default()
        }
    }

    fn fails<T>(&self) -> Result<T> {
        Err(self.error.clone())
    }
}

#[async_trait]
impl PasswordSource for Down {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn verify(&self, _: &Ctx, _: &Login, _: &Password) -> Result<Verdict> {
        self.fails()
    }
    async fn account(&self, _: &Ctx, _: &Login) -> Result<Lookup<Account>> {
        self.fails()
    }
}

#[async_trait]
impl GroupOracle for Down {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn groups_of(&self, _: &Ctx, _: &Principal) -> Result<Lookup<GroupSet>> {
        self.fails()
    }
    async fn is_member(&self, _: &Ctx, _: &Principal, _: &str) -> Result<Member> {
        self.fails()
    }
}

#[async_trait]
impl ObjectPerms for Down {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        self.fails()
    }
}

#[async_trait]
impl Resolver for Down {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn resolve(&self, _: &Ctx, _: &Principal) -> Result<Lookup<Principal>> {
        self.fails()
    }
}

#[async_trait]
impl Directory for Down {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn add_user(&self, _: &Ctx, _: &NewUser) -> Result<Change> {
        self.fails()
    }
    async fn users(&self, _: &Ctx, _: &RealmId, _: Option<&str>, _: u32) -> Result<Vec<UserEntry>> {
        self.fails()
    }
    async fn user(&self, _: &Ctx, _: &Login) -> Result<Lookup<UserEntry>> {
        self.fails()
    }
    async fn set_hash(&self, _: &Ctx, _: &Login, _: &StoredHash) -> Result<Change> {
        self.fails()
    }
    async fn set_state(&self, _: &Ctx, _: &Login, _: &StateChange) -> Result<Change> {
        self.fails()
    }
    async fn delete_user(&self, _: &Ctx, _: &Login) -> Result<Change> {
        self.fails()
    }
    async fn join(&self, _: &Ctx, _: &Login, _: &str) -> Result<Change> {
        self.fails()
    }
    async fn leave(&self, _: &Ctx, _: &Login, _: &str) -> Result<Change> {
        self.fails()
    }
    async fn groups(&self, _: &Ctx) -> Result<Vec<String>> {
        self.fails()
    }
    async fn domains(&self, _: &Ctx) -> Result<Vec<String>> {
        self.fails()
    }
    async fn add_object(&self, _: &Ctx, _: &ObjectRef) -> Result<Change> {
        self.fails()
    }
    async fn delete_object(&self, _: &Ctx, _: &ObjectRef) -> Result<Change> {
        self.fails()
    }
    async fn grant(&self, _: &Ctx, _: &Login, _: &ObjectRef, _: &str) -> Result<Change> {
        self.fails()
    }
    async fn revoke(&self, _: &Ctx, _: &Login, _: &ObjectRef, _: &str) -> Result<Change> {
        self.fails()
    }
}
