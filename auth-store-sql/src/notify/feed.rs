//! What triggers tell of changes.

use std::fmt;
use std::sync::Arc;

use auth_core::{ChangeEar, ChangeFeed, Changed, Id, Listening, Result};
use serde_json::Value;

use super::{Hears, Sender, listen};
use crate::SqlConfig;
use crate::db::postgres::options;

/// The channel of a database that triggers tell on.
pub(super) const CHANNEL: &str = "gatepost_changes";

/// Tells what somebody has changed in a PostgreSQL database, whoever it was, as far as its triggers tell.
pub(crate) struct PostgresFeed(Arc<Sender>);

impl PostgresFeed {
    /// Makes a feed; connections come with the first use.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured) if the url is not acceptable.
    pub(crate) fn new(config: &SqlConfig) -> Result<Self> {
        Ok(Self(Arc::new(Sender::new(options(config)?))))
    }
}

impl fmt::Debug for PostgresFeed {
    // The options show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresFeed")
    }
}

impl ChangeFeed for PostgresFeed {
    fn kind(&self) -> &'static str {
        "notify"
    }

    fn follow(&self, ear: Arc<dyn ChangeEar>) -> Result<Listening> {
        listen(Arc::clone(&self.0), CHANNEL.to_owned(), Arc::new(Heard(ear)))
    }
}

struct Heard(Arc<dyn ChangeEar>);

impl Hears for Heard {
    fn heard(&self, message: &str) {
        // What can't be read may say anything.
        self.0.changed(&[read(message).unwrap_or(Changed::All)]);
    }
    fn lost(&self) {
        self.0.lost();
    }
    fn back(&self) {
        self.0.back();
    }
}

/// Reads a message of a trigger: a list of texts, of which the first says what it is.
fn read(message: &str) -> Option<Changed> {
    let Value::Array(parts) = serde_json::from_str(message).ok()? else { return None };
    let texts: Vec<&str> = parts.iter().map(Value::as_str).collect::<Option<_>>()?;
    Some(match texts.as_slice() {
        ["login", login] => Changed::Login((*login).into()),
        ["id", id] => Changed::Id(Id::parse(id)),
        ["groups"] => Changed::Groups,
        ["object", domain, id @ ..] if !id.is_empty() => {
            Changed::Object { domain: (*domain).into(), id: id.iter().map(|part| Id::parse(part)).collect() }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trigger_tells_is_read_and_what_is_not_understood_is_everything() {
        let check = |message: &str, changed: Option<Changed>| assert_eq!(read(message), changed, "{message}");
        check(r#"["login", "Calvin \"the Bold\""]"#, Some(Changed::Login("Calvin \"the Bold\"".into())));
        check(r#"["id", "42"]"#, Some(Changed::Id(Id::from(42))));
        check(r#"["id", "042"]"#, Some(Changed::Id(Id::from("042"))));
        check(r#"["groups"]"#, Some(Changed::Groups));
        let id = vec![Id::from("wiki"), Id::from(7)];
        check(r#"["object", "doc", "wiki", "7"]"#, Some(Changed::Object { domain: "doc".into(), id }));
        for other in
            ["", "all", "[]", r#"["all"]"#, r#"["id"]"#, r#"["id", 42]"#, r#"["object", "doc"]"#, "{"]
        {
            check(other, None);
        }
    }
}
