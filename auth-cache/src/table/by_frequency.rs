//! The kind `ttl`, the default: admission by frequency, reading without moving anything.
//!
//! The policy is that of S3-FIFO (Yang and others, SOSP 2023). What is new waits in a short queue; only what
//! was used while it waited goes on to the long one, and what was not leaves the table, so a scan passes
//! through the short queue and touches nothing else. What comes back soon after it left goes to the long
//! queue at once. A use is a count in the entry, no move: readers of a shard share its lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock};

use hashbrown::HashTable;

use super::budget::{Apart, Budget, cost, low, pick, shards, spread};
use super::name::Name;
use super::{Bound, Table, Usage};
use crate::{Ask, Entry, Key};

// Uses beyond this are not counted: it is how often an entry is spared.
const MOST_USES: u8 = 3;
// How many used entries one eviction looks at before it takes one all the same: a bound on how long readers
// wait for a writer.
const PATIENCE: u32 = 256;
// How many tickets of removed entries may lie in the queues beyond half the entries.
const MOST_STALE: usize = 64;

/// A table that admits by frequency, so that a scan does not drive out what is used: the kind `ttl`, the
/// default.
///
/// Up to 1,023 entries it is one piece, above it is in shards of one common bound. It never holds more
/// than its bound, on however many threads.
pub struct TtlTable {
    shards: Box<[Apart<RwLock<Shard>>]>,
    budget: Budget,
}

#[derive(Default)]
struct Shard {
    slots: HashTable<Slot>,
    // Tickets may be stale: their entries removed.
    young: VecDeque<Ticket>,
    old: VecDeque<Ticket>,
    young_slots: usize,
    stale: usize,
    // Who left the young queue unused, by the lower bits of the hash; the last one wins.
    left: Box<[u32]>,
    seq: u32,
}

struct Slot {
    name: Name,
    entry: Entry,
    // That of its ticket.
    seq: u32,
    uses: AtomicU8,
    is_old: bool,
}

/// Finds a slot again, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    hash: u32,
    seq: u32,
}

/// What a `put` has driven out, to be dropped without the lock.
#[derive(Default)]
struct Gone {
    _replaced: Option<Entry>,
    slots: Vec<Slot>,
}

impl TtlTable {
    /// Makes a table of this bound.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let shards = shards(Some(bound));
        let budget = Budget::new(Some(bound), shards.len());
        Self { shards, budget }
    }

    /// Does as [`see`](Table::see) does, in line.
    #[inline]
    pub(crate) fn show(&self, ask: &Ask<'_>, see: impl FnOnce(&Entry)) {
        let hash = ask.hash64();
        let Some(shard) = pick(&self.shards, hash) else { return };
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = shard.slots.find(spread(low(hash)), |slot| slot.name.is(ask)) {
            slot.note_use();
            see(&slot.entry);
        }
    }
}

impl Table for TtlTable {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        self.show(ask, see);
    }

    fn put(&self, key: Key, entry: Entry) {
        let cost = cost(&key.ask(), &entry);
        if !self.budget.admits(cost) {
            self.remove(&key.ask());
            return;
        }
        let hash = key.ask().hash64();
        if let Some(shard) = pick(&self.shards, hash) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.put(low(hash), key, entry, cost, &self.budget);
            drop(shard);
            drop(gone);
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        let hash = ask.hash64();
        if let Some(shard) = pick(&self.shards, hash) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.remove(low(hash), ask, &self.budget);
            drop(shard);
            drop(gone);
        }
    }

    fn usage(&self) -> Usage {
        self.budget.usage()
    }

    fn bound(&self) -> Option<Bound> {
        self.budget.bound()
    }

    fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.0.write().unwrap_or_else(PoisonError::into_inner);
            let gone = std::mem::take(&mut *shard);
            for slot in &gone.slots {
                self.budget.take(slot.cost());
            }
            drop(shard);
            drop(gone);
        }
    }
}

impl fmt::Debug for TtlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TtlTable").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Slot {
    #[inline]
    fn note_use(&self) {
        // Two uses at once may count as one. Most hits write nothing, so that the line stays with all cores.
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    fn has(&self, ticket: Ticket) -> bool {
        self.seq == ticket.seq && low(self.name.ask().hash64()) == ticket.hash
    }

    // Neither this nor the hash is kept: both are seldom wanted, and slots are many.
    fn cost(&self) -> u32 {
        cost(&self.name.ask(), &self.entry)
    }

    fn hash(&self) -> u64 {
        spread(low(self.name.ask().hash64()))
    }
}

impl Shard {
    fn put(&mut self, hash: u32, key: Key, entry: Entry, cost: u32, budget: &Budget) -> Gone {
        let mut gone = Gone::default();
        let ask = key.ask();
        if let Some(slot) = self.slots.find_mut(spread(hash), |slot| slot.name.is(&ask)) {
            budget.replace(slot.cost(), cost);
            gone._replaced = Some(std::mem::replace(&mut slot.entry, entry));
            self.shrink(budget, &mut gone);
            return gone;
        }
        budget.add(cost);
        if !self.shrink(budget, &mut gone) {
            // The other shards hold all of it.
            budget.take(cost);
            return gone;
        }
        self.seq = self.seq.wrapping_add(1);
        let ticket = Ticket { hash, seq: self.seq };
        let is_old = self.came_back(hash);
        if is_old {
            self.old.push_back(ticket);
        } else {
            self.young.push_back(ticket);
            self.young_slots += 1;
        }
        self.make_room();
        let slot = Slot { name: key.into(), entry, seq: ticket.seq, uses: AtomicU8::new(0), is_old };
        self.slots.insert_unique(spread(hash), slot, Slot::hash);
        gone
    }

    /// Lets entries go until the budget is kept. Reports false if none is left and it is not.
    fn shrink(&mut self, budget: &Budget, gone: &mut Gone) -> bool {
        while budget.over() {
            let Some(slot) = self.evict() else { return false };
            budget.evict(slot.cost());
            gone.slots.push(slot);
        }
        true
    }

    fn evict(&mut self) -> Option<Slot> {
        let mut looked_at = 0;
        loop {
            // The short queue has a tenth.
            let short = self.young_slots.saturating_mul(10) >= self.slots.len();
            let ticket = match if short { self.young.pop_front() } else { self.old.pop_front() } {
                Some(ticket) => ticket,
                None => if short { self.old.pop_front() } else { self.young.pop_front() }?,
            };
            let Ok(mut found) = self.slots.find_entry(spread(ticket.hash), |slot| slot.has(ticket)) else {
                self.stale = self.stale.saturating_sub(1);
                continue;
            };
            let slot = found.get_mut();
            let uses = slot.uses.get_mut();
            if *uses > 0 && looked_at < PATIENCE {
                looked_at += 1;
                if slot.is_old {
                    *uses -= 1;
                } else {
                    *uses = 0;
                    slot.is_old = true;
                    self.young_slots -= 1;
                }
                self.old.push_back(ticket);
                continue;
            }
            let (slot, _) = found.remove();
            if !slot.is_old {
                self.young_slots -= 1;
                self.note_leaving(ticket.hash);
            }
            return Some(slot);
        }
    }

    fn remove(&mut self, hash: u32, ask: &Ask<'_>, budget: &Budget) -> Option<Slot> {
        let found = self.slots.find_entry(spread(hash), |slot| slot.name.is(ask)).ok()?;
        let (slot, _) = found.remove();
        budget.take(slot.cost());
        if !slot.is_old {
            self.young_slots -= 1;
        }
        self.stale += 1;
        if self.stale > self.slots.len() / 2 + MOST_STALE {
            let slots = &self.slots;
            let live = |ticket: &Ticket| slots.find(spread(ticket.hash), |slot| slot.has(*ticket)).is_some();
            self.young.retain(live);
            self.old.retain(live);
            self.stale = 0;
        }
        Some(slot)
    }

    /// Remembers who left the short queue unused: for as many as there are entries, in four bytes each.
    fn note_leaving(&mut self, hash: u32) {
        let wanted = self.slots.len().max(1).next_power_of_two();
        if self.left.len() < wanted {
            self.left = vec![0; wanted].into_boxed_slice();
        }
        if let Some(place) = place(&mut self.left, hash) {
            *place = hash;
        }
    }

    /// Reports whether this one left a short while ago, and forgets it.
    fn came_back(&mut self, hash: u32) -> bool {
        place(&mut self.left, hash)
            .is_some_and(|place| *place == hash && hash != 0 && std::mem::take(place) == hash)
    }

    /// Rebuilds the hash table where it would grow only because of the marks that removed entries leave.
    fn make_room(&mut self) {
        let (held, room) = (self.slots.len(), self.slots.num_buckets() / 8 * 7);
        if held == self.slots.capacity() && held > 0 && held <= room / 16 * 15 {
            let mut fresh = HashTable::with_capacity(room);
            for slot in self.slots.drain() {
                fresh.insert_unique(slot.hash(), slot, Slot::hash);
            }
            self.slots = fresh;
        }
    }
}

fn place(left: &mut [u32], hash: u32) -> Option<&mut u32> {
    let mask = left.len().checked_sub(1)?;
    left.get_mut(usize::try_from(hash).ok()? & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{entry, token};

    #[test]
    fn a_slot_is_eighty_bytes() {
        assert_eq!((size_of::<Name>(), size_of::<Entry>(), size_of::<Slot>()), (16, 56, 80));
    }

    #[test]
    fn entries_that_come_and_go_neither_grow_the_hash_table_nor_the_queues() {
        let bound = 10_000;
        let table = TtlTable::new(Bound::Entries(bound));
        for n in 0..500_000 {
            table.put(token(n), entry(0));
            if n % 3 == 0 {
                table.remove(&token(n).ask());
            }
        }
        for shard in &table.shards {
            let shard = shard.0.read().unwrap();
            assert!(shard.slots.num_buckets() <= 256 && shard.left.len() <= 256);
            assert!(shard.young.len() + shard.old.len() <= 2 * 256 + MOST_STALE);
            let young = shard.slots.iter().filter(|slot| !slot.is_old).count();
            assert_eq!(young, shard.young_slots);
        }
    }

    #[test]
    fn what_is_removed_and_put_again_leaves_no_trail() {
        let table = TtlTable::new(Bound::Entries(1000));
        for _ in 0..10_000 {
            table.put(token(1), entry(0));
            table.remove(&token(1).ask());
        }
        let shard = table.shards[0].0.read().unwrap();
        assert!(shard.young.len() <= MOST_STALE + 1, "{}", shard.young.len());
    }

    #[test]
    fn one_eviction_passes_a_bounded_number_of_used_entries() {
        let table = TtlTable::new(Bound::Entries(1000));
        for n in 0..1000 {
            table.put(token(n), entry(0));
            assert!(table.get(&token(n).ask()).is_some());
        }
        table.put(token(1000), entry(0));
        let shard = table.shards[0].0.read().unwrap();
        assert_eq!(shard.old.len(), usize::try_from(PATIENCE).unwrap());
        assert_eq!(table.usage().evictions, 1);
    }
}
