//! The token service: login, renewal, logout, and the check of access tokens.

mod answer;
mod check;
mod claims;
mod end;
mod login;
mod person;
mod refresh;
mod renew;
mod settings;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auth_core::{
    Account, AccountState, Audit, Clock, Ctx, Device, Error, ErrorKind, Families, Family, FamilyId, Fence,
    Login, Lookup, Millis, NoAudit, Principal, Realm, Reject, Result, SessionChange, SessionEvent,
    TokenCache,
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

use crate::{AccessFormat, Grant};

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

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

fn no_random(error: getrandom::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the system gives no random numbers").with("cause", error)
}
