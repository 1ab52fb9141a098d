//! Seeded draws spread over sizes, for who trains sub-networks rather than searching them.

use super::{api::ParameterCount, random::nearest};
use crate::{candidate::Candidate, space::Space};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Draws of which the one nearest to the wanted size is taken.
const DRAWS: usize = 24;
/// The same where a single configuration is asked for: enough that one comes near in size.
const SINGLE_DRAWS: usize = 256;
/// Draws for each configuration that a bin shall have, before it stays emptier.
const TRIES: usize = 40;

/// Draws of a space by number of parameters: independent draws of every layer would all have nearly the same.
pub struct Strata {
    space: Space,
    parameters: ParameterCount,
    low: f64,
    high: f64,
}

impl Strata {
    /// Draws of `space`.
    pub fn new(space: Space, parameters: ParameterCount) -> Self {
        let (low, high) = (parameters(&space.smallest()) as f64, parameters(&space.full()) as f64);
        Self { space, parameters, low, high }
    }

    /// `count` configurations, the `number`-th such group of this seed: one for each of `count` equal parts of the range of
    /// sizes, from the smallest; nearest to a size drawn evenly from that part.
    pub fn draw(&self, seed: u64, number: u64, count: usize) -> Vec<Candidate> {
        let mut rng = stream("group", seed, number);
        (0..count)
            .map(|part| {
                let share = (part as f64 + rng.random_range(0.0..1.0)) / count as f64;
                self.near(share, DRAWS, &mut rng)
            })
            .collect()
    }

    /// The configuration of many random ones whose size is nearest to `share` of the way from the smallest to the full one.
    pub fn at(&self, share: f64, seed: u64) -> Candidate {
        self.near(share, SINGLE_DRAWS, &mut stream("share", seed, share.to_bits()))
    }

    /// For each of `bins` equal parts of the range of sizes, from the smallest, up to `each` different configurations in it;
    /// fewer, or none, where the space has hardly any.
    pub fn bins(&self, seed: u64, bins: usize, each: usize) -> Vec<Vec<Candidate>> {
        (0..bins)
            .map(|bin| {
                let mut rng = stream("bin", seed, bin as u64);
                let mut found: Vec<Candidate> = Vec::new();
                for _ in 0..each * TRIES {
                    if found.len() == each {
                        break;
                    }
                    let share = (bin as f64 + rng.random_range(0.0..1.0)) / bins as f64;
                    let candidate = self.near(share, DRAWS, &mut rng);
                    if self.bin(&candidate, bins) == bin && !found.contains(&candidate) {
                        found.push(candidate);
                    }
                }
                found
            })
            .collect()
    }

    /// The bin that a configuration lies in.
    fn bin(&self, candidate: &Candidate, bins: usize) -> usize {
        let range = (self.high - self.low).max(1.0);
        let share = ((self.parameters)(candidate) as f64 - self.low) / range;
        ((share * bins as f64) as usize).min(bins - 1)
    }

    fn near(&self, share: f64, draws: usize, rng: &mut ChaCha8Rng) -> Candidate {
        nearest(&self.space, &self.parameters, self.low + share * (self.high - self.low), draws, rng)
    }
}

fn stream(what: &str, seed: u64, number: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new_with_prefix(b"edgewise strata ");
    hash.update(what);
    hash.update(seed.to_le_bytes());
    hash.update(number.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sampler::api::tests::parameters,
        space::{Shape, tests::spaces},
    };
    use proptest::prelude::*;

    fn strata() -> Strata {
        let shape = Shape { layers: 24, width: 512, kv_groups: 4, mlp: 1536 };
        Strata::new(Space::preset("default", shape, 32, (0..24).collect()).unwrap(), parameters())
    }

    #[test]
    fn a_group_has_one_of_each_size() {
        let strata = strata();
        let mut outside = 0;
        for number in 0..50 {
            let group = strata.draw(3, number, 4);
            assert_eq!(group, strata.draw(3, number, 4), "the same seed and number");
            outside += group.iter().enumerate().filter(|(part, c)| strata.bin(c, 4) != *part).count();
        }
        assert!(outside <= 20, "{outside} of 200 are not of the size that was asked for");
        assert_ne!(strata.draw(3, 0, 4), strata.draw(4, 0, 4));
        assert_ne!(strata.draw(3, 0, 4), strata.draw(3, 1, 4));
    }

    #[test]
    fn bins_hold_what_belongs_there() {
        let strata = strata();
        let bins = strata.bins(1, 6, 5);
        for (number, bin) in bins.iter().enumerate() {
            assert_eq!(bin.len(), 5, "bin {number}");
            assert!(bin.iter().all(|c| strata.bin(c, 6) == number && strata.space.contains(c)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn draws_are_inside_any_space(space in spaces(), seed in any::<u64>()) {
            let strata = Strata::new(space.clone(), parameters());
            let drawn = strata.draw(seed, 0, 3).into_iter().chain([strata.at(0.5, seed)]);
            for candidate in drawn.chain(strata.bins(seed, 3, 2).into_iter().flatten()) {
                prop_assert!(space.contains(&candidate), "{:?}", candidate);
            }
        }
    }
}
