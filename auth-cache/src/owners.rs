//! Which source a login was last found in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Clock, Login, Moment, Owners};

use crate::table::Sharded;

/// How long an owner is remembered: longer than any answer, so that an outage does not let a twin account
/// in a later source win.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Remembers which source a login was last found in, for 24 hours, for at most so many logins: then the
/// least recently used goes.
pub struct OwnerTable {
    owners: Sharded<Login, (Arc<str>, Moment)>,
    clock: Arc<dyn Clock>,
}

impl OwnerTable {
    /// Makes a table for so many logins.
    #[must_use]
    pub fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { owners: Sharded::new(capacity), clock }
    }

    /// How long an owner is remembered.
    pub const LIFE: Duration = LIFE;

    /// Returns the owner of a login, and how long ago that was last seen.
    #[must_use]
    pub fn seen(&self, login: &Login) -> Option<(Arc<str>, Duration)> {
        let (source, since) = self.owners.get(login)?;
        let age = self.clock.coarse().since(since);
        (age < LIFE).then_some((source, age))
    }

    /// Remembers an owner that was last seen so long ago, before this table was made, unless something newer is known.
    pub fn restore(&self, login: Login, source: Arc<str>, age: Duration) {
        let seen =
            self.clock.now().as_nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        let seen = Moment::from_nanos(seen);
        if self.owners.get(&login).is_none_or(|(_, since)| since <= seen) {
            self.owners.put::<Login>(login, (source, seen));
        }
    }

    /// Goes through what is remembered, with how long ago each was seen.
    pub fn each(&self, mut see: impl FnMut(&Login, &Arc<str>, Duration)) {
        let now = self.clock.now();
        self.owners.each(|login, (source, since)| see(login, source, now.since(*since)));
    }

    /// Returns how many logins are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Reports whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[deny(clippy::missing_trait_methods)]
impl Owners for OwnerTable {
    fn owner(&self, login: &Login) -> Option<Arc<str>> {
        self.seen(login).map(|(source, _)| source)
    }

    fn remember(&self, login: &Login, source: &Arc<str>) {
        self.owners.put::<Login>(login.clone(), (Arc::clone(source), self.clock.now()));
    }

    fn forget(&self, login: &Login) {
        self.owners.remove(login);
    }

    fn forget_realm(&self, realm: &str) {
        self.owners.retain(|login, _| login.realm().name() != realm);
    }
}

impl fmt::Debug for OwnerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::{LoginRule, RealmId};
    use auth_testkit::ManualClock;

    fn login(realm: &str, text: &str) -> Login {
        Login::parse(&RealmId::new(realm, LoginRule::Exact).unwrap(), text).unwrap()
    }

    #[test]
    fn an_owner_is_remembered_for_a_day_and_reading_does_not_renew() {
        let clock = ManualClock::new();
        let owners = OwnerTable::new(10, Arc::clone(&clock) as Arc<dyn Clock>);
        let (calvin, app) = (login("a", "calvin"), Arc::from("app"));
        owners.remember(&calvin, &app);
        clock.advance(LIFE - Duration::from_secs(1));
        assert_eq!(owners.owner(&calvin).as_deref(), Some("app"));
        clock.advance(Duration::from_secs(1));
        assert_eq!(owners.owner(&calvin), None);
        owners.remember(&calvin, &Arc::from("staff"));
        assert_eq!(owners.owner(&calvin).as_deref(), Some("staff"));
    }

    #[test]
    fn realms_are_apart_and_are_forgotten_apart() {
        let owners = OwnerTable::new(10, ManualClock::new());
        let (a, b) = (login("a", "calvin"), login("b", "calvin"));
        owners.remember(&a, &Arc::from("app"));
        assert_eq!(owners.owner(&b), None);
        owners.remember(&b, &Arc::from("staff"));
        owners.forget_realm("a");
        assert_eq!((owners.owner(&a), owners.owner(&b).as_deref()), (None, Some("staff")));
        owners.forget(&b);
        assert!(owners.is_empty());
    }

    #[test]
    fn owners_are_bounded_and_those_in_use_stay() {
        let owners = OwnerTable::new(3, ManualClock::new());
        let calvin = login("a", "calvin");
        owners.remember(&calvin, &Arc::from("app"));
        for n in 0..100 {
            owners.remember(&login("a", &format!("u{n}")), &Arc::from("app"));
            assert!(owners.owner(&calvin).is_some() && owners.len() <= 3);
        }
        let none = OwnerTable::new(0, ManualClock::new());
        none.remember(&calvin, &Arc::from("app"));
        assert_eq!(none.owner(&calvin), None);
    }
}
