//! Connections: accepted up to a bound, cut when they dawdle, and let finish when the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
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

/// Serves TCP until told to stop; then lets requests finish.
pub(crate) async fn tcp(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let accept = || async {
        let (stream, peer) = listener.accept().await?;
        // Answers are small: waiting to fill a packet would only add to the time.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(peer)))
    };
    serve(accept, router, stop).await;
}

/// Serves a unix socket until told to stop; then lets requests finish.
pub(crate) async fn unix(listener: UnixListener, router: Router, stop: watch::Receiver<bool>) {
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok((stream, None))
    };
    serve(accept, router, stop).await;
}

async fn serve<S, A>(accept: impl Fn() -> A, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Future<Output = std::io::Result<(S, Option<SocketAddr>)>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).max_headers(HEADERS);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _place = place;
            // A connection that breaks is the client's affair.
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
