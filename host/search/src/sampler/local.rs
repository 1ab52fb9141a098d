//! The default: a diagonal of sizes first, then mutations of the front.

use super::{
    api::{DIAGONAL_LOCAL, ParameterCount, Sampler, SamplerError},
    genome::Genome,
    random::Random,
};
use crate::{candidate::Candidate, history::History, pareto::crowding_distances, space::Space};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Ten steps along a diagonal from lightly to heavily cut networks, then mutations of front members, mostly of one dimension.
///
/// With few evaluations this finds more hypervolume than random search or NSGA-II, and differs least between seeds.
pub struct DiagonalLocal {
    random: Random,
}

/// Share of all parameters that the first and the last step of the diagonal remove. Past the last, a network that is not
/// fine-tuned is of no use; before the first, it is hardly faster than the baseline.
const REMOVED: (f64, f64) = (0.08, 0.55);
/// Steps of the diagonal in the order they are proposed: whatever the budget, what was measured spreads over the whole diagonal,
/// with the lighter cuts, which keep most quality, early.
const STEPS: [u32; 10] = [2, 5, 0, 7, 4, 9, 1, 6, 3, 8];
const TRIES: usize = 200;

impl DiagonalLocal {
    /// A sampler of `space`.
    pub fn new(space: Space, parameters: ParameterCount) -> Self {
        Self { random: Random::new(space, parameters) }
    }

    /// The network at `cut` (0 full, 1 smallest) of the diagonal at full width. Neurons go first, layers and groups late: whole
    /// layers cost the most quality at small cuts, and share the load at large ones.
    fn at(&self, cut: f64) -> Candidate {
        let space = self.random.space();
        let late = 1.0 - cut.powi(3);
        let spare = f64::from(space.layers() - space.min_layers());
        let keep = space.min_layers() + (late * spare).round() as u32;
        space.even(keep, space.width().largest(), space.kv_groups().at_level(late), space.mlp().at_level(1.0 - cut))
    }

    /// Step `step` of the diagonal: the cut whose size is nearest to its share of parameters.
    fn step(&self, step: u32) -> Candidate {
        let full = self.random.parameters(&self.at(0.0)) as f64;
        let removable = 1.0 - self.random.parameters(&self.at(1.0)) as f64 / full.max(1.0);
        let last = REMOVED.1.min(removable);
        let first = REMOVED.0.min(last * (REMOVED.0 / REMOVED.1));
        let removed = first + (last - first) * f64::from(step) / (STEPS.len() - 1) as f64;
        let target = full * (1.0 - removed);
        // A fine scan instead of a bisection: rounding to steps makes the size a staircase, and any closure may count parameters.
        let distance = |c: &Candidate| (self.random.parameters(c) as f64 - target).abs();
        let cuts = (0..=200).map(|i| self.at(f64::from(i) / 200.0));
        cuts.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_else(|| self.at(0.0))
    }

    /// A mutation of the front, or a random candidate where there is none.
    pub(super) fn refine(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        match self.mutation(history, rng)? {
            Some(candidate) => Ok(Some(candidate)),
            None => Ok(self.random.fresh(history, rng)),
        }
    }

    fn mutation(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        let space = self.random.space();
        let all: Vec<usize> = (0..history.len()).collect();
        let fronts = history.fronts(&all)?;
        let Some(front) = fronts.first() else { return Ok(None) };
        let seen = history.proposed();
        let values: Vec<&[f64]> = front.iter().filter_map(|&i| history.values(i)).collect();
        let lonely = crowding_distances(&values)?;
        let places: Vec<usize> = (0..front.len()).collect();
        for _ in 0..TRIES {
            // The lonelier of two random members: a front grows dense where mutations succeed, and all would crowd there.
            let (Some(&a), Some(&b)) = (places.choose(rng), places.choose(rng)) else { break };
            let parent = front[if lonely[a] >= lonely[b] { a } else { b }];
            let mut genome = Genome::of(&history.proposals()[parent].candidate, space);
            genome.mutate(space, rng);
            let candidate = genome.candidate(space);
            if !seen.contains(&candidate) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}

impl Sampler for DiagonalLocal {
    fn name(&self) -> &'static str {
        DIAGONAL_LOCAL
    }

    fn ask(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        // The first proposal of a study is the baseline, so proposal n is step n - 1. A step that was proposed already (in a
        // coarse space several steps are one network) leaves its turn to a mutation.
        if let Some(&step) = history.len().checked_sub(1).and_then(|n| STEPS.get(n)) {
            let candidate = self.step(step);
            if !history.proposed().contains(&candidate) {
                return Ok(Some(candidate));
            }
        }
        self.refine(history, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hypervolume,
        sampler::api::{
            NSGA2, RANDOM,
            tests::{parameters, run, values},
        },
        space::Shape,
    };

    fn space() -> Space {
        let shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };
        Space::preset("default", shape, 32, (0..30).rev().collect()).unwrap()
    }

    #[test]
    fn the_diagonal_spreads_over_what_is_removed_at_full_width() {
        let history = run(DIAGONAL_LOCAL, &space(), 0, 11);
        let full = parameters()(&space().full()) as f64;
        let removed: Vec<f64> =
            history.proposals().iter().skip(1).map(|t| 1.0 - parameters()(&t.candidate) as f64 / full).collect();
        assert!(history.proposals().iter().all(|t| t.candidate.width == 576));
        // The first five, all that a budget of six allows, already reach from light to heavy.
        let first = &removed[..5];
        assert!(first.iter().any(|r| *r < 0.12) && first.iter().any(|r| *r > 0.4), "{first:?}");
        let mut sorted = removed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted[0] > 0.05 && sorted[9] < 0.58 && sorted.windows(2).all(|w| w[1] - w[0] > 0.02), "{sorted:?}");
    }

    #[test]
    fn most_mutations_change_one_dimension_of_a_front_member() {
        let space = space();
        let history = run(DIAGONAL_LOCAL, &space, 1, 60);
        let mut near = 0;
        for n in 11..history.len() {
            let before: Vec<usize> = (0..n).collect();
            let front = &history.fronts(&before).unwrap()[0];
            let child = &history.proposals()[n].candidate;
            let changed = |parent: &Candidate| {
                u32::from(parent.width != child.width)
                    + u32::from(parent.layers != child.layers)
                    + u32::from(parent.layers == child.layers && parent.kv_groups != child.kv_groups)
                    + u32::from(parent.layers == child.layers && parent.mlp != child.mlp)
            };
            near += usize::from(front.iter().any(|&p| changed(&history.proposals()[p].candidate) == 1));
        }
        assert!(near * 2 > history.len() - 11, "{near} of {}", history.len() - 11);
    }

    #[test]
    fn beats_random_search_at_a_small_budget() {
        let space = space();
        let baseline = values(&space.full(), &space);
        let reference = [baseline[0] * 8.0, baseline[1] * 1.1];
        let score = |name, seed| {
            let history = run(name, &space, seed, 50);
            let points: Vec<&[f64]> = (0..history.len()).filter_map(|i| history.values(i)).collect();
            hypervolume(&points, &reference).unwrap()
        };
        let mean = |name| (0..8).map(|seed| score(name, seed)).sum::<f64>() / 8.0;
        let (local, random, nsga2) = (mean(DIAGONAL_LOCAL), mean(RANDOM), mean(NSGA2));
        assert!(local > random * 1.01 && nsga2 > random * 0.97, "local {local}, random {random}, nsga2 {nsga2}");
    }
}
