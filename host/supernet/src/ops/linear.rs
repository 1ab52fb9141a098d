//! Projections by weights that are not trained, alone or with a low-rank adapter (Hu et al., arXiv 2106.09685).
//!
//! candle's product computes the gradient of both factors; that of a frozen matrix is a third of a training step for nothing.

use super::{
    Dropout,
    product::{Matrix, product_into},
    rows::{Elements, fused},
};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, DType, Device, Layout, MetalStorage, Result, Shape, Storage, Tensor,
    backend::BackendStorage, bail,
};
use rayon::prelude::*;

/// `x [rows, in]` times the transposed `weight [out, in]`, which may be a view and gets no gradient.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub fn frozen_matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op1(Frozen { weight: weight.detach() })
}

/// [`frozen_matmul`] of values alone, into memory of the caller's: `out` gets `[rows, out]`, row after row, for what it held.
///
/// # Errors
/// Shapes that do not fit, and candle's.
pub(crate) fn frozen_matmul_into(x: &Tensor, weight: &Tensor, out: &mut Vec<f32>) -> Result<()> {
    if !fused(&[x, weight]) {
        *out = frozen_matmul(&x.detach(), weight)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        return Ok(());
    }
    let ((x, of_x), (weight, of_weight)) = (x.storage_and_layout(), weight.storage_and_layout());
    match (&*x, &*weight) {
        (Storage::Cpu(x), Storage::Cpu(weight)) => product_into(&Matrix::new(x, of_x)?, &Matrix::new(weight, of_weight)?, out),
        _ => bail!("input and weight are on different devices"),
    }
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

/// On the processor, where single precision has a way of its own.
fn cpu_product(x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
    let (CpuStorage::F32(_), CpuStorage::F32(_)) = (x, w) else { return product(x, lx, w, lw) };
    let mut out = Vec::new();
    product_into(&Matrix::new(x, lx)?, &Matrix::new(w, lw)?, &mut out)?;
    Ok((CpuStorage::F32(out), (lx.shape().dims2()?.0, lw.shape().dims2()?.0).into()))
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
        cpu_product(x, layout, weight, of_weight)
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
        frozen_matmul(grad, &self.weight.t()?).map(Some)
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
        let (CpuStorage::F32(mut out), shape) = cpu_product(x, lx, weight, of_weight)? else {
            bail!("single-precision numbers were expected")
        };
        let (inner, inner_shape) = match self.dropout {
            None => cpu_product(x, lx, a, la)?,
            Some(dropout) => {
                let mut dropped = super::rows::elements(x, lx)?.to_vec();
                dropout.mask(&mut dropped);
                cpu_product(&CpuStorage::F32(dropped), &Layout::contiguous(lx.shape()), a, la)?
            }
        };
        let (added, added_shape) = cpu_product(&inner, &Layout::contiguous(inner_shape), b, lb)?;
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
        let mut dx = Vec::new();
        frozen_matmul_into(grad, &self.weight.t()?, &mut dx)?;
        let through = Elements::of(&through)?;
        dx.par_chunks_mut(1 << 14).zip(through.par_chunks(1 << 14)).for_each(|(dx, more)| {
            dx.iter_mut().zip(more).for_each(|(dx, more)| *dx += more);
        });
        drop(through);
        Ok((Some(Tensor::from_vec(dx, input.shape(), input.device())?), Some(da), Some(db)))
    }
}
