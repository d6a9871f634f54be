//! A session goes on: by its refresh token, or by an access token.

use std::time::Duration;

use auth_core::{
    Ctx, EndReason, Ends, Error, ErrorKind, Family, FamilyId, Lookup, Millis, Renewal, Result, Retry,
    SessionChange, Subject,
};

use super::end::Voids;
use super::refresh::Shown;
use super::{
    Checked, Facts, GrantRefusal, Granted, Invalid, OnReuse, Refused, RenewAsk, SECOND, Standing,
    TokenService, is_over, millis, settings,
};

impl TokenService {
    /// Renews a session by its newest refresh token.
    ///
    /// # Errors
    /// Any kind: nothing was consumed, or the same token is answered again within the grace.
    /// [`Throttled`](ErrorKind::Throttled) for too many retries or wrong tokens.
    pub async fn renew(&self, ctx: &Ctx, ask: &RenewAsk<'_>) -> Result<Granted> {
        let no = |refusal| Ok(Granted::Refused(Refused::Grant(refusal)));
        let Some(shown) = self.parts.secrets.read(self.name(), ask.token) else {
            self.throttle.wrong(ctx, ask.token.as_bytes().get(..128).unwrap_or(ask.token.as_bytes())).await?;
            return no(GrantRefusal::Malformed);
        };
        let Some(facts) = self.facts(ctx, shown.family).await?.filter(|facts| facts.secret == shown.secret)
        else {
            return no(GrantRefusal::Unknown);
        };
        if facts.client.as_deref() != ask.client {
            self.tell(ctx, &facts, Some(shown.family), SessionChange::ClientMismatch, None);
            return no(GrantRefusal::Client);
        }
        let held = self.still(&facts.scopes);
        let scopes = match ask.scope {
            Some(asked) => match settings::narrowed(&held, asked) {
                Some(scopes) => scopes,
                None => return Ok(Granted::Refused(Refused::Scope)),
            },
            None => held,
        };
        let now = self.now();
        // What has ended costs the sources nothing, and is not told apart by what they would say.
        if is_over(now, facts.absolute_end) {
            return no(GrantRefusal::Expired);
        }
        let account = match self.standing_of(ctx, &facts).await? {
            Standing::Good(account) => account,
            Standing::Bad(reject) => {
                // Not for a time only: whoever was disabled logs in again afterwards.
                self.end_one(ctx, shown.family, Some(&facts.login), EndReason::Account).await?;
                return no(GrantRefusal::Account(reject));
            }
        };
        let idle_end = now.saturating_add(facts.idle).min(facts.absolute_end);
        let next = shown.generation.checked_add(1);
        let mut family = facts.family(shown.family, self.name(), next.unwrap_or(shown.generation), now);
        let access = self.access(ctx, &family, &account, &scopes, now).await?;
        let renewal = Renewal { from: shown.generation, at: now, idle_end };
        // A family that has reached the last number there is ends by itself.
        if let Some(next) = next
            && self.parts.families.renew(ctx, self.name(), shown.family, &renewal).await?
        {
            self.tell(ctx, &facts, Some(shown.family), SessionChange::Renewed, None);
            return self.tokens(access, &facts, shown.family, next, &scopes, idle_end);
        }
        // Who else renews or ends it meanwhile changes what is read: then it is read again.
        for _ in 0..4 {
            match self.parts.families.family(ctx, self.name(), shown.family).await? {
                Lookup::Found(found) => family = found,
                Lookup::NotFound => return no(GrantRefusal::Unknown),
            }
            match self.replaced(ctx, &family, shown, now).await? {
                Replaced::Retried => {
                    self.tell(
                        ctx,
                        &facts,
                        Some(shown.family),
                        SessionChange::Retried,
                        Some(age(now, family.rotated_at)),
                    );
                    return self.tokens(
                        access,
                        &facts,
                        shown.family,
                        family.generation,
                        &scopes,
                        family.idle_end,
                    );
                }
                Replaced::Refused(GrantRefusal::Reused) => {
                    self.reused(ctx, &facts, &family, now).await?;
                    return no(GrantRefusal::Reused);
                }
                Replaced::Refused(refusal) => {
                    if refusal == GrantRefusal::Forged {
                        self.tell(ctx, &facts, Some(shown.family), SessionChange::Forged, None);
                    }
                    return no(refusal);
                }
                Replaced::Moved => {}
            }
        }
        Err(Error::new(ErrorKind::Overloaded, "a session is renewed too often at once").retry_after(SECOND))
    }

    /// Says what becomes of a token that did not renew.
    async fn replaced(&self, ctx: &Ctx, family: &Family, shown: Shown<'_>, now: Millis) -> Result<Replaced> {
        let refused = |refusal| Ok(Replaced::Refused(refusal));
        if let Some((_, reason)) = family.ended {
            return refused(GrantRefusal::Ended(reason));
        }
        if !family.is_live(now) {
            return refused(GrantRefusal::Expired);
        }
        let behind = match family.generation.checked_sub(shown.generation) {
            None => return refused(GrantRefusal::Forged),
            // It can't be renewed any further, or was set back between the two questions.
            Some(0) if shown.generation == u32::MAX => return refused(GrantRefusal::Expired),
            Some(0) => return Ok(Replaced::Moved),
            Some(behind) => behind,
        };
        let grace = millis(self.settings.grace);
        if behind > 1 || family.confirmed || family.rotated_at.abs_diff(now) >= grace {
            return refused(GrantRefusal::Reused);
        }
        if family.retries >= self.settings.retries {
            let left = grace.saturating_sub(now.saturating_sub(family.rotated_at));
            return Err(Error::new(ErrorKind::Throttled, "the same refresh token was shown too often")
                .retry_after(Duration::from_millis(left).max(SECOND)));
        }
        let retry = Retry { from: shown.generation, at: now, grace, most: self.settings.retries };
        let counted = self.parts.families.retry(ctx, self.name(), family.id, &retry).await?;
        Ok(if counted { Replaced::Retried } else { Replaced::Moved })
    }

    /// Does what follows if a token comes back that was replaced.
    async fn reused(&self, ctx: &Ctx, facts: &Facts, family: &Family, now: Millis) -> Result<()> {
        let age = Some(age(now, family.rotated_at));
        let told = || self.tell(ctx, facts, Some(family.id), SessionChange::ReuseDetected, age);
        let ends = match self.settings.on_reuse {
            OnReuse::Warn => {
                told();
                return Ok(());
            }
            OnReuse::End => Ends::Family(family.id),
            OnReuse::EndAll => Ends::Person(&family.login),
        };
        let _voids = Voids { fence: &self.parts.fence, subject: Subject::Login(&facts.login) };
        // Told once, by whoever ended it.
        if self.end(ctx, &ends, EndReason::Reuse).await? > 0 {
            told();
        }
        Ok(())
    }

    /// Gives another access token for one that is good, while its session lives: for clients that have no refresh token.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub async fn renew_by_access(&self, ctx: &Ctx, access_token: &str) -> Result<Granted> {
        let no = |refusal| Ok(Granted::Refused(Refused::Grant(refusal)));
        let state = match self.check(ctx, access_token).await? {
            Checked::Valid(state) => state,
            Checked::Invalid(Invalid::Account(reject)) => {
                // As when it is renewed by a refresh token: whoever was disabled logs in again afterwards.
                if let Some((valid, login)) = self.authentic(access_token)
                    && let Some(id) = valid.family.map(FamilyId::new)
                {
                    self.end_one(ctx, id, Some(&login), EndReason::Account).await?;
                }
                return no(GrantRefusal::Account(reject));
            }
            Checked::Invalid(_) => return no(GrantRefusal::Malformed),
        };
        let Some(id) = self.family_of(&state) else { return no(GrantRefusal::Unknown) };
        let Some(facts) = self.facts(ctx, id).await? else { return no(GrantRefusal::Unknown) };
        let account = match self.standing_of(ctx, &facts).await? {
            Standing::Good(account) => account,
            Standing::Bad(reject) => {
                self.end_one(ctx, id, Some(&facts.login), EndReason::Account).await?;
                return no(GrantRefusal::Account(reject));
            }
        };
        let scopes = self.still(&facts.scopes);
        for _ in 0..4 {
            let now = self.now();
            let Lookup::Found(mut family) = self.parts.families.family(ctx, self.name(), id).await? else {
                return no(GrantRefusal::Unknown);
            };
            match family.ended {
                Some((_, reason)) => return no(GrantRefusal::Ended(reason)),
                None if !family.is_live(now) || is_over(now, family.absolute_end) => {
                    return no(GrantRefusal::Expired);
                }
                None => {}
            }
            let from = family.generation;
            let Some(next) = from.checked_add(1) else { return no(GrantRefusal::Expired) };
            family.generation = next;
            let access = self.access(ctx, &family, &account, &scopes, now).await?;
            let idle_end = now.saturating_add(facts.idle).min(facts.absolute_end);
            let renewal = Renewal { from, at: now, idle_end };
            if self.parts.families.renew(ctx, self.name(), id, &renewal).await? {
                self.tell(ctx, &facts, Some(id), SessionChange::Renewed, None);
                return self.tokens(access, &facts, id, next, &scopes, idle_end);
            }
        }
        Err(Error::new(ErrorKind::Overloaded, "a session is renewed too often at once").retry_after(SECOND))
    }
}

/// What becomes of a token that did not renew.
enum Replaced {
    /// It is answered with its successor.
    Retried,
    Refused(GrantRefusal),
    /// Something has changed meanwhile.
    Moved,
}

fn age(now: Millis, then: Millis) -> Duration {
    Duration::from_millis(now.saturating_sub(then))
}
