//! What is told of files that somebody edits, as editors do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth_core::{AccountSource, ChangeEar, ChangeFeed, Changed, Ctx, ErrorKind, Id, Listening};
use auth_store_file::{FileConfig, FileStore, Format};
use auth_testkit::servers::stopwatch;
use auth_testkit::{info, login};

#[derive(Debug, Default)]
struct Ear(Mutex<Vec<Heard>>);

#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Changed(Vec<Changed>),
    Lost,
    Back,
}

impl Ear {
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl ChangeEar for Ear {
    fn changed(&self, what: &[Changed]) {
        self.0.lock().unwrap().push(Heard::Changed(what.to_vec()));
    }
    fn lost(&self) {
        self.0.lock().unwrap().push(Heard::Lost);
    }
    fn back(&self) {
        self.0.lock().unwrap().push(Heard::Back);
    }
}

struct Watched {
    store: FileStore,
    ear: Arc<Ear>,
    _listening: Listening,
}

impl Watched {
    async fn start(config: FileConfig) -> Self {
        let store = FileStore::connect(info("file"), config).await.unwrap();
        let ear = Arc::new(Ear::default());
        let listening = store.follow(Arc::<Ear>::clone(&ear)).unwrap();
        let watched = Self { store, ear, _listening: listening };
        assert_eq!(watched.next().await.0, Heard::Back, "from now on nothing is missed");
        watched
    }

    /// Waits for what is told next, and says how long that took.
    async fn next(&self) -> (Heard, Duration) {
        let began = stopwatch();
        loop {
            let mut heard = self.ear.take();
            if !heard.is_empty() {
                assert_eq!(heard.len(), 1, "{heard:?}");
                return (heard.remove(0), began.elapsed());
            }
            assert!(began.elapsed() < Duration::from_secs(10), "nothing is told");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn tells(&self, what: &str, expected: &[Changed]) {
        let (heard, took) = self.next().await;
        assert_eq!(heard, Heard::Changed(expected.to_vec()), "{what}");
        assert!(took < Duration::from_secs(1), "{what} was told after {took:?}");
    }

    async fn hash(&self, text: &str) -> Option<String> {
        let found = self.store.account(&Ctx::new(), &login(text)).await.unwrap().found()?;
        Some(found.hash()?.as_str().to_owned())
    }
}

fn changed(text: &str) -> Changed {
    Changed::Login(text.into())
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Saves as vim and most editors do: a new file, renamed over the old one.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write(&new, text);
    std::fs::rename(new, path).unwrap();
}

/// Saves as vim does with `backupcopy=no`: the old file moves away, a new one is written in its place.
fn backup_and_write(path: &Path, text: &str) {
    std::fs::rename(path, path.with_extension("bak")).unwrap();
    write(path, text);
}

/// Saves as nano and shells do: the file is emptied and written.
fn truncate_and_write(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Adds a line, as `htpasswd` and `echo >>` do.
fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).unwrap();
    let more = text.strip_prefix(before.as_str()).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(more.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_way_a_file_is_saved_it_is_told_within_a_second_and_counts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write(&path, "calvin:a\nsusie:x\n");
    let watched = Watched::start(FileConfig::new(&path)).await;
    type Save = fn(&Path, &str);
    let ways: [(&str, Save); 3] = [
        ("renamed over", rename_over),
        ("a backup first", backup_and_write),
        ("emptied and written", truncate_and_write),
    ];
    for (n, (way, save)) in ways.into_iter().cycle().take(12).enumerate() {
        save(&path, &format!("calvin:h{n}\nsusie:x\n"));
        assert_eq!(watched.hash("calvin").await, Some(format!("h{n}")), "{way}: it counts at once");
        watched.tells(way, &[changed("calvin")]).await;
        assert_eq!(watched.hash("calvin").await, Some(format!("h{n}")), "{way}");
    }
    append(&path, "calvin:h11\nsusie:x\nmoe:y\n");
    watched.tells("a line more", &[changed("moe")]).await;
    // Told although nobody asked in between, and only what is another thing.
    rename_over(&path, "# a comment\nsusie:x\nmoe:z\n\n");
    watched.tells("one gone, one changed", &[changed("calvin"), changed("moe")]).await;
    rename_over(&path, "susie:x\n# another\nmoe:z\n");
    rename_over(&path, "susie:x\nmoe:z\ndad:\n");
    watched.tells("comments tell nothing", &[changed("dad")]).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_set_anew_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = |n: u32| -> PathBuf {
        let data = folder.path().join(format!("data{n}"));
        std::fs::create_dir(&data).unwrap();
        write(&data.join("users"), &format!("calvin:h{n}\n"));
        data
    };
    let (link, current) = (folder.path().join("users"), folder.path().join("current"));
    std::os::unix::fs::symlink(data(0), &current).unwrap();
    std::os::unix::fs::symlink("current/users", &link).unwrap();
    let watched = Watched::start(FileConfig::new(&link)).await;
    for n in 1..4 {
        // As a Kubernetes volume is changed: the folder that is linked to is another one.
        let new = folder.path().join("new");
        std::os::unix::fs::symlink(data(n), &new).unwrap();
        std::fs::rename(new, &current).unwrap();
        assert_eq!(watched.hash("calvin").await, Some(format!("h{n}")));
        watched.tells("another folder", &[changed("calvin")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_beside_tells_too_and_a_broken_one_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("passwd"), "calvin:x:1:100\nsusie:x:2:200\n");
    write(&path("shadow"), "calvin:a\nsusie:b\n");
    write(&path("group"), "staff:x:100:susie\nadmin:x:200:\n");
    let config = FileConfig::new(path("passwd")).with_format(Format::Passwd);
    let watched = Watched::start(config.with_shadow(path("shadow")).with_groups(path("group"))).await;
    rename_over(&path("shadow"), "calvin:a:0\nsusie:b\n");
    watched.tells("the shadow file", &[changed("calvin")]).await;
    rename_over(&path("group"), "staff:x:100:\nadmin:x:200:\n");
    watched.tells("a member less", &[changed("susie")]).await;
    rename_over(&path("passwd"), "calvin:x:1:200\nsusie:x:2:200\n");
    watched.tells("another first group", &[changed("calvin")]).await;
    // What can't be read changes nothing, and tells nothing, until it can be.
    rename_over(&path("shadow"), "calvin\n");
    let began = stopwatch();
    while began.elapsed() < Duration::from_millis(700) {
        assert_eq!(watched.hash("susie").await, Some("b".to_owned()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(watched.ear.take(), []);
    rename_over(&path("shadow"), "calvin:a:0\nsusie:c\n");
    watched.tells("mended", &[changed("susie")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_told_by_their_object_and_a_new_domain_as_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    let users = "[user.calvin]\n[user.susie]\n";
    write(&path, &format!("{users}[object.page.wiki.42]\nread = [\"calvin\"]\n[object.page.a]\n"));
    let watched = Watched::start(FileConfig::new(&path)).await;
    let object = |id: &[Id]| Changed::Object { domain: "page".into(), id: id.to_vec() };
    rename_over(&path, &format!("{users}[object.page.wiki.42]\nread = [\"susie\"]\n[object.page.a]\n"));
    watched.tells("a right", &[object(&[Id::from("wiki"), Id::from(42)])]).await;
    rename_over(&path, &format!("{users}[object.page.wiki.42]\nread = [\"susie\"]\n"));
    watched.tells("an object less", &[object(&[Id::from("a")])]).await;
    // Another order of the users is no change of anybody's rights.
    rename_over(
        &path,
        "[user.susie]\n[user.calvin]\n[object.page.wiki.42]\nread = [\"susie\"]\n[object.doc]\n",
    );
    watched.tells("a domain", &[Changed::All]).await;
    let many: String = (0..1_001).map(|n| format!("[user.u{n}]\n")).collect();
    rename_over(&path, &format!("{users}{many}[object.page.wiki.42]\nread = [\"susie\"]\n[object.doc]\n"));
    watched.tells("very much", &[Changed::All]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_stopped_to_listen_hears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    write(&path, "calvin:a\n");
    let (watched, other) = (Watched::start(FileConfig::new(&path)).await, Arc::new(Ear::default()));
    drop(watched.store.follow(Arc::<Ear>::clone(&other)).unwrap());
    rename_over(&path, "calvin:b\n");
    watched.tells("the other one", &[changed("calvin")]).await;
    assert_eq!(other.take(), []);
    let outside = std::thread::spawn(move || watched.store.follow(other).unwrap_err().kind());
    assert_eq!(outside.join().unwrap(), ErrorKind::Internal);
}
