//! `host evaluate`: perplexity, divergence and tasks of a model, of a candidate, or of an artifact.

mod args;
mod document;
mod opened;
mod run;
mod tasks;

pub(crate) use args::Args;
