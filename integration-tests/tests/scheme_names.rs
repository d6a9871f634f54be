//! Which hashes name their own scheme: the file store and the hasher must agree, or else a stored hash is
//! taken for something that it is not, at worst for the password itself.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says what is wrong")]

use std::collections::BTreeSet;
use std::sync::Arc;

use auth_core::{AccountSource, Ctx, Password, PasswordSource};
use auth_password::{
    AcceptWeak, Hashed, Hasher, HasherConfig, MemoConfig, Policy, Preferred, Scheme, identify,
};
use auth_store_file::{FileConfig, FileStore};
use auth_testkit::{ManualClock, info, login};
use integration_tests::{Expected, all_vectors};
use tempfile::TempDir;

/// The hashes of the vectors, of schemes that a hash names itself or of the others.
fn hashes(names_itself: bool) -> Vec<(Scheme, String)> {
    let right = all_vectors().into_iter().filter(|vector| vector.expected == Expected::Right);
    let all: BTreeSet<_> =
        right.map(|vector| (Scheme::from_name(&vector.scheme).unwrap(), vector.hash)).collect();
    all.into_iter()
        // A colon ends a hash in htpasswd.
        .filter(|(scheme, hash)| scheme.names_itself() == names_itself && !hash.contains(':'))
        .collect()
}

async fn store(folder: &TempDir, hashes: &[(Scheme, String)], in_toml: bool) -> FileStore {
    let line = |(number, (_, hash)): (usize, &(Scheme, String))| {
        if in_toml {
            format!("[user.u{number}]\nhash = '''{hash}'''\n")
        } else {
            format!("u{number}:{hash}\n")
        }
    };
    let text: String = hashes.iter().enumerate().map(line).collect();
    let path = folder.path().join(if in_toml { "users.toml" } else { "htpasswd" });
    std::fs::write(&path, text).unwrap();
    FileStore::connect(info("file"), FileConfig::new(path).with_scheme("plaintext")).await.unwrap()
}

#[tokio::test]
async fn a_hash_that_names_its_scheme_never_gets_the_default_of_a_file() {
    let hashes = hashes(true);
    let schemes: BTreeSet<_> = hashes.iter().map(|(scheme, _)| *scheme).collect();
    let named: BTreeSet<_> = Scheme::ALL.iter().copied().filter(|scheme| scheme.names_itself()).collect();
    assert_eq!(schemes, named, "each such scheme has a hash here");
    for in_toml in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, &hashes, in_toml).await;
        for (number, (scheme, hash)) in hashes.iter().enumerate() {
            let found = store.account(&Ctx::new(), &login(&format!("u{number}"))).await.unwrap();
            let account = found.found().unwrap();
            let stored = account.hash().unwrap();
            assert_eq!((stored.as_str(), stored.scheme()), (hash.as_str(), None), "{scheme} {hash}");
        }
    }
}

#[tokio::test]
async fn a_hash_that_names_no_scheme_gets_the_default_of_a_file() {
    // FlaskSimpleAuth's look like what they are, under another name.
    let hashes: Vec<_> = hashes(false).into_iter().filter(|(_, hash)| identify(hash).is_none()).collect();
    assert!(hashes.len() > 10);
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, &hashes, false).await;
    for (number, (scheme, hash)) in hashes.iter().enumerate() {
        let found = store.account(&Ctx::new(), &login(&format!("u{number}"))).await.unwrap();
        let account = found.found().unwrap();
        assert_eq!(account.hash().unwrap().scheme(), Some("plaintext"), "{scheme} {hash}");
    }
}

#[tokio::test]
async fn the_stored_text_of_a_hash_is_not_its_password() {
    let hashes = hashes(true);
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, &hashes, false).await;
    let clock = ManualClock::new();
    let preferred = Preferred::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
    let policy = Policy { preferred, accept_weak: AcceptWeak::All, ..Policy::default() };
    let hasher = Hasher::new(HasherConfig::default(), policy, Arc::<ManualClock>::clone(&clock)).unwrap();
    let memo = MemoConfig::default();
    let hashed = Hashed::new(Arc::new(store), Arc::new(hasher), memo, Arc::default(), clock).unwrap();
    for (number, (scheme, hash)) in hashes.iter().enumerate() {
        let typed = Password::new(hash.clone().into_bytes()).unwrap();
        let verdict = hashed.verify(&Ctx::new(), &login(&format!("u{number}")), &typed).await.unwrap();
        let told = format!("{verdict:?}");
        assert!(told.contains("BadPassword"), "{scheme} {hash}: {told}");
    }
}
