//! A front end over realms that a test composes, and requests to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use auth_core::{
    Account, Clock, Ctx, DomainRouter, Error, GroupOracle, GroupUnion, HashCheck, Login, LoginRule, Lookup,
    ObjectPerms, Password, PasswordSource, Realm, Result, SourceInfo, Verdict,
};
use auth_http::{FrontConfig, Realms, router};
use auth_testkit::{ByTable, ManualClock, MemoryStore, realm_with};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tower::ServiceExt as _;

pub(crate) const BOTH: [&str; 2] = ["/auth/nginx", "/auth/forward"];

/// Realms that a test can replace, as a reload does.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<&'static str, Arc<Realm>>>);

impl Table {
    pub(crate) fn set(&self, name: &'static str, realm: Realm) {
        self.0.lock().unwrap().insert(name, Arc::new(realm));
    }
}

impl Realms for Table {
    fn realm(&self, name: &str) -> Option<Arc<Realm>> {
        self.0.lock().unwrap().get(name).map(Arc::clone)
    }
}

/// Counts hash jobs instead of doing them.
#[derive(Debug, Default)]
pub(crate) struct Pads(AtomicU64);

impl Pads {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl HashCheck for Pads {
    async fn pad(&self, ctx: &Ctx, _password: &Password) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        ctx.note_hash_job();
        Ok(())
    }
}

/// A source that fails with the error it was given.
#[derive(Debug)]
pub(crate) struct Failing(pub(crate) SourceInfo, pub(crate) Error);

#[async_trait]
impl PasswordSource for Failing {
    fn source(&self) -> &SourceInfo {
        &self.0
    }
    async fn verify(&self, _ctx: &Ctx, _login: &Login, _password: &Password) -> Result<Verdict> {
        Err(self.1.clone())
    }
    async fn account(&self, _ctx: &Ctx, _login: &Login) -> Result<Lookup<Account>> {
        Err(self.1.clone())
    }
}

pub(crate) struct Front {
    pub(crate) app: Router,
    pub(crate) table: Arc<Table>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) pads: Arc<Pads>,
    pub(crate) store: Arc<MemoryStore>,
}

impl Front {
    /// The world in the realm `default`.
    pub(crate) fn new() -> Self {
        Self::with(FrontConfig::new("default"))
    }

    pub(crate) fn with(config: FrontConfig) -> Self {
        let (table, clock) = (Arc::new(Table::default()), ManualClock::new());
        let realms: Arc<dyn Realms> = Arc::<Table>::clone(&table);
        let app = router(realms, config, Arc::<ManualClock>::clone(&clock));
        let front = Self { app, table, clock, pads: Arc::default(), store: Arc::new(MemoryStore::new()) };
        front.table.set("default", front.realm("default", LoginRule::CaseMapped));
        front
    }

    /// A realm whose passwords, groups and rights are the store's.
    pub(crate) fn realm(&self, name: &str, rule: LoginRule) -> Realm {
        let store = Arc::clone(&self.store);
        let groups: Arc<dyn GroupOracle> = Arc::<MemoryStore>::clone(&store);
        self.realm_of(name, rule, self.passwords(), groups, store)
    }

    pub(crate) fn passwords(&self) -> Arc<ByTable<MemoryStore>> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Arc::new(ByTable::new(Arc::clone(&self.store), clock))
    }

    pub(crate) fn realm_of(
        &self,
        name: &str,
        rule: LoginRule,
        passwords: Arc<dyn PasswordSource>,
        groups: Arc<dyn GroupOracle>,
        objects: Arc<dyn ObjectPerms>,
    ) -> Realm {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let pads: Arc<dyn HashCheck> = Arc::<Pads>::clone(&self.pads);
        Realm::new(realm_with(name, rule), passwords, pads, clock)
            .with_groups(GroupUnion::new(vec![groups]))
            .with_objects(DomainRouter::new([("doc".into(), objects)]))
    }

    /// Composes the realm `default` anew.
    pub(crate) fn default_of(
        &self,
        passwords: Arc<impl PasswordSource + 'static>,
        groups: Arc<impl GroupOracle + 'static>,
        objects: Arc<impl ObjectPerms + 'static>,
    ) {
        let realm = self.realm_of("default", LoginRule::CaseMapped, passwords, groups, objects);
        self.table.set("default", realm);
    }

    pub(crate) async fn get(&self, uri: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, uri, headers)).await
    }

    pub(crate) async fn as_calvin(&self, uri: &str) -> Answer {
        self.get(uri, &[("authorization", &basic("calvin", "hobbes"))]).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, 64 * 1024).await.unwrap(),
        }
    }
}

pub(crate) fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(Body::empty()).unwrap()
}

/// Shows the peer's address to the front end, as axum does for a TCP listener.
pub(crate) fn from_peer(mut request: Request<Body>, peer: &str) -> Request<Body> {
    let peer: SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Waits for what needs no more than the clock as it stands; fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    for _ in 0..1_000 {
        if let Poll::Ready(value) = futures_util::poll!(&mut future) {
            return value;
        }
        tokio::task::yield_now().await;
    }
    panic!("this waits for something that does not come");
}

pub(crate) fn basic(login: &str, password: impl AsRef<[u8]>) -> String {
    let clear = [login.as_bytes(), b":", password.as_ref()].concat();
    format!("Basic {}", STANDARD.encode(clear))
}

/// An answer, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.headers["cache-control"], "no-store");
        let names: Vec<_> = self.headers.keys().filter(|name| name.as_str().starts_with("remote-")).collect();
        assert_eq!(names.len(), if status == 200 { 5 } else { 0 }, "{self:?}");
        assert_eq!(self.headers.contains_key("www-authenticate"), status == 401, "{self:?}");
        assert_eq!(self.headers.contains_key("retry-after"), status == 503, "{self:?}");
    }

    #[track_caller]
    pub(crate) fn has(&self, header: &str, value: &str) {
        let values: Vec<_> = self.headers.get_all(header).iter().collect();
        assert_eq!(values, [value], "{header}");
    }
}
