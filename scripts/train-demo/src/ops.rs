//! Fused operations with their own backward pass.
//!
//! candle's fused kernels (`rms_norm`, `softmax_last_dim`, `rope`) have no gradient, and say so
//! only by leaving a variable without one; its primitive versions materialise several tensors per
//! call, which is most of the time for a model this narrow. Each operation here is one pass over
//! contiguous `f32` rows in both directions, on the calling thread, so that a run is the same
//! from start to end for the same seed. The tests compare value and gradient with the primitives.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};

/// Root-mean-square normalisation of the last dimension, times a weight.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm { eps: eps as f32 })
}

/// Softmax of `scale * scores` over the last dimension, where row `r` sees columns `0..=r % columns`.
pub(crate) fn causal_softmax(scores: &Tensor, scale: f64) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax { scale: scale as f32 })
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

/// Negative log-likelihood (nats) of one target per row of `logits` (rows, vocabulary).
pub(crate) fn nll(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    logits.contiguous()?.apply_op1(Nll { targets: targets.into() })
}

/// Rotary position embedding, half-split: dimension `i` turns with dimension `i + head_dim / 2`.
#[derive(Clone)]
pub(crate) struct Rope {
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
    half: usize,
}

impl Rope {
    /// Tables for positions `0..positions`.
    pub(crate) fn new(head_dim: usize, positions: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angle = |at: usize| {
            let (position, i) = (at / half, at % half);
            position as f64 / theta.powf(2.0 * i as f64 / head_dim as f64)
        };
        let table = |f: fn(f64) -> f64| (0..positions * half).map(|at| f(angle(at)) as f32).collect();
        Self { cos: table(f64::cos), sin: table(f64::sin), half }
    }

    /// Turns `x` (..., sequence, `head_dim`) by its positions.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Turn { rope: self.clone(), direction: 1.0 })
    }
}

struct RmsNorm {
    eps: f32,
}

struct CausalSoftmax {
    scale: f32,
}

struct SwiGlu;

struct Nll {
    targets: Arc<[u32]>,
}

struct Turn {
    rope: Rope,
    direction: f32,
}

/// The elements of a contiguous `f32` storage.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a contiguous f32 tensor was expected, found {:?} {layout:?}", storage.dtype()),
    }
}

/// Runs `f` on the elements of each tensor.
fn with_elements<const N: usize, T>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> T) -> Result<T> {
    let contiguous = tensors.map(Tensor::contiguous);
    let mut held = Vec::with_capacity(N);
    for tensor in &contiguous {
        match tensor {
            Ok(tensor) => held.push(tensor.storage_and_layout()),
            Err(error) => bail!("{error}"),
        }
    }
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&held) {
        match &**storage {
            Storage::Cpu(storage) => *slice = elements(storage, layout)?,
            _ => bail!("a tensor in the processor's memory was expected"),
        }
    }
    Ok(f(slices))
}

fn like(values: Vec<f32>, shape: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, shape.shape(), shape.device())
}

/// The size of the last dimension, which must exist.
fn row_size(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(&size) if size > 0 => Ok(size),
        _ => bail!("a tensor with a last dimension was expected, found {shape:?}"),
    }
}

/// Sums in eight lanes, which the compiler turns into vector additions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(s1, l1)?, elements(s2, l2)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let inverse = inverse_rms(row, self.eps);
            out.extend(row.iter().zip(weight).map(|(x, w)| x * inverse * w));
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_elements([x, weight, grad], |[x, weight, grad]| {
            let size = weight.len();
            let mut dx = Vec::with_capacity(x.len());
            let mut dw = vec![0f32; size];
            let mut scaled = vec![0f32; size];
            for (x, grad) in x.chunks_exact(size).zip(grad.chunks_exact(size)) {
                let inverse = inverse_rms(x, self.eps);
                for i in 0..size {
                    scaled[i] = grad[i] * weight[i];
                    dw[i] += grad[i] * x[i] * inverse;
                }
                let shared = dot(&scaled, x) * inverse * inverse / size as f32;
                dx.extend(scaled.iter().zip(x).map(|(g, x)| inverse * (g - x * shared)));
            }
            (dx, dw)
        })?;
        Ok((Some(like(dx, x)?), Some(like(dw, weight)?)))
    }
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = elements(storage, layout)?;
        let size = row_size(layout.shape())?;
        let mut out = vec![0f32; scores.len()];
        for (at, (out, row)) in out.chunks_exact_mut(size).zip(scores.chunks_exact(size)).enumerate() {
            let seen = at % size + 1;
            let (out, row) = (&mut out[..seen], &row[..seen]);
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for (out, score) in out.iter_mut().zip(row) {
                *out = ((score - max) * self.scale).exp();
                sum += *out;
            }
            let inverse = 1.0 / sum;
            for out in out {
                *out *= inverse;
            }
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, probabilities: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let size = row_size(scores.shape())?;
        let out = with_elements([probabilities, grad], |[probabilities, grad]| {
            let mut out = vec![0f32; grad.len()];
            let rows = probabilities.chunks_exact(size).zip(grad.chunks_exact(size));
            for (at, (out, (p, grad))) in out.chunks_exact_mut(size).zip(rows).enumerate() {
                let seen = at % size + 1;
                let (p, grad) = (&p[..seen], &grad[..seen]);
                let mean = dot(p, grad);
                for (out, (p, grad)) in out.iter_mut().zip(p.iter().zip(grad)) {
                    *out = self.scale * p * (grad - mean);
                }
            }
            out
        })?;
        like(out, scores).map(Some)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (elements(s1, l1)?, elements(s2, l2)?);
        let out = gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect();
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = with_elements([gate, up, grad], |[gate, up, grad]| {
            let mut dgate = Vec::with_capacity(gate.len());
            let mut dup = Vec::with_capacity(gate.len());
            for ((gate, up), grad) in gate.iter().zip(up).zip(grad) {
                let s = sigmoid(*gate);
                dgate.push(grad * up * s * (1.0 + gate * (1.0 - s)));
                dup.push(grad * gate * s);
            }
            (dgate, dup)
        })?;
        Ok((Some(like(dgate, gate)?), Some(like(dup, up)?)))
    }
}

impl CustomOp1 for Nll {
    fn name(&self) -> &'static str {
        "nll"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = elements(storage, layout)?;
        let size = row_size(layout.shape())?;
        let rows = logits.len() / size;
        if rows != self.targets.len() || self.targets.iter().any(|&target| target as usize >= size) {
            bail!("{} targets do not fit {rows} rows of {size} logits", self.targets.len());
        }
        let out: Vec<f32> = logits
            .chunks_exact(size)
            .zip(self.targets.iter())
            .map(|(row, &target)| {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = row.iter().map(|logit| (logit - max).exp()).sum();
                max + sum.ln() - row[target as usize]
            })
            .collect();
        Ok((CpuStorage::F32(out), rows.into()))
    }

    fn bwd(&self, logits: &Tensor, losses: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let size = row_size(logits.shape())?;
        let out = with_elements([logits, losses, grad], |[logits, losses, grad]| {
            let mut out = Vec::with_capacity(logits.len());
            for (at, row) in logits.chunks_exact(size).enumerate() {
                // The loss is the log of the sum minus the target's logit, so the sum is known.
                let target = self.targets[at] as usize;
                let log_sum = losses[at] + row[target];
                out.extend(row.iter().map(|logit| grad[at] * (logit - log_sum).exp()));
                out[at * size + target] -= grad[at];
            }
            out
        })?;
        like(out, logits).map(Some)
    }
}

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(storage, layout)?;
        let half = self.rope.half;
        let [.., sequence, head_dim] = layout.shape().dims() else { bail!("rope needs (..., sequence, head_dim)") };
        if *head_dim != 2 * half || sequence * half > self.rope.cos.len() {
            bail!("rope tables do not cover {sequence} positions of {head_dim} dimensions");
        }
        let mut out = Vec::with_capacity(x.len());
        for (at, row) in x.chunks_exact(2 * half).enumerate() {
            let position = at % sequence * half;
            let cos = &self.rope.cos[position..position + half];
            let sin = &self.rope.sin[position..position + half];
            let (low, high) = row.split_at(half);
            out.extend((0..half).map(|i| low[i] * cos[i] - high[i] * self.direction * sin[i]));
            out.extend((0..half).map(|i| high[i] * cos[i] + low[i] * self.direction * sin[i]));
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Turn { rope: self.rope.clone(), direction: -self.direction };
        grad.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}

#[cfg(test)]
mod tests;
