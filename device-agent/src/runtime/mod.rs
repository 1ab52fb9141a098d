//! What can run an artifact.
//!
//! Contract: a [`CausalModel`] holds one sequence. Its key/value cache stays in the runtime's own values: what a step puts
//! out is moved into the next step's inputs, never copied. The rest of the agent knows no tensor.

mod memory;
mod model;
#[cfg(feature = "ort")]
mod onnxruntime;
#[cfg(feature = "ort")]
mod providers;
mod signature;
#[cfg(test)]
mod tests;
mod tract;

pub(crate) use model::{CausalModel, Library, Model, load, version};
