//! The keys of a store.

use auth_core::{Id, ObjectRef};

use crate::key::slot;

/// Makes keys. All have one hash tag, so that in a cluster one script may touch any of them.
#[derive(Debug, Clone)]
pub(crate) struct StoreKeys {
    /// What all of them begin with: `{prefix}`.
    pub(crate) front: String,
    slot: u16,
}

impl StoreKeys {
    /// Takes a checked prefix: one without braces.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { front: format!("{{{prefix}}}"), slot: slot(prefix.as_bytes()) }
    }

    /// Returns the slot of all keys.
    pub(crate) const fn slot(&self) -> u16 {
        self.slot
    }

    fn with(&self, kind: &str, rest: &str) -> String {
        [&self.front, kind, rest].concat()
    }

    /// Says which store this is.
    pub(crate) fn store(&self) -> String {
        self.with("store", "")
    }

    pub(crate) fn users(&self) -> String {
        self.with("users", "")
    }

    pub(crate) fn groups(&self) -> String {
        self.with("groups", "")
    }

    pub(crate) fn domains(&self) -> String {
        self.with("domains", "")
    }

    /// One person, by the login in normal form.
    pub(crate) fn user(&self, login: &str) -> String {
        self.with("user:", login)
    }

    /// The groups of one person, by id.
    pub(crate) fn groups_of(&self, id: &str) -> String {
        self.with("groups:", id)
    }

    /// One object, by its [name](object_name).
    pub(crate) fn object(&self, name: &str) -> String {
        self.with("object:", name)
    }

    /// What one change has done.
    pub(crate) fn done(&self, change: &str) -> String {
        self.with("done:", change)
    }

    /// Where writing is tried out.
    pub(crate) fn trial(&self, which: &str) -> String {
        self.with("try:", which)
    }
}

/// Writes an object's domain and id as one text: `page:wiki,42`. Two objects have one text only if they have one domain
/// and their parts read alike.
pub(crate) fn object_name(object: &ObjectRef) -> String {
    let mut name = String::new();
    escape(&mut name, object.domain(), ':');
    name.push(':');
    for (n, part) in object.id().iter().enumerate() {
        if n > 0 {
            name.push(',');
        }
        match part {
            Id::Text(text) => escape(&mut name, text, ','),
            other => escape(&mut name, &other.to_string(), ','),
        }
    }
    name
}

fn escape(to: &mut String, text: &str, mark: char) {
    for c in text.chars() {
        if c == mark || c == '\\' {
            to.push('\\');
        }
        to.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_the_parts_of_ids_do_not_run_into_each_other() {
        let check = |domain: &str, parts: &[&str], name: &str| {
            let object = ObjectRef::new(domain, parts.iter().map(|part| Id::from(*part))).unwrap();
            assert_eq!(object_name(&object), name);
        };
        check("doc", &["1"], "doc:1");
        check("page", &["wiki", "42"], "page:wiki,42");
        check("page", &["wiki,42"], "page:wiki\\,42");
        check("page", &["wiki\\", "42"], "page:wiki\\\\,42");
        check("page:wiki", &["42"], "page\\:wiki:42");
        check("page", &["wiki:42"], "page:wiki:42");
        check("page\\", &["a"], "page\\\\:a");
        check("page", &[":a"], "page::a");
        let number = ObjectRef::new("page", [Id::from("wiki"), Id::from(42)]).unwrap();
        assert_eq!(object_name(&number), "page:wiki,42", "as in an SQL store");
    }

    #[test]
    fn every_key_has_the_tag_of_the_store() {
        let keys = StoreKeys::new("gatepost.");
        assert_eq!(keys.user("calvin"), "{gatepost.}user:calvin");
        assert_eq!(keys.groups_of("7"), "{gatepost.}groups:7");
        assert_eq!(keys.groups(), "{gatepost.}groups");
        // A hostile login is behind the tag, where it can move nothing.
        assert_eq!(keys.user("{a}"), "{gatepost.}user:{a}");
        assert_eq!(keys.slot(), slot(b"gatepost."));
    }
}
