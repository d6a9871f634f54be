//! `gatepost sql`: looking after SQL sources.

use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};
use auth_stack::{Push, Stack};
use serde_json::json;

use crate::cli::SqlVerb;
use crate::command::Reply;
use crate::output;

/// Runs a command on the sources of a stack that was composed for it.
pub(crate) async fn run(stack: &Stack, verb: &SqlVerb, as_json: bool) -> Result<Reply> {
    let SqlVerb::InstallTriggers { source, print, remove } = verb;
    let (name, push) = chosen(stack, source.as_deref())?;
    if *print {
        let statements = push.statements(*remove);
        if as_json {
            return Ok(Reply::one(0, json!({ "source": name, "statements": statements })));
        }
        output::line("BEGIN;");
        statements.iter().for_each(|statement| output::line(&format!("{statement};")));
        output::line("COMMIT;");
        return Ok(Reply { exit: 0, rows: Vec::new() });
    }
    push.install(*remove).await.map_err(|error| error.at(name.as_str()))?;
    let state = if *remove { "removed" } else { "installed" };
    Ok(Reply::one(0, json!({ "source": name, "triggers": state })))
}

/// The source that is named, or the only one whose database can tell.
fn chosen<'a>(stack: &'a Stack, named: Option<&str>) -> Result<(String, &'a Arc<Push>)> {
    let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
    let sources = stack.sources();
    let mut able = sources.iter().filter_map(|source| Some((source.name.clone(), stack.push(&source.name)?)));
    if let Some(named) = named {
        return able.find(|(name, _)| name == named).ok_or_else(|| {
            invalid(format!(
                "`{named}` is no source in PostgreSQL, or its configuration does not say whom its tables are about: `push`"
            ))
        });
    }
    match (able.next(), able.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err(invalid("no source is in PostgreSQL and says whom its tables are about (`push`)".to_owned()))
        }
        (Some(_), Some(_)) => Err(invalid("there are several: say which one by --source".to_owned())),
    }
}
