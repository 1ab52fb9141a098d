//! ARC: `question`, `choices.text`, `choices.label`, `answerKey`; or, as first published, `question.stem` and
//! `question.choices`, a list of objects with `text` and `label`.
//!
//! The answers themselves are scored, not their letters; labels are letters in some rows and digits in others.

use super::question_and_answer;
use crate::{Error, Form, Item, Row};

pub(crate) fn arc(row: Row<'_>) -> Result<Item, Error> {
    let (question, choices, labels) = if row.find("question.stem").is_some() {
        let (column, list) = ("question.choices", row.list("question.choices")?);
        let part = |name: &str| {
            let texts: Option<Vec<String>> = list.iter().map(|choice| choice.get(name)?.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| row.problem(column, format!("holds a choice without a text as `{name}`")))
        };
        (row.text("question.stem")?, part("text")?, part("label")?)
    } else {
        (row.text("question")?, row.texts("choices.text")?, row.texts("choices.label")?)
    };
    let key = row.text("answerKey")?;
    let right = labels.iter().position(|label| label == key).filter(|right| *right < choices.len());
    let right = right.ok_or_else(|| row.problem("answerKey", format!("is `{key}`, the choices are {}", labels.join(", "))))?;
    Ok(Item::of(Form::Choices { context: question_and_answer(question), choices, right: vec![right] }))
}
