//! The key of an entry is the whole question.

use std::collections::HashMap;

use auth_cache::{Answer, Ask, Bound, Entry, Key};
use auth_core::{
    Access, Fence, Fingerprint, Id, Login, LoginRule, Moment, ObjectRef, Principal, RealmId, SourceInfo,
};

use crate::helpers::tables;

/// Draws from a few pieces that are easily run together.
struct Pieces(u64);

impl Pieces {
    fn draw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.get(self.draw(of.len())).unwrap()
    }

    fn text(&mut self, pieces: &[&str]) -> String {
        (0..=self.draw(3)).map(|_| self.one(pieces)).collect()
    }

    fn name(&mut self) -> String {
        self.text(&["a", "b", "ab", "1", ".", "é", "ß"])
    }

    fn any(&mut self) -> String {
        self.text(&["", "a", "b", "\0", "/", ":", "1", "é", "\u{1F600}", "\u{FEFF}"])
    }

    fn id(&mut self) -> Id {
        if self.draw(3) == 0 { Id::from(i64::try_from(self.draw(3)).unwrap()) } else { Id::text(&self.any()) }
    }

    fn who(&mut self) -> Option<Principal> {
        let realm = RealmId::new(self.one(&["a", "ab", "b"]), LoginRule::Exact).unwrap();
        let name = self.name();
        let login = Login::parse(&realm, &name).ok()?;
        let source = SourceInfo::new(self.one(&["b", "bc", "c"]), Fingerprint::default());
        Principal::found(&source, &login, &name, self.id())
    }

    fn question(&mut self) -> Option<Key> {
        let who = self.who()?;
        Some(match self.draw(4) {
            0 => Key::Account(who.login().clone()),
            1 => Key::Groups(who),
            _ => {
                let parts: Vec<_> = (0..=self.draw(3)).map(|_| self.id()).collect();
                let object = ObjectRef::new(self.one(&["d", "da"]), parts).ok()?;
                let mode = if self.draw(4) == 0 { None } else { Some(self.any()) };
                Key::Access(who, object, mode.map(String::into_boxed_str))
            }
        })
    }
}

/// Spells every part of a question, each with its length.
fn spell(key: &Key) -> String {
    let id = |id: &Id| format!("{id:?}");
    let who = |who: &Principal| {
        format!("{:?} {:?} {:?} {}", who.realm().name(), who.login().as_str(), who.source(), id(who.id()))
    };
    match key.ask() {
        Ask::Account(login) => format!("account {:?} {:?}", login.realm().name(), login.as_str()),
        Ask::Groups(person) => format!("groups {}", who(person)),
        Ask::Access(person, object, mode) => {
            let parts: Vec<_> = object.id().iter().map(id).collect();
            format!("access {} {:?} {parts:?} {mode:?}", who(person), object.domain())
        }
        _ => unreachable!("no tokens are drawn"),
    }
}

#[test]
fn questions_that_differ_anywhere_never_share_an_entry() {
    let fence = Fence::new();
    let mut pieces = Pieces(7);
    let questions: Vec<Key> = std::iter::repeat_with(|| pieces.question()).flatten().take(20_000).collect();
    for (kind, table) in tables() {
        let table = table(Bound::Entries(1 << 20));
        // What was last put under each spelling.
        let mut last = HashMap::new();
        for (n, key) in (0_u64..).zip(&questions) {
            let Some(Key::Account(login)) = questions.iter().find(|key| matches!(key, Key::Account(_)))
            else {
                panic!("no account was drawn")
            };
            let answer = Answer::Access(Access::Allow);
            let entry = Entry::new(answer, fence.login(login), Moment::from_nanos(n));
            table.put(key.clone(), entry);
            last.insert(spell(key), n);
        }
        assert!(last.len() > 5_000 && last.len() < questions.len(), "{}", last.len());
        for key in &questions {
            let found = table.get(&key.ask()).map(|entry| entry.loaded.as_nanos());
            assert_eq!(found, last.get(&spell(key)).copied(), "{kind}: {key:?}");
        }
    }
}
