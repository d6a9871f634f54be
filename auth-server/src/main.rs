#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod admin;
mod cli;
mod command;
mod current;
mod figures;
mod hash;
mod import;
mod input;
mod key;
mod ldap;
mod metrics;
mod net;
mod ops;
mod output;
mod print;
mod serve;
mod sessions;
mod sql;
#[cfg(test)]
mod tests;
mod token;
mod upkeep;

use std::path::Path;
use std::process::ExitCode;

use auth_core::{Error, ErrorKind, Result};
use auth_stack::{Builder, Stack};
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{
    CacheVerb, CheckVerb, Cli, ConfigVerb, GroupVerb, KeyVerb, LdapVerb, ObjectVerb, RevokeArgs, SessionVerb,
    TokenVerb, UserVerb, Verb,
};
use crate::command::{Command, Credential, Ends, Reply, Rotate, Secret, Tokens};

/// Wrong use, or a configuration that can't be: the exit status.
const USAGE: u8 = 2;
/// Could not find out: the exit status.
const UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let quiet = if matches!(cli.command, Verb::Serve) { "info" } else { "error" };
    let filter = match log_filter(quiet) {
        Ok(filter) => filter,
        Err(error) => {
            let reply = refused(&error);
            output::print(&reply, cli.json);
            return ExitCode::from(reply.exit);
        }
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A line that can't be written, as on a full disk, is lost: to tell that on standard error would be a panic.
    log.log_internal_errors(false).init();
    let runtime = match &cli.command {
        // One question needs no pool of threads.
        Verb::Serve => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let reply = match runtime {
        Ok(runtime) => {
            let reply = runtime.block_on(run(&cli)).unwrap_or_else(|error| refused(&error));
            // A file system that hangs may hold a thread for good: do not wait for it.
            runtime.shutdown_background();
            reply
        }
        Err(error) => refused(&Error::new(ErrorKind::Internal, "can't start").because(error)),
    };
    output::print(&reply, cli.json);
    ExitCode::from(reply.exit)
}

/// Tells how a command is used; as JSON for whoever asked for that.
fn misused(error: &clap::Error) -> ExitCode {
    let wrong = error.use_stderr();
    if wrong && std::env::args_os().any(|arg| arg == "--json") {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default().to_owned();
        output::print(&refused(&Error::new(ErrorKind::Invalid, message)), true);
    } else {
        let _ = error.print();
    }
    ExitCode::from(if wrong { USAGE } else { 0 })
}

/// What is logged: what the environment says, or else what `quiet` does.
fn log_filter(quiet: &str) -> Result<EnvFilter> {
    let Some(wanted) = std::env::var_os("GATEPOST_LOG").filter(|wanted| !wanted.is_empty()) else {
        return Ok(EnvFilter::new(quiet));
    };
    let wanted = wanted.to_str().and_then(|wanted| EnvFilter::builder().parse(wanted).ok());
    wanted.ok_or_else(|| {
        let message = "environment GATEPOST_LOG: this is no filter such as info or gatepost::audit=off";
        Error::new(ErrorKind::Misconfigured, message)
    })
}

/// The reply if there is no stack to ask: configuration and input are the caller's to mend.
fn refused(error: &Error) -> Reply {
    let exit = match error.kind() {
        ErrorKind::Invalid | ErrorKind::Misconfigured => USAGE,
        _ => UNKNOWN,
    };
    Reply { exit, ..Reply::failed(error) }
}

fn builder(cli: &Cli) -> Builder {
    configured(cli.config.as_deref())
}

fn configured(file: Option<&Path>) -> Builder {
    let builder = Stack::builder().env();
    match file {
        Some(file) => builder.config_file(file),
        None => builder,
    }
}

/// The builder of a command that composes a stack of its own: where a server runs, it makes no store.
async fn beside_a_server(cli: &Cli) -> Result<Builder> {
    let builder = builder(cli);
    let server = match builder.data_folder() {
        Ok(data) => admin::connect(&data).await?,
        Err(_) => None,
    };
    Ok(if server.is_some() { builder.without_making_a_store() } else { builder })
}

async fn run(cli: &Cli) -> Result<Reply> {
    let nothing = Reply { exit: 0, rows: Vec::new() };
    match &cli.command {
        Verb::Serve => {
            let stack = builder(cli).build_for_server().await?;
            let file = cli.config.clone();
            serve::serve(stack, move || configured(file.as_deref())).await?;
            Ok(nothing)
        }
        Verb::Hash(args) => {
            let reply = hash::run(args, &input::password(args.verify.is_none())?);
            if let (false, Some(hash)) =
                (cli.json, reply.rows.first().and_then(|row| row.get("hash")?.as_str()))
            {
                output::line(hash);
                return Ok(nothing);
            }
            Ok(reply)
        }
        Verb::Key(verb) if !verb.is_configured() => key::run(verb, cli.json),
        Verb::Token(TokenVerb::Verify(args)) => token::verify(args),
        Verb::Ldap(LdapVerb::Probe(args)) => {
            let probe = ldap::probe(args).await?;
            if cli.json {
                return Ok(Reply::one(0, ldap::row(&probe)?));
            }
            output::line(&format!("# {}\n{}", probe.product, probe.config.trim_end()));
            Ok(nothing)
        }
        Verb::Print(what) => {
            let (_, config) = builder(cli).load()?;
            let snippet = print::snippet(*what, &config);
            if cli.json {
                return Ok(Reply::one(0, serde_json::json!({ "snippet": snippet })));
            }
            output::line(&snippet);
            Ok(nothing)
        }
        Verb::Sql(verb) => sql::run(&beside_a_server(cli).await?.build().await?, verb, cli.json).await,
        Verb::Config(ConfigVerb::Show) => {
            let stack = beside_a_server(cli).await?.build().await?;
            if cli.json {
                let shown = stack.show_json();
                return Ok(Reply::one(0, shown));
            }
            output::line(stack.show().trim_end());
            Ok(nothing)
        }
        Verb::Config(ConfigVerb::Check { probe }) => {
            let builder = beside_a_server(cli).await?;
            let builder = if *probe { builder.with_tokens_if_kept() } else { builder };
            let stack = builder.build().await?;
            serve::front(&stack)?;
            if *probe {
                for warning in stack.warnings() {
                    output::note(&format!("gatepost: warning: {warning}"));
                }
                return Ok(ops::run(&stack, Command::Sources { probe: true }).await);
            }
            let mut row = serde_json::json!({ "decision": "ok" });
            if let (Some(row), false) = (row.as_object_mut(), stack.warnings().is_empty()) {
                row.insert("warnings".into(), stack.warnings().into());
            }
            Ok(Reply::one(0, row))
        }
        verb => {
            let command = command(verb)?;
            // Before anything else: a configuration that can't be is told even where a server runs.
            builder(cli).load()?;
            let folder = builder(cli).data_folder();
            let server = match &folder {
                Ok(data) => admin::connect(data).await?,
                // Without a data folder there is no server; whether a stack can do without is for it to say.
                Err(_) => None,
            };
            if let Some(stream) = server {
                if !cli.local {
                    return admin::ask(stream, &command).await;
                }
                if command.needs_server() {
                    let message = "this is about the caches of the server: ask it without --local";
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
                if command.changes() {
                    let message = "a server runs on this data folder: without --local the change is made \
                                   there, and its next answer has it";
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
            }
            if command.needs_server() {
                // A stack made for this command would have nothing in its caches.
                let message = format!("no server runs on {}", folder?.display());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            let builder = beside_a_server(cli).await?;
            let builder = match command.tokens() {
                Tokens::None => builder,
                Tokens::IfKept => builder.with_tokens_if_kept(),
                Tokens::Needed => builder.with_tokens(),
            };
            let stack = builder.build().await?;
            let reply = ops::run(&stack, command).await;
            Ok(ops::carried_at_last(&stack, reply).await)
        }
    }
}

/// What was typed, as a command; reads the password where there is one.
fn command(verb: &Verb) -> Result<Command> {
    Ok(match verb {
        Verb::Check(CheckVerb::Password { login, realm, explain }) => Command::CheckPassword {
            realm: realm.realm.clone(),
            login: login.clone(),
            password: input::password(false)?,
            explain: explain.explain,
        },
        Verb::Check(CheckVerb::Group { login, group, realm, explain }) => Command::CheckGroup {
            realm: realm.realm.clone(),
            login: login.clone(),
            group: group.clone(),
            explain: explain.explain,
        },
        Verb::Check(CheckVerb::Object { login, domain, id, mode, realm, explain }) => Command::CheckObject {
            realm: realm.realm.clone(),
            login: login.clone(),
            domain: domain.clone(),
            id: id.clone(),
            mode: mode.clone(),
            explain: explain.explain,
        },
        Verb::Check(CheckVerb::Token { token, fresh, realm, explain }) => Command::CheckToken {
            realm: realm.realm.clone(),
            token: input::token(token)?,
            explain: explain.explain,
            fresh: *fresh,
        },
        Verb::Token(TokenVerb::Session(verb)) => session(verb)?,
        Verb::Key(KeyVerb::List) => Command::Keys { rotate: None },
        Verb::Key(KeyVerb::Rotate { compromised, at_once, .. }) => Command::Keys {
            rotate: Some(match (compromised, at_once) {
                (true, _) => Rotate::Compromised,
                (false, true) => Rotate::AtOnce,
                (false, false) => Rotate::Planned,
            }),
        },
        Verb::User(verb) => user(verb)?,
        Verb::Group(GroupVerb::Add { login, group, realm }) => {
            Command::GroupAdd { realm: realm.realm.clone(), login: login.clone(), group: group.clone() }
        }
        Verb::Group(GroupVerb::Remove { login, group, realm }) => {
            Command::GroupRemove { realm: realm.realm.clone(), login: login.clone(), group: group.clone() }
        }
        Verb::Group(GroupVerb::List { login, realm }) => {
            Command::GroupList { realm: realm.realm.clone(), login: login.clone() }
        }
        Verb::Object(verb) => object(verb),
        Verb::Cache(CacheVerb::Stats) => Command::CacheStats,
        Verb::Cache(CacheVerb::Expire(about)) => void(about, false),
        Verb::Cache(CacheVerb::Flush(about)) => void(about, true),
        Verb::Sources => Command::Sources { probe: false },
        Verb::Reload => Command::Reload,
        Verb::Serve
        | Verb::Hash(_)
        | Verb::Key(_)
        | Verb::Token(TokenVerb::Verify(_))
        | Verb::Config(_)
        | Verb::Ldap(_)
        | Verb::Print(_)
        | Verb::Sql(_) => {
            return Err(Error::new(ErrorKind::Internal, "this command needs no stack"));
        }
    })
}

fn session(verb: &SessionVerb) -> Result<Command> {
    Ok(match verb {
        SessionVerb::Issue { login, scopes, ttl, realm } => Command::TokenIssue {
            realm: realm.realm.clone(),
            login: login.clone(),
            scopes: scopes.clone(),
            life: ttl.as_deref().map(input::duration).transpose()?,
        },
        SessionVerb::Revoke(RevokeArgs { token, session, login, all: _, realm }) => {
            let ends = match (token, session, login) {
                (Some(token), _, _) => Ends::Token(input::token(token)?),
                (_, Some(session), _) => Ends::Session(session.clone()),
                (_, _, Some(login)) => Ends::Login(login.clone()),
                _ => Ends::All,
            };
            Command::TokenRevoke { realm: realm.realm.clone(), ends }
        }
        SessionVerb::List { login, realm } => {
            Command::TokenList { realm: realm.realm.clone(), login: login.clone() }
        }
    })
}

fn user(verb: &UserVerb) -> Result<Command> {
    Ok(match verb {
        UserVerb::Add { login, groups, hash, scheme, realm } => Command::UserAdd {
            realm: realm.realm.clone(),
            login: login.clone(),
            groups: groups.clone(),
            credential: match hash {
                Some(hash) => {
                    Credential::Hash { hash: Secret::new(hash.clone().into_bytes()), scheme: scheme.clone() }
                }
                None => Credential::Password(input::password(true)?),
            },
        },
        UserVerb::List { realm } => Command::UserList { realm: realm.realm.clone() },
        UserVerb::Show { login, realm } => {
            Command::UserShow { realm: realm.realm.clone(), login: login.clone() }
        }
        UserVerb::Passwd { login, realm } => Command::UserPasswd {
            realm: realm.realm.clone(),
            login: login.clone(),
            password: input::password(true)?,
        },
        UserVerb::Lock { login, realm } => {
            Command::UserLock { realm: realm.realm.clone(), login: login.clone(), locked: true }
        }
        UserVerb::Unlock { login, realm } => {
            Command::UserLock { realm: realm.realm.clone(), login: login.clone(), locked: false }
        }
        UserVerb::Delete { login, realm } => {
            Command::UserDelete { realm: realm.realm.clone(), login: login.clone() }
        }
        UserVerb::Import(verb) => import::command(verb)?,
    })
}

fn object(verb: &ObjectVerb) -> Command {
    match verb {
        ObjectVerb::Add { domain, id, realm } => {
            Command::ObjectAdd { realm: realm.realm.clone(), domain: domain.clone(), id: id.clone() }
        }
        ObjectVerb::Delete { domain, id, realm } => {
            Command::ObjectDelete { realm: realm.realm.clone(), domain: domain.clone(), id: id.clone() }
        }
        ObjectVerb::Grant { login, domain, id, mode, realm } => Command::ObjectGrant {
            realm: realm.realm.clone(),
            login: login.clone(),
            domain: domain.clone(),
            id: id.clone(),
            mode: mode.clone(),
        },
        ObjectVerb::Revoke { login, domain, id, mode, realm } => Command::ObjectRevoke {
            realm: realm.realm.clone(),
            login: login.clone(),
            domain: domain.clone(),
            id: id.clone(),
            mode: mode.clone(),
        },
    }
}

fn void(about: &cli::About, forget: bool) -> Command {
    Command::CacheVoid {
        user: about.user.clone(),
        group: about.group.clone(),
        object: about.object.clone(),
        realm: about.realm.clone(),
        all: about.all,
        forget,
    }
}
