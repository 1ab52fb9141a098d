//! Projections by weights that are not trained, alone or with a low-rank adapter (Hu et al., arXiv 2106.09685).
//!
//! candle's product computes the gradient of both factors; that of a frozen matrix is a third of a training step for nothing.

use super::{
    Dropout,
    rows::{Elements, fused},
};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor, backend::BackendStorage,
    bail,
};
use rayon::prelude::*;

/// `x [rows, in]` times the transposed `weight [out, in]`, which may be a view and gets no gradient.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn frozen_matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op1(Frozen { weight: weight.detach() })
}

/// `x Wᵀ + scale * dropout(x) Aᵀ Bᵀ`: a frozen `weight [out, in]` with an adapter `a [rank, in]`, `b [out, rank]`. All three
/// matrices may be views. The gradient goes to `x`, `a` and `b`; nothing between them is kept for it.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn adapted_matmul(
    x: &Tensor,
    weight: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let dropout = dropout.filter(|dropout| dropout.probability > 0.0);
    if fused(&[x, weight, a, b]) {
        // Positions of elements name the dropout's random numbers.
        let x = if dropout.is_some() { x.contiguous()? } else { x.clone() };
        return x.apply_op3(a, b, Adapted { weight: weight.detach(), scale, dropout });
    }
    primitive(x, weight, a, b, scale, dropout)
}

pub(super) fn primitive(
    x: &Tensor,
    weight: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let (a, b) = (a.to_dtype(x.dtype())?, b.to_dtype(x.dtype())?);
    let input = match dropout {
        None => x.clone(),
        Some(dropout) => {
            let mut mask = vec![1f32; x.elem_count()];
            dropout.mask(&mut mask);
            (x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)?
        }
    };
    frozen_matmul(x, weight)? + (input.matmul(&a.t()?)?.matmul(&b.t()?)? * scale)?
}

/// `x [rows, in]` times the transposed `w [out, in]`.
fn product<S: BackendStorage>(x: &S, lx: &Layout, w: &S, lw: &Layout) -> Result<(S, Shape)> {
    let ((rows, inner), (out, width)) = (lx.shape().dims2()?, lw.shape().dims2()?);
    if inner != width || inner == 0 {
        bail!("a projection of {:?} was given {:?}", lw.shape(), lx.shape());
    }
    Ok((x.matmul(w, (1, rows, out, inner), lx, &lw.transpose(0, 1)?)?, (rows, out).into()))
}

struct Frozen {
    weight: Tensor,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, of_weight) = self.weight.storage_and_layout();
        let Storage::Cpu(weight) = &*storage else { bail!("input and weight are on different devices") };
        product(x, layout, weight, of_weight)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, of_weight) = self.weight.storage_and_layout();
        let Storage::Cuda(weight) = &*storage else { bail!("input and weight are on different devices") };
        product(x, layout, weight, of_weight)
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        let (storage, of_weight) = self.weight.storage_and_layout();
        let Storage::Metal(weight) = &*storage else { bail!("input and weight are on different devices") };
        product(x, layout, weight, of_weight)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.matmul(&self.weight).map(Some)
    }
}

struct Adapted {
    weight: Tensor,
    scale: f64,
    dropout: Option<Dropout>,
}

impl CustomOp3 for Adapted {
    fn name(&self) -> &'static str {
        "adapted-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (storage, of_weight) = self.weight.storage_and_layout();
        let Storage::Cpu(weight) = &*storage else { bail!("input and weight are on different devices") };
        let (CpuStorage::F32(mut out), shape) = product(x, lx, weight, of_weight)? else {
            bail!("single-precision numbers were expected")
        };
        let (inner, inner_shape) = match self.dropout {
            None => product(x, lx, a, la)?,
            Some(dropout) => {
                let mut dropped = super::rows::elements(x, lx)?.to_vec();
                dropout.mask(&mut dropped);
                product(&CpuStorage::F32(dropped), &Layout::contiguous(lx.shape()), a, la)?
            }
        };
        let (added, added_shape) = product(&inner, &Layout::contiguous(inner_shape), b, lb)?;
        if added_shape.dims() != shape.dims() {
            bail!("an adapter that gives {added_shape:?} was put beside a projection that gives {shape:?}");
        }
        let (added, scale) = (added.as_slice::<f32>()?, self.scale as f32);
        let width = shape.dims()[1];
        out.par_chunks_exact_mut(width).zip(added.par_chunks_exact(width)).for_each(|(out, added)| {
            out.iter_mut().zip(added).for_each(|(out, added)| *out += scale * added);
        });
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let with_input = x.track_op();
        // Of values alone: a product of tracked tensors would grow a graph of its own.
        let (x, a, b) = (x.detach(), a.detach(), b.detach());
        let inner_grad = (grad.matmul(&b)? * self.scale)?;
        let input = match self.dropout {
            None => x,
            Some(dropout) => dropout.apply(&x)?,
        };
        let db = (grad.t()?.matmul(&input.matmul(&a.t()?)?)? * self.scale)?;
        let da = inner_grad.t()?.matmul(&input)?;
        if !with_input {
            return Ok((None, Some(da), Some(db)));
        }
        let through = inner_grad.matmul(&a)?;
        let through = match self.dropout {
            None => through,
            Some(dropout) => dropout.apply(&through)?,
        };
        let straight = grad.matmul(&self.weight)?;
        let dx = {
            let (straight, through) = (Elements::of(&straight)?, Elements::of(&through)?);
            let mut sum = straight.to_vec();
            sum.par_chunks_mut(1 << 14).zip(through.par_chunks(1 << 14)).for_each(|(sum, more)| {
                sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            });
            sum
        };
        Ok((Some(Tensor::from_vec(dx, input.shape(), input.device())?), Some(da), Some(db)))
    }
}
