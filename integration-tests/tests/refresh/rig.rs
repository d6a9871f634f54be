//! Two processes, in effect: two stacks on one store of sessions, over people that the test holds in its hand.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, Clock as _, Ctx, Device, Error, ErrorKind, Family, Freshness, GroupOracle,
    GroupSet, Id, Login, Lookup, Member, Principal, Result, SourceInfo, StoredHash, Subject,
};
use auth_stack::{Opening, Provides, SourceKind, Stack, SystemClock};
use auth_testkit::{ManualClock, MemoryStore};
use auth_token::{Checked, Granted, LoginAsk, Refused, RenewAsk, TokenService, Tokens};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::Servers;

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Sqlite,
    Postgres,
    MariaDb,
    Redis,
}

impl Place {
    pub(crate) const ALL: [Self; 5] =
        [Self::Memory, Self::Sqlite, Self::Postgres, Self::MariaDb, Self::Redis];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Redis => "redis",
        }
    }

    pub(crate) const fn server(self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::Sqlite => None,
            _ => Some(self.name()),
        }
    }
}

/// A place for the sessions of one scenario.
pub(crate) struct Bed {
    pub(crate) place: Place,
    pub(crate) url: String,
    prefix: String,
    pub(crate) folder: TempDir,
}

impl Bed {
    pub(crate) fn new(place: Place, servers: &Servers) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let url = match place {
            Place::Memory => "memory".to_owned(),
            Place::Sqlite => format!("sqlite:{}/sessions.db", folder.path().display()),
            Place::Postgres => {
                servers.postgres.create(&name);
                servers.postgres.url(&name)
            }
            Place::MariaDb => {
                servers.mariadb.create(&name);
                servers.mariadb.url(&name)
            }
            Place::Redis => servers.redis.url(),
        };
        Self { place, url, prefix: format!("{name}."), folder }
    }
}

/// People in memory, who may be out of reach.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) store: MemoryStore,
    down: AtomicBool,
    // Who holds the next answer up: told when it was read, and waited for before it is given.
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl People {
    pub(crate) fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Holds up the next account that is read: the one that is returned hears of it, and lets it go on.
    pub(crate) fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((read, has_read), (go, going)) = (oneshot::channel(), oneshot::channel());
        *self.held.lock().unwrap() = Some((read, going));
        (has_read, go)
    }

    /// Whoever waits for an account to be read need not any longer.
    pub(crate) fn let_go(&self) {
        *self.held.lock().unwrap() = None;
    }

    fn reached(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the test has cut this source off"));
        }
        Ok(())
    }
}

#[async_trait]
impl AccountSource for People {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.store)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.reached()?;
        let account = self.store.account(ctx, login).await;
        let held = self.held.lock().unwrap().take();
        if let Some((read, going)) = held {
            read.send(()).unwrap();
            going.await.unwrap();
        }
        account
    }

    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.store.replace_hash(ctx, who, old, new).await
    }
}

#[async_trait]
impl GroupOracle for People {
    fn source(&self) -> &SourceInfo {
        GroupOracle::source(&self.store)
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.reached()?;
        self.store.groups_of(ctx, who).await
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        self.reached()?;
        self.store.is_member(ctx, who, group).await
    }
}

struct Given(Arc<People>);

#[async_trait]
impl SourceKind for Given {
    async fn open(&self, _opening: Opening<'_>) -> Result<Provides> {
        let accounts = Arc::clone(&self.0) as Arc<dyn AccountSource>;
        Ok(Provides::accounts(accounts).with_groups(Arc::clone(&self.0) as Arc<dyn GroupOracle>))
    }
}

/// Two processes on one store.
pub(crate) struct Rig {
    pub(crate) bed: Bed,
    pub(crate) people: Arc<People>,
    pub(crate) clock: Arc<ManualClock>,
    settings: String,
    pub(crate) stacks: Vec<Arc<Stack>>,
    pub(crate) ctx: Ctx,
}

/// What a renewal has come to, in a word.
pub(crate) fn word(outcome: &Result<Granted>) -> String {
    match outcome {
        Ok(Granted::Tokens(_)) => "tokens".to_owned(),
        Ok(Granted::Refused(refused)) => refused.as_str().to_owned(),
        Ok(_) => "?".to_owned(),
        Err(error) => format!("error {}", error.kind()),
    }
}

pub(crate) const REUSE: &str = "refresh_reuse_detected";

impl Rig {
    pub(crate) async fn new(bed: Bed) -> Self {
        Self::with(bed, "").await
    }

    /// `settings` are of `[token]`, with what sections follow it.
    pub(crate) async fn with(bed: Bed, settings: &str) -> Self {
        let clock = ManualClock::new();
        // What a server's own clock ends is not over before it is here.
        clock.set_wall(SystemClock::new().wall());
        let people = Arc::new(People {
            store: MemoryStore::named("app"),
            down: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let ctx = Ctx::new().with_client([192, 0, 2, 7].into());
        let settings = settings.to_owned();
        let mut rig = Self { bed, people, clock, settings, stacks: Vec::new(), ctx };
        rig.start().await;
        rig
    }

    /// Composes the stacks; where sessions are in memory, one.
    async fn start(&mut self) {
        for process in 0..if self.bed.place == Place::Memory { 1 } else { 2 } {
            let stack = self.compose(process).await;
            self.stacks.push(Arc::new(stack));
        }
    }

    async fn compose(&self, process: usize) -> Stack {
        let Bed { url, prefix, folder, .. } = &self.bed;
        let keys = folder.path().join("keys");
        let config = format!(
            "[source.app]\nkind = 'given'\n[password]\nupgrade = false\nargon2 = {{ memory_kib = 64, passes = 1 }}\n\
             [guard]\nnetwork_free = 100000\nfree = 100000\nlogin_free = 100000\n\
             [cache]\nprefix = '{prefix}'\n[secrets]\nrefresh_key = '{secret}'\n\
             [token.keys]\nfolder = '{keys}'\n[token]\nstore = '{url}'\n{settings}",
            secret = "s".repeat(32),
            keys = keys.display(),
            settings = self.settings,
        );
        let clock = Arc::clone(&self.clock) as Arc<dyn auth_core::Clock>;
        Stack::builder()
            .data(folder.path().join(format!("data{process}")))
            .config(&config)
            .clock(clock)
            .register_source("given", Given(Arc::clone(&self.people)))
            .with_tokens()
            .build()
            .await
            .unwrap()
    }

    /// All processes end and start anew.
    pub(crate) async fn restart(&mut self) {
        assert_ne!(self.bed.place, Place::Memory, "it would forget");
        self.stacks.clear();
        self.start().await;
    }

    /// The service as a process has it; where there is one process only, that one.
    pub(crate) fn service(&self, process: usize) -> &Arc<TokenService> {
        self.stacks[process % self.stacks.len()].tokens("default").unwrap()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    pub(crate) fn login_of(&self, login: &str) -> Login {
        Login::parse(self.service(0).realm().id(), login).unwrap()
    }

    /// Changes somebody in the store, as a write through us does.
    pub(crate) fn change(&self, login: &str, change: impl FnOnce(&MemoryStore)) {
        change(&self.people.store);
        let login = self.login_of(login);
        for stack in &self.stacks {
            stack.flush(&Subject::Login(&login));
        }
    }

    pub(crate) fn ask<'a>(login: &'a str, password: &str) -> LoginAsk<'a> {
        LoginAsk {
            login,
            password: password.as_bytes().to_vec(),
            scope: None,
            client: None,
            device: Device::default(),
            remember: true,
        }
    }

    pub(crate) async fn log_in_at(&self, process: usize) -> Tokens {
        let ask = Self::ask("calvin", "hobbes");
        match self.service(process).login(&self.ctx, ask).await.unwrap() {
            Granted::Tokens(tokens) => *tokens,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn log_in(&self) -> Tokens {
        self.log_in_at(0).await
    }

    pub(crate) async fn try_renew(&self, process: usize, token: &str) -> Result<Granted> {
        let ask = RenewAsk { token, scope: None, client: None };
        self.service(process).renew(&self.ctx, &ask).await
    }

    #[track_caller]
    pub(crate) fn renew(&self, process: usize, token: &str) -> impl Future<Output = Tokens> {
        let place = std::panic::Location::caller();
        async move {
            match self.try_renew(process, token).await {
                Ok(Granted::Tokens(tokens)) => *tokens,
                other => panic!("{place}: {other:?}"),
            }
        }
    }

    /// Renews in vain, and says why.
    pub(crate) async fn refused(&self, process: usize, token: &str) -> String {
        word(&self.try_renew(process, token).await)
    }

    /// Whether an access token is good, whatever is in memory: the reason if not.
    pub(crate) async fn checked(&self, process: usize, token: &str) -> String {
        let ctx = self.ctx.clone().with_freshness(Freshness::Fresh);
        self.checked_in(process, token, &ctx).await
    }

    /// The same from memory, if it is there.
    pub(crate) async fn checked_in(&self, process: usize, token: &str, ctx: &Ctx) -> String {
        match self.service(process).check(ctx, token).await {
            Ok(Checked::Valid(_)) => "valid".to_owned(),
            Ok(Checked::Invalid(invalid)) => invalid.as_str().to_owned(),
            Ok(_) => "?".to_owned(),
            Err(error) => format!("error {}", error.kind()),
        }
    }

    /// How often something was told of sessions.
    pub(crate) fn told(&self, what: &str) -> u64 {
        let all = self.stacks.iter().flat_map(|stack| stack.sessions());
        all.filter(|(_, change, _)| *change == what).map(|(_, _, count)| count).sum()
    }

    pub(crate) async fn sessions(&self, login: &str) -> Vec<Family> {
        self.service(0).sessions(&self.ctx, &self.login_of(login)).await.unwrap()
    }

    pub(crate) fn seconds(&self, time: SystemTime) -> u64 {
        time.duration_since(self.wall()).unwrap_or_default().as_millis().div_ceil(1_000).try_into().unwrap()
    }
}

/// The claims of an access token.
pub(crate) fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub(crate) fn is_grant(refused: &Granted, class: &str) -> bool {
    matches!(refused, Granted::Refused(Refused::Grant(why)) if why.as_str() == class)
}

pub(crate) const fn id(number: i64) -> Id {
    Id::Int(number)
}
