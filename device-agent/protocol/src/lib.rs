//! The wire between the host and the agent on a device.
//!
//! Contract: plain types, one table of requests ([`Request`] and the [`Reply`] each of them gets), framing with limits that
//! are checked before anything is allocated, and a version range. Nothing here knows a tensor, a runtime or a transport.
//!
//! The agent speaks first: [`MAGIC`], then [`AgentMessage::Hello`]. The host answers [`HostMessage::Hello`] with the version
//! it picked from the agent's range. After that the host sends requests; every request gets exactly one reply with its
//! number, and may get progress or acknowledgements before it.
//!
//! Postcard does not describe itself: any change of a type that travels is a break and moves [`PROTOCOL_VERSION`]; variants
//! of an enum may only be appended. `tests/golden.rs` holds the bytes of every message.

mod frame;
mod generate;
mod health;
mod measure;
mod message;

pub use frame::{
    CHUNK_HEADER, DecodeError, Decoder, Frame, MAGIC, MAX_CHUNK, MAX_CONTROL, MAX_NOISE, MagicScanner, Scan, encode_chunk,
    encode_control, from_control,
};
pub use generate::{Ended, GenerateJob, Generation, Sampling};
pub use health::{ClusterHealth, Health};
pub use measure::{
    ArtifactFile, Conditions, Context, Energy, Estimate, Flag, Form, Gate, MeasureJob, MeasurePlan, Measurement, OrtLibrary,
    Point, Probe, ProbePoint, Provider, ProviderShare, Runtime, Source, Workload,
};
pub use message::{
    AgentHello, AgentMessage, BlobId, BlobState, DeviceDescription, ErrorCode, HostHello, HostMessage, Progress, Reply, Request,
    RuntimeStatus, Stage, WireError,
};

/// The newest protocol version this build speaks.
pub const PROTOCOL_VERSION: u16 = 3;
/// The oldest protocol version this build still speaks.
pub const PROTOCOL_OLDEST: u16 = 3;

/// The highest version that both ranges contain, if there is one.
pub fn common_version(oldest: u16, newest: u16) -> Option<u16> {
    let low = oldest.max(PROTOCOL_OLDEST);
    let high = newest.min(PROTOCOL_VERSION);
    (low <= high).then_some(high)
}
