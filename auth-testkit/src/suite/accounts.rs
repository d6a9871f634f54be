//! Cases for stores that show accounts.

use std::collections::HashSet;

use auth_core::{Account, AccountSource, Ctx, ErrorKind, Login, Lookup, StoredHash};

use super::{Bench, NOBODY, cases, every_plane, told};
use crate::{World, hash};

cases! {
    /// Lists the cases for an [`AccountSource`].
    pub account_cases, dyn AccountSource, Bench:
    an_account_shows_who_and_in_what_state,
    an_account_shows_its_stored_hash,
    every_person_has_an_id_of_their_own,
    an_unknown_login_has_no_account,
    look_alikes_have_no_account,
    every_spelling_of_a_login_shows_its_account,
    any_unicode_is_at_worst_not_found,
    what_is_peeked_is_what_is_shown,
    a_hash_is_replaced_only_if_it_is_still_the_old_one,
    a_strangers_hash_is_not_replaced,
}

async fn ask(source: &dyn AccountSource, login: &Login) -> Lookup<Account> {
    told(&format!("account {login:?}"), source.account(&Ctx::new(), login).await)
}

async fn show(source: &dyn AccountSource, login: &Login) -> Account {
    let Lookup::Found(account) = ask(source, login).await else { panic!("{login:?} must have an account") };
    assert_eq!(account.principal().login(), login, "the account is somebody else's");
    assert_eq!(account.principal().source(), source.source().name(), "the principal is another source's");
    account
}

async fn an_account_shows_who_and_in_what_state(source: &dyn AccountSource, bench: &Bench) {
    for user in bench.users() {
        let account = show(source, &user.login_in(bench.realm())).await;
        assert_eq!(*account.principal(), bench.principal(source.source(), user));
        assert_eq!(*account.state(), user.state(), "{}", user.login);
    }
}

async fn an_account_shows_its_stored_hash(source: &dyn AccountSource, bench: &Bench) {
    for user in bench.users() {
        let account = show(source, &user.login_in(bench.realm())).await;
        assert_eq!(account.hash().map(StoredHash::as_str), user.hash, "{}", user.login);
    }
}

async fn every_person_has_an_id_of_their_own(source: &dyn AccountSource, bench: &Bench) {
    let mut ids = HashSet::new();
    for user in bench.users() {
        let account = show(source, &user.login_in(bench.realm())).await;
        let id = account.principal().id().clone();
        assert!(ids.insert(id), "{} has an id that somebody else has", user.login);
        let again = show(source, &user.login_in(bench.realm())).await;
        assert_eq!(again.principal(), account.principal(), "the same question, another person");
    }
}

async fn an_unknown_login_has_no_account(source: &dyn AccountSource, bench: &Bench) {
    for text in ["nobody", &"n".repeat(255)] {
        assert_eq!(ask(source, &bench.login(text)).await, Lookup::NotFound, "{text}");
    }
}

async fn look_alikes_have_no_account(source: &dyn AccountSource, bench: &Bench) {
    for login in bench.look_alikes() {
        assert_eq!(ask(source, &login).await, Lookup::NotFound, "{login:?}");
    }
}

async fn every_spelling_of_a_login_shows_its_account(source: &dyn AccountSource, bench: &Bench) {
    for (text, user) in bench.spellings() {
        let account = show(source, &bench.login(text)).await;
        assert_eq!(account.principal().login().as_str(), user.login);
    }
}

async fn any_unicode_is_at_worst_not_found(source: &dyn AccountSource, bench: &Bench) {
    for login in every_plane().filter_map(|text| Login::parse(bench.realm(), &text).ok()) {
        if World::users().iter().all(|user| user.login != login.as_str()) {
            assert_eq!(ask(source, &login).await, Lookup::NotFound, "{login:?}");
        }
    }
}

async fn what_is_peeked_is_what_is_shown(source: &dyn AccountSource, bench: &Bench) {
    let ctx = Ctx::new();
    for user in bench.users().chain([&NOBODY]) {
        let login = user.login_in(bench.realm());
        let before = source.peek_account(&ctx, &login);
        let answer = ask(source, &login).await;
        for peeked in [before, source.peek_account(&ctx, &login)].into_iter().flatten() {
            assert_eq!(peeked, answer, "{login:?}: peek_account and account differ");
        }
    }
}

/// Puts a hash there and back, so that the suite leaves the world as it was.
async fn a_hash_is_replaced_only_if_it_is_still_the_old_one(source: &dyn AccountSource, bench: &Bench) {
    let (ctx, susie) = (Ctx::new(), World::user("susie"));
    let account = show(source, &susie.login_in(bench.realm())).await;
    let (who, old) = (account.principal(), account.hash().expect("susie has a password").clone());
    let new = hash(World::user("calvin").hash.expect("calvin has a password"));
    let replace = async |from: &StoredHash, to: &StoredHash| source.replace_hash(&ctx, who, from, to).await;
    if !source.source().capabilities().replaces_hash {
        let error = replace(&old, &new).await.expect_err("a source that can't write says so");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        return;
    }
    assert!(
        !told("replace another hash", replace(&new, &old).await),
        "a hash was replaced that is not there"
    );
    assert!(told("replace the hash", replace(&old, &new).await), "the hash was not replaced");
    assert!(!told("replace the hash twice", replace(&old, &new).await), "a hash was replaced that has gone");
    assert!(told("put the hash back", replace(&new, &old).await), "the hash was not put back");
}

async fn a_strangers_hash_is_not_replaced(source: &dyn AccountSource, bench: &Bench) {
    let (ctx, calvin) = (Ctx::new(), World::user("calvin"));
    let old = calvin.stored_hash().expect("calvin has a password");
    let stranger = bench.principal(source.source(), &NOBODY);
    let answer = source.replace_hash(&ctx, &stranger, &old, &hash("$never$written")).await;
    if source.source().capabilities().replaces_hash {
        assert!(!told("replace a stranger's hash", answer), "the hash of a stranger was replaced");
    }
    let shown = show(source, &calvin.login_in(bench.realm())).await;
    assert_eq!(shown.hash().map(StoredHash::as_str), calvin.hash, "calvin's hash has changed");
}
