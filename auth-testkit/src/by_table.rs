//! Password verification without a hash function.

use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, Clock, Ctx, Error, ErrorKind, Login, Lookup, Password, PasswordSource, Reject,
    Result, SourceInfo, StoredHash, Verdict,
};

use crate::World;

/// Decides about passwords over any store that shows the [`World`]'s hashes: by a table of these
/// hashes, without a hash function.
///
/// Knows the hashes of the world and, beside them, hashes of the scheme `plaintext`. Any other is
/// [`Corrupt`](ErrorKind::Corrupt). For tests of stores and chains that do without `auth-password`.
#[derive(Debug)]
pub struct ByTable<S: ?Sized> {
    clock: Arc<dyn Clock>,
    inner: Arc<S>,
}

impl<S: AccountSource + ?Sized> ByTable<S> {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: Arc<S>, clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner }
    }

    fn matches(&self, hash: &StoredHash, password: &Password) -> Result<bool> {
        if hash.scheme() == Some("plaintext") {
            return Ok(hash.as_str().as_bytes() == password.as_bytes());
        }
        match World::users().iter().find(|user| user.hash == Some(hash.as_str())) {
            Some(user) => Ok(user.password == Some(password.as_bytes())),
            None => Err(Error::new(ErrorKind::Corrupt, "a hash that the table does not have").at(self
                .inner
                .source()
                .name()
                .as_ref())),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AccountSource + ?Sized> PasswordSource for ByTable<S> {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let Lookup::Found(account) = self.inner.account(ctx, login).await? else {
            return Ok(Verdict::Rejected(Reject::UnknownUser));
        };
        let Some(hash) = account.hash() else { return Ok(Verdict::Rejected(Reject::NoPassword)) };
        if !self.matches(hash, password)? {
            return Ok(Verdict::Rejected(Reject::BadPassword));
        }
        Ok(match account.state().refusal(self.clock.wall()) {
            Some(reject) => Verdict::Rejected(reject),
            None => Verdict::Accepted(account.principal().clone()),
        })
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.inner.account(ctx, login).await
    }

    // Deciding needs the account at the moment of the question.
    fn peek_verify(&self, _ctx: &Ctx, _login: &Login, _password: &Password) -> Option<Verdict> {
        None
    }

    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.inner.peek_account(ctx, login)
    }
}
