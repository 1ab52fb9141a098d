//! `BoolQ`: `passage`, `question`, and `label` (0 or 1, as in SuperGLUE) or `answer` (true or false).

use crate::{Error, Form, Item, Row};

pub(crate) fn boolq(row: Row<'_>) -> Result<Item, Error> {
    let (passage, question) = (row.text("passage")?, row.text("question")?);
    let right = if row.find("label").is_some() {
        row.choice("label", 0, 2)?
    } else {
        let answer = row.get("answer")?;
        usize::from(answer.as_bool().ok_or_else(|| row.problem("answer", "is neither true nor false"))?)
    };
    // Questions come without their mark.
    let context = format!("{passage}\nQuestion: {question}?\nAnswer:");
    Ok(Item::of(Form::Choices { context, choices: vec!["no".into(), "yes".into()], right: vec![right] }))
}
