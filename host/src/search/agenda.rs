//! What a device measures next: its schedule of blocks.
//!
//! A block begins with the sentinel, the baseline once more. While candidates are screened, blocks fill up as candidates come;
//! then candidates race in complete blocks, each followed by its reverse, as long as another trial may change the front.
//! All of it follows from the trials and gaps that the study holds, so that a resumed search sits down where it got up.

use crate::{failure::Failure, view::View};
use edgewise_search::{Role, Rules, SENTINEL_SEAT, seats};
use std::collections::BTreeMap;

/// Candidates that are screened between two sentinels.
const SCREENED: u32 = 5;

/// A seat to be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) block: u32,
    pub(crate) seat: u32,
    pub(crate) role: Role,
}

/// A device's schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda {
    /// Seats that are filled, trials and gaps, by block.
    filled: BTreeMap<u32, BTreeMap<u32, Role>>,
}

impl Agenda {
    /// Takes up what the study holds of a device.
    pub(crate) fn of(view: &View, device: &str) -> Self {
        let mut out = Self::default();
        for trial in view.records.iter().flat_map(|r| &r.trials).filter(|t| t.device == device) {
            out.fill(trial.block, trial.seat, trial.role);
        }
        for (_, gap) in view.gaps.iter().filter(|(_, g)| g.device == device) {
            // A gap is of the kind that its block is.
            let role = out.filled.get(&gap.block).filter(|block| Self::races(block)).map_or(Role::Screen, |_| Role::Race);
            out.fill(gap.block, gap.seat, role);
        }
        out
    }

    /// Notes that a seat is filled, by a trial or by a gap.
    pub(crate) fn fill(&mut self, block: u32, seat: u32, role: Role) {
        let block = self.filled.entry(block).or_default();
        block.insert(seat, role);
    }

    /// Whether a block is one of the race.
    fn races(block: &BTreeMap<u32, Role>) -> bool {
        block.iter().any(|(_, role)| *role == Role::Race)
    }

    /// Where a candidate is screened: in the last block, if that has a seat left, else behind a new sentinel.
    pub(crate) fn screen(&self, baseline: &str, id: &str) -> Place {
        let place = |id: &str, block, seat| Place { id: id.to_owned(), block, seat, role: Role::Screen };
        match self.filled.last_key_value() {
            Some((&block, taken)) if !Self::races(taken) && taken.len() <= SCREENED as usize && id != baseline => {
                let seat = taken.last_key_value().map_or(SENTINEL_SEAT, |(&seat, _)| seat + 1);
                place(id, block, seat)
            }
            Some((&block, _)) => place(baseline, block + 1, SENTINEL_SEAT),
            None => place(baseline, 0, SENTINEL_SEAT),
        }
    }

    /// The next seat of the race and the number of seats in its block; `None` when nothing is open any more.
    pub(crate) fn race(&self, view: &View, device: &str, rules: Rules) -> Result<Option<(Place, usize)>, Failure> {
        let Some(baseline) = view.baseline() else { return Ok(None) };
        let last = self.filled.last_key_value().map_or(0, |(&block, _)| block);
        let begun = self.filled.get(&last).is_some_and(Self::races);
        // A block that was begun is finished first; a new one after screening begins a pair of blocks.
        let next = if begun { last + 1 } else { (last + 1).next_multiple_of(2) };
        for block in begun.then_some(last).into_iter().chain([next]) {
            let open = view.race(device, rules, block)?;
            if open.is_empty() {
                continue;
            }
            let ids: Vec<&str> = open.iter().map(String::as_str).collect();
            let taken = self.filled.get(&block);
            let seats = seats(view.settings.seed, block, &baseline.id, &ids);
            if let Some(free) = seats.iter().find(|s| !taken.is_some_and(|taken| taken.contains_key(&s.seat))) {
                let place = Place { id: free.id.to_owned(), block, seat: free.seat, role: Role::Race };
                return Ok(Some((place, seats.len())));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Screens candidates one after the other; what sat where.
    fn screened(n: usize) -> (Agenda, Vec<(String, u32, u32)>) {
        let (mut agenda, mut order) = (Agenda::default(), Vec::new());
        for id in std::iter::once("base".to_owned()).chain((1..n).map(|i| format!("c{i}"))) {
            loop {
                let place = agenda.screen("base", &id);
                assert_eq!(place.role, Role::Screen);
                agenda.fill(place.block, place.seat, place.role);
                order.push((place.id.clone(), place.block, place.seat));
                if place.id == id {
                    break;
                }
            }
        }
        (agenda, order)
    }

    #[test]
    fn the_baseline_comes_first_and_again_before_every_fifth_candidate() {
        let (_, order) = screened(12);
        let base: Vec<(u32, u32)> = order.iter().filter(|(id, ..)| id == "base").map(|(_, b, s)| (*b, *s)).collect();
        assert_eq!(base, [(0, 0), (1, 0), (2, 0)]);
        let of = |id: &str| order.iter().find(|(i, ..)| i == id).map(|(_, b, s)| (*b, *s)).unwrap();
        assert_eq!([of("c1"), of("c5"), of("c6"), of("c11")], [(0, 1), (0, 5), (1, 1), (2, 1)]);
        assert_eq!(order.len(), 14);
    }

    #[test]
    fn screening_after_a_race_begins_a_new_block() {
        let (mut agenda, _) = screened(3);
        agenda.fill(2, 0, Role::Race);
        let place = agenda.screen("base", "c9");
        assert_eq!((place.id.as_str(), place.block, place.seat), ("base", 3, 0));
    }
}
