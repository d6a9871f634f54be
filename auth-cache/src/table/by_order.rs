//! The kinds `fifo`, `rr`, `mru` and `dict`: one engine, told apart by who has to go.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::budget::{Apart, Budget, cost, low, pick, shards, spread};
use super::name::Name;
use super::{Bound, Table, Usage};
use crate::{Ask, Entry, Key};

/// Who has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Who was put first, whatever is read: the kind `fifo`.
    First,
    /// Anybody: the kind `rr`.
    Random,
    /// Who was put or read last: the kind `mru`.
    Last,
    /// Nobody, so that there is no bound and memory grows with the number of questions: the kind `dict`.
    Nobody,
}

/// A table that lets go in a simple order: the kinds `fifo`, `rr`, `mru` and, without any bound, `dict`.
///
/// Up to 1,023 entries it is exactly that; above, it is in shards of one common bound, and the order is that
/// of a shard.
pub struct OrderTable {
    shards: Box<[Apart<Mutex<Shard>>]>,
    budget: Budget,
    order: Order,
}

impl OrderTable {
    /// Makes a table of this bound, which [`Order::Nobody`] ignores unless it is zero. [`Order::Random`] differs
    /// each time.
    #[must_use]
    pub fn new(bound: Bound, order: Order) -> Self {
        Self::with_seed(bound, order, RandomState::default().hash_one(0_u8))
    }

    /// Makes a table whose [`Order::Random`] picks the same places each time.
    #[must_use]
    pub fn with_seed(bound: Bound, order: Order, seed: u64) -> Self {
        let nothing = matches!(bound, Bound::Entries(0) | Bound::Bytes(0));
        let bound = (nothing || order != Order::Nobody).then_some(bound);
        let mut shards: Box<[Apart<Mutex<Shard>>]> = shards(bound);
        for (n, shard) in (1..).zip(&mut shards) {
            let dice = &mut shard.0.get_mut().unwrap_or_else(PoisonError::into_inner).dice;
            *dice = seed.wrapping_add(spread(n));
        }
        let budget = Budget::new(bound, shards.len());
        Self { shards, budget, order }
    }
}

impl Table for OrderTable {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        let hash = ask.hash64();
        let Some(shard) = pick(&self.shards, hash) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = shard.find(low(hash), ask) else { return };
        if self.order == Order::Last {
            shard.unlink(at);
            shard.link_last(at);
        }
        if let Some(node) = shard.node(at) {
            see(&node.entry);
        }
    }

    fn put(&self, key: Key, entry: Entry) {
        let cost = cost(&key.ask(), &entry);
        if !self.budget.admits(cost) {
            self.remove(&key.ask());
            return;
        }
        let hash = key.ask().hash64();
        if let Some(shard) = pick(&self.shards, hash) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.put(low(hash), key, entry, cost, self.order, &self.budget);
            // What goes is dropped without the lock.
            drop(shard);
            drop(gone);
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        let hash = ask.hash64();
        if let Some(shard) = pick(&self.shards, hash) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.find(low(hash), ask).and_then(|at| shard.take(at));
            drop(shard);
            if let Some(node) = gone {
                self.budget.take(node.cost);
            }
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
            let mut shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
            let dice = shard.dice;
            let gone = std::mem::replace(&mut *shard, Shard { dice, ..Shard::default() });
            drop(shard);
            for node in &gone.nodes {
                self.budget.take(node.cost);
            }
        }
    }
}

impl fmt::Debug for OrderTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderTable").field("order", &self.order).field("budget", &self.budget).finish()
    }
}

// No neighbor.
const NONE: u32 = u32::MAX;

/// Nodes without gaps, linked in order, with a hash table of their places.
#[derive(Default)]
struct Shard {
    places: HashTable<u32>,
    nodes: Vec<Node>,
    ends: Option<(u32, u32)>,
    dice: u64,
}

struct Node {
    name: Name,
    entry: Entry,
    hash: u32,
    cost: u32,
    before: u32,
    after: u32,
}

impl Shard {
    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    fn find(&self, hash: u32, ask: &Ask<'_>) -> Option<u32> {
        let is = |at: &u32| self.node(*at).is_some_and(|node| node.name.is(ask));
        self.places.find(spread(hash), is).copied()
    }

    fn put(
        &mut self,
        hash: u32,
        key: Key,
        entry: Entry,
        cost: u32,
        order: Order,
        budget: &Budget,
    ) -> Vec<(Option<Name>, Entry)> {
        let mut gone = Vec::new();
        if let Some(at) = self.find(hash, &key.ask()) {
            self.unlink(at);
            self.link_last(at);
            if let Some(node) = self.node_mut(at) {
                budget.replace(node.cost, cost);
                node.cost = cost;
                gone.push((None, std::mem::replace(&mut node.entry, entry)));
            }
            self.shrink(order, budget, &mut gone);
            return gone;
        }
        budget.add(cost);
        // Nobody needs more than 4 billion entries in a shard; one more is not kept.
        let at = u32::try_from(self.nodes.len()).ok().filter(|at| *at != NONE);
        let Some(_) = at.filter(|_| self.shrink(order, budget, &mut gone)) else {
            // Or the other shards hold all of the budget.
            budget.take(cost);
            return gone;
        };
        let at = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node { name: key.into(), entry, hash, cost, before: NONE, after: NONE });
        let Self { places, nodes, .. } = self;
        places.insert_unique(spread(hash), at, |at| {
            usize::try_from(*at).ok().and_then(|at| nodes.get(at)).map_or(0, |node| spread(node.hash))
        });
        self.link_last(at);
        gone
    }

    /// Lets entries go until the budget is kept. Reports false if none is left and it is not.
    fn shrink(&mut self, order: Order, budget: &Budget, gone: &mut Vec<(Option<Name>, Entry)>) -> bool {
        while budget.over() {
            let Some(node) = self.victim(order).and_then(|at| self.take(at)) else { return false };
            budget.evict(node.cost);
            gone.push((Some(node.name), node.entry));
        }
        true
    }

    fn victim(&mut self, order: Order) -> Option<u32> {
        let (first, last) = self.ends?;
        match order {
            Order::First => Some(first),
            Order::Last => Some(last),
            Order::Random => {
                // A Weyl sequence through the finalizer of SplitMix64.
                self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut word = self.dice;
                word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let count = u64::try_from(self.nodes.len()).ok()?;
                u32::try_from(((word >> 32).wrapping_mul(count)) >> 32).ok()
            }
            Order::Nobody => None,
        }
    }

    /// Takes a node out; the last one of the vector moves to its place.
    fn take(&mut self, at: u32) -> Option<Node> {
        self.unlink(at);
        let hash = self.node(at)?.hash;
        if let Ok(found) = self.places.find_entry(spread(hash), |place| *place == at) {
            found.remove();
        }
        let node = self.nodes.swap_remove(usize::try_from(at).ok()?);
        let from = u32::try_from(self.nodes.len()).ok()?;
        if let Some(moved) = self.node(at) {
            let (hash, before, after) = (moved.hash, moved.before, moved.after);
            if let Some(place) = self.places.find_mut(spread(hash), |place| *place == from) {
                *place = at;
            }
            if let Some(before) = self.node_mut(before) {
                before.after = at;
            }
            if let Some(after) = self.node_mut(after) {
                after.before = at;
            }
            self.ends = self.ends.map(|(first, last)| {
                (if first == from { at } else { first }, if last == from { at } else { last })
            });
        }
        Some(node)
    }

    fn unlink(&mut self, at: u32) {
        let Some((before, after)) = self.node(at).map(|node| (node.before, node.after)) else { return };
        if let Some(node) = self.node_mut(before) {
            node.after = after;
        }
        if let Some(node) = self.node_mut(after) {
            node.before = before;
        }
        self.ends = self.ends.and_then(|(first, last)| {
            let first = if first == at { after } else { first };
            let last = if last == at { before } else { last };
            (first != NONE && last != NONE).then_some((first, last))
        });
    }

    fn link_last(&mut self, at: u32) {
        let last = self.ends.map_or(NONE, |(_, last)| last);
        if let Some(node) = self.node_mut(at) {
            (node.before, node.after) = (last, NONE);
        }
        if let Some(node) = self.node_mut(last) {
            node.after = at;
        }
        self.ends = Some((self.ends.map_or(at, |(first, _)| first), at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{entry, token};

    #[test]
    fn links_and_places_agree_whatever_comes_and_goes() {
        for order in [Order::First, Order::Random, Order::Last] {
            let table = OrderTable::with_seed(Bound::Entries(50), order, 7);
            for n in 0..3000_u32 {
                table.put(token(n * 7 % 90), entry(0));
                drop(table.get(&token(n * 5 % 90).ask()));
                if n % 11 == 0 {
                    table.remove(&token(n % 90).ask());
                }
                let shard = table.shards[0].0.lock().unwrap();
                let (mut at, mut before, mut seen) = (shard.ends.map_or(NONE, |(first, _)| first), NONE, 0);
                while let Some(node) = shard.node(at) {
                    assert_eq!(node.before, before, "{order:?}");
                    let place = shard.places.find(spread(node.hash), |place| *place == at);
                    assert!(place.is_some(), "{order:?}");
                    (before, at, seen) = (at, node.after, seen + 1);
                }
                assert_eq!((seen, shard.places.len()), (shard.nodes.len(), shard.nodes.len()), "{order:?}");
                assert_eq!(shard.ends.map_or(NONE, |(_, last)| last), before, "{order:?}");
            }
        }
    }
}
