//! Prefix slices of tensors as single-precision bytes, transposed where ONNX wants `[in, out]`.

use crate::{ElementType, Error, TensorView};
use half::{bf16, f16};
use rayon::prelude::*;

/// Rows of the transposed matrix that one task writes; wide enough that a cache line of the source is used whole.
const BLOCK: usize = 64;

impl TensorView<'_> {
    /// Checks the shape.
    pub(crate) fn expect(self, name: &str, shape: &[usize]) -> Result<Self, Error> {
        if self.shape == shape {
            return Ok(self);
        }
        let problem = format!("has shape {:?}, the configuration says {shape:?}", self.shape);
        Err(Error::BadTensor { name: name.to_owned(), problem })
    }

    fn row(&self, row: usize, columns: usize, into: &mut [f32]) {
        let size = self.element.size();
        let start = row * self.shape.last().copied().unwrap_or(1) * size;
        decode(self.element, &self.bytes[start..start + columns * size], into);
    }

    /// The first `n` elements of a vector.
    pub(crate) fn prefix(&self, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        decode(self.element, &self.bytes[..n * self.element.size()], &mut out);
        out
    }

    /// The first `rows` rows and `columns` columns, in row-major order.
    pub(crate) fn corner(&self, rows: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * columns];
        out.par_chunks_mut(columns).enumerate().for_each(|(row, into)| self.row(row, columns, into));
        out
    }

    /// The first `rows` rows and `columns` columns, transposed: `[columns, rows]` in row-major order.
    pub(crate) fn corner_transposed(&self, rows: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * columns];
        let stride = self.shape.last().copied().unwrap_or(1) * self.element.size();
        let size = self.element.size();
        out.par_chunks_mut(rows * BLOCK).enumerate().for_each(|(block, into)| {
            let first = block * BLOCK;
            let wide = into.len() / rows;
            let mut line = [0.0; BLOCK];
            for row in 0..rows {
                let start = row * stride + first * size;
                decode(self.element, &self.bytes[start..start + wide * size], &mut line[..wide]);
                for (column, value) in line[..wide].iter().enumerate() {
                    into[column * rows + row] = *value;
                }
            }
        });
        out
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

/// The bytes of `values` as they stand in a little-endian file.
pub(crate) fn little_endian(values: &[f32]) -> std::borrow::Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        // SAFETY: any byte of an `f32` is a valid `u8`, and the length in bytes is that of the same slice.
        std::borrow::Cow::Borrowed(unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) })
    } else {
        std::borrow::Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn transposed_corner_is_the_corner_transposed(rows in 1usize..40, columns in 1usize..150, r in 1usize..40, c in 1usize..150) {
            let (r, c) = (r.min(rows), c.min(columns));
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let shape = [rows, columns];
            let bytes = little_endian(&values);
            let view = TensorView { element: ElementType::F32, shape: &shape, bytes: &bytes };
            let (straight, turned) = (view.corner(r, c), view.corner_transposed(r, c));
            for i in 0..r {
                for j in 0..c {
                    prop_assert_eq!(straight[i * c + j].to_bits(), values[i * columns + j].to_bits());
                    prop_assert_eq!(turned[j * r + i].to_bits(), values[i * columns + j].to_bits());
                }
            }
        }
    }

    #[test]
    fn half_precisions_are_widened_exactly() {
        let shape = [3];
        let values = [1.5f32, -0.099_975_586, 65504.0];
        let half: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(TensorView { element: ElementType::F16, shape: &shape, bytes: &half }.prefix(3), values);
        let values = [1.5f32, -0.100_097_656, 3.0e38f32];
        let brain: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let back = TensorView { element: ElementType::Bf16, shape: &shape, bytes: &brain }.prefix(2);
        assert_eq!(back, values[..2]);
    }
}
