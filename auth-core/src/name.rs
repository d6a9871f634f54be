//! Logins and realms: names that only a normaliser makes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use precis_profiles::precis_core::profile::Profile;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};

use crate::hash::{keyed, same};
use crate::{Error, ErrorKind, Result};

/// The longest login, in bytes of its normal form and of the text it is made from.
pub const MAX_LOGIN_BYTES: usize = 255;

/// How the logins of a realm are compared (RFC 8265).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoginRule {
    /// PRECIS UsernameCaseMapped: width and case folded, NFC. The default.
    #[default]
    CaseMapped,
    /// PRECIS UsernameCasePreserved: width folded, NFC, case kept.
    CasePreserved,
    /// The bytes as they are.
    Exact,
}

impl LoginRule {
    /// Every rule with its name in configuration.
    pub const NAMES: [(&'static str, Self); 3] =
        [("case-mapped", Self::CaseMapped), ("case-preserved", Self::CasePreserved), ("exact", Self::Exact)];

    /// Gives the normal form of a name, or nothing if the rule refuses it.
    #[must_use]
    pub fn normalize(self, text: &str) -> Option<String> {
        if text.is_empty() || text.len() > MAX_LOGIN_BYTES || text.chars().any(char::is_control) {
            return None;
        }
        let normal = match self {
            // Most logins are plain ASCII, for which the profile is just this.
            Self::CaseMapped | Self::CasePreserved if text.bytes().all(|b| b.is_ascii_graphic()) => {
                if self == Self::CaseMapped { text.to_ascii_lowercase() } else { text.to_owned() }
            }
            Self::CaseMapped => UsernameCaseMapped::new().enforce(text).ok()?.into_owned(),
            Self::CasePreserved => UsernameCasePreserved::new().enforce(text).ok()?.into_owned(),
            Self::Exact => text.to_owned(),
        };
        (!normal.is_empty() && normal.len() <= MAX_LOGIN_BYTES).then_some(normal)
    }
}

/// Checks a name that configuration or a command gives: of a realm, a source, a group or a domain.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it is empty, longer than 255 bytes, or has control characters.
pub fn check_name(what: &'static str, name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_LOGIN_BYTES {
        "is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Invalid,
        format!("the name of {} {what} {fault}", if what == "object" { "an" } else { "a" }),
    ))
}

/// A realm's name and its rule for logins: one `Arc` wide.
///
/// Two realms never share an entry, a flight or an owner, whatever their users are called.
#[derive(Clone)]
pub struct RealmId(Arc<RealmInner>);

struct RealmInner {
    name: Box<str>,
    rule: LoginRule,
    // Of the name alone: an invalidation names a realm by it.
    hash: u64,
}

impl RealmId {
    /// Makes a realm's identity.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the name is not acceptable; see [`check_name`].
    pub fn new(name: &str, rule: LoginRule) -> Result<Self> {
        check_name("realm", name)?;
        Ok(Self(Arc::new(RealmInner { name: name.into(), rule, hash: keyed(&name) })))
    }

    /// Returns the realm's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the rule for this realm's logins.
    #[must_use]
    pub fn rule(&self) -> LoginRule {
        self.0.rule
    }

    /// Returns a hash of the name, keyed per process: never stored or shown outside of it.
    #[must_use]
    #[inline]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for RealmId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // The hashes only save work: what differs in one differs, what agrees in it is compared.
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.name == other.0.name && self.0.rule == other.0.rule)
    }
}

impl Eq for RealmId {}

impl Hash for RealmId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealmId({})", self.name())
    }
}

/// A login in the normal form of its realm. Cheap to clone.
///
/// ```
/// use auth_core::{Login, LoginRule, RealmId};
/// let realm = RealmId::new("default", LoginRule::CaseMapped)?;
/// assert_eq!(Login::parse(&realm, "Calvin")?, Login::parse(&realm, "calvin")?);
/// assert!(Login::parse(&realm, "cal\0vin").is_err());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Login {
    text: Arc<str>,
    realm: RealmId,
    hash: u64,
}

impl Login {
    /// Brings what somebody typed to the realm's normal form.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the rule refuses it: empty, longer than 255 bytes,
    /// control characters, or what PRECIS forbids (blanks, mixed directions).
    pub fn parse(realm: &RealmId, text: &str) -> Result<Self> {
        let Some(normal) = realm.rule().normalize(text) else {
            return Err(Error::new(ErrorKind::Invalid, "this is not a possible login"));
        };
        let hash = keyed(&(realm.hash64(), &normal));
        Ok(Self { text: normal.into(), realm: realm.clone(), hash })
    }

    /// Returns the normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the realm.
    #[must_use]
    #[inline]
    pub const fn realm(&self) -> &RealmId {
        &self.realm
    }

    /// Returns a hash of realm and login, keyed per process: never stored or shown outside of it.
    #[must_use]
    #[inline]
    pub const fn hash64(&self) -> u64 {
        self.hash
    }

    /// Reports whether the login that a store returned is this one, in normal form and byte for byte.
    ///
    /// Stores fold more than we ask for (collations, wildcards, trailing blanks); what comes
    /// back under another name is nobody that was asked for.
    #[must_use]
    pub fn is(&self, found: &str) -> bool {
        *found == *self.text || self.realm.rule().normalize(found).is_some_and(|normal| *normal == *self.text)
    }
}

impl PartialEq for Login {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && same(&self.text, &other.text) && self.realm == other.realm
    }
}

impl Eq for Login {}

impl Hash for Login {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}@{})", self.text, self.realm.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: LoginRule, text: &str, normal: Option<&str>) {
        assert_eq!(rule.normalize(text).as_deref(), normal, "{rule:?} {text:?}");
    }

    #[test]
    fn case_mapped_logins_fold_case_and_width() {
        check(LoginRule::CaseMapped, "SSHA", Some("ssha"));
        check(LoginRule::CaseMapped, "ss\u{ff48}a", Some("ssha"));
        check(LoginRule::CaseMapped, "SUSI\u{c9}", Some("susi\u{e9}"));
        check(LoginRule::CaseMapped, "e\u{301}", Some("\u{e9}"));
        for refused in ["", " ", "ssha ", " ssha", "a b", "a\u{200b}b", "a\u{ad}b", "a\0b", "a\nb"] {
            check(LoginRule::CaseMapped, refused, None);
        }
    }

    #[test]
    fn the_ascii_shortcut_agrees_with_the_profile() {
        for byte in 0x21..0x7f_u8 {
            let text = format!("a{}", char::from(byte));
            let by_profile = UsernameCaseMapped::new().enforce(text.as_str()).ok().map(|n| n.into_owned());
            check(LoginRule::CaseMapped, &text, by_profile.as_deref());
            let preserved = UsernameCasePreserved::new().enforce(text.as_str()).ok().map(|n| n.into_owned());
            check(LoginRule::CasePreserved, &text, preserved.as_deref());
        }
    }

    #[test]
    fn other_rules_keep_case() {
        check(LoginRule::CasePreserved, "Calvin", Some("Calvin"));
        check(LoginRule::Exact, "Calvin and Hobbes", Some("Calvin and Hobbes"));
        check(LoginRule::Exact, "a\tb", None);
        check(LoginRule::Exact, &"a".repeat(255), Some(&"a".repeat(255)));
        check(LoginRule::Exact, &"a".repeat(256), None);
    }

    #[test]
    fn a_store_that_folds_more_than_the_realm_finds_nobody() {
        let realm = RealmId::new("default", LoginRule::CaseMapped).unwrap();
        let login = Login::parse(&realm, "Calvin").unwrap();
        assert!(login.is("calvin") && login.is("CALVIN"));
        assert!(!login.is("calvin ") && !login.is("calvi%") && !login.is("c\u{e4}lvin"));
        let exact = RealmId::new("default", LoginRule::Exact).unwrap();
        assert!(!Login::parse(&exact, "calvin").unwrap().is("Calvin"));
    }

    #[test]
    fn equal_names_made_apart_are_equal_and_hash_alike() {
        let make = || Login::parse(&RealmId::new("default", LoginRule::Exact).unwrap(), "calvin").unwrap();
        let (one, other) = (make(), make());
        assert_eq!(
            (&one, one.hash64(), one.realm().hash64()),
            (&other, other.hash64(), other.realm().hash64())
        );
        let ab = RealmId::new("ab", LoginRule::Exact).unwrap();
        let a = RealmId::new("a", LoginRule::Exact).unwrap();
        let (a_bc, ab_c) = (Login::parse(&a, "bc").unwrap(), Login::parse(&ab, "c").unwrap());
        assert_ne!(a_bc.hash64(), ab_c.hash64());
        assert_ne!(a.hash64(), ab.hash64());
    }

    #[test]
    fn names_of_one_hash_are_told_apart_in_full() {
        let realm = |name: &str, rule| RealmId(Arc::new(RealmInner { name: name.into(), rule, hash: 7 }));
        let (a, b) = (realm("a", LoginRule::Exact), realm("b", LoginRule::Exact));
        assert_ne!(a, b);
        assert_ne!(a, realm("a", LoginRule::CaseMapped));
        assert_eq!(a, realm("a", LoginRule::Exact));
        let login = |text: &str, realm: &RealmId| Login { text: text.into(), realm: realm.clone(), hash: 7 };
        assert_ne!(login("calvin", &a), login("susie", &a));
        assert_ne!(login("calvin", &a), login("calvin", &b));
        assert_eq!(login("calvin", &a), login("calvin", &a));
    }
}
