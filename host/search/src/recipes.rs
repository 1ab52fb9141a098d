//! Fixed pruning recipes: what users would do without a search, and what a search has to beat.
//!
//! Each recipe is a *ladder*, the same sizes for all of them: candidates that keep about so many of the full network's
//! parameters, so that recipes and search can be compared at equal latency.

use crate::{
    candidate::Candidate,
    sampler::{ParameterCount, Strata},
    space::{Dimension, Space},
};

/// The series of the search's own candidates.
pub const SEARCH: &str = "search";
/// The series of candidates of which only quality was looked at, on the host.
pub const EXPLORE: &str = "explore";
/// Before a recipe's name in the name of its series.
pub const SERIES_PREFIX: &str = "baseline:";
/// Shares of the full network's parameters that the rungs keep.
pub const LADDER: [f64; 7] = [0.9, 0.82, 0.76, 0.7, 0.64, 0.58, 0.52];

/// The recipes for a space.
pub struct Recipes<'a> {
    space: &'a Space,
    parameters: ParameterCount,
}

impl<'a> Recipes<'a> {
    /// The recipes for the network that `space` cuts; `parameters` counts those of a candidate.
    pub fn new(space: &'a Space, parameters: ParameterCount) -> Self {
        Self { space, parameters }
    }

    /// Whole layers, the least important first, and nothing else (ShortGPT, arXiv 2403.03853).
    pub fn depth(&self) -> Vec<Candidate> {
        let order = self.space.layer_order();
        let keep = |count: usize| {
            let mut layers = order[order.len() - count..].to_vec();
            layers.sort_unstable();
            let full = self.space.full();
            let sizes = |list: &[u32]| list[..count].to_vec();
            Candidate { kv_groups: sizes(&full.kv_groups), mlp: sizes(&full.mlp), layers, ..full }
        };
        self.ladder(&(1..order.len()).map(keep).collect::<Vec<_>>())
    }

    /// The same number of neurons in every layer, in multiples of `step`, and nothing else: those that come first in `order`
    /// (Minitron, arXiv 2407.14679; FLAP, arXiv 2312.11983; magnitude pruning).
    pub fn width(&self, step: u32, order: Option<&str>) -> Vec<Candidate> {
        let full = self.space.full();
        let Ok(sizes) = Dimension::new(1, self.space.mlp().largest(), step) else { return Vec::new() };
        let cut =
            |index| Candidate { mlp: vec![sizes.at(index); full.layers.len()], order: order.map(str::to_owned), ..full.clone() };
        self.ladder(&(0..sizes.count() - 1).map(cut).collect::<Vec<_>>())
    }

    /// Random sub-networks of the space, by luck alone: the rung's size, and nothing else, is looked at.
    pub fn random(&self, seed: u64) -> Vec<Candidate> {
        let strata = Strata::new(self.space.clone(), self.parameters.clone());
        let smallest = (self.parameters)(&self.space.smallest()) as f64;
        let place = |rung: f64| (rung * self.full() - smallest) / (self.full() - smallest).max(1.0);
        self.ladder(&LADDER.map(|rung| strata.at(place(rung), seed)))
    }

    fn full(&self) -> f64 {
        (self.parameters)(&self.space.full()) as f64
    }

    /// For every rung the nearest candidate by size, each once, the largest first; rungs that none comes near are left out.
    fn ladder(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let full = self.full();
        let share = |c: &Candidate| (self.parameters)(c) as f64 / full;
        let mut out: Vec<Candidate> = Vec::new();
        for rung in LADDER {
            let distance = |c: &Candidate| (share(c) - rung).abs();
            let nearest = candidates.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            // Half of the way to the next rung.
            if let Some(found) = nearest.filter(|c| distance(c) <= 0.03 && !out.contains(c)) {
                out.push(found.clone());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Shape;
    use std::sync::Arc;

    /// The shape of SmolLM2-135M.
    fn space() -> Space {
        let shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };
        Space::preset("default", shape, 32, (0..30).rev().collect()).unwrap()
    }

    fn count() -> ParameterCount {
        Arc::new(|c: &Candidate| {
            let layers = c.kv_groups.iter().zip(&c.mlp);
            49_152 * u64::from(c.width) + layers.map(|(g, m)| u64::from(c.width * (g * 8 * 64 + 3 * m))).sum::<u64>()
        })
    }

    #[test]
    fn rungs_have_the_sizes_they_are_named_for() {
        let (space, count) = (space(), count());
        let full = count(&space.full()) as f64;
        let recipes = Recipes::new(&space, count.clone());
        for ladder in [recipes.depth(), recipes.width(32, Some("magnitude")), recipes.random(1)] {
            assert_eq!(ladder.len(), LADDER.len());
            for (candidate, rung) in ladder.iter().zip(LADDER) {
                let share = count(candidate) as f64 / full;
                assert!((share - rung).abs() <= 0.03, "{share} for {rung}: {candidate:?}");
                candidate.check().unwrap();
            }
        }
    }

    #[test]
    fn depth_drops_the_least_important_and_width_cuts_alike() {
        let (space, recipes) = (space(), Recipes::new(&space(), count()).depth());
        // Layers 29 and so on are the least important of this order; four of them are a tenth of the network.
        assert_eq!(recipes[0].layers, (0..26).collect::<Vec<u32>>());
        assert!(recipes.iter().all(|c| c.mlp.iter().all(|&m| m == 1536) && c.order.is_none()));
        let width = Recipes::new(&space, count()).width(32, Some("magnitude"));
        assert!(width.iter().all(|c| c.layers.len() == 30 && c.mlp.iter().all(|&m| m == c.mlp[0] && m % 32 == 0)));
        assert!(width.iter().all(|c| c.order.as_deref() == Some("magnitude")));
    }

    #[test]
    fn a_seed_gives_the_same_random_sub_networks() {
        let (space, count) = (space(), count());
        let recipes = Recipes::new(&space, count);
        assert_eq!(recipes.random(7), recipes.random(7));
        assert_ne!(recipes.random(7), recipes.random(8));
        assert!(recipes.random(7).iter().all(|c| space.contains(c)));
    }

    #[test]
    fn a_network_too_small_to_cut_has_no_rungs() {
        let shape = Shape { layers: 1, width: 8, kv_groups: 1, mlp: 8 };
        let space = Space::preset("default", shape, 8, vec![0]).unwrap();
        let recipes = Recipes::new(&space, count());
        assert!(recipes.depth().is_empty() && recipes.width(8, None).is_empty());
    }
}
