//! Slices of tensors as single-precision bytes, transposed where ONNX wants `[in, out]`.

use crate::{
    ElementType, RowView,
    kept::{HeadDims, Kept},
};
use half::{bf16, f16};
use rayon::prelude::*;

/// A transposition goes tile by tile: this many columns of the source, so that its cache lines are used whole, ...
const WIDE: usize = 64;
/// ... and this many rows, so that each line of the result is written at once. Distances in the result are often powers of
/// two, where a cache holds only a few lines.
const TALL: usize = 16;

impl RowView<'_> {
    /// Part of a row, from `column` on.
    fn part(&self, row: usize, column: usize, into: &mut [f32]) {
        let size = self.element.size();
        decode(self.element, &self.row(row)[column * size..][..into.len() * size], into);
    }

    /// As [`Self::part`], where `heads` says which columns are kept; `first` counts those.
    fn kept_part(&self, row: usize, heads: Option<&HeadDims>, first: usize, into: &mut [f32]) {
        let Some(heads) = heads else { return self.part(row, first, into) };
        let mut at = 0;
        while at < into.len() {
            let (column, length) = heads.run(first + at, into.len() - at);
            self.part(row, column, &mut into[at..at + length]);
            at += length;
        }
    }

    /// Elements of a vector.
    pub(crate) fn elements(&self, kept: &Kept, into: &mut [f32]) {
        self.kept_part(0, kept.heads.as_ref(), 0, into);
    }

    /// Rows and columns of a matrix, in row-major order.
    pub(crate) fn cut(&self, rows: &Kept, columns: &Kept, into: &mut [f32]) {
        into.par_chunks_mut(columns.count).enumerate().for_each(|(row, into)| {
            self.kept_part(rows.place(row), columns.heads.as_ref(), 0, into);
        });
    }

    /// As [`Self::cut`], transposed: `[columns, rows]` in row-major order.
    pub(crate) fn cut_transposed(&self, kept_rows: &Kept, columns: &Kept, into: &mut [f32]) {
        let rows = kept_rows.count;
        into.par_chunks_mut(rows * WIDE).enumerate().for_each(|(block, into)| {
            let wide = into.len() / rows;
            let mut tile = [[0.0; WIDE]; TALL];
            for first in (0..rows).step_by(TALL) {
                let tall = TALL.min(rows - first);
                for (row, line) in tile[..tall].iter_mut().enumerate() {
                    let row = kept_rows.place(first + row);
                    self.kept_part(row, columns.heads.as_ref(), block * WIDE, &mut line[..wide]);
                }
                for column in 0..wide {
                    let line = &mut into[column * rows + first..][..tall];
                    line.iter_mut().zip(&tile).for_each(|(value, row)| *value = row[column]);
                }
            }
        });
    }
}

fn decode(element: ElementType, bytes: &[u8], into: &mut [f32]) {
    match element {
        ElementType::F32 => {
            for (value, b) in into.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        ElementType::F16 => {
            for (value, b) in into.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        ElementType::Bf16 => {
            for (value, b) in into.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
    }
}

/// Turns numbers into what they are in a little-endian file; nothing to do on little-endian machines.
pub(crate) fn make_little_endian(values: &mut [f32]) {
    if cfg!(target_endian = "big") {
        for value in values {
            *value = f32::from_bits(value.to_bits().to_le());
        }
    }
}

/// The bytes of `values` as they are in memory.
pub(crate) fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: any byte of an `f32` is a valid `u8`, and the length in bytes is that of the same slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// The numbers whose bytes `memory` holds; `None` if it does not begin or end at a number's limit.
pub(crate) fn numbers_in(memory: &mut [u8]) -> Option<&mut [f32]> {
    // SAFETY: every four bytes are a valid `f32`, and `align_to_mut` keeps to its alignment.
    let (before, values, after) = unsafe { memory.align_to_mut::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorView;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn transposed_corner_is_the_corner_transposed(rows in 1usize..40, columns in 1usize..150, r in 1usize..40, c in 1usize..150, segment in 1usize..20) {
            check([rows, columns], segment, &Kept::first(r.min(rows), rows), &Kept::first(c.min(columns), columns))?;
        }

        #[test]
        fn dimensions_of_heads_are_kept_in_every_way(
            (heads, kept) in (1usize..5).prop_flat_map(|heads| (Just(heads), 1..=heads)),
            (half, pairs) in (1usize..40).prop_flat_map(|half| {
                (Just(half), proptest::sample::subsequence((0..half as u32).collect::<Vec<_>>(), 1..=half))
            }),
            other in 1usize..90, segment in 1usize..20,
        ) {
            let whole = 2 * half;
            let all = Kept::first(other, other);
            for dims in [HeadDims::of_pairs(&pairs, whole), HeadDims::first(pairs.len(), whole)] {
                let part = Kept::heads(kept, heads, whole, Some(&dims));
                check([heads * whole, other], segment, &part, &all)?;
                check([other, heads * whole], segment, &all, &part)?;
            }
        }
    }

    /// Cuts a matrix of the numbers 0, 1, ... in every way.
    fn check([rows, columns]: [usize; 2], segment: usize, kept: &Kept, across: &Kept) -> Result<(), TestCaseError> {
        let (r, c) = (kept.count, across.count);
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let shape = [rows, columns];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        // In one piece, and in segments of some rows.
        let whole = RowView::from(TensorView { element: ElementType::F32, shape: &shape, bytes: &bytes });
        let cut = RowView::new(ElementType::F32, &shape, bytes.chunks(segment * columns * 4));
        for view in [whole, cut] {
            let (mut straight, mut turned) = (vec![f32::NAN; r * c], vec![f32::NAN; r * c]);
            view.cut(kept, across, &mut straight);
            view.cut_transposed(kept, across, &mut turned);
            for i in 0..r {
                for j in 0..c {
                    let expected = values[kept.place(i) * columns + across.place(j)].to_bits();
                    prop_assert_eq!(straight[i * c + j].to_bits(), expected);
                    prop_assert_eq!(turned[j * r + i].to_bits(), expected);
                }
            }
        }
        // A row is a vector.
        let mut elements = vec![f32::NAN; c];
        let row = [columns];
        RowView::from(TensorView { element: ElementType::F32, shape: &row, bytes: &bytes[..columns * 4] })
            .elements(across, &mut elements);
        prop_assert!(elements.iter().enumerate().all(|(j, v)| v.to_bits() == values[across.place(j)].to_bits()));
        Ok(())
    }

    #[test]
    fn half_precisions_are_widened_exactly() {
        let shape = [3];
        let values = [1.5f32, -0.099_975_586, 65504.0];
        let half: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let mut back = [0.0; 3];
        RowView::from(TensorView { element: ElementType::F16, shape: &shape, bytes: &half })
            .elements(&Kept::first(3, 3), &mut back);
        assert_eq!(back.map(f32::to_bits), values.map(f32::to_bits));
        let values = [1.5f32, -0.100_097_656, 3.0e38f32];
        let brain: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        RowView::from(TensorView { element: ElementType::Bf16, shape: &shape, bytes: &brain })
            .elements(&Kept::first(2, 3), &mut back[..2]);
        assert_eq!(back[..2], values[..2]);
    }
}
