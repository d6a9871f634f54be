//! Commands about access tokens, sessions and the keys that sign them, on a stack.

use std::sync::Arc;
use std::time::Duration;

use auth_core::{EndReason, Error, ErrorKind, Family, FamilyId, Freshness, Login, Result, Subject};
use auth_stack::Stack;
use auth_token::{Checked, Rotation, TokenService};
use serde_json::{Value, json};

use crate::command::{Ends, Reply, Secret};
use crate::key;
use crate::ops::{Asked, context, id_value, realm, unix};

/// The token service of a realm.
fn service<'a>(stack: &'a Stack, name: &str) -> Result<&'a Arc<TokenService>> {
    realm(stack, name)?;
    stack.tokens(name).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "there is no token service: token.enabled is false")
            .with("realm", name)
    })
}

/// A token as it was typed; anything but text is none.
fn text(token: &Secret) -> String {
    String::from_utf8(token.bytes()).unwrap_or_default()
}

pub(crate) async fn check(
    stack: &Stack,
    name: &str,
    token: &Secret,
    (explain, fresh): (bool, bool),
) -> Result<Reply> {
    let service = service(stack, name)?;
    let mut asked = Asked::new(stack, explain);
    if fresh {
        asked.ctx = asked.ctx.with_freshness(Freshness::Fresh);
    }
    Ok(match service.check(&asked.ctx, &text(token)).await {
        Ok(Checked::Valid(state)) => {
            let who = &state.principal;
            let mut row = json!({
                "decision": "valid", "realm": name, "login": who.shown(), "id": id_value(who.id()),
                "source": &**who.source(), "scopes": state.scopes.iter().collect::<Vec<_>>(),
                // Without the leeway, as it stands in the token.
                "expires": unix(state.expires_at).saturating_sub(service.settings().leeway.as_secs()),
            });
            if let (Some(family), Some(row)) = (service.family_of(&state), row.as_object_mut()) {
                row.insert("session".into(), family.to_string().into());
            }
            asked.reply(stack, 0, row)
        }
        Ok(Checked::Invalid(invalid)) => {
            let row = json!({ "decision": "invalid", "reason": invalid.as_str(), "realm": name });
            asked.reply(stack, 1, row)
        }
        Ok(_) => asked.reply(stack, 1, json!({ "decision": "invalid", "realm": name })),
        Err(error) => asked.failed(stack, &error),
    })
}

pub(crate) async fn issue(
    stack: &Stack,
    name: &str,
    login: &str,
    scopes: &[String],
    life: Option<Duration>,
) -> Result<Reply> {
    let service = service(stack, name)?;
    let login = Login::parse(realm(stack, name)?.id(), login)?;
    let asked = scopes.join(" ");
    let asked = (!scopes.is_empty()).then_some(asked.as_str());
    Ok(match service.issue(&context(stack), &login, asked, life).await? {
        Ok((token, expires)) => {
            let scopes = if scopes.is_empty() { &service.settings().scopes } else { scopes };
            let row = json!({
                "token": token, "realm": name, "login": login.as_str(), "scopes": scopes, "expires": unix(expires),
            });
            Reply::one(0, row)
        }
        Err(reject) => {
            Reply::one(1, json!({ "realm": name, "login": login.as_str(), "reason": reject.as_str() }))
        }
    })
}

pub(crate) async fn revoke(stack: &Stack, name: &str, ends: &Ends) -> Result<Reply> {
    let service = service(stack, name)?;
    let ctx = context(stack);
    Ok(match ends {
        Ends::Token(token) => {
            let known = service.revoke(&ctx, &text(token)).await?;
            let mut row = json!({ "realm": name, "revoked": known });
            if let (false, Some(row)) = (known, row.as_object_mut()) {
                row.insert("reason".into(), "not_authentic".into());
            }
            Reply::one(u8::from(!known), row)
        }
        Ends::Session(id) => {
            let id: FamilyId = id.parse()?;
            let ended = service.end_family(&ctx, id, EndReason::Revoked).await?;
            Reply::one(0, json!({ "realm": name, "session": id.to_string(), "ended": u8::from(ended) }))
        }
        Ends::Login(login) => {
            let login = Login::parse(realm(stack, name)?.id(), login)?;
            let ended = service.end_person(&ctx, &login, EndReason::Revoked).await?;
            Reply::one(0, json!({ "realm": name, "login": login.as_str(), "ended": ended }))
        }
        Ends::All => {
            let ended = service.end_realm(&ctx, EndReason::Revoked).await?;
            Reply::one(0, json!({ "realm": name, "ended": ended }))
        }
    })
}

pub(crate) async fn list(stack: &Stack, name: &str, login: &str) -> Result<Reply> {
    let service = service(stack, name)?;
    let login = Login::parse(realm(stack, name)?.id(), login)?;
    let sessions = service.sessions(&context(stack), &login).await?;
    Ok(Reply::list(sessions.iter().map(session).collect()))
}

fn session(family: &Family) -> Value {
    let seconds = |millis: u64| millis / 1_000;
    json!({
        "login": family.login, "session": family.id.to_string(), "client": family.client, "scope": family.scope,
        "device": family.device.name, "address": family.device.address, "agent": family.device.agent,
        "created_at": seconds(family.created_at), "last_used_at": seconds(family.last_used_at),
        "idle_until": seconds(family.idle_end), "ends_at": seconds(family.absolute_end),
        "generation": family.generation,
    })
}

/// Ends all sessions of a login whose password was changed, or who is gone. That the store fails takes nothing from what was
/// written, but is told.
pub(crate) async fn end(stack: &Stack, login: &Login, reason: EndReason, mut reply: Reply) -> Reply {
    let Some(service) = stack.tokens(login.realm().name()) else { return reply };
    let ended = service.end_person(&context(stack), login, reason).await;
    if let Some(row) = reply.rows.iter_mut().filter_map(Value::as_object_mut).next() {
        match ended {
            Ok(ended) => {
                row.insert("sessions_ended".into(), ended.into());
            }
            Err(error) => {
                let message = "done, but sessions may go on: run `gatepost token revoke --login` when their store is back";
                row.insert("error".into(), error.kind().as_str().into());
                row.insert("message".into(), message.into());
                reply.exit = 3;
            }
        }
    }
    reply
}

pub(crate) fn keys(stack: &Stack, rotate: Option<Rotation>) -> Result<Reply> {
    let ring = stack.key_ring().ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            "no key signs here: the token service is off, or its tokens are no JWTs",
        )
    })?;
    let now = stack.clock().wall();
    if let Some(how) = rotate {
        ring.rotate(now, how)?;
        if how == Rotation::Compromised {
            // What was remembered may have been signed by whoever has the key.
            for realm in stack.realms() {
                stack.flush(&Subject::Realm(realm.id()));
            }
        }
    }
    Ok(Reply::list(ring.entries(now).iter().map(key::shown).collect()))
}
