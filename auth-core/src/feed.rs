//! The port of stores that tell when somebody has changed something in them, whoever it was.

use std::fmt;
use std::sync::Arc;

use crate::{Id, Listening, Result};

/// What somebody has changed in a store, as far as it can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed {
    /// Something about the person with this login: as the store spells it.
    Login(Arc<str>),
    /// Something about the person with this id, which the store has issued.
    Id(Id),
    /// An object, or rights on it.
    Object {
        /// The domain.
        domain: Arc<str>,
        /// The parts of its id. Their types do not matter.
        id: Vec<Id>,
    },
    /// Groups, of whom is not known.
    Groups,
    /// What is not known.
    All,
}

/// Hears what was changed in a store. Called by the feed's own task, and must not wait.
pub trait ChangeEar: fmt::Debug + Send + Sync {
    /// Hears what was changed. The store shows it already to whoever asks now.
    fn changed(&self, what: &[Changed]);
    /// From now on changes may be missed. Also called where that was known already.
    fn lost(&self);
    /// From now on no change is missed; what was changed before may have been.
    fn back(&self);
}

/// A store that tells what somebody has changed in it: through another program, with an editor, by hand.
///
/// # Contract
/// - A listener may miss everything until its first [`back`](ChangeEar::back).
/// - A listener that may have missed something learns it, by [`lost`](ChangeEar::lost), at most two seconds after the
///   feed stopped carrying; the feed comes back by itself.
/// - Telling too much is allowed: it costs questions, never a wrong answer.
pub trait ChangeFeed: fmt::Debug + Send + Sync {
    /// Says how the store tells: `notify`, `watch`, `log`.
    fn kind(&self) -> &'static str;

    /// Begins to listen, on the tokio runtime that this is called on, until the guard is dropped.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) outside of a runtime.
    fn follow(&self, ear: Arc<dyn ChangeEar>) -> Result<Listening>;
}
