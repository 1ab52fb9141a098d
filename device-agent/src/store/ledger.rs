//! How many bytes the store holds and has promised, without looking at every file each time.
//!
//! Contract: what is promised to an upload is counted from its announcement on, so that uploads that are open together
//! cannot go beyond the budget together. The count of what is stored is a cache: other agents of the same folder change it
//! unseen, so it is made anew when it is old, and always before something is dropped because of it. What others promised is not
//! known here; several agents that upload at once may go beyond the budget until the next count.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Counting may take one part in this many of the time: thousands of files are counted rarely, a few at each question.
const COUNTING_SHARE: u32 = 50;

/// What this agent knows of the store's size.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    stored: u64,
    promised: u64,
    counted: Option<Instant>,
    cost: Duration,
}

impl Ledger {
    /// Bytes that were promised and are not there yet.
    pub(super) fn promised(&self) -> u64 {
        self.promised
    }

    /// Bytes that are there, by the last count and what this agent did since; `count` makes a new one if that is old or
    /// `anew`.
    pub(super) fn stored(&mut self, anew: bool, count: impl FnOnce() -> u64) -> u64 {
        if anew || self.counted.is_none_or(|at| at.elapsed() > self.cost * COUNTING_SHARE) {
            let start = Instant::now();
            self.stored = count();
            self.cost = start.elapsed();
            self.counted = Some(start);
        }
        self.stored
    }

    /// Bytes that were dropped.
    pub(super) fn dropped(&mut self, bytes: u64) {
        self.stored = self.stored.saturating_sub(bytes);
    }

    /// Promises room for `bytes`.
    pub(super) fn promise(&mut self, shared: &SharedLedger, bytes: u64) -> Promise {
        self.promised = self.promised.saturating_add(bytes);
        Promise { ledger: shared.clone(), bytes }
    }
}

/// The ledger of one store.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        // It is valid after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that was promised. What is left of it when this is dropped is given back.
#[derive(Debug)]
pub(crate) struct Promise {
    ledger: SharedLedger,
    bytes: u64,
}

impl Promise {
    /// `bytes` of it are there now.
    pub(super) fn keep(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut ledger = self.ledger.lock();
        ledger.promised = ledger.promised.saturating_sub(bytes);
        ledger.stored = ledger.stored.saturating_add(bytes);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.promised = ledger.promised.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_kept_or_given_back() {
        let shared = SharedLedger::default();
        assert_eq!(shared.lock().stored(false, || 100), 100);
        let mut first = shared.lock().promise(&shared, 30);
        let second = shared.lock().promise(&shared, 5);
        first.keep(20);
        assert_eq!(shared.lock().promised(), 15);
        assert_eq!(shared.lock().stored, 120);
        first.keep(999);
        let counts = |ledger: &Ledger| (ledger.promised, ledger.stored);
        assert_eq!(counts(&shared.lock()), (5, 130), "no more than was promised");
        drop((first, second));
        assert_eq!(shared.lock().promised(), 0);
    }

    #[test]
    fn a_count_that_took_long_is_kept_for_long() {
        let mut ledger = Ledger::default();
        let slow = || {
            std::thread::sleep(Duration::from_millis(20));
            7
        };
        assert_eq!(ledger.stored(false, slow), 7);
        assert_eq!(ledger.stored(false, || panic!("the old one serves for a second")), 7);
        ledger.dropped(3);
        assert_eq!(ledger.stored(false, || panic!("still")), 4);
        assert_eq!(ledger.stored(true, || 9), 9);
        ledger.counted = Instant::now().checked_sub(2 * COUNTING_SHARE * ledger.cost + Duration::from_millis(1));
        assert_eq!(ledger.stored(false, || 8), 8, "a quick one is soon old");
    }
}
