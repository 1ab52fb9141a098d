//! LAMBADA: `text`. Its last word, after the last space, is to be foretold.

use crate::{Error, Form, Item, Row};

pub(crate) fn lambada(row: Row<'_>) -> Result<Item, Error> {
    let text = row.text("text")?;
    let (context, word) =
        text.rsplit_once(' ').filter(|(_, word)| !word.is_empty()).ok_or_else(|| row.problem("text", "has no last word"))?;
    Ok(Item::of(Form::LastWord { context: context.to_owned(), word: word.to_owned() }))
}
