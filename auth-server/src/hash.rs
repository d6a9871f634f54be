//! `gatepost hash`: outside any configuration.

use auth_core::{Clock, Error, ErrorKind, Result};
use auth_password::{Outcome, Policy, Preferred, Salts, Scheme};
use auth_stack::SystemClock;
use serde_json::json;

use crate::cli::HashArgs;
use crate::command::{Reply, Secret};

/// Makes a hash, or verifies one; weak schemes verify too.
pub(crate) fn run(args: &HashArgs, password: &Secret) -> Reply {
    let done = match &args.verify {
        Some(hash) => verify(args, hash, password),
        None => make(args, password),
    };
    // Whatever is wrong here is wrong with what was given: there is no back end that could fail.
    done.unwrap_or_else(|error| Reply { exit: 2, ..Reply::failed(&error) })
}

fn scheme(name: &str) -> Result<Scheme> {
    Scheme::from_name(name)
        .ok_or_else(|| Error::new(ErrorKind::Invalid, "there is no such scheme").with("scheme", name))
}

fn verify(args: &HashArgs, hash: &str, password: &Secret) -> Result<Reply> {
    let named = args.scheme.as_deref().map(scheme).transpose()?;
    let unix_time = match args.now {
        Some(time) => time,
        None => SystemClock::new()
            .wall()
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    let salts = Salts { login: &args.login, realm: &args.realm, unix_time };
    let outcome = auth_password::verify(&Policy::accept_all(), hash, named, &password.0, &salts)?;
    let named = named.or_else(|| auth_password::identify(hash)).map(Scheme::name);
    Ok(match outcome {
        Outcome::Match { .. } => Reply::one(0, json!({ "decision": "match", "scheme": named })),
        Outcome::Mismatch => Reply::one(1, json!({ "decision": "mismatch", "scheme": named })),
    })
}

fn make(args: &HashArgs, password: &Secret) -> Result<Reply> {
    let preferred = match args.scheme.as_deref() {
        None | Some("argon2id") => Preferred::default(),
        Some(name) => Preferred::of_scheme(scheme(name)?)?,
    };
    let password = auth_core::Password::new(password.bytes())?;
    let hash = auth_password::make(&preferred, &password)?;
    Ok(Reply::one(0, json!({ "hash": hash.as_str() })))
}
