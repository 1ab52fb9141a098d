//! The figures of a task.

use crate::{Estimate, ExampleSource, Outcome, Plan, Task};
use serde::Serialize;
use std::collections::BTreeMap;

/// Figures by the metric's name.
type Metrics = BTreeMap<&'static str, Estimate>;

/// The figures of a task: each metric over all questions (of MMLU the micro average), and by subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The task.
    pub name: &'static str,
    /// Number of questions.
    pub n: usize,
    /// Rows of the file that are no questions but headings, left by joined CSV files.
    pub skipped_rows: usize,
    /// Worked examples before each.
    pub shots: usize,
    /// Where those came from.
    pub examples: ExampleSource,
    /// The metric that stands for the task.
    pub primary: &'static str,
    /// The figures.
    pub metrics: Metrics,
    /// The figures of each subject, where the task has subjects.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, SubjectReport>,
}

/// The figures of one subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectReport {
    /// Number of questions.
    pub n: usize,
    /// The figures.
    pub metrics: Metrics,
}

impl Report {
    /// Sums up the outcomes of a plan.
    pub fn new(plan: &Plan, outcomes: &[Outcome]) -> Self {
        let mut by_subject: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            if let Some(subject) = &outcome.subject {
                by_subject.entry(subject).or_default().push(outcome);
            }
        }
        let subject = |(name, of): (&str, Vec<&Outcome>)| {
            (name.to_owned(), SubjectReport { n: of.len(), metrics: metrics(plan.task, &of) })
        };
        Self {
            name: plan.task.name(),
            n: outcomes.len(),
            skipped_rows: plan.skipped,
            shots: plan.shots,
            examples: plan.examples,
            primary: plan.task.metrics()[0].name(),
            metrics: metrics(plan.task, &outcomes.iter().collect::<Vec<_>>()),
            subjects: by_subject.into_iter().map(subject).collect(),
        }
    }

    /// The figure of the metric that stands for the task.
    ///
    /// # Panics
    /// If nothing was asked.
    pub fn leading(&self) -> Estimate {
        self.metrics[&self.primary]
    }
}

fn metrics(task: Task, outcomes: &[&Outcome]) -> Metrics {
    let figure = |metric: &crate::Metric| {
        let values: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.values.get(metric.name()).copied()).collect();
        Some((metric.name(), metric.of(&values)?))
    };
    task.metrics().iter().filter_map(figure).collect()
}
