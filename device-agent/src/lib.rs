//! The Edgewise agent: keeps artifacts on a device, runs them, times them.
//!
//! Contract: a host speaks `edgewise-protocol` with [`serve`] over standard input and output. The serving process is small
//! and runs no model: each measurement and each text has a worker process of its own, so that whatever a runtime does to it is
//! a result.
//! Nothing on the device outlives the connection but the store, and the store can be thrown away.
//!
//! For Linux and Android.

mod cancel;
mod cli;
mod clock;
mod conditions;
mod describe;
mod error;
mod examine;
mod generate;
mod lease;
mod limits;
mod logits;
mod material;
mod measure;
mod random;
mod runtime;
mod sched;
mod serve;
mod stats;
mod store;
mod sys;
mod trial;
mod worker;

pub use cli::{Cli, main};
pub use error::ServeError;
pub use serve::{ServeOptions, serve};
