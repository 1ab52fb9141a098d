//! The gate of a SwiGLU feed-forward (Shazeer, arXiv 2002.05202).

use super::{
    exp::sigmoid,
    rows::{Elements, elements, fused, shaped},
};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use multiversion::multiversion;
use rayon::prelude::*;

/// Elements of a task.
const PART: usize = 1 << 14;

/// `gate * sigmoid(gate) * up`, element by element.
///
/// # Errors
/// Different shapes, and candle's.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        bail!("a gate of {:?} was given {:?}", gate.shape(), up.shape());
    }
    if !fused(&[gate, up]) {
        return gate.silu()? * up;
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn gated(out: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate * sigmoid(gate) * up;
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn gradients(dgate: &mut [f32], dup: &mut [f32], [gate, up, grad]: [&[f32]; 3]) {
    for ((dgate, dup), ((&gate, up), grad)) in dgate.iter_mut().zip(dup).zip(gate.iter().zip(up).zip(grad)) {
        let open = sigmoid(gate);
        *dgate = grad * up * open * (1.0 + gate * (1.0 - open));
        *dup = grad * gate * open;
    }
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (elements(s1, l1)?, elements(s2, l2)?);
        let mut out = vec![0f32; gate.len()];
        let parts = out.par_chunks_mut(PART).zip(gate.par_chunks(PART)).zip(up.par_chunks(PART));
        parts.for_each(|((out, gate), up)| gated(out, gate, up));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (gates, ups, grads) = (Elements::of(gate)?, Elements::of(up)?, Elements::of(&grad)?);
        let (mut dgate, mut dup) = (vec![0f32; gates.len()], vec![0f32; gates.len()]);
        let into = dgate.par_chunks_mut(PART).zip(dup.par_chunks_mut(PART));
        let from = gates.par_chunks(PART).zip(ups.par_chunks(PART)).zip(grads.par_chunks(PART));
        into.zip(from).for_each(|((dgate, dup), ((gates, ups), grads))| gradients(dgate, dup, [gates, ups, grads]));
        Ok((Some(shaped(dgate, gate)?), Some(shaped(dup, up)?)))
    }
}
