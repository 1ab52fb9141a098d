//! One trial, from the agent's side: a cool device, a fresh worker, and another attempt if the device was throttled.
//!
//! Contract: the caller holds the device's lease. While a worker times, nothing here runs but a thread that waits for it.

mod gate;
mod power;
mod run;

pub(crate) use run::{Device, Trial, run};
