//! What passes between agent and worker. Both are the same build, so these types need no version.

use crate::{measure::EnergyRun, runtime::Library};
use edgewise_protocol::{GenerateJob, Generation, MeasureJob, Measurement, Runtime, Stage, WireError};
use serde::{Deserialize, Serialize};

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Measure an artifact.
    Measure {
        /// What is measured.
        material: Material,
        /// Where ONNX Runtime is.
        library: Library,
        /// The host's request.
        job: Box<MeasureJob>,
        /// What stands for `/` where sensors are read.
        sensors: String,
        /// Memory available before the worker was started, in bytes.
        available_bytes: Option<u64>,
        /// An emulator runs the worker.
        emulated: bool,
    },
    /// Generate text.
    Generate {
        /// With what.
        material: Material,
        /// Where ONNX Runtime is.
        library: Library,
        /// The host's request.
        job: Box<GenerateJob>,
        /// What stands for `/` where sensors are read.
        sensors: String,
        /// An emulator runs the worker.
        emulated: bool,
    },
    /// Write the files of an artifact.
    Build {
        /// What it is made of.
        plan: Plan,
        /// A folder that is there and empty.
        folder: String,
    },
    /// Say which version of a runtime works here.
    Version {
        /// Which.
        runtime: Runtime,
        /// Where ONNX Runtime is.
        library: Library,
    },
}

/// What a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Material {
    /// An artifact in a folder.
    Folder {
        /// Where.
        path: String,
        /// Its size, in bytes.
        bytes: u64,
        /// Time it took to write it here, in nanoseconds; 0 if it came as files.
        build_ns: u64,
    },
    /// An artifact that the worker makes in its own memory.
    Plan(Plan),
}

/// How to make an artifact of a super-network whose blobs are all there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The recipe, as the host wrote it.
    pub(crate) recipe: Vec<u8>,
    /// The folder of blobs, named by their hashes: the super-network's index and chunks are among them.
    pub(crate) blobs: String,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// What it is at.
    Step(Step),
    /// The order is done; nothing follows.
    Done(Result<Outcome, WireError>),
}

/// What a worker says while it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A step begins.
    Stage(Stage),
    /// Tokens were generated.
    Tokens(Vec<u32>),
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Of [`Order::Measure`].
    Measured {
        /// The result, but for what only the agent knows.
        measurement: Box<Measurement>,
        /// What ran for the power meter.
        energy: Option<EnergyRun>,
    },
    /// Of [`Order::Generate`].
    Generated(Box<Generation>),
    /// Of [`Order::Build`].
    Built {
        /// Time it took, in nanoseconds.
        ns: u64,
        /// Bytes of the files.
        bytes: u64,
    },
    /// Of [`Order::Version`].
    Version(String),
}
