//! The key of an entry: everything that can change the answer, compared in full.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use auth_core::{Login, ObjectRef, Principal, TokenId};

/// A question, borrowed: what a table is asked with.
///
/// Equal questions hash alike whether borrowed or owned ([`Key`]), and equality compares every part, never
/// a hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Returns a hash of every part, made from what the names carry, so no text but the mode is read.
    ///
    /// It is keyed per process, as those are: never store or show it. A token's id is such a hash already.
    #[inline]
    #[must_use]
    pub fn hash64(&self) -> u64 {
        match *self {
            Self::Account(login) => login.hash64(),
            Self::Groups(who) => who.hash64(),
            Self::Access(who, object, mode) => {
                let place = fold(who.hash64(), object.hash64());
                match mode {
                    None => place,
                    Some(mode) => hash_text(place, mode.as_bytes()),
                }
            }
            Self::Token(id) => {
                let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
                u64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
        }
    }

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

impl Hash for Ask<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.ask().hash64());
    }
}

/// Mixes two words into one: both halves of their product.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x243f_6a88_85a3_08d3).wrapping_mul(u128::from(b ^ 0x1319_8a2e_0370_7344));
    let half = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or_default();
    half(product) ^ half(product >> 64)
}

/// Hashes a short text onto a word that strangers do not know, so they can't choose texts that collide.
#[inline]
fn hash_text(start: u64, text: &[u8]) -> u64 {
    let mut hash = fold(start, u64::try_from(text.len()).unwrap_or(u64::MAX));
    for chunk in text.chunks(8) {
        hash = fold(hash, word(chunk) ^ start.rotate_left(32));
    }
    hash
}

/// Reads a text of at most eight bytes as a word; texts of one length are equal if their words are.
#[inline]
pub(crate) fn word(text: &[u8]) -> u64 {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        // From four bytes on they overlap, and leave nothing out.
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
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
        state.write_u64(self.asked().hash64());
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
        assert_ne!(a.hash64(), b.hash64());
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
            assert_eq!(ask.hash64(), key.ask().hash64());
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
        for (a, b) in [("a", "b"), ("a", "aa"), ("ab", "ba"), ("12345678", "123456781"), ("", "\0")] {
            check_differ(&Ask::Access(&int, &one, Some(a)), &Ask::Access(&int, &one, Some(b)));
        }
    }
}
