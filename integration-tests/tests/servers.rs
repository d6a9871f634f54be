//! The set of servers that integration-tests/servers starts, natively or by docker-compose: on each, what one process has
//! stored another finds, and what one changes the other sees.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::time::Duration;

use auth_core::{Ctx, Login, Member, Reached, Subject};
use auth_stack::Stack;
use auth_testkit::servers::skipped;
use integration_tests::SharedServers;

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("this does not come about: {what}");
}

fn stored(stack: &Stack) -> u64 {
    stack.caches().iter().filter_map(|(_, report)| report.shared).map(|shared| shared.stored).sum()
}

fn found(stack: &Stack) -> u64 {
    stack.caches().iter().filter_map(|(_, report)| report.shared).map(|shared| shared.hits).sum()
}

/// Asks in which group calvin is.
async fn is_member(stack: &Stack, group: &str) -> Member {
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let who = realm.principal(&ctx, &Login::parse(realm.id(), "calvin").unwrap()).await.unwrap();
    realm.is_member(&ctx, &who.found().unwrap(), group).await.unwrap()
}

/// Two stacks over one file of people, sharing by this configuration.
async fn check(what: &str, cache: &str) {
    let folder = tempfile::tempdir().unwrap();
    let people = folder.path().join("people.toml");
    let write = |group: &str| {
        let text = format!("[user.calvin]\ngroups = [\"{group}\"]\n");
        let fresh = folder.path().join("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, &people).unwrap();
    };
    write("old");
    let text = format!(
        "[source.people]\nkind = \"file\"\npath = \"{}\"\n\
         [cache]\nprefix = \"test.{}.\"\ntimeout = \"2s\"\nconnect_timeout = \"2s\"\n{cache}\n\
         [secrets]\ncache_key = \"a key of thirty-two bytes at least, or more\"\n",
        people.display(),
        std::process::id()
    );
    let build = || Stack::builder().data(folder.path().join("data")).config(&text).build();
    let (a, b) = (build().await.unwrap(), build().await.unwrap());
    for stack in [&a, &b] {
        until("it is reached", || stack.shared().unwrap().hearing.is_none_or(|hearing| !hearing.deaf)).await;
        for _ in 0..100 {
            if stack.probe_shared().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stack.probe_shared().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_eq!(is_member(&a, "old").await, Member::Yes, "{what}");
    until("both answers are stored", || stored(&a) == 2).await;
    assert_eq!(is_member(&b, "old").await, Member::Yes, "{what}");
    assert_eq!(found(&b), 2, "{what}: {:?}", b.caches());
    write("new");
    a.expire(&Subject::All);
    assert_eq!(a.settle().await, Reached::Everything, "{what}");
    let heard = || b.shared().unwrap().hearing.is_none_or(|hearing| hearing.heard > 0);
    until("the other hears of it", heard).await;
    assert_eq!(is_member(&b, "new").await, Member::Yes, "{what}");
    assert_eq!(is_member(&a, "old").await, Member::No, "{what}");
}

#[tokio::test]
async fn every_server_of_the_set_is_shared_through() {
    if skipped("redis") || skipped("memcached") {
        return;
    }
    let servers = tokio::task::spawn_blocking(SharedServers::take).await.unwrap();
    let file = |name: &str| format!("{{ file = \"{}\" }}", servers.get(name));
    let tls = format!(
        "tls = {{ ca = {}, cert = {}, key = {} }}",
        file("TLS_CA"),
        file("TLS_CERT"),
        file("TLS_KEY")
    );
    for (name, more) in
        [("REDIS", ""), ("REDIS_TLS", tls.as_str()), ("REDIS_CLUSTER", ""), ("REDIS_SENTINEL", "")]
    {
        for kind in ["redis", "tiered"] {
            let url = servers.get(name);
            check(&format!("{kind} over {name}"), &format!("kind = \"{kind}\"\nurl = \"{url}\"\n{more}"))
                .await;
        }
    }
    let (memcached, redis) = (servers.get("MEMCACHED"), servers.get("REDIS"));
    check("memcached", &format!("kind = \"memcached\"\nurl = \"{memcached}\"")).await;
    check("tiered over memcached", &format!("kind = \"tiered\"\nurl = \"{memcached}\"\nbus = \"{redis}\""))
        .await;
}
