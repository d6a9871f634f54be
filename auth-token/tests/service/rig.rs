//! A service over a store of sessions that fails, or is changed by others, when a test says so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auth_core::{
    Audit, Clock, Ctx, Device, End, Ends, Error, ErrorKind, Families, Family, FamilyId, Fence, HashCheck,
    Issued, Login, LoginEvent, LoginRule, Lookup, Millis, Password, PasswordSource, Realm, Renewal, Result,
    Retry, Revocations, Revoked, SessionEvent, Subject, TokenCache, TokenId, TokenState, Watch,
};
use auth_testkit::{ByTable, FaultyFamilies, ManualClock, MemoryStore, realm_with};
use auth_token::{
    AccessFormat, Checked, ClaimsFor, Grant, Granted, Jwk, JwtConfig, JwtFormat, KeyRing, KeyType, LoginAsk,
    MemoryFamilies, NoTokenCache, Parts, Profile, RefreshSecrets, Refusal, RenewAsk, Session, Throttle,
    TokenService, TokenSettings, Tokens, Valid,
};
use serde_json::{Map, Value};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// What another process does just before the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meddle {
    /// Before a retry: the successor is seen in use.
    Confirms,
    /// Before a retry: all retries are used.
    Exhausts,
    /// Before a renewal: the same token is renewed.
    Renews,
    /// Instead of each renewal: nothing is renewed, as if the store were set back between two questions.
    SetsBack,
    /// Before an end: the same has ended.
    Ends,
    /// Before it is told whether something is revoked: somebody's answers are void.
    Voids,
}

/// Sessions in memory, and other processes that change them.
#[derive(Debug)]
pub(crate) struct Others {
    inner: MemoryFamilies,
    meddle: Mutex<Option<Meddle>>,
    fence: Mutex<Option<Arc<Fence>>>,
    // How much was void when something was ended or revoked.
    pub(crate) void: Mutex<Vec<u64>>,
}

impl Others {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryFamilies::new(1_000),
            meddle: Mutex::default(),
            fence: Mutex::default(),
            void: Mutex::default(),
        })
    }

    pub(crate) fn meddle(&self, meddle: Meddle) {
        *self.meddle.lock().unwrap() = Some(meddle);
    }

    fn takes(&self, meddle: Meddle) -> bool {
        let mut next = self.meddle.lock().unwrap();
        let takes = *next == Some(meddle);
        if takes && meddle != Meddle::SetsBack {
            *next = None;
        }
        takes
    }

    fn note(&self) {
        let void = self.fence.lock().unwrap().as_ref().unwrap().invalidations();
        self.void.lock().unwrap().push(void);
    }
}

#[async_trait]
impl Revocations for Others {
    async fn revoke(
        &self,
        ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()> {
        self.note();
        self.inner.revoke(ctx, realm, what, at, until).await
    }

    async fn is_revoked(&self, ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool> {
        if self.takes(Meddle::Voids) {
            self.fence.lock().unwrap().as_ref().unwrap().invalidate(&Subject::All);
        }
        self.inner.is_revoked(ctx, realm, token, now).await
    }
}

#[async_trait]
impl Families for Others {
    async fn begin(&self, ctx: &Ctx, family: &Family) -> Result<()> {
        self.inner.begin(ctx, family).await
    }

    async fn family(&self, ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>> {
        self.inner.family(ctx, realm, id).await
    }

    async fn renew(&self, ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool> {
        if self.takes(Meddle::SetsBack) {
            return Ok(false);
        }
        if self.takes(Meddle::Renews) {
            assert!(self.inner.renew(ctx, realm, id, renewal).await?);
        }
        self.inner.renew(ctx, realm, id, renewal).await
    }

    async fn retry(&self, ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool> {
        if self.takes(Meddle::Confirms) {
            self.inner.confirm(ctx, realm, id, retry.from + 1).await?;
        }
        while self.takes(Meddle::Exhausts) {
            while self.inner.retry(ctx, realm, id, &Retry { most: 10, ..*retry }).await? {}
        }
        self.inner.retry(ctx, realm, id, retry).await
    }

    async fn confirm(&self, ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()> {
        self.inner.confirm(ctx, realm, id, generation).await
    }

    async fn end(&self, ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        self.note();
        if self.takes(Meddle::Ends) {
            self.inner.end(ctx, realm, what, end).await?;
        }
        self.inner.end(ctx, realm, what, end).await
    }

    async fn sessions(
        &self,
        ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>> {
        self.inner.sessions(ctx, realm, login, now, most).await
    }

    async fn clean(&self, ctx: &Ctx, now: Millis, most: u32) -> Result<u64> {
        self.inner.clean(ctx, now, most).await
    }
}

#[derive(Debug)]
struct NoHash;

#[async_trait]
impl HashCheck for NoHash {
    async fn pad(&self, _ctx: &Ctx, _password: &Password) -> Result<()> {
        Ok(())
    }
}

/// What else is told of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) family: Option<FamilyId>,
    pub(crate) client: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) age: Option<Duration>,
}

/// What was told of sessions.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<String>>, pub(crate) Mutex<Vec<Told>>);

impl Heard {
    /// What was told since it was asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        self.1.lock().unwrap().clear();
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn last(&self) -> Told {
        self.1.lock().unwrap().last().unwrap().clone()
    }
}

impl Audit for Heard {
    fn login(&self, _event: &LoginEvent<'_>) {}

    fn session(&self, event: &SessionEvent<'_>) {
        let login = event.login.unwrap_or("-");
        self.0.lock().unwrap().push(format!("{} {login}", event.change.as_str()));
        let client = event.client.map(str::to_owned);
        let told = Told { family: event.family, client, address: event.address, age: event.age };
        self.1.lock().unwrap().push(told);
    }
}

/// Says what it is told to, or fails.
#[derive(Debug, Default)]
pub(crate) struct Says(pub(crate) Mutex<Option<Map<String, Value>>>);

#[async_trait]
impl ClaimsFor for Says {
    async fn claims_for(&self, _ctx: &Ctx, session: &Session<'_>) -> Result<Map<String, Value>> {
        assert_eq!(session.account.principal().login().as_str(), "calvin");
        if let Some(family) = session.family {
            assert_eq!((family.login.as_str(), family.person.as_str()), ("calvin", "app\u{1f}i1"));
        }
        let said = self.0.lock().unwrap().clone();
        said.ok_or_else(|| Error::new(ErrorKind::Timeout, "the application does not answer"))
    }
}

/// Lets so many pass.
#[derive(Debug)]
pub(crate) struct Few(pub(crate) AtomicU32);

#[async_trait]
impl Throttle for Few {
    async fn wrong(&self, _ctx: &Ctx, shown: &[u8]) -> Result<()> {
        assert!(shown.len() <= 128, "as much as tells one from another");
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Error::new(ErrorKind::Throttled, "too many"))
    }
}

/// What was put into a cache.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) state: Arc<TokenState>,
    pub(crate) ttl: Duration,
    pub(crate) watch: Watch,
}

/// A cache of tokens that keeps all, and answers nothing without waiting.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) entries: Mutex<HashMap<TokenId, Put>>,
    pub(crate) gets: AtomicU32,
}

#[async_trait]
impl TokenCache for Kept {
    async fn get(&self, _ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let found = self.entries.lock().unwrap().get(id).map(|put| Arc::clone(&put.state));
        Ok(found.map_or(Lookup::NotFound, Lookup::Found))
    }

    async fn put(
        &self,
        _ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        self.entries.lock().unwrap().insert(*id, Put { state: Arc::clone(state), ttl, watch });
        Ok(())
    }
}

/// A format whose keys may be out of reach.
#[derive(Debug)]
struct Format {
    inner: JwtFormat,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

impl AccessFormat for Format {
    fn issue(&self, grant: &Grant<'_>) -> Result<String> {
        self.inner.issue(grant)
    }

    fn verify(
        &self,
        token: &str,
        now: SystemTime,
        ends: auth_token::Ends,
    ) -> std::result::Result<Valid, Refusal> {
        match *self.refusal.lock().unwrap() {
            Some(refusal) => Err(refusal),
            None => self.inner.verify(token, now, ends),
        }
    }

    fn jwks(&self, now: SystemTime) -> String {
        self.inner.jwks(now)
    }
}

pub(crate) type Change = Box<dyn FnOnce(TokenService) -> TokenService>;

/// What a rig is made of.
pub(crate) struct Make {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) key: Jwk,
    pub(crate) others: Arc<Others>,
    pub(crate) secrets: Vec<&'static str>,
    pub(crate) people: Arc<MemoryStore>,
    pub(crate) source: Option<Arc<dyn PasswordSource>>,
    pub(crate) cache: Option<Arc<Kept>>,
    pub(crate) profile: Profile,
    pub(crate) settings: TokenSettings,
    pub(crate) change: Change,
}

impl Make {
    pub(crate) fn new() -> Self {
        Self {
            clock: ManualClock::new(),
            key: Jwk::generate(KeyType::Ed25519, None).unwrap(),
            others: Others::new(),
            secrets: vec!["a"],
            people: Arc::new(MemoryStore::named("app")),
            source: None,
            cache: None,
            profile: Profile::Native,
            settings: TokenSettings { jitter: 0.0, ..TokenSettings::default() },
            change: Box::new(|service| service),
        }
    }

    /// Another process over the same sessions and people, with the same key.
    pub(crate) fn beside(rig: &Rig) -> Self {
        Self {
            clock: Arc::clone(&rig.clock),
            key: rig.key.clone(),
            others: Arc::clone(&rig.others),
            people: Arc::clone(&rig.people),
            ..Self::new()
        }
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut TokenSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn changed(mut self, change: impl FnOnce(TokenService) -> TokenService + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    pub(crate) fn rig(self) -> Rig {
        self.try_rig().unwrap()
    }

    pub(crate) fn try_rig(self) -> Result<Rig> {
        let time = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let fence = Arc::new(Fence::new());
        *self.others.fence.lock().unwrap() = Some(Arc::clone(&fence));
        let families = Arc::new(FaultyFamilies::new(Arc::clone(&self.others) as Arc<dyn Families>));
        let by_table = ByTable::new(Arc::clone(&self.people), Arc::clone(&time));
        let realm = Realm::new(
            realm_with("default", LoginRule::CaseMapped),
            self.source.unwrap_or_else(|| Arc::new(by_table)),
            Arc::new(NoHash),
            Arc::clone(&time),
        );
        let ring = Arc::new(KeyRing::fixed(self.key.clone(), None).unwrap());
        let mut jwt = JwtConfig::new(self.profile);
        jwt.issuer = Some("gatepost".to_owned());
        jwt.audience = Some("default".to_owned());
        let refusal = Arc::new(Mutex::new(None));
        let inner = JwtFormat::new(jwt, ring, self.clock.wall()).unwrap();
        let secrets = self.secrets.iter().map(|name| ((*name).to_owned(), name.repeat(32).into_bytes()));
        let parts = Parts {
            realm: Arc::new(realm),
            format: Arc::new(Format { inner, refusal: Arc::clone(&refusal) }),
            families: Arc::clone(&families) as Arc<dyn Families>,
            cache: match &self.cache {
                Some(kept) => Arc::clone(kept) as Arc<dyn TokenCache>,
                None => Arc::new(NoTokenCache),
            },
            fence: Arc::clone(&fence),
            clock: time,
            secrets: Arc::new(RefreshSecrets::new(secrets).unwrap()),
        };
        let heard = Arc::new(Heard::default());
        let service =
            TokenService::new(parts, self.settings)?.with_audit(Arc::clone(&heard) as Arc<dyn Audit>);
        Ok(Rig {
            clock: self.clock,
            key: self.key,
            families,
            others: self.others,
            people: self.people,
            heard,
            fence,
            refusal,
            service: (self.change)(service),
            ctx: Ctx::new(),
        })
    }
}

pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) key: Jwk,
    pub(crate) families: Arc<FaultyFamilies>,
    /// What is under it, which never fails.
    pub(crate) others: Arc<Others>,
    pub(crate) people: Arc<MemoryStore>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) fence: Arc<Fence>,
    /// Why the format refuses everything, if it does.
    pub(crate) refusal: Arc<Mutex<Option<Refusal>>>,
    pub(crate) service: TokenService,
    pub(crate) ctx: Ctx,
}

pub(crate) fn ask() -> LoginAsk<'static> {
    LoginAsk {
        login: "calvin",
        password: b"hobbes".to_vec(),
        scope: None,
        client: None,
        device: Device::default(),
        remember: true,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Make::new().rig()
    }

    pub(crate) fn pass(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn login(&self, login: &str) -> Login {
        Login::parse(self.service.realm().id(), login).unwrap()
    }

    pub(crate) fn millis(&self) -> Millis {
        u64::try_from(self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
    }

    pub(crate) async fn try_log_in(&self) -> Result<Granted> {
        self.service.login(&self.ctx, ask()).await
    }

    pub(crate) async fn log_in(&self) -> Tokens {
        tokens(self.try_log_in().await)
    }

    pub(crate) async fn renew(&self, token: &str) -> Result<Granted> {
        self.service.renew(&self.ctx, &RenewAsk { token, scope: None, client: None }).await
    }

    pub(crate) async fn renew_by(&self, access_token: &str) -> Result<Granted> {
        self.service.renew_by_access(&self.ctx, access_token).await
    }

    /// Why an access token is not good, or that it is, or that nobody knows.
    pub(crate) async fn checked(&self, token: &str) -> &'static str {
        match self.service.check(&self.ctx, token).await {
            Ok(Checked::Valid(_)) => "valid",
            Ok(Checked::Invalid(invalid)) => invalid.as_str(),
            Ok(_) => "?",
            Err(error) if error.kind() == ErrorKind::Unavailable => "nobody knows",
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn state(&self, token: &str) -> TokenState {
        match self.service.check(&self.ctx, token).await {
            Ok(Checked::Valid(state)) => (*state).clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn issue(&self, life: Duration) -> String {
        let login = self.login("calvin");
        self.service.issue(&self.ctx, &login, None, Some(life)).await.unwrap().unwrap().0
    }

    pub(crate) async fn record(&self, id: FamilyId) -> Option<Family> {
        self.others.family(&self.ctx, "default", id).await.unwrap().found()
    }

    /// The ids of the live sessions of calvin.
    pub(crate) async fn live(&self) -> Vec<FamilyId> {
        let sessions = self.service.sessions(&self.ctx, &self.login("calvin")).await.unwrap();
        sessions.iter().map(|family| family.id).collect()
    }
}

#[track_caller]
pub(crate) fn tokens(granted: Result<Granted>) -> Tokens {
    match granted {
        Ok(Granted::Tokens(tokens)) => *tokens,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn class(granted: Result<Granted>) -> &'static str {
    match granted {
        Ok(Granted::Refused(refused)) => refused.as_str(),
        Ok(_) => "tokens",
        Err(error) => error.kind().as_str(),
    }
}

pub(crate) fn claims(state: &TokenState) -> Value {
    serde_json::from_str(state.claims.as_ref().unwrap()).unwrap()
}
