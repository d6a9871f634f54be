//! Dialects: which fields a request has, and how answers are written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth_core::{Family, FamilyId};
use auth_token::{Profile, Tokens};
use serde_json::{Value, json};

use super::answer::{BAD_GRANT, BAD_TOKEN, Fault, NO_TOKEN};

/// The names of what a login says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(crate) login: &'static str,
    pub(crate) password: &'static str,
    pub(crate) refresh_token: &'static str,
}

/// How a profile speaks.
pub(crate) trait Dialect {
    fn names(self) -> Names;

    /// Writes what a login or a renewal gives.
    fn granted(self, tokens: &Tokens, refresh: Refresh<'_>) -> String;

    /// Writes a refusal.
    fn fault(self, fault: &Fault) -> String;
}

impl Dialect for Profile {
    fn names(self) -> Names {
        match self {
            Self::Native | Self::Ampho => {
                Names { login: "login", password: "password", refresh_token: "refresh_token" }
            }
            Self::Twopi => Names { login: "username", password: "password", refresh_token: "refreshToken" },
        }
    }

    fn granted(self, tokens: &Tokens, refresh: Refresh<'_>) -> String {
        let life = |until: SystemTime| seconds(between(tokens.issued_at, until));
        let body = match self {
            Self::Native => {
                let mut body = json!({
                    "access_token": tokens.access_token,
                    "token_type": "Bearer",
                    "expires_in": life(tokens.expires_at),
                    "expires_at": at(tokens.expires_at),
                    "starts_at": at(tokens.starts_at),
                    "leeway": seconds(tokens.leeway),
                    "refresh_expires_in": life(tokens.refresh_expires_at),
                    "session_expires_in": life(tokens.session_expires_at),
                    "scope": tokens.scope,
                    "sid": tokens.family.to_string(),
                });
                if let (Refresh::InBody { .. }, Some(body)) = (refresh, body.as_object_mut()) {
                    body.insert("refresh_token".to_owned(), tokens.refresh_token.as_str().into());
                }
                body
            }
            Self::Ampho => json!({
                "token": tokens.access_token,
                "ttl": life(tokens.expires_at),
                "leeway": seconds(tokens.leeway),
                "starts": at(tokens.starts_at),
                "expires": at(tokens.expires_at),
            }),
            Self::Twopi => {
                let mut body = json!({ "token": tokens.access_token });
                // The original's renewal gives none: so it is there only if it is another one.
                if let (Refresh::InBody { shown }, Some(body)) = (refresh, body.as_object_mut())
                    && shown != Some(tokens.refresh_token.as_str())
                {
                    body.insert("refreshToken".to_owned(), tokens.refresh_token.as_str().into());
                }
                body
            }
        };
        body.to_string()
    }

    fn fault(self, fault: &Fault) -> String {
        let body = match self {
            Self::Native => json!({ "error": fault.error, "error_description": fault.description }),
            Self::Ampho => json!({ "message": fault.description }),
            Self::Twopi => json!({ "_errors": [match fault.description {
                // The two texts that its clients know.
                NO_TOKEN => "A valid token is required to access this resource",
                BAD_TOKEN | BAD_GRANT => "The provided token was invalid.",
                other => other,
            }] }),
        };
        body.to_string()
    }
}

/// Where a new refresh token goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refresh<'a> {
    /// Into the body; the one that was shown for it, if one was.
    InBody {
        shown: Option<&'a str>,
    },
    InCookie,
}

/// Writes that something was done, and to how many.
pub(crate) fn done(ended: Option<u64>) -> String {
    match ended {
        Some(ended) => json!({ "status": "success", "ended": ended }),
        None => json!({ "status": "success" }),
    }
    .to_string()
}

/// Writes somebody's sessions.
pub(crate) fn sessions(families: &[Family], current: Option<FamilyId>) -> String {
    let session = |family: &Family| {
        json!({
            "sid": family.id.to_string(),
            "current": current == Some(family.id),
            "client_id": family.client,
            "scope": family.scope,
            "device": {
                "name": family.device.name,
                "address": family.device.address.map(|address| address.to_string()),
                "agent": family.device.agent,
            },
            "created_at": family.created_at / 1_000,
            "last_used_at": family.last_used_at / 1_000,
            "refresh_expires_at": family.idle_end.min(family.absolute_end) / 1_000,
            "session_expires_at": family.absolute_end / 1_000,
        })
    };
    json!({ "sessions": families.iter().map(session).collect::<Vec<Value>>() }).to_string()
}

pub(crate) fn between(from: SystemTime, until: SystemTime) -> Duration {
    until.duration_since(from).unwrap_or(Duration::ZERO)
}

const fn seconds(time: Duration) -> u64 {
    time.as_secs()
}

fn at(time: SystemTime) -> u64 {
    seconds(between(UNIX_EPOCH, time))
}
