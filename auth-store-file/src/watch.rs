//! Looks at the files all the time, and tells what somebody has changed in them.
//!
//! The files' states are looked at, and not asked of the system's watches: a look costs three calls, and sees whatever
//! an editor does, a link that is set anew, and a file on another machine alike.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use auth_core::{ChangeEar, Changed, Error, ErrorKind, Listening, Result};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use crate::contents::{Contents, Record, Rights};
use crate::store::Files;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// How long a look may take: a file system that hangs tells nothing of what changes meanwhile.
const LIMIT: Duration = Duration::from_secs(1);

/// The most that is told one by one.
const MOST: usize = 1_000;

/// Ends the watching.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to watch.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) outside of a runtime.
pub(crate) fn follow(files: Arc<Files>, ear: Arc<dyn ChangeEar>) -> Result<Listening> {
    let runtime = Handle::try_current()
        .map_err(|_| Error::new(ErrorKind::Internal, "files are watched outside of a tokio runtime"))?;
    let look = move || files.current();
    Ok(Listening::new(Guard(runtime.spawn(watch(Arc::new(look), ear)).abort_handle())))
}

/// Looks, which may wait for a file system.
type Look = dyn Fn() -> Arc<Contents> + Send + Sync;

async fn watch(look: Arc<Look>, ear: Arc<dyn ChangeEar>) {
    let mut told: Option<Arc<Contents>> = None;
    loop {
        let looking = Arc::clone(&look);
        let mut look: JoinHandle<Arc<Contents>> = tokio::task::spawn_blocking(move || looking());
        let mut hung = false;
        let found = match tokio::time::timeout(LIMIT, &mut look).await {
            Ok(found) => found,
            Err(_) => {
                ear.lost();
                hung = true;
                look.await
            }
        };
        // Only a runtime that ends takes a look away.
        let Ok(contents) = found else { return };
        let before = told.replace(Arc::clone(&contents));
        if let Some(before) = &before
            && !Arc::ptr_eq(before, &contents)
        {
            let what = changes(before, &contents);
            if !what.is_empty() {
                ear.changed(&what);
            }
        }
        if hung || before.is_none() {
            ear.back();
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Everything about one login, as the files spell it.
type Person<'a> = (Vec<&'a Record>, BTreeSet<&'a str>);

fn people(contents: &Contents) -> HashMap<&str, Person<'_>> {
    let mut people: HashMap<&str, Person<'_>> = HashMap::new();
    for record in contents.records() {
        people.entry(&record.login).or_default().0.push(record);
    }
    for (group, logins) in contents.memberships() {
        for login in logins {
            people.entry(login).or_default().1.insert(group);
        }
    }
    people
}

/// What may be done with an object: logins and modes.
fn rights<'a>(contents: &'a Contents, rights: &'a Rights) -> BTreeSet<(&'a str, &'a str)> {
    let login = |number: &usize| contents.records().get(*number).map_or("", |record| &record.login);
    rights.iter().map(|(number, mode)| (login(number), mode.as_str())).collect()
}

/// Says what differs.
fn changes(old: &Contents, new: &Contents) -> Vec<Changed> {
    let mut what = Vec::new();
    let (before, after) = (people(old), people(new));
    let mut logins: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    logins.sort_unstable();
    logins.dedup();
    what.extend(
        logins
            .into_iter()
            .filter(|login| before.get(login) != after.get(login))
            .map(|login| Changed::Login(login.into())),
    );
    let none = BTreeMap::new();
    let (before, after) = (old.domains().unwrap_or(&none), new.domains().unwrap_or(&none));
    if !before.keys().eq(after.keys()) {
        return vec![Changed::All];
    }
    for (domain, objects) in before {
        let Some(now) = after.get(domain) else { continue };
        let differs = |id: &&Vec<String>| {
            let of = |contents, objects: &'_ crate::contents::Domain| {
                objects.get(*id).map(|found| owned(rights(contents, found)))
            };
            of(old, objects) != of(new, now)
        };
        let ids: BTreeSet<&Vec<String>> = objects.keys().chain(now.keys()).collect();
        what.extend(ids.into_iter().filter(differs).map(|id| Changed::Object {
            domain: domain.as_str().into(),
            id: id.iter().map(|part| auth_core::Id::parse(part)).collect(),
        }));
    }
    if what.len() > MOST { vec![Changed::All] } else { what }
}

fn owned(rights: BTreeSet<(&str, &str)>) -> Vec<(String, String)> {
    rights.into_iter().map(|(login, mode)| (login.to_owned(), mode.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Ear(Mutex<Vec<String>>);

    impl ChangeEar for Ear {
        fn changed(&self, what: &[Changed]) {
            self.0.lock().unwrap().push(format!("{what:?}"));
        }
        fn lost(&self) {
            self.0.lock().unwrap().push("lost".to_owned());
        }
        fn back(&self) {
            self.0.lock().unwrap().push("back".to_owned());
        }
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_is_told_and_what_was_missed_with_it() {
        let read = |text| Arc::new(Contents::new(crate::htfiles::users(text, None).unwrap()));
        let (ear, file) = (Arc::new(Ear::default()), Arc::new(Mutex::new(read("calvin:a"))));
        let looking = Arc::clone(&file);
        let look = Arc::new(move || Arc::clone(&looking.lock().unwrap()));
        let watching = Guard(tokio::spawn(watch(look, Arc::<Ear>::clone(&ear))).abort_handle());
        let heard = async |count: usize| {
            for _ in 0..1_000 {
                let heard = ear.0.lock().unwrap().clone();
                if heard.len() >= count {
                    return heard;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("never");
        };
        assert_eq!(heard(1).await, ["back"]);
        // The lock is the file system, which does not answer while the test holds it.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let hanging = std::thread::spawn(move || {
            let mut file = file.lock().unwrap();
            held.recv().unwrap();
            *file = read("calvin:b");
        });
        assert_eq!(heard(2).await, ["back", "lost"]);
        hold.send(()).unwrap();
        assert_eq!(heard(4).await, ["back", "lost", "[Login(\"calvin\")]", "back"]);
        hanging.join().unwrap();
        drop(watching);
    }
}
