//! A table of somebody else's, by nothing but the public trait: a list that is searched from its start.

use std::sync::{Arc, Mutex};

use auth_cache::{Ask, Bound, Entry, Key, Table, TableFactory, Usage};

#[derive(Debug)]
pub(crate) struct List {
    bound: Bound,
    // The oldest first.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<(Key, Entry)>,
    gone: u64,
}

impl Kept {
    fn remove(&mut self, ask: &Ask<'_>) {
        self.entries.retain(|(key, _)| key.ask() != *ask);
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|(key, entry)| entry.bytes(&key.ask())).sum()
    }

    fn passes(&self, bound: Bound) -> bool {
        match bound {
            Bound::Entries(most) => self.entries.len() > most,
            Bound::Bytes(most) => self.bytes() > most,
        }
    }
}

impl List {
    pub(crate) fn factory() -> TableFactory {
        Arc::new(|bound| Arc::new(Self { bound, kept: Mutex::default() }))
    }
}

impl Table for List {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        let kept = self.kept.lock().unwrap();
        if let Some((_, entry)) = kept.entries.iter().find(|(key, _)| key.ask() == *ask) {
            see(entry);
        }
    }

    fn put(&self, key: Key, entry: Entry) {
        let mut kept = self.kept.lock().unwrap();
        kept.remove(&key.ask());
        let fits = match self.bound {
            Bound::Entries(most) => most > 0,
            Bound::Bytes(most) => entry.bytes(&key.ask()) <= most,
        };
        if fits {
            kept.entries.push((key, entry));
        }
        while kept.passes(self.bound) {
            kept.entries.remove(0);
            kept.gone += 1;
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        self.kept.lock().unwrap().remove(ask);
    }

    fn usage(&self) -> Usage {
        let kept = self.kept.lock().unwrap();
        Usage::new(kept.entries.len() as u64, kept.bytes() as u64, kept.gone)
    }

    fn bound(&self) -> Option<Bound> {
        Some(self.bound)
    }

    fn clear(&self) {
        self.kept.lock().unwrap().entries.clear();
    }
}
