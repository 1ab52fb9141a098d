//! `host search`: runs or resumes a study.

mod args;
mod baselines;
mod choices;
mod opening;
mod run;
mod shown;

pub(crate) use args::Args;
