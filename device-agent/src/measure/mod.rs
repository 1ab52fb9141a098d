//! What a worker does with a loaded model: check it, warm it, time it.
//!
//! Contract: everything here runs on one thread and touches neither files nor the network between two readings of the clock.
//! It takes the model and the clock as traits, so that the rules of when to stop are tested without either.

mod job;
mod pace;
mod points;
mod probe;
mod session;

pub(crate) use job::check_job;
pub(crate) use session::{EnergyRun, Findings, Moment, Session};
