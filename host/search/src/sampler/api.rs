//! The trait, the names, and the random numbers of one proposal.

use super::{DiagonalLocal, Nsga2, Random};
use crate::{candidate::Candidate, history::History, pareto::PointError, space::Space};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Name of [`Random`].
pub const RANDOM: &str = "random";
/// Name of [`DiagonalLocal`], the default.
pub const DIAGONAL_LOCAL: &str = "diagonal-local";
/// Name of [`Nsga2`].
pub const NSGA2: &str = "nsga2";
/// Every name that [`sampler`] knows, the default first.
pub const SAMPLERS: [&str; 3] = [DIAGONAL_LOCAL, RANDOM, NSGA2];

/// How many parameters a candidate has: the size that samplers spread their first candidates over.
pub type ParameterCount = Arc<dyn Fn(&Candidate) -> u64 + Send + Sync>;

/// Why a sampler could not propose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// No sampler has this name.
    #[error("unknown sampler `{name}`: known are `diagonal-local`, `random`, `nsga2`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The history's values cannot be compared.
    #[error("values of the history cannot be compared")]
    Values(#[from] PointError),
}

/// Decides what to try next.
pub trait Sampler: Send + Sync {
    /// The name on the command line and in studies.
    fn name(&self) -> &'static str;

    /// The next candidate: inside the space and not in `history`. `None` if the space holds no other.
    ///
    /// The baseline (the full network) is the caller's own first proposal; a history without it is served all the same.
    ///
    /// # Errors
    /// [`SamplerError::Values`] if measured values are not finite or differ in number.
    fn ask(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError>;
}

/// The random numbers of proposal `n`: a fresh stream for every proposal, so that nothing but the seed need be stored.
pub fn proposal_rng(seed: u64, n: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new_with_prefix(b"edgewise proposal");
    hash.update(seed.to_le_bytes());
    hash.update((n as u64).to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// Asks for the proposal that comes after `history`.
///
/// # Errors
/// As [`Sampler::ask`].
pub fn propose(sampler: &dyn Sampler, seed: u64, history: &History) -> Result<Option<Candidate>, SamplerError> {
    sampler.ask(history, &mut proposal_rng(seed, history.len()))
}

/// The sampler with this name.
///
/// # Errors
/// [`SamplerError::Unknown`].
pub fn sampler(name: &str, space: Space, parameters: ParameterCount) -> Result<Box<dyn Sampler>, SamplerError> {
    match name {
        RANDOM => Ok(Box::new(Random::new(space, parameters))),
        DIAGONAL_LOCAL => Ok(Box::new(DiagonalLocal::new(space, parameters))),
        NSGA2 => Ok(Box::new(Nsga2::new(space, parameters))),
        _ => Err(SamplerError::Unknown { name: name.to_owned() }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{history::Outcome, space::tests::spaces};
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Parameters of a llama-like network, without its embedding.
    pub(crate) fn parameters() -> ParameterCount {
        Arc::new(|c| {
            let head = 8 * u64::from(c.head_size.unwrap_or(64));
            let per_layer = c.kv_groups.iter().zip(&c.mlp).map(|(&g, &m)| head * u64::from(g) + 3 * u64::from(m)).sum::<u64>();
            u64::from(c.width) * per_layer
        })
    }

    /// A search over made-up objectives in which size costs time and missing parts cost quality, some more than others.
    pub(crate) fn values(candidate: &Candidate, space: &Space) -> Vec<f64> {
        let kept = |layer: u32| candidate.layers.binary_search(&layer).ok();
        let loss: f64 = (0..space.layers())
            .map(|layer| {
                let weight = 1.0 + f64::from(layer * 7 % 5);
                match kept(layer) {
                    None => 3.0 * weight,
                    Some(i) => {
                        let cut = 1.0 - f64::from(candidate.mlp[i]) / f64::from(space.mlp().largest());
                        let groups = 1.0 - f64::from(candidate.kv_groups[i]) / f64::from(space.kv_groups().largest());
                        weight * (cut * cut + groups * groups)
                    }
                }
            })
            .sum();
        let narrow = f64::from(space.width().largest()) / f64::from(candidate.width);
        let heads = f64::from(64 - candidate.head_size.unwrap_or(64)) / 16.0;
        vec![5.0 + heads + loss * narrow, parameters()(candidate) as f64]
    }

    pub(crate) fn run(name: &str, space: &Space, seed: u64, budget: usize) -> History {
        let sampler = sampler(name, space.clone(), parameters()).unwrap();
        let mut history = History::new();
        let full = space.full();
        let outcome = Outcome::Measured { values: values(&full, space), violation: 0.0 };
        history.push(full, outcome);
        while history.len() < budget {
            let Some(candidate) = propose(&*sampler, seed, &history).unwrap() else { break };
            // Some fail, as they do on boards.
            let outcome = if history.len() % 7 == 5 {
                Outcome::Failed
            } else {
                Outcome::Measured { values: values(&candidate, space), violation: 0.0 }
            };
            history.push(candidate, outcome);
        }
        history
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_sampler_stays_inside_any_space_and_never_repeats_itself(space in spaces(), seed in any::<u64>()) {
            for name in SAMPLERS {
                let history = run(name, &space, seed, 45);
                let mut seen = HashSet::new();
                for proposal in history.proposals() {
                    prop_assert!(space.contains(&proposal.candidate), "{} {:?}", name, proposal.candidate);
                    prop_assert!(seen.insert(proposal.candidate.id()), "{} repeats {:?}", name, proposal.candidate);
                }
            }
        }

        #[test]
        fn a_resumed_history_gets_the_same_proposals(space in spaces(), seed in any::<u64>()) {
            for name in SAMPLERS {
                let whole = run(name, &space, seed, 30);
                prop_assert_eq!(&run(name, &space, seed, 30), &whole);
                // Stop after any number, come back with a new sampler: the next proposal is the one that was made.
                let fresh = sampler(name, space.clone(), parameters()).unwrap();
                let mut prefix = History::new();
                for proposal in whole.proposals() {
                    if !prefix.is_empty() {
                        prop_assert_eq!(propose(&*fresh, seed, &prefix).unwrap(), Some(proposal.candidate.clone()));
                    }
                    prefix.push(proposal.candidate.clone(), proposal.outcome.clone());
                }
            }
        }
    }

    #[test]
    fn a_small_space_is_searched_to_its_end() {
        use crate::space::Dimension;
        let one = Dimension::fixed(8).unwrap();
        let two = Dimension::new(1, 2, 1).unwrap();
        // One layer of three kept with 2 x 1 sizes (3 * 2), two (3 * 4) or all three (8).
        let space = Space::per_layer(1, one, two, one, vec![2, 0, 1]).unwrap();
        for name in SAMPLERS {
            let history = run(name, &space, 3, 1000);
            assert_eq!(history.len(), 3 * 2 + 3 * 4 + 8, "{name}");
        }
        let single = Space::per_layer(1, one, one, one, vec![0]).unwrap();
        // Three sizes of heads for each of these.
        let heads = || crate::space::tests::heads(&[32, 48]);
        for name in SAMPLERS {
            assert_eq!(run(name, &single, 3, 1000).len(), 1, "{name}");
            assert_eq!(run(name, &single.clone().with_head_sizes(heads()), 3, 1000).len(), 3, "{name}");
            assert_eq!(run(name, &space.clone().with_head_sizes(heads()), 3, 1000).len(), 3 * 26, "{name}");
        }
    }

    #[test]
    fn every_sampler_tries_smaller_heads() {
        use crate::space::{Shape, tests::heads};
        let shape = Shape { layers: 12, width: 256, kv_groups: 4, mlp: 768 };
        let space = Space::preset("default", shape, 32, (0..12).collect()).unwrap().with_head_sizes(heads(&[32, 48]));
        for name in SAMPLERS {
            let tried = run(name, &space, 1, 60).proposals().iter().filter(|p| p.candidate.head_size.is_some()).count();
            assert!((4..56).contains(&tried), "{name}: {tried}");
        }
    }

    #[test]
    fn seeds_matter_and_unknown_names_are_answered_with_the_known() {
        use crate::space::Shape;
        let shape = Shape { layers: 12, width: 256, kv_groups: 4, mlp: 768 };
        let space = Space::preset("default", shape, 32, (0..12).collect()).unwrap();
        assert_ne!(run(RANDOM, &space, 1, 10), run(RANDOM, &space, 2, 10));
        let error = sampler("grid", space, parameters()).err().unwrap().to_string();
        assert!(SAMPLERS.iter().all(|name| error.contains(name)), "{error}");
    }
}
