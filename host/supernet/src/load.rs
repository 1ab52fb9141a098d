//! A tensor of a file as the network computes with it: in single precision, and matrices in the order that products want.

use crate::Error;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use edgewise_onnx::{ElementType, TensorView};
use rayon::prelude::*;

/// Rows and columns of a tile that is turned at a time: as many numbers as a line of the cache holds.
const TILE: usize = 16;

/// A single-precision copy of a view, which must have this shape and hold nothing but numbers.
pub(crate) fn tensor(name: &str, view: TensorView<'_>, shape: &[usize]) -> Result<Tensor, Error> {
    if view.shape != shape {
        let problem = format!("has shape {:?}, the configuration says {shape:?}", view.shape);
        return Err(edgewise_onnx::Error::BadTensor { name: name.to_owned(), problem }.into());
    }
    let element = match view.element {
        ElementType::F32 => DType::F32,
        ElementType::F16 => DType::F16,
        ElementType::Bf16 => DType::BF16,
    };
    let tensor = Tensor::from_raw_buffer(view.bytes, element, shape, &Device::Cpu)?.to_dtype(DType::F32)?;
    let count = {
        let (storage, _) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(cpu) => cpu.as_slice::<f32>()?.iter().filter(|v| !v.is_finite()).count(),
            _ => 0,
        }
    };
    if count > 0 {
        return Err(Error::NotFinite { name: name.to_owned(), count });
    }
    Ok(tensor)
}

/// The same matrix, column after column in memory. Products with activations collect its columns: from rows, that is a cache line
/// for every number, and a tenth of an evaluation. What is no matrix of rows in the processor's memory is left as it is.
pub(crate) fn by_columns(x: &Tensor) -> candle_core::Result<Tensor> {
    let turned = {
        let (storage, layout) = x.storage_and_layout();
        let (Some((from, to)), Storage::Cpu(CpuStorage::F32(values))) = (layout.contiguous_offsets(), &*storage) else {
            return Ok(x.clone());
        };
        let (values, (rows, columns)) = (&values[from..to], layout.shape().dims2()?);
        let mut turned = vec![0f32; values.len()];
        turned.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(band, out)| {
            for tile in (0..rows).step_by(TILE) {
                for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                    for row in tile..rows.min(tile + TILE) {
                        out[row] = values[row * columns + band * TILE + column];
                    }
                }
            }
        });
        Tensor::from_vec(turned, (columns, rows), &Device::Cpu)?
    };
    turned.t()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_matrix_is_the_same_matrix() {
        for (rows, columns) in [(1, 1), (16, 16), (33, 20), (5, 47), (1, 40), (40, 1)] {
            let values: Vec<f32> = (0..rows * columns).map(|v| v as f32).collect();
            let x = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
            let turned = by_columns(&x).unwrap();
            assert_eq!(turned.to_vec2::<f32>().unwrap(), x.to_vec2::<f32>().unwrap());
            assert_eq!(turned.stride(), [1, rows]);
            // What is turned already stays.
            if rows > 1 && columns > 1 {
                assert_eq!(by_columns(&turned).unwrap().stride(), turned.stride());
            }
        }
    }
}
