//! A key in two words.

use auth_core::{Login, ObjectRef, Principal, TokenId};

use crate::{Ask, Key};

/// A key as tables keep it: two words, so that the slots of a hash table are small. What is longer is
/// behind a pointer, except for group sets, which are asked for most.
#[derive(Debug)]
pub(super) enum Name {
    Account(Box<Login>),
    Groups(Principal),
    Access(Box<(Principal, ObjectRef, Option<Box<str>>)>),
    Token(Box<TokenId>),
}

impl Name {
    /// Reports whether this is the key of a question: equality in full.
    #[inline(always)]
    pub(super) fn is(&self, ask: &Ask<'_>) -> bool {
        match (self, ask) {
            // Mostly the very person that the account was kept with; anything else is not in line.
            (Self::Groups(mine), Ask::Groups(who)) if mine.is_same(who) => true,
            (Self::Access(mine), Ask::Access(who, object, mode)) if mine.0.is_same(who) => {
                mine.1 == **object && is_mode(mine.2.as_deref(), *mode)
            }
            _ => self.is_in_full(ask),
        }
    }

    #[inline(never)]
    fn is_in_full(&self, ask: &Ask<'_>) -> bool {
        match (self, ask) {
            (Self::Account(mine), Ask::Account(login)) => **mine == **login,
            (Self::Groups(mine), Ask::Groups(who)) => *mine == **who,
            (Self::Access(mine), Ask::Access(who, object, mode)) => {
                mine.0 == **who && mine.1 == **object && is_mode(mine.2.as_deref(), *mode)
            }
            (Self::Token(mine), Ask::Token(id)) => **mine == **id,
            (Self::Account(_) | Self::Groups(_) | Self::Access(_) | Self::Token(_), _) => false,
        }
    }
}

/// Compares two modes, most of which are shorter than a word.
#[inline]
fn is_mode(mine: Option<&str>, other: Option<&str>) -> bool {
    match (mine, other) {
        (Some(mine), Some(other)) => mine.len() == other.len() && mine.bytes().eq(other.bytes()),
        (None, None) => true,
        _ => false,
    }
}

impl From<Key> for Name {
    fn from(key: Key) -> Self {
        match key {
            Key::Account(login) => Self::Account(Box::new(login)),
            Key::Groups(who) => Self::Groups(who),
            Key::Access(who, object, mode) => Self::Access(Box::new((who, object, mode))),
            Key::Token(id) => Self::Token(Box::new(id)),
        }
    }
}
