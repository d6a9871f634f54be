//! The token service: login, renewal, logout, and the check of access tokens.

mod answer;
mod check;
mod claims;
mod person;
mod refresh;
mod settings;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auth_core::{
    Account, AccountState, Audit, Clock, Ctx, Device, End, EndReason, Ends, Error, ErrorKind, Families,
    Family, FamilyId, Fence, Freshness, Issued, Login, Lookup, Millis, NoAudit, Principal, Realm, Reject,
    Renewal, Result, Retry, Revoked, SessionChange, SessionEvent, Subject, TokenCache, TokenMark, Verdict,
};
use lru::LruCache;
use zeroize::Zeroizing;

pub use answer::{
    Bearing, Checked, GrantRefusal, Granted, Invalid, LoggedOut, LoginAsk, Refused, RenewAsk, Tokens,
};
pub use check::NoTokenCache;
pub use claims::{ClaimsFor, GroupClaims, NoClaims, Session, claims_of};
pub use refresh::{MIN_SECRET_BYTES, REFRESH_PREFIX, RefreshSecrets};
pub use settings::{OnReuse, TokenSettings};

use crate::{AccessFormat, Grant, Valid};
use refresh::Shown;

/// Hears of refresh tokens that are not good, and makes guessers wait.
#[async_trait]
pub trait Throttle: std::fmt::Debug + Send + Sync {
    /// Counts what was shown and is not good against where it came from.
    ///
    /// # Errors
    /// [`Throttled`](ErrorKind::Throttled) if that was too often: the answer is that, and not "no".
    async fn wrong(&self, ctx: &Ctx, shown: &[u8]) -> Result<()>;
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoThrottle;

#[async_trait]
impl Throttle for NoThrottle {
    async fn wrong(&self, _ctx: &Ctx, _shown: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// What a token service is made of.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "a list of parts, all of which are needed")]
pub struct Parts {
    /// Who may log in.
    pub realm: Arc<Realm>,
    /// How access tokens are made and read.
    pub format: Arc<dyn AccessFormat>,
    /// Where sessions and revocations are kept.
    pub families: Arc<dyn Families>,
    /// Where the states of validated tokens are remembered.
    pub cache: Arc<dyn TokenCache>,
    /// What voids them: the stack's fence.
    pub fence: Arc<Fence>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What refresh tokens are derived from.
    pub secrets: Arc<RefreshSecrets>,
}

/// Login, renewal, logout and the check of access tokens, for one realm.
///
/// A login begins a session: a family of refresh tokens, each good for one renewal, which gives the next one. The store keeps
/// one record of it, which no token can be made of, and decides each renewal in one statement. Design: RFC 9700 section
/// 4.14.2 (rotation, reuse ends the family), with an answer for who has lost one.
///
/// - Everything that can fail without consuming the token comes first: the account is read, the claims are asked for, the
///   access token is signed; then the store is asked to renew. An outage is an error and consumes nothing.
/// - A token of the generation before, within [`grace`](TokenSettings::grace) of the renewal and unless its successor was
///   seen in use, is answered with that same successor. Any other one that was replaced ends the session, and is told.
/// - An access token is good if it is authentic, its account may log in, and neither it nor its session, login or realm was
///   revoked since. What is good is remembered, under a keyed hash, until it ends or its login is invalidated.
#[derive(Debug)]
pub struct TokenService {
    parts: Parts,
    settings: TokenSettings,
    claims: Arc<dyn ClaimsFor>,
    audit: Arc<dyn Audit>,
    throttle: Arc<dyn Throttle>,
    // What the ids of tokens in the cache are made with.
    cache_key: Zeroizing<[u8; 32]>,
    // A std mutex: nothing awaits while it is held.
    facts: Mutex<LruCache<FamilyId, Arc<Facts>>>,
}

/// What never changes of a family.
#[derive(Debug)]
struct Facts {
    login: Login,
    person: String,
    client: Option<String>,
    scopes: Vec<String>,
    secret: String,
    created_at: Millis,
    idle: Millis,
    absolute_end: Millis,
}

/// Whether there is an account that may log in.
enum Standing {
    Good(Account),
    Bad(Reject),
}

impl TokenService {
    /// Makes a service.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for settings that make no sense.
    pub fn new(parts: Parts, settings: TokenSettings) -> Result<Self> {
        settings.check()?;
        let cache_key = parts.secrets.derived(b"gatepost token cache 1", parts.realm.id().name());
        let remembered = NonZeroUsize::new(settings.remembered).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            parts,
            settings,
            claims: Arc::new(NoClaims),
            audit: Arc::new(NoAudit),
            throttle: Arc::new(NoThrottle),
            cache_key,
            facts: Mutex::new(LruCache::new(remembered)),
        })
    }

    /// Sets who says what goes into access tokens.
    #[must_use]
    pub fn with_claims(mut self, claims: Arc<dyn ClaimsFor>) -> Self {
        self.claims = claims;
        self
    }

    /// Sets who hears of sessions.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<dyn Audit>) -> Self {
        self.audit = audit;
        self
    }

    /// Sets who makes those wait that show wrong refresh tokens.
    #[must_use]
    pub fn with_throttle(mut self, throttle: Arc<dyn Throttle>) -> Self {
        self.throttle = throttle;
        self
    }

    /// Returns the realm.
    #[must_use]
    pub const fn realm(&self) -> &Arc<Realm> {
        &self.parts.realm
    }

    /// Returns what is allowed.
    #[must_use]
    pub const fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// Returns the public keys as a JWK set (RFC 7517): the next, the present and the previous ones.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.parts.format.jwks(self.parts.clock.wall())
    }

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

    /// Issues an access token without a session, for a login that may log in. Nothing if it may not.
    ///
    /// # Errors
    /// Any kind; [`Invalid`](ErrorKind::Invalid) for a longer life than [`longest`](TokenSettings::longest) or scopes that
    /// are not configured.
    pub async fn issue(
        &self,
        ctx: &Ctx,
        login: &Login,
        scope: Option<&str>,
        life: Option<Duration>,
    ) -> Result<std::result::Result<(String, SystemTime), Reject>> {
        let life = life.unwrap_or(self.settings.access_ttl);
        if life > self.settings.longest || life.is_zero() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a token lives for more than nothing and no longer than token.longest",
            ));
        }
        let Some(scopes) = self.settings.granted(scope) else {
            return Err(Error::new(ErrorKind::Invalid, "a scope that is not configured"));
        };
        let account = match self.standing(ctx, login, None).await? {
            Standing::Good(account) => account,
            Standing::Bad(reject) => return Ok(Err(reject)),
        };
        let session = Session { family: None, account: &account, realm: &self.parts.realm, scopes: &scopes };
        let extra = self.claims.claims_for(ctx, &session).await?;
        let issued_at = self.parts.clock.wall();
        let expires_at = issued_at + life;
        let grant = Grant {
            login: login.as_str(),
            scopes: &scopes,
            issued_at,
            expires_at,
            family: None,
            client: None,
            auth_time: None,
            extra,
        };
        Ok(Ok((self.parts.format.issue(&grant)?, expires_at)))
    }

    /// Deletes records that are no longer needed, of any realm of the store, in batches of at most `most`.
    ///
    /// # Errors
    /// Any kind. What was not deleted is found again.
    pub async fn clean(&self, ctx: &Ctx, most: u32) -> Result<u64> {
        self.parts.families.clean(ctx, self.now(), most).await
    }

    /// Makes an access token of a session.
    async fn access(
        &self,
        ctx: &Ctx,
        family: &Family,
        account: &Account,
        scopes: &[String],
        now: Millis,
    ) -> Result<(String, SystemTime, SystemTime)> {
        let session = Session { family: Some(family), account, realm: &self.parts.realm, scopes };
        let extra = self.claims.claims_for(ctx, &session).await?;
        let issued_at = at(now);
        // Only ever shorter, in whole seconds as they are written, and not beyond the session.
        let mut draw = [0; 4];
        getrandom::fill(&mut draw).map_err(no_random)?;
        let part = f64::from(u32::from_le_bytes(draw)) / f64::from(u32::MAX) * self.settings.jitter;
        let life = self.settings.access_ttl.mul_f64(1.0 - part);
        let life = Duration::from_secs(life.as_secs().max(1));
        let expires_at = (issued_at + life).min(at(family.absolute_end));
        let grant = Grant {
            login: account.principal().login().as_str(),
            scopes,
            issued_at,
            expires_at,
            family: Some((*family.id.as_bytes(), family.generation)),
            client: family.client.as_deref(),
            auth_time: Some(at(family.created_at)),
            extra,
        };
        Ok((self.parts.format.issue(&grant)?, issued_at, expires_at))
    }

    /// Puts the answer together.
    fn tokens(
        &self,
        (access_token, issued_at, expires_at): (String, SystemTime, SystemTime),
        facts: &Facts,
        family: FamilyId,
        generation: u32,
        scopes: &[String],
        idle_end: Millis,
    ) -> Result<Granted> {
        let token = self.parts.secrets.token(&facts.secret, self.name(), family, generation);
        let refresh_token = token.ok_or_else(|| {
            Error::new(
                ErrorKind::Misconfigured,
                "the secret that a session was begun with is no longer configured",
            )
        })?;
        Ok(Granted::Tokens(Box::new(Tokens {
            access_token,
            login: facts.login.as_str().to_owned(),
            family,
            generation,
            scope: scopes.join(" "),
            issued_at,
            starts_at: issued_at,
            expires_at,
            leeway: self.settings.leeway,
            refresh_token,
            refresh_expires_at: at(idle_end),
            session_expires_at: at(facts.absolute_end),
        })))
    }

    /// What of the scopes that were granted is still configured.
    fn still(&self, granted: &[String]) -> Vec<String> {
        granted.iter().filter(|scope| self.settings.scopes.contains(scope)).cloned().collect()
    }

    /// Reads the account of a session, and whether it still is the same person's and may log in.
    async fn standing_of(&self, ctx: &Ctx, facts: &Facts) -> Result<Standing> {
        let known = person::principal(&facts.login, &facts.person);
        let standing = self.standing(ctx, &facts.login, known.as_ref()).await?;
        Ok(match standing {
            // Somebody else has the login by now.
            Standing::Good(account) if person::text(account.principal()) != facts.person => {
                Standing::Bad(Reject::UnknownUser)
            }
            standing => standing,
        })
    }

    /// Reads an account, and whether it may log in. Where sources can't tell who has a login, whoever is `known` has it.
    async fn standing(&self, ctx: &Ctx, login: &Login, known: Option<&Principal>) -> Result<Standing> {
        let account = match (self.parts.realm.account(ctx, login).await, known) {
            (Ok(Lookup::Found(account)), _) => account,
            (Ok(Lookup::NotFound), _) => return Ok(Standing::Bad(Reject::UnknownUser)),
            (Err(error), Some(who)) if error.kind() == ErrorKind::Unsupported => {
                Account::new(who.clone(), AccountState::default(), None)
            }
            (Err(error), _) => return Err(error),
        };
        Ok(match account.state().refusal(self.parts.clock.wall()) {
            Some(reject) => Standing::Bad(reject),
            None => Standing::Good(account),
        })
    }

    /// Ends, and revokes what came with it. Whoever is concerned is to be invalidated afterwards.
    async fn end(&self, ctx: &Ctx, ends: &Ends<'_>, reason: EndReason) -> Result<u64> {
        let now = self.now();
        // Tokens are written in whole seconds.
        let until = now.saturating_add(millis(self.settings.longest + self.settings.leeway + SECOND));
        self.parts.families.end(ctx, self.name(), ends, &End { at: now, reason, until }).await
    }

    /// Ends one session. Returns whether it lived.
    async fn end_one(
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

    /// Returns what never changes of a family: from memory, or from the store.
    async fn facts(&self, ctx: &Ctx, id: FamilyId) -> Result<Option<Arc<Facts>>> {
        if let Some(facts) = self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Some(Arc::clone(facts)));
        }
        let Lookup::Found(family) = self.parts.families.family(ctx, self.name(), id).await? else {
            return Ok(None);
        };
        let facts = Arc::new(self.facts_of(&family)?);
        self.remember(id, &facts);
        Ok(Some(facts))
    }

    fn facts_of(&self, family: &Family) -> Result<Facts> {
        Ok(Facts {
            login: Login::parse(self.parts.realm.id(), &family.login)?,
            person: family.person.clone(),
            client: family.client.clone(),
            scopes: family.scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            secret: family.secret.clone(),
            created_at: family.created_at,
            idle: family.idle,
            absolute_end: family.absolute_end,
        })
    }

    fn remember(&self, id: FamilyId, facts: &Arc<Facts>) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).put(id, Arc::clone(facts));
    }

    fn tell(
        &self,
        ctx: &Ctx,
        facts: &Facts,
        family: Option<FamilyId>,
        change: SessionChange,
        age: Option<Duration>,
    ) {
        self.told_of(ctx, Some(facts.login.as_str()), family, change, facts.client.as_deref(), age);
    }

    fn told_of(
        &self,
        ctx: &Ctx,
        login: Option<&str>,
        family: Option<FamilyId>,
        change: SessionChange,
        client: Option<&str>,
        age: Option<Duration>,
    ) {
        let address = ctx.client();
        self.audit.session(&SessionEvent { realm: self.name(), login, family, change, client, address, age });
    }

    fn name(&self) -> &str {
        self.parts.realm.id().name()
    }

    fn now(&self) -> Millis {
        check::millis_of(self.parts.clock.wall())
    }
}

/// Voids what is remembered of somebody when it is dropped: after the store was told, also where its answer is lost or nobody
/// waits for it any longer.
struct Voids<'a> {
    fence: &'a Fence,
    subject: Subject<'a>,
}

impl Drop for Voids<'_> {
    fn drop(&mut self) {
        self.fence.invalidate(&self.subject);
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

impl Facts {
    /// A record for what is asked about it before it is renewed.
    fn family(&self, id: FamilyId, realm: &str, generation: u32, now: Millis) -> Family {
        Family {
            id,
            realm: realm.into(),
            login: self.login.as_str().to_owned(),
            person: self.person.clone(),
            client: self.client.clone(),
            scope: self.scopes.join(" "),
            device: Device::default(),
            secret: self.secret.clone(),
            generation,
            rotated_at: now,
            retries: 0,
            confirmed: false,
            created_at: self.created_at,
            last_used_at: now,
            idle: self.idle,
            idle_end: now.saturating_add(self.idle).min(self.absolute_end),
            absolute_end: self.absolute_end,
            ended: None,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Milliseconds of a length of time.
fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day of a moment, at most in the year 9999.
fn at(moment: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(moment.min(253_402_300_799_000))
}

/// Reports whether a session is over: also in its last second, if that has begun, since tokens are written in whole seconds.
const fn is_over(now: Millis, absolute_end: Millis) -> bool {
    now / 1_000 >= absolute_end / 1_000
}

fn age(now: Millis, then: Millis) -> Duration {
    Duration::from_millis(now.saturating_sub(then))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

fn no_random(error: getrandom::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the system gives no random numbers").with("cause", error)
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
