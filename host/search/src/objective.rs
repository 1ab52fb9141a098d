//! What a study minimises.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A quantity that is measured for every candidate. All of them are minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// Perplexity on the held-out text.
    Perplexity,
    /// Mean divergence of the next token's distribution from the full network's on the held-out text, in nats.
    Kl,
    /// One minus the metric that stands for a task, mean over the study's tasks.
    TaskError,
    /// Time to the first token, in milliseconds.
    TtftMs,
    /// Time per output token after the first, in milliseconds.
    TpotMs,
    /// Time of the whole workload, in milliseconds.
    LatencyMs,
    /// Largest resident memory of the process that runs the model, in bytes.
    PeakRssBytes,
    /// Number of parameters.
    Parameters,
}

/// Why a list of objectives was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    /// No objective has this name.
    #[error("unknown objective `{name}`: known are {}", names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A front needs two axes.
    #[error("a search needs at least two objectives, not {found}")]
    TooFew {
        /// How many there were.
        found: usize,
    },
    /// The same objective twice.
    #[error("objective `{0}` is given twice")]
    Repeated(Objective),
}

impl Objective {
    /// Every objective, in the order they are listed for people.
    pub const ALL: [Self; 8] = [
        Self::Perplexity,
        Self::Kl,
        Self::TaskError,
        Self::TtftMs,
        Self::TpotMs,
        Self::LatencyMs,
        Self::PeakRssBytes,
        Self::Parameters,
    ];

    /// The name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::Kl => "kl",
            Self::TaskError => "task_error",
            Self::TtftMs => "ttft_ms",
            Self::TpotMs => "tpot_ms",
            Self::LatencyMs => "latency_ms",
            Self::PeakRssBytes => "peak_rss_bytes",
            Self::Parameters => "parameters",
        }
    }

    /// Whether it says how good the network is, rather than what it costs.
    pub const fn is_quality(self) -> bool {
        matches!(self, Self::Perplexity | Self::Kl | Self::TaskError)
    }

    /// Whether each device has its own value.
    pub const fn is_per_device(self) -> bool {
        matches!(self, Self::TtftMs | Self::TpotMs | Self::LatencyMs | Self::PeakRssBytes)
    }
}

fn names() -> String {
    Objective::ALL.map(|o| format!("`{}`", o.name())).join(", ")
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let found = Self::ALL.into_iter().find(|o| o.name() == text);
        found.ok_or_else(|| ObjectiveError::Unknown { name: text.to_owned() })
    }
}

/// Reads a comma-separated list such as `perplexity,tpot_ms`.
///
/// # Errors
/// [`ObjectiveError`] for an unknown or repeated name, or fewer than two.
pub fn parse_objectives(text: &str) -> Result<Vec<Objective>, ObjectiveError> {
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let objective = part.parse()?;
        if out.contains(&objective) {
            return Err(ObjectiveError::Repeated(objective));
        }
        out.push(objective);
    }
    if out.len() < 2 { Err(ObjectiveError::TooFew { found: out.len() }) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_names() {
        for objective in Objective::ALL {
            assert_eq!(serde_json::to_value(objective).unwrap(), objective.name());
            assert_eq!(objective.name().parse(), Ok(objective));
        }
    }

    #[test]
    fn lists() {
        assert_eq!(parse_objectives(" tpot_ms , perplexity"), Ok(vec![Objective::TpotMs, Objective::Perplexity]));
        assert_eq!(parse_objectives("tpot_ms").unwrap_err().to_string(), "a search needs at least two objectives, not 1");
        assert_eq!(parse_objectives("tpot_ms,tpot_ms").unwrap_err().to_string(), "objective `tpot_ms` is given twice");
        let unknown = parse_objectives("perplexity,speed").unwrap_err().to_string();
        assert!(
            unknown.starts_with("unknown objective `speed`: known are `perplexity`, `kl`, `task_error`, `ttft_ms`"),
            "{unknown}"
        );
    }
}
