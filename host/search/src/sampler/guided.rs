//! For looks that are cheap: probes of every part first, then what they say is best at many sizes, and mutations of the front.

use super::{
    api::{ParameterCount, Sampler, SamplerError},
    local::DiagonalLocal,
    random::GOLDEN,
    sensitivity::{KINDS, Look, Parts},
};
use crate::{
    candidate::Candidate,
    history::History,
    space::{Dimension, Space, SpaceKind},
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Shares of the full network's parameters between which a network is cut: see [`DiagonalLocal`].
const REMOVED: (f64, f64) = (0.06, 0.56);
/// At most this share of all looks are probes.
const PROBES: f64 = 0.5;
/// Parts of so many neighbouring layers, as a share of all, are probed at once at most: what is lost with them is shared among
/// them alike.
const RUN: u32 = 8;
/// Every so many proposals one is a mutation of the front: what a sum over layers does not know.
const MUTATION: usize = 4;
/// By how much costs are changed at random, the logarithm: nothing at first, then more from try to try.
const DOUBT: f64 = 0.15;
const TRIES: u32 = 24;

/// A search whose values are quality (a perplexity) and size, and whose looks are many: a hundred and more.
///
/// Probes cut one part of one layer each. A model (`sensitivity`) of what parts cost then proposes for a size the network
/// that should lose least, learns from what it lost, and proposes again. With few looks, and in spaces whose layers are all
/// alike, this is [`DiagonalLocal`].
pub struct Guided {
    local: DiagonalLocal,
    space: Space,
    parameters: ParameterCount,
    probes: Vec<Candidate>,
}

impl Guided {
    /// A sampler of `space` that will be asked for about `looks` proposals.
    pub fn new(space: Space, parameters: ParameterCount, looks: usize) -> Self {
        let probes = probes(&space, (PROBES * looks as f64) as usize);
        Self { local: DiagonalLocal::new(space.clone(), parameters.clone()), space, parameters, probes }
    }

    /// What the model says, for a size that changes from proposal to proposal.
    fn modelled(&self, history: &History, rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let parts = Parts::new(&self.space, &self.parameters);
        let looks = self.looks(history, &parts);
        let full = (self.parameters)(&self.space.full()) as f64;
        let smallest = Candidate { width: self.space.width().largest(), head_size: None, ..self.space.smallest() };
        let smallest = (self.parameters)(&smallest) as f64;
        let most = REMOVED.1.min(1.0 - smallest / full);
        let least = REMOVED.0.min(most);
        let removed = least + (history.len() as f64 * GOLDEN).fract() * (most - least);
        let costs = parts.costs(&looks, removed)?;
        let seen = history.proposed();
        for doubt in 0..TRIES {
            let spread = DOUBT * f64::from(doubt);
            let mut doubted = |cost: &f64| if doubt == 0 { *cost } else { cost * rng.random_range(-spread..spread).exp() };
            let doubted: Vec<f64> = costs.iter().map(&mut doubted).collect();
            let candidate = parts.cheapest(&doubted, removed);
            if !seen.contains(&candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// What the model learns from: networks at full width with whole heads, against the full one.
    fn looks(&self, history: &History, parts: &Parts<'_>) -> Vec<Look> {
        let full = self.space.full();
        let perplexity = |index: usize| history.values(index).and_then(|values| values.first().copied());
        let Some(before) = history.proposals().iter().position(|p| p.candidate == full).and_then(perplexity) else {
            return Vec::new();
        };
        let whole = |c: &Candidate| (c.width, c.head_size) == (full.width, full.head_size);
        let known = history.proposals().iter().enumerate().filter(|(_, p)| whole(&p.candidate));
        let losses = known.filter_map(|(index, p)| Some((&p.candidate, (perplexity(index)? / before).ln())));
        losses.filter(|(c, loss)| **c != full && loss.is_finite()).map(|(c, l)| parts.look(c, &self.parameters, l)).collect()
    }
}

/// Candidates that each lack one kind of part in one run of layers, the shortest runs that `most` probes allow; none if those
/// are too long to tell layers apart.
fn probes(space: &Space, most: usize) -> Vec<Candidate> {
    if space.kind() != SpaceKind::PerLayer {
        return Vec::new();
    }
    let full = space.full();
    let half = |range: Dimension| range.at(range.index(range.largest().div_ceil(2)));
    let (mlp, groups) = (half(space.mlp()), half(space.kv_groups()));
    let kinds: [bool; KINDS] =
        [mlp < space.mlp().largest(), space.min_layers() < space.layers(), groups < space.kv_groups().largest()];
    let searched = kinds.iter().filter(|searched| **searched).count();
    let runs = most / searched.max(1);
    let length = if runs == 0 { return Vec::new() } else { space.layers().div_ceil(runs as u32) };
    if length > 1.max(space.layers() / RUN) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (kind, _) in kinds.iter().enumerate().filter(|(_, searched)| **searched) {
        for first in (0..space.layers()).step_by(length as usize) {
            let run = first as usize..(first + length).min(space.layers()) as usize;
            let mut probe = full.clone();
            match kind {
                0 => probe.mlp[run].fill(mlp),
                1 => {
                    if space.layers() - (run.len() as u32) < space.min_layers() {
                        continue;
                    }
                    probe.drop_layers(run);
                }
                _ => probe.kv_groups[run].fill(groups),
            }
            out.push(probe);
        }
    }
    out
}

impl Sampler for Guided {
    fn name(&self) -> &'static str {
        "guided"
    }

    fn ask(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        if self.probes.is_empty() {
            return self.local.ask(history, rng);
        }
        let seen = history.proposed();
        if let Some(probe) = self.probes.iter().find(|probe| !seen.contains(probe)) {
            return Ok(Some(probe.clone()));
        }
        let mutates = history.len().is_multiple_of(MUTATION);
        if !mutates && let Some(candidate) = self.modelled(history, rng) {
            return Ok(Some(candidate));
        }
        self.local.refine(history, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Outcome,
        sampler::api::{
            propose,
            tests::{parameters, values},
        },
        space::{Shape, tests::spaces},
    };
    use proptest::prelude::*;

    fn space() -> Space {
        let shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };
        Space::preset("per-layer", shape, 32, (0..30).rev().collect()).unwrap()
    }

    /// A search of a made-up network whose parts add to the loss, some more than others.
    fn search(sampler: &dyn Sampler, space: &Space, seed: u64, looks: usize) -> History {
        let mut history = History::new();
        let mut next = Some(space.full());
        while let Some(candidate) = next {
            let [loss, size] = values(&candidate, space)[..] else { unreachable!("two values") };
            let perplexity = 6.0 * ((loss - 5.0) / 30.0).exp();
            history.push(candidate, Outcome::Measured { values: vec![perplexity, size], violation: 0.0 });
            next = if history.len() <= looks { propose(sampler, seed, &history).unwrap() } else { None };
        }
        history
    }

    fn guided(space: &Space, seed: u64, looks: usize) -> History {
        search(&Guided::new(space.clone(), parameters(), looks), space, seed, looks)
    }

    #[test]
    fn probes_come_first_and_what_they_say_beats_mutations() {
        let space = space();
        let full = space.full();
        // Two layers at a time: three kinds of fifteen runs.
        let history = guided(&space, 0, 120);
        let lacks = |c: &Candidate| {
            let sizes = |a: &[u32], b: &[u32]| a.len() == b.len() && a != b;
            [c.layers != full.layers, sizes(&c.mlp, &full.mlp), sizes(&c.kv_groups, &full.kv_groups)]
                .iter()
                .filter(|l| **l)
                .count()
        };
        assert!(history.proposals()[1..=45].iter().all(|p| lacks(&p.candidate) == 1));
        // The best perplexity among networks of at most this share of the parameters.
        let best = |history: &History, share: f64| {
            let most = share * parameters()(&full) as f64;
            let small = (0..history.len()).filter_map(|i| history.values(i)).filter(|v| v[1] <= most);
            small.map(|v| v[0]).fold(f64::INFINITY, f64::min)
        };
        for seed in 0..3 {
            let local = DiagonalLocal::new(space.clone(), parameters());
            let (guided, local) = (guided(&space, seed, 200), search(&local, &space, seed, 200));
            for share in [0.78, 0.6] {
                let (guided, local) = (best(&guided, share), best(&local, share));
                assert!(guided < 0.95 * local, "{guided} against {local} at {share}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn proposals_stay_inside_any_space_and_never_repeat(space in spaces(), seed in any::<u64>(), looks in 1usize..60) {
            let history = guided(&space, seed, looks);
            let mut seen = std::collections::HashSet::new();
            for proposal in history.proposals() {
                prop_assert!(space.contains(&proposal.candidate), "{:?}", proposal.candidate);
                prop_assert!(seen.insert(proposal.candidate.id()), "repeated {:?}", proposal.candidate);
            }
            prop_assert_eq!(guided(&space, seed, looks), history);
        }
    }
}
