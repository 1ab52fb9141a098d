//! Reference logits for the identity check of an artifact.

use crate::{Error, Network};
use edgewise_onnx::{ProbeFile, ProbeStep, SubNetwork};

/// Tokens of the prefill, and of each step after it.
const PREFILL: usize = 24;
const STEPS: usize = 4;
/// Vocabulary entries that are compared: the largest logits, and others spread evenly.
const LARGEST: usize = 32;
const SPREAD: usize = 96;
/// Largest accepted difference, as a share of the largest logit of the reference.
const TOLERANCE: f32 = 2e-3;

impl Network {
    /// Computes reference logits of a sub-network: a prefill of a fixed pseudo-random prompt and a few single tokens, so that
    /// the key/value cache is checked as well.
    ///
    /// # Errors
    /// candle's; [`Error::Logits`] if a logit is not finite.
    pub fn probe(&self, sub: &SubNetwork) -> Result<ProbeFile, Error> {
        let vocabulary = self.config().vocab_size;
        let total = (PREFILL + STEPS).min(self.config().max_positions);
        let tokens: Vec<u32> =
            (0..total as u64).map(|i| (i * 7919 + 13).wrapping_mul(2_654_435_761) as u32 % vocabulary as u32).collect();
        let hidden = self.hidden(sub, &tokens, None)?;
        let first = total - STEPS.min(total - 1);
        let ends = std::iter::once(first).chain(first + 1..=total);
        let (mut steps, mut start, mut largest) = (Vec::new(), 0, 0f32);
        for end in ends {
            let logits = self.logits(&hidden.narrow(0, end - 1, 1)?)?.squeeze(0)?.to_vec1::<f32>()?;
            if logits.iter().any(|v| !v.is_finite()) {
                return Err(Error::Logits);
            }
            largest = logits.iter().fold(largest, |most, v| most.max(v.abs()));
            steps.push(ProbeStep { feed: tokens[start..end].to_vec(), expect: sample(&logits) });
            start = end;
        }
        Ok(ProbeFile { steps, tolerance: TOLERANCE * largest.max(1.0) })
    }
}

fn sample(logits: &[f32]) -> Vec<(u32, f32)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    let spread = (0..SPREAD).map(|i| (i * logits.len() / SPREAD) as u32);
    let mut chosen: Vec<u32> = order.into_iter().take(LARGEST).chain(spread).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().map(|entry| (entry, logits[entry as usize])).collect()
}
