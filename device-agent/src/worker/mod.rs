//! The worker: a process of its own for each measurement, and the agent's side of it.
//!
//! Contract: a worker gets one order on its standard input, in a control frame, and answers on its own descriptor with
//! control frames that end in an outcome. Whatever a runtime does to the process, crash, allocate without end, hang,
//! reaches the agent as an outcome of that measurement and of nothing else.

mod build;
mod ending;
mod order;
mod process;
mod run;

pub(crate) use build::{onnx_error, read_index};
pub(crate) use order::{Material, Order, Outcome, Plan, Step};
pub(crate) use process::{Launcher, supervise};
pub(crate) use run::run;
