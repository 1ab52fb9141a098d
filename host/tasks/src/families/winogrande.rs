//! `WinoGrande`: `sentence` with a blank `_`, `option1`, `option2`, `answer` (1 or 2).
//!
//! What follows the blank is scored after the sentence so far with either option in it.

use crate::{Error, Form, Item, Row};

pub(crate) fn winogrande(row: Row<'_>) -> Result<Item, Error> {
    let sentence = row.text("sentence")?;
    let (before, after) = sentence.split_once('_').ok_or_else(|| row.problem("sentence", "has no blank `_`"))?;
    let continuation = after.trim();
    if continuation.is_empty() {
        return Err(row.problem("sentence", "ends with its blank: nothing is left to be scored"));
    }
    let contexts = vec![format!("{before}{}", row.text("option1")?), format!("{before}{}", row.text("option2")?)];
    Ok(Item::of(Form::Contexts { contexts, continuation: continuation.to_owned(), right: row.choice("answer", 1, 2)? }))
}
