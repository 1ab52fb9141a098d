//! What a model's answers are worth.

use crate::{Form, Metric, Question, Task, number};
use serde::Serialize;
use std::collections::BTreeMap;

/// How likely a continuation is after its context.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Likelihood {
    /// Sum over its tokens of the natural logarithm of their probability.
    pub log_likelihood: f64,
    /// Each of its tokens is the likeliest one in its place.
    pub greedy: bool,
    /// Its tokens.
    pub tokens: usize,
}

/// All that a model answered to a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Of every continuation of every request, in order.
    pub likelihoods: Vec<Likelihood>,
    /// What was generated.
    pub text: String,
}

/// A choice's score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// What the model said.
    #[serde(flatten)]
    pub likelihood: Likelihood,
    /// Characters of what is scored, without the space before it.
    pub characters: usize,
}

/// What lies behind the values of an [`Outcome`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// Of a question with choices.
    Choices {
        /// The likeliest choice, from 0.
        prediction: usize,
        /// The likeliest for its length.
        prediction_norm: usize,
        /// The right ones.
        right: Vec<usize>,
        /// The score of each.
        scores: Vec<Score>,
    },
    /// Of a word that was to be foretold.
    LastWord {
        /// The word.
        word: String,
        /// Its score.
        #[serde(flatten)]
        likelihood: Likelihood,
    },
    /// Of a generated solution.
    Text {
        /// All of it.
        text: String,
        /// Its number after `#### `.
        strict: Option<String>,
        /// Its last number.
        flexible: Option<String>,
        /// The right number.
        right: String,
    },
}

/// How a question was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its row in the file, from 0.
    pub row: usize,
    /// Its subject, where the task has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What lies behind the values.
    #[serde(flatten)]
    pub detail: Detail,
    /// Its part of each metric, by name: a mark from 0 to 1, or a log-likelihood where the metric is a perplexity.
    pub values: BTreeMap<&'static str, f64>,
}

impl Question {
    /// Judges an answer that has a likelihood for each continuation of [`Question::requests`], or a text.
    pub(crate) fn judge(&self, task: Task, answer: Answer) -> Outcome {
        let Answer { likelihoods, text } = answer;
        let detail = match &self.item.form {
            Form::Choices { choices, right, .. } => choices_detail(choices, right.clone(), &likelihoods),
            Form::Contexts { contexts, continuation, right } => {
                choices_detail(&vec![continuation.clone(); contexts.len()], vec![*right], &likelihoods)
            }
            Form::LastWord { word, .. } => Detail::LastWord { word: word.clone(), likelihood: likelihoods[0] },
            Form::Problem { solution, .. } => Detail::Text {
                strict: number::strict(&text).map(number::normalised),
                flexible: number::flexible(&text).map(number::normalised),
                right: number::normalised(solution),
                text,
            },
        };
        let values = task.metrics().iter().map(|metric| (metric.name(), value(*metric, &detail))).collect();
        Outcome { row: self.row, subject: self.item.subject.clone(), detail, values }
    }
}

fn choices_detail(choices: &[String], right: Vec<usize>, likelihoods: &[Likelihood]) -> Detail {
    let score =
        |(choice, likelihood): (&String, &Likelihood)| Score { likelihood: *likelihood, characters: choice.chars().count() };
    let scores: Vec<Score> = choices.iter().zip(likelihoods).map(score).collect();
    Detail::Choices {
        prediction: largest(scores.iter().map(|s| s.likelihood.log_likelihood)),
        prediction_norm: largest(scores.iter().map(|s| s.likelihood.log_likelihood / s.characters as f64)),
        right,
        scores,
    }
}

/// The place of the largest value, the first of equal ones.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let first = (0, f64::NEG_INFINITY);
    values.enumerate().fold(first, |best, (place, value)| if value > best.1 { (place, value) } else { best }).0
}

fn value(metric: Metric, detail: &Detail) -> f64 {
    let mark = |right: bool| f64::from(u8::from(right));
    match (metric, detail) {
        (Metric::Acc, Detail::Choices { prediction, right, .. }) => mark(right.contains(prediction)),
        (Metric::AccNorm, Detail::Choices { prediction_norm, right, .. }) => mark(right.contains(prediction_norm)),
        (Metric::Mc2, Detail::Choices { right, scores, .. }) => true_mass(right, scores),
        (Metric::Acc, Detail::LastWord { likelihood, .. }) => mark(likelihood.greedy),
        (Metric::Perplexity, Detail::LastWord { likelihood, .. }) => likelihood.log_likelihood,
        (Metric::ExactMatchStrict, Detail::Text { strict, right, .. }) => mark(strict.as_ref() == Some(right)),
        (Metric::ExactMatchFlexible, Detail::Text { flexible, right, .. }) => mark(flexible.as_ref() == Some(right)),
        _ => unreachable!("a task's metrics are those of its form"),
    }
}

/// The share of the right choices in the probability of all.
fn true_mass(right: &[usize], scores: &[Score]) -> f64 {
    let logs = scores.iter().map(|s| s.likelihood.log_likelihood);
    // Shares do not change with a common factor; without this one all of them could be zero.
    let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    let each: Vec<f64> = logs.map(|log| (log - most).exp()).collect();
    right.iter().map(|&r| each[r]).sum::<f64>() / each.iter().sum::<f64>()
}
