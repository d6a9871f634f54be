//! The routes: login, renew, logout, sessions, published keys.

use std::pin::pin;
use std::sync::Arc;

use auth_core::{Clock, Ctx, Device, Error, ErrorKind, Family, FamilyId, Moment, TokenState};
use auth_token::{Bearing, LoginAsk, Profile, REFRESH_PREFIX, Refused, RenewAsk, TokenService};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use futures_util::future::{Either, select};

use super::answer::{Fault, Granted};
use super::bearer::bearer_token;
use super::body::{Fields, Media, read};
use super::cookie;
use super::extract::state_of;
use super::profile::{Dialect as _, Refresh, between, done, sessions};
use super::service::{CookieMode, TokenRoutes, TokenServices};
use crate::config::smuggled;

/// Makes the routes of a token service. Under the prefix of the settings:
///
/// | profile | routes |
/// | --- | --- |
/// | [`Native`](Profile::Native) | `/login`, `/renew`, `/logout`, `/logout-all`, `/sessions`, `/sessions/{id}` |
/// | [`Ampho`](Profile::Ampho) | `/1/login`, `/1/renew` |
/// | [`Twopi`](Profile::Twopi) | `/login`, `/renew`, `/logout` |
///
/// And `/.well-known/jwks.json`, without the prefix. What they say and answer is told in the
/// [front page](crate#tokens).
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: guesses are counted by address.
pub fn token_router(services: Arc<dyn TokenServices>, routes: TokenRoutes, clock: Arc<dyn Clock>) -> Router {
    let (prefix, profile) = (routes.prefix.clone(), routes.profile);
    let desk = Arc::new(Desk { services, routes: Arc::new(routes), profile, clock });
    let mut router = Router::new();
    for (path, act) in paths(profile) {
        let serve = move |State(desk): State<Arc<Desk>>, request: Request| async move {
            desk.answer(*act, request).await
        };
        router = router.route(&format!("{prefix}{path}"), any(serve));
    }
    let keys = |State(desk): State<Arc<Desk>>, request: Request| async move {
        desk.answer(Act::Keys, request).await
    };
    router.route("/.well-known/jwks.json", any(keys)).with_state(desk)
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Login,
    Renew,
    Logout,
    LogoutAll,
    Sessions,
    Session,
    Keys,
}

const fn paths(profile: Profile) -> &'static [(&'static str, Act)] {
    match profile {
        Profile::Native => &[
            ("/login", Act::Login),
            ("/renew", Act::Renew),
            ("/logout", Act::Logout),
            ("/logout-all", Act::LogoutAll),
            ("/sessions", Act::Sessions),
            ("/sessions/{id}", Act::Session),
        ],
        Profile::Ampho => &[("/1/login", Act::Login), ("/1/renew", Act::Renew)],
        Profile::Twopi => &[("/login", Act::Login), ("/renew", Act::Renew), ("/logout", Act::Logout)],
    }
}

impl Act {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Renew => "renew",
            Self::Logout => "logout",
            Self::LogoutAll => "logout_all",
            Self::Sessions => "sessions",
            Self::Session => "session",
            Self::Keys => "jwks",
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Login | Self::Renew | Self::Logout | Self::LogoutAll => "POST, OPTIONS",
            Self::Sessions | Self::Keys => "GET, HEAD, OPTIONS",
            Self::Session => "DELETE, OPTIONS",
        }
    }

    fn allows(self, method: &Method) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method.as_str())
    }
}

#[derive(Debug)]
struct Desk {
    services: Arc<dyn TokenServices>,
    routes: Arc<TokenRoutes>,
    profile: Profile,
    clock: Arc<dyn Clock>,
}

impl Desk {
    async fn answer(&self, act: Act, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let result = self.serve(act, &parts, body).await;
        tell(act, &result);
        match result {
            Ok(granted) => granted.into_response(),
            Err(fault) => fault.into_response(self.profile),
        }
    }

    async fn serve(&self, act: Act, parts: &Parts, body: Body) -> Result<Granted, Fault> {
        if !act.allows(&parts.method) {
            return Err(Fault::method(act.methods()));
        }
        if parts.method == Method::OPTIONS {
            return Ok(Granted::Methods(act.methods()));
        }
        let newer = self.services.routes();
        let routes = newer.as_ref().unwrap_or(&self.routes);
        if let Some(reason) = smuggled(parts) {
            return Err(Fault::suspicious(reason));
        }
        let realm = routes.front.realm_of(parts).map_err(Fault::suspicious)?;
        let service = self.services.service(realm).ok_or(Fault::not_found("no_token_service"))?;
        if act == Act::Keys {
            return Ok(Granted::Keys(service.jwks()));
        }
        let deadline = self.clock.now() + routes.front.limit();
        let call = Call {
            profile: self.profile,
            routes,
            parts,
            service: &service,
            ctx: Ctx::new().with_deadline(deadline).with_client(routes.front.client_of(parts)),
        };
        let fields = match act {
            Act::Login | Act::Renew | Act::Logout | Act::LogoutAll => {
                call.check_origin()?;
                self.within(deadline, Fault::too_slow, call.fields(body)).await?
            }
            Act::Sessions | Act::Session | Act::Keys => Fields::none(),
        };
        self.within(deadline, too_late, call.serve(act, fields)).await
    }

    /// Ends what takes too long, whoever is to blame.
    async fn within<T: Send>(
        &self,
        deadline: Moment,
        late: fn() -> Fault,
        future: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        match select(pin!(future), self.clock.sleep_until(deadline)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(late()),
        }
    }
}

fn too_late() -> Fault {
    Fault::of(Error::new(ErrorKind::Timeout, "the request has taken its time"))
}

/// Logs the class of what came of a request: no login, no token, no secret.
fn tell(act: Act, result: &Result<Granted, Fault>) {
    let endpoint = act.as_str();
    match result {
        Ok(_) => tracing::debug!(endpoint, "granted"),
        Err(Fault { cause: Some(error), .. }) if error.kind() != ErrorKind::Throttled => {
            tracing::warn!(endpoint, kind = error.kind().as_str(), ?error, "could not find out");
        }
        Err(fault) => tracing::debug!(endpoint, reason = fault.reason, "refused"),
    }
}

/// A request to a service.
#[derive(Debug)]
struct Call<'a> {
    profile: Profile,
    routes: &'a TokenRoutes,
    parts: &'a Parts,
    service: &'a Arc<TokenService>,
    ctx: Ctx,
}

impl Call<'_> {
    fn realm(&self) -> &str {
        self.service.realm().id().name()
    }

    fn keeps_cookies(&self) -> bool {
        // Newer settings may be those of another profile, which takes effect with new routes.
        self.routes.cookie == CookieMode::On && self.profile != Profile::Ampho
    }

    /// Refuses what another site may have made a browser send. The login too: else somebody could be logged in as
    /// somebody else without knowing.
    fn check_origin(&self) -> Result<(), Fault> {
        let foreign =
            if self.keeps_cookies() { cookie::foreign(self.parts, &self.routes.front) } else { None };
        foreign.map_or(Ok(()), |reason| Err(Fault::foreign(reason)))
    }

    async fn fields(&self, body: Body) -> Result<Fields, Fault> {
        let headers = &self.parts.headers;
        let media = Media::of(headers)?;
        let bytes = read(headers, body, self.routes.max_body_bytes).await?;
        Fields::parse(media, &bytes)
    }

    async fn serve(&self, act: Act, fields: Fields) -> Result<Granted, Fault> {
        match act {
            Act::Login => self.login(fields).await,
            Act::Renew if self.profile == Profile::Ampho => self.renew_by_access().await,
            Act::Renew => self.renew(&fields).await,
            Act::Logout => self.logout(&fields).await,
            Act::LogoutAll => self.logout_all(&fields).await,
            Act::Sessions => self.sessions().await,
            Act::Session => self.end_session().await,
            Act::Keys => Ok(Granted::Keys(self.service.jwks())),
        }
    }

    async fn login(&self, mut fields: Fields) -> Result<Granted, Fault> {
        let names = self.profile.names();
        let missing = || Fault::request("a login needs a name and a password");
        let mut password = fields.take_bytes(names.password)?.ok_or_else(missing)?;
        let ask = LoginAsk {
            login: fields.text(names.login)?.ok_or_else(missing)?,
            scope: scope(&fields)?,
            client: client(&fields)?,
            device: self.device(&fields)?,
            remember: fields.flag("remember")?.unwrap_or(true),
            // The realm wipes it.
            password: std::mem::take(&mut *password),
        };
        let granted = self.service.login(&self.ctx, ask).await.map_err(Fault::of)?;
        self.grant(granted, None)
    }

    async fn renew(&self, fields: &Fields) -> Result<Granted, Fault> {
        let shown = self.refresh_token(fields)?.ok_or_else(|| self.no_token())?;
        let ask = RenewAsk { token: shown, scope: scope(fields)?, client: client(fields)? };
        let granted = self.service.renew(&self.ctx, &ask).await.map_err(Fault::of)?;
        self.grant(granted, Some(shown))
    }

    async fn renew_by_access(&self) -> Result<Granted, Fault> {
        let token = self.access_token()?;
        let granted = self.service.renew_by_access(&self.ctx, token).await.map_err(Fault::of)?;
        self.grant(granted, None)
    }

    /// Ends the sessions of all tokens that are shown. Doing it again is no error.
    async fn logout(&self, fields: &Fields) -> Result<Granted, Fault> {
        let refresh = self.refresh_token(fields)?;
        let access = match bearer_token(&self.parts.headers, self.routes.front.max_header_bytes()) {
            Ok(token) => Some(token),
            Err(reason) if reason.is_absence() => None,
            Err(reason) => return Err(Fault::unbearable(self.realm(), reason)),
        };
        if refresh.is_none() && access.is_none() && !self.keeps_cookies() {
            return Err(self.no_token());
        }
        for token in refresh.into_iter().chain(access) {
            // Told by what it is, not by where it stands (RFC 7009, 2.1): a logout that ends nothing would be a lie.
            let by = if token.starts_with(REFRESH_PREFIX) {
                Bearing::Refresh(token)
            } else {
                Bearing::Access(token)
            };
            let done = self.service.logout(&self.ctx, &by).await.map_err(Fault::of)?;
            // Only the original's clients are told; and a session that has ended before is known all the same.
            if !done.known && self.profile == Profile::Twopi {
                return Err(Fault::token(self.realm(), "not_authentic"));
            }
        }
        Ok(Granted::Body(done(None), self.no_cookie()))
    }

    async fn logout_all(&self, fields: &Fields) -> Result<Granted, Fault> {
        let by = match self.refresh_token(fields)? {
            Some(token) => Bearing::Refresh(token),
            None => Bearing::Access(self.access_token()?),
        };
        let ended = self.service.logout_all(&self.ctx, &by).await.map_err(Fault::of)?;
        let ended = ended.ok_or_else(|| Fault::token(self.realm(), "not_authentic"))?;
        Ok(Granted::Body(done(Some(ended)), self.no_cookie()))
    }

    async fn sessions(&self) -> Result<Granted, Fault> {
        let state = self.state().await?;
        let families = self.service.sessions_of(&self.ctx, &state.principal).await.map_err(Fault::of)?;
        Ok(Granted::Body(sessions(&families, self.service.family_of(&state)), None))
    }

    async fn end_session(&self) -> Result<Granted, Fault> {
        let state = self.state().await?;
        let named = self.parts.uri.path().rsplit('/').next().unwrap_or_default();
        let unknown = || Fault::not_found("no_such_session");
        let id: FamilyId = named.parse().map_err(|_| unknown())?;
        if !self.service.end_session(&self.ctx, &state.principal, id).await.map_err(Fault::of)? {
            return Err(unknown());
        }
        let own = self.service.family_of(&state) == Some(id);
        Ok(Granted::Body(done(None), if own { self.no_cookie() } else { None }))
    }

    fn grant(&self, granted: auth_token::Granted, shown: Option<&str>) -> Result<Granted, Fault> {
        let tokens = match granted {
            auth_token::Granted::Tokens(tokens) => tokens,
            auth_token::Granted::Refused(refused) => return Err(self.refusal(refused)),
            _ => return Err(Fault::of(Error::new(ErrorKind::Internal, "an answer that is not known here"))),
        };
        if !self.keeps_cookies() {
            return Ok(Granted::Body(self.profile.granted(&tokens, Refresh::InBody { shown }), None));
        }
        let life = between(tokens.issued_at, tokens.refresh_expires_at);
        let cookie = cookie::keep(&tokens.refresh_token, life).ok_or_else(|| {
            Fault::of(Error::new(ErrorKind::Internal, "a refresh token that no cookie can hold"))
        })?;
        Ok(Granted::Body(self.profile.granted(&tokens, Refresh::InCookie), Some(cookie)))
    }

    fn refusal(&self, refused: Refused) -> Fault {
        match refused {
            Refused::Credentials(reject) => Fault::credentials(self.realm(), reject.as_str()),
            Refused::Scope => Fault::scope("scope"),
            refused if self.profile == Profile::Native => Fault::grant(refused.as_str()),
            refused => Fault::grant(refused.as_str()).into_unauthorized(self.realm()),
        }
    }

    /// Finds the refresh token where this profile has it, and nowhere else.
    fn refresh_token<'f>(&'f self, fields: &'f Fields) -> Result<Option<&'f str>, Fault> {
        let in_body = fields.text(self.profile.names().refresh_token)?;
        if !self.keeps_cookies() {
            return Ok(in_body);
        }
        if in_body.is_some() {
            return Err(Fault::request("the refresh token is taken from its cookie alone"));
        }
        cookie::find(&self.parts.headers)
            .map_err(|cookie::Repeated| Fault::request("the cookie is there twice"))
    }

    fn access_token(&self) -> Result<&str, Fault> {
        bearer_token(&self.parts.headers, self.routes.front.max_header_bytes())
            .map_err(|reason| Fault::unbearable(self.realm(), reason))
    }

    async fn state(&self) -> Result<Arc<TokenState>, Fault> {
        state_of(self.service, &self.ctx, self.access_token()?).await
    }

    fn no_token(&self) -> Fault {
        match self.profile {
            Profile::Native => Fault::request("a token is needed"),
            Profile::Ampho | Profile::Twopi => {
                Fault::unbearable(self.realm(), super::bearer::Unbearable::Missing)
            }
        }
    }

    fn no_cookie(&self) -> Option<axum::http::HeaderValue> {
        self.keeps_cookies().then(cookie::clear)
    }

    /// Describes where somebody logs in, for the list of sessions. What the client calls itself must be plain; what its
    /// program sends with every request is made so.
    fn device(&self, fields: &Fields) -> Result<Device, Fault> {
        let name = fields.text("device")?;
        if name.is_some_and(|name| name.len() > Family::MAX_NAME_BYTES || name.chars().any(char::is_control))
        {
            return Err(Fault::request("the name of a device is too long, or holds control characters"));
        }
        let agent = self.parts.headers.get(USER_AGENT).map(|value| agent(value.as_bytes()));
        Ok(Device { name: name.map(str::to_owned), address: self.ctx.client(), agent })
    }
}

/// As much of `User-Agent` as is kept, as text without control characters.
fn agent(value: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(value)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    text.truncate(text.floor_char_boundary(Family::MAX_AGENT_BYTES));
    text
}

/// Reads scopes as they may be written (RFC 6749, 3.3).
fn scope(fields: &Fields) -> Result<Option<&str>, Fault> {
    let scope = fields.text("scope")?;
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if scope.is_some_and(|scope| scope.len() > Family::MAX_SCOPE_BYTES || !scope.bytes().all(plain)) {
        return Err(Fault::scope("malformed_scope"));
    }
    Ok(scope)
}

/// Reads a client's name as it may be written (RFC 6749, A.1).
fn client(fields: &Fields) -> Result<Option<&str>, Fault> {
    let client = fields.text("client_id")?;
    let plain = |byte: u8| matches!(byte, b' '..=b'~');
    if client.is_some_and(|client| client.len() > Family::MAX_NAME_BYTES || !client.bytes().all(plain)) {
        return Err(Fault::request("the client_id is too long, or not printable ASCII"));
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_kept_as_far_as_it_fits_and_without_control_characters() {
        assert_eq!(agent(b"Mozilla/5.0 (X11)"), "Mozilla/5.0 (X11)");
        assert_eq!(agent(b"a\tb\xff"), "a\u{fffd}b\u{fffd}");
        let long = agent("\u{e9}".repeat(600).as_bytes());
        assert_eq!(long, "\u{e9}".repeat(Family::MAX_AGENT_BYTES / 2));
        assert_eq!(agent(&[b'a'; 512]).len(), 512);
        assert_eq!(agent(&[b'\t'; 512]).len(), 510, "no character is cut");
    }
}
