//! Scaling, causal mask and softmax of attention scores in one pass over what may be seen.

use super::{
    exp::exp,
    rows::{Elements, LEAST_ROWS, dot, elements, fused, largest, row_length, shaped, sum_pairs},
};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Softmax of `scale * scores` over the last dimension, zero where a row does not see.
///
/// `scores [.., tokens]` consist of blocks of `rows` rows, the last `rows` tokens of a head: row `r` of a block sees the columns
/// `0..=tokens - rows + r`. Blocks of several heads may stand under each other. Neither direction touches what is masked, and
/// the gradient comes from the result alone.
///
/// # Errors
/// Rows that are not whole blocks, blocks of no row or more rows than tokens, and candle's.
pub fn causal_softmax(scores: &Tensor, rows: usize, scale: f64) -> Result<Tensor> {
    let tokens = row_length(scores.shape())?;
    if !(1..=tokens).contains(&rows) || !(scores.elem_count() / tokens).is_multiple_of(rows) {
        bail!("scores of the last {rows} of {tokens} tokens cannot have the shape {:?}", scores.shape());
    }
    if !fused(&[scores]) {
        return primitive(scores, rows, scale);
    }
    scores.contiguous()?.apply_op1(CausalSoftmax { rows, scale: scale as f32 })
}

pub(super) fn primitive(scores: &Tensor, rows: usize, scale: f64) -> Result<Tensor> {
    let tokens = row_length(scores.shape())?;
    let cell = move |row, column| if column > tokens - rows + row { f32::NEG_INFINITY } else { 0.0 };
    let cells = (0..rows).flat_map(|row| (0..tokens).map(move |column| cell(row, column)));
    let mask = Tensor::from_iter(cells, scores.device())?.reshape((rows, tokens))?.to_dtype(scores.dtype())?;
    let blocks = (scores.contiguous()? * scale)?.reshape(((), rows, tokens))?;
    candle_nn::ops::softmax(&blocks.broadcast_add(&mask)?, D::Minus1)?.reshape(scores.shape())
}

struct CausalSoftmax {
    /// Of a block.
    rows: usize,
    scale: f32,
}

impl CausalSoftmax {
    /// Columns that the row with this number sees.
    fn seen(&self, number: usize, tokens: usize) -> usize {
        tokens - self.rows + number % self.rows + 1
    }
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
            let seen = self.seen(number, tokens);
            let (out, row) = (&mut out[..seen], &row[..seen]);
            let most = largest(row);
            for (out, score) in out.iter_mut().zip(row) {
                *out = exp((score - most) * self.scale);
            }
            let inverse = 1.0 / sum_pairs(out, out, |share, _| share);
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
            let seen = self.seen(number, tokens);
            let (shares, grads) = (&shares[..seen], &grads[..seen]);
            let mean = dot(shares, grads);
            for ((out, share), grad) in out.iter_mut().zip(shares).zip(grads) {
                *out = self.scale * share * (grad - mean);
            }
        });
        shaped(out, scores).map(Some)
    }
}
