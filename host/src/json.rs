//! The JSON that the command prints. Names and shapes are a contract; a change of one moves its schema's number.

use crate::{
    failure::Failure,
    measuring::WorkloadSpec,
    search::Place,
    shipment::Shipment,
    view::{Compared, Intervals, Measured, View},
};
use edgewise_protocol::{Form as WireForm, Measurement, ProviderShare};
use edgewise_search::{Agreement, Candidate, Energy, Estimate, Form, Record, SentinelPoint, TaskScore, Trial};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `host search` prints.
#[derive(Debug, Serialize)]
pub(crate) struct SearchDocument {
    schema: &'static str,
    study: String,
    seed: u64,
    sampler: String,
    model: Model,
    workload: WorkloadSpec,
    objectives: Vec<&'static str>,
    devices: Vec<Device>,
    baseline: Option<String>,
    /// Candidates of which only the quality was looked at, on the host.
    explored: usize,
    candidates: Vec<CandidateDocument>,
    front: BTreeMap<String, Vec<String>>,
    /// For each member of a front, the candidates that it cannot be told apart from on that device; none are left out.
    ties: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    hypervolume: BTreeMap<String, Hypervolume>,
    /// Where devices are compared: how they agree on the order of the candidates, and how well proxies predict them.
    portability: Vec<AgreementDocument>,
    drift: Vec<Drift>,
    /// By device: the search and the fixed recipes at equal latency, where recipes were measured.
    comparison: BTreeMap<String, Vec<Compared>>,
    /// Devices that did not deliver all they were asked for.
    missing: Vec<Missing>,
    timing: Timing,
}

/// The full network.
#[derive(Debug, Serialize)]
struct Model {
    name: String,
    sha256: String,
    parameters: u64,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    target: String,
    fingerprint: BTreeMap<String, String>,
    /// What a reader must know of all that this device measured.
    flags: Vec<String>,
    health: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Hypervolume {
    value: f64,
    reference: Vec<f64>,
}

/// A sentinel over the device's first.
#[derive(Debug, Serialize)]
struct Drift {
    device: String,
    block: u32,
    ttft_ratio: f64,
    tpot_ratio: f64,
    /// Further than noise goes.
    moved: bool,
}

/// Rank correlations of two devices, or of a proxy with a device.
#[derive(Debug, Serialize)]
pub(crate) struct AgreementDocument {
    a: String,
    b: String,
    kendall_tau: Option<f64>,
    spearman_rho: Option<f64>,
    n: usize,
}

/// A device that did not deliver all it was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Missing {
    pub(crate) device: String,
    pub(crate) reason: String,
    pub(crate) exit_code: u8,
}

impl Missing {
    /// Why a device is missing.
    pub(crate) fn new(device: &str, failure: &Failure) -> Self {
        let causes = failure.causes.iter().map(|cause| format!(": {cause}"));
        let reason = std::iter::once(failure.message.clone()).chain(causes).collect();
        Self { device: device.to_owned(), reason, exit_code: failure.code }
    }
}

/// Where the time of this run went, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Timing {
    /// From the start to the end.
    pub(crate) wall_s: f64,
    /// Scoring and sorting the super-network, and opening it.
    pub(crate) prepare_s: f64,
    /// Quality of candidates.
    pub(crate) evaluate_s: f64,
    /// Devices at work: loading, checking, warming, timing.
    pub(crate) measure_s: f64,
    /// Making artifacts, hashes included.
    pub(crate) export_s: f64,
    /// Connecting, and getting agent, library and artifacts to devices.
    pub(crate) transfer_s: f64,
    /// What is neither preparing, evaluating nor measuring.
    pub(crate) overhead_s: f64,
    /// That as a share of the wall time.
    pub(crate) overhead_share: f64,
}

/// A candidate with its results.
#[derive(Debug, Serialize)]
pub(crate) struct CandidateDocument {
    id: String,
    series: String,
    config: Candidate,
    parameters: Option<u64>,
    artifact_sha256: Option<String>,
    status: String,
    error: Option<String>,
    quality: Option<Quality>,
    measurements: Vec<MeasurementDocument>,
}

#[derive(Debug, Serialize)]
struct Quality {
    perplexity: f64,
    nll: f64,
    tokens: u64,
    /// Where it was asked for as an objective or a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<f64>,
    /// Where the study has tasks: one minus the mean of their scores, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    task_error: Option<f64>,
    /// ... and these by task.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tasks: BTreeMap<String, TaskScore>,
}

impl From<&edgewise_search::Quality> for Quality {
    fn from(of: &edgewise_search::Quality) -> Self {
        let edgewise_search::Quality { perplexity, nll, tokens, kl, ref tasks } = *of;
        Self { perplexity, nll, tokens, kl, task_error: of.task_error(), tasks: tasks.clone() }
    }
}

/// A device's result: all its trials of a candidate together.
#[derive(Debug, Serialize)]
pub(crate) struct MeasurementDocument {
    device: String,
    runtime: String,
    precision: String,
    ttft_ms: Estimate,
    tpot_ms: Estimate,
    latency_ms: Estimate,
    trials: usize,
    peak_rss_bytes: u64,
    /// The form that the artifact was in then: `files`, as it ships, or `memory`, which takes more.
    peak_rss_form: &'static str,
    energy_j_per_token: Option<f64>,
    energy: Option<Energy>,
    artifact_bytes: u64,
    bytes_sent: u64,
    /// What making the artifact from its recipe took in the latest trial that did; 0 where it came as files.
    build_ms: f64,
    /// What loading it took in the latest trial.
    load_ms: f64,
    converged: bool,
    flags: Vec<String>,
    runtime_version: serde_json::Value,
    threads: serde_json::Value,
    /// Of ONNX Runtime: who carried out how many nodes, and why somebody else did not.
    providers: serde_json::Value,
    probe_max_abs_diff: serde_json::Value,
    conditions: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_ms: Option<Samples>,
}

/// What an execution provider of ONNX Runtime did with a model.
#[derive(Debug, Serialize)]
pub(crate) struct ProviderDocument {
    name: String,
    nodes: u32,
    problem: Option<String>,
}

impl From<&ProviderShare> for ProviderDocument {
    fn from(share: &ProviderShare) -> Self {
        Self { name: share.name.clone(), nodes: share.nodes, problem: share.problem.clone() }
    }
}

/// Raw samples in milliseconds, of all trials in order.
#[derive(Debug, Serialize)]
struct Samples {
    ttft: Vec<f64>,
    tpot: Vec<f64>,
}

impl SearchDocument {
    pub(crate) fn new(view: &View, study: &str, missing: Vec<Missing>, timing: Timing) -> Result<Self, Failure> {
        let (mut front, mut ties, mut hypervolume) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for device in &view.devices {
            let found = view.front(&device.name, &[])?;
            let tied = found.ids.iter().cloned().zip(found.ties).filter(|(_, with)| !with.is_empty()).collect();
            ties.insert(device.name.clone(), tied);
            front.insert(device.name.clone(), found.ids);
            if let Some((value, reference)) = found.hypervolume {
                hypervolume.insert(device.name.clone(), Hypervolume { value, reference });
            }
        }
        let details = &view.settings.details;
        let device = |d: &edgewise_search::Device| Device {
            name: d.name.clone(),
            target: d.target.clone(),
            fingerprint: d.fingerprint.clone(),
            flags: view.session_flags(&d.name),
            health: d.health.clone(),
        };
        let drift = |name: &str, point: SentinelPoint| Drift {
            device: name.to_owned(),
            block: point.block,
            ttft_ratio: point.ttft_ratio,
            tpot_ratio: point.tpot_ratio,
            moved: point.moved,
        };
        Ok(Self {
            schema: "edgewise.search/1",
            study: study.to_owned(),
            seed: view.settings.seed,
            sampler: view.settings.sampler.clone(),
            model: Model {
                name: view.detail("model_name").to_owned(),
                sha256: view.detail("model_sha256").to_owned(),
                parameters: details.get("model_parameters").and_then(serde_json::Value::as_u64).unwrap_or_default(),
            },
            workload: view.workload,
            objectives: view.settings.objectives.iter().map(|o| o.name()).collect(),
            devices: view.devices.iter().map(device).collect(),
            baseline: view.baseline().map(|b| b.id.clone()),
            explored: view.explored().len(),
            candidates: CandidateDocument::all(view),
            front,
            ties,
            hypervolume,
            portability: view.portability().into_iter().map(AgreementDocument::from).collect(),
            drift: view
                .devices
                .iter()
                .flat_map(|d| view.sentinels(&d.name).into_iter().map(|point| drift(&d.name, point)))
                .collect(),
            comparison: view
                .devices
                .iter()
                .map(|d| (d.name.clone(), view.compared(&d.name)))
                .filter(|(_, rows)| !rows.is_empty())
                .collect(),
            missing,
            timing,
        })
    }
}

impl From<Agreement> for AgreementDocument {
    fn from(found: Agreement) -> Self {
        let Agreement { a, b, kendall, spearman, n } = found;
        Self { a, b, kendall_tau: kendall, spearman_rho: spearman, n }
    }
}

impl CandidateDocument {
    /// All candidates of a study.
    pub(crate) fn all(view: &View) -> Vec<Self> {
        let intervals = Self::intervals(view);
        view.shown().into_iter().map(|record| Self::new(view, record, &intervals)).collect()
    }

    /// What intervals are made with, by device.
    pub(crate) fn intervals(view: &View) -> Vec<(String, Intervals)> {
        view.devices.iter().map(|d| (d.name.clone(), Intervals::of(view, &d.name))).collect()
    }

    pub(crate) fn new(view: &View, record: &Record, intervals: &[(String, Intervals)]) -> Self {
        let failure = record.failures.first();
        let measurements: Vec<MeasurementDocument> = intervals
            .iter()
            .filter_map(|(device, intervals)| view.measured(record, device, intervals))
            .map(|m| MeasurementDocument::new(&m))
            .collect();
        let status = match failure {
            Some(failure) => failure.status.clone(),
            None if record.quality.is_some() && !measurements.is_empty() => "ok".to_owned(),
            None => "pending".to_owned(),
        };
        Self {
            id: record.id.clone(),
            series: record.series().to_owned(),
            config: record.candidate.clone(),
            parameters: record.artifact.as_ref().map(|a| a.parameters),
            artifact_sha256: record.artifact.as_ref().map(|a| a.sha256.clone()),
            status,
            error: failure.map(|f| f.message.clone()),
            quality: record.quality.as_ref().map(Quality::from),
            measurements,
        }
    }
}

impl MeasurementDocument {
    pub(crate) fn new(of: &Measured<'_>) -> Self {
        let last = of.last();
        let extra = |key: &str| last.extra.get(key).cloned().unwrap_or_default();
        Self {
            device: last.device.clone(),
            runtime: last.runtime.clone(),
            precision: last.precision.clone(),
            ttft_ms: of.ttft_ms,
            tpot_ms: of.tpot_ms,
            latency_ms: of.latency_ms,
            trials: of.trials.len(),
            peak_rss_bytes: of.peak_rss_bytes,
            peak_rss_form: of.peak_rss_form.name(),
            energy_j_per_token: of.energy.map(|e| e.joules_per_token),
            energy: of.energy.cloned(),
            artifact_bytes: last.artifact_bytes,
            bytes_sent: of.bytes_sent,
            build_ms: of.trials.iter().map(|t| nanoseconds(t, "build_ns")).rfind(|ns| *ns > 0.0).unwrap_or_default() / 1e6,
            load_ms: nanoseconds(last, "load_ns") / 1e6,
            converged: of.converged,
            flags: of.flags.clone(),
            runtime_version: extra("runtime_version"),
            threads: extra("threads"),
            providers: extra("providers"),
            probe_max_abs_diff: extra("probe_max_abs_diff"),
            conditions: extra("conditions"),
            context: None,
            samples_ms: None,
        }
    }

    /// With every sample, and with what was timed at other context lengths.
    #[must_use]
    pub(crate) fn with_samples(self, of: &Measured<'_>) -> Self {
        let ms = |ns: &dyn Fn(&Trial) -> Vec<u64>| of.trials.iter().flat_map(|t| ns(t)).map(|n| n as f64 / 1e6).collect();
        let context = of.last().extra.get("context").cloned().filter(|context| !context.is_null());
        let samples = Samples { ttft: ms(&|t| t.ttft_ns.clone()), tpot: ms(&|t| t.tpot_ns.clone()) };
        Self { context, samples_ms: Some(samples), ..self }
    }
}

fn nanoseconds(trial: &Trial, key: &str) -> f64 {
    trial.extra.get(key).and_then(serde_json::Value::as_f64).unwrap_or_default()
}

/// A trial as it is stored.
pub(crate) fn trial_of(
    found: Measurement,
    device: &str,
    place: &Place,
    form: WireForm,
    shipment: &Shipment,
    bytes_sent: u64,
) -> Trial {
    let estimate = |e: edgewise_protocol::Estimate| Estimate { median: e.median, ci95: [e.low, e.high], n: e.n };
    let points = |points: &[edgewise_protocol::Point], name: &str| -> Vec<serde_json::Value> {
        points.iter().map(|p| serde_json::json!({ name: p.tokens, "ms": estimate(p.estimate) })).collect()
    };
    let context = (!found.prefill_at.is_empty() || !found.decode_at.is_empty()).then(|| {
        serde_json::json!({
            "prefill": points(&found.prefill_at, "prompt_tokens"),
            "decode": points(&found.decode_at, "depth"),
            "tpot_ms_per_token_of_depth": slope(&found.decode_at),
        })
    });
    let extra = serde_json::json!({
        "runtime_version": found.runtime_version,
        "threads": found.threads,
        "providers": found.providers.iter().map(ProviderDocument::from).collect::<Vec<_>>(),
        "load_ns": found.load_ns,
        "build_ns": found.build_ns,
        "probe_max_abs_diff": found.probe_max_abs_diff.map(f64::from),
        "discarded": found.discarded,
        "conditions": found.conditions,
        "context": context,
    });
    Trial {
        device: device.to_owned(),
        block: place.block,
        seat: place.seat,
        role: place.role,
        form: match form {
            WireForm::Memory => Form::Memory,
            WireForm::Files => Form::Files,
        },
        runtime: found.runtime.name().to_owned(),
        precision: shipment.manifest.precision.name().to_owned(),
        ttft_ms: estimate(found.ttft),
        tpot_ms: estimate(found.tpot),
        peak_rss_bytes: found.peak_rss_bytes,
        artifact_bytes: shipment.bytes(),
        bytes_sent,
        converged: found.converged,
        flags: found.flags.iter().map(|f| f.name().to_owned()).collect(),
        at_ms: now_ms(),
        ttft_ns: found.ttft_ns,
        tpot_ns: found.tpot_ns,
        warmup_ns: found.warmup_ns,
        energy: found.energy.map(|e| Energy {
            sensor: format!("{}, without {}", e.meter, e.blind_spots),
            joules_per_token: e.joules_per_token,
            idle_watts: e.idle_watts,
            mean_watts: e.mean_watts,
        }),
        extra,
    }
}

/// What a token costs more for each token of depth, by least squares, in milliseconds; `None` for fewer than two depths.
fn slope(points: &[edgewise_protocol::Point]) -> Option<f64> {
    let n = points.len() as f64;
    let mean = |of: &dyn Fn(&edgewise_protocol::Point) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(&|p| f64::from(p.tokens)), mean(&|p| p.estimate.median));
    let spread: f64 = points.iter().map(|p| (f64::from(p.tokens) - x).powi(2)).sum();
    let product: f64 = points.iter().map(|p| (f64::from(p.tokens) - x) * (p.estimate.median - y)).sum();
    (spread > 0.0).then(|| product / spread)
}

/// Milliseconds since 1970, for the order of events; nothing is timed with it.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
