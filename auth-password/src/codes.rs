//! One-time codes that were used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use auth_core::{Error, ErrorKind, Id, Principal, Result};

use crate::hash::totp::{STEP_SECONDS, WINDOW};

// People who log in with codes within a minute and a half.
const CAPACITY: usize = 65_536;

/// Remembers the last step that each person's code was accepted for, while it matters.
///
/// By source and id, since one person may be asked for in several realms. Never forgets early:
/// when it is full of steps that still matter, a further person is told to come back.
pub(crate) struct UsedCodes {
    last: Mutex<HashMap<(Arc<str>, Id), u64>>,
    capacity: usize,
}

impl Default for UsedCodes {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl UsedCodes {
    fn with_capacity(capacity: usize) -> Self {
        Self { last: Mutex::default(), capacity }
    }

    /// Marks a step as used, in one atomic step; reports whether it and all later ones were unused.
    pub(crate) fn take(&self, who: &Principal, step: u64, now: u64) -> Result<bool> {
        // A std mutex: nothing awaits while it is held.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(who.source()), who.id().clone());
        if let Some(used) = last.get_mut(&key) {
            let unused = step > *used;
            *used = step.max(*used);
            return Ok(unused);
        }
        if last.len() >= self.capacity {
            last.retain(|_, used| used.saturating_add(WINDOW) >= now);
        }
        if last.len() >= self.capacity {
            return Err(Error::new(ErrorKind::Overloaded, "too many one-time codes were used just now")
                .retry_after(std::time::Duration::from_secs(STEP_SECONDS)));
        }
        last.insert(key, step);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use auth_core::{Fingerprint, Login, LoginRule, RealmId, SourceInfo};

    use super::*;

    fn person(name: &str) -> Principal {
        let realm = RealmId::new("default", LoginRule::Exact).unwrap();
        let login = Login::parse(&realm, name).unwrap();
        let source = SourceInfo::new("app", Fingerprint::default());
        Principal::found(&source, &login, name, Id::Text(name.into())).unwrap()
    }

    #[test]
    fn a_code_is_good_once_and_so_is_every_later_one() {
        let codes = UsedCodes::default();
        let calvin = person("calvin");
        assert!(codes.take(&calvin, 10, 10).unwrap());
        assert!(!codes.take(&calvin, 10, 10).unwrap());
        assert!(!codes.take(&calvin, 9, 10).unwrap());
        assert!(codes.take(&calvin, 11, 10).unwrap());
        assert!(!codes.take(&calvin, 11, 11).unwrap());
        assert!(codes.take(&person("susie"), 10, 10).unwrap());
    }

    #[test]
    fn a_full_table_refuses_rather_than_forgets() {
        let codes = UsedCodes::with_capacity(2);
        assert!(codes.take(&person("calvin"), 11, 10).unwrap());
        assert!(codes.take(&person("susie"), 10, 10).unwrap());
        assert_eq!(codes.take(&person("moe"), 11, 11).unwrap_err().kind(), ErrorKind::Overloaded);
        assert!(!codes.take(&person("susie"), 10, 11).unwrap());
        // Two steps on, no clock window accepts susie's code any more.
        assert!(codes.take(&person("moe"), 12, 12).unwrap());
        assert!(!codes.take(&person("calvin"), 11, 12).unwrap());
    }
}
