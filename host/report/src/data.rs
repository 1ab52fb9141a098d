//! What a report shows. Plain values: the caller converts its own types into these.

use serde::{Deserialize, Serialize};

/// Everything on the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// The study's name.
    pub study: String,
    /// What was compressed.
    pub model: Model,
    /// What was timed.
    pub workload: Workload,
    /// The horizontal axis of the front.
    pub axis: Axis,
    /// The vertical axis.
    pub quality: Quality,
    /// Id of the full network.
    pub baseline: String,
    /// All candidates, in the order they were proposed.
    pub candidates: Vec<Candidate>,
    /// The devices, each with its own front.
    pub devices: Vec<Device>,
    /// How much the parts of the full network matter, where it is known.
    pub importance: Option<Importance>,
    /// How well one order of the candidates predicts another: pairs of devices, and what is known without a device against each.
    pub portability: Vec<Agreement>,
    /// How the study was made: command, seed, sampler, versions, ...; shown as given, in order.
    pub method: Vec<Fact>,
    /// Where the time went, in seconds, in order.
    pub seconds: Vec<(String, f64)>,
}

/// A name with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The full network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// SHA-256 of its weights, in hexadecimal.
    pub sha256: String,
    /// Its number of parameters.
    pub parameters: u64,
    /// Its number of layers.
    pub layers: u32,
    /// Neurons of each of its layers.
    pub mlp: u32,
    /// Key/value groups of each of its layers.
    pub kv_groups: u32,
}

/// Scores of the full network's parts; larger matters more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// How neurons and key/value groups were scored.
    pub ranking: String,
    /// How layers were scored.
    pub layer_ranking: String,
    /// Every layer.
    pub layers: Vec<LayerImportance>,
}

/// Scores of a layer and of its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerImportance {
    /// The layer's own; below zero where the network does better without it.
    pub score: f64,
    /// Its key/value groups', in any order.
    pub kv_groups: Vec<f64>,
    /// Means over parts of its neurons of equal size, from the most important.
    pub neurons: Vec<f64>,
}

/// Numbers of tokens that were timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated after it.
    pub generated_tokens: u32,
}

/// What the front trades for quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Time to the first token, in milliseconds.
    TtftMs,
    /// Time per output token after it, in milliseconds.
    TpotMs,
    /// Time of the whole workload, in milliseconds.
    LatencyMs,
    /// Largest resident memory, in bytes.
    PeakRssBytes,
    /// Number of parameters.
    Parameters,
}

/// What the front keeps low besides what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Perplexity on the held-out text.
    Perplexity,
    /// Mean divergence of the next token from the full network, in nats.
    Kl,
    /// One minus the mean score on tasks.
    TaskError,
}

/// One sub-network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// The series it belongs to: `search`, or `baseline:` and a recipe.
    pub series: String,
    /// Kept layers, ascending.
    pub layers: Vec<u32>,
    /// Width of the residual stream.
    pub width: u32,
    /// Key/value groups of each kept layer.
    pub kv_groups: Vec<u32>,
    /// Neurons of each kept layer.
    pub mlp: Vec<u32>,
    /// Dimensions of each attention head, where that is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_size: Option<u32>,
    /// Number of parameters, where known.
    pub parameters: Option<u64>,
    /// Perplexity on the held-out text, where evaluated.
    pub perplexity: Option<f64>,
    /// Divergence from the full network, in nats, where evaluated.
    pub kl: Option<f64>,
    /// One minus the mean score on tasks, where they were asked.
    pub task_error: Option<f64>,
    /// Size of the exported artifact, in bytes, where exported.
    pub artifact_bytes: Option<u64>,
    /// Results by device.
    pub measurements: Vec<Measurement>,
    /// How it ended for each device that has no result, and for the candidate itself where `device` is `None`.
    pub failures: Vec<Status>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The device, or `None` if the candidate failed before any.
    pub device: Option<String>,
    /// A word: `timed_out`, `out_of_memory`, ...
    pub status: String,
    /// The reason, for people.
    pub message: String,
}

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower and upper end of the interval.
    pub ci95: [f64; 2],
    /// Number of samples.
    pub n: u32,
}

/// What a device measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The device's name.
    pub device: String,
    /// What ran the model.
    pub runtime: String,
    /// Its precision.
    pub precision: String,
    /// Time to the first token, in milliseconds.
    pub ttft_ms: Estimate,
    /// Time per output token after it, in milliseconds.
    pub tpot_ms: Estimate,
    /// Time of the whole workload, in milliseconds.
    pub latency_ms: Estimate,
    /// Fresh processes behind these values.
    pub trials: u32,
    /// Largest resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Energy of one output token above idle, in joules, where it was measured.
    pub joules_per_token: Option<f64>,
    /// Whether the intervals are as narrow as asked.
    pub converged: bool,
    /// What a reader must know.
    pub flags: Vec<String>,
}

/// One device of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its kind of board.
    pub target: String,
    /// Facts about it, in order.
    pub fingerprint: Vec<Fact>,
    /// Ids on its front.
    pub front: Vec<String>,
    /// For members of the front, the candidates that noise does not tell apart from them, on the front or off it.
    pub ties: Vec<(String, Vec<String>)>,
    /// What a reader must know of all that it measured: words such as `sentinel_moved`.
    pub flags: Vec<String>,
    /// The front's quality in one number.
    pub hypervolume: Option<Hypervolume>,
    /// The search and fixed recipes at equal latency, the search first; empty if no recipe was measured.
    pub comparison: Vec<Comparison>,
    /// The sentinels: the baseline, measured again at the start of every block. In order; the first is all others' reference.
    pub drift: Vec<DriftPoint>,
}

/// A series of candidates at several latencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `search`, or `baseline:` and a recipe.
    pub series: String,
    /// The same latencies for every series.
    pub cuts: Vec<Cut>,
}

/// The quality of a series at one latency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The share by which latency is lower than the full network's.
    pub less: f64,
    /// Perplexity there, where the series goes so far.
    pub perplexity: Option<f64>,
}

/// The volume that a front dominates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hypervolume {
    /// Its value.
    pub value: f64,
    /// The point that bounds it.
    pub reference: Vec<f64>,
}

/// One sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftPoint {
    /// Minutes after the first.
    pub minutes: f64,
    /// Time to the first token over the first's.
    pub ttft_ratio: f64,
    /// Time per output token over the first's.
    pub tpot_ratio: f64,
}

/// How two quantities agree on the order of the candidates that have both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// What would predict: a device, or a quantity such as `parameters`.
    pub a: String,
    /// The device that would be predicted.
    pub b: String,
    /// Kendall's tau-b, where there is one: it takes three candidates that are not all the same.
    pub kendall: Option<f64>,
    /// Spearman's rho, likewise.
    pub spearman: Option<f64>,
    /// Candidates that have both.
    pub n: usize,
}

impl Axis {
    /// The axis' title with its unit.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::TtftMs => "time to first token (ms)",
            Self::TpotMs => "time per output token (ms)",
            Self::LatencyMs => "latency of the workload (ms)",
            Self::PeakRssBytes => "peak memory (MiB)",
            Self::Parameters => "parameters (millions)",
        }
    }

    /// The value and its interval in the title's unit.
    pub(crate) fn of(self, candidate: &Candidate, measurement: &Measurement) -> Option<Estimate> {
        let exact = |value: f64| Estimate { median: value, ci95: [value; 2], n: 1 };
        match self {
            Self::TtftMs => Some(measurement.ttft_ms),
            Self::TpotMs => Some(measurement.tpot_ms),
            Self::LatencyMs => Some(measurement.latency_ms),
            Self::PeakRssBytes => Some(exact(measurement.peak_rss_bytes as f64 / f64::from(1 << 20))),
            Self::Parameters => candidate.parameters.map(|n| exact(n as f64 / 1e6)),
        }
    }
}

impl Quality {
    /// The axis' title with its unit.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::Kl => "divergence from the full network (nats)",
            Self::TaskError => "error on tasks",
        }
    }

    /// The value, where it was evaluated.
    pub(crate) const fn of(self, candidate: &Candidate) -> Option<f64> {
        match self {
            Self::Perplexity => candidate.perplexity,
            Self::Kl => candidate.kl,
            Self::TaskError => candidate.task_error,
        }
    }
}

impl Candidate {
    pub(crate) fn on(&self, device: &str) -> Option<&Measurement> {
        self.measurements.iter().find(|m| m.device == device)
    }

    pub(crate) fn is_recipe(&self) -> bool {
        self.series.starts_with("baseline:")
    }
}
