//! Tokens over HTTP: the routes that give, renew and end them, and what applications take them with.

mod answer;
mod bearer;
mod body;
mod cookie;
mod extract;
mod profile;
mod routes;
mod service;

pub use bearer::{Unbearable, bearer_token};
pub use extract::{
    Authenticated, BearerRejection, Bearers, Claims, RequireScopes, Requiring, ScopeDemand, Scoped,
    require_scopes, token_layer,
};
pub use routes::token_router;
pub use service::{CookieMode, MAX_BODY_BYTES, OneService, TokenRoutes, TokenServices};

pub(crate) use bearer::{Wrong, bearer_challenge};
