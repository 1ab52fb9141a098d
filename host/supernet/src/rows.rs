//! Logits row by row: they exist for a block of rows at a time, and each row is looked at once.

use crate::{Error, Network};
use candle_core::Tensor;
use rayon::prelude::*;
use std::cell::Cell;

/// Bytes of logits that exist at one time. The matrix that makes them is gone through once for each block of them: few blocks are
/// worth more than a small one.
const BYTES: usize = 128 << 20;
/// Rows of a block, however long they are.
const LEAST_ROWS: usize = 16;

thread_local! {
    /// Where a thread had its last logits, and those beside them: memory that is new has to be cleared by the system first, which
    /// takes a twentieth of an evaluation.
    static BUFFERS: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

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
    let most = (BYTES / (vocabulary * size_of::<f32>())).max(LEAST_ROWS);
    let [mut logits, mut beside] = BUFFERS.take();
    let mut out = Vec::with_capacity(count);
    for first in (0..count).step_by(most) {
        let rows = most.min(count - first);
        network.logits_into(&hidden.narrow(0, first, rows)?, &mut logits)?;
        let others = match other {
            None => &logits,
            Some(other) => {
                network.logits_into(&other.narrow(0, first, rows)?, &mut beside)?;
                &beside
            }
        };
        let pairs = logits.par_chunks_exact(vocabulary).zip(others.par_chunks_exact(vocabulary)).enumerate();
        let made: Vec<T> = pairs.map(|(row, (values, others))| of(first + row, values, others)).collect();
        out.extend(made);
    }
    BUFFERS.set([logits, beside]);
    Ok(out)
}

/// Mean, and sample standard deviation over the square root of the number; no error of a single value.
pub(crate) fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}
