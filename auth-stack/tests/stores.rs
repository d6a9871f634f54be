//! The built-in kinds, composed: SQLite with its own tables, SQLite with yours, and files, in one realm.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;

use std::path::Path;

use auth_core::{Access, Ctx, Directory, Login, Member, NewUser, Verdict};
use auth_stack::Stack;
use auth_testkit::{World, object};
use common::{attempt, caches, told, who};

/// The columns of an account in your tables; calvin there is number 7 and called `Calvin` nowhere else.
const YOURS: &str = "SELECT :login AS login, 7 AS id, NULL AS hash WHERE :login = 'calvin'";

fn config(folder: &Path) -> String {
    let calvin = World::user("calvin").hash.unwrap();
    let (office, teams, leavers) =
        (folder.join("htpasswd"), folder.join("htgroup"), folder.join("leavers.toml"));
    std::fs::write(&office, format!("hobbes:{calvin}\nmoe:{calvin}\ncalvin:{calvin}\n")).unwrap();
    std::fs::write(&teams, "tigers: hobbes calvin\n").unwrap();
    std::fs::write(&leavers, "[user.moe]\n").unwrap();
    format!(
        "[password]\nargon2 = {{ memory_kib = 64, passes = 1 }}\n\
         [source.people]\nkind = \"sql\"\nurl = 'sqlite:{folder}/people.db'\n\
         [source.office]\nkind = \"file\"\npath = '{office}'\ngroups = '{teams}'\n\
         [source.leavers]\nkind = \"file\"\npath = '{leavers}'\nrole = \"deny\"\n\
         [source.yours]\nkind = \"sql\"\nurl = \"sqlite::memory:\"\n\
         [source.yours.query]\naccount = \"{YOURS}\"\n\
         groups = \"SELECT 'g' || :id AS name WHERE :id = 7\"\n\
         link = \"SELECT 'calvin' AS login WHERE :source = 'people' AND :login = 'susie'\"\n\
         [source.yours.object.page]\nexists = \"SELECT :object = '1'\"\naccess = \"SELECT :id = 7 AND :mode = 'read'\"\n\
         [realm.default]\npassword = [\"leavers\", \"people\", \"office\"]\n\
         groups = [\"people\", \"office\", \"yours\"]\n\
         objects = {{ page = \"yours\", \"*\" = \"people\" }}\nlink = {{ office = \"login\", yours = \"query\" }}\n",
        folder = folder.display(),
        office = office.display(),
        teams = teams.display(),
        leavers = leavers.display(),
    )
}

async fn stack(folder: &Path, cache: &str) -> Stack {
    Stack::builder()
        .config(&config(folder))
        .data(folder.join("none"))
        .var("CACHE", cache)
        .build()
        .await
        .unwrap()
}

async fn groups(stack: &Stack, login: &str) -> Vec<String> {
    let person = who(stack, login).await;
    let groups = stack.realm("default").unwrap().groups(&Ctx::new(), &person).await.unwrap();
    groups.iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn stores_of_every_kind_answer_in_one_realm_with_every_cache() {
    for cache in caches() {
        let folder = tempfile::tempdir().unwrap();
        let stack = stack(folder.path(), cache).await;
        let directory = stack.directory("default").unwrap();
        assert_eq!(&**directory.source().name(), "people", "the first that can be written to and decides");
        let realm = stack.realm("default").unwrap();
        let login = |text: &str| Login::parse(realm.id(), text).unwrap();
        for (name, groups) in [("susie", vec!["staff".to_owned()]), ("calvin", Vec::new())] {
            let user = NewUser { login: login(name), hash: World::user("susie").stored_hash(), groups };
            directory.add_user(&Ctx::new(), &user).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(told(&stack, "susie", "derkins").await, "people", "{cache}");
            assert_eq!(told(&stack, "hobbes", "hobbes").await, "office", "{cache}");
            assert_eq!(told(&stack, "moe", "hobbes").await, "disabled", "{cache}");
            // The calvin of the earlier source is meant.
            assert_eq!(told(&stack, "calvin", "derkins").await, "people", "{cache}");
            assert_eq!(told(&stack, "calvin", "hobbes").await, "bad_password", "{cache}");
            // By login at the office, by the mapping query at yours, and of one's own source always.
            assert_eq!(groups(&stack, "susie").await, ["g7", "staff"], "{cache}");
            assert_eq!(groups(&stack, "calvin").await, ["tigers"], "{cache}");
            assert_eq!(groups(&stack, "hobbes").await, ["tigers"], "{cache}");
        }
        let susie = who(&stack, "susie").await;
        let calvin = who(&stack, "calvin").await;
        let page = object("page", 1);
        let access = async |who, mode| realm.access(&Ctx::new(), who, &page, Some(mode)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(access(&susie, "read").await, Access::Allow, "{cache}");
            assert_eq!(access(&susie, "burn").await, Access::Deny, "{cache}");
            assert_eq!(access(&calvin, "read").await, Access::Deny, "{cache}");
        }
        // A domain that the managed tables have not declared yet is an error, then an answer.
        let doc = object("doc", 1);
        realm.access(&Ctx::new(), &susie, &doc, Some("read")).await.unwrap_err();
        directory.add_object(&Ctx::new(), &doc).await.unwrap();
        directory.grant(&Ctx::new(), &login("susie"), &doc, "read").await.unwrap();
        assert_eq!(realm.access(&Ctx::new(), &susie, &doc, Some("read")).await.unwrap(), Access::Allow);
        directory.revoke(&Ctx::new(), &login("susie"), &doc, "read").await.unwrap();
        assert_eq!(realm.access(&Ctx::new(), &susie, &doc, Some("read")).await.unwrap(), Access::Deny);
        directory.leave(&Ctx::new(), &login("susie"), "staff").await.unwrap();
        assert_eq!(realm.is_member(&Ctx::new(), &susie, "staff").await.unwrap(), Member::No);
        directory.delete_user(&Ctx::new(), &login("calvin")).await.unwrap();
        assert_eq!(told(&stack, "calvin", "hobbes").await, "office", "{cache}");
        assert!(stack.probe().await.iter().all(auth_stack::SourceReport::is_up));
    }
}

#[tokio::test]
async fn a_managed_store_upgrades_a_hash_once_and_the_next_login_works() {
    for cache in caches() {
        let folder = tempfile::tempdir().unwrap();
        let stack = stack(folder.path(), cache).await;
        let directory = stack.directory("default").unwrap();
        let login = Login::parse(stack.realm("default").unwrap().id(), "susie").unwrap();
        let user = NewUser { login, hash: World::user("susie").stored_hash(), groups: Vec::new() };
        directory.add_user(&Ctx::new(), &user).await.unwrap();
        let mut jobs = Vec::new();
        for _ in 0..3 {
            let before = stack.hashing().jobs;
            let verdict = attempt(&stack, "susie", "derkins").await.unwrap();
            assert!(matches!(verdict, Verdict::Accepted(_)), "{cache}");
            jobs.push(stack.hashing().jobs - before);
        }
        // One to verify and one to make; then one, which a cache remembers.
        assert_eq!(jobs, if cache == "none" { [2, 1, 1] } else { [2, 1, 0] }, "{cache}");
    }
}

#[tokio::test]
async fn a_mapping_query_that_fails_is_no_answer_and_turns_its_source_red() {
    let folder = tempfile::tempdir().unwrap();
    let text = config(folder.path())
        .replace("SELECT 'calvin' AS login WHERE", "SELECT 'not a login' AS login WHERE");
    let stack = Stack::builder().config(&text).build().await.unwrap();
    let directory = stack.directory("default").unwrap();
    let realm = stack.realm("default").unwrap();
    let login = Login::parse(realm.id(), "susie").unwrap();
    let user = NewUser { login, hash: World::user("susie").stored_hash(), groups: Vec::new() };
    directory.add_user(&Ctx::new(), &user).await.unwrap();
    let susie = who(&stack, "susie").await;
    realm.groups(&Ctx::new(), &susie).await.unwrap_err();
    realm.access(&Ctx::new(), &susie, &object("page", 1), Some("read")).await.unwrap_err();
    let yours = stack.sources().into_iter().find(|source| source.name == "yours").unwrap();
    assert_eq!(yours.health.errors, 2);
}
