//! What the loop keeps besides the study.

use super::{
    Schedule,
    agenda::{Agenda, Place},
    lane::Job,
};
use crate::{
    failure::Failure,
    json::Timing,
    shipment::{Shipment, Way},
};
use crossbeam_channel::Sender;
use edgewise_search::Candidate;
use std::{collections::BTreeSet, sync::Arc};

/// Where a candidate's evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    /// To be evaluated.
    Open,
    /// Stored, but for tasks, which are to be asked now that devices measure it.
    Unasked,
    /// Stored.
    Known,
    /// It failed before any device saw it.
    Failed,
}

impl Quality {
    /// Whether the evaluator has something to do.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Unasked)
    }
}

/// One candidate on its way.
pub(super) struct Work {
    pub(super) id: String,
    pub(super) candidate: Candidate,
    pub(super) quality: Quality,
    pub(super) shipment: Option<Arc<Shipment>>,
    /// Devices measure it; else only its quality is looked at.
    pub(super) measured: bool,
    pub(super) told: bool,
}

/// Where a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Ready,
    Lost,
}

/// Where a device's time went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) screen_s: f64,
    pub(super) race_s: f64,
    /// Trials of the race in this run.
    pub(super) raced: usize,
}

impl Spent {
    /// Whether a block of so many trials fits, if the race may take `share` of what the screening took. The first always does.
    pub(super) fn allows(&self, seats: usize, share: f64) -> bool {
        let each = if self.raced == 0 { 0.0 } else { self.race_s / self.raced as f64 };
        self.race_s + seats as f64 * each <= share * self.screen_s
    }
}

/// One device.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) phase: Phase,
    pub(super) agenda: Agenda,
    /// Candidates that it has not screened.
    pub(super) pending: BTreeSet<usize>,
    /// It takes no recipes.
    pub(super) way: Way,
    /// Seconds that its trials took so far, of screening and of the race.
    pub(super) spent: Spent,
    /// Nothing is left for it to do.
    pub(super) done: bool,
    pub(super) jobs: Option<Sender<Job>>,
    /// Why it was lost.
    pub(super) failure: Option<Failure>,
}

/// The state of a search.
pub(super) struct State {
    pub(super) work: Vec<Work>,
    pub(super) members: Vec<Member>,
    pub(super) schedule: Schedule,
    pub(super) timing: Timing,
    /// How many of them are of the search's own series.
    pub(super) searched: usize,
    /// How many were looked at on the host alone.
    pub(super) explored: usize,
    /// The search's own series is whole.
    pub(super) exhausted: bool,
    /// No more candidates will be proposed.
    pub(super) complete: bool,
    pub(super) stop: Option<Failure>,
}

impl State {
    pub(super) fn alive(&self, device: usize) -> bool {
        self.members[device].phase == Phase::Ready
    }

    pub(super) fn any_alive(&self) -> bool {
        self.members.iter().any(|m| m.phase == Phase::Ready)
    }

    /// The device that proposals follow: the first that answered. What others measure, and when, changes no proposal.
    pub(super) fn lead(&self) -> Option<usize> {
        self.members.iter().position(|m| m.phase == Phase::Ready)
    }

    /// Whether the lead has all results of the first `count` candidates.
    pub(super) fn knows(&self, count: usize) -> bool {
        let Some(lead) = self.lead() else { return false };
        let pending = &self.members[lead].pending;
        self.work
            .iter()
            .take(count)
            .enumerate()
            .all(|(i, w)| !w.quality.is_open() && (w.quality == Quality::Failed || !pending.contains(&i)))
    }

    /// Whether all devices that are there have screened a candidate.
    pub(super) fn is_through(&self, index: usize) -> bool {
        let work = &self.work[index];
        let open = |m: &Member| m.phase == Phase::Ready && m.pending.contains(&index);
        work.quality == Quality::Failed || work.quality == Quality::Known && !self.members.iter().any(open)
    }

    /// The next candidate for the evaluator: one that is not evaluated, or one of which a device waits for what it needs.
    pub(super) fn next_evaluation(&self, wanted: &[usize]) -> Option<usize> {
        if !self.schedule.may_evaluate() {
            return None;
        }
        let ready = |index: &usize| self.knows(index.saturating_sub(self.schedule.ahead()));
        wanted.first().copied().or_else(|| self.work.iter().position(|w| w.quality.is_open()).filter(ready))
    }

    /// Whether a device can be given this candidate now.
    pub(super) fn has_shipment(&self, device: usize, index: usize) -> bool {
        self.work[index].shipment.as_ref().is_some_and(|s| s.can(self.members[device].way))
    }

    /// The first candidate that a device has to screen and that is ready for it.
    pub(super) fn next_screening(&self, device: usize) -> Option<(usize, Place)> {
        let member = &self.members[device];
        let index = *member.pending.iter().find(|&&i| self.work[i].quality == Quality::Known)?;
        Some((index, member.agenda.screen(&self.work[0].id, &self.work[index].id)))
    }

    pub(super) fn index_of(&self, id: &str) -> Option<usize> {
        self.work.iter().position(|w| w.id == id)
    }

    /// Whether a device has nothing left to screen.
    pub(super) fn screened(&self, device: usize) -> bool {
        self.complete && self.members[device].pending.iter().all(|&i| self.work[i].quality == Quality::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_has_its_first_block_and_then_what_fits() {
        let spent = |race_s, raced| Spent { screen_s: 30.0, race_s, raced };
        assert!(spent(0.0, 0).allows(100, 1.0), "nothing is known of how long a block takes");
        assert!(spent(12.0, 6).allows(9, 1.0), "12 s and 9 more of 2 s each");
        assert!(!spent(12.0, 6).allows(10, 1.0));
        assert!(spent(12.0, 6).allows(10, 2.0));
        // A resumed search knows what was spent, though not on how many trials.
        assert!(!spent(31.0, 0).allows(1, 1.0));
    }
}
