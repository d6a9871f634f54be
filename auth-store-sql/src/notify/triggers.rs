//! The triggers that tell of changes, and which columns they tell.

use std::collections::BTreeMap;

use auth_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::feed::CHANNEL;

/// Whom or what a change of one table is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PushConfig {
    /// The column with the login of the person.
    pub login: Option<String>,
    /// The column with the id of the person.
    pub id: Option<String>,
    /// Whether a change may be about anybody's groups.
    pub groups: bool,
    /// The domain of the object, whose id is in the columns `key`.
    pub object: Option<String>,
    /// The columns with the parts of the object's id.
    pub key: Vec<String>,
    /// Columns that say nothing about anybody: when somebody was last seen.
    pub ignore: Vec<String>,
}

/// A table, and what its changes are about. One that names nothing tells that anything may have changed.
pub(crate) type Pushed = BTreeMap<String, PushConfig>;

/// The tables of the managed schema.
pub(crate) fn managed() -> Pushed {
    let column = |name: &str| Some(name.to_owned());
    let user = PushConfig { login: column("login"), id: column("id"), ..PushConfig::default() };
    let by_user = PushConfig { id: column("user_id"), ..PushConfig::default() };
    let groups = PushConfig { groups: true, ..PushConfig::default() };
    [
        ("gatepost_user", user),
        ("gatepost_membership", by_user.clone()),
        ("gatepost_right", by_user),
        ("gatepost_group", groups),
        // Its domain and its id are a text elsewhere and a text that is joined: told as anything.
        ("gatepost_object", PushConfig::default()),
        ("gatepost_domain", PushConfig::default()),
    ]
    .map(|(table, push)| (table.to_owned(), push))
    .into()
}

/// How many different messages of one statement are told one by one. More of them are told as anything.
const MOST: u32 = 500;

/// The longest message that a notification carries, with room to spare.
const LONGEST: u32 = 4_000;

/// The names of the triggers of each table, and what they are for.
const EVENTS: [(&str, &str, &str); 4] = [
    ("gatepost_push_insert", "INSERT", "REFERENCING NEW TABLE AS gatepost_after"),
    (
        "gatepost_push_update",
        "UPDATE",
        "REFERENCING OLD TABLE AS gatepost_before NEW TABLE AS gatepost_after",
    ),
    ("gatepost_push_delete", "DELETE", "REFERENCING OLD TABLE AS gatepost_before"),
    ("gatepost_push_truncate", "TRUNCATE", ""),
];

/// Checks what is said about tables.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) naming the table.
pub(crate) fn check(tables: &Pushed) -> Result<()> {
    for (table, push) in tables {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Misconfigured, format!("push.{table}: {what}")));
        if table.is_empty() || table.contains('\0') {
            return wrong("this is no name of a table");
        }
        match (&push.object, push.key.is_empty()) {
            (Some(_), true) => return wrong("an `object` needs the columns of its id, `key`"),
            (None, false) => return wrong("a `key` needs the domain that it is an id in, `object`"),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the statements that install the triggers, in the order in which they are run, in one transaction.
pub(crate) fn install(tables: &Pushed) -> Vec<String> {
    // A change must not fail for what can't be told of it: then anything may have changed. Neither may a change of
    // everything be compared row by row.
    let function = format!(
        "CREATE OR REPLACE FUNCTION gatepost_push() RETURNS trigger LANGUAGE plpgsql AS $gatepost$\n\
         DECLARE\n    told integer := 0;\n    many boolean;\n    message text;\n\
         BEGIN\n\
         \x20   IF TG_OP = 'TRUNCATE' THEN\n\
         \x20       PERFORM pg_notify('{CHANNEL}', '[\"all\"]');\n\
         \x20       RETURN NULL;\n\
         \x20   END IF;\n\
         \x20   BEGIN\n\
         \x20       EXECUTE TG_ARGV[0] INTO many;\n\
         \x20       IF many THEN\n\
         \x20           PERFORM pg_notify('{CHANNEL}', '[\"all\"]');\n\
         \x20           RETURN NULL;\n\
         \x20       END IF;\n\
         \x20       FOR message IN EXECUTE TG_ARGV[1] LOOP\n\
         \x20           told := told + 1;\n\
         \x20           IF told > {MOST} OR octet_length(message) > {LONGEST} THEN\n\
         \x20               PERFORM pg_notify('{CHANNEL}', '[\"all\"]');\n\
         \x20               RETURN NULL;\n\
         \x20           END IF;\n\
         \x20           PERFORM pg_notify('{CHANNEL}', message);\n\
         \x20       END LOOP;\n\
         \x20   EXCEPTION WHEN OTHERS THEN\n\
         \x20       PERFORM pg_notify('{CHANNEL}', '[\"all\"]');\n\
         \x20   END;\n\
         \x20   RETURN NULL;\n\
         END\n$gatepost$"
    );
    let mut statements = vec![function];
    for (table, push) in tables {
        for ((trigger, event, referencing), (_, arguments)) in EVENTS.into_iter().zip(arguments(push)) {
            let arguments: Vec<String> = arguments.iter().map(|argument| literal(argument)).collect();
            statements.push(drop_trigger(trigger, table));
            statements.push(format!(
                "CREATE TRIGGER {trigger} AFTER {event} ON {} {referencing} FOR EACH STATEMENT \
                 EXECUTE FUNCTION gatepost_push({})",
                quoted(table),
                arguments.join(", ")
            ));
            // Also for changes that a replica applies.
            statements.push(format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {trigger}", quoted(table)));
        }
    }
    statements
}

/// Takes the function away if no trigger is left that runs it: another source may have its own.
const DROP_FUNCTION: &str = "DO $gatepost$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger \
     WHERE tgfoid = to_regprocedure('gatepost_push()')) THEN DROP FUNCTION IF EXISTS gatepost_push(); END IF; \
     END $gatepost$";

/// Writes the statements that take the triggers away.
pub(crate) fn remove(tables: &Pushed) -> Vec<String> {
    let triggers = tables.keys().flat_map(|table| EVENTS.map(|(trigger, ..)| drop_trigger(trigger, table)));
    triggers.chain([DROP_FUNCTION.to_owned()]).collect()
}

/// How many rows of one statement are looked at.
const ROWS: u32 = 10_000;

/// The triggers of a table, and the arguments of each: whether there are too many rows, and what they are about.
pub(crate) fn arguments(push: &PushConfig) -> impl Iterator<Item = (&'static str, Vec<String>)> {
    EVENTS.into_iter().map(|(trigger, event, _)| {
        let rows = if event == "DELETE" { "gatepost_before" } else { "gatepost_after" };
        let many =
            format!("SELECT count(*) > {ROWS} FROM (SELECT FROM {rows} LIMIT {}) AS looked_at", ROWS + 1);
        (trigger, if event == "TRUNCATE" { Vec::new() } else { vec![many, query(event, push)] })
    })
}

fn drop_trigger(trigger: &str, table: &str) -> String {
    format!("DROP TRIGGER IF EXISTS {trigger} ON {}", quoted(table))
}

/// The query that tells what a statement's rows are about. Rows that are as they were, but for what is ignored, are
/// about nothing.
fn query(event: &str, push: &PushConfig) -> String {
    let ignored: Vec<String> = push.ignore.iter().map(|column| literal(column)).collect();
    let rows = |table: &str| {
        format!(
            "SELECT to_jsonb(gatepost_row) - ARRAY[{}]::text[] AS r FROM {table} AS gatepost_row",
            ignored.join(", ")
        )
    };
    let (before, after) = (rows("gatepost_before"), rows("gatepost_after"));
    let changed = match event {
        "INSERT" => after,
        "DELETE" => before,
        _ => format!("(({before}) EXCEPT ALL ({after})) UNION ALL (({after}) EXCEPT ALL ({before}))"),
    };
    let value = |column: &String| format!("r ->> {}", literal(column));
    let mut told = Vec::new();
    if let Some(login) = &push.login {
        told.push(format!("'login', {}", value(login)));
    }
    if let Some(id) = &push.id {
        told.push(format!("'id', {}", value(id)));
    }
    if push.groups {
        told.push("'groups'".to_owned());
    }
    if let Some(domain) = &push.object {
        let key: Vec<String> = push.key.iter().map(value).collect();
        told.push(format!("'object', {}, {}", literal(domain), key.join(", ")));
    }
    if told.is_empty() {
        told.push("'all'".to_owned());
    }
    let messages: Vec<String> =
        told.iter().map(|parts| format!("SELECT jsonb_build_array({parts})::text FROM changed")).collect();
    // UNION, not UNION ALL: each is told once.
    format!("WITH changed AS ({changed}) {}", messages.join(" UNION "))
}

/// Writes a name of a table, which may have the name of its schema before it.
pub(super) fn quoted(table: &str) -> String {
    let parts = table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
    parts.collect::<Vec<_>>().join(".")
}

/// Writes a text as a literal, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}
