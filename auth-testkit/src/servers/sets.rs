//! Several Redis that belong together.

use super::redis::Role;
use super::wire::Reply;
use super::{Redis, RedisOptions, until};

/// A cluster of its own. Takes about two seconds to start: a test file starts one for all its tests.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Redis>,
    replicas: Vec<Redis>,
}

impl RedisCluster {
    /// Starts a cluster of masters that share the slots evenly; who loses one goes on with the others.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start(masters: usize) -> Self {
        Self::start_with(masters, 0, &RedisOptions::default())
    }

    /// Starts a cluster of masters of which the first so many have a replica, which takes the place of its master
    /// about three seconds after that was lost.
    ///
    /// # Panics
    /// If it can't be started, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn start_with(masters: usize, replicas: usize, options: &RedisOptions) -> Self {
        const SLOTS: usize = 16_384;
        let start = |count| (0..count).map(|_| Redis::start_as(&Role::Node, options)).collect();
        let cluster = Self { masters: start(masters), replicas: start(replicas) };
        let first = cluster.masters.first().expect("a cluster has a master");
        for (n, node) in cluster.nodes().enumerate() {
            ok(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            if n < masters {
                let (from, to) = (n * SLOTS / masters, (n + 1) * SLOTS / masters - 1);
                ok(node, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            }
            if n > 0 {
                let (port, bus) = (node.port().to_string(), node.bus().to_string());
                ok(first, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let known = format!("cluster_known_nodes:{}", masters + replicas);
        let agreed = |node: &Redis| {
            let info = node.command(&["CLUSTER", "INFO"]).text();
            let has = |line: &str| info.lines().any(|found| found == line);
            has("cluster_state:ok") && has(&known) && has("cluster_slots_assigned:16384")
        };
        until("all nodes of the cluster agree", || cluster.nodes().all(agreed));
        for (replica, master) in cluster.replicas.iter().zip(&cluster.masters) {
            let id = master.command(&["CLUSTER", "MYID"]).text();
            ok(replica, &["CLUSTER", "REPLICATE", &id]);
        }
        until("all replicas follow their master", || cluster.replicas.iter().all(follows));
        cluster
    }

    /// Returns the masters, as they were at the start, in the order of their slots.
    #[must_use]
    pub fn masters(&self) -> &[Redis] {
        &self.masters
    }

    /// Returns the replicas, as they were at the start, in the order of their masters.
    #[must_use]
    pub fn replicas(&self) -> &[Redis] {
        &self.replicas
    }

    fn nodes(&self) -> impl Iterator<Item = &Redis> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Returns the URL, with every master's address.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses: Vec<_> =
            self.masters.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }
}

/// A master, a replica, and three sentinels that watch both: half a second after the master was lost they begin to
/// make the replica master. They can do that once, since there is no other replica then.
#[derive(Debug)]
pub struct RedisSentinel {
    master: Redis,
    replica: Redis,
    sentinels: Vec<Redis>,
}

impl RedisSentinel {
    /// What the sentinels call the master.
    pub const NAME: &str = "mymaster";

    /// Starts them all.
    ///
    /// # Panics
    /// If they can't be started, or a program is not there.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&RedisOptions::default())
    }

    /// Starts them all; master and replica with these options, which must ask for no password.
    ///
    /// # Panics
    /// If they can't be started, or a program is not there.
    #[track_caller]
    #[must_use]
    pub fn start_with(options: &RedisOptions) -> Self {
        let master = Redis::start(options);
        let mut options = options.clone();
        options.more.push(format!("replicaof 127.0.0.1 {}", master.port()));
        let replica = Redis::start(&options);
        until("the replica follows its master", || follows(&replica));
        let watch = |_| Redis::start_as(&Role::Sentinel(master.port()), &RedisOptions::default());
        let set = Self { sentinels: (0..3).map(watch).collect(), master, replica };
        let port = set.replica.port().to_string();
        until("all sentinels know each other and the replica", || {
            set.sentinels.iter().all(|sentinel| {
                let quorum = sentinel.command(&["SENTINEL", "CKQUORUM", Self::NAME]);
                let known = sentinel.command(&["SENTINEL", "REPLICAS", Self::NAME]);
                matches!(quorum, Reply::Simple(text) if text.starts_with("OK 3"))
                    && format!("{:?}", known.items().first().map(flat)).contains(&port)
            })
        });
        set
    }

    /// Returns who was master at the start.
    #[must_use]
    pub const fn master(&self) -> &Redis {
        &self.master
    }

    /// Returns who was replica at the start.
    #[must_use]
    pub const fn replica(&self) -> &Redis {
        &self.replica
    }

    /// Returns the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// Returns the port of who is master now, as the first sentinel says.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    #[must_use]
    pub fn master_port(&self) -> u16 {
        let asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME];
        let address = self.sentinels.first().expect("three of them").command(&asked);
        address.items().last().and_then(|port| port.text().parse().ok()).expect("an address")
    }

    /// Returns the URL, with every sentinel's address and the name of the master.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis-sentinel://{}/{}", addresses.join(","), Self::NAME)
    }
}

fn flat(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(Reply::text).collect()
}

fn follows(replica: &Redis) -> bool {
    replica.command(&["INFO", "replication"]).text().contains("master_link_status:up")
}

#[track_caller]
fn ok(redis: &Redis, command: &[&str]) {
    let reply = redis.command(command);
    assert_eq!(reply, Reply::Simple("OK".into()), "{command:?}");
}
