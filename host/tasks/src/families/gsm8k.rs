//! GSM8K: `question`, `answer`, a solution in prose that ends in `#### ` and the number.

use super::question_and_answer;
use crate::{Error, Form, Item, Row, number};

pub(crate) fn gsm8k(row: Row<'_>) -> Result<Item, Error> {
    let (question, solution) = (row.text("question")?, row.text("answer")?);
    if number::strict(solution).is_none() {
        return Err(row.problem("answer", "has no `#### ` with a number"));
    }
    Ok(Item::of(Form::Problem { context: question_and_answer(question), solution: solution.to_owned() }))
}
