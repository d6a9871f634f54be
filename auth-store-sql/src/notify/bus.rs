//! PostgreSQL as the bus of invalidations.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use auth_core::{Bus, Ear, Error, ErrorKind, Listening, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sqlx::postgres::PgSslMode;

use super::{Hears, Sender, listen};
use crate::SqlConfig;
use crate::db::postgres::options;

/// The longest message: the server takes 7,999 bytes of text.
const LONGEST: usize = 5_900;

/// The longest name of a channel.
const LONGEST_CHANNEL: usize = 63;

/// PostgreSQL as a [`Bus`]: `NOTIFY` on the channel `<prefix>bus` of one database.
///
/// For where it is the only server that all processes share. Each process has two connections of its own to it, past any
/// pool: a pooler that gives a connection back after each transaction (pgbouncer) can't carry what is listened for.
pub struct PostgresBus {
    channel: String,
    sender: Arc<Sender>,
}

impl PostgresBus {
    /// Makes a bus; connections come with the first use.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the url or the prefix is not acceptable.
    pub fn new(config: &SqlConfig, prefix: &str) -> Result<Self> {
        let channel = format!("{prefix}bus");
        if channel.len() > LONGEST_CHANNEL || channel.contains('\0') {
            let message =
                format!("the prefix is too long for a channel: {} bytes at most", LONGEST_CHANNEL - 3);
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        Ok(Self { channel, sender: Arc::new(Sender::new(options(config)?)) })
    }
}

impl PostgresBus {
    /// Trusts an authority besides those of Mozilla's list, and shows a certificate with its key: PEM texts.
    #[must_use]
    pub fn with_tls(self, ca: Option<Vec<u8>>, own: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let mut options = self.sender.options.clone();
        if let Some(ca) = ca {
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(ca);
        }
        if let Some((cert, key)) = own {
            options = options.ssl_client_cert_from_pem(cert).ssl_client_key_from_pem(key);
        }
        Self { sender: Arc::new(Sender::new(options)), ..self }
    }
}

impl fmt::Debug for PostgresBus {
    // The options show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBus").field("channel", &self.channel).finish_non_exhaustive()
    }
}

struct Heard(Arc<dyn Ear>);

impl Hears for Heard {
    fn heard(&self, message: &str) {
        // What is none of ours is handed on too: whoever listens counts what it can't read.
        let message = STANDARD_NO_PAD.decode(message).unwrap_or_else(|_| message.as_bytes().to_vec());
        self.0.heard(&message);
    }
    fn lost(&self) {
        self.0.lost();
    }
    fn back(&self) {
        self.0.back();
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Bus for PostgresBus {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn largest(&self) -> usize {
        LONGEST
    }

    fn listen(&self, ear: Arc<dyn Ear>) -> Result<Listening> {
        listen(Arc::clone(&self.sender), self.channel.clone(), Arc::new(Heard(ear)))
    }

    async fn publish(&self, message: &[u8]) -> Result<()> {
        if message.len() > LONGEST {
            let message = format!("a message of more than {LONGEST} bytes");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.sender.send(&self.channel, &STANDARD_NO_PAD.encode(message)).await
    }
}
