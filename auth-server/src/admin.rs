//! The admin socket: the command line's way to the running server.
//!
//! HTTP/1 on a unix socket in the data folder, which belongs to its owner alone. A change made through it
//! is made by the server's own stack, so the server's next answer has it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

use crate::command::{Command, Reply};
use crate::current::Current;
use crate::ops;

/// An import is the largest command: 16 MiB of file, in base64, in JSON.
const MAX_COMMAND: usize = 24 * 1024 * 1024;
/// A list of users is the largest reply.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// How long the server's reply is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for an import, which is one write for each user of its file.
const IMPORT_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The longest name of a socket that the system takes, in bytes.
const LONGEST: usize = 107;

/// The socket's place in a data folder.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Checks that the socket's name is not too long for the system.
fn check_length(data: &Path) -> Result<()> {
    let socket = socket(data).as_os_str().len();
    if socket <= LONGEST {
        return Ok(());
    }
    let length = data.as_os_str().len();
    let most = LONGEST.saturating_sub(socket.saturating_sub(length));
    let message = format!(
        "the name of the data folder has {length} bytes; for the admin socket in it there may be {most} at most"
    );
    Err(Error::new(ErrorKind::Misconfigured, message).with("folder", data.display()))
}

/// The admin socket of a running server. While it is held, no other server runs on the folder.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket. What a server that was killed has left behind is taken over.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if a server already runs on this folder, or it can't be made.
pub(crate) fn listen(data: &Path) -> Result<(UnixListener, Socket)> {
    check_length(data)?;
    let wrong =
        |what: &'static str| Error::new(ErrorKind::Misconfigured, what).with("folder", data.display());
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(data.join("server.lock"))
        .map_err(|error| wrong("can't write to the data folder").with("cause", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(wrong("a server already runs on this data folder")),
        Err(TryLockError::Error(error)) => {
            return Err(wrong("can't lock the data folder").with("cause", error));
        }
    }
    let path = socket(data);
    let listener =
        bind(data, &path).map_err(|error| wrong("can't open the admin socket").with("cause", error))?;
    Ok((listener, Socket { path, _lock: lock }))
}

/// Binds where nobody else gets to, and moves the socket to its place once it is closed to others.
fn bind(data: &Path, path: &Path) -> std::io::Result<UnixListener> {
    // A shorter path than the socket's own: the system takes about a hundred bytes.
    let room = data.join(".adm");
    let _ = std::fs::remove_dir_all(&room);
    std::fs::DirBuilder::new().mode(0o700).create(&room)?;
    let inside = room.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&inside, path)?;
        Ok(listener)
    });
    let _ = std::fs::remove_dir_all(&room);
    bound
}

/// The routes of the admin socket.
pub(crate) fn router(current: Arc<Current>) -> Router {
    Router::new()
        .route("/command", post(command))
        .layer(DefaultBodyLimit::max(MAX_COMMAND))
        .with_state(current)
}

async fn command(State(current): State<Arc<Current>>, Json(command): Json<Command>) -> Json<Reply> {
    // A caller who leaves does not leave a change half done.
    let run = tokio::spawn(async move {
        match command {
            Command::Reload => current.reload().await,
            command => ops::run(&current.stack(), command).await,
        }
    });
    Json(run.await.unwrap_or_else(|_| Reply::failed(&Error::new(ErrorKind::Internal, "the command failed"))))
}

/// Connects to the running server; nothing if none runs on this data folder.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if others may write to the folder: it would not be known who
/// gets to see the passwords. [`Unavailable`](ErrorKind::Unavailable) if there is a server that can't be reached.
pub(crate) async fn connect(data: &Path) -> Result<Option<UnixStream>> {
    // Where no server can listen, none does.
    if check_length(data).is_err() {
        return Ok(None);
    }
    let path = socket(data);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => auth_stack::check_data_folder(data)?,
    }
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            // A server that was killed leaves its socket behind.
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(Error::new(ErrorKind::Unavailable, "can't reach the running server")
                .with("socket", path.display())
                .with("cause", error)),
        },
    }
}

/// Has the running server run a command.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if no reply came back: for a
/// change it is then not known whether it was made.
pub(crate) async fn ask(stream: UnixStream, command: &Command) -> Result<Reply> {
    let patience = if matches!(command, Command::UserImport { .. }) { IMPORT_PATIENCE } else { PATIENCE };
    tokio::time::timeout(patience, exchange(stream, command))
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the server did not reply in time")))
}

async fn exchange(stream: UnixStream, command: &Command) -> Result<Reply> {
    let lost = |error: hyper::Error| {
        Error::new(ErrorKind::Unavailable, "the connection to the server was lost before its reply")
            .because(error)
    };
    let body = serde_json::to_vec(command)
        .map_err(|error| Error::new(ErrorKind::Internal, "the command can't be written").because(error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(connection);
    let request = hyper::Request::post("/command")
        .header("host", "gatepost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Error::new(ErrorKind::Internal, "the command can't be sent").because(error))?;
    let response = sender.send_request(request).await.map_err(lost)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REPLY).collect().await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the server's reply broke off").with("cause", error)
    })?;
    if !status.is_success() {
        let error =
            Error::new(ErrorKind::Internal, "the server refused the command; is it of another version?");
        return Err(error.with("status", status));
    }
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Error::new(ErrorKind::Internal, "the server's reply can't be read").because(error))
}
