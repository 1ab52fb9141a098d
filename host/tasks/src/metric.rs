//! What is reported of many questions: a mean and how far off it may be.

use serde::Serialize;

/// A figure of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Share of questions whose likeliest answer is right.
    Acc,
    /// The same, log-likelihoods divided by the answers' lengths in characters.
    AccNorm,
    /// Mean share of probability on the true answers.
    Mc2,
    /// Perplexity of the words that were to be foretold.
    Perplexity,
    /// Share of solutions whose number after `#### ` is right.
    ExactMatchStrict,
    /// Share of solutions whose last number is right.
    ExactMatchFlexible,
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Sample standard deviation over the square root of the number of questions; none for a single one.
    pub stderr: Option<f64>,
}

impl Metric {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::Mc2 => "mc2",
            Self::Perplexity => "perplexity",
            Self::ExactMatchStrict => "exact_match_strict",
            Self::ExactMatchFlexible => "exact_match_flexible",
        }
    }

    /// The figure for what [`crate::Outcome`] keeps of each question: for a perplexity the log-likelihoods, else the values
    /// themselves. A perplexity's error is carried over from the mean's to first order. `None` without values.
    pub fn of(self, values: &[f64]) -> Option<Estimate> {
        let mean = Estimate::mean(values)?;
        Some(match self {
            Self::Perplexity => {
                let value = (-mean.value).exp();
                Estimate { value, stderr: mean.stderr.map(|stderr| value * stderr) }
            }
            _ => mean,
        })
    }
}

impl Estimate {
    fn mean(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
        match values.len() {
            0 => None,
            1 => Some(Self { value, stderr: None }),
            _ => Some(Self { value, stderr: Some((squares / (n - 1.0) / n).sqrt()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_their_errors() {
        let found = Metric::Acc.of(&[1.0, 0.0, 1.0, 1.0]).unwrap();
        // Sample variance 0.25.
        assert_eq!(found, Estimate { value: 0.75, stderr: Some(0.25) });
        assert_eq!(Metric::Acc.of(&[1.0]), Some(Estimate { value: 1.0, stderr: None }));
        assert_eq!(Metric::Acc.of(&[]), None);
        let found = Metric::Perplexity.of(&[-1.0, -3.0]).unwrap();
        assert!((found.value - 2f64.exp()).abs() < 1e-12);
        assert!((found.stderr.unwrap() - 2f64.exp()).abs() < 1e-12, "{found:?}");
    }
}
