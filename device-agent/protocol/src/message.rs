//! The table of requests and what answers them.

use crate::{GenerateJob, Generation, Health, MeasureJob, Measurement, OrtLibrary, Runtime};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// SHA-256 of a blob's bytes: its name on every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for BlobId {
    type Err = String;

    /// 64 lower- or upper-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a SHA-256 in hexadecimal");
        // The number parser of the standard library takes a sign as well.
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Self(out))
    }
}

/// The agent's first message, right after [`crate::MAGIC`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentHello {
    /// Oldest protocol version that the agent speaks.
    pub oldest: u16,
    /// Newest protocol version that the agent speaks.
    pub newest: u16,
    /// The agent's own version, for people.
    pub version: String,
    /// The target triple it was built for.
    pub triple: String,
    /// Its process on the device.
    pub pid: u32,
}

/// The host's answer to [`AgentHello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostHello {
    /// The version both will speak.
    pub protocol: u16,
    /// The host's version, for the agent's log.
    pub version: String,
    /// Who measures, for whoever else wants the device: user, machine, command.
    pub owner: String,
    /// Name of the device's lease. Agents with the same name on one system measure one at a time, whoever started them.
    pub lease: String,
}

/// Everything a host sends in control frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HostMessage {
    /// Once, first.
    Hello(HostHello),
    /// Asks for something; gets one [`AgentMessage::Reply`] with the same number.
    Request {
        /// Chosen by the host, unique on the connection.
        id: u32,
        /// What is asked.
        request: Request,
    },
    /// Gives up a request; it is then answered with [`ErrorCode::Cancelled`] unless it just finished.
    Cancel {
        /// The request's number.
        id: u32,
    },
    /// The host is alive; the agent answers with [`AgentMessage::Heartbeat`] unless it is timing.
    Ping,
}

/// What a host can ask for. Each line names its [`Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Who the device is. [`Reply::Described`].
    Describe {
        /// Where to look for ONNX Runtime while at it.
        ort: OrtLibrary,
    },
    /// Which of these blobs the device holds, in the order asked. [`Reply::Have`].
    Have {
        /// Names of blobs.
        blobs: Vec<BlobId>,
    },
    /// Announces an upload. [`AgentMessage::Ack`] with the offset to start from, then chunk frames with the request's number,
    /// acknowledged now and then, and [`Reply::Stored`] once the hash was checked.
    Put {
        /// Name of the blob.
        blob: BlobId,
        /// Its size, in bytes.
        size: u64,
    },
    /// Takes a blob from a file on the device itself, where host and device share a file system: linked if possible, else
    /// copied, and its hash checked. [`Reply::Stored`].
    Take {
        /// Name of the blob.
        blob: BlobId,
        /// Its size, in bytes.
        size: u64,
        /// Absolute path.
        path: String,
    },
    /// One trial: runs and times an artifact in a fresh worker process, once the device's lease is free. Progress, then
    /// [`Reply::Measured`].
    Measure(Box<MeasureJob>),
    /// What about the device's state would spoil a measurement. Takes a few seconds. [`Reply::Examined`].
    Examine,
    /// Generates text once the device's lease is free. Progress, then [`AgentMessage::Tokens`], then [`Reply::Generated`].
    Generate(Box<GenerateJob>),
}

/// What answers a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Describe`].
    Described(Box<DeviceDescription>),
    /// To [`Request::Have`].
    Have(Vec<BlobState>),
    /// To [`Request::Put`] and [`Request::Take`].
    Stored,
    /// To [`Request::Measure`].
    Measured(Box<Measurement>),
    /// To [`Request::Examine`].
    Examined(Box<Health>),
    /// To [`Request::Generate`].
    Generated(Box<Generation>),
}

/// Everything an agent sends in control frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AgentMessage {
    /// Once, first.
    Hello(AgentHello),
    /// The end of a request.
    Reply {
        /// The request's number.
        id: u32,
        /// Its outcome.
        result: Result<Reply, WireError>,
    },
    /// Bytes of an upload that are safe; the first one says where to start.
    Ack {
        /// The upload's request number.
        id: u32,
        /// Bytes from the blob's start.
        received: u64,
    },
    /// How a measurement goes.
    Progress {
        /// The request's number.
        id: u32,
        /// Where it is.
        progress: Progress,
    },
    /// The agent is alive. None is sent while a worker times.
    Heartbeat,
    /// A line for the host's log.
    Log(String),
    /// Tokens of a text that is being generated, as they are made.
    Tokens {
        /// The request's number.
        id: u32,
        /// At least one, in order.
        tokens: Vec<u32>,
    },
}

/// What the device holds of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobState {
    /// Nothing.
    Missing,
    /// This many bytes of a broken-off upload.
    Partial(u64),
    /// All of it, checked.
    Complete,
}

/// Where a measurement is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The step.
    pub stage: Stage,
    /// What the step waits for, where that is somebody or something: a lease's holder, a temperature.
    pub note: Option<String>,
}

/// Steps of a measurement, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Another host has the device's lease.
    Lease,
    /// The device is too hot or throttled: it rests.
    Cool,
    /// Making the artifact from its recipe.
    Build,
    /// Reading the model and preparing it for the runtime.
    Load,
    /// Checking numerics against the host's reference.
    Probe,
    /// Running until times are steady.
    Warm,
    /// Timing the prompt.
    Prefill,
    /// Timing tokens.
    Decode,
    /// Timing other prompt lengths and depths.
    Context,
    /// Running for the power meter, untimed.
    Energy,
}

/// The device as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// Named facts: `model`, `cpu`, `cores`, `memory_bytes`, `kernel`, `governor`, `libc`, `triple`, `agent`, ...
    pub fingerprint: BTreeMap<String, String>,
    /// What can run a model here.
    pub runtimes: Vec<RuntimeStatus>,
    /// Free bytes where blobs are kept.
    pub free_bytes: u64,
    /// Bytes that blobs take now.
    pub stored_bytes: u64,
    /// Bytes that blobs may take.
    pub budget_bytes: u64,
    /// The meter that energy would be measured with.
    pub power_meter: Option<String>,
}

/// Whether a runtime works on this device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeStatus {
    /// Which.
    pub runtime: Runtime,
    /// Its version, where it works.
    pub version: Option<String>,
    /// Why it does not, where it does not.
    pub problem: Option<String>,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// The kind, for decisions.
    pub code: ErrorCode,
    /// A lowercase fragment, for people.
    pub message: String,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WireError {}

/// Kinds of failure that a host treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request makes no sense here (a chunk nobody announced, a second upload of one blob).
    BadRequest,
    /// The bytes that came are not the blob that was announced.
    HashMismatch,
    /// No space left on the device.
    NoSpace,
    /// A blob that the request needs is not on the device.
    MissingBlob,
    /// The runtime cannot be used on this device.
    RuntimeUnavailable,
    /// The runtime refuses the model.
    ModelRejected,
    /// The model's logits are not the host's.
    ProbeMismatch,
    /// The worker died of a signal.
    WorkerCrashed,
    /// The worker was killed for memory.
    OutOfMemory,
    /// The deadline passed; the worker was ended.
    TimedOut,
    /// The host gave up the request.
    Cancelled,
    /// Somebody else had the device's lease for too long.
    Busy,
    /// What a recipe makes here is not the artifact that the host made.
    OtherArtifact,
    /// The device's files could not be read or written.
    Io,
    /// A fault of the agent itself.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_one_name_but_for_the_case_of_its_letters() {
        let blob = BlobId(std::array::from_fn(|at| at as u8 * 7));
        let name = blob.to_string();
        assert_eq!((name.parse(), name.to_uppercase().parse()), (Ok(blob), Ok(blob)));
        for bad in ["", "00", &"+1".repeat(32), &"é".repeat(32), &"g".repeat(64), &"0".repeat(65)] {
            assert_eq!(bad.parse::<BlobId>(), Err(format!("`{bad}` is not a SHA-256 in hexadecimal")));
        }
    }
}
