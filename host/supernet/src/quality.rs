//! Perplexity on held-out text.

use crate::{Error, Network, Text, Windows, ops::log_sum_exp};
use candle_core::{DType, Device, Storage, Tensor};
use edgewise_onnx::SubNetwork;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows of logits that exist at one time.
const ROWS: usize = 128;

/// What to evaluate on.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The held-out text.
    pub text: Text,
    /// Which windows of it.
    pub windows: Windows,
}

/// How well a network predicts a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Mean negative log-likelihood per scored token, in nats.
    pub nll: f64,
    /// Scored tokens: all but the first of each window.
    pub tokens: usize,
}

/// Scores every token but the first of each window.
///
/// # Errors
/// [`Error::ShortText`], [`Error::Logits`] if the network's numbers overflow.
pub fn evaluate(network: &Network, sub: &SubNetwork, on: &Evaluation) -> Result<Quality, Error> {
    let (mut total, mut tokens) = (0.0, 0);
    for window in on.text.windows(on.windows)? {
        let hidden = network.hidden(sub, &window[..window.len() - 1], None)?;
        let targets = &window[1..];
        for (block, targets) in targets.chunks(ROWS).enumerate() {
            let rows = hidden.narrow(0, block * ROWS, targets.len())?;
            total += negative_log_likelihood(&network.logits(&rows)?, targets)?;
        }
        tokens += targets.len();
    }
    let nll = total / tokens as f64;
    if !nll.is_finite() {
        return Err(Error::Logits);
    }
    Ok(Quality { perplexity: nll.exp(), nll, tokens })
}

/// Sum over rows of log-sum-exp minus the target's logit.
fn negative_log_likelihood(logits: &Tensor, targets: &[u32]) -> Result<f64, Error> {
    let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    let vocabulary = logits.dim(1)?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { return Err(Error::Logits) };
    let start = layout.start_offset();
    let values = &cpu.as_slice::<f32>()?[start..start + vocabulary * targets.len()];
    let rows = values.par_chunks_exact(vocabulary).zip(targets);
    let each: Vec<f64> = rows.map(|(row, &target)| log_sum_exp(row, 1.0) - f64::from(row[target as usize])).collect();
    // A parallel sum would depend in its last bits on how the threads happened to share the work.
    Ok(each.iter().sum())
}
