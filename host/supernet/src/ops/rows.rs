//! What the kernels share: access to elements, and sums in lanes.

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};
use std::ops::{Deref, Range};

/// Rows of a task, so that short rows are not outweighed by what sharing them costs.
pub(super) const LEAST_ROWS: usize = 8;

/// Whether the kernels of this module serve these tensors.
pub(super) fn fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// The elements of a contiguous `f32` storage.
pub(super) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("a contiguous tensor was expected, found {layout:?}"),
    }
}

/// The elements of a contiguous `f32` tensor in the processor's memory, held as long as this lives.
pub(super) struct Elements<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Elements<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((from, to)) = layout.contiguous_offsets() else { bail!("a contiguous tensor was expected, found {layout:?}") };
        match &*storage {
            Storage::Cpu(cpu) if cpu.as_slice::<f32>().is_ok_and(|values| to <= values.len()) => {}
            _ => bail!("single-precision numbers in the processor's memory were expected, found {:?}", tensor.dtype()),
        }
        Ok(Self { storage, range: from..to })
    }
}

impl Deref for Elements<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("`of` looked at it"),
        }
    }
}

/// A tensor of these values with the shape and on the device of `like`.
pub(super) fn shaped(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}

/// Rows and their length: all dimensions but the last, and the last.
pub(super) fn row_length(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(&length) if length > 0 => Ok(length),
        _ => bail!("a tensor whose last dimension is not empty was expected, found {shape:?}"),
    }
}

/// Lanes that a sum is kept in, so that it becomes vector additions; they are added in a fixed order.
const LANES: usize = 16;

/// Sum of `f(a, b)` over pairs.
#[inline(always)]
pub(super) fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let [sum] = sum_pairs_of(a, b, |a, b| [f(a, b)]);
    sum
}

/// Sums of several numbers made of each pair.
#[inline(always)]
pub(super) fn sum_pairs_of<const N: usize>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
    let mut lanes = [[0f32; LANES]; N];
    let (wide_a, wide_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sums = [0f32; N];
    for (&a, &b) in wide_a.remainder().iter().zip(wide_b.remainder()) {
        sums.iter_mut().zip(f(a, b)).for_each(|(sum, value)| *sum += value);
    }
    for (a, b) in wide_a.zip(wide_b) {
        for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
            lanes.iter_mut().zip(f(a, b)).for_each(|(lanes, value)| lanes[lane] += value);
        }
    }
    sums.iter_mut().zip(&lanes).for_each(|(sum, lanes)| *sum += lanes.iter().sum::<f32>());
    sums
}

/// Inner product.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_pairs(a, b, |a, b| a * b)
}

/// The largest element, what is not a number left out.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let larger = |most: f32, value: f32| if value > most { value } else { most };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let wide = row.chunks_exact(LANES);
    let rest = wide.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for part in wide {
        for (lane, &value) in lanes.iter_mut().zip(part) {
            *lane = larger(*lane, value);
        }
    }
    lanes.iter().copied().fold(rest, larger)
}
