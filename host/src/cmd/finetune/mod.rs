//! `host finetune`: trains a super-network and writes a new one.

mod args;
mod run;
mod shown;
mod students;

pub(crate) use args::Args;
