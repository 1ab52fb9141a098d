//! Giving up work that another thread does.

use crossbeam_channel::{Receiver, Sender, TryRecvError};

/// Held by whoever may give the work up. Dropping it gives it up too.
#[derive(Debug)]
pub(crate) struct Canceller(#[expect(dead_code, reason = "its drop is the signal")] Sender<()>);

/// Held by whoever does the work.
#[derive(Debug, Clone)]
pub(crate) struct Cancel(Receiver<()>);

/// A connected pair.
pub(crate) fn pair() -> (Canceller, Cancel) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (Canceller(sender), Cancel(receiver))
}

impl Cancel {
    /// Whether the work is to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// A channel that becomes ready (by disconnection) when the work is to stop, to be waited on with others.
    pub(crate) fn signal(&self) -> &Receiver<()> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn dropping_the_canceller_cancels_every_clone() {
        let (canceller, cancel) = super::pair();
        let other = cancel.clone();
        assert!(!cancel.is_cancelled() && !other.is_cancelled());
        drop(canceller);
        assert!(cancel.is_cancelled() && other.is_cancelled());
    }
}
