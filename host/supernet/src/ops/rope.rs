//! Rotary position embedding (Su et al., arXiv 2104.09864), half-split: dimension `i` turns with `i + head_dim / 2`.

use super::rows::{Elements, fused};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use multiversion::multiversion;
use rayon::prelude::*;

/// Turns `x [heads, tokens, head_dim]` by the tables `cos` and `sin [tokens, head_dim / 2]`. The heads may lie in any order in
/// memory: a transposed view is turned where it lies. The tables have no gradient.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, tokens, head) = x.dims3()?;
    if cos.dims2()? != (tokens, head / 2) || sin.dims2()? != (tokens, head / 2) || !head.is_multiple_of(2) {
        bail!("rotary tables of {:?} were given {:?}", cos.shape(), x.shape());
    }
    if !fused(&[x, cos, sin]) {
        return candle_nn::rotary_emb::rope_slow(&x.contiguous()?.unsqueeze(0)?, cos, sin)?.squeeze(0);
    }
    let x = if x.stride()[2] == 1 { x.clone() } else { x.contiguous()? };
    x.apply_op1(Rope { cos: cos.detach().contiguous()?, sin: sin.detach().contiguous()?, direction: 1.0 })
}

struct Rope {
    cos: Tensor,
    sin: Tensor,
    direction: f32,
}

/// A token's head, turned by these angles.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn turn(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let ((low, high), (out_low, out_high)) = (x.split_at(cos.len()), out.split_at_mut(cos.len()));
    let pairs = out_low.iter_mut().zip(out_high).zip(low.iter().zip(high)).zip(cos.iter().zip(sin));
    for (((out_low, out_high), (low, high)), (cos, sin)) in pairs {
        let sin = sin * direction;
        *out_low = low * cos - high * sin;
        *out_high = high * cos + low * sin;
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (heads, tokens, head) = layout.shape().dims3()?;
        let &[head_stride, token_stride, 1] = layout.stride() else { bail!("heads were expected, found {layout:?}") };
        let x = &storage.as_slice::<f32>()?[layout.start_offset()..];
        let (cos, sin) = (Elements::of(&self.cos)?, Elements::of(&self.sin)?);
        let (cos, sin, half) = (&*cos, &*sin, head / 2);
        let mut out = vec![0f32; heads * tokens * head];
        out.par_chunks_exact_mut(tokens * head).enumerate().for_each(|(number, out)| {
            for (token, out) in out.chunks_exact_mut(head).enumerate() {
                let x = &x[number * head_stride + token * token_stride..][..head];
                turn(out, x, &cos[token * half..][..half], &sin[token * half..][..half], self.direction);
            }
        });
        Ok((CpuStorage::F32(out), (heads, tokens, head).into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self { cos: self.cos.clone(), sin: self.sin.clone(), direction: -self.direction };
        let grad = if grad.stride()[2] == 1 { grad.clone() } else { grad.contiguous()? };
        grad.apply_op1_no_bwd(&back).map(Some)
    }
}
