//! Users, groups and rights in Redis.

mod directory;
mod keys;
mod line;
mod read;
mod scripts;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, Capabilities, Ctx, Directory, Error, ErrorKind, GroupOracle, GroupSet,
    Id, Login, Lookup, ObjectPerms, ObjectRef, Principal, Result, SourceInfo, StoredHash,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::config::{Address, Shape};
use crate::key::random;
use crate::script::Script;
use crate::servers::Servers;
use crate::{RedisConfig, fault, fit};

use keys::{StoreKeys, object_name};
use line::Line;
use read::{FIELDS, MAX_FIELD};
use scripts::Scripts;

/// How long it is known what a change has done, for whoever sends it again: ten minutes, in milliseconds.
const NOTED: &str = "600000";

/// For how many limits of a call a change is sent again, if its answer is lost.
const PATIENCE: u32 = 3;

/// The pause before it is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// What the mark of a store begins with: how its keys are laid out.
const LAYOUT: &[u8] = b"1-";

/// Settings of a [`RedisStore`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisStoreConfig {
    /// Where the server is. The prefix is the store's own.
    pub redis: RedisConfig,
    /// What to do if the server has no such store.
    pub absent: Absent,
    /// Whether what is said over a network may be read on the way.
    pub network: Network,
}

/// What to do if the server has no such store: a server that has lost everything looks so, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// A new one is made, with a warning.
    #[default]
    Made,
    /// That is an error.
    Refused,
}

/// Whether what is said over a network may be read on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Another machine is spoken to over TLS only.
    #[default]
    Tls,
    /// It may be spoken to without, with a warning.
    Plain,
}

impl RedisStoreConfig {
    /// Takes an address and a prefix. The rest has its defaults: one second for a call, and one to connect.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        let mut redis = RedisConfig::new(url, prefix);
        redis.timeout = Duration::from_secs(1);
        redis.connect_timeout = Duration::from_secs(1);
        Self { redis, absent: Absent::default(), network: Network::default() }
    }
}

/// A store that keeps people, groups and rights in Redis or Valkey.
///
/// It implements [`AccountSource`], [`GroupOracle`], [`ObjectPerms`] and [`Directory`]. A question is one round trip and
/// a change is one script. A change whose answer was lost is sent again, for up to three limits of a call, and is not done
/// twice; an error after that leaves open whether it was done.
///
/// Every answer is from the store that was there at the start: a server that has lost it is an error, and nobody's
/// absence.
pub struct RedisStore {
    source: SourceInfo,
    line: Arc<Line>,
    keys: StoreKeys,
    scripts: Scripts,
    writable: bool,
    /// The life of the server that was last found fit.
    fit: AtomicU64,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("source", self.source.name())
            .field("keys", &self.keys.front)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, looks whether the server is fit to keep people, and whether the store is there.
    ///
    /// `info` says how the source is called; what it can do is added here.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the settings or the server are not fit, or the store is of another
    /// layout; otherwise any kind.
    pub async fn connect(info: SourceInfo, config: &RedisStoreConfig) -> Result<Self> {
        let name = Arc::clone(info.name());
        Self::open(info, config).await.map_err(|error| error.at(name))
    }

    async fn open(info: SourceInfo, config: &RedisStoreConfig) -> Result<Self> {
        check_network(config)?;
        let keys = StoreKeys::new(&config.redis.prefix);
        let servers = Servers::new(&config.redis, vec![keys.slot()])?;
        let mut store = Self {
            line: Arc::new(Line::new(servers, config.redis.timeout, keys.store())),
            keys,
            scripts: Scripts::new(),
            writable: false,
            fit: AtomicU64::new(0),
            source: info,
        };
        store.inspect().await?;
        store.line.set_mark(store.find(config.absent).await?);
        store.writable = store.may_write().await?;
        let capabilities =
            Capabilities { tells_unknown: true, lists_groups: true, replaces_hash: store.writable };
        store.source = store.source.with_capabilities(capabilities);
        Ok(store)
    }

    /// Returns the writes of users, groups and rights; nothing if the server does not permit them to our user.
    #[must_use]
    pub fn directory(self: &Arc<Self>) -> Option<Arc<dyn Directory>> {
        self.writable.then(|| Arc::clone(self) as Arc<dyn Directory>)
    }

    /// Looks anew whether the server is fit to keep people, and still has the store.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn look(&self) -> Result<()> {
        let looked = async {
            self.inspect().await?;
            self.ask(self.line.about(0)).await.map(drop)
        };
        looked.await.map_err(|error| self.at(error))
    }

    fn at(&self, error: Error) -> Error {
        error.at(Arc::clone(self.source.name()))
    }

    /// Asks the store: if another one is there by now, or none, that is no answer.
    async fn ask(&self, request: Pipeline) -> Result<std::vec::IntoIter<Value>> {
        let (values, life) = self.line.ask(&request).await?;
        self.check(life).await?;
        Ok(values)
    }

    /// Asks the store one question.
    async fn ask_one(&self, question: Cmd) -> Result<Value> {
        let (value, life) = self.line.ask_one(question).await?;
        self.check(life).await?;
        Ok(value)
    }

    /// Looks at a server whose answer is the first of its life.
    async fn check(&self, life: u64) -> Result<()> {
        if self.fit.load(Ordering::Acquire) == life { Ok(()) } else { self.inspect().await }
    }

    /// Looks whether the server is fit to keep people.
    async fn inspect(&self) -> Result<()> {
        let (answers, life) = self.line.send(&fit::questions()).await?;
        fit::judge(answers, self.source.name())?;
        self.fit.store(life, Ordering::Release);
        Ok(())
    }

    /// Returns the mark of the store; makes it if there is none and that may be.
    async fn find(&self, absent: Absent) -> Result<Vec<u8>> {
        let key = self.keys.store();
        let mut request = Pipeline::with_capacity(1);
        request.cmd("GET").arg(&key);
        for made in [false, true] {
            let (values, _) = self.line.send(&request).await?;
            let values = values.into_iter().map(fault::checked).collect::<Result<Vec<_>>>()?;
            match values.into_iter().next_back().ok_or_else(fault::unreadable)? {
                Value::BulkString(mark) if mark.starts_with(LAYOUT) => {
                    if made {
                        let source = self.source.name();
                        tracing::warn!(%source, "the server had no such store; a new one was made, without anybody in it");
                    }
                    return Ok(mark);
                }
                Value::BulkString(_) => {
                    return Err(misconfigured("the store under this prefix is of another version"));
                }
                Value::Nil => {}
                _ => return Err(fault::unreadable()),
            }
            if made || absent == Absent::Refused {
                break;
            }
            let mark = [LAYOUT, fresh()?.as_bytes()].concat();
            request = Pipeline::with_capacity(2);
            request.cmd("SET").arg(&key).arg(mark).arg("NX");
            request.cmd("GET").arg(&key);
        }
        Err(misconfigured("the server has no store under this prefix"))
    }

    /// Tries out whether changes are permitted.
    async fn may_write(&self) -> Result<bool> {
        let name = fresh()?;
        let keys = ["a", "b", "c", "d"].map(|n| self.keys.trial(&format!("{name}{n}")));
        match self.run(&self.scripts.trial, Sending::First, &keys, &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Misconfigured => {
                let source = self.source.name();
                tracing::warn!(%source, "the server does not permit changes to our user: the store is read only");
                Ok(false)
            }
            // It may write as soon as the server can.
            Err(error) if error.kind().is_temporary() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Runs a script: by its name, if the server knows it.
    async fn run(&self, script: &Script, sending: Sending, keys: &[String], values: &[&[u8]]) -> Result<i64> {
        let command = |by: &str, script: &str| {
            let mut request = Pipeline::with_capacity(1);
            let mut run = redis::cmd(by);
            run.arg(script).arg(keys.len()).arg(keys);
            for value in values {
                run.arg(*value);
            }
            request.add_command(run);
            request
        };
        let (mut replies, mut life) = match sending {
            Sending::First => self.line.send(&command("EVALSHA", &script.hash)).await?,
            // The answer that was lost may have been that the server does not know it.
            Sending::Again => self.line.send(&command("EVAL", script.text)).await?,
        };
        if replies.first().is_some_and(fault::is_unknown_script) {
            (replies, life) = self.line.send(&command("EVAL", script.text)).await?;
        }
        let reply = fault::checked(replies.pop().ok_or_else(fault::unreadable)?)?;
        let Value::Int(code) = reply else { return Err(fault::unreadable()) };
        self.check(life).await?;
        Ok(code)
    }

    /// Does a change once, also where it has to be sent again. Returns what the script says.
    async fn change(&self, script: &Script, keys: &[String], values: &[&[u8]]) -> Result<i64> {
        if !self.writable {
            return Err(Error::new(ErrorKind::Unsupported, "the server does not permit changes to our user"));
        }
        let mut all = Vec::with_capacity(keys.len() + 2);
        all.extend([self.keys.done(&fresh()?), self.keys.store()]);
        all.extend_from_slice(keys);
        let mut args: Vec<&[u8]> = Vec::with_capacity(values.len() + 3);
        args.extend([self.line.mark(), NOTED.as_bytes(), self.keys.front.as_bytes()]);
        args.extend_from_slice(values);
        let patience = Instant::now() + self.line.timeout.saturating_mul(PATIENCE);
        // Where there is no connection, nothing was sent: that is told at once.
        self.line.servers.link(0, patience).await?.check()?;
        let mut sending = Sending::First;
        let code = loop {
            match self.run(script, sending, &all, &args).await {
                Ok(code) => break code,
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                    if Instant::now() + PAUSE >= patience {
                        return Err(error);
                    }
                    sending = Sending::Again;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        match code {
            scripts::OTHER_STORE => Err(lost()),
            scripts::CORRUPT => Err(Error::new(
                ErrorKind::Corrupt,
                "what the change is about can't be read: a key is of another kind, or a user has no id",
            )),
            code => Ok(code),
        }
    }

    /// Returns the id that this store has issued to somebody, if it has.
    fn issued<'a>(&self, who: &'a Principal) -> Option<&'a str> {
        match who.id() {
            Id::Text(id) if who.source() == self.source.name() => Some(id),
            _ => None,
        }
    }

    async fn find_account(&self, login: &Login) -> Result<Lookup<Account>> {
        let reply = self.ask_one(self.account_question(login.as_str())).await?;
        read::account(&self.source, login, reply)
    }

    fn account_question(&self, login: &str) -> Cmd {
        redis::cmd("HMGET").arg(self.keys.user(login)).arg(&FIELDS).take()
    }

    async fn find_groups(&self, who: &Principal) -> Result<Lookup<GroupSet>> {
        let Some(id) = self.issued(who) else { return Ok(Lookup::NotFound) };
        let question = redis::cmd("SMEMBERS").arg(self.keys.groups_of(id)).take();
        let reply = self.ask_one(question).await?;
        if matches!(&reply, Value::Set(items) | Value::Array(items) if items.is_empty()) {
            return Ok(Lookup::NotFound);
        }
        let names = read::names(reply)?;
        Ok(Lookup::Found(names.iter().map(String::as_str).collect()))
    }

    async fn replace(&self, who: &Principal, old: &StoredHash, new: &StoredHash) -> Result<bool> {
        if !self.writable {
            return Err(Error::new(ErrorKind::Unsupported, "the server does not permit changes to our user"));
        }
        if who.source() != self.source.name() {
            return Err(Error::new(ErrorKind::Invalid, "this person is another source's"));
        }
        let Some(id) = self.issued(who) else { return Ok(false) };
        directory::check_hash(new)?;
        let (scheme, keys) = (new.scheme().unwrap_or_default(), [self.keys.user(who.login().as_str())]);
        let values = [id, old.as_str(), new.as_str(), scheme].map(str::as_bytes);
        let code = self.change(&self.scripts.replace_hash, &keys, &values).await?;
        Ok(code == scripts::DONE)
    }

    async fn rights(
        &self,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Result<Vec<Result<Access>>> {
        let id = self.issued(who);
        let mut questions = self.line.about(objects.len() * 2);
        for object in objects {
            let mut about = redis::cmd("HMGET");
            about.arg(self.keys.object(&object_name(object))).arg("").arg(id.unwrap_or_default());
            questions.add_command(about);
            questions.cmd("ZSCORE").arg(self.keys.domains()).arg(object.domain());
        }
        let mut replies = self.ask(questions).await?;
        let answers = objects.iter().map(|object| {
            let (Some(about), Some(domain)) = (replies.next(), replies.next()) else {
                return Err(fault::unreadable());
            };
            if fault::checked(domain)? == Value::Nil {
                return Err(undeclared(object.domain()));
            }
            let Value::Array(about) = fault::checked(about)? else { return Err(fault::unreadable()) };
            let [there, modes] = <[Value; 2]>::try_from(about).map_err(|_| fault::unreadable())?;
            access(there, if id.is_some() { modes } else { Value::Nil }, mode)
        });
        Ok(answers.collect())
    }
}

/// Whether a change may be there already.
#[derive(Debug, Clone, Copy)]
enum Sending {
    First,
    Again,
}

/// Reads whether an object is there, and what somebody may do with it.
fn access(there: Value, modes: Value, mode: Option<&str>) -> Result<Access> {
    let corrupt = |what: &'static str| Error::new(ErrorKind::Corrupt, what);
    match (there, modes) {
        (Value::Nil, Value::Nil) => Ok(Access::NotFound),
        (Value::Nil, _) => Err(corrupt("there are rights on an object that is not there")),
        (_, Value::Nil) => Ok(Access::Deny),
        (_, Value::BulkString(modes)) => {
            let modes = std::str::from_utf8(&modes).map_err(|_| corrupt("a right can't be read"))?;
            let mut modes = modes.split('\n').filter(|has| !has.is_empty());
            let has = match mode {
                Some(mode) => modes.any(|has| has == mode),
                None => modes.next().is_some(),
            };
            Ok(if has { Access::Allow } else { Access::Deny })
        }
        _ => Err(fault::unreadable()),
    }
}

/// Makes a name that nobody has: 128 random bits.
fn fresh() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<16>()?))
}

/// Refuses to tell a network everything, unless that is wanted.
fn check_network(config: &RedisStoreConfig) -> Result<()> {
    let target = config.redis.parse()?;
    let (Shape::Sentinels(addresses, _) | Shape::Cluster(addresses)) = &target.shape else {
        let Shape::One(address) = &target.shape else { return Ok(()) };
        return check_address(address, target.tls, config.network);
    };
    addresses.iter().try_for_each(|address| check_address(address, target.tls, config.network))
}

fn check_address(address: &Address, tls: bool, network: Network) -> Result<()> {
    let here = match address {
        Address::Unix(_) => true,
        Address::Tcp(host, _) => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    if here || tls {
        return Ok(());
    }
    match network {
        Network::Tls => Err(misconfigured(
            "the server is another machine, and without TLS (rediss...) whoever is between reads and changes everything",
        )),
        Network::Plain => {
            tracing::warn!(%address, "Redis is spoken to without TLS: whoever is between reads and changes everything");
            Ok(())
        }
    }
}

fn misconfigured(message: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// The server has lost the store. Nobody's absence follows from that.
fn lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server has lost the store, or has another one; if that is meant, start again",
    )
}

fn undeclared(domain: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the domain {domain} is not declared"))
}

#[async_trait]
impl AccountSource for RedisStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.find_account(login).await.map_err(|error| self.at(error))
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.replace(who, old, new).await.map_err(|error| self.at(error))
    }
}

#[async_trait]
impl GroupOracle for RedisStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.find_groups(who).await.map_err(|error| self.at(error))
    }
}

#[async_trait]
impl ObjectPerms for RedisStore {
    fn source(&self) -> &SourceInfo {
        &self.source
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let one = self.access_many(ctx, who, std::slice::from_ref(object), mode).await.pop();
        one.unwrap_or_else(|| Err(self.at(fault::unreadable())))
    }

    async fn access_many(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        if objects.is_empty() {
            return Vec::new();
        }
        match self.rights(who, objects, mode).await {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(|error| self.at(error))).collect(),
            Err(error) => vec![Err(self.at(error)); objects.len()],
        }
    }
}
