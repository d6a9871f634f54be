//! Files that change, break, vanish, or say two things.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auth_core::{
    Access, Account, AccountSource, Ctx, Error, ErrorKind, GroupOracle, Id, LoginRule, Lookup, ObjectPerms,
    Principal, RealmId, StoredHash,
};
use auth_store_file::{FileConfig, FileStore, Format};
use auth_testkit::{hash, info, login, object, principal_at, realm, realm_with};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in place.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Replaces a file as careful programs do: by renaming a new one over it.
    fn replace(&self, name: &str, text: &str) {
        let new = self.write(&format!("{name}.new"), text);
        std::fs::rename(new, self.path(name)).unwrap();
    }
}

async fn connect(config: FileConfig) -> FileStore {
    FileStore::connect(info("file"), config).await.unwrap()
}

async fn refusal(config: FileConfig) -> Error {
    FileStore::connect(info("file"), config).await.unwrap_err()
}

async fn account(store: &FileStore, text: &str) -> Option<Account> {
    store.account(&Ctx::new(), &login(text)).await.unwrap().found()
}

async fn shown_hash(store: &FileStore, text: &str) -> Option<String> {
    account(store, text).await?.hash().map(|hash| hash.as_str().to_owned())
}

fn calvin() -> Principal {
    principal_at("file", "calvin", Id::text("calvin"))
}

async fn groups(store: &FileStore, who: &Principal) -> Option<Vec<String>> {
    let groups = store.groups_of(&Ctx::new(), who).await.unwrap().found()?;
    Some(groups.iter().map(str::to_owned).collect())
}

fn kind<T>(answer: Result<T, Error>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

#[tokio::test]
async fn every_change_counts_at_the_next_question() {
    let folder = Folder::new();
    let store = connect(FileConfig::new(folder.write("htpasswd", "calvin:000\n"))).await;
    // Same length, same file, within one tick of the file system's clock.
    for n in 0..200 {
        let hash = format!("{n:03}");
        folder.write("htpasswd", &format!("calvin:{hash}\n"));
        assert_eq!(shown_hash(&store, "calvin").await, Some(hash));
    }
    for n in 0..200 {
        let hash = format!("{n:03}");
        folder.replace("htpasswd", &format!("calvin:{hash}\n"));
        assert_eq!(shown_hash(&store, "calvin").await, Some(hash));
    }
    folder.write("htpasswd", "susie:x\n");
    assert_eq!(account(&store, "calvin").await, None);
    assert!(account(&store, "susie").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_all_the_time_is_always_one_file_or_the_other() {
    let folder = Folder::new();
    let text = |user: &str, n: usize| {
        (0..2_000)
            .map(|line| format!("{user}{line}:{n}\n"))
            .chain([format!("{user}:{n}\n")])
            .collect::<String>()
    };
    let (first, second) = (text("calvin", 1), text("susie", 2));
    let store = Arc::new(connect(FileConfig::new(folder.write("htpasswd", &first))).await);
    let (over, folder) = (Arc::new(AtomicBool::new(false)), Arc::new(folder));
    let writer = tokio::task::spawn_blocking({
        let (over, folder) = (Arc::clone(&over), Arc::clone(&folder));
        move || {
            for n in 0..100 {
                folder.replace("htpasswd", if n % 2 == 0 { &second } else { &first });
            }
            over.store(true, Ordering::SeqCst);
        }
    });
    let mut asked = 0;
    while !over.load(Ordering::SeqCst) || asked < 10 {
        let shown = account(&store, "calvin").await;
        assert!(shown.is_none_or(|account| account.hash() == Some(&hash("1"))));
        asked += 1;
    }
    writer.await.unwrap();
    assert!(account(&store, "calvin").await.is_some() && account(&store, "susie").await.is_none());
    assert!(store.fault().is_none(), "{:?}", store.fault());
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_contents_and_says_so() {
    let folder = Folder::new();
    let store = connect(FileConfig::new(folder.write("users.toml", "[user.calvin]\nhash = \"old\"\n"))).await;
    let broken = [
        "[user.calvin]\nhash = s3cret\n",
        "[user.calvin]\nhassh = \"s3cret\"\n",
        "[user.calvin]\ndisabled = \"s3cret\"\n",
        "",
    ];
    for text in broken {
        folder.replace("users.toml", text);
        for _ in 0..2 {
            assert_eq!(shown_hash(&store, "calvin").await.as_deref(), Some("old"));
            let fault = store.fault().unwrap();
            let shown = format!("{fault} {fault:?}");
            assert_eq!((fault.kind(), fault.origin()), (ErrorKind::Corrupt, Some("file")));
            assert!(shown.contains("users.toml") && shown.contains("line "), "{shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(kind(store.refresh().await), Some(ErrorKind::Corrupt));
        folder.replace("users.toml", "[user.calvin]\nhash = \"old\"\n# mended\n");
        assert_eq!(shown_hash(&store, "calvin").await.as_deref(), Some("old"));
        assert!(store.fault().is_none());
    }
    folder.write("users.toml", "[user.calvin]\nhash = \"new\"\n");
    store.refresh().await.unwrap();
    assert_eq!(shown_hash(&store, "calvin").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_missing_file_keeps_the_old_contents_until_it_is_back() {
    let folder = Folder::new();
    let (users, members) =
        (folder.write("htpasswd", "calvin:x\n"), folder.write("htgroup", "staff: calvin\n"));
    let store = connect(FileConfig::new(&users).with_groups(&members)).await;
    for path in [&users, &members] {
        let aside = folder.path("aside");
        std::fs::rename(path, &aside).unwrap();
        assert_eq!(groups(&store, &calvin()).await, Some(vec!["staff".to_owned()]));
        assert!(account(&store, "calvin").await.is_some());
        assert_eq!(store.fault().map(|fault| fault.kind()), Some(ErrorKind::Misconfigured));
        std::fs::rename(&aside, path).unwrap();
        assert_eq!(groups(&store, &calvin()).await, Some(vec!["staff".to_owned()]));
        assert!(store.fault().is_none());
    }
}

#[tokio::test]
async fn a_change_of_the_group_file_alone_counts() {
    let folder = Folder::new();
    let users = folder.write("htpasswd", "calvin:x\nmoe:y\n");
    let members = folder.write("htgroup", "staff: calvin moe\nadmin: calvin\nstaff: hobbes\n");
    let store = connect(FileConfig::new(users).with_groups(members)).await;
    assert_eq!(groups(&store, &calvin()).await, Some(vec!["admin".to_owned(), "staff".to_owned()]));
    folder.replace("htgroup", "staff: moe\n");
    assert_eq!(groups(&store, &calvin()).await, Some(Vec::new()));
    folder.replace("htgroup", "staff moe\n");
    assert_eq!(groups(&store, &calvin()).await, Some(Vec::new()));
    assert!(store.fault().unwrap().to_string().contains("htgroup"));
}

#[tokio::test]
async fn two_users_with_one_login_are_nobody() {
    let folder = Folder::new();
    let (mapped, exact) = (realm(), realm_with("exact", LoginRule::Exact));
    let ask = async |store: &FileStore, realm: &RealmId, text: &str| {
        let login = auth_core::Login::parse(realm, text).unwrap();
        store.account(&Ctx::new(), &login).await
    };
    let twice = connect(FileConfig::new(folder.write("a", "calvin:x\ncalvin:y\nsusie:z\n"))).await;
    for realm in [&mapped, &exact] {
        assert_eq!(kind(ask(&twice, realm, "calvin").await), Some(ErrorKind::Ambiguous));
        assert!(ask(&twice, realm, "susie").await.unwrap().found().is_some());
    }
    assert_eq!(kind(twice.groups_of(&Ctx::new(), &calvin()).await), Some(ErrorKind::Ambiguous));

    let spelled = folder.write("b.toml", "[user.calvin]\nhash = \"x\"\n[user.Calvin]\nhash = \"y\"\n");
    let spelled = connect(FileConfig::new(spelled)).await;
    assert_eq!(kind(ask(&spelled, &mapped, "calvin").await), Some(ErrorKind::Ambiguous));
    assert_eq!(kind(ask(&spelled, &mapped, "CALVIN").await), Some(ErrorKind::Ambiguous));
    let found = ask(&spelled, &exact, "Calvin").await.unwrap().found().unwrap();
    assert_eq!(found.hash().map(StoredHash::as_str), Some("y"));
}

#[tokio::test]
async fn logins_are_compared_in_the_normal_form_and_shown_as_written() {
    let folder = Folder::new();
    let users = folder.write("htpasswd", "Calvin:x\n");
    let store = connect(FileConfig::new(users).with_groups(folder.write("htgroup", "staff: CALVIN\n"))).await;
    let found = account(&store, "cAlViN").await.unwrap();
    assert_eq!((found.principal().shown(), found.principal().id()), ("Calvin", &Id::text("Calvin")));
    assert_eq!(groups(&store, found.principal()).await, Some(vec!["staff".to_owned()]));
    let exact = realm_with("exact", LoginRule::Exact);
    let other = auth_core::Login::parse(&exact, "calvin").unwrap();
    assert_eq!(store.account(&Ctx::new(), &other).await.unwrap(), Lookup::NotFound);
}

#[tokio::test]
async fn people_of_other_sources_have_nothing_here() {
    let folder = Folder::new();
    let text = "[user.calvin]\ngroups = [\"staff\"]\n[object.doc.1]\nread = [\"calvin\"]\n";
    let store = connect(FileConfig::new(folder.write("users.toml", text))).await;
    let (ctx, doc) = (Ctx::new(), object("doc", 1));
    assert_eq!(store.access(&ctx, &calvin(), &doc, None).await.unwrap(), Access::Allow);
    let twin = principal_at("ldap", "calvin", Id::text("calvin"));
    assert_eq!(groups(&store, &twin).await, None);
    assert_eq!(store.access(&ctx, &twin, &doc, None).await.unwrap(), Access::Deny);
}

#[tokio::test]
async fn an_object_with_an_id_of_several_parts_is_found_by_all_of_them() {
    let folder = Folder::new();
    let text = "[user.calvin]\n[object.page.wiki.42]\nread = [\"calvin\"]\n";
    let store = connect(FileConfig::new(folder.write("users.toml", text))).await;
    let check = async |id: Vec<Id>, expected: Access| {
        let page = auth_core::ObjectRef::new("page", id).unwrap();
        assert_eq!(
            store.access(&Ctx::new(), &calvin(), &page, Some("read")).await.unwrap(),
            expected,
            "{page}"
        );
    };
    check(vec![Id::from("wiki"), Id::from(42)], Access::Allow).await;
    check(vec![Id::from("wiki"), Id::from("42")], Access::Allow).await;
    check(vec![Id::from("wiki,42")], Access::NotFound).await;
    check(vec![Id::from("wiki")], Access::NotFound).await;
    check(vec![Id::from("wiki"), Id::from(42), Id::from(1)], Access::NotFound).await;
    assert_eq!(store.domains(), ["page"]);
}

#[tokio::test]
async fn an_htpasswd_file_says_what_it_can_not_do() {
    let folder = Folder::new();
    let store = connect(FileConfig::new(folder.write("htpasswd", "calvin:x\n"))).await;
    let (ctx, who) = (Ctx::new(), calvin());
    let answer = store.access(&ctx, &who, &object("doc", 1), None).await;
    assert_eq!(kind(answer), Some(ErrorKind::Unsupported));
    assert_eq!(
        kind(store.replace_hash(&ctx, &who, &hash("x"), &hash("y")).await),
        Some(ErrorKind::Unsupported)
    );
    assert!(store.domains().is_empty());
    assert_eq!(groups(&store, &who).await, Some(Vec::new()));
}

#[tokio::test]
async fn a_scheme_is_told_where_a_hash_names_none() {
    let folder = Folder::new();
    let users = folder.write("htpasswd", "calvin:hobbes\nsusie:{SSHA}abc=\nmoe:\n");
    let store = connect(FileConfig::new(users).with_scheme("plaintext")).await;
    let scheme = async |text| {
        let account = account(&store, text).await.unwrap();
        account.hash().map(|hash| hash.scheme().map(str::to_owned))
    };
    assert_eq!(scheme("calvin").await, Some(Some("plaintext".to_owned())));
    assert_eq!(scheme("susie").await, Some(None));
    assert_eq!(scheme("moe").await, None);
}

#[tokio::test]
async fn a_file_that_can_not_be_read_is_refused_at_the_start() {
    let folder = Folder::new();
    let check = async |config: FileConfig, kind: ErrorKind, hint: &str| {
        let error = refusal(config).await;
        assert_eq!((error.kind(), error.origin()), (kind, Some("file")), "{error:?}");
        assert!(error.to_string().contains(hint), "{error}");
    };
    let good = folder.write("good", "calvin:x\n");
    check(FileConfig::new(folder.path("none")), ErrorKind::Misconfigured, "no such file").await;
    check(FileConfig::new(folder.0.path()), ErrorKind::Misconfigured, "not a regular file").await;
    let bad = folder.write("bad", "calvin:x\ncalvin\n");
    check(FileConfig::new(bad), ErrorKind::Corrupt, "line 2").await;
    let mut small = FileConfig::new(&good);
    small.max_bytes = 8;
    check(small, ErrorKind::Misconfigured, "max_bytes").await;
    let latin = folder.path("latin");
    std::fs::write(&latin, b"calvin:x\nzo\xe9:y\n").unwrap();
    check(FileConfig::new(latin), ErrorKind::Corrupt, "line 2").await;
    let both = FileConfig::new(folder.write("users.toml", "")).with_groups(&good);
    check(both, ErrorKind::Misconfigured, "`groups`").await;
    let groups = FileConfig::new(&good).with_groups(folder.path("none"));
    check(groups, ErrorKind::Misconfigured, "no such file").await;
    let other = FileConfig::new(&good).with_format(Format::Toml);
    check(other, ErrorKind::Corrupt, "line 1").await;
}

#[tokio::test]
async fn a_new_file_may_be_empty() {
    let folder = Folder::new();
    for name in ["htpasswd", "users.toml"] {
        let store = connect(FileConfig::new(folder.write(name, ""))).await;
        assert_eq!(account(&store, "calvin").await, None);
        assert!(store.fault().is_none());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_anybody_may_write_is_refused() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.write("htpasswd", "calvin:old\n");
    set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let error = refusal(FileConfig::new(&path)).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("chmod"), "{error}");

    set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    let store = connect(FileConfig::new(&path)).await;
    set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
    std::fs::write(&path, "calvin:new\n").unwrap();
    assert_eq!(shown_hash(&store, "calvin").await.as_deref(), Some("old"));
    assert_eq!(store.fault().map(|fault| fault.kind()), Some(ErrorKind::Misconfigured));
}

#[test]
fn settings_refuse_what_they_do_not_know() {
    let read = |text: &str| toml::from_str::<FileConfig>(text);
    let config = read("path = \"users\"\nformat = \"htpasswd\"\ngroups = \"g\"").unwrap();
    assert_eq!((config.format, config.max_bytes), (Some(Format::Htpasswd), 16 << 20));
    assert!(read("path = \"users\"\nformt = \"toml\"").is_err());
    assert!(read("path = \"users\"\nformat = \"csv\"").is_err());
    assert!(read("format = \"toml\"").is_err());
}

#[tokio::test]
async fn nothing_of_a_file_is_printed() {
    let folder = Folder::new();
    let store = connect(FileConfig::new(folder.write("htpasswd", "calvin:s3cret\n"))).await;
    account(&store, "calvin").await;
    assert!(!format!("{store:?}").contains("s3cret"));
}

#[tokio::test]
async fn two_lines_for_one_login_of_a_passwd_or_shadow_file_are_nobody() {
    let folder = Folder::new();
    let passwd = "calvin:x:1:1\nsusie:x:2:1\nmoe:x:3:1\nMoe:x:4:1\n";
    let passwd = folder.write("passwd", passwd);
    let shadow = folder.write("shadow", "calvin:$6$a\nsusie:$6$b\ncalvin:$6$c\n");
    let both = connect(FileConfig::new(&passwd).with_format(Format::Passwd).with_shadow(&shadow)).await;
    let alone = connect(FileConfig::new(&shadow).with_format(Format::Shadow)).await;
    for store in [&both, &alone] {
        let asked = store.account(&Ctx::new(), &login("calvin")).await;
        assert_eq!(kind(asked), Some(ErrorKind::Ambiguous));
        assert_eq!(shown_hash(store, "susie").await.as_deref(), Some("$6$b"));
    }
    assert_eq!(kind(both.account(&Ctx::new(), &login("moe")).await), Some(ErrorKind::Ambiguous));
    let calvin = principal_at("file", "calvin", Id::from(1));
    assert_eq!(kind(both.groups_of(&Ctx::new(), &calvin).await), Some(ErrorKind::Ambiguous));
}

#[tokio::test]
async fn a_change_of_the_shadow_file_alone_counts() {
    let folder = Folder::new();
    let passwd = folder.write("passwd", "calvin:x:1:1\n");
    let shadow = folder.write("shadow", "calvin:a\n");
    let store = connect(FileConfig::new(&passwd).with_format(Format::Passwd).with_shadow(&shadow)).await;
    for n in 0..20 {
        folder.replace("shadow", &format!("calvin:h{n}\n"));
        assert_eq!(shown_hash(&store, "calvin").await, Some(format!("h{n}")));
    }
    std::fs::remove_file(&shadow).unwrap();
    assert_eq!(shown_hash(&store, "calvin").await.as_deref(), Some("h19"));
    assert!(store.fault().is_some(), "a file that is gone is a fault, and locks nobody out");
    folder.write("shadow", "calvin:!h20\n");
    let account = account(&store, "calvin").await.unwrap();
    assert_eq!(account.state().lock, auth_core::Lock::Locked);
    let error = refusal(FileConfig::new(&passwd).with_shadow(&shadow)).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "an htpasswd file has none beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&shadow, std::fs::Permissions::from_mode(0o666)).unwrap();
        let open = FileConfig::new(&passwd).with_format(Format::Passwd).with_shadow(&shadow);
        assert_eq!(refusal(open).await.kind(), ErrorKind::Misconfigured, "anybody may write it");
    }
}
