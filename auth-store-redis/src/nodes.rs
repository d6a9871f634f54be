//! A cluster: a link to each master, and which slot of those that are wanted is where.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use futures_util::future::join_all;
use redis::{Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::Address;
use crate::dial::{Dialer, Place, field, graver, text};
use crate::fault;
use crate::link::Link;

/// How often the cluster is asked who has which slot, if nothing says sooner that it has changed.
const LOOK: Duration = Duration::from_secs(1);

/// The least time between two such questions.
const PAUSE: Duration = Duration::from_millis(50);

/// The most masters that are linked to.
const MAX_NODES: usize = 1000;

/// The masters of a cluster.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<Shared>);

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("seeds", &self.0.seeds).finish_non_exhaustive()
    }
}

struct Shared {
    dialer: Arc<Dialer>,
    seeds: Vec<Address>,
    /// The slot of each lane.
    slots: Vec<u16>,
    /// A std lock: nothing awaits while it is held.
    view: RwLock<View>,
    /// Moves with the view.
    moves: watch::Sender<()>,
    stale: Notify,
    kept: AtomicBool,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            keeper.abort();
        }
    }
}

/// Who is where.
#[derive(Default)]
struct View {
    links: HashMap<Address, Link>,
    /// The link of each lane; empty until the cluster was first asked.
    lanes: Vec<Option<Link>>,
    why: Option<Error>,
}

/// What one node says about the cluster; the greatest is believed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    /// A node that was cut off from the others knows that it was.
    well: bool,
    /// It grows with every change.
    epoch: u64,
    lanes: Vec<Option<(String, u16)>>,
}

impl Nodes {
    pub(crate) fn new(dialer: Arc<Dialer>, seeds: Vec<Address>, slots: Vec<u16>) -> Self {
        Self(Arc::new(Shared {
            dialer,
            seeds,
            slots,
            view: RwLock::default(),
            moves: watch::Sender::new(()),
            stale: Notify::new(),
            kept: AtomicBool::new(false),
            keeper: Mutex::new(None),
        }))
    }

    /// Waits until the cluster was first asked, and for nothing else.
    pub(crate) async fn ready(&self, until: Instant) -> Result<()> {
        if self.0.kept.load(Ordering::Acquire) && self.0.is_known() {
            return Ok(());
        }
        let mut moves = self.0.moves.subscribe();
        self.keep()?;
        while !self.0.is_known() {
            if !matches!(tokio::time::timeout_at(until, moves.changed()).await, Ok(Ok(()))) {
                return Err(fault::timeout());
            }
        }
        Ok(())
    }

    /// Returns the link of a lane.
    pub(crate) fn link(&self, lane: usize) -> Result<Link> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        match view.lanes.get(lane) {
            Some(Some(link)) => Ok(link.clone()),
            _ => Err(view.why.clone().unwrap_or_else(nobody)),
        }
    }

    /// Says that the slots have moved.
    pub(crate) fn stale(&self) {
        self.0.stale.notify_one();
    }

    fn keep(&self) -> Result<()> {
        if self.0.kept.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let guard = Kept(Arc::downgrade(&self.0));
        let runtime = Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Internal, "Redis is asked outside of a tokio runtime"))?;
        let keeper = runtime.spawn(keep(guard)).abort_handle();
        *self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        Ok(())
    }
}

fn nobody() -> Error {
    Error::new(ErrorKind::Unavailable, "no node has that slot")
}

impl Shared {
    fn is_known(&self) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        !view.lanes.is_empty() || view.why.is_some()
    }

    /// Asks every node that is linked to; where none of them is well, the nodes that are configured.
    async fn ask(&self) -> Result<Said> {
        let links: Vec<_> = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            view.links.iter().map(|(address, link)| (address.clone(), link.clone())).collect()
        };
        let mut ask = Pipeline::with_capacity(2);
        ask.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let until = Instant::now() + self.dialer.connect_timeout;
        let asked = links.iter().map(|(address, link)| {
            let ask = &ask;
            async move { read(address, &self.slots, link.call(ask, until).await?.0) }
        });
        let mut best: Option<Said> = join_all(asked).await.into_iter().filter_map(Result::ok).max();
        let mut why = None;
        for seed in &self.seeds {
            if best.as_ref().is_some_and(|best| best.well) {
                break;
            }
            match self.dialer.ask(seed, &ask).await.and_then(|values| read(seed, &self.slots, values)) {
                Ok(said) => best = best.max(Some(said)),
                Err(error) => why = Some(graver(why, error)),
            }
        }
        best.ok_or_else(|| why.unwrap_or_else(nobody))
    }

    fn adopt(&self, said: Result<Said>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        match said {
            // What was known stands: each link says by itself how its server is.
            Err(why) => view.why = Some(why),
            Ok(said) => {
                let mut links: HashMap<Address, Link> = HashMap::new();
                let mut lanes = Vec::with_capacity(self.slots.len());
                for master in said.lanes {
                    let link = master.and_then(|(host, port)| {
                        let address = Address::Tcp(host, port);
                        if let Some(link) = links.get(&address) {
                            return Some(link.clone());
                        }
                        if links.len() >= MAX_NODES {
                            return None;
                        }
                        let known = view.links.get(&address).cloned();
                        let link = known.unwrap_or_else(|| {
                            Link::new(Arc::clone(&self.dialer), Place::At(address.clone()))
                        });
                        links.insert(address, link.clone());
                        Some(link)
                    });
                    lanes.push(link);
                }
                *view = View { links, lanes, why: None };
            }
        }
        drop(view);
        self.moves.send_replace(());
    }
}

/// Says that nobody asks the cluster any more: the runtime may have ended.
struct Kept(Weak<Shared>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.kept.store(false, Ordering::Release);
        }
    }
}

async fn keep(kept: Kept) {
    loop {
        let Some(shared) = kept.0.upgrade() else { return };
        let said = shared.ask().await;
        if let Err(error) = &said {
            tracing::debug!(?error, "no node of the cluster answers");
        }
        shared.adopt(said);
        tokio::select! {
            () = shared.stale.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        drop(shared);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads what a node says about the cluster.
fn read(asked: &Address, slots: &[u16], values: Vec<Value>) -> Result<Said> {
    let [info, shared_out] = <[Value; 2]>::try_from(values).map_err(|_| fault::unreadable())?;
    let info = match fault::checked(info) {
        // Anything else than a cluster does not know the command, or refuses it.
        Err(error) if error.kind() == ErrorKind::Misconfigured => {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "the server is none of a cluster, or refuses CLUSTER",
            ));
        }
        info => text(info?)?,
    };
    let Value::Array(ranges) = fault::checked(shared_out)? else { return Err(fault::unreadable()) };
    let well = field(&info, "cluster_state") == Some("ok");
    let epoch = field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let ranges: Vec<_> = ranges.iter().filter_map(|range| read_range(asked, range)).collect();
    let lanes = slots.iter().map(|slot| {
        let slot = i64::from(*slot);
        let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.map(|(_, _, master)| master.clone())
    });
    Ok(Said { well, epoch, lanes: lanes.collect() })
}

/// Reads the first and the last slot of a range, and where its master is.
fn read_range(asked: &Address, range: &Value) -> Option<(i64, i64, (String, u16))> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match (host, asked) {
        (Value::BulkString(host), _) if !host.is_empty() && host != b"?" => {
            String::from_utf8(host.clone()).ok()?
        }
        // A node that does not know its own name: it is where it was asked.
        (_, Address::Tcp(host, _)) => host.clone(),
        (_, Address::Unix(_)) => return None,
    };
    Some((*first, *last, (host, u16::try_from(*port).ok()?)))
}
