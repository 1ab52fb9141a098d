//! `host finetune`: trains a super-network and writes a new one.

mod args;
mod run;
mod shown;

pub(crate) use args::Args;
