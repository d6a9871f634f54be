//! A key in two words.

use auth_core::{Login, ObjectRef, Principal, TokenId};

use crate::key::word;
use crate::{Ask, Key};

/// A key as tables keep it: two words, so that the slots of a hash table are small. What is longer is
/// behind a pointer, except for group sets, which are asked for most.
#[derive(Debug)]
pub(super) enum Name {
    Account(Box<Login>),
    Groups(Principal),
    Access(Box<(Principal, ObjectRef, Mode)>),
    Token(Box<TokenId>),
}

impl Name {
    /// Returns the question that it is the key of.
    pub(super) fn ask(&self) -> Ask<'_> {
        match self {
            Self::Account(login) => Ask::Account(login),
            Self::Groups(who) => Ask::Groups(who),
            Self::Access(of) => Ask::Access(&of.0, &of.1, of.2.as_str()),
            Self::Token(id) => Ask::Token(id),
        }
    }

    /// Reports whether this is the key of a question: equality in full.
    #[inline(always)]
    pub(super) fn is(&self, ask: &Ask<'_>) -> bool {
        match (self, ask) {
            // Mostly the very person that the account was kept with; anything else is not in line.
            (Self::Groups(mine), Ask::Groups(who)) if mine.is_same(who) => true,
            (Self::Access(mine), Ask::Access(who, object, mode)) if mine.0.is_same(who) => {
                mine.1 == **object && mine.2.is(*mode)
            }
            (Self::Token(mine), Ask::Token(id)) => **mine == **id,
            _ => self.is_in_full(ask),
        }
    }

    #[inline(never)]
    fn is_in_full(&self, ask: &Ask<'_>) -> bool {
        match (self, ask) {
            (Self::Account(mine), Ask::Account(login)) => **mine == **login,
            (Self::Groups(mine), Ask::Groups(who)) => *mine == **who,
            (Self::Access(mine), Ask::Access(who, object, mode)) => {
                mine.0 == **who && mine.1 == **object && mine.2.is(*mode)
            }
            (Self::Account(_) | Self::Groups(_) | Self::Access(_) | Self::Token(_), _) => false,
        }
    }
}

/// A mode, or that any will do. One of a few bytes, as they are, is kept in place.
#[derive(Debug)]
pub(super) enum Mode {
    Any,
    Short(u8, [u8; Self::SHORT]),
    Long(Box<str>),
}

impl Mode {
    const SHORT: usize = 14;

    #[inline]
    fn is(&self, mode: Option<&str>) -> bool {
        match (self, mode) {
            (Self::Any, None) => true,
            (Self::Short(length, bytes), Some(mode)) => {
                let (mine, mode) = (bytes.get(..usize::from(*length)).unwrap_or_default(), mode.as_bytes());
                mine.len() == mode.len()
                    && if mine.len() <= 8 { word(mine) == word(mode) } else { mine == mode }
            }
            (Self::Long(mine), Some(mode)) => **mine == *mode,
            (Self::Any | Self::Short(..) | Self::Long(_), _) => false,
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            // It was a text.
            Self::Short(length, bytes) => {
                bytes.get(..usize::from(*length)).and_then(|bytes| str::from_utf8(bytes).ok())
            }
            Self::Long(mode) => Some(mode),
        }
    }
}

impl From<Option<Box<str>>> for Mode {
    fn from(mode: Option<Box<str>>) -> Self {
        let Some(mode) = mode else { return Self::Any };
        let mut bytes = [0; Self::SHORT];
        match (bytes.get_mut(..mode.len()), u8::try_from(mode.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(mode.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(mode),
        }
    }
}

impl From<Key> for Name {
    fn from(key: Key) -> Self {
        match key {
            Key::Account(login) => Self::Account(Box::new(login)),
            Key::Groups(who) => Self::Groups(who),
            Key::Access(who, object, mode) => Self::Access(Box::new((who, object, mode.into()))),
            Key::Token(id) => Self::Token(Box::new(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_kept_as_it_is_and_equal_to_no_other() {
        let modes = [
            None,
            Some(""),
            Some("r"),
            Some("read"),
            Some("reads"),
            Some("\0"),
            Some("fourteen bytes"),
            Some("fifteen bytes !"),
            Some("fifteen bytes ?"),
            Some("M\u{fc}nchner Rechte"),
        ];
        for mode in modes {
            let kept = Mode::from(mode.map(Box::from));
            assert_eq!(kept.as_str(), mode);
            for other in modes {
                assert_eq!(kept.is(other), mode == other, "{mode:?} {other:?}");
            }
        }
        for length in 1..=Mode::SHORT + 1 {
            let mode = "m".repeat(length);
            let kept = Mode::from(Some(mode.as_str().into()));
            assert!(kept.is(Some(&mode)));
            for at in 0..length {
                let mut other = mode.clone();
                other.replace_range(at..=at, "n");
                assert!(!kept.is(Some(&other)), "{other}");
            }
        }
        assert_eq!(size_of::<Mode>(), 24);
    }
}
