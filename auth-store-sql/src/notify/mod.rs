//! PostgreSQL's `NOTIFY`: as the bus of several processes, and as the feed of what somebody has changed.

mod bus;
mod feed;
mod push;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Listening, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Executor as _};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::error::classify;

pub use bus::PostgresBus;
pub(crate) use feed::PostgresFeed;
pub use push::Push;
pub use triggers::PushConfig;

/// How long connecting may take, and a notification to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a listener tells itself something.
const BEAT: Duration = Duration::from_millis(400);

/// How long nothing may come, although it tells itself something in between: then the link is lost.
const SILENCE: Duration = Duration::from_millis(1_500);

/// The pauses between attempts to connect: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Who hears what comes over a channel.
trait Hears: Send + Sync + 'static {
    fn heard(&self, message: &str);
    fn lost(&self);
    fn back(&self);
}

/// Sends notifications, one after the other, over a connection of its own.
struct Sender {
    options: PgConnectOptions,
    connection: Mutex<Option<PgConnection>>,
}

impl Sender {
    fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    /// Sends a notification. Returns once the server has it.
    async fn send(&self, channel: &str, message: &str) -> Result<()> {
        match timeout(PATIENCE, self.try_send(channel, message)).await {
            Ok(sent) => sent,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the database did not take a notification in time")),
        }
    }

    async fn try_send(&self, channel: &str, message: &str) -> Result<()> {
        let mut place = self.connection.lock().await;
        // Taken out: who leaves half way leaves no connection behind on which an answer is still to come.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(classify)?,
        };
        let query = sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(message);
        connection.execute(query).await.map_err(classify)?;
        *place = Some(connection);
        Ok(())
    }
}

/// Listens on a channel until the guard is dropped.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) outside of a runtime.
fn listen(sender: Arc<Sender>, channel: String, ear: Arc<dyn Hears>) -> Result<Listening> {
    struct Ends(tokio::task::AbortHandle);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let runtime = Handle::try_current()
        .map_err(|_| Error::new(ErrorKind::Internal, "listening needs a tokio runtime"))?;
    let mut own = [0; 12];
    getrandom::fill(&mut own)
        .map_err(|error| Error::new(ErrorKind::Internal, "there is no randomness").with("cause", error))?;
    let own = own.iter().fold(String::from("gatepost_"), |name, byte| format!("{name}{byte:02x}"));
    let task = runtime.spawn(async move {
        let mut pause = PAUSES.0;
        loop {
            match follow(&sender, &channel, &own, &*ear).await {
                Followed::Lost => pause = PAUSES.0,
                Followed::Refused(error) => {
                    tracing::debug!(kind = error.kind().as_str(), "can't listen to the database");
                }
            }
            ear.lost();
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    });
    Ok(Listening::new(Ends(task.abort_handle())))
}

enum Followed {
    /// It was heard, and is no longer.
    Lost,
    /// It was not heard at all.
    Refused(Error),
}

/// Listens for as long as the link carries what this process tells itself.
async fn follow(sender: &Sender, channel: &str, own: &str, ear: &dyn Hears) -> Followed {
    let connected = timeout(PATIENCE * 2, async {
        // One connection, which is gone with the listener.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(sender.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen_all([channel, own]).await?;
        Ok(listener)
    });
    let mut listener = match connected.await {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return Followed::Refused(classify(error)),
        Err(_) => return Followed::Refused(Error::new(ErrorKind::Timeout, "no connection in time")),
    };
    ear.back();
    let beat = async {
        loop {
            // What fails is seen by the silence that follows.
            let _sent = sender.send(own, "").await;
            sleep(BEAT).await;
        }
    };
    let hear = async {
        // What was begun to be read is thrown away with the connection when its time is over.
        while let Ok(Ok(Some(told))) = timeout(SILENCE, listener.try_recv()).await {
            if told.channel() == channel {
                ear.heard(told.payload());
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = beat => {}
    }
    Followed::Lost
}
