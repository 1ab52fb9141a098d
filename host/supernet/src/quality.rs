//! Perplexity on held-out text, as the search sees it; other definitions are in [`crate::perplexity`].

use crate::{Error, Network, Text, Windows, ops::log_sum_exp, rows::map_rows};
use edgewise_onnx::SubNetwork;
use serde::{Deserialize, Serialize};

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

impl Quality {
    /// Of the sum of negative log-likelihoods over some tokens.
    ///
    /// # Errors
    /// [`Error::Logits`] if it is not finite.
    pub(crate) fn of(total: f64, tokens: usize) -> Result<Self, Error> {
        let nll = total / tokens as f64;
        if nll.is_finite() { Ok(Self { perplexity: nll.exp(), nll, tokens }) } else { Err(Error::Logits) }
    }
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
        // A parallel sum would depend in its last bits on how the threads happened to share the work.
        let each = map_rows(network, &hidden, |row, logits| negative_log_likelihood(logits, targets[row]))?;
        total += each.iter().sum::<f64>();
        tokens += targets.len();
    }
    Quality::of(total, tokens)
}

/// Of a token, given the logits in its place.
pub(crate) fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    log_sum_exp(logits, 1.0) - f64::from(logits[token as usize])
}
