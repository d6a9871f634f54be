//! Sets of keys (RFC 7517, 5).

use auth_core::{Error, ErrorKind, Result};

use super::{Jwk, Node, Object, Short};

/// The longest text of a set.
const MAX_TEXT: usize = 1024 * 1024;
/// The most keys that a set may have.
const MAX_KEYS: usize = 256;

/// A set of keys.
///
/// A key that can't be used (a kind that is not known, a point that is on no curve) does not spoil the set; whoever
/// names it is told that it can't be used.
#[derive(Debug, Clone, Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    unfit: Vec<(Option<String>, Error)>,
}

impl JwkSet {
    /// Reads a set that was published.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it is no set, if two keys have the same name, or if there is a secret or a
    /// private part in it: nobody may know what was published so, and everybody does.
    pub fn published(text: &str) -> Result<Self> {
        let set = Self::read(text, Short::Refused, true)?;
        if set.keys.iter().any(Jwk::is_private) {
            return Err(invalid("a published set has no secrets and no private parts"));
        }
        Ok(set)
    }

    /// Reads a set, or a single key, from a place that only we read: there may be secrets in it.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it is no set, or if two keys have the same name.
    pub fn own(text: &str, short: Short) -> Result<Self> {
        Self::read(text, short, false)
    }

    /// Makes a set of keys.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if two keys have the same name.
    pub fn new(keys: Vec<Jwk>) -> Result<Self> {
        let set = Self { keys, unfit: Vec::new() };
        set.distinct()?;
        Ok(set)
    }

    /// Returns the keys that can be used.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// Returns the names of the keys that can't be used, with the reasons.
    pub fn unfit(&self) -> impl Iterator<Item = (Option<&str>, &Error)> {
        self.unfit.iter().map(|(kid, why)| (kid.as_deref(), why))
    }

    /// Writes the public halves as a set; secrets are left out.
    #[must_use]
    pub fn to_public_json(&self) -> String {
        let keys: Vec<String> =
            self.keys.iter().filter_map(Jwk::public).map(|key| key.to_json().to_string()).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }

    fn read(text: &str, short: Short, published: bool) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(invalid("the set is longer than 1 MiB"));
        }
        let object = Object::parse(text)
            .ok_or_else(|| invalid("a set of keys is one JSON object, with no name twice"))?;
        let single = !published && object.has("kty");
        let one = std::slice::from_ref(&object);
        let members: Vec<&Object<'_>> = match object.get("keys") {
            _ if single => one.iter().collect(),
            Some(Node::List(list)) => {
                let members = list.iter().map(|node| match node {
                    Node::Object(object) => Ok(object),
                    _ => Err(invalid("a key is an object")),
                });
                members.collect::<Result<_>>()?
            }
            _ => return Err(invalid("a set of keys has a list of keys")),
        };
        if members.len() > MAX_KEYS {
            return Err(invalid("the set has more than 256 keys"));
        }
        let mut set = Self::default();
        for member in members {
            // Before anything else, so that no fault of a key hides that it was published.
            if published && ["d", "k", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| member.has(name))
            {
                return Err(invalid("a published set has no secrets and no private parts"));
            }
            match Jwk::from_object(member, short) {
                Ok(key) => set.keys.push(key),
                Err(why) => {
                    set.unfit.push((member.get("kid").and_then(Node::text).map(str::to_owned), why));
                }
            }
        }
        set.distinct()?;
        Ok(set)
    }

    fn distinct(&self) -> Result<()> {
        let mut kids: Vec<&str> = self.keys.iter().filter_map(Jwk::kid).collect();
        kids.extend(self.unfit.iter().filter_map(|(kid, _)| kid.as_deref()));
        let all = kids.len();
        kids.sort_unstable();
        kids.dedup();
        if kids.len() < all {
            return Err(invalid("two keys of the set have the same kid"));
        }
        Ok(())
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
