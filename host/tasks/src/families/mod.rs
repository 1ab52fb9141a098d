//! How rows of each data set become questions. One file per family; each says which columns it reads.

mod arc;
mod boolq;
mod gsm8k;
mod hellaswag;
mod lambada;
mod mathqa;
mod mmlu;
mod piqa;
mod truthfulqa;
mod winogrande;

pub(crate) use arc::arc;
pub(crate) use boolq::boolq;
pub(crate) use gsm8k::gsm8k;
pub(crate) use hellaswag::hellaswag;
pub(crate) use lambada::lambada;
pub(crate) use mathqa::mathqa;
pub(crate) use mmlu::{mmlu, mmlu_preface};
pub(crate) use piqa::piqa;
pub(crate) use truthfulqa::truthfulqa;
pub(crate) use winogrande::winogrande;

/// A question in prose and the word that asks for its answer.
fn question_and_answer(question: &str) -> String {
    format!("Question: {question}\nAnswer:")
}
