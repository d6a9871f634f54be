//! Bytes an entry: what remembering a person's five groups takes, with the texts themselves and beside them.
//!
//! The texts are those that the entry alone keeps: the names of the groups, and the login where the principal is
//! the entry's own. Each figure is of a process of its own: this program starts itself for each.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]
#![allow(unsafe_code, reason = "a global allocator that counts can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth_core::{Ctx, GroupSet, Principal};
use foldhash::fast::RandomState;
use gatepost_bench::{
    Flat, LONG, bar, cached_groups, exit, groups, local_kinds, login, people, person, realm,
};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZES: [usize; 2] = [100_000, 1_000_000];
const BAR: f64 = 200.0;

/// Whose the principal is that is a part of each key.
const SHARED: &str = "shared with the account's entry";
const OWNED: &str = "the entry's own";

/// The bytes that this process has in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn set(n: usize) -> GroupSet {
    groups(n).iter().map(String::as_str).collect()
}

/// Fills a cache of ours, and returns it with what it shares.
fn fill(kind: &str, known: Option<Vec<Principal>>, count: usize) -> Box<dyn Any> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (realm, source, ctx) = (realm(), Flat::default(), Ctx::new());
    let cached = cached_groups(kind, count + count / 4);
    runtime.block_on(async {
        for n in 0..count {
            let own = known.is_none().then(|| person(&realm, &source, n));
            let who = own.as_ref().or_else(|| known.as_ref()?.get(n)).expect("somebody");
            cached.groups_of(&ctx, who).await.expect("the groups of everybody");
        }
    });
    drop(runtime);
    let kept = Box::new((Arc::clone(&cached), known));
    let all = (0..count).step_by(count / 100);
    let missing = all.filter(|n| cached.peek_groups(&ctx, &person(&realm, &source, *n)).is_none()).count();
    assert_eq!(missing, 0, "{kind}: entries are missing");
    kept
}

fn peer(name: &str, count: usize) -> Box<dyn Any> {
    let room = count + count / 4;
    let capacity = u64::try_from(room).expect("a small number");
    match name {
        "std HashMap" => Box::new(
            (0..count).map(|n| (login(n), set(n))).collect::<std::collections::HashMap<_, _, RandomState>>(),
        ),
        "quick_cache" => {
            let cache = quick_cache::sync::Cache::new(room);
            (0..count).for_each(|n| cache.insert(login(n), set(n)));
            Box::new(cache)
        }
        "lru crate" => {
            let mut cache = lru::LruCache::unbounded_with_hasher(RandomState::default());
            (0..count).for_each(|n| drop(cache.put(login(n), set(n))));
            Box::new(cache)
        }
        "moka sync, with ttl" => {
            let cache = moka::sync::Cache::builder().max_capacity(capacity).time_to_live(LONG).build();
            (0..count).for_each(|n| cache.insert(login(n), set(n)));
            cache.run_pending_tasks();
            Box::new(cache)
        }
        other => panic!("there is no {other}"),
    }
}

const PEERS: [&str; 4] = ["std HashMap", "quick_cache", "lru crate", "moka sync, with ttl"];

/// Measures one and prints the bytes an entry: requested and resident, and those of its texts.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn measure(name: &str, principal: &str, count: usize) {
    let known = (principal == SHARED).then(|| people(count));
    let names: usize = (0..count).map(|n| groups(n).iter().map(String::len).sum::<usize>()).sum();
    let logins = if known.is_some() { 0 } else { count * login(0).len() };
    let texts = names + logins;
    let (requested, rss) = (LIVE.load(Ordering::SeqCst), resident());
    let kept = if PEERS.contains(&name) { peer(name, count) } else { fill(name, known, count) };
    let requested = LIVE.load(Ordering::SeqCst) - requested;
    let rss = resident().saturating_sub(rss);
    let each = |bytes: usize| bytes as f64 / count as f64;
    println!("{:.1} {:.1} {:.1}", each(requested), each(rss), each(texts));
    // Giving a million entries back takes longer than ending.
    std::mem::forget(kept);
}

/// Measures one in a process of its own.
fn apart(name: &str, principal: &str, count: usize) -> [f64; 3] {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["measure", name, principal, &count.to_string()]).output();
    let output = output.expect("a process");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(|figure| figure.parse().expect("a figure"));
    [(); 3].map(|()| figures.next().expect("three figures"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [order, name, principal, count] = arguments.as_slice()
        && order == "measure"
    {
        measure(name, principal, count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    println!(
        "\nBytes an entry: a person with 5 groups of 200. Requested of the allocator, all of it and without the"
    );
    println!("texts (names of groups, and the login where the entry keeps it), and resident without them\n");
    print!("{:22}{:34}{:>7}", "", "principal", "texts");
    for size in SIZES {
        print!("{:>14} {:>9} {:>9}", format!("{size}: all"), "no texts", "resident");
    }
    println!();
    let ours = local_kinds().into_iter().flat_map(|(kind, _)| [(kind, SHARED), (kind, OWNED)]);
    // Of the default kind as it is in a stack.
    let mut worst = [("requested", 0.0_f64), ("resident", 0.0)];
    for (name, principal) in ours.chain(PEERS.map(|peer| (peer, "none: a login's text"))) {
        let figures = SIZES.map(|size| apart(name, principal, size));
        print!("{name:22}{principal:34}{:>7.1}", figures[0][2]);
        for [requested, rss, texts] in figures {
            print!("{requested:>14.1} {:>9.1} {:>9.1}", requested - texts, rss - texts);
            if name == "ttl" && principal == SHARED {
                worst[0].1 = worst[0].1.max(requested - texts);
                worst[1].1 = worst[1].1.max(rss - texts);
            }
        }
        println!();
    }
    println!();
    let bars = worst.map(|(what, bytes)| {
        let told = format!(
            "ttl, principal shared, {what}, no texts: {bytes:.1} at most, the bar is less than {BAR}"
        );
        bar(told, bytes < BAR)
    });
    exit(&bars)
}
