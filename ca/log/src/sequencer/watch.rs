//! A log as somebody sees it who must not keep it open.

use std::sync::Arc;

use async_channel::WeakSender;

use super::{Log, Queued, Shared};
use crate::checkpoint::Checkpoint;

/// An eye on a log: it knows what was signed last, and can stop the log. The log closes all the same when everybody
/// who appends is gone.
pub struct Watch<E> {
    queue: WeakSender<Queued<E>>,
    grown: WeakSender<()>,
    shared: Arc<Shared>,
}

impl<E> Log<E> {
    /// An eye on the log.
    pub fn watch(&self) -> Watch<E> {
        Watch { queue: self.queue.downgrade(), grown: self.grown.clone(), shared: self.shared.clone() }
    }
}

impl<E> Watch<E> {
    /// The newest checkpoint that was signed, from memory.
    pub fn newest(&self) -> Option<Checkpoint> {
        self.shared.state().latest.as_ref().map(|signed| signed.checkpoint().clone())
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.shared.key.name().as_str()
    }

    /// Whether the log has stopped, for whatever reason.
    pub fn has_stopped(&self) -> bool {
        self.shared.state().stopped.is_some()
    }

    /// If too few witnesses cosigned when they were asked last, has them asked again, although nothing was appended.
    pub fn ask_witnesses_again(&self) {
        let away = self.shared.state().away.is_some();
        if let (true, Some(grown)) = (away, self.grown.upgrade()) {
            // Full means that the notary has been woken already: it signs the newest head and hands it to them.
            let _ = grown.try_send(());
        }
    }

    /// Stops the log: nothing more is taken, and whoever asks is told why.
    pub fn stop(&self, why: &str) {
        self.shared.state().stopped.get_or_insert_with(|| why.to_owned());
        if let Some(queue) = self.queue.upgrade() {
            queue.close();
        }
    }
}
