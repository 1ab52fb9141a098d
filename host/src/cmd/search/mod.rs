//! `host search`: runs or resumes a study.

mod args;
mod baselines;
mod choices;
mod opening;
mod run;
mod shown;
mod tasks;

pub(crate) use args::Args;
