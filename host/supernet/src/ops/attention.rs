//! Scaling, causal mask and softmax of attention scores in one pass over what may be seen.

use super::{
    exp::exp,
    rows::{Elements, LEAST_ROWS, dot, elements, fused, largest, row_length, shaped},
};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Softmax of `scale * scores` over the last dimension, where row `r` sees the columns `0..=r % tokens`; zero elsewhere.
///
/// `scores [.., tokens]` consist of whole squares: rows of several heads may stand under each other. Neither direction touches
/// what is masked, and the gradient comes from the result alone.
///
/// # Errors
/// Rows that are not whole squares, and candle's.
pub fn causal_softmax(scores: &Tensor, scale: f64) -> Result<Tensor> {
    let tokens = row_length(scores.shape())?;
    if !(scores.elem_count() / tokens).is_multiple_of(tokens) {
        bail!("scores of {tokens} tokens cannot have the shape {:?}", scores.shape());
    }
    if !fused(&[scores]) {
        return primitive(scores, tokens, scale);
    }
    scores.contiguous()?.apply_op1(CausalSoftmax { scale: scale as f32 })
}

pub(super) fn primitive(scores: &Tensor, tokens: usize, scale: f64) -> Result<Tensor> {
    let cells = (0..tokens).flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }));
    let mask = Tensor::from_iter(cells, scores.device())?.reshape((tokens, tokens))?.to_dtype(scores.dtype())?;
    let squares = (scores.contiguous()? * scale)?.reshape(((), tokens, tokens))?;
    candle_nn::ops::softmax(&squares.broadcast_add(&mask)?, D::Minus1)?.reshape(scores.shape())
}

struct CausalSoftmax {
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = elements(storage, layout)?;
        let tokens = row_length(layout.shape())?;
        let mut out = vec![0f32; scores.len()];
        let rows = out.par_chunks_exact_mut(tokens).zip(scores.par_chunks_exact(tokens)).with_min_len(LEAST_ROWS);
        rows.enumerate().for_each(|(number, (out, row))| {
            let seen = number % tokens + 1;
            let (out, row) = (&mut out[..seen], &row[..seen]);
            let most = largest(row);
            for (out, score) in out.iter_mut().zip(row) {
                *out = exp((score - most) * self.scale);
            }
            let inverse = 1.0 / out.iter().sum::<f32>();
            for out in out {
                *out *= inverse;
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, shares: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let tokens = row_length(scores.shape())?;
        let grad = grad.contiguous()?;
        let (shares, grads) = (Elements::of(shares)?, Elements::of(&grad)?);
        let mut out = vec![0f32; shares.len()];
        let rows = out.par_chunks_exact_mut(tokens).zip(shares.par_chunks_exact(tokens)).zip(grads.par_chunks_exact(tokens));
        rows.with_min_len(LEAST_ROWS).enumerate().for_each(|(number, ((out, shares), grads))| {
            let seen = number % tokens + 1;
            let (shares, grads) = (&shares[..seen], &grads[..seen]);
            let mean = dot(shares, grads);
            for ((out, share), grad) in out.iter_mut().zip(shares).zip(grads) {
                *out = self.scale * share * (grad - mean);
            }
        });
        shaped(out, scores).map(Some)
    }
}
