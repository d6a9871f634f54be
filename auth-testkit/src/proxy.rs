//! A TCP proxy that fails as networks do, when a test says so.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::servers::{free_ports, until};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From whoever has connected.
    ToServer,
    /// From the server.
    ToClient,
}

/// What happens to bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    #[default]
    Carried,
    /// They wait here.
    Held,
    /// They are read, and gone.
    Lost,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    to_server: Fate,
    to_client: Fate,
    delay: Duration,
    /// Connections of an earlier age are reset.
    age: u64,
}

impl State {
    const fn fate_of(&self, way: Way) -> Fate {
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }

    fn fate(&mut self, way: Way) -> &mut Fate {
        match way {
            Way::ToServer => &mut self.to_server,
            Way::ToClient => &mut self.to_client,
        }
    }
}

/// A TCP proxy in front of a server. It runs on a thread of its own, so that it works whatever the test's runtime
/// does, and ends with this.
///
/// ```
/// use auth_testkit::Proxy;
/// use std::io::{Read as _, Write as _};
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(server.local_addr()?);
/// let mut client = std::net::TcpStream::connect(proxy.address())?;
/// let (mut served, _) = server.accept()?;
///
/// proxy.stall();
/// client.write_all(b"late")?;
/// served.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
/// assert!(served.read(&mut [0; 4]).is_err());
///
/// proxy.heal();
/// served.set_read_timeout(None)?;
/// assert_eq!(served.read(&mut [0; 4])?, 4);
///
/// proxy.cut();
/// assert!(std::net::TcpStream::connect(proxy.address()).is_err());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    // A listener, or that there is none from now on. Its end is that of the proxy.
    listeners: mpsc::UnboundedSender<Option<StdListener>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    /// The ages of the connections that are open.
    open: Mutex<Vec<u64>>,
    /// Whether the proxy listens.
    listening: AtomicBool,
}

impl Counts {
    fn open(&self) -> MutexGuard<'_, Vec<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts a proxy on a free port of the loopback interface. The server need not be there yet: who connects while
    /// it is not is reset.
    ///
    /// # Panics
    /// If no thread or no port can be had.
    #[must_use]
    pub fn start(server: SocketAddr) -> Self {
        let listener = std::iter::repeat_with(free_ports)
            .find_map(|[port]| StdListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let (listeners, listened) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(State::default());
        let counts = Arc::<Counts>::default();
        let proxy = Self { address, state, listeners, counts: Arc::clone(&counts) };
        std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                // Dropping the runtime drops all connections.
                runtime.expect("a runtime").block_on(listen(server, listened, states, counts));
            })
            .expect("a thread");
        proxy.listen(Some(listener));
        proxy
    }

    fn listen(&self, listener: Option<StdListener>) {
        let wanted = listener.is_some();
        let _ = self.listeners.send(listener);
        until("the proxy does as it is told", || self.counts.listening.load(Ordering::Acquire) == wanted);
    }

    /// Returns where it listens: always there, while it is not cut.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, and refuses new ones.
    pub fn cut(&self) {
        self.listen(None);
        self.reset();
    }

    /// Resets every connection. New ones are carried.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.age += 1);
        let age = self.state.borrow().age;
        // Those who come meanwhile are of the new age.
        until("all connections are reset", || self.counts.open().iter().all(|of| *of >= age));
    }

    /// Accepts connections and carries nothing, neither way: not even that one is closed. What is sent meanwhile
    /// arrives when it is healed.
    pub fn stall(&self) {
        self.hold(Way::ToServer);
        self.hold(Way::ToClient);
    }

    /// Carries nothing this way; what is sent meanwhile arrives when it is healed.
    pub fn hold(&self, way: Way) {
        self.fate(way, Fate::Held);
    }

    /// Loses what goes this way from now on. What was lost does not come back, so connections that have lost
    /// something should be [`reset`](Self::reset).
    pub fn lose(&self, way: Way) {
        self.fate(way, Fate::Lost);
    }

    fn fate(&self, way: Way, fate: Fate) {
        self.state.send_modify(|state| *state.fate(way) = fate);
    }

    /// Carries everything later by this, each way. Takes nothing from how much can be carried.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Ends every fault: what was held arrives, connections are accepted and carried without delay.
    ///
    /// # Panics
    /// If somebody has taken the port while it was cut.
    #[track_caller]
    pub fn heal(&self) {
        self.state.send_modify(|state| *state = State { age: state.age, ..State::default() });
        if !self.counts.listening.load(Ordering::Acquire) {
            let listener = StdListener::bind(self.address).expect("the port is still free");
            self.listen(Some(listener));
        }
    }

    /// Returns how many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.accepted.load(Ordering::Acquire)
    }

    /// Returns how many connections there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counts.open().len()
    }
}

async fn listen(
    server: SocketAddr,
    mut listeners: mpsc::UnboundedReceiver<Option<StdListener>>,
    states: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    let mut listener: Option<TcpListener> = None;
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // First what the test says.
            biased;
            told = listeners.recv() => {
                let Some(told) = told else { return };
                listener = told.map(|listener| {
                    listener.set_nonblocking(true).expect("a listener that does not block");
                    TcpListener::from_std(listener).expect("a listener of this runtime")
                });
                counts.listening.store(listener.is_some(), Ordering::Release);
            }
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    let (states, counts) = (states.clone(), Arc::clone(&counts));
                    let age = states.borrow().age;
                    counts.accepted.fetch_add(1, Ordering::AcqRel);
                    counts.open().push(age);
                    tokio::spawn(async move {
                        carry(client, server, states, age).await;
                        let mut open = counts.open();
                        let at = open.iter().position(|of| *of == age).expect("one of this age");
                        open.swap_remove(at);
                    });
                }
            }
        }
    }
}

/// Carries one connection until both have closed it, or it is reset.
async fn carry(mut client: TcpStream, server: SocketAddr, states: watch::Receiver<State>, age: u64) {
    let _ = client.set_nodelay(true);
    let mut ages = states.clone();
    let reset = async move { ages.wait_for(|state| state.age != age).await.map(drop) };
    let carried = async {
        let mut upstream = TcpStream::connect(server).await?;
        let _ = upstream.set_nodelay(true);
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), upstream.split());
        let up = one_way(from_client, to_server, states.clone(), Way::ToServer);
        let down = one_way(from_server, to_client, states, Way::ToClient);
        let carried = tokio::select! {
            carried = async { tokio::try_join!(up, down) } => carried.map(drop),
            _ = reset => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if carried.is_err() {
            let _ = upstream.set_zero_linger();
        }
        carried
    };
    if io::Result::is_err(&carried.await) {
        // What did not end well for the one is a reset for the other.
        let _ = client.set_zero_linger();
    }
}

enum Load {
    Bytes(Vec<u8>),
    /// Nothing more comes.
    End,
    Broken(io::Error),
}

/// What goes one way, and when it arrives at the soonest.
type Parcel = (Load, Instant);

async fn one_way(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    states: watch::Receiver<State>,
    way: Way,
) -> io::Result<()> {
    let (send, parcels) = mpsc::channel(64);
    tokio::join!(read(from, send, states.clone()), write(to, parcels, states, way)).1
}

async fn read(mut from: ReadHalf<'_>, parcels: mpsc::Sender<Parcel>, states: watch::Receiver<State>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let load = match from.read(&mut buffer).await {
            Ok(0) => Load::End,
            Ok(length) => Load::Bytes(buffer.get(..length).unwrap_or_default().to_vec()),
            Err(error) => Load::Broken(error),
        };
        let last = !matches!(load, Load::Bytes(_));
        let due = Instant::now() + states.borrow().delay;
        if parcels.send((load, due)).await.is_err() || last {
            return;
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut parcels: mpsc::Receiver<Parcel>,
    mut states: watch::Receiver<State>,
    way: Way,
) -> io::Result<()> {
    while let Some((load, due)) = parcels.recv().await {
        tokio::time::sleep_until(due).await;
        let fate = |state: &State| state.fate_of(way);
        let held = states.wait_for(|state| fate(state) != Fate::Held).await;
        let Ok(fate) = held.map(|state| fate(&state)) else { break };
        match load {
            Load::Bytes(bytes) if fate == Fate::Carried => to.write_all(&bytes).await?,
            Load::Bytes(_) => {}
            Load::End => return to.shutdown().await,
            Load::Broken(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::TcpStream as Stream;

    use super::*;
    use crate::servers::stopwatch;

    const SOON: Duration = Duration::from_millis(50);

    /// A client, what it is connected to, and the proxy between them.
    fn connected() -> (Proxy, StdListener, Stream, Stream) {
        let server = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let proxy = Proxy::start(server.local_addr().expect("an address"));
        let (client, served) = join(&proxy, &server);
        (proxy, server, client, served)
    }

    fn join(proxy: &Proxy, server: &StdListener) -> (Stream, Stream) {
        let client = Stream::connect(proxy.address()).expect("a proxy");
        let (served, _) = server.accept().expect("a connection");
        (client, served)
    }

    fn arrives(to: &mut Stream, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        to.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        to.read_exact(&mut read).expect("bytes");
        assert_eq!(read, bytes);
    }

    fn nothing_arrives(to: &mut Stream) {
        to.set_read_timeout(Some(SOON)).expect("a time");
        let read = to.read(&mut [0]);
        assert!(matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock), "{read:?}");
    }

    fn is_reset(stream: &mut Stream) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        assert_eq!(stream.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn bytes_and_ends_go_both_ways() {
        let (proxy, _server, mut client, mut served) = connected();
        let much = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>();
        let sent = much.clone();
        let writer = std::thread::spawn(move || client.write_all(&sent).map(|()| client));
        arrives(&mut served, &much);
        let mut client = writer.join().expect("a thread").expect("bytes");
        served.write_all(b"answer").expect("a connection");
        drop(served);
        arrives(&mut client, b"answer");
        assert_eq!(client.read(&mut [0]).expect("an end, not a reset"), 0);
        assert_eq!((proxy.connections(), proxy.open()), (1, 1));
        drop(client);
        until("the connection is closed", || proxy.open() == 0);
    }

    #[test]
    fn while_it_stalls_connections_stand_and_what_was_sent_arrives_later() {
        let (proxy, server, mut client, mut served) = connected();
        proxy.stall();
        client.write_all(b"ask").expect("a connection");
        served.write_all(b"answer").expect("a connection");
        nothing_arrives(&mut served);
        nothing_arrives(&mut client);
        let (mut late, mut late_served) = join(&proxy, &server);
        late.write_all(b"late").expect("a connection");
        drop(late);
        nothing_arrives(&mut late_served);
        proxy.heal();
        arrives(&mut served, b"ask");
        arrives(&mut client, b"answer");
        arrives(&mut late_served, b"late");
        assert_eq!(late_served.read(&mut [0]).expect("an end"), 0);
    }

    #[test]
    fn one_way_alone_can_hold_or_lose() {
        let (proxy, _server, mut client, mut served) = connected();
        proxy.hold(Way::ToClient);
        served.write_all(b"held").expect("a connection");
        client.write_all(b"carried").expect("a connection");
        arrives(&mut served, b"carried");
        nothing_arrives(&mut client);
        proxy.heal();
        arrives(&mut client, b"held");

        proxy.lose(Way::ToServer);
        client.write_all(b"lost").expect("a connection");
        served.write_all(b"carried").expect("a connection");
        arrives(&mut client, b"carried");
        nothing_arrives(&mut served);
        proxy.heal();
        client.write_all(b"again").expect("a connection");
        arrives(&mut served, b"again");
    }

    #[test]
    fn while_it_is_cut_connections_are_reset_and_refused() {
        let (proxy, server, mut client, mut served) = connected();
        proxy.cut();
        is_reset(&mut client);
        is_reset(&mut served);
        for _ in 0..3 {
            let refused = Stream::connect(proxy.address()).expect_err("a refusal");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        proxy.heal();
        let (mut client, mut served) = join(&proxy, &server);
        client.write_all(b"again").expect("a connection");
        arrives(&mut served, b"again");
        assert_eq!((proxy.connections(), proxy.open()), (2, 1));
    }

    #[test]
    fn a_reset_ends_what_is_open_and_nothing_else_also_while_it_stalls() {
        let (proxy, server, mut client, mut served) = connected();
        proxy.stall();
        proxy.reset();
        is_reset(&mut client);
        is_reset(&mut served);
        proxy.heal();
        let (mut client, mut served) = join(&proxy, &server);
        client.write_all(b"again").expect("a connection");
        arrives(&mut served, b"again");
    }

    #[test]
    fn a_delay_is_that_of_each_way_and_takes_nothing_from_how_much_is_carried() {
        let (proxy, _server, mut client, mut served) = connected();
        proxy.delay(SOON);
        let began = stopwatch();
        client.write_all(b"ask").expect("a connection");
        arrives(&mut served, b"ask");
        assert!(began.elapsed() >= SOON, "{:?}", began.elapsed());
        served.write_all(b"answer").expect("a connection");
        arrives(&mut client, b"answer");
        assert!(began.elapsed() >= SOON * 2, "{:?}", began.elapsed());
        // Forty parcels one after the other would take two seconds.
        let began = stopwatch();
        for _ in 0..40 {
            client.write_all(b"ask").expect("a connection");
            std::thread::yield_now();
        }
        arrives(&mut served, &b"ask".repeat(40));
        assert!(began.elapsed() < SOON * 20, "{:?}", began.elapsed());
    }

    #[test]
    fn who_connects_while_the_server_is_gone_is_reset_and_the_other_way_round() {
        let (proxy, server, mut client, served) = connected();
        served.shutdown(std::net::Shutdown::Both).expect("a connection");
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        drop((server, served, client));
        let mut late = Stream::connect(proxy.address()).expect("the proxy is there");
        is_reset(&mut late);
        let address = proxy.address();
        drop(proxy);
        until("the proxy ends with its handle", || Stream::connect(address).is_err());
    }
}
