//! The search loop: one dispatcher owns the study, workers evaluate and measure and talk to it over channels.

mod dispatcher;
mod evaluator;
mod measurer;
mod plan;

pub(crate) use dispatcher::{Dispatcher, Observer};
pub(crate) use evaluator::{Evaluator, sub_network};
pub(crate) use measurer::Measurer;
pub(crate) use plan::{Lane, Schedule};
