//! Answers: JSON that no cache keeps, and refusals that say no more than a client needs.

use auth_core::{Error, ErrorKind};
use auth_token::Profile;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::Response;

use super::bearer::{Unbearable, Wrong, bearer_challenge};
use super::profile::Dialect;
use crate::reply::seconds_to_wait;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// How long others may keep the published keys: no longer than a key is published before it signs.
const KEYS_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The code of a request without a token: in the body alone, the challenge has none.
const ABSENT: &str = "unauthorized";

/// What is said of a missing access token, a bad one, and a bad refresh token.
pub(crate) const NO_TOKEN: &str = "an access token is needed";
pub(crate) const BAD_TOKEN: &str = "the access token is not valid, has expired, or was revoked";
pub(crate) const BAD_GRANT: &str = "the refresh token is not valid, has expired, or was revoked";

/// A refusal as a client sees it, and the class that an operator reads. Its texts are ours: never what a client sent.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    /// The code (RFC 6749, 5.2; RFC 6750, 3.1).
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
    /// For the log.
    pub(crate) reason: &'static str,
    beside: Beside,
    /// What could not be found out, and why.
    pub(crate) cause: Option<Error>,
}

/// The header that goes with a refusal.
#[derive(Debug)]
enum Beside {
    Nothing,
    Allow(&'static str),
    Challenge(HeaderValue),
    /// For so many seconds.
    Wait(u64),
}

impl Fault {
    const fn new(status: StatusCode, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description, reason: error, beside: Beside::Nothing, cause: None }
    }

    const fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    fn with(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    /// A request that is not understood.
    pub(crate) const fn request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// A request that no honest client behind an honest proxy sends.
    pub(crate) const fn suspicious(reason: &'static str) -> Self {
        Self::request("the request names its host in no usable way").because(reason)
    }

    /// One that another site may have made a browser send.
    pub(crate) const fn foreign(reason: &'static str) -> Self {
        let description = "the request must come from the same origin, or carry the header X-Requested-With";
        Self::new(StatusCode::FORBIDDEN, "access_denied", description).because(reason)
    }

    pub(crate) fn method(allowed: &'static str) -> Self {
        let fault = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "the method is not allowed");
        fault.because("method").with(Beside::Allow(allowed))
    }

    pub(crate) const fn not_found(reason: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing").because(reason)
    }

    pub(crate) const fn media_type() -> Self {
        let description = "the body must be application/json or application/x-www-form-urlencoded";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", description).because("media_type")
    }

    pub(crate) const fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large")
            .because("too_large")
    }

    pub(crate) const fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body did not come in time")
            .because("slow_body")
    }

    pub(crate) const fn scope(reason: &'static str) -> Self {
        let description = "a scope is unknown, malformed, or more than may be had";
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description).because(reason)
    }

    /// A refresh token that is not good, for whatever reason.
    pub(crate) const fn grant(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", BAD_GRANT).because(reason)
    }

    /// A refused login: alike whoever it was, and why.
    pub(crate) fn credentials(realm: &str, reason: &'static str) -> Self {
        let description = "the login or the password is wrong";
        let fault = Self::new(StatusCode::UNAUTHORIZED, "invalid_grant", description).because(reason);
        fault.with(Beside::Challenge(bearer_challenge(realm, &Wrong::Absent)))
    }

    /// No usable access token.
    pub(crate) fn unbearable(realm: &str, reason: Unbearable) -> Self {
        Self::bearer(realm, &Wrong::from(reason), reason.as_str())
    }

    /// An access token that is not good, for whatever reason.
    pub(crate) fn token(realm: &str, reason: &'static str) -> Self {
        Self::bearer(realm, &Wrong::Token, reason)
    }

    pub(crate) fn bearer(realm: &str, wrong: &Wrong, reason: &'static str) -> Self {
        let (error, description) = match wrong {
            Wrong::Absent => (ABSENT, NO_TOKEN),
            Wrong::Request => ("invalid_request", "the header Authorization can't be read"),
            Wrong::Token => ("invalid_token", BAD_TOKEN),
            Wrong::Scope(_) => ("insufficient_scope", "the access token was not given for this"),
            Wrong::Proof => ("invalid_dpop_proof", "the scheme DPoP is not taken here"),
        };
        let fault = Self::new(status_of(wrong), error, description).because(reason);
        fault.with(Beside::Challenge(bearer_challenge(realm, wrong)))
    }

    /// Tells a client what it can do about an error, and no more.
    pub(crate) fn of(error: Error) -> Self {
        let kind = error.kind();
        let fault = match kind {
            ErrorKind::Throttled => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", "too many attempts, come back later")
            }
            ErrorKind::Invalid => Self::request("a value is not acceptable"),
            kind if kind.is_temporary() => {
                let description = "nobody could find out, try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "nobody could find out"),
        };
        let fault = fault.because(kind.as_str());
        let mut fault =
            if kind.is_temporary() { fault.with(Beside::Wait(seconds_to_wait(&error))) } else { fault };
        fault.cause = Some(error);
        fault
    }

    /// The same as 401, with the challenge that belongs to it.
    pub(crate) fn into_unauthorized(mut self, realm: &str) -> Self {
        self.status = StatusCode::UNAUTHORIZED;
        self.with(Beside::Challenge(bearer_challenge(realm, &Wrong::Token)))
    }

    /// Reports whether nothing is wrong but that no token was shown.
    pub(crate) fn is_absence(&self) -> bool {
        self.error == ABSENT
    }

    pub(crate) fn into_response(self, profile: Profile) -> Response {
        let mut response = json(self.status, profile.fault(&self));
        let headers = response.headers_mut();
        match self.beside {
            Beside::Nothing => None,
            Beside::Allow(methods) => headers.insert(ALLOW, HeaderValue::from_static(methods)),
            Beside::Challenge(challenge) => headers.insert(WWW_AUTHENTICATE, challenge),
            Beside::Wait(seconds) => headers.insert(RETRY_AFTER, HeaderValue::from(seconds)),
        };
        response
    }
}

/// The status that goes with a challenge.
pub(crate) const fn status_of(wrong: &Wrong) -> StatusCode {
    match wrong {
        Wrong::Request => StatusCode::BAD_REQUEST,
        Wrong::Scope(_) => StatusCode::FORBIDDEN,
        Wrong::Absent | Wrong::Token | Wrong::Proof => StatusCode::UNAUTHORIZED,
    }
}

/// What is granted, with a cookie beside it in cookie mode.
#[derive(Debug)]
pub(crate) enum Granted {
    /// JSON, and the cookie.
    Body(String, Option<HeaderValue>),
    /// The published keys.
    Keys(String),
    /// What methods there are.
    Methods(&'static str),
}

impl Granted {
    pub(crate) fn into_response(self) -> Response {
        match self {
            Self::Body(body, cookie) => {
                let mut response = json(StatusCode::OK, body);
                if let Some(cookie) = cookie {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Self::Keys(keys) => {
                let mut response = json(StatusCode::OK, keys);
                response.headers_mut().insert(CACHE_CONTROL, KEYS_MAX_AGE);
                response.headers_mut().remove(PRAGMA);
                response
            }
            Self::Methods(allowed) => {
                let mut response = json(StatusCode::NO_CONTENT, String::new());
                response.headers_mut().remove(CONTENT_TYPE);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
        }
    }
}

fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(PRAGMA, NO_CACHE);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
