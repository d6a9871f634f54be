//! Cases for password sources.

use auth_core::{Account, Ctx, ErrorKind, Login, Lookup, Password, PasswordSource, Reject, Verdict};

use super::{Bench, NOBODY, cases, every_plane, told};
use crate::{Standing, User, World, password};

cases! {
    /// Lists the cases for a [`PasswordSource`].
    pub password_cases, dyn PasswordSource, Bench:
    a_right_password_is_accepted_as_the_person_asked_for,
    a_wrong_password_is_a_bad_password,
    an_unknown_login_is_unknown,
    look_alikes_find_nobody,
    every_spelling_of_a_login_finds_its_person,
    a_password_is_compared_to_its_last_byte,
    no_other_persons_password_will_do,
    the_state_of_an_account_is_told_after_a_right_password,
    the_state_of_an_account_is_hidden_from_a_wrong_password,
    a_person_without_a_password_is_refused,
    an_account_is_the_person_that_verify_accepts,
    the_account_of_an_unknown_login_is_not_found,
    any_unicode_is_at_worst_a_clean_no,
    what_is_peeked_is_what_is_answered,
    an_abandoned_question_leaves_the_source_usable,
    questions_at_the_same_time_do_not_mix,
}

async fn ask(source: &dyn PasswordSource, login: &Login, password: &Password) -> Verdict {
    told(&format!("verify {login:?}"), source.verify(&Ctx::new(), login, password).await)
}

#[track_caller]
fn check(source: &dyn PasswordSource, login: &Login, verdict: &Verdict, expected: Reject) {
    let expected = match expected {
        Reject::UnknownUser | Reject::NoPassword if !source.source().capabilities().tells_unknown => {
            let soft = [Reject::UnknownUser, Reject::NoPassword, Reject::BadPassword];
            let Verdict::Rejected(reject) = verdict else {
                panic!("{login:?} must be refused, not {verdict:?}")
            };
            assert!(soft.contains(reject), "{login:?}: {reject} tells more than this source can know");
            return;
        }
        expected => Verdict::Rejected(expected),
    };
    assert_eq!(*verdict, expected, "{login:?}");
}

#[track_caller]
fn check_accepted(bench: &Bench, user: &User, verdict: &Verdict) {
    let Verdict::Accepted(who) = verdict else {
        panic!("the right password of {} must be accepted, not {verdict:?}", user.login)
    };
    assert_eq!(*who.login(), user.login_in(bench.realm()), "somebody else was accepted");
}

fn wrong() -> Password {
    password("this is nobody's password")
}

fn open(user: &User) -> bool {
    matches!(user.standing, Standing::Open | Standing::EndsLater) && user.password.is_some()
}

fn refusal(standing: Standing) -> Option<Reject> {
    match standing {
        Standing::Open | Standing::EndsLater => None,
        Standing::Disabled => Some(Reject::Disabled),
        Standing::Locked => Some(Reject::Locked),
        Standing::Expired => Some(Reject::AccountExpired),
        Standing::MustChange => Some(Reject::MustChange),
    }
}

/// The account, where the source can tell.
async fn account(source: &dyn PasswordSource, login: &Login) -> Option<Lookup<Account>> {
    match source.account(&Ctx::new(), login).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        answer => Some(told(&format!("account {login:?}"), answer)),
    }
}

async fn a_right_password_is_accepted_as_the_person_asked_for(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users().filter(|user| open(user)) {
        let verdict = ask(source, &user.login_in(bench.realm()), &user.password()).await;
        check_accepted(bench, user, &verdict);
    }
}

async fn a_wrong_password_is_a_bad_password(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users().filter(|user| user.password.is_some()) {
        let login = user.login_in(bench.realm());
        check(source, &login, &ask(source, &login, &wrong()).await, Reject::BadPassword);
    }
}

async fn an_unknown_login_is_unknown(source: &dyn PasswordSource, bench: &Bench) {
    let login = NOBODY.login_in(bench.realm());
    for password in [NOBODY.password(), wrong()] {
        check(source, &login, &ask(source, &login, &password).await, Reject::UnknownUser);
    }
    let longest = bench.login(&"n".repeat(255));
    check(source, &longest, &ask(source, &longest, &wrong()).await, Reject::UnknownUser);
}

async fn look_alikes_find_nobody(source: &dyn PasswordSource, bench: &Bench) {
    for login in bench.look_alikes() {
        let verdict = ask(source, &login, &World::user("calvin").password()).await;
        check(source, &login, &verdict, Reject::UnknownUser);
        if let Some(Lookup::Found(account)) = account(source, &login).await {
            panic!("{login:?} found {:?}", account.principal());
        }
    }
}

async fn every_spelling_of_a_login_finds_its_person(source: &dyn PasswordSource, bench: &Bench) {
    for (text, user) in bench.spellings() {
        let verdict = ask(source, &bench.login(text), &user.password()).await;
        check_accepted(bench, user, &verdict);
    }
}

async fn a_password_is_compared_to_its_last_byte(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users().filter(|user| open(user)) {
        let login = user.login_in(bench.realm());
        let right = user.password();
        let right = right.as_bytes();
        let (_, head) = right.split_last().expect("no password is empty");
        let spellings = [
            head.to_vec(),
            [head, b"~"].concat(),
            [right, b" "].concat(),
            [right, b"\n"].concat(),
            [b" ", right].concat(),
        ];
        for other in spellings.into_iter().filter_map(|bytes| Password::new(bytes).ok()) {
            check(source, &login, &ask(source, &login, &other).await, Reject::BadPassword);
        }
    }
}

async fn no_other_persons_password_will_do(source: &dyn PasswordSource, bench: &Bench) {
    let calvin = bench.login("calvin");
    for other in bench.users().filter(|user| user.login != "calvin" && user.password.is_some()) {
        check(source, &calvin, &ask(source, &calvin, &other.password()).await, Reject::BadPassword);
    }
}

async fn the_state_of_an_account_is_told_after_a_right_password(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users() {
        if let Some(reject) = refusal(user.standing) {
            let login = user.login_in(bench.realm());
            check(source, &login, &ask(source, &login, &user.password()).await, reject);
        }
    }
}

async fn the_state_of_an_account_is_hidden_from_a_wrong_password(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users().filter(|user| refusal(user.standing).is_some()) {
        let login = user.login_in(bench.realm());
        check(source, &login, &ask(source, &login, &wrong()).await, Reject::BadPassword);
    }
}

async fn a_person_without_a_password_is_refused(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users().filter(|user| user.password.is_none()) {
        let login = user.login_in(bench.realm());
        check(source, &login, &ask(source, &login, &wrong()).await, Reject::NoPassword);
    }
}

async fn an_account_is_the_person_that_verify_accepts(source: &dyn PasswordSource, bench: &Bench) {
    for user in bench.users() {
        let login = user.login_in(bench.realm());
        let Some(found) = account(source, &login).await else { return };
        let Lookup::Found(found) = found else { panic!("{login:?} must have an account") };
        assert_eq!(*found.principal().login(), login, "the account is somebody else's");
        if open(user) {
            let verdict = ask(source, &login, &user.password()).await;
            assert_eq!(verdict, Verdict::Accepted(found.principal().clone()), "verify and account differ");
        }
    }
}

async fn the_account_of_an_unknown_login_is_not_found(source: &dyn PasswordSource, bench: &Bench) {
    if let Some(found) = account(source, &NOBODY.login_in(bench.realm())).await {
        assert_eq!(found, Lookup::NotFound, "nobody has an account");
    }
}

async fn any_unicode_is_at_worst_a_clean_no(source: &dyn PasswordSource, bench: &Bench) {
    let calvin = World::user("calvin");
    let known = calvin.login_in(bench.realm());
    for text in every_plane() {
        if let Ok(login) = Login::parse(bench.realm(), &text)
            && World::users().iter().all(|user| user.login != login.as_str())
        {
            check(source, &login, &ask(source, &login, &calvin.password()).await, Reject::UnknownUser);
        }
    }
    let texts = every_plane().map(String::into_bytes);
    let not_text = [b"\xff\xfe".to_vec(), b"hobbes\xc3".to_vec(), vec![0x80; 1024], (1..=255).collect()];
    // Each costs a hash; one in five is enough to meet every plane.
    for bytes in texts.step_by(5).chain(not_text) {
        if let Ok(password) = Password::new(bytes) {
            check(source, &known, &ask(source, &known, &password).await, Reject::BadPassword);
        }
    }
}

async fn what_is_peeked_is_what_is_answered(source: &dyn PasswordSource, bench: &Bench) {
    let ctx = Ctx::new();
    for user in bench.users().chain([&NOBODY]) {
        let login = user.login_in(bench.realm());
        for password in user.password.map(|_| user.password()).into_iter().chain([wrong()]) {
            let before = source.peek_verify(&ctx, &login, &password);
            let verdict = ask(source, &login, &password).await;
            for peeked in [before, source.peek_verify(&ctx, &login, &password)].into_iter().flatten() {
                assert_eq!(peeked, verdict, "{login:?}: peek_verify and verify differ");
            }
        }
        let before = source.peek_account(&ctx, &login);
        let Some(answer) = account(source, &login).await else { continue };
        for peeked in [before, source.peek_account(&ctx, &login)].into_iter().flatten() {
            assert_eq!(peeked, answer, "{login:?}: peek_account and account differ");
        }
    }
}

async fn an_abandoned_question_leaves_the_source_usable(source: &dyn PasswordSource, bench: &Bench) {
    let calvin = World::user("calvin");
    let (ctx, login, password) = (Ctx::new(), calvin.login_in(bench.realm()), calvin.password());
    // A wrong password is the one that no memory answers.
    let wrong = wrong();
    for (polls, password) in (0..4).flat_map(|polls| [(polls, &password), (polls, &wrong)]) {
        let mut question = source.verify(&ctx, &login, password);
        for _ in 0..polls {
            if futures_util::FutureExt::now_or_never(&mut question).is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    check(source, &login, &ask(source, &login, &wrong).await, Reject::BadPassword);
    check_accepted(bench, calvin, &ask(source, &login, &password).await);
}

async fn questions_at_the_same_time_do_not_mix(source: &dyn PasswordSource, bench: &Bench) {
    let questions = (0..24).map(|n| async move {
        let user = World::user(if n % 2 == 0 { "calvin" } else { "susie" });
        let login = user.login_in(bench.realm());
        if n % 3 == 0 {
            check(source, &login, &ask(source, &login, &wrong()).await, Reject::BadPassword);
        } else {
            check_accepted(bench, user, &ask(source, &login, &user.password()).await);
        }
    });
    futures_util::future::join_all(questions).await;
}
