//! What comes back: families, read strictly.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use auth_core::{Device, EndReason, Error, ErrorKind, Family, FamilyId, Millis, Result};
use redis::Value;

use crate::fault;

/// Lists the fields of a family with their values. What is not there says nothing.
pub(super) fn fields(family: &Family) -> Vec<(&'static str, String)> {
    let last = [
        family.rotated_at.to_string(),
        family.last_used_at.to_string(),
        family.retries.to_string(),
        u8::from(family.confirmed).to_string(),
    ];
    let mut all = vec![
        ("gen", family.generation.to_string()),
        ("idle_end", family.idle_end.to_string()),
        ("end", family.absolute_end.to_string()),
        ("last", last.join(" ")),
        ("realm", family.realm.to_string()),
        ("id", family.id.to_string()),
        ("login", family.login.clone()),
        ("person", family.person.clone()),
        ("scope", family.scope.clone()),
        ("secret", family.secret.clone()),
        ("created", family.created_at.to_string()),
        ("idle", family.idle.to_string()),
    ];
    all.extend(family.client.clone().map(|client| ("client", client)));
    all.extend(family.device.name.clone().map(|name| ("device", name)));
    all.extend(family.device.address.map(|address| ("address", address.to_string())));
    all.extend(family.device.agent.clone().map(|agent| ("agent", agent)));
    if let Some((at, reason)) = family.ended {
        all.extend([("ended", at.to_string()), ("why", reason.as_str().to_owned())]);
    }
    all
}

/// Reads a family out of its fields. `ended` is how it has ended with its realm, if it has: when and why.
pub(super) fn family(fields: Value, ended: Option<&str>) -> Result<Family> {
    let mut fields = Fields::new(fields)?;
    let realm: Arc<str> = fields.must("realm")?.into();
    let id: FamilyId = fields.parsed("id")?;
    let own = match (fields.take("ended"), fields.take("why")) {
        (None, None) => None,
        (Some(at), Some(why)) => Some(end(&at, &why)?),
        _ => return Err(corrupt("ended")),
    };
    let with_realm = match ended.map(|ended| ended.split_once(' ')) {
        None => None,
        Some(Some((at, why))) => Some(end(at, why)?),
        Some(None) => return Err(corrupt("ended")),
    };
    let last = Last::read(&fields.must("last")?).ok_or_else(|| corrupt("last"))?;
    Ok(Family {
        realm,
        id,
        login: fields.must("login")?,
        person: fields.must("person")?,
        client: fields.take("client"),
        scope: fields.must("scope")?,
        device: Device {
            name: fields.take("device"),
            address: match fields.take("address") {
                None => None,
                Some(address) => Some(address.parse().map_err(|_| corrupt("address"))?),
            },
            agent: fields.take("agent"),
        },
        secret: fields.must("secret")?,
        generation: fields.parsed("gen")?,
        rotated_at: last.rotated_at,
        retries: last.retries,
        confirmed: last.confirmed,
        created_at: fields.parsed("created")?,
        last_used_at: last.used_at,
        idle: fields.parsed("idle")?,
        idle_end: fields.parsed("idle_end")?,
        absolute_end: fields.parsed("end")?,
        // What came first counts.
        ended: own.or(with_realm),
    })
}

/// What the last renewal was.
struct Last {
    rotated_at: Millis,
    used_at: Millis,
    retries: u32,
    confirmed: bool,
}

impl Last {
    fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(' ').collect();
        let (rotated_at, used_at, retries, confirmed) = match *parts {
            [at] => (at, at, "0", "0"),
            [rotated_at, used_at, retries, confirmed] => (rotated_at, used_at, retries, confirmed),
            _ => return None,
        };
        Some(Self {
            rotated_at: rotated_at.parse().ok()?,
            used_at: used_at.parse().ok()?,
            retries: retries.parse().ok()?,
            confirmed: match confirmed {
                "0" => false,
                "1" => true,
                _ => return None,
            },
        })
    }
}

fn end(at: &str, why: &str) -> Result<(Millis, EndReason)> {
    let at = at.parse().map_err(|_| corrupt("ended"))?;
    Ok((at, EndReason::named(why).ok_or_else(|| corrupt("why"))?))
}

/// The fields of one family, by name.
struct Fields(HashMap<String, String>);

impl Fields {
    fn new(value: Value) -> Result<Self> {
        let pairs: Vec<(Value, Value)> = match value {
            Value::Map(pairs) => pairs,
            Value::Array(items) => {
                let mut items = items.into_iter();
                std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
            }
            _ => return Err(fault::unreadable()),
        };
        let text = |value: Value| match value {
            Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| corrupt("some")),
            _ => Err(fault::unreadable()),
        };
        pairs
            .into_iter()
            .map(|(name, value)| Ok((text(name)?, text(value)?)))
            .collect::<Result<_>>()
            .map(Self)
    }

    fn take(&mut self, field: &str) -> Option<String> {
        self.0.remove(field)
    }

    fn must(&mut self, field: &'static str) -> Result<String> {
        self.take(field).ok_or_else(|| corrupt(field))
    }

    fn parsed<T: FromStr>(&mut self, field: &'static str) -> Result<T> {
        self.must(field)?.parse().map_err(|_| corrupt(field))
    }
}

fn corrupt(field: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "a field of a session can't be read").with("field", field)
}
