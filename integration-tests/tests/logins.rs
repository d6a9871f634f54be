//! Everybody who has a hash of the vectors logs in, and nobody with a wrong password: three ways.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use auth_core::{Ctx, Verdict};
use auth_stack::Stack;
use integration_tests::{Gatepost, Nginx, People, htpasswd_people, in_parallel, skipped, sqlite_people};

/// People, right passwords and wrong ones: a list that has become shorter shows nothing.
#[track_caller]
fn check_counts(stores: &[(Gatepost, People)], stores_people_right_wrong: (usize, usize, usize, usize)) {
    let attempts: Vec<_> = stores.iter().flat_map(|(_, people)| people.attempts()).collect();
    let people = stores.iter().map(|(_, people)| people.0.len()).sum();
    let right = attempts.iter().filter(|attempt| attempt.right).count();
    assert_eq!((stores.len(), people, right, attempts.len() - right), stores_people_right_wrong);
    let typed =
        |what: fn(&str) -> bool| attempts.iter().any(|attempt| attempt.right && what(&attempt.password));
    assert!(typed(|password| !password.is_ascii()), "passwords beyond ASCII are among them");
    assert!(typed(|password| password.starts_with(' ')), "passwords with blanks are among them");
}

fn on_the_command_line(stores: &[(Gatepost, People)], source: &str) {
    for (gatepost, people) in stores {
        in_parallel(people.attempts(), |attempt| {
            let args = ["check", "password", &attempt.login, "--realm", "acme"];
            let row = gatepost.json(&args, attempt.password.as_bytes(), i32::from(!attempt.right));
            let told = (row["decision"].as_str().unwrap(), row["login"].as_str().unwrap());
            if attempt.right {
                assert_eq!(told, ("accepted", attempt.login.as_str()), "{attempt:?}");
                assert_eq!(row["source"], source);
                assert!(row["id"].is_i64() || row["id"].is_string(), "{row}");
            } else {
                assert_eq!(told, ("rejected", attempt.login.as_str()), "{attempt:?}");
                assert_eq!(row["reason"], "bad_password");
            }
            assert_eq!(row["cache"], "miss");
            assert!(row["elapsed_us"].is_u64(), "{row}");
        });
    }
}

fn in_the_library(stores: &[(Gatepost, People)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (gatepost, people) in stores {
        runtime.block_on(async {
            let stack = Stack::builder().config_file(gatepost.config().unwrap()).data(gatepost.data());
            let stack = stack.build().await.unwrap();
            let realm = stack.realm("acme").unwrap();
            for attempt in people.attempts() {
                let password = attempt.password.clone().into_bytes();
                let verdict = realm.attempt(&Ctx::new(), &attempt.login, password).await.unwrap();
                match verdict {
                    Verdict::Accepted(who) => assert!(attempt.right && who.shown() == attempt.login),
                    Verdict::Rejected(reason) => {
                        assert_eq!((attempt.right, reason.as_str()), (false, "bad_password"), "{attempt:?}");
                    }
                }
            }
        });
    }
}

fn behind_nginx(stores: &[(Gatepost, People)]) {
    for (gatepost, people) in stores {
        let server = gatepost.serve();
        let nginx = Nginx::start(gatepost, &server, &[""]);
        in_parallel(people.attempts(), |attempt| {
            let response = nginx.login(0, &attempt.login, &attempt.password);
            if attempt.right {
                let heard = (response.status, response.body.as_str());
                assert_eq!(heard, (200, format!("{}|", attempt.login).as_str()), "{attempt:?}");
            } else {
                assert_eq!(response.status, 401, "{attempt:?}");
                assert!(response.header("www-authenticate").unwrap().starts_with("Basic "));
            }
        });
    }
}

#[test]
fn everybody_in_sqlite_logs_in_on_the_command_line_and_in_the_library() {
    let stores = sqlite_people();
    check_counts(&stores, (6, 124, 90, 88));
    on_the_command_line(&stores, "local");
    in_the_library(&stores);
}

#[test]
fn everybody_in_sqlite_logs_in_behind_nginx() {
    if skipped("nginx") {
        return;
    }
    let stores = sqlite_people();
    check_counts(&stores, (6, 124, 90, 88));
    behind_nginx(&stores);
}

#[test]
fn everybody_in_an_htpasswd_file_logs_in_on_the_command_line_and_in_the_library() {
    let stores = htpasswd_people();
    check_counts(&stores, (3, 90, 67, 65));
    on_the_command_line(&stores, "office");
    in_the_library(&stores);
}

#[test]
fn everybody_in_an_htpasswd_file_logs_in_behind_nginx() {
    if skipped("nginx") {
        return;
    }
    let stores = htpasswd_people();
    check_counts(&stores, (3, 90, 67, 65));
    behind_nginx(&stores);
}

#[test]
fn an_unreadable_hash_is_not_imported() {
    let unreadable = integration_tests::all_vectors()
        .into_iter()
        .filter(|vector| vector.expected == integration_tests::Expected::Unreadable);
    let mut count = 0;
    for vector in unreadable {
        let args = ["user", "add", "calvin", "--hash", &vector.hash, "--scheme", &vector.scheme];
        let row = Gatepost::new().json(&args, b"", 2);
        assert_eq!(row["error"], "invalid", "{row}");
        count += 1;
    }
    assert_eq!(count, 3);
}
