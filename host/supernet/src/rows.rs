//! Logits row by row: they exist for a block of rows at a time, and each row is looked at once.

use crate::{Error, Network};
use candle_core::{DType, Device, Storage, Tensor};
use rayon::prelude::*;

/// Rows of logits that exist at one time.
const ROWS: usize = 128;

/// What `of` makes of each row of logits, given its number and its values. Results come in the order of the rows, whatever
/// threads made them.
pub(crate) fn map_rows<T: Send>(
    network: &Network,
    hidden: &Tensor,
    of: impl Fn(usize, &[f32]) -> T + Sync,
) -> Result<Vec<T>, Error> {
    map_row_pairs(network, hidden, None, |row, values, _| of(row, values))
}

/// Likewise with the logits of another hidden state beside each row, where there is one.
pub(crate) fn map_row_pairs<T: Send>(
    network: &Network,
    hidden: &Tensor,
    other: Option<&Tensor>,
    of: impl Fn(usize, &[f32], &[f32]) -> T + Sync,
) -> Result<Vec<T>, Error> {
    let (count, vocabulary) = (hidden.dim(0)?, network.config().vocab_size);
    let mut out = Vec::with_capacity(count);
    for first in (0..count).step_by(ROWS) {
        let rows = ROWS.min(count - first);
        // On the processor in single precision, wherever and however the network computes.
        let block = |of: &Tensor| -> Result<Tensor, Error> {
            let logits = network.logits(&of.narrow(0, first, rows)?)?;
            Ok(logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?)
        };
        let logits = block(hidden)?;
        let beside = other.map(block).transpose()?;
        let (storage, _) = logits.storage_and_layout();
        let held = beside.as_ref().map(Tensor::storage_and_layout);
        let values = numbers(&storage)?;
        let others = held.as_ref().map_or(Ok(values), |(storage, _)| numbers(storage))?;
        let pairs = values.par_chunks_exact(vocabulary).zip(others.par_chunks_exact(vocabulary)).enumerate();
        let made: Vec<T> = pairs.map(|(row, (values, others))| of(first + row, values, others)).collect();
        out.extend(made);
    }
    Ok(out)
}

/// All numbers of a tensor that was just made, and so lies in its storage from the beginning without gaps.
fn numbers(storage: &Storage) -> Result<&[f32], Error> {
    match storage {
        Storage::Cpu(cpu) => Ok(cpu.as_slice::<f32>()?),
        _ => Err(Error::Logits),
    }
}

/// Mean, and sample standard deviation over the square root of the number; no error of a single value.
pub(crate) fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}
