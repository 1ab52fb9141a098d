//! The trait that runtimes implement, and the choice among them.

use super::tract::TractModel;
use crate::error::{first_lines, wire};
use edgewise_onnx::Assembly;
use edgewise_protocol::{ErrorCode, Provider, ProviderShare, Runtime, WireError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An artifact as a runtime gets it.
#[derive(Debug)]
pub(crate) enum Model {
    /// `model.onnx`, with its data files beside it.
    File(PathBuf),
    /// In this process's memory, which the runtime lets go of as soon as it has what it needs.
    Memory(Box<Assembly>),
}

/// A loaded decoder-only language model with the cache of one sequence.
pub(crate) trait CausalModel {
    /// The version of what runs it.
    fn runtime_version(&self) -> &str;

    /// Which execution providers carry it out; none where the runtime has no such thing.
    fn providers(&self) -> &[ProviderShare] {
        &[]
    }

    /// Forgets the sequence; the next [`Self::feed`] begins a new one.
    fn reset(&mut self);

    /// Appends `tokens` (at least one) to the sequence and returns the logits that follow the last of them.
    ///
    /// # Errors
    /// [`ErrorCode::ModelRejected`] or [`ErrorCode::OutOfMemory`] with the runtime's message.
    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError>;
}

/// Where ONNX Runtime is, as a worker needs it: blobs are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Library {
    /// `ORT_DYLIB_PATH` of the environment, else what the system's loader finds.
    Default,
    /// This file.
    File(String),
}

/// The version of `runtime` on this device. Loads ONNX Runtime into this process, which a bad library may kill.
///
/// # Errors
/// [`ErrorCode::RuntimeUnavailable`].
pub(crate) fn version(runtime: Runtime, library: &Library) -> Result<String, WireError> {
    match runtime {
        Runtime::Tract => Ok(super::tract::VERSION.to_owned()),
        Runtime::Ort => ort_version(library),
    }
}

/// Loads `model` with a fixed number of threads, and for ONNX Runtime with the execution providers asked for.
///
/// # Errors
/// [`ErrorCode::RuntimeUnavailable`], [`ErrorCode::ModelRejected`], [`ErrorCode::OutOfMemory`].
pub(crate) fn load(
    runtime: Runtime,
    library: &Library,
    model: Model,
    threads: u16,
    providers: &[Provider],
) -> Result<Box<dyn CausalModel>, WireError> {
    match runtime {
        Runtime::Tract => Ok(Box::new(TractModel::load(model, threads)?)),
        Runtime::Ort => load_ort(library, model, threads, providers),
    }
}

#[cfg(feature = "ort")]
fn ort_version(library: &Library) -> Result<String, WireError> {
    super::onnxruntime::OrtLibrary::open(library).map(|library| library.version().to_owned())
}

#[cfg(feature = "ort")]
fn load_ort(library: &Library, model: Model, threads: u16, providers: &[Provider]) -> Result<Box<dyn CausalModel>, WireError> {
    let library = super::onnxruntime::OrtLibrary::open(library)?;
    Ok(Box::new(super::onnxruntime::OrtModel::load(&library, model, threads, providers)?))
}

#[cfg(not(feature = "ort"))]
fn ort_version(_: &Library) -> Result<String, WireError> {
    Err(wire(ErrorCode::RuntimeUnavailable, "this agent was built without ONNX Runtime; static builds cannot load it"))
}

#[cfg(not(feature = "ort"))]
fn load_ort(library: &Library, _: Model, _: u16, _: &[Provider]) -> Result<Box<dyn CausalModel>, WireError> {
    Err(ort_version(library).expect_err("it is never available in this build"))
}

/// A runtime's complaint about a model. Runtimes have no code for a failed allocation, only words.
pub(super) fn rejected(runtime: Runtime, doing: &str, message: &str) -> WireError {
    let memory = ["bad_alloc", "Failed to allocate memory", "memory allocation"].iter().any(|words| message.contains(words));
    let code = if memory { ErrorCode::OutOfMemory } else { ErrorCode::ModelRejected };
    wire(code, format!("{} cannot {doing}: {}", runtime.name(), first_lines(message, 6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_about_memory_have_their_code() {
        let error = rejected(Runtime::Ort, "run the model", "Failed to allocate memory for requested buffer of size 9");
        assert_eq!(error.code, ErrorCode::OutOfMemory);
        let error = rejected(Runtime::Tract, "read the model", "no such operator\nstack\n");
        assert_eq!(error.code, ErrorCode::ModelRejected);
        assert_eq!(error.message, "tract cannot read the model: no such operator | stack");
    }
}
