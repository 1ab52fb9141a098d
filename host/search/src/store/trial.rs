//! One trial of a candidate on a device, and what stands where a trial does not.
//!
//! A *trial* is one fresh process that loads, checks, warms, times and ends. A result is several of them from different places
//! of a device's schedule, which is a series of *blocks* with numbered *seats*. Seat 0 of every block is the *sentinel*: the
//! baseline once more, by which blocks are compared.

use super::types::Estimate;
use serde::{Deserialize, Serialize};

/// The sentinel's seat in every block.
pub const SENTINEL_SEAT: u32 = 0;

/// Why a trial was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The first look at a candidate.
    Screen,
    /// To decide what an earlier trial left open.
    Race,
    /// In the form the candidate ships in, for what is reported of the front.
    Final,
}

impl Role {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Race => "race",
            Self::Final => "final",
        }
    }
}

/// How the model's weights got to the runtime. Memory use, and sometimes latency, depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// From the agent's memory, without a file of their own.
    Memory,
    /// From the files of the artifact, as it ships.
    Files,
}

impl Form {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => "files",
        }
    }
}

/// Energy of a loop of its own, apart from the timed one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Energy {
    /// What it was read from.
    pub sensor: String,
    /// Energy of one output token above idle, in joules.
    pub joules_per_token: f64,
    /// Power just before the loop, in watts.
    pub idle_watts: f64,
    /// Mean power during the loop, idle included, in watts.
    pub mean_watts: f64,
}

/// What one fresh process on a device measured of one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The device's name.
    pub device: String,
    /// Its block in the device's schedule.
    pub block: u32,
    /// Its seat in the block; [`SENTINEL_SEAT`] is the baseline's.
    pub seat: u32,
    /// Why it was made.
    pub role: Role,
    /// How the weights got to the runtime.
    pub form: Form,
    /// What ran the model.
    pub runtime: String,
    /// Its weights' precision.
    pub precision: String,
    /// Time to the first token, in milliseconds, within this process.
    pub ttft_ms: Estimate,
    /// Time per output token after it, in milliseconds, within this process.
    pub tpot_ms: Estimate,
    /// Largest resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Size of the artifact, in bytes.
    pub artifact_bytes: u64,
    /// Bytes sent to the device for it.
    pub bytes_sent: u64,
    /// Both intervals are as narrow as asked.
    pub converged: bool,
    /// What a reader must know.
    pub flags: Vec<String>,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// Every timed prefill, in nanoseconds, in order.
    pub ttft_ns: Vec<u64>,
    /// Every timed token, in nanoseconds, in order.
    pub tpot_ns: Vec<u64>,
    /// Prefills before timing, in nanoseconds, in order.
    pub warmup_ns: Vec<u64>,
    /// What it costs in energy, where there is a sensor and it was asked for.
    pub energy: Option<Energy>,
    /// Whatever else the caller wants to keep (threads, versions, load time, probe difference).
    pub extra: serde_json::Value,
}

impl Trial {
    /// Whether it is a sentinel.
    pub const fn is_sentinel(&self) -> bool {
        self.seat == SENTINEL_SEAT
    }

    /// Whether it settles that the device has measured its candidate: the screening trial, and for the baseline any sentinel.
    pub fn screens(&self) -> bool {
        self.is_sentinel() || self.role == Role::Screen
    }

    pub(super) fn is_finite(&self) -> bool {
        let energy = |e: &Energy| [e.joules_per_token, e.idle_watts, e.mean_watts].iter().all(|x| x.is_finite());
        self.ttft_ms.is_finite() && self.tpot_ms.is_finite() && self.energy.as_ref().is_none_or(energy)
    }
}

/// A seat of the schedule whose trial failed though its candidate has run before; a resumed schedule passes over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The device.
    pub device: String,
    /// The block.
    pub block: u32,
    /// The seat.
    pub seat: u32,
    /// A word for programs: `timed_out`, `out_of_memory`, ...
    pub status: String,
    /// A lowercase fragment for people.
    pub message: String,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
}

/// What is to be known of one run of a search on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// A hash of the facts about the device at that time.
    pub fingerprint: String,
    /// What a reader must know of every result of this run.
    pub flags: Vec<String>,
    /// The same for people.
    pub note: String,
}
