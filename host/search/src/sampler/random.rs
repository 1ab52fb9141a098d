//! Random search, stratified over size: the baseline that every other sampler must beat.

use super::{
    api::{ParameterCount, RANDOM, Sampler, SamplerError},
    genome::{draw, enumerate},
};
use crate::{candidate::Candidate, history::History, space::Space};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{collections::HashSet, ops::ControlFlow};

/// Draws whose sizes spread evenly between the smallest and the full network.
///
/// Independent draws of every layer all have nearly the same size (a sum of many), so each proposal aims at its own size: a
/// low-discrepancy sequence over the range, and of a handful of draws the nearest.
pub struct Random {
    space: Space,
    parameters: ParameterCount,
}

/// Fractional part of the golden ratio: its multiples modulo 1 spread evenly for every number of proposals.
pub(super) const GOLDEN: f64 = 0.618_033_988_749_894_9;
const DRAWS: usize = 24;
const TRIES: usize = 1000;
/// Configurations looked at before giving up on finding one that was not proposed yet. Far more than any study proposes.
const ENUMERATE: usize = 100_000;

/// Of `draws` random configurations the one whose parameters are nearest to `target`.
pub(super) fn nearest(space: &Space, parameters: &ParameterCount, target: f64, draws: usize, rng: &mut ChaCha8Rng) -> Candidate {
    let draws = (0..draws).map(|_| {
        let level = rng.random_range(0.0..=1.0);
        draw(space, level, rng)
    });
    let distance = |c: &Candidate| (parameters(c) as f64 - target).abs();
    draws.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_else(|| space.full())
}

impl Random {
    /// A sampler of `space`.
    pub fn new(space: Space, parameters: ParameterCount) -> Self {
        Self { space, parameters }
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn parameters(&self, candidate: &Candidate) -> u64 {
        (self.parameters)(candidate)
    }

    pub(super) fn fresh(&self, history: &History, rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let seen = history.proposed();
        let low = self.parameters(&self.space.smallest()) as f64;
        let high = self.parameters(&self.space.full()) as f64;
        let target = low + (history.len() as f64 * GOLDEN).fract() * (high - low);
        let draws = (0..DRAWS).map(|_| {
            let level = rng.random_range(0.0..=1.0);
            draw(&self.space, level, rng)
        });
        let mut draws: Vec<(f64, Candidate)> =
            draws.filter(|c| !seen.contains(c)).map(|c| ((self.parameters(&c) as f64 - target).abs(), c)).collect();
        draws.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        if let Some((_, nearest)) = draws.into_iter().next() {
            return Some(nearest);
        }
        for _ in 0..TRIES {
            let level = rng.random_range(0.0..=1.0);
            let candidate = draw(&self.space, level, rng);
            if !seen.contains(&candidate) {
                return Some(candidate);
            }
        }
        self.leftover(&seen, rng)
    }

    /// The last resort in spaces that are nearly used up: one of those that are left, if any.
    fn leftover(&self, seen: &HashSet<&Candidate>, rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let mut left = Vec::new();
        let mut looked = 0;
        let _ = enumerate(&self.space, &mut |candidate| {
            looked += 1;
            if !seen.contains(&candidate) {
                left.push(candidate);
            }
            // Past the limit the first that is new will do.
            if looked >= ENUMERATE && !left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        left.choose(rng).cloned()
    }
}

impl Sampler for Random {
    fn name(&self) -> &'static str {
        RANDOM
    }

    fn ask(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        Ok(self.fresh(history, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sampler::api::tests::{parameters, run},
        space::Shape,
    };

    #[test]
    fn sizes_are_spread_over_the_whole_range() {
        let shape = Shape { layers: 24, width: 512, kv_groups: 4, mlp: 1536 };
        let space = Space::preset("default", shape, 32, (0..24).collect()).unwrap();
        let (low, high) = (parameters()(&space.smallest()) as f64, parameters()(&space.full()) as f64);
        let mut bins = [0; 8];
        for proposal in run(RANDOM, &space, 5, 65).proposals().iter().skip(1) {
            let share = (parameters()(&proposal.candidate) as f64 - low) / (high - low);
            bins[((share * 8.0) as usize).min(7)] += 1;
        }
        assert!(bins.iter().all(|&n| n >= 4), "{bins:?}");
    }
}
