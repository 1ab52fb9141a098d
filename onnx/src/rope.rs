//! Rotary position tables, computed with a portable mathematics library so that every platform gets the same bits.

use crate::{ModelConfig, RopeScaling};
use rayon::prelude::*;
use std::f64::consts::PI;

/// Cosines and sines of every position, each `[positions, head_dim / 2]` in row-major order.
///
/// Frequencies follow "RoFormer" (arXiv 2104.09864); Llama 3's stretching is that of its reference implementation.
pub fn rotary_tables(config: &ModelConfig, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let frequencies = frequencies(config);
    let half = frequencies.len();
    let (mut cosines, mut sines) = (vec![0.0; positions * half], vec![0.0; positions * half]);
    let rows = cosines.par_chunks_mut(half).zip(sines.par_chunks_mut(half));
    rows.enumerate().for_each(|(position, (cosines, sines))| {
        for ((frequency, cosine), sine) in frequencies.iter().zip(cosines).zip(sines) {
            let angle = position as f64 * frequency;
            (*cosine, *sine) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
        }
    });
    (cosines, sines)
}

fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let half = config.head_dim / 2;
    (0..half)
        .map(|i| {
            let frequency = 1.0 / libm::pow(config.rope_theta, 2.0 * i as f64 / config.head_dim as f64);
            match &config.rope_scaling {
                None => frequency,
                Some(RopeScaling::Linear { factor }) => frequency / factor,
                Some(RopeScaling::Divisors { divisors }) => frequency / divisors[i],
                Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }) => {
                    // Share of the frequency that is kept: 0 for long waves, 1 for short ones, linear in between.
                    let turns = original_max_positions * frequency / (2.0 * PI);
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_config;

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let plain = ModelConfig { head_dim: 64, rope_theta: 500_000.0, ..tiny_config() };
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192.0 };
        let stretched = ModelConfig { rope_scaling: Some(scaling), ..plain.clone() };
        let (before, after) = (frequencies(&plain), frequencies(&stretched));
        assert_eq!(before[0].to_bits(), after[0].to_bits());
        assert!((after[31] * 8.0 / before[31] - 1.0).abs() < 1e-12);
        // Between them lies a band that is stretched by less than the factor.
        assert!(after.iter().zip(&before).any(|(a, b)| a < b && a * 8.0 > *b));
        assert!(after.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn position_zero_does_not_rotate() {
        let (cos, sin) = rotary_tables(&tiny_config(), 2);
        let half = tiny_config().head_dim / 2;
        assert!(cos[..half].iter().all(|&c| (c - 1.0).abs() < f32::EPSILON));
        assert!(sin[..half].iter().all(|&s| s.abs() < f32::EPSILON));
        assert!((cos[half] - 1f32.cos()).abs() < 1e-6);
    }
}
