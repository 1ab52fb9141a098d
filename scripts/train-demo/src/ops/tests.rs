//! Each fused operation against candle's primitives, in value and in gradient.

use candle_core::{D, DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn random(seed: u64, shape: &[usize]) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Compares the values, and the gradients of a weighted sum of them, so that no two elements
/// have the same gradient.
fn agree(vars: &[&Var], fused: &Tensor, primitive: &Tensor) {
    assert!(distance(fused, primitive) < 1e-5, "values differ by {}", distance(fused, primitive));
    let weights = random(99, fused.dims());
    let gradients = |y: &Tensor| (y * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let (fused, primitive) = (gradients(fused), gradients(primitive));
    for var in vars {
        let (a, b) = (fused.get(var).expect("a gradient"), primitive.get(var).expect("a gradient"));
        assert!(b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3, "the test's gradient is zero");
        assert!(distance(a, b) < 1e-4, "gradients differ by {}", distance(a, b));
    }
}

#[test]
fn rms_norm_agrees_with_primitives() {
    let (x, w) = (random(1, &[5, 19]), random(2, &[19]));
    agree(&[&x, &w], &rms_norm(&x, &w, 1e-5).unwrap(), &candle_nn::ops::rms_norm_slow(&x, &w, 1e-5).unwrap());
}

#[test]
fn causal_softmax_agrees_with_a_masked_softmax() {
    // Two heads stand under each other in a row, as in attention.
    let scores = random(3, &[2, 1, 14, 7]);
    let mask: Vec<f32> = (0..14 * 7).map(|at| if at % 7 > (at / 7) % 7 { -1e9 } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (1, 1, 14, 7), &Device::Cpu).unwrap();
    let masked = (scores.as_tensor() * 0.3).unwrap().broadcast_add(&mask).unwrap();
    agree(&[&scores], &causal_softmax(&scores, 0.3).unwrap(), &candle_nn::ops::softmax(&masked, D::Minus1).unwrap());
}

#[test]
fn swiglu_agrees_with_primitives() {
    let (gate, up) = (random(4, &[3, 11]), random(5, &[3, 11]));
    agree(&[&gate, &up], &swiglu(&gate, &up).unwrap(), &(gate.silu().unwrap() * up.as_tensor()).unwrap());
}

#[test]
fn nll_agrees_with_log_softmax() {
    let logits = random(6, &[4, 13]);
    let targets = [12u32, 0, 5, 5];
    let ids = Tensor::new(&targets, &Device::Cpu).unwrap().reshape((4, 1)).unwrap();
    let log_softmax = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
    let primitive = log_softmax.gather(&ids, 1).unwrap().neg().unwrap().squeeze(1).unwrap();
    agree(&[&logits], &nll(&logits, &targets).unwrap(), &primitive);
}

#[test]
fn nll_rejects_targets_that_do_not_fit() {
    let logits = random(6, &[2, 3]);
    assert!(nll(&logits, &[0]).is_err());
    assert!(nll(&logits, &[0, 3]).is_err());
}

#[test]
fn rope_is_the_half_split_convention() {
    let x = random(7, &[2, 3, 9, 8]);
    let frequencies: Vec<f32> = (0..4).map(|i| 10_000f32.powf(-f32::from(i as u8) / 4.0)).collect();
    let positions = Tensor::arange(0u32, 9, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let frequencies = Tensor::new(frequencies, &Device::Cpu).unwrap().reshape((1, 4)).unwrap();
    let angles = positions.reshape((9, 1)).unwrap().matmul(&frequencies).unwrap();
    let primitive = candle_nn::rotary_emb::rope_slow(&x, &angles.cos().unwrap(), &angles.sin().unwrap()).unwrap();
    agree(&[&x], &Rope::new(8, 16, 10_000.0).apply(&x).unwrap(), &primitive);
}

#[test]
fn rope_rejects_a_sequence_beyond_its_tables() {
    assert!(Rope::new(8, 8, 10_000.0).apply(&random(8, &[1, 1, 9, 8])).is_err());
}
