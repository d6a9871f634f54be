//! The key of an entry: everything that can change the answer, compared in full.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use auth_core::{Login, ObjectRef, Principal, TokenId};
use quick_cache::Equivalent;

/// A question, borrowed: what a table is asked with.
///
/// Equal questions hash alike whether borrowed or owned ([`Key`]), and equality compares every part, never
/// a hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ask<'a> {
    /// The account of a login.
    Account(&'a Login),
    /// All groups of a person.
    Groups(&'a Principal),
    /// A person's right on an object; a mode of `None` is any right at all.
    Access(&'a Principal, &'a ObjectRef, Option<&'a str>),
    /// The state of a token.
    Token(&'a TokenId),
}

impl Ask<'_> {
    /// Makes the key to keep an answer under.
    #[must_use]
    pub fn to_key(&self) -> Key {
        match *self {
            Self::Account(login) => Key::Account(login.clone()),
            Self::Groups(who) => Key::Groups(who.clone()),
            Self::Access(who, object, mode) => Key::Access(who.clone(), object.clone(), mode.map(Box::from)),
            Self::Token(id) => Key::Token(*id),
        }
    }
}

/// A question, owned: what a table keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Key {
    /// The account of a login.
    Account(Login),
    /// All groups of a person.
    Groups(Principal),
    /// A person's right on an object.
    Access(Principal, ObjectRef, Option<Box<str>>),
    /// The state of a token.
    Token(TokenId),
}

impl Key {
    /// Borrows it.
    #[must_use]
    pub fn ask(&self) -> Ask<'_> {
        match self {
            Self::Account(login) => Ask::Account(login),
            Self::Groups(who) => Ask::Groups(who),
            Self::Access(who, object, mode) => Ask::Access(who, object, mode.as_deref()),
            Self::Token(id) => Ask::Token(id),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ask().hash(state);
    }
}

impl Equivalent<Key> for Ask<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.ask()
    }
}

/// Either form of a question. `lru` looks up by `Borrow`, which must lend a reference; this trait object is
/// one that both forms can lend.
pub(crate) trait Asked {
    fn asked(&self) -> Ask<'_>;
}

impl Asked for Ask<'_> {
    fn asked(&self) -> Ask<'_> {
        *self
    }
}

impl Asked for Key {
    fn asked(&self) -> Ask<'_> {
        self.ask()
    }
}

impl Hash for dyn Asked + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked().hash(state);
    }
}

impl PartialEq for dyn Asked + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.asked() == other.asked()
    }
}

impl Eq for dyn Asked + '_ {}

impl<'a> Borrow<dyn Asked + 'a> for Key {
    fn borrow(&self) -> &(dyn Asked + 'a) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::{Fingerprint, Id, LoginRule, RealmId, SourceInfo};
    use std::hash::BuildHasher;

    fn login(realm: &str, text: &str) -> Login {
        Login::parse(&RealmId::new(realm, LoginRule::Exact).unwrap(), text).unwrap()
    }

    fn who(source: &str, realm: &str, text: &str, id: Id) -> Principal {
        let source = SourceInfo::new(source, Fingerprint::default());
        Principal::found(&source, &login(realm, text), text, id).unwrap()
    }

    fn check_differ(a: &Ask<'_>, b: &Ask<'_>) {
        assert_ne!(a, b);
        assert_ne!(a.to_key(), b.to_key());
        assert!(!a.equivalent(&b.to_key()) && a.equivalent(&a.to_key()));
    }

    #[test]
    fn borrowed_and_owned_questions_are_equal_and_hash_alike() {
        let hasher = foldhash::quality::RandomState::default();
        let (calvin, object) =
            (who("app", "r", "calvin", Id::from(1)), ObjectRef::new("doc", [Id::from(7)]).unwrap());
        let (name, token) = (login("r", "calvin"), TokenId::new([7; 32]));
        for ask in [
            Ask::Account(&name),
            Ask::Groups(&calvin),
            Ask::Access(&calvin, &object, Some("read")),
            Ask::Access(&calvin, &object, None),
            Ask::Token(&token),
        ] {
            let key = ask.to_key();
            assert_eq!(key.ask(), ask);
            assert!(ask.equivalent(&key));
            assert_eq!(hasher.hash_one(ask), hasher.hash_one(&key));
            let lent: &dyn Asked = key.borrow();
            assert_eq!(hasher.hash_one(lent), hasher.hash_one(ask));
        }
    }

    #[test]
    fn what_differs_in_one_part_is_another_question() {
        let a = login("a", "bc");
        check_differ(&Ask::Account(&a), &Ask::Account(&login("ab", "c")));
        let (int, text) = (who("app", "r", "x", Id::from(1)), who("app", "r", "x", Id::from("1")));
        check_differ(&Ask::Groups(&int), &Ask::Groups(&text));
        check_differ(&Ask::Groups(&int), &Ask::Groups(&who("staff", "r", "x", Id::from(1))));
        check_differ(&Ask::Groups(&int), &Ask::Groups(&who("app", "q", "x", Id::from(1))));
        let object = |parts: &[&str]| ObjectRef::new("doc", parts.iter().map(|p| Id::text(p))).unwrap();
        let (ab_c, a_bc) = (object(&["ab", "c"]), object(&["a", "bc"]));
        check_differ(&Ask::Access(&int, &ab_c, None), &Ask::Access(&int, &a_bc, None));
        check_differ(&Ask::Access(&int, &ab_c, None), &Ask::Access(&int, &ab_c, Some("")));
        check_differ(&Ask::Access(&int, &ab_c, None), &Ask::Groups(&int));
        let one = ObjectRef::new("doc", [Id::from(1)]).unwrap();
        let one_text = ObjectRef::new("doc", [Id::from("1")]).unwrap();
        check_differ(&Ask::Access(&int, &one, Some("w")), &Ask::Access(&int, &one_text, Some("w")));
    }
}
