//! Whether a server is fit to keep what must not be lost.

use auth_core::{Error, ErrorKind, Result};
use redis::{Pipeline, Value};

use crate::dial::{field, text};
use crate::fault;

/// What a server keeps over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// All that it was told.
    All,
    /// All but what it was told in the last two seconds, at worst.
    Most,
    /// What it had when it last wrote a snapshot, or nothing.
    Less,
}

/// Asks what [`judge`] wants to know.
pub(crate) fn questions() -> Pipeline {
    let mut request = Pipeline::with_capacity(4);
    request.cmd("INFO").arg("memory").cmd("INFO").arg("persistence");
    request.cmd("CONFIG").arg("GET").arg("save").cmd("CONFIG").arg("GET").arg("appendfsync");
    request
}

/// Judges a server by its answers; the log is told of what is doubtful. `name` says whose store it is.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if it throws keys away.
pub(crate) fn judge(answers: Vec<Value>, name: &str) -> Result<Keeps> {
    let [memory, persistence, save, sync] =
        <[Value; 4]>::try_from(answers).map_err(|_| fault::unreadable())?;
    let (memory, persistence) = (text(memory)?, text(persistence)?);
    match (field(&memory, "maxmemory"), field(&memory, "maxmemory_policy")) {
        (Some("0"), _) | (_, Some("noeviction")) => {}
        (Some(_), Some(_)) => {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "the server throws keys away when its memory is full, so that people would vanish, or what was revoked; a \
                 store needs `maxmemory-policy noeviction`",
            ));
        }
        _ => {
            tracing::warn!(
                source = name,
                "the server does not say whether it throws keys away when its memory is full"
            )
        }
    }
    if field(&persistence, "aof_enabled") == Some("1") {
        // While it syncs in the background, what it is told waits in its memory, though it was answered.
        let always = setting(sync).is_some_and(|sync| sync == b"always");
        return Ok(if always { Keeps::All } else { Keeps::Most });
    }
    match setting(save).map(|save| !save.is_empty()) {
        Some(true) => {}
        Some(false) => tracing::warn!(
            source = name,
            "the server keeps nothing over a restart (`appendonly no`, `save \"\"`): everything would be gone"
        ),
        None => tracing::warn!(
            source = name,
            "the server has no append-only file, and does not say whether it keeps anything over a restart"
        ),
    }
    Ok(Keeps::Less)
}

/// Reads a setting; nothing if the server does not say.
fn setting(reply: Value) -> Option<Vec<u8>> {
    let value = match reply {
        Value::Map(pairs) => pairs.into_iter().next()?.1,
        Value::Array(items) => items.into_iter().nth(1)?,
        _ => return None,
    };
    match value {
        Value::BulkString(value) => Some(value),
        _ => None,
    }
}
