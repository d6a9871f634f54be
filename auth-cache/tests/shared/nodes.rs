//! Processes of one stack, as far as they share anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{
    CacheKeys, Cached, Carrier, Hearing, NoTable, SealKind, Settings, SharedCache, TableFactory, TokenMemory,
    TtlTable,
};
use auth_core::{
    Access, Account, AccountSource, Bus, ByteTier, Clock, Ctx, Fence, GroupOracle, GroupSet, Listening,
    Login, Lookup, ObjectPerms, ObjectRef, Principal, Reached, Result, SourceInfo, StoredHash, Subject,
    TokenCache, TokenId, TokenState, Watch,
};
use auth_testkit::{MemoryBus, MemoryTier};

/// The key that all nodes have.
pub(crate) fn keys() -> CacheKeys {
    CacheKeys::new("test.", [("one".to_owned(), b"a secret of at least thirty-two bytes".to_vec())]).unwrap()
}

/// Nothing in the process itself.
pub(crate) fn no_table() -> TableFactory {
    Arc::new(|_| Arc::new(NoTable))
}

pub(crate) fn ttl_table() -> TableFactory {
    Arc::new(|bound| Arc::new(TtlTable::new(bound)))
}

/// One process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) fence: Arc<Fence>,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<SharedCache>,
    pub(crate) hearing: Option<Arc<Hearing>>,
    pub(crate) carrier: Arc<Carrier>,
    _listening: Option<Listening>,
}

impl Node {
    /// With these settings, over a tier, and with a bus if it keeps anything itself.
    pub(crate) fn new(
        tier: &Arc<MemoryTier>,
        bus: Option<&Arc<MemoryBus>>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
    ) -> Self {
        Self::with(tier, bus, clock, settings, &keys(), SealKind::default())
    }

    pub(crate) fn with(
        tier: &Arc<MemoryTier>,
        bus: Option<&Arc<MemoryBus>>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
        keys: &CacheKeys,
        seal: SealKind,
    ) -> Self {
        let fence = Arc::new(Fence::new());
        let tier = Arc::clone(tier) as Arc<dyn ByteTier>;
        let shared = Arc::new(SharedCache::new(tier, keys, seal, Arc::clone(&clock)).unwrap());
        let hearing = bus.map(|_| Arc::new(Hearing::new(Arc::clone(&fence), keys, seal).unwrap()));
        let listening = bus
            .zip(hearing.as_ref())
            .map(|(bus, hearing)| bus.listen(Arc::clone(hearing) as Arc<_>).unwrap());
        let speaking = bus
            .zip(hearing.as_ref())
            .map(|(bus, hearing)| (Arc::clone(bus) as Arc<dyn Bus>, Arc::clone(hearing)));
        let lifetimes = Arc::clone(&settings.lifetimes);
        let carrier = Carrier::start(Some(Arc::clone(&shared)), speaking, clock, move || lifetimes.longest());
        let carrier = Arc::new(carrier.unwrap());
        fence.carry_on(Arc::clone(&carrier) as Arc<_>);
        let mut settings = settings.for_source().with_shared(Arc::clone(&shared));
        if let Some(hearing) = &hearing {
            settings = settings.with_hearing(Arc::clone(hearing));
        }
        Self { fence, settings, shared, hearing, carrier, _listening: listening }
    }

    pub(crate) fn accounts(
        &self,
        store: Arc<dyn AccountSource>,
        clock: Arc<dyn Clock>,
    ) -> Cached<dyn AccountSource> {
        Cached::new(store, Arc::clone(&self.fence), clock, &self.settings)
    }

    pub(crate) fn groups(
        &self,
        store: Arc<dyn GroupOracle>,
        clock: Arc<dyn Clock>,
    ) -> Cached<dyn GroupOracle> {
        Cached::new(store, Arc::clone(&self.fence), clock, &self.settings)
    }

    pub(crate) fn rights(
        &self,
        store: Arc<dyn ObjectPerms>,
        clock: Arc<dyn Clock>,
    ) -> Cached<dyn ObjectPerms> {
        Cached::new(store, Arc::clone(&self.fence), clock, &self.settings)
    }

    pub(crate) fn tokens(&self, clock: Arc<dyn Clock>) -> TokenMemory {
        TokenMemory::new("default", Arc::clone(&self.fence), clock, &self.settings)
    }

    /// Voids a subject, and waits until everybody has it.
    pub(crate) async fn invalidate(&self, subject: &Subject<'_>) -> Reached {
        self.fence.invalidate(subject);
        self.fence.settle(Duration::from_secs(1)).await
    }
}

/// Asks one process after the other.
#[derive(Debug)]
pub(crate) struct Turns<C> {
    pub(crate) nodes: Vec<(Arc<Node>, C)>,
    next: AtomicUsize,
    asked: Mutex<HashMap<TokenId, Vec<(usize, Watch)>>>,
    clock: Arc<dyn Clock>,
}

impl<C> Turns<C> {
    pub(crate) fn new(nodes: Vec<(Arc<Node>, C)>, clock: Arc<dyn Clock>) -> Self {
        Self { nodes, next: AtomicUsize::new(0), asked: Mutex::default(), clock }
    }

    fn turn(&self) -> usize {
        // Not one after the other: the same would always ask the same.
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        (next ^ (next >> 1) ^ (next >> 3)) % self.nodes.len()
    }

    fn next(&self) -> &C {
        &self.nodes[self.turn()].1
    }
}

#[async_trait]
impl AccountSource for Turns<Cached<dyn AccountSource>> {
    fn source(&self) -> &SourceInfo {
        self.nodes[0].1.source()
    }
    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.next().account(ctx, login).await
    }
    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        self.next().replace_hash(ctx, who, old, new).await
    }
    fn peek_account(&self, ctx: &Ctx, login: &Login) -> Option<Lookup<Account>> {
        self.next().peek_account(ctx, login)
    }
}

#[async_trait]
impl GroupOracle for Turns<Cached<dyn GroupOracle>> {
    fn source(&self) -> &SourceInfo {
        self.nodes[0].1.source()
    }
    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.next().groups_of(ctx, who).await
    }
    fn peek_groups(&self, ctx: &Ctx, who: &Principal) -> Option<Lookup<GroupSet>> {
        self.next().peek_groups(ctx, who)
    }
}

#[async_trait]
impl ObjectPerms for Turns<Cached<dyn ObjectPerms>> {
    fn source(&self) -> &SourceInfo {
        self.nodes[0].1.source()
    }
    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        self.next().access(ctx, who, object, mode).await
    }
    async fn access_many(
        &self,
        ctx: &Ctx,
        who: &Principal,
        objects: &[ObjectRef],
        mode: Option<&str>,
    ) -> Vec<Result<Access>> {
        self.next().access_many(ctx, who, objects, mode).await
    }
    fn peek_access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Option<Access> {
        self.next().peek_access(ctx, who, object, mode)
    }
}

#[async_trait]
impl TokenCache for Turns<TokenMemory> {
    async fn get(&self, ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        let turn = self.turn();
        let (node, tokens) = &self.nodes[turn];
        let found = tokens.get(ctx, id).await;
        // What is validated now is put where it was asked for, under that process's fence.
        let watch = node.fence.watch(self.clock.now());
        self.asked.lock().unwrap().entry(*id).or_default().push((turn, watch));
        found
    }
    async fn put(
        &self,
        ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        // The latest question before this validation began: it was put by who validates.
        let before = |(_, mine): &&(usize, Watch)| mine.began() <= watch.began();
        let latest = |all: &Vec<(usize, Watch)>| all.iter().rev().find(before).copied();
        let found = self.asked.lock().unwrap().get(id).and_then(latest);
        let Some((turn, mine)) = found else { return Ok(()) };
        self.nodes[turn].1.put(ctx, id, state, ttl, mine).await
    }
    fn peek_token(&self, ctx: &Ctx, id: &TokenId) -> Option<Lookup<Arc<TokenState>>> {
        self.next().peek_token(ctx, id)
    }
}
