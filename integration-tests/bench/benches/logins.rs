//! Logins: a password that was verified before, beside verifying it.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, AccountState, Ctx, Freshness, Id, Login, Lookup, Password, Principal, Realm,
    Result, SourceInfo, StoredHash, Verdict,
};
use auth_stack::{Opening, Provides, SourceKind, Stack};
use gatepost_bench::{CHUNK, bar, exit, now};

const BAR: f64 = 1000.0;
const PASSWORD: &[u8] = b"hobbes, the tiger";

/// A source with one person, whose hash comes later.
#[derive(Debug, Clone, Default)]
struct One(Arc<Mutex<Option<StoredHash>>>);

#[derive(Debug)]
struct Open {
    info: SourceInfo,
    one: One,
}

#[async_trait]
impl AccountSource for Open {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let hash = self.one.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Account::found(&self.info, login, "calvin", Id::from(1), AccountState::default(), hash))
    }

    async fn replace_hash(&self, _: &Ctx, _: &Principal, _: &StoredHash, _: &StoredHash) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl SourceKind for One {
    async fn open(&self, opening: Opening<'_>) -> Result<Provides> {
        Ok(Provides::accounts(Arc::new(Open { info: opening.info, one: self.clone() })))
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Nanoseconds of a login that verifies, and of one from memory.
async fn measure(settings: &str) -> Result<(f64, f64)> {
    let one = One::default();
    let text = format!(
        "cache.ttl = \"8h\"\n[password]\nupgrade = false\n{settings}\n[source.one]\nkind = \"one\"\ntimeout = \"5s\"\n"
    );
    let stack = Stack::builder()
        .data(std::env::temp_dir().join("gatepost-bench-makes-no-data-folder"))
        .config(&text)
        .register_source("one", one.clone())
        .build()
        .await?;
    let password = Password::new(PASSWORD.to_vec())?;
    let hash = stack.hasher().make(&Ctx::new(), &password).await?;
    *one.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    let realm: &Arc<Realm> = stack.realm("default").expect("the only realm");
    let login = Login::parse(realm.id(), "calvin")?;
    let accepted = |verdict| assert!(matches!(verdict, Ok(Verdict::Accepted(_))), "{verdict:?}");

    let fresh = Ctx::new().with_freshness(Freshness::Fresh);
    let mut verified = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        accepted(realm.login(&fresh, &login, &password).await);
        verified.push(began.elapsed().as_secs_f64() * 1e9);
    }
    let ctx = Ctx::new();
    accepted(realm.login(&ctx, &login, &password).await);
    let chunk = || {
        let began = Instant::now();
        (0..CHUNK).for_each(|_| accepted(now(realm.login(&ctx, &login, &password))));
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let each = began.elapsed().as_secs_f64() * 1e9 / CHUNK as f64;
        each
    };
    let remembered = (0..500).map(|_| chunk()).collect();
    Ok((median(verified), median(remembered)))
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!("\nA login through a realm: verified, and from memory; medians\n");
    println!("{:34}{:>14}{:>14}{:>12}", "", "verified", "remembered", "ratio");
    let mut held = true;
    for (name, settings) in [
        ("bcrypt, cost 12", "preferred = \"bcrypt\"\nbcrypt_cost = 12"),
        ("argon2id, 19 MiB, 2 passes", "argon2 = { memory_kib = 19456, passes = 2, lanes = 1 }"),
    ] {
        let (verified, remembered) = runtime.block_on(measure(settings)).expect("a stack");
        let ratio = verified / remembered;
        println!("{name:34}{:>11.2} ms{remembered:>11.0} ns{ratio:>11.0}x", verified / 1e6);
        held &= ratio >= BAR;
    }
    println!();
    exit(&[bar(format_args!("the bar is at least {BAR}x"), held)])
}
