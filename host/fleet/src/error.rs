//! One error type for the whole crate: what failed, on which device or host, and what a person can do.

use crate::{AdbProblem, Address, End, KnownKey, NoBuild};
use edgewise_protocol::{DecodeError, ErrorCode};
use std::{io, path::PathBuf, time::Duration};

/// What a failure is about; the `host` command maps each to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The device cannot be reached, or refuses the user.
    Connect,
    /// The device's host key is not one that was trusted.
    HostKey,
    /// The agent cannot be put on the device, started, or kept alive.
    Agent,
    /// Host and agent do not understand each other.
    Protocol,
    /// A measurement failed or was given up.
    Measurement,
    /// What the user wrote: the registry, a name, a file.
    Usage,
}

/// A host key that is not the one that was trusted.
#[derive(Debug)]
pub struct MismatchedKey {
    /// Where.
    pub address: Address,
    /// The type of the key that the server showed.
    pub key_type: String,
    /// Its fingerprint.
    pub received: String,
    /// Keys of that type that the files hold for it.
    pub expected: Vec<KnownKey>,
}

fn expectations(keys: &[KnownKey]) -> String {
    let each = |key: &KnownKey| format!("{} ({}, {}:{})", key.fingerprint, key.key_type, key.file.display(), key.line);
    keys.iter().map(each).collect::<Vec<_>>().join(" or ")
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// Everything that can go wrong between the registry and a measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of `devices.toml` that makes no sense.
    #[error("{}:{line}: {problem}", path.display())]
    Registry {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file of the host cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No such device.
    #[error("unknown device `{name}` (known: {})", known.join(", "))]
    UnknownDevice {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A pattern that no device's name matches.
    #[error("no device matches `{pattern}` (known: {})", known.join(", "))]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A group that no device is in.
    #[error("no device is in group `{group}` (known: {})", if known.is_empty() { "none".into() } else { known.join(", ") })]
    UnknownGroup {
        /// The group.
        group: String,
        /// The groups that exist.
        known: Vec<String>,
    },
    /// A device name that cannot be used.
    #[error("`{name}` cannot name a device: {problem}")]
    DeviceName {
        /// The name.
        name: String,
        /// Why not.
        problem: &'static str,
    },
    /// An address that is not `[USER@]HOST`.
    #[error("`{text}` is not an address: {problem}")]
    Address {
        /// What was written.
        text: String,
        /// Why not.
        problem: &'static str,
    },
    /// ssh's own configuration does not lead to the host.
    #[error("ssh does not say how to reach `{host}`: {problem}")]
    SshConfig {
        /// The host as it was written.
        host: String,
        /// Why.
        problem: String,
    },

    /// The host name leads to no address.
    #[error("cannot resolve `{}`", address.host)]
    Resolve {
        /// Where to.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// No TCP connection to any of its addresses.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: Address,
        /// Why, for the last address tried.
        source: io::Error,
    },
    /// The server does not complete an SSH handshake.
    #[error("no ssh handshake with {address}")]
    Handshake {
        /// Where to.
        address: Address,
        /// Why.
        source: ssh2::Error,
    },
    /// The program that leads to the server ended, or the server behind it did not answer.
    #[error("no way to {address} through {through}{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Proxy {
        /// Where to.
        address: Address,
        /// What leads there.
        through: String,
        /// The last of its stderr.
        said: String,
        /// How that showed.
        source: io::Error,
    },
    /// adb does not lead to the device.
    #[error("cannot reach `{device}` over adb: {problem}")]
    Adb {
        /// The device.
        device: String,
        /// Why.
        problem: AdbProblem,
    },
    /// No way to prove who we are was accepted.
    #[error("{address} does not accept us: it offers {}, we tried {}", or_nothing(offered), or_nothing(&tried.join(", ")))]
    Auth {
        /// Where, and as whom.
        address: Address,
        /// The methods that it offers, with commas in between. Ours is `publickey`.
        offered: String,
        /// Each attempt and its outcome.
        tried: Vec<String>,
    },
    /// The device's key file cannot be used.
    #[error("identity {} cannot be used: {problem}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// An established connection broke.
    #[error("connection to `{device}` lost: {why}")]
    ConnectionLost {
        /// The device.
        device: String,
        /// What was seen.
        why: String,
    },

    /// The server's key is not in any known-hosts file.
    #[error("host key of {address} is not known ({key_type} {fingerprint})")]
    HostKeyUnknown {
        /// Where.
        address: Address,
        /// The key's type.
        key_type: String,
        /// Its SHA-256 fingerprint, as OpenSSH writes it.
        fingerprint: String,
    },
    /// The server's key differs from the trusted one.
    #[error("host key of {} has changed: expected {}, received {} ({})", .0.address, expectations(&.0.expected), .0.received, .0.key_type)]
    HostKeyChanged(Box<MismatchedKey>),
    /// The server's key is marked `@revoked`.
    #[error("host key of {address} is revoked in {}:{line} ({fingerprint})", file.display())]
    HostKeyRevoked {
        /// Where.
        address: Address,
        /// The file that says so.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The key's fingerprint.
        fingerprint: String,
    },

    /// None of the agent builds at hand runs on the device.
    #[error("no agent for `{}` ({}): {}", .0.device, .0.system, .0.reasons())]
    NoAgentBuild(Box<NoBuild>),
    /// A build that is not for the processors that its triple names.
    #[error("agent build {} is {is}, not one for {triple}", path.display())]
    WrongBuild {
        /// The build.
        path: PathBuf,
        /// What it is.
        is: String,
        /// What it was to be.
        triple: String,
    },
    /// A build of which the manifest beside it promises other bytes.
    #[error(
        "agent build {} is not what its manifest names: SHA-256 {} ({} bytes) expected, {} ({} bytes) found",
        path.display(), expected.0, expected.1, found.0, found.1
    )]
    BuildChanged {
        /// The build.
        path: PathBuf,
        /// SHA-256 in hexadecimal and bytes, as the manifest has them.
        expected: (String, u64),
        /// The same of what is there.
        found: (String, u64),
    },
    /// A manifest of agent builds that makes no sense.
    #[error("{} is no manifest of agents: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Every directory tried forbids running programs.
    #[error("no directory of `{device}` may run programs: {} mounted noexec", dirs.join(", "))]
    NoExec {
        /// The device.
        device: String,
        /// Directories that can be written but not executed from.
        dirs: Vec<String>,
    },
    /// Nothing can be written in any of the directories tried.
    #[error("no directory of `{device}` can be written (tried: {})", dirs.join(", "))]
    ReadOnly {
        /// The device.
        device: String,
        /// Directories tried.
        dirs: Vec<String>,
    },
    /// The agent does not fit.
    #[error("no space on `{device}`: {needed} bytes are needed in {dir}, {free} are free")]
    NoSpace {
        /// The device.
        device: String,
        /// The directory with most space.
        dir: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A command of the bootstrap failed on the device.
    #[error("cannot {action} on `{device}`: {what}")]
    Remote {
        /// The device.
        device: String,
        /// What was attempted.
        action: &'static str,
        /// What was seen.
        what: String,
    },
    /// What arrived on the device is not what was sent.
    #[error("the upload to `{device}` is damaged: {what}")]
    UploadDamaged {
        /// The device.
        device: String,
        /// What differs.
        what: String,
    },
    /// The program ended, or printed something else, before it said it was the agent.
    #[error("the agent of `{device}` did not start: {what}")]
    AgentStart {
        /// The device.
        device: String,
        /// How it ended and what it printed.
        what: String,
    },
    /// The agent ended while something was asked of it.
    #[error("the agent of `{device}` {end}")]
    AgentDied {
        /// The device.
        device: String,
        /// How it ended, with the last of its stderr.
        end: Box<End>,
    },
    /// The agent is there but says nothing.
    #[error("the agent of `{device}` has been silent for {} s", silence.as_secs())]
    AgentSilent {
        /// The device.
        device: String,
        /// For how long.
        silence: Duration,
    },

    /// Bytes that are not the protocol.
    #[error("the agent of `{device}` sent what the protocol does not allow")]
    Decode {
        /// The device.
        device: String,
        /// Which.
        source: DecodeError,
    },
    /// A well-formed message at the wrong moment.
    #[error("the agent of `{device}` broke the protocol: {what}")]
    Unexpected {
        /// The device.
        device: String,
        /// What it did.
        what: String,
    },
    /// No protocol version that both speak.
    #[error(
        "the agent of `{device}` ({version}) speaks protocol {oldest} to {newest}, this host {} to {}",
        edgewise_protocol::PROTOCOL_OLDEST,
        edgewise_protocol::PROTOCOL_VERSION
    )]
    Version {
        /// The device.
        device: String,
        /// The agent's version.
        version: String,
        /// Oldest protocol it speaks.
        oldest: u16,
        /// Newest protocol it speaks.
        newest: u16,
    },

    /// The agent answered with an error.
    #[error("`{device}`: {message}")]
    Device {
        /// The device.
        device: String,
        /// The kind.
        code: ErrorCode,
        /// The agent's words.
        message: String,
    },
    /// A measurement did not end within its deadline and the agent did not end it either.
    #[error("the measurement on `{device}` did not end within {} s", limit.as_secs())]
    Deadline {
        /// The device.
        device: String,
        /// The deadline.
        limit: Duration,
    },
    /// The caller gave up.
    #[error("cancelled on `{device}`")]
    Cancelled {
        /// The device.
        device: String,
    },
}

impl Error {
    /// What the failure is about.
    pub fn category(&self) -> Category {
        match self {
            Self::Registry { .. }
            | Self::File { .. }
            | Self::UnknownDevice { .. }
            | Self::NoMatch { .. }
            | Self::UnknownGroup { .. }
            | Self::DeviceName { .. }
            | Self::Address { .. }
            | Self::SshConfig { .. } => Category::Usage,
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Proxy { .. }
            | Self::Adb { .. }
            | Self::Auth { .. }
            | Self::Identity { .. }
            | Self::ConnectionLost { .. } => Category::Connect,
            Self::HostKeyUnknown { .. } | Self::HostKeyChanged(_) | Self::HostKeyRevoked { .. } => Category::HostKey,
            Self::NoAgentBuild(_)
            | Self::WrongBuild { .. }
            | Self::BuildChanged { .. }
            | Self::Manifest { .. }
            | Self::NoExec { .. }
            | Self::ReadOnly { .. }
            | Self::NoSpace { .. }
            | Self::Remote { .. }
            | Self::UploadDamaged { .. }
            | Self::AgentStart { .. }
            | Self::AgentDied { .. }
            | Self::AgentSilent { .. } => Category::Agent,
            Self::Decode { .. } | Self::Unexpected { .. } | Self::Version { .. } => Category::Protocol,
            Self::Deadline { .. } | Self::Cancelled { .. } => Category::Measurement,
            Self::Device { code, .. } => match code {
                ErrorCode::BadRequest | ErrorCode::HashMismatch | ErrorCode::MissingBlob => Category::Protocol,
                ErrorCode::NoSpace
                | ErrorCode::RuntimeUnavailable
                | ErrorCode::Busy
                | ErrorCode::OtherArtifact
                | ErrorCode::Io
                | ErrorCode::Internal => Category::Agent,
                ErrorCode::ModelRejected
                | ErrorCode::ProbeMismatch
                | ErrorCode::WorkerCrashed
                | ErrorCode::OutOfMemory
                | ErrorCode::TimedOut
                | ErrorCode::Cancelled => Category::Measurement,
            },
        }
    }

    /// Whether the connection is of no use any more, so that only a new one can help.
    pub fn breaks_connection(&self) -> bool {
        matches!(
            self,
            Self::ConnectionLost { .. }
                | Self::AgentDied { .. }
                | Self::AgentSilent { .. }
                | Self::AgentStart { .. }
                | Self::Decode { .. }
                | Self::Unexpected { .. }
                | Self::Version { .. }
                | Self::Deadline { .. }
        )
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownDevice { name, .. } if name.contains('@') => {
                format!("that is an address; give it a name: host device add NAME --target TARGET --address {name}")
            }
            Self::UnknownDevice { name, .. } => {
                format!("register it: host device add {name} --target TARGET --address USER@HOST")
            }
            Self::NoMatch { .. } | Self::UnknownGroup { .. } => "host device list shows what is registered".into(),
            Self::Resolve { .. } | Self::Connect { .. } => {
                "is the board on and on this network, and does its sshd listen on that port?".into()
            }
            Self::Proxy { .. } => {
                "try it by hand: ssh -v USER@HOST must get through without a question, so the jump's host key and yours must be \
                 known"
                    .into()
            }
            Self::Adb { problem, .. } => problem.hint(),
            Self::SshConfig { .. } => "`ssh_config = false` in devices.toml does without ssh's configuration".into(),
            Self::Auth { offered, .. } if !offered.split(',').any(|method| method == "publickey") => {
                "only keys are used here: allow PubkeyAuthentication in the server's sshd_config".into()
            }
            Self::Auth { tried, .. } if tried.iter().any(|attempt| attempt.contains("hung up")) => {
                "the server allows only a few keys: name the right one with `identity`, or set IdentitiesOnly in ~/.ssh/config"
                    .into()
            }
            Self::Auth { tried, .. } if tried.iter().any(|attempt| attempt.ends_with("has a passphrase")) => {
                "keys with a passphrase work through ssh-agent: ssh-add FILE".into()
            }
            Self::Auth { address, .. } => format!(
                "add a key of yours to ~/.ssh/authorized_keys of `{}` (ssh-copy-id), or name one with --identity",
                address.user
            ),
            Self::Identity { .. } => "keys with a passphrase work through ssh-agent: ssh-add FILE".into(),
            Self::HostKeyUnknown { .. } => "compare the fingerprint and store it: host device trust NAME".into(),
            Self::HostKeyChanged(key) => match key.expected.first() {
                Some(known) => format!(
                    "if the board was re-imaged, remove line {} of {} and run `host device trust NAME`; otherwise someone may \
                     be in between",
                    known.line,
                    known.file.display()
                ),
                None => "if the board was re-imaged, run `host device trust NAME`".into(),
            },
            Self::NoAgentBuild(no) => no.hint(),
            Self::WrongBuild { triple, .. } => {
                format!("put a build for {triple} there: scripts/build-agents {triple}; or mend `agent` in devices.toml")
            }
            Self::BuildChanged { .. } => {
                "make it anew: scripts/build-agents; a build of your own goes in another folder, named with `agent` in \
                 devices.toml"
                    .into()
            }
            Self::Manifest { .. } => "make it anew: scripts/build-agents; without it the builds are used unchecked".into(),
            Self::NoExec { .. } | Self::ReadOnly { .. } => {
                "name a directory that may hold programs with `store` in devices.toml".into()
            }
            Self::NoSpace { .. } | Self::Device { code: ErrorCode::NoSpace, .. } => {
                "free space there, or name another directory with `store` in devices.toml".into()
            }
            Self::Version { .. } => "put this host's agent on it: host deploy --device NAME".into(),
            Self::Device { code: ErrorCode::OutOfMemory, .. } => {
                "the board's memory does not hold this candidate: limit peak_rss_bytes or use a lower precision".into()
            }
            Self::Device { code: ErrorCode::Busy, .. } => {
                "wait for the other one, or give the device a `lease` name of its own in devices.toml if it is no other's".into()
            }
            Self::Device { code: ErrorCode::OtherArtifact, .. } => {
                "put this host's agent on it (host deploy --device NAME), or push artifacts whole: --ship artifact".into()
            }
            Self::Device { code: ErrorCode::RuntimeUnavailable, .. } => {
                "use --runtime tract, or push ONNX Runtime with host deploy --ort-library".into()
            }
            _ => return None,
        })
    }
}
