//! Random numbers by counter, and the dropout made of them.
//!
//! A mask is never stored: it is a function of a seed and of an element's position, so that the backward pass draws the same
//! one again, and so that a resumed run continues with the very masks of the run that stopped.

use super::rows::{Elements, shaped};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Elements that one 64-bit number decides about, with 16 bits each.
const EACH: usize = 4;
/// Elements of a task; a multiple of [`EACH`].
const PART: usize = 1 << 14;

/// A number that looks random, for every seed and counter: Steele, Lea and Flood's `SplitMix64`, OOPSLA 2014.
pub fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `count` numbers from -1 to 1, evenly spread, the same on every machine.
pub(crate) fn uniform(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| ((mix(seed, i) >> 40) as f32 / (1u32 << 23) as f32) - 1.0).collect()
}

/// Which elements are dropped, and how likely that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of the elements that become zero; the others are scaled so that the expectation stays. Below 1.
    pub probability: f32,
    /// Names the mask.
    pub seed: u64,
}

impl Dropout {
    /// `x` with its mask applied; contiguous `f32` in the processor's memory.
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        let mut out = Elements::of(&x)?.to_vec();
        self.mask(&mut out);
        shaped(out, &x)
    }

    /// Applies the mask in place.
    pub(super) fn mask(self, values: &mut [f32]) {
        let limit = (self.probability * 65536.0) as u64;
        let keep = 1.0 / (1.0 - self.probability);
        values.par_chunks_mut(PART).enumerate().for_each(|(part, values)| {
            let first = (part * PART / EACH) as u64;
            for (number, values) in values.chunks_mut(EACH).enumerate() {
                let bits = mix(self.seed, first + number as u64);
                for (i, value) in values.iter_mut().enumerate() {
                    let kept = (bits >> (16 * i)) & 0xffff >= limit;
                    *value = if kept { *value * keep } else { 0.0 };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let mut values = vec![1f32; 100_003];
        Dropout { probability: 0.25, seed: 7 }.mask(&mut values);
        let dropped = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let again = |seed| {
            let mut values = vec![1f32; 1000];
            Dropout { probability: 0.25, seed }.mask(&mut values);
            values
        };
        assert_eq!(again(7), values[..1000]);
        assert_ne!(again(8), values[..1000]);
        let mut untouched = vec![1.5f32; 100];
        Dropout { probability: 0.0, seed: 1 }.mask(&mut untouched);
        assert!(untouched.iter().all(|v| (*v - 1.5).abs() < 1e-6));
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let values = uniform(3, 10_000);
        let mean = values.iter().sum::<f32>() / 10_000.0;
        let (low, high) = values.iter().fold((1f32, -1f32), |(l, h), &v| (l.min(v), h.max(v)));
        assert!(mean.abs() < 0.02 && (-1.0..-0.99).contains(&low) && (0.99..1.0).contains(&high), "{mean} {low} {high}");
    }
}
