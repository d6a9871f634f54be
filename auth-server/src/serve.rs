//! `gatepost serve`.

use std::sync::Arc;

use auth_core::{Ctx, Directory, Error, ErrorKind, Login, NewUser, Password, Result};
use auth_http::{CookieMode, FrontConfig, TokenRoutes, TokenServices};
use auth_stack::{Builder, Stack, TokenProfile};
use auth_token::Profile;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use data_encoding::BASE32_NOPAD;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::current::Current;
use crate::{admin, metrics, net, output, upkeep};

/// The login that the first start makes.
const ADMINISTRATOR: &str = "admin";

/// Serves until SIGTERM or SIGINT, then finishes what was begun, within 5 s. Reads the configuration anew on SIGHUP:
/// `make` begins to compose what it says then.
pub(crate) async fn serve(stack: Stack, make: impl Fn() -> Builder + Send + Sync + 'static) -> Result<()> {
    let current = Arc::new(Current::new(Arc::new(stack), make)?);
    let stack = current.stack();
    let config = stack.config().server.clone();
    let (unix_listener, admin_socket) = admin::listen(stack.data())?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Error::new(ErrorKind::Misconfigured, format!("can't listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr().unwrap_or(config.listen);
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "passwords cross the network in clear: put a TLS proxy in front");
    }
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let mut hangup = on_signal(SignalKind::hangup())?;

    let credentials = first_user(&stack).await?;
    let realms = Arc::clone(&current) as Arc<dyn auth_http::Realms>;
    let front = current.front().as_ref().clone();
    let mut router =
        auth_http::router(realms, front, Arc::clone(stack.clock())).merge(operation(Arc::clone(&current)));
    if let Some(routes) = current.token_routes() {
        let services = Arc::clone(&current) as Arc<dyn TokenServices>;
        let routes = routes.as_ref().clone();
        router = router.merge(auth_http::token_router(services, routes, Arc::clone(stack.clock())));
    }
    drop(stack);

    let (stop, stopped) = watch::channel(false);
    let http = tokio::spawn(net::tcp(listener, router, stopped.clone()));
    let socket = tokio::spawn(net::unix(unix_listener, admin::router(Arc::clone(&current)), stopped));
    let completing = tokio::spawn({
        let current = Arc::clone(&current);
        async move { current.complete().await }
    });
    let keeping_up = tokio::spawn(upkeep::run(Arc::clone(&current)));
    output::line(&format!("gatepost serves http://{address}"));
    if let Some(password) = credentials {
        greet(&address.to_string(), &password);
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => {
                let current = Arc::clone(&current);
                tokio::spawn(async move { drop(current.reload().await) });
            }
        }
    }
    tracing::info!("stopping");
    completing.abort();
    keeping_up.abort();
    let _ = stop.send(true);
    let _ = tokio::join!(http, socket);
    // What was voided last may be on its way to the others; nobody tries it again afterwards.
    let _reached = current.stack().settle().await;
    drop(admin_socket);
    Ok(())
}

/// The settings of the routes of tokens; nothing where they are off.
pub(crate) fn token_routes(stack: &Stack, front: &FrontConfig) -> Result<Option<TokenRoutes>> {
    let token = &stack.config().token;
    if !token.enabled {
        return Ok(None);
    }
    let placed = |error: Error, path: &[&str]| stack.origins().wrong(path, error.message());
    let profile = match token.profile {
        TokenProfile::Native => Profile::Native,
        TokenProfile::Ampho => Profile::Ampho,
        TokenProfile::Twopi => Profile::Twopi,
    };
    let cookie = if token.http.cookie { CookieMode::On } else { CookieMode::Off };
    let routes = TokenRoutes::new(front.clone())
        .with_prefix(&token.http.prefix)
        .map_err(|error| placed(error, &["token", "http", "prefix"]))?
        .with_profile(profile)
        .and_then(|routes| routes.with_cookie(cookie))
        .map_err(|error| placed(error, &["token", "http", "cookie"]))?;
    Ok(Some(routes))
}

/// The settings of the front; naming the place of what is wrong with them.
pub(crate) fn front(stack: &Stack) -> Result<FrontConfig> {
    let config = &stack.config().server;
    let wrong = |path: &[&str], error: &Error| stack.origins().wrong(path, error.message());
    if stack.realm(&config.realm).is_none() {
        let known: Vec<&str> = stack.realms().map(|realm| realm.id().name()).collect();
        let message = format!(
            "no realm is called `{}`: say which one is meant where none is named; known: {}",
            config.realm,
            known.join(", ")
        );
        return Err(stack.origins().wrong(&["server", "realm"], &message));
    }
    let mut front = FrontConfig::new(&config.realm).with_limit(config.limit.0);
    for (host, realm) in &config.hosts {
        let path = ["server", "hosts", host.as_str()];
        front = front.with_host(host, realm).map_err(|error| wrong(&path, &error))?;
    }
    for (at, proxy) in config.trusted_proxies.iter().enumerate() {
        let at = at.to_string();
        let path = ["server", "trusted_proxies", at.as_str()];
        front = front.with_trusted_proxy(proxy).map_err(|error| wrong(&path, &error))?;
    }
    Ok(front)
}

fn on_signal(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Error::new(ErrorKind::Internal, "can't listen for signals").because(error))
}

/// Makes the administrator of an embedded store that nobody is in yet, and returns the password. Whether the
/// store was just made does not matter: a first start may have failed, or another command have made it.
async fn first_user(stack: &Stack) -> Result<Option<String>> {
    let name = &stack.config().server.realm;
    let (Some(realm), Some(directory)) = (stack.realm(name), stack.directory(name)) else { return Ok(None) };
    if !stack.is_embedded() || !directory.users(&Ctx::new(), realm.id(), None, 1).await?.is_empty() {
        return Ok(None);
    }
    let mut random = [0; 15];
    getrandom::fill(&mut random).map_err(|error| {
        Error::new(ErrorKind::Internal, "the system gives no random numbers").with("cause", error)
    })?;
    let password = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
    let ctx = Ctx::new();
    let hash = stack.hasher().make(&ctx, &Password::new(password.clone().into_bytes())?).await?;
    let login = Login::parse(realm.id(), ADMINISTRATOR)?;
    let user = NewUser { login, hash: Some(hash), groups: vec![ADMINISTRATOR.to_owned()] };
    let added = directory.add_user(&ctx, &user).await?;
    Ok((added == auth_core::Change::Done).then_some(password))
}

/// Tells the administrator's password, this once, and what to try.
fn greet(address: &str, password: &str) {
    output::line("");
    output::line("This is the first start: an embedded store was made, with one user.");
    output::line(&format!("  login     {ADMINISTRATOR}"));
    output::line(&format!("  password  {password}    (shown only now)"));
    output::line("Try it:");
    output::line(&format!("  curl -i -u {ADMINISTRATOR}:{password} http://{address}/auth/nginx"));
}

/// Health and metrics.
fn operation(current: Arc<Current>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state(current)
}

async fn ready(State(current): State<Arc<Current>>) -> impl IntoResponse {
    let stack = current.stack();
    let sources = stack.sources_now().await;
    let sessions = stack.sessions_answer().map(|answer| answer.is_ok());
    let red = sessions == Some(false) || sources.iter().any(|source| source.used && !source.is_up());
    let status = if red { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    // Which sources, not why: the reasons are for the admin socket.
    let list: serde_json::Map<_, _> =
        sources.iter().map(|source| (source.name.clone(), source.is_up().into())).collect();
    let mut body = json!({ "ready": !red, "sources": list });
    if let (Some(sessions), Some(body)) = (sessions, body.as_object_mut()) {
        body.insert("sessions".to_owned(), sessions.into());
    }
    let body = body.to_string() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
}

async fn measured(State(current): State<Arc<Current>>) -> impl IntoResponse {
    let stack = current.stack();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics::render(&stack, &stack.sources_now().await) + &metrics::reloads(current.reloads()),
    )
}
