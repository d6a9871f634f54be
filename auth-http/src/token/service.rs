//! What the routes are made with: services by realm, and the settings.

use std::fmt;
use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};
use auth_token::{Profile, TokenService};

use crate::FrontConfig;

/// The longest body by default, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// Where the routes are if nobody says.
const PREFIX: &str = "/api/security";

/// Knows the token services by their realms. Asked for every request, so that a reload takes effect at once.
///
/// # Contract
/// - `None` means that this realm gives no tokens; requests to it fail, they are not sent to another realm.
/// - It answers from memory and does not wait.
pub trait TokenServices: fmt::Debug + Send + Sync {
    /// Returns the token service of this realm.
    fn service(&self, realm: &str) -> Option<Arc<TokenService>>;

    /// Returns the settings that stand now, in the place of those that the routes were made with. Prefix and profile stay:
    /// they are the routes themselves.
    fn routes(&self) -> Option<Arc<TokenRoutes>> {
        None
    }
}

/// One service for all requests: that of an application with one realm.
#[derive(Debug)]
pub struct OneService(Arc<TokenService>);

impl OneService {
    /// Takes the service.
    #[must_use]
    pub const fn new(service: Arc<TokenService>) -> Self {
        Self(service)
    }
}

impl TokenServices for OneService {
    fn service(&self, _realm: &str) -> Option<Arc<TokenService>> {
        Some(Arc::clone(&self.0))
    }
}

/// Where refresh tokens are kept by a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::exhaustive_enums, reason = "a switch")]
pub enum CookieMode {
    /// By the client: they are in the body.
    #[default]
    Off,
    /// By a browser, in a cookie that no script can read: they are in no body.
    On,
}

/// The settings of the routes.
///
/// ```
/// use auth_http::{CookieMode, FrontConfig, TokenRoutes};
/// use auth_token::Profile;
/// let front = FrontConfig::new("default").with_trusted_proxy("10.0.0.0/8")?;
/// let routes = TokenRoutes::new(front).with_prefix("/auth")?.with_cookie(CookieMode::On)?;
/// assert!(routes.clone().with_prefix("no/slash").is_err());
/// assert!(routes.with_profile(Profile::Ampho).is_err(), "it has no refresh tokens");
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenRoutes {
    pub(crate) front: FrontConfig,
    pub(crate) prefix: String,
    pub(crate) profile: Profile,
    pub(crate) cookie: CookieMode,
    pub(crate) max_body_bytes: usize,
}

impl TokenRoutes {
    /// Makes the settings: the native profile under `/api/security`, without cookies. Realms by host, trusted proxies, the
    /// longest header and the longest time are the front end's.
    #[must_use]
    pub fn new(front: FrontConfig) -> Self {
        Self {
            front,
            prefix: PREFIX.to_owned(),
            profile: Profile::Native,
            cookie: CookieMode::Off,
            max_body_bytes: MAX_BODY_BYTES,
        }
    }

    /// Sets what all paths but that of the published keys begin with: nothing, or `/` and names.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if this is no such thing.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let possible = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(plain);
        let names = prefix.strip_prefix('/').map(|names| names.split('/').all(possible));
        if !names.unwrap_or(prefix.is_empty()) {
            let message = "a prefix is / and names of letters, digits and -._~, without a / at the end";
            return Err(Error::new(ErrorKind::Invalid, message).with("prefix", prefix.escape_debug()));
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Sets the dialect.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it has no refresh token to keep in a cookie.
    pub fn with_profile(mut self, profile: Profile) -> Result<Self> {
        self.profile = profile;
        self.checked()
    }

    /// Sets where refresh tokens are kept.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the profile has none.
    pub fn with_cookie(mut self, cookie: CookieMode) -> Result<Self> {
        self.cookie = cookie;
        self.checked()
    }

    /// Sets the longest body; [`MAX_BODY_BYTES`] otherwise.
    #[must_use]
    pub const fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Returns the dialect.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Returns what all paths but that of the published keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the settings about hosts and proxies.
    #[must_use]
    pub const fn front(&self) -> &FrontConfig {
        &self.front
    }

    fn checked(self) -> Result<Self> {
        if self.cookie == CookieMode::On && self.profile == Profile::Ampho {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the profile ampho has no refresh token for a cookie",
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_nothing_or_a_path() {
        let with = |prefix: &str| TokenRoutes::new(FrontConfig::new("default")).with_prefix(prefix);
        for good in ["", "/a", "/api/security", "/api/v1.0/~x-y_z"] {
            assert_eq!(with(good).unwrap().prefix(), good);
        }
        for bad in [
            "/",
            "a",
            "/a/",
            "//a",
            "/a//b",
            "/..",
            "/a/./b",
            "/{a}",
            "/{*a}",
            "/a b",
            "/a?b",
            "/:a",
            "/caf\u{e9}",
            "/%41",
        ] {
            assert_eq!(with(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
