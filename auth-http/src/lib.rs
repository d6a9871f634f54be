#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod basic;
mod config;
mod demand;
mod front;
mod reply;
mod token;

pub use basic::{Credentials, Unusable, basic_credentials, challenge};
pub use config::{FrontConfig, MAX_HEADER_BYTES};
pub use front::{Realms, router};
pub use token::{
    Authenticated, BearerRejection, Bearers, Claims, CookieMode, MAX_BODY_BYTES, OneService, RequireScopes,
    Requiring, ScopeDemand, Scoped, TokenRoutes, TokenServices, Unbearable, bearer_token, require_scopes,
    token_layer, token_router,
};
