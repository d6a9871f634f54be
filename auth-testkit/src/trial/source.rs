//! The source of a run: every answer is held until the run releases it.

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Login, Lookup, ObjectPerms,
    ObjectRef, Principal, Result, SourceInfo, StoredHash,
};

use super::{Board, Cast, Kind, Said};

#[derive(Debug)]
pub(crate) struct HeldSource {
    kind: Kind,
    board: Arc<Board>,
    cast: Arc<Cast>,
}

impl HeldSource {
    pub(crate) const fn new(kind: Kind, board: Arc<Board>, cast: Arc<Cast>) -> Self {
        Self { kind, board, cast }
    }

    async fn ask(&self, subject: Option<usize>) -> Result<(usize, u32)> {
        let subject = subject.ok_or_else(|| self.fault("a question about a stranger"))?;
        let versions = self.board.ask(vec![subject]).await?;
        versions.first().map(|version| (subject, *version)).ok_or_else(|| self.fault("no version"))
    }

    fn fault(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::Invalid, message).at(self.cast.info.name().as_ref())
    }

    const fn access_in(&self, version: u32) -> Access {
        match self.kind.said(version) {
            Said::Access(access) => access,
            _ => Access::NotFound,
        }
    }
}

#[async_trait]
impl AccountSource for HeldSource {
    fn source(&self) -> &SourceInfo {
        &self.cast.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let (subject, version) = self.ask(self.cast.subject_of(login)).await?;
        Ok(self.cast.account(subject, version))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Err(Error::new(ErrorKind::Unsupported, "a source that is changed by the run alone"))
    }
}

#[async_trait]
impl GroupOracle for HeldSource {
    fn source(&self) -> &SourceInfo {
        &self.cast.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let (subject, version) = self.ask(self.cast.subject_of(who.login())).await?;
        Ok(self.cast.groups(subject, version))
    }
}

#[async_trait]
impl ObjectPerms for HeldSource {
    fn source(&self) -> &SourceInfo {
        &self.cast.info
    }

    async fn access(&self, _: &Ctx, who: &Principal, object: &ObjectRef, _: Option<&str>) -> Result<Access> {
        let (_, version) = self.ask(self.cast.right_of(who, object)).await?;
        Ok(self.access_in(version))
    }

    async fn access_many(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        _mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        let subjects: Option<Vec<usize>> =
            objects.iter().map(|object| self.cast.right_of(who, object)).collect();
        let versions = match subjects {
            Some(subjects) => self.board.ask(subjects).await,
            None => Err(self.fault("a question about a stranger")),
        };
        match versions {
            Ok(versions) => versions.into_iter().map(|version| Ok(self.access_in(version))).collect(),
            Err(error) => objects.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}
