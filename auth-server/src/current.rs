//! The stack that serves now, and how another takes its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use auth_core::{ErrorKind, Realm, Result};
use auth_http::{FrontConfig, TokenRoutes, TokenServices};
use auth_stack::{Builder, Stack};
use auth_token::TokenService;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::command::{Reply, told};
use crate::serve::{front, token_routes};

/// The pauses between attempts to reach a source that the server has started without: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How long is waited for sources that tell of changes to be heard; whose can't be is heard later.
const FEEDS: Duration = Duration::from_secs(2);

/// A stack, and what the front needs to know of it.
#[derive(Debug, Clone)]
struct Serving {
    stack: Arc<Stack>,
    front: Arc<FrontConfig>,
    tokens: Option<Arc<TokenRoutes>>,
}

impl Serving {
    fn new(stack: Arc<Stack>) -> Result<Self> {
        let front = Arc::new(front(&stack)?);
        let tokens = token_routes(&stack, &front)?.map(Arc::new);
        Ok(Self { stack, front, tokens })
    }
}

/// The stack that serves now.
pub(crate) struct Current {
    // A std lock: nothing awaits while it is held.
    serving: RwLock<Serving>,
    make: Box<dyn Fn() -> Builder + Send + Sync>,
    /// Held by the one reload that is under way.
    reloading: Mutex<()>,
    reloads: AtomicU64,
    failures: AtomicU64,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("stack", &self.stack()).finish_non_exhaustive()
    }
}

impl Current {
    /// Begins with a stack; `make` begins to compose another, from the configuration as it is then.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the front can't be set as the configuration says.
    pub(crate) fn new(stack: Arc<Stack>, make: impl Fn() -> Builder + Send + Sync + 'static) -> Result<Self> {
        Ok(Self {
            serving: RwLock::new(Serving::new(stack)?),
            make: Box::new(make),
            reloading: Mutex::default(),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    pub(crate) fn stack(&self) -> Arc<Stack> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner).stack)
    }

    pub(crate) fn front(&self) -> Arc<FrontConfig> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner).front)
    }

    /// Returns the settings of the routes of tokens; nothing where they are off.
    pub(crate) fn token_routes(&self) -> Option<Arc<TokenRoutes>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).tokens.clone()
    }

    /// Returns how many reloads were done, and how many failed.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Reads the configuration anew, composes a stack of it, looks whether all of its sources answer, and only then puts
    /// it in the place of the one that serves. What fails on the way changes nothing.
    pub(crate) async fn reload(&self) -> Reply {
        let _alone = self.reloading.lock().await;
        match self.replace(false).await {
            Ok(Some(row)) => {
                self.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!("the configuration was read again, and is in force");
                Reply::one(0, row)
            }
            Ok(None) => Reply { exit: 0, rows: Vec::new() },
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    error = told(&error),
                    "the configuration before stays in force: the new one failed"
                );
                let mut reply = Reply::failed(&error);
                if error.kind() == ErrorKind::Misconfigured {
                    reply.exit = 2;
                }
                reply
            }
        }
    }

    /// Tries again and again to reach the sources that the server has started without.
    pub(crate) async fn complete(&self) {
        let mut pause = PAUSES.0;
        while self.stack().down().next().is_some() {
            self.stack().clock().sleep_until(self.stack().clock().now() + pause).await;
            pause = (pause * 2).min(PAUSES.1);
            let _alone = self.reloading.lock().await;
            match self.replace(true).await {
                Ok(Some(row)) => {
                    pause = PAUSES.0;
                    let opened = row.get("opened").map(ToString::to_string).unwrap_or_default();
                    tracing::info!(opened, "a source is there that the server had started without");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = told(&error), "can't complete what the server has started with")
                }
            }
        }
    }

    /// Returns what was done; nothing if only what is reached for the first time was to be put in place, and nothing is.
    async fn replace(&self, to_complete: bool) -> Result<Option<Value>> {
        let old = self.stack();
        // What stands in the file now may be half written: nobody has asked for it yet.
        let builder = if to_complete { (self.make)().again(&old) } else { (self.make)().after(&old) };
        let new = Arc::new(builder.build_for_server().await?);
        if to_complete && new.down().count() >= old.down().count() {
            return Ok(None);
        }
        let serving = Serving::new(Arc::clone(&new))?;
        let mut warnings = new.warnings().to_vec();
        for report in new.probe().await {
            let Some(fault) = report.fault.filter(|_| report.used) else { continue };
            // One that was down before is no reason to keep what else was to be changed.
            if new.keeps(&old, &report.name) || new.down().any(|down| down == report.name) {
                warnings.push(format!("the source `{}` is down, as it was before", report.name));
                continue;
            }
            return Err(fault.placed(format_args!("source.{}: ", report.name)));
        }
        new.begin(FEEDS).await;
        let (listens, listened) = (new.config().server.listen, old.config().server.listen);
        if listens != listened {
            warnings.push(format!("server.listen is {listened} until the server is restarted"));
        }
        let is_at = |routes: Option<&TokenRoutes>| {
            routes.map(|routes| (routes.prefix().to_owned(), routes.profile()))
        };
        if is_at(serving.tokens.as_deref()) != is_at(self.token_routes().as_deref()) {
            warnings.push(
                "where tokens are served, and as what, stays as it was until the server is restarted"
                    .to_owned(),
            );
        }
        let changed: Vec<String> = new
            .sources()
            .into_iter()
            .map(|source| source.name)
            .filter(|name| !new.keeps(&old, name))
            .collect();
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        // Questions that have begun end on the old stack; so does what it has still to tell others.
        tokio::spawn(async move {
            let _reached = old.settle().await;
        });
        let mut row = json!({ "reloaded": true, "opened": changed });
        if let (Some(row), false) = (row.as_object_mut(), warnings.is_empty()) {
            row.insert("warnings".into(), warnings.into());
        }
        Ok(Some(row))
    }
}

impl auth_http::Realms for Current {
    fn realm(&self, name: &str) -> Option<Arc<Realm>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).stack.realm(name).map(Arc::clone)
    }

    fn tokens(&self, name: &str) -> Option<Arc<TokenService>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).stack.tokens(name).map(Arc::clone)
    }

    fn config(&self) -> Option<Arc<FrontConfig>> {
        Some(self.front())
    }
}

impl TokenServices for Current {
    fn service(&self, realm: &str) -> Option<Arc<TokenService>> {
        auth_http::Realms::tokens(self, realm)
    }

    fn routes(&self) -> Option<Arc<TokenRoutes>> {
        self.token_routes()
    }
}
