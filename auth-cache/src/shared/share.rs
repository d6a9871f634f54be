//! One wrapper's part of the shared cache: its questions, looked up, judged and kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth_core::{
    Freshness, Generation, Login, Moment, Principal, RealmId, Result, SourceInfo, TierAsk, TierRead,
    TierTime, TierWrite, TokenId, TokenState, WireName, Written,
};
use futures_util::future::join_all;

use super::cache::SharedCache;
use super::codec;
use super::keys::Of;
use super::seal::{Broken, Head};
use crate::settings::{Lifetimes, nanos};
use crate::{Answer, Ask, Key};

/// How much longer a generation is kept than what depends on it: the time of a load and more.
const LONGER: Duration = Duration::from_secs(60);

/// What lives for less than the clocks tell apart is not worth a round trip.
const LEAST: Duration = Duration::from_millis(2);

/// Of the generations that are read with a token, so many are what its entry depends on. The other says whether
/// anything at all was invalidated, and matters only until the entry is written.
const TOKEN: usize = 1;

/// A server's clock may be set back a little between two questions. What is from further in its future than this is
/// not believed.
const STEP_BACK: u64 = 1_000;

/// What a wrapper shares with its like in other processes.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) cache: Arc<SharedCache>,
    source: SourceInfo,
    lifetimes: Arc<Lifetimes>,
    // Of the realm that was asked about first, mostly the only one.
    wide: OnceLock<Wide>,
    counters: Counters,
}

/// The names of generations that all questions of a realm depend on.
#[derive(Debug, Clone)]
struct Wide {
    realm: RealmId,
    all: WireName,
    ids: WireName,
    groups: WireName,
}

/// What a question has in the shared cache: its entry, and what that depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    entry: WireName,
    lane: usize,
    names: [WireName; Self::MOST],
    count: usize,
}

impl Wanted {
    const MOST: usize = 5;

    fn add(&mut self, name: WireName) {
        if let Some(place) = self.names.get_mut(self.count) {
            *place = name;
            self.count += 1;
        }
    }

    fn generations(&self) -> &[WireName] {
        self.names.get(..self.count).unwrap_or_default()
    }

    fn question(&self) -> TierAsk<'_> {
        TierAsk { entry: self.entry, generations: self.generations() }
    }
}

/// What came of a look at the shared cache.
#[derive(Debug)]
pub(crate) enum Look {
    /// An answer that is good.
    Hit(Found),
    /// None; an answer that is loaded now may be kept under these.
    Miss(Marks),
    /// It can't be asked now, or does not say.
    Off,
}

/// An answer from the shared cache.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) answer: Answer,
    /// Since its source was asked, at least what it is.
    pub(crate) age: Duration,
    /// How old it may get at most.
    pub(crate) life: Duration,
    /// Of a token's state: the stamp of its person, which shows only in it.
    person: Option<Stamp>,
}

/// What an entry was loaded under: its generations, and the life of the server.
pub(crate) type Stamp = [u8; 16];

/// What was read in the shared cache before a source is asked.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    wanted: Wanted,
    generations: Vec<Option<Generation>>,
    now: TierTime,
    incarnation: u64,
}

/// An answer to keep in the shared cache.
#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) answer: Answer,
    /// How long it lives, from when these marks were read on.
    pub(crate) life: Duration,
    pub(crate) marks: Marks,
}

/// An entry as it goes to the server.
#[derive(Debug)]
struct Sealed {
    entry: WireName,
    bytes: Vec<u8>,
    until: TierTime,
    generations: Vec<(WireName, Generation)>,
}

/// A look at the shared cache that has brought no answer, by somebody who is about to ask the source.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    /// When it began.
    pub(crate) since: Moment,
    /// What was there; nothing if it could not be asked.
    pub(crate) marks: Option<Marks>,
}

/// What somebody who looks for a load to join has seen in the shared cache, and from when on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) since: Moment,
    pub(crate) stamp: Option<Stamp>,
}

impl Looked {
    pub(crate) fn seen(&self) -> Seen {
        // Who could not look joins only what was put since: another process may have voided the rest.
        Seen { since: self.since, stamp: self.marks.as_ref().and_then(Marks::full_stamp) }
    }
}

/// Why an entry is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    Nothing,
    Void,
    Expired,
    TooOld,
    Broken,
}

/// What a wrapper's part of the shared cache has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SharedStats {
    /// Questions that it has answered. They are among the hits of the whole.
    pub hits: u64,
    /// Questions that it had no entry for.
    pub misses: u64,
    /// Entries that an invalidation had voided.
    pub voided: u64,
    /// Entries that were past their lifetime.
    pub expired: u64,
    /// Entries that were not authentic: changed, cut off, or of somebody else.
    pub forged: u64,
    /// Entries sealed under a key, or in a format, that this process does not know.
    pub foreign: u64,
    /// Questions that failed: no connection, too slow, refused.
    pub errors: u64,
    /// Questions that were not put, since the server is left alone after failures or does not know yet what is void.
    pub skipped: u64,
    /// Answers that were stored.
    pub stored: u64,
    /// Answers that were not, since an invalidation was faster.
    pub outdated: u64,
    /// Answers that were not, since they are larger than the server keeps.
    pub too_large: u64,
    /// Answers that could not be stored.
    pub store_errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    voided: AtomicU64,
    expired: AtomicU64,
    forged: AtomicU64,
    foreign: AtomicU64,
    errors: AtomicU64,
    skipped: AtomicU64,
    stored: AtomicU64,
    outdated: AtomicU64,
    too_large: AtomicU64,
    store_errors: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Share {
    pub(crate) fn new(cache: Arc<SharedCache>, source: SourceInfo, lifetimes: Arc<Lifetimes>) -> Self {
        Self { cache, source, lifetimes, wide: OnceLock::new(), counters: Counters::default() }
    }

    pub(crate) fn stats(&self) -> SharedStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        SharedStats {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            voided: read(&counters.voided),
            expired: read(&counters.expired),
            forged: read(&counters.forged),
            foreign: read(&counters.foreign),
            errors: read(&counters.errors),
            skipped: read(&counters.skipped),
            stored: read(&counters.stored),
            outdated: read(&counters.outdated),
            too_large: read(&counters.too_large),
            store_errors: read(&counters.store_errors),
        }
    }

    /// Names what a question has in the shared cache.
    pub(crate) fn wanted(&self, ask: &Ask<'_>) -> Wanted {
        let names = &self.cache.names;
        let entry = names.entry(&self.source, ask);
        let lane = self.cache.tier.lane(&entry);
        let mut wanted = Wanted { entry, lane, names: [entry; Wanted::MOST], count: 0 };
        let login = |login: &Login| names.generation(&Of::Login(login));
        let id = |who: &Principal| {
            names.generation(&Of::Id { realm: who.realm(), source: who.source(), id: who.id() })
        };
        match *ask {
            Ask::Account(asked) => {
                self.wide(asked.realm(), |wide| {
                    wanted.add(wide.all);
                    wanted.add(wide.ids);
                });
                wanted.add(login(asked));
            }
            Ask::Groups(who) | Ask::Access(who, ..) => {
                self.wide(who.realm(), |wide| {
                    wanted.add(wide.all);
                    wanted.add(wide.groups);
                });
                wanted.add(login(who.login()));
                wanted.add(id(who));
                if let Ask::Access(_, object, _) = *ask {
                    wanted.add(names.generation(&Of::Object { realm: who.realm(), object }));
                }
            }
            // Whose token it is shows only in its state.
            Ask::Token(_) => {
                wanted.add(names.generation(&Of::All));
                wanted.add(names.generation(&Of::Told));
            }
        }
        wanted
    }

    fn wide(&self, realm: &RealmId, run: impl FnOnce(&Wide)) {
        let names = &self.cache.names;
        let make = || Wide {
            realm: realm.clone(),
            all: names.generation(&Of::All),
            ids: names.generation(&Of::Ids(realm)),
            groups: names.generation(&Of::Groups(realm)),
        };
        let first = self.wide.get_or_init(make);
        if first.realm == *realm { run(first) } else { run(&make()) }
    }

    /// Looks a question up.
    pub(crate) async fn look(&self, freshness: Freshness, now: Moment, ask: &Ask<'_>) -> Look {
        let wanted = self.wanted(ask);
        let read = self.read(now, &wanted).await;
        self.weigh(freshness, ask, wanted, read)
    }

    /// Looks questions up, those of one lane in one round trip. The answers belong to the questions in their order.
    pub(crate) async fn look_many(&self, freshness: Freshness, now: Moment, asks: &[Ask<'_>]) -> Vec<Look> {
        let wanted: Vec<Wanted> = asks.iter().map(|ask| self.wanted(ask)).collect();
        let reads = self.read_many(now, &wanted).await;
        let each = asks.iter().zip(wanted.into_iter().zip(reads));
        each.map(|(ask, (wanted, read))| self.weigh(freshness, ask, wanted, read)).collect()
    }

    /// Reads what a question has in the shared cache; nothing if it may not be put.
    async fn read(&self, now: Moment, wanted: &Wanted) -> Option<Result<TierRead>> {
        let pass = self.cache.admit(now, wanted.lane, wanted.generations())?;
        self.cache.read(&[wanted.question()], [pass]).await.pop()
    }

    /// Does as [`read`](Self::read) for many questions.
    async fn read_many(&self, now: Moment, wanted: &[Wanted]) -> Vec<Option<Result<TierRead>>> {
        let mut passes = Vec::with_capacity(wanted.len());
        let mut questions = Vec::with_capacity(wanted.len());
        let mut admitted = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let pass = self.cache.admit(now, wanted.lane, wanted.generations());
            admitted.push(pass.is_some());
            if let Some(pass) = pass {
                passes.push(pass);
                questions.push(wanted.question());
            }
        }
        let mut reads = match questions.is_empty() {
            true => Vec::new(),
            false => self.cache.read(&questions, passes).await,
        }
        .into_iter();
        // A tier that answers fewer than it was asked says nothing of the rest.
        admitted.into_iter().map(|admitted| if admitted { reads.next() } else { None }).collect()
    }

    /// Returns what was read, or counts why nothing was.
    fn known(&self, read: Option<Result<TierRead>>) -> Option<TierRead> {
        match read {
            Some(Ok(read)) => return Some(read),
            Some(Err(_)) => count(&self.counters.errors),
            None => count(&self.counters.skipped),
        }
        None
    }

    fn weigh(
        &self,
        freshness: Freshness,
        ask: &Ask<'_>,
        wanted: Wanted,
        read: Option<Result<TierRead>>,
    ) -> Look {
        let Some(read) = self.known(read) else { return Look::Off };
        match self.judge(freshness, ask, wanted, read) {
            (Some(found), _) => Look::Hit(found),
            (None, marks) => Look::Miss(marks),
        }
    }

    /// Finds the answer in what was read, if it is good, and counts it or why it is not.
    fn judge(
        &self,
        freshness: Freshness,
        ask: &Ask<'_>,
        wanted: Wanted,
        mut read: TierRead,
    ) -> (Option<Found>, Marks) {
        let (entry, left) = (read.entry.take(), read.left);
        let marks = Marks::new(wanted, read);
        let counters = &self.counters;
        let found = match entry {
            Some(bytes) => self.find(freshness, ask, &marks, left, bytes),
            None => Err(No::Nothing),
        };
        match &found {
            // A token's is counted once its person's generations are seen.
            Ok(found) if found.person.is_some() => {}
            Ok(_) => count(&counters.hits),
            Err(No::Nothing | No::TooOld) => count(&counters.misses),
            Err(No::Void) => count(&counters.voided),
            Err(No::Expired) => count(&counters.expired),
            // Counted by kind.
            Err(No::Broken) => {}
        }
        (found.ok(), marks)
    }

    fn find(
        &self,
        freshness: Freshness,
        ask: &Ask<'_>,
        marks: &Marks,
        left: Option<Duration>,
        mut bytes: Vec<u8>,
    ) -> std::result::Result<Found, No> {
        let head = self.cache.sealer.head(&bytes).map_err(|broken| self.broken(broken))?;
        let count_of = if matches!(ask, Ask::Token(_)) { TOKEN } else { marks.wanted.count };
        if marks.stamp(count_of) != Some(head.stamp) {
            return Err(No::Void);
        }
        let (now, loaded) = (marks.now.as_millis(), head.loaded.as_millis());
        if loaded > now.saturating_add(STEP_BACK) {
            return Err(No::Expired);
        }
        let mut age = Duration::from_millis(now.saturating_sub(loaded));
        // Where the server tells how long it keeps the entry, the age follows from that, too; the greater one counts.
        if let Some(left) = left {
            age = age.max(head.life.saturating_sub(left));
        }
        if age >= head.life {
            return Err(No::Expired);
        }
        let plain =
            self.cache.sealer.open(&marks.wanted.entry, &mut bytes).map_err(|broken| self.broken(broken))?;
        let foreign = || {
            count(&self.counters.foreign);
            No::Broken
        };
        let (person, plain) = match ask {
            Ask::Token(_) => {
                let (person, plain) = plain.split_first_chunk().ok_or_else(foreign)?;
                (Some(*person), plain)
            }
            _ => (None, plain),
        };
        let answer = codec::decode(ask, &self.source, plain).map_err(|_| foreign())?;
        let life = head.life.min(self.lifetimes.of(&answer));
        if age >= life {
            return Err(No::Expired);
        }
        if !freshness.accepts(age) {
            return Err(No::TooOld);
        }
        Ok(Found { answer, age, life, person })
    }

    /// Looks a token up. Whose it is shows only in its state, so that person's generations are read after it. Returns
    /// what was read, too, if it could be.
    pub(crate) async fn look_token(
        &self,
        freshness: Freshness,
        id: &TokenId,
    ) -> (Option<Found>, Option<Marks>) {
        let ask = Ask::Token(id);
        let (now, wanted) = (self.cache.clock.now(), self.wanted(&ask));
        let Some(read) = self.known(self.read(now, &wanted).await) else { return (None, None) };
        let (found, marks) = self.judge(freshness, &ask, wanted, read);
        let Some(found) = found else { return (None, Some(marks)) };
        let Answer::Token(state) = &found.answer else { return (None, Some(marks)) };
        let person = self.person(&wanted, &state.principal);
        let Some(Ok(read)) = self.read(self.cache.clock.now(), &person).await else {
            return (None, Some(marks));
        };
        let current = Marks::new(person, read).full_stamp();
        if current.is_some() && current == found.person {
            count(&self.counters.hits);
            return (Some(found), Some(marks));
        }
        count(&self.counters.voided);
        (None, Some(marks))
    }

    /// What a token's entry depends on beside what all tokens do.
    fn person(&self, wanted: &Wanted, who: &Principal) -> Wanted {
        let names = &self.cache.names;
        let mut person = Wanted { count: 0, ..*wanted };
        self.wide(who.realm(), |wide| person.add(wide.ids));
        person.add(names.generation(&Of::Login(who.login())));
        person.add(names.generation(&Of::Id { realm: who.realm(), source: who.source(), id: who.id() }));
        person
    }

    /// Keeps the state of a token that was validated after these marks were read, unless anything was invalidated
    /// since then: whose token it is was not known before.
    pub(crate) async fn keep_token(&self, marks: &Marks, state: &Arc<TokenState>, most: Duration) {
        let answer = Answer::Token(Arc::clone(state));
        let life = self.lifetimes.of(&answer).min(most);
        let person = self.person(&marks.wanted, &state.principal);
        let lane = marks.wanted.lane;
        if life < LEAST || self.cache.is_left_alone(lane, self.cache.clock.now()) {
            return;
        }
        // First these, then whether anything was invalidated: what is after that voids these.
        let made = self.cache.tier.make(lane, person.generations(), self.keep_generations()).await;
        let Some(Ok(read)) = self.read(self.cache.clock.now(), &marks.wanted).await else { return };
        let Ok(made) = made else { return };
        if read.generations != marks.generations || read.incarnation != marks.incarnation {
            count(&self.counters.outdated);
            return;
        }
        let made = Marks {
            wanted: person,
            generations: made.into_iter().map(Some).collect(),
            now: marks.now,
            incarnation: marks.incarnation,
        };
        let (Some(all), Some(person)) = (marks.stamp(TOKEN), made.full_stamp()) else { return };
        let Ok(encoded) = codec::encode(&answer) else {
            count(&self.counters.store_errors);
            return;
        };
        let plain = [person.as_slice(), encoded.as_slice()].concat();
        let sealed = self.seal(marks, all, &plain, life).map(|sealed| Sealed {
            // That anything was invalidated elsewhere is no reason not to keep this.
            generations: made.standing().unwrap_or_default(),
            ..sealed
        });
        self.write(sealed.as_slice()).await;
    }

    fn broken(&self, broken: Broken) -> No {
        count(match broken {
            Broken::Version | Broken::UnknownKey => &self.counters.foreign,
            Broken::Truncated | Broken::Forged => &self.counters.forged,
        });
        No::Broken
    }

    /// Reads what must be read before a source is asked, where it was not looked up, and makes the generations that
    /// are not there. Without these nothing can be kept.
    pub(crate) async fn prepare(&self, asked: Vec<(Key, Option<Looked>)>) -> Vec<Option<Marks>> {
        let mut all: Vec<Option<Marks>> = Vec::with_capacity(asked.len());
        let mut late = Vec::new();
        for (place, (key, looked)) in asked.into_iter().enumerate() {
            if looked.is_none() {
                late.push((place, key));
            }
            all.push(looked.and_then(|looked| looked.marks));
        }
        if !late.is_empty() {
            let asks: Vec<Ask<'_>> = late.iter().map(|(_, key)| key.ask()).collect();
            let marks = self.mark(&asks).await;
            for ((place, _), marks) in late.iter().zip(marks) {
                if let Some(to) = all.get_mut(*place) {
                    *to = marks;
                }
            }
        }
        let mut missing: BTreeMap<usize, Vec<WireName>> = BTreeMap::new();
        for marks in all.iter().flatten() {
            missing.entry(marks.wanted.lane).or_default().extend(marks.missing());
        }
        let make = missing.into_iter().map(|(lane, names)| self.make(lane, names));
        for (lane, made) in join_all(make).await {
            for marks in all.iter_mut().flatten().filter(|marks| marks.wanted.lane == lane) {
                marks.fill(&made);
            }
        }
        all
    }

    /// Makes the generations that a lane lacks; what can't be made stays away.
    async fn make(&self, lane: usize, mut names: Vec<WireName>) -> (usize, HashMap<WireName, Generation>) {
        names.sort_unstable();
        names.dedup();
        if names.is_empty() || self.cache.is_left_alone(lane, self.cache.clock.now()) {
            return (lane, HashMap::new());
        }
        let made = self.cache.tier.make(lane, &names, self.keep_generations()).await.unwrap_or_default();
        (lane, names.into_iter().zip(made).collect())
    }

    async fn mark(&self, asks: &[Ask<'_>]) -> Vec<Option<Marks>> {
        let wanted: Vec<Wanted> = asks.iter().map(|ask| self.wanted(ask)).collect();
        let reads = self.read_many(self.cache.clock.now(), &wanted).await;
        let each = wanted.into_iter().zip(reads);
        each.map(|(wanted, read)| Some(Marks::new(wanted, read?.ok()?))).collect()
    }

    /// Keeps answers that were asked for after these marks were read, those of one lane in one round trip.
    pub(crate) async fn keep(&self, keep: &[Keep]) {
        let now = self.cache.clock.now();
        let mut sealed = Vec::with_capacity(keep.len());
        for Keep { answer, life, marks } in keep {
            if *life < LEAST {
                continue;
            }
            if self.cache.is_left_alone(marks.wanted.lane, now) {
                count(&self.counters.skipped);
                continue;
            }
            let Some(stamp) = marks.full_stamp() else { continue };
            match codec::encode(answer) {
                Ok(plain) => sealed.extend(self.seal(marks, stamp, &plain, *life)),
                Err(_) => count(&self.counters.store_errors),
            }
        }
        self.write(&sealed).await;
    }

    fn seal(&self, marks: &Marks, stamp: Stamp, plain: &[u8], life: Duration) -> Option<Sealed> {
        let head = Head { stamp, loaded: marks.now, life };
        let Ok(bytes) = self.cache.sealer.seal(&marks.wanted.entry, &head, plain) else {
            count(&self.counters.store_errors);
            return None;
        };
        let until = marks.now.as_millis().saturating_add(nanos(life) / 1_000_000);
        let generations = marks.standing()?;
        Some(Sealed { entry: marks.wanted.entry, bytes, until: TierTime::from_millis(until), generations })
    }

    async fn write(&self, sealed: &[Sealed]) {
        if sealed.is_empty() {
            return;
        }
        let keep_generations = self.keep_generations();
        let write = |sealed| {
            let Sealed { entry, bytes, until, generations }: &Sealed = sealed;
            TierWrite { entry: *entry, bytes, until: *until, generations, keep_generations }
        };
        let writes: Vec<TierWrite<'_>> = sealed.iter().map(write).collect();
        let mut written = self.cache.tier.write(&writes).await.into_iter();
        for _ in sealed {
            count(match written.next() {
                Some(Ok(Written::Stored)) => &self.counters.stored,
                Some(Ok(Written::Outdated)) => &self.counters.outdated,
                Some(Ok(Written::TooLarge)) => &self.counters.too_large,
                Some(Err(_)) | None => &self.counters.store_errors,
            });
        }
    }

    /// How long generations are kept: longer than anything that depends on them.
    fn keep_generations(&self) -> Duration {
        self.lifetimes.longest().saturating_mul(2).saturating_add(LONGER)
    }
}

impl Marks {
    fn new(wanted: Wanted, read: TierRead) -> Self {
        let TierRead { generations, now, incarnation, .. } = read;
        Self { wanted, generations, now, incarnation }
    }

    /// Puts generations in the places of those that are not there.
    fn fill(&mut self, made: &HashMap<WireName, Generation>) {
        for (name, place) in self.wanted.generations().iter().zip(&mut self.generations) {
            if place.is_none() {
                *place = made.get(name).copied();
            }
        }
    }

    fn missing(&self) -> impl Iterator<Item = WireName> + '_ {
        let each = self.wanted.generations().iter().zip(&self.generations);
        each.filter(|(_, generation)| generation.is_none()).map(|(name, _)| *name)
    }

    /// The generations, if all are there.
    fn standing(&self) -> Option<Vec<(WireName, Generation)>> {
        let names = self.wanted.generations();
        if names.len() != self.generations.len() {
            return None;
        }
        names.iter().zip(&self.generations).map(|(name, generation)| Some((*name, (*generation)?))).collect()
    }

    /// The stamp of all that was read; none if a generation is not there.
    pub(crate) fn full_stamp(&self) -> Option<Stamp> {
        self.stamp(self.wanted.count)
    }

    /// The stamp of an entry that is loaded under the first so many of these; none if a generation is not there.
    fn stamp(&self, count: usize) -> Option<Stamp> {
        if self.generations.len() != self.wanted.count {
            return None;
        }
        stamp(self.incarnation, self.generations.iter().take(count))
    }
}

/// What an entry's generations are, and in which life of the server they were read.
fn stamp<'a>(incarnation: u64, generations: impl Iterator<Item = &'a Option<Generation>>) -> Option<Stamp> {
    // At once: in pieces BLAKE3 takes half as much again.
    let mut all = [0; 8 * (1 + Wanted::MOST)];
    let (mut places, mut used) = (all.chunks_exact_mut(8), 0);
    let parts = std::iter::once(Some(incarnation.to_le_bytes()))
        .chain(generations.map(|generation| generation.map(|generation| *generation.as_bytes())));
    for part in parts {
        places.next()?.copy_from_slice(&part?);
        used += 8;
    }
    blake3::hash(all.get(..used)?).as_bytes().first_chunk().copied()
}

/// When an answer was asked for, by this process's clock; nothing if that was before the clock was made.
pub(crate) fn loaded(asked: Moment, age: Duration) -> Option<Moment> {
    asked.as_nanos().checked_sub(nanos(age)).map(Moment::from_nanos)
}
