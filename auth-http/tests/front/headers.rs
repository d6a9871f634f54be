//! Who passed, as the application behind the proxy reads it.

use auth_core::{Id, LoginRule, StoredHash};

use crate::support::{BOTH, Front, basic};

fn plain(password: &str) -> Option<StoredHash> {
    Some(StoredHash::new(password.to_owned(), Some("plaintext")))
}

#[tokio::test]
async fn who_passed_is_told_in_headers_that_are_always_there() {
    let front = Front::new();
    for endpoint in BOTH {
        let answer = front.as_calvin(endpoint).await;
        answer.is(200);
        answer.has("remote-user", "calvin");
        answer.has("remote-groups", "admin,staff");
        answer.has("remote-realm", "default");
        answer.has("remote-name", "");
        answer.has("remote-email", "");
        assert_eq!(answer.body, "ok\n");

        let answer = front.get(endpoint, &[("authorization", &basic("tommy", "x"))]).await;
        answer.is(200);
        answer.has("remote-groups", "");
    }
}

#[tokio::test]
async fn headers_that_a_client_made_up_are_not_answered() {
    let front = Front::new();
    let forged = [
        ("authorization", basic("susie", "derkins")),
        ("remote-user", "root".to_owned()),
        ("remote-groups", "admin".to_owned()),
        ("remote_groups", "admin".to_owned()),
        ("remote-email", "root@example.com".to_owned()),
        ("x-forwarded-user", "root".to_owned()),
    ];
    let forged: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for endpoint in BOTH {
        let answer = front.get(endpoint, &forged).await;
        answer.is(200);
        answer.has("remote-user", "susie");
        answer.has("remote-groups", "staff");
        answer.has("remote-email", "");
    }
}

#[tokio::test]
async fn the_login_is_shown_as_the_store_spells_it() {
    let front = Front::new();
    front.store.add_user("Hobbes", Id::from(70), plain("tiger"));
    let answer = front.get("/auth/forward", &[("authorization", &basic("hOBBES", "tiger"))]).await;
    answer.is(200);
    answer.has("remote-user", "Hobbes");
}

#[tokio::test]
async fn a_name_can_not_become_two() {
    let front = Front::new();
    front.table.set("default", front.realm("default", LoginRule::Exact));
    front.store.add_user("Doe, J\u{f6}rg 100%", Id::from(71), plain("x"));
    for group in ["a,admins", "50%", "%2C", "K\u{f6}che", " domain users ", "z\r\nRemote-User: root", "z"] {
        front.store.join("Doe, J\u{f6}rg 100%", group);
    }
    let header = basic("Doe, J\u{f6}rg 100%", "x");
    for endpoint in BOTH {
        let answer = front.get(endpoint, &[("authorization", &header)]).await;
        answer.is(200);
        answer.has("remote-user", "Doe%2C J%C3%B6rg 100%25");
        let groups = "%20domain users%20,%252C,50%25,K%C3%B6che,a%2Cadmins,z,z%0D%0ARemote-User: root";
        answer.has("remote-groups", groups);
        // Nor does the demand read the escaped name.
        let demanding = format!("{endpoint}?group=admins");
        front.get(&demanding, &[("authorization", &header)]).await.is(403);
        let demanding = format!("{endpoint}?group=a%2Cadmins");
        front.get(&demanding, &[("authorization", &header)]).await.is(200);
    }
}

#[tokio::test]
async fn more_groups_than_a_header_can_carry_are_a_failure_and_not_a_shorter_list() {
    let front = Front::new();
    for n in 0..300 {
        front.store.join("tommy", &format!("{n:0250}"));
    }
    for endpoint in BOTH {
        front.get(endpoint, &[("authorization", &basic("tommy", "x"))]).await.is(500);
    }
}
