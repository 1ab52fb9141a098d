//! The choice of a token from its logits.

use crate::random::SplitMix;
use edgewise_protocol::Sampling;

/// The entry with the largest logit; the first of several. In two passes, of which the compiler makes vector code.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let largest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit >= largest).unwrap_or(0)
}

/// Draws tokens: temperature, then the most likely ones by number and by probability (top-k, nucleus sampling: Holtzman et al.,
/// "The Curious Case of Neural Text Degeneration", arXiv 1904.09751).
#[derive(Debug)]
pub(crate) struct Sampler {
    how: Sampling,
    random: SplitMix,
    /// Entries and their weights, kept for their memory.
    ranked: Vec<(u32, f32)>,
}

impl Sampler {
    pub(crate) fn new(how: Sampling) -> Self {
        Self { how, random: SplitMix::new(how.seed), ranked: Vec::new() }
    }

    /// The next token; `None` if no logit is a number.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        if self.how.temperature == 0.0 {
            let best = argmax(logits);
            return logits.get(best).filter(|logit| logit.is_finite()).map(|_| best as u32);
        }
        let ranked = &mut self.ranked;
        ranked.clear();
        ranked.extend(logits.iter().enumerate().filter(|(_, logit)| logit.is_finite()).map(|(at, &logit)| (at as u32, logit)));
        let falling = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let keep = self.how.top_k as usize;
        if (1..ranked.len()).contains(&keep) {
            ranked.select_nth_unstable_by(keep - 1, falling);
            ranked.truncate(keep);
        }
        ranked.sort_unstable_by(falling);
        let &(first, largest) = ranked.first()?;
        for (_, weight) in ranked.iter_mut() {
            *weight = ((*weight - largest) / self.how.temperature).exp();
        }
        let all: f32 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut nucleus = 0.0;
        let enough = ranked.iter().position(|(_, weight)| {
            nucleus += weight;
            nucleus >= self.how.top_p * all
        });
        ranked.truncate(enough.map_or(ranked.len(), |last| last + 1));
        let mut left = self.random.unit() * ranked.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>();
        for (token, weight) in ranked.iter() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Sums of roundings may leave a rest.
        Some(ranked.last().map_or(first, |(token, _)| *token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greedy() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 1 }
    }

    fn counts(how: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(how);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.choose(logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn without_temperature_the_likeliest_is_taken() {
        assert_eq!(counts(greedy(), &[0.5, 3.0, 3.0, -1.0], 10), [0, 10, 0, 0]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [1.0_f32.ln(), 2.0_f32.ln(), f32::NEG_INFINITY, 5.0_f32.ln(), f32::NAN];
        let got = counts(Sampling { temperature: 1.0, ..greedy() }, &logits, 80_000);
        for (count, expected) in got.iter().zip([10_000.0, 20_000.0, 0.0, 50_000.0, 0.0]) {
            assert!((*count as f64 - expected).abs() <= 600.0, "{got:?}");
        }
        // At half the temperature the odds are squared: 1 : 4 : 25.
        let cold = counts(Sampling { temperature: 0.5, ..greedy() }, &logits, 30_000);
        assert!((cold[3] as f64 - 25_000.0).abs() <= 400.0 && cold[1] > cold[0], "{cold:?}");
    }

    #[test]
    fn unlikely_tokens_can_be_left_out() {
        let logits = [1.0_f32.ln(), 2.0_f32.ln(), 7.0_f32.ln()];
        let warm = Sampling { temperature: 1.0, ..greedy() };
        assert_eq!(counts(Sampling { top_k: 1, ..warm }, &logits, 100), [0, 0, 100]);
        assert_eq!(counts(Sampling { top_p: 0.6, ..warm }, &logits, 100), [0, 0, 100]);
        let two = counts(Sampling { top_p: 0.8, ..warm }, &logits, 1000);
        assert!(two[0] == 0 && two[1] > 150 && two[2] > 700, "{two:?}");
        assert_eq!(counts(Sampling { top_k: 2, ..warm }, &logits, 1000)[0], 0);
    }

    #[test]
    fn a_seed_repeats_its_draws() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..greedy() });
            (0..20).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn logits_that_are_no_numbers_choose_nothing() {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(Sampling { temperature, ..greedy() });
            assert_eq!(sampler.choose(&[f32::NAN; 40]), None);
            assert_eq!(sampler.choose(&[]), None);
        }
    }

    #[test]
    fn argmax_of_nan_is_harmless() {
        assert_eq!(argmax(&[f32::NAN; 40]), 0);
        assert_eq!(argmax(&[]), 0);
    }

    proptest! {
        #[test]
        fn argmax_is_the_first_largest(logits in prop::collection::vec(-5_i8..5, 1..100)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(Some(argmax(&logits)), logits.iter().position(|&l| l >= largest));
        }

        #[test]
        fn whatever_the_logits_a_choice_is_one_of_them(
            logits in prop::collection::vec(any::<f32>(), 0..100),
            temperature in 0.0_f32..3.0, top_k in 0_u32..120, top_p in 0.0_f32..=1.0, seed in any::<u64>(),
        ) {
            let mut sampler = Sampler::new(Sampling { temperature, top_k, top_p, seed });
            match sampler.choose(&logits) {
                Some(token) => prop_assert!(logits[token as usize].is_finite()),
                None => prop_assert!(!logits.iter().any(|l| l.is_finite()) || temperature == 0.0),
            }
        }
    }
}
