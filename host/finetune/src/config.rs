//! The settings of a training: all that its result depends on besides network, data and sub-networks.

use crate::{Error, Schedule};
use edgewise_supernet::{Trainable, ops::Divergence};
use serde::{Deserialize, Serialize};

/// How long a training takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// This many updates of the weights.
    Steps(u64),
    /// This many minutes of wall-clock time, those of earlier runs included; the learning rate follows the clock.
    Minutes(f64),
}

/// Which tokens of an instruction a loss is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    /// Prompt and answer.
    All,
    /// The answer alone.
    Answer,
}

/// How sub-networks learn from the full one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// What is made small.
    pub kind: Divergence,
    /// What both sides' logits are divided by.
    pub temperature: f64,
    /// Weight of the divergence in a sub-network's loss.
    pub weight: f64,
    /// Weight of the cross-entropy in it.
    pub ce_weight: f64,
}

/// Everything else that numbers depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is trained.
    pub trainable: Trainable,
    /// How sub-networks learn from the full one; without it, from the data alone.
    pub distillation: Option<Distillation>,
    /// Learning rates.
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices (Loshchilov and Hutter, arXiv 1711.05101).
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 leaves them as they are.
    pub clip: f64,
    /// Sequences that share their drawn sub-networks.
    pub batch: usize,
    /// Groups of `batch` sequences in one update, each with draws of its own.
    pub accumulate: usize,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// How long.
    pub budget: Budget,
    /// Which tokens of instructions count.
    pub loss_on: LossOn,
    /// Seed of the adapters, the order of the data, the masks and the draws.
    pub seed: u64,
}

impl Settings {
    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the first value that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::Settings(what));
        if let Some(Distillation { temperature, weight, ce_weight, .. }) = self.distillation {
            if !(temperature.is_finite() && temperature > 0.0) {
                return bad(format!("a temperature of {temperature} is not above 0"));
            }
            let weights = [weight, ce_weight];
            if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || weights.iter().sum::<f64>() <= 0.0 {
                return bad(format!("weights {ce_weight} and {weight} of a loss must be at least 0, and one above"));
            }
        }
        let Schedule { peak, floor, .. } = self.schedule;
        if !(peak.is_finite() && peak > 0.0 && (0.0..=1.0).contains(&floor)) {
            return bad(format!("a learning rate of {peak} that falls to {floor} of it cannot be"));
        }
        for (name, value) in [("weight decay", self.weight_decay), ("norm for clipping", self.clip)] {
            if !value.is_finite() || value < 0.0 {
                return bad(format!("a {name} of {value} is not at least 0"));
            }
        }
        for (name, value) in [("batch", self.batch), ("accumulate", self.accumulate), ("sequence", self.sequence)] {
            if value == 0 {
                return bad(format!("`{name}` is 0"));
            }
        }
        match self.budget {
            Budget::Steps(0) => bad("no step is asked for".into()),
            Budget::Minutes(minutes) if !(minutes.is_finite() && minutes > 0.0) => {
                bad(format!("{minutes} minutes are no time to train in"))
            }
            _ => Ok(()),
        }
    }

    /// Sequences of one update.
    pub fn sequences_per_step(&self) -> u64 {
        self.batch as u64 * self.accumulate as u64
    }
}
