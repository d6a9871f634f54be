//! Sessions in the memory of one process.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use auth_core::{
    Ctx, End, Ends, Error, ErrorKind, Families, Family, FamilyId, Issued, Lookup, Millis, Renewal, Result,
    Retry, Revocations, Revoked, TokenMark,
};

/// Keeps families of refresh tokens and revocations in the memory of one process: for one process, and until it ends.
///
/// It holds so many families and so many revocations. When it is full, what is new is
/// [`Overloaded`](ErrorKind::Overloaded), once nothing is left that may go; nothing that may still be asked for is ever
/// thrown away.
pub struct MemoryFamilies {
    most: usize,
    /// A std lock: nothing awaits while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    families: HashMap<Key, Family>,
    /// The same, in the order of realms and logins.
    by_login: BTreeSet<(Arc<str>, Arc<str>, FamilyId)>,
    /// The same, by the moment from which they may go.
    by_end: BTreeSet<(Millis, Arc<str>, FamilyId)>,
    revoked: HashMap<(Arc<str>, What), Entry>,
    /// The same, by the moment from which they may go.
    by_until: BTreeSet<(Millis, Arc<str>, What)>,
}

type Key = (Arc<str>, FamilyId);

/// What is revoked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum What {
    Token([u8; 32]),
    Family(FamilyId),
    Person(Arc<str>),
    Realm,
}

#[derive(Clone, Copy)]
struct Entry {
    at: Millis,
    until: Millis,
}

impl What {
    fn new(what: &Revoked<'_>) -> Result<Self> {
        Ok(match what {
            Revoked::Token(mark) => Self::of(mark),
            Revoked::Family(id) => Self::Family(*id),
            Revoked::Person(login) => Self::Person((*login).into()),
            Revoked::Realm => Self::Realm,
            _ => return Err(unknown()),
        })
    }

    const fn of(mark: &TokenMark) -> Self {
        Self::Token(*mark.as_bytes())
    }
}

impl fmt::Debug for MemoryFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFamilies").field("most", &self.most).finish_non_exhaustive()
    }
}

impl MemoryFamilies {
    /// Makes an empty one that holds at most so many families, and as many revocations.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more family.
    fn admit_family(&self, state: &mut State, now: Millis) -> Result<()> {
        if state.families.len() >= self.most {
            state.clean_families(now, 1);
        }
        if state.families.len() >= self.most { Err(full()) } else { Ok(()) }
    }

    /// Makes room for a revocation, if it needs any.
    fn admit_revocation(&self, state: &mut State, key: &(Arc<str>, What), now: Millis) -> Result<()> {
        if state.revoked.contains_key(key) {
            return Ok(());
        }
        if state.revoked.len() >= self.most {
            state.clean_revoked(now, 1);
        }
        if state.revoked.len() >= self.most { Err(full()) } else { Ok(()) }
    }

    /// Changes a family that lives and is as it must be.
    fn change(
        &self,
        realm: &str,
        id: FamilyId,
        now: Millis,
        change: impl FnOnce(&mut Family) -> bool,
    ) -> bool {
        match self.state().families.get_mut(&key(realm, id)) {
            Some(family) if family.is_live(now) => change(family),
            _ => false,
        }
    }
}

fn key(realm: &str, id: FamilyId) -> Key {
    (realm.into(), id)
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unsupported, "this version does not know what is meant")
}

fn full() -> Error {
    Error::new(ErrorKind::Overloaded, "the memory for sessions is full")
}

impl State {
    /// Returns the ids of somebody's families, or of all of a realm.
    fn ids(&self, realm: &str, login: Option<&str>) -> Vec<FamilyId> {
        let realm: Arc<str> = realm.into();
        let from = (Arc::clone(&realm), login.unwrap_or_default().into(), FamilyId::new([0; 16]));
        let all = self.by_login.range((Bound::Included(from), Bound::Unbounded));
        all.take_while(|(of, who, _)| *of == realm && login.is_none_or(|login| **who == *login))
            .map(|(.., id)| *id)
            .collect()
    }

    fn end(&mut self, realm: &str, id: FamilyId, end: &End) -> u64 {
        match self.families.get_mut(&key(realm, id)) {
            Some(family) if family.ended.is_none() => {
                family.ended = Some((end.at, end.reason));
                1
            }
            _ => 0,
        }
    }

    fn revoke(&mut self, key: (Arc<str>, What), at: Millis, until: Millis) {
        let (realm, what) = key.clone();
        let entry = self.revoked.entry(key).or_insert(Entry { at, until: 0 });
        let old = entry.until;
        *entry = Entry { at: entry.at.max(at), until: old.max(until) };
        let new = entry.until;
        self.by_until.remove(&(old, Arc::clone(&realm), what.clone()));
        self.by_until.insert((new, realm, what));
    }

    fn clean_families(&mut self, now: Millis, most: usize) -> u64 {
        let mut gone = 0;
        for _ in 0..most {
            match self.by_end.first() {
                Some((end, ..)) if *end <= now => {}
                _ => break,
            }
            let Some((_, realm, id)) = self.by_end.pop_first() else { break };
            if let Some(family) = self.families.remove(&(Arc::clone(&realm), id)) {
                self.by_login.remove(&(realm, family.login.into(), id));
                gone += 1;
            }
        }
        gone
    }

    fn clean_revoked(&mut self, now: Millis, most: usize) -> u64 {
        let mut gone = 0;
        for _ in 0..most {
            match self.by_until.first() {
                Some((until, ..)) if *until <= now => {}
                _ => break,
            }
            let Some((_, realm, what)) = self.by_until.pop_first() else { break };
            gone += u64::from(self.revoked.remove(&(realm, what)).is_some());
        }
        gone
    }
}

#[async_trait]
impl Revocations for MemoryFamilies {
    async fn revoke(
        &self,
        _ctx: &Ctx,
        realm: &str,
        what: &Revoked<'_>,
        at: Millis,
        until: Millis,
    ) -> Result<()> {
        let key = (Arc::from(realm), What::new(what)?);
        let mut state = self.state();
        self.admit_revocation(&mut state, &key, at)?;
        state.revoke(key, at, until);
        Ok(())
    }

    async fn is_revoked(&self, _ctx: &Ctx, realm: &str, token: &Issued<'_>, now: Millis) -> Result<bool> {
        let realm: Arc<str> = realm.into();
        let state = self.state();
        let entry = |what: What| {
            state.revoked.get(&(Arc::clone(&realm), what)).copied().filter(|entry| now < entry.until)
        };
        let before = |entry: Entry| token.at.is_none_or(|at| at <= entry.at);
        Ok(entry(What::of(&token.mark)).is_some()
            || token.family.is_some_and(|id| entry(What::Family(id)).is_some())
            || entry(What::Person(token.login.into())).is_some_and(before)
            || entry(What::Realm).is_some_and(before))
    }
}

#[async_trait]
impl Families for MemoryFamilies {
    async fn begin(&self, _ctx: &Ctx, family: &Family) -> Result<()> {
        family.check()?;
        let mut state = self.state();
        let (realm, id) = (Arc::clone(&family.realm), family.id);
        if state.families.contains_key(&(Arc::clone(&realm), id)) {
            return Err(Error::new(ErrorKind::Invalid, "a session of this id is there already"));
        }
        self.admit_family(&mut state, family.created_at)?;
        state.by_login.insert((Arc::clone(&realm), family.login.as_str().into(), id));
        state.by_end.insert((family.absolute_end, Arc::clone(&realm), id));
        state.families.insert((realm, id), family.clone());
        Ok(())
    }

    async fn family(&self, _ctx: &Ctx, realm: &str, id: FamilyId) -> Result<Lookup<Family>> {
        Ok(self.state().families.get(&key(realm, id)).cloned().map_or(Lookup::NotFound, Lookup::Found))
    }

    async fn renew(&self, _ctx: &Ctx, realm: &str, id: FamilyId, renewal: &Renewal) -> Result<bool> {
        Ok(self.change(realm, id, renewal.at, |family| {
            let Some(next) = renewal.from.checked_add(1).filter(|_| family.generation == renewal.from) else {
                return false;
            };
            (family.generation, family.retries, family.confirmed) = (next, 0, false);
            (family.rotated_at, family.last_used_at) = (renewal.at, renewal.at);
            family.idle_end = renewal.idle_end;
            true
        }))
    }

    async fn retry(&self, _ctx: &Ctx, realm: &str, id: FamilyId, retry: &Retry) -> Result<bool> {
        Ok(self.change(realm, id, retry.at, |family| {
            let may = retry.from.checked_add(1) == Some(family.generation)
                && !family.confirmed
                && family.rotated_at.abs_diff(retry.at) < retry.grace
                && family.retries < retry.most;
            family.retries += u32::from(may);
            may
        }))
    }

    async fn confirm(&self, _ctx: &Ctx, realm: &str, id: FamilyId, generation: u32) -> Result<()> {
        if let Some(family) = self.state().families.get_mut(&key(realm, id))
            && family.generation == generation
            && family.ended.is_none()
        {
            family.confirmed = true;
        }
        Ok(())
    }

    async fn end(&self, _ctx: &Ctx, realm: &str, what: &Ends<'_>, end: &End) -> Result<u64> {
        let mut state = self.state();
        let (revoked, ids) = match what {
            Ends::Family(id) => (What::Family(*id), vec![*id]),
            Ends::Person(login) => (What::Person((*login).into()), state.ids(realm, Some(login))),
            Ends::Realm => (What::Realm, state.ids(realm, None)),
            _ => return Err(unknown()),
        };
        let key = (Arc::from(realm), revoked);
        // Before anything ends: both, or nothing.
        self.admit_revocation(&mut state, &key, end.at)?;
        let ended = ids.into_iter().map(|id| state.end(realm, id, end)).sum();
        state.revoke(key, end.at, end.until);
        Ok(ended)
    }

    async fn sessions(
        &self,
        _ctx: &Ctx,
        realm: &str,
        login: &str,
        now: Millis,
        most: u32,
    ) -> Result<Vec<Family>> {
        let state = self.state();
        let ids = state.ids(realm, Some(login));
        let families = ids.into_iter().filter_map(|id| state.families.get(&key(realm, id)));
        let mut live: Vec<Family> = families.filter(|family| family.is_live(now)).cloned().collect();
        drop(state);
        live.sort_by_key(|family| std::cmp::Reverse((family.created_at, family.id)));
        live.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(live)
    }

    async fn clean(&self, _ctx: &Ctx, now: Millis, most: u32) -> Result<u64> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut state = self.state();
        Ok(state.clean_families(now, most) + state.clean_revoked(now, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_testkit::suite::{FamilyBench, HOUR, START, run_all_families};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_does_what_all_stores_of_sessions_do() {
        let store = Arc::new(MemoryFamilies::new(100_000));
        run_all_families(&FamilyBench::alone(&store)).await;
    }

    #[tokio::test]
    async fn what_is_full_refuses_what_is_new_and_forgets_nothing_that_lives() {
        let store = Arc::new(MemoryFamilies::new(3));
        let bench = FamilyBench::alone(&store);
        let ctx = Ctx::new();
        let mut all = Vec::new();
        for n in 0..3 {
            let family = Family { absolute_end: START + HOUR * (n + 1), ..bench.family("a", "calvin") };
            store.begin(&ctx, &family).await.unwrap();
            all.push(family);
        }
        let more = bench.family("a", "susie");
        assert_eq!(store.begin(&ctx, &more).await.unwrap_err().kind(), ErrorKind::Overloaded);
        // Ended is not gone.
        let end = End { at: START, reason: auth_core::EndReason::Logout, until: START + HOUR };
        assert_eq!(store.end(&ctx, "a", &Ends::Person("calvin"), &end).await.unwrap(), 3);
        assert_eq!(store.begin(&ctx, &more).await.unwrap_err().kind(), ErrorKind::Overloaded);
        let later = Family { created_at: START + HOUR, ..more };
        store.begin(&ctx, &later).await.unwrap();
        assert_eq!(store.family(&ctx, "a", all[0].id).await.unwrap(), Lookup::NotFound);
        assert!(matches!(store.family(&ctx, "a", all[1].id).await.unwrap(), Lookup::Found(_)));
        // The same for revocations: an end that can't be remembered ends nothing.
        for login in ["moe", "hobbes"] {
            store.revoke(&ctx, "a", &Revoked::Person(login), START, START + HOUR).await.unwrap();
        }
        let error = store.end(&ctx, "a", &Ends::Family(later.id), &end).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(store.family(&ctx, "a", later.id).await.unwrap().found().unwrap().ended.is_none());
        let end = End { at: START + HOUR, until: START + 2 * HOUR, ..end };
        assert_eq!(store.end(&ctx, "a", &Ends::Family(later.id), &end).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_revoked_again_needs_no_room_and_is_remembered_for_longer() {
        let store = MemoryFamilies::new(1);
        let ctx = Ctx::new();
        let revoke = async |login: &'static str, until| {
            store.revoke(&ctx, "a", &Revoked::Person(login), START, until).await.map_err(|error| error.kind())
        };
        revoke("calvin", START + HOUR).await.unwrap();
        assert_eq!(revoke("susie", START + HOUR).await, Err(ErrorKind::Overloaded));
        for until in [START + 3 * HOUR, START + 2 * HOUR] {
            revoke("calvin", until).await.unwrap();
        }
        let mark = TokenMark::new([7; 32]);
        let token = Issued { mark, family: None, login: "calvin", at: Some(START) };
        for (now, revoked) in
            [(START + 2 * HOUR, true), (START + 3 * HOUR - 1, true), (START + 3 * HOUR, false)]
        {
            assert_eq!(store.clean(&ctx, now, 10).await.unwrap(), u64::from(!revoked));
            assert_eq!(store.is_revoked(&ctx, "a", &token, now).await.unwrap(), revoked);
        }
    }

    #[tokio::test]
    async fn what_is_deleted_leaves_nothing_behind() {
        let store = Arc::new(MemoryFamilies::new(10));
        let bench =
            FamilyBench::new(Arc::<MemoryFamilies>::clone(&store), Arc::<MemoryFamilies>::clone(&store));
        let ctx = Ctx::new();
        let family = bench.family("a", "calvin");
        store.begin(&ctx, &family).await.unwrap();
        let end = End { at: START, reason: auth_core::EndReason::Logout, until: family.absolute_end };
        store.end(&ctx, "a", &Ends::Realm, &end).await.unwrap();
        assert_eq!(store.clean(&ctx, family.absolute_end, 10).await.unwrap(), 2);
        let state = store.state();
        assert!(state.families.is_empty() && state.by_login.is_empty() && state.by_end.is_empty());
        assert!(state.revoked.is_empty() && state.by_until.is_empty());
    }
}
