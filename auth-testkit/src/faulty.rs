//! A store of sessions that fails as a test tells it to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use auth_core::{
    Ctx, End, Ends, Error, ErrorKind, Families, Family, FamilyId, Issued, Lookup, Millis, Renewal, Result,
    Retry, Revocations, Revoked,
};

/// What a [`FaultyFamilies`] does to calls, which it knows by the names of their methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FamilyFault {
    /// All is as the store under it says.
    #[default]
    None,
    /// The next call of this name fails, and nothing is done; then all is well.
    Before(&'static str),
    /// The next call of this name is done, and its answer is lost; then all is well.
    After(&'static str),
    /// Every call of this name fails.
    FailsTo(&'static str),
    /// Every call fails, in this way.
    Fails(ErrorKind),
    /// Nothing is ever answered.
    Hangs,
}

/// A store of sessions over another one, that fails when it is told to.
pub struct FaultyFamilies {
    inner: Arc<dyn Families>,
    fault: Mutex<FamilyFault>,
    asked: Mutex<BTreeMap<&'static str, u64>>,
}

impl fmt::Debug for FaultyFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFamilies").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl FaultyFamilies {
    /// Puts one over a store. Nothing fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Families>) -> Self {
        Self { inner, fault: Mutex::default(), asked: Mutex::default() }
    }

    /// Returns the store under it, which never fails.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Families> {
        &self.inner
    }

    /// Says what is to fail from now on.
    pub fn set(&self, fault: FamilyFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Returns how many calls of this name have come to the store under it.
    #[must_use]
    pub fn asked(&self, name: &str) -> u64 {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }

    /// Fails if the fault is this one, which is over then.
    fn once(&self, fault: FamilyFault) -> Result<()> {
        let mut planted = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if *planted != fault {
            return Ok(());
        }
        *planted = FamilyFault::None;
        Err(cut_off(ErrorKind::Unavailable))
    }

    async fn pass(&self, name: &'static str) -> Result<()> {
        self.once(FamilyFault::Before(name))?;
        let planted = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match planted {
            FamilyFault::Fails(kind) => return Err(cut_off(kind)),
            FamilyFault::FailsTo(what) if what == name => return Err(cut_off(ErrorKind::Unavailable)),
            FamilyFault::Hangs => std::future::pending().await,
            FamilyFault::None | FamilyFault::Before(_) | FamilyFault::After(_) | FamilyFault::FailsTo(_) => {}
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(name).or_default() += 1;
        Ok(())
    }
}

fn cut_off(kind: ErrorKind) -> Error {
    Error::new(kind, "the test has cut the store off")
}

macro_rules! through {
    ($self:ident.$name:ident($($given:expr),*)) => {{
        $self.pass(stringify!($name)).await?;
        let answer = $self.inner.$name($($given),*).await?;
        $self.once(FamilyFault::After(stringify!($name)))?;
        Ok(answer)
    }};
}

#[async_trait]
impl Revocations for FaultyFamilies {
    async fn revoke(
        &self,
        ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()> {
        through!(self.revoke(ctx, realm, what, at, until))
    }

    async fn is_revoked(&self, ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool> {
        through!(self.is_revoked(ctx, realm, token, now))
    }
}

#[async_trait]
impl Families for FaultyFamilies {
    async fn begin(&self, ctx: &Ctx, family: &Family) -> Result<()> {
        through!(self.begin(ctx, family))
    }

    async fn family(&self, ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>> {
        through!(self.family(ctx, realm, id))
    }

    async fn renew(&self, ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool> {
        through!(self.renew(ctx, realm, id, renewal))
    }

    async fn retry(&self, ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool> {
        through!(self.retry(ctx, realm, id, retry))
    }

    async fn confirm(&self, ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()> {
        through!(self.confirm(ctx, realm, id, generation))
    }

    async fn end(&self, ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        through!(self.end(ctx, realm, what, end))
    }

    async fn sessions(
        &self,
        ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>> {
        through!(self.sessions(ctx, realm, login, now, most))
    }

    async fn clean(&self, ctx: &Ctx, now: Millis, most: u32) -> Result<u64> {
        through!(self.clean(ctx, now, most))
    }
}
