//! Sessions end, one or many; and the lists of them.

use std::sync::Arc;

use auth_core::{
    Ctx, End, EndReason, Ends, Family, FamilyId, Fence, Login, Principal, Result, Revoked, SessionChange,
    Subject,
};

use super::{Bearing, Checked, Facts, LoggedOut, SECOND, Standing, TokenService, check, millis, person};
use crate::Valid;

impl TokenService {
    /// Ends the session of who shows a token of it: a refresh token, also one that was replaced, or an access token, also
    /// one that has expired. What is not authentic is of no session.
    ///
    /// # Errors
    /// Any kind: the session may not have ended.
    pub async fn logout(&self, ctx: &Ctx, by: &Bearing<'_>) -> Result<LoggedOut> {
        let known = LoggedOut { known: true };
        match *by {
            Bearing::Refresh(token) => {
                let Some(shown) = self.parts.secrets.read(self.name(), token) else {
                    return Ok(LoggedOut { known: false });
                };
                self.end_family(ctx, shown.family, EndReason::Logout).await?;
                Ok(known)
            }
            Bearing::Access(token) => {
                let Some((valid, login)) = self.authentic(token) else {
                    return Ok(LoggedOut { known: false });
                };
                if let Some(family) = valid.family.map(FamilyId::new) {
                    self.end_one(ctx, family, Some(&login), EndReason::Logout).await?;
                } else {
                    self.revoke_one(ctx, token, &valid, &login).await?;
                }
                Ok(known)
            }
        }
    }

    /// Ends all sessions of who shows a token that is good, and revokes all their access tokens. Returns how many
    /// sessions have ended by it; nothing if what was shown is not good.
    ///
    /// # Errors
    /// Any kind: not all may have ended.
    pub async fn logout_all(&self, ctx: &Ctx, by: &Bearing<'_>) -> Result<Option<u64>> {
        let login = match *by {
            Bearing::Refresh(token) => {
                let Some(shown) = self.parts.secrets.read(self.name(), token) else { return Ok(None) };
                let found = self.parts.families.family(ctx, self.name(), shown.family).await?;
                let live =
                    |family: &Family| family.is_live(self.now()) && family.generation == shown.generation;
                let Some(family) = found.found().filter(live) else { return Ok(None) };
                let facts = self.facts_of(&family)?;
                if let Standing::Bad(_) = self.standing_of(ctx, &facts).await? {
                    return Ok(None);
                }
                facts.login
            }
            Bearing::Access(token) => match self.check(ctx, token).await? {
                Checked::Valid(state) => state.principal.login().clone(),
                Checked::Invalid(_) => return Ok(None),
            },
        };
        self.end_person(ctx, &login, EndReason::LogoutAll).await.map(Some)
    }

    /// Ends all sessions of a login, and revokes all its access tokens that were issued until now. Returns how many
    /// sessions have ended by it.
    ///
    /// # Errors
    /// Any kind: not all may have ended.
    pub async fn end_person(&self, ctx: &Ctx, login: &Login, reason: EndReason) -> Result<u64> {
        let _voids = Voids { fence: &self.parts.fence, subject: Subject::Login(login) };
        let ended = self.end(ctx, &Ends::Person(login.as_str()), reason).await?;
        self.told_of(ctx, Some(login.as_str()), None, SessionChange::Ended(reason), None, None);
        Ok(ended)
    }

    /// Ends all sessions of the realm, and revokes all access tokens that were issued until now.
    ///
    /// # Errors
    /// Any kind: not all may have ended.
    pub async fn end_realm(&self, ctx: &Ctx, reason: EndReason) -> Result<u64> {
        let subject = Subject::Realm(self.parts.realm.id());
        let _voids = Voids { fence: &self.parts.fence, subject };
        let ended = self.end(ctx, &Ends::Realm, reason).await?;
        self.told_of(ctx, None, None, SessionChange::Ended(reason), None, None);
        Ok(ended)
    }

    /// Ends one session, whosever it is. Returns whether it lived.
    ///
    /// # Errors
    /// Any kind: it may not have ended.
    pub async fn end_family(&self, ctx: &Ctx, id: FamilyId, reason: EndReason) -> Result<bool> {
        let facts = self.facts(ctx, id).await?;
        self.end_one(ctx, id, facts.as_deref().map(|facts| &facts.login), reason).await
    }

    /// Revokes one access token, and no other of its session. Returns whether it is authentic.
    ///
    /// # Errors
    /// Any kind: it may not be revoked.
    pub async fn revoke(&self, ctx: &Ctx, access_token: &str) -> Result<bool> {
        let Some((valid, login)) = self.authentic(access_token) else { return Ok(false) };
        self.revoke_one(ctx, access_token, &valid, &login).await?;
        Ok(true)
    }

    /// Lists the live sessions of a login, the newest first.
    ///
    /// # Errors
    /// Any kind: the list would have a hole.
    pub async fn sessions(&self, ctx: &Ctx, login: &Login) -> Result<Vec<Family>> {
        let families = &self.parts.families;
        families.sessions(ctx, self.name(), login.as_str(), self.now(), self.settings.listed).await
    }

    /// Lists the live sessions of somebody, the newest first: not those of who had their login before them.
    ///
    /// # Errors
    /// Any kind: the list would have a hole.
    pub async fn sessions_of(&self, ctx: &Ctx, who: &Principal) -> Result<Vec<Family>> {
        let person = person::text(who);
        let mut sessions = self.sessions(ctx, who.login()).await?;
        sessions.retain(|family| family.person == person);
        Ok(sessions)
    }

    /// Ends one session of somebody. Returns whether they have it.
    ///
    /// # Errors
    /// Any kind: it may not have ended.
    pub async fn end_session(&self, ctx: &Ctx, who: &Principal, id: FamilyId) -> Result<bool> {
        let person = person::text(who);
        let is_theirs = |facts: &Arc<Facts>| facts.login == *who.login() && facts.person == person;
        let Some(facts) = self.facts(ctx, id).await?.filter(is_theirs) else {
            return Ok(false);
        };
        self.end_one(ctx, id, Some(&facts.login), EndReason::Logout).await?;
        Ok(true)
    }

    /// Ends, and revokes what came with it. Whoever is concerned is to be invalidated afterwards.
    pub(super) async fn end(&self, ctx: &Ctx, ends: &Ends<'_>, reason: EndReason) -> Result<u64> {
        let now = self.now();
        // Tokens are written in whole seconds.
        let until = now.saturating_add(millis(self.settings.longest + self.settings.leeway + SECOND));
        self.parts.families.end(ctx, self.name(), ends, &End { at: now, reason, until }).await
    }

    /// Ends one session. Returns whether it lived.
    pub(super) async fn end_one(
        &self,
        ctx: &Ctx,
        id: FamilyId,
        login: Option<&Login>,
        reason: EndReason,
    ) -> Result<bool> {
        let _voids = login.map(|login| Voids { fence: &self.parts.fence, subject: Subject::Login(login) });
        let ended = self.end(ctx, &Ends::Family(id), reason).await? > 0;
        if ended {
            self.told_of(ctx, login.map(Login::as_str), Some(id), SessionChange::Ended(reason), None, None);
        }
        Ok(ended)
    }

    /// Revokes one access token.
    async fn revoke_one(&self, ctx: &Ctx, token: &str, valid: &Valid, login: &Login) -> Result<()> {
        let _voids = Voids { fence: &self.parts.fence, subject: Subject::Login(login) };
        let until = check::millis_of(valid.expires_at).saturating_add(millis(self.settings.leeway));
        let revoked = Revoked::Token(check::mark(self.name(), token, valid));
        self.parts.families.revoke(ctx, self.name(), &revoked, self.now(), until).await
    }
}

/// Voids what is remembered of somebody when it is dropped: after the store was told, also where its answer is lost or nobody
/// waits for it any longer.
pub(super) struct Voids<'a> {
    pub(super) fence: &'a Fence,
    pub(super) subject: Subject<'a>,
}

impl Drop for Voids<'_> {
    fn drop(&mut self) {
        self.fence.invalidate(&self.subject);
    }
}
