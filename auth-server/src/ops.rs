//! Runs commands on a stack.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_cache::{AgeHistogram, Bound, CarrierStats, Fenced, HearingStats, SharedStats};
use auth_core::{
    Access, CacheUse, Change, Ctx, Directory, EndReason, Error, ErrorKind, Id, Lock, Login, Lookup, Member,
    NewUser, ObjectRef, Password, Principal, Reached, Realm, Record, Reject, Result, StateChange, Step,
    StoredHash, Subject, UserEntry, Verdict,
};
use auth_password::{HashedStats, Scheme};
use auth_stack::Stack;
use auth_token::Rotation;
use serde_json::{Map, Value, json};

use crate::command::{Command, Credential, Reply, Rotate, Secret, told};
use crate::figures::{self, micros, millis};
use crate::{import, sessions};

/// Runs a command. Each question and each write has its limit, so every command ends: most within seconds, an
/// import after as many writes as it has users.
pub(crate) async fn run(stack: &Stack, command: Command) -> Reply {
    // Who names no realm means the one that hosts mean that are not listed.
    let name = |realm: Option<String>| realm.unwrap_or_else(|| stack.config().server.realm.clone());
    let changes = command.changes();
    let done = match command {
        Command::CheckPassword { realm, login, password, explain } => {
            check_password(stack, &name(realm), &login, &password, explain).await
        }
        Command::CheckGroup { realm, login, group, explain } => {
            check_group(stack, &name(realm), &login, &group, explain).await
        }
        Command::CheckObject { realm, login, domain, id, mode, explain } => {
            check_object(stack, &name(realm), &login, &domain, &id, mode.as_deref(), explain).await
        }
        Command::CheckToken { realm, token, explain, fresh } => {
            sessions::check(stack, &name(realm), &token, (explain, fresh)).await
        }
        Command::TokenIssue { realm, login, scopes, life } => {
            sessions::issue(stack, &name(realm), &login, &scopes, life).await
        }
        Command::TokenRevoke { realm, ends } => sessions::revoke(stack, &name(realm), &ends).await,
        Command::TokenList { realm, login } => sessions::list(stack, &name(realm), &login).await,
        Command::Keys { rotate } => sessions::keys(
            stack,
            rotate.map(|how| match how {
                Rotate::Planned => Rotation::Planned,
                Rotate::AtOnce => Rotation::AtOnce,
                Rotate::Compromised => Rotation::Compromised,
            }),
        ),
        Command::UserAdd { realm, login, groups, credential } => {
            user_add(stack, &name(realm), &login, groups, credential).await
        }
        Command::UserList { realm } => user_list(stack, &name(realm)).await,
        Command::UserShow { realm, login } => user_show(stack, &name(realm), &login).await,
        Command::UserPasswd { realm, login, password } => {
            user_passwd(stack, &name(realm), &login, &password).await
        }
        Command::UserLock { realm, login, locked } => user_lock(stack, &name(realm), &login, locked).await,
        Command::UserDelete { realm, login } => user_delete(stack, &name(realm), &login).await,
        Command::UserImport { realm, format, file, groups, shadow } => {
            import::run(stack, &name(realm), format, &file, groups.as_ref(), shadow.as_ref()).await
        }
        Command::GroupAdd { realm, login, group } => {
            membership(stack, &name(realm), &login, &group, true).await
        }
        Command::GroupRemove { realm, login, group } => {
            membership(stack, &name(realm), &login, &group, false).await
        }
        Command::GroupList { realm, login } => group_list(stack, &name(realm), login.as_deref()).await,
        Command::ObjectAdd { realm, domain, id } => object(stack, &name(realm), &domain, &id, true).await,
        Command::ObjectDelete { realm, domain, id } => object(stack, &name(realm), &domain, &id, false).await,
        Command::ObjectGrant { realm, login, domain, id, mode } => {
            right(stack, &name(realm), &login, (&domain, &id), &mode, true).await
        }
        Command::ObjectRevoke { realm, login, domain, id, mode } => {
            right(stack, &name(realm), &login, (&domain, &id), &mode, false).await
        }
        Command::CacheStats => Ok(cache_stats(stack)),
        Command::CacheVoid { user, group, object, realm, all, forget } => {
            let about = About { user, group, object, realm, all };
            void(stack, &about, forget)
        }
        Command::Sources { probe } => Ok(sources(stack, probe).await),
        // Whoever holds the stack puts another in its place.
        Command::Reload => Err(Error::new(ErrorKind::Unsupported, "there is no server here to be reloaded")),
    };
    let reply = done.unwrap_or_else(|error| Reply::failed(&error));
    if changes { carried(stack, reply).await } else { reply }
}

/// How long a command that ends with its process waits for what it has voided to be known everywhere: nobody tries it
/// again afterwards.
const LAST_CHANCE: Duration = Duration::from_secs(5);

/// Waits longer for what a command has voided, in a process that ends with it.
pub(crate) async fn carried_at_last(stack: &Stack, mut reply: Reply) -> Reply {
    let clock = stack.clock();
    let until = clock.now() + LAST_CHANCE;
    let told = |reply: &Reply| reply.rows.iter().any(|row| row.get("reached").is_some());
    while told(&reply) && clock.now() < until {
        clock.sleep_until(clock.now() + Duration::from_millis(100)).await;
        if stack.settle().await == Reached::Everything {
            for row in reply.rows.iter_mut().filter_map(Value::as_object_mut) {
                row.remove("reached");
            }
        }
    }
    reply
}

/// Says so where what a change has voided is not known everywhere yet. A write is done nevertheless; where voiding was
/// all that was asked for, it is not.
async fn carried(stack: &Stack, mut reply: Reply) -> Reply {
    let Reached::Partial { shared, bus } = stack.settle().await else { return reply };
    for row in reply.rows.iter_mut().filter_map(Value::as_object_mut) {
        row.insert("reached".into(), json!({ "here": true, "shared_cache": shared, "bus": bus }));
        if row.contains_key("flushed") || row.contains_key("expired") {
            reply.exit = 3;
        }
    }
    reply
}

pub(crate) fn realm<'a>(stack: &'a Stack, name: &str) -> Result<&'a Arc<Realm>> {
    stack.realm(name).ok_or_else(|| {
        let known: Vec<&str> = stack.realms().map(|realm| realm.id().name()).collect();
        Error::new(ErrorKind::Invalid, "there is no such realm")
            .with("realm", name)
            .with("known", known.join(", "))
    })
}

pub(crate) fn directory<'a>(stack: &'a Stack, name: &str) -> Result<(&'a Arc<Realm>, &'a Arc<Fenced>)> {
    let realm = realm(stack, name)?;
    let directory = stack.directory(name).ok_or_else(|| {
        // What is asked for can't be had in this configuration: wrong use, not an outage.
        Error::new(ErrorKind::Invalid, "no source of this realm can be written to").with("realm", name)
    })?;
    Ok((realm, directory))
}

/// The context of an administrator's command.
pub(crate) fn context(stack: &Stack) -> Ctx {
    Ctx::new().with_deadline(stack.clock().now() + Duration::from_secs(10))
}

/// One question: its context, and what happened to it.
pub(crate) struct Asked {
    pub(crate) ctx: Ctx,
    record: Arc<Record>,
    began: auth_core::Moment,
    explain: bool,
}

impl Asked {
    pub(crate) fn new(stack: &Stack, explain: bool) -> Self {
        let record = Arc::new(if explain { Record::explaining() } else { Record::new() });
        let ctx = Ctx::new().with_record(Arc::clone(&record));
        Self { ctx, record, began: stack.clock().now(), explain }
    }

    pub(crate) fn reply(&self, stack: &Stack, exit: u8, mut row: Value) -> Reply {
        let took = stack.clock().now().since(self.began);
        if let Some(row) = row.as_object_mut() {
            // "off" means that there is no cache, not that nothing had to be asked.
            let used = match self.record.cache() {
                CacheUse::Off if stack.config().cache.kind != "none" => CacheUse::Miss,
                used => used,
            };
            row.insert("cache".into(), used.as_str().into());
            row.insert("elapsed_us".into(), micros(took).into());
            if self.explain {
                row.insert("hash_jobs".into(), self.record.hash_jobs().into());
                row.insert("steps".into(), self.record.steps().iter().map(step).collect());
            }
        }
        Reply::one(exit, row)
    }

    /// The reply where a source failed: what was done until then is still worth telling.
    pub(crate) fn failed(&self, stack: &Stack, error: &Error) -> Reply {
        let Reply { exit, rows } = Reply::failed(error);
        self.reply(stack, exit, rows.into_iter().next().unwrap_or_default())
    }
}

fn step(step: &Step) -> Value {
    let mut row = Map::new();
    row.insert("part".into(), step.part.into());
    if let Some(source) = &step.source {
        row.insert("source".into(), (**source).into());
    }
    row.insert("outcome".into(), step.outcome.as_str().into());
    if let Some(took) = step.took {
        row.insert("took_us".into(), micros(took).into());
    }
    if let Some(age) = step.age {
        row.insert("age_ms".into(), millis(age).into());
    }
    row.into()
}

pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn id_value(id: &Id) -> Value {
    match id {
        Id::Int(number) => (*number).into(),
        other => other.to_string().into(),
    }
}

async fn check_password(
    stack: &Stack,
    name: &str,
    login: &str,
    password: &Secret,
    explain: bool,
) -> Result<Reply> {
    let realm = realm(stack, name)?;
    let asked = Asked::new(stack, explain);
    Ok(match realm.attempt(&asked.ctx, login, password.bytes()).await {
        Ok(Verdict::Accepted(who)) => {
            let row = json!({
                "decision": "accepted", "realm": name, "login": who.shown(),
                "id": id_value(who.id()), "source": &**who.source(),
            });
            asked.reply(stack, 0, row)
        }
        Ok(Verdict::Rejected(reason)) => {
            let mut row =
                json!({ "decision": "rejected", "reason": reason.as_str(), "realm": name, "login": login });
            if let (Some(who), Some(row)) = (refused(realm, login, reason).await, row.as_object_mut()) {
                row.insert("login".into(), who.shown().into());
                row.insert("id".into(), id_value(who.id()));
                row.insert("source".into(), (**who.source()).into());
            }
            asked.reply(stack, 1, row)
        }
        Err(error) => asked.failed(stack, &error),
    })
}

/// Finds whom a rejection was about. It is a question of its own, which is not part of what the login cost;
/// that nobody can answer it takes nothing from the rejection.
async fn refused(realm: &Realm, login: &str, reason: Reject) -> Option<Principal> {
    if reason == Reject::UnknownUser {
        return None;
    }
    who(realm, &Ctx::new(), login).await.ok().flatten()
}

/// Finds who a login is; nothing for one that nobody has, or could have.
async fn who(realm: &Realm, ctx: &Ctx, login: &str) -> Result<Option<Principal>> {
    match Login::parse(realm.id(), login) {
        Ok(login) => Ok(realm.principal(ctx, &login).await?.found()),
        Err(_) => Ok(None),
    }
}

async fn check_group(stack: &Stack, name: &str, login: &str, group: &str, explain: bool) -> Result<Reply> {
    let realm = realm(stack, name)?;
    let asked = Asked::new(stack, explain);
    let answer = async {
        let Some(who) = who(realm, &asked.ctx, login).await? else { return Ok(None) };
        let member = realm.is_member(&asked.ctx, &who, group).await?;
        Ok(Some((who, member)))
    };
    Ok(match answer.await {
        Ok(Some((who, member))) => {
            let exit = u8::from(member == Member::No);
            let row = json!({
                "decision": member.as_str(), "realm": name, "login": who.shown(), "group": group,
                "id": id_value(who.id()), "source": &**who.source(),
            });
            asked.reply(stack, exit, row)
        }
        Ok(None) => {
            let row = json!({
                "decision": Member::No.as_str(), "reason": "unknown_user", "realm": name, "login": login,
                "group": group,
            });
            asked.reply(stack, 1, row)
        }
        Err(error) => asked.failed(stack, &error),
    })
}

async fn check_object(
    stack: &Stack,
    name: &str,
    login: &str,
    domain: &str,
    id: &str,
    mode: Option<&str>,
    explain: bool,
) -> Result<Reply> {
    let realm = realm(stack, name)?;
    let object = ObjectRef::new(domain, [Id::parse(id)])?;
    if !realm.domains().any(|known| known == domain || known == "*") {
        return Err(Error::new(ErrorKind::Invalid, "no such domain").with("domain", domain));
    }
    let asked = Asked::new(stack, explain);
    let answer = async {
        let Some(who) = who(realm, &asked.ctx, login).await? else {
            declared(stack, realm, domain).await?;
            return Ok(None);
        };
        let access = realm.access(&asked.ctx, &who, &object, mode).await?;
        Ok(Some((who, access)))
    };
    let named = |decision: Access, login: &str| {
        json!({
            "decision": decision.as_str(), "realm": name, "login": login, "domain": domain, "object": id,
            "mode": mode,
        })
    };
    Ok(match answer.await {
        Ok(Some((who, access))) => {
            let mut row = named(access, who.shown());
            if let Some(row) = row.as_object_mut() {
                row.insert("id".into(), id_value(who.id()));
                row.insert("source".into(), (**who.source()).into());
            }
            asked.reply(stack, u8::from(access != Access::Allow), row)
        }
        Ok(None) => {
            let mut row = named(Access::Deny, login);
            if let Some(row) = row.as_object_mut() {
                row.insert("reason".into(), "unknown_user".into());
            }
            asked.reply(stack, 1, row)
        }
        Err(error) => asked.failed(stack, &error),
    })
}

/// Checks that there is a domain where its source, which tells in its answers, is not asked: nobody has the
/// login. Only a source that can be written to lists its domains.
async fn declared(stack: &Stack, realm: &Realm, domain: &str) -> Result<()> {
    let name = realm.id().name();
    let objects = stack.config().realm.get(name).map(|realm| &realm.objects);
    let (Some(objects), Some(directory)) = (objects, stack.directory(name)) else { return Ok(()) };
    let lists = objects.get("*").is_some_and(|source| *source == **directory.source().name());
    if objects.contains_key(domain) || !lists {
        return Ok(());
    }
    if directory.domains(&context(stack)).await?.iter().any(|known| known == domain) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "no such domain").with("domain", domain))
}

/// The reply to a write.
fn written(change: Change, absent: &str, mut row: Value) -> Reply {
    let (exit, key, value): (u8, &str, Value) = match change {
        Change::Done => (0, "changed", true.into()),
        Change::Unchanged => (0, "changed", false.into()),
        Change::NotFound => (1, "reason", absent.into()),
    };
    if let Some(row) = row.as_object_mut() {
        row.insert(key.into(), value);
    }
    Reply::one(exit, row)
}

async fn user_add(
    stack: &Stack,
    name: &str,
    login: &str,
    groups: Vec<String>,
    credential: Credential,
) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    groups.iter().try_for_each(|group| auth_core::check_name("group", group))?;
    let ctx = context(stack);
    let mut row = json!({ "realm": name, "login": login.as_str(), "groups": groups });
    let hash = match credential {
        Credential::Password(password) => {
            let password = Password::new(password.bytes())?;
            stack.check_quality(&login, &password)?;
            stack.hasher().make(&ctx, &password).await?
        }
        Credential::Hash { hash, scheme } => {
            let hash = String::from_utf8(hash.bytes())
                .map_err(|_| Error::new(ErrorKind::Invalid, "the hash is not UTF-8"))?;
            let (hash, warning) = ready_hash(stack, hash, scheme.as_deref())?;
            if let (Some(warning), Some(row)) = (warning, row.as_object_mut()) {
                row.insert("warning".into(), warning.into());
            }
            hash
        }
    };
    let user = NewUser { login, hash: Some(hash), groups };
    let change = directory.add_user(&ctx, &user).await?;
    if change == Change::Unchanged {
        if let Some(row) = row.as_object_mut() {
            row.insert("reason".into(), "exists".into());
        }
        return Ok(Reply::one(1, row));
    }
    Ok(written(change, "unknown_user", row))
}

/// Takes a ready hash if it can be read. One that could not log in as things are is taken with a warning:
/// the configuration may change, the hash may not.
pub(crate) fn ready_hash(
    stack: &Stack,
    hash: String,
    scheme: Option<&str>,
) -> Result<(StoredHash, Option<String>)> {
    let scheme =
        match scheme {
            None => None,
            Some(name) => Some(Scheme::from_name(name).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "there is no such scheme").with("scheme", name)
            })?),
        };
    let warning = match auth_password::check_stored(stack.hasher().policy(), &hash, scheme) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::Misconfigured => Some(error.to_string()),
        Err(error) => return Err(Error::new(ErrorKind::Invalid, error.message().to_owned())),
    };
    Ok((StoredHash::new(hash, scheme.map(Scheme::name)), warning))
}

fn user_row(entry: &UserEntry) -> Value {
    let state = &entry.state;
    let mut row = json!({
        "login": entry.principal.shown(),
        "id": id_value(entry.principal.id()),
        "realm": entry.principal.realm().name(),
        "source": &**entry.principal.source(),
        "disabled": state.disabled,
        "locked": state.lock != Lock::Open,
        "must_change": state.must_change,
        "has_password": entry.password.is_some(),
    });
    if let Some(row) = row.as_object_mut() {
        if let Lock::Until(time) = state.lock {
            row.insert("locked_until".into(), unix(time).into());
        }
        if let Some(time) = state.expires_at {
            row.insert("expires_at".into(), unix(time).into());
        }
        if let Some(Some(scheme)) = &entry.password {
            row.insert("scheme".into(), scheme.as_str().into());
        }
    }
    row
}

async fn user_list(stack: &Stack, name: &str) -> Result<Reply> {
    /// Users a page: a directory may be large.
    const PAGE: u32 = 500;
    let (realm, directory) = directory(stack, name)?;
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = directory.users(&context(stack), realm.id(), after.as_deref(), PAGE).await?;
        rows.extend(page.iter().map(user_row));
        let Some(last) = page.last() else { return Ok(Reply::list(rows)) };
        after = Some(last.principal.login().as_str().to_owned());
    }
}

async fn user_show(stack: &Stack, name: &str, login: &str) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    let ctx = context(stack);
    let Lookup::Found(entry) = directory.user(&ctx, &login).await? else {
        return Ok(Reply::one(
            1,
            json!({ "realm": name, "login": login.as_str(), "reason": "unknown_user" }),
        ));
    };
    let groups = realm.groups(&ctx, &entry.principal).await?;
    let mut row = user_row(&entry);
    if let Some(row) = row.as_object_mut() {
        row.insert("groups".into(), groups.iter().collect::<Vec<_>>().into());
    }
    Ok(Reply::one(0, row))
}

async fn user_passwd(stack: &Stack, name: &str, login: &str, password: &Secret) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    let password = Password::new(password.bytes())?;
    stack.check_quality(&login, &password)?;
    let ctx = context(stack);
    let hash = stack.hasher().make(&ctx, &password).await?;
    let change = directory.set_hash(&ctx, &login, &hash).await?;
    let reply = written(change, "unknown_user", json!({ "realm": name, "login": login.as_str() }));
    Ok(match change {
        // Whoever knew the password before may hold sessions.
        Change::Done => sessions::end(stack, &login, EndReason::PasswordChanged, reply).await,
        _ => reply,
    })
}

async fn user_lock(stack: &Stack, name: &str, login: &str, locked: bool) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    let lock = if locked { Lock::Locked } else { Lock::Open };
    let change = StateChange { lock: Some(lock), ..StateChange::default() };
    let change = directory.set_state(&context(stack), &login, &change).await?;
    Ok(written(change, "unknown_user", json!({ "realm": name, "login": login.as_str(), "locked": locked })))
}

async fn user_delete(stack: &Stack, name: &str, login: &str) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    let change = directory.delete_user(&context(stack), &login).await?;
    let reply = written(change, "unknown_user", json!({ "realm": name, "login": login.as_str() }));
    Ok(match change {
        Change::Done => sessions::end(stack, &login, EndReason::Account, reply).await,
        _ => reply,
    })
}

async fn membership(stack: &Stack, name: &str, login: &str, group: &str, join: bool) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    auth_core::check_name("group", group)?;
    let ctx = context(stack);
    let change = if join {
        directory.join(&ctx, &login, group).await?
    } else {
        directory.leave(&ctx, &login, group).await?
    };
    Ok(written(change, "unknown_user", json!({ "realm": name, "login": login.as_str(), "group": group })))
}

async fn group_list(stack: &Stack, name: &str, login: Option<&str>) -> Result<Reply> {
    let ctx = context(stack);
    let Some(login) = login else {
        let (_, directory) = directory(stack, name)?;
        let groups = directory.groups(&ctx).await?;
        return Ok(Reply::list(groups.into_iter().map(|group| json!({ "group": group })).collect()));
    };
    let realm = realm(stack, name)?;
    let Some(who) = who(realm, &ctx, login).await? else {
        return Ok(Reply::one(1, json!({ "realm": name, "login": login, "reason": "unknown_user" })));
    };
    let groups = realm.groups(&ctx, &who).await?;
    Ok(Reply::list(groups.iter().map(|group| json!({ "group": group })).collect()))
}

async fn object(stack: &Stack, name: &str, domain: &str, id: &str, add: bool) -> Result<Reply> {
    let (_, directory) = directory(stack, name)?;
    let object = ObjectRef::new(domain, [Id::parse(id)])?;
    let ctx = context(stack);
    let change = if add {
        directory.add_object(&ctx, &object).await?
    } else {
        directory.delete_object(&ctx, &object).await?
    };
    Ok(written(change, "not_found", json!({ "realm": name, "domain": domain, "object": id })))
}

async fn right(
    stack: &Stack,
    name: &str,
    login: &str,
    (domain, id): (&str, &str),
    mode: &str,
    grant: bool,
) -> Result<Reply> {
    let (realm, directory) = directory(stack, name)?;
    let login = Login::parse(realm.id(), login)?;
    let object = ObjectRef::new(domain, [Id::parse(id)])?;
    auth_core::check_name("mode", mode)?;
    let ctx = context(stack);
    let change = if grant {
        directory.grant(&ctx, &login, &object, mode).await?
    } else {
        directory.revoke(&ctx, &login, &object, mode).await?
    };
    let row = json!({ "realm": name, "login": login.as_str(), "domain": domain, "object": id, "mode": mode });
    Ok(written(change, "not_found", row))
}

/// How much is kept at most: of entries or of bytes, or of whatever comes.
fn bound(bound: Option<Bound>) -> Value {
    match bound {
        Some(Bound::Entries(most)) => json!({ "entries": most }),
        Some(Bound::Bytes(most)) => json!({ "bytes": most }),
        None => Value::Null,
    }
}

/// How many answers were at most so old and older than the bound before, up to the last that counts any.
fn ages(ages: &AgeHistogram) -> Value {
    let mut buckets: Vec<_> = ages.buckets().collect();
    while buckets.pop_if(|(_, count)| *count == 0).is_some() {}
    buckets.iter().map(|(le, count)| json!({ "le_ms": le.map(millis), "count": count })).collect()
}

/// The row of one cache: what tells it from others, and its figures.
pub(crate) fn cache_row(realm: &str, source: &str, of: &str, kind: &str, cache: &figures::Cache) -> Value {
    let stats = &cache.stats;
    let mut row = figures::told(figures::CACHE, cache);
    row.extend([
        ("realm".to_owned(), realm.into()),
        ("source".to_owned(), source.into()),
        ("cache".to_owned(), of.into()),
        ("kind".to_owned(), kind.into()),
        ("bound".to_owned(), bound(stats.bound)),
        ("ages".to_owned(), ages(&stats.ages)),
        ("age_p50_ms".to_owned(), millis(stats.ages.quantile(0.5)).into()),
        ("age_p99_ms".to_owned(), millis(stats.ages.quantile(0.99)).into()),
    ]);
    row.into()
}

/// Adds to the row of a cache what its part of the shared cache has done.
pub(crate) fn with_shared(mut row: Value, shared: Option<&SharedStats>) -> Value {
    if let (Some(row), Some(shared)) = (row.as_object_mut(), shared) {
        row.extend(figures::told(figures::SHARED, shared));
    }
    row
}

/// The rows of what is shared with other processes: of the shared cache, and of how invalidations get to them.
pub(crate) fn shared_rows(
    cache: Option<(&str, figures::Lanes)>,
    bus: Option<(&str, HearingStats)>,
    carried: &CarrierStats,
) -> Vec<Value> {
    let named = |name: &str, kind: &str, mut row: Map<String, Value>| {
        row.extend([("cache".to_owned(), name.into()), ("kind".to_owned(), kind.into())]);
        Value::from(row)
    };
    let cache = cache.map(|(kind, lanes)| named("shared", kind, figures::told(figures::LANES, &lanes)));
    let (kind, mut told) = match bus {
        Some((kind, hearing)) => (kind, figures::told(figures::HEARING, &hearing)),
        None => ("none", Map::new()),
    };
    told.extend(figures::told(figures::CARRIED, carried));
    cache.into_iter().chain([named("bus", kind, told)]).collect()
}

/// The row of the passwords that are remembered to be right for one source.
pub(crate) fn memo_row(realm: &str, source: &str, memo: &HashedStats) -> Value {
    let mut row = figures::told(figures::MEMO, memo);
    row.extend([
        ("realm".to_owned(), realm.into()),
        ("source".to_owned(), source.into()),
        ("cache".to_owned(), "memo".into()),
        ("kind".to_owned(), "memo".into()),
        ("bound".to_owned(), bound(Some(Bound::Entries(memo.memo_bound)))),
    ]);
    row.into()
}

fn cache_stats(stack: &Stack) -> Reply {
    let kind = &stack.config().cache.kind;
    let caches = stack.caches();
    let rows = caches.iter().map(|(realm, report)| {
        let row = cache_row(realm, &report.source, report.kind, kind, &figures::Cache::of(stack, report));
        with_shared(row, report.shared.as_ref())
    });
    let mut rows: Vec<Value> = rows.collect();
    if kind == "none" {
        rows.push(json!({ "cache": "none", "kind": "none" }));
    }
    let memos = stack.memos();
    let memos = memos.iter().filter(|memo| memo.stats.memo_bound > 0);
    rows.extend(memos.map(|memo| memo_row(&memo.realm, &memo.source, &memo.stats)));
    let (owners, most) = stack.owners();
    rows.push(json!({
        "cache": "owners", "kind": "owners", "entries": owners, "bound": bound(Some(Bound::Entries(most))),
    }));
    if let Some(shared) = stack.shared() {
        let cache = shared.cache.map(|kind| (kind, figures::Lanes::of(&shared.lanes)));
        rows.extend(shared_rows(cache, shared.bus.zip(shared.hearing), &shared.carried));
    }
    // What voids is one for all of them.
    rows.push(json!({ "cache": "fence", "kind": "fence", "invalidations": stack.invalidations() }));
    Reply::list(rows)
}

/// What the caches shall ask again, or forget.
struct About {
    user: Option<String>,
    group: Option<String>,
    object: Option<String>,
    realm: Option<String>,
    all: bool,
}

fn void(stack: &Stack, about: &About, forget: bool) -> Result<Reply> {
    let name = about.realm.as_deref().unwrap_or(&stack.config().server.realm);
    let apply = |subject: &Subject<'_>| if forget { stack.flush(subject) } else { stack.expire(subject) };
    let mut done = Vec::new();
    // Everything is checked before the first is done.
    let named =
        about.user.is_some() || about.group.is_some() || about.object.is_some() || about.realm.is_some();
    let within = if named { Some(realm(stack, name)?.id()) } else { None };
    if let Some(group) = &about.group {
        auth_core::check_name("group", group)?;
    }
    let login = match &about.user {
        Some(user) => Some(Login::parse(realm(stack, name)?.id(), user)?),
        None => None,
    };
    let object = match &about.object {
        Some(text) => {
            let (domain, id) = text
                .split_once(':')
                .ok_or_else(|| Error::new(ErrorKind::Invalid, "an object is named DOMAIN:ID"))?;
            Some(ObjectRef::new(domain, [Id::parse(id)])?)
        }
        None => None,
    };
    if about.all {
        apply(&Subject::All);
        done.push("all");
    }
    if let Some(id) = within {
        if let Some(login) = &login {
            apply(&Subject::Login(login));
            done.push("user");
        }
        if let Some(object) = &object {
            apply(&Subject::Object { realm: id, object });
            done.push("object");
        }
        if about.group.is_some() {
            apply(&Subject::Groups(id));
            done.push("group");
        }
        if done.is_empty() {
            apply(&Subject::Realm(id));
            done.push("realm");
        }
    }
    let verb = if forget { "flushed" } else { "expired" };
    Ok(Reply::one(0, json!({ verb: done, "realm": name })))
}

async fn sources(stack: &Stack, probe: bool) -> Reply {
    let reports = if probe { stack.probe().await } else { stack.sources_now().await };
    let all_up = reports.iter().all(auth_stack::SourceReport::is_up);
    let rows = reports.iter().map(|report| {
        let health = &report.health;
        let error = report.fault.as_ref().or(health.last_error.as_ref().map(|(_, error)| error));
        let mut row = json!({
            "source": report.name, "kind": report.kind, "used": report.used,
            "state": if report.is_up() { if health.up.is_some() { "up" } else { "not asked yet" } } else { "down" },
            "since": health.since.map(unix),
            "left_alone_ms": report.left_alone.map(millis),
            "last_error": error.map(told),
            "last_error_at": health.last_error.as_ref().map(|(time, _)| unix(*time)),
            "questions": health.questions, "errors": health.errors, "time_us": micros(health.time),
        });
        if let (Some(feed), Some(row)) = (stack.feed(&report.name), row.as_object_mut()) {
            let state = if feed.hears { "heard" } else { "not heard" };
            row.insert("changes".into(), json!({ "by": feed.kind, "state": state, "told": feed.changes }));
        }
        row
    });
    let mut rows: Vec<Value> = rows.collect();
    let mut fit = all_up;
    // It is no source: a row says why it is away, and there is none while it answers.
    if let Some(Err(error)) = stack.sessions_answer() {
        fit = false;
        rows.push(json!({ "store": "sessions", "state": "down", "last_error": told(&error) }));
    }
    if probe && let Some(kind) = stack.shared().and_then(|shared| shared.cache) {
        let probed = probe_shared(stack).await;
        fit &= probed.is_ok();
        let state = if probed.is_ok() { "up" } else { "down" };
        let error = probed.err();
        rows.push(json!({
            "cache": "shared", "kind": kind, "state": state, "last_error": error.as_ref().map(told),
        }));
    }
    Reply { exit: if probe && !fit { 3 } else { 0 }, rows }
}

/// Asks the shared cache. A connection that is still made has its time.
async fn probe_shared(stack: &Stack) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let (cache, clock) = (&stack.config().cache, stack.clock());
    let until = clock.now() + cache.connect_timeout.0 + cache.timeout.0;
    loop {
        let probed = stack.probe_shared().await;
        if probed.is_ok() || clock.now() >= until {
            return probed;
        }
        clock.sleep_until(clock.now() + PAUSE).await;
    }
}
