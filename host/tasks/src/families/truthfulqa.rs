//! `TruthfulQA`, multiple choice with several true answers: `question`, and `mc2_targets` with `choices` and `labels`, or, as first
//! published, with an object of answers and 0 or 1.
//!
//! lm-evaluation-harness puts six worked questions before each, which are prose of the data set's authors; they are not copied
//! here, so figures are comparable among models scored here, not with published ones.

use crate::{Error, Form, Item, Row};

const TARGETS: &str = "mc2_targets";

pub(crate) fn truthfulqa(row: Row<'_>) -> Result<Item, Error> {
    let context = format!("Q: {}\nA:", row.text("question")?);
    let (choices, labels): (Vec<String>, Vec<Option<u64>>) = if row.find("mc2_targets.choices").is_some() {
        let labels = row.list("mc2_targets.labels")?;
        (row.texts("mc2_targets.choices")?, labels.iter().map(serde_json::Value::as_u64).collect())
    } else {
        let targets = row.get(TARGETS)?.as_object().ok_or_else(|| row.problem(TARGETS, "is no object"))?;
        targets.iter().map(|(choice, label)| (choice.clone(), label.as_u64())).unzip()
    };
    if labels.len() != choices.len() || !labels.iter().all(|label| matches!(label, Some(0 | 1))) {
        return Err(row.problem(TARGETS, "has not one label, 0 or 1, for each choice"));
    }
    let right: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == Some(1)).collect();
    if right.is_empty() {
        return Err(row.problem(TARGETS, "has no true choice"));
    }
    Ok(Item::of(Form::Choices { context, choices, right }))
}
