//! Forward-auth: a web server asks whether a request may pass, and as whom.

use std::fmt;
use std::sync::Arc;

use auth_core::{Access, Clock, Ctx, Error, ErrorKind, GroupSet, Member, Principal, Realm, Result, Verdict};
use auth_token::{Checked, TokenService};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use zeroize::Zeroizing;

use crate::FrontConfig;
use crate::basic::{Credentials, Unusable, basic_credentials};
use crate::config::smuggled;
use crate::demand::{Demand, ObjectDemand};
use crate::reply::{Endpoint, Identity, Outcome};
use crate::token::{Wrong, bearer_token};

/// Knows the realms by name. Asked for every request, so that a reload takes effect at once.
///
/// # Contract
/// - `None` means that no realm has this name; requests to it fail, they are not sent to another realm.
/// - It answers from memory and does not wait.
pub trait Realms: fmt::Debug + Send + Sync {
    /// Returns the realm of this name.
    fn realm(&self, name: &str) -> Option<Arc<Realm>>;

    /// Returns the token service of this realm, whose access tokens are taken beside passwords. None by default.
    fn tokens(&self, name: &str) -> Option<Arc<TokenService>> {
        let _ = name;
        None
    }

    /// Returns the settings that stand now, in the place of those that the routes were made with.
    fn config(&self) -> Option<Arc<FrontConfig>> {
        None
    }
}

/// Makes the routes `/auth/nginx` and `/auth/forward`, for any method. Bodies are not read.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()` if the settings name trusted proxies:
/// a peer without an address is not trusted.
pub fn router(realms: Arc<dyn Realms>, config: FrontConfig, clock: Arc<dyn Clock>) -> Router {
    let front = Arc::new(Front { realms, config: Arc::new(config), clock });
    Router::new().route("/auth/nginx", any(nginx)).route("/auth/forward", any(forward)).with_state(front)
}

async fn nginx(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.answer(Endpoint::Nginx, request).await
}

async fn forward(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.answer(Endpoint::Forward, request).await
}

#[derive(Debug)]
struct Front {
    realms: Arc<dyn Realms>,
    config: Arc<FrontConfig>,
    clock: Arc<dyn Clock>,
}

/// A request as it is understood.
struct Question {
    realm: Arc<Realm>,
    demand: Demand,
    shown: Shown,
}

/// What a request presents.
enum Shown {
    Password(Credentials),
    Token(Arc<TokenService>, Zeroizing<String>),
}

impl Front {
    async fn answer(&self, endpoint: Endpoint, request: Request) -> Response {
        let (parts, _unread) = request.into_parts();
        let newer = self.realms.config();
        let config = newer.as_ref().unwrap_or(&self.config);
        let mut outcome = match self.read(&parts, config) {
            Ok(question) => {
                let ctx = Ctx::new()
                    .with_deadline(self.clock.now() + config.limit())
                    .with_client(config.client_of(&parts));
                drop(parts);
                question.decide(&ctx).await.unwrap_or_else(Outcome::Failed)
            }
            Err(outcome) => outcome,
        };
        self.offer_tokens(&mut outcome);
        tell(endpoint, &outcome);
        outcome.into_response(endpoint)
    }

    /// Understands a request, or ends it here.
    fn read(&self, parts: &Parts, config: &FrontConfig) -> std::result::Result<Question, Outcome> {
        // The operator's mistakes first: they show whoever asks.
        let mut demand = Demand::parse(parts.uri.query()).map_err(Outcome::Failed)?;
        if let Some(reason) = smuggled(parts) {
            return Err(Outcome::Refused { reason });
        }
        let chosen = demand.realm.take();
        let name = match &chosen {
            Some(name) => name,
            None => config.realm_of(parts).map_err(|reason| Outcome::Refused { reason })?,
        };
        let realm = self.realms.realm(name).ok_or_else(|| {
            let error = Error::new(ErrorKind::Misconfigured, "no such realm").with("realm", name);
            Outcome::Failed(error)
        })?;
        if let Some(ObjectDemand { domain, .. }) = &demand.object
            && !realm.domains().any(|declared| declared == domain || declared == "*")
        {
            let error = Error::new(ErrorKind::Misconfigured, "no such domain").with("domain", domain);
            return Err(Outcome::Failed(error));
        }
        match basic_credentials(&parts.headers, config.max_header_bytes()) {
            Ok(credentials) => Ok(Question { realm, demand, shown: Shown::Password(credentials) }),
            Err(Unusable::NotBasic) => self.read_token(parts, config, realm, demand),
            Err(unusable) => Err(unauthenticated(&realm, unusable.as_str())),
        }
    }

    /// Understands a request that shows no password, if its realm takes tokens.
    fn read_token(
        &self,
        parts: &Parts,
        config: &FrontConfig,
        realm: Arc<Realm>,
        demand: Demand,
    ) -> std::result::Result<Question, Outcome> {
        let Some(service) = self.realms.tokens(realm.id().name()) else {
            return Err(unauthenticated(&realm, Unusable::NotBasic.as_str()));
        };
        match bearer_token(&parts.headers, config.max_header_bytes()) {
            Ok(token) => {
                let shown = Shown::Token(service, Zeroizing::new(token.to_owned()));
                Ok(Question { realm, demand, shown })
            }
            Err(reason) if reason.is_absence() => Err(unauthenticated(&realm, Unusable::NotBasic.as_str())),
            Err(reason) => Err(token_refused(&realm, reason.into(), reason.as_str())),
        }
    }

    /// Says that a token would do, too, where one would.
    fn offer_tokens(&self, outcome: &mut Outcome) {
        if let Outcome::Unauthenticated { realm, bearer, .. } = outcome
            && bearer.is_none()
            && self.realms.tokens(realm).is_some()
        {
            *bearer = Some(Wrong::Absent);
        }
    }
}

impl Question {
    async fn decide(self, ctx: &Ctx) -> Result<Outcome> {
        let Self { realm, demand, shown } = self;
        let who = match shown {
            Shown::Password(credentials) => {
                let (login, password) = credentials.into_parts();
                match realm.attempt(ctx, &login, password).await? {
                    Verdict::Accepted(who) => who,
                    Verdict::Rejected(reject) => return Ok(unauthenticated(&realm, reject.as_str())),
                }
            }
            Shown::Token(service, token) => match check(&service, ctx, &token).await? {
                Checked::Valid(state) => state.principal.clone(),
                Checked::Invalid(reason) => return Ok(token_refused(&realm, Wrong::Token, reason.as_str())),
                _ => return Ok(token_refused(&realm, Wrong::Token, "unknown")),
            },
        };
        // Asked for even if nothing is demanded: a list that could not be had is no empty list.
        let groups = if realm.lists_groups() {
            realm.groups(ctx, &who).await?
        } else {
            members_of(&realm, ctx, &who, &demand.groups).await?
        };
        if !demand.groups.is_empty() && !demand.groups.iter().any(|group| groups.contains(group)) {
            return Ok(Outcome::Forbidden { reason: "not_member" });
        }
        if let Some(ObjectDemand { object, mode, .. }) = &demand.object {
            let access = match object {
                Some(object) => realm.access(ctx, &who, object, mode.as_deref()).await?,
                None => Access::NotFound,
            };
            if access != Access::Allow {
                return Ok(Outcome::Forbidden { reason: access.as_str() });
            }
        }
        Identity::new(&who, &groups).map(Outcome::Allowed)
    }
}

/// Those of the demanded groups that a person is in: all that can be told where groups can't be listed.
async fn members_of(realm: &Realm, ctx: &Ctx, who: &Principal, demanded: &[String]) -> Result<GroupSet> {
    let mut held = Vec::new();
    for group in demanded {
        if realm.is_member(ctx, who, group).await? == Member::Yes {
            held.push(group.as_str());
        }
    }
    Ok(held.into_iter().collect())
}

/// Checks a token, from memory if it can.
async fn check(service: &TokenService, ctx: &Ctx, token: &str) -> Result<Checked> {
    match service.peek(ctx, token) {
        Some(state) => Ok(Checked::Valid(state)),
        // Boxed, so that requests with passwords do not carry its room around.
        None => Box::pin(service.check(ctx, token)).await,
    }
}

fn unauthenticated(realm: &Realm, reason: &'static str) -> Outcome {
    Outcome::Unauthenticated { realm: realm.id().name().to_owned(), reason, bearer: None }
}

fn token_refused(realm: &Realm, wrong: Wrong, reason: &'static str) -> Outcome {
    Outcome::Unauthenticated { realm: realm.id().name().to_owned(), reason, bearer: Some(wrong) }
}

/// Logs the class of what came of a request: no login, no header, no secret.
fn tell(endpoint: Endpoint, outcome: &Outcome) {
    let endpoint = endpoint.as_str();
    match outcome {
        Outcome::Allowed(_) => tracing::debug!(endpoint, "allowed"),
        Outcome::Unauthenticated { realm, reason, .. } => {
            tracing::debug!(endpoint, realm, reason, "unauthenticated")
        }
        Outcome::Forbidden { reason } => tracing::debug!(endpoint, reason, "forbidden"),
        Outcome::Refused { reason } => tracing::warn!(endpoint, reason, "refused a suspicious request"),
        Outcome::Failed(error) => {
            tracing::warn!(endpoint, kind = error.kind().as_str(), ?error, "could not find out");
        }
    }
}
