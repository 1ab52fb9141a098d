//! What is measured, how, and what comes back.

use crate::BlobId;
use serde::{Deserialize, Serialize};

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Runtime {
    /// tract, built into the agent.
    Tract,
    /// ONNX Runtime, a shared library on the device.
    Ort,
}

impl Runtime {
    /// The name used on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::Ort => "ort",
        }
    }
}

/// Where the agent finds ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrtLibrary {
    /// `ORT_DYLIB_PATH` of the agent's environment, else the system's library.
    Default,
    /// A file on the device.
    Path(String),
    /// A blob that was sent to the device.
    Blob(BlobId),
}

/// One file of an artifact, as the runtime must see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// File name inside the artifact's folder; no separators.
    pub name: String,
    /// Its content.
    pub blob: BlobId,
    /// Its size, in bytes.
    pub size: u64,
}

/// Numbers of tokens that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Tokens of the prompt (prefill), at least 1.
    pub prompt_tokens: u32,
    /// Tokens generated after it, at least 2: the first belongs to the prefill.
    pub generated_tokens: u32,
}

/// How long and how exactly to measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasurePlan {
    /// Warm-up lasts at least this long, in milliseconds, and until times are steady.
    pub min_warmup_ms: u32,
    /// Warm-up ends after this, steady or not (then flagged), in milliseconds.
    pub max_warmup_ms: u32,
    /// Timed samples at least, for each of prefill and decode.
    pub min_samples: u32,
    /// Timing lasts at least this long, in milliseconds, for each of prefill and decode.
    pub min_time_ms: u32,
    /// Timing ends after this, converged or not, in milliseconds, for each of prefill and decode.
    pub max_time_ms: u32,
    /// Converged when half of the median's 95 % interval is at most this share of the median.
    pub target_half_width: f32,
}

/// Logits that the host expects at one position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbePoint {
    /// Tokens to feed in one step, after those of the points before.
    pub feed: Vec<u32>,
    /// Vocabulary entries and their logits in the last row of that step.
    pub expect: Vec<(u32, f32)>,
}

/// The identity check before timing: the model on the device must compute what the host computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Steps with a growing key/value cache; the first is a prefill.
    pub points: Vec<ProbePoint>,
    /// Largest accepted difference of a logit.
    pub tolerance: f32,
}

/// A measurement to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureJob {
    /// The artifact's files; `model.onnx` and its external data, all present as blobs.
    pub files: Vec<ArtifactFile>,
    /// What runs it.
    pub runtime: Runtime,
    /// Where ONNX Runtime is, when it runs it.
    pub ort: OrtLibrary,
    /// Threads of the runtime; 0 means all cores the agent may use.
    pub threads: u16,
    /// What is timed.
    pub workload: Workload,
    /// How.
    pub plan: MeasurePlan,
    /// Identity check; without one the result is flagged [`Flag::Unverified`].
    pub probe: Option<Probe>,
    /// Entries of the vocabulary; token ids are drawn below it.
    pub vocabulary: u32,
    /// Seed of the token ids.
    pub seed: u64,
    /// The worker is ended after this, in milliseconds.
    pub deadline_ms: u32,
}

/// A median with its 95 % interval by order statistics, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median of the samples.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Number of samples.
    pub n: u32,
}

/// What a reader of a result must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Flag {
    /// Times were still moving when warm-up ended.
    NoSteadyState,
    /// The interval was still wider than the target when time ended.
    NotConverged,
    /// The last third of the samples differs from the first by over 2 %.
    Drift,
    /// No identity check was asked for.
    Unverified,
    /// Pages were read from disk while timing.
    Paging,
}

impl Flag {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSteadyState => "no_steady_state",
            Self::NotConverged => "not_converged",
            Self::Drift => "drift",
            Self::Unverified => "unverified",
            Self::Paging => "paging",
        }
    }
}

/// What a worker found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What ran.
    pub runtime: Runtime,
    /// Its version.
    pub runtime_version: String,
    /// Its threads.
    pub threads: u16,
    /// Time to first token: the prefill of the prompt including the choice of the first token.
    pub ttft: Estimate,
    /// Time per output token after the first.
    pub tpot: Estimate,
    /// Every timed prefill, in nanoseconds, in order.
    pub ttft_ns: Vec<u64>,
    /// Every timed token, in nanoseconds, in order.
    pub tpot_ns: Vec<u64>,
    /// Prefills before timing, in nanoseconds, in order; the first is the cold one.
    pub warmup_ns: Vec<u64>,
    /// Time to read the model and prepare it, in nanoseconds.
    pub load_ns: u64,
    /// Largest resident memory of the worker, in bytes.
    pub peak_rss_bytes: u64,
    /// Both intervals are as narrow as the plan asks.
    pub converged: bool,
    /// What a reader must know.
    pub flags: Vec<Flag>,
    /// Largest difference from the probe's logits, where there was a probe.
    pub probe_max_abs_diff: Option<f32>,
}
