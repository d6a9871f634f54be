//! What an application says in its access tokens.

use std::fmt;

use async_trait::async_trait;
use auth_core::{Account, Ctx, Error, ErrorKind, Family, Realm, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// What an access token is made for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Session<'a> {
    /// The session that it comes with; none if it is issued without one.
    pub family: Option<&'a Family>,
    /// Whose it is, as read for this very token.
    pub account: &'a Account,
    /// Where groups and rights can be asked.
    pub realm: &'a Realm,
    /// What it is good for.
    pub scopes: &'a [String],
}

/// The hook that says what goes into an access token beside what is always there.
///
/// # Contract
/// - Asked anew at each login and each renewal: nothing is copied from an older token, so that a role that was taken away is
///   gone from the next one.
/// - An error is an error of the login or renewal, and nothing is consumed.
/// - Names that the token has by itself (`sub`, `exp`, …) are refused.
#[async_trait]
pub trait ClaimsFor: fmt::Debug + Send + Sync {
    /// Returns the claims.
    ///
    /// # Errors
    /// Any kind: no token is made.
    async fn claims_for(&self, ctx: &Ctx, session: &Session<'_>) -> Result<Map<String, Value>>;
}

/// Says nothing more.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClaims;

#[async_trait]
impl ClaimsFor for NoClaims {
    async fn claims_for(&self, _ctx: &Ctx, _session: &Session<'_>) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
}

/// Says the groups of the person, as the claim `groups` (RFC 9068, section 2.2.3.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupClaims;

#[async_trait]
impl ClaimsFor for GroupClaims {
    async fn claims_for(&self, ctx: &Ctx, session: &Session<'_>) -> Result<Map<String, Value>> {
        let groups = session.realm.groups(ctx, session.account.principal()).await?;
        let groups = groups.iter().map(Value::from).collect();
        Ok(Map::from_iter([("groups".to_owned(), Value::Array(groups))]))
    }
}

/// Turns any type that serde writes as an object into claims.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Mine { team: &'static str }
/// let claims = auth_token::claims_of(&Mine { team: "blue" })?;
/// assert_eq!(claims["team"], "blue");
/// # Ok::<_, auth_core::Error>(())
/// ```
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it is no object or can't be written as JSON.
pub fn claims_of(claims: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(_) => Err(Error::new(ErrorKind::Invalid, "claims are a JSON object")),
        Err(error) => {
            Err(Error::new(ErrorKind::Invalid, "claims that can't be written as JSON").because(error))
        }
    }
}
