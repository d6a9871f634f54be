//! Forward-auth: a web server asks whether a request may pass, and as whom.

use std::fmt;
use std::sync::Arc;

use auth_core::{Access, Clock, Ctx, Error, ErrorKind, GroupSet, Member, Principal, Realm, Result, Verdict};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;

use crate::FrontConfig;
use crate::basic::{Credentials, basic_credentials};
use crate::config::smuggled;
use crate::demand::{Demand, ObjectDemand};
use crate::reply::{Endpoint, Identity, Outcome};

/// Knows the realms by name. Asked for every request, so that a reload takes effect at once.
///
/// # Contract
/// - `None` means that no realm has this name; requests to it fail, they are not sent to another realm.
/// - It answers from memory and does not wait.
pub trait Realms: fmt::Debug + Send + Sync {
    /// Returns the realm of this name.
    fn realm(&self, name: &str) -> Option<Arc<Realm>>;

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
    credentials: Credentials,
}

impl Front {
    async fn answer(&self, endpoint: Endpoint, request: Request) -> Response {
        let (parts, _unread) = request.into_parts();
        let newer = self.realms.config();
        let config = newer.as_ref().unwrap_or(&self.config);
        let outcome = match self.read(&parts, config) {
            Ok(question) => {
                let ctx = Ctx::new()
                    .with_deadline(self.clock.now() + config.limit())
                    .with_client(config.client_of(&parts));
                drop(parts);
                question.decide(&ctx).await.unwrap_or_else(Outcome::Failed)
            }
            Err(outcome) => outcome,
        };
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
            Ok(credentials) => Ok(Question { realm, demand, credentials }),
            Err(unusable) => Err(unauthenticated(&realm, unusable.as_str())),
        }
    }
}

impl Question {
    async fn decide(self, ctx: &Ctx) -> Result<Outcome> {
        let Self { realm, demand, credentials } = self;
        let (login, password) = credentials.into_parts();
        let who = match realm.attempt(ctx, &login, password).await? {
            Verdict::Accepted(who) => who,
            Verdict::Rejected(reject) => return Ok(unauthenticated(&realm, reject.as_str())),
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

fn unauthenticated(realm: &Realm, reason: &'static str) -> Outcome {
    Outcome::Unauthenticated { realm: realm.id().name().to_owned(), reason }
}

/// Logs the class of what came of a request: no login, no header, no secret.
fn tell(endpoint: Endpoint, outcome: &Outcome) {
    let endpoint = endpoint.as_str();
    match outcome {
        Outcome::Allowed(_) => tracing::debug!(endpoint, "allowed"),
        Outcome::Unauthenticated { realm, reason } => {
            tracing::debug!(endpoint, realm, reason, "unauthenticated")
        }
        Outcome::Forbidden { reason } => tracing::debug!(endpoint, reason, "forbidden"),
        Outcome::Refused { reason } => tracing::warn!(endpoint, reason, "refused a suspicious request"),
        Outcome::Failed(error) => {
            tracing::warn!(endpoint, kind = error.kind().as_str(), ?error, "could not find out");
        }
    }
}
