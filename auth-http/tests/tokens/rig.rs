//! A token service over stores in memory, its routes, and requests to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Account, Audit, Clock, Ctx, Error, ErrorKind, Fence, GroupOracle, GroupUnion, HashCheck, Login,
    LoginEvent, LoginRule, Lookup, Password, PasswordSource, Realm, Result, SessionEvent, SourceInfo, Stamp,
    TokenCache, TokenId, TokenState, Verdict, Watch,
};
use auth_http::{CookieMode, FrontConfig, OneService, Realms, TokenRoutes, token_router};
pub(crate) use auth_testkit::FamilyFault as Fault;
use auth_testkit::{ByTable, FaultyFamilies, ManualClock, MemoryStore, realm_with};
use auth_token::{
    Jwk, JwtConfig, JwtFormat, KeyRing, KeyType, MemoryFamilies, NoThrottle, Parts, Profile, RefreshSecrets,
    Throttle, TokenService, TokenSettings,
};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::HeaderMap;
use axum::http::{HeaderValue, Method, Request};
use serde_json::Value;
use tower::ServiceExt as _;

/// What a test may change of the service and its routes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) cookie: CookieMode,
    pub(crate) grace: u64,
    pub(crate) realm: &'static str,
    pub(crate) front: FrontConfig,
    pub(crate) throttle: Arc<dyn Throttle>,
}

impl Plan {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            cookie: CookieMode::Off,
            grace: 30,
            realm: "default",
            front: FrontConfig::new("default"),
            throttle: Arc::new(NoThrottle),
        }
    }

    pub(crate) fn with_cookies() -> Self {
        Self { cookie: CookieMode::On, ..Self::new(Profile::Native) }
    }
}

#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) app: Router,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) families: Arc<FaultyFamilies>,
    pub(crate) people: Arc<Down>,
    pub(crate) cache: Arc<MapCache>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) service: Arc<TokenService>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::of(Plan::new(Profile::Native))
    }

    pub(crate) fn of(plan: Plan) -> Self {
        let manual = ManualClock::new();
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let store = Arc::new(MemoryStore::new());
        let passwords = ByTable::new(Arc::clone(&store), Arc::clone(&clock));
        let people = Arc::new(Down { inner: Arc::new(passwords), down: AtomicBool::new(false) });
        let groups: Arc<dyn GroupOracle> = Arc::<MemoryStore>::clone(&store);
        let heard = Arc::new(Heard::default());
        let sources: Arc<dyn PasswordSource> = Arc::<Down>::clone(&people);
        let realm = Realm::new(
            realm_with(plan.realm, LoginRule::CaseMapped),
            sources,
            Arc::new(NoPads),
            Arc::clone(&clock),
        )
        .with_groups(GroupUnion::new(vec![groups]))
        .with_audit(Arc::<Heard>::clone(&heard));
        let families = Arc::new(FaultyFamilies::new(Arc::new(MemoryFamilies::new(10_000))));
        let fence = Arc::new(Fence::new());
        let cache = Arc::new(MapCache {
            clock: Arc::clone(&clock),
            fence: Arc::clone(&fence),
            kept: Mutex::default(),
            hits: AtomicU64::new(0),
            forgets: AtomicBool::new(false),
        });
        let ring = KeyRing::fixed(Jwk::generate(KeyType::Ed25519, None).unwrap(), None).unwrap();
        let parts = Parts {
            realm: Arc::new(realm),
            format: Arc::new(
                JwtFormat::new(JwtConfig::new(plan.profile), Arc::new(ring), clock.wall()).unwrap(),
            ),
            families: Arc::<FaultyFamilies>::clone(&families),
            cache: Arc::<MapCache>::clone(&cache),
            fence,
            clock: Arc::clone(&clock),
            secrets: Arc::new(RefreshSecrets::new([("s1".to_owned(), vec![7; 32])]).unwrap()),
        };
        let settings = TokenSettings {
            jitter: 0.0,
            grace: Duration::from_secs(plan.grace),
            scopes: vec!["read".into(), "write".into()],
            ..TokenSettings::default()
        };
        let service = TokenService::new(parts, settings).unwrap();
        let service = service.with_audit(Arc::<Heard>::clone(&heard)).with_throttle(plan.throttle);
        let service = Arc::new(service);
        let services = Arc::new(OneService::new(Arc::clone(&service)));
        let routes = TokenRoutes::new(plan.front)
            .with_profile(plan.profile)
            .unwrap()
            .with_cookie(plan.cookie)
            .unwrap();
        let app = token_router(services, routes, Arc::clone(&clock));
        Self { app, clock: manual, store, families, people, cache, heard, service }
    }

    pub(crate) fn forward(self: &Arc<Self>) -> Router {
        let realms: Arc<dyn Realms> = Arc::new(Doors(Arc::clone(&self.service), AtomicBool::new(true)));
        auth_http::router(realms, FrontConfig::new("default"), Arc::<ManualClock>::clone(&self.clock))
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn post(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(request(Method::POST, path, &all, body.to_string())).await
    }

    pub(crate) async fn form(&self, path: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(request(Method::POST, path, &headers, body.to_owned())).await
    }

    pub(crate) async fn bare(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(method, path, headers, Body::empty())).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.app, request).await
    }

    /// Logs calvin in as native clients do.
    pub(crate) async fn login(&self) -> Answer {
        let body = serde_json::json!({ "login": "calvin", "password": "hobbes" });
        let answer = self.post("/api/security/login", body, &[]).await;
        answer.is(200);
        answer
    }

    pub(crate) async fn renew(&self, token: &str) -> Answer {
        self.post("/api/security/renew", serde_json::json!({ "refresh_token": token }), &[]).await
    }
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 64 * 1024).await.unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) fn request(
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let mut request = request.body(body.into()).unwrap();
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// An answer, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert_eq!(self.headers["pragma"], "no-cache");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers.contains_key("retry-after"), matches!(status, 429 | 503), "{self:?}");
        assert!(status != 401 || self.headers.contains_key("www-authenticate"), "{self:?}");
        assert_eq!(self.headers.contains_key("allow"), status == 405, "{self:?}");
        assert!(self.json().is_object(), "{self:?}");
    }

    /// A refusal of the native profile.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, error: &str) {
        self.is(status);
        assert_eq!(self.json()["error"], error, "{self:?}");
        assert!(self.json()["error_description"].is_string());
        assert!(!self.headers.contains_key("set-cookie"), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.json().get(name).is_some()
    }

    pub(crate) fn access(&self) -> String {
        self.text("access_token")
    }

    pub(crate) fn refresh(&self) -> String {
        self.text("refresh_token")
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name}: {self:?}");
        values[0].to_str().unwrap()
    }
}

/// What was told of sessions and logins, as names.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Audit for Heard {
    fn login(&self, _event: &LoginEvent<'_>) {}
    fn session(&self, event: &SessionEvent<'_>) {
        self.0.lock().unwrap().push(event.change.as_str().to_owned());
    }
}

/// A realm with and without tokens, for forward-auth.
#[derive(Debug)]
struct Doors(Arc<TokenService>, AtomicBool);

impl Realms for Doors {
    fn realm(&self, name: &str) -> Option<Arc<Realm>> {
        (name == "default").then(|| Arc::clone(self.0.realm()))
    }
    fn tokens(&self, name: &str) -> Option<Arc<TokenService>> {
        (name == "default" && self.1.load(Ordering::SeqCst)).then(|| Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct NoPads;

#[async_trait]
impl HashCheck for NoPads {
    async fn pad(&self, ctx: &Ctx, _password: &Password) -> Result<()> {
        ctx.note_hash_job();
        Ok(())
    }
}

/// A source of people that can be unreachable.
#[derive(Debug)]
pub(crate) struct Down {
    inner: Arc<dyn PasswordSource>,
    down: AtomicBool,
}

impl Down {
    pub(crate) fn set(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
    fn check(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(
                Error::new(ErrorKind::Unavailable, "no people").retry_after(Duration::from_millis(2_500))
            );
        }
        Ok(())
    }
}

#[async_trait]
impl PasswordSource for Down {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }
    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.check()?;
        self.inner.verify(ctx, login, password).await
    }
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.check()?;
        self.inner.account(ctx, login).await
    }
}

/// A cache of tokens that keeps all until they end or are void, and counts what it answers.
#[derive(Debug)]
pub(crate) struct MapCache {
    clock: Arc<dyn Clock>,
    fence: Arc<Fence>,
    kept: Mutex<HashMap<TokenId, (Arc<TokenState>, Stamp)>>,
    hits: AtomicU64,
    forgets: AtomicBool,
}

impl MapCache {
    /// Keeps nothing from now on.
    pub(crate) fn forget(&self) {
        self.forgets.store(true, Ordering::SeqCst);
    }
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl TokenCache for MapCache {
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        Ok(self.peek_token(ctx, id).unwrap_or(Lookup::NotFound))
    }
    async fn put(&self, _: &Ctx, id: &TokenId, state: &Arc<TokenState>, _: Duration, _: Watch) -> Result<()> {
        if self.forgets.load(Ordering::SeqCst) {
            return Ok(());
        }
        let stamp = self.fence.login(state.principal.login());
        self.kept.lock().unwrap().insert(*id, (Arc::clone(state), stamp));
        Ok(())
    }
    fn peek_token(&self, _ctx: &Ctx, id: &TokenId) -> Option<Lookup<Arc<TokenState>>> {
        let kept = self.kept.lock().unwrap();
        let (state, stamp) = kept.get(id).filter(|(state, _)| self.clock.wall() < state.expires_at)?;
        if self.fence.login(state.principal.login()) != *stamp {
            return None;
        }
        self.hits.fetch_add(1, Ordering::SeqCst);
        Some(Lookup::Found(Arc::clone(state)))
    }
}
