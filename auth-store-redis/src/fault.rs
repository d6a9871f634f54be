//! What goes wrong between us and a server, as errors that tell no key, value or password.

use auth_core::{Error, ErrorKind};
use redis::{RedisError, ServerError, Value};

/// Says what an error of the connection means.
pub(crate) fn of(error: &RedisError) -> Error {
    use redis::ErrorKind as Kind;
    match error.kind() {
        Kind::AuthenticationFailed => match error.detail() {
            Some(detail) if detail.contains("max number of clients") => {
                Error::new(ErrorKind::Overloaded, "the server has too many clients")
            }
            Some(detail) if detail.contains("LOADING") => {
                Error::new(ErrorKind::Unavailable, "the server is loading its data")
            }
            _ => Error::new(ErrorKind::Misconfigured, "the server refuses our user or password"),
        },
        Kind::RESP3NotSupported => Error::new(ErrorKind::Misconfigured, "the server is older than Redis 6"),
        // Only from setting a connection up: there its one cause is the number of the database.
        Kind::Server(redis::ServerErrorKind::ResponseError) if error.detail().is_some_and(is_db) => {
            Error::new(ErrorKind::Misconfigured, "the server has no database of that number")
        }
        Kind::Server(_) | Kind::Extension => by_code(error.code().unwrap_or_default(), error.detail()),
        Kind::Parse | Kind::UnexpectedReturnType => unreadable(),
        Kind::Io if error.is_timeout() => timeout(),
        Kind::Io => Error::new(ErrorKind::Unavailable, "the connection is lost").because(error.clone()),
        Kind::Client | Kind::InvalidClientConfig => {
            Error::new(ErrorKind::Internal, "the request can't be sent")
        }
        _ => Error::new(ErrorKind::Unavailable, "the server can't be asked"),
    }
}

fn is_db(detail: &str) -> bool {
    detail.contains("DB index") || detail.contains("SELECT is not allowed")
}

/// Says what an error that a server answers with means.
pub(crate) fn of_server(error: &ServerError) -> Error {
    by_code(error.code(), error.details())
}

fn by_code(code: &str, detail: Option<&str>) -> Error {
    // The text of a server may name keys and users, so only what is known is told. What happens in a script comes
    // as the error of the script, from old servers with the code inside of the text.
    let detail = detail.unwrap_or_default();
    // Before Redis 7 without the dash, if a command of the script is at fault.
    let within = |what: &str| {
        let told = |mark: &str| detail.contains(&format!("{mark}{what}"));
        code == what || (code == "ERR" && (told("-") || told("@user_script:1: ")))
    };
    if within("OOM") || detail.contains("OOM command not allowed") {
        return Error::new(ErrorKind::Overloaded, "the server has no memory left");
    }
    for (known, text) in [
        ("READONLY", "the server is a replica"),
        ("LOADING", "the server is loading its data"),
        ("CLUSTERDOWN", "the cluster is down"),
        ("MASTERDOWN", "the server has lost its master"),
        ("TRYAGAIN", "the slot is moving"),
        ("MOVED", "the slot has moved"),
        ("ASK", "the slot is moving"),
        ("BUSY", "the server is busy with a script"),
        ("MISCONF", "the server can't save, and refuses writes"),
        ("NOREPLICAS", "the server has too few replicas, and refuses writes"),
        ("UNBLOCKED", "the server gave the request up"),
    ] {
        if within(known) {
            return Error::new(ErrorKind::Unavailable, text);
        }
    }
    for (known, text) in [
        ("NOAUTH", "the server wants a password"),
        ("WRONGPASS", "the server refuses our user or password"),
        ("NOPERM", "the server does not permit that to our user"),
        ("NOPROTO", "the server is older than Redis 6"),
    ] {
        if within(known) {
            return Error::new(ErrorKind::Misconfigured, text);
        }
    }
    if detail.contains("can't run this command") || detail.contains("can't access at least one of the keys") {
        return Error::new(ErrorKind::Misconfigured, "the server does not permit that to our user");
    }
    if within("WRONGTYPE") {
        return Error::new(ErrorKind::Corrupt, "a key of ours is of another kind");
    }
    Error::new(ErrorKind::Misconfigured, "the server does not do what we need")
}

/// A reply that is not what the command gives.
pub(crate) fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "the server's reply can't be read")
}

/// The limit has passed.
pub(crate) fn timeout() -> Error {
    Error::new(ErrorKind::Timeout, "the server did not answer in time")
}

/// Takes an error that a server answered with out of its answer.
pub(crate) fn checked(value: Value) -> Result<Value, Error> {
    match value {
        Value::ServerError(error) => Err(of_server(&error)),
        value => Ok(value),
    }
}

/// Whether an error means that another server must be looked for.
pub(crate) fn is_lost(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "NOAUTH")
        || error.details().is_some_and(|detail| detail.contains("-READONLY")))
}

/// Whether the slots have moved.
pub(crate) fn is_moved(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "MOVED" | "ASK" | "CLUSTERDOWN"))
}

/// Whether a script must be sent.
pub(crate) fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(reply: &str) -> ErrorKind {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        let error = checked(value).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        error.kind()
    }

    #[test]
    fn what_servers_answer_has_its_kind() {
        for reply in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "ERR Error running script: @user_script:1: -READONLY You can't write against a read only replica.",
            "CLUSTERDOWN Hash slot not served",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 866 192.0.2.1:7001",
            "ASK 866 192.0.2.1:7001",
            "BUSY Redis is busy running a script.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOREPLICAS Not enough good replicas to write.",
        ] {
            assert_eq!(kind(reply), ErrorKind::Unavailable, "{reply}");
        }
        for reply in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script: @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert_eq!(kind(reply), ErrorKind::Overloaded, "{reply}");
        }
        for reply in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM User secret has no permissions to run the 'mget' command",
            "ERR The user executing the script can't run this command or subcommand script: secret",
            "ERR unknown command 'UNLINK', with args beginning with: 'secret'",
        ] {
            assert_eq!(kind(reply), ErrorKind::Misconfigured, "{reply}");
        }
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(kind(wrong), ErrorKind::Corrupt);
        let within = format!("ERR Error running script (call to f_secret): @user_script:1: {wrong}");
        assert_eq!(kind(&within), ErrorKind::Corrupt);
    }
}
