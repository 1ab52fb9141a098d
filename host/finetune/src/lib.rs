//! Fine-tuning of a super-network, so that its sub-networks are worth more before anybody searches them.
//!
//! Contract: each step trains the full network on the data, and then the smallest sub-network and some drawn ones on the same
//! tokens (the sandwich rule: Yu and Huang, arXiv 1903.05134), with the full network's own distribution as their teacher
//! (in-place distillation). Each has a backward pass of its own and only the gradients are kept, so that memory is that of one
//! network. Which sub-networks are drawn is the caller's affair; here is no search, no space and no device.
//!
//! Everything random is a function of the seed and of counters. A run that was stopped and resumed from a checkpoint is, bit
//! for bit, the run that was not (with a budget of minutes: but for the learning rate, which follows the clock).

mod adamw;
mod checkpoint;
mod config;
mod corpus;
mod data;
mod error;
mod grid;
mod log;
mod sandwich;
mod schedule;
mod trainer;
mod validate;

pub use checkpoint::{newest, peek};
pub use config::{Budget, Distillation, LossOn, Settings};
pub use corpus::{Corpus, Example};
pub use data::{Document, read_documents};
pub use error::Error;
pub use grid::{Criterion, calibrate, draw_from};
pub use log::{Look, looks};
pub use sandwich::Sandwich;
pub use schedule::Schedule;
pub use trainer::{Event, Outcome, Run, StepReport, train};
pub use validate::{Point, Size, Validation};
