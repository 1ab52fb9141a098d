//! Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467).

use super::rows::{Elements, LEAST_ROWS, dot, elements, fused, shaped};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use multiversion::multiversion;
use rayon::prelude::*;

/// Rows whose share of the weight's gradient is summed together: fixed, so that the sum does not depend on the threads.
const BLOCK: usize = 32;

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension: `x [.., width]`, `weight [width]`.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if x.dim(D::Minus1)? != weight.dims1()? || weight.elem_count() == 0 {
        bail!("a norm of {:?} was given {:?}", weight.shape(), x.shape());
    }
    if !fused(&[x, weight]) {
        return candle_nn::ops::rms_norm_slow(x, weight, eps);
    }
    x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm { eps, with_weight: weight.track_op() })
}

struct RmsNorm {
    eps: f32,
    /// Whether the weight wants a gradient.
    with_weight: bool,
}

#[inline(always)]
fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

/// A row by the inverse of its root mean square, and by the weight.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn normalize(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let inverse = inverse_rms(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// The gradient of a row, and its share, added, of the weight's, if that has room for it.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn gradients(dx: &mut [f32], dw: &mut [f32], [x, grad, weight]: [&[f32]; 3], eps: f32) {
    let inverse = inverse_rms(x, eps);
    for ((dw, x), grad) in dw.iter_mut().zip(x).zip(grad) {
        *dw += grad * x * inverse;
    }
    for ((dx, grad), weight) in dx.iter_mut().zip(grad).zip(weight) {
        *dx = grad * weight;
    }
    let shared = dot(dx, x) * inverse * inverse / x.len() as f32;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = inverse * (*dx - x * shared);
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(s1, l1)?, elements(s2, l2)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).with_min_len(LEAST_ROWS).for_each(|(out, x)| {
            normalize(out, x, weight, self.eps);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (xs, weights, grads) = (Elements::of(x)?, Elements::of(weight)?, Elements::of(&grad)?);
        let (weights, width) = (&*weights, weights.len());
        let mut dx = vec![0f32; xs.len()];
        let block = BLOCK * width;
        let blocks = dx.par_chunks_mut(block).zip(xs.par_chunks(block)).zip(grads.par_chunks(block));
        let partial: Vec<Vec<f32>> = blocks
            .map(|((dx, xs), grads)| {
                let mut dw = vec![0f32; if self.with_weight { width } else { 0 }];
                for ((dx, x), grad) in dx.chunks_exact_mut(width).zip(xs.chunks_exact(width)).zip(grads.chunks_exact(width)) {
                    gradients(dx, &mut dw, [x, grad, weights], self.eps);
                }
                dw
            })
            .collect();
        let dw = self.with_weight.then(|| {
            let mut sum = vec![0f32; width];
            for part in &partial {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            shaped(sum, weight)
        });
        Ok((Some(shaped(dx, x)?), dw.transpose()?))
    }
}
