//! PIQA: `goal`, `sol1`, `sol2`, `label` (0 or 1).

use super::question_and_answer;
use crate::{Error, Form, Item, Row};

pub(crate) fn piqa(row: Row<'_>) -> Result<Item, Error> {
    let choices = vec![row.text("sol1")?.to_owned(), row.text("sol2")?.to_owned()];
    let context = question_and_answer(row.text("goal")?);
    Ok(Item::of(Form::Choices { context, choices, right: vec![row.choice("label", 0, 2)?] }))
}
