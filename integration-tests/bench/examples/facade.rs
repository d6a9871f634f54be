//! The other side of `peers`: a cached question about a group through the facade, in nanoseconds.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a figure is what it is for")]

use std::time::Instant;

use auth_core::{Ctx, Member, Principal};
use auth_stack::Stack;
use gatepost_bench::{CHUNK, group, login, now, open, people, zipf};

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let build = Stack::builder()
        .data(std::env::temp_dir().join("gatepost-bench-makes-no-data-folder"))
        .config("cache.ttl = \"8h\"\n[source.flat]\nkind = \"flat\"\n")
        .register_source("flat", open)
        .build();
    let stack = runtime.block_on(build).expect("a stack");
    let realm = stack.realm("default").expect("the only realm");
    let (people, ctx) = (people(count), Ctx::new());
    let groups: Vec<String> = (0..count).map(group).collect();
    runtime.block_on(async {
        for who in &people {
            realm.groups(&ctx, who).await.expect("the groups of everybody");
        }
    });
    assert!(login(0) == people[0].login().as_str(), "the people of the store");
    // As on the other side: who and what is asked about is taken in hand before the time is.
    let mut times = Vec::new();
    for asked in zipf(count, 1000 * CHUNK, 1).chunks(CHUNK) {
        let pairs: Vec<(Principal, String)> =
            asked.iter().map(|n| (people[*n].clone(), groups[*n].clone())).collect();
        let began = Instant::now();
        let ask = |(who, group): &&(Principal, String)| {
            matches!(now(realm.is_member(&ctx, who, group)), Ok(Member::Yes))
        };
        let right = pairs.iter().filter(ask).count();
        times.push(began.elapsed());
        assert_eq!(right, CHUNK, "not every hit was one");
    }
    times.sort();
    println!("{:.1}", times[times.len() / 2].as_secs_f64() * 1e9 / CHUNK as f64);
}
