//! What passes between agent and worker. Both are the same build, so these types need no version.

use crate::runtime::Library;
use edgewise_protocol::{MeasureJob, Measurement, Runtime, Stage, WireError};
use serde::{Deserialize, Serialize};

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Measure an artifact.
    Measure {
        /// The artifact's folder.
        folder: String,
        /// Where ONNX Runtime is.
        library: Library,
        /// The host's request.
        job: Box<MeasureJob>,
    },
    /// Say which version of a runtime works here.
    Version {
        /// Which.
        runtime: Runtime,
        /// Where ONNX Runtime is.
        library: Library,
    },
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A step begins.
    Stage(Stage),
    /// The order is done; nothing follows.
    Done(Result<Outcome, WireError>),
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Of [`Order::Measure`].
    Measured(Box<Measurement>),
    /// Of [`Order::Version`].
    Version(String),
}
