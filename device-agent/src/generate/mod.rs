//! Text, from tokens to tokens, with the model that would be measured.
//!
//! Contract: what comes out is told token by token as it is made. The host keeps the tokenizer; nothing here knows a letter.

mod job;
mod text;

pub(crate) use job::check_job;
pub(crate) use text::write;
