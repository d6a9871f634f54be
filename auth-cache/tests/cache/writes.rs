//! Writes void what is remembered: after they succeed, and also when nobody knows whether they did.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use auth_cache::{Fenced, OwnerTable};
use auth_core::{
    AccountSource, Change, Ctx, Directory, Error, ErrorKind, Fence, Fingerprint, Login, LoginRule, Lookup,
    NewUser, ObjectRef, Owners, RealmId, Result, SourceInfo, Stamp, StateChange, StoredHash, UserEntry,
};
use auth_testkit::{Answer, CountingSource, MemoryStore, hash, login, object, principal, realm, realm_with};

use crate::helpers::{ALL, Bed, Scene, calvin, doc, old, soon};

#[tokio::test]
async fn a_replaced_hash_is_seen_by_the_next_question() {
    let bed = Bed::new();
    let source = Arc::new(CountingSource::new(Arc::new(MemoryStore::new())));
    let (cached, ctx, name) = (bed.accounts(&source), Ctx::new(), login("calvin"));
    let stored = async || {
        let account = cached.account(&ctx, &name).await.unwrap().found().unwrap();
        account.hash().unwrap().clone()
    };
    let (before, after) = (stored().await, hash("$new$"));
    assert!(cached.replace_hash(&ctx, &principal("calvin"), &before, &after).await.unwrap());
    assert_eq!(stored().await, after);
    // Who expected another hash remembers an old one.
    assert!(!cached.replace_hash(&ctx, &principal("calvin"), &before, &hash("$other$")).await.unwrap());
    assert_eq!(stored().await, after);
    assert_eq!((source.counts().replace_hash, source.counts().account), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_write_of_unknown_outcome_voids_everything_about_the_person() {
    for given_up in [false, true] {
        let scene = Scene::new(&Bed::new());
        for what in ALL {
            let asked = scene.spawn(what, Ctx::new());
            soon(scene.store.next_question()).await.answer(old(what));
            soon(asked).await.unwrap().unwrap();
        }
        let write = tokio::spawn({
            let accounts = Arc::clone(&scene.accounts);
            async move { accounts.replace_hash(&Ctx::new(), &calvin(), &hash("old"), &hash("new")).await }
        });
        let question = soon(scene.store.next_question()).await;
        for what in ALL {
            assert!(scene.peek(what, &Ctx::new()).is_some(), "nothing is voided before the write");
        }
        if given_up {
            write.abort();
            soon(write).await.unwrap_err();
        } else {
            question.answer(Err::<Answer, _>(Error::new(ErrorKind::Timeout, "no answer")));
            assert_eq!(soon(write).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        }
        for what in ALL {
            assert_eq!(scene.peek(what, &Ctx::new()), None, "{what:?}");
        }
    }
}

/// A directory that notes what it was asked and answers what it is told.
#[derive(Debug)]
struct Clerk {
    info: SourceInfo,
    answer: Result<Change>,
    calls: Mutex<Vec<&'static str>>,
}

impl Clerk {
    fn done(&self, call: &'static str) -> Result<Change> {
        self.calls.lock().unwrap().push(call);
        self.answer.clone()
    }
}

#[async_trait]
impl Directory for Clerk {
    fn source(&self) -> &SourceInfo {
        &self.info
    }
    async fn add_user(&self, _: &Ctx, _: &NewUser) -> Result<Change> {
        self.done("add_user")
    }
    async fn users(&self, _: &Ctx, _: &RealmId, _: Option<&str>, _: u32) -> Result<Vec<UserEntry>> {
        self.done("users").map(|_| Vec::new())
    }
    async fn user(&self, _: &Ctx, _: &Login) -> Result<Lookup<UserEntry>> {
        self.done("user").map(|_| Lookup::NotFound)
    }
    async fn set_hash(&self, _: &Ctx, _: &Login, _: &StoredHash) -> Result<Change> {
        self.done("set_hash")
    }
    async fn set_state(&self, _: &Ctx, _: &Login, _: &StateChange) -> Result<Change> {
        self.done("set_state")
    }
    async fn delete_user(&self, _: &Ctx, _: &Login) -> Result<Change> {
        self.done("delete_user")
    }
    async fn join(&self, _: &Ctx, _: &Login, _: &str) -> Result<Change> {
        self.done("join")
    }
    async fn leave(&self, _: &Ctx, _: &Login, _: &str) -> Result<Change> {
        self.done("leave")
    }
    async fn groups(&self, _: &Ctx) -> Result<Vec<String>> {
        self.done("groups").map(|_| Vec::new())
    }
    async fn domains(&self, _: &Ctx) -> Result<Vec<String>> {
        self.done("domains").map(|_| Vec::new())
    }
    async fn add_object(&self, _: &Ctx, _: &ObjectRef) -> Result<Change> {
        self.done("add_object")
    }
    async fn delete_object(&self, _: &Ctx, _: &ObjectRef) -> Result<Change> {
        self.done("delete_object")
    }
    async fn grant(&self, _: &Ctx, _: &Login, _: &ObjectRef, _: &str) -> Result<Change> {
        self.done("grant")
    }
    async fn revoke(&self, _: &Ctx, _: &Login, _: &ObjectRef, _: &str) -> Result<Change> {
        self.done("revoke")
    }
}

struct Office {
    fenced: Fenced,
    clerk: Arc<Clerk>,
    fence: Arc<Fence>,
    owners: Arc<OwnerTable>,
}

fn office(answer: Result<Change>, realms: &[RealmId]) -> Office {
    let bed = Bed::new();
    let info = SourceInfo::new("app", Fingerprint::default());
    let clerk = Arc::new(Clerk { info, answer, calls: Mutex::default() });
    let owners = Arc::new(OwnerTable::new(100, bed.clock()));
    let fenced = Fenced::new(
        Arc::<Clerk>::clone(&clerk),
        Arc::clone(&bed.fence),
        Arc::<OwnerTable>::clone(&owners),
        realms.to_vec(),
    );
    Office { fenced, clerk, fence: bed.fence, owners }
}

impl Office {
    /// What a change of calvin, of his right on the document, and of susie's shows in.
    fn stamps(&self) -> [Stamp; 3] {
        let susie = principal("susie");
        [
            self.fence.login(&login("calvin")),
            self.fence.access(&susie, &doc()),
            self.fence.access(&susie, &object("doc", 2)),
        ]
    }

    async fn write(&self, call: &str) -> Result<Change> {
        let (f, ctx, who, doc) = (&self.fenced, &Ctx::new(), &login("calvin"), &doc());
        match call {
            "add_user" => {
                f.add_user(ctx, &NewUser { login: who.clone(), hash: None, groups: Vec::new() }).await
            }
            "set_hash" => f.set_hash(ctx, who, &hash("x")).await,
            "set_state" => f.set_state(ctx, who, &StateChange::default()).await,
            "delete_user" => f.delete_user(ctx, who).await,
            "join" => f.join(ctx, who, "staff").await,
            "leave" => f.leave(ctx, who, "staff").await,
            "add_object" => f.add_object(ctx, doc).await,
            "delete_object" => f.delete_object(ctx, doc).await,
            "grant" => f.grant(ctx, who, doc, "read").await,
            "revoke" => f.revoke(ctx, who, doc, "read").await,
            other => panic!("{other}"),
        }
    }
}

/// Each write, and whether it voids calvin, the document, and what is known of his owner.
const WRITES: [(&str, [bool; 3]); 10] = [
    ("add_user", [true, false, true]),
    ("set_hash", [true, false, false]),
    ("set_state", [true, false, false]),
    ("delete_user", [true, false, true]),
    ("join", [true, false, false]),
    ("leave", [true, false, false]),
    ("add_object", [false, true, false]),
    ("delete_object", [false, true, false]),
    ("grant", [true, true, false]),
    ("revoke", [true, true, false]),
];

#[tokio::test]
async fn each_write_is_passed_on_and_voids_its_subjects_and_nothing_else() {
    let failure = Err(Error::new(ErrorKind::Timeout, "no answer"));
    for answer in [Ok(Change::Done), Ok(Change::Unchanged), failure] {
        for (call, voids) in WRITES {
            let office = office(answer.clone(), &[realm()]);
            for name in ["calvin", "susie"] {
                office.owners.remember(&login(name), &Arc::from("app"));
            }
            let before = office.stamps();
            let told = office.write(call).await;
            assert_eq!(told.map_err(|e| e.kind()), answer.clone().map_err(|e| e.kind()), "{call}");
            assert_eq!(*office.clerk.calls.lock().unwrap(), [call]);
            let after = office.stamps();
            let moved = [before[0] != after[0], before[1] != after[1]];
            let forgotten = office.owners.owner(&login("calvin")).is_none();
            assert_eq!([moved[0], moved[1], forgotten], voids, "{call}");
            assert_eq!(before[2], after[2], "{call}: somebody else's right on something else");
            assert!(office.owners.owner(&login("susie")).is_some());
        }
    }
}

#[tokio::test]
async fn reading_a_directory_voids_nothing() {
    let office = office(Ok(Change::Done), &[realm()]);
    let (before, ctx) = (office.stamps(), Ctx::new());
    office.fenced.users(&ctx, &realm(), None, 10).await.unwrap();
    office.fenced.user(&ctx, &login("calvin")).await.unwrap();
    office.fenced.groups(&ctx).await.unwrap();
    office.fenced.domains(&ctx).await.unwrap();
    assert_eq!(*office.clerk.calls.lock().unwrap(), ["users", "user", "groups", "domains"]);
    assert_eq!((office.fenced.source().name().as_ref(), office.stamps()), ("app", before));
}

#[tokio::test]
async fn a_write_is_seen_in_every_realm_of_the_store() {
    let same = realm_with("same", LoginRule::CaseMapped);
    let exact = realm_with("exact", LoginRule::Exact);
    let other = realm_with("other", LoginRule::CaseMapped);
    let office = office(Ok(Change::Done), &[realm(), same.clone(), exact.clone()]);
    let there = |realm: &RealmId, text| office.fence.login(&Login::parse(realm, text).unwrap());
    let state = || {
        [
            there(&same, "calvin"),
            there(&same, "susie"),
            // By another rule the store may know him under another name.
            there(&exact, "Calvin"),
            there(&other, "calvin"),
        ]
    };
    let before = state();
    office.write("set_hash").await.unwrap();
    let after = state();
    let moved: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(moved, [true, false, true, false]);
}

#[tokio::test]
async fn an_object_of_unknown_realms_voids_everything() {
    let office = office(Ok(Change::Done), &[]);
    let before = office.fence.login(&login("susie"));
    office.write("delete_object").await.unwrap();
    assert_ne!(office.fence.login(&login("susie")), before);
}
