//! Products of matrices in single precision on the processor, into memory that nobody has to clear first.
//!
//! Contract: where the processor has a unit for it, what `tiles` says; elsewhere, and where there is little to multiply, bit for bit
//! what candle's own product gives, which is the same crate's. But that clears what it writes to, and asks for it anew each time.

use super::tiles;
use candle_core::{CpuStorage, Layout, Result, bail, utils::get_num_threads};
use gemm::{Parallelism, gemm};
use std::mem::MaybeUninit;

/// Fewer rows are multiplied in single precision everywhere. They gain little from a unit for tiles, and they are what is compared
/// number by number: the tokens of a probe, and those that show a sorted network to be the one that it was made of.
pub(super) const MANY_ROWS: usize = 65;

/// A matrix in the processor's memory, whatever its strides. All of its elements are in `values`: code without checks counts on it.
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The matrix of a layout, all of whose elements are in the storage.
    pub(super) fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (rows, columns) = layout.shape().dims2()?;
        let &[row_stride, column_stride] = layout.stride() else { bail!("a matrix was expected, found {layout:?}") };
        let values = storage.as_slice::<f32>()?.get(layout.start_offset()..).unwrap_or_default();
        let last = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
        let end = last(rows, row_stride).and_then(|a| a.checked_add(last(columns, column_stride)?));
        if rows > 0 && columns > 0 && end.is_none_or(|end| end >= values.len()) {
            bail!("a matrix of {layout:?} is larger than its storage");
        }
        Ok(Self { values, rows, columns, row_stride, column_stride })
    }

    /// Whole rows of this length, one after the other.
    pub(super) fn whole(values: &'a [f32], columns: usize) -> Self {
        Self { values, rows: values.len() / columns, columns, row_stride: columns, column_stride: 1 }
    }

    /// Its columns as rows.
    pub(super) fn turned(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `x [rows, inner]` times the transposed `w [columns, inner]`: `out` gets `[rows, columns]`, row after row, for what it held.
///
/// # Errors
/// Inner dimensions that differ, or none.
pub(super) fn product_into(x: &Matrix<'_>, w: &Matrix<'_>, out: &mut Vec<f32>) -> Result<()> {
    write_product(x, w, out, get_num_threads())
}

/// Likewise, by at most so many threads.
pub(super) fn write_product(x: &Matrix<'_>, w: &Matrix<'_>, out: &mut Vec<f32>, threads: usize) -> Result<()> {
    if x.columns != w.columns || x.columns == 0 {
        bail!("a projection of {} columns was given {}", w.columns, x.columns);
    }
    let Some(count) = x.rows.checked_mul(w.rows) else { bail!("{} rows of {} are too many", x.rows, w.rows) };
    out.clear();
    out.reserve(count);
    let place = &mut out.spare_capacity_mut()[..count];
    if !tiles::product(x, w, place, threads) {
        single(x, w, place, threads);
    }
    // SAFETY: there is room for so many, and all were written.
    unsafe { out.set_len(count) };
    Ok(())
}

/// All of `out` is written: bit for bit what candle's own product gives, which is the same crate's.
pub(super) fn single(x: &Matrix<'_>, w: &Matrix<'_>, out: &mut [MaybeUninit<f32>], threads: usize) {
    assert!(x.columns == w.columns && x.columns > 0 && out.len() == x.rows * w.rows);
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: every element of both matrices is inside its slice, as whoever made them found, and `out` has as many elements as
    // the product. It is not read, and the inner dimension is not empty, so that all of it is written.
    unsafe {
        gemm(
            x.rows,
            w.rows,
            x.columns,
            out.as_mut_ptr().cast(),
            1,
            w.rows as isize,
            false,
            x.values.as_ptr(),
            x.column_stride as isize,
            x.row_stride as isize,
            w.values.as_ptr(),
            w.row_stride as isize,
            w.column_stride as isize,
            0.0f32,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
