//! The exponential function as plain arithmetic, which the compiler turns into vector instructions; the platform's is a call
//! per element, and most of the time of a softmax over a vocabulary.

use std::f32::consts::LOG2_E;

/// Results outside this range of arguments are those at its ends: 1e-38 and 1.7e38.
const LEAST: f32 = -87.0;
const MOST: f32 = 88.0;
/// Added to a number below 2^22 it leaves the nearest integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// The natural logarithm of 2 in two parts; products of the first with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `exp(x)` within 2e-7 of its value; not a number where `x` is none.
///
/// The argument is split into an integer multiple of ln 2 and a rest of at most half of it, whose Taylor polynomial of degree
/// 7 is exact to the last bit; the integer goes into the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Comparisons with what is not a number are false, so it passes.
    let x = if x < LEAST { LEAST } else { x };
    let x = if x > MOST { MOST } else { x };
    let shifted = x * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail))));
    series * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential_function() {
        let mut worst = 0f64;
        for i in -86_900_000i32..=87_900_000 {
            if i % 1013 != 0 {
                continue;
            }
            let x = i as f32 * 1e-6;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / expected - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(0.0).to_bits(), 1f32.to_bits());
        assert!(exp(f32::NAN).is_nan() && exp(-1e30) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38);
        assert!(exp(1e30) > 1e38 && exp(f32::INFINITY).is_finite());
        assert!(sigmoid(-200.0) < 1e-37 && sigmoid(200.0) > 0.999_999);
    }
}
