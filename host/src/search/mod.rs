//! The search loop: one dispatcher owns the study, an evaluator and one lane per device work and talk to it over channels.

mod agenda;
mod dispatcher;
mod evaluator;
mod lane;
mod plan;
mod state;

pub(crate) use agenda::Place;
pub(crate) use dispatcher::{Dispatcher, Explorer, Observer, OpenStudy};
pub(crate) use evaluator::{Evaluator, Tasks, candidate, parameters, sub_network};
pub(crate) use lane::{Found, Lane};
pub(crate) use plan::Schedule;
