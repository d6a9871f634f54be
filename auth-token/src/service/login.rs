//! A session begins.

use std::sync::Arc;

use auth_core::{
    Ctx, Device, EndReason, Ends, Error, ErrorKind, Family, FamilyId, Freshness, Issued, Result,
    SessionChange, TokenMark, Verdict,
};
use zeroize::Zeroizing;

use super::{Granted, LoginAsk, Refused, SECOND, Standing, TokenService, millis, person, random};

impl TokenService {
    /// Begins a session for who shows the right password.
    ///
    /// Sessions that end meanwhile, since the password was changed or its owner has logged out everywhere, take this one
    /// with them: then the password is looked at once more.
    ///
    /// # Errors
    /// Any kind: nobody could find out, or the session could not be kept.
    /// [`Throttled`](ErrorKind::Throttled) where the guard makes wait.
    pub async fn login(&self, ctx: &Ctx, mut ask: LoginAsk<'_>) -> Result<Granted> {
        // Said before the password is looked at, so that it tells nothing about it.
        let Some(scopes) = self.settings.granted(ask.scope) else {
            return Ok(Granted::Refused(Refused::Scope));
        };
        if let Some(client) = ask.client {
            check_client(client)?;
        }
        let password = Zeroizing::new(std::mem::take(&mut ask.password));
        ask.device = bounded(ask.device);
        if let Some(granted) = self.log_in(ctx, &ask, &password, &scopes).await? {
            return Ok(granted);
        }
        // The password may be another one by now. Or a store in a new life has taken what is older for revoked.
        let ctx = ctx.clone().with_freshness(Freshness::Fresh);
        match self.log_in(&ctx, &ask, &password, &scopes).await? {
            Some(granted) => Ok(granted),
            None => {
                let error = Error::new(ErrorKind::Overloaded, "all sessions of this login are being ended");
                Err(error.retry_after(SECOND))
            }
        }
    }

    /// Begins a session, unless all sessions of the login have ended since it was asked for: then it has ended with them.
    async fn log_in(
        &self,
        ctx: &Ctx,
        ask: &LoginAsk<'_>,
        password: &[u8],
        scopes: &[String],
    ) -> Result<Option<Granted>> {
        // Before the password is read anywhere.
        let started = self.now();
        let who = match self.parts.realm.attempt(ctx, ask.login, password.to_vec()).await? {
            Verdict::Accepted(who) => who,
            Verdict::Rejected(reject) => return Ok(Some(Granted::Refused(Refused::Credentials(reject)))),
        };
        let account = match self.standing(ctx, who.login(), Some(&who)).await? {
            Standing::Good(account) => account,
            Standing::Bad(reject) => return Ok(Some(Granted::Refused(Refused::Credentials(reject)))),
        };
        let now = self.now();
        let (idle, absolute) = if ask.remember {
            (self.settings.idle, self.settings.absolute)
        } else {
            (self.settings.idle.min(self.settings.short), self.settings.absolute.min(self.settings.short))
        };
        let absolute_end = now.saturating_add(millis(absolute));
        let family = Family {
            id: FamilyId::new(random()?),
            realm: self.name().into(),
            login: who.login().as_str().to_owned(),
            person: person::text(&who),
            client: ask.client.map(str::to_owned),
            scope: scopes.join(" "),
            device: ask.device.clone(),
            secret: self.parts.secrets.present().to_owned(),
            generation: 1,
            rotated_at: now,
            retries: 0,
            confirmed: false,
            created_at: now,
            last_used_at: now,
            idle: millis(idle),
            idle_end: now.saturating_add(millis(idle)),
            absolute_end,
            ended: None,
        };
        let facts = Arc::new(self.facts_of(&family)?);
        let access = self.access(ctx, &family, &account, scopes, now).await?;
        self.parts.families.begin(ctx, &family).await?;
        // Whoever ended them before it was there has left a revocation; whoever does afterwards finds it.
        let issued = Issued {
            mark: TokenMark::new([0; 32]),
            family: None,
            login: who.login().as_str(),
            at: Some(started),
        };
        if self.parts.families.is_revoked(ctx, self.name(), &issued, self.now()).await? {
            self.end(ctx, &Ends::Family(family.id), EndReason::Revoked).await?;
            return Ok(None);
        }
        self.remember(family.id, &facts);
        self.tell(ctx, &facts, Some(family.id), SessionChange::Begun, None);
        self.tokens(access, &facts, family.id, 1, scopes, family.idle_end).map(Some)
    }
}

/// Refuses the name of a client that can't be one.
fn check_client(client: &str) -> Result<()> {
    let good = !client.is_empty()
        && client.len() <= Family::MAX_NAME_BYTES
        && client.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if good {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Invalid, "a client's name is 1 to 255 printable ASCII characters"))
    }
}

/// Cuts what a client says of its device to what is kept, without control characters.
fn bounded(device: Device) -> Device {
    let cut = |text: String, most: usize| {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.truncate(text.floor_char_boundary(most));
        Some(text).filter(|text| !text.trim().is_empty())
    };
    Device {
        name: device.name.and_then(|name| cut(name, Family::MAX_NAME_BYTES)),
        address: device.address,
        agent: device.agent.and_then(|agent| cut(agent, Family::MAX_AGENT_BYTES)),
    }
}
