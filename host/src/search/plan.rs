//! Who may work when.
//!
//! While a device times, nothing may disturb it: a device that shares the host's processor works alone, the evaluator and the
//! other devices of this kind rest. Boards of their own work beside the evaluator, which is one candidate ahead of them.

/// A device as the schedule sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    /// It runs on the host's processor.
    pub(crate) shares_host: bool,
    /// It is measuring.
    pub(crate) busy: bool,
}

/// Decides what may start.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) evaluating: bool,
}

impl Schedule {
    /// How many candidates the evaluator may be ahead of the slowest device. It decides what a proposal may know, so it depends
    /// on the kind of devices alone and never on how fast they happen to be.
    pub(crate) fn ahead(&self) -> usize {
        usize::from(!self.lanes.iter().any(|lane| lane.shares_host))
    }

    /// Whether the evaluator may start.
    pub(crate) fn may_evaluate(&self) -> bool {
        !self.evaluating && !self.lanes.iter().any(|lane| lane.shares_host && lane.busy)
    }

    /// Whether a device may start to measure.
    pub(crate) fn may_measure(&self, device: usize) -> bool {
        let lane = self.lanes[device];
        let others = || self.lanes.iter().any(|lane| lane.shares_host && lane.busy);
        !lane.busy && (!lane.shares_host || !self.evaluating && !others())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shares: &[bool]) -> Schedule {
        Schedule { lanes: shares.iter().map(|&shares_host| Lane { shares_host, busy: false }).collect(), evaluating: false }
    }

    #[test]
    fn a_device_that_shares_the_host_works_alone() {
        let mut s = schedule(&[true, true, false]);
        assert_eq!(s.ahead(), 0);
        s.evaluating = true;
        assert_eq!([0, 1, 2].map(|d| s.may_measure(d)), [false, false, true]);
        s.evaluating = false;
        s.lanes[0].busy = true;
        assert!(!s.may_evaluate());
        assert_eq!([0, 1, 2].map(|d| s.may_measure(d)), [false, false, true]);
    }

    #[test]
    fn boards_work_beside_the_evaluator() {
        let mut s = schedule(&[false, false]);
        assert_eq!(s.ahead(), 1);
        s.lanes[0].busy = true;
        assert!(s.may_evaluate() && s.may_measure(1) && !s.may_measure(0));
    }
}
