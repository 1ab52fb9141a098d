//! `HellaSwag`: `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
//!
//! Texts of one of its sources carry remarks in brackets and marks of titles; they are cleaned as lm-evaluation-harness does.

use crate::{Error, Form, Item, Row};

pub(crate) fn hellaswag(row: Row<'_>) -> Result<Item, Error> {
    let (activity, first, second) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
    let choices: Vec<String> = row.texts("endings")?.iter().map(|ending| cleaned(ending)).collect();
    let right = row.choice("label", 0, choices.len())?;
    let context = cleaned(&format!("{activity}: {first} {}", capitalised(second)));
    Ok(Item::of(Form::Choices { context, choices, right: vec![right] }))
}

/// The first letter large, all others small.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters.as_str().to_lowercase().chars()).collect())
}

fn cleaned(text: &str) -> String {
    without_remarks(&text.trim().replace(" [title]", ". ")).replace("  ", " ")
}

/// Cuts out what stands in brackets. A remark does not go over the end of a line.
fn without_remarks(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => {
                out.push_str(&rest[..open]);
                rest = &inside[end + 1..];
            }
            _ => {
                out.push_str(&rest[..=open]);
                rest = inside;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned() {
        for (text, clean) in [
            ("  How to tie [title] Take a rope. [step] Pull.", "How to tie. Take a rope. Pull."),
            ("a [b [c] d] e", "a d] e"),
            ("[header] First", " First"),
            ("an [open remark", "an [open remark"),
            ("over [the\nend] of [x]a line", "over [the\nend] of a line"),
            ("a]b[", "a]b["),
        ] {
            assert_eq!(cleaned(text), clean, "{text}");
        }
        assert_eq!(capitalised("éa Bird"), "Éa bird");
        assert_eq!(capitalised(""), "");
    }
}
