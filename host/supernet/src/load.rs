//! A tensor of a file as the network computes with it.

use crate::Error;
use candle_core::{DType, Device, Tensor};
use edgewise_onnx::{ElementType, TensorView};

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
            candle_core::Storage::Cpu(cpu) => cpu.as_slice::<f32>()?.iter().filter(|v| !v.is_finite()).count(),
            _ => 0,
        }
    };
    if count > 0 {
        return Err(Error::NotFinite { name: name.to_owned(), count });
    }
    Ok(tensor)
}
