//! Readers of the forms that tasks' files have. Bytes from outside: whatever they are, the answer is rows or an error.

mod guard;
mod json;
mod pages;
mod parquet;
mod source;

pub(crate) use source::rows;
