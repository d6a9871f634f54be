//! Connections: accepted up to a bound, cut when they dawdle, and let finish when the server stops.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt as _;

/// Connections at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// The most bytes that the head of a request may have.
const HEAD: usize = 32 * 1024;
/// The most header lines of a request.
const HEADERS: usize = 64;
/// How long a connection may take over the head of a request, or do nothing between requests.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// How long requests may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long an answer may take to leave after that.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long a peer may take nothing of an answer. Else whoever asks and does not read has a place for good.
const STALLED: Duration = Duration::from_secs(15);

/// Serves TCP until told to stop; then lets requests finish.
pub(crate) async fn tcp(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let listener = Arc::new(listener);
    let accept = move || {
        let listener = Arc::clone(&listener);
        async move {
            let (stream, peer) = listener.accept().await?;
            // Answers are small: waiting to fill a packet would only add to the time.
            let _ = stream.set_nodelay(true);
            Ok((stream, Some(peer)))
        }
    };
    serve(accept, router, stop).await;
}

/// Serves a unix socket until told to stop; then lets requests finish.
pub(crate) async fn unix(listener: UnixListener, router: Router, stop: watch::Receiver<bool>) {
    let listener = Arc::new(listener);
    let accept = move || {
        let listener = Arc::clone(&listener);
        async move {
            let (stream, _) = listener.accept().await?;
            Ok((stream, None))
        }
    };
    serve(accept, router, stop).await;
}

async fn serve<S, A>(accept: impl Fn() -> A + Send + Sync, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Future<Output = io::Result<(S, Option<SocketAddr>)>> + Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let http = http();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let held = hold(http.clone(), stream, peer, router.clone(), stop.clone());
                tokio::spawn(async move {
                    held.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // From here on connections are refused, and another server may listen.
    drop(accept);
    // Every place is free when every connection has ended.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(GRACE, places.acquire_many(all)).await;
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).max_headers(HEADERS);
    http
}

/// Serves one connection. When the server stops, a request that was begun is finished, and a connection
/// without one is closed.
async fn hold<S>(
    http: http1::Builder,
    stream: S,
    peer: Option<SocketAddr>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let busy = Arc::new(AtomicUsize::new(0));
    let requests = Arc::clone(&busy);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let (router, requests) = (router.clone(), Arc::clone(&requests));
        requests.fetch_add(1, Ordering::SeqCst);
        async move {
            let answer = router.oneshot(request.map(axum::body::Body::new)).await;
            requests.fetch_sub(1, Ordering::SeqCst);
            answer
        }
    });
    let mut connection =
        std::pin::pin!(http.serve_connection(TokioIo::new(Moving::new(stream, STALLED)), service));
    // How a connection breaks is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    // An answer may still be on its way out; half of a request's head is no request.
    if tokio::time::timeout(LAST_WORDS, connection.as_mut()).await.is_err() && busy.load(Ordering::SeqCst) > 0
    {
        let _ = tokio::time::timeout(GRACE, connection).await;
    }
}

/// A stream that fails when what is written makes no progress for too long.
struct Moving<S> {
    stream: S,
    limit: Duration,
    // Since a write has to wait; nothing while none does.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Moving<S> {
    const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn started(router: Router) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        (address, stop, tokio::spawn(tcp(listener, router, stopped)))
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "real sockets live in real time")]
    async fn stopping_does_not_wait_for_connections_without_a_request() {
        let (address, stop, served) = started(Router::new().route("/", get(|| async { "ok" }))).await;
        let mut idle = send(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut byte = [0; 1];
        idle.read_exact(&mut byte).await.unwrap();
        let half = send(address, "GET / HT").await;
        let silent = send(address, "").await;
        let began = Instant::now();
        stop.send(true).unwrap();
        served.await.unwrap();
        assert!(began.elapsed() < GRACE / 2, "{:?}", began.elapsed());
        assert!(rest(idle).await.ends_with("ok"));
        assert_eq!((rest(half).await, rest(silent).await), (String::new(), String::new()));
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// The virtual time that a connection lives whose peer does this.
    async fn lives<P: Future<Output = ()> + Send + 'static>(
        peer: impl FnOnce(tokio::io::DuplexStream) -> P,
    ) -> Duration {
        let (ours, theirs) = tokio::io::duplex(256);
        let router = Router::new().route("/", get(|| async { "x".repeat(2_000) }));
        let (_stop, stopped) = watch::channel(false);
        let began = tokio::time::Instant::now();
        let peer = tokio::spawn(peer(theirs));
        hold(http(), ours, None, router, stopped).await;
        let lived = began.elapsed();
        peer.abort();
        lived
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn who_asks_and_does_not_read_is_cut() {
        let lived = lives(async |mut peer: tokio::io::DuplexStream| {
            for _ in 0..100 {
                let _ = peer.write_all(REQUEST).await;
            }
            std::future::pending().await
        });
        let lived = lived.await;
        assert!(lived >= STALLED && lived < STALLED * 2, "{lived:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_gets_all_of_it() {
        let (told, read) = tokio::sync::oneshot::channel();
        let lived = lives(async |mut peer: tokio::io::DuplexStream| {
            peer.write_all(REQUEST).await.unwrap();
            let (mut all, mut part) = (0, [0; 100]);
            while all < 2_000 {
                tokio::time::sleep(STALLED / 2).await;
                all += peer.read(&mut part).await.unwrap();
            }
            told.send(all).unwrap();
        });
        assert!(lived.await > STALLED * 5);
        assert!(read.await.unwrap() >= 2_000);
    }

    #[tokio::test]
    async fn stopping_lets_a_request_finish() {
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
        let go_on = Arc::new(tokio::sync::Notify::new());
        let wait = Arc::clone(&go_on);
        let slow = get(move || async move {
            begun.send(()).await.unwrap();
            wait.notified().await;
            "done"
        });
        let (address, stop, served) = started(Router::new().route("/", slow)).await;
        let stream = send(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        has_begun.recv().await.unwrap();
        stop.send(true).unwrap();
        // Longer than a connection without a request gets.
        tokio::time::sleep(LAST_WORDS * 2).await;
        go_on.notify_one();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        served.await.unwrap();
    }
}
