//! Sessions and revocations in Redis.

mod keys;
mod read;
mod scripts;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Ctx, End, Ends, Error, ErrorKind, Families, Family, FamilyId, Issued, Lookup, MAX_LOGIN_BYTES, Millis,
    Renewal, Result, Retry, Revocations, Revoked,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::config::Shape;
use crate::key::{CLUSTER_LANES, lane_slot, random};
use crate::script::Script;
use crate::servers::Servers;
use crate::{RedisConfig, fault, fit};

use keys::{FamilyKeys, RealmKeys};
use scripts::Scripts;

/// For how many limits of a call a change is sent again, if its answer is lost.
const PATIENCE: u32 = 3;

/// The pause before it is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// The most sessions that are listed.
const MAX_LISTED: u32 = 1_000;

/// How many families are deleted by one script.
const BATCH: u32 = 200;

/// How often it is looked anew which life of the server this is, before that is given up.
const LOOKS: usize = 4;

/// Sessions and revocations in Redis or Valkey.
///
/// Each call is one script, and the server decides. A renewal whose answer was lost is sent again under the name of its
/// operation, for up to three limits of a call, and is not done twice; so is a beginning and an end. An error after that
/// leaves open whether it was done. A retry of a client is sent once.
///
/// A server that has lost everything, or may have lost its last changes (it was started again and does not write down
/// each change before it answers, or another has taken over), has forgotten what was revoked: access tokens that were issued before that was
/// noticed are refused from then on. The README tells what that holds, and what not.
///
/// Connects when it is first asked. While there is no connection, calls fail at once.
pub struct RedisFamilies {
    servers: Servers,
    keys: FamilyKeys,
    scripts: Scripts,
    timeout: Duration,
    /// Whether what takes a server's place may lack its last changes.
    replaced: bool,
    /// The life of each lane's server as it was last noted.
    lives: Vec<AtomicU64>,
    changes: Changes,
}

/// Names each change, so that one that is sent again is known. Nobody else makes the same names: they begin with 128
/// random bits.
struct Changes {
    front: String,
    count: AtomicU64,
}

impl Changes {
    fn new() -> Result<Self> {
        Ok(Self { front: URL_SAFE_NO_PAD.encode(random::<16>()?), count: AtomicU64::new(0) })
    }

    fn next(&self) -> String {
        format!("{}{:x}", self.front, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for RedisFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisFamilies").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Whether a script may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    First,
    Again,
}

/// A script with its keys and values, but for what all have in common.
struct Call<'a> {
    script: &'a Script,
    lane: usize,
    /// The realm as it is written in fields.
    realm: &'a str,
    keys: &'a [String],
    values: &'a [&'a str],
}

impl RedisFamilies {
    /// Takes what is configured. Does not connect.
    ///
    /// The limit of a call (`timeout`) is best a second, and not the 50 ms of a cache.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), which never tells the password.
    pub fn new(config: &RedisConfig) -> Result<Self> {
        let servers = Servers::new(config, (0..CLUSTER_LANES).map(lane_slot).collect())?;
        let keys = FamilyKeys::new(&config.prefix, servers.is_cluster());
        let lives = (0..keys.lanes()).map(|_| AtomicU64::new(0)).collect();
        let replaced = !matches!(config.parse()?.shape, Shape::One(_));
        let (scripts, timeout, changes) = (Scripts::new(), config.timeout, Changes::new()?);
        Ok(Self { servers, keys, scripts, timeout, replaced, lives, changes })
    }

    fn life(&self, lane: usize) -> u64 {
        self.lives.get(lane).map_or(0, |life| life.load(Ordering::Acquire))
    }

    /// Sends commands to the server of a lane.
    async fn send(&self, lane: usize, request: &Pipeline) -> Result<(Vec<Value>, u64)> {
        let until = Instant::now() + self.timeout;
        let link = self.servers.link(lane, until).await?;
        self.servers.call(&link, request, until).await
    }

    /// Runs a script once: by its name, if the server knows it.
    async fn run(&self, call: &Call<'_>, life: u64, sending: Sending) -> Result<(Value, u64)> {
        let store = self.keys.store(call.lane);
        let command = |by: &str, script: &str| {
            let mut run = redis::cmd(by);
            run.arg(script).arg(call.keys.len() + 1).arg(&store).arg(call.keys);
            run.arg(life).arg(call.realm).arg(call.values);
            if sending == Sending::Again {
                run.arg(1);
            }
            let mut request = Pipeline::with_capacity(1);
            request.add_command(run);
            request
        };
        let (mut replies, mut of) = match sending {
            Sending::First => self.send(call.lane, &command("EVALSHA", &call.script.hash)).await?,
            // The answer that was lost may have been that the server does not know it.
            Sending::Again => self.send(call.lane, &command("EVAL", call.script.text)).await?,
        };
        if replies.first().is_some_and(fault::is_unknown_script) {
            (replies, of) = self.send(call.lane, &command("EVAL", call.script.text)).await?;
        }
        let reply = fault::checked(replies.pop().ok_or_else(fault::unreadable)?)?;
        if let Value::Int(scripts::CORRUPT) = reply {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "a session can't be read: a key is of another kind, or a field is missing",
            ));
        }
        Ok((reply, of))
    }

    /// Runs a script that does not depend on the life of the server.
    async fn ask(&self, call: &Call<'_>) -> Result<Value> {
        self.run(call, 0, Sending::First).await.map(|(reply, _)| reply)
    }

    /// Runs a script in a life of the server that is noted there; notes it first if need be, as of `at`.
    async fn in_life(&self, call: &Call<'_>, at: Millis, sending: Sending, what: What) -> Result<Value> {
        for _ in 0..LOOKS {
            let life = self.life(call.lane);
            let (reply, of) = self.run(call, life, sending).await?;
            let refused = reply == Value::Int(scripts::NEW_LIFE);
            if of == life && !refused {
                return Ok(reply);
            }
            // It was in a new life that knows the one before.
            let noted = self.adopt(call.lane, at).await;
            if what == What::Change && !refused {
                // What is done is done: asked again, it would not be. Whoever asks next notes the life.
                return Ok(reply);
            }
            noted?;
        }
        Err(Error::new(ErrorKind::Unavailable, "the server changes faster than it can be asked"))
    }

    /// Looks whether a server in a new life is fit to keep sessions, and notes there since when it can be believed.
    async fn adopt(&self, lane: usize, at: Millis) -> Result<()> {
        for _ in 0..LOOKS {
            let (answers, life) = self.send(lane, &fit::questions()).await?;
            let keeps = fit::judge(answers, "sessions")?;
            // Times of issue are whole seconds.
            let since = (at.min(Family::MAX_TIME) / 1_000 * 1_000).to_string();
            let lossy = if self.replaced || keeps != fit::Keeps::All { "1" } else { "0" };
            let call =
                Call { script: &self.scripts.adopt, lane, realm: "", keys: &[], values: &[&since, lossy] };
            let (_, of) = self.run(&call, life, Sending::First).await?;
            if of == life {
                if let Some(known) = self.lives.get(lane) {
                    known.store(life, Ordering::Release);
                }
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the server changes faster than it can be asked"))
    }

    /// Runs a change that is done once however often it is sent, until it is answered. `at` is given for one that needs a
    /// life of the server that is noted.
    async fn patiently(&self, call: &Call<'_>, at: Option<Millis>) -> Result<Value> {
        let patience = Instant::now() + self.timeout.saturating_mul(PATIENCE);
        // Where there is no connection, nothing was sent: that is told at once.
        self.servers.link(call.lane, patience).await?.check()?;
        let mut sending = Sending::First;
        loop {
            let answered = match at {
                Some(at) => self.in_life(call, at, sending, What::Change).await,
                None => self.run(call, 0, sending).await.map(|(reply, _)| reply),
            };
            match answered {
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                    if Instant::now() + PAUSE >= patience {
                        return Err(error);
                    }
                    sending = Sending::Again;
                    tokio::time::sleep(PAUSE).await;
                }
                answered => return answered,
            }
        }
    }

    /// Finds the keys of a realm that can be.
    fn realm(&self, realm: &str) -> Option<RealmKeys> {
        can_be(realm).then(|| self.keys.realm(realm))
    }

    /// Finds the keys of a realm about which something is to be remembered.
    fn must(&self, realm: &str) -> Result<RealmKeys> {
        self.realm(realm).ok_or_else(|| invalid("no session has such a realm"))
    }
}

/// Whether a script can be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Question,
    Change,
}

/// Reports whether a realm or a login can be so.
fn can_be(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_LOGIN_BYTES && !name.contains('\0')
}

fn check_login(what: &Revoked<'_>) -> Result<()> {
    match what {
        Revoked::Person(login) if !can_be(login) => Err(invalid("no session has such a login")),
        Revoked::Token(_) | Revoked::Family(_) | Revoked::Person(_) | Revoked::Realm => Ok(()),
        _ => Err(unknown()),
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unsupported, "this version of the store does not know what is meant")
}

/// A moment as it is stored. What is later than all that is stored is as late as that.
fn time(at: Millis) -> String {
    at.min(Family::MAX_TIME).to_string()
}

fn code(reply: &Value) -> Result<i64> {
    match reply {
        Value::Int(code) => Ok(*code),
        _ => Err(fault::unreadable()),
    }
}

fn yes(reply: &Value) -> Result<bool> {
    match code(reply)? {
        scripts::NO => Ok(false),
        1 => Ok(true),
        scripts::UNCLEAR => Err(Error::new(
            ErrorKind::Unavailable,
            "the answer was lost, and the session was renewed again since: it is not known by whom first",
        )),
        _ => Err(fault::unreadable()),
    }
}

#[async_trait]
impl Revocations for RedisFamilies {
    async fn revoke(
        &self,
        _ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()> {
        let of = self.must(realm)?;
        check_login(what)?;
        let (keys, at, until) = ([of.revoked(what)], time(at), time(until));
        let values = [at.as_str(), &until];
        let call = Call {
            script: &self.scripts.revoke,
            lane: of.lane,
            realm: &of.name,
            keys: &keys,
            values: &values,
        };
        self.patiently(&call, None).await.map(drop)
    }

    async fn is_revoked(&self, _ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool> {
        let of = self.must(realm)?;
        let person = Revoked::Person(token.login);
        check_login(&person)?;
        let mark = of.revoked(&Revoked::Token(token.mark));
        let family = token.family.map_or_else(|| mark.clone(), |id| of.revoked(&Revoked::Family(id)));
        let keys = [mark, family, of.revoked(&person), of.revoked(&Revoked::Realm)];
        let issued = token.at.map_or_else(|| "-1".to_owned(), time);
        let at = time(now);
        let values = [issued.as_str(), &at];
        let script = &self.scripts.is_revoked;
        let call = Call { script, lane: of.lane, realm: &of.name, keys: &keys, values: &values };
        yes(&self.in_life(&call, now, Sending::First, What::Question).await?)
    }
}

#[async_trait]
impl Families for RedisFamilies {
    async fn begin(&self, _ctx: &Ctx, family: &Family) -> Result<()> {
        family.check()?;
        let of = self.must(&family.realm)?;
        let (id, operation) = (family.id.to_string(), self.changes.next());
        let keys = [of.family(family.id), self.keys.due(of.lane)];
        let (created, end) = (time(family.created_at), time(family.absolute_end));
        let live = if family.ended.is_none() { "1" } else { "0" };
        let mut values = vec![operation.as_str(), &family.login, &created, &end, &of.front, &id, live];
        let fields = read::fields(family);
        values.extend(fields.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        let call = Call {
            script: &self.scripts.begin,
            lane: of.lane,
            realm: &of.name,
            keys: &keys,
            values: &values,
        };
        match code(&self.patiently(&call, Some(family.created_at)).await?)? {
            1 => Ok(()),
            scripts::NO => Err(invalid("a session of this id is there already")),
            scripts::FULL => {
                Err(Error::new(ErrorKind::Overloaded, "this login has as many sessions as there may be"))
            }
            _ => Err(fault::unreadable()),
        }
    }

    async fn family(&self, _ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>> {
        let Some(of) = self.realm(realm) else { return Ok(Lookup::NotFound) };
        let keys = [of.family(id)];
        let call =
            Call { script: &self.scripts.family, lane: of.lane, realm: &of.name, keys: &keys, values: &[] };
        let parts = match self.ask(&call).await? {
            Value::Int(scripts::NO) => return Ok(Lookup::NotFound),
            Value::Array(parts) => parts,
            _ => return Err(fault::unreadable()),
        };
        let [fields, Value::BulkString(ended)] =
            <[Value; 2]>::try_from(parts).map_err(|_| fault::unreadable())?
        else {
            return Err(fault::unreadable());
        };
        let ended = String::from_utf8(ended).map_err(|_| fault::unreadable())?;
        read::family(fields, Some(ended.as_str()).filter(|ended| !ended.is_empty())).map(Lookup::Found)
    }

    async fn renew(&self, _ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool> {
        // After the last generation there is no next one.
        let (Some(of), Some(next)) = (self.realm(realm), renewal.from.checked_add(1)) else {
            return Ok(false);
        };
        let (keys, operation) = ([of.family(id)], self.changes.next());
        let (from, next) = (renewal.from.to_string(), next.to_string());
        let (at, idle_end) = (time(renewal.at), time(renewal.idle_end));
        let values = [operation.as_str(), &from, &next, &at, &idle_end];
        let call = Call {
            script: &self.scripts.renew,
            lane: of.lane,
            realm: &of.name,
            keys: &keys,
            values: &values,
        };
        yes(&self.patiently(&call, Some(renewal.at)).await?)
    }

    async fn retry(&self, _ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool> {
        let (Some(of), Some(next)) = (self.realm(realm), retry.from.checked_add(1)) else { return Ok(false) };
        let (keys, next, at) = ([of.family(id)], next.to_string(), time(retry.at));
        // As wide as all that is stored, and one more.
        let grace = retry.grace.min(Family::MAX_TIME + 1).to_string();
        let most = retry.most.to_string();
        let values = [next.as_str(), &at, &grace, &most];
        let call = Call {
            script: &self.scripts.retry,
            lane: of.lane,
            realm: &of.name,
            keys: &keys,
            values: &values,
        };
        yes(&self.in_life(&call, retry.at, Sending::First, What::Change).await?)
    }

    async fn confirm(&self, _ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()> {
        let Some(of) = self.realm(realm) else { return Ok(()) };
        let (keys, generation) = ([of.family(id)], generation.to_string());
        let script = &self.scripts.confirm;
        let values = [generation.as_str()];
        let call = Call { script, lane: of.lane, realm: &of.name, keys: &keys, values: &values };
        yes(&self.patiently(&call, None).await?).map(drop)
    }

    async fn end(&self, _ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        let of = self.must(realm)?;
        let (script, revoked) = match what {
            Ends::Family(id) => (&self.scripts.end_family, Revoked::Family(*id)),
            Ends::Person(login) => (&self.scripts.end_person, Revoked::Person(login)),
            Ends::Realm => (&self.scripts.end_realm, Revoked::Realm),
            _ => return Err(unknown()),
        };
        check_login(&revoked)?;
        let mut keys = vec![self.keys.done(of.lane, &self.changes.next()), of.revoked(&revoked)];
        let (at, until) = (time(end.at), time(end.until));
        let mut values = vec![at.as_str(), end.reason.as_str(), &until, &of.front];
        let id;
        match what {
            Ends::Family(family) => {
                keys.push(of.family(*family));
                id = family.to_string();
                values.push(&id);
            }
            Ends::Person(login) => values.push(login),
            _ => {}
        }
        let call = Call { script, lane: of.lane, realm: &of.name, keys: &keys, values: &values };
        let ended = code(&self.patiently(&call, None).await?)?;
        u64::try_from(ended).map_err(|_| fault::unreadable())
    }

    async fn sessions(
        &self,
        _ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>> {
        let Some(of) = self.realm(realm).filter(|_| can_be(login)) else { return Ok(Vec::new()) };
        let (at, most) = (time(now), most.min(MAX_LISTED).to_string());
        let values = [of.front.as_str(), login, &at, &most];
        let script = &self.scripts.sessions;
        let call = Call { script, lane: of.lane, realm: &of.name, keys: &[], values: &values };
        let Value::Array(all) = self.ask(&call).await? else { return Err(fault::unreadable()) };
        all.into_iter().map(|fields| read::family(fields, None)).collect()
    }

    async fn clean(&self, _ctx: &Ctx, now: Millis, most: u32) -> Result<u64> {
        let (at, mut gone) = (time(now), 0);
        for lane in 0..self.keys.lanes() {
            let keys = [self.keys.due(lane)];
            loop {
                let left = u64::from(most).saturating_sub(gone).min(BATCH.into());
                if left == 0 {
                    return Ok(gone);
                }
                let batch = left.to_string();
                let values = [self.keys.lane_front(lane), &at, &batch];
                let call =
                    Call { script: &self.scripts.clean, lane, realm: "", keys: &keys, values: &values };
                let some = code(&self.in_life(&call, now, Sending::First, What::Change).await?)?;
                gone += u64::try_from(some).map_err(|_| fault::unreadable())?;
                if u64::try_from(some).is_ok_and(|some| some < left) {
                    break;
                }
            }
        }
        Ok(gone)
    }
}
