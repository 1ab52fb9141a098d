//! `MathQA`: `Problem`, `options` (one text: `a ) 38 , b ) 27.675 , c ) 30 , d ) 31 , e ) none`), `correct` (a letter).

use super::question_and_answer;
use crate::{Error, Form, Item, Row};

const LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Stands between a letter and its option.
const PAREN: &str = " ) ";

pub(crate) fn mathqa(row: Row<'_>) -> Result<Item, Error> {
    let (problem, options, correct) = (row.text("Problem")?, row.text("options")?, row.text("correct")?);
    let choices = split(options);
    let right = LETTERS.iter().position(|letter| *letter == correct);
    let right = right.ok_or_else(|| row.problem("correct", format!("is `{correct}`, no letter from a to e")))?;
    if right >= choices.len() {
        return Err(row.problem("options", format!("has {} options, and `{correct}` is the right one", choices.len())));
    }
    Ok(Item::of(Form::Choices { context: question_and_answer(problem), choices, right: vec![right] }))
}

/// Options a to d end before the next comma and space, option e at the end of the text.
fn split(options: &str) -> Vec<String> {
    let (mut out, mut rest) = (Vec::new(), options);
    while let Some(letter) = rest.chars().next() {
        let option = rest[letter.len_utf8()..].strip_prefix(PAREN).and_then(|text| match letter {
            'a'..='d' => text.split_once(", ").filter(|(option, _)| !option.contains('\n')),
            'e' => Some(text.strip_suffix('\n').unwrap_or(text)).filter(|text| !text.contains('\n')).map(|text| (text, "")),
            _ => None,
        });
        match option {
            Some((option, after)) => {
                out.push(option.trim_end_matches([' ', ',']).to_owned());
                rest = after;
            }
            None => rest = &rest[letter.len_utf8()..],
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split() {
        assert_eq!(
            split("a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none"),
            ["38", "27.675", "30", "data inadequate", "none"]
        );
        // A comma within a number has no space after it.
        assert_eq!(
            split("a ) rs . 1,200 , b ) 5 : 2 , c ) [ 1 ] , d ) - , e ) a , b"),
            ["rs . 1,200", "5 : 2", "[ 1 ]", "-", "a , b"]
        );
        assert_eq!(split("no options é"), Vec::<String>::new());
    }
}
