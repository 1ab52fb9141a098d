//! Causal attention: scaling, mask and softmax of scores in one pass over what may be seen; and all of it where nothing is trained.

use super::{
    exp::exp,
    product::{MANY_ROWS, Matrix, write_product},
    rows::{Elements, LEAST_ROWS, dot, elements, fused, largest, row_length, shaped, sum_pairs},
};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use multiversion::multiversion;
use rayon::prelude::*;

/// Tokens whose scores exist at one time: of the square of a long text nearly half is masked, and what is not computed is not
/// looked at either.
const QUERIES: usize = 128;

/// What `queries [heads, tokens, size]` find in `keys` and `values [groups, tokens, size]`: `[tokens, heads * size]`. None where a
/// gradient is wanted, for few tokens, and where these are not single-precision numbers in the processor's memory;
/// [`causal_softmax`] is for those.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn causal_attention(queries: &Tensor, keys: &Tensor, values: &Tensor, scale: f64) -> Result<Option<Tensor>> {
    let ((heads, tokens, size), (groups, ..)) = (queries.dims3()?, keys.dims3()?);
    let all = [queries, keys, values];
    if tokens < MANY_ROWS || all.iter().any(|tensor| tensor.track_op()) || !fused(&all) {
        return Ok(None);
    }
    if keys.dims() != [groups, tokens, size] || values.dims() != keys.dims() || groups == 0 || !heads.is_multiple_of(groups) {
        bail!("queries {queries:?} do not fit keys {keys:?} and values {values:?}");
    }
    let [queries, keys, values] = [queries.contiguous()?, keys.contiguous()?, values.contiguous()?];
    let (of_queries, of_keys, of_values) = (Elements::of(&queries)?, Elements::of(&keys)?, Elements::of(&values)?);
    let (of_queries, of_keys, of_values) = (&*of_queries, &*of_keys, &*of_values);
    let (width, per_group) = (heads * size, heads / groups);
    let mut out = vec![0f32; tokens * width];
    out.par_chunks_mut(QUERIES * width).enumerate().try_for_each_init(Scratch::default, |scratch, (part, out)| {
        let (first, rows) = (part * QUERIES, out.len() / width);
        let seen = first + rows;
        for group in 0..groups {
            // The query heads of a group are rows of one matrix; keys and values are not repeated.
            scratch.queries.clear();
            for head in group * per_group..(group + 1) * per_group {
                scratch.queries.extend_from_slice(&of_queries[(head * tokens + first) * size..][..rows * size]);
            }
            let (keys, values) =
                (&of_keys[group * tokens * size..][..seen * size], &of_values[group * tokens * size..][..seen * size]);
            write_product(&Matrix::whole(&scratch.queries, size), &Matrix::whole(keys, size), &mut scratch.scores, 1)?;
            for (number, scores) in scratch.scores.chunks_exact_mut(seen).enumerate() {
                let (scores, masked) = scores.split_at_mut(first + number % rows + 1);
                to_shares(scores, scale as f32);
                masked.fill(0.0);
            }
            write_product(&Matrix::whole(&scratch.scores, seen), &Matrix::whole(values, size).turned(), &mut scratch.mixed, 1)?;
            for (number, mixed) in scratch.mixed.chunks_exact(size).enumerate() {
                let head = group * per_group + number / rows;
                out[number % rows * width + head * size..][..size].copy_from_slice(mixed);
            }
        }
        Ok::<_, candle_core::Error>(())
    })?;
    Tensor::from_vec(out, (tokens, width), queries.device()).map(Some)
}

/// A thread's memory, kept from group to group.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    mixed: Vec<f32>,
}

/// Scores that are all seen become shares of one.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn to_shares(scores: &mut [f32], scale: f32) {
    let most = largest(scores);
    for score in &mut *scores {
        *score = exp((*score - most) * scale);
    }
    let inverse = 1.0 / sum_pairs(scores, scores, |share, _| share);
    for share in scores {
        *share *= inverse;
    }
}

/// The gradient of scores from that of the shares that they became.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn scores_gradient(out: &mut [f32], shares: &[f32], grads: &[f32], scale: f32) {
    let mean = dot(shares, grads);
    for ((out, share), grad) in out.iter_mut().zip(shares).zip(grads) {
        *out = scale * share * (grad - mean);
    }
}

/// Softmax of `scale * scores` over the last dimension, zero where a row does not see.
///
/// `scores [.., tokens]` consist of squares, a head each, which may stand under each other: row `r` of a square sees the columns
/// `0..=r`. Neither direction touches what is masked, and the gradient comes from the result alone.
///
/// # Errors
/// Rows that are not whole squares, and candle's.
pub fn causal_softmax(scores: &Tensor, scale: f64) -> Result<Tensor> {
    let tokens = row_length(scores.shape())?;
    if !(scores.elem_count() / tokens).is_multiple_of(tokens) {
        bail!("scores of {tokens} tokens cannot have the shape {:?}", scores.shape());
    }
    if !fused(&[scores]) {
        return primitive(scores, scale);
    }
    scores.contiguous()?.apply_op1(CausalSoftmax { scale: scale as f32 })
}

pub(super) fn primitive(scores: &Tensor, scale: f64) -> Result<Tensor> {
    let tokens = row_length(scores.shape())?;
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
            out[..seen].copy_from_slice(&row[..seen]);
            to_shares(&mut out[..seen], self.scale);
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
            scores_gradient(out, &shares[..seen], &grads[..seen], self.scale);
        });
        shaped(out, scores).map(Some)
    }
}
