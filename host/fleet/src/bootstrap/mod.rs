//! Getting the agent onto a device and running.
//!
//! Contract: the agent's path names its content, so the usual start is one command that finds it in place. Only if that
//! fails is the device probed and a build uploaded, to a temporary name that is checked and then renamed: no run ever sees
//! half a binary, and two hosts may do it at once without a lock.

mod choose;
mod cleanup;
mod mismatch;
mod probe;
mod start;
mod upload;

pub use mismatch::{Mismatch, NoBuild};
pub use probe::{Android, DeviceFacts};
pub use start::DeployReport;
pub(crate) use start::{Plan, install, start};
