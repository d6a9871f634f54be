//! Every kind of table, also one of somebody else's, of every size, gives the answers of the bare store.

use std::sync::Arc;

use auth_cache::{Bound, Settings, TableFactory, TokenMemory, Ttls};
use auth_core::LoginRule;
use auth_testkit::suite::{self, TokenBench};
use auth_testkit::{MemoryStore, realm, realm_with};
use std::time::Duration;

use crate::helpers::{Bed, tables};
use crate::list::List;

/// Every kind of table, and somebody else's.
fn all() -> impl Iterator<Item = TableFactory> {
    tables().into_iter().map(|(_, table)| table).chain([List::factory()])
}

/// Each kind, with room for none, one and many, with and without lifetimes.
fn beds() -> Vec<Bed> {
    let mut beds = Vec::new();
    for table in all() {
        for bound in [0, 1, 1000].map(Bound::Entries).into_iter().chain([0, 500, 1 << 20].map(Bound::Bytes)) {
            for ttls in [Ttls::default(), Ttls::default().with_ttl(Duration::ZERO)] {
                beds.push(Bed::with(Settings::new(Arc::clone(&table)).with_bound(bound).with_ttls(ttls)));
            }
        }
    }
    beds
}

#[tokio::test]
async fn a_cached_account_source_behaves_like_the_bare_one() {
    for bed in beds() {
        for realm in [realm(), realm_with("exact", LoginRule::Exact)] {
            let cached = bed.accounts(&Arc::new(MemoryStore::new()));
            // Twice: from the store, then from memory.
            suite::run_all_account(&*cached, &realm).await;
            suite::run_all_account(&*cached, &realm).await;
        }
    }
}

#[tokio::test]
async fn a_cached_group_oracle_behaves_like_the_bare_one() {
    for bed in beds() {
        let cached = bed.groups(&Arc::new(MemoryStore::new()));
        suite::run_all_groups(&*cached, &realm()).await;
        suite::run_all_groups(&*cached, &realm()).await;
    }
}

#[tokio::test]
async fn a_cached_store_of_rights_behaves_like_the_bare_one() {
    for bed in beds() {
        let cached = bed.access(&Arc::new(MemoryStore::new()));
        suite::run_all_objects(&*cached, &realm()).await;
        suite::run_all_objects(&*cached, &realm()).await;
    }
}

#[tokio::test]
async fn a_token_memory_behaves_as_a_token_cache_must() {
    for table in all() {
        for (size, keeps) in [(1000, true), (0, false)] {
            let bed = Bed::with(Settings::new(Arc::clone(&table)).with_size(size));
            let memory = TokenMemory::new("default", Arc::clone(&bed.fence), bed.clock(), &bed.settings);
            let bench = TokenBench::manual(&realm(), &bed.clock, &bed.fence);
            let bench = if keeps { bench } else { bench.keeping_nothing() };
            suite::run_all_tokens(&memory, &bench).await;
        }
    }
}
