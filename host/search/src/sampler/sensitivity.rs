//! What cutting each part of a network costs, learnt from looks at networks that were cut.
//!
//! Contract: the loss that a cut adds is taken as a sum over layers: of a dropped layer its own cost, of a kept one those of its
//! missing neurons and of its missing groups, which grow with the square of the share that is missing, since the least
//! important go first. A sum is right for light cuts only. For a heavy one the costs are fitted again, to looks of about its
//! size, so that what cuts do to each other is part of them. Such models guide non-uniform pruning well (Frantar and Alistarh,
//! arXiv 2201.13096; Kurtic et al., arXiv 2302.04089); here they guide a search that checks what they say.

use super::api::ParameterCount;
use crate::{
    candidate::Candidate,
    space::{Dimension, Space},
};

/// Kinds of parts: a layer's neurons, its groups, and the layer as a whole.
pub(super) const KINDS: usize = 3;
/// Costs of the first fit may lie this far from the mean cost, as a share of it: parts differ a lot.
const WIDE: f64 = 3.0;
/// Those fitted to a size lie about this far from those of light cuts, once all are scaled alike.
const NARROW: f64 = 0.5;
/// No part costs less than this share of the mean, whatever luck on a text says.
const LEAST: f64 = 0.02;
/// How far a sum is from the truth: a share of the loss, and some nats that matter to nobody.
const ERROR: (f64, f64) = (0.25, 0.004);
/// Looks whose removed share differs by this much from the wanted one count for `1/e`.
const REACH: f64 = 0.12;
/// Halvings of a price until a size is met.
const HALVINGS: usize = 48;

/// A network that was looked at.
pub(super) struct Look {
    /// What is missing, for each part of each layer.
    missing: Vec<f64>,
    /// Share of the full network's parameters that are missing.
    removed: f64,
    /// Nats per token more than the full network loses.
    loss: f64,
}

/// The parts of a space's full network.
pub(super) struct Parts<'a> {
    space: &'a Space,
    /// Parameters of the full network, of a neuron, of a group, and of a layer.
    full: f64,
    neuron: f64,
    group: f64,
    layer: f64,
}

impl<'a> Parts<'a> {
    /// What `parameters` says of the parts of a network whose layers are alike.
    pub(super) fn new(space: &'a Space, parameters: &ParameterCount) -> Self {
        let whole = space.full();
        let count = |change: &dyn Fn(&mut Candidate)| {
            let mut candidate = whole.clone();
            change(&mut candidate);
            parameters(&candidate) as f64
        };
        let full = count(&|_| {});
        // All but one of a layer are taken away, since a layer without any is none.
        let each = |size: u32, rest: f64| if size > 1 { (full - rest) / f64::from(size - 1) } else { 0.0 };
        Self {
            space,
            full,
            neuron: each(space.mlp().largest(), count(&|c| c.mlp[0] = 1)),
            group: each(space.kv_groups().largest(), count(&|c| c.kv_groups[0] = 1)),
            layer: if space.layers() > 1 { full - count(&|c| c.drop_layers(0..1)) } else { 0.0 },
        }
    }

    /// A look at a candidate whose loss is `loss` nats per token above the full network's.
    pub(super) fn look(&self, candidate: &Candidate, parameters: &ParameterCount, loss: f64) -> Look {
        Look { missing: self.missing(candidate), removed: 1.0 - parameters(candidate) as f64 / self.full, loss: loss.max(0.0) }
    }

    fn missing(&self, candidate: &Candidate) -> Vec<f64> {
        let mut out = vec![0.0; KINDS * self.space.layers() as usize];
        out.iter_mut().skip(KINDS - 1).step_by(KINDS).for_each(|dropped| *dropped = 1.0);
        for ((&layer, &groups), &mlp) in candidate.layers.iter().zip(&candidate.kv_groups).zip(&candidate.mlp) {
            let at = KINDS * layer as usize;
            out[at..at + KINDS].copy_from_slice(&[square(mlp, self.space.mlp()), square(groups, self.space.kv_groups()), 0.0]);
        }
        out
    }

    /// The costs of all parts for networks of which about this share is removed; nothing where no look says anything.
    pub(super) fn costs(&self, looks: &[Look], removed: f64) -> Option<Vec<f64>> {
        let sum = |look: &Look| look.missing.iter().sum::<f64>();
        let mut means: Vec<f64> = looks.iter().filter(|l| sum(l) > 0.0).map(|l| l.loss / sum(l)).collect();
        means.sort_by(f64::total_cmp);
        let mean = *means.get(means.len() / 2).filter(|mean| **mean > 0.0)?;
        let prior = vec![mean; KINDS * self.space.layers() as usize];
        let error = |look: &Look| ERROR.0 * look.loss + ERROR.1;
        let mut light = fit(&prior, WIDE, looks, error);
        for cost in &mut light {
            *cost = cost.max(LEAST * mean);
        }

        let near = |look: &Look| (-((look.removed - removed) / REACH).powi(2)).exp();
        let weight = |look: &Look| near(look) / error(look).powi(2);
        let (mut told, mut all) = (0.0, 0.0);
        for look in looks {
            let foretold = dot(&light, &look.missing);
            told += weight(look) * look.loss * foretold;
            all += weight(look) * foretold * foretold;
        }
        let scale = if told > 0.0 && all > 0.0 { told / all } else { 1.0 };
        let prior: Vec<f64> = light.iter().map(|cost| scale * cost).collect();
        let mut out = fit(&prior, NARROW, looks, |look| error(look) / near(look).sqrt().max(1e-6));
        out.iter_mut().zip(&prior).for_each(|(cost, prior)| *cost = cost.max(0.1 * prior));
        Some(out)
    }

    /// The network at full width that costs least of those of which about this share is removed. It is one that no other of
    /// its size beats by these costs, up to the size of a layer.
    pub(super) fn cheapest(&self, costs: &[f64], removed: f64) -> Candidate {
        let target = (removed * self.full).max(0.0);
        let (mut low, mut high) = (0.0, 1.0);
        while high < 1e300 && self.at(costs, high / self.full).1 < target {
            high *= 4.0;
        }
        for _ in 0..HALVINGS {
            let price = f64::midpoint(low, high);
            if self.at(costs, price / self.full).1 < target { low = price } else { high = price }
        }
        let (below, above) = (self.at(costs, low / self.full), self.at(costs, high / self.full));
        if (target - below.1).abs() < (above.1 - target).abs() { below.0 } else { above.0 }
    }

    /// The best network where a parameter less is worth `price` nats, and how many parameters less it has.
    fn at(&self, costs: &[f64], price: f64) -> (Candidate, f64) {
        let space = self.space;
        let mut out = space.full();
        let mut saved = 0.0;
        // What a layer gains by being dropped rather than cut.
        let mut gains = Vec::new();
        for (layer, cost) in costs.chunks_exact(KINDS).enumerate() {
            let (mlp, neurons) = best(space.mlp(), cost[0], price * self.neuron);
            let (groups, attention) = best(space.kv_groups(), cost[1], price * self.group);
            (out.mlp[layer], out.kv_groups[layer]) = (mlp, groups);
            gains.push((price * self.layer - cost[2] - neurons - attention, layer));
        }
        gains.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let most = (space.layers() - space.min_layers()) as usize;
        let mut dropped: Vec<usize> = gains.iter().take(most).filter(|g| g.0 > 0.0).map(|g| g.1).collect();
        dropped.sort_unstable();
        for &layer in dropped.iter().rev() {
            out.drop_layers(layer..layer + 1);
            saved += self.layer;
        }
        let less = |size: u32, range: Dimension| f64::from(range.largest() - size);
        saved += out.mlp.iter().map(|&m| self.neuron * less(m, space.mlp())).sum::<f64>();
        saved += out.kv_groups.iter().map(|&g| self.group * less(g, space.kv_groups())).sum::<f64>();
        (out, saved)
    }
}

/// The size that is worth most where one less is worth `price`, and its worth above the largest.
fn best(range: Dimension, cost: f64, price: f64) -> (u32, f64) {
    let worth = |size: u32| price * f64::from(range.largest() - size) - cost * square(size, range);
    let sizes = (0..range.count()).rev().map(|index| range.at(index)).map(|size| (size, worth(size)));
    sizes.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap_or((range.largest(), 0.0))
}

/// The square of the share that is missing.
fn square(size: u32, range: Dimension) -> f64 {
    (1.0 - f64::from(size) / f64::from(range.largest())).max(0.0).powi(2)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The likeliest costs, if before all looks they were about `prior`, give or take `spread` of it, and a look's sum of costs is
/// its loss, give or take its `error`: linear regression, one look after the other.
fn fit(prior: &[f64], spread: f64, looks: &[Look], error: impl Fn(&Look) -> f64) -> Vec<f64> {
    let n = prior.len();
    let mut costs = prior.to_vec();
    let mut covariance = vec![0.0; n * n];
    for (i, prior) in prior.iter().enumerate() {
        covariance[i * n + i] = (spread * prior).powi(2);
    }
    for look in looks {
        let along: Vec<f64> = covariance.chunks_exact(n).map(|row| dot(row, &look.missing)).collect();
        let variance = dot(&along, &look.missing) + error(look).powi(2);
        if variance <= 0.0 {
            continue;
        }
        let surprise = (look.loss - dot(&costs, &look.missing)) / variance;
        for (i, row) in covariance.chunks_exact_mut(n).enumerate() {
            costs[i] += along[i] * surprise;
            let share = along[i] / variance;
            row.iter_mut().zip(&along).for_each(|(cell, along)| *cell -= share * along);
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sampler::api::tests::parameters,
        space::{Shape, tests::spaces},
    };
    use proptest::prelude::*;

    /// Costs that a made-up network has in truth, by its number of layers.
    fn truth(layers: u32) -> Vec<f64> {
        (0..layers).flat_map(|l| [0.2 + f64::from(l * 7 % 5), 0.3 + f64::from(l * 3 % 4), 1.0 + f64::from(l * 5 % 7)]).collect()
    }

    #[test]
    fn costs_are_found_from_looks_at_one_part_each() {
        let shape = Shape { layers: 8, width: 256, kv_groups: 4, mlp: 768 };
        let space = Space::preset("default", shape, 32, (0..8).collect()).unwrap();
        let (count, truth) = (parameters(), truth(8));
        let parts = Parts::new(&space, &count);
        let mut looks = Vec::new();
        for layer in 0..8 {
            let mut cut = [space.full(), space.full(), space.full()];
            cut[0].mlp[layer] = 384;
            cut[1].kv_groups[layer] = 2;
            cut[2].drop_layers(layer..layer + 1);
            looks.extend(cut.map(|c| parts.look(&c, &count, dot(&parts.missing(&c), &truth))));
        }
        for (found, truth) in parts.costs(&looks, 0.1).unwrap().iter().zip(&truth) {
            assert!((found / truth - 1.0).abs() < 0.15, "{found} for {truth}");
        }
        assert_eq!(parts.costs(&[], 0.1), None);
    }

    #[test]
    fn the_cheapest_network_is_cheaper_than_even_cuts_of_its_size() {
        let shape = Shape { layers: 12, width: 256, kv_groups: 4, mlp: 768 };
        let space = Space::preset("default", shape, 32, (0..12).collect()).unwrap();
        let (count, truth) = (parameters(), truth(12));
        let parts = Parts::new(&space, &count);
        for removed in [0.1, 0.22, 0.4] {
            let found = parts.cheapest(&truth, removed);
            let share = 1.0 - count(&found) as f64 / count(&space.full()) as f64;
            assert!((share - removed).abs() < 0.05, "{share} for {removed}");
            let even = (0..space.mlp().count()).map(|index| {
                let mut even = space.full();
                even.mlp.fill(space.mlp().at(index));
                even
            });
            let nearest = even.min_by_key(|c| count(c).abs_diff(count(&found))).unwrap();
            let cost = |c: &Candidate| dot(&parts.missing(c), &truth);
            assert!(cost(&found) < 0.7 * cost(&nearest), "{} against {}", cost(&found), cost(&nearest));
        }
    }

    proptest! {
        #[test]
        fn what_is_cheapest_lies_in_the_space(space in spaces(), removed in 0.0f64..1.0, seed in any::<u32>()) {
            // Layers of a uniform space are cut alike; these costs are of each.
            prop_assume!(space.kind() == crate::SpaceKind::PerLayer);
            let costs: Vec<f64> = truth(space.layers()).iter().map(|c| c * f64::from(1 + seed % 9)).collect();
            let found = Parts::new(&space, &parameters()).cheapest(&costs, removed);
            prop_assert!(space.contains(&found), "{:?}", found);
        }
    }
}
