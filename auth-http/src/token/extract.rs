//! What applications take tokens with: extractors, and a demand for scopes in front of routes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use auth_core::{Clock, Ctx, Error, ErrorKind, FamilyId, GroupSet, Principal, TokenState};
use auth_token::{Checked, Profile, TokenService};
use axum::Extension;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use serde::de::DeserializeOwned;
use tower::{Layer, Service};
use zeroize::Zeroizing;

use super::answer::Fault;
use super::bearer::{Wrong, bearer_token};
use super::service::TokenServices;
use crate::FrontConfig;
use crate::config::smuggled;

/// Checks an access token.
pub(crate) async fn state_of(
    service: &TokenService,
    ctx: &Ctx,
    token: &str,
) -> Result<Arc<TokenState>, Fault> {
    match service.check(ctx, token).await.map_err(Fault::of)? {
        Checked::Valid(state) => Ok(state),
        Checked::Invalid(invalid) => Err(Fault::token(service.realm().id().name(), invalid.as_str())),
        _ => Err(Fault::token(service.realm().id().name(), "unknown")),
    }
}

/// Where the extractors find the token services: an extension of requests. [`token_layer`] puts it there.
#[derive(Debug, Clone)]
pub struct Bearers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    services: Arc<dyn TokenServices>,
    front: FrontConfig,
    clock: Arc<dyn Clock>,
}

/// Makes the layer that lets handlers below it take [`Authenticated`], [`Claims`] and [`Scoped`], and [`require_scopes`]
/// look at tokens. By itself it refuses nobody.
///
/// The settings say which realm a request is for, and how long it may take; those of
/// [`TokenServices::routes`] go before these.
///
/// ```
/// use std::sync::Arc;
/// use auth_core::Clock;
/// use auth_http::{Authenticated, FrontConfig, OneService, require_scopes, token_layer};
/// use auth_token::TokenService;
/// use axum::{Router, routing::get};
///
/// async fn hello(who: Authenticated) -> String {
///     format!("hello {}", who.principal().shown())
/// }
///
/// fn app(service: Arc<TokenService>, clock: Arc<dyn Clock>) -> Router {
///     let services = Arc::new(OneService::new(service));
///     Router::new()
///         .route("/delete", get(|| async { "gone" }))
///         .route_layer(require_scopes(["admin"]))
///         .route("/hello", get(hello))
///         .layer(token_layer(services, FrontConfig::new("default"), clock))
/// }
/// ```
#[must_use]
pub fn token_layer(
    services: Arc<dyn TokenServices>,
    front: FrontConfig,
    clock: Arc<dyn Clock>,
) -> Extension<Bearers> {
    Extension(Bearers(Arc::new(Inner { services, front, clock })))
}

/// What came of a check, for the next one that asks the same of the same request.
#[derive(Clone)]
struct Seen {
    state: Arc<TokenState>,
    /// By whom: layers of two realms may lie over each other.
    service: Arc<TokenService>,
    /// Of which token: a layer between may have put another in its place.
    token: Arc<Zeroizing<String>>,
}

/// A token to be checked, and with what.
struct Shown<'a> {
    service: Arc<TokenService>,
    ctx: Ctx,
    token: &'a str,
}

impl<'a> Shown<'a> {
    fn of(parts: &'a Parts) -> Result<Self, Fault> {
        let missing = |message: &'static str| Fault::of(Error::new(ErrorKind::Misconfigured, message));
        let Some(Bearers(bearers)) = parts.extensions.get::<Bearers>() else {
            return Err(missing("a route that takes tokens is not below token_layer"));
        };
        let newer = bearers.services.routes();
        let front = newer.as_ref().map_or(&bearers.front, |routes| &routes.front);
        if let Some(reason) = smuggled(parts) {
            return Err(Fault::suspicious(reason));
        }
        let realm = front.realm_of(parts).map_err(Fault::suspicious)?;
        let service =
            bearers.services.service(realm).ok_or_else(|| missing("the realm has no token service"))?;
        let token = bearer_token(&parts.headers, front.max_header_bytes())
            .map_err(|reason| Fault::unbearable(service.realm().id().name(), reason))?;
        let deadline = bearers.clock.now() + front.limit();
        let ctx = Ctx::new().with_deadline(deadline).with_client(front.client_of(parts));
        Ok(Self { service, ctx, token })
    }
}

/// Who shows a valid access token, and what it was given for.
///
/// As an extractor it refuses a request without one as RFC 6750 says. `Option<Authenticated>` lets one pass that shows no
/// token; a token that is not good is refused there, too.
#[derive(Debug, Clone)]
pub struct Authenticated {
    state: Arc<TokenState>,
    service: Arc<TokenService>,
}

impl Authenticated {
    /// Returns whose token it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.state.principal
    }

    /// Returns what it was given for.
    #[must_use]
    pub fn scopes(&self) -> &GroupSet {
        &self.state.scopes
    }

    /// Reports whether it was given for this.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.state.scopes.contains(scope)
    }

    /// Returns all that is known of it.
    #[must_use]
    pub fn state(&self) -> &TokenState {
        &self.state
    }

    /// Returns the session that it came with, if it came with one.
    #[must_use]
    pub fn session(&self) -> Option<FamilyId> {
        self.service.family_of(&self.state)
    }

    /// Looks into memory alone.
    fn peek(parts: &Parts) -> Option<Self> {
        let shown = Shown::of(parts).ok()?;
        let state = shown.service.peek(&shown.ctx, shown.token)?;
        Some(Self { state, service: shown.service })
    }

    async fn of(parts: &mut Parts) -> Result<Self, Fault> {
        let shown = Shown::of(parts)?;
        if let Some(state) = shown.service.peek(&shown.ctx, shown.token) {
            return Ok(Self { state, service: shown.service });
        }
        let Shown { service, ctx, token } = shown;
        if let Some(seen) = parts.extensions.get::<Seen>()
            && Arc::ptr_eq(&seen.service, &service)
            && seen.token.as_str() == token
        {
            return Ok(Self { state: Arc::clone(&seen.state), service });
        }
        let state = state_of(&service, &ctx, token).await?;
        let token = Arc::new(Zeroizing::new(token.to_owned()));
        parts.extensions.insert(Seen { state: Arc::clone(&state), service: Arc::clone(&service), token });
        Ok(Self { state, service })
    }

    /// Refuses who has not all of these.
    fn demand<'a>(self, scopes: impl Iterator<Item = &'a str> + Clone) -> Result<Self, Fault> {
        if scopes.clone().all(|scope| self.has_scope(scope)) {
            return Ok(self);
        }
        let scopes: Vec<_> = scopes.collect();
        let wrong = Wrong::Scope(scopes.join(" ").into());
        Err(Fault::bearer(self.service.realm().id().name(), &wrong, "scope"))
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, BearerRejection> {
        Self::of(parts).await.map_err(BearerRejection::new)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Authenticated {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, BearerRejection> {
        unless_absent(Self::of(parts).await)
    }
}

/// Lets a request pass that shows no token. A header that can't be read is no absence.
fn unless_absent<T>(result: Result<T, Fault>) -> Result<Option<T>, BearerRejection> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.is_absence() => Ok(None),
        Err(fault) => Err(BearerRejection::new(fault)),
    }
}

/// The claims of a valid access token, as any type that can be read of them: those that the token's format sets, and those
/// that the application has put into it.
///
/// A token whose claims are not of this type is refused like one that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "taken apart in the arguments of handlers")]
pub struct Claims<T>(pub T);

impl<T: DeserializeOwned> Claims<T> {
    async fn of(parts: &mut Parts) -> Result<Self, Fault> {
        let Authenticated { state, service } = Authenticated::of(parts).await?;
        // Without its text: that could quote what is in the token.
        serde_json::from_str(state.claims.as_deref().unwrap_or("{}"))
            .map(Self)
            .map_err(|_| Fault::token(service.realm().id().name(), "other_claims"))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, BearerRejection> {
        Self::of(parts).await.map_err(BearerRejection::new)
    }
}

impl<S: Sync, T: DeserializeOwned> OptionalFromRequestParts<S> for Claims<T> {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, BearerRejection> {
        unless_absent(Self::of(parts).await)
    }
}

/// Names the scopes that [`Scoped`] demands.
pub trait ScopeDemand {
    /// All of these are needed.
    const SCOPES: &'static [&'static str];
}

/// Who shows a valid access token that was given for what `D` demands.
///
/// ```
/// use auth_http::{ScopeDemand, Scoped};
///
/// struct Reading;
/// impl ScopeDemand for Reading {
///     const SCOPES: &'static [&'static str] = &["read"];
/// }
///
/// async fn show(who: Scoped<Reading>) -> String {
///     format!("{} may read", who.principal().shown())
/// }
/// ```
pub struct Scoped<D> {
    who: Authenticated,
    demand: PhantomData<fn() -> D>,
}

impl<D> Scoped<D> {
    /// Returns who it is.
    #[must_use]
    pub fn into_inner(self) -> Authenticated {
        self.who
    }
}

impl<D> Deref for Scoped<D> {
    type Target = Authenticated;

    fn deref(&self) -> &Authenticated {
        &self.who
    }
}

impl<D> fmt::Debug for Scoped<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.who).finish()
    }
}

impl<D: ScopeDemand> Scoped<D> {
    async fn of(parts: &mut Parts) -> Result<Self, Fault> {
        let who = Authenticated::of(parts).await?.demand(D::SCOPES.iter().copied())?;
        Ok(Self { who, demand: PhantomData })
    }
}

impl<S: Sync, D: ScopeDemand> FromRequestParts<S> for Scoped<D> {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, BearerRejection> {
        Self::of(parts).await.map_err(BearerRejection::new)
    }
}

impl<S: Sync, D: ScopeDemand> OptionalFromRequestParts<S> for Scoped<D> {
    type Rejection = BearerRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, BearerRejection> {
        unless_absent(Self::of(parts).await)
    }
}

/// Why a request is not taken: as a response, what RFC 6750 says of it.
#[derive(Debug)]
pub struct BearerRejection(Box<Fault>);

impl BearerRejection {
    fn new(fault: Fault) -> Self {
        match &fault.cause {
            Some(error) => tracing::warn!(kind = error.kind().as_str(), ?error, "could not check a token"),
            None => tracing::debug!(reason = fault.reason, "refused a token"),
        }
        Self(Box::new(fault))
    }

    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Names the reason in the form used by metrics and logs. It is not for the client.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.0.reason
    }
}

impl fmt::Display for BearerRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.description)
    }
}

impl std::error::Error for BearerRejection {}

impl IntoResponse for BearerRejection {
    fn into_response(self) -> Response {
        self.0.into_response(Profile::Native)
    }
}

/// Demands scopes of every request to the routes that it is put in front of: all of them.
///
/// Put it inside [`token_layer`]: with `Router::route_layer`, and `token_layer` added after it.
pub fn require_scopes<I>(scopes: I) -> RequireScopes
where
    I: IntoIterator,
    I::Item: Into<Box<str>>,
{
    RequireScopes(scopes.into_iter().map(Into::into).collect())
}

/// The layer of [`require_scopes`].
#[derive(Debug, Clone)]
pub struct RequireScopes(Arc<[Box<str>]>);

impl<S> Layer<S> for RequireScopes {
    type Service = Requiring<S>;

    fn layer(&self, inner: S) -> Requiring<S> {
        Requiring { inner, scopes: Arc::clone(&self.0) }
    }
}

/// What stands in front of a service after [`require_scopes`].
#[derive(Debug, Clone)]
pub struct Requiring<S> {
    inner: S,
    scopes: Arc<[Box<str>]>,
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S> Service<Request> for Requiring<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    // A token that memory knows costs no box.
    type Future = Either<S::Future, Boxed<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        if Authenticated::peek(&parts).is_some_and(|who| who.demand(names(&self.scopes)).is_ok()) {
            return Either::Left(self.inner.call(Request::from_parts(parts, body)));
        }
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let scopes = Arc::clone(&self.scopes);
        Either::Right(Box::pin(async move {
            match Authenticated::of(&mut parts).await.and_then(|who| who.demand(names(&scopes))) {
                Ok(_) => inner.call(Request::from_parts(parts, body)).await,
                Err(fault) => Ok(BearerRejection::new(fault).into_response()),
            }
        }))
    }
}

fn names(scopes: &[Box<str>]) -> impl Iterator<Item = &str> + Clone {
    scopes.iter().map(|scope| &**scope)
}
