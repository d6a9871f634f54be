//! Hits: ours beside a plain map and beside other caches, in one table; then our kinds, in another.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use auth_cache::{Ask, Key};
use auth_core::{Access, Ctx, GroupOracle, GroupSet, Member, ObjectPerms, ObjectRef, Principal};
use foldhash::fast::RandomState;
use gatepost_bench::{
    Contender, LONG, bar, cached_groups, cached_rights, compare, document, exit, group, groups, local_kinds,
    login, now, people,
};
use hitbox_fn::prelude::*;
use tokio::runtime::Runtime;

/// What is compared, at which sizes, on how many threads.
const SIZES: [usize; 2] = [100_000, 1_000_000];
const THREADS: [usize; 2] = [1, 2];
const ROUNDS: usize = 8;

/// The rows that the bars are about.
const FLOOR: &str = "HashMap, no lock: bool (the floor)";
const FLOOR_SET: &str = "HashMap, no lock: group set";
const FLOOR_RIGHT: &str = "HashMap, no lock: right as we key it";
const GROUPS: &str = "Gatepost ttl: group of a person";
const RIGHTS: &str = "Gatepost ttl: right on an object";
const HITBOX: &str = "hitbox 0.2, #[cached] on moka";

/// People, and what they are asked about.
struct World {
    people: Vec<Principal>,
    // As another part of a program would have made them: equal, and not the same.
    twins: Vec<Principal>,
    logins: Vec<String>,
    groups: Vec<String>,
    documents: Vec<ObjectRef>,
}

impl World {
    fn new(count: usize) -> Self {
        Self {
            people: people(count),
            twins: people(count),
            logins: (0..count).map(login).collect(),
            groups: (0..count).map(group).collect(),
            documents: (0..count).map(document).collect(),
        }
    }

    fn right(&self, n: usize) -> Ask<'_> {
        Ask::Access(&self.people[n], &self.documents[n], Some("read"))
    }

    fn filled_groups(&self, kind: &str) -> Arc<dyn GroupOracle> {
        let cached = cached_groups(kind, 2 * self.people.len());
        let ctx = Ctx::new();
        on_this_thread(async {
            for who in &self.people {
                cached.groups_of(&ctx, who).await.expect("the groups of everybody");
            }
        });
        cached
    }

    fn filled_rights(&self, kind: &str) -> Arc<dyn ObjectPerms> {
        let cached = cached_rights(kind, 2 * self.people.len());
        let ctx = Ctx::new();
        on_this_thread(async {
            for (who, document) in self.people.iter().zip(&self.documents) {
                cached.access(&ctx, who, document, Some("read")).await.expect("the rights of everybody");
            }
        });
        cached
    }

    fn ask_groups<'a>(
        &'a self,
        name: impl Into<String>,
        cached: Arc<dyn GroupOracle>,
        people: &'a [Principal],
    ) -> Contender<'a> {
        let ctx = Ctx::new();
        Contender::new(name, move |n| {
            cached.peek_member(&ctx, &people[n], &self.groups[n]) == Some(Member::Yes)
        })
    }

    fn ask_rights<'a>(&'a self, name: impl Into<String>, cached: Arc<dyn ObjectPerms>) -> Contender<'a> {
        let ctx = Ctx::new();
        Contender::new(name, move |n| {
            cached.peek_access(&ctx, &self.people[n], &self.documents[n], Some("read")) == Some(Access::Allow)
        })
    }
}

/// Runs what loads a million answers without waking another thread for each.
fn on_this_thread(filling: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(filling);
}

/// A question to a plain map.
#[derive(Hash)]
struct Right<'a>(Ask<'a>);

impl hashbrown::Equivalent<Key> for Right<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        key.ask() == self.0
    }
}

/// What hitbox's function is asked.
#[derive(Clone, Debug)]
struct User(String);

impl KeyExtract for User {
    fn extract(&self) -> Vec<hitbox::KeyPart> {
        vec![hitbox::KeyPart::new("user", Some(&self.0))]
    }
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, CacheableResponse)]
struct Told {
    allowed: bool,
}

#[cached]
async fn told(user: User) -> Result<Told, std::io::Error> {
    Ok(Told { allowed: !user.0.is_empty() })
}

fn peers<'a>(world: &'a World, runtime: &Runtime) -> Vec<Contender<'a>> {
    let count = world.logins.len();
    let room = u64::try_from(2 * count).expect("a small number");
    let keys = || world.logins.iter().cloned();
    let mut contenders = Vec::new();

    let flags: HashMap<String, bool, RandomState> = keys().map(|key| (key, true)).collect();
    contenders
        .push(Contender::new(FLOOR, move |n| flags.get(world.logins[n].as_str()).copied() == Some(true)));

    let sets: HashMap<String, GroupSet, RandomState> =
        keys().enumerate().map(|(n, key)| (key, groups(n).iter().map(String::as_str).collect())).collect();
    contenders.push(Contender::new(FLOOR_SET, move |n| {
        sets.get(world.logins[n].as_str()).is_some_and(|set| set.contains(&world.groups[n]))
    }));

    let rights: hashbrown::HashMap<Key, bool, RandomState> =
        (0..count).map(|n| (world.right(n).to_key(), true)).collect();
    contenders.push(Contender::new(FLOOR_RIGHT, move |n| {
        rights.get(&Right(world.right(n))).copied() == Some(true)
    }));

    contenders.push(world.ask_groups(GROUPS, world.filled_groups("ttl"), &world.people));
    contenders.push(world.ask_groups(
        "  asked with an equal principal",
        world.filled_groups("ttl"),
        &world.twins,
    ));
    contenders.push(world.ask_rights(RIGHTS, world.filled_rights("ttl")));

    let quick = quick_cache::sync::Cache::with(
        2 * count,
        room,
        quick_cache::UnitWeighter,
        RandomState::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    keys().for_each(|key| quick.insert(key, true));
    contenders.push(Contender::new("quick_cache 0.7 (no lifetimes)", move |n| {
        quick.get(world.logins[n].as_str()) == Some(true)
    }));

    let mut list = lru::LruCache::unbounded_with_hasher(RandomState::default());
    for key in keys() {
        list.put(key, true);
    }
    let list = Mutex::new(list);
    contenders.push(Contender::new("lru 0.19 in a Mutex (no lifetimes)", move |n| {
        list.lock().expect("nobody panics").get(world.logins[n].as_str()) == Some(&true)
    }));

    let moka = moka::sync::Cache::builder()
        .max_capacity(room)
        .time_to_live(LONG)
        .build_with_hasher(RandomState::default());
    keys().for_each(|key| moka.insert(key, true));
    moka.run_pending_tasks();
    contenders.push(Contender::new("moka 0.12 sync, with ttl", move |n| {
        moka.get(world.logins[n].as_str()) == Some(true)
    }));

    let moka = moka::future::Cache::builder()
        .max_capacity(room)
        .time_to_live(LONG)
        .build_with_hasher(RandomState::default());
    runtime.block_on(async {
        for key in keys() {
            moka.insert(key, true).await;
        }
        moka.run_pending_tasks().await;
    });
    contenders.push(Contender::new("moka 0.12 future, with ttl", move |n| {
        now(moka.get(world.logins[n].as_str())) == Some(true)
    }));

    let memory = cachet::Cache::builder::<String, bool>(tick::Clock::new_tokio()).memory().ttl(LONG).build();
    runtime.block_on(async {
        for key in keys() {
            memory.insert(key, cachet::CacheEntry::new(true)).await.expect("room");
        }
    });
    contenders.push(Contender::new("cachet 0.16 memory, with ttl", move |n| {
        now(memory.get(&world.logins[n])).expect("an answer").is_some_and(|entry| *entry.value())
    }));

    let backend = hitbox_moka::MokaBackend::builder()
        .max_entries(room)
        .value_format(hitbox_backend::format::BincodeFormat)
        .build();
    let policy = PolicyConfig::builder().ttl(LONG).build();
    let cache = Cache::builder().backend(backend).policy(policy).build();
    runtime.block_on(async {
        for key in keys() {
            told(User(key)).cache(&cache).await.expect("an answer");
        }
    });
    contenders.push(Contender::new(HITBOX, move |n| {
        let asked = async { told(User(world.logins[n].clone())).cache(&cache).await };
        now(asked).is_ok_and(|told| told.allowed)
    }));
    contenders
}

/// The medians of one table: rows by column.
struct Table {
    names: Vec<String>,
    columns: Vec<(String, Vec<f64>)>,
}

impl Table {
    fn at(&self, column: usize, name: &str) -> f64 {
        let row = self.names.iter().position(|row| row == name).expect("a row of this name");
        self.columns[column].1[row]
    }

    fn print(&self, title: &str) {
        println!("\n{title}");
        println!("nanoseconds a hit, median of chunks of 1,024; in brackets: times the floor\n");
        print!("{:36}", "");
        self.columns.iter().for_each(|(name, _)| print!("{name:>18}"));
        println!();
        for (row, name) in self.names.iter().enumerate() {
            print!("{name:36}");
            for (column, (_, medians)) in self.columns.iter().enumerate() {
                let ratio = format!("({:.2})", medians[row] / self.at(column, FLOOR));
                print!("{:>9.1} {ratio:>8}", medians[row]);
            }
            println!();
        }
    }

    /// The greatest of a row's ratios to another's, over all columns.
    fn worst(&self, row: &str, to: &str) -> f64 {
        (0..self.columns.len()).map(|n| self.at(n, row) / self.at(n, to)).fold(0.0, f64::max)
    }
}

fn column(size: usize, threads: usize) -> String {
    let size = if size == 1_000_000 { "1,000,000".to_owned() } else { format!("{},000", size / 1000) };
    format!("{size}, {threads} thr")
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    // Some of the peers make timers of theirs.
    let _entered = runtime.enter();
    let mut first = Table { names: Vec::new(), columns: Vec::new() };
    let mut second = Table { names: Vec::new(), columns: Vec::new() };
    // What takes long is told as it begins.
    let began = Instant::now();
    let tell = |what: &str| eprintln!("{:4} s  {what}", began.elapsed().as_secs());
    for size in SIZES {
        tell(&format!("{size} people: filling ours and the peers"));
        let world = World::new(size);
        let measure = |table: &mut Table, mut contenders: Vec<Contender<'_>>, rounds: usize| {
            table.names = contenders.iter().map(|contender| contender.name().to_owned()).collect();
            for threads in THREADS {
                tell(&format!("{size} people: timing on {threads} threads"));
                let medians = compare(&mut contenders, size, threads, rounds);
                table.columns.push((column(size, threads), medians));
            }
        };
        measure(&mut first, peers(&world, &runtime), ROUNDS);

        tell(&format!("{size} people: filling our kinds"));
        let flags: HashMap<String, bool, RandomState> =
            world.logins.iter().cloned().map(|key| (key, true)).collect();
        let mut contenders =
            vec![Contender::new(FLOOR, |n| flags.get(world.logins[n].as_str()).copied() == Some(true))];
        for (kind, _) in local_kinds() {
            contenders.push(world.ask_groups(kind, world.filled_groups(kind), &world.people));
        }
        measure(&mut second, contenders, ROUNDS);
    }
    tell("done");
    first.print("Hits by Zipf's law (0.99), people in the cache, threads");
    let bars = [
        ("a group, beside the floor", first.worst(GROUPS, FLOOR), 2.0, true),
        ("a group, beside the floor with a group set", first.worst(GROUPS, FLOOR_SET), 2.0, true),
        ("a right, beside the floor", first.worst(RIGHTS, FLOOR), 2.0, true),
        ("a right, beside the floor with such a key", first.worst(RIGHTS, FLOOR_RIGHT), 2.0, true),
        ("a group, how much faster than hitbox", 1.0 / first.worst(GROUPS, HITBOX), 5.0, false),
    ];
    println!();
    let held = bars.map(|(what, ratio, most, at_most)| {
        let (relation, held) = if at_most { ("at most", ratio <= most) } else { ("at least", ratio >= most) };
        bar(format_args!("{what}: {ratio:.2} in the worst column, the bar is {relation} {most}"), held)
    });
    second.print("Our kinds: group of a person");
    // Only the last is far enough off to be sure on a machine that does other things too.
    let [.., beside_hitbox] = held;
    exit(&[beside_hitbox])
}
