//! A candidate laid out over the full network's layers, and the moves that samplers make on it.
//!
//! Every function here returns configurations of the space it was given.

use crate::{
    candidate::Candidate,
    space::{Dimension, Space, SpaceKind},
};
use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

/// Sizes of one kept layer; neurons, where they follow the width, are those at full width, so that moves need not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) groups: u32,
    pub(super) mlp: u32,
}

/// `layers[i]` is the full network's layer i, or `None` if it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Genome {
    pub(super) width: u32,
    /// As candidates have it: `None` for whole heads.
    pub(super) head_size: Option<u32>,
    pub(super) layers: Vec<Option<Layer>>,
}

/// One move in this many changes the width, where it is searched: without fine-tuning that costs quality at every layer at once.
const WIDTH_MOVES: u32 = 16;

/// One move in this many changes the size of heads, where it is searched: it, too, is one for all layers.
const HEAD_MOVES: u32 = 8;
/// One draw in this many may have smaller heads.
const HEAD_DRAWS: u32 = 2;

/// How often a move is followed by another.
const MORE_MOVES: f64 = 0.4;

#[derive(Clone, Copy)]
enum Part {
    Mlp,
    Groups,
    Layers,
    Width,
    HeadSize,
}

impl Genome {
    pub(super) fn of(candidate: &Candidate, space: &Space) -> Self {
        let mut layers = vec![None; space.layers() as usize];
        for ((&layer, &groups), &mlp) in candidate.layers.iter().zip(&candidate.kv_groups).zip(&candidate.mlp) {
            if let Some(slot) = layers.get_mut(layer as usize) {
                *slot = Some(Layer { groups, mlp: space.mlp_at_full_width(mlp, candidate.width) });
            }
        }
        Self { width: candidate.width, head_size: candidate.head_size, layers }
    }

    /// The candidate; in a uniform space with the first kept layer's sizes for all.
    pub(super) fn candidate(&self, space: &Space) -> Candidate {
        let kept: Vec<(u32, Layer)> = self.kept().collect();
        if space.kind() == SpaceKind::Uniform {
            let first = kept.first().map_or(Layer { groups: space.kv_groups().largest(), mlp: space.mlp().largest() }, |k| k.1);
            let even = space.even(kept.len() as u32, self.width, first.groups, first.mlp);
            return Candidate { head_size: self.head_size, ..even };
        }
        Candidate {
            layers: kept.iter().map(|k| k.0).collect(),
            width: self.width,
            kv_groups: kept.iter().map(|k| k.1.groups).collect(),
            mlp: kept.iter().map(|k| space.mlp_at(k.1.mlp, self.width)).collect(),
            head_size: self.head_size,
            order: None,
        }
    }

    fn kept(&self) -> impl Iterator<Item = (u32, Layer)> + '_ {
        self.layers.iter().enumerate().filter_map(|(i, l)| l.map(|l| (i as u32, l)))
    }

    fn count(&self) -> u32 {
        self.kept().count() as u32
    }

    /// One move, or now and then several: what single steps cannot reach without passing through worse.
    pub(super) fn mutate(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        self.change_one(space, rng);
        while rng.random_bool(MORE_MOVES) {
            self.change_one(space, rng);
        }
    }

    /// Changes one dimension, by a little or a lot.
    fn change_one(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        let mut parts = Vec::new();
        if !space.mlp().is_fixed() {
            parts.extend([Part::Mlp; 8]);
        }
        if space.min_layers() < space.layers() {
            parts.extend([Part::Layers; 4]);
        }
        if !space.kv_groups().is_fixed() {
            parts.extend([Part::Groups; 3]);
        }
        if !space.width().is_fixed() && (parts.is_empty() || rng.random_ratio(1, WIDTH_MOVES)) {
            parts = vec![Part::Width];
        }
        if space.head_sizes().is_some() && (parts.is_empty() || rng.random_ratio(1, HEAD_MOVES)) {
            parts = vec![Part::HeadSize];
        }
        match parts.choose(rng) {
            Some(Part::Mlp) => self.resize(space, rng, space.mlp(), |layer| &mut layer.mlp),
            Some(Part::Groups) => self.resize(space, rng, space.kv_groups(), |layer| &mut layer.groups),
            Some(Part::Layers) => self.change_layers(space, rng),
            Some(Part::Width) => self.width = stride(self.width, space.width(), rng),
            Some(Part::HeadSize) => self.change_heads(space, rng),
            None => {}
        }
    }

    /// Another size of heads: there are few, and any will do.
    fn change_heads(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        let Some(sizes) = space.head_sizes() else { return };
        let (now, other) = (sizes.index(self.head_size), rng.random_range(0..sizes.count() - 1));
        self.head_size = sizes.at(if other >= now { other + 1 } else { other });
    }

    /// Resizes one layer, a run of neighbours or all, or moves size from one layer to another.
    fn resize(&mut self, space: &Space, rng: &mut ChaCha8Rng, range: Dimension, part: fn(&mut Layer) -> &mut u32) {
        let mut kept: Vec<&mut Layer> = self.layers.iter_mut().flatten().collect();
        let n = kept.len();
        if space.kind() == SpaceKind::Uniform {
            let Some(first) = kept.first_mut() else { return };
            let value = stride(*part(first), range, rng);
            for layer in kept {
                *part(layer) = value;
            }
            return;
        }
        let chosen = choose_layers(n, rng);
        // One stride for all of them, so that they keep their profile.
        let before = range.index(*part(kept[chosen[0]]));
        let delta = i64::from(range.index(stride(range.at(before), range, rng))) - i64::from(before);
        let mut shift = |layer: usize, by: i64| {
            let size = part(kept[layer]);
            let moved = (i64::from(range.index(*size)) + by).clamp(0, i64::from(range.count() - 1));
            *size = range.at(moved as u32);
        };
        for &layer in &chosen {
            shift(layer, delta);
        }
        if chosen.len() < n && rng.random_bool(0.4) {
            // As many others pay for it: the size stays about the same.
            let mut others: Vec<usize> = (0..n).filter(|layer| !chosen.contains(layer)).collect();
            others.shuffle(rng);
            for layer in others.into_iter().take(chosen.len()) {
                shift(layer, -delta);
            }
        }
    }

    fn change_layers(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        let times = if rng.random_bool(0.75) { 1 } else { rng.random_range(2..=3) };
        match rng.random_range(0..3) {
            0 => (0..times).for_each(|_| self.add(space, rng)),
            1 => (0..times).for_each(|_| self.drop(space, rng)),
            _ => {
                // A swap: the depth stays, another layer pays for it.
                self.add(space, rng);
                self.drop(space, rng);
            }
        }
    }

    /// Drops a layer: mostly one of the least important by the prior, sometimes any; always the least where layers are ranked.
    fn drop(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        if self.count() <= space.min_layers() {
            return;
        }
        let by_prior: Vec<u32> = space.layer_order().iter().copied().filter(|&l| self.layers[l as usize].is_some()).collect();
        self.layers[by_rank_or_prior(&by_prior, space, rng) as usize] = None;
    }

    /// Brings a layer back: mostly one of the most important by the prior, always the most where layers are ranked.
    pub(super) fn add(&mut self, space: &Space, rng: &mut ChaCha8Rng) {
        let by_prior: Vec<u32> =
            space.layer_order().iter().rev().copied().filter(|&l| self.layers[l as usize].is_none()).collect();
        if by_prior.is_empty() {
            return;
        }
        self.bring_back(by_rank_or_prior(&by_prior, space, rng), space);
    }

    /// Brings a layer back with the sizes of the nearest kept one.
    fn bring_back(&mut self, layer: u32, space: &Space) {
        let nearest = self.kept().min_by_key(|(l, _)| l.abs_diff(layer)).map(|(_, sizes)| sizes);
        let full = Layer { groups: space.kv_groups().largest(), mlp: space.mlp().largest() };
        self.layers[layer as usize] = Some(nearest.unwrap_or(full));
    }

    /// As many layers as there are, but the most important ones.
    fn rank(&mut self, space: &Space) {
        let kept = space.most_important(self.count());
        for &layer in &kept {
            if self.layers[layer as usize].is_none() {
                self.bring_back(layer, space);
            }
        }
        for (layer, slot) in (0..).zip(&mut self.layers) {
            if kept.binary_search(&layer).is_err() {
                *slot = None;
            }
        }
    }

    /// A child that takes each layer, the width and the size of heads from one parent or the other.
    pub(super) fn cross(&self, other: &Self, space: &Space, rng: &mut ChaCha8Rng) -> Self {
        let one_point = rng.random_bool(0.5);
        let cut = rng.random_range(0..=self.layers.len());
        let pick = |i: usize, rng: &mut ChaCha8Rng| if one_point { i < cut } else { rng.random_bool(0.5) };
        let mut child = self.clone();
        for (i, slot) in child.layers.iter_mut().enumerate() {
            if !pick(i, rng) {
                *slot = other.layers[i];
            }
        }
        if rng.random_bool(0.5) {
            child.width = other.width;
        }
        if space.head_sizes().is_some() && rng.random_bool(0.5) {
            child.head_size = other.head_size;
        }
        while child.count() < space.min_layers() {
            child.add(space, rng);
        }
        if space.kind() == SpaceKind::Ranked {
            child.rank(space);
        }
        if space.kind() == SpaceKind::Uniform {
            // Sizes are shared, so each comes from one parent as a whole.
            let (mine, theirs) = (self.kept().next(), other.kept().next());
            if let (Some((_, a)), Some((_, b))) = (mine, theirs) {
                let groups = if rng.random_bool(0.5) { a.groups } else { b.groups };
                let mlp = if rng.random_bool(0.5) { a.mlp } else { b.mlp };
                child.layers.iter_mut().flatten().for_each(|l| *l = Layer { groups, mlp });
            }
        }
        child
    }
}

/// Some of `n` layers: one, a few, half or all; neighbours as often as any.
fn choose_layers(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let most = match rng.random_range(0..4) {
        0 => n.div_ceil(8),
        1 | 2 => n.div_ceil(2),
        _ => return (0..n).collect(),
    };
    let length = rng.random_range(1..=most);
    if rng.random_bool(0.5) {
        let start = rng.random_range(0..=n - length);
        return (start..start + length).collect();
    }
    let mut all: Vec<usize> = (0..n).collect();
    all.shuffle(rng);
    all.truncate(length);
    all
}

/// One of layers that begin with the likeliest: the first where layers are ranked, else by the prior.
fn by_rank_or_prior(layers: &[u32], space: &Space, rng: &mut ChaCha8Rng) -> u32 {
    layers[if space.kind() == SpaceKind::Ranked { 0 } else { prior_index(layers.len(), rng) }]
}

/// An index into a list that begins with the likeliest: three times in four the best of a few, else any.
fn prior_index(length: usize, rng: &mut ChaCha8Rng) -> usize {
    if rng.random_bool(0.75) { rng.random_range(0..length.min(3)) } else { rng.random_range(0..length) }
}

/// Another size: two times in three up to two steps away, else up to a third of the range.
fn stride(value: u32, range: Dimension, rng: &mut ChaCha8Rng) -> u32 {
    let last = range.count() - 1;
    let reach = if rng.random_ratio(2, 3) { 2 } else { (last / 3).max(1) };
    let by = rng.random_range(1..=reach.min(last.max(1)));
    let at = range.index(value);
    let down = at >= by && (at + by > last || rng.random_bool(0.5));
    range.at(if down { at - by } else { (at + by).min(last) })
}

/// A random configuration around `level` (0 smallest, 1 full).
pub(super) fn draw(space: &Space, level: f64, rng: &mut ChaCha8Rng) -> Candidate {
    let around = |rng: &mut ChaCha8Rng| (level + rng.random_range(-0.3..0.3)).clamp(0.0, 1.0);
    let width = if rng.random_ratio(1, WIDTH_MOVES / 4) { space.width().at_level(around(rng)) } else { space.width().largest() };
    let (groups, mlp) = (around(rng), around(rng));
    let spare = f64::from(space.layers() - space.min_layers());
    let keep = space.min_layers() + (around(rng) * spare).round() as u32;
    let head_size = match space.head_sizes() {
        Some(sizes) if rng.random_ratio(1, HEAD_DRAWS) => sizes.at_level(around(rng)),
        _ => None,
    };
    if space.kind() == SpaceKind::Uniform {
        let even = space.even(keep, width, space.kv_groups().at_level(groups), space.mlp().at_level(mlp));
        return Candidate { head_size, ..even };
    }
    let mut genome = Genome::of(&space.full(), space);
    (genome.width, genome.head_size) = (width, head_size);
    while genome.count() > keep {
        genome.drop(space, rng);
    }
    let spread = rng.random_range(0.0..0.4);
    for layer in genome.layers.iter_mut().flatten() {
        let mut jitter = || if spread > 0.0 { rng.random_range(-spread..=spread) } else { 0.0 };
        *layer = Layer { groups: space.kv_groups().at_level(groups + jitter()), mlp: space.mlp().at_level(mlp + jitter()) };
    }
    genome.candidate(space)
}

/// Visits configurations one by one until `visit` breaks.
pub(super) fn enumerate(space: &Space, visit: &mut dyn FnMut(Candidate) -> ControlFlow<()>) -> ControlFlow<()> {
    let widths = space.width();
    let heads = space.head_sizes().map_or(vec![None], |sizes| (0..sizes.count()).map(|index| sizes.at(index)).collect());
    for (w, &head_size) in (0..widths.count()).flat_map(|w| heads.iter().map(move |head| (w, head))) {
        let mut genome = Genome { width: widths.at(w), head_size, layers: vec![None; space.layers() as usize] };
        // Where neurons follow a narrow width, several sizes at full width may be one.
        let mut mlp: Vec<u32> = (0..space.mlp().count()).map(|m| space.mlp().at(m)).collect();
        mlp.dedup_by_key(|m| space.mlp_at(*m, genome.width));
        let depths = space.min_layers()..=space.layers();
        match space.kind() {
            SpaceKind::Uniform => {
                for (keep, g) in depths.flat_map(|k| (0..space.kv_groups().count()).map(move |g| (k, g))) {
                    for &m in &mlp {
                        let even = space.even(keep, genome.width, space.kv_groups().at(g), m);
                        visit(Candidate { head_size, ..even })?;
                    }
                }
            }
            SpaceKind::Ranked => {
                for keep in depths {
                    enumerate_layers(space, &mut genome, 0, &mlp, Some(&space.most_important(keep)), visit)?;
                }
            }
            SpaceKind::PerLayer => enumerate_layers(space, &mut genome, 0, &mlp, None, visit)?,
        }
    }
    ControlFlow::Continue(())
}

/// Visits the sizes of the layers from number `at` on, with these numbers of neurons: of the layers that are `kept`, or of any
/// where that is left open.
fn enumerate_layers(
    space: &Space,
    genome: &mut Genome,
    at: usize,
    mlp: &[u32],
    kept: Option<&[u32]>,
    visit: &mut dyn FnMut(Candidate) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let left = genome.layers.len() - at;
    if (genome.count() as usize + left) < space.min_layers() as usize {
        return ControlFlow::Continue(());
    }
    if left == 0 {
        return visit(genome.candidate(space));
    }
    let is_kept = kept.map(|kept| kept.binary_search(&(at as u32)).is_ok());
    if is_kept != Some(false) {
        for (g, &m) in (0..space.kv_groups().count()).flat_map(|g| mlp.iter().map(move |m| (g, m))) {
            genome.layers[at] = Some(Layer { groups: space.kv_groups().at(g), mlp: m });
            enumerate_layers(space, genome, at + 1, mlp, kept, visit)?;
        }
    }
    genome.layers[at] = None;
    if is_kept == Some(true) { ControlFlow::Continue(()) } else { enumerate_layers(space, genome, at + 1, mlp, kept, visit) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::tests::spaces;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use std::collections::HashSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn candidates_lead_back_and_moves_stay_inside(space in spaces(), seed in any::<u64>()) {
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let drawn = [0.1, 0.5, 0.9].map(|level| draw(&space, level, rng));
            let mut genomes: Vec<Genome> = drawn.iter().map(|c| Genome::of(c, &space)).collect();
            for (candidate, genome) in drawn.iter().zip(&genomes) {
                prop_assert!(space.contains(candidate), "{:?}", candidate);
                prop_assert_eq!(&genome.candidate(&space), candidate);
            }
            for _ in 0..20 {
                let mut child = genomes[rng.random_range(0..3)].cross(&genomes[rng.random_range(0..3)], &space, rng);
                child.mutate(&space, rng);
                let candidate = child.candidate(&space);
                prop_assert!(space.contains(&candidate), "{:?}", candidate);
                genomes[rng.random_range(0..3)] = child;
            }
        }

        #[test]
        fn what_is_enumerated_is_inside_and_holds_what_is_drawn(space in spaces(), seed in any::<u64>()) {
            let mut all = HashSet::new();
            let whole = enumerate(&space, &mut |candidate| {
                assert!(all.insert(candidate), "it comes once");
                if all.len() < 2000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            prop_assert!(all.iter().all(|candidate| space.contains(candidate)));
            if whole.is_continue() {
                let drawn = draw(&space, 0.5, &mut ChaCha8Rng::seed_from_u64(seed));
                prop_assert!(all.contains(&drawn), "{:?}", drawn);
            }
        }
    }
}
