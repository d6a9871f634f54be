//! `Fenced`: writes that void what caches remember.

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Change, Ctx, Directory, Fence, Login, Lookup, NewUser, ObjectRef, Owners, Principal, RealmId, Result,
    SourceInfo, StateChange, StoredHash, Subject, UserEntry,
};

use crate::Carrier;

/// One thing to void.
#[derive(Debug, Clone)]
pub(crate) enum Bump {
    Login(Login),
    Id(Principal),
    Object(RealmId, ObjectRef),
    Realm(RealmId),
    All,
}

impl Bump {
    pub(crate) const fn login(login: Login) -> Self {
        Self::Login(login)
    }

    pub(crate) const fn id(who: Principal) -> Self {
        Self::Id(who)
    }

    fn run(&self, fence: &Fence) {
        fence.invalidate(&match self {
            Self::Login(login) => Subject::Login(login),
            // Its login goes with it, and says enough elsewhere: there an id voids every account of the realm.
            Self::Id(who) => {
                let (realm, source) = (who.realm(), who.source());
                return fence.invalidate_here(&Subject::Id { realm, source, id: who.id() });
            }
            Self::Object(realm, object) => Subject::Object { realm, object },
            Self::Realm(realm) => Subject::Realm(realm),
            Self::All => Subject::All,
        });
    }
}

/// Voids when dropped: after the write it was made for, whether that succeeded, failed, panicked or was
/// given up half way.
pub(crate) struct Voiding<'a, I: AsRef<[Bump]>> {
    fence: &'a Fence,
    bumps: I,
}

impl<'a, I: AsRef<[Bump]>> Voiding<'a, I> {
    pub(crate) const fn new(fence: &'a Fence, bumps: I) -> Self {
        Self { fence, bumps }
    }
}

impl<I: AsRef<[Bump]>> Drop for Voiding<'_, I> {
    fn drop(&mut self) {
        for bump in self.bumps.as_ref() {
            bump.run(self.fence);
        }
    }
}

/// Forgets owners when dropped.
struct Forgetting<'a> {
    owners: &'a dyn Owners,
    logins: Vec<Login>,
    realms: Vec<RealmId>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        for login in &self.logins {
            self.owners.forget(login);
        }
        for realm in &self.realms {
            self.owners.forget_realm(realm.name());
        }
    }
}

/// A [`Directory`] whose writes void what caches remember about their subjects.
///
/// First the store commits, then the caches are told; also after an error or when the caller leaves half
/// way, since nobody knows then whether it was written. A crash in between leaves old answers for as long
/// as they live.
///
/// A store may serve several realms, which remember its people apart. Name them all: a write through one
/// realm's login voids that login in each. Where another realm compares logins by another rule, everything
/// of that realm is voided.
#[derive(Debug)]
pub struct Fenced {
    inner: Arc<dyn Directory>,
    fence: Arc<Fence>,
    owners: Arc<dyn Owners>,
    realms: Vec<RealmId>,
}

impl Fenced {
    /// Wraps a directory that serves these realms.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Directory>,
        fence: Arc<Fence>,
        owners: Arc<dyn Owners>,
        realms: impl IntoIterator<Item = RealmId>,
    ) -> Self {
        Self { inner, fence, owners, realms: realms.into_iter().collect() }
    }

    /// The login in every realm of the store, and the realms that might call it otherwise.
    fn everywhere(&self, login: &Login) -> (Vec<Login>, Vec<RealmId>) {
        let (mut logins, mut realms) = (vec![login.clone()], Vec::new());
        for realm in self.realms.iter().filter(|realm| *realm != login.realm()) {
            let same = (realm.rule() == login.realm().rule()).then(|| Login::parse(realm, login.as_str()));
            match same {
                Some(Ok(login)) => logins.push(login),
                _ => realms.push(realm.clone()),
            }
        }
        (logins, realms)
    }

    fn voiding(&self, login: Option<&Login>, object: Option<&ObjectRef>) -> Voiding<'_, Vec<Bump>> {
        let mut bumps = Vec::new();
        if let Some(login) = login {
            let (logins, realms) = self.everywhere(login);
            bumps.extend(logins.into_iter().map(Bump::Login));
            bumps.extend(realms.into_iter().map(Bump::Realm));
        }
        if let Some(object) = object {
            let realms = self.realms.iter().chain(login.map(Login::realm));
            bumps.extend(realms.map(|realm| Bump::Object(realm.clone(), object.clone())));
        }
        if bumps.is_empty() {
            // Nobody said which realms this store serves.
            bumps.push(Bump::All);
        }
        Voiding::new(&self.fence, bumps)
    }

    /// Waits until the shared cache and the other processes know what was voided, and not for long: the write is done,
    /// and the rest is tried again.
    async fn carried<T: Send>(&self, done: T) -> T {
        let _reached = self.fence.settle(Carrier::PATIENCE).await;
        done
    }

    fn forgetting(&self, login: &Login) -> Forgetting<'_> {
        let (logins, realms) = self.everywhere(login);
        Forgetting { owners: self.owners.as_ref(), logins, realms }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Directory for Fenced {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn add_user(&self, ctx: &Ctx, user: &NewUser) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(&user.login), None);
            let _forgetting = self.forgetting(&user.login);
            self.inner.add_user(ctx, user).await
        };
        self.carried(done).await
    }

    async fn users(
        &self,
        ctx: &Ctx,
        realm: &RealmId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<UserEntry>> {
        self.inner.users(ctx, realm, after, limit).await
    }

    async fn user(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<UserEntry>> {
        self.inner.user(ctx, login).await
    }

    async fn set_hash(&self, ctx: &Ctx, login: &Login, hash: &StoredHash) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), None);
            self.inner.set_hash(ctx, login, hash).await
        };
        self.carried(done).await
    }

    async fn set_state(&self, ctx: &Ctx, login: &Login, change: &StateChange) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), None);
            self.inner.set_state(ctx, login, change).await
        };
        self.carried(done).await
    }

    async fn delete_user(&self, ctx: &Ctx, login: &Login) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), None);
            let _forgetting = self.forgetting(login);
            self.inner.delete_user(ctx, login).await
        };
        self.carried(done).await
    }

    async fn join(&self, ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), None);
            self.inner.join(ctx, login, group).await
        };
        self.carried(done).await
    }

    async fn leave(&self, ctx: &Ctx, login: &Login, group: &str) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), None);
            self.inner.leave(ctx, login, group).await
        };
        self.carried(done).await
    }

    async fn groups(&self, ctx: &Ctx) -> Result<Vec<String>> {
        self.inner.groups(ctx).await
    }

    async fn domains(&self, ctx: &Ctx) -> Result<Vec<String>> {
        self.inner.domains(ctx).await
    }

    async fn add_object(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(None, Some(object));
            self.inner.add_object(ctx, object).await
        };
        self.carried(done).await
    }

    async fn delete_object(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(None, Some(object));
            self.inner.delete_object(ctx, object).await
        };
        self.carried(done).await
    }

    async fn grant(&self, ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), Some(object));
            self.inner.grant(ctx, login, object, mode).await
        };
        self.carried(done).await
    }

    async fn revoke(&self, ctx: &Ctx, login: &Login, object: &ObjectRef, mode: &str) -> Result<Change> {
        let done = {
            let _voiding = self.voiding(Some(login), Some(object));
            self.inner.revoke(ctx, login, object, mode).await
        };
        self.carried(done).await
    }
}
