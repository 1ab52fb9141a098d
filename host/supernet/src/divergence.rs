//! How far a sub-network's predictions are from the full network's: the Kullback-Leibler divergence of the next token.
//!
//! It is a cheap stand-in for quality: it needs no labels, uses every entry of the vocabulary instead of the one that came,
//! and so tells two candidates apart on fewer tokens than a perplexity does.

use crate::{
    Error, Evaluation, Network, Quality,
    ops::log_sum_exp,
    quality::negative_log_likelihood,
    rows::{map_row_pairs, mean_and_error},
};
use candle_core::Tensor;
use edgewise_onnx::SubNetwork;

/// What the full network makes of a text. Hidden states are kept, `[tokens, width]` of each window; logits, which are larger by
/// the ratio of vocabulary to width, are made of them block by block.
pub struct Reference {
    hidden: Vec<Tensor>,
}

/// A divergence from the full network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Mean of `KL(full || sub-network)` per token, in nats.
    pub kl: f64,
    /// Its standard error, tokens taken as independent; none for a single token.
    pub stderr: Option<f64>,
    /// Tokens.
    pub tokens: usize,
}

impl Reference {
    /// Runs the full network once.
    ///
    /// # Errors
    /// [`Error::ShortText`], candle's errors.
    pub fn new(network: &Network, full: &SubNetwork, on: &Evaluation) -> Result<Self, Error> {
        let windows = on.text.windows(on.windows)?;
        let hidden = windows.into_iter().map(|window| network.hidden(full, &window[..window.len() - 1], None));
        Ok(Self { hidden: hidden.collect::<Result<_, _>>()? })
    }
}

/// As [`crate::evaluate`], with the divergence from the full network, which `reference` must have seen the same text with.
///
/// # Errors
/// [`Error::ShortText`], [`Error::Logits`] if the network's numbers overflow.
pub fn evaluate_against(
    network: &Network,
    sub: &SubNetwork,
    on: &Evaluation,
    reference: &Reference,
) -> Result<(Quality, Divergence), Error> {
    let (mut total, mut each) = (0.0, Vec::new());
    for (window, full) in on.text.windows(on.windows)?.into_iter().zip(&reference.hidden) {
        let hidden = network.hidden(sub, &window[..window.len() - 1], None)?;
        let targets = &window[1..];
        let rows = map_row_pairs(network, &hidden, Some(full), |row, logits, full| {
            (negative_log_likelihood(logits, targets[row]), divergence(full, logits))
        })?;
        total += rows.iter().map(|(nll, _)| nll).sum::<f64>();
        each.extend(rows.into_iter().map(|(_, kl)| kl));
    }
    let quality = Quality::of(total, each.len())?;
    let (kl, stderr) = mean_and_error(&each);
    if !kl.is_finite() {
        return Err(Error::Logits);
    }
    Ok((quality, Divergence { kl, stderr, tokens: each.len() }))
}

/// `KL(p || q)` of the distributions that two rows of logits stand for, in nats.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_sum_exp(p, 1.0), log_sum_exp(q, 1.0));
    // Sum of p (log p - log q): the logits' difference weighted by p, and what the two sums differ by.
    let weighted: f64 = p.iter().zip(q).map(|(&p, &q)| (f64::from(p) - log_p).exp() * f64::from(p - q)).sum();
    // Rounding may leave a little less than nothing.
    (weighted - (log_p - log_q)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_by_hand() {
        let logits = |shares: &[f64]| shares.iter().map(|share| share.ln() as f32 + 3.0).collect::<Vec<f32>>();
        let (p, q) = (logits(&[0.5, 0.25, 0.25]), logits(&[0.25, 0.5, 0.25]));
        assert!((divergence(&p, &q) - 0.25 * 2f64.ln()).abs() < 1e-6);
        assert!(divergence(&p, &p).abs() < 1e-9);
        let sharp = logits(&[1.0 - 1e-6, 5e-7, 5e-7]);
        assert!((divergence(&sharp, &q) - 4f64.ln()).abs() < 1e-4);
    }
}
