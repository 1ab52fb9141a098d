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

/// What carries out the nodes of a graph within ONNX Runtime: an execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Provider {
    /// The processor; always there.
    Cpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// NVIDIA's `TensorRT`.
    TensorRt,
    /// Android's neural networks API.
    Nnapi,
    /// XNNPACK, kernels for ARM processors.
    Xnnpack,
    /// Arm's compute library.
    Acl,
    /// Qualcomm's neural processors.
    Qnn,
    /// Apple's Core ML.
    CoreMl,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::Cuda, Self::TensorRt, Self::Nnapi, Self::Xnnpack, Self::Acl, Self::Qnn, Self::CoreMl];

    /// The name that ONNX Runtime itself uses, which is also the one in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::Nnapi => "NnapiExecutionProvider",
            Self::Xnnpack => "XnnpackExecutionProvider",
            Self::Acl => "ACLExecutionProvider",
            Self::Qnn => "QNNExecutionProvider",
            Self::CoreMl => "CoreMLExecutionProvider",
        }
    }
}

/// What an execution provider had to do with a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderShare {
    /// ONNX Runtime's name of it.
    pub name: String,
    /// Nodes of the graph that it carries out.
    pub nodes: u32,
    /// Why it was not used although it was asked for.
    pub problem: Option<String>,
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

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `model.onnx` and its external data, all present as blobs.
    Files(Vec<ArtifactFile>),
    /// A recipe (its bytes, as the `onnx` crate writes them) of an artifact that the device makes from a super-network whose
    /// index and chunks are present as blobs.
    Recipe {
        /// The recipe.
        bytes: Vec<u8>,
        /// What the runtime gets.
        form: Form,
    },
}

/// How a runtime gets an artifact that the device makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// In the worker's memory: nothing is written to the device's storage.
    Memory,
    /// As files, which the runtime may map: the form in which artifacts are shipped.
    Files,
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
    /// A trial that was throttled is discarded, and made again after a rest, at most this often.
    pub retries: u8,
    /// When a trial may begin.
    pub gate: Gate,
}

/// What a device must be like before a trial begins: not throttled, and cool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Hottest processor zone at most, in degrees Celsius ...
    pub max_celsius: f32,
    /// ... or at most this much over what it was when the agent first looked.
    pub max_rise_celsius: f32,
    /// The device rests at most this long, in milliseconds; then the trial begins and is flagged [`Flag::HotStart`].
    pub max_rest_ms: u32,
}

/// Other points at which the same loaded model is timed, for latency against context length.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// Prompt lengths for the prefill, in tokens.
    pub prompts: Vec<u32>,
    /// Depths, in tokens that are in the cache already, for the decode.
    pub depths: Vec<u32>,
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
    /// What is measured.
    pub source: Source,
    /// What runs it.
    pub runtime: Runtime,
    /// Where ONNX Runtime is, when it runs it.
    pub ort: OrtLibrary,
    /// Execution providers to ask ONNX Runtime for, the best first. What none of them takes the processor carries out.
    pub providers: Vec<Provider>,
    /// Threads of the runtime; 0 means all cores the agent may use.
    pub threads: u16,
    /// What is timed.
    pub workload: Workload,
    /// What is timed after it.
    pub context: Context,
    /// After all timing, run for the power meter this long, in milliseconds; 0 for not at all. A device without a meter
    /// measures no energy.
    pub energy_ms: u32,
    /// How.
    pub plan: MeasurePlan,
    /// Identity check; without one the result is flagged [`Flag::Unverified`].
    pub probe: Option<Probe>,
    /// Entries of the vocabulary; token ids are drawn below it.
    pub vocabulary: u32,
    /// Seed of the token ids.
    pub seed: u64,
    /// A worker is ended after this, in milliseconds. Neither the wait for the lease nor rests count.
    pub deadline_ms: u32,
    /// The wait for the device's lease at most, in milliseconds.
    pub lease_wait_ms: u32,
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
    /// The device was still too hot, or throttled, when the trial began.
    HotStart,
    /// The device was throttled while timing, in every attempt.
    Throttled,
    /// The supply voltage was too low.
    UnderVoltage,
    /// Other programs, or a hypervisor, took processor time while timing.
    Disturbed,
    /// Little memory was left.
    LowMemory,
    /// The device ran on its battery.
    OnBattery,
    /// An emulator ran the model.
    Emulated,
    /// The processor carried out nodes that another execution provider was asked for.
    ProviderFallback,
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
            Self::HotStart => "hot_start",
            Self::Throttled => "throttled",
            Self::UnderVoltage => "under_voltage",
            Self::Disturbed => "disturbed",
            Self::LowMemory => "low_memory",
            Self::OnBattery => "on_battery",
            Self::Emulated => "emulated",
            Self::ProviderFallback => "provider_fallback",
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
    /// Which execution providers carried out the graph, those first that were asked for. None under a runtime that has none.
    pub providers: Vec<ProviderShare>,
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
    /// Time to make the artifact from its recipe, in nanoseconds; 0 where it came as files.
    pub build_ns: u64,
    /// The prefill at the prompt lengths asked for, in their order.
    pub prefill_at: Vec<Point>,
    /// The time of a token at the depths asked for, in their order.
    pub decode_at: Vec<Point>,
    /// Attempts that were discarded because the device was throttled.
    pub discarded: u8,
    /// What the device was like.
    pub conditions: Conditions,
    /// Energy, where it was asked for and there is a meter.
    pub energy: Option<Energy>,
}

/// Latency at one length of the context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Tokens of the prompt, or in the cache.
    pub tokens: u32,
    /// The median.
    pub estimate: Estimate,
    /// Every sample, in nanoseconds, in order.
    pub samples_ns: Vec<u64>,
}

/// What a device was like right before and after the timed phases. What it does not tell is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// The rest before the trial, in milliseconds.
    pub rested_ms: u32,
    /// Hottest processor zone, before and after, in degrees Celsius.
    pub celsius: Option<[f32; 2]>,
    /// Clock of the fastest cluster, before and after, in kilohertz.
    pub clock_khz: Option<[u32; 2]>,
    /// Share of the time that the busiest cluster spent at the clock it used most.
    pub steady_clock_share: Option<f32>,
    /// The firmware's throttle bits, before and after.
    pub throttle_bits: Option<[u32; 2]>,
    /// Why the trial counts as throttled, if it does.
    pub throttled: Option<String>,
    /// How clocks are chosen.
    pub governor: Option<String>,
    /// Share of processor time that a hypervisor took.
    pub steal_share: Option<f32>,
    /// Share of processor time that other programs took.
    pub others_share: Option<f32>,
    /// Times that the worker was put off a processor against its will.
    pub involuntary_switches: u64,
    /// Pages that were read from disk.
    pub major_faults: u64,
    /// Memory available before the worker started, in bytes.
    pub available_bytes: Option<u64>,
}

/// Energy of generating tokens, from a run of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The meter.
    pub meter: String,
    /// What the meter does not see.
    pub blind_spots: String,
    /// Power right before, with nothing running, in watts.
    pub idle_watts: f64,
    /// Power while running, in watts.
    pub mean_watts: f64,
    /// How long, in seconds.
    pub seconds: f64,
    /// Tokens generated meanwhile.
    pub tokens: u64,
    /// What one token takes above idling, in joules.
    pub joules_per_token: f64,
}
