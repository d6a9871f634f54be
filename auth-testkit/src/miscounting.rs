//! A store that breaks the contract of many questions at once.

use async_trait::async_trait;
use auth_core::{Access, Ctx, ObjectPerms, ObjectRef, Principal, Result, SourceInfo};

/// Allows everything, and answers this many of many questions, however many it is asked.
///
/// For tests of what stands in front of a store: an answer that is missing is an error there, never a right,
/// and one too many belongs to nobody.
#[derive(Debug)]
pub struct MiscountingStore {
    info: SourceInfo,
    answers: usize,
}

impl MiscountingStore {
    /// Makes a store that gives so many answers.
    #[must_use]
    pub const fn new(info: SourceInfo, answers: usize) -> Self {
        Self { info, answers }
    }
}

#[async_trait]
impl ObjectPerms for MiscountingStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(&self, _: &Ctx, _: &Principal, _: &ObjectRef, _: Option<&str>) -> Result<Access> {
        Ok(Access::Allow)
    }

    async fn access_many(
        &self,
        _: &Ctx,
        _: &Principal,
        _: &[ObjectRef],
        _: Option<&str>,
    ) -> Vec<Result<Access>> {
        vec![Ok(Access::Allow); self.answers]
    }
}
