//! The fleet: which devices there are, how they are reached, how the agent gets there, and the client that measures.
//!
//! Contract: [`Registry`] names devices, [`Device`] owns the way to one of them and keeps it alive within bounds,
//! [`DeviceClient`] speaks the protocol over any [`Transport`]. A host key that is not known is never accepted here;
//! [`KnownHosts::store`] is only called after a person agreed. Nothing here knows a study, a candidate or a model.
//!
//! Bytes flow over queues: a transport's own threads move them, the client's thread only waits on queues, with a deadline.

mod adb;
mod address;
mod agents;
mod bootstrap;
mod builds;
mod client;
mod device;
mod elf;
mod error;
mod glob;
mod host_key;
mod known_hosts;
mod registry;
mod remote;
mod shell;
mod ssh;
mod transport;

pub use adb::{Adb, AdbProblem, AdbSession};
pub use address::{Address, Destination};
pub use bootstrap::{Android, DeployReport, DeviceFacts, Mismatch, NoBuild};
pub use builds::AgentBuild;
pub use client::{Blob, Caller, Content, DeviceClient, Written};
pub use device::{AdbRoute, Connect, Device, LocalRoute, SshRoute};
pub use elf::{Arch, Platform};
pub use error::{Category, Error, MismatchedKey};
pub use host_key::HostKey;
pub use known_hosts::{KnownHosts, KnownKey, Verdict};
pub use registry::{DeviceEntry, LOCAL, Place, RegisteredDevice, Registry, is_device_name};
pub(crate) use remote::Remote;
pub use ssh::{Endpoint, KeyAgent, OpenSsh, Proxy, SshSession, SshSettings, fetch_host_key};
pub use transport::{AdbTransport, End, Event, Exit, LocalTransport, SendError, SshTransport, Transport};
