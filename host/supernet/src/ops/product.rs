//! Products of matrices in single precision on the processor, into memory that nobody has to clear first.
//!
//! Contract: bit for bit what candle's own product gives, which is the same crate's; but that clears what it writes to, and asks
//! for it anew each time.

use candle_core::{CpuStorage, Layout, Result, bail, utils::get_num_threads};
use gemm::{Parallelism, gemm};

/// A matrix in the processor's memory, whatever its strides.
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
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
}

/// `x [rows, inner]` times the transposed `w [columns, inner]`: `out` gets `[rows, columns]`, row after row, for what it held.
///
/// # Errors
/// Inner dimensions that differ, or none.
pub(super) fn product_into(x: &Matrix<'_>, w: &Matrix<'_>, out: &mut Vec<f32>) -> Result<()> {
    if x.columns != w.columns || x.columns == 0 {
        bail!("a projection of {} columns was given {}", w.columns, x.columns);
    }
    let Some(count) = x.rows.checked_mul(w.rows) else { bail!("{} rows of {} are too many", x.rows, w.rows) };
    out.clear();
    out.reserve(count);
    let parallelism = match get_num_threads() {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    // SAFETY: every element of both matrices is inside its slice, as `Matrix::new` found, and `out` has room for `count` elements,
    // which nobody else sees. The destination is not read, and the inner dimension is not empty, so that all of them are written.
    unsafe {
        gemm(
            x.rows,
            w.rows,
            x.columns,
            out.as_mut_ptr(),
            1,
            w.rows as isize,
            false,
            x.values.as_ptr(),
            x.column_stride as isize,
            x.row_stride as isize,
            w.values.as_ptr(),
            w.row_stride as isize,
            w.column_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
        out.set_len(count);
    }
    Ok(())
}
