//! The other side of `forward`: a handler that decides nothing, with an answer as large as Gatepost's.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it tells where it listens")]

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::any;

async fn answer() -> impl axum::response::IntoResponse {
    [
        (CACHE_CONTROL.as_str(), "no-store"),
        (CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        ("remote-user", "calvin"),
        ("remote-groups", "admin,staff"),
        ("remote-realm", "default"),
        ("remote-name", ""),
        ("remote-email", ""),
    ]
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("bare serves http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/auth/forward", any(answer))).await
}
