//! How commands reach one server.

use std::fmt;

use async_trait::async_trait;
use auth_core::{Result, TierTime};

use super::command::{Answer, Command};

/// What a server has answered.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// One for each command, in their order.
    pub(super) answers: Vec<Answer>,
    /// The server's clock before any of them was carried out.
    pub(super) now: TierTime,
    /// Which life of the server has answered.
    pub(super) incarnation: u64,
}

/// Brings commands to one server, and its answers back.
///
/// # Contract
/// - An answer is never that of another call: at the first doubt a connection is given up.
/// - A call ends within its limit. While it is known that there is no connection, it fails at once.
/// - No more calls than allowed wait; others are refused.
/// - A call that is dropped harms no other.
#[async_trait]
pub(super) trait Transport: fmt::Debug + Send + Sync {
    /// Carries out commands in their order, in one round trip. None at all ask whether the server is there.
    async fn exchange(&self, commands: &[Command<'_>]) -> Result<Exchanged>;

    /// Returns the server's clock if it is known.
    fn known_now(&self) -> Option<TierTime>;

    /// Returns the server's clock.
    async fn now(&self) -> Result<TierTime> {
        match self.known_now() {
            Some(now) => Ok(now),
            None => Ok(self.exchange(&[]).await?.now),
        }
    }
}
