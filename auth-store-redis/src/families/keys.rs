//! The keys of sessions.

use auth_core::{FamilyId, Revoked, TokenMark};

use crate::key::{CLUSTER_LANES, slot};

/// What the keys begin with after the prefix, so that they are apart from all others.
const MARK: &str = "s:";

/// Makes keys. All of a realm are on one lane: one slot of a cluster, so that one script may touch any of them.
#[derive(Debug, Clone)]
pub(super) struct FamilyKeys {
    /// What the keys of each lane begin with.
    fronts: Vec<String>,
}

impl FamilyKeys {
    /// Takes a checked prefix: one without braces.
    pub(super) fn new(prefix: &str, cluster: bool) -> Self {
        let front = |lane: usize| {
            if cluster { format!("{prefix}{MARK}{{{lane}}}") } else { format!("{prefix}{MARK}") }
        };
        Self { fronts: (0..if cluster { CLUSTER_LANES } else { 1 }).map(front).collect() }
    }

    pub(super) fn lanes(&self) -> usize {
        self.fronts.len()
    }

    fn front(&self, lane: usize) -> &str {
        self.fronts.get(lane).map_or("", String::as_str)
    }

    /// Returns the keys of a realm.
    pub(super) fn realm(&self, realm: &str) -> RealmKeys {
        let lane = usize::from(slot(realm.as_bytes())) % self.fronts.len().max(1);
        let name = escaped(realm);
        RealmKeys { lane, front: format!("{}{name}", self.front(lane)), name }
    }

    /// What is known of a lane: which life of the server it is from, since when, and how often each realm has ended.
    pub(super) fn store(&self, lane: usize) -> String {
        format!("{}store", self.front(lane))
    }

    /// All families of a lane, by the moment from which they may go.
    pub(super) fn due(&self, lane: usize) -> String {
        format!("{}due", self.front(lane))
    }

    /// What the keys of a lane begin with.
    pub(super) fn lane_front(&self, lane: usize) -> &str {
        self.front(lane)
    }

    /// What one change has done.
    pub(super) fn done(&self, lane: usize, change: &str) -> String {
        format!("{}done:{change}", self.front(lane))
    }
}

/// The keys of one realm. Scripts make more of them: `:p:EPOCH:LOGIN`, somebody's families, and `:l:EPOCH`, all that have
/// not ended.
#[derive(Debug)]
pub(super) struct RealmKeys {
    pub(super) lane: usize,
    /// What all of them begin with.
    pub(super) front: String,
    /// The realm as it is written in keys and fields.
    pub(super) name: String,
}

impl RealmKeys {
    /// One family.
    pub(super) fn family(&self, id: FamilyId) -> String {
        format!("{}:f:{id}", self.front)
    }

    /// One revocation.
    pub(super) fn revoked(&self, what: &Revoked<'_>) -> String {
        let kind = what.as_str();
        match what {
            Revoked::Token(mark) => format!("{}:r:{kind}:{}", self.front, hex(mark)),
            Revoked::Family(id) => format!("{}:r:{kind}:{id}", self.front),
            Revoked::Person(login) => format!("{}:r:{kind}:{login}", self.front),
            _ => format!("{}:r:{kind}:", self.front),
        }
    }
}

fn hex(mark: &TokenMark) -> String {
    mark.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a realm so that it can hold no brace and no colon. Two realms have one text only if they are the same.
fn escaped(realm: &str) -> String {
    let mut text = String::with_capacity(realm.len());
    for byte in realm.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms_do_not_run_into_each_other() {
        let keys = FamilyKeys::new("gp:", true);
        let mut seen = std::collections::BTreeSet::new();
        for realm in
            ["a", "a:f", "a%3Af", "a{b}", "a}", "{a}", "store", "due", "\u{e9}", "e\u{301}", "A", "a "]
        {
            let of = keys.realm(realm);
            assert!(of.front.starts_with("gp:s:{") && seen.insert(of.front.clone()), "{}", of.front);
            let rest = of.front.split_once('}').unwrap().1;
            assert!(!rest.contains([':', '{', '}']), "{rest}");
            assert_eq!(keys.store(of.lane).split('}').next(), of.front.split('}').next(), "on one slot");
        }
    }
}
