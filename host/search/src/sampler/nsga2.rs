//! NSGA-II, one proposal at a time.

use super::{
    api::{NSGA2, ParameterCount, Sampler, SamplerError},
    genome::Genome,
    random::Random,
};
use crate::{candidate::Candidate, history::History, pareto::crowding_distances, space::Space};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

/// Non-dominated sorting, crowding, binary tournaments, crossover and mutation.
///
/// The proposals of a history are its generations, twenty each; the population is rebuilt from the history at every
/// proposal, so nothing but the history need be stored. The first generation is random.
pub struct Nsga2 {
    random: Random,
}

/// Members of a generation.
const POPULATION: usize = 20;
const CROSSOVER: f64 = 0.9;
const MUTATION: f64 = 0.8;
const TRIES: usize = 100;

/// A member of the population with what tournaments compare.
#[derive(Debug, Clone, Copy)]
struct Member {
    index: usize,
    rank: usize,
    crowding: f64,
}

impl Member {
    /// Lower rank first, then the lonelier.
    fn compare(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then(other.crowding.total_cmp(&self.crowding)).then(self.index.cmp(&other.index))
    }
}

impl Nsga2 {
    /// A sampler of `space`.
    pub fn new(space: Space, parameters: ParameterCount) -> Self {
        Self { random: Random::new(space, parameters) }
    }

    /// The best [`POPULATION`] of these trials.
    fn select(history: &History, from: &[usize]) -> Result<Vec<Member>, SamplerError> {
        let mut out = Vec::new();
        for (rank, front) in history.fronts(from)?.into_iter().enumerate() {
            let values: Vec<&[f64]> = front.iter().filter_map(|&i| history.values(i)).collect();
            let crowding = crowding_distances(&values)?;
            let mut members: Vec<Member> =
                front.iter().zip(crowding).map(|(&index, crowding)| Member { index, rank, crowding }).collect();
            members.sort_by(Member::compare);
            members.truncate(POPULATION - out.len());
            out.extend(members);
            if out.len() == POPULATION {
                break;
            }
        }
        Ok(out)
    }

    /// The parents of the generation that the next proposal belongs to.
    fn parents(history: &History) -> Result<Vec<Member>, SamplerError> {
        let mut parents = Vec::new();
        for generation in 0..history.len() / POPULATION {
            let mut pool: Vec<usize> = parents.iter().map(|m: &Member| m.index).collect();
            pool.extend(generation * POPULATION..(generation + 1) * POPULATION);
            parents = Self::select(history, &pool)?;
        }
        Ok(parents)
    }

    fn tournament(parents: &[Member], rng: &mut ChaCha8Rng) -> Option<Member> {
        let (a, b) = (*parents.choose(rng)?, *parents.choose(rng)?);
        Some(if a.compare(&b).is_le() { a } else { b })
    }
}

impl Sampler for Nsga2 {
    fn name(&self) -> &'static str {
        NSGA2
    }

    fn ask(&self, history: &History, rng: &mut ChaCha8Rng) -> Result<Option<Candidate>, SamplerError> {
        let space = self.random.space();
        let parents = Self::parents(history)?;
        let seen = history.proposed();
        for _ in 0..TRIES {
            let (Some(a), Some(b)) = (Self::tournament(&parents, rng), Self::tournament(&parents, rng)) else { break };
            let [a, b] = [a, b].map(|m| Genome::of(&history.proposals()[m.index].candidate, space));
            let mut child = if rng.random_bool(CROSSOVER) { a.cross(&b, space, rng) } else { a.clone() };
            if child == a || child == b || rng.random_bool(MUTATION) {
                child.mutate(space, rng);
            }
            let candidate = child.candidate(space);
            if !seen.contains(&candidate) {
                return Ok(Some(candidate));
            }
        }
        Ok(self.random.fresh(history, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;

    fn history(values: &[[f64; 2]]) -> History {
        let mut h = History::new();
        for (i, v) in values.iter().enumerate() {
            let candidate =
                Candidate { layers: vec![i as u32], width: 1, kv_groups: vec![1], mlp: vec![1], head_size: None, order: None };
            h.push(candidate, Outcome::Measured { values: v.to_vec(), violation: 0.0 });
        }
        h
    }

    #[test]
    fn selection_takes_fronts_in_order_and_the_loneliest_of_the_last() {
        // 19 points on a good front, then a worse front of three of which one may join: an end, not the middle.
        let mut values: Vec<[f64; 2]> = (0..19).map(|i| [f64::from(i), f64::from(18 - i)]).collect();
        values.extend([[40.0, 50.0], [45.0, 45.0], [50.0, 40.0]]);
        let h = history(&values);
        let picked: Vec<usize> = Nsga2::select(&h, &(0..22).collect::<Vec<_>>()).unwrap().iter().map(|m| m.index).collect();
        assert_eq!(picked.len(), POPULATION);
        assert!((0..19).all(|i| picked.contains(&i)) && picked.contains(&19) && !picked.contains(&20), "{picked:?}");
    }

    #[test]
    fn a_generation_has_the_parents_of_its_start() {
        let values: Vec<[f64; 2]> = (0..50).map(|i| [f64::from(100 - i), f64::from(i % 20)]).collect();
        let at = |n: usize| Nsga2::parents(&history(&values[..n])).unwrap().iter().map(|m| m.index).collect::<Vec<_>>();
        assert!(at(19).is_empty());
        assert_eq!(at(20), at(39));
        assert_ne!(at(39), at(40));
    }
}
