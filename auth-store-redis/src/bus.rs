//! The bus over Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{Bus, Ear, Error, ErrorKind, Listening, Result};
use redis::{Pipeline, PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::dial::{Dialer, Place, Push};
use crate::link::{LOOK, Link, Pauses};
use crate::{RedisConfig, fault};

/// How often a listener says something that only it hears.
const BEAT: Duration = Duration::from_millis(400);

/// A listener that did not hear itself for so long is deaf. With a beat and what it takes to notice, less than 2 s.
const DEAF: Duration = Duration::from_millis(1500);

/// How many messages may wait for the ear. Beyond it the listener is deaf.
const WAITING: usize = 4096;

/// What a message begins with.
const NEWS: u8 = b'n';
const OWN: u8 = b'b';

/// News between processes, by publish and subscribe of Redis or Valkey.
///
/// Each listener has a connection of its own, so that nothing which is read or written holds news up. Publishing has
/// another, made when it is first needed.
#[derive(Debug)]
pub struct RedisBus {
    dialer: Arc<Dialer>,
    place: Place,
    channel: Arc<str>,
    publisher: Link,
}

impl RedisBus {
    /// Takes what is configured. Does not connect. The channel is the prefix and `bus`.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), which never tells the password.
    pub fn new(config: &RedisConfig) -> Result<Self> {
        let (dialer, shape) = Dialer::new(config)?;
        let dialer = Arc::new(dialer);
        let place = Place::of(shape);
        let publisher = Link::new(Arc::clone(&dialer), place.clone());
        Ok(Self { dialer, place, channel: format!("{}bus", config.prefix).into(), publisher })
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn listen(&self, ear: Arc<dyn Ear>) -> Result<Listening> {
        let runtime = Handle::try_current().map_err(|_| {
            Error::new(ErrorKind::Internal, "a bus is listened to outside of a tokio runtime")
        })?;
        let mut id = [0; 17];
        let [first, rest @ ..] = &mut id;
        *first = OWN;
        getrandom::fill(rest).map_err(|error| {
            Error::new(ErrorKind::Internal, "the system gives no random bytes").because(error)
        })?;
        let listener = Listener {
            dialer: Arc::clone(&self.dialer),
            place: self.place.clone(),
            channel: Arc::clone(&self.channel),
            id,
            ear,
        };
        Ok(Listening::new(Guard(runtime.spawn(listener.listen()).abort_handle())))
    }

    async fn publish(&self, message: &[u8]) -> Result<()> {
        let mut news = Vec::with_capacity(message.len() + 1);
        news.push(NEWS);
        news.extend_from_slice(message);
        let mut request = Pipeline::with_capacity(1);
        request.cmd("PUBLISH").arg(&*self.channel).arg(news);
        let (values, _) = self.publisher.call(&request, Instant::now() + self.dialer.timeout).await?;
        values.into_iter().try_for_each(|value| fault::checked(value).map(drop))
    }
}

/// Ends the listening.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Listener {
    dialer: Arc<Dialer>,
    place: Place,
    channel: Arc<str>,
    /// What only this listener says.
    id: [u8; 17],
    ear: Arc<dyn Ear>,
}

impl Listener {
    async fn listen(self) {
        let mut pauses = Pauses::default();
        loop {
            tokio::time::sleep(pauses.next()).await;
            let since = Instant::now();
            let why = self.hear().await;
            self.ear.lost();
            tracing::debug!(error = ?why, "the bus over Redis is lost");
            pauses.lasted(since);
        }
    }

    /// Connects and listens. Returns why no more can be heard.
    async fn hear(&self) -> Error {
        let (heard, mut messages) = mpsc::channel::<PushInfo>(WAITING);
        let gone = Arc::new((Notify::new(), AtomicBool::new(false)));
        let lost = Arc::clone(&gone);
        let push: Push = Arc::new(move |info| {
            // One that finds no place is missed, so that all is lost.
            if info.kind == PushKind::Disconnection || heard.try_send(info).is_err() {
                lost.1.store(true, Ordering::Release);
                lost.0.notify_one();
            }
        });
        let mut master = match self.dialer.find(&self.place, &push).await {
            Ok(master) => master,
            Err(error) => return error,
        };
        drop(push);
        let subscribed = master.wire.connection.subscribe(&*self.channel);
        match tokio::time::timeout(self.dialer.connect_timeout, subscribed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return fault::of(&error),
            Err(_) => return fault::timeout(),
        }
        let connection = master.wire.connection.clone();
        let beating = async {
            let mut request = Pipeline::with_capacity(2);
            request.cmd("PUBLISH").arg(&*self.channel).arg(&self.id).add_command(self.place.question());
            loop {
                let mut connection = connection.clone();
                // Has no limit of its own: what is not answered is not heard either.
                let values = match connection.send_packed_commands(&request, 0, 2).await {
                    Ok(values) => values,
                    Err(error) => return fault::of(&error),
                };
                let Ok([said, answer]) = <[Value; 2]>::try_from(values) else { return fault::unreadable() };
                // A replica, say, hears its master only for as long as that is the master.
                if let Err(error) = fault::checked(said).and_then(|_| self.place.accepts(answer)) {
                    return error;
                }
                tokio::time::sleep(BEAT).await;
            }
        };
        let moving = async {
            while !self.dialer.has_moved(&self.place, &master.address).await {
                tokio::time::sleep(LOOK).await;
            }
            Error::new(ErrorKind::Unavailable, "the sentinels say that another is the master")
        };
        let leaving = async {
            tokio::select! {
                why = beating => why,
                why = moving => why,
            }
        };
        tokio::pin!(leaving);
        let mut deaf = true;
        let mut patience = Instant::now() + DEAF;
        loop {
            let info = tokio::select! {
                biased;
                () = gone.0.notified() => None,
                why = &mut leaving => return why,
                info = messages.recv() => info,
                () = tokio::time::sleep_until(patience) => return fault::timeout(),
            };
            let Some(info) = info else {
                return Error::new(ErrorKind::Unavailable, "the connection is lost");
            };
            if gone.1.load(Ordering::Acquire) {
                return Error::new(ErrorKind::Unavailable, "more news than can be heard");
            }
            let Some(message) = message(&info) else { continue };
            match message.split_first() {
                Some((&NEWS, news)) if !deaf => self.ear.heard(news),
                Some((&OWN, _)) if *message == self.id => {
                    patience = Instant::now() + DEAF;
                    if deaf {
                        deaf = false;
                        self.ear.back();
                    }
                }
                _ => {}
            }
        }
    }
}

/// Takes the text out of a message of the one channel.
fn message(info: &PushInfo) -> Option<&[u8]> {
    match (&info.kind, info.data.as_slice()) {
        (PushKind::Message, [_, Value::BulkString(message)]) => Some(message),
        _ => None,
    }
}
